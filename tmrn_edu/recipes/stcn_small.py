"""STCN in small, both stages one after the other: stills, hand-over, videos, scores. Minutes on two CPU cores; and with TMRN's reader.

The stages of stcn_static and stcn_video at the size of the tiny networks, on synthetic videos and stills of them unless --data is given.
Ours: size, steps, learning rate, stills read bilinearly (faster), the auxiliary loss on the read-out mask, without which so few steps teach little.
Command: tmrn-edu train stcn_small
"""

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STCN
from tmrn_edu.recipes.matched import KEY_CHANNELS, VALUE_CHANNELS, matched
from tmrn_edu.training.settings import STILLS, VIDEO, Course, Recipe, TrainSettings

STATIC = TrainSettings(
    steps=60, batch=6, short_share=0.0, size=96, frames=3, max_gap=1,
    hard_pixels=0.25, hard_until=0.5, dice=0.0, readout_mask=1.0, sum_frames=True, workers=1, save_every=50, sample_every=50,
)  # fmt: skip
VIDEO_SETTINGS = TrainSettings(
    steps=80, batch=6, short_share=0.0, size=96, frames=3, objects=2, gaps=((0.0, 1), (0.1, 2), (0.3, 3), (0.9, 1)),
    hard_pixels=0.25, hard_until=0.5, dice=0.0, readout_mask=1.0, sum_frames=True, workers=1, save_every=50, sample_every=50,
)  # fmt: skip


def course(name: str, make_reader) -> Course:
    """Both stages, with a reader."""
    build = lambda seed: matched(STCN.tiny, make_reader, seed)
    static = Recipe(f"{name}-static-small", build, STATIC, stage=STILLS, interpolation="bilinear", synthetic=64)
    video = Recipe(
        f"{name}-video-small", build, VIDEO_SETTINGS, stage=VIDEO, init=static.name, synthetic=64, grows=True
    )
    return Course(f"{name}-small", (static, video))


RECIPE = course("stcn", SpaceTimeReader)
TMRN = course("tmrn-stcn", lambda: TrajectoryReader.paper(KEY_CHANNELS, VALUE_CHANNELS))
