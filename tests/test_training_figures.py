"""viz/training.py: which pixels are the hardest, against a loop, and figures that can be saved."""

import io

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from tmrn_edu.errors import InputError
from tmrn_edu.losses import bootstrapped_cross_entropy
from tmrn_edu.training.schedule import Stage
from tmrn_edu.viz import training as draw

T, H, W, N = 3, 24, 32, 5


def frames(count=T):
    return torch.randint(0, 256, (count, H, W, 3), dtype=torch.uint8)


def saved(figure):
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=30)
    return buffer.getvalue()


def test_hardest_pixels_by_a_loop():
    losses = torch.rand(2, 5, 8)
    found = draw.hardest_pixels(losses, 0.15)
    for b in range(2):
        best = sorted(((float(losses[b, y, x]), y, x) for y in range(5) for x in range(8)), reverse=True)[
            : int(0.15 * 40)
        ]
        assert {tuple(place) for place in found[b].nonzero().tolist()} == {(y, x) for _, y, x in best}


def test_hardest_pixels_are_those_of_the_loss():
    logits, labels = torch.randn(2, 3, 6, 8), torch.randint(0, 3, (2, 6, 8))
    losses = F.cross_entropy(logits, labels, reduction="none")
    for share in (0.15, 0.5, 1.0):
        mean = losses[draw.hardest_pixels(losses, share)].mean()
        torch.testing.assert_close(mean, bootstrapped_cross_entropy(logits, labels, share))


def test_there_is_always_a_hardest_pixel():
    assert draw.hardest_pixels(torch.zeros(2, 3, 4), 0.01).sum() == 2
    for share in (0, 1.5):
        with pytest.raises(InputError, match=f"share of hard pixels is {share}"):
            draw.hardest_pixels(torch.zeros(1, 3, 4), share)


def test_smooth():
    assert draw.smooth([1, 2, 6, 3, 3], width=3).tolist() == [1.5, 3.0, 11 / 3, 4.0, 3.0]
    assert draw.smooth([4.0]).tolist() == [4.0]


def test_curriculum_figure_draws_every_field_of_every_recipe():
    one = [Stage(1e-5, 3, gap, share) for gap, share in ((5, 1.0), (10, 0.5), (5, 0.15))]
    two = [Stage(1e-6, 8, 15, 0.2, fine_tune=last) for last in (False, True)]
    figure = draw.curriculum_figure({"one": one, "two": two}, {"one": range(0, 3000, 1000), "two": [0, 2000]})
    assert [axis.get_title() for axis in figure.axes] == list(draw.CURVES.values())
    gaps = [line.get_ydata().tolist() for line in figure.axes[0].get_lines()]
    assert gaps == [[5, 10, 5], [15, 15]] and figure.axes[0].get_lines()[0].get_xdata().tolist() == [0, 1, 2]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two", "two: no affine motion"]
    assert saved(figure).startswith(b"\x89PNG")


def test_correspondence_figure_joins_what_is_seen_in_both():
    points = torch.rand(T, N, 2) * 20
    points[1, 0] = torch.tensor([H + 3.0, 2.0])  # outside
    visible = torch.ones(T, N, dtype=torch.bool)
    visible[2, 1] = False
    mesh = torch.rand(T, 4, 6, 2) * 40 - 5
    figure = draw.correspondence_figure(frames(), points, ["a", "b", "c"], visible, mesh)
    lines = [artist for artist in figure.artists]
    assert len(lines) == (N - 1) + (N - 2)  # point 0 is in neither pair, point 1 not in the second
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c"] and saved(figure).startswith(b"\x89PNG")


def test_correspondence_figure_takes_frames_as_networks_do():
    shown = frames()
    as_floats = rearrange(shown, "t H W c -> t c H W") / 255
    pictures = [
        draw.correspondence_figure(some, torch.ones(T, 1, 2), list("abc")).axes[0].images[0]
        for some in (shown, as_floats)
    ]
    assert (pictures[0].get_array() == pictures[1].get_array()).all()


def test_hardest_figure_says_what_they_carry():
    losses = torch.ones(H, W) * 0.01
    losses[:6] = 1.0  # a quarter of the pixels
    truth = torch.zeros(H, W, dtype=torch.uint8)
    truth[3:9, 4:12] = 1
    figure = draw.hardest_figure(frames(1)[0], truth, {"early": losses, "late": losses / 10}, 0.25)
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:6] == ["the frame", "early", "late", "its true mask"] + ["hardest 25%: 97% of the loss"] * 2
    orange = (torch.as_tensor(figure.axes[4].images[0].get_array()) == torch.tensor(draw.HARD)).all(dim=-1)
    assert orange[:6].all() and not orange[6:].any() and saved(figure).startswith(b"\x89PNG")


def test_loss_figure_puts_runs_one_after_the_other():
    runs = {
        "stills": [{"loss": "2.5", "hard_pixels": "1"}] * 4,
        "videos": [{"loss": 1.5, "hard_pixels": 0.5}] * 3,
    }
    figure = draw.loss_figure(runs)
    upper, lower = figure.axes
    dots = [line for line in upper.get_lines() if line.get_marker() != "None"]
    assert [line.get_xdata().tolist() for line in dots] == [[0, 1, 2, 3], [4, 5, 6]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["stills", "videos"]
    assert lower.get_lines()[0].get_ydata().tolist() == [1.0] * 4 and saved(figure).startswith(b"\x89PNG")


def test_numbers_that_do_not_fit_are_named():
    with pytest.raises(InputError, match=r"{'one': \(1, 2\)}; expected as many of each"):
        draw.curriculum_figure({"one": [Stage(1.0, 3, 5, 1.0)]}, {"one": [0, 1]})
    with pytest.raises(InputError, match="given are {'frames': 3, 'points': 2, 'titles': 3, 'visible': 2}"):
        draw.correspondence_figure(frames(), torch.zeros(2, N, 2), list("abc"), torch.ones(2, N, dtype=torch.bool))
    with pytest.raises(InputError, match="0 maps of losses"):
        draw.hardest_figure(frames(1)[0], torch.zeros(H, W, dtype=torch.uint8), {}, 0.15)
    with pytest.raises(InputError, match="lines by run: {'stills': 0}"):
        draw.loss_figure({"stills": []})
