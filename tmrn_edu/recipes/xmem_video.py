"""XMem, stage two: videos, eight frames of which each reads at most three, three objects. As published; and with TMRN's reader.

The last 10,000 of the 110,000 steps do without affine motion from frame to frame. With TMRN the network has the supplement's layout.
Source: XMem:train.py, stage 3, and TMRN's supplement.
Command: tmrn-edu train xmem_video --data DAVIS YOUTUBE_VOS --device cuda --devices 2
Time: docs/training.md. Starts from the weights of xmem_static.
"""

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import XMem
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import VIDEO, Recipe, TrainSettings

STEPS = 110_000
SETTINGS = TrainSettings(
    steps=STEPS, batch=8, frames=8, short_share=0.0, objects=3, references=3, size=384,
    gaps=((0.0, 5), (10_000 / STEPS, 10), (30_000 / STEPS, 15), (90_000 / STEPS, 5)), fine_tune=10_000 / STEPS,
    optimiser="adamw", lr=1e-5, schedule="steps", warm_up=0.0, lr_drops=(80_000 / STEPS,), weight_decay=0.05, clip_gradient=0.0, precision="16",
    hard_pixels=0.15, hard_from=20_000 / STEPS, hard_until=70_000 / STEPS, dice=1.0, readout_mask=0.0, sum_frames=True,
    workers=8, save_every=1000, log_every=100, sample_every=1000,
)  # fmt: skip
RECIPE = Recipe(
    "xmem-video",
    lambda seed: matched(XMem, SpaceTimeReader, seed),
    SETTINGS,
    stage=VIDEO,
    init="xmem-static",
    interpolation="bilinear",
    rule="spread",
)
TMRN = Recipe(
    "tmrn-xmem-video",
    lambda seed: matched(
        lambda reader: XMem(reader, layout="supplement"), lambda: TrajectoryReader.paper(64, 512), seed
    ),
    SETTINGS,
    stage=VIDEO,
    init="tmrn-xmem-static",
    interpolation="bilinear",
    rule="spread",
)
