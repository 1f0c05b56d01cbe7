"""What single numbers of a trained reader are worth: set by hand, or switched off. The recorded tables of lessons 02 and 03.

    python benchmarks/parts.py                         measures (about 9 CPU minutes), writes docs/data/parts_synthetic.csv, prints four tables
    python benchmarks/parts.py --print                 prints the tables of the stored scores
    python benchmarks/parts.py --clips 4 --out x.csv   fewer clips, another file

    beta      chaining put into the trained stcn-tiny by hand: J of a clip's last frame, read from all earlier ones with true masks
    age       age put into the trained stcn-tiny by hand: J of whole clips
    off       parts of the trained tmrn-stcn-chained-tiny switched off: J of whole clips
    agents    untrained agents in stcn-tiny (8, tau 0.1, lambda 1): whom they prefer, the true match or its best-scoring rival

Nothing is trained. Clips are held out (`evaluate_clips.held_out_clips`), seeds 0 to 63 of the levels medium and hard. Differences are to the first
row of the level, paired over clips; "+-" is one standard error over clips.
"""

import argparse
import csv
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402  (the number of threads is read when torch is imported)
import torch  # noqa: E402
from einops import rearrange  # noqa: E402

import tmrn_edu as te  # noqa: E402
from tmrn_edu.data.files import atomic_path  # noqa: E402
from tmrn_edu.evaluate_clips import held_out_clips, score_clips  # noqa: E402

OUT = Path(__file__).resolve().parents[1] / "docs" / "data" / "parts_synthetic.csv"
LEVELS = ("medium", "hard")
TITLES = {
    "beta": "beta by hand in the trained stcn-tiny: the last frame, from true memories",
    "age": "w_age by hand in the trained stcn-tiny: whole clips",
    "off": "parts of the trained tmrn-stcn-chained-tiny switched off: whole clips",
    "agents": "true match against the best-scoring rival, frame 7 read from frame 4",
}
OFF = {  # the parameters that become zero
    "as trained": [],
    "beta = 0": ["beta"],
    "age = exact = 0": ["age.age", "age.exact"],
    "lambda = 0": ["rectify"],
    "attention = 0": ["attention.key.weight"],
    "age = exact = lambda = 0": ["age.age", "age.exact", "rectify"],
    "age = exact = lambda = attention = 0": ["age.age", "age.exact", "rectify", "attention.key.weight"],
}


def by_hand(network, **numbers):
    """The network, its read the space-time read with `beta` or `age` set."""
    reader = te.memory.TrajectoryReader(
        32, 64, agents=0, evidence=True, attention=False, chain="beta" in numbers, age="age" in numbers
    )
    for name, number in numbers.items():
        (reader.beta if name == "beta" else reader.age.age).fill_(number)
    network.reader = reader
    return network


def switched_off(*names):
    """The trained chained network with these parameters of its reader at zero."""
    network = te.load("tmrn-stcn-chained-tiny")
    for name in names:
        network.reader.get_parameter(name).zero_()
    return network


def last_frame(network, clips) -> dict[str, list[float]]:
    """J of each clip's last frame, all earlier ones being memory with true masks."""
    J = []
    for clip in clips:
        last = len(clip.frames) - 1
        seen = te.look(network, clip.frames, clip.index_masks, last, range(last))
        J.append(te.metrics.region_similarity(seen.predicted.numpy() == 1, clip.index_masks[last].numpy() == 1))
    return {"J, true memories": J}


def whole_clips(network, clips) -> dict[str, list[float]]:
    """J of each clip, memories predicted, and true."""
    scores = score_clips(network, clips)
    return {"J": scores.J.tolist(), "J, true memories": scores.J_true_memory.tolist()}


def votes(network, clips, memory: int = 4, query: int = 7) -> dict[str, list[float]]:
    """For each clip: target pixels whose true match is seen, how often similarity s, correlation g and both prefer it to its rival, and by how much.

    The rival is the cell on any other moving thing with the largest s. "wrong": pairs where s prefers the rival. Sums over pairs.
    """
    agents = te.memory.agents.Agents(key_channels=32, count=8)
    found = {}
    for clip in clips:
        key = network.encode(rearrange(clip.frames[[memory, query]], "t H W c -> t c H W") / 255).key
        described = agents.describe(key[:1])
        s = te.memory.negative_squared_l2(key[:1], key[1:])[0]
        g = te.memory.agents.agent_correlation(described.likelihood, agents.likelihood(key[1:], described))[0]
        log_g = torch.log(g + 1e-6)
        true = clip.correspondence(query=query, memory=memory)  # one pixel per cell, near its middle
        cell = (true.positions[2::4, 2::4] // 4).long().clamp(0, 23)
        target = true.visible[2::4, 2::4] & (clip.index_masks[query, 2::4, 2::4] == 1)
        q = rearrange(target, "h w -> (h w)").nonzero()[:, 0]
        m = rearrange(cell[..., 0] * 24 + cell[..., 1], "h w -> (h w)")[q]
        others = rearrange(clip.layers[memory, 2::4, 2::4] > 1, "h w -> (h w)")
        if not others.any() or not len(q):
            continue
        rival = s.masked_fill(rearrange(~others, "m -> m 1"), -torch.inf).argmax(dim=0)[q]
        s_margin, g_margin = s[m, q] - s[rival, q], log_g[m, q] - log_g[rival, q]
        wrong = s_margin < 0
        for name, values in {
            "pairs": torch.ones_like(s_margin),
            "s": s_margin > 0,
            "g": g_margin > 0,
            "s + log g": s_margin + g_margin > 0,
            "wrong": wrong,
            "g where wrong": (g_margin > 0) & wrong,
            "s margin where wrong": s_margin * wrong,
            "log g margin where wrong": g_margin * wrong,
        }.items():
            found.setdefault(name, []).append(float(values.sum()))
    return found


def measure(count: int):
    """Yields (table, level, part, {measure: one number a clip})."""
    stcn = te.load("stcn-tiny")
    for level in LEVELS:
        clips = held_out_clips(level, count)
        yield "agents", level, "lambda = 1", votes(stcn, clips)
        for beta in (0.0, 0.025, 0.1, 0.4, 10.0):
            yield "beta", level, f"beta = {beta:g}", last_frame(by_hand(stcn, beta=beta), clips)
        for age in (0.0, -8.0, 8.0):
            yield "age", level, f"w_age = {age:g}", whole_clips(by_hand(stcn, age=age), clips)
        for part, names in OFF.items():
            yield "off", level, part, whole_clips(switched_off(*names), clips)


def tables(rows: list[dict]) -> str:
    """All four, in Markdown."""
    values: dict[tuple, list[float]] = {}
    for row in rows:
        place = row["table"], row["level"], row["part"], row["measure"]
        values.setdefault(place, []).append(float(row["value"]))
    lines = []
    for table in ("beta", "age", "off"):
        parts = list(dict.fromkeys(part for name, _, part, _ in values if name == table))
        measures = list(dict.fromkeys(measure for name, _, _, measure in values if name == table))
        heads = [f"{level}, {measure}" for level in LEVELS for measure in measures]
        lines += [f"**{TITLES[table]}**", "", "| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
        for part in parts:
            cells = [cell(values, table, level, part, parts[0], name) for level in LEVELS for name in measures]
            lines.append(f"| {part} | " + " | ".join(cells) + " |")
        lines.append("")
    lines += [f"**{TITLES['agents']}**", "", "| | " + " | ".join(LEVELS) + " |", "|---|---|---|"]
    sums = [{key[3]: sum(found) for key, found in values.items() if key[:2] == ("agents", level)} for level in LEVELS]
    for words, top, below, digits in (
        ("pairs", "pairs", None, 0),
        ("s prefers the true match", "s", "pairs", 2),
        ("g prefers it", "g", "pairs", 2),
        ("s + log g prefers it", "s + log g", "pairs", 2),
        ("g prefers it, where s is wrong", "g where wrong", "wrong", 2),
        ("mean margin of s, where s is wrong", "s margin where wrong", "wrong", 2),
        ("mean margin of log g, where s is wrong", "log g margin where wrong", "wrong", 2),
    ):
        cells = [f"{found[top] / (found[below] if below else 1):.{digits}f}" for found in sums]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(values: dict, table: str, level: str, part: str, first: str, name: str) -> str:
    """The mean over clips, and the paired difference to the first row."""
    here, there = (np.array(values[table, level, p, name]) for p in (part, first))
    if part == first:
        return f"{here.mean():.3f}"
    difference = here - there
    return f"{here.mean():.3f}, {difference.mean():+.3f} +- {difference.std(ddof=1) / len(here) ** 0.5:.3f}"


def main() -> None:
    """Parses, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64, help="of a level (%(default)s)")
    parser.add_argument("--out", type=Path, default=OUT, metavar="CSV")
    parser.add_argument("--print", action="store_true", help="measure nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    if not options.print:
        with atomic_path(options.out) as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["table", "level", "part", "measure", "clip", "value"])
            for table, level, part, found in measure(options.clips):
                for name, numbers in found.items():
                    writer.writerows([table, level, part, name, i, f"{x:.4f}"] for i, x in enumerate(numbers))
    with options.out.open(newline="") as file:
        print(tables(list(csv.DictReader(file))))


if __name__ == "__main__":
    main()
