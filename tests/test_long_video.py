"""A long video needs no more memory than a short one, when the network's memory is bounded."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tmrn_edu.data.video import write_mask
from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.weights import DEFAULT_NETWORK, export

ROOT = Path(__file__).resolve().parents[1]
FRAMES, H, W = 2000, 32, 48

# Runs in a process of its own, where nothing else has raised the peak before. Every other frame joins the memory, so
# without a bound the memory alone would grow by 35 MB and more, well over the limit of this test.
SCRIPT = """
import json, resource, sys
import torch
from tmrn_edu import segment_video as command
from tmrn_edu.weights import load

torch.set_num_threads(1)
peaks, write = {}, command.write_mask

def counted(path, *rest):
    write(path, *rest)
    peaks[path.stem] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

command.write_mask = counted
folder, network, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
done = command.segment_video(
    load(network), f"{folder}/frames", {0: f"{folder}/mask.png"}, f"{folder}/out", with_overlay=False, **options
)
print(done.frames, peaks["00199"], peaks[f"{done.frames - 1:05d}"])
"""


@pytest.mark.parametrize("default", [False, True], ids=["bounded", "default settings"])
def test_memory_stays_flat(tmp_path, default):
    """A tiny network told to keep 3 frames, over 2000 frames; the network for real video as it comes, over 1000."""
    pytest.importorskip("resource")
    count = 1000 if default else FRAMES
    tile = torch.randint(0, 256, (H, 2 * W, 3), dtype=torch.uint8, generator=torch.manual_seed(0)).numpy()
    files = []
    for shift in range(W):  # a pattern that slides past, over and over
        files.append(io.BytesIO())
        Image.fromarray(tile[:, shift : shift + W]).save(files[-1], format="PNG")
    (tmp_path / "frames").mkdir()
    for t in range(count):
        (tmp_path / "frames" / f"{t:05d}.png").write_bytes(files[t % W].getvalue())
    mask = torch.zeros(H, W, dtype=torch.uint8)
    mask[8:24, 12:36] = 1
    write_mask(tmp_path / "mask.png", mask)
    export(STCN.tiny(TrajectoryReader.paper(32, 64)), tmp_path / "network.safetensors")

    network = DEFAULT_NETWORK if default else str(tmp_path / "network.safetensors")
    options = {} if default else {"memory_every": 2, "max_frames": 3}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), network, json.dumps(options)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    frames, early, late = map(int, run.stdout.split())
    assert frames == count and len(list((tmp_path / "out" / "masks").iterdir())) == count
    assert late < 1.05 * early, f"peak of {early} kB after frame 200, {late} kB at the end"
