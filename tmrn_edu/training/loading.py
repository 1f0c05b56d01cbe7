"""Batches for the steps of a run, made beside the training if there are workers. What a step sees depends on seed and step alone."""

import os
import signal
from collections.abc import Iterator, Sequence

from torch.utils.data import DataLoader, Dataset

from tmrn_edu.data.clips import Batch, TrainingClip, collate
from tmrn_edu.errors import InputError
from tmrn_edu.training.schedule import curriculum
from tmrn_edu.training.settings import TrainSettings
from tmrn_edu.training.stopping import NAMES


class ClipsOfSteps(Dataset):
    """Item (step, position): the clip at that place of that step's batch, with length and gaps as the curriculum has them there."""

    def __init__(self, data, settings: TrainSettings):
        self.data, self.settings = data, settings

    def __getitem__(self, place: tuple[int, int]) -> TrainingClip | InputError:
        step, position = place
        stage = curriculum(self.settings, step)
        number = batch_number(self.settings, step)
        try:
            return self.data.sample(number, position, self.settings.batch, stage.frames, stage.max_gap, stage.fine_tune)
        except (
            InputError
        ) as error:  # a file that broke on the way: travels as it is, a worker would wrap it in its traceback
            return error


class PlacesOfProcess:
    """The places of one process' clips, in lists of `size`: step after step, `parts` lists each."""

    def __init__(self, settings: TrainSettings, first_step: int, rank: int, world: int):
        self.settings, self.first_step, self.rank = settings, first_step, rank
        self.share = settings.batch // world
        self.size = self.share // settings.accumulate

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first_step, self.settings.steps):
            first = self.rank * self.share
            for start in range(first, first + self.share, self.size):
                yield [(step, position) for position in range(start, start + self.size)]

    def __len__(self) -> int:
        return (self.settings.steps - self.first_step) * self.settings.accumulate


def batches(data, settings: TrainSettings, first_step: int = 0, rank: int = 0, world: int = 1) -> Iterator[Batch]:
    """The batches of one of `world` processes, from `first_step` on: `accumulate` of them a step.

    A process takes the clips [rank, rank + 1) * batch / world of every step, so all processes together see what one would.
    Raises InputError for a clip that cannot be made, such as one with a damaged file. Source: ours.
    """
    if settings.workers and hasattr(data, "prepare"):
        data.prepare()  # what a worker painted, the next stage's or epoch's worker would paint again
    loader = DataLoader(
        ClipsOfSteps(data, settings),
        batch_sampler=PlacesOfProcess(settings, first_step, rank, world),
        num_workers=settings.workers,
        collate_fn=_collate,
        worker_init_fn=_leave_signals_alone,
        prefetch_factor=4 if settings.workers else None,
    )
    for batch in loader:
        if isinstance(batch, InputError):
            raise batch
        yield batch


def _collate(clips: Sequence[TrainingClip | InputError]) -> Batch | InputError:
    broken = [clip for clip in clips if isinstance(clip, InputError)]
    return broken[0] if broken else collate(clips)


def _leave_signals_alone(_) -> None:
    """In a worker: Ctrl-C reaches all processes of a terminal, but it is the training that decides when to stop.

    SIGTERM ends a worker, quietly: that is how Python gets rid of those that still work when it ends itself.
    """
    for name in NAMES:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def batch_number(settings: TrainSettings, step: int) -> int:
    """Batches of different seeds do not overlap."""
    return settings.seed * 1_000_000 + step
