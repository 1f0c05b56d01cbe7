"""Who is heard: how many query pixels each memory pixel is the best match of, and which memory pixels a top-k read keeps.

    votes[t,m] = number of q for which (t m) = argmax over (t m) of s[t,m,q]

With a dot product a long key is a good match for everybody, so few memory pixels get nearly all votes; with a distance every memory pixel
can win the query pixels that are like it. This is what STCN calls memory coverage (NeurIPS 2021, "Improved Memory Coverage").
Numbers first, then figures that are pure functions of them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float, Int, UInt8
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..memory.similarity import dot_product, negative_squared_l2
from .affinity import COLOURS, draw_frame, grey
from .overlays import OKABE_ITO

PANEL, DPI = 1.9, 80  # inches a panel is wide; dots per inch
INK = "#d55e00"  # vermillion: seen on grey frames
STYLES = [  # a colour, a dash and a marker for each line: nobody has to tell them apart by colour alone
    (tuple(c / 255 for c in OKABE_ITO[i]), dash, marker)
    for i, dash, marker in ((5, "-", "o"), (4, "--", "s"), (2, "-.", "^"), (6, ":", "D"))
]


# ------------------------------------------------------------------ numbers


def count_votes(similarity: Float[Tensor, "b t m q"]) -> Int[Tensor, "b t m"]:
    """How many query pixels each memory pixel is the best match of; among equals the first one gets the vote.

    votes[t,m] = number of q with (t m) = argmax s[:,:,q]. Sums to q over (t m). Source: ours, after STCN's argument.
    """
    batch, frames, positions, _ = similarity.shape
    best = rearrange(similarity, "b t m q -> b q (t m)").argmax(dim=2)
    votes = best.new_zeros(batch, frames * positions).scatter_add(1, best, torch.ones_like(best))
    return rearrange(votes, "b (t m) -> b t m", t=frames)


def coverage(votes: Int[Tensor, "b t m"]) -> Float[Tensor, " b"]:
    """The share of memory pixels that are the best match of anybody, in (0, 1]. Source: ours, after STCN's argument."""
    return reduce((votes > 0).float(), "b t m -> b", "mean")


def share_of_top(votes: Int[Tensor, "b t m"], count: int) -> Float[Tensor, " b"]:
    """The share of query pixels whose best match is one of the `count` memory pixels with the most votes, in (0, 1].

    Raises ValueError for a count below 1. Source: ours.
    """
    if count < 1:
        raise ValueError(f"count is {count}, expected at least 1 memory pixel")
    ranked = rearrange(votes, "b t m -> b (t m)").sort(dim=1, descending=True).values
    return ranked[:, :count].sum(dim=1) / ranked.sum(dim=1)


# ------------------------------------------------------------------ pictures


def votes_figure(
    frames: UInt8[Tensor, "t H W 3"],
    votes: Mapping[str, Int[Tensor, "_ m"]],
    titles: Sequence[str],
    dpi: float | int = DPI,
) -> Figure:
    """Memory frames, a row for each way of voting; a dot's area grows with the number of query pixels that this memory pixel wins.

    Left of each row stands how many memory pixels win anything. One scale for the whole figure, explained below. Raises ValueError
    unless there is at least one row and as many titles and rows of votes as frames. Source: ours.
    """
    counts = {name: len(one) for name, one in votes.items()}
    if not votes or {len(titles), *counts.values()} != {len(frames)}:
        raise ValueError(
            f"{len(frames)} frames, {len(titles)} titles, votes {counts}: expected as many of each, in at least one row"
        )
    figure, rows = _panels(len(votes), len(frames), frames, dpi, below=0.3)
    largest = max(int(one.max()) for one in votes.values())
    area = lambda n: 4 + 420 * n / max(largest, 1)  # square points of a dot; a single vote must still be seen
    for axes, (name, one) in zip(rows, votes.items(), strict=True):
        width = _cells_in_a_row(frames, one.shape[1])
        wins = int((one > 0).sum())
        axes[0].set_ylabel(f"{name}\n{wins} of {one.numel()}\nmemory pixels win", fontsize=8)
        for axis, frame, of_frame, title in zip(axes, frames, one.tolist(), titles, strict=True):
            draw_frame(axis, grey(frame))
            cell = frame.shape[1] / width
            for m in sorted((m for m, n in enumerate(of_frame) if n), key=lambda m: -of_frame[m]):
                y, x = (cell * (c + 0.5) - 0.5 for c in divmod(m, width))
                edge = "white" if area(of_frame[m]) > 25 else "none"
                axis.scatter(x, y, s=area(of_frame[m]), color=INK, alpha=0.8, edgecolors=edge, linewidths=0.5)
            axis.set_title(f"{title}: {sum(of_frame)} votes", fontsize=8, pad=3)
            axis.set_xlim(-0.5, frame.shape[1] - 0.5)
            axis.set_ylim(frame.shape[0] - 0.5, -0.5)
    sizes = [n for n in (1, 10, 30, 100, 300, 1000) if n <= largest]
    sizes = sizes if len(sizes) < 4 else [1, *sizes[-2:]]
    dots = [rows[-1, -1].scatter([], [], s=area(n), color=INK, alpha=0.8) for n in sizes]
    names = [f"{n} query pixel{'s' if n > 1 else ''}" for n in sizes]
    figure.legend(dots, names, loc="outside lower center", ncols=len(sizes), fontsize=8, frameon=False)
    return figure


def share_figure(votes: Mapping[str, Int[Tensor, "_ m"]], dpi: float | int = DPI) -> Figure:
    """How concentrated votes are: the share of query pixels that the n most voted memory pixels win together, over n.

    A line that rises at once: few memory pixels speak for the whole frame. The dot marks where it reaches one, which is how many
    memory pixels win anything. Raises ValueError if there are no votes to draw. Source: ours.
    """
    if not votes:
        raise ValueError("0 rows of votes to draw, expected at least 1")
    figure = Figure(figsize=(4.6, 2.8), dpi=dpi, layout="constrained")
    axis = figure.subplots()
    for index, (name, one) in enumerate(votes.items()):
        ranked = rearrange(one, "t m -> (t m)").sort(descending=True).values
        share = (ranked.cumsum(0) / ranked.sum()).numpy()
        wins = int((ranked > 0).sum())
        colour, dash, marker = STYLES[index % len(STYLES)]
        axis.plot(np.arange(1, len(share) + 1), share, dash, color=colour, lw=2)
        axis.plot(wins, 1, marker, color=colour, markersize=7)
        axis.plot([], [], linestyle=dash, marker=marker, color=colour, lw=2, label=f"{name}: {wins} win anything")
    axis.set_xscale("log")
    axis.set_ylim(0, 1.05)
    axis.set_xlabel("memory pixels, most voted first (log scale)", fontsize=8)
    axis.set_ylabel("share of query pixels won", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.grid(color="0.9", lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="lower right")
    return figure


def winners_figure(memory: Float[Tensor, "m 2"], names: Sequence[str] | None = None, dpi: float | int = DPI) -> Figure:
    """Which memory key would a query at each point of the plane choose? For keys of two channels: by dot product, by squared distance.

    Regions have the colour of their winner; a key that wins nowhere has a hollow dot. `names`: of the keys (A, B, ... if None). Raises
    ValueError without keys. Source: ours; STCN draws the same regions for its argument.
    """
    if not len(memory):
        raise ValueError("0 memory keys to draw, expected at least 1")
    names = [chr(ord("A") + i) for i in range(len(memory))] if names is None else names
    reach = 1.25 * float(memory.abs().max())
    points, edges = torch.linspace(-reach, reach, 201), np.arange(len(memory)) + 0.5
    plane = rearrange(torch.stack(torch.meshgrid(points, points, indexing="xy")), "c h w -> 1 c h w")
    keys = rearrange(memory, "m c -> 1 c 1 m")
    hues = np.array(OKABE_ITO)[np.arange(len(memory)) % len(OKABE_ITO)] / 255
    figure = Figure(figsize=(6.4, 3.3), dpi=dpi, layout="constrained")
    rules = {"dot product (STM)": dot_product, "negative squared L2 (STCN)": negative_squared_l2}
    for axis, (title, similarity) in zip(figure.subplots(1, 2), rules.items(), strict=True):
        winner = rearrange(similarity(keys, plane).argmax(dim=1), "1 (h w) -> h w", h=201).numpy()
        axis.pcolormesh(
            points.numpy(),
            points.numpy(),
            winner,
            cmap=ListedColormap(0.45 + 0.55 * hues),
            vmin=-0.5,
            vmax=len(memory) - 0.5,
        )
        axis.contour(points.numpy(), points.numpy(), winner, levels=edges, colors="white", linewidths=0.8)
        alive = set(np.unique(winner).tolist())
        for m, (name, place) in enumerate(zip(names, memory.tolist(), strict=True)):
            axis.scatter(
                *place, s=55, color=hues[m] if m in alive else "white", edgecolors="black", linewidths=1.2, zorder=3
            )
            axis.annotate(name, place, (6, 4), textcoords="offset points", fontsize=9, fontweight="bold")
        axis.plot(0, 0, "+", color="black", markersize=9)
        axis.set_title(f"{title}\n{len(alive)} of {len(memory)} keys win somewhere", fontsize=9)
        axis.set_aspect("equal")
        axis.set_xlabel("key channel 1", fontsize=8)
        axis.set_ylabel("key channel 2", fontsize=8)
        axis.set_xticks([])
        axis.set_yticks([])
    return figure


def kept_figure(
    query_frame: UInt8[Tensor, "H W 3"],
    pixel: tuple[float | int, float | int],
    frames: UInt8[Tensor, "t H W 3"],
    weights: Mapping[str, Float[Tensor, "_ m"]],
    titles: Sequence[str],
    dpi: float | int = DPI,
) -> Figure:
    """Which memory pixels take part in the answer to one query pixel, a row for each way of reading.

    Left: the query frame, `pixel` (y, x) circled. Every memory cell with a weight above zero is a square, coloured by its share of the
    largest weight of its row, if that share is at least one in 256; how many cells have any weight stands above each frame. Raises
    ValueError unless there is at least one row and as many titles and rows of weights as frames. Source: ours.
    """
    counts = {name: len(one) for name, one in weights.items()}
    if not weights or {len(titles), *counts.values()} != {len(frames)}:
        raise ValueError(
            f"{len(frames)} frames, {len(titles)} titles, weights {counts}: expected as many of each, in at least one row"
        )
    figure, rows = _panels(len(weights), 1 + len(frames), frames, dpi)
    colours = _colour_map()
    for axes, (name, one) in zip(rows, weights.items(), strict=True):
        draw_frame(axes[0], query_frame)
        for line, ink in ((3.0, "black"), (1.5, "white")):
            axes[0].plot(pixel[1], pixel[0], "o", ms=11, mfc="none", mec=ink, mew=line)
        axes[0].set_ylabel(name, fontsize=9)
        axes[0].set_title("query", fontsize=8, pad=3)
        width, top = _cells_in_a_row(frames, one.shape[1]), max(float(one.max()), 1e-12)
        for axis, frame, of_frame, title in zip(axes[1:], frames, one.cpu(), titles, strict=True):
            draw_frame(axis, grey(frame))
            cell = frame.shape[1] / width
            for m in (of_frame >= top / 256).nonzero()[:, 0].tolist():
                y, x = (cell * c - 0.5 for c in divmod(m, width))
                colour = colours(float(of_frame[m]) / top)
                axis.add_patch(Rectangle((x, y), cell, cell, facecolor=colour, edgecolor="white", linewidth=0.3))
            axis.set_title(f"{title}: {int((of_frame > 0).sum())} cells", fontsize=8, pad=3)
    return figure


def _colour_map():
    import matplotlib

    return matplotlib.colormaps[COLOURS]


def _panels(rows: int, columns: int, frames: Tensor, dpi: float | int, below: float = 0.0) -> tuple[Figure, np.ndarray]:
    """A grid of panels in the proportions of the frames, a line of title above each, and room `below` (inches) for a legend."""
    height, width = frames.shape[1:3]
    size = (PANEL * columns + 0.4, (PANEL * height / width + 0.22) * rows + below)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _cells_in_a_row(frames: Tensor, cells: int) -> int:
    """Width of a grid of so many cells with the frames' proportions. Raises ValueError if there is none."""
    height, width = frames.shape[1:3]
    found = round((cells * width / height) ** 0.5)
    if found < 1 or cells % found:
        raise ValueError(f"{cells} cells do not make a grid in the proportions of frames of {height} x {width}")
    return found
