"""Files, carefully: natural order of names, images to RGB, and writing that never leaves half a file behind.

Everything here is ours; no paper is involved. Other files of `data/` use these helpers and nothing else of Pillow's
error zoo.
"""

import os
import re
import struct
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tmrn_edu.errors import InputError

# What Pillow raises on damaged files (its UnidentifiedImageError is an OSError). One list, so that every reader agrees.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def natural_key(name: str) -> tuple:
    """Sort key that reads digits as numbers: frame2 stands before frame10."""
    # re.split with a group alternates text and digits, so positions always compare like with like.
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def reason(error: BaseException) -> str:
    """The short text of an error, one line: of an OSError the system's words ("No space left on device")."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def by(shape) -> str:
    """A size in words, height first as everywhere here: "480 x 854"."""
    return f"{shape[0]} x {shape[1]}"


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation asks; mode and palette stay."""
    return ImageOps.exif_transpose(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Any Pillow image as uint8 RGB, `H W 3`.

    16-bit grey is scaled to 8 bit (65535 -> 255) and not clipped, transparency is laid over black (a video has no
    alpha, and the colours below full transparency are often junk), grey and palette images are expanded, EXIF
    orientation is applied.
    """
    image = upright(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit grey: I;16, I;16B, or I in older Pillow
        grey = np.clip(np.asarray(image).astype(np.float64) / 257, 0, 255).round().astype(np.uint8)
        image = Image.fromarray(grey)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.array(image.convert("RGB"))  # np.array, not asarray: torch wants memory it may write to


class PendingFile:
    """A file in the making: written under `temporary`, a hidden name in the same folder, until `commit` renames it.

    Missing folders are made. The temporary name keeps the suffix, since encoders choose the format by it. Raises
    `InputError` naming the file and the reason where it cannot be written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.temporary = self.path.with_name(f".{self.path.stem}.{uuid.uuid4().hex[:8]}.part{self.path.suffix}")
        if self.path.is_dir():
            raise InputError(f"cannot write {self.path}: it is a folder, expected the name of a file")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self.failure(error) from error

    def commit(self) -> None:
        """Give the file its name; an older file of that name is replaced in one step."""
        try:
            os.replace(self.temporary, self.path)
        except OSError as error:
            self.discard()
            raise self.failure(error) from error

    def discard(self) -> None:
        """Remove what was written; nothing to remove is fine."""
        try:
            self.temporary.unlink(missing_ok=True)
        except OSError:  # the folder went away: so did the file
            pass

    def failure(self, error: BaseException) -> InputError:
        """The one line that says why the file cannot be written."""
        return InputError(f"cannot write {self.path}: {reason(error)}")


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to `path` when the block succeeds and removed when it does not.

    An `OSError` of the block becomes an `InputError` that names the file and the reason; any other exception,
    KeyboardInterrupt included, passes on unchanged.
    """
    pending = PendingFile(path)
    try:
        yield pending.temporary
    except OSError as error:
        pending.discard()
        raise pending.failure(error) from error
    except BaseException:
        pending.discard()
        raise
    pending.commit()
