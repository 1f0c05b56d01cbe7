"""What a memory reader is worth: the shipped recipes, trained alike, compared clip by clip.

    python benchmarks/readers.py --out runs                      trains 3 readers x 3 seeds (about 10 to 13 CPU-minutes each), then prints the tables
    python benchmarks/readers.py --out runs --score-only         prints them again from the trained weights
    python benchmarks/readers.py --out runs --train-only --seeds 1 --recipes stcn_tiny        one run, for use in several processes
    python benchmarks/readers.py --out runs --seeds 0 --recipes stm_tiny tmrn_stm_tiny tmrn_stm_chained_tiny         another network

Within a seed all readers see the same batches in the same order and start from the same weights in all shared parts. Clips are held out
(`evaluate_clips.held_out_clips`). Differences to the baseline are paired over clips: per seed, and with each clip's difference averaged over seeds
first; "+-" is one standard error over clips.
"""

import argparse
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tmrn_edu.data.clips import SyntheticClips
from tmrn_edu.data.synthetic import LEVELS
from tmrn_edu.evaluate_clips import ClipScores, held_out_clips, score_clips, trajectory_pck
from tmrn_edu.train import show_progress, train
from tmrn_edu.weights import load

RECIPES = ("stcn_tiny", "tmrn_stcn_tiny", "tmrn_stcn_chained_tiny")
EVERY_RECIPE = [reader.replace("stcn", network) for network in ("stm", "stcn", "xmem") for reader in RECIPES]


def run_folder(out: Path, recipe: str, seed: int) -> Path:
    """Where one run lives."""
    return out / f"{recipe}-seed{seed}"


def train_all(out: Path, recipes, seeds, steps: int | None) -> None:
    """Trains what is not trained yet; a broken run goes on from its checkpoint."""
    data = SyntheticClips()
    for seed in seeds:
        for name in recipes:
            folder = run_folder(out, name, seed)
            if (folder / "network.safetensors").exists():
                continue
            recipe = importlib.import_module(f"tmrn_edu.recipes.{name}").RECIPE
            settings = replace(recipe.settings, seed=seed, steps=steps or recipe.settings.steps)
            train(
                replace(recipe, settings=settings),
                folder,
                (folder / "checkpoint.pt").exists(),
                progress=show_progress(),
                data=data,
            )


def score_all(out: Path, recipes, seeds, count: int, first_seed: int) -> dict:
    """{level: {recipe: {seed: (ClipScores, PCK)}}}."""
    scores = {level: {name: {} for name in recipes} for level in LEVELS}
    for level in LEVELS:
        clips = held_out_clips(level, count, first_seed=first_seed)
        for name in recipes:
            for seed in seeds:
                network = load(run_folder(out, name, seed) / "network.safetensors")
                scores[level][name][seed] = score_clips(network, clips), trajectory_pck(network, clips)
    return scores


def mean_and_error(values: np.ndarray) -> str:
    """Mean and standard error over clips."""
    return f"{values.mean():+.4f} +- {values.std(ddof=1) / len(values) ** 0.5:.4f}"


def table(scores: dict, recipes, seeds) -> str:
    """Markdown: scores, then paired differences to the first recipe."""
    lines = ["| level | reader | J | F | J, true memories | trajectory PCK |", "|---|---|---|---|---|---|"]
    for level, by_recipe in scores.items():
        for name in recipes:
            runs = [by_recipe[name][seed] for seed in seeds]
            mean = {key: np.mean([getattr(run[0], key) for run in runs]) for key in ClipScores.__dataclass_fields__}
            pck = np.mean([run[1] for run in runs])
            lines.append(
                f"| {level} | {name} | {mean['J']:.3f} | {mean['F']:.3f} | {mean['J_true_memory']:.3f} | {pck:.3f} |"
            )
    header = "".join(f" seed {seed} |" for seed in seeds)
    lines += [
        "",
        f"| level | reader - {recipes[0]} | of | all seeds |{header}",
        "|---|---|---|---|" + "---|" * len(seeds),
    ]
    for level, by_recipe in scores.items():
        for name in recipes[1:]:
            for key, label in (("J", "J"), ("J_true_memory", "J, true memories")):
                by_seed = [
                    getattr(by_recipe[name][s][0], key) - getattr(by_recipe[recipes[0]][s][0], key) for s in seeds
                ]
                cells = "".join(f" {mean_and_error(d)} |" for d in by_seed)
                lines.append(f"| {level} | {name} | {label} | {mean_and_error(np.mean(by_seed, axis=0))} |{cells}")
    return "\n".join(lines)


def main() -> None:
    """Parses, trains, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=EVERY_RECIPE, help="the first is the baseline")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="other than the recipes' own")
    parser.add_argument("--clips", type=int, default=64, help="held-out clips per level")
    parser.add_argument("--first-seed", type=int, default=0, help="of the held-out clips")
    parser.add_argument("--train-only", action="store_true")
    parser.add_argument("--score-only", action="store_true")
    parser.add_argument("--json", type=Path, help="also write every clip's J there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.score_only:
        train_all(options.out, options.recipes, options.seeds, options.steps)
    if options.train_only:
        return
    scores = score_all(options.out, options.recipes, options.seeds, options.clips, options.first_seed)
    print(table(scores, options.recipes, options.seeds))
    if options.json:
        plain = {
            level: {name: {seed: {k: getattr(run[0], k).round(5).tolist() for k in ClipScores.__dataclass_fields__} for seed, run in runs.items()}
                    for name, runs in by_recipe.items()} for level, by_recipe in scores.items()
        }  # fmt: skip
        options.json.write_text(json.dumps(plain))


if __name__ == "__main__":
    main()
