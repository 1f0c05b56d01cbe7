"""YouTube-VOS for evaluation: which frames and objects a split has, where all frames may lie, and each way in which it can be broken."""

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from valid_tree import FRAMES, META, SIZE, boxes, truth, write_meta, write_valid

from tmrn_edu.data.video import write_mask
from tmrn_edu.data.youtube_vos_valid import TRAINING_CATEGORIES, open_youtube_vos, read_categories
from tmrn_edu.errors import InputError


@pytest.fixture
def root(tmp_path):
    return write_valid(tmp_path / "YouTube")


def refuses(message, root, year=2019, **options):
    with pytest.raises(InputError, match=re.escape(message)):
        open_youtube_vos(root, year, **options)


# --- what is read ---


def test_late_objects_and_required_frames(root):
    first, second = open_youtube_vos(root, 2019)
    assert (first.name, second.name) == ("0a0a", "0b0b") and first.size == SIZE
    assert len(first) == len(second) == FRAMES
    assert first.required == {0: "00000.png", 5: "00005.png", 10: "00010.png"}
    assert second.required == {5: "00005.png", 10: "00010.png"}
    assert first.enters == {1: 0, 4: 5} and second.enters == {3: 5}
    assert first.object_ids == (1, 4) and first.categories == {1: "sedan", 4: "cactus"}
    assert not first.has_truth
    given = {t: first.given(t) for t in range(len(first))}
    assert [t for t, mask in given.items() if mask is not None] == [0, 5]
    assert given[0].unique().tolist() == [0, 1] and given[5].unique().tolist() == [0, 4]
    with Image.open(root / "valid_all_frames/JPEGImages/0a0a/00003.jpg") as picture:
        assert np.array_equal(first.frame(3), np.array(picture))


@pytest.mark.parametrize("place", ["valid_all_frames", "all_frames/valid_all_frames"])
def test_where_all_frames_lie(tmp_path, place):
    root = write_valid(tmp_path, place)
    for start in (root, root / "valid"):
        assert len(open_youtube_vos(start, 2018)[0]) == FRAMES


def test_each_fifth_frame_alone(tmp_path):
    (video,) = open_youtube_vos(write_valid(tmp_path, all_frames=None), 2019, sequences=["0a0a"])
    assert len(video) == 3 and video.required == {0: "00000.png", 1: "00005.png", 2: "00010.png"}
    assert video.enters == {1: 0, 4: 1}


def test_all_masks(tmp_path):
    """Known objects are not given again, and the truth is that of the frames asked for."""
    first, second = open_youtube_vos(write_valid(tmp_path, full=True), 2019)
    assert first.has_truth and second.has_truth
    assert first.given(5).unique().tolist() == [0, 4] and first.given(10) is None
    assert torch.equal(first.truth(), torch.from_numpy(truth("0a0a"))) and second.truth().shape == (2, *SIZE)


def test_training_categories(root):
    assert len(TRAINING_CATEGORIES) == 65
    assert read_categories(root / "valid/meta.json") == {"sedan", "cactus", "person"}


# --- what is refused ---


def test_no_split(root, tmp_path):
    refuses(f"neither {tmp_path / 'x' / 'valid'} nor {tmp_path / 'x'} is a split of YouTube-VOS", tmp_path / "x")


def test_odd_meta(root):
    meta = root / "valid/meta.json"
    for text in (
        "no json",
        "[]",
        '{"videos": {"0a0a": {}}}',
        '{"videos": {"0a0a": {"objects": {"one": {"frames": []}}}}}',
    ):
        meta.write_text(text)
        refuses(f"{meta} is no list of videos", root)
    meta.write_text('{"videos": {}}')
    refuses(f"{meta} lists 0 videos", root)
    meta.write_text(json.dumps({"videos": {"0a0a": {"objects": {"1": {"frames": ["00000"]}}}}}))
    with pytest.raises(InputError, match="names 0 categories for 1 objects"):
        read_categories(meta)
    meta.unlink()
    refuses(f"cannot read {meta}", root)


def test_the_other_year(root):
    write_meta(root / "valid", {f"{number:04}": META["0a0a"] for number in range(507)})
    refuses("has 507 videos, which is the split of 2019; 2018 has 474", root, year=2018)


def test_no_such_video(root):
    refuses("sequence 'bear' is not in", root, sequences=["bear"])
    refuses("0 sequences asked for", root, sequences=[])
    write_meta(root / "valid", META | {"0c0c": META["0a0a"]})
    refuses(f"{root / 'valid_all_frames/JPEGImages/0c0c'} has 0 frames", root)


def test_files_that_do_not_fit(root):
    masks, frames = root / "valid/Annotations/0a0a", root / "valid_all_frames/JPEGImages/0a0a"
    write_mask(masks / "00005.png", np.zeros((4, 5), dtype=np.uint8))
    refuses(f"00005.png is 4 x 5, {frames / '00000.jpg'} is 20 x 30 (height x width)", root)
    write_mask(masks / "00005.png", boxes("0a0a", 5))
    (masks / "00005.png").rename(masks / "00099.png")
    refuses(f"{masks} has masks for frames 00099 of 0a0a", root)
    (masks / "00099.png").rename(masks / "00005.png")
    (frames / "00010.jpg").unlink()
    refuses(f"meta.json asks for frames 00010 of 0a0a, {frames} has 12 others", root)
    (frames / "00001.jpg").write_text("no picture")
    refuses("00001.jpg as a picture", root)


def test_a_video_without_objects(root):
    write_mask(root / "valid/Annotations/0b0b/00005.png", np.zeros(SIZE, dtype=np.uint8))
    refuses("0b0b has 0 objects in", root)
    for mask in (root / "valid/Annotations/0b0b").iterdir():
        mask.unlink()
    refuses(f"{root / 'valid/Annotations/0b0b'} has 0 masks", root)
