"""The geometry of one layer of a synthetic clip: a silhouette in local coordinates, and a motion that places it.

A layer is a flat, elastic cut-out. A point of it has LOCAL coordinates (u, v) that never change; the motion says where
that point is in frame t, in closed form and in both directions:

    v' = v + a2 cos(k2 u  + phi2(t))                 two shear waves: each moves one coordinate by a function of
    u' = u + a1 sin(k1 v' + phi1(t))                 the other, so each is undone by a subtraction
    (y, x) = centre(t) + A(t) (u', v')               A = radius * scale * rotation * shear * stretch

So nothing is ever estimated: the pixel of another frame that shows the same point is computed, not searched.

Everything that varies over time is a swing, mean + amplitude * sin(2 pi t / period + phase): smooth, bounded for clips
of any length, and of the same speed in a clip of 8 frames and of 2,000. Geometry is float64 numpy: a pixel changes
sides only if two machines disagree by more than its distance to an edge, about 1e-13 against 1e-1 pixels.
"""

from dataclasses import dataclass

import numpy as np

DIRECTIONS = 2048  # entries of the table radius(angle); 0.08 pixels along the rim of an object of radius 26


def swing(row, times):
    """Value at `times` of one swing; row = (mean, amplitude, period in frames, phase)."""
    mean, amplitude, period, phase = row
    return mean + amplitude * np.sin(2 * np.pi * times / period + phase)


@dataclass(frozen=True)
class Pose:
    """A motion evaluated at some frames; every array has the shape of the frame numbers."""

    centre: tuple  # (y, x)
    matrix: tuple  # A, row by row: (a00, a01, a10, a11), local units -> pixels
    inverse: tuple  # its inverse, pixels -> local units
    waves: tuple  # two of (amplitude, wave number, phase), local units


@dataclass(frozen=True)
class Motion:
    """How a layer moves: the five swings, and two shear waves that travel at a constant rate."""

    centre_y: tuple  # swings: (mean, amplitude, period, phase), pixels
    centre_x: tuple
    angle: tuple  # radians
    log_scale: tuple
    shear: tuple
    radius: float  # pixels per local unit
    stretch: float  # > 1: longer along u, and narrower along v, by this factor; the area stays
    waves: tuple  # two of (amplitude, wave number, phase at frame 0, radians per frame)

    def pose(self, times):
        """Evaluate at frame numbers: one number, or an array that broadcasts against the points ("t 1 1")."""
        centre = swing(self.centre_y, times), swing(self.centre_x, times)
        angle, shear = swing(self.angle, times), swing(self.shear, times)
        size = self.radius * np.exp(swing(self.log_scale, times))
        cos, sin = np.cos(angle) * size, np.sin(angle) * size
        along, across = self.stretch, 1 / self.stretch
        # rotation @ [[1, shear], [0, 1]] @ diag(along, across); its determinant is size ** 2
        matrix = cos * along, (cos * shear - sin) * across, sin * along, (sin * shear + cos) * across
        area = size**2
        inverse = matrix[3] / area, -matrix[1] / area, -matrix[2] / area, matrix[0] / area
        waves = tuple((amplitude, number, phase + rate * times) for amplitude, number, phase, rate in self.waves)
        return Pose(centre, matrix, inverse, waves)


def to_local(pose, y, x):
    """Pixels (y, x) -> local coordinates (u, v); arrays of any one shape."""
    (cy, cx), (i00, i01, i10, i11), ((a1, k1, phi1), (a2, k2, phi2)) = pose.centre, pose.inverse, pose.waves
    dy, dx = y - cy, x - cx
    u = i00 * dy + i01 * dx
    v = i10 * dy + i11 * dx
    u = u - a1 * np.sin(k1 * v + phi1)
    v = v - a2 * np.cos(k2 * u + phi2)
    return u, v


def to_frame(pose, u, v):
    """Local coordinates (u, v) -> pixels (y, x): the exact inverse of `to_local`."""
    (cy, cx), (a00, a01, a10, a11), ((a1, k1, phi1), (a2, k2, phi2)) = pose.centre, pose.matrix, pose.waves
    v = v + a2 * np.cos(k2 * u + phi2)
    u = u + a1 * np.sin(k1 * v + phi1)
    return cy + a00 * u + a01 * v, cx + a10 * u + a11 * v


# Silhouettes: star-shaped regions, rho < radius(angle), kept as a table of radius ** 2 over the angle.


def draw_shape_family(rng):
    """A kind of outline with its parameters; look-alikes share it."""
    kind = ("blob", "polygon", "superellipse", "star")[rng.randint(4)]
    return kind, rng.randint(3, 7), rng.uniform(1.5, 4.0)


def draw_silhouette(rng, family, wobble=1.0):
    """One outline of a family, with its own low harmonics (`wobble` scales them): squared radii, "DIRECTIONS".

    Scaled so that the mean squared radius is one: every silhouette covers pi local units squared.
    """
    kind, corners, exponent = family
    angle = (np.arange(DIRECTIONS) + 0.5) * (2 * np.pi / DIRECTIONS) - np.pi
    if kind == "polygon":
        radius = 1 / np.cos(np.mod(angle, 2 * np.pi / corners) - np.pi / corners)
    elif kind == "superellipse":
        radius = (np.abs(np.cos(angle)) ** exponent + np.abs(np.sin(angle)) ** exponent) ** (-1 / exponent)
    elif kind == "star":
        radius = 1 + 0.22 * np.cos(corners * angle)
    else:
        radius = np.ones(DIRECTIONS)
        wobble = 2 * wobble
    for harmonic in range(2, 6):
        size = wobble * rng.uniform(0.02, 0.16) / harmonic
        radius = radius * (1 + size * np.cos(harmonic * angle + rng.uniform(0, 2 * np.pi)))
    squared = radius**2
    return squared / squared.mean()


def is_inside(silhouette, u, v):
    """Which local points the silhouette covers."""
    direction = (np.arctan2(v, u) + np.pi) * (DIRECTIONS / (2 * np.pi))
    return u * u + v * v < silhouette[direction.astype(np.int32) % DIRECTIONS]


def sample_inside(silhouette, rings=6, spokes=16):
    """Local points (u, v) spread evenly by area over a silhouette: two arrays "rings spokes"."""
    direction = (np.arange(spokes) * DIRECTIONS) // spokes + DIRECTIONS // (2 * spokes)
    angle = (direction + 0.5) * (2 * np.pi / DIRECTIONS) - np.pi
    rho = np.sqrt((np.arange(rings)[:, None] + 0.5) / rings * silhouette[direction])
    return rho * np.cos(angle), rho * np.sin(angle)
