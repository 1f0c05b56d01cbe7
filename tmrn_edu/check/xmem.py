"""Checkers of notebook 06: anisotropic L2, what dropping |query|^2 leaves out, the gate, which frames are memory."""

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.memory import similarity


def _keys(draw: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory keys, query keys, shrinkage >= 1, selection in [0, 1], sometimes all or nothing."""
    shrinkage, selection = draw.normal("b t 1 hm wm") ** 2 + 1, draw.uniform("b ck h w")
    selection = draw.choice(selection, selection, selection.round())
    return draw.normal("b t ck hm wm"), draw.normal("b ck h w"), shrinkage, selection


def _rows(x: Tensor) -> Tensor:
    return rearrange(x, "... h w -> ... (h w)")


def anisotropic_l2(function) -> bool:
    """`function(memory_key, query_key, shrinkage, selection)` is XMem's similarity: `b t m q`."""
    right = similarity.anisotropic_l2

    def without_query_square(k, q, s, e):
        square = einsum(_rows(e), _rows(q) ** 2, "b ck q, b ck q -> b q") * q.shape[1] ** -0.5
        return right(k, q, s, e) + einsum(_rows(s[:, :, 0]), square, "b t m, b q -> b t m q")

    def selected_late(k, q, s, e):
        square = einsum(_rows(1 - e), _rows(k) ** 2, "b ck q, b t ck m -> b t m q") * q.shape[1] ** -0.5
        return right(k, q, s, e) - rearrange(_rows(s[:, :, 0]), "b t m -> b t m 1") * square

    return trial(
        function,
        right,
        examples(_keys),
        axes="b t m q",
        passed="every memory pixel as picky as it wants, every query pixel by its own channels",
        mistakes=[
            (lambda *x: -right(*x), "that is the distance; the similarity is minus it, so that near means high"),
            (lambda k, q, s, e: right(k, q, s, e) * q.shape[1] ** 0.5, "divide by sqrt(ck)"),
            (lambda k, q, s, e: right(k, q, None, e), "the shrinkage is not used: it multiplies all three terms"),
            (
                lambda k, q, s, e: right(k, q, s, None),
                "the selection is not used: it weighs the channels, in all three terms",
            ),
            (
                lambda k, q, s, e: right(k, q, s, e**2),
                "the selection comes in twice: it weighs the squared difference, once",
            ),
            (without_query_square, "the term with query^2 is missing: with shrinkage the softmax does see it"),
            (selected_late, "the term in key^2 needs the selection too: each channel of the difference is weighed"),
        ],
    )


def left_out(function) -> bool:
    """`function(query_key, shrinkage, selection)` is what the similarity loses without its term in query^2: `b t m q`."""

    def square(q, e):
        return einsum(_rows(e), _rows(q) ** 2, "b ck q, b ck q -> b q") * q.shape[1] ** -0.5

    def right(query_key, shrinkage, selection):
        return -einsum(_rows(shrinkage[:, :, 0]), square(query_key, selection), "b t m, b q -> b t m q")

    return trial(
        function,
        right,
        examples(lambda draw: _keys(draw)[1:]),
        axes="b t m q",
        passed="it depends on m through the shrinkage, so a softmax over memory pixels sees it",
        mistakes=[
            (lambda q, s, e: -right(q, s, e), "the sign: the term makes a score smaller"),
            (lambda q, s, e: right(q, s, e) * q.shape[1] ** 0.5, "divide by sqrt(ck), as the similarity does"),
            (lambda q, s, e: right(q, s, torch.ones_like(e)), "the selection weighs this term as well"),
            (
                lambda q, s, e: -repeat(square(q, e), "b q -> b t m q", t=s.shape[1], m=s[0, 0].numel()),
                "without the shrinkage it is one number per query pixel, which no softmax sees; with it, it is not",
            ),
        ],
    )


def gated_update(function) -> bool:
    """`function(gates, sensory)` is the next sensory memory, `b o cs h w`; gates `b o (3 cs) h w`: forget, update, new, in this order."""

    def case(draw: Draw) -> tuple[Tensor, Tensor]:
        gates = draw.choice(1.0, 3.0, 100.0) * draw.normal("b o (3 cs) h w")  # the last: gates quite open or shut
        return gates, draw.normal("b o cs h w").tanh()

    def thirds(gates):
        f, u, n = rearrange(gates, "b o (three cs) h w -> three b o cs h w", three=3)
        return f.sigmoid(), u.sigmoid(), n.tanh()

    def right(gates, sensory):
        f, u, n = thirds(gates)
        return f * sensory * (1 - u) + u * n

    def swapped(gates, sensory):
        f, u, n = thirds(gates)
        return f * sensory * u + (1 - u) * n

    def without_forgetting(gates, sensory):
        f, u, n = thirds(gates)
        return sensory * (1 - u) + u * n

    def everything_kept(gates, sensory):
        f, u, n = thirds(gates)
        return f * sensory + u * n

    def interleaved(gates, sensory):
        f, u, n = rearrange(gates, "b o (cs three) h w -> three b o cs h w", three=3)
        return f.sigmoid() * sensory * (1 - u.sigmoid()) + u.sigmoid() * n.tanh()

    def no_tanh(gates, sensory):
        f, u, n = rearrange(gates, "b o (three cs) h w -> three b o cs h w", three=3)
        return f.sigmoid() * sensory * (1 - u.sigmoid()) + u.sigmoid() * n

    def exchanged(gates, sensory):
        f, u, n = thirds(gates)
        return u * sensory * (1 - f) + f * n

    return trial(
        function,
        right,
        examples(case),
        axes="b o cs h w",
        passed="what is kept, what is replaced, and by what",
        mistakes=[
            (swapped, "u and 1 - u are exchanged: u is what is replaced"),
            (without_forgetting, "f is not used: old content is also multiplied by it"),
            (everything_kept, "1 - u is missing: what is replaced must go first"),
            (interleaved, "the thirds are blocks, one after the other: (three cs), not (cs three)"),
            (no_tanh, "n goes through tanh, which keeps the state between -1 and 1"),
            (exchanged, "the order of the thirds is forget, update, new"),
        ],
    )


def memory_frames(function) -> bool:
    """`function(given, every)` tells which frames join the memory; given: bool `t`, which came with a mask, frame 0 among them. Bool `t`."""

    def right(given, every):
        joins, last = [], 0
        for t, has_mask in enumerate(given.tolist()):
            joins.append(has_mask or t - last >= every)
            last = t if joins[-1] else last
        return torch.tensor(joins).float()

    def by_number(given, every):
        return (given | (torch.arange(len(given)) % every == 0)).float()

    def case(draw: Draw) -> tuple[Tensor, int]:
        frames = torch.arange(draw.choice(1, *[draw.integer(2, 16) for _ in range(3)]))
        return (frames == 0) | (draw.uniform(f"{len(frames)}") < draw.choice(0.0, 0.2, 0.5)), draw.integer(1, 5)

    return trial(
        function,
        right,
        examples(case),
        axes="t",
        passed="these frames get the deep update, all others the decoder's",
        mistakes=[
            (by_number, "count from the last memory frame: a frame that came with a mask starts the count anew"),
            (lambda given, every: 1 - right(given, every), "those are the others"),
            (lambda given, every: given.float(), "frames without a mask join too, when enough of them have passed"),
            (
                lambda given, every: right(given, every + 1),
                "one frame late: a memory frame every 5 means 0, 5, 10, ...",
            ),
        ],
    )
