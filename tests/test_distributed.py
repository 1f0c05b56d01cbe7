"""Two processes that share every batch take the steps of one, by gloo on a CPU; what is run is the command itself."""

import csv
import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(
    not torch.distributed.is_available() or not torch.distributed.is_gloo_available(), reason="PyTorch without gloo"
)
STEPS = 20
COMMAND = (
    *("train", "xmem_video_small", "--data", "synthetic:6", "--init=none", "--device=cpu", f"--steps={STEPS}", "--batch=4", "--size=32"),
    *("--lr=1e-3", "--objects=2", "--sample-every=0"),
)  # fmt: skip


def run(out, *options):
    environment = {**os.environ, "TMRN_PROGRESS": "0", "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-m", "tmrn_edu", *COMMAND, "--out", str(out), *options],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    with (out / "metrics.csv").open() as file:
        return list(csv.DictReader(file)), done.stdout


def test_two_processes_are_one(tmp_path):
    one, _ = run(tmp_path / "one")
    two, said = run(tmp_path / "two", "--devices=2")
    assert said.count("numbers in") == 1  # the second process is silent
    assert len(one) == len(two) == STEPS
    for name in ("loss", "cross_entropy", "dice", "readout_mask"):
        for a, b in zip(one, two, strict=True):
            assert float(a[name]) == pytest.approx(float(b[name]), abs=1e-5), (name, a["step"])
    assert float(one[0]["loss"]) > float(one[-1]["loss"])


def test_a_batch_that_cannot_be_shared(tmp_path):
    command = [sys.executable, "-m", "tmrn_edu", *COMMAND, "--out", str(tmp_path / "run"), "--batch=3", "--devices=2"]
    done = subprocess.run(
        command, env={**os.environ, "TMRN_PROGRESS": "0"}, capture_output=True, text=True, timeout=200
    )
    assert (
        done.returncode == 2 and "a batch has 3 clips, expected a multiple of 2 (2 processes x 1 parts)" in done.stderr
    )
    assert not (tmp_path / "run").exists()
