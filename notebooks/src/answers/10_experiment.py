# %% [markdown]
# # 10 · Experiment: worked answers

# %%
import torch
from einops import rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.memory.alignment import grid_positions
from tmrn_edu.memory.space_time import OWN, per_clip

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Two coordinates per cell, in one flat order for both sides; the difference of all pairs by broadcasting; squares summed over `yx`. ([`chain_prior`](../../tmrn_edu/memory/alignment.py#L35) does it as one matrix product, which is faster.)


# %% tags=["exercise"]
def square_distance(height, width):
    """|pos(m) - pos(q)|^2 between all cells of a grid of height x width cells: `m q`, floats."""
    place = rearrange(grid_positions(height, width, like=torch.zeros(())), "yx h w -> yx (h w)")
    difference = rearrange(place, "yx m -> yx m 1") - rearrange(place, "yx q -> yx 1 q")
    return reduce(difference**2, "yx m q -> m q", "sum")


# %% tags=["check"]
assert te.check.square_distance(square_distance)

# %% [markdown]
# **Exercise 2.** `step.steps` is an int while a video is segmented, and a tensor `b` where each clip of a batch has its own frame numbers. [`per_clip`](../../tmrn_edu/memory/space_time.py#L230) leaves the one alone and shapes the other, so that it goes with the evidence `b q`. The logarithm keeps the first frame of a long video in play: 100 frames ago costs only 6.7 times as much as 1 frame ago.


# %% tags=["exercise"]
class ForgetfulReader(te.memory.SpaceTimeReader):
    """e[t,q] = evidence - rate * log(1 + steps): the older a memory frame, the less it counts."""

    def __init__(self, rate=1.0, similarity=None, top_k=OWN):
        super().__init__(similarity, top_k)
        self.rate = rate

    def settings(self):
        return super().settings() | {"rate": self.rate}

    def temporal_score(self, step, query_key, aligned_value):
        evidence = step.affinity.evidence
        steps = torch.as_tensor(per_clip(step.steps, "b -> b 1", evidence), dtype=evidence.dtype)
        return evidence - self.rate * torch.log1p(steps)


# %% tags=["check"]
assert te.check.forgetful_reader(ForgetfulReader)

# %% [markdown]
# To let the network learn the rate, make it a parameter, as `NearbyReader` does with its gamma; the package has this as the option `age` of [`TrajectoryReader`](../../tmrn_edu/memory/readers.py#L35).
#
# **Exercise 3.** Everything equal but the reader, and no clip scored on which *either* run chose: a setting chosen on the scored clips flatters its score, and the other run would lose unfairly.


# %% tags=["exercise"]
def fair(one, other):
    """Whether two runs may be compared: True or False."""
    alike = all(one[name] == other[name] for name in ("start", "steps", "seed", "scored_on"))
    return alike and not one["scored_on"] & (one["chosen_on"] | other["chosen_on"])


# %% tags=["check"]
assert te.check.fair(fair)
