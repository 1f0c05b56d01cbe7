"""tmrn-xmem-chained-tiny: the small XMem with TMRN's reader, preset *warm*, with chained alignment and age [ours].

Command: tmrn-edu train tmrn_xmem_chained_tiny --out runs/tmrn-xmem-chained-tiny
Time, scores: tmrn_edu/weights/tmrn-xmem-chained-tiny.json
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import XMem
from tmrn_edu.recipes.matched import KEY_CHANNELS, VALUE_CHANNELS, matched
from tmrn_edu.training.settings import Recipe, TrainSettings

RECIPE = Recipe(
    "tmrn-xmem-chained-tiny",
    lambda seed: matched(XMem.tiny, lambda: TrajectoryReader.chained(KEY_CHANNELS, VALUE_CHANNELS), seed),
    TrainSettings(),
)
