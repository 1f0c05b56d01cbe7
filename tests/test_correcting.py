"""Sessions: a corrected video is what a run with all masks from the start gives, to the bit, whatever was done before."""

import pytest
import torch
from einops import rearrange
from PIL import Image

from tmrn_edu.correcting import VideoSession
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.data.video import read_mask, write_mask
from tmrn_edu.errors import InputError
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks import STCN, STM, XMem
from tmrn_edu.segment_video import segment_video
from tmrn_edu.segmenter import Segmenter, segment
from tmrn_edu.snapshots import SETTINGS, Snapshot, bytes_held

H, W, T = 32, 48, 14


def network(kind=STCN, reader=SpaceTimeReader):
    torch.manual_seed(3)
    return kind.tiny(reader()).eval()


@pytest.fixture(scope="module")
def stcn():
    return network()


@pytest.fixture(scope="module")
def video():
    return make_clip(7, frames=T, size=(H, W))


@pytest.fixture(scope="module")
def late(video):
    """The true mask of frame 9 with a new object in it."""
    mask = video.index_masks[9].clone()
    mask[2:9, 30:44] = 8
    return mask


@pytest.mark.parametrize("kind, reader", [
    (STCN, SpaceTimeReader), (STCN, lambda: TrajectoryReader.chained(32, 64)), (STM, SpaceTimeReader), (XMem, SpaceTimeReader)
])  # fmt: skip
def test_a_correction_equals_a_run_with_both_masks(kind, reader, video, late):
    """STM reads the frame before, XMem has a sensory memory, and an object enters late."""
    net = network(kind, reader)
    first = {0: video.index_masks[0]}
    session = VideoSession(video.frames, first, net, memory_every=3, max_frames=3).run()
    alone = segment(net, video.frames, first, memory_every=3, max_frames=3)
    assert torch.equal(session.masks, alone.index_masks) and session.done == T
    both = segment(net, video.frames, first | {9: late}, memory_every=3, max_frames=3)
    session.correct(9, late)
    assert torch.equal(session.masks, both.index_masks) and session.object_ids == both.object_ids
    assert torch.equal(session.masks[:9], alone.index_masks[:9])
    for t in (4, 9, 13):
        labels = session.probabilities(t)
        assert torch.equal(labels, both.probabilities[t, : len(labels)])
    again = segment(net, video.frames, first | {5: video.index_masks[5], 9: late}, memory_every=3, max_frames=3)
    assert torch.equal(session.correct(5, video.index_masks[5]).masks, again.index_masks)
    assert torch.equal(session.forget(9).forget(5).masks, alone.index_masks) and session.object_ids == alone.object_ids


def test_only_what_follows_is_segmented_again(stcn, video, monkeypatch):
    session = VideoSession(video.frames, {0: video.index_masks[0]}, stcn).run()
    steps, step = [], Segmenter.step

    def counted(self, frame, index_mask=None):
        steps.append(self.index + 1)
        return step(self, frame, index_mask)

    monkeypatch.setattr(Segmenter, "step", counted)
    session.correct(12, video.index_masks[12])
    assert steps == [10, 11, 12, 13]  # a snapshot every five frames
    steps.clear()
    session.correct(12, video.index_masks[11])  # the same one again: there is a snapshot right before it
    assert steps == [12, 13]


def test_in_pieces(stcn, video):
    """Up to a frame, corrected there, and on; with no mask at first."""
    session = VideoSession(video.frames, network=stcn)
    with pytest.raises(InputError, match="no mask was given"):
        session.run()
    assert session.masks.shape == (0, H, W) and len(session) == T
    session.correct(0, video.index_masks[0])
    assert session.done == 1
    session.run(until=6).run(until=3)
    assert session.done == 6 and repr(session) == "VideoSession(6 of 14 frames segmented, masks given for 0)"
    session.correct(8, video.index_masks[8])
    assert session.done == 9
    whole = segment(stcn, video.frames, {0: video.index_masks[0], 8: video.index_masks[8]})
    assert torch.equal(session.run().masks, whole.index_masks)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_few_snapshots_do_as_well(stcn, video, most):
    first = {0: video.index_masks[0]}
    session = VideoSession(video.frames, first, stcn, snapshots=most, memory_every=1).run()
    assert 1 <= len(session._snapshots) <= most and 0 in session._snapshots
    session.correct(7, video.index_masks[7])
    assert len(session._snapshots) <= most
    both = segment(stcn, video.frames, first | {7: video.index_masks[7]}, memory_every=1)
    assert torch.equal(session.masks, both.index_masks)


def test_memory_does_not_grow_with_the_video(stcn):
    """Of a bounded memory, what snapshots hold stays under their number times the bound, however long the video."""
    frames = torch.randint(0, 256, (20, 16, 16, 3), dtype=torch.uint8, generator=torch.manual_seed(0)).repeat(
        12, 1, 1, 1
    )
    mask = torch.zeros(16, 16, dtype=torch.uint8)
    mask[4:12, 4:12] = 1
    session = VideoSession(frames, {0: mask}, stcn, snapshots=4, memory_every=2, max_frames=3)
    one = Segmenter(stcn)
    one.step(frames[0], mask)
    frame_bytes = bytes_held([Snapshot.of(one)])
    held = []
    for until in (60, 120, 240):
        held.append(session.run(until).snapshot_bytes)
    assert frame_bytes > 0 and max(held) <= (4 + 1) * 3 * frame_bytes
    assert len(session._snapshots) <= 4


def test_a_snapshot_holds_all_that_reset_sets(stcn):
    segmenter = Segmenter(stcn)
    fresh = Segmenter.__new__(Segmenter)
    fresh.reset()
    assert set(Snapshot.of(segmenter).state) == set(vars(fresh)) and not set(vars(fresh)) & set(SETTINGS)
    assert set(vars(segmenter)) == set(vars(fresh)) | set(SETTINGS)


def test_interrupted_in_a_correction(stcn, video, monkeypatch):
    """Ctrl-C loses no more than what was to be segmented again; the next run goes on from there."""
    session = VideoSession(video.frames, {0: video.index_masks[0]}, stcn).run()
    step = Segmenter.step

    def stopped(self, frame, index_mask=None):
        if self.index + 1 == 11:
            raise KeyboardInterrupt
        return step(self, frame, index_mask)

    with monkeypatch.context() as patch:
        patch.setattr(Segmenter, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            session.correct(10, video.index_masks[10])
    assert session.done == 11
    both = segment(stcn, video.frames, {0: video.index_masks[0], 10: video.index_masks[10]})
    assert torch.equal(session.run().masks, both.index_masks)


@pytest.mark.parametrize("where", ["_segment", "_answer"])  # before anything is remembered of the frame, and after
@pytest.mark.parametrize("kind", [STCN, XMem])
def test_interrupted_inside_a_step(kind, where, video, monkeypatch):
    """The frame whose step was broken off is segmented as if for the first time, whether it joins the memory or not."""
    net, first = network(kind), {0: video.index_masks[0], 7: video.index_masks[7]}
    session, inside = VideoSession(video.frames, first, net, memory_every=3), getattr(Segmenter, where)

    def stopped(self, *arguments):
        inside(self, *arguments)
        raise KeyboardInterrupt

    for t in (0, 2, 3, 7, 8):
        session.run(until=t)
        with monkeypatch.context() as patch:
            patch.setattr(Segmenter, where, stopped)
            with pytest.raises(KeyboardInterrupt):
                session.run()
        assert session.done == t
    assert torch.equal(session.run().masks, segment(net, video.frames, first, memory_every=3).index_masks)


def test_many_corrections_keep_few_snapshots(stcn, video):
    """Snapshots farther apart than the video is long: those of earlier corrections go."""
    masks = {0: video.index_masks[0]}
    session = VideoSession(video.frames, masks, stcn, snapshots=3).run()
    for t in (2, 4, 7, 9, 11, 12):
        masks[t] = video.index_masks[t]
        session.correct(t, masks[t])
        assert len(session._snapshots) <= 3 and {0, t} <= set(session._snapshots)
    assert session._apart >= 2 * T
    assert torch.equal(session.masks, segment(stcn, video.frames, masks).index_masks)


@pytest.fixture
def folder(video, tmp_path):
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(video.frames):
        Image.fromarray(frame.numpy()).save(tmp_path / "frames" / f"{t:03d}.png")
    write_mask(tmp_path / "first.png", video.index_masks[0], bytes([7, 7, 7]) + bytes(range(30)))
    return tmp_path


def test_files_in_and_out(stcn, video, folder):
    """A session over a folder writes what `segment_video` writes; cut-outs too."""
    session = VideoSession(folder / "frames", {0: folder / "first.png"}, stcn)
    session.correct(9, video.index_masks[9])
    masks = {0: folder / "first.png", 9: video.index_masks[9]}
    segment_video(stcn, folder / "frames", masks, folder / "a", with_overlay=False, cutouts=True)
    assert session.write(folder / "b", with_overlay=False, cutouts=True) == folder / "b"
    names = sorted(path.relative_to(folder / "a") for path in (folder / "a").rglob("*.png"))
    assert len(names) == 2 * T and names == sorted(
        path.relative_to(folder / "b") for path in (folder / "b").rglob("*.png")
    )
    assert all((folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes() for name in names)
    session.write(folder / "c", with_overlay=False)
    assert [path.name for path in (folder / "c").iterdir()] == ["masks"]
    assert read_mask(folder / "c" / "masks" / "00009.png", empty_ok=True).palette[:3] == bytes([7, 7, 7])
    assert torch.equal(session.frame(5), video.frames[5])


def test_float_frames(stcn, video, tmp_path):
    floats = rearrange(video.frames, "t H W c -> t c H W") / 255
    session = VideoSession(list(floats), {0: video.index_masks[0]}, stcn)
    assert torch.equal(session.run().masks, segment(stcn, video.frames, {0: video.index_masks[0]}).index_masks)
    session.write(tmp_path / "out", with_overlay=False, cutouts=True)


def test_draw(stcn, video):
    session = VideoSession(video.frames, {2: video.index_masks[2]}, stcn)
    assert not session.draw(0).mask.any() and torch.equal(session.draw(2).mask, video.index_masks[2])
    view = session.run().draw(5, object=2)
    assert torch.equal(view.mask, session.mask(5)) and view.object == 2 and view.about["frame"] == 5
    view.polygons = {2: [(3, 3), (20, 4), (9, 20)], 0: [(30, 0), (W, 0), (W, H), (30, H)]}
    session.correct(5, view.mask)
    assert torch.equal(session.mask(5), view.mask) and session.mask(5)[4, 5] == 2 and not session.mask(5)[:, 30:].any()


def test_refusals(stcn, video, folder):
    first = {0: video.index_masks[0]}
    cases = [
        (lambda: VideoSession(video.frames, {T: video.index_masks[0]}, stcn), "for frame 14, the video has frames 0 to 13"),
        (lambda: VideoSession(video.frames, {0: video.index_masks[0][:9]}, stcn), r"mask of frame 0 has shape \(9, 48\)"),
        (lambda: VideoSession(video.frames, first, stcn, snapshots=0), "snapshots are 0, expected at least 1"),
        (lambda: VideoSession(7, first, stcn), "frames are a int, expected pictures"),
        (lambda: VideoSession(video.frames[0], first, stcn), r"frames have shape \(32, 48, 3\), expected"),
        (lambda: VideoSession(folder / "nowhere.mp4", first, stcn), "no video at"),
        (lambda: VideoSession(folder / "frames", {0: folder / "frames" / "003.png"}, stcn), "lies among the 14 frames"),
        (lambda: VideoSession(video.frames, first, "stcn-huge"), "no network is called"),
    ]  # fmt: skip
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
    session = VideoSession(video.frames, first, stcn).run(until=4)
    cases = [
        (lambda: session.mask(4), "mask of frame 4 was asked for, 4 of 14 frames are segmented"),
        (lambda: session.probabilities(9), "mask of frame 9"),
        (lambda: session.frame(14), "frame 14 was asked for, the video has frames 0 to 13"),
        (lambda: session.correct(3, 0 * video.index_masks[0]), "holds no object"),
        (lambda: session.correct(-1, video.index_masks[0]), "frame -1 was asked for"),
        (lambda: session.forget(3), r"frame 3 cannot be forgotten: masks were given for \[0\]"),
        (lambda: session.write(folder / "out", cutouts=[99]), "object 99 was asked for, the masks hold"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
    assert session.given.keys() == {0} and not (folder / "out").exists()
