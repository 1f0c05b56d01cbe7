"""The training loop, plainly: roll the network out over a few frames of several clips, compare, step.

The forward pass is `inference.roll_out`, the very step that segments videos. Every batch and every draw is a pure function of (seed, step), so a
checkpoint needs the weights, the optimiser and the step number, and a resumed run ends with exactly the weights of an unbroken one. Devices,
processes and mixed precision are Lightning Fabric's; the loop does not know how many there are. The parts lie in `tmrn_edu/training/`.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import nn
from tqdm.auto import tqdm

from tmrn_edu.data.clips import Batch, SyntheticClips
from tmrn_edu.data.files import atomic_path
from tmrn_edu.errors import InputError
from tmrn_edu.training.held_out import score_videos
from tmrn_edu.training.loading import batch_number, batches
from tmrn_edu.training.objective import (
    ClipObjective,
    Parcel,
    clip_loss,
    clip_objective,
    make_optimiser,
    set_learning_rate,
)
from tmrn_edu.training.run_folder import NETWORK, RunFolder, about_run
from tmrn_edu.training.schedule import Stage, curriculum
from tmrn_edu.training.settings import Course, Recipe, TrainSettings, setting
from tmrn_edu.training.start import start_from
from tmrn_edu.training.stopping import Stopped, StopRequest
from tmrn_edu.viz.overlays import clip_picture
from tmrn_edu.weights import export, reader_of

__all__ = [
    "ClipObjective", "Course", "Recipe", "Stage", "Stopped", "TrainSettings", "clip_loss", "clip_objective", "curriculum",
    "make_optimiser", "setting", "show_progress", "train",
]  # fmt: skip

BAD_BATCH = "bad_batch_{step}.pt"


def show_progress() -> bool:
    """Whether progress bars are wanted: not when TMRN_PROGRESS=0."""
    return os.environ.get("TMRN_PROGRESS", "1") != "0"


def train(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
    data=None,
    devices: int = 1,
    nodes: int = 1,
    init: str | Path | None = None,
    held_out: Mapping[str, Sequence] | None = None,
    about: Mapping | None = None,
) -> Path:
    """Trains a recipe's network; returns the path of the weights, `out/network.safetensors`.

    Into `out` goes what `training/run_folder.py` lists; every file appears whole or not at all. A checkpoint is written every `save_every` steps, and
    when the run is asked to stop (Ctrl-C, SIGTERM) or fails. `resume=True` continues from the last one, on a CPU to the same bits as an unbroken
    run. `data`: a set of training clips (`data.clips.SyntheticClips`, `data.video_clips.VideoClips`), the recipe's own synthetic clips if None.
    `devices`, `nodes`: processes on this machine, and machines; each takes its share of every batch. `init`: first weights, see
    `training.start.start_from`. `held_out`: videos by set, to be scored every `score_every` steps. `about`: what else `run.json` should say.
    `progress`: None is as `show_progress` says.

    Raises InputError when `out` already holds another run, or nothing to resume; before anything is written, InputError for
    settings that do not go together, weights that do not fit, and for a reader that a weight file could not describe; FloatingPointError when the
    loss is no finite number; Stopped, a KeyboardInterrupt, when it was asked to stop. Source: ours.
    """
    settings = recipe.settings
    progress = show_progress() if progress is None else progress
    torch.set_flush_denormal(True)
    data = SyntheticClips(settings.clips, size=(settings.size, settings.size), seed=0) if data is None else data
    check_settings(settings, data, devices * nodes)
    fabric = make_fabric(device, devices, nodes, settings.precision)
    with torch.random.fork_rng(devices=[]):
        network = recipe.build(settings.seed)
        folder = RunFolder(out, recipe, reader_of(network))
        about = dict(about or {})
        if not (resume and folder.has_checkpoint):
            about["start"] = start_from(network, "none" if init is None else init, recipe.grows)
            if progress and fabric.is_global_zero and init not in (None, "none"):
                print(f"{recipe.name}: {about['start']}", file=sys.stderr)
        run = Run(fabric, recipe, network, folder, data, held_out)
        run.open(resume, about_run(f"{devices * nodes} x {fabric.device.type}", about))
        if not run.folder.finished:
            run.train(progress and fabric.is_global_zero)
    return run.folder.out / NETWORK


class Run:
    """A run on the way: the loop, and what it keeps. `step`: the next one."""

    def __init__(self, fabric, recipe: Recipe, network: nn.Module, folder: RunFolder, data, held_out: Mapping | None):
        self.fabric, self.recipe, self.settings = fabric, recipe, recipe.settings
        self.network, self.folder, self.data, self.held_out = network, folder, data, held_out
        self.weights = make_optimiser(network.to(fabric.device).train(), self.settings)
        self.objective, self.optimiser = fabric.setup(ClipObjective(network, self.settings), self.weights)
        self.step, self.skipped = 0, 0
        self._whole = True  # False while a step changes the weights: then they are no state to save
        self._since: list[dict] = []  # numbers of the steps since the last line of metrics.csv

    def open(self, resume: bool, about: dict) -> None:
        """Makes the folder, or takes up the run that is in it."""
        if not resume:
            if self.fabric.is_global_zero:
                self.folder.begin(about)
            self.fabric.barrier()
            return
        state = self.folder.resume(about)
        if state is not None:
            self.network.load_state_dict(state["network"])
            self.weights.load_state_dict(state["optimiser"])
            self.fabric.strategy.precision.load_state_dict(state["scaler"])
            self.step, self.skipped = state["step"], state["skipped"]

    def train(self, progress: bool) -> None:
        """From `step` to the end."""
        settings = self.settings
        bar = tqdm(desc=self.recipe.name, unit="step", disable=not progress, initial=self.step, total=settings.steps)
        self._started = time.monotonic() - self.folder.seconds
        with bar, StopRequest(say=self._say) as request:
            try:
                stream = batches(self.data, settings, self.step, self.fabric.global_rank, self.fabric.world_size)
                while self.step < settings.steps:
                    loss = self._one_step([next(stream) for _ in range(settings.accumulate)])
                    bar.update()
                    bar.set_postfix(loss=f"{loss:.3f}")
                    if self._any(request.signal is not None) and self.step < settings.steps:
                        self._stop(request.status)
                    if self.step % settings.save_every == 0 or self.step == settings.steps:
                        self.save()
            except Stopped:
                raise
            except KeyboardInterrupt:  # a second Ctrl-C: at once
                self._stop(130)
            except torch.cuda.OutOfMemoryError as error:
                self._save_if_whole()
                where = f"step {self.step} does not fit into the memory of {self.fabric.device}"
                raise MemoryError(f"{where}: expected --accumulate 2 or more, or a smaller --size") from error
            except Exception:
                if request.signal is not None:  # what was asked to stop has ended a worker first
                    self._stop(request.status)
                self._save_if_whole()
                raise
        if self.fabric.is_global_zero:
            about = {"recipe": self.recipe.name, "settings": asdict(settings)}
            export(self.network, self.folder.out / NETWORK, about)
        self.fabric.barrier()

    def _one_step(self, parts: list[Batch]) -> float:
        """One optimiser step on the parts of a batch; returns the loss over all processes."""
        settings, stage = self.settings, curriculum(self.settings, self.step)
        number = batch_number(settings, self.step)
        torch.manual_seed(number)  # so what a reader of yours draws is the same after a resumption
        set_learning_rate(self.optimiser, stage.lr)
        self.optimiser.zero_grad(set_to_none=True)
        values: dict[str, float] = {}
        for place, part in enumerate(parts, start=1):
            part, draws = part.to(self.fabric.device), torch.Generator().manual_seed(number)
            with self.fabric.no_backward_sync(self.objective, enabled=place < len(parts)):
                loss, terms, found = self.objective(Parcel(part, stage, draws))
                self._add(values, {"loss": loss.detach()} | {k: term.mean() for k, term in terms.items()}, len(parts))
                finite = self._is_number("loss", values["loss"], part)
                self.fabric.backward(
                    loss / len(parts) if len(parts) > 1 else loss
                )  # in any case: processes wait for it
        self._sample(part, found)
        norm = self.fabric.clip_gradients(
            self.objective,
            self.optimiser,
            max_norm=settings.clip_gradient or float("inf"),
            error_if_nonfinite=False,
        )
        # With 16 bits, gradients that overflow are expected: the scaler leaves such a step out and scales less.
        if finite and (settings.precision == "16" or self._is_number("norm of the gradient", float(norm), part)):
            self._whole = False
            self.optimiser.step()
            self._whole = True
            self.step += 1
            self._log(values | {"gradient_norm": float(norm)}, stage)
            return values["loss"]
        self.skipped, self.step = self.skipped + 1, self.step + 1
        return values["loss"]

    def _is_number(self, what: str, value: float, batch: Batch) -> bool:
        """Whether a value is finite, in all processes alike; if not, says where and keeps the batch, unless such steps are to be skipped."""
        if np.isfinite(value):
            return True
        if self.settings.non_finite == "stop":
            path = self.folder.out / BAD_BATCH.format(step=self.step)
            if self.fabric.is_global_zero:
                with atomic_path(path) as temporary:
                    torch.save({k: v.cpu() if hasattr(v, "cpu") else v for k, v in vars(batch).items()}, temporary)
            raise FloatingPointError(
                f"{what} at step {self.step} is {value}, expected a finite number; clips: {', '.join(batch.names) or 'unnamed'}; "
                f"the batch is in {path}; --resume --non-finite=skip leaves such steps out"
            )
        return False

    def _add(self, values: dict[str, float], found: dict[str, torch.Tensor], parts: int) -> None:
        """Adds a part's numbers, averaged over all processes."""
        for name, number in found.items():
            mean = self.fabric.all_reduce(number.float(), reduce_op="mean") if self.fabric.world_size > 1 else number
            values[name] = values.get(name, 0.0) + float(mean) / parts

    def _any(self, flag: bool) -> bool:
        """Whether it is so in any process."""
        if self.fabric.world_size == 1:
            return flag
        return bool(self.fabric.all_reduce(torch.tensor(float(flag), device=self.fabric.device), reduce_op="sum") > 0)

    def _say(self, words: str) -> None:
        if self.fabric.is_global_zero:
            try:
                print(words, file=sys.stderr)
            except RuntimeError:  # the signal came while the bar was written: no write inside a write
                os.write(2, f"{words}\n".encode())

    # ------------------------------------------------------------------ what is kept

    def _log(self, values: dict[str, float], stage: Stage) -> None:
        """A line of metrics.csv, the mean of the steps since the last one; the scores, when it is time for them."""
        settings, done = self.settings, self.step
        self._since.append(values)
        self.folder.seconds = time.monotonic() - self._started
        score = self.held_out and settings.score_every and (done % settings.score_every == 0 or done == settings.steps)
        if done % settings.log_every == 0 or done == settings.steps or score:
            names = self._since[-1]
            row = {"step": done - 1}
            row |= {name: float(np.mean([v[name] for v in self._since])) for name in names}
            row |= {"lr": stage.lr, "frames": stage.frames, "max_gap": stage.max_gap, "hard_pixels": stage.hard_pixels}
            row |= {"skipped": self.skipped, "seconds": round(self.folder.seconds, 3)}
            self._since = []
            if self.fabric.is_global_zero:
                for name, videos in self.held_out.items() if score else ():
                    row[f"J {name}"] = float(np.mean(list(score_videos(self.network, videos).values())))
                self.folder.log(row)

    def _sample(self, batch: Batch, found: torch.Tensor) -> None:
        """A picture of the first clip."""
        every = self.settings.sample_every
        if every and self.step % every == 0 and self.fabric.is_global_zero:
            masks = batch.object_masks[0].cpu()
            truth = torch.where(masks.amax(dim=0) > 0, masks.argmax(dim=0) + 1, 0).to(torch.uint8)
            labels = torch.cat([truth[:1], found[0].cpu()])
            frames = rearrange((batch.frames[0].cpu() * 255).round().to(torch.uint8), "t c H W -> t H W c")
            self.folder.picture(self.step, clip_picture(frames, truth, labels))

    def save(self) -> None:
        """A checkpoint, by the first process."""
        if self.fabric.is_global_zero:
            state = {
                "network": self.network.state_dict(),
                "optimiser": self.weights.state_dict(),
                "scaler": self.fabric.strategy.precision.state_dict(),
                "step": self.step,
                "skipped": self.skipped,
            }
            self.folder.save(state)
        self.fabric.barrier()

    def _save_if_whole(self) -> bool:
        """A checkpoint of the last whole step, without waiting for other processes, which may be gone."""
        if self._whole and self.fabric.world_size == 1 and self.step:
            self.save()
        return self._whole and self.fabric.world_size == 1

    def _stop(self, status: int) -> None:
        """Ends a run that was asked to."""
        if self.fabric.world_size > 1:
            self.save()
        else:
            self._save_if_whole()
        raise Stopped(self.step, self.folder.out, status) from None


def check_settings(settings: TrainSettings, data, world: int = 1) -> None:
    """Every batch that the run will ask for can be made, and shared out. Raises InputError."""
    parts = world * settings.accumulate
    if settings.batch % parts:
        raise InputError(
            f"a batch has {settings.batch} clips, expected a multiple of {parts} ({world} processes x {settings.accumulate} parts)"
        )
    asked = {(s.frames, s.max_gap) for s in (curriculum(settings, step) for step in _turns(settings))}
    for frames, max_gap in sorted(asked):
        data.check(settings.batch, frames, max_gap)


def _turns(settings: TrainSettings) -> list[int]:
    """A step from every part of the curriculum."""
    shares = [0.0, settings.short_share, *(share for share, _ in settings.gaps)]
    return sorted(
        {min(settings.steps - 1, round(share * settings.steps) + more) for share in shares for more in (0, 1)}
    )


def make_fabric(device: str | torch.device, devices: int = 1, nodes: int = 1, precision: str = "32"):
    """Lightning Fabric for a device: one process, or data-parallel ones, started here, by torchrun or by Slurm.

    Raises InputError where it is not installed, or the device is not to be had.
    """
    try:
        import tensorboardX  # noqa: F401  (needed at the first checkpoint: better to know now)
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        raise InputError(
            f"training needs {error.name}, which is not installed: pip install 'tmrn-edu[train]'"
        ) from None
    device = torch.device(device)
    if precision == "16" and device.type != "cuda":
        raise InputError(f"precision 16 is for cuda devices, this run is on {device}; expected --precision=32 or bf16")
    chosen = [device.index] if device.index is not None and devices == 1 else devices
    many = devices * nodes > 1
    strategy = "auto"
    if many:
        backend = "nccl" if device.type == "cuda" else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, find_unused_parameters=True)
    mixed = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}[precision]
    fabric = Fabric(accelerator=device.type, devices=chosen, num_nodes=nodes, strategy=strategy, precision=mixed)
    if many:
        fabric.launch()
    return fabric
