"""Readers beyond the identities: chaining against a slow loop, insides, blocks, presets, errors, edges."""

import math

import jaxtyping
import pytest
import torch
from einops import einsum, rearrange
from memories import CK, CV, INDICES, QUERY_INDEX, B, Case, H, O, T, W
from test_identities import ALL, presets, warm, woken
from test_identities import space_time as plain_reader

from tmrn_edu.memory import Query, SpaceTimeReader, TrajectoryReader, negative_squared_l2, space_time
from tmrn_edu.memory.alignment import CORRELATION_EPS

MAKERS = (TrajectoryReader.paper, TrajectoryReader.warm, TrajectoryReader.chained, TrajectoryReader.tracking)


def slow_read(case, reader, b, q):
    """One query pixel of one clip through a TrajectoryReader, a loop over frames (backwards in time) and a loop over pixels."""
    h, w = case.query_key.shape[-2:]
    query = case.query_key[b, :, q // w, q % w]
    centre, previous, motion = (q // w, q % w), QUERY_INDEX, (0, 0)
    scores, values, path = [], [], []
    for t in reversed(range(case.keys.shape[1])):
        key = rearrange(case.keys[b, t], "ck h w -> (h w) ck")
        value = rearrange(case.values[b, :, t], "o cv h w -> (h w) o cv")
        gap, steps, previous = previous - INDICES[t], QUERY_INDEX - INDICES[t], INDICES[t]
        if reader.agents is not None:
            description = reader.agents.describe(case.keys[:, t])
            p = reader.agents.likelihood(reader.agents.features(case.query_key), description)[b, :, q]
        share = 0 if reader.velocity is None else reader.velocity
        expected = [place + share * gap * speed for place, speed in zip(centre, motion, strict=True)]
        s = []
        for m in range(h * w):
            s.append((2 * (key[m] @ query) - key[m] @ key[m]) / CK**0.5)
            if reader.agents is not None:
                s[m] = s[m] + reader.rectify * torch.log(description.likelihood[b, :, m] @ p + CORRELATION_EPS)
            if reader.beta is not None:
                distance = (m // w - expected[0]) ** 2 + (m % w - expected[1]) ** 2
                if reader.log_reach is not None:
                    reach = reader.log_reach.exp()
                    distance = 2 * reach * ((distance + reach**2) ** 0.5 - reach)
                s[m] = s[m] - reader.beta / gap * distance
            if reader.mutual is not None:
                fits = [
                    2 * (key[m] @ other) - key[m] @ key[m]
                    for other in rearrange(case.query_key[b], "ck h w -> (h w) ck")
                ]
                home = max(range(h * w), key=lambda cell: fits[cell])
                s[m] = s[m] - reader.mutual * ((home // w - q // w) ** 2 + (home % w - q % w) ** 2)
        s = torch.stack(s)
        weight = s.softmax(0)
        found = (sum(weight[m] * (m // w) for m in range(h * w)), sum(weight[m] * (m % w) for m in range(h * w)))
        motion, centre = [(new - old) / gap for new, old in zip(found, centre, strict=True)], found
        aligned = sum(weight[m] * value[m] for m in range(h * w))
        aligned_key = sum(weight[m] * key[m] for m in range(h * w))
        e = s.logsumexp(0) if reader.evidence else s.new_zeros(())
        if reader.attention is not None:
            counterpart = torch.cat([aligned.mean(0), aligned_key])
            attention = reader.attention
            e = e + (attention.query.weight @ query) @ (attention.key.weight @ counterpart) / math.sqrt(
                attention.query.out_features
            )
        if reader.age is not None:
            e = e + reader.age.age * math.log(1 + steps) + reader.age.exact * (t == 0)
        scores.append(torch.as_tensor(e))
        values.append(aligned)
        path.append(torch.stack(centre))
    weights = torch.stack(scores).softmax(0)
    return sum(u * v for u, v in zip(weights, values, strict=True)), weights.flip(0), torch.stack(path).flip(0)


@pytest.mark.parametrize("block", [2**19, 24])  # the whole query at once, and a row at a time
@pytest.mark.parametrize(
    ("make", "options"),
    [(make, {}) for make in MAKERS]
    + [
        (TrajectoryReader.warm, {"mutual": 0.3}),
        (TrajectoryReader.tracking, {"mutual": 0.1, "agent_place": 1.5}),
        (TrajectoryReader.paper, {"agent_scales": (1, 2), "agent_place": 0.5}),
        (TrajectoryReader.paper, {"agent_start": "random", "attention": False}),
    ],
)
def test_against_the_slow_loop(make, options, block, monkeypatch):
    monkeypatch.setattr(space_time, "BLOCK", block)
    case = Case(h=3, w=4)
    reader = woken(warm(make=make, **options))
    seen = case.read(reader, insides=True)
    for b, q in ((0, 0), (0, 7), (1, 11)):
        value, weights, path = slow_read(case, reader, b, q)
        torch.testing.assert_close(seen.value[b, :, :, q // 4, q % 4], value)
        torch.testing.assert_close(seen.insides.temporal_weights[b, :, q], weights)
        torch.testing.assert_close(seen.insides.trajectory[b, :, :, q // 4, q % 4], path)


@pytest.mark.parametrize("make", [TrajectoryReader.chained, TrajectoryReader.tracking])
def test_gradients_of_the_slow_loop(make):
    """Gradients flow along the whole chain: expected positions, motion, likelihoods, attention."""
    case = Case(h=2, w=3, gradients=True)
    reader = woken(warm(make=make))
    weights = torch.randn(O, CV, dtype=torch.float64)
    inputs = (*case.leaves[:3], *reader.parameters())
    ours = torch.autograd.grad((case.read(reader).value[1, :, :, 1, 2] * weights).sum(), inputs)
    slow = torch.autograd.grad((slow_read(case, reader, 1, 5)[0] * weights).sum(), inputs)
    for x, y in zip(ours, slow, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-7)
        assert x.abs().max() > 0


def test_every_parameter_is_trained():
    for make in MAKERS:
        reader, case = woken(TrajectoryReader(CK, CV).double() if make is None else warm(make=make)).train(), Case()
        case.read(reader).value.square().sum().backward()
        for name, parameter in reader.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_chaining_follows_where_pixels_were():
    """A large beta holds every query pixel in place, whatever its key; a large gap lets go."""
    case = Case()
    reader = warm(make=TrajectoryReader.chained)
    torch.nn.init.constant_(reader.beta, 1e4)
    cells = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")).double()
    held = case.read(reader, insides=True).insides.trajectory
    torch.testing.assert_close(held, cells.expand(B, T, 2, H, W))
    far = [reader.store(case.keys[:, 0], case.values[:, :, 0], QUERY_INDEX - 10**9)]
    free = reader(far, case.query, insides=True).insides.affinity
    torch.testing.assert_close(
        free, negative_squared_l2(case.keys[:, :1], case.query_key).softmax(2), rtol=1e-2, atol=1e-4
    )


def test_velocity_expects_a_pixel_where_its_motion_leads():
    """A dot that moves one cell a step, and a faster twin of it that stands where the dot was found last: only velocity finds the dot."""
    key = torch.zeros(3, 1, CK, H, W, dtype=torch.float64)  # frames 0, 5 and the query 6
    for frame, dot in ((0, 0), (1, 5), (2, 6)):
        key[frame, 0, 0, 2, dot] = 4
    key[0, 0, 0, 2, 5] = 4  # the twin: in frame 0 it is where the dot will be in frame 5
    value = torch.zeros(1, O, CV, H, W, dtype=torch.float64)
    found = {}
    for velocity in (0.0, 1.0):
        reader = warm(make=TrajectoryReader.tracking, beta=2.0, velocity=velocity, reach=None)
        frames = [reader.store(key[0], value, 0, True), reader.store(key[1], value, 5)]
        look = reader(frames, Query(key[2], 6), insides=True).insides
        found[velocity] = look.trajectory[0, 0, :, 2, 6].round().tolist()
    assert found == {0.0: [2, 5], 1.0: [2, 0]}


@pytest.mark.parametrize("reach", [1e5, 0.1])
def test_reach_holds_as_the_square_near_by_and_less_far_away(reach):
    """With a reach far beyond the grid it is the plain square; a short one pulls less on pixels that moved far."""
    case, look = Case(), {}
    for name in (None, reach):
        torch.manual_seed(1)  # equal agents
        reader = woken(warm(make=TrajectoryReader.tracking, reach=name))
        if name is not None:
            torch.nn.init.constant_(reader.log_reach, math.log(name))
        look[name] = case.read(reader, insides=True).insides.trajectory
    if reach == 1e5:
        torch.testing.assert_close(look[reach], look[None])
    else:
        cells = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")).double()
        square, short = ((look[name][:, -1] - cells).square().sum(1).mean() for name in (None, reach))
        assert short > 1.2 * square


def test_age_bias_moves_weight_between_frames():
    case = Case()
    reader = warm(make=TrajectoryReader.chained)
    before = case.read(reader, insides=True).insides.temporal_weights
    torch.nn.init.constant_(reader.age.age, -0.7)
    torch.nn.init.constant_(reader.age.exact, 2.0)
    after = case.read(reader, insides=True).insides.temporal_weights
    bias = torch.tensor([-0.7 * math.log1p(QUERY_INDEX - i) + 2.0 * (i == 0) for i in INDICES], dtype=torch.float64)
    expected = (before.log() + rearrange(bias, "t -> t 1")).softmax(1)
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-9)


# ------------------------------------------------------------------ insides


@pytest.mark.parametrize("block", [1, 900, 2**20])
@pytest.mark.parametrize("top_k", [None, 5])
def test_insides_reproduce_the_readout(monkeypatch, block, top_k):
    case = Case()
    for reader in presets():
        woken(reader).top_k = top_k
        whole = case.read(reader, insides=True)
        monkeypatch.setattr(space_time, "BLOCK", block)
        seen = case.read(reader, insides=True)
        monkeypatch.undo()
        inside = seen.insides
        assert inside.memory_indices == INDICES
        joint = inside.affinity * rearrange(inside.temporal_weights, "b t q -> b t 1 q")
        torch.testing.assert_close(joint.sum((1, 2)), torch.ones(B, H * W, dtype=torch.float64))
        values = rearrange(case.values, "b o t cv h w -> b o t cv (h w)")
        read = einsum(values, joint, "b o t cv m, b t m q -> b o cv q")
        torch.testing.assert_close(rearrange(read, "b o cv (h w) -> b o cv h w", w=W), seen.value)
        aligned = einsum(values, inside.affinity, "b o t cv m, b t m q -> b o t cv q")
        torch.testing.assert_close(rearrange(aligned, "b o t cv (h w) -> b o t cv h w", w=W), inside.aligned_value)
        torch.testing.assert_close(case.read(reader).value, seen.value)  # looking changes nothing
        torch.testing.assert_close(whole.value, seen.value)  # nor do blocks
        for name in ("affinity", "temporal_weights", "aligned_value", "trajectory"):
            torch.testing.assert_close(getattr(inside, name), getattr(whole.insides, name))
        if top_k is None:
            cells = torch.stack(torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")).double()
            expected = einsum(inside.affinity, rearrange(cells, "yx h w -> yx (h w)"), "b t m q, yx m -> b t yx q")
            torch.testing.assert_close(rearrange(expected, "b t yx (h w) -> b t yx h w", w=W), inside.trajectory)


def test_gradients_through_blocks(monkeypatch):
    case = Case(gradients=True)
    for reader in presets():
        whole = case.gradients(case.read(woken(reader)).value)
        monkeypatch.setattr(space_time, "BLOCK", 900)
        for x, y in zip(whole, case.gradients(case.read(reader).value), strict=True):
            torch.testing.assert_close(x, y)
        monkeypatch.undo()


def test_top_k_of_each_frame_where_attention_pools_alone():
    case = Case()
    per_frame = case.read(warm(top_k=5, make=TrajectoryReader.paper), insides=True).insides.affinity
    assert ((per_frame > 0).sum(2) == 5).all()
    shared = case.read(warm(top_k=5), insides=True).insides
    joint = shared.affinity * rearrange(shared.temporal_weights, "b t q -> b t 1 q")
    assert ((joint > 0).sum((1, 2)) == 5).all()


def test_clips_of_a_batch_have_frames_of_their_own():
    """Frame numbers that differ from clip to clip: every clip is read as it is alone."""
    case, numbers = Case(), torch.tensor([[0, 0], [3, 1], [5, 9], [11, 10], [13, 20]])
    for reader in presets():
        woken(reader)
        frames = [reader.store(case.keys[:, i], case.values[:, :, i], numbers[i], i == 0) for i in range(T)]
        together = reader(frames, Query(case.query_key, numbers[T])).value
        for b in range(B):
            own = [
                reader.store(case.keys[b : b + 1, i], case.values[b : b + 1, :, i], int(numbers[i, b]), i == 0)
                for i in range(T)
            ]
            alone = reader(own, Query(case.query_key[b : b + 1], int(numbers[T, b]))).value
            torch.testing.assert_close(together[b : b + 1], alone)


def test_memory_may_lie_on_another_grid():
    case, query = Case(gradients=True), torch.randn(B, CK, 3, 5, dtype=torch.float64)
    for reader in presets():
        seen = reader(case.frames(reader), Query(query, QUERY_INDEX), insides=True)
        assert seen.value.shape == (B, O, CV, 3, 5) and seen.insides.affinity.shape == (B, T, H * W, 15)


# ------------------------------------------------------------------ presets and errors


def test_presets():
    paper, warm_reader, chained, tracking = (make(CK, CV) for make in MAKERS)
    assert float(paper.rectify.detach()) == 1 and not paper.evidence and paper.beta is None and paper.age is None
    assert (
        float(warm_reader.rectify.detach()) == 0 and warm_reader.evidence and not warm_reader.attention.key.weight.any()
    )
    assert float(chained.beta.detach()) == 0 and chained.age is not None and chained.chained
    assert chained.velocity is None and chained.log_reach is None
    begun = [
        float(x.detach()) for x in (tracking.beta, tracking.velocity, tracking.log_reach.exp(), tracking.age.exact)
    ]
    assert begun == pytest.approx([0.5, 1, 4, 2]) and float(tracking.age.age.detach()) == 0
    for name in ("paper", "warm", "chained", "tracking"):
        assert TrajectoryReader.preset(name, CK, CV).settings() == getattr(TrajectoryReader, name)(CK, CV).settings()
    with pytest.raises(
        ValueError, match=r"preset is 'fast', expected one of \['chained', 'paper', 'tracking', 'warm'\]"
    ):
        TrajectoryReader.preset("fast", CK, CV)
    assert TrajectoryReader.warm(CK, CV, agents=0).agents is None
    assert TrajectoryReader.warm(CK, CV, rectify=0.5).settings()["rectify"] == 0.5
    assert not list(SpaceTimeReader().parameters())


def test_settings_build_the_same_reader():
    for reader in presets():
        settings = reader.settings()
        assert settings["similarity"] == "negative_squared_l2"
        again = type(reader)(**settings | {"similarity": negative_squared_l2}).double()
        again.load_state_dict(reader.state_dict())
        case = Case()
        assert torch.equal(case.read(again).value, case.read(reader).value) and again.settings() == settings


def test_errors_name_both_sides(monkeypatch):
    case, reader = Case(dtype=torch.float32), SpaceTimeReader()
    frames, query = case.frames(reader), case.query
    other = torch.zeros(B, CK + 1, H, W)
    with pytest.raises(ValueError, match="memory holds 0 frames, expected at least 1 to read for frame 13"):
        reader([], query)
    with pytest.raises(ValueError, match="memory key of frame 0 has 5 channels, query key has 6"):
        reader(frames, Query(other, 13))
    with pytest.raises(ValueError, match="memory key of frame 0 has batch 2, query key has 1"):
        reader(frames, Query(query.key[:1], 13))
    odd = reader.store(case.keys[:, 0], case.values[:, :2, 0], 20)
    with pytest.raises(
        ValueError, match=r"memory value of frame 20 has objects and channels \(2, 7\), that of frame 0 has \(3, 7\)"
    ):
        reader([*frames, odd], query)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # else the checked annotations speak first
    with pytest.raises(ValueError, match=r"memory key has batch and grid 2 x \(6, 8\), memory value has 2 x \(8, 6\)"):
        reader.store(case.keys[:, 0], rearrange(case.values[:, :, 0], "b o cv h w -> b o cv w h"), 0)
    with pytest.raises(ValueError, match="velocity is 1.0 and chain is off, expected chain=True or no velocity"):
        TrajectoryReader.warm(CK, CV, velocity=1.0)
    with pytest.raises(ValueError, match="trust is nan, expected a finite number"):
        TrajectoryReader.chained(CK, CV, trust=math.nan)
    with pytest.raises(ValueError, match="beta is 0.0, reach is 0, expected 0 or more, and more than 0 or None"):
        TrajectoryReader.chained(CK, CV, reach=0)
    with pytest.raises(ValueError, match="mutual is -1.0, expected a number, 0 or more, or None"):
        TrajectoryReader.warm(CK, CV, mutual=-1.0)
    with pytest.raises(
        ValueError, match=r"agent_place is 0.5, agent_scales are \(\), agent_start is 'svd' and agents 0"
    ):
        TrajectoryReader.warm(CK, CV, agents=0, agent_place=0.5)
    with pytest.raises(ValueError, match="top_k is 0"):
        SpaceTimeReader(top_k=0)
    with pytest.raises(ValueError, match="12 agents asked for"):
        TrajectoryReader.paper(CK, CV, agents=12)


# ------------------------------------------------------------------ edges


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("top_k", [None, 5])
def test_half_precision_keys_and_values(dtype, top_k):
    case = Case(dtype=torch.float32)
    reader_of = (
        lambda: SpaceTimeReader(top_k=top_k),
        *(lambda make=make: make(CK, CV, agents=4, top_k=top_k) for make in MAKERS),
    )
    for build in reader_of:
        reader = build().eval()
        precise = case.read(reader).value
        frames = [reader.store(case.keys[:, i].to(dtype), case.values[:, :, i].to(dtype), INDICES[i]) for i in range(T)]
        read = reader(frames, Query(case.query_key.to(dtype), QUERY_INDEX)).value
        assert read.dtype == dtype and frames[0].key.dtype == torch.float32
        if top_k is None and not reader.chained:
            torch.testing.assert_close(read.float(), precise, rtol=0.1, atol=0.1)
        assert torch.isfinite(read).all()


@pytest.mark.parametrize("kind", ["constant", "one pixel", "fewer pixels than channels", "huge keys"])
@pytest.mark.parametrize("similarity", ALL)
def test_degenerate_memories(kind, similarity):
    h, w = {"one pixel": (1, 1), "fewer pixels than channels": (2, 2)}.get(kind, (H, W))
    case = Case(h=h, w=w, dtype=torch.float32)
    if kind == "constant":
        case.keys[:] = case.keys[:, :, :, :1, :1].clone()
    if kind == "huge keys":
        case.keys *= 1e4
    for leaf in case.leaves:
        leaf.requires_grad_()
    for make in MAKERS:
        reader = woken(make(CK, CV, similarity=similarity, agents=4))
        seen = case.read(reader, insides=True)
        assert torch.isfinite(seen.value).all() and torch.isfinite(seen.insides.affinity).all()
        for gradient in case.gradients(seen.value) + list(
            torch.autograd.grad(case.read(reader).value.sum(), reader.parameters())
        ):
            assert torch.isfinite(gradient).all()


def test_top_k_of_scores_far_below_zero():
    """Query and memory far apart: all scores around -1e4, where exp alone is 0."""
    case = Case(dtype=torch.float32)
    case.keys += 100
    case.query_key -= 10
    assert negative_squared_l2(case.keys, case.query_key).max() < -1e4
    for insides in (False, True):
        read = case.read(SpaceTimeReader(top_k=5).eval(), insides).value
        torch.testing.assert_close(read, case.plain(negative_squared_l2, 5), rtol=0, atol=0.1)  # scores have 3 decimals


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_top_k_of_half_precision_is_that_of_the_rounded_memory(dtype):
    case, reader = Case(dtype=torch.float32), SpaceTimeReader(top_k=5).eval()
    for leaf in case.leaves:
        leaf.copy_(leaf.to(dtype))
    frames = [reader.store(case.keys[:, i].to(dtype), case.values[:, :, i].to(dtype), INDICES[i]) for i in range(T)]
    read = reader(frames, Query(case.query_key.to(dtype), QUERY_INDEX)).value
    torch.testing.assert_close(read.float(), case.read(reader).value, rtol=0.02, atol=0.02)


def test_top_k_shared_by_frames_is_one_search(monkeypatch):
    """Over all frames one running search; each frame alone where frames are pooled by attention, or positions are followed."""
    calls = []
    searched_alone = space_time.frame_top_k
    monkeypatch.setattr(space_time, "frame_top_k", lambda *inputs: calls.append(1) or searched_alone(*inputs))
    case = Case()
    for reader, insides, alone in (
        (plain_reader(top_k=5), False, 0),
        (warm(top_k=5), False, 0),
        (plain_reader(top_k=5), True, T),
        (warm(top_k=5, make=TrajectoryReader.paper), False, T),
        (warm(top_k=5, make=TrajectoryReader.chained), False, T),
    ):
        calls.clear()
        case.read(reader, insides)
        assert len(calls) == alone


def test_values_are_stored_pixel_by_pixel():
    """Same shape and numbers; a pixel's channels lie side by side, and so does the readout's grid."""
    case, reader = Case(), plain_reader()
    stored = reader.store(case.keys[:, 0], case.values[:, :, 0], 0)
    assert torch.equal(stored.value, case.values[:, :, 0]) and stored.value.stride()[2] == 1
    assert case.read(reader).value.is_contiguous()


def test_a_memory_frame_is_described_once():
    case, reader = Case(), woken(warm())
    frames = case.frames(reader)
    first = reader(frames, case.query).value
    reader.agents.describe = None  # reading needs no more
    assert torch.equal(reader(frames, case.query).value, first)
