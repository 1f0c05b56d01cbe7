"""STCN, whole: "Rethinking Space-Time Networks with Improved Memory Coverage" (Cheng, Tai, Tang, NeurIPS 2021).

Keys come from the image alone, so frames are compared once for all objects and by negative squared L2 distance; a light
value encoder writes an image and one object's mask into the memory; what is read out is decoded into that object's
mask.

    encode         frames -> key, query value, features           key_encoder, key_projection, query_projection
    encode_value   frames, features, masks -> value per object    value_encoder
    memorize       key, values -> one memory frame                reader
    read           memory, query key -> readout per object        reader: the step that TMRN replaces
    decode         readout, features -> logits per object         decoder

One class, three sizes: `STCN()` is the published network, `STCN.tiny()` the same one built of small parts, to be trained
on a CPU in minutes, and `STCN.mobile()` one for real video on a laptop, which begins with ImageNet weights.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.blocks import PairBlock
from tmrn_edu.decoder import Decoded, Decoder, TinyDecoder
from tmrn_edu.encoders import FrameFeatures, TinyImageEncoder, TinyValueEncoder, ValueEncoder, resnet50
from tmrn_edu.memory.readers import Readout, TrajectoryReader
from tmrn_edu.mobile import COARSE, MobileDecoder, MobileEncoder, MobileValueEncoder
from tmrn_edu.networks.base import MemoryNetwork, Sizes, full_precision, key_convolution


@dataclass(frozen=True)
class Parts:
    """What an STCN is assembled from, in the order in which the parts draw their initial weights."""

    key_encoder: nn.Module  # image -> features, fine to coarse; the last one lies on the key's grid
    key_projection: nn.Module  # coarse feature -> key
    query_projection: nn.Module  # coarse feature -> query value ("key compression" in the authors' code)
    value_encoder: nn.Module  # image, coarse feature, [mask, others] -> value
    decoder: nn.Module  # readout, query value, finer features -> logits
    sizes: Sizes
    top_k: int | None = None  # of the space-time reader that it comes with, at inference


def full_parts() -> Parts:
    """STCN as published: ResNet-50 keys of 64 channels and ResNet-18 values of 512, both at stride 16; the 20 best memory pixels."""
    return Parts(
        resnet50(),
        key_projection=key_convolution(1024, 64),
        query_projection=nn.Conv2d(1024, 512, 3, padding=1),
        value_encoder=ValueEncoder(image_channels=1024, value_channels=512, bias=True),
        decoder=Decoder(PairBlock(512, 512, 512)),
        sizes=Sizes("full", key_channels=64, value_channels=512, stride=16, cell=16, short_side=480),
        top_k=20,
    )


def tiny_parts() -> Parts:
    """Keys of 32 channels and values of 64, at stride 4, for frames of about 128 pixels (0.66 million parameters). Sizes: ours."""
    return Parts(
        TinyImageEncoder(out_channels=64),
        key_projection=nn.Conv2d(64, 32, 3, padding=1),
        query_projection=nn.Identity(),
        value_encoder=TinyValueEncoder(image_channels=64, value_channels=64, mask_channels=8),
        decoder=TinyDecoder(object_channels=64, image_channels=64),
        sizes=Sizes("tiny", 32, 64, stride=16, cell=4, short_side=128, mask_channels=8),
    )


def mobile_parts() -> Parts:
    """Keys of 64 channels and values of 96 at stride 8, on MobileNetV2, for frames of 240 rows (1.5 million parameters). Sizes: ours.

    Keys are a linear map of the trunk's directions, begun so that |k - k'|^2 / 8 falls as label propagation on them has it: cosine / 0.02.
    """
    key_projection = nn.Conv2d(COARSE, 64, 1)
    nn.init.orthogonal_(key_projection.weight, gain=1.8)
    nn.init.zeros_(key_projection.bias)
    return Parts(
        MobileEncoder(),
        key_projection=key_projection,
        query_projection=nn.Identity(),
        value_encoder=MobileValueEncoder(value_channels=96, mask_channels=8),
        decoder=MobileDecoder(object_channels=96),
        sizes=Sizes("mobile", 64, 96, stride=16, cell=8, short_side=240, mask_channels=8, max_frames=5),
        top_k=10,
    )


class STCN(MemoryNetwork):
    """Space-Time Correspondence Network: `STCN()` as published, `STCN.mobile()` and `STCN.tiny()` small, each with any reader.

    `reader`: a module of `tmrn_edu.memory`; None is STCN's own, the space-time read by negative squared L2 (published
    size: the 20 best memory pixels at inference). Initial weights come from torch's global generator in a fixed order,
    and the reader draws none of them: after the same seed *set between making the reader and the network*, networks
    differ in nothing but their reader. Batch normalisation keeps its statistics also in training (the authors' code;
    its gains and shifts do train). Attributes: see `MemoryNetwork`.
    """

    def __init__(self, reader: nn.Module | None = None, parts: Parts | None = None):
        parts = full_parts() if parts is None else parts
        super().__init__(parts.sizes, reader, parts.top_k)
        self.key_encoder = parts.key_encoder
        self.key_projection = parts.key_projection
        self.query_projection = parts.query_projection
        self.value_encoder = parts.value_encoder
        self.decoder = parts.decoder
        self.train()

    @classmethod
    def tiny(cls, reader: nn.Module | None = None) -> "STCN":
        """STCN built of small parts, which learns on synthetic clips in minutes on a CPU. Sizes: ours."""
        return cls(reader, tiny_parts())

    @classmethod
    def mobile(cls, reader: nn.Module | None = None) -> "STCN":
        """STCN on MobileNetV2, for real video on a CPU; it begins with ImageNet weights (`imagenet.load_imagenet`). Sizes: ours."""
        return cls(reader, mobile_parts())

    @classmethod
    def tmrn(cls, preset: str = "paper") -> "STCN":
        """The published network with TMRN's reader in one of its presets: "paper", "warm" or "chained"."""
        return cls(TrajectoryReader.preset(preset, 64, 512, top_k=20))

    def encode(self, frames: Float[Tensor, "b 3 H W"]) -> FrameFeatures:
        """What is known of frames from their pixels alone: key, query value, features for value encoder and decoder.

        Shapes: `b 3 H W`, RGB in [0, 1] -> key `b ck h w`, query value `b cq h w`, with h = H / cell. Normalisation
        happens here. Raises ValueError unless H and W are multiples of `stride`. Source: STCN, section 3.1.
        """
        self.check_frames(frames)
        *finer, coarse = self.key_encoder(self.normalise(frames))
        with full_precision(frames):
            key = self.key_projection(coarse.to(frames.dtype))
        return FrameFeatures(key, self.query_projection(coarse), coarse, tuple(reversed(finer)))

    def decode(self, readout: Readout, features: FrameFeatures, sensory: Tensor | None = None) -> Decoded:
        """Readout and the frame's own features -> one logit per object and pixel, for sigmoid and soft aggregation.

        `sensory` is not used; it is there for XMem. Source: STCN, section 3.2.
        """
        return self.decoder(readout.value, features.query_value, features.skips)
