"""Sets of annotated videos and stills, as training draws from them.

    sets = find_sets("data")
    for one in sets:
        print(one.name, one.kind, len(one.videos), one.videos[0].size)

`find_sets` knows the layouts of `layouts`, `youtube_vos` and `stills`, and looks at both ends of every file before it
returns: a file that a download cut off is named at once, and not an hour into a run.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.layouts import list_sets
from tmrn_edu.data.listing import Listing, few, open_listing
from tmrn_edu.data.pictures import probe_all
from tmrn_edu.errors import InputError, some


@runtime_checkable
class Video(Protocol):
    """A video with an index mask for each of its frames; a still is a video of one frame."""

    name: str
    size: tuple[int, int]  # (H, W) of every frame and mask

    def __len__(self) -> int:
        """Number of frames."""

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """Frame `t` as RGB."""

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """Index mask of frame `t`: 0 background, object ids, 255 void."""


@dataclass(frozen=True)
class VideoSet:
    """Videos of one kind, opened and checked, read on demand."""

    name: str  # "DAVIS 2017 train", "DUTS-TR", "synthetic"
    kind: str  # "stills" or "video"
    videos: tuple[Video, ...]
    repeat: int = 1  # how often an epoch visits each
    frame_step: int = 1  # video frames from one listed frame to the next


def find_sets(root: str | Path, subset: Iterable[str] | None = None, progress: bool = False) -> list[VideoSet]:
    """The training sets in a folder, every file of them checked at both ends.

    root: a folder of DAVIS, of YouTube-VOS, of stills, or one that holds several of these. subset: names of sets ("DUTS-TR") or of
    single videos ("bear"); what is not named is left out, and not checked. progress: a bar over the files.

    `repeat` is 5 for DAVIS, BIG and HRSOD, else 1, as in the authors' code; `frame_step` is 5 for YouTube-VOS. Pairs of FSS-1000 whose
    sizes differ as published are passed over. Objects are not looked for here: a video may have none (`check_files.check` tells).

    Raises InputError where nothing is found (what was looked for, what is there), for a name in `subset` that nothing has, and for files
    that are missing, foreign, cut off, without partner or of another size: the first 20 of them, and how many there are.
    """
    listings = choose(list_sets(root), subset, root)
    probes = probe_all(_files(listings), progress=progress)
    opened = [open_listing(one, probes) for one in listings]
    flaws = [str(flaw) for one in opened for flaw in one.flaws]
    if flaws:
        lines = "\n  ".join(some(flaws))
        lines += "\n  tmrn-edu data check names each" if len(flaws) > 1 else ""
        raise InputError(f"{len(flaws)} of {len(probes)} files in {root} cannot be used:\n  {lines}")
    return [
        VideoSet(one.listing.name, one.listing.kind, one.videos, one.listing.repeat, one.listing.frame_step)
        for one in opened
    ]


def choose(listings: list[Listing], subset: Iterable[str] | None, root: str | Path) -> list[Listing]:
    """The listings, or those parts of them whose names are in `subset`; InputError for a name that none has."""
    if subset is None:
        return listings
    wanted = set([subset] if isinstance(subset, str) else subset)
    known = {one.name for one in listings}.union(listed.name for one in listings for listed in one.videos)
    known.update(flaw.video for one in listings for flaw in one.flaws)
    unknown = sorted(wanted - known)
    if unknown or not wanted:
        sets = ", ".join(f"{one.name} of {len(one.videos)}" for one in listings)
        raise InputError(f"{root} has no set or video {few(unknown)}; it has {sets}")
    chosen = []
    for one in listings:
        if one.name not in wanted:
            videos = tuple(listed for listed in one.videos if listed.name in wanted)
            one = replace(one, videos=videos, flaws=tuple(flaw for flaw in one.flaws if flaw.video in wanted))
        if one.videos or one.flaws:
            chosen.append(one)
    return chosen


def _files(listings):
    return (path for one in listings for listed in one.videos for path in listed.frames + listed.masks)
