"""XMem without its long-term memory, whole: "XMem: Long-Term Video Object Segmentation ..." (Cheng and Schwing, ECCV 2022).

STCN's plan (keys from the image alone, values from image and mask) with two additions. The similarity is anisotropic: every memory pixel says
how sharply it wants to be matched (shrinkage), every asking pixel which key channels matter (selection). And beside the working memory there
is a sensory one, a hidden state per object that is carried from frame to frame.

    encode         frames -> key, shrinkage, selection, features      key_encoder, key_projection, shrinkage_, selection_projection
    encode_value   frames, features, masks -> value per object        value_encoder
    memorize       key, shrinkage, values -> one memory frame         reader
    read           memory, query key, selection -> readout            reader: the step that TMRN replaces
    decode         readout, sensory memory, features -> logits        decoder
    update_sensory, deep_update                                       sensory_memory

`XMem()` is the network as released with long-term memory off, `XMem.tiny()` the same one built of small parts.
"""

from dataclasses import dataclass

from einops import pack
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.decoder import Decoded, Decoder, TinyDecoder
from tmrn_edu.encoders import (
    FrameFeatures,
    Fuser,
    TinyImageEncoder,
    TinyValueEncoder,
    ValueEncoder,
    resnet50,
)
from tmrn_edu.memory.readers import Readout, TrajectoryReader
from tmrn_edu.memory.sensory import SensoryMemory
from tmrn_edu.memory.similarity import anisotropic_l2
from tmrn_edu.memory.working import MemoryFrame
from tmrn_edu.networks.base import MemoryNetwork, Sizes, check_layout, full_precision, key_convolution


@dataclass(frozen=True)
class Parts:
    """What an XMem is assembled from, in the order in which the parts draw their initial weights."""

    key_encoder: nn.Module  # image -> features, fine to coarse; the last one lies on the key's grid
    key_projection: nn.Module  # coarse feature -> key
    shrinkage_projection: nn.Module  # coarse feature -> d, shrinkage = d^2 + 1
    selection_projection: nn.Module  # coarse feature -> e, selection = sigmoid(e)
    query_projection: nn.Module  # coarse feature -> what the decoder sees of the image
    value_encoder: nn.Module  # image, coarse feature, [mask, others] -> value
    sensory_memory: SensoryMemory
    decoder: nn.Module  # [readout, sensory], query value, finer features -> logits
    sizes: Sizes
    top_k: int | None = None  # of the space-time reader that it comes with, at inference
    layout: str = "released"


def full_parts(layout: str = "released") -> Parts:
    """XMem as published: keys of 64 channels, values of 512, a sensory memory of 64, at stride 16; the 30 best memory pixels."""
    check_layout(layout)
    released = layout == "released"
    return Parts(
        resnet50(),
        key_projection=key_convolution(1024, 64),
        shrinkage_projection=nn.Conv2d(1024, 1, 3, padding=1),
        selection_projection=nn.Conv2d(1024, 64, 3, padding=1),
        query_projection=nn.Identity() if released else nn.Conv2d(1024, 512, 3, padding=1),
        value_encoder=ValueEncoder(image_channels=1024, value_channels=512, bias=False, image_first=True),
        sensory_memory=SensoryMemory((512, 256, 256), value_channels=512, width=256, channels=64),
        decoder=Decoder(Fuser(512 + 64, 1024 if released else 512, 512, image_first=True)),
        sizes=Sizes("full", key_channels=64, value_channels=512, stride=16, cell=16, short_side=480),
        top_k=30,
        layout=layout,
    )


def tiny_parts() -> Parts:
    """Keys of 32 channels, values of 64, a sensory memory of 16, at stride 4, for frames of about 128 pixels. Sizes: ours."""
    return Parts(
        TinyImageEncoder(out_channels=64),
        key_projection=nn.Conv2d(64, 32, 3, padding=1),
        shrinkage_projection=nn.Conv2d(64, 1, 3, padding=1),
        selection_projection=nn.Conv2d(64, 32, 3, padding=1),
        query_projection=nn.Identity(),
        value_encoder=TinyValueEncoder(image_channels=64, value_channels=64, mask_channels=8),
        sensory_memory=SensoryMemory((64, 24), value_channels=64, width=32, channels=16),
        decoder=TinyDecoder(object_channels=64 + 16, image_channels=64),
        sizes=Sizes("tiny", 32, 64, stride=16, cell=4, short_side=128, mask_channels=8),
    )


class XMem(MemoryNetwork):
    """XMem with working and sensory memory: `XMem()` as released, `XMem.tiny()` small, either with any reader.

    `reader`: a module of `tmrn_edu.memory`; None is XMem's own, the space-time read by anisotropic L2 (published size: the 30 best memory
    pixels at inference). `layout`, unless `parts` bring theirs: what the decoder sees of the image beside readout and sensory memory.
    "released": the coarse feature itself, the authors' weights. "supplement": a query value, by one more convolution behind the key encoder,
    as TMRN's supplement describes XMem [S]; that it takes the coarse feature's place is our reading [ours]. The TMRN form (`XMem.tmrn`)
    uses it. Initial weights: as in `STCN`. Attributes: see `MemoryNetwork`.
    """

    similarity = staticmethod(anisotropic_l2)
    deep_update_probability = 0.2

    def __init__(self, reader: nn.Module | None = None, layout: str = "released", parts: Parts | None = None):
        parts = full_parts(layout) if parts is None else parts
        super().__init__(parts.sizes, reader, parts.top_k)
        self.layout = parts.layout
        self.key_encoder = parts.key_encoder
        self.key_projection = parts.key_projection
        self.shrinkage_projection = parts.shrinkage_projection
        self.selection_projection = parts.selection_projection
        self.query_projection = parts.query_projection
        self.value_encoder = parts.value_encoder
        self.sensory_memory = parts.sensory_memory
        self.decoder = parts.decoder
        self.train()

    @classmethod
    def tiny(cls, reader: nn.Module | None = None) -> "XMem":
        """XMem built of small parts, which learns on synthetic clips in minutes on a CPU. Sizes: ours."""
        return cls(reader, parts=tiny_parts())

    @classmethod
    def tmrn(cls, preset: str = "paper") -> "XMem":
        """TMRN's XMem in full size: the supplement's layout with TMRN's reader in preset "paper", "warm" or "chained"."""
        return cls(TrajectoryReader.preset(preset, 64, 512, top_k=30), layout="supplement")

    def settings(self) -> dict:
        """The arguments, beside the reader, that build this network again, as plain data."""
        return {"layout": self.layout} if self.preset == "full" else {}

    def encode(self, frames: Float[Tensor, "b 3 H W"]) -> FrameFeatures:
        """What is known of frames from their pixels alone, shrinkage and selection included.

            shrinkage = d^2 + 1 >= 1 (`b 1 h w`) ;   selection = sigmoid(e) in (0, 1) (`b ck h w`)

        Shapes: `b 3 H W`, RGB in [0, 1] -> key `b ck h w`, with h = H / cell. Raises ValueError unless H and W are multiples of
        `stride`. Source: XMem, "Memory Reading", authors' code for the squares and the sigmoid.
        """
        self.check_frames(frames)
        *finer, coarse = self.key_encoder(self.normalise(frames))
        with full_precision(frames):
            precise = coarse.to(frames.dtype)
            key = self.key_projection(precise)
            shrinkage = self.shrinkage_projection(precise) ** 2 + 1
            selection = self.selection_projection(precise).sigmoid()
        query_value = self.query_projection(coarse)
        return FrameFeatures(key, query_value, coarse, tuple(reversed(finer)), shrinkage, selection)

    def decode(self, readout: Readout, features: FrameFeatures, sensory: Tensor | None = None) -> Decoded:
        """Readout, sensory memory and the frame's own features -> one logit per object and pixel.

        `sensory`: `b o cs h w`; None is that of a first frame, zeros. Source: XMem, "Overview" and "Sensory Memory".
        """
        if sensory is None:
            sensory = self.start_sensory(features.key, readout.value.shape[1])
        objects, _ = pack([readout.value, sensory.to(readout.value.dtype)], "b o * h w")
        return self.decoder(objects, features.query_value, features.skips)

    def start_sensory(self, like: Float[Tensor, "b _ h w"], objects: int) -> Float[Tensor, "b o cs h w"]:
        """Zeros: nothing remembered yet."""
        return self.sensory_memory.start(like, objects)

    def update_sensory(self, sensory: Tensor | None, decoded: Decoded) -> Float[Tensor, "b o cs h w"]:
        """The sensory memory after a frame was decoded (XMem, "Sensory Memory")."""
        return self.sensory_memory.update(sensory, decoded.pyramid, decoded.scores)

    def deep_update(self, sensory: Tensor | None, memorized: MemoryFrame) -> Float[Tensor, "b o cs h w"]:
        """The sensory memory after a frame was memorized (XMem, "Sensory Memory": deep update)."""
        return self.sensory_memory.deep_update(sensory, memorized.value)
