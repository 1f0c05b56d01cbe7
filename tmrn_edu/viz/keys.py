"""Keys and scores as pictures: what a similarity favours, what a network's keys tell apart. Pure functions of tensors."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Float, Shaped, UInt8
from matplotlib.figure import Figure
from torch import Tensor

from ..memory.similarity import anisotropic_l2, dot_product, negative_squared_l2

DPI = 80
MARKER = "#d55e00"  # vermillion: seen on every shade of viridis and on frames


def similarity_planes(
    query: Float[Tensor, "2"],
    memory: Float[Tensor, "m 2"],
    selection: Float[Tensor, "2"],
    names: Sequence[str] | None = None,
) -> Figure:
    """The three similarities for keys of two channels, where all possible memory keys fit on one plane.

    Shading and lines: the score that a memory key at that point would get from `query` (star, with an arrow from the origin; under the dot
    product its direction goes on as a dashed line). Dots: the `memory` keys, called `names` (A, B, ...); the ring is around the one that
    scores highest. The anisotropic distance weighs channels by `selection`, in [0, 1], and has no shrinkage. Raises ValueError if there is
    no memory key. Source: ours, of `memory.similarity`.
    """
    if not len(memory):
        raise ValueError("0 memory keys to draw, expected at least 1")
    names = [chr(ord("A") + i) for i in range(len(memory))] if names is None else names
    reach = 1.25 * float(torch.cat([memory, rearrange(query, "c -> 1 c")]).abs().max())
    axis_points = torch.linspace(-reach, reach, 61)
    plane = torch.stack(torch.meshgrid(axis_points, axis_points, indexing="xy"))
    asks = rearrange(query, "c -> 1 c 1 1")
    weighs = rearrange(selection, "c -> 1 c 1 1")
    scores = {
        "dot product (STM)": lambda keys: dot_product(keys, asks),
        "negative squared L2 (STCN)": lambda keys: negative_squared_l2(keys, asks),
        "anisotropic L2 (XMem)": lambda keys: anisotropic_l2(keys, asks, selection=weighs),
    }
    figure = Figure(figsize=(9.0, 3.2), dpi=DPI, layout="constrained")
    for axis, (name, score) in zip(figure.subplots(1, 3), scores.items(), strict=True):
        field = rearrange(score(rearrange(plane, "c h w -> 1 c h w")), "1 (h w) 1 -> h w", h=61)
        axis.contourf(axis_points, axis_points, field, levels=12, cmap="viridis", alpha=0.8)
        axis.contour(axis_points, axis_points, field, levels=12, colors="white", linewidths=0.5, linestyles="solid")
        axis.axhline(0, color="black", lw=0.6)
        axis.axvline(0, color="black", lw=0.6)
        if name.startswith("dot product"):
            axis.axline((0, 0), tuple(query.tolist()), color="black", lw=1.0, linestyle="--")
        arrow = {"arrowstyle": "-|>", "color": "black", "lw": 1.8, "shrinkA": 0, "shrinkB": 5}
        axis.annotate("", query.tolist(), (0, 0), arrowprops=arrow)
        of_memory = rearrange(score(rearrange(memory, "m c -> 1 c 1 m")), "1 m 1 -> m")
        best = int(of_memory.argmax())
        axis.scatter(*memory.T, color="white", edgecolors="black", s=45, zorder=3)
        axis.scatter(*memory[best], facecolors="none", edgecolors=MARKER, s=190, linewidths=2.2, zorder=4)
        for label, place in zip(names, memory.tolist(), strict=True):
            axis.annotate(
                label, place, (7, 5), textcoords="offset points", color="black", fontsize=10, fontweight="bold"
            )
        axis.scatter(*query, marker="*", color=MARKER, edgecolors="black", s=190, zorder=3)
        axis.set_title(f"{name}\nhighest: {names[best]}", fontsize=9)
        axis.set_aspect("equal")
        axis.set_xlim(-reach, reach)
        axis.set_ylim(-reach, reach)
        axis.locator_params(nbins=5)
        axis.tick_params(labelsize=8)
        axis.set_xlabel("key channel 1", fontsize=8)
        axis.set_ylabel("key channel 2", fontsize=8)
    return figure


def key_colours(key: Float[Tensor, "b ck h w"]) -> UInt8[Tensor, "b h w 3"]:
    """Keys as colours: their three principal directions, over all frames together, become red, green and blue.

    Like colour, like key (the reverse need not hold: three directions are not all). Each direction is stretched from its 2nd to its 98th
    percentile and turned so that its largest entry is positive. Source: ours; common for features of vision transformers.
    """
    rows = rearrange(key, "b ck h w -> (b h w) ck").double()
    rows = rows - reduce(rows, "n ck -> 1 ck", "mean")
    covariance = einsum(rows, rows, "n c1, n c2 -> c1 c2")
    directions = torch.linalg.eigh(covariance).eigenvectors[:, -3:].flip(-1)  # columns, largest first
    largest = directions[directions.abs().argmax(dim=0), range(3)]
    coordinates = rows @ (directions * largest.sign())
    low, high = coordinates.quantile(torch.tensor([0.02, 0.98], dtype=torch.float64), dim=0)
    colours = ((coordinates - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    batch, _, height, width = key.shape
    return rearrange((255 * colours).round().to(torch.uint8), "(b h w) c -> b h w c", b=batch, h=height, w=width)


def side_by_side(
    pictures: Mapping[str, Shaped[Tensor | np.ndarray, "..."]],
    mark: Mapping[str, tuple[float | int, float | int]] | None = None,
    limits: tuple[float | int, float | int] | None = None,
    columns: int = 6,
) -> Figure:
    """Pictures in rows, each under its name: frames (uint8 `H W 3`) as they are, numbers (`h w`) as heat maps.

    A heat map is coloured from `limits`, or from its own least to its own largest value; the range stands below it. `mark`: name -> (y, x), a
    square around that place of that picture. Raises ValueError for no pictures or a marked name that is not there. Source: ours.
    """
    mark = {} if mark is None else mark
    if not pictures or set(mark) - set(pictures):
        raise ValueError(
            f"pictures {list(pictures)} with marks in {list(mark)}, expected at least one picture, and marks only in pictures"
        )
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.85 * columns, 2.25 * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis in list(axes)[len(pictures) :]:
        axis.set_axis_off()
    for axis, (name, picture) in zip(figure.axes, pictures.items(), strict=False):
        picture = torch.as_tensor(picture).cpu()
        if picture.ndim == 2:
            low, high = (float(picture.min()), float(picture.max())) if limits is None else limits
            axis.imshow(picture.float().numpy(), cmap="viridis", vmin=low, vmax=high, interpolation="nearest")
            axis.set_xlabel(f"{low:.3g} to {high:.3g}", fontsize=7)
        else:
            axis.imshow(picture.numpy(), interpolation="nearest")
        axis.set_title(name, fontsize=8, pad=3)
        axis.set_xticks([])
        axis.set_yticks([])
        if name in mark:
            y, x = mark[name]
            size = max(40, 3000 / min(picture.shape[:2]))
            axis.scatter(x, y, marker="s", s=size, facecolors="none", edgecolors="black", linewidths=3)
            axis.scatter(x, y, marker="s", s=size, facecolors="none", edgecolors=MARKER, linewidths=1.6)
    return figure
