"""What is counted without computing is what a real step does; estimates follow from it, and from the authors' own hours."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from tmrn_edu.courses import find_recipe
from tmrn_edu.data.clips import Batch, collate
from tmrn_edu.errors import InputError
from tmrn_edu.networks import XMem
from tmrn_edu.training import cost
from tmrn_edu.training.cost import GPUS, Answers, Gpu, estimate, measure
from tmrn_edu.training.objective import clip_objective
from tmrn_edu.training.schedule import curriculum
from tmrn_edu.training.sources import make_data

GIB = 2**30


def small(name, **settings):
    """A recipe of a course, at 32 pixels, without XMem's draws."""
    recipe = find_recipe(name)

    def build(seed):
        network = recipe.build(seed)
        network.deep_update_probability = 0.0
        return network

    return replace(recipe, build=build).with_settings(size=32, **settings)


def really(recipe, clips):
    """FLOPs and kept bytes of a real step on real clips, which have all their objects: those of one object."""
    settings = recipe.settings
    data, _, _ = make_data(recipe, ["synthetic:6"])
    batch = collate([data.sample(0, i, clips, settings.frames, 1) for i in range(clips)])
    network = recipe.build(0).train()
    there = {
        t.untyped_storage().data_ptr()
        for t in [*network.parameters(), *network.buffers(), batch.frames, batch.object_masks]
    }
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address comes twice
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            loss, _ = clip_objective(network, batch, settings, curriculum(settings, settings.steps - 1))
        loss.total.backward()
    return counter.get_total_flops(), sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in there)


@pytest.mark.parametrize("name", ["stcn_static_small", "tmrn_stm_video_small", "xmem_video_small"])
def test_counts_are_those_of_a_real_step(name):
    recipe = small(name, objects=1)
    found = measure(recipe)
    flops, kept = really(recipe, clips=2)
    assert found.clip_flops * 2 == flops
    assert found.clip_activations * 2 == pytest.approx(
        kept, rel=0.02
    )  # index tensors differ where clips have frames of their own
    assert (
        found.parameters == sum(p.numel() for p in recipe.build(0).parameters())
        and found.weights == 4 * found.parameters
    )
    # no copies, but single numbers made of weights, such as a temperature
    assert found.weight_copies < 100 and found.gradients == found.weights and found.optimiser == 2 * found.weights


def test_mixed_precision_keeps_little_more_than_half():
    recipe = find_recipe("stcn_static_small")
    exact, mixed = measure(recipe), measure(recipe.with_settings(precision="bf16"))
    assert 0.5 * exact.clip_activations < mixed.clip_activations < 0.75 * exact.clip_activations
    # cut weights are copied for every frame
    assert 0 < mixed.weight_copies < exact.weights and mixed.clip_flops == exact.clip_flops


def test_what_is_kept_grows_with_clips_and_copies_of_weights_do_not(monkeypatch):
    recipe, one_clip = find_recipe("stcn_video_small").with_settings(precision="16"), cost._batch

    def two_clips(settings):
        batch = one_clip(settings)
        return Batch(torch.cat([batch.frames] * 2), torch.cat([batch.object_masks] * 2), batch.indices)

    one = measure(recipe)
    monkeypatch.setattr(cost, "_batch", two_clips)
    two = measure(recipe)
    assert two.clip_activations == pytest.approx(2 * one.clip_activations, rel=1e-5)  # the loss itself is one number
    assert two.weight_copies == one.weight_copies > 0 and two.clip_flops == 2 * one.clip_flops


def test_one_draw_of_five_is_a_deep_update():
    with FakeTensorMode(), Answers():
        draws = [torch.rand(()).item() for _ in range(10)]
        assert torch.zeros((), dtype=torch.int64).item() == 0 and float(torch.ones(())) == 0
    assert sum(draw < XMem.deep_update_probability for draw in draws) == 2


@pytest.fixture(scope="module")
def stages():
    """STCN's, at published size."""
    return measure(find_recipe("stcn_static")), measure(find_recipe("stcn_video"))


def test_the_assumed_share_of_the_peak_gives_the_hours_of_stcns_authors(stages):
    static, video = (estimate(stage, "RTX 2080 Ti", 2) for stage in stages)
    assert static.hours + video.hours == pytest.approx(36 + 16, rel=0.03)
    assert static.hours == pytest.approx(36, rel=0.15) and video.hours == pytest.approx(16, rel=0.15)
    assert (
        not static.waits and static.fits and static.accumulate == video.accumulate == 1
    )  # "just two 11GB GPUs" (their README)


def test_hours_and_memory_are_what_the_formula_says(stages):
    video = stages[1]
    found = estimate(video, "RTX 3090", 2)
    peak = 71e12 * cost.UTILISATION
    assert found.hours == pytest.approx(150_000 * 8 * video.clip_flops / (2 * peak) / 3600)
    fixed = video.weights * 5 + video.weight_copies  # weights, two means, gradients twice
    assert found.gibibytes == pytest.approx((fixed + 4 * video.clip_activations + cost.RESERVE) / GIB)
    assert (
        found.text()
        == f"estimate: stcn-video takes about {found.hours:.0f} h on 2 x RTX 3090, {found.gibibytes:.0f} of 24 GiB each"
    )


def test_clips_are_taken_in_parts_where_memory_is_short(stages):
    video = stages[1]
    small = Gpu("small", 6, 100.0, "made up")
    assert estimate(video, small, 1).accumulate == 2 and "--accumulate 2" in estimate(video, small, 1).text()
    none = estimate(video, replace(small, gibibytes=1), 1)
    assert not none.fits and none.accumulate == 8 and "but a clip needs" in none.text()


def test_a_fast_gpu_waits_for_launches(stages):
    video = stages[1]
    found = estimate(video, "H100", 8)
    assert found.waits and found.hours == pytest.approx(150_000 * video.launches * cost.LAUNCH / 3600)


def test_what_cannot_be_estimated_is_named(stages):
    with pytest.raises(InputError, match="GPU is 'RTX 1'.*RTX 2080 Ti.*H100"):
        estimate(stages[0], "RTX 1")
    with pytest.raises(InputError, match="3 GPUs for a batch of 16 clips"):
        estimate(stages[0], "H100", 3)
    exact = replace(stages[0], settings=replace(stages[0].settings, precision="32"))
    with pytest.raises(InputError, match="stcn-static has precision 32, expected 16 or bf16"):
        estimate(exact, "H100")


def test_every_gpu_of_the_table_can_be_asked_for(stages):
    for name, gpu in GPUS.items():
        assert estimate(stages[0], name).gpu is gpu is GPUS[gpu.name] and estimate(stages[0], name).hours > 0


@pytest.fixture(scope="module")
def benchmark():
    """benchmarks/training.py as a module."""
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "training.py"
    spec = importlib.util.spec_from_file_location("benchmark_training", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_measures_every_mode(benchmark):
    found = benchmark.throughput(small("stcn_video_small", batch=2), ["synthetic:4"], steps=1, rounds=1)
    assert tuple(found) == (*benchmark.MODES, benchmark.PAINTING) and all(
        clock > 0 and cpu > 0 for clock, cpu in found.values()
    )


def test_the_benchmark_prints_costs(benchmark, capsys, monkeypatch, stages):
    monkeypatch.setattr(benchmark, "measure", lambda recipe: stages[recipe.name == "stcn-video"])
    benchmark.show_costs(["stcn_static", "stcn_video"], [2])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| stcn_video |") for line in lines) == 2 and "Estimate, 2 GPUs" in "".join(lines)
    assert all(len(line.split("|")) in (9, 11) for line in lines if line.startswith("|"))


def test_the_benchmark_knows_all_full_size_recipes(benchmark):
    assert all(find_recipe(name).settings.size == 384 for name in benchmark.FULL) and len(benchmark.FULL) == 12
