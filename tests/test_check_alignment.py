"""Checkers of notebook 02: worked answers pass, and each common mistake is met with its own sentence."""

import pytest
import torch
from einops import einsum, rearrange, reduce

from tmrn_edu.check import alignment


def align(affinity, field):
    rows = rearrange(field, "b t c h w -> b t c (h w)")
    return rearrange(
        einsum(affinity, rows, "b t m q, b t c m -> b t c q"), "b t c (h w) -> b t c h w", h=field.shape[-2]
    )


def rectified_affinity(similarity, correlation, rectify):
    return (similarity + rectify * torch.log(correlation + 1e-6)).softmax(dim=2)


def effective_agents(likelihood):
    share = reduce(likelihood, "b a m -> b a", "mean")
    return torch.where(share > 0, -share * share.clamp_min(1e-30).log(), 0.0).sum(dim=1).exp()


ANSWERS = {"align": align, "rectified_affinity": rectified_affinity, "effective_agents": effective_agents}


@pytest.mark.parametrize("name", ANSWERS)
def test_worked_answers_pass(name, capsys):
    assert getattr(alignment, name)(ANSWERS[name])
    assert capsys.readouterr().out.startswith("passed: ")


@pytest.mark.parametrize("name", ANSWERS)
def test_empty_functions_do_not(name, capsys):
    def stub(*_):
        raise NotImplementedError

    assert not getattr(alignment, name)(stub)
    assert capsys.readouterr().out == "not yet: the function is still empty\n"


@pytest.mark.parametrize(
    "name, wrong, advice",
    [
        ("align", lambda a, f: align(rearrange(a, "b t m q -> b t q m"), f), "sum over m"),
        ("align", lambda a, f: f, "still on the memory grid"),
        (
            "align",
            lambda a, f: rearrange(align(a, f), "b t c h w -> b t c (h w)").unflatten(3, (24, 24)),
            "take them from",
        ),
        (
            "align",
            lambda a, f: rearrange(
                rearrange(align(a, f), "b t c h w -> b t c (h w)"), "b t c (w h) -> b t c h w", h=f.shape[-2]
            ),
            "rows first",
        ),
        ("rectified_affinity", lambda s, g, r: (s + r * g).softmax(dim=2), "its logarithm"),
        ("rectified_affinity", lambda s, g, r: (s - r * torch.log(g + 1e-6)).softmax(dim=2), "the sign"),
        ("rectified_affinity", lambda s, g, r: rectified_affinity(s, g, 1.0), "not used"),
        ("rectified_affinity", lambda s, g, r: (s + r * torch.log(g + 1e-6)).softmax(dim=3), "over q"),
        ("rectified_affinity", lambda s, g, r: s.softmax(dim=2) * (g + 1e-6) ** r, "no longer sum to one"),
        ("rectified_affinity", lambda s, g, r: s.softmax(dim=2) * g**r, "no longer sum to one"),
        ("rectified_affinity", lambda s, g, r: s.softmax(dim=2) + r * torch.log(g + 1e-6), "before the softmax"),
        ("rectified_affinity", lambda s, g, r: (s + r * torch.log(g)).softmax(dim=2), "without + 1e-6"),
        ("effective_agents", lambda r: effective_agents(r).log(), "that is the entropy"),
        ("effective_agents", lambda r: torch.special.entr(r).sum(dim=1).mean(dim=-1).exp(), "how undecided a pixel is"),
        ("effective_agents", lambda r: (-(r.mean(-1) * r.mean(-1).log()).sum(-1)).exp(), "0 log 0 counts as 0"),
        ("effective_agents", lambda r: (-(r * r.log()).sum(dim=1)).mean(dim=-1).exp(), "how undecided a pixel is"),
        ("effective_agents", lambda r: torch.special.entr(r).sum(dim=1).exp().mean(dim=-1), "how undecided a pixel is"),
        ("effective_agents", lambda r: 1 / effective_agents(r), "the sign"),
        ("effective_agents", lambda r: (r.mean(-1) * r.mean(-1).log()).sum(-1).exp(), "the sign"),
        ("effective_agents", lambda r: (-(r.mean(-1) * r.mean(-1).log2()).sum(-1)).exp(), "not one of each"),
        ("effective_agents", lambda r: (effective_agents(r).log2()).exp(), "not one of each"),
        ("effective_agents", lambda r: 2 ** effective_agents(r).log(), "not one of each"),
    ],
)
def test_mistakes_are_named(name, wrong, advice, capsys):
    assert not getattr(alignment, name)(wrong)
    said = capsys.readouterr().out
    assert said.startswith("not yet: ") and advice in said


def test_softmax_over_all_frames_is_named(capsys):
    def space_time(s, g, rectify):
        flat = rearrange(s + rectify * torch.log(g + 1e-6), "b t m q -> b (t m) q").softmax(dim=1)
        return rearrange(flat, "b (t m) q -> b t m q", t=s.shape[1])

    assert not alignment.rectified_affinity(space_time)
    assert "not over (t m)" in capsys.readouterr().out
