"""Checkers of notebook 07: the frame gaps of a curriculum, the share of pixels that count, bootstrapped cross-entropy."""

from einops import rearrange
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.losses import hard_share as share_of
from tmrn_edu.training.schedule import curriculum
from tmrn_edu.training.settings import TrainSettings

STCN_GAPS = ((0.0, 5), (0.1, 10), (0.2, 15), (0.3, 20), (0.4, 25), (0.9, 5))

LATE = "at the very step `share * steps` the new gap holds already: >=, not >"


def largest_gap(function) -> bool:
    """`function(gaps, steps, step)` is the largest frame gap at a step; `gaps`: pairs (share of all steps, gap from there on)."""

    def right(gaps, steps, step):
        return curriculum(TrainSettings(steps=steps, gaps=gaps, short_share=0.0), step).max_gap

    def late(gaps, steps, step, whole=round):
        return [gap for share, gap in gaps if step > whole(share * steps) or share == 0][-1]

    def case(draw: Draw) -> tuple:
        steps = 8 * draw.integer(1, 5) + draw.choice(0, 0, 1)
        shares = [share for share in (1 / 8, 3 / 8, 5 / 8, 7 / 8) if draw.choice(True, False)]
        gaps = tuple((share, draw.integer(1, 25)) for share in (0.0, *shares))
        begin = round(draw.choice(*gaps)[0] * steps)
        return gaps, steps, draw.choice(begin, max(0, begin - 1), draw.integer(0, steps - 1))

    cases = [(STCN_GAPS, 1000, step) for step in (0, 99, 100, 250, 399, 400, 899, 900, 999)]
    cases += [(((0.0, 2), (0.375, 7)), 9, 3), *examples(case)]  # 3.375 is step 3
    return trial(
        function,
        right,
        cases,
        passed="the last gap whose share of the steps has been reached, back to a small one at the end",
        mistakes=[
            (late, LATE),
            (lambda gaps, *at: late(gaps, *at, whole=float), LATE),
            (
                lambda gaps, steps, step: [gap for share, gap in gaps if step >= share * steps][-1],
                "steps are whole numbers: a gap begins at round(share * steps)",
            ),
            (lambda gaps, *_: gaps[0][1], "always the first gap: take the last one whose share has been reached"),
            (lambda gaps, *_: gaps[-1][1], "always the last gap: shares that the run has not reached do not count"),
            (
                lambda gaps, steps, step: max(gap for share, gap in gaps if step >= round(share * steps)),
                "the largest gap so far; the curriculum goes back at the end, so take the latest one",
            ),
            (
                lambda gaps, steps, step: [gap for share, gap in gaps if step >= share][-1],
                "shares are of all steps: compare the step with share * steps",
            ),
        ],
    )


def hard_share(function) -> bool:
    """`function(step, start, end, final)` is the share of pixels that count: 1 until `start`, then linear to `final` at `end`."""

    def line(step, start, end, final):
        return 1 - (1 - final) * (step - start) / (end - start)

    def case(draw: Draw) -> tuple:
        start, length = draw.integer(0, 9), draw.integer(1, 9)
        step = draw.choice(0, start, start + length, draw.integer(start, start + length), start + 2 * length)
        return step, start, start + length, draw.choice(1.0, draw.number(0.1, 0.9), draw.number(0.1, 0.9))

    return trial(
        function,
        lambda step, start, end, final: share_of(step, start, end, final),
        [(500, 20, 70, 0.15), (45, 20, 70, 0.15), (6, 4, 8, 0.5), *examples(case)],
        passed="all pixels first, then fewer and fewer, and no fewer than the final share",
        mistakes=[
            (line, "a straight line has no ends: keep 1 before `start` and `final` after `end`"),
            (lambda s, a, b, f: min(1.0, line(s, a, b, f)), "after `end` the share falls no further than `final`"),
            (lambda s, a, b, f: max(f, line(s, a, b, f)), "before `start` the share is 1, no more"),
            (lambda s, a, b, f: max(f, 1 - (1 - f) * s / b), "it begins to fall at `start`, not at step 0"),
            (
                lambda s, a, b, f: 1.0 if s < a else f if s >= b else 1 - (s - a) / (b - a),
                "half-way between `start` and `end` it should be half-way between 1 and `final`; yours heads for 0",
            ),
            (lambda s, a, b, f: 1.0 if s < a else f, "it falls little by little from `start` to `end`, not at once"),
        ],
    )


def bootstrapped(function) -> bool:
    """`function(losses, share)` of losses `b H W`: each clip's mean over its int(share H W) largest, then the mean over clips."""

    def rows(losses: Tensor) -> Tensor:
        return rearrange(losses, "b H W -> b (H W)")

    def hardest(losses, share, largest=True):
        return rows(losses).topk(int(share * losses[0].numel()), dim=1, largest=largest).values

    def case(draw: Draw) -> tuple[Tensor, float]:
        losses = 3 * draw.uniform("b 1 1") * draw.normal("b H W").abs()  # some clips are hard, some are easy
        pixels = draw.size("H") * draw.size("W")
        share = (draw.integer(1, max(1, pixels - 1)) + 0.6) / pixels  # int() takes one pixel less than round()
        return losses, draw.choice(1.0, min(1.0, share), min(1.0, share))

    return trial(
        function,
        lambda losses, share: hardest(losses, share).mean(),
        examples(case),
        passed="each clip is judged by its own hardest pixels",
        mistakes=[
            (
                lambda x, s: rearrange(x, "b H W -> (b H W)").topk(int(s * x.numel())).values.mean(),
                "those are the hardest pixels of the whole batch; an easy clip would have no say. Take the hardest of each clip",
            ),
            (lambda x, s: hardest(x, s, largest=False).mean(), "those are the easiest pixels: the largest losses are asked for"),
            (
                lambda x, s: hardest(x, s).sum() / x.numel(),
                "the sum over the hardest is divided by all pixels; divide by how many are kept",
            ),
            (lambda x, s: hardest(x, s).sum(), "that is their sum, the mean is asked for"),
            (lambda x, s: hardest(x, s).mean(dim=1), "one number a clip; the loss of a batch is their mean"),
            (lambda x, s: x.mean(), "that is plain cross-entropy: `share` is not used"),
        ],
    )  # fmt: skip
