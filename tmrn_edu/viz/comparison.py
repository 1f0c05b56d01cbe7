"""Masks of several methods side by side: the qualitative figure of a paper. Ours; `films.py` makes a video of the same.

Frames are columns, methods are rows, the true masks are the last row. Boxes are where the methods' errors are furthest apart
(`differences.py`), at the same place in every row: solid where the row is right there, dashed where it is wrong, so that
nobody needs colours to tell them apart. An object has its colour of `PALETTE` in every panel.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from tmrn_edu.data.files import atomic_path, by
from tmrn_edu.data.mask_folder import open_masks
from tmrn_edu.data.video import VideoReader, open_video
from tmrn_edu.errors import InputError
from tmrn_edu.masks import VOID
from tmrn_edu.metrics import region_similarity
from tmrn_edu.viz.differences import Box, choose_frames, error_maps, find_boxes, is_wrong, strongest_window
from tmrn_edu.viz.overlays import overlay

Frames = UInt8[Tensor | np.ndarray, "t H W 3"] | Iterable | str | os.PathLike
Masks = Integer[Tensor | np.ndarray, "t H W"] | Iterable | str | os.PathLike

TRUTH = "ground truth"
FIGURES = (".png", ".pdf", ".svg")
COLUMNS = 5  # as many as fit a page
PANEL = 1.4  # inches a panel is wide: five and their names fill the width of a page
LETTER = 0.06  # inches a letter of a row's name takes
RIGHT, WRONG = (
    ("white", "black", "-"),
    ("#e3001b", "white", (0, (2.4, 1.4))),
)  # a box: its ink, the ink below it, its dash
EXPLANATION = {
    True: "dashed: wrong there; solid: right, or the nearest to it",
    False: "dashed: unlike the first row there",
}  # with a truth, without one


@dataclass(frozen=True)
class Compared:
    """What is to be compared, files opened and counts compared; frames and masks are iterated over, or indexed."""

    frames: Iterable  # of UInt8 "H W 3"
    masks: dict[str, Iterable]  # name -> of integers "H W"
    truth: Iterable | None

    @property
    def rows(self) -> dict[str, Iterable]:
        """The methods' masks, and the true ones below them."""
        return self.masks | ({} if self.truth is None else {TRUTH: self.truth})


def gather(frames: Frames, masks: Mapping[str, Masks], truth: Masks | None = None) -> Compared:
    """Opens what is given as paths, and compares the numbers of frames and masks where they are known.

    Raises `InputError` for no method, a method called "ground truth" beside a truth, masks from a path for frames that are
    from none, counts that differ, and all that `open_video` and `MaskFolder` raise.
    """
    if not masks:
        raise InputError("0 methods were given, expected at least one: {name: masks}")
    if truth is not None and TRUTH in masks:
        raise InputError(
            f"a method is called {TRUTH!r}, which is the name of the truth's own row: expected another name"
        )
    frames = open_video(frames) if isinstance(frames, (str, os.PathLike)) else frames

    def opened(name, given):
        if isinstance(given, (str, os.PathLike)):
            if not isinstance(frames, VideoReader):
                raise InputError(
                    f"the masks of {name} are a path, {given}, the frames are a {type(frames).__name__}: "
                    f"expected the path of a video too, whose names say which mask is whose"
                )
            given = open_masks(given, frames)
        if hasattr(given, "__len__") and hasattr(frames, "__len__") and len(given) != len(frames):
            raise InputError(f"{name} has {len(given)} masks, the video has {len(frames)} frames: expected as many")
        return given

    methods = {name: opened(name, given) for name, given in masks.items()}
    return Compared(frames, methods, None if truth is None else opened(TRUTH, truth))


def qualitative_figure(
    frames: Frames,
    masks: Mapping[str, Masks],
    truth: Masks | None = None,
    columns: int | Sequence[int] | None = None,
    boxes: Mapping[int, Box | Sequence[Box]] | str | None = "auto",
    show_J: bool = False,
    dpi: float | int = 300,
) -> Figure:
    """Frames in columns, methods in rows, masks laid over the frames, boxes where their errors differ most.

        te.viz.qualitative_figure(frames, {"STCN": a, "STCN + TMRN": b}, truth, columns=(10, 30, 50)).savefig("figure.pdf")

    `frames`: uint8 `t H W 3`, any iterable of `H W 3`, or the path of a video or folder. `masks`: name -> index masks
    `t H W`, a sequence of `H W`, or (with frames from a path) the path of a folder of palette PNGs; read one at a time.
    `truth`: the same, the true masks. `columns`: frame numbers, or how many to choose; chosen are those where the methods
    differ most, one in each stretch of the clip (`choose_frames`). None: the frames of the boxes given by hand, else 5.
    `boxes`: "auto" finds up to two in every column but that of frame 0 (`find_boxes`: where errors against the truth
    differ; without a truth, differences from the first method). None draws none. A dict frame -> (y, x, height, width), or several
    of them, gives them by hand, in pixels. `show_J`: the mean J over the true objects in a corner (needs a truth).

    Returns a figure that belongs to no pyplot state; `savefig` writes pixels or vectors. Raises `InputError` as `gather`,
    for frames that do not exist, boxes outside the frame or of a frame that is no column, masks of another size, and
    another word for boxes than "auto".
    """
    compared = gather(frames, masks, truth)
    for name, given in compared.rows.items():
        if not (hasattr(given, "__len__") and hasattr(given, "__getitem__")):
            raise InputError(f"the masks of {name} are a {type(given).__name__}, expected a tensor, a list or a path")
    if not (boxes in ("auto", None) if isinstance(boxes, str | None) else isinstance(boxes, Mapping)):
        raise InputError(f'boxes are {boxes!r}, expected "auto", None or a dict {{frame: (y, x, height, width)}}')
    chosen = _columns(compared, columns, boxes)
    shown = _pick(compared.frames, chosen)
    size = tuple(shown[0].shape[:2])
    if isinstance(boxes, Mapping):
        boxes = _by_hand(boxes, chosen, size)

    high = PANEL * size[0] / size[1]
    names = {name: fill(name, max(8, int(high / LETTER))) for name in compared.rows}
    left = 0.02 + 0.13 * max(words.count("\n") + 1 for words in names.values())
    inches = (PANEL * len(chosen) + left, high * len(compared.rows) + 0.17)
    figure = Figure(figsize=inches, dpi=dpi, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    panels = figure.subplots(len(compared.rows), len(chosen), squeeze=False)
    drawn = 0
    for column, (index, frame) in enumerate(zip(chosen, shown, strict=True)):
        labels = {name: _mask_of(name, given, index, size) for name, given in compared.rows.items()}
        true = labels.get(TRUTH) if compared.truth is not None else None
        errors = error_maps([labels[name] for name in compared.masks], true)
        wanted = (find_boxes(errors) if index else []) if boxes == "auto" else (boxes or {}).get(index, [])
        wrong = [dict(zip(compared.masks, is_wrong(errors, box), strict=False)) for box in wanted]
        for row, (name, mask) in enumerate(labels.items()):
            axis = panels[row, column]
            _draw_panel(axis, overlay(frame, mask))
            for box, verdict in zip(wanted, wrong, strict=True):
                draw_box(axis, box, *(WRONG if verdict.get(name, False) else RIGHT))
            if show_J and true is not None and name != TRUTH:
                _draw_corner(axis, f"J {mean_J(mask, true):.2f}")
            if row == 0:
                axis.set_title(f"frame {index}", fontsize=7, pad=2)
            if column == 0:
                axis.set_ylabel(names[name], fontsize=7, labelpad=2)
        drawn += len(wanted)
    if drawn:
        where = "boxes: where their errors differ most" if boxes == "auto" else "boxes: given by hand"
        words = fill(f"{where}; {EXPLANATION[compared.truth is not None]}", int(inches[0] / 0.045))
        figure.set_size_inches(inches[0], inches[1] + 0.05 + 0.1 * (words.count("\n") + 1))
        figure.supxlabel(words, fontsize=6)
    return figure


def save_figure(path: str | os.PathLike, figure: Figure) -> None:
    """Writes a figure as .png, .pdf or .svg, whole or not at all. Raises `InputError` for another suffix, or where it cannot be written."""
    check_suffix(path)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)


def check_suffix(path: str | os.PathLike, known: Sequence[str] = FIGURES) -> None:
    """Raises `InputError` unless the name ends in one of the known suffixes, and for a folder of that name."""
    if Path(path).is_dir():
        raise InputError(f"cannot write {path}: it is a folder, expected the name of a file")
    if Path(path).suffix.lower() not in known:
        raise InputError(
            f"cannot write {path}: its name ends in '{Path(path).suffix}', expected one of {' '.join(known)}"
        )


def mean_J(mask: Integer[Tensor | np.ndarray, "H W"], truth: Integer[Tensor | np.ndarray, "truth_H truth_W"]) -> float:
    """J of one frame, the mean over its true objects; 1 for a frame without any that is left empty, else 0."""
    mask, truth = np.asarray(mask), np.asarray(truth)
    ids = [label for label in np.unique(truth).tolist() if label not in (0, VOID)]
    values = [region_similarity(mask == label, truth == label) for label in ids]
    return float(np.mean(values)) if values else float(not mask.any())


def draw_box(axis: Axes, box: Box, ink: str, below: str, dash) -> None:
    """A frame around pixels y to y + height, x to x + width, in two inks, so that it shows on any ground."""
    y, x, tall, wide = box
    for width, colour, style in ((1.8, below, "-"), (0.9, ink, dash)):
        line = {"edgecolor": colour, "linewidth": width, "linestyle": style, "facecolor": "none", "clip_on": False}
        axis.add_patch(Rectangle((x - 0.5, y - 0.5), wide, tall, **line))


def _draw_panel(axis, picture):
    small = picture.shape[0] < 160
    axis.imshow(picture.numpy(), interpolation="nearest" if small else "antialiased")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _draw_corner(axis, words):
    ground = {"facecolor": "black", "alpha": 0.65, "linewidth": 0, "boxstyle": "square,pad=0.2"}
    axis.text(
        0.98, 0.03, words, transform=axis.transAxes, ha="right", va="bottom", fontsize=5, color="white", bbox=ground
    )


def _columns(compared, columns, boxes):
    """The frames to show, checked against the clip's."""
    count = min(len(given) for given in compared.rows.values())
    if columns is None:
        columns = sorted(boxes) if isinstance(boxes, Mapping) and boxes else min(COLUMNS, count)
    if isinstance(columns, int):
        if columns >= count:
            return tuple(range(count))
        return choose_frames(strengths(compared), columns)
    columns = tuple(int(index) for index in columns)
    missing = [index for index in columns if not 0 <= index < count]
    if missing or not columns:
        raise InputError(f"columns are {list(columns)}, expected some of the frames 0 to {count - 1}")
    return columns


def strengths(compared: Compared) -> list[float]:
    """How much the methods differ on each frame: the strength of its strongest window, in pixels."""
    names = list(compared.masks)
    size = tuple(compared.masks[names[0]][0].shape)
    found = []
    for index in range(len(compared.masks[names[0]])):
        labels = [_mask_of(name, compared.masks[name], index, size) for name in names]
        true = None if compared.truth is None else _mask_of(TRUTH, compared.truth, index, size)
        found.append(strongest_window(error_maps(labels, true))[0])
    return found


def _pick(frames, chosen):
    """The chosen frames, in that order; a stream is read no further than needed."""
    if isinstance(frames, (Tensor, np.ndarray, Sequence)):
        return [torch.as_tensor(frames[index]) for index in chosen]
    found = {}
    for index, frame in enumerate(frames):
        if index in chosen:
            found[index] = torch.as_tensor(frame)
        if index == max(chosen):
            break
    if len(found) < len(set(chosen)):
        raise InputError(f"the video ended before frame {max(chosen)}, which is a column")
    return [found[index] for index in chosen]


def _mask_of(name, given, index, size):
    mask = torch.as_tensor(given[index])
    if tuple(mask.shape) != size:
        raise InputError(
            f"mask {index} of {name} is {by(mask.shape)}, expected {by(size)} as the frames (height x width)"
        )
    return mask


def _by_hand(boxes, chosen, size):
    """{frame: list of boxes}, each inside the picture."""
    found = {}
    for index, given in boxes.items():
        if index not in chosen:
            raise InputError(f"a box was given for frame {index}, the columns are frames {', '.join(map(str, chosen))}")
        given = [given] if len(given) == 4 and not isinstance(given[0], Sequence) else list(given)
        for y, x, tall, wide in given:
            if min(y, x) < 0 or min(tall, wide) < 1 or y + tall > size[0] or x + wide > size[1]:
                raise InputError(
                    f"the box {y},{x},{tall},{wide} of frame {index} (y, x, height, width) is not inside the frame, "
                    f"which is {by(size)}"
                )
        found[index] = given
    return found
