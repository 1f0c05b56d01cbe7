"""YouTube-VOS's training split: which frames are listed, how far apart they are, and what is refused."""

import pickle
import re

import pytest
import torch
from still_tree import SIZE, disc, write_picture, write_youtube

from tmrn_edu.data.sets import Video, find_sets
from tmrn_edu.errors import InputError

VIDEOS = {"003234408d": 4, "0043f083b5": 3}


def refuses(message, *arguments):
    with pytest.raises(InputError, match=re.escape(message)):
        find_sets(*arguments)


@pytest.mark.parametrize("all_frames", [False, True])
def test_annotated_frames_are_listed(tmp_path, all_frames):
    (found,) = find_sets(write_youtube(tmp_path / "train", VIDEOS, all_frames=all_frames))
    assert (found.name, found.kind, found.repeat, found.frame_step) == ("YouTube-VOS train", "video", 1, 5)
    first, second = found.videos
    assert isinstance(first, Video) and (first.name, first.size, len(first)) == ("003234408d", SIZE, 4)
    assert second.frame_names == ("00000.jpg", "00005.jpg", "00010.jpg") and len(second) == 3
    assert first.frame(1).shape == (*SIZE, 3)
    late = torch.from_numpy(disc())
    late[:2, :2] = 2
    assert torch.equal(first.mask(0), torch.from_numpy(disc())) and torch.equal(first.mask(3), late)


def test_where_it_is_looked_for(tmp_path):
    """The folder with JPEGImages, the one above, and the tree of STCN and XMem, where train_480p stands for train."""
    write_youtube(tmp_path / "YouTube" / "train_480p", VIDEOS)
    write_youtube(tmp_path / "YouTube" / "train", {"another": 2})
    write_youtube(tmp_path / "YouTube" / "valid", {"003234408d": 1})
    for root in (tmp_path, tmp_path / "YouTube", tmp_path / "YouTube" / "train_480p"):
        (found,) = find_sets(root)
        assert [video.name for video in found.videos] == list(VIDEOS)


def test_gaps_do_not_change_the_step(tmp_path):
    root = write_youtube(tmp_path / "train", VIDEOS)
    (root / "Annotations" / "003234408d" / "00005.png").unlink()
    (found,) = find_sets(root)
    assert found.frame_step == 5 and found.videos[0].frame_names == ("00000.jpg", "00010.jpg", "00015.jpg")


def test_other_data_in_the_same_layout(tmp_path):
    (found,) = find_sets(write_youtube(tmp_path / "a", {"one": 3}, step=1))
    assert (found.name, found.frame_step) == ("a", 1)


def test_videos_travel_light(tmp_path):
    (found,) = find_sets(write_youtube(tmp_path / "train", {"long": 30}))
    again = pickle.loads(pickle.dumps(found.videos[0]))
    assert again == found.videos[0] and len(pickle.dumps(again)) < 30 * 60


def test_what_is_refused(tmp_path):
    root = write_youtube(tmp_path / "train", VIDEOS)
    (root / "JPEGImages" / "0043f083b5" / "00005.jpg").unlink()
    refuses(f"{root / 'Annotations' / '0043f083b5' / '00005.png'}: has no frame", root)
    for path in (root / "Annotations" / "0043f083b5").iterdir():
        path.unlink()
    refuses(
        f"{root / 'Annotations' / '0043f083b5'}: has 0 masks, {root / 'JPEGImages' / '0043f083b5'} has 2 frames", root
    )
    for path in (root / "JPEGImages" / "003234408d").iterdir():
        path.unlink()
    refuses(f"{root / 'JPEGImages' / '003234408d'}: has 0 frames", root)
    refuses("is a validation or test split", write_youtube(tmp_path / "valid", {"003234408d": 1}))
    for kind in ("JPEGImages", "Annotations"):
        (tmp_path / "bare" / kind).mkdir(parents=True)
    refuses("JPEGImages has 0 folders of frames", tmp_path / "bare")


def test_a_mask_that_is_none(tmp_path):
    (found,) = find_sets(write_youtube(tmp_path / "train", VIDEOS))
    write_picture(tmp_path / "train" / "Annotations" / "003234408d" / "00000.png")
    with pytest.raises(InputError, match="00000.png is RGB with"):
        found.videos[0].mask(0)
