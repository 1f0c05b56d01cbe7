"""Videos with several objects and with look-alikes, made from annotated videos by cutting and pasting.

    made = pasted_set(find_sets("DAVIS"), 100, kind="look-alikes")
    made.videos[0].frame(3), made.videos[0].mask(3)

Two kinds. *pasted*: the object of another video, its own motion included, moves through a video in front of everything; it is labelled.
*look-alikes*: a second copy of the video's own object, cut from another moment of it, crosses the first one, in front of it or behind it: the
zebras of TMRN's supplement, made from real pictures. A copy is not labelled unless asked for: it is what a network must not mistake for the
target. Each frame is made when it is asked for, from two frames of the source videos; all that was decided by chance is a small `Plan`.
The idea of pasting objects into videos is common; how it is done here is ours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.cutting import Followed, Patch, lay_over
from tmrn_edu.data.pasting_plans import KINDS, PASTED, Plan, draw_plan, mask_of, patch_of
from tmrn_edu.data.sets import Video, VideoSet
from tmrn_edu.errors import InputError


@dataclass(frozen=True, eq=False)
class PastedVideo:
    """A `Video` made of two others: it holds these and a seed, decides the rest when first needed, and makes frames on demand.

    Equal seeds and sources give equal videos. Where the pasted object is absent from the donor's mask, nothing is pasted.
    """

    host: Followed
    donor: Followed  # the host itself for a look-alike
    seed: int
    kind: str  # one of KINDS
    length: int  # frames, at most the host's
    labelled: bool = True
    frame_step: int = 1  # video frames from one listed frame to the next: how far it moves

    @property
    def name(self) -> str:
        """ "pasted 7: bear + boat", "look-alikes 7: bear"."""
        parts = dict.fromkeys((self.host.video.name, self.donor.video.name))
        return f"{self.kind} {self.seed}: {' + '.join(parts)}"

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of every frame and mask: the host's."""
        return tuple(self.host.video.size)

    def __len__(self) -> int:
        """Number of frames."""
        return self.length

    @cached_property
    def plan(self) -> Plan:
        """What chance decided; looks at the masks of both videos once. Raises InputError where the host has no id left to give."""
        return draw_plan(self)

    def frame(self, t: int) -> UInt8[Tensor, "H W 3"]:
        """Frame `t` as RGB."""
        plan, video = self.plan, self.host.video
        picture = video.frame(plan.start + t)
        patch = self.patch(t)
        if patch is None:
            return picture
        return lay_over(picture, patch, plan.gain, video.mask(plan.start + t) if plan.behind else None)

    def mask(self, t: int) -> UInt8[Tensor, "H W"]:
        """Index mask of frame `t`: the host's ids, and above them that of the pasted object where it is labelled."""
        return mask_of(self, self.plan, t)

    def patch(self, t: int) -> Patch | None:
        """What is laid over frame `t`; None where there is nothing."""
        return patch_of(self, self.plan, t, colours=True)


def pasted_set(
    sources: Iterable[VideoSet | Video],
    count: int,
    seed: int = 0,
    kind: str = PASTED,
    length: int | None = None,
    labelled: bool | None = None,
) -> VideoSet:
    """`count` videos made from those of `sources`; equal arguments give equal videos.

    Hosts are taken in random order, each about as often as the others; a donor is another video than its host. seed: of the whole set.
    kind: "pasted" or "look-alikes". length: frames of a made video, a random stretch of its host; None, or where the host is shorter: all of
    it. labelled: whether masks show the pasted object; None: in "pasted" only.

    Raises InputError for an unknown kind, a negative seed, a count or length below 1, too few videos, sets that list frames at different
    steps, and a video without any object (its name). Source: ours.
    """
    sources = list(sources)
    if kind not in KINDS:
        raise InputError(f"kind is {kind!r}, expected {' or '.join(KINDS)}")
    if seed < 0:
        raise InputError(f"seed is {seed}, expected 0 or more")
    if count < 1 or (length is not None and length < 1):
        raise InputError(f"{count} videos of {length} frames were asked for, expected 1 or more of each")
    steps = {one.frame_step if isinstance(one, VideoSet) else 1 for one in sources}
    if len(steps) > 1:
        raise InputError(f"sets that list every {sorted(steps)}-th frame were given, expected one step for all")
    videos = [video for one in sources for video in (one.videos if isinstance(one, VideoSet) else (one,))]
    least = 2 if kind == PASTED else 1
    if len(videos) < least:
        raise InputError(f"{len(videos)} videos were given, {kind} needs {least} or more")
    followed = [Followed(video) for video in videos]
    rng = np.random.default_rng([seed, KINDS.index(kind), len(videos)])
    hosts = [place for _ in range(-(-count // len(videos))) for place in rng.permutation(len(videos)).tolist()][:count]
    made = []
    for number, host in enumerate(hosts):
        donor = host
        if kind == PASTED:  # one of the others, all alike
            donor = (host + int(rng.integers(1, len(videos)))) % len(videos)
        for place in (host, donor):
            followed[place].check()
        frames = min(length or len(videos[host]), len(videos[host]))
        shown = kind == PASTED if labelled is None else labelled
        own = seed * count + number
        made.append(PastedVideo(followed[host], followed[donor], own, kind, frames, shown, max(steps)))
    return VideoSet(kind, "video", tuple(made), frame_step=max(steps))
