"""Which frames a working memory keeps."""

import pytest
import torch

from tmrn_edu.memory import MemoryFrame, WorkingMemory


def frame(index, exact=False):
    return MemoryFrame(torch.zeros(2, 5, 6, 8), torch.zeros(2, 3, 7, 6, 8), index, exact)


def kept(max_frames, given, count=12):
    memory = WorkingMemory(max_frames)
    history = []
    for index in range(count):
        memory.add(frame(index, exact=index in given))
        history.append([f.index for f in memory.frames])
        assert len(memory) == len(history[-1])
    return history


def test_without_a_bound_everything_stays():
    assert kept(None, (0,))[-1] == list(range(12))


def test_first_frame_and_a_window():
    history = kept(4, (0,))
    assert history[3] == [0, 1, 2, 3] and history[4] == [0, 2, 3, 4] and history[-1] == [0, 9, 10, 11]
    assert max(len(now) for now in history) == 4


def test_corrections_outlive_predictions():
    history = kept(4, (0, 2, 7))
    assert history[6] == [0, 2, 5, 6] and history[-1] == [0, 2, 7, 11]


def test_when_all_were_given_the_oldest_but_the_first_goes():
    assert kept(3, range(12))[-1] == [0, 10, 11]
    assert kept(3, (0, 1, 2))[3] == [0, 2, 3]


def test_one_frame_is_the_first():
    assert kept(1, (0, 5))[-1] == [0]
    assert kept(2, (0,))[-1] == [0, 11]


def test_impossible_bound():
    with pytest.raises(ValueError, match="max_frames is 0, expected None .* or at least 1"):
        WorkingMemory(0)
