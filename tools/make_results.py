"""Make the tables and figures of docs/results.md anew, in place.

    python tools/make_results.py synthetic                          offline, from what is in the repository; minutes on two cores
    python tools/make_results.py synthetic --again                  the same with every clip scored anew, variants trained again: hours
    python tools/make_results.py davis-mini --data ROOT [--again]   the parts on real clips, for a folder in DAVIS layout

What is made stands between the lines `<!-- begin NAME -->` and `<!-- end NAME -->`; the rest of the page is written by hand. Scores of single clips
lie in docs/data/*.csv: a row that is there is not computed again, unless --again, which forgets them first. `synthetic` covers everything that
needs no data set but the three-seed tables of sections 1 and 1b, whose own command trains for hours (benchmarks/readers.py), and the speeds of
section 3.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import ablation as study  # noqa: E402  (benchmarks/ablation.py, whose variants these are)
import torch  # noqa: E402

from tmrn_edu.ablation import OWN, Job, Worth, run_jobs, summarise, table, variant_of  # noqa: E402
from tmrn_edu.compare import compare_runs  # noqa: E402
from tmrn_edu.data.files import atomic_path  # noqa: E402
from tmrn_edu.data.synthetic import LEVELS, make_clip  # noqa: E402
from tmrn_edu.evaluate import RepeatFirst, evaluate, write_json  # noqa: E402
from tmrn_edu.evaluate_clips import affinity_shares, held_out_clips  # noqa: E402
from tmrn_edu.looking import look  # noqa: E402
from tmrn_edu.runs import read_run  # noqa: E402
from tmrn_edu.segmenter import segment  # noqa: E402
from tmrn_edu.tables import render  # noqa: E402
from tmrn_edu.train import show_progress  # noqa: E402
from tmrn_edu.viz.ablation import differences_figure  # noqa: E402
from tmrn_edu.viz.affinity import affinity_figure  # noqa: E402
from tmrn_edu.viz.comparison import qualitative_figure  # noqa: E402

DATA, IMAGES = ROOT / "docs" / "data", ROOT / "docs" / "images"
SEEDS = (0, 1, 2)
PICTURE_SEED = 3
FLOOR = "repeat_first"
QUALITATIVE = (("medium", 0), ("hard", 4))
TINY = [
    *("stm-tiny", "tmrn-stm-tiny"),
    *("stcn-tiny", "tmrn-stcn-tiny", "tmrn-stcn-chained-tiny"),
    *("xmem-tiny", "tmrn-xmem-tiny", "tmrn-xmem-chained-tiny"),
]
LOOKED_AT = [
    "",
    "agents=8",
    "agents=8 start=random",
    "agents=8 place=3",
    "agents=8 scales=2",
    "chain=0.1",
    "mutual=0.05",
]


def run(name: str, jobs: list[Job], options) -> list[dict[str, str]]:
    """The rows of these jobs, from docs/data/NAME.csv as far as it has them."""
    path = DATA / f"{name}.csv"
    DATA.mkdir(exist_ok=True)
    if options.again:
        path.unlink(missing_ok=True)
    return run_jobs(jobs, path, options.runs, options.workers, show_progress())


def draw(rows, name: str, words: str) -> str:
    """The differences of a table as a picture; returns the Markdown that shows it."""
    panels: dict[str, list] = {}
    for one in summarise(rows):
        if one.variant != OWN:
            panels.setdefault(Path(one.data).name, []).append((one.variant, one.difference))
    save(differences_figure(panels, OWN), name)
    return f"![{words}](images/{name}.png)"


def save(figure, name: str) -> None:
    """A figure into docs/images, whole or not at all."""
    IMAGES.mkdir(exist_ok=True)
    with atomic_path(IMAGES / f"{name}.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def synthetic_parts(options) -> str:
    """Variants of the reader in stcn-tiny, as they stand."""
    jobs = [
        Job("stcn-tiny", words, level, seed, clips=8) for seed in SEEDS for level in LEVELS for words in study.PARTS
    ]
    rows = run("ablation_synthetic", jobs, options)
    picture = draw(
        rows, "ablation_synthetic", "What each part of a reader is worth in stcn-tiny, training-free, by level"
    )
    return f"{picture}\n\n{table(rows)}"


def trained_parts(options) -> str:
    """Variants of the reader in stcn-tiny, each trained on for some steps."""
    jobs = [
        Job("stcn-tiny", words, level, seed, 80, clips=16)
        for seed in SEEDS
        for level in LEVELS
        for words in study.TRAINED
    ]
    rows = run("ablation_trained", jobs, options)
    picture = draw(
        rows, "ablation_trained", "What each reader is worth in stcn-tiny after 80 steps of training, by level"
    )
    return f"{picture}\n\n{table(rows)}"


def tiny_networks(options) -> str:
    """The shipped tiny networks: each baseline, its TMRN forms, and their differences."""
    jobs = [Job(name, "preset=own", level, 0, clips=32) for name in TINY for level in LEVELS]
    rows = run("networks_synthetic", jobs, options)
    lines = ["| network | " + " | ".join(LEVELS) + " |", "|---" * (1 + len(LEVELS)) + "|"]
    for name in TINY:
        base = name.removeprefix("tmrn-").replace("-chained", "")
        cells = [difference(rows, base, name, level) for level in LEVELS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(rows, base: str, name: str, level: str) -> str:
    """ "0.685, +0.034 [+0.010, +0.058] *": J, and what it is above the baseline, over the same clips."""

    def as_study(network: str, words: str) -> list[dict[str, str]]:
        some = [row for row in rows if row["network"] == network and row["data"] == level]
        return [row | {"network": "", "variant": words} for row in some]

    found: list[Worth] = summarise(as_study(base, "") + (as_study(name, name) if name != base else []))
    one = found[-1]
    mean, low, high = one.difference
    gain = f", {mean:+.3f} [{low:+.3f}, {high:+.3f}]" + " *" * one.difference.excludes_zero()
    return f"{one.J:.3f}" + ("" if name == base else gain)


def affinities(options) -> str:
    """What the target's pixels look at, with and without agents, in numbers and on one clip."""
    lines = ["| level | variant | on the target | on look-alikes | elsewhere |", "|---|---|---|---|---|"]
    for level in ("medium", "hard"):
        clips = held_out_clips(level, 24)
        for words in LOOKED_AT:
            torch.manual_seed(0)
            shares = affinity_shares(variant_of(Job("stcn-tiny", words, level, 0)).eval(), clips)
            cells = " | ".join(f"{share:.3f}" for share in shares.values())
            lines.append(f"| {level} | {words or OWN} | {cells} |")
    clip = held_out_clips("medium", 1, first_seed=PICTURE_SEED)[0]
    looks = {
        words or OWN: look(
            variant_of(Job("stcn-tiny", words, "medium", 0)).eval(), clip.frames, clip.index_masks, 7, (0, 2, 4, 6)
        )
        for words in ("", "agents=8", "agents=8 place=3", "chain=0.1")
    }
    ys, xs = (clip.layers[7] == 1).nonzero().double().mean(0).round().long().tolist()
    save(affinity_figure(looks, (ys, xs)), "agents_and_look_alikes")
    words = "Where a pixel of the target looks in four memory frames: without agents, with agents, with agents of places, chained"
    return "\n".join([f"![{words}](images/agents_and_look_alikes.png)", "", *lines])


def qualitative(options) -> str:
    """Two clips, five networks, the truth: where they differ most."""
    rows = {"STM": "stm-tiny", "STCN": "stcn-tiny", "STCN + TMRN": "tmrn-stcn-chained-tiny", "XMem": "xmem-tiny"}
    rows["XMem + TMRN"] = "tmrn-xmem-chained-tiny"
    lines = []
    for level, seed in QUALITATIVE:
        clip = make_clip(seed, level, frames=16)
        found = {
            words: segment(name, clip.frames, {0: clip.index_masks[0]}, memory_every=1) for words, name in rows.items()
        }
        masks = {words: one.index_masks for words, one in found.items()}
        figure = qualitative_figure(clip.frames, masks, clip.index_masks, show_J=True)
        save(figure, f"qualitative_{level}")
        lines.append(f"![Five small networks on a {level} clip, seed {seed}](images/qualitative_{level}.png)")
    return "\n\n".join(lines)


def davis_parts(options) -> str:
    """Variants of the reader in stcn-mobile on real clips, as they stand."""
    jobs = [Job("stcn-mobile", words, str(options.data), 0, frames=40) for words in study.REAL]
    rows = run("ablation_davis_mini", jobs, options)
    return table(rows)


def scored(name: str, options, words: str, rows: int | None = None):
    """A shipped network on the split, or the floor; from docs/data/davis_mini as far as it is there."""
    path = DATA / "davis_mini" / (f"{name}.json" if rows is None else f"{name}_{rows}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    if options.again or not path.exists():
        method = {"segmenter": RepeatFirst} if name == FLOOR else {"network": name, "short_side": rows}
        write_json(path, evaluate("davis2017", options.data, **method, progress=show_progress()))
    return read_run(f"{words}={path}")


def davis_tiny(options) -> str:
    """The small networks on real clips: J / F of every sequence, then of all objects."""
    runs = [scored(FLOOR, options, "first mask repeated"), *(scored(name, options, name) for name in TINY)]
    found = compare_runs(runs, per="sequence")
    groups = [("sequence", name) for name in found.groups("sequence")] + [("all", "")]
    lines = [
        "| J / F | " + " | ".join(name or "all objects" for _, name in groups) + " | J&F |",
        "|---" * (len(groups) + 2) + "|",
    ]
    for run in runs:
        cells = [
            " / ".join(f"{found.find(m, run.name, kind=kind, group=group).value:.3f}" for m in ("J", "F"))
            for kind, group in groups
        ]
        lines.append(f"| {run.name} | " + " | ".join(cells) + f" | {found.find('J&F', run.name).value:.3f} |")
    return "\n".join(lines)


def davis_networks(options) -> str:
    """The mobile networks on real clips, at their own size and at 480 rows: scores, differences, per sequence and attribute."""
    names = {
        "STCN": "stcn-mobile",
        "STCN + TMRN (warm)": "tmrn-stcn-mobile",
        "STCN + TMRN (tracking)": "tmrn-stcn-tracking-mobile",
    }
    runs = []
    for words, name in names.items():
        runs.append(scored(name, options, words))
        if name != "tmrn-stcn-mobile":
            runs.append(scored(name, options, f"{words}, 480 rows", 480))
    small = [run for run in runs if "rows" not in run.name]
    by_sequence = render(compare_runs(runs, per="sequence"), "markdown")
    by_attribute = render(compare_runs([small[0], small[-1]], per="attribute"), "markdown")
    by_attribute = by_attribute[by_attribute.index("**J&F per attribute") :]
    return f"{by_sequence}\n\n{by_attribute}"


PARTS: dict[str, dict[str, Callable]] = {
    "synthetic": {
        "networks-synthetic": tiny_networks,
        "ablation-synthetic": synthetic_parts,
        "ablation-trained": trained_parts,
        "affinities": affinities,
        "qualitative-synthetic": qualitative,
    },
    "davis-mini": {
        "tiny-davis-mini": davis_tiny,
        "networks-davis-mini": davis_networks,
        "ablation-davis-mini": davis_parts,
    },
}


def put(page: str, name: str, text: str) -> str:
    """The page with `text` between the two lines of that name."""
    begin, end = f"<!-- begin {name} -->\n", f"\n<!-- end {name} -->"
    if page.count(begin) != 1 or page.count(end) != 1:
        raise SystemExit(
            f"the page has {page.count(begin)} lines {begin.strip()!r} and {page.count(end)} {end.strip()!r}, expected one of each"
        )
    before, _, rest = page.partition(begin)
    return before + begin + text + end + rest.partition(end)[2]


def main() -> None:
    """Parses, makes, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--data", type=Path, help="for davis-mini: a folder in DAVIS layout")
    parser.add_argument("--only", nargs="+", help="only these blocks of the page")
    parser.add_argument("--again", action="store_true", help="forget the stored scores first")
    parser.add_argument(
        "--runs", type=Path, default=ROOT / "runs" / "ablation", help="where trainings go (%(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.part == "davis-mini" and options.data is None:
        parser.error("davis-mini without --data, expected a folder in DAVIS layout")
    if strange := [name for name in options.only or () if name not in PARTS[options.part]]:
        parser.error(f"no block is called {', '.join(strange)}; {options.part} has {', '.join(PARTS[options.part])}")
    blocks = {name: make for name, make in PARTS[options.part].items() if not options.only or name in options.only}
    page = ROOT / "docs" / "results.md"
    for name in blocks:
        put(page.read_text(), name, "")  # before anything is computed
    for name, make in blocks.items():
        text = make(options)
        with atomic_path(page) as temporary:
            temporary.write_text(put(page.read_text(), name, text))
        print(f"made {name}", flush=True)


if __name__ == "__main__":
    main()
