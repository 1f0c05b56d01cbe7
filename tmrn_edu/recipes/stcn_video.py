"""STCN, stage two: videos, three frames with gaps up to 5, then 25, then 5, two objects. As published; and with TMRN's reader.

Source: STCN:train.py, stage 3, and TMRN's supplement.
Command: tmrn-edu train stcn_video --data DAVIS YOUTUBE_VOS --device cuda --devices 2
Time: docs/training.md. Starts from the weights of stcn_static, whose stem gets its fifth channel (the other object's mask).
"""

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STCN
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import VIDEO, Recipe, TrainSettings

SETTINGS = TrainSettings(
    steps=150_000, batch=8, frames=3, short_share=0.0, objects=2, size=384,
    gaps=((0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (0.9, 5)),
    optimiser="adam", lr=1e-5, schedule="steps", warm_up=0.0, lr_drops=(125_000 / 150_000,), weight_decay=1e-7, clip_gradient=0.0, precision="16",
    hard_pixels=0.15, hard_from=20_000 / 150_000, hard_until=70_000 / 150_000, dice=0.0, readout_mask=0.0, sum_frames=True,
    workers=8, save_every=1000, log_every=100, sample_every=1000,
)  # fmt: skip
RECIPE = Recipe(
    "stcn-video",
    lambda seed: matched(STCN, SpaceTimeReader, seed),
    SETTINGS,
    stage=VIDEO,
    init="stcn-static",
    grows=True,
)
TMRN = Recipe(
    "tmrn-stcn-video",
    lambda seed: matched(STCN, lambda: TrajectoryReader.paper(64, 512), seed),
    SETTINGS,
    stage=VIDEO,
    init="tmrn-stcn-static",
    grows=True,
)
