"""Put a trained network into the package: its weights, and beside them the record of how they were made and what they score.

    python tools/ship_network.py runs/stcn_tiny-seed0 --reader "space-time read" --command "tmrn-edu train stcn_tiny" --cpu-minutes 8
    python tools/ship_network.py runs/mobile --name stcn-mobile --half --origin "trained on ..." --licence "CC BY-NC 4.0 ..." --real scores.json ...

Writes tmrn_edu/weights/NAME.safetensors and NAME.json; the name is the recipe's unless given. Scores are those of `evaluate_clips` on held-out
synthetic clips, and, where given, those that `benchmarks/real_readers.py --json` wrote about held-out real videos.
"""

import argparse
import json
from pathlib import Path

import torch

from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.synthetic import LEVELS
from tmrn_edu.evaluate_clips import held_out_clips, score_clips, trajectory_pck
from tmrn_edu.weights import export, load

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
    """Parses, scores, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of tmrn-edu train")
    parser.add_argument("--reader", required=True, help="the reader in words")
    parser.add_argument("--command", required=True, help="the command that trained it")
    parser.add_argument("--cpu-minutes", type=float, required=True)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--name", help="in place of the recipe's")
    parser.add_argument(
        "--origin", default="trained on synthetic clips alone", help="what it was trained on (%(default)s)"
    )
    parser.add_argument("--licence", default="MIT", help="of the weights (%(default)s)")
    parser.add_argument("--half", action="store_true", help="numbers in 16 bits: half the size")
    parser.add_argument("--real", type=Path, metavar="JSON", help="what benchmarks/real_readers.py --json wrote")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = json.loads((options.run / "run.json").read_text())
    name = options.name or run["recipe"]
    real = json.loads(options.real.read_text()) if options.real else None
    if real and any(name not in by_network for by_network in real["scores"].values()):
        parser.error(f"{options.real} has no scores of {name}; it has {', '.join(real['scores']['plain'])}")
    about = {"recipe": run["recipe"], "settings": run["settings"]}
    network = load(options.run / "network.safetensors")
    network.reader.top_k = network.top_k  # what the network has now, whatever it was when it was trained
    with atomic_path(WEIGHTS / f"{name}.safetensors") as file:
        export(network, file, about, torch.float16 if options.half else torch.float32)
    network = load(WEIGHTS / f"{name}.safetensors")  # scored as it is shipped
    record = {
        "name": name,
        "baseline": f"{type(network).__name__} ({network.preset})",
        "reader": options.reader,
        "parameters": sum(p.numel() for p in network.parameters()),
        "origin": f"{options.origin}: {options.command}",
        "licence": options.licence,
        "scores": measure(network, options.clips),
        "scores_on": f"{options.clips} held-out synthetic clips per level (seeds 0 to {options.clips - 1}), 8 frames of 96 x 96, "
        "all earlier frames in memory, DAVIS rule",
        "command": options.command,
        "seed": run["settings"]["seed"],
        "cpu_minutes": options.cpu_minutes,
        "settings": run["settings"],
    }
    if real:
        record["scores"] |= {
            f"held-out real videos, {kind}": by_network[name] for kind, by_network in real["scores"].items()
        }
        record["scores_on"] += f"; real videos: {real['about']}"
    with atomic_path(WEIGHTS / f"{record['name']}.json") as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["scores"], indent=1))


if __name__ == "__main__":
    main()
