"""Pictures of training: what each step asks for, a picture as a clip with points followed through it, the hardest pixels, the losses of a run.

Pure functions of numbers; nothing here draws clips or runs a network.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Integer, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch
from torch import Tensor

from ..errors import InputError
from .affinity import draw_frame, grey
from .overlays import OKABE_ITO, overlay

PANEL, DPI = 1.9, 80  # inches a panel is wide; dots per inch
INKS = [tuple(c / 255 for c in OKABE_ITO[i]) for i in (5, 4, 2, 6)]
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
HARD = (213, 94, 0)  # vermillion: seen on grey frames
CURVES = {  # a field of what the curriculum asks for -> its panel's title
    "max_gap": "largest frame gap",
    "frames": "frames in a clip",
    "lr": "learning rate",
    "hard_pixels": "share of pixels that count",
}


# ------------------------------------------------------------------ numbers


def hardest_pixels(losses: Float[Tensor, "b H W"], share: float | int) -> Bool[Tensor, "b H W"]:
    """The pixels that bootstrapped cross-entropy looks at: of each clip the int(share H W) with the largest loss, at least one.

    Among equals the first ones are taken. Raises InputError for a share outside (0, 1]. Source: `losses.bootstrapped_cross_entropy`.
    """
    if not 0 < share <= 1:
        raise InputError(f"share of hard pixels is {share}, expected more than 0 and at most 1")
    rows = rearrange(losses, "b H W -> b (H W)")
    order = rows.argsort(dim=1, descending=True, stable=True)[:, : max(1, int(share * rows.shape[1]))]
    return rearrange(
        torch.zeros_like(rows, dtype=torch.bool).scatter(1, order, True), "b (H W) -> b H W", H=losses.shape[1]
    )


def smooth(values: Sequence[float | int], width: int = 9) -> np.ndarray:
    """The mean over `width` neighbours, fewer at both ends. Source: ours."""
    half, values = width // 2, np.asarray(values, dtype=float)
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


# ------------------------------------------------------------------ pictures


def curriculum_figure(
    stages: Mapping[str, Sequence], steps: Mapping[str, Sequence[int]], dpi: float | int = DPI
) -> Figure:
    """What a run's steps ask for: largest frame gap, frames in a clip, learning rate, share of pixels that count; a line for each recipe.

    `stages`: recipe -> `training.schedule.Stage` of some of its steps; `steps`: recipe -> which steps these are, ascending. A grey
    band: frames of a clip are no longer turned against each other (XMem's last steps). Raises InputError for no recipe, or where steps and
    stages differ in number. Source: ours.
    """
    counts = {name: (len(found), len(steps.get(name, ()))) for name, found in stages.items()}
    if not stages or any(a != b or not a for a, b in counts.values()):
        raise InputError(f"stages and steps by recipe: {counts}; expected as many of each, for at least one recipe")
    figure = Figure(figsize=(8.6, 4.2), dpi=dpi, layout="constrained")
    for axis, (field, title) in zip(figure.subplots(2, 2).flat, CURVES.items(), strict=True):
        for place, (name, found) in enumerate(stages.items()):
            style = {"color": INKS[place % len(INKS)], "linestyle": DASHES[place % len(DASHES)], "linewidth": 2}
            at = np.asarray(steps[name]) / 1000
            drawstyle = "default" if field == "hard_pixels" else "steps-post"
            axis.plot(at, [getattr(stage, field) for stage in found], drawstyle=drawstyle, label=name, **style)
            turned_off = [t for t, stage in zip(at, found, strict=True) if stage.fine_tune]
            if turned_off and field == "max_gap":
                axis.axvspan(turned_off[0], turned_off[-1], color="0.85", lw=0, label=f"{name}: no affine motion")
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(color="0.92", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
        if field == "lr":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:.0e}")
        else:
            axis.set_ylim(bottom=0)
    for axis in figure.axes[2:]:
        axis.set_xlabel("thousand steps", fontsize=8)
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
    return figure


def correspondence_figure(
    frames: Sequence[UInt8[Tensor, "_ _ 3"]] | UInt8[Tensor, "t H W 3"] | Float[Tensor, "t 3 H W"],
    points: Sequence[Float[Tensor, "n 2"]] | Float[Tensor, "_ n 2"],
    titles: Sequence[str],
    visible: Bool[Tensor, "_ n"] | None = None,
    mesh: Sequence[Float[Tensor, "i j 2"]] | Float[Tensor, "_ i j 2"] | None = None,
    dpi: float | int = DPI,
) -> Figure:
    """Frames in a row, the same points marked in each, and a line from frame to frame for every point that is seen in both.

    `points`: (y, x) in pixels of each frame. `visible`: where a point is seen, in all frames if None; a point outside its frame is never drawn.
    `mesh`: a net of points for each frame, drawn as thin lines, which shows how a whole picture was bent. `frames`: uint8, of any
    sizes, or RGB in [0, 1] as networks take them. Raises InputError where frames, points and titles differ in number. Source: ours.
    """
    given = {"frames": frames, "points": points, "titles": titles, "visible": visible, "mesh": mesh}
    counts = {name: len(one) for name, one in given.items() if one is not None}
    if set(counts.values()) != {len(frames)} or not len(frames):
        raise InputError(f"given are {counts}; expected as many of each, at least 1")
    if isinstance(frames, Tensor) and frames.dtype != torch.uint8:
        frames = rearrange((frames.clamp(0, 1) * 255).round().to(torch.uint8), "t c H W -> t H W c")
    widths = [frame.shape[1] / frame.shape[0] for frame in frames]
    figure = Figure(figsize=(PANEL * sum(widths) + 0.1, PANEL + 0.3), dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.04, h_pad=0.02, wspace=0.02, hspace=0.0)
    axes = figure.subplots(1, len(frames), squeeze=False, width_ratios=widths)[0]
    before = None  # the last frame's axis, points, and which of them are seen
    for t, (axis, frame) in enumerate(zip(axes, frames, strict=True)):
        draw_frame(axis, frame)
        axis.set_title(titles[t], fontsize=8, pad=3)
        for line in _lines(mesh[t], frame) if mesh is not None else ():
            axis.plot(line[:, 1], line[:, 0], color="white", lw=0.7, alpha=0.8)
        seen = _inside(points[t], frame) & (True if visible is None else visible[t])
        for n in seen.nonzero()[:, 0].tolist():
            y, x = points[t][n].tolist()
            axis.plot(x, y, MARKERS[n % len(MARKERS)], ms=7, mfc=_ink(n), mec="black", mew=0.8, zorder=5)
            if before and before[2][n]:
                ends = {"xyA": before[1][n].tolist()[::-1], "xyB": (x, y), "axesA": before[0], "axesB": axis}
                line = ConnectionPatch(**ends, coordsA="data", coordsB="data", color=_ink(n), lw=1.2, alpha=0.9)
                line.set_in_layout(False)
                figure.add_artist(line)
        before = axis, points[t], seen
    return figure


def hardest_figure(
    frame: UInt8[Tensor, "H W 3"],
    truth: Integer[Tensor, "H W"],
    losses: Mapping[str, Float[Tensor, "H W"]],
    share: float | int,
    dpi: float | int = DPI,
) -> Figure:
    """Which pixels of a frame are the hardest, a column for each network: its loss above, the hardest `share` of the pixels below.

    Loss: cross-entropy of each pixel in nats, one logarithmic scale for all columns. Below, the frame in grey with the hardest pixels in
    orange, and how much of the loss of the whole frame they carry. Left: the frame, with the true mask. Raises InputError for no
    losses, and as `hardest_pixels`. Source: ours.
    """
    if not losses:
        raise InputError("0 maps of losses to draw, expected at least 1")
    height, width = truth.shape
    size = (PANEL * (1 + len(losses)) + 0.6, 2 * (PANEL * height / width + 0.3))
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0.0, hspace=0.0)
    above, below = figure.subplots(2, 1 + len(losses), squeeze=False)
    draw_frame(above[0], frame)
    draw_frame(below[0], overlay(frame, truth, alpha=0.4))
    above[0].set_title("the frame", fontsize=8, pad=3)
    below[0].set_title("its true mask", fontsize=8, pad=3)
    for top, bottom, (name, loss) in zip(above[1:], below[1:], losses.items(), strict=True):
        shown = top.imshow(
            loss.clamp_min(1e-4).log10().cpu().numpy(), cmap="viridis", vmin=-3, vmax=1, interpolation="nearest"
        )
        top.set_title(name, fontsize=8, pad=3)
        hard = hardest_pixels(rearrange(loss, "H W -> 1 H W"), share)[0]
        picture = grey(frame).clone()
        picture[hard] = torch.tensor(HARD, dtype=torch.uint8)
        draw_frame(bottom, picture)
        bottom.set_title(f"hardest {share:.0%}: {loss[hard].sum() / loss.sum():.0%} of the loss", fontsize=8, pad=3)
        top.set_xticks([])
        top.set_yticks([])
    bar = figure.colorbar(shown, ax=list(above), ticks=[-3, -2, -1, 0, 1], shrink=0.9, pad=0.01)
    bar.ax.set_yticklabels(["0.001", "0.01", "0.1", "1", "10"], fontsize=7)
    bar.set_label("loss of a pixel", fontsize=8)
    return figure


def loss_figure(runs: Mapping[str, Sequence[Mapping]], width: int = 9, dpi: float | int = DPI) -> Figure:
    """The losses of runs that followed one another, over all their steps, with the share of pixels that counted below.

    `runs`: name -> the lines of its metrics.csv (`loss`, `hard_pixels` of every step, as numbers or text). Dots: every step; line: mean over `width`
    neighbours. Raises InputError for no runs, or one without lines. Source: ours.
    """
    counts = {name: len(rows) for name, rows in runs.items()}
    if not runs or not all(counts.values()):
        raise InputError(f"lines by run: {counts}; expected at least one run, each with at least one line")
    figure = Figure(figsize=(7.4, 3.6), dpi=dpi, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    start = 0
    for place, (name, rows) in enumerate(runs.items()):
        ink, at = INKS[place % len(INKS)], np.arange(start, start + len(rows))
        loss = [float(row["loss"]) for row in rows]
        upper.plot(at, loss, MARKERS[place % len(MARKERS)], color=ink, ms=3, alpha=0.35)
        upper.plot(at, smooth(loss, width), DASHES[place % len(DASHES)], color=ink, lw=2.2, label=name)
        lower.plot(at, [float(row["hard_pixels"]) for row in rows], DASHES[place % len(DASHES)], color=ink, lw=2)
        if start:
            for axis in (upper, lower):
                axis.axvline(start - 0.5, color="0.6", lw=1, ls=":")
        start += len(rows)
    for axis in (upper, lower):
        axis.set_ylim(bottom=0)
        axis.tick_params(labelsize=7)
        axis.grid(color="0.92", lw=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    upper.set_ylabel("loss", fontsize=8)
    figure.legend(loc="outside upper right", ncols=len(runs), fontsize=8, frameon=False)
    lower.set_ylabel("pixels\nthat count", fontsize=8)
    lower.set_xlabel("step", fontsize=8)
    return figure


def _ink(n: int) -> tuple[float, float, float]:
    return tuple(c / 255 for c in OKABE_ITO[n % len(OKABE_ITO)])


def _inside(points: Tensor, frame: Tensor) -> Tensor:
    """Which points (y, x) have a nearest pixel in the frame."""
    return ((points >= -0.5) & (points < torch.tensor(frame.shape[:2]) - 0.5)).all(dim=-1)


def _lines(mesh: Tensor, frame: Tensor) -> list[np.ndarray]:
    """The rows and columns of a net of points, cut off where they leave the frame."""
    inside = rearrange(_inside(mesh, frame), "i j -> i j 1")
    net = torch.where(inside, mesh, torch.nan)
    return [line.numpy() for line in (*net, *rearrange(net, "i j yx -> j i yx"))]
