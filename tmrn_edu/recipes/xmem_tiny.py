"""xmem-tiny: the small XMem with its own space-time read. The baseline of the TMRN recipe beside it.

Command: tmrn-edu train xmem_tiny --out runs/xmem-tiny
Time, scores: tmrn_edu/weights/xmem-tiny.json
"""

from tmrn_edu.memory import SpaceTimeReader
from tmrn_edu.networks import XMem
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe("xmem-tiny", lambda seed: matched(XMem.tiny, SpaceTimeReader, seed), TrainSettings())
