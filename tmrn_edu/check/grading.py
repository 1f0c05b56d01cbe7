"""`tmrn-edu grade`: which exercises are done in many copies of a lesson, without running the lessons.

The exercises are self-checks, no exams: answers are in the repository, to be copied by whoever wants to. And a copy's code runs as you, with your
rights, in a process of its own but in no sandbox: grade only copies that you would open and run yourself.

Each exercise has a process of its own, with a time limit: nothing that one does to Python, torch or `te.check` reaches another, and one that
hangs costs its own time alone. On Linux these are forks of a clean process that has imported torch once (multiprocessing's forkserver), a tenth
of a second each; elsewhere, where a fork of loaded libraries may crash, they are new processes, a few seconds each.
"""

import __future__

import ast
import csv
import faulthandler
import io
import json
import multiprocessing
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import Mock

import torch
from IPython.core.inputtransformer2 import TransformerManager
from tqdm import tqdm

from tmrn_edu import check
from tmrn_edu.check import readers, trial
from tmrn_edu.data.files import atomic_path, natural_key, reason
from tmrn_edu.errors import InputError

PASSED, EMPTY, MISSING = "passed", "empty", "missing"  # the marks that are asked for below; Mark names them all
TIMEOUT = 20.0  # seconds; no worked answer takes one
START = 120.0  # seconds that a process may take to import torch
LONGEST = 500  # characters of a message
METHOD = "forkserver" if sys.platform == "linux" else "spawn"
LESSON = {name: getattr(check, name).__module__ for name in check.__all__}  # checker -> the file of its lesson
LESSON = {name: file for name, file in LESSON.items() if file not in (readers.__name__, trial.__module__)}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Exercise:
    """One exercise of one notebook: `te.check.<checker>(<function>)`."""

    checker: str  # name in tmrn_edu.check
    function: str  # name of the function or class that it is given
    cells: tuple[str, ...]  # sources of the notebook's code cells
    index: int | None  # the cell that defines the function; None: there is none


@dataclass(frozen=True)
class Mark:
    """What came of one exercise of one notebook; the fields are the columns of the CSV file."""

    notebook: str  # path, as it was given
    exercise: int  # from 1, in the order of the lesson; 0 where the notebook has none
    checker: str  # name in tmrn_edu.check
    mark: str  # passed, not yet, empty, does not parse, raises, timed out, missing
    message: str  # what the checker said, or what went wrong; one line


def grade(words: Sequence[str | os.PathLike], timeout: int | float = TIMEOUT, progress: bool = False) -> list[Mark]:
    """The marks of all exercises in notebooks, and in all notebooks below folders, at most `timeout` seconds an exercise.

    Of a notebook nothing runs but the cell of each exercise, statement by statement, and what its code names: imports, functions and classes of
    other cells. So a helper, or the answer of an exercise before, may be used; variables of the lesson may not. Outputs stored in a notebook,
    and what its cells do to `te.check`, do not count. An exercise is `missing` from a copy when at least half of the copies of this lesson have
    it. All files are read before anything runs, none is written. Raises InputError for what is no notebook. Source: ours.
    """
    copies = {path: read_exercises(path) for path in find_notebooks(words)}
    marks = []
    for path, own in tqdm(copies.items(), unit="notebook", disable=not progress, leave=False):
        names = _expected(own, list(copies.values()))
        for number, name in enumerate(names, start=1):
            outcome = try_exercise(own[name], timeout) if name in own else (MISSING, f"no cell calls te.check.{name}")
            marks.append(Mark(str(path), number, name, *outcome))
        if not names:
            marks.append(Mark(str(path), 0, "", MISSING, "no cell calls a checker of an exercise"))
    return marks


def find_notebooks(words: Sequence[str | os.PathLike]) -> list[Path]:
    """The notebooks that are named, and those below folders in natural order, each once, checkpoints left out. Raises InputError for none."""
    found = {}
    for path in map(Path, words):
        below = [path]
        if path.is_dir():
            below = [p for p in path.rglob("*.ipynb") if p.is_file() and ".ipynb_checkpoints" not in p.parts]
            if not below:
                raise InputError(f"no notebook below {path}, expected files *.ipynb")
        elif not path.is_file():
            raise InputError(f"no notebook at {path}, expected a file *.ipynb or a folder of them")
        for each in sorted(below, key=lambda p: natural_key(p.as_posix())):
            found.setdefault(each.resolve(), each)
    return list(found.values())


def read_exercises(path: str | os.PathLike) -> dict[str, Exercise]:
    """Checker -> exercise, in the notebook's order. Cells tagged `check` go before others; of several calls of a checker, the last counts.

    The function is taken from the latest cell up to there that defines it, or from the cell tagged `exercise` that belongs to this check, if
    that one is later: so an answer whose `def` is broken is not replaced by an older one. Raises InputError for what is no notebook.
    """
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8-sig"))["cells"]
        cells = [cell for cell in cells if cell["cell_type"] == "code"]
        sources = tuple("".join(cell["source"]) for cell in cells)
        tags = [cell.get("metadata", {}).get("tags") or [] for cell in cells]
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is no Jupyter notebook of format 4, expected JSON with cells") from error
    calls = [
        ("check" in tags[i], i, checker, function)
        for i, source in enumerate(sources)
        for checker, function in _checker_calls(source)
        if checker in LESSON or "check" in tags[i] and not hasattr(check, checker)
    ]
    found = {}
    for _, i, checker, function in sorted(calls, key=lambda call: call[0]):
        before = max((j for _, j, *_ in calls if j < i), default=-1)
        tagged = [j for j in range(before + 1, i) if "exercise" in tags[j]]
        defining = [j for j in range(i + 1) if _defines(sources[j], function)]
        found[checker] = i, Exercise(checker, function, sources, max(tagged + defining, default=None))
    return {exercise.checker: exercise for _, exercise in sorted(found.values(), key=lambda at: at[0])}


def try_exercise(exercise: Exercise, timeout: int | float = TIMEOUT) -> tuple[str, str]:
    """Mark and message of one exercise, tried in a process of its own, in an empty folder; `timeout`: seconds, once torch is imported.

    Raises ChildProcessError (an OSError) where no process can be started.
    """
    if exercise.index is None:
        return MISSING, f"no cell defines {exercise.function}"
    context = multiprocessing.get_context(METHOD)
    if METHOD == "forkserver":
        context.set_forkserver_preload([__name__])
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = context.Process(target=_work, args=(exercise, timeout, folder, sender))
        process.start()
        sender.close()
        try:
            up = outcome = None
            with suppress(EOFError):  # the process has ended
                up = receiver.poll(START) and receiver.recv()
                outcome = receiver.poll(timeout) and receiver.recv()
            if not up:
                raise ChildProcessError("no process starts; a script must call this below `if __name__ == '__main__':`")
            if outcome is False:
                return "timed out", f"no answer within {timeout:g} s"
            process.join(1)  # so that it can tidy up
            return outcome or ("raises", f"its process ended, with exit status {process.exitcode}")
        finally:
            process.kill()
            process.join()
            receiver.close()


def table(marks: Sequence[Mark]) -> str:
    """A row a notebook, with its marks and how many passed; then a line for each that did not pass and is not just empty."""
    rows = {}
    for mark in marks:
        rows.setdefault(mark.notebook, []).append(mark)
    most = max((mark.exercise for mark in marks), default=0)
    lines = [["notebook", *map(str, range(1, most + 1)), "total"]]
    for name, own in rows.items():
        own = [mark for mark in own if mark.exercise]
        total = f"{sum(mark.mark == PASSED for mark in own)} of {len(own)}"
        lines.append([name, *(mark.mark for mark in own), *[""] * (most - len(own)), total])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    for mark in (missed := [mark for mark in marks if mark.mark not in (PASSED, EMPTY)]):
        place = f", exercise {mark.exercise}, {mark.checker}" if mark.exercise else ""
        text += ["", f"{mark.notebook}{place}: {mark.mark}: {mark.message}"][mark is not missed[0] :]
    return "\n".join(text)


def write_csv(path: str | os.PathLike, marks: Iterable[Mark]) -> None:
    """A line for each notebook and exercise, UTF-8. Raises InputError where the file cannot be written."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Mark.__dataclass_fields__)
        writer.writerows(map(astuple, marks))


def _expected(own: dict[str, Exercise], copies: Sequence[dict[str, Exercise]]) -> list[str]:
    """The checkers of a copy: those that at least half of the copies of its lesson call, in their order, then others of its own."""
    names = []
    for lesson in dict.fromkeys(LESSON[name] for name in own if name in LESSON):
        same = [kept for copy in copies if (kept := [name for name in copy if LESSON.get(name) == lesson])]
        counts = Counter(name for kept in same for name in kept)
        same.sort(key=len, reverse=True)
        names += [name for kept in same for name in kept if 2 * counts[name] >= len(same)]
    return list(dict.fromkeys([*names, *own]))


def _checker_calls(source: str) -> Iterator[tuple[str, str]]:
    """(checker, function) of every `te.check.<checker>(<function>)` in a cell."""
    for node in ast.walk(_parsed(source)) if "check." in source else ():
        match node:
            case ast.Call(ast.Attribute(ast.Attribute(_, "check") | ast.Name("check"), name), [ast.Name(function)]):
                yield name, function


def _defines(source: str, name: str) -> bool:
    """Whether a cell defines a name at its top level; it need not parse."""
    pattern = rf"^(?:async +def|def|class)\s+{name}\b|^{name}\s*(?::[^=\n]*)?=(?!=)"
    return re.search(pattern, source, re.MULTILINE) is not None


def _python(source: str) -> str:
    """A cell as Python: magics become calls of `get_ipython()`; of a cell under `%%time` and the like the rest, of other cell magics nothing."""
    first, _, rest = source.lstrip().partition("\n")
    if first.startswith("%%"):
        source = rest if re.match(r"%%(time|timeit|capture|prun)\b", first) else ""
    return TransformerManager().transform_cell(source)


def _parsed(source: str) -> ast.Module:
    """A cell's statements; none where it does not parse."""
    with warnings.catch_warnings(), suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        warnings.simplefilter("ignore")  # "\d" in a string
        return ast.parse(_python(source))
    return ast.Module([], [])


def _borrowed(cell: ast.Module, others: Sequence[ast.Module]) -> list[ast.stmt]:
    """The imports, functions and classes of other cells that a cell's code names, or one of these does; the last of a name counts."""
    definitions = {node.name: node for tree in others for node in tree.body if isinstance(node, DEFINITIONS)}
    names, used = _names(cell), []
    while more := [node for name, node in definitions.items() if name in names and node not in used]:
        used += more
        names = names.union(*map(_names, more))
    imports = [node for tree in others for node in _imports(tree.body)]
    bound = [{alias.asname or alias.name.split(".")[0] for alias in node.names} for node in imports]
    imports = [node for node, own in zip(imports, bound, strict=True) if own & (names | {"*"})]
    return imports + [node for tree in others for node in tree.body if node in used]


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _imports(nodes: Iterable[ast.AST]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements outside functions and classes, those under `if` and `try` too."""
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, DEFINITIONS):
            yield from _imports(ast.iter_child_nodes(node))


def _work(exercise: Exercise, timeout: int | float, folder: str, sender) -> None:
    """What the process does: says that it is up, then the outcome."""
    os.chdir(folder)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    faulthandler.dump_traceback_later(2 * timeout + 10, exit=True)  # should whoever kills this process be gone
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sender.send("up")
    mark, message = _outcome(exercise)
    line = " ".join("".join(c if c.isprintable() else " " for c in message).split())
    sender.send((mark, line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."))


def _outcome(exercise: Exercise) -> tuple[str, str]:
    """Mark and message; in the exercise's own process, since its code runs here."""
    checker = getattr(check, exercise.checker, None)  # before anything of the notebook runs
    if checker is None:
        return "raises", f"this version of tmrn_edu has no checker {exercise.checker}"
    cells, i = exercise.cells, exercise.index
    try:
        tree = ast.parse(_python(cells[i]))
        flags = compile(tree, "<exercise>", "exec", dont_inherit=True).co_flags & __future__.annotations.compiler_flag
    except SyntaxError as error:
        return "does not parse", f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        return "does not parse", str(error) or type(error).__name__
    space = {"__name__": "__main__", "get_ipython": Mock()}  # magics do nothing

    def run(statement):
        exec(compile(ast.Module([statement], []), "<exercise>", "exec", flags, dont_inherit=True), space)

    trouble = ""
    with redirect_stdout(io.StringIO()):
        for statement in _borrowed(tree, [_parsed(cell) for cell in (*cells[i + 1 :], *cells[:i])]):
            with suppress(Exception, SystemExit):  # then a name is missing, which the cell will say if it matters
                run(statement)
        space.pop(exercise.function, None)  # of this cell, or not at all
        for statement in tree.body:  # one by one: a line that wants the lesson's variables does not cost the function
            try:
                run(statement)
            except (Exception, SystemExit) as error:
                trouble = trouble or f"{_told(error)} (line {statement.lineno} of the cell)"
    if exercise.function not in space:
        return "raises", trouble or f"the cell does not define {exercise.function}"
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            passed = checker(space[exercise.function])
    except BaseException as error:
        return "raises", _told(error)
    message = (re.findall(r"(?:passed|not yet): (.*)", printed.getvalue()) or [""])[-1]
    if passed is True:
        return PASSED, message
    if message == "the function is still empty":  # all checkers say so of a stub
        return EMPTY, message
    return "not yet", message + (f"; its cell raises {trouble}" if trouble else "")


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"
