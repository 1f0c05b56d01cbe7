"""TMRN's temporal aggregation: one value per memory frame, pooled along the trajectory [S].

    u[t,q] = softmax over t of e[t,q] ;    readout[q] = sum_t u[t,q] v~[t,q]

`TrajectoryAttention` gives the learned part of e; `RunningAverage` pools frame by frame, so that a read never holds more than one frame.
"""

import math

import torch
import torch.nn as nn
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor


class TrajectoryAttention(nn.Module):
    """How much a query pixel attends to its counterpart in a memory frame.

    attention[q] = <Q query[q], K [v~ ; k~][q]> / sqrt(d). Shapes: query key `b ck q`, aligned value `b o cv q`, aligned key `b ck q` ->
    `b q`. The weights serve all objects, so v~ enters as its mean over objects. `zero=True` starts K at zero: no attention at first.
    Source: pooling along the trajectory in a data-driven manner [S]; the form is Motionformer's trajectory attention [K].
    """

    def __init__(self, key_channels: int, value_channels: int, width: int = 64, zero: bool = False):
        super().__init__()
        self.query = nn.Linear(key_channels, width, bias=False)
        self.key = nn.Linear(value_channels + key_channels, width, bias=False)
        if zero:
            nn.init.zeros_(self.key.weight)

    def forward(
        self,
        query_key: Float[Tensor, "b ck q"],
        aligned_value: Float[Tensor, "b o cv q"],
        aligned_key: Float[Tensor, "b ck q"],
    ) -> Float[Tensor, "b q"]:
        """The score e[t,q] of one memory frame."""
        query = self.query(rearrange(query_key, "b ck q -> b q ck"))
        counterpart = torch.cat([reduce(aligned_value, "b o cv q -> b cv q", "mean"), aligned_key], dim=1)
        key = self.key(rearrange(counterpart, "b c q -> b q c"))
        return einsum(query, key, "b q d, b q d -> b q") / math.sqrt(self.query.out_features)


class AgeBias(nn.Module):
    """Learned trust in a memory frame by its age, and in frames whose mask was given and not predicted.

    bias = w_age * log(1 + steps) + w_exact * [mask was given], w_age 0 and w_exact = `trust` at start; steps: video frames between query and
    memory.
    The logarithm keeps the first frame of a long video in play. Source: ours (method section 5).
    """

    def __init__(self, trust: float = 0.0):
        super().__init__()
        self.age = nn.Parameter(torch.zeros(()))
        self.exact = nn.Parameter(torch.tensor(float(trust)))

    def forward(self, steps: int | Float[Tensor, "b 1"], exact: bool) -> Float[Tensor, ""] | Float[Tensor, "b 1"]:
        """One number, or one per clip, added to e[t,q] for every query pixel."""
        older = math.log1p(abs(steps)) if isinstance(steps, int) else torch.log1p(steps.abs())
        return self.age * older + self.exact * float(exact)


class RunningAverage:
    """A softmax-weighted mean over frames that arrive one at a time.

    After frames 1..T with scores e_t and values v_t, `mean` = sum_t softmax_t(e) v_t: exact at every step, whatever the size of the scores.
    A new frame takes the share exp(e) / (everything so far + exp(e)) of the mean. Shapes: score `b q`, value `b c q`.
    Source: the running (max, sum, value) of online softmax (Milakov and Gimelshein, 2018), over frames instead of tiles.
    """

    def __init__(self):
        self.log_total = None
        self.mean = None

    def add(self, score: Float[Tensor, "b q"], value: Float[Tensor, "b c q"]) -> None:
        """Takes in one frame. A score of -inf leaves the mean as it is."""
        score = score.clamp_min(torch.finfo(score.dtype).min)
        if self.mean is None:
            self.log_total, self.mean = score, value
            return
        share = torch.sigmoid(score - self.log_total)  # e^a / (e^a + e^b)
        self.log_total = torch.logaddexp(self.log_total, score)
        self.mean = torch.lerp(self.mean, value, rearrange(share, "b q -> b 1 q").to(value.dtype))
