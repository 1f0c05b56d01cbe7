"""Checkers of notebook 03: worked answers pass, and each common mistake is met with its own sentence."""

import pytest
import torch
from einops import einsum, rearrange, reduce, repeat

from tmrn_edu.check import aggregation


def positions(height, width):
    y = repeat(torch.arange(height).float(), "h -> h w", w=width)
    x = repeat(torch.arange(width).float(), "w -> h w", h=height)
    return rearrange([y, x], "yx h w -> (h w) yx")


def trajectory(affinity, height, width):
    path = einsum(affinity, positions(height, width), "b t m q, m yx -> b t yx q")
    return rearrange(path, "b t yx (h w) -> b t yx h w", h=height)


def pool(score, aligned_value):
    return einsum(score.softmax(dim=1), aligned_value, "b t q, b o t cv q -> b o cv q")


def chained_score(similarity, centre, beta, gap, height, width):
    away = rearrange(positions(height, width), "m yx -> m yx 1") - rearrange(centre, "b yx q -> b 1 yx q")
    return similarity - beta / gap * reduce(away**2, "b m yx q -> b m q", "sum")


ANSWERS = {"trajectory": trajectory, "pool": pool, "chained_score": chained_score}


@pytest.mark.parametrize("name", ANSWERS)
def test_worked_answers_pass(name, capsys):
    assert getattr(aggregation, name)(ANSWERS[name])
    assert capsys.readouterr().out.startswith("passed: ")


@pytest.mark.parametrize("name", ANSWERS)
def test_empty_functions_do_not(name, capsys):
    def stub(*_):
        raise NotImplementedError

    assert not getattr(aggregation, name)(stub)
    assert capsys.readouterr().out == "not yet: the function is still empty\n"


def best_match(affinity, height, width):
    m = rearrange(affinity.argmax(dim=2), "b t (h w) -> b t h w", h=height)
    return torch.stack([m // width, m % width], dim=2)


def cut_by_height(affinity, height, width):
    m = torch.arange(height * width)
    path = einsum(affinity, torch.stack([m // height, m % height], dim=1).float(), "b t m q, m yx -> b t yx q")
    return rearrange(path, "b t yx (h w) -> b t yx h w", h=height)


def transposed(path):
    return rearrange(rearrange(path, "b t yx h w -> b t yx (h w)"), "b t yx (w h) -> b t yx h w", h=path.shape[3])


@pytest.mark.parametrize(
    "name, wrong, advice",
    [
        ("trajectory", lambda a, h, w: trajectory(a, h, w).flip(2), "(x, y)"),
        ("trajectory", best_match, "best match alone"),
        ("trajectory", lambda a, h, w: trajectory(rearrange(a, "b t m q -> b t q m"), h, w), "sum over q"),
        ("trajectory", lambda a, h, w: trajectory(a, h, w)[:, 0], "expected b t 2 h w = ("),
        ("trajectory", cut_by_height, "y = m // width"),
        ("trajectory", lambda a, h, w: cut_by_height(a, h, w).flip(2), "y = m // width"),
        ("trajectory", lambda a, h, w: transposed(trajectory(a, h, w)), "the flat axis q is (h w)"),
        ("trajectory", lambda a, h, w: trajectory(a, 24, w), "take them from the arguments"),
        ("pool", lambda s, v: v.mean(dim=2), "plain mean"),
        ("pool", lambda s, v: einsum(s, v, "b t q, b o t cv q -> b o cv q"), "a softmax over t"),
        ("pool", lambda s, v: einsum(s.softmax(2), v, "b t q, b o t cv q -> b o cv q"), "chooses among frames"),
        (
            "pool",
            lambda s, v: einsum(s.exp() / s.exp().sum(1, keepdim=True), v, "b t q, b o t cv q -> b o cv q"),
            "NaN",
        ),
        ("chained_score", lambda s, c, b, g, h, w: chained_score(s, c, -b, g, h, w), "the sign"),
        ("chained_score", lambda s, c, b, g, h, w: chained_score(s, c, b, 1, h, w), "divide by the gap"),
        ("chained_score", lambda s, c, b, g, h, w: chained_score(s, c, b * g, 1, h, w), "divide by the gap"),
        ("chained_score", lambda s, c, b, g, h, w: chained_score(s, c.flip(1), b, g, h, w), "exchanged"),
        (
            "chained_score",
            lambda s, c, b, g, h, w: chained_score(s, c, b, g, h, w) + b / g * (c**2).sum(1)[:, None],
            "evidence",
        ),
        (
            "chained_score",
            lambda s, c, b, g, h, w: s - b / g * (chained_score(0 * s, c, -1, 1, h, w)).sqrt(),
            "its square",
        ),
    ],
)
def test_mistakes_are_named(name, wrong, advice, capsys):
    assert not getattr(aggregation, name)(wrong)
    said = capsys.readouterr().out
    assert said.startswith("not yet: ") and advice in said
