"""Procedural textures: what the layers of a synthetic clip are painted with.

A FAMILY is a kind of pattern, its period and its colours; an INSTANCE is one table of colours drawn from it, with new
noise and phases. Two instances of one family look alike without being equal: that is what a distractor is.

A table is made of three scalar fields, each about [-1, 1], mixed by a colour matrix M (3 x 3):

    colour = mean + M (pattern, coarse noise, fine noise)

and rounded to uint8. It is finer than the pixels of the frame, and read at the nearest entry: integers all the way, so
the result does not depend on how a machine rounds.

Where there are real pictures, an instance may be a crop of one instead (`draw_look`, `crop_table`); look-alikes are then other crops of
the same picture.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..errors import InputError

PICTURES = 0.5  # share of the families that are crops of pictures, where there are any
LEAST = 8  # rows and columns of a picture, and of a table


@dataclass(frozen=True)
class Family:
    """What look-alikes have in common."""

    kind: str  # a key of PATTERNS
    period: float  # of the pattern, in units (pixels of a 96 x 96 frame)
    angle: float  # of the pattern, radians
    mean: tuple  # RGB, 0 to 255
    matrix: np.ndarray  # 3 x 3: what each field adds to RGB


def value_noise(rng, coordinates, spacing):
    """Random values on a square lattice, smoothly interpolated onto the grid coordinates x coordinates, in [-1, 1]."""
    position = (coordinates - coordinates[0]) / spacing + rng.uniform(0, 1)
    cell = np.floor(position).astype(np.int64)
    step = position - cell
    step = step * step * (3 - 2 * step)
    weights = np.zeros((len(coordinates), cell[-1] + 2))
    rows = np.arange(len(coordinates))
    weights[rows, cell], weights[rows, cell + 1] = 1 - step, step
    lattice = rng.uniform(-1, 1, (cell[-1] + 2, cell[-1] + 2))
    return weights @ lattice @ weights.T


def _steep(field, slope=3.0):
    """A wave made nearly square: flat colours with soft borders."""
    return np.clip(slope * field, -1, 1)


# Each pattern: (y, x in periods, a coarse noise to bend it with) -> field in [-1, 1]; the phase of y, x is random.
_TURN = 2 * np.pi
PATTERNS = {
    "clouds": lambda y, x, noise: np.clip(1.8 * noise, -1, 1),
    "patches": lambda y, x, noise: np.clip(np.round(3 * noise) / 1.5, -1, 1),
    "fur": lambda y, x, noise: np.sin(_TURN * (2 * y + 0.8 * noise)) * np.sin(_TURN * 0.3 * (x + y)),
    "marble": lambda y, x, noise: np.sin(_TURN * (0.7 * y + 0.9 * noise)),
    "stripes": lambda y, x, noise: _steep(np.sin(_TURN * (y + 0.15 * noise))),
    "waves": lambda y, x, noise: _steep(np.sin(_TURN * (y + 0.25 * np.sin(_TURN * 0.5 * x)))),
    "checker": lambda y, x, noise: _steep(np.sin(np.pi * y) * np.sin(np.pi * x), 5.0),
    "spots": lambda y, x, noise: _steep(np.cos(_TURN * y) + np.cos(_TURN * (x + 0.2 * noise)) - 0.5, 2.0),
    "rings": lambda y, x, noise: _steep(np.sin(_TURN * (np.sqrt(y * y + x * x) + 0.1 * noise)), 2.0),
    "plaid": lambda y, x, noise: 0.5 * _steep(np.sin(_TURN * y)) + 0.5 * _steep(np.sin(_TURN * x)),
    "bricks": lambda y, x, noise: np.where(
        (np.mod(2 * y, 1) < 0.14) | (np.mod(x + 0.5 * np.mod(np.floor(2 * y), 2), 1) < 0.07), -1.0, 0.3 + 0.7 * noise
    ),
}


def _rgb(hue, saturation, value):
    """One colour from hue, saturation, value (all in [0, 1]): RGB, 0 to 255."""
    offset = np.mod(np.array([5.0, 3.0, 1.0]) + 6 * hue, 6)
    return 255 * value * (1 - saturation * np.clip(np.minimum(offset, 4 - offset), 0, 1))


def _draw_family(rng):
    hue = rng.uniform()
    mean = _rgb(hue, rng.uniform(0.25, 0.8), rng.uniform(0.4, 0.8))
    # The pattern swings the mean towards another colour: darker or lighter, of a hue nearby.
    other = _rgb(hue + rng.uniform(-0.15, 0.15), rng.uniform(0.1, 0.8), rng.uniform(0.2, 1.0))
    pattern = other - mean
    pattern = pattern * (rng.uniform(35, 70) / max(np.linalg.norm(pattern) / np.sqrt(3), 1.0))
    coarse, fine = rng.normal(0, 18, 3), np.full(3, rng.uniform(8, 28))
    kind = tuple(PATTERNS)[rng.randint(len(PATTERNS))]
    return Family(
        kind, rng.uniform(7, 18), rng.uniform(0, np.pi), tuple(mean), np.stack([pattern, coarse, fine], axis=1)
    )


def draw_family(rng, unlike=(), candidates=1):
    """Draw a family: of `candidates` draws, the one that differs most from every family in `unlike`.

    Difference: distance of mean colours in RGB, plus 40 for another kind of pattern. Two candidates are a nudge, eight
    make a thing that cannot be mistaken.
    """

    def difference(family):
        gaps = [
            np.linalg.norm(np.subtract(family.mean, known.mean)) + 40 * (family.kind != known.kind) for known in unlike
        ]
        return min(gaps, default=0.0)

    return max([_draw_family(rng) for _ in range(candidates)], key=difference)


def draw_table(rng, family, half_width, resolution, jitter=4.0):
    """One instance of a family: uint8 "n n 3", covering [-half_width, half_width] units in u and v.

    `resolution` is entries per unit; `jitter` the standard deviation of the instance's own shift of the mean colour.
    """
    count = max(LEAST, int(np.ceil(2 * half_width * resolution)))
    grid = (np.arange(count) + 0.5) * (2 * half_width / count) - half_width
    coarse = value_noise(rng, grid, 2.0 * family.period)
    middle = value_noise(rng, grid, 0.8 * family.period)
    fine = value_noise(rng, grid, 2.5)
    angle = family.angle + rng.uniform(-0.2, 0.2)
    cos, sin = np.cos(angle) / family.period, np.sin(angle) / family.period
    shift_y, shift_x = rng.uniform(-1, 1, 2)
    y = (shift_y + cos * grid)[:, None] + (sin * grid)[None, :]
    x = (shift_x - sin * grid)[:, None] + (cos * grid)[None, :]
    noise = 0.65 * coarse + 0.35 * middle
    pattern = PATTERNS[family.kind](y, x, noise)
    fields = np.stack([pattern, 0.6 * coarse + 0.4 * middle, 0.4 * middle + 0.6 * fine], axis=-1)
    mean = np.asarray(family.mean) + rng.normal(0, jitter, 3)
    return np.clip(np.round(mean + fields @ family.matrix.T), 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Look:
    """A family that is cut from a picture."""

    picture: np.ndarray  # uint8 "H W 3"
    zoom: float  # pixels of the picture's shorter side, as a share of it, that 96 units show
    shift: np.ndarray  # RGB, added to every colour


def draw_look(rng, family, pictures):
    """A picture for a family, with its own zoom, in its own colours or moved to the family's mean colour; None for a family as it is."""
    if rng.uniform() >= PICTURES:
        return None
    number = rng.randint(len(pictures))
    picture = np.asarray(pictures[number])
    if picture.ndim != 3 or picture.shape[2] != 3 or min(picture.shape[:2]) < LEAST:
        came = " x ".join(map(str, picture.shape))
        raise InputError(f"picture {number} is {came}, expected RGB of at least {LEAST} x {LEAST} x 3")
    zoom, recoloured = np.exp(rng.uniform(np.log(0.5), np.log(1.2))), rng.uniform() < 0.5
    shift = np.subtract(family.mean, picture.mean(axis=(0, 1))) if recoloured else np.zeros(3)
    return Look(picture, zoom, shift)


def crop_table(rng, look, half_width, resolution, jitter=4.0):
    """One instance of a look, as `draw_table`: a random square of its picture, as large as the zoom asks for and the picture has."""
    count = max(LEAST, int(np.ceil(2 * half_width * resolution)))
    height, width = look.picture.shape[:2]
    side = int(min(max(LEAST, round(look.zoom * min(height, width) * 2 * half_width / 96)), height, width))
    top, left = (rng.randint(length - side + 1) for length in (height, width))
    crop = Image.fromarray(np.ascontiguousarray(look.picture[top : top + side, left : left + side]))
    table = np.asarray(crop.resize((count, count), Image.Resampling.BILINEAR)).astype(np.float64)
    return np.clip(np.round(table + look.shift + rng.normal(0, jitter, 3)), 0, 255).astype(np.uint8)
