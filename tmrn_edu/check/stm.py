"""Checkers of notebook 04: what the memory encoder sees, which frames are read, a read per object, soft aggregation."""

import torch
from einops import einsum, pack, rearrange, reduce, repeat
from torch import Tensor

from tmrn_edu.check.cases import Draw, examples
from tmrn_edu.check.trial import trial
from tmrn_edu.encoders import stack_masks
from tmrn_edu.masks import soft_aggregation


def memory_input(function) -> bool:
    """`function(image, object_masks)` stacks [R, G, B, mask, others] for every object: `b 3 H W`, `b o H W` -> `b o 5 H W`."""

    def case(draw: Draw) -> tuple[Tensor, Tensor]:
        image, masks = draw.uniform("b 3 H W"), draw.uniform("b o H W")
        return image, draw.choice(masks, masks.round(), 0 * masks)  # soft ones, hard ones, empty ones

    def stacked(image, masks, clamp=True, order=(0, 1)):
        both = stack_masks(image, masks)[:, :, list(order)]
        both = both.clamp(0, 1) if clamp else both
        return pack([repeat(image, "b c H W -> b o c H W", o=masks.shape[1]), both], "b o * H W")[0]

    def with_own(image, masks):
        everyone = repeat(reduce(masks, "b o H W -> b 1 H W", "sum"), "b 1 H W -> b o H W", o=masks.shape[1])
        together = torch.stack([masks, everyone], dim=2).clamp(0, 1)
        return pack([repeat(image, "b c H W -> b o c H W", o=masks.shape[1]), together], "b o * H W")[0]

    return trial(
        function,
        lambda image, object_masks: stacked(image, object_masks),
        examples(case),
        axes="b o 5 H W",
        passed="every object sees the image, its own mask, and the others'",
        mistakes=[
            (
                lambda image, masks: stacked(image, masks, clamp=False),
                "masks of several others add up to more than 1: clamp the sum to [0, 1]",
            ),
            (with_own, "the last channel holds the other objects: take the object's own mask out of the sum"),
            (
                lambda image, masks: stacked(image, masks, order=(1, 0)),
                "mask first, then others: weights are bound to this order",
            ),
        ],
    )


def frames_read(function) -> bool:
    """`function(now, every)` is which frames STM reads for frame `now`: every `every`-th from 0, and the one before; ascending."""

    def multiples(now, every):
        return torch.arange(0, now, every)

    def right(now, every):
        return torch.cat([multiples(now, every), torch.tensor([now - 1])]).unique()

    return trial(
        function,
        right,
        [(7, 5), (1, 5), (11, 5), *examples(lambda draw: (draw.integer(1, 30), draw.integer(1, 8)))],
        axes="n",
        passed="frame 0, every so many after it, and the frame before, each once",
        mistakes=[
            (
                lambda now, every: torch.cat([multiples(now, every), torch.tensor([now - 1])]),
                "when the frame before is in memory already, it is read once, not twice",
            ),
            (multiples, "the frame before is missing: STM reads it too, as memory for one step"),
            (
                lambda now, every: torch.cat([multiples(now + 1, every), torch.tensor([now - 1])]).unique(),
                "frame `now` has no mask yet: it cannot be read",
            ),
        ],
    )


def read_objects(function) -> bool:
    """`function(memory_key, query_key, memory_value)`: `b o t ck m`, `b ck q`, `b o t cv m` -> `b o cv q`, each object its own softmax."""

    def case(draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        memory_key = draw.choice(1.0, 2.0, 60.0) * draw.normal("b o t ck m")  # the last: scores whose exp overflows
        return memory_key, draw.normal("b ck q"), draw.normal("b o t cv m")

    def right(memory_key, query_key, memory_value):
        return read(memory_key, query_key, memory_value)

    def read(memory_key, query_key, value, scale=None, over="m"):
        scale = memory_key.shape[3] ** -0.5 if scale is None else scale
        score = scale * einsum(memory_key, query_key, "b o t ck m, b ck q -> b o t m q")
        objects, frames = score.shape[1:3]
        if over == "all":
            flat = rearrange(score, "b o t m q -> b (o t m) q").softmax(dim=1)
            weights = rearrange(flat, "b (o t m) q -> b o t m q", o=objects, t=frames)
        elif over == "frame":
            weights = score.softmax(dim=3)
        elif over == "exp":
            weights = score.exp() / reduce(score.exp(), "b o t m q -> b o 1 1 q", "sum")
        else:
            flat = rearrange(score, "b o t m q -> b o (t m) q").softmax(dim=2)
            weights = rearrange(flat, "b o (t m) q -> b o t m q", t=frames)
        return einsum(weights, value, "b o t m q, b o t cv m -> b o cv q")

    return trial(
        function,
        right,
        examples(case),
        axes="b o cv q",
        passed="every object reads its own memory, by its own keys",
        mistakes=[
            (
                lambda k, q, v: read(k, q, v, scale=1.0),
                "divide the scores by sqrt(ck)",
            ),
            (
                lambda k, q, v: read(k, q, v, scale=32**-0.5),
                "a size is written into your function, the lesson's 32 channels; take it from the arguments",
            ),
            (
                lambda k, q, v: read(k, q, v, over="frame"),
                "your weights sum to one in every frame; all frames of an object compete: softmax over (t m)",
            ),
            (
                lambda k, q, v: read(k, q, v, over="all"),
                "your weights sum to one over all objects together; each object has a softmax of its own",
            ),
            (
                lambda k, q, v: read(repeat(k[:, 0], "b t ck m -> b o t ck m", o=k.shape[1]), q, v),
                "all objects read by the keys of the first one; in STM keys belong to objects",
            ),
            (
                lambda k, q, v: read(k, q, v, over="exp"),
                "right for small scores, but exp overflows for large ones",
            ),
        ],
    )


def soft_aggregate(function) -> bool:
    """`function(object_probabilities)` is STM's soft aggregation, background first: `b o H W` -> `b l H W`."""

    def case(draw: Draw) -> tuple[Tensor]:
        p = draw.uniform("b o H W")
        return (
            draw.choice(p, (3 * p - 1).clamp(0, 1)),
        )  # the other: certain pixels, whose odds are infinite without a clamp

    def labels(p):
        return torch.cat([reduce(1 - p, "b o H W -> b 1 H W", "prod"), p], dim=1)

    return trial(
        function,
        soft_aggregation,
        examples(case),
        axes="b l H W",
        passed="odds, normalised over background and objects",
        mistakes=[
            (
                lambda p: labels(p) / reduce(labels(p), "b l H W -> b 1 H W", "sum"),
                "you normalise probabilities; STM normalises odds, p / (1 - p)",
            ),
            (lambda p: labels(p).softmax(dim=1), "a softmax of probabilities; the softmax is of their log odds"),
            (
                lambda p: soft_aggregation(p)[:, 1:],
                "the background is a label too, and comes first",
            ),
            (
                lambda p: torch.cat([soft_aggregation(p)[:, 1:], soft_aggregation(p)[:, :1]], dim=1),
                "the background comes first, then the objects",
            ),
            (
                lambda p: (
                    (labels(p) / (1 - labels(p))) / reduce(labels(p) / (1 - labels(p)), "b l H W -> b 1 H W", "sum")
                ),
                "right, but a probability of exactly 1 has infinite odds: clamp to [1e-7, 1 - 1e-7] first",
            ),
        ],
    )
