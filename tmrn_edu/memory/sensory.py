"""XMem's sensory memory: a small hidden state per object, carried from frame to frame beside the working memory.

The working memory holds what was seen in some earlier frames; the sensory memory holds where things are now and how they move, in `cs`
channels on the key's grid. It starts at zero and changes in two ways, both gated:

    update        every frame, from the decoder's features at all its strides     (what the network just decided)
    deep update   with memory frames, from the value encoder's output             (what image and mask together look like)

Source: XMem (Cheng and Schwing, ECCV 2022), "Sensory Memory"; the order of the gates is the authors' code.
"""

import torch
import torch.nn.functional as F
from einops import pack
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.blocks import each_object


class GatedUpdate(nn.Module):
    """A convolutional gated unit, in XMem's own variant of a GRU.

        f, u, n = sigmoid, sigmoid, tanh of the three thirds of conv3x3([x, h]) ;   h' = f * h * (1 - u) + u * n

    f: what is kept, u: what is replaced, n: by what. The new value does not see the forget gate, unlike in a standard GRU.
    Shapes: x `b o c h w`, h `b o cs h w` -> `b o cs h w`, in (-1, 1) if it began there. Under autocast the convolution may round, gates
    and state stay float32: errors would pile up over a video. Source: XMem:model/modules.py.
    """

    def __init__(self, channels: int, sensory_channels: int):
        super().__init__()
        self.transform = nn.Conv2d(channels + sensory_channels, 3 * sensory_channels, 3, padding=1)
        nn.init.xavier_normal_(self.transform.weight)

    def forward(
        self, x: Float[Tensor, "b o c h w"], sensory: Float[Tensor, "b o cs h w"]
    ) -> Float[Tensor, "b o cs h w"]:
        joined, _ = pack([x, sensory.to(x.dtype)], "b o * h w")
        gates = each_object(self.transform, joined)
        gates = gates.to(torch.promote_types(gates.dtype, torch.float32))
        forget, update, new = gates.chunk(3, dim=2)
        forget, update, new = forget.sigmoid(), update.sigmoid(), new.tanh()
        return forget * sensory * (1 - update) + update * new


def average_cells(x: Float[Tensor, "b o c hi wi"], cell: int) -> Float[Tensor, "b o c h w"]:
    """The mean of every `cell` x `cell` square."""
    return x if cell == 1 else each_object(lambda x: F.avg_pool2d(x, cell), x)


class SensoryMemory(nn.Module):
    """Both updates of the sensory memory.

        update       h' = gate(sum_s conv1x1(x_s averaged to the key's grid), h)      x_s: the decoder's features, the finest with its score
        deep update  h' = gate(value, h)

    `pyramid_channels`: of the decoder's features, coarse to fine; the score counts as one more channel of the finest.
    Source: XMem, "Sensory Memory".
    """

    def __init__(self, pyramid_channels: tuple[int, ...], value_channels: int, width: int, channels: int):
        super().__init__()
        self.channels = channels
        *coarser, finest = pyramid_channels
        self.project = nn.ModuleList(nn.Conv2d(c, width, 1) for c in (*coarser, finest + 1))
        self.gate = GatedUpdate(width, channels)
        self.deep_gate = GatedUpdate(value_channels, channels)

    def start(self, like: Float[Tensor, "b _ h w"], objects: int) -> Float[Tensor, "b o cs h w"]:
        """Nothing remembered yet: zeros in float32, on the grid and device of `like`."""
        batch, _, height, width = like.shape
        return torch.zeros(batch, objects, self.channels, height, width, device=like.device)

    def update(
        self,
        sensory: Float[Tensor, "b o cs h w"],
        pyramid: tuple[Float[Tensor, "b o _ _ _"], ...],
        scores: Float[Tensor, "b o 1 _ _"],
    ) -> Float[Tensor, "b o cs h w"]:
        """After a frame was decoded: its features and scores go in."""
        width = sensory.shape[-1]
        *coarser, finest = (average_cells(x, x.shape[-1] // width) for x in pyramid)
        finest, _ = pack([finest, average_cells(scores, scores.shape[-1] // width)], "b o * h w")
        seen = 0
        for project, x in zip(self.project, (*coarser, finest), strict=True):
            seen = seen + each_object(project, x)
        return self.gate(seen, sensory)

    def deep_update(
        self, sensory: Float[Tensor, "b o cs h w"], value: Float[Tensor, "b o cv h w"]
    ) -> Float[Tensor, "b o cs h w"]:
        """After a frame was memorized: its value goes in."""
        return self.deep_gate(value, sensory)
