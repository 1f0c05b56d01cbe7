"""What chance decides about a pasted video: which frames, which path, in front or behind; and how a frame's mask follows from it.

All numbers are drawn once, from the seed, before the first frame is made. A path that hides the target, or that nobody sees, is drawn again.
`video` is a `pasting.PastedVideo` throughout. Ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.data.cutting import Patch, Pose, Spot, cut_out
from tmrn_edu.data.shapes import swing
from tmrn_edu.errors import InputError
from tmrn_edu.masks import MAX_OBJECTS

PASTED, LOOK_ALIKES = KINDS = ("pasted", "look-alikes")
AREA = (0.02, 0.15)  # of the frame, that a pasted object takes
LARGEST = 2.5  # scale of a cut-out: beyond it, it would be a blur
COVERED, VISIBLE, FOLLOWED = 0.4, 0.5, 0.3  # see _misfit
WINDOWS, PATHS = 6, 20  # draws of the donor's frames, and of a path
FRAGMENT = 0.25  # of an object's usual area, below which it counts as hidden
NEAR = 12  # frames to each side of a meeting over which sizes are compared


@dataclass(frozen=True)
class Plan:
    """All that chance decided about a made video. A swing is (mean, amplitude, period in frames, phase), see `shapes.swing`."""

    start: int  # frame of the host that is frame 0
    moments: tuple[int, ...]  # frame of the donor that each frame shows
    source: int  # object of the donor that is pasted
    label: int  # its id in the masks, 0 where it is not labelled
    behind: bool  # the host's objects are in front of it
    mirrored: bool
    scale: float  # output pixels per pixel of the donor
    growth: tuple[float, ...]  # swing of log(scale)
    path: tuple[tuple[tuple[float, ...], ...], ...]  # y and x of its centroid, each a sum of swings, pixels
    gain: tuple[float, ...]  # factors of its RGB

    def pose(self, t: int) -> Pose:
        """Where frame `t` (video frames) shows it."""
        y, x = (float(sum(swing(row, t) for row in rows)) for rows in self.path)
        return Pose((y, x), self.scale * float(np.exp(swing(self.growth, t))), self.mirrored)


def patch_of(video, plan: Plan, t: int, colours: bool) -> Patch | None:
    """The pasted object in frame `t`, or only its opacity; None where it is absent or outside."""
    moment = plan.moments[t]
    spot = video.donor.spots(moment).get(plan.source)
    if spot is None:
        return None
    source = video.donor.video
    frame = source.frame(moment) if colours else None
    pose = plan.pose(t * video.frame_step)
    return cut_out(frame, source.mask(moment), plan.source, spot, pose, video.size)


def mask_of(video, plan: Plan, t: int) -> UInt8[Tensor, "H W"]:
    """The index mask of frame `t`; what is behind takes only pixels of the host's background."""
    mask, patch = video.host.video.mask(plan.start + t), patch_of(video, plan, t, colours=False)
    if patch is None:
        return mask
    part, made = mask[patch.where], mask.clone()
    over = patch.inside & (part == 0) if plan.behind else patch.inside
    made[patch.where] = torch.where(over, torch.tensor(plan.label, dtype=torch.uint8), part)
    return made


def draw_plan(video) -> Plan:
    """Host frames, donor frames, then up to PATHS paths until one fits (`_misfit`); the one that fits best where none does.

    The first frame shows an object of the host, if any start allows it. Raises InputError where the host has no id left to give.
    """
    rng = np.random.default_rng([video.seed, KINDS.index(video.kind), 1])
    host, donor, frames = video.host, video.donor, video.length
    starts = rng.permutation(len(host.video) - frames + 1).tolist()
    start = next((first for first in starts if host.spots(first)), starts[0])
    spots = [host.spots(start + t) for t in range(frames)]
    ids = sorted({label for each in spots for label in each})
    if video.labelled and ids and ids[-1] >= MAX_OBJECTS:
        raise InputError(
            f"{host.video.name} has object id {ids[-1]}; a pasted object needs one more, up to {MAX_OBJECTS}"
        )
    label = 1 + max(ids, default=0) if video.labelled else 0
    target = int(rng.choice(sorted(spots[0]) or ids or [0]))
    moments, source = _draw_moments(rng, video, start, target)
    cuts = [donor.spots(moment).get(source) for moment in moments]
    targets = [each.get(target) for each in spots]
    behind, mirrored = video.kind == LOOK_ALIKES and bool(rng.integers(2)), bool(rng.integers(2))
    draw = _crossing if video.kind == LOOK_ALIKES else _wandering
    best, least = None, np.inf
    for number in range(PATHS):
        scale, path = draw(rng, video, targets, cuts, 1 + number / 5)  # ever faster: short videos leave little time
        growth = (0.0, rng.uniform(0.0, 0.1), rng.uniform(40, 120), rng.uniform(0, 2 * np.pi))
        plan = Plan(start, moments, source, label, behind, mirrored, scale, growth, path, (1.0, 1.0, 1.0))
        misfit = _misfit(video, plan, targets, cuts)
        if misfit < least:
            best, least = plan, misfit
        if not misfit:
            break
    return replace(best, gain=_draw_gain(rng, video, start, moments[0]))


def _draw_moments(rng, video, start, target):
    """Which donor frames are shown, forwards or backwards, turning round at the ends; and the object they show most often.

    Of some draws, the one in which the object is whole most often: not absent, and not cut by the border of the frame.
    """
    count, best, most = len(video.donor.video), None, -1.0
    for _ in range(WINDOWS):
        first, direction = int(rng.integers(count)), int(rng.choice([1, 1, -1]))
        if video.kind == LOOK_ALIKES:  # not the same moment: the copy is another picture of the object
            first, direction = start + int(rng.choice([-1, 1]) * rng.integers(min(6, count), max(7, count // 2))), 1
        moments = tuple(_bounce(first + direction * t, count) for t in range(video.length))
        looked_at = [video.donor.spots(moment) for moment in moments[:: max(1, video.length // 12)]]
        ids = sorted({label for each in looked_at for label in each}) or [target]
        labels = [target] if video.kind == LOOK_ALIKES else ids
        for label in labels:
            spots = [each.get(label) for each in looked_at]
            shown = _shown(spots)
            whole = sum(0.3 + 0.7 * _is_whole(spot, video.donor.video.size) for spot in spots if spot) / len(spots)
            whole += 0.5 * shown[0]  # an object that is there from the first frame
            if whole > most:
                best, most = (moments, label), whole
    return best


def _bounce(index, count):
    """A frame number that turns round at both ends of a video of `count` frames."""
    index = index % max(1, 2 * (count - 1))
    return min(index, 2 * (count - 1) - index)


def _shown(spots):
    """In which frames an object is there, and not hidden but for a FRAGMENT of its usual area."""
    usual = np.median([spot.area for spot in spots if spot] or [0])
    return [bool(spot) and spot.area >= FRAGMENT * usual for spot in spots]


def _is_whole(spot: Spot, size: Sequence[int]) -> bool:
    top, left, bottom, right = spot.box
    return top > 0 and left > 0 and bottom < size[0] and right < size[1]


def _fitting(scale, cuts, size):
    """The scale, or as much of it as lets the cut-out keep within nine tenths of the frame and be no blur."""
    boxes = np.array([spot.box for spot in cuts if spot])
    high, wide = (boxes[:, 2:] - boxes[:, :2]).max(axis=0)
    return float(min(scale, LARGEST, 0.9 * size[0] / high, 0.9 * size[1] / wide))


def _wandering(rng, video, targets, cuts, haste):
    """Scale and path of a pasted object: a slow drift through the frame, and a small quick swing."""
    size, side = video.size, min(video.size)
    if not any(cuts):
        return 1.0, (((0.0, 0.0, 1.0, 0.0),),) * 2
    area = size[0] * size[1] * np.exp(rng.uniform(*np.log(AREA)))
    scale = _fitting(np.sqrt(area / np.median([spot.area for spot in cuts if spot])), cuts, size)
    path = []
    for length in size:
        amplitude = rng.uniform(0.1, 0.32) * length
        middle = length / 2 + rng.uniform(-1, 1) * (0.35 * length - amplitude)
        period = 2 * np.pi * amplitude / (rng.uniform(0.004, 0.02) * haste * side)  # by the speed in the middle
        path.append(((middle, amplitude, period, rng.uniform(0, 2 * np.pi)), _small_swing(rng, side)))
    return scale, tuple(path)


def _crossing(rng, video, targets, cuts, haste):
    """Scale and path of a look-alike: through the place of the target at a random frame, out to where both stand side by side."""
    size, side = video.size, min(video.size)
    both = [t for t, (target, cut) in enumerate(zip(targets, cuts, strict=True)) if target and cut]
    if not both:  # never seen together
        return _wandering(rng, video, targets, cuts, haste)
    meeting = int(rng.choice(both[len(both) // 5 : -(-4 * len(both) // 5)]))
    target, cut = targets[meeting], cuts[meeting]
    ratio = _usual_area(targets, meeting) / _usual_area(cuts, meeting)
    scale = _fitting(rng.uniform(0.85, 1.15) * min(max(np.sqrt(ratio), 0.5), 2.0), cuts, size)
    extent = np.subtract(target.box[2:], target.box[:2])
    apart = (extent + scale * np.subtract(cut.box[2:], cut.box[:2])) / 2  # of the centres where the boxes touch
    heading = rng.normal(0, 0.2) + np.pi * rng.integers(2)  # mostly sideways, as most things move
    ahead = np.array([np.sin(heading), np.cos(heading)])
    reach = rng.uniform(0.9, 1.5) * float(np.abs(ahead) @ apart)
    period = 2 * np.pi * reach / (rng.uniform(0.008, 0.022) * haste * side)
    miss = rng.uniform(-0.2, 0.2, 2) * extent
    rows = []
    for place, share, aside in zip(target.centre, ahead, miss, strict=True):
        phase = -2 * np.pi * meeting * video.frame_step / period  # in the middle of the swing when they meet
        small = _small_swing(rng, side)
        rows.append(((place + aside - swing(small, meeting * video.frame_step), reach * share, period, phase), small))
    return scale, tuple(rows)


def _usual_area(spots, around):
    """Median area in the frames around one: there it may be half hidden."""
    return np.median([spot.area for spot in spots[max(0, around - NEAR) : around + NEAR + 1] if spot])


def _small_swing(rng, side):
    return 0.0, rng.uniform(0.0, 0.015) * side, rng.uniform(15, 40), rng.uniform(0, 2 * np.pi)


def _misfit(video, plan, targets, cuts):
    """How far a plan is from what is asked of it, 0 where it is all there.

    Of each object of frame 0, at most COVERED is hidden; the pasted object is in sight (by its box) in VISIBLE of the frames, and in frame 0
    where it is labelled; the target's box is mostly covered in at most FOLLOWED of the frames, so that a copy does not ride on it.
    """
    seen, covered = [], []
    for t, (target, cut, shown) in enumerate(zip(targets, cuts, _shown(cuts), strict=True)):
        if not shown:
            seen.append(0.0)
            continue
        box = _shown_box(plan.pose(t * video.frame_step), cut)
        shared = _overlap(box, target.box) if target else 0.0
        share = _overlap(box, (0, 0, *video.size)) - (shared if plan.behind else 0.0)
        seen.append(max(0.0, share) / _area(box))
        covered.append(0.0 if plan.behind or not target else shared / _area(target.box))
    seen, covered = np.array(seen), np.array(covered or [0.0])
    misfit = max(0.0, VISIBLE - float((seen > 0.4).mean())) + max(0.0, float((covered > 0.6).mean()) - FOLLOWED)
    misfit += float(bool(plan.label) and seen[0] < 0.4)
    if not plan.behind:
        made = mask_of(video, plan, 0)
        for label, spot in video.host.spots(plan.start).items():
            misfit += max(0.0, 1 - COVERED - int((made == label).sum()) / spot.area)
    return misfit


def _shown_box(pose, spot):
    (y, x), (top, left, bottom, right) = spot.centre, spot.box
    left, right = (x - right, x - left) if pose.mirrored else (left - x, right - x)
    (to_y, to_x), scale = pose.centre, pose.scale
    return to_y + scale * (top - y), to_x + scale * left, to_y + scale * (bottom - y), to_x + scale * right


def _area(box):
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _overlap(one, other):
    return _area((max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])))


def _draw_gain(rng, video, start, moment):
    """Factors of RGB: half way from the donor's light to the host's, or for a copy a small change."""
    if video.kind == LOOK_ALIKES:
        return tuple((rng.uniform(0.97, 1.03, 3) * rng.uniform(0.92, 1.08)).tolist())
    light = [
        frame.float().mean(dim=(0, 1)).clamp_min(1.0).numpy()
        for frame in (video.host.video.frame(start), video.donor.video.frame(moment))
    ]
    return tuple((rng.uniform(0.95, 1.05, 3) * np.clip(np.sqrt(light[0] / light[1]), 0.75, 1.33)).tolist())
