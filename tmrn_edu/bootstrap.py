"""How sure a mean is: bootstrap intervals, so that a difference of noise size is seen as such. Ours."""

from collections.abc import Sequence

import numpy as np

DRAWS = 10_000


def interval(values: np.ndarray, groups: Sequence[str]) -> tuple[float, float, float]:
    """Mean over groups (each the mean of its own values), and the ends of its 95 % interval: percentiles of the means of 10,000 draws of groups.

    `values`: one number an item, for paired comparisons a difference; `groups`: which group each item belongs to (a clip, a source video), since
    items of one group go together. Seeded: the same input gives the same interval. Source: Efron's percentile bootstrap, by groups.
    """
    means = np.array([values[[g == group for g in groups]].mean() for group in dict.fromkeys(groups)])
    draws = np.random.default_rng(0).choice(means, size=(DRAWS, len(means))).mean(axis=1)
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(means.mean()), float(low), float(high)
