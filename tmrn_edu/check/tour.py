"""Checkers of notebook 00."""

import torch

from tmrn_edu.check.trial import trial
from tmrn_edu.metrics import region_similarity


def intersection_over_union(function) -> bool:
    """`function(prediction, truth)` of two boolean masks `H W` is J; 1 where both are empty."""

    def mask(seed, share, size=(9, 13)):
        return torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share

    empty = torch.zeros(9, 13, dtype=torch.bool)
    some = mask(0, 0.4)
    cases = [(some, mask(1, 0.5)), (some, some), (mask(2, 0.1), mask(3, 0.9)), (some, empty), (empty, empty)]
    return trial(
        function,
        region_similarity,
        cases,
        passed="J is the overlap, 1 for two empty masks",
        mistakes=[
            (
                lambda p, t: (p == t).double().mean(),
                "that is the share of pixels that agree; a large background would make it large",
            ),
            (
                lambda p, t: 2 * (p & t).sum() / (p.sum() + t.sum()).clamp(min=1),
                "that is Dice, 2 |A and B| / (|A| + |B|); J divides by the union",
            ),
            (lambda p, t: (p & t).sum() / (p | t).sum(), "two empty masks agree perfectly: J = 1 there, not 0 / 0"),
            (
                lambda p, t: (p & t).sum() / (p | t).sum().clamp(min=1),
                "two empty masks agree perfectly: J = 1 there, not 0",
            ),
        ],
    )
