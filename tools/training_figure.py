"""Draw a course's loss and held-out scores over its steps, and put some of its sample pictures side by side.

    python tools/training_figure.py runs/a runs/b --out docs/images/half_hour.png
    python tools/training_figure.py runs/a --samples 1/0 1/200 2/600 --out docs/images/half_hour_samples.png

Loss: mean of the losses of every 50 steps. Stages follow one another on the axis. Pictures: STAGE/STEP; true masks above, found ones below.
Pictures of data that may not be passed on must not be chosen.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from tmrn_edu.data.files import atomic_path
from tmrn_edu.viz.overlays import OKABE_ITO

WINDOW = 50


def stages(run: Path) -> list[Path]:
    """The stage folders of a course, in order."""
    found = sorted(path.parent for path in run.glob("*/metrics.csv"))
    if not found:
        raise SystemExit(f"{run} holds no stage with metrics.csv, expected the folder of a course")
    return found


def curves(runs: list[Path]) -> Figure:
    """Loss above, J of held-out videos below, one colour a run."""
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    colours = [tuple(value / 255 for value in OKABE_ITO[number]) for number in (4, 5, 2, 0)]
    for run, colour in zip(runs, colours, strict=False):
        first = 0
        for stage in stages(run):
            with (stage / "metrics.csv").open() as file:
                rows = list(csv.DictReader(file))
            loss = np.array([float(row["loss"]) for row in rows])
            means = loss[: len(loss) // WINDOW * WINDOW].reshape(-1, WINDOW).mean(axis=1)
            steps = first + WINDOW * (np.arange(len(means)) + 0.5)
            above.plot(steps, means, color=colour, label=run.name if first == 0 else None)
            for name, style in zip(sorted(n for n in rows[-1] if n.startswith("J ")), ("-", "--", ":"), strict=False):
                scored = [(first + int(row["step"]) + 1, float(row[name])) for row in rows if row[name]]
                label = f"{run.name}, {name[2:]}" if first == 0 else None
                below.plot(*zip(*scored, strict=True), style, marker="o", ms=3, color=colour, label=label)
            first += len(rows)
            for axis in (above, below):
                axis.axvline(first, color="0.7", lw=0.8)
    above.set_ylabel("loss")
    below.set_ylabel("J, held-out videos")
    below.set_ylim(0, 1)
    below.set_xlabel("step (the line: from stills to videos)")
    for axis in (above, below):
        axis.legend(fontsize=8)
    return figure


def samples(run: Path, chosen: list[str]) -> Image.Image:
    """Sample pictures under one another, in the order given."""
    pictures = []
    for word in chosen:
        stage, step = word.split("/")
        pictures.append(Image.open(stages(run)[int(stage) - 1] / "samples" / f"{int(step):08d}.png"))
    width, height = pictures[0].size
    columns = min(4, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + 8), rows * (height + 8)), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * (width + 8), number // columns * (height + 8)))
    return sheet


def main() -> None:
    """Parses, draws, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument(
        "--samples", nargs="+", metavar="STAGE/STEP", help="put these pictures of the first run together"
    )
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with atomic_path(options.out) as temporary:
        if options.samples:
            samples(options.runs[0], options.samples).save(temporary)
        else:
            curves(options.runs).savefig(temporary, dpi=100)
    print(options.out)


if __name__ == "__main__":
    main()
