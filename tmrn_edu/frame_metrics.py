"""J and F of one object in one frame.

J asks whether the right pixels are marked, F whether the outline lies in the right place. `metrics.py` makes clips of
frames and data sets of clips, and has both names too.

Both masks are kept as one picture of bits, 1 where the prediction is and 2 where the truth is. Outlines, and outlines
grown by the tolerance, are ORs and XORs of shifted pictures, so every step does both masks at once.

Source: Perazzi et al., CVPR 2016. What the paper leaves open (which pixels are "boundary", what an empty mask scores)
is as in the DAVIS 2017 evaluation.
"""

from math import ceil, hypot, isqrt

import numpy as np
from jaxtyping import Shaped
from torch import Tensor

from tmrn_edu.errors import InputError

Array = np.ndarray | Tensor

TOLERANCE = 0.008  # how far a boundary pixel may be off, as a share of the image diagonal: 8 pixels at 480x854
PREDICTION, TRUTH, BOTH = np.uint8(1), np.uint8(2), np.uint8(3)  # the two bits


def region_similarity(
    prediction: Shaped[Array, "H W"],
    truth: Shaped[Array, "truth_H truth_W"],
    void: Shaped[Array, "void_H void_W"] | None = None,
) -> float:
    """J, the overlap of two masks: intersection over union.

    `J = |prediction and truth| / |prediction or truth|`, and 1 when both are empty.

    prediction, truth: `H W`, bool, or integers where anything but 0 is the object. void: `H W` bool, pixels not
    counted. Returns a number in [0, 1]. Raises InputError when the shapes differ or a mask holds fractions.
    Source: Perazzi et al. 2016, section 5.1.
    """
    return _overlap(_bits(*_pair(prediction, truth, void)))


def boundary_accuracy(
    prediction: Shaped[Array, "H W"],
    truth: Shaped[Array, "truth_H truth_W"],
    tolerance: float | int = TOLERANCE,
    void: Shaped[Array, "void_H void_W"] | None = None,
) -> float:
    """F, the agreement of two outlines: harmonic mean of boundary precision and boundary recall.

    `F = 2 P R / (P + R)`; P is the share of the prediction's boundary pixels within `tolerance` of a true boundary
    pixel, R the share of the true boundary pixels within `tolerance` of a predicted one.

    prediction, truth, void: as in `region_similarity`. tolerance: below 1 a share of the image diagonal, rounded up
    to whole pixels; from 1 on, pixels. Returns a number in [0, 1]: 1 when neither mask has a boundary, 0 when one of
    them has none. A mask that fills the image has no boundary, so full against empty scores F = 1 (and J = 0): the
    official evaluation does the same. Raises InputError as `region_similarity` does, and for a negative tolerance.
    Source: Perazzi et al. 2016, section 5.1; the definition of "boundary pixel" is the DAVIS evaluation's.
    """
    if tolerance < 0:
        raise InputError(f"boundary tolerance is {tolerance}, must be 0 or more")
    prediction, truth = _pair(prediction, truth, void)
    return _outlines(_bits(prediction, truth), _pixels(tolerance, truth.shape))


def region_and_boundary(
    prediction: Shaped[np.ndarray, "H W"],
    truth: Shaped[np.ndarray, "H W"],
    label: int,
    void: int | None = None,
) -> tuple[float, float]:
    """(J, F) of one object of two index masks, at the usual tolerance: what `metrics.score` needs of every frame.

    prediction, truth: `H W` integers of one shape (not checked). label: the object's id. void: the label of truth
    pixels that do not count. Equal to `region_similarity` and `boundary_accuracy` of `mask == label`. Source: ours.
    """
    prediction, object_mask = prediction == label, truth == label
    if void is not None:
        prediction &= truth != void
    bits = _bits(prediction, object_mask)
    return _overlap(bits), _outlines(bits, _pixels(TOLERANCE, truth.shape))


def _pair(prediction, truth, void):
    """Both masks as bool arrays of one shape, cleared where `void` is set."""
    prediction, truth = integers(prediction, "prediction"), integers(truth, "ground truth")
    if prediction.shape != truth.shape:
        raise InputError(f"prediction is {size(prediction)}, ground truth is {size(truth)}")
    prediction, truth = prediction.astype(bool), truth.astype(bool)
    if void is not None:
        void = integers(void, "void mask").astype(bool)
        if void.shape != truth.shape:
            raise InputError(f"void mask is {size(void)}, ground truth is {size(truth)}")
        prediction, truth = prediction & ~void, truth & ~void
    return prediction, truth


def integers(mask: Array, name: str) -> np.ndarray:
    """The mask as a numpy array, refusing probabilities: thresholding them is the caller's decision."""
    mask = as_numpy(mask)
    if mask.dtype.kind not in "biu":
        raise InputError(f"{name} is {mask.dtype}, masks are bool or integers")
    return mask


def as_numpy(x) -> np.ndarray:
    """A tensor on any device, an array or a list as an array."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else np.asarray(x)


def size(x) -> str:
    """A shape in words: "480x854"."""
    return "x".join(str(n) for n in x.shape)


def _pixels(tolerance, shape):
    return ceil(tolerance if tolerance >= 1 else tolerance * hypot(*shape))


def _bits(prediction, truth):
    """The picture of bits of two bool masks, without the rows and columns that have no part in J or F."""
    window = _window(prediction | truth)
    return prediction[window].astype(np.uint8) | truth[window] * TRUTH


def _window(mask):
    """Slices around everything in `mask` and a pixel more on each side: this cuts no boundary off and adds none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return slice(0, 0), slice(0, 0)
    rows = slice(max(rows[0] - 1, 0), rows[-1] + 2)
    columns = np.flatnonzero(mask[rows].any(axis=0))
    return rows, slice(max(columns[0] - 1, 0), columns[-1] + 2)


def _overlap(bits):
    union = np.count_nonzero(bits)
    return np.count_nonzero(bits == BOTH) / union if union else 1.0


def _outlines(bits, radius):
    outlines = _boundary(bits)
    predicted, true = np.count_nonzero(outlines & PREDICTION), np.count_nonzero(outlines & TRUTH)
    if predicted == 0 or true == 0:
        return float(predicted == true)
    near = _dilate(outlines, radius)
    precision = np.count_nonzero(outlines & (near >> 1) & PREDICTION) / predicted
    recall = np.count_nonzero(outlines & (near << 1) & TRUTH) / true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _boundary(bits):
    """Of each mask, the pixels that differ from their right, lower or lower-right neighbour, where there is one."""
    outlines = np.zeros_like(bits)
    outlines[:, :-1] = bits[:, :-1] ^ bits[:, 1:]
    outlines[:-1] |= bits[:-1] ^ bits[1:]
    outlines[:-1, :-1] |= bits[:-1, :-1] ^ bits[1:, 1:]
    return outlines


def _dilate(bits, radius):
    """Bits of all pixels within `radius` (Euclidean, inclusive) of a pixel: the picture grown by a disk.

    A disk is a stack of horizontal runs: at height dy it reaches w(dy) = floor(sqrt(radius^2 - dy^2)) to both sides.
    So grow all rows by 1, 2, ... radius, keep each picture, and for every dy add the one grown by w(dy), shifted by dy.
    Exact, with about 4 radius ORs of the whole picture instead of the disk's pi radius^2. With `radius` empty columns
    at the right, a row's end can grow no further than there, and rows may lie end to end: shifts are then of one
    long line, to the right by dx or by dy times its stride, which is the quickest there is for the processor.
    """
    height, width = bits.shape
    stride = width + radius
    line = np.pad(bits, ((0, 0), (0, radius))).ravel()
    grown_rows = [line]
    for dx in range(1, radius + 1):
        grown_rows.append(_or_shifted(grown_rows[-1].copy(), line, dx))
    dilated = grown_rows[radius].copy()
    for dy in range(1, min(radius, height - 1) + 1):
        _or_shifted(dilated, grown_rows[isqrt(radius**2 - dy**2)], dy * stride)
    return dilated.reshape(height, stride)[:, :width]


def _or_shifted(line, other, shift):
    """`line |= other`, moved by `shift` to the right and to the left; in place."""
    line[shift:] |= other[:-shift]
    line[:-shift] |= other[shift:]
    return line
