"""Whether a memory reader is one that the library can use: `te.check.reader(MyReader)`, for any reader that you write, in lesson 10 or out of it."""

import json
from collections.abc import Callable, Mapping

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor, nn

from tmrn_edu.check.trial import TOLERANCE
from tmrn_edu.memory import Query, similarity
from tmrn_edu.networks import STCN, STM, XMem
from tmrn_edu.segmenter import segment

TINY = (32, 64)  # key and value channels of the small networks
ADVICE = "Large frames are read in blocks of rows (use query_positions), and clips of a batch have frame numbers of their own (use per_clip)"


def reader(make: Callable[[], nn.Module], key_channels: int = TINY[0], value_channels: int = TINY[1]) -> bool:
    """Whether `make()` gives a memory reader that networks, training, weight files and pictures can use; prints one line.

    Tried on random memories: the readout's shape; insides whose weights sum to one and whose weighted sum is the readout; memory frames in any
    order; a batch, in blocks of rows, whose clips have frame numbers of their own, against its clips one by one; a gradient for every weight;
    `settings()` that build it again; and, where the channels are those of the small networks, a short clip with two objects in STCN, STM and
    XMem. `make`: a class, or a function without arguments; readers whose draws differ from call to call are none. Source: ours.
    """
    trouble = trouble_of(make, key_channels, value_channels)
    networks = " in STCN, STM and XMem" if (key_channels, value_channels) == TINY else ""
    praise = f"it reads{networks}, trains, and can be built again from its settings"
    print(f"not yet: {trouble}" if trouble else f"passed: {praise}")
    return trouble is None


def trouble_of(make: Callable[[], nn.Module], key_channels: int = TINY[0], value_channels: int = TINY[1]) -> str | None:
    """What `reader` finds wrong first, in a sentence; None where nothing is."""
    for test, doing in _TESTS.items():
        try:
            with torch.random.fork_rng(devices=[]):  # the writer's own random numbers stay as they are
                torch.manual_seed(0)
                found = test(make, key_channels, value_channels)
        except NotImplementedError:
            return "the function is still empty"
        except Exception as error:  # whatever the reader's code runs into is for its writer to see
            found = f"{doing} it raises {type(error).__name__}: {_first_line(error)}"
        if found:
            return found + (f". {ADVICE}" if test is _batch else "")
    return None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")


class _Memory:
    """A random memory of `t` frames and a query; all sizes differ."""

    def __init__(self, ck: int, cv: int, b: int = 2, o: int = 3, t: int = 4, h: int = 5, w: int = 6):
        generator = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=generator)
        self.keys, self.values, self.query_key = draw(b, t, ck, h, w), draw(b, o, t, cv, h, w), draw(b, ck, h, w)
        self.numbers, self.now = [0, 2, 3, 7][:t], 9

    def read(
        self, one: nn.Module, order=None, insides: bool = False, clip: int | None = None, shift: Tensor | None = None
    ):
        """Reads it; `clip`: of one clip alone; `shift`: of every clip, a factor of its frame numbers."""
        some = slice(None) if clip is None else slice(clip, clip + 1)
        number = lambda n: n if shift is None else n * shift if clip is None else int(n * shift[clip])
        frames = [
            one.store(self.keys[some, i], self.values[some, :, i], number(n), exact=i == 0) for i, n in enumerate(self.numbers)
        ]  # fmt: skip
        frames = frames if order is None else [frames[i] for i in order]
        return one(frames, Query(self.query_key[some], number(self.now)), insides)


def _shape(make, ck, cv) -> str | None:
    memory = _Memory(ck, cv)
    value = memory.read(make().eval()).value
    expected = (2, 3, cv, 5, 6)
    if value.shape != expected:
        return f"the readout has the shape {tuple(value.shape)}, expected b o cv h w = {expected}"
    return None if value.isfinite().all() else "the readout holds NaN or infinite values"


@torch.no_grad()
def _insides(make, ck, cv) -> str | None:
    memory = _Memory(ck, cv)
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
def _order(make, ck, cv) -> str | None:
    memory, one = _Memory(ck, cv), make().eval()
    if not _same(memory.read(one).value, memory.read(one, order=(2, 0, 3, 1)).value):
        return "it reads something else when memory frames are given in another order; their numbers say when they were"
    return None


@torch.no_grad()
def _batch(make, ck, cv) -> str | None:
    memory, one, steps = _Memory(ck, cv, o=1, t=2, h=24, w=25), make().eval(), torch.tensor([1, 3])
    whole = memory.read(one, shift=steps).value
    for clip in range(2):
        if not _same(whole[clip], memory.read(one, clip=clip, shift=steps).value[0], 1e-3):
            return "a batch of large frames is read otherwise than its clips one by one"
    return None


def _gradients(make, ck, cv) -> str | None:
    memory, one = _Memory(ck, cv), make().train()
    value = memory.read(one).value
    weights = dict(one.named_parameters())
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
def _settings(make, ck, cv) -> str | None:
    one = make().eval()
    if not callable(getattr(one, "settings", None)):
        return "it has no settings(), the arguments that build it again, which weight files keep"
    try:
        settings: Mapping = json.loads(json.dumps(one.settings()))
    except TypeError as error:
        return f"settings() gives what JSON cannot hold ({error}); expected numbers, words, lists"
    if isinstance(settings.get("similarity"), str):
        settings["similarity"] = getattr(similarity, settings["similarity"])
    try:
        again = type(one)(**settings).eval()
    except TypeError as error:
        return f"settings() gives {sorted(settings)}, and {type(one).__name__}(...) does not take them: {error}"
    again.load_state_dict(one.state_dict())
    memory = _Memory(ck, cv)
    return (
        None
        if _same(memory.read(one).value, memory.read(again).value)
        else "built again from settings() and weights, it reads something else"
    )


def _networks(make, ck, cv) -> str | None:
    if (ck, cv) != TINY:
        return None
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(256, (4, 32, 40, 3), generator=generator, dtype=torch.uint8)
    mask = torch.zeros(32, 40, dtype=torch.uint8)
    mask[4:16, 4:16], mask[16:28, 20:36] = 1, 2
    for kind in (STCN, STM, XMem):
        try:
            segment(kind.tiny(make()).eval(), frames, {0: mask}, memory_every=1)
        except Exception as error:
            return f"in {kind.__name__} it raises {type(error).__name__}: {_first_line(error)}"
    return None


_TESTS = {  # each with what is being done, for the message where it cannot be done
    _shape: "made and asked to read",
    _insides: "asked for its insides",
    _order: "given memory frames in another order",
    _batch: "reading a batch of large frames",
    _gradients: "in training",
    _settings: "built again from its settings",
    _networks: "put into a network",
}


def _same(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=tolerance, atol=tolerance)
