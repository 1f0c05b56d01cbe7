"""Time and memory of reading a memory: the plain einsum beside the readers, in one run.

    OMP_NUM_THREADS=1 python benchmarks/read.py            plain and merged read, t = 1 to 20; TMRN's presets; top-k
    OMP_NUM_THREADS=1 python benchmarks/read.py --frames 20 --objects 3 --reads "plain, top 20" "merged, top 20"
    OMP_NUM_THREADS=2 OMP_WAIT_POLICY=passive python benchmarks/read.py --frames 8       waiting threads must not count

Float32, 30 x 54 positions (a 480p frame at stride 16), 64 key and 512 value channels. *plain* is the read as equations have it, with values
stored ready for the product: similarity to all (t m), one softmax (top 20: that of the 20 best, put among zeros), one einsum. *merged* is
`SpaceTimeReader`, which walks over the frames (method, section 5b); the rest are `TrajectoryReader`'s presets, and both with the 20 best
memory pixels.
Time: CPU seconds, median over repeats that are interleaved, so that a busy machine slows all alike. Memory: in a process of its own, the peak
of resident memory during the read less what was resident before (Linux); a small read goes first, so that libraries are loaded.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402  (the number of threads is read at import)
from einops import einsum, rearrange  # noqa: E402

from tmrn_edu.memory import Query, SpaceTimeReader, TrajectoryReader, negative_squared_l2  # noqa: E402

H, W, CK, CV, TOP_K = 30, 54, 64, 512, 20
READERS = {
    "merged": lambda: SpaceTimeReader(),
    "merged, top 20": lambda: SpaceTimeReader(top_k=TOP_K),
    "paper": lambda: TrajectoryReader.paper(CK, CV),
    "warm": lambda: TrajectoryReader.warm(CK, CV),
    "chained": lambda: TrajectoryReader.chained(CK, CV),
}
PLAIN = {"plain": None, "plain, top 20": TOP_K}
NAMES = ("plain", "merged", "paper", "warm", "chained", "plain, top 20", "merged, top 20")


def plain_read(keys, values, query_key, top_k):
    """keys `b t ck h w`, values `b o cv n`, stored once as the product wants them, n = (t h w) -> readout `b o cv q`."""
    score = rearrange(negative_squared_l2(keys, query_key), "b t m q -> b (t m) q")
    if top_k is None:
        affinity = score.softmax(dim=1)
    else:
        best, position = score.topk(top_k, dim=1)
        affinity = torch.zeros_like(score).scatter_(1, position, best.softmax(dim=1))
    return einsum(values, affinity, "b o cv n, b n q -> b o cv q")


def prepare(name, t, objects, height=H, width=W):
    """A function without arguments that reads t random frames."""
    torch.manual_seed(0)
    query_key = torch.randn(1, CK, height, width)
    keys, values = torch.randn(1, t, CK, height, width), torch.randn(1, objects, t, CV, height, width)
    if name in PLAIN:
        rows = rearrange(values, "b o t cv h w -> b o cv (t h w)")
        return lambda: plain_read(keys, rows, query_key, PLAIN[name])
    reader = READERS[name]().eval()
    memory = [reader.store(keys[:, i], values[:, :, i], i) for i in range(t)]
    return lambda: reader(memory, Query(query_key, t))


def cpu_seconds(names, t, objects, repeats):
    """Median CPU seconds of each read."""
    reads = [prepare(name, t, objects) for name in names]
    seconds = [[] for _ in reads]
    for _ in range(repeats + 1):
        for read, taken in zip(reads, seconds, strict=True):
            start = time.process_time()
            read()
            taken.append(time.process_time() - start)
    return [statistics.median(taken[1:]) for taken in seconds]  # the first is a warm-up


def peak_megabytes(name, t, objects):
    """Peak resident memory of one read, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, "--frames", str(t), "--objects", str(objects)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def print_peak(name, t, objects):
    """The child process: how far one read lifts the peak above what was resident before."""
    prepare(name, 1, objects, 6, 8)()
    read = prepare(name, t, objects)
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak so far is forgotten (Linux)
    before = resident("VmRSS")
    read()
    print((resident("VmHWM") - before) / 1024)


def resident(field):
    """VmRSS (now) or VmHWM (peak) in kilobytes. Not ru_maxrss, which a process inherits from the one that started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[1, 4, 8, 16, 20])
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--reads", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    with torch.inference_mode():
        if arguments.peak:
            print_peak(arguments.peak, arguments.frames[0], arguments.objects)
            return
        print(
            f"{H} x {W} positions, ck {CK}, cv {CV}, {arguments.objects} object(s), float32, {torch.get_num_threads()} thread(s); "
            "ratios to the plain read above"
        )
        print(f"{'t':>3}  {'read':15} {'CPU ms':>8} {'faster':>7} {'peak MB':>8} {'of plain':>8}")
        base = None
        for t in arguments.frames:
            taken = cpu_seconds(arguments.reads, t, arguments.objects, arguments.repeats)
            for name, seconds in zip(arguments.reads, taken, strict=True):
                megabytes = peak_megabytes(name, t, arguments.objects)
                if name in PLAIN:
                    base = seconds, megabytes
                ratios = (
                    f"{base[0] / seconds:6.2f}x {megabytes:8.0f} {megabytes / base[1]:8.2f}"
                    if base
                    else f"{megabytes:16.0f}"
                )
                print(f"{t:3}  {name:15} {1000 * seconds:8.0f} {ratios}", flush=True)


if __name__ == "__main__":
    main()
