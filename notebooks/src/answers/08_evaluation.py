# %% [markdown]
# # 08 · Evaluation: worked answers

# %%
import numpy as np
import torch
from einops import reduce

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.bootstrap import interval
from tmrn_edu.viz.metrics import boundary_pixels

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** A pixel is matched when its *nearest* counterpart is near enough: a minimum over the other outline. Rows give precision, columns recall. Where nothing is matched, F is 0.


# %% tags=["exercise"]
def f_measure(distances, tolerance):
    """F of two outlines. distances: n m, from each predicted to each true boundary pixel; matched: at most `tolerance` away."""
    near = (distances <= tolerance).float()
    precision = reduce(near, "n m -> n", "max").mean()
    recall = reduce(near, "n m -> m", "max").mean()
    return 2 * precision * recall / (precision + recall).clamp_min(1e-9)


# %% tags=["check"]
assert te.check.f_measure(f_measure)

# %% [markdown]
# It is the package's F, [`boundary_accuracy`](../../tmrn_edu/frame_metrics.py#L43), with the tolerance in pixels:

# %%
rng = np.random.default_rng(0)
masks = [te.data.synthetic.make_clip(seed, "easy", frames=1).index_masks[0].numpy() == 1 for seed in (3, 7)]
predicted, true = (torch.tensor(np.argwhere(boundary_pixels(mask))).float() for mask in masks)
for tolerance in (1, 2, 5, 20):
    found = float(f_measure(torch.cdist(predicted, true), tolerance))
    assert abs(found - te.metrics.boundary_accuracy(*masks, tolerance=tolerance)) < 1e-5
    print(f"tolerance {tolerance:2} pixels: F {found:.2f}")

# %% [markdown]
# **Exercise 2.** Frames of an object: those after its first appearance, without the clip's last. Hidden frames are among them. The mean of each object first, then over objects. In the package: [`scored_frames`](../../tmrn_edu/metrics.py#L184) and [`score`](../../tmrn_edu/metrics.py#L110).


# %% tags=["exercise"]
def mean_over_objects(J, visible):
    """The J that DAVIS reports. J: o t, of every object in every frame; visible: o t, bool, where the object is in the truth."""
    means = []
    for values, seen in zip(J, visible):
        first = int(seen.nonzero()[0])
        means.append(values[first + 1 : -1].mean())
    return torch.stack(means).mean()


# %% tags=["check"]
assert te.check.mean_over_objects(mean_over_objects)

# %% [markdown]
# **Exercise 3.** Pair first, by subtracting; then draw; then average; then look how the averages lie. The package's [`interval`](../../tmrn_edu/bootstrap.py#L35) does this with 10,000 draws.


# %% tags=["exercise"]
def paired_interval(baseline, other, draws):
    """Ends of the 95 % interval of mean(other - baseline): percentiles 2.5 and 97.5 over draws, as a tensor of 2.

    baseline, other: k, a score for each clip. draws: d k, the numbers of the clips that each draw took.
    """
    means = reduce((other - baseline)[draws], "d k -> d", "mean")
    return means.quantile(torch.tensor([0.025, 0.975]))


# %% tags=["check"]
assert te.check.paired_interval(paired_interval)

# %% [markdown]
# And what would happen to two networks with clips of their own each, so that nothing can be paired? Scores of thirty clips, hard and easy ones, and a network that gains two points, more or less, on each:

# %%
hardness = rng.uniform(0.3, 0.9, 30)
baseline, other = hardness, hardness + 0.02 + rng.normal(0, 0.02, 30)
clips = [str(clip) for clip in range(30)]
paired = interval(other - baseline, clips)
draws = rng.integers(30, size=(2, 10_000, 30))
apart = np.percentile(other[draws[0]].mean(axis=1) - baseline[draws[1]].mean(axis=1), [2.5, 97.5])
print(f"the same clips: [{100 * paired.low:+.1f}, {100 * paired.high:+.1f}] points; each its own: [{100 * apart[0]:+.1f}, {100 * apart[1]:+.1f}]")
assert paired.excludes_zero() and apart[0] < 0 < apart[1]
