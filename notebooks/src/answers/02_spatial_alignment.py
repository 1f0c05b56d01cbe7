# %% [markdown]
# # 02 · Spatial alignment: worked answers

# %%
import torch
from einops import einsum, rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.viz import agents as draw

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Rows first: `(h w)` is the axis that the affinity calls `m`. The sum over `m` leaves `q`, which is a grid of the same size.


# %% tags=["exercise"]
def align(affinity, field):
    """Brings a field onto the query grid. affinity: b t m q; field: b t c h w, on the memory grid. Returns b t c h w."""
    rows = rearrange(field, "b t c h w -> b t c (h w)")
    aligned = einsum(affinity, rows, "b t m q, b t c m -> b t c q")
    return rearrange(aligned, "b t c (h w) -> b t c h w", h=field.shape[-2])


# %% tags=["check"]
assert te.check.align(align)

# %% [markdown]
# **Exercise 2.** Correct the score first, then take the softmax: multiplying the affinity by $g^\lambda$ afterwards would leave weights that no longer sum to one. $\epsilon$ keeps the logarithm finite where two pixels share no agent.


# %% tags=["exercise"]
def rectified_affinity(similarity, correlation, rectify):
    """Softmax over m of s + rectify log(g + 1e-6). similarity, correlation: b t m q; rectify: a number. Returns b t m q."""
    return (similarity + rectify * torch.log(correlation + 1e-6)).softmax(dim=2)


# %% tags=["check"]
assert te.check.rectified_affinity(rectified_affinity)

# %% [markdown]
# The two ways differ by a factor per query pixel only, so normalising afterwards is as good. Try it:

# %%
similarity, correlation = torch.randn(2, 3, 11, 7), torch.rand(2, 3, 11, 7)
late = similarity.softmax(dim=2) * (correlation + 1e-6) ** 0.5
late = late / reduce(late, "b t m q -> b t 1 q", "sum")
torch.testing.assert_close(late, rectified_affinity(similarity, correlation, 0.5))
print("normalised afterwards: the same weights")

# %% [markdown]
# **Exercise 3.** `torch.special.entr(u)` is $-u \log u$, with 0 where $u = 0$; by hand, `-u * u.log()` would give `nan` there.


# %% tags=["exercise"]
def effective_agents(likelihood):
    """How many agents are in use. likelihood: b a m, sums to one over a. Returns b."""
    share = reduce(likelihood, "b a m -> b a", "mean")
    return reduce(torch.special.entr(share), "b a -> b", "sum").exp()


# %% tags=["check"]
assert te.check.effective_agents(effective_agents)

# %% [markdown]
# It is what the package writes above its pictures, [`effective_agents`](../../tmrn_edu/viz/agents.py#L23):

# %%
likelihood = torch.randn(1, 8, 576).softmax(dim=1)
torch.testing.assert_close(effective_agents(likelihood), draw.effective_agents(likelihood))
print("as in tmrn_edu/viz/agents.py")
