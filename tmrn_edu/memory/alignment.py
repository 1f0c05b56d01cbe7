"""TMRN's spatial alignment: each memory frame brought onto the query grid, on its own [S].

    W[t,m,q] = softmax over m of ( s[t,m,q] + lambda * log(g[t,m,q] + eps) - beta / gap * |pos(m) - c[q]|^2 )

s is the similarity, g the agent-level correlation (`agents.py`), and the last term chains the alignments of neighbouring frames: c[q] is
where q is expected, from where it was found one memory frame later, so that a trajectory is followed rather than looked up anew in each
frame [ours]. Motion goes on (`carry_on`), and far away the square may give way to a slope (`within_reach`) [ours].
The functions here are the corrections and the positions they need; `readers.py` puts them together.
"""

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor

CORRELATION_EPS = 1e-6  # floor of g: a match that shares no agent loses at most lambda * log(1e-6) = 13.8 lambda


def grid_positions(height: int, width: int, like: Tensor) -> Float[Tensor, "2 h w"]:
    """Positions (y, x) of a grid's cells, in cells, first cell (0, 0); dtype and device of `like`. Source: ours."""
    y = torch.arange(height, dtype=like.dtype, device=like.device)
    x = torch.arange(width, dtype=like.dtype, device=like.device)
    return torch.stack([repeat(y, "h -> h w", w=width), repeat(x, "w -> h w", h=height)])


def rectification(correlation: Float[Tensor, "b m q"]) -> Float[Tensor, "b m q"]:
    """What agents add to the similarity, per unit of lambda: log(g + eps), at most 0.

    Nothing where both pixels answer to the same agents (g = 1), a large penalty where they share none. Source: rectified affinity
    [S], its log form [ours].
    """
    return torch.log(correlation + CORRELATION_EPS)


def chain_prior(positions: Float[Tensor, "2 h w"], centre: Float[Tensor, "b 2 q"]) -> Float[Tensor, "b m q"]:
    """Squared distance, in cells, from every memory pixel to the place where the trajectory is expected.

    d[m,q] = |pos(m) - c[q]|^2 = |pos(m)|^2 - 2 pos(m).c[q] + |c[q]|^2: three extra key channels and a constant, one small matrix product.
    |c|^2 stays: the evidence must know how far the best match lies. Source: method section 5 [ours].
    """
    middle = reduce(positions, "yx h w -> yx 1", "mean")  # small numbers lose fewer digits when squared
    memory = rearrange(positions, "yx h w -> (h w) yx") - rearrange(middle, "yx 1 -> 1 yx")
    query = rearrange(centre - middle, "b yx q -> b q yx")
    square_m = reduce(memory**2, "m yx -> m 1", "sum")
    square_q = reduce(query**2, "b q yx -> b q 1", "sum")
    query_rows = torch.cat([-2 * query, torch.ones_like(square_q), square_q], dim=-1)
    memory_rows = torch.cat([memory, square_m, torch.ones_like(square_m)], dim=-1)
    return rearrange(query_rows @ rearrange(memory_rows, "m c -> c m"), "b q m -> b m q")


def within_reach(square: Float[Tensor, "b m q"], reach: Float[Tensor, ""]) -> Float[Tensor, "b m q"]:
    """A squared distance that grows only linearly beyond `reach` cells, so that what moves fast is not given up.

    d'[m,q] = 2 R (sqrt(d^2 + R^2) - R), which is d^2 for d << R and 2 R d for d >> R; never above d^2. `reach` R > 0, in cells.
    Source: the pseudo-Huber loss (Charbonnier et al., 1997), as a prior of position: ours.
    """
    return (
        2 * reach * square / ((square.clamp_min(0) + reach**2).sqrt() + reach)
    )  # the same, without losing digits near 0


def carry_on(
    centre: Float[Tensor, "b 2 q"],
    motion: Float[Tensor, "b 2 q"],
    gap: int | Float[Tensor, "b 1 1"],
    share: Float[Tensor, ""],
) -> Float[Tensor, "b 2 q"]:
    """Where a trajectory is expected `gap` steps earlier if it moved there as it moves here.

    c'[q] = c[q] + share * gap * motion[q]. `motion`: cells per step backwards in time, from the two places found last; `share`: 0 expects a
    pixel where it was found last, 1 expects constant velocity. Source: ours.
    """
    return centre + share * gap * motion
