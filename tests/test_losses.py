"""Losses against loops, their edges and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F

from tmrn_edu.losses import bootstrapped_cross_entropy, dice_loss, hard_share, readout_mask_loss


def logits_and_labels(dtype=torch.float64):
    return torch.randn(2, 4, 6, 8, dtype=dtype), torch.randint(0, 4, (2, 6, 8))


@pytest.mark.parametrize("share", [1.0, 0.5, 0.15, 1e-6])
def test_bootstrapped_cross_entropy_against_the_loop(share):
    logits, labels = logits_and_labels()
    losses = []
    for b in range(2):
        pixels = [-float(logits[b, :, y, x].log_softmax(0)[labels[b, y, x]]) for y in range(6) for x in range(8)]
        losses += sorted(pixels, reverse=True)[: max(1, int(share * 48))]
    found = bootstrapped_cross_entropy(logits, labels, share)
    assert math.isclose(found, sum(losses) / len(losses), rel_tol=1e-9)
    if share == 1.0:
        torch.testing.assert_close(found, F.cross_entropy(logits, labels))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, math.nan])
def test_impossible_share(share):
    with pytest.raises(ValueError, match=f"share of hard pixels is {share}, expected more than 0 and at most 1"):
        bootstrapped_cross_entropy(*logits_and_labels(), share)


def test_hard_share_falls_linearly():
    assert [hard_share(step, 10, 20, 0.2) for step in (0, 9, 10)] == [1.0, 1.0, 1.0]
    assert math.isclose(hard_share(15, 10, 20, 0.2), 0.6)
    assert [hard_share(step, 10, 20, 0.2) for step in (20, 99)] == [0.2, 0.2]
    assert hard_share(5, 5, 5, 0.3) == 0.3


def test_dice():
    truth = (torch.rand(2, 3, 6, 8) < 0.3).double()
    assert float(dice_loss(truth, truth)) == 0
    found = torch.rand(2, 3, 6, 8, dtype=torch.float64)
    loop = [
        1 - (2 * float((found[b, o] * truth[b, o]).sum()) + 1) / (float(found[b, o].sum() + truth[b, o].sum()) + 1)
        for b in range(2)
        for o in range(3)
    ]
    assert math.isclose(dice_loss(found, truth), sum(loop) / 6, rel_tol=1e-9)
    empty = torch.zeros(2, 3, 6, 8)
    assert float(dice_loss(empty, empty)) == 0 and float(dice_loss(1 - empty, empty)) == pytest.approx(1 - 1 / 49)


def test_readout_mask():
    truth = torch.zeros(1, 1, 8, 12)
    truth[..., 2:6, :4] = 1
    pooled = torch.tensor([[0.5, 0, 0], [0.5, 0, 0]]).reshape(1, 1, 2, 3)
    read = torch.rand(1, 1, 2, 3)
    expected = F.binary_cross_entropy(read.clamp(1e-3, 1 - 1e-3), pooled)
    torch.testing.assert_close(readout_mask_loss(read, truth), expected)
    wrong = torch.tensor([-0.1, 1.2, 1, 1, 1, 1]).reshape(1, 1, 2, 3)  # rounding may leave [0, 1]
    assert torch.isfinite(readout_mask_loss(wrong, truth))


def test_gradients():
    logits, labels = logits_and_labels()
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: bootstrapped_cross_entropy(x, labels, 0.3), (logits,))
    p = (torch.rand(1, 2, 4, 4, dtype=torch.float64) * 0.9 + 0.05).requires_grad_()
    truth = (torch.rand(1, 2, 4, 4) < 0.5).double()
    assert torch.autograd.gradcheck(lambda p: dice_loss(p, truth), (p,))
    assert torch.autograd.gradcheck(lambda p: readout_mask_loss(p[..., :2, :2], truth), (p,))
