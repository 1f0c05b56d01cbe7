"""Take the beginning of one clip per network out of the authors' reference numbers, for clones that do not have them beside the repository.

    python tools/make_parity_fixtures.py

Reads ../shared/parity/cases/NETWORK_*.npz, writes tests/fixtures/parity_NETWORK.npz in the same format (see tests/official.py): the first
frames, the first mask, labels of these frames, and a sample of the probabilities and of XMem's sensory memory. Inference is causal, so the first
frames of a clip come out the same without the rest.
"""

import json
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
CASES = ROOT.parent / "shared" / "parity" / "cases"
FIXTURES = ROOT / "tests" / "fixtures"
# Network -> the case, and how many of its frames: with padding and the frame before read as memory, or with two memory frames read.
BEGINNINGS = {
    "stm": ("stm_clip_o3_pad", 3),
    "stcn": ("stcn_clip_o3_pad_last", 3),
    "xmem": ("xmem_clip_o2", 4),
    "gsfm": ("gsfm_clip_o2", 3),
}
NUMBERS = {"prob": 4000, "sensory": 1000}  # kept at most, of each tensor


def thinned(case: dict, name: str, size: int, numbers: int) -> dict:
    """Every so many-th of a tensor's stored numbers that lie among its first `size`."""
    step = int(case[f"{name}__step"])
    kept = case[name][: -(-size // step)]
    every = -(-len(kept) // numbers)
    every += 1 - every % 2  # odd, so that a sample meets all rows and columns
    return {name: kept[::every], f"{name}__step": np.array(step * every)}


def beginning(case: dict, frames: int) -> dict:
    """The same case as if the clip were shorter. Statistics of the probabilities are left out: they are those of the whole clip."""
    meta = json.loads(case["meta"].tobytes())
    shape = (frames, *case["prob__shape"][1:])
    fixture = {"frames_u8": case["frames_u8"][:frames], "masks_u8": case["masks_u8"][:1]}
    fixture |= thinned(case, "prob", int(np.prod(shape)), NUMBERS["prob"]) | {"prob__shape": np.array(shape)}
    fixture |= {"argmax": case["argmax"][:frames], "argmax__shape": np.array((frames, *case["argmax__shape"][1:]))}
    for t in range(frames):
        name = f"sensory.{t}"
        if name in case:
            shape = case[f"{name}__shape"]
            fixture |= thinned(case, name, int(np.prod(shape)), NUMBERS["sensory"])
            fixture |= {f"{name}__shape": shape, f"{name}__stats": case[f"{name}__stats"]}
    fixture["meta"] = np.frombuffer(json.dumps(meta | {"frames": frames}).encode(), dtype=np.uint8)
    return fixture


def main() -> None:
    """Reads, takes the beginning, writes."""
    for network, (name, frames) in BEGINNINGS.items():
        with np.load(CASES / f"{name}.npz") as file:
            case = {key: file[key] for key in file.files}
        path = FIXTURES / f"parity_{network}.npz"
        np.savez_compressed(path, **beginning(case, frames))
        print(f"{path.relative_to(ROOT)}: {frames} frames of {name}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
