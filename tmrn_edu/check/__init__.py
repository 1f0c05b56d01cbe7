"""Checkers of the exercises in notebooks/, one a function: each tries the reader's function and prints one line.

    passed = te.check.space_time_weights(space_time_weights)

`trial.py` says how, `cases.py` on which random cases; `tour.py`, `reading.py`, ... hold the checkers of one lesson each.
`reader` is for any memory reader that you write.
"""

from tmrn_edu.check.aggregation import chained_score, pool, trajectory
from tmrn_edu.check.alignment import align, effective_agents, rectified_affinity
from tmrn_edu.check.evaluation import f_measure, mean_over_objects, paired_interval
from tmrn_edu.check.experiment import fair, forgetful_reader, square_distance
from tmrn_edu.check.own_video import frames_kept, inside, over, propagate
from tmrn_edu.check.readers import identity, reader
from tmrn_edu.check.reading import frame_shares, space_time_weights, squared_l2
from tmrn_edu.check.stcn import affinity_cost, coverage, kept_per_frame, top_k_weights
from tmrn_edu.check.stm import frames_read, memory_input, read_objects, soft_aggregate
from tmrn_edu.check.tour import best_cells, intersection_over_union
from tmrn_edu.check.training import bootstrapped, hard_share, largest_gap
from tmrn_edu.check.trial import random_tensors, trial
from tmrn_edu.check.xmem import anisotropic_l2, gated_update, left_out, memory_frames

__all__ = [
    "affinity_cost", "align", "anisotropic_l2", "best_cells", "bootstrapped", "chained_score", "coverage", "effective_agents",
    "f_measure", "fair", "forgetful_reader", "frame_shares", "frames_kept", "frames_read", "gated_update", "hard_share",
    "identity", "inside", "intersection_over_union", "kept_per_frame", "largest_gap", "left_out", "mean_over_objects",
    "memory_frames", "memory_input", "over", "paired_interval", "pool", "propagate", "random_tensors", "read_objects", "reader",
    "rectified_affinity", "soft_aggregate", "space_time_weights", "square_distance", "squared_l2", "top_k_weights",
    "trajectory", "trial",
]  # fmt: skip
