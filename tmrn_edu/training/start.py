"""Where a run's weights begin: drawn, from ImageNet, from the stage before, or from trained weights into which a new reader is put."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from tmrn_edu.errors import InputError
from tmrn_edu.imagenet import DOWNLOADS, load_imagenet
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.official import OFFICIAL_NETWORKS, load_official, read_state_dict
from tmrn_edu.training.own_reader import is_own, make_own, own_class
from tmrn_edu.training.run_folder import CHECKPOINT, NETWORK
from tmrn_edu.weights import fit, is_export, list_networks, read

READERS = ("space-time", "paper", "warm", "chained", "tracking")
# "trajectory" is the TMRN reader that changes nothing at first: what one wants in trained weights.
ALIASES = {"trajectory": "warm"}
STEM = "value_encoder.conv1.weight"  # in files of the authors of STCN and XMem: 4 channels after a stage of single objects, else 5


def find_reader(name: str) -> Callable[[nn.Module], nn.Module]:
    """What makes a reader for a network: the space-time read, TMRN's in a preset ("trajectory": warm), or one of your own, FILE.py:CLASS.

    Raises InputError for an unknown name, and for a file or class that is not there.
    """
    if is_own(name):
        own = own_class(name)
        return lambda network: make_own(own, network)
    kind = ALIASES.get(name, name)
    if kind not in READERS:
        raise InputError(
            f"reader is {name!r}, expected one of {', '.join((*READERS, *ALIASES))}, or FILE.py:CLASS for one of your own"
        )
    if kind == "space-time":
        return lambda network: SpaceTimeReader()
    return lambda network: TrajectoryReader.preset(kind, network.key_channels, network.value_channels)


def put_reader(network: nn.Module, name: str) -> None:
    """Gives a network another reader, see `find_reader`."""
    network.reader = find_reader(name)(network)


def start_from(network: nn.Module, init: str | os.PathLike, grows: bool = False) -> str:
    """Puts first weights into a network, in place; returns where they are from, in words.

    `init`: "none" keeps what was drawn; "imagenet" fetches the trunks' weights (or `imagenet:FOLDER`, which holds torchvision's files); else the
    name of a shipped network, or a file: of a run (.safetensors), or released by the authors of this kind of network (.pth). A reader of another
    kind than the file's keeps its own weights. `grows`: the value encoder's channel for the masks of other objects, which a stage of single objects
    never used, is drawn anew, orthogonal (STCN:model/model.py); a file of STCN's first stage, which lacks it, is grown in any case.
    Raises InputError for a file that is missing, or of another network, listing what does not fit.
    """
    name = str(init)
    if name == "none":
        return "drawn weights"
    if name == "imagenet" or name.startswith("imagenet:"):
        return _start_from_imagenet(network, name.partition(":")[2])
    state, reader, lacks_others = _state_of(network, init)
    words, own = f"weights of {Path(init).name}", network.state_dict()
    of_reader = {key for key in {*state, *own} if key.startswith("reader.")}
    if not all(key in state and key in own for key in of_reader):  # another reader
        state = {key: value for key, value in state.items() if key not in of_reader}
        state |= {key: value for key, value in own.items() if key in of_reader}
        words += f"; its {reader} is left out, this network's {type(network.reader).__name__} begins as it was drawn"
    fit(network, state, init)
    if grows or lacks_others:
        grow_stem(network)
        words += "; the stem's channel for other objects is drawn anew"
    return words


def _start_from_imagenet(network: nn.Module, folder: str) -> str:
    if not folder:
        load_imagenet(network, download=True)
    else:
        files = {}
        for kind in DOWNLOADS:
            found = sorted(Path(folder).glob(f"{kind}*.pth"))
            files[kind] = found[0] if found else None
        load_imagenet(network, **files)
    return "ImageNet weights in the trunks"


def _state_of(network: nn.Module, init: str | os.PathLike) -> tuple[Mapping[str, Tensor], str, bool]:
    """A file's weights under this library's names, the kind of its reader, and whether its stem lacks the channel for other objects."""
    path = Path(init)
    if str(init) in [info.name for info in list_networks()] or is_export(path):
        found = read(init)
        sides = [f"{found.kind} ({found.preset})", f"{type(network).__name__} ({network.preset})"]
        if sides[0] != sides[1]:
            raise InputError(f"{init} holds {sides[0]}, the network to be trained is {sides[1]}")
        return found.state, found.reader, False
    if not path.is_file():
        raise InputError(
            f"no weights at {path} to start from; expected a file, a shipped network's name, imagenet or none"
        )
    if path.name == CHECKPOINT:
        raise InputError(
            f"{path} is the checkpoint of a run; expected the {NETWORK} beside it, which a run writes at its end"
        )
    names = [name for name, kind in OFFICIAL_NETWORKS.items() if type(network) is kind]
    if not names or path.suffix not in (".pth", ".pt"):
        raise InputError(f"{path} is no file of tmrn-edu train (.safetensors), nor one released by authors (.pth)")
    state = read_state_dict(path)
    lacks = any(name.removeprefix("module.") == STEM and stem.shape[1] == 4 for name, stem in state.items())
    return load_official(names[0], path).state_dict(), SpaceTimeReader.__name__, lacks


@torch.no_grad()
def grow_stem(network: nn.Module) -> None:
    """Draws the weights of the value encoder's fifth input channel, the masks of the other objects, orthogonal. Source: STCN:model/model.py."""
    stem = next(module for module in network.value_encoder.modules() if isinstance(module, nn.Conv2d))
    if stem.in_channels != 5:
        raise InputError(f"the value encoder's first convolution has {stem.in_channels} input channels, expected 5")
    others = torch.empty_like(stem.weight[:, 4:])
    stem.weight[:, 4:] = nn.init.orthogonal_(others)
