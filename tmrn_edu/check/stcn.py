"""Checkers of notebook 05: what shared keys save, the k best memory pixels, where they lie, memory coverage."""

import torch
from einops import rearrange, reduce
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.memory.affinity import softmax_over_frame, softmax_over_memory
from tmrn_edu.viz.votes import count_votes
from tmrn_edu.viz.votes import coverage as coverage_of

BEYOND = "out of range", "k may be larger than the memory, which then is kept whole: take at most t m of them"


def _some_kept(draw: Draw) -> tuple[Tensor, int]:
    """Scores, and how many are kept: one, some, all, or more than there are."""
    scores = draw.normal("b t m q")
    everything = draw.size("t") * draw.size("m")
    return scores, draw.choice(1, draw.integer(1, everything), draw.integer(1, everything), everything, everything + 3)


def affinity_cost(function) -> bool:
    """`function(frames, objects, cells, key_channels, shared)` counts the multiplications of all dot products of keys."""

    def right(frames, objects, cells, key_channels, shared):
        return frames * cells**2 * key_channels * (1 if shared else objects)

    def case(draw: Draw) -> tuple:
        return draw.integer(1, 6), draw.integer(1, 4), draw.integer(1, 50), draw.integer(1, 9), draw.choice(True, False)

    return trial(
        function,
        right,
        examples(case),
        passed="frames x memory cells x query cells x channels, and times the objects unless keys are shared",
        mistakes=[
            (lambda t, o, m, ck, shared: t * m**2 * ck * o, "`shared` is not used: shared keys are compared once for all objects"),
            (lambda t, o, m, ck, shared: t * m**2 * ck, "`shared` is not used: keys that belong to objects are compared for each"),
            (
                lambda t, o, m, ck, shared: t * m * ck * (1 if shared else o),
                "every memory cell meets every query cell: cells times cells",
            ),
            (
                lambda t, o, m, ck, shared: t * m**2 * (1 if shared else o),
                "one dot product of keys takes as many multiplications as they have channels",
            ),
            (
                lambda t, o, m, ck, shared: right(t, o, m, ck, not shared),
                "the other way round: it is shared keys that are compared once",
            ),
        ],
    )  # fmt: skip


def top_k_weights(function) -> bool:
    """`function(similarity, k)` is the softmax over the k best of all (t m), zeros elsewhere: `b t m q`."""

    def case(draw: Draw) -> tuple[Tensor, int]:
        scores, k = _some_kept(draw)
        return draw.choice(1.0, 3.0, 200.0) * scores, k

    def masked(s, k):
        return softmax_over_memory(s) * (softmax_over_memory(s, k) > 0)

    def zeros(s, k):
        flat = rearrange(s, "b t m q -> b (t m) q")
        best, position = flat.topk(min(k, flat.shape[1]), dim=1)
        kept = torch.zeros_like(flat).scatter(1, position, best).softmax(dim=1)
        return rearrange(kept, "b (t m) q -> b t m q", t=s.shape[1])

    def right(similarity, k):
        return softmax_over_memory(similarity, k)

    return trial(
        function,
        right,
        examples(case),
        axes="b t m q",
        passed="the k best of all memory pixels share the weight; k may exceed the memory",
        mistakes=[
            (
                masked,
                "the weights that are left no longer sum to one: choose the k best scores first, then the softmax",
            ),
            (softmax_over_frame, "those are the k best of every frame; here the k best over all frames, (t m)"),
            (lambda s, k: softmax_over_memory(s), "all memory pixels take part: k is not used"),
            (zeros, "a score of 0 is not out of the race, exp(0) = 1: put -inf there"),
        ],
        errors=[BEYOND],
    )


def kept_per_frame(function) -> bool:
    """`function(similarity, k)` counts how many of a query pixel's k best lie in each memory frame: `b t m q` -> `b t q`."""

    def case(draw: Draw) -> tuple[Tensor, int]:
        scores, k = _some_kept(draw)
        return draw.choice(1.0, 100.0, 200.0) * scores, k  # the others: some of the k best have weights that round to 0

    def kept(scores, k):
        """Whether a pixel is one of the k best: `b n q`, by place."""
        places = scores.topk(min(k, scores.shape[1]), dim=1).indices
        return torch.zeros_like(scores, dtype=torch.int).scatter(1, places, 1)

    def of_all(s, k):
        return rearrange(kept(rearrange(s, "b t m q -> b (t m) q"), k), "b (t m) q -> b t m q", t=s.shape[1])

    def of_each(s, k):
        return rearrange(kept(rearrange(s, "b t m q -> (b t) m q"), k), "(b t) m q -> b t m q", t=s.shape[1])

    def right(similarity, k):
        return reduce(of_all(similarity, k), "b t m q -> b t q", "sum")

    each_frame = "you keep k in every frame; the k best of all frames are fewer in most"
    over_q = "summed over q; each query pixel has k of its own: sum over m"
    return trial(
        function,
        right,
        examples(case),
        axes="b t q",
        passed="k in all, shared out among the frames by their scores",
        mistakes=[
            (
                lambda s, k: reduce((softmax_over_memory(s, k) > 0).int(), "b t m q -> b t q", "sum"),
                "one of the k best may have no weight: far below the best, exp rounds to 0. Count the places of the k best, not weights",
            ),
            (lambda s, k: reduce(of_each(s, k), "b t m q -> b t q", "sum"), each_frame),
            (lambda s, k: reduce((softmax_over_frame(s, k) > 0).int(), "b t m q -> b t q", "sum"), each_frame),
            (
                lambda s, k: reduce(softmax_over_memory(s, k), "b t m q -> b t q", "sum"),
                "those are the frames' shares of the weight; count the memory pixels that are kept",
            ),
            (lambda s, k: reduce(of_all(s, k), "b t m q -> b t m", "sum"), over_q),
            (lambda s, k: reduce((softmax_over_memory(s, k) > 0).int(), "b t m q -> b t m", "sum"), over_q),
        ],
        errors=[BEYOND],
    )


def coverage(function) -> bool:
    """`function(similarity)` is the share of memory pixels that are the best match of any query pixel: `b t m q` -> `b`."""

    def case(draw: Draw) -> tuple[Tensor]:
        return (
            draw.normal("b t m q") + draw.choice(0, 1, 9) * draw.normal("b t m 1"),
        )  # the last: one is heard by nearly all

    def per_frame(s):
        best = rearrange(s, "b t m q -> (b t) 1 m q")
        return reduce(coverage_of(count_votes(best)), "(b t) -> b", "mean", t=s.shape[1])

    return trial(
        function,
        lambda similarity: coverage_of(count_votes(similarity)),
        examples(case),
        axes="b",
        passed="how much of the memory is heard at all",
        mistakes=[
            (
                per_frame,
                "you ask every frame for its best; a query pixel has one best match, over all frames",
            ),
            (
                lambda s: reduce((count_votes(s) > 0).float(), "b t m -> b", "sum"),
                "that is how many win; divide by how many there are",
            ),
            (
                lambda s: reduce((count_votes(s) > 0).float(), "b t m -> b", "sum") / 1728,
                "a size is written into your function, the lesson's 1728 memory pixels; take it from the arguments",
            ),
            (
                lambda s: 1 - coverage_of(count_votes(s)),
                "that is the share that is never heard",
            ),
        ],
    )
