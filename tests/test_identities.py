"""The identities of the method, on whole readers: values and gradients against the plain einsum.

Identities of single steps are beside their files: 3 (directions, signs) in test_similarity and test_agents, 4 (the query's square) in
test_similarity, 5 (soft aggregation, padding, top-k) in test_masks and test_affinity.
"""

from functools import partial

import pytest
import torch
from memories import CK, CV, INDICES, B, Case, H, O, T, W

from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader, anisotropic_l2, dot_product, negative_squared_l2

ALL = (dot_product, negative_squared_l2, anisotropic_l2)
TOP_K = (None, 1, 4, H * W, T * H * W, T * H * W + 1)


def space_time(similarity=negative_squared_l2, top_k=None):
    return SpaceTimeReader(similarity, top_k).double().eval()


def warm(similarity=negative_squared_l2, top_k=None, make=TrajectoryReader.warm, **options):
    return make(CK, CV, similarity=similarity, top_k=top_k, agents=4, **options).double().eval()


def presets():
    yield space_time()
    yield warm(make=TrajectoryReader.paper)
    yield warm()
    yield warm(make=TrajectoryReader.chained)
    yield warm(make=TrajectoryReader.tracking)


def woken(reader):
    """A reader whose learned scalars and zero weights do something."""
    for name, parameter in reader.named_parameters():
        if parameter.numel() == 1 and "log_tau" not in name:
            torch.nn.init.constant_(parameter, 0.3)
        elif not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return reader


def assert_same(case, ours, theirs):
    torch.testing.assert_close(ours, theirs)
    for x, y in zip(case.gradients(ours), case.gradients(theirs), strict=True):
        assert torch.isfinite(x).all()
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("top_k", TOP_K)
@pytest.mark.parametrize("similarity", ALL)
def test_1_space_time_read_frame_by_frame(similarity, top_k):
    """Per-frame softmax, then softmax over t of the evidence = the softmax over (t m), with the k best over all (t m) too."""
    case = Case(gradients=True)
    assert_same(case, case.read(space_time(similarity, top_k)).value, case.plain(similarity, top_k))


@pytest.mark.parametrize("top_k", TOP_K)
@pytest.mark.parametrize("similarity", ALL)
def test_1_warm_reader_is_the_space_time_read(similarity, top_k):
    """With lambda, attention (and beta and age) at zero TMRN's reader changes nothing."""
    case = Case(gradients=True)
    still = partial(
        TrajectoryReader.tracking, beta=0.0, trust=0.0
    )  # with nothing to hold it, motion and reach do nothing
    for make in (TrajectoryReader.warm, TrajectoryReader.chained, still):
        assert_same(
            case, case.read(warm(similarity, top_k, make)).value, case.read(space_time(similarity, top_k)).value
        )


@pytest.mark.parametrize("top_k", [1, 4, 4 * T, 2 * H * W])
def test_1_with_ties(top_k):
    """Equal keys with equal values: whichever of them top-k takes, the readout is the same, and exactly k are taken."""
    case = Case()
    case.keys[:] = case.keys[:, :1].round()
    case.values[:] = case.values[:, :, :1, :, :1, :1]
    for reader in (space_time(top_k=top_k), warm(top_k=top_k)):
        seen = case.read(reader, insides=True)
        torch.testing.assert_close(seen.value, case.plain(negative_squared_l2, top_k))
        joint = seen.insides.affinity * seen.insides.temporal_weights.unsqueeze(2)
        assert ((joint > 0).sum((1, 2)) == min(top_k, T * H * W)).all()


def test_1_share_of_a_frame():
    """Temporal weights of the space-time read = softmax over t of the logsumexp over m."""
    case = Case()
    seen = case.read(space_time(), insides=True).insides
    score = negative_squared_l2(case.keys, case.query_key)
    torch.testing.assert_close(seen.temporal_weights, score.logsumexp(2).softmax(1))
    torch.testing.assert_close(seen.affinity, score.softmax(2))


def test_1_in_training_and_in_float32():
    case = Case(gradients=True)
    assert_same(
        case, case.read(space_time(top_k=3).train()).value, case.plain(negative_squared_l2)
    )  # top-k is for inference
    single = Case(dtype=torch.float32)
    torch.testing.assert_close(
        single.read(TrajectoryReader.warm(CK, CV, agents=4)).value,
        single.plain(negative_squared_l2),
        rtol=1e-4,
        atol=1e-5,
    )


def test_2_one_frame_is_the_per_frame_softmax():
    """However frames are pooled, one frame has all the weight; without corrections that is the plain softmax over m."""
    case = Case(t=1, gradients=True)
    plain = case.plain(negative_squared_l2)
    assert_same(case, case.read(space_time()).value, plain)
    for make in (TrajectoryReader.paper, TrajectoryReader.warm, TrajectoryReader.chained, TrajectoryReader.tracking):
        reader = woken(warm(make=make))
        torch.nn.init.zeros_(reader.rectify)
        if reader.beta is not None:
            torch.nn.init.zeros_(reader.beta)
        assert_same(case, case.read(reader).value, plain)


@pytest.mark.parametrize("order", [(3, 1, 0, 2), (3, 2, 1, 0)])
def test_2_order_of_frames(order):
    """Readers sort by time themselves: the list's order never matters, with age and chaining neither."""
    case = Case(gradients=True)
    for reader in presets():
        woken(reader)
        assert_same(case, case.read(reader, order=order).value, case.read(reader).value)


def test_2_times_of_frames_do_not_matter_without_age():
    """Other frame numbers, other order in time: the same readout, unless age or chaining look at them."""
    case = Case(gradients=True)
    for reader in presets():
        woken(reader)
        stored = case.frames(reader)
        shuffled = [
            reader.store(f.key, f.value, i, f.exact, f.shrinkage)
            for f, i in zip(stored, reversed(INDICES), strict=True)
        ]
        before, after = reader(stored, case.query).value, reader(shuffled, case.query).value
        if reader.chained:
            assert (before - after).abs().max() > 1e-3
        else:
            assert_same(case, before, after)


def test_2_duplicate_frames_change_only_their_shared_weight():
    case = Case(gradients=True)
    for reader in (space_time(), warm(make=TrajectoryReader.paper), warm()):
        woken(reader)
        frames = case.frames(reader)
        all_twice = frames + [reader.store(f.key, f.value, f.index + 1, f.exact, f.shrinkage) for f in frames]
        assert_same(case, reader(all_twice, case.query).value, reader(frames, case.query).value)
        one_twice = frames + all_twice[T : T + 1]
        seen, single = (reader(memory, case.query, insides=True).insides for memory in (one_twice, frames))
        position = {index: i for i, index in enumerate(seen.memory_indices)}
        twin = seen.temporal_weights[:, position[0]], seen.temporal_weights[:, position[1]]
        torch.testing.assert_close(*twin)
        odds = single.temporal_weights[:, 0] * 2 / (1 + single.temporal_weights[:, 0])  # its odds double
        torch.testing.assert_close(twin[0] + twin[1], odds)


def test_sizes_all_differ():
    assert len({B, O, T, CK, CV, H, W}) == 7
