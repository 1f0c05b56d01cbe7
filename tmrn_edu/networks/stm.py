"""STM, whole: "Video Object Segmentation using Space-Time Memory Networks" (Oh, Lee, Xu, Kim, ICCV 2019).

Two encoders of the same kind: one sees a memory frame *with an object's mask* and gives its key and value, the other sees the query frame
alone and gives its key and value. So memory keys belong to objects, and every object has an affinity of its own.

    encode         frames -> query key, query value, features         query_encoder, query_key, query_value
    encode_memory  frames, masks -> key and value per object          memory_encoder, memory_key, memory_value
    memorize       keys, values -> one memory frame                   reader
    read           memory, query key -> readout per object            reader: the step that TMRN replaces
    decode         readout, query value, features -> logits           decoder

Readers know one axis of batch, so objects travel in it, (b o): each is read as if it were a clip of its own.
`STM()` is the network as released, `STM.tiny()` the same one built of small parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from tmrn_edu.blocks import each_object
from tmrn_edu.decoder import Decoded, Decoder, PairConvolution, TinyDecoder
from tmrn_edu.encoders import FrameFeatures, MemoryEncoder, TinyImageEncoder, append_mask, resnet50, stack_masks
from tmrn_edu.memory.readers import Readout, TrajectoryReader
from tmrn_edu.memory.similarity import dot_product
from tmrn_edu.memory.working import FrameIndex, MemoryFrame, Query
from tmrn_edu.networks.base import InferenceRules, MemoryNetwork, Sizes, check_layout, full_precision


@dataclass(frozen=True)
class Parts:
    """What an STM is assembled from, in the order in which the parts draw their initial weights."""

    query_encoder: nn.Module  # image -> features, fine to coarse; the last one lies on the key's grid
    query_key: nn.Module  # coarse feature -> query key
    query_value: nn.Module  # coarse feature -> query value
    memory_encoder: nn.Module  # image, [mask, others] -> coarse feature of each object
    memory_key: nn.Module  # that -> memory key
    memory_value: nn.Module  # that -> memory value
    decoder: nn.Module  # readout, query value, finer features -> logits
    sizes: Sizes
    layout: str = "released"


def full_parts(layout: str = "released") -> Parts:
    """STM as published: two ResNet-50, keys of 128 channels and values of 512 at stride 16, no top-k."""
    check_layout(layout)
    others = layout == "released"
    return Parts(
        resnet50(),
        query_key=nn.Conv2d(1024, 128, 3, padding=1),
        query_value=nn.Conv2d(1024, 512, 3, padding=1),
        memory_encoder=MemoryEncoder(resnet50(in_channels=5 if others else 4), others),
        memory_key=nn.Conv2d(1024, 128, 3, padding=1),
        memory_value=nn.Conv2d(1024, 512, 3, padding=1),
        decoder=Decoder(PairConvolution(512, 512, 256), channels=(256, 256, 256), outputs=2, skip_block=True),
        sizes=Sizes("full", key_channels=128, value_channels=512, stride=16, cell=16),
        layout=layout,
    )


def tiny_parts() -> Parts:
    """Keys of 32 channels and values of 64, 8 of them the mask itself, at stride 4, for frames of about 128 pixels. Sizes: ours."""
    return Parts(
        TinyImageEncoder(out_channels=64),
        query_key=nn.Conv2d(64, 32, 3, padding=1),
        query_value=nn.Identity(),
        memory_encoder=MemoryEncoder(TinyImageEncoder(out_channels=64, in_channels=5), mask_channels=8),
        memory_key=nn.Conv2d(64, 32, 3, padding=1),
        memory_value=nn.Conv2d(64, 64 - 8, 3, padding=1),
        decoder=TinyDecoder(object_channels=64, image_channels=64),
        sizes=Sizes("tiny", 32, 64, stride=16, cell=4, short_side=128, mask_channels=8),
    )


class STM(MemoryNetwork):
    """Space-Time Memory network: `STM()` as released, `STM.tiny()` small, either with any reader.

    `reader`: a module of `tmrn_edu.memory`; None is STM's own, the space-time read by dot product / sqrt(ck), over all memory pixels.
    `layout`, unless `parts` bring theirs: what the memory encoder sees. "released": [R, G, B, mask, others], the authors' weights.
    "supplement": four channels, [R, G, B, mask], as TMRN's supplement describes STM; the TMRN form (`STM.tmrn`) uses it. Initial weights: as
    in `STCN`. Inference: the frame before is read as temporary memory, so every frame is encoded. Attributes: see `MemoryNetwork`.
    """

    similarity = staticmethod(dot_product)
    rules = InferenceRules(previous_frame=True, aggregate_given=False, pad_first=True)

    def __init__(self, reader: nn.Module | None = None, layout: str = "released", parts: Parts | None = None):
        parts = full_parts(layout) if parts is None else parts
        super().__init__(parts.sizes, reader, top_k=None)
        self.layout = parts.layout
        self.query_encoder, self.query_key, self.query_value = parts.query_encoder, parts.query_key, parts.query_value
        self.memory_encoder = parts.memory_encoder
        self.memory_key, self.memory_value = parts.memory_key, parts.memory_value
        self.decoder = parts.decoder
        self.train()

    @classmethod
    def tiny(cls, reader: nn.Module | None = None) -> "STM":
        """STM built of small parts, which learns on synthetic clips in minutes on a CPU. Sizes: ours."""
        return cls(reader, parts=tiny_parts())

    @classmethod
    def tmrn(cls, preset: str = "paper") -> "STM":
        """TMRN's STM in full size: the supplement's layout with TMRN's reader in preset "paper", "warm" or "chained"."""
        return cls(TrajectoryReader.preset(preset, 128, 512), layout="supplement")

    def settings(self) -> dict:
        """The arguments, beside the reader, that build this network again, as plain data."""
        return {"layout": self.layout} if self.preset == "full" else {}

    def encode(self, frames: Float[Tensor, "b 3 H W"]) -> FrameFeatures:
        """The query encoder: key, query value, and features for the decoder.

        Shapes: `b 3 H W`, RGB in [0, 1] -> key `b ck h w`, query value `b cq h w`, with h = H / cell. Raises ValueError unless H
        and W are multiples of `stride`. Source: STM, section 3.1 ("Query encoder").
        """
        self.check_frames(frames)
        *finer, coarse = self.query_encoder(self.normalise(frames))
        with full_precision(frames):
            key = self.query_key(coarse.to(frames.dtype))
        return FrameFeatures(key, self.query_value(coarse), coarse, tuple(reversed(finer)))

    def encode_memory(
        self, frames: Float[Tensor, "b 3 H W"], object_masks: Float[Tensor, "b o H W"]
    ) -> tuple[Float[Tensor, "b o ck h w"], Float[Tensor, "b o cv h w"]]:
        """The memory encoder: a key and a value per object, both made of image and mask.

        Every object's mask goes in with the sum of the others', clamped to [0, 1] (released layout). Raises ValueError if frames and
        masks differ in size. Source: STM, section 3.1 ("Memory encoder"); the fifth channel is the authors' code.
        """
        masks = stack_masks(frames, object_masks).clamp(0, 1)
        coarse = self.memory_encoder(self.normalise(frames), masks)
        with full_precision(frames):
            key = each_object(self.memory_key, coarse.to(frames.dtype))
        value = each_object(self.memory_value, coarse)
        if self.mask_channels:
            value = append_mask(value, object_masks, self.mask_channels)
        return key, value

    def memorize(
        self,
        frames: Float[Tensor, "b 3 H W"],
        features: FrameFeatures,
        object_masks: Float[Tensor, "b o H W"],
        index: FrameIndex,
        exact: bool = False,
    ) -> MemoryFrame:
        """Frame `index` and its masks, as the reader keeps them, objects in the batch axis. `features` are not needed here."""
        key, value = self.encode_memory(frames, object_masks)
        key, value = rearrange(key, "b o ck h w -> (b o) ck h w"), rearrange(value, "b o cv h w -> (b o) 1 cv h w")
        with full_precision(key):
            stored = self.reader.store(key, value, _of_objects(index, object_masks.shape[1]), exact)
        return replace(stored, batch_objects=object_masks.shape[1])

    def read(
        self, features: FrameFeatures, memory: Sequence[MemoryFrame], index: FrameIndex, insides: bool = False
    ) -> Readout:
        """Reads the memory for frame `index`: `b o cv h w`, each object by its own affinity.

        With `insides`, those of every object: their batch axis is (b o). Source: STM, section 3.2.
        """
        objects = memory[0].batch_objects if memory else 1
        query = Query(repeat(features.key, "b ck h w -> (b o) ck h w", o=objects), _of_objects(index, objects))
        with full_precision(features.key):
            readout = self.reader(memory, query, insides)
        return replace(readout, value=rearrange(readout.value, "(b o) 1 cv h w -> b o cv h w", o=objects))

    def decode(self, readout: Readout, features: FrameFeatures, sensory: Tensor | None = None) -> Decoded:
        """Readout and query value -> one logit per object and pixel. `sensory` is not used. Source: STM, section 3.3."""
        return self.decoder(readout.value, features.query_value, features.skips)


def _of_objects(index, objects):
    """Frame numbers of clips -> of (clips, objects), as STM's keys are."""
    return index if isinstance(index, int) else repeat(index, "b -> (b o)", o=objects)
