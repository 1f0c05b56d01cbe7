"""The walk over memory frames that all readers share, and the plainest of them: the space-time read of STM, STCN and XMem.

A reader takes the memory frames one by one, newest first, and for each one
    1. scores its pixels                     s[m,q]
    2. turns scores into weights over m      W[m,q] = softmax_m, and evidence[q] = logsumexp_m
    3. brings its values onto the query grid v~[q] = sum_m W[m,q] value[m]
    4. pools over time                       readout[q] = sum_t softmax_t(e)[t,q] v~[t,q]
`SpaceTimeReader` scores by similarity and pools by evidence, e = evidence, which is exactly the softmax over all (t m) (identity 1). Other
readers change the score, where a pixel is expected, or e: see `readers.py`.

Only one frame's affinity exists at a time, for one block of query rows, so memory grows with m q and not with t m q.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn as nn
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tmrn_edu.memory.affinity import FrameAffinity, RunningTopK, check_top_k, frame_affinity, frame_top_k, share_top_k
from tmrn_edu.memory.aggregation import RunningAverage
from tmrn_edu.memory.alignment import grid_positions
from tmrn_edu.memory.similarity import negative_squared_l2
from tmrn_edu.memory.working import FrameIndex, MemoryFrame, Query, frames_apart, pixel_by_pixel, time_of

# Query rows are read in blocks with about this many scores per memory frame (2 MB), which bounds memory, keeps a block in the cache, and is
# small enough for the allocator to use the same pages again and again; larger blocks wait for fresh ones.
BLOCK = 2**19

OWN = "network's"  # top_k of a reader: as many as the network's authors take


@dataclass(frozen=True)
class Insides:
    """What a read did, frame by frame in the order of time. The weight of memory pixel (t m) in the readout is affinity * temporal_weights."""

    memory_indices: tuple[FrameIndex, ...]  # which video frames were read
    affinity: Float[Tensor, "b t m q"]  # sums to one over m: where each query pixel looks in each frame
    temporal_weights: Float[Tensor, "b t q"]  # sums to one over t: how much each frame counts
    aligned_value: Float[Tensor, "b o t cv h w"]  # each frame's values on the query grid
    trajectory: Float[Tensor, "b t 2 h w"]  # expected position (y, x) of each query pixel in each frame, in cells


@dataclass(frozen=True)
class Readout:
    """What a reader returns."""

    value: Float[Tensor, "b o cv h w"]  # per object, on the query grid
    insides: Insides | None = None  # only when asked for


@dataclass(frozen=True)
class Step:
    """One memory frame brought onto a block of the query grid: what a reader's `temporal_score` sees of it."""

    frame: MemoryFrame
    affinity: FrameAffinity
    steps: FrameIndex  # video frames between the query and this frame
    centre: Tensor | None  # b 2 q: expected position in this frame, if anybody needs it


class SpaceTimeReader(nn.Module):
    """The space-time read of STM, STCN and XMem.

    w = softmax over (t m) of s ;  readout[q] = sum_tm w[t,m,q] value[t,m], computed frame by frame (see above), exact to rounding.
    `similarity`: one of `memory.similarity`; None is that of the network the reader is put into (L2 on its own). `top_k`: in eval mode only
    the k best of all (t m) count, as published for STCN (20) and XMem (30), None: all; left out, it is the network's, too (all on its own).
    Training always uses the full softmax. No weights. Source: STM, "Space-time Memory Read".
    """

    def __init__(self, similarity: Callable[..., Tensor] | None = None, top_k: int | str | None = OWN):
        super().__init__()
        self.left_open = [
            name for name, open_ in (("similarity", similarity is None), ("top_k", top_k == OWN)) if open_
        ]
        self.owner = None  # the kind of network that filled in what was left open
        self.similarity = negative_squared_l2 if similarity is None else similarity
        self.top_k = None if top_k == OWN else top_k
        check_top_k(self.top_k)
        self.top_k_per_frame = False
        self.chained = False

    def adopt(self, owner: str, similarity: Callable[..., Tensor], top_k: int | None) -> None:
        """Fills in what was left open when this reader was made, as the network has it that it is put into.

        Raises ValueError when another kind of network has done so before: its read would change under it.
        """
        if self.left_open and self.owner not in (None, owner):
            taken = " and ".join(self.left_open)
            raise ValueError(
                f"the reader has its {taken} from {self.owner}, now it is put into {owner}; make one for each"
            )
        own = {"similarity": similarity, "top_k": top_k}
        for name in self.left_open:
            setattr(self, name, own[name])
        self.owner = owner

    def settings(self) -> dict:
        """The arguments that build this reader again, as plain data."""
        return {"similarity": self.similarity.__name__, "top_k": self.top_k}

    def store(
        self,
        key: Float[Tensor, "b ck h w"],
        value: Float[Tensor, "b o cv h w"],
        index: FrameIndex,
        exact: bool = False,
        shrinkage: Float[Tensor, "b 1 h w"] | None = None,
    ) -> MemoryFrame:
        """A memory frame, with all that can be computed about it once.

        Keys and shrinkage are kept in float32: affinities need the digits. Values keep their shape but are stored pixel by pixel, since pixels
        are what a read fetches. Raises ValueError for keys and values of different batch or grid.
        """
        if key.shape[-2:] != value.shape[-2:] or key.shape[0] != value.shape[0]:
            raise ValueError(f"memory key has batch and grid {_grid(key)}, memory value has {_grid(value)}")
        return MemoryFrame(_precise(key), pixel_by_pixel(value), index, exact, _precise(shrinkage))

    def forward(self, memory: Sequence[MemoryFrame], query: Query, insides: bool = False) -> Readout:
        """Reads `memory` for every pixel of `query`; `insides=True` also returns what was looked at (it costs t m q numbers).

        Raises ValueError for an empty memory and for keys that do not fit, naming both sides.
        """
        _check(memory, query)
        query = Query(_precise(query.key), query.index, _precise(query.selection))
        newest_first, query = self.prepare(sorted(memory, key=lambda frame: -time_of(frame.index)), query)
        blocks = [self._read_block(newest_first, block, insides) for block in row_blocks(newest_first, query)]
        value = torch.cat([block[0] for block in blocks], dim=-2).contiguous()
        return Readout(value, _join_insides(newest_first, [block[1] for block in blocks]) if insides else None)

    def prepare(self, frames: list[MemoryFrame], query: Query) -> tuple[list[MemoryFrame], Query]:
        """What needs the whole query frame, found before it is read in blocks of rows. Here: nothing."""
        return frames, query

    def score(self, frame: MemoryFrame, query: Query, centre: Tensor | None, gap: FrameIndex) -> Float[Tensor, "b m q"]:
        """s[m,q]: how well each pixel of one memory frame matches each query pixel. A new tensor; the caller may overwrite it."""
        return self.similarity(frame.key, query.key, frame.shrinkage, query.selection)

    def temporal_score(self, step: "Step", query_key: Tensor, aligned_value: Tensor) -> Float[Tensor, "b q"]:
        """e[q]: how much one memory frame counts, before the softmax over t. Here its evidence."""
        return step.affinity.evidence

    def expect(self, centre: Tensor, motion: Tensor | None, gap: FrameIndex) -> Float[Tensor, "b 2 q"]:
        """Where each query pixel is expected in the next frame of the walk. Here: where it was found last."""
        return centre

    def _walk(self, frames: Sequence[MemoryFrame], query: Query, centre: Tensor, insides: bool) -> Iterator[Step]:
        """Aligns one memory frame after another, newest first. Positions are followed only if chaining or somebody's look needs them."""
        top_k = None if self.training else self.top_k
        followed = self.chained or insides
        previous, motion = query.index, None
        search = None if top_k is None else RunningTopK(top_k)
        for frame in frames:
            gap = _at_least_one(frames_apart(previous, frame.index))
            score = self.score(frame, query, self.expect(centre, motion, gap), gap)
            if search is None:
                affinity = frame_affinity(score)
            elif self.top_k_per_frame or followed:  # a position in this frame needs the best of this frame
                affinity = frame_top_k(score, top_k)
            else:
                affinity = search.add(score)
            if followed:
                positions = grid_positions(*frame.key.shape[-2:], like=frame.key)
                found = affinity.read(rearrange(positions, "yx h w -> 1 yx (h w)").expand(len(frame.key), -1, -1))
                motion, centre = (found - centre) / per_clip(gap, "b -> b 1 1", found), found
            yield Step(frame, affinity, frames_apart(query.index, frame.index), centre if followed else None)
            previous = frame.index

    def _read_block(self, frames: Sequence[MemoryFrame], block: Query, insides: bool):
        """Reads for some rows of the query: value `b o cv rows w`, and the insides of that block."""
        width = block.key.shape[-1]
        start = rearrange(query_positions(block), "yx h w -> 1 yx (h w)").expand(len(block.key), -1, -1)
        query_key = rearrange(block.key, "b ck h w -> b ck (h w)")

        steps = self._walk(frames, block, start, insides)
        if self.top_k is not None and not self.training and not self.top_k_per_frame:
            steps = list(steps)
            shared = share_top_k([step.affinity for step in steps], self.top_k)
            steps = [Step(step.frame, part, step.steps, step.centre) for step, part in zip(steps, shared, strict=True)]

        pooled, looks = RunningAverage(), []
        for step in steps:
            objects = step.frame.value.shape[1]
            aligned = step.affinity.read(rearrange(step.frame.value, "b o cv h w -> b (o cv) (h w)"))
            score = self.temporal_score(step, query_key, rearrange(aligned, "b (o cv) q -> b o cv q", o=objects))
            pooled.add(score, aligned)
            if insides:
                looks.append((step.affinity.dense(step.frame.key[0, 0].numel()), score, aligned, step.centre))
        shape = {"o": objects, "w": width}
        value = rearrange(pooled.mean, "b (o cv) (h w) -> b o cv h w", **shape)
        if not insides:
            return value, None
        affinity, scores, aligned, centres = (torch.stack(parts, dim=1) for parts in zip(*looks, strict=True))
        return value, (
            affinity,
            scores.softmax(dim=1),
            rearrange(aligned, "b t (o cv) (h w) -> b o t cv h w", **shape),
            rearrange(centres, "b t yx (h w) -> b t yx h w", w=width),
        )


def row_blocks(frames: Sequence[MemoryFrame], query: Query) -> list[Query]:
    """The query in blocks of rows, of about equal size, with about `BLOCK` scores for the largest memory frame."""
    height, width = query.key.shape[-2:]
    positions = max(frame.key[0, 0].numel() for frame in frames)
    count = min(height, math.ceil(len(query.key) * positions * height * width / BLOCK))
    rows = math.ceil(height / count)
    return [query.rows(top, min(top + rows, height)) for top in range(0, height, rows)]


def query_positions(query: Query) -> Float[Tensor, "2 h w"]:
    """Positions (y, x) of a query's cells in its frame's grid, of which it may be a block of rows."""
    height, width = query.key.shape[-2:]
    return grid_positions(query.first_row + height, width, like=query.key)[:, query.first_row :]


def _precise(x: Tensor | None) -> Tensor | None:
    """The same numbers in float32 or better; None stays None."""
    return None if x is None else x.to(torch.promote_types(x.dtype, torch.float32))


def _at_least_one(gap: FrameIndex) -> FrameIndex:
    return max(1, gap) if isinstance(gap, int) else gap.clamp_min(1)


def per_clip(number: FrameIndex, pattern: str, like: Tensor) -> int | Tensor:
    """A number per clip, shaped to go with a score; one number for all stays as it is."""
    return number if isinstance(number, int) else rearrange(number, pattern).to(like)


def _grid(x: Tensor) -> str:
    return f"{x.shape[0]} x ({x.shape[-2]}, {x.shape[-1]})"


def _check(memory: Sequence[MemoryFrame], query: Query) -> None:
    if not memory:
        raise ValueError(f"memory holds 0 frames, expected at least 1 to read for frame {query.index}")
    for frame in memory:
        if frame.key.shape[1] != query.key.shape[1]:
            raise ValueError(
                f"memory key of frame {frame.index} has {frame.key.shape[1]} channels, query key has {query.key.shape[1]}"
            )
        if frame.key.shape[0] != query.key.shape[0]:
            raise ValueError(
                f"memory key of frame {frame.index} has batch {frame.key.shape[0]}, query key has {query.key.shape[0]}"
            )
        if frame.value.shape[1:3] != memory[0].value.shape[1:3]:
            raise ValueError(
                f"memory value of frame {frame.index} has objects and channels {tuple(frame.value.shape[1:3])}, "
                f"that of frame {memory[0].index} has {tuple(memory[0].value.shape[1:3])}"
            )


def _join_insides(newest_first: Sequence[MemoryFrame], blocks: list) -> Insides:
    """Blocks of query rows -> the whole grid, and newest first -> the order of time."""
    affinity, weights, aligned, trajectory = zip(*blocks, strict=True)
    return Insides(
        memory_indices=tuple(frame.index for frame in reversed(newest_first)),
        affinity=torch.cat(affinity, dim=-1).flip(1),
        temporal_weights=torch.cat(weights, dim=-1).flip(1),
        aligned_value=torch.cat(aligned, dim=-2).flip(2),
        trajectory=torch.cat(trajectory, dim=-2).flip(1),
    )
