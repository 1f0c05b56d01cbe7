# %% [markdown]
# # 09 · Your own video: worked answers

# %%
import torch
from einops import einsum, reduce

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** Divide every key by its length, and the dot product is the cosine. The softmax runs over `m`, so that a query pixel's weights sum to one and its answer is a mean.


# %% tags=["exercise"]
def propagate(memory_key, query_key, mask, temperature):
    """Each query pixel's mean of the mask, weighted by the softmax over m of cosine / temperature. ck m, ck q, m -> q."""
    memory_key = memory_key / reduce(memory_key**2, "ck m -> 1 m", "sum").sqrt()
    query_key = query_key / reduce(query_key**2, "ck q -> 1 q", "sum").sqrt()
    weights = (einsum(memory_key, query_key, "ck m, ck q -> m q") / temperature).softmax(dim=0)
    return einsum(weights, mask, "m q, m -> q")


# %% tags=["check"]
assert te.check.propagate(propagate)

# %% [markdown]
# **Exercise 2.** Go through the frames as the segmenter does. When one joins and memory is full, look for the oldest frame after the first whose mask was predicted; if there is none, the oldest after the first goes.


# %% tags=["exercise"]
def frames_kept(now, every, most, given):
    """Frames in memory when frame `now` is segmented, ascending, as a tensor.

    A frame joins when its mask was given (`given`: a tuple, with 0 in it) or `every` frames after the last that joined.
    Memory holds at most `most` of them, 2 or more.
    """
    kept, last = [], 0
    for t in range(now):
        if t in given or t - last == every:
            if len(kept) == most:
                predicted = [frame for frame in kept[1:] if frame not in given]
                kept.remove(predicted[0] if predicted else kept[1])
            kept.append(t)
            last = t
    return torch.tensor(kept)


# %% tags=["check"]
assert te.check.frames_kept(frames_kept)

# %% [markdown]
# And so it is in a real run: after each frame, what the `Segmenter` holds is what the function says for the next one.

# %%
network = te.load("stcn-tiny")
clip = te.data.synthetic.make_clip(seed=1, level="easy", frames=40, size=(32, 48))
segmenter = te.Segmenter(network, memory_every=4, max_frames=4)
for t, frame in enumerate(clip.frames):
    _ = segmenter.step(frame, clip.index_masks[t] if t in (0, 13) else None)
    held = [stored.index for stored in segmenter.groups[0].memory.frames]
    assert held == frames_kept(t + 1, 4, 4, (0, 13)).tolist()
print("after 40 frames memory holds", held)
