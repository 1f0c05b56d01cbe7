"""The training loop: what a run writes, exact resumption, interruption, numbers that are none, and a network that learns."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tmrn_edu.data.clips import FIRST_TRAINING_SEED, SyntheticClips
from tmrn_edu.errors import InputError
from tmrn_edu.inference import roll_out
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.train import Recipe, TrainSettings, clip_loss, train
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

    def sample(self, step, position, batch, *arguments):
        if position == 0:
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
        return self.clips.sample(step, position, batch, *arguments)


def replace_frames(clip, frames):
    return replace(clip, frames=frames)


def files_of(folder):
    return sorted(file.name for file in folder.iterdir())


def metrics_of(out, but=()):
    with (out / "metrics.csv").open() as file:
        return [{name: value for name, value in row.items() if name not in but} for row in csv.DictReader(file)]


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


def test_what_a_run_writes(tmp_path, clips):
    out = tmp_path / "run"
    path = train(recipe(), out, progress=False, data=clips)
    assert path == out / "network.safetensors"
    events = [f"events.out.tfevents.{step:010d}.tmrn_edu" for step in (1, 3)]
    assert files_of(out) == sorted(["checkpoint.pt", "metrics.csv", "network.safetensors", "run.json", *events])
    rows = metrics_of(out)
    assert [row["step"] for row in rows] == ["0", "1", "2", "3"]
    assert all(math.isfinite(float(row["loss"])) for row in rows)
    for row in rows:  # terms are means over frames, and so is the loss of these settings
        terms = sum(float(row[name]) for name in ("cross_entropy", "dice", "readout_mask"))
        assert float(row["loss"]) == pytest.approx(terms, rel=1e-5)
    assert [row["frames"] for row in rows] == ["2", "2", "3", "3"] and float(rows[-1]["seconds"]) > 0
    run = json.loads((out / "run.json").read_text())
    assert run["recipe"] == "small" and run["settings"]["steps"] == 4
    assert {"devices", "versions", "commit", "command"} <= run["about"].keys()
    for name, tensor in weights_of(path).items():
        assert torch.isfinite(tensor).all(), name
    with pytest.raises(InputError, match="already holds a run; choose another folder, or continue it with --resume"):
        train(recipe(), out, progress=False, data=clips)


@pytest.mark.parametrize("reader", [SpaceTimeReader, lambda: TrajectoryReader.chained(32, 64)])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, clips, reader):
    whole = weights_of(train(recipe(reader), tmp_path / "whole", progress=False, data=clips))
    out = tmp_path / "parts"
    with pytest.raises(
        KeyboardInterrupt, match=r"stopped before step 3; continue with --resume \(resume=True in Python\) from .*parts"
    ):
        train(recipe(reader), out, progress=False, data=Stopping(clips, 3))
    torch.manual_seed(99)  # another process has another history
    parts = weights_of(train(recipe(reader), out, resume=True, progress=False, data=clips))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[name], parts[name]) for name in whole)
    assert metrics_of(tmp_path / "whole", but="seconds") == metrics_of(out, but="seconds")
    before = build(0, reader).state_dict()
    assert any(not torch.equal(before[name], whole[name]) for name in whole)


def test_interrupted_before_the_first_step(tmp_path, clips):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="stopped before step 0; continue with --resume"):
        train(recipe(), out, progress=False, data=Stopping(clips, 0))
    assert files_of(out) == ["run.json"]
    parts = weights_of(train(recipe(), out, resume=True, progress=False, data=clips))
    whole = weights_of(train(recipe(), tmp_path / "whole", progress=False, data=clips))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(InputError, match="nothing to resume in .*: expected run.json"):
        train(recipe(), tmp_path / "nowhere", resume=True, progress=False, data=clips)


def test_what_is_recorded_may_change_when_a_run_goes_on(tmp_path, clips):
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train(recipe(), out, progress=False, data=Stopping(clips, 1))
    train(recipe(save_every=3, log_every=2, sample_every=2), out, resume=True, progress=False, data=clips)
    assert [row["step"] for row in metrics_of(out)] == ["0", "1", "3"]  # the last line is of two steps
    assert files_of(out / "samples") == ["00000002.png"]
    train(recipe(), out, resume=True, progress=False, data=clips)  # a finished run stays as it is


def test_an_error_on_the_way_loses_nothing(tmp_path, clips):
    class Broken(SyntheticClips):
        def sample(self, step, *arguments):
            if step == 3:
                raise InputError("frame 00007.jpg is cut off")
            return clips.sample(step, *arguments)

    out = tmp_path / "run"
    with pytest.raises(InputError, match="^frame 00007.jpg is cut off$"):
        train(recipe(workers=1), out, progress=False, data=Broken(SMALL.clips, size=(32, 32)))
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 3
    parts = weights_of(train(recipe(), out, resume=True, progress=False, data=clips))
    whole = weights_of(train(recipe(), tmp_path / "whole", progress=False, data=clips))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_too_little_memory(tmp_path, clips, monkeypatch):
    from tmrn_edu.training import objective

    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(objective, "roll_out", full)
    with pytest.raises(
        MemoryError, match="step 0 does not fit into the memory of cpu: expected --accumulate 2 or more"
    ):
        train(recipe(), tmp_path / "run", progress=False, data=clips)


def test_parts_of_a_batch_add_up(tmp_path, clips):
    whole = weights_of(train(recipe(steps=2, lr=1e-3), tmp_path / "1", progress=False, data=clips))
    parts = weights_of(train(recipe(steps=2, lr=1e-3, accumulate=2), tmp_path / "2", progress=False, data=clips))
    one, other = metrics_of(tmp_path / "1"), metrics_of(tmp_path / "2")
    for name in ("loss", "gradient_norm"):
        assert [float(row[name]) for row in one] == pytest.approx([float(row[name]) for row in other], rel=1e-3)
    close = [torch.isclose(whole[name], parts[name], atol=3e-4).float().mean() for name in whole]
    assert torch.stack(close).mean() > 0.95
    with pytest.raises(InputError, match=r"a batch has 2 clips, expected a multiple of 3 \(1 processes x 3 parts\)"):
        train(recipe(accumulate=3), tmp_path / "3", progress=False, data=clips)


def test_workers_change_nothing(tmp_path, clips):
    none = weights_of(train(recipe(steps=2), tmp_path / "0", progress=False, data=clips))
    two = weights_of(train(recipe(steps=2, workers=2), tmp_path / "2", progress=False, data=clips))
    assert all(torch.equal(none[name], two[name]) for name in none)


class Drawing(SpaceTimeReader):
    """A reader that draws random numbers in training, as dropout does."""

    def score(self, frame, query, centre, gap):
        score = super().score(frame, query, centre, gap)
        return score * (0.9 + 0.2 * torch.rand(())) if self.training else score


def test_random_numbers_of_a_reader_go_on_where_they_were(tmp_path, clips):
    whole = tmp_path / "whole"
    train(recipe(Drawing), whole, progress=False, data=clips)
    out = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        train(recipe(Drawing), out, progress=False, data=Stopping(clips, 2))
    torch.manual_seed(77)
    before = torch.get_rng_state()
    train(recipe(Drawing), out, resume=True, progress=False, data=clips)
    assert torch.equal(before, torch.get_rng_state())  # the caller's random numbers stay as they are
    assert metrics_of(whole, but="seconds") == metrics_of(out, but="seconds")


def test_interrupted_while_writing(tmp_path, clips, monkeypatch):
    train(recipe(steps=2), tmp_path, progress=False, data=clips)
    (tmp_path / "network.safetensors").unlink()
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def interrupted(*arguments):
        Path(arguments[1]).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("tmrn_edu.weights.save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(steps=2), tmp_path, resume=True, progress=False, data=clips)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept


def test_resuming_another_run(tmp_path, clips):
    train(recipe(steps=1), tmp_path, progress=False, data=clips)
    with pytest.raises(
        InputError, match="holds a run of small with steps 1, lr 0.002, asked for is small with steps 4, lr 1.0"
    ):
        train(recipe(lr=1.0), tmp_path, resume=True, progress=False, data=clips)
    with pytest.raises(InputError, match="holds a run of small, asked for is other$"):
        train(recipe(name="other", steps=1), tmp_path, resume=True, progress=False, data=clips)


def test_a_loss_that_is_not_finite(tmp_path, clips):
    def broken(seed):
        network = build(seed)
        torch.nn.init.constant_(network.decoder.pred.bias, torch.nan)
        return network

    out = tmp_path / "stops"
    with pytest.raises(
        FloatingPointError, match="loss at step 0 is nan, expected a finite number; clips: .+; the batch is in"
    ):
        train(Recipe("broken", broken, SMALL), out, progress=False, data=clips)
    assert files_of(out) == ["bad_batch_0.pt", "run.json"]
    batch = torch.load(out / "bad_batch_0.pt", weights_only=True)
    assert batch["frames"].shape == (2, 2, 3, 32, 32) and len(batch["names"]) == 2


def test_a_gradient_that_is_not_finite(tmp_path, clips):
    """A finite loss can have a gradient that is none; it must not reach the weights, nor a checkpoint."""

    class Steep(SpaceTimeReader):
        def score(self, frame, query, centre, gap):
            score = super().score(frame, query, centre, gap)
            return score + 0 * (score - score.detach()).abs().sqrt()  # the slope of a root at zero, times zero

    out = tmp_path / "run"
    with pytest.raises(FloatingPointError, match="norm of the gradient at step 0 is nan, expected a finite number"):
        train(recipe(Steep), out, progress=False, data=clips)
    assert files_of(out) == ["bad_batch_0.pt", "run.json"]


def test_steps_without_a_number_are_skipped_if_asked(tmp_path, clips):
    class Dark(SyntheticClips):
        """Clips of which one has no number in it."""

        def sample(self, step, position, *arguments):
            clip = clips.sample(step, position, *arguments)
            return replace_frames(clip, clip.frames * torch.nan) if (step, position) == (1, 1) else clip

    data = Dark(SMALL.clips, size=(32, 32))
    path = train(recipe(non_finite="skip"), tmp_path / "run", progress=False, data=data)
    assert all(p.isfinite().all() for p in load(path).parameters())
    rows = metrics_of(tmp_path / "run")
    assert [row["step"] for row in rows] == ["0", "2", "3"] and [row["skipped"] for row in rows] == ["0", "1", "1"]


def test_sizes_that_are_no_multiples_of_the_stride(tmp_path):
    train(recipe(steps=1, size=40, clips=2), tmp_path, progress=False)


@pytest.mark.parametrize("reader", [SpaceTimeReader, lambda: TrajectoryReader.warm(32, 64)])
def test_a_tiny_network_overfits_one_clip(clips, reader):
    network = build(0, reader).train()
    batch = clips.batch(1, 1, 3)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    for _ in range(40):
        results = roll_out(network, batch.frames, batch.object_masks[:, :, 0], batch.indices)
        loss = clip_loss(network, results, batch, SMALL, 1.0).total
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
    with pytest.raises(
        InputError, match=r"reads with Plain, this library has .*load\(file, reader=Plain\), or --reader"
    ):
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
