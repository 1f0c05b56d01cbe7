"""Masks of several methods as one video: panels in a grid, each with its name, J of this frame and the mean J so far.

Frames and masks are read, laid out and written one at a time, so a long video takes no more memory than a short one. Text is
set in the typeface that matplotlib brings along, so no font of the system is needed. All of it ours.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
import torch
from jaxtyping import Integer, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from tqdm.auto import tqdm

from tmrn_edu.data.files import by
from tmrn_edu.data.video import DEFAULT_FPS, VideoWriter
from tmrn_edu.errors import InputError
from tmrn_edu.masks import VOID
from tmrn_edu.metrics import region_similarity
from tmrn_edu.viz.comparison import TRUTH, Frames, Masks, gather
from tmrn_edu.viz.overlays import overlay

WIDEST, TALLEST = 1920, 1080  # pixels: of all panels together, at most, words aside
LEAST_WIDE = 320  # pixels: of a panel, at least, so that words fit over it
GAP = 4  # pixels between panels
GROUND, INK, FAINT = (20, 20, 20), (255, 255, 255), (170, 170, 170)


@dataclass
class RunningJ:
    """J of one method while the frames go by: that of each frame, and the mean so far.

    An object counts from the frame after its first true mask on, as in `metrics.score`: its first mask was given. The clip's last
    frame has a J and does not enter the mean, unless an object has no other: so the last mean is the J of `metrics.score`.
    """

    sums: dict[int, float] = field(default_factory=dict)  # object id -> sum of its J so far
    counts: dict[int, int] = field(default_factory=dict)  # object id -> how many frames that sum is of

    def update(
        self,
        mask: Integer[Tensor | np.ndarray, "H W"],
        truth: Integer[Tensor | np.ndarray, "truth_H truth_W"],
        is_last: bool = False,
    ) -> tuple[float | None, float | None]:
        """J of this frame, averaged over the objects that count, and the mean so far (over frames, then over objects).

        None where no object counts yet. Raises `InputError` where the sizes differ.
        """
        mask, truth = np.asarray(mask), np.asarray(truth)
        values = {label: region_similarity(mask == label, truth == label) for label in self.counts}
        for label, value in values.items():
            if not (is_last and self.counts[label]):
                self.sums[label] += value
                self.counts[label] += 1
        for label in np.unique(truth).tolist():
            if label not in (0, VOID) and label not in self.counts:
                self.sums[label], self.counts[label] = 0.0, 0
        return float(np.mean(list(values.values()))) if values else None, self.mean

    @property
    def mean(self) -> float | None:
        """The mean so far, None before the first frame that counts."""
        means = [self.sums[label] / count for label, count in self.counts.items() if count]
        return float(np.mean(means)) if means else None


@dataclass(frozen=True)
class Layout:
    """Where everything stands in a frame of the video, in its pixels."""

    panel: tuple[int, int]  # (height, width) of a picture
    bar: int  # height of the line of words over each picture
    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the video."""
        height = self.rows * (self.panel[0] + self.bar) + (self.rows - 1) * GAP + self.bar
        return height, self.columns * self.panel[1] + (self.columns - 1) * GAP

    def corner(self, index: int) -> tuple[int, int]:
        """(y, x) of the upper left corner of a panel's bar; panels fill row after row."""
        row, column = divmod(index, self.columns)
        return row * (self.panel[0] + self.bar + GAP), column * (self.panel[1] + GAP)


def plan_layout(size: tuple[int, int], panels: int) -> Layout:
    """The grid for so many pictures of (height, width): the one that shows them largest, all together in 1920 x 1080 pixels.

    Of two grids that show them as large, the wider one. Pictures are never enlarged for that; those narrower than 320
    pixels grow by a whole factor, so that small clips can be watched and words fit over them.
    """
    grown = [side * max(1, -(-LEAST_WIDE // size[1])) for side in size]

    def scale(columns):
        rows = -(-panels // columns)
        wide, tall = WIDEST - (columns - 1) * GAP, TALLEST - (rows - 1) * GAP
        return min(wide / (columns * grown[1]), tall / (rows * grown[0]))

    columns = max(range(1, panels + 1), key=lambda columns: (round(scale(columns), 2), columns))
    height, width = (max(2, int(side * min(1.0, scale(columns)))) for side in grown)
    return Layout((height, width), bar=max(18, round(width / 16)), columns=columns, rows=-(-panels // columns))


def write_comparison_video(
    path: str | os.PathLike,
    frames: Frames,
    masks: Mapping[str, Masks],
    truth: Masks | None = None,
    fps: float | int | None = None,
    progress: bool = False,
) -> dict[str, float]:
    """Writes a video of all methods side by side, with names, J of the frame and the mean J so far; whole or not at all.

        te.viz.write_comparison_video("compared.mp4", "frames/", {"STCN": "out/stcn", "STCN + TMRN": "out/tmrn"}, "truth/")

    `frames`, `masks`, `truth`: as in `qualitative_figure`, or any iterables of as many; each is gone through once, and one frame is in memory
    at a time. The true masks get a panel of their own, the last; without them there is no J. `fps`: frames per second, those of the
    video when None (24 for tensors and folders). Returns each method's mean J, which is that of `metrics.score`; empty without a truth.
    Raises `InputError` as `gather` and `VideoWriter`, for masks of another size, and where frames and masks are not as many.
    """
    compared = gather(frames, masks, truth)
    fps = getattr(compared.frames, "fps", DEFAULT_FPS) if fps is None else fps
    running = {} if truth is None else {name: RunningJ() for name in masks}
    total = len(compared.frames) if hasattr(compared.frames, "__len__") else None
    layout = canvas = None
    with VideoWriter(path, fps) as writer:
        steps = tqdm(_in_step(compared.frames, compared.rows), "compare", total, unit="frame", disable=not progress)
        for index, (frame, labels, is_last) in enumerate(steps):
            if layout is None:
                layout = plan_layout(tuple(frame.shape[:2]), len(labels))
                canvas = Image.new("RGB", layout.size[::-1], GROUND)
            _check_sizes(frame, labels, index)
            for place, (name, mask) in enumerate(labels.items()):
                words = ""
                if name in running:
                    now, mean = running[name].update(mask, labels[TRUTH], is_last)
                    words = "given" if now is None else f"J {now:.2f}   mean {mean:.3f}"
                _draw_panel(canvas, layout, place, frame, mask, name, words)
            _draw_foot(canvas, layout, index, total, bool(running))
            writer.write(torch.from_numpy(np.array(canvas)))
    return {name: one.mean for name, one in running.items() if one.mean is not None}


def _in_step(frames: Iterable, masks: Mapping[str, Iterable]) -> Iterator[tuple[Tensor, dict[str, Tensor], bool]]:
    """A frame, its masks by name, and whether it is the last; InputError where one of them ends before the others."""
    streams = {"the video": iter(frames), **{f"masks of {name}": iter(given) for name, given in masks.items()}}
    ended, waiting, count = object(), None, 0
    while True:
        items = {name: next(stream, ended) for name, stream in streams.items()}
        over = [name for name, item in items.items() if item is ended]
        if over and len(over) < len(items):
            longer = next(name for name in items if name not in over)
            raise InputError(f"{over[0]} end after {count} frames, {longer} go on: expected as many of each")
        if waiting is not None:
            yield *waiting, bool(over)
        if over:
            return
        frame, *labels = (torch.as_tensor(item) for item in items.values())
        waiting = frame, dict(zip(masks, labels, strict=True))
        count += 1


def _check_sizes(frame, labels, index):
    for name, mask in labels.items():
        if mask.shape != frame.shape[:2]:
            raise InputError(
                f"mask {index} of {name} is {by(mask.shape)}, its frame is {by(frame.shape)} (height x width)"
            )


def _draw_panel(canvas, layout, place, frame: UInt8[Tensor, "H W 3"], mask, name, words):
    """A picture, and over it the method's name at the left and its J at the right."""
    y, x = layout.corner(place)
    height, width = layout.panel
    enlarged = frame.shape[0] < height  # tiny clips stay sharp-edged
    how = Image.Resampling.NEAREST if enlarged else Image.Resampling.BILINEAR
    small = np.array(Image.fromarray(frame.cpu().numpy()).resize((width, height), how))
    labels = Image.fromarray(mask.cpu().numpy().astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
    canvas.paste(Image.fromarray(overlay(small, np.array(labels)).numpy()), (x, y + layout.bar))

    draw, font = ImageDraw.Draw(canvas), _font(layout.bar)
    draw.rectangle((x, y, x + width - 1, y + layout.bar - 1), fill=GROUND)
    middle, pad = y + layout.bar / 2, layout.bar // 4
    taken = font.getlength("J 0.00   mean 0.000") if words else 0  # a fixed place: names do not move with the numbers
    draw.text((x + pad, middle), shortened(name, font, width - taken - 3 * pad), INK, font, anchor="lm")
    if words:
        draw.text((x + width - pad - taken, middle), words, INK, font, anchor="lm")


def _draw_foot(canvas, layout, index, total, with_J):
    height, width = layout.size
    draw, font = ImageDraw.Draw(canvas), _font(layout.bar)
    draw.rectangle((0, height - layout.bar, width, height), fill=GROUND)
    middle, pad = height - layout.bar / 2, layout.bar // 4
    words = f"frame {index}" + ("" if total is None else f" (0 to {total - 1})")
    draw.text((pad, middle), words, FAINT, font, anchor="lm")
    about = "J: this frame, mean over objects; mean: all frames so far" if with_J else ""
    if font.getlength(words) + font.getlength(about) + 4 * pad < width:
        draw.text((width - pad, middle), about, FAINT, font, anchor="rm")


def shortened(words: str, font: ImageFont.FreeTypeFont, width: float | int) -> str:
    """The words, cut off with "..." where they would be wider than so many pixels."""
    if font.getlength(words) <= width:
        return words
    while words and font.getlength(words + "...") > width:
        words = words[:-1]
    return words.rstrip() + "..."


@lru_cache
def _font(bar: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), round(0.62 * bar)
    )
