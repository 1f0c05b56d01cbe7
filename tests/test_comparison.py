"""Where methods differ, the qualitative figure, masks in folders, and `tmrn-edu figure`."""

import numpy as np
import pytest
import torch
from matplotlib.patches import Rectangle
from PIL import Image

import tmrn_edu.viz as viz
from tmrn_edu.__main__ import main
from tmrn_edu.data.mask_folder import MaskFolder
from tmrn_edu.data.masks_io import write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.metrics import region_similarity
from tmrn_edu.viz.comparison import RIGHT, WRONG, check_suffix, gather, mean_J
from tmrn_edu.viz.differences import choose_frames, error_maps, find_boxes, is_wrong, strongest_window
from tmrn_edu.viz.overlays import overlay

T, H, W = 6, 60, 90


@pytest.fixture
def clip():
    """A square on noise; method "good" is a pixel too low, "bad" has a blob beside it on frames 2, 3, 5."""
    frames = torch.randint(0, 256, (T, H, W, 3), dtype=torch.uint8)
    truth = torch.zeros(T, H, W, dtype=torch.uint8)
    truth[:, 10:30, 20:44] = 1
    truth[:, 40:50, 5:15] = 2
    good, bad = truth.roll(1, dims=1), truth.clone()
    for t, side in ((2, 6), (3, 12), (5, 9)):
        bad[t, 40 : 40 + side, 60 : 60 + side] = 1
    return frames, {"good": good, "bad": bad}, truth


def rectangles(axis):
    return [patch for patch in axis.patches if isinstance(patch, Rectangle)]


def save(folder, masks, names=None):
    for t, mask in enumerate(masks):
        write_mask(folder / f"{names[t] if names else f'{t:05d}'}.png", mask)
    return folder


def save_frames(folder, frames):
    folder.mkdir()
    for t, frame in enumerate(frames):
        Image.fromarray(frame.numpy()).save(folder / f"IMG_{t + 1}.png")
    return folder


def test_errors_are_wrong_labels_outside_void():
    truth = torch.tensor([[0, 1, 2, 255]])
    a, b = torch.tensor([[0, 2, 2, 1]]), torch.tensor([[1, 1, 0, 0]])
    assert error_maps([a, b], truth).tolist() == [[[False, True, False, False]], [[True, False, True, False]]]
    assert error_maps([a], truth).tolist() == [[[False, True, False, False]], [[False] * 4]]  # the truth itself
    assert error_maps([a, b]).tolist() == [[[False] * 4], [[True, True, True, True]]]  # the first stands for it
    with pytest.raises(InputError, match=r"a mask is \(2, 4\), the one it is compared with \(1, 4\)"):
        error_maps([torch.zeros(2, 4, dtype=torch.uint8)], truth)


def test_strongest_window_by_a_loop():
    """Every window of the sides that are tried, counted pixel by pixel."""
    errors = np.random.default_rng(3).random((3, 12, 17)) < 0.3
    errors[1, 3:8, 6:13] = True
    best = max(
        (np.ptp(errors[:, y : y + h, x : x + w].sum(axis=(1, 2))) / (h * w) ** 0.5, h, w)
        for h in (2, 3, 4, 6, 8, 11, 12)
        for w in (2, 3, 4, 6, 8, 11, 12)
        for y in range(12 - h + 1)
        for x in range(17 - w + 1)
        if 0.5 <= h / w <= 2
    )
    strength, (y, x, h, w) = strongest_window(errors)
    assert strength == pytest.approx(best[0])
    assert np.ptp(errors[:, y : y + h, x : x + w].sum(axis=(1, 2))) / (h * w) ** 0.5 == pytest.approx(strength)


def test_a_square_is_as_strong_as_its_side_and_a_rim_is_weak():
    size = (480, 854)  # cells of 4 pixels
    square, rim, nothing = np.zeros((3, 2, *size), dtype=bool)
    square[0, 200:264, 400:464] = True
    rim[0, 100:400, 300] = rim[1, 100:400, 303] = True
    assert strongest_window(square) == (64.0, (200, 400, 64, 64))
    assert strongest_window(rim)[0] < 12 and strongest_window(nothing) == (0.0, (0, 0, 480, 854))


def test_boxes_lie_around_what_differs():
    errors = np.zeros((3, 120, 200), dtype=bool)
    errors[0, 30:50, 40:70] = True
    errors[2, 80:100, 150:170] = True
    errors[:, 5:25, 5:25] = True  # where all are wrong, they do not differ
    errors[1, 90, 20] = True  # too little
    first, second = find_boxes(errors)
    assert first == (26, 36, 28, 38) and second == (76, 146, 28, 28)  # a margin of 120 / 30 pixels
    assert is_wrong(errors, first) == [True, False, False] and is_wrong(errors, second) == [False, False, True]
    assert is_wrong(errors, (5, 5, 20, 20)) == [False] * 3
    assert find_boxes(errors, most=1) == [first]
    assert find_boxes(errors[:, :, 100:]) == [(77, 47, 26, 26)]  # one difference, one box
    assert find_boxes(errors[1:2].repeat(2, axis=0)) == []


def test_boxes_do_not_touch():
    errors = np.random.default_rng(0).random((2, 60, 80)) < 0.5
    boxes = find_boxes(errors, most=5)
    taken = np.zeros((62, 82), dtype=int)
    for y, x, h, w in boxes:
        taken[y : y + h + 1, x : x + w + 1] += 1
    assert len(boxes) >= 1 and taken.max() == 1


def test_frames_are_spread_and_where_the_strength_is():
    strengths = np.array([99, 0, 5, 1, 1, 9, 8, 1, 1, 3, 4])
    assert choose_frames(strengths, 2) == (5, 10)  # 6 is too near to 5, and 0 is given
    assert choose_frames([0.0] * 11, 2) == (3, 8)
    assert choose_frames([1.0] * 3, 5) == (0, 1, 2)
    for length in range(2, 40):
        for count in range(1, length):
            chosen = choose_frames(np.random.default_rng(length).random(length), count)
            assert (
                len(set(chosen)) == count and list(chosen) == sorted(chosen) and 0 < chosen[0] and chosen[-1] < length
            )
    with pytest.raises(InputError, match="0 frames were asked for"):
        choose_frames([1.0, 2.0], 0)


def test_figure_has_methods_in_rows_and_frames_in_columns(clip):
    frames, masks, truth = clip
    figure = viz.qualitative_figure(frames, masks, truth, columns=(0, 3), show_J=True)
    panels = np.array(figure.axes).reshape(3, 2)
    assert [axis.get_ylabel() for axis in panels[:, 0]] == ["good", "bad", "ground truth"]
    assert [axis.get_title() for axis in panels[0]] == ["frame 0", "frame 3"]
    for row, given in zip(panels, (*masks.values(), truth), strict=True):
        for axis, t in zip(row, (0, 3), strict=True):
            np.testing.assert_array_equal(axis.images[0].get_array(), overlay(frames[t], given[t]))
    corner = np.mean([region_similarity(masks["bad"][3] == label, truth[3] == label) for label in (1, 2)])
    assert panels[1, 1].texts[0].get_text() == f"J {corner:.2f}" and not panels[2, 1].texts
    for axis in panels[:, 0]:
        assert not rectangles(axis)  # the mask of frame 0 is given
    for axis, (ink, _, dash) in zip(panels[:, 1], (RIGHT, WRONG, RIGHT), strict=True):
        boxes = rectangles(axis)
        assert len(boxes) == 2  # one box in two inks
        assert {(box.get_x(), box.get_y(), box.get_width(), box.get_height()) for box in boxes} == {
            (57.5, 37.5, 16, 16)
        }
        assert boxes[1].get_linestyle() == ("-" if dash == "-" else "--") or boxes[1].get_linestyle() == dash
        assert np.allclose(boxes[1].get_edgecolor()[:3], Rectangle((0, 0), 1, 1, edgecolor=ink).get_edgecolor()[:3])
    assert "dashed: wrong there" in figure.get_supxlabel()


def test_columns_choose_themselves_and_boxes_need_a_difference(clip):
    frames, masks, truth = clip
    figure = viz.qualitative_figure(frames, masks, truth, columns=2)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["frame 3", "frame 5"]
    assert len(viz.qualitative_figure(frames, masks, truth).axes) == 5 * 3
    assert len(viz.qualitative_figure(frames[:2], {"a": truth[:2]}).axes) == 2  # a clip has no more
    plain = viz.qualitative_figure(frames, {"a": truth, "b": truth}, truth, columns=[4])
    assert not any(rectangles(axis) for axis in plain.axes) and plain.get_supxlabel() == ""
    none = viz.qualitative_figure(frames, masks, truth, columns=[3], boxes=None)
    assert not any(rectangles(axis) for axis in none.axes)


def test_without_a_truth_the_first_row_is_compared_with(clip):
    frames, masks, truth = clip
    figure = viz.qualitative_figure(iter(frames), {"first": truth, "bad": masks["bad"]}, columns=[3])
    assert [len(rectangles(axis)) for axis in figure.axes] == [2, 2]
    assert rectangles(figure.axes[1])[1].get_edgecolor() != rectangles(figure.axes[0])[1].get_edgecolor()
    assert "unlike the first row" in figure.get_supxlabel().replace("\n", " ")


def test_boxes_by_hand(clip):
    frames, masks, truth = clip
    by_hand = {5: (1, 2, 10, 20), 1: [(30, 40, 5, 6), (0, 0, H, W)]}
    figure = viz.qualitative_figure(frames, masks, truth, boxes=by_hand)
    assert [axis.get_title() for axis in figure.axes[:2]] == ["frame 1", "frame 5"]
    assert [len(rectangles(axis)) for axis in figure.axes] == [4, 2] * 3
    place = rectangles(figure.axes[1])[0]
    assert (place.get_xy(), place.get_width(), place.get_height()) == ((1.5, 0.5), 20, 10)
    assert "by hand" in figure.get_supxlabel().replace("\n", " ")


def test_long_names_are_broken(clip):
    frames, masks, truth = clip
    figure = viz.qualitative_figure(frames, {"a-network-with-a-long-name": truth}, columns=[1, 2])
    assert figure.axes[0].get_ylabel().count("\n") >= 1
    figure.canvas.draw()  # warns where the layout does not fit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"masks": {}}, "0 methods were given"),
        (
            {"masks": {"ground truth": "somewhere"}},
            "a method is called 'ground truth', which is the name of the truth's own row",
        ),
        ({"masks": {"a": "somewhere"}}, "the masks of a are a path, somewhere, the frames are a Tensor"),
        ({"masks": {"a": range(3)}}, "a has 3 masks, the video has 6 frames"),
        ({"masks": {"a": (x for x in ())}}, "the masks of a are a generator, expected a tensor"),
        ({"masks": {"a": torch.zeros(T, 5, W, dtype=torch.uint8)}}, "mask 1 of a is 5 x 90, expected 60 x 90"),
        ({"columns": (1, 6)}, r"columns are \[1, 6\], expected some of the frames 0 to 5"),
        ({"columns": ()}, r"columns are \[\], expected"),
        ({"boxes": "some"}, "boxes are 'some', expected \"auto\""),
        ({"boxes": {2: (0, 0, 5, 5)}}, "a box was given for frame 2, the columns are frames 1, 3"),
        ({"boxes": {3: (0, 80, 5, 11)}}, "the box 0,80,5,11 of frame 3 .* is not inside the frame, which is 60 x 90"),
        ({"frames": iter(torch.zeros(2, H, W, 3, dtype=torch.uint8))}, "the video ended before frame 3"),
    ],
)
def test_errors_name_both_sides(clip, change, message):
    frames, masks, truth = clip
    given = {"frames": frames, "masks": masks, "truth": truth, "columns": (1, 3)} | change
    with pytest.raises(InputError, match=message):
        viz.qualitative_figure(**given)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figures_are_saved_as_pixels_and_vectors(clip, tmp_path, suffix):
    frames, masks, truth = clip
    path = tmp_path / f"figure.{suffix}"
    viz.save_figure(path, viz.qualitative_figure(frames, masks, truth, columns=[3], dpi=60))
    assert path.read_bytes().startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_figure_needs_a_name_it_can_have(tmp_path):
    with pytest.raises(InputError, match="figure.gif: its name ends in '.gif', expected one of .png .pdf .svg"):
        check_suffix(tmp_path / "figure.gif")
    with pytest.raises(InputError, match="it is a folder"):
        check_suffix(tmp_path)


def test_mean_J_of_empty_frames():
    empty, full = torch.zeros(3, 4, dtype=torch.uint8), torch.full((3, 4), 7, dtype=torch.uint8)
    assert mean_J(empty, empty) == 1 and mean_J(full, empty) == 0 and mean_J(empty, full) == 0


def test_masks_of_a_folder_are_found_by_name_or_place(clip, tmp_path):
    _, masks, truth = clip
    by_name = MaskFolder(save(tmp_path / "a", truth, [f"f{t}" for t in range(T)]), ["f4", "f2"], (H, W))
    assert len(by_name) == 2 and torch.equal(by_name[1], truth[2]) and torch.equal(list(by_name)[0], truth[4])
    by_place = MaskFolder(save(tmp_path / "b" / "masks", masks["bad"]).parent, [f"x{t}" for t in range(T)], (H, W))
    assert torch.equal(torch.stack(list(by_place)), masks["bad"])


def test_folders_of_masks_that_do_not_fit(clip, tmp_path):
    folder = save(tmp_path / "a", clip[2])
    with pytest.raises(InputError, match="no folder of masks at"):
        MaskFolder(folder / "00000.png", ["00000"], (H, W))
    with pytest.raises(InputError, match="holds a: expected the masks of one video"):
        MaskFolder(tmp_path, ["00000"], (H, W))
    with pytest.raises(InputError, match=r"the masks in .* are 60 x 90, the frames are 61 x 90"):
        MaskFolder(folder, ["00000"], (61, W))
    with pytest.raises(
        InputError, match=r"holds 6 masks \(00000.png ... 00005.png\) for 3 frames .*: 2 have none, the first is x"
    ):
        MaskFolder(folder, ["x", "00001", "y"], (H, W))


def test_command_draws_from_folders(clip, tmp_path, capsys):
    frames, masks, truth = clip
    video, true = save_frames(tmp_path / "frames", frames), save(tmp_path / "truth", truth)
    good, bad = (save(tmp_path / name, given) for name, given in masks.items())
    command = ["figure", str(video), "--masks", f"good={good}", f"bad={bad}", "--truth", str(true)]
    out = tmp_path / "figure.svg"
    assert main([*command, "--columns", "0,3", "--show-j", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n" and out.stat().st_size > 1000
    assert main([*command, "--box", "4=1,2,10,20", "--box", "4=30,2,10,20", "--columns", "1", "--out", str(out)]) == 2
    assert "a box was given for frame 4, the columns are frames 3" in capsys.readouterr().err
    wrong = (
        (["--fps", "3"], "figure.svg is a figure, --fps is for videos"),
        (["--box", "3=1,2,3,4", "--no-boxes"], "--box and --no-boxes were given"),
        (["--masks", f"good={bad}"], "two methods are called good"),
        (["--out", "a.mp4", "--columns", "3"], "a.mp4 is a video, --columns, --box"),
        (["--out", "a.gif"], "expected one of .png .pdf .svg .mp4 .mov .mkv"),
        (["--truth", str(tmp_path / "none")], "no folder of masks at"),
    )
    for more, message in wrong:
        assert main([*command, "--out", str(out), *more]) == 2
        assert message in capsys.readouterr().err
    assert main([*command[:4], "--show-j", "--out", str(out)]) == 2
    assert "--show-j was given without --truth" in capsys.readouterr().err
    for more, message in ((["--box", "3=1,2"], "expected FRAME=y,x,h"), (["--masks", "good"], "expected NAME=DIR")):
        with pytest.raises(SystemExit):
            main([*command, *more, "--out", str(out)])
        assert message in capsys.readouterr().err


def test_gather_opens_paths(clip, tmp_path):
    frames, masks, truth = clip
    video, bad = save_frames(tmp_path / "frames", frames), save(tmp_path / "bad", masks["bad"])
    compared = gather(str(video), {"bad": bad}, truth)
    assert list(compared.rows) == ["bad", "ground truth"] and torch.equal(compared.masks["bad"][3], masks["bad"][3])
    shorter = save(tmp_path / "few", truth[:4])
    with pytest.raises(InputError, match="holds 4 masks .* for 6 frames"):
        gather(video, {"bad": shorter})
