"""Where a query pixel looks: its affinity as heat maps over the memory frames.

    W[t,m,q]            affinity, sums to one over the positions m of one memory frame
    u[t,q]              temporal weight, sums to one over the memory frames t
    W[t,m,q] u[t,q]     the weight of one memory position in what is read, sums to one over (t m)

A space-time read and a trajectory read are shown alike, since both are this product (method section 4, identity 1).
Everything here is drawn from `Look`; no network is run.
"""

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..errors import InputError
from ..looking import Look
from .overlays import overlay

WIDTH, PANEL = 10.4, (1.3, 2.0)  # inches: of a figure, and of a panel at least and at most
DPI = 72
COLOURS = "viridis"  # even in lightness and the same for all kinds of colour vision
# As in explorer_paint.js: black, contrast and colour of a muted frame; the power of a share of the largest affinity that is its opacity.
MUTED, VISIBLE = (34, 0.52, 0.35), 0.45
PER_FRAME = "affinity W: sums to one over each memory frame\ncolour: share of the largest in its frame"
WEIGHTED = "W x temporal weight u: sums to one over all memory frames\ncolour: share of the largest in its row"


def by_name(looks: Look | Mapping[str, Look]) -> dict[str, Look]:
    """Looks by the names of their readers; a single one is called "reader".

    Raises InputError when there is none, or when two differ in query frame, memory frames, frame size or grid: their
    pictures could not stand side by side. Source: ours.
    """
    looks = {"reader": looks} if isinstance(looks, Look) else dict(looks)
    if not looks:
        raise InputError("0 looks to draw, expected at least 1")
    first, *others = looks.items()
    for name, look in others:
        for what, of in SHARED.items():
            if of(look) != of(first[1]):
                raise InputError(f"{what}: {of(first[1])} in {first[0]!r}, {of(look)} in {name!r}; expected the same")
    return looks


SHARED = {
    "query frame": lambda look: look.query,
    "memory frames": lambda look: look.memory,
    "frame size": lambda look: tuple(look.frames.shape[1:3]),
    "grid": lambda look: tuple(look.insides.trajectory.shape[-2:]),
    "pixels per cell": lambda look: look.cell,
    "padding": lambda look: look.offset,
}


def check_pixel(look: Look, pixel: tuple[int, int]) -> tuple[int, int]:
    """The grid cell of a pixel (y, x) of the query frame. Raises InputError outside the frame, naming both."""
    height, width = look.frames.shape[1:3]
    if not (0 <= pixel[0] < height and 0 <= pixel[1] < width):
        raise InputError(f"pixel {tuple(pixel)} (y, x) lies outside the frame, which has {height} x {width} pixels")
    return look.pixel_to_cell(float(pixel[0]), float(pixel[1]))


def heat_maps(look: Look, pixel: tuple[int, int], weighted: bool = False) -> Float[Tensor, "t h w"]:
    """Where one pixel (y, x) of the query frame looks, on the grid of each memory frame.

        W[t,m,q], sums to one over each frame;      `weighted`: W[t,m,q] u[t,q], sums to one over all frames

    q is the grid cell that holds the pixel. Raises InputError for a pixel outside the frame. Source: ours.
    """
    y, x = check_pixel(look, pixel)
    width = look.insides.trajectory.shape[-1]
    q = y * width + x
    heat = look.insides.affinity[0, :, :, q]
    if weighted:
        heat = heat * rearrange(look.insides.temporal_weights[0, :, q], "t -> t 1")
    return rearrange(heat, "t (h w) -> t h w", w=width).cpu()


def weights_of(look: Look, pixel: tuple[int, int]) -> Float[Tensor, " t"]:
    """Temporal weights u[t,q] of the cell that holds a pixel; they sum to one."""
    y, x = check_pixel(look, pixel)
    return look.insides.temporal_weights[0, :, y * look.insides.trajectory.shape[-1] + x].cpu()


def affinity_figure(
    looks: Look | Mapping[str, Look], pixel: tuple[int, int], weighted: bool = False, dpi: float | int = DPI
) -> Figure:
    """One row per reader: the query frame with `pixel` marked, then every memory frame with where that pixel looks.

    Colours show W[t,m,q] relative to the largest of its frame, so a frame that hardly counts looks as sure as any
    other: its temporal weight u stands above it. `weighted=True` colours W u relative to the largest of the row. The
    query frame carries the outlines of the masks as segmented, memory frames those of the masks they were stored with. `pixel`:
    (y, x). The heat map of a panel is its last image, in units of the affinity. Raises InputError for a pixel outside
    the frame and for looks that cannot stand side by side. Source: ours.
    """
    looks = by_name(looks)
    figure, rows, first = panels(looks, pixel, dpi)
    for look, axes in zip(looks.values(), rows, strict=True):
        draw_query(axes[0], look, pixel)
        draw_heat_maps(axes[1:], look, pixel, weighted, first)
    first[0].set_title(f"frame {look.query}\npixel {tuple(pixel)}", fontsize=8, pad=3)
    add_colour_bar(figure, rows, WEIGHTED if weighted else PER_FRAME)
    return figure


def panels(looks: dict[str, Look], pixel: tuple[int, int], dpi: float | int) -> tuple[Figure, np.ndarray, np.ndarray]:
    """An empty figure: rows of one query panel and one panel per memory frame. Also its rows, and the first of them."""
    look = next(iter(looks.values()))
    check_pixel(look, pixel)
    height, width = look.frames.shape[1:3]
    columns = 1 + len(look.memory)
    side = min(max(WIDTH / columns, PANEL[0]), PANEL[1])
    tall = side * height / width
    size = (side * columns + 0.7, (tall + 0.22) * len(looks) + 0.45)
    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    rows = figure.subplots(len(looks), columns, squeeze=False)
    for axis, name in zip(rows[:, 0], looks, strict=True):
        letters = max(6, round(tall / 0.085))  # that fit beside the row
        axis.set_ylabel(fill(name, letters) if len(looks) > 1 else "", fontsize=9)
    return figure, rows, rows[0]


def draw_query(axis: Axes, look: Look, pixel: tuple[int, int]) -> None:
    """The query frame with its predicted masks' outlines, and the cell of the pixel that asks."""
    draw_frame(axis, outlined(look.frames[look.query], look.predicted))
    mark_cell(axis, look, check_pixel(look, pixel), "white")


def draw_heat_maps(axes: np.ndarray, look: Look, pixel: tuple[int, int], weighted: bool, first: np.ndarray) -> None:
    """Heat maps over a row of memory frames, temporal weights above; `first`: the row that also names the frames."""
    heat = heat_maps(look, pixel, weighted).numpy()
    for axis, t, frame_heat, weight in zip(axes, look.memory, heat, weights_of(look, pixel), strict=True):
        top = max(float(heat.max() if weighted else frame_heat.max()), 1e-12)
        draw_frame(axis, overlay(muted(look.frames[t]), look.index_masks[t], alpha=0.0))
        y0, x0 = (-o - 0.5 for o in look.offset)
        y1, x1 = y0 + look.cell * frame_heat.shape[0], x0 + look.cell * frame_heat.shape[1]
        axis.imshow(
            frame_heat,
            cmap=COLOURS,
            vmin=0,
            vmax=top,
            alpha=(frame_heat / top) ** VISIBLE,
            extent=(x0, x1, y1, y0),
            interpolation="nearest",
        )
        fit_to_frame(axis, look)
        name = f"frame {t}\n" if axis in first else ""
        axis.set_title(f"{name}u = {weight:.2f}", fontsize=8, pad=3)


def outlined(frame: Tensor, index_mask: Tensor) -> Tensor:
    """A frame in its own colours with thick outlines of its objects: what looks alike still does."""
    return overlay(frame, index_mask, alpha=0.0, thickness=max(2, round(len(frame) / 60)))


def muted(frame: Tensor) -> Tensor:
    """A frame paler and with little of its colour: heat stands out on it, and a target still differs from what is beside it."""
    light = reduce(frame.float(), "H W c -> H W 1", "mean")
    black, contrast, colour = MUTED
    levels = black + contrast * light + colour * (frame - light)
    return (4 * (levels / 4).round()).clamp(0, 255).to(torch.uint8)  # in few levels, which pack well


def grey(frame: Tensor) -> Tensor:
    """A frame without its colours, in 16 dim steps: what is laid over it stands out, and the picture packs well."""
    light = reduce(frame.float(), "H W c -> H W 1", "mean") // 16
    return (light * 9 + 30).to(torch.uint8).expand(-1, -1, 3)


def draw_frame(axis: Axes, picture: Tensor) -> None:
    """A picture without ticks; small ones keep their pixels."""
    axis.imshow(picture.numpy(), interpolation="nearest" if len(picture) < 160 else "antialiased")
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def fit_to_frame(axis: Axes, look: Look) -> None:
    """Shows the frame and nothing of the padding around it."""
    height, width = look.frames.shape[1:3]
    axis.set_xlim(-0.5, width - 0.5)
    axis.set_ylim(height - 0.5, -0.5)


def mark_cell(axis: Axes, look: Look, cell: tuple[int, int], colour: str) -> None:
    """A square around one grid cell, with a dark rim so that it shows on any ground."""
    y, x = (c * look.cell - o - 0.5 for c, o in zip(cell, look.offset, strict=True))
    for line, ink in ((3.2, "black"), (1.4, colour)):
        axis.add_patch(Rectangle((x, y), look.cell, look.cell, fill=False, linewidth=line, edgecolor=ink))


def add_colour_bar(figure: Figure, rows: np.ndarray, label: str) -> None:
    """One scale for all panels, with what its colours mean written below."""
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), COLOURS), ax=rows, fraction=0.02, pad=0.01, ticks=[0, 0.5, 1])
    bar.ax.tick_params(labelsize=7)
    figure.supxlabel(label if figure.get_figwidth() < 8 else label.replace("\n", "; "), fontsize=8)
