"""tmrn-xmem-tiny: the small XMem with TMRN's reader, preset *paper*: agents, and attention alone along the trajectory.

Command: tmrn-edu train tmrn_xmem_tiny --out runs/tmrn-xmem-tiny
Time, scores: tmrn_edu/weights/tmrn-xmem-tiny.json
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import XMem
from tmrn_edu.recipes.matched import KEY_CHANNELS, VALUE_CHANNELS, matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe(
    "tmrn-xmem-tiny",
    lambda seed: matched(XMem.tiny, lambda: TrajectoryReader.paper(KEY_CHANNELS, VALUE_CHANNELS), seed),
    TrainSettings(),
)
