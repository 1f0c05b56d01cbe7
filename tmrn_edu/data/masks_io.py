"""Index masks in and out of files: palette PNGs as DAVIS and YouTube-VOS use them, and the grey masks people draw.

Which number of a file means what:

    palette image (mode P)      pixel value = object id, 0 background, 255 void (DAVIS and YouTube-VOS: "not scored")
    grey image, only 0 and 255  one object: 255 is read as id 1 (drawn masks; DAVIS 2016 ships its masks like this)
    grey image, small labels    as a palette image: pixel value = object id, 255 void
    1-bit image                 1 (white) is object 1
    RGB, black and one colour   one object: the colour is object 1, black or transparent is background
    other RGB, 16-bit, JPEG     refused: labels are numbers, and colours or blurred edges do not say which

The rules are ours; the palette and the meaning of 255 are those of DAVIS (Pont-Tuset et al. 2017).
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Integer, UInt8
from PIL import Image
from torch import Tensor

from tmrn_edu.data.files import DAMAGED, atomic_path, reason, upright
from tmrn_edu.errors import InputError
from tmrn_edu.masks import MAX_OBJECTS, VOID

FEW = 16  # a grey mask with at most this many labels is believed even when its ids have gaps
MANY = 64  # a palette mask with more labels than this and gaps between them is a picture, not a mask


@dataclass(frozen=True)
class Mask:
    """One index mask as read from a file."""

    index: UInt8[Tensor, "H W"]  # 0 background, 1..254 object ids as in the file, 255 void
    palette: bytes | None  # the file's own palette, r g b r g b ...; None for grey files
    ids: tuple[int, ...]  # objects present, ascending, without 0 and 255


def davis_palette() -> bytes:
    """The 256 colours of DAVIS masks, 768 bytes r g b r g b ...

    Bit k of the three colour channels comes from bits 3k, 3k+1, 3k+2 of the id, most significant bit first: the PASCAL
    VOC colour map, which DAVIS took over. Colour 0 is black, 1 dark red (128, 0, 0), 2 dark green (0, 128, 0).
    """
    palette = np.zeros((256, 3), dtype=np.uint8)
    ids = np.arange(256)
    for bit in range(8):
        for channel in range(3):
            palette[:, channel] |= (((ids >> (3 * bit + channel)) & 1) << (7 - bit)).astype(np.uint8)
    return palette.tobytes()


def read_mask(path: str | os.PathLike, empty_ok: bool = False) -> Mask:
    """Read one index mask; the table above says which files mean what.

    Returns a `Mask` at the file's size, ids and palette untouched, so that `write_mask(path, mask.index, mask.palette)`
    gives the same picture back. `empty_ok=True` accepts a mask without objects, as ground truth has where the object
    has left the frame. Raises `InputError` (file, what came, what was expected) for a missing or damaged file, a 16-bit or
    JPEG image, an RGB one of other colours than black and one more, blurred (anti-aliased) edges, more than 254 objects, and a mask without objects.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no mask at {path}: expected a palette or grey PNG of object ids")
    if path.is_dir():
        raise InputError(f"mask {path} is a folder: expected one palette or grey PNG of object ids")
    try:
        with Image.open(path) as image:
            format_, depth = image.format, _grey_depth(image)
            image.load()
            image = upright(image)
    except DAMAGED as error:
        raise InputError(f"cannot read mask {path}: {reason(error)}; expected a palette or grey PNG") from error

    if image.mode in ("RGB", "RGBA", "LA"):
        image = _one_colour(image, format_) or image
    values = np.array(image)
    _check_mode(path, image.mode, format_, values)
    if image.mode == "P":
        index, palette = values, bytes(image.getpalette("RGB"))
        _check_palette_labels(path, index)
    else:
        palette = None
        index = _grey_index(path, values.astype(np.uint8) // (255 // (2**depth - 1)) if depth < 8 else values)
    labels = np.unique(index).tolist()
    ids = tuple(label for label in labels if label not in (0, VOID))
    if not ids and not empty_ok:
        raise InputError(
            f"mask {path} holds no object: its labels are {_some(labels)}, expected at least one of 1 to {MAX_OBJECTS}"
            + (" (255 is void in a palette mask)" if VOID in labels else "")
        )
    return Mask(index=torch.from_numpy(index), palette=palette, ids=ids)


def write_mask(
    path: str | os.PathLike,
    index: Integer[Tensor | np.ndarray, "H W"],
    palette: bytes | None = None,
) -> None:
    """Write an index mask as a palette PNG of the same size and ids; whole or not at all.

    `palette` is r g b r g b ... as `Mask.palette` has it, `davis_palette()` when None; where it is too short for the
    ids, the DAVIS colours fill it up to 256. Missing folders are made. Raises `ValueError` for ids outside 0..255 or a
    palette that is no list of colours, `InputError` where the file cannot be written or the name does not end in .png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"cannot write mask {path}: its name ends in '{path.suffix}', expected .png")
    values = torch.as_tensor(index).detach().cpu().numpy()
    if values.ndim != 2:
        raise ValueError(f"a mask has axes H W, got {values.ndim} axes of sizes {values.shape}")
    if values.size and (values.min() < 0 or values.max() > VOID):
        raise ValueError(f"mask labels go from {values.min()} to {values.max()}, expected 0 to {VOID}")
    palette = davis_palette() if palette is None else bytes(palette)
    if len(palette) % 3 or len(palette) > 768:
        raise ValueError(f"a palette has 3 bytes for each of at most 256 colours, got {len(palette)} bytes")
    if values.size and values.max() >= len(palette) // 3:
        # Pillow picks the PNG's bit depth by the palette's length, and would cut off larger ids without a word.
        palette = palette + davis_palette()[len(palette) :]
    image = Image.fromarray(np.ascontiguousarray(values.astype(np.uint8)))
    image.putpalette(palette)  # turns mode L into mode P
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def _check_mode(path, mode, format_, values):
    expected = "expected a palette (mode P) or 8-bit grey PNG of object ids"
    if format_ in ("JPEG", "MPO"):
        found = len(np.unique(values))
        raise InputError(f"mask {path} is a JPEG, which blurs labels ({found} values found); {expected}")
    if mode in ("P", "L", "1"):
        return
    if mode.startswith("I") or mode == "F":
        labels = np.unique(values)
        too_many = f", {len(labels) - 1} objects where {MAX_OBJECTS} are possible" if len(labels) > 256 else ""
        raise InputError(f"mask {path} is 16-bit with labels {_some(labels.tolist())}{too_many}; {expected}")
    colours = np.unique(rearrange(values, "H W c -> (H W) c"), axis=0)
    if len(colours) > MAX_OBJECTS + 2:
        hint = "too many for labels: it looks like a photo or has anti-aliased edges"
    else:
        hint = "black and one colour would be one object; for several, save a palette PNG without anti-aliasing"
    raise InputError(f"mask {path} is {mode} with {len(colours)} colours ({hint}); {expected}")


def _one_colour(image, format_):
    """Black (or nothing) and one colour, as 1-bit image; None for all others. Which is background is sure only where one is black."""
    if format_ in ("JPEG", "MPO"):
        return None
    values = np.array(image.convert("RGBA"))
    alpha = values[..., 3:]
    shown = np.where(alpha == 0, 0, values[..., :3])
    colours = [colour for colour in np.unique(rearrange(shown, "H W c -> (H W) c"), axis=0) if colour.any()]
    if (
        len(colours) > 1
        or not np.isin(alpha, (0, 255)).all()
        or (not colours and (alpha == 255).any() and (alpha == 0).any())
    ):
        return None  # the last: black on nothing, which might be the object or its background
    return Image.fromarray(shown.any(axis=-1)) if (shown == 0).all(axis=-1).any() else None


def _check_palette_labels(path, index):
    labels = [label for label in np.unique(index).tolist() if label not in (0, VOID)]
    if len(labels) > MANY and labels != list(range(1, len(labels) + 1)):
        raise InputError(
            f"mask {path} has {len(labels)} palette labels with gaps ({_some(labels)}): it looks like a picture saved "
            f"with a palette, expected object ids 1, 2, 3, ..."
        )


def _grey_index(path, values):
    labels = [label for label in np.unique(values).tolist() if label != 0]
    if labels == [VOID] or values.dtype == bool:
        return (values != 0).astype(np.uint8)
    others = [label for label in labels if label != VOID]
    consecutive = others == list(range(1, len(others) + 1))
    # Soft edges of a white object on black leave 255 and greys from all over the range; ids beside a void are small.
    blurred = VOID in labels and max(others, default=0) > FEW
    if not consecutive and (blurred or len(others) > FEW):
        raise InputError(
            f"mask {path} is grey with {len(labels) + 1} labels ({_some([0] + labels)}): it looks anti-aliased or "
            f"like a photo, expected 0 and 255 for one object, or ids 1, 2, 3, ..."
        )
    return values.astype(np.uint8)


def _grey_depth(image):
    # Pillow stretches 2-bit and 4-bit grey to 0..255 (id 1 of a 4-bit PNG arrives as 17); the tile knows the depth.
    rawmode = image.tile[0].args if image.mode == "L" and image.tile else None
    return {"L;2": 2, "L;4": 4}.get(rawmode, 8) if isinstance(rawmode, str) else 8


def _some(labels):
    labels = list(labels)
    if len(labels) > 8:
        return f"{labels[0]}, {labels[1]}, {labels[2]} ... {labels[-1]}"
    return ", ".join(map(str, labels))
