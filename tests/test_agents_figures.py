"""viz/agents.py: numbers that figures are made of, and figures that can be saved."""

import io

import numpy as np
import pytest
import torch

from tmrn_edu.viz import agents as draw

T, H, W, h, w, A = 3, 24, 32, 6, 8, 4


def frames(count):
    return torch.randint(0, 256, (count, H, W, 3), dtype=torch.uint8)


def likelihoods(count):
    return torch.randn(count, A, h * w).softmax(dim=1)


def saved(figure):
    figure.savefig(buffer := io.BytesIO(), format="png")
    return buffer.getvalue()


def test_effective_agents_counts():
    alike = torch.full((1, A, 10), 1 / A)
    one = torch.zeros(1, A, 10)
    one[:, 1] = 1
    halves = torch.zeros(1, A, 10)
    halves[:, 0, :5], halves[:, 3, 5:] = 1, 1
    found = draw.effective_agents(torch.cat([alike, one, halves]))
    torch.testing.assert_close(found, torch.tensor([4.0, 1.0, 2.0]))


def test_map_shows_the_agent_that_answers():
    likelihood = torch.zeros(A, h * w)
    likelihood[0], likelihood[0, 9], likelihood[2, 9] = 1, 0, 1  # cell (1, 1) answers to the opposite of direction 1
    picture, colours = draw.agent_map(likelihood, w), draw.agent_colours(A)
    assert picture.shape == (h, w, 3)
    np.testing.assert_allclose(picture[1, 1], colours[2], atol=1e-6)
    np.testing.assert_allclose(picture[0, 0], colours[0], atol=1e-6)


def test_agents_have_colours_of_their_own():
    for count in (2, 8, 13):
        colours = draw.agent_colours(count)
        assert len(colours) == count == len({tuple(c) for c in colours.round(3)})
        assert colours.min() >= 0 and colours.max() <= 1


@pytest.mark.parametrize(
    "figure, panels",
    [
        (lambda: draw.agent_figure(frames(2), likelihoods(2), ["a", "b"]), 4),
        (lambda: draw.aligned_figure(frames(T), torch.rand(T, 3, h, w), frames(1)[0], ["a", "b", "c"]), 8),
        (lambda: draw.heat_figure(frames(2), torch.rand(2, h, w), ["a", "b"], marks=[(3.5, 7.0), None]), 2),
        (lambda: draw.temporal_figure(frames(1)[0], torch.rand(T, h, w).softmax(dim=0), [0, 2, 5]), 5),
        (
            lambda: draw.plane_figure(
                {"dog": torch.rand(3, 2), "cat": torch.rand(2, 2)}, torch.rand(2), torch.zeros(2), torch.eye(2)
            ),
            1,
        ),
    ],
    ids=["agents", "aligned", "heat", "temporal", "plane"],
)
def test_figures_can_be_saved(figure, panels):
    figure = figure()
    assert len(figure.axes) == panels
    assert saved(figure).startswith(b"\x89PNG")


def test_heat_keeps_its_numbers():
    heat = torch.rand(2, h, w)
    figure = draw.heat_figure(frames(2), heat, ["a", "b"], top=1.0)
    for axis, values in zip(figure.axes, heat, strict=True):
        np.testing.assert_array_equal(axis.images[-1].get_array(), values)
        assert axis.images[-1].get_clim() == (0, 1.0)


def test_a_colour_bar_says_what_the_colours_are():
    heat = torch.rand(2, h, w)
    *panels, bar = draw.heat_figure(frames(2), heat, ["a", "b"], root=True, bar="share of the largest").axes
    for axis, values in zip(panels, heat, strict=True):
        norm = axis.images[-1].norm
        assert (norm.vmin, norm.vmax) == (0, pytest.approx(float(values.max())))
        assert norm(norm.vmax / 4) == pytest.approx(0.5)  # a quarter of the largest is half way up
    assert bar.get_ylabel() == "share of the largest" and bar.get_ylim() == (0, 1)


def test_weights_where_all_frames_count_alike_are_marked():
    bar = draw.temporal_figure(frames(1)[0], torch.rand(T, h, w).softmax(dim=0), [0, 2, 5]).axes[-1]
    assert bar.get_ylabel() == "temporal weight u" and bar.get_ylim() == (0, 1)
    assert bar.lines[-1].get_ydata()[0] == pytest.approx(1 / T)


def test_every_agent_of_the_plane_has_its_name_in_sight():
    agents = torch.tensor([[1.0, 0.0], [0.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])
    figure = draw.plane_figure({"dog": torch.randn(3, 2)}, torch.zeros(2), torch.zeros(2), agents)
    saved(figure)
    (axis,) = figure.axes
    named = {text.get_text(): text.get_position() for text in axis.texts if text.get_text()}
    assert set(named) == {"+1", "+2", "-1", "-2"}
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    assert all(left < x < right and low < y < high for x, y in named.values())


def test_numbers_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="'frames': 2, 'likelihoods': 2, 'titles': 1"):
        draw.agent_figure(frames(2), likelihoods(2), ["a"])
    with pytest.raises(ValueError, match="47 cells do not make a grid"):
        draw.agent_figure(frames(1), likelihoods(1)[..., :47], ["a"])
    with pytest.raises(ValueError, match="'weights': 3, 'frame_numbers': 2"):
        draw.temporal_figure(frames(1)[0], torch.rand(T, h, w), [0, 2])
