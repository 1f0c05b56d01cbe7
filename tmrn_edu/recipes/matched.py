"""What all recipes share: initial weights that differ in nothing but the reader."""

from collections.abc import Callable

import torch
from torch import nn

KEY_CHANNELS, VALUE_CHANNELS = 32, 64  # of all tiny networks
READER_SEED = 1_000  # readers draw their initial weights under seeds of their own


def matched(build: Callable[[nn.Module], nn.Module], make_reader: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network with a reader: the reader first, under its own seed; then all other parts, under `seed`, the same for every reader.

    Matched initial weights matter: unmatched, they alone make differences larger than those between readers.
    """
    torch.manual_seed(READER_SEED + seed)
    reader = make_reader()
    torch.manual_seed(seed)
    return build(reader)
