"""STCN on MobileNetV2 for real video: stills, then videos, then long clips, each stage from the weights of the one before. With STCN's own reader.

Begins with ImageNet weights, which stay as they are in the first stage and learn a tenth as fast as the rest later. Clips of eight frames come last,
so that the network meets its own mistakes; other readers take the place of its own there (tmrn_stcn_mobile). Sizes, steps and learning rates are
ours; which data the shipped weights saw, hours and scores: docs/weights.md.
Command: tmrn-edu train stcn_mobile --data DAVIS pasted:300 look-alikes:300 --init imagenet:FOLDER
"""

from tmrn_edu.memory import SpaceTimeReader
from tmrn_edu.networks import STCN
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import STILLS, VIDEO, Course, Recipe, TrainSettings

STATIC = TrainSettings(
    steps=1200, batch=6, lr=1e-3, trunk_lr=0.0, short_share=0.0, size=192, frames=3, max_gap=1,
    hard_pixels=0.25, hard_until=0.5, dice=0.5, readout_mask=0.5, save_every=50, sample_every=250,
)  # fmt: skip
VIDEO_SETTINGS = TrainSettings(
    steps=1500, batch=4, lr=6e-4, trunk_lr=0.1, short_share=0.0, size=192, frames=3, objects=2,
    gaps=((0.0, 3), (0.1, 6), (0.3, 12)),
    hard_pixels=0.25, hard_until=0.5, dice=0.5, readout_mask=0.5, save_every=50, sample_every=250,
)  # fmt: skip
LONG = TrainSettings(
    steps=300, batch=2, lr=3e-4, trunk_lr=0.1, short_share=0.0, size=192, frames=8, objects=2, gaps=((0.0, 4),),
    hard_pixels=0.25, hard_from=0.0, hard_until=0.0, dice=0.5, readout_mask=0.5, save_every=25, sample_every=100,
)  # fmt: skip


def build(make_reader):
    """seed -> the mobile network with a reader; all its other weights are the same for every reader."""
    return lambda seed: matched(STCN.mobile, make_reader, seed)


def long_stage(name: str, make_reader) -> Recipe:
    """The last stage, with a reader of its own, from the weights of the two stages before it."""
    return Recipe(
        f"{name}-long", build(make_reader), LONG, stage=VIDEO, init="stcn-mobile-video", interpolation="bilinear"
    )


STILLS_STAGE = Recipe(
    "stcn-mobile-static", build(SpaceTimeReader), STATIC, stage=STILLS, init="imagenet", interpolation="bilinear"
)
VIDEO_STAGE = Recipe(
    "stcn-mobile-video", build(SpaceTimeReader), VIDEO_SETTINGS, stage=VIDEO, init=STILLS_STAGE.name, grows=True,
    interpolation="bilinear",
)  # fmt: skip
RECIPE = Course("stcn-mobile", (STILLS_STAGE, VIDEO_STAGE, long_stage("stcn-mobile", SpaceTimeReader)))
