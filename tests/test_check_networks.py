"""Checkers of notebooks 04 and 05: worked answers pass, and each common mistake is met with its own sentence."""

import pytest
import torch
from einops import einsum, pack, rearrange, reduce, repeat
from exercises import exercise_tests

from tmrn_edu import check


def memory_input(image, masks):
    others = (reduce(masks, "b o H W -> b 1 H W", "sum") - masks).clamp(max=1)
    image = repeat(image, "b c H W -> b o c H W", o=masks.shape[1])
    return torch.cat([image, rearrange([masks, others], "n b o H W -> b o n H W")], dim=2)


def frames_read(now, every):
    return torch.tensor([t for t in range(now) if t % every == 0 or t == now - 1])


def read_objects(memory_key, query_key, value, divide=True):
    """Object by object, frame by frame."""
    readout = []
    for o in range(memory_key.shape[1]):
        score = einsum(memory_key[:, o], query_key, "b t ck m, b ck q -> b t m q")
        score = score / memory_key.shape[3] ** 0.5 if divide else score
        exponential = (score - score.amax(dim=(1, 2), keepdim=True)).exp()
        weights = exponential / reduce(exponential, "b t m q -> b 1 1 q", "sum")
        readout.append(einsum(weights, value[:, o], "b t m q, b t cv m -> b cv q"))
    return torch.stack(readout, dim=1)


def soft_aggregate(p):
    labels = torch.cat([reduce(1 - p, "b o H W -> b 1 H W", "prod"), p], dim=1).clamp(1e-7, 1 - 1e-7)
    odds = labels / (1 - labels)
    return odds / reduce(odds, "b l H W -> b 1 H W", "sum")


def count_votes(similarity):
    best, packed = rearrange(similarity, "b t m q -> b (t m) q").argmax(dim=1), similarity.shape[1:3]
    votes = torch.stack([torch.bincount(one, minlength=packed[0] * packed[1]) for one in best])
    return rearrange(votes, "b (t m) -> b t m", t=packed[0])


def affinity_cost(frames, objects, cells, key_channels, shared):
    keys = 1 if shared else objects
    return keys * frames * cells * cells * key_channels


def top_k_weights(similarity, k):
    flat = rearrange(similarity, "b t m q -> b (t m) q")
    worst = flat.sort(dim=1, descending=True).values[:, min(k, flat.shape[1]) - 1]
    kept = flat.masked_fill(flat < rearrange(worst, "b q -> b 1 q"), -torch.inf).softmax(dim=1)
    return rearrange(kept, "b (t m) q -> b t m q", t=similarity.shape[1])


def kept_per_frame(similarity, k):
    flat = rearrange(similarity, "b t m q -> b q (t m)")
    frame = flat.argsort(dim=2, descending=True)[:, :, :k] // similarity.shape[2]
    return torch.stack([(frame == t).sum(dim=2) for t in range(similarity.shape[1])], dim=1)


def coverage(similarity):
    return (count_votes(similarity) > 0).float().mean(dim=(1, 2))


ANSWERS = {
    "memory_input": memory_input,
    "frames_read": frames_read,
    "read_objects": read_objects,
    "soft_aggregate": soft_aggregate,
    "affinity_cost": affinity_cost,
    "top_k_weights": top_k_weights,
    "kept_per_frame": kept_per_frame,
    "coverage": coverage,
}


test_worked_answers_pass, test_empty_functions_do_not = exercise_tests(ANSWERS)


def unclamped(image, masks):
    others = reduce(masks, "b o H W -> b 1 H W", "sum") - masks
    image = repeat(image, "b c H W -> b o c H W", o=masks.shape[1])
    return pack([image, torch.stack([masks, others], dim=2)], "b o * H W")[0]


def everyone(image, masks):
    total = reduce(masks, "b o H W -> b 1 H W", "sum").expand_as(masks).clamp(max=1)
    image = repeat(image, "b c H W -> b o c H W", o=masks.shape[1])
    return pack([image, torch.stack([masks, total], dim=2)], "b o * H W")[0]


def of_all_objects(memory_key, query_key, value):
    score = einsum(memory_key, query_key, "b o t ck m, b ck q -> b o t m q") / memory_key.shape[3] ** 0.5
    exponential = (score - score.amax(dim=(1, 2, 3), keepdim=True)).exp()
    weights = exponential / reduce(exponential, "b o t m q -> b 1 1 1 q", "sum")
    return einsum(weights, value, "b o t m q, b o t cv m -> b o cv q")


def overflowing(memory_key, query_key, value):
    score = einsum(memory_key, query_key, "b o t ck m, b ck q -> b o t m q") / memory_key.shape[3] ** 0.5
    weights = score.exp() / reduce(score.exp(), "b o t m q -> b o 1 1 q", "sum")
    return einsum(weights, value, "b o t m q, b o t cv m -> b o cv q")


def of_each_frame(memory_key, query_key, value):
    score = einsum(memory_key, query_key, "b o t ck m, b ck q -> b o t m q") / memory_key.shape[3] ** 0.5
    return einsum(score.softmax(dim=3), value, "b o t m q, b o t cv m -> b o cv q")


def plain_odds(p):
    labels = torch.cat([reduce(1 - p, "b o H W -> b 1 H W", "prod"), p], dim=1)
    odds = labels / (1 - labels)
    return odds / reduce(odds, "b l H W -> b 1 H W", "sum")


def normalised(p):
    labels = torch.cat([reduce(1 - p, "b o H W -> b 1 H W", "prod"), p], dim=1)
    return labels / reduce(labels, "b l H W -> b 1 H W", "sum")


def votes_in_each_frame(similarity):
    return torch.cat([count_votes(similarity[:, t : t + 1]) for t in range(similarity.shape[1])], dim=1)


def not_renormalised(similarity, k):
    weights = top_k_weights(similarity, similarity.shape[1] * similarity.shape[2])
    return weights * (top_k_weights(similarity, k) > 0)


def best_of_each_frame(similarity, k):
    return torch.cat([top_k_weights(similarity[:, t : t + 1], k) for t in range(similarity.shape[1])], dim=1)


def no_bound(similarity, k):
    flat = rearrange(similarity, "b t m q -> b (t m) q")
    best, place = flat.topk(k, dim=1)
    kept = torch.full_like(flat, -torch.inf).scatter(1, place, best).softmax(dim=1)
    return rearrange(kept, "b (t m) q -> b t m q", t=similarity.shape[1])


WRONG = [
    ("memory_input", unclamped, "clamp the sum"),
    ("memory_input", everyone, "take the object's own mask out"),
    ("memory_input", lambda i, m: memory_input(i, m)[:, :, [0, 1, 2, 4, 3]], "mask first, then others"),
    ("memory_input", lambda i, m: memory_input(i, m)[:, :, :4], "expected b o 5 H W"),
    ("frames_read", lambda now, every: torch.arange(0, now, every), "the frame before is missing"),
    ("frames_read", lambda n, e: torch.tensor([*range(0, n, e), n - 1]), "once, not twice"),
    ("frames_read", lambda n, e: torch.tensor([*range(0, n + 1, e), n - 1]).unique(), "has no mask yet"),
    ("frames_read", lambda n, e: frames_read(n, e).tolist(), "it returns a list"),
    ("read_objects", lambda k, q, v: read_objects(k, q, v, divide=False), "sqrt(ck)"),
    ("read_objects", of_all_objects, "each object has a softmax of its own"),
    ("read_objects", overflowing, "exp overflows"),
    ("read_objects", of_each_frame, "softmax over (t m)"),
    ("read_objects", lambda k, q, v: read_objects(k[:, :1].expand_as(k), q, v), "keys of the first one"),
    ("soft_aggregate", normalised, "STM normalises odds"),
    ("soft_aggregate", plain_odds, "infinite odds"),
    ("soft_aggregate", lambda p: soft_aggregate(p)[:, 1:], "the background is a label too"),
    ("soft_aggregate", lambda p: soft_aggregate(p).roll(-1, dims=1), "the background comes first"),
    (
        "soft_aggregate",
        lambda p: torch.cat([(1 - p).prod(dim=1, keepdim=True), p], dim=1).softmax(dim=1),
        "of their log odds",
    ),
    ("affinity_cost", lambda t, o, m, ck, shared: t * o * m * m * ck, "once for all objects"),
    ("affinity_cost", lambda t, o, m, ck, shared: t * m * m * ck, "compared for each"),
    ("affinity_cost", lambda t, o, m, ck, shared: affinity_cost(t, o, m, ck, not shared), "the other way round"),
    ("affinity_cost", lambda t, o, m, ck, shared: affinity_cost(t, o, m, 1, shared), "as many multiplications"),
    ("affinity_cost", lambda t, o, m, ck, shared: affinity_cost(t, o, m, ck, shared) / m, "cells times cells"),
    ("top_k_weights", not_renormalised, "no longer sum to one"),
    ("top_k_weights", best_of_each_frame, "over all frames, (t m)"),
    ("top_k_weights", lambda s, k: top_k_weights(s, s.shape[1] * s.shape[2]), "k is not used"),
    ("top_k_weights", no_bound, "k may be larger than the memory"),
    ("kept_per_frame", lambda s, k: (top_k_weights(s, k) > 0).sum(dim=2), "exp rounds to 0"),
    ("kept_per_frame", lambda s, k: (no_bound(s, k) > 0).sum(dim=2), "k may be larger than the memory"),
    ("kept_per_frame", lambda s, k: (best_of_each_frame(s, k) > 0).sum(dim=2), "you keep k in every frame"),
    ("kept_per_frame", lambda s, k: top_k_weights(s, k).sum(dim=2), "count the memory pixels"),
    ("kept_per_frame", lambda s, k: (top_k_weights(s, k) > 0).sum(dim=3), "sum over m"),
    ("coverage", lambda s: (count_votes(s) > 0).float().sum(dim=(1, 2)), "divide by how many"),
    ("coverage", lambda s: (votes_in_each_frame(s) > 0).float().mean(dim=(1, 2)), "one best match, over all frames"),
    ("coverage", lambda s: 1 - coverage(s), "never heard"),
    ("coverage", lambda s: (count_votes(s) > 0).float().sum(dim=(1, 2)) / 1728, "the lesson's 1728 memory pixels"),
    ("read_objects", lambda k, q, v: read_objects(k * (k.shape[3] / 32) ** 0.5, q, v), "the lesson's 32 channels"),
]


@pytest.mark.parametrize("name, wrong, advice", WRONG, ids=[f"{name}: {advice}" for name, _, advice in WRONG])
def test_mistakes_are_named(name, wrong, advice, capsys):
    assert not getattr(check, name)(wrong)
    said = capsys.readouterr().out
    assert said.startswith("not yet: ") and advice in said
