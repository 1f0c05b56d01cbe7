"""What the tiny recipes share: initial weights that differ in nothing but the reader."""

import torch

from tmrn_edu.networks import MemoryNetwork

KEY_CHANNELS, VALUE_CHANNELS = 32, 64  # of all tiny networks
READER_SEED = 1_000  # readers draw their initial weights under seeds of their own


def tiny(build, make_reader, seed: int) -> MemoryNetwork:
    """A small network with a reader: the reader first, under its own seed; then all other parts, under `seed`, the same for every reader.

    `build`: `STM.tiny`, `STCN.tiny` or `XMem.tiny`. Matched initial weights matter: unmatched, they alone make differences larger than
    those between readers.
    """
    torch.manual_seed(READER_SEED + seed)
    reader = make_reader()
    torch.manual_seed(seed)
    return build(reader)
