"""What the commands do: each a function of parsed arguments that calls one function of the library and prints what it made.

`__main__.py` says which arguments there are; it imports this file, and with it torch, only to run a command.
"""

import json
from argparse import Namespace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from tmrn_edu.compare import compare_runs
from tmrn_edu.courses import RUNS, SCORES, find_recipe, is_first_process, run_recipe
from tmrn_edu.data.check_files import check
from tmrn_edu.data.download import get
from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.polygons import parse_polygon
from tmrn_edu.data.sets import find_sets
from tmrn_edu.data.video import open_video
from tmrn_edu.data.video_writer import CONTAINERS
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate import evaluate, write_json
from tmrn_edu.official import OFFICIAL_NETWORKS, load_official
from tmrn_edu.runs import read_attributes, read_run
from tmrn_edu.segment_video import CUTOUT, MASKS, OVERLAY, read_given_mask, segment_video
from tmrn_edu.splits import FOLDER
from tmrn_edu.tables import render
from tmrn_edu.train import show_progress
from tmrn_edu.training.held_out import split_sets
from tmrn_edu.training.own_reader import own_class
from tmrn_edu.training.run_folder import METRICS, RUN
from tmrn_edu.weights import DEFAULT_NETWORK, is_export, list_networks, load, read


def run_tour(arguments: Namespace) -> None:
    """`tmrn-edu tour`"""
    from tmrn_edu import tour  # here: the other commands draw no figures, and need not wait for matplotlib

    done = tour.tour(arguments.out, overwrite=arguments.overwrite, progress=show_progress())
    print(f"{done.table()}\n\n{done.summary()}\n")
    print(f"open {done.out / tour.REPORT} in a browser: it explains what is seen, and lets you click pixels")


def run_gallery(arguments: Namespace) -> None:
    """`tmrn-edu gallery`"""
    from tmrn_edu import gallery  # here: matplotlib, as above

    exhibits = gallery.EXHIBITS
    if arguments.video or arguments.mask or arguments.frame:
        if not (arguments.video and arguments.mask) or arguments.clip:
            words = ("--video", "--mask", "--frame", "--clip")
            given = [word for word in words if getattr(arguments, word[2:])]
            raise InputError(f"{', '.join(given)} given, expected --video and --mask together, and no --clip")
        networks = arguments.network or ["stcn-mobile", DEFAULT_NETWORK]
        exhibits = [gallery.of_video(arguments.video, arguments.mask, networks, arguments.frame)]
    elif arguments.clip or arguments.network:
        if not (arguments.clip and arguments.network):
            given, missing = ("--clip", "--network") if arguments.clip else ("--network", "--clip")
            raise InputError(f"{given} was given without {missing}, expected both, or neither for the chosen pages")
        exhibits = gallery.custom(arguments.clip, arguments.network)
    pages = gallery.gallery(arguments.out, exhibits, arguments.overwrite, progress=show_progress())
    for path in pages:
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")


def run_segment(arguments: Namespace) -> None:
    """`tmrn-edu segment`"""
    if arguments.draw:
        print(write_drawing_page(arguments))
        return
    device = find_device(arguments.device)
    done = segment_video(
        find_network(arguments.network, arguments.weights, arguments.reader),
        arguments.video,
        masks_by_frame(arguments.mask),
        arguments.out,
        memory_every=arguments.memory_every,
        max_frames=arguments.max_frames,
        short_side=arguments.short_side,
        device=device,
        precision=arguments.precision or "fp32",
        with_overlay=not arguments.no_overlay,
        overwrite=arguments.overwrite,
        progress=show_progress(),
        polygons=polygons_by_frame(arguments.polygon),
        cutouts=arguments.cutout,
    )
    height, width = done.size
    objects = f"object{'s' if len(done.object_ids) > 1 else ''} {', '.join(map(str, done.object_ids))}"
    speed = f"{done.frames / done.seconds:.1f} frames/s"
    print(
        f"{done.frames} frames of {height} x {width}, {objects}: {arguments.weights or arguments.network} on {device}, {speed}"
    )
    print(done.out / MASKS / "00000.png", "...", f"{done.frames - 1:05d}.png")
    if not arguments.no_overlay:
        print(done.out / OVERLAY)
    if arguments.cutout:
        print(done.out / CUTOUT / "00000.png", "...", f"{done.frames - 1:05d}.png")


def run_evaluate(arguments: Namespace) -> None:
    """`tmrn-edu evaluate`"""
    if arguments.json and Path(arguments.json).is_dir():
        raise InputError(f"cannot write {arguments.json}: it is a folder, expected the name of a file")
    sequences = arguments.sequences and [name for name in arguments.sequences.split(",") if name]
    if arguments.held_out or arguments.folds or arguments.fold is not None:
        sequences = held_out_names(arguments)
    network = arguments.network
    if network in OFFICIAL_NETWORKS or arguments.weights or arguments.reader:
        network = find_network(network, arguments.weights, arguments.reader)
    try:
        done = evaluate(
            arguments.dataset,
            arguments.data,
            split=arguments.split,
            sequences=sequences,
            network=network,
            results=arguments.results,
            device=find_device(arguments.device) if arguments.network else None,
            memory_every=arguments.memory_every,
            short_side=arguments.short_side,
            precision=arguments.precision,
            masks_out=arguments.masks_out,
            resume=arguments.resume,
            submission=arguments.submission,
            train_meta=arguments.train_meta,
            progress=show_progress(),
        )
    except KeyboardInterrupt as stop:
        if not arguments.masks_out:
            raise
        raise KeyboardInterrupt(
            f"interrupted; the same command with --resume goes on in {arguments.masks_out}"
        ) from stop
    print(done.table())
    if arguments.json:
        write_json(arguments.json, done)
    for path in (arguments.json, arguments.submission):
        if path:
            print(path)


def held_out_names(arguments: Namespace) -> list[str]:
    """The videos of a folder that `tmrn-edu train` keeps from training with the same --held-out, or --folds and --fold."""
    words = {"--held-out": arguments.held_out, "--folds": arguments.folds, "--fold": arguments.fold}
    given = " ".join(f"{word} {number}" for word, number in words.items() if number is not None)
    if arguments.dataset != FOLDER:
        raise InputError(f"{given} is for --dataset {FOLDER}; the data set is {arguments.dataset}")
    if arguments.fold is not None and arguments.folds is None:
        raise InputError(f"{given} is given, expected --fold with --folds")
    sets = find_sets(arguments.data, progress=show_progress())
    _, kept = split_sets(sets, arguments.held_out or 0, arguments.folds or 0, arguments.fold or 0)
    return [video.name for videos in kept.values() for video in videos]


def run_train(arguments: Namespace) -> None:
    """`tmrn-edu train`: the recipe, with those settings that were given in place of its own."""
    recipe = find_recipe(arguments.recipe)
    settings = {key.split()[1]: value for key, value in vars(arguments).items() if key.startswith("setting ")}
    given = {name: value for name, value in settings.items() if value is not None}
    out = RUNS / recipe.name if arguments.out is None else Path(arguments.out)
    path = run_recipe(
        recipe,
        out,
        roots=arguments.data,
        init=arguments.init,
        reader=arguments.reader,
        subset=arguments.subset,
        resume=arguments.resume,
        options=given,
        device=find_device(arguments.device),
        devices=arguments.devices,
        nodes=arguments.nodes,
        progress=show_progress(),
    )
    if not is_first_process():
        return
    start = json.loads((path.parent / RUN).read_text())["about"].get("start")
    print(f"{recipe.name}: began with {start}; numbers in {path.parent / METRICS}\n{path}")
    if (out / SCORES).exists():
        print((out / SCORES).read_text().strip())


def run_data(arguments: Namespace) -> int:
    """`tmrn-edu data check` and `tmrn-edu data get`; 2 where something is broken."""
    if arguments.action == "get":
        print(get(arguments.name, arguments.out, progress=show_progress()).text())
        return 0
    report = check(arguments.root, full=arguments.full, progress=show_progress())
    print(report.text())
    return 0 if report.ok else 2


def run_compare(arguments: Namespace) -> None:
    """`tmrn-edu compare`"""
    if arguments.attributes and arguments.per != "attribute":
        raise InputError(f"--attributes {arguments.attributes} is for --per attribute, got --per {arguments.per}")
    suffix = Path(arguments.out).suffix.lower() if arguments.out else ".md"
    style = arguments.format or {".md": "markdown", ".tex": "latex", ".csv": "csv"}.get(suffix)
    if style is None:
        raise InputError(f"{arguments.out} ends in {suffix!r}, expected .md, .tex, .csv, or --format with it")
    runs = [read_run(text) for text in arguments.runs]
    attributes = read_attributes(arguments.attributes) if arguments.attributes else None
    text = render(compare_runs(runs, arguments.baseline, arguments.pair, arguments.per, attributes), style)
    if not arguments.out:
        print(text, end="")
        return
    with atomic_path(Path(arguments.out)) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(arguments.out)


def run_figure(arguments: Namespace) -> None:
    """`tmrn-edu figure`: a video where the name of the file says so, else a figure."""
    from tmrn_edu.viz import comparison, films  # here: matplotlib, as above

    comparison.check_suffix(arguments.out, (*comparison.FIGURES, *CONTAINERS))
    masks = by_first(arguments.masks)
    several = [name for name, folders in masks.items() if len(folders) > 1]
    if several:
        raise InputError(
            f"two methods are called {several[0]}: {' and '.join(masks[several[0]])}; expected a name each"
        )
    compared = arguments.frames, {name: folders[0] for name, folders in masks.items()}, arguments.truth
    for_figures = (arguments.columns, arguments.box or None, arguments.no_boxes or None, arguments.show_j or None)
    if Path(arguments.out).suffix.lower() in CONTAINERS:
        if any(given is not None for given in for_figures):
            raise InputError(f"{arguments.out} is a video, --columns, --box, --no-boxes and --show-j are for figures")
        done = films.write_comparison_video(arguments.out, *compared, fps=arguments.fps, progress=show_progress())
        print("".join(f"{name}: mean J {value:.3f}\n" for name, value in done.items()), end="")
    else:
        if arguments.fps is not None:
            raise InputError(f"{arguments.out} is a figure, --fps is for videos ({', '.join(CONTAINERS)})")
        if arguments.show_j and arguments.truth is None:
            raise InputError("--show-j was given without --truth, expected the true masks with it")
        if arguments.box and arguments.no_boxes:
            raise InputError("--box and --no-boxes were given, expected one of them")
        boxes = by_first(arguments.box) or ("auto" if not arguments.no_boxes else None)
        figure = comparison.qualitative_figure(*compared, arguments.columns, boxes, show_J=arguments.show_j)
        comparison.save_figure(arguments.out, figure)
    print(arguments.out)


def run_grade(arguments: Namespace) -> None:
    """`tmrn-edu grade`"""
    from tmrn_edu.check import grading  # here: matplotlib, as above

    if arguments.csv and (Path(arguments.csv).suffix.lower() != ".csv" or Path(arguments.csv).is_dir()):
        raise InputError(f"cannot write {arguments.csv}: expected the name of a file that ends in .csv")
    marks = grading.grade(arguments.notebooks, arguments.timeout, progress=show_progress())
    print(grading.table(marks))
    if arguments.csv:
        grading.write_csv(arguments.csv, marks)
        print(f"\n{arguments.csv}")


def by_first(pairs: list[tuple]) -> dict:
    """[(a, 1), (b, 2), (a, 3)] -> {a: [1, 3], b: [2]}"""
    found = {}
    for first, second in pairs:
        found.setdefault(first, []).append(second)
    return found


def run_networks(arguments: Namespace) -> None:
    """`tmrn-edu networks`"""
    for info in list_networks():
        print(
            f"{info.name}\n  baseline    {info.baseline}\n  reader      {info.reader}\n  parameters  {info.parameters:,}"
        )
        print(f"  weights     {info.origin}\n  licence     {info.licence}\n")
    print("use one: tmrn-edu segment VIDEO --mask PNG --network NAME")
    print(
        f"full size, with files released by their authors (docs/official_weights.md): --network {'|'.join(OFFICIAL_NETWORKS)} --weights FILE"
    )


def find_device(name: str) -> torch.device:
    """The device of that name; "auto" is cuda where there is one. Raises InputError where this machine has none such."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
        return device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used ({reason}); this machine has {', '.join(there)}") from error


def find_network(name: str | None, weights: str | None, reader: str | None = None) -> nn.Module:
    """The network that was asked for: shipped, from a weight file, or a file released by the authors of `name`.

    `reader`: FILE.py:CLASS, the class of the reader in a weight file. With name and weight file, InputError unless the weights are of that network.
    """
    own = None if reader is None else own_class(reader)
    if name in OFFICIAL_NETWORKS:
        if weights is None:
            raise InputError(
                f"{name} has no shipped weights, expected --weights FILE (docs/official_weights.md says where from)"
            )
        if not is_export(weights):
            if own is not None:
                raise InputError(f"{weights} is no file of tmrn-edu train, which --reader {reader} is for")
            return load_official(name, weights)
        found, wanted = (
            load(weights, own),
            OFFICIAL_NETWORKS[name],
        )  # what `export` wrote of such a network, or of another
        if type(found) is not wanted:
            raise InputError(f"{weights} holds {type(found).__name__} ({found.preset}), {name} is {wanted.__name__}")
        return found
    if weights is None:
        return load(name, own)
    if not Path(weights).is_file():
        raise InputError(f"no weight file at {weights}: expected a .safetensors file that tmrn-edu train wrote")
    if Path(weights).suffix in (".pth", ".pt"):
        official = ", ".join(OFFICIAL_NETWORKS)
        raise InputError(
            f"{weights} is no .safetensors file; files released by authors go with --network {official}, this is {name}"
        )
    found = load(weights, own)
    if name is not None:
        sides = [(f.kind, f.preset, f.reader, f.reader_settings) for f in map(read, (weights, name))]
        if sides[0] != sides[1]:
            holds, wanted = (f"{kind} {preset} with {reader} {settings}" for kind, preset, reader, settings in sides)
            raise InputError(f"{weights} holds {holds}, {name} is {wanted}")
    return found


def masks_by_frame(words: list[str]) -> dict[int, str]:
    """["a.png", "30=b.png"] -> {0: "a.png", 30: "b.png"}. Raises InputError for two masks of one frame."""
    masks = {}
    for word in words:
        number, equals, path = word.partition("=")
        numbered = equals and number.isdecimal() and not Path(word).exists()
        index, path = (int(number), path) if numbered else (0, word)
        if index in masks:
            raise InputError(
                f"two masks for frame {index}: {masks[index]} and {path}; expected one (N=PNG for a later frame N)"
            )
        masks[index] = path
    return masks


def polygons_by_frame(words: list[str]) -> dict[int, dict[int, list]]:
    """["1:0,0 9,0 9,9", "30=2:..."] -> {0: {1: [outline]}, 30: {2: [outline]}}. Raises InputError for what is no polygon."""
    polygons = {}
    for word in words:
        frame, name, outline = parse_polygon(word)
        polygons.setdefault(frame, {}).setdefault(name, []).append(outline)
    return polygons


def write_drawing_page(arguments: Namespace) -> str:
    """`tmrn-edu segment --draw`: a page with one frame, its mask and polygons if there are any; returns the page's name."""
    from tmrn_edu.viz.drawing import drawing_html

    ((frame, path),) = masks_by_frame([arguments.draw]).items()
    if Path(path).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"cannot write {path}: its name ends in '{Path(path).suffix}', expected .html")
    masks, polygons = masks_by_frame(arguments.mask), polygons_by_frame(arguments.polygon).get(frame)
    with open_video(arguments.video) as video:
        if not 0 <= frame < len(video):
            raise InputError(f"{path} is for frame {frame}, {video.path} has frames 0 to {len(video) - 1}")
        mask = read_given_mask(video, frame, masks[frame]).index if frame in masks else None
        page = drawing_html(next(islice(iter(video), frame, None)), polygons, mask, index=frame)
    head = f'<!doctype html>\n<meta charset="utf-8">\n<title>frame {frame}</title>\n'
    with atomic_path(path) as temporary:
        temporary.write_text(head + page, encoding="utf-8")
    return path
