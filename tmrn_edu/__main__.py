"""The command line: parses, calls one function, prints. Results go to stdout, progress and errors to stderr.

Exit status: 0; 2 with one line for input that cannot be used; 130 for Ctrl-C. What a command needs is imported when it runs,
so that help answers at once.
"""

import argparse
import difflib
import os
import signal
import sys
from pathlib import Path

from tmrn_edu.errors import InputError

NETWORK = "tmrn-stcn-chained-tiny"
EPILOG = "TMRN_PROGRESS=0 in the environment silences progress bars."


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status. `argv`: the arguments, those of the process if None."""
    argv = sys.argv[1:] if argv is None else argv
    name = "tmrn-edu"
    try:
        arguments = parse(argv)
        name = f"tmrn-edu {arguments.command}"
        arguments.run(arguments)
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt as stop:
        print(f"{name}: {str(stop) or 'interrupted; nothing was left half-written'}", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output went away, as `head` does: nobody to tell
        _silence_stdout()
        return 128 + 13
    except (InputError, OSError, FloatingPointError, MemoryError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        if isinstance(error, OSError):
            _silence_stdout()
        return 2


def one_line(error: BaseException) -> str:
    """What an error says, in one line; of an error of the system the file too."""
    text = str(error) or {MemoryError: "not enough memory"}.get(type(error), type(error).__name__)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else f"cannot write the output: {error.strerror}"
    return " ".join(text.split())


def _silence_stdout() -> None:
    """What could not be written stays in the buffer, and Python would fail on it once more when it ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file, in tests
        pass


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where the help is."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of a command line; `run` is the function that carries it out, `command` its name."""
    parser = Parser(
        prog="tmrn-edu",
        description="Memory networks for video object segmentation, with and without TMRN's trajectory memory.",
        epilog=f"example (starts with nothing, ends with a report to look at):\n  tmrn-edu tour\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    for add in (_add_tour, _add_segment, _add_evaluate, _add_train, _add_networks):
        add(commands, argv)
    if argv and argv[0] in commands.choices:
        _check_options(commands.choices[argv[0]], argv[1:])
    return parser.parse_args(argv)


def _command(commands, name, run, help, examples, epilog=""):
    command = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example:\n{examples}" + (f"\n\n{epilog}" if epilog else ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def _check_options(parser: Parser, argv: list[str]) -> None:
    """An option that does not exist is named with its nearest relatives, before anything else is found missing."""
    known = [option for action in parser._actions for option in action.option_strings]
    for word in argv:
        option = word.split("=")[0]
        if word == "--":
            return
        if option.startswith("--") and option not in known:
            near = difflib.get_close_matches(option, known, n=3, cutoff=0.5)
            parser.error(f"there is no option {option}" + (f", did you mean {' or '.join(near)}?" if near else ""))


def _whole(least: int):
    def parse_whole(text):
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} given, expected a whole number, at least {least}")
        return int(text)

    return parse_whole


def _add_device(command):
    command.add_argument("--device", default="auto", metavar="D", help="cpu, cuda, cuda:1 ...; auto: cuda where there is one")


def _device(name: str):
    """The device of that name. Raises InputError where this machine has none such."""
    import torch

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


# tour


def _add_tour(commands, argv):
    examples = "  tmrn-edu tour --out out/tour"
    command = _command(commands, "tour", _tour, "segment a clip with and without TMRN, score it, write a report", examples, EPILOG)
    command.add_argument("--out", default="out/tour", metavar="DIR", help="where masks, pictures and report.html go (%(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace masks and pictures that are not from a tour, too")


def _tour(arguments):
    from tmrn_edu import tour

    done = tour.tour(arguments.out, overwrite=arguments.overwrite, progress=_progress())
    print(done.table())
    print(f"\n{done.summary()}\n\nopen {done.out / tour.REPORT} in a browser: it explains what is seen, and lets you click pixels")


# segment


def _add_segment(commands, argv):
    examples = (
        "  tmrn-edu segment frames/ --mask frames_mask.png --out out/mine\n"
        "  tmrn-edu segment clip.mp4 --mask first.png --mask 30=late.png --max-frames 8 --device cuda"
    )
    epilog = (
        "DIR gets masks/00000.png, one palette PNG per frame with the ids of the given mask, and overlay.mp4, when all is done.\n"
        "The shipped networks are small and were trained on synthetic clips: on real video, expect them to teach, not to win.\n" + EPILOG
    )
    command = _command(commands, "segment", _segment, "segment a video, given the mask of its first frame", examples, epilog)
    command.add_argument("video", metavar="VIDEO|FOLDER", help="a video file, a GIF, or a folder of JPEG or PNG frames")
    command.add_argument(
        "--mask", action="append", required=True, metavar="PNG",
        help="mask of the first frame: palette or grey PNG of object ids; again as N=PNG for objects that enter in frame N",
    )  # fmt: skip
    command.add_argument("--network", default=None, metavar="NAME", help=f"a shipped network, see tmrn-edu networks ({NETWORK})")
    command.add_argument("--weights", metavar="FILE", help="weights that tmrn-edu train wrote; with --network: they must fit it")
    command.add_argument("--out", default="out/segment", metavar="DIR", help="folder for the results (%(default)s)")
    command.add_argument("--overwrite", action="store_true", help="replace results that DIR already holds")
    command.add_argument("--memory-every", type=_whole(1), default=5, metavar="N", help="every N-th frame joins the memory (5)")
    command.add_argument(
        "--max-frames", type=_whole(1), metavar="N",
        help="keep at most N frames in memory: the first and the latest; constant memory however long the video (all)",
    )  # fmt: skip
    command.add_argument(
        "--short-side", type=_whole(0), metavar="N",
        help="shrink frames to a short side of N pixels for the network; 0: never (what the network was made for)",
    )  # fmt: skip
    command.add_argument("--no-overlay", action="store_true", help="masks only, no overlay.mp4 (needs no PyAV)")
    _add_device(command)


def _segment(arguments):
    from tmrn_edu.segment_video import MASKS, OVERLAY, segment_video

    device = _device(arguments.device)
    network, name = _network(arguments.network, arguments.weights)
    done = segment_video(
        network,
        arguments.video,
        _masks(arguments.mask),
        arguments.out,
        memory_every=arguments.memory_every,
        max_frames=arguments.max_frames,
        short_side=arguments.short_side,
        device=device,
        with_overlay=not arguments.no_overlay,
        overwrite=arguments.overwrite,
        progress=_progress(),
    )
    height, width = done.size
    objects = f"object{'s' if len(done.object_ids) > 1 else ''} {', '.join(map(str, done.object_ids))}"
    print(f"{done.frames} frames of {height} x {width}, {objects}: {name} on {device}, {done.frames / done.seconds:.1f} frames/s")
    print(done.out / MASKS / "00000.png", "...", f"{done.frames - 1:05d}.png")
    if not arguments.no_overlay:
        print(done.out / OVERLAY)


def _masks(words: list[str]) -> dict[int, str]:
    """["a.png", "30=b.png"] -> {0: "a.png", 30: "b.png"}"""
    masks = {}
    for word in words:
        number, equals, path = word.partition("=")
        numbered = equals and number.isdecimal() and not Path(word).exists()
        index, path = (int(number), path) if numbered else (0, word)
        if index in masks:
            raise InputError(f"two masks for frame {index}: {masks[index]} and {path}; expected one (N=PNG for a later frame N)")
        masks[index] = path
    return masks


def _network(name: str | None, weights: str | None):
    """The network that was asked for, and what to call it. With both given, the weights must be of that network."""
    from tmrn_edu.weights import load

    if weights is None:
        return load(name or NETWORK), name or NETWORK
    if not Path(weights).is_file():
        raise InputError(f"no weight file at {weights}: expected a .safetensors file that tmrn-edu train wrote")
    found = load(weights)
    if name is not None:
        wanted = load(name)
        sides = [f"{type(n).__name__} {n.preset} with {type(n.reader).__name__} {n.reader.settings()}" for n in (found, wanted)]
        if sides[0] != sides[1]:
            raise InputError(f"{weights} holds {sides[0]}, {name} is {sides[1]}")
    return found, str(weights)


# evaluate


def _add_evaluate(commands, argv):
    examples = (
        "  tmrn-edu evaluate --dataset davis2017 --data DAVIS --network tmrn-stcn-tiny --json scores.json\n"
        "  tmrn-edu evaluate --dataset davis2016 --data DAVIS --results out/masks --sequences bear,camel"
    )
    command = _command(commands, "evaluate", _evaluate, "score a network, or masks in a folder, on DAVIS", examples, EPILOG)
    command.add_argument("--dataset", required=True, metavar="NAME", help="davis2016 (objects merged) or davis2017")
    command.add_argument("--data", required=True, metavar="ROOT", help="folder with ImageSets, JPEGImages and Annotations")
    command.add_argument("--split", default="val", metavar="S", help="name of a list in ImageSets (%(default)s)")
    command.add_argument("--sequences", metavar="A,B", help="only these sequences")
    method = command.add_mutually_exclusive_group(required=True)
    method.add_argument("--network", metavar="NAME|FILE", help="a shipped network, or weights that tmrn-edu train wrote")
    method.add_argument("--results", metavar="DIR", help="masks made earlier: DIR/SEQUENCE/00000.png ...")
    command.add_argument("--masks-out", metavar="DIR", help="also write the network's masks, to be used as --results")
    command.add_argument("--json", metavar="FILE", help="also write the scores as JSON")
    command.add_argument("--memory-every", type=_whole(1), metavar="N", help="every N-th frame joins the memory (5)")
    command.add_argument("--short-side", type=_whole(0), metavar="N", help="short side in pixels that the network sees; 0: the frame's own")
    _add_device(command)


def _evaluate(arguments):
    from tmrn_edu.evaluate import evaluate, write_json

    if arguments.json and Path(arguments.json).is_dir():
        raise InputError(f"cannot write {arguments.json}: it is a folder, expected the name of a file")
    done = evaluate(
        arguments.dataset,
        arguments.data,
        split=arguments.split,
        sequences=None if arguments.sequences is None else [name for name in arguments.sequences.split(",") if name],
        network=arguments.network,
        results=arguments.results,
        device=_device(arguments.device) if arguments.network else None,
        memory_every=arguments.memory_every,
        short_side=arguments.short_side,
        masks_out=arguments.masks_out,
        progress=_progress(),
    )
    print(done.table())
    if arguments.json:
        write_json(arguments.json, done)
        print(arguments.json)


# train


def _add_train(commands, argv):
    examples = (
        "  tmrn-edu train tmrn_stcn_tiny --out runs/mine\n"
        "  tmrn-edu train tmrn_stcn_tiny --out runs/quick --steps=20 --lr=1e-3\n"
        "  tmrn-edu train tmrn_stcn_tiny --out runs/mine --resume"
    )
    command = _command(commands, "train", _train, "train a recipe's network, from nothing or from its last checkpoint", examples, EPILOG)
    command.add_argument("recipe", metavar="RECIPE", help="a file of tmrn_edu/recipes, by name; a wrong name lists them")
    command.add_argument("--out", metavar="DIR", help="folder of the run (runs/RECIPE)")
    command.add_argument("--resume", action="store_true", help="continue the run that is in DIR")
    _add_device(command)
    if argv[:1] == ["train"]:  # only then: the settings live beside the training loop, which takes seconds to import
        from tmrn_edu.train import TrainSettings

        group = command.add_argument_group("settings", "any field of TrainSettings; what is not given is the recipe's")
        for field in TrainSettings.__dataclass_fields__.values():
            group.add_argument(
                "--" + field.name.replace("_", "-"), *{"--" + field.name} - {"--" + field.name.replace("_", "-")},
                dest=f"setting {field.name}", type=_setting(field), metavar=field.type.__name__, help=f"default {field.default}",
            )  # fmt: skip


def _setting(field):
    """A parser of one training setting. None of them makes sense below zero; counts start at one, the seed at zero."""
    if field.type is int:
        return _whole(0 if field.name == "seed" else 1)

    def parse_number(text):
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not 0 <= number < float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} given, expected a number, at least 0")
        return number

    return parse_number


def _train(arguments):
    from dataclasses import replace

    from tmrn_edu.train import train

    recipe = _recipe(arguments.recipe)
    given = {key.split()[1]: value for key, value in vars(arguments).items() if key.startswith("setting ") and value is not None}
    recipe = replace(recipe, settings=replace(recipe.settings, **given))
    out = Path("runs") / recipe.name if arguments.out is None else Path(arguments.out)
    try:
        path = train(recipe, out, resume=arguments.resume, device=_device(arguments.device), progress=_progress())
    except ValueError as error:  # settings that do not go together, such as more frames than a clip has
        raise InputError(str(error)) from error
    print(f"{recipe.name}: {recipe.settings.steps} steps, log in {out / 'log.csv'}\n{path}")


def _recipe(name: str):
    """The recipe of that name; a network's name, with dashes, will do. Raises InputError listing those there are."""
    import importlib
    import pkgutil

    from tmrn_edu import recipes

    modules = {info.name: importlib.import_module(f"tmrn_edu.recipes.{info.name}") for info in pkgutil.iter_modules(recipes.__path__)}
    found = {name: module.RECIPE for name, module in modules.items() if hasattr(module, "RECIPE")}
    if name.replace("-", "_") not in found:
        raise InputError(f"there is no recipe {name!r}; there are {', '.join(found)}")
    return found[name.replace("-", "_")]


# networks


def _add_networks(commands, argv):
    examples = "  tmrn-edu networks"
    _command(commands, "networks", _networks, "list the shipped networks, where their weights come from and their licence", examples)


def _networks(arguments):
    from tmrn_edu.weights import list_networks

    for info in list_networks():
        print(f"{info.name}\n  baseline    {info.baseline}\n  reader      {info.reader}\n  parameters  {info.parameters:,}")
        print(f"  weights     {info.origin}\n  licence     {info.licence}\n")
    print("use one: tmrn-edu segment VIDEO --mask PNG --network NAME")


def _progress() -> bool:
    from tmrn_edu.train import show_progress

    return show_progress()


if __name__ == "__main__":
    sys.exit(main())
