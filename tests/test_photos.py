"""Textures from real pictures: the same shapes and paths, other colours; look-alikes cut from one picture."""

import pickle

import numpy as np
import pytest
import torch
from test_pasting import Box

from tmrn_edu.data.photos import FRAMES, bundled_photos, frames_of, textured_set
from tmrn_edu.data.sets import Video, VideoSet
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.data.textures import Family, crop_table, draw_look
from tmrn_edu.data.video_clips import VideoClips, synthetic_set
from tmrn_edu.errors import InputError

FAMILY = Family("clouds", 10.0, 0.0, (200.0, 20.0, 20.0), np.zeros((3, 3)))


def even(colour, size=(30, 40)):
    return torch.tensor(colour, dtype=torch.uint8).repeat(*size, 1)


def test_bundled_photos_are_pictures():
    photos = bundled_photos()
    assert len(photos) == 5 and len({tuple(photo.shape) for photo in photos}) == 3
    for photo in photos:
        assert photo.dtype == torch.uint8 and photo.shape[2] == 3 and 140 <= min(photo.shape[:2]) <= 480
        assert photo.float().mean(dim=-1).std() > 20  # something to be seen
    assert bundled_photos() is photos  # made once


@pytest.mark.parametrize("level", ["easy", "hard"])
def test_pictures_change_colours_and_nothing_else(level):
    plain, again = make_clip(3, level, 4, (48, 64)), make_clip(3, level, 4, (48, 64), pictures=None)
    clip, same = (make_clip(3, level, 4, (48, 64), pictures=bundled_photos()) for _ in range(2))
    assert torch.equal(plain.frames, again.frames)
    assert torch.equal(clip.layers, plain.layers) and torch.equal(clip.index_masks, plain.index_masks)
    assert torch.equal(clip.frames, same.frames) and not torch.equal(clip.frames, plain.frames)
    ours, theirs = clip.correspondence(0, 3), plain.correspondence(0, 3)
    assert torch.equal(ours.positions, theirs.positions)


def test_half_of_the_families_are_cut_from_pictures():
    """The only picture is pure green: a layer that shows it, in its own colours, is green."""
    rng = np.random.RandomState(0)
    looks = [draw_look(rng, FAMILY, [even((0, 250, 0))]) for _ in range(400)]
    cut = [look for look in looks if look is not None]
    assert 160 < len(cut) < 240
    own = [look for look in cut if not look.shift.any()]
    assert 0.35 * len(cut) < len(own) < 0.65 * len(cut)
    moved = next(look for look in cut if look.shift.any())
    for look, colour in ((own[0], (0, 250, 0)), (moved, FAMILY.mean)):
        table = crop_table(rng, look, 20.0, 1.5, jitter=0.0)
        assert table.dtype == np.uint8 and table.shape == (60, 60, 3)
        assert (table == np.array(colour)).all()


def test_crops_of_one_look_differ_and_are_of_its_picture():
    rng = np.random.RandomState(1)
    picture = np.stack(np.broadcast_arrays(np.arange(80)[:, None], np.arange(90), 7), axis=-1).astype(np.uint8)
    look = next(
        look for look in (draw_look(rng, FAMILY, [picture]) for _ in range(50)) if look and not look.shift.any()
    )
    tables = [crop_table(rng, look, 20.0, 1.0, jitter=0.0) for _ in range(6)]
    side = round(look.zoom * 80 * 40 / 96)
    for table in tables:
        steps = np.diff(table.astype(int), axis=0)[..., 0]
        assert steps.mean() == pytest.approx(side / 40, rel=0.1)  # rows of the picture per row of the table
        assert (table[..., 2] == 7).all()
    assert len({table.tobytes() for table in tables}) > 3
    wide = crop_table(rng, look, 200.0, 0.5, jitter=0.0)  # more than there is: the whole height
    assert wide[..., 0].min() <= 1 and wide[..., 0].max() >= 78


def test_errors_name_both_sides():
    with pytest.raises(InputError, match="pictures holds 0 pictures, expected 1 or more, or None"):
        make_clip(0, pictures=[])
    with pytest.raises(InputError, match="picture 0 is 5 x 40 x 3, expected RGB of at least 8 x 8 x 3"):
        for seed in range(5):
            make_clip(seed, size=(16, 16), frames=1, pictures=[even((1, 2, 3), (5, 40))])
    with pytest.raises(InputError, match="1 sets with 0 videos and stills were given, expected pictures"):
        frames_of([VideoSet("none", "video", ())])


def test_frames_are_spread_over_the_sets():
    stills, long = [Box(f"still{i}", 1) for i in range(3)], Box("long", 90)
    found = frames_of([VideoSet("stills", "stills", tuple(stills)), VideoSet("one", "video", (long,))])
    assert len(found) == 3 + FRAMES // 4 and torch.equal(found[0], stills[0].frame(0))
    times = [t for video, t in found.places if video is long]
    assert times == sorted(set(times)) and times[0] < 3 and times[-1] > 86
    many = frames_of([VideoSet("many", "stills", tuple(Box(f"still{i}", 1) for i in range(3 * FRAMES + 1)))])
    assert FRAMES / 2 < len(many) <= FRAMES and many.places[-1][0].name == f"still{3 * FRAMES}"


def test_textured_videos_are_synthetic_ones_in_other_colours():
    pictures = frames_of([VideoSet("one", "video", (Box("box"),))])
    options = {"length": 3, "size": (32, 40), "objects": 2}
    made, plain = textured_set(5, pictures, seed=2, **options), synthetic_set(5, seed=2, **options)
    assert (made.name, made.kind, made.videos[0].name) == ("textured", "video", "textured 10000010")
    for video, other in zip(made.videos, plain.videos, strict=True):
        assert isinstance(video, Video) and (len(video), video.size) == (3, (32, 40))
        assert all(torch.equal(video.mask(t), other.mask(t)) for t in range(3))
    assert any(not torch.equal(video.frame(0), other.frame(0)) for video, other in zip(made.videos, plain.videos))
    sent = pickle.loads(pickle.dumps(made.videos[1]))
    assert torch.equal(sent.frame(2), made.videos[1].frame(2))
    assert len(textured_set(2, pictures, **options).videos) == 2


def test_training_clips_know_where_their_points_are():
    from tmrn_edu.data.transforms import video_augmentation

    pictures = frames_of([VideoSet("one", "video", (Box("box"),))])
    clips = VideoClips([textured_set(2, pictures, length=4, size=(40, 48))], video_augmentation(32))
    assert clips.sample(0, 0, 1, 3).source is not None
