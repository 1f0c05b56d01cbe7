"""Colour jitter, as torchvision's ColorJitter and RandomGrayscale mean it.

Brightness, contrast, saturation and grey are affine in RGB, so a chain of them is one 3 x 3 matrix and an offset, applied to the pixels
once; only a shift of the hue stands between two chains. Values are cut to [0, 1] at the end of a chain, torchvision does so after each link.
"""

from dataclasses import dataclass

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from numpy.random import Generator
from torch import Tensor

from tmrn_edu.errors import InputError

LUMA = (0.299, 0.587, 0.114)  # grey = LUMA . RGB (ITU-R BT.601, as Pillow)


@dataclass(frozen=True)
class Brightness:
    """rgb -> factor rgb."""

    factor: float

    def linear(self, mean):
        """(matrix, offset) for a picture of this mean colour."""
        return self.factor * torch.eye(3), torch.zeros(3)


@dataclass(frozen=True)
class Contrast:
    """rgb -> factor rgb + (1 - factor) mean grey of the picture."""

    factor: float

    def linear(self, mean):
        """As in `Brightness`."""
        return self.factor * torch.eye(3), ((1 - self.factor) * torch.dot(torch.tensor(LUMA), mean)).expand(3)


@dataclass(frozen=True)
class Saturation:
    """rgb -> factor rgb + (1 - factor) grey of the pixel; factor 0 is grey."""

    factor: float

    def linear(self, mean):
        """As in `Brightness`."""
        return self.factor * torch.eye(3) + (1 - self.factor) * torch.tensor(LUMA).expand(3, 3), torch.zeros(3)


@dataclass(frozen=True)
class Hue:
    """The hue turned by `turns` of the colour circle, in HSV."""

    turns: float


Colour = Brightness | Contrast | Saturation | Hue


@dataclass(frozen=True)
class Jitter:
    """How far colours are changed: factors uniform in [max(0, 1 - x), 1 + x], the hue by up to `hue` turns; in random order."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # 0 to 0.5

    def __post_init__(self):
        for name, value in vars(self).items():
            most = 0.5 if name == "hue" else float("inf")
            if not 0 <= value <= most:
                raise InputError(f"{name} is {value}, expected 0 {'to 0.5 turns' if name == 'hue' else 'or more'}")

    def draw(self, rng: Generator) -> tuple[Colour, ...]:
        """One draw; what has range 0 is left out. Source: torchvision's ColorJitter."""
        kinds = ((Brightness, self.brightness), (Contrast, self.contrast), (Saturation, self.saturation))
        drawn = [kind(rng.uniform(max(0.0, 1 - most), 1 + most)) for kind, most in kinds if most]
        drawn += [Hue(rng.uniform(-self.hue, self.hue))] if self.hue else []
        return tuple(drawn[i] for i in rng.permutation(len(drawn)))


def recolour(frame: Float[Tensor, "3 H W"], colours: tuple[Colour, ...]) -> Float[Tensor, "3 H W"]:
    """The frame, RGB in [0, 1], after all colour changes in their order, in [0, 1] again. Source: ours (see the top of the file)."""
    matrix, offset, mean = torch.eye(3), torch.zeros(3), None
    for colour in colours:
        if isinstance(colour, Hue):
            frame = shift_hue(_apply(frame, matrix, offset), colour.turns)
            matrix, offset, mean = torch.eye(3), torch.zeros(3), None
            continue
        mean = reduce(frame, "c H W -> c", "mean") if mean is None else mean
        link, shift = colour.linear(mean)
        matrix, offset, mean = link @ matrix, link @ offset + shift, link @ mean + shift
    return _apply(frame, matrix, offset)


def shift_hue(frame: Float[Tensor, "3 H W"], turns: float) -> Float[Tensor, "3 H W"]:
    """Every pixel's hue turned by `turns` of the circle; HSV value and saturation stay.

        channel n of (5, 3, 1) = v - c clamp(min(k, 4 - k), 0, 1),  k = (n + 6 hue) mod 6,  v = max, c = max - min

    Grey pixels have no hue and stay. Source: the usual conversion to and from HSV (Smith, 1978).
    """
    red, green, blue = frame
    most, least = frame.amax(dim=0), frame.amin(dim=0)
    chroma = most - least
    sixths = torch.where(most == green, (blue - red).add_(chroma, alpha=2), (red - green).add_(chroma, alpha=4))
    sixths = torch.where(most == red, green - blue, sixths).div_(chroma.clamp_min(1e-8))
    k = rearrange(torch.tensor((5.0, 3.0, 1.0)) + 6 * turns, "c -> c 1 1") + sixths
    ramp = k.remainder_(6).sub_(2).abs_().neg_().add_(2).clamp_(0, 1)  # min(k, 4 - k) = 2 - |k - 2|
    return ramp.mul_(chroma).neg_().add_(most)


def _apply(frame, matrix, offset):
    flat = torch.addmm(rearrange(offset, "c -> c 1"), matrix, rearrange(frame, "c H W -> c (H W)")).clamp_(0, 1)
    return rearrange(flat, "c (H W) -> c H W", H=frame.shape[1])
