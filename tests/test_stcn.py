"""STCN whole: sizes, contracts, gradients, objects. The published size against the authors' code: `test_parity.py`."""

import pytest
import torch
from einops import rearrange
from torch import nn

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STCN


@pytest.fixture(scope="module")
def full():
    torch.manual_seed(0)
    return STCN()


@pytest.fixture
def tiny():
    torch.manual_seed(0)
    return STCN.tiny()


def clip(b=2, o=3, height=48, width=80, frames=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(b, frames, 3, height, width, generator=generator)
    masks = torch.rand(b, o, height, width, generator=generator) / o
    return images, masks


def run(network, images, masks):
    """First frame into the memory, second frame out."""
    features = network.encode(images[:, 0])
    memory = [network.memorize(images[:, 0], features, masks, index=0, exact=True)]
    query = network.encode(images[:, 1])
    readout = network.read(query, memory, index=1)
    return query, memory, readout, network.decode(readout, query).logits


# ------------------------------------------------------------------ shapes and counts


def test_parameter_counts(full, tiny):
    assert sum(p.numel() for p in full.parameters()) == 54_434_180
    assert sum(p.numel() for p in tiny.parameters()) == 657_129
    assert len(full.state_dict()) == 405  # mean and std are constants, not weights


def test_tiny_shapes(tiny):
    images, masks = clip()
    features, memory, readout, logits = run(tiny, images, masks)
    assert features.key.shape == (2, 32, 12, 20)
    assert features.query_value.shape == features.coarse.shape == (2, 64, 12, 20)
    assert [skip.shape for skip in features.skips] == [(2, 16, 24, 40)]
    assert memory[0].value.shape == readout.value.shape == (2, 3, 64, 12, 20)
    assert (memory[0].index, memory[0].exact) == (0, True)
    assert logits.shape == (2, 3, 48, 80)
    assert (tiny.stride, tiny.cell, tiny.short_side, tiny.mask_channels) == (16, 4, 128, 8)
    assert (tiny.key_channels, tiny.value_channels) == (32, 64)


def test_full_shapes_on_an_odd_grid(full):
    images, masks = clip(b=1, o=2, height=48, width=80)  # 3 x 5 cells, fewer than the 20 of top-k
    with torch.no_grad():
        features, memory, readout, logits = run(full.eval(), images, masks)
    assert features.key.shape == (1, 64, 3, 5)
    assert features.query_value.shape == (1, 512, 3, 5)
    assert features.coarse.shape == (1, 1024, 3, 5)
    assert [skip.shape for skip in features.skips] == [(1, 512, 6, 10), (1, 256, 12, 20)]
    assert memory[0].value.shape == readout.value.shape == (1, 2, 512, 3, 5)
    assert logits.shape == (1, 2, 48, 80)
    assert (full.stride, full.cell, full.short_side, full.mask_channels) == (16, 16, 480, 0)
    assert (full.key_channels, full.value_channels) == (64, 512)


def test_one_cell_frame(tiny):
    images, masks = clip(b=1, o=1, height=16, width=16)
    assert run(tiny, images, masks)[-1].shape == (1, 1, 16, 16)


# ------------------------------------------------------------------ training


@pytest.mark.parametrize(
    "make_reader", [lambda: None, lambda: TrajectoryReader.warm(32, 64), lambda: TrajectoryReader.paper(32, 64)]
)
def test_gradients_reach_every_parameter_of_tiny(make_reader):
    torch.manual_seed(0)
    network = STCN.tiny(make_reader())
    images, masks = clip(b=1, o=2, frames=3)
    features, memory, _, logits = run(network, images[:, :2], masks)
    memory.append(network.memorize(images[:, 1], features, logits.sigmoid(), index=1))
    query = network.encode(images[:, 2])
    readout = network.read(query, memory, index=2)
    loss = network.decode(readout, query).logits.square().mean() + network.readout_mask(readout).mean()
    loss.backward()
    missing = [name for name, p in network.named_parameters() if p.grad is None]
    assert not missing
    idle = [name for name, p in network.named_parameters() if not name.startswith("reader.") and not p.grad.any()]
    assert not idle


def test_gradients_reach_every_parameter_of_full(full):
    images, masks = clip(b=1, o=2, height=32, width=48)
    full.train()
    full.zero_grad()
    run(full, images, masks)[-1].square().mean().backward()
    idle = [name for name, p in full.named_parameters() if p.grad is None or not p.grad.any()]
    full.zero_grad()
    assert not idle


def test_batch_norm_statistics_stay_in_training(full):
    full.train()
    assert full.training and full.value_encoder.training
    norms = [module for module in full.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad for norm in norms)


def test_reader_draws_none_of_the_initial_weights():
    readers = [None, SpaceTimeReader(), TrajectoryReader.warm(32, 64), TrajectoryReader.paper(32, 64)]
    weights = []
    for reader in readers:
        torch.manual_seed(3)
        state = STCN.tiny(reader).state_dict()
        weights.append({name: value for name, value in state.items() if not name.startswith("reader.")})
    for others in weights[1:]:
        assert others.keys() == weights[0].keys()
        assert all(torch.equal(others[name], weights[0][name]) for name in others)


def test_key_projection_starts_orthogonal(full):
    rows = rearrange(full.key_projection.weight.detach(), "ck c i j -> ck (c i j)")
    torch.testing.assert_close(rows @ rows.T, torch.eye(64), atol=1e-5, rtol=0)
    assert not full.key_projection.bias.any()


def test_tiny_learns_one_clip():
    torch.manual_seed(0)
    network = STCN.tiny()
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    masks = torch.stack([((rows - 20) ** 2 + (columns - 16 - 8 * t) ** 2 < 100).float() for t in range(3)])
    texture = torch.rand(3, 3, 48, 64)
    frames = (
        rearrange(masks, "t H W -> t 1 H W") * torch.tensor([0.9, 0.3, 0.1]).reshape(1, 3, 1, 1) * 0.8 + 0.2 * texture
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(25):
        memory_features, query = network.encode(frames[:1]), network.encode(frames[1:2])
        memory = [network.memorize(frames[:1], memory_features, masks[None, :1], 0, True)]
        logits = network.decode(network.read(query, memory, 1), query).logits
        loss = nn.functional.binary_cross_entropy_with_logits(logits, masks[None, 1:2])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    found, truth = logits.detach()[0, 0] > 0, masks[1] > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.9


# ------------------------------------------------------------------ objects


@pytest.mark.parametrize("name", ["tiny", "full"])
def test_objects_together_equal_objects_alone(name, request):
    """Each object on its own, seeing the same others, gives the same values and logits, to rounding of the convolutions."""
    network = request.getfixturevalue(name).eval()
    images, masks = clip(b=1, o=3, height=32, width=48)
    with torch.no_grad():
        features, memory, readout, logits = run(network, images, masks)
        memory_features = network.encode(images[:, 0])
        total = masks.sum(1, keepdim=True)
        for number in range(3):
            mask = masks[:, number : number + 1]
            seen = torch.stack([mask, total - mask], dim=2)
            value = network.value_encoder(network.normalise(images[:, 0]), memory_features.coarse, seen)
            torch.testing.assert_close(value, memory[0].value[:, number : number + 1], atol=1e-4, rtol=1e-4)
            alone = [network.reader.store(memory_features.key, value, 0)]
            alone_logits = network.decode(network.read(features, alone, 1), features).logits
            torch.testing.assert_close(alone_logits, logits[:, number : number + 1], atol=1e-4, rtol=1e-4)


def test_order_of_objects_does_not_matter(tiny):
    images, masks = clip(b=2, o=3)
    with torch.no_grad():
        logits = run(tiny, images, masks)[-1]
        turned = run(tiny, images, masks.flip(1))[-1]
    torch.testing.assert_close(turned.flip(1), logits, atol=1e-5, rtol=1e-4)


def test_clips_of_a_batch_do_not_mix(tiny):
    images, masks = clip(b=2, o=3)
    with torch.no_grad():
        logits = run(tiny, images, masks)[-1]
        second = run(tiny, images[1:], masks[1:])[-1]
    torch.testing.assert_close(second, logits[1:], atol=1e-5, rtol=1e-4)


def test_one_object_has_no_others(tiny):
    """With one object the others' channel is zeros, so what the network has learned about it plays no part."""
    images, masks = clip(b=1, o=1)
    with torch.no_grad():
        before = run(tiny, images, masks)[-1]
        tiny.value_encoder.stem.weight[:, 4] += 1
        after = run(tiny, images, masks)[-1]
    assert torch.equal(before, after)


# ------------------------------------------------------------------ the mask read out


def test_readout_mask_is_the_mask_carried_by_the_affinity(tiny):
    images, masks = clip(b=1, o=2)
    with torch.no_grad():
        features = tiny.encode(images[:, 0])
        memory = [tiny.memorize(images[:, 0], features, masks, 0)]
        readout = tiny.read(features, memory, 1, insides=True)
    pooled = masks.reshape(1, 2, 12, 4, 20, 4).mean((3, 5))
    torch.testing.assert_close(memory[0].value[:, :, -1], pooled)
    by_hand = torch.einsum("om,mq->oq", pooled[0].reshape(2, -1), readout.insides.affinity[0, 0])
    torch.testing.assert_close(tiny.readout_mask(readout)[0].reshape(2, -1), by_hand, atol=1e-5, rtol=1e-5)


def test_readout_is_exact_enough_under_autocast(tiny):
    """Convolutions may run in bfloat16; the affinity may not."""
    images, masks = clip(b=1, o=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = tiny.encode(images[:, 0])
        memory = [tiny.memorize(images[:, 0], features, masks, 0)]
        insides = tiny.read(features, memory, 1, insides=True).insides
    assert insides.affinity.dtype == torch.float32
    torch.testing.assert_close(insides.affinity.sum(2), torch.ones(1, 1, 240), atol=1e-5, rtol=0)


# ------------------------------------------------------------------ errors


def test_errors_name_both_sides(tiny, full):
    images, masks = clip(b=1, o=1)
    with pytest.raises(ValueError, match="frames are 40 x 72, expected multiples of 16"):
        tiny.encode(torch.zeros(1, 3, 40, 72))
    features = tiny.encode(images[:, 0])
    readout = tiny.read(features, [tiny.memorize(images[:, 0], features, masks, 0)], 1)
    with pytest.raises(ValueError, match="0 mask channels"):
        full.readout_mask(readout)


def test_a_reader_for_other_channels_is_refused():
    with pytest.raises(ValueError, match=r"the reader has key_channels 64, STCN \(tiny\) has 32"):
        STCN.tiny(TrajectoryReader.paper(64, 512))
