"""Cut-outs: objects of a frame on nothing, as pictures with an alpha channel. Ours."""

import os
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tmrn_edu.data.files import atomic_path
from tmrn_edu.errors import InputError

SURE = 0.1  # what is less probable than this is not there, what is more probable than 1 minus this is there wholly


def cutout(
    frame: UInt8[Tensor | np.ndarray, "H W 3"],
    probabilities: Tensor,  # float, l H W
    objects: Sequence[int] | None = None,
) -> UInt8[Tensor, "H W 4"]:
    """A frame's objects with soft alpha, red green blue alpha.

        p = sum of the objects' probabilities        alpha = 255 clamp((p - 0.1) / 0.8, 0, 1)

    so the faint doubt that a softmax leaves everywhere goes, rims stay soft, and alpha is one half where p is. `probabilities`:
    background, then objects, as `Segmenter.step` and `segment` return them. `objects`: which of them, 1 for the first in the order of
    `object_ids`; None: all. Where alpha is 0 the colour is black: nothing of the background is kept. Rims keep the frame's colours,
    in which some background is mixed. Raises InputError for a frame of another size and objects that do not exist. Source: ours.
    """
    picture = torch.as_tensor(frame).cpu()
    if tuple(picture.shape[:2]) != tuple(probabilities.shape[1:]):
        raise InputError(
            f"the frame is {tuple(picture.shape[:2])}, the probabilities are {tuple(probabilities.shape[1:])} (height, width)"
        )
    there = len(probabilities) - 1
    objects = range(1, there + 1) if objects is None else list(objects)
    wrong = [number for number in objects if not 1 <= number <= there]
    if wrong:
        raise InputError(f"object {wrong[0]} of the probabilities was asked for, they hold 1 to {there}")
    share = reduce(probabilities[list(objects)].cpu().float(), "o H W -> H W", "sum")
    alpha = (255 * ((share - SURE) / (1 - 2 * SURE)).clamp(0, 1)).round().to(torch.uint8)
    alpha = rearrange(alpha, "H W -> H W 1")
    return torch.cat([torch.where(alpha > 0, picture, 0), alpha], dim=-1)


def write_cutout(path: str | os.PathLike, picture: UInt8[Tensor, "H W 4"]) -> None:
    """Writes a cut-out as an RGBA PNG; whole or not at all. Raises InputError where the file cannot be written. Source: ours."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture.numpy()).save(temporary, format="PNG", compress_level=3)
