# %% [markdown]
# # 06 · XMem: worked answers

# %%
import torch
from einops import einsum, rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Expand $\sum_c e_{qc} (k_c - q_c)^2$. Each of the three terms is one einsum or one sum, and no tensor is larger than the result. Only the first two need a memory pixel and a query pixel at once. The shrinkage multiplies all of them, so it comes last.


# %% tags=["exercise"]
def anisotropic_l2(memory_key, query_key, shrinkage, selection):
    """- shrinkage[m] sum_c selection[c,q] (key[c,m] - query[c,q])^2 / sqrt(ck): `b t m q`."""
    memory = rearrange(memory_key, "b t ck h w -> b t ck (h w)")
    query = rearrange(query_key, "b ck h w -> b ck (h w)")
    selected = rearrange(selection, "b ck h w -> b ck (h w)")
    memory_square = einsum(memory**2, selected, "b t ck m, b ck q -> b t m q")
    cross = einsum(memory, selected * query, "b t ck m, b ck q -> b t m q")
    query_square = reduce(selected * query**2, "b ck q -> b 1 1 q", "sum")
    distance = memory_square - 2 * cross + query_square
    return -rearrange(shrinkage, "b t 1 h w -> b t (h w) 1") * distance / memory_key.shape[2] ** 0.5


# %% tags=["check"]
assert te.check.anisotropic_l2(anisotropic_l2)

# %% [markdown]
# **Exercise 2.** The term is the third one of exercise 1, times the shrinkage. Its shape says why it must stay: with the shrinkage it depends on $m$.


# %% tags=["exercise"]
def left_out(query_key, shrinkage, selection):
    """The term in query^2 of the anisotropic L2, minus sign, shrinkage and 1 / sqrt(ck) included: `b t m q`."""
    query_square = reduce(selection * query_key**2, "b ck h w -> b (h w)", "sum") / query_key.shape[1] ** 0.5
    picky = rearrange(shrinkage, "b t 1 h w -> b t (h w)")
    return -einsum(picky, query_square, "b t m, b q -> b t m q")


# %% tags=["check"]
assert te.check.left_out(left_out)

# %% [markdown]
# **Exercise 3.** `chunk(3, dim=2)`, which the package's [`GatedUpdate`](../../tmrn_edu/memory/sensory.py#L21) uses, does the same as the pattern with `three`. If $h$ lies between -1 and 1, so does $h'$: it is at most $(1 - u) \cdot 1 + u \cdot 1$. That is why the state can be carried through a video of any length.


# %% tags=["exercise"]
def gated_update(gates, sensory):
    """The next sensory memory `b o cs h w`, from the convolution's output `b o (3 cs) h w` and the one before."""
    f, u, n = rearrange(gates, "b o (three cs) h w -> three b o cs h w", three=3)
    f, u, n = f.sigmoid(), u.sigmoid(), n.tanh()
    return f * sensory * (1 - u) + u * n


# %% tags=["check"]
assert te.check.gated_update(gated_update)

# %% [markdown]
# **Exercise 4.** The clock counts from the *last* memory frame, so a mask that comes in between sets it back. A number modulo 5 would not notice.


# %% tags=["exercise"]
def memory_frames(given, every):
    """Which frames join the memory, bool `t`. given: bool `t`, which frames came with a mask (frame 0 did)."""
    joins, last = torch.zeros_like(given), 0
    for t in range(len(given)):
        if given[t] or t - last >= every:
            joins[t], last = True, t
    return joins


# %% tags=["check"]
assert te.check.memory_frames(memory_frames)
