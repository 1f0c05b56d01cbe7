"""What an explorer is drawn from, packed once for the browser, which then answers alone.

`explorer_data.js` reads what `pack` writes. For each query frame, in the order of time, and each reader:

    peaks       uint8  t q        largest affinity of each query cell in each memory frame: 255 sqrt(affinity)
    weights     uint8  t q        temporal weights: 255 sqrt(u)
    paths       uint16 t yx q     expected positions minus the query cell's own, in 1/8 of a cell, as steps
    levels      uint8  t q k      affinities of the k best cells: 15 sqrt(affinity / peak), 15 for the best alone;
                                  cells of level 0 come last
    low, high   uint8  t q k      where they are, in rising order: 256 high + low cells after the one before

then, if the truth is known, its path in the same way (uint16 t yx q, in 1/4 pixel) and visibility (uint8 t q); then, for
each reader with agents, which one answers for each query cell (uint8 t q) and for how much of it (uint8 t q, 255 is all).
At the end, for each reader with agents, the same of each memory frame's own cells (uint8 m each). Steps: each number
minus the one before it along q, n as 2 n, -n as 2 n - 1. Of 16-bit numbers all low bytes come first, then all high ones.
Deflated: runs of zeros cost nothing, steps are small, and a root keeps small numbers apart with few levels.
"""

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..data.synthetic import Clip
from ..errors import InputError
from ..looking import Look
from .affinity import SHARED, by_name
from .agents import agent_colours
from .overlays import PALETTE
from .trajectories import true_cells

LEVELS = 15  # of affinity, on a square-root scale: what an eye tells apart in a heat map
CELL, PIXEL = 8, 4  # parts of a cell and of a pixel in which positions are kept
BUDGET = 390_000  # bytes of a view as saved in a notebook, script included; k shrinks until it fits
SIDE = 256  # pixels the longer side of a packed frame has at most
DARK = 255  # label of the dark line around an outline

Looks = Look | Sequence[Look] | Mapping[str, Look | Sequence[Look]]


@dataclass(frozen=True)
class Scene:
    """What a view is drawn from."""

    about: dict  # plain data: readers, frame numbers, sizes, pictures, k
    packed: bytes  # the numbers above, deflated


@cache
def asset(name: str) -> str:
    """A file beside this one."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """The explorer's three files as one module, which needs no other."""
    return "".join(asset(f"explorer{part}.js") for part in ("_data", "_paint", ""))


def by_frame(looks: Looks) -> dict[int, dict[str, Look]]:
    """Looks by query frame, in the order of time, and then by reader; a single reader is called "reader".

    Raises InputError when there is none, when readers were asked for different query frames, and for whatever looks may not differ in
    (`affinity.by_name`); of one reader's looks only query frame and memory frames may. Source: ours.
    """
    if not isinstance(looks, Mapping):
        looks = {"reader": looks}
    several = {name: [one] if isinstance(one, Look) else list(one) for name, one in looks.items()}
    if not several or not all(several.values()):
        raise InputError("0 looks to draw, expected at least 1")
    asked = {name: sorted(one.query for one in ones) for name, ones in several.items()}
    first = next(iter(asked))
    for name, queries in asked.items():
        if len(set(queries)) < len(queries):
            raise InputError(f"query frames: {queries} in {name!r}, expected each of them once")
        if len(queries) > 1 and queries != asked[first]:
            raise InputError(f"query frames: {asked[first]} in {first!r}, {queries} in {name!r}; expected the same")
    of_first = several[first]
    for one in of_first[1:]:
        for what, of in SHARED.items():
            if what not in ("query frame", "memory frames") and of(one) != of(of_first[0]):
                seen = f"{of(of_first[0])} for query frame {of_first[0].query}, {of(one)} for query frame {one.query}"
                raise InputError(f"{what}: {seen}; expected the same")
    if len(asked[first]) == 1:
        return {asked[first][0]: by_name({name: ones[0] for name, ones in several.items()})}
    views = {query: {} for query in asked[first]}
    for name, ones in several.items():
        if asked[name] != asked[first]:
            raise InputError(f"query frames: {asked[first]} in {first!r}, {asked[name]} in {name!r}; expected the same")
        for one in ones:
            views[one.query][name] = one
    return {query: by_name(view) for query, view in views.items()}


def pack(
    looks: Looks, top_k: int = 30, truth: Clip | None = None, budget: int = BUDGET, start: int | None = None
) -> Scene:
    """Packs looks for the browser: the `top_k` best cells of every memory frame, or fewer where that is over `budget`.

    `budget`: bytes of the view as a notebook saves it. `start`: the query frame that is shown first, the last one if None. Raises
    InputError if even k = 1 does not fit, naming both sizes, if a frame has more cells than 16 bits count, for a top_k below 1, and as
    `by_frame`. Source: ours.
    """
    views = by_frame(looks)
    start = max(views) if start is None else start
    names = list(views[start])
    look = views[start][names[0]]
    height, width = look.insides.trajectory.shape[-2:]
    if top_k < 1:
        raise InputError(f"top_k is {top_k}, expected at least 1")
    if height > 256 or width > 256:
        raise InputError(f"the grid has {height} x {width} cells, an explorer holds at most 256 x 256")
    memory = {query: list(view[names[0]].memory) for query, view in views.items()}
    stored = sorted(set().union(*memory.values()))
    numbers = sorted({*stored, *views})
    with_agents = [all(view[name].agents is not None for view in views.values()) for name in names]
    agents = [
        look.agents.memory.shape[1] if has else 0 for look, has in zip(views[start].values(), with_agents, strict=True)
    ]
    about = {
        "readers": names, "query": start, "memory": memory[start],
        "views": [{"query": query, "memory": memory[query]} for query in views],
        "size": list(look.frames.shape[1:3]), "grid": [height, width], "cell": look.cell, "offset": list(look.offset),
        "numbers": numbers, "frames": [_jpeg(look.frames[t]) for t in numbers],
        "stored": stored, "outlines": [_outlines(look.index_masks[t]) for t in stored],
        "predicted": [[_outlines(view[name].predicted, thick=True) for view in views.values()] for name in names],
        "agents": agents,
        "agentColours": (255 * agent_colours(max(agents))).round().astype(int).tolist() if any(agents) else [],
        "truth": truth is not None,
        "empty": any(bool((one.insides.affinity[0].amax(dim=1) == 0).any()) for view in views.values() for one in view.values()),
        "levels": LEVELS,
    }  # fmt: skip
    fixed = len(json.dumps([about, script(), asset("explorer.css")]))
    ranked = {
        query: [_ranked(one, min(top_k, height * width)) for one in view.values()] for query, view in views.items()
    }
    others = {query: [_numbers(one) for one in view.values()] for query, view in views.items()}
    last = {query: _true(view[names[0]], truth) + _query_agents(view, agents) for query, view in views.items()}
    shared = _stored_agents(views, names, agents, stored)

    base = fixed + 0.7 * sum(
        len(few) for view in others.values() for few in view
    )  # about what there is without any cell
    k = _first_guess(ranked.values(), 0.75 * (budget - base))
    while True:
        parts = []
        for query in views:
            for few, best in zip(others[query], ranked[query], strict=True):
                parts += [few, _cells(*best, k)]
            parts.append(last[query])
        packed = zlib.compress(b"".join([*parts, shared]))
        size = fixed + len(packed) * 4 // 3
        if size <= budget:
            kept = [sum(best[i][0][..., :k].sum() for best in ranked.values()) for i in range(len(names))]
            every = [sum(float(view[name].insides.affinity[0].sum()) for view in views.values()) for name in names]
            share = [round(float(some) / of, 3) for some, of in zip(kept, every, strict=True)]
            return Scene(about | {"k": k, "share": share}, packed)
        if k == 1:
            asked = f" for {len(views)} query frames" if len(views) > 1 else ""
            raise InputError(
                f"{len(names)} looks with {len(look.memory)} memory frames of {height} x {width} cells{asked} take {size} "
                f"bytes with one cell per frame, a view holds {budget}: look at fewer memory frames or smaller ones"
            )
        k = max(1, min(k - 1, int(k * (budget - base) / max(1, size - base))))


@dataclass(frozen=True)
class Unpacked:
    """What a browser knows of one reader and query frame, rounded as it is packed."""

    affinity: Float[Tensor, "t m q"]  # 0 where not among the k best of a frame
    temporal_weights: Float[Tensor, "t q"]
    trajectory: Float[Tensor, "t 2 q"]  # (y, x) in cells


def unpack(scene: Scene, frame: int | None = None) -> dict[str, Unpacked]:
    """What `explorer_data.js` does, in Python: the numbers by reader, of query frame `frame` (None: the one shown first).

    For tests, and to read the format by. Source: ours.
    """
    about, raw, start, result = scene.about, zlib.decompress(scene.packed), 0, {}
    (h, w), k, frame = about["grid"], about["k"], about["query"] if frame is None else frame

    def take(count: int, per_cell: int, wide: bool = False) -> np.ndarray:
        nonlocal start
        planes = np.frombuffer(raw, "u1", (1 + wide) * count * per_cell, start).astype(np.int64)
        start += planes.size
        planes = rearrange(planes, "(plane n) -> plane n", plane=1 + wide)
        return rearrange(planes[0] + (256 * planes[1] if wide else 0), "(tq n) -> tq n", n=per_cell)

    for view in about["views"]:
        t = len(view["memory"])
        cells = t * h * w
        for name in about["readers"]:
            peaks, weights, steps = take(cells, 1), take(cells, 1), take(2 * cells, 1, wide=True)
            levels, low, high = (take(cells, k) for _ in range(3))
            if view["query"] != frame:
                continue
            affinity = np.zeros((cells, h * w + 1), np.float32)  # one cell more, for what has level 0
            position = np.where(levels > 0, np.cumsum(256 * high + low, axis=-1), h * w)
            np.put_along_axis(affinity, position, (levels / LEVELS) ** 2 * (peaks / 255) ** 2, axis=-1)
            result[name] = Unpacked(
                torch.from_numpy(rearrange(affinity[:, :-1], "(t q) m -> t m q", t=t)),
                torch.from_numpy(rearrange((weights / 255) ** 2, "(t q) 1 -> t q", t=t)).float(),
                torch.from_numpy(
                    _from_steps(rearrange(steps, "(t yx q) 1 -> t yx q", t=t, yx=2)) / CELL + _grid(h, w)
                ).float(),
            )
        start += cells * (5 * about["truth"] + 2 * sum(map(bool, about["agents"])))
    return result


def _ranked(look: Look, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k best cells of each memory frame, best first, `t q k`: affinities, positions, which one `matches` names."""
    affinity = rearrange(look.insides.affinity[0].float(), "t m q -> t q m")
    best = affinity.topk(k, dim=-1)
    winner = best.indices == affinity.argmax(dim=-1, keepdim=True)
    return best.values.cpu().numpy(), best.indices.cpu().numpy(), winner.cpu().numpy()


def _first_guess(ranked, room: float) -> int:
    """A k that may be too large, but not by much: a cell of level 1 or more takes about 0.7 bytes at least."""
    affinity = [best[0] for view in ranked for best in view]
    shown = sum((one > one[..., :1] * (0.5 / LEVELS) ** 2).sum(axis=(0, 1)) for one in affinity)
    return max(1, int((0.7 * np.cumsum(shown) <= room).sum()))


def _numbers(look: Look) -> bytes:
    """Peaks, weights and paths."""
    peak = look.insides.affinity[0].float().amax(dim=1).cpu().numpy()
    weights = look.insides.temporal_weights[0].float().cpu().numpy()
    paths = rearrange(look.insides.trajectory[0].float().cpu().numpy(), "t yx h w -> t yx (h w)")
    moved = np.rint((paths - _grid(*look.insides.trajectory.shape[-2:])) * CELL)
    return _root(peak, 255).tobytes() + _root(weights, 255).tobytes() + _words(_to_steps(moved))


def _grid(height: int, width: int) -> np.ndarray:
    """The (y, x) of every cell: `yx q`."""
    return rearrange(np.indices((height, width)), "yx h w -> yx (h w)")


def _to_steps(numbers: np.ndarray) -> np.ndarray:
    """Differences along the last axis, with their sign as the last bit."""
    steps = np.diff(numbers.astype(np.int64), axis=-1, prepend=0)
    return np.where(steps >= 0, 2 * steps, -2 * steps - 1)


def _from_steps(steps: np.ndarray) -> np.ndarray:
    return np.cumsum(np.where(steps % 2, -(steps + 1) // 2, steps // 2), axis=-1)


def _cells(affinity: np.ndarray, position: np.ndarray, winner: np.ndarray, k: int) -> bytes:
    """Levels and positions of the k best."""
    peak = np.maximum(affinity[..., :1], 1e-12)
    levels = np.minimum(_root(affinity[..., :k] / peak, LEVELS), np.where(winner[..., :k], LEVELS, LEVELS - 1))
    position = np.where(levels > 0, position[..., :k], np.iinfo(np.int64).max)
    order = position.argsort(axis=-1, kind="stable")
    levels, position = (np.take_along_axis(a, order, axis=-1) for a in (levels, position))
    steps = np.where(levels > 0, np.diff(position, axis=-1, prepend=0), 0)
    return levels.astype("u1").tobytes() + _words(steps)


def _words(numbers: np.ndarray) -> bytes:
    """16-bit numbers: all low bytes, then all high ones."""
    numbers = numbers.astype("<u2")
    return (numbers % 256).astype("u1").tobytes() + (numbers // 256).astype("u1").tobytes()


def _root(share: np.ndarray, levels: int) -> np.ndarray:
    return np.rint(np.sqrt(share.clip(0, 1)) * levels).astype("u1")


def _true(look: Look, clip: Clip | None) -> bytes:
    if clip is None:
        return b""
    positions, visible = true_cells(look, clip)
    moved = rearrange(positions, "t yx h w -> t yx (h w)").numpy() - look.cell * _grid(*positions.shape[-2:])
    moved = np.where(rearrange(visible, "t h w -> t 1 (h w)").numpy(), moved, 0)
    limit = 2**14 // 2 - 1  # of 1/4 pixels either way, so that every step fits 16 bits
    return _words(_to_steps(np.rint(moved * PIXEL).clip(-limit, limit))) + visible.numpy().astype("u1").tobytes()


def _query_agents(view: Mapping[str, Look], agents: Sequence[int]) -> bytes:
    return b"".join(_winners(look.agents.query) for look, count in zip(view.values(), agents, strict=True) if count)


def _stored_agents(views: Mapping, names: Sequence[str], agents: Sequence[int], stored: Sequence[int]) -> bytes:
    """Agents depend on the memory frame alone, so any query frame that reads it will do."""
    parts = []
    for name in (name for name, count in zip(names, agents, strict=True) if count):
        for t in stored:
            look = next(view[name] for view in views.values() if t in view[name].memory)
            parts.append(_winners(look.agents.memory[look.memory.index(t)]))
    return b"".join(parts)


def _winners(likelihood: Tensor) -> bytes:
    """Of `... a n`: which agent answers most, and its share."""
    share, winner = likelihood.float().max(dim=-2)
    return winner.numpy().astype("u1").tobytes() + np.rint(share.numpy().clip(0, 1) * 255).astype("u1").tobytes()


def _uri(picture: Image.Image, kind: str, **options) -> str:
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX if kind == "jpeg" else Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _jpeg(frame: Tensor) -> str:
    return _uri(Image.fromarray(frame.numpy()), "jpeg", quality=75, optimize=True)


def _outlines(index_mask: Tensor, thick: bool = False) -> str:
    """The rim of every object in its colour, the rest transparent; `thick`: finer where the frame is small, with a dark line around it."""
    small = Image.fromarray(index_mask.numpy())
    small.thumbnail((SIDE, SIDE), Image.Resampling.NEAREST)
    if thick and max(small.size) <= SIDE // 2:
        small = small.resize([2 * side for side in small.size], Image.Resampling.NEAREST)
    mask = np.where(np.asarray(small) == 255, 0, small).astype(np.uint8)
    rim = np.where((mask > 0) & _edge(mask, max(2, round(max(mask.shape) / 90)) if thick else 1), mask, 0)
    if thick:
        rim[(mask == 0) & _edge(mask, 1)] = DARK
    picture = Image.fromarray(rim.astype(np.uint8), mode="P")
    colours = PALETTE.numpy().copy()
    colours[DARK] = 0
    picture.putpalette(colours.tobytes())
    return _uri(picture, "png", transparency=0, optimize=True)


def _edge(mask: np.ndarray, reach: int) -> np.ndarray:
    """Pixels that have another label at most `reach` pixels up, down or beside them."""
    around = np.pad(mask, reach, mode="edge")
    shifts = [(s, axis) for s in range(-reach, reach + 1) for axis in (0, 1)]
    return np.any([np.roll(around, *shift)[reach:-reach, reach:-reach] != mask for shift in shifts], axis=0)
