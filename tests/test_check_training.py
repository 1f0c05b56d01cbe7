"""Checkers of notebook 07: worked answers pass, and each common mistake is met with its own sentence."""

import pytest
from einops import rearrange
from exercises import exercise_tests

from tmrn_edu import check


def largest_gap(gaps, steps, step):
    return [gap for share, gap in gaps if step >= round(share * steps)][-1]


def hard_share(step, start, end, final):
    progress = min(1.0, max(0.0, (step - start) / (end - start)))
    return 1 - progress * (1 - final)


def bootstrapped(losses, share):
    rows = rearrange(losses, "b H W -> b (H W)").sort(dim=1, descending=True).values
    return rows[:, : int(share * rows.shape[1])].mean()


ANSWERS = {"largest_gap": largest_gap, "hard_share": hard_share, "bootstrapped": bootstrapped}


test_worked_answers_pass, test_empty_functions_do_not = exercise_tests(ANSWERS)


def from_step_0(step, start, end, final):
    return max(final, 1 - (1 - final) * step / end)


def of_the_batch(losses, share):
    return bootstrapped(rearrange(losses, "b H W -> 1 (b H) W"), share)


WRONG = [
    ("largest_gap", lambda gaps, n, i: [g for s, g in gaps if i > s * n or s == 0][-1], ">=, not >"),
    ("largest_gap", lambda gaps, n, i: [g for s, g in gaps if i > round(s * n) or s == 0][-1], ">=, not >"),
    ("largest_gap", lambda gaps, n, i: [g for s, g in gaps if i >= s * n][-1], "round(share * steps)"),
    ("largest_gap", lambda gaps, n, i: gaps[0][1], "always the first gap"),
    ("largest_gap", lambda gaps, n, i: gaps[-1][1], "always the last gap"),
    ("largest_gap", lambda gaps, n, i: max(g for s, g in gaps if i >= round(s * n)), "goes back at the end"),
    ("largest_gap", lambda gaps, n, i: [g for s, g in gaps if i >= s][-1], "share * steps"),
    ("hard_share", lambda i, a, b, f: 1 - (1 - f) * (i - a) / (b - a), "has no ends"),
    ("hard_share", lambda i, a, b, f: 1.0 if i < a else 1 - (1 - f) * (i - a) / (b - a), "no further than `final`"),
    ("hard_share", lambda i, a, b, f: max(f, 1 - (1 - f) * (i - a) / (b - a)), "the share is 1, no more"),
    ("hard_share", from_step_0, "at `start`, not at step 0"),
    ("hard_share", lambda i, a, b, f: hard_share(i, a, b, 0) if i < b else f, "heads for 0"),
    ("hard_share", lambda i, a, b, f: 1.0 if i < a else f, "not at once"),
    ("bootstrapped", of_the_batch, "of the whole batch"),
    ("bootstrapped", lambda x, s: -bootstrapped(-x, s), "the easiest pixels"),
    ("bootstrapped", lambda x, s: bootstrapped(x, s) * int(s * x[0].numel()) / x[0].numel(), "divided by all pixels"),
    ("bootstrapped", lambda x, s: bootstrapped(x, s) * int(s * x[0].numel()) * len(x), "that is their sum"),
    ("bootstrapped", lambda x, s: sum(bootstrapped(x[i : i + 1], s) for i in range(len(x))).reshape(1).expand(len(x)), "expected ()"),
    ("bootstrapped", lambda x, s: x.mean(), "`share` is not used"),
]  # fmt: skip


@pytest.mark.parametrize("name, wrong, advice", WRONG, ids=[f"{name}: {advice}" for name, _, advice in WRONG])
def test_mistakes_are_named(name, wrong, advice, capsys):
    assert not getattr(check, name)(wrong)
    said = capsys.readouterr().out
    assert said.startswith("not yet: ") and advice in said
