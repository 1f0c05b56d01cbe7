"""Training clips: a few frames of a video with its chosen objects, and how several of them make a batch.

A *set of training clips* is anything with

    objects                                                                      slots for objects in every clip
    sample(step, position, batch, frames, max_gap, fine_tune=False)              one `TrainingClip`
    check(batch, frames, max_gap)                                                raises InputError where such clips cannot be made

`batch` is the whole batch of a training step over all processes, `position` the clip's place in it. A sample is a pure function of these
numbers and of the set's seed: there is no state to save, and a run is the same with any number of workers or processes, resumed or not.
Ours; the authors' loaders draw from global generators.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from tmrn_edu.data.scenes import inside_frame
from tmrn_edu.data.synthetic import Clip, make_clip
from tmrn_edu.data.warps import Warp, exchange, mirror
from tmrn_edu.errors import InputError
from tmrn_edu.masks import index_to_object_masks

# Seeds from here on belong to training; held-out clips have smaller ones.
FIRST_TRAINING_SEED = 10_000_000
VIDEO_LENGTH = 8  # frames per video, unless asked otherwise
# How often each level of difficulty is drawn.
LEVEL_MIX = ("easy", "medium", "medium", "hard")


@dataclass(frozen=True, eq=False)
class Source:
    """Which frames of which synthetic clip a training clip was made from, and how they were warped."""

    clip: Callable[[], Clip]  # makes the clip when it is asked for
    numbers: tuple[int, ...]  # frame number in that clip, for each of the t frames
    warps: tuple[Warp, ...]  # pixel of the training clip -> pixel of that frame


@dataclass(frozen=True, eq=False)
class TrainingClip:
    """One clip as a network is trained on it."""

    frames: Float[Tensor, "t 3 H W"]  # RGB in [0, 1]
    index_masks: UInt8[Tensor, "t H W"]  # 0 background, 1..count the chosen objects; void and all other objects are 0
    count: int  # objects chosen, 0..objects
    objects: int  # slots
    indices: Int[Tensor, " t"]  # video frames since the clip's first one, ascending from 0, for reversed clips too
    references: Int[Tensor, "t r"] | None = (
        None  # memory frames (positions in the clip) of frame t; None: all before t. Rows t <= r: unused
    )
    name: str = ""  # "bear 00003 00007 00010": what finds it again
    source: Source | None = None  # only where the video has exact paths

    def correspondence(self, query: int, memory: int) -> tuple[Float[Tensor, "H W 2"], Bool[Tensor, "H W"]]:
        """Where what each pixel of frame `query` shows is in frame `memory`, through all warps: (positions, visible).

            position = inverse warp_memory(track(warp_query(pixel)))

        Positions are "H W 2", (y, x) in pixels of this clip; as in `Clip.correspondence` they are exact, and where `visible` is False they
        may lie anywhere. A pixel outside the picture it was warped from shows nothing, so it is not visible. `query` and `memory` are
        places in this clip, 0..t-1. Raises InputError for other places, and where the video has no exact paths. Source: ours.
        """
        count, _, height, width = self.frames.shape
        for what, t in (("query", query), ("memory", memory)):
            if not 0 <= t < count:
                raise InputError(f"{what} is frame {t}, the clip has frames 0 to {count - 1}")
        if self.source is None:
            raise InputError(f"{self.name or 'this clip'} comes from files, exact paths exist in synthetic clips only")
        clip, numbers, warps = self.source.clip(), self.source.numbers, self.source.warps
        points = rearrange(warps[query].grid((height, width)), "H W yx -> (H W) yx")
        shown = inside_frame(points[:, 0], points[:, 1], *clip.layers.shape[1:])
        positions, visible = clip.track(points, numbers[query], numbers[memory])
        positions = warps[memory].target(positions.double()).float()
        visible = visible & shown & inside_frame(positions[:, 0], positions[:, 1], height, width)
        return (
            rearrange(positions, "(H W) yx -> H W yx", H=height),
            rearrange(visible, "(H W) -> H W", H=height),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """Clips of one length and size, ready for a network."""

    frames: Float[Tensor, "b t 3 H W"]  # RGB in [0, 1]
    object_masks: Float[Tensor, "b o t H W"]  # zeros and ones; empty slots are all zero
    indices: (
        tuple[int, ...] | Int[Tensor, "b t"]
    )  # video frames since the clip's first one; a tuple where all clips share them
    present: Float[Tensor, "b o"] | None = (
        None  # 1 where the slot is filled; None: all are. A clip without object counts as one (authors)
    )
    references: Int[Tensor, "b t r"] | None = None  # as in `TrainingClip`
    names: tuple[str, ...] = ()  # one a clip

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.frames)

    def to(self, device: str | torch.device) -> "Batch":
        """The same batch on another device; `indices` and `references` stay on the CPU, where the readers want them."""
        there = self._each(lambda tensor: tensor.to(device))
        return replace(there, indices=self.indices, references=self.references)

    def split(self, parts: int) -> list["Batch"]:
        """The clips in `parts` batches of one size, in order. Raises InputError where their number is no multiple of `parts`. Source: ours."""
        if parts < 1 or len(self) % parts:
            raise InputError(f"{len(self)} clips do not split into {parts} equal parts")
        size = len(self) // parts
        ranges = [slice(i * size, (i + 1) * size) for i in range(parts)]
        return [self._each(lambda tensor, clips=clips: tensor[clips], clips) for clips in ranges]

    def _each(self, change: Callable[[Tensor], Tensor], clips: slice = slice(None)) -> "Batch":
        maybe = lambda tensor: None if tensor is None else change(tensor)
        indices = self.indices if isinstance(self.indices, tuple) else change(self.indices)
        return Batch(
            change(self.frames),
            change(self.object_masks),
            indices,
            maybe(self.present),
            maybe(self.references),
            self.names[clips],
        )


def collate(clips: Sequence[TrainingClip]) -> Batch:
    """Clips of one length and size as one batch.

    Object masks are the index masks' labels 1..objects, one channel each: "t H W" -> "o t H W". `indices` is a tuple where all clips have
    the same, `present` and `references` are None where no clip needs them. Raises InputError for no clips, and for clips of different
    shapes, slots or references, naming both. Source: ours.
    """
    if not clips:
        raise InputError("0 clips were given, a batch needs at least 1")
    first = clips[0]
    for clip in clips[1:]:
        if _form(clip) != _form(first):
            raise InputError(
                f"{clip.name or 'a clip'} has {_form(clip)}, {first.name or 'the first'} has {_form(first)}"
            )
    labels = torch.stack([clip.index_masks for clip in clips])
    indices = torch.stack([clip.indices for clip in clips])
    shared = bool((indices == indices[:1]).all())
    counts = torch.tensor([max(1, clip.count) for clip in clips])
    full = bool((counts >= first.objects).all())
    slots = torch.arange(first.objects)
    return Batch(
        frames=torch.stack([clip.frames for clip in clips]),
        object_masks=rearrange(index_to_object_masks(labels, range(1, first.objects + 1)), "b t o H W -> b o t H W"),
        indices=tuple(indices[0].tolist()) if shared else indices,
        present=None if full else (slots < rearrange(counts, "b -> b 1")).float(),
        references=None if first.references is None else torch.stack([clip.references for clip in clips]),
        names=tuple(clip.name for clip in clips),
    )


def _form(clip: TrainingClip) -> str:
    references = "none" if clip.references is None else clip.references.shape[1]
    return f"frames of shape {tuple(clip.frames.shape)}, {clip.objects} objects, references {references}"


class SyntheticClips:
    """A fixed set of synthetic videos from which clips are drawn, small and without augmentation but mirroring and the like.

    `count` videos of `length` frames at `size` pixels are made when first needed and kept as bytes (96 x 96, 8 frames: 0.3 MB a video).
    A copy sent to another process starts empty and makes its own. Source: ours.
    """

    objects = 1

    def __init__(self, count: int = 2400, length: int = VIDEO_LENGTH, size: tuple[int, int] = (96, 96), seed: int = 0):
        self.count, self.length, self.size, self.seed = count, length, size, seed
        self._empty()

    def check(self, batch: int, frames: int, max_gap: int) -> None:
        """Raises InputError where such batches cannot be made."""
        if batch > self.count:
            raise InputError(f"a batch has {batch} clips, the data set has {self.count}; expected at least as many")
        if frames < 2 or (frames - 1) * max_gap + 1 > self.length:
            raise InputError(
                f"{frames} frames with gaps up to {max_gap}, expected 2 frames or more within videos of {self.length}"
            )

    def sample(
        self, step: int, position: int, batch: int, frames: int, max_gap: int = 1, fine_tune: bool = False
    ) -> TrainingClip:
        """Clip `position` of the `batch` clips of a training step: neighbouring frames 1 to `max_gap` video frames apart.

        Whole clips are reversed in time, mirrored, and have rows and columns exchanged (square clips only), each with probability one half.
        The clips of a step are of different videos and share their gaps; `fine_tune` changes nothing. Raises InputError when the frames
        asked for do not fit into a video, or the clip not into the batch or the set. Source: ours.
        """
        if (frames - 1) * max_gap + 1 > self.length:
            raise InputError(
                f"{frames} frames with gaps up to {max_gap} need {(frames - 1) * max_gap + 1} video frames, videos have {self.length}"
            )
        if not 0 <= position < batch <= self.count:
            raise InputError(f"clip {position} of a batch of {batch} was asked for, the data set has {self.count}")
        rng = np.random.default_rng([self.seed, step])
        gaps = rng.integers(1, max_gap + 1, size=frames - 1)
        indices = np.concatenate([[0], np.cumsum(gaps)])
        number = rng.choice(self.count, size=batch, replace=False).tolist()[position]
        for _ in range(position + 1):  # the draws of the clips before this one are thrown away
            start = rng.integers(0, self.length - indices[-1])
            reverse, flip, turn = (bool(rng.random() < 0.5) for _ in range(3))
        taken = start + indices
        taken = self.length - 1 - taken if reverse else taken
        self._make(number)
        picture, mask = self._frames[number][taken], self._masks[number][taken]
        warp = Warp()
        if flip:
            picture, mask, warp = picture[:, :, ::-1], mask[:, :, ::-1], Warp((mirror(self.size[1]),))
        if turn and self.size[0] == self.size[1]:
            picture, mask = rearrange(picture, "t H W c -> t W H c"), rearrange(mask, "t H W -> t W H")
            warp = Warp((exchange(),)).then(warp.steps[0]) if flip else Warp((exchange(),))
        numbers = tuple(taken.tolist())
        return TrainingClip(
            frames=rearrange(torch.from_numpy(np.ascontiguousarray(picture)), "t H W c -> t c H W").float() / 255,
            index_masks=torch.from_numpy((mask == 1).astype(np.uint8)),
            count=1,
            objects=1,
            indices=torch.from_numpy(indices),
            name=f"synthetic {number} frames {' '.join(map(str, numbers))}",
            source=Source(partial(make_clip, *self._recipe(number)), numbers, (warp,) * frames),
        )

    def batch(self, step: int, clips: int, frames: int, max_gap: int = 1) -> Batch:
        """All clips of a training step at once; `indices` is one tuple. Arguments and errors as in `sample`."""
        return collate([self.sample(step, position, clips, frames, max_gap) for position in range(clips)])

    def _recipe(self, number):
        """What `make_clip` is given for a video."""
        return FIRST_TRAINING_SEED + self.seed * self.count + number, LEVEL_MIX[number % 4], self.length, self.size

    def _make(self, number):
        if not self._made[number]:
            clip = make_clip(*self._recipe(number))
            self._frames[number], self._masks[number] = clip.frames.numpy(), clip.index_masks.numpy()
            self._made[number] = True

    def _empty(self):
        self._frames = np.zeros((self.count, self.length, *self.size, 3), dtype=np.uint8)
        self._masks = np.zeros((self.count, self.length, *self.size), dtype=np.uint8)
        self._made = np.zeros(self.count, dtype=bool)

    def __getstate__(self):
        return {name: value for name, value in vars(self).items() if name not in ("_frames", "_masks", "_made")}

    def __setstate__(self, state):
        vars(self).update(state)
        self._empty()
