"""DAVIS 2016 and 2017 folders: which sequences a split has, and where their frames and masks lie.

    ROOT/ImageSets/2017/val.txt             names of sequences, one a line (ImageSets/2016 alike)
    ROOT/ImageSets/480p/val.txt             DAVIS 2016 as first published: lines of "/JPEGImages/... /Annotations/..."
    ROOT/JPEGImages/480p/bear/00000.jpg     frames
    ROOT/Annotations/480p/bear/00000.png    their masks, same stem: palette PNG whose values are object ids

DAVIS 2016 has one object a sequence: whatever is not background is merged into object 1. The splits test-dev and
test-challenge of DAVIS 2017 have the first frame's mask alone: a server scores them. Everything is checked when
the folder is opened, so that a missing or odd file is named at once and not an hour into a run.
Source: Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv:1704.00675.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from tmrn_edu.data.files import DAMAGED, natural_key, reason, to_rgb
from tmrn_edu.data.video import read_mask
from tmrn_edu.errors import InputError

FIRST_MASKS_ONLY = ("test-dev", "test-challenge")  # splits that a server scores


@dataclass(frozen=True)
class Sequence:
    """One DAVIS sequence: checked paths, read on demand, frame by frame."""

    name: str  # "bear"
    frame_paths: tuple[Path, ...]  # JPEGs in order
    mask_paths: tuple[Path, ...]  # the PNG of each frame; of the first one alone where a server keeps the others
    size: tuple[int, int]  # (H, W) of every frame and mask
    object_ids: tuple[int, ...]  # objects of the first mask: the ones DAVIS asks for
    merge_objects: bool = False  # True for DAVIS 2016: anything that is not background is object 1

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frame_paths)

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """Frame `t` as RGB. Raises InputError when the file is damaged behind its header."""
        try:
            with Image.open(self.frame_paths[t]) as picture:
                return torch.from_numpy(to_rgb(picture))
        except DAMAGED as error:
            raise InputError(f"cannot read frame {self.frame_paths[t]}: {reason(error)}") from error

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """Index mask of frame `t`: 0 background, else the object's id; 255 (void) stays, except in DAVIS 2016."""
        index = read_mask(self.mask_paths[t], empty_ok=True).index
        return (index != 0).to(torch.uint8) if self.merge_objects else index

    def frames(self) -> UInt8[Tensor, "t H W 3"]:
        """All frames at once: 1.2 MB each at 480x854."""
        return torch.stack([self.frame(t) for t in range(len(self))])

    def masks(self) -> UInt8[Tensor, "t H W"]:
        """All index masks at once."""
        return torch.stack([self.mask(t) for t in range(len(self.mask_paths))])

    # What `evaluate` asks of a video; `youtube_vos_valid.ValidVideo` answers the same.

    @property
    def has_truth(self) -> bool:
        """Whether all frames have their mask, so that a prediction can be scored here."""
        return len(self.mask_paths) == len(self.frame_paths)

    @property
    def enters(self) -> dict[int, int]:
        """Object id -> the frame whose mask shows it first: 0 for all objects of DAVIS."""
        return dict.fromkeys(self.object_ids, 0)

    @property
    def required(self) -> dict[int, str]:
        """Frame -> name of the mask that is asked for: here one for every frame."""
        paths = self.mask_paths if self.has_truth else [path.with_suffix(".png") for path in self.frame_paths]
        return {t: path.name for t, path in enumerate(paths)}

    def given(self, t: int) -> UInt8[Tensor, "H W"] | None:
        """The mask that a method gets with frame `t`: the first frame's, with its objects alone."""
        return only_objects(self.mask(0), self.object_ids) if t == 0 else None

    def truth(self) -> UInt8[Tensor, "t H W"]:
        """The masks of the frames that are asked for, as they are: void and objects that enter later among them."""
        return self.masks()


def open_davis(
    root: str | Path,
    year: int = 2017,
    split: str = "val",
    sequences: Iterable[str] | None = None,
    resolution: str = "480p",
) -> list[Sequence]:
    """The sequences of a DAVIS split, every file of them found and its size compared.

    root: the folder with ImageSets, JPEGImages and Annotations. year: 2016 (one merged object) or 2017. split: the
    name of a list, "train", "val". sequences: take only these, in this order. resolution: the folder below
    JPEGImages and Annotations, "480p", "1080p" or "Full-Resolution".

    The lists of 2016 are looked for in ImageSets/2016, then ImageSets/`resolution` (pairs of paths), then
    ImageSets/2017: copies in the newer layout often have only that one. `list_file` says which was taken.

    A sequence of the splits in FIRST_MASKS_ONLY may have the first frame's mask alone (`Sequence.has_truth` is False then).

    Raises InputError naming what was expected and what is there: no such folder, list or sequence; a frame without
    mask or the reverse; a size that differs inside a sequence; a file that is no picture; a first mask without
    objects. Source: the folders as published; the search for lists is ours.
    """
    root = Path(root)
    path = list_file(root, year, split, resolution)
    listed = read_list(path)
    names = list(listed if sequences is None else dict.fromkeys(sequences))
    if not names:
        raise InputError(f"0 sequences asked for, {path} lists {len(listed)}")
    for name in names:
        if name not in listed:
            raise InputError(f"sequence {name!r} is not in {path}, which lists {_some(listed)}")
    lonely = split in FIRST_MASKS_ONLY
    return [_open_sequence(root, name, listed[name], resolution, year == 2016, lonely) for name in names]


def list_file(root: str | Path, year: int, split: str, resolution: str = "480p") -> Path:
    """The text file that lists a split; arguments, order of search and errors as in `open_davis`."""
    folders = {2016: ("2016", resolution, "2017"), 2017: ("2017",)}.get(year)
    if folders is None:
        raise InputError(f"DAVIS year is {year}, known are 2016 and 2017")
    root = Path(root)
    for folder in (root, root / "ImageSets"):
        if not folder.is_dir():
            raise InputError(f"{folder} is not a folder; a DAVIS root holds ImageSets, JPEGImages and Annotations")
    wanted = [root / "ImageSets" / folder / f"{split}.txt" for folder in folders]
    for path in wanted:
        if path.is_file():
            return path
    there = sorted(str(path.relative_to(root)) for path in root.glob("ImageSets/*/*.txt"))
    wanted = " or ".join(str(path.relative_to(root)) for path in wanted)
    raise InputError(f"{root} has no list {wanted}; it has {_some(there)}")


def read_list(path):
    """{sequence name: its listed (frame, mask) path pairs, or [] when the list holds names only}."""
    listed = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), start=1):
        words = line.split()
        if len(words) == 1 and "/" not in words[0]:
            listed.setdefault(words[0], [])
        elif len(words) >= 2:
            frame, mask = words[0].lstrip("/"), words[1].lstrip("/")
            listed.setdefault(Path(frame).parent.name, []).append((frame, mask))
        elif words:
            raise InputError(f"{path}, line {number}: {line.strip()!r} is neither a sequence name nor two paths")
    if not listed:
        raise InputError(f"{path} lists 0 sequences, needs at least 1")
    return listed


def _open_sequence(root, name, pairs, resolution, merge_objects, first_mask_only):
    if pairs:
        frame_paths, mask_paths = (tuple(root / pair[side] for pair in pairs) for side in (0, 1))
        for frame, mask in zip(frame_paths, mask_paths, strict=True):
            for path, other in ((frame, mask), (mask, frame)):
                if not path.is_file():
                    raise InputError(f"{name}: {path} is listed, beside {other}, and is not there")
    else:
        frame_folder, mask_folder = (root / kind / resolution / name for kind in ("JPEGImages", "Annotations"))
        frames, masks = _by_stem(frame_folder, (".jpg", ".jpeg", ".png")), _by_stem(mask_folder, (".png",))
        first = next(iter(frames))
        if frames.keys() != masks.keys() and not (first_mask_only and list(masks) == [first]):
            unmasked, unseen = frames.keys() - masks.keys(), masks.keys() - frames.keys()
            counts = f"{len(frames)} frames in {frame_folder}, {len(masks)} masks in {mask_folder}"
            raise InputError(f"{name}: {counts}{_odd('without mask', unmasked)}{_odd('without frame', unseen)}")
        frame_paths, mask_paths = tuple(frames.values()), tuple(masks[stem] for stem in frames if stem in masks)

    size = image_size(frame_paths[0])
    for path in frame_paths + mask_paths:
        if image_size(path) != size:
            raise InputError(f"{path} is {_by(image_size(path))}, {frame_paths[0]} is {_by(size)} (height x width)")
    ids = read_mask(mask_paths[0]).ids  # refuses a first mask without objects
    return Sequence(name, frame_paths, mask_paths, size, (1,) if merge_objects else ids, merge_objects)


def _by_stem(folder, suffixes):
    """{stem: path} of the pictures in a folder, in order of their names."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    files = sorted(folder.iterdir(), key=lambda path: natural_key(path.stem))
    found = {path.stem: path for path in files if path.suffix.lower() in suffixes and not path.name.startswith(".")}
    if not found:
        raise InputError(f"{folder} has 0 files {' or '.join(suffixes)}, needs at least 1")
    return found


def only_objects(index_masks: UInt8[Tensor, "*t H W"], object_ids: Iterable[int]) -> UInt8[Tensor, "*t H W"]:
    """Index masks with every other label (void, objects that are not asked for) turned into background."""
    ids = torch.tensor(sorted(object_ids), dtype=torch.uint8)
    return torch.where(torch.isin(index_masks, ids), index_masks, 0)


def image_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a picture, read from its header alone. Raises InputError when the file is no picture."""
    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except DAMAGED as error:
        raise InputError(f"cannot read {path} as a picture: {reason(error)}") from error


def _by(size):
    return f"{size[0]}x{size[1]}"


def _odd(what, stems):
    return f"; {what}: {_some(sorted(stems))}" if stems else ""


def _some(names, most=5):
    """The first few names for a message: 'a, b, c and 7 more'."""
    names = list(names)
    return (", ".join(names[:most]) or "none") + (f" and {len(names) - most} more" if len(names) > most else "")
