"""XMem: shrinkage and selection reach every reader, layouts, shapes, gradients in training. Its state: test_sensory."""

from dataclasses import replace

import pytest
import torch
from small_networks import READERS, as_batch, build, put, reader_of, video
from torch import nn

from tmrn_edu.encoders import stack_masks
from tmrn_edu.inference import roll_out
from tmrn_edu.masks import index_to_object_masks
from tmrn_edu.memory import TrajectoryReader
from tmrn_edu.networks import XMem


@pytest.fixture(scope="module")
def xmem():
    return build("XMem tiny")


def clip(objects=2, frames=3, size=(32, 48)):
    pictures, index_masks = video(frames, size, objects)
    masks = index_to_object_masks(index_masks, range(1, objects + 1))
    return as_batch(pictures), masks


# ------------------------------------------------------------------ the key


def test_ranges_of_shrinkage_and_selection(xmem):
    frames, _ = clip()
    with torch.no_grad():
        features = xmem.encode(frames[:, 0])
        coarse = features.coarse
        torch.testing.assert_close(features.shrinkage, xmem.shrinkage_projection(coarse) ** 2 + 1)
        torch.testing.assert_close(features.selection, xmem.selection_projection(coarse).sigmoid())
    assert features.shrinkage.shape == (1, 1, 8, 12) and features.shrinkage.min() >= 1
    assert features.selection.shape == features.key.shape == (1, 32, 8, 12)
    assert 0 < features.selection.min() and features.selection.max() < 1 and features.selection.std() > 0


@torch.no_grad()
@pytest.mark.parametrize("kind", READERS)
def test_readers_use_shrinkage_and_selection(xmem, kind):
    """Score by hand, and a readout that follows when either is changed."""
    frames, masks = clip()
    network = put(xmem, reader_of(kind, xmem))
    features = [network.encode(frames[:, t]) for t in range(3)]
    memory = [network.memorize(frames[:, t], features[t], masks[None, t], t) for t in range(2)]
    assert torch.equal(memory[1].shrinkage, features[1].shrinkage)
    plain = network.read(features[2], memory, 2, insides=True)

    sharper = [replace(frame, shrinkage=frame.shrinkage * 3) for frame in memory]
    assert (network.read(features[2], sharper, 2).value - plain.value).abs().max() > 1e-3
    other = replace(features[2], selection=features[2].selection.flip(1))
    assert (network.read(other, memory, 2).value - plain.value).abs().max() > 1e-3
    pixel = [replace(frame, shrinkage=frame.shrinkage.clone()) for frame in memory]
    pixel[0].shrinkage[0, 0, 4, 5] *= 50  # one pixel that only its very like may match: it is never better than before
    seen = network.read(features[2], pixel, 2, insides=True)
    joint = lambda insides: insides.affinity * insides.temporal_weights[:, :, None]
    before, after = joint(plain.insides)[0, 0, 4 * 12 + 5], joint(seen.insides)[0, 0, 4 * 12 + 5]
    assert (after - before).abs().max() > 1e-4
    if kind == "space-time":
        assert (after <= before + 1e-6).all()
        k, m, s, e = features[2].key[0], memory[0].key[0], memory[0].shrinkage[0, 0], features[2].selection[0]
        score = -s[4, 5] * (e[:, 2, 3] * (m[:, 4, 5] - k[:, 2, 3]) ** 2).sum() / 32**0.5
        logits = [network.similarity(f.key, features[2].key, f.shrinkage, features[2].selection) for f in memory]
        torch.testing.assert_close(logits[0][0, 4 * 12 + 5, 2 * 12 + 3], score, atol=1e-4, rtol=1e-4)
        weights = torch.cat(logits, dim=1).softmax(1)
        torch.testing.assert_close(joint(plain.insides).flatten(1, 2), weights, atol=1e-5, rtol=1e-3)


# ------------------------------------------------------------------ shapes and layouts


def test_tiny_shapes(xmem):
    frames, masks = clip()
    assert sum(p.numel() for p in XMem.tiny().parameters()) == 744_714
    with torch.no_grad():
        features = xmem.encode(frames[:, 0])
        frame = xmem.memorize(frames[:, 0], features, masks[None, 0], 0, True)
        readout = xmem.read(features, [frame], 1)
        decoded = xmem.decode(readout, features)
        sensory = xmem.update_sensory(xmem.start_sensory(features.key, 2), decoded)
    assert frame.value.shape == readout.value.shape == (1, 2, 64, 8, 12)
    assert decoded.logits.shape == (1, 2, 32, 48) and sensory.shape == (1, 2, 16, 8, 12)
    assert [tuple(x.shape[2:]) for x in decoded.pyramid] == [(64, 8, 12), (24, 16, 24)]
    assert (xmem.stride, xmem.cell, xmem.short_side, xmem.mask_channels) == (16, 4, 128, 8)
    assert xmem.settings() == {} and xmem.deep_update_probability == 0.2


def test_layouts():
    """Released: the decoder sees the coarse feature. Supplement: a query value of 512 channels, by one more convolution."""
    with torch.device("meta"):
        released, supplement = XMem(), XMem(layout="supplement")
    assert isinstance(released.query_projection, nn.Identity) and len(released.state_dict()) == 412
    assert supplement.query_projection.weight.shape == (512, 1024, 3, 3)
    for network, channels in ((released, 1024), (supplement, 512)):
        assert network.decoder.compress.block1.conv1.in_channels == channels + 512 + 64
        assert network.decoder.compress.block1.image_first
        assert network.sensory_memory.channels == 64 and network.selection_projection.out_channels == 64
    same = {name for name, p in released.state_dict().items() if supplement.state_dict()[name].shape == p.shape}
    changed = set(supplement.state_dict()) - same
    assert changed == {
        "query_projection.weight", "query_projection.bias",
        "decoder.compress.block1.conv1.weight", "decoder.compress.block1.skip.weight",
    }  # fmt: skip


def test_errors_name_both_sides(xmem):
    with pytest.raises(ValueError, match="frames are 40 x 72, expected multiples of 16"):
        xmem.encode(torch.zeros(1, 3, 40, 72))
    with pytest.raises(
        ValueError, match=r"frames have batch and size 1 x \(32, 48\), object masks have 1 x \(16, 48\)"
    ):
        stack_masks(torch.zeros(1, 3, 32, 48), torch.zeros(1, 2, 16, 48))


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("kind", [None, "paper", "chained"])
@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_gradients_reach_every_parameter(kind, probability, monkeypatch):
    """One clip of four frames: keys, shrinkage, selection, values, both gates and the decoder all learn."""
    torch.manual_seed(0)
    network = XMem.tiny(None if kind is None else TrajectoryReader.preset(kind, 32, 64))
    monkeypatch.setattr(network, "deep_update_probability", probability)
    frames, masks = clip(frames=4)
    results = roll_out(network, frames, masks[None, 0])
    loss = sum(result.logits.square().mean() + network.readout_mask(result.readouts[0]).mean() for result in results)
    loss.backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert not missing
    idle = [name for name, p in network.named_parameters() if not name.startswith("reader.") and not p.grad.any()]
    assert not idle
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
    if kind is not None:
        idle = [name for name, p in network.reader.named_parameters() if not p.grad.any()]
        assert all("agents" in name or name == "attention.query.weight" for name in idle), idle


def test_the_past_is_learned_from():
    """The last frame's loss reaches the first frame's masks by way of the sensory memory alone, too."""
    torch.manual_seed(0)
    network = XMem.tiny()
    frames, masks = clip(frames=3)
    first = masks[None, 0].clone().requires_grad_(True)
    feature = network.encode(frames[:, 0])
    memorized = network.memorize(frames[:, 0], feature, first, 0)
    sensory = network.deep_update(network.start_sensory(feature.key, 2), memorized)
    later = network.encode(frames[:, 2])
    memory = [network.memorize(frames[:, 0], feature, masks[None, 0], 0)]  # does not depend on `first`
    network.decode(network.read(later, memory, 1), later, sensory).logits.square().mean().backward()
    assert first.grad.any()
