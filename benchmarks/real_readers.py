"""Networks and memory readers on real videos that they were not trained on, plain and with look-alikes: Markdown tables with intervals.

    python benchmarks/real_readers.py --data DAVIS --held-out 3 --networks stcn-mobile tmrn-stcn-mobile mine=runs/mine/network.safetensors
    python benchmarks/real_readers.py --data DAVIS --folds 5 --networks 'own=runs/fold{fold}/own/network.safetensors' 'chained=runs/fold{fold}/...'

--held-out and --folds choose the same videos as `tmrn-edu train` does, so networks are scored on what their training left out; without either, on
all videos. With --folds every network is a set of files, one a fold, and every video is scored once. Each video is also scored with look-alikes
(`data.pasting`: a copy of its own object crosses it), --copies of each. *J*: DAVIS rule, the memory holds predictions. *J, true memories*: every
memory frame is given its true mask, where the object is in sight; J of the frames between. Differences are paired over videos; intervals hold
95 % of 10,000 bootstrap draws of whole source videos. One object a video. A network is a name of a shipped one, a file, or NAME=FILE; with
@READER behind it, it reads with
another memory reader, at that reader's first weights ("stcn-mobile@chained": training-free; FILE.py:CLASS is one of your own). Files that were
trained with a reader of your own: --reader FILE.py:CLASS.
"""

import argparse
import json
import os
import zlib
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np  # noqa: E402  (the number of threads is read when torch is imported)
from tqdm.auto import tqdm  # noqa: E402

from tmrn_edu.bootstrap import interval  # noqa: E402
from tmrn_edu.data.pasting import pasted_set  # noqa: E402
from tmrn_edu.data.sets import find_sets  # noqa: E402
from tmrn_edu.errors import InputError  # noqa: E402
from tmrn_edu.evaluate_clips import score_video  # noqa: E402
from tmrn_edu.train import show_progress  # noqa: E402
from tmrn_edu.training.held_out import split_sets  # noqa: E402
from tmrn_edu.training.own_reader import own_class  # noqa: E402
from tmrn_edu.training.start import put_reader  # noqa: E402
from tmrn_edu.weights import load, read  # noqa: E402

MEASURES = ("J", "J, true memories")


def split_name(text: str) -> tuple[str, str]:
    """ "NAME=FILE", a shipped network's name or a file, each with or without "@READER" -> (name, what `open_network` takes)."""
    name, _, file = text.partition("=")
    if file:
        return name, file
    file, at, reader = text.partition("@")
    return Path(file).stem + at + reader, text


def open_network(text: str, own: type | None = None):
    """ "FILE" or "FILE@READER"; `own`: the class of a reader of somebody's own, for files that name it."""
    file, _, reader = text.partition("@")
    network = load(file, own if own is not None and own.__name__ == read(file).reader else None)
    if reader:
        put_reader(network, reader)
    return network.eval()


def with_copies(video, copies: int, frames: int) -> list:
    """`copies` look-alike videos of one video, the same ones for every network and fold: the seed comes from the video's name."""
    seed = zlib.crc32(video.name.encode()) % 10**6
    return list(pasted_set([video], copies, seed=seed, kind="look-alikes", length=frames).videos) if copies else []


def collect(options, sets) -> dict[str, dict[str, dict[str, list]]]:
    """{kind of videos: {network: {"source", "video", *MEASURES: one entry a video}}}."""
    names = [split_name(text)[0] for text in options.networks]
    if len(set(names)) < len(names):
        raise InputError(f"networks are called {', '.join(names)}, expected different names: NAME=FILE gives one")
    if options.fold is not None and not options.folds:
        raise InputError(f"fold is {options.fold} and folds 0, expected --folds N with it")
    known = [video.name for one in sets for video in one.videos]
    if strange := [name for name in options.videos or () if name not in known]:
        raise InputError(f"no video is called {', '.join(strange)}; there are {', '.join(known)}")
    found: dict = {kind: {} for kind in ("plain", "look-alikes")}
    own = own_class(options.reader) if options.reader else None
    folds = range(options.folds) if options.fold is None else [options.fold]
    for fold in folds if options.folds else [0]:
        _, held = split_sets(sets, options.held_out, options.folds, fold)
        videos = [video for kept in held.values() for video in kept] or [v for one in sets for v in one.videos]
        videos = [video for video in videos if not options.videos or video.name in options.videos]
        work = [("plain", video, video) for video in videos]
        work += [("look-alikes", v, c) for v in videos for c in with_copies(v, options.copies, options.frames)]
        for text in options.networks:
            name, file = split_name(text)
            network = open_network(file.format(fold=fold), own)
            for kind, source, video in tqdm(work, desc=f"{name} {fold}", disable=not show_progress()):
                row = found[kind].setdefault(name, {"source": [], "video": [], **{m: [] for m in MEASURES}})
                row["source"].append(source.name), row["video"].append(video.name)
                for measure, value in zip(MEASURES, score_video(network, video, options.frames), strict=True):
                    row[measure].append(value)
    return {kind: rows for kind, rows in found.items() if rows}


def tables(found: dict, per_video: bool) -> str:
    """Markdown: means, paired differences to the first network, and every video."""
    lines = ["| videos | network | J | J, true memories |", "|---|---|---|---|"]
    for kind, rows in found.items():
        for name, row in rows.items():
            cells = [interval(np.array(row[measure]), row["source"]) for measure in MEASURES]
            count = f"{kind}: {len(row['video'])} of {len(set(row['source']))}"
            lines.append(f"| {count} | {name} | " + " | ".join(f"{m:.3f}" for m, _, _ in cells) + " |")
    lines += ["", "| videos | difference | J | J, true memories |", "|---|---|---|---|"]
    for kind, rows in found.items():
        (first, base), *others = rows.items()
        for name, row in others:
            cells = [interval(np.array(row[m]) - np.array(base[m]), row["source"]) for m in MEASURES]
            text = " | ".join(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]" for mean, low, high in cells)
            lines.append(f"| {kind} | {name} - {first} | {text} |")
    if per_video:
        lines += ["", "| video | " + " | ".join(next(iter(found.values()))) + " |", "|---" * (1 + len(rows)) + "|"]
        for rows in found.values():
            first = next(iter(rows.values()))
            for place, video in enumerate(first["video"]):
                lines.append(f"| {video} | " + " | ".join(f"{row['J'][place]:.3f}" for row in rows.values()) + " |")
    return "\n".join(lines)


def main() -> None:
    """Parses, scores, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, nargs="+", help="folders, as of tmrn-edu train")
    parser.add_argument("--networks", required=True, nargs="+", metavar="NAME=FILE")
    parser.add_argument("--reader", metavar="FILE.py:CLASS", help="a reader of your own that some of the networks have")
    parser.add_argument("--videos", nargs="+", help="only these")
    parser.add_argument("--held-out", type=int, default=0)
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--fold", type=int, help="only this one of --folds")
    parser.add_argument("--copies", type=int, default=2, help="look-alike videos made of every video (%(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="of every video, from its first (%(default)s)")
    parser.add_argument("--per-video", action="store_true", help="also J of every video")
    parser.add_argument("--json", type=Path, help="write the means of every network, for tools/ship_network.py")
    options = parser.parse_args()
    try:
        sets = [one for root in options.data for one in find_sets(root) if one.kind == "video"]
        found = collect(options, sets)
    except InputError as error:
        parser.exit(2, f"real_readers.py: {' '.join(str(error).split())}\n")
    print(tables(found, options.per_video))
    if options.json:
        means = {
            kind: {
                name: {m: round(interval(np.array(row[m]), row["source"])[0], 3) for m in MEASURES}
                for name, row in rows.items()
            }
            for kind, rows in found.items()
        }
        names = sorted({source for rows in found.values() for row in rows.values() for source in row["source"]})
        about = f"{', '.join(names)} (up to {options.frames} frames, {options.copies} look-alike videos of each)"
        options.json.write_text(json.dumps({"about": about, "scores": means}, indent=1) + "\n")


if __name__ == "__main__":
    main()
