"""The memory, from leaf to whole: similarity, affinity, agents, alignment, aggregation, working, space_time, readers."""

from tmrn_edu.memory import affinity, agents, aggregation, alignment, readers, similarity, space_time, working
from tmrn_edu.memory.readers import Insides, Readout, SpaceTimeReader, TrajectoryReader
from tmrn_edu.memory.similarity import anisotropic_l2, dot_product, negative_squared_l2
from tmrn_edu.memory.working import MemoryFrame, Query, WorkingMemory

__all__ = [
    "Insides", "MemoryFrame", "Query", "Readout", "SpaceTimeReader", "TrajectoryReader", "WorkingMemory",
    "affinity", "agents", "aggregation", "alignment", "anisotropic_l2", "dot_product", "negative_squared_l2", "readers", "similarity",
    "space_time", "working",
]  # fmt: skip
