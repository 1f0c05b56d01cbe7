"""Networks, each whole in one file: encoders, a memory reader, a decoder."""

from tmrn_edu.networks import base, gsfm, stcn, stm, xmem
from tmrn_edu.networks.base import InferenceRules, MemoryNetwork
from tmrn_edu.networks.gsfm import GSFM
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.networks.stm import STM
from tmrn_edu.networks.xmem import XMem

__all__ = ["GSFM", "STCN", "STM", "InferenceRules", "MemoryNetwork", "XMem", "base", "gsfm", "stcn", "stm", "xmem"]
