"""A run's folder: what is in it, and that a file in it is whole at any moment.

    run.json              the recipe as run, reader, data, versions, git commit, command
    metrics.csv           one line for `log_every` steps
    checkpoint.pt         weights, optimiser, step: what a run continues from
    events.out.tfevents.* the same numbers and pictures for TensorBoard, one file a checkpoint
    samples/*.png         a clip with its true masks above and those found below
    network.safetensors   the weights, at the end

Every file is written under a hidden name and renamed when it is whole. metrics.csv is renewed every few seconds, events come with checkpoints; a
resumed run drops the lines after its checkpoint, so no step is there twice.
"""

import csv
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tmrn_edu.data.files import atomic_path
from tmrn_edu.errors import InputError
from tmrn_edu.training.settings import DEFAULTS, FREE, Recipe
from tmrn_edu.weights import unlike

SECONDS = 10  # between two writings of metrics.csv, at least
CHECKPOINT, RUN, METRICS, NETWORK, SAMPLES = (
    "checkpoint.pt",
    "run.json",
    "metrics.csv",
    "network.safetensors",
    "samples",
)


class RunFolder:
    """One run's folder. `rows`: the lines of metrics.csv so far; `seconds`: training time so far, earlier parts of the run included.

    `reader`: that of the recipe's network as it was built, see `weights.reader_of`.
    """

    def __init__(self, out: str | os.PathLike, recipe: Recipe, reader: tuple[str, Mapping]):
        self.out, self.recipe, self.reader = Path(out), recipe, reader
        self.rows: list[dict] = []
        self.seconds = 0.0
        self._written = 0  # rows that TensorBoard has
        self._last_write = time.monotonic()  # of metrics.csv
        self._pictures: list[tuple[int, np.ndarray]] = []

    # ------------------------------------------------------------------ opening

    def begin(self, about: Mapping) -> None:
        """A new run. Raises InputError where one has been begun already."""
        if any((self.out / name).exists() for name in (CHECKPOINT, NETWORK, RUN)):
            raise InputError(
                f"{self.out} already holds a run; choose another folder, or continue it with --resume (resume=True in Python)"
            )
        self._write_json({**self._identity(), "about": dict(about)})

    def resume(self, about: Mapping) -> Mapping | None:
        """The state of the last checkpoint, None where the run ended before its first.

        Raises InputError where there is no run, or one with other settings, data or reader, naming those that differ. Settings that change only
        what is recorded may differ (`settings.FREE`).
        """
        path = self.out / RUN
        if not path.exists():
            raise InputError(f"nothing to resume in {self.out}: expected {RUN}, which every run writes first")
        found, asked = json.loads(path.read_text()), self._identity()
        found["settings"] = (
            DEFAULTS | found["settings"]
        )  # a run of an earlier version had as its only value what is the default now
        names = [k for k, v in asked["settings"].items() if k not in FREE and found["settings"].get(k) != v]
        if found["recipe"] != asked["recipe"] or names:
            words = lambda run: ", ".join(f"{k} {run['settings'].get(k)}" for k in names)
            there, wanted = (run["recipe"] + (f" with {words(run)}" if names else "") for run in (found, asked))
            raise InputError(f"{self.out} holds a run of {there}, asked for is {wanted}")
        if "reader" in found and (sides := unlike(found["reader"], asked["reader"])):  # earlier versions did not say
            raise InputError(f"{self.out} holds a run with the reader {sides[0]}, now the network has {sides[1]}")
        before, now = (run.get("data") for run in (found.get("about", {}), about))
        if None not in (before, now) and _in_plural(before) != _in_plural(now):
            raise InputError(f"{self.out} holds a run on {before}; now the data is {now}")
        for stray in self.out.rglob(".*.part*"):  # of a write that was killed
            shutil.rmtree(stray) if stray.is_dir() else stray.unlink(missing_ok=True)
        if not self.has_checkpoint:
            return None
        state = torch.load(self.out / CHECKPOINT, weights_only=True, map_location="cpu")
        self.seconds = state["seconds"]
        self.rows = _read_rows(self.out / METRICS, state["step"])
        self._written = len(self.rows)
        return state

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to continue from."""
        return (self.out / CHECKPOINT).exists()

    @property
    def finished(self) -> bool:
        """Whether the run has come to its end."""
        return (self.out / NETWORK).exists()

    def _identity(self) -> dict:
        settings = asdict(self.recipe.settings)
        return json.loads(json.dumps({"recipe": self.recipe.name, "settings": settings, "reader": self.reader}))

    def _write_json(self, content: Mapping) -> None:
        with atomic_path(self.out / RUN) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")

    # ------------------------------------------------------------------ on the way

    def log(self, row: Mapping) -> None:
        """A line of metrics.csv, which is written every few seconds, and with each checkpoint."""
        self.rows.append({name: f"{value:.9g}" if isinstance(value, float) else value for name, value in row.items()})
        if time.monotonic() - self._last_write > SECONDS:
            self._write_metrics()

    def picture(self, step: int, picture: np.ndarray) -> None:
        """A sample picture, uint8 `H W 3`."""
        with atomic_path(self.out / SAMPLES / f"{step:08d}.png") as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
        self._pictures.append((step, picture))

    def save(self, state: Mapping) -> None:
        """Metrics, events, and the checkpoint last, since it is what a resumed run goes by."""
        self._write_metrics()
        self._write_events()
        with atomic_path(self.out / CHECKPOINT) as temporary:
            torch.save({**state, "seconds": self.seconds, "recipe": self.recipe.name}, temporary)

    def _write_metrics(self) -> None:
        self._last_write = time.monotonic()
        if self.rows:
            names = list(dict.fromkeys(name for row in self.rows for name in row))
            with atomic_path(self.out / METRICS) as temporary, open(temporary, "w", newline="") as file:
                writer = csv.DictWriter(file, fieldnames=names, restval="")
                writer.writeheader()
                writer.writerows(self.rows)

    def _write_events(self) -> None:
        """What is new since the last checkpoint, as a file of TensorBoard's that is closed before it gets its name."""
        new = self.rows[self._written :]
        if not new and not self._pictures:
            return
        from tensorboardX import SummaryWriter  # an extra; `train` has looked whether it is there

        with tempfile.TemporaryDirectory(dir=self.out, prefix=".events.", suffix=".part") as folder:
            with SummaryWriter(folder) as writer:
                for row in new:
                    for name, value in row.items():
                        if name != "step" and value != "":
                            writer.add_scalar(name, float(value), int(row["step"]))
                for step, picture in self._pictures:
                    writer.add_image("sample", picture, step, dataformats="HWC")
            (file,) = Path(folder).iterdir()
            last = int(new[-1]["step"]) if new else self._pictures[-1][0]
            os.replace(file, self.out / f"events.out.tfevents.{last:010d}.tmrn_edu")
        self._written, self._pictures = len(self.rows), []


def about_run(devices: str, about: Mapping) -> dict:
    """What else is worth knowing of a run: what `about` says of data and first weights, devices, versions, commit, command."""
    packages = {"python": platform.python_version(), "torch": torch.__version__}
    for name in ("tmrn-edu", "lightning-fabric", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:  # run from a folder that is not installed
            packages[name] = "not installed"
    return dict(about) | {
        "devices": devices,
        "versions": packages,
        "commit": git_commit(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
    }


def git_commit() -> str | None:
    """The commit of the checkout that this package lies in, "+changes" where it was changed since; None outside one."""
    folder = Path(__file__).parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, tracked = git("rev-parse", "HEAD"), git("ls-files", "--error-unmatch", "train.py")
    if commit is None or tracked is None:  # no git, no repository, or somebody else's
        return None
    return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no", ".") else "")


def _in_plural(data: str) -> str:
    """What data is in words, as it can be compared: earlier versions wrote "24 video"."""
    return re.sub(r"(\d) video\b", r"\1 videos", data)


def _read_rows(path: Path, steps: int) -> list[dict]:
    if not steps or not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) < steps]
