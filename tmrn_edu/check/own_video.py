"""Checkers of notebook 09: masks carried along by keys alone, and which frames a bounded memory keeps."""

import torch
from einops import einsum, reduce
from torch import Tensor

from tmrn_edu.check.trial import random_tensors, trial
from tmrn_edu.memory.working import MemoryFrame, WorkingMemory


def _cosine(memory_key: Tensor, query_key: Tensor) -> Tensor:
    """Cosine of every pair of keys: `ck m`, `ck q` -> `m q`."""
    lengths = [reduce(key**2, "ck n -> 1 n", "sum").sqrt() for key in (memory_key, query_key)]
    return einsum(memory_key / lengths[0], query_key / lengths[1], "ck m, ck q -> m q")


def propagate(function) -> bool:
    """`function(memory_key, query_key, mask, temperature)` carries a mask to a query frame: `ck m`, `ck q`, `m` -> `q`."""

    def voted(weights, mask):
        return einsum(weights, mask, "m q, m -> q")

    def case(seed, temperature, m=9, q=7):
        memory_key, query_key, mask = random_tensors((5, m), (5, q), (m,), seed=seed)
        return memory_key, query_key, mask.sigmoid(), temperature

    return trial(
        function,
        lambda k, x, mask, tau: voted((_cosine(k, x) / tau).softmax(dim=0), mask),
        [case(0, 0.2), case(1, 0.5, m=4), case(2, 1.5, q=12)],
        axes="q",
        passed="the memory pixels vote, those of like direction the loudest",
        mistakes=[
            (
                lambda k, x, mask, tau: voted((einsum(k, x, "ck m, ck q -> m q") / tau).softmax(dim=0), mask),
                "a dot product counts lengths too: divide each key by its length first",
            ),
            (
                lambda k, x, mask, tau: voted((_cosine(k, x) / tau).softmax(dim=1), mask),
                "the weights of a query pixel must sum to one: softmax over m, not over q",
            ),
            (
                lambda k, x, mask, tau: voted((_cosine(k, x) * tau).softmax(dim=0), mask),
                "divide by the temperature: the smaller it is, the fewer memory pixels count",
            ),
            (
                lambda k, x, mask, tau: voted(_cosine(k, x).softmax(dim=0), mask),
                "the temperature is not used",
            ),
            (
                lambda k, x, mask, tau: mask[_cosine(k, x).argmax(dim=0)],
                "that is the best match alone; here all memory pixels vote, by their softmax",
            ),
            (
                lambda k, x, mask, tau: voted((_cosine(k, x) / tau).exp(), mask),
                "the weights do not sum to one: divide the exponentials by their sum over m",
            ),
        ],
    )


def _kept(now: int, every: int, most: int, given: tuple[int, ...], restart: bool = True) -> Tensor:
    """What a `WorkingMemory` of `most` frames holds when frame `now` is segmented; `restart`: a given mask starts the count of `every` anew."""
    memory, last = WorkingMemory(most), 0
    for t in range(now):
        if t in given or (t - last >= every if restart else t % every == 0):
            memory.add(MemoryFrame(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1), index=t, exact=t in given))
            last = t
    return torch.tensor([frame.index for frame in memory.frames])


def frames_kept(function) -> bool:
    """`function(now, every, most, given)` lists the frames in memory when frame `now` is segmented, ascending, as a tensor."""

    def window(now, every, most, given):
        return _kept(now, every, now + 1, given)[-most:]

    def first_and_window(now, every, most, given):
        frames = _kept(now, every, now + 1, given)
        return frames if len(frames) <= most else torch.cat([frames[:1], frames[len(frames) - most + 1 :]])

    return trial(
        function,
        _kept,
        [(13, 5, 8, (0,)), (40, 5, 4, (0,)), (41, 5, 4, (0, 12)), (40, 3, 4, (0, 7, 8)), (20, 4, 3, (0, 5, 6, 7))],
        axes="kept",
        passed="the first frame, what was given, and a window of recent frames",
        mistakes=[
            (
                lambda now, every, most, given: _kept(now, every, now + 1, given),
                "nothing is ever thrown out: memory holds at most `most` frames",
            ),
            (window, "the first frame is lost: it always stays"),
            (
                first_and_window,
                "corrected frames leave too early: the oldest *predicted* frame goes first, a given one only when there is none",
            ),
            (
                lambda *case: _kept(*case, restart=False),
                "a given mask starts the count anew: the next frame joins `every` frames after the last one that did",
            ),
            (
                lambda now, every, most, given: _kept(now + 1, every, most, given),
                "frame `now` is not in memory while it is segmented: it has no mask yet",
            ),
        ],
    )
