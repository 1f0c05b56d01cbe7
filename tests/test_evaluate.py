"""Scoring a split: from files, from a network, from anything with a step."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from davis_tree import index_masks, write_davis, write_list
from PIL import Image

from tmrn_edu.data.davis import open_davis
from tmrn_edu.data.video import read_mask, write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate import RepeatFirst, evaluate, write_json
from tmrn_edu.metrics import combine, score
from tmrn_edu.networks.stcn import STCN

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
    assert evaluation.method == "STCN" and evaluation.frames_per_second > 0
    assert 0 <= evaluation.score.JF <= 1
    assert torch.equal(read_mask(out / "pair" / "00000.png").index, torch.from_numpy(TRUTH["pair"][0]))
    again = run("davis2017", root, results=out)
    assert again.score == evaluation.score and again.per_sequence == evaluation.per_sequence


def test_unknown_network(root):
    refuses("no network is called 'stcm-tiny'", "davis2017", root, network="stcm-tiny")


# --- what is refused, before anything is scored ---


def test_unknown_data_set(root, results):
    refuses("'davis2018' is unknown, there are davis2016, davis2017", "davis2018", root, results=results)


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
    refuses("single/00002.png is 18x30 (height x width)", "davis2017", root, results=results)


def test_results_with_other_labels(root, results):
    write_mask(results / "single" / "00002.png", np.full((18, 30), 4, dtype=np.uint8))
    refuses("00002.png has the labels [4], the ground truth of single has [0, 1]", "davis2017", root, results=results)


def test_results_that_are_pictures(root, results):
    Image.fromarray(np.zeros((18, 30, 3), dtype=np.uint8)).save(results / "single" / "00002.png")
    refuses("00002.png is RGB", "davis2017", root, results=results)


# --- real data, where it is ---


@pytest.mark.skipif(not (SHARED / "davis-mini").is_dir(), reason="../shared/davis-mini not here")
def test_davis_mini_by_repeating_the_first_mask(tmp_path):
    """Three objects, 66 frames; the floor is low but not 0, and the same from files as from the run."""
    root, out = SHARED / "davis-mini", tmp_path / "masks"
    evaluation = run("davis2017", root, sequences=["dogs-jump"], segmenter=RepeatFirst, masks_out=out)
    assert list(evaluation.score.per_object) == ["dogs-jump/1", "dogs-jump/2", "dogs-jump/3"]
    assert evaluation.score.JF == pytest.approx(0.299, abs=5e-4)
    assert run("davis2017", root, sequences=["dogs-jump"], results=out).score == evaluation.score
