"""Overlays: values by hand, stable colours, void and background untouched; the contact sheet as a figure."""

import sys

import numpy as np
import pytest
import torch

from tmrn_edu.viz.overlays import PALETTE, contact_sheet, overlay

H, W = 35, 51


def scene():
    frame = torch.randint(0, 256, (H, W, 3), dtype=torch.uint8, generator=torch.manual_seed(0))
    index = torch.zeros(H, W, dtype=torch.uint8)
    index[5:15, 8:20] = 1
    index[15:30, 12:40] = 4
    index[0:3, 0:4] = 255
    return frame, index


def test_values_against_a_loop():
    frame, index = scene()
    picture = overlay(frame, index, alpha=0.3, contour=False)
    for y in range(H):
        for x in range(W):
            label = int(index[y, x])
            plain = frame[y, x].numpy().astype(float)
            expected = plain if label in (0, 255) else 0.7 * plain + 0.3 * PALETTE[label].numpy()
            assert np.abs(picture[y, x].numpy() - expected).max() <= 0.51


@pytest.mark.parametrize("alpha", [0.0, 0.37, 0.5, 1.0])
def test_blending_never_wraps_around(alpha):
    white = torch.full((2, 254, 3), 255, dtype=torch.uint8)
    every = torch.arange(1, 255)[None].expand(2, 254)
    picture = overlay(white, every, alpha=alpha, contour=False)
    expected = (1 - alpha) * 255 + alpha * PALETTE[1:255].float()
    assert (picture[0] - expected).abs().max() <= 0.51


def test_contour_is_the_full_colour_with_a_dark_line_outside():
    frame, index = scene()
    picture = overlay(frame, index, alpha=0.5)
    assert torch.equal(picture[5, 8:20], PALETTE[1].expand(12, 3))
    assert torch.equal(picture[29, 20], PALETTE[4])
    assert torch.equal(picture[4, 10], frame[4, 10] // 3)
    assert torch.equal(picture[3, 10], frame[3, 10])
    assert torch.equal(picture[0, 0], frame[0, 0])  # void
    assert torch.equal(picture[10, 14], overlay(frame, index, contour=False)[10, 14])


def test_an_outline_without_tint_keeps_the_object_s_colours():
    frame, index = scene()
    picture = overlay(frame, index, alpha=0, thickness=3)
    assert torch.equal(picture[5:8, 8:20], PALETTE[1].expand(3, 12, 3))
    assert torch.equal(picture[8:12, 11:17], frame[8:12, 11:17])
    assert torch.equal(overlay(frame, index), overlay(frame, index, thickness=1))  # small frames have thin rims
    shown = contact_sheet(frame[None], index[None], alpha=0, thickness=3).axes[0].images[0].get_array()
    assert np.array_equal(shown, picture.numpy())
    with pytest.raises(ValueError, match="thickness is 0, expected at least 1"):
        overlay(frame, index, thickness=0)


def test_colours_are_stable_and_apart():
    frame, index = scene()
    alone = overlay(frame, torch.where(index == 4, index, 0), contour=False)
    assert torch.equal(alone[20, 20], overlay(frame, index, contour=False)[20, 20])
    assert PALETTE.shape == (256, 3) and PALETTE.dtype == torch.uint8
    assert PALETTE[0].tolist() == PALETTE[255].tolist() == [0, 0, 0]
    assert PALETTE[1].tolist() == [230, 159, 0]
    colours = PALETTE[1:22].int()
    distance = (colours[:, None] - colours[None]).abs().sum(-1) + 1000 * torch.eye(21, dtype=torch.int32)
    assert distance.min() >= 40
    assert torch.equal(PALETTE[22], PALETTE[1])


def test_inputs_stay_and_kinds_agree():
    frame, index = scene()
    kept = frame.clone(), index.clone()
    picture = overlay(frame, index)
    assert torch.equal(frame, kept[0]) and torch.equal(index, kept[1])
    assert torch.equal(picture, overlay(frame.numpy(), index.numpy().astype(np.int64)))
    assert torch.equal(overlay(frame, torch.zeros_like(index)), frame)
    full = overlay(frame, torch.ones_like(index))  # the object touches all borders: no rim
    assert torch.equal(full, overlay(frame, torch.ones_like(index), contour=False))


def test_refusals():
    frame, index = scene()
    with pytest.raises(ValueError, match="alpha is 1.5, expected 0 to 1"):
        overlay(frame, index, alpha=1.5)
    with pytest.raises(ValueError, match="labels go from 0 to 1020, expected 0 to 255"):
        overlay(frame, index.long() * 4)
    frames, masks = torch.stack([frame] * 3), torch.stack([index] * 3)
    with pytest.raises(ValueError, match="2 titles for 3 frames"):
        contact_sheet(frames, masks, titles=["a", "b"])
    with pytest.raises(ValueError, match="3 frames in 0 columns"):
        contact_sheet(frames, masks, columns=0)


def test_contact_sheet(tmp_path):
    frame, index = scene()
    frames, masks = torch.stack([frame] * 5), torch.stack([index] * 5)
    figure = contact_sheet(frames, masks, columns=3, titles=list("abcde"))
    shown = [axis for axis in figure.axes if axis.images]
    assert len(figure.axes) == 6 and [axis.get_title() for axis in shown] == list("abcde")
    assert np.array_equal(shown[4].images[0].get_array(), overlay(frame, index).numpy())
    figure.savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    plain = contact_sheet(frames[:2])
    assert len(plain.axes) == 2 and np.array_equal(plain.axes[0].images[0].get_array(), frame.numpy())
    if "matplotlib.pyplot" in sys.modules:  # nothing may have been registered there
        assert not sys.modules["matplotlib.pyplot"].get_fignums()
