"""What all memory networks here have in common: five steps around a reader, and the rules by which their authors run them.

    encode         frames -> features: key, query value, and what the decoder needs
    memorize       frames, features, masks -> one memory frame
    read           features, memory -> readout per object          the reader: the step that TMRN replaces
    decode         readout, features -> logits per object
    update_sensory, deep_update                                    XMem alone remembers more than its memory frames

`inference.py`, `segmenter.py` and `train.py` call these steps and nothing else, so a network that has them can be trained and run by everything here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.decoder import Decoded
from tmrn_edu.encoders import FrameFeatures, Normalise, freeze_batch_norm, stack_masks
from tmrn_edu.memory.readers import Readout, SpaceTimeReader
from tmrn_edu.memory.similarity import negative_squared_l2
from tmrn_edu.memory.working import FrameIndex, MemoryFrame, Query


@dataclass(frozen=True)
class Sizes:
    """What others must know about a network's parts."""

    preset: str  # the name under which weight files remember the parts
    key_channels: int  # ck
    value_channels: int  # cv
    stride: int  # frames must be multiples of it
    cell: int  # pixels per cell of the key's grid
    short_side: int | None = None  # frame size at which the network works best; None: any
    mask_channels: int = 0  # how many last channels of a value hold the mask itself
    max_frames: int | None = None  # memory frames kept at inference; None: all, as published


@dataclass(frozen=True)
class InferenceRules:
    """How a network's authors run it on a video. `Segmenter` follows them unless told otherwise."""

    memory_every: int = 5  # frames from one memory frame to the next
    max_frames: int | None = None  # memory frames kept (see `WorkingMemory`); None: all
    previous_frame: bool = False  # the frame before is read too, as memory for one step (STM; STCN's `include_last`)
    deep_update_every: int | None = None  # XMem: frames between deep updates; None: with every memory frame
    # Given masks go through soft aggregation before they are encoded (not in STM).
    aggregate_given: bool = True
    # Frames are padded before normalisation, so with black, and memorized masks with zeros (STM). Else the padding is the mean colour, and
    # what was predicted there stays in the masks that are memorized.
    pad_first: bool = False


class MemoryNetwork(nn.Module):
    """The base of `STM`, `STCN`, `XMem` and `GSFM`: attributes, checks, and the steps that are the same in all.

    Attributes: `key_channels`, `value_channels`, `stride`, `cell`, `short_side`, `mask_channels`, `preset` (see `Sizes`), `rules`,
    `similarity` (the network's own), `top_k` (of its own reader at inference), `reader`. Source: ours; the steps are the papers'.
    """

    rules = InferenceRules()
    similarity: Callable[..., Tensor] = staticmethod(negative_squared_l2)
    deep_update_probability = 0.0  # XMem: share of training frames with a deep update

    def __init__(self, sizes: Sizes, reader: nn.Module | None, top_k: int | None):
        super().__init__()
        self.sizes, self.top_k = sizes, top_k
        self.key_channels, self.value_channels = sizes.key_channels, sizes.value_channels
        self.stride, self.cell, self.short_side = sizes.stride, sizes.cell, sizes.short_side
        self.preset, self.mask_channels = sizes.preset, sizes.mask_channels
        if sizes.max_frames is not None:
            self.rules = replace(type(self).rules, max_frames=sizes.max_frames)
        self.normalise = Normalise()
        self.reader = SpaceTimeReader() if reader is None else reader

    def __setattr__(self, name: str, value) -> None:
        """A reader, now or later, must fit the network; what it was not told (similarity, top_k) it takes from the network."""
        if name == "reader":
            self._check_reader(value)
            value.train(self.training)
            if hasattr(value, "adopt"):
                value.adopt(f"{type(self).__name__} ({self.preset})", self.similarity, self.top_k)
        super().__setattr__(name, value)

    def _check_reader(self, reader) -> None:
        """A reader made for other channels than the network's would only fail in the middle of a video."""
        if isinstance(reader, type):
            raise ValueError(f"reader is the class {reader.__name__}, expected one of it: {reader.__name__}(...)")
        if not isinstance(reader, nn.Module):
            raise ValueError(f"reader is {reader!r}, expected a module such as memory.TrajectoryReader.warm(...)")
        for channels in ("key_channels", "value_channels"):
            own, theirs = getattr(self, channels), getattr(reader, channels, None)
            if theirs is not None and theirs != own:
                raise ValueError(f"the reader has {channels} {theirs}, {type(self).__name__} ({self.preset}) has {own}")

    def settings(self) -> dict:
        """The arguments, beside the reader, that build this network again, as plain data."""
        return {}

    def train(self, mode: bool = True):
        """As for any module, but batch normalisation stays as in evaluation."""
        super().train(mode)
        return freeze_batch_norm(self)

    def _apply(self, fn, recurse=True):
        """`half()` and `bfloat16()` round all weights, but the reader computes in float32: keys and affinities need the digits."""
        super()._apply(fn, recurse)
        if any(parameter.dtype.itemsize < 4 for parameter in self.reader.parameters()):
            self.reader.float()
        return self

    def check_frames(self, frames: Float[Tensor, "b 3 H W"]) -> None:
        """Raises ValueError unless height and width are multiples of `stride`."""
        height, width = frames.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"frames are {height} x {width}, expected multiples of {self.stride} (masks.pad_to_stride)"
            )

    def encode_value(
        self, frames: Float[Tensor, "b 3 H W"], features: FrameFeatures, object_masks: Float[Tensor, "b o H W"]
    ) -> Float[Tensor, "b o cv h w"]:
        """What the memory holds of frames whose masks are known: one value per object (not in STM, see `STM.encode_memory`).

        Every object's mask goes in with the sum of the others'; the image's part is computed once. Shapes: masks `b o H
        W` in [0, 1] -> `b o cv h w`. Raises ValueError if frames and masks differ in size. Source: STCN, section 3.1; XMem has the same.
        """
        return self.value_encoder(self.normalise(frames), features.coarse, stack_masks(frames, object_masks))

    def memorize(
        self,
        frames: Float[Tensor, "b 3 H W"],
        features: FrameFeatures,
        object_masks: Float[Tensor, "b o H W"],
        index: FrameIndex,
        exact: bool = False,
    ) -> MemoryFrame:
        """Frame `index` and its masks, as the reader keeps them; `exact`: masks were given, not predicted."""
        value = self.encode_value(frames, features, object_masks)
        with full_precision(features.key):
            return self.reader.store(features.key, value, index, exact, features.shrinkage)

    def read(
        self, features: FrameFeatures, memory: Sequence[MemoryFrame], index: FrameIndex, insides: bool = False
    ) -> Readout:
        """Reads the memory for frame `index`: `b o cv h w`, one affinity for all objects; `insides`: see `Insides`.

        Runs in float32 also under autocast: a softmax over thousands of distances needs the digits. Source: "Memory Reading" of STCN
        and XMem.
        """
        with full_precision(features.key):
            return self.reader(memory, Query(features.key, index, features.selection), insides)

    def start_sensory(self, like: Float[Tensor, "b _ h w"], objects: int) -> Float[Tensor, "b o cs h w"] | None:
        """The state that a network carries from frame to frame, on the grid of `like`; None: it has no such thing."""
        return None

    def update_sensory(self, sensory: Tensor | None, decoded: Decoded) -> Tensor | None:
        """The state after a frame was decoded."""
        return sensory

    def deep_update(self, sensory: Tensor | None, memorized: MemoryFrame) -> Tensor | None:
        """The state after a frame was memorized."""
        return sensory

    def readout_mask(self, readout: Readout) -> Float[Tensor, "b o h w"]:
        """The masks as read out of the memory, before any decoding: labels carried along by the affinity alone.

        The mean of the readout's last `mask_channels` channels, in [0, 1]. Raises ValueError for a network without such
        channels. Source: ours, for the auxiliary loss that teaches the tiny networks' keys.
        """
        if self.mask_channels == 0:
            raise ValueError("this network has 0 mask channels in its values, expected at least 1 to read masks out")
        return reduce(readout.value[:, :, -self.mask_channels :], "b o c h w -> b o h w", "mean")


LAYOUTS = ("released", "supplement")


def check_layout(layout: str) -> None:
    """Raises ValueError unless the layout is "released" (as the authors' weights have it) or "supplement" (as TMRN's supplement says)."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, expected one of {LAYOUTS}")


def full_precision(tensor: Tensor):
    """A context in which autocast is off, for keys and affinities. Source: XMem and STCN leave them out of mixed precision."""
    return torch.autocast(tensor.device.type, enabled=False)


def key_convolution(in_channels: int, key_channels: int) -> nn.Conv2d:
    """The 3x3 convolution that makes keys, initially orthogonal (STCN:model/modules.py)."""
    conv = nn.Conv2d(in_channels, key_channels, 3, padding=1)
    nn.init.orthogonal_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
