"""The tour: what it writes, that the page stands alone, and what the shipped networks do on its clip."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from PIL import Image

from tmrn_edu import report, segment_video, tour
from tmrn_edu.__main__ import main
from tmrn_edu.data import video_writer
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.data.video import read_mask, read_video
from tmrn_edu.errors import InputError
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.weights import export, list_networks

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {info.name for info in list_networks()}
needs_shipped = pytest.mark.skipif(not set(tour.NETWORKS) <= SHIPPED, reason="not all networks of the tour are shipped")


@pytest.fixture(scope="session")
def networks(tmp_path_factory):
    """Two small networks with random weights, in files."""
    folder = tmp_path_factory.mktemp("weights")
    for name, reader in (("plain", SpaceTimeReader()), ("along", TrajectoryReader.chained(32, 64))):
        torch.manual_seed(0)
        export(STCN.tiny(reader), folder / f"{name}.safetensors")
    return [folder / "plain.safetensors", folder / "along.safetensors"]


@pytest.fixture(scope="session")
def clip():
    return make_clip(3, "medium", frames=4, size=(48, 64))


@pytest.fixture(scope="session")
def made(networks, clip, tmp_path_factory):
    return tour.tour(tmp_path_factory.mktemp("tour") / "out", networks, clip)


def test_everything_is_written(made, clip):
    names = {path.name for path in made.out.iterdir()}
    assert names - {"overlay.mp4"} == {"masks", "figures", "report.html"}
    assert {path.name for path in (made.out / "masks").iterdir()} == {"truth", "plain", "along"}
    for result in made.results:
        found = [read_mask(path, empty_ok=True).index for path in sorted((made.out / "masks" / result.name).iterdir())]
        assert torch.equal(torch.stack(found), result.index_masks)
        assert torch.equal(found[0], clip.index_masks[0])
    for name in ("masks", "trajectory", "affinity"):
        assert min(Image.open(made.out / "figures" / f"{name}.png").size) > 200


def test_film_shows_all_side_by_side(made, clip):
    pytest.importorskip("av")
    frames = read_video(made.out / "overlay.mp4").frames
    assert frames.shape == (len(clip.frames), 3 * 48 + 20, 3 * 3 * 64, 3)


def test_scores_are_those_of_the_library(made, clip, networks):
    from tmrn_edu.evaluate_clips import score_clips, trajectory_pck
    from tmrn_edu.weights import load

    for result, path in zip(made.results, networks, strict=True):
        scores = score_clips(load(path), [clip])
        assert result.J == pytest.approx(scores.J[0]) and result.F == pytest.approx(scores.F[0])
        assert result.J_true_memory == pytest.approx(scores.J_true_memory[0])
        assert result.pck == pytest.approx(trajectory_pck(load(path), [clip]), nan_ok=True)
        assert 0 < result.frames_per_second < 1e5
        assert result.look.query == 3 and result.look.memory == (0, 1, 2)


def test_table_and_summary(made):
    header, first, second = made.table().splitlines()
    assert len({len(line) for line in (header, first, second)}) == 1
    assert first.startswith("plain") and f"{made.results[0].J:.3f}" in first
    assert "plain finds the target" in made.summary() and "proves nothing" in made.summary()


class Links(HTMLParser):
    """All addresses and all tags of a page."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]


def test_page_stands_alone(made):
    text = (made.out / "report.html").read_text(encoding="utf-8")
    page = Links()
    page.feed(text)
    assert page.addresses and all(address.startswith("data:") for address in page.addresses)
    assert not re.search(r"@import|url\((?!data:)", text)
    assert not re.search(r"\b(fetch|XMLHttpRequest|import)\s*\(", text)
    assert {"table", "img", "script"} <= set(page.tags)
    assert ("video" in page.tags) == (made.out / "overlay.mp4").exists()
    for words in (
        "make_clip(3, &#x27;medium&#x27;)",
        f"pixel {made.pixel}",
        "chosen by eye out of",
        "proves nothing",
        *made.table().split()[:1],
    ):
        assert words in text
    assert all(f"{result.J:.3f}" in text for result in made.results)


def test_page_escapes_what_it_is_given():
    text = report.page(
        "a < b", [report.paragraph("`x < y` & z"), report.table(("<i>",), [("&",)]), report.heading("<")]
    )
    assert "<title>a &lt; b</title>" in text and "<code>x &lt; y</code> &amp; z" in text
    assert "<th>&lt;i&gt;</th>" in text and "<td>&amp;</td>" in text and "<h2>&lt;</h2>" in text


def test_again_replaces_a_tour_and_nothing_else(networks, clip, tmp_path):
    out = tmp_path / "out"
    tour.tour(out, networks[:1], clip)
    (out / "masks" / "truth" / "00099.png").write_bytes(b"old")
    tour.tour(out, networks[:1], clip)
    assert len(list((out / "masks" / "truth").iterdir())) == len(clip.frames)
    (out / "report.html").unlink()  # now these could be anybody's masks
    with pytest.raises(InputError, match="already holds masks"):
        tour.tour(out, networks[:1], clip)


def test_without_pyav_there_is_no_film(networks, clip, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="PyAV"):
        video_writer.import_av()
    tour.tour(tmp_path / "out", networks[:1], clip)
    assert not (tmp_path / "out" / "overlay.mp4").exists()
    assert "<video" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_a_tour_that_fails_leaves_nothing(networks, clip, tmp_path, monkeypatch):
    for wrong in ([], [networks[0], networks[0]]):
        with pytest.raises(InputError, match="each with a name of its own"):
            tour.tour(tmp_path / "out", wrong, clip)
    monkeypatch.setattr(report, "page", lambda *parts: (_ for _ in ()).throw(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        tour.tour(tmp_path / "out", networks[:1], clip)
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    monkeypatch.setattr(
        segment_video.tempfile,
        "mkdtemp",
        lambda **kwargs: (_ for _ in ()).throw(OSError(28, "No space left on device")),
    )
    assert main(["tour", "--out", str(tmp_path / "out")]) == 2


@needs_shipped
def test_the_shipped_tour(tmp_path):
    """As a user runs it, from another folder; the readers must differ on its clip, or it would teach nothing."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tmrn_edu", "tour"]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, ""), run.stderr
    assert "open out/tour/report.html" in run.stdout.replace("\\", "/")
    lines = run.stdout.splitlines()
    J = {line.split()[0]: float(line.split()[1]) for line in lines[1:4]}
    assert tuple(J) == tour.NETWORKS
    assert max(J.values()) - J[tour.NETWORKS[0]] > 0.05
    assert "Trajectory PCK goes the other way" in run.stdout and "tmrn-stcn-chained-tiny 0.2" in run.stdout
    text = (tmp_path / "out" / "tour" / "report.html").read_text(encoding="utf-8")
    assert "hard: stcn-tiny" in text and "averages over many held-out clips" in text
