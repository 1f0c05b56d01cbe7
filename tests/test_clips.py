"""Training batches: what is in them, and that a step's batch depends on seed and step alone."""

import pytest
import torch

from tmrn_edu.data.clips import FIRST_TRAINING_SEED, SyntheticClips


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
