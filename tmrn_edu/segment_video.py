"""A video file in, a folder of masks and an overlay video out: `tmrn-edu segment`.

Frames are read, segmented and written one at a time, so with `max_frames` set a long video needs no more memory than a
short one. Everything is made in a hidden folder and gets its names at the end: what lies under a final name is whole. Ours.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from tmrn_edu.data.files import by, reason
from tmrn_edu.data.video import Mask, VideoReader, VideoWriter, open_video, read_mask, write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.segmenter import Segmenter
from tmrn_edu.viz.overlays import overlay

MASKS, OVERLAY = "masks", "overlay.mp4"


@dataclass(frozen=True)
class SegmentedVideo:
    """What `segment_video` wrote."""

    out: Path  # the folder with masks/00000.png ... and overlay.mp4
    frames: int
    size: tuple[int, int]  # (H, W) of the video and of every mask
    object_ids: tuple[int, ...]  # the ids of the given masks, in the order in which they entered
    seconds: float  # inside the network alone; reading and writing files is not counted


def segment_video(
    network: nn.Module,
    video: str | os.PathLike,
    masks: Mapping[int, str | os.PathLike],
    out: str | os.PathLike,
    memory_every: int | None = None,
    max_frames: int | None = None,
    short_side: int | None = None,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    with_overlay: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> SegmentedVideo:
    """Segments a video file or a folder of frames into `out/masks/00000.png ...` and `out/overlay.mp4`.

    `masks`: frame number -> mask file; frame 0 needs none if the objects enter later. Every frame gets one palette PNG of the
    source's size, with the ids of the given masks and the palette of the first of them. `network` and the settings are
    those of `Segmenter`. `overwrite=False` refuses a folder that holds masks or an overlay already; with True they are replaced
    when the new ones are complete. Raises InputError, before any work, for a video or mask that cannot be read, a mask of another size
    or of a frame that does not exist; in the middle for frames that cannot be decoded or a full disk. Then, as on
    Ctrl-C, `out` is left as it was. Source: ours.
    """
    with open_video(video) as reader:
        given = read_given_masks(reader, masks)
        palette = given[min(given)].palette
        segmenter = Segmenter(network, memory_every, max_frames, short_side, device, precision=precision)
        count, seconds = 0, 0.0
        with (
            output_folder(out, (MASKS, OVERLAY), overwrite) as folder,
            maybe_writer(with_overlay, folder, reader.fps) as writer,
        ):
            for frame in tqdm(reader, desc="segment", unit="frame", disable=not progress):
                start = time.perf_counter()
                mask = given.get(count)
                index_mask = segmenter.step(frame, None if mask is None else mask.index).index_mask
                seconds += time.perf_counter() - start
                write_mask(folder / MASKS / f"{count:05d}.png", index_mask, palette)
                if writer is not None:
                    writer.write(overlay(frame, index_mask))
                count += 1
            if count <= max(given):  # only a broken file says more frames than it holds
                raise InputError(f"a mask was given for frame {max(given)}, {video} ended after {count} frames")
    return SegmentedVideo(Path(out), count, reader.size, segmenter.object_ids, seconds)


def read_given_masks(reader: VideoReader, masks: Mapping[int, str | os.PathLike]) -> dict[int, Mask]:
    """The masks that go with a video. Raises InputError where one is of another size, or of a frame that the video does not have."""
    if not masks:
        raise InputError("no mask was given, expected at least one")
    given = {}
    for index, path in masks.items():
        if not 0 <= index < len(reader):
            raise InputError(f"mask {path} is for frame {index}, {reader.path} has frames 0 to {len(reader) - 1}")
        given[index] = read_mask(path)
        size = tuple(given[index].index.shape)
        if size != tuple(reader.size):
            raise InputError(
                f"mask {path} is {by(size)}, the frames of {reader.path} are {by(reader.size)} (height x width)"
            )
    return given


@contextmanager
def output_folder(out: str | os.PathLike, names: tuple[str, ...], overwrite: bool) -> Iterator[Path]:
    """A hidden folder inside `out`; what it holds moves up when the block succeeds, and goes away when it does not.

    `names`: what the block may make. Where `out` holds one of them already, InputError says so before the block runs, or, with
    `overwrite`, the old ones are replaced at the end. A folder `out` that did not exist is removed again when the block fails.
    """
    out = Path(out)
    there = [name for name in names if (out / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{out} already holds {' and '.join(there)}; choose another folder with --out, or give --overwrite"
        )
    new = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    except OSError as error:
        raise InputError(f"cannot write to the folder {out}: {reason(error)}") from error
    try:
        yield folder
        for name in names:  # an old one goes even where no new one was made: it would not fit the others
            if (out / name).exists():
                os.replace(out / name, folder / f".old-{name}")
            if (folder / name).exists():
                os.replace(folder / name, out / name)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if new:
            with suppress(OSError):  # somebody else put something there
                out.rmdir()
        if isinstance(error, OSError):
            raise InputError(f"cannot write to the folder {out}: {reason(error)}") from error
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def maybe_writer(wanted: bool, folder: Path, fps: float) -> Iterator[VideoWriter | None]:
    """The overlay's writer, or None where no overlay is wanted."""
    if not wanted:
        yield None
        return
    with VideoWriter(folder / OVERLAY, fps) as writer:
        yield writer
