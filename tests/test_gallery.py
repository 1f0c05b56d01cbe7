"""The gallery: pages that need nothing else, their index, its command, and what it refuses."""

import re

import pytest
import torch
from PIL import Image

from tmrn_edu import gallery
from tmrn_edu.__main__ import main
from tmrn_edu.data.masks_io import write_mask
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.segmenter import segment
from tmrn_edu.weights import list_networks, load

SHIPPED = {info.name for info in list_networks()}
ONE = gallery.Exhibit(
    "one",
    "One & two",
    "Point.",
    ("easy", 2),
    {"on": "tmrn-stcn-tiny", "off": "tmrn-stcn-tiny without agents"},
    (40, 48),
)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(gallery, "FRAMES", 3)
    monkeypatch.setattr(gallery, "QUERIES", (1, 2))


def test_pages_hold_all_they_need(tmp_path):
    index, page = gallery.gallery(tmp_path / "out", [ONE])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["index.html", "one.html"]
    for path in (index, page):
        text = path.read_text(encoding="utf-8")
        assert "http" not in text and "<h1>" in text
        assert not re.search(r'src="(?!data:)|href="(?!one\.html|index\.html)', text)
        assert "fetch(" not in text and "import(" not in text and "@import" not in text
    assert '<a href="one.html">One &amp; two</a>' in index.read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert '"readers": ["on", "off"]' in text and "tmrn-stcn-tiny without agents" in text and text.count("<script") == 1


def test_the_same_call_writes_the_same_pages(tmp_path):
    texts = [[path.read_bytes() for path in gallery.gallery(tmp_path / name, [ONE])] for name in "ab"]
    assert texts[0] == texts[1]


def test_every_exhibit_has_its_networks():
    names = [exhibit.name for exhibit in gallery.EXHIBITS]
    assert len(set(names)) == len(names) >= 4
    for exhibit in gallery.EXHIBITS:
        assert {source.split(" without ")[0] for source in exhibit.readers.values()} <= SHIPPED
        assert len(exhibit.readers) >= 2


def test_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(gallery, "EXHIBITS", (ONE,))
    assert main(["gallery", "--out", str(tmp_path / "a")]) == 0
    assert re.search(r"index\.html  \d\.\d MB\n.*one\.html  \d\.\d MB\n$", capsys.readouterr().out)
    assert main(["gallery", "--out", str(tmp_path / "a")]) == 2
    assert "already holds index.html and one.html" in capsys.readouterr().err
    assert main(["gallery", "--out", str(tmp_path / "a"), "--overwrite"]) == 0
    own = ["gallery", "--out", str(tmp_path / "b"), "--clip", "easy:3", "--network", "stcn-tiny"]
    assert main(own) == 0 and (tmp_path / "b" / "easy-3.html").is_file()
    capsys.readouterr()
    assert main(own[:-2]) == 2
    assert "--clip was given without --network" in capsys.readouterr().err


def test_errors_come_before_any_work(tmp_path, capsys):
    with pytest.raises(InputError, match="pages are none, expected at least one"):
        gallery.gallery(tmp_path / "out", [])
    with pytest.raises(InputError, match="pages are one, one, expected at least one, each with a name of its own"):
        gallery.gallery(tmp_path / "out", [ONE, ONE])
    with pytest.raises(InputError, match="level is 'odd', known levels are"):
        gallery.custom([("odd", 1)], ["stcn-tiny"])
    with pytest.raises(InputError, match="stcn-small"):
        gallery.gallery(tmp_path / "out", gallery.custom([("easy", 1)], ["stcn-small"]))
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main(["gallery", "--clip", "hard"])
    assert "'hard' given, expected LEVEL:SEED such as hard:7" in capsys.readouterr().err


@pytest.fixture
def video(tmp_path):
    """A folder of 12 frames with the mask of the first, and the clip that they are."""
    clip = make_clip(4, "easy", 12, (40, 56))
    folder = tmp_path / "films" / "mine"
    folder.mkdir(parents=True)
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame.numpy()).save(folder / f"{t:05d}.png")
    write_mask(tmp_path / "first.png", clip.index_masks[0])
    return folder, tmp_path / "first.png", clip


def test_a_video_of_ones_own(video, tmp_path, capsys):
    folder, mask, clip = video
    networks = ["--network", "stcn-tiny", "--network", "tmrn-stcn-tiny"]
    command = ["gallery", "--out", str(tmp_path / "out"), "--video", str(folder), "--mask", str(mask), *networks]
    assert main([*command, "--frame", "11", "--frame", "7"]) == 0
    text = (tmp_path / "out" / "mine.html").read_text(encoding="utf-8")
    assert "The first 12 of 12 frames of mine, at 40 x 56 pixels" in text and '"readers": ["stcn-tiny"' in text
    assert "http" not in text and "were made from it by stcn-tiny" in text


def test_of_a_video_every_network_reads_the_same_memory(video, monkeypatch):
    folder, mask, clip = video
    monkeypatch.setattr(gallery, "READ", 3)
    one = gallery.of_video(folder, mask, ["stcn-tiny", "tmrn-stcn-tiny"], [11, 4, 4])
    networks = {name: load(name) for name in one.readers}
    shown = one.show(networks)
    made = segment(networks["stcn-tiny"], clip.frames, {0: clip.index_masks[0]}).index_masks
    for looks in shown.looks.values():
        assert [(look.query, look.memory) for look in looks] == [(4, (0,)), (11, (0, 5, 10))]
        assert all(torch.equal(look.index_masks, made) for look in looks)
    assert shown.truth is None and gallery.of_video(folder, mask, ["stcn-tiny"]).asked() == (3, 6, 8, 11)


def test_a_large_video_is_shrunk_to_what_its_networks_take(video, tmp_path):
    folder, mask, clip = video
    for path in folder.iterdir():
        Image.open(path).resize((280, 200)).save(path)
    write_mask(mask, clip.index_masks[0].repeat_interleave(5, 0).repeat_interleave(5, 1))
    shown = gallery.of_video(folder, mask, ["stcn-tiny"], [5]).show({"stcn-tiny": load("stcn-tiny")})
    (look,) = shown.looks["stcn-tiny"]
    assert tuple(look.frames.shape) == (6, 128, 179, 3) and set(look.index_masks.unique().tolist()) == {0, 1}


def test_errors_of_videos(video, tmp_path, capsys):
    folder, mask, _ = video
    out = ["gallery", "--out", str(tmp_path / "out")]
    asked = ["--video", str(folder), "--mask", str(mask)]
    for words, message in (
        (asked[:2], "--video given, expected --video and --mask together"),
        ([*asked, "--clip", "hard:1"], "--video, --mask, --clip given, expected --video and --mask together, and no --clip"),
        ([*asked, "--frame", "12"], "query frame 12 was asked for"),
        ([*asked, "--frame", "0"], "has frames 1 to 11"),
        (["--video", str(tmp_path / "nowhere"), *asked[2:]], "nowhere"),
        ([*asked[:2], "--mask", str(folder / "00000.png")], "lies among the 12 frames"),
        ([*asked, "--network", "stcn-smal"], "stcn-smal"),
        ([*asked, "--network", "stcn-tiny", "--network", "stcn-mobile"], "grid: (12, 16) in 'stcn-tiny', (6, 8) in 'stcn-mobile'; expected the same"),
    ):  # fmt: skip
        assert main([*out, *words]) == 2, words
        err = capsys.readouterr().err
        assert message in err and len(err.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
