# %% [markdown]
# # 07 · Training: worked answers

# %%
from einops import rearrange

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.courses import find_recipe
from tmrn_edu.training.schedule import curriculum

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Of all gaps whose beginning has been reached, the last one holds. Not the largest: at the end the curriculum goes back.


# %% tags=["exercise"]
def largest_gap(gaps, steps, step):
    """The largest gap at `step` of `steps`. gaps: such as ((0.0, 5), (0.1, 10), (0.9, 5)); they begin at round(share * steps)."""
    return [gap for share, gap in gaps if step >= round(share * steps)][-1]


# %% tags=["check"]
assert te.check.largest_gap(largest_gap)

# %% [markdown]
# **Exercise 2.** How far between `start` and `end` are we? Cut to 0 and 1, that is the way from 1 to `final`. In the package: [`hard_share`](../../tmrn_edu/losses.py#L26).


# %% tags=["exercise"]
def hard_share(step, start, end, final):
    """1 until step `start`, then falling linearly to `final` at step `end`, and `final` from there on. A number."""
    way = min(1.0, max(0.0, (step - start) / (end - start)))
    return 1 - way * (1 - final)


# %% tags=["check"]
assert te.check.hard_share(hard_share)

# %% [markdown]
# **Exercise 3.** One row a clip, so that no clip can crowd out another. The package starts from logits, and the rest is the same: [`bootstrapped_cross_entropy`](../../tmrn_edu/losses.py#L10).


# %% tags=["exercise"]
def bootstrapped(losses, share):
    """Mean over each clip's int(share * H * W) largest losses, then over clips. b H W -> a number."""
    rows = rearrange(losses, "b H W -> b (H W)")
    return rows.topk(int(share * rows.shape[1]), dim=1).values.mean()


# %% tags=["check"]
assert te.check.bootstrapped(bootstrapped)

# %% [markdown]
# All of it together is the [`curriculum`](../../tmrn_edu/training/schedule.py#L21) of the package, here XMem's at a few steps:

# %%
settings = find_recipe("xmem_video").settings
for step in (0, 10_000, 45_000, 90_000, 109_999):
    stage = curriculum(settings, step)
    assert stage.max_gap == largest_gap(settings.gaps, settings.steps, step)
    assert abs(stage.hard_pixels - hard_share(step, 20_000, 70_000, 0.15)) < 1e-9
    print(f"step {step:7,}: gaps up to {stage.max_gap:2}, share of pixels {stage.hard_pixels:.3f}, learning rate {stage.lr:.0e}")
