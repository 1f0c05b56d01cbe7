# %% [markdown]
# # 01 · Reading a memory: worked answers

# %%
import torch
from einops import einsum, rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Expand the square. The cross term is one einsum; the two norms are one number per memory pixel and one per query pixel, so they broadcast. The largest tensor is the result itself.


# %% tags=["exercise"]
def squared_l2(memory_key, query_key):
    """-|memory key - query key|^2 / sqrt(ck) for memory keys `b t ck h w` and query keys `b ck h w`: `b t m q`."""
    memory_rows = rearrange(memory_key, "b t ck h w -> b t (h w) ck")
    query_rows = rearrange(query_key, "b ck h w -> b (h w) ck")
    overlap = einsum(memory_rows, query_rows, "b t m ck, b q ck -> b t m q")
    memory_square = reduce(memory_rows**2, "b t m ck -> b t m 1", "sum")
    query_square = reduce(query_rows**2, "b q ck -> b 1 1 q", "sum")
    return (2 * overlap - memory_square - query_square) / memory_key.shape[2] ** 0.5


# %% tags=["check"]
assert te.check.squared_l2(squared_l2)

# %% [markdown]
# **Exercise 2.** (In the package: [`softmax_over_memory`](../../tmrn_edu/memory/affinity.py#L30).) Put `t` and `m` on one axis, so that one softmax sees both, and part them again. `softmax` subtracts the maximum itself, so large scores are safe.


# %% tags=["exercise"]
def space_time_weights(similarity):
    """Scores `b t m q` -> weights `b t m q` that sum to one over (t m)."""
    together = rearrange(similarity, "b t m q -> b (t m) q").softmax(dim=1)
    return rearrange(together, "b (t m) q -> b t m q", t=similarity.shape[1])


# %% tags=["check"]
assert te.check.space_time_weights(space_time_weights)

# %% [markdown]
# **Exercise 3.** The way through the weights is `reduce(space_time_weights(s), "b t m q -> b t q", "sum")`. The other needs no weights at all: the sum of $\exp s$ over one frame, divided by the sum over all frames, is the softmax of its logarithm. So a reader can meet memory frames one at a time and keep one number per frame and query pixel.


# %% tags=["exercise"]
def frame_shares(similarity):
    """Scores `b t m q` -> how much of each query pixel's weight falls on each frame, `b t q`; sums to one over t."""
    evidence = similarity.logsumexp(dim=2)
    return evidence.softmax(dim=1)


# %% tags=["check"]
assert te.check.frame_shares(frame_shares)

# %%
similarity = torch.randn(2, 4, 18, 7)
through_weights = reduce(space_time_weights(similarity), "b t m q -> b t q", "sum")
torch.testing.assert_close(frame_shares(similarity), through_weights)
print("both ways agree")
