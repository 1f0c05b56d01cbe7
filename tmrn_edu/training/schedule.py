"""What every step of a run asks for: learning rate, clip length, frame gaps, share of hard pixels. A pure function of the settings and the step."""

import math
from dataclasses import dataclass

from tmrn_edu.losses import hard_share
from tmrn_edu.training.settings import TrainSettings


@dataclass(frozen=True)
class Stage:
    """What the curriculum asks for at one step."""

    lr: float
    frames: int
    max_gap: int
    hard_pixels: float
    fine_tune: bool = False


def curriculum(settings: TrainSettings, step: int) -> Stage:
    """Learning rate, clip length, frame gaps and share of hard pixels at a step.

    Learning rate: rises linearly in the first `warm_up`; then a cosine, or a tenth after each of `lr_drops`. Gaps: those of `gaps`, where given
    (STCN 5, 10, 15, 20, 25 at 0, .1, .2, .3, .4 and 5 again from .9 on; XMem 5, 10, 15 at 0, .1, .3 and 5 from .9 on), else 1, then `max_gap`
    together with longer clips. The authors of STCN change gaps at the end of an epoch; here and in XMem it is at the step itself.
    Source: STCN:train.py, XMem:train.py; cosine and short clips are ours for the small networks.
    """
    settings_steps = settings.steps
    short = step < settings.short_share * settings_steps
    max_gap = 1 if short else settings.max_gap
    for share, gap in settings.gaps:
        if step >= round(share * settings_steps):
            max_gap = gap
    return Stage(
        lr=learning_rate(settings, step),
        frames=settings.short_frames if short else settings.frames,
        max_gap=max_gap,
        hard_pixels=hard_share(
            step,
            round(settings.hard_from * settings_steps),
            round(settings.hard_until * settings_steps),
            settings.hard_pixels,
        ),
        fine_tune=step >= settings_steps - round(settings.fine_tune * settings_steps),
    )


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The learning rate at a step: warm-up, then `settings.schedule`."""
    warm = max(1, round(settings.warm_up * settings.steps))
    if settings.schedule == "steps":
        shape = 0.1 ** sum(step >= round(share * settings.steps) for share in settings.lr_drops)
    else:
        progress = max(0.0, (step - warm) / max(1, settings.steps - warm))
        shape = settings.final_lr + (1 - settings.final_lr) * 0.5 * (1 + math.cos(math.pi * progress))
    return settings.lr * min(1.0, (step + 1) / warm) * shape
