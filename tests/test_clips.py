"""Training batches: what is in them, and that a step's batch depends on seed and step alone."""

import pickle

import numpy as np
import pytest
import torch
from einops import rearrange

from tmrn_edu.data.clips import FIRST_TRAINING_SEED, LEVEL_MIX, SyntheticClips, TrainingClip, collate
from tmrn_edu.data.synthetic import make_clip
from tmrn_edu.errors import InputError


@pytest.fixture(scope="module")
def clips():
    return SyntheticClips(count=6, length=6, size=(32, 40))


def test_shapes_and_ranges(clips):
    batch = clips.batch(step=0, clips=3, frames=4, max_gap=1)
    assert batch.frames.shape == (3, 4, 3, 32, 40) and batch.object_masks.shape == (3, 1, 4, 32, 40)
    assert batch.frames.dtype == torch.float32 and 0 <= batch.frames.min() and batch.frames.max() <= 1
    assert set(batch.object_masks.unique().tolist()) == {0.0, 1.0}
    assert batch.indices == (0, 1, 2, 3)


def test_batch_is_a_function_of_seed_and_step(clips):
    again = SyntheticClips(count=6, length=6, size=(32, 40))
    again.batch(step=9, clips=2, frames=2)  # another history of calls
    a, b = clips.batch(5, 2, 3, 2), again.batch(5, 2, 3, 2)
    assert torch.equal(a.frames, b.frames) and torch.equal(a.object_masks, b.object_masks) and a.indices == b.indices
    c = clips.batch(6, 2, 3, 2)
    assert not torch.equal(a.frames, c.frames)


def test_gaps_stay_within_the_limit(clips):
    seen = set()
    for step in range(30):
        indices = clips.batch(step, 1, 3, 2).indices
        seen |= {b - a for a, b in zip(indices, indices[1:], strict=False)}
    assert seen == {1, 2}


def test_masks_follow_their_frames(clips):
    """Under mirroring, exchange and reversal alike: the target is where the clip that made it says."""
    square = SyntheticClips(count=2, length=4, size=(32, 32))
    for step in range(8):
        batch = square.batch(step, 1, 4)
        originals = []
        for number in range(2):
            frames, masks = square._frames[number].astype("float32") / 255, square._masks[number]
            originals += [(frames, masks)]
        found = False
        for frames, masks in originals:
            pictures, labels = torch.from_numpy(frames).movedim(-1, 1), torch.from_numpy(masks == 1).float()
            for reverse in (False, True):
                for mirror in (False, True):
                    for exchange in (False, True):
                        p, m = (pictures.flip(0), labels.flip(0)) if reverse else (pictures, labels)
                        p, m = (p.flip(-1), m.flip(-1)) if mirror else (p, m)
                        p, m = (p.mT, m.mT) if exchange else (p, m)
                        if torch.equal(p, batch.frames[0]):
                            found = True
                            assert torch.equal(m, batch.object_masks[0, 0])
        assert found


def test_too_long_a_clip_is_refused_with_both_lengths(clips):
    with pytest.raises(ValueError, match="need 7 video frames, videos have 6"):
        clips.batch(0, 1, 4, 2)


def test_training_seeds_are_far_from_held_out_ones():
    assert FIRST_TRAINING_SEED > 1_000_000


# ------------------------------------------------------------------ single clips and batches


def drawn_at_once(clips, step, count, frames, max_gap):
    """The batch as one loop over one generator makes it: the definition of what `sample` replays."""
    rng = np.random.default_rng([clips.seed, step])
    indices = np.concatenate([[0], np.cumsum(rng.integers(1, max_gap + 1, size=frames - 1))])
    pictures, masks = [], []
    for number in rng.choice(clips.count, size=count, replace=False).tolist():
        made = make_clip(FIRST_TRAINING_SEED + clips.seed * clips.count + number, LEVEL_MIX[number % 4], 6, clips.size)
        taken = rng.integers(0, clips.length - indices[-1]) + indices
        if rng.random() < 0.5:
            taken = clips.length - 1 - taken
        picture, mask = made.frames[taken], made.index_masks[taken]
        if rng.random() < 0.5:
            picture, mask = picture.flip(2), mask.flip(2)
        if rng.random() < 0.5 and clips.size[0] == clips.size[1]:
            picture, mask = rearrange(picture, "t H W c -> t W H c"), mask.mT
        pictures.append(rearrange(picture, "t H W c -> t c H W").float() / 255)
        masks.append((mask == 1).float()[None])
    return torch.stack(pictures), torch.stack(masks), tuple(indices.tolist())


@pytest.mark.parametrize("size", [(32, 32), (24, 40)])
def test_samples_are_the_clips_of_their_batch(size):
    clips = SyntheticClips(count=6, length=6, size=size, seed=2)
    for step in range(6):
        pictures, masks, indices = drawn_at_once(clips, step, 3, 3, 2)
        batch = clips.batch(step, 3, 3, 2)
        assert torch.equal(batch.frames, pictures) and torch.equal(batch.object_masks, masks)
        assert batch.indices == indices and batch.present is None and batch.references is None
        last = clips.sample(step, 2, 3, 3, 2)
        assert torch.equal(last.frames, pictures[2]) and torch.equal(last.index_masks, masks[2, 0].byte())
        assert last.indices.tolist() == list(indices) and (last.count, last.objects) == (1, 1)


def test_exact_paths_of_mirrored_and_turned_clips():
    """`correspondence` of a sample is that of the clip it comes from, at the exchanged places."""
    clips, seen = SyntheticClips(count=3, length=6, size=(24, 24), seed=1), set()
    for step in range(16):
        clip = clips.sample(step, 0, 1, 3, 2)
        original, (first, _, last) = clip.source.clip(), clip.source.numbers
        truth = original.correspondence(first, last)
        positions, visible = truth.positions, truth.visible
        shown = rearrange(original.frames[first], "H W c -> c H W") / 255
        for mirrored, turned in ((False, False), (True, False), (False, True), (True, True)):
            p, v, f = positions, visible, shown
            if mirrored:
                p = p.flip(1) * torch.tensor([1.0, -1.0]) + torch.tensor([0.0, 23.0])
                v, f = v.flip(1), f.flip(2)
            if turned:
                p, v, f = rearrange(p, "H W yx -> W H yx").flip(-1), v.mT, f.mT
            if torch.equal(f, clip.frames[0]):
                seen.add((mirrored, turned))
                found, inside = clip.correspondence(0, 2)
                assert torch.allclose(found, p, atol=1e-4) and torch.equal(inside, v)
    assert len(seen) == 4


def test_a_copy_for_another_process_is_small_and_the_same():
    clips = SyntheticClips(count=50, length=6, size=(32, 40))
    wanted = clips.batch(3, 2, 2)
    sent = pickle.dumps(clips)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent).batch(3, 2, 2).frames, wanted.frames)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((7, 3, 1), "a batch has 7 clips, the data set has 6; expected at least as many"),
        ((2, 4, 2), "4 frames with gaps up to 2, expected 2 frames or more within videos of 6"),
        ((2, 1, 1), "1 frames with gaps up to 1, expected 2 frames or more within videos of 6"),
    ],
)
def test_what_the_set_cannot_give(clips, arguments, message):
    with pytest.raises(InputError, match=message):
        clips.check(*arguments)
    clips.check(6, 3, 2)


def test_a_place_outside_the_batch(clips):
    with pytest.raises(InputError, match="clip 2 of a batch of 2 was asked for, the data set has 6"):
        clips.sample(0, 2, 2, 2)


def made(count, objects=2, t=3, indices=(0, 1, 3), references=None, size=(4, 5), name="a"):
    index_masks = torch.zeros(t, *size, dtype=torch.uint8)
    for label in range(1, count + 1):
        index_masks[:, 0, label] = label
    return TrainingClip(torch.rand(t, 3, *size), index_masks, count, objects, torch.tensor(indices), references, name)


def test_collate():
    rows = torch.zeros(3, 1, dtype=torch.int64)
    clips = [made(2, references=rows), made(1, references=rows + 1, name="b"), made(0, references=rows)]
    batch = collate(clips)
    assert len(batch) == 3 and batch.indices == (0, 1, 3) and batch.names == ("a", "b", "a")
    assert all(torch.equal(batch.frames[i], clip.frames) for i, clip in enumerate(clips))
    for i, clip in enumerate(clips):
        for slot in range(2):
            assert torch.equal(batch.object_masks[i, slot], (clip.index_masks == slot + 1).float())
    assert batch.present.tolist() == [[1, 1], [1, 0], [1, 0]]
    assert batch.references.shape == (3, 3, 1) and batch.references[1].eq(1).all()
    other = collate([made(2), made(2, indices=(0, 2, 3))])
    assert other.indices.tolist() == [[0, 1, 3], [0, 2, 3]] and other.present is None and other.references is None
    assert collate([made(0, objects=1)]).present is None


def test_splitting_a_batch():
    clips = [made(n % 3, indices=(0, 1, 2 + n), name=str(n)) for n in range(6)]
    whole = collate(clips)
    parts = whole.split(3)
    for part, pair in zip(parts, (clips[:2], clips[2:4], clips[4:]), strict=True):
        wanted = collate(pair)
        assert len(part) == 2 and part.names == wanted.names and torch.equal(part.frames, wanted.frames)
        assert torch.equal(part.indices, wanted.indices) and torch.equal(part.object_masks, wanted.object_masks)
    assert torch.equal(torch.cat([part.present for part in parts]), whole.present)
    assert collate([made(1), made(1)]).split(2)[1].indices == (0, 1, 3)
    moved = whole.to(torch.device("cpu"))
    assert torch.equal(moved.indices, whole.indices) and moved.names == whole.names
    with pytest.raises(InputError, match="6 clips do not split into 4 equal parts"):
        whole.split(4)


def test_clips_that_make_no_batch():
    with pytest.raises(InputError, match="0 clips were given, a batch needs at least 1"):
        collate([])
    with pytest.raises(
        InputError, match=r"b has frames of shape \(3, 3, 4, 6\), .* a has frames of shape \(3, 3, 4, 5\)"
    ):
        collate([made(1), made(1, size=(4, 6), name="b")])
    with pytest.raises(InputError, match="references 2, a has .* references none"):
        collate([made(1), made(1, references=torch.zeros(3, 2, dtype=torch.int64), name="b")])
