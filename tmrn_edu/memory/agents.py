"""TMRN's agents: a few directions by which every pixel of a memory frame can be described [S].

Two pixels that look alike may belong to different things. TMRN lets a few *agents* per memory frame answer for its pixels and asks
whether a memory pixel and a query pixel answer to the same agents: the agent-level correlation, which corrects the pixel-level one.
Agents depend on the memory frame alone, so they are computed once, when the frame is stored.
"""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from einops import einsum, rearrange, reduce
from jaxtyping import Float
from torch import Tensor

# Pixels closer than this to the mean key have no direction: their cosines shrink to 0, and their gradients stay below 1e6.
SHORTEST_KEY = 1e-6


@dataclass(frozen=True)
class AgentDescription:
    """What is kept of a memory frame beside its keys."""

    mean: Float[Tensor, "b ck"]  # mean key of the frame
    agents: Float[Tensor, "b a ck"]  # directions from that mean
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

    A0 = +-V[1..n] (`principal_directions`, each with both signs, so no sign convention is needed)
    A = A0 + W_o softmax(A0 W_q (X W_k)^T / sqrt(ck)) X W_v          one cross-attention to the frame's keys X; W_o starts at zero
    likelihood[a] = softmax_a(cos(key - mean, A[a]) / tau)            tau learned, 0.1 at start
    Shapes: a = 2 n agents. Raises ValueError when `count` is odd or more than twice the key channels.
    Source: [S] for SVD-initialised agents; attention [K, ours]; centring, pairs and cosine [ours].
    """

    def __init__(self, key_channels: int, count: int = 8, tau: float = 0.1):
        super().__init__()
        if count < 2 or count % 2 or count > 2 * key_channels:
            raise ValueError(
                f"{count} agents asked for, expected an even number from 2 to {2 * key_channels} (both signs of a direction)"
            )
        self.count = count
        self.to_query = nn.Linear(key_channels, key_channels, bias=False)
        self.to_key = nn.Linear(key_channels, key_channels, bias=False)
        self.to_value = nn.Linear(key_channels, key_channels, bias=False)
        self.to_out = nn.Linear(key_channels, key_channels, bias=False)
        nn.init.zeros_(self.to_out.weight)
        self.log_tau = nn.Parameter(torch.tensor(float(tau)).log())

    def describe(self, key: Float[Tensor, "b ck h w"]) -> AgentDescription:
        """Agents of a memory frame and the likelihood r[a,m] of its own pixels: computed once, when the frame is stored."""
        directions = principal_directions(key, self.count // 2)
        seeds = torch.cat([directions, -directions], dim=1)
        rows = rearrange(key, "b ck h w -> b (h w) ck")
        scores = einsum(self.to_query(seeds), self.to_key(rows), "b a ck, b m ck -> b a m") * key.shape[1] ** -0.5
        agents = seeds + self.to_out(einsum(scores.softmax(dim=-1), self.to_value(rows), "b a m, b m ck -> b a ck"))
        mean = reduce(key, "b ck h w -> b ck", "mean")
        return AgentDescription(mean, agents, self._likelihood(key, mean, agents))

    def likelihood(self, key: Float[Tensor, "b ck h w"], description: AgentDescription) -> Float[Tensor, "b a q"]:
        """p[a,q]: which of the memory frame's agents answers for each query pixel; sums to one over a."""
        return self._likelihood(key, description.mean, description.agents)

    def _likelihood(self, key: Tensor, mean: Tensor, agents: Tensor) -> Tensor:
        centred = F.normalize(
            rearrange(key, "b ck h w -> b ck (h w)") - rearrange(mean, "b ck -> b ck 1"), dim=1, eps=SHORTEST_KEY
        )
        cosine = einsum(F.normalize(agents, dim=-1), centred, "b a ck, b ck m -> b a m")
        return (cosine / self.log_tau.exp()).softmax(dim=1)
