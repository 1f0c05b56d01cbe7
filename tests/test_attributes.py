"""Attributes from true masks: every rule on a clip that just fulfils it and on one that just does not."""

import pytest
import torch

from tmrn_edu.attributes import ATTRIBUTES, attribute_values, mask_attributes
from tmrn_edu.errors import InputError

EASY = (30, 40, 40, 50)  # top, left, height, width: a fifth of a picture of 96 x 108


def clip(*boxes, size=(96, 108)):
    """Each box is a list of (top, left, height, width) or None, one a frame; object ids from 1 on."""
    masks = torch.zeros(len(boxes[0]), *size, dtype=torch.uint8)
    for label, places in enumerate(boxes, start=1):
        for t, place in enumerate(places):
            if place is not None:
                top, left, height, width = place
                masks[t, top : top + height, left : left + width] = label
    return masks


def moved(dx, frames=4, place=(30, 20, 40, 50)):
    return [(place[0], place[1] + t * dx, *place[2:]) for t in range(frames)]


def test_an_easy_sequence_has_none():
    assert mask_attributes(clip([EASY] * 4)) == ()
    assert all(rule.short.isupper() or not rule.short for rule in ATTRIBUTES)


@pytest.mark.parametrize(
    "name, yes, no",
    [
        ("fast-motion", clip(moved(5)), clip(moved(4))),  # 96 rows: 4 pixels are 20 of 480 rows, and 20 is not over 20
        ("low-resolution", clip([(10, 10, 32, 32)] * 3), clip([(10, 10, 32, 33)] * 3)),  # 1024 and 1056 of 10368
        ("small", clip([(9, 9, 10, 10)] * 3), clip([(9, 9, 10, 11)] * 3)),
        ("scale-variation", clip([(5, 5, 40, 40), (5, 5, 40, 19)]), clip([(5, 5, 40, 40), (5, 5, 40, 20)])),
        ("disappears", clip([EASY, None, EASY]), clip([None, EASY, EASY])),
        ("out-of-view", clip([EASY, (0, 40, 40, 50)]), clip([EASY, (1, 40, 40, 50)])),
        ("deformation", clip([(20, 20, 60, 40), (20, 20, 60, 30)]), clip([(20, 20, 60, 40), (40, 30, 56, 36)])),
        ("several-objects", clip([EASY], [(2, 2, 20, 20)]), clip([EASY])),
        ("late-object", clip([None, EASY]), clip([EASY, None])),
        ("touching-objects", clip([EASY] * 2, [(30, 20, 30, 20)] * 2), clip([EASY] * 2, [(30, 19, 30, 20)] * 2)),
    ],
)
def test_rules_at_their_borders(name, yes, no):
    assert name in mask_attributes(yes) and name not in mask_attributes(no)


def test_complex_shapes():
    """A comb's outline is long for its area; a block with the same box is not complex."""
    comb = clip([(20, 20, 50, 60)])
    comb[:, 24:, 22:80:4] = comb[:, 24:, 23:80:4] = 0
    values = attribute_values(comb)[1]
    assert values["shape-complexity"] > 5 and mask_attributes(comb) == ("shape-complexity",)
    square = attribute_values(clip([(20, 20, 50, 50)]))[1]["shape-complexity"]
    assert square == pytest.approx((4 * 49) ** 2 / (4 * torch.pi * 50**2))  # 196 pixels of outline


def test_touching_counts_frames():
    beside, apart = (30, 20, 30, 20), (30, 10, 30, 20)
    masks = clip([EASY] * 4, [beside, beside, beside, apart])
    assert attribute_values(masks)[1]["touching-objects"] == 0.75
    above = clip([EASY] * 2, [(10, 40, 20, 20), (9, 40, 20, 20)])
    assert attribute_values(above)[2]["touching-objects"] == 0.5 and "touching-objects" not in mask_attributes(above)


def test_steps_over_a_gap_are_no_motion():
    """Where an object was out of sight, nobody knows how it went."""
    values = attribute_values(clip([(30, 5, 40, 50), None, (30, 50, 40, 50)]))[1]
    assert values["fast-motion"] != values["fast-motion"] and values["disappears"] == 1
    assert "fast-motion" not in mask_attributes(clip([EASY]))  # one frame


def test_one_object_is_enough_and_void_is_none():
    masks = clip([EASY] * 3, [(2, 2, 20, 20), None, (2, 2, 20, 20)])
    masks[:, 90:] = 255
    assert set(attribute_values(masks)) == {1, 2}
    assert mask_attributes(masks) == ("low-resolution", "disappears", "several-objects")


def test_masks_without_objects():
    empty = torch.zeros(3, 6, 8, dtype=torch.uint8)
    empty[0, 0, 0] = 255
    with pytest.raises(InputError, match="masks of 3 frames have 0 objects, attributes need at least 1"):
        mask_attributes(empty)
