"""YouTube-VOS for evaluation: the splits valid and test, 2018 and 2019, and other data in their layout.

    ROOT/valid/meta.json                            which objects, of which category, in which frames a mask is asked for
    ROOT/valid/Annotations/0a49f5265b/00000.png     palette PNG with the objects that appear in this frame for the first time
    ROOT/valid/JPEGImages/0a49f5265b/00000.jpg      each fifth frame
    ROOT/valid_all_frames/JPEGImages/...            all frames, or ROOT/all_frames/valid_all_frames as STCN and XMem keep them

Where all frames are there, all are segmented, as STCN and XMem do; masks are asked for in the frames of meta.json alone. An
object enters in the frame whose mask shows it first; before, its pixels are background. The server keeps the other masks. Where
Annotations has a mask for every frame that is asked for (the training split has), a prediction can be scored here.
Source: Xu et al., arXiv:1809.03327; layout and protocol: STCN:eval_youtube.py, dataset/yv_test_dataset.py, XMem:eval.py,
inference/data/test_datasets.py.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.davis import only_objects
from tmrn_edu.data.files import by
from tmrn_edu.data.listing import few
from tmrn_edu.data.masks_io import read_mask
from tmrn_edu.data.pictures import JPEG, PNG, pictures_in, probe_all, read_frame
from tmrn_edu.errors import InputError

VIDEOS = {2018: 474, 2019: 507}  # of valid, youtube-vos.org

# The 65 categories of the training split, both years: youtube-vos.org gives their number, ReferFormer:datasets/categories.py their
# names. What valid and test have beyond them (26 and 29 categories) is unseen.
TRAINING_CATEGORIES = frozenset(
    """
    airplane ape bear bike bird boat bucket bus camel cat cow crocodile deer dog dolphin duck eagle earless_seal elephant fish fox
    frisbee frog giant_panda giraffe hand hat hedgehog horse knife leopard lion lizard monkey motorbike mouse others owl paddle
    parachute parrot penguin person plant rabbit raccoon sedan shark sheep sign skateboard snail snake snowboard squirrel surfboard
    tennis_racket tiger toilet train truck turtle umbrella whale zebra
    """.split()
)


@dataclass(frozen=True)
class ValidVideo:
    """One video to be segmented: checked paths, read on demand, frame by frame."""

    name: str  # "0a49f5265b"
    frame_paths: tuple[Path, ...]  # all that there are, in order
    mask_folder: Path
    size: tuple[int, int]  # (H, W) of every frame and mask
    required: dict[int, str]  # frame -> name of the mask that is asked for: "00005.png"
    enters: dict[int, int]  # object id -> the frame whose mask shows it first
    categories: dict[int, str]  # object id -> category, of those that meta.json names
    has_truth: bool  # whether every frame that is asked for has its mask, so that a prediction can be scored here

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.frame_paths)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Objects in ascending order; late ones are among them."""
        return tuple(sorted(self.enters))

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """Frame `t` as RGB. Raises InputError when the file is damaged behind its header."""
        return read_frame(self.frame_paths[t])

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """The mask that lies in Annotations for frame `t`."""
        return read_mask(self.mask_folder / f"{self.frame_paths[t].stem}.png", empty_ok=True).index

    def given(self, t: int) -> UInt8[Tensor, "H W"] | None:
        """The mask that a method gets with frame `t`: the objects that enter in it alone; None where none does."""
        fresh = [label for label, first in self.enters.items() if first == t]
        return only_objects(self.mask(t), fresh) if fresh else None

    def truth(self) -> UInt8[Tensor, "t H W"]:
        """The masks of the frames that are asked for, as they are. Only where `has_truth`."""
        return torch.stack([self.mask(t) for t in self.required])


def open_youtube_vos(
    root: str | Path,
    year: int,
    split: str = "valid",
    sequences: Iterable[str] | None = None,
    progress: bool = False,
) -> list[ValidVideo]:
    """The videos of a split, every file of them found, its header read and its size compared.

    root: the folder that holds the split's folder, or that folder itself. year: 2018 or 2019; their valid splits differ by their number
    of videos. split: name of the folder, "valid", "test", "train". sequences: take only these videos, in this order. progress: a bar on stderr.

    Raises InputError naming what was expected and what is there: no such folder or video, a meta.json that is none, the other year's
    split, a frame that meta.json asks for and that is not there, a file that is no picture or of another size, a video without objects.
    Source: as above; that the objects are those of the masks is STCN's rule. [ours: a mask's known objects are not given again]
    """
    folder = split_folder(root, split)
    meta = _read_meta(folder / "meta.json")
    other = {count: its_year for its_year, count in VIDEOS.items() if its_year != year}.get(len(meta))
    if folder.name == "valid" and other:
        raise InputError(f"{folder} has {len(meta)} videos, which is the split of {other}; {year} has {VIDEOS[year]}")
    names = sorted(meta) if sequences is None else list(dict.fromkeys(sequences))
    if not names:
        raise InputError(f"0 sequences asked for, {folder / 'meta.json'} lists {len(meta)}")
    for name in names:
        if name not in meta:
            raise InputError(f"sequence {name!r} is not in {folder / 'meta.json'}, which lists {few(sorted(meta))}")
    frames = frame_folder(folder)
    files = {
        name: (pictures_in(frames / name, JPEG), pictures_in(folder / "Annotations" / name, PNG)) for name in names
    }
    for name, (pictures, masks) in files.items():
        for kind, found, where in (("frames", pictures, frames), ("masks", masks, folder / "Annotations")):
            if not found:
                raise InputError(f"{where / name} has 0 {kind}, {folder / 'meta.json'} lists the video {name}")
    probes = probe_all((path for pair in files.values() for paths in pair for path in paths), progress=progress)
    return [_open_video(name, meta[name], *files[name], probes, folder / "meta.json") for name in names]


def split_folder(root: str | Path, split: str) -> Path:
    """ROOT/split, or ROOT itself where it is a split's folder. Raises InputError where neither has the layout."""
    root = Path(root)
    for folder in (root / split, root):
        if all((folder / kind).is_dir() for kind in ("JPEGImages", "Annotations")):
            return folder
    raise InputError(
        f"neither {root / split} nor {root} is a split of YouTube-VOS, with JPEGImages and Annotations in it"
    )


def frame_folder(folder: Path) -> Path:
    """JPEGImages with all frames of a split where they are, else the split's own."""
    folder = folder.absolute()
    beside = [folder.parent / f"{folder.name}_all_frames", folder.parent / "all_frames" / f"{folder.name}_all_frames"]
    return next((one / "JPEGImages" for one in beside if (one / "JPEGImages").is_dir()), folder / "JPEGImages")


def read_categories(path: str | Path) -> frozenset[str]:
    """The categories that a meta.json names, those of training, say. Raises InputError where it is none, or names none."""
    objects = [one for video in _read_meta(Path(path)).values() for one in video.values()]
    found = frozenset(one["category"] for one in objects if one.get("category"))
    if not found:
        raise InputError(f"{path} names 0 categories for {len(objects)} objects, expected one for each")
    return found


def _read_meta(path):
    """{video: {object id: {"category": ..., "frames": [...]}}}."""
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        videos = {
            name: {int(label): dict(one, frames=list(one["frames"])) for label, one in video["objects"].items()}
            for name, video in meta["videos"].items()
        }
    except OSError as error:
        raise InputError(f"cannot read {path}, expected the list of videos, objects and frames: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        wanted = '{"videos": {NAME: {"objects": {ID: {"category": ..., "frames": [...]}}}}}'
        raise InputError(f"{path} is no list of videos ({error!r}), expected {wanted}") from error
    if not videos:
        raise InputError(f"{path} lists 0 videos, needs at least 1")
    return videos


def _open_video(name, objects, frames, masks, probes, meta):
    for path in [*frames, *masks]:
        if probes[path].problem:
            raise InputError(f"cannot read {path} as a picture: {probes[path].problem}")
        if probes[path].size != probes[frames[0]].size:
            sizes = f"{by(probes[path].size)}, {frames[0]} is {by(probes[frames[0]].size)}"
            raise InputError(f"{path} is {sizes} (height x width)")
    number = {path.stem: t for t, path in enumerate(frames)}
    wanted = sorted({stem for one in objects.values() for stem in one["frames"]})
    for what, stems in (
        (f"{meta} asks for", wanted),
        (f"{masks[0].parent} has masks for", [path.stem for path in masks]),
    ):
        if missing := [stem for stem in stems if stem not in number]:
            raise InputError(f"{what} frames {few(missing)} of {name}, {frames[0].parent} has {len(frames)} others")
    enters = {}
    for path in masks:
        for label in read_mask(path, empty_ok=True).ids:
            enters.setdefault(label, number[path.stem])
        if objects.keys() <= enters.keys():  # nobody is left who could enter
            break
    if not enters or not wanted:
        sides = f"{len(enters)} objects in {masks[0].parent}, {len(wanted)} frames asked for by {meta}"
        raise InputError(f"{name} has {sides}; expected at least 1 of each")
    return ValidVideo(
        name=name,
        frame_paths=tuple(frames),
        mask_folder=masks[0].parent,
        size=probes[frames[0]].size,
        required=dict(sorted((number[stem], f"{stem}.png") for stem in wanted)),
        enters=enters,
        categories={label: one["category"] for label, one in objects.items() if one.get("category")},
        has_truth=set(wanted) <= {path.stem for path in masks},
    )
