"""One step, the same everywhere: `segment_frame` reads the memory for a frame and returns its masks, `memorize_frame` stores a frame with its masks.

`roll_out` strings them together over a training clip, `segmenter.py` over a stream of video frames, and `looking.py` does one read and keeps its
insides for pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from tmrn_edu.decoder import Decoded
from tmrn_edu.masks import Padding, pad_to_stride, soft_aggregation_logits, unpad
from tmrn_edu.memory.readers import Readout
from tmrn_edu.memory.working import FrameIndex, MemoryFrame, pick_frames


@dataclass(frozen=True)
class FrameSegmentation:
    """One frame, segmented."""

    logits: Float[Tensor, "b l H W"]  # soft-aggregated; background first
    memory_masks: Float[Tensor, "b o Hp Wp"]  # the objects' probabilities at the padded size, as the memory takes them
    readouts: tuple[Readout, ...]  # one per group of objects that share a memory
    features: object  # the network's FrameFeatures, reused when the frame is memorized
    decoded: Decoded  # all objects together; XMem's sensory memory is updated from it

    @property
    def probabilities(self) -> Float[Tensor, "b l H W"]:
        """Soft aggregation: sums to one over labels."""
        return self.logits.softmax(dim=1)


def pad_frames(network: nn.Module, frames: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b 3 Hp Wp"], Padding]:
    """Frames of any size, padded to the network's stride: with the mean colour, which is 0 once normalised, or with black (STM).

    They come back in the precision of the network's weights. Source: STCN and XMem pad what is normalised already, STM what is not
    (`InferenceRules.pad_first`).
    """
    frames = frames.to(network.normalise.mean.dtype)
    if network.rules.pad_first:
        return pad_to_stride(frames, network.stride)
    blank, padding = pad_to_stride(torch.zeros_like(frames), network.stride)
    padded = blank + network.normalise.mean
    height, width = frames.shape[-2:]
    padded[..., padding.top : padding.top + height, padding.left : padding.left + width] = frames
    return padded, padding


def pad_masks(network: nn.Module, object_masks: Float[Tensor, "b o H W"]) -> Float[Tensor, "b o Hp Wp"]:
    """Object masks with zeros around them, of the size that `pad_frames` gives their frames."""
    return pad_to_stride(object_masks, network.stride)[0]


def segment_frame(
    network: nn.Module,
    frames: Float[Tensor, "b 3 H W"],
    memories: Sequence[Sequence[MemoryFrame]],
    index: FrameIndex,
    insides: bool = False,
    sensory: Float[Tensor, "b o cs h w"] | None = None,
    present: Float[Tensor, "b o"] | None = None,
) -> FrameSegmentation:
    """Masks of one frame, from memory.

    encode -> read -> decode -> sigmoid -> soft aggregation. Frames: RGB in [0, 1], any size (padded to the network's stride and cut
    back). `memories`: one list of memory frames per group of objects; objects are numbered through the groups. `index`: the frame's number
    in its video. `sensory`: XMem's state after the frame before; `network.update_sensory` makes the next one of it and of `decoded`.
    `present`: in training, where clips of a batch may have fewer objects than there are slots, 1 for slots that are filled; the others'
    probabilities become 0. Source: STM, section 3; the same for STCN, XMem and GSFM.
    """
    padded, padding = pad_frames(network, frames)
    features = network.encode(padded)
    readouts = tuple(network.read(features, memory, index, insides) for memory in memories)
    every = Readout(torch.cat([readout.value for readout in readouts], dim=1))
    decoded = network.decode(every, features, sensory)
    object_logits = decoded.logits.to(
        torch.promote_types(decoded.logits.dtype, torch.float32)
    )  # half rounds 1 - 1e-7 to 1
    object_probabilities = object_logits.sigmoid()
    if present is not None:
        object_probabilities = object_probabilities * rearrange(present, "b o -> b o 1 1")
    padded_logits = soft_aggregation_logits(object_probabilities)
    logits = unpad(padded_logits, padding)
    if network.rules.pad_first:  # the padding is cut off, and comes back as zeros
        memory_masks = pad_masks(network, logits.softmax(dim=1)[:, 1:])
    else:
        memory_masks = padded_logits.softmax(dim=1)[:, 1:]
    return FrameSegmentation(logits, memory_masks, readouts, features, decoded)


def memorize_frame(
    network: nn.Module,
    frames: Float[Tensor, "b 3 H W"],
    object_masks: Float[Tensor, "b o Hm Wm"],
    index: FrameIndex,
    exact: bool = False,
    features: object | None = None,
) -> MemoryFrame:
    """A memory frame of `frames` with the given masks, all objects together.

    `object_masks` in [0, 1]: true ones (`exact=True`) or predicted probabilities, at the frame's size or already padded
    (`FrameSegmentation.memory_masks`). `features`: what `segment_frame` computed for this frame, else it is encoded here.
    Source: STM, "Key and Value Embedding".
    """
    padded, _ = pad_frames(network, frames)
    masks = object_masks if object_masks.shape[-2:] == padded.shape[-2:] else pad_masks(network, object_masks)
    features = network.encode(padded) if features is None else features
    return network.memorize(padded, features, masks.to(padded.dtype), index, exact)


def roll_out(
    network: nn.Module,
    frames: Float[Tensor, "b t 3 H W"],
    first_masks: Float[Tensor, "b o H W"],
    indices: Sequence[int] | Int[Tensor, "b t"] | None = None,
    memory_masks: Float[Tensor, "b o t H W"] | None = None,
    generator: torch.Generator | None = None,
    present: Float[Tensor, "b o"] | None = None,
    references: Int[Tensor, "b t r"] | None = None,
    memory_every: int = 1,
) -> list[FrameSegmentation]:
    """Segments frames 1.. of a batch of clips; every frame joins the memory, or each `memory_every`-th. What training differentiates.

    Frame 0 is memorized with `first_masks`, every later one with its own prediction, or with `memory_masks` where given (what a read is worth
    when the memory is clean). `indices`: video frame numbers, 0.. if None; `b t` where every clip has its own. `present`: as in
    `segment_frame`. `references`: frame t > r reads, in clip b, only the r frames references[b, t] of those before it (XMem's training); None:
    all of them (with `memory_every` 1). Both index tensors lie on the CPU. XMem's sensory memory is updated by every decoded frame, and
    deeply by the first one and, in training, by each later one with the network's `deep_update_probability` (drawn from
    `generator`, one of the CPU); in evaluation by every `network.rules.memory_every`-th, whatever joins the memory here. STM's frame before is not
    read beside the memory. Source: STCN's and XMem's training.
    """
    if indices is None:
        indices = range(frames.shape[1])
    elif isinstance(indices, Tensor):
        indices = rearrange(indices, "b t -> t b")
    features = network.encode(pad_frames(network, frames[:, 0])[0])
    memory = [memorize_frame(network, frames[:, 0], first_masks, indices[0], exact=True, features=features)]
    sensory = network.start_sensory(features.key, first_masks.shape[1])
    sensory = network.deep_update(sensory, memory[0])
    results = []
    for t in range(1, frames.shape[1]):
        picked = references is not None and t > references.shape[2]
        read = pick_frames(memory, references[:, t]) if picked else memory
        result = segment_frame(network, frames[:, t], [read], indices[t], sensory=sensory, present=present)
        results.append(result)
        if t + 1 < frames.shape[1]:
            given = memory_masks is not None
            masks = memory_masks[:, :, t] if given else result.memory_masks
            stored = memorize_frame(network, frames[:, t], masks, indices[t], given, result.features)
            if t % memory_every == 0:
                memory.append(stored)
            sensory = network.update_sensory(sensory, result.decoded)
            if _is_deep(network, t, generator):
                sensory = network.deep_update(sensory, stored)
    return results


def _is_deep(network: nn.Module, t: int, generator: torch.Generator | None) -> bool:
    """Whether frame t of a clip gets a deep update."""
    if not network.training:
        return t % network.rules.memory_every == 0
    probability = network.deep_update_probability
    return probability > 0 and torch.rand((), generator=generator).item() < probability
