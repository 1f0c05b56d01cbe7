"""How an answer is tried: on small random inputs, against the package, judged in one printed line.

A checker names the function that the reader's must equal, the inputs, and the mistakes worth a sentence of their own:

    def frame_shares(function):
        return trial(function, right, cases, axes="b t q", passed="...", mistakes=[(wrong, "... what to change")])
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

TOLERANCE = 1e-4  # float32 sums in another order differ by 1e-6; a wrong formula differs by far more


def trial(
    function: Callable,
    expected: Callable,
    cases: Iterable[tuple],
    passed: str,
    axes: str = "",
    mistakes: Sequence[tuple[Callable, str]] = (),
) -> bool:
    """Runs `function` on every case; prints `passed: ...` or `not yet: ...`, one line; returns whether it passed.

    The answer must equal `expected(*case)` in shape and, within 1e-4 (relative and absolute), in value. `axes` names the shape in messages
    ("b t m q"). `mistakes`: (a wrong function, what to tell the reader whose answer equals it). Tensors of a case are copied, so an answer
    may overwrite its arguments. An exception in `function` is an answer like any other. Source: ours.
    """
    cases = list(cases)
    trouble = next((found for case in cases if (found := _trouble(function, expected, case, axes))), None)
    if trouble:
        trouble = next((advice for wrong, advice in mistakes if _equal(function, wrong, cases)), trouble)
    print(f"not yet: {trouble}" if trouble else f"passed: {passed}")
    return trouble is None


def random_tensors(*shapes: Sequence[int], seed: int = 0) -> tuple[Tensor, ...]:
    """Standard normal tensors of the given shapes; the reader's own random numbers stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(*shape, generator=generator) for shape in shapes)


def _trouble(function, expected, case, axes) -> str | None:
    """What is wrong with the answer to one case, in a sentence; None if nothing is."""
    right = torch.as_tensor(expected(*_copies(case)))
    try:
        answer = function(*_copies(case))
    except NotImplementedError:
        return "the function is still empty"
    except Exception as error:  # whatever the reader's code runs into is for the reader to see
        lines = str(error).strip().splitlines()
        return f"it raises {type(error).__name__}: {lines[0] if lines else 'no message'}"
    if answer is None:
        return "it returns None; is there a return?"
    if not isinstance(answer, Tensor | int | float):
        return f"it returns a {type(answer).__name__}, expected a tensor"
    answer = torch.as_tensor(answer).detach()
    if answer.shape != right.shape:
        name = f"{axes} = " if axes else ""
        return f"{_described(case)} it returns the shape {tuple(answer.shape)}, expected {name}{tuple(right.shape)}"
    answer = answer.to(right.dtype)
    if _same(answer, right):
        return None
    if right.isfinite().all() and not answer.isfinite().all():
        return f"{_described(case)} it returns NaN or infinite values"
    return f"{_described(case)} the shape is right, but values are off by up to {(answer - right).abs().max():.2g}"


def _equal(function, wrong, cases) -> bool:
    """Whether the answer is this very mistake: equal to it on all cases."""
    try:
        pairs = [(torch.as_tensor(function(*_copies(case))), torch.as_tensor(wrong(*_copies(case)))) for case in cases]
    except Exception:  # then it is another mistake
        return False
    return all(a.shape == b.shape and _same(a.detach().to(b.dtype), b) for a, b in pairs)


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


def _copies(case: tuple) -> tuple:
    return tuple(x.clone() if isinstance(x, Tensor) else x for x in case)


def _described(case: tuple) -> str:
    """The arguments as a reader would name them: shapes of tensors, other things as they are."""
    return "for " + ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else repr(x) for x in case)
