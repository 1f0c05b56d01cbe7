"""Memory readers: a query frame and stored frames in, a readout per object out. Interchangeable in every network.

`SpaceTimeReader` (`space_time.py`) is the read of STM, STCN and XMem; all readers walk over the memory as it does. `TrajectoryReader`, here,
is TMRN: it corrects the score (agents), expects a pixel where its trajectory leads (chaining), and learns how to pool (attention, age).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn as nn
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tmrn_edu.memory.agents import Agents, agent_correlation
from tmrn_edu.memory.aggregation import AgeBias, TrajectoryAttention
from tmrn_edu.memory.alignment import carry_on, chain_prior, grid_positions, rectification, within_reach
from tmrn_edu.memory.space_time import (
    OWN,
    Insides,
    Readout,
    SpaceTimeReader,
    Step,
    per_clip,
    query_positions,
    row_blocks,
)
from tmrn_edu.memory.working import FrameIndex, MemoryFrame, Query

__all__ = ["Insides", "Readout", "SpaceTimeReader", "TrajectoryReader"]


class TrajectoryReader(SpaceTimeReader):
    """TMRN's reader: spatial alignment, then temporal aggregation along each query pixel's trajectory.

    score      s[m,q] + lambda log(g[m,q] + eps) - beta / gap d(pos(m), c[q])     g: agent-level correlation (none with `agents=0`)
               - gamma |home(m) - pos(q)|^2 (if `mutual`)                         home(m) = pos(argmax_q s[m,q]): where m itself fits best
    place      c[q] = found[q] + velocity * gap * motion[q] (if `chain`)          where the trajectory is expected, from later frames
    distance   d = |pos(m) - c|^2; with `reach` R: 2 R (sqrt(|pos(m) - c|^2 + R^2) - R), a square near by and a slope far away
    pooling    e[q] = evidence (if `evidence`) + attention (if `attention`) + age bias (if `age`); with none of them the plain mean over t

    Positions in cells of the key's grid, gap in video frames. `rectify`, `beta`, `velocity`, `reach` and `trust` (in frames whose mask was given:
    part of the age bias) and `mutual` (gamma) are numbers at start, and learned; `velocity`, `reach` and `mutual` None are parts that are absent,
    for good. `agent_place`, `agent_scales`: what agents see beside keys; `agent_start`: "svd" or "random" (see `Agents`). With
    `top_k` (eval mode only) the k best over all (t m) count where evidence joins the frames, so that identity 1 holds, and the k best of each
    frame where attention alone does. Presets: `paper`, `warm`, `chained`, `tracking`.
    Raises ValueError for an impossible number of agents, and for numbers of parts that are off.
    Source: TMRN [S]; evidence, age, chaining and what belongs to it [ours]; mutual: after the kernels of KMN (Seong et al., ECCV 2020) [ours];
    method sections 2, 3 and 5.
    """

    def __init__(
        self,
        key_channels: int,
        value_channels: int,
        similarity: Callable[..., Tensor] | None = None,
        top_k: int | str | None = OWN,
        agents: int = 8,
        rectify: float = 1.0,
        evidence: bool = False,
        attention: bool = True,
        attention_from_zero: bool = False,
        chain: bool = False,
        age: bool = False,
        beta: float = 0.0,
        trust: float = 0.0,
        velocity: float | None = None,
        reach: float | None = None,
        mutual: float | None = None,
        agent_place: float = 0.0,
        agent_scales: Sequence[int] = (),
        agent_start: str = "svd",
    ):
        super().__init__(similarity, top_k)
        _check_options(chain, age, beta=beta, trust=trust, velocity=velocity, reach=reach, mutual=mutual)
        if not agents and (agent_place or agent_scales or agent_start != "svd"):
            seen = (
                f"agent_place is {agent_place}, agent_scales are {tuple(agent_scales)}, agent_start is {agent_start!r}"
            )
            raise ValueError(f"{seen} and agents 0, expected agents")
        self.key_channels, self.value_channels = key_channels, value_channels
        self.evidence, self.chained, self.top_k_per_frame = evidence, chain, not evidence
        self.agents = (
            Agents(key_channels, agents, place=agent_place, scales=agent_scales, start=agent_start) if agents else None
        )
        self.rectify = _scalar(rectify) if agents else None  # lambda
        self.attention = (
            TrajectoryAttention(key_channels, value_channels, zero=attention_from_zero) if attention else None
        )
        self.beta = _scalar(beta) if chain else None
        self.velocity = None if velocity is None else _scalar(velocity)
        self.log_reach = None if reach is None else _scalar(math.log(reach))
        self.mutual = None if mutual is None else _scalar(mutual)  # gamma
        self.age = AgeBias(trust) if age else None
        self._options = {
            "agents": agents, "rectify": rectify, "evidence": evidence, "attention": attention,
            "attention_from_zero": attention_from_zero, "chain": chain, "age": age, "beta": beta, "trust": trust,
            "velocity": velocity, "reach": reach, "mutual": mutual,
            "agent_place": agent_place, "agent_scales": list(agent_scales), "agent_start": agent_start,
        }  # fmt: skip

    @classmethod
    def paper(cls, key_channels: int, value_channels: int, **options) -> "TrajectoryReader":
        """The supplement's reader as we read it: agents with lambda = 1 at start, attention alone along the trajectory [S]."""
        return cls(key_channels, value_channels, **options)

    @classmethod
    def warm(cls, key_channels: int, value_channels: int, **options) -> "TrajectoryReader":
        """Starts as the space-time read: evidence + attention, with lambda, K (and beta and age, if on) at zero.

        Put into a trained network it changes no output (identity 1), and can be trained from there [ours].
        """
        return cls(
            key_channels, value_channels, **{"rectify": 0.0, "evidence": True, "attention_from_zero": True} | options
        )

    @classmethod
    def chained(cls, key_channels: int, value_channels: int, **options) -> "TrajectoryReader":
        """`warm` with chained alignment and age: the reader follows a trajectory instead of matching each frame anew [ours]."""
        return cls.warm(key_channels, value_channels, **{"chain": True, "age": True} | options)

    @classmethod
    def tracking(cls, key_channels: int, value_channels: int, **options) -> "TrajectoryReader":
        """`chained`, begun with the numbers that carry masks best along real videos, before any training [ours].

        beta 0.5 per squared cell and frame, within reach 4 cells, at constant velocity, trust 2 in given masks. They were found on keys whose
        similarity is cosine / 0.02 to cosine / 0.03, on a grid of 30 x 54 cells. It is no space-time read at start.
        """
        found = {"beta": 0.5, "velocity": 1.0, "reach": 4.0, "trust": 2.0}
        return cls.chained(key_channels, value_channels, **found | options)

    @classmethod
    def preset(cls, name: str, key_channels: int, value_channels: int, **options) -> "TrajectoryReader":
        """The preset of that name: "paper", "warm", "chained" or "tracking". Raises ValueError for another name."""
        presets = {"paper": cls.paper, "warm": cls.warm, "chained": cls.chained, "tracking": cls.tracking}
        if name not in presets:
            raise ValueError(f"preset is {name!r}, expected one of {sorted(presets)}")
        return presets[name](key_channels, value_channels, **options)

    def settings(self) -> dict:
        """The arguments that build this reader again, as plain data."""
        sizes = {"key_channels": self.key_channels, "value_channels": self.value_channels}
        return sizes | super().settings() | self._options

    def store(self, key, value, index, exact=False, shrinkage=None) -> MemoryFrame:
        """As `SpaceTimeReader.store`, with the frame's agents and their likelihoods computed once."""
        frame = super().store(key, value, index, exact, shrinkage)
        description = None if self.agents is None else self.agents.describe(frame.key)
        return replace(frame, description=description)

    def prepare(self, frames: list[MemoryFrame], query: Query) -> tuple[list[MemoryFrame], Query]:
        """What agents see of the query frame, and where in it every memory pixel fits best."""
        if self.agents is not None:
            query = replace(query, features=self.agents.features(query.key))
        if self.mutual is not None:
            frames = [replace(frame, home=self._home(frame, query)) for frame in frames]
        return frames, query

    @torch.no_grad()
    def _home(self, frame: MemoryFrame, query: Query) -> Float[Tensor, "b 2 m"]:
        """home[m] = pos(argmax_q s[m,q]), from the similarity alone."""
        best, home = None, None
        for block in row_blocks([frame], query):
            score, cell = self.similarity(frame.key, block.key, frame.shrinkage, block.selection).max(dim=2)
            place = rearrange(query_positions(block), "yx h w -> (h w) yx")[cell]
            better = None if best is None else score > best
            home = place if best is None else torch.where(rearrange(better, "b m -> b m 1"), place, home)
            best = score if best is None else torch.maximum(score, best)
        return rearrange(home, "b m yx -> b yx m")

    def score(self, frame: MemoryFrame, query: Query, centre: Tensor | None, gap: FrameIndex) -> Float[Tensor, "b m q"]:
        """The similarity, rectified by the agents and centred on the trajectory, fading away from where the memory pixel itself fits best."""
        score = super().score(frame, query, centre, gap)
        if self.agents is not None:
            query_likelihood = self.agents.likelihood(query.features, frame.description)
            correlation = agent_correlation(frame.description.likelihood, query_likelihood)
            score = score + self.rectify * rectification(correlation)
        if self.beta is not None:
            positions = grid_positions(*frame.key.shape[-2:], like=frame.key)
            distance = chain_prior(positions, centre)
            if self.log_reach is not None:
                distance = within_reach(distance, self.log_reach.exp())
            score = score - self.beta / per_clip(gap, "b -> b 1 1", score) * distance
        if self.mutual is not None:
            distance = chain_prior(query_positions(query), frame.home)
            score = score - self.mutual * rearrange(distance, "b q m -> b m q")
        return score

    def expect(self, centre: Tensor, motion: Tensor | None, gap: FrameIndex) -> Float[Tensor, "b 2 q"]:
        """Where it was found last, carried on by its motion; in the newest frame, where it is in the query frame."""
        if self.velocity is None or motion is None:
            return centre
        return carry_on(centre, motion, per_clip(gap, "b -> b 1 1", centre), self.velocity)

    def temporal_score(self, step: Step, query_key: Tensor, aligned_value: Tensor) -> Float[Tensor, "b q"]:
        """Evidence, attention and age, whichever this reader has."""
        evidence = step.affinity.evidence
        score = evidence if self.evidence else torch.zeros_like(evidence)
        if self.attention is not None:
            aligned_key = step.affinity.read(rearrange(step.frame.key, "b ck h w -> b ck (h w)"))
            score = score + self.attention(query_key, aligned_value.to(aligned_key.dtype), aligned_key)
        if self.age is not None:
            score = score + self.age(per_clip(step.steps, "b -> b 1", score), step.frame.exact)
        return score


def _check_options(chain: bool, age: bool, **numbers: float | None) -> None:
    """Numbers of a part that is off would do nothing; those of one that is on must be finite, a reach above 0, and beta not below 0."""
    mutual = numbers["mutual"]
    if mutual is not None and not 0 <= mutual < math.inf:
        raise ValueError(f"mutual is {mutual}, expected a number, 0 or more, or None")
    for name, part, on in (
        ("beta", "chain", chain),
        ("velocity", "chain", chain),
        ("reach", "chain", chain),
        ("trust", "age", age),
    ):
        number = numbers[name]
        needless = number is not None if name in ("velocity", "reach") else number  # the others are numbers in any case
        if needless and not on:
            raise ValueError(f"{name} is {number} and {part} is off, expected {part}=True or no {name}")
        if number is not None and not math.isfinite(number):
            raise ValueError(f"{name} is {number}, expected a finite number")
    if numbers["beta"] < 0 or (numbers["reach"] is not None and numbers["reach"] <= 0):
        raise ValueError(
            f"beta is {numbers['beta']}, reach is {numbers['reach']}, expected 0 or more, and more than 0 or None"
        )


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(float(value)))
