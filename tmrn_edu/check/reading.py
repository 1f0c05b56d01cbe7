"""Checkers of notebook 01: similarity, affinity, the share of each frame."""

from einops import einsum, rearrange, reduce
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.memory.affinity import softmax_over_frame, softmax_over_memory
from tmrn_edu.memory.similarity import negative_squared_l2

OVERFLOW = "right for small scores, but exp overflows for large ones"
SUM_LATER = "weights add up, scores do not: sum after the softmax, or use logsumexp"


def _keys(draw: Draw) -> tuple[Tensor, Tensor]:
    """Memory keys and query keys, each on a grid of its own."""
    return draw.choice(1.0, 3.0) * draw.normal("b t ck hm wm"), draw.normal("b ck h w")


def _scores(draw: Draw) -> tuple[Tensor]:
    """Scores; where they are large, exp overflows or gives zeros only."""
    return (draw.choice(1.0, 3.0, 200.0) * draw.normal("b t m q"),)


def squared_l2(function) -> bool:
    """`function(memory_key, query_key)` is minus the squared distance, divided by sqrt(ck): `b t m q`."""

    def scale(query_key):
        return query_key.shape[1] ** -0.5

    def distance(memory_key, query_key):
        query_square = scale(query_key) * reduce(query_key**2, "b ck h w -> b 1 1 (h w)", "sum")
        return negative_squared_l2(memory_key, query_key) - query_square  # the package leaves |query|^2 out

    def overlap(memory_key, query_key):
        return einsum(
            rearrange(memory_key, "b t ck h w -> b t (h w) ck"),
            rearrange(query_key, "b ck h w -> b ck (h w)"),
            "b t m ck, b ck q -> b t m q",
        )

    def squares(memory_key, query_key):
        of_memory = reduce(memory_key**2, "b t ck h w -> b t (h w) 1", "sum")
        return of_memory, reduce(query_key**2, "b ck h w -> b 1 1 (h w)", "sum")

    def signed(memory_sign, overlap_sign, query_sign):
        """The three terms with other signs than -, +, -."""

        def wrong(memory_key, query_key):
            of_memory, of_query = squares(memory_key, query_key)
            terms = memory_sign * of_memory + 2 * overlap_sign * overlap(memory_key, query_key) + query_sign * of_query
            return scale(query_key) * terms

        return wrong

    return trial(
        function,
        distance,
        examples(_keys),
        axes="b t m q",
        passed="negative squared L2 for all pairs",
        mistakes=[
            (lambda m, q: -distance(m, q), "that is the distance; the similarity is minus it, so that near means high"),
            (
                lambda m, q: distance(m, q) / scale(q),
                "divide by sqrt(ck): without it, scores grow with the number of channels",
            ),
            (
                lambda m, q: -(-distance(m.double(), q.double()) / scale(q)).clamp(min=0).sqrt() * scale(q),
                "that is the distance; STCN squares it",
            ),
            (
                negative_squared_l2,
                "equal up to |query|^2, as in the package; this exercise asks for the whole distance",
            ),
            (
                lambda m, q: distance(m, q) * (m.shape[2] / 32) ** 0.5,
                "a size is written into your function, the lesson's 32 channels; take it from the arguments",
            ),
            *[
                (signed(*signs), "the signs: 2 <k, q> is added, both squares are subtracted")
                for signs in ((1, 1, 1), (1, 1, -1), (-1, 1, 1))
            ],
            (signed(-1, -1, -1), "that is minus |k + q|^2: the dot product is added, 2 <k, q>"),
            (lambda m, q: overlap(m, q) * scale(q), "that is the dot product of STM"),
        ],
    )


def space_time_weights(function) -> bool:
    """`function(similarity)` is the softmax over all memory pixels of all frames: `b t m q`."""
    return trial(
        function,
        softmax_over_memory,
        examples(_scores),
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
                OVERFLOW,
            ),
        ],
    )


def frame_shares(function) -> bool:
    """`function(similarity)` is how much of each query pixel's weight falls on each memory frame: `b t q`."""

    def evidence(similarity):  # as a reader may write it; log(0) is -inf where all scores are very negative
        return reduce(similarity.exp(), "b t m q -> b t q", "sum").log()

    return trial(
        function,
        lambda similarity: reduce(softmax_over_memory(similarity), "b t m q -> b t q", "sum"),
        examples(_scores),
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
            (
                lambda s: evidence(s).softmax(dim=1),
                f"{OVERFLOW}: exp, sum and log in one is logsumexp, which does not",
            ),
            (
                lambda s: reduce(s.exp(), "b t m q -> b t q", "sum") / reduce(s.exp(), "b t m q -> b 1 q", "sum"),
                f"{OVERFLOW}: take the softmax of logsumexp, or sum the softmax",
            ),
            (evidence, "that is the evidence of each frame, and exp overflows: logsumexp, then its softmax over t"),
        ],
    )
