"""A data set's split in, a table of scores out: `tmrn-edu evaluate`.

Masks come from a network run here, from a folder of masks somebody made earlier, or from any object with a `step`;
the scoring is `tmrn_edu.metrics` in all three cases. The protocol is DAVIS' semi-supervised one: the first frame's
mask is given, the objects are those of that mask, the first and the last frame do not count (Pont-Tuset et al.,
arXiv:1704.00675, section 3).
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from tqdm import tqdm

from tmrn_edu.data.davis import Sequence, image_size, list_file, open_davis
from tmrn_edu.data.files import atomic_path, reason
from tmrn_edu.data.video import read_mask, write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.masks import index_to_object_masks
from tmrn_edu.metrics import Score, combine, score
from tmrn_edu.segmenter import Segmenter, StepResult
from tmrn_edu.weights import load

YEARS = {"davis2016": 2016, "davis2017": 2017}


@dataclass(frozen=True)
class Evaluation:
    """The scores of one method on one split."""

    dataset: str  # "davis2016" or "davis2017"
    split: str  # "val"
    list_file: str  # which list named the sequences
    method: str  # the network's name, or the folder of results
    score: Score  # averages over all objects of all sequences; per_object by "sequence/id"
    per_sequence: dict[str, Score]  # each sequence by itself; per_object by id
    frames_per_second: float | None  # frames through the network per second of its own time; None when none ran

    def as_dict(self) -> dict:
        """Plain numbers in [0, 1]: "J&F", "J", "F", ..., "per_object", "per_sequence", then where they come from."""
        sequences = {name: one.as_dict() for name, one in self.per_sequence.items()}
        for one in sequences.values():
            del one["per_object"]  # they are in the first "per_object" already
        origin = {key: getattr(self, key) for key in ("dataset", "split", "list_file", "method", "frames_per_second")}
        return self.score.as_dict() | {"per_sequence": sequences} | origin

    def table(self) -> str:
        """The scores as text: a line per object, then the average over objects."""
        rows = {name: one.as_dict() for name, one in self.score.per_object.items()}
        count = len(rows)
        rows[f"mean of {count} object{'s' if count > 1 else ''}"] = self.score.as_dict()
        columns = {"J&F": "J&F", "J": "J", "J_recall": "recall", "J_decay": "decay"}
        columns |= {"F": "F", "F_recall": "recall", "F_decay": "decay"}
        width = max(len(name) for name in rows)
        lines = [f"{self.method} on {self.dataset} {self.split} ({self.list_file})", ""]
        lines.append(f"{'sequence/object':<{width}}" + "".join(f"{title:>8}" for title in columns.values()))
        lines += [f"{name:<{width}}" + "".join(f"{row[key]:8.3f}" for key in columns) for name, row in rows.items()]
        if self.frames_per_second is not None:
            lines.append(f"{self.frames_per_second:.1f} frames/s")
        return "\n".join(lines)


class RepeatFirst:
    """The floor: a `Segmenter` that repeats the masks it was given and never looks at a frame.

    What a method scores above this, it owes to having followed the object: `evaluate(..., segmenter=RepeatFirst)`.
    Source: ours.
    """

    def __init__(self):
        self.index_mask = None

    def step(self, frame: UInt8[Tensor, "H W 3"], index_mask: UInt8[Tensor, "H W"] | None = None) -> StepResult:
        """The mask so far; a new one is laid over it (late objects). Raises InputError without a first mask."""
        if index_mask is None and self.index_mask is None:
            raise InputError("the first frame came without a mask, needs one with at least 1 object")
        if self.index_mask is None:
            self.index_mask = index_mask
        elif index_mask is not None:
            self.index_mask = torch.where(index_mask != 0, index_mask, self.index_mask)
        ids = tuple(label for label in self.index_mask.unique().tolist() if label != 0)
        return StepResult(self.index_mask, index_to_object_masks(self.index_mask, (0, *ids)), ids)


def evaluate(
    dataset: str,
    root: str | os.PathLike,
    split: str = "val",
    sequences: Iterable[str] | None = None,
    network: str | nn.Module | None = None,
    results: str | os.PathLike | None = None,
    segmenter: Callable[[], Any] | None = None,
    device: str | torch.device | None = None,
    memory_every: int | None = None,
    short_side: int | None = None,
    precision: str | None = None,
    masks_out: str | os.PathLike | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score a method on a split of a data set.

    dataset, root, split, sequences: "davis2016" (one merged object a sequence) or "davis2017", as in `open_davis`.

    The method is exactly one of
        network     a name for `tmrn_edu.load`, or a network; run by a `Segmenter` with device, memory_every, short_side, precision
        results     a folder with RESULTS/<sequence>/00000.png, one palette PNG per frame
        segmenter   a function without arguments, called once per sequence, that returns an object with
                    `.step(frame, index_mask=None)`, whose answer has an `.index_mask`

    masks_out: folder that gets the predicted masks, laid out so that it can be given as `results`. progress: a bar
    on stderr.

    Only the first mask is given, and only its objects count: labels that the truth has later on are background here,
    as for the official evaluation. Everything is checked before the first frame is read or scored.

    Raises InputError naming both sides: unknown data set; not one method; an option the method has no use for; whatever
    `open_davis` finds; a sequence, a frame or a size of `results` that does not fit the data set, ids it does not have.
    Source: Pont-Tuset et al. 2017; davis2017-evaluation.
    """
    if dataset not in YEARS:
        raise InputError(f"data set {dataset!r} is unknown, there are {', '.join(YEARS)}")
    _check_options(
        methods={"network": network, "results": results, "segmenter": segmenter},
        settings={"device": device, "memory_every": memory_every, "short_side": short_side, "precision": precision},
        masks_out=masks_out,
    )
    opened = open_davis(root, YEARS[dataset], split, sequences)
    for sequence in opened:
        if len(sequence) < 2:
            raise InputError(f"{sequence.name} has {len(sequence)} frame, scoring needs 2: the first mask is given")
    if results is not None:
        method = str(results)
        _check_results(Path(results), opened)
    elif network is not None:
        method = network if isinstance(network, str) else type(network).__name__
        model = load(network) if isinstance(network, str) else network
        settings = {"device": device, "memory_every": memory_every, "short_side": short_side, "precision": precision}
        settings = {name: value for name, value in settings.items() if value is not None}
        segmenter = Segmenter(model, **settings).reset
    else:
        method = getattr(segmenter, "__name__", type(segmenter).__name__)

    if masks_out is not None:
        _make_folder(Path(masks_out))

    per_sequence, frames, seconds = {}, 0, 0.0
    with tqdm(total=sum(map(len, opened)), unit="frame", disable=not progress) as bar:
        for sequence in opened:
            bar.set_description(sequence.name)
            truth = sequence.masks()
            if results is None:
                prediction, took = _segment(segmenter(), sequence, _only(truth[0], sequence.object_ids), bar)
                frames, seconds = frames + len(sequence), seconds + took
                if masks_out is not None:
                    for path, index_mask in zip(sequence.mask_paths, prediction, strict=True):
                        write_mask(Path(masks_out) / sequence.name / path.name, index_mask)
            else:
                prediction = _read_results(Path(results), sequence, truth, bar)
            per_sequence[sequence.name] = score(prediction, _only(truth, sequence.object_ids))
    return Evaluation(
        dataset=dataset,
        split=split,
        list_file=str(list_file(root, YEARS[dataset], split).relative_to(root)),
        method=method,
        score=combine(per_sequence),
        per_sequence=per_sequence,
        frames_per_second=frames / max(seconds, 1e-9) if results is None else None,
    )


def write_json(path: str | os.PathLike, evaluation: Evaluation) -> None:
    """Write `evaluation.as_dict()` as JSON, whole or not at all. Raises InputError when the file cannot be written."""
    with atomic_path(Path(path)) as temporary:
        temporary.write_text(json.dumps(evaluation.as_dict(), indent=2, allow_nan=False) + "\n")


def _check_options(methods, settings, masks_out):
    given = [name for name, value in methods.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"methods given: {' and '.join(given) or 'none'}; give one of {', '.join(methods)}")
    if given == ["results"]:
        settings = settings | {"masks_out": masks_out}
    unused = [name for name, value in settings.items() if value is not None]
    if unused and given != ["network"]:
        raise InputError(f"{', '.join(unused)} is for running a network, but {given[0]} is given")


def _make_folder(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write masks to the folder {folder}: {reason(error)}") from error


def _check_results(results, opened):
    """Every sequence, frame and size there, before anything is scored."""
    if not results.is_dir():
        raise InputError(
            f"results {results} is not a folder; expected one folder in it for each of {len(opened)} sequences"
        )
    for sequence in opened:
        folder = results / sequence.name
        if not folder.is_dir():
            there = sum(path.is_dir() for path in results.iterdir())
            raise InputError(
                f"results {results} has {there} folders, none for the sequence {sequence.name}; "
                f"expected {sequence.name}/{sequence.mask_paths[0].name} and so on in it"
            )
        missing = [path.name for path in sequence.mask_paths if not (folder / path.name).is_file()]
        if missing:
            have, names = len(sequence) - len(missing), ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise InputError(
                f"{folder} has {have} of the {len(sequence)} masks of {sequence.name}, missing are {names}"
            )
        for path in sequence.mask_paths:
            height, width = image_size(folder / path.name)
            if (height, width) != sequence.size:
                wanted = "x".join(map(str, sequence.size))
                raise InputError(f"{folder / path.name} is {height}x{width}, {path} is {wanted} (height x width)")


def _read_results(results, sequence, truth, bar):
    known = set(truth.unique().tolist()) | {0}
    prediction = []
    for path in sequence.mask_paths:
        file = results / sequence.name / path.name
        index_mask = read_mask(file, empty_ok=True).index
        if sequence.merge_objects:
            index_mask = (index_mask != 0).to(torch.uint8)
        unknown = sorted(set(index_mask.unique().tolist()) - known)
        if unknown:
            raise InputError(
                f"{file} has the labels {unknown}, the ground truth of {sequence.name} has {sorted(known)}"
            )
        prediction.append(index_mask)
        bar.update()
    return torch.stack(prediction)


def _segment(segmenter, sequence: Sequence, first_mask, bar):
    """Index masks `t H W` of a sequence, and the seconds spent inside the segmenter (reading files does not count)."""
    prediction, seconds = [], 0.0
    for t in range(len(sequence)):
        frame, given = sequence.frame(t), {"index_mask": first_mask} if t == 0 else {}
        start = time.perf_counter()
        prediction.append(segmenter.step(frame, **given).index_mask.cpu())  # .cpu() waits for an accelerator
        seconds += time.perf_counter() - start
        bar.update()
    return torch.stack(prediction), seconds


def _only(index_masks, object_ids):
    """Index masks without the labels that are not asked for: void, and objects that enter later."""
    return torch.where(torch.isin(index_masks, torch.tensor(object_ids, dtype=torch.uint8)), index_masks, 0)
