"""What makes a sequence hard: attributes computed from its true masks alone, each by a rule with a number in it.

After the list of attributes of DAVIS 2016 (Perazzi et al., CVPR 2016, table 1). Three of its rules are about masks and
have a number, and are taken as printed: fast motion (FM), low resolution (LR), scale variation (SV). Others were judged
by eye there; where masks can tell something of the kind, the rule here is ours and its name says what it measures:
out of view (OV), shape complexity (SC), deformation (DEF), interacting objects (IO), and, for occlusion (OCC), that an
object disappears. Those of appearance (BC, CS, DB, EA, AC, HO, MB) cannot be seen in masks. Three have no counterpart
there: an object below a hundredth of the picture, several objects, one that enters late.

A rule is about one object; a sequence has an attribute when at least one of its objects has it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import hypot, inf, pi

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from tmrn_edu.errors import InputError
from tmrn_edu.masks import VOID

ROWS = 480  # motion is measured in pixels of a picture whose short side is this


@dataclass(frozen=True)
class Attribute:
    """One rule: a measured value, and the number it is compared with."""

    name: str  # as it stands in tables and files
    short: str  # DAVIS' abbreviation; empty where it has no such attribute
    rule: str  # in words
    value: Callable[["_Object"], float]  # of one object; the rule is `value(object) > above` or `< below`
    above: float | int = inf
    below: float | int = -inf

    def holds(self, value: float) -> bool:
        """Whether a value fulfils the rule."""
        return value > self.above or value < self.below


def mask_attributes(index_masks: UInt8[Tensor, "t H W"]) -> tuple[str, ...]:
    """The names of the attributes of a sequence, in the order of ATTRIBUTES; () for one that is easy in all respects.

    index_masks: the true masks of consecutive frames `t H W`; 0 is background, 255 (void) is no object. Where only
    every fifth frame is annotated (YouTube-VOS), "per frame" is per annotated frame. Raises InputError when no frame
    has an object. Source: rules after Perazzi et al. 2016, table 1, and ours; ATTRIBUTES states each.
    """
    values = attribute_values(index_masks).values()
    return tuple(rule.name for rule in ATTRIBUTES if any(rule.holds(one[rule.name]) for one in values))


def attribute_values(index_masks: UInt8[Tensor, "t H W"]) -> dict[int, dict[str, float]]:
    """What the rules compare with their numbers: {object id: {name of the attribute: value}}.

    Arguments and errors as in `mask_attributes`. A value that needs two frames is NaN (no rule holds) where there is
    only one. Source: ours.
    """
    masks = index_masks.cpu().numpy()
    ids = sorted(set().union(*(set(np.unique(mask).tolist()) for mask in masks)) - {0, VOID})
    if not ids:
        raise InputError(f"masks of {len(masks)} frames have 0 objects, attributes need at least 1 (labels 1 to 254)")
    objects = {label: _Object(masks, label, len(ids)) for label in ids}
    return {label: {rule.name: float(rule.value(one)) for rule in ATTRIBUTES} for label, one in objects.items()}


class _Object:
    """Where one object is, frame by frame: what the rules are made of."""

    def __init__(self, masks, label, objects):
        self.image, self.objects = masks.shape[1:], objects
        self.frames = [t for t in range(len(masks)) if (masks[t] == label).any()]  # where it is seen
        self.unseen = len(masks) - self.frames[0] - len(self.frames)  # frames after its first without it
        self.areas, self.boxes, self.centres, self.outlines, self.overlaps, touches = [], [], [], [], [], 0
        before = None
        for t in self.frames:
            mask = masks[t] == label
            rows, columns = mask.sum(axis=1), mask.sum(axis=0)
            seen_rows, seen_columns = np.flatnonzero(rows), np.flatnonzero(columns)
            top, bottom, left, right = seen_rows[0], seen_rows[-1] + 1, seen_columns[0], seen_columns[-1] + 1
            area = int(rows.sum())
            centre = (rows @ np.arange(len(rows)) / area, columns @ np.arange(len(columns)) / area)
            self.areas.append(area)
            self.boxes.append((int(top), int(bottom), int(left), int(right)))
            self.centres.append(centre)
            self.outlines.append(_outline(mask[top:bottom, left:right]))
            touches += _neighbours(masks[t], mask)
            if before is not None and before[0] == t - 1:
                self.overlaps.append(_overlap(before[1], before[2], mask, centre))
            before = (t, mask, centre)
        self.touches = touches / len(self.frames)

    def box_areas(self):
        """Pixels in the bounding box, of every frame where it is seen."""
        return [(bottom - top) * (right - left) for top, bottom, left, right in self.boxes]

    def motion(self):
        """Mean way of the centroid from frame to frame, in pixels of a picture of ROWS."""
        steps = [
            hypot(a[0] - b[0], a[1] - b[1])
            for s, t, a, b in zip(self.frames, self.frames[1:], self.centres, self.centres[1:], strict=False)
            if t == s + 1
        ]
        return _mean(steps) * ROWS / min(self.image)

    def clipped(self):
        """Frames in which the object touches the picture's border, as a share of those where it is seen."""
        height, width = self.image
        return _mean(
            [top == 0 or left == 0 or bottom == height or right == width for top, bottom, left, right in self.boxes]
        )


def _mean(values):
    return float(np.mean(values)) if len(values) else float("nan")


def _outline(mask):
    """Pixels of an object with a pixel above, below, left or right that is not the object's."""
    inside = np.pad(mask, 1)
    inner = inside[:-2, 1:-1] & inside[2:, 1:-1] & inside[1:-1, :-2] & inside[1:-1, 2:]
    return int(np.count_nonzero(mask & ~inner))


def _neighbours(index_mask, mask):
    """Whether a pixel of the object lies beside a pixel of another one."""
    others = (index_mask != 0) & (index_mask != VOID) & ~mask
    return bool((mask[1:] & others[:-1] | mask[:-1] & others[1:]).any()) or bool(
        (mask[:, 1:] & others[:, :-1] | mask[:, :-1] & others[:, 1:]).any()
    )


def _overlap(mask, centre, other, other_centre):
    """Intersection over union of two masks, the second moved by whole pixels so that the centres meet."""
    dy, dx = (round(a - b) for a, b in zip(centre, other_centre, strict=True))
    height, width = mask.shape
    moved = np.zeros_like(mask)
    moved[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] = other[
        max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
    ]
    return np.count_nonzero(mask & moved) / np.count_nonzero(mask | moved)


ATTRIBUTES = (
    Attribute(
        "fast-motion",
        "FM",
        "the centroid moves over 20 pixels a frame on average (at 480 rows)",
        _Object.motion,
        above=20,
    ),
    Attribute(
        "low-resolution",
        "LR",
        "the bounding box takes less than 0.1 of the picture on average",
        lambda one: _mean(one.box_areas()) / (one.image[0] * one.image[1]),
        below=0.1,
    ),
    Attribute(
        "small",
        "",
        "the mask takes less than 0.01 of the picture on average",
        lambda one: _mean(one.areas) / (one.image[0] * one.image[1]),
        below=0.01,
    ),
    Attribute(
        "scale-variation",
        "SV",
        "the smallest bounding box has less than 0.5 of the largest one's area",
        lambda one: min(one.box_areas()) / max(one.box_areas()),
        below=0.5,
    ),
    Attribute(
        "disappears", "OCC", "the object is in no pixel of a frame after its first", lambda one: one.unseen, above=0
    ),
    Attribute("out-of-view", "OV", "the mask touches the picture's border in some frame", _Object.clipped, above=0),
    Attribute(
        "shape-complexity",
        "SC",
        "outline^2 / (4 pi area) is over 5 on average (a disk: 0.8, a square: 1.3)",
        lambda one: _mean([n**2 / (4 * pi * area) for n, area in zip(one.outlines, one.areas, strict=True)]),
        above=5,
    ),
    Attribute(
        "deformation",
        "DEF",
        "masks of neighbouring frames, centroid on centroid, overlap (IoU) by less than 0.8 on average",
        lambda one: _mean(one.overlaps),
        below=0.8,
    ),
    Attribute(
        "touching-objects",
        "IO",
        "the object lies beside another one in over half of its frames",
        lambda one: one.touches,
        above=0.5,
    ),
    Attribute("several-objects", "", "2 objects or more", lambda one: one.objects, above=1),
    Attribute("late-object", "", "an object enters after the first frame", lambda one: one.frames[0], above=0),
)
