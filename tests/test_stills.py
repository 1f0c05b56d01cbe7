"""Stills with masks: every published layout in small, masks of every mode, and flaws as published."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from still_tree import SIZE, disc, write_pairs, write_picture, write_white

from tmrn_edu.data.check_files import check
from tmrn_edu.data.sets import Video, find_sets
from tmrn_edu.data.stills import Still, read_white
from tmrn_edu.data.video import write_mask
from tmrn_edu.errors import InputError

ABC = ("a", "b", "c")


def names(sets):
    return {one.name: [video.name for video in one.videos] for one in sets}


def repeats(sets):
    return {one.name: one.repeat for one in sets}


def refuses(message, *arguments, **options):
    with pytest.raises(InputError, match=re.escape(message)):
        find_sets(*arguments, **options)


# --- layouts ---


def test_one_folder(tmp_path):
    write_pairs(tmp_path / "mine", ABC)
    (mine,) = find_sets(tmp_path / "mine")
    assert (mine.name, mine.kind, mine.repeat, mine.frame_step) == ("mine", "stills", 1, 1)
    still = mine.videos[1]
    assert isinstance(still, Video) and (still.name, still.size, len(still)) == ("b", SIZE, 1)
    with Image.open(tmp_path / "mine" / "b.jpg") as picture:
        assert np.array_equal(still.frame(0), np.array(picture))
    assert torch.equal(still.mask(0), torch.from_numpy(disc()))


def test_duts(tmp_path):
    for split in ("DUTS-TR", "DUTS-TE"):
        write_pairs(tmp_path / split / f"{split}-Image", ABC, tmp_path / split / f"{split}-Mask")
    assert names(find_sets(tmp_path)) == {"DUTS-TR": [*ABC], "DUTS-TE": [*ABC]}
    assert names(find_sets(tmp_path / "DUTS-TR")) == {"DUTS-TR": [*ABC]}


def test_duts_before_its_correction(tmp_path):
    """Three masks are there twice, and the JPEG is the right one; elsewhere the PNG is."""
    images, masks = tmp_path / "DUTS-TR" / "DUTS-TR-Image", tmp_path / "DUTS-TR" / "DUTS-TR-Mask"
    write_pairs(images, ("a", "n04442312_17818"), masks)
    write_picture(masks / "n04442312_17818.png", size=(5, 5))
    write_white(masks / "n04442312_17818.jpg")
    write_picture(masks / "a.jpg", size=(5, 5))
    (duts,) = find_sets(tmp_path)
    assert [still.mask_path.name for still in duts.videos] == ["a.png", "n04442312_17818.jpg"]
    assert torch.equal(duts.videos[1].mask(0), torch.from_numpy(disc()))  # blurred by JPEG, and still the same


def test_ecssd(tmp_path):
    write_pairs(tmp_path / "ECSSD" / "images", ("0001", "0002"), tmp_path / "ECSSD" / "ground_truth_mask")
    assert names(find_sets(tmp_path)) == {"ECSSD": ["0001", "0002"]}


def test_hrsod(tmp_path):
    root = tmp_path / "HRSOD_release"
    for split in ("HRSOD_train", "HRSOD_test"):
        write_pairs(root / split, ABC[:2], root / f"{split}_mask")
    sets = find_sets(root)
    assert repeats(sets) == {"HRSOD_test": 5, "HRSOD_train": 5}
    assert [video.name for video in sets[0].videos] == ["a", "b"]


def test_big(tmp_path):
    write_pairs(tmp_path / "BIG" / "test", ABC, frame="{}_im.jpg", mask="{}_gt.png")
    write_white(tmp_path / "BIG" / "test" / "a_seg.png")
    (big,) = find_sets(tmp_path)
    assert (big.name, big.repeat, len(big.videos)) == ("BIG test", 5, 3)
    assert big.videos[0].mask_path.name == "a_gt.png"


def test_fss(tmp_path):
    root = tmp_path / "fewshot_data" / "fewshot_data"
    for name in ("abacus", "ab_wheel", "mask"):
        write_pairs(root / name, ("1", "2", "10"))
    write_picture(root / "abacus" / "10.jpeg", size=(4, 4))  # as published: a second copy
    (fss,) = find_sets(tmp_path)
    assert (fss.name, fss.repeat) == ("fewshot_data", 1)
    assert [video.name for video in fss.videos if video.name.startswith("abacus/")] == [
        "abacus/1",
        "abacus/2",
        "abacus/10",
    ]
    assert len(fss.videos) == 9


def test_flaws_of_fss_are_passed_over(tmp_path):
    for name in ("screw", "abacus"):
        write_pairs(tmp_path / "fss" / name, ("7", "8"))
    write_white(tmp_path / "fss" / "screw" / "8.png", size=(5, 6))
    (fss,) = find_sets(tmp_path / "fss")
    assert [video.name for video in fss.videos] == ["abacus/7", "abacus/8", "screw/7"]
    write_white(tmp_path / "fss" / "screw" / "7.png", size=(5, 6))
    refuses("screw/7.png: is 5 x 6 (height x width), 7.jpg is 12 x 17", tmp_path / "fss")


def test_static_folder_of_the_authors(tmp_path):
    for name in ("DUTS-TR", "DUTS-TE", "ecssd", "BIG_small", "HRSOD_small"):
        write_pairs(tmp_path / "static" / name, ABC[:2])
    for name in ("abacus", "ab_wheel"):
        write_pairs(tmp_path / "static" / "fss" / name, ("1",))
    sets = find_sets(tmp_path / "static")
    assert repeats(sets) == {"DUTS-TR": 1, "DUTS-TE": 1, "ecssd": 1, "BIG_small": 5, "HRSOD_small": 5, "fss": 1}


def test_links_keep_their_name(tmp_path, monkeypatch):
    write_pairs(tmp_path / "disk" / "x", ABC)
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "BIG_small").symlink_to(tmp_path / "disk" / "x")
    assert repeats(find_sets(tmp_path / "static")) == {"BIG_small": 5}
    monkeypatch.chdir(tmp_path / "disk" / "x")
    assert repeats(find_sets(".")) == {"x": 1}


def test_masks_named_apart(tmp_path):
    write_pairs(tmp_path / "mine" / "img", ABC, tmp_path / "mine" / "labels", mask="{}_mask.png", frame="{}.png")
    assert names(find_sets(tmp_path)) == {"mine": [*ABC]}


def test_what_is_not_looked_at(tmp_path):
    write_pairs(tmp_path / "mine", ("a",))
    (tmp_path / "mine" / "._a.png").write_bytes(b"resource fork")
    write_pairs(tmp_path / "__MACOSX", ("a",))
    write_pairs(tmp_path / ".hidden", ("a",))
    assert names(find_sets(tmp_path)) == {"mine": ["a"]}


# --- masks ---


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_masks_of_any_mode(tmp_path, mode):
    write_white(tmp_path / "x.png", mode=mode)
    assert torch.equal(read_white(tmp_path / "x.png"), torch.from_numpy(disc()))


def test_the_border_between_black_and_white(tmp_path):
    Image.fromarray(np.array([[0, 127, 128, 255]], dtype=np.uint8)).save(tmp_path / "x.png")
    assert read_white(tmp_path / "x.png").tolist() == [[0, 0, 1, 1]]


def test_exif_does_not_turn_a_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.zeros((12, 17, 3), dtype=np.uint8)).save(tmp_path / "a.jpg", exif=exif)
    write_white(tmp_path / "a.png")
    (found,) = find_sets(tmp_path)
    assert found.videos[0].size == SIZE and found.videos[0].frame(0).shape == (*SIZE, 3)


# --- what is refused ---


def test_pictures_without_partner(tmp_path):
    write_pairs(tmp_path, ABC)
    (tmp_path / "b.png").unlink()
    refuses(f"1 of 4 files in {tmp_path} cannot be used:\n  {tmp_path / 'b.jpg'}: has no mask", tmp_path)
    write_white(tmp_path / "b.png")
    (tmp_path / "c.jpg").unlink()
    refuses(f"{tmp_path / 'c.png'}: has no picture", tmp_path)


def test_files_damaged_behind_their_header(tmp_path):
    still = Still("a", tmp_path / "a.jpg", tmp_path / "a.png", SIZE)
    write_pairs(tmp_path, ("a",))
    for file in ("a.jpg", "a.png"):
        (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-40])
    with pytest.raises(InputError, match="cannot read picture .*a.jpg: .*truncated"):
        still.frame(0)
    with pytest.raises(InputError, match="cannot read mask .*a.png"):
        still.mask(0)
    for read in (still.frame, still.mask):
        with pytest.raises(IndexError, match="frame 1 of a still"):
            read(1)


@pytest.mark.parametrize("kind", ["palette", "labels", "red", "1 bit"])
def test_masks_that_are_not_white(tmp_path, kind):
    """Labels in a palette or grey file, and a colour: what people draw, and the published sets do not have."""
    box = disc()
    if kind == "palette":
        write_mask(tmp_path / "x.png", box * 3)
    elif kind == "labels":
        Image.fromarray(box * 5).save(tmp_path / "x.png")
    elif kind == "red":
        Image.fromarray(np.stack([box * 255, box * 0, box * 0], axis=-1)).save(tmp_path / "x.png")
    else:
        Image.fromarray(box * 255).convert("1").save(tmp_path / "x.png")
    assert torch.equal(read_white(tmp_path / "x.png"), torch.from_numpy(box))


def test_stills_in_which_nothing_is_marked(tmp_path):
    write_pairs(tmp_path, ["a", "b"])
    for name in ("a", "b"):
        Image.fromarray(disc() * 0).save(tmp_path / f"{name}.png")
    assert check(tmp_path).ok
    report = check(tmp_path, full=True)
    assert not report.ok and "holds no object in any mask" in report.text()
