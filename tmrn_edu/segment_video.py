"""A video file in; a folder of masks, an overlay video and cut-outs out: `tmrn-edu segment`.

Frames are read, segmented and written one at a time, so with `max_frames` set a long video needs no more memory than a
short one. Everything is made in a hidden folder and gets its names at the end: what lies under a final name is whole. Ours.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from tmrn_edu.data.cutouts import cutout, write_cutout
from tmrn_edu.data.files import by, reason
from tmrn_edu.data.polygons import paint_polygons
from tmrn_edu.data.video import Mask, VideoReader, VideoWriter, open_video, read_mask, write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.inputs import check_index_mask
from tmrn_edu.masks import VOID
from tmrn_edu.segmenter import Segmenter, StepResult
from tmrn_edu.viz.overlays import overlay

MASKS, OVERLAY, CUTOUT = "masks", "overlay.mp4", "cutout"


@dataclass(frozen=True)
class SegmentedVideo:
    """What `segment_video` wrote."""

    out: Path  # the folder with masks/00000.png ..., overlay.mp4 and cutout/00000.png ..., as asked for
    frames: int
    size: tuple[int, int]  # (H, W) of the video and of every mask
    object_ids: tuple[int, ...]  # the ids of the given masks, in the order in which they entered
    seconds: float  # inside the network alone; reading and writing files is not counted


def segment_video(
    network: nn.Module,
    video: str | os.PathLike,
    masks: Mapping[int, object],
    out: str | os.PathLike,
    memory_every: int | None = None,
    max_frames: int | None = None,
    short_side: int | None = None,
    device: torch.device | str | None = None,
    precision: str = "fp32",
    with_overlay: bool = True,
    overwrite: bool = False,
    progress: bool = False,
    polygons: Mapping[int, Mapping[int, Sequence]] | None = None,
    cutouts: bool | Sequence[int] = False,
) -> SegmentedVideo:
    """Segments a video file or a folder of frames into `out/masks/00000.png ...`, `out/overlay.mp4` and `out/cutout/00000.png ...`.

    `masks`: frame number -> mask file, or index mask (integers `H W`); frame 0 needs none if the objects enter later, and the mask of a
    later frame adds objects or corrects them from there on. `polygons`: frame number -> {id: outlines}, painted over that frame's mask
    or over nothing (`data/polygons.py`). Every frame gets one palette PNG of the source's size, with the ids of the given masks and the
    palette of the first of them. `cutouts`: True for pictures of all objects with soft alpha, or the ids of those wanted
    (`data.cutouts.cutout`). `network` and the settings are those of `Segmenter`. `overwrite=False` refuses a folder that holds such
    results already; with True they are replaced when the new ones are complete. Raises InputError, before any work, for a video or mask
    that cannot be read, a mask of another size or of a frame that does not exist, a mask file among the frames, a cut-out of an
    object that has no mask; in the middle for frames that cannot be decoded or a full disk. Then, as on Ctrl-C, `out` is
    left as it was. Source: ours.
    """
    with open_video(video) as reader:
        given = read_given_masks(reader, masks, polygons)
        check_ids(cutouts, given)
        segmenter = Segmenter(network, memory_every, max_frames, short_side, device, precision=precision)
        seconds = 0.0

        def steps() -> Iterator[tuple[Tensor, StepResult]]:
            nonlocal seconds
            for t, frame in enumerate(tqdm(reader, desc="segment", unit="frame", disable=not progress)):
                start = time.perf_counter()
                result = segmenter.step(frame, given[t].index if t in given else None)
                seconds += time.perf_counter() - start
                yield frame, result

        with output_folder(out, (MASKS, OVERLAY, CUTOUT), overwrite) as folder:
            count = write_results(
                folder, steps(), reader.fps, given[min(given)].palette, with_overlay=with_overlay, cutouts=cutouts
            )
            if count <= max(given):  # only a broken file says more frames than it holds
                raise InputError(f"a mask was given for frame {max(given)}, {video} ended after {count} frames")
    return SegmentedVideo(Path(out), count, reader.size, segmenter.object_ids, seconds)


def write_results(
    folder: Path,
    steps: Iterator[tuple[Tensor, StepResult]],
    fps: float,
    palette: bytes | None,
    with_overlay: bool = True,
    cutouts: bool | Sequence[int] = False,
) -> int:
    """Writes masks, overlay and cut-outs as the frames and their results come; returns how many came. Source: ours."""
    count = 0
    with maybe_writer(with_overlay, folder, fps) as writer:
        for frame, result in steps:
            name = f"{count:05d}.png"
            write_mask(folder / MASKS / name, result.index_mask, palette)
            if writer is not None:
                writer.write(overlay(frame, result.index_mask))
            if cutouts is not False:
                wanted = result.object_ids if cutouts is True else cutouts
                rows = [1 + result.object_ids.index(name) for name in wanted if name in result.object_ids]
                write_cutout(folder / CUTOUT / name, cutout(frame, result.probabilities, rows))
            count += 1
    return count


def read_given_masks(
    reader: VideoReader, masks: Mapping[int, object], polygons: Mapping[int, Mapping[int, Sequence]] | None = None
) -> dict[int, Mask]:
    """The masks that go with a video, polygons painted in.

    `masks`: frame number -> file or index mask, `polygons`: frame number -> {id: outlines}. Raises InputError where one is of another
    size, of a frame that the video does not have, empty, or a file among the video's own frames.
    """
    polygons = polygons or {}
    if not masks and not polygons:
        raise InputError("no mask was given, expected at least one")
    given = {}
    for index in sorted({*masks, *polygons}):
        name = _name(masks[index]) if index in masks else "polygon"
        if not 0 <= index < len(reader):
            raise InputError(f"{name} is for frame {index}, {reader.path} has frames 0 to {len(reader) - 1}")
        base = None
        if index in masks:
            base = read_given_mask(reader, index, masks[index])
        if index in polygons:
            drawn = paint_polygons(polygons[index], reader.size, None if base is None else base.index)
            drawn = check_index_mask(drawn, tuple(reader.size), index)
            base = Mask(drawn, None if base is None else base.palette, _ids(drawn))
        given[index] = base
    return given


def read_given_mask(reader: VideoReader, index: int, mask: object) -> Mask:
    """One mask of a video's frame, from a file or as it is; InputError as `read_given_masks`."""
    size = tuple(reader.size)
    if not isinstance(mask, str | os.PathLike):
        mask = check_index_mask(mask, size, index)
        return Mask(mask, None, _ids(mask))
    files = getattr(reader, "files", ())  # of a folder of frames
    if Path(mask).exists() and any(Path(mask).samefile(file) for file in files):
        raise InputError(
            f"{_name(mask)} lies among the {len(files)} frames of {reader.path} and would be segmented as one of them, "
            "expected it in another folder"
        )
    read = read_mask(mask)
    if tuple(read.index.shape) != size:
        raise InputError(
            f"{_name(mask)} is {by(read.index.shape)}, the frames of {reader.path} are {by(size)} (height x width)"
        )
    return read


def check_ids(cutouts: bool | Sequence[int], given: Mapping[int, Mask]) -> None:
    """InputError for a cut-out of an object that no given mask has."""
    there = sorted({name for mask in given.values() for name in mask.ids})
    missing = [] if isinstance(cutouts, bool) else [name for name in cutouts if name not in there]
    if missing:
        raise InputError(f"a cut-out of object {missing[0]} was asked for, the masks hold {', '.join(map(str, there))}")


def _name(mask: object) -> str:
    return f"mask {mask}" if isinstance(mask, str | os.PathLike) else "the mask"


def _ids(index_mask: Tensor) -> tuple[int, ...]:
    return tuple(name for name in index_mask.unique().tolist() if 0 < name < VOID)


@contextmanager
def output_folder(out: str | os.PathLike, names: tuple[str, ...], overwrite: bool) -> Iterator[Path]:
    """A hidden folder inside `out`; what it holds moves up when the block succeeds, and goes away when it does not.

    `names`: what the block may make. Where `out` holds one of them already, InputError says so before the block runs, or, with
    `overwrite`, the old ones are replaced at the end. A folder `out` that did not exist is removed again when the block fails.
    InputError where the folder cannot be made or the names cannot be given; what the block raises passes on unchanged.
    """
    out = Path(out)
    there = [name for name in names if (out / name).exists()]
    if there and not overwrite:
        raise InputError(
            f"{out} already holds {' and '.join(there)}; choose another folder with --out, or give --overwrite"
        )
    new = not out.exists()
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".partial-", dir=out))
    try:
        yield folder
        with _writing(out):
            for name in names:  # an old one goes even where no new one was made: it would not fit the others
                if (out / name).exists():
                    os.replace(out / name, folder / f".old-{name}")
                if (folder / name).exists():
                    os.replace(folder / name, out / name)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        if new:
            with suppress(OSError):  # somebody else put something there
                out.rmdir()
        raise
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write to the folder {out}: {reason(error)}") from error


@contextmanager
def maybe_writer(wanted: bool, folder: Path, fps: float) -> Iterator[VideoWriter | None]:
    """The overlay's writer, or None where no overlay is wanted."""
    if not wanted:
        yield None
        return
    with VideoWriter(folder / OVERLAY, fps) as writer:
        yield writer
