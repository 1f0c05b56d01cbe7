"""Videos of one's own for evaluation: the sets of videos that training finds in a folder, with all their frames.

    ROOT/JPEGImages/dog/00000.jpg      frames
    ROOT/Annotations/dog/00000.png     palette or grey PNG of object ids, same stem; of every frame, or of some

ROOT may also be a training tree of DAVIS or YouTube-VOS, or hold several sets: it is what `find_sets` reads, so that what can be trained on
can be evaluated. A frame without mask is segmented and not scored. An object enters with its own mask, in the frame whose mask shows it
first; before, its pixels are background. Everything here is ours.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.check_files import object_ids
from tmrn_edu.data.davis import Sequence, only_objects
from tmrn_edu.data.files import by
from tmrn_edu.data.layouts import davis_year, is_davis, other_lists
from tmrn_edu.data.listing import few
from tmrn_edu.data.pictures import JPEG, folder_name, in_threads, pictures_in, probe_all, read_frame
from tmrn_edu.data.sets import Video, find_sets
from tmrn_edu.data.youtube_vos import NOT_FOR_TRAINING, is_youtube_vos
from tmrn_edu.errors import InputError


@dataclass(frozen=True)
class OwnVideo:
    """One video to be segmented and scored: checked paths, read on demand, frame by frame."""

    name: str  # "dog"
    size: tuple[int, int]  # (H, W) of every frame and mask
    frame_paths: tuple[Path, ...]  # all that there are, in order
    annotated: Video  # those with a mask, as training reads them
    required: dict[int, str]  # frame with a mask -> that mask's name, "00005.png"
    enters: dict[int, int]  # object id -> the frame whose mask shows it first
    merge_objects: bool = False  # True for DAVIS 2016: anything that is not background is object 1

    def __len__(self) -> int:
        """Number of frames, with mask or without."""
        return len(self.frame_paths)

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Objects in ascending order; late ones are among them."""
        return tuple(sorted(self.enters))

    @property
    def has_truth(self) -> bool:
        """Always: every frame that is asked for has its mask."""
        return True

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """Frame `t` as RGB, as training reads it. Raises InputError when the file is damaged behind its header."""
        return self.annotated.frame(self._place(t)) if t in self.required else read_frame(self.frame_paths[t])

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """Index mask of a frame that has one: 0 background, object ids, 255 void."""
        return self.annotated.mask(self._place(t))

    def given(self, t: int) -> UInt8[Tensor, "H W"] | None:
        """The mask that a method gets with frame `t`: the objects that enter in it alone; None where none does."""
        fresh = [label for label, first in self.enters.items() if first == t]
        return only_objects(self.mask(t), fresh) if fresh else None

    def truth(self) -> UInt8[Tensor, "t H W"]:
        """All the masks, as they are: void among them."""
        return torch.stack([self.mask(t) for t in self.required])

    def _place(self, t):
        """Frame number -> number among the frames with masks."""
        return list(self.required).index(t)


def open_own_videos(
    root: str | Path, sequences: Iterable[str] | None = None, progress: bool = False
) -> tuple[list[OwnVideo], tuple[str, ...]]:
    """The videos of a folder, every file of them checked and every mask decoded, and the names of the sets they are from.

    root: what `find_sets` takes. sequences: only the videos of these names, in this order. progress: bars on stderr.

    Raises InputError naming what was expected and what is there: whatever `find_sets` finds; a DAVIS folder without the list that training reads; a
    folder of stills; two videos of one name; a frame without mask that cannot be used; a video without objects, or whose objects all
    appear in its last mask, so that nothing is left to score.
    """
    root = Path(root)
    _check_folder(root)
    names = None if sequences is None else list(dict.fromkeys(sequences))
    found = find_sets(root, names, progress=progress)
    sets = [one for one in found if one.kind == "video"]
    videos = [video for one in sets for video in one.videos]
    if not videos:
        stills = sum(len(one.videos) for one in found)
        raise InputError(f"{root} holds {stills} stills in {few(one.name for one in found)}, expected videos")
    for name, count in Counter(video.name for video in videos).items():
        if count > 1:
            owners = [one.name for one in sets if name in {video.name for video in one.videos}]
            raise InputError(
                f"{count} videos of {root} are called {name}, in {few(owners)}; expected one, or the folder of one set"
            )
    if names is not None:
        order = {name: place for place, name in enumerate(names)}
        videos.sort(key=lambda video: order.get(video.name, len(order)))
    frames = {video.name: _all_frames(video) for video in videos}
    _check_frames(videos, frames, progress)
    opened = in_threads(
        lambda video: _open(video, frames[video.name]), videos, chunk=1, unit="video", progress=progress
    )
    return opened, tuple(one.name for one in sets)


def _check_folder(root):
    """Two layouts that are somebody else's business, said with the option that reads them."""
    if is_davis(root) and davis_year(root, "train") is None:
        lists = few(f"davis{davis_year(root, name)} {name}" for name in other_lists(root))
        raise InputError(
            f"{root} is laid out as DAVIS without a list train, which training reads; expected its lists as data set and split: {lists}"
        )
    if is_youtube_vos(root) and folder_name(root).startswith(NOT_FOR_TRAINING):
        raise InputError(
            f"{root} has the name of a split whose masks a server keeps; expected the data set youtubevos2018 or youtubevos2019 for it, or "
            f"another name for a folder of your own videos (not {'..., '.join(NOT_FOR_TRAINING)}...)"
        )


def _all_frames(video):
    """Paths of all frames; those of YouTube-VOS' layout without mask are passed over in training."""
    if isinstance(video, Sequence):
        return video.frame_paths
    return tuple(pictures_in(video.frame_folder, JPEG))


def _names(video):
    """(name of the frame, name of its mask) for every frame with a mask."""
    if isinstance(video, Sequence):
        pairs = zip(video.frame_paths, video.mask_paths, strict=True)
        return [(frame.name, mask.name) for frame, mask in pairs]
    return list(zip(video.frame_names, video.mask_names, strict=True))


def _check_frames(videos, frames, progress):
    """What `find_sets` has not looked at: frames without mask."""
    lonely = {}
    for video in videos:
        masked = {frame for frame, _ in _names(video)}
        lonely |= {path: video for path in frames[video.name] if path.name not in masked}
    for path, found in probe_all(lonely, progress=progress and bool(lonely)).items():
        size = lonely[path].size
        if found.problem:
            raise InputError(f"cannot use {path}: {found.problem}; expected a frame of {by(size)}")
        if found.size != size:
            raise InputError(
                f"{path} is {by(found.size)} (height x width), the other frames of {lonely[path].name} are {by(size)}"
            )


def _open(video, frames):
    number = {path.name: t for t, path in enumerate(frames)}
    required = {number[frame]: mask for frame, mask in _names(video)}
    enters = {}
    for place, t in enumerate(required):
        for label in sorted(object_ids(video.mask(place))):
            enters.setdefault(label, t)
    if not enters or min(enters.values()) == max(required):
        sides = f"{len(enters)} objects{' in the last' if enters else ' in any'} of {len(required)} masks"
        raise InputError(
            f"{video.name} has {sides}, scoring needs an object and a mask after its first, which is given"
        )
    merged = isinstance(video, Sequence) and video.merge_objects
    return OwnVideo(video.name, video.size, frames, video, required, enters, merged)
