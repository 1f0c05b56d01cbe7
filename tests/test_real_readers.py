"""benchmarks/real_readers.py: which videos are scored, with which memories, and what its tables say."""

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tmrn_edu.data.video_clips import synthetic_set
from tmrn_edu.errors import InputError


@pytest.fixture(scope="module")
def benchmark():
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "real_readers.py"
    spec = importlib.util.spec_from_file_location("benchmark_real_readers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options(**given):
    usual = {"held_out": 0, "folds": 0, "fold": None, "videos": None, "copies": 1, "frames": 7, "reader": None}
    return argparse.Namespace(**usual | given)


def test_every_fold_is_scored_and_a_warm_reader_changes_nothing(benchmark, monkeypatch):
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    made = synthetic_set(4, length=7, size=(48, 64), seed=5)
    found = benchmark.collect(options(folds=2, networks=["own=stcn-tiny", "other=stcn-tiny@warm"]), [made])
    assert set(found) == {"plain", "look-alikes"}
    for kind, rows in found.items():
        assert sorted(rows["own"]["source"]) == sorted(video.name for video in made.videos), kind
        assert rows["own"]["video"] == rows["other"]["video"]
        for measure in benchmark.MEASURES:
            np.testing.assert_allclose(rows["own"][measure], rows["other"][measure], atol=0.02)
            assert all(0 <= value <= 1 for value in rows["own"][measure])
    assert all("look-alikes" in name for name in found["look-alikes"]["own"]["video"])
    table = benchmark.tables(found, per_video=True)
    assert "| plain: 4 of 4 | own |" in table and "| look-alikes | other - own | " in table
    assert all(f"| {video.name} | " in table for video in made.videos)


def test_held_out_videos_alone_are_scored(benchmark, monkeypatch):
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    made = synthetic_set(5, length=6, size=(48, 64), seed=6)
    found = benchmark.collect(options(held_out=1, copies=0, networks=["stcn-tiny"]), [made])
    assert set(found) == {"plain"} and found["plain"]["stcn-tiny"]["source"] == [made.videos[2].name]


def test_intervals_count_sources_and_not_videos(benchmark):
    """Ten videos of one source are one draw of chance; sources weigh alike."""
    values, sources = np.array([0.0] * 9 + [1.0, 0.5]), ["a"] * 9 + ["b", "b"]
    mean, low, high = benchmark.interval(values, sources)
    assert mean == pytest.approx(0.375) and (low, high) == (0.0, 0.75)
    mean, low, high = benchmark.interval(np.full(4, 0.25), list("abcd"))
    assert mean == low == high == 0.25


@pytest.mark.parametrize(
    "given, message",
    [
        ({"networks": ["a/network.safetensors", "b/network.safetensors"]}, "networks are called network, network"),
        ({"networks": ["stcn-tiny"], "fold": 1}, "fold is 1 and folds 0"),
        ({"networks": ["stcn-tiny"], "videos": ["bear"]}, "no video is called bear; there are synthetic"),
        ({"networks": ["stcn-tiny"], "frames": 3}, "has 3 frames to score, expected 4 or more"),
    ],
)
def test_what_cannot_be_scored(benchmark, monkeypatch, given, message):
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    with pytest.raises(InputError, match=message):
        benchmark.collect(options(copies=0, **given), [synthetic_set(2, length=6, size=(48, 64), seed=6)])


def test_a_reader_in_a_network_is_part_of_its_name(benchmark):
    assert benchmark.split_name("runs/a.safetensors@chained") == ("a@chained", "runs/a.safetensors@chained")
    assert benchmark.split_name("stcn-tiny") == ("stcn-tiny", "stcn-tiny")
    assert benchmark.split_name("mine=runs/a.safetensors@warm") == ("mine", "runs/a.safetensors@warm")
