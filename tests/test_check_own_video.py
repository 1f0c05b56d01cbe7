"""Checkers of notebook 09: worked answers pass, and each common mistake is met with its own sentence."""

import pytest
import torch
from einops import einsum
from exercises import exercise_tests
from torch.nn.functional import normalize

from tmrn_edu import check


def propagate(memory_key, query_key, mask, temperature, normalised=True):
    """A loop over the query's pixels."""
    if normalised:
        memory_key, query_key = normalize(memory_key, dim=0), normalize(query_key, dim=0)
    votes = []
    for q in range(query_key.shape[1]):
        score = einsum(memory_key, query_key[:, q], "ck m, ck -> m") / temperature
        exponential = (score - score.max()).exp()
        votes.append((exponential / exponential.sum() * mask).sum())
    return torch.stack(votes)


def frames_kept(now, every, most, given, corrected_stay=True, restart=True):
    kept, last = [], 0
    for t in range(now):
        due = t - last == every if restart else t % every == 0
        if t in given or due:
            last = t
            if len(kept) == most:
                predicted = [k for k in kept[1:] if k not in given] if corrected_stay else []
                kept.remove(predicted[0] if predicted else kept[1])
            kept.append(t)
    return torch.tensor(kept)


def inside(x, y, outline):
    """By angles: going once round the outline, the point turns by an odd number of whole turns."""
    at = torch.tensor([x, y], dtype=torch.float64)
    first = outline.double() - at
    second = first.roll(-1, dims=0)
    turn = torch.atan2(
        first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0], einsum(first, second, "n xy, n xy -> n")
    )
    return round(turn.sum().item() / (2 * torch.pi)) % 2 == 1


def over(cut, background):
    return background + cut[..., 3:] / 255 * (cut[..., :3] - background)


ANSWERS = {"propagate": propagate, "frames_kept": frames_kept, "inside": inside, "over": over}


test_worked_answers_pass, test_empty_functions_do_not = exercise_tests(ANSWERS)


def over_q(k, x, mask, tau):
    similarity = einsum(normalize(k, dim=0), normalize(x, dim=0), "ck m, ck q -> m q") / tau
    return einsum(similarity.softmax(dim=1), mask, "m q, m -> q")


def best_alone(k, x, mask, tau):
    return mask[einsum(normalize(k, dim=0), normalize(x, dim=0), "ck m, ck q -> m q").argmax(dim=0)]


def not_normalised(k, x, mask, tau):
    similarity = einsum(normalize(k, dim=0), normalize(x, dim=0), "ck m, ck q -> m q") / tau
    return einsum(similarity.exp(), mask, "m q, m -> q")


def unbounded(now, every, most, given):
    return frames_kept(now, every, 1000, given)


def crossings(x, y, outline, closed=True, half_open=True, right_only=True, signed=False):
    count = 0
    ends = outline.roll(-1, dims=0).tolist()
    for (x0, y0), (x1, y1) in list(zip(outline.tolist(), ends))[: None if closed else -1]:
        meets = (y0 <= y < y1 or y1 <= y < y0) if half_open else y0 != y1 and (y0 <= y <= y1 or y1 <= y <= y0)
        if meets and (not right_only or x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x):
            count += (1 if y1 > y0 else -1) if signed else 1
    return count


def shows_through(cut, background):
    return cut[..., 3:] / 255 * cut[..., :3] + background


WRONG = [
    ("inside", lambda *a: crossings(*a, closed=False) % 2, "goes from the last point to the first"),
    ("inside", lambda *a: crossings(*a, half_open=False) % 2, "a ray through a corner"),
    ("inside", lambda *a: crossings(*a, right_only=False) % 2, "edges to the left"),
    ("inside", lambda *a: crossings(*a, signed=True) != 0, "the non-zero rule"),
    ("inside", lambda *a: crossings(*a) % 2 == 0, "odd is inside"),
    ("over", lambda cut, b: over(cut * torch.tensor([1, 1, 1, 255.0]), b), "divide by 255"),
    ("over", lambda cut, b: cut[..., :3] + b - over(cut, b), "the other way round"),
    ("over", lambda cut, b: torch.where(cut[..., 3:] > 127, cut[..., :3], b), "with scissors"),
    ("over", shows_through, "counts only 1 - alpha"),
    ("over", lambda cut, b: over(cut, b)[..., :2], "expected H W c = ("),
    ("propagate", lambda *a: propagate(*a, normalised=False), "counts lengths too"),
    ("propagate", over_q, "softmax over m, not over q"),
    ("propagate", lambda k, x, mask, tau: propagate(k, x, mask, 1 / tau), "divide by the temperature"),
    ("propagate", lambda k, x, mask, tau: propagate(k, x, mask, 1.0), "temperature is not used"),
    ("propagate", best_alone, "best match alone"),
    ("propagate", not_normalised, "do not sum to one"),
    ("propagate", lambda k, x, mask, tau: propagate(k, x, mask, tau)[:-1], "expected q ="),
    ("frames_kept", unbounded, "at most `most` frames"),
    ("frames_kept", lambda n, e, most, g: unbounded(n, e, most, g)[-most:], "it always stays"),
    ("frames_kept", lambda *a: frames_kept(*a, corrected_stay=False), "leave too early"),
    ("frames_kept", lambda *a: frames_kept(*a, restart=False), "starts the count anew"),
    ("frames_kept", lambda n, *a: frames_kept(n + 1, *a), "it has no mask yet"),
    ("frames_kept", lambda *a: frames_kept(*a).tolist(), "it returns a list"),
]


@pytest.mark.parametrize("name, wrong, advice", WRONG, ids=[f"{name}: {advice}" for name, _, advice in WRONG])
def test_mistakes_are_named(name, wrong, advice, capsys):
    assert not getattr(check, name)(wrong)
    said = capsys.readouterr().out
    assert said.startswith("not yet: ") and advice in said
