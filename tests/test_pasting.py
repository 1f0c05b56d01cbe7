"""Pasted objects and look-alikes: videos that follow from a seed, edges without halo, masks that say who is in front."""

import pickle
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tmrn_edu.data.cutting import Followed, Pose, Spot, cut_out, find_spots, lay_over
from tmrn_edu.data.pasting import PastedVideo, pasted_set
from tmrn_edu.data.sets import Video, VideoSet
from tmrn_edu.errors import InputError

RED, GREEN, GREY = (200, 0, 0), (0, 150, 0), (90, 90, 0)


@dataclass(frozen=True)
class Box:
    """A video of a box of 12 x 14 pixels that moves to the right over an even ground; every object and ground has its own colour."""

    name: str = "box"
    length: int = 10
    size: tuple[int, int] = (48, 64)
    ground: tuple[int, int, int] = GREEN
    colour: tuple[int, int, int] = GREY
    label: int = 1
    empty: tuple[int, ...] = ()  # frames without the box
    void: bool = False  # the last rows are void

    def __len__(self):
        return self.length

    def frame(self, t):
        frame = torch.tensor(self.ground, dtype=torch.uint8).repeat(*self.size, 1)
        frame[self.mask(t) == self.label] = torch.tensor(self.colour, dtype=torch.uint8)
        return frame

    def mask(self, t):
        mask = torch.zeros(self.size, dtype=torch.uint8)
        if t not in self.empty:
            mask[16:28, 10 + t : 24 + t] = self.label
        if self.void:
            mask[-4:] = 255
        return mask


HOST, DONOR = Box("host"), Box("donor", 7, (40, 50), (0, 0, 255), RED)


def whole(video):
    return [(video.frame(t), video.mask(t)) for t in range(len(video))]


def same(one, other):
    return all(map(torch.equal, sum(whole(one), ()), sum(whole(other), ())))


def look_alikes(count=12, **options):
    return pasted_set([HOST], count, kind="look-alikes", **options).videos


# ------------------------------------------------------------------ cutting


def test_spots_by_hand():
    mask = torch.zeros(5, 7, dtype=torch.uint8)
    mask[1, 2], mask[1:4, 3], mask[4], mask[0, 0] = 3, 3, 255, 9
    assert find_spots(mask) == {3: Spot(4, (1, 2, 4, 4), (1.75, 2.75)), 9: Spot(1, (0, 0, 1, 1), (0.0, 0.0))}


def cut(scale, centre=(20.0, 30.0), mirrored=False, video=DONOR, size=(48, 64)):
    mask = video.mask(0)
    return cut_out(video.frame(0), mask, 1, find_spots(mask)[1], Pose(centre, scale, mirrored), size)


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_cut_out_lies_at_its_place(scale):
    patch = cut(scale)
    mask = torch.zeros(48, 64, dtype=torch.uint8)
    mask[patch.where] = patch.inside.to(torch.uint8)
    spot = find_spots(mask)[1]
    assert spot.centre == pytest.approx((20.0, 30.0), abs=0.5)
    assert spot.area == pytest.approx(scale**2 * 12 * 14, rel=0.15)


def test_cut_out_in_its_own_place_is_the_object():
    """Scale one, moved by nothing: all but the rim is the very picture."""
    patch = cut(1.0, (21.5, 16.5))
    mask = torch.zeros(48, 64, dtype=torch.bool)
    mask[patch.where] = patch.inside
    corners = [(16, 10), (16, 23), (27, 10), (27, 23)]  # round, after the edge was softened
    expected = DONOR.mask(0) == 1
    assert sorted((mask[:40, :50] != expected).nonzero().tolist()) == sorted(map(list, corners))
    assert (patch.alpha[patch.rows.stop - patch.rows.start >> 1] == 255).any()
    assert (patch.colours[patch.alpha > 0].float() - torch.tensor(RED).float()).abs().max() <= 1


def test_mirrored_cut_out_exchanges_left_and_right():
    frame, mask = DONOR.frame(0).clone(), DONOR.mask(0)
    frame[:, 10:17] = torch.tensor((0, 250, 0), dtype=torch.uint8)  # the left half of the box
    spot = find_spots(mask)[1]
    seen = [cut_out(frame, mask, 1, spot, Pose((20.0, 30.0), 1.0, turned), (48, 64)) for turned in (False, True)]
    assert torch.equal(seen[0].alpha, seen[1].alpha.flip(1))
    middle = [patch.colours[len(patch.alpha) // 2, patch.alpha.shape[1] // 4] for patch in seen]
    assert middle[0][1] > 240 and middle[1][0] > 190


def test_nothing_of_it_inside_the_picture():
    assert cut(1.0, (20.0, 90.0)) is None and cut(1.0, (-40.0, 30.0)) is None


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_opacity_alone_is_the_same(scale):
    mask, spot, pose = DONOR.mask(2), find_spots(DONOR.mask(2))[1], Pose((20.3, 31.8), scale, True)
    with_colours, alone = (cut_out(frame, mask, 1, spot, pose, (48, 64)) for frame in (DONOR.frame(2), None))
    assert torch.equal(with_colours.alpha, alone.alpha) and alone.colours is None and alone.where == with_colours.where


def test_thin_objects_keep_their_colours():
    mask = torch.zeros(20, 20, dtype=torch.uint8)
    mask[5:15, 8:10] = 1  # no pixel has all its neighbours in it
    frame = torch.full((20, 20, 3), 255, dtype=torch.uint8)
    frame[mask == 1] = torch.tensor((10, 60, 110), dtype=torch.uint8)
    patch = cut_out(frame, mask, 1, find_spots(mask)[1], Pose((9.5, 8.5), 1.0, False), (20, 20))
    assert patch.inside.sum() >= 16
    assert (patch.colours[patch.inside].float() - torch.tensor([10.0, 60.0, 110.0])).abs().max() <= 1


def test_laying_over_by_hand():
    picture = HOST.frame(0)
    patch = cut(1.0)
    out = lay_over(picture, patch, gain=(1.25, 1.0, 1.0))
    share = (patch.alpha.float() / 255)[..., None]
    expected = (1 - share) * picture[patch.where] + share * torch.tensor((250.0, 0.0, 0.0))
    assert (out[patch.where] - expected).abs().max() <= 1.3  # rounded twice
    assert torch.equal(picture, HOST.frame(0))  # not written into
    out[patch.where] = picture[patch.where]
    assert torch.equal(out, picture)
    everything = torch.ones(48, 64, dtype=torch.uint8)
    assert torch.equal(lay_over(picture, patch, hidden=everything), picture)


# ------------------------------------------------------------------ made videos


@pytest.mark.parametrize("kind", ["pasted", "look-alikes"])
def test_a_made_video_follows_from_its_seed(kind):
    made = pasted_set([HOST, DONOR], 6, seed=3, kind=kind)
    assert (made.name, made.kind, made.frame_step) == (kind, "video", 1)
    again, other = (pasted_set([HOST, DONOR], 6, seed=seed, kind=kind) for seed in (3, 4))
    assert all(map(same, made.videos, again.videos))
    assert len({video.name for video in made.videos + other.videos}) == 12
    video = made.videos[0]
    assert isinstance(video, Video) and same(video, pickle.loads(pickle.dumps(video)))
    frame, mask = video.frame(1), video.mask(1)
    assert frame.shape == (*video.size, 3) and mask.shape == video.size and frame.dtype == mask.dtype == torch.uint8


def test_global_random_state_is_not_used():
    np.random.seed(1)
    torch.manual_seed(1)
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    whole(look_alikes(1)[0])
    assert (np.random.get_state()[1] == state[0]).all() and torch.equal(torch.get_rng_state(), state[1])


def test_hosts_take_turns_and_donors_are_others():
    videos = [Box(f"box{i}") for i in range(5)]
    made = pasted_set([VideoSet("some", "video", tuple(videos[:3])), *videos[3:]], 23).videos
    used = Counter(video.host.video.name for video in made)
    assert len(used) == 5 and set(used.values()) == {4, 5}
    assert all(video.donor is not video.host for video in made)
    assert len({(video.host.video.name, video.donor.video.name) for video in made}) > 10
    assert all(video.donor is video.host for video in look_alikes(3))


def test_pasted_objects_are_labelled_without_halo():
    """The donor's ground is the only blue thing here; the object's red is found inside its label, and not outside."""
    for video in pasted_set([HOST, DONOR], 20, seed=1).videos:
        if video.host.video is not HOST:
            continue
        gain = np.array(video.plan.gain)
        assert ((gain > 0.7) & (gain < 1.4)).all() and video.plan.label == 2
        for t in range(len(video)):
            frame, mask = video.frame(t), video.mask(t)
            host = HOST.mask(t)
            assert not frame[..., 2].any()
            assert torch.equal(mask == 2, mask != host)  # all else is as in the host
            red = frame[..., 0] - torch.where(host == 1, 90, 0)
            bright = min(255, RED[0] * gain[0])
            assert bool((red[mask == 2] > 0.35 * (bright - 90)).all())
            assert not red[(host == 0) & (mask == 0)].max() > 0.51 * bright + 1


def test_sizes_paths_and_first_frames():
    for kind in ("pasted", "look-alikes"):
        for video in pasted_set([HOST, DONOR, Box("third", 12)], 30, kind=kind, labelled=True).videos:
            masks = [video.mask(t) for t in range(len(video))]
            host = video.host.video.mask(video.plan.start)
            assert (masks[0] == 1).sum() >= 0.6 * (host == 1).sum()
            assert (masks[0] == 2).any() and np.mean([(mask == 2).any().item() for mask in masks]) >= 0.5
            if kind == "pasted":
                assert 0.012 < np.median([(mask == 2).float().mean() for mask in masks]) < 0.18


def test_length_is_a_stretch_of_the_host():
    made = pasted_set([HOST, DONOR], 16, length=4).videos
    assert {len(video) for video in made} == {4}
    assert {len(video) for video in pasted_set([HOST, DONOR], 4, length=9).videos} == {9, 7}
    starts = {video.plan.start for video in made if video.host.video is HOST}
    assert len(starts) > 2 and max(starts) <= 6
    video = next(video for video in made if video.host.video is HOST and video.plan.start)
    untouched = (video.mask(2) != 2) & (video.patch(2) is not None)
    assert torch.equal(video.mask(2)[untouched], HOST.mask(video.plan.start + 2)[untouched])


def test_look_alikes_cross_the_target_in_front_or_behind():
    made = look_alikes(24)
    assert 4 < sum(video.plan.behind for video in made) < 20
    hidden = []
    for video in made:
        found = whole(video)
        assert all(set(mask.unique().tolist()) <= {0, 1} for _, mask in found) and video.plan.label == 0
        apart = [np.hypot(*np.subtract(video.plan.pose(t).centre, (21.5, 16.5 + t))) for t in range(len(video))]
        assert min(apart) < 6  # the box is 12 x 14
        hidden.append([1 - (mask == 1).sum().item() / 168 for _, mask in found])
        if video.plan.behind:
            assert all(torch.equal(mask, HOST.mask(t)) for t, (_, mask) in enumerate(found))
            inside = torch.zeros(48, 64, dtype=torch.bool)
            inside[18:26, 13:21] = True  # of the target in frame 0
            assert (found[0][0][inside] == torch.tensor(GREY)).all()
    front = [max(share) for share, video in zip(hidden, made, strict=True) if not video.plan.behind]
    assert np.mean(front) > 0.4 and max(share[0] for share in hidden) <= 0.4


def test_labelled_look_alikes_are_a_further_object():
    for video in look_alikes(12, labelled=True):
        for t in range(len(video)):
            mask, host = video.mask(t), HOST.mask(t)
            if video.plan.behind:
                assert torch.equal(mask == 1, host == 1)
            assert set(mask.unique().tolist()) <= {0, 1, 2}


def test_a_look_alike_shows_another_moment():
    """The box of frame t is coloured by t: the copy has other colours than the target beside it."""

    class Coloured(Box):
        def frame(self, t):
            frame = super().frame(t)
            frame[self.mask(t) == 1] = torch.tensor((8 * t, 8 * t, 0), dtype=torch.uint8)
            return frame

    host = Coloured("coloured", length=24)
    moments = [video.plan.moments for video in pasted_set([host], 12, kind="look-alikes").videos]
    assert all(np.mean([moment != t for t, moment in enumerate(one)]) > 0.8 for one in moments)
    assert all(abs(a - b) <= 1 for one in moments for a, b in zip(one[:-1], one[1:], strict=True))


def test_frames_without_an_object():
    donor = Box("donor", 8, (40, 50), (0, 0, 255), RED, empty=(2, 3))
    late = Box("late", 10, empty=(0, 1, 2, 3, 4))
    for video in pasted_set([late, donor], 12, length=5).videos:
        source = video.host.video
        for t in range(len(video)):
            given = source.frame(video.plan.start + t), source.mask(video.plan.start + t)
            if video.plan.moments[t] in video.donor.video.empty:
                assert torch.equal(video.frame(t), given[0]) and torch.equal(video.mask(t), given[1])
                assert video.patch(t) is None
        if source is late:
            assert (video.mask(0) == 1).any()  # a stretch that shows the host's object from its first frame
    never = Box("never", 4, empty=(0, 2))  # a copy that is never seen beside the target still makes a video
    assert all(len(whole(video)) == 4 for video in pasted_set([never], 6, kind="look-alikes").videos)


def test_void_and_further_ids():
    host = Box("host", label=5, void=True)
    for video in pasted_set([host, DONOR], 12).videos:
        if video.host.video is host:
            masks = torch.stack([video.mask(t) for t in range(len(video))])
            assert video.plan.label == 6 and set(masks.unique().tolist()) == {0, 5, 6, 255}
        else:
            assert video.plan.source == 5 and video.plan.label == 2


def test_frame_step_moves_further():
    slow, fast = (PastedVideo(Followed(HOST), Followed(DONOR), 3, "pasted", 6, True, step) for step in (1, 5))
    plan = slow.plan
    mask = torch.zeros(48, 64, dtype=torch.uint8)
    patch = fast.patch(1)
    mask[patch.where] = patch.inside.to(torch.uint8)
    assert fast.plan.path == plan.path  # no chance in it but the seed, and both fit
    assert find_spots(mask)[1].centre == pytest.approx(fast.plan.pose(5).centre, abs=0.6)
    assert pasted_set([VideoSet("ytv", "video", (HOST, DONOR), frame_step=5)], 2).frame_step == 5


def refuses(message, *arguments, **options):
    with pytest.raises(InputError, match=message):
        pasted_set(*arguments, **options)


def test_errors_name_both_sides():
    refuses("kind is 'zebras', expected pasted or look-alikes", [HOST, DONOR], 3, kind="zebras")
    refuses("seed is -1, expected 0 or more", [HOST, DONOR], 3, seed=-1)
    refuses("0 videos of None frames were asked for, expected 1 or more of each", [HOST, DONOR], 0)
    refuses("3 videos of 0 frames were asked for", [HOST, DONOR], 3, length=0)
    refuses("1 videos were given, pasted needs 2 or more", [HOST], 3)
    refuses("0 videos were given, look-alikes needs 1 or more", [], 3, kind="look-alikes")
    sets = [VideoSet("a", "video", (HOST,)), VideoSet("b", "video", (DONOR,), frame_step=5)]
    refuses(r"sets that list every \[1, 5\]-th frame were given, expected one step for all", sets, 3)
    bare = Box("bare", 2, void=True, empty=(0, 1))
    refuses("bare: its 2 masks hold background and void only; expected an object", [HOST, bare], 4)
    full = pasted_set([Box("full", label=254), DONOR], 4).videos
    with pytest.raises(InputError, match="full has object id 254; a pasted object needs one more, up to 254"):
        [video.plan for video in full]
