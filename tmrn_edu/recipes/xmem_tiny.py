"""xmem-tiny: the small XMem with its own space-time read. The baseline of the TMRN recipe beside it.

Command: tmrn-edu train xmem_tiny --out runs/xmem-tiny
Time, scores: tmrn_edu/weights/xmem-tiny.json
"""

from tmrn_edu.memory import SpaceTimeReader
from tmrn_edu.networks import XMem
from tmrn_edu.recipes.tiny import tiny
from tmrn_edu.train import Recipe, TrainSettings

RECIPE = Recipe("xmem-tiny", lambda seed: tiny(XMem.tiny, SpaceTimeReader, seed), TrainSettings())
