"""Where a run's weights begin: drawn, from ImageNet, from the stage before, or from trained weights into which a new reader is put."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tmrn_edu.errors import InputError
from tmrn_edu.imagenet import load_imagenet
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.official import OFFICIAL_NETWORKS, load_official, read_state_dict
from tmrn_edu.weights import fit, is_export, load

READERS = ("space-time", "paper", "warm", "chained")
# "trajectory" is the TMRN reader that changes nothing at first: what one wants in trained weights.
ALIASES = {"trajectory": "warm"}
STEM = "value_encoder.conv1.weight"  # in files of the authors of STCN and XMem: 4 channels after a stage of single objects, else 5


def put_reader(network: nn.Module, name: str) -> None:
    """Gives a network another reader, made for its channels: the space-time read, or TMRN's in a preset ("trajectory": warm).

    Raises InputError for an unknown name.
    """
    kind = ALIASES.get(name, name)
    if kind not in READERS:
        raise InputError(f"reader is {name!r}, expected one of {', '.join((*READERS, *ALIASES))}")
    if kind == "space-time":
        network.reader = SpaceTimeReader()
    else:
        network.reader = TrajectoryReader.preset(kind, network.key_channels, network.value_channels)


def start_from(network: nn.Module, init: str | os.PathLike, grows: bool = False) -> str:
    """Puts first weights into a network, in place; returns where they are from, in words.

    `init`: "none" keeps what was drawn; "imagenet" fetches the trunks' weights (or `imagenet:FOLDER`, which holds torchvision's files); else
    a file: of a run (.safetensors), or released by the authors of this kind of network (.pth). A reader of another kind than the file's keeps
    its own weights. `grows`: the value encoder's channel for the masks of other objects, which a stage of single objects never used, is drawn
    anew, orthogonal (STCN:model/model.py); a file of STCN's first stage, which lacks it, is grown in any case.
    Raises InputError for a file that is missing, or of another network, listing what does not fit.
    """
    name = str(init)
    if name == "none":
        return "drawn weights"
    if name == "imagenet" or name.startswith("imagenet:"):
        return _start_from_imagenet(network, name.partition(":")[2])
    path = Path(init)
    if not path.is_file():
        raise InputError(f"no weights at {path} to start from; expected a file, 'imagenet' or 'none'")
    state, lacks_others = _state_of(network, path)
    own = network.state_dict()
    if any(key not in own for key in state if key.startswith("reader.")) or any(
        key not in state for key in own if key.startswith("reader.")
    ):  # another reader: it keeps its own weights
        state = {key: value for key, value in state.items() if not key.startswith("reader.")}
        state |= {key: value for key, value in own.items() if key.startswith("reader.")}
    fit(network, state, path)
    if grows or lacks_others:
        grow_stem(network)
        return f"weights of {path.name}, the stem's channel for other objects drawn anew"
    return f"weights of {path.name}"


def _start_from_imagenet(network: nn.Module, folder: str) -> str:
    if not folder:
        load_imagenet(network, download=True)
    else:
        files = {}
        for kind in ("resnet50", "resnet18"):
            found = sorted(Path(folder).glob(f"{kind}*.pth"))
            files[kind] = found[0] if found else None
        load_imagenet(network, **files)
    return "ImageNet weights in the trunks"


def _state_of(network: nn.Module, path: Path) -> tuple[Mapping[str, Tensor], bool]:
    """A file's weights under this library's names, and whether its stem lacks the channel for other objects."""
    if is_export(path):
        return load(path).state_dict(), False
    names = [name for name, kind in OFFICIAL_NETWORKS.items() if type(network) is kind]
    if not names or path.suffix not in (".pth", ".pt"):
        raise InputError(f"{path} is no file of tmrn-edu train (.safetensors), nor one released by authors (.pth)")
    state = read_state_dict(path)
    lacks = any(name.removeprefix("module.") == STEM and stem.shape[1] == 4 for name, stem in state.items())
    return load_official(names[0], path).state_dict(), lacks


@torch.no_grad()
def grow_stem(network: nn.Module) -> None:
    """Draws the weights of the value encoder's fifth input channel, the masks of the other objects, orthogonal. Source: STCN:model/model.py."""
    stem = next(module for module in network.value_encoder.modules() if isinstance(module, nn.Conv2d))
    if stem.in_channels != 5:
        raise InputError(f"the value encoder's first convolution has {stem.in_channels} input channels, expected 5")
    others = torch.empty_like(stem.weight[:, 4:])
    stem.weight[:, 4:] = nn.init.orthogonal_(others)
