"""What each part of a memory reader is worth: many readers in one network, on the same clips, into one tidy table.

A *variant* is a reader (and the rules around it) written as words, "agents=8 pool=mean"; no words: the network's own space-time read. A *job* is
a variant in a network, on one set of clips, under one seed; it is scored as it stands in the trained weights (training-free), or after `steps`
steps of training from them, the same batches for every variant. Rows are clips. `run_jobs` runs jobs in processes and appends every finished one
to a CSV, so a broken study goes on where it stopped. Ours.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, fields, replace
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn
from tqdm.auto import tqdm

from tmrn_edu.data.clips import FIRST_TRAINING_SEED
from tmrn_edu.data.davis import open_davis
from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.sets import find_sets
from tmrn_edu.data.synthetic import LEVELS
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate_clips import held_out_clips, score_clips, score_video
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.recipes.matched import READER_SEED
from tmrn_edu.train import Recipe, TrainSettings, train
from tmrn_edu.training.run_folder import CHECKPOINT, NETWORK
from tmrn_edu.weights import load
from tmrn_edu.worth import OWN, Worth, summarise, table

__all__ = [
    "OWN", "Job", "Variant", "Worth", "parse_variant", "read_table", "run_job", "run_jobs", "summarise", "table", "variant_of", "vary",
]  # fmt: skip

POOLS = {"evidence": (True, False), "mean": (False, False), "attention": (False, True), "both": (True, True)}
FINE_LR = 5e-4  # largest learning rate of trainings that begin with trained weights


@dataclass(frozen=True)
class Variant:
    """A reader and the rules around it. None: as the network, or the preset, has it; what is off is off."""

    preset: str | None = (
        None  # own (the network's), paper, warm, chained, tracking; None: evidence alone, nothing added
    )
    agents: int | None = None
    start: str | None = None  # of the agents: svd, random
    place: float | None = None  # agents see places
    scales: int | None = None  # agents see means of keys within so many cells
    rectify: float | None = None  # lambda
    pool: str | None = None  # evidence, mean, attention, both
    chain: float | None = None  # beta
    velocity: float | None = None
    reach: float | None = None
    age: bool | None = None
    trust: float | None = None
    mutual: float | None = None  # gamma
    top_k: int | None = None  # 0: all
    memory_every: int | None = None

    @property
    def words(self) -> str:
        """ "agents=8 pool=mean": what was given, in the order of the fields."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return " ".join(f"{name}={_shown(value)}" for name, value in given if value is not None)

    def read_by(self, network: nn.Module) -> nn.Module:
        """The network with this reader, in place. Raises InputError for parts that do not go together."""
        try:
            network.reader = self._reader(network)
        except ValueError as error:
            raise InputError(f"variant {self.words!r}: {error}") from error
        if self.memory_every is not None:
            network.rules = replace(network.rules, memory_every=self.memory_every)
        return network

    def _reader(self, network: nn.Module) -> nn.Module:
        if self.memory_every is not None and self.memory_every < 1:
            raise ValueError(f"memory_every is {self.memory_every}, expected at least 1")
        if self.age is False and self.trust is not None:
            raise ValueError(f"age is false and trust {self.trust:g}, expected no trust")
        if self.rectify is not None and not (self.agents if self.agents is not None else self.preset):
            raise ValueError(f"rectify is {self.rectify:g} and there are no agents, expected agents=N with it")
        if self.preset == "own":
            if self != Variant(preset="own", memory_every=self.memory_every):
                raise ValueError("preset is own, with other parts beside it; expected memory_every at most")
            return network.reader
        top_k = {} if self.top_k is None else {"top_k": self.top_k or None}
        changed = {field.name for field in fields(self) if getattr(self, field.name) is not None}
        if not changed - {"top_k", "memory_every"}:
            return SpaceTimeReader(**top_k)
        options = {} if self.preset else {"agents": 0, "evidence": True, "attention": False}
        names = {"start": "agent_start", "place": "agent_place", "chain": "beta"}
        for name in ("agents", "start", "place", "rectify", "chain", "velocity", "reach", "age", "trust", "mutual"):
            if getattr(self, name) is not None:
                options[names.get(name, name)] = getattr(self, name)
        options |= {} if self.chain is None else {"chain": True}
        options |= {} if self.trust is None else {"age": True}
        options |= {} if self.scales is None else {"agent_scales": (self.scales,)}
        if self.pool is not None:
            options["evidence"], options["attention"] = POOLS[self.pool]
            options |= {"attention_from_zero": True} if self.pool == "both" else {}
        sizes = network.key_channels, network.value_channels
        if self.preset is None:
            return TrajectoryReader(*sizes, **top_k, **options)
        return TrajectoryReader.preset(self.preset, *sizes, **top_k, **options)


def parse_variant(words: str) -> Variant:
    """ "agents=8 pool=mean" -> Variant; "", or what tables call it, is the space-time read.

    Raises InputError for a name or a value that there is not, listing those that there are.
    """
    given = {}
    for word in [] if words == OWN else words.split():
        name, equals, text = word.partition("=")
        kinds = {field.name: field.type for field in fields(Variant)}
        if not equals or name not in kinds:
            raise InputError(f"variant has the word {word!r}, expected NAME=VALUE with a name of {', '.join(kinds)}")
        choices = {"pool": list(POOLS), "start": ["svd", "random"], "age": ["true", "false"]}.get(name)
        if choices and text not in choices:
            raise InputError(f"variant has {word!r}, expected {name} to be one of {', '.join(choices)}")
        kind = next(k for k in (bool, int, float, str) if k.__name__ in str(kinds[name]))
        try:
            given[name] = text == "true" if kind is bool else kind(text)
        except ValueError:
            raise InputError(f"variant has {word!r}, expected {name} to be of type {kind.__name__}") from None
    return Variant(**given)


def vary(factors: Iterable[str]) -> list[str]:
    """All combinations: ["agents=0,8", "chain=none,0.2"] -> "agents=0", "agents=0 chain=0.2", ...; none leaves a factor out."""
    choices = []
    for factor in factors:
        name, _, values = factor.partition("=")
        choices.append(["" if value == "none" else f"{name}={value}" for value in values.split(",")])
    return [" ".join(word for word in words if word) for words in product(*choices)]


@dataclass(frozen=True)
class Job:
    """One variant, in one network, on one set of clips, under one seed."""

    network: str  # a shipped network's name, or a file
    variant: str
    data: str  # a level of synthetic clips, or a folder of videos (`videos_of`)
    seed: int  # of the clips that are drawn; with `steps`, of the training
    steps: int = 0  # of training before it is scored
    clips: int = 16  # of a level
    frames: int = 40  # of a video, at most

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from other jobs in the table; of files the last parts of their names, "mine/network.safetensors"."""
        real = self.data not in LEVELS
        frames = str(self.frames) if real else ""
        data = Path(self.data).name if real else self.data
        return ("/".join(Path(self.network).parts[-2:]), self.variant, data, str(self.seed), str(self.steps), frames)


KEY = ("network", "variant", "data", "seed", "steps", "frames")
COLUMNS = [*KEY, *(field.name for field in fields(Variant))]
COLUMNS += ["clip", "J", "J_true_memory", "clips_of_job"]


def run_job(job: Job, runs: Path | None = None) -> list[dict[str, str]]:
    """Scores a job: a row per clip or video. `runs`: folder for the trainings. *J_true_memory*: every memory has its true mask."""
    torch.set_num_threads(1)
    variant = parse_variant(job.variant)
    with torch.random.fork_rng(devices=[]):
        network = variant_of(job) if job.steps == 0 else _trained(job, runs)
    rows = [
        {"clip": clip, "J": f"{j:.5f}", "J_true_memory": f"{true:.5f}"}
        for clip, j, true in _scores(job, network.eval())
    ]
    common = dict(zip(COLUMNS, job.key)) | {f.name: _shown(getattr(variant, f.name)) for f in fields(Variant)}
    return [common | row | {"clips_of_job": str(len(rows))} for row in rows]


def variant_of(job: Job) -> nn.Module:
    """The job's network with the job's reader, at that reader's first weights, which the seed draws."""
    network = load(job.network)
    torch.manual_seed(READER_SEED + job.seed)
    return parse_variant(job.variant).read_by(network)


def train_job(job: Job, runs: Path) -> Path:
    """Trains the job's variant for its `steps` from the network's weights, on the library's synthetic clips; returns the weights' path.

    The same run for all sets of clips; one that is there is taken as it is, and a broken one goes on.
    """
    torch.set_num_threads(1)
    network = "-".join(Path(job.network).parts[-2:])
    words = f"{network}-{job.variant or 'space-time'}-{job.seed}-{job.steps}".replace(" ", "_")
    folder = Path(runs) / words
    recipe = Recipe(
        words,
        lambda seed: variant_of(replace(job, seed=seed)),
        TrainSettings(steps=job.steps, seed=job.seed, lr=FINE_LR),
    )
    if not (folder / NETWORK).exists():
        with torch.random.fork_rng(devices=[]):
            train(recipe, folder, resume=(folder / CHECKPOINT).exists(), progress=False)
    return folder / NETWORK


def _trained(job: Job, runs: Path | None) -> nn.Module:
    if runs is None:
        raise InputError(f"{job.steps} steps of training asked for, expected a folder for them as well")
    network = variant_of(job)
    network.load_state_dict(load(train_job(job, runs)).state_dict())
    return network


def _scores(job: Job, network: nn.Module) -> Iterator[tuple[str, float, float]]:
    if job.data in LEVELS:  # trained: every seed is scored on the same clips; else each seed draws its own
        first = 0 if job.steps else job.seed * job.clips
        clips = held_out_clips(job.data, job.clips, first_seed=first)
        every = parse_variant(job.variant).memory_every or 1
        scores = score_clips(network, clips, memory_every=every)
        for number, (j, true) in enumerate(zip(scores.J, scores.J_true_memory, strict=True)):
            yield str(first + number), float(j), float(true)
        return
    for video in videos_of(job.data):
        yield video.name, *score_video(network, video, job.frames)


def videos_of(root: str) -> list:
    """The videos of a folder: of DAVIS its val sequences where it has them, else all videos that training would find."""
    if (Path(root) / "ImageSets" / "2017" / "val.txt").is_file():
        return open_davis(root, 2017, "val")
    return [video for one in find_sets(root) if one.kind == "video" for video in one.videos]


def run_jobs(
    jobs: Sequence[Job], table: str | os.PathLike, runs: Path | None = None, workers: int = 1, progress: bool = False
) -> list[dict[str, str]]:
    """Runs the jobs that `table` does not have yet, in `workers` processes, and appends each to it when it is done. Returns all rows of these jobs.

    Every variant, network and data name is checked before the first job runs. Raises InputError for one that there is not, for two jobs that the
    table could not tell apart, and for a table with other columns or another number of clips. A job that fails does not stop the others: what
    they found is kept, then its error is raised.
    """
    first: dict[tuple, Job] = {}
    for job in jobs:
        other = first.setdefault(job.key, job)
        if other != job:
            raise InputError(
                f"{job.network} on {job.data} and {other.network} on {other.data} would be one in the table"
            )
        if job.steps and runs is None:
            raise InputError(f"{job.steps} steps of training asked for, expected a folder for them as well")
        if job.data in LEVELS and (job.seed + 1) * job.clips > FIRST_TRAINING_SEED:
            raise InputError(
                f"seed {job.seed} asks for clips up to {(job.seed + 1) * job.clips}, held out are {FIRST_TRAINING_SEED}"
            )
        parse_variant(job.variant).read_by(load(job.network))
        if job.data not in LEVELS and not Path(job.data).is_dir():
            raise InputError(f"data is {job.data!r}, expected one of {', '.join(LEVELS)}, or a folder of videos")
    path, done = Path(table), {}
    if path.exists():
        done = _whole_jobs(path)
        _write(path, [row for rows in done.values() for row in rows])
    else:
        _write(path, [])
    for job in jobs:
        there = len(done.get(job.key, ()))
        if job.data in LEVELS and there not in (0, job.clips):
            raise InputError(
                f"{path} has {there} clips of {job.variant or OWN!r} on {job.data}, {job.clips} are asked for"
            )
    todo = [job for key, job in first.items() if key not in done]
    bar = tqdm(total=len(todo), unit="job", disable=not progress)

    def keep(job: Job, rows: list[dict[str, str]]) -> None:
        done[job.key] = rows
        with open(path, "a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerows(rows)
        bar.update()

    if workers == 1:
        for job in todo:
            keep(job, run_job(job, runs))
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            trainings = {(job.network, job.variant, job.seed, job.steps): job for job in todo if job.steps and runs}
            list(pool.map(train_job, trainings.values(), [runs] * len(trainings)))  # each once, before it is scored
            waiting = {pool.submit(run_job, job, runs): job for job in todo}
            failed = None
            for future in as_completed(waiting):
                if future.exception() is None:
                    keep(waiting[future], future.result())
                else:
                    failed = failed or future.exception()
            if failed is not None:
                raise failed
    bar.close()
    return [row for key in first for row in done[key]]


def read_table(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of all whole jobs of a table. Raises InputError for a file that is none."""
    return [row for rows in _whole_jobs(Path(path)).values() for row in rows]


def _whole_jobs(path: Path) -> dict[tuple[str, ...], list[dict[str, str]]]:
    """Rows by job, without jobs that were cut off while they were written."""
    if not path.is_file():
        raise InputError(f"no table at {path}: expected a CSV that an ablation wrote")
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise InputError(f"{path} has the columns {reader.fieldnames}, expected {COLUMNS}")
        jobs: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in reader:
            if row["clips_of_job"]:  # the last column: a row that was cut off has none
                jobs.setdefault(tuple(row[name] for name in KEY), []).append(row)
    return {key: rows for key, rows in jobs.items() if len(rows) == int(rows[0]["clips_of_job"])}


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _shown(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
