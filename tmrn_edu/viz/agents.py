"""Pictures of TMRN's two steps: which agent answers where, memory frames brought onto the query grid, which frame counts where.

Pure functions of tensors on the feature grid (`h w`), drawn over frames of any size; no network is run.
"""

import numpy as np
import torch
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from .affinity import COLOURS, draw_frame, grey
from .overlays import OKABE_ITO

PANEL = 1.7  # inches a panel is wide
DPI = 80.0


def effective_agents(likelihood: Float[Tensor, "b a m"]) -> Float[Tensor, " b"]:
    """How many agents are really in use: the perplexity of their shares of the frame.

    exp(- sum_a u[a] log u[a]) with u[a] = mean_m likelihood[a,m]: a if all are used alike, 1 if one answers for every pixel. Source: ours.
    """
    share = reduce(likelihood, "b a m -> b a", "mean")
    return torch.special.entr(share).sum(dim=-1).exp()


def agent_colours(count: int) -> Float[np.ndarray, "a 3"]:
    """Colours of `count` agents, n directions and then their n opposites: one hue a direction, full for +, dark for -. In [0, 1]."""
    hues = np.array(OKABE_ITO)[[0, 1, 2, 6, 3, 5, 4]] / 255
    hues = hues[np.arange(-(-count // 2)) % len(hues)]
    return np.concatenate([hues, 0.45 * hues])[:count]


def _legend_below(figure, axis, columns: int) -> None:
    """One row of named squares under all panels, those that `axis` holds."""
    style = {"ncols": columns, "fontsize": 8, "frameon": False, "handletextpad": 0.1}
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", **style)


def agent_map(likelihood: Float[Tensor, "a m"], width: int) -> Float[np.ndarray, "h w 3"]:
    """Which agent answers where: each cell in the mean of the agents' colours, weighted by their likelihoods.

    A cell that one agent answers for has its pure colour; an undecided one is muddy. `width`: cells in a row.
    """
    colours = torch.from_numpy(agent_colours(len(likelihood))).to(likelihood.dtype)
    mixed = einsum(likelihood.cpu(), colours, "a m, a rgb -> m rgb")
    return rearrange(mixed, "(h w) rgb -> h w rgb", w=width).numpy()


def agent_figure(
    frames: UInt8[Tensor, "n H W 3"], likelihoods: Float[Tensor, "n a m"], titles: list[str], dpi: float = DPI
) -> Figure:
    """Frames above, below them which agent answers where, and how many agents are in use. `titles`: one per frame.

    Agents are n directions, then their opposites, as `memory.agents.Agents` makes them; a legend names them +1, -1, ...
    Raises ValueError when the numbers of frames, likelihoods and titles differ. Source: ours.
    """
    _same_number(frames=frames, likelihoods=likelihoods, titles=titles)
    width = _cells_in_a_row(frames, likelihoods.shape[-1])
    figure, rows = _panels(2, len(frames), frames, dpi, below=0.3)
    for column, (frame, likelihood) in enumerate(zip(frames, likelihoods, strict=True)):
        draw_frame(rows[0, column], frame)
        draw_frame(rows[1, column], torch.from_numpy(agent_map(likelihood, width)))
        rows[0, column].set_title(titles[column], fontsize=8, pad=3)
        used = float(effective_agents(rearrange(likelihood, "a m -> 1 a m")))
        rows[1, column].set_title(f"{used:.1f} agents in use", fontsize=8, pad=3)
    count = likelihoods.shape[1]
    names = [
        f"{sign}{1 + a % max(1, count // 2)}" for a, sign in enumerate("+" * (count // 2) + "-" * (count - count // 2))
    ]
    for name, colour in zip(names, agent_colours(count), strict=True):
        rows[1, -1].plot([], [], "s", color=colour, label=name, markersize=6)
    _legend_below(figure, rows[1, -1], count)
    return figure


def aligned_figure(
    frames: UInt8[Tensor, "t H W 3"],
    aligned: Float[Tensor, "t 3 h w"],
    query_frame: UInt8[Tensor, "H W 3"],
    titles: list[str],
    dpi: float = DPI,
) -> Figure:
    """Memory frames above; below, each one's colours (`aligned`, RGB in [0, 1]) brought onto the query grid, and the query frame to compare with.

    Raises ValueError when the numbers of frames, aligned frames and titles differ. Source: ours.
    """
    _same_number(frames=frames, aligned=aligned, titles=titles)
    figure, rows = _panels(2, len(frames) + 1, frames, dpi)
    for column, (frame, picture) in enumerate(zip(frames, aligned, strict=True)):
        draw_frame(rows[0, column], frame)
        draw_frame(rows[1, column], rearrange(picture.clamp(0, 1), "c h w -> h w c"))
        rows[0, column].set_title(titles[column], fontsize=8, pad=3)
        rows[1, column].set_title("aligned", fontsize=8, pad=3)
    rows[0, -1].set_axis_off()
    draw_frame(rows[1, -1], query_frame)
    rows[1, -1].set_title("the query frame", fontsize=8, pad=3)
    return figure


def heat_figure(
    frames: UInt8[Tensor, "n H W 3"],
    heat: Float[Tensor, "n h w"],
    titles: list[str],
    top: float | None = None,
    marks: list[tuple[float, float] | None] | None = None,
    root: bool = False,
    bar: str | None = None,
    dpi: float = DPI,
) -> Figure:
    """Any quantity >= 0 on the grid, laid over one frame each. Colours go from 0 to `top`, or to the panel's own largest value.

    `marks`: a pixel (y, x) to circle in each panel, or None. `root`: colours go with the square root, which shows small values. `bar`: words for a
    colour bar; without `top` it ends at 1, the largest value of each panel. Raises ValueError when the numbers differ. Source: ours.
    """
    marks = [None] * len(frames) if marks is None else marks
    _same_number(frames=frames, heat=heat, titles=titles, marks=marks)
    figure, rows = _panels(1, len(frames), frames, dpi, right=0.0 if bar is None else 0.6)
    if bar is not None:
        end = 1.0 if top is None else top
        _colour_bar(
            figure, rows[0], _scale(end, root), bar, [0.0, end / 10, end / 2, end] if root else [0.0, end / 2, end]
        )
    for axis, frame, values, title, mark in zip(rows[0], frames, heat, titles, marks, strict=True):
        _draw_heat(axis, frame, values, _scale(max(float(values.max()), 1e-12) if top is None else top, root))
        axis.set_title(title, fontsize=8, pad=3)
        if mark is not None:
            for width, ink in ((3.0, "black"), (1.5, "white")):
                axis.plot(
                    mark[1],
                    mark[0],
                    "o",
                    markersize=11,
                    markerfacecolor="none",
                    markeredgecolor=ink,
                    markeredgewidth=width,
                )
    return figure


def temporal_figure(
    query_frame: UInt8[Tensor, "H W 3"], weights: Float[Tensor, "t h w"], frame_numbers: list[int], dpi: float = DPI
) -> Figure:
    """Which memory frame counts where: a map of temporal weights u[t,q] per frame (0 to 1), and the frame that counts most.

    A line in the colour bar marks 1 / t, the weight of every frame where all count alike.
    Raises ValueError when the numbers of maps and frame numbers differ. Source: ours.
    """
    _same_number(weights=weights, frame_numbers=frame_numbers)
    count = len(weights)
    frames = repeat(query_frame, "H W c -> n H W c", n=count + 1)
    figure, rows = _panels(1, count + 1, frames, dpi, below=0.45, right=0.6)
    bar = _colour_bar(figure, rows[0, :-1], _scale(1.0), "temporal weight u", [0.0, 0.5, 1.0])
    bar.axhline(1 / count, color="white", linewidth=1.5)
    for axis, values, number in zip(rows[0], weights, frame_numbers, strict=False):
        _draw_heat(axis, query_frame, values, _scale(1.0), least=0.8)
        axis.set_title(f"u of frame {number}\nmean {float(values.mean()):.2f}", fontsize=8, pad=3)
    colours = agent_colours(2 * count)[:count]
    draw_frame(rows[0, -1], grey(query_frame))
    winner = weights.argmax(dim=0).cpu().numpy()
    rows[0, -1].imshow(
        winner,
        cmap=ListedColormap(colours),
        vmin=-0.5,
        vmax=count - 0.5,
        alpha=0.85,
        extent=_extent(query_frame),
        interpolation="nearest",
    )
    rows[0, -1].set_title("counts most", fontsize=8, pad=3)
    for number, colour in zip(frame_numbers, colours, strict=True):
        rows[0, -1].plot([], [], "s", color=colour, label=f"frame {number}", markersize=6)
    _legend_below(figure, rows[0, -1], count)
    return figure


def plane_figure(
    memory: dict[str, Float[Tensor, "n 2"]],
    query: Float[Tensor, " 2"],
    mean: Float[Tensor, " 2"],
    agents: Float[Tensor, "a 2"],
    dpi: float = DPI,
) -> Figure:
    """Keys of two channels as points of a plane: groups of memory pixels by name, one query pixel, and the agents as arrows from the mean."""
    figure = Figure(figsize=(4.6, 2.9), dpi=dpi, layout="constrained")
    axis = figure.subplots()
    length = max(float((group - mean).norm(dim=-1).max()) for group in memory.values()) * 0.4
    for number, agent in enumerate(agents / agents.norm(dim=-1, keepdim=True)):
        sign = "+" if number < len(agents) / 2 else "-"
        end, label = mean + length * agent, mean + 1.2 * length * agent
        axis.annotate("", end.tolist(), mean.tolist(), arrowprops={"arrowstyle": "->", "color": "0.55", "lw": 1.6})
        axis.plot(*label.tolist(), alpha=0)  # so that the axes reach as far
        name = f"{sign}{1 + number % (len(agents) // 2)}"
        axis.annotate(name, label.tolist(), color="0.3", fontsize=10, ha="center", va="center")
    for (name, group), colour, marker in zip(
        memory.items(), np.array(OKABE_ITO)[[0, 1, 2, 6]] / 255, "osD^", strict=False
    ):
        axis.plot(
            group[:, 0],
            group[:, 1],
            marker,
            color=colour,
            label=name,
            markersize=7,
            markeredgecolor="black",
            markeredgewidth=0.6,
        )
    axis.plot(*query.tolist(), "*", color="black", markersize=14, label="query pixel")
    axis.set_aspect("equal")
    axis.set_xlabel("key channel 1", fontsize=8)
    axis.set_ylabel("key channel 2", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, frameon=False)
    return figure


def _panels(
    rows: int, columns: int, frames: Tensor, dpi: float, below: float = 0.0, right: float = 0.0
) -> tuple[Figure, np.ndarray]:
    """A grid of panels in the frames' proportions, a line of title above each; inches for a legend `below`, a bar at the `right`."""
    height, width = frames.shape[1:3]
    size = PANEL * columns + right, (PANEL * height / width + 0.22) * rows + below
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _scale(top: float, root: bool = False) -> Normalize:
    """From 0 to `top`, evenly or by the square root."""
    return PowerNorm(0.5, 0, top) if root else Normalize(0, top)


def _colour_bar(figure: Figure, axes: np.ndarray, scale: Normalize, words: str, ticks: list[float]) -> Axes:
    """The axis of a colour bar at the right of `axes`."""
    mappable = ScalarMappable(scale, COLOURS)
    bar = figure.colorbar(mappable, ax=axes, fraction=0.05, pad=0.01, ticks=ticks, format="%g")
    bar.set_label(words, fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return bar.ax


def _draw_heat(axis: Axes, frame: Tensor, values: Tensor, scale: Normalize, least: float = 0.25) -> None:
    """Values over the frame; where they are 0 the frame shows through, up to the opacity `least`."""
    values = values.cpu().numpy()
    visible = least + (1 - least) * np.sqrt(np.clip(values / scale.vmax, 0, 1))
    draw_frame(axis, grey(frame))
    axis.imshow(values, cmap=COLOURS, norm=scale, alpha=visible, extent=_extent(frame), interpolation="nearest")


def _extent(frame: Tensor) -> tuple[float, float, float, float]:
    height, width = frame.shape[:2]
    return -0.5, width - 0.5, height - 0.5, -0.5


def _cells_in_a_row(frames: Tensor, cells: int) -> int:
    """Width of a grid of so many cells with the frame's proportions."""
    height, width = frames.shape[1:3]
    found = round((cells * width / height) ** 0.5)
    if found < 1 or cells % found:
        raise ValueError(f"{cells} cells do not make a grid in the proportions of frames of {height} x {width}")
    return found


def _same_number(**things) -> None:
    counts = {name: len(thing) for name, thing in things.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"{counts}: expected as many of each, at least one")
