"""Frames per second of the synthetic generator on one core: `OMP_NUM_THREADS=1 python benchmarks/synthetic.py`.

Prints clips alone (frames, index masks, layers), with the local coordinates of every pixel, and with the exact
correspondences of each frame to the one before, per level; then the ratio of each to the clips alone.
"""

import argparse
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402  (the number of threads is read at import)

from tmrn_edu.data.synthetic import LEVELS, make_clip  # noqa: E402


def clip_alone(clip):
    """Nothing more than make_clip did."""


def with_local(clip):
    """Local coordinates of every pixel of every frame."""
    clip.local


def with_correspondences(clip):
    """Where every pixel was one frame earlier."""
    for query in range(1, len(clip.frames)):
        clip.correspondence(query, query - 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=40, help="clips per level")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, nargs=2, default=(96, 96), metavar=("H", "W"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    works = (clip_alone, with_local, with_correspondences)
    print(f"{arguments.clips} clips of {arguments.frames} frames, {arguments.size[0]} x {arguments.size[1]}, one core")
    print("level    " + "".join(f"{work.__name__:>26}" for work in works) + "    frames/s (ratio to the clip alone)")
    for level in LEVELS:
        make_clip(0, level)
        seconds = [0.0] * len(works)
        for seed in range(arguments.clips):  # side by side: a busy machine slows all three alike
            for index, work in enumerate(works):
                start = time.process_time()
                work(make_clip(seed, level, arguments.frames, tuple(arguments.size)))
                seconds[index] += time.process_time() - start
        rates = [arguments.clips * arguments.frames / second for second in seconds]
        print(f"{level:9}" + "".join(f"{rate:17.0f} (x{rate / rates[0]:5.2f})" for rate in rates))


if __name__ == "__main__":
    main()
