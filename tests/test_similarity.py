"""Similarities against loops, their gradients, and what a softmax does not see."""

import pytest
import torch
from einops import rearrange
from memories import CK, Case

from tmrn_edu.memory.similarity import anisotropic_l2, dot_product, negative_squared_l2

ALL = (dot_product, negative_squared_l2, anisotropic_l2)


def loop(similarity, key, query, shrinkage, selection):
    """One memory pixel and one query pixel at a time."""
    key, query, selection = (rearrange(x, "c h w -> (h w) c") for x in (key, query, selection))
    shrinkage = rearrange(shrinkage, "1 h w -> (h w)")
    score = torch.empty(len(key), len(query), dtype=key.dtype)
    for m in range(len(key)):
        for q in range(len(query)):
            if similarity is dot_product:
                score[m, q] = (key[m] * query[q]).sum()
            elif similarity is negative_squared_l2:
                score[m, q] = (query[q] ** 2).sum() - ((key[m] - query[q]) ** 2).sum()
            else:
                score[m, q] = -shrinkage[m] * (selection[q] * (key[m] - query[q]) ** 2).sum()
    return score / CK**0.5


@pytest.mark.parametrize("similarity", ALL)
def test_against_the_loop(similarity):
    case = Case(t=2, h=3, w=4)
    query = torch.randn(2, CK, 2, 5, dtype=torch.float64)  # the query's grid may be another one
    selection = torch.rand(2, CK, 2, 5, dtype=torch.float64)
    score = similarity(case.keys, query, case.shrinkage, selection)
    assert score.shape == (2, 2, 12, 10)
    for b in range(2):
        for t in range(2):
            expected = loop(similarity, case.keys[b, t], query[b], case.shrinkage[b, t], selection[b])
            torch.testing.assert_close(score[b, t], expected)
    one = similarity(case.keys[:, 1], query, case.shrinkage[:, 1], selection)
    torch.testing.assert_close(one, score[:, 1])
    assert score.stride()[-2] == one.stride()[-2] == 1  # each query pixel's scores lie side by side


@pytest.mark.parametrize("similarity", ALL)
def test_gradients(similarity):
    case = Case(t=2, h=2, w=3, gradients=True)
    assert torch.autograd.gradcheck(similarity, (case.keys, case.query_key, case.shrinkage, case.selection))


def test_anisotropic_without_extras_is_the_squared_distance():
    case = Case()
    plain = anisotropic_l2(case.keys, case.query_key)
    square = rearrange(case.query_key.square().sum(1), "b h w -> b 1 1 (h w)") / CK**0.5
    torch.testing.assert_close(plain, negative_squared_l2(case.keys, case.query_key) - square)
    assert plain.max() <= 1e-12
    ones = torch.ones_like
    torch.testing.assert_close(
        plain, anisotropic_l2(case.keys, case.query_key, ones(case.shrinkage), ones(case.selection))
    )


def test_the_query_s_square_matters_only_with_shrinkage():
    """Identity 4, values and gradients: a softmax over m does not see |query|^2, unless each m multiplies it by its own shrinkage."""
    case = Case(gradients=True)

    def squares(shrinkage, selection):
        scale = shrinkage if shrinkage is not None else torch.ones_like(case.shrinkage)
        square = ((1 if selection is None else selection) * case.query_key**2).sum(1) / CK**0.5
        return rearrange(scale, "b t 1 h w -> b t (h w) 1") * rearrange(square, "b h w -> b 1 1 (h w)")

    for shrinkage, selection, seen in (
        (None, None, False),
        (None, case.selection, False),
        (case.shrinkage, case.selection, True),
    ):
        score = anisotropic_l2(case.keys, case.query_key, shrinkage, selection)
        with_square = score.softmax(2)
        without = (score + squares(shrinkage, selection)).softmax(2)
        weights = torch.linspace(-1, 1, score.numel(), dtype=score.dtype).reshape(score.shape)
        inputs = (case.keys, case.query_key)
        gradients = [
            torch.autograd.grad((weights * w).sum(), inputs, retain_graph=True) for w in (with_square, without)
        ]
        same = torch.allclose(with_square, without, rtol=1e-9, atol=1e-12)
        same_gradient = all(torch.allclose(x, y, rtol=1e-8, atol=1e-11) for x, y in zip(*gradients, strict=True))
        assert (same, same_gradient) == (not seen, not seen)


def test_coordinates_along_orthonormal_directions_keep_the_dot_product():
    """Identity 3: as many directions as key channels reproduce it, fewer are an approximation that only gets better."""
    case = Case(gradients=True)
    directions = torch.linalg.qr(torch.randn(CK, CK, dtype=torch.float64)).Q
    whole = dot_product(case.keys, case.query_key)
    errors = []
    for count in range(1, CK + 1):
        rows = directions[:count] * (count / CK) ** 0.25  # the same division by sqrt(channels)
        keys = torch.einsum("n c, b t c h w -> b t n h w", rows, case.keys)
        query = torch.einsum("n c, b c h w -> b n h w", rows, case.query_key)
        reduced = dot_product(keys, query)
        errors.append(float((reduced - whole).detach().norm()))
    torch.testing.assert_close(reduced, whole)
    weights = torch.randn_like(whole)
    gradients = [torch.autograd.grad((weights * s).sum(), (case.keys, case.query_key)) for s in (whole, reduced)]
    for x, y in zip(*gradients, strict=True):
        torch.testing.assert_close(x, y)
    assert errors[-1] < 1e-9 < min(errors[:-1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("similarity", ALL)
def test_half_precision_is_finite(similarity, dtype):
    case = Case(dtype=torch.float32)
    score = similarity(*(x.to(dtype) for x in (case.keys, case.query_key, case.shrinkage, case.selection)))
    assert score.dtype == dtype and torch.isfinite(score).all()
