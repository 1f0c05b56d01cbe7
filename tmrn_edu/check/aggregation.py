"""Checkers of notebook 03: the trajectory, pooling along it, chaining."""

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.memory.affinity import softmax_over_frame
from tmrn_edu.memory.alignment import chain_prior, grid_positions


def trajectory(function) -> bool:
    """`function(affinity, height, width)` is the expected position (y, x) in every memory frame, `b t 2 h w`; both grids are height x width."""

    def case(draw: Draw) -> tuple[Tensor, int, int]:
        similarity = draw.choice(1.0, 3.0, 100.0) * draw.normal("b t (h w) (h w)")  # the last: one memory pixel has all
        return softmax_over_frame(similarity), draw.size("h"), draw.size("w")

    def mean_of(positions, affinity, height, pattern="b t yx (h w) -> b t yx h w"):
        return rearrange(einsum(affinity, positions, "b t m q, yx m -> b t yx q"), pattern, h=height)

    def expected(affinity, height, width):
        positions = rearrange(grid_positions(height, width, like=affinity), "yx h w -> yx (h w)")
        return mean_of(positions, affinity, height)

    def cut_by_height(affinity, height, width):
        m = torch.arange(height * width)
        return mean_of(torch.stack([m // height, m % height]).to(affinity), affinity, height)

    def laid_by_columns(affinity, height, width):
        positions = rearrange(grid_positions(height, width, like=affinity), "yx h w -> yx (h w)")
        return mean_of(positions, affinity, height, "b t yx (w h) -> b t yx h w")

    def best(affinity, height, width):
        m = rearrange(affinity.argmax(dim=2), "b t (h w) -> b t h w", h=height)
        return torch.stack([m // width, m % width], dim=2).float()

    mixed = "rows and columns are mixed up: m is (h w), rows first, so y = m // width, x = m % width"
    return trial(
        function,
        expected,
        examples(case),
        axes="b t 2 h w",
        passed="where each query pixel expects itself in each memory frame",
        mistakes=[
            (
                lambda a, h, w: expected(a, h, w).flip(2),
                "that is (x, y); positions are (y, x) everywhere, as in a tensor",
            ),
            (
                best,
                "that is the best match alone; the expected position is the mean of all positions, weighted by the affinity",
            ),
            (
                lambda a, h, w: expected(rearrange(a, "b t m q -> b t q m"), h, w),
                "you sum over q: sum over the memory positions m",
            ),
            (cut_by_height, mixed),
            (lambda a, h, w: cut_by_height(a, h, w).flip(2), mixed),
            (laid_by_columns, "rows and columns are mixed up: the flat axis q is (h w), rows first"),
        ],
    )


def pool(function) -> bool:
    """`function(score, aligned_value)` is the readout, `b t q`, `b o t cv q` -> `b o cv q`."""

    def case(draw: Draw) -> tuple[Tensor, Tensor]:
        return draw.choice(1.0, 3.0, 200.0) * draw.normal("b t q"), draw.normal("b o t cv q")

    def pooled(weights, value):
        return einsum(weights, value, "b t q, b o t cv q -> b o cv q")

    return trial(
        function,
        lambda score, aligned_value: pooled(score.softmax(dim=1), aligned_value),
        examples(case),
        axes="b o cv q",
        passed="one value per object, pooled along each pixel's trajectory",
        mistakes=[
            (
                lambda score, value: reduce(value, "b o t cv q -> b o cv q", "mean"),
                "that is the plain mean; scores say how much each frame counts",
            ),
            (pooled, "scores are no weights yet: they need a softmax over t"),
            (
                lambda score, value: pooled(score.softmax(dim=2), value),
                "weights that sum to one over q; a pixel chooses among frames: softmax over t",
            ),
        ],
    )


def chained_score(function) -> bool:
    """`function(similarity, centre, beta, gap, height, width)` is s - beta / gap |pos(m) - c[q]|^2, `b m q`; centre `b 2 q` in cells."""

    def case(draw: Draw) -> tuple:
        similarity, centre = draw.normal("b (h w) q"), 1 + 2 * draw.normal("b 2 q")  # some centres lie outside the grid
        return similarity, centre, draw.number(0, 1), draw.integer(1, 4), draw.size("h"), draw.size("w")

    def prior(centre, height, width):
        centre = centre.double()  # a square root of what should be 0 shows every rounding
        return chain_prior(grid_positions(height, width, like=centre), centre)

    def without_square(centre, height, width):
        return prior(centre, height, width) - rearrange(reduce(centre**2, "b yx q -> b q", "sum"), "b q -> b 1 q")

    return trial(
        function,
        lambda similarity, centre, beta, gap, height, width: similarity - beta / gap * prior(centre, height, width),
        examples(case),
        axes="b m q",
        passed="matches far from the expected place lose",
        mistakes=[
            (
                lambda s, c, beta, gap, h, w: s + beta / gap * prior(c, h, w),
                "the sign: far from the expected place means a lower score",
            ),
            (
                lambda s, c, beta, gap, h, w: s - beta * prior(c, h, w),
                "divide by the gap: over more steps a point may move further",
            ),
            (
                lambda s, c, beta, gap, h, w: s - beta * gap * prior(c, h, w),
                "divide by the gap: over more steps a point may move further",
            ),
            (
                lambda s, c, beta, gap, h, w: s - beta / gap * prior(c, h, w).clamp(min=0).sqrt(),
                "that is the distance; the prior is its square",
            ),
            (
                lambda s, c, beta, gap, h, w: s - beta / gap * prior(c.flip(1), h, w),
                "x and y are exchanged: positions and centre are (y, x)",
            ),
            (
                lambda s, c, beta, gap, h, w: s - beta / gap * without_square(c, h, w),
                "right for the softmax, but the evidence needs |c|^2 as well: it must know how far the best match lies",
            ),
        ],
    )
