"""Pictures of keys and scores, and what a notebook's first cell sets."""

import pytest
import torch

from tmrn_edu import nb
from tmrn_edu.viz.keys import key_colours, side_by_side, similarity_planes


def test_similarity_planes_name_each_winner():
    """A is nearest, B is long, C differs only in the channel that hardly counts."""
    memory = torch.tensor([[1.45, 0.45], [2.6, 2.0], [1.02, -0.9]])
    figure = similarity_planes(torch.tensor([1.0, 0.6]), memory, torch.tensor([1.0, 0.05]))
    titles = [axis.get_title().splitlines() for axis in figure.axes]
    assert [line[1] for line in titles] == ["highest: B", "highest: A", "highest: C"]
    for axis in figure.axes:  # the origin is in the middle, and numbers say where it is
        assert sum(axis.get_xlim()) == sum(axis.get_ylim()) == 0 and len(axis.get_xticks()) >= 3
    with pytest.raises(ValueError, match="0 memory keys"):
        similarity_planes(torch.ones(2), torch.ones(0, 2), torch.ones(2))


def test_equal_keys_have_equal_colours_and_signs_do_not_matter():
    key = torch.randn(2, 5, 4, 3)
    key[1, :, 0, 0] = key[0, :, 2, 1]
    colours = key_colours(key)
    assert colours.shape == (2, 4, 3, 3) and colours.dtype == torch.uint8
    assert torch.equal(colours[1, 0, 0], colours[0, 2, 1])
    assert torch.equal(colours, key_colours(key + 7))  # the mean does not matter


def test_side_by_side():
    frame = torch.zeros(8, 12, 3, dtype=torch.uint8)
    figure = side_by_side(
        {"frame": frame, "map": torch.rand(2, 3), "more": torch.rand(2, 3)}, mark={"frame": (1.0, 2.0)}, columns=2
    )
    shown = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert shown == ["frame", "map", "more"]
    for wrong in ({}, {"map": torch.rand(2, 3)}):
        with pytest.raises(ValueError, match="with marks in"):
            side_by_side(wrong, mark={"frame": (0.0, 0.0)})


def test_setup_makes_random_numbers_repeatable():
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        nb.setup(seed=4)
        first = torch.rand(3)
        nb.setup(seed=4)
        assert torch.equal(first, torch.rand(3)) and torch.get_num_threads() == 1
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_printoptions(profile="default")


def test_small_png_is_a_picture():
    figure = side_by_side({"map": torch.rand(4, 4)})
    assert nb.small_png(figure).startswith(b"\x89PNG")
