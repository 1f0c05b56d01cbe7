"""Checkers of notebook 10: worked answers pass, each common mistake is met with its own sentence; and what `check.reader` finds in readers."""

import re
import textwrap
from pathlib import Path

import pytest
import torch
from einops import rearrange, repeat
from exercises import exercise_tests

from tmrn_edu import check
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.memory.alignment import chain_prior, grid_positions
from tmrn_edu.memory.space_time import OWN, per_clip, query_positions
from tmrn_edu.memory.working import frames_apart


def square_distance(height, width):
    cells = [(m // width, m % width) for m in range(height * width)]
    return torch.tensor([[float((a - c) ** 2 + (b - d) ** 2) for c, d in cells] for a, b in cells])


class Forgetful(SpaceTimeReader):
    def __init__(self, rate=1.0, similarity=None, top_k=OWN):
        super().__init__(similarity, top_k)
        self.rate = rate

    def settings(self):
        return super().settings() | {"rate": self.rate}

    def temporal_score(self, step, query_key, aligned_value):
        evidence = step.affinity.evidence
        steps = torch.as_tensor(per_clip(step.steps, "b -> b 1", evidence), dtype=evidence.dtype)
        return self.of(evidence, steps)

    def of(self, evidence, steps):
        return evidence - self.rate * torch.log(1 + steps)


def fair(one, other):
    if any(one[name] != other[name] for name in ("start", "steps", "seed", "scored_on")):
        return False
    return one["scored_on"].isdisjoint(one["chosen_on"]) and one["scored_on"].isdisjoint(other["chosen_on"])


def empty(*_, **__):
    raise NotImplementedError


test_worked_answers_pass, test_empty_functions_do_not = exercise_tests(
    {"square_distance": square_distance, "fair": fair}
)


def test_a_worked_reader_passes(capsys):
    assert check.forgetful_reader(Forgetful)
    assert capsys.readouterr().out == "passed: a frame counts less the older it is\n"


def forgetful(of=empty):
    return type("Other", (Forgetful,), {"of": lambda self, evidence, steps: of(evidence, steps, self.rate)})


WRONG = [
    ("square_distance", lambda h, w: square_distance(h, w).sqrt(), "the square is asked for"),
    ("square_distance", lambda h, w: square_distance(w, h), "rows and columns are mixed up"),
    ("forgetful_reader", forgetful(), "the function is still empty"),
    ("forgetful_reader", forgetful(lambda e, n, r: e + r * torch.log1p(n)), "trusts old frames more"),
    ("forgetful_reader", forgetful(lambda e, n, r: e - r * torch.log(n)), "log(1 + steps), not log(steps)"),
    ("forgetful_reader", forgetful(lambda e, n, r: e - r * n), "keeps old frames in play"),
    ("forgetful_reader", forgetful(lambda e, n, r: 0 * e - r * torch.log1p(n)), "the evidence is lost"),
    ("forgetful_reader", forgetful(lambda e, n, r: e), "step.steps says how many frames ago"),
    ("forgetful_reader", forgetful(lambda e, n, r: e - r * torch.log1p(n).sum()), "one by one"),
    ("fair", lambda a, b: a == b, "the reader is what is compared"),
    ("fair", lambda a, b: fair(a | {"chosen_on": set()}, b), "if `one` was chosen"),
    ("fair", lambda a, b: fair(a, b | {"chosen_on": set()}), "if `other` was chosen"),
    ("fair", lambda a, b: fair(a | {"chosen_on": set()}, b | {"chosen_on": set()}), "those sets must not meet"),
    ("fair", lambda a, b: fair(a, b | {"start": a["start"]}), "the weights that training began with"),
    ("fair", lambda a, b: fair(a, b | {"steps": a["steps"]}), "the steps of training"),
    ("fair", lambda a, b: fair(a, b | {"seed": a["seed"]}), "the seed"),
    ("fair", lambda a, b: fair(a | {"scored_on": b["scored_on"]}, b), "the clips that were scored"),
    ("fair", lambda a, b: {a["seed"]}, "expected True or False"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wrong", "advice"), WRONG)
def test_mistakes_are_met(name, wrong, advice, capsys):
    assert not getattr(check, name)(wrong)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 and lines[0].startswith("not yet: ") and advice in lines[0]


# any reader


class Nearby(SpaceTimeReader):
    """As in the lesson."""

    def __init__(self, gamma=0.1, similarity=None, top_k=OWN):
        super().__init__(similarity, top_k)
        self.gamma = torch.nn.Parameter(torch.tensor(float(gamma)))

    def settings(self):
        return super().settings() | {"gamma": 0.0}

    def score(self, frame, query, centre, gap):
        place = repeat(query_positions(query), "yx h w -> b yx (h w)", b=len(frame.key))
        distance = chain_prior(grid_positions(*frame.key.shape[-2:], like=frame.key), place)
        steps = per_clip(frames_apart(query.index, frame.index), "b -> b 1 1", distance)
        return super().score(frame, query, centre, gap) - self.gamma / steps**2 * distance


@pytest.mark.parametrize("preset", ["own", "nearby", "paper", "warm", "chained", "tracking"])
def test_readers_of_the_library_pass(preset, capsys):
    make = {"own": SpaceTimeReader, "nearby": Nearby}.get(preset) or (lambda: TrajectoryReader.preset(preset, 32, 64))
    assert check.reader(make)
    assert capsys.readouterr().out.startswith("passed: it reads in STCN, STM and XMem, trains,")


def test_the_reader_of_contributing_passes(capsys):
    text = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"   ```python\n(.*?)   ```", text.split("## Add a reader")[1], re.DOTALL).group(1)
    names = {}
    exec(textwrap.dedent(block), names)
    assert check.reader(names["Neighbours"])


def test_readers_of_other_sizes_are_tried_without_networks(capsys):
    assert check.reader(lambda: TrajectoryReader.paper(5, 7), key_channels=5, value_channels=7)
    assert "STCN" not in capsys.readouterr().out


class WholeFrame(Nearby):
    def score(self, frame, query, centre, gap):
        place = grid_positions(*frame.key.shape[-2:], like=frame.key)
        distance = chain_prior(place, repeat(place, "yx h w -> b yx (h w)", b=len(frame.key)))
        return SpaceTimeReader.score(self, frame, query, centre, gap) - self.gamma * distance


class OneNumber(Nearby):
    def score(self, frame, query, centre, gap):
        steps = frames_apart(query.index, frame.index)
        steps = steps if isinstance(steps, int) else float(steps.float().mean())
        return SpaceTimeReader.score(self, frame, query, centre, gap) * (1 + self.gamma / steps)


class AsGiven(Nearby):
    """Takes the place in the list for the time."""

    def forward(self, memory, query, insides=False):
        return super().forward([type(f)(**vars(f) | {"index": i}) for i, f in enumerate(memory)], query, insides)


class Unused(Nearby):
    def score(self, frame, query, centre, gap):
        return SpaceTimeReader.score(self, frame, query, centre, gap)


class HalfUsed(Nearby):
    def __init__(self, gamma=0.1, similarity=None, top_k=OWN):
        super().__init__(gamma, similarity, top_k)
        self.other = torch.nn.Parameter(torch.ones(()))


class Twice(Nearby):
    def forward(self, memory, query, insides=False):
        found = super().forward(memory, query, insides)
        return type(found)(2 * found.value, found.insides)


class NoInsides(Nearby):
    def forward(self, memory, query, insides=False):
        return super().forward(memory, query)


class OneObject(Nearby):
    def forward(self, memory, query, insides=False):
        found = super().forward(memory, query, insides)
        return type(found)(found.value[:, :1], found.insides)


class Forgotten(Nearby):
    def settings(self):
        return super().settings() | {"gama": 0.0}


class Closed(Nearby):
    def settings(self):
        return {"gamma": self.gamma}


class OfOne(Nearby):
    def store(self, key, value, index, exact=False, shrinkage=None):
        assert shrinkage is None, "what is shrinkage?"
        return super().store(key, value, index, exact)


class InOnePiece(Nearby):
    """Starts as the space-time read; its weight then moves scores between neighbouring query pixels of whatever block there is."""

    def __init__(self, gamma=0.0, similarity=None, top_k=OWN):
        super().__init__(gamma, similarity, top_k)

    def score(self, frame, query, centre, gap):
        own = SpaceTimeReader.score(self, frame, query, centre, gap)
        return own + self.gamma * own.roll(query.key.shape[-1], dims=2)


class Transposed(Nearby):
    def score(self, frame, query, centre, gap):
        return rearrange(super().score(frame, query, centre, gap), "b m q -> b q m")


class Normalising(Nearby):
    def store(self, key, value, index, exact=False, shrinkage=None):
        key /= key.norm(dim=1, keepdim=True)
        return super().store(key, value, index, exact, shrinkage)


class Fading(Nearby):
    def score(self, frame, query, centre, gap):
        frame.key.mul_(0.5)
        return super().score(frame, query, centre, gap)


class Plain(Nearby):
    def score(self, frame, query, centre, gap):
        return (1 + self.gamma) * self.similarity(frame.key, query.key)


class Large(Nearby):
    key_channels = 128

    def __init__(self, gamma=0.1, similarity=None, top_k=OWN):
        super().__init__(gamma, similarity, top_k)
        self.change = torch.nn.Conv2d(128, 32, 1)

    def store(self, key, value, index, exact=False, shrinkage=None):
        return super().store(self.change(key), value, index, exact, shrinkage)


BROKEN = [
    (WholeFrame, "(query_positions has the query's places), it raises RuntimeError"),
    (WholeFrame, "(test_check_experiment.py, line "),
    (OneNumber, "read otherwise than its clips one by one; clips of a batch have frame numbers of their own"),
    (InOnePiece, "otherwise in blocks of rows than in one piece. Large frames are read in blocks"),
    (InOnePiece, "(with each of its weights moved by about 0.1)"),
    (Transposed, "score gives the shape (2, 24, 30), expected b m q = (2, 30, 24)"),
    (Normalising, "it changes keys in place"),
    (Fading, "it changes keys, the key of a stored frame in place"),
    (Plain, "whatever XMem's shrinkage is"),
    (Large, "made for 128 and 64 channels and tried with 32 and 64: give key_channels="),
    (Nearby(), "a Nearby was given, expected what makes one: te.check.reader(Nearby)"),
    (lambda: 3, "makes a int, expected a torch.nn.Module"),
    (AsGiven, "in another order; their numbers say when they were"),
    (Unused, "(gamma) do not reach the readout"),
    (HalfUsed, "no gradient reaches other"),
    (Twice, "not the sum of values by the weights of its insides"),
    (NoInsides, "gives no insides"),
    (OneObject, "expected b o cv h w = (2, 3, 64, 4, 6)"),
    (Forgotten, "does not take them"),
    (Closed, "what JSON cannot hold"),
    (OfOne, "AssertionError: what is shrinkage?"),
    (type("Empty", (Nearby,), {"score": empty}), "the function is still empty"),
]


@pytest.mark.parametrize(("kind", "advice"), BROKEN, ids=[getattr(kind, "__name__", "instance") for kind, _ in BROKEN])
def test_what_a_reader_lacks_is_said(kind, advice, capsys):
    assert not check.reader(kind)
    out = capsys.readouterr().out
    assert out.startswith("not yet: ") and advice in out and len(out.splitlines()) == 1


@pytest.mark.parametrize("make", [SpaceTimeReader, lambda: Nearby(0.0), lambda: TrajectoryReader.chained(32, 64)])
def test_readers_that_start_as_the_network_s_own(make, capsys):
    assert check.identity(make)
    assert capsys.readouterr().out == "passed: in STCN, STM and XMem it changes nothing\n"


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: Nearby(0.5), "in stcn-tiny a probability changes by"),
        (lambda: TrajectoryReader.paper(32, 64), "in stcn-tiny a probability changes by"),
        (lambda: type("ForXMem", (Plain,), {})(0.0), "in xmem-tiny a probability changes by"),
        (lambda: OfOne(0.0), "in xmem-tiny it raises AssertionError: what is shrinkage?"),
    ],
)
def test_readers_that_do_not(make, advice, capsys):
    assert not check.identity(make)
    assert advice in capsys.readouterr().out


def test_the_check_leaves_random_numbers_alone():
    state = torch.get_rng_state()
    check.reader(lambda: TrajectoryReader.paper(32, 64))
    assert torch.equal(torch.get_rng_state(), state)
