"""What the commands do: each a function of parsed arguments that calls one function of the library and prints what it made.

`__main__.py` says which arguments there are; it imports this file, and with it torch, only to run a command.
"""

import json
from argparse import Namespace
from pathlib import Path

import torch
from torch import nn

from tmrn_edu.courses import RUNS, SCORES, find_recipe, is_first_process, run_recipe
from tmrn_edu.data.check_files import check
from tmrn_edu.data.download import get
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate import evaluate, write_json
from tmrn_edu.official import OFFICIAL_NETWORKS, load_official
from tmrn_edu.segment_video import MASKS, OVERLAY, segment_video
from tmrn_edu.train import show_progress
from tmrn_edu.training.run_folder import METRICS, RUN
from tmrn_edu.weights import is_export, list_networks, load


def run_tour(arguments: Namespace) -> None:
    """`tmrn-edu tour`"""
    from tmrn_edu import tour  # here: the other commands draw no figures, and need not wait for matplotlib

    done = tour.tour(arguments.out, overwrite=arguments.overwrite, progress=show_progress())
    print(f"{done.table()}\n\n{done.summary()}\n")
    print(f"open {done.out / tour.REPORT} in a browser: it explains what is seen, and lets you click pixels")


def run_segment(arguments: Namespace) -> None:
    """`tmrn-edu segment`"""
    device = find_device(arguments.device)
    done = segment_video(
        find_network(arguments.network, arguments.weights),
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


def run_evaluate(arguments: Namespace) -> None:
    """`tmrn-edu evaluate`"""
    if arguments.json and Path(arguments.json).is_dir():
        raise InputError(f"cannot write {arguments.json}: it is a folder, expected the name of a file")
    done = evaluate(
        arguments.dataset,
        arguments.data,
        split=arguments.split,
        sequences=None if arguments.sequences is None else [name for name in arguments.sequences.split(",") if name],
        network=arguments.network
        if arguments.network not in OFFICIAL_NETWORKS and not arguments.weights
        else find_network(arguments.network, arguments.weights),
        results=arguments.results,
        device=find_device(arguments.device) if arguments.network else None,
        memory_every=arguments.memory_every,
        short_side=arguments.short_side,
        precision=arguments.precision,
        masks_out=arguments.masks_out,
        progress=show_progress(),
    )
    print(done.table())
    if arguments.json:
        write_json(arguments.json, done)
        print(arguments.json)


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


def find_network(name: str | None, weights: str | None) -> nn.Module:
    """The network that was asked for: shipped, from a weight file, or a file released by the authors of `name`.

    With name and weight file, InputError unless the weights are of that network.
    """
    if name in OFFICIAL_NETWORKS:
        if weights is None:
            raise InputError(
                f"{name} has no shipped weights, expected --weights FILE (docs/official_weights.md says where from)"
            )
        if not is_export(weights):
            return load_official(name, weights)
        found, wanted = load(weights), OFFICIAL_NETWORKS[name]  # what `export` wrote of such a network, or of another
        if type(found) is not wanted:
            raise InputError(f"{weights} holds {type(found).__name__} ({found.preset}), {name} is {wanted.__name__}")
        return found
    if weights is None:
        return load(name)
    if not Path(weights).is_file():
        raise InputError(f"no weight file at {weights}: expected a .safetensors file that tmrn-edu train wrote")
    if Path(weights).suffix in (".pth", ".pt"):
        official = ", ".join(OFFICIAL_NETWORKS)
        raise InputError(
            f"{weights} is no .safetensors file; files released by authors go with --network {official}, this is {name}"
        )
    found = load(weights)
    if name is not None:
        sides = [
            (type(n).__name__, n.preset, type(n.reader).__name__, n.reader.settings()) for n in (found, load(name))
        ]
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
