"""Checkers of notebook 08: F from distances, the mean that DAVIS reports, the paired bootstrap interval of a difference."""

import torch
from einops import rearrange, reduce
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.metrics import scored_frames

ENDS = torch.tensor([0.025, 0.975])


def _shares(distances: Tensor, tolerance, strict: bool = False) -> tuple[Tensor, Tensor]:
    """Precision and recall of `n m` distances."""
    near = (distances < tolerance if strict else distances <= tolerance).float()
    return reduce(near, "n m -> n", "max").mean(), reduce(near, "n m -> m", "max").mean()


def _harmonic(precision: Tensor, recall: Tensor) -> Tensor:
    return 2 * precision * recall / (precision + recall).clamp_min(1e-9)


def f_measure(function) -> bool:
    """`function(distances, tolerance)` is F of two outlines, from the distances `n m` of their pixels; at most `tolerance` is matched."""

    def case(draw: Draw) -> tuple:
        predicted, true = (
            draw.integers("n 2", 0, 6),
            draw.integers("m 2", 0, 6),
        )  # whole pixels: some distances equal the tolerance
        away = draw.choice(0, 0, 0, 20)  # too far for any match
        return torch.cdist(predicted.float(), (true + away).float()), draw.choice(1, 1.5, 2, 5)

    return trial(
        function,
        lambda distances, tolerance: _harmonic(*_shares(distances, tolerance)),
        examples(case),
        passed="a pixel is matched by its nearest counterpart, and both outlines are asked",
        mistakes=[
            (
                lambda d, tolerance: _harmonic(*_shares(d, tolerance, strict=True)),
                "a distance that equals the tolerance is matched: <=, not <",
            ),
            (
                lambda d, tolerance: sum(_shares(d, tolerance)) / 2,
                "that is the plain mean of precision and recall; F is the harmonic one, 2 P R / (P + R)",
            ),
            (
                lambda d, tolerance: _shares(d, tolerance)[0],
                "that is the precision alone: outline that is missing costs nothing",
            ),
            (
                lambda d, tolerance: _shares(d, tolerance)[1],
                "that is the recall alone: outline that is invented costs nothing",
            ),
            (
                lambda d, tolerance: (d <= tolerance).float().mean(),
                "that is the share of all pairs; a pixel is matched as soon as one of the other outline is near",
            ),
            (
                lambda d, tolerance: _harmonic(
                    *[(reduce(d, p, "max") <= tolerance).float().mean() for p in ("n m -> n", "n m -> m")]
                ),
                "a pixel has to be near one pixel of the other outline, not near all of them: the smallest distance counts",
            ),
            (
                lambda d, tolerance: _harmonic(
                    *[(reduce(d, p, "mean") <= tolerance).float().mean() for p in ("n m -> n", "n m -> m")]
                ),
                "the nearest pixel of the other outline decides, not the mean distance",
            ),
            (
                lambda d, tolerance: 2 * torch.stack(_shares(d, tolerance)).prod() / sum(_shares(d, tolerance)),
                "right where something is matched; where nothing is, 0 / 0 is no number: F is 0 there",
            ),
        ],
    )


def _means(J: Tensor, visible: Tensor, frames=scored_frames) -> list[Tensor]:
    """Of each object, the mean over its `frames(visible as t 1 1)`."""
    found = [list(frames(rearrange(seen, "t -> t 1 1"))) for seen in visible]
    return [values[chosen].mean() for values, chosen in zip(J, found, strict=True)]


def mean_over_objects(function) -> bool:
    """`function(J, visible)` of `o t` each is the J that DAVIS reports: over each object's frames, then over objects."""

    def case(draw: Draw) -> tuple[Tensor, Tensor]:
        objects, frames = draw.size("o"), 3 + draw.integer(0, 6)
        appears = draw.integers("o 1", 0, frames - 3)  # early enough to have a frame that counts
        time = torch.arange(frames)
        seen = draw.uniform(f"o {frames}") < draw.choice(0.6, 1.0)  # some are hidden for a while
        return draw.uniform(f"{objects} {frames}"), (time == appears) | ((time > appears) & seen)

    def over(frames):
        return lambda J, visible: torch.stack(_means(J, visible, frames)).mean()

    def one_pot(J, visible):
        return torch.cat(
            [
                values[list(scored_frames(rearrange(seen, "t -> t 1 1")))]
                for values, seen in zip(J, visible, strict=True)
            ]
        ).mean()

    def seen_only(present):
        return [frame for frame in scored_frames(present) if present[frame]]

    return trial(
        function,
        over(scored_frames),
        examples(case),
        passed="each object by its own frames, then all objects alike",
        mistakes=[
            (
                over(lambda present: range(min(scored_frames(present)) - 1, len(present) - 1)),
                "the frame in which an object appears was given: its frames begin after it",
            ),
            (
                over(lambda present: range(min(scored_frames(present)), len(present))),
                "DAVIS leaves the clip's last frame out",
            ),
            (
                over(lambda present: range(min(scored_frames(present)) - 1, len(present))),
                "neither the frame in which an object appears, which was given, nor the clip's last one counts",
            ),
            (over(seen_only), "a frame in which an object is hidden counts as well: there an empty mask is right"),
            (
                over(lambda present: range(1, len(present) - 1)),
                "a late object has no mask before it appears: its frames begin after the first in which it is visible",
            ),
            (
                lambda J, visible: J.mean(),
                "that is the mean of everything: the frames that count are those after an object's first, but for the clip's last",
            ),
            (
                one_pot,
                "that is the mean over all frames in one pot: take each object's mean first, then the mean of these",
            ),
            (lambda J, visible: torch.stack(_means(J, visible)), "one number an object; the clip's is their mean"),
        ],
    )


def paired_interval(function) -> bool:
    """`function(baseline, other, draws)`, scores `k` and clips drawn `d k`, gives both ends of the mean difference's 95 % interval."""

    def case(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        difficulty, gain = draw.normal("k"), draw.normal("k")
        draws = draw.integers(f"{draw.integer(2, 40)} k", 0, draw.size("k") - 1)
        return difficulty, difficulty + 0.1 + 0.2 * gain, draws

    def means(values, draws):
        return reduce(values[draws], "d k -> d", "mean")

    return trial(
        function,
        lambda baseline, other, draws: means(other - baseline, draws).quantile(ENDS),
        examples(case),
        axes="ends",
        passed="the same clips for both, and the mean of each draw",
        mistakes=[
            (
                lambda a, b, draws: means(a - b, draws).quantile(ENDS),
                "the sign is turned: the other minus the baseline",
            ),
            (
                lambda a, b, draws: (b - a).quantile(ENDS),
                "that is where single clips lie; draw, take the mean of each draw, and see where these lie",
            ),
            (
                lambda a, b, draws: (b - a)[draws].quantile(ENDS),
                "those are percentiles of all that was drawn: take the mean of each draw first",
            ),
            (
                lambda a, b, draws: means(b, draws).quantile(ENDS) - means(a, draws).quantile(ENDS),
                "each network has an interval of its own there, and a difference of ends is not the end of a difference: subtract clip by clip first",
            ),
            (
                lambda a, b, draws: means(b - a, draws).quantile(torch.tensor([0.05, 0.95])),
                "5 % at each end leave 90 %: 2.5 and 97.5 percent",
            ),
            (
                lambda a, b, draws: means(b, draws).quantile(ENDS),
                "that is the interval of the other network; of the difference is asked",
            ),
            (
                lambda a, b, draws: torch.stack([means(b - a, draws).min(), means(b - a, draws).max()]),
                "that is the range of all draws, which grows with their number: take the percentiles 2.5 and 97.5",
            ),
            (
                lambda a, b, draws: (b - a).mean() + 1.96 * means(b - a, draws).std() * torch.tensor([-1.0, 1.0]),
                "mean and standard deviation assume a bell; the percentiles of the draws are asked for",
            ),
        ],
    )
