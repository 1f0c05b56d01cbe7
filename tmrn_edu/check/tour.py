"""Checkers of notebook 00."""

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.memory.alignment import grid_positions
from tmrn_edu.metrics import region_similarity


def intersection_over_union(function) -> bool:
    """`function(prediction, truth)` of two boolean masks `H W` is J; 1 where both are empty."""

    def case(draw: Draw) -> tuple[Tensor, Tensor]:
        shares = draw.choice(0.0, 0.3, 0.7), draw.choice(0.0, 0.4, 0.9)
        return tuple(draw.uniform("H W") < share for share in shares)

    def dice(p, t):
        return 2 * (p & t).sum() / (p.sum() + t.sum())

    def twice(p, t):
        return (p & t).sum() / (p.sum() + t.sum())

    def however_empty(formula, advice):
        """The same mistake, whatever it makes of two empty masks: 0 / 0, 1 or 0."""
        ends = (torch.tensor(end) for end in (torch.nan, 1.0, 0.0))
        return [(lambda p, t, end=end: formula(p, t) if (p | t).any() else end, advice) for end in ends]

    hidden = torch.zeros(2, 3, dtype=torch.bool)
    return trial(
        function,
        region_similarity,
        [*examples(case), (hidden, hidden)],
        passed="J is the overlap, 1 for two empty masks",
        mistakes=[
            (
                lambda p, t: (p == t).double().mean(),
                "that is the share of pixels that agree; a large background would make it large",
            ),
            *however_empty(dice, "that is Dice, 2 |A and B| / (|A| + |B|); J divides by the union"),
            *however_empty(twice, "|A| + |B| counts the overlap twice; the union, A | B, counts it once"),
            (lambda p, t: (p & t).sum() / (p | t).sum(), "two empty masks agree perfectly: J = 1 there, not 0 / 0"),
            (
                lambda p, t: (p & t).sum() / (p | t).sum().clamp(min=1),
                "two empty masks agree perfectly: J = 1 there, not 0",
            ),
        ],
    )


def best_cells(function) -> bool:
    """`function(affinity, height, width)` of one query pixel's affinity `t m` is the cell (y, x) of the largest weight a frame, `t 2`."""

    def case(draw: Draw) -> tuple[Tensor, int, int]:
        height, width = draw.size("h"), draw.size("w")
        return (3 * draw.normal("t (h w)")).softmax(dim=1), height, width

    def places(height, width):
        like = torch.zeros((), dtype=torch.double)  # as numbers with a point: a cell of row 2.6 is not one of row 2
        return rearrange(grid_positions(height, width, like=like), "yx h w -> (h w) yx")

    def right(affinity, height, width):
        return places(height, width)[affinity.argmax(dim=1)]

    def over_all_frames(affinity, height, width):
        best = int(affinity.max(dim=0).values.argmax())
        return repeat(places(height, width)[best], "yx -> t yx", t=len(affinity))

    def cut_by(length, affinity):
        m = affinity.argmax(dim=1).double()
        return torch.stack([m // length, m % length], dim=1)

    def not_whole(affinity, height, width):
        m = affinity.argmax(dim=1).double()
        return torch.stack([m / width, m % width], dim=1)

    return trial(
        function,
        right,
        examples(case),
        axes="t 2",
        passed="one best cell (y, x) in each memory frame",
        mistakes=[
            (lambda a, h, w: right(a, h, w).flip(1), "that is (x, y); positions are (y, x) everywhere, as in a tensor"),
            (
                lambda a, h, w: cut_by(h, a),
                "cells are counted row by row, and a row is `width` cells long: divide by the width",
            ),
            (lambda a, h, w: cut_by(h, a).flip(1), "cells are counted row by row: y = m // width, x = m % width"),
            (not_whole, "y is no whole number: count whole rows, m // width"),
            (lambda a, h, w: right(a, h, w) + 1, "cells are counted from 0: the first is (0, 0)"),
            (
                over_all_frames,
                "that is the best of all frames together; every memory frame has a best cell of its own",
            ),
            (lambda a, h, w: right(-a, h, w), "that is the smallest weight: the best match is the largest"),
            (
                lambda a, h, w: einsum(a.double(), places(h, w), "t m, m yx -> t yx"),
                "that is the mean position, the trajectory; the best match is one cell",
            ),
        ],
    )
