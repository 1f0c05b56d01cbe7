"""Masks from polygons: outlines given as points, for those who have no mask file.

A point is (x, y) in pixels as an image viewer shows them: x to the right, y down, (0, 0) the upper left pixel, whole numbers in
the middle of pixels. (All other positions in this library are (y, x).) A pixel belongs to an object where its middle is

    inside      a ray from it to the right crosses the object's outlines an odd number of times (the even-odd rule), or
    on the rim  it lies on one of them

so the pixels that were clicked belong to the object, and an outline inside another one of the same object cuts a hole.
`viz/drawing.js` fills by the same rule. Ours.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Integer, UInt8
from torch import Tensor

from tmrn_edu.data.files import by
from tmrn_edu.errors import InputError
from tmrn_edu.masks import MAX_OBJECTS

FORM = "ID:x,y x,y x,y with three points or more, or N=ID:x,y ... for frame N"


def parse_polygon(text: str) -> tuple[int, int, list[tuple[float, float]]]:
    """A polygon as the command line takes it: "ID:x,y x,y x,y" of frame 0, "N=ID:x,y ..." of frame N -> (frame, id, points).

    Raises InputError that repeats the text and says what was expected. Source: ours.
    """
    head, colon, tail = text.partition(":")
    frame, equals, name = head.rpartition("=")
    try:
        points = [tuple(map(float, point.split(","))) for point in tail.split()]
        if not colon or len(points) < 3 or any(len(point) != 2 for point in points):
            raise ValueError
        parsed = int(frame) if equals else 0, int(name), points
    except ValueError:
        raise InputError(f"{text!r} given as a polygon, expected {FORM}") from None
    if parsed[0] < 0:
        raise InputError(f"{text!r} given as a polygon of frame {parsed[0]}, expected frame 0 or a later one")
    check_polygons({parsed[1]: [points]})
    return parsed


def check_polygons(polygons, size: tuple[int, int] | None = None) -> dict[int, list]:
    """Polygons in the one form that the library uses: {id: [outline, ...]}, an outline a list of (x, y), ids ascending.

    A single outline may stand where a list of them is expected. `size` (H, W): the points must lie in such a frame, its far edges
    x = W and y = H included. Raises InputError naming the object and both sides: an id outside 0..254 (0 is background, which takes
    away), fewer than three points, points that are no two finite numbers or lie outside. Source: ours.
    """
    if not isinstance(polygons, Mapping):
        raise InputError(f"polygons are a {type(polygons).__name__}, expected a dict {{object id: [(x, y), ...]}}")
    checked = {}
    for name, outlines in polygons.items():
        if isinstance(name, bool) or not isinstance(name, int) or not 0 <= name <= MAX_OBJECTS:
            raise InputError(
                f"a polygon of object {name!r} was given, expected an id from 1 to {MAX_OBJECTS}, or 0 for background"
            )
        checked[name] = [_check_outline(name, outline, size) for outline in _as_list(outlines)]
    return {name: checked[name] for name in sorted(checked) if checked[name]}


def fill(outlines: Sequence, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """The pixels inside or on the outlines of one object, together by the even-odd rule (see above).

    `outlines`: lists of (x, y). `size` (H, W). Work grows with the boxes around the edges, not with the frame. Source: ours, after
    the textbooks' point-in-polygon test, here for all pixels of a row of edges at once.
    """
    height, width = size
    odd, rim = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for outline in outlines:
        for (x0, y0), (x1, y1) in zip(outline, [*outline[1:], outline[0]], strict=True):
            top, bottom = max(math.ceil(min(y0, y1)), 0), min(math.floor(max(y0, y1)), height - 1)
            left, right = max(math.ceil(min(x0, x1)), 0), min(math.floor(max(x0, x1)), width - 1)
            y, x = np.mgrid[top : bottom + 1, 0 : right + 1]  # a ray from further right does not meet this edge
            if y0 != y1:
                half_open = (y0 <= y) != (y1 <= y)  # a corner counts for one of its two edges
                odd[top : bottom + 1, : right + 1] ^= half_open & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
            on_line = (x1 - x0) * (y - y0) == (y1 - y0) * (x - x0)
            rim[top : bottom + 1, left : right + 1] |= on_line[:, left:]
    return torch.from_numpy(odd | rim)


def paint_polygons(
    polygons,
    size: tuple[int, int],
    base: Integer[Tensor, "H W"] | None = None,
) -> UInt8[Tensor, "H W"]:
    """An index mask of polygons, painted over `base` where one is given.

    `polygons`: {id: [outline, ...]} as `check_polygons` takes them; ids are painted in ascending order, so the higher is on top, and
    those of 0 first: they take away from `base`. `size` (H, W). `base`: integers in 0..255. Raises InputError as `check_polygons` does, and
    for a polygon that covers no pixel. Source: ours.
    """
    checked = check_polygons(polygons, size)
    mask = torch.zeros(size, dtype=torch.uint8) if base is None else base.to(torch.uint8).clone()
    for name, outlines in checked.items():
        filled = fill(outlines, size)
        if not filled.any():
            raise InputError(f"the polygon of object {name} covers the middle of no pixel, expected at least one")
        mask[filled] = name
    return mask


def _as_list(outlines):
    """[(x, y), ...] -> [[(x, y), ...]]; a list of outlines stays."""
    outlines = (
        list(outlines) if isinstance(outlines, Sequence | np.ndarray) and not isinstance(outlines, str) else [outlines]
    )
    first = outlines[0] if outlines else []
    single = isinstance(first, Sequence | np.ndarray) and len(first) and isinstance(first[0], int | float | np.number)
    return [outlines] if single else outlines


def _check_outline(name, outline, size):
    try:
        points = [(float(x), float(y)) for x, y in outline]
    except (TypeError, ValueError):
        raise InputError(f"a polygon of object {name} is {outline!r}, expected points (x, y)") from None
    if len(points) < 3:
        raise InputError(f"a polygon of object {name} has {len(points)} points, expected at least 3")
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise InputError(f"a polygon of object {name} has the point ({x}, {y}), expected finite numbers")
        if size is not None and not (0 <= x <= size[1] and 0 <= y <= size[0]):
            raise InputError(
                f"a polygon of object {name} has the point x = {x:g}, y = {y:g}, the frame is {by(size)} (height x width): "
                f"x goes from 0 to {size[1]}, y from 0 to {size[0]}"
            )
    return points
