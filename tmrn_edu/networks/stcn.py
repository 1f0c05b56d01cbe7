"""STCN, whole: "Rethinking Space-Time Networks with Improved Memory Coverage" (Cheng, Tai, Tang, NeurIPS 2021).

Keys come from the image alone, so frames are compared once for all objects and by negative squared L2 distance; a light
value encoder writes an image and one object's mask into the memory; what is read out is decoded into that object's
mask.

    encode         frames -> key, query value, features           key_encoder, key_projection, query_projection
    encode_value   frames, features, masks -> value per object    value_encoder
    memorize       key, values -> one memory frame                reader
    read           memory, query key -> readout per object        reader: the step that TMRN replaces
    decode         readout, features -> logits per object         decoder

One class, two sizes: `STCN()` is the published network, `STCN.tiny()` the same one built of small parts, to be trained
on a CPU in minutes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.decoder import Decoder, TinyDecoder
from tmrn_edu.encoders import (
    FrameFeatures,
    Normalise,
    TinyImageEncoder,
    TinyValueEncoder,
    ValueEncoder,
    freeze_batch_norm,
    resnet50,
    stack_masks,
)
from tmrn_edu.memory.readers import Readout, SpaceTimeReader
from tmrn_edu.memory.similarity import negative_squared_l2
from tmrn_edu.memory.working import MemoryFrame, Query


@dataclass(frozen=True)
class Parts:
    """What an STCN is assembled from, in the order in which the parts draw their initial weights."""

    key_encoder: nn.Module  # image -> features, fine to coarse; the last one lies on the key's grid
    key_projection: nn.Module  # coarse feature -> key
    query_projection: nn.Module  # coarse feature -> query value ("key compression" in the authors' code)
    value_encoder: nn.Module  # image, coarse feature, [mask, others] -> value
    decoder: nn.Module  # readout, query value, finer features -> logits
    key_channels: int  # ck
    value_channels: int  # cv
    stride: int  # frames must be multiples of it
    cell: int  # pixels per cell of the key's grid
    preset: str  # the name under which weight files remember these parts
    short_side: int | None = None  # frame size at which the network works best; None: any
    top_k: int | None = None  # of the space-time reader that it comes with


def full_parts() -> Parts:
    """STCN as published: ResNet-50 keys of 64 channels and ResNet-18 values of 512, both at stride 16."""
    key_encoder = resnet50()
    key_projection = nn.Conv2d(1024, 64, 3, padding=1)
    nn.init.orthogonal_(key_projection.weight)
    nn.init.zeros_(key_projection.bias)
    return Parts(
        key_encoder,
        key_projection,
        query_projection=nn.Conv2d(1024, 512, 3, padding=1),
        value_encoder=ValueEncoder(image_channels=1024, value_channels=512, bias=True),
        decoder=Decoder(value_channels=512, query_channels=512),
        key_channels=64, value_channels=512, stride=16, cell=16, preset="full", top_k=20,
    )  # fmt: skip


def tiny_parts() -> Parts:
    """Keys of 32 channels and values of 64, at stride 4, for frames of about 128 pixels (0.66 million parameters)."""
    return Parts(
        TinyImageEncoder(out_channels=64),
        key_projection=nn.Conv2d(64, 32, 3, padding=1),
        query_projection=nn.Identity(),
        value_encoder=TinyValueEncoder(image_channels=64, value_channels=64, mask_channels=8),
        decoder=TinyDecoder(value_channels=64, query_channels=64),
        key_channels=32, value_channels=64, stride=16, cell=4, preset="tiny", short_side=128,
    )  # fmt: skip


def _check_reader(reader: nn.Module | None, parts: Parts) -> None:
    """A reader made for other channels than the network's would only fail in the middle of a video."""
    if isinstance(reader, type):
        raise ValueError(f"reader is the class {reader.__name__}, expected one of it: {reader.__name__}(...)")
    for name in ("key_channels", "value_channels"):
        own, theirs = getattr(parts, name), getattr(reader, name, None)
        if theirs is not None and theirs != own:
            raise ValueError(f"the reader has {name} {theirs}, STCN ({parts.preset}) has {own}")


class STCN(nn.Module):
    """Space-Time Correspondence Network: `STCN()` as published, `STCN.tiny()` small, either with any reader.

    `reader`: a module of `tmrn_edu.memory`; None is STCN's own, the space-time read by negative squared L2 (published
    size: the 20 best memory pixels at inference). Initial weights come from torch's global generator in a fixed order,
    and the reader draws none of them: after the same seed *set between making the reader and the network*, networks
    differ in nothing but their reader. Batch normalisation keeps its statistics also in training (the authors' code;
    its gains and shifts do train).

    Attributes: `stride` (frames must be multiples of it), `cell` (pixels per cell of the key's grid), `short_side` (frame
    size at which the network works best, None: any), `preset` (its name in weight files), `key_channels`,
    `value_channels`, `mask_channels` (how many last value channels hold the mask).
    """

    def __init__(self, reader: nn.Module | None = None, parts: Parts | None = None):
        super().__init__()
        parts = full_parts() if parts is None else parts
        _check_reader(reader, parts)
        self.normalise = Normalise()
        self.key_encoder = parts.key_encoder
        self.key_projection = parts.key_projection
        self.query_projection = parts.query_projection
        self.value_encoder = parts.value_encoder
        self.decoder = parts.decoder
        self.reader = SpaceTimeReader(negative_squared_l2, top_k=parts.top_k) if reader is None else reader
        self.key_channels, self.value_channels = parts.key_channels, parts.value_channels
        self.stride, self.cell, self.short_side = parts.stride, parts.cell, parts.short_side
        self.preset = parts.preset
        self.mask_channels = parts.value_encoder.mask_channels
        self.train()

    @classmethod
    def tiny(cls, reader: nn.Module | None = None) -> "STCN":
        """STCN built of small parts, which learns on synthetic clips in minutes on a CPU. Sizes: ours."""
        return cls(reader, tiny_parts())

    def train(self, mode: bool = True) -> "STCN":
        """As for any module, but batch normalisation stays as in evaluation."""
        super().train(mode)
        return freeze_batch_norm(self)

    def encode(self, frames: Float[Tensor, "b 3 H W"]) -> FrameFeatures:
        """What is known of frames from their pixels alone: key, query value, features for value encoder and decoder.

        Shapes: `b 3 H W`, RGB in [0, 1] -> key `b ck h w`, query value `b cq h w`, with h = H / cell. Normalisation
        happens here. Raises ValueError unless H and W are multiples of `stride`. Source: STCN, section 3.1.
        """
        height, width = frames.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"frames are {height} x {width}, expected multiples of {self.stride} (masks.pad_to_stride)"
            )
        *finer, coarse = self.key_encoder(self.normalise(frames))
        return FrameFeatures(self.key_projection(coarse), self.query_projection(coarse), coarse, tuple(reversed(finer)))

    def encode_value(
        self, frames: Float[Tensor, "b 3 H W"], features: FrameFeatures, object_masks: Float[Tensor, "b o H W"]
    ) -> Float[Tensor, "b o cv h w"]:
        """What the memory holds of frames whose masks are known: one value per object.

        Every object's mask goes in with the sum of the others'; the image's part is computed once. Shapes: masks `b o H
        W` in [0, 1] -> `b o cv h w`. Raises ValueError if frames and masks differ in size. Source: STCN, section 3.1.
        """
        return self.value_encoder(self.normalise(frames), features.coarse, stack_masks(frames, object_masks))

    def memorize(
        self,
        frames: Float[Tensor, "b 3 H W"],
        features: FrameFeatures,
        object_masks: Float[Tensor, "b o H W"],
        index: int,
        exact: bool = False,
    ) -> MemoryFrame:
        """Frame `index` and its masks, as the reader keeps them; `exact`: masks were given, not predicted."""
        return self.reader.store(features.key, self.encode_value(frames, features, object_masks), index, exact)

    def read(
        self, features: FrameFeatures, memory: Sequence[MemoryFrame], index: int, insides: bool = False
    ) -> Readout:
        """Reads the memory for frame `index`: `b o cv h w`, one affinity for all objects; `insides`: see `Insides`.

        Runs in float32 also under autocast: a softmax over thousands of distances needs the digits. Source: STCN,
        section 3.2.
        """
        with torch.autocast(features.key.device.type, enabled=False):
            return self.reader(memory, Query(features.key, index), insides)

    def decode(self, readout: Readout, features: FrameFeatures) -> Float[Tensor, "b o H W"]:
        """Readout and the frame's own features -> one logit per object and pixel, for sigmoid and soft aggregation."""
        return self.decoder(readout.value, features.query_value, features.skips)

    def readout_mask(self, readout: Readout) -> Float[Tensor, "b o h w"]:
        """The masks as read out of the memory, before any decoding: labels carried along by the affinity alone.

        The mean of the readout's last `mask_channels` channels, in [0, 1]. Raises ValueError for a network without such
        channels. Source: ours, for the auxiliary loss that teaches the tiny network's keys.
        """
        if self.mask_channels == 0:
            raise ValueError("this network has 0 mask channels in its values, expected at least 1 to read masks out")
        return reduce(readout.value[:, :, -self.mask_channels :], "b o c h w -> b o h w", "mean")
