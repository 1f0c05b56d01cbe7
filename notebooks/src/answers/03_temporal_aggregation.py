# %% [markdown]
# # 03 · Temporal aggregation: worked answers

# %%
import torch
from einops import einsum, rearrange, reduce, repeat

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** The place of every cell, (y, x), rows first; then a mean over `m`, weighted by the affinity.


# %% tags=["exercise"]
def trajectory(affinity, height, width):
    """Expected positions (y, x), in cells. affinity: b t m q, both grids height x width. Returns b t 2 h w."""
    y = repeat(torch.arange(height), "h -> (h w)", w=width)
    x = repeat(torch.arange(width), "w -> (h w)", h=height)
    places = rearrange([y, x], "yx m -> m yx").to(affinity.dtype)
    path = einsum(affinity, places, "b t m q, m yx -> b t yx q")
    return rearrange(path, "b t yx (h w) -> b t yx h w", h=height)


# %% tags=["check"]
assert te.check.trajectory(trajectory)

# %% [markdown]
# **Exercise 2.** One softmax over `t`, one einsum. The weights have no `o`, so all objects share them.


# %% tags=["exercise"]
def pool(score, aligned_value):
    """The readout. score: b t q; aligned_value: b o t cv q. Returns b o cv q."""
    return einsum(score.softmax(dim=1), aligned_value, "b t q, b o t cv q -> b o cv q")


# %% tags=["check"]
assert te.check.pool(pool)

# %% [markdown]
# With equal scores it is the plain mean over frames:

# %%
value = torch.randn(2, 3, 4, 5, 7)
torch.testing.assert_close(pool(torch.zeros(2, 4, 7), value), reduce(value, "b o t cv q -> b o cv q", "mean"))
print("equal scores: the mean over t")

# %% [markdown]
# **Exercise 3.** Every memory cell against every centre: broadcast, square, sum over (y, x).


# %% tags=["exercise"]
def chained_score(similarity, centre, beta, gap, height, width):
    """s - beta / gap |pos(m) - c[q]|^2. similarity: b m q; centre: b 2 q, (y, x) in cells; memory grid height x width. Returns b m q."""
    y = repeat(torch.arange(height), "h -> (h w)", w=width)
    x = repeat(torch.arange(width), "w -> (h w)", h=height)
    away = rearrange([y, x], "yx m -> 1 m yx 1") - rearrange(centre, "b yx q -> b 1 yx q")
    return similarity - beta / gap * reduce(away**2, "b m yx q -> b m q", "sum")


# %% tags=["check"]
assert te.check.chained_score(chained_score)

# %% [markdown]
# The package never builds `b m yx q`. Its [`chain_prior`](../../tmrn_edu/memory/alignment.py#L35) expands the square, so that the prior becomes three more key channels and one small matrix product: $|p - c|^2 = |p|^2 - 2\,p \cdot c + |c|^2$. For the softmax $|c|^2$ could go, since it is the same for all $m$; it stays, because the evidence must know how far away the best match lies.

# %%
centre = torch.randn(2, 2, 7) + 2
grid = te.memory.alignment.grid_positions(4, 5, like=centre)
by_hand = -chained_score(torch.zeros(2, 20, 7), centre, 1.0, 1, 4, 5)
torch.testing.assert_close(te.memory.alignment.chain_prior(grid, centre), by_hand, rtol=1e-4, atol=1e-4)
print("as in tmrn_edu/memory/alignment.py")
