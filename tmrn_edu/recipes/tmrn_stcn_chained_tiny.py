"""tmrn-stcn-chained-tiny: the small STCN with TMRN's reader, preset *warm*, with chained alignment and age [ours].

Command: tmrn-edu train tmrn_stcn_chained_tiny --out runs/tmrn-stcn-chained-tiny
Time, scores: tmrn_edu/weights/tmrn-stcn-chained-tiny.json
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import STCN
from tmrn_edu.recipes.matched import KEY_CHANNELS, VALUE_CHANNELS, matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe(
    "tmrn-stcn-chained-tiny",
    lambda seed: matched(STCN.tiny, lambda: TrajectoryReader.chained(KEY_CHANNELS, VALUE_CHANNELS), seed),
    TrainSettings(),
)
