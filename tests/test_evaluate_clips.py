"""Scores on synthetic clips: a perfect and a useless segmenter get what they deserve, pairing and held-out seeds hold."""

import numpy as np
import pytest
import torch

from tmrn_edu import metrics
from tmrn_edu.data.clips import FIRST_TRAINING_SEED
from tmrn_edu.evaluate_clips import held_out_clips, look_pck, score_clips, trajectory_pck
from tmrn_edu.looking import look
from tmrn_edu.networks.stcn import STCN
from tmrn_edu.segmenter import segment


@pytest.fixture(scope="module")
def clips():
    return held_out_clips("easy", 3, frames=4, size=(48, 48))


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return STCN.tiny().eval()


def test_scores_equal_those_of_segment_frame_by_frame(network, clips):
    scores = score_clips(network, clips, batch=2)
    for n, clip in enumerate(clips):
        result = segment(network, clip.frames, {0: clip.index_masks[0]}, memory_every=1)
        expected = metrics.score(result.index_masks, clip.index_masks)
        assert scores.J[n] == pytest.approx(expected.J, abs=0.02) and scores.F[n] == pytest.approx(expected.F, abs=0.05)


def test_true_memories_are_used(network, clips):
    """With true memories the first propagated frame is the same, later ones are read from other masks."""
    scores = score_clips(network, clips)
    assert scores.J.shape == scores.J_true_memory.shape == (3,)
    assert np.isfinite(scores.J_true_memory).all()


def test_pck_of_a_network_is_a_share(network, clips):
    assert 0 <= trajectory_pck(network, clips) <= 1


def test_pck_is_one_for_the_true_matches(network, clips):
    """Affinities that put everything on the true position score 1 (threshold: half a cell's diagonal, from the grid's coarseness)."""
    from dataclasses import replace

    clip = clips[0]
    seen = look(network, clip.frames, clip.index_masks, 3, [0, 1, 2])
    height, width = seen.insides.trajectory.shape[-2:]
    affinity = torch.zeros_like(seen.insides.affinity)
    for n, t in enumerate(seen.memory):
        true = clip.correspondence(3, t)
        for q in range(height * width):
            y, x = (seen.cell_to_pixel(torch.tensor([q // width, q % width]).float())).tolist()
            row, column = min(round(y), 47), min(round(x), 47)
            target = true.positions[row, column]
            cell = seen.pixel_to_cell(*(target.clamp(0, 47)).tolist())
            affinity[0, n, cell[0] * width + cell[1], q] = 1
    perfect = replace(seen, insides=replace(seen.insides, affinity=affinity))
    assert look_pck(perfect, clip, threshold=4.5) == pytest.approx(1.0)
    assert look_pck(seen, clip, threshold=4.5) < 0.9


def test_training_seeds_are_refused():
    with pytest.raises(ValueError, match=f"held-out seeds end at {FIRST_TRAINING_SEED}"):
        held_out_clips("easy", 2, first_seed=FIRST_TRAINING_SEED - 1)


def test_affinity_shares_of_a_reader_that_looks_at_one_thing(network, monkeypatch):
    """All weight on a cell of the target, of the look-alike, of the ground: a share of one each time, and 'easy' has no look-alike."""
    from dataclasses import replace

    from tmrn_edu import evaluate_clips

    clips = held_out_clips("medium", 2, frames=4, size=(96, 96))
    for layer, name in ((1, "target"), (2, "look-alikes"), (0, "elsewhere")):

        def one_thing(network, frames, masks, query, memory, layer=layer):
            seen = look(network, frames, masks, query, memory)
            clip = next(c for c in clips if torch.equal(c.frames, frames))
            affinity = torch.zeros_like(seen.insides.affinity)
            for t in memory:
                cells = evaluate_clips.layers_of_cells(seen, clip.layers[t])
                affinity[0, t, int((cells == layer).nonzero()[0])] = 1
            return replace(seen, insides=replace(seen.insides, affinity=affinity))

        monkeypatch.setattr(evaluate_clips, "look", one_thing)
        shares = evaluate_clips.affinity_shares(network, clips)
        assert shares[name] == pytest.approx(1, abs=1e-5) and sum(shares.values()) == pytest.approx(1)
    monkeypatch.undo()
    shares = evaluate_clips.affinity_shares(network, held_out_clips("easy", 1, frames=4, size=(48, 48)))
    assert shares["look-alikes"] == 0 and 0 < shares["target"] <= 1
