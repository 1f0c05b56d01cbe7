# %% [markdown]
# # 00 · Tour: worked answer

# %%
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
# The package's own is `te.metrics.region_similarity`.
