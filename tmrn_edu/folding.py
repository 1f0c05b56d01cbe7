"""A network made ready for inference: batch normalisation folded away, convolutions in the layout that is fastest, precision chosen.

What is trained and saved is never touched: `inference_copy` returns a copy. All of it ours; that folding is exact is school algebra.
"""

import contextlib
import copy

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

PRECISIONS = ("fp32", "bf16")
# Parts that stay in float32: what makes keys, and the reader. A softmax over thousands of distances needs the digits.
PRECISE = ("key_projection", "shrinkage_projection", "selection_projection", "query_key", "memory_key", "reader")


def inference_copy(network: nn.Module, precision: str = "fp32") -> nn.Module:
    """The network as it should be run; the network itself if there is nothing to change, as in float32 for the tiny ones.

    Batch normalisation is folded into the convolution before it (`fold`) and weights are laid out channels last, [out, h, w, in], which
    convolutions pass on to their results and which is the fastest layout on CPUs (docs/speed.md). With "bf16" weights are also rounded to
    bfloat16, once, but for those of `PRECISE`; such a copy must run under `reduced_precision`. Nothing is written to the network given, neither
    weights nor its mode. Raises ValueError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}, expected one of {PRECISIONS}")
    has_norms = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    if precision == "fp32" and not has_norms:
        return network
    ready = channels_last(fold_all(copy.deepcopy(network)))
    return ready if precision == "fp32" else round_weights(ready)


def fold_all(network: nn.Module) -> nn.Module:
    """Folds every batch normalisation that directly follows a convolution of the same module, in place."""
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for (_, conv), (name, norm) in zip(children, children[1:], strict=False):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                fold(conv, norm)
                setattr(parent, name, nn.Identity())
    return network


@torch.no_grad()
def fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Writes a batch normalisation, with the statistics it has stored, into the convolution before it.

    norm(conv(x)) = gain * (W x + b - mean) / std + shift = (gain / std) W x + (gain / std) (b - mean) + shift
    """
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = 0.0 if conv.bias is None else conv.bias
    conv.bias = nn.Parameter(scale * (bias - norm.running_mean) + norm.bias)
    conv.weight.mul_(rearrange(scale, "c -> c 1 1 1"))


def channels_last(network: nn.Module) -> nn.Module:
    """Lays out weights as [out, h, w, in], in place, but for 1x1 convolutions, which so take the layout of what they are given."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.to(memory_format=torch.channels_last)
    return network


def round_weights(network: nn.Module) -> nn.Module:
    """Rounds the weights of convolutions and linear layers to bfloat16, in place, but for the parts named in `PRECISE`.

    Autocast would round them again at every call.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and name.split(".")[0] not in PRECISE:
            module.to(torch.bfloat16)
    return network


def reduced_precision(tensor: Float[Tensor, "..."], precision: str):
    """A context in which convolutions run in bfloat16, if asked for; keys and affinities keep float32 (`networks.base.full_precision`)."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(tensor.device.type, torch.bfloat16)
