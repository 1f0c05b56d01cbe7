"""What `tmrn-edu evaluate` knows: splits of DAVIS 2016 and 2017, of YouTube-VOS 2018 and 2019, and folders of one's own videos.

Which of them are scored here, which by a server, is seen from their masks.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tmrn_edu.data.davis import Sequence, list_file, open_davis
from tmrn_edu.data.own_videos import OwnVideo, open_own_videos
from tmrn_edu.data.pictures import folder_name
from tmrn_edu.data.youtube_vos_valid import ValidVideo, frame_folder, open_youtube_vos, split_folder
from tmrn_edu.errors import InputError
from tmrn_edu.submission import Required, required_of

YEARS = {"davis2016": 2016, "davis2017": 2017, "youtubevos2018": 2018, "youtubevos2019": 2019}
FOLDER = "folder"  # in place of a benchmark: the videos that training finds in a folder


@dataclass(frozen=True)
class Split:
    """The videos of one split, opened and checked."""

    name: str  # "val", "valid"; of one's own videos the folder's name
    videos: list[Sequence] | list[ValidVideo] | list[OwnVideo]
    list_file: str  # which list named them; of one's own videos the names of their sets
    frames_folder: str | None = None  # YouTube-VOS: where the frames came from

    @property
    def scored(self) -> bool:
        """Whether every mask is here that a prediction is compared with."""
        return all(video.has_truth for video in self.videos)


def open_split(
    dataset: str,
    root: str | os.PathLike,
    split: str | None = None,
    sequences: Iterable[str] | None = None,
    progress: bool = False,
) -> Split:
    """A split of "davis2016", "davis2017", "youtubevos2018" or "youtubevos2019", or a "folder" of videos with masks; arguments and errors are
    `open_davis`', `open_youtube_vos`' and `open_own_videos`'.

    split: None is "val" of DAVIS and "valid" of YouTube-VOS; a folder has none. Raises InputError for an unknown data set, and for a split of
    a folder.
    """
    if dataset == FOLDER:
        if split is not None:
            raise InputError(f"split {split} is given; a folder of videos has no splits, expected sequences or nothing")
        own, sets = open_own_videos(root, sequences, progress)
        return Split(folder_name(Path(root)), own, ", ".join(sets))
    if dataset not in YEARS:
        raise InputError(f"data set {dataset!r} is unknown, there are {', '.join([*YEARS, FOLDER])}")
    root, year = Path(root), YEARS[dataset]
    if dataset.startswith("davis"):
        split = split or "val"
        videos = open_davis(root, year, split, sequences)
        return Split(split, videos, str(list_file(root, year, split).relative_to(root)))
    split = split or "valid"
    videos = open_youtube_vos(root, year, split, sequences, progress)
    folder = split_folder(root, split)
    named = (folder / "meta.json").relative_to(root)
    frames = frame_folder(folder).parent
    return Split(split, videos, str(named), frames.name)


def required(dataset: str, root: str | os.PathLike, split: str | None = None) -> Required:
    """What the server wants for a split, for `submission.check`. Arguments and errors as in `open_split`."""
    return required_of(open_split(dataset, root, split).videos)
