"""Links from lessons to lines of the package: which line a name is defined on, so that links can be written by name and never go stale.

In a lesson's text: [`negative_squared_l2`](../tmrn_edu/memory/similarity.py). `tools/build_notebooks.py` adds `#L20`, or renews it.
"""

import ast
import re
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[`([\w.]+)`\]\(((?:\.\./)+)(tmrn_edu/[\w/]+\.py)(?:#L\d+)?\)")


def with_lines(text: str, top: Path = TOP) -> str:
    """`text` with `#L<line>` at each such link; the link's text is a name of that file, as `name`, `Class.name` or with modules before it.

    A link whose text is the file's own name gets no line. Raises ValueError for a file that is not there and for a name that it does not define.
    """

    def renewed(link: re.Match) -> str:
        name, up, file = link.groups()
        if not (top / file).exists():
            raise ValueError(f"a lesson links {name} to {file}, which is not there")
        if file.endswith(name):
            return f"[`{name}`]({up}{file})"
        lines = _lines(top / file)
        parts = name.split(".")
        known = [".".join(parts[start:]) for start in range(len(parts)) if ".".join(parts[start:]) in lines]
        if not known:
            raise ValueError(f"a lesson links {name} to {file}, which defines {', '.join(sorted(lines))}")
        return f"[`{name}`]({up}{file}#L{lines[known[0]]})"

    return LINK.sub(renewed, text)


@cache
def _lines(path: Path) -> dict[str, int]:
    """Names of functions, classes, their methods and constants of a file, and the line of each."""
    found: dict[str, int] = {}

    def collect(body: list, prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[prefix + node.name] = node.lineno
            if isinstance(node, ast.ClassDef):
                collect(node.body, f"{prefix}{node.name}.")
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            found.update({prefix + target.id: node.lineno for target in targets if isinstance(target, ast.Name)})

    collect(ast.parse(path.read_text(encoding="utf-8")).body, "")
    return found
