"""Training clips from sets of videos and stills: whose turn it is, which frames and objects, and how they are augmented.

One epoch visits every video of every set once, or `repeat` times, in a new random order. Which clip is made at a step follows from numbers
alone (see `clips.py`), so nothing is saved and workers share nothing. Source: STCN:train.py, XMem:train.py; the seeding is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.clips import FIRST_TRAINING_SEED, LEVEL_MIX, Source, TrainingClip
from tmrn_edu.data.files import DAMAGED, by, reason
from tmrn_edu.data.pasting import PastedVideo
from tmrn_edu.data.sampling import RULES, draw_frames, draw_objects, draw_references, listed_gap
from tmrn_edu.data.sets import Video, VideoSet
from tmrn_edu.data.synthetic import Clip, make_clip
from tmrn_edu.data.transforms import Augmentation
from tmrn_edu.errors import InputError

TRIALS = 5  # draws until the first frame shows an object (STCN:dataset/vos_dataset.py)
KEPT_BYTES = 10**9  # of synthetic clips kept by a process: 800 videos of 12 frames of 120 x 160
ORDER, CLIP = 0, 1  # what a random generator is for


_kept: dict[tuple, Clip] = {}  # the one used last stands last


def kept_clip(*recipe) -> Clip:
    """`make_clip`, or what it gave for the same arguments, as long as there is room."""
    clip = _kept.pop(recipe, None)
    if clip is None:
        clip = make_clip(*recipe)
        room = KEPT_BYTES - sum(5 * each.layers.numel() for each in (clip, *_kept.values()))
        while room < 0 and _kept:
            room += 5 * _kept.pop(next(iter(_kept))).layers.numel()
    _kept[recipe] = clip
    return clip


@dataclass(frozen=True)
class SyntheticVideo:
    """The synthetic clip of a seed as a `Video`: made when first needed, and again when too many others came between."""

    seed: int
    level: str
    length: int = 8
    size: tuple[int, int] = (120, 160)  # (H, W)
    objects: int = 1

    @property
    def name(self) -> str:
        """ "synthetic 10000003"."""
        return f"synthetic {self.seed}"

    @property
    def clip(self) -> Clip:
        """The clip with its exact paths."""
        return kept_clip(self.seed, self.level, self.length, self.size, self.objects)

    def __len__(self) -> int:
        """Number of frames."""
        return self.length

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """Frame `t` as RGB."""
        return self.clip.frames[t]

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """Index mask of frame `t`."""
        return self.clip.index_masks[t]


def synthetic_set(
    count: int, length: int = 8, size: tuple[int, int] = (120, 160), seed: int = 0, objects: int = 1
) -> VideoSet:
    """`count` synthetic videos of `length` frames: seeds and levels are those of `SyntheticClips(count, seed=seed)`.

    Raises InputError for less than one video; `make_clip` says what else cannot be made, when it is needed. Source: ours.
    """
    if count < 1:
        raise InputError(f"{count} synthetic videos were asked for, expected 1 or more")
    first = FIRST_TRAINING_SEED + seed * count
    videos = (SyntheticVideo(first + i, LEVEL_MIX[i % 4], length, size, objects) for i in range(count))
    return VideoSet("synthetic", "video", tuple(videos))


class VideoClips:
    """A set of training clips over any sets of videos and stills. It holds paths and numbers only, so it goes to other processes cheaply.

    sets: what to draw from. augmentation: of every clip; `fine_tune_augmentation`, where given, of those sampled with fine_tune=True.
    objects: slots of a clip; at most so many of the objects in its first frame are chosen. rule: how frames are drawn, "walk" (STCN) or
    "spread" (XMem). references: how many memory frames a frame may read, the first always (XMem: 3 in clips of 8); None: all before it.
    stills: False: clips of videos, and sets of stills are left out. True: the first stage, where each still and each frame of each video
    becomes a clip of differently warped copies with one object. seed: of everything that is drawn.

    Raises InputError for sets that leave nothing to draw from, and for options that mean nothing. Source: the order, the trials and what
    a clip is: STCN:dataset/*.py, XMem:dataset/*.py.
    """

    def __init__(
        self,
        sets: Sequence[VideoSet],
        augmentation: Augmentation,
        fine_tune_augmentation: Augmentation | None = None,
        objects: int = 1,
        rule: str = "walk",
        references: int | None = None,
        stills: bool = False,
        seed: int = 0,
    ):
        if objects < 1 or (references is not None and references < 1):
            raise InputError(f"objects is {objects} and references {references}, expected 1 or more of each")
        if rule not in RULES:
            raise InputError(f"rule is {rule!r}, known are {', '.join(RULES)}")
        self.sets = tuple(each for each in sets if stills or each.kind != "stills")
        self.augmentation, self.fine_tune_augmentation = augmentation, fine_tune_augmentation or augmentation
        self.objects, self.rule, self.references, self.stills, self.seed = objects, rule, references, stills, seed
        self._lists = {}  # frames of a clip -> its entries; both memories only save work
        self._orders = {}  # (frames of a clip, epoch) -> order of the entries, the last one only
        if not any(each.videos for each in self.sets):
            there = ", ".join(f"{each.name} ({len(each.videos)} {each.kind})" for each in sets) or "no set at all"
            wanted = (
                "at least one still or video" if stills else "at least one video; stills are for the first stage only"
            )
            raise InputError(f"nothing to draw clips from: {there}; expected {wanted}")

    def prepare(self) -> None:
        """Does once what every process forked from this one would do again: paints synthetic videos, as many as are kept, and plans pasted ones."""
        room = KEPT_BYTES
        for video in (video for each in self.sets for video in each.videos):
            if isinstance(video, PastedVideo):
                _ = video.plan
            if not isinstance(video, SyntheticVideo):
                continue
            room -= 5 * video.length * video.size[0] * video.size[1]
            if room >= 0:
                _ = video.clip  # made, and kept

    def entries(self, frames: int) -> np.ndarray:
        """What an epoch visits in clips of `frames` frames, "n 3": (set, video, frame), frame -1 where it is drawn.

        Videos shorter than `frames` are left out (not for the first stage), each video is there `repeat` times.
        """
        if frames not in self._lists:
            found = [
                [(s, v, -1)] if not self.stills else [(s, v, t) for t in range(len(video))]
                for s, each in enumerate(self.sets)
                for v, video in enumerate(each.videos)
                for _ in range(each.repeat)
                if self.stills or len(video) >= frames
            ]
            self._lists[frames] = np.array([entry for part in found for entry in part], dtype=np.int64).reshape(-1, 3)
        return self._lists[frames]

    def check(self, batch: int, frames: int, max_gap: int) -> None:
        """Raises InputError where such clips cannot be made: no video long enough, fewer than 2 frames, no clips or no gap."""
        if batch < 1 or frames < 2 or max_gap < 1:
            raise InputError(
                f"{batch} clips of {frames} frames with gaps up to {max_gap}; expected 1 clip, 2 frames, a gap of 1, or more"
            )
        if not len(self.entries(frames)):
            longest = max(len(video) for each in self.sets for video in each.videos)
            raise InputError(f"clips of {frames} frames were asked for, the longest video has {longest}")

    def sample(
        self, step: int, position: int, batch: int, frames: int, max_gap: int = 1, fine_tune: bool = False
    ) -> TrainingClip:
        """Clip `position` of the `batch` clips of a training step.

        `max_gap` counts video frames (`draw_frames`; sets that list every n-th frame divide it by n). Frames, views and objects are drawn
        again, up to 5 times in all, while the first frame shows no object; then the clip has count 0. In the first stage, a frame of a
        video may be exchanged for another one of that video. Raises InputError where the clip cannot be made, or a file is damaged.
        """
        if not 0 <= position < batch:
            raise InputError(f"clip {position} of a batch of {batch} was asked for, expected 0 to {batch - 1}")
        self.check(batch, frames, max_gap)
        number = step * batch + position
        entries = self.entries(frames)
        epoch, place = divmod(number, len(entries))
        s, v, still = entries[self._order(frames, epoch)[place]].tolist()
        videos, augmentation = self.sets[s], self.fine_tune_augmentation if fine_tune else self.augmentation
        video, rng = videos.videos[v], np.random.default_rng([self.seed, CLIP, number])
        read = cache(partial(_read, video))  # each file once, however many views there are of it
        for trial in range(TRIALS):
            if self.stills:
                taken = (still if trial == 0 else int(rng.integers(len(video))),) * frames
            else:
                gap = listed_gap(max_gap, videos.frame_step)
                taken = draw_frames(rng, len(video), frames, gap, self.rule)
            views = augmentation.draw(rng, video.size, frames)
            given = views[0].mask(read("mask", taken[0]))
            chosen = draw_objects(rng, given.unique().tolist(), 1 if self.stills else self.objects)
            if chosen:
                break
        label = torch.zeros(256, dtype=torch.uint8)
        label[list(chosen)] = torch.arange(1, len(chosen) + 1, dtype=torch.uint8)
        shown = list(zip(views, taken, strict=True))
        numbers = [t * videos.frame_step for t in taken]
        since = range(frames) if self.stills else (abs(n - numbers[0]) for n in numbers)
        return TrainingClip(
            frames=torch.stack([view.frame(read("frame", t)) for view, t in shown]),
            index_masks=label[torch.stack([given, *(view.mask(read("mask", t)) for view, t in shown[1:])]).long()],
            count=len(chosen),
            objects=self.objects,
            indices=torch.tensor(list(since)),
            references=self._references(rng, frames),
            name=" ".join([video.name, *(f"{n:05}" for n in (numbers[:1] if self.stills else numbers))]),
            source=_source(video, taken, views),
        )

    def _references(self, rng, frames):
        few = self.references is None or frames - 1 <= self.references
        return None if few else draw_references(rng, frames, self.references)

    def _order(self, frames, epoch):
        if (frames, epoch) not in self._orders:
            rng = np.random.default_rng([self.seed, ORDER, epoch])
            self._orders = {(frames, epoch): rng.permutation(len(self.entries(frames)))}
        return self._orders[frames, epoch]


def _read(video: Video, kind: str, t: int) -> Tensor:
    """A frame or a mask; whatever is wrong with the file becomes an InputError with the video's name."""
    try:
        found = video.frame(t) if kind == "frame" else video.mask(t)
    except InputError:
        raise
    except DAMAGED as error:
        raise InputError(f"cannot read {kind} {t} of {video.name}: {reason(error)}") from error
    if tuple(found.shape[:2]) != tuple(video.size):
        raise InputError(f"{kind} {t} of {video.name} is {by(found.shape)}, the video is {by(video.size)}")
    return found


def _source(video, taken, views):
    if not isinstance(video, SyntheticVideo):
        return None
    return Source(partial(getattr, video, "clip"), taken, tuple(view.warp for view in views))
