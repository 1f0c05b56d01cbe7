"""The command line: parses, calls one function of `commands.py`, prints. Results go to stdout, progress and errors to stderr.

Exit status: 0; 2 with one line for input that cannot be used; 130 for Ctrl-C, 143 for SIGTERM.
"""

import argparse
import difflib
import os
import sys

from tmrn_edu.errors import InputError

NETWORK = "tmrn-stcn-tracking-mobile"  # `weights.DEFAULT_NETWORK`, without importing torch
OFFICIAL = "stm, stcn, xmem or gsfm with --weights"
OWN_READER = "class of the weights' memory reader, where it is one of yours and not of this library"
WEIGHTS = "weights that tmrn-edu train wrote (with --network: they must fit it), or a file released by the authors of that network"
EPILOG = "TMRN_PROGRESS=0 in the environment silences progress bars."
BAD_INPUT, INTERRUPTED, PIPE_CLOSED = 2, 130, 141  # the last two as a shell reports SIGINT and SIGPIPE


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit status. `argv`: the arguments, those of the process if None."""
    name = "tmrn-edu"
    try:
        arguments = parse(sys.argv[1:] if argv is None else argv)
        name = f"tmrn-edu {arguments.command}"

        from tmrn_edu import commands  # here: torch takes seconds, and help should not

        status = getattr(commands, f"run_{arguments.command}")(arguments)
        sys.stdout.flush()
        return status or 0
    except KeyboardInterrupt as stop:
        print(f"{name}: {str(stop) or 'interrupted; nothing was left half-written'}", file=sys.stderr)
        return getattr(stop, "status", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as `head` does: nobody to tell
        _silence_stdout()
        return PIPE_CLOSED
    except (InputError, OSError, FloatingPointError, MemoryError) as error:
        print(f"{name}: {one_line(error)}", file=sys.stderr)
        if isinstance(error, OSError):
            _silence_stdout()
        return BAD_INPUT


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
        self.exit(BAD_INPUT, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments of a command line; `command` is the command's name."""
    parser = Parser(
        prog="tmrn-edu",
        description="Memory networks for video object segmentation, with and without TMRN's trajectory memory.",
        epilog=f"example (starts with nothing, ends with a report to look at):\n  tmrn-edu tour\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    _add_tour(commands)
    _add_gallery(commands)
    _add_segment(commands)
    _add_evaluate(commands)
    _add_train(commands, argv[1:] if argv[:1] == ["train"] else None)
    _add_data(commands)
    _add_compare(commands)
    _add_figure(commands)
    _add_grade(commands)
    _add_networks(commands)
    if argv and argv[0] in commands.choices:
        _check_options(commands.choices[argv[0]], argv[1:])
    arguments = parser.parse_args(argv)
    if arguments.command == "evaluate" and arguments.weights and not arguments.network:
        commands.choices["evaluate"].error(
            "--weights are given without --network, expected --network stm, stcn ... with it"
        )
    if arguments.command == "evaluate" and arguments.reader and not arguments.network:
        commands.choices["evaluate"].error("--reader is given without --network, expected --network FILE with it")
    if arguments.command == "segment" and not (arguments.mask or arguments.polygon or arguments.draw):
        commands.choices["segment"].error(
            'one of these is required: --mask PNG, --polygon "ID:x,y x,y x,y" (--draw PAGE.html helps to draw one)'
        )
    if arguments.command == "segment" and arguments.network is arguments.weights is None:
        arguments.network = NETWORK
    return arguments


def _command(commands, name, does, examples, epilog=EPILOG):
    return commands.add_parser(
        name,
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=f"example:\n{examples}\n\n{epilog}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _check_options(parser: Parser, argv: list[str]) -> None:
    """An option that does not exist is named with its nearest relatives, before anything else is found missing."""
    for action in parser._actions:  # of `tmrn-edu data`, the options are those of `check` or `get`
        if isinstance(action, argparse._SubParsersAction):
            if argv and argv[0] in action.choices:
                _check_options(action.choices[argv[0]], argv[1:])
            return
    known = [option for action in parser._actions for option in action.option_strings]
    for word in argv:
        option = word.split("=")[0]
        if word == "--":
            return
        if option.startswith("--") and option not in known:
            near = difflib.get_close_matches(option, known, n=3, cutoff=0.5)
            parser.error(f"there is no option {option}" + (f", did you mean {' or '.join(near)}?" if near else ""))


def _whole(least: int):
    """A parser of whole numbers from `least` on."""

    def parse_whole(text):
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} given, expected a whole number, at least {least}")
        return int(text)

    return parse_whole


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} given, expected a number, at least 0")
    return number


def _ids(text: str) -> tuple[int, ...]:
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(
            f"{text!r} given, expected object ids such as 1,3, or none (then put the video first)"
        )
    return tuple(int(part) for part in text.split(","))


def _yes_or_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} given, expected true or false")
    return text.lower() == "true"


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(_number(part) for part in text.split(",") if part)


def _pairs(text: str) -> tuple[tuple[float, int], ...]:
    pairs = [part.split(":") for part in text.split(",") if part]
    if any(len(pair) != 2 for pair in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} given, expected share:gap,share:gap such as 0:5,0.1:10")
    return tuple((_number(share), _whole(1)(gap)) for share, gap in pairs)


def _values_of_recipe(argv: list[str]) -> dict[str, str]:
    """For help: the settings of the recipe that is asked about, "60, then 80" where the stages of a course differ; none without a recipe."""
    from tmrn_edu.courses import list_recipes

    recipes = list_recipes() if {"-h", "--help"} & set(argv) else {}
    asked = [recipes[word.replace("_", "-")] for word in argv if word.replace("_", "-") in recipes]
    if not asked:
        return {}
    stages = getattr(asked[0], "stages", (asked[0],))
    return {
        name: ", then ".join(dict.fromkeys(_shown(getattr(stage.settings, name)) for stage in stages))
        for name in stages[0].settings.__dataclass_fields__
    }


def _shown(value) -> str:
    if isinstance(value, tuple):
        return (
            ",".join(":".join(map(str, part)) if isinstance(part, tuple) else f"{part:.4g}" for part in value) or "none"
        )
    return str(value).lower() if isinstance(value, bool) else f"{value:.4g}" if isinstance(value, float) else str(value)


def _add_tour(commands):
    does, examples = "segment a clip with and without TMRN, score it, write a report", "  tmrn-edu tour --out out/tour"
    add = _command(commands, "tour", does, examples).add_argument
    add("--out", default="out/tour", metavar="DIR", help="where masks, pictures and report.html go (%(default)s)")
    add("--overwrite", action="store_true", help="replace masks and pictures that are not from a tour, too")


def _add_gallery(commands):
    examples = (
        "  tmrn-edu gallery --out out/gallery\n"
        "  tmrn-edu gallery --out out/mine --clip hard:7 --clip medium:3 --network stcn-tiny --network tmrn-stcn-tiny\n"
        "  tmrn-edu gallery --out out/video --video clip.mp4 --mask first.png --frame 20 --frame 40"
    )
    does = "write pages to point at pixels in, on several clips and networks or on a video, for a course page"
    add = _command(commands, "gallery", does, examples).add_argument
    add("--out", default="out/gallery", metavar="DIR", help="where index.html and the pages go (%(default)s)")
    clip = "a synthetic clip by level and seed, a page each (with --network; without both: a chosen set of pages)"
    add("--clip", action="append", default=[], type=_clip, metavar="LEVEL:SEED", help=clip)
    add(
        "--video",
        metavar="FILE|DIR",
        help="a video of your own, in place of clips, with --mask; its first 60 frames, unless --frame is given",
    )
    add("--mask", metavar="PNG", help="the mask of the video's frame 0; the first network makes the others from it")
    add(
        "--frame",
        action="append",
        default=[],
        type=int,
        metavar="N",
        help="a query frame of the video; again for more (four, evenly spaced)",
    )
    network = "a shipped network or weights of tmrn-edu train to show on the clips; again for more, the first two side by side"
    add("--network", action="append", default=[], metavar="NAME|FILE", help=network)
    add("--overwrite", action="store_true", help="replace pages that DIR already holds")


def _clip(text: str) -> tuple[str, int]:
    level, colon, seed = text.partition(":")
    if not colon or not level or not seed.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} given, expected LEVEL:SEED such as hard:7")
    return level, int(seed)


def _add_segment(commands):
    examples = (
        "  tmrn-edu segment frames/ --mask first.png --out out/mine\n"
        "  tmrn-edu segment clip.mp4 --draw outline.html                 a page to draw on, which says --polygon ...\n"
        '  tmrn-edu segment clip.mp4 --polygon "1:120,40 190,52 171,140" --cutout\n'
        "  tmrn-edu segment clip.mp4 --mask first.png --mask 30=fixed.png --max-frames 8 --device cuda --overwrite"
    )
    epilog = (
        "DIR gets, when all is done, masks/00000.png ..., one palette PNG per frame with the ids of the given mask, and\n"
        "overlay.mp4, at the video's frames per second; a folder of frames has none, and gets 24.\n\n"
        "Look at overlay.mp4. Where a mask goes wrong, correct one frame there (in a paint program, in notebook 09 by a few\n"
        "clicks, or with --mask 30=out/mine/masks/00030.png --draw 30=PAGE.html) and give it too, as --mask 30=fixed.png:\n"
        "frames before 30 come out as before, those after it follow the correction.\n\n"
        "Points of a polygon are x,y in pixels as an image viewer shows them: x to the right, y down, 0,0 the upper left one.\n"
        "Several polygons of one object are filled together by the even-odd rule, so one inside another is a hole; object 0 takes\n"
        "away from the mask.\n\n"
        "The networks called mobile are for real video; the tiny ones were trained on synthetic clips alone and\n"
        f"are to learn from. {EPILOG}"
    )
    command = _command(commands, "segment", "segment a video, given the mask of its first frame", examples, epilog)
    add = command.add_argument
    add("video", metavar="VIDEO|FOLDER", help="a video file, a GIF, or a folder of JPEG or PNG frames")
    mask = (
        "mask of the first frame: palette or grey PNG of object ids; again as N=PNG for objects that enter in frame N, or to "
        "correct those that are there from frame N on"
    )
    add("--mask", action="append", default=[], metavar="PNG", help=mask)
    polygon = (
        "outline of object ID in the first frame, in place of a mask or painted over it; again as N=ID:... for frame N"
    )
    add("--polygon", action="append", default=[], metavar='"ID:x,y x,y ..."', help=polygon)
    page = (
        "do not segment: write a page to outline objects on in a browser, with the first frame (or frame N: N=PAGE.html) and "
        "what --mask and --polygon say of it; the page shows the --polygon words"
    )
    add("--draw", metavar="PAGE.html", help=page)
    cutouts = "also write cutout/00000.png ..., the objects (or those with the given ids) on nothing, with soft alpha"
    add("--cutout", nargs="?", const=True, default=False, type=_ids, metavar="ID,ID", help=cutouts)
    add("--network", metavar="NAME", help=f"a shipped network, see tmrn-edu networks ({NETWORK}), or {OFFICIAL}")
    add("--weights", metavar="FILE", help=WEIGHTS)
    add("--reader", metavar="FILE.py:CLASS", help=OWN_READER)
    add("--out", default="out/segment", metavar="DIR", help="folder for the results (%(default)s)")
    add("--overwrite", action="store_true", help="replace results that DIR already holds")
    _add_rules(add)
    bound = (
        "keep at most N frames in memory, the first and the latest: constant memory however long the video (what the "
        "network was made for: 5 in mobile networks, else all)"
    )
    add("--max-frames", type=_whole(1), metavar="N", help=bound)
    shrink = "shrink frames to a short side of N pixels for the network; 0: never (what the network was made for)"
    add("--short-side", type=_whole(0), metavar="N", help=shrink)
    add("--no-overlay", action="store_true", help="masks only, no overlay.mp4 (needs no PyAV)")
    _add_device(add)


def _add_evaluate(commands):
    examples = (
        f"  tmrn-edu evaluate --dataset davis2017 --data DAVIS --network {NETWORK} --json scores.json\n"
        "  tmrn-edu evaluate --dataset davis2016 --data DAVIS --results out/masks --sequences bear,camel\n"
        "  tmrn-edu evaluate --dataset folder --data VIDEOS --held-out 3 --network runs/mine/network.safetensors\n"
        "  tmrn-edu evaluate --dataset davis2017 --data DAVIS --split test-dev --network NAME --masks-out out/dev --submission dev.zip\n"
        "  tmrn-edu evaluate --dataset youtubevos2019 --data YouTube --network NAME --masks-out out/yv --resume --submission yv.zip"
    )
    epilog = f"docs/evaluation.md says how every benchmark is laid out, scored and submitted.\n{EPILOG}"
    does = "score a network, or masks made earlier, on DAVIS, YouTube-VOS or videos of your own, or zip them for the server"
    command = _command(commands, "evaluate", does, examples, epilog)
    add = command.add_argument
    datasets = "davis2016 (objects merged), davis2017, youtubevos2018, youtubevos2019, or folder: videos of your own"
    add("--dataset", required=True, metavar="NAME", help=datasets)
    root = (
        "DAVIS: folder with ImageSets, JPEGImages and Annotations; YouTube-VOS: folder with valid, and valid_all_frames; "
        "folder: JPEGImages/NAME and Annotations/NAME, or what else tmrn-edu data check knows"
    )
    add("--data", required=True, metavar="ROOT", help=root)
    split = "DAVIS: name of a list in ImageSets (val), YouTube-VOS: name of a folder (valid)"
    add("--split", metavar="S", help=split)
    some = command.add_mutually_exclusive_group().add_argument
    some("--sequences", metavar="A,B", help="only these sequences")
    kept = "folder: only the N videos that tmrn-edu train --held-out=N keeps from training on this folder"
    some("--held-out", type=_whole(1), metavar="N", help=kept)
    some("--folds", type=_whole(2), metavar="K", help="folder: the same for tmrn-edu train --folds=K --fold=k")
    add("--fold", type=_whole(0), metavar="k", help="which of the --folds, from 0 on (0)")
    method = command.add_mutually_exclusive_group(required=True).add_argument
    method(
        "--network", metavar="NAME|FILE", help=f"a shipped network, weights that tmrn-edu train wrote, or {OFFICIAL}"
    )
    method("--results", metavar="DIR|ZIP", help="masks made earlier: DIR/SEQUENCE/00000.png ..., or a submission's zip")
    add("--weights", metavar="FILE", help=WEIGHTS)
    add("--reader", metavar="FILE.py:CLASS", help=OWN_READER)
    add("--masks-out", metavar="DIR", help="also write the network's masks, to be used as --results")
    add("--resume", action="store_true", help="go on with the run in --masks-out DIR after its last complete sequence")
    add("--submission", metavar="FILE.zip", help="also zip the masks for the server, when they fit its rules")
    seen = "meta.json of YouTube-VOS' training split: its categories are the seen ones (the 65 published ones)"
    add("--train-meta", metavar="FILE", help=seen)
    add("--json", metavar="FILE", help="also write the scores as JSON")
    _add_rules(add)
    add("--short-side", type=_whole(0), metavar="N", help="as in tmrn-edu segment")
    _add_device(add)


def _add_train(commands, argv):
    examples = (
        "  tmrn-edu train stcn_small                                      both stages in small, minutes on a CPU\n"
        "  tmrn-edu train tmrn_stcn_small --data DAVIS synthetic:300 --out runs/mine --steps=500\n"
        "  tmrn-edu train tmrn_stcn_small --out runs/mine --resume\n"
        "  tmrn-edu train stcn_video --data DAVIS YOUTUBE --init stcn.pth --reader trajectory --device cuda --devices 2"
    )
    does = "train a recipe's network, from its first weights or from its last checkpoint"
    command = _command(commands, "train", does, examples)
    add = command.add_argument
    add("recipe", metavar="RECIPE", help="a recipe of tmrn_edu/recipes, by name; a wrong name lists them")
    sources = (
        "folders of still images or videos (see tmrn-edu data check); synthetic:COUNT (the recipe's own, if any); and "
        "made from the folders' videos: pasted:COUNT, look-alikes:COUNT, textured:COUNT"
    )
    add("--data", nargs="+", default=[], metavar="ROOT", help=sources)
    named = "text file with names of data sets or videos, one a line: take only these from the folders (all)"
    add("--subset", metavar="FILE", help=named)
    add("--out", metavar="DIR", help="folder of the run (runs/RECIPE)")
    add("--resume", action="store_true", help="continue the run that is in DIR")
    first = "first weights: a shipped network's name, a file of a run or of the authors, imagenet, imagenet:FOLDER, or none (what the recipe says)"
    add("--init", metavar="FILE", help=first)
    reader = (
        "put another reader into the network: space-time, paper, warm, chained, tracking; trajectory is warm, which begins as a "
        "space-time read; or a class of yours, as FILE.py:CLASS"
    )
    add("--reader", metavar="NAME", help=reader)
    _add_device(add)
    add("--devices", type=_whole(1), default=1, metavar="N", help="processes on this machine, one a GPU (%(default)s)")
    add("--nodes", type=_whole(1), default=1, metavar="N", help="machines, under torchrun or Slurm (%(default)s)")
    if argv is None:  # settings live beside the training loop, which takes seconds to import
        return
    from tmrn_edu.training.settings import TrainSettings

    shown = _values_of_recipe(argv)
    group = command.add_argument_group(
        "settings",
        "in place of the recipe's, "
        + ("which stand in brackets" if shown else "which tmrn-edu train RECIPE --help shows"),
    )
    for field in TrainSettings.__dataclass_fields__.values():
        names = dict.fromkeys(f"--{name}" for name in (field.name.replace("_", "-"), field.name))
        kinds = {int: _whole(field.metadata["least"]), float: _number, bool: _yes_or_no, str: str}
        kind = kinds.get(field.type, _pairs if field.name == "gaps" else _numbers)
        metavar = {int: "N", float: "X", bool: "true|false"}.get(
            field.type, "|".join(field.metadata["choices"]) or "X,X"
        )
        meaning = field.metadata["meaning"] + (f" ({shown[field.name]})" if shown else "")
        group.add_argument(*names, dest=f"setting {field.name}", type=kind, metavar=metavar, help=meaning)


def _add_data(commands):
    examples = "  tmrn-edu data check DAVIS\n  tmrn-edu data get davis2017 --out data"
    command = _command(commands, "data", "check data sets for training, or download one", examples)
    actions = command.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=Parser)
    does = (
        "say which layout a folder has, count what is in it, and name every broken file (exit status 2 if there is one)"
    )
    check = _command(actions, "check", does, "  tmrn-edu data check DAVIS --full").add_argument
    check(
        "root",
        metavar="ROOT",
        help="a folder of still images with masks, of DAVIS, of YouTube-VOS, or of several of them",
    )
    check("--full", action="store_true", help="decode every file, not only its header and its end")
    does = "download a data set, where there is a network: continues where it broke off, and compares checksums"
    get = _command(actions, "get", does, "  tmrn-edu data get davis2017 --out data").add_argument
    get("name", metavar="NAME", help="davis2017, for example; a wrong name lists them")
    get("--out", default="data", metavar="DIR", help="folder that the data set goes into (%(default)s)")


def _add_compare(commands):
    examples = (
        "  tmrn-edu compare stcn.json tmrn-stcn.json --per attribute\n"
        "  tmrn-edu compare STCN=a.json STCN+TMRN=b.json XMem=c.json XMem+TMRN=d.json --pair STCN=STCN+TMRN XMem=XMem+TMRN "
        "--out table.tex"
    )
    does = "make tables of scores: Markdown, LaTeX or CSV, with differences and their bootstrap intervals"
    add = _command(commands, "compare", does, examples).add_argument
    run = "scores that tmrn-edu evaluate --json wrote; without a NAME called as the file is"
    add("runs", nargs="+", metavar="RUN", help=f"FILE or NAME=FILE: {run}")
    add("--baseline", metavar="NAME", help="the run that differences are to (the first)")
    pair = "names of two runs, a network and the same with TMRN: a row each with both and the difference, in place of --baseline"
    add("--pair", nargs="+", action="extend", default=[], type=_pair_of_runs, metavar="BASELINE=TMRN", help=pair)
    per = "also a row for each sequence, each attribute of sequences, or each object"
    add("--per", choices=("sequence", "attribute", "object"), help=per)
    attributes = "attributes of the sequences, in place of the runs' own: JSON {sequence: [attribute, ...]} or CSV lines sequence,attribute,..."
    add("--attributes", metavar="FILE", help=attributes)
    shapes = "markdown, latex (booktabs) or csv (tidy: a line per number); what the suffix of --out says, else markdown"
    add("--format", choices=("markdown", "latex", "csv"), help=shapes)
    add("--out", metavar="FILE", help="write the tables there (.md, .tex, .csv), not to the screen")


def _pair_of_runs(text: str) -> tuple[str, str]:
    first, _, second = text.partition("=")
    if not (first and second):
        raise argparse.ArgumentTypeError(f"{text!r} given, expected BASELINE=TMRN such as stcn=tmrn-stcn")
    return first, second


def _add_figure(commands):
    examples = (
        "  tmrn-edu figure frames/ --masks STCN=out/stcn STCN+TMRN=out/tmrn --truth truth/ --out figure.pdf\n"
        "  tmrn-edu figure frames/ --masks STCN=out/stcn --columns 0,10,20 --box 20=40,60,80,100 --out figure.png\n"
        "  tmrn-edu figure clip.mp4 --masks STCN=out/stcn STCN+TMRN=out/tmrn --out side_by_side.mp4"
    )
    does = "put the masks of several methods side by side, as a figure or a video"
    add = _command(commands, "figure", does, examples).add_argument
    add("frames", metavar="FRAMES", help="the video that was segmented: a file, or a folder of JPEG or PNG frames")
    masks = (
        "a method's name and its masks of this video, as tmrn-edu segment or evaluate wrote them; a row or panel each"
    )
    add("--masks", nargs="+", action="extend", required=True, type=_named, metavar="NAME=DIR", help=masks)
    truth = "the true masks: their own row or panel; boxes and J are by them"
    add("--truth", metavar="DIR", help=truth)
    columns = "frames of the figure, or how many to choose where the methods differ most (5, or the frames of --box)"
    add("--columns", type=_columns, metavar="A,B|N", help=columns)
    box = "a box drawn by hand, in pixels from the upper left corner, in place of those that are found; may be repeated"
    add("--box", action="append", default=[], type=_box, metavar="FRAME=y,x,h,w", help=box)
    add("--no-boxes", action="store_true", help="draw no boxes")
    add("--show-j", action="store_true", help="write the J of every panel into its corner")
    add("--fps", type=_number, metavar="X", help="frames per second of a video (those of FRAMES; 24 for a folder)")
    out = "figure as .png, .pdf or .svg; video with names and running J as .mp4, .mov or .mkv"
    add("--out", required=True, metavar="FILE", help=out)


def _named(text: str) -> tuple[str, str]:
    name, _, folder = text.partition("=")
    if not (name and folder):
        raise argparse.ArgumentTypeError(f"{text!r} given, expected NAME=DIR such as STCN=out/stcn")
    return name, folder


def _columns(text: str) -> int | tuple[int, ...]:
    if "," in text:
        return tuple(_whole(0)(part) for part in text.split(",") if part)
    return _whole(1)(text)


def _box(text: str) -> tuple[int, tuple[int, ...]]:
    frame, _, place = text.partition("=")
    numbers = place.split(",")
    if not (len(numbers) == 4 and all(part.isdecimal() for part in (frame, *numbers))):
        raise argparse.ArgumentTypeError(f"{text!r} given, expected FRAME=y,x,height,width such as 20=40,60,80,100")
    return int(frame), tuple(map(int, numbers))


def _add_grade(commands):
    examples = "  tmrn-edu grade copies/ --csv marks.csv\n  tmrn-edu grade anna.ipynb ben.ipynb --timeout 5"
    epilog = (
        "Nothing of a notebook runs but the cell of each exercise, with the imports, functions and classes that it names; then the\n"
        "checker of this package tries the function. Marks: passed, not yet, empty, does not parse, raises, timed out, missing (at\n"
        "least half of the copies of the same lesson have this exercise).\n\n"
        "These are self-checks, no exams: answers are in the repository, and can be copied. And the code of a notebook runs as you,\n"
        f"in no sandbox: grade only copies that you would open and run yourself.\n\n{EPILOG}"
    )
    does = "say which exercises are done in copies of a lesson, without running the lessons"
    add = _command(commands, "grade", does, examples, epilog).add_argument
    add("notebooks", nargs="+", metavar="NOTEBOOK|FOLDER", help="notebooks, or folders: all *.ipynb below them")
    add("--csv", metavar="FILE.csv", help="also write a line for each notebook and exercise")
    add("--timeout", type=_whole(1), default=20, metavar="SECONDS", help="longest time for an exercise (%(default)s)")


def _add_networks(commands):
    does = "list the shipped networks, where their weights come from and their licence"
    _command(commands, "networks", does, "  tmrn-edu networks")


def _add_rules(add):
    own = "every N-th frame joins the memory (the network's own rule: 5, GSFM 3)"
    add("--memory-every", type=_whole(1), metavar="N", help=own)
    add("--precision", choices=("fp32", "bf16"), help="bf16: faster convolutions where the processor has them (fp32)")


def _add_device(add):
    add("--device", default="auto", metavar="D", help="cpu, cuda, cuda:1 ...; auto: cuda where there is one")


if __name__ == "__main__":
    sys.exit(main())
