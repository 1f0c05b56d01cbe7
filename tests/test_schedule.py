"""What every step asks for: tiny recipes' curriculum, and the published ones against their authors' numbers."""

import math

import pytest

from tmrn_edu.courses import find_recipe
from tmrn_edu.errors import InputError
from tmrn_edu.train import TrainSettings, curriculum


def test_curriculum():
    settings = TrainSettings(
        steps=100, lr=1.0, final_lr=0.1, warm_up=0.1, short_share=0.4, hard_from=0.2, hard_pixels=0.25
    )
    stages = [curriculum(settings, step) for step in range(100)]
    assert math.isclose(stages[0].lr, 0.1) and math.isclose(max(stage.lr for stage in stages), 1.0)
    assert stages[10].lr == 1.0 and 0.1 <= stages[99].lr < 0.11
    assert all(a.lr >= b.lr for a, b in zip(stages[10:], stages[11:], strict=False))
    assert [(s.frames, s.max_gap) for s in (stages[39], stages[40])] == [(3, 1), (4, 2)]
    assert stages[19].hard_pixels == 1.0 and 0.25 < stages[60].hard_pixels < 1.0
    curriculum(TrainSettings(steps=1), 0)


def changes(recipe, of, steps):
    """Values of one quantity at some steps of a recipe."""
    settings = find_recipe(recipe).settings
    return [getattr(curriculum(settings, step), of) for step in steps]


def test_stcn_as_published():
    steps = [0, 14_999, 15_000, 30_000, 45_000, 60_000, 134_999, 135_000, 149_999]
    assert changes("stcn_video", "max_gap", steps) == [5, 5, 10, 15, 20, 25, 25, 5, 5]
    assert changes("stcn_video", "lr", [0, 124_999, 125_000]) == pytest.approx([1e-5, 1e-5, 1e-6])
    assert changes("stcn_static", "lr", [0, 149_999, 150_000]) == pytest.approx([1e-5, 1e-5, 1e-6])
    for stage in ("stcn_video", "stcn_static", "xmem_video", "xmem_static"):
        found = changes(stage, "hard_pixels", [0, 19_999, 20_000, 45_000, 70_000, 100_000])
        assert found == pytest.approx([1, 1, 1, 0.575, 0.15, 0.15])
    assert set(changes("stcn_video", "frames", range(0, 150_000, 10_000))) == {3}


def test_xmem_as_published():
    steps = [0, 9_999, 10_000, 29_999, 30_000, 89_999, 90_000, 109_999]
    assert changes("xmem_video", "max_gap", steps) == [5, 5, 10, 10, 15, 15, 5, 5]
    assert changes("xmem_video", "fine_tune", [99_999, 100_000, 109_999]) == [False, True, True]
    assert changes("xmem_video", "lr", [79_999, 80_000]) == pytest.approx([1e-5, 1e-6])
    assert changes("xmem_static", "lr", [0, 149_999]) == pytest.approx([1e-5, 1e-5])
    assert set(changes("xmem_video", "frames", [0, 50_000])) == {8}


def test_stm_is_trained_by_plain_cross_entropy():
    assert set(changes("stm_video", "hard_pixels", range(0, 150_000, 10_000))) == {1.0}
    assert changes("stm_video", "max_gap", [0, 30_000, 60_000, 90_000, 120_000, 149_999]) == [5, 10, 15, 20, 25, 25]


def test_a_shorter_run_keeps_its_shape():
    whole, short = find_recipe("xmem_video").settings, find_recipe("xmem_video").with_settings(steps=110).settings
    for step in range(110):
        one, other = curriculum(whole, 1000 * step), curriculum(short, step)
        assert (one.max_gap, one.fine_tune) == (other.max_gap, other.fine_tune)
        assert one.lr == pytest.approx(other.lr) and one.hard_pixels == pytest.approx(other.hard_pixels, abs=1e-6)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimiser": "sgd"}, "optimiser is 'sgd', expected adamw or adam"),
        ({"gaps": ((0.1, 5),)}, "gaps are .*, expected shares that rise from 0"),
        ({"gaps": ((0.0, 0),)}, "each with a gap of at least 1"),
        ({"fine_tune": 1.5}, "fine_tune is 1.5, expected a share from 0 to 1"),
        ({"hard_pixels": 0.0}, "hard_pixels is 0.0, expected a share above 0"),
    ],
)
def test_settings_that_cannot_be(options, message):
    with pytest.raises(InputError, match=message):
        TrainSettings(**options)
