"""Affinity: scores -> weights. Over what they sum to one is what tells a space-time read from spatial alignment.

`softmax_over_memory` and `softmax_over_frame` are the plain forms, all frames at once. A reader meets one memory frame at a time and
uses `frame_affinity`, `frame_top_k` or `RunningTopK`: weights over one frame's pixels, together with the frame's *evidence*

    evidence[q] = logsumexp_m s[m,q],

which is all that is needed to join frames afterwards: softmax over (t m) = softmax over m, then softmax_t(evidence) (identity 1).
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Float, Int
from torch import Tensor


def softmax_over_frame(similarity: Float[Tensor, "b t m q"], top_k: int | None = None) -> Float[Tensor, "b t m q"]:
    """Weights of spatial alignment: every memory frame on its own.

    W[t,m,q] = exp s[t,m,q] / sum_m' exp s[t,m',q]; with `top_k` only the k best of each frame count. Sums to one over m.
    Raises ValueError for top_k < 1. Source: method section 2 [S]; top-k as in STCN.
    """
    return _keep_best(similarity, top_k).softmax(dim=2)


def softmax_over_memory(similarity: Float[Tensor, "b t m q"], top_k: int | None = None) -> Float[Tensor, "b t m q"]:
    """Weights of the space-time read: all pixels of all memory frames compete.

    w[t,m,q] = exp s[t,m,q] / sum_t'm' exp s[t',m',q]; with `top_k` only the k best over (t m) count. Sums to one over (t m).
    Raises ValueError for top_k < 1. Source: STM, "Space-time Memory Read"; top-k from STCN's inference (never used in training).
    """
    frames = similarity.shape[1]
    flat = rearrange(similarity, "b t m q -> b 1 (t m) q")
    return rearrange(softmax_over_frame(flat, top_k), "b 1 (t m) q -> b t m q", t=frames)


def _keep_best(similarity: Tensor, top_k: int | None) -> Tensor:
    """-inf everywhere but at the k largest over m; exactly k, also among ties. k >= m keeps everything."""
    check_top_k(top_k)
    if top_k is None or top_k >= similarity.shape[2]:
        return similarity
    best, position = similarity.topk(top_k, dim=2)
    return torch.full_like(similarity, -torch.inf).scatter(2, position, best)


def check_top_k(top_k: int | None) -> None:
    """Raises ValueError unless `top_k` is None or at least one."""
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}, expected None (all memory pixels) or at least 1")


@runtime_checkable
class FrameAffinity(Protocol):
    """Weights over one memory frame's pixels, in whichever form they are kept."""

    evidence: Float[Tensor, "b q"]

    def read(self, field: Float[Tensor, "b c m"]) -> Float[Tensor, "b c q"]:
        """sum_m W[m,q] field[m]: anything that lies on the memory frame's grid, brought onto the query's."""

    def dense(self, positions: int) -> Float[Tensor, "b m q"]:
        """All weights, zeros included."""


@dataclass(frozen=True)
class DenseAffinity:
    """A weight for every memory pixel, normalised only after reading: it is cheaper to divide the readout."""

    exponential: Float[Tensor, "b m q"]  # exp(score - its maximum over m)
    total: Float[Tensor, "b 1 q"]  # the sum of that over m
    evidence: Float[Tensor, "b q"]  # logsumexp over m of the scores

    def read(self, field: Float[Tensor, "b c m"]) -> Float[Tensor, "b c q"]:
        """sum_m W[m,q] field[c,m]. One matrix product, fastest when `field` is stored as rows, c side by side."""
        if field.dtype != self.exponential.dtype:  # half-precision values: a sum that is not normalised could overflow
            read = einsum(self.dense(field.shape[-1]).to(field.dtype), field, "b m q, b c m -> b q c")
            return rearrange(read, "b q c -> b c q")
        read = einsum(self.exponential, field, "b m q, b c m -> b q c")
        return rearrange(read, "b q c -> b c q") / self.total

    def dense(self, positions: int) -> Float[Tensor, "b m q"]:
        """The weights, summing to one over m."""
        return self.exponential / self.total


@dataclass(frozen=True)
class TopAffinity:
    """Only the best memory pixels: where they are, their scores, and whether they still take part."""

    position: Int[Tensor, "b k q"]  # index m of the memory pixel
    score: Float[Tensor, "b k q"]  # before the softmax; -inf: takes no part

    @property
    def evidence(self) -> Float[Tensor, "b q"]:
        """logsumexp over the k kept scores; -inf where this frame has none."""
        return self.score.logsumexp(dim=1)

    @property
    def weights(self) -> Float[Tensor, "b k q"]:
        """Softmax over the kept scores; zeros, not NaN, where this frame has none."""
        floor = torch.finfo(self.score.dtype).min
        return self.score.clamp_min(floor).softmax(dim=1) * (self.score > floor)

    def read(self, field: Float[Tensor, "b c m"]) -> Float[Tensor, "b c q"]:
        """sum_k W[k,q] field[c, position[k,q]]: gathers k rows a query pixel and multiplies nothing by zero."""
        batch, _, positions = field.shape
        weights = rearrange(self.weights, "b k q -> (b q) k").to(field.dtype)
        first = torch.arange(batch, device=field.device) * positions  # where each clip's rows begin in the table
        rows = rearrange(self.position + rearrange(first, "b -> b 1 1"), "b k q -> (b q) k")
        takes_part = weights > 0
        counts = reduce(takes_part.long(), "bq k -> bq", "sum")
        read = F.embedding_bag(
            rows[takes_part],
            rearrange(field, "b c m -> (b m) c"),
            offsets=counts.cumsum(0) - counts,
            per_sample_weights=weights[takes_part],
            mode="sum",
        )
        return rearrange(read, "(b q) c -> b c q", b=batch)

    def dense(self, positions: int) -> Float[Tensor, "b m q"]:
        """The weights put back among zeros."""
        weights = self.weights
        full = weights.new_zeros(weights.shape[0], positions, weights.shape[2])
        return full.scatter_add(1, self.position, weights)


def frame_affinity(score: Float[Tensor, "b m q"]) -> DenseAffinity:
    """Softmax over one memory frame's pixels, and the evidence that it keeps for the merge over time.

    W[m,q] = exp(s[m,q] - evidence[q]),  evidence[q] = logsumexp_m s[m,q]. The score is overwritten (it is the largest tensor of a
    read). Safe for scores of any size: the maximum is subtracted first. Source: method identity 1, ours.
    """
    peak = reduce(score.detach(), "b m q -> b 1 q", "max")
    exponential = score.sub_(peak).exp_()
    total = reduce(exponential, "b m q -> b 1 q", "sum")
    return DenseAffinity(exponential, total, rearrange(peak + total.log(), "b 1 q -> b q"))


class RunningTopK:
    """Searches the k best pixels over frames that arrive one at a time.

    Only a pixel among the k best of the frames so far can be among the k best of all frames. So each frame's pixels are searched behind
    the k best scores so far: nearly all fail against the worst of those, and failing is what a search does fastest.
    Source: STCN's top-k, frame by frame as `RunningAverage` pools; ours.
    """

    def __init__(self, top_k: int):
        self.top_k = top_k
        self.best = None  # b q k: the best scores so far

    def add(self, score: Float[Tensor, "b m q"]) -> TopAffinity:
        """Takes in one frame. Returns those of its pixels that are among the k best so far; `share_top_k` ends the search."""
        candidates = rearrange(score, "b m q -> b q m")  # as similarity stores it: a search is fastest along rows
        if self.best is not None:
            candidates = torch.cat([self.best, candidates], dim=2)
        earlier, pixels = candidates.shape[2] - score.shape[1], score.shape[1]
        # torch searches rows shorter than 64 k another way, several times slower (CPU, torch 2.13): fill them up if it takes little
        missing = 64 * self.top_k - candidates.shape[2]
        if 0 < missing < pixels:
            candidates = F.pad(candidates, (0, missing), value=-torch.inf)
        self.best, place = candidates.topk(min(self.top_k, candidates.shape[2]), dim=2)
        position = rearrange(place, "b q k -> b k q") - earlier
        own = rearrange(self.best, "b q k -> b k q").masked_fill(position < 0, -torch.inf)
        return TopAffinity(position.clamp(0, pixels - 1), own)


def frame_top_k(score: Float[Tensor, "b m q"], top_k: int) -> TopAffinity:
    """The k best pixels of one memory frame on its own; all of them when k >= m. Source: STCN's top-k, per frame."""
    return RunningTopK(top_k).add(score)


def share_top_k(frames: list[TopAffinity], top_k: int) -> list[TopAffinity]:
    """Of the best of every frame, keep the k best over all frames: the published top-k, spread over its frames.

    The k best over (t m) are among the k best of each t, and among the k best so far of a running search, so nothing is lost.
    Exactly k take part, also among ties.
    Source: STCN:inference_memory_bank.py (one top-k over all memory pixels), regrouped.
    """
    scores = torch.cat([frame.score for frame in frames], dim=1)
    if top_k >= scores.shape[1]:
        return frames
    chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(top_k, dim=1).indices, True)
    scores = scores.masked_fill(~chosen, -torch.inf)
    parts = scores.split([frame.score.shape[1] for frame in frames], dim=1)
    return [TopAffinity(frame.position, part) for frame, part in zip(frames, parts, strict=True)]
