"""The gallery: pages that need nothing else, their index, its command, and what it refuses."""

import re

import pytest

from tmrn_edu import gallery
from tmrn_edu.__main__ import main
from tmrn_edu.errors import InputError
from tmrn_edu.weights import list_networks

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
