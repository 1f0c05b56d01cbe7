"""What strict nbval cannot see: it compares outputs that are stored, and is content where none are.

These tests read the stored notebooks only; pytest runs them besides, through nbval (pyproject.toml).
"""

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import jupytext
import nbformat
import pytest

from tmrn_edu.check.grading import read_exercises, try_exercise

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SOURCES = FOLDER / "src"
LESSONS = sorted(FOLDER.glob("*.ipynb"))
ANSWERS = sorted((FOLDER / "answers").glob("*.ipynb"))

TAGS = {  # documented in CONTRIBUTING.md
    "exercise",  # the reader's function: a stub in the lesson, worked out in the answers
    "check",  # calls te.check.<name>(function)
    "raises-exception",  # an error shown on purpose; nbval compares its name and message
    "nbval-ignore-output",  # timings and the like; at most two cells
}


def name_of(path: Path) -> str:
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def printed(cell) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")


def checkers(path: Path) -> list[str]:
    """Names of the checkers that a notebook's `check` cells call, in order."""
    checking = [cell.source for cell in code_cells(path) if "check" in tags(cell)]
    return [name for source in checking for name in re.findall(r"te\.check\.(\w+)\(", source)]


each = pytest.mark.parametrize("path", LESSONS + ANSWERS, ids=name_of)
each_lesson = pytest.mark.parametrize("path", LESSONS, ids=name_of)
each_answer = pytest.mark.parametrize("path", ANSWERS, ids=name_of)


def test_there_are_notebooks_and_every_one_has_its_source():
    built = {name_of(path) for path in LESSONS + ANSWERS}
    written = {path.relative_to(SOURCES).with_suffix("").as_posix() for path in SOURCES.rglob("*.py")}
    assert built, "no notebook in notebooks/"
    assert built == written


@each
def test_executed(path):
    """A notebook stripped of its outputs passes nbval: nothing is stored, so nothing is compared."""
    cells = code_cells(path)
    missing = [cell.source.splitlines()[0] for cell in cells if cell.execution_count is None]
    assert cells and not missing
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "not run from the top in one go"
    errors = [cell for cell in cells if any(output.output_type == "error" for output in cell.outputs)]
    assert all("raises-exception" in tags(cell) for cell in errors)


@each
def test_source_holds_the_same_cells(path):
    """`python tools/build_notebooks.py` was run after the last edit, of either twin."""
    source = jupytext.read((SOURCES / path.relative_to(FOLDER)).with_suffix(".py"), fmt="py:percent")
    built = nbformat.read(path, as_version=4)
    twins = [[(cell.cell_type, cell.source, tags(cell)) for cell in twin.cells] for twin in (built, source)]
    assert twins[0] == twins[1]


@each
def test_no_cell_ends_in_a_semicolon(path):
    """It hides the last value from Jupyter and from the stored outputs, but not from nbval, which then fails."""
    assert not [cell.source for cell in code_cells(path) if cell.source.rstrip().endswith(";")]


@each
def test_tags(path):
    cells = nbformat.read(path, as_version=4).cells
    assert {tag for cell in cells for tag in tags(cell)} <= TAGS
    assert sum("nbval-ignore-output" in tags(cell) for cell in cells) <= 2


@each
def test_same_for_everyone(path):
    """As the build tool leaves it: no versions, no machine, and small enough that it is shown on the web."""
    notebook = nbformat.read(path, as_version=4)
    assert notebook.metadata.kernelspec.name == "python3" and "version" not in notebook.metadata.language_info
    assert path.stat().st_size < 1_000_000
    state = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    assert all(re.fullmatch(r"widget-\d{3,}", model) for model in state)


@each
def test_widgets_have_a_picture_and_their_state(path):
    """Without a kernel a reader sees the picture (not trusted) or the saved widget (trusted), never `model not found`."""
    view = "application/vnd.jupyter.widget-view+json"
    state = json.dumps(nbformat.read(path, as_version=4).metadata.get("widgets", {}))
    for cell in code_cells(path):
        for output in cell.outputs:
            if view in output.get("data", {}):
                assert "image/png" in output.data, cell.source
                assert output.data[view]["model_id"] in state, cell.source


@pytest.fixture(scope="module")
def tool():
    """tools/build_notebooks.py"""
    place = FOLDER.parent / "tools"
    sys.path.insert(0, str(place))  # it imports its neighbour
    try:
        spec = importlib.util.spec_from_file_location("build_notebooks", place / "build_notebooks.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(place))
    return module


@each
def test_links_to_the_package_name_the_lines_of_today(path, tool):
    """`python tools/build_notebooks.py --text` renews them."""
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    assert tool.with_lines(text) == text


PAGES = [FOLDER / "README.md", FOLDER.parent / "README.md", FOLDER.parent / "CONTRIBUTING.md"]
PAGES += sorted((FOLDER.parent / "docs").glob("*.md"))


@pytest.mark.parametrize(
    "path", [*LESSONS, *ANSWERS, *PAGES], ids=lambda path: path.relative_to(FOLDER.parent).as_posix()
)
def test_links_lead_somewhere(path):
    """Relative ones, to files and folders of this repository."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    text = re.sub(r"``.*?``|^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)  # examples of links are none
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    there = [link for link in links if link and "://" not in link]
    assert [link for link in there if not (path.parent / link).exists()] == []


def test_links_are_renewed_by_name(tool, tmp_path):
    (tmp_path / "tmrn_edu").mkdir()
    (tmp_path / "tmrn_edu" / "a.py").write_text("EPS = 1\n\n\nclass A:\n    def b(self): ...\n\n\ndef c(): ...\n")
    link = "[`{}`](../tmrn_edu/a.py{})".format
    for name, line in (("A", "#L4"), ("te.A.b", "#L5"), ("a.c", "#L8"), ("EPS", "#L1"), ("a.py", "")):
        assert tool.with_lines(link(name, "#L77"), tmp_path) == link(name, line)
    with pytest.raises(ValueError, match="links d to tmrn_edu/a.py, which defines A, A.b, EPS, c"):
        tool.with_lines(link("d", ""), tmp_path)
    with pytest.raises(ValueError, match="tmrn_edu/b.py, which is not there"):
        tool.with_lines("[`d`](../tmrn_edu/b.py)", tmp_path)


@each_lesson
def test_opens_in_colab(path, tool):
    """A badge under the title, and a first cell that installs the library there, from the address in pyproject.toml."""
    badge = nbformat.read(path, as_version=4).cells[0].source.splitlines()[2]
    repository = tool.address().removeprefix("https://github.com/")
    assert f"https://colab.research.google.com/github/{repository}/blob/main/notebooks/{path.name}" in badge
    first = code_cells(path)[0]
    assert 'if "google.colab" in sys.modules:\n    %pip install' in first.source and not first.outputs
    assert f'git+{tool.address()}"' in first.source


def test_another_address_is_written_everywhere(tool, tmp_path, monkeypatch):
    """And only there; a notebook takes its text without being run, and refuses when its code has changed."""
    source = 'A = "https://github.com/{}/x"\n# https://colab.research.google.com/github/{}/x/blob/main\n'.format
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project.urls]\nRepository = "https://github.com/old/x"\n')
    (tmp_path / "notebooks" / "README.md").write_text("old\n")
    (tmp_path / "notebooks" / "src" / "00.py").write_text(source("old", "old"))
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(tool, "SOURCES", tmp_path / "notebooks" / "src")
    tool.move_to("https://github.com/new/x")
    assert tool.address() == "https://github.com/new/x"
    assert (tmp_path / "notebooks" / "src" / "00.py").read_text() == source("new", "new")
    assert (tmp_path / "notebooks" / "README.md").read_text() == "old\n"
    with pytest.raises(SystemExit, match="expected https://github.com/OWNER/NAME"):
        tool.move_to("https://elsewhere.org/x")


def test_stored_outputs_are_kept_only_where_the_code_is_the_same(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(tool, "SOURCES", tmp_path / "src")
    (tmp_path / "src").mkdir()
    text = '# %% [markdown]\n# # {}\n\n# %%\n{} = 1\n"git+https://{}"\n'.format
    source = tmp_path / "src" / "00.py"
    source.write_text(text("Before", "x", "a/b"))
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.cells[1]["execution_count"] = 1
    tool.write(tool.normalise(notebook), tmp_path / "00.ipynb")
    source.write_text(text("After", "x", "c/d"))
    kept = tool.normalise(tool.with_stored_outputs(source))
    assert kept.cells[0].source == "# After" and kept.cells[1].execution_count == 1 and "c/d" in kept.cells[1].source
    source.write_text(text("After", "y", "c/d"))
    with pytest.raises(ValueError, match="code has changed, so it must be run: y = 1"):
        tool.with_stored_outputs(source)


@each_lesson
def test_starts_with_a_picture(path):
    first = code_cells(path)[1:6]  # after that for Colab
    assert any("image/png" in output.get("data", {}) for cell in first for output in cell.outputs)


@each_lesson
def test_exercises_are_open(path):
    """Each stub is followed by its checker, which says `not yet: ...`; the answers call the same checkers."""
    cells = code_cells(path)
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if "exercise" in tags(cell):
            assert following is not None and "check" in tags(following), cell.source
        if "check" in tags(cell):
            assert re.search(r"te\.check\.\w+\(", cell.source), cell.source
            assert printed(cell).startswith("not yet: "), "a stub passes, or a checker is silent: " + cell.source
    answers = FOLDER / "answers" / path.name
    assert (checkers(answers) if answers.exists() else []) == checkers(path)


@each_answer
def test_answers_pass(path):
    assert (FOLDER / path.name).exists() and checkers(path)
    for cell in code_cells(path):
        if "check" in tags(cell):
            assert cell.source.startswith("assert te.check."), cell.source
            assert printed(cell).startswith("passed: "), cell.source


@each_answer
def test_answers_need_no_more_than_their_lesson_imports(path):
    """Each worked answer, put into its lesson, passes with what the lesson imports up to there."""
    answers = read_exercises(path)
    failed = {}
    for name, stub in read_exercises(FOLDER / path.name).items():
        cells = (*stub.cells[: stub.index], answers[name].cells[answers[name].index])
        mark, message = try_exercise(replace(stub, cells=cells))
        failed |= {} if mark == "passed" else {name: f"{mark}: {message}"}
    assert not failed


def test_the_syllabus_lists_every_lesson_with_its_exercises():
    syllabus = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in LESSONS:
        (row,) = [line for line in syllabus.splitlines() if line.startswith("|") and f"]({path.name})" in line]
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert int(cells[-1]) == len(checkers(path)) and int(cells[-2]) > 0, row
        assert re.fullmatch(r"\d+ \+ \d+", cells[-3]), row
        minutes = re.search(r"About (\d+) minutes, and (\d+) for the exercises", path.read_text(encoding="utf-8"))
        assert cells[-3] == " + ".join(minutes.groups()), row


def test_every_checker_belongs_to_a_lesson():
    from tmrn_edu import check

    of_lessons = {name for path in LESSONS for name in checkers(path)}
    assert set(check.__all__) - of_lessons == {"examples", "identity", "random_tensors", "reader", "trial"} & set(
        check.__all__
    )
