"""A tiny YouTube-VOS valid split: objects that enter late, frames that nobody asks for, an unseen category."""

import json

import numpy as np
from PIL import Image

from tmrn_edu.data.video import write_mask

SIZE, FRAMES = (20, 30), 13
META = {  # video -> object -> category, frames in which its mask is asked for
    "0a0a": {1: ("sedan", (0, 5, 10)), 4: ("cactus", (5, 10))},  # 4 enters in frame 5
    "0b0b": {3: ("person", (5, 10))},  # nothing before frame 5
}


def boxes(name, t):
    """The true index mask of a frame: each object's box moves a pixel to the right every other frame, from its first frame on."""
    mask = np.zeros(SIZE, dtype=np.uint8)
    for number, (label, (_, frames)) in enumerate(META[name].items()):
        if t >= frames[0]:
            mask[2 + 9 * number : 9 + 9 * number, 3 + t // 2 : 12 + t // 2] = label
    return mask


def required(name):
    """Numbers of the frames that meta.json asks for, ascending."""
    return sorted({t for _, frames in META[name].values() for t in frames})


def truth(name):
    """`t H W`: the true masks of the frames that are asked for."""
    return np.stack([boxes(name, t) for t in required(name)])


def write_meta(folder, meta=None):
    videos = {}
    for name, objects in (META if meta is None else meta).items():
        listed = {
            str(label): {"category": kind, "frames": [f"{t:05}" for t in frames]}
            for label, (kind, frames) in objects.items()
        }
        videos[name] = {"objects": listed}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.json").write_text(json.dumps({"videos": videos}))


def write_valid(root, all_frames="valid_all_frames", full=False, split="valid"):
    """ROOT/valid with each fifth frame, and all frames in ROOT/`all_frames`; full: every mask is there, not the objects' first alone."""
    write_meta(root / split)
    rng = np.random.default_rng(2)
    for name, objects in META.items():
        for t in range(FRAMES):
            picture = Image.fromarray(rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8))
            folders = ([root / split] if t % 5 == 0 else []) + ([root / all_frames] if all_frames else [])
            for folder in folders:
                path = folder / "JPEGImages" / name / f"{t:05}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path)
        for t in required(name):
            fresh = [label for label, (_, frames) in objects.items() if frames[0] == t]
            mask = boxes(name, t)
            if full or fresh:
                shown = mask if full else np.where(np.isin(mask, fresh), mask, 0)
                write_mask(root / split / "Annotations" / name / f"{t:05}.png", shown)
    return root
