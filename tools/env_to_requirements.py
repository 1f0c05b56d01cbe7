"""Print the pip list of environment.yml as a requirements file, so that it can be tried without conda.

    python tools/env_to_requirements.py environment.yml > requirements-from-environment.txt
    python -m pip install -r requirements-from-environment.txt

conda writes the same lines to a file in the folder of environment.yml and gives that to pip. Keep the file in that
folder too, for `-c constraints.txt` and `-e .` are relative paths.
"""

import sys
from pathlib import Path

import yaml


def pip_lines(path: Path) -> list[str]:
    """The entries under `pip:` of a conda environment file.

    Raises ValueError where there is no such list, several, or no `pip` to install it with.
    """
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    lists = [entry["pip"] for entry in dependencies if isinstance(entry, dict) and "pip" in entry]
    if len(lists) != 1 or "pip" not in dependencies:
        raise ValueError(f"{path} should name `pip` and hold one `pip:` list, it holds {len(lists)} in {dependencies}")
    return lists[0]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/env_to_requirements.py environment.yml")
    print("\n".join(pip_lines(Path(sys.argv[1]))))
