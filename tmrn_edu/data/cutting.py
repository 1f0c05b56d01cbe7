"""Objects cut out of the frames of a video: where they are, how their edges are made soft, and how they are laid over another picture.

A cut-out that is pasted as it is gives itself away: the pixels along its rim are half background. So the rim is painted anew with the colours
just inside of it, and fades out over one pixel; the label ends where half of the colour is left. All of this is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tmrn_edu.data.sets import Video
from tmrn_edu.errors import InputError
from tmrn_edu.masks import VOID

MARGIN = 4  # empty pixels around a cut-out, of its own size or of the size it is shown at, whichever is more
INSIDE = 128  # opacity of 255 from which a pixel belongs to the object


@dataclass(frozen=True)
class Spot:
    """One object in one frame."""

    area: int  # pixels
    box: tuple[int, int, int, int]  # top, left, bottom, right; the last two are the first row and column without it
    centre: tuple[float, float]  # (y, x) of its centroid, pixel centres at integers


@dataclass(frozen=True, eq=False)
class Followed:
    """A video, and where its objects are in the frames that were asked for: looked up once, a few numbers each."""

    video: Video
    known: dict[int, dict[int, Spot]] = field(default_factory=dict, repr=False)  # frame -> object id -> spot

    def spots(self, t: int) -> dict[int, Spot]:
        """The objects of frame `t` by id; neither background nor void is one."""
        if t not in self.known:
            self.known[t] = find_spots(self.video.mask(t))
        return self.known[t]

    def check(self) -> None:
        """Raises InputError, with the video's name, where none of its masks has an object."""
        if not any(self.spots(t) for t in range(len(self.video))):
            raise InputError(
                f"{self.video.name}: its {len(self.video)} masks hold background and void only; expected an object to paste"
            )


def find_spots(mask: UInt8[Tensor, "H W"]) -> dict[int, Spot]:
    """Area, box and centroid of every object of an index mask, by id. Source: ours."""
    values = mask.numpy()
    found = {}
    for label in np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist():
        if label not in (0, VOID):
            here = values == label
            rows, columns = here.sum(axis=1), here.sum(axis=0)
            (top, bottom), (left, right) = (np.flatnonzero(counts)[[0, -1]].tolist() for counts in (rows, columns))
            area = int(rows.sum())
            centre = tuple(float(np.arange(len(counts)) @ counts) / area for counts in (rows, columns))
            found[label] = Spot(area, (top, left, bottom + 1, right + 1), centre)
    return found


@dataclass(frozen=True)
class Pose:
    """How a cut-out is shown."""

    centre: tuple[float, float]  # (y, x) where its centroid comes to lie, pixels
    scale: float  # output pixels per pixel of its own
    mirrored: bool  # left and right exchanged


@dataclass(frozen=True, eq=False)
class Patch:
    """A cut-out at its place in a picture: the rows and columns it takes, and what it shows there."""

    rows: slice
    columns: slice
    alpha: UInt8[Tensor, "h w"]  # opacity, 0 to 255
    colours: UInt8[Tensor, "h w 3"] | None  # RGB; None where only the opacity was asked for

    @property
    def where(self) -> tuple[slice, slice]:
        """Index of the patch in a picture or mask "H W ..."."""
        return self.rows, self.columns

    @property
    def inside(self):
        """Which pixels are labelled, Bool "h w": at least half of the colour is the object's."""
        return self.alpha >= INSIDE


def cut_out(
    frame: UInt8[Tensor, "H W 3"] | None,
    mask: UInt8[Tensor, "H W"],
    label: int,
    spot: Spot,
    pose: Pose,
    size: tuple[int, int],
) -> Patch | None:
    """The object `label` of a frame, scaled and moved to `pose` in a picture of `size` (H, W); None where nothing of it lies inside.

        alpha = mean of the mask over 3 x 3 pixels
        colour = the pixel's own in the inside (all 3 x 3 in the mask); in the rim, the mean of the inside's pixels among 5 x 5

    then both are scaled with Pillow's bilinear filter, which does not alias where it shrinks. `frame` None: opacity alone, the same numbers
    for less work. `spot`: of this object, from `find_spots(mask)`. Source: ours.
    """
    margin = int(np.ceil(MARGIN * max(1.0, 1 / pose.scale)))
    top, left, bottom, right = spot.box
    shape = [margin] * 4  # left, right, top, bottom
    part = mask[top:bottom, left:right] == label
    solid = F.pad(rearrange(part, "h w -> 1 1 h w").float(), shape)
    alpha = F.avg_pool2d(solid, 3, stride=1, padding=1)
    layers = [rearrange(alpha * 255 + 0.5, "1 1 h w -> h w 1")]
    if frame is not None:
        colours = rearrange(frame[top:bottom, left:right], "h w c -> 1 c h w").float()
        layers.insert(0, rearrange(_without_rim(F.pad(colours, shape), solid) + 0.5, "1 c h w -> h w c"))
    picture = torch.cat(layers, dim=-1).to(torch.uint8)
    centre = [spot.centre[0] - top + margin, spot.centre[1] - left + margin]  # in the picture
    if pose.mirrored:
        picture = picture.flip(1)
        centre[1] = picture.shape[1] - 1 - centre[1]
    axes = [
        _window(*axis, pose.scale) for axis in zip(pose.centre, centre, picture.shape[:2], size, strict=True)
    ]  # ((first, last), (source from, source to)) of rows, and of columns
    if None in axes:
        return None
    (rows, (upper, lower)), (columns, (near, far)) = axes
    box = (near, upper, far, lower)
    image = Image.fromarray((picture if frame is not None else picture[..., 0]).contiguous().numpy())
    shown = np.array(image.resize((columns[1] - columns[0], rows[1] - rows[0]), Image.Resampling.BILINEAR, box))
    shown = torch.from_numpy(shown)
    alpha, colours = (shown, None) if frame is None else (shown[..., 3], shown[..., :3])
    return Patch(slice(*rows), slice(*columns), alpha, colours)


def lay_over(
    picture: UInt8[Tensor, "H W 3"],
    patch: Patch,
    gain: Sequence[float] = (1.0, 1.0, 1.0),
    hidden: UInt8[Tensor, "H W"] | None = None,
) -> UInt8[Tensor, "H W 3"]:
    """The picture with a patch over it; `gain` multiplies its RGB.

        out = picture + alpha (1 - hidden) (gain colour - picture)

    hidden: an index mask of what lies in front of the patch (anything but 0), its edge softened over one pixel. Source: ours.
    """
    opacity = patch.alpha.float() / 255
    if hidden is not None:
        part = rearrange((hidden[patch.where] != 0).float(), "h w -> 1 1 h w")
        soft = F.avg_pool2d(part, 3, stride=1, padding=1, count_include_pad=False)
        opacity = opacity * (1 - rearrange(soft, "1 1 h w -> h w"))
    below = picture[patch.where].float()
    colours = (patch.colours.float() * torch.tensor(tuple(gain))).clamp_(0, 255)
    out = picture.clone()
    out[patch.where] = (below + rearrange(opacity, "h w -> h w 1") * (colours - below)).round_().to(torch.uint8)
    return out


def _without_rim(colours, solid):
    """Colours "1 3 h w" whose rim, in and out of the mask, is made from the inside's; thin parts have no inside and keep their own."""
    inside = -F.max_pool2d(-solid, 3, stride=1, padding=1)
    weight = inside + 1e-3 * solid
    spread = F.avg_pool2d(colours * weight, 5, stride=1, padding=2)
    total = F.avg_pool2d(weight, 5, stride=1, padding=2).clamp_min_(1e-8)
    return torch.where(inside > 0, colours, spread / total).clamp_(0, 255)


def _window(place, centre, length, side, scale):
    """One axis: which output pixels show which part of the source, None where none does.

    Borders of pixels: source border s is shown at place + 1/2 + scale (s - centre - 1/2).
    """
    first = max(0, int(np.ceil(place + 0.5 - scale * (centre + 0.5))))
    last = min(side, int(np.floor(place + 0.5 + scale * (length - centre - 0.5))))
    if last <= first:
        return None
    source = [min(max((end - place - 0.5) / scale + centre + 0.5, 0.0), float(length)) for end in (first, last)]
    return (first, last), source
