"""The scores of one method on one split: as numbers, as a table, as JSON.

YouTube-VOS averages over the objects of seen and of unseen categories by themselves: `G = (J_seen + F_seen + J_unseen + F_unseen) / 4`,
unseen being what the training split has no object of (youtube-vos.org, "Evaluation").
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tmrn_edu.data.files import atomic_path
from tmrn_edu.metrics import Score


@dataclass(frozen=True)
class Evaluation:
    """The scores of one method on one split."""

    dataset: str  # "davis2016", "davis2017", "youtubevos2018", "youtubevos2019" or "folder"
    split: str  # "val"; the folder's name where the data set is a folder of one's own videos
    list_file: str  # which list named the sequences; of a folder the names of its sets
    method: str  # the network's name, or what it is and its reader's class ("STCN with SpaceTimeReader"), or the folder of results
    score: (
        Score | None
    )  # averages over all objects of all sequences; per_object by "sequence/id". None where a server keeps the truth
    per_sequence: dict[str, Score]  # each sequence by itself; per_object by id
    frames_per_second: float | None  # frames through the network per second of its own time; None when none ran
    attributes: dict[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # sequence -> what is hard in it, by `attributes`
    seen: dict[str, bool] | None = None  # YouTube-VOS: "sequence/id" -> whether training has objects of its category
    frames_folder: str | None = None  # YouTube-VOS: where the frames came from, all of them or each fifth

    def by_category(self) -> dict[str, float | None]:
        """G, J_seen, F_seen, J_unseen and F_unseen in [0, 1] where categories are known, else nothing; None for a mean over no object."""
        if self.score is None or self.seen is None:
            return {}
        means = {}
        for name, seen in (("seen", True), ("unseen", False)):
            objects = [one for key, one in self.score.per_object.items() if self.seen[key] == seen]
            for measure in ("J", "F"):
                values = [getattr(one, measure).mean for one in objects]
                means[f"{measure}_{name}"] = float(np.mean(values)) if values else None
        whole = None not in means.values()
        return {"G": sum(means.values()) / 4 if whole else None} | means

    def as_dict(self) -> dict:
        """Plain numbers in [0, 1]: "J&F", "J", "F", ..., "per_object", "per_sequence", then where they come from.

        Without truth the scores are left out. "attributes" is there for all data sets; YouTube-VOS adds `by_category` and "seen".
        """
        sequences = {name: one.as_dict() for name, one in self.per_sequence.items()}
        for one in sequences.values():
            del one["per_object"]  # they are in the first "per_object" already
        origin = {key: getattr(self, key) for key in ("dataset", "split", "list_file", "method", "frames_per_second")}
        scores = {} if self.score is None else self.score.as_dict() | self.by_category()
        plain = scores | {"per_sequence": sequences} | origin
        plain["attributes"] = {name: list(ones) for name, ones in self.attributes.items()}
        if self.seen is not None:
            plain["seen"] = self.seen
        if self.frames_folder is not None:
            plain["frames_folder"] = self.frames_folder
        return plain

    def table(self) -> str:
        """The scores as text: a line per object, then the average over objects, and on YouTube-VOS those by category."""
        lines = [f"{self.method} on {self.dataset} {self.split} ({self.list_file})"]
        if self.score is None:
            lines.append("no scores: the server keeps the masks")
        else:
            lines += ["", *self._rows()]
        if self.frames_per_second is not None:
            lines.append(f"{self.frames_per_second:.1f} frames/s")
        return "\n".join(lines)

    def _rows(self):
        rows = {name: one.as_dict() for name, one in self.score.per_object.items()}
        count = len(rows)
        rows[f"mean of {count} object{'s' if count > 1 else ''}"] = self.score.as_dict()
        columns = {"J&F": "J&F", "J": "J", "J_recall": "recall", "J_decay": "decay"}
        columns |= {"F": "F", "F_recall": "recall", "F_decay": "decay"}
        width = max(len(name) for name in rows)
        lines = [f"{'sequence/object':<{width}}" + "".join(f"{title:>8}" for title in columns.values())]
        lines += [f"{name:<{width}}" + "".join(f"{row[key]:8.3f}" for key in columns) for name, row in rows.items()]
        means = {name: "none" if value is None else f"{value:.3f}" for name, value in self.by_category().items()}
        return lines + ([", ".join(f"{name} {value}" for name, value in means.items())] if means else [])


def write_json(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write `evaluation.as_dict()` as JSON, whole or not at all. Raises InputError when the file cannot be written."""
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(evaluation.as_dict(), indent=2, allow_nan=False) + "\n")
