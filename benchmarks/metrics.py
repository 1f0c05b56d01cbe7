"""How fast J and F are computed, against a straightforward implementation: a Markdown table.

    python benchmarks/metrics.py [--data ../shared/parity/metrics_masks.npz] [--repeats 3] [--workers 2]

Masks of 480 x 854: those of `metrics_masks.npz` where that file is (true masks of five sequences, and seven predictions
for each: the same, moved, grown, shrunk, drifting, lost, noisy), else blobs of the same sizes drawn by seed. A frame is
one object of one frame, J and F together. The straightforward implementation is a textbook's, in numpy: boundary maps
of the whole picture, grown by a disk of 8 pixels, which is an OR of the picture shifted to each of the disk's 197
pixels. It scores every 8th frame, as it takes long. Both give the same numbers, which is checked. `workers` are
threads of `metrics.score`; processes, each with clips of its own sent to it, are measured beside them. Figures are the
best of --repeats. Time on the processor is not disturbed by what else runs on the machine: for one core compare that.
"""

import argparse
import math
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402

from tmrn_edu.metrics import score  # noqa: E402

MASKS = Path(__file__).resolve().parents[2] / "shared" / "parity" / "metrics_masks.npz"
SIZE, EVERY = (480, 854), 8


def load_pairs(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """(prediction, truth), each `t 480 854`, of the file's sequences and variations."""
    packed, pairs = np.load(path), []
    for key in packed.files:
        if key.startswith("pred:"):
            sequence = key.split(":")[1]
            shape = packed[f"shape:{sequence}"]
            both = (np.unpackbits(packed[name])[: np.prod(shape)] for name in (key, f"gt:{sequence}"))
            pairs.append(tuple(mask.reshape(shape) for mask in both))
    return pairs


def draw_pairs(frames: int = 20, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five wobbling blobs, from a hundredth to a quarter of the picture, and for each the same kinds of predictions."""
    rng, pairs = np.random.default_rng(seed), []
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    for share in (0.01, 0.03, 0.07, 0.14, 0.27):
        waves = rng.uniform(-0.15, 0.15, size=(4, 2))
        truth = []
        for t in range(frames):
            angle = np.arctan2(y - 240 - 2 * t, x - 400 - 3 * t)
            wobble = 1 + sum(a * np.cos((i + 2) * angle + b * t) for i, (a, b) in enumerate(waves))
            truth.append(np.hypot(y - 240 - 2 * t, x - 400 - 3 * t) < wobble * math.sqrt(share * 480 * 854 / math.pi))
        truth = np.array(truth, dtype=np.uint8)
        drifting = np.array([np.roll(mask, (t, -t), (0, 1)) for t, mask in enumerate(truth)])
        lost = truth * (np.arange(frames) < frames / 2)[:, None, None].astype(np.uint8)
        noisy = truth ^ (rng.random(truth.shape) < 0.002)
        grown = truth | np.roll(truth, 2, 1) | np.roll(truth, -2, 1) | np.roll(truth, 2, 2) | np.roll(truth, -2, 2)
        shrunk = truth & np.roll(truth, 2, 1) & np.roll(truth, -2, 1) & np.roll(truth, 2, 2) & np.roll(truth, -2, 2)
        others = [truth, np.roll(truth, (3, -6), (1, 2)), grown, shrunk, drifting, lost, noisy]
        pairs += [(other, truth) for other in others]
    return pairs


# --- the straightforward implementation


def plain_score(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """J and F of one bool mask `H W` by their definitions, on whole pictures."""
    union = np.logical_or(prediction, truth).sum()
    J = np.logical_and(prediction, truth).sum() / union if union else 1.0
    radius = math.ceil(0.008 * math.hypot(*truth.shape))
    predicted, true = plain_boundary(prediction), plain_boundary(truth)
    if not predicted.any() or not true.any():
        return J, float(predicted.any() == true.any())
    precision = (predicted & plain_dilate(true, radius)).sum() / predicted.sum()
    recall = (true & plain_dilate(predicted, radius)).sum() / true.sum()
    return J, 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def plain_boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels unlike their right, lower or lower-right neighbour; the picture's last row and column repeat themselves."""
    more = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    right, down, both = more[:-1, 1:], more[1:, :-1], more[1:, 1:]
    boundary = (mask ^ right) | (mask ^ down) | (mask ^ both)
    boundary[-1] = mask[-1] ^ right[-1]
    boundary[:, -1] = mask[:, -1] ^ down[:, -1]
    boundary[-1, -1] = False
    return boundary


def plain_dilate(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask shifted to every pixel of a disk, all of them together."""
    height, width = mask.shape
    padded, grown = np.pad(mask, radius), np.zeros_like(mask)
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            if dy**2 + dx**2 <= radius**2:
                grown |= padded[radius + dy : radius + dy + height, radius + dx : radius + dx + width]
    return grown


# --- measuring


def rate(work, frames: int, repeats: int) -> tuple[float, float]:
    """Frames per second by the clock, the best of so many, and per second of this process' time on a processor."""
    clock, processor = math.inf, math.inf
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        work()
        clock = min(clock, time.perf_counter() - start[0])
        processor = min(processor, time.process_time() - start[1])
    return frames / clock, frames / processor


def main() -> None:
    """Measures, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=MASKS, metavar="NPZ")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", metavar="N", help="threads and processes (all cores)")
    options = parser.parse_args()
    there = options.data.is_file()
    pairs = load_pairs(options.data) if there else draw_pairs()
    scored = [(i, t) for i, (_, truth) in enumerate(pairs) for t in range(1, len(truth) - 1)]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    some, plain = scored[::EVERY], {}

    def plainly():
        plain.update({(i, t): plain_score(pairs[i][0][t] != 0, pairs[i][1][t] != 0) for i, t in some})

    def ours(workers):
        return [score(*pair, workers=workers) for pair in pairs]

    rows = {"straightforward, one core": rate(plainly, len(some), options.repeats)}
    rows["`metrics.score`, one core"] = rate(lambda: ours(1), len(scored), options.repeats)
    scores = [found.per_object[1] for found in ours(1)]
    for (i, t), numbers in plain.items():
        found = scores[i].J_frames[t - 1], scores[i].F_frames[t - 1]
        assert np.allclose(found, numbers, rtol=0, atol=1e-12), f"pair {i}, frame {t}: {found}, plainly {numbers}"
    for workers in options.workers or [cores]:
        name = f"`metrics.score(workers={workers})`"
        rows[name] = rate(lambda: ours(workers), len(scored), options.repeats)  # noqa: B023
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(score, *zip(*pairs[:workers], strict=True)))  # processes start
            work = lambda: list(pool.map(score, *zip(*pairs, strict=True)))  # noqa: B023, E731
            rows[f"{workers} processes instead"] = rate(work, len(scored), options.repeats)[0], None
    source = "metrics_masks.npz" if there else "drawn by seed"
    print(f"{len(scored)} frames of {len(pairs)} pairs of clips, {SIZE[0]} x {SIZE[1]}, {source}; {cores} cores\n")
    print("| J and F | frames/s | times | frames per second of processor | times |\n|---|---:|---:|---:|---:|")
    (plain_clock, plain_processor), *_ = rows.values()
    for name, (clock, processor) in rows.items():
        cells = f"| {name} | {clock:.0f} | {clock / plain_clock:.1f} |"
        print(cells + (f" {processor:.0f} | {processor / plain_processor:.1f} |" if processor else " - | - |"))


if __name__ == "__main__":
    main()
