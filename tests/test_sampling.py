"""Frames, objects and references of a clip: limits by brute force over many draws."""

from collections import Counter

import numpy as np
import pytest

from tmrn_edu.data.sampling import draw_frames, draw_objects, draw_references, listed_gap, spread, walk
from tmrn_edu.errors import InputError

DRAWS = 400


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("rule", ["walk", "spread"])
@pytest.mark.parametrize(
    "length, frames, max_gap", [(30, 3, 5), (30, 8, 5), (8, 8, 2), (5, 3, 25), (3, 3, 1), (9, 2, 4), (4, 1, 3)]
)
def test_frames_are_different_and_in_order(rule, length, frames, max_gap):
    draws, backwards = rng(), 0
    for _ in range(DRAWS):
        numbers = draw_frames(draws, length, frames, max_gap, rule)
        assert len(numbers) == frames and all(0 <= n < length for n in numbers)
        steps = np.diff(numbers)
        assert (steps > 0).all() or (steps < 0).all()
        backwards += bool((steps < 0).any())
        longest = max_gap + 1 if rule == "walk" else max_gap
        assert (abs(steps) <= longest).all()
    if frames > 1:
        assert 0.4 * DRAWS < backwards < 0.6 * DRAWS


@pytest.mark.parametrize("length, max_gap", [(30, 5), (60, 25), (26, 25)])
def test_three_frames_walk_within_the_limits_of_the_authors(length, max_gap):
    """Where the authors' arithmetic gives three different frames, ours is that arithmetic, draw for draw."""
    same = 0
    for seed in range(DRAWS):
        reach, draws = min(length, max_gap), rng(seed)
        start = draws.integers(0, length - reach + 1)
        second = min(start + draws.integers(1, reach + 2), length - reach)
        third = min(second + draws.integers(1, reach + 2), length - reach // 2)
        found = walk(rng(seed), length, 3, max_gap)
        if start < second < third < length:
            same += 1
            assert found == (start, second, third)
        assert found[0] <= max(length - reach, 0) and found[2] <= max(length - reach // 2, found[1] + 1)
    assert length == 26 or same > DRAWS / 2


def test_steps_of_a_walk_use_their_range():
    draws, steps = rng(), Counter()
    for _ in range(DRAWS):
        numbers = walk(draws, 100, 8, 3)
        steps.update(np.diff(numbers).tolist())
    assert set(steps) == {1, 2, 3, 4} and min(steps.values()) > 0.7 * sum(steps.values()) / 4


def test_both_rules_reach_every_frame():
    for rule in (walk, spread):
        draws = rng()
        seen = {n for _ in range(DRAWS) for n in rule(draws, 20, 3, 4)}
        assert seen >= set(range(19)), rule  # a walk of 3 ends at length - max_gap // 2 = 18


def test_spread_takes_every_set_it_may():
    """Of 5 frames, 3 with neighbours at most 2 apart: all such sets, and no other."""
    draws = rng()
    found = {spread(draws, 5, 3, 2) for _ in range(DRAWS)}
    wanted = {
        (a, b, c) for a in range(5) for b in range(a + 1, 5) for c in range(b + 1, 5) if b - a <= 2 and c - b <= 2
    }
    assert found == wanted


def test_gaps_of_sets_that_list_every_fifth_frame():
    assert [listed_gap(gap, 5) for gap in (1, 5, 10, 15, 20, 25)] == [1, 1, 2, 3, 4, 5]
    assert [listed_gap(gap, 1) for gap in (1, 5, 25)] == [1, 5, 25]


def test_objects():
    draws = rng()
    assert draw_objects(draws, [0, 255], 2) == () and draw_objects(draws, [0, 7, 255], 2) == (7,)
    pairs = Counter(draw_objects(draws, [0, 1, 2, 4, 4], 2) for _ in range(600))
    assert set(pairs) == {(a, b) for a in (1, 2, 4) for b in (1, 2, 4) if a != b} and min(pairs.values()) > 60
    assert sorted(draw_objects(draws, [3, 1], 5)) == [1, 3]


def test_references():
    draws, seen = rng(), set()
    for _ in range(200):
        rows = draw_references(draws, 8, 3)
        assert rows.shape == (8, 3) and not rows[:4].any()
        for t in range(4, 8):
            first, a, b = rows[t].tolist()
            assert first == 0 < a < b < t
            seen.add((t, a, b))
    assert seen == {(t, a, b) for t in range(4, 8) for a in range(1, t) for b in range(a + 1, t)}
    assert draw_references(draws, 3, 1).tolist() == [[0], [0], [0]]


@pytest.mark.parametrize(
    "length, frames, max_gap, rule, message",
    [
        (
            4,
            5,
            2,
            "walk",
            "5 frames with gaps up to 2 from a video of 4; expected 1 to 4 frames and a gap of 1 or more",
        ),
        (4, 2, 0, "spread", "2 frames with gaps up to 0 from a video of 4"),
        (4, 2, 1, "jump", "rule is 'jump', known are walk, spread"),
    ],
)
def test_what_cannot_be_drawn(length, frames, max_gap, rule, message):
    with pytest.raises(InputError, match=message):
        draw_frames(rng(), length, frames, max_gap, rule)


def test_no_reference_is_refused():
    with pytest.raises(InputError, match="references is 0, expected 1 or more"):
        draw_references(rng(), 4, 0)
