"""Small random cases to try an answer on: the first ones tiny, later ones larger, and some axes of size 1 among them.

    cases = examples(lambda draw: (3 * draw.normal("b t m q"), draw.integer(1, 9)))

Twenty cases, each a tuple of arguments. The seeds are fixed: the same cases every time. `trial` names the smallest one that fails.
"""

import math
import re
from collections.abc import Callable
from itertools import count as count_up
from itertools import islice

import torch
from torch import Tensor

TINY, SMALL = 2, 5  # how many sizes an axis chooses among, in the first case and in the last


class Draw:
    """What draws the arguments of one case.

    An axis gets its size where its letter is met first, and keeps it: `normal("b t m q")` and `normal("b q")` fit. Axes are written as
    in einops: "b (h w) q" has h w positions, the numbers in "b 3 H W" and "b (3 cs)" are sizes themselves. Source: ours.
    """

    def __init__(self, seed: int, sizes: int = SMALL, different: bool = False):
        """`sizes`: how many sizes an axis chooses among; `different`: no two axes have the same, so that swapped ones are seen."""
        self._generator = torch.Generator().manual_seed(seed)
        self._choices, self._different = sizes, different
        self._sizes: dict[str, int] = {}

    def size(self, axis: str, least: int = 1) -> int:
        """The size of an axis; `least` is the smallest it may get, for a letter that is new."""
        if axis.isdigit():
            return int(axis)
        if axis not in self._sizes:
            taken = self._sizes.values() if self._different else ()
            free = islice((size for size in count_up(least) if size not in taken), self._choices)
            self._sizes[axis] = self.choice(*free)
        return self._sizes[axis]

    def shape(self, axes: str) -> tuple[int, ...]:
        """The sizes of several axes, such as "b (h w) q"."""
        groups = re.findall(r"\(.*?\)|\S+", axes)
        return tuple(math.prod(self.size(axis) for axis in group.strip("()").split()) for group in groups)

    def normal(self, axes: str) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(self.shape(axes), generator=self._generator)

    def uniform(self, axes: str) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(self.shape(axes), generator=self._generator)

    def integers(self, axes: str, low: int, high: int) -> Tensor:
        """Whole numbers from `low` to `high`, both included."""
        return torch.randint(low, high + 1, self.shape(axes), generator=self._generator)

    def integer(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(self.integers("", low, high))

    def number(self, low: float | int, high: float | int) -> float:
        """A number in [low, high], of two decimals, so that a message can show all of it."""
        return round(low + (high - low) * float(self.uniform("")), 2)

    def choice(self, *options):
        """One of them, all equally likely."""
        return options[self.integer(0, len(options) - 1)]


def examples(build: Callable[[Draw], tuple], count: int = 20) -> list[tuple]:
    """`count` cases, each the arguments that `build` makes with a `Draw` of its own.

    Axes of the first case have 1 or 2 positions, those of the last up to 5. In every second case all axes differ in size, which may take
    larger ones. Deterministic; the global random numbers stay as they are. Source: after QuickCheck (Claessen and Hughes, 2000), ours.
    """
    steps = max(1, count - 1)
    return [build(Draw(n, TINY + (SMALL - TINY) * n // steps, different=n % 2 == 1)) for n in range(count)]
