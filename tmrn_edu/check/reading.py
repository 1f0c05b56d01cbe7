"""Checkers of notebook 01: similarity, affinity, the share of each frame."""

from einops import einsum, rearrange, reduce
from torch import Tensor

from tmrn_edu.check.trial import random_tensors, trial
from tmrn_edu.memory.affinity import softmax_over_frame, softmax_over_memory
from tmrn_edu.memory.similarity import negative_squared_l2

SUM_LATER = "weights add up, scores do not: sum after the softmax, or use logsumexp"


def _keys(seed: int) -> tuple[Tensor, Tensor]:
    """Memory keys b t ck h w and query keys b ck h w, all sizes different, memory and query grids too."""
    return random_tensors((2, 4, 5, 3, 6), (2, 5, 7, 8), seed=seed)


def _scores(seed: int, scale: float = 3.0) -> Tensor:
    """Scores b t m q."""
    return scale * random_tensors((2, 4, 18, 7), seed=seed)[0]


def squared_l2(function) -> bool:
    """`function(memory_key, query_key)` is minus the squared distance, divided by sqrt(ck): `b t m q`."""

    def distance(memory_key, query_key):
        scale = query_key.shape[1] ** -0.5
        query_square = scale * reduce(query_key**2, "b ck h w -> b 1 1 (h w)", "sum")
        return negative_squared_l2(memory_key, query_key) - query_square  # the package leaves |query|^2 out

    def overlap(memory_key, query_key):
        return einsum(
            rearrange(memory_key, "b t ck h w -> b t (h w) ck"),
            rearrange(query_key, "b ck h w -> b ck (h w)"),
            "b t m ck, b ck q -> b t m q",
        )

    scale = 5**-0.5
    return trial(
        function,
        distance,
        [_keys(0), _keys(1)],
        axes="b t m q",
        passed="negative squared L2 for all pairs",
        mistakes=[
            (lambda m, q: -distance(m, q), "that is the distance; the similarity is minus it, so that near means high"),
            (
                lambda m, q: distance(m, q) / scale,
                "divide by sqrt(ck): without it, scores grow with the number of channels",
            ),
            (
                lambda m, q: -(-distance(m, q) / scale).clamp(min=0).sqrt() * scale,
                "that is the distance; STCN squares it",
            ),
            (
                negative_squared_l2,
                "equal up to |query|^2, as in the package; this exercise asks for the whole distance",
            ),
            (lambda m, q: overlap(m, q) * scale, "that is the dot product of STM"),
        ],
    )


def space_time_weights(function) -> bool:
    """`function(similarity)` is the softmax over all memory pixels of all frames: `b t m q`."""
    return trial(
        function,
        softmax_over_memory,
        [(_scores(0),), (_scores(1),), (_scores(2, scale=60.0),)],
        axes="b t m q",
        passed="all pixels of all frames compete, weights sum to one over (t m)",
        mistakes=[
            (
                softmax_over_frame,
                "your weights sum to one over m in every frame; here all frames compete: one softmax over (t m)",
            ),
            (
                lambda s: s.softmax(dim=3),
                "your weights sum to one over q: the memory chooses among query pixels; it is the query that asks",
            ),
            (
                lambda s: s.softmax(dim=1),
                "your weights sum to one over t; all m of all t compete: one softmax over (t m)",
            ),
            (lambda s: s.softmax(dim=0), "your weights sum to one over the batch"),
            (
                lambda s: s.exp() / reduce(s.exp(), "b t m q -> b 1 1 q", "sum"),
                "right for small scores, but exp overflows for large ones",
            ),
        ],
    )


def frame_shares(function) -> bool:
    """`function(similarity)` is how much of each query pixel's weight falls on each memory frame: `b t q`."""
    return trial(
        function,
        lambda s: reduce(softmax_over_memory(s), "b t m q -> b t q", "sum"),
        [(_scores(6),), (_scores(7),), (_scores(8, scale=60.0),)],
        axes="b t q",
        passed="each frame's share, summing to one over t",
        mistakes=[
            (lambda s: s.logsumexp(dim=2), "that is the evidence of each frame; its softmax over t is the share"),
            (
                lambda s: reduce(s, "b t m q -> b t q", "max").softmax(dim=1),
                "the best pixel alone does not decide: all pixels of a frame add up",
            ),
            (
                lambda s: reduce(s, "b t m q -> b t q", "mean").softmax(dim=1),
                SUM_LATER,
            ),
            (
                lambda s: reduce(s, "b t m q -> b t q", "sum").softmax(dim=1),
                SUM_LATER,
            ),
            (
                lambda s: reduce(softmax_over_memory(s), "b t m q -> b t q", "mean"),
                "a share is a sum over m, not a mean",
            ),
        ],
    )
