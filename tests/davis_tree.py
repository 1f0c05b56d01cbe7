"""A tiny folder in the layout of DAVIS, for the tests of evaluation: boxes that move over noise."""

import numpy as np
from PIL import Image

from tmrn_edu.data.video import write_mask

SIZE = (20, 26)


def index_masks(frames, objects, size=SIZE):
    """Boxes 1.. of 6 x 7 pixels, a step to the right in every frame; `frames H W` uint8."""
    masks = np.zeros((frames, *size), dtype=np.uint8)
    for t in range(frames):
        for label in range(1, objects + 1):
            masks[t, 2 + 8 * (label - 1) : 8 + 8 * (label - 1), 2 + t : 9 + t] = label
    return masks


def write_sequence(root, name, masks, resolution="480p"):
    """JPEG frames and palette PNGs of one sequence."""
    rng = np.random.default_rng(1)
    frames = root / "JPEGImages" / resolution / name
    frames.mkdir(parents=True, exist_ok=True)
    for t, mask in enumerate(masks):
        Image.fromarray(rng.integers(0, 256, (*mask.shape, 3), dtype=np.uint8)).save(frames / f"{t:05}.jpg")
        write_mask(root / "Annotations" / resolution / name / f"{t:05}.png", mask)


def write_list(root, path, lines):
    """A text file below ImageSets."""
    file = root / "ImageSets" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(lines) + "\n")


def write_davis(root):
    """DAVIS 2017: `pair` (2 objects, 6 frames) and `single` (1 object, 5 frames, another size)."""
    write_sequence(root, "pair", index_masks(6, 2))
    write_sequence(root, "single", index_masks(5, 1, size=(18, 30)))
    write_list(root, "2017/val.txt", ["pair", "single"])
    return root


def write_test_dev(root):
    """DAVIS 2017 test-dev: `pair` with all 6 frames, and the mask of the first alone."""
    masks = index_masks(6, 2)
    write_sequence(root, "pair", masks)
    for t in range(1, 6):
        (root / "Annotations/480p/pair" / f"{t:05}.png").unlink()
    write_list(root, "2017/test-dev.txt", ["pair"])
    return root
