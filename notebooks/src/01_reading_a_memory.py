# %% [markdown]
# # 01 · Reading a memory
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/01_reading_a_memory.ipynb)
#
# **The question.** A pixel of a new frame asks the past: *have you seen me before, and was I the object?* How does it ask, and what exactly is the answer?
#
# You will compute the answer three times, with loops, with one line of einops, and with the package, and see that all three agree. This is the read of STM, STCN and XMem; TMRN (notebooks 02 and 03) changes this step and nothing else. About 25 minutes, and 20 for the exercises.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import torch
from einops import einsum, rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)
_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## The clip of this notebook
#
# Frames 0, 2 and 4 are **memory**: their masks are known. Frame 6 is the **query**: it has no mask, and its pixels ask. Below the target moves a second magenta shape, a look-alike; in frame 6 it is hidden behind the target.

# %%
clip = te.data.synthetic.make_clip(seed=23, level="medium")
memory, query = [0, 2, 4], 6
known = torch.cat([clip.index_masks[memory], torch.zeros(1, 96, 96, dtype=torch.uint8)])
titles = ["memory 0", "memory 2", "memory 4", "query 6"]
te.viz.contact_sheet(clip.frames[[*memory, query]], known, titles=titles, alpha=0, thickness=2, dpi=70)

# %% [markdown]
# ## Shapes as patterns: einops
#
# The code of these lessons names the axes of a tensor instead of counting them. A pattern says what goes in and, after the arrow, what comes out:
#
# - `rearrange` moves axes. Parentheses are a product: `(h w)` is one axis that runs over all cells, row by row. `1` makes a new axis of size one.
# - `reduce` drops axes that are missing after the arrow, here by summing over them.
# - `einsum` multiplies tensors; a letter missing after the arrow is summed over.

# %%
tiny = torch.arange(12.0).reshape(2, 2, 3)  # ck h w: two channels on a grid of 2 x 3 cells
cells = rearrange(tiny, "ck h w -> (h w) ck")
print("rearrange, (h w)      ", tuple(cells.shape))
print("rearrange, taken apart", tuple(rearrange(cells, "(h w) ck -> h w ck", h=2).shape), "  one of the two sizes must be told")
print("rearrange, new axis   ", tuple(rearrange(cells, "m ck -> 1 m ck").shape))
print("reduce, over ck       ", tuple(reduce(cells, "m ck -> m", "sum").shape))
print("einsum, over ck       ", tuple(einsum(cells, cells, "m ck, q ck -> m q").shape), "  the dot products of all pairs of cells")

# %% [markdown]
# ## Keys: what is matched
#
# A network turns every frame into a grid of **keys**, one vector of `ck` numbers per cell. Our small STCN has one cell for every 4 x 4 pixels. In [`STCN`](../tmrn_edu/networks/stcn.py#L87) keys come from the image alone, not from the mask, so query and memory frames use the same encoder ([`STCN.encode`](../tmrn_edu/networks/stcn.py#L122)).

# %%
network = te.load("stcn-tiny")
frames = rearrange(clip.frames, "t H W c -> t c H W") / 255
memory_features = network.encode(frames[memory])
query_features = network.encode(frames[query : query + 1])
memory_key = rearrange(memory_features.key, "t ck h w -> 1 t ck h w")
query_key = query_features.key

# %% [markdown]
# Vectors of `ck` numbers cannot be seen, but three combinations of them can: the three directions in which the keys vary most become red, green and blue. Like colour, like key.

# %%
from tmrn_edu.viz.keys import key_colours, side_by_side, similarity_planes

colours = key_colours(torch.cat([memory_features.key, query_key]))
side_by_side({f"keys of {title}": picture for title, picture in zip(titles, colours)})

# %% [markdown]
# ## Values: what is read
#
# For every memory frame and every object, a second encoder ([`MemoryNetwork.encode_value`](../tmrn_edu/networks/base.py#L122)) sees the image *and the mask* and writes a **value** of `cv` numbers into each cell. In our small network the last few channels of the value are the mask itself, shrunk to the grid, so that we can see what is read. (That is ours; the published networks leave it to the encoder what to write.)

# %%
object_masks = te.masks.index_to_object_masks(clip.index_masks[memory], [1])
memory_value = network.encode_value(frames[memory], memory_features, object_masks)
memory_value = rearrange(memory_value, "t o cv h w -> 1 o t cv h w")
side_by_side({f"mask in the value of frame {t}": memory_value[0, 0, i, -1] for i, t in enumerate(memory)}, columns=4)

# %% [markdown]
# **Predict the shape.** Frames have 96 x 96 pixels, a cell covers 4 x 4 of them, `ck = 32`, `cv = 64`; one clip, one object. What are the shapes of `memory_key`, `query_key` and `memory_value`? And of the similarity of every memory pixel to every query pixel, `b t m q`?
#
# <details><summary>Answer</summary>
#
# The grid is 24 x 24. Keys of the memory `b t ck h w = (1, 3, 32, 24, 24)`, of the query `b ck h w = (1, 32, 24, 24)`, values `b o t cv h w = (1, 1, 3, 64, 24, 24)`. With $m$ and $q$ both counting the 576 cells of a grid, the similarity is `(1, 3, 576, 576)`: about a million numbers, for a tiny network. At the size of the published networks and with twenty memory frames it is over fifty million, which is why its memory is worth a thought.
# </details>

# %%
print("memory key  ", tuple(memory_key.shape))
print("query key   ", tuple(query_key.shape))
print("memory value", tuple(memory_value.shape))
print("similarity  ", tuple(te.memory.dot_product(memory_key, query_key).shape))

# %% [markdown]
# ## Three similarities
#
# How alike are the key $k_{tm}$ of memory pixel $m$ in frame $t$ and the key $k_q$ of query pixel $q$? The three networks answer differently:
#
# $$\begin{aligned}
# \text{dot product:} \quad & s_{tmq} = \frac{\langle k_{tm}, k_q\rangle}{\sqrt{c_k}} && \text{(STM, section 3.2)}\\
# \text{negative squared L2:} \quad & s_{tmq} = -\frac{\lVert k_{tm} - k_q\rVert^2}{\sqrt{c_k}} && \text{(STCN, "Similarity Function")}\\
# \text{anisotropic L2:} \quad & s_{tmq} = -\frac{\sigma_{tm}}{\sqrt{c_k}} \sum_c e_{qc}\,(k_{tmc} - k_{qc})^2 && \text{(XMem, section 3.2)}
# \end{aligned}$$
#
# ($c_k$ is the number of channels, `ck` in code. The scale $1/\sqrt{c_k}$ stands in the authors' code: sums over more channels are larger, and it evens that out.) In the package they are [`dot_product`](../tmrn_edu/memory/similarity.py#L23), [`negative_squared_l2`](../tmrn_edu/memory/similarity.py#L37) and [`anisotropic_l2`](../tmrn_edu/memory/similarity.py#L54). In XMem, the *shrinkage* $\sigma_{tm} \ge 1$ belongs to a memory pixel (how picky it is), the *selection* $e_{qc} \in [0, 1]$ to a query pixel (which channels it cares about).
#
# With keys of two numbers all possible memory keys fit on a plane. The star at the end of the arrow is the query; the brighter a place, the higher a memory key there would score; of A, B and C the ring marks the winner.

# %%
plane_query = torch.tensor([1.0, 0.6])
plane_memory = torch.tensor([[1.45, 0.45], [2.6, 2.0], [1.02, -0.9]])
similarity_planes(plane_query, plane_memory, selection=torch.tensor([1.0, 0.05]))

# %% [markdown]
# - The **dot product** has straight contours, at right angles to the arrow: it asks how far a key reaches from the origin in the query's direction (dashed). B wins although A is much nearer, because B is *long*. A long key is a good match for everybody.
# - **L2** has round contours: near is good, and nothing beats being equal. A wins.
# - **Anisotropic L2** stretches the circles. This query hardly cares for channel 2, so C, far away but only in channel 2, wins.
#
# Is the long key a real danger? Stretch one key in a corner of the memory, where there is only background, tenfold.
#
# **Predict.** For which share of all query pixels is this one key now the best match: by dot product? By squared L2?
#
# <details><summary>Answer</summary>
#
# By dot product for nine out of ten: its product with every query of roughly its direction grew tenfold too. By L2 for none: it now lies far from everything.
# </details>

# %%
stretched = memory_key.clone()
stretched[0, 0, :, 0, 0] *= 10
best = {}
for name, similarity in {"dot product": te.memory.dot_product, "squared L2": te.memory.negative_squared_l2}.items():
    scores = rearrange(similarity(stretched, query_key), "1 t m q -> (t m) q")
    best[name] = (scores.argmax(dim=0) == 0).float().mean()
    print(f"{name:11}: the stretched key is the best match for a share of {best[name]:.1f} of all query pixels")

# %% [markdown]
# Now in code. First slowly: **one** query pixel `q`, a loop over all memory frames and pixels.

# %%
y, x = 15, 10  # a cell of the query frame, on the target
q = 24 * y + x
asks = query_key[0, :, y, x]  # its key
dot_loop = torch.zeros(3, 576)
l2_loop = torch.zeros(3, 576)
for t in range(3):
    for m in range(576):
        asked = memory_key[0, t, :, m // 24, m % 24]
        dot_loop[t, m] = (asked * asks).sum() / 32**0.5
        l2_loop[t, m] = -((asked - asks) ** 2).sum() / 32**0.5

# %% [markdown]
# Then for all query pixels at once. The pattern says it all: `ck` is missing on the right, so it is summed over.

# %%
memory_rows = rearrange(memory_key, "b t ck h w -> b t (h w) ck")
query_rows = rearrange(query_key, "b ck h w -> b (h w) ck")
dot = einsum(memory_rows, query_rows, "b t m ck, b q ck -> b t m q") / 32**0.5

torch.testing.assert_close(dot[0, :, :, q], dot_loop, rtol=1e-3, atol=1e-3)
torch.testing.assert_close(dot, te.memory.dot_product(memory_key, query_key), rtol=1e-3, atol=1e-3)
print("dot product: loop, einsum and package agree")

# %% [markdown]
# **Exercise 1.** Write STCN's similarity for all pairs. Subtracting every query key from every memory key would need `b t m q ck` numbers, 32 million here. You need not: $-\lVert k_{tm} - k_q\rVert^2 = 2\langle k_{tm}, k_q\rangle - \lVert k_{tm}\rVert^2 - \lVert k_q\rVert^2$.


# %% tags=["exercise"]
def squared_l2(memory_key, query_key):
    """-|memory key - query key|^2 / sqrt(ck) for memory keys `b t ck h w` and query keys `b ck h w`: `b t m q`."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.squared_l2(squared_l2)

# %% [markdown]
# The package goes one step further and leaves $\lVert k_q\rVert^2$ out. It is the same number for every memory pixel, and the softmax that comes next does not see what is added to all its inputs alike. So the scores differ by a constant per query pixel, and the weights by nothing:

# %%
l2 = te.memory.negative_squared_l2(memory_key, query_key)
left_out = (asks**2).sum() / 32**0.5
torch.testing.assert_close(l2[0, :, :, q] - left_out, l2_loop, rtol=1e-3, atol=1e-3)
print("the package's score is the distance of the loop, up to the query key's |k_q|^2")

# %% [markdown]
# (With XMem's shrinkage this no longer holds: there $\lVert k_q\rVert^2$ is multiplied by something that differs between memory pixels. `anisotropic_l2` keeps it. With shrinkage and selection left at one, it gives STCN's weights.)

# %%
anisotropic = te.memory.anisotropic_l2(memory_key, query_key)
weights_of = te.memory.affinity.softmax_over_memory
torch.testing.assert_close(weights_of(anisotropic), weights_of(l2), rtol=1e-3, atol=1e-4)
print("anisotropic L2 without shrinkage and selection: the weights of squared L2")

# %% [markdown]
# Here are the scores of our one query pixel in the three memory frames, for the similarity that this network was trained with (up to $\lVert k_q\rVert^2$, so scores may be positive):

# %%
maps = {"query": clip.frames[query]} | {f"score in frame {t}": rearrange(l2[0, i, :, q], "(h w) -> h w", h=24) for i, t in enumerate(memory)}
side_by_side(maps, mark={"query": (4 * y + 1.5, 4 * x + 1.5)}, columns=4)

# %% [markdown]
# ## Affinity: from scores to weights
#
# Scores become weights through a softmax, and it matters over what. In a space-time read all pixels of all memory frames compete:
#
# $$w_{tmq} = \frac{\exp s_{tmq}}{\sum_{t',m'} \exp s_{t'm'q}} \qquad \text{(STM, section 3.2)}$$
#
# For our pixel, with a loop. (Subtracting the largest score first changes nothing, as you have just seen, and keeps `exp` from overflowing.)

# %%
weights_loop = torch.zeros(3, 576)
largest, total = l2[0, :, :, q].max(), 0.0
for t in range(3):
    for m in range(576):
        weights_loop[t, m] = torch.exp(l2[0, t, m, q] - largest)
        total += weights_loop[t, m]
weights_loop /= total

# %% [markdown]
# **Exercise 2.** For all query pixels: a softmax over `(t m)` together, in the shape of the scores, `b t m q`. `rearrange` there, softmax, `rearrange` back.


# %% tags=["exercise"]
def space_time_weights(similarity):
    """Scores `b t m q` -> weights `b t m q` that sum to one over (t m)."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.space_time_weights(space_time_weights)

# %% [markdown]
# The package has it as [`softmax_over_memory`](../tmrn_edu/memory/affinity.py#L30):

# %%
affinity = te.memory.affinity.softmax_over_memory(l2)  # w
torch.testing.assert_close(affinity[0, :, :, q], weights_loop, rtol=1e-3, atol=1e-4)
torch.testing.assert_close(reduce(affinity, "b t m q -> b q", "sum"), torch.ones(1, 576))
print("loop and package agree; the weights of each query pixel sum to one over (t m)")

# %%
looks_at = {"query": clip.frames[query]} | {f"weight in frame {t}": rearrange(affinity[0, i, :, q], "(h w) -> h w", h=24) for i, t in enumerate(memory)}
side_by_side(looks_at, mark={"query": (4 * y + 1.5, 4 * x + 1.5)}, columns=4)

# %% [markdown]
# Compare with the scores above: the exponential turns a broad landscape into a few bright cells. How few? Sort the 1,728 weights of each query pixel and count how many it takes to reach 90 %.

# %%
ranked = rearrange(affinity, "1 t m q -> q (t m)").sort(descending=True).values
needed = 1 + (ranked.cumsum(dim=1) < 0.9).sum(dim=1).float()
print(f"for the median query pixel, 90 % of the weight lies on {needed.median() / 1728:.0%} of the memory pixels")

# %% [markdown]
# That is the reason for **top-k**: STCN keeps the 20 best memory pixels at inference, XMem 30, and gives all others nothing. It is cheaper to read, and a thousand bad matches can no longer outweigh the good ones by their number. `softmax_over_memory(l2, top_k=20)` does it. Our small networks read everything.

# %%
best_20 = te.memory.affinity.softmax_over_memory(l2, top_k=20)
assert (reduce((best_20 > 0).float(), "b t m q -> b q", "sum") <= 20).all()
kept = (affinity * (best_20 > 0)).sum() / 576
print(f"the 20 best of 1728 hold {kept:.0%} of the weight")

# %% [markdown]
# ## The space-time read
#
# The answer to the question is the weighted mean of what was stored:
#
# $$\text{readout}_q = \sum_{t,m} w_{tmq}\;\text{value}_{tm} \qquad \text{(STM, section 3.2)}$$
#
# The loop, for our pixel and the one object:

# %%
read_loop = torch.zeros(64)
for t in range(3):
    for m in range(576):
        read_loop += weights_loop[t, m] * memory_value[0, 0, t, :, m // 24, m % 24]

# %% [markdown]
# One line for all pixels and objects. The affinity has no `o`: keys belong to the image, so one affinity serves all objects.

# %%
value_rows = rearrange(memory_value, "b o t cv h w -> b o t (h w) cv")
read = einsum(affinity, value_rows, "b t m q, b o t m cv -> b o cv q")

# %% [markdown]
# And the package. A **reader** stores frames and reads them; every network in the library takes any reader. [`SpaceTimeReader`](../tmrn_edu/memory/space_time.py#L66) walks over the memory frame by frame and never holds the million weights at once. That is another computation than the line above, so we check that both give the same (notebook 03 shows how it is done).

# %%
reader = te.memory.SpaceTimeReader()
stored = [reader.store(memory_key[:, i], memory_value[:, :, i], index=t) for i, t in enumerate(memory)]
readout = reader(stored, te.memory.Query(query_key, index=query))

torch.testing.assert_close(read[0, 0, :, q], read_loop, rtol=1e-3, atol=1e-3)
torch.testing.assert_close(rearrange(readout.value, "b o cv h w -> b o cv (h w)"), read, rtol=1e-3, atol=1e-3)
print("loop, einsum and package agree:", tuple(readout.value.shape), "  b o cv h w")

# %% [markdown]
# ## What was read
#
# Remember that the last channels of the value are the mask. Read out, they are a mask of the *query* frame, carried over by the affinity alone ([`MemoryNetwork.readout_mask`](../tmrn_edu/networks/base.py#L168)). Then comes the *decoder*, a few convolutions that turn a readout, together with the features of the query frame itself, into a sharp mask at the size of the image ([`STCN.decode`](../tmrn_edu/networks/stcn.py#L134)).

# %%
read_mask = network.readout_mask(readout)[0, 0]
probabilities = te.masks.soft_aggregation(network.decode(readout, query_features).logits.sigmoid())
predicted = te.masks.probabilities_to_index_mask(probabilities, [1])[0]
side_by_side(
    {
        "query": clip.frames[query],
        "mask as read": read_mask,
        "decoded": te.viz.overlay(clip.frames[query], predicted),
        "truth": te.viz.overlay(clip.frames[query], clip.index_masks[query]),
    }
)

# %%
J = te.metrics.region_similarity(predicted, clip.index_masks[query])
assert J > 0.8
print("J of the decoded mask is above 0.8")

# %% [markdown]
# The cell above used [`soft_aggregation`](../tmrn_edu/masks.py#L64). It joins several objects into one decision: each object $o$ has its own probability $p_o$, the background gets $p_0$, the probability that it is none of them, and all labels $l$ (background and objects) are compared by their odds:
#
# $$p_0 = \prod_o (1 - p_o), \qquad P_l = \frac{\text{odds}(p_l)}{\sum_{l'} \text{odds}(p_{l'})}, \qquad \text{odds}(p) = \frac{p}{1 - p} \qquad \text{(STM, "Multi-object Segmentation")}$$

# %%
p = torch.tensor([0.9, 0.6])  # two objects claim the same pixel
labels = torch.cat([(1 - p).prod()[None], p])
by_hand = labels / (1 - labels)
by_hand = by_hand / by_hand.sum()
torch.testing.assert_close(te.masks.soft_aggregation(rearrange(p, "o -> 1 o 1 1"))[0, :, 0, 0], by_hand, rtol=1e-4, atol=1e-5)
print("background, object 1, object 2:", [round(float(v), 3) for v in by_hand])

# %% [markdown]
# ## How much does each frame count?
#
# Add up a query pixel's weights frame by frame, and you know how much each memory frame had to say. This little sum is the door to TMRN: once a read is split into *where in a frame* (over $m$) and *how much a frame counts* (over $t$), each half can be improved on its own.
#
# **Exercise 3.** From scores `b t m q` to the share of every frame, `b t q`. There is a way through the weights of exercise 2, and a way that never forms them: $\log\sum_m \exp s$ is the *evidence* of a frame (our word for it, **[ours]**), and the shares are its softmax over $t$.


# %% tags=["exercise"]
def frame_shares(similarity):
    """Scores `b t m q` -> how much of each query pixel's weight falls on each frame, `b t q`; sums to one over t."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.frame_shares(frame_shares)

# %% [markdown]
# The reader tells both halves, $W_{tmq}$ and $u_{tq}$ with $w_{tmq} = W_{tmq}\, u_{tq}$, when asked for its insides ([`Insides`](../tmrn_edu/memory/space_time.py#L38)):

# %%
insides = reader(stored, te.memory.Query(query_key, index=query), insides=True).insides
print("affinity W        ", tuple(insides.affinity.shape), "  b t m q, sums to one over m")
print("temporal weights u", tuple(insides.temporal_weights.shape), "       b t q, sums to one over t")
together = insides.affinity * rearrange(insides.temporal_weights, "b t q -> b t 1 q")
torch.testing.assert_close(together, affinity, rtol=1e-3, atol=1e-4)
print("their product is w, the affinity of the space-time read")

# %% [markdown]
# ## Look for yourself
#
# Here frame 4 asks all frames before it: target and look-alike are both to be seen. Click on any pixel of it. Try the target, then the look-alike, then the background. (On a page without widgets you see a still.)

# %%
look = te.look(network, clip.frames, clip.index_masks, 4, [0, 1, 2, 3])
te.viz.explore({"space-time read": look}, top_k=20, truth=clip)

# %% [markdown]
# ## Where it breaks
#
# Nothing in the formulas above knows *where* a pixel is, or where it was. Provoke it: cut the target out of the query frame and paste a copy elsewhere in the same frame.
#
# **Predict.** What will the mask look like, as it is read: the target alone, its copy alone, or both?
#
# <details><summary>Answer</summary>
#
# Both, and equally strong: equal keys get equal weights, whatever their place.
# </details>

# %%
shift = (-32, 32)  # 32 pixels up, 32 to the right
cut = clip.index_masks[query] == 1
pasted = torch.roll(cut, shift, dims=(0, 1))
twin = torch.where(rearrange(pasted, "H W -> H W 1"), torch.roll(clip.frames[query], shift, dims=(0, 1)), clip.frames[query])

# %%
twin_features = network.encode(rearrange(twin, "H W c -> 1 c H W") / 255)
twin_readout = reader(stored, te.memory.Query(twin_features.key, index=query))
twin_mask = network.readout_mask(twin_readout)[0, 0]
side_by_side({"query with a twin": twin, "mask as read": twin_mask, "mask as read, without": read_mask}, limits=(0, 1))

# %%
# (h y) takes H apart into h cells of y = 4 pixels. y and x are missing on the right: the least of a cell's 16 pixels is
# left, and it is 1 only where the cell lies wholly in the target.
inside = reduce(cut.float(), "(h y) (w x) -> h w", "min", y=4, x=4) > 0
inside_twin = torch.roll(inside, (-8, 8), dims=(0, 1))
there, copy = twin_mask[inside].mean(), twin_mask[inside_twin].mean()
assert (there - copy).abs() < 0.25
print(f"mask as read, mean over the target: {there:.1f}, over its copy: {copy:.1f}")

# %% [markdown]
# The copy is read as the target is. It must be: its keys are nearly the same (not quite, since a key sees a little of its surroundings). No object jumps 32 pixels and leaves itself behind, but the read has no way to know.
#
# What could tell the two apart is not in the keys: the *path* on which the target came here. That is what a trajectory is for. Whether it helps is a question for measurements, and the next two notebooks take it apart.
#
# ## What to take along
#
# - A memory pixel holds a **key**, which is matched, and a **value**, which is read. A read is three steps: similarity, softmax, weighted mean.
# - **Dot product** (STM) favours long keys, **squared L2** (STCN) near ones; **anisotropic L2** (XMem) lets the query choose its channels.
# - The **space-time read** takes one softmax over all pixels of all frames, `(t m)`. Its weights split into *where in a frame*, over `m`, and *how much a frame counts*, over `t`.
# - Equal keys are read alike, wherever they lie.
#
# Answers to the exercises: [answers/01_reading_a_memory](answers/01_reading_a_memory.ipynb). Next: [02 · Spatial alignment](02_spatial_alignment.ipynb), each memory frame brought onto the query grid on its own; then [03 · Temporal aggregation](03_temporal_aggregation.ipynb), pooling along the trajectory.
