"""Real pictures as textures of synthetic clips: those that come with matplotlib, and frames of videos and stills.

    clip = make_clip(3, "hard", pictures=bundled_photos())

A clip with such textures has exact paths and masks like any other; only its colours are from the world. Everything here is ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tmrn_edu.data.sets import Video, VideoSet
from tmrn_edu.data.synthetic import Clip
from tmrn_edu.data.video_clips import SyntheticVideo, kept_clip, synthetic_set
from tmrn_edu.errors import InputError

FRAMES = 200  # pictures taken from sets, at most


def bundled_photos() -> tuple[UInt8[Tensor, "_ _ 3"], ...]:
    """Five pictures that come with matplotlib, RGB, 150 to 480 pixels a side; no download.

    A flag, cut from a photograph (of Grace Hopper, U.S. Navy, public domain), and four views of real ground, from elevation models lit from one
    side: a fault in Tennessee and a coast, each in two ranges of colours. Source: matplotlib's sample data, and its `LightSource`.
    """
    return _bundled()


@cache
def _bundled():
    from matplotlib import colormaps  # here, since training imports this file and draws nothing
    from matplotlib.cbook import get_sample_data
    from matplotlib.colors import LightSource

    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        photo = np.array(picture.convert("RGB"))
    found = [photo[:330, :150]]  # without the face: nobody wants to see it cut to shapes
    # file, what it holds, colours, direction of the light in degrees, height per side of a pixel, how much larger
    grounds = (
        ("jacksboro_fault_dem.npz", "elevation", "gist_earth", 315, 0.05, 1),
        ("jacksboro_fault_dem.npz", "elevation", "copper", 225, 0.05, 1),
        ("topobathy.npz", "topo", "terrain", 315, 0.005, 4),
        ("topobathy.npz", "topo", "pink", 45, 0.005, 4),
    )
    for name, key, colours, azimuth, steepness, larger in grounds:
        with get_sample_data(name) as file:
            height = np.asarray(file[key], dtype=np.float32)
        light = LightSource(azdeg=azimuth, altdeg=45)
        shaded = light.shade(height, cmap=colormaps[colours], blend_mode="overlay", vert_exag=steepness)[..., :3]
        picture = Image.fromarray((255 * shaded + 0.5).astype(np.uint8))
        size = (larger * picture.width, larger * picture.height)
        found.append(np.array(picture.resize(size, Image.Resampling.BICUBIC)))
    return tuple(torch.from_numpy(np.ascontiguousarray(picture)) for picture in found)


@dataclass(frozen=True, eq=False)
class Frames(Sequence):
    """Frames of videos as a sequence of pictures, read when asked for; it holds paths and numbers only."""

    places: tuple[tuple[Video, int], ...]  # video and frame of each picture

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.places)

    def __getitem__(self, index: int) -> UInt8[Tensor, "_ _ 3"]:
        """Picture `index` as RGB."""
        video, t = self.places[index]
        return video.frame(t)


def frames_of(sets: Sequence[VideoSet]) -> Frames:
    """Up to 200 pictures of these sets, spread evenly: every still, and of every video frames as far from one another as its share allows.

    Raises InputError where the sets hold nothing. Source: ours.
    """
    videos = [video for one in sets for video in one.videos]
    if not videos:
        raise InputError(
            f"{len(sets)} sets with 0 videos and stills were given, expected pictures to cut textures from"
        )
    chosen = videos[:: -(-len(videos) // FRAMES)]
    share = FRAMES // len(chosen)
    places = [
        (video, (2 * i + 1) * len(video) // (2 * count))
        for video in chosen
        for count in (min(share, len(video)),)
        for i in range(count)
    ]
    return Frames(tuple(places))


@dataclass(frozen=True)
class TexturedVideo(SyntheticVideo):
    """A `SyntheticVideo` some of whose textures are cut from pictures."""

    pictures: Frames | None = None

    @property
    def name(self) -> str:
        """ "textured 10000003"."""
        return f"textured {self.seed}"

    @property
    def clip(self) -> Clip:
        """The clip with its exact paths."""
        return kept_clip(self.seed, self.level, self.length, self.size, self.objects, self.pictures)


def textured_set(count: int, pictures: Frames, seed: int = 0, **options) -> VideoSet:
    """`synthetic_set` (same seeds, levels, options and errors) with textures from pictures."""
    plain = synthetic_set(count, seed=seed, **options)
    return VideoSet(
        "textured", "video", tuple(TexturedVideo(**vars(video), pictures=pictures) for video in plain.videos)
    )
