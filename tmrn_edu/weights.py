"""Weight files: safetensors with all that is needed to rebuild the network, and the networks shipped in the package.

A file's metadata says which network, which preset and which reader with which settings; loading never unpickles anything.
Beside every shipped `weights/NAME.safetensors` lies `weights/NAME.json`: command, seed, minutes, scores, licence.
"""

import difflib
import json
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from tmrn_edu.data.files import atomic_path
from tmrn_edu.errors import InputError, some
from tmrn_edu.memory import similarity
from tmrn_edu.memory.readers import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import GSFM, STCN, STM, XMem

NETWORKS = {
    ("STM", "full"): STM, ("STM", "tiny"): STM.tiny,
    ("STCN", "full"): STCN, ("STCN", "tiny"): STCN.tiny, ("STCN", "mobile"): STCN.mobile,
    ("XMem", "full"): XMem, ("XMem", "tiny"): XMem.tiny,
    ("GSFM", "full"): GSFM,
}  # fmt: skip
DEFAULT_NETWORK = "tmrn-stcn-tracking-mobile"  # of the shipped ones, what real video is segmented with
READERS = {reader.__name__: reader for reader in (SpaceTimeReader, TrajectoryReader)}


@dataclass(frozen=True)
class NetworkInfo:
    """One shipped network, as `list_networks` and `tmrn-edu networks` show it."""

    name: str
    baseline: str  # STCN, tiny ...
    reader: str  # in words
    parameters: int
    origin: str  # what it was trained on, by which command
    licence: str
    scores: dict  # as recorded when it was trained


def describe(network: nn.Module, about: dict | None = None) -> dict[str, str]:
    """The metadata of a weight file: which network, preset and reader, with which settings.

    Raises InputError for a reader without `settings()`, the arguments that build it again, as plain data. Source: ours.
    """
    reader = type(network.reader).__name__
    if not callable(getattr(network.reader, "settings", None)):
        raise InputError(
            f"{reader} has no settings(), expected one that returns its arguments as plain data: weight files keep them"
        )
    return {
        "format": "tmrn_edu",
        "network": json.dumps([type(network).__name__, network.preset, network.settings()]),
        "reader": json.dumps([reader, network.reader.settings()]),
        "about": json.dumps(about or {}),
    }


def export(
    network: nn.Module, path: str | os.PathLike, about: dict | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Writes a network's weights with what is needed to rebuild it; `about`: anything else worth keeping, as plain data.

    `dtype`: what floating-point numbers are rounded to in the file, float16 for half its size (numbers below 3e-8 become 0); `load` gives float32
    in any case. The file
    appears whole or not at all. Raises InputError for weights that the type cannot hold, and for a type of whole numbers. Source: ours.
    """
    if not dtype.is_floating_point:
        raise InputError(f"dtype is {dtype}, expected a floating-point type such as torch.float16")
    metadata = describe(network, about)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    state = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    lost = [name for name, tensor in state.items() if not tensor.isfinite().all()]
    if lost:
        raise InputError(f"{', '.join(some(lost))}: numbers that are not finite as {dtype}, expected finite ones")
    with atomic_path(path) as temporary:
        save_file(state, temporary, metadata)
        temporary.chmod(0o644)  # safetensors writes for the owner alone


def load(name: str | os.PathLike, reader: nn.Module | None = None) -> nn.Module:
    """A network by the name of a shipped one (`list_networks`) or from a file that `export` wrote; in eval mode, on the CPU.

    `reader`: put in place of the file's. One of the file's own kind gets the file's weights (that is how a reader of yours, which this library
    cannot build, is loaded); one of another kind keeps its own, such as `TrajectoryReader.warm(...)` in a trained baseline. Raises InputError
    for an unknown name (naming those there are), a missing, truncated or foreign file, and weights that do not fit, listing them.
    Source: ours.
    """
    path, names = Path(name), [info.name for info in list_networks()]
    if str(name) in names:  # also when a run's folder of that name lies here
        path = _folder() / f"{name}.safetensors"
    elif path.suffix != ".safetensors" and not path.is_file():
        near = difflib.get_close_matches(str(name), names, n=2, cutoff=0.5)
        meant = f", did you mean {' or '.join(near)}?" if near else ";"
        raise InputError(
            f"no network is called {str(name)!r}{meant} there are {', '.join(names)}, or give a .safetensors file"
        )
    state, metadata = _read(path)
    kind, preset, *rest = json.loads(metadata["network"])  # files of version 0.1 have no settings
    network_settings = rest[0] if rest else {}
    kind_of_reader, settings = json.loads(metadata["reader"])
    if (kind, preset) not in NETWORKS or (reader is None and kind_of_reader not in READERS):
        raise InputError(
            f"{path} holds {kind} {preset} with {kind_of_reader}; this version knows {sorted(NETWORKS)} and {sorted(READERS)}; "
            "give a reader of your own as load(file, reader=...)"
        )
    if reader is None and not hasattr(similarity, settings["similarity"]):
        raise InputError(
            f"{path} reads by similarity {settings['similarity']!r}, which memory.similarity does not have"
        )
    with torch.random.fork_rng(
        devices=[]
    ):  # building draws initial weights; the caller's random numbers stay as they are
        if reader is None:
            reader = READERS[kind_of_reader](**settings | {"similarity": getattr(similarity, settings["similarity"])})
        network = NETWORKS[kind, preset](reader, **network_settings)
    if type(network.reader).__name__ != kind_of_reader:  # the file's reader is left out
        state = {name: tensor for name, tensor in state.items() if not name.startswith("reader.")}
        state |= {f"reader.{name}": tensor for name, tensor in network.reader.state_dict().items()}
    fit(network, state, path)
    return network.eval()


def fit(network: nn.Module, state: dict[str, torch.Tensor], origin: object) -> None:
    """Loads a state dict of exactly this network's names and shapes. Raises InputError listing all that is missing, left over or misshapen."""
    own = network.state_dict()
    missing = [f"missing {name}" for name in own if name not in state]
    extra = [f"unexpected {name}" for name in state if name not in own]
    shapes = [
        f"{name} is {tuple(state[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if wrong := some(missing) + some(extra) + some(shapes):
        raise InputError(f"{origin} does not fit {type(network).__name__} ({network.preset}): {'; '.join(wrong)}")
    network.load_state_dict(state)


def is_export(path: str | os.PathLike) -> bool:
    """Whether a file is one that `export` wrote. Source: ours."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == "tmrn_edu"
    except (SafetensorError, OSError, ValueError):
        return False


def list_networks() -> list[NetworkInfo]:
    """The networks shipped in the package. Source: their records in `tmrn_edu/weights/`."""
    return [
        NetworkInfo(**{k: json.loads(file.read_text())[k] for k in NetworkInfo.__dataclass_fields__})
        for file in sorted(_folder().glob("*.json"))
    ]


def _folder() -> Path:
    return Path(str(resources.files("tmrn_edu") / "weights"))


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    if not path.is_file():
        raise InputError(f"no weight file at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name).float() for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is no whole safetensors file ({error})") from None
    if metadata.get("format") != "tmrn_edu":
        raise InputError(
            f"{path} was not written by tmrn_edu (metadata: {sorted(metadata) or 'none'}), expected a file of export"
        )
    return state, metadata
