"""Where methods differ: their errors on a frame, the window in which these are furthest apart, and frames worth showing.

    e_k(p) = 1 where the mask of method k is wrong at pixel p          (k: methods)
    E_k(W) = sum over p in W of e_k(p)                                 errors in a window W
    strength(W) = (max_k E_k(W) - min_k E_k(W)) / sqrt(area of W)      in pixels

Sums over a window let errors that two methods make at different pixels of it cancel: rims that are a pixel off, here in one
mask, there in the other, count for little. The root of the area makes the best window one that just covers the area in
question: a square of s x s pixels that one method has and another has not gives at most s, reached by that very window, whereas
a rim r pixels thick gives about r in windows of any size. So a strength is read as the side of a square.
All of it ours; numpy and einops only.
"""

from collections.abc import Sequence

import numpy as np
from einops import reduce
from jaxtyping import Bool, Int, Integer, Shaped
from torch import Tensor

from tmrn_edu.errors import InputError
from tmrn_edu.masks import VOID

Array = np.ndarray | Tensor
Box = tuple[int, int, int, int]  # y, x of the upper left pixel; height, width

GRID = 120  # cells along the short side: a window begins and ends on one
LEAST = 1 / 60  # of the short side: differences of less strength are rims, and get no box (8 pixels at 480p)
MARGIN = 1 / 30  # of the short side: what a box leaves free around the area in question
SECOND = 0.6  # a further box is worth drawing where it has this share of the first one's strength


def error_maps(
    masks: Sequence[Integer[Array, "_ _"]], truth: Integer[Array, "H W"] | None = None
) -> Bool[np.ndarray, "k H W"]:
    """Where each method is wrong: its label is not the true one, and the true one is not void (255).

    Without a truth, the first method stands for it, and is right everywhere. With a truth and one method alone, a second
    row of zeros stands for the truth itself, so that what differs "between methods" is that method's error.
    Raises `InputError` where the sizes differ.
    """
    masks = [np.asarray(mask) for mask in masks]
    right = masks[0] if truth is None else np.asarray(truth)
    for mask in masks:
        if mask.shape != right.shape:
            raise InputError(f"a mask is {mask.shape}, the one it is compared with {right.shape}: expected one size")
    wrong = np.stack([(mask != right) & (right != VOID) for mask in masks])
    return np.concatenate([wrong, np.zeros_like(wrong)]) if truth is not None and len(masks) == 1 else wrong


def strongest_window(errors: Bool[np.ndarray, "k H W"]) -> tuple[float, Box]:
    """The window in which the methods' errors are furthest apart: its strength in pixels, and its place.

    Tried are all places, to a cell of `GRID`, of windows from 2 cells to the short side, up to twice as long as wide.
    """
    short = min(errors.shape[1:])
    cell = max(1, short // GRID)
    height, width = (-(-side // cell) * cell for side in errors.shape[1:])
    padded = np.zeros((len(errors), height, width), dtype=np.int32)
    padded[:, : errors.shape[1], : errors.shape[2]] = errors
    totals = _running_sums(reduce(padded, "k (h y) (w x) -> k h w", "sum", y=cell, x=cell))
    longest = max(2, short // cell)
    sides = sorted({round(2 ** (step / 2)) for step in range(2, 40)} & set(range(2, longest)) | {longest})
    best = (0.0, (0, 0, *errors.shape[1:]))
    for i, tall in enumerate(sides):
        for wide in sides[max(0, i - 2) : i + 3]:  # neighbours differ by the root of 2: at most twice as long as wide
            if tall >= totals.shape[1] or wide >= totals.shape[2]:
                continue
            inside = (
                totals[:, tall:, wide:]
                - totals[:, :-tall, wide:]
                - totals[:, tall:, :-wide]
                + totals[:, :-tall, :-wide]
            )
            apart = inside.max(axis=0) - inside.min(axis=0)
            strength = float(apart.max()) / (cell * (tall * wide) ** 0.5)
            if strength > best[0]:
                y, x = np.unravel_index(apart.argmax(), apart.shape)
                best = strength, (int(y) * cell, int(x) * cell, tall * cell, wide * cell)
    return best


def find_boxes(errors: Bool[np.ndarray, "k H W"], most: int = 2) -> list[Box]:
    """Up to `most` boxes (y, x, height, width) around what the methods differ most in, the strongest first.

    The strongest window, drawn in to the pixels that its worst method has wrong and its best method right, and out again
    by a margin; then once more without what is in it or near it. Boxes do not touch. Empty where every difference is
    weaker than `LEAST`.
    """
    errors = errors.copy()
    size = errors.shape[1:]
    margin = max(1, round(MARGIN * min(size)))
    least, boxes = max(2.0, LEAST * min(size)), []
    for _ in range(most):
        strength, (y, x, tall, wide) = strongest_window(errors)
        if strength < least:
            break
        reach = max(tall, wide) // 8  # windows grow in steps: the next larger one may have been too large
        y, x = max(0, y - reach), max(0, x - reach)
        inside = errors[:, y : y + tall + 2 * reach, x : x + wide + 2 * reach]
        count = reduce(inside.astype(np.int64), "k h w -> k", "sum")
        rows, columns = np.nonzero(inside[count.argmax()] & ~inside[count.argmin()])
        top, left = max(0, y + rows.min() - margin), max(0, x + columns.min() - margin)
        bottom, right = min(size[0], y + rows.max() + 1 + margin), min(size[1], x + columns.max() + 1 + margin)
        box = (int(top), int(left), int(bottom - top), int(right - left))
        if any(_touch(box, other) for other in boxes):  # around the corner of an earlier one
            break
        boxes.append(box)
        near = 2 * margin  # of which the next box takes one for itself
        errors[:, max(0, top - near) : bottom + near, max(0, left - near) : right + near] = False
        least = max(least, SECOND * strength)
    return boxes


def is_wrong(errors: Bool[np.ndarray, "k H W"], box: Box) -> list[bool]:
    """For each method, whether its errors inside the box are nearer to the worst method's than to the best one's."""
    y, x, tall, wide = box
    count = reduce(errors[:, y : y + tall, x : x + wide].astype(np.int64), "k h w -> k", "sum")
    return (2 * count > count.max() + count.min()).tolist()


def choose_frames(strengths: Shaped[np.ndarray, "t"] | Sequence[float], count: int) -> tuple[int, ...]:
    """`count` frames spread over a clip, each where its stretch of the clip has the greatest strength.

    Frame 0, whose mask is given, is left out; the others are cut into `count` stretches of one length, and a frame is at
    least half a stretch later than the one before. Ties (methods that agree) go to the middle of the stretch. All
    frames of a clip that has no more. Raises `InputError` for a count below 1.
    """
    strengths = np.asarray(strengths, dtype=np.float64)
    if count < 1:
        raise InputError(f"{count} frames were asked for, expected at least 1")
    if len(strengths) <= count:
        return tuple(range(len(strengths)))
    borders = np.linspace(1, len(strengths), count + 1)
    half, chosen = (borders[1] - borders[0]) / 2, []
    for start, end in zip(borders, borders[1:], strict=False):
        first = round(start) if not chosen else max(round(start), int(np.ceil(chosen[-1] + half)))
        candidates = np.arange(first, max(first + 1, round(end)))
        best = candidates[strengths[candidates] == strengths[candidates].max()]
        chosen.append(int(best[len(best) // 2]))
    return tuple(chosen)


def _touch(one: Box, other: Box) -> bool:
    """Whether two boxes share a pixel or a side."""
    return all(
        one[axis] <= other[axis] + other[axis + 2] and other[axis] <= one[axis] + one[axis + 2] for axis in (0, 1)
    )


def _running_sums(counts: Int[np.ndarray, "k h w"]) -> Int[np.ndarray, "k h1 w1"]:
    """s[k, y, x] = sum of counts[k, :y, :x]: the sum over any window is then four look-ups."""
    sums = np.zeros((counts.shape[0], counts.shape[1] + 1, counts.shape[2] + 1), dtype=np.int64)
    sums[:, 1:, 1:] = counts.cumsum(axis=1).cumsum(axis=2)
    return sums
