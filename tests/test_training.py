"""The parts of a training run: objective, references, first weights, held-out videos, data by name, courses."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from davis_tree import write_davis, write_list
from PIL import Image
from small_networks import build
from torch import nn

from tmrn_edu.courses import find_recipe, first_weights, list_recipes, run_recipe, with_reader
from tmrn_edu.data.clips import Batch
from tmrn_edu.data.video_clips import synthetic_set
from tmrn_edu.errors import InputError
from tmrn_edu.inference import memorize_frame, roll_out, segment_frame
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.memory.working import pick_frames
from tmrn_edu.networks import STCN, STM, XMem
from tmrn_edu.official import official_names
from tmrn_edu.segmenter import segment
from tmrn_edu.train import TrainSettings, clip_objective, curriculum
from tmrn_edu.training.held_out import score_videos, split_sets
from tmrn_edu.training.objective import label_loss, make_optimiser, set_learning_rate
from tmrn_edu.training.sources import make_data
from tmrn_edu.training.start import grow_stem, put_reader, start_from
from tmrn_edu.weights import export, load

TINY = TrainSettings(steps=10)


def clips(b=2, t=5, o=2, size=(32, 48), seed=0):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(b, o, t, *size)
    for i in range(b):
        for n in range(o):
            masks[i, n, :, 4 + 12 * n : 14 + 12 * n, 5 + i : 25 + i] = 1
    return torch.rand(b, t, 3, *size, generator=generator), masks


# ------------------------------------------------------------------ clips of a batch that differ


@pytest.mark.parametrize("kind", [STM.tiny, STCN.tiny, XMem.tiny])
@pytest.mark.parametrize("reader", ["space-time", "chained"])
def test_every_clip_has_its_own_frames_objects_and_references(kind, reader):
    """A batch of two clips with other frame numbers, objects and references gives what each clip gives alone."""
    torch.manual_seed(0)
    network = kind().train()
    network.deep_update_probability = 0.0
    put_reader(network, reader)
    for name, parameter in network.reader.named_parameters():  # a reader at its start does not look at ages
        nn.init.constant_(parameter, 0.3) if parameter.dim() == 0 else None
    frames, masks = clips()
    masks[1, 1] = 0
    indices = torch.tensor([[0, 1, 3, 4, 9], [0, 5, 6, 7, 8]])
    references = torch.tensor([[[0, 0], [0, 0], [0, 1], [0, 2], [0, 3]], [[0, 0], [0, 0], [0, 1], [0, 1], [0, 2]]])
    present = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    together = roll_out(network, frames, masks[:, :, 0], indices, present=present, references=references)
    for i in range(2):
        one = slice(i, i + 1)
        alone = roll_out(
            network, frames[one], masks[one, :, 0], indices[one], present=present[one], references=references[one]
        )
        for both, single in zip(together, alone, strict=True):
            torch.testing.assert_close(both.logits[one], single.logits, rtol=2e-3, atol=2e-3)
    assert together[-1].probabilities[1, 2].max() < 1e-5
    every = roll_out(network, frames, masks[:, :, 0], indices, present=present)
    assert not torch.allclose(every[-1].logits, together[-1].logits, atol=1e-4)  # references matter


def test_picked_frames_are_those_that_were_chosen():
    network = build("STCN tiny")
    frames, masks = clips(b=2, t=3)
    memory = [memorize_frame(network, frames[:, t], masks[:, :, t], 3 * t, exact=t == 0) for t in range(3)]
    first, second = pick_frames(memory, torch.tensor([[0, 2], [0, 1]]))
    assert first.exact and not second.exact
    assert first.index.tolist() == [0, 0] and second.index.tolist() == [6, 3]
    for clip, t in ((0, 2), (1, 1)):
        assert torch.equal(second.key[clip], memory[t].key[clip])
        assert torch.equal(second.value[clip], memory[t].value[clip])


def test_frame_numbers_of_clips_mean_what_one_number_does():
    network = build("STCN tiny")
    network.reader = TrajectoryReader.chained(32, 64).eval()
    nn.init.constant_(network.reader.age.age, -0.7)
    nn.init.constant_(network.reader.beta, 0.2)
    frames, masks = clips(b=1, t=3)

    def read(number):
        memory = [memorize_frame(network, frames[:, t], masks[:, :, t], number(2 * t)) for t in range(2)]
        return segment_frame(network, frames[:, 2], [memory], number(7)).logits

    torch.testing.assert_close(read(lambda n: n), read(lambda n: torch.tensor([n])), rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------ the loss


def test_label_loss_looks_at_the_objects_a_clip_has():
    torch.manual_seed(0)
    logits, masks = torch.randn(3, 4, 6, 8), torch.zeros(3, 3, 6, 8)
    masks[0, 0, :3], masks[1, 0, 2:], masks[1, 1, :2] = 1, 1, 1
    present = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 0]])  # the last clip has no object, and counts as with one
    expected = 0.0
    for i, count in enumerate((1, 2, 1)):
        labels = sum((n + 1) * masks[i, n] for n in range(3)).long()
        losses = nn.functional.cross_entropy(logits[i : i + 1, : count + 1], labels[None], reduction="none")
        expected += losses.reshape(-1).sort(descending=True).values[:14].mean() / 3  # int(.3 * 48)
    torch.testing.assert_close(label_loss(logits, masks, present, 0.3), expected)
    torch.testing.assert_close(label_loss(logits, masks, torch.ones(3, 3), 0.3), label_loss(logits, masks, None, 0.3))


def test_sum_or_mean_over_frames():
    torch.manual_seed(0)
    network = XMem.tiny().train()
    network.deep_update_probability = 0.0
    frames, masks = clips(t=3)
    batch = Batch(frames, masks, (0, 1, 2))
    found = {}
    for sums in (False, True):
        settings = TrainSettings(sum_frames=sums, dice=0.5, readout_mask=0.0)
        loss, _ = clip_objective(network, batch, settings, curriculum(settings, 0))
        assert set(loss.terms) == {"cross_entropy", "dice"} and len(loss.terms["dice"]) == 2
        found[sums] = loss.total.item()
    assert found[True] == pytest.approx(2 * found[False], rel=1e-5)


# ------------------------------------------------------------------ first weights


def test_weights_of_a_run_and_a_new_reader(tmp_path):
    """Warm start: TMRN in trained weights changes nothing at first (identity 1)."""
    trained = build("STCN tiny", seed=3)
    export(trained, tmp_path / "trained.safetensors")
    torch.manual_seed(1)
    network = STCN.tiny()
    put_reader(network, "trajectory")
    words = start_from(network, tmp_path / "trained.safetensors")
    assert "trained.safetensors" in words and isinstance(network.reader, TrajectoryReader)
    frames, masks = clips(b=1, t=4)
    with torch.no_grad():
        one, other = (roll_out(n.eval(), frames, masks[:, :, 0]) for n in (trained, network))
    torch.testing.assert_close(one[-1].logits, other[-1].logits, rtol=1e-3, atol=1e-3)


def test_a_shipped_network_by_name_whose_reader_is_left_out():
    network = STCN.tiny()
    words = start_from(network, "tmrn-stcn-tiny")
    assert "its TrajectoryReader is left out, this network's SpaceTimeReader begins as it was drawn" in words
    shipped = load("tmrn-stcn-tiny").state_dict()
    assert all(torch.equal(tensor, shipped[name]) for name, tensor in network.state_dict().items())


def test_a_readers_own_weights_come_along(tmp_path):
    trained = STCN.tiny(TrajectoryReader.paper(32, 64))
    nn.init.constant_(trained.reader.rectify, 0.123)
    export(trained, tmp_path / "a.safetensors")
    again = STCN.tiny(TrajectoryReader.paper(32, 64))
    start_from(again, tmp_path / "a.safetensors")
    assert again.reader.rectify.item() == pytest.approx(0.123)


@pytest.mark.parametrize("channels", [4, 5])
def test_files_of_the_authors_are_grown(tmp_path, channels):
    """A file of STCN's first stage has four channels in its stem; the fifth is drawn orthogonal, the others are the file's."""
    torch.manual_seed(0)
    state = {}
    for name, tensor in STCN().state_dict().items():
        for theirs in official_names("stcn", name):
            state[theirs] = tensor.clone()
    stem = "value_encoder.conv1.weight"
    state[stem] = state[stem][:, :channels]
    torch.save(state, tmp_path / "stcn.pth")
    network = STCN()
    words = start_from(network, tmp_path / "stcn.pth")
    own = network.value_encoder.trunk.conv1.weight
    assert torch.equal(own[:, :channels], state[stem]) and ("drawn anew" in words) == (channels == 4)
    others = own[:, 4].reshape(64, -1)  # orthonormal columns
    if channels == 4:
        torch.testing.assert_close(others.T @ others, torch.eye(49), rtol=1e-4, atol=1e-4)


def test_stage_two_grows_the_stem_of_stage_one(tmp_path):
    one = build("STCN tiny", seed=2)
    export(one, tmp_path / "one.safetensors")
    network = STCN.tiny()
    start_from(network, tmp_path / "one.safetensors", grows=True)
    before, after = (n.value_encoder.stem.weight for n in (one, network))
    assert torch.equal(before[:, :4], after[:, :4]) and not torch.equal(before[:, 4:], after[:, 4:])
    with pytest.raises(InputError, match="4 input channels, expected 5"):
        grow_stem(nn.ModuleDict({"value_encoder": nn.Conv2d(4, 8, 3)}))


def test_first_weights_that_do_not_fit(tmp_path):
    export(build("XMem tiny"), tmp_path / "xmem.safetensors")
    with pytest.raises(
        InputError, match=r"xmem.safetensors holds XMem \(tiny\), the network to be trained is STCN \(tiny\)"
    ):
        start_from(STCN.tiny(), tmp_path / "xmem.safetensors")
    with pytest.raises(
        InputError, match="no weights at .*nothing.pth to start from; expected a file, a shipped network's name"
    ):
        start_from(STCN.tiny(), tmp_path / "nothing.pth")
    (tmp_path / "checkpoint.pt").touch()
    with pytest.raises(
        InputError, match="checkpoint.pt is the checkpoint of a run; expected the network.safetensors beside it"
    ):
        start_from(STCN.tiny(), tmp_path / "checkpoint.pt")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="notes.txt is no file of tmrn-edu train"):
        start_from(STCN.tiny(), tmp_path / "notes.txt")
    with pytest.raises(InputError, match="reader is 'transformer', expected one of space-time, paper"):
        put_reader(STCN.tiny(), "transformer")
    with pytest.raises(InputError, match="tiny networks have none"):
        start_from(STCN.tiny(), f"imagenet:{tmp_path}")


def test_imagenet_from_a_folder(tmp_path):
    for kind in ("resnet50", "resnet18"):
        trunk = STCN().key_encoder if kind == "resnet50" else STCN().value_encoder.trunk
        state = {k: torch.full_like(v, 0.5) if v.is_floating_point() else v for k, v in trunk.state_dict().items()}
        if kind == "resnet18":
            state["conv1.weight"] = state["conv1.weight"][:, :3]
        torch.save(state, tmp_path / f"{kind}-abc.pth")
    network = STCN()
    assert start_from(network, f"imagenet:{tmp_path}") == "ImageNet weights in the trunks"
    assert (network.key_encoder.layer1[0].conv1.weight == 0.5).all()


def test_where_a_recipe_starts(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert first_weights(find_recipe("stcn_static"), None) == "imagenet"
    assert first_weights(find_recipe("stcn_tiny"), None) == "none"
    assert first_weights(find_recipe("stcn_video"), "some.pth") == "some.pth"
    with pytest.raises(InputError, match="tmrn-xmem-video starts from the weights of tmrn-xmem-static: expected runs"):
        first_weights(find_recipe("tmrn_xmem_video"), None)
    (tmp_path / "runs" / "stcn-static").mkdir(parents=True)
    (tmp_path / "runs" / "stcn-static" / "network.safetensors").touch()
    assert first_weights(find_recipe("stcn_video"), None).endswith("network.safetensors")


# ------------------------------------------------------------------ data


def test_held_out_videos_are_not_trained_on():
    one, other = synthetic_set(10, length=3, size=(32, 32)), synthetic_set(4, length=3, size=(32, 32), seed=1)
    rest, held = split_sets([one], 3)
    (kept,) = held.values()
    assert len(rest[0].videos) == 7 and len(kept) == 3
    assert {v.name for v in rest[0].videos}.isdisjoint(v.name for v in kept)
    assert split_sets([one], 0) == ([one], {})
    with pytest.raises(InputError, match="held_out is 4, but synthetic has 4 videos; expected fewer"):
        split_sets([other], 4)


def test_folds_hold_every_video_out_once():
    one, stills = synthetic_set(7, length=2, size=(24, 24)), replace(synthetic_set(2), kind="stills")
    held = []
    for fold in range(3):
        rest, kept = split_sets([one, stills], 0, folds=3, fold=fold)
        assert rest[1] is stills and set(kept) == {"synthetic"}
        assert {v.seed for v in rest[0].videos} | {v.seed for v in kept["synthetic"]} == {v.seed for v in one.videos}
        assert len(rest[0].videos) + len(kept["synthetic"]) == 7
        held += kept["synthetic"]
    assert sorted(v.seed for v in held) == [v.seed for v in one.videos]
    with pytest.raises(InputError, match="folds is 8, but synthetic has 7 videos; expected fewer"):
        split_sets([one], 0, folds=8)
    for wrong in ({"folds": 3, "fold": 3}, {"folds": 1}):
        with pytest.raises(InputError, match=f"folds {wrong['folds']}, .*expected either held_out, or 2 folds or more"):
            split_sets([one], 0, **wrong)
    with pytest.raises(InputError, match="held_out is 1, folds 3"):
        split_sets([one], 1, folds=3)


def test_score_is_that_of_segment():
    network, (video,) = build("STCN tiny"), synthetic_set(1, length=4, size=(32, 48)).videos
    network.train()
    scores = score_videos(network, [video])
    assert network.training
    from tmrn_edu import metrics

    frames = torch.stack([video.frame(t) for t in range(4)])
    masks = torch.stack([video.mask(t) for t in range(4)])
    found = segment(network.eval(), frames, {0: masks[0]})
    assert scores == {video.name: pytest.approx(metrics.score(found.index_masks, masks).J)}


def test_data_by_name(tmp_path):
    recipe = find_recipe("stcn_video_small")
    data, held, words = make_data(recipe.with_settings(held_out=1), ["synthetic:5"])
    assert data.objects == 2 and words.startswith("synthetic: 4 videos; held out: synthetic")
    with pytest.raises(InputError, match="stcn-tiny is trained on its own synthetic clips, data here was given"):
        make_data(find_recipe("stcn_tiny"), ["here"])
    with pytest.raises(InputError, match="stcn-static is trained on stills: expected --data ROOT"):
        make_data(find_recipe("stcn_static"))
    with pytest.raises(InputError, match="asks for 'many' synthetic videos, expected a number"):
        make_data(recipe, ["synthetic:many"])
    root = write_davis(tmp_path / "DAVIS")
    write_list(root, "2017/train.txt", ["pair", "single"])
    data, _, words = make_data(recipe, [root, "synthetic:3"])
    assert "2 videos" in words and "synthetic: 3 videos" in words
    clip = data.sample(0, 0, 2, 3, 1)
    assert clip.frames.shape == (3, 3, 96, 96) and clip.objects == 2
    (tmp_path / "names.txt").write_text("single\n")
    _, _, words = make_data(recipe, [root], tmp_path / "names.txt")
    assert "1 video" in words
    with pytest.raises(InputError, match="cannot read the names in .*nowhere.txt"):
        make_data(recipe, [root], tmp_path / "nowhere.txt")
    (tmp_path / "own").mkdir()
    for number, values in enumerate(([0, 1], [0, 255], [0, 0])):  # labels, white on black, nothing
        Image.fromarray(np.full((20, 30, 3), 99, np.uint8)).save(tmp_path / "own" / f"{number}.jpg")
        Image.fromarray(np.tile(np.array(values, np.uint8), (20, 15))).save(tmp_path / "own" / f"{number}.png")
    one = find_recipe("stcn_static_small")
    stills, _, _ = make_data(one, [tmp_path / "own"])
    assert [int(still.mask(0).sum()) for still in stills.sets[0].videos] == [300, 300, 0]
    for number in range(2):
        (tmp_path / "own" / f"{number}.png").unlink()
        (tmp_path / "own" / f"{number}.jpg").unlink()
    with pytest.raises(
        InputError, match="1 of 1 masks were looked at, no object in any; expected white on black, or labels"
    ):
        make_data(one, [tmp_path / "own"])
    stills, _, _ = make_data(find_recipe("stcn_static_small"), [root])
    assert stills.sample(0, 0, 2, 3, 1).objects == 1


# ------------------------------------------------------------------ recipes by name, and courses


def test_names_of_recipes():
    names = set(list_recipes())
    wanted = {
        f"{t}{n}-{s}" for t in ("", "tmrn-") for n in ("stm", "stcn", "xmem") for s in ("static", "video", "small")
    }
    assert names >= wanted and names >= {name.replace("-small", "-video-small") for name in wanted if "small" in name}
    with pytest.raises(InputError, match="there is no recipe 'stcn_vide', did you mean stcn_video.* there are"):
        find_recipe("stcn_vide")
    assert with_reader(find_recipe("stcn_video"), "chained").name == "stcn-video (chained reader)"


def test_a_course_hands_weights_over_and_scores(tmp_path, monkeypatch):
    monkeypatch.setattr("tmrn_edu.courses.CLIPS_A_LEVEL", 1)
    out = tmp_path / "run"
    options = {"steps": 1, "batch": 2, "size": 32, "save_every": 1, "held_out": 1}
    path = run_recipe(find_recipe("tmrn_stcn_small"), out, ["synthetic:3"], options=options, progress=False)
    assert path == out / "2-tmrn-stcn-video-small" / "network.safetensors"
    scores = json.loads((out / "scores.json").read_text())
    assert set(scores) == {"synthetic", "held out of synthetic"} and set(scores["synthetic"]) == {
        "easy",
        "medium",
        "hard",
    }
    about = json.loads((path.parent / "run.json").read_text())["about"]
    assert about["init"].endswith("1-tmrn-stcn-static-small/network.safetensors") and about["roots"] == ["synthetic:3"]
    with (path.parent / "metrics.csv").open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0"]
    with pytest.raises(InputError, match="already holds a run"):
        run_recipe(find_recipe("tmrn_stcn_small"), out, options=options, progress=False)
    (out / "2-tmrn-stcn-video-small" / "network.safetensors").unlink()  # as if it had been stopped: goes on as it began
    again = run_recipe(find_recipe("tmrn_stcn_small"), out, resume=True, progress=False)
    assert again == path and path.exists()
    shutil.rmtree(path.parent)  # as if it had been stopped in the first stage: the second is as it was asked for then
    assert run_recipe(find_recipe("tmrn_stcn_small"), out, resume=True, progress=False) == path
    settings = json.loads((path.parent / "run.json").read_text())["settings"]
    assert {name: settings[name] for name in options} == options
    with pytest.raises(InputError, match="holds a run on synthetic: 2 videos; held out: .* now the data is"):
        run_recipe(
            find_recipe("tmrn_stcn_static_small"), out / "1-tmrn-stcn-static-small", ["synthetic:4"], resume=True
        )
    with pytest.raises(InputError, match="nothing to resume in"):
        run_recipe(find_recipe("stcn_small"), tmp_path / "none", resume=True)


def test_a_course_that_is_stopped_says_where_to_go_on(tmp_path, monkeypatch):
    from tmrn_edu.train import Stopped

    def stopped(*_, **__):
        raise Stopped(7, tmp_path / "stage", 143)

    monkeypatch.setattr("tmrn_edu.courses.train", stopped)
    with pytest.raises(
        Stopped,
        match=r"stopped before step 7; continue with --resume \(resume=True in Python\) from .*run \(in stcn-static-small\)",
    ) as stop:
        run_recipe(find_recipe("stcn_small"), tmp_path / "run", ["synthetic:2"])
    assert stop.value.status == 143


def test_another_reader_is_trained_and_remembered(tmp_path):
    out, recipe = tmp_path / "run", find_recipe("stcn_video_small")
    options = {"steps": 1, "batch": 1, "size": 32}
    with pytest.raises(InputError, match="starts from the weights of stcn-static-small"):
        run_recipe(recipe, out, ["synthetic:2"], options=options, progress=False)
    path = run_recipe(recipe, out, ["synthetic:2"], "none", "chained", options=options, progress=False)
    run = json.loads((out / "run.json").read_text())
    assert run["recipe"] == "stcn-video-small (chained reader)" and run["about"]["reader"] == "chained"
    path.unlink()
    with pytest.raises(InputError, match="holds a run that started from none, now it is to start from stcn-tiny"):
        run_recipe(recipe, out, init="stcn-tiny", resume=True, progress=False)
    run_recipe(recipe, out, resume=True, progress=False)
    assert path.exists() and isinstance(with_reader(recipe, None).build(0).reader, SpaceTimeReader)


def test_trunks_learn_at_a_rate_of_their_own():
    """A tenth as fast, or not at all; all weights are in one group where nothing else was said."""
    settings = replace(TrainSettings(), trunk_lr=0.1, lr=1e-2, weight_decay=0.0)
    network = STCN.mobile()
    optimiser = make_optimiser(network, settings)
    set_learning_rate(optimiser, 2e-3)
    assert [group["lr"] for group in optimiser.param_groups] == [2e-3, 2e-4]
    slow = sum(p.numel() for p in optimiser.param_groups[1]["params"])
    assert slow == sum(p.numel() for p in network.key_encoder.trunk.parameters())
    frozen = make_optimiser(network, replace(settings, trunk_lr=0.0))
    assert len(frozen.param_groups) == 1 and not any(p.requires_grad for p in network.key_encoder.parameters())
    assert all(p.requires_grad for p in network.decoder.parameters())
    alike = make_optimiser(STCN.mobile(), replace(settings, trunk_lr=1.0))
    assert len(alike.param_groups) == 1 and all(p.requires_grad for p in alike.param_groups[0]["params"])
    with pytest.raises(InputError, match=r"trunk_lr is 0.1 and STCN \(tiny\) has no trunk; expected trunk_lr 1"):
        make_optimiser(STCN.tiny(), settings)
    with pytest.raises(InputError, match="held_out is 0, folds 0, fold 3; expected held_out or folds"):
        replace(settings, fold=3)
    with pytest.raises(InputError, match="trunk_lr is 2.0, expected a share from 0 to 1"):
        replace(settings, trunk_lr=2.0)
