"""What the words of --data open: made videos stand beside the folders they are made from, and never show what is held out."""

import pytest
import torch
from davis_tree import index_masks, write_davis, write_list, write_sequence
from still_tree import write_pairs, write_youtube

from tmrn_edu.courses import find_recipe
from tmrn_edu.errors import InputError
from tmrn_edu.training.settings import STILLS, VIDEO, Recipe, TrainSettings
from tmrn_edu.training.sources import make_data


def recipe(stage=VIDEO, **options):
    return Recipe("mine", lambda seed: torch.nn.Identity(), TrainSettings(size=32, **options), stage, synthetic=7)


@pytest.fixture
def davis(tmp_path):
    root = write_davis(tmp_path / "DAVIS")
    for name in ("third", "fourth"):
        write_sequence(root, name, index_masks(5, 1))
    write_list(root, "2017/train.txt", ["pair", "single", "third", "fourth"])
    return root


def sources_of(one):
    return {video.name for made in one.videos for video in (made.host.video, made.donor.video)}


def test_words_make_videos_from_those_beside_them(davis):
    data, _, words = make_data(recipe(), ["look-alikes:5", davis, "pasted:8", "synthetic:2", "textured:3"])
    assert (
        words
        == "DAVIS 2017 train: 4 videos, synthetic: 2 videos, look-alikes: 5 videos, pasted: 8 videos, textured: 3 videos"
    )
    _, _, copies, pasted, textured = data.sets
    assert sources_of(pasted) == {"pair", "single", "third", "fourth"} >= sources_of(copies)
    assert {video.label for video in (one.plan for one in copies.videos)} == {0}
    assert all(one.size == (108, 144) and len(one) == 12 for one in textured.videos)
    assert {video.name for video, _ in textured.videos[0].pictures.places} == {"pair", "single", "third", "fourth"}
    clip = data.sample(0, 0, 2, 3, 1)
    assert clip.frames.shape == (3, 3, 32, 32)


def test_the_usual_counts(davis):
    data, _, _ = make_data(recipe(), [davis, "pasted", "look-alikes", "textured", "synthetic"])
    assert [len(one.videos) for one in data.sets] == [4, 7, 100, 100, 600]


def test_nothing_held_out_is_pasted(davis):
    data, held_out, words = make_data(recipe(held_out=2), [davis, "pasted:12", "look-alikes:4", "textured:2"])
    names = {video.name for video in held_out["DAVIS 2017 train"]}
    assert (
        len(names) == 2
        and set(held_out) == {"DAVIS 2017 train"}
        and words.endswith(f"held out: {', '.join(held_of(held_out))}")
    )
    rest, pasted, copies, textured = data.sets
    assert not names & (sources_of(pasted) | sources_of(copies)) and len(rest.videos) == 2
    assert not names & {video.name for video, _ in textured.videos[0].pictures.places}


def held_of(held_out):
    return [video.name for videos in held_out.values() for video in videos]


def test_sets_of_different_steps_make_their_own(davis, tmp_path):
    youtube = write_youtube(tmp_path / "YTV" / "train", {"a": 3, "b": 3})
    data, _, _ = make_data(recipe(), [davis, youtube, "pasted:9"])
    assert [(one.frame_step, len(one.videos)) for one in data.sets[2:]] == [(1, 6), (5, 3)]
    assert sources_of(data.sets[3]) == {"a", "b"}


def test_stills_leave_pasted_videos_out(davis):
    data, _, words = make_data(recipe(STILLS), [davis, "pasted:5", "look-alikes:5", "textured:2"])
    assert words == "DAVIS 2017 train: 4 videos, textured: 2 videos" and len(data.sets[1].videos[0]) == 4


def refuses(message, roots, of=None):
    with pytest.raises(InputError, match=message):
        make_data(of or recipe(), roots)


def test_errors_name_both_sides(davis, tmp_path):
    write_pairs(tmp_path / "own", ["a", "b"])
    expected = "is made from annotated videos, beside it there is"
    refuses(f"data 'pasted:5' {expected} no folder; expected videos", ["pasted:5", "synthetic:3"])
    refuses(rf"data 'look-alikes' {expected} own \(2 stills\); expected videos", [tmp_path / "own", "look-alikes"])
    refuses("data 'pasted' is made from", [tmp_path / "own", "pasted"], recipe(STILLS))
    refuses("data 'textured' needs pictures, beside it there is no folder; expected stills or videos", ["textured"])
    refuses("data 'pasted:0' asks for '0' pasted videos, expected a number, such as pasted:100", [davis, "pasted:0"])
    refuses(
        "data 'textured:x' asks for 'x' textured videos, expected a number, such as textured:600", [davis, "textured:x"]
    )
    refuses(
        "stcn-tiny is trained on its own synthetic clips, data pasted:3 was given",
        ["pasted:3"],
        find_recipe("stcn_tiny"),
    )
