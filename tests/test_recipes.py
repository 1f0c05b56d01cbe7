"""Every recipe builds, takes real steps at a small size, and starts from the same shared weights as its baseline."""

import importlib
import pkgutil
from dataclasses import replace

import pytest
import torch

from tmrn_edu import recipes
from tmrn_edu.data.clips import SyntheticClips
from tmrn_edu.train import Recipe, train
from tmrn_edu.weights import list_networks, load

MODULES = [
    importlib.import_module(f"tmrn_edu.recipes.{module.name}") for module in pkgutil.iter_modules(recipes.__path__)
]
RECIPES = [module.RECIPE for module in MODULES if hasattr(module, "RECIPE")]


def test_there_is_a_recipe_for_every_shipped_network():
    names = {recipe.name for recipe in RECIPES}
    assert names >= {info.name for info in list_networks()}
    assert names >= {reader.format(n) for n in ("stm", "stcn", "xmem") for reader in ("{}-tiny", "tmrn-{}-tiny")}


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_recipe_takes_two_steps_and_leaves_weights_that_load(recipe: Recipe, tmp_path):
    settings = replace(recipe.settings, steps=2, batch=2, clips=4, size=32)
    before = recipe.build(settings.seed).state_dict()
    data = SyntheticClips(4, size=(32, 32))
    path = train(replace(recipe, settings=settings), tmp_path / "run", progress=False, data=data)
    after = load(path).state_dict()
    assert before.keys() == after.keys()
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) > 0.8 * len(before)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_shared_parts_start_alike(recipe: Recipe):
    own = recipe.name.removeprefix("tmrn-").replace("-chained", "")
    baseline = next(r for r in RECIPES if r.name == own).build(5).state_dict()
    state = recipe.build(5).state_dict()
    assert all(torch.equal(baseline[name], state[name]) for name in baseline)
    other_seed = recipe.build(6).state_dict()
    assert any(not torch.equal(state[name], other_seed[name]) for name in baseline)
