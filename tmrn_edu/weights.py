"""Weight files: safetensors with all that is needed to rebuild the network, and the networks shipped in the package.

A file's metadata says which network, which preset and which reader with which settings; loading never unpickles anything.
Beside every shipped `weights/NAME.safetensors` lies `weights/NAME.json`: command, seed, minutes, scores, licence.
"""

import difflib
import json
import os
import warnings
from collections.abc import Sequence
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


@dataclass(frozen=True)
class WeightFile:
    """What a weight file holds, before anything is built from it."""

    path: Path
    kind: str  # class of its network
    preset: str
    settings: dict  # of the network
    reader: str  # class of its reader
    reader_settings: dict
    state: dict[str, torch.Tensor]  # float32


def describe(network: nn.Module, about: dict | None = None) -> dict[str, str]:
    """The metadata of a weight file: which network, preset and reader, with which settings.

    Raises InputError for a reader without `settings()`, the arguments that build it again, and for settings that are no plain data. Source: ours.
    """
    reader = type(network.reader).__name__
    if not callable(getattr(network.reader, "settings", None)):
        raise InputError(
            f"{reader} has no settings(), expected one that returns its arguments as plain data: weight files keep them"
        )
    try:
        described = json.dumps([reader, network.reader.settings()])
    except TypeError as error:
        raise InputError(
            f"settings() of {reader} holds what JSON cannot ({error}), expected numbers, words and lists"
        ) from None
    return {
        "format": "tmrn_edu",
        "network": json.dumps([type(network).__name__, network.preset, network.settings()]),
        "reader": described,
        "about": json.dumps(about or {}),
    }


def reader_of(network: nn.Module) -> tuple[str, dict]:
    """A network's reader as weight files name it: its class, and its settings. Source: ours."""
    kind, settings = json.loads(describe(network)["reader"])
    return kind, settings


def unlike(there: Sequence, here: Sequence) -> tuple[str, str] | None:
    """Two readers, each as the name of its class and its settings, in words that say how they differ; None where they do not.

    Settings that only `here` has count as alike: what is there may be of an earlier version. Source: ours.
    """
    if there[0] != here[0]:
        return there[0], here[0]
    names = [name for name, value in there[1].items() if here[1].get(name, "missing") != value]
    words = lambda settings: ", ".join(f"{name} {settings.get(name, 'missing')}" for name in names)
    return (f"{there[0]} with {words(there[1])}", f"{here[0]} with {words(here[1])}") if names else None


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


def read(name: str | os.PathLike) -> WeightFile:
    """What the file of a shipped network (`list_networks`), or one that `export` wrote, holds; nothing is built.

    Raises InputError for an unknown name (naming those there are), and for a missing, truncated or foreign file. Source: ours.
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
    return WeightFile(path, kind, preset, rest[0] if rest else {}, *json.loads(metadata["reader"]), state)


def load(name: str | os.PathLike, reader: nn.Module | type[nn.Module] | None = None) -> nn.Module:
    """A network by the name of a shipped one (`list_networks`) or from a file that `export` wrote; in eval mode, on the CPU.

    `reader`: a class of yours by the name of the file's, which is built from the file's settings; or a reader in place of the file's. One of the
    file's own kind gets the file's weights, and must have its settings; one of another kind keeps its own, such as `TrajectoryReader.warm(...)`
    in a trained baseline, with a warning where the file's reader has weights, which are left out. To read with other settings, change the reader
    of the network that was loaded. Raises InputError as `read`, for a reader that this library does not have and was not given, settings that
    differ, and weights that do not fit, listing them. Source: ours.
    """
    file = read(name)
    if (file.kind, file.preset) not in NETWORKS:
        known = ", ".join(" ".join(network) for network in sorted(NETWORKS))
        raise InputError(f"{file.path} holds {file.kind} {file.preset} with {file.reader}; this version knows {known}")
    if reader is None and file.reader not in READERS:
        raise InputError(
            f"{file.path} reads with {file.reader}, this library has {' and '.join(READERS)}; a reader of your own is given by its class: "
            f"load(file, reader={file.reader}), or --reader FILE.py:{file.reader} on the command line"
        )
    reader = READERS[file.reader] if reader is None else reader
    with torch.random.fork_rng(
        devices=[]
    ):  # building draws initial weights; the caller's random numbers stay as they are
        made = _build_reader(file, reader) if isinstance(reader, type) else reader
        network = NETWORKS[file.kind, file.preset](made, **file.settings)
    state, kind = file.state, type(network.reader).__name__
    if kind != file.reader:  # the file's reader is left out
        left_out = [entry for entry in state if entry.startswith("reader.")]
        if left_out:
            warnings.warn(
                f"{file.path}: the weights of its {file.reader} ({', '.join(some(left_out, 4))}) are left out, the {kind} given keeps its own",
                stacklevel=2,
            )
        state = {entry: tensor for entry, tensor in state.items() if entry not in left_out}
        state |= {f"reader.{entry}": tensor for entry, tensor in network.reader.state_dict().items()}
    elif made is reader and (sides := unlike((file.reader, file.reader_settings), reader_of(network))):
        raise InputError(
            f"{file.path} has the reader {sides[0]}, the one given is {sides[1]}; expected the same, or the class, reader={kind}, "
            "which is built from the file's settings"
        )
    fit(network, state, file.path)
    return network.eval()


def _build_reader(file: WeightFile, kind: type[nn.Module]) -> nn.Module:
    """A reader of that class with the file's settings."""
    settings = dict(file.reader_settings)
    if kind.__name__ != file.reader:
        raise InputError(
            f"{file.path} reads with {file.reader}, the class given is {kind.__name__}; expected {file.reader}, or a reader that was made, "
            f"{kind.__name__}(...), which keeps its own weights"
        )
    if isinstance(settings.get("similarity"), str):
        if not hasattr(similarity, settings["similarity"]):
            raise InputError(
                f"{file.path} reads by similarity {settings['similarity']!r}, which memory.similarity does not have"
            )
        settings["similarity"] = getattr(similarity, settings["similarity"])
    try:
        return kind(**settings)
    except TypeError as error:
        raise InputError(
            f"{file.path} has the reader {file.reader} with {file.reader_settings}, the class given does not take these: {error}"
        ) from None


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
