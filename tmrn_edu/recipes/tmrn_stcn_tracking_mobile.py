"""The last stage of stcn_mobile with the reader that carries masks best along real videos: trajectories followed at constant velocity.

Preset *tracking* without agents and without reach, which both cost time. The shipped weights took 600 steps more (docs/weights.md).
Command: tmrn-edu train tmrn_stcn_tracking_mobile_long --data DAVIS pasted:300 look-alikes:300 --init FILE, that of stage two
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.recipes.stcn_mobile import long_stage
from tmrn_edu.recipes.tmrn_stcn_mobile import KEY_CHANNELS, VALUE_CHANNELS

RECIPE = long_stage(
    "tmrn-stcn-tracking-mobile",
    lambda: TrajectoryReader.tracking(KEY_CHANNELS, VALUE_CHANNELS, agents=0, reach=None),
)
