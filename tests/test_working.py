"""Which frames a working memory keeps, and what of a frame belongs to which objects."""

from dataclasses import replace

import pytest
import torch
from einops import rearrange

from tmrn_edu.memory import MemoryFrame, Query, SpaceTimeReader, TrajectoryReader, WorkingMemory


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


# ------------------------------------------------------------------ objects of a frame


def stored(reader, shared, b=2, o=3):
    """A frame whose keys all objects share, or one with keys for each object, those of both clips in the batch axis (b o)."""
    value = torch.randn(b, o, 7, 6, 8)
    if shared:
        return reader.store(torch.randn(b, 5, 6, 8), value, 4, True, 1 + torch.rand(b, 1, 6, 8))
    key, value = torch.randn(b * o, 5, 6, 8), rearrange(value, "b o cv h w -> (b o) 1 cv h w")
    return replace(reader.store(key, value, 4, True), batch_objects=o)


READERS = (
    SpaceTimeReader,
    lambda: TrajectoryReader.paper(5, 7, agents=4),
    lambda: TrajectoryReader.chained(5, 7, agents=4),
    lambda: TrajectoryReader.tracking(5, 7, agents=0),
)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("first, last", [(0, 1), (1, 3), (0, 3), (2, 3)])
def test_objects_with_shared_keys(reader, first, last):
    """STCN and XMem: keys, shrinkage and agents stay the very same tensors, values are the objects'."""
    whole = stored(reader(), shared=True)
    part = whole.of_objects(first, last)
    assert part.key is whole.key and part.shrinkage is whole.shrinkage and part.description is whole.description
    assert torch.equal(part.value, whole.value[:, first:last]) and part.batch_objects is None
    assert (part.index, part.exact) == (4, True)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("first, last", [(0, 1), (1, 3), (0, 3), (2, 3)])
def test_objects_with_keys_of_their_own(reader, first, last):
    """STM: keys and agents are the objects' too, clip by clip."""
    whole = stored(reader(), shared=False)
    part = whole.of_objects(first, last)
    rows = [b * 3 + o for b in range(2) for o in range(first, last)]
    assert torch.equal(part.key, whole.key[rows]) and torch.equal(part.value, whole.value[rows])
    assert part.batch_objects == last - first and (part.index, part.exact) == (4, True)
    if whole.description is None:
        assert part.description is None
    else:
        for name in ("mean", "agents", "likelihood"):
            assert torch.equal(getattr(part.description, name), getattr(whole.description, name)[rows])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("shared", [True, False])
def test_parts_read_as_the_whole(reader, shared):
    """Objects of a memory read apart give what they give together. (TMRN's attention sees the mean over a memory's objects, so its
    shared reads are compared at K = 0.)"""
    made = reader().eval()
    if shared and getattr(made, "attention", None) is not None:
        torch.nn.init.zeros_(made.attention.key.weight)
    frames = [replace(stored(made, shared), index=i) for i in (2, 5)]
    query = torch.randn(2, 5, 6, 8)
    ask = lambda o: Query(query if shared else query.repeat_interleave(o, 0), 9)
    together = made(frames, ask(3)).value
    together = together if shared else rearrange(together, "(b o) 1 cv h w -> b o cv h w", b=2)
    for first, last in ((0, 1), (1, 3)):
        part = made([frame.of_objects(first, last) for frame in frames], ask(last - first)).value
        part = part if shared else rearrange(part, "(b o) 1 cv h w -> b o cv h w", b=2)
        torch.testing.assert_close(part, together[:, first:last], atol=1e-5, rtol=1e-4)


def test_parts_of_parts():
    whole = stored(READERS[1](), shared=False)
    twice, once = whole.of_objects(1, 3).of_objects(1, 2), whole.of_objects(2, 3)
    assert torch.equal(twice.key, once.key) and torch.equal(twice.description.agents, once.description.agents)
