"""The training loop, plainly: roll the network out over a few frames of several clips, compare, step.

The forward pass is `inference.roll_out`, the very step that segments videos. Every batch is a pure function of (seed, step), so a checkpoint
needs the weights, the optimiser and the step number, and a resumed run ends with exactly the weights of an unbroken one.
"""

import csv
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
import torch.nn as nn
from tqdm.auto import tqdm

from tmrn_edu.data.clips import VIDEO_LENGTH, Batch, SyntheticClips
from tmrn_edu.data.files import atomic_path
from tmrn_edu.errors import InputError
from tmrn_edu.inference import FrameSegmentation, roll_out
from tmrn_edu.losses import bootstrapped_cross_entropy, dice_loss, hard_share, readout_mask_loss
from tmrn_edu.masks import pad_to_stride
from tmrn_edu.weights import describe, export


def setting(default, meaning: str):
    """A field of `TrainSettings` with what it means, which `tmrn-edu train --help` shows too."""
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class TrainSettings:
    """What a training run can be told. Steps are optimiser steps; shares are of all steps."""

    steps: int = setting(800, "length of the run")
    batch: int = setting(8, "clips per step")
    lr: float = setting(2e-3, "AdamW's learning rate after warm-up; cosine to `final_lr` of it")
    final_lr: float = setting(0.03, "share of the learning rate at the end")
    warm_up: float = setting(0.05, "share of the steps in which the learning rate rises linearly")
    weight_decay: float = setting(1e-4, "AdamW's")
    clip_gradient: float = setting(5.0, "largest norm of the whole gradient")
    frames: int = setting(4, "frames per clip, given one included")
    short_frames: int = setting(3, "frames per clip in the first `short_share` of the steps")
    short_share: float = setting(0.4, "share of the steps with short clips")
    max_gap: int = setting(2, "largest frame gap; 1 in the first `short_share` of the steps")
    hard_pixels: float = setting(0.25, "bootstrapped cross-entropy: final share of hard pixels, reached at the end")
    hard_from: float = setting(0.15, "share of the steps with plain cross-entropy")
    dice: float = setting(0.5, "weight of the dice loss")
    readout_mask: float = setting(1.0, "weight of the auxiliary loss on the read-out mask, for networks that have one")
    clips: int = setting(2400, "synthetic videos to draw from")
    size: int = setting(96, "their height and width in pixels")
    seed: int = setting(0, "of the weights' initialisation and of the batches")
    save_every: int = setting(100, "steps between checkpoints")


@dataclass(frozen=True)
class Recipe:
    """One run: what is trained, and how. Every file in `recipes/` defines one as RECIPE."""

    name: str
    build: Callable[[int], nn.Module]  # seed -> network with its initial weights
    settings: TrainSettings


@dataclass(frozen=True)
class Stage:
    """What the curriculum asks for at one step."""

    lr: float
    frames: int
    max_gap: int
    hard_pixels: float


def curriculum(settings: TrainSettings, step: int) -> Stage:
    """Learning rate, clip length, frame gaps and share of hard pixels at a step.

    Clips start short with neighbouring frames and get longer with wider gaps (STCN and XMem widen gaps in the same spirit); the learning rate
    warms up linearly and falls as a cosine. Source: ours for the small networks.
    """
    warm = max(1, round(settings.warm_up * settings.steps))
    progress = max(0.0, (step - warm) / max(1, settings.steps - warm))
    cosine = settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    short = step < settings.short_share * settings.steps
    return Stage(
        lr=settings.lr * min(1.0, (step + 1) / warm) * cosine,
        frames=settings.short_frames if short else settings.frames,
        max_gap=1 if short else settings.max_gap,
        hard_pixels=hard_share(step, round(settings.hard_from * settings.steps), settings.steps, settings.hard_pixels),
    )


def clip_loss(
    network: nn.Module, results: list[FrameSegmentation], batch: Batch, settings: TrainSettings, hard_pixels: float
) -> torch.Tensor:
    """Mean over the segmented frames of bootstrapped cross-entropy + dice + the auxiliary loss on the read-out mask."""
    losses = []
    for t, result in enumerate(results, start=1):
        truth = batch.object_masks[:, :, t]
        labels = torch.where(truth.amax(dim=1) > 0, truth.argmax(dim=1) + 1, 0)
        loss = bootstrapped_cross_entropy(result.logits, labels, hard_pixels)
        loss = loss + settings.dice * dice_loss(result.probabilities[:, 1:], truth)
        if network.mask_channels and settings.readout_mask:
            on_grid, _ = pad_to_stride(truth, network.stride)  # as the frame was, whose key's grid this is
            loss = loss + settings.readout_mask * readout_mask_loss(network.readout_mask(result.readouts[0]), on_grid)
        losses.append(loss)
    return torch.stack(losses).mean()


def train(
    recipe: Recipe,
    out: str | Path,
    resume: bool = False,
    device: str | torch.device = "cpu",
    progress: bool = True,
    data: SyntheticClips | None = None,
) -> Path:
    """Trains a recipe's network; returns the path of the weights, `out/network.safetensors`.

    Into `out` go the settings, a log (`log.csv`: step, loss, learning rate), a checkpoint every `save_every` steps, and at the end the weights.
    Every file appears whole or not at all. `resume=True` continues from the checkpoint, to the same weights as an unbroken run.
    `data`: clips to share between runs. Raises InputError when `out` already holds another run, or nothing to resume from; FloatingPointError
    when the loss is not finite; before anything is written, InputError for settings that do not go together and for a reader that a weight
    file could not describe (`weights.describe`). Source: ours.
    """
    settings, out = recipe.settings, Path(out)
    torch.set_flush_denormal(True)
    network = recipe.build(settings.seed).to(device).train()
    describe(network)
    _check_settings(settings, data)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    first = _open_run(out, recipe, network, optimiser, resume)
    data = SyntheticClips(settings.clips, size=(settings.size, settings.size), seed=0) if data is None else data
    rows = _read_log(out / "log.csv", first)
    step = first
    try:
        bar = tqdm(
            range(first, settings.steps),
            desc=recipe.name,
            unit="step",
            disable=not progress,
            initial=first,
            total=settings.steps,
        )
        for step in bar:
            stage = curriculum(settings, step)
            for group in optimiser.param_groups:
                group["lr"] = stage.lr
            batch = data.batch(_batch_number(settings, step), settings.batch, stage.frames, stage.max_gap).to(device)
            draws = torch.Generator().manual_seed(_batch_number(settings, step))
            results = roll_out(network, batch.frames, batch.object_masks[:, :, 0], batch.indices, generator=draws)
            loss = clip_loss(network, results, batch, settings, stage.hard_pixels)
            if not torch.isfinite(loss):
                raise FloatingPointError(f"loss at step {step} is {loss.item()}, expected a finite number")
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), settings.clip_gradient)
            optimiser.step()
            rows.append({"step": step, "loss": f"{loss.item():.6f}", "lr": f"{stage.lr:.3e}"})
            bar.set_postfix(loss=f"{loss.item():.3f}")
            if (step + 1) % settings.save_every == 0:
                _save_checkpoint(out, recipe, network, optimiser, step + 1, rows)
    except KeyboardInterrupt:
        # An interrupted step may have half-updated the weights; the last whole checkpoint stays what a resume starts from.
        kept = out / "checkpoint.pt"
        advice = f"continue with --resume from {kept}" if kept.exists() else f"no checkpoint in {out} yet, begin again"
        raise KeyboardInterrupt(f"stopped at step {step}; {advice}") from None
    _save_checkpoint(out, recipe, network, optimiser, settings.steps, rows)
    path = out / "network.safetensors"
    export(network, path, {"recipe": recipe.name, "settings": asdict(settings)})
    return path


def _check_settings(settings: TrainSettings, data: SyntheticClips | None) -> None:
    """Every batch that the run will ask for can be made."""
    clips, length = (settings.clips, VIDEO_LENGTH) if data is None else (data.count, data.length)
    if settings.batch > clips:
        raise InputError(f"a batch has {settings.batch} clips, the data set has {clips}; expected at least as many")
    for frames, max_gap in ((settings.short_frames, 1), (settings.frames, settings.max_gap)):
        if frames < 2 or (frames - 1) * max_gap + 1 > length:
            raise InputError(
                f"{frames} frames with gaps up to {max_gap}, expected 2 frames or more within videos of {length}"
            )


def _batch_number(settings: TrainSettings, step: int) -> int:
    """Batches of different seeds do not overlap."""
    return settings.seed * 1_000_000 + step


def _open_run(out: Path, recipe: Recipe, network: nn.Module, optimiser: torch.optim.Optimizer, resume: bool) -> int:
    """Makes or checks the run folder; returns the step to begin with."""
    description = {"recipe": recipe.name, "settings": asdict(recipe.settings)}
    settings_file, checkpoint = out / "run.json", out / "checkpoint.pt"
    if resume:
        if not (checkpoint.exists() and settings_file.exists()):
            raise InputError(f"nothing to resume in {out}: expected {checkpoint.name} and {settings_file.name}")
        found = json.loads(settings_file.read_text())
        if found != description:
            names = [k for k, v in description["settings"].items() if found["settings"].get(k) != v]
            there, asked = (
                f"{run['recipe']} with "
                + (", ".join(f"{k} {run['settings'].get(k)}" for k in names) or "the same settings")
                for run in (found, description)
            )
            raise InputError(f"{out} holds a run of {there}, asked for is {asked}")
        state = torch.load(checkpoint, weights_only=True, map_location="cpu")
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return state["step"]
    if checkpoint.exists() or (out / "network.safetensors").exists():
        raise InputError(f"{out} already holds a run; choose another folder, or continue it with --resume")
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(settings_file) as temporary:
        temporary.write_text(json.dumps(description, indent=1))
    return 0


def _save_checkpoint(
    out: Path, recipe: Recipe, network: nn.Module, optimiser: torch.optim.Optimizer, step: int, rows: list[dict]
) -> None:
    with atomic_path(out / "log.csv") as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["step", "loss", "lr"])
        writer.writeheader()
        writer.writerows(rows)
    state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "recipe": recipe.name}
    with atomic_path(out / "checkpoint.pt") as temporary:
        torch.save(state, temporary)


def _read_log(path: Path, steps: int) -> list[dict]:
    if not steps or not path.exists():
        return []
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) < steps]


def show_progress() -> bool:
    """Whether progress bars are wanted: not when TMRN_PROGRESS=0."""
    return os.environ.get("TMRN_PROGRESS", "1") != "0"
