"""ImageNet weights for the trunks, in torchvision's naming: where the authors begin their training.

Building a network never downloads anything. `load_imagenet` is called on purpose, with a local file or, without one, with a download whose checksum
is compared.
"""

import os
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from tmrn_edu.blocks import Bottleneck
from tmrn_edu.encoders import ResNet
from tmrn_edu.errors import InputError, some
from tmrn_edu.mobile import MobileNetV2
from tmrn_edu.official import read_state_dict

# torchvision's IMAGENET1K_V1 files; the first eight digits of the checksum are in their names.
DOWNLOADS = {
    "resnet50": (
        "https://download.pytorch.org/models/resnet50-0676ba61.pth",
        "sha256:0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
    ),
    "resnet18": (
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "sha256:f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    "mobilenet_v2": (
        "https://download.pytorch.org/models/mobilenet_v2-b0353104.pth",
        "sha256:b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
    ),
}
TRUNKS = (ResNet, MobileNetV2)

WeightFile = str | os.PathLike | Mapping[str, Tensor]


def find_trunks(network: nn.Module) -> dict[str, nn.Module]:
    """The parts of a network that can begin with ImageNet weights, by name. Source: ours."""
    return {name: module for name, module in network.named_modules() if isinstance(module, TRUNKS)}


def load_imagenet(
    network: nn.Module,
    resnet50: WeightFile | None = None,
    resnet18: WeightFile | None = None,
    mobilenet_v2: WeightFile | None = None,
    download: bool = False,
) -> list[str]:
    """Puts ImageNet weights into every trunk of a network, in place; returns the names of the trunks that got some.

    `resnet50`, `resnet18`, `mobilenet_v2`: a file of torchvision's, or its state dict. With `download=True` what is not given is fetched once
    and kept in the user's cache folder. Channels that see masks, which ImageNet knows nothing of, become orthogonal; biases that torchvision's
    convolutions do not have become zero, so that the trunk computes what it did. Stages at stride 32 and the classifier of a file are left out.
    Raises InputError, before anything is changed, for a network without such trunks, for a trunk without weights, and for weights that do not fit.
    Source: STM, STCN and XMem begin so; orthogonal channels: STCN:model/mod_resnet.py.
    """
    trunks = find_trunks(network)
    if not trunks:
        raise InputError(
            f"{type(network).__name__} has 0 ResNet or MobileNetV2 trunks, expected at least 1: tiny networks have none"
        )
    files, states = {"resnet50": resnet50, "resnet18": resnet18, "mobilenet_v2": mobilenet_v2}, {}
    for name, trunk in trunks.items():
        kind = kind_of(trunk)
        if files[kind] is None and not download:
            raise InputError(f"{name} is a {kind}, for which no file was given; give {kind}=FILE, or download=True")
        if kind not in states:
            given = fetch(kind) if files[kind] is None else files[kind]
            states[kind] = given if isinstance(given, Mapping) else read_state_dict(given)
    fitted = {name: fit_trunk(name, trunk, states[kind_of(trunk)]) for name, trunk in trunks.items()}
    for name, trunk in trunks.items():
        trunk.load_state_dict(fitted[name])
    return list(trunks)


def kind_of(trunk: nn.Module) -> str:
    """ "resnet50", "resnet18" or "mobilenet_v2"."""
    if isinstance(trunk, MobileNetV2):
        return "mobilenet_v2"
    return "resnet50" if isinstance(trunk.layer1[0], Bottleneck) else "resnet18"


def fit_trunk(name: str, trunk: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The trunk's state dict with a file's weights in it; raises InputError listing what does not fit."""
    biases = {f"{layer}.bias" for layer, module in trunk.named_modules() if isinstance(module, nn.Conv2d)}
    fitted, wrong = {}, []
    for entry, own in trunk.state_dict().items():
        theirs = state.get(entry)
        if theirs is None and entry.endswith("num_batches_tracked"):
            fitted[entry] = own
        elif theirs is None and entry in biases:
            fitted[entry] = torch.zeros_like(own)
        elif theirs is None:
            wrong.append(f"missing {entry}")
        elif theirs.shape == own.shape:
            fitted[entry] = theirs
        elif entry == "conv1.weight" and theirs.shape[0] == own.shape[0] and theirs.shape[1] < own.shape[1]:
            fitted[entry] = own.clone()
            fitted[entry][:, : theirs.shape[1]] = theirs
            nn.init.orthogonal_(fitted[entry][:, theirs.shape[1] :])
        else:
            wrong.append(f"{entry} is {tuple(theirs.shape)}, expected {tuple(own.shape)}")
    if wrong:
        raise InputError(f"the file for {name} is no {kind_of(trunk)} of torchvision: {'; '.join(some(wrong))}")
    return fitted


def fetch(kind: str) -> str:
    """Downloads torchvision's file into the user's cache folder, once, and compares its checksum; returns its path.

    Raises InputError where pooch is not installed or the file cannot be had.
    """
    url, checksum = DOWNLOADS[kind]
    try:
        import pooch  # only those who download need it
    except ImportError:
        raise InputError(
            f"downloading needs pooch (pip install pooch); or fetch {url} yourself and give {kind}=FILE"
        ) from None
    try:
        return pooch.retrieve(url, known_hash=checksum, path=pooch.os_cache("tmrn_edu"), progressbar=False)
    except (OSError, ValueError) as error:  # no network, or a file that is not the one expected
        raise InputError(f"{url} could not be fetched ({error}); fetch it yourself and give {kind}=FILE") from None
