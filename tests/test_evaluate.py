"""Scoring a split: from files, from a network, from anything with a step."""

import errno
import json
import os
import re
import signal
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from davis_tree import index_masks, write_davis, write_list, write_sequence, write_test_dev
from PIL import Image
from valid_tree import META, boxes, required, write_meta, write_valid
from valid_tree import truth as valid_truth

from tmrn_edu.__main__ import main
from tmrn_edu.data.davis import open_davis
from tmrn_edu.data.video import read_mask, write_mask
from tmrn_edu.data.youtube_vos_valid import open_youtube_vos
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate import RepeatFirst, evaluate, write_json
from tmrn_edu.metrics import combine, score
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.predictions import fingerprint
from tmrn_edu.segmenter import segment

SHARED = Path(__file__).resolve().parents[2] / "shared"
TRUTH = {"pair": index_masks(6, 2), "single": index_masks(5, 1, size=(18, 30))}


@pytest.fixture
def root(tmp_path):
    return write_davis(tmp_path / "DAVIS")


@pytest.fixture
def results(tmp_path):
    """Predictions: `pair` without object 2, `single` a pixel too far down."""
    return write_results(tmp_path / "results", PREDICTION)


PREDICTION = {"pair": np.where(TRUTH["pair"] == 2, 0, TRUTH["pair"]), "single": np.roll(TRUTH["single"], 1, axis=1)}


def write_results(folder, masks):
    for name, clip in masks.items():
        for t, mask in enumerate(clip):
            write_mask(folder / name / f"{t:05}.png", mask)
    return folder


def run(dataset, root, **options):
    return evaluate(dataset, root, progress=False, **options)


def refuses(message, *arguments, **options):
    with pytest.raises(InputError, match=re.escape(message)):
        run(*arguments, **options)


# --- results in files ---


def test_results_score_as_the_metrics_do(root, results):
    evaluation = run("davis2017", root, results=results)
    assert evaluation.per_sequence == {name: score(PREDICTION[name], TRUTH[name]) for name in TRUTH}
    assert evaluation.score == combine(evaluation.per_sequence)
    assert list(evaluation.score.per_object) == ["pair/1", "pair/2", "single/1"]
    assert evaluation.score.per_object["pair/1"].JF == 1 and evaluation.score.per_object["pair/2"].JF == 0
    assert evaluation.frames_per_second is None and evaluation.method == str(results)


def test_2016_merges_truth_and_results(root, results):
    evaluation = run("davis2016", root, results=results)
    assert list(evaluation.score.per_object) == ["pair/1", "single/1"]
    expected = score((PREDICTION["pair"] != 0).astype(np.uint8), (TRUTH["pair"] != 0).astype(np.uint8))
    assert evaluation.per_sequence["pair"] == expected
    assert evaluation.list_file == "ImageSets/2017/val.txt"


def test_some_sequences(root, results):
    write_list(root, "2017/train.txt", ["single"])
    assert list(run("davis2017", root, results=results, sequences=["single"]).per_sequence) == ["single"]
    assert list(run("davis2017", root, results=results, split="train").per_sequence) == ["single"]


def test_labels_that_enter_late_are_background(root, tmp_path):
    truth = TRUTH["pair"].copy()
    truth[:2][truth[:2] == 2] = 0
    write_results(root / "Annotations/480p", {"pair": truth})
    evaluation = run("davis2017", root, sequences=["pair"], results=write_results(tmp_path / "r", {"pair": truth}))
    assert list(evaluation.score.per_object) == ["pair/1"] and evaluation.score.JF == 1


def test_dict_and_json(root, results, tmp_path):
    evaluation = run("davis2017", root, results=results)
    path = tmp_path / "new" / "scores.json"
    write_json(path, evaluation)
    stored = json.loads(path.read_text())
    assert stored == evaluation.as_dict()
    assert stored["J&F"] == evaluation.score.JF and stored["J"] == evaluation.score.J
    assert stored["per_object"]["pair/1"]["F"] == 1 and stored["per_sequence"]["pair"]["J"] == 0.5
    assert (stored["dataset"], stored["split"]) == ("davis2017", "val")
    assert [file.name for file in path.parent.iterdir()] == ["scores.json"]  # no temporary file left


def test_json_that_cannot_be_written(root, results, tmp_path):
    (tmp_path / "scores.json").mkdir()
    with pytest.raises(InputError, match="cannot write .*scores.json"):
        write_json(tmp_path / "scores.json", run("davis2017", root, results=results))


def test_table(root, results):
    evaluation = run("davis2017", root, results=results)
    lines = evaluation.table().splitlines()
    assert lines[0] == f"{results} on davis2017 val (ImageSets/2017/val.txt)"
    assert [line.split()[0] for line in lines[2:]] == ["sequence/object", "pair/1", "pair/2", "single/1", "mean"]
    assert lines[3].split() == ["pair/1", "1.000", "1.000", "1.000", "0.000", "1.000", "1.000", "0.000"]
    numbers = [f"{number:.3f}" for number in (evaluation.score.JF, evaluation.score.J)]
    assert lines[-1].split()[:6] == ["mean", "of", "3", "objects", *numbers]


def test_attributes_are_those_of_the_objects_asked_for(root, results, monkeypatch):
    monkeypatch.setattr(
        "tmrn_edu.evaluate.mask_attributes", lambda masks: (f"{len(masks)} frames", f"up to {masks.max()}")
    )
    late = TRUTH["single"].copy()
    late[2:, 0, 0] = 9
    write_results(root / "Annotations/480p", {"single": late})
    stored = json.loads(json.dumps(run("davis2017", root, results=results).as_dict()))
    assert stored["attributes"] == {"pair": ["6 frames", "up to 2"], "single": ["5 frames", "up to 1"]}


# --- segmenters and networks ---


def test_repeat_first_is_the_floor(root):
    evaluation = run("davis2017", root, segmenter=RepeatFirst)
    expected = {name: score(np.broadcast_to(clip[:1], clip.shape), clip) for name, clip in TRUTH.items()}
    assert evaluation.per_sequence == expected
    assert evaluation.method == "RepeatFirst" and evaluation.frames_per_second > 0
    assert evaluation.table().splitlines()[-1].endswith("frames/s")


def test_repeat_first_by_itself():
    frame, first, late = torch.zeros(4, 5, 3, dtype=torch.uint8), torch.zeros(4, 5), torch.zeros(4, 5)
    first[0], late[:2, 0] = 3, 7
    segmenter = RepeatFirst()
    with pytest.raises(InputError, match="first frame came without a mask"):
        segmenter.step(frame)
    assert torch.equal(segmenter.step(frame, first.byte()).index_mask, first.byte())
    result = segmenter.step(frame, late.byte())
    assert result.object_ids == (3, 7) and torch.equal(result.index_mask, torch.where(late > 0, late, first).byte())
    assert torch.equal(result.probabilities.sum(dim=0), torch.ones(4, 5))
    assert torch.equal(result.probabilities[2].bool(), late == 7)


def test_a_segmenter_sees_each_frame_once_and_the_first_mask_only(root):
    seen = []

    class Spy:
        def __init__(self):
            seen.append([])

        def step(self, frame, index_mask=None):
            seen[-1].append((frame, index_mask))
            return SimpleNamespace(index_mask=torch.zeros(frame.shape[:2], dtype=torch.uint8))

    evaluation = run("davis2017", root, segmenter=Spy)
    assert evaluation.score.JF == 0
    for steps, sequence in zip(seen, open_davis(root), strict=True):
        assert torch.equal(torch.stack([frame for frame, _ in steps]), sequence.frames())
        assert torch.equal(steps[0][1], sequence.mask(0)) and all(mask is None for _, mask in steps[1:])


def test_a_network_and_its_masks_as_results(root, tmp_path):
    network, out = STCN.tiny(), tmp_path / "masks"
    evaluation = run("davis2017", root, network=network, memory_every=2, device="cpu", short_side=16, masks_out=out)
    assert evaluation.method == "STCN with SpaceTimeReader" and evaluation.frames_per_second > 0
    assert json.loads((out / "run.json").read_text())["made_by"]["network"] == "STCN"
    assert 0 <= evaluation.score.JF <= 1
    assert torch.equal(read_mask(out / "pair" / "00000.png").index, torch.from_numpy(TRUTH["pair"][0]))
    again = run("davis2017", root, results=out)
    assert again.score == evaluation.score and again.per_sequence == evaluation.per_sequence


def test_unknown_network(root):
    refuses("no network is called 'stcm-tiny'", "davis2017", root, network="stcm-tiny")


class Late:
    """A segmenter that repeats given masks and finds nothing else; says which of its frames came with which mask."""

    def __init__(self, seen):
        self.seen, self.count = seen, 0

    def step(self, frame, index_mask=None):
        self.count += 1
        self.seen.append((self.count, index_mask))
        return SimpleNamespace(
            index_mask=torch.zeros(frame.shape[:2], dtype=torch.uint8) if index_mask is None else index_mask
        )


# --- splits that a server scores ---


def test_test_dev_to_submission_and_back(tmp_path):
    root = write_test_dev(tmp_path / "DAVIS")
    options = {"split": "test-dev", "submission": tmp_path / "dev.zip"}
    done = run("davis2017", root, segmenter=RepeatFirst, masks_out=tmp_path / "masks", **options)
    assert done.score is None and done.frames_per_second > 0
    assert done.table().splitlines()[:2] == [
        "RepeatFirst on davis2017 test-dev (ImageSets/2017/test-dev.txt)",
        "no scores: the server keeps the masks",
    ]
    assert "J&F" not in done.as_dict() and done.as_dict()["per_sequence"] == {}
    write_json(tmp_path / "dev.json", done)
    with zipfile.ZipFile(tmp_path / "dev.zip") as archive:
        assert archive.namelist() == [f"pair/{t:05}.png" for t in range(6)]
    # The server has all masks; so has this tree, and the zip scores in it as what made it does.
    write_sequence(root, "pair", TRUTH["pair"])
    again = run("davis2017", root, split="test-dev", results=tmp_path / "dev.zip")
    assert again.score == run("davis2017", root, split="test-dev", segmenter=RepeatFirst).score
    assert 0 < again.score.JF < 1


def test_submission_without_masks_out(tmp_path):
    root, path = write_test_dev(tmp_path / "DAVIS"), tmp_path / "new" / "dev.zip"
    run("davis2017", root, split="test-dev", segmenter=RepeatFirst, submission=path)
    assert list(path.parent.iterdir()) == [path]


def test_submission_of_results(tmp_path):
    root, results = write_test_dev(tmp_path / "DAVIS"), write_results(tmp_path / "results", {"pair": TRUTH["pair"]})
    options = {"split": "test-dev", "results": results, "submission": tmp_path / "dev.zip"}
    assert run("davis2017", root, **options).frames_per_second is None
    write_mask(results / "pair/00003.png", np.full((20, 26), 7, dtype=np.uint8))
    refuses("00003.png has the labels [7], the first mask of pair has [0, 1, 2]", "davis2017", root, **options)


def test_first_masks_cannot_be_scored(tmp_path):
    root = write_test_dev(tmp_path / "DAVIS")
    message = f"1 of 1 sequences in the split test-dev of {root} have first masks only, which cannot be scored here"
    refuses(message, "davis2017", root, split="test-dev", segmenter=RepeatFirst)


# --- YouTube-VOS ---


def test_youtube_to_submission_and_back(tmp_path):
    root, full = write_valid(tmp_path / "a"), write_valid(tmp_path / "b", full=True)
    seen = []
    done = run("youtubevos2019", root, segmenter=lambda: Late(seen), submission=tmp_path / "yv.zip")
    assert done.score is None and (done.split, done.list_file) == ("valid", "valid/meta.json")
    assert done.frames_folder == "valid_all_frames"
    # all 13 frames of the first video; of the second those from its first mask on, frame 5
    assert [count for count, _ in seen] == [*range(1, 14), *range(1, 9)]
    given = [(number, mask.unique().tolist()) for number, (_, mask) in enumerate(seen) if mask is not None]
    assert given == [(0, [0, 1]), (5, [0, 4]), (13, [0, 3])]
    scores = [run("youtubevos2019", full, results=tmp_path / "yv.zip").score]
    scores.append(run("youtubevos2019", full, segmenter=lambda: Late([])).score)
    assert scores[0] == scores[1] and list(scores[0].per_object) == ["0a0a/1", "0a0a/4", "0b0b/3"]


def test_a_network_on_youtube_is_segment_with_late_masks(tmp_path):
    """All frames from the first mask on go through the network; what meta.json asks for is written."""
    root, network = write_valid(tmp_path / "a"), STCN.tiny()
    options = {"short_side": 0, "memory_every": 2}
    run("youtubevos2019", root, network=network, masks_out=tmp_path / "masks", **options)
    for video in open_youtube_vos(root, 2019):
        first = min(video.enters.values())
        frames = torch.stack([video.frame(t) for t in range(first, len(video))])
        given = {t - first: video.given(t) for t in video.enters.values()}
        expected = segment(network, frames, given, **options).index_masks
        files = {
            path.name: read_mask(path, empty_ok=True).index for path in (tmp_path / "masks" / video.name).iterdir()
        }
        assert files.keys() == set(video.required.values())
        assert all(torch.equal(files[name], expected[t - first]) for t, name in video.required.items())


def test_youtube_scores(tmp_path):
    """Each object in the annotated frames after its first, the last one too; seen and unseen by themselves."""
    root, results = write_valid(tmp_path, full=True), tmp_path / "results"
    for name in META:
        for t, mask in zip(required(name), valid_truth(name), strict=True):
            wrong = np.where(mask == 1, 0, mask) if t == 10 else mask  # object 1 is lost in its last frame
            write_mask(results / "Annotations" / name / f"{t:05}.png", wrong)
    done = run("youtubevos2018", root, results=results)
    assert {name: one.J.mean for name, one in done.score.per_object.items()} == {
        "0a0a/1": 0.5,
        "0a0a/4": 1,
        "0b0b/3": 1,
    }
    assert done.seen == {"0a0a/1": True, "0a0a/4": False, "0b0b/3": True}
    assert done.by_category() == {"G": 0.875, "J_seen": 0.75, "F_seen": 0.75, "J_unseen": 1, "F_unseen": 1}
    plain = json.loads(json.dumps(done.as_dict()))
    assert plain["G"] == 0.875 and plain["seen"] == done.seen and plain["J"] == done.score.J
    assert done.table().splitlines()[-1] == "G 0.875, J_seen 0.750, F_seen 0.750, J_unseen 1.000, F_unseen 1.000"


def test_categories_of_training(tmp_path):
    root = write_valid(tmp_path, full=True)
    write_meta(tmp_path / "train", {"x": {1: ("cactus", (0,)), 2: ("sedan", (0,)), 3: ("person", (0,))}})
    done = run("youtubevos2018", root, segmenter=RepeatFirst, train_meta=tmp_path / "train/meta.json")
    assert all(done.seen.values()) and done.by_category()["J_unseen"] is None and done.by_category()["G"] is None
    assert done.table().endswith("frames/s") and "G none" in done.table()
    refuses("train_meta is for YouTube-VOS", "davis2017", root, segmenter=RepeatFirst, train_meta="meta.json")


def test_objects_of_the_last_frame_are_not_scored(tmp_path):
    root = write_valid(tmp_path, full=True)
    write_meta(
        root / "valid", {"0b0b": {3: ("person", (5,))}, "0a0a": META["0a0a"]}
    )  # nothing is asked for after its first mask
    assert list(run("youtubevos2018", root, segmenter=RepeatFirst).per_sequence) == ["0a0a"]


def test_an_object_that_enters_where_no_mask_is_asked_for(tmp_path):
    """Object 4 is given in frame 5, which is not asked for: frame 10 is not given, it counts."""
    root, results = write_valid(tmp_path, full=True), tmp_path / "results"
    write_meta(root / "valid", {"0a0a": {1: ("sedan", (0, 10)), 4: ("cactus", (10,))}})
    for t in (0, 10):
        write_mask(results / "0a0a" / f"{t:05}.png", np.where(boxes("0a0a", t) == 4, 0, boxes("0a0a", t)))
    done = run("youtubevos2018", root, results=results).score
    assert {name: (one.J.mean, one.frames) for name, one in done.per_object.items()} == {
        "0a0a/1": (1, (1,)),
        "0a0a/4": (0, (1,)),
    }
    # Gone in the frames that are asked for: it may be predicted there, and that is wrong.
    hidden = np.where(boxes("0a0a", 10) == 4, 0, boxes("0a0a", 10))
    write_mask(root / "valid/Annotations/0a0a/00010.png", hidden)
    assert run("youtubevos2018", root, results=results).score.JF == 1
    write_mask(results / "0a0a/00010.png", boxes("0a0a", 10))
    assert run("youtubevos2018", root, results=results).score.per_object["0a0a/4"].JF == 0


# --- masks, and going on where a run broke off ---


class Breaks(RepeatFirst):
    """Fails in the middle of a sequence, by the size of its frames."""

    height = 18  # of `single`, which comes after `pair`

    def step(self, frame, index_mask=None):
        if frame.shape[0] == self.height and index_mask is None:
            raise KeyboardInterrupt
        return super().step(frame, index_mask)


Breaks.__name__ = "RepeatFirst"  # stands for the same method in a run that goes on


def test_a_broken_run_goes_on(root, tmp_path):
    out, calls = tmp_path / "masks", []

    def again():
        calls.append(1)
        return RepeatFirst()

    again.__name__ = "RepeatFirst"
    with pytest.raises(KeyboardInterrupt):
        run("davis2017", root, segmenter=Breaks, masks_out=out)
    assert sorted(path.name for path in out.iterdir()) == ["pair", "run.json"]  # nothing of `single`
    (out / ".partial-single-0").mkdir()  # as a killed run leaves it
    done = run("davis2017", root, segmenter=again, masks_out=out, resume=True)
    assert calls == [1] and sorted(path.name for path in out.iterdir()) == ["pair", "run.json", "single"]
    whole = run("davis2017", root, segmenter=RepeatFirst, masks_out=tmp_path / "other")
    assert done.score == whole.score and done.per_sequence == whole.per_sequence and done.frames_per_second > 0
    for path in (tmp_path / "other").rglob("*.png"):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "other")).read_bytes()
    third = run("davis2017", root, segmenter=again, masks_out=out, resume=True)
    assert calls == [1] and third.score == done.score and third.frames_per_second == done.frames_per_second


def test_a_sequence_without_its_note_is_made_again(root, tmp_path):
    """A run may be killed after a folder got its name and before run.json says so, and somebody may delete masks."""
    out = tmp_path / "masks"
    run("davis2017", root, segmenter=RepeatFirst, masks_out=out)
    note = json.loads((out / "run.json").read_text())
    assert note["sequences"]["pair"]["frames"] == 6
    del note["sequences"]["pair"]
    (out / "run.json").write_text(json.dumps(note))
    write_mask(out / "pair/00003.png", np.zeros((20, 26), dtype=np.uint8))
    (out / "single/00002.png").unlink()
    run("davis2017", root, segmenter=RepeatFirst, masks_out=out, resume=True)
    for name, height in (("pair", 20), ("single", 18)):
        assert {read_mask(path).index.shape[0] for path in (out / name).iterdir()} == {height}
        assert torch.equal(read_mask(out / name / "00003.png").index, torch.from_numpy(TRUTH[name][0]))


def test_a_folder_of_other_masks(root, results, tmp_path):
    out, network = tmp_path / "masks", STCN.tiny()
    options = {"masks_out": out, "sequences": ["single"], "short_side": 16, "device": "cpu"}
    run("davis2017", root, network=network, **options)
    message = f"{out} already holds masks of 1 of 1 sequences; choose another folder, or go on with its run by resume"
    refuses(message, "davis2017", root, network=network, **options)
    message = "were made with memory_every 5; asked for is memory_every 3"
    refuses(message, "davis2017", root, network=network, resume=True, memory_every=3, **options)
    torch.manual_seed(1)
    refuses("were made with weights ", "davis2017", root, network=STCN.tiny(), resume=True, **options)
    refuses("made with network STCN, weights", "davis2017", root, segmenter=RepeatFirst, masks_out=out, resume=True)
    refuses(
        "made with dataset davis2017; asked for is dataset davis2016",
        "davis2016",
        root,
        network=network,
        resume=True,
        **options,
    )
    (out / "run.json").write_text("{}")
    refuses("does not say what made the masks beside it", "davis2017", root, network=network, resume=True, **options)
    message = "already holds masks of 2 of 2 sequences, and no run.json to say what made them; choose another"
    refuses(message, "davis2017", root, segmenter=RepeatFirst, masks_out=results, resume=True)


def test_more_sequences_join_a_run(root, tmp_path):
    out = tmp_path / "masks"
    run("davis2017", root, segmenter=RepeatFirst, masks_out=out, sequences=["single"])
    done = run("davis2017", root, segmenter=RepeatFirst, masks_out=out, sequences=["pair"], resume=True)
    assert list(done.per_sequence) == ["pair"] and set(json.loads((out / "run.json").read_text())["sequences"]) == {
        "pair",
        "single",
    }


def test_a_run_that_failed_in_its_first_sequence_does_not_block_its_folder(root, tmp_path):
    out = tmp_path / "masks"

    class Fails:
        def step(self, frame, index_mask=None):
            raise OSError("the camera is gone")  # not of the folder: passes as it is

    with pytest.raises(OSError, match="^the camera is gone$"):
        run("davis2017", root, segmenter=Fails, masks_out=out)
    assert [path.name for path in out.iterdir()] == ["run.json"]
    run("davis2017", root, segmenter=RepeatFirst, masks_out=out, sequences=["single"])
    message = f"{out} already holds masks of 1 other sequences; choose another folder, or go on"
    refuses(message, "davis2017", root, segmenter=RepeatFirst, masks_out=out, sequences=["pair"])


def test_masks_that_cannot_get_their_names(root, tmp_path, monkeypatch):
    out, replace = tmp_path / "masks", os.replace

    def full(source, target):
        if Path(target).name == "pair":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    monkeypatch.setattr("tmrn_edu.predictions.os.replace", full)
    message = f"cannot write masks to the folder {out}: No space left on device"
    refuses(message, "davis2017", root, segmenter=RepeatFirst, masks_out=out)
    assert [path.name for path in out.iterdir()] == ["run.json"]


def test_fingerprints_tell_networks_apart():
    torch.manual_seed(0)
    first = STCN.tiny()
    marks = [fingerprint(first)]
    assert fingerprint(first) == marks[0]
    first.reader.top_k = 7
    marks.append(fingerprint(first))
    next(first.parameters()).data[0] += 1
    marks.append(fingerprint(first))
    marks.append(fingerprint(first.bfloat16()))
    assert len(set(marks)) == 4


# --- long sequences ---


def test_a_sequence_of_300_frames(tmp_path):
    """The official code keeps quarters as 8-bit numbers; here the decay of a mask that is lost half-way is what it should be."""
    masks = np.zeros((300, 6, 8), dtype=np.uint8)
    masks[:, 1:4, 2:6] = 1
    write_sequence(tmp_path, "long", masks)
    write_list(tmp_path, "2017/val.txt", ["long"])
    lost = masks.copy()
    lost[150:] = 0
    done = run("davis2017", tmp_path, results=write_results(tmp_path / "results", {"long": lost}))
    found = done.score.per_object["long/1"]
    assert found.frames == tuple(range(1, 299)) and (found.J.mean, found.J.decay) == (149 / 298, 1.0)


# --- frames per second ---


def test_frames_per_second_count_all_frames_and_the_network_alone(root, monkeypatch):
    """11 frames, a second for each step; a clock that only moves inside the network."""
    clock = [0.0]

    class Slow(RepeatFirst):
        def step(self, frame, index_mask=None):
            clock[0] += 2.0
            return super().step(frame, index_mask)

    monkeypatch.setattr("tmrn_edu.evaluate.time.perf_counter", lambda: clock[0])
    assert run("davis2017", root, segmenter=Slow).frames_per_second == 0.5


# --- the command line ---


def test_command_line(tmp_path, capsys, monkeypatch):
    """Segment, break off, go on, zip; check the zip; say where one goes on."""
    root, out, zipped = write_test_dev(tmp_path / "DAVIS"), tmp_path / "masks", tmp_path / "dev.zip"
    words = ["evaluate", "--dataset", "davis2017", "--data", root, "--split", "test-dev"]
    network = ["--network", "stcn-tiny", "--device", "cpu", "--masks-out", out]

    def call(*more):
        status = main([str(word) for word in (*words, *more)])
        return status, *capsys.readouterr()

    with monkeypatch.context() as broken:
        broken.setattr("tmrn_edu.segmenter.Segmenter.step", lambda *_, **__: signal.raise_signal(signal.SIGINT))
        status, _, err = call(*network)
    assert status == 130 and err.endswith(f"the same command with --resume goes on in {out}\n")
    status, shown, _ = call(*network, "--resume", "--submission", zipped, "--json", tmp_path / "dev.json")
    assert status == 0 and shown.splitlines()[-2:] == [str(tmp_path / "dev.json"), str(zipped)]
    assert json.loads((tmp_path / "dev.json").read_text())["split"] == "test-dev"
    status, shown, _ = call("--results", zipped)
    assert status == 0 and "no scores" in shown
    (out / "pair" / "00005.png").unlink()
    status, _, err = call("--results", out, "--submission", zipped)
    assert status == 2 and "has 5 of the 6 masks of pair, missing are 00005.png" in err


# --- what is refused, before anything is scored ---


def test_unknown_data_set(root, results):
    message = "'davis2018' is unknown, there are davis2016, davis2017, youtubevos2018, youtubevos2019, folder"
    refuses(message, "davis2018", root, results=results)


def test_one_method(root, results):
    refuses("methods given: none; give one of network, results, segmenter", "davis2017", root)
    refuses("methods given: network and results", "davis2017", root, network="x", results=results)


def test_options_without_use(root, results, tmp_path):
    options = {"memory_every": 5, "masks_out": tmp_path / "masks"}
    message = "memory_every, masks_out is for running a network, but results is given"
    refuses(message, "davis2017", root, results=results, **options)
    refuses("device is for running a network, but segmenter is", "davis2017", root, segmenter=RepeatFirst, device="cpu")


def test_masks_out_that_is_no_folder(root, tmp_path):
    (tmp_path / "masks").write_text("a file")
    message = f"cannot write masks to the folder {tmp_path / 'masks'}"
    refuses(message, "davis2017", root, segmenter=RepeatFirst, masks_out=tmp_path / "masks")


def test_a_sequence_of_one_frame(root, results):
    for t in range(1, 5):
        (root / f"JPEGImages/480p/single/{t:05}.jpg").unlink()
        (root / f"Annotations/480p/single/{t:05}.png").unlink()
    refuses("single has 1 frame, scoring needs 2", "davis2017", root, results=results)


def test_missing_results(root, results, tmp_path):
    refuses(f"results {tmp_path / 'no'} is not a folder", "davis2017", root, results=tmp_path / "no")
    (results / "pair" / "00003.png").unlink()
    message = f"{results / 'pair'} has 5 of the 6 masks of pair, missing are 00003.png"
    refuses(message, "davis2017", root, results=results)
    (results / "single").rename(results / "other")
    message = (
        f"results {results} has 2 folders, none for the sequence single; expected single/00000.png and so on in it"
    )
    refuses(message, "davis2017", root, results=results, sequences=["single"])


def test_results_of_another_size(root, results):
    write_mask(results / "single" / "00002.png", np.zeros((20, 26), dtype=np.uint8))
    refuses("00002.png is 20x26", "davis2017", root, results=results)
    refuses("the frames of single are 18x30 (height x width)", "davis2017", root, results=results)


def test_results_with_other_labels(root, results):
    write_mask(results / "single" / "00002.png", np.full((18, 30), 4, dtype=np.uint8))
    refuses("00002.png has the labels [4], the ground truth of single has [0, 1]", "davis2017", root, results=results)


def test_results_that_are_pictures(root, results):
    noise = np.random.default_rng(0).integers(0, 256, (18, 30, 3), dtype=np.uint8)
    Image.fromarray(noise).save(results / "single" / "00002.png")
    refuses("00002.png is RGB", "davis2017", root, results=results)


def test_resume_and_submission_fit_together(root, results, tmp_path):
    refuses("resume is given without masks_out", "davis2017", root, segmenter=RepeatFirst, resume=True)
    refuses("resume is for running a network, but results", "davis2017", root, results=results, resume=True)
    message = "submission and sequences are given; a server wants all sequences of a split"
    options = {"submission": tmp_path / "a.zip", "sequences": ["pair"]}
    refuses(message, "davis2017", root, segmenter=RepeatFirst, **options)
    refuses("ends in '.tar'", "davis2017", root, segmenter=RepeatFirst, submission=tmp_path / "a.tar")
    run("davis2017", root, segmenter=RepeatFirst, submission=tmp_path / "a.zip")
    message = f"sequences are asked for of {tmp_path / 'a.zip'}; a zip is scored as a whole"
    refuses(message, "davis2017", root, results=tmp_path / "a.zip", sequences=["pair"])


# --- real data, where it is ---


@pytest.mark.skipif(not (SHARED / "davis-mini").is_dir(), reason="../shared/davis-mini not here")
def test_davis_mini_by_repeating_the_first_mask(tmp_path):
    """Three objects, 66 frames; the floor is low but not 0, and the same from files as from the run."""
    root, out = SHARED / "davis-mini", tmp_path / "masks"
    evaluation = run("davis2017", root, sequences=["dogs-jump"], segmenter=RepeatFirst, masks_out=out)
    assert list(evaluation.score.per_object) == ["dogs-jump/1", "dogs-jump/2", "dogs-jump/3"]
    assert evaluation.score.JF == pytest.approx(0.299, abs=5e-4)
    assert run("davis2017", root, sequences=["dogs-jump"], results=out).score == evaluation.score
