"""Checkers of notebook 02: alignment, rectified affinity, how many agents are in use."""

import math
from collections.abc import Callable
from functools import partial

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.memory.affinity import softmax_over_frame, softmax_over_memory
from tmrn_edu.memory.alignment import CORRELATION_EPS, rectification
from tmrn_edu.viz.agents import effective_agents as perplexity


def align(function) -> bool:
    """`function(affinity, field)` brings a field on the memory grid, `b t c h w`, onto the query grid, of the same size."""

    def case(draw: Draw) -> tuple[Tensor, Tensor]:
        similarity = draw.choice(1.0, 3.0, 100.0) * draw.normal("b t (h w) (h w)")  # the last: one memory pixel has all
        return softmax_over_frame(similarity), draw.normal("b t c h w")

    def read(pattern: str, like: str = "b t c (h w) -> b t c h w"):
        def aligned(affinity, field):
            rows = rearrange(field, "b t c h w -> b t c (h w)")
            return rearrange(einsum(affinity, rows, pattern), like, h=field.shape[-2])

        return aligned

    return trial(
        function,
        read("b t m q, b t c m -> b t c q"),
        examples(case),
        axes="b t c h w",
        passed="each memory frame's field on the query grid",
        mistakes=[
            (read("b t q m, b t c m -> b t c q"), "you sum over q: that carries the query to the memory; sum over m"),
            (lambda affinity, field: field, "the field is still on the memory grid"),
            (
                read("b t m q, b t c m -> b t c q", "b t c (w h) -> b t c h w"),
                "rows and columns are mixed up: the flat axis is (h w), rows first",
            ),
        ],
    )


def rectified_affinity(function) -> bool:
    """`function(similarity, correlation, rectify)` is the softmax over m of s + rectify log(g + 1e-6): `b t m q`."""

    def case(draw: Draw) -> tuple[Tensor, Tensor, float]:
        similarity, likely = draw.choice(1.0, 2.0, 100.0) * draw.normal("b t m q"), draw.normal("b t m q")
        correlation = torch.where(likely < -1, 0.0, likely.sigmoid())  # some pairs share no agent at all
        return similarity, correlation, draw.choice(0.0, 1.0, draw.number(0.1, 0.9))

    def correction(correlation: Tensor) -> Tensor:
        frames = correlation.shape[1]
        return rearrange(
            rectification(rearrange(correlation, "b t m q -> (b t) m q")), "(b t) m q -> b t m q", t=frames
        )

    def weighted(s, g, rectify, eps=CORRELATION_EPS):
        return softmax_over_frame(s) * (g + eps) ** rectify

    return trial(
        function,
        lambda similarity, correlation, rectify: softmax_over_frame(similarity + rectify * correction(correlation)),
        examples(case),
        axes="b t m q",
        passed="agents correct the affinity, frame by frame",
        mistakes=[
            (
                lambda s, g, rectify: softmax_over_frame(s + rectify * g),
                "you add g itself; its logarithm lets g = 0 forbid a match",
            ),
            (
                lambda s, g, rectify: softmax_over_frame(s + rectify * g.log()),
                "without + 1e-6, one g = 0 forbids a match for good, and lambda = 0 times -inf is NaN",
            ),
            (
                lambda s, g, rectify: softmax_over_frame(s - rectify * correction(g)),
                "the sign: log g is at most 0, so adding it lowers a score",
            ),
            (lambda s, g, rectify: softmax_over_frame(s + correction(g)), "rectify, the learned lambda, is not used"),
            (
                lambda s, g, rectify: softmax_over_memory(s + rectify * correction(g)),
                "every frame answers on its own: softmax over m, not over (t m)",
            ),
            (
                lambda s, g, rectify: (s + rectify * correction(g)).softmax(dim=3),
                "your weights sum to one over q; it is the query that asks: over m",
            ),
            *[
                (
                    lambda s, g, rectify, eps=eps: weighted(s, g, rectify, eps),
                    "right up to a factor: the weights no longer sum to one over m. Correct the score, then take the softmax",
                )
                for eps in (CORRELATION_EPS, 0.0)
            ],
            (
                lambda s, g, rectify: softmax_over_frame(s) + rectify * correction(g),
                "the correction belongs to the score: add it before the softmax",
            ),
        ],
    )


def effective_agents(function) -> bool:
    """`function(likelihood)` is the perplexity of the agents' shares of the frame, `b a m` -> `b`."""

    def case(draw: Draw) -> tuple[Tensor]:
        scores = draw.normal("b a m") + draw.normal("b a 1")
        return ((draw.choice(1.0, 5.0, 1000.0) * scores).softmax(dim=1),)  # the last: some shares are exactly 0

    alike, one = torch.full((1, 6, 2), 1 / 6), torch.zeros(1, 6, 2)
    one[:, 2] = 1.0  # one agent answers for every pixel

    def shares(likelihood):
        return reduce(likelihood, "b a m -> b a", "mean")

    def plain(p):  # as a reader may write it: NaN for p = 0
        return -p * p.log()

    def each(wrong: Callable, advice: str) -> list[tuple[Callable, str]]:
        """The same mistake with and without a right 0 log 0."""
        return [(partial(wrong, entr=entr), advice) for entr in (torch.special.entr, plain)]

    pixels_first = "that is how undecided a pixel is; mean over pixels first, then the entropy"
    two_bases = "natural logarithm with exp, or log2 with 2 to its power, not one of each"

    return trial(
        function,
        perplexity,
        [(alike,), (one,), *examples(case)],
        axes="b",
        passed="6 agents used alike count as 6, one that answers for all pixels as 1",
        mistakes=[
            (
                lambda r: plain(shares(r)).sum(dim=-1).exp(),
                "an agent may have no share at all: 0 log 0 counts as 0, but torch makes it 0 * -inf = NaN; torch.special.entr does not",
            ),
            *each(lambda r, entr: entr(shares(r)).sum(dim=-1), "that is the entropy; its exponential counts agents"),
            *each(lambda r, entr: entr(r).sum(dim=1).mean(dim=-1).exp(), pixels_first),
            *each(lambda r, entr: entr(r).sum(dim=1).exp().mean(dim=-1), pixels_first),
            *each(
                lambda r, entr: (-entr(shares(r)).sum(dim=-1)).exp(),
                "the sign: entropy is minus the sum of p log p; yours is one over the number of agents",
            ),
            (
                lambda r: 1 / reduce(shares(r) ** 2, "b a -> b", "sum"),
                "a fair count too (inverse Simpson), but here: exp of the entropy",
            ),
            *each(lambda r, entr: entr(shares(r)).sum(dim=-1).exp2(), two_bases),
            *each(lambda r, entr: (entr(shares(r)).sum(dim=-1) / math.log(2)).exp(), two_bases),
            (
                lambda r: float(len(r[0])) * torch.ones(len(r)),
                "that counts all agents; exp of the entropy counts those that are in use",
            ),
        ],
    )
