# %% [markdown]
# # 04 · STM: worked answers

# %%
import torch
from einops import einsum, pack, rearrange, reduce, repeat

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** The others are everybody's sum without one's own mask. Where several others overlap, as soft masks may, the sum passes 1 and is clamped.


# %% tags=["exercise"]
def memory_input(image, object_masks):
    """[R, G, B, mask, others] for each object. image: b 3 H W; object_masks: b o H W in [0, 1]. Returns b o 5 H W."""
    objects = object_masks.shape[1]
    others = (reduce(object_masks, "b o H W -> b 1 H W", "sum") - object_masks).clamp(0, 1)
    return pack([repeat(image, "b c H W -> b o c H W", o=objects), torch.stack([object_masks, others], dim=2)], "b o * H W")[0]


# %% tags=["check"]
assert te.check.memory_input(memory_input)

# %% [markdown]
# **Exercise 2.** The letter `o` stands in the keys as well as in the values, so it is in the affinity too. The softmax runs over `(t m)` of each object.


# %% tags=["exercise"]
def read_objects(memory_key, query_key, memory_value):
    """Each object's own space-time read. b o t ck m, b ck q, b o t cv m -> b o cv q."""
    scores = einsum(memory_key, query_key, "b o t ck m, b ck q -> b o t m q") / memory_key.shape[3] ** 0.5
    together = rearrange(scores, "b o t m q -> b o (t m) q").softmax(dim=2)
    return einsum(together, rearrange(memory_value, "b o t cv m -> b o (t m) cv"), "b o n q, b o n cv -> b o cv q")


# %% tags=["check"]
assert te.check.read_objects(read_objects)

# %% [markdown]
# **Exercise 3.** The odds of the background are those of "none of the objects". Clamp after that product, so that the background's own 0 and 1 are kept from infinity too.


# %% tags=["exercise"]
def soft_aggregate(object_probabilities):
    """b o H W in [0, 1] -> b l H W, background first, summing to one over l."""
    background = reduce(1 - object_probabilities, "b o H W -> b 1 H W", "prod")
    p = torch.cat([background, object_probabilities], dim=1).clamp(1e-7, 1 - 1e-7)
    odds = p / (1 - p)
    return odds / reduce(odds, "b l H W -> b 1 H W", "sum")


# %% tags=["check"]
assert te.check.soft_aggregate(soft_aggregate)

# %% [markdown]
# The package's [`soft_aggregation`](../../tmrn_edu/masks.py#L64) takes the softmax of $\log(p / (1 - p))$, which is the same and safer with numbers as large as $10^7$.
#
# **Exercise 4.** `arange` stops before `now`: a frame cannot be read before it has a mask. `unique` sorts, and drops the frame before where it is a fifth one anyway.


# %% tags=["exercise"]
def frames_read(now, every):
    """Numbers of the memory frames for frame `now`, ascending: 0, every, 2 every, ... and the one before, each once. A tensor n."""
    return torch.cat([torch.arange(0, now, every), torch.tensor([now - 1])]).unique()


# %% tags=["check"]
assert te.check.frames_read(frames_read)
