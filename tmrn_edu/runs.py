"""Runs to compare: the JSON files that `tmrn-edu evaluate --json` writes, read back and checked against each other."""

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tmrn_edu.data.files import reason
from tmrn_edu.data.listing import few
from tmrn_edu.errors import InputError

KEYS = ("J", "F", "J_recall", "F_recall")  # of every object of a run


@dataclass(frozen=True)
class Run:
    """The scores of one method, object by object."""

    name: str  # in tables
    dataset: str  # "davis2017"
    split: str  # "val"
    objects: Mapping[str, Mapping[str, float]]  # "sequence/id" -> J, F, J_recall, F_recall in [0, 1]
    frames_per_second: float | None = None  # None where masks were scored that somebody made earlier
    attributes: Mapping[str, tuple[str, ...]] | None = None  # sequence -> its attributes, where the file has them
    seen: Mapping[str, bool] | None = None  # YouTube-VOS: "sequence/id" -> whether its category is one of training

    @property
    def sequences(self) -> tuple[str, ...]:
        """Names of the sequences, in the file's order."""
        return tuple(dict.fromkeys(sequence_of(key) for key in self.objects))


def sequence_of(key: str) -> str:
    """ "bear/1" -> "bear"."""
    return key.rpartition("/")[0]


def read_run(text: str | os.PathLike) -> Run:
    """A run from FILE or NAME=FILE; without a NAME it is called as the file without its suffix.

    Raises InputError for a file that is not there, is no JSON, or is no JSON of `tmrn-edu evaluate`, saying what is
    missing in it, or whose "seen" lacks objects. Source: ours.
    """
    name, equals, file = str(text).partition("=")
    if not equals or Path(text).exists():
        name, file = Path(text).stem, str(text)
    if not name:
        raise InputError(f"run {text!r} has no name before the =, expected FILE or NAME=FILE")
    plain = _read_json(Path(file))
    if not isinstance(plain, dict) or "dataset" not in plain:
        there = ", ".join(map(str, plain)) if isinstance(plain, dict) else f"a {type(plain).__name__}"
        raise InputError(f"{file} holds {there or 'nothing'}; expected scores that tmrn-edu evaluate --json wrote")
    objects = plain.get("per_object")
    if not isinstance(objects, dict) or not objects:
        about = f"{plain['dataset']} {plain.get('split')}"
        raise InputError(f"{file} has scores of 0 objects of {about}, a table needs at least 1 (a submission has none)")
    for key, one in objects.items():
        values = [one.get(measure) if isinstance(one, dict) else None for measure in KEYS]
        if not sequence_of(key) or not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            got = dict(zip(KEYS, values, strict=True))
            raise InputError(f"{file}: object {key!r} has {got}; expected sequence/id with a number for each")
    seen = plain.get("seen")
    if seen is not None and not (isinstance(seen, dict) and objects.keys() <= seen.keys()):
        lacks = [key for key in objects if not isinstance(seen, dict) or key not in seen]
        counts = f"{len(objects) - len(lacks)} of {len(objects)} objects"
        raise InputError(f'{file}: "seen" has {counts}, not {few(lacks)}; expected all of them, or no "seen"')
    return Run(
        name=name,
        dataset=str(plain["dataset"]),
        split=str(plain.get("split")),
        objects=objects,
        frames_per_second=plain.get("frames_per_second"),
        attributes={name: tuple(ones) for name, ones in plain["attributes"].items()} if "attributes" in plain else None,
        seen=seen,
    )


def check_runs(runs: Sequence[Run]) -> None:
    """Raises InputError unless the runs have different names and scored the same objects of one split."""
    if not runs:
        raise InputError("0 runs to compare, needs at least 1")
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{names.count(twice[0])} runs are called {twice[0]!r}; NAME=FILE gives each its own name")
    first = runs[0]
    for run in runs[1:]:
        if (run.dataset, run.split) != (first.dataset, first.split):
            raise InputError(
                f"{run.name} is on {run.dataset} {run.split}, {first.name} on {first.dataset} {first.split}"
            )
        for what, one, other in (
            ("sequence", run.sequences, first.sequences),
            ("object", tuple(run.objects), tuple(first.objects)),
        ):
            if set(one) != set(other):
                lacks = "; ".join(
                    f"{has.name} lacks {few([name for name in wanted if name not in there])}"
                    for has, there, wanted in ((run, one, other), (first, other, one))
                    if set(wanted) - set(there)
                )
                counts = f"{run.name} has {len(one)} {what}s, {first.name} {len(other)}"
                raise InputError(f"{counts}: {lacks}; a comparison needs the same")


def read_attributes(path: str | os.PathLike) -> dict[str, tuple[str, ...]]:
    """Attributes of sequences from a file: JSON {"bear": ["small", ...]}, or lines "bear,small,fast-motion" in a .csv.

    Raises InputError for a file that cannot be read or is neither. Source: ours.
    """
    path = Path(path)
    if path.suffix.lower() == ".csv":
        lines = [[word.strip() for word in line] for line in csv.reader(_read(path).splitlines())]
        return {line[0]: tuple(word for word in line[1:] if word) for line in lines if line and line[0]}
    plain = _read_json(path)
    if not isinstance(plain, dict) or not all(
        isinstance(ones, list) and all(isinstance(one, str) for one in ones) for ones in plain.values()
    ):
        raise InputError(f'{path} holds no lists of attributes by sequence; expected {{"bear": ["small"], ...}}')
    return {name: tuple(ones) for name, ones in plain.items()}


def find_attributes(
    runs: Sequence[Run], given: Mapping[str, tuple[str, ...]] | None = None
) -> dict[str, tuple[str, ...]]:
    """The attributes of the runs' sequences: `given` ones, or those of the first run that has them for all.

    Raises InputError where sequences have none.
    """
    sequences = runs[0].sequences
    found = given
    if found is None:
        had = [run.attributes for run in runs if run.attributes]
        if not had:
            raise InputError("0 runs have attributes; evaluate once more, or give --attributes FILE")
        found = max(had, key=lambda one: len(set(one) & set(sequences)))
    if missing := [name for name in sequences if name not in found]:
        raise InputError(
            f"attributes are known for {len(sequences) - len(missing)} of {len(sequences)} sequences, "
            f"not for {few(missing)}; expected all of them"
        )
    return {name: found[name] for name in sequences}


def _read(path):
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error


def _read_json(path):
    try:
        return json.loads(_read(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no JSON: {reason(error)}") from error
