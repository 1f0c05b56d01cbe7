"""What the tiny recipes share: the small STCN, and initial weights that differ in nothing but the reader."""

import torch

from tmrn_edu.networks.stcn import STCN

KEY_CHANNELS, VALUE_CHANNELS = 32, 64  # of STCN.tiny
READER_SEED = 1_000  # readers draw their initial weights under seeds of their own


def tiny_stcn(make_reader, seed: int) -> STCN:
    """The small STCN with a reader: the reader first, under its own seed; then all other parts, under `seed`, the same for every reader.

    Matched initial weights matter: unmatched, they alone make differences larger than those between readers.
    """
    torch.manual_seed(READER_SEED + seed)
    reader = make_reader()
    torch.manual_seed(seed)
    return STCN.tiny(reader)
