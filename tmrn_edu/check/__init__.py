"""Checkers of the exercises in notebooks/, one a function: each tries the reader's function and prints one line.

    passed = te.check.space_time_weights(space_time_weights)

`trial.py` says how; `tour.py`, `reading.py`, ... hold the checkers of one lesson each.
"""

from tmrn_edu.check.aggregation import chained_score, pool, trajectory
from tmrn_edu.check.alignment import align, effective_agents, rectified_affinity
from tmrn_edu.check.reading import frame_shares, space_time_weights, squared_l2
from tmrn_edu.check.tour import intersection_over_union
from tmrn_edu.check.trial import random_tensors, trial

__all__ = [
    "align", "chained_score", "effective_agents", "frame_shares", "intersection_over_union", "pool",
    "random_tensors", "rectified_affinity", "space_time_weights", "squared_l2", "trajectory", "trial",
]  # fmt: skip
