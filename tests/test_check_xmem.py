"""Checkers of notebook 06: worked answers pass, and each common mistake is met with its own sentence."""

import pytest
import torch
from einops import einsum, rearrange, reduce

from tmrn_edu.check import xmem


def anisotropic_l2(memory_key, query_key, shrinkage, selection):
    difference = rearrange(memory_key, "b t c h w -> b t (h w) 1 c") - rearrange(query_key, "b c h w -> b 1 1 (h w) c")
    selected = rearrange(selection, "b c h w -> b 1 1 (h w) c") * difference**2
    distance = reduce(selected, "b t m q c -> b t m q", "sum") / memory_key.shape[2] ** 0.5
    return -rearrange(shrinkage, "b t 1 h w -> b t (h w) 1") * distance


def left_out(query_key, shrinkage, selection):
    square = reduce(selection * query_key**2, "b c h w -> b 1 1 (h w)", "sum") / query_key.shape[1] ** 0.5
    return -rearrange(shrinkage, "b t 1 h w -> b t (h w) 1") * square


def gated_update(gates, sensory):
    forget, update, new = gates.chunk(3, dim=2)
    return forget.sigmoid() * sensory * (1 - update.sigmoid()) + update.sigmoid() * new.tanh()


def memory_frames(given, every):
    joins, last = torch.zeros_like(given), 0
    for t in range(len(given)):
        if given[t] or t - last >= every:
            joins[t], last = True, t
    return joins


ANSWERS = {
    "anisotropic_l2": anisotropic_l2, "left_out": left_out, "gated_update": gated_update,
    "memory_frames": memory_frames,
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_worked_answers_pass(name, capsys):
    assert getattr(xmem, name)(ANSWERS[name])
    assert capsys.readouterr().out.startswith("passed: ")


@pytest.mark.parametrize("name", ANSWERS)
def test_empty_functions_do_not(name, capsys):
    def stub(*_):
        raise NotImplementedError

    assert not getattr(xmem, name)(stub)
    assert capsys.readouterr().out == "not yet: the function is still empty\n"


def gate(formula):
    """An answer from the open shares f and u, n before its tanh, and the sensory memory."""

    def answer(gates, sensory):
        forget, update, new = gates.chunk(3, dim=2)
        return formula(forget.sigmoid(), update.sigmoid(), new, sensory)

    return answer


def rows(x):
    return rearrange(x, "... h w -> ... (h w)")


def key_square_without_selection(k, q, s, e):
    cross = einsum(rows(k), rows(e * q), "b t c m, b c q -> b t m q")
    square = rearrange(reduce(rows(k) ** 2, "b t c m -> b t m", "sum"), "b t m -> b t m 1")
    query = reduce(rows(e * q**2), "b c q -> b 1 1 q", "sum")
    return -rearrange(rows(s), "b t 1 m -> b t m 1") * (square - 2 * cross + query) / k.shape[2] ** 0.5


@pytest.mark.parametrize(
    "name, wrong, advice",
    [
        ("anisotropic_l2", lambda *x: -anisotropic_l2(*x), "near means high"),
        ("anisotropic_l2", lambda k, q, s, e: anisotropic_l2(k, q, s, e) * q.shape[1] ** 0.5, "sqrt(ck)"),
        ("anisotropic_l2", lambda k, q, s, e: anisotropic_l2(k, q, s / s, e), "shrinkage is not used"),
        ("anisotropic_l2", lambda k, q, s, e: anisotropic_l2(k, q, s, torch.ones_like(e)), "selection is not used"),
        ("anisotropic_l2", lambda k, q, s, e: anisotropic_l2(k, q, s, e * e), "twice"),
        ("anisotropic_l2", lambda k, q, s, e: anisotropic_l2(k, q, s, e) - left_out(q, s, e), "query^2 is missing"),
        ("anisotropic_l2", key_square_without_selection, "key^2 needs the selection"),
        ("left_out", lambda *x: -left_out(*x), "the sign"),
        ("left_out", lambda q, s, e: left_out(q, s, e) * q.shape[1] ** 0.5, "sqrt(ck)"),
        ("left_out", lambda q, s, e: left_out(q, s, torch.ones_like(e)), "selection weighs"),
        ("left_out", lambda q, s, e: left_out(q, s / s, e), "without the shrinkage"),
        ("gated_update", lambda g, h: gated_update(g.unflatten(2, (3, -1))[:, :, [1, 0, 2]].flatten(2, 3), h), "order"),
        ("gated_update", lambda g, h: gated_update(rearrange(g, "b o (c k) h w -> b o (k c) h w", k=3), h), "blocks"),
        ("gated_update", gate(lambda f, u, n, h: h * (1 - u) + u * n.tanh()), "f is not used"),
        ("gated_update", gate(lambda f, u, n, h: f * h + u * n.tanh()), "1 - u is missing"),
        ("gated_update", gate(lambda f, u, n, h: f * h * u + (1 - u) * n.tanh()), "exch"),
        ("gated_update", gate(lambda f, u, n, h: f * h * (1 - u) + u * n.atanh()), "infinite"),
        ("memory_frames", lambda g, n: g | (torch.arange(len(g)) % n == 0), "starts the count anew"),
        ("memory_frames", lambda g, n: ~memory_frames(g, n), "those are the others"),
        ("memory_frames", lambda g, n: g, "without a mask join too"),
        ("memory_frames", lambda g, n: memory_frames(g, n + 1), "one frame late"),
        ("memory_frames", lambda g, n: memory_frames(g, n)[1:], "expected t = ("),
    ],
)
def test_mistakes_are_named(name, wrong, advice, capsys):
    assert not getattr(xmem, name)(wrong)
    said = capsys.readouterr().out
    assert said.startswith("not yet: ") and advice in said


def test_the_gate_without_tanh_is_named(capsys):
    assert not xmem.gated_update(gate(lambda f, u, n, h: f * h * (1 - u) + u * n))
    assert "tanh" in capsys.readouterr().out


def test_other_wrong_answers_are_told_by_how_much(capsys):
    assert not xmem.memory_frames(lambda given, every: ~given)
    said = capsys.readouterr().out
    assert (
        said.startswith("not yet: for given of shape (1,), every = ")
        and "at t = 0 it gives 0, expected 1; numbers: [True]" in said
    )


def test_the_answers_are_the_package():
    """What the lesson says: the gate of the exercise is the gate of the sensory memory."""
    from tmrn_edu.memory.sensory import GatedUpdate

    gate = GatedUpdate(7, 4)
    x, sensory = torch.randn(2, 3, 7, 5, 6), torch.rand(2, 3, 4, 5, 6)
    joined = rearrange(torch.cat([x, sensory], dim=2), "b o c h w -> (b o) c h w")
    gates = rearrange(gate.transform(joined), "(b o) c h w -> b o c h w", o=3)
    torch.testing.assert_close(gated_update(gates, sensory), gate(x, sensory), rtol=1e-5, atol=1e-5)
