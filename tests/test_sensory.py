"""XMem's sensory memory: its gate by hand, its two updates, and when inference and training make them."""

import pytest
import torch
import torch.nn.functional as F
from small_networks import as_batch, build, video

from tmrn_edu.blocks import each_object
from tmrn_edu.inference import memorize_frame, pad_frames, roll_out, segment_frame
from tmrn_edu.masks import index_to_object_masks, soft_aggregation
from tmrn_edu.memory.sensory import GatedUpdate, SensoryMemory
from tmrn_edu.networks import XMem
from tmrn_edu.segmenter import Segmenter

B, O, C, CS, H, W = 2, 3, 5, 4, 6, 8


# ------------------------------------------------------------------ the gate


def test_gate_by_hand():
    """f * h * (1 - u) + u * n, thirds of one convolution in the order f, u, n."""
    gate = GatedUpdate(C, CS)
    x, h = torch.randn(B, O, C, H, W), torch.randn(B, O, CS, H, W).tanh()
    after = gate(x, h)
    weight, bias = gate.transform.weight, gate.transform.bias
    assert weight.shape == (3 * CS, C + CS, 3, 3)
    for b, o in ((0, 0), (1, 2)):
        seen = torch.cat([x[b, o], h[b, o]])
        part = lambda i: F.conv2d(seen, weight[i * CS : (i + 1) * CS], bias[i * CS : (i + 1) * CS], padding=1)
        f, u, n = part(0).sigmoid(), part(1).sigmoid(), part(2).tanh()
        torch.testing.assert_close(after[b, o], f * h[b, o] * (1 - u) + u * n)
    assert after.abs().max() < 1


def test_gates_do_what_their_names_say():
    """Wide open or shut by their biases: forget everything, keep everything, replace everything."""
    gate = GatedUpdate(C, CS)
    x, h = torch.randn(B, O, C, H, W), torch.rand(B, O, CS, H, W)
    with torch.no_grad():
        gate.transform.weight.zero_()
        for biases, expected in (
            ((-50, -50, 0), 0 * h),
            ((50, -50, 0), h),
            ((50, 50, 50), 0 * h + 1),
            ((50, 50, 0), 0 * h),
        ):
            gate.transform.bias.copy_(torch.tensor(biases).repeat_interleave(CS))
            torch.testing.assert_close(gate(x, h), expected)


def test_gate_keeps_float32_under_autocast():
    gate = GatedUpdate(C, CS)
    x, h = torch.randn(B, O, C, H, W), torch.zeros(B, O, CS, H, W)
    with torch.autocast("cpu", torch.bfloat16):
        after = gate(x.bfloat16(), h)
    assert after.dtype == torch.float32
    torch.testing.assert_close(after, gate(x, h), atol=0.03, rtol=0)


# ------------------------------------------------------------------ both updates


@pytest.fixture
def memory():
    return SensoryMemory((6, 5, 3), value_channels=7, width=9, channels=CS)


def decoded(o=O, b=B):
    """Features at the key's grid, twice and four times as fine, and the scores of the finest."""
    pyramid = tuple(torch.randn(b, o, c, H * f, W * f) for c, f in ((6, 1), (5, 2), (3, 4)))
    return pyramid, torch.randn(b, o, 1, 4 * H, 4 * W)


def test_update_by_hand(memory):
    pyramid, scores = decoded()
    h = torch.randn(B, O, CS, H, W)
    finest = torch.cat([pyramid[2], scores], dim=2)
    seen = 0
    for project, x, factor in zip(memory.project, (*pyramid[:2], finest), (1, 2, 4), strict=True):
        assert project.kernel_size == (1, 1)
        pooled = each_object(lambda x, f=factor: F.avg_pool2d(x, f), x)  # the authors' area interpolation
        seen = seen + each_object(project, pooled)
    torch.testing.assert_close(memory.update(h, pyramid, scores), memory.gate(seen, h))


def test_deep_update_sees_the_value(memory):
    h, value = torch.randn(B, O, CS, H, W), torch.randn(B, O, 7, H, W)
    assert torch.equal(memory.deep_update(h, value), memory.deep_gate(value, h))
    assert not torch.equal(memory.deep_update(h, value), memory.deep_update(h, value.flip(-1)))


def test_it_starts_at_zero(memory):
    start = memory.start(torch.randn(B, 11, H, W, dtype=torch.bfloat16), objects=O)
    assert start.shape == (B, O, CS, H, W) and start.dtype == torch.float32 and not start.any()


def test_objects_and_clips_do_not_mix(memory):
    pyramid, scores = decoded()
    h, value = torch.randn(B, O, CS, H, W), torch.randn(B, O, 7, H, W)
    updated, deep = memory.update(h, pyramid, scores), memory.deep_update(h, value)
    for b, o in ((0, 1), (1, 2)):
        part = lambda x: x[b : b + 1, o : o + 1]
        alone = memory.update(part(h), tuple(map(part, pyramid)), part(scores))
        torch.testing.assert_close(alone, part(updated))
        torch.testing.assert_close(memory.deep_update(part(h), part(value)), part(deep))


def test_score_is_part_of_what_is_seen(memory):
    pyramid, scores = decoded()
    h = torch.randn(B, O, CS, H, W)
    assert (memory.update(h, pyramid, scores) - memory.update(h, pyramid, scores + 1)).abs().max() > 1e-3


# ------------------------------------------------------------------ in a video


@pytest.fixture(scope="module")
def xmem():
    return build("XMem tiny")


def by_hand(network, pictures, first_mask, ids, memory_every, deep_every, count):
    """The loop of XMem's own inference, written out: states, masks and memory of each frame."""
    memory, sensory, states, results, last_deep = [], None, [], [], None
    for t in range(count):
        frame = as_batch(pictures[t : t + 1])[:, 0]
        joins = t % memory_every == 0
        deep = joins and (deep_every is None or last_deep is None or t - last_deep >= deep_every)
        features = network.encode(pad_frames(network, frame)[0])
        if t == 0:
            masks = soft_aggregation(index_to_object_masks(first_mask, ids)[None])[:, 1:]
            sensory = torch.zeros(1, len(ids), 16, *features.key.shape[-2:])
        else:
            result = segment_frame(network, frame, [memory], t, sensory=sensory)
            masks = result.memory_masks
            results.append(result)
            if (
                deep_every is not None or not deep
            ):  # a deep update takes the place of the other one, unless it has a rhythm of its own
                sensory = network.update_sensory(sensory, result.decoded)
        if joins:
            memory.append(memorize_frame(network, frame, masks, t, t == 0, features))
        if deep:
            sensory = network.deep_update(sensory, memory[-1])
            last_deep = t
        states.append(sensory)
    return states, results


@torch.inference_mode()
@pytest.mark.parametrize("memory_every, deep_every", [(1, None), (2, None), (3, None), (1, 3), (2, 3), (1, 1)])
def test_stream_equals_the_loop_written_out(xmem, memory_every, deep_every):
    pictures, masks = video(8, (32, 48), 2)
    states, results = by_hand(xmem, pictures, masks[0], (1, 2), memory_every, deep_every, 8)
    segmenter = Segmenter(xmem, memory_every=memory_every, deep_update_every=deep_every)
    for t in range(8):
        step = segmenter.step(pictures[t], masks[0] if t == 0 else None)
        torch.testing.assert_close(segmenter.sensory, states[t])
        if t:
            torch.testing.assert_close(step.probabilities, results[t - 1].probabilities[0])
    assert len({round(float(state.sum()), 4) for state in states}) == 8  # every frame changed it


def test_rules_differ(xmem):
    """Deep updates in another rhythm, or none but the first, are seen in the masks."""
    pictures, masks = video(6, (32, 48), 2)
    final = []
    for deep_every in (None, 1, 3, 100):
        segmenter = Segmenter(xmem, memory_every=1, deep_update_every=deep_every)
        for t in range(6):
            step = segmenter.step(pictures[t], masks[0] if t == 0 else None)
        final.append(step.probabilities)
    for i in range(4):
        for j in range(i):
            assert (final[i] - final[j]).abs().max() > 1e-6
    with pytest.raises(ValueError, match="deep_update_every is 0, expected at least 1"):
        Segmenter(xmem, deep_update_every=0)


@torch.no_grad()
def test_roll_out_carries_the_state(xmem):
    """What a clip says in evaluation, a stream says too when all frames join and deep updates keep their rhythm."""
    pictures, masks = video(8, (32, 48), 2)
    results = roll_out(xmem.eval(), as_batch(pictures), index_to_object_masks(masks[0], (1, 2))[None])
    segmenter = Segmenter(xmem, memory_every=1, deep_update_every=xmem.rules.memory_every)
    for t in range(8):
        step = segmenter.step(pictures[t], masks[0] if t == 0 else None)
        if t:  # the stream's first masks went through the soft aggregation, hence 1e-3
            torch.testing.assert_close(step.probabilities, results[t - 1].probabilities[0], atol=1e-3, rtol=0)


def test_late_objects_start_at_zero(xmem):
    """A new object's state is that of a first frame; the others' go on."""
    pictures, masks = video(4, (32, 48), 2)
    first, both = torch.where(masks == 1, masks, 0), masks
    segmenter = Segmenter(xmem, memory_every=10)
    for t in range(2):
        segmenter.step(pictures[t], first[0] if t == 0 else None)
    before = segmenter.sensory.clone()
    assert before.shape[1] == 1 and before.any()
    segmenter.step(pictures[2], both[2])
    assert segmenter.sensory.shape[1] == 2
    stored = [group.memory.frames[-1] for group in segmenter.groups]
    assert [frame.index for frame in stored] == [2, 2]
    zeros = torch.zeros_like(before)
    with torch.no_grad():
        torch.testing.assert_close(segmenter.sensory[:, 1:], xmem.deep_update(zeros, stored[1]))
        torch.testing.assert_close(segmenter.sensory[:, :1], xmem.deep_update(before, stored[0]))  # deep alone


@torch.no_grad()
def test_no_state_is_a_state_of_zeros(xmem):
    pictures, masks = video(2, (32, 48), 2)
    frames = as_batch(pictures)
    features = xmem.encode(frames[:, 0])
    memory = [xmem.memorize(frames[:, 0], features, index_to_object_masks(masks[0], (1, 2))[None], 0)]
    query = xmem.encode(frames[:, 1])
    readout = xmem.read(query, memory, 1)
    zeros = xmem.start_sensory(query.key, 2)
    assert zeros.shape == (1, 2, 16, 8, 12) and not zeros.any()
    assert torch.equal(xmem.decode(readout, query).logits, xmem.decode(readout, query, zeros).logits)
    assert (xmem.decode(readout, query).logits - xmem.decode(readout, query, zeros + 1).logits).abs().max() > 1e-3


# ------------------------------------------------------------------ in training


def deep_frames(network, monkeypatch, seed, frames=9):
    """Which frames of a training clip get a deep update."""
    seen = []
    update = network.deep_update
    monkeypatch.setattr(
        network, "deep_update", lambda s, memorized: (seen.append(memorized.index), update(s, memorized))[1]
    )
    pictures, masks = video(frames, (16, 32), 1)
    with torch.no_grad():
        results = roll_out(
            network, as_batch(pictures), index_to_object_masks(masks[0], (1,))[None], generator=torch.manual_seed(seed)
        )
    return seen, results


def test_deep_updates_of_training_are_drawn(monkeypatch):
    torch.manual_seed(0)
    network = XMem.tiny()
    assert network.deep_update_probability == 0.2
    drawn = {}
    for seed in (1, 1, 2):
        with monkeypatch.context() as patch:
            seen, results = deep_frames(network, patch, seed, 30)
        if seed in drawn:
            assert drawn[seed][0] == seen and torch.equal(drawn[seed][1], results[-1].logits)
        drawn[seed] = seen, results[-1].logits
    assert drawn[1][0] != drawn[2][0] and drawn[1][0][0] == drawn[2][0][0] == 0
    assert 0 < len(drawn[1][0]) - 1 < 15  # of 28 frames, a fifth
    for probability, expected in ((1.0, list(range(8))), (0.0, [0])):
        with monkeypatch.context() as patch:
            patch.setattr(network, "deep_update_probability", probability)
            assert deep_frames(network, patch, 1)[0] == expected
    with monkeypatch.context() as patch:
        assert deep_frames(network.eval(), patch, 1)[0] == [0, 5]  # evaluation: every memory_every-th


def test_other_networks_draw_nothing():
    """Random numbers of a clip belong to XMem alone: STCN and STM leave the generator as it is."""
    pictures, masks = video(3, (16, 32), 1)
    for name in ("STCN tiny", "STM tiny"):
        generator = torch.Generator().manual_seed(4)
        before = generator.get_state()
        roll_out(
            build(name).train(), as_batch(pictures), index_to_object_masks(masks[0], (1,))[None], generator=generator
        )
        assert torch.equal(generator.get_state(), before)
