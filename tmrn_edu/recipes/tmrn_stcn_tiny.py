"""tmrn-stcn-tiny: the small STCN with TMRN's reader, preset *paper*: agents, and attention alone along the trajectory.

Command: tmrn-edu train tmrn_stcn_tiny --out runs/tmrn-stcn-tiny
Time, scores: tmrn_edu/weights/tmrn-stcn-tiny.json
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import STCN
from tmrn_edu.recipes.matched import KEY_CHANNELS, VALUE_CHANNELS, matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe(
    "tmrn-stcn-tiny",
    lambda seed: matched(STCN.tiny, lambda: TrajectoryReader.paper(KEY_CHANNELS, VALUE_CHANNELS), seed),
    TrainSettings(),
)
