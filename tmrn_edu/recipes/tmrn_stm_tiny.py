"""tmrn-stm-tiny: the small STM with TMRN's reader, preset *paper*: agents, and attention alone along the trajectory.

Command: tmrn-edu train tmrn_stm_tiny --out runs/tmrn-stm-tiny
Time, scores: tmrn_edu/weights/tmrn-stm-tiny.json
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import STM
from tmrn_edu.recipes.matched import KEY_CHANNELS, VALUE_CHANNELS, matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe(
    "tmrn-stm-tiny",
    lambda seed: matched(STM.tiny, lambda: TrajectoryReader.paper(KEY_CHANNELS, VALUE_CHANNELS), seed),
    TrainSettings(),
)
