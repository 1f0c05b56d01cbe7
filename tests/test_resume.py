"""No run is lost: killed at any moment it goes on to exactly the weights of an unbroken run; asked to stop, it saves and says so."""

import csv
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tensorboardX.proto.event_pb2 import Event

from tmrn_edu.data.clips import SyntheticClips
from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import XMem
from tmrn_edu.train import Recipe, Run, TrainSettings, train

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")
STEPS, KILLS = 12, 20


def build(seed):
    torch.manual_seed(seed)
    return XMem.tiny(TrajectoryReader.chained(32, 64))


RECIPE = Recipe(
    "small",
    build,
    TrainSettings(steps=STEPS, batch=2, frames=3, short_frames=2, clips=8, size=32, save_every=2, sample_every=3),
)


def run(out, data, resume):
    torch.set_num_threads(1)
    torch.manual_seed(random.SystemRandom().randrange(1000))  # every process has a history of its own
    train(RECIPE, out, resume=resume, progress=False, data=data)


def files_are_whole(out):
    """Reads every file to its end; leftovers of a killed write have hidden names."""
    for path in out.rglob("*"):
        if path.is_dir() or any(part.startswith(".") for part in path.relative_to(out).parts):
            continue
        if path.name == "checkpoint.pt":
            assert torch.load(path, weights_only=True)["step"] % 2 == 0
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".csv":
            with path.open() as file:
                steps = [int(row["step"]) for row in csv.DictReader(file)]
            assert steps == list(range(len(steps)))
        elif path.suffix == ".png":
            from PIL import Image

            Image.open(path).load()
        elif "tfevents" in path.name:
            assert sum(1 for _ in events(path)) > 1
        else:
            assert path.name == "run.json" and path.read_text().endswith("}\n")


def events(path):
    """The records of a file of TensorBoard's: length, its checksum, content, its checksum."""
    content = path.read_bytes()
    while content:
        size = int.from_bytes(content[:8], "little")
        assert len(content) >= size + 16, "a cut-off record"
        yield Event.FromString(content[12 : 12 + size])
        content = content[size + 16 :]


def test_a_run_that_is_killed_goes_on_to_the_same_weights(tmp_path):
    context = multiprocessing.get_context("fork")
    data = SyntheticClips(8, size=(32, 32))
    for number in range(8):
        data._make(number)  # once, for all the processes
    whole = tmp_path / "whole"
    began = time.monotonic()
    process = context.Process(target=run, args=(whole, data, False))
    process.start()
    process.join()
    duration = time.monotonic() - began
    expected, seen = load_file(whole / "network.safetensors"), set()
    rng = random.Random(0)
    for kill in range(KILLS):
        out = tmp_path / f"killed {kill}"
        process = context.Process(target=run, args=(out, data, False))
        process.start()
        time.sleep(rng.uniform(0.0, 1.0) * duration)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if not (out / "run.json").exists():  # it had not begun
            seen.add(None)
            continue
        files_are_whole(out)
        has = (out / "checkpoint.pt").exists()
        seen.add(torch.load(out / "checkpoint.pt", weights_only=True)["step"] if has else 0)
        process = context.Process(target=run, args=(out, data, True))
        process.start()
        process.join()
        assert process.exitcode == 0
        found = load_file(out / "network.safetensors")
        assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found), kill
        files_are_whole(out)
        assert not [path for path in out.rglob(".*")]
    assert len(seen) >= 4, f"the moments should differ: {seen}"


@pytest.mark.parametrize("name, status", [("SIGTERM", 143), ("SIGINT", 130)])
def test_asked_to_stop(tmp_path, name, status):
    """The command saves the step at hand, says where to go on, and ends with the status that a shell knows."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "tmrn_edu", "train", "stcn_tiny", "--out", str(out), "--steps=500", "--batch=1"]
    command += ["--size=32", "--clips=4", "--device=cpu", "--workers=1"]
    environment = {**os.environ, "TMRN_PROGRESS": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env=environment, start_new_session=True, **pipes)
    began = time.monotonic()
    first = ""
    while "loss=" not in first:  # the bar: a step is done
        first += process.stderr.read(40)
        assert time.monotonic() - began < 120 and process.poll() is None, first
    os.killpg(process.pid, getattr(signal, name))  # as a terminal does: workers get it, too
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    assert errors.count(f"{name}: this step is finished and saved first") == 1
    assert "tmrn-edu train: stopped before step" in errors and "--resume" in errors and "Traceback" not in errors
    step = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    assert 1 <= step < 500 and f"stopped before step {step};" in errors


def test_words_of_a_signal_that_comes_while_something_is_printed(capfd, monkeypatch):
    """Python raises RuntimeError at a second write inside a first one; the words are said all the same, and the step goes on."""

    class Busy:
        def write(self, words):
            raise RuntimeError("reentrant call")

    monkeypatch.setattr(sys, "stderr", Busy())
    Run._say(SimpleNamespace(fabric=SimpleNamespace(is_global_zero=True)), "SIGTERM: this step is finished")
    assert capfd.readouterr().err == "SIGTERM: this step is finished\n"
