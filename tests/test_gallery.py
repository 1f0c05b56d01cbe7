"""The gallery: pages that need nothing else, their index, its command, and what it refuses."""

import re
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tmrn_edu import exhibits, gallery
from tmrn_edu.__main__ import main
from tmrn_edu.data.masks_io import write_mask
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.segmenter import segment
from tmrn_edu.viz.trajectories import cell_errors
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
    monkeypatch.setattr(exhibits, "FRAMES", 3)
    monkeypatch.setattr(exhibits, "QUERIES", (1, 2))


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


def first_two(exhibit):
    shown = exhibit.show({name: gallery._network(source) for name, source in list(exhibit.readers.items())[:2]})
    return {name: looks[-1] for name, looks in shown.looks.items()}, shown


def test_the_first_pixel_is_where_readers_differ():
    looks, shown = first_two(ONE)
    pixel, words = gallery._start(looks, shown.truth)
    on, off = looks.values()
    differ = gallery._difference(on, off, shown.truth)
    assert differ[on.pixel_to_cell(*pixel)] == differ.max() or "trajectories differ" in words
    same = {"a": on, "b": on}
    assert "a and b hardly differ here: nowhere by more than 0.0 % of W" in gallery._start(same, shown.truth)[1]
    moved = on.insides.trajectory.clone() + 3
    apart = {"a": on, "b": replace(on, insides=replace(on.insides, trajectory=moved))}
    assert "because trajectories differ there" in gallery._start(apart, None)[1]
    assert gallery._start({"a": on}, shown.truth)[1] == ""


def test_how_wide_a_reader_looks():
    looks, _ = first_two(ONE)
    one = looks["on"]
    even = torch.zeros_like(one.insides.affinity)
    even[:, :, 3:8] = 1 / 5
    wide = replace(one, insides=replace(one.insides, affinity=even))
    assert "memory frame: even 5 of 144 cells" in gallery._how_wide({"even": [wide]})


OFF = {  # exhibit -> (cell, pixels off) by reader, as its list of things to try says
    "together-or-each-frame": {(5, 2): {"STCN": 75, "TMRN, chained": 4, "TMRN, paper": 58}, (10, 15): {"STCN": 25, "TMRN, chained": 21}},
    "agents": {},
    "chaining": {(12, 20): {"chaining on": 3, "chaining off": 3}, (8, 6): {"chaining on": 26, "chaining off": 8}},
    "three-networks": {(15, 11): {"STM": 18, "STCN": 30}},
    "in-every-network": {
        (11, 6): {"STM + TMRN": 8, "STCN + TMRN": 2},
        (12, 4): {"STCN + TMRN": 10, "XMem + TMRN": 3},
        (3, 20): {"STM + TMRN": 38, "STCN + TMRN": 29, "XMem + TMRN": 26},
    },
}  # fmt: skip


@pytest.mark.parametrize("exhibit", gallery.EXHIBITS, ids=lambda exhibit: exhibit.name)
def test_what_pages_promise_is_seen(exhibit, monkeypatch):
    monkeypatch.setattr(exhibits, "FRAMES", 8)
    shown = replace(exhibit, queries=(7,)).show(
        {name: gallery._network(source) for name, source in exhibit.readers.items()}
    )
    looks = {name: one for name, (one,) in shown.looks.items()}
    assert len(exhibit.tries) == 3 and set(OFF[exhibit.name]) <= {one.cell for one in exhibit.tries}
    for cell, errors in OFF[exhibit.name].items():
        for name, pixels in errors.items():
            assert float(cell_errors(looks[name], shown.truth)[:, cell[0], cell[1]].nanmean()) == pytest.approx(
                pixels, abs=1.0
            )
    affinity = lambda name, cell: looks[name].insides.affinity[
        0, :, :, cell[0] * looks[name].insides.trajectory.shape[-1] + cell[1]
    ]
    wide = lambda name, cell: torch.special.entr(affinity(name, cell)).sum(dim=1).exp()
    if exhibit.name == "agents":
        assert wide("agents on", (20, 6)).mean() < 0.85 * wide("agents off", (20, 6)).mean()
        same = affinity("agents on", (15, 11)).argmax(dim=1) == affinity("agents off", (15, 11)).argmax(dim=1)
        assert (~same).nonzero().tolist() == [[4]]
    if exhibit.name == "three-networks":
        assert [round(float(wide(name, (12, 11)).mean())) for name in exhibit.readers] == [
            pytest.approx(cells, rel=0.15) for cells in (50, 5, 12)
        ]
        assert wide("STCN", (15, 11)).max() < 5


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
    monkeypatch.setattr(exhibits, "READ", 3)
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
