"""The random cases of checkers: their axes and seeds, the smallest one that fails, and what holds for every checker."""

import re
import time
from functools import wraps
from pathlib import Path

import pytest
import torch
from einops import einsum, rearrange, reduce
from hypothesis import given
from hypothesis import strategies as st

from tmrn_edu import check
from tmrn_edu.check import aggregation, alignment, evaluation, own_video, reading, stcn, stm, training, xmem
from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial

MODULES = (reading, alignment, aggregation, stm, stcn, xmem, training, evaluation, own_video)
CHECKERS = {
    name: module
    for module in MODULES
    for name in check.__all__
    if getattr(getattr(check, name), "__module__", "") == module.__name__
}
LETTERS = st.lists(st.sampled_from(["b", "t", "ck", "m", "(h w)", "h", "w", "3", "(3 cs)"]), max_size=5)


def stub(*_):
    raise NotImplementedError


def asked(name, monkeypatch) -> dict:
    """What a checker hands to `trial`: the right function, cases, mistakes."""
    found = {}

    def look(function, expected, cases, passed, axes="", mistakes=(), errors=()):
        found.update(expected=expected, cases=list(cases), mistakes=list(mistakes))
        return False

    monkeypatch.setattr(CHECKERS[name], "trial", look)
    getattr(check, name)(stub)
    return found


def tensors(case):
    return [x for x in case if isinstance(x, torch.Tensor)]


@given(first=LETTERS, second=LETTERS, seed=st.integers(0, 1000), different=st.booleans())
def test_an_axis_has_one_size_in_a_case(first, second, seed, different):
    draw = Draw(seed, sizes=4, different=different)
    shapes = [draw.normal(" ".join(first)).shape, draw.uniform(" ".join(second)).shape]
    sizes = {
        letter: draw.size(letter) for axes in (first, second) for axis in axes for letter in axis.strip("()").split()
    }
    for axes, shape in zip((first, second), shapes):
        for axis, length in zip(axes, shape, strict=True):
            product = 1
            for letter in axis.strip("()").split():
                product *= sizes[letter]
            assert length == product
    assert sizes.get("3", 3) == 3 and all(size >= 1 for size in sizes.values())
    free = [size for letter, size in sizes.items() if letter != "3"]
    assert len(set(free)) == len(free) if different else max(free, default=1) <= 4


@given(seed=st.integers(0, 1000), least=st.integers(1, 6), low=st.integers(-9, 9), more=st.integers(0, 9))
def test_numbers_stay_within_their_bounds(seed, least, low, more):
    draw = Draw(seed)
    assert draw.size("k", least=least) >= least
    assert low <= draw.integer(low, low + more) <= low + more
    assert low <= draw.number(low, low + more) <= low + more
    assert draw.choice("one", "other") in ("one", "other")


@given(count=st.integers(1, 30))
def test_examples_are_the_same_every_time_and_of_many_sizes(count):
    def build(draw):
        return draw.normal("b t m q"), draw.normal("b q"), draw.integer(1, 9)

    some, same = examples(build, count), examples(build, count)
    assert len(some) == count
    for (scores, rows, k), again in zip(some, same, strict=True):
        assert torch.equal(scores, again[0]) and torch.equal(rows, again[1]) and k == again[2]
        assert rows.shape == (scores.shape[0], scores.shape[3])
    for n, (scores, *_) in enumerate(some):
        assert n % 2 == 0 or len(set(scores.shape)) == 4  # all axes differ


def test_global_random_numbers_stay_as_they_are(capsys):
    state = torch.get_rng_state()
    examples(lambda draw: (draw.normal("b q"), draw.uniform("b"), draw.integers("q", 0, 3), draw.number(0, 1)))
    for name in CHECKERS:
        getattr(check, name)(lambda *_: 0.0)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_smallest_failing_case_is_named(capsys):
    def wrong_for_many_columns(x):
        return 0 * x if x.shape[1] > 2 else 2 * x

    cases = [(torch.ones(*shape),) for shape in ((4, 5), (3, 3), (1, 2), (2, 1), (1, 3), (6, 4))]
    assert not trial(wrong_for_many_columns, lambda x: 2 * x, cases, passed="doubled", axes="a b")
    said = capsys.readouterr().out
    assert said == (
        "not yet: for x of shape (1, 3) the shape is right, but at (a, b) = (0, 0) it gives 0, expected 2; numbers: [[1, 1, 1]]\n"
    )


def test_of_plain_numbers_the_smallest_are_named(capsys):
    cases = [(k, steps) for k in (9, 4, 6) for steps in (30, 20)]
    assert not trial(lambda k, every: k if k < 5 else 0, lambda k, every: k, iter(cases), passed="the same")
    said = capsys.readouterr().out
    assert said == "not yet: for k = 6, every = 20 it gives 0, expected 6\n"


def test_a_mistake_comes_with_its_smallest_case(capsys):
    assert not check.frame_shares(lambda s: s.logsumexp(dim=2))
    said = capsys.readouterr().out
    assert said.startswith(
        "not yet: that is the evidence of each frame; its softmax over t is the share; e.g. for s of shape (1, "
    )
    assert " at (b, t, q) = (0, 0, 0) it gives " in said and "; numbers: [[[[" in said


def stubs() -> dict[str, list[str]]:
    """The arguments of every exercise in the lessons, as the reader sees them."""
    found = {}
    for path in (Path(__file__).parents[1] / "notebooks" / "src").glob("*.py"):
        cells = re.findall(r'^# %% tags=\["exercise"\]\ndef (\w+)\((.*?)\)', path.read_text(), flags=re.M)
        found |= {name: arguments.split(", ") for name, arguments in cells}
    return found


@pytest.mark.parametrize("name", sorted(stubs().keys() & CHECKERS))
def test_arguments_have_their_names_whatever_the_reader_calls_them(name, monkeypatch, capsys):
    """A function that takes its arguments in a row, or too few of them, is told about the exercise's own names."""
    case = asked(name, monkeypatch)["cases"][0]
    monkeypatch.undo()
    for function in (lambda *row: 0.123, lambda: 0.123):
        assert not getattr(check, name)(function)
        said = capsys.readouterr().out
        told = said[said.index("for ") :]
        for argument, x in zip(stubs()[name], case, strict=True):
            assert f"{argument} of shape (" in told if isinstance(x, torch.Tensor) else f"{argument} = " in told


def test_tensors_without_a_name_are_still_told(capsys):
    assert not trial(lambda *row: row[0], lambda *row: 2 * row[0], [(torch.ones(2), 3)], passed="doubled")
    assert "not yet: for a tensor of shape (2,), 3 the shape is right, but at " in capsys.readouterr().out


def test_the_line_of_an_error_is_the_readers(capsys):
    def helper(x):
        raise ValueError("no")

    def several(x):
        y = x + 1
        return [helper(part) for part in y]

    wrapped = wraps(several)(lambda x: several(x))
    for function, line in [
        (several, " (line 3 of your function)"),
        (wrapped, " (line 3 of your function)"),
        (lambda x: helper(x), ""),
    ]:
        assert not trial(function, lambda x: x, [(torch.ones(2),)], passed="kept")
        assert capsys.readouterr().out == f"not yet: for x of shape (2,) it raises ValueError: no{line}\n"
    assert not trial(max, lambda x: x, [(3,)], passed="kept")
    assert "for x = 3 it raises TypeError: 'int' object is not iterable\n" in capsys.readouterr().out


def test_sizes_that_do_not_fit_come_with_a_hint(capsys):
    right = lambda x: rearrange(x, "(h w) -> h w", h=len(x) // 2)  # noqa: E731
    for wrong in (
        lambda x: rearrange(x, "(h w) -> h w", h=24),
        lambda x: x.reshape(24, 24),
        lambda x: right(x) + torch.ones(24, 24),
        lambda x: right(x) @ torch.ones(24, 24),
        lambda x: einsum(right(x), torch.ones(24), "h w, h -> w"),
        lambda x: x.unflatten(0, (24, 24)),
        lambda x: torch.stack([x[i] for i in range(24)]),
    ):
        assert not trial(wrong, right, [(torch.ones(6),), (torch.ones(10),)], passed="cut")
        said = capsys.readouterr().out
        hint = (
            "not yet: sizes differ from case to case: take them from the arguments; e.g. for x of shape (6,) it raises "
        )
        assert said.startswith(hint) and said.count("\n") == 1
    assert not trial(lambda x: rearrange(x, "(h w) -> h w", h=24), right, [(torch.ones(6),)], passed="cut")
    assert "w\". Shape mismatch, can't divide axis of length 6 in chunks of 24" in capsys.readouterr().out


def test_errors_with_a_meaning_of_their_own_are_told_it(capsys):
    assert not trial(
        lambda x: x.topk(9).values,
        lambda x: x,
        [(torch.ones(2),)],
        passed="best",
        errors=[("out of range", "too many")],
    )
    assert capsys.readouterr().out.startswith("not yet: too many; e.g. for x of shape (2,) it raises RuntimeError: ")


def test_axes_in_another_order_and_written_sizes_are_named(capsys):
    cases = examples(lambda draw: (draw.normal("b t m"),))
    assert not trial(lambda x: x.transpose(1, 2), lambda x: x, cases, passed="kept", axes="b t m")
    assert (
        "not yet: right, but for the order of the axes: yours is b m t, expected b t m; e.g. "
        in capsys.readouterr().out
    )
    for wrong, right in (
        (lambda x: x / 7, lambda x: x / x.shape[1]),
        (lambda x: x.mean(dim=1), lambda x: x.sum(dim=1)),
    ):
        assert not trial(wrong, right, cases, passed="kept")
        assert "not yet: right up to a factor that differs from case to case: " in capsys.readouterr().out
    for wrong in (lambda x: 2 * x, lambda x: x + 1, lambda x: 0 * x, lambda x: x / 0):
        assert not trial(wrong, lambda x: x, cases, passed="kept")
        assert "factor" not in capsys.readouterr().out


def test_differences_are_told_where_they_are_largest(capsys):
    def wrong(x):
        x[0, 1] += 0.5
        x[1, 2] -= 0.7
        return x

    assert not trial(wrong, lambda x: x, [(torch.full((2, 3), 0.25),)], passed="kept", axes="(h w) q")
    assert "at ((h w), q) = (1, 2) it gives -0.45, expected 0.25" in capsys.readouterr().out
    assert not trial(lambda x: x + 2e-4, lambda x: x, [(torch.tensor([0.5]),)], passed="kept", axes="q")
    assert "it gives 0.5002, expected 0.5000" in capsys.readouterr().out.replace("expected 0.5;", "expected 0.5000;")
    assert not trial(lambda x: x / 0, lambda x: x, [(torch.ones(2),)], passed="kept", axes="q")
    assert "NaN or infinite values: at q = 0 it gives inf, expected 1" in capsys.readouterr().out


def test_answers_between_whole_numbers_are_wrong(capsys):
    assert not trial(lambda x: x + 0.5, lambda x: x, [(torch.arange(3),)], passed="kept")


@pytest.mark.parametrize("name", CHECKERS)
def test_sizes_vary_and_some_are_one(name, monkeypatch):
    cases = asked(name, monkeypatch)["cases"]
    shapes = {tuple(tuple(x.shape) for x in tensors(case)) for case in cases}
    if any(shapes) and name != "inside":  # an outline has three points or more
        assert len(shapes) > 8 and any(1 in shape for case in shapes for shape in case)
    else:
        assert len({str(case) for case in cases}) > 15


@pytest.mark.parametrize("name", CHECKERS)
def test_mistakes_are_told_apart(name, monkeypatch):
    """On the cases of its checker every mistake differs from the right answer, and from the mistakes with other advice."""
    found = asked(name, monkeypatch)
    functions = [(found["expected"], "right"), *found["mistakes"]]

    def results(function):
        copies = [tuple(x.clone() if isinstance(x, torch.Tensor) else x for x in case) for case in found["cases"]]
        return [torch.as_tensor(function(*case)).double() for case in copies]

    answers = [(results(function), advice) for function, advice in functions]
    for place, (one, advice) in enumerate(answers):
        for other, other_advice in answers[:place]:
            same = all(
                a.shape == b.shape and torch.allclose(a, b, 1e-4, 1e-4, equal_nan=True) for a, b in zip(one, other)
            )
            assert not same or advice == other_advice, f"{advice} = {other_advice}"


@pytest.mark.parametrize("name", CHECKERS)
def test_every_mistake_gets_its_advice(name, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        mistakes = asked(name, patch)["mistakes"]
    for wrong, advice in mistakes:
        assert not getattr(check, name)(wrong)
        said = capsys.readouterr().out
        assert said.startswith(f"not yet: {advice}; e.g. for ") and said.count("\n") == 1


@pytest.mark.parametrize("name", CHECKERS)
def test_a_check_is_quick_and_says_the_same_twice(name, capsys):
    begin = time.perf_counter()
    said = []
    for _ in range(2):
        assert not getattr(check, name)(lambda *_: torch.tensor(0.123))
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert (
        time.perf_counter() - begin < 5
    )  # each takes less than a tenth of a second, on a machine with nothing else to do


def distance(memory_key, query_key):
    memory = rearrange(memory_key, "b t ck h w -> b t (h w) 1 ck")
    return reduce((memory - rearrange(query_key, "b ck h w -> b 1 1 (h w) ck")) ** 2, "b t m q ck -> b t m q", "sum")


def over_memory(similarity, frames):
    together = rearrange(similarity, "b t m q -> b (t m) q").softmax(dim=1)
    return rearrange(together, "b (t m) q -> b t m q", t=frames)


def pooled(score, value, batch, objects):
    """Object by object, for as many as are given here."""
    pairs = [(score[b].softmax(dim=0), value[b, o]) for b in range(batch) for o in range(objects)]
    return rearrange([einsum(u, v, "t q, t cv q -> cv q") for u, v in pairs], "(b o) cv q -> b o cv q", b=batch)


@pytest.mark.parametrize(
    "name, right, fixed",
    [
        ("squared_l2", lambda m, q: -distance(m, q) / q.shape[1] ** 0.5, lambda m, q: -distance(m, q) / 5**0.5),
        ("space_time_weights", lambda s: over_memory(s, s.shape[1]), lambda s: over_memory(s, 4)),
        ("pool", lambda s, v: pooled(s, v, *v.shape[:2]), lambda s, v: pooled(s, v, 2, 3)),
    ],
)
def test_answers_for_one_shape_only_fail(name, right, fixed, capsys):
    """Such as the numbers of a drawing in the lesson: 5 channels, 4 frames, 2 clips with 3 objects."""
    assert getattr(check, name)(right)
    assert not getattr(check, name)(fixed)
    said = capsys.readouterr().out
    assert "case to case" in said and " of shape (" in said
