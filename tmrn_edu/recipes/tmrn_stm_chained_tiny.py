"""tmrn-stm-chained-tiny: the small STM with TMRN's reader, preset *warm*, with chained alignment and age [ours].

Command: tmrn-edu train tmrn_stm_chained_tiny --out runs/tmrn-stm-chained-tiny
Time, scores: tmrn_edu/weights/tmrn-stm-chained-tiny.json
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import STM
from tmrn_edu.recipes.tiny import KEY_CHANNELS, VALUE_CHANNELS, tiny
from tmrn_edu.train import Recipe, TrainSettings

RECIPE = Recipe(
    "tmrn-stm-chained-tiny",
    lambda seed: tiny(STM.tiny, lambda: TrajectoryReader.chained(KEY_CHANNELS, VALUE_CHANNELS), seed),
    TrainSettings(),
)
