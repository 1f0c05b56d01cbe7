"""STM: keys of objects, both layouts, the previous frame as temporary memory, masks as its authors treat them."""

import pytest
import torch
from einops import rearrange, repeat
from small_networks import READERS, as_batch, build, put, reader_of, video

from tmrn_edu.encoders import stack_masks
from tmrn_edu.inference import memorize_frame, pad_frames, roll_out, segment_frame
from tmrn_edu.masks import index_to_object_masks, others_mask, pad_to_stride
from tmrn_edu.memory import Query, TrajectoryReader
from tmrn_edu.networks import STM
from tmrn_edu.networks.stm import full_parts
from tmrn_edu.segmenter import Segmenter, segment


@pytest.fixture(scope="module")
def stm():
    return build("STM tiny")


@pytest.fixture(scope="module")
def full():
    return build("STM")


def clip(objects=2, frames=3, size=(32, 48)):
    pictures, index_masks = video(frames, size, objects)
    return as_batch(pictures), rearrange(
        index_to_object_masks(index_masks, range(1, objects + 1)), "t o H W -> t 1 o H W"
    )


def indices(segmenter, group=0):
    return [frame.index for frame in segmenter.groups[group].frames]


def woken(reader):
    """Corrections, age and chaining at work."""
    for name, parameter in reader.named_parameters():
        if parameter.numel() == 1 and "log_tau" not in name:
            torch.nn.init.constant_(parameter, 0.3)
        elif not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return reader


# ------------------------------------------------------------------ sizes


def test_tiny_shapes(stm):
    frames, masks = clip()
    with torch.no_grad():
        features = stm.encode(frames[:, 0])
        key, value = stm.encode_memory(frames[:, 0], masks[0])
        frame = stm.memorize(frames[:, 0], features, masks[0], 7, True)
        readout = stm.read(features, [frame], 8, insides=True)
        logits = stm.decode(readout, features).logits
    assert features.key.shape == (1, 32, 8, 12) and features.query_value.shape == (1, 64, 8, 12)
    assert key.shape == (1, 2, 32, 8, 12) and value.shape == (1, 2, 64, 8, 12)
    assert frame.key.shape == (2, 32, 8, 12) and frame.value.shape == (2, 1, 64, 8, 12)
    assert (frame.index, frame.exact, frame.batch_objects, frame.shrinkage) == (7, True, 2, None)
    assert readout.value.shape == (1, 2, 64, 8, 12) and readout.insides.affinity.shape == (2, 1, 96, 96)
    assert logits.shape == (1, 2, 32, 48) and stm.settings() == {}


@torch.no_grad()
def test_full_shapes_on_an_odd_grid(full):
    frames, masks = clip(size=(48, 80))
    features = full.encode(frames[:, 0])
    frame = full.memorize(frames[:, 0], features, masks[0], 0)
    decoded = full.decode(full.read(features, [frame], 1), features)
    assert features.key.shape == (1, 128, 3, 5) and features.query_value.shape == (1, 512, 3, 5)
    assert [skip.shape for skip in features.skips] == [(1, 512, 6, 10), (1, 256, 12, 20)]
    assert frame.key.shape == (2, 128, 3, 5) and frame.value.shape == (2, 1, 512, 3, 5)
    assert decoded.scores.shape == (1, 2, 2, 12, 20) and decoded.logits.shape == (1, 2, 48, 80)
    # the authors' probability is a softmax over background and object
    enlarged = torch.nn.functional.interpolate(decoded.scores[0], scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(decoded.logits[0].sigmoid(), enlarged.softmax(1)[:, 1], atol=1e-5, rtol=0)


def test_layouts():
    """Released: five channels. Supplement: image and the object's mask, and no other mask in its sight."""
    assert full_parts().memory_encoder.trunk.conv1.in_channels == 5
    network = STM(layout="supplement").eval()
    assert network.memory_encoder.trunk.conv1.in_channels == 4 and network.layout == "supplement"
    assert STM.tiny().layout == "released"
    frames, masks = clip(3)
    with torch.no_grad():
        together = network.encode_memory(frames[:, 0], masks[0])
        alone = network.encode_memory(frames[:, 0], masks[0][:, :1])
        for of_all, of_one in zip(together, alone, strict=True):
            torch.testing.assert_close(of_all[:, :1], of_one, atol=1e-3, rtol=1e-3)


def test_released_layout_sees_the_others(stm):
    frames, masks = clip(3)
    with torch.no_grad():
        together, alone = stm.encode_memory(frames[:, 0], masks[0]), stm.encode_memory(frames[:, 0], masks[0][:, :1])
    assert (together[0][:, :1] - alone[0]).abs().max() > 1e-3 and (together[1][:, :1] - alone[1]).abs().max() > 1e-3


@torch.no_grad()
def test_others_are_clamped(stm):
    """Masks that overlap: the others' channel, and the object's own, stop at one, as in the authors' code."""
    frames = torch.rand(1, 3, 32, 48)
    masks = torch.rand(1, 4, 32, 48) * 0.9
    seen = []
    original = stm.memory_encoder.forward

    def watch(image, stacked):
        seen.append(stacked)
        return original(image, stacked)

    stm.memory_encoder.forward = watch
    try:
        stm.encode_memory(frames, masks)
    finally:
        del stm.memory_encoder.forward
    others = others_mask(masks)
    assert others.max() > 1.5
    assert torch.equal(seen[0], torch.stack([masks, others.clamp(0, 1)], dim=2))
    assert torch.equal(stack_masks(frames, masks).clamp(0, 1), seen[0])


# ------------------------------------------------------------------ objects


@torch.no_grad()
@pytest.mark.parametrize("top_k", [None, 20])
@pytest.mark.parametrize("kind", READERS)
def test_objects_together_equal_objects_alone(stm, kind, top_k):
    """Alignment per object: agents, affinities and readouts of one object know nothing of the others'."""
    network = put(stm, woken(reader_of(kind, stm, top_k)))
    frames, masks = clip(3, frames=4)
    features = [network.encode(frames[:, t]) for t in range(4)]
    memory = [network.memorize(frames[:, t], features[t], masks[t], t, t == 0) for t in range(3)]
    together = network.read(features[3], memory, 3, insides=True)
    assert together.insides.affinity.shape[0] == 3
    assert (together.insides.affinity[0] - together.insides.affinity[1]).abs().max() > 1e-3
    for o in range(3):
        alone = [frame.of_objects(o, o + 1) for frame in memory]
        assert [(frame.index, frame.exact, frame.batch_objects) for frame in alone] == [
            (0, True, 1),
            (1, False, 1),
            (2, False, 1),
        ]
        readout = network.read(features[3], alone, 3, insides=True)
        torch.testing.assert_close(readout.value, together.value[:, o : o + 1], atol=1e-5, rtol=1e-4)
        for field in ("affinity", "temporal_weights", "aligned_value", "trajectory"):
            ours, theirs = getattr(readout.insides, field), getattr(together.insides, field)[o : o + 1]
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_agents_belong_to_objects(stm):
    """Each object has agents of its own, made of its own keys."""
    network = put(stm, reader_of("paper", stm, agents=4))
    frames, masks = clip(3)
    description = network.memorize(frames[:, 0], network.encode(frames[:, 0]), masks[0], 0).description
    key, _ = network.encode_memory(frames[:, 0], masks[0])
    assert description.agents.shape == (3, 4, 32) and description.likelihood.shape == (3, 4, 96)
    torch.testing.assert_close(description.mean, key[0].mean((2, 3)), atol=1e-5, rtol=1e-4)
    assert (description.agents[0] - description.agents[1]).abs().max() > 1e-3
    for o in range(3):
        alone = network.reader.agents.describe(key[:, o])
        torch.testing.assert_close(alone.likelihood, description.likelihood[o : o + 1], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_clips_of_a_batch_do_not_mix(stm):
    """Objects travel in the batch axis; two clips with three objects each must come back as they went in."""
    network = put(stm, woken(reader_of("chained", stm)))
    frames = torch.rand(2, 3, 3, 32, 48)
    masks = torch.rand(2, 3, 32, 48) / 3
    both = roll_out(network, frames, masks)
    for b in range(2):
        alone = roll_out(network, frames[b : b + 1], masks[b : b + 1])
        for one, two in zip(alone, both, strict=True):
            torch.testing.assert_close(one.logits[0], two.logits[b], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_read_by_hand(stm):
    """softmax over (t m) of <memory key of the object, query key> / sqrt(ck), on the object's values."""
    network = put(stm, reader_of("space-time", stm))
    frames, masks = clip(2)
    memory = [network.memorize(frames[:, t], network.encode(frames[:, t]), masks[t], t) for t in range(2)]
    features = network.encode(frames[:, 2])
    readout = network.read(features, memory, 2).value
    query = rearrange(features.key[0], "c h w -> c (h w)")
    for o in range(2):
        keys = torch.cat([rearrange(frame.key[o], "c h w -> (h w) c") for frame in memory])
        values = torch.cat([rearrange(frame.value[o, 0], "c h w -> c (h w)") for frame in memory], dim=1)
        expected = values @ (keys @ query / 32**0.5).softmax(dim=0)
        torch.testing.assert_close(readout[0, o], rearrange(expected, "c (h w) -> c h w", h=8), atol=1e-4, rtol=1e-3)


def test_query_of_another_number_of_objects(stm):
    frames, masks = clip(2)
    features = stm.encode(frames[:, 0])
    memory = [
        stm.memorize(frames[:, 0], features, masks[0], 0),
        stm.memorize(frames[:, 1], features, masks[1][:, :1], 1),
    ]
    with pytest.raises(ValueError, match="memory key of frame 1 has batch 1, query key has 2"):
        stm.read(features, memory, 2)
    with pytest.raises(ValueError, match="memory holds 0 frames"):
        stm.read(features, [], 2)
    alone = Query(repeat(features.key, "1 c h w -> 2 c h w"), 2)
    assert torch.equal(stm.reader(memory[:1], alone).value[:, 0], stm.read(features, memory[:1], 2).value[0])


# ------------------------------------------------------------------ the previous frame


def test_previous_frame_is_read_for_one_step(stm):
    pictures, masks = video(8, (32, 48), 2)
    segmenter = Segmenter(stm, memory_every=3)
    read = []
    for t in range(8):
        segmenter.step(pictures[t], masks[0] if t == 0 else None)
        read.append(indices(segmenter))
    # what frame t + 1 is read from: memory frames, and frame t if it is not one of them
    assert read == [[0], [0, 1], [0, 2], [0, 3], [0, 3, 4], [0, 3, 5], [0, 3, 6], [0, 3, 6, 7]]
    assert [frame.index for frame in segmenter.groups[0].memory.frames] == [0, 3, 6]
    off = Segmenter(stm, memory_every=3, previous_frame=False)
    for t in range(8):
        off.step(pictures[t], masks[0] if t == 0 else None)
        assert off.groups[0].previous is None and indices(off) == [i for i in (0, 3, 6) if i <= t]


@torch.inference_mode()
@pytest.mark.parametrize("name", ["STM tiny", "STCN tiny", "XMem tiny"])
@pytest.mark.parametrize("previous", [True, False])
def test_stream_equals_the_loop_written_out(name, previous):
    """Every network with and without the previous frame: what is read, frame by frame."""
    network = build(name)
    put(network, woken(reader_of("chained", network)))
    pictures, masks = video(6, (32, 48), 2)
    segmenter = Segmenter(network, memory_every=2, previous_frame=previous)
    memory, temporary, sensory = [], [], None
    for t in range(6):
        step = segmenter.step(pictures[t], masks[0] if t == 0 else None)
        frame = as_batch(pictures[t : t + 1])[:, 0]
        if t == 0:
            now = (
                step.probabilities[None, 1:]
                if network.rules.aggregate_given
                else index_to_object_masks(masks[0], (1, 2))[None]
            )
            features = None
        else:
            result = segment_frame(network, frame, [memory + temporary], t, sensory=sensory)
            torch.testing.assert_close(step.probabilities, result.probabilities[0])
            now, features = result.memory_masks, result.features
            if t % 2:
                sensory = network.update_sensory(sensory, result.decoded)
        stored = memorize_frame(network, frame, now, t, t == 0, features)
        memory, temporary = (memory + [stored], []) if t % 2 == 0 else (memory, [stored] if previous else [])
        if t == 0:
            sensory = network.start_sensory(network.encode(frame).key, 2)
        if t % 2 == 0:
            sensory = network.deep_update(sensory, stored)


def test_previous_frame_matters(stm):
    pictures, masks = video(5, (32, 48), 2)
    on, off = (segment(stm, pictures, {0: masks[0]}, previous_frame=p).probabilities for p in (True, False))
    torch.testing.assert_close(on[1], off[1])  # there is none yet
    assert (on[2] - off[2]).abs().max() > 1e-5
    torch.testing.assert_close(segment(stm, pictures, {0: masks[0]}).probabilities, on)


@pytest.mark.parametrize("max_frames, expected", [(1, [0]), (2, [0, 6]), (3, [0, 4, 6])])
def test_bounded_memory_and_previous_frame(stm, max_frames, expected):
    """The frame before is read beside a bounded memory, also when it was due to join one that is full."""
    pictures, masks = video(8, (32, 48), 1)
    segmenter = Segmenter(stm, memory_every=2, max_frames=max_frames)
    for t in range(8):
        segmenter.step(pictures[t], masks[0] if t == 0 else None)
        assert indices(segmenter)[-1] == t  # the frame before the next one is always there
        assert len(indices(segmenter)) <= max_frames + 1 and len(set(indices(segmenter))) == len(indices(segmenter))
    assert [frame.index for frame in segmenter.groups[0].memory.frames] == expected


def test_previous_frame_of_late_objects(stm):
    pictures, masks = video(6, (32, 48), 2)
    first, late = torch.where(masks == 1, masks, 0), torch.where(masks == 2, masks, 0)
    segmenter = Segmenter(stm, memory_every=4)
    read = []
    for t in range(6):
        segmenter.step(pictures[t], {0: first[0], 2: late[2]}.get(t))
        read.append([indices(segmenter, g) for g in range(len(segmenter.groups))])
    assert read == [[[0]], [[0, 1]], [[0, 2], [2]], [[0, 2, 3], [2, 3]], [[0, 2, 4], [2, 4]], [[0, 2, 5], [2, 5]]]
    assert [frame.batch_objects for group in segmenter.groups for frame in group.frames] == [1] * 5


# ------------------------------------------------------------------ masks and padding


def test_given_masks_are_memorized_as_they_are(stm):
    """No soft aggregation: what was given is exactly what the memory's mask channels hold."""
    pictures, masks = video(2, (32, 48), 2)
    segmenter = Segmenter(stm)
    step = segmenter.step(pictures[0], masks[0])
    truth = index_to_object_masks(masks[0], (1, 2))
    assert torch.equal(step.probabilities[1:], truth)
    expected = memorize_frame(segmenter.network, as_batch(pictures[:1])[:, 0], truth[None], 0, True)
    with torch.no_grad():
        assert torch.equal(segmenter.groups[0].memory.frames[0].value, expected.value)
    assert expected.value[:, 0, -1].max() == 1


@torch.no_grad()
def test_padding_is_black_and_masks_are_zero_there(stm):
    """Frames are padded before they are normalised; of predicted masks the padding is cut off and comes back as zeros."""
    frame, given = torch.rand(1, 3, 35, 51), torch.ones(1, 1, 35, 51)
    padded, padding = pad_frames(stm, frame)
    assert padded.shape == (1, 3, 48, 64) and torch.equal(padded, pad_to_stride(frame, 16)[0])
    assert not padded[..., :6, :].any()
    memory = [memorize_frame(stm, frame, given, 0, True)]
    result = segment_frame(stm, frame, [memory], 1)
    assert result.memory_masks.shape == (1, 1, 48, 64) and result.logits.shape == (1, 2, 35, 51)
    rim = torch.ones(48, 64, dtype=torch.bool)
    rim[padding.top : 48 - padding.bottom, padding.left : 64 - padding.right] = False
    assert not result.memory_masks[0, 0][rim].any() and (result.memory_masks[0, 0][~rim] > 0).all()
    torch.testing.assert_close(result.memory_masks[0, 0][~rim], result.probabilities[0, 1].flatten())


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("kind", [None, "paper", "chained"])
def test_gradients_reach_every_parameter(kind):
    torch.manual_seed(0)
    network = STM.tiny(None if kind is None else TrajectoryReader.preset(kind, 32, 64))
    frames, masks = clip(frames=4)
    results = roll_out(network, frames, masks[0])
    sum(r.logits.square().mean() + network.readout_mask(r.readouts[0]).mean() for r in results).backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None]
    idle = [name for name, p in network.named_parameters() if not name.startswith("reader.") and not p.grad.any()]
    assert not idle
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_gradients_reach_every_parameter_of_full():
    torch.manual_seed(0)
    network = STM()
    frames, masks = clip(frames=2)
    roll_out(network, frames, masks[0])[0].logits.square().mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
