"""benchmarks/propagate.py: scaled keys, masks that move with the keys, true and predicted memories."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from einops import rearrange

from tmrn_edu.data.video_clips import synthetic_set
from tmrn_edu.memory import negative_squared_l2
from tmrn_edu.mobile import MobileEncoder

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(FOLDER))  # it imports its neighbour, as a script does
    try:
        spec = importlib.util.spec_from_file_location("benchmark_propagate", FOLDER / "propagate.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


def test_similarity_is_cosine_over_temperature(benchmark):
    torch.manual_seed(0)
    video, encoder = synthetic_set(1, length=2, size=(32, 48)).videos[0], MobileEncoder().eval()
    with torch.inference_mode():
        keys = benchmark.make_keys(encoder, video, 2, temperature=0.05)
        rows = rearrange(keys, "t ck h w -> t ck (h w)")
        cosine = torch.nn.functional.normalize(rows, dim=1)
        found = negative_squared_l2(keys[:1], keys[1:])[0]
    expected = cosine[0].T @ cosine[1] / 0.05
    # cells at stride 16 are a little shorter after enlargement, so the squares are not the same for all
    error = (found - found.mean(0)) - (expected - expected.mean(0))
    assert error.abs().mean() < 0.15 * expected.std()


@pytest.mark.parametrize("true", [False, True])
def test_masks_move_with_their_keys(benchmark, true):
    """A field of random keys that slides one cell a frame: the mask slides along, with every reader."""
    torch.manual_seed(0)
    field = 8 * torch.randn(1, 128, 6, 10)
    keys = torch.cat([field.roll(t, dims=3) for t in range(7)])
    mask = torch.zeros(48, 80, dtype=torch.uint8)
    mask[16:32, 8:24] = 1
    masks = torch.stack([mask.roll(8 * t, dims=1) for t in range(7)])
    with torch.inference_mode():
        for name, make in benchmark.READERS.items():
            found = benchmark.propagate(make().eval(), keys, masks, every=2, max_frames=3, true=true)
            for t in range(1, 7):
                both, either = (found[t] & masks[t]).sum(), (found[t] | masks[t]).sum()
                assert both > 0.7 * either, (name, t)


def test_tables_of_readers(benchmark, monkeypatch):
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    torch.manual_seed(0)
    options = SimpleNamespace(
        videos=None, copies=1, frames=6, readers=["space-time", "moving"], temperature=0.05, every=3, max_frames=2
    )
    with torch.inference_mode():
        found = benchmark.collect(options, MobileEncoder().eval(), [synthetic_set(2, length=6, size=(48, 64), seed=7)])
    assert list(found) == ["plain", "look-alikes"] and list(found["plain"]) == ["space-time", "moving"]
    assert len(found["look-alikes"]["moving"]["J"]) == 2
    assert "| look-alikes | moving - space-time | " in benchmark.real_readers.tables(found, per_video=False)


def test_a_reader_is_chosen_on_other_videos(benchmark, capsys):
    """Of six videos one is odd: there "b" is best, elsewhere "a". Each video gets what is best on the others."""
    sources = [f"v{n}" for n in range(6)]

    def row(*values):
        return {"source": sources, "video": sources, "J": list(values), "J, true memories": list(values)}

    found = {"plain": {"a": row(0, 0.9, 0.9, 0.9, 0.9, 0.9), "b": row(1, 0.6, 0.6, 0.6, 0.6, 0.6)}}
    benchmark.choose(found)
    assert found["plain"][benchmark.CHOSEN]["J"] == [0, 0.9, 0.9, 0.9, 0.9, 0.9]
    assert "a, a, a, a, a" in capsys.readouterr().out
