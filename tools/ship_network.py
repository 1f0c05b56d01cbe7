"""Put a trained network into the package: its weights, and beside them the record of how they were made and what they score.

    python tools/ship_network.py runs/stcn_tiny-seed0 --reader "space-time read" --command "tmrn-edu train stcn_tiny" --cpu-minutes 8

Writes tmrn_edu/weights/NAME.safetensors and NAME.json; the name is the recipe's. Scores are those of `evaluate_clips` on held-out synthetic clips.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch

from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.synthetic import LEVELS
from tmrn_edu.evaluate_clips import held_out_clips, score_clips, trajectory_pck
from tmrn_edu.weights import load

WEIGHTS = Path(__file__).resolve().parents[1] / "tmrn_edu" / "weights"


def measure(network: torch.nn.Module, clips: int) -> dict:
    """Scores per level: means over held-out clips with seeds 0 .. clips - 1."""
    scores = {}
    for level in LEVELS:
        some = held_out_clips(level, clips)
        found = score_clips(network, some)
        means = {"J": found.J.mean(), "F": found.F.mean(), "J, true memories": found.J_true_memory.mean()}
        means["trajectory PCK"] = trajectory_pck(network, some)
        scores[level] = {name: round(float(value), 3) for name, value in means.items()}
    return scores


def main() -> None:
    """Parses, copies, scores, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of tmrn-edu train")
    parser.add_argument("--reader", required=True, help="the reader in words")
    parser.add_argument("--command", required=True, help="the command that trained it")
    parser.add_argument("--cpu-minutes", type=float, required=True)
    parser.add_argument("--clips", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = json.loads((options.run / "run.json").read_text())
    network = load(options.run / "network.safetensors")
    record = {
        "name": run["recipe"],
        "baseline": f"{type(network).__name__} ({network.preset})",
        "reader": options.reader,
        "parameters": sum(p.numel() for p in network.parameters()),
        "origin": f"trained on synthetic clips alone: {options.command}",
        "licence": "MIT",
        "scores": measure(network, options.clips),
        "scores_on": f"{options.clips} held-out synthetic clips per level (seeds 0 to {options.clips - 1}), 8 frames of 96 x 96, "
        "all earlier frames in memory, DAVIS rule",
        "command": options.command,
        "seed": run["settings"]["seed"],
        "cpu_minutes": options.cpu_minutes,
        "settings": run["settings"],
    }
    with atomic_path(WEIGHTS / f"{record['name']}.safetensors") as temporary:
        shutil.copyfile(options.run / "network.safetensors", temporary)
    with atomic_path(WEIGHTS / f"{record['name']}.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["scores"], indent=1))


if __name__ == "__main__":
    main()
