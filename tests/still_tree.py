"""Tiny folders in the layouts of still data sets and of YouTube-VOS, for the tests of training data."""

import numpy as np
from PIL import Image

from tmrn_edu.data.video import write_mask

SIZE = (12, 17)


def write_picture(path, size=SIZE, seed=1):
    """Noise, as JPEG or PNG by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def disc(size=SIZE):
    """0 and 1: a box in the middle."""
    mask = np.zeros(size, dtype=np.uint8)
    mask[3:9, 4:12] = 1
    return mask


def write_white(path, size=SIZE, mode="L"):
    """The box in white on black, in any mode of Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(disc(size) * 255).convert(mode).save(path)


def write_pairs(folder, stems, masks=None, frame="{}.jpg", mask="{}.png"):
    """Pictures in `folder`, their masks in `masks` or beside them."""
    for stem in stems:
        write_picture(folder / frame.format(stem))
        write_white((masks or folder) / mask.format(stem))


def write_youtube(root, videos, step=5, all_frames=False):
    """`videos`: {name: number of masks}; the mask of number t has object 1, from the second on object 2 as well."""
    for name, count in videos.items():
        for t in range(0, (count - 1) * step + 1, 1 if all_frames else step):
            write_picture(root / "JPEGImages" / name / f"{t:05}.jpg", seed=t)
        for t in range(count):
            mask = disc()
            if t:
                mask[:2, :2] = 2
            write_mask(root / "Annotations" / name / f"{t * step:05}.png", mask)
    return root
