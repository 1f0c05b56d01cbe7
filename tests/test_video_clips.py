"""Training clips from sets: each video once an epoch, samples that depend on numbers alone, masks and paths that follow the frames."""

import pickle
from collections import Counter
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from davis_tree import write_davis
from einops import rearrange

from tmrn_edu.data import video_clips
from tmrn_edu.data.clips import FIRST_TRAINING_SEED, LEVEL_MIX, collate
from tmrn_edu.data.davis import open_davis
from tmrn_edu.data.pasting import pasted_set
from tmrn_edu.data.sets import Video, VideoSet
from tmrn_edu.data.transforms import Augmentation, Jitter, static_augmentation, video_augmentation
from tmrn_edu.data.video_clips import SyntheticVideo, VideoClips, synthetic_set
from tmrn_edu.errors import InputError

WHOLE = Augmentation(16, flip=0.0)  # the picture as it is, where it is 16 x 16


@dataclass(frozen=True)
class Painted:
    """A video whose frame t is evenly coloured (number, t, 0), with given labels side by side, the last rows void."""

    number: int
    length: int = 6
    labels: tuple[int, ...] = (1,)
    empty: tuple[int, ...] = ()  # frames without objects
    size: tuple[int, int] = (16, 16)

    @property
    def name(self):
        return f"painted{self.number}"

    def __len__(self):
        return self.length

    def frame(self, t):
        return torch.tensor([self.number, t, 0], dtype=torch.uint8).expand(*self.size, 3).contiguous()

    def mask(self, t):
        mask = torch.zeros(self.size, dtype=torch.uint8)
        for i, label in enumerate(self.labels if t not in self.empty else ()):
            mask[:8, 4 * i : 4 * i + 3] = label
        mask[14:] = 255
        return mask


def video_set(*videos, kind="video", **options):
    return VideoSet("made", kind, tuple(videos), **options)


def visited(clip):
    """(number of the video, number of the first frame), read from the colour of the frame."""
    return tuple((clip.frames[0, :2, 0, 0] * 255).round().int().tolist())


def same(one, other):
    return (
        torch.equal(one.frames, other.frames)
        and torch.equal(one.index_masks, other.index_masks)
        and torch.equal(one.indices, other.indices)
        and (one.name, one.count) == (other.name, other.count)
    )


# ------------------------------------------------------------------ whose turn it is


def test_every_video_once_an_epoch_in_a_new_order():
    clips = VideoClips([video_set(*map(Painted, range(7))), video_set(Painted(9), repeat=3)], WHOLE)
    epochs = [[visited(clips.sample(10 * e + i, 0, 1, 2))[0] for i in range(10)] for e in range(4)]
    assert all(Counter(epoch) == {**dict.fromkeys(range(7), 1), 9: 3} for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_of_any_size_walk_the_same_order():
    clips = VideoClips([video_set(*map(Painted, range(6)))], WHOLE)
    one_by_one = [clips.sample(n, 0, 1, 2) for n in range(6)]
    in_threes = [clips.sample(step, position, 3, 2) for step, position in product(range(2), range(3))]
    assert all(same(a, b) for a, b in zip(one_by_one, in_threes, strict=True))


def test_a_sample_does_not_remember():
    sets = [synthetic_set(5, size=(24, 32))]
    clips, again = (VideoClips(sets, video_augmentation(16), objects=2, seed=3) for _ in range(2))
    for n in (9, 0, 4):
        again.sample(n, 1, 2, 3)  # another history
    wanted = clips.sample(6, 1, 2, 3, 2)
    assert same(wanted, again.sample(6, 1, 2, 3, 2)) and same(wanted, clips.sample(6, 1, 2, 3, 2))
    assert same(wanted, pickle.loads(pickle.dumps(clips)).sample(6, 1, 2, 3, 2))
    assert not same(wanted, VideoClips(sets, video_augmentation(16), objects=2, seed=4).sample(6, 1, 2, 3, 2))


def test_short_videos_and_stills_are_left_out():
    short, long, still = Painted(1, length=2), Painted(2, length=5), Painted(3, length=1)
    clips = VideoClips([video_set(short, long), video_set(still, kind="stills")], WHOLE)
    assert {visited(clips.sample(n, 0, 1, 3))[0] for n in range(6)} == {2}
    assert {visited(clips.sample(n, 0, 1, 2))[0] for n in range(6)} == {1, 2}


# ------------------------------------------------------------------ what a clip is


@pytest.mark.parametrize("rule, longest", [("walk", 3), ("spread", 2)])
def test_frames_are_those_that_the_name_and_indices_say(rule, longest):
    clips = VideoClips([video_set(Painted(1, length=20))], WHOLE, rule=rule)
    backwards = 0
    for step in range(40):
        clip = clips.sample(step, 0, 1, 4, 2)
        shown = (clip.frames[:, 1, 0, 0] * 255).round().int().tolist()
        assert clip.name == " ".join(["painted1", *(f"{t:05}" for t in shown)])
        assert clip.indices.tolist() == [abs(t - shown[0]) for t in shown]
        assert clip.indices[0] == 0 and all(1 <= d <= longest for d in clip.indices.diff().tolist())
        backwards += shown[0] > shown[-1]
    assert 8 <= backwards <= 32


def test_sets_that_list_every_fifth_frame():
    clips = VideoClips([video_set(Painted(1, length=20), frame_step=5)], WHOLE, rule="spread")
    seen = set()
    for step in range(30):
        clip = clips.sample(step, 0, 1, 3, 10)  # 10 video frames are 2 listed ones
        seen |= set(clip.indices.diff().tolist())
        first = visited(clip)[1]
        assert clip.name.split()[1] == f"{5 * first:05}"
    assert seen == {5, 10}


def test_objects_are_drawn_and_numbered_from_one():
    video = Painted(1, labels=(7, 4, 200))
    chosen = Counter()
    for step in range(60):
        clip = VideoClips([video_set(video)], WHOLE, objects=2).sample(step, 0, 1, 2)
        assert clip.count == 2 and clip.objects == 2 and set(clip.index_masks.unique().tolist()) == {0, 1, 2}
        places = [tuple(clip.index_masks[:, 2, x].tolist()) for x in (1, 5, 9)]
        chosen[tuple(places.index((slot, slot)) for slot in (1, 2))] += 1
    assert set(chosen) == {(a, b) for a in range(3) for b in range(3) if a != b}
    all_three = VideoClips([video_set(video)], WHOLE, objects=4).sample(0, 0, 1, 2)
    assert all_three.count == 3 and collate([all_three]).present.tolist() == [[1, 1, 1, 0]]


def test_an_empty_first_frame_is_drawn_again():
    half = video_set(Painted(1, length=20, empty=tuple(range(0, 20, 2))))
    counts = [VideoClips([half], WHOLE, seed=seed).sample(0, 0, 1, 2).count for seed in range(60)]
    assert sum(counts) >= 54  # one draw in 32 fails five times
    never = VideoClips([video_set(Painted(1, labels=()))], WHOLE, objects=2).sample(0, 0, 1, 2)
    assert never.count == 0 and not never.index_masks.any()
    assert collate([never]).present.tolist() == [[1, 0]]  # as one that is nowhere


def test_references():
    clips = VideoClips([video_set(Painted(1, length=8))], WHOLE, references=3)
    rows = clips.sample(0, 0, 1, 8, 1).references
    assert rows.shape == (8, 3) and not rows[:4].any() and (rows[4:, 1] > 0).all()
    assert not torch.equal(rows, clips.sample(1, 0, 1, 8, 1).references)
    assert clips.sample(0, 0, 1, 4, 1).references is None  # no frame has more than three before it


def test_fine_tuning_has_its_own_augmentation():
    clips = VideoClips([video_set(Painted(1))], WHOLE, fine_tune_augmentation=replace(WHOLE, size=8))
    assert clips.sample(0, 0, 1, 2, fine_tune=True).frames.shape[-1] == 8
    assert clips.sample(0, 0, 1, 2).frames.shape[-1] == 16
    assert VideoClips([video_set(Painted(1))], WHOLE).sample(0, 0, 1, 2, fine_tune=True).frames.shape[-1] == 16


# ------------------------------------------------------------------ the first stage


def test_stills_and_frames_of_videos():
    stills = video_set(Painted(1, length=1), Painted(2, length=1), kind="stills", repeat=2)
    clips = VideoClips([stills, video_set(Painted(3, length=4, labels=(1, 2)))], WHOLE, objects=1, stills=True)
    seen = Counter(visited(clips.sample(n, 0, 1, 3)) for n in range(8))
    assert seen == {(1, 0): 2, (2, 0): 2, (3, 0): 1, (3, 1): 1, (3, 2): 1, (3, 3): 1}
    clip = clips.sample(0, 0, 1, 3)
    assert clip.indices.tolist() == [0, 1, 2] and clip.count == 1 and clip.name.count(" ") == 1


def test_copies_are_warped_differently():
    one = SyntheticVideo(FIRST_TRAINING_SEED, "easy", 1, (40, 50))
    clip = VideoClips([video_set(one, kind="stills")], static_augmentation(24), stills=True).sample(0, 0, 1, 3)
    assert clip.frames.shape == (3, 3, 24, 24) and not torch.equal(clip.index_masks[0], clip.index_masks[1])
    assert set(clip.index_masks[0].unique().tolist()) == {0, 1}


def test_a_frame_without_object_is_exchanged():
    clips = VideoClips([video_set(Painted(1, length=4, empty=(0, 1)))], WHOLE, stills=True)
    shown = [visited(clips.sample(n, 0, 1, 2))[1] for n in range(40)]
    assert sum(t in (2, 3) for t in shown) >= 37  # one in 16 of the empty half stays empty


# ------------------------------------------------------------------ synthetic videos


def test_synthetic_videos(monkeypatch):
    made = synthetic_set(6, length=3, size=(24, 30), seed=2, objects=2)
    assert isinstance(made.videos[0], Video) and len(made.videos) == 6 and made.kind == "video"
    assert [video.seed for video in made.videos] == [FIRST_TRAINING_SEED + 12 + i for i in range(6)]
    assert [video.level for video in made.videos] == [LEVEL_MIX[i % 4] for i in range(6)]
    video = made.videos[1]
    assert video.name == f"synthetic {video.seed}" and len(video) == 3
    assert torch.equal(video.frame(2), video.clip.frames[2]) and set(video.mask(0).unique().tolist()) == {0, 1, 2}
    monkeypatch.setattr(video_clips, "KEPT_BYTES", 3 * 5 * 3 * 24 * 30)  # room for three
    assert video.clip is video.clip
    first = video.clip
    for other in made.videos[2:5]:
        assert other.clip.layers.shape == (3, 24, 30)
    assert len(video_clips._kept) == 3 and video.clip is not first and torch.equal(video.clip.frames, first.frames)


def test_videos_are_painted_ahead(monkeypatch):
    """All of them, or as many as are kept; other sets do not matter."""
    monkeypatch.setattr(video_clips, "_kept", {})
    made = synthetic_set(4, length=3, size=(24, 30), seed=3)
    data = VideoClips([video_set(Painted(1)), made], WHOLE)
    data.prepare()
    assert [recipe[0] for recipe in video_clips._kept] == [video.seed for video in made.videos]
    monkeypatch.setattr(video_clips, "_kept", {})
    monkeypatch.setattr(video_clips, "KEPT_BYTES", 2 * 5 * 3 * 24 * 30)
    data.prepare()
    assert [recipe[0] for recipe in video_clips._kept] == [video.seed for video in made.videos[:2]]


@pytest.mark.parametrize("name", ["video", "static"])
def test_exact_paths_survive_augmentation(name):
    """Corresponding visible points show the same thing: colour and label agree, there and back is the same place."""
    augmentation = video_augmentation(48) if name == "video" else replace(static_augmentation(48), bending=1.0)
    augmentation = replace(augmentation, clip_colours=Jitter(), frame_colours=Jitter(), grey=0.0)
    clips = VideoClips([synthetic_set(6, size=(64, 80), objects=2)], augmentation, objects=2, stills=name == "static")
    pixels = torch.stack(torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij"), dim=-1)
    far, close, labels, seen, bare = [], [], [], 0, 0
    for step in range(5):
        clip = clips.sample(step, 0, 1, 3, 2)
        for query, memory in ((2, 0), (0, 1)):
            places, visible = clip.correspondence(query, memory)
            assert places.shape == (48, 48, 2) and visible.dtype == torch.bool
            y, x = clip.source.warps[query].planes((48, 48))
            outside = (y < -0.5) | (y >= 63.5) | (x < -0.5) | (x >= 79.5)
            assert not visible[outside].any()  # what is no part of the picture shows nothing
            bare += int(outside.sum())
            there = places[visible]
            seen += len(there)
            assert (there >= -0.5).all() and (there < 47.5).all()
            grid = rearrange((there.flip(-1) + 0.5) * 2 / 48 - 1, "n xy -> 1 1 n xy")
            colour = F.grid_sample(clip.frames[memory][None], grid, padding_mode="border", align_corners=False)
            mine = clip.frames[query][:, visible]
            far.append((mine - mine[:, torch.randperm(len(there))]).abs().mean())
            close.append((mine - colour[0, :, 0]).abs().mean())
            near = there.round().long().clamp(0, 47)
            labels.append(
                (clip.index_masks[query][visible] == clip.index_masks[memory][near[:, 0], near[:, 1]]).float()
            )
            # Back again: the nearest pixel there leads to within the distance that rounding and turning can make.
            back, seen_back = clip.correspondence(memory, query)
            both = seen_back[near[:, 0], near[:, 1]]
            off = (back[near[:, 0], near[:, 1]] - pixels[visible]).norm(dim=-1)[both]
            assert (off < 2.5).float().mean() > 0.97
        here, shown = clip.correspondence(1, 1)
        assert (here - pixels)[shown].abs().max() < 2e-3
    assert seen > 5000 and bare > 0 and np.mean(close) < 0.35 * np.mean(far) and torch.cat(labels).mean() > 0.97


def test_files_have_no_exact_paths(tmp_path):
    clip = VideoClips([video_set(*open_davis(write_davis(tmp_path)))], video_augmentation(16)).sample(0, 0, 1, 2)
    with pytest.raises(InputError, match="comes from files, exact paths exist in synthetic clips only"):
        clip.correspondence(0, 1)
    synthetic = VideoClips([synthetic_set(1, size=(16, 16))], video_augmentation(16)).sample(0, 0, 1, 2)
    with pytest.raises(InputError, match="memory is frame 2, the clip has frames 0 to 1"):
        synthetic.correspondence(0, 2)


# ------------------------------------------------------------------ files, and what cannot be done


def test_davis(tmp_path):
    videos = open_davis(write_davis(tmp_path))
    clips = VideoClips([VideoSet("DAVIS", "video", tuple(videos), repeat=5)], video_augmentation(16), objects=2)
    batch = collate([clips.sample(3, position, 4, 3, 2) for position in range(4)])
    assert batch.frames.shape == (4, 3, 3, 16, 16) and batch.object_masks.shape == (4, 2, 3, 16, 16)
    assert len(clips.entries(3)) == 10 and len(clips.entries(6)) == 5
    assert set(Counter(name.split()[0] for name in batch.names)) <= {"pair", "single"}


def test_a_damaged_file_is_named(tmp_path):
    videos = open_davis(write_davis(tmp_path), sequences=["pair"])
    for path in videos[0].frame_paths:
        path.write_bytes(path.read_bytes()[:400])
    clips = VideoClips([video_set(*videos)], video_augmentation(16))
    with pytest.raises(InputError, match=r"cannot read frame .*pair.\d{5}.jpg"):
        clips.sample(0, 0, 1, 3)


def test_what_a_video_of_ones_own_may_do_wrong():
    class Gone(Painted):
        def mask(self, t):
            raise OSError("disk is away")

    class Small(Painted):
        def frame(self, t):
            return torch.zeros(3, 4, 3, dtype=torch.uint8)

    with pytest.raises(InputError, match=r"cannot read mask \d of painted1: disk is away"):
        VideoClips([video_set(Gone(1))], WHOLE).sample(0, 0, 1, 2)
    with pytest.raises(InputError, match=r"frame \d of painted2 is 3 x 4, the video is 16 x 16"):
        VideoClips([video_set(Small(2))], WHOLE).sample(0, 0, 1, 2)


@pytest.mark.parametrize(
    "sets, options, message",
    [
        ((), {}, "nothing to draw clips from: no set at all; expected at least one video"),
        (
            (video_set(Painted(1, length=1), kind="stills"),),
            {},
            r"nothing to draw clips from: made \(1 stills\); expected at least one video; stills are for the first stage",
        ),
        ((video_set(kind="stills"),), {"stills": True}, "expected at least one still or video"),
        ((video_set(Painted(1)),), {"rule": "jump"}, "rule is 'jump', known are walk, spread"),
        ((video_set(Painted(1)),), {"objects": 0}, "objects is 0 and references None, expected 1 or more"),
        ((video_set(Painted(1)),), {"references": 0}, "objects is 1 and references 0, expected 1 or more"),
    ],
)
def test_sets_and_options_that_are_refused(sets, options, message):
    with pytest.raises(InputError, match=message):
        VideoClips(sets, WHOLE, **options)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 0, 1, 7, 1), "clips of 7 frames were asked for, the longest video has 6"),
        ((0, 0, 1, 1, 1), "1 clips of 1 frames with gaps up to 1; expected 1 clip, 2 frames, a gap of 1, or more"),
        ((0, 2, 2, 3, 1), "clip 2 of a batch of 2 was asked for, expected 0 to 1"),
    ],
)
def test_clips_that_cannot_be_made(arguments, message):
    clips = VideoClips([video_set(Painted(1))], WHOLE)
    clips.check(batch=4, frames=6, max_gap=25)
    with pytest.raises(InputError, match=message):
        clips.sample(*arguments)


def test_no_synthetic_video_is_refused():
    with pytest.raises(InputError, match="0 synthetic videos were asked for, expected 1 or more"):
        synthetic_set(0)


def test_pasted_videos_are_planned_ahead(monkeypatch):
    """What chance decides about a pasted video costs looks at all its masks: once, before workers start."""
    made = pasted_set([Painted(1, size=(48, 48)), Painted(2, size=(48, 48))], 2, kind="pasted")
    assert not any("plan" in vars(video) for video in made.videos)
    monkeypatch.setattr(video_clips, "KEPT_BYTES", 0)  # no room for painted ones, which come first
    VideoClips([synthetic_set(2, length=3, size=(24, 30)), made], WHOLE).prepare()
    assert all("plan" in vars(video) for video in made.videos)
