"""From a recipe's name to weights: data, first weights, one stage or several, and the scores at the end."""

import difflib
import importlib
import json
import os
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tmrn_edu import recipes
from tmrn_edu.data.files import atomic_path
from tmrn_edu.data.synthetic import LEVELS
from tmrn_edu.errors import InputError
from tmrn_edu.evaluate_clips import held_out_clips, score_clips
from tmrn_edu.train import Stopped, train
from tmrn_edu.training.held_out import score_videos
from tmrn_edu.training.run_folder import NETWORK, RUN
from tmrn_edu.training.settings import Course, Recipe, TrainSettings
from tmrn_edu.training.sources import make_data
from tmrn_edu.training.start import find_reader, start_from

RUNS = Path("runs")  # where runs go that were given no folder
SCORES = "scores.json"
CLIPS_A_LEVEL = 16


def list_recipes() -> dict[str, Recipe | Course]:
    """All recipes and courses by name, stages of courses included. A file of `recipes/` has one in RECIPE, and its twin with TMRN in TMRN."""
    found = {}
    for info in pkgutil.iter_modules(recipes.__path__):
        module = importlib.import_module(f"{recipes.__name__}.{info.name}")
        for attribute in ("RECIPE", "TMRN"):
            one = getattr(module, attribute, None)
            for part in (one, *(one.stages if isinstance(one, Course) else ())):
                if part is not None:
                    found[part.name] = part
    return found


def find_recipe(name: str) -> Recipe | Course:
    """The recipe or course of that name, with dashes or underscores. Raises InputError listing those there are."""
    found = list_recipes()
    if name.replace("_", "-") not in found:
        names = [one.replace("-", "_") for one in sorted(found)]
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        meant = f", did you mean {' or '.join(near)}?" if near else ";"
        raise InputError(f"there is no recipe {name!r}{meant} there are {', '.join(names)}")
    return found[name.replace("_", "-")]


def with_reader(recipe: Recipe | Course, reader: str | None) -> Recipe | Course:
    """The same with another memory reader, see `training.start.find_reader`; None: with its own."""
    if reader is None:
        return recipe
    short = reader.rpartition(":")[2]  # of FILE.py:CLASS the class: the file may lie elsewhere when a run goes on
    if isinstance(recipe, Course):
        stages = tuple(with_reader(stage, reader) for stage in recipe.stages)
        return replace(recipe, name=f"{recipe.name} ({short} reader)", stages=stages)
    make = find_reader(reader)

    def build(seed: int) -> nn.Module:
        network = recipe.build(seed)
        network.reader = make(network)
        return network

    return replace(recipe, name=f"{recipe.name} ({short} reader)", build=build)


def first_weights(recipe: Recipe, init: str | os.PathLike | None) -> str:
    """Where a recipe's weights come from: `init`, if given, else what the recipe says. Raises InputError where the stage before has not been run."""
    if init is not None:
        return str(init)
    if recipe.init in ("none", "imagenet"):
        return recipe.init
    path = RUNS / recipe.init / NETWORK
    if not path.is_file():
        raise InputError(
            f"{recipe.name} starts from the weights of {recipe.init}: expected {path}, or --init FILE (imagenet, none: without that stage)"
        )
    return str(path)


def run_recipe(
    recipe: Recipe | Course,
    out: str | os.PathLike | None = None,
    roots: Sequence[str | os.PathLike] = (),
    init: str | os.PathLike | None = None,
    reader: str | None = None,
    subset: str | os.PathLike | None = None,
    resume: bool = False,
    options: Mapping | None = None,
    **engine,
) -> Path:
    """Trains a recipe, or one stage of a course after the other; returns the path of the last weights.

    `options`: settings in place of the recipe's; `roots`, `subset`: see `training.sources.make_data`; `init`: see `first_weights`; `reader`: see
    `with_reader`; `engine`: `device`, `devices`, `nodes`, `progress` of `train.train`. A resumed run goes on with the settings, data, first
    weights and reader that it began with, unless told otherwise. A course leaves one folder a stage, and `scores.json`.
    Errors: as `train.train`, and InputError for data that cannot be used.
    """
    out = RUNS / recipe.name if out is None else Path(out)
    if isinstance(recipe, Course):
        return _run_course(recipe, out, roots, init, reader, subset, resume, options, **engine)
    begun = _begun(out) if resume else {}
    options = dict(options or {})
    recipe = recipe.with_settings(**begun.get("settings", {}) | options)
    roots = list(roots) or begun.get("roots", [])
    if init is not None and begun.get("init") is not None and not _same(init, begun["init"]):
        raise InputError(f"{out} holds a run that started from {begun['init']}, now it is to start from {init}")
    init, reader, subset = init or begun.get("init"), reader or begun.get("reader"), subset or begun.get("subset")
    built = with_reader(recipe, reader)  # before data is looked at: a reader that is not there is known at once
    data, held_out, words = make_data(recipe, roots, subset, progress=bool(engine.get("progress")))
    init = first_weights(recipe, init)
    about = {"data": words, "roots": [str(root) for root in roots], "init": init, "reader": reader}
    about |= {"subset": None if subset is None else str(subset), "options": begun.get("options", {}) | options}
    return train(built, out, resume, data=data, init=init, held_out=held_out, about=about, **engine)


def _run_course(course: Course, out: Path, roots, init, reader, subset, resume: bool, options, **engine) -> Path:
    folders = [out / f"{number}-{stage.name}" for number, stage in enumerate(course.stages, start=1)]
    begun = [resume and (folder / RUN).exists() for folder in folders]  # asked once, so all processes see the same
    if resume and not begun[0]:
        raise InputError(f"nothing to resume in {out}: expected {folders[0].name}/{RUN}, which every run writes first")
    for stage, folder, again in zip(course.stages, folders, begun, strict=True):
        of_before = again and folder is not folders[0]  # it was handed over when the stage began
        try:
            path = run_recipe(
                stage, folder, roots, None if of_before else init, reader, subset, again, options, **engine
            )
        except Stopped as stop:
            raise Stopped(stop.step, f"{out} (in {stage.name})", stop.status) from None
        first = _begun(folder)
        roots, reader, subset, init = first["roots"], first["reader"], first["subset"], path
        options = first["options"]  # those given when it was begun hold for the next stage too
    if is_first_process():
        last = with_reader(course.stages[-1].with_settings(**first["settings"]), reader)
        _, held_out, _ = make_data(last, roots, subset)
        with torch.random.fork_rng(devices=[]):
            network = last.build(
                last.settings.seed
            )  # with the recipe's own reader, which may be one that no file can build
        start_from(network, path)
        scores = score_network(network.eval(), held_out)
        with atomic_path(out / SCORES) as temporary:
            temporary.write_text(json.dumps(scores, indent=1) + "\n")
    return path


def score_network(
    network: nn.Module, held_out: Mapping[str, Sequence] | None = None, clips: int | None = None
) -> dict[str, dict[str, float]]:
    """J on `clips` held-out synthetic clips a level (16), and on held-out videos by name."""
    clips = CLIPS_A_LEVEL if clips is None else clips
    with torch.inference_mode():
        synthetic = {level: score_clips(network, held_out_clips(level, clips)).J.mean() for level in LEVELS}
    scores = {"synthetic": {level: round(float(J), 4) for level, J in synthetic.items()}}
    for name, videos in (held_out or {}).items():
        scores[f"held out of {name}"] = {video: round(J, 4) for video, J in score_videos(network, videos).items()}
    return scores


def _same(one: str | os.PathLike, other: str) -> bool:
    """Whether two words for first weights mean the same."""
    paths = Path(one), Path(other)
    return str(one) == other or (all(path.exists() for path in paths) and paths[0].samefile(paths[1]))


def is_first_process() -> bool:
    """Whether this process speaks for all: of those that train together, the first."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", os.environ.get("LOCAL_RANK", 0)))) == 0


def _begun(out: Path) -> dict:
    """What a run was begun with: settings (those that this version knows), roots, init, reader, subset; nothing where there is no run."""
    try:
        run = json.loads((out / RUN).read_text())
        about = run["about"]
    except (OSError, ValueError, KeyError):
        return {}
    settings, options = (
        {name: as_tuples(value) for name, value in given.items() if name in TrainSettings.__dataclass_fields__}
        for given in (run["settings"], about.get("options", {}))
    )
    rest = {name: about.get(name) for name in ("init", "reader", "subset")}
    return {"settings": settings, "options": options, "roots": about.get("roots") or [], **rest}


def as_tuples(value):
    """JSON's lists, back to the tuples that settings hold."""
    return tuple(as_tuples(part) for part in value) if isinstance(value, list) else value
