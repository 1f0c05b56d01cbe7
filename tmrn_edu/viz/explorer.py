"""The affinity explorer: click a pixel of the query frame, see where it looks and how it travelled.

Everything the picture needs is packed once and drawn by `explorer.js` in the browser, so a view answers without a
kernel: in a notebook as a widget (`explore`), and in any page (`explorer_html`). What is packed, per reader:

    peaks       uint8  t q        largest affinity of each query cell in each memory frame: 255 sqrt(affinity)
    weights     uint16 t q        temporal weights: 10000 u
    paths       uint16 t q 2      expected positions (y, x), in 1/16 of a cell
    levels      uint8  t q k      affinities of the k best cells: 31 sqrt(affinity / peak), 31 for the best alone;
                                  cells of level 0 come last
    low, high   uint8  t q k      where they are, in rising order: 256 high + low cells after the one before

then, if the truth is known, its path (int16 t q 2, in 1/4 pixel) and visibility (uint8 t q). Little-endian, deflated:
runs of zeros cost nothing, and a root keeps small numbers apart with few levels.
"""

import base64
import hashlib
import html
import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources

import anywidget
import numpy as np
import torch
import traitlets
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from ..data.synthetic import Clip
from ..errors import InputError
from ..looking import Look
from .affinity import affinity_figure, by_name, check_pixel
from .overlays import PALETTE
from .trajectories import choose_pixel, comparison_figure, true_cells

LEVELS = 31  # of affinity, on a square-root scale; alpha on screen has no more
BUDGET = 390_000  # bytes of a view as saved in a notebook, script included; k shrinks until it fits
SIDE = 256  # pixels the longer side of a packed frame has at most


@dataclass(frozen=True)
class Scene:
    """What a view is drawn from."""

    about: dict  # plain data: readers, frame numbers, sizes, pictures, k
    packed: bytes  # the numbers above, deflated


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def pack(looks: Mapping[str, Look], top_k: int = 30, truth: Clip | None = None, budget: int = BUDGET) -> Scene:
    """Packs looks for the browser: the `top_k` best cells of every memory frame, or fewer where that is over `budget`.

    `budget`: bytes of the view as a notebook saves it. Raises InputError if even k = 1 does not fit, naming both sizes,
    if a frame has more cells than 16 bits count, or for a top_k below 1. Source: ours.
    """
    looks = by_name(looks)
    look = next(iter(looks.values()))
    height, width = look.insides.trajectory.shape[-2:]
    if top_k < 1:
        raise InputError(f"top_k is {top_k}, expected at least 1")
    if height > 256 or width > 256:
        raise InputError(f"the grid has {height} x {width} cells, an explorer holds at most 256 x 256")
    frames = [*look.memory, look.query]
    about = {
        "readers": list(looks), "query": look.query, "memory": list(look.memory),
        "size": list(look.frames.shape[1:3]), "grid": [height, width], "cell": look.cell, "offset": list(look.offset),
        "frames": [_jpeg(look.frames[t]) for t in frames],
        "outlines": [_outline(look.index_masks[t]) for t in look.memory],
        "predicted": [_outline(one.predicted) for one in looks.values()],
        "truth": truth is not None,
        "levels": LEVELS,
    }  # fmt: skip
    fixed = len(json.dumps(about)) + len(_asset("explorer.js")) + len(_asset("explorer.css"))
    ranked = [_ranked(one, min(top_k, height * width)) for one in looks.values()]
    true = b"" if truth is None else _true(look, truth)
    k = ranked[0][0].shape[-1]
    while True:
        numbers = b"".join(_numbers(one, *best, k) for one, best in zip(looks.values(), ranked, strict=True))
        packed = zlib.compress(numbers + true, 9)
        size = fixed + len(packed) * 4 // 3
        if size <= budget:
            share = [round(float(affinity[..., :k].sum(axis=-1).mean()), 3) for affinity, _, _ in ranked]
            return Scene(about | {"k": k, "share": share}, packed)
        if k == 1:
            raise InputError(
                f"{len(looks)} looks with {len(look.memory)} memory frames of {height} x {width} cells take {size} "
                f"bytes with one cell per frame, a view holds {budget}: look at fewer memory frames or smaller ones"
            )
        k = max(1, min(k - 1, int(k * (budget - fixed) / max(1, size - fixed))))


@dataclass(frozen=True)
class Unpacked:
    """What a browser knows of one reader, rounded as it is packed."""

    affinity: Float[Tensor, "t m q"]  # 0 where not among the k best of a frame
    temporal_weights: Float[Tensor, "t q"]
    trajectory: Float[Tensor, "t 2 q"]  # (y, x) in cells


def unpack(scene: Scene) -> dict[str, Unpacked]:
    """What `explorer.js` does, in Python: the numbers by reader. For tests, and to read the format by. Source: ours."""
    (h, w), t, k = scene.about["grid"], len(scene.about["memory"]), scene.about["k"]
    raw, start, result = zlib.decompress(scene.packed), 0, {}
    for name in scene.about["readers"]:
        parts = []
        for dtype, count in (("u1", 1), ("<u2", 1), ("<u2", 2), ("u1", k), ("u1", k), ("u1", k)):
            part = np.frombuffer(raw, dtype, t * h * w * count, start)
            parts.append(rearrange(part.astype(np.int64), "(t q n) -> t q n", t=t, n=count))
            start += part.nbytes
        peaks, weights, paths, levels, low, high = parts
        affinity = np.zeros((t, h * w, h * w + 1), np.float32)  # one cell more, for what has level 0
        position = np.where(levels > 0, np.cumsum(256 * high + low, axis=-1), h * w)
        np.put_along_axis(affinity, position, (levels / LEVELS) ** 2 * (peaks / 255) ** 2, axis=-1)
        result[name] = Unpacked(
            torch.from_numpy(rearrange(affinity[..., :-1], "t q m -> t m q")),
            torch.from_numpy(weights[..., 0] / 10_000).float(),
            torch.from_numpy(rearrange(paths / 16, "t q yx -> t yx q")).float(),
        )
    return result


def snapshot(looks: Mapping[str, Look], pixel: tuple[int, int], truth: Clip | None = None) -> bytes:
    """A PNG of one query pixel and all readers, for where no script runs."""
    if len(looks) == 1 and truth is None:
        figure = affinity_figure(*looks.values(), pixel)
    else:
        figure = comparison_figure(looks, pixel, truth)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


class Explorer(anywidget.AnyWidget):
    """A picture of looks that answers to clicks, drags and arrow keys; made by `explore`.

    `query`: the grid cell (y, x) that asks; set it, or click. `reader`: whose affinities are shown, likewise.
    `matches`: the best memory cell (y, x) of each memory frame for them. `pixel`: the middle of the query cell.
    Raises InputError for a cell outside the grid or an unknown reader. Without a kernel it still answers where the
    notebook is trusted; elsewhere a PNG of the same stands in its place.
    """

    _esm = _asset("explorer.js")
    _css = _asset("explorer.css")
    about = traitlets.Dict().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    query = traitlets.Tuple(traitlets.Int(), traitlets.Int()).tag(sync=True)
    reader = traitlets.Unicode().tag(sync=True)

    def __init__(self, looks: Mapping[str, Look], query: tuple[int, int], top_k: int = 30, truth: Clip | None = None):
        scene = pack(looks, top_k, truth)
        self._looks, self._truth = dict(looks), truth
        super().__init__(about=scene.about, packed=scene.packed, query=query, reader=next(iter(looks)))

    @traitlets.validate("query")
    def _check_query(self, proposal):
        height, width = next(iter(self._looks.values())).insides.trajectory.shape[-2:]
        y, x = proposal["value"]
        if not (0 <= y < height and 0 <= x < width):
            raise InputError(f"query cell {(y, x)} (y, x) lies outside the grid, which has {height} x {width} cells")
        return y, x

    @traitlets.validate("reader")
    def _check_reader(self, proposal):
        if proposal["value"] not in self._looks:
            raise InputError(f"no reader is called {proposal['value']!r}; there are {', '.join(self._looks)}")
        return proposal["value"]

    @property
    def matches(self) -> list[tuple[int, int]]:
        """The memory cell (y, x) with the largest affinity, for each memory frame."""
        insides = self._looks[self.reader].insides
        width = insides.trajectory.shape[-1]
        best = insides.affinity[0, :, :, self.query[0] * width + self.query[1]].argmax(dim=-1)
        return [divmod(int(m), width) for m in best]

    @property
    def pixel(self) -> tuple[int, int]:
        """The pixel (y, x) in the middle of the query cell; inside the frame also where the cell is in the padding."""
        look = self._looks[self.reader]
        height, width = look.frames.shape[1:3]
        y, x = look.cell_to_pixel(torch.tensor(self.query).float()).round().int().tolist()
        return min(max(y, 0), height - 1), min(max(x, 0), width - 1)

    def __repr__(self) -> str:
        frames = len(self.about["memory"])
        return f"Explorer({', '.join(self._looks)}: query cell {self.query}, {frames} memory frames)"

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"image/png": base64.b64encode(snapshot(self._looks, self.pixel, self._truth)).decode()}, metadata


def explore(
    looks: Look | Mapping[str, Look], pixel: tuple[int, int] | None = None, top_k: int = 30, truth: Clip | None = None
) -> Explorer:
    """A widget: click or drag on the query frame, or use the arrow keys, and see where each reader looks.

        view = explore({"STCN": look_1, "TMRN": look_2}, pixel=(40, 52), truth=clip)
        view.query, view.matches          # in the next cell; setting view.query moves the marker

    Heat maps show the `top_k` best cells of each memory frame (fewer, if the view would take over 390 kB), rings the
    expected position, squares the best cell, crosses the truth where a clip is given. `pixel` (y, x): where to start,
    else `choose_pixel`. Raises InputError for a pixel outside the frame, for looks that cannot stand side by side, and
    for a clip of other frames. Source: ours.
    """
    looks = by_name(looks)
    pixel = choose_pixel(looks, truth) if pixel is None else pixel
    return Explorer(looks, check_pixel(next(iter(looks.values())), pixel), top_k, truth)


def explorer_html(
    looks: Look | Mapping[str, Look], pixel: tuple[int, int] | None = None, top_k: int = 30, truth: Clip | None = None
) -> str:
    """The same picture as a piece of HTML: one `<div>` with style, script and data inside, nothing loaded.

    It may stand several times in a page, or be a page on its own. A browser without scripts shows the PNG. Arguments
    and errors as `explore`. Source: ours.
    """
    looks = by_name(looks)
    pixel = choose_pixel(looks, truth) if pixel is None else pixel
    query = check_pixel(next(iter(looks.values())), pixel)
    scene = pack(looks, top_k, truth)
    state = {"about": scene.about, "query": query, "reader": scene.about["readers"][0]}
    state = json.dumps(state).replace("<", "\\u003c")  # a name must not end the script
    data = base64.b64encode(scene.packed).decode()
    name = "explorer-" + hashlib.sha256(f"{state}{data}".encode()).hexdigest()[:12]
    picture = base64.b64encode(snapshot(looks, pixel, truth)).decode()
    words = html.escape(f"Where pixel {pixel} of frame {scene.about['query']} looks: {', '.join(looks)}")
    return f"""<div id="{name}">
<style>{_asset("explorer.css")}</style>
<noscript><img alt="{words}" src="data:image/png;base64,{picture}"></noscript>
<script type="module">
{_asset("explorer.js")}
const state = {state};
const packed = Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0));
const box = document.getElementById("{name}");
box.removeAttribute("id");  // the same view may follow once more
mount(box.appendChild(document.createElement("div")), state, packed);
</script>
</div>
"""


def _ranked(look: Look, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The k best cells of each memory frame, best first, `t q k`: affinities, positions, which one `matches` names."""
    affinity = rearrange(look.insides.affinity[0].float(), "t m q -> t q m")
    best = affinity.topk(k, dim=-1)
    winner = best.indices == affinity.argmax(dim=-1, keepdim=True)
    return best.values.cpu().numpy(), best.indices.cpu().numpy(), winner.cpu().numpy()


def _numbers(look: Look, affinity: np.ndarray, position: np.ndarray, winner: np.ndarray, k: int) -> bytes:
    peak = np.maximum(affinity[..., :1], 1e-12)
    levels = np.minimum(_root(affinity[..., :k] / peak, LEVELS), np.where(winner[..., :k], LEVELS, LEVELS - 1))
    position = np.where(levels > 0, position[..., :k], np.iinfo(np.int64).max)
    order = position.argsort(axis=-1, kind="stable")
    levels, position = (np.take_along_axis(a, order, axis=-1) for a in (levels, position))
    steps = np.where(levels > 0, np.diff(position, axis=-1, prepend=0), 0)
    weights = rearrange(look.insides.temporal_weights[0].float().cpu().numpy(), "t q -> t q 1")
    paths = rearrange(look.insides.trajectory[0].float().cpu().numpy(), "t yx h w -> t (h w) yx")
    arrays = (
        _root(peak, 255),
        np.rint(weights * 10_000).astype("<u2"),
        np.rint(paths.clip(min=0) * 16).astype("<u2"),
        levels.astype("u1"),
        (steps % 256).astype("u1"),
        (steps // 256).astype("u1"),
    )
    return b"".join(array.tobytes() for array in arrays)


def _root(share: np.ndarray, levels: int) -> np.ndarray:
    return np.rint(np.sqrt(share.clip(0, 1)) * levels).astype("u1")


def _true(look: Look, clip: Clip) -> bytes:
    positions, visible = true_cells(look, clip)
    places = rearrange(positions, "t yx h w -> t (h w) yx").numpy()
    places = np.where(rearrange(visible, "t h w -> t (h w) 1").numpy(), places, 0)
    return np.rint(places * 4).clip(-32768, 32767).astype("<i2").tobytes() + visible.numpy().astype("u1").tobytes()


def _uri(picture: Image.Image, kind: str, **options) -> str:
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX if kind == "jpeg" else Image.Resampling.NEAREST)
    file = io.BytesIO()
    picture.save(file, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def _jpeg(frame: Tensor) -> str:
    return _uri(Image.fromarray(frame.numpy()), "jpeg", quality=75, optimize=True)


def _outline(index_mask: Tensor) -> str:
    """The rim of every object in its colour, the rest transparent."""
    mask = index_mask.numpy().copy()
    mask[mask == 255] = 0
    inner = np.pad(mask, 1, mode="edge")
    rim = (mask > 0) & np.any([np.roll(inner, s, axis=a)[1:-1, 1:-1] != mask for a in (0, 1) for s in (1, -1)], axis=0)
    picture = Image.fromarray(np.where(rim, mask, 0).astype(np.uint8), mode="P")
    picture.putpalette(PALETTE.numpy().tobytes())
    return _uri(picture, "png", transparency=0, optimize=True)
