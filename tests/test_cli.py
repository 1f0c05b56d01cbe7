"""The command line: what it writes, and one line, exit status 2 and nothing left behind for each kind of bad input."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from davis_tree import write_davis
from PIL import Image

from tmrn_edu import segment_video as command
from tmrn_edu.__main__ import main
from tmrn_edu.commands import find_network
from tmrn_edu.data.video import VideoWriter, davis_palette, read_mask, read_video, write_mask, write_video
from tmrn_edu.errors import InputError
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.segmenter import Segmenter, segment
from tmrn_edu.weights import export, list_networks, load

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
H, W = 35, 51  # odd, and not equal


def has_av():
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


needs_av = pytest.mark.skipif(not has_av(), reason="PyAV is not installed (the extra 'video')")


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A small network with random weights, in a file."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    export(STCN.tiny(SpaceTimeReader()), path)
    return path


@pytest.fixture
def clip(tmp_path):
    """A folder of three frames, and the mask of the first: objects 3 and 7."""
    folder, mask = save_frames(tmp_path / "frames", 3), tmp_path / "mask.png"
    write_mask(mask, two_objects(), bytes([9, 9, 9]) + davis_palette()[3:])
    return folder, mask


def save_frames(folder, count, height=H, width=W):
    folder.mkdir()
    noise = torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8, generator=torch.manual_seed(0))
    for t, frame in enumerate(noise.numpy()):
        Image.fromarray(frame).save(folder / f"shot_{t + 11}.png")
    return folder


def two_objects(height=H, width=W):
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[: height // 2 + 1, : width // 2 + 1] = 3
    mask[height // 2 + 1 :] = 7
    return mask


def call(capsys, *words):
    """(exit status, stdout, stderr) of a command, without leaving this process."""
    capsys.readouterr()
    try:
        status = main([str(word) for word in words])
    except SystemExit as stop:
        status = stop.code
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def refused(capsys, *words):
    """The one line of a command that must be refused."""
    status, out, err = call(capsys, *words)
    assert status == 2 and out == "" and err.startswith("tmrn-edu") and err.endswith("\n"), (status, out, err)
    assert len(err.splitlines()) == 1, err
    return err


# ------------------------------------------------------------------------------------------------ segment: what it does


@pytest.mark.parametrize("overlay", [pytest.param(True, marks=needs_av), False])
def test_segment_writes_a_mask_per_frame(clip, weights, tmp_path, capsys, overlay):
    folder, mask = clip
    out = tmp_path / "deep" / "out"
    options = [] if overlay else ["--no-overlay"]
    status, shown, err = call(
        capsys, "segment", folder, "--mask", mask, "--weights", weights, "--out", out, "--device", "cpu", *options
    )
    assert (status, err) == (0, "")
    assert "3 frames of 35 x 51, objects 3, 7" in shown and str(out / "masks") in shown
    assert (
        sorted(path.name for path in out.iterdir()) == ["masks"] + ["overlay.mp4"] * overlay
    )  # nothing hidden is left
    assert sorted(path.name for path in (out / "masks").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    for path in (out / "masks").iterdir():
        found = read_mask(path, empty_ok=True)
        assert found.index.shape == (H, W) and set(found.ids) <= {3, 7}
        assert found.palette[:3] == bytes([9, 9, 9]) and found.palette[3:] == davis_palette()[3:]
    assert torch.equal(read_mask(out / "masks" / "00000.png").index, two_objects())
    if overlay:
        assert read_video(out / "overlay.mp4").frames.shape == (3, H + 1, W + 1, 3)


def test_segment_is_the_library_call(clip, weights, tmp_path, capsys):
    folder, mask = clip
    settings = {"memory_every": 2, "max_frames": 1, "short_side": 30}
    options = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
    call(
        capsys,
        "segment",
        folder,
        "--mask",
        mask,
        "--weights",
        weights,
        "--out",
        tmp_path / "out",
        "--no-overlay",
        *options,
    )
    expected = segment(load(weights), read_video(folder).frames, {0: two_objects()}, **settings).index_masks
    found = [read_mask(path, empty_ok=True).index for path in sorted((tmp_path / "out" / "masks").iterdir())]
    assert torch.equal(torch.stack(found), expected)


@needs_av
@pytest.mark.parametrize("frames, height, width", [(1, 1, 1), (2, 1, 90), (1, 1080, 1920)])
def test_any_size(weights, tmp_path, capsys, frames, height, width):
    folder = save_frames(tmp_path / "frames", frames, height, width)
    write_mask(tmp_path / "mask.png", torch.ones(height, width, dtype=torch.uint8))
    out = tmp_path / "out"
    status, _, err = call(
        capsys, "segment", folder, "--mask", tmp_path / "mask.png", "--weights", weights, "--out", out
    )
    assert status == 0, err
    assert [Image.open(path).size for path in (out / "masks").iterdir()] == [(width, height)] * frames
    assert len(read_video(out / "overlay.mp4").frames) == frames


@needs_av
def test_segment_reads_videos_and_late_objects(weights, tmp_path, capsys):
    frames = torch.randint(0, 256, (4, H, W, 3), dtype=torch.uint8)
    write_video(tmp_path / "clip.mp4", frames, fps=12)
    first, late = tmp_path / "first.png", tmp_path / "late.png"
    height, width = read_video(tmp_path / "clip.mp4").frames.shape[1:3]
    write_mask(first, (two_objects(height, width) == 3).to(torch.uint8))
    write_mask(late, (two_objects(height, width) == 7).to(torch.uint8) * 9)
    words = ["--mask", first, "--mask", f"2={late}", "--weights", weights, "--out", tmp_path / "out"]
    status, shown, err = call(capsys, "segment", tmp_path / "clip.mp4", *words)
    assert (status, err) == (0, "") and "4 frames" in shown and "objects 1, 9" in shown
    assert 9 not in read_mask(tmp_path / "out" / "masks" / "00001.png", empty_ok=True).ids
    assert 9 in read_mask(tmp_path / "out" / "masks" / "00002.png").ids
    assert read_video(tmp_path / "out" / "overlay.mp4").fps == 12


@needs_av
def test_results_are_replaced_only_when_asked_for(clip, weights, tmp_path, capsys):
    folder, mask = clip
    words = ["segment", folder, "--mask", mask, "--weights", weights, "--out", tmp_path / "out"]
    assert call(capsys, *words)[0] == 0
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "masks" / "00077.png").write_bytes(b"old")
    assert "already holds masks and overlay.mp4" in refused(capsys, *words)
    assert (tmp_path / "out" / "masks" / "00077.png").exists()
    assert call(capsys, *words, "--overwrite", "--no-overlay")[0] == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "masks",
        "notes.txt",
    ]  # the old overlay would not fit
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 3


def test_progress_can_be_silenced(clip, weights, tmp_path, capsys, monkeypatch):
    folder, mask = clip
    monkeypatch.setenv("TMRN_PROGRESS", "1")
    words = ["segment", folder, "--mask", mask, "--weights", weights, "--no-overlay", "--out"]
    assert "frame/s" in call(capsys, *words, tmp_path / "a")[2]
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    assert call(capsys, *words, tmp_path / "b")[2] == ""


def test_polygons_in_and_cutouts_out(clip, weights, tmp_path, capsys):
    """An outline in place of a mask, one painted over a mask, one of a later frame; cut-outs of all and of one."""
    folder, mask = clip
    words = ["segment", folder, "--weights", weights, "--no-overlay", "--device", "cpu"]
    triangle, square = "2:3,3 20,3 3,20", "1=5:30,10 40,10 40,20 30,20"
    status, shown, err = call(
        capsys, *words, "--polygon", triangle, "--polygon", square, "--cutout", "--out", tmp_path / "a"
    )
    assert (
        (status, err) == (0, "") and "objects 2, 5" in shown and str(tmp_path / "a" / "cutout" / "00000.png") in shown
    )
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["cutout", "masks"]
    first, second = (read_mask(tmp_path / "a" / "masks" / f"0000{t}.png").index for t in (0, 1))
    assert int((first == 2).sum()) == 18 * 19 // 2 and int(first.sum()) == 18 * 19 and (second[10:21, 30:41] == 5).all()
    with Image.open(tmp_path / "a" / "cutout" / "00001.png") as picture:
        alpha = np.array(picture)[..., 3]
    assert picture.mode == "RGBA" and (alpha[11:20, 31:40] == 255).all()

    painted = ["--polygon", "3:40,3 50,3 50,9 40,9", "--polygon", "0:0,0 9,0 9,9"]
    call(capsys, *words, "--mask", mask, *painted, "--cutout", "3", "--out", tmp_path / "b")
    painted = read_mask(tmp_path / "b" / "masks" / "00000.png")
    assert (
        (painted.index[3:10, 40:51] == 3).all() and painted.index[1, 5] == 0 and painted.palette[:3] == bytes([9, 9, 9])
    )
    with Image.open(tmp_path / "b" / "cutout" / "00000.png") as picture:
        alpha = np.array(picture)[..., 3]
    assert (alpha[4:9, 41:50] == 255).all() and alpha[25:].max() == 0  # object 7 is not in it


def test_a_page_to_draw_on(clip, tmp_path, capsys):
    folder, mask = clip
    status, shown, _ = call(
        capsys, "segment", folder, "--draw", f"2={tmp_path / 'p.html'}", "--polygon", "2=4:1,1 9,1 9,9"
    )
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert (status, shown.strip()) == (0, str(tmp_path / "p.html")) and "<title>frame 2</title>" in page
    assert '"polygons": [[4, [[1.0, 1.0], [9.0, 1.0], [9.0, 9.0]]]]' in page
    assert call(capsys, "segment", folder, "--draw", tmp_path / "q.html", "--mask", mask)[0] == 0
    assert "for frame 3" in refused(capsys, "segment", folder, "--draw", f"3={tmp_path / 'r.html'}")
    assert "expected .html" in refused(capsys, "segment", folder, "--draw", tmp_path / "r.png")
    assert sorted(path.name for path in tmp_path.glob("*.html")) == ["p.html", "q.html"]


# -------------------------------------------------------------------------------------------- segment: what it refuses


def rgb(mask):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)).save(mask)


def soft_edges(mask):
    ramp = np.tile(np.linspace(0, 255, W).astype(np.uint8), (H, 1))
    Image.fromarray(ramp).save(mask)


def many_objects(mask):
    Image.fromarray(np.arange(H * W, dtype=np.uint16).reshape(H, W) % 300).save(mask)


def cut_frame(folder):
    """The last frame's header is whole, its pixels are not."""
    path = sorted(folder.iterdir())[-1]
    path.write_bytes(path.read_bytes()[:2000])


BAD = {
    "video missing": (lambda folder, mask: ["nowhere.mp4"], ["nowhere.mp4", "expected a video file or a folder"]),
    "folder without frames": (lambda folder, mask: [folder.parent / "empty"], ["empty", "JPEG or PNG"]),
    "text as video": (lambda folder, mask: [folder.parent / "notes.mp4"], ["notes.mp4", "expected a video file"]),
    "frame damaged": (lambda folder, mask: cut_frame(folder), ["shot_13.png", "expected a JPEG or PNG frame"]),
    "mask missing": (lambda folder, mask: mask.unlink(), ["no mask at", "mask.png"]),
    "mask of another size": (lambda folder, mask: write_mask(mask, two_objects(20, 30)), ["20 x 30", "35 x 51"]),
    "mask RGB": (lambda folder, mask: rgb(mask), ["mask.png is RGB with", "colours", "expected a palette"]),
    "mask anti-aliased": (lambda folder, mask: soft_edges(mask), ["grey with 51 labels (0, 5, 10 ... 255)", "expected 0 and 255"]),
    "mask empty": (lambda folder, mask: write_mask(mask, 0 * two_objects()), ["holds no object: its labels are 0", "1 to 254"]),
    "too many objects": (lambda folder, mask: many_objects(mask), ["299 objects where 254 are possible"]),
    "mask of no frame": (lambda folder, mask: ["--mask", f"99={mask}"], ["for frame 99", "frames 0 to 2"]),
    "two masks of a frame": (lambda folder, mask: ["--mask", mask], ["two masks for frame 0"]),
    "mask among the frames": (lambda folder, mask: ["--mask", f"1={folder / 'shot_12.png'}"], ["shot_12.png lies among the 3 frames"]),
    "polygon unreadable": (lambda folder, mask: ["--polygon", "1:2,3 4"], ["'1:2,3 4' given as a polygon", "expected ID:x,y"]),
    "polygon outside": (lambda folder, mask: ["--polygon", "1:2,3 4,5 60,5"], ["x = 60, y = 5", "35 x 51"]),
    "polygon of no frame": (lambda folder, mask: ["--polygon", "3=1:2,3 4,5 6,5"], ["polygon is for frame 3", "frames 0 to 2"]),
    "all taken away": (lambda folder, mask: ["--polygon", "0:0,0 51,0 51,35 0,35"], ["mask of frame 0 holds no object"]),
    "cut-out of no object": (lambda folder, mask: ["--cutout", "4"], ["cut-out of object 4", "the masks hold 3, 7"]),
    "cut-out of a name": (lambda folder, mask: ["--cutout", "bear"], ["'bear' given, expected object ids"]),
    "network unknown": (lambda folder, mask: ["--network", "stcn-huge"], ["no network is called 'stcn-huge'", ".safetensors"]),
    "option unknown": (lambda folder, mask: ["--memory-evry=2"], ["--memory-evry", "did you mean --memory-every"]),
    "option out of range": (lambda folder, mask: ["--memory-every", "0"], ["'0' given", "at least 1"]),
    "option no number": (lambda folder, mask: ["--short-side", "x"], ["'x' given", "whole number"]),
    "device unknown": (lambda folder, mask: ["--device", "abacus"], ["device 'abacus' cannot be used", "this machine has cpu"]),
    "device absent": (lambda folder, mask: ["--device", "cuda:99"], ["device 'cuda:99' cannot be used", "this machine has cpu"]),
    "weights missing": (lambda folder, mask: ["--weights", "no.safetensors"], ["no weight file at no.safetensors"]),
    "out is a file": (lambda folder, mask: ["--out", mask], ["cannot write", "mask.png"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(clip, weights, tmp_path, capsys, case):
    folder, mask = clip
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.mp4").write_text("no video at all")
    spoil, expected = BAD[case]
    extra = spoil(folder, mask)
    extra = list(extra) if isinstance(extra, list) else []
    video = [extra.pop(0)] if extra and not str(extra[0]).startswith("--") else [folder]
    out = tmp_path / "out"
    usual = ["--mask", mask, "--out", out] + ([] if "--network" in extra else ["--weights", weights])
    line = refused(capsys, "segment", *video, *usual, *extra)
    assert all(part in line for part in expected), line
    assert not out.exists()


@needs_av
def test_video_that_stops_decoding_leaves_nothing(weights, tmp_path, capsys):
    path, out = tmp_path / "v.mp4", tmp_path / "out"
    write_video(path, torch.randint(0, 256, (40, 36, 52, 3), dtype=torch.uint8))
    write_mask(tmp_path / "mask.png", two_objects(36, 52))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :][:9000] = data[len(data) // 2 : len(data) // 2 + 9000] = bytes(9000)
    path.write_bytes(data)
    line = refused(capsys, "segment", path, "--mask", tmp_path / "mask.png", "--weights", weights, "--out", out)
    assert "stops decoding after" in line and "of 40 frames" in line
    assert not out.exists()


def test_weights_that_cannot_be_used(clip, weights, tmp_path, capsys):
    folder, mask = clip
    words = ["segment", folder, "--mask", mask, "--out", tmp_path / "out"]
    cut, foreign = tmp_path / "cut.safetensors", tmp_path / "foreign.safetensors"
    cut.write_bytes(weights.read_bytes()[:100_000])
    foreign.write_bytes(b"PK" + bytes(1000))
    for path in (cut, foreign):
        assert "is no whole safetensors file" in refused(capsys, *words, "--weights", path)
    other = tmp_path / "other.safetensors"
    export(STCN.tiny(TrajectoryReader.paper(32, 64)), other)
    line = refused(capsys, *words, "--weights", other, "--network", weights)
    assert "TrajectoryReader" in line and "SpaceTimeReader" in line
    assert call(capsys, *words, "--weights", weights, "--network", weights, "--no-overlay")[0] == 0


def test_frames_that_are_no_numbers():
    network = STCN.tiny()
    frames = torch.rand(2, 3, 16, 16)
    frames[1, 0, 3, 3] = float("nan")
    with pytest.raises(InputError, match="frame 1 holds NaN"):
        segment(network, frames, {0: torch.ones(16, 16, dtype=torch.uint8)})
    with pytest.raises(InputError, match="for frame 7, the video has frames 0 to 1"):
        segment(network, frames.nan_to_num(0), {7: torch.ones(16, 16, dtype=torch.uint8)})


# --------------------------------------------------------------------------------- interrupted, and out of disk space


def no_space(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("where", ["mask", pytest.param("overlay", marks=needs_av), "folder", "last step"])
def test_full_disk_leaves_nothing(clip, weights, tmp_path, capsys, monkeypatch, where):
    folder, mask = clip
    out = tmp_path / "out"
    if where == "mask":
        saved = Image.Image.save
        full = lambda image, path, **options: (
            no_space() if len(os.listdir(Path(path).parent)) > 1 else saved(image, path, **options)
        )
        monkeypatch.setattr(Image.Image, "save", full)
    elif where == "overlay":
        monkeypatch.setattr(VideoWriter, "_open", no_space)
    elif where == "folder":
        monkeypatch.setattr(command.tempfile, "mkdtemp", no_space)
    else:
        monkeypatch.setattr(command.os, "replace", no_space)
    line = refused(capsys, "segment", folder, "--mask", mask, "--weights", weights, "--out", out)
    assert "cannot write" in line and "No space left on device" in line
    assert not out.exists() or list(out.iterdir()) == []


def test_an_error_of_the_method_is_not_one_of_the_folder(clip, weights, tmp_path, capsys, monkeypatch):
    folder, mask = clip

    def gone(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO), "camera.raw")

    monkeypatch.setattr(Segmenter, "step", gone)
    line = refused(capsys, "segment", folder, "--mask", mask, "--weights", weights, "--out", tmp_path / "out")
    assert "cannot write" not in line and "camera.raw: Input/output error" in line
    assert not (tmp_path / "out").exists()


def test_ctrl_c_keeps_what_was_there(clip, weights, tmp_path, capsys, monkeypatch):
    folder, mask = clip
    words = ["segment", folder, "--mask", mask, "--weights", weights, "--no-overlay", "--out", tmp_path / "out"]
    assert call(capsys, *words)[0] == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "out" / "masks").iterdir()}
    step = Segmenter.step

    def stopped(self, frame, index_mask=None):
        if self.index == 1:
            raise KeyboardInterrupt
        return step(self, frame, index_mask)

    monkeypatch.setattr(Segmenter, "step", stopped)
    status, out, err = call(capsys, *words, "--overwrite")
    assert (status, out) == (130, "") and err.splitlines() == [
        "tmrn-edu segment: interrupted; nothing was left half-written"
    ]
    assert {path.name: path.read_bytes() for path in (tmp_path / "out" / "masks").iterdir()} == before
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["masks"]


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_from_outside(weights, tmp_path):
    frames, out = save_frames(tmp_path / "frames", 400, 20, 28), tmp_path / "out"
    write_mask(tmp_path / "mask.png", two_objects(20, 28))
    words = ["segment", frames, "--mask", tmp_path / "mask.png", "--weights", weights, "--out", out, "--no-overlay"]
    run = subprocess.Popen(
        [sys.executable, "-m", "tmrn_edu", *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(out.glob(".partial-*/masks/00003.png")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGINT)
    shown, err = run.communicate(timeout=240)
    assert (run.returncode, shown, len(err.splitlines())) == (130, "", 1), err
    assert "interrupted" in err
    assert not out.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_results_that_cannot_be_printed():
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "tmrn_edu", "networks"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert run.returncode == 2
    assert run.stderr.splitlines() == ["tmrn-edu networks: cannot write the output: No space left on device"]


# ------------------------------------------------------------------------------------------------ the other commands


@pytest.mark.parametrize(
    "words, expected",
    [
        ([], ["COMMAND", "tmrn-edu --help"]),
        (["segmnt"], ["segmnt", "segment", "networks"]),
        (["tour", "--ou=x"], ["no option --ou", "--out"]),
        (["segment", "v.mp4"], ["required: --mask", "tmrn-edu segment --help"]),
        (["networks", "more"], ["more"]),
        (["evaluate", "--dataset", "davis2016", "--data", "x"], ["--network", "--results"]),
        (["evaluate", "--dataset", "vos", "--data", "x", "--results", "y"], ["vos", "davis2016, davis2017"]),
        (["evaluate", "--dataset", "davis2016", "--data", "nowhere", "--results", "y"], ["nowhere", "is not a folder"]),
        (
            ["evaluate", "--dataset", "davis2016", "--data", "x", "--results", "y", "--json", "."],
            ["cannot write .", "folder"],
        ),
        (
            ["train", "sctn_tiny"],
            ["'sctn_tiny', did you mean stcn_tiny or", "there are stcn_mobile, stcn_mobile_long, "],
        ),
        (["train", "stcn_tiny", "--step=3"], ["no option --step", "--steps"]),
        (["train", "stcn_tiny", "--steps=1.5"], ["'1.5' given", "whole number"]),
        (["train", "stcn_tiny", "--lr=nan"], ["'nan' given", "expected a number"]),
    ],
    ids=" ".join,
)
def test_misspelt_commands(capsys, words, expected):
    line = refused(capsys, *words)
    assert all(part in line for part in expected), line


def test_networks_are_listed(capsys):
    status, shown, err = call(capsys, "networks")
    assert (status, err) == (0, "")
    for info in list_networks():
        assert all(
            part in shown
            for part in (info.name, info.baseline, info.reader, f"{info.parameters:,}", info.origin, info.licence)
        )


def test_evaluate_network_and_its_masks_agree(weights, tmp_path, capsys):
    root = write_davis(tmp_path / "DAVIS")
    words = ["evaluate", "--dataset", "davis2017", "--data", root]
    status, table, err = call(
        capsys, *words, "--network", weights, "--masks-out", tmp_path / "masks", "--json", tmp_path / "a.json"
    )
    assert (status, err) == (0, "") and "J&F" in table
    status, table, err = call(capsys, *words, "--results", tmp_path / "masks", "--json", tmp_path / "b.json")
    assert (status, err) == (0, "")
    first, second = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert {"J&F", "J", "F", "per_object"} <= set(first)
    assert all(first[key] == second[key] for key in ("J&F", "J", "F", "per_object"))
    assert f"{first['J&F']:.3f}" in table


QUICK = [
    "--steps=2",
    "--batch=2",
    "--clips=2",
    "--size",
    "32",
    "--frames=2",
    "--short_frames=2",
    "--max-gap=1",
    "--device=cpu",
]


def test_train_takes_any_setting_by_name(tmp_path, capsys):
    out = tmp_path / "run"
    status, shown, err = call(capsys, "train", "stcn-tiny", "--out", out, *QUICK, "--lr=1e-3", "--save-every=1")
    assert (status, err) == (0, "") and str(out / "network.safetensors") in shown
    settings = json.loads((out / "run.json").read_text())["settings"]
    assert (settings["steps"], settings["lr"], settings["short_frames"], settings["dice"]) == (2, 1e-3, 2, 0.5)
    assert isinstance(load(out / "network.safetensors"), STCN)
    assert "already holds a run" in refused(capsys, "train", "stcn_tiny", "--out", out, *QUICK)
    other = refused(capsys, "train", "stcn_tiny", "--out", out, "--lr=5e-3", "--device=cpu", "--resume")
    assert "stcn-tiny with lr 0.001, asked for is stcn-tiny with lr 0.005" in other
    assert "nothing to resume" in refused(capsys, "train", "stcn_tiny", "--out", tmp_path / "none", "--resume")
    longer = ["--max-gap=2", "--short-share=0", "--frames=7"]
    line = refused(capsys, "train", "stcn_tiny", "--out", tmp_path / "long", *QUICK, *longer)
    assert "7 frames with gaps up to 2, expected 2 frames or more within videos of 8" in line


def test_ctrl_c_in_training_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    from tmrn_edu.training import objective

    def roll_out(*arguments, **options):
        signal.raise_signal(signal.SIGINT)
        return objective_roll_out(*arguments, **options)

    objective_roll_out = objective.roll_out
    monkeypatch.setattr(objective, "roll_out", roll_out)
    status, shown, err = call(capsys, "train", "stcn_tiny", "--out", tmp_path / "run", *QUICK)
    noted, stopped = err.splitlines()
    assert (status, shown) == (130, "") and "finished and saved first" in noted
    assert "stopped before step 1;" in stopped and "--resume" in stopped
    assert not (tmp_path / "run" / "network.safetensors").exists()
    monkeypatch.undo()
    monkeypatch.setenv("TMRN_PROGRESS", "0")
    words = ["train", "stcn_tiny", "--out", tmp_path / "run", "--device=cpu", "--resume"]
    assert call(capsys, *words)[0] == 0  # the settings are those with which the run began


# ------------------------------------------------------------------------------------------------ real clips, if there


@needs_av
@pytest.mark.skipif(not (SHARED / "davis-mini").is_dir(), reason="shared/davis-mini is not beside the repository")
def test_real_clip_keeps_ids_and_palette(weights, tmp_path, capsys):
    root, frames = SHARED / "davis-mini", tmp_path / "frames"
    frames.mkdir()
    for path in sorted((root / "JPEGImages" / "480p" / "dogs-jump").iterdir())[:4]:
        (frames / path.name).symlink_to(path)
    mask = root / "Annotations" / "480p" / "dogs-jump" / "00000.png"
    assert call(capsys, "segment", frames, "--mask", mask, "--weights", weights, "--out", tmp_path / "out")[0] == 0
    given, first = read_mask(mask), read_mask(tmp_path / "out" / "masks" / "00000.png")
    assert torch.equal(given.index, first.index) and given.palette == first.palette and first.ids == (1, 2, 3)


def test_an_exported_network_is_checked_against_its_official_name(tmp_path):
    export(STCN.tiny(SpaceTimeReader()), tmp_path / "own.safetensors")
    assert type(find_network("stcn", str(tmp_path / "own.safetensors"))) is STCN
    with pytest.raises(InputError, match=r"own.safetensors holds STCN \(tiny\), xmem is XMem"):
        find_network("xmem", str(tmp_path / "own.safetensors"))
    with pytest.raises(InputError, match="stcn has no shipped weights"):
        find_network("stcn", None)
