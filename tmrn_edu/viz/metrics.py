"""Pictures of scores: which pixels J counts, which boundary pixels F matches, a measure through a clip, networks compared clip by clip.

Pure functions of masks and numbers; nothing here runs a network. `metrics` computes the scores, this file draws why they are what they are. Ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, hypot

import numpy as np
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch

from ..bootstrap import interval
from ..errors import InputError
from ..frame_metrics import TOLERANCE, Array, as_numpy, boundary_accuracy, region_similarity
from ..metrics import ObjectScore
from .overlays import OKABE_ITO

PANEL, DPI = 2.3, 80  # inches a panel is wide; dots per inch
BLUE, YELLOW, VERMILLION = (
    np.array(OKABE_ITO[i], dtype=np.uint8) for i in (4, 3, 5)
)  # apart for every kind of colour vision
INKS = [tuple(c / 255 for c in OKABE_ITO[i]) for i in (4, 5, 2, 6, 0)]
DASHES = ("-", "--", "-.", ":", (0, (1, 2)))
MARKERS = ("o", "s", "^", "D", "v")
PAPER, BAND, OTHER = np.array(
    [[247] * 3, [214] * 3, [150] * 3], dtype=np.uint8
)  # ground; within the tolerance; the outline there


# ------------------------------------------------------------------ insides of F


@dataclass(frozen=True)
class BoundaryMatch:
    """The boundary pixels of two masks, and which of them have one of the other mask near them."""

    predicted: Int[np.ndarray, "n 2"]  # (y, x) of the prediction's boundary pixels
    true: Int[np.ndarray, "m 2"]  # (y, x) of the truth's
    predicted_near: Bool[np.ndarray, " n"]  # a true boundary pixel lies within the radius
    true_near: Bool[np.ndarray, " m"]  # a predicted one does
    radius: int  # pixels

    @property
    def F(self) -> float:
        """`2 P R / (P + R)`; 1 when there are no boundary pixels at all, 0 when one mask alone has none."""
        if not len(self.predicted) or not len(self.true):
            return float(len(self.predicted) == len(self.true))
        precision, recall = self.predicted_near.mean(), self.true_near.mean()
        return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0


def boundary_pixels(mask: Shaped[Array, "H W"]) -> Bool[np.ndarray, "H W"]:
    """Pixels that differ from their right, lower or lower-right neighbour, where there is one. Source: the DAVIS evaluation."""
    inside = as_numpy(mask).astype(bool)
    found = np.zeros_like(inside)
    found[:, :-1] |= inside[:, :-1] != inside[:, 1:]
    found[:-1] |= inside[:-1] != inside[1:]
    found[:-1, :-1] |= inside[:-1, :-1] != inside[1:, 1:]
    return found


def match_boundaries(
    prediction: Shaped[Array, "H W"], truth: Shaped[Array, "truth_H truth_W"], tolerance: float | int = TOLERANCE
) -> BoundaryMatch:
    """Which boundary pixels F takes as right, from the distance of every pair: slow, and easy to follow.

    Masks and tolerance as in `metrics.boundary_accuracy`, whose F is the same. Raises InputError as it does.
    """
    boundary_accuracy(prediction, truth, tolerance)  # for its errors
    predicted, true = (np.argwhere(boundary_pixels(mask)) for mask in (prediction, truth))
    radius = ceil(tolerance if tolerance >= 1 else tolerance * hypot(*truth.shape))
    gaps = rearrange(predicted, "n yx -> n 1 yx") - rearrange(true, "m yx -> 1 m yx")
    near = reduce(gaps**2, "n m yx -> n m", "sum") <= radius**2
    return BoundaryMatch(predicted, true, near.any(axis=1), near.any(axis=0), radius)


# ------------------------------------------------------------------ pictures of one frame


def region_figure(
    predictions: Mapping[str, Shaped[Array, "H W"]],
    truth: Shaped[Array, "H W"],
    frame: UInt8[Array, "H W 3"] | None = None,
    dpi: float | int = DPI,
) -> Figure:
    """What J counts, a panel for each prediction: pixels of both masks, of the prediction alone, of the truth alone; J as a fraction above.

    `predictions`: name -> mask, as `truth` bool, or integers where anything but 0 is the object. `frame`: drawn pale below. Raises InputError
    for no prediction, and as `metrics.region_similarity` for sizes that differ. Source: ours.
    """
    if not predictions:
        raise InputError("0 predictions to draw, expected at least 1")
    true = as_numpy(truth).astype(bool)
    ground = np.broadcast_to(PAPER, (*true.shape, 3)) if frame is None else _pale(as_numpy(frame))
    figure, axes = _row(len(predictions), true.shape, dpi, above=0.42, below=0.22)
    for axis, (name, mask) in zip(axes, predictions.items(), strict=True):
        J, mask = region_similarity(mask, true), as_numpy(mask).astype(bool)
        picture = ground.copy()
        for where, ink in ((mask & true, BLUE), (mask & ~true, VERMILLION), (true & ~mask, YELLOW)):
            picture[where] = ink
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(f"{name}\nJ = {(mask & true).sum()} / {(mask | true).sum()} = {J:.2f}", fontsize=9, pad=4)
    words = ("both: intersection", "prediction alone: false", "truth alone: missed")
    patches = [
        Patch(facecolor=ink / 255, edgecolor="0.3", lw=0.5, label=word)
        for ink, word in zip((BLUE, VERMILLION, YELLOW), words, strict=True)
    ]
    figure.legend(
        handles=patches, loc="outside lower center", ncols=3 if len(axes) > 1 else 1, fontsize=8, frameon=False
    )
    return figure


def boundary_figure(
    prediction: Shaped[Array, "H W"],
    truth: Shaped[Array, "truth_H truth_W"],
    tolerance: float | int = TOLERANCE,
    dpi: float | int = DPI,
) -> Figure:
    """How F matches boundaries. Left, precision: predicted boundary pixels on the band around the true outline; right, recall: the other way round.

    Dots are matched, crosses are not; the band is all that is within the tolerance of an outline, and a circle shows its radius. The picture is cut
    to what there is to see. Arguments and errors as `metrics.boundary_accuracy`; InputError where neither mask has a boundary. Source: ours.
    """
    match, size = match_boundaries(prediction, truth, tolerance), as_numpy(truth).shape
    everything = np.concatenate([match.predicted, match.true])
    if not len(everything):
        raise InputError("neither mask has a boundary pixel, expected one to draw")
    margin = match.radius + 2
    top, left = np.maximum(everything.min(axis=0) - margin, 0)
    bottom, right = np.minimum(everything.max(axis=0) + margin + 1, size)
    shape = (bottom - top, right - left)
    figure, axes = _row(2, shape, dpi, above=0.62, below=0.22, panel=1.8 * PANEL)
    cell = 1.8 * PANEL * 72 / shape[1]  # points a pixel is wide
    sides = (
        (
            axes[0],
            "precision: predicted pixels near the true outline",
            match.predicted,
            match.predicted_near,
            match.true,
        ),
        (axes[1], "recall: true pixels near the predicted outline", match.true, match.true_near, match.predicted),
    )
    for axis, title, pixels, near, others in sides:
        axis.imshow(_band(others, size, match.radius)[top:bottom, left:right], interpolation="nearest")
        for chosen, marker, ink, name in ((near, "o", BLUE, "matched"), (~near, "X", VERMILLION, "not matched")):
            y, x = rearrange(pixels[chosen] - (top, left), "n yx -> yx n")
            axis.scatter(x, y, s=(0.85 * cell) ** 2, marker=marker, color=tuple(ink / 255), lw=0, label=name)
        share = f"{near.sum()} / {len(near)} = {near.mean():.2f}" if len(near) else "no boundary pixel"
        axis.set_title(f"{title}\n{share}", fontsize=9, pad=4)
        if len(others):
            y, x = others[0] - (top, left)  # the topmost pixel, leftmost of its row: the circle stands out there
            axis.add_patch(Circle((x, y), match.radius + 0.5, fill=False, ec="black", lw=1.2))
    handles = [
        Line2D([], [], ls="", marker=marker, ms=6, mew=0, color=tuple(ink / 255), label=name)
        for marker, ink, name in (("o", BLUE, "matched"), ("X", VERMILLION, "not matched"))
    ]
    handles += [
        Patch(facecolor=OTHER / 255, label="the other outline"),
        Patch(facecolor=BAND / 255, label="within the tolerance"),
    ]
    plural = "" if match.radius == 1 else "s"
    figure.suptitle(
        f"F = 2 P R / (P + R) = {match.F:.2f}, tolerance {match.radius} pixel{plural} (circle)", fontsize=10
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def _pale(frame):
    """The frame in light grey, so that three colours stand out on it."""
    grey = reduce(frame.astype(float), "H W c -> H W 1", "mean")
    return np.broadcast_to(120 + grey * (130 / 255), frame.shape).round().astype(np.uint8)


def _band(outline, size, radius):
    """A picture with an outline, and all pixels within the radius of it."""
    picture = np.broadcast_to(PAPER, (*size, 3)).copy()
    rows, columns = np.indices(size)
    for y, x in outline:
        picture[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = BAND
    picture[outline[:, 0], outline[:, 1]] = OTHER
    return picture


def _row(count: int, shape: tuple, dpi, above: float, below: float, panel: float = PANEL) -> tuple[Figure, list[Axes]]:
    """Panels in a row, each for a picture of that shape, without ticks."""
    figure = Figure(figsize=(panel * count, panel * shape[0] / shape[1] + above + below), dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.03, wspace=0.0, hspace=0.0)
    axes = list(figure.subplots(1, count, squeeze=False)[0])
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("0.7")
    return figure, axes


# ------------------------------------------------------------------ pictures of many frames, and of many clips


def curves_figure(
    x: Sequence[float | int],
    panels: Mapping[str, Mapping[str, Sequence[float | int]]],
    xlabel: str,
    dpi: float | int = DPI,
) -> Figure:
    """Measures in [0, 1] against a number: a panel for each thing measured, a line for each measure.

    `panels`: title -> (measure -> values, as many as `x`). Raises InputError where their numbers differ, and for no panel. Source: ours.
    """
    counts = {f"{title}, {name}": len(values) for title, lines in panels.items() for name, values in lines.items()}
    if not counts or set(counts.values()) != {len(x)}:
        raise InputError(f"x has {len(x)} numbers, lines have {counts}; expected as many, in at least one line")
    figure = Figure(figsize=(2.9 * len(panels), 2.5), dpi=dpi, layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axis, (title, lines) in zip(axes, panels.items(), strict=True):
        for place, (name, values) in enumerate(lines.items()):
            axis.plot(
                x, values, color=INKS[place], linestyle=DASHES[place], marker=MARKERS[place], ms=4, lw=2, label=name
            )
        axis.set(xlabel=xlabel, ylim=(-0.03, 1.05))
        axis.set_title(title, fontsize=9)
        _plain(axis)
    axes[0].legend(fontsize=8, frameon=False, loc="lower left")
    return figure


def clip_figure(scores: Mapping[str, ObjectScore], measure: str = "J", dpi: float | int = DPI) -> Figure:
    """A measure through a clip, a panel for each object: its values, the threshold of recall, the mean, and the two quarters of decay.

    Grey: frames that do not count. `scores`: name -> ObjectScore, `metrics.Score.per_object` for example; `measure`: "J" or "F". Raises InputError
    for no score, and another measure. Source: ours.
    """
    if not scores or measure not in ("J", "F"):
        raise InputError(f"measure is {measure!r} of {len(scores)} objects, expected 'J' or 'F' of at least 1")
    figure = Figure(figsize=(3.1 * len(scores), 2.7), dpi=dpi, layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False, sharey=True)[0]
    last = max(one.frames[-1] for one in scores.values()) + 1
    for axis, (name, one) in zip(axes, scores.items(), strict=True):
        values, whole = np.array(getattr(one, f"{measure}_frames")), getattr(one, measure)
        axis.axvspan(-0.5, one.frames[0] - 0.5, color="0.88", lw=0, label="does not count")
        axis.axvspan(one.frames[-1] + 0.5, last + 0.5, color="0.88", lw=0)
        axis.axhline(0.5, color="0.5", ls=":", lw=1)
        axis.axhline(whole.mean, color=INKS[2], ls="--", lw=1.5, label="mean")
        axis.plot(one.frames, values, "o-", color=INKS[0], ms=4, lw=1.5, label=f"{measure} of a frame")
        first_end, last_start = (((len(values) - 1) * i + 2) // 4 for i in (1, 3))  # as `metrics.statistics`
        for part in (slice(None, first_end + 1), slice(last_start, None)):
            frames, level = one.frames[part], values[part].mean()
            axis.plot(
                [frames[0] - 0.3, frames[-1] + 0.3], [level] * 2, color=INKS[1], lw=4, alpha=0.8, solid_capstyle="butt"
            )
        words = f"mean {whole.mean:.2f}, recall {whole.recall:.2f}, decay {whole.decay:.2f}"
        axis.set_title(f"{name}\n{words}", fontsize=9)
        axis.set(xlabel="frame", xlim=(-0.5, last + 0.5), ylim=(-0.03, 1.05))
        _plain(axis)
    handles, names = axes[0].get_legend_handles_labels()
    handles, names = (
        [*handles, Line2D([], [], color=INKS[1], lw=4, alpha=0.8)],
        [*names, "means of first and last quarter"],
    )
    figure.legend(handles, names, loc="outside lower center", ncols=min(4, 2 * len(scores)), fontsize=8, frameon=False)
    return figure


def paired_figure(values: Mapping[str, Float[np.ndarray, " k"]], measure: str = "J", dpi: float | int = DPI) -> Figure:
    """Networks on the same k clips. Left: their values and means, each with its own interval; right: differences to the first, clip by clip.

    Intervals are 95 % bootstrap intervals (`bootstrap.interval`) over clips; dots are clips, bars means. Filled diamonds: the interval of the
    difference leaves zero out. Raises InputError for fewer than two networks, or where they have different numbers of clips. Source: ours.
    """
    counts = {name: len(one) for name, one in values.items()}
    if len(values) < 2 or len(set(counts.values())) != 1:
        raise InputError(f"clips by network: {counts}; expected at least 2 networks with as many clips each")
    names, clips = list(values), [str(clip) for clip in range(min(counts.values()))]
    others = names[1:]
    figure = Figure(figsize=(8.2, 1.1 + 0.42 * len(names)), dpi=dpi, layout="constrained")
    left, right = figure.subplots(1, 2)
    gains = {name: values[name] - values[names[0]] for name in others}
    for axis, shown in ((left, dict(values)), (right, gains)):
        for place, (name, one) in enumerate(shown.items()):
            mean, low, high = interval(one, clips)
            sure = axis is left or not low <= 0 <= high
            ink = INKS[names.index(name) % len(INKS)]
            axis.plot(one, np.full(len(one), place + 0.18), "|", color=ink, alpha=0.6, ms=8)
            axis.plot([low, high], [place - 0.12] * 2, color=ink, lw=2.5)
            axis.plot(mean, place - 0.12, "D", ms=7, mec=ink, mew=1.5, mfc=ink if sure else "white")
        axis.set_yticks(range(len(shown)), list(shown))
        axis.set_ylim(len(shown) - 0.5, -0.5)
        _plain(axis)
    right.axvline(0, color="0.5", lw=1)
    left.set_title(f"{measure} of {len(clips)} clips, each network by itself", fontsize=9)
    right.set_title(f"the same clips, {measure} minus that of {names[0]}", fontsize=9)
    return figure


def _plain(axis):
    axis.tick_params(labelsize=8)
    axis.xaxis.label.set_size(8)
    axis.grid(color="0.92", lw=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
