"""viz/metrics.py: which boundary pixels are matched, against the package's F, and figures that can be saved."""

import io

import numpy as np
import pytest
import torch

from tmrn_edu import metrics
from tmrn_edu.errors import InputError
from tmrn_edu.frame_metrics import _bits, _boundary
from tmrn_edu.viz import metrics as draw

H, W = 22, 30


def blob(seed):
    """A ragged mask of several pieces."""
    return np.random.default_rng(seed).random((H, W)).cumsum(axis=1) % 7 < 3


def square(top=5, left=6, side=9):
    mask = np.zeros((H, W), dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


def saved(figure):
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=30)
    return buffer.getvalue()


def words(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda one: hasattr(one, "get_text")))


def test_boundary_pixels_are_those_of_the_score():
    for seed in range(3):
        mask = blob(seed)
        assert (draw.boundary_pixels(mask) == (_boundary(_bits(mask, mask)) != 0)[:H, :W]).all()
    assert draw.boundary_pixels(torch.ones(4, 5)).sum() == 0


def test_matches_give_the_package_s_F():
    for seed in range(4):
        for tolerance in (0.008, 0.05, 1, 2.5):
            match = draw.match_boundaries(blob(seed), square(), tolerance)
            assert match.F == pytest.approx(metrics.boundary_accuracy(blob(seed), square(), tolerance), abs=1e-12)


def test_matches_at_the_edge():
    empty, full = np.zeros((H, W), bool), np.ones((H, W), bool)
    assert draw.match_boundaries(full, empty).F == 1 == metrics.boundary_accuracy(full, empty)
    assert draw.match_boundaries(square(), empty).F == 0 == metrics.boundary_accuracy(square(), empty)
    apart = draw.match_boundaries(square(1, 1, 3), square(15, 20, 4))
    assert apart.F == 0 and not apart.predicted_near.any() and not apart.true_near.any()


def test_matches_by_a_loop():
    match = draw.match_boundaries(square(), square(left=9), tolerance=2)
    assert match.radius == 2
    for pixel, near in zip(match.predicted, match.predicted_near, strict=True):
        assert near == any(np.hypot(*(pixel - other)) <= 2 for other in match.true)
    assert 0 < match.predicted_near.mean() < 1


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(InputError, match="22x30"):
        draw.match_boundaries(square()[:5], square())


def test_region_figure_says_the_fraction():
    figure = draw.region_figure({"moved": square(left=9), "right": square()}, square(), torch.zeros(H, W, 3).byte())
    assert saved(figure)
    assert "J = 54 / 108 = 0.50" in words(figure) and "J = 81 / 81 = 1.00" in words(figure)
    colours = {tuple(c) for c in figure.axes[0].images[0].get_array().reshape(-1, 3).tolist()}
    assert len(colours) == 4 and len(figure.axes) == 2
    with pytest.raises(InputError, match="0 predictions"):
        draw.region_figure({}, square())


def test_boundary_figure_says_F_and_marks_what_is_not_matched():
    prediction = square() & (np.arange(W) < 11)
    figure = draw.boundary_figure(prediction, square(), tolerance=1)
    match = draw.match_boundaries(prediction, square(), tolerance=1)
    assert saved(figure)
    assert f"= {match.F:.2f}, tolerance 1 pixel (circle)" in words(figure)
    crosses = [len(axis.collections[1].get_offsets()) for axis in figure.axes]
    assert crosses == [(~match.predicted_near).sum(), (~match.true_near).sum()] and min(crosses) > 0


def test_boundary_figure_of_one_empty_mask_and_of_two():
    empty = np.zeros((H, W), bool)
    assert saved(figure := draw.boundary_figure(empty, square()))
    assert "no boundary pixel" in words(figure) and "F = 2 P R / (P + R) = 0.00" in words(figure)
    with pytest.raises(InputError, match="neither mask has a boundary pixel"):
        draw.boundary_figure(empty, ~empty)


def test_curves_figure():
    figure = draw.curves_figure(
        [0, 1, 2], {"disk": {"J": [1, 0.5, 0], "F": [1, 1, 0]}, "bar": {"J": [1, 1, 1]}}, "pixels"
    )
    assert saved(figure) and [len(axis.lines) for axis in figure.axes] == [2, 1]
    with pytest.raises(InputError, match="x has 2 numbers"):
        draw.curves_figure([0, 1], {"disk": {"J": [1, 0.5, 0]}}, "pixels")


def test_clip_figure_draws_the_means_of_the_quarters():
    truth = torch.zeros(9, H, W, dtype=torch.uint8)
    for t in range(9):
        truth[t, 4:12, 2 + t : 12 + t] = 1
    score = metrics.score(truth[:1].expand(9, H, W), truth)
    figure = draw.clip_figure({"1": score.per_object[1]})
    assert saved(figure)
    first, last = (line.get_ydata()[0] for line in figure.axes[0].lines[-2:])
    assert first - last == pytest.approx(score.per_object[1].J.decay)
    for scores, measure in (({}, "J"), ({"1": score.per_object[1]}, "G")):
        with pytest.raises(InputError, match=f"measure is '{measure}' of {len(scores)} objects"):
            draw.clip_figure(scores, measure)


def test_paired_figure_fills_what_leaves_zero_out():
    hard = np.linspace(0.2, 0.9, 8)
    sure, chance = hard + 0.1, hard + 0.1 * (-1) ** np.arange(8)
    figure = draw.paired_figure({"base": hard, "sure": sure, "chance": chance})
    assert saved(figure)
    diamonds = [line for line in figure.axes[1].lines if line.get_marker() == "D"]
    assert [line.get_markerfacecolor() == "white" for line in diamonds] == [False, True]
    assert diamonds[0].get_xdata()[0] == pytest.approx(0.1)
    with pytest.raises(InputError, match="expected at least 2 networks"):
        draw.paired_figure({"base": hard, "short": hard[:3]})
