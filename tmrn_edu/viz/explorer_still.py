"""The explorer as a still: what stands in its place where no script runs, on GitHub or in a notebook that is not trusted.

Drawn with PIL, which is ten times as fast as a figure: a notebook waits for it before it shows the widget. Ours.
"""

import io
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from einops import repeat
from PIL import Image, ImageDraw, ImageFont

from ..data.synthetic import Clip
from ..looking import Look
from .affinity import COLOURS, VISIBLE, check_pixel, heat_maps, muted, outlined, weights_of
from .overlays import overlay
from .trajectories import path_of, true_path

WIDE, FINE = 1000, 2  # columns of the picture; it is drawn so many times larger, for smooth lines
GAP, LINE = 6, 15  # pixels between panels, and of a line of words
WORDS, TRUE, BAR = "#1a1a1a", "#f0e442", "#0072b2"


def still(looks: Mapping[str, Look], pixel: tuple[int, int], truth: Clip | None = None) -> bytes:
    """A PNG: one row per reader, the query frame with the trajectory of `pixel` (y, x), and where the pixel looks in each memory frame.

    Looks and `truth` as `comparison_figure`, which says what the signs mean. Source: ours.
    """
    first = next(iter(looks.values()))
    height, width = first.frames.shape[1:3]
    columns = 1 + len(first.memory)
    side = min((WIDE - GAP * (columns - 1)) // columns, 240)
    size = side, max(1, round(side * height / width))
    step = size[1] + 2 * LINE + 4
    canvas = Image.new("RGB", (FINE * (columns * (side + GAP) - GAP), FINE * (len(looks) * step + LINE)), "white")
    draw = ImageDraw.Draw(canvas)
    for row, (name, look) in enumerate(looks.items()):
        _row(canvas, draw, look, name if len(looks) > 1 else "", pixel, truth, FINE * row * step, size)
    words = "colour: affinity W, as a share of the largest in its frame; □ best cell; ○ expected position; u: weight of the frame"
    if truth is not None:
        words += "; ✕ truth"
    draw.text((0, FINE * (len(looks) * step + LINE - 3)), words, WORDS, _font(10), anchor="ls")
    picture = canvas.resize((canvas.width // FINE, canvas.height // FINE), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def _row(canvas, draw, look: Look, name: str, pixel, truth: Clip | None, top: int, size: tuple[int, int]) -> None:
    """One reader: its query frame, then the memory frames."""
    width, offset = look.frames.shape[2], look.offset
    scale = FINE * size[0] / width
    cell = check_pixel(look, pixel)
    weights, path = weights_of(look, pixel).tolist(), path_of(look, pixel).tolist()
    true = [None] * len(path)
    if truth is not None:
        true = [
            place if seen else None
            for place, seen in zip(*(part.tolist() for part in true_path(look, pixel, truth)), strict=True)
        ]
    heat = heat_maps(look, pixel).numpy()

    def panel(column: int, picture: np.ndarray, words: tuple[str, str]):
        """A panel of its own, to draw on: what goes beyond it is cut off."""
        image = Image.fromarray(picture).resize((FINE * size[0], FINE * size[1]), Image.Resampling.NEAREST)
        left = FINE * column * (size[0] + GAP)
        for text, x, anchor in ((words[0], left, "ls"), (words[1], left + image.width, "rs")):
            draw.text((x, top + FINE * (2 * LINE - 4)), text, WORDS, _font(10), anchor=anchor)
        return image, ImageDraw.Draw(image), left

    at = lambda place: tuple(
        (float(v) + 0.5) * scale for v in reversed(place)
    )  # (y, x) of the frame -> x, y of a panel
    box = lambda yx: [
        at([c * look.cell - o - 0.5 + far * look.cell for c, o in zip(yx, offset, strict=True)]) for far in (0, 1)
    ]
    draw.text((0, top + FINE * (LINE - 3)), name, WORDS, _font(11), anchor="ls")

    image, ink, left = panel(0, outlined(look.frames[look.query], look.predicted).numpy(), (f"frame {look.query}", ""))
    start = look.cell_to_pixel(torch.tensor(cell).float()).tolist()
    for a, b, weight in reversed(list(zip([*path[1:], start], path, weights, strict=True))):
        _line(ink, [at(a), at(b)], 0.6 + 5 * weight)
    for place, weight, seen in zip(path, weights, true, strict=True):
        _signs(ink, at, place, weight, seen)
    _box(ink, box(cell))
    canvas.paste(image, (left, top + FINE * 2 * LINE))

    for i, t in enumerate(look.memory):
        image, ink, left = panel(i + 1, _heated(look, t, heat[i]), (f"frame {t}", f"u {weights[i]:.2f}"))
        if heat[i].any():
            _box(ink, box(divmod(int(heat[i].argmax()), heat.shape[-1])))
        _signs(ink, at, path[i], weights[i], true[i])
        if truth is not None:
            words = "hidden" if true[i] is None else f"{np.hypot(*np.subtract(path[i], true[i])):.1f} px"
            ink.rectangle(
                [0, image.height - FINE * 14, _font(9).getlength(words) + FINE * 6, image.height], fill="#202020"
            )
            ink.text((FINE * 3, image.height - FINE * 4), words, "white", _font(9), anchor="ls")
        canvas.paste(image, (left, top + FINE * 2 * LINE))
        y = top + FINE * (2 * LINE + size[1] + 1)
        draw.rectangle([left, y, left + image.width, y + FINE * 2], fill="#dddddd")
        draw.rectangle([left, y, left + image.width * weights[i], y + FINE * 2], fill=BAR)


def _heated(look: Look, t: int, heat: np.ndarray) -> np.ndarray:
    """A muted memory frame with its masks' rims, and the heat map over it: more opaque where it is hotter."""
    ground = overlay(muted(look.frames[t]), look.index_masks[t], alpha=0.0).numpy()
    share = heat / max(float(heat.max()), 1e-12)
    colours = 255 * matplotlib.colormaps[COLOURS](share)[..., :3]
    alpha = (share**VISIBLE)[..., None]
    cells = repeat(
        np.concatenate([alpha * colours, alpha], axis=-1), "h w c -> (h y) (w x) c", y=look.cell, x=look.cell
    )
    (top, left), (height, width) = look.offset, ground.shape[:2]
    cells = cells[top : top + height, left : left + width]
    return (ground * (1 - cells[..., 3:]) + cells[..., :3]).round().astype(np.uint8)


def _line(ink, places, width: float, colour: str = "white") -> None:
    """With a dark rim, to show on any ground."""
    for ink_colour, extra in (("black", 2), (colour, 0)):
        ink.line(places, fill=ink_colour, width=round(FINE * (width + extra)), joint="curve")


def _box(ink, corners) -> None:
    (x0, y0), (x1, y1) = corners
    for colour, grow, width in (("black", 1, 3), ("white", 0, 1)):
        ink.rectangle(
            [x0 - FINE * grow, y0 - FINE * grow, x1 + FINE * grow, y1 + FINE * grow], outline=colour, width=FINE * width
        )


def _signs(ink, at, place, weight: float, true) -> None:
    """The true position (cross), if it is seen, and the expected one (ring)."""
    if true is not None:
        x, y = at(true)
        r = 4 * FINE
        for colour, width in (("black", 3.5), (TRUE, 1.8)):
            ink.line([x - r, y - r, x + r, y + r], fill=colour, width=round(FINE * width))
            ink.line([x - r, y + r, x + r, y - r], fill=colour, width=round(FINE * width))
    x, y = at(place)
    r = FINE * (2.5 + 5 * weight**0.5)
    for colour, grow, width in (("black", 1, 3), ("white", 0, 1.2)):
        ink.ellipse(
            [x - r - FINE * grow, y - r - FINE * grow, x + r + FINE * grow, y + r + FINE * grow],
            outline=colour,
            width=round(FINE * width),
        )


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's own typeface: no font of the system is needed."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), FINE * size)
