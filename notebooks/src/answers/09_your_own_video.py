# %% [markdown]
# # 09 · Your own video: worked answers

# %%
import torch
from einops import einsum, reduce

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# **Exercise 1.** An edge is crossed where one of its ends lies at the ray's height or above and the other below, and where it meets that height to the right of the point. "At or above" for one end and "below" for the other is what makes a corner count once: of the two edges that meet there, one has it as its upper end.


# %% tags=["exercise"]
def inside(x, y, outline):
    """Whether (x, y) lies inside the outline, points (x, y), n 2: True or False, by the even-odd rule."""
    crossed = 0
    for (x0, y0), (x1, y1) in zip(outline.tolist(), outline.roll(-1, dims=0).tolist()):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x:
            crossed += 1
    return crossed % 2 == 1


# %% tags=["check"]
assert te.check.inside(inside)

# %% [markdown]
# **Exercise 2.** Divide every key by its length, and the dot product is the cosine. The softmax runs over `m`, so that a query pixel's weights sum to one and its answer is a mean; the package's is [`softmax_over_memory`](../../tmrn_edu/memory/affinity.py#L30).


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
# **Exercise 3.** Go through the frames as the segmenter does. When one joins and memory is full, look for the oldest frame after the first whose mask was predicted; if there is none, the oldest after the first goes.


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
# And so it is in a real run: after each frame, what the [`Segmenter`](../../tmrn_edu/segmenter.py#L70) holds is what the function says for the next one. The rule itself is in [`WorkingMemory.add`](../../tmrn_edu/memory/working.py#L136).

# %%
network = te.load("stcn-tiny")
clip = te.data.synthetic.make_clip(seed=1, level="easy", frames=40, size=(32, 48))
segmenter = te.Segmenter(network, memory_every=4, max_frames=4)
for t, frame in enumerate(clip.frames):
    _ = segmenter.step(frame, clip.index_masks[t] if t in (0, 13) else None)
    held = [stored.index for stored in segmenter.groups[0].memory.frames]
    assert held == frames_kept(t + 1, 4, 4, (0, 13)).tolist()
print("after 40 frames memory holds", held)

# %% [markdown]
# **Exercise 4.** Where alpha is 255 the cut-out is seen, where it is 0 the background, and in between a mean of both.


# %% tags=["exercise"]
def over(cut, background):
    """The cut-out, red green blue alpha in 0..255, H W 4, over a background H W 3, as floats H W 3."""
    alpha = cut[..., 3:] / 255
    return alpha * cut[..., :3] + (1 - alpha) * background


# %% tags=["check"]
assert te.check.over(over)
