"""Masks by a few clicks: a frame to draw outlines on, as a notebook widget (`Drawing`) or as a page (`drawing_html`).

The browser's side is `drawing.js`; it fills outlines by the rule of `data/polygons.py`, so what is seen is what `mask` holds. Ours.
"""

import base64
import hashlib
import html
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources

import anywidget
import numpy as np
import torch
import traitlets
from einops import rearrange
from jaxtyping import Integer, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from ..data.files import by
from ..data.polygons import check_polygons, paint_polygons
from ..errors import InputError
from ..inputs import check_frame
from ..masks import MAX_OBJECTS, VOID
from .overlays import OKABE_ITO, PALETTE, overlay

SIDE = 1280  # pixels the longer side of the frame has at most in the browser; points are those of the frame itself
WIDE = 560  # columns of the picture that stands in the widget's place where no script runs


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _to_json(polygons, widget):
    return [[name, [list(point) for point in outline]] for name, outlines in polygons.items() for outline in outlines]


def _from_json(pairs, widget):
    polygons = {}
    for name, outline in pairs:
        polygons.setdefault(name, []).append(outline)
    return polygons


class Drawing(anywidget.AnyWidget):
    """A frame to outline objects on; what they fill is `mask`.

        view = Drawing(frame)                             # name it at the end of a cell, then click
        view.mask                                         # in the next cell: UInt8 H W, 0 where nothing was drawn
        view.polygons = {1: [[(x, y), (x, y), (x, y)]]}   # or set the outlines from here

    A click sets a point, one on the first point closes the outline; points can be dragged. Buttons (keys 1 to 9, n) choose the object, and
    "take away" (0) what is cut out of the mask below. Arrow keys move a cross (with shift by ten pixels), space sets a point, Enter closes, Backspace
    takes back, + and - magnify. `frame`: uint8 `H W 3` or float `3 H W`. `polygons`: {id: outlines}, points (x, y) as in
    `data/polygons.py`. `mask`: integers `H W` to begin with; outlines are painted over it. `index`: the frame's number, for the
    reader. `object`: the chosen id. Raises InputError for a frame that is no picture, a mask of another size, polygons that
    lie outside. Without a kernel one can draw where the notebook is trusted, and take the words for `tmrn-edu segment`; elsewhere a PNG
    stands in its place. Source: ours.
    """

    _esm = _asset("drawing.js")
    _css = _asset("drawing.css")
    about = traitlets.Dict().tag(sync=True)
    base = traitlets.Bytes().tag(sync=True)  # the mask to begin with, deflated; empty: none
    polygons = traitlets.Dict().tag(sync=True, to_json=_to_json, from_json=_from_json)
    object = traitlets.Int(1).tag(sync=True)

    def __init__(self, frame, polygons: Mapping | None = None, mask=None, object: int = 1, index: int = 0):
        picture = rearrange(check_frame(frame, index), "c H W -> H W c")
        self._frame: Tensor = (255 * picture).round().to(torch.uint8).cpu()
        self._below = None if mask is None else check_base(mask, self.size, index)
        about = {
            "frame": index,
            "size": list(self.size),
            "picture": _jpeg(self._frame),
            "colours": PALETTE[1 : 1 + 3 * len(OKABE_ITO)].tolist(),
        }
        packed = b"" if self._below is None else zlib.compress(self._below.numpy().tobytes(), 9)
        super().__init__(about=about, base=packed, polygons=polygons or {}, object=object)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frame and the mask."""
        return tuple(self._frame.shape[:2])

    @property
    def mask(self) -> UInt8[Tensor, "H W"]:
        """What has been drawn by now, over the mask it began with."""
        return paint_polygons(self.polygons, self.size, self._below)

    @traitlets.validate("polygons")
    def _check_polygons(self, proposal):
        return check_polygons(proposal["value"], self.size)

    @traitlets.validate("object")
    def _check_object(self, proposal):
        if not 0 <= proposal["value"] <= MAX_OBJECTS:
            raise InputError(f"object {proposal['value']} was chosen, expected 1 to {MAX_OBJECTS}, or 0 to take away")
        return proposal["value"]

    def __repr__(self) -> str:
        mask = self.mask
        drawn = [
            f"object {name} {int((mask == name).sum())} pixels" for name in mask.unique().tolist() if 0 < name != VOID
        ]
        return f"Drawing(frame {self.about['frame']}, {by(self.size)}: {', '.join(drawn) or 'nothing yet'})"

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        picture = snapshot(self._frame, self.polygons, self.mask)
        return data | {"image/png": base64.b64encode(picture).decode()}, metadata


def check_base(mask, size: tuple[int, int], index: int) -> UInt8[Tensor, "H W"]:
    """A mask to draw over, as uint8: integers 0..255 of the frame's size, with or without objects. Raises InputError for others."""
    mask = torch.as_tensor(mask).cpu()
    if tuple(mask.shape) != tuple(size):
        raise InputError(f"mask of frame {index} has shape {tuple(mask.shape)}, its frame has {tuple(size)}")
    if (
        mask.is_floating_point()
        or mask.is_complex()
        or (mask.numel() and not 0 <= int(mask.min()) <= int(mask.max()) <= 255)
    ):
        raise InputError(
            f"mask of frame {index} is {mask.dtype} with values up to {mask.max()}, expected integer labels 0 to 255"
        )
    return mask.to(torch.uint8)


def snapshot(
    frame: UInt8[Tensor, "H W 3"], polygons: Mapping[int, Sequence], mask: Integer[Tensor, "H W"], wide: int = WIDE
) -> bytes:
    """A PNG of a drawing, `wide` columns at most: the mask laid over the frame, outlines with their points. Source: ours."""
    picture = Image.fromarray(overlay(frame, mask, alpha=0.45).numpy())
    scale = min(1.0, wide / picture.width)
    picture = picture.resize(
        (round(picture.width * scale), max(1, round(picture.height * scale))), Image.Resampling.LANCZOS
    )
    pen = ImageDraw.Draw(picture)
    for name, outlines in polygons.items():
        colour = tuple(PALETTE[name].tolist()) if name else (255, 255, 255)
        for outline in outlines:
            points = [((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5) for x, y in outline]
            for ink, width in (((0, 0, 0), 4), (colour, 2)):
                pen.line([*points, points[0]], fill=ink, width=width, joint="curve")
            for x, y in points:
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(255, 255, 255), outline=(0, 0, 0))
    file = io.BytesIO()
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def drawing_html(frame, polygons: Mapping | None = None, mask=None, object: int = 1, index: int = 0) -> str:
    """The same as a piece of HTML, to draw in without a notebook: one `<div>` with all it needs inside, nothing loaded.

    Under the frame stand the words that give the outlines to `tmrn-edu segment`. A browser without scripts shows the PNG. Arguments and
    errors as `Drawing`. Source: ours.
    """
    view = Drawing(frame, polygons, mask, object, index)
    state = json.dumps({"about": view.about, "polygons": _to_json(view.polygons, view), "object": view.object})
    data = base64.b64encode(view.base).decode()
    name = "drawing-" + hashlib.sha256(f"{state}{data}".encode()).hexdigest()[:12]
    picture = base64.b64encode(snapshot(view._frame, view.polygons, view.mask)).decode()
    return f"""<div id="{name}">
<style>{_asset("drawing.css")}</style>
<noscript><img alt="{html.escape(repr(view))}" src="data:image/png;base64,{picture}"></noscript>
<script type="module">
{_asset("drawing.js")}
const box = document.getElementById("{name}");
box.removeAttribute("id");  // the same drawing may follow once more
mount(box.appendChild(document.createElement("div")), {state}, Uint8Array.from(atob("{data}"), (c) => c.charCodeAt(0)));
</script>
</div>
"""


def _jpeg(frame: UInt8[Tensor | np.ndarray, "H W 3"]) -> str:
    picture = Image.fromarray(np.asarray(frame))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="jpeg", quality=80, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
