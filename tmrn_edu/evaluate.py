"""A data set's split in, a table of scores out, or what a server scores: `tmrn-edu evaluate`.

Masks come from a network run here, from masks somebody made earlier, or from any object with a `step`; the scoring is
`tmrn_edu.metrics` in all three cases. The first mask of every object is given. DAVIS: the objects are those of the first frame's mask, the
first and the last frame do not count (Pont-Tuset et al., arXiv:1704.00675, section 3). YouTube-VOS: objects enter when their
first mask does, and count in all annotated frames after it (youtube-vos.org; that the last frame counts is our reading). A folder of one's
own videos: objects enter as in YouTube-VOS, the first frame of each and the last one do not count, as in DAVIS (`metrics.score`).
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor, nn
from tqdm import tqdm

from tmrn_edu.attributes import mask_attributes
from tmrn_edu.data.davis import Sequence, only_objects
from tmrn_edu.data.youtube_vos_valid import TRAINING_CATEGORIES, ValidVideo, read_categories
from tmrn_edu.errors import InputError
from tmrn_edu.evaluation import Evaluation, write_json
from tmrn_edu.masks import index_to_object_masks
from tmrn_edu.metrics import Score, combine, score
from tmrn_edu.predictions import NewPredictions, Video, check_predictions, fingerprint, read_predictions
from tmrn_edu.segmenter import Segmenter, StepResult
from tmrn_edu.splits import FOLDER, open_split
from tmrn_edu.submission import check_name, required_of, unpack, write_zip
from tmrn_edu.weights import load

__all__ = ["Evaluation", "RepeatFirst", "evaluate", "write_json"]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # scoring uses all


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
    split: str | None = None,
    sequences: Iterable[str] | None = None,
    network: str | nn.Module | None = None,
    results: str | os.PathLike | None = None,
    segmenter: Callable[[], Any] | None = None,
    device: str | torch.device | None = None,
    memory_every: int | None = None,
    short_side: int | None = None,
    precision: str | None = None,
    masks_out: str | os.PathLike | None = None,
    resume: bool = False,
    submission: str | os.PathLike | None = None,
    train_meta: str | os.PathLike | None = None,
    progress: bool = True,
) -> Evaluation:
    """Score a method on a split of a data set, or make what its server scores.

    dataset, root, split, sequences: as in `open_split`; "folder" is for videos of your own.

    The method is exactly one of
        network     a name for `tmrn_edu.load`, or a network; run by a `Segmenter` with device, memory_every, short_side, precision
        results     a folder with RESULTS/<sequence>/00000.png, one palette PNG for each frame that is asked for, or a submission's zip, which
                    is checked first
        segmenter   a function without arguments, called once per sequence, that returns an object with
                    `.step(frame, index_mask=None)`, whose answer has an `.index_mask`

    masks_out: folder that gets the predicted masks, each sequence when it is complete, laid out so that it can be given as `results`.
    resume: go on after the last complete sequence of a run that broke off, by the same network with the same settings. submission: a .zip for
    the server, which gets its name when it has passed `submission.check`. train_meta: meta.json of YouTube-VOS' training split; its categories
    are the seen ones (else `TRAINING_CATEGORIES`). progress: a bar on stderr.

    Only the objects' first masks are given, and only these objects count: labels that the truth of DAVIS has later on are background
    here, as for the official evaluation; those of a "folder" enter late with a mask of their own.
    Frames per second are all frames from the first mask on, over the time from a frame in memory to its
    index mask on the CPU, the first frame included: STCN:eval_davis.py and XMem:eval.py count so. Everything is checked before the first frame
    is read or scored.

    Raises InputError naming both sides: not one method; an option the method or the data set has no use for; whatever `open_split` finds; a
    sequence, a frame or a size of `results` that does not fit the data set, ids it does not have; a split of first masks alone where neither
    masks_out nor submission is given; a masks_out that holds masks of something else.
    Source: Pont-Tuset et al. 2017; davis2017-evaluation; youtube-vos.org.
    """
    _check_options(
        methods={"network": network, "results": results, "segmenter": segmenter},
        settings={"device": device, "memory_every": memory_every, "short_side": short_side, "precision": precision},
        places={"masks_out": masks_out, "resume": resume or None},
        whole={"submission": submission, "sequences": sequences},
    )
    if train_meta is not None and not dataset.startswith("youtubevos"):
        raise InputError(f"train_meta is for YouTube-VOS, which has unseen categories; the data set is {dataset}")
    if submission is not None and dataset == FOLDER:
        raise InputError(
            f"submission {submission} is for the servers of DAVIS and YouTube-VOS; the data set is {FOLDER}"
        )
    opened = open_split(dataset, root, split, sequences, progress)
    _check_truth(root, opened, masks_out or submission or results is not None and Path(results).is_file())
    seen = None if train_meta is None else read_categories(train_meta)
    with ExitStack() as stack:
        new = None
        if results is not None:
            method, folder = str(results), _results_folder(Path(results), opened, sequences, stack)
            check_predictions(folder, opened.videos)
        else:
            settings = {
                "device": device,
                "memory_every": memory_every,
                "short_side": short_side,
                "precision": precision,
            }
            method, segmenter, made_by = _method(network, segmenter, settings)
            if masks_out is None and submission is not None:
                masks_out = stack.enter_context(_folder_beside(Path(submission)))
            if masks_out is not None:
                made_by = {"dataset": dataset, "split": opened.name, "frames": opened.frames_folder} | made_by
                new = NewPredictions(masks_out, made_by, opened.videos, resume)
                folder = new.folder
        per_sequence, attributes, timing = {}, {}, {}
        with tqdm(total=sum(map(len, opened.videos)), unit="frame", disable=not progress) as bar:
            for video in opened.videos:
                bar.set_description(video.name)
                truth = video.truth() if opened.scored else None
                if results is not None or new is not None and video.name in new.finished:
                    known = {0, *video.object_ids, *([] if truth is None else truth.unique().tolist())}
                    prediction = read_predictions(folder, video, known)
                    bar.update(len(video))
                else:
                    prediction, timing[video.name] = _segment(segmenter(), video, new, opened.scored, bar)
                if truth is not None:
                    truth = only_objects(truth, video.object_ids)
                    if (its_score := _score(video, prediction, truth)) is not None:
                        per_sequence[video.name] = its_score
                    if len(truth) == len(video):  # not for truth that has each fifth frame alone
                        attributes[video.name] = mask_attributes(truth)
        if submission is not None:
            write_zip(folder, required_of(opened.videos), submission)
    whole = combine(per_sequence) if opened.scored else None
    if new is not None:
        timing = {video.name: new.finished[video.name] for video in opened.videos}
    frames, seconds = (sum(one[what] for one in timing.values()) for what in ("frames", "seconds"))
    return Evaluation(
        dataset=dataset,
        split=opened.name,
        list_file=opened.list_file,
        method=method,
        score=whole,
        per_sequence=per_sequence,
        frames_per_second=frames / max(seconds, 1e-9) if results is None else None,
        attributes=attributes,
        seen=_seen(opened.videos, whole, seen or TRAINING_CATEGORIES),
        frames_folder=opened.frames_folder,
    )


def _check_options(methods, settings, places, whole):
    given = [name for name, value in methods.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"methods given: {' and '.join(given) or 'none'}; give one of {', '.join(methods)}")
    if given == ["results"]:
        settings = settings | places
    unused = [name for name, value in settings.items() if value is not None]
    if unused and given != ["network"]:
        raise InputError(f"{', '.join(unused)} is for running a network, but {given[0]} is given")
    if places["resume"] and places["masks_out"] is None:
        raise InputError("resume is given without masks_out, the folder whose run is to go on")
    if None not in whole.values():
        raise InputError(
            "submission and sequences are given; a server wants all sequences of a split, expected one of both"
        )
    if whole["submission"] is not None:
        check_name(whole["submission"])


def _check_truth(root, opened, goal):
    for video in opened.videos:
        if opened.scored and isinstance(video, Sequence) and len(video) < 2:
            raise InputError(f"{video.name} has {len(video)} frame, scoring needs 2: the first mask is given")
    if not opened.scored and not goal:
        lonely = sum(not video.has_truth for video in opened.videos)
        raise InputError(
            f"{lonely} of {len(opened.videos)} sequences in the split {opened.name} of {root} have first masks only, which cannot be scored here; "
            "expected submission (--submission FILE.zip) or masks_out (--masks-out DIR) for the server, or a zip as results, to be checked"
        )


def _method(network, segmenter, settings):
    """Name of the method, what makes a segmenter for the next sequence, and what run.json says of both."""
    if segmenter is not None:
        name = getattr(segmenter, "__name__", type(segmenter).__name__)
        return name, segmenter, {"segmenter": name}
    model = load(network) if isinstance(network, str) else network
    runs = Segmenter(model, **{name: value for name, value in settings.items() if value is not None})
    made_by = {"network": type(model).__name__, "weights": fingerprint(model)} | asdict(runs.rules)
    made_by |= {"short_side": runs.short_side, "precision": runs.precision, "device": runs.device.type}
    name = network if isinstance(network, str) else type(model).__name__
    if name is not network and hasattr(model, "reader"):
        name += f" with {type(model.reader).__name__}"
    return name, runs.reset, made_by


def _folder_beside(file):
    """A hidden folder that goes away in the end, on the disk that the zip goes to."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(prefix=".masks-", dir=file.parent)
    except OSError as error:
        raise InputError(f"cannot write {file}: {error}") from error


def _results_folder(results, opened, sequences, stack):
    """Where RESULTS/<sequence> lies: in the folder itself, in its Annotations as a submission has it, or in a zip."""
    if results.is_file():
        if sequences is not None:
            raise InputError(f"sequences are asked for of {results}; a zip is scored as a whole, expected a folder")
        return unpack(results, required_of(opened.videos), stack.enter_context(tempfile.TemporaryDirectory()))
    inner = results / "Annotations"
    return inner if inner.is_dir() and isinstance(opened.videos[0], ValidVideo) else results


def _segment(segmenter, video, new, keep, bar):
    """Index masks `t H W` of the frames that are asked for (None unless `keep`), and how many frames took how many seconds.

    Seconds are those inside the segmenter: neither reading nor writing files counts. Frames before the first mask are background, and not run.
    """
    first = min(video.enters.values())
    prediction, seconds = [], 0.0
    with ExitStack() as stack:
        write = None if new is None else stack.enter_context(new.sequence(video))
        for t in range(len(video)):
            index_mask = torch.zeros(video.size, dtype=torch.uint8)
            if t >= first:
                frame, mask = video.frame(t), video.given(t)
                given = {} if mask is None else {"index_mask": mask}
                start = time.perf_counter()
                index_mask = segmenter.step(frame, **given).index_mask.cpu()  # .cpu() waits for an accelerator
                seconds += time.perf_counter() - start
            if t in video.required:
                if keep:
                    prediction.append(index_mask)
                if write is not None:
                    write(t, index_mask)
            bar.update()
    timing = {"frames": len(video) - first, "seconds": seconds}
    if new is not None:
        new.note(video, **timing)
    return torch.stack(prediction) if keep else None, timing


def _score(video: Video, prediction, truth) -> Score | None:
    """J and F of one video; None where no object is left to score.

    YouTube-VOS: an object counts in the frames asked for after that of its given mask, whether or not that one is asked for too.
    """
    if not isinstance(video, ValidVideo):
        return score(prediction, truth, workers=CORES)
    per_label, per_object = {}, {}
    for label in video.object_ids:
        after = [i for i, t in enumerate(video.required) if t > video.enters[label]]
        if not after:  # it enters in the last frame
            continue
        # `score` takes an object's first frame as given, and leaves out a clip's last one, as DAVIS does; here that frame counts, and a copy
        # of it is left out
        given, last = only_objects(video.mask(video.enters[label])[None], [label]), after[-1:]
        clips = [torch.cat([given, masks[after], masks[last]]) for masks in (prediction, only_objects(truth, [label]))]
        per_label[str(label)] = alone = score(*clips, workers=CORES)
        per_object[label] = replace(alone.per_object[label], frames=tuple(after))
    return replace(combine(per_label), per_object=per_object) if per_object else None


def _seen(videos, whole, categories):
    """{"video/id": whether training has its category}; None but for YouTube-VOS, without scores, and where an object has no category."""
    if whole is None or not isinstance(videos[0], ValidVideo):
        return None
    of = {f"{video.name}/{label}": category for video in videos for label, category in video.categories.items()}
    return {key: of[key] in categories for key in whole.per_object} if whole.per_object.keys() <= of.keys() else None
