"""Networks, each whole in one file: encoders, a memory reader, a decoder."""

from tmrn_edu.networks import stcn
from tmrn_edu.networks.stcn import STCN

__all__ = ["STCN", "stcn"]
