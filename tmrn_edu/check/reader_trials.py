"""What `check.reader` asks of a memory reader, one question a function: what makes one, key and value channels -> what is wrong, or None.

All on random memories of small sizes that differ.
"""

import json
from collections.abc import Callable, Mapping
from unittest.mock import patch

import torch
from einops import einsum, rearrange, reduce, repeat
from torch import Tensor, nn

from tmrn_edu.check.trial import TOLERANCE
from tmrn_edu.memory import Query, SpaceTimeReader, anisotropic_l2, similarity, space_time
from tmrn_edu.networks import STCN, STM, XMem
from tmrn_edu.segmenter import segment

TINY = (32, 64)  # key and value channels of the small networks
OF_BLOCKS = "Large frames are read in blocks of rows: positions of the query by query_positions, and what needs the whole query frame in prepare"
OF_CLIPS = "clips of a batch have frame numbers of their own, a tensor `b`: use per_clip"


class Memory:
    """A random memory of `t` frames, on grids of `h` x `w` cells, and a query, whose grid has one row less."""

    def __init__(
        self, ck: int, cv: int, b: int = 2, o: int = 3, t: int = 4, h: int = 5, w: int = 6, xmem: bool = False
    ):
        generator = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=generator)
        self.keys, self.values, self.query_key = draw(b, t, ck, h, w), draw(b, o, t, cv, h, w), draw(b, ck, h - 1, w)
        self.numbers, self.now = [0, 2, 3, 7][:t], 9
        self.shrinkage = 1 + draw(b, t, 1, h, w) ** 2 if xmem else None
        self.selection = draw(b, ck, h - 1, w).sigmoid() if xmem else None

    def frames(self, one: nn.Module, clip: int | None = None, factor: Tensor | None = None) -> list:
        """Stored; `clip`: of one clip alone; `factor`: of every clip, of its frame numbers."""
        some = slice(None) if clip is None else slice(clip, clip + 1)
        sharp = lambda i: None if self.shrinkage is None else self.shrinkage[some, i]
        return [
            one.store(self.keys[some, i], self.values[some, :, i], _number(n, clip, factor), exact=i == 0, shrinkage=sharp(i))
            for i, n in enumerate(self.numbers)
        ]  # fmt: skip

    def query(self, clip: int | None = None, factor: Tensor | None = None) -> Query:
        some = slice(None) if clip is None else slice(clip, clip + 1)
        selection = None if self.selection is None else self.selection[some]
        return Query(self.query_key[some], _number(self.now, clip, factor), selection)

    def read(self, one: nn.Module, insides: bool = False, clip: int | None = None, factor: Tensor | None = None):
        return one(self.frames(one, clip, factor), self.query(clip, factor), insides)


def _number(number: int, clip: int | None, factor: Tensor | None) -> int | Tensor:
    return number if factor is None else number * factor if clip is None else int(number * factor[clip])


@torch.no_grad()
def score(make: Callable, ck: int, cv: int) -> str | None:
    """s of one memory frame is b m q, in a tensor of its own."""
    memory, one = Memory(ck, cv), make().eval()
    if not isinstance(one, SpaceTimeReader):
        return None  # it need not have such a method
    frames, query = one.prepare(memory.frames(one), memory.query())
    centre = repeat(rearrange(space_time.query_positions(query), "yx h w -> yx (h w)"), "yx q -> b yx q", b=2)
    found, expected = one.score(frames[0], query, centre, 2), (2, 30, 24)
    return (
        None if found.shape == expected else f"score gives the shape {tuple(found.shape)}, expected b m q = {expected}"
    )


def shape(make: Callable, ck: int, cv: int) -> str | None:
    """The readout is b o cv h w, on the query's grid."""
    value, expected = Memory(ck, cv).read(make().eval()).value, (2, 3, cv, 4, 6)
    if value.shape != expected:
        return f"the readout has the shape {tuple(value.shape)}, expected b o cv h w = {expected}"
    return None if value.isfinite().all() else "the readout holds NaN or infinite values"


@torch.no_grad()
def insides(make: Callable, ck: int, cv: int) -> str | None:
    """Weights that sum to one, and make the readout."""
    memory = Memory(ck, cv)
    readout = memory.read(make().eval(), insides=True)
    if (found := readout.insides) is None:
        return "insides=True gives no insides, and so there is nothing to draw"
    for name, weights, pattern, over in (
        ("affinity", found.affinity, "b t m q -> b t q", "m"),
        ("temporal weights", found.temporal_weights, "b t q -> b q", "t"),
    ):
        if not _same(total := reduce(weights, pattern, "sum"), torch.ones_like(total)):
            return f"the {name} of its insides sum to {total.min():.3g} to {total.max():.3g} over {over}, expected 1"
    rows = rearrange(memory.values, "b o t cv h w -> b o t cv (h w)")
    read = einsum(found.affinity, found.temporal_weights, rows, "b t m q, b t q, b o t cv m -> b o cv q")
    if not _same(rearrange(readout.value, "b o cv h w -> b o cv (h w)"), read):
        return "its readout is not the sum of values by the weights of its insides"
    return None


@torch.no_grad()
def untouched(make: Callable, ck: int, cv: int) -> str | None:
    """What is handed over stays as it is: others hold it too."""
    memory, one = Memory(ck, cv, xmem=True), make().eval()
    before = {name: getattr(memory, name).clone() for name in ("keys", "values", "query_key", "shrinkage", "selection")}
    frames = memory.frames(one)
    stored = [(frame.key.clone(), frame.value.clone()) for frame in frames]
    one(frames, memory.query())
    changed = [name for name, tensor in before.items() if not torch.equal(getattr(memory, name), tensor)]
    for what in (0, 1):
        if any(
            not torch.equal((frame.key, frame.value)[what], kept[what])
            for frame, kept in zip(frames, stored, strict=True)
        ):
            changed.append(f"the {('key', 'value')[what]} of a stored frame")
    return f"it changes {', '.join(changed)} in place; make a new tensor" if changed else None


@torch.no_grad()
def order(make: Callable, ck: int, cv: int) -> str | None:
    """Memory frames have numbers; in which order they are given does not matter."""
    memory, one = Memory(ck, cv), make().eval()
    frames = memory.frames(one)
    read = [one([frames[i] for i in places], memory.query()).value for places in ((0, 1, 2, 3), (2, 0, 3, 1))]
    return (
        None
        if _same(*read)
        else "it reads something else when memory frames are given in another order; their numbers say when they were"
    )


@torch.no_grad()
def clips(make: Callable, ck: int, cv: int) -> str | None:
    """A batch reads as its clips one by one."""
    memory, one, factor = Memory(ck, cv), make().eval(), torch.tensor([1, 3])
    whole = memory.read(one, factor=factor).value
    alone = torch.cat([memory.read(one, clip=clip, factor=factor).value for clip in range(2)])
    return None if _same(whole, alone, 1e-3) else f"a batch is read otherwise than its clips one by one; {OF_CLIPS}"


@torch.no_grad()
def blocks(make: Callable, ck: int, cv: int) -> str | None:
    """A frame in blocks of rows reads as in one piece."""
    memory, one, read = Memory(ck, cv, b=1, t=2, h=8, w=7), make().eval(), []
    for size in (2**40, 8 * 7 * 7 * 3):
        with patch.object(space_time, "BLOCK", size):
            read.append(memory.read(one).value)
    return None if _same(*read, 1e-3) else f"a frame is read otherwise in blocks of rows than in one piece. {OF_BLOCKS}"


@torch.no_grad()
def sharpness(make: Callable, ck: int, cv: int) -> str | None:
    """XMem's shrinkage and selection reach the score, where the similarity is the network's."""
    one = make().eval()
    if not isinstance(one, SpaceTimeReader) or "similarity" not in one.left_open:
        return None
    one.adopt("XMem", anisotropic_l2, None)
    with_both, memory = Memory(ck, cv, xmem=True), Memory(ck, cv, xmem=True)
    for name in ("shrinkage", "selection"):
        setattr(memory, name, torch.ones_like(getattr(memory, name)))
        if _same(with_both.read(one).value, memory.read(one).value):
            return f"it reads the same whatever XMem's {name} is: give frame.shrinkage and query.selection to self.similarity, or call super().score"
        setattr(memory, name, getattr(with_both, name))
    return None


def gradients(make: Callable, ck: int, cv: int) -> str | None:
    """Every weight gets one."""
    memory, one = Memory(ck, cv), make().train()
    value = memory.read(one).value
    weights = {name: weight for name, weight in one.named_parameters() if weight.requires_grad}
    if weights and not value.requires_grad:
        return f"its weights ({', '.join(weights)}) do not reach the readout, so they cannot be learned"
    if weights:
        (value * torch.linspace(-1, 1, value.numel()).reshape(value.shape)).sum().backward()
    without = [name for name, weight in weights.items() if weight.grad is None]
    if without:
        return f"no gradient reaches {', '.join(without)}: used nowhere, or cut off (detach, float(), no_grad)"
    endless = [name for name, weight in weights.items() if not weight.grad.isfinite().all()]
    return f"the gradient of {', '.join(endless)} is NaN or infinite" if endless else None


@torch.no_grad()
def settings(make: Callable, ck: int, cv: int) -> str | None:
    """`settings()` and weights build it again."""
    one = make().eval()
    if not callable(getattr(one, "settings", None)):
        return "it has no settings(), the arguments that build it again, which weight files keep"
    try:
        given: Mapping = json.loads(json.dumps(one.settings()))
    except TypeError as error:
        return f"settings() gives what JSON cannot hold ({error}); expected numbers, words, lists"
    if isinstance(given.get("similarity"), str):
        given["similarity"] = getattr(similarity, given["similarity"])
    try:
        again = type(one)(**given).eval()
    except TypeError as error:
        return f"settings() gives {sorted(given)}, and {type(one).__name__}(...) does not take them: {error}"
    again.load_state_dict(one.state_dict())
    memory = Memory(ck, cv)
    return (
        None
        if _same(memory.read(one).value, memory.read(again).value)
        else "built again from settings() and weights, it reads something else"
    )


def networks(make: Callable, ck: int, cv: int) -> str | None:
    """Small STCN, STM and XMem segment with it."""
    frames, mask = small_video()
    for kind in (STCN, STM, XMem) if (ck, cv) == TINY else ():
        try:
            segment(kind.tiny(make()).eval(), frames, {0: mask}, memory_every=1)
        except Exception as error:
            error.args = (f"in {kind.__name__}, {error}",)
            raise
    return None


def small_video() -> tuple[Tensor, Tensor]:
    """Four frames of noise and a mask with two objects."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (4, 32, 40, 3), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(32, 40, dtype=torch.uint8)
    mask[4:16, 4:16], mask[16:28, 20:36] = 1, 2
    return frames, mask


TRIALS = {  # each with what is being done, for the message where it cannot be done
    score: "asked for the score of one memory frame, on another grid than the query's (query_positions has the query's places),",
    shape: "made and asked to read",
    insides: "asked for its insides",
    untouched: "asked to read",
    order: "given memory frames in another order",
    clips: f"reading a batch ({OF_CLIPS})",
    blocks: "reading a frame in blocks of rows (positions of the query by query_positions, what needs the whole query frame in prepare)",
    sharpness: "given XMem's shrinkage and selection",
    gradients: "in training",
    settings: "built again from its settings",
    networks: "put into a network",
}


def _same(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)
