"""Finding data sets in folders, checking their files, and the report on them."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from davis_tree import index_masks, write_davis, write_list, write_sequence
from PIL import Image
from still_tree import write_pairs, write_picture, write_white, write_youtube

from tmrn_edu.data import layouts
from tmrn_edu.data.check_files import check, object_ids
from tmrn_edu.data.pictures import pictures_in, probe
from tmrn_edu.data.sets import Video, VideoSet, find_sets
from tmrn_edu.data.video import write_mask
from tmrn_edu.errors import InputError

FRAMES, MASKS = Path("JPEGImages/480p"), Path("Annotations/480p")


@pytest.fixture
def davis(tmp_path):
    root = write_davis(tmp_path / "DAVIS" / "2017" / "trainval")
    write_list(root, "2017/train.txt", ["single", "pair"])
    return root


@pytest.fixture
def everything(tmp_path, davis):
    """A folder with a data set of each kind."""
    write_youtube(tmp_path / "YouTube" / "train_480p", {"003234408d": 4})
    write_pairs(tmp_path / "static" / "DUTS-TR", ("a", "b"))
    for name in ("abacus", "ab_wheel"):
        write_pairs(tmp_path / "static" / "fss" / name, ("1",))
    return tmp_path


def refuses(message, *arguments, **options):
    with pytest.raises(InputError, match=re.escape(message)):
        find_sets(*arguments, **options)


# --- what is found ---


def test_davis(davis):
    (found,) = find_sets(davis)
    assert isinstance(found, VideoSet)
    assert (found.name, found.kind, found.repeat, found.frame_step) == ("DAVIS 2017 train", "video", 5, 1)
    assert [(video.name, len(video), video.object_ids) for video in found.videos] == [
        ("single", 5, (1,)),
        ("pair", 6, (1, 2)),
    ]
    assert all(isinstance(video, Video) for video in found.videos)
    assert torch.equal(found.videos[1].masks(), torch.from_numpy(index_masks(6, 2)))


def test_davis_2016(tmp_path):
    root = write_davis(tmp_path)
    pairs = [f"/{FRAMES}/pair/{t:05}.jpg /{MASKS}/pair/{t:05}.png" for t in range(4)]
    write_list(root, "480p/train.txt", pairs)
    (found,) = find_sets(root)
    assert (found.name, len(found.videos[0])) == ("DAVIS 2016 train", 4)
    assert found.videos[0].mask(0).unique().tolist() == [0, 1]


def test_a_first_mask_may_be_empty(davis):
    write_mask(davis / MASKS / "pair" / "00000.png", np.zeros((20, 26), dtype=np.uint8))
    assert find_sets(davis)[0].videos[1].object_ids == ()


def test_a_folder_of_several(everything):
    found = {one.name: (one.kind, len(one.videos)) for one in find_sets(everything)}
    assert found == {
        "DAVIS 2017 train": ("video", 2),
        "YouTube-VOS train": ("video", 1),
        "DUTS-TR": ("stills", 2),
        "fss": ("stills", 2),
    }


def test_davis_2017_stands_for_2016(everything, davis):
    """Its sequences are those of 2016 and more; a test list is not for training."""
    shutil.copytree(davis, everything / "DAVIS" / "2016")
    shutil.move(everything / "DAVIS/2016/ImageSets/2017", everything / "DAVIS/2016/ImageSets/2016")
    shutil.copytree(davis, everything / "DAVIS" / "2017" / "test-dev")
    (everything / "DAVIS/2017/test-dev/ImageSets/2017/train.txt").unlink()
    assert [one.name for one in find_sets(everything / "DAVIS")] == ["DAVIS 2017 train"]
    assert [one.name for one in find_sets(everything / "DAVIS" / "2016")] == ["DAVIS 2016 train"]


def test_equal_names_are_told_apart(tmp_path):
    for where in ("left", "right"):
        write_pairs(tmp_path / where / "DUTS-TR", ("a",))
    assert [one.name for one in find_sets(tmp_path)] == [
        f"DUTS-TR in {tmp_path / where / 'DUTS-TR'}" for where in ("left", "right")
    ]


def test_subset(everything):
    def chosen(*names):
        return {one.name: [video.name for video in one.videos] for one in find_sets(everything, names)}

    assert chosen("pair", "DUTS-TR") == {"DAVIS 2017 train": ["pair"], "DUTS-TR": ["a", "b"]}
    (everything / "static/DUTS-TR/a.png").unlink()  # what is not asked for is not checked
    assert chosen("abacus/1") == {"fss": ["abacus/1"]}
    refuses("a.jpg: has no mask", everything, ["a"])
    refuses(f"{everything} has no set or video bear, boat; it has DAVIS 2017 train of 2,", everything, ["boat", "bear"])
    refuses("has no set or video nothing", everything, [])


# --- what is refused at the start ---


def test_nothing_to_find(tmp_path, davis, monkeypatch):
    refuses("nowhere is not a folder", tmp_path / "nowhere")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.jpg").write_text("")
    refuses("looked 4 folders deep for DAVIS (ImageSets with a list train,", tmp_path / "notes")
    refuses("it holds a.jpg", tmp_path / "notes")
    monkeypatch.setattr(layouts, "MOST_FOLDERS", 2)
    refuses("more than 2 folders to look into", tmp_path)


def test_davis_without_list_or_frames(davis):
    (davis / "ImageSets/2017/train.txt").unlink()
    refuses("has no list ImageSets/2017/train.txt; it has ImageSets/2017/val.txt", davis)
    write_list(davis, "2017/train.txt", ["pair", "bear"])
    refuses(f"{davis / FRAMES / 'bear'}: has 0 pictures, train.txt lists it", davis)
    shutil.move(davis / FRAMES, davis / "JPEGImages" / "240p")
    refuses("has no folder 480p or Full-Resolution or 1080p; it has 240p", davis)


def broken_davis(root):
    """Four ways of being broken; returns the files."""
    cut = root / FRAMES / "pair" / "00001.jpg"
    cut.write_bytes(cut.read_bytes()[:-30])
    half = root / MASKS / "pair" / "00002.png"
    half.write_bytes(half.read_bytes()[:-30])
    foreign = root / MASKS / "single" / "00003.png"
    foreign.write_text("not a picture")
    odd = root / MASKS / "single" / "00004.png"
    write_mask(odd, index_masks(1, 1, size=(18, 31))[0])
    return cut, half, foreign, odd


def test_all_broken_files_are_named(davis):
    cut, half, foreign, odd = broken_davis(davis)
    with pytest.raises(InputError) as error:
        find_sets(davis)
    lines = str(error.value).splitlines()
    assert lines[0] == f"4 of 22 files in {davis} cannot be used:"
    assert f"  {foreign}: is no picture" in lines
    assert f"  {odd}: is 18 x 31 (height x width), 00000.jpg is 18 x 30" in lines
    assert [line for line in lines if line.startswith(f"  {cut}: ") and "truncated" in line]
    assert [line for line in lines if line.startswith(f"  {half}: ")]
    assert len(lines) == 6 and lines[5] == "  tmrn-edu data check names each"


def test_twenty_of_many_broken_files(tmp_path):
    for t in range(25):
        write_picture(tmp_path / f"{t}.jpg")
        (tmp_path / f"{t}.png").write_text("")
    refuses(f"{tmp_path / '19.png'}: is no picture\n  5 more like it", tmp_path)


def test_listed_files_that_are_not_there(tmp_path):
    root = write_davis(tmp_path)
    write_list(root, "480p/train.txt", [f"/{FRAMES}/pair/00000.jpg /{MASKS}/pair/00009.png"])
    refuses(f"{root / MASKS / 'pair' / '00009.png'}: is not there", root)


@pytest.mark.parametrize("t", [0, 3])
def test_a_mask_in_colour(davis, t):
    path = davis / MASKS / "pair" / f"{t:05}.png"
    write_picture(path, size=(20, 26))
    refuses(f"{path}: is RGB, expected a palette or grey PNG of object ids", davis)


# --- the quick check of one file ---


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_probe(tmp_path, suffix):
    file = tmp_path / f"x{suffix}"
    write_picture(file, size=(60, 70))
    whole = file.read_bytes()
    assert probe(file).size == (60, 70) and not probe(file).problem
    for kept in (len(whole) - 60, len(whole) // 2, 40, 1):
        file.write_bytes(whole[:kept])
        assert probe(file).problem, kept
    file.write_bytes(whole + b"\0" * 5000)  # padding behind the end, as some cameras write it
    assert probe(file) == probe(file).__class__((60, 70), mode="RGB")
    file.unlink()
    assert probe(file).problem == "is not there"


def test_pictures_in_natural_order(tmp_path):
    for name in ("10.jpg", "2.jpg", "1.PNG", ".3.jpg", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in pictures_in(tmp_path)] == ["1.PNG", "2.jpg", "10.jpg"]
    assert pictures_in(tmp_path / "nowhere") == []


# --- the report ---


def test_report_of_everything(everything):
    report = check(everything)
    assert report.ok and report.files == 22 + 22 + 8 + 4 + 4 - 22  # train and val list the same sequences
    found = {one.name: one for one in report.sets}
    assert list(found) == ["DAVIS 2017 train", "DAVIS 2017 val", "YouTube-VOS train", "DUTS-TR", "fss"]
    train = found["DAVIS 2017 train"]
    assert (train.videos, train.frames, train.lengths, train.objects, train.most_objects) == (2, 11, (5, 6), 3, 2)
    assert train.sizes == ((20, 26), (18, 30))
    youtube = found["YouTube-VOS train"]
    assert (youtube.objects, youtube.frame_step) == (1, 5)  # the second object enters late
    assert found["fss"].objects is None
    full = {one.name: one for one in check(everything, full=True).sets}
    assert (full["YouTube-VOS train"].objects, full["fss"].objects, full["DUTS-TR"].empty) == (2, 2, ())


def test_text_of_a_report(davis, everything):
    write_mask(davis / MASKS / "single" / "00000.png", np.zeros((18, 30), dtype=np.uint8))
    write_white(everything / "static" / "fss" / "abacus" / "1.png", size=(5, 5))
    shutil.move(everything / "static/fss/abacus", everything / "static/fss/screw")
    for suffix in (".jpg", ".png"):
        shutil.move(everything / f"static/fss/screw/1{suffix}", everything / f"static/fss/screw/8{suffix}")
    text = check(everything).text()
    for line in (
        f"{everything}: 38 files headers and ends read in ",
        "DAVIS 2017 train: DAVIS, listed in ImageSets/2017/train.txt, frames in 480p",
        "  2 videos, 11 frames with masks, 5 to 6 a video, 20 x 26 to 18 x 30",
        "  2 objects in first masks, up to 2 in a video",
        "  no object in first masks of single",
        "  visited 5 times in an epoch of training",
        "  5 video frames from one listed frame to the next",
        "fss: x.jpg + x.png in 2 folders",
        "  1 picture with masks, 12 x 17",
        "  objects not looked for: --full decodes the masks",
        "  passed over, flawed as published: screw/8",
        "nothing is broken; --full decodes every file",
    ):
        assert f"\n{line}" in f"\n{text}", line
    assert check(everything, full=True).text().endswith("\nnothing is broken")


def test_report_of_broken_files(davis):
    broken = broken_davis(davis)
    report = check(davis)
    assert not report.ok and {flaw.path for flaw in report.flaws} == set(broken)
    assert report.sets[0].videos == 0 and report.sets[0].objects is None
    assert "\n8 files broken or missing:\n" in report.text()  # in train and in val


def test_what_only_decoding_finds(davis):
    """Bytes lost in the middle leave both ends as they were."""
    frame, mask = davis / FRAMES / "pair" / "00001.jpg", davis / MASKS / "single" / "00003.png"
    data = bytearray(mask.read_bytes())
    data[-30:-20] = bytes(10)
    mask.write_bytes(data)
    Image.fromarray(np.zeros((20, 26, 3), dtype=np.uint8)).save(frame, format="PNG")
    with open(frame, "r+b") as file:
        file.seek(50)
        file.write(bytes(8))
    assert check(davis).ok
    report = check(davis, full=True)
    assert {flaw.path for flaw in report.flaws} == {frame, mask}
    assert all(str(flaw).count(str(flaw.path)) == 1 for flaw in report.flaws)


def test_a_first_mask_that_cannot_be_read(tmp_path):
    root = write_youtube(tmp_path / "train", {"003234408d": 2})
    write_picture(root / "Annotations" / "003234408d" / "00000.png")
    report = check(root)
    assert [flaw.path.name for flaw in report.flaws] == ["00000.png"]


def test_object_ids():
    mask = torch.tensor([[0, 3, 255], [1, 3, 0]], dtype=torch.uint8)
    assert object_ids(mask) == {1, 3}


def test_check_refuses_what_it_does_not_know(tmp_path):
    with pytest.raises(InputError, match="a list train or val"):
        check(tmp_path)
    root = write_davis(tmp_path / "DAVIS")
    (root / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/test-dev.txt")
    with pytest.raises(InputError, match="has no list ImageSets/2017/train.txt; it has ImageSets/2017/test-dev.txt"):
        check(root)


def test_lists_of_ones_own_are_reported(tmp_path):
    """Where there is neither train nor val; training goes on asking for train."""
    root = write_davis(tmp_path / "DAVIS")
    (root / "ImageSets/2017/val.txt").unlink()
    write_list(root, "2016/mine.txt", ["pair"])
    write_list(root, "2017/yours.txt", ["single"])
    write_list(root, "2017/test-dev.txt", ["nothing"])
    for folder in (root, tmp_path):
        report = check(folder)
        found = [(one.name, one.videos, one.repeat) for one in report.sets]
        assert report.ok and found == [("DAVIS 2016 mine", 1, 1), ("DAVIS 2017 yours", 1, 1)]
    assert "listed in ImageSets/2016/mine.txt, frames in 480p (not for training, which reads" in check(root).text()
    assert "tmrn-edu evaluate takes it as --split mine)\n" in check(root).text()
    refuses("has no list ImageSets/2017/train.txt; it has ImageSets/2016/mine.txt, ImageSets/2017/test-dev.txt", root)
    (root / MASKS / "pair/00002.png").unlink()
    assert [flaw.reason for flaw in check(root).flaws] == ["has no mask"]


def test_a_split_is_found_by_its_list(tmp_path):
    root = tmp_path / "DAVIS"
    write_sequence(root, "bear", index_masks(3, 1))
    write_list(root, "2016/train.txt", ["bear"])
    assert [one.name for one in check(tmp_path).sets] == ["DAVIS 2016 train"]
