"""The promises of the project files: what installs, what imports what, and words that must not be in here."""

import ast
import graphlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "tmrn_edu"
MODULES = sorted(PACKAGE.rglob("*.py"))
SEVEN = {"torch", "jupyterlab", "ipywidgets", "matplotlib", "numpy", "einops", "nbval"}
COMMANDS = ("tour", "gallery", "segment", "evaluate", "train", "data", "compare", "figure", "grade", "networks")

# A file imports only from files further up; the files of one folder may use each other, but never in a circle.
ORDER = (
    ("errors", "nb", "bootstrap"),
    ("masks",),
    ("data",),
    ("blocks",),
    ("encoders",),
    ("memory",),
    ("decoder",),
    ("mobile",),
    ("networks",),
    ("weights",),
    ("official",),
    ("imagenet",),
    ("losses", "folding"),
    ("inputs",),
    ("inference",),
    ("segmenter", "looking"),
    ("snapshots",),
    ("frame_metrics",),
    ("metrics",),
    ("attributes",),
    ("evaluate_clips",),
    ("submission",),
    ("splits", "predictions", "evaluation"),
    ("evaluate",),
    ("worth",),
    ("runs",),
    ("compare",),
    ("tables",),
    ("viz",),
    ("training",),
    ("train",),
    ("segment_video",),
    ("correcting",),
    ("report",),
    ("exhibits",),
    ("tour", "gallery"),
    ("check",),
    ("nb",),
    ("recipes",),
    ("ablation",),
    ("courses",),
    ("commands",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}


def pyproject() -> dict:
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10; pytest brings tomli there
        import tomli as tomllib
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def environment() -> tuple[list[str], list[str]]:
    """environment.yml's own dependencies, and its pip list, read by the tool that .ci/run uses."""
    spec = importlib.util.spec_from_file_location("env_to_requirements", ROOT / "tools" / "env_to_requirements.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    return [entry for entry in dependencies if isinstance(entry, str)], tool.pip_lines(ROOT / "environment.yml")


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def declared() -> set[str]:
    """Every package that pyproject.toml names, the extras' included."""
    project = pyproject()["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return set().union(*map(names, lists)) - {"tmrn-edu"}


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def project_files() -> list[Path]:
    """What git tracks or would track; outside a repository, all that is neither hidden nor made by a run."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listing.returncode == 0:
        found = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        made = re.compile(r"(^|/)(\.(?!ci/|github/|gitignore$)|__pycache__/|build/|dist/|out/|runs/|[^/]*\.egg-info/)")
        found = [path for path in ROOT.rglob("*") if not made.search(path.relative_to(ROOT).as_posix())]
    return sorted(path for path in found if path.is_file())


def dotted(path: Path) -> str:
    """tmrn_edu/memory/affinity.py -> memory.affinity, tmrn_edu/memory/__init__.py -> memory, tmrn_edu/__init__.py -> (empty)"""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


def imported(path: Path) -> set[str]:
    """The modules of this package that a file imports, anywhere in it, as dotted names; the package itself is ''."""
    known = {dotted(module) for module in MODULES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            full = [alias.name for alias in node.names if alias.name.split(".")[0] == "tmrn_edu"]
            found.update(name.removeprefix("tmrn_edu").lstrip(".") for name in full)
        elif isinstance(node, ast.ImportFrom):
            base = (node.module or "").split(".")
            if node.level:
                package = ["tmrn_edu", *path.relative_to(PACKAGE).parent.parts]
                base = package[: len(package) - node.level + 1] + [part for part in base if part]
            if base[0] == "tmrn_edu":
                # `from tmrn_edu import masks` means the module, `from tmrn_edu.masks import x` something in it
                for alias in node.names:
                    name = ".".join([*base[1:], alias.name])
                    found.add(name if name in known else ".".join(base[1:]))
    return found - {dotted(path)}


def public_arguments() -> list[list[str]]:
    return [["--help"], *[[command, "--help"] for command in COMMANDS]]


def test_environment_fits_the_project():
    conda, pip = environment()
    python = [entry for entry in conda if entry.startswith("python=")]
    assert len(python) == 1 and "pip" in conda and len(conda) == 2
    assert python[0].split("=")[-1] in Requirement("python" + pyproject()["project"]["requires-python"]).specifier
    assert "-c constraints.txt" in pip and "-e .[dev]" in pip
    named = names([line for line in pip if not line.startswith("-")])
    assert named == SEVEN and named <= declared()


def test_constraints_name_a_version_of_everything_declared():
    pinned = {canonicalize_name(requirement.name): requirement for requirement in constraints()}
    assert declared() <= set(pinned) and len(pinned) == len(constraints())
    for requirement in pinned.values():
        specifiers = list(requirement.specifier)
        assert len(specifiers) == 1 and specifiers[0].operator == "==", requirement
        assert "+" not in specifiers[0].version, f"{requirement}: a build tag fits one kind of machine only"
    project = pyproject()["project"]
    for line in project["dependencies"] + sum(project["optional-dependencies"].values(), []):
        wanted = Requirement(line)
        if wanted.name != "tmrn-edu":
            version = next(iter(pinned[canonicalize_name(wanted.name)].specifier)).version
            assert version in wanted.specifier, f"pyproject.toml asks for {wanted}, constraints.txt has {version}"


def test_everything_in_the_package_is_installed():
    patterns = pyproject()["tool"]["setuptools"]["package-data"]["tmrn_edu"]
    data = [path.relative_to(PACKAGE) for path in project_files() if PACKAGE in path.parents and path.suffix != ".py"]
    assert (PACKAGE / "py.typed").exists()
    assert not [path.as_posix() for path in data if not any(path.match(pattern) for pattern in patterns)]


def test_every_module_has_its_place_in_the_order():
    unknown = {dotted(path) for path in MODULES if dotted(path) and dotted(path).split(".")[0] not in RANK}
    assert not unknown, f"add {unknown} to ORDER"


@pytest.mark.parametrize("path", [path for path in MODULES if dotted(path)], ids=dotted)
def test_imports_point_one_way(path):
    own = dotted(path).split(".")[0]
    if own not in RANK:
        pytest.skip("has no place in ORDER, which the test before says")
    for name in imported(path):
        if not name:  # `import tmrn_edu as te` is the reader's way in, so for recipes and the command line only
            assert own in ("recipes", "tour", "__main__"), f"{dotted(path)} imports the whole package"
        else:
            other = name.split(".")[0]
            assert other == own or RANK.get(other, -1) < RANK[own], (
                f"{dotted(path)} imports {name}, which stands after it"
            )


def test_imports_never_run_in_a_circle():
    graph = {dotted(path): imported(path) - {""} for path in MODULES if dotted(path)}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, with the circle


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_reshaping_names_its_axes(path):
    """einops patterns only: a bare permutation does not say what the axes are. And no line is bound to one kind of device."""
    forbidden = {"view", "permute", "transpose", "flatten", "squeeze", "unsqueeze", "cuda"}
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    found = [(call.lineno, call.func.attr) for call in calls if getattr(call.func, "attr", None) in forbidden]
    assert not found


def test_no_file_is_tied_to_a_machine():
    """No path of somebody's computer, no address of a package registry: pip installs from where the user's pip does."""
    machine = r"(?<![\w.$>}])/(?:work|root|home|Users|opt|tmp)/[\w.]|[A-Z]:\\\\?Users\b|file:/" + "//"
    registry = r"index-" + r"url|find-" + r"links|trusted-" + r"host|python" + r"hosted\.org|pypi\.org/" + r"simple"
    forbidden = re.compile(f"{machine}|{registry}")
    found = []
    for path in project_files():
        content = path.read_bytes()
        if b"\0" in content or path == Path(__file__).resolve():
            continue
        for number, line in enumerate(content.decode("utf-8").splitlines(), start=1):
            text = "" if re.match(r'\s*"image/(png|jpeg)": ', line) else line
            found += [f"{path.relative_to(ROOT)}:{number}: {match[0]}" for match in [forbidden.search(text)] if match]
    assert not found


def test_no_file_is_large():
    assert not [path.name for path in project_files() if path.stat().st_size > 10_000_000]


def test_readme_links_lead_somewhere():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)", text)
    local = [target for target in targets if not target.startswith(("http://", "https://", "mailto:"))]
    assert local and not [target for target in local if not (ROOT / target).exists()]


def test_ci_runs_what_the_readme_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for marker in ("test-command", "tour-command"):
        blocks = re.findall(rf"^<!-- {marker} -->\n```\n.+\n```$", readme, flags=re.M)
        assert len(blocks) == 1, f"one block of one line should be marked {marker}, there are {len(blocks)}"
        assert f"run_readme {marker}" in ci


@pytest.mark.parametrize("arguments", public_arguments(), ids=lambda arguments: arguments[0])
def test_help_shows_an_example(arguments, monkeypatch, capsys):
    from tmrn_edu.__main__ import main

    monkeypatch.setattr(sys, "argv", ["tmrn-edu", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    shown = capsys.readouterr().out
    command = "" if arguments == ["--help"] else arguments[0]
    assert stop.value.code == 0
    assert re.search(rf"example.*^\s*(\$ )?tmrn-edu {command}", shown, flags=re.I | re.S | re.M), shown


def test_no_page_waits_for_its_tables():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert not [page.name for page in pages if re.search(r"\b[A-Z]+_TABLE\b", page.read_text(encoding="utf-8"))]


def test_a_script_beside_the_clone_finds_the_package(tmp_path):
    """There the folder of the clone is called as the package is, and must not be taken for it."""
    (tmp_path / "tmrn_edu" / "tmrn_edu").mkdir(parents=True)
    code = "import tmrn_edu; print(tmrn_edu.__file__)"
    (tmp_path / "mine.py").write_text(code)
    found = subprocess.run([sys.executable, "mine.py"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert found.strip().endswith("__init__.py")
