"""STM, stage one: still images, each warped into a clip of three frames; and with TMRN's reader.

The authors released no training code. TMRN's supplement says: crops of 384 x 384, plain cross-entropy, Adam with 1e-5 at first.
Not known: number of steps, batch, augmentation (STCN's are taken here), learning rate drops and weight decay (none here).
With TMRN the network has the supplement's layout.
Command: tmrn-edu train stm_static --data STILLS --device cuda --devices 2
Time: docs/training.md. Then: stm_video.
"""

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STM
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import STILLS, Recipe, TrainSettings

SETTINGS = TrainSettings(
    steps=300_000, batch=16, frames=3, short_share=0.0, max_gap=1, objects=1, size=384,  # steps, batch: unknown
    optimiser="adam", lr=1e-5, schedule="steps", warm_up=0.0, lr_drops=(), weight_decay=0.0, clip_gradient=0.0,  # drops, decay: unknown
    precision="16", hard_pixels=1.0, dice=0.0, readout_mask=0.0, sum_frames=True,
    workers=8, save_every=1000, log_every=100, sample_every=1000,
)  # fmt: skip
RECIPE = Recipe(
    "stm-static",
    lambda seed: matched(STM, SpaceTimeReader, seed),
    SETTINGS,
    stage=STILLS,
    init="imagenet",
)
TMRN = Recipe(
    "tmrn-stm-static",
    lambda seed: matched(
        lambda reader: STM(reader, layout="supplement"), lambda: TrajectoryReader.paper(128, 512), seed
    ),
    SETTINGS,
    stage=STILLS,
    init="imagenet",
)
