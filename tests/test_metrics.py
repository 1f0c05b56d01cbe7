"""J, F and their averages: by hand, against slow loops, against stored numbers, and against the official evaluation's."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tmrn_edu.errors import InputError
from tmrn_edu.metrics import (
    boundary_accuracy,
    combine,
    pck,
    region_similarity,
    score,
    score_set,
    scored_frames,
    statistics,
    trajectory_error,
)

FIXTURE = json.loads((Path(__file__).parent / "fixtures" / "metrics.json").read_text())
PARITY = Path(__file__).resolve().parents[2] / "shared" / "parity"
needs_parity = pytest.mark.skipif(
    not (PARITY / "metrics.json").exists(), reason="official numbers (../shared/parity) not here"
)

ROUNDING = 1e-12  # the same sums in another order


def mask(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def box(top, left, height=4, width=5, size=(12, 15)):
    result = np.zeros(size, dtype=np.uint8)
    result[top : top + height, left : left + width] = 1
    return result


# --- one frame ---


def test_region_similarity_by_hand():
    assert region_similarity(mask("##..", "##.."), mask(".##.", ".##.")) == 2 / 6
    assert region_similarity(mask("....", "...."), mask("....", "....")) == 1
    assert region_similarity(mask("....", "...."), mask("#...", "....")) == 0


def test_boundary_pixels_by_hand():
    """One object pixel in the middle has four boundary pixels: itself, left, above and above left."""
    dot, nothing = mask(".....", ".....", "..#..", ".....", "....."), np.zeros((5, 5), bool)
    corner = mask(
        ".....", ".....", ".....", ".....", "....#"
    )  # of which the corner itself, compared with nobody, is none
    assert boundary_accuracy(dot, dot, tolerance=0) == 1
    assert boundary_accuracy(dot, nothing) == 0 and boundary_accuracy(nothing, dot) == 0
    # boundaries {1, 2} x {1, 2} and (3, 3), (3, 4), (4, 3); nearest are (2, 2) and (3, 3), 1.41 apart, the next 2.24
    assert boundary_accuracy(dot, corner, tolerance=1) == 0
    precision, recall = 1 / 4, 1 / 3
    expected = pytest.approx(2 * precision * recall / (precision + recall))
    assert boundary_accuracy(dot, corner, tolerance=2) == expected
    assert boundary_accuracy(dot, corner, tolerance=1.2) == expected  # rounded up
    assert boundary_accuracy(dot, corner, tolerance=0.2) == expected  # 0.2 of the diagonal, 1.41 pixels


def test_full_mask_has_no_boundary():
    full, empty = np.ones((6, 8), bool), np.zeros((6, 8), bool)
    assert boundary_accuracy(full, empty) == 1 and region_similarity(full, empty) == 0


@pytest.mark.parametrize("tolerance", [0, 0.03, 1, 2.5, 7, 40])
def test_boundary_accuracy_equals_a_loop(tolerance):
    """Radii up to more than the image, so that the disk's runs leave it on all sides."""
    rng = np.random.default_rng(3)
    for density in (0.02, 0.5):
        prediction, truth = rng.random((9, 13)) < density, rng.random((9, 13)) < density
        assert boundary_accuracy(prediction, truth, tolerance) == pytest.approx(
            slow_F(prediction, truth, tolerance), abs=ROUNDING
        )


def slow_F(prediction, truth, tolerance):
    radius = math.ceil(tolerance if tolerance >= 1 else tolerance * math.hypot(*truth.shape))
    predicted, true = slow_boundary(prediction), slow_boundary(truth)
    if not predicted or not true:
        return float(len(predicted) == len(true))

    def share_near(points, others):
        return sum(any(math.dist(p, q) <= radius for q in others) for p in points) / len(points)

    precision, recall = share_near(predicted, true), share_near(true, predicted)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def slow_boundary(mask):
    height, width = mask.shape
    points = []
    for y in range(height):
        for x in range(width):
            neighbours = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            if any(mask[y, x] != mask[v, u] for v, u in neighbours if v < height and u < width):
                points.append((y, x))
    return points


def test_stored_pairs():
    masks = {name: mask(*rows) for name, rows in FIXTURE["masks"].items()}
    for first, second, J, F in FIXTURE["pairs"]:
        for a, b in ((first, second), (second, first)):  # both measures are symmetric
            assert region_similarity(masks[a], masks[b]) == pytest.approx(J, abs=ROUNDING)
            got = [boundary_accuracy(masks[a], masks[b], tolerance) for tolerance in FIXTURE["tolerances"]]
            assert got == pytest.approx(F, abs=ROUNDING), (a, b)


def test_void_pixels_count_for_nobody():
    prediction, truth, void = mask("###.", "...."), mask("##..", "...."), mask("..#.", "....")
    assert region_similarity(prediction, truth) == 2 / 3
    assert region_similarity(prediction, truth, void) == 1
    assert boundary_accuracy(prediction, truth, tolerance=0) < 1 == boundary_accuracy(prediction, truth, 0, void)


def test_masks_may_be_tensors_or_integers():
    prediction, truth = box(2, 3), box(3, 4)
    expected = region_similarity(prediction, truth), boundary_accuracy(prediction, truth)
    for convert in (torch.from_numpy, lambda x: torch.from_numpy(x).bool(), lambda x: 7 * x.astype(np.int64)):
        assert (
            region_similarity(convert(prediction), convert(truth)),
            boundary_accuracy(convert(prediction), convert(truth)),
        ) == expected


@pytest.mark.parametrize("measure", [region_similarity, boundary_accuracy])
def test_frame_errors(measure):
    with pytest.raises(InputError, match="prediction is 5x6, ground truth is 5x7"):
        measure(np.zeros((5, 6), bool), np.zeros((5, 7), bool))
    with pytest.raises(InputError, match="void mask is 5x6, ground truth is 5x7"):
        measure(np.zeros((5, 7), bool), np.zeros((5, 7), bool), void=np.zeros((5, 6), bool))
    with pytest.raises(InputError, match="prediction is float64, masks are bool or integers"):
        measure(np.full((5, 7), 0.3), np.zeros((5, 7), bool))


def test_negative_tolerance():
    with pytest.raises(InputError, match="tolerance is -1, must be 0 or more"):
        boundary_accuracy(np.zeros((5, 7), bool), np.zeros((5, 7), bool), tolerance=-1)


# --- statistics ---


def test_statistics_by_hand():
    """Borders of 5 values: 1, 2, 3, 4, 5; so the first quarter is values 1 and 2, the last 4 and 5."""
    result = statistics([1.0, 0.8, 0.5, 0.4, 0.0])
    assert result.mean == pytest.approx(2.7 / 5)
    assert result.recall == 2 / 5  # 0.5 is not above 0.5
    assert result.decay == pytest.approx(0.9 - 0.2)
    assert statistics([0.7]).decay == 0


def test_stored_statistics():
    """Lengths from 1 to 1000: borders beyond 255 must not wrap around."""
    for case in FIXTURE["statistics"]:
        result = statistics(case["values"])
        assert [result.mean, result.recall, result.decay] == pytest.approx(case["mean_recall_decay"], abs=ROUNDING)


def test_statistics_of_nothing():
    with pytest.raises(InputError, match="0 values, needs at least 1"):
        statistics([])


# --- clips ---


def two_objects(frames=6):
    """Object 3 moves down, object 9 right, in a 20 x 24 image; ids are not 1, 2 on purpose."""
    truth = np.zeros((frames, 20, 24), dtype=np.uint8)
    for t in range(frames):
        truth[t, 2 + t : 8 + t, 2:8] = 3
        truth[t, 10:15, 10 + t : 17 + t] = 9
    return truth


def test_score_averages_what_the_frame_measures_say():
    truth = two_objects()
    prediction = np.roll(truth, 1, axis=2)
    result = score(torch.from_numpy(prediction), torch.from_numpy(truth))
    assert list(result.per_object) == [3, 9]
    for label, one in result.per_object.items():
        assert one.frames == (1, 2, 3, 4)
        pairs = [(prediction[t] == label, truth[t] == label) for t in one.frames]
        assert one.J_frames == tuple(region_similarity(*pair) for pair in pairs)
        assert one.F_frames == tuple(boundary_accuracy(*pair) for pair in pairs)
        assert one.J == statistics(one.J_frames) and one.F == statistics(one.F_frames)
        assert one.JF == (one.J.mean + one.F.mean) / 2
    first, second = result.per_object.values()
    assert result.J == (first.J.mean + second.J.mean) / 2 and result.F == (first.F.mean + second.F.mean) / 2
    assert result.JF == (result.J + result.F) / 2
    assert result.J_recall == (first.J.recall + second.J.recall) / 2
    assert result.F_decay == (first.F.decay + second.F.decay) / 2


def test_score_as_dict():
    result = score(two_objects(), two_objects()).as_dict()
    assert result["J&F"] == result["J"] == result["F"] == 1 and result["J_decay"] == 0
    assert set(result["per_object"]) == {"3", "9"} and result["per_object"]["9"]["F_recall"] == 1
    json.dumps(result)


def test_an_object_missing_in_the_prediction_scores_0():
    truth = two_objects()
    result = score(np.where(truth == 9, 0, truth), truth)
    assert (result.per_object[3].J.mean, result.per_object[9].J.mean, result.per_object[9].F.mean) == (1, 0, 0)
    assert result.J == 0.5


def test_an_object_of_the_prediction_alone_is_not_scored():
    truth = two_objects()
    prediction = truth.copy()
    prediction[:, 0, 0] = 5
    assert score(prediction, truth) == score(truth, truth)


def test_first_and_last_frame_do_not_count():
    truth = two_objects()
    prediction = truth.copy()
    prediction[0], prediction[-1] = 0, 0
    assert score(prediction, truth).JF == 1


def test_two_frames_score_the_last():
    """The rule of DAVIS would leave nothing."""
    truth = two_objects(frames=2)
    prediction = truth.copy()
    prediction[1] = 0
    assert score(truth, truth).JF == 1 and score(prediction, truth).JF == 0
    assert score(truth, truth).per_object[3].frames == (1,)


def test_late_objects_count_from_their_second_frame():
    truth = two_objects(frames=7)
    truth[:3][truth[:3] == 9] = 0
    assert score(truth, truth).per_object[9].frames == (4, 5)
    truth[:5][truth[:5] == 9] = 0
    assert score(truth, truth).per_object[9].frames == (6,)  # it came in frame 5; only the last frame is left
    truth[:6][truth[:6] == 9] = 0
    assert list(score(truth, truth).per_object) == [3]
    assert scored_frames(truth == 9) == scored_frames(truth == 77) == ()


def test_void_label_in_a_clip():
    """255 is never an object; its pixels are background unless `void` says that they do not count."""
    truth = two_objects()
    prediction = truth.copy()
    truth[:, :, 2] = np.where(truth[:, :, 2] == 3, 255, truth[:, :, 2])
    strict, lenient = score(prediction, truth), score(prediction, truth, void=255)
    assert list(strict.per_object) == list(lenient.per_object) == [3, 9]
    assert strict.per_object[3].J.mean == pytest.approx(5 / 6) and lenient.per_object[3].J.mean == 1


def test_workers_change_nothing():
    """To the bit, in threads, with void pixels, late objects and more than 256 frames."""
    rng = np.random.default_rng(2)
    truth = rng.choice(np.array([0, 0, 0, 3, 9, 255], dtype=np.uint8), (300, 7, 9))
    truth[:40][truth[:40] == 9] = 0
    prediction = np.where(rng.random(truth.shape) < 0.8, truth, 0)
    for void in (None, 255):
        assert score(prediction, truth, void, workers=3) == score(prediction, truth, void)
    clips = {"long": (prediction, truth), "short": (two_objects(), np.roll(two_objects(), 1, axis=1))}
    assert score_set(clips, workers=2) == score_set(clips)
    assert score(prediction, truth).per_object[9].frames == tuple(range(41, 299))
    with pytest.raises(InputError, match="0 workers cannot score, needs at least 1"):
        score(prediction, truth, workers=0)


def test_score_errors():
    truth = two_objects()
    with pytest.raises(InputError, match="prediction is 5x20x24, ground truth is 6x20x24"):
        score(truth[:5], truth)
    with pytest.raises(InputError, match="ground truth is float32, masks are bool or integers"):
        score(truth, truth.astype(np.float32))
    with pytest.raises(InputError, match="has 1 frame, scoring needs 2"):
        score(truth[:1], truth[:1])
    with pytest.raises(InputError, match=r"has the labels \[0, 255\], none is an object"):
        score(truth, np.where(truth == 3, 255, 0))
    late = np.zeros_like(truth)
    late[-1] = truth[-1]
    with pytest.raises(InputError, match=r"objects \[3, 9\] appear in the last of 6 frames only"):
        score(truth, late)


def test_a_set_averages_over_objects_not_clips():
    truth = two_objects()
    one_object = np.where(truth == 3, 3, 0).astype(np.uint8)[:, :18]
    result = score_set({"pair": (truth, truth), "single": (np.zeros_like(one_object), one_object)})
    assert list(result.per_object) == ["pair/3", "pair/9", "single/3"]
    assert result.J == pytest.approx(2 / 3) and result.F == pytest.approx(2 / 3)
    parts = {"pair": score(truth, truth), "single": score(np.zeros_like(one_object), one_object)}
    assert combine(parts) == result


def test_set_errors():
    with pytest.raises(InputError, match="0 clips cannot be scored"):
        combine({})
    with pytest.raises(InputError, match="^bear: prediction is 5x20x24"):
        score_set({"bear": (two_objects()[:5], two_objects())})


# --- positions ---


def test_positions_by_hand():
    truth = torch.tensor([[0.0, 0.0], [10.0, 5.0], [2.0, 2.0]])
    positions = truth + torch.tensor([[3.0, 4.0], [0.0, 1.0], [50.0, 50.0]])
    visible = torch.tensor([True, True, False])
    assert trajectory_error(positions, truth, visible) == 3
    assert pck(positions, truth, visible, threshold=1) == 0.5  # at the threshold is within
    assert pck(positions, truth, visible, threshold=5) == 1 and pck(positions, truth, visible, threshold=0.9) == 0


def test_position_errors():
    with pytest.raises(InputError, match="3 matched positions, 4 true ones, 4 visibilities"):
        trajectory_error(torch.zeros(3, 2), torch.zeros(4, 2), torch.ones(4, dtype=torch.bool))
    with pytest.raises(InputError, match="0 of 4 positions are visible"):
        pck(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4, dtype=torch.bool), threshold=1)


# --- the official evaluation's own numbers ---

OFFICIAL = 1e-6  # they are doubles from the same integer counts; what we see is 0


def unpack(masks, key, shape):
    return np.unpackbits(masks[key])[: np.prod(shape)].reshape(shape).astype(bool)


@pytest.fixture(scope="module")
def official():
    return json.loads((PARITY / "metrics.json").read_text()), np.load(PARITY / "metrics_masks.npz")


@needs_parity
def test_official_edge_pairs(official):
    numbers, masks = official
    edge = {
        key.removeprefix("edge:"): unpack(masks, key, masks["edge_shape"]) for key in masks if key.startswith("edge:")
    }
    assert len(numbers["edge"]) == len(edge) ** 2 == 81
    for pair, expected in numbers["edge"].items():
        prediction, truth = (edge[name] for name in pair.split("|"))
        got = region_similarity(prediction, truth), boundary_accuracy(prediction, truth)
        assert got == pytest.approx(expected, abs=OFFICIAL), pair
    # the pair of the other tolerances is not stored; these numbers are those of the box and the box moved by (2, 3)
    for tolerance, expected in numbers["bound_th"].items():
        got = boundary_accuracy(np.roll(edge["box"], (2, 3), axis=(0, 1)), edge["box"], float(tolerance))
        assert got == pytest.approx(expected, abs=OFFICIAL)


@needs_parity
def test_official_statistics(official):
    for case in official[0]["statistics"].values():
        result = statistics(case["values"])
        assert [result.mean, result.recall, result.decay] == pytest.approx(case["mean_recall_decay"], abs=OFFICIAL)


@needs_parity
def test_official_sequences(official):
    numbers, masks = official
    scores = {}
    for sequence, about in numbers["sequences"].items():
        shape = masks[f"shape:{sequence}"]
        truth = unpack(masks, f"gt:{sequence}", shape).astype(np.uint8)
        for variation, expected in about["variations"].items():
            clip = score(unpack(masks, f"pred:{sequence}:{variation}", shape).astype(np.uint8), truth)
            one = scores.setdefault(f"{sequence}/{variation}", clip).per_object[1]
            for name, values, summary in (("J", one.J_frames, one.J), ("F", one.F_frames, one.F)):
                assert values == pytest.approx(expected[name], abs=OFFICIAL)
                assert summary.mean == pytest.approx(expected[f"{name}_mean"], abs=OFFICIAL)
                assert summary.recall == pytest.approx(expected[f"{name}_recall"], abs=OFFICIAL)
                assert summary.decay == pytest.approx(expected[f"{name}_decay"], abs=OFFICIAL)
    total = combine(scores)
    names = {"J&F-Mean": "JF", "J-Mean": "J", "F-Mean": "F"}
    names |= {f"{m}-{what.title()}": f"{m}_{what}" for m in "JF" for what in ("recall", "decay")}
    assert {name: getattr(total, names[name]) for name in numbers["global"]} == pytest.approx(
        numbers["global"], abs=OFFICIAL
    )
