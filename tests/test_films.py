"""The comparison video: running J, the grid, memory that stays flat, and files that are whole or not there."""

import gc
import weakref

import numpy as np
import pytest
import torch
from PIL import ImageFont

import tmrn_edu.viz as viz
from tmrn_edu.__main__ import main
from tmrn_edu.data.masks_io import write_mask
from tmrn_edu.data.video import open_video, read_video
from tmrn_edu.errors import InputError
from tmrn_edu.metrics import score
from tmrn_edu.viz import films
from tmrn_edu.viz.films import GAP, LEAST_WIDE, TALLEST, WIDEST, Layout, RunningJ, plan_layout, shortened
from tmrn_edu.viz.overlays import PALETTE

pytest.importorskip("av", reason="PyAV is not installed (the extra 'video')")

T, H, W = 5, 40, 80


def masks_of(seed, late=0):
    """Two squares that wander; the second one enters in frame `late`."""
    random = np.random.default_rng(seed)
    masks = torch.zeros(T, H, W, dtype=torch.uint8)
    for t in range(T):
        y, x = random.integers(0, 12, size=2)
        masks[t, y : y + 12, x : x + 14] = 1
        if t >= late:
            masks[t, y + 10 : y + 24, x + 20 : x + 50] = 2
    return masks


def frames_of(count=T):
    return torch.full((count, H, W, 3), 120, dtype=torch.uint8)


def run(prediction, truth):
    running = RunningJ()
    steps = zip(prediction, truth, strict=True)
    return [running.update(p, t, i == len(truth) - 1) for i, (p, t) in enumerate(steps)], running


@pytest.mark.parametrize("late", [0, 2, 3, 4])
def test_running_J_ends_at_the_score(late):
    prediction, truth = masks_of(1, late), masks_of(2, late)
    values, running = run(prediction, truth)
    assert values[0] == (None, None)  # the first mask is given
    assert running.mean == pytest.approx(score(prediction, truth).J)
    first = score(prediction[:3], truth[:3]).per_object[1].J_frames[0]
    assert values[1] == pytest.approx((first, first)) if late else True
    assert values[-1][0] is not None  # the last frame has a J, which the mean leaves out
    if not late:
        assert values[-1][1] == values[-2][1]


def test_running_J_of_two_frames_counts_the_last():
    prediction, truth = masks_of(1)[:2], masks_of(2)[:2]
    values, running = run(prediction, truth)
    assert running.mean == values[1][0] == pytest.approx(score(prediction, truth).J)
    with pytest.raises(InputError, match="prediction is"):
        running.update(prediction[0, 1:], truth[0])


@pytest.mark.parametrize(
    ("size", "panels", "grid"),
    [((480, 854), 4, (2, 2)), ((480, 854), 1, (1, 1)), ((1000, 500), 3, (3, 1)), ((480, 854), 5, (3, 2))],
)
def test_layout_fits_the_screen(size, panels, grid):
    layout = plan_layout(size, panels)
    assert (layout.columns, layout.rows) == grid
    assert layout.size[1] <= WIDEST and layout.rows * layout.panel[0] <= TALLEST and layout.panel[1] >= LEAST_WIDE
    assert layout.panel[0] / layout.panel[1] == pytest.approx(size[0] / size[1], rel=0.01)
    corners = [layout.corner(index) for index in range(panels)]
    assert len(set(corners)) == panels
    assert all(
        y + layout.bar + layout.panel[0] <= layout.size[0] and x + layout.panel[1] <= layout.size[1] for y, x in corners
    )


def test_small_clips_grow_by_whole_factors():
    assert plan_layout((40, 64), 1).panel == (200, 320)
    assert Layout((10, 20), bar=5, columns=2, rows=3).size == (3 * 15 + 2 * GAP + 5, 40 + GAP)


def test_video_holds_every_method_frame_by_frame(tmp_path):
    path, truth = tmp_path / "compared.mp4", masks_of(2)
    methods = {"one": masks_of(1), "a name that is far too long to stand over its panel, as can be seen": truth}
    means = viz.write_comparison_video(path, frames_of(), methods, truth, fps=10)
    assert means == {name: pytest.approx(score(mask, truth).J) for name, mask in methods.items()}
    video, layout = read_video(path), plan_layout((H, W), 3)
    assert video.frames.shape == (T, *layout.size, 3) and video.fps == 10
    grow = layout.panel[0] // H
    for t in (1, 3):
        for place, mask in enumerate((*methods.values(), truth)):
            y, x = layout.corner(place)
            for label in (0, 1, 2):
                rows, columns = np.nonzero(mask[t].numpy() == label)
                inside = (y + layout.bar + grow * rows + grow // 2, x + grow * columns + grow // 2)
                wanted = (120 + PALETTE[label].double()) / 2 if label else torch.full((3,), 120.0)
                found = np.median(video.frames[t].numpy()[inside], axis=0)
                assert np.abs(found - wanted.numpy()).max() < 12, (t, place, label)


def test_words_stand_over_the_panels(tmp_path, monkeypatch):
    said = []
    draw = films.ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        films.ImageDraw.ImageDraw,
        "text",
        lambda self, xy, text, *a, **k: (said.append(text), draw(self, xy, text, *a, **k)),
    )
    truth = masks_of(2)
    viz.write_comparison_video(tmp_path / "a.mp4", frames_of(), {"one": masks_of(1)}, truth)
    values, _ = run(masks_of(1), truth)
    assert {"one", "ground truth", "given", "frame 0 (0 to 4)", "frame 4 (0 to 4)"} <= set(said)
    assert {f"J {now:.2f}   mean {mean:.3f}" for now, mean in values[1:]} <= set(said)
    said.clear()
    assert viz.write_comparison_video(tmp_path / "b.mp4", iter(frames_of()), {"one": iter(truth)}) == {}
    assert {"one", "frame 4"} <= set(said) and not [words for words in said if words.startswith("J")]


def test_names_are_cut_where_there_is_no_room():
    font = films._font(20)
    assert isinstance(font, ImageFont.FreeTypeFont)
    assert shortened("STCN", font, 300) == "STCN"
    cut = shortened("a long name of a method", font, 90)
    assert cut.endswith("...") and font.getlength(cut) <= 90


def test_only_a_few_frames_are_in_memory(tmp_path):
    alive, most = weakref.WeakSet(), []

    def stream(source):
        for item in source:
            item = item.clone()
            alive.add(item)
            most.append(len(alive))
            yield item

    count = 30
    masks = masks_of(1)[:1].repeat(count, 1, 1)
    gc.collect()
    viz.write_comparison_video(tmp_path / "a.mp4", stream(frames_of(count)), {"a": stream(masks), "b": stream(masks)})
    assert (
        len(most) == 3 * count and max(most) <= 9
    )  # three streams: the frame that is drawn, the next, and one in between


@pytest.mark.parametrize(
    ("frames", "masks", "message"),
    [
        (iter(frames_of()), iter(masks_of(1)[:3]), "masks of one end after 3 frames, the video go on"),
        (iter(frames_of(3)), iter(masks_of(1)), "the video end after 3 frames, masks of one go on"),
        (frames_of(), masks_of(1)[:, 1:], "mask 0 of one is 39 x 80, its frame is 40 x 80"),
        (frames_of(), masks_of(1)[1:], "one has 4 masks, the video has 5 frames"),
    ],
)
def test_a_video_that_fails_leaves_nothing(tmp_path, frames, masks, message):
    with pytest.raises(InputError, match=message):
        viz.write_comparison_video(tmp_path / "a.mp4", frames, {"one": masks})
    assert not list(tmp_path.iterdir())


def test_command_writes_a_video(tmp_path, capsys):
    truth, found = masks_of(2), masks_of(1)
    viz.write_comparison_video(tmp_path / "plain.mp4", frames_of(), {"one": found})  # any video of five frames
    size = open_video(tmp_path / "plain.mp4").size
    grown = {name: torch.zeros(T, *size, dtype=torch.uint8) for name in ("true", "one")}
    for t in range(T):
        grown["true"][t, :H, :W], grown["one"][t, :H, :W] = truth[t], found[t]
        for name, masks in grown.items():
            write_mask(tmp_path / name / f"{t:05d}.png", masks[t])
    out = tmp_path / "compared.mp4"
    command = [
        "figure",
        str(tmp_path / "plain.mp4"),
        "--masks",
        f"one={tmp_path / 'one'}",
        "--truth",
        str(tmp_path / "true"),
    ]
    assert main([*command, "--fps", "5", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"one: mean J {score(found, truth).J:.3f}\n{out}\n"
    assert read_video(out).fps == 5 and len(read_video(out).frames) == T
