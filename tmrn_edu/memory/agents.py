"""TMRN's agents: a few directions by which every pixel of a memory frame can be described [S].

Two pixels that look alike may belong to different things. TMRN lets a few *agents* per memory frame answer for its pixels and asks
whether a memory pixel and a query pixel answer to the same agents: the agent-level correlation, which corrects the pixel-level one.
Agents depend on the memory frame alone, so they are computed once, when the frame is stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor

# Pixels closer than this to the mean key have no direction: their cosines shrink to 0, and their gradients stay below 1e6.
SHORTEST_KEY = 1e-6


@dataclass(frozen=True)
class AgentDescription:
    """What is kept of a memory frame beside its keys."""

    mean: Float[Tensor, "b cf"]  # mean feature of the frame (`Agents.features`: its key, or more)
    agents: Float[Tensor, "b a cf"]  # directions from that mean
    likelihood: Float[Tensor, "b a m"]  # which agent answers for each memory pixel; sums to one over a


def principal_directions(key: Float[Tensor, "b ck h w"], count: int) -> Float[Tensor, "b n ck"]:
    """The directions along which a frame's keys vary most: right singular vectors of the centred keys.

    X - mean = U S V^T over positions; the first `count` rows of V^T, largest singular value first, unit norm, sign arbitrary.
    Computed as eigenvectors of the ck x ck covariance in float64, so the cost does not grow with the frame; no gradient.
    Raises ValueError when `count` exceeds ck. Source: "SVD initialisation of representative agents" [S]; centring [ours].
    """
    channels = key.shape[1]
    if count > channels:
        raise ValueError(f"{count} principal directions asked for, but keys have {channels} channels")
    with torch.no_grad():
        rows = rearrange(key.double(), "b ck h w -> b ck (h w)")
        rows = rows - reduce(rows, "b ck m -> b ck 1", "mean")
        covariance = einsum(rows, rows, "b c1 m, b c2 m -> b c1 c2") / rows.shape[-1]
        vectors = torch.linalg.eigh(covariance).eigenvectors  # columns, smallest eigenvalue first
        largest_first = vectors[..., channels - count :].flip(-1)
        return rearrange(largest_first, "b ck n -> b n ck").to(key.dtype)


def agent_correlation(
    memory_likelihood: Float[Tensor, "b a m"], query_likelihood: Float[Tensor, "b a q"]
) -> Float[Tensor, "b m q"]:
    """Do a memory pixel and a query pixel answer to the same agents?

    g[m,q] = sum_a r[a,m] p[a,q], in [0, 1]: the probability that both, drawing an agent each, draw the same.
    Source: agent-level correlation [S], as a likelihood over agents [K: RankMatch].
    """
    overlap = einsum(query_likelihood, memory_likelihood, "b a q, b a m -> b q m")  # stored as similarities are
    return rearrange(overlap, "b q m -> b m q")


class Agents(nn.Module):
    """Agents of a memory frame, and the likelihood of any pixel under them.

    X = features(key), the keys themselves unless `place` or `scales` say more; below, "key" is such a feature
    A0 = +-V[1..n] (`principal_directions`, each with both signs, so no sign convention is needed)
    A = A0 + W_o softmax(A0 W_q (X W_k)^T / sqrt(ck)) X W_v          one cross-attention to the frame's keys X; W_o starts at zero
    likelihood[a] = softmax_a(cos(key - mean, A[a]) / tau)            tau learned, 0.1 at start
    With `start` "random", n directions drawn once and learned take the place of V, the same for all frames.
    Pixels with equal keys have equal likelihoods, so agents of keys alone cannot part look-alikes. `place` and `scales` let them see what a key
    does not hold: where a pixel lies, and what is around it.
    Shapes: a = 2 n agents. Raises ValueError when `count` is odd or more than twice the feature's channels, a `place` or a scale below 0,
    and another `start`.
    Source: [S] for SVD-initialised agents; attention [K, ours]; centring, pairs, cosine, place and scales [ours].
    """

    def __init__(
        self,
        key_channels: int,
        count: int = 8,
        tau: float = 0.1,
        place: float = 0.0,
        scales: Sequence[int] = (),
        start: str = "svd",
    ):
        super().__init__()
        if start not in ("svd", "random"):
            raise ValueError(f"start is {start!r}, expected 'svd' or 'random'")
        if place < 0 or any(radius < 1 for radius in scales):
            raise ValueError(
                f"place is {place}, scales are {list(scales)}, expected 0 or more, and radii of 1 cell or more"
            )
        self.place, self.scales = place, tuple(scales)
        channels = key_channels * (1 + len(self.scales)) + (2 if place else 0)
        if count < 2 or count % 2 or count > 2 * channels:
            raise ValueError(
                f"{count} agents asked for, expected an even number from 2 to {2 * channels} (both signs of a direction)"
            )
        self.count = count
        self.to_query = nn.Linear(channels, channels, bias=False)
        self.to_key = nn.Linear(channels, channels, bias=False)
        self.to_value = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.Linear(channels, channels, bias=False)
        nn.init.zeros_(self.to_out.weight)
        self.directions = (
            nn.Parameter(F.normalize(torch.randn(count // 2, channels), dim=1)) if start == "random" else None
        )
        self.log_tau = nn.Parameter(torch.tensor(float(tau)).log())

    def features(self, key: Float[Tensor, "b ck h w"]) -> Float[Tensor, "b cf h w"]:
        """What agents see of a frame: its keys, their means around each pixel, and where the pixel lies.

        [key ; mean of the keys within r cells up, down, left and right, for each r of `scales` ; place * length * (y, x)], with y and x from
        -1 to 1 over the frame and length the root mean square of |key - mean key|. The key itself where there is neither. Needs the whole
        frame. Source: ours.
        """
        parts = [key]
        for radius in self.scales:
            parts.append(F.avg_pool2d(key, 2 * radius + 1, stride=1, padding=radius, count_include_pad=False))
        if self.place:
            height, width = key.shape[-2:]
            y, x = (torch.linspace(-1, 1, n, dtype=key.dtype, device=key.device) for n in (height, width))
            centred = key - reduce(key, "b ck h w -> b ck 1 1", "mean")
            length = (
                reduce(reduce(centred**2, "b ck h w -> b h w", "sum"), "b h w -> b 1 1 1", "mean")
                .clamp_min(SHORTEST_KEY**2)
                .sqrt()
            )
            places = torch.stack([repeat(y, "h -> h w", w=width), repeat(x, "w -> h w", h=height)])
            parts.append(self.place * length * rearrange(places, "yx h w -> 1 yx h w"))
        return torch.cat(parts, dim=1) if len(parts) > 1 else key

    def describe(self, key: Float[Tensor, "b ck h w"]) -> AgentDescription:
        """Agents of a memory frame and the likelihood r[a,m] of its own pixels: computed once, when the whole frame is stored."""
        key = self.features(key)
        if self.directions is None:
            directions = principal_directions(key, self.count // 2)
        else:
            directions = repeat(self.directions, "n cf -> b n cf", b=len(key))
        seeds = torch.cat([directions, -directions], dim=1)
        rows = rearrange(key, "b ck h w -> b (h w) ck")
        scores = einsum(self.to_query(seeds), self.to_key(rows), "b a ck, b m ck -> b a m") * key.shape[1] ** -0.5
        agents = seeds + self.to_out(einsum(scores.softmax(dim=-1), self.to_value(rows), "b a m, b m ck -> b a ck"))
        mean = reduce(key, "b ck h w -> b ck", "mean")
        return AgentDescription(mean, agents, self._likelihood(key, mean, agents))

    def likelihood(self, features: Float[Tensor, "b cf h w"], description: AgentDescription) -> Float[Tensor, "b a q"]:
        """p[a,q]: which of the memory frame's agents answers for each query pixel, of which its `features` are given; sums to one over a."""
        return self._likelihood(features, description.mean, description.agents)

    def _likelihood(self, key: Tensor, mean: Tensor, agents: Tensor) -> Tensor:
        centred = F.normalize(
            rearrange(key, "b ck h w -> b ck (h w)") - rearrange(mean, "b ck -> b ck 1"), dim=1, eps=SHORTEST_KEY
        )
        cosine = einsum(F.normalize(agents, dim=-1), centred, "b a ck, b ck m -> b a m")
        return (cosine / self.log_tau.exp()).softmax(dim=1)
