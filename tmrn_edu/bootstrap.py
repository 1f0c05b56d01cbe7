"""How sure a mean is: bootstrap intervals, so that a difference of noise size is seen as such.

Objects and frames of one video resemble each other, so chance is in which videos a set happens to have: whole videos
are drawn, with replacement, as many as there are, and the mean is taken anew; 95 % of the draws' means lie in the
interval. For a difference of two methods the same videos are drawn for both (paired): give the differences.

Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile interval). Draws of whole
groups, and the least number of them, are ours.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

DRAWS = 10_000
SEED = 0
ENDS = (2.5, 97.5)  # percent of the draws that lie below the two ends
FEW = 6  # of fewer groups no interval is believed: if chance decides, n groups all go one way in 2 of 2^n cases, of 5 in 1 of 16


class Interval(NamedTuple):
    """A mean and the ends of its 95 % interval, in the unit of the values."""

    mean: float
    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Of a difference: whether zero lies outside, so that its sign is hardly chance."""
        return self.low > 0 or self.high < 0


def interval(values: np.ndarray, groups: Sequence[str]) -> Interval:
    """Mean over groups (each the mean of its own values), and the ends of its 95 % interval: percentiles of the means of 10,000 draws of groups.

    `values`: one number an item, for paired comparisons a difference; `groups`: which group each item belongs to (a clip, a source video), since
    items of one group go together. Seeded: the same input gives the same interval. Source: Efron's percentile bootstrap, by groups.
    """
    means = np.array([values[[g == group for g in groups]].mean() for group in dict.fromkeys(groups)])
    draws = np.random.default_rng(SEED).choice(means, size=(DRAWS, len(means))).mean(axis=1)
    low, high = np.percentile(draws, ENDS)
    return Interval(float(means.mean()), float(low), float(high))


def draw_counts(groups: int) -> Float[np.ndarray, "draws groups"]:
    """How often each of so many groups is in each of 10,000 draws; a row sums to `groups`. The same in every call.

    For means that are not of groups alike: `counts @ sums / (counts @ sizes)` is the mean over items, of every draw.
    """
    drawn = np.random.default_rng(SEED).integers(groups, size=(DRAWS, groups))
    cells = drawn + groups * np.arange(DRAWS)[:, None]  # one line of counters, a stretch of it for each draw
    return np.bincount(cells.ravel(), minlength=DRAWS * groups).reshape(DRAWS, groups).astype(float)
