"""stm-tiny: the small STM with its own space-time read. The baseline of the TMRN recipe beside it.

Command: tmrn-edu train stm_tiny --out runs/stm-tiny
Time, scores: tmrn_edu/weights/stm-tiny.json
"""

from tmrn_edu.memory import SpaceTimeReader
from tmrn_edu.networks import STM
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe("stm-tiny", lambda seed: matched(STM.tiny, SpaceTimeReader, seed), TrainSettings())
