"""Training: the curriculum, exact resumption, interruption, and a network that learns."""

import csv
import math
from dataclasses import replace

import pytest
import torch

from tmrn_edu.data.clips import FIRST_TRAINING_SEED, SyntheticClips
from tmrn_edu.errors import InputError
from tmrn_edu.inference import roll_out
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.train import Recipe, TrainSettings, clip_loss, curriculum, train
from tmrn_edu.weights import load

SMALL = TrainSettings(steps=4, batch=2, frames=3, short_frames=2, clips=8, size=32, save_every=2)


def build(seed, reader=SpaceTimeReader):
    torch.manual_seed(seed)
    return STCN.tiny(reader())


def recipe(reader=SpaceTimeReader, name="small", **options):
    return Recipe(name, lambda seed: build(seed, reader), replace(SMALL, **options))


@pytest.fixture(scope="module")
def clips():
    return SyntheticClips(SMALL.clips, size=(32, 32))


class Stopping(SyntheticClips):
    """Clips at which somebody presses Ctrl-C after some batches."""

    def __init__(self, clips, after):
        super().__init__(SMALL.clips, size=(32, 32))
        self.clips, self.left = clips, after

    def batch(self, *arguments):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return self.clips.batch(*arguments)


def weights_of(path):
    return load(path).state_dict()


# ------------------------------------------------------------------ batches


def test_batches_are_a_pure_function_of_the_step(clips):
    again = SyntheticClips(SMALL.clips, size=(32, 32))
    again.batch(0, 3, 2)  # another history
    for step in (5, 3):
        one, other = clips.batch(step, 3, 3, max_gap=2), again.batch(step, 3, 3, max_gap=2)
        assert torch.equal(one.frames, other.frames) and torch.equal(one.object_masks, other.object_masks)
        assert one.indices == other.indices and one.indices[0] == 0
    assert not torch.equal(clips.batch(4, 3, 3).frames, clips.batch(5, 3, 3).frames)
    assert one.frames.shape == (3, 3, 3, 32, 32) and one.object_masks.shape == (3, 1, 3, 32, 32)
    assert one.frames.min() >= 0 and one.frames.max() <= 1 and set(one.object_masks.unique().tolist()) == {0, 1}


def test_gaps_stay_in_bounds():
    clips = SyntheticClips(4, size=(16, 24))  # not square: never turned
    for step in range(30):
        batch = clips.batch(step, 2, 3, max_gap=3)
        gaps = [b - a for a, b in zip(batch.indices, batch.indices[1:], strict=False)]
        assert all(1 <= gap <= 3 for gap in gaps) and batch.frames.shape[-2:] == (16, 24)
    with pytest.raises(ValueError, match="4 frames with gaps up to 3 need 10 video frames, videos have 8"):
        clips.batch(0, 2, 4, max_gap=3)
    assert FIRST_TRAINING_SEED == 10_000_000


# ------------------------------------------------------------------ the loop


def test_curriculum():
    settings = TrainSettings(
        steps=100, lr=1.0, final_lr=0.1, warm_up=0.1, short_share=0.4, hard_from=0.2, hard_pixels=0.25
    )
    stages = [curriculum(settings, step) for step in range(100)]
    assert math.isclose(stages[0].lr, 0.1) and math.isclose(max(stage.lr for stage in stages), 1.0)
    assert stages[10].lr == 1.0 and 0.1 <= stages[99].lr < 0.11
    assert all(a.lr >= b.lr for a, b in zip(stages[10:], stages[11:], strict=False))
    assert [(s.frames, s.max_gap) for s in (stages[39], stages[40])] == [(3, 1), (4, 2)]
    assert stages[19].hard_pixels == 1.0 and 0.25 < stages[60].hard_pixels < 1.0
    curriculum(TrainSettings(steps=1), 0)


def test_what_a_run_writes(tmp_path, clips):
    out = tmp_path / "run"
    path = train(recipe(), out, progress=False, data=clips)
    assert path == out / "network.safetensors"
    assert sorted(file.name for file in out.iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "network.safetensors",
        "run.json",
    ]
    rows = list(csv.DictReader((out / "log.csv").open()))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"] and all(
        math.isfinite(float(row["loss"])) for row in rows
    )
    for name, tensor in weights_of(path).items():
        assert torch.isfinite(tensor).all(), name
    with pytest.raises(InputError, match="already holds a run; choose another folder, or continue it with --resume"):
        train(recipe(), out, progress=False, data=clips)


@pytest.mark.parametrize("reader", [SpaceTimeReader, lambda: TrajectoryReader.chained(32, 64)])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, clips, reader):
    whole = weights_of(train(recipe(reader), tmp_path / "whole", progress=False, data=clips))
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt, match="stopped at step 3; continue with --resume from .*checkpoint.pt"):
        train(recipe(reader), out, progress=False, data=Stopping(clips, 3))
    assert sorted(file.name for file in out.iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "run.json",
    ]  # nothing half-written
    torch.manual_seed(99)  # another process has another history
    parts = weights_of(train(recipe(reader), out, resume=True, progress=False, data=clips))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    logs = [(tmp_path / name / "log.csv").read_text() for name in ("whole", "parts")]
    assert logs[0] == logs[1]
    before = build(0, reader).state_dict()
    assert any(not torch.equal(before[name], whole[name]) for name in whole)


def test_interrupted_before_the_first_checkpoint(tmp_path, clips):
    with pytest.raises(KeyboardInterrupt, match="stopped at step 1; no checkpoint in .* yet, begin again"):
        train(recipe(), tmp_path, progress=False, data=Stopping(clips, 1))
    with pytest.raises(InputError, match="nothing to resume in .*: expected checkpoint.pt and run.json"):
        train(recipe(), tmp_path, resume=True, progress=False, data=clips)
    train(recipe(steps=1), tmp_path, progress=False, data=clips)  # the folder is free


def test_interrupted_while_writing(tmp_path, clips, monkeypatch):
    train(recipe(steps=2), tmp_path, progress=False, data=clips)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def interrupted(state, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(steps=2), tmp_path, resume=True, progress=False, data=clips)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept


def test_resuming_another_run(tmp_path, clips):
    train(recipe(steps=1), tmp_path, progress=False, data=clips)
    with pytest.raises(
        InputError, match="holds a run of small with steps 1, lr 0.002, asked for is small with steps 4, lr 1.0"
    ):
        train(recipe(lr=1.0), tmp_path, resume=True, progress=False, data=clips)
    with pytest.raises(
        InputError, match="holds a run of small with the same settings, asked for is other with the same settings"
    ):
        train(recipe(name="other", steps=1), tmp_path, resume=True, progress=False, data=clips)


def test_a_loss_that_is_not_finite(tmp_path, clips):
    def broken(seed):
        network = build(seed)
        torch.nn.init.constant_(network.decoder.pred.bias, torch.nan)
        return network

    with pytest.raises(FloatingPointError, match="loss at step 0 is nan, expected a finite number"):
        train(Recipe("broken", broken, SMALL), tmp_path, progress=False, data=clips)


def test_sizes_that_are_no_multiples_of_the_stride(tmp_path):
    train(recipe(steps=1, size=40, clips=2), tmp_path, progress=False)


@pytest.mark.parametrize("reader", [SpaceTimeReader, lambda: TrajectoryReader.warm(32, 64)])
def test_a_tiny_network_overfits_one_clip(clips, reader):
    network = build(0, reader).train()
    batch = clips.batch(1, 1, 3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    for _ in range(40):
        results = roll_out(network, batch.frames, batch.object_masks[:, :, 0], batch.indices)
        loss = clip_loss(network, results, batch, SMALL, 1.0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found = torch.stack([result.logits.argmax(1) for result in results], dim=1)
    truth = batch.object_masks[:, 0, 1:].long()
    overlap = ((found == 1) & (truth == 1)).sum() / ((found == 1) | (truth == 1)).sum()
    assert overlap > 0.9, float(overlap)


class Plain(SpaceTimeReader):
    """A reader of somebody's own: every frame counts alike."""

    def temporal_score(self, step, query_key, aligned_value):
        return torch.zeros_like(step.affinity.evidence)


class Secretive(Plain):
    settings = None


def test_a_reader_of_ones_own_is_trained_and_loaded(tmp_path, clips):
    path = train(recipe(Plain), tmp_path / "run", progress=False, data=clips)
    with pytest.raises(InputError, match=r"with Plain; .*load\(file, reader=...\)"):
        load(path)
    network = load(path, reader=Plain())
    assert isinstance(network.reader, Plain) and all(p.isfinite().all() for p in network.parameters())


def test_a_reader_that_no_file_could_describe_is_refused_first(tmp_path, clips):
    with pytest.raises(InputError, match=r"Secretive has no settings\(\)"):
        train(recipe(Secretive), tmp_path / "run", progress=False, data=clips)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch": 9}, "a batch has 9 clips, the data set has 8"),
        ({"frames": 5, "max_gap": 2}, "5 frames with gaps up to 2, expected .* within videos of 8"),
        ({"short_frames": 1}, "1 frames with gaps up to 1, expected 2 frames or more"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_first(tmp_path, clips, options, message):
    with pytest.raises(InputError, match=message):
        train(recipe(**options), tmp_path / "run", progress=False, data=clips)
    assert not (tmp_path / "run").exists()
