"""Which frames and which objects of a video make a training clip, and which earlier frames each frame may read.

Two rules for frames, both reversed in time with probability one half:

    walk     start, then steps of 1 .. max_gap + 1                           STCN:dataset/vos_dataset.py
    spread   a set that grows by frames within max_gap of one it has         XMem:dataset/vos_dataset.py
"""

import numpy as np
import torch
from jaxtyping import Int
from numpy.random import Generator
from torch import Tensor

from tmrn_edu.errors import InputError
from tmrn_edu.masks import VOID


def listed_gap(max_gap: int, frame_step: int) -> int:
    """A gap given in video frames, counted in listed frames: max(1, max_gap // frame_step).

    YouTube-VOS lists every fifth frame, so 5, 10, .. 25 become 1, 2, .. 5. Source: STCN:train.py, XMem:train.py.
    """
    return max(1, max_gap // frame_step)


def walk(rng: Generator, length: int, frames: int, max_gap: int) -> tuple[int, ...]:
    """Ascending frame numbers: each is 1 to max_gap + 1 after the one before it.

    With J = min(length, max_gap), the start is uniform in 0 .. length - J, and frame k of n is at most length - J (n - k) / (n - 1),
    rounded up, so that starts near the end do not crowd the last frames. For 3 frames these are the authors' limits, length - J and length - J // 2
    (other numbers of frames are ours). At a limit the authors may take a frame twice; here the next one is taken.
    Raises InputError where the video is too short. Source: STCN:dataset/vos_dataset.py.
    """
    _check(length, frames, max_gap)
    reach = min(length, max_gap)
    numbers = [int(rng.integers(0, min(length - reach, length - frames) + 1))]
    for k in range(1, frames):
        step = int(rng.integers(1, reach + 2))
        limit = max(length - reach * (frames - k) // (frames - 1), numbers[-1] + 1)
        numbers.append(min(numbers[-1] + step, limit, length - frames + k))
    return tuple(numbers)


def spread(rng: Generator, length: int, frames: int, max_gap: int) -> tuple[int, ...]:
    """Ascending frame numbers: one anywhere, then each uniform among the unused frames within max_gap of any chosen one.

    Neighbours are at most max_gap apart. Raises InputError where the video is too short. Source: XMem:dataset/vos_dataset.py.
    """
    _check(length, frames, max_gap)
    near = np.zeros(length, dtype=bool)
    chosen = [int(rng.integers(length))]
    while len(chosen) < frames:
        near[max(0, chosen[-1] - max_gap) : chosen[-1] + max_gap + 1] = True
        free = near.copy()
        free[chosen] = False
        chosen.append(int(rng.choice(np.flatnonzero(free))))
    return tuple(sorted(chosen))


RULES = {"walk": walk, "spread": spread}


def draw_frames(rng: Generator, length: int, frames: int, max_gap: int, rule: str = "walk") -> tuple[int, ...]:
    """Frame numbers of a clip of `frames` frames, in the order in which they are shown: descending in half of the draws.

    `length` and `max_gap` count listed frames (`listed_gap`). Raises InputError for an unknown rule and for a video with fewer frames than
    asked for. Source: `walk` and `spread`, which `rule` names.
    """
    if rule not in RULES:
        raise InputError(f"rule is {rule!r}, known are {', '.join(RULES)}")
    numbers = RULES[rule](rng, length, frames, max_gap)
    return numbers[::-1] if rng.random() < 0.5 else numbers


def draw_objects(rng: Generator, labels, objects: int) -> tuple[int, ...]:
    """At most `objects` of the labels of a mask, in random order; 0 (background) and 255 (void) are none.

    All subsets of that size are equally likely. XMem keeps ascending order where all fit; slots mean nothing, so here it is random always.
    Source: STCN:dataset/vos_dataset.py, XMem:dataset/vos_dataset.py.
    """
    ids = sorted({int(label) for label in labels} - {0, VOID})
    return tuple(ids[i] for i in rng.permutation(len(ids))[:objects])


def draw_references(rng: Generator, frames: int, references: int) -> Int[Tensor, "t r"]:
    """Which frames of a clip each frame may read: the first, and references - 1 random ones of those between, ascending.

    Rows t <= references are zeros: such a frame has no more than `references` before it and reads them all. Raises InputError for
    less than one reference. Source: XMem:model/trainer.py.
    """
    if references < 1:
        raise InputError(f"references is {references}, expected 1 or more")
    rows = torch.zeros(frames, references, dtype=torch.int64)
    for t in range(references + 1, frames):
        rows[t, 1:] = torch.from_numpy(np.sort(1 + rng.choice(t - 1, size=references - 1, replace=False)))
    return rows


def _check(length, frames, max_gap):
    if not 1 <= frames <= length or max_gap < 1:
        raise InputError(
            f"{frames} frames with gaps up to {max_gap} from a video of {length}; expected 1 to {length} frames and a gap of 1 or more"
        )
