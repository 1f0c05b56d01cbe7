# %% [markdown]
# # 05 · STCN: worked answers

# %%
import torch
from einops import rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Every memory cell of every frame meets every query cell; a dot product takes one multiplication a channel. Keys that belong to objects have to be compared for each of them.


# %% tags=["exercise"]
def affinity_cost(frames, objects, cells, key_channels, shared):
    """Multiplications in all dot products of keys; every frame, memory and query alike, has `cells` cells. A number."""
    return frames * cells * cells * key_channels * (1 if shared else objects)


# %% tags=["check"]
assert te.check.affinity_cost(affinity_cost)

# %% [markdown]
# **Exercise 2.** Name the best match of every query pixel, and see how many different names there are.


# %% tags=["exercise"]
def coverage(similarity):
    """The share of memory pixels (t m) that are the best match of any query pixel. b t m q -> b."""
    together = rearrange(similarity, "b t m q -> b (t m) q")
    best = torch.nn.functional.one_hot(together.argmax(dim=1), together.shape[1])  # b q n
    return reduce(best.amax(dim=1).float(), "b n -> b", "mean")


# %% tags=["check"]
assert te.check.coverage(coverage)

# %% [markdown]
# **Exercise 3.** Put $-\infty$ wherever a score is not among the k best, and let the softmax do the rest: $\exp(-\infty) = 0$. Masking the *weights* would be right too, if they are divided by their new sum. The package does it in [`softmax_over_memory`](../../tmrn_edu/memory/affinity.py#L30).


# %% tags=["exercise"]
def top_k_weights(similarity, k):
    """Softmax over the k best of all (t m), zeros elsewhere. b t m q -> b t m q."""
    together = rearrange(similarity, "b t m q -> b (t m) q")
    best, place = together.topk(min(k, together.shape[1]), dim=1)
    kept = torch.full_like(together, -torch.inf).scatter(1, place, best)
    return rearrange(kept.softmax(dim=1), "b (t m) q -> b t m q", t=similarity.shape[1])


# %% tags=["check"]
assert te.check.top_k_weights(top_k_weights)

# %% [markdown]
# **Exercise 4.** Ask `topk` for the *places* of the k best, put a one at each, and sum over `m`: each frame has its number, and over the frames they add up to k (or to the whole memory, if that is smaller). Counting weights above zero is not the same: a score far below the best is one of the k best and still gets weight 0, since exp rounds to 0 in float32.


# %% tags=["exercise"]
def kept_per_frame(similarity, k):
    """How many of each query pixel's k best (over all frames) lie in each memory frame. b t m q -> b t q."""
    together = rearrange(similarity, "b t m q -> b (t m) q")
    places = together.topk(min(k, together.shape[1]), dim=1).indices
    kept = torch.zeros_like(together).scatter(1, places, 1.0)
    return reduce(kept, "b (t m) q -> b t q", "sum", t=similarity.shape[1])


# %% tags=["check"]
assert te.check.kept_per_frame(kept_per_frame)

# %%
for spread in (1, 100):
    similarity = spread * torch.randn(2, 3, 40, 100)
    assert (reduce(kept_per_frame(similarity, 20), "b t q -> b q", "sum") == 20).all()
    weighty = reduce((top_k_weights(similarity, 20) > 0).float(), "b t m q -> b q", "sum").mean()
    print(f"scores of spread {spread:3}: 20 are kept, of which {weighty:.0f} have a weight above zero, on average")
