"""Maps between the pixels of a training frame and the points of the picture it is made from.

Points are (y, x) in pixels, pixel centres at integers: a picture of H rows covers y from -0.5 to H - 0.5. A map goes from the output to
the source, since that is the way pictures are read; every map has an inverse, by which a point of the source is found in the output.
Ours, but for the thin-plate spline (Bookstein, PAMI 1989), whose use on training frames is STCN's (STCN:dataset/tps.py).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from jaxtyping import Float, UInt8
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from tmrn_edu.errors import InputError

MEAN_COLOUR = (
    124 / 255,
    116 / 255,
    104 / 255,
)  # what is shown outside the picture, RGB (STCN:dataset/range_transform.py)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SHRINKING = 1.25  # source pixels per output pixel from which a picture is reduced with antialiasing before it is read
NEWTON_STEPS = 30  # Newton steps of the spline's inverse; 4 or 5 are enough for nearly all points
UPRIGHT = 0.25  # a spline is drawn again where it shrinks areas below this, long before it folds over
MAX_DRAWS = 100


@dataclass(frozen=True, eq=False)
class Affine:
    """source = M (y, x, 1)."""

    matrix: np.ndarray  # 3 x 3, float64, last row 0 0 1

    def forth(self, y, x):
        """Source points of output points; y and x broadcast against each other."""
        (a, b, c), (d, e, f), _ = self.matrix.tolist()
        return a * y + b * x + c, d * y + e * x + f

    def back(self, y, x):
        """Output points of source points."""
        return Affine(np.linalg.inv(self.matrix)).forth(y, x)


@dataclass(frozen=True, eq=False)
class ThinPlate:
    """Bending by a natural thin-plate spline, on unit coordinates u = ((y + 0.5) / H, (x + 0.5) / W).

    source_u = u + A (1, u) + sum_k w_k U(|u - c_k|),   U(r) = r^2 log r^2
    """

    size: tuple[int, int]  # (H, W) that is 1 x 1 in unit coordinates
    centres: np.ndarray  # c, "k 2"
    weights: np.ndarray  # w, "k 2"
    plane: np.ndarray  # A, "3 2"

    def forth(self, y, x):
        """As `Affine.forth`; three passes over the points for each control point."""
        u, v = (y + 0.5) / self.size[0], (x + 0.5) / self.size[1]
        to_y, to_x = (p[0] + p[1] * u + p[2] * v for p in self.plane.T.tolist())
        for (cu, cv), (wu, wv) in zip(self.centres.tolist(), self.weights.tolist(), strict=True):
            square = (u - cu).square() + (v - cv).square()
            bend = square.mul_(torch.log(square + 1e-30))
            to_y.add_(bend, alpha=wu)
            to_x.add_(bend, alpha=wv)
        return y + to_y.mul_(self.size[0]), x + to_x.mul_(self.size[1])

    def slopes(self, y, x):
        """Derivatives (dY/dy, dY/dx, dX/dy, dX/dx) of the source point (Y, X); all control points at once, so for few points."""
        u, v = (y + 0.5) / self.size[0], (x + 0.5) / self.size[1]
        centres, weights = (torch.from_numpy(array).to(u.dtype) for array in (self.centres, self.weights))
        to_u, to_v = (rearrange(c, "k -> k" + " 1" * max(u.ndim, v.ndim)) for c in rearrange(centres, "k uv -> uv k"))
        du, dv = u - to_u, v - to_v
        steep = 2 * (torch.log(du.square() + dv.square() + 1e-30) + 1)
        along_u, along_v = (einsum(weights, steep * d, "k to, k ... -> to ...") for d in (du, dv))
        plane_u, plane_v = self.plane[1:].tolist()
        aspect = self.size[0] / self.size[1]
        return (
            1 + plane_u[0] + along_u[0],
            (plane_v[0] + along_v[0]) * aspect,
            (plane_u[1] + along_u[1]) / aspect,
            1 + plane_v[1] + along_v[1],
        )

    def back(self, y, x):
        """Inverse by Newton's method, from the point itself; within 1e-6 pixels inside the picture for splines of `draw_thin_plate`."""
        to_y, to_x = y.clone(), x.clone()
        for _ in range(NEWTON_STEPS):
            at_y, at_x = self.forth(to_y, to_x)
            miss_y, miss_x = y - at_y, x - at_x
            if max(miss_y.abs().max(), miss_x.abs().max()) < 1e-7:
                break
            a, b, c, d = self.slopes(to_y, to_x)
            area = a * d - b * c
            area = torch.where(area.abs() < 0.05, 0.05, area)  # far outside the picture; keeps the step finite
            to_y, to_x = to_y + (d * miss_y - b * miss_x) / area, to_x + (a * miss_x - c * miss_y) / area
        return to_y, to_x


def draw_thin_plate(rng: Generator, size: tuple[int, int], points: int = 12, sigma: float = 0.02) -> ThinPlate:
    """A random bending of a picture: `points` control points, each moved by Gaussian steps of `sigma` of the side.

    The source is shown displaced by -delta_k at control point c_k; in between the displacement is the natural thin-plate interpolation
    of these. Control points share neither row nor column, as the authors'. A draw that would fold the picture, or nearly so, is drawn
    again, so that every point has one inverse; the authors keep such draws. Raises InputError for a picture with fewer rows or columns
    than points. Source: STCN:dataset/tps.py.
    """
    if min(size) < points:
        raise InputError(
            f"{points} control points need as many rows and columns, the picture has {size[0]} x {size[1]}"
        )
    probe = [torch.linspace(-0.5, side - 0.5, 25, dtype=torch.float64) for side in size]
    for _ in range(MAX_DRAWS):
        cells = [rng.choice(side, size=points, replace=False) / side for side in size]
        source = np.stack(cells, axis=1)
        centres = source + rng.normal(scale=sigma, size=source.shape)
        spline = fit_thin_plate(size, centres, source)
        a, b, c, d = spline.slopes(rearrange(probe[0], "y -> y 1"), probe[1])
        near = torch.from_numpy(centres * size - 0.5 + 1e-3)  # steepest between close control points
        e, f, g, h = spline.slopes(near[:, 0], near[:, 1])
        if min((a * d - b * c).min(), (e * h - f * g).min()) > UPRIGHT:
            return spline
    raise InputError(
        f"{points} control points moved by {sigma} of the side fold the picture in each of {MAX_DRAWS} draws"
    )


def fit_thin_plate(size: tuple[int, int], centres: np.ndarray, source: np.ndarray) -> ThinPlate:
    """The natural spline that shows `source` points at `centres`, both "k 2" in unit coordinates.

    Solves  [K P; P' 0] [w; A] = [source - centres; 0]  with K_jk = U(|c_j - c_k|) and P = (1, c). Source: Bookstein 1989.
    """
    count = len(centres)
    square = ((centres[:, None] - centres[None]) ** 2).sum(axis=-1)
    system = np.zeros((count + 3, count + 3))
    system[:count, :count] = square * np.log(square + 1e-30)
    system[:count, count], system[:count, count + 1 :] = 1, centres
    system[count:, :count] = system[:count, count:].T
    found = np.linalg.solve(system, np.concatenate([source - centres, np.zeros((3, 2))]))
    return ThinPlate(size, centres, found[:count], found[count:])


@dataclass(frozen=True, eq=False)
class Warp:
    """Where each point of a training frame comes from: maps in a row, the first one applied to the output's points."""

    steps: tuple[Affine | ThinPlate, ...] = ()

    def then(self, step: Affine | ThinPlate) -> "Warp":
        """This warp followed by another map towards the source; neighbouring affine maps become one."""
        if self.steps and isinstance(step, Affine) and isinstance(self.steps[-1], Affine):
            return Warp((*self.steps[:-1], Affine(step.matrix @ self.steps[-1].matrix)))
        return Warp((*self.steps, step))

    def source(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Points (y, x) of the source shown at points of the output, in pixels; float64 keeps its precision. Source: ours."""
        return torch.stack(self._forth(points[..., 0], points[..., 1]), dim=-1)

    def target(self, points: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """Points (y, x) of the output at which points of the source are shown: source(target(p)) = p within 1e-3 pixels. Source: ours."""
        y, x = points[..., 0], points[..., 1]
        for step in reversed(self.steps):
            y, x = step.back(y, x)
        return torch.stack([y, x], dim=-1)

    def grid(self, size: tuple[int, int]) -> Float[Tensor, "H W 2"]:
        """`source` of every pixel of an output of `size`, in float64."""
        y, x = (torch.arange(side, dtype=torch.float64) for side in size)
        return torch.stack(
            torch.broadcast_tensors(*self._forth(rearrange(y, "H -> H 1"), rearrange(x, "W -> 1 W"))), dim=-1
        )

    def planes(self, size: tuple[int, int]) -> tuple[Float[Tensor, "H W"], Float[Tensor, "H W"]]:
        """`grid` as two float32 planes, y and x: how pictures are read (within 1e-3 pixels)."""
        y, x = (torch.arange(side, dtype=torch.float32) for side in size)
        y, x = torch.broadcast_tensors(*self._forth(rearrange(y, "H -> H 1"), rearrange(x, "W -> 1 W")))
        return y, x

    def density(self, size: tuple[int, int]) -> tuple[float, float]:
        """How many source rows, and columns, one pixel of an output of `size` steps over, on average over the output."""
        middle = np.array(size) / 2 - 0.5
        ends = np.array([[-0.5, middle[1]], [size[0] - 0.5, middle[1]], [middle[0], -0.5], [middle[0], size[1] - 0.5]])
        top, bottom, left, right = self.source(torch.from_numpy(ends)).numpy()
        down, across = (bottom - top) / size[0], (right - left) / size[1]
        return float(np.hypot(down[0], across[0])), float(np.hypot(down[1], across[1]))

    def _forth(self, y, x):
        for step in self.steps:
            y, x = step.forth(y, x)
        return y, x


def crop(box: tuple[int | float, ...], size: tuple[int, int]) -> Affine:
    """The box (top, left, height, width) of the source, in pixel borders, stretched over an output of `size`."""
    top, left, height, width = box
    rows, columns = height / size[0], width / size[1]
    return Affine(np.array([[rows, 0, top + rows / 2 - 0.5], [0, columns, left + columns / 2 - 0.5], [0, 0, 1]]))


def mirror(width: int) -> Affine:
    """Left and right exchanged."""
    return Affine(np.array([[1.0, 0, 0], [0, -1, width - 1], [0, 0, 1]]))


def exchange() -> Affine:
    """Rows and columns exchanged."""
    return Affine(np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]]))


def turn(size: tuple[int, int], angle: float = 0.0, scale: float = 1.0, shear: float = 0.0) -> Affine:
    """The picture of `size` turned, enlarged and sheared about its centre, as torchvision's RandomAffine does.

    shown at (x, y) + centre = scale R(angle) [[1, -tan shear], [0, 1]] (source (x, y)),  angle and shear in degrees, shear along x only.
    """
    a, s = np.radians(angle), np.radians(shear)
    rotation = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    forward = scale * rotation @ np.array([[1, -np.tan(s)], [0, 1]])
    matrix = np.eye(3)
    matrix[:2, :2] = np.linalg.inv(forward)[::-1, ::-1]  # from (x, y) to (y, x)
    centre = np.array(size) / 2 - 0.5
    matrix[:2, 2] = centre - matrix[:2, :2] @ centre
    return Affine(matrix)


def warp_frame(
    frame: UInt8[Tensor, "H W 3"],
    warp: Warp,
    size: tuple[int, int],
    mode: str = "bilinear",
    fill: tuple[float, float, float] = MEAN_COLOUR,
) -> Float[Tensor, "3 h w"]:
    """A picture as a training frame of `size`: RGB in [0, 1], `fill` where the warp points outside the picture.

    mode: "bilinear" or "bicubic". Where the warp shrinks the picture by more than 1.25, its visible part is first reduced by Pillow's
    antialiasing filter of the same name, so that nothing aliases. Raises InputError for another mode. Source: ours.
    """
    return read_frame(frame, warp.planes(size), warp.density(size), mode, fill)


def warp_mask(mask: UInt8[Tensor, "H W"], warp: Warp, size: tuple[int, int]) -> UInt8[Tensor, "h w"]:
    """The labels of an index mask, each read from the nearest pixel; 0 outside. Source: ours."""
    return read_mask_at(mask, warp.planes(size))


def read_frame(frame, planes, density, mode, fill=MEAN_COLOUR) -> Float[Tensor, "3 h w"]:
    """`warp_frame` for points that are known already: their y and x planes, and `Warp.density`."""
    if mode not in FILTERS:
        raise InputError(f"interpolation is {mode!r}, known are {', '.join(FILTERS)}")
    (y, x), sides = planes, frame.shape[:2]
    colour = rearrange(torch.tensor(fill), "c -> c 1 1")
    ends = [(float(plane.min()), float(plane.max())) for plane in planes]
    # The part of the picture that is read: 3 pixels more than the points reach, for the widest filter.
    low = [
        max(0, int(np.floor(least)) - 3 * int(np.ceil(max(1, step))))
        for (least, _), step in zip(ends, density, strict=True)
    ]
    high = [
        min(side, int(np.ceil(most)) + 1 + 3 * int(np.ceil(max(1, step))))
        for (_, most), step, side in zip(ends, density, sides, strict=True)
    ]
    if low[0] >= high[0] or low[1] >= high[1]:
        return colour.expand(3, *y.shape).clone()
    part = frame[low[0] : high[0], low[1] : high[1]]
    lengths = part.shape[:2]
    if max(density) > SHRINKING:
        small = [max(1, round(length / max(1.0, step))) for length, step in zip(lengths, density, strict=True)]
        picture = Image.fromarray(part.contiguous().numpy()).resize((small[1], small[0]), FILTERS[mode])
        part = torch.from_numpy(np.array(picture))
    pixels = rearrange(part, "H W c -> 1 c H W").contiguous().float().div_(255)
    # grid_sample's coordinates: -1 and 1 are the outer borders of the part, whatever it was reduced to.
    across, down = (
        (p + (0.5 - start)) * (2 / length) - 1
        for p, start, length in ((x, low[1], lengths[1]), (y, low[0], lengths[0]))
    )
    points = rearrange([across, down], "xy h w -> 1 h w xy")
    found = F.grid_sample(pixels, points, mode=mode, padding_mode="border", align_corners=False)[0].clamp_(0, 1)
    if any(least < -0.5 or most >= side - 0.5 for (least, most), side in zip(ends, sides, strict=True)):
        found = torch.where(_inside(y, x, sides), found, colour)
    return found


def read_mask_at(mask, planes) -> UInt8[Tensor, "h w"]:
    """`warp_mask` for points that are known already."""
    (y, x), (height, width) = planes, mask.shape
    rows = torch.floor(y + 0.5).clamp_(0, height - 1).int()
    columns = torch.floor(x + 0.5).clamp_(0, width - 1).int()
    return torch.where(_inside(y, x, mask.shape), torch.take(mask, (rows * width + columns).long()), 0)


def _inside(y, x, size):
    """Which points have a nearest pixel."""
    return (y >= -0.5) & (y < size[0] - 0.5) & (x >= -0.5) & (x < size[1] - 0.5)
