"""Augmentation: every frame of a clip and its mask are moved by one map between points, and read from the picture once.

Crop, resizing, mirroring, rotation, shear and thin-plate bending are composed as maps (`Warp`) before any pixel is read, so there is one
interpolation where the authors' loaders have two to five, and every point can be followed through it. What differs by that:

- A turned crop shows the picture beyond its border; the authors turn what they have cut out, and show mean colour there.
- A still enlarged about its centre keeps what leaves its borders, and later turning and cropping may show it; the authors lose it.
- Masks are read once, at the nearest pixel of the full-size mask; the authors read them up to four times.
- Bending is the last thing the authors do, bilinear on the finished crop; here it is part of the one interpolation.
- Colours are changed last, on all of the frame; the authors change those shared by the clip before the turning.

Chance comes from `numpy.random.Generator`, so a seed gives the same clip anywhere. Numbers: STCN:dataset/vos_dataset.py,
STCN:dataset/static_dataset.py, XMem:dataset/vos_dataset.py. The composition is ours.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import Generator
from torch import Tensor

from tmrn_edu.data.colours import Colour, Jitter, Saturation, recolour
from tmrn_edu.data.warps import (
    FILTERS,
    MEAN_COLOUR,
    Warp,
    crop,
    draw_thin_plate,
    mirror,
    read_frame,
    read_mask_at,
    turn,
    warp_frame,
    warp_mask,
)
from tmrn_edu.errors import InputError

__all__ = [
    "MEAN_COLOUR",
    "Augmentation",
    "Jitter",
    "View",
    "Warp",
    "static_augmentation",
    "video_augmentation",
    "warp_frame",
    "warp_mask",
]

CROP_DRAWS = 10  # boxes tried before the middle of the picture is taken (torchvision's RandomResizedCrop)


@dataclass(frozen=True, eq=False)
class View:
    """How one frame of a training clip is made from its picture: all chance is already decided."""

    warp: Warp
    size: tuple[int, int]  # (H, W) of the result
    interpolation: str
    colours: tuple[Colour, ...] = ()

    @cached_property
    def planes(self) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
        """Source y and x of every pixel, shared by frame and mask."""
        return self.warp.planes(self.size)

    def frame(self, picture: UInt8[Tensor, "H W 3"]) -> Float[Tensor, "3 h w"]:
        """The frame: warped as by `warp_frame`, then recoloured."""
        warped = read_frame(picture, self.planes, self.warp.density(self.size), self.interpolation)
        return recolour(warped, self.colours) if self.colours else warped

    def mask(self, index_mask: UInt8[Tensor, "H W"]) -> UInt8[Tensor, "h w"]:
        """Its index mask: warped as by `warp_mask`."""
        return read_mask_at(index_mask, self.planes)


@dataclass(frozen=True)
class Augmentation:
    """What may happen to a clip. Angles are in degrees, ranges (low, high) are drawn uniformly, sizes are of the frames that come out.

    Drawn once a clip: `flip`, `crop_area` or `zoom`, `clip_colours`, `grey`. Drawn for each frame: the rest.
    Raises InputError for values that mean nothing.
    """

    size: int  # height and width of the frames
    interpolation: str = "bilinear"  # or "bicubic"
    flip: float = 0.5  # probability of left and right exchanged
    # One box for the clip, its share of the picture. None: the short side becomes `size`, and each frame is a random square of that.
    crop_area: tuple[float, float] | None = None
    crop_aspect: tuple[float, float] = (3 / 4, 4 / 3)  # width / height of the box, drawn uniformly in its logarithm
    zoom: tuple[float, float] = (1.0, 1.0)  # of the whole clip, about the middle of the picture
    rotation: float = 0.0  # up to this, either way
    shear: float = 0.0  # up to this, either way, along x only (torchvision's meaning of one number)
    scale: tuple[float, float] = (1.0, 1.0)
    bending: float = 0.0  # probability of a thin-plate warp
    bending_points: int = 12
    bending_sigma: float = 0.02  # of the frame's side
    clip_colours: Jitter = Jitter()
    frame_colours: Jitter = Jitter()
    grey: float = 0.0  # probability that the clip is without colour

    def __post_init__(self):
        if self.size < 1 or (self.bending and self.size < self.bending_points):
            raise InputError(f"size is {self.size}, expected {self.bending_points if self.bending else 1} or more")
        if self.interpolation not in FILTERS:
            raise InputError(f"interpolation is {self.interpolation!r}, known are {', '.join(FILTERS)}")
        for name in ("flip", "bending", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected a probability from 0 to 1")
        for name in ("crop_area", "crop_aspect", "zoom", "scale"):
            ends = getattr(self, name)
            if ends is not None and not 0 < ends[0] <= ends[1]:
                raise InputError(f"{name} is {ends}, expected 0 < low <= high")

    def draw(self, rng: Generator, size: tuple[int, int], frames: int) -> list[View]:
        """The views of `frames` frames of one clip, whose pictures are of `size` (H, W). Source: see the top of the file."""
        flipped = rng.random() < self.flip
        box = _draw_box(rng, size, self.crop_area, self.crop_aspect) if self.crop_area else None
        zoom = rng.uniform(*self.zoom)
        shared = self.clip_colours.draw(rng) + ((Saturation(0.0),) if rng.random() < self.grey else ())
        out, views = (self.size, self.size), []
        for _ in range(frames):
            angle, shear = (rng.uniform(-most, most) for most in (self.rotation, self.shear))
            tilt = {"angle": angle, "shear": shear, "scale": rng.uniform(*self.scale)}
            # From the frame towards the picture, so what happens to a picture last comes first.
            if box:
                warp = Warp().then(turn(out, **tilt))
                warp = (warp.then(mirror(self.size)) if flipped else warp).then(crop(box, out))
            else:
                warp = self._random_square(rng, size).then(turn(size, **tilt))
                warp = warp.then(mirror(size[1])) if flipped else warp
            warp = warp.then(turn(size, scale=zoom))
            views.append(View(warp, out, self.interpolation, shared + self.frame_colours.draw(rng)))
        return views

    def _random_square(self, rng, size):
        """The short side becomes `self.size`; a square anywhere along the long one; bent or not."""
        out = (self.size, self.size)
        bent = rng.random() < self.bending
        warp = Warp().then(draw_thin_plate(rng, out, self.bending_points, self.bending_sigma)) if bent else Warp()
        unit = min(size) / self.size  # source pixels in a pixel of the frame
        top, left = (rng.integers(0, round(side / unit) - self.size + 1) * unit for side in size)
        return warp.then(crop((top, left, min(size), min(size)), out))


def _draw_box(rng, size, areas, aspects):
    """(top, left, height, width) of a random box inside a picture of `size`. Source: torchvision's RandomResizedCrop."""
    height, width = size
    for _ in range(CROP_DRAWS):
        area, aspect = height * width * rng.uniform(*areas), np.exp(rng.uniform(*np.log(aspects)))
        rows, columns = round(np.sqrt(area / aspect)), round(np.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1)), rows, columns
    least, most = aspects
    rows = height if width / height >= least else round(width / least)
    columns = width if width / height <= most else round(height * most)
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def static_augmentation(size: int = 384, interpolation: str = "bicubic") -> Augmentation:
    """How STCN and XMem make clips from stills: every frame is another view of one picture. Source: their dataset/static_dataset.py."""
    return Augmentation(
        size,
        interpolation,
        zoom=(0.8, 1.5),
        rotation=20.0,
        shear=10.0,
        scale=(0.9, 1.1),
        bending=0.33,
        clip_colours=Jitter(0.1, 0.05, 0.05, 0.05),
        frame_colours=Jitter(0.1, 0.05, 0.05),
        grey=0.05,
    )


def video_augmentation(size: int = 384, interpolation: str = "bicubic", fine_tune: bool = False) -> Augmentation:
    """How STCN (bicubic) and XMem (bilinear) augment clips of videos; `fine_tune`: frames are not turned, as in XMem's last steps.

    Source: their dataset/vos_dataset.py.
    """
    return Augmentation(
        size,
        interpolation,
        crop_area=(0.36, 1.0),
        rotation=0.0 if fine_tune else 15.0,
        shear=0.0 if fine_tune else 10.0,
        clip_colours=Jitter(0.1, 0.03, 0.03),
        frame_colours=Jitter(0.01, 0.01, 0.01),
        grey=0.05,
    )
