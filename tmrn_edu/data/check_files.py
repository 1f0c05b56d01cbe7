"""A report on a folder of training data: what is there, and every file that is broken or missing. Everything here is ours.

report = check("data")
print(report.text())
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange

from tmrn_edu.data.files import by
from tmrn_edu.data.layouts import list_sets
from tmrn_edu.data.listing import Flaw, few, open_listing, unreadable
from tmrn_edu.data.pictures import in_threads, probe_all
from tmrn_edu.errors import InputError
from tmrn_edu.masks import VOID

SPLITS = ("train", "val")  # of DAVIS; the masks of its test lists are not public
NAMES = 8  # how many names a line of the report lists


@dataclass(frozen=True)
class SetReport:
    """What one data set holds; counts are of what is whole."""

    name: str  # "DAVIS 2017 train"
    kind: str  # "video" or "stills"
    layout: str
    root: Path
    videos: int
    frames: int
    lengths: tuple[int, int]  # shortest and longest, in frames
    sizes: tuple[tuple[int, int], tuple[int, int]]  # (H, W) of the smallest and the largest, by pixels
    objects: int | None  # ids seen, summed over videos; None where no mask was decoded
    most_objects: int  # in one video
    empty: tuple[str, ...]  # videos in whose decoded masks no object was seen
    passed_over: tuple[str, ...]  # stills flawed as published
    repeat: int
    frame_step: int


@dataclass(frozen=True)
class Report:
    """The result of `check`."""

    root: Path
    full: bool  # whether everything was decoded
    sets: tuple[SetReport, ...]
    flaws: tuple[Flaw, ...]  # every broken or missing file
    files: int  # files looked at
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing is broken or missing."""
        return not self.flaws

    def text(self) -> str:
        """The report as it is printed: a paragraph for each set, then what is broken, one file a line."""
        how = "decoded" if self.full else "headers and ends read"
        rate = f", {self.files / self.seconds:,.0f} a second" if self.seconds else ""
        lines = [f"{self.root}: {_count(self.files, 'file')} {how} in {self.seconds:.1f} s{rate}"]
        for one in self.sets:
            lines += ["", *_paragraph(one, self.full)]
        lines.append("")
        if self.flaws:
            lines.append(f"{_count(len(self.flaws), 'file')} broken or missing:")
            lines += [f"  {flaw}" for flaw in self.flaws]
        else:
            lines.append("nothing is broken" + ("" if self.full else "; --full decodes every file"))
        return "\n".join(lines)


def check(root: str | Path, full: bool = False, progress: bool = False) -> Report:
    """Looks at every file of the data sets in a folder, and reports; nothing is changed.

    Without `full` both ends of each file are read, as `find_sets` does, and the first mask of each video is decoded for its objects.
    With `full` every frame and mask is decoded, stills too. Of DAVIS the lists train and val are looked at, where there is
    neither the other ones. progress: bars.

    Raises InputError where no data set is found; files that cannot be used are in the report, all of them.
    """
    start = time.perf_counter()
    listings = list_sets(root, SPLITS, others=True)
    paths = [path for one in listings for listed in one.videos for path in listed.frames + listed.masks]
    probes = probe_all(paths, progress=progress)
    sets, flaws = [], []
    for one in (open_listing(listing, probes) for listing in listings):
        flaws += one.flaws
        pairs = list(zip(one.videos, one.listed, strict=True))
        if full:
            looked = in_threads(_decode, pairs, chunk=1, unit="video", progress=progress)
        elif one.listing.kind == "video":
            looked = in_threads(_first, pairs, chunk=8, unit="video", progress=progress)
        else:
            looked = [(None, ()) for _ in pairs]
        flaws += [flaw for _, found in looked for flaw in found]
        if full and looked and not any(ids for ids, _ in looked):
            flaws.append(Flaw(one.listing.root, f"holds no object in any mask of {one.listing.name}", one.listing.name))
        sets.append(_set_report(one, [ids for ids, _ in looked]))
    return Report(Path(root), full, tuple(sets), tuple(flaws), len(probes), time.perf_counter() - start)


def object_ids(mask: torch.Tensor) -> set[int]:
    """The ids in an index mask `H W`, without background and void."""
    counts = torch.bincount(rearrange(mask, "H W -> (H W)"), minlength=VOID + 1)
    return set(counts.nonzero()[:, 0].tolist()) - {0, VOID}


def _first(pair):
    """(ids of the first mask, flaws)"""
    video, listed = pair
    try:
        return object_ids(video.mask(0)), ()
    except InputError as error:
        return set(), (unreadable(listed.masks[0], error, video.name),)


def _decode(pair):
    """(ids of all masks, flaws); every frame is decoded on the way."""
    video, listed = pair
    ids, flaws = set(), []
    for t in range(len(video)):
        try:
            video.frame(t)
        except InputError as error:
            flaws.append(unreadable(listed.frames[t], error, video.name))
        try:
            ids |= object_ids(video.mask(t))
        except InputError as error:
            flaws.append(unreadable(listed.masks[t], error, video.name))
    return ids, tuple(flaws)


def _set_report(opened, ids):
    videos, listing = opened.videos, opened.listing
    lengths, sizes = [len(video) for video in videos] or [0], [video.size for video in videos] or [(0, 0)]
    looked = [(video.name, seen) for video, seen in zip(videos, ids, strict=True) if seen is not None]
    return SetReport(
        name=listing.name,
        kind=listing.kind,
        layout=listing.layout,
        root=listing.root,
        videos=len(videos),
        frames=sum(lengths),
        lengths=(min(lengths), max(lengths)),
        sizes=(min(sizes, key=_pixels), max(sizes, key=_pixels)),
        objects=sum(len(seen) for _, seen in looked) if looked else None,
        most_objects=max((len(seen) for _, seen in looked), default=0),
        empty=tuple(name for name, seen in looked if not seen),
        passed_over=opened.passed_over,
        repeat=listing.repeat,
        frame_step=listing.frame_step,
    )


def _paragraph(one, full):
    lines = [f"{one.name}: {one.layout}"]
    sizes = " to ".join(dict.fromkeys(by(size) for size in one.sizes))
    if one.kind == "video":
        lengths = " to ".join(dict.fromkeys(map(str, one.lengths)))
        lines.append(f"  {_count(one.videos, 'video')}, {one.frames} frames with masks, {lengths} a video, {sizes}")
    else:
        lines.append(f"  {_count(one.videos, 'picture')} with masks, {sizes}")
    where = "all masks" if full else "first masks"
    if one.objects is None:
        lines.append("  objects not looked for: --full decodes the masks")
    elif one.kind == "video":
        lines.append(f"  {_count(one.objects, 'object')} in {where}, up to {one.most_objects} in a video")
    if one.empty:
        lines.append(f"  no object in {where} of {few(one.empty, NAMES)}")
    if one.passed_over:
        lines.append(f"  passed over, flawed as published: {few(one.passed_over, NAMES)}")
    if one.frame_step > 1:
        lines.append(f"  {one.frame_step} video frames from one listed frame to the next")
    if one.repeat > 1:
        lines.append(f"  visited {one.repeat} times in an epoch of training")
    return lines


def _count(number, what):
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _pixels(size):
    return size[0] * size[1]
