"""YouTube-VOS: the training split, 2018 and 2019 alike (both have the same one).

    ROOT/JPEGImages/003234408d/00000.jpg     frames
    ROOT/Annotations/003234408d/00000.png    palette PNG whose values are object ids, for each fifth frame
    ROOT/meta.json                           categories; not read here

ROOT is the folder train, or train_480p as STCN's and XMem's script makes it. As published JPEGImages holds the
annotated frames only (00000, 00005, 00010, ...); where somebody put all frames in, those without mask are passed over,
so that both come out alike. Objects may enter late: a first mask need not show all of them. Other data in this layout
is read too, for example BL30K; how many frames lie between two masks is seen from their numbers.
Source: Xu et al., arXiv:1809.03327; layout and sampling: XMem:train.py, dataset/vos_dataset.py, scripts/resize_youtube.py.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.listing import Flaw, Listed, Listing, pair_up
from tmrn_edu.data.masks_io import read_mask
from tmrn_edu.data.pictures import JPEG, PNG, folder_name, pictures_in, read_frame
from tmrn_edu.errors import InputError

NOT_FOR_TRAINING = ("valid", "test")  # their masks show first appearances only


@dataclass(frozen=True)
class AnnotatedVideo:
    """The annotated frames of one video, checked, read on demand.

    Holds two folders and short names rather than paths: 3,471 such videos travel to each loading process.
    """

    name: str  # "003234408d"
    frame_folder: Path
    mask_folder: Path
    frame_names: tuple[str, ...]  # "00000.jpg", in order
    mask_names: tuple[str, ...]  # of each frame
    size: tuple[int, int]  # (H, W)

    def __len__(self) -> int:
        """Number of annotated frames."""
        return len(self.frame_names)

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """The `t`-th annotated frame as RGB. Raises InputError when the file is damaged behind its header."""
        return read_frame(self.frame_folder / self.frame_names[t])

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """Its index mask: 0 background, object ids, 255 void; it may be empty. Raises InputError as `frame` does."""
        return read_mask(self.mask_folder / self.mask_names[t], empty_ok=True).index


def is_youtube_vos(folder: Path) -> bool:
    """Whether a folder has this layout: JPEGImages and Annotations, without the lists that DAVIS has."""
    return (
        (folder / "JPEGImages").is_dir() and (folder / "Annotations").is_dir() and not (folder / "ImageSets").is_dir()
    )


def list_youtube_vos(root: Path) -> Listing:
    """The videos of a training split.

    Raises InputError for a validation or test split, and for a split without videos. A video without any mask, and a
    mask without frame, are flaws of the listing.
    """
    if folder_name(root).startswith(NOT_FOR_TRAINING):
        raise InputError(f"{root} is a validation or test split, whose masks are not for training; expected train")
    folders = {kind: _folders(root / kind) for kind in ("JPEGImages", "Annotations")}
    videos, flaws = [], []
    for name in sorted(folders["JPEGImages"] | folders["Annotations"]):
        frame_folder, mask_folder = root / "JPEGImages" / name, root / "Annotations" / name
        frames, masks = pictures_in(frame_folder, JPEG), pictures_in(mask_folder, PNG)
        listed, odd = pair_up(name, frames, masks, lonely_frames=True)
        if not masks:
            odd = (Flaw(mask_folder, f"has 0 masks, {frame_folder} has {len(frames)} frames", name),)
        elif not frames:
            odd = (Flaw(frame_folder, f"has 0 frames, {mask_folder} has {len(masks)} masks", name),)
        flaws += odd
        if listed.frames:
            videos.append(listed)
    if not videos and not flaws:
        raise InputError(f"{root / 'JPEGImages'} has 0 folders of frames, expected one for each video")
    step = _frame_step(videos)
    ours = step == 5 or (root / "meta.json").is_file()
    return Listing(
        name="YouTube-VOS train" if ours else folder_name(root),
        kind="video",
        layout="JPEGImages and Annotations, a folder for each video",
        root=root,
        videos=tuple(videos),
        open=_open,
        frame_step=step,
        flaws=tuple(flaws),
    )


def _open(listed: Listed, size):
    names = [tuple(path.name for path in paths) for paths in (listed.frames, listed.masks)]
    return AnnotatedVideo(listed.name, listed.frames[0].parent, listed.masks[0].parent, *names, size)


def _folders(root):
    return {path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}


def _frame_step(videos):
    """The commonest distance between the numbers of two listed frames; 1 where names are no numbers."""
    steps = Counter()
    for listed in videos:
        numbers = [int(path.stem) for path in listed.frames if path.stem.isdecimal()]
        steps.update(after - before for before, after in zip(numbers, numbers[1:]))
    return max(1, steps.most_common(1)[0][0]) if steps else 1
