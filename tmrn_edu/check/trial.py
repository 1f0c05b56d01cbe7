"""How an answer is tried: on small inputs, against the package, judged in one printed line.

A checker names the function that the reader's must equal, the inputs, and the mistakes worth a sentence of their own:

    def frame_shares(function):
        cases = examples(lambda draw: (3 * draw.normal("b t m q"),))
        return trial(function, right, cases, axes="b t q", passed="...", mistakes=[(wrong, "... what to change")])
"""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from itertools import permutations
from traceback import walk_tb

import torch
from einops import rearrange
from torch import Tensor

TOLERANCE = 1e-4  # float32 sums in another order differ by 1e-6; a wrong formula differs by far more
SHOWN = 12  # so many numbers of a case, or fewer, are part of the message
UNFIT = (
    "mismatch|must match|does not broadcast|invalid for input of size|cannot be multiplied|multiply up|out of bounds"
)
FROM_ARGUMENTS = "sizes differ from case to case: take them from the arguments"


def trial(
    function: Callable,
    expected: Callable,
    cases: Iterable[tuple],
    passed: str,
    axes: str = "",
    mistakes: Sequence[tuple[Callable, str]] = (),
    errors: Sequence[tuple[str, str]] = (),
) -> bool:
    """Runs `function` on every case; prints `passed: ...` or `not yet: ...`, one line; returns whether it passed.

    The answer must equal `expected(*case)` in shape and, within 1e-4 (relative and absolute), in value. Small cases come first, so the
    message is about the smallest one that fails: its shapes, where the answer is off most, and the numbers themselves if they are few.
    `axes` names the shape in messages ("b t m q"). `mistakes`: (a wrong function, what to tell the reader whose answer equals it in all
    cases); axes in another order and a factor in place of a size are seen without. `errors`: (a pattern, what to tell the reader whose
    function raises an error with such a message). Tensors of a case are copied, so an answer may overwrite its arguments. An exception
    in `function` is an answer like any other. Arguments have the names of `function`, or else those of `expected`. Source: ours.
    """
    cases = sorted(cases, key=_extent)
    trouble = next((found for case in cases if (found := _trouble(function, expected, case, axes, errors))), None)
    if trouble and (advice := _recognised(function, expected, cases, axes, mistakes)):
        trouble = f"{advice}; e.g. {trouble}"
    print(f"not yet: {trouble}" if trouble else f"passed: {passed}")
    return trouble is None


def random_tensors(*shapes: Sequence[int], seed: int = 0) -> tuple[Tensor, ...]:
    """Standard normal tensors of the given shapes; the reader's own random numbers stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator) for shape in shapes)


def _extent(thing) -> tuple[int, float]:
    """How large a case is: how many numbers it has, and how large these are in all."""
    if isinstance(thing, Tensor):
        return thing.numel(), float(thing.double().abs().sum())
    if isinstance(thing, tuple | list):
        parts = [_extent(part) for part in thing]
        return sum(numbers for numbers, _ in parts), sum(total for _, total in parts)
    return 1, abs(float(thing)) if isinstance(thing, int | float) else 0.0


def _trouble(function, expected, case, axes, errors) -> str | None:
    """What is wrong with the answer to one case, in a sentence; None if nothing is."""
    right = torch.as_tensor(expected(*_copies(case)))
    where = _described(function, expected, case)
    try:
        answer = function(*_copies(case))
    except NotImplementedError:
        return "the function is still empty"
    except Exception as error:  # whatever the reader's code runs into is for the reader to see
        message = _message(error)
        hints = [*errors, (UNFIT, FROM_ARGUMENTS)]
        advice = next((f"{hint}; e.g. " for pattern, hint in hints if re.search(pattern, message)), "")
        return f"{advice}{where} it raises {type(error).__name__}: {message}{_line(error, function)}"
    if answer is None:
        return "it returns None; is there a return?"
    if not isinstance(answer, Tensor | int | float):
        return f"it returns a {type(answer).__name__}, expected a tensor"
    answer = torch.as_tensor(answer).detach()
    if answer.shape != right.shape:
        name = f"{axes} = " if axes else ""
        return f"{where} it returns the shape {tuple(answer.shape)}, expected {name}{tuple(right.shape)}"
    if _same(answer, right):
        return None
    if right.isfinite().all() and not answer.isfinite().all():
        wrong = f"{where} it returns NaN or infinite values:"
    else:
        wrong = f"{where} the shape is right, but" if right.ndim else where
    return f"{wrong} {_worst(answer.double(), right.double(), axes)}{_values(case)}"


def _message(error: Exception) -> str:
    """The first line of an error's message, and of einops' also the last, which says why."""
    lines = str(error).strip().splitlines() or ["no message"]
    why = lines[1:][-1:] if type(error).__name__ == "EinopsError" else []
    return " ".join(line.strip() for line in (lines[0], *why))


def _line(error: Exception, function) -> str:
    """Where in the reader's function an error came up: ` (line 3 of your function)`; nothing where it is not known, or the only line."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    numbers = [number for frame, number in walk_tb(error.__traceback__) if frame.f_code is code]
    lines = {number for *_, number in code.co_lines() if number} if numbers else ()
    return f" (line {numbers[-1] - code.co_firstlineno + 1} of your function)" if len(lines) > 1 else ""


def _recognised(function, expected, cases, axes, mistakes) -> str | None:
    """The advice for the first mistake that the answer equals in all cases."""
    try:
        answers = [torch.as_tensor(function(*_copies(case))).detach() for case in cases]
    except Exception:  # then it is another mistake
        return None
    known = (advice for wrong, advice in mistakes if _all_equal(answers, wrong, cases))
    rights = [torch.as_tensor(expected(*_copies(case))) for case in cases]
    return next(known, None) or _reordered(answers, rights, axes) or _scaled(answers, rights)


def _reordered(answers: list[Tensor], rights: list[Tensor], axes: str) -> str | None:
    """The advice for an answer that is right but for the order of its axes."""
    names = _split(axes)
    letters = [f"a{n}" for n in range(len(names))]
    if any(right.ndim != len(names) for right in rights):
        return None
    for order in permutations(range(len(names))):
        pattern = f"{' '.join(letters)} -> {' '.join(letters[n] for n in order)}"
        if all(_same(answer, rearrange(right, pattern)) for answer, right in zip(answers, rights, strict=True)):
            yours = " ".join(names[n] for n in order)
            return f"right, but for the order of the axes: yours is {yours}, expected {axes}"
    return None


def _scaled(answers: list[Tensor], rights: list[Tensor]) -> str | None:
    """The advice for an answer that is right up to a factor, one in each case, as where a size is a number in the code."""
    factors = []
    for answer, right in zip(answers, rights, strict=True):
        if answer.shape != right.shape or not answer.double().isfinite().all():
            return None
        a, r = (rearrange(x.double(), "... -> (...)") for x in (answer, right))
        if (r.abs() > 0.01).sum() > 1 and r.isfinite().all():  # of a single number everything is a multiple
            factors.append(float(a @ r / (r @ r)))
            if not _same(a, factors[-1] * r):
                return None
    if len(factors) < 3 or not all(factors) or max(factors) - min(factors) < TOLERANCE:
        return None
    return "right up to a factor that differs from case to case: if a size is written into your function, take it from the arguments"


def _all_equal(answers, wrong, cases) -> bool:
    try:
        others = (torch.as_tensor(wrong(*_copies(case))) for case in cases)
        return all(_same(answer, other) for answer, other in zip(answers, others, strict=True))
    except Exception:  # a mistake that cannot be made in every case
        return False


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _copies(case: tuple) -> tuple:
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in case)


def _described(function, expected, case: tuple) -> str:
    """The arguments as a reader would name them: the shapes of tensors, other things as they are."""
    names = _names(function, case) or _names(expected, case) or [""] * len(case)
    told = [_told(name, x) for name, x in zip(names, case, strict=True)]
    return "for " + ", ".join(told)


def _names(function, case: tuple) -> list[str]:
    """What a function calls the arguments of a case; nothing if it takes others, takes them in a row (`*x`), or does not say."""
    try:
        parameters = inspect.signature(function).parameters
        names = list(inspect.signature(function).bind(*case).arguments)
    except (TypeError, ValueError):
        return []
    starred = any(parameters[name].kind is inspect.Parameter.VAR_POSITIONAL for name in names)
    return [] if starred else names


def _told(name: str, x) -> str:
    if isinstance(x, Tensor):
        return f"{name or 'a tensor'} of shape {tuple(x.shape)}"
    return f"{name} = {x!r}" if name else repr(x)


def _split(axes: str) -> list[str]:
    return re.findall(r"\(.*?\)|\S+", axes)


def _worst(answer: Tensor, right: Tensor, axes: str) -> str:
    """Where the answer is off most, and by what: `at (b, q) = (0, 2) it gives 0.31, expected 0.52`."""
    off = torch.where(answer == right, 0.0, (answer - right).abs().nan_to_num(nan=torch.inf))
    place = tuple((off == off.max()).nonzero()[0].tolist())
    given, wanted = answer[place].item(), right[place].item()
    digits = next((n for n in range(3, 9) if f"{given:.{n}g}" != f"{wanted:.{n}g}"), 9)
    named = _split(axes)
    if len(place) == 1 == len(named):
        at = f"at {axes} = {place[0]} "
    else:
        name = f"({', '.join(named)}) = " if len(named) == len(place) else ""
        at = f"at {name}{place} " if place else ""
    return f"{at}it gives {_number(given, digits)}, expected {_number(wanted, digits)}"


def _values(case: tuple) -> str:
    """The numbers in the tensors of a case; nothing where they are many."""
    tensors = [x for x in case if isinstance(x, Tensor)]
    if not tensors or sum(x.numel() for x in tensors) > SHOWN:
        return ""
    return "; numbers: " + ", ".join(_listed(x.tolist()) for x in tensors)


def _listed(numbers) -> str:
    return f"[{', '.join(map(_listed, numbers))}]" if isinstance(numbers, list) else _number(numbers, 4)


def _number(x: float | int | bool, digits: int) -> str:
    if isinstance(x, bool):
        return str(x)
    return str(int(x)) if abs(x) < 1e9 and x == int(x) else f"{x:.{digits}g}"
