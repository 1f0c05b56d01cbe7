"""What a folder of training data lists, before anything is opened: videos as files, and flaws seen on the way.

Each layout (`davis_lists`, `youtube_vos`, `stills`) makes `Listing`s; `sets` and `check_files` open them. Everything here is ours.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tmrn_edu.data.files import by
from tmrn_edu.data.pictures import Probe
from tmrn_edu.errors import InputError


@dataclass(frozen=True)
class Flaw:
    """A file that cannot be used, and why."""

    path: Path
    reason: str
    video: str  # name of the video or still it belongs to

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class Listed:
    """One video, or one still, as its folder lists it."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]  # of each frame


@dataclass(frozen=True)
class Listing:
    """One data set as found in a folder."""

    name: str  # "DAVIS 2017 train"
    kind: str  # "video" or "stills"
    layout: str  # in words, for a report
    root: Path
    videos: tuple[Listed, ...]
    open: Callable[[Listed, tuple[int, int]], Any]  # (video, its size) -> Video; may raise InputError
    repeat: int = 1  # visits in an epoch
    frame_step: int = 1  # video frames from one listed frame to the next
    flaws: tuple[Flaw, ...] = ()  # seen when listing: a mask without picture
    known: frozenset[str] = field(default=frozenset())  # stills that are flawed as published: passed over, not refused


@dataclass(frozen=True)
class Opened:
    """A listing whose files were checked."""

    listing: Listing
    videos: tuple[Any, ...]  # Videos of all that is whole
    listed: tuple[Listed, ...]  # their files
    flaws: tuple[Flaw, ...]
    passed_over: tuple[str, ...]  # names of stills flawed as published


def pair_up(
    video: str, frames: list[Path], masks: list[Path], lonely_frames: bool = False
) -> tuple[Listed, tuple[Flaw, ...]]:
    """Frames and masks of the same stem, in order of the frames; whatever has no partner is a flaw.

    `lonely_frames`: a frame without mask is left out, and no flaw (YouTube-VOS annotates each fifth one).
    """
    mask_of = {path.stem: path for path in masks}
    stems = {path.stem for path in frames}
    paired = [path for path in frames if path.stem in mask_of]
    flaws = [Flaw(path, "has no frame", video) for path in masks if path.stem not in stems]
    if not lonely_frames:
        flaws += [Flaw(path, "has no mask", video) for path in frames if path.stem not in mask_of]
    return Listed(video, tuple(paired), tuple(mask_of[path.stem] for path in paired)), tuple(flaws)


def open_listing(listing: Listing, probes: dict[Path, Probe]) -> Opened:
    """Opens each video whose files are whole and of one size; names what is wrong with the others."""
    videos, whole, flaws, passed_over = [], [], list(listing.flaws), []
    flawed = {flaw.video for flaw in listing.flaws}
    for listed in listing.videos:
        found = _flaws(listed, probes)
        if listing.kind == "video":
            found += [
                Flaw(path, f"is {probes[path].mode}, expected a palette or grey PNG of object ids", listed.name)
                for path in listed.masks
                if probes[path].mode in ("RGB", "RGBA")
            ]
        video = None
        if not found and listed.name not in flawed:
            try:
                video = listing.open(listed, probes[listed.frames[0]].size)
            except InputError as error:
                found = [unreadable(listed.masks[0], error, listed.name)]
        if video is not None:
            videos.append(video)
            whole.append(listed)
        elif found and listed.name in listing.known:
            passed_over.append(listed.name)
        else:
            flaws += found
    return Opened(listing, tuple(videos), tuple(whole), tuple(flaws), tuple(passed_over))


def unreadable(path: Path, error: InputError, video: str) -> Flaw:
    """The flaw that an error in reading a file tells of; the path is said once."""
    return Flaw(path, str(error).replace(f" {path}", ""), video)


def few(names: Iterable[str], most: int = 5) -> str:
    """The first names for a message: "a, b, c and 7 more"; "nothing" where there are none."""
    names = list(names)
    return (", ".join(names[:most]) or "nothing") + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _flaws(listed, probes):
    files = listed.frames + listed.masks
    found = [Flaw(path, probes[path].problem, listed.name) for path in files if probes[path].problem]
    sizes = [probes[path].size for path in files if probes[path].size]
    odd = [path for path in files if probes[path].size and probes[path].size != sizes[0]]
    first = next((path for path in files if probes[path].size), None)
    return found + [
        Flaw(path, f"is {by(probes[path].size)} (height x width), {first.name} is {by(sizes[0])}", listed.name)
        for path in odd
    ]
