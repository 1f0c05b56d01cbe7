"""Pictures of shrinkage, selection and the sensory memory: what they show is what they are given."""

import pytest
import torch

from tmrn_edu.viz import sensory


def strip(count: int = 3):
    masks = torch.zeros(count, 8, 12, dtype=torch.uint8)
    masks[0, 2:5, 3:7] = 1  # the others are empty: hidden
    return torch.zeros(count, 8, 12, 3, dtype=torch.uint8), masks


def test_shrinkage_figure_draws_weights_that_sum_to_one():
    keys, asks = torch.tensor([-1.0, 0.0, 1.0]), torch.linspace(-2, 2, 41)
    figure = sensory.shrinkage_figure(keys, [torch.ones(3), torch.tensor([1.0, 12.0, 1.0])], asks)
    assert [axis.get_title() for axis in figure.axes] == ["shrinkage 1, 1, 1", "shrinkage 1, 12, 1"]
    for axis in figure.axes:
        lines = torch.stack([torch.as_tensor(line.get_ydata()) for line in axis.lines if len(line.get_xdata()) == 41])
        torch.testing.assert_close(lines.sum(dim=0), torch.ones(41))
    with pytest.raises(ValueError, match="2 shrinkages for 3 memory keys"):
        sensory.shrinkage_figure(keys, [torch.ones(2)], asks)


def test_a_picky_pixel_keeps_its_own_place_and_loses_the_rest():
    keys, asks = torch.tensor([-1.0, 0.0, 1.0]), torch.linspace(-2, 2, 41)
    figure = sensory.shrinkage_figure(keys, [torch.ones(3), torch.tensor([1.0, 12.0, 1.0])], asks)
    plain, picky = (torch.as_tensor(axis.lines[2].get_ydata()) for axis in figure.axes)
    assert picky[20] > 0.5 and picky.sum() < 0.6 * plain.sum()


def test_selection_figure_exchanges_the_winner():
    figure = sensory.selection_figure(torch.tensor([[0.1, 2.4], [1.1, 0.5]]), torch.zeros(2), ["A", "B"])
    a, b = (line.get_ydata() for line in figure.axes[1].lines)
    assert a[0] > b[0] and a[-1] < b[-1]


def test_weight_columns():
    frames, masks = strip()
    maps = {"one": torch.rand(3, 4, 6), "two": torch.zeros(3, 4, 6)}
    figure = sensory.weight_columns(frames, masks, maps, frames[0], (3, 4), ["a", "b", "c"])
    largest = f"one\nlargest {float(maps['one'].max()):.2g}"
    assert [axis.get_title() for axis in figure.axes[:3]] == ["the query", largest, "two\nlargest 0"]
    assert [figure.axes[i].get_ylabel() for i in (1, 4, 7)] == ["a", "b", "c"]
    for columns, titles in (({}, ["a", "b", "c"]), (maps, ["a"]), ({"one": maps["one"][:2]}, ["a", "b", "c"])):
        with pytest.raises(ValueError, match="expected at least one column, and as many of each"):
            sensory.weight_columns(frames, masks, columns, frames[0], (3, 4), titles)


def test_sensory_strip_gives_signed_maps_a_scale_with_zero_in_the_middle():
    frames, masks = strip()
    signed, energy = torch.rand(3, 4, 6) - 0.5, 2 * torch.rand(3, 4, 6)
    figure = sensory.sensory_strip(frames, masks, {"energy": energy, "channel": signed}, ["0", "1", "2"])
    limits = {axis.get_ylabel(): axis.images[0].get_clim() for axis in figure.axes if axis.get_ylabel() and axis.images}
    assert limits["channel"] == (-1.0, 1.0)
    assert limits["energy"] == (0.0, pytest.approx(float(energy.max())))
    with pytest.raises(ValueError, match="expected as many of each"):
        sensory.sensory_strip(frames, masks, {"energy": energy[:2]}, ["0", "1", "2"])


def test_probe_figure_shades_hidden_frames():
    J = {"intact": torch.tensor([1.0, 0.5, torch.nan, 0.9]), "zeroed": torch.rand(4)}
    figure = sensory.probe_figure(J, torch.tensor([1.0, 0.4, 0.2, 0.8]), memory_frames=[0, 2])
    above, below = figure.axes
    assert [bar.get_height() for bar in above.patches][:4] == pytest.approx([1.0, 0.4, 0.2, 0.8])
    shaded = [patch for patch in below.patches if patch.get_facecolor()[0] == pytest.approx(0.9)]
    assert len(shaded) == 2
    assert [line.get_label() for line in below.lines][:2] == ["intact", "zeroed"]
    with pytest.raises(ValueError, match="has 2 frames, in_sight has 4"):
        sensory.probe_figure({"short": torch.rand(2)}, torch.rand(4))
