"""DAVIS folders: both layouts, and each way in which one can be broken."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from davis_tree import SIZE, index_masks, write_davis, write_list, write_sequence, write_test_dev
from PIL import Image

from tmrn_edu.data.davis import image_size, list_file, only_objects, open_davis
from tmrn_edu.data.video import write_mask
from tmrn_edu.errors import InputError

SHARED = Path(__file__).resolve().parents[2] / "shared"
MASKS, FRAMES = Path("Annotations/480p"), Path("JPEGImages/480p")


@pytest.fixture
def root(tmp_path):
    return write_davis(tmp_path / "DAVIS")


def refuses(message, *arguments, **options):
    with pytest.raises(InputError, match=re.escape(message)):
        open_davis(*arguments, **options)


# --- what is read ---


def test_2017(root):
    pair, single = open_davis(root)
    assert (pair.name, single.name) == ("pair", "single")
    assert (len(pair), pair.size, pair.object_ids) == (6, SIZE, (1, 2))
    assert (len(single), single.size, single.object_ids) == (5, (18, 30), (1,))
    assert torch.equal(pair.masks(), torch.from_numpy(index_masks(6, 2)))
    frames = pair.frames()
    assert frames.shape == (6, *SIZE, 3) and frames.dtype == torch.uint8
    with Image.open(root / FRAMES / "pair" / "00003.jpg") as picture:
        assert np.array_equal(frames[3], np.array(picture))


def test_2016_merges_objects(root):
    write_list(root, "2016/val.txt", ["pair"])
    (pair,) = open_davis(root, year=2016)
    assert pair.object_ids == (1,) and pair.merge_objects
    assert torch.equal(pair.masks(), torch.from_numpy(index_masks(6, 2) != 0).to(torch.uint8))


def test_2016_as_first_published(root):
    """Lists of path pairs, grey masks of 0 and 255."""
    for path in (root / MASKS / "single").iterdir():
        with Image.open(path) as picture:
            values = np.array(picture) * 255
        Image.fromarray(values).save(path)
    names = [f"{t:05}" for t in (0, 1, 2, 3)]  # one frame fewer than there are: the list rules
    write_list(root, "480p/val.txt", [f"/{FRAMES}/single/{n}.jpg /{MASKS}/single/{n}.png" for n in names])
    (single,) = open_davis(root, year=2016)
    assert [path.stem for path in single.frame_paths] == [path.stem for path in single.mask_paths] == names
    assert torch.equal(single.masks(), torch.from_numpy(index_masks(4, 1, size=(18, 30))))


def test_2016_lists_in_order_of_preference(root):
    def taken():
        return list_file(root, 2016, "val").relative_to(root / "ImageSets").as_posix()

    assert taken() == "2017/val.txt"
    write_list(root, "480p/val.txt", ["single"])
    assert taken() == "480p/val.txt"
    write_list(root, "2016/val.txt", ["single"])
    assert taken() == "2016/val.txt"
    assert list_file(root, 2017, "val") == root / "ImageSets/2017/val.txt"


def test_some_sequences_of_a_split(root):
    write_sequence(root, "other", index_masks(3, 1))
    write_list(root, "2017/train.txt", ["other", "", "pair  "])
    assert [one.name for one in open_davis(root, split="train")] == ["other", "pair"]
    assert [one.name for one in open_davis(root, sequences=["single", "pair", "single"])] == ["single", "pair"]


def test_other_resolution(root):
    write_sequence(root, "pair", index_masks(3, 2), resolution="Full-Resolution")
    (pair,) = open_davis(root, sequences=["pair"], resolution="Full-Resolution")
    assert len(pair) == 3 and "Full-Resolution" in str(pair.frame_paths[0])


def test_objects_may_leave_and_void_stays(root):
    masks = index_masks(6, 2)
    masks[3] = 0
    masks[4, 0, 0] = 255
    for t in (3, 4):
        write_mask(root / MASKS / "pair" / f"{t:05}.png", masks[t])
    assert torch.equal(open_davis(root)[0].masks(), torch.from_numpy(masks))


def test_hidden_files_are_no_frames(root):
    (root / FRAMES / "pair" / "._00000.jpg").write_bytes(b"resource fork")
    (root / FRAMES / "pair" / "notes.txt").write_text("not a frame")
    assert len(open_davis(root)[0]) == 6


def test_first_masks_alone(tmp_path):
    """test-dev: what a server keeps is not asked for here, and of other splits it is."""
    root = write_test_dev(tmp_path)
    (pair,) = open_davis(root, split="test-dev")
    assert (len(pair), pair.object_ids, pair.has_truth) == (6, (1, 2), False)
    assert pair.required == {t: f"{t:05}.png" for t in range(6)} and pair.enters == {1: 0, 2: 0}
    assert torch.equal(pair.given(0), torch.from_numpy(index_masks(1, 2)[0])) and pair.given(1) is None
    write_list(root, "2017/val.txt", ["pair"])
    refuses("pair: 6 frames in", root)
    (root / MASKS / "pair" / "00000.png").rename(root / MASKS / "pair" / "00001.png")
    refuses("1 masks in", root, split="test-dev")


def test_what_evaluation_asks(root):
    masks = index_masks(6, 2)
    masks[0, 0, 0] = 255
    masks[2:, 0, 1] = 9  # a late object
    for t in range(6):
        write_mask(root / MASKS / "pair" / f"{t:05}.png", masks[t])
    (pair,) = open_davis(root, sequences=["pair"])
    assert pair.has_truth and pair.given(0).unique().tolist() == [0, 1, 2]
    assert torch.equal(pair.truth(), torch.from_numpy(masks))
    assert torch.equal(only_objects(pair.truth(), (1, 2)), torch.from_numpy(index_masks(6, 2)))


# --- what is refused ---


def test_no_davis_folder(tmp_path, root):
    refuses(f"{tmp_path / 'nowhere'} is not a folder; a DAVIS root holds", tmp_path / "nowhere")
    refuses(f"{tmp_path / 'ImageSets'} is not a folder", tmp_path)
    refuses("DAVIS year is 2018, known are 2016 and 2017", root, year=2018)


def test_no_such_list(root):
    refuses("has no list ImageSets/2017/test.txt; it has ImageSets/2017/val.txt", root, split="test")
    refuses("no list ImageSets/2016/x.txt or ImageSets/480p/x.txt or ImageSets/2017/x.txt", root, year=2016, split="x")


def test_odd_lists(root):
    write_list(root, "2017/empty.txt", [""])
    refuses("empty.txt lists 0 sequences, needs at least 1", root, split="empty")
    write_list(root, "2017/odd.txt", ["pair", "JPEGImages/480p/single/00000.jpg"])
    refuses("odd.txt, line 2: 'JPEGImages/480p/single/00000.jpg' is neither a sequence name nor two", root, split="odd")
    write_list(root, "480p/pairs.txt", [f"/{FRAMES}/pair/00009.jpg /{MASKS}/pair/00001.png"])
    refuses("00009.jpg is listed, beside", root, year=2016, split="pairs")


def test_no_such_sequence(root):
    refuses(
        f"sequence 'bear' is not in {root}/ImageSets/2017/val.txt, which lists pair, single", root, sequences=["bear"]
    )
    refuses("0 sequences asked for", root, sequences=[])
    write_list(root, "2017/val.txt", ["pair", "bear"])
    refuses(f"{root / FRAMES / 'bear'} is not a folder", root)
    (root / FRAMES / "bear").mkdir()
    refuses(f"{root / FRAMES / 'bear'} has 0 files .jpg", root)


def test_frames_and_masks_that_do_not_match(root):
    (root / MASKS / "pair" / "00002.png").unlink()
    refuses(f"pair: 6 frames in {root / FRAMES / 'pair'}, 5 masks", root)
    refuses("without mask: 00002", root)
    for t in (0, 1, 2):
        (root / FRAMES / "pair" / f"{t:05}.jpg").unlink()
    refuses("without frame: 00000, 00001", root)


def test_sizes_that_differ(root):
    write_mask(root / MASKS / "pair" / "00004.png", index_masks(1, 2, size=(20, 27))[0])
    refuses(f"00004.png is 20x27, {root / FRAMES / 'pair' / '00000.jpg'} is 20x26 (height x width)", root)


def test_damaged_files(root):
    frame = root / FRAMES / "pair" / "00001.jpg"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:-100])  # the header is fine: it is found when the frame is read
    with pytest.raises(InputError, match="cannot read frame .*00001.jpg"):
        open_davis(root)[0].frame(1)
    frame.write_text("not a picture")
    refuses("00001.jpg as a picture", root)
    with pytest.raises(InputError, match="nowhere.png as a picture"):
        image_size(root / "nowhere.png")


def test_first_mask_without_objects(root):
    write_mask(root / MASKS / "pair" / "00000.png", np.zeros(SIZE, dtype=np.uint8))
    refuses("00000.png holds no object", root)


# --- real data, where it is ---


@pytest.mark.skipif(not (SHARED / "davis-mini").is_dir(), reason="../shared/davis-mini not here")
def test_davis_mini():
    sequences = {one.name: one for one in open_davis(SHARED / "davis-mini")}
    about = {name: (len(one), one.size, one.object_ids) for name, one in sequences.items()}
    assert about == {
        "bmx-trees": (80, (480, 854), (1,)),
        "car-shadow": (40, (480, 854), (1,)),
        "dogs-jump": (66, (240, 432), (1, 2, 3)),
    }
    assert sequences["dogs-jump"].mask(0).unique().tolist() == [0, 1, 2, 3]
    assert open_davis(SHARED / "davis-mini", 2016)[2].mask(0).unique().tolist() == [0, 1]


@pytest.mark.skipif(not (SHARED / "davis-2016-train-240p").is_dir(), reason="../shared/davis-2016-train-240p not here")
def test_davis_2016_train():
    sequences = open_davis(SHARED / "davis-2016-train-240p", 2016, "train")
    assert (len(sequences), sum(map(len, sequences))) == (27, 1930)
    assert {one.size for one in sequences} == {(240, 426)}
