"""What a training run would cost: arithmetic and memory of one step, counted without doing it, and hours on a GPU, which are an estimate.

    cost = measure(find_recipe("stcn_video"))              # counted: nothing is computed, no memory is taken
    print(estimate(cost, "RTX 3090", count=2).text())      # assumed: `UTILISATION` of what the maker says the GPU can do

The step is the one that training takes, `objective.clip_objective` and its backward pass at the recipe's size. Its tensors are fake: PyTorch works
out their shapes and types and holds no numbers. So the counts are exact; hours and gigabytes are not, and say so.
"""

from dataclasses import dataclass
from itertools import count as count_from

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from tmrn_edu.data.clips import Batch
from tmrn_edu.errors import InputError
from tmrn_edu.training.objective import clip_objective
from tmrn_edu.training.schedule import curriculum
from tmrn_edu.training.settings import Recipe, TrainSettings

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU. `teraflops`: peak of its tensor cores as its maker states it, for 16-bit numbers added up in 32 bits, dense."""

    name: str
    gibibytes: int
    teraflops: float
    source: str


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("RTX 2080 Ti", 11, 53.8, "Turing architecture whitepaper, reference card"),
        Gpu("RTX 3090", 24, 71.0, "GA102 architecture whitepaper"),
        Gpu("RTX 4090", 24, 165.2, "Ada architecture whitepaper"),
        Gpu("V100 16 GB", 16, 125.0, "V100 data sheet, SXM2"),
        Gpu("V100 32 GB", 32, 125.0, "V100 data sheet, SXM2"),
        Gpu("A100 40 GB", 40, 312.0, "A100 data sheet"),
        Gpu("A100 80 GB", 80, 312.0, "A100 data sheet"),
        Gpu("H100", 80, 989.4, "H100 whitepaper, SXM5"),
    )
}

# The share of its peak that a GPU makes use of in training: assumed, one number for all. Set so that both stages of STCN take the time that its
# authors give for two RTX 2080 Ti, 36 + 16 hours (their paper, section 5, quoted in hkchengrex/STCN issue 160): 0.284 in stage one, 0.233 in stage
# two, 0.268 in both. A check that was not used: a step of stage two, 4 clips, took about 0.11 s on an RTX 4090 (issue 149 there), by this number
# 0.108 s. No time was found for XMem. A100 and H100, whose arithmetic has grown faster than their memory, may well reach less.
UTILISATION = 0.27

# Seconds that PyTorch takes to launch one operation, for which a faster GPU must wait. Assumed: what is usual without compilation.
LAUNCH = 10e-6

# What is in a GPU's memory beside the counted tensors: CUDA itself, work space of convolutions, gaps between tensors. Assumed.
RESERVE = 1.5 * GIB


@dataclass(frozen=True)
class StepCost:
    """What one training step of a recipe takes. Counted, not assumed; bytes are as mixed precision has them, if the recipe asks for it."""

    recipe: str
    settings: TrainSettings
    clip_flops: int  # of one clip, forward and backward; two per multiplication and addition, of convolutions and matrix products
    clip_activations: int  # bytes of one clip that the forward pass keeps for the backward pass, shared ones once
    launches: int  # operations that a GPU is given for one clip, one after the other; hardly more for a batch
    parameters: int
    weights: int  # bytes
    weight_copies: int  # bytes kept that are made of weights alone, above all their 16-bit copies

    @property
    def step_flops(self) -> int:
        """Of a step: all its clips, on all GPUs."""
        return self.clip_flops * self.settings.batch

    @property
    def run_flops(self) -> int:
        """Of all steps."""
        return self.step_flops * self.settings.steps

    @property
    def gradients(self) -> int:
        """Bytes: as many as the weights."""
        return self.weights

    @property
    def optimiser(self) -> int:
        """Bytes: Adam's two means of every weight."""
        return 2 * self.weights

    def gpu_bytes(self, clips: int, shared: bool = False) -> int:
        """Bytes that a GPU holds after the forward pass of so many clips; among several (`shared`) it has gradients twice (DDP's buckets)."""
        fixed = self.weights + self.weight_copies + self.gradients * (2 if shared else 1) + self.optimiser
        return fixed + clips * self.clip_activations


@dataclass(frozen=True)
class Estimate:
    """Hours and memory of a whole run on some GPUs. An estimate: `UTILISATION`, `LAUNCH` and `RESERVE` are assumptions."""

    recipe: str
    gpu: Gpu
    count: int  # of GPUs
    hours: float
    waits: bool  # whether the GPUs wait for operations to be launched; then more of them, or faster ones, are of no use
    gibibytes: float  # of each GPU, with `accumulate`
    accumulate: int  # least number of parts a GPU must take its clips in (`--accumulate`)
    fits: bool  # False: not even one clip at a time does

    def text(self) -> str:
        """One line to print."""
        hours = f"{self.hours:.0f}" if self.hours >= 10 else f"{self.hours:.1f}"
        run = f"estimate: {self.recipe} takes about {hours} h on {self.count} x {self.gpu.name}"
        if not self.fits:
            return f"{run}, but a clip needs {self.gibibytes:.0f} GiB and it has {self.gpu.gibibytes}"
        parts = f", with --accumulate {self.accumulate}" if self.accumulate > 1 else ""
        return f"{run}, {self.gibibytes:.0f} of {self.gpu.gibibytes} GiB each{parts}"


def measure(recipe: Recipe) -> StepCost:
    """Counts a training step of a recipe, as at the end of its curriculum; seconds, and next to no memory, whatever its size.

    One clip with all object slots filled, times the clips of a batch. Activations: every storage that autograd saves, once, except weights and the
    batch. Mixed precision: types are those of PyTorch's autocast on a CPU with bfloat16, so what convolutions keep has two bytes, keys and
    affinities four; on a GPU a few small operations more (softmax, sums) keep four. XMem's deep updates come as often as their probability says.
    Source: ours.
    """
    settings = recipe.settings
    with FakeTensorMode(), Answers():
        network = recipe.build(settings.seed).train()
        batch = _batch(settings)
        kept = _Kept([*network.parameters(), *network.buffers(), batch.frames, batch.object_masks])
        mixed = torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings.precision != "32")
        with FlopCounterMode(display=False) as counter, _Launches() as launches:
            with torch.autograd.graph.saved_tensors_hooks(kept.note, lambda tensor: tensor), mixed:
                loss, _ = clip_objective(network, batch, settings, curriculum(settings, settings.steps - 1))
            loss.total.backward()
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    return StepCost(
        recipe=recipe.name,
        settings=settings,
        clip_flops=counter.get_total_flops(),
        clip_activations=kept.activations,
        launches=launches.count,
        parameters=sum(weight.numel() for weight in weights),
        weights=sum(weight.nbytes for weight in weights),
        weight_copies=kept.weight_copies,
    )


def estimate(cost: StepCost, gpu: str | Gpu, count: int = 1) -> Estimate:
    """Hours and memory of a whole run on `count` GPUs of a kind.

        seconds = steps x max(batch x clip_flops / (count x peak x UTILISATION), parts x launches x LAUNCH)
        memory  = weights, gradients, optimiser + activations of the clips taken at a time + RESERVE

    A GPU takes its share of the clips in as few `parts` as its memory allows. Loading is left out: the processes that make clips must keep up.
    Raises InputError for a GPU that is not in `GPUS`, for a batch that `count` GPUs cannot share, and for a recipe without mixed precision: the
    peaks are of 16-bit numbers. Source: ours.
    """
    if isinstance(gpu, str) and gpu not in GPUS:
        raise InputError(f"GPU is {gpu!r}, known are {', '.join(GPUS)}")
    gpu, settings = GPUS[gpu] if isinstance(gpu, str) else gpu, cost.settings
    if settings.precision == "32":
        raise InputError(f"{cost.recipe} has precision 32, expected 16 or bf16: the GPUs' peaks are of 16-bit numbers")
    if count < 1 or settings.batch % count:
        raise InputError(f"{count} GPUs for a batch of {settings.batch} clips, expected a number that divides it")
    share = settings.batch // count
    for parts in (parts for parts in range(1, share + 1) if share % parts == 0):
        needed = cost.gpu_bytes(share // parts, shared=count > 1) + RESERVE
        if needed <= gpu.gibibytes * GIB:
            break
    computing = cost.step_flops / (count * gpu.teraflops * 1e12 * UTILISATION)
    launching = parts * cost.launches * LAUNCH
    return Estimate(
        recipe=cost.recipe,
        gpu=gpu,
        count=count,
        hours=settings.steps * max(computing, launching) / 3600,
        waits=launching > computing,
        gibibytes=needed / GIB,
        accumulate=parts,
        fits=needed <= gpu.gibibytes * GIB,
    )


class Answers(TorchFunctionMode):
    """Answers where a step wants a number out of a fake tensor, which has none: numbers on which the cost does not depend.

    References and times of memory frames: 0, so every frame reads the first one, as often as it would read others. XMem's draws: .5, .7, .9, .1, .3
    and again, so one of five is below its probability of .2. Source: ours.
    """

    def __init__(self):
        super().__init__()
        self._draws = count_from()

    def __torch_function__(self, function, types, arguments=(), options=None):
        if function is Tensor.__float__ or (function is Tensor.item and not arguments[0].is_floating_point()):
            return 0.0 if function is Tensor.__float__ else 0
        if function is Tensor.item:
            return (5 + 2 * next(self._draws)) % 10 / 10
        return function(*arguments, **(options or {}))


def _batch(settings: TrainSettings) -> Batch:
    """One clip as a recipe has them, all slots filled."""
    frames, size, references = settings.frames, settings.size, settings.references
    few = not references or frames - 1 <= references  # as `VideoClips` has it: then every frame reads all before it
    return Batch(
        frames=torch.zeros(1, frames, 3, size, size),
        object_masks=torch.zeros(1, settings.objects, frames, size, size),
        indices=tuple(range(frames)),
        references=None if few else torch.zeros(1, frames, references, dtype=torch.int64),
    )


class _Launches(TorchDispatchMode):
    """Counts operations that compute or copy: all but views and questions about a tensor."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.count += function.namespace != "prim" and not function.is_view
        return function(*arguments, **(options or {}))


class _Kept:
    """What autograd keeps. Storages by their address, and a tensor of each, so that no address is used twice."""

    def __init__(self, there: list[Tensor]):
        self._there = {_address(tensor): tensor for tensor in there}
        self._activations: dict[int, Tensor] = {}
        self._copies: dict[int, Tensor] = {}

    def note(self, tensor: Tensor) -> Tensor:
        if _address(tensor) not in self._there:
            (self._copies if _is_weight_copy(tensor) else self._activations)[_address(tensor)] = tensor
        return tensor

    @property
    def activations(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._activations.values())

    @property
    def weight_copies(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for tensor in self._copies.values())


def _address(tensor):
    return tensor.untyped_storage()._cdata


def _is_weight_copy(tensor):
    """Whether it was made of a weight alone, cut or not, as autocast makes 16-bit copies: then it is no larger with more clips."""
    made_by = tensor.grad_fn
    while made_by is not None and len(made_by.next_functions) == 1:
        made_by = made_by.next_functions[0][0]
    return isinstance(getattr(made_by, "variable", None), nn.Parameter)
