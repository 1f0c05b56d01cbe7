"""STM, stage two: videos, three frames whose gaps grow up to 25; and with TMRN's reader.

The authors released no training code. TMRN's supplement says: crops of 384 x 384, plain cross-entropy, Adam with 1e-5 at first; the STM paper: three
frames, whose largest gap grows to 25. Not known: number of steps, batch, objects, augmentation (those of STCN's second stage are taken here), and
when the gaps grow (evenly here). With TMRN the network has the supplement's layout.
Command: tmrn-edu train stm_video --data DAVIS YOUTUBE_VOS --device cuda --devices 2
Time: docs/training.md. Starts from the weights of stm_static.
"""

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STM
from tmrn_edu.recipes.matched import matched
from tmrn_edu.training.settings import VIDEO, Recipe, TrainSettings

SETTINGS = TrainSettings(
    steps=150_000, batch=8, frames=3, short_share=0.0, objects=2, size=384,  # steps, batch, objects: unknown
    gaps=((0.0, 5), (0.2, 10), (0.4, 15), (0.6, 20), (0.8, 25)),  # the largest is known, the way there is not
    optimiser="adam", lr=1e-5, schedule="steps", warm_up=0.0, lr_drops=(), weight_decay=0.0, clip_gradient=0.0,  # drops, decay: unknown
    precision="16", hard_pixels=1.0, dice=0.0, readout_mask=0.0, sum_frames=True,
    workers=8, save_every=1000, log_every=100, sample_every=1000,
)  # fmt: skip
RECIPE = Recipe(
    "stm-video",
    lambda seed: matched(STM, SpaceTimeReader, seed),
    SETTINGS,
    stage=VIDEO,
    init="stm-static",
)
TMRN = Recipe(
    "tmrn-stm-video",
    lambda seed: matched(
        lambda reader: STM(reader, layout="supplement"), lambda: TrajectoryReader.paper(128, 512), seed
    ),
    SETTINGS,
    stage=VIDEO,
    init="tmrn-stm-static",
)
