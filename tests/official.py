"""Numbers of the authors' own code: weights that anyone can draw, stored reference tensors, and the comparison with them.

The authors' weights are not needed to check that two networks compute the same. Both sides are filled with numbers drawn from the entries'
*official* names and shapes, and the authors' code was run with them once. Here are the rule for the numbers (`filled`), the reference files
(`Case`), and a way to see every step of an inference (`Record`). What the files hold: `../shared/parity/README.md` beside the repository; a few
numbers of each network are in `fixtures/parity_*.npz`, made by `tools/make_parity_fixtures.py`.
"""

import contextlib
import functools
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import pack, rearrange

import tmrn_edu as te
from tmrn_edu import official
from tmrn_edu.segmenter import Segmenter

SHARED = Path(__file__).resolve().parents[2] / "shared"
CASES = SHARED / "parity" / "cases"
FIXTURES = Path(__file__).resolve().parent / "fixtures"
FIRST_CONVOLUTION = "value_encoder.conv1.weight"  # the one entry in which files of stage 0 differ

# ------------------------------------------------------------------ weights drawn by name

HEADS = ("decoder.pred.weight", "Decoder.pred2.weight")  # the last convolutions: a gain of 2
PLAIN = ("key_proj.key_proj.weight", "key_proj.d_proj.weight")  # keys and shrinkage: a gain of 1; all others 1.25


def drawn(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Numbers in about [-1, 1) that depend on nothing but name, shape and seed; rows sum to zero but in an image's first convolution."""
    label = f"{seed}|{name}|{'x'.join(map(str, shape))}"
    state = np.frombuffer(hashlib.sha256(label.encode()).digest()[:16], dtype="<u4")
    whole = np.random.RandomState(state.tolist()).randint(-(2**23), 2**23, size=math.prod(shape), dtype=np.int64)
    sees_image = name.endswith("conv1.weight") and len(shape) > 1 and shape[1] <= 5
    if len(shape) == 1 or sees_image:
        return (whole / 2.0**23).reshape(shape)
    rows = whole.reshape(shape[0], -1)
    return ((rows - rows.sum(axis=1, keepdims=True) / float(rows.shape[1])) / 2.0**23).reshape(shape)


def filled(name: str, shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """The entry of a state dict that belongs to an official name."""
    last = name.rsplit(".", 1)[-1]
    if last == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if last in ("mean", "std"):  # STM keeps the normalisation of images
        return torch.tensor({"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}[last]).reshape(shape)
    numbers = drawn(name, shape, seed)
    if len(shape) > 1:
        gain = 2.0 if name.endswith(HEADS) else 1.0 if name.endswith(PLAIN) else 1.25
        numbers = numbers * (math.sqrt(3.0) * gain / math.sqrt(math.prod(shape[1:])))
    else:
        centre, spread = {"weight": (1.0, 0.1), "running_var": (1.0, 0.2)}.get(last, (0.0, 0.1))
        numbers = centre + spread * numbers
    return torch.from_numpy(numbers.astype(np.float32))


@functools.cache
def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The official names and shapes of a network, as our own network has them under other names."""
    network = official.OFFICIAL_NETWORKS[name]()
    shapes = {}
    for ours, tensor in network.state_dict().items():
        names = official.official_names(name, ours)
        channels = (3, 1, 1) if len(names) > 1 else (None,)  # image, mask, others
        for theirs, count in zip(names, channels, strict=True):
            shape = tuple(tensor.shape)
            shapes[theirs] = shape if count is None else (shape[0], count, *shape[2:])
    if name == "stm":
        shapes |= {f"Encoder_{side}.{constant}": (1, 3, 1, 1) for side in "MQ" for constant in ("mean", "std")}
    return shapes


@functools.lru_cache(maxsize=1)
def _state(name: str, seed: int) -> dict[str, torch.Tensor]:
    return {entry: filled(entry, shape, seed) for entry, shape in official_shapes(name).items()}


def official_state(name: str, seed: int = 0, stage0: bool = False) -> dict[str, torch.Tensor]:
    """A state dict with the official names; `stage0`: trained with one object, so without the others' channel. Tensors are shared: leave
    them as they are."""
    state = dict(_state(name, seed))
    if stage0:
        rows, _, height, width = state[FIRST_CONVOLUTION].shape
        state[FIRST_CONVOLUTION] = filled(FIRST_CONVOLUTION, (rows, 4, height, width), seed)
    return state


def checksum(state: dict[str, torch.Tensor]) -> str:
    """sha256 over names and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].numpy().tobytes())
    return digest.hexdigest()


@functools.lru_cache(maxsize=2)
def _network(name: str, seed: int, stage0: bool) -> tuple[torch.nn.Module, str]:
    state = official_state(name, seed, stage0)
    return te.load_official(name, state), checksum(state)


@contextlib.contextmanager
def network_of(meta: dict):
    """The network of a case, loaded once and shared: `load_official` on the numbers drawn for it. Its mode and top-k are put back afterwards;
    whoever changes weights takes a copy."""
    stage0 = meta.get("case") in ("read", "train") and meta["objects"] == 1
    network, found = _network(meta["model"], meta["seed"], stage0)
    if "fill_checksum" in meta:
        assert found == meta["fill_checksum"], "the drawn weights are not those of the reference"
    top_k = network.reader.top_k
    if meta["model"] != "stm":  # STM reads all of its memory
        network.reader.top_k = meta["top_k"]
    try:
        yield network.eval()
    finally:
        network.reader.top_k = top_k
        network.eval()


# ------------------------------------------------------------------ reference tensors


class Case:
    """One file of reference tensors. A tensor NAME is stored as every NAME__step-th of its numbers, with its shape and statistics.

    Every stored tensor must be compared: `finish` fails if one was not.
    """

    def __init__(self, path: Path):
        with np.load(path) as file:
            self.arrays = {name: file[name] for name in file.files}
        self.meta = json.loads(self.arrays.pop("meta").tobytes())
        self.open = {n for n in self.arrays if not n.endswith(("__shape", "__step", "__stats"))}
        self.open -= {"frames_u8", "masks_u8", "losses"}  # what goes in; and `losses` repeats meta
        self.deviations: dict[str, float] = {}

    @property
    def frames(self) -> torch.Tensor:
        """uint8 `t H W 3`."""
        return torch.from_numpy(self.arrays["frames_u8"])

    @property
    def rgb(self) -> torch.Tensor:
        """RGB in [0, 1], `t 3 H W`."""
        return rearrange(self.frames, "t H W c -> t c H W").float() / 255

    @property
    def index_masks(self) -> torch.Tensor:
        """Labels `t H W` of all frames."""
        return torch.from_numpy(self.arrays["masks_u8"])

    @property
    def object_masks(self) -> torch.Tensor:
        """Zeros and ones, `t o H W`."""
        labels = range(1, self.meta["objects"] + 1)
        return torch.stack([(self.index_masks == label).float() for label in labels], dim=1)

    def given(self) -> dict[int, torch.Tensor]:
        """Which masks the authors' code was given: the first frame's; in `late`, the last object only enters at `late_frame`."""
        first, last = self.index_masks[0], self.meta["objects"]
        if self.meta["case"] != "late":
            return {0: first}
        late = self.index_masks[self.meta["late_frame"]]
        return {0: first * (first != last), self.meta["late_frame"]: late * (late == last)}

    def full(self, name: str) -> torch.Tensor:
        """An input that is stored whole."""
        self.open.discard(name)
        return torch.from_numpy(self.arrays[name])

    def difference(self, name: str, tensor: torch.Tensor) -> tuple[np.ndarray, float]:
        """Differences at the stored positions, and the largest magnitude of the reference."""
        shape = tuple(self.arrays[f"{name}__shape"])
        stored = self.arrays[name].reshape(-1)
        assert tuple(tensor.shape) == shape, f"{name} is {tuple(tensor.shape)}, the authors' is {shape}"
        sample = rearrange(tensor.detach(), "... -> (...)")[:: int(self.arrays.get(f"{name}__step", 1))].numpy()
        self.open.discard(name)
        if stored.dtype.kind != "f":
            return sample != stored, 1.0
        _, _, low, high, _ = self.arrays.get(f"{name}__stats", [0, 0, stored.min(), stored.max(), 0])
        return np.abs(sample.astype(np.float64) - stored.astype(np.float64)), max(abs(low), abs(high), 1e-12)

    def agrees(self, name: str, tensor, bound: float) -> None:
        """Largest difference, relative to the largest magnitude of the reference; also the norm of the whole tensor, if it is known."""
        difference, scale = self.difference(name, tensor)
        self.deviations[name] = deviation = float(difference.max() / scale)
        assert deviation <= bound, f"{name} differs by {deviation:.2e} of its largest magnitude, allowed {bound:.0e}"
        if f"{name}__stats" not in self.arrays:
            return
        norm, theirs = float(torch.linalg.vector_norm(tensor.detach().double())), self.arrays[f"{name}__stats"][4]
        assert math.isclose(norm, theirs, rel_tol=5 * bound, abs_tol=1e-9), f"{name}: norm {norm}, theirs {theirs}"

    def agrees_if_stored(self, name: str, tensor, bound: float) -> None:
        """For tensors of which only some calls are stored."""
        if name in self.arrays:
            self.agrees(name, tensor, bound)

    def agrees_in_labels(self, name: str, labels, bound: float = 2e-4) -> None:
        """Share of pixels with another label."""
        difference, _ = self.difference(name, labels)
        self.deviations[name] = float(difference.mean())
        assert difference.mean() <= bound, f"{name}: {difference.mean():.2%} of the pixels differ"

    def finish(self) -> None:
        """Fails if the file holds a tensor that nothing was compared with."""
        assert not self.open, f"stored but not compared: {sorted(self.open)}"


def load_case(name: str) -> Case:
    """A file of the fixtures here, or of `../shared/parity/cases`, in whose absence the test is skipped."""
    if name.startswith("parity_"):
        return Case(FIXTURES / f"{name}.npz")
    skip_without_cases()
    return Case(CASES / f"{name}.npz")


def skip_without_cases() -> None:
    if not CASES.is_dir():
        pytest.skip("no reference numbers of the authors' code beside the repository (../shared/parity)")


# ------------------------------------------------------------------ every step of an inference


class Record:
    """Runs a `Segmenter` over a video and keeps what every step of its network returned, in the order of the calls.

    `encoded`: features; `values`: what `encode_value` or `encode_memory` returned; `read`: (features, memory frames, readout with insides);
    `decoded`; `updated`, `deeply_updated`: what the two updates of the sensory memory returned; `sensory`: its state after every frame.
    The Segmenter works on a copy of the network, so nothing is left behind.
    """

    def __init__(self, network, frames, masks, **options):
        self.encoded, self.values, self.read, self.decoded = [], [], [], []
        self.updated, self.deeply_updated, self.sensory = [], [], []
        segmenter = Segmenter(network, **options)
        copy = self.network = segmenter.network
        assert copy is not network
        read = copy.read
        value_step = "encode_memory" if hasattr(copy, "encode_memory") else "encode_value"

        def keep(step, results):
            def run(*arguments):
                results.append(step(*arguments))
                return results[-1]

            return run

        def read_and_keep(features, memory, index, insides=False):
            self.read.append((features, list(memory), read(features, memory, index, True)))
            return read(features, memory, index, insides)

        copy.encode, copy.decode = keep(copy.encode, self.encoded), keep(copy.decode, self.decoded)
        copy.read = read_and_keep
        setattr(copy, value_step, keep(getattr(copy, value_step), self.values))
        copy.update_sensory = keep(copy.update_sensory, self.updated)
        copy.deep_update = keep(copy.deep_update, self.deeply_updated)
        self.coarse = []  # STM: the memory encoder's feature, of which key and value are made
        if hasattr(copy, "memory_encoder"):
            copy.memory_encoder.register_forward_hook(lambda _, __, output: self.coarse.append(output))
        self.results = []
        for t, frame in enumerate(frames):
            self.results.append(segmenter.step(frame, masks.get(t)))
            self.sensory.append(segmenter.sensory)

    def similarity(self, call: int) -> torch.Tensor:
        """Scores of one read, `b (t m) q`, all memory frames side by side."""
        features, memory, _ = self.read[call]
        keys = torch.stack([frame.key for frame in memory], dim=1)
        shrinkage = None
        if memory[0].shrinkage is not None:
            shrinkage = torch.stack([frame.shrinkage for frame in memory], dim=1)
        scores = self.network.similarity(keys, features.key, shrinkage, features.selection)
        return rearrange(scores, "b t m q -> b (t m) q")

    def affinity(self, call: int) -> torch.Tensor:
        """Weights of one read, `b (t m) q`."""
        return joint_affinity(self.read[call][2])


def joint_affinity(readout) -> torch.Tensor:
    """The weight of every memory pixel in a readout, `b (t m) q`, from its insides."""
    insides = readout.insides
    share = rearrange(insides.temporal_weights, "b t q -> b t 1 q")
    return rearrange(insides.affinity * share, "b t m q -> b (t m) q")


def stacked(*tensors: torch.Tensor) -> torch.Tensor:
    """Side by side along the channels."""
    return pack(list(tensors), "b * h w")[0]
