"""The last stage of stcn_mobile with TMRN's reader, which starts as the space-time read and learns from there (*warm*).

Command: tmrn-edu train tmrn_stcn_mobile_long --data DAVIS pasted:300 look-alikes:300 --init runs/stcn-mobile/2-stcn-mobile-video/network.safetensors
"""

from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.recipes.stcn_mobile import long_stage

KEY_CHANNELS, VALUE_CHANNELS = 64, 96  # of the mobile networks

RECIPE = long_stage("tmrn-stcn-mobile", lambda: TrajectoryReader.warm(KEY_CHANNELS, VALUE_CHANNELS))
