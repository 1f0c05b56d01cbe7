"""Segmenting a video: `Segmenter` frame by frame, as a stream; `segment` a whole one.

What must be remembered from frame to frame is here: groups of objects and their memories, the rules by which frames join them, XMem's
sensory memory. What happens to one frame is in `inference.py`.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from tqdm.auto import tqdm

from tmrn_edu.errors import InputError
from tmrn_edu.folding import inference_copy, reduced_precision
from tmrn_edu.inference import memorize_frame, pad_frames, pad_masks, segment_frame
from tmrn_edu.inputs import PICTURES, as_tensor, check_frame, check_index_mask, check_request, stack_frames
from tmrn_edu.masks import (
    VOID,
    Padding,
    index_to_object_masks,
    probabilities_to_index_mask,
    soft_aggregation,
    unpad,
)
from tmrn_edu.memory.working import MemoryFrame, WorkingMemory
from tmrn_edu.weights import DEFAULT_NETWORK, load


def shrink(picture: Float[Tensor, "3 H W"], short_side: int | None) -> Tensor:
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
    is deeply updated with every memory frame, or with those that are `deep_update_every` frames after the last such update.
    `max_frames` bounds the memory (see `WorkingMemory`); None: the network's own bound, 5 in mobile networks, none in others; a number larger
    than the video keeps all. Frames are shrunk to `short_side` pixels first (None: the network's own preference, which may be the frame's size;
    0: never); results come back
    at the frame's size. Objects that enter late get a memory of their own, which begins then. `precision`: "fp32", or "bf16" for faster
    convolutions where the processor has them (see `inference_copy`). The network is moved to `device` and put into eval mode; what runs is a copy,
    made here, where there is something to fold or to round, else the network itself. Groups are read one after another, so objects that enter at
    different times cost a read each. Every frame of a video has one size.
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
            "max_frames": max_frames,
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
        self.short_side = network.short_side if short_side is None else short_side
        self.reset()

    def reset(self) -> "Segmenter":
        """Forgets everything: the next frame is the first of a new video. Returns itself."""
        self.size: tuple[int, int] | None = None  # of all frames
        self.groups: list[_Group] = []
        self.sensory: Tensor | None = None  # XMem's, for all objects
        self.index = -1  # of the last frame seen
        self.last_stored = self.last_deep = None
        return self

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
        if self.size not in (None, size):
            raise InputError(f"frame {self.index + 1} is {size}, the frames before it were {self.size} (height, width)")
        given = None if index_mask is None else check_index_mask(index_mask, size, self.index + 1)
        self.index, self.size = self.index + 1, size
        small = rearrange(shrink(picture.to(self.device), self.short_side), "c H W -> 1 c H W")
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
        known = 0 if given is None else sum(name in given for name in self.object_ids)
        if known == len(self.object_ids):  # no object, or the masks of all are given: nothing is left to find out
            labels = torch.cat([labels, labels.new_zeros(1, known, *padded.shape[-2:])], dim=1)
        else:
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
            self.groups.append(_Group(fresh, WorkingMemory(self.rules.max_frames)))
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
        fresh = self.network.start_sensory(features.key, len(self.object_ids) - known)
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
    network: nn.Module | str | None = None,
    frames: Iterable = (),
    masks: Mapping | None = None,
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

        te.segment(frames=frames, masks={0: first_mask})                      the shipped network for real video
        te.segment(network, frames, {0: first_mask, 30: mask_of_frame_30})    one of yours, or a shipped one by its name

    `network`: None is `weights.DEFAULT_NETWORK`. `frames`: uint8 `t H W 3`, or float RGB in [0, 1] `t 3 H W`. `masks`: frame number -> integers
    `H W` (0 background, 255 void); an object may enter late, and frames before the first mask are background. Other arguments as `Segmenter`.
    Probabilities take 4 t l H W bytes: `keep_probabilities=False` leaves them out, and a `Segmenter` keeps nothing at all. Raises InputError,
    before segmenting, for masks that are empty, of another size, or of frames that do not exist, for frames that are no pictures, and for a
    name that no shipped network has. Source: ours.
    """
    if not isinstance(network, nn.Module | str | None):
        given = f"of shape {tuple(network.shape)}" if hasattr(network, "shape") else repr(network)
        raise InputError(
            f"network is a {type(network).__name__} {given}; expected a network such as tmrn_edu.load('stcn-tiny'), a shipped one's name, "
            "or None; frames go by name: segment(frames=...)"
        )
    if isinstance(frames, str | os.PathLike) or not hasattr(frames, "__iter__"):
        raise InputError(f"frames are a {type(frames).__name__}, expected pictures, {PICTURES}")
    if not hasattr(frames, "shape"):
        frames = stack_frames([as_tensor(frame, f"frame {t}", PICTURES) for t, frame in enumerate(frames)])
    masks = {} if masks is None else masks
    check_request(frames, masks)
    if not isinstance(network, nn.Module):
        network = load(DEFAULT_NETWORK if network is None else network)
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
