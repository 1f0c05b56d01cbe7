"""The trajectory of a query pixel: where its counterpart is expected in each memory frame.

    c_t[q] = sum over m of W[t,m,q] pos(m)       expected position in frame t, (y, x)

Dots grow with the temporal weight u[t,q] of their frame. On synthetic clips the true path is drawn beside it, and
errors are in pixels of the frame. Everything is drawn from `Look`; no network is run.
"""

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from torch import Tensor

from ..data.synthetic import Clip
from ..errors import InputError
from ..looking import Look
from .affinity import (
    DPI,
    PER_FRAME,
    WEIGHTED,
    add_colour_bar,
    by_name,
    check_pixel,
    draw_frame,
    draw_heat_maps,
    fit_to_frame,
    grey,
    mark_cell,
    panels,
    weights_of,
)
from .overlays import OKABE_ITO, overlay

# A colour, a marker and a dash for each reader, so that no one has to tell them apart by colour alone.
STYLES = [
    (tuple(c / 255 for c in OKABE_ITO[i]), marker, dash)
    for i, marker, dash in ((5, "o", "-"), (4, "s", "--"), (2, "^", "-."), (6, "D", ":"))
]
FOUND, TRUE = "white", "#f0e442"  # ink of paths on frames


def path_of(look: Look, pixel: tuple[int, int]) -> Float[Tensor, "t 2"]:
    """Expected positions (y, x) of a query pixel in the memory frames, in pixels of the frame."""
    y, x = check_pixel(look, pixel)
    return look.cell_to_pixel(rearrange(look.insides.trajectory[0, :, :, y, x], "t yx -> yx t")).T.cpu()


def true_path(look: Look, pixel: tuple[int, int], clip: Clip) -> tuple[Float[Tensor, "t 2"], Bool[Tensor, " t"]]:
    """Where the point seen at a pixel truly is in each memory frame, and whether it is visible there.

    In pixels (y, x). A reader answers for the middle of the pixel's cell, so the path is shifted by what parts the two.
    Raises InputError for a pixel outside the frame or a clip that the look was not taken on. Source: ours.
    """
    cell = check_pixel(look, pixel)
    _check_clip(look, clip)
    shift = look.cell_to_pixel(torch.tensor(cell).float()) - torch.tensor(pixel)
    true = [clip.correspondence(look.query, t) for t in look.memory]
    positions = torch.stack([c.positions[pixel[0], pixel[1]] for c in true]) + shift
    return positions, torch.stack([c.visible[pixel[0], pixel[1]] for c in true])


def true_cells(look: Look, clip: Clip) -> tuple[Float[Tensor, "t 2 h w"], Bool[Tensor, "t h w"]]:
    """`true_path` of every cell of the query frame at once: that of the pixel nearest to the middle of the cell.

    Never visible where that pixel lies in the padding around the frame. Source: ours.
    """
    _check_clip(look, clip)
    centres, y, x, inside = _cell_pixels(look)
    shift = centres - torch.stack([y, x])
    true = [clip.correspondence(look.query, t) for t in look.memory]
    positions = torch.stack([rearrange(c.positions[y, x], "h w yx -> yx h w") + shift for c in true])
    return positions, torch.stack([c.visible[y, x] & inside for c in true])


def cell_errors(look: Look, clip: Clip) -> Float[Tensor, "t h w"]:
    """Distance in pixels between every cell's expected and true position in each memory frame, NaN where hidden."""
    positions, visible = true_cells(look, clip)
    expected = look.cell_to_pixel(rearrange(look.insides.trajectory[0].cpu(), "t yx h w -> yx t h w"))
    distance = (rearrange(expected, "yx t h w -> t yx h w") - positions).norm(dim=1)
    return torch.where(visible, distance, torch.nan)


def choose_pixel(looks: Look | Mapping[str, Look], clip: Clip | None = None) -> tuple[int, int]:
    """A pixel (y, x) of an object in the query frame that is worth looking at; always the same for the same looks.

    Several looks and their clip: where the first reader (the baseline) loses the true path by most while the others
    keep it; one look: where it loses it by most. Without a clip: where the others' paths leave the first one's by most;
    one look: the pixel nearest to the middle of the objects. Cells on an object's rim are left out if there are others.
    Paths are compared over frames in which the point is visible; errors beyond a quarter of the frame count as that.
    **An example found so shows how readers differ, not how often**: that is what scores over all pixels are for. Raises
    InputError if the query frame's masks, true and predicted, hold no object. Source: ours.
    """
    looks = list(by_name(looks).values())
    first = looks[0]
    _, y, x, inside = _cell_pixels(first)
    objects = inside & _is_object(first.index_masks[first.query])[y, x]
    if not objects.any():  # on real videos the query frame's true mask may be unknown
        objects = inside & _is_object(first.predicted)[y, x]
    if not objects.any():
        raise InputError(f"frame {first.query} has no object in its mask, expected at least one to choose a pixel of")
    deep = F.avg_pool2d(rearrange(objects.float(), "h w -> 1 1 h w"), 3, stride=1, padding=1)[0, 0] > 0.99
    objects = deep if deep.any() else objects  # cells on a rim show two things at once
    if clip is not None:
        limit = max(first.frames.shape[1:3]) / 4
        errors = [cell_errors(look, clip).clamp(max=limit) for look in looks]
        enough = errors[0].isfinite().float().mean(dim=0) >= 0.5
        objects = objects & enough if (objects & enough).any() else objects
        errors = [error.nanmean(dim=0).nan_to_num(0) for error in errors]
        gain = errors[0] - (torch.stack(errors[1:]).mean(dim=0) if len(looks) > 1 else 0)
    elif len(looks) > 1:
        paths = [look.insides.trajectory[0].cpu() for look in looks]
        gain = torch.stack([(path - paths[0]).norm(dim=1).mean(dim=0) for path in paths[1:]]).mean(dim=0)
    else:
        place = torch.stack([y, x]).float()
        middle = rearrange(place[:, objects].mean(dim=1), "yx -> yx 1 1")
        gain = -(place - middle).norm(dim=0)
    best = int(torch.where(objects, gain, -torch.inf).argmax())
    row, column = divmod(best, gain.shape[1])
    return int(y[row, column]), int(x[row, column])


def trajectory_figure(
    looks: Look | Mapping[str, Look], pixel: tuple[int, int], truth: Clip | None = None, dpi: float | int = DPI
) -> Figure:
    """The path of one query pixel through the memory frames, one panel per reader; below, its error and its weights.

    Above: expected positions c_t[q], drawn over a part of the query frame from the pixel that asks (square) back in
    time; dot and line grow with the temporal weight; numbers are frames. With `truth`, the clip the looks were taken on, the true
    path is dashed (crosses, frames in which the point is hidden left out), and the left plot below is the error in
    pixels. The last plot is the temporal weight u[t,q], which sums to one. Raises InputError as `affinity_figure`, and
    for a clip of other frames. Source: ours.
    """
    looks = by_name(looks)
    look = next(iter(looks.values()))
    check_pixel(look, pixel)
    height, width = look.frames.shape[1:3]
    side = 2.5
    figure = Figure(figsize=(side * max(2, len(looks)), side * height / width + 2.4), dpi=dpi, layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=(side * height / width + 0.5, 1.9))
    true, visible = (None, None) if truth is None else true_path(look, pixel, truth)
    around = torch.cat([path_of(one, pixel) for one in looks.values()] + ([] if truth is None else [true[visible]]))
    for axis, (name, one) in zip(top.subplots(1, len(looks), squeeze=False)[0], looks.items(), strict=True):
        draw_path(axis, one, pixel, true, visible)
        zoom(axis, one, around)
        number_path(axis, one, pixel, 72 * side)
        axis.set_title(name if len(looks) > 1 else "", fontsize=9, pad=3)
    ground = f"background: query frame {look.query}, enlarged; square: pixel {tuple(pixel)}; numbers: memory frames"
    top.suptitle(ground if len(looks) > 2 else fill(ground, 22 * max(2, len(looks))), fontsize=9)

    plots = bottom.subplots(1, 1 if truth is None else 2, squeeze=False)[0]
    for index, (name, one) in enumerate(looks.items()):
        colour, marker, dash = STYLES[index % len(STYLES)]
        style = {"color": colour, "marker": marker, "linestyle": dash, "markersize": 5, "label": name}
        plots[-1].plot(one.memory, weights_of(one, pixel).numpy(), **style)
        if truth is not None:
            plots[0].plot(one.memory, path_errors(one, pixel, truth).numpy(), **style)
    plots[-1].set_ylabel("temporal weight u", fontsize=8)
    if truth is not None:
        plots[0].set_ylabel("error in pixels", fontsize=8)
        for t, seen in zip(look.memory, visible.tolist(), strict=True):
            if not seen:  # a band where there is no truth to compare with
                plots[0].axvspan(t - 0.4, t + 0.4, color="0.88", lw=0)
                place = {"transform": plots[0].get_xaxis_transform(), "ha": "center", "va": "center"}
                plots[0].text(t, 0.5, "hidden", rotation=90, fontsize=7, **place)
    for axis in plots:
        axis.set_ylim(0, 1.08 * axis.get_ylim()[1])  # room for the topmost marker
        axis.set_xticks(look.memory if len(look.memory) <= 12 else look.memory[:: len(look.memory) // 8])
        axis.set_xlabel("memory frame", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    if len(looks) > 1:
        plots[0].legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=len(looks))
    return figure


def comparison_figure(
    looks: Mapping[str, Look],
    pixel: tuple[int, int],
    truth: Clip | None = None,
    weighted: bool = False,
    dpi: float | int = DPI,
) -> Figure:
    """Readers as rows: the pixel's trajectory over the query frame, then the heat maps it is the mean of.

    As `affinity_figure`, with the path in the first column and, on every memory frame, the expected position (ring,
    growing with the temporal weight) and with `truth` the true one (cross) and the distance between them in pixels.
    Raises InputError as `trajectory_figure`. Source: ours.
    """
    looks = by_name(looks)
    figure, rows, first = panels(looks, pixel, dpi)
    for look, axes in zip(looks.values(), rows, strict=True):
        true, visible = (None, None) if truth is None else true_path(look, pixel, truth)
        draw_path(axes[0], look, pixel, true, visible)
        draw_heat_maps(axes[1:], look, pixel, weighted, first)
        path = zip(axes[1:], path_of(look, pixel), weights_of(look, pixel), strict=True)
        for i, (axis, place, weight) in enumerate(path):
            if true is not None and visible[i]:
                axis.plot(*_xy(true[i]), "x", color="black", markersize=7, markeredgewidth=3)
                axis.plot(*_xy(true[i]), "x", color=TRUE, markersize=6, markeredgewidth=1.5)
            dot(axis, place, float(weight), hollow=True)
            if true is not None:
                error = f"{float((place - true[i]).norm()):.1f} px" if visible[i] else "hidden"
                axis.set_title(f"{axis.get_title()}, {error}", fontsize=8, pad=3)
    first[0].set_title(f"frame {look.query}\npixel {tuple(pixel)}", fontsize=8, pad=3)
    add_colour_bar(figure, rows, WEIGHTED if weighted else PER_FRAME)
    return figure


def path_errors(look: Look, pixel: tuple[int, int], clip: Clip) -> Float[Tensor, " t"]:
    """Distance in pixels between the expected and the true position in each memory frame, NaN where that is hidden."""
    true, visible = true_path(look, pixel, clip)
    return torch.where(visible, (path_of(look, pixel) - true).norm(dim=1), torch.nan)


def draw_path(axis: Axes, look: Look, pixel, true: Tensor | None, visible: Tensor | None) -> None:
    """The query frame in grey, the path from the pixel that asks back in time, and the true path."""
    draw_frame(axis, overlay(grey(look.frames[look.query]), look.predicted, alpha=0.0))
    cell = check_pixel(look, pixel)
    start = look.cell_to_pixel(torch.tensor(cell).float())
    if true is not None:
        seen = torch.cat([true[visible], rearrange(start, "yx -> 1 yx")]).numpy()
        axis.plot(seen[:, 1], seen[:, 0], "--", color="black", lw=2.4)
        axis.plot(seen[:, 1], seen[:, 0], "--", color=TRUE, lw=1.2)
        axis.plot(seen[:-1, 1], seen[:-1, 0], "x", color=TRUE, markersize=5)
    newest_first = list(zip(look.memory, path_of(look, pixel), weights_of(look, pixel).tolist(), strict=True))[::-1]
    points = [start, *(place for _, place, _ in newest_first)]
    for a, b, (_, _, weight) in zip(points, points[1:], newest_first, strict=False):
        ends = np.stack([a, b])
        for extra, ink in ((1.2, "black"), (0.0, FOUND)):
            axis.plot(ends[:, 1], ends[:, 0], "-", color=ink, lw=0.6 + extra + 5 * weight, solid_capstyle="round")
    for _, place, weight in newest_first:
        dot(axis, place, weight)
    mark_cell(axis, look, cell, "white")
    fit_to_frame(axis, look)


def number_path(axis: Axes, look: Look, pixel: tuple[int, int], width: float | int) -> None:
    """The number of its memory frame beside every dot of a path, where dots, the square and other numbers leave most room.

    To be called when the axis shows what it will show; `width`: of the axis, in points. A number that stands off its dot gets a thin line.
    """
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    scale = width / (right - left)  # points per pixel of the frame
    start = look.cell_to_pixel(torch.tensor(check_pixel(look, pixel)).float())
    places = torch.cat([path_of(look, pixel), rearrange(start, "yx -> 1 yx")])
    spots = np.stack([(places[:, 1] - left) * scale, (low - places[:, 0]) * scale], axis=1)  # in points, y upwards
    frame = np.array([width, (low - high) * scale])
    halo = [withStroke(linewidth=2, foreground="black")]
    taken: list[np.ndarray] = []  # middles of the numbers so far
    for t, place, spot in zip(look.memory, places, spots, strict=False):
        best, least = np.zeros(2), np.inf
        for distance in (11, 16, 22, 28):
            for angle in np.arange(8) * np.pi / 4 + np.pi / 4:
                offset = distance * np.array([np.cos(angle), np.sin(angle)])
                middle = spot + offset
                cost = distance / 100 + sum(_crowded(middle, other, 9) for other in spots)
                cost += 2 * sum(_crowded(middle, other, 12) for other in taken)
                cost += 4 * bool((middle < 6).any() or (middle > frame - 6).any())
                if cost < least - 1e-6:
                    best, least = offset, cost
        taken.append(spot + best)
        leader = {"arrowstyle": "-", "color": FOUND, "lw": 0.5, "shrinkA": 0, "shrinkB": 0}
        words = {"fontsize": 9, "fontweight": "bold", "color": FOUND, "ha": "center", "va": "center", "clip_on": True}
        text = axis.annotate(
            str(t),
            _xy(place),
            tuple(best),
            textcoords="offset points",
            arrowprops=leader if np.hypot(*best) > 12 else None,
            path_effects=halo,
            **words,
        )
        text.set_in_layout(False)


def _crowded(a: np.ndarray, b: np.ndarray, room: float | int) -> float:
    """0 where two points are `room` apart, 1 where they are one."""
    return max(0.0, 1 - float(np.hypot(*(a - b))) / room)


def zoom(axis: Axes, look: Look, places: Tensor) -> None:
    """Shows the part of the frame that holds all `places`, in the frame's proportions and at least half as wide."""
    size = torch.tensor(look.frames.shape[1:3]).float()
    low, high = places.amin(dim=0), places.amax(dim=0)
    share = float(((high - low) / size).max() + 0.16)
    half = size / 2 * min(max(share, 1 / 2), 1)
    middle = torch.minimum(torch.maximum((low + high) / 2, half - 0.5), size - 0.5 - half)
    axis.set_xlim(float(middle[1] - half[1]), float(middle[1] + half[1]))
    axis.set_ylim(float(middle[0] + half[0]), float(middle[0] - half[0]))


def dot(axis: Axes, place: Tensor, weight: float, hollow: bool = False) -> None:
    """An expected position; the area grows with the temporal weight. A hollow one does not hide what it stands on."""
    if hollow:
        for line, ink in ((2.4, "black"), (1.2, FOUND)):
            axis.scatter(*_xy(place), s=24 + 110 * weight, facecolors="none", edgecolors=ink, linewidths=line, zorder=3)
    else:
        axis.scatter(*_xy(place), s=10 + 110 * weight, color=FOUND, edgecolors="black", linewidths=0.9, zorder=3)


def _is_object(index_mask: Tensor) -> Tensor:
    return (index_mask > 0) & (index_mask < 255)


def _xy(place: Tensor) -> tuple[float, float]:
    return float(place[1]), float(place[0])


def _cell_pixels(look: Look):
    """For every cell: its middle `2 h w`, the nearest pixel's y and x `h w`, and whether that lies inside the frame."""
    height, width = look.insides.trajectory.shape[-2:]
    cells = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    centres = look.cell_to_pixel(cells)
    H, W = look.frames.shape[1:3]
    y, x = centres.round().long()
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
    return centres, y.clamp(0, H - 1), x.clamp(0, W - 1), inside


def _check_clip(look: Look, clip: Clip) -> None:
    if look.frames.shape != clip.frames.shape or not torch.equal(look.frames, clip.frames):
        raise InputError(
            f"the truth is a clip of {tuple(clip.frames.shape)} (seed {clip.seed}, {clip.level}), the look was taken "
            f"on other frames, {tuple(look.frames.shape)}: expected the clip that was looked at"
        )
