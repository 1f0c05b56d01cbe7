"""The explorer: point at a pixel of the query frame, see where it looks and how it travelled; or at one of the memory, and see who looks there.

Everything the picture needs is packed once (`explorer_pack.py`) and drawn in the browser by `explorer*.js`, so a view answers without a
kernel: in a notebook as a widget (`explore`), and in any page (`explorer_html`).
"""

import base64
import hashlib
import html
import json

import anywidget
import torch
import traitlets
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from ..data.synthetic import Clip
from ..errors import InputError
from ..looking import Look
from .affinity import check_pixel
from .explorer_pack import BUDGET, LEVELS, Looks, Scene, Unpacked, asset, by_frame, pack, script, unpack
from .explorer_still import still
from .trajectories import choose_pixel

__all__ = [
    "BUDGET",
    "LEVELS",
    "Explorer",
    "Scene",
    "Unpacked",
    "explore",
    "explorer_html",
    "pack",
    "unpack",
]

COLOURS = ("W", "W u", "agents")  # affinity; affinity times temporal weight; which agent answers for a cell


class Explorer(anywidget.AnyWidget):
    """A picture of looks that answers to pointer, touch and keys; made by `explore`. All of the following can be read and set:

    `frame`: the query frame's number. `query`: its grid cell (y, x) that asks. `reader`: whose affinities are shown; `beside`: another
    reader's below them, or "" (a reader that stands beside and is chosen changes places). `colour`: "W", "W u" or "agents".
    `memory_cell`: () or (frame, y, x), a cell of a memory frame that is asked backwards: who looks here? `votes` is the answer.
    `matches`: the best memory cell (y, x) of each memory frame for `query`; None where nothing of the frame is among the best that
    the network itself reads with (its own top k). It follows the others; set it to cells (y, x), one per
    memory frame, and `query` becomes the cell whose own matches lie nearest to them (in the sum of squares), and `matches` those.
    `pixel`: the middle of the query cell. All of them may be observed but `votes` and `pixel`.

    Raises InputError for a cell outside the grid, a frame or reader that is not there, and agents that no reader has. Without a kernel it
    still answers where the notebook is trusted; elsewhere a PNG of the same stands in its place.
    """

    _esm = script()
    _css = asset("explorer.css")
    about = traitlets.Dict().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    query = traitlets.Tuple(traitlets.Int(), traitlets.Int()).tag(sync=True)
    frame = traitlets.Int().tag(sync=True)
    reader = traitlets.Unicode().tag(sync=True)
    beside = traitlets.Unicode().tag(sync=True)
    memory_cell = traitlets.Tuple().tag(sync=True)
    colour = traitlets.Unicode("W").tag(sync=True)
    matches = traitlets.List()

    def __init__(self, looks: Looks, query: tuple[int, int], top_k: int = 30, truth: Clip | None = None):
        self._views, self._truth = by_frame(looks), truth
        scene = pack(looks, top_k, truth)
        names = scene.about["readers"]
        beside = names[1] if len(names) > 1 else ""
        start = {"query": query, "frame": scene.about["query"], "reader": names[0], "beside": beside}
        super().__init__(about=scene.about, packed=scene.packed, **start)
        self._follow()

    @property
    def _looks(self) -> dict[str, Look]:
        """Of the present query frame, by reader."""
        return self._views[self.frame]

    @property
    def _grid(self) -> tuple[int, int]:
        return tuple(self.about["grid"])

    def _check_cell(self, what: str, y: int, x: int) -> None:
        height, width = self._grid
        if not (0 <= y < height and 0 <= x < width):
            raise InputError(f"{what} {(y, x)} (y, x) lies outside the grid, which has {height} x {width} cells")

    @traitlets.validate("query")
    def _check_query(self, proposal):
        self._check_cell("query cell", *proposal["value"])
        return proposal["value"]

    @traitlets.validate("frame")
    def _check_frame(self, proposal):
        if proposal["value"] not in self._views:
            asked = ", ".join(map(str, self._views))
            raise InputError(f"frame {proposal['value']} was not looked at; query frames are {asked}")
        return proposal["value"]

    @traitlets.validate("reader", "beside")
    def _check_reader(self, proposal):
        name, empty = proposal["value"], proposal["trait"].name == "beside"
        if name not in self.about["readers"] and not (empty and name == ""):
            raise InputError(f"no reader is called {name!r}; there are {', '.join(self.about['readers'])}")
        if empty and name == self.reader:
            raise InputError(f"beside is {name!r}, which is shown already; expected another reader or ''")
        return name

    @traitlets.validate("memory_cell")
    def _check_memory_cell(self, proposal):
        cell = tuple(proposal["value"])
        if not cell:
            return cell
        if len(cell) != 3 or not all(isinstance(number, int) for number in cell):
            raise InputError(f"memory_cell is {cell}, expected (frame, y, x) in whole numbers, or () for none")
        memory = next(iter(self._looks.values())).memory
        if cell[0] not in memory:
            raise InputError(f"frame {cell[0]} is not in the memory of frame {self.frame}, which holds {list(memory)}")
        self._check_cell("memory cell", *cell[1:])
        return cell

    @traitlets.validate("colour")
    def _check_colour(self, proposal):
        if proposal["value"] not in COLOURS:
            raise InputError(f"colour is {proposal['value']!r}, expected one of {', '.join(map(repr, COLOURS))}")
        if proposal["value"] == "agents" and not any(self.about["agents"]):
            raise InputError(f"colour is 'agents', but no reader has agents: {', '.join(self.about['readers'])}")
        return proposal["value"]

    @traitlets.validate("matches")
    def _check_matches(self, proposal):
        frames, (height, width) = len(next(iter(self._looks.values())).memory), self._grid
        asked = [None if cell is None else tuple(map(int, cell)) for cell in proposal["value"]]
        cells = [cell for cell in asked if cell is not None]
        if len(asked) != frames or not cells or any(len(cell) != 2 for cell in cells):
            expected = (
                f"{frames} cells (y, x), one per memory frame of query frame {self.frame}, or None where any will do"
            )
            raise InputError(f"matches set to {asked}, expected {expected}")
        distance = torch.zeros(height * width)
        for cell, affinity in zip(asked, self._looks[self.reader].insides.affinity[0].cpu(), strict=True):
            if cell is not None:
                peak, best = affinity.max(dim=0)
                apart = (best // width - cell[0]) ** 2 + (best % width - cell[1]) ** 2
                distance += torch.where(peak > 0, apart, height**2 + width**2)
        now = self.query[0] * width + self.query[1]
        if distance[now] > distance.min():
            self.query = divmod(int(distance.argmin()), width)
        return self._matches()

    @traitlets.observe("query", "frame", "reader")
    def _follow(self, change=None):
        if not self._views or not self.reader or self.frame not in self._views:  # still being made
            return
        if change is not None and change["name"] == "reader" and self.beside == self.reader:
            self.beside = change["old"]  # they change places
        if change is not None and change["name"] == "frame" and self.memory_cell:
            if self.memory_cell[0] not in next(iter(self._looks.values())).memory:
                self.memory_cell = ()
        self.matches = self._matches()

    def _matches(self) -> list[tuple[int, int] | None]:
        width = self._grid[1]
        affinity = self._looks[self.reader].insides.affinity[0, :, :, self.query[0] * width + self.query[1]]
        peak, best = affinity.max(dim=-1)
        return [divmod(m, width) if seen else None for m, seen in zip(best.tolist(), (peak > 0).tolist(), strict=True)]

    @property
    def votes(self) -> Float[Tensor, "h w"] | None:
        """How much each query cell looks at `memory_cell`: W[t,m,q], all of it, not only what is among the k best. None without one."""
        if not self.memory_cell:
            return None
        frame, y, x = self.memory_cell
        look = self._looks[self.reader]
        votes = look.insides.affinity[0, look.memory.index(frame), y * self._grid[1] + x]
        return rearrange(votes, "(h w) -> h w", w=self._grid[1]).cpu()

    @property
    def pixel(self) -> tuple[int, int]:
        """The pixel (y, x) in the middle of the query cell; inside the frame also where the cell is in the padding."""
        look = self._looks[self.reader]
        height, width = look.frames.shape[1:3]
        y, x = look.cell_to_pixel(torch.tensor(self.query).float()).round().int().tolist()
        return min(max(y, 0), height - 1), min(max(x, 0), width - 1)

    def __repr__(self) -> str:
        frames = len(self._looks[self.reader].memory)
        of = f" of frame {self.frame}" if len(self._views) > 1 else ""
        back = f", memory cell {self.memory_cell}" if self.memory_cell else ""
        return f"Explorer({', '.join(self._looks)}: query cell {self.query}{of}, {frames} memory frames{back})"

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"image/png": base64.b64encode(still(self._looks, self.pixel, self._truth)).decode()}, metadata


def _start(looks: Looks, pixel: tuple[int, int] | None, truth: Clip | None):
    """The looks of the query frame that is shown first, the pixel and its cell."""
    first = list(by_frame(looks).values())[-1]
    pixel = choose_pixel(first, truth) if pixel is None else pixel
    return first, pixel, check_pixel(next(iter(first.values())), pixel)


def explore(looks: Looks, pixel: tuple[int, int] | None = None, top_k: int = 30, truth: Clip | None = None) -> Explorer:
    """A widget: point at the query frame and see where each reader looks; point at a memory frame and see who looks there.

        view = explore({"STCN": look_1, "TMRN": look_2}, pixel=(40, 52), truth=clip)
        view = explore({"STCN": [look_5, look_6], "TMRN": [other_5, other_6]})         # frames to scrub through
        view.query, view.frame, view.matches          # in the next cell; setting view.query moves the marker

    Heat maps show the `top_k` best cells of each memory frame (fewer, if the view would take over 390 kB), rings the expected position,
    squares the best cell, crosses the truth where a clip is given. A reader whose look has agents can show which agent answers where. Of
    several query frames the last is shown first. `pixel` (y, x): where to start, else `choose_pixel`. Raises InputError for a
    pixel outside the frame, for looks that cannot stand side by side, and for a clip of other frames. Source: ours.
    """
    return Explorer(looks, _start(looks, pixel, truth)[2], top_k, truth)


def across_page(piece: str) -> str:
    """A piece of HTML as wide as the window, up to what an explorer takes, in a page whose text is narrower (`report.page`)."""
    return f'<div style="width: max(100%, min(1612px, 100vw - 3rem)); position: relative; left: 50%; transform: translateX(-50%)">\n{piece}</div>\n'


def explorer_html(
    looks: Looks, pixel: tuple[int, int] | None = None, top_k: int = 30, truth: Clip | None = None, budget: int = BUDGET
) -> str:
    """The same picture as a piece of HTML: one `<div>` with style, script and data inside, nothing loaded.

    It may stand several times in a page, or be a page on its own. A browser without scripts shows the PNG. `budget`: its bytes without
    the PNG, at most. Other arguments and errors as `explore`. Source: ours.
    """
    first, pixel, query = _start(looks, pixel, truth)
    scene = pack(looks, top_k, truth, budget)
    names = scene.about["readers"]
    state = {"about": scene.about, "query": query, "frame": scene.about["query"], "reader": names[0]}
    state |= {"beside": names[1] if len(names) > 1 else "", "memory_cell": [], "colour": "W"}
    state = json.dumps(state).replace("<", "\\u003c")  # a name must not end the script
    data = base64.b64encode(scene.packed).decode()
    name = "explorer-" + hashlib.sha256(f"{state}{data}".encode()).hexdigest()[:12]
    picture = base64.b64encode(still(first, pixel, truth)).decode()
    words = html.escape(f"Where pixel {pixel} of frame {scene.about['query']} looks: {', '.join(names)}")
    return f"""<div id="{name}">
<style>{asset("explorer.css")}</style>
<noscript><img alt="{words}" src="data:image/png;base64,{picture}"></noscript>
<script type="module">
{script()}
const state = {state};
const packed = Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0));
const box = document.getElementById("{name}");
box.removeAttribute("id");  // the same view may follow once more
mount(box.appendChild(document.createElement("div")), state, packed);
</script>
</div>
"""
