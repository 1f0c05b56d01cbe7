"""Time, arithmetic and memory of whole networks on a CPU, beside a plain version of the same networks, in one run.

    OMP_NUM_THREADS=1 python benchmarks/networks.py                              every network, 1 and 3 objects, 1 to 20 memory frames
    OMP_NUM_THREADS=1 python benchmarks/networks.py --networks STCN --objects 3 --frames 20 --repeats 2 --no-memory      one cell
    OMP_NUM_THREADS=1 python benchmarks/networks.py --bf16 ours                  ours in bfloat16 against ours in float32 (or --bf16 plain)
    OMP_NUM_THREADS=1 python benchmarks/networks.py --bf16-scores                what bfloat16 costs the shipped networks in J and F

480 x 854 frames of a synthetic clip, published sizes, random weights with batch statistics of such a frame. *plain* (`plain.py`) does what the
authors' evaluation code does; with `--everything` it also repeats the decoder's skips for every object where they do not.
A frame is encode + read + decode + memorize / n: n = frames from one memory frame to the next, 1 for STM, 3 for GSFM, 5 for STCN and XMem.
Decoding includes XMem's sensory update, memorizing its deep update. Time: CPU seconds, median over repeats that are interleaved, so that a busy
machine slows all alike. GFLOP: two per multiplication and addition, of convolutions and matrix products (torch's counter). Memory: of a frame in a
process of its own, peak resident memory, weights and stored frames included, libraries not (Linux).
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402  (the number of threads is read at import)
import torch.nn as nn  # noqa: E402
from einops import rearrange  # noqa: E402
from plain import Plain  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from tmrn_edu import metrics, networks  # noqa: E402
from tmrn_edu.data.synthetic import make_clip  # noqa: E402
from tmrn_edu.evaluate_clips import held_out_clips  # noqa: E402
from tmrn_edu.folding import inference_copy, reduced_precision  # noqa: E402
from tmrn_edu.masks import index_to_object_masks, pad_to_stride  # noqa: E402
from tmrn_edu.segmenter import segment  # noqa: E402
from tmrn_edu.weights import list_networks, load  # noqa: E402

NAMES = ("STM", "STCN", "XMem", "GSFM")
SIZE = (480, 854)


# ------------------------------------------------------------------ what is measured


def make_network(name: str, size=(96, 160)) -> nn.Module:
    """A network of published size whose batch normalisations hold the statistics of a frame, so that features keep a sane scale."""
    torch.manual_seed(0)
    network = getattr(networks, name)().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.momentum = 1.0
            module.train()
    frame, masks = scene(1, 2, size)
    with torch.no_grad():
        network.memorize(frame[0], network.encode(frame[0]), masks[0], 0)
    return network.eval()


def scene(count: int, objects: int, size=SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded frames `t 1 3 H W` and masks `t 1 o H W` of a synthetic clip; objects after the first are its target, elsewhere."""
    clip = make_clip(seed=1, frames=max(count, 2), size=size)
    frames = rearrange(clip.frames[:count], "t H W c -> t 1 c H W").float() / 255
    target = index_to_object_masks(clip.index_masks[:count], (1,))
    masks = torch.stack([target.roll(i * size[1] // 3, dims=-1) for i in range(objects)], dim=2)
    return pad_to_stride(frames, 16)[0], pad_to_stride(masks, 16)[0]


def frames_between(network: nn.Module) -> int:
    """From one memory frame to the next; every frame is memorized where the previous one is always read."""
    return 1 if network.rules.previous_frame else network.rules.memory_every


class Ours:
    """The steps of a frame as `Segmenter` does them; each returns what the next ones need."""

    def __init__(self, network: nn.Module, precision: str = "fp32"):
        self.network, self.precision = inference_copy(network, precision), precision

    def encode(self, frame):
        with reduced_precision(frame, self.precision):
            return self.network.encode(frame)

    def memorize(self, frame, features, masks, sensory, index=0):
        with reduced_precision(frame, self.precision):
            stored = self.network.memorize(frame, features, masks, index)
            return stored, self.network.deep_update(sensory, stored)

    def read(self, memory, features, index=100):
        with reduced_precision(features.key, self.precision):
            return self.network.read(features, memory, index)

    def decode(self, readout, features, sensory):
        with reduced_precision(features.key, self.precision):
            decoded = self.network.decode(readout, features, sensory)
            return decoded.logits, self.network.update_sensory(sensory, decoded)


class PlainSteps:
    """The same of the plain network, with the same arguments but for the memory."""

    def __init__(self, network: nn.Module, everything: bool = False):
        self.plain = Plain(network, everything)

    def encode(self, frame):
        return self.plain.encode(frame)

    def memorize(self, frame, features, masks, sensory):
        stored = self.plain.memorize(frame, features, rearrange(masks, "1 o H W -> o 1 H W"))
        if sensory is None:
            return stored, None
        return stored, self.plain.deep_update(sensory[0], stored[2], features.key.shape[-2:])[None]

    def read(self, memory, features):
        return self.plain.read(memory, features)

    def decode(self, readout, features, sensory):
        logits, hidden = self.plain.decode(readout, features, None if sensory is None else sensory[0])
        return logits, None if hidden is None else hidden[None]


def as_plain_memory(memory):
    """Stored frames as the plain network keeps them: one tensor of all keys, shrinkages, values."""
    key = torch.cat([rearrange(frame.key, "b ck h w -> b ck (h w)") for frame in memory], 2)
    value = torch.cat([rearrange(frame.value, "b o cv h w -> (b o) cv (h w)") for frame in memory], 2)
    if memory[0].shrinkage is None:
        return key, None, value
    return key, torch.cat([rearrange(frame.shrinkage, "b c h w -> b c (h w)") for frame in memory], 2), value


# ------------------------------------------------------------------ time and arithmetic


def measure(steps, repeats: int) -> tuple[list[float], list[float]]:
    """Median CPU seconds of functions without arguments, interleaved, and their GFLOP, counted in the round that warms up."""
    work, taken = [], [[] for _ in steps]
    for step in steps:
        with FlopCounterMode(display=False) as counter:
            step(torch.no_grad)
        work.append(counter.get_total_flops() / 1e9)
    for _ in range(repeats):
        for step, seconds in zip(steps, taken, strict=True):
            start = time.process_time()
            step()
            seconds.append(time.process_time() - start)
    return [statistics.median(seconds) for seconds in taken], work


def under(context, step):
    """The step within `torch.inference_mode` (as `Segmenter` runs) or `torch.no_grad` (as the authors' code does)."""

    def run(context=context):
        with context():
            return step()

    return run


@torch.no_grad()
def frame_steps(side, frame, masks, features, memories, sensory) -> dict:
    """{row: step} of one side, ours or plain; reads for every memory."""
    readout = side.read(memories[min(memories)], features)
    return {
        "encode": lambda: side.encode(frame),
        "memorize": lambda: side.memorize(frame, features, masks, sensory),
        "decode": lambda: side.decode(readout, features, sensory),
    } | {f"read {t:2}": lambda memory=memory: side.read(memory, features) for t, memory in memories.items()}


@torch.no_grad()
def remember(network, objects: int, count: int):
    """(frames, masks, stored frames, sensory memory): `count` frames memorized, and one more to be segmented."""
    frames, masks = scene(count + 1, objects)
    exact, stored = Ours(network), []
    sensory = network.start_sensory(exact.encode(frames[0]).key, objects)
    for t in range(count):
        memory_frame, sensory = exact.memorize(frames[t], exact.encode(frames[t]), masks[t], sensory, t)
        stored.append(memory_frame)
    return frames, masks, stored, sensory


@torch.no_grad()
def compare(network, objects: int, remembered, options) -> None:
    """Prints one network with so many of the objects remembered: parts, whole frames, and how far the results differ."""
    frames, masks, stored, sensory = remembered
    masks, sensory = masks[-1][:, :objects], None if sensory is None else sensory[:, :objects]
    memories = {t: [frame.of_objects(0, objects) for frame in stored[:t]] for t in options.frames}
    left = Ours(network, "bf16" if options.bf16 else "fp32")
    if options.bf16 == "ours":
        right, plain_memories, context = Ours(network), memories, torch.inference_mode
    else:
        right, context = PlainSteps(network, options.everything), torch.no_grad
        plain_memories = {t: as_plain_memory(memory) for t, memory in memories.items()}
    both = [
        frame_steps(side, frames[-1], masks, side.encode(frames[-1]), some, sensory)
        for side, some in ((left, memories), (right, plain_memories))
    ]
    rows, every = list(both[0]), frames_between(network)
    steps = [under(torch.inference_mode, both[0][row]) for row in rows]
    steps += [under(context, both[1][row]) for row in rows]
    if options.bf16 != "ours":  # what the plain network spends on one long tensor of keys, another of values
        steps += [under(torch.no_grad, lambda t=t: joined(plain_memories[t], t)) for t in options.frames]
    seconds, work = measure(steps, options.repeats)
    n = len(rows)
    columns = [
        dict(zip(rows, some, strict=True)) for some in (seconds[:n], seconds[n : 2 * n], work[:n], work[n : 2 * n])
    ]
    join = dict(zip(options.frames, seconds[2 * n :], strict=False))
    title = f"{type(network).__name__}, {objects} object{'s' if objects > 1 else ''}"
    names = "bf16" if options.bf16 else "ours", "fp32" if options.bf16 == "ours" else "plain"
    print(f"\n{title:18} {names[0]:>9} {names[1]:>9} {'faster':>7} {'GFLOP':>8} {names[1]:>8}")
    for row in rows:
        show(f"  {row}", *(column[row] for column in columns))
    for t in options.frames:
        ours, plain, *flops = (x["encode"] + x[f"read {t:2}"] + x["decode"] + x["memorize"] / every for x in columns)
        show(f"frame, t = {t}", ours, plain + join.get(t, 0) / every, *flops)
    show_differences(left, right, frames[-1], memories[max(memories)], plain_memories[max(memories)], sensory)


def show(label, mine, other, *flops) -> None:
    """One line of the table."""
    print(f"{label:18} {mine:8.3f}s {other:8.3f}s {other / mine:6.2f}x {flops[0]:8.1f} {flops[1]:8.1f}", flush=True)


def joined(memory, t) -> tuple:
    """The plain memory of t frames, made anew from its first t - 1 and its last."""
    positions = memory[0].shape[2] // t
    old = tuple(x if x is None else x[:, :, :-positions] for x in memory)
    return Plain.add(old, tuple(x if x is None else x[:, :, -positions:] for x in memory))


def show_differences(left, right, frame, memory, plain_memory, sensory) -> None:
    """Both sides' logits of the same frame from the same memory."""
    found = []
    for side, kept in ((left, memory), (right, plain_memory)):
        features = side.encode(frame)
        found.append(side.decode(side.read(kept, features), features, sensory)[0].float().flatten())
    difference = (found[0] - found[1]).abs()
    print(
        f"  logits differ by at most {difference.max():.1e}, 999 of 1000 by less than "
        f"{difference.sort().values[int(0.999 * len(difference))]:.1e}; they go from {found[1].min():.2f} to {found[1].max():.2f}"
    )


# ------------------------------------------------------------------ memory


def peak_megabytes(name, objects, t, side, everything) -> float:
    """Peak resident memory of one frame above what libraries take, in a process of its own."""
    command = [sys.executable, __file__, "--peak", side, "--networks", name]
    command += ["--objects", str(objects), "--frames", str(t)] + ["--everything"] * everything
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@torch.inference_mode()
def print_peak(name, objects, t, side, everything) -> None:
    """The child process: the peak of a frame, with random frames stored."""
    conv = nn.Conv2d(8, 8, 3, padding=1)
    conv(torch.randn(1, 8, 32, 32)) @ torch.randn(32, 32)  # libraries are loaded
    libraries = resident("VmRSS")
    network = getattr(networks, name)().eval()
    if side == "plain":
        steps = PlainSteps(network, everything)
    else:
        steps = Ours(network, "bf16" if side == "bf16" else "fp32")
    start = steps.plain.network if side == "plain" else steps.network
    del network
    frame, masks = scene(1, objects)
    height, width = (n // start.cell for n in frame[0].shape[-2:])
    per_key = objects if name == "STM" else 1
    memory = []
    for i in range(t):
        key = torch.randn(per_key, start.key_channels, height, width)
        value = torch.randn(per_key, objects // per_key, start.value_channels, height, width)
        memory.append(
            start.reader.store(key, value, i, shrinkage=torch.ones(1, 1, height, width) if name == "XMem" else None)
        )
        if name == "STM":
            memory[-1] = networks.stm.replace(memory[-1], batch_objects=objects)
    memory = as_plain_memory(memory) if side == "plain" else memory
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak so far is forgotten (Linux)
    features = steps.encode(frame[0])
    sensory = start.start_sensory(torch.zeros(1, 1, height, width), objects)
    steps.decode(steps.read(memory, features), features, sensory)
    stored, _ = steps.memorize(frame[0], features, masks[0], sensory)
    if side == "plain":
        memory = Plain.add(memory, stored)
    print((resident("VmHWM") - libraries) / 1024)


def resident(field) -> int:
    """VmRSS (now) or VmHWM (peak) in kilobytes. Not ru_maxrss, which a process inherits from the one that started it."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def show_memory(name, objects, t, everything) -> None:
    """One line."""
    ours, plain = (peak_megabytes(name, objects, t, side, everything) for side in ("ours", "plain"))
    print(f"peak MB, t = {t:<6} {ours:8.0f}  {plain:8.0f}  {plain / ours:6.2f}x", flush=True)


# ------------------------------------------------------------------ bfloat16


def cpu_flags() -> str:
    """Which bfloat16 instructions this CPU has: tiles make it six times as fast as float32, vector instructions twice."""
    with open("/proc/cpuinfo") as file:
        flags = next((line.split() for line in file if line.startswith("flags")), [])
    return ", ".join(f"{flag} {'yes' if flag in flags else 'no'}" for flag in ("amx_bf16", "avx512_bf16"))


@torch.inference_mode()
def show_scores(count: int = 12, level: str = "medium") -> None:
    """J and F of every shipped network on held-out synthetic clips, in float32 and in bfloat16."""
    clips = held_out_clips(level, count)
    print(
        f"{count} held-out clips, level {level}\n{'network':26} {'J&F fp32':>9} {'bf16':>7} {'change':>8}   changed pixels"
    )
    for info in list_networks():
        network, masks, scores = load(info.name), {}, {}
        for precision in ("fp32", "bf16"):
            masks[precision] = [
                segment(network, clip.frames, {0: clip.index_masks[0]}, precision=precision, short_side=0).index_masks
                for clip in clips
            ]
            found = [metrics.score(mask, clip.index_masks) for mask, clip in zip(masks[precision], clips, strict=True)]
            scores[precision] = statistics.mean(score.JF for score in found)
        changed = statistics.mean((a != b).float().mean().item() for a, b in zip(*masks.values(), strict=True))
        change = scores["bf16"] - scores["fp32"]
        print(
            f"{info.name:26} {scores['fp32']:9.4f} {scores['bf16']:7.4f} {change:+8.4f}   {100 * changed:.3f} %",
            flush=True,
        )


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 3])
    parser.add_argument("--frames", nargs="+", type=int, default=[1, 5, 10, 20], help="memory frames")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--everything", action="store_true", help="the plain network repeats all there is to repeat")
    parser.add_argument("--bf16", choices=("ours", "plain"), help="ours in bfloat16, against ours or plain in float32")
    parser.add_argument("--bf16-scores", action="store_true", help="J and F of the shipped networks in both")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    if options.peak:
        print_peak(options.networks[0], options.objects[0], options.frames[0], options.peak, options.everything)
        return
    print(f"{SIZE[0]} x {SIZE[1]}, {torch.get_num_threads()} thread(s), torch {torch.__version__}; {cpu_flags()}")
    if options.bf16_scores:
        show_scores()
        return
    for name in options.networks:
        network = make_network(name)
        remembered = remember(network, max(options.objects), max(options.frames))
        for objects in options.objects:
            compare(network, objects, remembered, options)
            for t in [] if options.no_memory or options.bf16 else sorted({min(options.frames), max(options.frames)}):
                show_memory(name, objects, t, options.everything)


if __name__ == "__main__":
    main()
