"""Checkers of notebooks 00 and 01: stubs, right answers, the mistakes they know, and whatever else a reader may hand in."""

import pytest
import torch
from einops import einsum, rearrange, reduce

from tmrn_edu import check
from tmrn_edu.check.trial import random_tensors, trial


def said(capsys) -> str:
    """The one line that a checker printed."""
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return lines[0]


def rows(memory_key, query_key):
    return rearrange(memory_key, "b t ck h w -> b t (h w) ck"), rearrange(query_key, "b ck h w -> b (h w) ck")


def distances(memory_key, query_key):
    """By subtraction, pair by pair: another way than the package's and the checker's."""
    memory, query = rows(memory_key, query_key)
    difference = rearrange(memory, "b t m ck -> b t m 1 ck") - rearrange(query, "b q ck -> b 1 1 q ck")
    return reduce(difference**2, "b t m q ck -> b t m q", "sum")


def root(query_key):
    return query_key.shape[1] ** 0.5


def overlap(memory_key, query_key):
    return einsum(*rows(memory_key, query_key), "b t m ck, b q ck -> b t m q")


def weights(similarity):
    exponential = (similarity - similarity.amax(dim=(1, 2), keepdim=True)).exp()
    return exponential / reduce(exponential, "b t m q -> b 1 1 q", "sum")


def iou(prediction, truth):
    union = int((prediction | truth).sum())
    return int((prediction & truth).sum()) / union if union else 1


def cell_by_cell(affinity, height, width):
    """With loops, over the grid instead of over m."""
    answer = torch.zeros(len(affinity), 2, dtype=torch.long)
    for t, weights in enumerate(rearrange(affinity, "t (h w) -> t h w", h=height)):
        cells = [(float(weights[y, x]), y, x) for y in range(height) for x in range(width)]
        answer[t] = torch.tensor(max(cells)[1:])
    return answer


def rows_of(length, affinity):
    m = affinity.argmax(dim=1)
    return torch.stack([m // length, m % length], dim=1)


def mean_position(affinity, height, width):
    weights = rearrange(affinity, "t (h w) -> t h w", h=height)
    y = einsum(weights, torch.arange(height).float(), "t h w, h -> t")
    x = einsum(weights, torch.arange(width).float(), "t h w, w -> t")
    return torch.stack([y, x], dim=1)


RIGHT = {
    "intersection_over_union": [iou, lambda p, t: torch.tensor(iou(p, t))],
    "best_cells": [cell_by_cell, lambda a, h, w: rows_of(w, a), lambda a, h, w: rows_of(w, a).float()],
    "squared_l2": [lambda m, q: -distances(m, q) / root(q)],
    "space_time_weights": [weights],
    "frame_shares": [
        lambda s: s.logsumexp(dim=2).softmax(dim=1),
        lambda s: reduce(weights(s), "b t m q -> b t q", "sum"),
    ],
}

WRONG = {
    "intersection_over_union": [
        (lambda p, t: (p == t).float().mean(), "share of pixels that agree"),
        (lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()), "Dice"),
        (lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()).clamp(min=1), "Dice"),
        (lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()) if p.any() or t.any() else 1.0, "Dice"),
        (lambda p, t: (p & t).sum() / (p.sum() + t.sum()) if p.any() or t.any() else 1.0, "counts the overlap twice"),
        (lambda p, t: (p & t).sum() / (p | t).sum(), "not 0 / 0"),
        (lambda p, t: (p & t).sum() / (p | t).sum().clamp(min=1), "J = 1 there, not 0"),
    ],
    "best_cells": [
        (lambda a, h, w: rows_of(w, a).flip(1), "that is (x, y)"),
        (lambda a, h, w: rows_of(h, a), "divide by the width"),
        (lambda a, h, w: rows_of(h, a).flip(1), "y = m // width"),
        (lambda a, h, w: torch.stack([a.argmax(dim=1) / w, a.argmax(dim=1) % w], dim=1), "whole rows"),
        (lambda a, h, w: rows_of(w, a) + 1, "from 0"),
        (lambda a, h, w: torch.tensor([divmod(int(a.argmax()) % (h * w), w)] * len(a)), "of all frames together"),
        (lambda a, h, w: rows_of(w, -a), "smallest weight"),
        (mean_position, "mean position"),
        (lambda a, h, w: rearrange(rows_of(w, a), "t yx -> yx t"), "expected t 2 = ("),
        (lambda a, h, w: rows_of(w, a.T), "expected t 2 = ("),
    ],
    "squared_l2": [
        (lambda m, q: distances(m, q) / root(q), "minus it"),
        (lambda m, q: -distances(m, q), "sqrt(ck)"),
        (lambda m, q: -distances(m, q).sqrt() / root(q), "squares it"),
        (
            lambda m, q: (reduce(q**2, "b ck h w -> b 1 1 (h w)", "sum") - distances(m, q)) / root(q),
            "up to |query|^2",
        ),
        (lambda m, q: overlap(m, q) / root(q), "dot product of STM"),
        (lambda m, q: rearrange(-distances(m, q), "b t m q -> b t q m"), "expected b t m q = ("),
        (
            lambda m, q: rearrange(-distances(m, q) / root(q), "b t m q -> b t q m"),
            "yours is b t q m, expected b t m q",
        ),
        (lambda m, q: -distances(m, q) / 32**0.5, "the lesson's 32 channels"),
        (lambda m, q: -distances(m, q) / 5, "a factor that differs from case to case: if a size is written"),
        (lambda m, q: distances(m, -q) / root(q), "both squares are subtracted"),
        (lambda m, q: -distances(m, -q) / root(q), "the dot product is added"),
    ],
    "space_time_weights": [
        (lambda s: s.softmax(dim=2), "over m in every frame"),
        (lambda s: s.softmax(dim=3), "over q"),
        (lambda s: s.softmax(dim=1), "over t;"),
        (lambda s: s.softmax(dim=0), "batch"),
        (lambda s: s.exp() / s.exp().sum(dim=(1, 2), keepdim=True), "overflows"),
        (lambda s: rearrange(s, "b t m q -> b (t m) q").softmax(dim=1), "expected b t m q = ("),
        (lambda s: s, "at (b, t, m, q) = (0, 0, 1, 0) it gives "),
    ],
    "frame_shares": [
        (lambda s: s.logsumexp(dim=2), "evidence"),
        (lambda s: s.amax(dim=2).softmax(dim=1), "best pixel alone"),
        (lambda s: s.mean(dim=2).softmax(dim=1), "sum after the softmax"),
        (lambda s: s.sum(dim=2).softmax(dim=1), "sum after the softmax"),
        (lambda s: weights(s).mean(dim=2), "not a mean"),
        (lambda s: s.softmax(dim=2).sum(dim=2), "it gives 1, expected 0."),
        (lambda s: s.exp().sum(dim=2).log().softmax(dim=1), "exp, sum and log in one is logsumexp"),
        (lambda s: s.exp().sum(dim=2) / s.exp().sum(dim=(1, 2))[:, None], "take the softmax of logsumexp"),
    ],
}


@pytest.mark.parametrize("name, answer", [(name, answer) for name, answers in RIGHT.items() for answer in answers])
def test_right_answers_pass(name, answer, capsys):
    assert getattr(check, name)(answer) is True
    assert said(capsys).startswith("passed: ")


@pytest.mark.parametrize("name, answer, advice", [(name, *pair) for name, pairs in WRONG.items() for pair in pairs])
def test_known_mistakes_are_named(name, answer, advice, capsys):
    assert getattr(check, name)(answer) is False
    line = said(capsys)
    assert line.startswith("not yet: ") and advice in line


@pytest.mark.parametrize("name", RIGHT)
def test_a_stub_gets_a_fixed_line(name, capsys):
    def stub(*arguments):
        raise NotImplementedError

    assert getattr(check, name)(stub) is False
    assert said(capsys) == "not yet: the function is still empty"


def test_whatever_an_answer_does_is_one_line(capsys):
    def overwrites(x):
        return x.mul_(2)

    def fails(x):
        raise IndexError("position 7\nof 5")

    (x,) = random_tensors((2, 3))
    kept = x.clone()
    for answer, line in [
        (overwrites, "passed: doubled"),
        (lambda x: x, "for x of shape (2, 3) the shape is right, but at (a, b) = (0, 2) it gives "),
        (fails, "not yet: for x of shape (2, 3) it raises IndexError: position 7 (line 2 of your function)"),
        (lambda x: None, "not yet: it returns None; is there a return?"),
        (lambda x: "six", "not yet: it returns a str, expected a tensor"),
        (lambda x: x[0], "not yet: for x of shape (2, 3) it returns the shape (3,), expected a b = (2, 3)"),
        (
            lambda x: x * torch.nan,
            "not yet: for x of shape (2, 3) it returns NaN or infinite values: at (a, b) = (0, 0) it gives nan, expected ",
        ),
        (lambda x: (2 * x).requires_grad_(), "passed: doubled"),
    ]:
        assert trial(answer, lambda x: 2 * x, [(x,)], passed="doubled", axes="a b") == line.startswith("passed")
        assert line in said(capsys)
    torch.testing.assert_close(x, kept, rtol=0, atol=0)  # an answer works on copies


def test_random_tensors_leave_the_readers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = random_tensors((2, 3), (4,), seed=1)
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(first, random_tensors((2, 3), seed=1)[0]) and second.shape == (4,)
