"""Checkers of notebook 10: distances on a grid, a reader that forgets, a fair comparison."""

from collections.abc import Callable

import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.readers import trouble_of
from tmrn_edu.check.trial import trial
from tmrn_edu.memory import Query, SpaceTimeReader
from tmrn_edu.memory.alignment import chain_prior, grid_positions


def square_distance(function) -> bool:
    """`function(height, width)` is |pos(m) - pos(q)|^2 between all cells of a grid, in cells: `m q`."""

    def expected(height, width):
        places = grid_positions(height, width, like=torch.zeros(()))
        return chain_prior(places, rearrange(places, "yx h w -> 1 yx (h w)"))[0]

    def parts(height, width):
        places = rearrange(grid_positions(height, width, like=torch.zeros(())), "yx h w -> yx (h w)")
        return rearrange(places, "yx m -> yx m 1") - rearrange(places, "yx q -> yx 1 q")

    return trial(
        function,
        expected,
        examples(lambda draw: (draw.size("h", least=2), draw.size("w"))),
        axes="m q",
        passed="squared distances between all cells, rows first",
        mistakes=[
            (lambda h, w: expected(h, w).sqrt(), "that is the distance; the square is asked for"),
            (lambda h, w: reduce(parts(h, w).abs(), "yx m q -> m q", "sum"), "|dy| + |dx| is another distance: dy^2 + dx^2"),
            (lambda h, w: reduce(parts(h, w), "yx m q -> m q", "sum") ** 2, "square dy and dx before you add them"),
            (lambda h, w: expected(w, h), "rows and columns are mixed up: cell m is at row m // width, column m % width"),
        ],
    )  # fmt: skip


def forgetful_reader(kind: Callable[..., nn.Module]) -> bool:
    """`kind(rate=...)` is a reader that forgets: e[t,q] = evidence - rate log(1 + steps); and it is one that the library can use."""

    def of(make) -> Callable[..., Tensor]:
        """How much every frame counts, `b t q`, for keys, values, frame numbers, the query's own and the rate."""

        def weights(keys, values, numbers, query, now, rate):
            one = make(rate).eval()
            frames = [one.store(keys[:, i], values[:, :, i], n) for i, n in enumerate(numbers.tolist())]
            return one(frames, Query(query, now), insides=True).insides.temporal_weights

        return weights

    def expected(score: Callable) -> Callable:
        class Expected(SpaceTimeReader):
            def __init__(self, rate):
                super().__init__()
                self.rate = rate

            def temporal_score(self, step, query_key, aligned_value):
                return score(step.affinity.evidence, torch.tensor(float(step.steps)), self.rate)

        return of(Expected)

    def case(draw: Draw) -> tuple:
        grid = "ck h w"
        numbers = draw.integers("t", 1, 6).cumsum(0)
        keys, query = draw.normal(f"b t {grid}"), draw.normal(f"b {grid}")
        now = int(numbers[-1]) + draw.integer(1, 6)
        return (
            keys,
            draw.normal("b o t cv h w"),
            numbers,
            query,
            now,
            draw.choice(0.0, draw.number(0.2, 3.0), draw.number(0.2, 3.0)),
        )

    if trouble := trouble_of(lambda: kind(rate=0.7)):
        print(f"not yet: {trouble}")
        return False
    right = lambda evidence, steps, rate: evidence - rate * torch.log1p(steps)
    return trial(
        of(lambda rate: kind(rate=rate)),
        expected(right),
        examples(case, count=12),
        axes="b t q",
        passed="a frame counts less the older it is",
        mistakes=[
            (expected(lambda e, n, r: e + r * torch.log1p(n)), "yours trusts old frames more: minus rate log(1 + steps)"),
            (expected(lambda e, n, r: e - r * torch.log(n)), "log(1 + steps), not log(steps)"),
            (expected(lambda e, n, r: e - r * n), "that falls with the steps themselves; log(1 + steps) keeps old frames in play"),
            (expected(lambda e, n, r: -r * torch.log1p(n) + 0 * e), "the evidence is lost: add to it"),
            (expected(lambda e, n, r: e), "the age does not enter: step.steps says how many frames ago this one was"),
        ],
    )  # fmt: skip


def fair(function) -> bool:
    """`function(one, other)`: may two runs be compared? Equal start, steps, seed and scored clips, and no clip scored that either chose on."""
    same = ("start", "steps", "seed", "scored_on")

    def expected(one, other):
        return int(
            all(one[k] == other[k] for k in same) and not one["scored_on"] & (one["chosen_on"] | other["chosen_on"])
        )

    def without(*left_out):
        def rule(one, other):
            chosen = (set() if "own" in left_out else one["chosen_on"]) | (
                set() if "other's" in left_out else other["chosen_on"]
            )
            return int(all(one[k] == other[k] for k in same if k not in left_out) and not one["scored_on"] & chosen)

        return rule

    def case(draw: Draw) -> tuple:
        scored = set(range(draw.integer(3, 6)))
        run = {
            "reader": "STCN's",
            "start": "stcn-tiny",
            "steps": 40,
            "seed": 0,
            "chosen_on": {100, 101},
            "scored_on": scored,
        }
        one, other = dict(run), run | {"reader": draw.choice("mine", "STCN's")}
        flaw = draw.choice("none", "none", *same, "own", "other's")
        change = {
            "start": {"start": "tmrn-stcn-tiny"}, "steps": {"steps": 80}, "seed": {"seed": 1},
            "scored_on": {"scored_on": scored | {7}},
        }  # fmt: skip
        other |= change.get(flaw, {})
        for run, which in ((one, "own"), (other, "other's")):
            if flaw == which:
                run["chosen_on"] = run["chosen_on"] | {draw.integer(0, 2)}
        return (one, other) if draw.choice(True, False) or flaw in ("own", "other's") else (other, one)

    def answered(one, other):
        said = function(one, other)
        if not (said is None or isinstance(said, bool | int)):
            raise TypeError(f"it returns a {type(said).__name__}, expected True or False")
        return None if said is None else int(said)

    named = {"start": "the weights that training began with", "steps": "the steps of training", "seed": "the seed",
             "scored_on": "the clips that were scored"}  # fmt: skip
    return trial(
        answered,
        expected,
        examples(case, count=80),
        passed="the same start, training and clips, and no clip was both chosen on and scored",
        mistakes=[
            *((without(name), f"look again at {words}: both runs must have the same") for name, words in named.items()),
            (without("own"), "if `one` was chosen on a clip that is scored, its score is flattered"),
            (without("other's"), "if `other` was chosen on a clip that is scored, its score is flattered"),
            (without("own", "other's"), "a setting chosen on a clip that is scored flatters the score: those sets must not meet"),
            (lambda a, b: int(a["reader"] == b["reader"] and expected(a, b)), "the reader is what is compared: it may differ"),
        ],
    )  # fmt: skip
