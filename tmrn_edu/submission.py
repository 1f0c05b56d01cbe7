"""What the servers of DAVIS and YouTube-VOS take, checked before anything is sent: one palette PNG for every frame that is asked for.

    DAVIS          bear/00000.png ...                     the folders of the sequences directly in the zip, every frame
    YouTube-VOS    Annotations/0a49f5265b/00005.png ...   the frames that meta.json asks for

Pixel values are object ids, 0 is background; the size is that of the frames. On YouTube-VOS an object may be seen from the frame on in
which its mask was given. Nothing else lies in the zip.
Source: the DAVIS server's program refuses zips whose sequences lie in another folder (davis2017-evaluation:evaluation_codalab.py,
codalab-competitions issue 2709); what STCN:eval_youtube.py and XMem:eval.py write for both. That ids, sizes and modes are checked too is ours.
"""

import io
import os
import zipfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from tmrn_edu.data.davis import Sequence
from tmrn_edu.data.files import DAMAGED, atomic_path, by, reason
from tmrn_edu.data.pictures import in_threads
from tmrn_edu.data.youtube_vos_valid import ValidVideo
from tmrn_edu.errors import InputError

NOTE = "run.json"  # what `predictions` writes beside masks: no part of a submission
MADE_AT = (1980, 1, 1, 0, 0, 0)  # every file in a zip bears this time, so that equal masks make equal zips


@dataclass(frozen=True)
class RequiredMask:
    """One file of a submission."""

    size: tuple[int, int]  # (H, W)
    labels: frozenset[int]  # ids that may be in it, beside 0


@dataclass(frozen=True)
class Required:
    """All files of a submission, by their names in the zip."""

    folder: str  # "Annotations", or "" where the videos' folders lie directly in the zip
    masks: dict[str, RequiredMask]  # "Annotations/0a49f5265b/00005.png" -> what it must be


def required_of(videos: Iterable[Sequence | ValidVideo]) -> Required:
    """What the server wants for these videos, as `open_davis` or `open_youtube_vos` gives them."""
    videos = list(videos)
    folder = "Annotations" if videos and isinstance(videos[0], ValidVideo) else ""
    masks = {}
    for video in videos:
        for t, name in video.required.items():
            labels = frozenset(label for label, first in video.enters.items() if first <= t)
            masks[str(PurePosixPath(folder, video.name, name))] = RequiredMask(video.size, labels)
    return Required(folder, masks)


def check(source: str | os.PathLike, required: Required, name: str | os.PathLike | None = None) -> None:
    """Whether a zip, or a folder that is to be zipped, is what the server wants.

    source: a .zip, or a folder of the videos' folders (hidden files and run.json in it are passed over). name: what messages call it.
    Raises InputError naming the first thing that is wrong and how many there are: a mask that is missing, a file that nobody asked for, or
    that is there twice; a mask that is no PNG, has no palette, another size, or ids that do not exist, or not yet, in this frame.
    """
    source, name = Path(source), source if name is None else name
    if source.is_dir():
        base = PurePosixPath(required.folder)
        paths = {str(base / path.relative_to(source).as_posix()): path for path in _files(source)}
        flaws = _flaws(list(paths), lambda one: paths[one].read_bytes(), required)
    else:
        try:
            with zipfile.ZipFile(source) as archive:
                names = [one for one in archive.namelist() if not one.endswith("/")]
                flaws = _flaws(names, archive.read, required)
        except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
            raise InputError(f"{name} is neither a folder nor a zip: {reason(error)}") from error
    if flaws:
        count = f"{len(flaws)} things are wrong" if len(flaws) > 1 else "1 thing is wrong"
        raise InputError(f"{name} is no submission, {count}; the first: {flaws[0]}")


def check_name(path: str | os.PathLike) -> None:
    """Raises InputError where a submission's name does not end in .zip, or is a folder's."""
    if Path(path).suffix.lower() != ".zip" or Path(path).is_dir():
        found = "is a folder" if Path(path).is_dir() else f"ends in {Path(path).suffix!r}"
        raise InputError(f"submission {path} {found}, expected a file's name that ends in .zip")


def write_zip(folder: str | os.PathLike, required: Required, path: str | os.PathLike) -> None:
    """Zip a folder of masks for the server; the zip gets its name when it has passed `check`.

    folder: FOLDER/<video>/00000.png; hidden files and run.json stay out, everything else goes in and is checked. Equal masks make equal zips, byte
    for byte. Raises InputError as `check` does, for a name that does not end in .zip, and where the file cannot be written.
    """
    folder, path = Path(folder), Path(path)
    check_name(path)
    with atomic_path(path) as temporary:
        with zipfile.ZipFile(temporary, "w") as archive:  # stored: PNGs are packed already
            for file in _files(folder):
                inside = PurePosixPath(required.folder, file.relative_to(folder).as_posix())
                entry = zipfile.ZipInfo(str(inside), MADE_AT)
                entry.external_attr = 0o644 << 16
                archive.writestr(entry, file.read_bytes())
        check(temporary, required, name=path)


def unpack(source: str | os.PathLike, required: Required, folder: str | os.PathLike) -> Path:
    """`check` a zip and write its masks to `folder`/<video>/00000.png; returns `folder`. Raises InputError as `check` does."""
    check(source, required)
    with zipfile.ZipFile(source) as archive:
        for name in required.masks:
            file = Path(folder, *PurePosixPath(name).relative_to(required.folder).parts)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.read(name))
    return Path(folder)


def _files(folder):
    """Every file below a folder in order of names, but for hidden ones, those in hidden folders, and the note of a run."""
    found = [path for path in folder.rglob("*") if path.is_file() and path != folder / NOTE]
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _flaws(names, read, required):
    """What is wrong, in words: files that are too many, then files that are missing, then what is in them."""
    there = Counter(names)
    flaws = [
        f"{name} is there, and not asked for{_hint(name, required)}" for name in there if name not in required.masks
    ]
    flaws += [f"{name} is there {count} times, expected once" for name, count in there.items() if count > 1]
    missing = [name for name in required.masks if name not in there]
    flaws += [f"{name} is missing, {len(required.masks)} masks are asked for" for name in missing]
    wanted = [name for name in required.masks if name in there]
    found = in_threads(lambda name: _flaw(name, read, required.masks[name]), wanted, chunk=16)
    return flaws + [flaw for flaw in found if flaw]


def _hint(name, required):
    """The commonest mistake by name: the right files in one folder too many, or too few."""
    first, *rest = PurePosixPath(name).parts
    if "/".join(rest) in required.masks:
        return f"; {'/'.join(rest)} is: take the folder {first} out of the zip"
    if required.folder and str(PurePosixPath(required.folder, name)) in required.masks:
        return f"; {required.folder}/{name} is: the videos' folders belong into a folder {required.folder}"
    return ""


def _flaw(name, read, wanted):
    """What is wrong with one mask; "" where nothing is."""
    try:
        with Image.open(io.BytesIO(read(name))) as picture:
            picture.load()
            mode, kind, size = picture.mode, picture.format, (picture.height, picture.width)
            labels = {int(label) for label in np.unique(np.asarray(picture))} if mode == "P" else set()
    except (*DAMAGED, zipfile.BadZipFile, RuntimeError) as error:  # the last: a password, an unknown compression
        return f"{name} cannot be read ({reason(error)}), expected a palette PNG"
    if kind != "PNG" or mode != "P":
        return f"{name} is a {kind} of mode {mode}, expected a PNG with palette (mode P)"
    if size != wanted.size:
        return f"{name} is {by(size)}, the frame is {by(wanted.size)} (height x width)"
    odd = sorted(labels - wanted.labels - {0})
    return f"{name} has the ids {odd}, in this frame there may be {sorted(wanted.labels) or 'none'}" if odd else ""
