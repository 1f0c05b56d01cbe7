"""STCN, stage one: still images, each warped into a clip of three frames. As published (STCN:train.py, stage 0), and with TMRN's reader.

Command: tmrn-edu train stcn_static --data STILLS --device cuda --devices 2
Time: docs/training.md. Then: stcn_video.
"""

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STCN
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import STILLS, Recipe, TrainSettings

SETTINGS = TrainSettings(
    steps=300_000, batch=16, frames=3, short_share=0.0, max_gap=1, objects=1, size=384,
    optimiser="adam", lr=1e-5, schedule="steps", warm_up=0.0, lr_drops=(0.5,), weight_decay=1e-7, clip_gradient=0.0, precision="16",
    hard_pixels=0.15, hard_from=20_000 / 300_000, hard_until=70_000 / 300_000, dice=0.0, readout_mask=0.0, sum_frames=True,
    workers=8, save_every=1000, log_every=100, sample_every=1000,
)  # fmt: skip
RECIPE = Recipe(
    "stcn-static",
    lambda seed: matched(STCN, SpaceTimeReader, seed),
    SETTINGS,
    stage=STILLS,
    init="imagenet",
)
TMRN = Recipe(
    "tmrn-stcn-static",
    lambda seed: matched(STCN, lambda: TrajectoryReader.paper(64, 512), seed),
    SETTINGS,
    stage=STILLS,
    init="imagenet",
)
