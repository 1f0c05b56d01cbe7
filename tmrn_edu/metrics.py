"""How good is a segmentation? J (region) and F (boundary) of DAVIS, and how far a match is from the true position.

J and F of one frame are in `frame_metrics.py`: `region_similarity` asks whether the right pixels are marked,
`boundary_accuracy` whether the outline lies in the right place. Both are in [0, 1], both are taken per object and per
frame, and everything else here is averaging. Arrays are numpy inside; torch tensors are welcome.

Source: Perazzi et al., CVPR 2016 (J, F, recall, decay) and Pont-Tuset et al., arXiv:1704.00675 (several objects).
Where the papers leave a choice open (which pixels are "boundary", what an empty mask scores) we do what the DAVIS
2017 evaluation does.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped

from tmrn_edu.errors import InputError
from tmrn_edu.frame_metrics import TOLERANCE as TOLERANCE
from tmrn_edu.frame_metrics import Array, as_numpy, integers, region_and_boundary, size
from tmrn_edu.frame_metrics import boundary_accuracy as boundary_accuracy
from tmrn_edu.frame_metrics import region_similarity as region_similarity
from tmrn_edu.masks import VOID

# ---------------------------------------------------------------------------------------------------------------------
# One object through a clip


@dataclass(frozen=True)
class Statistics:
    """What DAVIS reports of a measure's values through time."""

    mean: float  # average over frames, [0, 1]
    recall: float  # share of the frames above 0.5, [0, 1]
    decay: float  # mean of the first quarter minus mean of the last, [-1, 1]: how much is lost along the clip


def statistics(values: Sequence[float | int] | Shaped[Array, "k"]) -> Statistics:
    """Mean, recall and decay of one measure over the frames of one object.

    `recall = share of values > 0.5`; `decay = mean(first quarter) - mean(last quarter)`. The quarters' borders are
    `round(linspace(1, k, 5)) - 1`, halves rounded up, both ends included (so neighbouring quarters share a frame).

    values: `k` numbers, at least one. Raises InputError for none.
    Source: Perazzi et al. 2016, section 5.1. The official code keeps the borders as 8-bit numbers, which wrap around
    in clips of more than 255 scored frames (its decay is then wrong or NaN); here they do not.
    """
    values = as_numpy(values).astype(np.float64)
    if values.size == 0:
        raise InputError("statistics of 0 values, needs at least 1")
    # border i is floor(1 + (k - 1) i / 4 + 1/2) - 1, in whole numbers
    first_end, last_start = (int(((len(values) - 1) * i + 2) // 4) for i in (1, 3))
    return Statistics(
        mean=float(values.mean()),
        recall=float((values > 0.5).mean()),
        decay=float(values[: first_end + 1].mean() - values[last_start:].mean()),
    )


@dataclass(frozen=True)
class ObjectScore:
    """J and F of one object, summed up and frame by frame."""

    J: Statistics  # region similarity over the scored frames
    F: Statistics  # boundary accuracy over the scored frames
    J_frames: tuple[float, ...]  # J of each scored frame
    F_frames: tuple[float, ...]  # F of each scored frame
    frames: tuple[int, ...]  # which frames of the clip those are, counted from 0

    @property
    def JF(self) -> float:
        """J&F of this object, the mean of its J and its F."""
        return (self.J.mean + self.F.mean) / 2

    def as_dict(self) -> dict:
        """Plain numbers: J&F, then mean, recall and decay of J and of F."""
        return {"J&F": self.JF, **_named("J", self.J), **_named("F", self.F)}


def _named(name, values):
    return {name: values.mean, f"{name}_recall": values.recall, f"{name}_decay": values.decay}


# ---------------------------------------------------------------------------------------------------------------------
# A clip, and a set of clips


@dataclass(frozen=True)
class Score:
    """J, F and J&F of a clip or of a set of clips: averages over its objects, every object counting the same."""

    J: float  # mean region similarity, [0, 1]
    F: float  # mean boundary accuracy, [0, 1]
    JF: float  # "J&F" in tables: the mean of J and F
    J_recall: float  # mean over objects of the share of frames with J > 0.5
    J_decay: float  # mean over objects of J's decay
    F_recall: float  # the same two for F
    F_decay: float
    per_object: dict[Hashable, ObjectScore] = field(repr=False)  # by object id in a clip, by "clip/id" in a set

    def as_dict(self) -> dict:
        """Plain numbers, ready for JSON: "J&F", "J", "F", recalls, decays, and the same "per_object" (string keys)."""
        totals = {"J&F": self.JF, "J": self.J, "F": self.F}
        totals |= {name: getattr(self, name) for name in ("J_recall", "J_decay", "F_recall", "F_decay")}
        return totals | {"per_object": {str(key): value.as_dict() for key, value in self.per_object.items()}}


def score(
    prediction: Shaped[Array, "t H W"],
    truth: Shaped[Array, "truth_t truth_H truth_W"],
    void: int | None = None,
    workers: int = 1,
) -> Score:
    """J and F of a segmented clip, per object and averaged, by the semi-supervised DAVIS protocol.

    prediction, truth: index masks `t H W`, integers: 0 background, else the object's id. void: the label of truth
    pixels that count for nobody (255 in data sets that have it); without it such pixels are background, as in the
    DAVIS evaluation. workers: frames scored at a time, in threads; the numbers are the same to the bit.

    *Which objects.*  Every id found in the truth, except 0, 255 and `void`. In DAVIS all objects are in the first
    frame, labelled without gaps, so these are the official "labels 1 to the largest of the first frame". An id that
    only the prediction has is not scored by itself (it costs the object whose pixels it took); an object the
    prediction does not have scores J = F = 0 wherever the truth has it.

    *Which frames.*  An object's first mask is given to the method, so its frames are those after its first
    appearance; DAVIS also leaves out the clip's last frame. For an object in frame 0 these are frames 1 to t - 2.
    When nothing is left (a clip of two frames, an object that comes in the last frame but one), the last frame counts
    after all. An object that appears in the last frame only cannot be scored and is left out. [ours, beyond DAVIS:
    late objects and very short clips]

    Raises InputError when the shapes differ, when a mask holds fractions, when nothing can be scored, and for
    fewer than 1 worker.
    Source: Pont-Tuset et al. 2017, section 3; davis2017-evaluation.
    """
    prediction, truth = integers(prediction, "prediction"), integers(truth, "ground truth")
    if prediction.ndim != 3 or prediction.shape != truth.shape:
        raise InputError(
            f"prediction is {size(prediction)}, ground truth is {size(truth)}, both must be the same t H W"
        )
    if len(truth) < 2:
        raise InputError(f"the clip has {len(truth)} frame, scoring needs 2: the first frame's mask is given")
    with _mapping(workers) as each:
        labels = list(each(_labels, truth))  # of every frame
        ids = sorted(set().union(*labels) - {0, VOID, void})
        if not ids:
            there = sorted(set().union(*labels))
            raise InputError(f"ground truth has the labels {there}, none is an object (1 to 254)")
        frames = {label: _frames_after([label in one for one in labels]) for label in ids}
        todo = [(label, t) for label in ids for t in frames[label]]
        if not todo:
            raise InputError(
                f"objects {ids} appear in the last of {len(truth)} frames only, none is left to score them"
            )
        found = each(lambda one: region_and_boundary(prediction[one[1]], truth[one[1]], one[0], void), todo)
        values = dict(zip(todo, found, strict=True))
    per_object = {}
    for label in ids:
        if frames[label]:
            J, F = zip(*(values[label, t] for t in frames[label]), strict=True)
            per_object[label] = ObjectScore(statistics(J), statistics(F), J_frames=J, F_frames=F, frames=frames[label])
    return _average(per_object)


@contextmanager
def _mapping(workers) -> Iterator:
    """A `map` that does `workers` things at a time. Threads are enough: numpy lets other threads run while it counts."""
    if workers < 1:
        raise InputError(f"{workers} workers cannot score, needs at least 1")
    if workers == 1:
        yield map
        return
    with ThreadPoolExecutor(workers) as pool:
        yield pool.map


def _labels(index_mask):
    """The set of labels of a frame, looked for where a pixel differs from the one before: sorting all takes longer."""
    line = index_mask.ravel()
    return {int(label) for label in np.unique(np.append(line[:1], line[1:][line[1:] != line[:-1]]))}


def scored_frames(present: Shaped[Array, "t H W"]) -> tuple[int, ...]:
    """Frames on which an object counts: those after its first appearance, the clip's last only if that is all.

    present: `t H W` bool, the object's true mask. Returns frame numbers, none for an object that appears in the last
    frame only or never. Source: DAVIS for objects of frame 0; ours for the rest.
    """
    return _frames_after(as_numpy(present).any(axis=(1, 2)))


def _frames_after(visible):
    """`visible`: for every frame, whether the object is there."""
    appears = np.flatnonzero(visible)
    if appears.size == 0:
        return ()
    after, last = int(appears[0]) + 1, len(visible) - 1
    return tuple(range(after, last)) or tuple(range(after, last + 1))


def _average(per_object):
    def mean(measure, what):
        return float(np.mean([getattr(getattr(one, measure), what) for one in per_object.values()]))

    J, F = mean("J", "mean"), mean("F", "mean")
    return Score(
        J=J,
        F=F,
        JF=(J + F) / 2,
        J_recall=mean("J", "recall"),
        J_decay=mean("J", "decay"),
        F_recall=mean("F", "recall"),
        F_decay=mean("F", "decay"),
        per_object=per_object,
    )


def combine(scores: Mapping[str, Score]) -> Score:
    """One score of several clips: the average over all their objects, so a clip of three objects weighs threefold.

    scores: clip name -> its Score. Returns a Score whose objects are called "name/id". Raises InputError for no
    clips.
    Source: Pont-Tuset et al. 2017, section 3.
    """
    if not scores:
        raise InputError("a set of 0 clips cannot be scored, needs at least 1")
    return _average({f"{name}/{label}": one for name, clip in scores.items() for label, one in clip.per_object.items()})


def score_set(clips: Mapping[str, tuple[Array, Array]], void: int | None = None, workers: int = 1) -> Score:
    """`score` of several clips, averaged over all objects by `combine`.

    clips: name -> (prediction `t H W`, truth `t H W`); sizes may differ from clip to clip. void, workers and errors as
    in `score`; the message starts with the clip's name.
    """

    def named(name, prediction, truth):
        try:
            return score(prediction, truth, void, workers)
        except InputError as error:
            raise InputError(f"{name}: {error}") from None

    return combine({name: named(name, prediction, truth) for name, (prediction, truth) in clips.items()})


# ---------------------------------------------------------------------------------------------------------------------
# Positions: is a query pixel matched to the right place? (synthetic clips know)


def trajectory_error(
    positions: Shaped[Array, "q 2"], truth: Shaped[Array, "truth_q 2"], visible: Shaped[Array, "visible_q"]
) -> float:
    """Mean distance of matched from true positions, in pixels, over the positions visible in the memory frame.

    `mean over visible q of |positions[q] - truth[q]|`

    positions, truth: `q 2`, (y, x) in pixels. visible: `q` bool. Raises InputError when the counts differ or none
    is visible.
    Source: ours (the "average distance" of point tracking), for clips whose motion is known.
    """
    return float(_distances(positions, truth, visible).mean())


def pck(
    positions: Shaped[Array, "q 2"],
    truth: Shaped[Array, "truth_q 2"],
    visible: Shaped[Array, "visible_q"],
    threshold: float | int,
) -> float:
    """Percentage of correct keypoints, as a share in [0, 1]: visible positions matched within `threshold` pixels.

    positions, truth, visible: as in `trajectory_error`, with the same errors. threshold: pixels, inclusive.
    Source: Yang and Ramanan, PAMI 2013, with a threshold in pixels.
    """
    return float((_distances(positions, truth, visible) <= threshold).mean())


def _distances(positions, truth, visible):
    positions, truth, visible = as_numpy(positions), as_numpy(truth), as_numpy(visible).astype(bool)
    if not len(positions) == len(truth) == len(visible):
        raise InputError(f"{len(positions)} matched positions, {len(truth)} true ones, {len(visible)} visibilities")
    if not visible.any():
        raise InputError(f"0 of {len(visible)} positions are visible, the error of none is undefined")
    return np.hypot(*np.moveaxis(positions[visible].astype(np.float64) - truth[visible], -1, 0))
