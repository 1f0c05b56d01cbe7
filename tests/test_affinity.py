"""Weights over memory pixels: sums, top-k, extreme scores, and one frame at a time against all at once."""

import pytest
import torch
from einops import einsum, rearrange

from tmrn_edu.memory.affinity import (
    RunningTopK,
    frame_affinity,
    frame_top_k,
    share_top_k,
    softmax_over_frame,
    softmax_over_memory,
)

T, M, Q, C = 4, 11, 9, 7


def scores(dtype=torch.float64, **options):
    return torch.randn(2, T, M, Q, dtype=dtype, **options)


def merged(score, values, top_k=None, running=False):
    """The read as readers do it: frame by frame, joined by evidence. `running`: one search through all frames."""
    search = RunningTopK(top_k or 1)
    parts = []
    for t in range(score.shape[1]):
        if top_k is None:
            parts.append(frame_affinity(score[:, t].clone()))
        else:
            parts.append(search.add(score[:, t]) if running else frame_top_k(score[:, t], top_k))
    parts = parts if top_k is None else share_top_k(parts, top_k)
    shares = torch.stack([part.evidence for part in parts], dim=1).softmax(dim=1)
    aligned = torch.stack([part.read(values[:, t]) for t, part in enumerate(parts)], dim=1)
    weights = torch.stack([part.dense(score.shape[2]) for part in parts], dim=1) * rearrange(shares, "b t q -> b t 1 q")
    return einsum(shares, aligned, "b t q, b t c q -> b c q"), weights


def test_softmax_over_frame_and_over_memory():
    s = scores()
    frame, memory = softmax_over_frame(s), softmax_over_memory(s)
    torch.testing.assert_close(frame.sum(2), torch.ones_like(frame[:, :, 0]))
    torch.testing.assert_close(memory.sum((1, 2)), torch.ones_like(memory[:, 0, 0]))
    torch.testing.assert_close(memory, s.exp() / s.exp().sum((1, 2), keepdim=True))
    torch.testing.assert_close(frame, s.exp() / s.exp().sum(2, keepdim=True))


@pytest.mark.parametrize("top_k", [1, 3, M - 1])
def test_top_k_keeps_exactly_k_also_among_ties(top_k):
    for s in (scores(), torch.zeros(2, T, M, Q), scores().round()):
        frame, memory = softmax_over_frame(s, top_k), softmax_over_memory(s, top_k)
        assert ((frame > 0).sum(2) == top_k).all()
        assert ((memory > 0).sum((1, 2)) == top_k).all()
        torch.testing.assert_close(memory.sum((1, 2)), torch.ones_like(memory[:, 0, 0]))


def test_top_k_of_everything_is_the_full_softmax():
    s = scores()
    for k in (M, M + 5):
        assert torch.equal(softmax_over_frame(s, k), softmax_over_frame(s))
    for k in (T * M, T * M + 5):
        assert torch.equal(softmax_over_memory(s, k), softmax_over_memory(s))


@pytest.mark.parametrize("softmax", [softmax_over_frame, softmax_over_memory])
def test_top_k_below_one(softmax):
    with pytest.raises(ValueError, match="top_k is 0, expected None .* or at least 1"):
        softmax(scores(), 0)


SEARCHES = [(None, False), (1, False), (3, False), (M, False), (T * M, False)] + [
    (k, True) for k in (1, 3, M, M + 2, 2 * M, T * M, T * M + 1)
]


@pytest.mark.parametrize("top_k, running", SEARCHES)
def test_one_frame_at_a_time_equals_all_at_once(top_k, running):
    s, values = scores(requires_grad=True), torch.randn(2, T, C, M, dtype=torch.float64, requires_grad=True)
    read, weights = merged(s, values, top_k, running)
    dense = softmax_over_memory(s, top_k)
    expected = einsum(values, dense, "b t c m, b t m q -> b c q")
    torch.testing.assert_close(weights, dense)
    torch.testing.assert_close(read, expected)
    w = torch.randn_like(read)
    for ours, theirs in zip(*(torch.autograd.grad((w * r).sum(), (s, values)) for r in (read, expected)), strict=True):
        assert torch.isfinite(ours).all()
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("top_k, running", [(None, False), (3, False), (3, True), (M + 2, True)])
@pytest.mark.parametrize("size", [-1e4, 200.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_of_any_size(size, top_k, running, dtype):
    """Evidence is as large as the scores, so a frame's share is as exact as a score of that size can be stored, no better."""
    s = (scores(dtype) + size).requires_grad_()
    values = torch.randn(2, T, C, M, dtype=dtype)
    read, weights = merged(s, values, top_k, running)
    dense = einsum(values, softmax_over_memory(s, top_k), "b t c m, b t m q -> b c q")
    torch.testing.assert_close(read, dense, rtol=0, atol=8 * abs(size) * torch.finfo(dtype).eps)
    assert torch.isfinite(torch.autograd.grad(read.square().sum(), s)[0]).all()
    apart = scores(dtype)
    apart[:, 1], apart[:, 2] = apart[:, 1] - 1e4, apart[:, 2] + 200
    read, weights = merged(apart, values, top_k, running)
    assert torch.isfinite(read).all() and weights[:, 1].abs().max() == 0
    torch.testing.assert_close(weights[:, 2].sum(1), torch.ones(2, Q, dtype=dtype))


@pytest.mark.parametrize("pixels", [M, 70])  # 70: short rows, which the search fills up to 64 k
@pytest.mark.parametrize("level", [-1e4, 0.0])
def test_running_top_k_against_one_search_over_all(pixels, level):
    """Exactly k, the same as one search over (t m) finds; among ties others may be taken, with the same weights."""
    values = torch.randn(2, T, C, pixels, dtype=torch.float64)
    for s in (torch.randn(2, T, pixels, Q, dtype=torch.float64), torch.randn(2, T, pixels, Q).round().double()):
        read, weights = merged(s + level, values, 2, running=True)
        assert ((weights > 0).sum((1, 2)) == 2).all()
        expected = softmax_over_memory(s + level, 2)
        best = rearrange(weights, "b t m q -> b (t m) q").topk(2, dim=1).values
        torch.testing.assert_close(best, rearrange(expected, "b t m q -> b (t m) q").topk(2, dim=1).values)
        if (s != s.round()).any():  # no ties
            torch.testing.assert_close(weights, expected)
        torch.testing.assert_close(read, einsum(weights, values, "b t m q, b t c m -> b c q"))
        least = (s + level).where(weights > 0, torch.inf).amin((1, 2))
        torch.testing.assert_close(least, rearrange(s + level, "b t m q -> b (t m) q").topk(2, dim=1).values[:, -1])


def test_running_top_k_drops_what_earlier_frames_beat():
    """The first frame's best stay ahead; of the second only what beats the worst of them is kept, and nothing of the third."""
    search = RunningTopK(2)
    column = lambda *scores: rearrange(torch.tensor(scores), "m -> 1 m 1")
    first, second, third = (search.add(column(*s)) for s in ((5.0, 1.0, 3.0), (0.0, 4.0), (2.0, 3.5, 3.75, -1.0)))
    assert sorted(first.position[0, :, 0].tolist()) == [0, 2]
    assert second.position[0, :, 0][second.score[0, :, 0] == 4.0].tolist() == [1]
    assert (second.score == -torch.inf).sum() == 1 and (third.score == -torch.inf).all()
    for part, pixels in ((second, 2), (third, 4)):
        assert part.position.min() >= 0 and part.position.max() < pixels
    assert [len(part.score[part.score > -torch.inf]) for part in share_top_k([first, second, third], 2)] == [1, 1, 0]


def test_evidence_is_the_logsumexp():
    s = scores()[:, 0]
    torch.testing.assert_close(frame_affinity(s.clone()).evidence, s.logsumexp(1))
    torch.testing.assert_close(frame_top_k(s, M).evidence, s.logsumexp(1))
    torch.testing.assert_close(frame_top_k(s, 3).evidence, s.topk(3, dim=1).values.logsumexp(1))


def test_a_frame_without_a_kept_pixel_reads_zeros():
    s = scores()
    s[:, 2] -= 100
    part = share_top_k([frame_top_k(s[:, t], 3) for t in range(T)], 3)[2]
    assert (part.evidence == -torch.inf).all()
    assert part.weights.abs().max() == 0 and part.dense(M).abs().max() == 0
    assert part.read(torch.randn(2, C, M, dtype=torch.float64)).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_values(dtype):
    """Weights of float32 on values in half precision; 2000 equal weights on values of 100 must not overflow on the way."""
    score, values = torch.zeros(1, 2000, 3), torch.full((1, 5, 2000), 100.0)
    for part in (frame_affinity(score.clone()), frame_top_k(score, 2000), frame_top_k(score, 20)):
        read = part.read(values.to(dtype))
        assert read.dtype == dtype
        torch.testing.assert_close(read.float(), torch.full((1, 5, 3), 100.0), rtol=0.02, atol=0)  # bfloat16: 3 digits


@pytest.mark.parametrize(
    "make", [lambda s: frame_affinity(s * 1), lambda s: frame_top_k(s, 3), lambda s: frame_top_k(s, 99)]
)
def test_gradients_of_a_frame(make):
    s = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    field = torch.randn(2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, field: make(s).read(field), (s, field))
    assert torch.autograd.gradcheck(lambda s: (make(s).evidence, make(s).dense(5)), (s,))
