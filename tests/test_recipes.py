"""Every recipe builds, takes real steps at a small size, leaves weights that load, and starts from the same shared weights as its baseline."""

import csv
import shutil
from dataclasses import replace

import pytest
import torch

from tmrn_edu.courses import list_recipes, run_recipe
from tmrn_edu.data.clips import SyntheticClips
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.train import Course, Recipe, train
from tmrn_edu.weights import list_networks, load

EVERY = {name: recipe for name, recipe in list_recipes().items() if isinstance(recipe, Recipe)}
COURSES = {name: course for name, course in list_recipes().items() if isinstance(course, Course)}
TINY = {name: recipe for name, recipe in EVERY.items() if name.endswith("-tiny")}
MOBILE = {name: recipe for name, recipe in EVERY.items() if "mobile" in name}
STAGES = {name: recipe for name, recipe in EVERY.items() if name not in TINY}


def baseline_of(name):
    return EVERY[name.removeprefix("tmrn-").replace("-chained", "").replace("-tracking", "")]


def moved(before, after):
    """Which weights a step changed, statistics of batch normalisation among them."""
    return [name for name, one in before.items() if one.is_floating_point() and not torch.equal(one, after[name])]


def test_there_is_a_recipe_for_every_shipped_network():
    assert set(TINY) >= {info.name for info in list_networks() if "mobile" not in info.name}
    networks = ("stm", "stcn", "xmem")
    names = [f"{tmrn}{n}-{stage}" for tmrn in ("", "tmrn-") for n in networks for stage in ("static", "video")]
    assert set(STAGES) - set(MOBILE) == {*names, *(f"{name}-small" for name in names)}
    assert set(COURSES) == {"stcn-mobile", *(f"{tmrn}{n}-small" for tmrn in ("", "tmrn-") for n in networks)}
    assert set(MOBILE) >= {f"{info.name}-long" for info in list_networks() if "mobile" in info.name}


@pytest.mark.parametrize("name", TINY)
def test_tiny_recipe_takes_two_steps_and_leaves_weights_that_load(name, tmp_path):
    recipe = TINY[name]
    settings = replace(recipe.settings, steps=2, batch=2, clips=4, size=32)
    before = recipe.build(settings.seed).state_dict()
    data = SyntheticClips(4, size=(32, 32))
    path = train(replace(recipe, settings=settings), tmp_path / "run", progress=False, data=data)
    after = load(path).state_dict()
    assert before.keys() == after.keys()
    assert len(moved(before, after)) > 0.8 * len(before)


@pytest.mark.parametrize("name", STAGES)
def test_stage_takes_a_step(name, tmp_path):
    """The published networks, settings and schedule; only smaller pictures, one clip and 32-bit numbers."""
    recipe, out = STAGES[name], tmp_path / "run"
    options = {"steps": 1, "batch": 1, "size": 64, "precision": "32", "workers": 0}
    try:
        path = run_recipe(recipe, out, ["synthetic:1"], init="none", options=options, progress=False)
        with (out / "metrics.csv").open() as file:
            (row,) = csv.DictReader(file)
        assert (
            float(row["loss"]) > 0 and float(row["gradient_norm"]) > 0 and int(row["frames"]) == recipe.settings.frames
        )
        before, network = recipe.build(0), load(path)
        assert type(network) is type(before) and network.settings() == before.settings()
        kind = TrajectoryReader if name.startswith("tmrn-") else SpaceTimeReader
        assert type(network.reader) is kind
        changed, every = moved(before.state_dict(), network.state_dict()), [n for n, _ in network.named_parameters()]
        if recipe.settings.trunk_lr == 0:
            every = [part for part in every if ".trunk." not in part]
            assert not [part for part in changed if ".trunk." in part]
        assert len(changed) > 0.85 * len(every) and set(changed) <= set(every)
    finally:
        shutil.rmtree(out, ignore_errors=True)  # a checkpoint takes 0.7 GB


@pytest.mark.parametrize("name", [name for name in EVERY if "-small" in name or "-tiny" in name or "stcn" in name])
def test_shared_parts_start_alike(name):
    baseline = baseline_of(name).build(5).state_dict()
    state = EVERY[name].build(5).state_dict()
    assert all(torch.equal(baseline[part], state[part]) for part in baseline)
    other_seed = EVERY[name].build(6).state_dict()
    assert any(not torch.equal(state[part], other_seed[part]) for part in baseline)


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith("tmrn-")])
def test_with_and_without_tmrn_nothing_else_differs(name):
    one, other = EVERY[name], baseline_of(name)
    assert (one.settings, one.stage, one.rule, one.interpolation) == (
        other.settings,
        other.stage,
        other.rule,
        other.interpolation,
    )
    assert one.init.removeprefix("tmrn-") == other.init and one.grows == other.grows
