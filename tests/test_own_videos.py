"""Evaluation on folders of one's own videos, and on those of their videos that training held out."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from davis_tree import index_masks, write_davis, write_list, write_sequence
from PIL import Image
from still_tree import write_pairs, write_picture

from tmrn_edu.__main__ import main
from tmrn_edu.compare import compare_runs
from tmrn_edu.data.own_videos import open_own_videos
from tmrn_edu.data.sets import find_sets
from tmrn_edu.data.video import write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate import RepeatFirst, evaluate, write_json
from tmrn_edu.metrics import score
from tmrn_edu.runs import read_run
from tmrn_edu.training.settings import VIDEO, Recipe, TrainSettings
from tmrn_edu.training.sources import make_data


def late(masks, label, first):
    """The masks without an object before its frame."""
    masks = masks.copy()
    masks[:first][masks[:first] == label] = 0
    return masks


WHOLE = {
    "ant": index_masks(6, 2),
    "bee": late(index_masks(7, 2), 2, 3),  # the second object enters in frame 3
    "cat": late(index_masks(5, 1, size=(18, 30)), 1, 2),  # nothing before frame 2
    "dog": index_masks(8, 2),  # every third frame annotated: 0, 3, 6
}
TRUTH = WHOLE | {"dog": WHOLE["dog"][::3]}


@pytest.fixture
def root(tmp_path):
    """The layout of docs/training.md."""
    folder = tmp_path / "mine"
    for name, masks in WHOLE.items():
        write_sequence(folder, name, masks, resolution="")
    for t in (1, 2, 4, 5, 7):
        (folder / "Annotations/dog" / f"{t:05}.png").unlink()
    return folder


def run(root, **options):
    return evaluate("folder", root, progress=False, **options)


def refuses(message, root, **options):
    with pytest.raises(InputError, match=re.escape(message)):
        run(root, **({"segmenter": RepeatFirst} | options))


def call(capsys, *words):
    status = main(["evaluate", "--dataset", "folder", *map(str, words)])
    return status, *capsys.readouterr()


# --- what is scored ---


def test_every_video_by_the_rules_of_davis(root, tmp_path):
    done = run(root, segmenter=RepeatFirst, masks_out=tmp_path / "masks")
    assert list(done.per_sequence) == list(TRUTH)
    for name, truth in TRUTH.items():
        floor = np.zeros_like(truth)
        for label in np.unique(truth)[1:]:
            first = int(np.flatnonzero((truth == label).any(axis=(1, 2)))[0])
            floor[first:][np.broadcast_to(truth[first] == label, floor[first:].shape)] = label
        assert done.per_sequence[name] == score(floor, truth), name
    assert {key: one.frames for key, one in done.score.per_object.items()} == {
        "ant/1": (1, 2, 3, 4),
        "ant/2": (1, 2, 3, 4),
        "bee/1": (1, 2, 3, 4, 5),
        "bee/2": (4, 5),  # the frame of its own mask is given, the last one is left out
        "cat/1": (3,),
        "dog/1": (1,),  # of the three masks
        "dog/2": (1,),
    }
    assert sorted(path.name for path in (tmp_path / "masks/dog").iterdir()) == ["00000.png", "00003.png", "00006.png"]
    assert (done.dataset, done.split, done.list_file, done.seen) == ("folder", "mine", "mine", None)
    assert done.table().startswith("RepeatFirst on folder mine (mine)\n")
    assert set(done.attributes) == {"ant", "bee", "cat"}  # dog has too few masks to say
    again = run(root, results=tmp_path / "masks")
    assert again.score == done.score and again.attributes == done.attributes


def test_what_a_method_sees(root):
    """Every frame from the first mask on, and each object's first mask."""
    seen = []

    class Spy:
        def __init__(self):
            seen.append([])

        def step(self, frame, index_mask=None):
            seen[-1].append(() if index_mask is None else tuple(index_mask.unique().tolist()))
            return SimpleNamespace(index_mask=torch.zeros(frame.shape[:2], dtype=torch.uint8))

    run(root, segmenter=Spy)
    ant, bee, cat, dog = seen
    assert ant == [(0, 1, 2)] + [()] * 5 and dog == [(0, 1, 2)] + [()] * 7
    assert bee == [(0, 1), (), (), (0, 2), (), (), ()] and cat == [(0, 1), (), ()]


def test_frames_are_those_of_their_names(root):
    dog = open_own_videos(root, ["dog"])[0][0]
    assert (len(dog), dog.required) == (8, {0: "00000.png", 3: "00003.png", 6: "00006.png"})
    for t in range(8):
        with Image.open(root / f"JPEGImages/dog/{t:05}.jpg") as picture:
            assert np.array_equal(dog.frame(t).numpy(), np.asarray(picture))
    assert np.array_equal(dog.truth().numpy(), TRUTH["dog"]) and np.array_equal(dog.mask(6), WHOLE["dog"][6])


def test_void_is_background(root, tmp_path):
    for t, mask in enumerate(WHOLE["ant"]):
        write_mask(root / f"Annotations/ant/{t:05}.png", np.where(mask == 2, 255, mask))
    done = run(root, sequences=["ant"], segmenter=RepeatFirst)
    assert list(done.score.per_object) == ["ant/1"]


def test_some_videos_in_their_order(root):
    assert list(run(root, segmenter=RepeatFirst, sequences=["cat", "ant"]).per_sequence) == ["cat", "ant"]


@pytest.mark.parametrize("year", [2016, 2017])
def test_a_davis_tree_scores_as_davis_does(tmp_path, year):
    root = write_davis(tmp_path / "DAVIS")
    write_list(root, f"{year}/train.txt", ["single", "pair"])
    own = run(root, segmenter=RepeatFirst, masks_out=tmp_path / "masks")
    davis = evaluate(f"davis{year}", root, "train", segmenter=RepeatFirst, progress=False)
    assert own.score == davis.score and own.per_sequence == davis.per_sequence and own.attributes == davis.attributes
    assert own.list_file == f"DAVIS {year} train"
    ids = write_results_with_ids(tmp_path / "ids")  # 2016 merges them
    both = [evaluate(kind, root, split, results=ids, progress=False).score for kind, split in kinds(year)]
    assert both[0] == both[1]


def kinds(year):
    return ("folder", None), (f"davis{year}", "train")


def write_results_with_ids(folder):
    for name, masks in {"pair": index_masks(6, 2), "single": index_masks(5, 1, size=(18, 30))}.items():
        for t, mask in enumerate(masks):
            write_mask(folder / name / f"{t:05}.png", mask)
    return folder


# --- runs that go on, and are compared ---


def test_a_broken_run_goes_on(root, tmp_path):
    whole = run(root, network="stcn-tiny", device="cpu")
    first = run(root, network="stcn-tiny", device="cpu", masks_out=tmp_path / "masks", sequences=["ant", "bee"])
    rest = run(root, network="stcn-tiny", device="cpu", masks_out=tmp_path / "masks", resume=True)
    assert rest.score == whole.score and first.per_sequence.keys() < rest.per_sequence.keys()


def test_json_is_compared(root, tmp_path):
    for name in ("stcn-tiny", "stm-tiny"):
        write_json(tmp_path / f"{name}.json", run(root, network=name, device="cpu"))
    runs = [read_run(tmp_path / f"{name}.json") for name in ("stcn-tiny", "stm-tiny")]
    assert (runs[0].dataset, runs[0].split, runs[0].sequences) == ("folder", "mine", tuple(TRUTH))
    record = compare_runs(runs).find("J&F", "stm-tiny", "stcn-tiny")
    scores = [json.loads((tmp_path / f"{name}.json").read_text())["J&F"] for name in ("stcn-tiny", "stm-tiny")]
    assert record.difference == pytest.approx(scores[1] - scores[0]) and record.objects == 7


# --- what training held out ---


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (["--held-out", 1], {"held_out": 1}),
        (["--held-out", 3], {"held_out": 3}),
        (["--folds", 2], {"folds": 2}),
        (["--folds", 3, "--fold", 1], {"folds": 3, "fold": 1}),
    ],
)
def test_held_out_videos_are_those_of_training(root, tmp_path, capsys, words, settings):
    """By what `tmrn-edu train` itself calls, with two sets below one folder."""
    root.rename(tmp_path / "both")
    (tmp_path / "mine").mkdir()
    (tmp_path / "both").rename(root / "own")
    davis = write_davis(root / "DAVIS")
    write_sequence(davis, "third", index_masks(5, 1))
    write_sequence(davis, "fourth", index_masks(5, 1))
    write_list(davis, "2017/train.txt", ["pair", "single", "third", "fourth"])
    recipe = Recipe("mine", lambda seed: torch.nn.Identity(), TrainSettings(size=32, **settings), VIDEO)
    _, kept, _ = make_data(recipe, [root])
    out = tmp_path / "scores.json"
    status, _, err = call(capsys, "--data", root, "--network", "stcn-tiny", "--device", "cpu", "--json", out, *words)
    assert status == 0, err
    names = [video.name for videos in kept.values() for video in videos]
    assert list(json.loads(out.read_text())["per_sequence"]) == names and len(kept) == 2


def test_held_out_without_use(root, capsys):
    method = ["--network", "stcn-tiny"]
    for words, message in (
        (["--held-out", 4], "held_out is 4, but mine has 4 videos; expected fewer"),
        (["--folds", 2, "--fold", 2], "folds 2, fold 2; expected"),
        (["--fold", 1], "--fold 1 is given, expected --fold with --folds"),
        (
            ["--held-out", 1, "--dataset", "davis2017"],
            "--held-out 1 is for --dataset folder; the data set is davis2017",
        ),
    ):
        status, shown, err = call(capsys, "--data", root, *method, *words)
        assert (status, shown) == (2, "") and message in err
    for words in (["--held-out", 1, "--sequences", "ant"], ["--held-out", 1, "--folds", 2]):
        with pytest.raises(SystemExit):
            call(capsys, "--data", root, *method, *words)
        assert "not allowed with argument --held-out" in capsys.readouterr().err


# --- what is refused, before anything is scored ---


def test_options_that_a_folder_has_no_use_for(root, tmp_path):
    refuses("split val is given; a folder of videos has no splits", root, split="val")
    refuses("servers of DAVIS and YouTube-VOS; the data set is folder", root, submission=tmp_path / "a.zip")
    refuses("train_meta is for YouTube-VOS", root, train_meta=tmp_path / "meta.json")
    refuses(f"{root} has no set or video elk; it has mine of 4", root, sequences=["ant", "elk"])


def test_folders_without_videos(tmp_path):
    refuses("nowhere is not a folder", tmp_path / "nowhere")
    write_pairs(tmp_path / "DUTS-TR", ("a", "b"))
    refuses("holds 2 stills in DUTS-TR, expected videos", tmp_path)


def test_names_that_two_sets_have(root, tmp_path):
    write_sequence(tmp_path / "other", "cat", index_masks(4, 1), resolution="")
    refuses(f"2 videos of {tmp_path} are called cat, in mine, other; expected one", tmp_path)
    assert list(run(tmp_path, segmenter=RepeatFirst, sequences=["ant"]).per_sequence) == ["ant"]


def test_videos_that_cannot_be_scored(root):
    for t in range(5):
        write_mask(root / f"Annotations/cat/{t:05}.png", np.zeros((18, 30), dtype=np.uint8))
    refuses("cat has 0 objects in any of 5 masks, scoring needs an object", root)
    write_mask(root / "Annotations/cat/00004.png", WHOLE["cat"][4])
    refuses("cat has 1 objects in the last of 5 masks, scoring needs an object and a mask after its first", root)


def test_frames_without_mask_are_looked_at(root):
    write_picture(root / "JPEGImages/dog/00004.jpg", size=(9, 8))
    refuses("00004.jpg is 9 x 8 (height x width), the other frames of dog are 20 x 26", root)
    (root / "JPEGImages/dog/00004.jpg").write_text("no picture")
    refuses("00004.jpg: is no picture; expected a frame of 20 x 26", root)
    assert find_sets(root)  # training passes it over


def test_folders_of_somebody_else(root, tmp_path):
    davis = write_davis(tmp_path / "DAVIS")
    write_list(davis, "2016/mine.txt", ["pair"])
    message = "DAVIS without a list train, which training reads; expected its lists as data set and split: davis2016 mine, davis2017 val"
    refuses(message, davis)
    root.rename(tmp_path / "test")
    refuses("has the name of a split whose masks a server keeps", tmp_path / "test")
