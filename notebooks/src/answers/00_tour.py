# %% [markdown]
# # 00 · Tour: worked answers

# %%
import torch

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Count the pixels in both and in either. Two empty masks agree perfectly, so that case gets a 1; without it the division is 0 / 0, which is NaN, and one NaN frame would spoil the mean of the whole clip.


# %% tags=["exercise"]
def intersection_over_union(prediction, truth):
    """J of two boolean masks `H W`: a number in [0, 1], and 1 if both are empty."""
    union = (prediction | truth).sum()
    return (prediction & truth).sum() / union if union > 0 else 1.0


# %% tags=["check"]
assert te.check.intersection_over_union(intersection_over_union)

# %% [markdown]
# The package's own is [`region_similarity`](../../tmrn_edu/frame_metrics.py#L27).
#
# **Exercise 2.** `argmax` over `m` gives one place a frame. Cells are counted row by row, and a row is `width` cells long: how many whole rows lie before place `m` is `y`, what is left over is `x`. The height is not needed.


# %% tags=["exercise"]
def best_cells(affinity, height, width):
    """The brightest cell (y, x) of each memory frame. affinity: t m, on a grid height x width. Returns t 2."""
    m = affinity.argmax(dim=1)
    return torch.stack([m // width, m % width], dim=1)


# %% tags=["check"]
assert te.check.best_cells(best_cells)

# %% [markdown]
# With einops the same step reads as a pattern. The places of all cells, laid out on the grid, are looked up by `m`:

# %%
from einops import rearrange

places = rearrange(torch.stack(torch.meshgrid(torch.arange(4), torch.arange(7), indexing="ij")), "yx h w -> (h w) yx")
affinity = torch.randn(3, 28).softmax(dim=1)
assert torch.equal(places[affinity.argmax(dim=1)], best_cells(affinity, 4, 7))
print("counting rows and looking places up: the same cells")
