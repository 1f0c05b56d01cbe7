"""Segmenting videos: stepwise and in clips, objects that come and are corrected, odd sizes, bad input."""

import numpy as np
import pytest
import torch
from einops import rearrange

from tmrn_edu import __main__
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.inference import memorize_frame, roll_out, segment_frame
from tmrn_edu.looking import look
from tmrn_edu.masks import index_to_object_masks, soft_aggregation
from tmrn_edu.memory import SpaceTimeReader, TrajectoryReader
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.segmenter import Segmenter, segment
from tmrn_edu.weights import DEFAULT_NETWORK, load

READERS = (SpaceTimeReader, lambda: TrajectoryReader.paper(32, 64), lambda: TrajectoryReader.chained(32, 64))


def network(reader=SpaceTimeReader):
    torch.manual_seed(3)
    made = STCN.tiny(reader())
    for name, parameter in made.reader.named_parameters():
        if parameter.numel() == 1 and "log_tau" not in name:
            torch.nn.init.constant_(parameter, 0.2)  # corrections, age and chaining at work
    return made.eval()


@pytest.fixture(scope="module")
def stcn():
    return network()


@pytest.fixture(scope="module")
def video():
    return make_clip(7, frames=6, size=(32, 48))


def bars(*labels, size=(32, 48)):
    """An index mask with one vertical bar for each label."""
    mask = torch.zeros(size, dtype=torch.uint8)
    width = size[1] // (2 * len(labels))
    for i, label in enumerate(labels):
        mask[size[0] // 4 : -size[0] // 4, 2 * i * width : (2 * i + 1) * width] = label
    return mask


def stored(segmenter, group=0):
    return [frame.index for frame in segmenter.groups[group].memory.frames]


# ------------------------------------------------------------------ one path


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("training", [True, False])
def test_clips_equal_stepwise_inference(reader, training):
    net = network(reader)
    clips = [make_clip(seed, frames=4, size=(32, 48)) for seed in (7, 8)]
    frames = rearrange([clip.frames for clip in clips], "b t H W c -> b t c H W").float() / 255
    given = torch.stack([bars(1, 2), bars(2, 1)])
    masks = index_to_object_masks(given, (1, 2))
    results = roll_out(net.train(training), frames, masks)
    for b, clip in enumerate(clips):
        single = roll_out(net.train(training), frames[b : b + 1], masks[b : b + 1])
        segmenter = Segmenter(net, memory_every=1)
        segmenter.step(clip.frames[0], given[b])
        for t, result in enumerate(results, start=1):
            step = segmenter.step(clip.frames[t])
            # batches may sum in another order, hence the tolerances: probabilities to 1e-4
            torch.testing.assert_close(result.logits[b], single[t - 1].logits[0], rtol=1e-3, atol=1e-3)
            torch.testing.assert_close(step.probabilities, result.probabilities[b], rtol=1e-3, atol=1e-4)


def test_clean_memories_and_frame_numbers(stcn, video):
    frames = rearrange(video.frames, "t H W c -> 1 t c H W").float() / 255
    masks = rearrange(index_to_object_masks(video.index_masks, (1,)), "t o H W -> 1 o t H W")
    with torch.inference_mode():
        clean = roll_out(stcn, frames, masks[:, :, 0], memory_masks=masks)
        memory = [memorize_frame(stcn, frames[:, t], masks[:, :, t], t, exact=True) for t in range(5)]
        expected = segment_frame(stcn, frames[:, 5], [memory], 5)
        torch.testing.assert_close(clean[-1].logits, expected.logits)
        chained = network(READERS[2])
        near, far = (
            roll_out(chained, frames[:, :3], masks[:, :, 0], indices)[-1].logits for indices in ((0, 1, 2), (0, 5, 30))
        )
        assert (near - far).abs().max() > 1e-5


def test_probabilities_of_many_objects_are_aggregated_once(stcn, video):
    """What comes out is what the network said: probabilities over labels, not aggregated a second time."""
    frames = rearrange(video.frames[:2], "t H W c -> 1 t c H W").float() / 255
    masks = index_to_object_masks(bars(1, 2, 3), (1, 2, 3)).unsqueeze(0)
    expected = roll_out(stcn, frames, masks)[0].probabilities[0]
    found = segment(stcn, video.frames[:2], {0: bars(1, 2, 3)})
    torch.testing.assert_close(found.probabilities[1], expected.detach())
    assert torch.equal(found.index_masks[1], expected.argmax(0).to(torch.uint8))


# ------------------------------------------------------------------ what comes out


@pytest.mark.parametrize("size", [(1, 1), (35, 51), (16, 200)])
@pytest.mark.parametrize("reader", READERS)
def test_odd_sizes(size, reader):
    frames = torch.randint(0, 256, (3, *size, 3), dtype=torch.uint8)
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[: size[0] // 2 + 1, : size[1] // 2 + 1] = 9
    result = segment(network(reader), frames, {0: mask})
    assert result.index_masks.shape == (3, *size) and result.index_masks.dtype == torch.uint8
    assert result.probabilities.shape == (3, 2, *size) and torch.isfinite(result.probabilities).all()
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(3, *size))
    assert torch.equal(result.index_masks[0], mask) and set(result.index_masks.unique().tolist()) <= {0, 9}


def test_large_frames_are_shrunk(stcn):
    frames = torch.randint(0, 256, (2, 1080, 1920, 3), dtype=torch.uint8)
    mask = bars(200, size=(1080, 1920))
    result = segment(stcn, frames, {0: mask}, short_side=32)
    assert result.index_masks.shape == (2, 1080, 1920) and torch.equal(result.index_masks[0], mask)
    segmenter = Segmenter(stcn, short_side=32)
    segmenter.step(frames[0], mask)
    assert segmenter.groups[0].memory.frames[0].key.shape[-2:] == (8, 16)  # 32 x 57 padded to 32 x 64, cells of 4
    assert Segmenter(stcn).short_side == 128 and Segmenter(stcn, short_side=0).short_side == 0


def test_ways_to_give_the_same_video(stcn, video):
    mask = video.index_masks[0]
    plain = segment(stcn, video.frames, {0: mask})
    floats = segment(stcn, rearrange(video.frames, "t H W c -> t c H W").float() / 255, {0: mask.long()})
    doubles = segment(
        stcn, rearrange(video.frames, "t H W c -> t c H W").numpy() / 255, {0: mask.numpy().astype(np.uint16)}
    )
    listed = segment(stcn, [frame.numpy() for frame in video.frames], {np.int64(0): mask.int()})
    for other in (floats, doubles, listed):
        assert torch.equal(other.index_masks, plain.index_masks)
        torch.testing.assert_close(other.probabilities, plain.probabilities, rtol=0, atol=1e-5)
    bare = segment(stcn, video.frames, {0: mask}, keep_probabilities=False)
    assert bare.probabilities is None and torch.equal(bare.index_masks, plain.index_masks)


def test_one_frame(stcn, video):
    result = segment(stcn, video.frames[:1], {0: bars(3, 200)})
    assert torch.equal(result.index_masks[0], bars(3, 200)) and result.object_ids == (3, 200)


def test_object_ids_are_kept(stcn, video):
    result = segment(stcn, video.frames, {0: bars(200, 3)})
    assert result.object_ids == (3, 200)
    assert set(result.index_masks.unique().tolist()) <= {0, 3, 200}
    renamed = segment(stcn, video.frames, {0: bars(2, 1)})
    torch.testing.assert_close(renamed.probabilities, result.probabilities)  # names change nothing else


def test_void_is_background(stcn, video):
    mask = bars(1)
    mask[0] = 255
    result = segment(stcn, video.frames[:2], {0: mask})
    assert torch.equal(result.index_masks[0], bars(1)) and result.object_ids == (1,)


# ------------------------------------------------------------------ the memory


def test_memory_every(stcn, video):
    segmenter = Segmenter(stcn, memory_every=2)
    segmenter.step(video.frames[0], bars(1))
    for frame in video.frames[1:]:
        segmenter.step(frame)
    assert stored(segmenter) == [0, 2, 4]
    assert [frame.exact for frame in segmenter.groups[0].memory.frames] == [True, False, False]


def test_max_frames_bounds_the_memory(stcn, video):
    segmenter = Segmenter(stcn, memory_every=1, max_frames=3)
    segmenter.step(video.frames[0], bars(1))
    counts = []
    for t in range(1, 12):
        segmenter.step(video.frames[t % 6], bars(1) if t == 4 else None)
        counts.append(len(segmenter.groups[0].memory))
    assert max(counts) == 3 and stored(segmenter) == [0, 4, 11]


def test_late_objects(stcn, video):
    late = bars(0, 7)
    result = segment(stcn, video.frames, {1: bars(3), 3: late}, memory_every=2)
    assert result.object_ids == (3, 7)
    assert result.index_masks[0].max() == 0 and torch.equal(result.index_masks[1], bars(3))
    assert (result.index_masks[:3] != 7).all() and (result.index_masks[3][late == 7] == 7).all()
    torch.testing.assert_close(result.probabilities.sum(1), torch.ones(6, 32, 48))
    assert result.probabilities[:3, 2].abs().max() == 0 and result.probabilities[0, 1].abs().max() == 0
    alone = segment(stcn, video.frames[:3], {1: bars(3)}, memory_every=2)
    assert torch.equal(alone.index_masks, result.index_masks[:3])  # nothing is known of what comes later

    segmenter = Segmenter(stcn, memory_every=2)
    for t, frame in enumerate(video.frames):
        segmenter.step(frame, {1: bars(3), 3: late}.get(t))
    assert stored(segmenter, 0) == [1, 3, 5] and stored(segmenter, 1) == [3, 5]
    # frame 3 was given for object 7; of object 3 it is a prediction
    assert [[f.exact for f in group.memory.frames] for group in segmenter.groups] == [
        [True, False, False],
        [True, False],
    ]


def test_late_objects_take_their_pixels(stcn, video):
    """A given mask wins over predictions, in the memory too; elsewhere other objects stay as they were."""
    segmenter = Segmenter(stcn, memory_every=1)
    segmenter.step(video.frames[0], bars(1))
    before = Segmenter(stcn, memory_every=1)
    before.step(video.frames[0], bars(1))
    predicted = before.step(video.frames[1])
    given = bars(2)
    result = segmenter.step(video.frames[1], given)
    assert (result.index_mask[given == 2] == 2).all()
    elsewhere = given == 0
    assert torch.equal(result.index_mask[elsewhere], predicted.index_mask[elsewhere])
    # as STCN's and XMem's authors do, all objects of a frame with a given mask go through the soft aggregation (again)
    again = soft_aggregation(torch.stack([predicted.probabilities[1], torch.zeros(32, 48)])[None])[0]
    torch.testing.assert_close(result.probabilities[1][elsewhere], again[1][elsewhere])
    assert (result.probabilities[1][~elsewhere] < 1e-6).all() and (result.probabilities[2][~elsewhere] > 1 - 1e-6).all()
    torch.testing.assert_close(result.probabilities.sum(0), torch.ones(32, 48))


def test_corrections(stcn, video):
    """A second mask of a known object replaces its prediction and joins the memory at once."""
    segmenter = Segmenter(stcn, memory_every=100)
    segmenter.step(video.frames[0], bars(1, 2))
    free = segmenter.step(video.frames[1])
    correction = bars(0, 1)
    result = segmenter.step(video.frames[2], correction)
    assert result.object_ids == free.object_ids == (1, 2)
    assert torch.equal(result.index_mask == 1, correction == 1)
    assert stored(segmenter) == [0, 2] and segmenter.groups[0].memory.frames[1].exact
    torch.testing.assert_close(result.probabilities.sum(0), torch.ones(32, 48))


def test_given_masks_survive_shrinking(stcn):
    frames = torch.randint(0, 256, (3, 64, 96, 3), dtype=torch.uint8)
    thin = torch.zeros(64, 96, dtype=torch.uint8)
    thin[10, 5:80] = 4
    result = segment(stcn, frames, {0: thin, 2: thin}, short_side=32)
    assert torch.equal(result.index_masks[0], thin) and torch.equal(result.index_masks[2], thin)


# ------------------------------------------------------------------ looking


@pytest.mark.parametrize("reader", READERS)
def test_look(reader, video):
    net = network(reader)
    seen = look(net, video.frames, video.index_masks, query=5, memory=[3, 0, 1])
    assert seen.memory == seen.insides.memory_indices == (0, 1, 3) and seen.cell == 4 and seen.offset == (0, 0)
    assert seen.insides.affinity.shape == (1, 3, 96, 96) and seen.insides.trajectory.shape == (1, 3, 2, 8, 12)
    assert seen.predicted.shape == (32, 48)
    for pixel in ((0, 0), (31, 47), (17, 22)):
        cell = seen.pixel_to_cell(*pixel)
        centre = seen.cell_to_pixel(torch.tensor(cell).double())
        assert (centre - torch.tensor(pixel)).abs().max() <= 2


def test_look_at_odd_sizes(stcn):
    frames, masks = torch.randint(0, 256, (2, 35, 51, 3), dtype=torch.uint8), torch.ones(2, 35, 51, dtype=torch.uint8)
    seen = look(stcn, frames, masks, 1, [0])
    assert seen.offset == (6, 6) and seen.pixel_to_cell(0, 0) == (1, 1)
    assert seen.cell_to_pixel(torch.zeros(2)).tolist() == [1.5 - 6, 1.5 - 6]
    assert seen.cell_to_pixel(torch.zeros(2, 3, 4)).shape == (2, 3, 4)


# ------------------------------------------------------------------ bad input

GOOD, MASK = torch.zeros(2, 32, 48, 3, dtype=torch.uint8), bars(1)
HALF = torch.full((2, 3, 32, 48), 0.5)


@pytest.mark.parametrize(
    "frames, masks, message",
    [
        (GOOD[:0], {0: MASK}, r"frames have shape \(0, 32, 48, 3\), expected .* with at least one frame"),
        ([], {0: MASK}, r"frames have shape \(0,\)"),
        (torch.tensor(1), {0: MASK}, r"frames have shape \(\)"),
        (GOOD[0], {0: MASK}, r"frames have shape \(32, 48, 3\)"),
        ([GOOD[0], GOOD[0, :16]], {0: MASK}, r"frame 1 has shape \(16, 48, 3\), frame 0 has \(32, 48, 3\)"),
        (GOOD.int(), {0: MASK}, r"frame 0 is torch.int32 of shape \(32, 48, 3\), expected uint8 H W 3 or float 3 H W"),
        (GOOD.float(), {0: MASK}, r"frame 0 is torch.float32 of shape \(32, 48, 3\)"),
        (HALF * 300, {0: MASK}, "frame 0 has values from 150 to 150, expected RGB in"),
        (HALF * torch.nan, {0: MASK}, "frame 0 holds NaN or infinite values"),
        (GOOD, {}, "no mask was given"),
        (GOOD, {2: MASK}, "a mask was given for frame 2, the video has frames 0 to 1"),
        (GOOD, {-1: MASK}, "a mask was given for frame -1"),
        (GOOD, {0: MASK[:16]}, r"mask of frame 0 has shape \(16, 48\), its frame has \(32, 48\)"),
        (GOOD, {0: MASK.unsqueeze(0)}, r"mask of frame 0 has shape \(1, 32, 48\)"),
        (GOOD, {0: MASK.float()}, "mask of frame 0 is torch.float32, expected integer labels"),
        (GOOD, {1: 0 * MASK}, r"mask of frame 1 holds no object \(labels found: \[0\]\)"),
        (GOOD, {0: 0 * MASK + 255}, r"mask of frame 0 holds no object \(labels found: \[255\]\)"),
        (GOOD, {0: MASK.int() * 300}, "mask of frame 0 has labels from 0 to 300, expected 0 to 254"),
        (GOOD, {0: -MASK.int()}, "mask of frame 0 has labels from -1 to 0"),
    ],
)
def test_bad_videos_and_masks(stcn, frames, masks, message):
    with pytest.raises(InputError, match=message):
        segment(stcn, frames, masks)


def test_the_default_network_and_networks_by_name(video):
    """Without a network the one for real video; a name means a shipped one; the command line has the same default."""
    default = segment(frames=video.frames, masks={0: video.index_masks[0]}, keep_probabilities=False)
    named = segment(DEFAULT_NETWORK, video.frames, {0: video.index_masks[0]})
    tiny = segment("stcn-tiny", video.frames, {0: video.index_masks[0]})
    assert torch.equal(default.index_masks, named.index_masks)
    assert not torch.equal(named.probabilities, tiny.probabilities)
    assert load(DEFAULT_NETWORK).preset == "mobile" and __main__.NETWORK == DEFAULT_NETWORK
    with pytest.raises(InputError, match="no network is called 'stcn-huge'"):
        segment("stcn-huge", video.frames, {0: video.index_masks[0]})
    with pytest.raises(InputError, match="frame 0 is a str, expected uint8 H W 3"):
        segment(frames=["a.png", "b.png"], masks={0: video.index_masks[0]})
    with pytest.raises(InputError, match="frames are a str, expected pictures, .*read_video"):
        segment(frames="my.mp4", masks={0: video.index_masks[0]})
    with pytest.raises(InputError, match="mask of frame 0 is a str, expected integers H W: .*read_mask"):
        segment(frames=video.frames, masks={0: "first.png"})
    with pytest.raises(InputError, match="no mask was given, expected at least one"):
        segment(frames=video.frames)


def test_bad_settings(stcn, video):
    with pytest.raises(InputError, match="memory_every is 0, expected at least 1"):
        Segmenter(stcn, memory_every=0)
    with pytest.raises(ValueError, match="max_frames is 0"):
        segment(stcn, GOOD, {0: MASK}, max_frames=0)
    with pytest.raises(InputError, match=r"frames \[6\] asked for, .* from 0 to 5"):
        look(stcn, video.frames, video.index_masks, 6, [0])
    with pytest.raises(InputError, match="expected at least one memory frame"):
        look(stcn, video.frames, video.index_masks, 5, [])
    with pytest.raises(InputError, match=r"masks of the memory frames \(0, 2\) hold no object"):
        look(stcn, video.frames, 0 * video.index_masks, 5, [0, 2])


def test_a_bad_frame_changes_nothing(stcn, video):
    """After an error in the middle of a stream, the stream goes on as if the frame had not come."""
    clean, disturbed = Segmenter(stcn, memory_every=1), Segmenter(stcn, memory_every=1)
    for t, frame in enumerate(video.frames[:4]):
        for bad in ((frame.int(), None), (frame, 0 * bars(1)), (frame, bars(1)[:5])):
            with pytest.raises(InputError, match=f"frame {t}"):
                disturbed.step(*bad)
        given = bars(1) if t == 0 else None
        assert torch.equal(clean.step(frame, given).index_mask, disturbed.step(frame, given).index_mask)
