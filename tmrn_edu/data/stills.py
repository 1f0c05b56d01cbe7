"""Single pictures with a mask of one object, which the first stage of training warps into short clips.

    DUTS        DUTS-TR/DUTS-TR-Image/x.jpg, DUTS-TR/DUTS-TR-Mask/x.png; DUTS-TE alike       folders named alike
    ECSSD       images/0001.jpg, ground_truth_mask/0001.png                                  folders named alike
    HRSOD       HRSOD_train/x.jpg, HRSOD_train_mask/x.png                                    folders named alike
    BIG         x_im.jpg, x_gt.png (and x_seg.png, somebody's prediction: not read)          one folder
    FSS-1000    abacus/1.jpg, abacus/1.png ... a folder for each of 1000 classes             classes
    STCN, XMem  static/{fss, DUTS-TR, DUTS-TE, ecssd, BIG_small, HRSOD_small}: fss as FSS-1000, x.jpg + x.png in the others
    your own    any of these: x.jpg + x.png in one folder, or pictures and masks in folders such as images and masks

A mask is white where the object is: whatever its mode, it is turned to grey, and above 127 is object 1. Pixels are taken
as stored, EXIF does not turn them. BIG and HRSOD are visited five times in an epoch, as the authors' code does.
Source of the layouts, looked up: STCN's and XMem's by XMem:train.py and dataset/static_dataset.py; FSS-1000, DUTS and ECSSD by
CascadePSP:scripts/download_training_dataset.py; BIG by CascadePSP:docs/testing_segmentation.md; HRSOD by users of it only.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tmrn_edu.data.files import DAMAGED, reason
from tmrn_edu.data.listing import Flaw, Listed, Listing
from tmrn_edu.data.pictures import JPEG, PNG, folder_name, pictures_in, read_frame
from tmrn_edu.errors import InputError

IMAGE_WORDS = {"image", "images", "img", "imgs", "im", "photo", "photos", "picture", "pictures"}
MASK_WORDS = {"mask", "masks", "gt", "ground", "truth", "groundtruth", "label", "labels", "annotation", "annotations"}
PUBLISHED = re.compile(r"duts|ecssd|big([_ -]|$)|hrsod|msra|fss|fewshot", re.IGNORECASE)  # data sets known by name
OFTEN = re.compile(
    r"(^|[/ ])(big([_ -]|$)|hrsod)", re.IGNORECASE
)  # few and large pictures, visited five times in an epoch
GENERAL = {
    "train",
    "training",
    "test",
    "val",
    "valid",
    "validation",
    "data",
    "pictures",
    "stills",
}  # say little as names

# Pairs whose picture and mask do not fit as published (HKUSTCV/FSS-1000, issues 8, 23, 25): passed over, not refused.
FLAWED = frozenset(
    "peregine_falcon/8 rubber_eraser/8 shower_curtain/3 crt_screen/6 rocking_chair/9 screw/8 ruler/10".split()
)
# DUTS-TR before its correction has two masks of these; the PNG is wrong (notes of 2018-01-22 on its page).
JPEG_IS_RIGHT = {"ILSVRC2014_train_00023530", "n01532829_13482", "n04442312_17818"}


MOST_LABELS = 16  # a mask with more of them, or larger ones, shows brightness


@dataclass(frozen=True)
class Still:
    """One picture and its mask: a video of one frame."""

    name: str  # "abacus/1"
    frame_path: Path
    mask_path: Path
    size: tuple[int, int]  # (H, W) of both

    def __len__(self) -> int:
        """One."""
        return 1

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """The picture as RGB; `t` is 0. Raises InputError when the file is damaged behind its header."""
        self._only(t)
        return read_frame(self.frame_path)

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """0 background, 1 the object; `t` is 0. Raises InputError as `frame` does."""
        self._only(t)
        return read_white(self.mask_path)

    def _only(self, t):
        if t != 0:
            raise IndexError(f"frame {t} of a still, which has only frame 0")


def read_white(path: Path) -> UInt8[Tensor, "H W"]:
    """The mask of a still: 1 on the object, else 0.

    Grey and colour: brighter than 127 of 255 (of colours, the brightest channel). Two kinds of files hold labels instead, of which all but 0 are the
    object: palette images of at most 16 labels, and grey ones without a value above 16. Raises InputError for a missing or damaged file.
    Source: XMem:dataset/static_dataset.py (grey, above one half), which is the same for the published sets; colours and labels are ours.
    """
    try:
        with Image.open(path) as picture:
            stored = np.asarray(picture if picture.mode in ("P", "1", "L") else picture.convert("RGB"))
            labels = picture.mode == "1" or (picture.mode == "P" and len(np.unique(stored)) <= MOST_LABELS)
            values = stored if labels or picture.mode == "L" else np.asarray(picture.convert("RGB"))
        if values.ndim == 3:
            values = values.max(axis=-1)
        labels = labels or values.max() <= MOST_LABELS
        return torch.from_numpy((values > (0 if labels else 127)).astype(np.uint8))
    except DAMAGED as error:
        raise InputError(f"cannot read mask {path}: {reason(error)}") from error


def list_flat(folder: Path) -> Listing | None:
    """Pictures and masks side by side: x.jpg + x.png, or x_im.jpg + x_gt.png; None where there is no such pair."""
    files = pictures_in(folder)
    masks = {path.stem[:-3]: path for path in files if path.stem.endswith("_gt") and path.suffix.lower() in PNG}
    frames = {path.stem[:-3]: path for path in files if path.stem.endswith("_im") and path.stem[:-3] in masks}
    if frames:  # as BIG
        return _listing(folder, "x_im.jpg + x_gt.png in one folder", frames, masks)
    masks = {path.stem: path for path in files if path.suffix.lower() in PNG}
    # FSS-1000 has some pictures twice, as .jpg and .jpeg: the masks belong to the .jpg.
    frames = _preferring(JPEG[0], [path for path in files if path.suffix.lower() in JPEG])
    if not frames.keys() & masks.keys():
        return None
    return _listing(folder, "x.jpg + x.png in one folder", frames, masks)


def list_siblings(parent: Path, folders: list[Path]) -> list[tuple[Listing, Path, Path]]:
    """Pairs of `folders` whose names differ only by words for "image" and "mask", with pictures in one and masks in the other.

    Returns each listing with its two folders. DUTS-TR-Image and DUTS-TR-Mask, HRSOD_train and HRSOD_train_mask, images and ground_truth_mask.
    """
    groups = {}
    for folder in folders:
        words = [word for word in re.split(r"[-_ .]+", folder.name.lower()) if word]
        key = tuple(word for word in words if word not in IMAGE_WORDS | MASK_WORDS)
        side = "mask" if MASK_WORDS & set(words) else "image"
        groups.setdefault(key, {}).setdefault(side, []).append(folder)
    found = []
    for key, sides in groups.items():
        if [len(sides.get(side, ())) for side in ("image", "mask")] != [1, 1]:
            continue
        (images,), (masks,) = sides["image"], sides["mask"]
        if list_flat(images):  # a data set of its own
            continue
        name = re.sub(r"[-_ .]+(%s)$" % "|".join(IMAGE_WORDS), "", images.name, flags=re.IGNORECASE) if key else ""
        frames = _preferring(JPEG[0], pictures_in(images))
        wanted = _preferring(PNG[0], pictures_in(masks))
        wanted.update({path.stem: path for path in pictures_in(masks, JPEG) if path.stem in JPEG_IS_RIGHT})
        if not frames.keys() & wanted.keys():  # names such as x_mask.png and x_gt.png
            wanted = {re.sub(r"[-_](gt|mask)$", "", stem, flags=re.IGNORECASE): path for stem, path in wanted.items()}
        if frames.keys() & wanted.keys():
            listing = _listing(parent, f"pictures in {images.name}, masks in {masks.name}", frames, wanted)
            found.append((replace(listing, name=name, repeat=_repeat(name)) if name else listing, images, masks))
    return found


def merge_classes(root: Path, listings: list[Listing]) -> Listing:
    """One listing of many folders of pairs, as FSS-1000 has them; stills are named by folder and file."""
    videos, flaws = [], []
    for one in listings:
        videos += [replace(listed, name=f"{one.root.name}/{listed.name}") for listed in one.videos]
        flaws += [replace(flaw, video=f"{one.root.name}/{flaw.video}") for flaw in one.flaws]
    return Listing(
        name=set_name(root),
        kind="stills",
        layout=f"x.jpg + x.png in {len(listings)} folders",
        root=root,
        videos=tuple(videos),
        open=_open,
        repeat=_repeat(set_name(root)),
        flaws=tuple(flaws),
        known=FLAWED,
    )


def set_name(folder: Path) -> str:
    """The name of a data set in a folder; a folder that is called "test" or the like gets its parent's name too."""
    name, parent = folder_name(folder), folder_name(folder.absolute().parent)
    return f"{parent} {name}" if name.lower() in GENERAL and parent else name


def _listing(root, layout, frames, masks):
    stems = [stem for stem in frames if stem in masks]
    flaws = [Flaw(path, "has no mask", stem) for stem, path in frames.items() if stem not in masks]
    flaws += [Flaw(path, "has no picture", stem) for stem, path in masks.items() if stem not in frames]
    return Listing(
        name=set_name(root),
        kind="stills",
        layout=layout,
        root=root,
        videos=tuple(Listed(stem, (frames[stem],), (masks[stem],)) for stem in stems),
        open=_open,
        repeat=_repeat(set_name(root)),
        flaws=tuple(flaws),
    )


def _preferring(suffix, paths):
    """{stem: path}; of files with one stem that with `suffix`."""
    found = {}
    for path in paths:
        if path.stem not in found or path.suffix.lower() == suffix:
            found[path.stem] = path
    return found


def _repeat(name):
    return 5 if OFTEN.search(name) else 1


def _open(listed, size):
    return Still(listed.name, listed.frames[0], listed.masks[0], size)
