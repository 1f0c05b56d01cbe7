"""Warps and augmentation: maps invert, pictures and masks move together, colours change as torchvision's do."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from PIL import Image

from tmrn_edu.data.colours import Brightness, Contrast, Hue, Saturation, recolour, shift_hue
from tmrn_edu.data.transforms import (
    MEAN_COLOUR,
    Augmentation,
    Jitter,
    Warp,
    static_augmentation,
    video_augmentation,
    warp_frame,
    warp_mask,
)
from tmrn_edu.data.warps import UPRIGHT, Affine, crop, draw_thin_plate, exchange, fit_thin_plate, mirror, turn
from tmrn_edu.errors import InputError


def rng(*seed):
    return np.random.default_rng(seed)


def noise(height, width, seed=0):
    return torch.from_numpy(rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def disc(height, width, centre, radius):
    """A green disc, label 1, on a red ground: (frame, mask)."""
    y, x = np.ogrid[:height, :width]
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
    frame = np.where(inside[..., None], (20, 200, 40), (200, 30, 40)).astype(np.uint8)
    return torch.from_numpy(frame), torch.from_numpy(inside.astype(np.uint8))


def plain(augmentation):
    """The same without any change of colour."""
    return replace(augmentation, clip_colours=Jitter(), frame_colours=Jitter(), grey=0.0)


PRESETS = {
    "static": static_augmentation(48),
    "video": video_augmentation(48),
    "bilinear": video_augmentation(48, "bilinear"),
    "fine-tune": video_augmentation(48, fine_tune=True),
}


# ------------------------------------------------------------------ maps between points


def test_maps_by_hand():
    points = torch.tensor([[0.0, 0.0], [2.0, 5.0]], dtype=torch.float64)
    assert torch.equal(Warp().source(points), points)
    assert Warp((mirror(6),)).source(points).tolist() == [[0, 5], [2, 0]]
    assert Warp((exchange(),)).source(points).tolist() == [[0, 0], [5, 2]]
    # Output borders -0.5 and 3.5 lie on the borders of the box, 9.5 and 17.5 (rows), 4.5 and 10.5 (columns).
    box = Warp((crop((10, 5, 8, 6), (4, 4)),))
    assert torch.allclose(
        box.source(torch.tensor([[-0.5, -0.5], [3.5, 3.5]])), torch.tensor([[9.5, 4.5], [17.5, 10.5]])
    )
    assert np.allclose(turn((7, 9)).matrix, np.eye(3))


def test_turning_follows_torchvision():
    """The inverse matrix of torchvision's RandomAffine, written out from its documented formula for (x, y) about the centre."""
    angle, scale, shear = np.radians(17.0), 1.2, np.radians(8.0)
    a, b = np.cos(angle), -np.cos(angle) * np.tan(shear) - np.sin(angle)
    c, d = np.sin(angle), -np.sin(angle) * np.tan(shear) + np.cos(angle)
    inverse = np.array([[d, -b], [-c, a]]) / scale  # determinant of [[a, b], [c, d]] is 1
    warp = Warp((turn((20, 30), 17.0, 1.2, 8.0),))
    centre = np.array([14.5, 9.5])  # x, y
    for x, y in ((0.0, 0.0), (29.0, 3.0), (14.5, 9.5)):
        expected = centre + inverse @ (np.array([x, y]) - centre)
        found = warp.source(torch.tensor([y, x], dtype=torch.float64)).flip(0).numpy()
        assert np.allclose(found, expected, atol=1e-9)


def test_neighbouring_affine_maps_become_one():
    warp = Warp().then(mirror(8)).then(turn((8, 8), 30.0)).then(crop((1, 2, 5, 4), (8, 8)))
    assert len(warp.steps) == 1
    points = torch.rand(5, 2, dtype=torch.float64) * 8
    apart = points
    for step in (mirror(8), turn((8, 8), 30.0), crop((1, 2, 5, 4), (8, 8))):
        apart = Warp((step,)).source(apart)
    assert torch.allclose(warp.source(points), apart)


def test_a_spline_through_its_points():
    source = rng(1).uniform(0, 1, (6, 2))
    centres = source + rng(2).normal(scale=0.02, size=(6, 2))
    spline = fit_thin_plate((30, 50), centres, source)
    scale = torch.tensor([30.0, 50.0], dtype=torch.float64)
    found = Warp((spline,)).source(torch.from_numpy(centres) * scale - 0.5)
    assert torch.allclose(found, torch.from_numpy(source) * scale - 0.5, atol=1e-6)
    # Natural: the weights neither shift nor tilt the plane. An affine displacement needs no bending at all.
    assert np.allclose(spline.weights.sum(axis=0), 0) and np.allclose(centres.T @ spline.weights, 0)
    affine = fit_thin_plate((30, 50), centres, centres @ np.array([[1.1, 0.1], [-0.2, 0.9]]) + 0.05)
    assert np.allclose(affine.weights, 0, atol=1e-9)


def test_slopes_of_a_spline_are_its_differences():
    spline = draw_thin_plate(rng(3), (40, 60))
    y, x = torch.rand(2, 20, dtype=torch.float64) * 40
    for k, (dy, dx) in enumerate(((1e-5, 0.0), (0.0, 1e-5))):
        high, low = spline.forth(y + dy, x + dx), spline.forth(y - dy, x - dx)
        for to in range(2):
            assert torch.allclose((high[to] - low[to]) / 2e-5, spline.slopes(y, x)[2 * to + k], atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_bent_pictures_never_fold(seed):
    spline = draw_thin_plate(rng(seed), (64, 64))
    y = torch.linspace(-0.5, 63.5, 150, dtype=torch.float64)
    a, b, c, d = spline.slopes(rearrange(y, "y -> y 1"), y)
    assert (a * d - b * c).min() > UPRIGHT / 2  # checked on a coarser grid when it is drawn


@pytest.mark.parametrize("name", PRESETS)
def test_every_augmentation_can_be_inverted(name):
    pixels = rearrange(Warp().grid((48, 48)), "H W yx -> (H W) yx")
    augmentation = replace(PRESETS[name], bending=1.0 if PRESETS[name].bending else 0.0)
    for seed in range(4):
        for view in augmentation.draw(rng(seed), (50, 75), 3):
            assert torch.allclose(view.warp.target(view.warp.source(pixels)), pixels, atol=1e-3)
            y, x = view.warp.planes((48, 48))
            assert torch.allclose(torch.stack([y, x], dim=-1).double(), view.warp.grid((48, 48)), atol=1e-3)
            centre = torch.tensor([[24.0, 37.0]], dtype=torch.float64)
            assert torch.allclose(view.warp.source(view.warp.target(centre)), centre, atol=1e-3)


# ------------------------------------------------------------------ reading pictures


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_whole_pixels_are_read_exactly(mode):
    frame, mask = noise(9, 12), torch.arange(108, dtype=torch.uint8).reshape(9, 12)
    exact = rearrange(frame, "H W c -> c H W") / 255
    assert torch.allclose(warp_frame(frame, Warp(), (9, 12), mode), exact, atol=1e-5)
    assert torch.allclose(warp_frame(frame, Warp((mirror(12),)), (9, 12), mode), exact.flip(-1), atol=1e-5)
    assert torch.allclose(warp_frame(frame, Warp((exchange(),)), (12, 9), mode), exact.mT, atol=1e-5)
    assert torch.equal(warp_mask(mask, Warp((mirror(12),)), (9, 12)), mask.flip(-1))
    shifted = Warp((crop((2, 3, 4, 5), (4, 5)),))
    assert torch.allclose(warp_frame(frame, shifted, (4, 5), mode), exact[:, 2:6, 3:8], atol=1e-5)
    assert torch.equal(warp_mask(mask, shifted, (4, 5)), mask[2:6, 3:8])


def test_reading_between_pixels():
    frame = torch.zeros(1, 3, 3, dtype=torch.uint8)
    frame[0, :, 0] = torch.tensor([0, 100, 200])
    for shift, values, labels in ((0.25, [25, 125], [7, 8]), (0.75, [75, 175], [8, 9])):
        warp = Warp((Affine(np.array([[1.0, 0, 0], [0, 1, shift], [0, 0, 1]])),))
        assert (warp_frame(frame, warp, (1, 2))[0, 0] * 255).tolist() == pytest.approx(values, abs=1e-3)
        assert warp_mask(torch.tensor([[7, 8, 9]], dtype=torch.uint8), warp, (1, 2)).tolist() == [labels]
        tall = Warp().then(exchange()).then(warp.steps[0]).then(exchange())
        assert warp_mask(torch.tensor([[7], [8], [9]], dtype=torch.uint8), tall, (2, 1)).mT.tolist() == [labels]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_outside_is_mean_colour_and_background(mode):
    frame = torch.full((10, 10, 3), 255, dtype=torch.uint8)
    mask = torch.ones(10, 10, dtype=torch.uint8)
    warp = Warp((crop((-5, 0, 10, 10), (10, 10)),))  # the upper half lies above the picture
    shown, labels = warp_frame(frame, warp, (10, 10), mode), warp_mask(mask, warp, (10, 10))
    assert torch.allclose(shown[:, :5], rearrange(torch.tensor(MEAN_COLOUR), "c -> c 1 1").expand(3, 5, 10))
    assert torch.allclose(shown[:, 5:], torch.tensor(1.0)) and (labels[:5] == 0).all() and (labels[5:] == 1).all()
    away = Warp((crop((100, 100, 10, 10), (10, 10)),))
    assert torch.allclose(warp_frame(frame, away, (10, 10), mode)[1], torch.tensor(MEAN_COLOUR[1]))
    assert (warp_mask(mask, away, (10, 10)) == 0).all()
    assert (warp_frame(frame, away, (10, 10), mode, fill=(0.0, 1.0, 0.0))[1] == 1).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 3)])
def test_tiny_pictures(shape):
    frame = torch.full((*shape, 3), 51, dtype=torch.uint8)
    warp = Warp((crop((0, 0, *shape), (5, 5)),))
    assert torch.allclose(warp_frame(frame, warp, (5, 5), "bicubic"), torch.tensor(0.2), atol=1e-5)


def test_shrinking_does_not_alias():
    """Stripes of one pixel become even grey, not a pattern; and what is seen stays at its place."""
    frame = torch.zeros(160, 160, 3, dtype=torch.uint8)
    frame[:, ::2] = 255
    small = warp_frame(frame, Warp((crop((0, 0, 160, 160), (50, 50)),)), (50, 50))
    assert (small - 0.5).abs().max() < 0.05
    frame, mask = disc(160, 200, (70, 110), 40)
    warp = Warp().then(turn((40, 40), 10.0)).then(crop((10, 30, 130, 150), (40, 40)))
    shown, labels = warp_frame(frame, warp, (40, 40)), warp_mask(mask, warp, (40, 40))
    assert ((shown[1] > 115 / 255) == (labels == 1)).float().mean() > 0.98


def test_density_of_a_reduced_picture():
    assert np.allclose(Warp((crop((3, 4, 30, 80), (10, 20)),)).density((10, 20)), (3, 4))
    assert np.allclose(Warp((turn((10, 10), 45.0, 0.5),)).density((10, 10)), (2, 2))


@pytest.mark.parametrize("name", PRESETS)
def test_label_and_colour_move_together(name):
    frame, mask = disc(60, 80, (28, 42), 17)
    augmentation = plain(PRESETS[name])
    if augmentation.bending:
        augmentation = replace(augmentation, bending=1.0)
    for seed in range(6):
        for view in augmentation.draw(rng(seed), (60, 80), 2):
            shown, labels = view.frame(frame), view.mask(mask)
            assert shown.shape == (3, 48, 48) and shown.min() >= 0 and shown.max() <= 1
            assert set(labels.unique().tolist()) <= {0, 1} and labels.any()
            inside = 1 - F.max_pool2d(1 - labels[None].float(), 5, 1, 2)[0] > 0  # 2 pixels off the edge
            outside = F.max_pool2d(labels[None].float(), 5, 1, 2)[0] == 0
            assert (shown[1][inside] > shown[0][inside]).all() and (shown[1][outside] < shown[0][outside]).all()


def test_bicubic_and_bilinear_differ_and_others_are_refused():
    frame, warp = noise(12, 12), Warp((crop((0.3, 0.4, 10, 10), (12, 12)),))
    assert not torch.equal(warp_frame(frame, warp, (12, 12)), warp_frame(frame, warp, (12, 12), "bicubic"))
    with pytest.raises(InputError, match="interpolation is 'nearest', known are bilinear, bicubic"):
        warp_frame(frame, warp, (12, 12), "nearest")


# ------------------------------------------------------------------ colours


def middling(seed=0, size=(6, 7)):
    """Colours far enough from 0 and 1 that nothing is cut off."""
    return torch.from_numpy(rng(seed).uniform(0.3, 0.6, (3, *size))).float()


def grey_of(frame):
    return reduce(frame * torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1), "c H W -> 1 H W", "sum")


def test_each_colour_change():
    frame = middling()
    assert torch.allclose(recolour(frame, (Brightness(1.1),)), frame * 1.1)
    assert torch.allclose(recolour(frame, (Contrast(0.8),)), 0.8 * frame + 0.2 * grey_of(frame).mean(), atol=1e-6)
    assert torch.allclose(recolour(frame, (Saturation(1.2),)), 1.2 * frame - 0.2 * grey_of(frame), atol=1e-6)
    assert torch.allclose(recolour(frame, (Saturation(0.0),)), grey_of(frame).expand(3, 6, 7), atol=1e-6)
    assert recolour(frame, (Brightness(9.0),)).max() == 1


@pytest.mark.parametrize(
    "links",
    [
        (Contrast(0.9), Brightness(1.1), Hue(0.1), Saturation(0.8), Contrast(1.1)),
        (Brightness(1.2), Contrast(0.5), Brightness(0.8), Contrast(1.2)),
    ],
)
def test_a_chain_is_its_links_in_order(links):
    frame = middling()
    apart = frame
    for link in links:
        apart = recolour(apart, (link,))
    assert torch.allclose(recolour(frame, links), apart, atol=1e-5)


def test_the_order_of_a_chain_matters():
    links, frame = (Brightness(2.0), Hue(0.2), Saturation(0.5)), middling()
    assert not torch.allclose(recolour(frame, links), recolour(frame, links[::-1]), atol=1e-2)


def test_hue_against_pillow():
    frame = middling(size=(20, 20))
    picture = Image.fromarray((rearrange(frame, "c H W -> H W c") * 255).round().byte().numpy()).convert("HSV")
    hue, saturation, value = picture.split()
    hue = Image.fromarray((np.array(hue).astype(int) + 64).astype(np.uint8))  # a quarter of 256
    expected = torch.from_numpy(np.array(Image.merge("HSV", (hue, saturation, value)).convert("RGB"))) / 255
    assert (rearrange(shift_hue(frame, 0.25), "c H W -> H W c") - expected).abs().max() < 0.03  # bytes of HSV


def test_hue_of_pure_colours():
    red, grey = torch.tensor([1.0, 0, 0]).reshape(3, 1, 1), torch.full((3, 1, 1), 0.4)
    assert torch.allclose(shift_hue(red, 1 / 3), torch.tensor([0.0, 1, 0]).reshape(3, 1, 1), atol=1e-6)
    assert torch.allclose(shift_hue(red, -1 / 3), torch.tensor([0.0, 0, 1]).reshape(3, 1, 1), atol=1e-6)
    assert torch.allclose(shift_hue(red, 1.0), red, atol=1e-5) and torch.allclose(shift_hue(grey, 0.3), grey)
    assert torch.allclose(shift_hue(middling(), 0.0), middling(), atol=1e-6)


def test_jitter_draws_its_whole_range_in_any_order():
    jitter, draws = Jitter(0.1, 0.2, 1.5, 0.05), rng(0)
    drawn = [jitter.draw(draws) for _ in range(300)]
    for kind, low, high in ((Brightness, 0.9, 1.1), (Contrast, 0.8, 1.2), (Saturation, 0.0, 2.5)):
        factors = [link.factor for links in drawn for link in links if isinstance(link, kind)]
        span = high - low
        assert low <= min(factors) < low + 0.05 * span and high - 0.05 * span < max(factors) <= high
    turns = [link.turns for links in drawn for link in links if isinstance(link, Hue)]
    assert -0.05 <= min(turns) < -0.045 and 0.045 < max(turns) <= 0.05
    assert {type(links[0]) for links in drawn} == {Brightness, Contrast, Saturation, Hue}
    assert Jitter().draw(draws) == () and len(Jitter(0.1).draw(draws)) == 1


# ------------------------------------------------------------------ augmentation


def test_views_follow_from_the_seed():
    one, same, other = (video_augmentation(32).draw(rng(seed), (40, 60), 3) for seed in (1, 1, 2))
    frame = noise(40, 60)
    assert all(torch.equal(a.frame(frame), b.frame(frame)) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one[0].frame(frame), other[0].frame(frame))
    assert not torch.equal(one[0].frame(frame), one[1].frame(frame))


def test_without_turning_all_frames_share_one_view():
    views = plain(video_augmentation(32, fine_tune=True)).draw(rng(0), (40, 60), 3)
    frame = noise(40, 60)
    assert all(torch.equal(view.frame(frame), views[0].frame(frame)) for view in views)


def test_boxes_of_videos():
    """Area and aspect stay in their ranges and use them; the box stays in the picture; half of the clips are mirrored."""
    augmentation, draws = replace(video_augmentation(64), rotation=0.0, shear=0.0), rng(0)
    areas, aspects, flips = [], [], []
    corners = torch.tensor([[-0.5, -0.5], [63.5, 63.5]], dtype=torch.float64)
    for _ in range(400):
        view = augmentation.draw(draws, (100, 120), 1)[0]
        (top, left), (bottom, right) = view.warp.source(corners).tolist()
        flips.append(left > right)
        left, right = min(left, right), max(left, right)
        assert -0.5 - 1e-6 <= top < bottom <= 99.5 + 1e-6 and -0.5 - 1e-6 <= left < right <= 119.5 + 1e-6
        areas.append((bottom - top) * (right - left) / 12000)
        aspects.append((right - left) / (bottom - top))
    assert 0.35 < min(areas) < 0.38 and 0.93 < max(areas) <= 1.0
    assert 0.74 < min(aspects) < 0.78 and 1.28 < max(aspects) < 1.35
    assert 160 < sum(flips) < 240


@pytest.mark.parametrize("size, expected", [((20, 200), (20, 27)), ((200, 20), (27, 20))])
def test_a_box_that_never_fits_is_the_middle(size, expected):
    augmentation = Augmentation(16, flip=0.0, crop_area=(1.0, 1.0))
    corners = torch.tensor([[-0.5, -0.5], [15.5, 15.5]], dtype=torch.float64)
    ends = augmentation.draw(rng(0), size, 1)[0].warp.source(corners)
    assert torch.allclose(ends[1] - ends[0], torch.tensor(expected, dtype=torch.float64))
    assert (ends.mean(dim=0) - torch.tensor([size[0] / 2 - 0.5, size[1] / 2 - 0.5])).abs().max() <= 0.5


def test_squares_of_stills():
    """The short side fits exactly, the long one is used from end to end, frame by frame."""
    augmentation, lefts = Augmentation(16, flip=0.0), []
    corners = torch.tensor([[-0.5, -0.5], [15.5, 15.5]], dtype=torch.float64)
    for view in augmentation.draw(rng(0), (32, 64), 300):
        (top, left), (bottom, right) = view.warp.source(corners).tolist()
        assert (top, bottom) == pytest.approx((-0.5, 31.5)) and right - left == pytest.approx(32)
        lefts.append(left)
    assert min(lefts) == pytest.approx(-0.5) and max(lefts) == pytest.approx(31.5)


def test_zoom_is_shared_and_uses_its_range():
    draws, found = rng(0), []
    augmentation = Augmentation(16, zoom=(0.8, 1.5))
    for _ in range(200):
        one, other = augmentation.draw(draws, (32, 32), 2)
        assert one.warp.density((16, 16)) == pytest.approx(other.warp.density((16, 16)))
        found.append(2 / one.warp.density((16, 16))[0])
    assert 0.8 <= min(found) + 1e-9 < 0.82 and 1.48 < max(found) - 1e-9 <= 1.5


def test_turning_uses_its_range():
    """Angles, scales and shears recovered from the affine parts of static views."""
    augmentation, found = replace(static_augmentation(48), bending=0.0, flip=0.0, zoom=(1.0, 1.0)), []
    for view in augmentation.draw(rng(0), (48, 48), 400):
        a, b, c, d = rearrange(np.linalg.inv(view.warp.steps[0].matrix[:2, :2])[::-1, ::-1], "i j -> (i j)")
        angle = np.arctan2(c, a)
        scale = np.hypot(a, c)
        shear = np.arctan(-(np.cos(angle) * b + np.sin(angle) * d) / scale)
        found.append((np.degrees(angle), scale, np.degrees(shear)))
    low, high = np.min(found, axis=0), np.max(found, axis=0)
    assert np.allclose(low, (-20, 0.9, -10), atol=(0.5, 0.01, 0.5))
    assert np.allclose(high, (20, 1.1, 10), atol=(0.5, 0.01, 0.5))
    assert (low >= (-20.001, 0.8999, -10.001)).all() and (high <= (20.001, 1.1001, 10.001)).all()


def test_a_third_of_stills_is_bent_and_some_clips_are_grey():
    draws = rng(0)
    views = [view for _ in range(100) for view in static_augmentation(16).draw(draws, (20, 20), 3)]
    assert 70 < sum(len(view.warp.steps) > 1 for view in views) < 130
    grey = [Saturation(0.0) in view.colours for view in views]
    assert 3 <= sum(grey) <= 36 and all(a == b == c for a, b, c in zip(grey[::3], grey[1::3], grey[2::3], strict=True))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 0}, "size is 0, expected 1 or more"),
        ({"size": 8, "bending": 0.5}, "size is 8, expected 12 or more"),
        ({"interpolation": "nearest"}, "interpolation is 'nearest', known are bilinear, bicubic"),
        ({"flip": 1.5}, "flip is 1.5, expected a probability from 0 to 1"),
        ({"zoom": (1.5, 0.8)}, r"zoom is \(1.5, 0.8\), expected 0 < low <= high"),
    ],
)
def test_options_that_mean_nothing(options, message):
    with pytest.raises(InputError, match=message):
        Augmentation(**{"size": 32, **options})


def test_other_errors():
    with pytest.raises(InputError, match="hue is 0.7, expected 0 to 0.5 turns"):
        Jitter(hue=0.7)
    with pytest.raises(InputError, match="contrast is -1.0, expected 0 or more"):
        Jitter(contrast=-1.0)
    with pytest.raises(InputError, match="12 control points need as many rows and columns, the picture has 10 x 30"):
        draw_thin_plate(rng(0), (10, 30))
    with pytest.raises(
        InputError, match="12 control points moved by 3.0 of the side fold the picture in each of 100 draws"
    ):
        draw_thin_plate(rng(0), (32, 32), sigma=3.0)
