"""What a training run can be told: `TrainSettings`, and `Recipe`, a network with its settings."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from torch import nn

from tmrn_edu.errors import InputError


def setting(default, meaning: str, choices: tuple = (), free: bool = False, least: int = 1):
    """A field of `TrainSettings` with what it means, which `tmrn-edu train --help` shows too.

    `free`: may change when a run is resumed, since it changes what is recorded or how fast it goes, and not what is learned. `least`: of a
    whole number.
    """
    return field(default=default, metadata={"meaning": meaning, "choices": choices, "free": free, "least": least})


@dataclass(frozen=True)
class TrainSettings:
    """What a training run can be told. Steps are optimiser steps; shares are of all steps, so that a shorter run keeps its shape."""

    steps: int = setting(800, "length of the run")
    batch: int = setting(8, "clips per step, over all processes and parts")
    accumulate: int = setting(1, "parts in which a process takes its clips, to need less memory; gradients add up")
    seed: int = setting(0, "of the weights' initialisation and of the batches", least=0)

    optimiser: str = setting(
        "adamw", "how weights decay: decoupled (adamw) or with the gradient (adam)", ("adamw", "adam")
    )
    lr: float = setting(2e-3, "largest learning rate")
    trunk_lr: float = setting(
        1.0, "share of the learning rate for trunks, which may begin with ImageNet weights; 0: they stay as they are"
    )
    reader_lr: float = setting(
        1.0,
        "factor of the learning rate for the reader's own weights, such as 20 for new ones; 0: they stay as they are",
    )
    schedule: str = setting(
        "cosine", "after warm-up: a cosine to `final_lr`, or steps at `lr_drops`", ("cosine", "steps")
    )
    warm_up: float = setting(0.05, "share of the steps in which the learning rate rises linearly")
    final_lr: float = setting(0.03, "share of the learning rate at the end of the cosine")
    lr_drops: tuple[float, ...] = setting((), "shares of the steps at which the learning rate falls to a tenth")
    weight_decay: float = setting(1e-4, "the optimiser's")
    clip_gradient: float = setting(5.0, "largest norm of the whole gradient; 0: any")
    precision: str = setting("32", "numbers in the network: 32 bits, or mixed with 16 or bf16", ("32", "16", "bf16"))

    frames: int = setting(4, "frames per clip, given one included")
    short_frames: int = setting(3, "frames per clip in the first `short_share` of the steps")
    short_share: float = setting(0.4, "share of the steps with short clips")
    max_gap: int = setting(2, "largest frame gap; 1 in the first `short_share` of the steps; `gaps` overrides it")
    gaps: tuple[tuple[float, int], ...] = setting(
        (), "curriculum of the largest frame gap, as share:gap,share:gap from 0 on"
    )
    objects: int = setting(1, "objects per clip, at most")
    references: int = setting(
        0, "frames that a frame reads: the first and random ones of those before it; 0: all (XMem 3)", least=0
    )
    fine_tune: float = setting(0.0, "share of the steps, at the end, without affine motion from frame to frame (XMem)")

    hard_pixels: float = setting(0.25, "bootstrapped cross-entropy: final share of hard pixels")
    hard_from: float = setting(0.15, "share of the steps with plain cross-entropy")
    hard_until: float = setting(1.0, "share of the steps at which the final share of hard pixels is reached")
    dice: float = setting(0.5, "weight of the dice loss")
    readout_mask: float = setting(1.0, "weight of the auxiliary loss on the read-out mask, for networks that have one")
    sum_frames: bool = setting(False, "add the losses of a clip's frames (as published), instead of their mean")

    clips: int = setting(2400, "synthetic videos to draw from")
    size: int = setting(96, "height and width of what the network sees, in pixels")
    workers: int = setting(
        0, "processes that make batches, for each training process; 0: none beside it", free=True, least=0
    )
    held_out: int = setting(0, "videos of every data set that are kept from training, to be scored", least=0)
    folds: int = setting(
        0, "instead of held_out: parts for cross-validation, one of which is kept from training", least=0
    )
    fold: int = setting(0, "which of the `folds`, from 0 on", least=0)

    save_every: int = setting(100, "steps between checkpoints", free=True)
    log_every: int = setting(1, "steps that one line of metrics.csv is the mean of", free=True)
    sample_every: int = setting(0, "steps between pictures of a clip with its masks; 0: none", free=True, least=0)
    score_every: int = setting(0, "steps between scores on held-out videos; 0: none", free=True, least=0)
    non_finite: str = setting(
        "stop", "at a loss that is no number: stop, or skip the step and count it", ("stop", "skip"), free=True
    )

    def __post_init__(self):
        for name, description in self.__dataclass_fields__.items():
            choices, value = description.metadata["choices"], getattr(self, name)
            if choices and value not in choices:
                raise InputError(f"{name} is {value!r}, expected {' or '.join(choices)}")
        starts = [share for share, _ in self.gaps]
        if self.gaps and (
            starts[0] != 0 or starts != sorted(starts) or starts[-1] > 1 or min(gap for _, gap in self.gaps) < 1
        ):
            raise InputError(f"gaps are {self.gaps}, expected shares that rise from 0, each with a gap of at least 1")
        for name in ("final_lr", "trunk_lr", "warm_up", "short_share", "fine_tune", "hard_from", "hard_until"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}, expected a share from 0 to 1")
        if not 0 <= self.reader_lr < float("inf"):
            raise InputError(f"reader_lr is {self.reader_lr}, expected a factor of 0 or more")
        if self.folds == 1 or (self.folds and self.held_out) or not 0 <= self.fold < max(1, self.folds):
            raise InputError(
                f"held_out is {self.held_out}, folds {self.folds}, fold {self.fold}; "
                "expected held_out or folds, 2 folds or more, and a fold below that"
            )
        if not 0 < self.hard_pixels <= 1:
            raise InputError(f"hard_pixels is {self.hard_pixels}, expected a share above 0 and up to 1")


FREE = tuple(name for name, f in TrainSettings.__dataclass_fields__.items() if f.metadata["free"])

DEFAULTS = {name: f.default for name, f in TrainSettings.__dataclass_fields__.items()}

# What a recipe is trained on: the ready-made clips of the tiny networks; still images, warped into clips; videos.
CLIPS, STILLS, VIDEO = "synthetic clips", "stills", "video"


@dataclass(frozen=True)
class Recipe:
    """One run: what is trained, and how. Every file in `recipes/` defines one as RECIPE, some a second one as TMRN."""

    name: str
    build: Callable[[int], nn.Module]  # seed -> network with its initial weights
    settings: TrainSettings
    stage: str = CLIPS  # CLIPS, STILLS or VIDEO
    init: str = "none"  # where weights come from unless told otherwise: "none", "imagenet", or the recipe whose run comes before
    grows: bool = (
        False  # the stem's channel for the others' masks begins anew (STCN's second stage; the first sees one object)
    )
    interpolation: str = "bicubic"  # of frames when they are warped: STCN's, XMem's is bilinear
    rule: str = "walk"  # how frames of a clip are drawn: "walk" (STCN) or "spread" (XMem)
    synthetic: int = 0  # synthetic videos to train on where no data is given; 0: data must be given

    def with_settings(self, **options) -> "Recipe":
        """The same recipe with other settings. Raises InputError for values that are not possible."""
        return replace(self, settings=replace(self.settings, **options))


@dataclass(frozen=True)
class Course:
    """Recipes that follow one another, each from the weights of the one before, with a score at the end."""

    name: str
    stages: tuple[Recipe, ...]

    @property
    def settings(self) -> TrainSettings:
        """Those of the last stage."""
        return self.stages[-1].settings

    def with_settings(self, **options) -> "Course":
        """The same course with other settings in every stage."""
        return replace(self, stages=tuple(stage.with_settings(**options) for stage in self.stages))
