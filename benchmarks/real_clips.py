"""The shipped networks on real clips: a Markdown table of J, F and frames/s, with the score of repeating the first mask as the floor.

    python benchmarks/real_clips.py --data DAVIS_ROOT [--networks A B] [--short-side N] [--memory-every N] [--dataset davis2017]

DAVIS_ROOT: a folder in DAVIS layout (JPEGImages/480p, Annotations/480p, ImageSets/2017/val.txt). Frames are shrunk to the networks' own short side
(128 pixels for the tiny ones) and masks enlarged again, unless --short-side says otherwise; J and F are taken at the clips' size.
"""

import argparse
from pathlib import Path

from tmrn_edu.evaluate import Evaluation, RepeatFirst, evaluate
from tmrn_edu.train import show_progress
from tmrn_edu.weights import list_networks


def row(name: str, evaluation: Evaluation) -> str:
    """One method: J / F of every sequence, then of all objects, then speed."""
    cells = [f"{score.J:.3f} / {score.F:.3f}" for score in evaluation.per_sequence.values()]
    total = evaluation.score
    speed = (
        ""
        if isinstance(evaluation.method, str) and evaluation.method == "RepeatFirst"
        else f"{evaluation.frames_per_second:.1f}"
    )
    return f"| {name} | {' | '.join(cells)} | {total.J:.3f} | {total.F:.3f} | {total.JF:.3f} | {speed} |"


def main() -> None:
    """Parses, evaluates, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", default="davis2017", choices=["davis2016", "davis2017"])
    parser.add_argument("--networks", nargs="+", help="names or .safetensors files; all shipped ones by default")
    parser.add_argument("--short-side", type=int)
    parser.add_argument("--memory-every", type=int)
    parser.add_argument("--masks-out", type=Path, help="also write the masks, one folder per network")
    options = parser.parse_args()
    floor = evaluate(options.dataset, options.data, segmenter=RepeatFirst, progress=show_progress())
    print("| J / F | " + " | ".join(floor.per_sequence) + " | J | F | J&F | frames/s |")
    print("|---" * (len(floor.per_sequence) + 5) + "|")
    print(row("first mask repeated", floor), flush=True)
    for name in options.networks or [info.name for info in list_networks()]:
        out = options.masks_out and options.masks_out / Path(name).stem
        found = evaluate(
            options.dataset,
            options.data,
            network=str(name),
            memory_every=options.memory_every,
            short_side=options.short_side,
            masks_out=out,
            progress=show_progress(),
        )
        print(row(Path(name).stem, found), flush=True)


if __name__ == "__main__":
    main()
