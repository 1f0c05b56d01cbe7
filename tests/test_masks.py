"""Index masks, object masks, soft aggregation, padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tmrn_edu.masks import (
    index_to_object_masks,
    others_mask,
    pad_to_stride,
    probabilities_to_index_mask,
    soft_aggregation,
    soft_aggregation_logits,
    unpad,
)


def test_object_masks_follow_the_ids_asked_for():
    index = torch.tensor([[0, 3, 255], [200, 3, 1]], dtype=torch.uint8)
    masks = index_to_object_masks(index, (200, 3))
    assert masks.shape == (2, 2, 3) and masks.dtype == torch.float32
    assert masks[0].tolist() == [[0, 0, 0], [1, 0, 0]]
    assert masks[1].tolist() == [[0, 1, 0], [0, 1, 0]]  # void and label 1 are background
    assert index_to_object_masks(index.int().expand(4, 5, 2, 3), (1,)).shape == (4, 5, 1, 2, 3)
    assert index_to_object_masks(index, ()).shape == (0, 2, 3)


def test_index_mask_and_back():
    index = torch.randint(0, 4, (2, 6, 8))
    ids = (7, 200, 255 - 1)
    named = torch.tensor((0, *ids), dtype=torch.uint8)[index]
    objects = index_to_object_masks(named, ids)
    probabilities = torch.cat([1 - objects.sum(1, keepdim=True), objects], dim=1)
    found = probabilities_to_index_mask(probabilities, ids)
    assert found.dtype == torch.uint8 and torch.equal(found, named)
    assert probabilities_to_index_mask(torch.ones(1, 6, 8), ()).max() == 0


def test_others_mask_is_the_sum_of_the_others():
    masks = torch.rand(2, 3, 6, 8, dtype=torch.float64)
    for o in range(3):
        loop = sum(masks[:, p] for p in range(3) if p != o)
        torch.testing.assert_close(others_mask(masks)[:, o], loop)
    assert others_mask(masks[:, :1]).abs().max() == 0


def test_soft_aggregation_is_normalised_odds():
    p = torch.rand(2, 3, 6, 8, dtype=torch.float64) * 0.98 + 0.01
    background = (1 - p[:, 0]) * (1 - p[:, 1]) * (1 - p[:, 2])
    odds = torch.stack([x / (1 - x) for x in (background, *p.unbind(1))], dim=1)
    torch.testing.assert_close(soft_aggregation(p), odds / odds.sum(dim=1, keepdim=True))
    torch.testing.assert_close(soft_aggregation_logits(p), odds.log())
    one = soft_aggregation(p[:, :1])[:, 1]
    torch.testing.assert_close(one, p[:, 0] ** 2 / (p[:, 0] ** 2 + (1 - p[:, 0]) ** 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_soft_aggregation_at_the_edges(dtype):
    certain = torch.tensor([0.0, 1.0, 1e-30, 0.5], dtype=dtype).reshape(1, 1, 2, 2)
    p = torch.cat([certain, torch.zeros_like(certain), certain], dim=1)  # the second object is empty
    labels = soft_aggregation(p)
    assert labels.dtype == torch.float32 and torch.isfinite(soft_aggregation_logits(p)).all()
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(1, 2, 2))
    assert labels[0, 0, 0, 0] > 0.999 and labels[0, 2].amax() < 0.51  # two certain objects share the pixel


def test_soft_aggregation_gradient():
    p = (torch.rand(1, 3, 2, 2, dtype=torch.float64) * 0.9 + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(soft_aggregation, (p,))


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 4, 16]))
def test_pad_then_unpad_is_the_identity(height, width, stride):
    image = torch.randint(0, 255, (2, height, width), dtype=torch.uint8)
    padded, padding = pad_to_stride(image, stride)
    assert padded.shape[-2] % stride == padded.shape[-1] % stride == 0
    assert padded.shape[-2] - height < stride and padded.shape[-1] - width < stride
    assert 0 <= padding.bottom - padding.top <= 1 and 0 <= padding.right - padding.left <= 1
    assert torch.equal(unpad(padded, padding), image)
    assert padded.long().sum() == image.long().sum()  # zeros were added
