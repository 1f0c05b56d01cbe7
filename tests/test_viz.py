"""Figures of looks: panels, titles and the numbers in them; true paths and errors; the choice of a pixel."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange
from matplotlib.text import Text

import tmrn_edu.viz as viz
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.looking import look
from tmrn_edu.memory.readers import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.viz.affinity import check_pixel, weights_of
from tmrn_edu.viz.overlays import overlay
from tmrn_edu.viz.trajectories import cell_errors, path_errors, path_of, true_cells, true_path

H, W, QUERY, MEMORY = 40, 56, 4, (0, 1, 3)  # padded to 48 x 64: the grid starts outside the frame
PIXEL = (17, 30)


@pytest.fixture(scope="module")
def clip():
    return make_clip(seed=4, level="hard", frames=5, size=(H, W))


@pytest.fixture(scope="module")
def looks(clip):
    torch.manual_seed(0)
    readers = {"STCN": SpaceTimeReader(), "TMRN": TrajectoryReader.warm(32, 64, rectify=1.0)}
    networks = {name: STCN.tiny(reader) for name, reader in readers.items()}
    return {name: look(n, clip.frames, clip.index_masks, QUERY, MEMORY) for name, n in networks.items()}


def with_paths(one, clip, shift=0.0):
    """A look whose trajectories are the truth, but `shift` pixels further down."""
    positions, _ = true_cells(one, clip)
    offset = rearrange(torch.tensor(one.offset), "yx -> yx 1 1")
    cells = (positions + rearrange(torch.tensor([shift, 0.0]), "yx -> yx 1 1") + 0.5 + offset) / one.cell - 0.5
    return replace(one, insides=replace(one.insides, trajectory=rearrange(cells, "t yx h w -> 1 t yx h w")))


def titles(axes):
    return [axis.get_title() for axis in axes]


def test_heat_maps_are_columns_of_the_affinity(looks):
    one = looks["TMRN"]
    heat, weighted = viz.heat_maps(one, PIXEL), viz.heat_maps(one, PIXEL, weighted=True)
    y, x = check_pixel(one, PIXEL)
    assert heat.shape == (3, 12, 16) and (y, x) == ((17 + one.offset[0]) // 4, (30 + one.offset[1]) // 4)
    for t in range(3):
        for m in (0, 37, 191):
            assert heat[t, m // 16, m % 16] == one.insides.affinity[0, t, m, y * 16 + x]
    torch.testing.assert_close(heat.sum(dim=(1, 2)), torch.ones(3))
    torch.testing.assert_close(weighted.sum(dim=(1, 2)), weights_of(one, PIXEL))


@pytest.mark.parametrize("weighted", [False, True])
def test_affinity_figure_shows_the_heat_maps(looks, clip, weighted):
    figure = viz.affinity_figure(looks, PIXEL, weighted=weighted)
    axes = np.array(figure.axes[:8]).reshape(2, 4)
    assert len(figure.axes) == 9  # two readers, query and three memory frames, and the scale
    for row, (name, one) in zip(axes, looks.items(), strict=True):
        heat = viz.heat_maps(one, PIXEL, weighted).numpy()
        assert row[0].get_ylabel() == name
        picture = overlay(one.frames[QUERY], one.predicted, alpha=0, thickness=2)
        assert np.array_equal(row[0].images[0].get_array(), picture.numpy())
        for axis, frame, weight in zip(row[1:], heat, weights_of(one, PIXEL), strict=True):
            image = axis.images[-1]
            np.testing.assert_array_equal(image.get_array(), frame)
            assert image.get_clim() == (0, pytest.approx(heat.max() if weighted else frame.max()))
            left, right, bottom, top = image.get_extent()
            assert (left, top) == (-0.5 - one.offset[1], -0.5 - one.offset[0])
            assert (right - left, bottom - top) == (64, 48)
            assert axis.get_xlim() == (-0.5, W - 0.5) and axis.get_ylim() == (H - 0.5, -0.5)
            assert axis.get_title().endswith(f"u = {weight:.2f}")
    assert titles(axes[0])[0] == "frame 4\npixel (17, 30)"
    assert [title.split("\n")[0] for title in titles(axes[0])[1:]] == ["frame 0", "frame 1", "frame 3"]
    label = figure.get_supxlabel()
    assert ("over all memory frames" in label and "row" in label) if weighted else "over each memory frame" in label


def test_one_look_needs_no_name(looks):
    figure = viz.affinity_figure(looks["STCN"], PIXEL)
    assert len(figure.axes) == 5 and figure.axes[0].get_ylabel() == ""
    assert "over each memory frame" in figure.get_supxlabel()
    assert len(viz.trajectory_figure(looks["STCN"], PIXEL).axes) == 2


def test_the_marker_is_on_the_cell_that_asks(looks):
    one = looks["STCN"]
    marker = viz.affinity_figure(one, PIXEL).axes[0].patches[-1]
    (x, y), side = marker.get_xy(), marker.get_width()
    assert side == one.cell == 4
    assert y <= PIXEL[0] <= y + side and x <= PIXEL[1] <= x + side


def test_true_path_is_the_clips_correspondence(looks, clip):
    one = looks["STCN"]
    positions, visible = true_path(one, PIXEL, clip)
    centre = one.cell_to_pixel(torch.tensor(check_pixel(one, PIXEL)).float())
    for i, t in enumerate(MEMORY):
        true = clip.correspondence(QUERY, t)
        torch.testing.assert_close(positions[i], true.positions[PIXEL] + centre - torch.tensor(PIXEL))
        assert visible[i] == true.visible[PIXEL]
    cells, seen = true_cells(one, clip)
    y, x = check_pixel(one, PIXEL)
    middle = tuple(centre.round().int().tolist())
    torch.testing.assert_close(cells[:, :, y, x], true_path(one, middle, clip)[0])
    assert not seen[:, 0].any()  # the first row of cells lies in the padding


def test_errors_are_in_pixels_of_the_frame(looks, clip):
    right, wrong = with_paths(looks["STCN"], clip), with_paths(looks["STCN"], clip, shift=3.0)
    assert cell_errors(right, clip).nan_to_num(0).max() < 1e-3
    errors = cell_errors(wrong, clip)
    torch.testing.assert_close(errors[errors.isfinite()], torch.full_like(errors[errors.isfinite()], 3.0))
    assert errors.isfinite().equal(true_cells(wrong, clip)[1])


def test_trajectory_figure_holds_errors_and_weights(looks, clip):
    figure = viz.trajectory_figure(looks, PIXEL, clip)
    above, (errors, weights) = figure.axes[:2], figure.axes[2:]
    assert titles(above) == ["STCN", "TMRN"]
    assert errors.get_ylabel() == "error in pixels" and weights.get_ylabel() == "temporal weight u"
    for index, one in enumerate(looks.values()):
        np.testing.assert_array_equal(errors.lines[index].get_xdata(), MEMORY)
        np.testing.assert_allclose(errors.lines[index].get_ydata(), path_errors(one, PIXEL, clip), rtol=1e-6)
        np.testing.assert_allclose(weights.lines[index].get_ydata(), weights_of(one, PIXEL), rtol=1e-6)
        dots = np.concatenate([group.get_offsets() for group in above[index].collections])
        np.testing.assert_allclose(dots[::-1], path_of(one, PIXEL).flip(1), rtol=1e-5)  # newest first, (x, y)
        sizes = [group.get_sizes()[0] for group in above[index].collections][::-1]
        assert np.argsort(sizes).tolist() == weights_of(one, PIXEL).argsort().tolist()
        x0, x1 = above[index].get_xlim()
        assert -0.5 <= x0 <= dots[:, 0].clip(0).min() and dots[:, 0].clip(max=W - 1).max() <= x1 <= W - 0.5
    assert {line.get_marker() for line in weights.lines} == {"o", "s"}  # told apart without colour too


def test_trajectory_figure_names_its_ground_and_numbers_do_not_overlap(looks, clip):
    figure = viz.trajectory_figure(looks, PIXEL, clip)
    assert "query frame 4, enlarged" in " ".join(text.get_text().replace("\n", " ") for text in figure.subfigs[0].texts)
    figure.canvas.draw()
    for axis in figure.axes[:2]:
        assert [text.get_text() for text in axis.texts] == [str(t) for t in MEMORY]
        assert all(text.get_fontsize() >= 8 for text in axis.texts)
        boxes = [Text.get_window_extent(text) for text in axis.texts]  # without the lines to their dots
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_hidden_frames_say_so(looks, clip):
    one = looks["STCN"]
    seen = torch.stack([clip.correspondence(QUERY, t).visible for t in MEMORY])
    pixel = tuple((seen.any(dim=0) & ~seen.all(dim=0)).nonzero()[0].tolist())
    number = int((~true_path(one, pixel, clip)[1]).sum())
    comparison = viz.comparison_figure(looks, pixel, clip)
    assert sum(title.endswith("hidden") for title in titles(comparison.axes)) == number * 2
    plot = viz.trajectory_figure(looks, pixel, clip).axes[2]
    assert [text.get_text() for text in plot.texts] == ["hidden"] * number
    assert np.isnan(plot.lines[0].get_ydata()).sum() == number


def test_comparison_figure_joins_path_and_heat(looks, clip):
    figure = viz.comparison_figure(looks, PIXEL, clip)
    axes = np.array(figure.axes[:8]).reshape(2, 4)
    for row, (name, one) in zip(axes, looks.items(), strict=True):
        assert row[0].get_ylabel() == name
        true, visible = true_path(one, PIXEL, clip)
        for i, axis in enumerate(row[1:]):
            np.testing.assert_array_equal(axis.images[-1].get_array(), viz.heat_maps(one, PIXEL)[i])
            np.testing.assert_allclose(axis.collections[-1].get_offsets()[0], path_of(one, PIXEL)[i].flip(0), rtol=1e-5)
            if visible[i]:
                assert axis.get_title().endswith(f"{(path_of(one, PIXEL)[i] - true[i]).norm():.1f} px")
                np.testing.assert_allclose(axis.lines[-1].get_xydata()[0], true[i].flip(0), rtol=1e-5)
    without = viz.comparison_figure(looks, PIXEL)
    assert not any("px" in title for title in titles(without.axes)) and not without.axes[1].lines


def test_pictures_are_small_and_leave_no_trace(looks, clip):
    import sys

    for figure in (viz.affinity_figure(looks, PIXEL), viz.comparison_figure(looks, PIXEL, clip)):
        file = io.BytesIO()
        figure.savefig(file, format="png")
        assert 5_000 < len(file.getvalue()) < 200_000
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_choose_pixel_finds_where_the_baseline_is_wrong(looks, clip):
    right, wrong = with_paths(looks["STCN"], clip), with_paths(looks["STCN"], clip)
    objects = clip.index_masks[QUERY] > 0
    y, x = objects.nonzero().float().mean(dim=0).round().int().tolist()
    assert objects[y, x] and true_path(right, (y, x), clip)[1].all()
    cell = check_pixel(right, (y, x))
    wrong.insides.trajectory[0, :, 0, cell[0], cell[1]] += 2
    wrong.insides.trajectory[0, :, 0, 0, 0] += 5  # worse, but outside the frame
    for choice in (
        viz.choose_pixel({"a": wrong, "b": right}, clip),
        viz.choose_pixel(wrong, clip),
        viz.choose_pixel({"a": right, "b": wrong}),
    ):
        assert check_pixel(right, choice) == cell and objects[choice]
    assert viz.choose_pixel(looks, clip) == viz.choose_pixel(looks, clip)
    alone = viz.choose_pixel(right)
    assert objects[alone] and np.hypot(alone[0] - y, alone[1] - x) < 8


def test_choose_pixel_falls_back_on_predicted_masks(looks):
    one = looks["STCN"]
    blank, predicted = torch.zeros_like(one.index_masks), torch.zeros_like(one.predicted)
    predicted[10:30, 10:30] = 3
    y, x = viz.choose_pixel(replace(one, index_masks=blank, predicted=predicted))
    assert 10 <= y < 30 and 10 <= x < 30
    with pytest.raises(InputError, match="frame 4 has no object in its mask, expected at least one"):
        viz.choose_pixel(replace(one, index_masks=blank, predicted=torch.zeros_like(predicted)))


@pytest.mark.parametrize("draw", [viz.affinity_figure, viz.trajectory_figure, viz.comparison_figure])
def test_errors_name_both_sides(looks, clip, draw):
    for pixel in ((40, 5), (-1, 5), (5, 56)):
        with pytest.raises(InputError, match=rf"pixel \({pixel[0]}, {pixel[1]}\) .* outside the frame, .* 40 x 56"):
            draw(looks, pixel)
    other = replace(looks["TMRN"], memory=(0, 1, 2))
    with pytest.raises(InputError, match=r"memory frames: \(0, 1, 3\) in 'STCN', \(0, 1, 2\) in 'TMRN'"):
        draw({"STCN": looks["STCN"], "TMRN": other}, PIXEL)
    with pytest.raises(InputError, match="0 looks to draw, expected at least 1"):
        draw({}, PIXEL)
    if draw is not viz.affinity_figure:
        with pytest.raises(InputError, match="seed 3, hard.*expected the clip that was looked at"):
            draw(looks, PIXEL, make_clip(seed=3, level="hard", frames=5, size=(H, W)))


def test_every_public_name_is_there():
    assert {"explore", "explorer_html", "overlay", "choose_pixel"} <= set(viz.__all__) <= set(dir(viz))
    for name in viz.__all__:
        assert getattr(viz, name) is not None
    assert viz.affinity.affinity_figure is viz.affinity_figure
    with pytest.raises(AttributeError, match="no attribute 'plot'"):
        viz.plot  # noqa: B018
