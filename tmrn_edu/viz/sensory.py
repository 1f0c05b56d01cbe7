"""Pictures of XMem's additions: what shrinkage and selection do, and what the sensory memory holds from frame to frame.

Pure functions of tensors; no network is run.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Integer, UInt8
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from ..memory.affinity import softmax_over_memory
from ..memory.similarity import anisotropic_l2
from .affinity import COLOURS, draw_frame, grey
from .overlays import OKABE_ITO, overlay

DPI = 80
SIGNED = "PuOr_r"  # purple below zero, orange above: apart for all common kinds of colour vision
INKS = [tuple(c / 255 for c in OKABE_ITO[i]) for i in (4, 5, 2, 6)]
DASHES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D")


def shrinkage_figure(
    keys: Float[Tensor, " m"],
    shrinkages: Sequence[Float[Tensor, " _"]],
    asks: Float[Tensor, " q"],
    dpi: float | int = DPI,
) -> Figure:
    """Memory keys on a line, and who answers a query at any place of it: one panel for every set of shrinkages.

    Each line is one memory pixel's weight, softmax over m of -shrinkage[m] (key[m] - query)^2; dots on the axis are the keys, A, B, ... In
    a panel's title the shrinkages. Raises ValueError unless there are as many shrinkages as keys. Source: ours, of `memory.similarity`.
    """
    figure = Figure(figsize=(3.2 * len(shrinkages), 2.4), dpi=dpi, layout="constrained")
    for axis, shrinkage in zip(figure.subplots(1, len(shrinkages), sharey=True, squeeze=False)[0], shrinkages):
        if shrinkage.shape != keys.shape:
            raise ValueError(f"{len(shrinkage)} shrinkages for {len(keys)} memory keys, expected one each")
        score = anisotropic_l2(
            rearrange(keys, "m -> 1 1 1 1 m"),
            rearrange(asks, "q -> 1 1 1 q"),
            rearrange(shrinkage, "m -> 1 1 1 1 m"),
        )
        for m, weights in enumerate(softmax_over_memory(score)[0, 0]):
            style = {"color": INKS[m % len(INKS)], "linestyle": DASHES[m % len(DASHES)]}
            axis.plot(asks, weights, linewidth=2, label=f"memory pixel {chr(ord('A') + m)}", **style)
            axis.plot(
                float(keys[m]),
                0,
                MARKERS[m % len(MARKERS)],
                color=style["color"],
                markersize=8,
                clip_on=False,
                zorder=4,
            )
        axis.set_title("shrinkage " + ", ".join(f"{float(s):.0f}" for s in shrinkage), fontsize=9)
        axis.set_xlabel("key of the query", fontsize=8)
        axis.set_ylim(0, 1.05)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("weight", fontsize=8)
    figure.legend(
        *axis.get_legend_handles_labels(), loc="outside lower center", ncols=len(keys), fontsize=8, frameon=False
    )
    return figure


def selection_figure(
    memory: Float[Tensor, "m 2"], query: Float[Tensor, "2"], names: Sequence[str], dpi: float | int = DPI
) -> Figure:
    """Memory keys of two channels around a query (star), and their weights as the query's selection of channel 2 goes from 0 to 1.

    Left: the plane of keys. Right: softmax over m of the anisotropic L2 with selection (1, e). Source: ours, of `memory.similarity`.
    """
    figure = Figure(figsize=(7.2, 2.6), dpi=dpi, layout="constrained")
    plane, plot = figure.subplots(1, 2, width_ratios=(1, 1.6))
    channels = torch.linspace(0, 1, 51)
    weights = []
    for e in channels:
        selection = rearrange(torch.stack([torch.ones_like(e), e]), "c -> 1 c 1 1")
        score = anisotropic_l2(
            rearrange(memory, "m c -> 1 1 c 1 m"), rearrange(query, "c -> 1 c 1 1"), selection=selection
        )
        weights.append(softmax_over_memory(score)[0, 0, :, 0])
    for m, (name, lines) in enumerate(zip(names, torch.stack(weights, dim=1), strict=True)):
        ink, marker = INKS[m % len(INKS)], MARKERS[m % len(MARKERS)]
        plane.plot(*memory[m].tolist(), marker, color=ink, markersize=9, markeredgecolor="black", markeredgewidth=0.6)
        plane.annotate(name, memory[m].tolist(), (8, 4), textcoords="offset points", fontsize=10, color=ink)
        plot.plot(channels, lines, DASHES[m % len(DASHES)], color=ink, linewidth=2, label=f"memory pixel {name}")
    plane.plot(*query.tolist(), "*", color="black", markersize=14)
    reach = 1.35 * float((memory - query).abs().max())
    plane.set_xlim(float(query[0]) - reach, float(query[0]) + reach)
    plane.set_ylim(float(query[1]) - reach, float(query[1]) + reach)
    plane.set_aspect("equal")
    plane.set_xlabel("key channel 1", fontsize=8)
    plane.set_ylabel("key channel 2", fontsize=8)
    plot.set_xlabel("the query's selection of channel 2 (of channel 1: 1)", fontsize=8)
    plot.set_ylabel("weight", fontsize=8)
    plot.set_ylim(0, 1.05)
    plot.legend(fontsize=8, frameon=False)
    for axis in (plane, plot):
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def weight_columns(
    frames: UInt8[Tensor, "t H W 3"],
    index_masks: UInt8[Tensor, "t H W"],
    weights: Mapping[str, Float[Tensor, "_ h w"]],
    query_frame: UInt8[Tensor, "H W 3"],
    pixel: tuple[int, int],
    titles: Sequence[str],
    dpi: float | int = DPI,
) -> Figure:
    """One query pixel (y, x), asked in several ways: a column for each, with where it looks in every memory frame; left, the query frame.

    Colours go from 0 to the largest weight of the column, which stands below its name; outlines are the memory frames' masks. `titles`: one
    per memory frame. Raises ValueError for no columns, or frames, maps and titles that differ in number. Source: ours.
    """
    counts = {"frames": len(frames), "titles": len(titles)} | {name: len(maps) for name, maps in weights.items()}
    if not weights or len(set(counts.values())) > 1:
        raise ValueError(f"{counts}: expected at least one column, and as many of each")
    height, width = query_frame.shape[:2]
    columns, panel = 1 + len(weights), 1.7
    size = (panel * columns + 0.8, (panel * height / width + 0.06) * len(frames) + 0.4)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    panels = figure.subplots(len(frames), columns, squeeze=False)
    draw_frame(panels[0, 0], query_frame)
    panels[0, 0].set_title("the query", fontsize=8, pad=3)
    for line, ink in ((3.4, "black"), (1.6, "white")):
        square = {"markersize": 9, "markerfacecolor": "none", "markeredgecolor": ink, "markeredgewidth": line}
        panels[0, 0].plot(pixel[1], pixel[0], "s", **square)
    for axis in panels[1:, 0]:
        axis.set_axis_off()
    for column, (name, maps) in zip(panels[:, 1:].T, weights.items(), strict=True):
        top = float(maps.max())
        column[0].set_title(f"{name}\nlargest {top:.2g}", fontsize=8, pad=3)
        for axis, frame, mask, heat in zip(column, frames, index_masks, maps, strict=True):
            draw_frame(axis, overlay(grey(frame), mask, alpha=0.0))
            share = heat.cpu().numpy() / max(top, 1e-12)
            style = {"cmap": COLOURS, "vmin": 0, "vmax": 1, "extent": _extent(frame), "interpolation": "nearest"}
            axis.imshow(share, alpha=np.sqrt(share), **style)
    for axis, title in zip(panels[:, 1], titles, strict=True):
        axis.set_ylabel(title, fontsize=8)
    bar = figure.colorbar(
        ScalarMappable(Normalize(0, 1), COLOURS), ax=panels, fraction=0.02, pad=0.01, ticks=[0, 0.5, 1]
    )
    bar.set_label("weight, share of the column's largest", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    return figure


def sensory_strip(
    frames: UInt8[Tensor, "t H W 3"],
    index_masks: Integer[Tensor, "t H W"],
    maps: Mapping[str, Float[Tensor, "_ h w"]],
    titles: Sequence[str],
    limit: float | int = 1.0,
    dpi: float | int = DPI,
) -> Figure:
    """A clip as a film strip: frames with masks above, below them one row for every quantity on the key's grid.

    A quantity with negative values is coloured from -`limit` to `limit`, any other one from 0 to its own largest value; the scale stands to
    the right. Outlines are those of the masks. Raises ValueError where frames, masks, maps and titles differ in number. Source: ours.
    """
    counts = {"frames": len(frames), "masks": len(index_masks), "titles": len(titles)}
    counts |= {name: len(values) for name, values in maps.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"{counts}: expected as many of each")
    height, width = frames.shape[1:3]
    panel = min(1.2, 13.0 / len(frames))
    size = (panel * len(frames) + 1.1, (panel * height / width + 0.05) * (1 + len(maps)) + 0.4)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.02, wspace=0.0, hspace=0.0)
    rows = figure.subplots(1 + len(maps), len(frames), squeeze=False)
    for axis, frame, mask, title in zip(rows[0], frames, index_masks, titles, strict=True):
        draw_frame(axis, overlay(frame, mask, alpha=0.0))
        axis.set_title(title, fontsize=7, pad=3)
    rows[0, 0].set_ylabel("frames", fontsize=8)
    for row, (name, values) in zip(rows[1:], maps.items(), strict=True):
        signed = bool((values < 0).any())
        low, high = (-limit, limit) if signed else (0.0, float(values.max()))
        colours = SIGNED if signed else COLOURS
        for axis, frame, mask, picture in zip(row, frames, index_masks, values, strict=True):
            axis.imshow(
                picture.cpu().numpy(), cmap=colours, vmin=low, vmax=high, extent=_extent(frame), interpolation="nearest"
            )
            _outline(axis, mask, "black" if signed else "white")
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(name, fontsize=8)
        bar = figure.colorbar(
            ScalarMappable(Normalize(low, high), colours), ax=row, fraction=0.03, pad=0.005, ticks=[low, high]
        )
        bar.ax.set_yticklabels([f"{low:.2g}", f"{high:.2g}"], fontsize=7)
    return figure


def probe_figure(
    J: Mapping[str, Float[Tensor, " _"]],
    in_sight: Float[Tensor, " t"],
    memory_frames: Sequence[int] = (),
    dpi: float | int = DPI,
) -> Figure:
    """J frame by frame, a line for every probe; above, the share of the target that is in sight. Dotted lines stand at memory frames.

    Frames with less than half of the target in sight are shaded. All in [0, 1]; NaN leaves a gap. Raises ValueError where lines differ in
    length. Source: ours.
    """
    for name, line in J.items():
        if len(line) != len(in_sight):
            raise ValueError(f"{name!r} has {len(line)} frames, in_sight has {len(in_sight)}, expected as many")
    figure = Figure(figsize=(7.6, 3.4), dpi=dpi, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 3))
    frames = range(len(in_sight))
    above.bar(frames, in_sight.tolist(), color="0.6", width=0.8)
    above.set_ylabel("in sight", fontsize=8)
    for number, (name, line) in enumerate(J.items()):
        style = {"color": INKS[number % 4], "linestyle": DASHES[number % 4], "marker": MARKERS[number % 4]}
        below.plot(frames, line.tolist(), label=name, markersize=5, linewidth=1.8, **style)
    below.set_ylabel("J", fontsize=8)
    below.set_xlabel("frame", fontsize=8)
    below.legend(fontsize=8, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=len(J))
    for axis in (above, below):
        axis.set_ylim(0, 1.05)
        axis.set_xticks(list(frames))
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        for t in memory_frames:
            axis.axvline(t, color="0.4", linestyle=":", linewidth=1)
        for t, share in enumerate(in_sight.tolist()):
            if share < 0.5:
                axis.axvspan(t - 0.5, t + 0.5, color="0.9", zorder=0, linewidth=0)
    return figure


def _extent(frame: Tensor) -> tuple[float, float, float, float]:
    height, width = frame.shape[:2]
    return -0.5, width - 0.5, height - 0.5, -0.5


def _outline(axis, mask: Tensor, ink: str) -> None:
    """The rim of the objects; nothing where the mask is empty."""
    inside = (mask > 0).float().cpu().numpy()
    if inside.min() < inside.max():
        axis.contour(inside, levels=[0.5], colors=ink, linewidths=0.9)
