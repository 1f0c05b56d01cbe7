"""Files released by the authors of STM, STCN, XMem and GSFM, loaded by name.

A network here is the same network with other names for its parts, so each file has a map: our names -> the authors', as beginnings of names, the
first that fits counting. The maps are one to one but for STM's first convolution, of which the authors keep the image's, the mask's and the others'
share apart. Nothing is ever unpickled but tensors (`weights_only`).
"""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from einops import pack
from torch import Tensor, nn

from tmrn_edu.errors import InputError, some
from tmrn_edu.networks import GSFM, STCN, STM, XMem

OFFICIAL_NETWORKS = {"stm": STM, "stcn": STCN, "xmem": XMem, "gsfm": GSFM}


def _attention(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    """CBAM and the residual block of a `Fuser`."""
    return (
        (f"{ours}.block1.skip.", f"{theirs}.block1.downsample."),
        (f"{ours}.attention.channel.0.", f"{theirs}.attention.ChannelGate.mlp.1."),
        (f"{ours}.attention.channel.2.", f"{theirs}.attention.ChannelGate.mlp.3."),
        (f"{ours}.attention.spatial.", f"{theirs}.attention.SpatialGate.spatial.conv."),
        (f"{ours}.", f"{theirs}."),
    )


_UP = (
    ("decoder.up_16_8.block.skip.", "decoder.up_16_8.out_conv.downsample."),
    ("decoder.up_16_8.block.", "decoder.up_16_8.out_conv."),
    ("decoder.up_8_4.block.", "decoder.up_8_4.out_conv."),
    ("decoder.", "decoder."),
)
_STCN = (
    ("key_encoder.layer1.", "key_encoder.res2."),
    ("key_encoder.", "key_encoder."),
    ("key_projection.", "key_proj.key_proj."),
    ("query_projection.", "key_comp."),
    ("value_encoder.trunk.", "value_encoder."),
    *_attention("value_encoder.fuser", "value_encoder.fuser"),
    ("decoder.compress.skip.", "decoder.compress.downsample."),
    *_UP,
)
NAMES = {
    "stm": (
        ("query_encoder.layer1.", "Encoder_Q.res2."),
        ("query_encoder.layer2.", "Encoder_Q.res3."),
        ("query_encoder.layer3.", "Encoder_Q.res4."),
        ("query_encoder.", "Encoder_Q."),
        ("memory_encoder.trunk.layer1.", "Encoder_M.res2."),
        ("memory_encoder.trunk.layer2.", "Encoder_M.res3."),
        ("memory_encoder.trunk.layer3.", "Encoder_M.res4."),
        ("memory_encoder.trunk.", "Encoder_M."),
        ("query_key.", "KV_Q_r4.Key."),
        ("query_value.", "KV_Q_r4.Value."),
        ("memory_key.", "KV_M_r4.Key."),
        ("memory_value.", "KV_M_r4.Value."),
        ("decoder.compress.conv.", "Decoder.convFM."),
        ("decoder.compress.block.", "Decoder.ResMM."),
        ("decoder.up_16_8.skip_conv.", "Decoder.RF3.convFS."),
        ("decoder.up_16_8.skip_block.", "Decoder.RF3.ResFS."),
        ("decoder.up_16_8.block.", "Decoder.RF3.ResMM."),
        ("decoder.up_8_4.skip_conv.", "Decoder.RF2.convFS."),
        ("decoder.up_8_4.skip_block.", "Decoder.RF2.ResFS."),
        ("decoder.up_8_4.block.", "Decoder.RF2.ResMM."),
        ("decoder.pred.", "Decoder.pred2."),
    ),
    "stcn": _STCN,
    "xmem": (
        ("key_encoder.layer1.", "key_encoder.res2."),
        ("key_encoder.", "key_encoder."),
        ("key_projection.", "key_proj.key_proj."),
        ("shrinkage_projection.", "key_proj.d_proj."),
        ("selection_projection.", "key_proj.e_proj."),
        ("value_encoder.trunk.", "value_encoder."),
        *_attention("value_encoder.fuser", "value_encoder.fuser"),
        ("sensory_memory.deep_gate.", "value_encoder.hidden_reinforce."),
        ("sensory_memory.gate.", "decoder.hidden_update."),
        ("sensory_memory.project.0.", "decoder.hidden_update.g16_conv."),
        ("sensory_memory.project.1.", "decoder.hidden_update.g8_conv."),
        ("sensory_memory.project.2.", "decoder.hidden_update.g4_conv."),
        *_attention("decoder.compress", "decoder.fuser"),
        *_UP,
    ),
    "gsfm": (
        ("key_encoder.trunk.layer1.", "key_encoder.res2."),
        ("key_encoder.trunk.", "key_encoder."),
        ("key_encoder.low_pass.", "lfm."),
        ("decoder.high_pass.", "decoder.hfm."),
        *_STCN[2:],
    ),
}
# Ours -> several of theirs, side by side along the input channels.
JOINED = {
    "stm": {
        "memory_encoder.trunk.conv1.weight": (
            "Encoder_M.conv1.weight",
            "Encoder_M.conv1_m.weight",
            "Encoder_M.conv1_o.weight",
        )
    }
}
# Entries that are constants in this library: the normalisation of images.
CONSTANTS = re.compile(r"^Encoder_[MQ]\.(mean|std)$")
# The first convolution that sees masks: in files of stage 0, trained with one object, it has no channel for the others.
FIRST_CONVOLUTION = {name: "value_encoder.conv1.weight" for name in ("stcn", "xmem", "gsfm")}


def official_names(name: str, ours: str) -> tuple[str, ...]:
    """The authors' name of one of our parameters; several where they keep its channels apart.

    `name`: "stm", "stcn", "xmem" or "gsfm". Source: state dicts of the authors' code.
    """
    if ours in JOINED.get(name, {}):
        return JOINED[name][ours]
    begins, replaced = next(pair for pair in NAMES[name] if ours.startswith(pair[0]))
    return (replaced + ours.removeprefix(begins),)


def load_official(
    name: str, file_or_state_dict: str | os.PathLike | Mapping[str, Tensor], reader: nn.Module | None = None
) -> nn.Module:
    """A network with the weights its authors released; in eval mode, on the CPU.

    `name`: "stm", "stcn", "xmem" or "gsfm". `file_or_state_dict`: the released file (`.pth`, or safetensors with the same names) or its state
    dict; names may begin with `module.`, and files of STCN's and XMem's stage 0 (one object, four channels) get a channel of zeros for the other
    objects, as in the authors' evaluation. `reader`: another memory reader than the network's own, such as `TrajectoryReader.warm(...)`; it
    keeps its initial weights. Raises InputError for an unknown name, a file that cannot be read without running code, and for
    entries that are missing, left over, or of another shape: one message that lists them. Source: ours.
    """
    name = name.lower()
    if name not in OFFICIAL_NETWORKS:
        raise InputError(f"no network is called {name!r}, expected one of {', '.join(OFFICIAL_NETWORKS)}")
    if isinstance(file_or_state_dict, str | os.PathLike):
        origin, state = str(file_or_state_dict), read_state_dict(file_or_state_dict)
    else:
        origin, state = "the state dict", find_state_dict(file_or_state_dict, "the state dict")
    state = {entry.removeprefix("module."): tensor for entry, tensor in state.items()}
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
        network = OFFICIAL_NETWORKS[name](reader)
    own = {ours: tensor for ours, tensor in network.state_dict().items() if not ours.startswith("reader.")}
    theirs = _add_others_channel(name, state)
    wrong = _compare(name, own, theirs)
    if wrong:
        raise InputError(
            f"{origin} does not fit {name}{_looks_like(name, state)}: {'; '.join(wrong)} "
            f"({len(state)} entries came, {name} has {len(_expected(name, own))})"
        )
    joined = {}
    for ours, tensor in own.items():
        parts = [theirs[entry] for entry in official_names(name, ours) if entry in theirs]
        joined[ours] = pack(parts, "out * i j")[0] if len(parts) > 1 else (parts or [tensor])[0]
    network.load_state_dict(joined | {k: v for k, v in network.state_dict().items() if k.startswith("reader.")})
    return network.eval()


def read_state_dict(path: str | os.PathLike) -> dict[str, Tensor]:
    """The tensors of a `.pth` or safetensors file by name; a training checkpoint's `network` or `state_dict` is taken out.

    Raises InputError for a file that is missing, cut off, or could only be read by running code in it.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weight file at {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} is no whole file of tensors ({type(error).__name__}): damaged, of another kind, or holding code, which is not run"
        ) from None
    except Exception as error:  # safetensors' own error, which it makes in Rust
        raise InputError(f"{path} is no whole weight file ({error})") from None
    return find_state_dict(content, str(path))


def find_state_dict(content: object, origin: str) -> dict[str, Tensor]:
    """A state dict, or the one inside a training checkpoint, under `network` or `state_dict`.

    Raises InputError, naming `origin`, for anything that is not names and tensors.
    """
    for key in ("network", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise InputError(f"{origin} is a {type(content).__name__}, expected names and tensors (a state dict)")
    wrong = [name for name, tensor in content.items() if not (isinstance(name, str) and isinstance(tensor, Tensor))]
    if wrong:
        kind = type(content[wrong[0]]).__name__
        raise InputError(f"{origin} holds a {kind} under {wrong[0]!r}, expected names and tensors (a state dict)")
    return dict(content)


def _add_others_channel(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stage 0 knows one object: its first convolution gets zeros for the channel that shows the others."""
    state = dict(state)
    weight = state.get(FIRST_CONVOLUTION.get(name))
    if weight is not None and weight.ndim == 4 and weight.shape[1] == 4:
        state[FIRST_CONVOLUTION[name]], _ = pack([weight, torch.zeros_like(weight[:, :1])], "out * i j")
    return state


def _expected(name: str, own: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The authors' names and shapes."""
    expected = {}
    for ours, tensor in own.items():
        names = official_names(name, ours)
        shape = tuple(tensor.shape)
        channels = (3, 1, 1) if len(names) > 1 else ()  # image, mask, others
        for number, theirs in enumerate(names):
            expected[theirs] = (shape[0], channels[number], *shape[2:]) if channels else shape
    return expected


def _compare(name: str, own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> list[str]:
    """All that is missing, left over or misshapen. Counters of batch norm may be missing: nothing reads them."""
    expected = _expected(name, own)
    idle = "num_batches_tracked"
    missing = [f"missing {entry}" for entry in expected if entry not in theirs and not entry.endswith(idle)]
    extra = [f"unexpected {entry}" for entry in theirs if entry not in expected and not CONSTANTS.match(entry)]
    shapes = [
        f"{entry} is {tuple(theirs[entry].shape)}, expected {shape}"
        for entry, shape in expected.items()
        if entry in theirs and tuple(theirs[entry].shape) != shape
    ]
    return some(missing) + some(extra) + some(shapes)


def _looks_like(name: str, state: Mapping[str, Tensor]) -> str:
    """Names that only one network has give a file of another one away."""
    marks = {"stm": "Encoder_M.", "xmem": "decoder.hidden_update.", "gsfm": "lfm.", "stcn": "key_comp."}
    for other, mark in marks.items():  # GSFM has all that STCN has, so it comes first
        if any(entry.startswith(mark) for entry in state):
            return f" (it looks like a file of {other})" if other != name else ""
    return ""
