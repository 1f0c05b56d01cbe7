"""The same code on a GPU. Skipped, with the reason, where there is none."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tmrn_edu.courses import find_recipe, run_recipe
from tmrn_edu.data.clips import SyntheticClips
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import STCN, STM, XMem
from tmrn_edu.recipes.tmrn_stcn_chained_tiny import RECIPE
from tmrn_edu.segmenter import segment
from tmrn_edu.train import train
from tmrn_edu.weights import load

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def test_segmentation_agrees_with_the_cpu():
    torch.manual_seed(0)
    network = STCN.tiny(TrajectoryReader.chained(32, 64))
    clip = make_clip(1, "medium")
    on_cpu = segment(network, clip.frames, {0: clip.index_masks[0]}, device="cpu")
    on_gpu = segment(network, clip.frames, {0: clip.index_masks[0]}, device="cuda")
    torch.testing.assert_close(
        on_cpu.probabilities, on_gpu.probabilities, atol=2e-3, rtol=0
    )  # cuDNN sums in another order, with TF32


def test_a_recipe_takes_steps(tmp_path):
    settings = replace(RECIPE.settings, steps=2, batch=2, clips=4, size=32)
    path = train(
        replace(RECIPE, settings=settings),
        tmp_path,
        device="cuda",
        progress=False,
        data=SyntheticClips(4, size=(32, 32)),
    )
    assert load(path)


@pytest.mark.parametrize("precision", ["16", "bf16"])
@pytest.mark.parametrize("name", ["stm_video", "tmrn_stcn_video", "xmem_video"])
def test_a_published_recipe_takes_mixed_precision_steps(name, precision, tmp_path):
    """As it would be trained, but for few small clips; resumed half-way."""
    recipe, out = find_recipe(name), tmp_path / "run"
    options = {"steps": 2, "batch": 2, "size": 128, "precision": precision, "workers": 1, "save_every": 1}
    run_recipe(recipe, out, ["synthetic:2"], init="none", options=options, device="cuda", progress=False)
    (out / "network.safetensors").unlink()
    path = run_recipe(recipe, out, resume=True, device="cuda", progress=False)
    assert all(p.isfinite().all() for p in load(path).parameters())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_devices_train_together(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tmrn_edu",
        "train",
        "stcn_video_small",
        "--data",
        "synthetic:4",
        "--init=none",
        "--steps=2",
    ]
    command += ["--device=cuda", "--devices=2", "--batch=4", "--out", str(tmp_path / "run")]
    assert subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("build", [STM.tiny, STCN.tiny, XMem.tiny])
def test_every_network_agrees_with_the_cpu(build):
    torch.manual_seed(0)
    network = build(TrajectoryReader.warm(32, 64))
    clip = make_clip(1, "medium", objects=2)
    late = torch.where(clip.index_masks[3] == 2, 2, 0).to(torch.uint8)
    assert late.any()
    given = {0: torch.where(clip.index_masks[0] == 1, 1, 0).to(torch.uint8), 3: late}
    on_cpu = segment(network, clip.frames, given, memory_every=2, device="cpu")
    on_gpu = segment(network, clip.frames, given, memory_every=2, device="cuda")
    torch.testing.assert_close(on_cpu.probabilities, on_gpu.probabilities, atol=2e-3, rtol=0)


def test_full_size_in_bfloat16():
    torch.manual_seed(0)
    clip = make_clip(1, "medium", frames=3)
    result = segment(XMem(), clip.frames, {0: clip.index_masks[0]}, device="cuda", precision="bf16")
    assert torch.isfinite(result.probabilities).all()
