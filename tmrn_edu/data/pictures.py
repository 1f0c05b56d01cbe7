"""Picture files by the thousand: which a folder has, whether they are whole, and reading one as training wants it.

A download that was cut off leaves files whose header is fine. The quick check therefore reads both ends of a file: the
header gives the size, and the last bytes must hold the end marker of a JPEG or PNG. A file without it is decoded
before it is called broken, since some cameras write padding behind the marker. Everything here is ours.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from tmrn_edu.data.files import DAMAGED, natural_key, reason, to_rgb
from tmrn_edu.errors import InputError

JPEG, PNG = (".jpg", ".jpeg"), (".png",)
END_MARKERS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}
TAIL = 1024  # bytes at the end that are searched for the marker: more than padding ever is, less than a picture
CHUNK = 64  # files that one thread checks in a row: handing over each alone costs as much as reading it
THREADS = 4  # a disk or network drive answers several readers at once; with many, Python itself is what they wait for


@dataclass(frozen=True)
class Probe:
    """What the quick check found in one file."""

    size: tuple[int, int] | None  # (H, W) as stored; None where the header cannot be read
    problem: str = ""  # why it cannot be used, empty where it is whole
    mode: str = ""  # Pillow's: "RGB", "P" for a palette, "L" for grey ...


def probe(path: str | os.PathLike) -> Probe:
    """Header and end of one picture: its size, and a reason where it is missing, foreign or cut off; raises nothing."""
    try:
        with open(path, "rb") as file:
            with Image.open(file) as picture:
                size, format_, mode = (picture.height, picture.width), picture.format, picture.mode
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - TAIL))
            whole = END_MARKERS.get(format_, b"") in file.read()
        if not whole:
            with Image.open(path) as picture:
                picture.load()
        return Probe(size, mode=mode)
    except FileNotFoundError:
        return Probe(None, "is not there")
    except DAMAGED as error:
        text = reason(error)
        return Probe(None, "is no picture" if "cannot identify" in text else text)


def probe_all(paths: Iterable[Path], progress: bool = False) -> dict[Path, Probe]:
    """`probe` of every path, each once, by several threads."""
    paths = list(dict.fromkeys(paths))
    return dict(zip(paths, in_threads(probe, paths, progress=progress), strict=True))


def in_threads(work: Callable, items: list, chunk: int = CHUNK, unit: str = "file", progress: bool = False) -> list:
    """`work` of every item, in order; `chunk` items a time go to a thread. Pillow and disks let threads run side by side."""
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    results = []
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(items), desc="check", unit=unit, disable=not progress) as bar,
    ):
        for done in pool.map(lambda chunk: [work(item) for item in chunk], chunks):
            results += done
            bar.update(len(done))
    return results


def pictures_in(folder: Path, suffixes: tuple[str, ...] = JPEG + PNG) -> list[Path]:
    """Pictures of a folder in natural order of their names, without hidden files; [] where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith(suffixes)]
    except OSError:
        return []
    return [folder / name for name in sorted(names, key=natural_key) if not name.startswith(".")]


def folder_name(folder: Path) -> str:
    """The name of a folder; that of the current one for "."; a link keeps the name that its owner gave it."""
    return os.path.basename(os.path.abspath(folder))


def read_frame(path: str | os.PathLike) -> UInt8[Tensor, "H W 3"]:
    """A picture as RGB with its pixels as stored: masks of training sets are drawn on those, whatever EXIF says.

    Raises InputError, naming the file, where it is missing or damaged. Source: the authors' loaders ignore EXIF too.
    """
    try:
        with Image.open(path) as picture:
            # A copy, with only transparency left of what the file says about itself: nothing turns it.
            bare = picture.copy()
            bare.info = {key: value for key, value in picture.info.items() if key == "transparency"}
            return torch.from_numpy(to_rgb(bare))
    except DAMAGED as error:
        raise InputError(f"cannot read picture {path}: {reason(error)}") from error
