"""stcn-tiny: the small STCN with its own space-time read. The baseline of the TMRN recipes beside it.

Command: tmrn-edu train stcn_tiny --out runs/stcn-tiny
Time, scores: tmrn_edu/weights/stcn-tiny.json
"""

from tmrn_edu.memory import SpaceTimeReader
from tmrn_edu.networks import STCN
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe("stcn-tiny", lambda seed: matched(STCN.tiny, SpaceTimeReader, seed), TrainSettings())
