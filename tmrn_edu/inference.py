"""Segmenting a video: one step, then the loop around it.

A step is the same everywhere. `segment_frame` reads the memory for one frame and returns its masks; `memorize_frame` stores a frame with
its masks. `roll_out` strings them together over a training clip, `Segmenter` over a stream of video frames, `segment` over a whole video, and
`look` does one read and keeps its insides for pictures.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm.auto import tqdm

from tmrn_edu.errors import InputError
from tmrn_edu.inputs import check_frame, check_index_mask, check_request, stack_frames
from tmrn_edu.masks import (
    MAX_OBJECTS,
    VOID,
    index_to_object_masks,
    pad_to_stride,
    probabilities_to_index_mask,
    soft_aggregation_logits,
    unpad,
)
from tmrn_edu.memory.readers import Insides, Readout
from tmrn_edu.memory.working import MemoryFrame, WorkingMemory


@dataclass(frozen=True)
class FrameSegmentation:
    """One frame, segmented."""

    logits: Float[Tensor, "b l H W"]  # soft-aggregated; background first
    readouts: tuple[Readout, ...]  # one per group of objects that share a memory
    features: object  # the network's FrameFeatures, reused when the frame is memorized

    @property
    def probabilities(self) -> Float[Tensor, "b l H W"]:
        """Soft aggregation: sums to one over labels."""
        return self.logits.softmax(dim=1)


def segment_frame(
    network: nn.Module,
    frames: Float[Tensor, "b 3 H W"],
    memories: Sequence[Sequence[MemoryFrame]],
    index: int,
    insides: bool = False,
) -> FrameSegmentation:
    """Masks of one frame, from memory.

    encode -> read -> decode -> sigmoid -> soft aggregation. Frames: RGB in [0, 1], any size (padded to the network's stride and cut
    back). `memories`: one list of memory frames per group of objects; objects are numbered through the groups. `index`: the frame's number
    in its video. Source: STM, section 3; the same for STCN and XMem.
    """
    padded, padding = pad_to_stride(frames, network.stride)
    features = network.encode(padded)
    readouts = tuple(network.read(features, memory, index, insides) for memory in memories)
    object_logits = torch.cat([network.decode(readout, features) for readout in readouts], dim=1)
    object_logits = object_logits.to(
        torch.promote_types(object_logits.dtype, torch.float32)
    )  # half cannot hold 1 - 1e-7
    logits = soft_aggregation_logits(unpad(object_logits, padding).sigmoid())
    return FrameSegmentation(logits, readouts, features)


def memorize_frame(
    network: nn.Module,
    frames: Float[Tensor, "b 3 H W"],
    object_masks: Float[Tensor, "b o H W"],
    index: int,
    exact: bool = False,
    features: object | None = None,
) -> MemoryFrame:
    """A memory frame of `frames` with the given masks, all objects together.

    `object_masks` in [0, 1]: true ones (`exact=True`) or predicted probabilities. `features`: what `segment_frame` computed for this frame,
    else it is encoded here. Source: STM, "Key and Value Embedding".
    """
    padded, _ = pad_to_stride(frames, network.stride)
    masks, _ = pad_to_stride(object_masks, network.stride)
    features = network.encode(padded) if features is None else features
    return network.memorize(padded, features, masks, index, exact)


def roll_out(
    network: nn.Module,
    frames: Float[Tensor, "b t 3 H W"],
    first_masks: Float[Tensor, "b o H W"],
    indices: Sequence[int] | None = None,
    memory_masks: Float[Tensor, "b o t H W"] | None = None,
) -> list[FrameSegmentation]:
    """Segments frames 1.. of a batch of clips; every frame joins the memory. What training differentiates.

    Frame 0 is memorized with `first_masks`, every later one with its own prediction, or with `memory_masks` where given (what a read is worth
    when the memory is clean). `indices`: video frame numbers, 0.. if None. Source: STCN's training.
    """
    indices = range(frames.shape[1]) if indices is None else indices
    memory = [memorize_frame(network, frames[:, 0], first_masks, indices[0], exact=True)]
    results = []
    for t in range(1, frames.shape[1]):
        result = segment_frame(network, frames[:, t], [memory], indices[t])
        results.append(result)
        if t + 1 < frames.shape[1]:
            given = memory_masks is not None
            masks = memory_masks[:, :, t] if given else result.probabilities[:, 1:]
            memory.append(memorize_frame(network, frames[:, t], masks, indices[t], given, result.features))
    return results


@dataclass(frozen=True)
class StepResult:
    """One frame of a stream, segmented, at the frame's own size."""

    index_mask: UInt8[Tensor, "H W"]  # the objects' own ids, 0 background
    probabilities: Float[Tensor, "l H W"]  # background, then objects in the order of `object_ids`
    object_ids: tuple[int, ...]  # objects known by now


@dataclass
class _Group:
    """Objects that entered together and share a memory."""

    object_ids: list[int]
    memory: WorkingMemory


class Segmenter:
    """Segments a stream frame by frame.

        segmenter = Segmenter(network)
        segmenter.step(frame_0, mask_0)              # a mask tells which objects there are
        segmenter.step(frame_1).index_mask           # later frames need none; another mask may add or correct objects

    Frame t joins the memory when it came with a mask or when `memory_every` frames have passed since the last one did. `max_frames` bounds
    the memory (see `WorkingMemory`). Frames are shrunk to `short_side` pixels first (None: the network's own preference, which may be the
    frame's size; 0: never); results come back at the frame's size. Objects that enter late get a memory of their own, which begins then.
    Source: STM, "Inference"; late objects as in STCN:inference_core_yv.py and XMem.
    """

    def __init__(
        self,
        network: nn.Module,
        memory_every: int = 5,
        max_frames: int | None = None,
        short_side: int | None = None,
        device: torch.device | str | None = None,
    ):
        if memory_every < 1:
            raise InputError(f"memory_every is {memory_every}, expected at least 1")
        torch.set_flush_denormal(
            True
        )  # the tails of sharp softmaxes are denormal numbers, several times slower on a CPU
        self.network = network.to(device).eval() if device is not None else network.eval()
        self.device = next(network.parameters()).device
        self.memory_every, self.max_frames = memory_every, max_frames
        self.short_side = network.short_side if short_side is None else short_side
        self.groups: list[_Group] = []
        self.index = -1  # of the last frame seen
        self.last_stored = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects known by now, in the order of the probabilities."""
        return tuple(name for group in self.groups for name in group.object_ids)

    @torch.inference_mode()
    def step(self, frame, index_mask=None) -> StepResult:
        """Segments the next frame; `index_mask` gives the masks of new objects, or corrects known ones.

        `frame`: uint8 `H W 3` or float `3 H W` in [0, 1]. `index_mask`: integers `H W`; 255 is void and counts as background. Where a mask is
        given the result repeats it. Raises InputError for frames or masks that cannot be used, before anything changes.
        """
        picture = check_frame(frame, self.index + 1)
        size = tuple(picture.shape[-2:])
        given = None if index_mask is None else check_index_mask(index_mask, size, self.index + 1)
        self.index += 1
        small = rearrange(_shrink(picture.to(self.device), self.short_side), "c H W -> 1 c H W")

        result, labels = None, small.new_ones(1, 1, *small.shape[-2:])  # before any object is known, all is background
        if self.groups:
            result = segment_frame(self.network, small, [group.memory.frames for group in self.groups], self.index)
            labels = result.probabilities
        if given is not None:
            labels = self._take_in(given, labels)
        if self.groups and (given is not None or self.index - self.last_stored >= self.memory_every):
            self._store(small, labels[:, 1:], given, None if result is None else result.features)
        return self._answer(labels, size, given)

    def _take_in(self, given: Tensor, labels: Tensor) -> Tensor:
        """New objects get a group; the given masks replace predictions, and nothing else may claim their pixels."""
        named = [int(i) for i in given.unique() if 0 < i != VOID]
        fresh = [name for name in named if name not in self.object_ids]
        if fresh:
            self.groups.append(_Group(fresh, WorkingMemory(self.max_frames)))
        grid = labels.shape[-2:]
        masks = rearrange(index_to_object_masks(given, named), "o H W -> 1 o H W").to(self.device)
        masks = F.interpolate(masks, size=grid, mode="area") if masks.shape[-2:] != grid else masks
        claimed = reduce(masks, "b o H W -> b 1 H W", "sum").clamp(max=1)
        objects = torch.cat([labels[:, 1:] * (1 - claimed), labels.new_zeros(1, len(fresh), *grid)], dim=1)
        for number, name in enumerate(named):
            objects[:, self.object_ids.index(name)] = masks[:, number]
        # These are probabilities over labels already, so the background is what is left over; no soft aggregation.
        background = (1 - reduce(objects, "b o H W -> b 1 H W", "sum")).clamp(min=0)
        return torch.cat([background, objects], dim=1)

    def _store(self, frame: Tensor, object_masks: Tensor, given: Tensor | None, features: object | None) -> None:
        """Memorizes all objects at once, then gives each group its own values; keys and agents are shared.

        For a group of which the given mask shows nothing, the frame is a predicted one.
        """
        stored = memorize_frame(self.network, frame, object_masks, self.index, given is not None, features)
        named = [] if given is None else given.unique().tolist()
        first = 0
        for group in self.groups:
            last = first + len(group.object_ids)
            exact = any(name in named for name in group.object_ids)
            group.memory.add(replace(stored, value=stored.value[:, first:last], exact=exact))
            first = last
        self.last_stored = self.index

    def _answer(self, labels: Tensor, size: tuple[int, int], given: Tensor | None) -> StepResult:
        """Back to the frame's size and to the objects' own ids; given masks are repeated to the pixel."""
        if labels.shape[-2:] != size:
            labels = F.interpolate(labels, size=size, mode="bilinear", align_corners=False)
        index_mask = probabilities_to_index_mask(labels[0], self.object_ids).cpu()
        if given is not None:
            corrected = torch.isin(index_mask, given.unique())
            index_mask = torch.where(corrected, 0, index_mask)
            index_mask = torch.where((given > 0) & (given != VOID), given, index_mask).to(torch.uint8)
        return StepResult(index_mask, labels[0].cpu(), self.object_ids)


@dataclass(frozen=True)
class Segmentation:
    """A whole video, segmented."""

    index_masks: UInt8[Tensor, "t H W"]  # the objects' own ids, 0 background
    probabilities: Float[Tensor, "t l H W"] | None  # background, then objects in the order of `object_ids`
    object_ids: tuple[int, ...]  # in the order in which they entered


def segment(
    network: nn.Module,
    frames: Iterable,
    masks: Mapping,
    memory_every: int = 5,
    max_frames: int | None = None,
    short_side: int | None = None,
    device: torch.device | str | None = None,
    keep_probabilities: bool = True,
    progress: bool = False,
) -> Segmentation:
    """Segments a video, given the mask of its first frame (and masks of later frames, if there are any).

    `frames`: uint8 `t H W 3`, or float RGB in [0, 1] `t 3 H W`. `masks`: frame number -> integers `H W` (0 background, 255 void); an object may
    enter late, and frames before the first mask are background. Other arguments as `Segmenter`. Probabilities take 4 t l H W bytes:
    `keep_probabilities=False` leaves them out, and a `Segmenter` keeps nothing at all. Raises InputError, before segmenting, for masks that are
    empty, of another size, or of frames that do not exist, and for frames that are no pictures. Source: method section 7.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"network is {network!r}, expected a network, such as tmrn_edu.load('stcn-tiny')")
    frames = frames if hasattr(frames, "shape") else stack_frames([torch.as_tensor(frame) for frame in frames])
    check_request(frames, masks)
    count = len(frames)
    segmenter = Segmenter(network, memory_every, max_frames, short_side, device)
    index_masks, probabilities = [], []
    for t in tqdm(range(count), desc="segment", unit="frame", disable=not progress):
        result = segmenter.step(frames[t], masks.get(t))
        index_masks.append(result.index_mask)
        if keep_probabilities:
            probabilities.append(result.probabilities)
    labels = 1 + len(segmenter.object_ids)
    every = [F.pad(p, (0, 0, 0, 0, 0, labels - len(p))) for p in probabilities]  # objects that had not entered yet: 0
    return Segmentation(torch.stack(index_masks), torch.stack(every) if every else None, segmenter.object_ids)


@dataclass(frozen=True)
class Look:
    """One query frame read from memory frames with known masks: what figures and widgets are drawn from."""

    frames: UInt8[Tensor, "t H W 3"]  # the whole video
    index_masks: UInt8[Tensor, "t H W"]  # its masks
    query: int  # which frame asks
    memory: tuple[int, ...]  # which frames are read, in the order of time
    insides: Insides  # b = 1
    readout: Readout  # b = 1
    predicted: UInt8[Tensor, "H W"]  # the query frame's masks as segmented
    cell: int  # pixels per grid cell; grid cell (y, x) covers pixels cell * y - offset ... of the frame
    offset: tuple[int, int]  # padding above and to the left of the frame, in pixels

    def pixel_to_cell(self, y: float | int, x: float | int) -> tuple[int, int]:
        """The grid cell that holds a pixel of the frame."""
        return int((y + self.offset[0]) // self.cell), int((x + self.offset[1]) // self.cell)

    def cell_to_pixel(self, position: Float[Tensor, "2 *any"]) -> Float[Tensor, "2 *any"]:
        """The pixel at the middle of a (fractional) grid position (y, x)."""
        offset = torch.tensor(self.offset, dtype=position.dtype)
        return (position + 0.5) * self.cell - 0.5 - offset.reshape(2, *[1] * (position.ndim - 1))


@torch.inference_mode()
def look(network: nn.Module, frames, index_masks, query: int, memory: Sequence[int]) -> Look:
    """Reads frame `query` from the frames `memory`, whose masks are given, and keeps the insides.

    `frames`: uint8 `t H W 3`; `index_masks`: integers `t H W`; objects are all labels of the memory frames. The frames are used at their own size.
    Raises InputError for frame numbers outside the video or an empty memory. Source: ours.
    """
    frames, index_masks = torch.as_tensor(frames), torch.as_tensor(index_masks).to(torch.uint8)
    memory = tuple(sorted(int(t) for t in memory))
    outside = [t for t in (query, *memory) if not 0 <= t < len(frames)]
    if outside or not memory:
        raise InputError(
            f"frames {outside or 'none'} asked for, expected at least one memory frame, all from 0 to {len(frames) - 1}"
        )
    ids = [int(i) for i in index_masks[list(memory)].unique() if 0 < i != VOID]
    if not ids:
        raise InputError(
            f"masks of the memory frames {memory} hold no object, expected at least one label from 1 to {MAX_OBJECTS}"
        )
    network.eval()
    device = next(network.parameters()).device
    picture = {t: rearrange(check_frame(frames[t], t), "c H W -> 1 c H W").to(device) for t in (query, *memory)}
    stored = [
        memorize_frame(
            network, picture[t], index_to_object_masks(index_masks[t : t + 1], ids).to(device), t, exact=t == memory[0]
        )
        for t in memory
    ]
    result = segment_frame(network, picture[query], [stored], query, insides=True)
    if result.readouts[0].insides is None:
        raise InputError(
            f"{type(network.reader).__name__} returned no insides, expected memory.Insides when asked for them"
        )
    padding = pad_to_stride(picture[query], network.stride)[1]
    return Look(
        frames=frames,
        index_masks=index_masks,
        query=query,
        memory=memory,
        insides=result.readouts[0].insides,
        readout=result.readouts[0],
        predicted=probabilities_to_index_mask(result.probabilities[0], ids).cpu(),
        cell=network.cell,
        offset=(padding.top, padding.left),
    )


def _shrink(picture: Float[Tensor, "3 H W"], short_side: int | None) -> Tensor:
    """Shrinks a frame so that its short side has `short_side` pixels; smaller frames, and None or 0, stay as they are."""
    height, width = picture.shape[-2:]
    if not short_side or min(height, width) <= short_side:
        return picture
    scale = short_side / min(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    small = F.interpolate(
        rearrange(picture, "c H W -> 1 c H W"), size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return small[0]
