"""What training spends: on making clips beside the step that uses them, measured; and, with --costs, what full-size runs would cost, estimated.

    OMP_NUM_THREADS=1 python benchmarks/training.py                              both stages of stm_small, stcn_small and xmem_small
    OMP_NUM_THREADS=1 python benchmarks/training.py tmrn_stcn_small --steps 20 --rounds 3
    OMP_NUM_THREADS=1 python benchmarks/training.py --data DAVIS                 on data of yours instead of synthetic videos
    OMP_NUM_THREADS=1 python benchmarks/training.py stcn_video --loader --data DAVIS         how fast clips of full size are made
    python benchmarks/training.py --costs                                        the tables of docs/training.md, minutes on one core

*loader*: clips made by `training.loading.batches` in this process, batch after batch. *first*: every synthetic video has to be painted when it is
first drawn; *again*: the same clips once more, all videos kept. *step*: the same batches, ready, through `ClipObjective`, backward pass and
optimiser. *both*: the step fed by the loader as in a run, from its first step on; without a worker process videos are painted on the way, with one
they are painted before the first step, which takes the time in the line *painting*, once. All take turns in every round. `clips/s` are by the clock,
so other work on the machine slows them; `CPU ms` are those of this process, not of a worker: what loading takes from training where there is a second
core. A step of the loop in `train.py` also logs and draws.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402  (the number of threads is read at import)

from tmrn_edu.courses import find_recipe, list_recipes  # noqa: E402
from tmrn_edu.data import video_clips  # noqa: E402
from tmrn_edu.data.clips import Batch  # noqa: E402
from tmrn_edu.training.cost import GPUS, LAUNCH, RESERVE, UTILISATION, estimate, measure  # noqa: E402
from tmrn_edu.training.loading import batches  # noqa: E402
from tmrn_edu.training.objective import ClipObjective, Parcel, make_optimiser  # noqa: E402
from tmrn_edu.training.schedule import curriculum  # noqa: E402
from tmrn_edu.training.settings import Course, Recipe  # noqa: E402
from tmrn_edu.training.sources import make_data  # noqa: E402

SMALL = ("stm_small", "stcn_small", "xmem_small")
FULL = tuple(
    f"{tmrn}{n}_{stage}" for n in ("stm", "stcn", "xmem") for stage in ("static", "video") for tmrn in ("", "tmrn_")
)
MODES = ("loader, first", "loader, again", "step", "both, 0 workers", "both, 1 worker")
PAINTING = "painting"  # all synthetic videos, once: in seconds, not for each step


# ------------------------------------------------------------------ throughput


def forget_videos() -> None:
    """Synthetic videos kept by this process are dropped, so that they are painted anew, as in a run that begins."""
    video_clips._kept.clear()


def make_step(recipe: Recipe) -> Callable[[int, Batch], None]:
    """A function that takes a training step, as `train.Run` does."""
    settings = recipe.settings
    network = recipe.build(settings.seed).train()
    objective, optimiser = ClipObjective(network, settings), make_optimiser(network, settings)

    def take(step: int, batch: Batch) -> None:
        optimiser.zero_grad(set_to_none=True)
        loss, _, _ = objective(Parcel(batch, curriculum(settings, step), torch.Generator().manual_seed(step)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_gradient or float("inf"))
        optimiser.step()

    return take


def clocked(stream: Iterator, use: Callable[[int, Batch], None], steps: int) -> tuple[float, float]:
    """Seconds of the clock, and of this process' CPU, for each of `steps` steps. The first batch, for which workers start, is ready before."""
    ready = next(stream)
    clock, cpu = time.perf_counter(), time.process_time()
    for step in range(steps):
        use(step, ready)
        ready = next(stream)
    return (time.perf_counter() - clock) / steps, (time.process_time() - cpu) / steps


def throughput(
    recipe: Recipe, roots: list[str], steps: int, rounds: int, loader: bool = False
) -> dict[str, tuple[float, float]]:
    """Median (seconds of the clock, of the CPU) per step, of every mode, or of the loader alone."""
    data, _, _ = make_data(recipe, roots)
    stream = lambda workers: batches(data, recipe.with_settings(workers=workers).settings)
    forget_videos()
    prepared = [batch for batch, _ in zip(stream(0), range(steps + 1), strict=False)]
    nothing = lambda step, batch: None
    step = nothing if loader else make_step(recipe)
    for warm in range(2):
        step(warm, prepared[warm])
    taken = {mode: [] for mode in (MODES[:2] if loader else MODES)}
    for _ in range(rounds):
        forget_videos()
        taken["loader, first"].append(clocked(stream(0), nothing, steps))
        taken["loader, again"].append(clocked(stream(0), nothing, steps))
        if loader:
            continue
        taken["step"].append(clocked(iter(prepared), step, steps))
        forget_videos()
        taken["both, 0 workers"].append(clocked(stream(0), step, steps))
        forget_videos()
        clock = time.perf_counter()
        data.prepare()
        painted = time.perf_counter() - clock
        taken["both, 1 worker"].append(clocked(stream(1), step, steps))
        taken.setdefault(PAINTING, []).append((painted, painted))
    return {
        mode: tuple(statistics.median(column) for column in zip(*pairs, strict=True)) for mode, pairs in taken.items()
    }


def show_throughput(recipe: Recipe, options: argparse.Namespace) -> None:
    """The lines of one recipe."""
    found = throughput(recipe, options.data, options.steps, options.rounds, options.loader)
    for mode, (clock, cpu) in found.items():
        if mode == PAINTING:
            whole = recipe.settings.steps * found["step"][0]
            print(
                f"| {'':22} | painting, {clock:.1f} s, once: {clock / whole:.0%} of the {recipe.settings.steps} steps of the stage | | | |"
            )
            continue
        share = ""
        if "step" in found and mode != "step":
            share = f"{clock / found['step'][0]:.0%}, {cpu / found['step'][1]:.0%}"
        name = recipe.name if mode == MODES[0] else ""
        print(
            f"| {name:22} | {mode:16} | {recipe.settings.batch / clock:7.1f} | {1e3 * cpu:7.1f} | {share:10} |",
            flush=True,
        )


# ------------------------------------------------------------------ costs


def show_costs(names: list[str], counts: list[int]) -> None:
    """What is counted of every recipe, then hours and memory for so many GPUs of every kind, as Markdown."""
    costs = [measure(find_recipe(name)) for name in names]
    print(
        "| recipe | steps x clips | GFLOP a clip | EFLOP a run | million weights | kept a clip, GiB | launches a step |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, cost in zip(names, costs, strict=True):
        numbers = f"{cost.clip_flops / 1e9:,.0f} | {cost.run_flops / 1e18:.2f} | {cost.parameters / 1e6:.1f}"
        kept = f"{cost.clip_activations / 2**30:.2f} | {cost.launches:,}"
        print(f"| {name} | {cost.settings.steps:,} x {cost.settings.batch} | {numbers} | {kept} |")
    assumed = f"{UTILISATION:.0%} of the peak, {1e6 * LAUNCH:.0f} us a launch, {RESERVE / 2**30:.1f} GiB in reserve"
    for count in counts:
        print(f"\n**Estimate, {count} GPU{'s' if count > 1 else ''}: hours, and GiB of each** ({assumed})\n")
        print("| recipe | " + " | ".join(GPUS) + " |")
        print("|---|" + "--:|" * len(GPUS))
        for name, cost in zip(names, costs, strict=True):
            print(f"| {name} | " + " | ".join(cell(cost, gpu, count) for gpu in GPUS) + " |", flush=True)


def cell(cost, gpu: str, count: int) -> str:
    """ "38 h, 7 GiB"; "/2": the clips in two parts; "*": the GPU waits for launches; "-": too large."""
    found = estimate(cost, gpu, count)
    if not found.fits:
        return "-"
    hours = f"{found.hours:.0f}" if found.hours >= 10 else f"{found.hours:.1f}"
    parts = f"/{found.accumulate}" if found.accumulate > 1 else ""
    return f"{hours}{'*' * found.waits} h, {found.gibibytes:.0f} GiB{parts}"


def stages_of(name: str) -> list[Recipe]:
    """A recipe, or those of a course."""
    found = find_recipe(name)
    return list(found.stages) if isinstance(found, Course) else [found]


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help=f"of {', '.join(sorted(list_recipes()))}")
    parser.add_argument("--data", nargs="+", default=[], metavar="ROOT", help="as of tmrn-edu train")
    parser.add_argument("--steps", type=int, default=12, help="steps a turn (%(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="turns of everything (%(default)s)")
    parser.add_argument("--loader", action="store_true", help="the loader alone")
    parser.add_argument("--costs", action="store_true", help="estimate what full-size runs cost")
    parser.add_argument("--gpus", nargs="+", type=int, default=[1, 2, 8], metavar="N", help="with --costs: how many")
    options = parser.parse_args()
    if options.costs:
        show_costs(options.recipes or FULL, options.gpus)
        return
    torch.set_flush_denormal(True)
    print(
        f"{torch.get_num_threads()} thread(s), {os.cpu_count()} cores, torch {torch.__version__}; {options.rounds} x {options.steps} steps\n"
    )
    print("| recipe | | clips/s | CPU ms a batch | of the step alone: clock, CPU |\n|---|---|--:|--:|--:|")
    for name in options.recipes or SMALL:
        for recipe in stages_of(name):
            show_throughput(recipe, options)


if __name__ == "__main__":
    main()
