"""Pooling over time: the running average, and the learned scores along a trajectory."""

import math

import pytest
import torch

from tmrn_edu.memory.aggregation import AgeBias, RunningAverage, TrajectoryAttention

B, T, C, Q = 2, 4, 7, 9


def pool(scores, values):
    pooled = RunningAverage()
    for t in range(scores.shape[1]):
        pooled.add(scores[:, t], values[:, t])
    return pooled


def softmax_pool(scores, values):
    return (scores.softmax(1).unsqueeze(2) * values).sum(1)


def test_running_average_is_the_softmax_average_at_every_step():
    scores, values = 3 * torch.randn(B, T, Q, dtype=torch.float64), torch.randn(B, T, C, Q, dtype=torch.float64)
    for t in range(1, T + 1):
        pooled = pool(scores[:, :t], values[:, :t])
        torch.testing.assert_close(pooled.mean, softmax_pool(scores[:, :t], values[:, :t]))
        torch.testing.assert_close(pooled.log_total, scores[:, :t].logsumexp(1))


def test_running_average_does_not_depend_on_the_order():
    scores, values = 3 * torch.randn(B, T, Q, dtype=torch.float64), torch.randn(B, T, C, Q, dtype=torch.float64)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(pool(scores[:, order], values[:, order]).mean, pool(scores, values).mean)


@pytest.mark.parametrize("size", [-1e4, 200.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_running_average_of_any_size(size, dtype):
    """Exact but for the rounding of a score of that size."""
    scores, values = torch.randn(B, T, Q, dtype=dtype) + size, torch.randn(B, T, C, Q, dtype=dtype)
    tolerance = {"rtol": 0, "atol": 8 * abs(size) * torch.finfo(dtype).eps}
    torch.testing.assert_close(pool(scores, values).mean, softmax_pool(scores, values), **tolerance)


def test_a_score_of_minus_infinity_changes_nothing():
    scores, values = torch.randn(B, T, Q), torch.randn(B, T, C, Q)
    for t in (0, 1, 3):
        some = scores.clone()
        some[:, t] = -torch.inf
        kept = [i for i in range(T) if i != t]
        torch.testing.assert_close(pool(some, values).mean, softmax_pool(scores[:, kept], values[:, kept]))
    some[:, 1:] = -torch.inf
    assert torch.equal(pool(some, values).mean, values[:, 0])


def test_running_average_gradients():
    scores = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    values = torch.randn(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, v: pool(s, v).mean, (scores, values))


def test_attention_against_the_loop():
    ck, cv, o = 5, 7, 3
    attention = TrajectoryAttention(ck, cv, width=6).double()
    query, value, key = (
        torch.randn(B, ck, Q).double(),
        torch.randn(B, o, cv, Q).double(),
        torch.randn(B, ck, Q).double(),
    )
    found = attention(query, value, key)
    for b in range(B):
        for q in range(Q):
            counterpart = torch.cat([value[b, :, :, q].mean(0), key[b, :, q]])
            expected = (attention.query.weight @ query[b, :, q]) @ (attention.key.weight @ counterpart) / math.sqrt(6)
            torch.testing.assert_close(found[b, q], expected)
    zero = TrajectoryAttention(ck, cv, zero=True).double()
    assert zero(query, value, key).abs().max() == 0
    zero(query, value, key).sum().backward()
    assert zero.key.weight.grad.abs().max() > 0  # it can leave zero


def test_age_bias():
    bias = AgeBias().requires_grad_(False)
    assert float(bias(5, True)) == 0
    trusting = AgeBias(trust=2.0).requires_grad_(False)
    assert float(trusting(5, True)) == 2 and float(trusting(5, False)) == 0
    torch.nn.init.constant_(bias.age, -2.0)
    torch.nn.init.constant_(bias.exact, 0.5)
    assert math.isclose(float(bias(5, False)), -2 * math.log(6), rel_tol=1e-6)
    assert math.isclose(float(bias(-5, True)), 0.5 - 2 * math.log(6), rel_tol=1e-6)
