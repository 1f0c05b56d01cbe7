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

from tmrn_edu.decoder import Decoded
from tmrn_edu.errors import InputError
from tmrn_edu.folding import inference_copy, reduced_precision
from tmrn_edu.inputs import check_frame, check_index_mask, check_request, stack_frames
from tmrn_edu.masks import (
    MAX_OBJECTS,
    VOID,
    Padding,
    index_to_object_masks,
    pad_to_stride,
    probabilities_to_index_mask,
    soft_aggregation,
    soft_aggregation_logits,
    unpad,
)
from tmrn_edu.memory.readers import Insides, Readout
from tmrn_edu.memory.working import MemoryFrame, WorkingMemory


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
    index: int,
    insides: bool = False,
    sensory: Float[Tensor, "b o cs h w"] | None = None,
) -> FrameSegmentation:
    """Masks of one frame, from memory.

    encode -> read -> decode -> sigmoid -> soft aggregation. Frames: RGB in [0, 1], any size (padded to the network's stride and cut
    back). `memories`: one list of memory frames per group of objects; objects are numbered through the groups. `index`: the frame's number
    in its video. `sensory`: XMem's state after the frame before; `network.update_sensory` makes the next one of it and of `decoded`.
    Source: STM, section 3; the same for STCN, XMem and GSFM.
    """
    padded, padding = pad_frames(network, frames)
    features = network.encode(padded)
    readouts = tuple(network.read(features, memory, index, insides) for memory in memories)
    every = Readout(torch.cat([readout.value for readout in readouts], dim=1))
    decoded = network.decode(every, features, sensory)
    object_logits = decoded.logits.to(
        torch.promote_types(decoded.logits.dtype, torch.float32)
    )  # half rounds 1 - 1e-7 to 1
    padded_logits = soft_aggregation_logits(object_logits.sigmoid())
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
    index: int,
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
    indices: Sequence[int] | None = None,
    memory_masks: Float[Tensor, "b o t H W"] | None = None,
    generator: torch.Generator | None = None,
) -> list[FrameSegmentation]:
    """Segments frames 1.. of a batch of clips; every frame joins the memory. What training differentiates.

    Frame 0 is memorized with `first_masks`, every later one with its own prediction, or with `memory_masks` where given (what a read is worth
    when the memory is clean). `indices`: video frame numbers, 0.. if None. XMem's sensory memory is updated by every decoded frame, and
    deeply by the first one and, in training, by each later one with the network's `deep_update_probability` (drawn from `generator`); in
    evaluation by every `memory_every`-th. Source: STCN's and XMem's training.
    """
    indices = range(frames.shape[1]) if indices is None else indices
    features = network.encode(pad_frames(network, frames[:, 0])[0])
    memory = [memorize_frame(network, frames[:, 0], first_masks, indices[0], exact=True, features=features)]
    sensory = network.start_sensory(features, first_masks.shape[1])
    sensory = network.deep_update(sensory, memory[0])
    results = []
    for t in range(1, frames.shape[1]):
        result = segment_frame(network, frames[:, t], [memory], indices[t], sensory=sensory)
        results.append(result)
        if t + 1 < frames.shape[1]:
            given = memory_masks is not None
            masks = memory_masks[:, :, t] if given else result.memory_masks
            memory.append(memorize_frame(network, frames[:, t], masks, indices[t], given, result.features))
            sensory = network.update_sensory(sensory, result.decoded)
            if _is_deep(network, t, generator):
                sensory = network.deep_update(sensory, memory[-1])
    return results


def _is_deep(network: nn.Module, t: int, generator: torch.Generator | None) -> bool:
    """Whether frame t of a clip gets a deep update."""
    if not network.training:
        return t % network.rules.memory_every == 0
    probability = network.deep_update_probability
    return probability > 0 and torch.rand((), generator=generator).item() < probability


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
    previous: MemoryFrame | None = None  # the frame before, read for one step (STM)

    @property
    def frames(self) -> list[MemoryFrame]:
        """What the next frame is read from."""
        return self.memory.frames if self.previous is None else [*self.memory.frames, self.previous]


class Segmenter:
    """Segments a stream frame by frame.

        segmenter = Segmenter(network)
        segmenter.step(frame_0, mask_0)              # a mask tells which objects there are
        segmenter.step(frame_1).index_mask           # later frames need none; another mask may add or correct objects

    The rules are the network's own (`network.rules`, as its authors run it) unless given: frame t joins the memory when it came with a mask or
    when `memory_every` frames have passed since the last one did; with `previous_frame` the frame before is read too; XMem's sensory memory
    is deeply updated with memory frames, or `deep_update_every` so many frames. `max_frames` bounds the memory (see `WorkingMemory`). Frames
    are shrunk to `short_side` pixels first (None: the network's own preference, which may be the frame's size; 0: never); results come back
    at the frame's size. Objects that enter late get a memory of their own, which begins then. `precision`: "fp32", or "bf16" for faster
    convolutions where the processor has them (see `inference_copy`). Changes to the network's weights after this are not seen.
    Source: STM, "Inference"; late objects as in STCN:inference_core_yv.py and XMem:inference/inference_core.py.
    """

    def __init__(
        self,
        network: nn.Module,
        memory_every: int | None = None,
        max_frames: int | None = None,
        short_side: int | None = None,
        device: torch.device | str | None = None,
        previous_frame: bool | None = None,
        deep_update_every: int | None = None,
        precision: str = "fp32",
    ):
        given = {
            "memory_every": memory_every,
            "previous_frame": previous_frame,
            "deep_update_every": deep_update_every,
        }
        self.rules = replace(network.rules, **{name: value for name, value in given.items() if value is not None})
        for name in ("memory_every", "deep_update_every"):
            if given[name] is not None and given[name] < 1:
                raise InputError(f"{name} is {given[name]}, expected at least 1")
        torch.set_flush_denormal(
            True
        )  # the tails of sharp softmaxes are denormal numbers, several times slower on a CPU
        self.network = inference_copy(network.to(device).eval() if device is not None else network.eval(), precision)
        self.device = next(network.parameters()).device
        self.precision = precision
        self.max_frames = max_frames
        self.short_side = network.short_side if short_side is None else short_side
        self.groups: list[_Group] = []
        self.sensory: Tensor | None = None  # XMem's, for all objects
        self.index = -1  # of the last frame seen
        self.last_stored = self.last_deep = None

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
        with reduced_precision(small, self.precision):
            labels = self._segment(small, given)
        return self._answer(unpad(labels, pad_frames(self.network, small)[1]), size, given)

    def _segment(self, frame: Tensor, given: Tensor | None) -> Float[Tensor, "1 l Hp Wp"]:
        """Labels of one frame at the padded size, everything that must be remembered of it remembered."""
        padded, padding = pad_frames(self.network, frame)
        features, labels = None, frame.new_ones(1, 1, *padded.shape[-2:])  # nothing known yet: all is background
        joins = given is not None or bool(self.groups) and self.index - self.last_stored >= self.rules.memory_every
        deep = joins and (
            self.rules.deep_update_every is None  # together with memory frames
            or self.last_deep is None
            or self.index - self.last_deep >= self.rules.deep_update_every
        )
        if self.groups:
            frames = [group.frames for group in self.groups]
            result = segment_frame(self.network, frame, frames, self.index, sensory=self.sensory)
            features, objects = result.features, result.memory_masks
            labels = torch.cat([(1 - reduce(objects, "b o H W -> b 1 H W", "sum")).clamp(min=0), objects], dim=1)
            if not deep or self.rules.deep_update_every is not None:
                self.sensory = self.network.update_sensory(self.sensory, result.decoded)
        if given is not None:
            labels = self._take_in(given, labels, padding)
        if self.groups and (joins or self.rules.previous_frame):
            self._store(padded, labels[:, 1:], given, features, joins, deep)
        return labels

    def _take_in(self, given: Tensor, labels: Tensor, padding: Padding) -> Tensor:
        """New objects get a group; the given masks replace predictions, and nothing else may claim their pixels."""
        named = [int(i) for i in given.unique() if 0 < i != VOID]
        fresh = [name for name in named if name not in self.object_ids]
        if fresh:
            self.groups.append(_Group(fresh, WorkingMemory(self.max_frames)))
        grid = unpad(labels, padding).shape[-2:]
        masks = rearrange(index_to_object_masks(given, named), "o H W -> 1 o H W").to(self.device)
        masks = F.interpolate(masks, size=grid, mode="area") if masks.shape[-2:] != grid else masks
        masks = pad_masks(self.network, masks)
        claimed = reduce(masks, "b o H W -> b 1 H W", "sum").clamp(max=1)
        objects = torch.cat([labels[:, 1:] * (1 - claimed), labels.new_zeros(1, len(fresh), *labels.shape[-2:])], dim=1)
        for number, name in enumerate(named):
            objects[:, self.object_ids.index(name)] = masks[:, number]
        if self.rules.aggregate_given:  # as the authors of STCN and XMem do
            return soft_aggregation(objects)
        background = (1 - reduce(objects, "b o H W -> b 1 H W", "sum")).clamp(min=0)
        return torch.cat([background, objects], dim=1)

    def _store(
        self,
        padded: Tensor,
        object_masks: Tensor,
        given: Tensor | None,
        features: object | None,
        joins: bool,
        deep: bool,
    ) -> None:
        """Memorizes all objects at once, then gives each group its own part; shared keys and agents stay shared.

        A frame that does not join the memory is kept for the next frame only. For a group of which the given mask shows nothing, the frame is
        a predicted one.
        """
        features = self.network.encode(padded) if features is None else features
        stored = memorize_frame(self.network, padded, object_masks, self.index, given is not None, features)
        named = [] if given is None else given.unique().tolist()
        first = 0
        for group in self.groups:
            last = first + len(group.object_ids)
            exact = any(name in named for name in group.object_ids)
            part = replace(stored.of_objects(first, last), exact=exact)
            if joins:
                group.memory.add(part)
            kept = any(frame is part for frame in group.memory.frames)  # a full memory may have refused it
            group.previous = part if self.rules.previous_frame and not kept else None
            first = last
        if joins:
            self.last_stored = self.index
        self._remember(stored, features, deep)

    def _remember(self, stored: MemoryFrame, features: object, deep: bool) -> None:
        """The sensory memory: zeros for objects that are new, then the deep update, if this frame gets one."""
        known = 0 if self.sensory is None else self.sensory.shape[1]
        fresh = self.network.start_sensory(features, len(self.object_ids) - known)
        if fresh is not None:
            self.sensory = fresh if self.sensory is None else torch.cat([self.sensory, fresh], dim=1)
        if deep:
            self.sensory = self.network.deep_update(self.sensory, stored)
            self.last_deep = self.index

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
    memory_every: int | None = None,
    max_frames: int | None = None,
    short_side: int | None = None,
    device: torch.device | str | None = None,
    previous_frame: bool | None = None,
    deep_update_every: int | None = None,
    precision: str = "fp32",
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
    segmenter = Segmenter(
        network, memory_every, max_frames, short_side, device, previous_frame, deep_update_every, precision
    )
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
    insides: Insides  # b = 1; where every object has an affinity of its own (STM), that of the object asked for
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


_PER_CLIP = ("affinity", "temporal_weights", "aligned_value", "trajectory")  # fields of Insides with an axis b


@torch.inference_mode()
def look(
    network: nn.Module, frames, index_masks, query: int, memory: Sequence[int], object_id: int | None = None
) -> Look:
    """Reads frame `query` from the frames `memory`, whose masks are given, and keeps the insides.

    `frames`: uint8 `t H W 3`; `index_masks`: integers `t H W`; objects are all labels of the memory frames. The frames are used at their own size.
    `object_id`: whose affinity is kept where every object has its own (STM); None is the first. Raises InputError for frame numbers outside
    the video, an empty memory, or an object that it does not hold. Source: ours.
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
    if object_id is not None and object_id not in ids:
        raise InputError(f"object {object_id} asked for, masks of the memory frames {memory} hold {ids}")
    network.eval()
    device = next(network.parameters()).device
    picture = {t: rearrange(check_frame(frames[t], t), "c H W -> 1 c H W").to(device) for t in (query, *memory)}
    stored = [
        memorize_frame(
            network, picture[t], index_to_object_masks(index_masks[t : t + 1], ids).to(device), t, exact=t == memory[0]
        )
        for t in memory
    ]
    sensory = network.start_sensory(network.encode(pad_frames(network, picture[query])[0]), len(ids))
    for frame in stored:  # XMem: as if nothing but these frames had been seen
        sensory = network.deep_update(sensory, frame)
    result = segment_frame(network, picture[query], [stored], query, insides=True, sensory=sensory)
    insides = result.readouts[0].insides
    if insides is None:
        raise InputError(
            f"{type(network.reader).__name__} returned no insides, expected memory.Insides when asked for them"
        )
    if len(insides.affinity) > 1:
        number = ids.index(ids[0] if object_id is None else object_id)
        insides = replace(insides, **{name: getattr(insides, name)[number : number + 1] for name in _PER_CLIP})
    padding = pad_frames(network, picture[query])[1]
    return Look(
        frames=frames,
        index_masks=index_masks,
        query=query,
        memory=memory,
        insides=insides,
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
