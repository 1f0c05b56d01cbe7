"""A network made ready for inference: the same results, the original untouched, bfloat16 where it may be."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.folding import PRECISE, fold, inference_copy, reduced_precision
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import GSFM, STCN, STM, XMem
from tmrn_edu.segmenter import Segmenter, segment
from tmrn_edu.weights import export, load

NETWORKS = {"STM": STM, "STCN": STCN, "XMem": XMem, "GSFM": GSFM}
SIZE = (48, 80)
BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def shake(network):
    """Batch statistics and gains as no fresh network has them, of the size that features have."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.momentum = 1.0
            module.train()
    frames, masks = batch(b=2, dtype=next(network.parameters()).dtype)
    with torch.no_grad():
        network.memorize(frames, network.encode(frames), masks, 0)
    return network.eval()


def batch(b=1, o=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(b, 3, *SIZE, generator=generator, dtype=dtype)
    return frames, (torch.rand(b, o, *SIZE, generator=generator) > 0.6).to(dtype) / o


@torch.no_grad()
def run(network, b=1, precision="fp32", dtype=torch.float32):
    """Two frames memorized, a third decoded: (key, value, readout, logits, sensory)."""
    frames, masks = batch(b, dtype=dtype)
    with reduced_precision(frames, precision):
        memory, sensory = [], None
        for t, shifted in enumerate((frames, frames.roll(7, dims=-1))):
            features = network.encode(shifted)
            memory.append(network.memorize(shifted, features, masks.roll(7 * t, dims=-1), t))
            sensory = network.start_sensory(features.key, masks.shape[1]) if sensory is None else sensory
            sensory = network.deep_update(None if sensory is None else sensory.to(features.key.dtype), memory[-1])
        features = network.encode(frames.roll(3, dims=-2))
        readout = network.read(features, memory, 2)
        decoded = network.decode(readout, features, sensory)
    return features.key, memory[-1].value, readout.value, decoded.logits, network.update_sensory(sensory, decoded)


@pytest.fixture(scope="module", params=NETWORKS)
def full(request):
    torch.manual_seed(0)
    return shake(NETWORKS[request.param]())


@pytest.mark.parametrize("b", [1, 2])
def test_folding_changes_no_result(full, b):
    """In float64 nothing but the last digits changes: folding is exact."""
    full.double()
    try:
        for ready, original in zip(
            run(inference_copy(full), b, dtype=torch.float64), run(full, b, dtype=torch.float64), strict=True
        ):
            if original is not None:
                torch.testing.assert_close(ready, original, rtol=1e-8, atol=1e-8)
    finally:
        full.float()


def test_in_float32_it_is_folded_to_rounding(full):
    for ready, original in zip(run(inference_copy(full)), run(full), strict=True):
        if original is not None:  # rounding of fifty layers, each with gains of its own
            assert (ready - original).abs().max() < 1e-3 * original.abs().max()


def test_the_copy_is_folded_and_the_original_untouched(full):
    before = {name: x.clone() for name, x in full.state_dict().items()}
    modes = {name: module.training for name, module in full.named_modules()}
    ready = inference_copy(full)
    assert ready is not full and not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())
    run(ready)
    assert {name: module.training for name, module in full.named_modules()} == modes
    assert full.state_dict().keys() == before.keys()
    for name, x in full.state_dict().items():
        assert torch.equal(x, before[name]) and x.stride() == before[name].stride(), name
    full.train()
    try:
        assert inference_copy(full).training and full.training
    finally:
        full.eval()


def test_features_stay_channels_last(full):
    frames, _ = batch()
    with torch.inference_mode():
        features = inference_copy(full).encode(frames)
    for skip in features.skips:
        assert skip.is_contiguous(memory_format=torch.channels_last)


def test_one_norm_folded_by_hand():
    conv, norm = nn.Conv2d(2, 3, 1, bias=False).double(), nn.BatchNorm2d(3).double().eval()
    nn.init.uniform_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    x = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    expected = norm(conv(x))
    fold(conv, norm)
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("make", [STM.tiny, STCN.tiny, XMem.tiny])
def test_tiny_networks_are_returned_as_they_are(make):
    network = make()
    assert inference_copy(network) is network
    assert inference_copy(network, "bf16") is not network
    assert all(x.dtype == torch.float32 for x in network.parameters())


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match=r"precision is 'fp16', expected one of \('fp32', 'bf16'\)"):
        inference_copy(STCN.tiny(), "fp16")
    with pytest.raises(ValueError, match=r"precision is 'half', expected"):
        Segmenter(STCN.tiny(), precision="half")


def test_bfloat16_is_close_and_keys_are_not_rounded(full):
    scale = lambda x: x.abs().mean()
    names = ("key", "value", "readout", "logits", "sensory")
    for name, ours, exact in zip(names, run(inference_copy(full, "bf16"), precision="bf16"), run(full), strict=True):
        if exact is None:
            continue
        assert ours.isfinite().all(), name
        if name in ("key", "value"):  # eight bits, dozens of layers, random gains; a sharp read may choose other pixels
            assert scale(ours.float() - exact) < 0.5 * scale(exact), name
        if name in ("key", "sensory"):
            assert ours.dtype == torch.float32, name
    assert run(inference_copy(full, "bf16"), precision="bf16")[1].dtype == torch.bfloat16  # values need no digits


@pytest.mark.parametrize("make", [STM.tiny, STCN.tiny, XMem.tiny])
def test_agents_of_a_stored_frame_are_float32_in_bfloat16(make):
    network = inference_copy(make(TrajectoryReader.paper(32, 64)).eval(), "bf16")
    frames, masks = batch()
    with torch.inference_mode(), reduced_precision(frames, "bf16"):
        stored = network.memorize(frames, network.encode(frames), masks, 0)
    assert stored.key.dtype == stored.description.likelihood.dtype == torch.float32


def test_affinities_are_float32_in_bfloat16():
    seen = []

    class Watching(SpaceTimeReader):
        def score(self, *arguments):
            score = super().score(*arguments)
            seen.append(score.dtype)
            return score

    for make in (STM.tiny, STCN.tiny, XMem.tiny):
        run(inference_copy(make(Watching()).eval(), "bf16"), precision="bf16")
    assert seen and set(seen) == {torch.float32}


def test_only_convolutions_before_keys_and_readers_keep_their_weights():
    ready = inference_copy(STCN.tiny(TrajectoryReader.warm(32, 64)), "bf16")
    for name, module in ready.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            precise = name.split(".")[0] in PRECISE
            assert module.weight.dtype == (torch.float32 if precise else torch.bfloat16), name
    assert ready.key_projection.weight.dtype == torch.float32


@pytest.mark.parametrize("reader", [None, "paper", "warm", "chained"])
@pytest.mark.parametrize("make", [STM.tiny, STCN.tiny, XMem.tiny])
def test_a_video_in_bfloat16(make, reader):
    clip = make_clip(seed=3, frames=4, size=SIZE)
    network = make(reader and TrajectoryReader.preset(reader, 32, 64))
    found = segment(network, clip.frames, {0: clip.index_masks[0]}, precision="bf16", memory_every=1)
    assert found.probabilities.dtype == torch.float32 and found.probabilities.isfinite().all()
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(4, *SIZE))


def test_weights_survive_segmenting(full, tmp_path):
    export(full, tmp_path / "before.safetensors")
    network, before = load(tmp_path / "before.safetensors"), full.state_dict()
    clip = make_clip(seed=3, frames=3, size=SIZE)
    for precision in ("fp32", "bf16"):
        segment(network, clip.frames, {0: clip.index_masks[0]}, precision=precision)
    export(network, tmp_path / "after.safetensors")
    after = load(tmp_path / "after.safetensors").state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


@pytest.fixture(scope="module")
def benchmark():
    """benchmarks/networks.py as a module."""
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("benchmark_networks", BENCHMARKS / "networks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize("everything", [False, True])
def test_the_plain_network_of_the_benchmark_gives_the_same_logits(benchmark, full, everything):
    """Two frames, each side with its own memory, in float64 so that no rounding decides a top-k."""
    frames, masks = benchmark.scene(3, 2, SIZE)
    frames, masks = frames.double(), masks.double()
    full.double()
    try:
        with torch.no_grad():
            ours, plain = benchmark.Ours(full), benchmark.PlainSteps(full, everything)
            start = full.start_sensory(ours.encode(frames[0]).key, 2)
            left = right = None if start is None else start.double()
            memory, plain_memory = [], None
            for t in range(2):
                stored, left = ours.memorize(frames[t], ours.encode(frames[t]), masks[t], left, t)
                memory.append(stored)
                stored, right = plain.memorize(frames[t], plain.encode(frames[t]), masks[t], right)
                plain_memory = stored if plain_memory is None else plain.plain.add(plain_memory, stored)
            features, plain_features = ours.encode(frames[2]), plain.encode(frames[2])
            logits, left = ours.decode(ours.read(memory, features), features, left)
            expected, right = plain.decode(plain.read(plain_memory, plain_features), plain_features, right)
    finally:
        full.float()
    torch.testing.assert_close(logits[0], expected, rtol=1e-8, atol=1e-8)
    if left is not None:
        torch.testing.assert_close(left, right, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["STM", "STCN", "XMem", "GSFM"])
def test_the_benchmark_fills_a_memory(benchmark, monkeypatch, name):
    """What benchmarks/networks.py does before it measures, at a small size."""
    scene = benchmark.scene
    monkeypatch.setattr(benchmark, "scene", lambda count, objects, size=(48, 64): scene(count, objects, size))
    network = benchmark.make_network(name, (48, 64))
    frames, masks, stored, sensory = benchmark.remember(network, 2, 2)
    assert len(frames) == 3 and len(stored) == 2 and masks[0].shape[1] == 2
    assert (sensory is not None) == (name == "XMem")


@pytest.mark.parametrize("name", ["stm-tiny", "tmrn-stcn-chained-tiny", "xmem-tiny"])
def test_trained_networks_keep_their_masks_in_bfloat16(name):
    clip = make_clip(3, "medium", frames=5)
    exact, rounded = (
        segment(load(name), clip.frames, {0: clip.index_masks[0]}, memory_every=2, precision=precision)
        for precision in ("fp32", "bf16")
    )
    assert (exact.index_masks != rounded.index_masks).float().mean() < 0.005
    assert 0 < (exact.probabilities - rounded.probabilities).abs().mean() < 0.01  # another precision, the same picture
