"""Synthetic clips: moving shapes whose every pixel has a known path.

A clip is a stack of layers painted over one another: a background, the target, look-alikes that cross it, other
objects, an occluder. Four files, from leaf to whole: `shapes.py` says where a layer's points are in any frame,
`textures.py` what colour they have, `scenes.py` which layers there are, `painting.py` makes pixels of them. This file
puts them together, and answers where the point seen at a pixel is in another frame. Ours; not from a paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int8, UInt8
from torch import Tensor

from ..errors import InputError
from .painting import paint
from .scenes import HIDDEN_FRAMES, LEVELS, TARGET, Scene, draw_scene, inside_frame, passes

__all__ = ["LEVELS", "MAX_OBJECTS", "MIN_SIZE", "TARGET", "Clip", "Correspondence", "make_clip"]

MAX_OBJECTS = 5
MIN_SIZE = 8
MAX_ATTEMPTS = 1000


@dataclass(frozen=True, eq=False)
class Correspondence:
    """Where the points seen at the pixels of one frame are in another."""

    positions: Float[Tensor, "H W 2"]  # (y, x), pixels, centres at integers; exact; may lie outside the frame
    visible: Bool[Tensor, "H W"]  # inside that frame (nearest pixel exists) and on top there


@dataclass(frozen=True, eq=False)
class Clip:
    """A synthetic clip, and the scene it was painted from."""

    frames: UInt8[Tensor, "t H W 3"]  # RGB
    index_masks: UInt8[Tensor, "t H W"]  # 0 background, 1 the target, 2.. further labelled objects
    layers: Int8[Tensor, "t H W"]  # the layer on top: 0 background, 1 target, then every other thing that moves
    scene: Scene  # the closed-form geometry
    seed: int  # as given to make_clip
    level: str  # one of LEVELS

    @property
    def local(self) -> Float[Tensor, "t H W 2"]:
        """Local coordinates (u, v) of what each pixel shows, in units of its layer; computed when asked for.

        With `layers` they name a material point: two pixels with the same layer and local coordinates show the same.
        """
        frames, height, width = self.layers.shape
        local = np.empty((frames, height * width, 2), np.float32)
        for time in range(frames):
            local[time, :, 0], local[time, :, 1] = self.scene.local(time, *self._pixels(time))
        return torch.from_numpy(rearrange(local, "t (H W) uv -> t H W uv", H=height))

    def correspondence(self, query: int, memory: int) -> Correspondence:
        """Where what each pixel of frame `query` shows is in frame `memory`, background included.

            position = forward_memory(backward_query(pixel)), both in closed form

        Positions are float32 "H W 2", (y, x) in pixels, pixel centres at integers, exact and sub-pixel. `visible` is
        True where the position is inside frame `memory` and no other layer covers it there; so the nearest pixel of a
        visible position always exists. Raises ValueError if a frame number is outside the clip. Source: ours.
        """
        self._check(query=query, memory=memory)
        positions, visible = self._track(query, memory, *self._pixels(query))
        height = self.layers.shape[1]
        return Correspondence(
            positions=rearrange(torch.from_numpy(positions), "(H W) yx -> H W yx", H=height),
            visible=rearrange(torch.from_numpy(visible), "(H W) -> H W", H=height),
        )

    def track(
        self, points: Float[Tensor, "n 2"], query: int, memory: int
    ) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, " n"]]:
        """`correspondence` for any points (y, x) of frame `query`, not only pixel centres: (positions, visible)."""
        self._check(query=query, memory=memory)
        y, x = rearrange(points.double().numpy(), "n yx -> yx n")
        positions, visible = self._track(query, memory, self.scene.top(query, y, x), y, x)
        return torch.from_numpy(positions), torch.from_numpy(visible)

    def _pixels(self, time):
        """Layer, y and x of every pixel of a frame, row by row."""
        y, x = rearrange(np.indices(self.layers.shape[1:], dtype=np.float64), "yx H W -> yx (H W)")
        return rearrange(self.layers[time].numpy(), "H W -> (H W)"), y, x

    def _track(self, query, memory, top, y, x):
        y, x, hidden = self.scene.place(memory, top, *self.scene.local(query, top, y, x))
        positions = np.stack([y, x], axis=-1).astype(np.float32)
        return positions, ~hidden & inside_frame(positions[:, 0], positions[:, 1], *self.layers.shape[1:])

    def _check(self, **times):
        for name, time in times.items():
            if not 0 <= time < len(self.layers):
                raise InputError(f"{name} is frame {time}, the clip has frames 0 to {len(self.layers) - 1}")


def make_clip(
    seed: int,
    level: str = "medium",
    frames: int = 8,
    size: tuple[int, int] = (96, 96),
    objects: int = 1,
    pictures: Sequence[UInt8[Tensor, "_ _ 3"]] | None = None,
) -> Clip:
    """Make the synthetic clip of a seed.

    frames: number of frames, any; speeds per frame do not depend on it. size: (H, W), each at least 8; objects and
    motions scale with the shorter side. objects: how many things are labelled in `index_masks`, 1 to 5: the target
    is 1, then look-alikes, then others (added where the level has too few); the rest stays background. pictures: RGB, each
    at least 8 x 8, of any sizes (`photos.bundled_photos()`); about half of the layers' textures are then crops of them, in their own
    colours or moved to others, and those of look-alikes crops of the same picture. Shapes and paths are the same with and without.

    Returns a `Clip` of CPU tensors: frames UInt8 "t H W 3", index_masks UInt8 "t H W", layers Int8 "t H W".
    Equal arguments give equal clips, on every machine: chance comes from numpy's frozen RandomState, and what it
    decides is rounded far from where machines differ. A scene whose target is less than 65 % in sight in frame 0, or
    hidden in more than 20 % of the frames, is drawn again from the same seed.

    Raises ValueError for an unknown level, a size below 8, no frames, too few or too many objects, a seed outside
    [0, 2**64), no picture in `pictures` or one that is too small, or objects that do not fit. Source: ours.
    """
    height, width = size
    if level not in LEVELS:
        raise InputError(f"level is {level!r}, known levels are {', '.join(LEVELS)}")
    if min(height, width) < MIN_SIZE:
        raise InputError(f"size is {height} x {width}, the least is {MIN_SIZE} x {MIN_SIZE}")
    if frames < 1:
        raise InputError(f"frames is {frames}, the least is 1")
    if not 1 <= objects <= MAX_OBJECTS:
        raise InputError(f"objects is {objects}, possible are 1 to {MAX_OBJECTS}")
    if not 0 <= seed < 2**64:
        raise InputError(f"seed is {seed}, possible are 0 to 2**64 - 1")
    if pictures is not None and not len(pictures):
        raise InputError("pictures holds 0 pictures, expected 1 or more, or None for painted textures alone")
    for attempt in range(MAX_ATTEMPTS):
        rng = np.random.RandomState([seed & 0xFFFFFFFF, seed >> 32, LEVELS.index(level), attempt])
        scene = draw_scene(rng, level, height, width, objects)
        if passes(scene, frames, height, width, objects):
            break
    else:
        raise InputError(
            f"{objects} labelled objects do not fit {height} x {width} pixels: in {MAX_ATTEMPTS} draws ({level}, seed "
            f"{seed}) none kept all of them in sight in frame 0 and the target in {1 - HIDDEN_FRAMES:.0%} of the frames"
        )
    images, tops = paint(rng, scene, frames, height, width, pictures)
    index_masks = np.where(tops <= objects, tops, 0).astype(np.uint8)
    return Clip(
        frames=torch.from_numpy(images),
        index_masks=torch.from_numpy(index_masks),
        layers=torch.from_numpy(tops),
        scene=scene,
        seed=seed,
        level=level,
    )
