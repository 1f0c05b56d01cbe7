"""Build notebooks/*.ipynb from their sources notebooks/src/*.py: convert, run from the top, normalise, write.

    python tools/build_notebooks.py                    # all of them, the answers too
    python tools/build_notebooks.py 01 answers/02      # those whose name starts so
    python tools/build_notebooks.py --check            # run again; say which stored notebooks would change, write nothing
    python tools/build_notebooks.py --text             # only the text changed: keep the stored outputs, run nothing
    python tools/build_notebooks.py --address https://github.com/YOU/tmrn_edu     # your own copy: badges and Colab's first cells name it

The source is plain Python with `# %%` cells (jupytext's py:percent), which reads well in a review. The notebook is
committed with its outputs, so that it reads well without running, and `pytest` compares those outputs with a new run.
Building twice gives the same file: what differs from run to run is taken out or numbered (see `normalise`).
Links to lines of the package are written by name, and their line numbers renewed here (`source_lines.py`).
"""

import argparse
import hashlib
import json
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from source_lines import with_lines

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SOURCES = NOTEBOOKS / "src"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
ADDRESS = r'(?m)^Repository = "(https://github\.com/[^"/]+/[^"/]+)"'
INSTALL = re.compile(
    r"git\+https://[^\"]+"
)  # where Colab's first cell gets the library: text, not code that is run here
PICTURES = ("image/png", "image/jpeg")  # encoded differently from one version of matplotlib to the next


def select(names: list[str]) -> list[Path]:
    """The sources whose path below notebooks/src starts with one of `names`; all where there are none.

    A name that fits no source ends the run.
    """
    sources = sorted(SOURCES.rglob("*.py"))
    known = {path: path.relative_to(SOURCES).with_suffix("").as_posix() for path in sources}
    for name in names:
        if not any(stem.startswith(name) for stem in known.values()):
            sys.exit(f"no source starts with {name!r}; there are: {', '.join(known.values())}")
    return [path for path in sources if not names or known[path].startswith(tuple(names))]


def target(source: Path) -> Path:
    """notebooks/src/answers/01_x.py -> notebooks/answers/01_x.ipynb"""
    return (NOTEBOOKS / source.relative_to(SOURCES)).with_suffix(".ipynb")


def execute(source: Path) -> nbformat.NotebookNode:
    """Convert one source and run it from the top, in the folder of its notebook, with the state of its widgets kept."""
    notebook = jupytext.read(source, fmt="py:percent")
    folder = target(source).parent
    folder.mkdir(parents=True, exist_ok=True)
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        record_timing=False,
        store_widget_state=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return notebook


def with_stored_outputs(source: Path) -> nbformat.NotebookNode:
    """Convert one source and take the outputs from its stored notebook. Raises ValueError where code changed since that was run."""
    notebook, stored = jupytext.read(source, fmt="py:percent"), nbformat.read(target(source), as_version=4)
    new, old = ([cell for cell in twin.cells if cell.cell_type == "code"] for twin in (notebook, stored))
    changed = [
        cell.source for cell, twin in zip(new, old) if INSTALL.sub("", cell.source) != INSTALL.sub("", twin.source)
    ]
    if changed or len(new) != len(old):
        first = changed[0].splitlines()[0] if changed else f"{len(new)} code cells, {len(old)} are stored"
        raise ValueError(f"code has changed, so it must be run: {first}")
    for cell, twin in zip(new, old, strict=True):
        cell["outputs"], cell["execution_count"] = twin.outputs, twin.execution_count
    notebook["metadata"] = stored.metadata
    return notebook


def normalise(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Take out what differs between two runs of the same source.

    Cell ids come from the cell's text; versions and timings go; neighbouring pieces of one stream are joined; a
    traceback keeps its last line (the others name files of this machine); widget models are numbered as they appear.
    """
    seen: dict[str, int] = {}
    for cell in notebook.cells:
        digest = hashlib.sha256(f"{cell.cell_type} {cell.source}".encode()).hexdigest()[:8]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        tags = cell.metadata.get("tags", [])
        cell["metadata"] = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            cell["outputs"] = joined(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "error":
                    output["traceback"] = [f"{output.ename}: {output.evalue}"]

    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"file_extension": ".py", "mimetype": "text/x-python", "name": "python"},
    }
    widgets = notebook.metadata.get("widgets", {}).get(WIDGET_STATE)
    if widgets and widgets["state"]:
        metadata["widgets"] = {WIDGET_STATE: widgets}
    notebook["metadata"] = nbformat.from_dict(metadata)
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    return renamed_widgets(notebook)


def joined(outputs: list) -> list:
    """One output per run of the same stream: how the kernel cuts a stream into messages depends on timing."""
    result = []
    for output in outputs:
        last = result[-1] if result else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last["text"] += output.text
        else:
            result.append(output)
    return result


def renamed_widgets(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Random ids of widget models -> widget-001, widget-002, ...: those shown, in order, then the rest as created."""
    state = notebook.metadata.get("widgets", {}).get(WIDGET_STATE, {}).get("state", {})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    shown = [output.data[WIDGET_VIEW]["model_id"] for output in outputs if WIDGET_VIEW in output.get("data", {})]
    text = json.dumps(notebook)
    for number, model in enumerate(dict.fromkeys([*shown, *state]), start=1):
        text = text.replace(model, f"widget-{number:03d}")
    return nbformat.reads(text, as_version=4)


def comparable(notebook: nbformat.NotebookNode) -> dict:
    """What `--check` compares: all but the bytes of pictures and the state of widgets (that they are there counts)."""
    plain = json.loads(nbformat.writes(notebook))
    for cell in plain["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).update({kind: "a picture" for kind in PICTURES if kind in output.get("data", {})})
    plain["metadata"]["widgets"] = "widgets" in plain["metadata"]
    return plain


def write(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Write under a temporary name first: a stopped run leaves the old notebook whole."""
    draft = path.with_name(path.name + ".draft")
    draft.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")
    os.replace(draft, path)


def renew_lines(source: Path) -> None:
    """Brings the line numbers of a source's links to the package up to date."""
    text = source.read_text(encoding="utf-8")
    if (renewed := with_lines(text)) != text:
        source.write_text(renewed, encoding="utf-8", newline="\n")


def address() -> str:
    """Where this repository is on GitHub, from pyproject.toml."""
    return re.search(ADDRESS, (NOTEBOOKS.parent / "pyproject.toml").read_text(encoding="utf-8")).group(1)


def move_to(new: str) -> None:
    """Writes another address of this repository into pyproject.toml and into the badges and first cells of the sources."""
    if not (name := re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+)", new)):
        sys.exit(f"the address is {new!r}, expected https://github.com/OWNER/NAME")
    old = address()
    for path in [NOTEBOOKS.parent / "pyproject.toml", NOTEBOOKS / "README.md", *SOURCES.rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        text = text.replace(
            f"colab.research.google.com/github/{old.removeprefix('https://github.com/')}/",
            f"colab.research.google.com/github/{name[1]}/",
        )
        path.write_text(text.replace(old, new), encoding="utf-8", newline="\n")


def main() -> int:
    example = "example: python tools/build_notebooks.py 01 answers/01"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], epilog=example)
    parser.add_argument("names", nargs="*", help="beginnings of names below notebooks/src (default: all)")
    parser.add_argument("--check", action="store_true", help="run and compare with the stored notebooks, write nothing")
    parser.add_argument("--text", action="store_true", help="only text changed: keep the stored outputs, run nothing")
    parser.add_argument("--address", help="where the repository is: https://github.com/OWNER/NAME (implies --text)")
    options = parser.parse_args()
    if options.address:
        move_to(options.address)

    # Kernels inherit these, as they do under pytest (conftest.py): the same sums in the same order, no progress bars.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TMRN_PROGRESS", "0")

    trouble = 0
    for source in select(options.names):
        path = target(source)
        name, started = path.relative_to(NOTEBOOKS.parent).as_posix(), time.monotonic()
        try:
            if not options.check:
                renew_lines(source)
            stored = options.text or options.address
            notebook = normalise(with_stored_outputs(source) if stored else execute(source))
        except (CellExecutionError, ValueError) as error:
            trouble += 1
            print(f"{name}: not built\n{error}", file=sys.stderr)
            continue
        if not options.check:
            write(notebook, path)
            print(f"{name}: written, {path.stat().st_size / 1000:.0f} kB, {time.monotonic() - started:.0f} s")
        elif not path.exists() or comparable(nbformat.read(path, as_version=4)) != comparable(notebook):
            trouble += 1
            print(f"{name}: differs from a new run; build it again")
        else:
            print(f"{name}: as stored")
    return 1 if trouble else 0


if __name__ == "__main__":
    sys.exit(main())
