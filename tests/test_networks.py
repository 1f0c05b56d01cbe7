"""All networks with all readers: the steps, whole clips, identity 1, half precision, edges. STCN's own file has more of STCN."""

import ast
import itertools
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from einops import rearrange, reduce
from small_networks import FULL, READERS, TINY, as_batch, build, put, reader_of, video

import tmrn_edu as te
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.inference import memorize_frame, pad_frames, roll_out, segment_frame
from tmrn_edu.looking import look
from tmrn_edu.masks import index_to_object_masks
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader, anisotropic_l2, dot_product, negative_squared_l2
from tmrn_edu.networks import GSFM, STCN, STM, XMem
from tmrn_edu.networks.base import InferenceRules
from tmrn_edu.segmenter import Segmenter, segment

NAMES = (*FULL, *TINY)
TOP_K = {"STM": None, "STCN": 20, "XMem": 30, "GSFM": 50}  # as published


@pytest.fixture(scope="module")
def networks():
    """Every network, built when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            made[name] = build(name)
        return made[name]

    return get


def nudge(reader, names, value):
    """A reader some of whose numbers are not what they were."""
    with torch.no_grad():
        for name in names:
            reader.get_parameter(name).fill_(value)
    return reader


def masks_of(index_masks, objects):
    return torch.stack([(index_masks == o + 1).float() for o in range(objects)])[None]


# ------------------------------------------------------------------ every network, every reader


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", NAMES)
def test_steps(networks, name, kind, objects):
    """Memorize two frames, read, decode; then the gradient, through the decoder, to every number of the reader."""
    network = put(networks(name), reader_of(kind, networks(name)))
    pictures, index_masks = video(3, (32, 48), objects)
    frames, masks = as_batch(pictures), [masks_of(mask, objects) for mask in index_masks]
    with torch.no_grad():
        features = [network.encode(frames[:, t]) for t in range(3)]
    network.requires_grad_(False).reader.requires_grad_(True)
    memory = [network.memorize(frames[:, t], features[t], masks[t], index=4 * t, exact=t == 0) for t in range(2)]
    assert [(frame.index, frame.exact) for frame in memory] == [(0, True), (4, False)]
    assert [frame.batch_objects for frame in memory] == [objects if name.startswith("STM") else None] * 2
    readout = network.read(features[2], memory, index=5)
    grid = (32 // network.cell, 48 // network.cell)
    assert features[2].key.shape == (1, network.key_channels, *grid)
    assert readout.value.shape == (1, objects, network.value_channels, *grid) and readout.insides is None
    decoded = network.decode(readout, features[2])
    assert decoded.logits.shape == (1, objects, 32, 48) and torch.isfinite(decoded.logits).all()
    assert decoded.logits.std() > 1e-4  # not one number everywhere
    if kind == "space-time":
        assert not list(network.reader.parameters())
        return
    decoded.logits.square().mean().backward()
    for parameter_name, parameter in network.reader.named_parameters():
        gradient = parameter.grad
        assert gradient is not None and torch.isfinite(gradient).all(), parameter_name
        # K starts at zero, and with it what Q would get; likewise W_o and the rest of the agents' attention; lambda = 0 hides agents
        waits = {"attention.query.weight"} if kind != "paper" else set()
        waits |= {f"agents.to_{part}.weight" for part in ("query", "key", "value")}
        waits |= {"agents.log_tau", "agents.to_out.weight"} if kind != "paper" else set()
        assert gradient.any() or parameter_name in waits, parameter_name
    network.zero_grad()


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", NAMES)
def test_whole_clips(networks, name, kind):
    network = put(networks(name), reader_of(kind, networks(name), TOP_K[name.split()[0]]))
    pictures, masks = video(3, (32, 48), 3)
    result = te.segment(network, pictures, {0: masks[0]}, memory_every=1)
    assert result.index_masks.shape == (3, 32, 48) and result.probabilities.shape == (3, 4, 32, 48)
    assert result.object_ids == (1, 2, 3) and torch.equal(result.index_masks[0], masks[0])
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(3, 32, 48))
    assert (result.probabilities[1:, 1:].std(dim=(2, 3)) > 1e-4).all()
    assert torch.equal(result.index_masks[1:], result.probabilities[1:].argmax(1).to(torch.uint8))
    differs = (result.probabilities[2, 1:] - result.probabilities[1, 1:]).abs().amax((1, 2))
    assert (differs > 1e-5).all()  # of every object


@pytest.mark.parametrize("name", NAMES)
def test_objects_do_not_depend_on_their_order(networks, name):
    """Objects with other numbers: the same probabilities under other names."""
    pictures, masks = video(3, (32, 48), 3)
    for kind in ("space-time",) if name in FULL else ("space-time", "chained"):
        torch.manual_seed(1)
        network = put(networks(name), nudge(reader_of(kind, networks(name)), ["rectify"] * (kind == "chained"), 0.5))
        plain = te.segment(network, pictures, {0: masks[0]}).probabilities
        turned = te.segment(network, pictures, {0: torch.where(masks[0] > 0, 4 - masks[0], 0).to(torch.uint8)})
        torch.testing.assert_close(turned.probabilities[:, [0, 3, 2, 1]], plain, atol=1e-4, rtol=1e-3)


# ------------------------------------------------------------------ identity 1: a warm reader changes no output


def clip_with(network, reader, objects, size, memory_every, frames=6):
    pictures, masks = video(frames, size, objects)
    put(network, reader)
    return te.segment(network, pictures, {0: masks[0]}, memory_every=memory_every).probabilities


IDENTITY = [(name, 2, (48, 64), 1) for name in FULL] + [("STM", 1, (32, 48), 2)]
IDENTITY += list(itertools.product(TINY, (1, 3), [(32, 48)], (1, 2)))


@pytest.mark.parametrize("name, objects, size, memory_every", IDENTITY)
def test_1_a_warm_reader_changes_no_output(networks, name, objects, size, memory_every):
    """A whole clip, memory growing to five or three frames, top-k at work."""
    network = networks(name)
    top_k = network.top_k if name in FULL else 20
    run = partial(clip_with, network, objects=objects, size=size, memory_every=memory_every)
    plain = run(reader_of("space-time", network, top_k))
    for kind in ("warm", "chained"):
        torch.manual_seed(1)  # its zeros are what counts, whatever else was drawn
        torch.testing.assert_close(run(reader_of(kind, network, top_k)), plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_what_the_reader_learns_changes_the_output(networks, name):
    """The other side of identity 1: lambda, attention, chaining, age and trust each do something to a clip."""
    network = networks(name)
    top_k = network.top_k if name in FULL else 20
    run = partial(clip_with, network, objects=2, size=(32, 48), memory_every=1, frames=3)
    plain = run(reader_of("space-time", network, top_k))
    changes = {"rectify": 0.5, "age.age": 3.0} | ({} if name in FULL else {"beta": 0.3, "age.exact": 3.0})
    for changed, value in changes.items():
        reader = nudge(reader_of("chained", network, top_k), [changed], value)
        assert (run(reader) - plain).abs().max() > 1e-4, changed
    if name in FULL:
        return
    reader = reader_of("warm", network, top_k)
    torch.nn.init.normal_(reader.attention.key.weight)
    assert (run(reader) - plain).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_top_k_over_all_frames_or_of_each(networks, name):
    """warm: k best over (t m), as published; paper: k best of each frame; training: all of them."""
    network, k = networks(name), 20
    pictures, index_masks = video(4, (32, 48), 2)
    frames, objects = as_batch(pictures), 2
    for kind in READERS:
        put(network, reader_of(kind, network, k))
        features = [network.encode(frames[:, t]) for t in range(4)]
        memory = [network.memorize(frames[:, t], features[t], masks_of(index_masks[t], objects), t) for t in range(3)]
        insides = network.read(features[3], memory, 3, insides=True).insides
        joint = insides.affinity * rearrange(insides.temporal_weights, "b t q -> b t 1 q")
        torch.testing.assert_close(joint.sum((1, 2)), torch.ones_like(joint[:, 0, 0]))
        if kind == "paper":
            assert ((insides.affinity > 0).sum(2) == k).all()
        else:
            assert ((joint > 0).sum((1, 2)) == k).all()
            assert ((joint > 0).sum(2) != k).any()  # frames do not get equal shares
        network.reader.train()
        insides = network.read(features[3], memory, 3, insides=True).insides
        assert ((insides.affinity > 0).sum((1, 2)) > 2 * k).all()
        network.reader.eval()


# ------------------------------------------------------------------ what the networks are


COUNTS = {"STM": 38_925_570, "STCN": 54_434_180, "XMem": 62_185_224, "GSFM": 67_041_861}
SIMILARITY = {"STM": dot_product, "STCN": negative_squared_l2, "XMem": anisotropic_l2, "GSFM": negative_squared_l2}


@pytest.mark.parametrize("name", FULL)
def test_published_sizes(name):
    with torch.device("meta"):
        network = FULL[name]()
        assert sum(p.numel() for p in network.parameters()) == COUNTS[name]  # of the released networks
        assert isinstance(network.reader, SpaceTimeReader) and network.reader.top_k == network.top_k == TOP_K[name]
        assert network.reader.similarity is SIMILARITY[name]
        assert (network.stride, network.cell, network.preset) == (16, 16, "full")
        assert network.settings() == ({"layout": "released"} if name in ("STM", "XMem") else {})


@pytest.mark.parametrize("preset", ["paper", "warm", "chained"])
@pytest.mark.parametrize("name", FULL)
def test_tmrn_forms(name, preset):
    with torch.device("meta"):
        network = FULL[name].tmrn(preset)
        reader = network.reader
        assert reader.top_k == TOP_K[name] and reader.similarity is SIMILARITY[name]
        assert (reader.key_channels, reader.value_channels) == (network.key_channels, network.value_channels)
        assert (reader.evidence, reader.chained, reader.age is not None) == {
            "paper": (False, False, False), "warm": (True, False, False), "chained": (True, True, True)
        }[preset]  # fmt: skip
        assert network.settings() == ({"layout": "supplement"} if name in ("STM", "XMem") else {})
        own = sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in reader.parameters())
        # STM: one channel less for 64 filters of 7 x 7. XMem: 512 channels of query value for 1024 of the coarse feature, which the first
        # block and its shortcut no longer see, for one more convolution
        change = {"STM": -64 * 49, "XMem": 512 * 1024 * 9 + 512 - 2 * 512 * 512 * 9}.get(name, 0)
        assert own == COUNTS[name] + change
        with pytest.raises(ValueError, match="preset is 'best', expected one of"):
            FULL[name].tmrn("best")


@torch.no_grad()
@pytest.mark.parametrize("name", ["STM", "XMem"])
def test_the_supplements_layout_runs(name):
    pictures, masks = video(3, (32, 48), 2)
    result = te.segment(FULL[name].tmrn("warm"), pictures, {0: masks[0]}, memory_every=1)
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(3, 32, 48))
    assert (result.probabilities[1:, 1:].std(dim=(2, 3)) > 1e-4).all()


@pytest.mark.parametrize("name", ["STM", "XMem"])
def test_unknown_layouts_and_misfit_readers(name):
    network = FULL[name]
    with pytest.raises(ValueError, match="layout is 'official', expected one of .'released', 'supplement'"):
        network(layout="official")
    with pytest.raises(ValueError, match=rf"the reader has key_channels 99, {name} \(tiny\) has 32"):
        network.tiny(TrajectoryReader.paper(99, 64))
    with pytest.raises(ValueError, match=rf"the reader has value_channels 64, {name} \(full\) has 512"):
        network(TrajectoryReader.paper(128 if name == "STM" else 64, 64))


@pytest.mark.parametrize("name", TINY)
def test_readers_get_the_networks_similarity_unless_they_have_one(name):
    own = SIMILARITY[name.split()[0]]
    network = TINY[name]()
    assert network.reader.similarity is own and network.reader.top_k == (10 if name == "STCN mobile" else None)
    for make in (SpaceTimeReader, partial(TrajectoryReader.warm, network.key_channels, network.value_channels)):
        assert TINY[name](make()).reader.similarity is own
        assert TINY[name](make(similarity=dot_product)).reader.similarity is dot_product


def test_rules_of_the_authors():
    assert STM.rules == InferenceRules(5, previous_frame=True, aggregate_given=False, pad_first=True)
    assert STCN.rules == XMem.rules == InferenceRules(5) and GSFM.rules == InferenceRules(memory_every=3)


# ------------------------------------------------------------------ edges


@pytest.mark.parametrize("dtype, bound", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", TINY)
def test_half_precision(name, kind, dtype, bound):
    """`network.half()`: features and values in half precision; keys of the memory, affinities and the reader's weights in float32."""
    network = build(name)
    put(network, reader_of(kind, network, top_k=20))
    reader_weights = [p.clone() for p in network.reader.parameters()]
    pictures, masks = video(3, (32, 48), 2)
    precise = te.segment(network, pictures, {0: masks[0]}, memory_every=1).probabilities
    network.to(dtype)
    assert {p.dtype for n, p in network.named_parameters() if not n.startswith("reader.")} == {dtype}
    for kept, before in zip(
        network.reader.parameters(), reader_weights, strict=True
    ):  # rounded once, then float32 again
        torch.testing.assert_close(kept, before, atol=bound, rtol=bound)
    segmenter = Segmenter(network, memory_every=1)
    steps = [segmenter.step(pictures[t], masks[0] if t == 0 else None) for t in range(3)]
    kept = segmenter.groups[0].memory.frames[0]
    assert kept.key.dtype == torch.float32 and kept.value.dtype == dtype
    found = torch.stack([step.probabilities for step in steps])
    torch.testing.assert_close(found, precise, atol=bound, rtol=0)
    assert (found - precise).abs().max() > 0  # it was another precision
    out = roll_out(network.train(), as_batch(pictures[:3]).to(dtype), masks_of(masks[0], 2))
    assert out[-1].logits.dtype == torch.float32
    out[-1].logits.square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


@torch.no_grad()
@pytest.mark.parametrize("name", TINY)
def test_very_unlike_frames(networks, name):
    """Scores of about -1e4 and below: weights still sum to one, with and without top-k, and the nearest pixel wins."""
    network = networks(name)
    pictures, index_masks = video(3, (32, 48), 2)
    frames = as_batch(pictures)
    features = [network.encode(frames[:, t]) for t in range(3)]
    for kind, top_k in itertools.product(READERS, (None, 5)):
        put(network, reader_of(kind, network, top_k))
        memory = [network.memorize(frames[:, t], features[t], masks_of(index_masks[t], 2), t) for t in range(2)]
        far = te.encoders.FrameFeatures(**{**vars(features[2]), "key": features[2].key - 200.0})
        query = far.key if name != "STM tiny" else far.key.repeat_interleave(2, 0)
        score = torch.stack(
            [network.similarity(frame.key, query, frame.shrinkage, far.selection) for frame in memory], dim=1
        )
        if name == "XMem tiny":
            assert score.max() < -1e4
        readout = network.read(far, memory, 2, insides=True)
        insides = readout.insides
        joint = insides.affinity * rearrange(insides.temporal_weights, "b t q -> b t 1 q")
        assert torch.isfinite(readout.value).all()
        torch.testing.assert_close(joint.sum((1, 2)), torch.ones_like(joint[:, 0, 0]))
        if kind == "space-time":
            order = rearrange(score, "b t m q -> b q (t m)").double()
            best = order.topk(top_k, dim=-1).values if top_k else order
            expected = torch.zeros_like(order).scatter(
                -1, order.topk(best.shape[-1]).indices, best.sort(descending=True)[0].softmax(-1)
            )
            found = rearrange(joint, "b t m q -> b q (t m)").double()
            torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)  # float32 has 1e-3 left at 1e4


@pytest.mark.parametrize("name, kind", [*((name, "warm") for name in FULL), *itertools.product(TINY, READERS)])
def test_frames_of_sixteen_pixels(networks, name, kind):
    """One cell at stride 16, and k larger than the memory: as without top-k."""
    network = networks(name)
    pictures, masks = video(4, (16, 16), 2)
    every = reader_of(kind, network)
    plain = te.segment(put(network, every), pictures, {0: masks[0]}, memory_every=1)
    every.top_k = 10_000
    torch.testing.assert_close(
        te.segment(network, pictures, {0: masks[0]}, memory_every=1).probabilities,
        plain.probabilities,
        atol=1e-6,
        rtol=0,
    )
    assert (plain.probabilities[1:, 1:].std(dim=(2, 3)) > 1e-5).all()
    torch.testing.assert_close(plain.probabilities.sum(1), torch.ones(4, 16, 16))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["space-time", "chained"])
@pytest.mark.parametrize("name", TINY)
def test_objects_without_a_pixel(networks, name, kind):
    """An object of which the first mask shows nothing is decoded like any other, and takes nothing from the others."""
    network = put(networks(name), reader_of(kind, networks(name)))
    pictures, index_masks = video(3, (32, 48), 2)
    frames, masks = as_batch(pictures), masks_of(index_masks[0], 3)
    assert not masks[:, 2].any()
    empty, without = roll_out(network, frames, masks), roll_out(network, frames, masks[:, :2])
    assert torch.isfinite(empty[-1].logits).all()
    torch.testing.assert_close(empty[0].decoded.logits[:, :2], without[0].decoded.logits, atol=1e-4, rtol=1e-3)
    silent = network.decode(empty[0].readouts[0], empty[0].features).logits[
        :, 2
    ]  # what a memory without the object says
    torch.testing.assert_close(empty[0].decoded.logits[:, 2], silent, atol=0.1, rtol=0.1)
    if network.mask_channels:
        assert not network.readout_mask(empty[0].readouts[0])[:, 2].any()  # nothing was labelled, so nothing is read


@pytest.mark.parametrize("name", TINY)
def test_an_object_that_vanishes_and_returns(networks, name):
    """A correction without the object, then one with it: given masks are repeated, and the memory has what was given."""
    network = put(networks(name), reader_of("chained", networks(name)))
    pictures, masks = video(6, (32, 48), 2)
    alone = torch.where(masks == 1, masks, 0)
    segmenter = Segmenter(network, memory_every=2)
    given = {0: masks[0], 2: alone[2], 4: masks[4]}
    results = [segmenter.step(pictures[t], given.get(t)) for t in range(6)]
    assert [result.object_ids for result in results] == [(1, 2)] * 6
    assert torch.equal(results[4].index_mask, masks[4]) and torch.equal(results[2].index_mask == 1, alone[2] == 1)
    memory = segmenter.groups[0].memory.frames
    assert [(frame.index, frame.exact) for frame in memory] == [(0, True), (2, True), (4, True)]
    assert len(segmenter.groups) == 1 and torch.isfinite(results[5].probabilities).all()
    value = memory[2].value[1, 0] if name == "STM tiny" else memory[2].value[0, 1]
    cell = network.cell
    truth = reduce((masks[4] == 2).float(), "(h i) (w j) -> h w", "mean", i=cell, j=cell)
    torch.testing.assert_close(
        value[-1], truth, atol=1e-5, rtol=0
    )  # the returned object's mask, as the tiny networks keep it


@pytest.mark.parametrize("name", TINY)
def test_objects_of_one_pixel(networks, name):
    network = put(networks(name), reader_of("warm", networks(name), top_k=20))
    pictures, _ = video(3, (32, 48), 1)
    mask = torch.zeros(32, 48, dtype=torch.uint8)
    mask[0, 0], mask[31, 47], mask[13, 20] = 5, 9, 200
    segmenter = Segmenter(network, memory_every=1)
    first = segmenter.step(pictures[0], mask)
    assert torch.equal(first.index_mask, mask) and first.object_ids == (5, 9, 200)
    value = segmenter.groups[0].memory.frames[0].value
    value = rearrange(value, "o 1 cv h w -> 1 o cv h w") if name == "STM tiny" else value
    labelled = value[0, :, -1]  # the mask channel of each object: one cell, of which one pixel is full
    share, last = 1 / network.cell**2, (31 // network.cell, 47 // network.cell)
    torch.testing.assert_close(labelled.amax((1, 2)), torch.full((3,), share), atol=1e-5, rtol=0)
    full = [tuple(x) for x in (labelled > 0.8 * share).nonzero().tolist()]
    assert full == [(0, 0, 0), (1, *last), (2, 13 // network.cell, 20 // network.cell)]
    later = segmenter.step(pictures[1])
    torch.testing.assert_close(later.probabilities.sum(0), torch.ones(32, 48))


@pytest.mark.parametrize("name, kind", [("STM tiny", "paper"), ("STCN tiny", "chained"), ("XMem tiny", "warm")])
@pytest.mark.parametrize("count", [11, 254])
def test_many_objects_with_any_names(networks, name, kind, count):
    """11 objects whose numbers have gaps, or all 254 there may be: each as if it had come under another name."""
    network = put(networks(name), reader_of(kind, networks(name), top_k=20))
    ids = list(range(1, 255)) if count == 254 else [2, 3, 7, 20, 50, 51, 99, 128, 200, 253, 254]
    pictures, _ = video(2, (32, 48), 1)
    place = torch.arange(32 * 48).reshape(32, 48) // 5
    mask = torch.where(place < count, torch.tensor([*ids, *[0] * (400 - count)])[place], 0).to(torch.uint8)
    result = te.segment(network, pictures, {0: mask})
    assert result.object_ids == tuple(ids) and torch.equal(result.index_masks[0], mask)
    assert result.probabilities.shape == (2, count + 1, 32, 48)
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(2, 32, 48))
    names = torch.tensor([0, *ids], dtype=torch.uint8)
    assert torch.equal(result.index_masks[1], names[result.probabilities[1].argmax(0)])
    dense = torch.where(place < count, place + 1, 0).to(torch.uint8)  # the same objects as 1, 2, ...
    renamed = te.segment(network, pictures, {0: dense}).probabilities
    torch.testing.assert_close(renamed, result.probabilities, atol=1e-6, rtol=0)


def test_one_object_is_not_changed_by_objects_elsewhere_in_memory(networks):
    """Late objects form a group of their own: what the first object's memory says is what it says alone."""
    for name in TINY:
        network = put(networks(name), reader_of("chained", networks(name)))
        pictures, masks = video(5, (32, 48), 2)
        first, late = torch.where(masks == 1, masks, 0), torch.where(masks == 2, masks, 0)
        together, alone = Segmenter(network, memory_every=1), Segmenter(network, memory_every=1)
        for t in range(3):
            together.step(pictures[t], {0: first[0], 2: late[2]}.get(t))
            alone.step(pictures[t], {0: first[0]}.get(t))
        group = together.groups[0].frames
        assert [frame.index for frame in group] == [0, 1, 2]
        assert [frame.index for frame in together.groups[1].frames] == [2]
        for ours, theirs in zip(group[:2], alone.groups[0].frames[:2], strict=True):
            torch.testing.assert_close(ours.value, theirs.value)
            torch.testing.assert_close(ours.key, theirs.key)
            torch.testing.assert_close(ours.description.likelihood, theirs.description.likelihood)


@torch.no_grad()
@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", TINY)
def test_groups_equal_one_memory(networks, name, kind):
    """Objects that share a memory, or each in a list of its own: the same logits."""
    network = put(networks(name), reader_of(kind, networks(name)))
    pictures, index_masks = video(4, (32, 48), 3)
    frames = as_batch(pictures)
    memory = [
        network.memorize(frames[:, t], network.encode(frames[:, t]), masks_of(index_masks[t], 3), t) for t in range(3)
    ]
    together = segment_frame(network, frames[:, 3], [memory], 3)
    groups = [[frame.of_objects(a, b) for frame in memory] for a, b in ((0, 2), (2, 3))]
    apart = segment_frame(network, frames[:, 3], groups, 3)
    # TMRN's attention sees the mean of a group's values; with a space-time read, and with STM, groups change nothing
    if kind == "space-time" or name == "STM tiny":
        torch.testing.assert_close(apart.logits, together.logits, atol=1e-4, rtol=1e-3)
    alone = network.read(together.features, groups[1], 3).value
    torch.testing.assert_close(apart.readouts[1].value, alone)
    assert apart.readouts[0].value.shape[1] == 2 and alone.shape[1] == 1


# ------------------------------------------------------------------ looking


@pytest.mark.parametrize("name, kind", [*((name, "chained") for name in FULL), *itertools.product(TINY, READERS)])
def test_look(networks, name, kind):
    """Every network shows what it read; where a query pixel's weights are put on the memory's values they give its readout."""
    network = put(networks(name), reader_of(kind, networks(name), top_k=5))
    pictures, masks = video(4, (35, 51), 1)  # padded to 48 x 64
    seen = look(network, pictures, masks, query=3, memory=[0, 2])
    grid = (48 // network.cell, 64 // network.cell)
    size = grid[0] * grid[1]
    assert seen.insides.affinity.shape == (1, 2, size, size) and seen.insides.trajectory.shape == (1, 2, 2, *grid)
    assert seen.offset == (6, 6) and seen.cell == network.cell and seen.memory == (0, 2)
    weights = rearrange(seen.insides.temporal_weights, "b t (h w) -> b 1 t 1 h w", h=grid[0])
    torch.testing.assert_close((weights * seen.insides.aligned_value).sum(2), seen.readout.value, atol=1e-3, rtol=1e-3)
    alone = segment(network, pictures[[0, 2, 3]], {0: masks[0], 1: masks[2]}, memory_every=1)
    if name.startswith(("STCN", "GSFM")) and kind == "space-time":  # nothing is carried along, and time plays no part
        assert (seen.predicted == alone.index_masks[2]).float().mean() > 0.99


@pytest.mark.parametrize("objects", [1, 2])
@pytest.mark.parametrize("name", ["STM tiny", "XMem tiny"])
def test_pictures_of_looks(networks, name, objects):
    """Figures and explorer draw any network's looks, with truth or without; of STM's several affinities that of the object asked for."""
    network = networks(name)
    clip = make_clip(seed=4, level="hard", frames=5, size=(40, 56))
    index_masks = torch.where(clip.index_masks == 1, 1, 0).to(torch.uint8)
    if objects == 2:
        index_masks[:, 2:12, 2:14] = 2
    looks = {}
    for kind in ("space-time", "chained"):
        put(network, reader_of(kind, network))
        looks[kind] = look(network, clip.frames, index_masks, query=4, memory=[0, 1, 3])
    assert looks["chained"].insides.affinity.shape == (1, 3, 12 * 16, 12 * 16)
    assert looks["chained"].readout.value.shape == (1, objects, 64, 12, 16)
    if objects == 2 and name == "STM tiny":
        frames, padded = as_batch(clip.frames), pad_frames(network, as_batch(clip.frames)[:, 4])[0]
        memory = [
            memorize_frame(network, frames[:, t], index_to_object_masks(index_masks[t], (1, 2))[None], t, exact=t == 0)
            for t in (0, 1, 3)
        ]
        second = look(network, clip.frames, index_masks, query=4, memory=[0, 1, 3], object_id=2)
        for number, seen in enumerate((looks["chained"], second)):
            with torch.no_grad():
                one = [frame.of_objects(number, number + 1) for frame in memory]
                alone = network.read(network.encode(padded), one, 4, insides=True).insides
            for field in ("affinity", "temporal_weights", "aligned_value", "trajectory"):
                torch.testing.assert_close(getattr(seen.insides, field), getattr(alone, field), atol=1e-4, rtol=1e-3)
        assert not torch.equal(second.insides.affinity, looks["chained"].insides.affinity)
        with pytest.raises(
            InputError, match=r"object 3 asked for, masks of the memory frames \(0, 1, 3\) hold \[1, 2\]"
        ):
            look(network, clip.frames, index_masks, query=4, memory=[0, 1, 3], object_id=3)
    pixel = te.viz.choose_pixel(looks, clip)
    assert 0 <= pixel[0] < 40 and 0 <= pixel[1] < 56
    for one in looks.values():
        y, x = one.pixel_to_cell(*pixel)
        heat = te.viz.heat_maps(one, pixel)
        assert torch.equal(heat, rearrange(one.insides.affinity[0, :, :, 16 * y + x], "t (h w) -> t h w", h=12))
        torch.testing.assert_close(te.viz.heat_maps(one, pixel, weighted=True).sum(), torch.tensor(1.0))
    for figure in (
        te.viz.affinity_figure(looks, pixel), te.viz.trajectory_figure(looks, pixel, clip), te.viz.comparison_figure(looks, pixel, clip)
    ):  # fmt: skip
        figure.canvas.draw()
    view = te.viz.explore(looks, pixel, truth=clip)
    for kind, one in looks.items():
        view.reader = kind
        y, x = view.query
        best = one.insides.affinity[0, :, :, 16 * y + x].argmax(1)
        assert view.matches == [divmod(int(m), 16) for m in best]
    assert te.viz.explorer_html(looks, pixel).startswith("<div ")


# ------------------------------------------------------------------ docstrings


PACKAGE = Path(te.__file__).parent
DOCUMENTED = [*(PACKAGE / "networks").glob("*.py"), *(PACKAGE / "memory").glob("*.py")]
DOCUMENTED += [PACKAGE / f"{name}.py" for name in ("decoder", "encoders", "official", "folding")]
SOURCE = re.compile(r"Source|[Oo]urs|STM|STCN|XMem|GSFM|TMRN|et al|\[S\]|\[K\]")


@pytest.mark.parametrize("path", sorted(DOCUMENTED), ids=lambda path: path.stem)
def test_docstrings(path):
    """All that is public says what it is; files and what takes tensors say where it comes from, and tensors name their axes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_all = ast.get_docstring(tree)
    silent, sourceless, shapeless = [], [], []

    def visit(nodes, owner):
        for node in nodes:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
                continue
            text = ast.get_docstring(node) or ""
            if not text and node.name != "forward":  # its class says what it does
                silent.append(owner + node.name)
            if not owner and "Float[" in ast.unparse(node) and not SOURCE.search(text + of_all):
                says_nothing = [ast.unparse(part) for part in (*node.decorator_list, *getattr(node, "bases", []))]
                if not {"dataclass(frozen=True)", "Protocol"} & set(says_nothing):  # plain containers
                    sourceless.append(node.name)
            if isinstance(node, ast.FunctionDef) and node.name == "forward" and path.parent.name != "memory":
                arguments = [a for a in node.args.args if a.arg not in ("self", "insides")]
                shapeless.extend(owner + a.arg for a in arguments if "Float[" not in ast.unparse(a.annotation))
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{node.name}.")

    visit(tree.body, "")
    assert of_all and not silent and not sourceless and not shapeless


# ------------------------------------------------------------------ a reader and its network


def test_a_reader_takes_what_it_was_not_told_from_its_network():
    reader = TrajectoryReader.warm(32, 64)
    network = XMem.tiny(reader)
    assert reader.similarity is anisotropic_l2 and reader.top_k is None
    told = TrajectoryReader.warm(32, 64, similarity=dot_product, top_k=7)
    assert XMem.tiny(told).reader.similarity is dot_product and told.top_k == 7
    STM.tiny(told)  # nothing was left open, so any network may have it
    with pytest.raises(ValueError, match=r"similarity and top_k from XMem \(tiny\), now it is put into STM \(tiny\)"):
        STM.tiny(reader)
    network.eval().reader = SpaceTimeReader()
    assert network.reader.similarity is anisotropic_l2 and not network.reader.training
    with pytest.raises(ValueError, match=r"key_channels 99, XMem \(tiny\) has 32"):
        network.reader = TrajectoryReader.warm(99, 64)
    with pytest.raises(ValueError, match="reader is 'warm', expected a module"):
        network.reader = "warm"


@pytest.mark.parametrize("name, top_k", [("STM", None), ("STCN", 20), ("XMem", 30), ("GSFM", 50)])
def test_a_full_network_gives_its_reader_its_top_k(networks, name, top_k):
    network = put(networks(name), TrajectoryReader.warm(networks(name).key_channels, 512))
    assert network.reader.top_k == network.top_k == top_k
    assert put(networks(name), SpaceTimeReader(top_k=None)).reader.top_k is None


def test_frames_of_one_video_have_one_size():
    segmenter = Segmenter(XMem.tiny(), memory_every=1)
    pictures, masks = video(3, (32, 48), 1)
    segmenter.step(pictures[0], masks[0])
    with pytest.raises(InputError, match=r"frame 1 is \(32, 40\), the frames before it were \(32, 48\)"):
        segmenter.step(pictures[1, :, :40])
    after = segmenter.step(pictures[1]).probabilities
    again = segmenter.reset()
    again.step(pictures[0], masks[0])
    assert torch.equal(again.step(pictures[1]).probabilities, after)  # the refused frame left nothing behind


def test_a_frame_whose_masks_are_all_given_is_not_segmented():
    pictures, masks = video(3, (32, 48), 2)
    network = XMem.tiny().eval()
    reads = []
    network.reader.register_forward_hook(lambda *_: reads.append(1))
    result = segment(network, pictures, {0: masks[0], 1: masks[1]}, memory_every=1)
    assert len(reads) == 1 and torch.equal(result.index_masks[1], masks[1])
