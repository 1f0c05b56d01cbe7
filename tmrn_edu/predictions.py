"""Folders of predicted masks: those made earlier, read for scoring, and those being made, sequence by sequence.

    FOLDER/run.json          what makes the masks, and how long the network took for each sequence
    FOLDER/bear/00000.png    the masks of a sequence; the folder appears when the sequence is complete

A run that broke off goes on after its last complete sequence. Everything here is ours.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from tmrn_edu.data.davis import Sequence, image_size
from tmrn_edu.data.files import atomic_path, reason
from tmrn_edu.data.masks_io import read_mask, write_mask
from tmrn_edu.data.own_videos import OwnVideo
from tmrn_edu.data.youtube_vos_valid import ValidVideo
from tmrn_edu.errors import InputError
from tmrn_edu.submission import NOTE

PARTIAL = ".partial-"  # what the folders of sequences in the making begin with
Video = Sequence | ValidVideo | OwnVideo


# ---------------------------------------------------------------------------------------------------------------------
# Made earlier


def check_predictions(folder: Path, videos: list[Video]) -> None:
    """Every sequence, frame and size there, before anything is scored. Raises InputError naming what is missing or of another size."""
    if not folder.is_dir():
        raise InputError(
            f"results {folder} is not a folder; expected one folder in it for each of {len(videos)} sequences"
        )
    for video in videos:
        masks, names = folder / video.name, list(video.required.values())
        if not masks.is_dir():
            there = sum(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())
            raise InputError(
                f"results {folder} has {there} folders, none for the sequence {video.name}; "
                f"expected {video.name}/{names[0]} and so on in it"
            )
        missing = [name for name in names if not (masks / name).is_file()]
        if missing:
            have, some = len(names) - len(missing), ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise InputError(f"{masks} has {have} of the {len(names)} masks of {video.name}, missing are {some}")
        for name in names:
            height, width = image_size(masks / name)
            if (height, width) != video.size:
                wanted = "x".join(map(str, video.size))
                raise InputError(
                    f"{masks / name} is {height}x{width}, the frames of {video.name} are {wanted} (height x width)"
                )


def read_predictions(
    folder: Path, video: Video, known: set[int], done: Callable = lambda: None
) -> UInt8[Tensor, "t H W"]:
    """The masks of a sequence, one for each frame that is asked for; `done` is called after each.

    known: labels that may be in them. Raises InputError for other labels, and for files that are no masks.
    """
    prediction = []
    for name in video.required.values():
        file = folder / video.name / name
        index_mask = read_mask(file, empty_ok=True).index
        if not isinstance(video, ValidVideo) and video.merge_objects:
            index_mask = (index_mask != 0).to(torch.uint8)
        unknown = sorted(set(index_mask.unique().tolist()) - known)
        if unknown:
            side = "the ground truth" if video.has_truth else "the first mask"
            raise InputError(f"{file} has the labels {unknown}, {side} of {video.name} has {sorted(known)}")
        prediction.append(index_mask)
        done()
    return torch.stack(prediction)


# ---------------------------------------------------------------------------------------------------------------------
# In the making


def fingerprint(network: nn.Module) -> str:
    """A few letters that tell networks apart: their classes, the reader's settings and every weight. Source: ours (SHA-256)."""
    reader = getattr(network, "reader", None)
    settings = reader.settings() if callable(getattr(reader, "settings", None)) else None
    about = [type(network).__name__, getattr(network, "preset", None), type(reader).__name__, settings]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        exact = tensor.detach().cpu()  # numpy has no bfloat16; float32 holds its numbers exactly
        digest.update((exact.float() if exact.dtype == torch.bfloat16 else exact).numpy().tobytes())
    return digest.hexdigest()[:16]


class NewPredictions:
    """A folder that gets the masks of a run, a sequence at a time.

    made_by: what makes the masks, as plain data; run.json keeps it. resume: go on where an earlier run broke off. Raises InputError for a folder that
    cannot be written, that holds masks already (without `resume`), or that something else made (with it), naming both sides.
    """

    def __init__(self, folder: str | os.PathLike, made_by: dict, videos: list[Video], resume: bool = False):
        self.folder, self.made_by = Path(folder), json.loads(json.dumps(made_by))  # as run.json will give it back
        self.finished: dict[str, dict] = {}  # sequence -> {"frames": through the network, "seconds": inside it}
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            noted = (self.folder / NOTE).exists()
            there = [video.name for video in videos if (self.folder / video.name).exists()]
            # of an earlier run with other sequences; a run that failed in its first one leaves its note alone
            others = [path for path in self.folder.iterdir() if noted and path.is_dir() and path.name[0] != "."]
        if noted and resume:
            self.finished = self._finished(videos)
        elif there or others:
            held = f"{len(there)} of {len(videos)} sequences" if there else f"{len(others)} other sequences"
            missing = f", and no {NOTE} to say what made them" if resume else ""
            remedy = "" if resume else ", or go on with its run by resume (--resume)"
            raise InputError(f"{folder} already holds masks of {held}{missing}; choose another folder{remedy}")
        for path in self.folder.glob(f"{PARTIAL}*"):  # of a run that was killed
            shutil.rmtree(path, ignore_errors=True)
        self._write_note()

    def _finished(self, videos):
        """What run.json says is finished, and is there; the rest is made again."""
        try:
            note = json.loads((self.folder / NOTE).read_text(encoding="utf-8"))
            made_by, finished = note["made_by"], note["sequences"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{self.folder / NOTE} does not say what made the masks beside it ({error!r})") from error
        keys = [key for key in {**made_by, **self.made_by} if made_by.get(key) != self.made_by.get(key)]
        if keys:
            sides = [", ".join(f"{key} {side.get(key)}" for key in keys) for side in (made_by, self.made_by)]
            raise InputError(f"the masks in {self.folder} were made with {sides[0]}; asked for is {sides[1]}")
        whole = {
            video.name
            for video in videos
            if all((self.folder / video.name / name).is_file() for name in video.required.values())
        }
        asked = {video.name for video in videos}
        return {name: one for name, one in finished.items() if name in whole or name not in asked}

    def _write_note(self):
        with atomic_path(self.folder / NOTE) as temporary:
            note = {"made_by": self.made_by, "sequences": self.finished}
            temporary.write_text(json.dumps(note, indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def sequence(self, video: Video) -> Iterator[Callable[[int, Tensor], None]]:
        """A function of (frame, index mask) that writes the masks of one sequence; they get their names when the block succeeds.

        Raises InputError where they cannot be written; an OSError of the block itself passes on unchanged.
        """
        hidden = self.folder / f"{PARTIAL}{video.name}-{uuid.uuid4().hex[:8]}"
        final = self.folder / video.name

        def write(t, index_mask):
            with self._writing():
                write_mask(hidden / video.required[t], index_mask)

        try:
            with self._writing():
                hidden.mkdir()
            yield write
            with self._writing():
                if final.exists():  # of a run that was killed between this line and its note
                    shutil.rmtree(final)
                os.replace(hidden, final)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)

    @contextmanager
    def _writing(self):
        try:
            yield
        except OSError as error:
            raise InputError(f"cannot write masks to the folder {self.folder}: {reason(error)}") from error

    def note(self, video: Video, frames: int, seconds: float) -> None:
        """Say that a sequence is finished, and how long it took."""
        self.finished[video.name] = {"frames": frames, "seconds": seconds}
        self._write_note()
