"""`tmrn-edu grade`: marks of copies of a lesson, whatever the students did to them; nothing of a lesson runs, nothing of a copy is changed."""

import csv
import json
import time

import pytest

from tmrn_edu.__main__ import main
from tmrn_edu.check import grading
from tmrn_edu.check.grading import find_notebooks, grade, read_exercises
from tmrn_edu.errors import InputError

IMPORTS = "import torch\nimport tmrn_edu as te\nfrom einops import rearrange"
RIGHT = "def frame_shares(similarity):\n    return similarity.logsumexp(dim=2).softmax(dim=1)"
WRONG = "def frame_shares(similarity):\n    return similarity.amax(dim=2).softmax(dim=1)"
STUB = "def frame_shares(similarity):\n    raise NotImplementedError"
CALL = "passed = te.check.frame_shares(frame_shares)"
WEIGHTS = (
    "def space_time_weights(similarity):\n    rows = rearrange(similarity, 'b t m q -> b (t m) q').softmax(dim=1)\n"
    "    return rearrange(rows, 'b (t m) q -> b t m q', t=similarity.shape[1])"
)
WEIGHTS_CALL = "te.check.space_time_weights(space_time_weights)"
FORGETFUL = """
class ForgetfulReader(te.memory.SpaceTimeReader):
    def __init__(self, rate=1.0, similarity=None, top_k=OWN):
        super().__init__(similarity, top_k)
        self.rate = rate

    def settings(self):
        return super().settings() | {"rate": self.rate}

    def temporal_score(self, step, query_key, aligned_value):
        evidence = step.affinity.evidence
        steps = torch.as_tensor(per_clip(step.steps, "b -> b 1", evidence), dtype=evidence.dtype)
        return evidence - self.rate * torch.log1p(steps)
"""


def write(path, *cells):
    """A notebook of code cells: a source, or (source, tag)."""
    cells = [cell if isinstance(cell, tuple) else (cell,) for cell in cells]
    code = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": source.splitlines(True), "outputs": []}
        for source, *tags in cells
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = [{"cell_type": "markdown", "metadata": {}, "source": f"`{CALL}` is no cell of code"}]
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": text + code}))
    return path


def exercise(source, call=CALL):
    return (source, "exercise"), (call, "check")


@pytest.fixture
def mark(tmp_path):
    """(mark, message) of the one exercise of a notebook of these cells, after the imports."""

    def graded(*cells, timeout=20):
        (only,) = grade([write(tmp_path / "copy.ipynb", IMPORTS, *cells)], timeout)
        return only.mark, only.message

    return graded


# --------------------------------------------------------------------------------------------------- marks


def test_right_wrong_and_empty(mark):
    assert mark(*exercise(RIGHT))[0] == "passed"
    name, message = mark(*exercise(WRONG))
    assert name == "not yet" and "frame" in message and "passed" not in message
    assert mark(*exercise(STUB)) == ("empty", "the function is still empty")


def test_what_does_not_parse_is_named_by_its_line(mark):
    name, message = mark(*exercise("# first\ndef frame_shares(similarity)\n    return 1"))
    assert name == "does not parse" and message.startswith("line 2: ")
    assert mark(*exercise("return 1"))[0] == "does not parse"  # seen by the compiler only
    assert mark(*exercise("x = '\0'"))[0] == "does not parse"


def test_what_raises(mark):
    assert mark(*exercise("1 / 0\n")) == ("raises", "ZeroDivisionError: division by zero (line 1 of the cell)")
    assert mark(*exercise("def other(): ...")) == ("raises", "the cell does not define frame_shares")
    name, message = mark(*exercise("def frame_shares(s):\n    raise KeyError('gone')"))
    assert name == "not yet" and "KeyError: 'gone'" in message  # an exception is an answer, as in the lesson
    assert mark(*exercise("def frame_shares(s):\n    raise SystemExit('enough')")) == ("raises", "SystemExit: enough")
    ended = "import os\ndef frame_shares(s):\n    os._exit(3)"
    assert mark(*exercise(ended)) == ("raises", "its process ended, with exit status 3")


def test_a_loop_without_end_costs_its_own_time_only(tmp_path):
    endless = "def frame_shares(similarity):\n    while True:\n        pass"
    path = write(tmp_path / "copy.ipynb", IMPORTS, *exercise(endless), *exercise(WEIGHTS, WEIGHTS_CALL))
    assert grade([write(tmp_path / "first.ipynb", IMPORTS, *exercise(STUB))])  # imports torch
    start = time.monotonic()
    marks = grade([path], 1)
    assert [(m.checker, m.mark) for m in marks] == [("frame_shares", "timed out"), ("space_time_weights", "passed")]
    assert marks[0].message == "no answer within 1 s" and time.monotonic() - start < 15
    (only,) = grade([write(path, IMPORTS, *exercise(RIGHT + "\nwhile True: pass"))], 1)
    assert only.mark == "timed out"  # of the cell, too


def test_nothing_of_the_lesson_runs(mark, tmp_path):
    trace = tmp_path / "trace"
    write_trace = f"open({str(trace)!r}, 'w').write('here')"
    others = [write_trace, "raise RuntimeError('elsewhere')", "import no_such_module", "def broken(:", "%%bash\nexit 1"]
    assert mark(*others, *exercise(RIGHT), *others)[0] == "passed"
    assert not trace.exists()
    assert mark(*exercise("open('file', 'w').write('x')\n" + RIGHT))[0] == "passed"  # into a folder of its own
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.ipynb"]


def test_variables_of_the_lesson_are_not_there_imports_and_helpers_are(mark):
    shares = "def frame_shares(s):\n    return evidence(s).softmax(dim=1)"
    helper = "def inner(s):\n    return s.logsumexp(dim=2)", "def evidence(s):\n    return inner(s)"
    assert mark(*helper, *exercise(shares))[0] == "passed"
    assert "name 'evidence' is not defined" in mark(*exercise(shares))[1]
    assert mark(*exercise(RIGHT + "\nprint(frame_shares(clip))"))[0] == "passed"  # trying it out is not held against it
    name, message = mark(*exercise("scale = clip.shape\n" + STUB.replace("raise NotImplementedError", "return scale")))
    assert name == "not yet" and message.endswith("NameError: name 'clip' is not defined (line 1 of the cell)")
    late = RIGHT.replace("similarity.logsumexp(dim=2)", "late(similarity, dim=2)")
    assert mark(*exercise(late), "if True:\n    from torch import logsumexp as late")[0] == "passed"
    assert (
        mark("from torch import amax as late", *exercise(late), "from torch import logsumexp as late")[0] == "not yet"
    )


def test_magics_do_nothing(mark):
    assert mark(*exercise(f"%%time\n{RIGHT}\n%timeit frame_shares(torch.zeros(1, 2, 3, 4))\nx = !ls"))[0] == "passed"
    annotated = RIGHT.replace("(similarity)", "(similarity: Unknown)")
    assert mark(*exercise(f"from __future__ import annotations\n{annotated}"))[0] == "passed"


@pytest.mark.parametrize("where", ["before", "inside"])
def test_what_a_notebook_does_to_the_checkers_does_not_count(mark, where):
    cheat = (
        "import tmrn_edu.check\nte.check.frame_shares = tmrn_edu.check.frame_shares = lambda f: print('passed: me') or True\n"
        "te.check = None\nprint('passed: me too')"
    )
    cells = [cheat, *exercise(WRONG)] if where == "before" else exercise(f"{cheat}\n{WRONG}")
    assert mark(*cells)[0] == "not yet"


def test_one_exercise_does_not_reach_the_next(tmp_path):
    spoils = "torch.softmax = torch.Tensor.softmax = None\n"
    write(tmp_path / "a.ipynb", IMPORTS, *exercise(spoils + WRONG), *exercise(WEIGHTS, WEIGHTS_CALL))
    write(tmp_path / "b.ipynb", IMPORTS, *exercise(RIGHT), *exercise(WEIGHTS, WEIGHTS_CALL))
    assert [mark.mark for mark in grade([tmp_path])] == ["raises", "passed", "passed", "passed"]


def test_lost_tags(mark):
    assert mark(RIGHT, "other = 1", CALL)[0] == "passed"
    assert mark(f"{IMPORTS}\n{RIGHT}\n{CALL}")[0] == "passed"  # all in one cell
    assert mark(STUB, RIGHT, CALL)[0] == "passed" and mark(RIGHT, STUB, CALL)[0] == "empty"  # as in Jupyter
    assert mark(CALL, RIGHT) == ("missing", "no cell defines frame_shares")
    assert mark("frame_shares = lambda s: s.logsumexp(2).softmax(1)", CALL)[0] == "passed"
    assert (
        mark(*exercise(STUB), RIGHT.replace("frame", "my"), "te.check.frame_shares(my_shares)")[0] == "empty"
    )  # tags first
    assert mark(*exercise(RIGHT), "te.check.reader(te.memory.SpaceTimeReader)", "Mine = 1", "te.check.reader(Mine)")[0] == "passed"  # fmt: skip


def test_no_result_is_stale(tmp_path, mark):
    path = write(tmp_path / "copy.ipynb", IMPORTS, *exercise(WRONG))
    stored = json.loads(path.read_text())
    stored["cells"][-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "passed: a week ago"}]
    path.write_text(json.dumps(stored))
    assert [m.mark for m in grade([path])] == ["not yet"]
    path.write_text(path.read_text().replace("amax", "logsumexp"))
    assert [m.mark for m in grade([path])] == ["passed"]
    assert mark(RIGHT, *exercise("de frame_shares(s):\n    return s"))[0] == "does not parse"  # not the older one
    assert mark(RIGHT, *exercise("again = frame_shares"))[0] == "raises"


def test_a_class(mark):
    imports = (
        "from tmrn_edu.memory.space_time import OWN, per_clip, query_positions",
        "class Base(torch.nn.Module): ...",
    )
    call = "te.check.forgetful_reader(ForgetfulReader)"
    assert mark(*imports, *exercise(FORGETFUL, call))[0] == "passed"
    name, message = mark(*imports, *exercise(FORGETFUL.replace("evidence - self", "evidence + self"), call))
    assert name == "not yet" and "minus rate" in message


def test_what_is_missing_by_the_other_copies(tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.ipynb", IMPORTS, *exercise(WEIGHTS, WEIGHTS_CALL), *exercise(RIGHT))
    write(tmp_path / "c.ipynb", IMPORTS, *exercise(RIGHT))
    write(tmp_path / "d.ipynb", IMPORTS, WEIGHTS, "te.check.squared_l2(space_time_weights)", *exercise(RIGHT))
    write(tmp_path / "e.ipynb", "print('nothing')")
    write(tmp_path / "f.ipynb", IMPORTS, *exercise(RIGHT, "te.check.of_tomorrow(frame_shares)"))
    marks = {}
    for m in grade([tmp_path]):
        marks.setdefault(m.notebook[-7], []).append((m.exercise, m.checker, m.mark))
    assert marks["a"] == [(1, "space_time_weights", "passed"), (2, "frame_shares", "passed")]
    assert marks["c"] == [(1, "space_time_weights", "missing"), (2, "frame_shares", "passed")]
    assert [name for _, name, _ in marks["d"]] == ["space_time_weights", "frame_shares", "squared_l2"]
    assert marks["e"] == [(0, "", "missing")] and marks["f"] == [(1, "of_tomorrow", "raises")]


def test_a_process_that_does_not_start_is_no_mark(mark, monkeypatch):
    monkeypatch.setattr(grading, "START", 0)
    with pytest.raises(ChildProcessError, match="no process starts"):
        mark(*exercise(RIGHT), timeout=0)


def test_messages_are_one_line_that_can_be_printed(mark):
    source = "def frame_shares(s):\n    raise ValueError('\\ud800 \\x1b[31m' + 'x' * 10_000)"
    name, message = mark(*exercise(source))
    assert name == "not yet" and message.isprintable() and message.encode() and len(message) < 600


# --------------------------------------------------------------------------------------- files and the command


def test_find_notebooks(tmp_path):
    for name in ("b/copy10.ipynb", "b/copy9.ipynb", "a.ipynb", "b/.ipynb_checkpoints/copy9-checkpoint.ipynb"):
        write(tmp_path / name, "1")
    (tmp_path / "notes.txt").write_text("")
    names = [p.relative_to(tmp_path).as_posix() for p in find_notebooks([tmp_path, tmp_path / "a.ipynb"])]
    assert names == ["a.ipynb", "b/copy9.ipynb", "b/copy10.ipynb"]


def test_the_command(tmp_path, capsys):
    path = write(tmp_path / "copies" / "Müller.ipynb", IMPORTS, *exercise(WRONG), *exercise(WEIGHTS, WEIGHTS_CALL))
    before = path.read_bytes(), path.stat().st_mtime_ns
    out = tmp_path / "marks" / "marks.csv"
    assert main(["grade", str(tmp_path / "copies"), "--csv", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["notebook", "1", "2", "total"]
    assert lines[1] == f"{path}  not yet  passed  1 of 2"
    assert lines[3].startswith(f"{path}, exercise 1, frame_shares: not yet: ") and lines[-1] == str(out)
    with open(out, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [list(row.values())[:4] for row in rows] == [
        [str(path), "1", "frame_shares", "not yet"],
        [str(path), "2", "space_time_weights", "passed"],
    ]
    assert lines[3].endswith(rows[0]["message"]) and rows[1]["message"]
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [p.name for p in out.parent.iterdir()] == ["marks.csv"]


def test_bad_input_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(grading, "try_exercise", lambda *_: pytest.fail("something ran before all was read"))
    good = write(tmp_path / "good.ipynb", IMPORTS, *exercise(RIGHT))
    (tmp_path / "empty").mkdir()
    wrong = {
        "text.ipynb": "no JSON",
        "list.ipynb": "[1]",
        "old.ipynb": '{"worksheets": []}',
        "odd.ipynb": '{"cells": [1]}',
    }
    for name, text in wrong.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "bytes.ipynb").write_bytes(b"\xff\xfe\0")
    expected = {name: "is no Jupyter notebook of format 4" for name in (*wrong, "bytes.ipynb")}
    for name, words in (expected | {"gone.ipynb": "no notebook at", "empty": "no notebook below"}).items():
        assert main(["grade", str(good), str(tmp_path / name)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and words in err and name in err and len(err.splitlines()) == 1
    text = good.read_bytes()
    for name in (good, tmp_path / "empty"):  # `--csv *.ipynb`
        assert main(["grade", str(good), "--csv", str(name)]) == 2
        assert "expected the name of a file that ends in .csv" in capsys.readouterr().err
    assert good.read_bytes() == text
    with pytest.raises(SystemExit) as stop:
        main(["grade", str(good), "--timeout", "0"])
    assert stop.value.code == 2 and "expected a whole number, at least 1" in capsys.readouterr().err
    with pytest.raises(InputError, match="cannot read"):
        read_exercises(tmp_path / "empty")


def test_help_says_what_it_is_not(capsys):
    with pytest.raises(SystemExit):
        main(["grade", "--help"])
    out = capsys.readouterr().out
    assert "no exams" in out and "only copies that you would open and run yourself" in out
