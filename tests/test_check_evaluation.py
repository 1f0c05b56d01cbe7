"""Checkers of notebook 08: worked answers pass, and each common mistake is met with its own sentence."""

import pytest
import torch
from einops import reduce
from exercises import exercise_tests

from tmrn_edu import check

ENDS = torch.tensor([0.025, 0.975])


def f_measure(distances, tolerance):
    precision = sum(bool((row <= tolerance).any()) for row in distances) / len(distances)
    recall = sum(bool((column <= tolerance).any()) for column in distances.T) / len(distances.T)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def mean_over_objects(J, visible, begin=1, end=-1):
    means = [
        values[int(seen.nonzero()[0]) + begin :][: end or None].mean() for values, seen in zip(J, visible, strict=True)
    ]
    return sum(means) / len(means)


def means_of(values, draws):
    return torch.stack([values[clips].mean() for clips in draws])


def paired_interval(baseline, other, draws):
    return torch.quantile(means_of(other - baseline, draws), ENDS)


ANSWERS = {"f_measure": f_measure, "mean_over_objects": mean_over_objects, "paired_interval": paired_interval}


test_worked_answers_pass, test_empty_functions_do_not = exercise_tests(ANSWERS)


def rows(distances, tolerance):
    return float((distances.min(dim=1).values <= tolerance).float().mean())


def of_nearest(distances, tolerance, how):
    precision, recall = (
        float((reduce(distances, p, how) <= tolerance).float().mean()) for p in ("n m -> n", "n m -> m")
    )
    return 2 * precision * recall / max(precision + recall, 1e-9)


def no_guard(distances, tolerance):
    precision, recall = torch.tensor(rows(distances, tolerance)), torch.tensor(rows(distances.T, tolerance))
    return 2 * precision * recall / (precision + recall)


def seen_frames(J, visible):
    means = []
    for values, seen in zip(J, visible, strict=True):
        first = int(seen.nonzero()[0])
        means.append(values[first + 1 : -1][seen[first + 1 : -1]].mean())
    return sum(means) / len(means)


def in_one_pot(J, visible):
    return torch.cat([values[int(seen.nonzero()[0]) + 1 : -1] for values, seen in zip(J, visible, strict=True)]).mean()


def by_object(J, visible):
    return torch.stack([mean_over_objects(J[o : o + 1], visible[o : o + 1]) for o in range(len(J))])


def bell(a, b, draws):
    means = means_of(b - a, draws)
    return torch.stack([(b - a).mean() - 1.96 * means.std(), (b - a).mean() + 1.96 * means.std()])


WRONG = [
    ("f_measure", lambda d, tolerance: f_measure(d, tolerance - 1e-3), "<=, not <"),
    ("f_measure", lambda d, tolerance: (rows(d, tolerance) + rows(d.T, tolerance)) / 2, "harmonic"),
    ("f_measure", rows, "precision alone"),
    ("f_measure", lambda d, tolerance: rows(d.T, tolerance), "recall alone"),
    ("f_measure", lambda d, tolerance: (d <= tolerance).float().mean(), "share of all pairs"),
    ("f_measure", lambda d, tolerance: of_nearest(d, tolerance, "max"), "not near all of them"),
    ("f_measure", lambda d, tolerance: of_nearest(d, tolerance, "mean"), "not the mean distance"),
    ("f_measure", no_guard, "F is 0 there"),
    ("mean_over_objects", lambda J, v: mean_over_objects(J, v, begin=0), "was given: its frames begin after it"),
    ("mean_over_objects", lambda J, v: mean_over_objects(J, v, end=None), "leaves the clip's last frame out"),
    ("mean_over_objects", lambda J, v: mean_over_objects(J, v, begin=0, end=None), "neither the frame"),
    ("mean_over_objects", seen_frames, "hidden counts as well"),
    ("mean_over_objects", lambda J, v: J[:, 1:-1].mean(), "a late object"),
    ("mean_over_objects", lambda J, v: J.mean(), "the mean of everything"),
    ("mean_over_objects", in_one_pot, "in one pot"),
    ("mean_over_objects", by_object, "one number an object"),
    ("paired_interval", lambda a, b, draws: paired_interval(b, a, draws), "the sign is turned"),
    ("paired_interval", lambda a, b, draws: (b - a).quantile(ENDS), "where single clips lie"),
    ("paired_interval", lambda a, b, draws: (b - a)[draws].quantile(ENDS), "mean of each draw first"),
    (
        "paired_interval",
        lambda a, b, draws: means_of(b, draws).quantile(ENDS) - means_of(a, draws).quantile(ENDS),
        "subtract clip by clip first",
    ),
    ("paired_interval", lambda a, b, draws: means_of(b - a, draws).quantile(torch.tensor([0.05, 0.95])), "leave 90 %"),
    ("paired_interval", lambda a, b, draws: means_of(b, draws).quantile(ENDS), "of the other network"),
    (
        "paired_interval",
        lambda a, b, draws: means_of(b - a, draws).aminmax()[0].expand(2),
        "at ends = 1 it gives ",
    ),
    ("paired_interval", lambda a, b, draws: torch.stack(means_of(b - a, draws).aminmax()), "range of all draws"),
    ("paired_interval", bell, "assume a bell"),
    ("paired_interval", lambda a, b, draws: means_of(b - a, draws).mean(), "expected ends = (2,)"),
]


@pytest.mark.parametrize("name, wrong, advice", WRONG, ids=[f"{name}: {advice}" for name, _, advice in WRONG])
def test_mistakes_are_named(name, wrong, advice, capsys):
    assert not getattr(check, name)(wrong)
    said = capsys.readouterr().out
    assert said.startswith("not yet: ") and advice in said
