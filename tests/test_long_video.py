"""A long video needs no more memory than a short one, when the memory network's memory is bounded."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tmrn_edu.data.video import VideoWriter, write_mask
from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.weights import save_network

ROOT = Path(__file__).resolve().parents[1]
FRAMES, H, W = 2000, 32, 48

# Runs in a process of its own, where nothing else has raised the peak before. Every other frame joins the memory, so without a bound
# the memory alone would grow by 35 MB, well over the limit of this test.
SCRIPT = """
import resource, sys
import torch
from tmrn_edu import segment_video as command
from tmrn_edu.weights import load

torch.set_num_threads(1)
peaks, write = {}, command.write_mask

def counted(path, *rest):
    write(path, *rest)
    peaks[path.stem] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

command.write_mask = counted
folder = sys.argv[1]
done = command.segment_video(
    load(f"{folder}/network.safetensors"), f"{folder}/v.mp4", {0: f"{folder}/mask.png"}, f"{folder}/out", memory_every=2, max_frames=3
)
print(done.frames, peaks["00199"], peaks[f"{done.frames - 1:05d}"])
"""


def test_memory_stays_flat(tmp_path):
    pytest.importorskip("av")
    pytest.importorskip("resource")
    generator = torch.manual_seed(0)
    tile = torch.randint(0, 256, (H, 2 * W, 3), dtype=torch.uint8, generator=generator)
    with VideoWriter(tmp_path / "v.mp4", fps=25) as writer:
        for t in range(FRAMES):
            writer.write(tile[:, t % W : t % W + W])
    mask = torch.zeros(H, W, dtype=torch.uint8)
    mask[8:24, 12:36] = 1
    write_mask(tmp_path / "mask.png", mask)
    save_network(STCN.tiny(TrajectoryReader.paper(32, 64)), tmp_path / "network.safetensors")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    frames, early, late = map(int, run.stdout.split())
    assert frames == FRAMES and len(list((tmp_path / "out" / "masks").iterdir())) == FRAMES
    assert late < 1.05 * early, f"peak of {early} kB after frame 200, {late} kB at the end"
