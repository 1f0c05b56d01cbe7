# %% [markdown]
# # 06 · XMem
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/06_xmem.ipynb)
#
# **The question.** A memory network asks a few stored frames, say one in five. What it knows of the frames in between, it forgets. Should it not also remember *what happened a moment ago*? And when it asks, why should every memory pixel, and every channel of a key, count alike?
#
# XMem (Cheng and Schwing, ECCV 2022) answers both. It is STCN's plan (keys from the image alone, values from image and mask) with a new similarity and with a second memory: a small state per object that is carried from frame to frame, the **sensory memory**.
#
# You will build XMem from the package's parts, look at what each part sees, put it together, and check that your network is the package's [`XMem`](../tmrn_edu/networks/xmem.py#L90), pixel by pixel. Then TMRN moves in. About 40 minutes, and 20 for the exercises; a good place for a break is before the sensory memory. Notebooks 01, 04 and 05 come first; 02 and 03 help at the end. **[S]** marks what TMRN's supplement says, **[ours]** our completion.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import torch
from einops import einsum, pack, rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.viz import sensory as draw
from tmrn_edu.viz.keys import key_colours, side_by_side

nb.setup(seed=0)
_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## The clip of this notebook
#
# Sixteen frames, so that the published rule, a memory frame every five, has something to do. The **target**, outlined, is a checkered ball. Two **look-alikes** are cut from the same cloth. One of them slides over the ball from frame 2 on, then a green bar as well; the ball comes out on the other side, up and to the left.

# %%
clip = te.data.synthetic.make_clip(seed=34, level="hard", frames=16)
te.viz.contact_sheet(clip.frames, clip.index_masks, columns=8, alpha=0.0, dpi=58)

# %% [markdown]
# Below we shall need to know when the target is hidden. Every point of it that is seen in frame 0 has a known path, so we can count how many are in sight in each frame.

# %%
target = clip.index_masks == 1  # t H W
paths = [clip.correspondence(0, t) for t in range(16)]  # where each pixel of frame 0 is in frame t
in_sight = torch.stack([path.visible[target[0]].float().mean() for path in paths])
print("in sight, in %:", [round(100 * float(share)) for share in in_sight])

# %% [markdown]
# ## What is known from the image alone
#
# One encoder sees every frame, without any mask. From its coarse feature, three convolutions make three things ([`XMem.encode`](../tmrn_edu/networks/xmem.py#L131)):
#
# $$k = \mathrm{conv}_k(f), \quad \sigma = \mathrm{conv}_d(f)^2 + 1 \;\ge 1, \quad e = \mathrm{sigmoid}(\mathrm{conv}_e(f)) \in (0, 1) \qquad \text{(XMem, "Memory Reading"; square and sigmoid: authors' code)}$$
#
# the **key**, the **shrinkage** $\sigma$ (one number per pixel, used once the pixel is memory) and the **selection** $e$ (one number per pixel and key channel, used when the pixel asks).

# %%
network = te.load("xmem-tiny")
frames = rearrange(clip.frames, "t H W c -> t c H W") / 255
features = network.encode(frames)  # all 16 frames at once: they do not know of each other

*finer, coarse = network.key_encoder(network.normalise(frames))
d = network.shrinkage_projection(coarse)
shrinkage, selection = torch.zeros(16, 1, 24, 24), network.selection_projection(coarse).sigmoid()
for y in range(24):
    for x in range(24):
        shrinkage[:, :, y, x] = d[:, :, y, x] * d[:, :, y, x] + 1

torch.testing.assert_close(features.shrinkage, shrinkage, rtol=1e-4, atol=1e-4)
torch.testing.assert_close(features.selection, selection, rtol=1e-4, atol=1e-4)
torch.testing.assert_close(features.key, network.key_projection(coarse), rtol=1e-4, atol=1e-4)
print("key      ", tuple(features.key.shape), "  b ck h w")
print("shrinkage", tuple(features.shrinkage.shape), "   b 1 h w")
print("selection", tuple(features.selection.shape), "  b ck h w")

# %% [markdown]
# What each stage sees of frame 8. Features and keys are shown by their three main directions as colours (notebook 01). Of the selection's 32 maps these are the mean and the one that varies most.

# %%
t = 8
varies = reduce(features.selection, "t ck h w -> ck", torch.var).argmax()
side_by_side(
    {
        f"frame {t}": clip.frames[t],
        "coarse feature": key_colours(features.coarse)[t],
        "key": key_colours(features.key)[t],
        "shrinkage": features.shrinkage[t, 0],
        "selection, mean": reduce(features.selection[t], "ck h w -> h w", "mean"),
        "selection, one channel": features.selection[t, varies],
    }
)

# %% [markdown]
# The keys tell bright and dark squares, bar and background apart. Target and look-alike they do not: both have the same colours. Shrinkage and selection have learned less than one might hope:

# %%
inner = features.shrinkage[:, 0, 1:-1, 1:-1]  # without the rim of the grid, where the convolution sees its padding
things = reduce(clip.layers > 0, "t (h y) (w x) -> t h w", "min", y=4, x=4)[:, 1:-1, 1:-1]
print(f"mean shrinkage on things {inner[things].mean():.0f}, elsewhere {inner[~things].mean():.0f};  mean selection {features.selection.mean():.2f}")

# %% [markdown]
# All memory pixels are about equally picky, and every query pixel cares for nearly all channels. Keep it in mind for the pictures below.
#
# ## The anisotropic distance
#
# $$s_{tmq} = -\frac{\sigma_{tm}}{\sqrt{c_k}} \sum_c e_{qc}\,(k_{tmc} - q_c)^2 \qquad \text{(XMem, "Memory Reading"; the scale: authors' code)}$$
#
# The loop first, for one query pixel and memory frame 0:

# %%
y, x = 7, 11  # a cell of the query frame, on the target
asks, chooses = features.key[t, :, y, x], features.selection[t, :, y, x]
loop = torch.zeros(576)
for m in range(576):
    row, column = divmod(m, 24)
    for c in range(32):
        loop[m] -= chooses[c] * (features.key[0, c, row, column] - asks[c]) ** 2
    loop[m] *= features.shrinkage[0, 0, row, column] / 32**0.5

# %% [markdown]
# For all pairs at once, expand the square into **three terms**, as the authors' code does. Each is a product of matrices, or a sum of one thing alone:
#
# $$\sum_c e_{qc} (k_{mc} - q_c)^2 = \underbrace{\sum_c e_{qc}\, k_{mc}^2}_{\text{selection} \times \text{squares of keys}} - \underbrace{2 \sum_c (e_{qc}\, q_c)\, k_{mc}}_{\text{selected query} \times \text{keys}} + \underbrace{\sum_c e_{qc}\, q_c^2}_{\text{query alone}} \qquad \text{(algebra)}$$
#
# **Exercise 1.** Write it. `einsum` twice, `reduce` once, the shrinkage last.

# %% tags=["exercise"]
def anisotropic_l2(memory_key, query_key, shrinkage, selection):
    """- shrinkage[m] sum_c selection[c,q] (key[c,m] - query[c,q])^2 / sqrt(ck): `b t m q`.

    memory_key: b t ck h w; query_key, selection: b ck h w; shrinkage: b t 1 h w.
    """
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.anisotropic_l2(anisotropic_l2)

# %% [markdown]
# The line, and the package's [`anisotropic_l2`](../tmrn_edu/memory/similarity.py#L54):

# %%
memory = [0, 5]
memory_key = rearrange(features.key[memory], "t ck h w -> 1 t ck h w")
memory_shrinkage = rearrange(features.shrinkage[memory], "t one h w -> 1 t one h w")
query_key, query_selection = features.key[t : t + 1], features.selection[t : t + 1]
similarity = te.memory.anisotropic_l2(memory_key, query_key, memory_shrinkage, query_selection)

k, q, e = (rearrange(x, "... h w -> ... (h w)") for x in (memory_key, query_key, query_selection))
terms = einsum(k**2, e, "b t c m, b c q -> b t m q") - 2 * einsum(k, e * q, "b t c m, b c q -> b t m q") + reduce(e * q**2, "b c q -> b 1 1 q", "sum")
line = -rearrange(memory_shrinkage, "b t 1 h w -> b t (h w) 1") * terms / 32**0.5

torch.testing.assert_close(similarity, line, rtol=1e-3, atol=1e-2)
torch.testing.assert_close(similarity[0, 0, :, 24 * y + x], loop, rtol=1e-3, atol=1e-3)
print("loop, line and package agree: similarity b t m q =", tuple(similarity.shape))

# %% [markdown]
# ## What shrinkage does: a toy
#
# Keys of one number. Three memory pixels A, B and C sit on a line, and a query may sit anywhere. Who answers it? Left with shrinkage 1 everywhere; in the middle B became picky; right all three did.
#
# **Predict, then run.** A query sits at 0.8, close to C at 1. With shrinkage 1 everywhere B, at 0, has a third of the weight. What is left of it when B's shrinkage is 12? And for a query at 0.05, does the picky B lose, too?
#
# <details><summary>Answer</summary>
#
# At 0.8 next to nothing is left: its distance is multiplied by 12. At 0.05 B keeps its weight: its distance is nearly zero, and 12 times nearly zero is little.
# </details>

# %%
line_keys = torch.tensor([-1.0, 0.0, 1.0])
picky = [torch.tensor(s) for s in ([1.0, 1.0, 1.0], [1.0, 12.0, 1.0], [12.0, 12.0, 12.0])]
draw.shrinkage_figure(line_keys, picky, torch.linspace(-2, 2, 201))

# %% [markdown]
# A picky memory pixel answers only those who are very much like it, and leaves the others to its neighbours. If all are picky, the whole read is sharp. So a network can say *of each memory pixel* how far its answer is good.

# %%
def weight(shrinkage, place):
    """Weights of A, B and C for a query at `place`."""
    row = "m -> 1 1 1 m"  # b ck h w
    s = te.memory.anisotropic_l2(rearrange(line_keys, row), torch.full((1, 1, 1, 1), place), rearrange(shrinkage, row))
    return s[0, :, 0].softmax(dim=0)


near, far = weight(picky[1], 0.05), weight(picky[1], 0.8)
plain = weight(picky[0], 0.8)
assert near.argmax() == 1
print(f"a query at 0.8  gives B {plain[1]:.2f} with shrinkage 1, and {far[1]:.2f} with shrinkage 12")
print(f"a query at 0.05 gives B {weight(picky[0], 0.05)[1]:.2f} with shrinkage 1, and {near[1]:.2f} with shrinkage 12")

# %% [markdown]
# ## What selection does: a toy
#
# Keys of two numbers. A equals the query (star) but for channel 2; B is near in both. A query that cares for channel 2 takes B; one that does not, A.

# %%
plane_query, plane_memory = torch.tensor([0.0, 0.0]), torch.tensor([[0.1, 2.4], [1.1, 0.5]])
draw.selection_figure(plane_memory, plane_query, ["A", "B"])

# %% [markdown]
# ## What both do in the trained network
#
# Frame 8 is read from frames 0 and 5, whose masks are given. The same query pixel is asked four times: as trained, with the selection set to one, with every shrinkage replaced by their mean, and with every shrinkage set to one.

# %%
given = te.masks.index_to_object_masks(clip.index_masks[memory], [1])
one = torch.ones_like(memory_shrinkage)
ways = {
    "as trained": (memory_shrinkage, query_selection),
    "no selection": (memory_shrinkage, None),
    "mean shrinkage": (one * memory_shrinkage.mean(), query_selection),
    "no shrinkage": (one, query_selection),
}
weights = {
    name: te.memory.affinity.softmax_over_memory(te.memory.anisotropic_l2(memory_key, query_key, *way)) for name, way in ways.items()
}
maps = {name: rearrange(w[0, :, :, 24 * y + x], "t (h w) -> t h w", h=24) for name, w in weights.items()}
draw.weight_columns(clip.frames[memory], clip.index_masks[memory], maps, clip.frames[t], (4 * y + 2, 4 * x + 2), ["frame 0", "frame 5"])

# %% [markdown]
# One pixel is an anecdote. Over all query pixels: on how many memory pixels does the weight lie (the perplexity of the weights), and how good is the mask that is read (as J, at a threshold of 1/2, on the grid)?

# %%
truth = reduce(target[t].float(), "(h y) (w x) -> h w", "mean", y=4, x=4) > 0.5
memory_mask = reduce(given, "t 1 (h y) (w x) -> t (h w)", "mean", y=4, x=4)
for name, w in weights.items():
    read = rearrange(einsum(w[0], memory_mask, "t m q, t m -> q"), "(h w) -> h w", h=24)
    J = te.metrics.region_similarity(read > 0.5, truth)
    pixels = torch.special.entr(w[0]).sum(dim=(0, 1)).exp().median()
    print(f"{name:15} weight of the median pixel lies on {pixels:3.0f} memory pixels;  J of the mask as read {J:.2f}")

# %% [markdown]
# This is what *our* network does with its freedom, and it is not quite what the toys suggest.
#
# - Without shrinkage the weight spreads over hundreds of memory pixels, and the mask that is read falls apart. But one shrinkage for all, the mean, reads no worse here. So what was learned is above all **how sharp the whole read should be**.
# - The selection is near one, so leaving it out changes next to nothing.
#
# Careful: the network was trained with both, and one frame of one clip is no ablation. The authors' own tables, on real videos, are in the paper.
#
# ## Why the query's own square must stay
#
# In STCN the term $\lVert q \rVert^2$ is the same for all memory pixels, and the package leaves it out. In XMem it is multiplied by the shrinkage:
#
# **Exercise 2.** Write what the similarity would lose without its third term, `b t m q`.

# %% tags=["exercise"]
def left_out(query_key, shrinkage, selection):
    """The term in query^2 of the anisotropic L2, minus sign, shrinkage and 1 / sqrt(ck) included.

    query_key, selection: b ck h w; shrinkage: b t 1 h w. Returns b t m q.
    """
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.left_out(left_out)

# %% [markdown]
# Identity 4 of this library: leaving it out changes no weight, *unless* there is shrinkage. The largest change of any weight:

# %%
query_square = reduce(query_selection * query_key**2, "1 ck h w -> (h w)", "sum") / 32**0.5  # q
for name, sigma in {"shrinkage 1": one, "as trained": memory_shrinkage}.items():
    s = te.memory.anisotropic_l2(memory_key, query_key, sigma, query_selection)
    without = s + rearrange(sigma, "1 t 1 h w -> 1 t (h w) 1") * query_square
    change = (te.memory.affinity.softmax_over_memory(s) - te.memory.affinity.softmax_over_memory(without)).abs().max()
    assert change < 1e-4 if name == "shrinkage 1" else change > 0.01
    print(f"{name}: weights change by {'nothing' if change < 1e-4 else f'up to {change:.1f}'}")

# %% [markdown]
# ## Values and the working memory
#
# As in STCN: a second encoder sees the image *and* the mask and writes a value per object. With key, shrinkage and value a frame is complete (a [`MemoryFrame`](../tmrn_edu/memory/working.py#L21)), and joins the **working memory**. The selection stays behind: it belongs to the one who asks.

# %%
value = network.encode_value(frames[memory], network.encode(frames[memory]), given)  # t o cv h w
blank = network.encode_value(frames[memory], network.encode(frames[memory]), torch.zeros_like(given))
colours = key_colours(torch.cat([value[:, 0, :-8], blank[:, 0, :-8]]))  # the last 8 channels are the mask itself
side_by_side(
    {
        "frame 0": te.viz.overlay(clip.frames[0], clip.index_masks[0], alpha=0.0),
        "its value": colours[0],
        "with an empty mask": colours[2],
        "the mask in the value": value[0, 0, -1],
    },
    columns=4,
)

# %%
stored = [
    network.reader.store(features.key[i : i + 1], value[n : n + 1], index=i, exact=True, shrinkage=features.shrinkage[i : i + 1])
    for n, i in enumerate(memory)
]
readout = network.reader(stored, te.memory.Query(query_key, index=t, selection=query_selection))

values = rearrange(value, "t o cv h w -> 1 o t cv (h w)")
line = einsum(te.memory.affinity.softmax_over_memory(similarity), values, "b t m q, b o t cv m -> b o cv q")
torch.testing.assert_close(rearrange(readout.value, "b o cv h w -> b o cv (h w)"), line, rtol=1e-3, atol=1e-3)
print("einsum and package agree: readout b o cv h w =", tuple(readout.value.shape))

# %% [markdown]
# ## The sensory memory
#
# Beside what it reads, XMem carries a state $h$ of `cs` channels per object on the key's grid (16 here, 64 at the published size). It starts at zero. Whatever comes in goes through a **gated update** ([`GatedUpdate`](../tmrn_edu/memory/sensory.py#L21)), a convolution that looks at the news $x$ and at $h$, and answers three questions:
#
# $$(f, u, n) = \mathrm{conv}_{3\times 3}([x, h]), \qquad h' = \sigma(f) \cdot h \cdot (1 - \sigma(u)) + \sigma(u) \cdot \tanh(n) \qquad \text{(XMem, "Sensory Memory"; the form: authors' code)}$$
#
# What is kept, what is replaced, and by what? ($\sigma$ is the sigmoid here. The authors' unit is a GRU of their own: the new content does not see the forget gate.)
#
# **Exercise 3.** The three thirds of the convolution's output come as blocks, in the order $f, u, n$. Write the update.

# %% tags=["exercise"]
def gated_update(gates, sensory):
    """The next sensory memory `b o cs h w`, from the convolution's output `b o (3 cs) h w` and the one before."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.gated_update(gated_update)

# %% [markdown]
# Loop and line, with the deep update's own weights, value of frame 0 in, starting at zero:

# %%
gate = network.sensory_memory.deep_gate  # a GatedUpdate
start = network.start_sensory(network.encode(frames[:1]).key, objects=1)
joined, _ = pack([value[:1], start], "b o * h w")
gates = gate.transform(rearrange(joined, "b o c h w -> (b o) c h w"))  # (b o) (3 cs) h w
h = torch.zeros(1, 1, 16, 24, 24)
for c in range(16):
    forget, update, new = gates[0, c].sigmoid(), gates[0, 16 + c].sigmoid(), gates[0, 32 + c].tanh()
    h[0, 0, c] = forget * start[0, 0, c] * (1 - update) + update * new

f, u, n = rearrange(gates, "(b o) (three cs) h w -> three b o cs h w", o=1, three=3)
line = f.sigmoid() * start * (1 - u.sigmoid()) + u.sigmoid() * n.tanh()

torch.testing.assert_close(line, h, rtol=1e-4, atol=1e-4)
torch.testing.assert_close(gate(value[:1], start), line, rtol=1e-4, atol=1e-4)
print("loop, line and package agree: sensory memory b o cs h w =", tuple(h.shape))

# %%
c = int(reduce(h, "1 1 cs h w -> cs", torch.var).argmax())
side_by_side(
    {
        "frame 0": te.viz.overlay(clip.frames[0], clip.index_masks[0], alpha=0.0),
        f"u of channel {c}: replaced": gates[0, 16 + c].sigmoid(),
        f"n of channel {c}: by what": gates[0, 32 + c].tanh(),
        f"h of channel {c}": h[0, 0, c],
    },
    columns=4,
)

# %% [markdown]
# ## Two updates, and the rule
#
# There are two such gates, for two kinds of news (XMem, "Sensory Memory"):
#
# - the **update**, [`SensoryMemory.update`](../tmrn_edu/memory/sensory.py#L75): after a frame was decoded, the decoder's features of all its strides, averaged to the key's grid, with the scores it just gave;
# - the **deep update**, [`SensoryMemory.deep_update`](../tmrn_edu/memory/sensory.py#L90): after a frame was memorized, its value, which was made from the image and the mask with a network of its own.
#
# As published, at inference a memory frame gets **only the deep update**, every other frame only the decoder's. (In training every frame gets the decoder's, and with probability 0.2 the deep one on top.) And which frames are memory frames? Those that come with a mask, and those that come five frames after the last memory frame.
#
# **Exercise 4.** Which frames join the memory?

# %% tags=["exercise"]
def memory_frames(given, every):
    """Which frames join the memory, bool `t`. given: bool `t`, which frames came with a mask (frame 0 did)."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.memory_frames(memory_frames)

# %% [markdown]
# ## The decoder sees both
#
# **Predict, then run.** For every object readout `b o cv h w` and sensory memory `b o cs h w` are stacked along their channels ([`XMem.decode`](../tmrn_edu/networks/xmem.py#L149)). Here `cv = 64` and `cs = 16`, on a 24 x 24 grid. What is the shape of what goes into the decoder? And at the published size, with 512 and 64 channels, a 30 x 54 grid and three objects?
#
# <details><summary>Answer</summary>
#
# `b o (cv + cs) h w = (1, 1, 80, 24, 24)`, and `(1, 3, 576, 30, 54)`. The image's own feature joins inside the decoder, once for all objects.
# </details>

# %%
objects, _ = pack([readout.value, h], "b o * h w")
query_features = network.encode(frames[t : t + 1])
by_hand = network.decoder(objects, query_features.query_value, query_features.skips)
decoded = network.decode(readout, query_features, sensory=h)
torch.testing.assert_close(by_hand.logits, decoded.logits, rtol=1e-3, atol=1e-3)
print("the decoder takes", tuple(objects.shape), "and gives logits b o H W =", tuple(decoded.logits.shape))

# %% [markdown]
# The decoder returns its features too ([`Decoded`](../tmrn_edu/decoder.py#L14)), since the sensory memory wants to see them. Here is the update, by hand: average to the grid, one 1 x 1 convolution per stride, add, gate.

# %%
news = 0
*coarser, finest = decoded.pyramid  # strides 4 and 2
finest, _ = pack([finest, decoded.scores], "b o * h w")  # with the score as one more channel
for project, feature in zip(network.sensory_memory.project, [*coarser, finest]):
    pooled = reduce(feature, "b o c (h i) (w j) -> (b o) c h w", "mean", h=24, w=24)
    news = news + project(pooled)

updated = network.sensory_memory.gate(rearrange(news, "(b o) c h w -> b o c h w", o=1), h)
torch.testing.assert_close(network.update_sensory(h, decoded), updated, rtol=1e-3, atol=1e-3)
print("update by hand and package agree:", tuple(updated.shape))

# %% [markdown]
# ## XMem, put together
#
# All parts are there. One frame after another: encode, read, decode, then either memorize and update deeply, or update.

# %%
def segment(network, frames, first_mask, every=5, tamper=None):
    """XMem over a video, step by step. `tamper(t, sensory)` may change what the decoder is given. Returns what happened in every frame."""
    features = network.encode(frames[:1])
    masks = te.masks.soft_aggregation(first_mask)[:, 1:]  # as the authors do with given masks, too
    memory = [network.memorize(frames[:1], features, masks, index=0, exact=True)]
    sensory = network.deep_update(network.start_sensory(features.key, objects=1), memory[0])
    steps = []
    for t in range(1, len(frames)):
        if tamper is not None:
            sensory = tamper(t, sensory)
        features = network.encode(frames[t : t + 1])
        readout = network.read(features, memory, index=t)
        decoded = network.decode(readout, features, sensory)
        probabilities = te.masks.soft_aggregation(decoded.logits.sigmoid())
        steps.append((features, readout, sensory, probabilities))
        if t % every == 0:
            memory.append(network.memorize(frames[t : t + 1], features, probabilities[:, 1:], index=t))
            sensory = network.deep_update(sensory, memory[-1])
        else:
            sensory = network.update_sensory(sensory, decoded)
    return steps


first_mask = te.masks.index_to_object_masks(clip.index_masks[:1], [1])
steps = segment(network, frames, first_mask)

# %% [markdown]
# Is it the network of the package? Compare with [`segment`](../tmrn_edu/segmenter.py#L259), frame by frame:

# %%
package = te.segment(network, clip.frames, {0: clip.index_masks[0]})
for t, (_, _, _, probabilities) in enumerate(steps, start=1):
    torch.testing.assert_close(probabilities[0], package.probabilities[t], rtol=1e-3, atol=1e-3)
print("our XMem and te.segment agree in all frames")

# %%
J = torch.tensor([te.metrics.region_similarity(mask == 1, true) for mask, true in zip(package.index_masks, target)])
titles = [f"{t}: J {value:.2f}" for t, value in enumerate(J)]
te.viz.contact_sheet(clip.frames, package.index_masks, columns=8, titles=titles, alpha=0.35, dpi=58)

# %% [markdown]
# It loses the ball in frame 4, where little more than a fifth of it is in sight, and finds it again.
#
# ## What does the sensory memory remember?
#
# Look at the states that the decoder was given, from before the hiding until long after it. The *energy* of a cell is the root mean square over channels. And which channels know about the target? Those whose maps go with its mask; we take the two that do so most, over the frames in which more than half of it is in sight. Outlines are the true mask.

# %%
states = torch.cat([sensory for _, _, sensory, _ in steps])[:, 0]  # (frames 1 to 15) cs h w
on_grid = reduce(target[1:].float(), "t (h y) (w x) -> t h w", "mean", y=4, x=4)
seen = in_sight[1:] > 0.5


def correlation(a, b):
    """Pearson's, of two tensors of one shape."""
    a, b = a - a.mean(), b - b.mean()
    return (a * b).sum() / (a.norm() * b.norm()).clamp_min(1e-12)


follows = torch.tensor([correlation(states[seen, c], on_grid[seen]) for c in range(16)])
best = follows.abs().argsort(descending=True)[:2].tolist()
energy = reduce(states**2, "t cs h w -> t h w", "mean").sqrt()

# %%
maps = {"energy": energy} | {f"channel {c}": states[:, c] for c in best}
after = {1: "after deep", 6: "after deep", 11: "after deep"}
titles = [f"{t} {after.get(t, '')}\n{100 * float(in_sight[t]):.0f} % in sight" for t in range(1, 16)]
draw.sensory_strip(clip.frames[1:], clip.index_masks[1:], maps, titles)

# %% [markdown]
# The sign of a channel means nothing; that it is one colour inside and the other one outside does. The picture lags behind: the state that frame $t$ is decoded with was written after frame $t - 1$. After a deep update (frames 1, 6, 11) it looks different from after the decoder's: another gate wrote it.
#
# Does it know where the target *is*, also while that is hidden, or where the network last *put* it? Compare each state with three masks: the truth in the same frame, the network's prediction one frame earlier, and the whole ball, hidden parts included, from the known paths of its points.

# %%
predicted = reduce((package.index_masks == 1).float(), "t (h y) (w x) -> t h w", "mean", y=4, x=4)[:-1]
whole = torch.zeros(15, 24, 24)
for i, path in enumerate(paths[1:]):
    row, column = rearrange((path.positions[target[0]] + 0.5) // 4, "n yx -> yx n").long().clamp(0, 23)
    whole[i, row, column] = 1

for name, mask in {"truth, this frame": on_grid, "prediction, one frame back": predicted, "whole ball, this frame": whole}.items():
    in_view, hidden = (abs(correlation(states[when, best[0]], mask[when])) for when in (seen, ~seen))
    print(f"channel {best[0]} and {name:27} correlation in sight {in_view:.2f}, hidden {hidden:.2f}")

# %% [markdown]
# While the ball is in sight the three masks are nearly the same. When it hides they part, and the state goes with what the network *said* one frame before, a little less with the whole ball, and much less with what can be seen of it now. So this is a note of "where I just put the object": useful, and as right or wrong as the last mask.
#
# ## Is it used? One frame
#
# A map that follows the target does not prove that anybody looks at it. So we decode every frame of the run again, from what was read there, with another state: **wiped** to zero; **frozen** at what the first frame's deep update made of it; and the other way round, the state as it was but **nothing read**, the readout set to zero. The past stays as it was.

# %%
def score(probabilities, mask):
    """J of the target in one frame."""
    return te.metrics.region_similarity(te.masks.probabilities_to_index_mask(probabilities, [1])[0] == 1, mask == 1)


def probe(network, steps, masks):
    """J of frames 1, 2, ... when each is decoded once more with another state, or with nothing read."""
    J = {"intact": [], "wiped": [], "frozen": [], "nothing read": []}
    for (features, readout, sensory, probabilities), mask in zip(steps, masks[1:]):
        again = {
            "wiped": network.decode(readout, features, 0 * sensory),
            "frozen": network.decode(readout, features, steps[0][2]),
            "nothing read": network.decode(te.memory.readers.Readout(0 * readout.value), features, sensory),
        }
        J["intact"].append(score(probabilities, mask))
        for name, decoded in again.items():
            J[name].append(score(te.masks.soft_aggregation(decoded.logits.sigmoid()), mask))
    return {name: torch.tensor(values) for name, values in J.items()}


lines = {name: torch.cat([torch.tensor([torch.nan]), J]) for name, J in probe(network, steps, clip.index_masks).items()}
draw.probe_figure(lines, in_sight, memory_frames=[0, 5, 10, 15])

# %%
for name, line in lines.items():
    print(f"{name:13} mean J hidden (frames 3 to 5) {line[3:6].mean():.2f}   coming out (6 to 8) {line[6:9].mean():.2f}   later {line[9:].mean():.2f}")

# %% [markdown]
# Without a readout there is next to no mask: the sensory memory is no second working memory. Wiping it costs little, most of it while the target is hidden. But a **stale** state does harm, and the more the further the target has moved: so the decoder does look at the state, and takes its word for where the object is.
#
# ## Does it help? Whole runs
#
# One frame says nothing of errors that pile up. So the same over whole runs, in which the state is wiped or frozen before *every* frame and the network remembers what it then predicted: 8 clips that no training has seen, hard ones of 16 frames, memory frames five apart as published.

# %%
from tmrn_edu import evaluate_clips

clips = evaluate_clips.held_out_clips("hard", 8, frames=16)
J = {}
for some in clips:
    pictures = rearrange(some.frames, "t H W c -> t c H W") / 255
    mask = te.masks.index_to_object_masks(some.index_masks[:1], [1])
    first_state = segment(network, pictures[:2], mask)[0][2]
    for name, change in {"intact": None, "wiped": lambda t, h: 0 * h, "frozen": lambda t, h: first_state}.items():
        run = segment(network, pictures, mask, tamper=change)
        J.setdefault(name, []).append(sum(score(step[-1], true) for step, true in zip(run, some.index_masks[1:])) / 15)
J = {name: sum(values) / len(clips) for name, values in J.items()}
print(f"mean J over 8 hard clips, against the intact network's: wiped {J['wiped'] - J['intact']:+.2f}, frozen {J['frozen'] - J['intact']:+.2f}")

# %% [markdown]
# A state that is kept up to date gains a little over none at all (one training run, 8 clips: too few to be sure of so small a gap), and both are far better than an outdated one. Mind what such probes can show: `wiped` and `frozen` states are not what the decoder was trained with, so a drop says that the part is *used*, not that a network trained without it would be as much worse.
#
# ## What is left out: the long-term memory
#
# XMem's title is about a third memory. When the working memory is full, it keeps the most used pixels of old frames as prototypes and forgets the rest, so that hours of video fit. TMRN goes into the working memory; of the long-term one its supplement says that disabling it "can make the model work better on DAVIS and Youtube-VOS variant benchmarks", as the XMem paper itself indicates **[S]**. So it is not here. Where memory must stay bounded, `te.segment(..., max_frames=n)` keeps the first frame and a window of recent ones.
#
# ## TMRN moves in
#
# The reader is the one part that TMRN replaces **[S]**. In preset **warm** ([`TrajectoryReader.warm`](../tmrn_edu/memory/readers.py#L110)) it starts as the space-time read (identity 1, notebook 03), so putting it into our trained XMem must not change one probability. (It takes over the network's own similarity, the anisotropic one, since we do not name another.) The preset **paper** starts as another read, and has to be trained.

# %%
own, change = network.reader, {}
for preset in ("warm", "paper"):
    network.reader = te.memory.TrajectoryReader.preset(preset, 32, 64)
    guest = te.segment(network, clip.frames, {0: clip.index_masks[0]})
    change[preset] = (guest.probabilities - package.probabilities).abs().max()
network.reader = own

assert change["warm"] < 1e-3 < 0.1 < change["paper"]
print(f"largest change of any probability in 16 frames: warm {change['warm']:.3f}, paper (untrained) {change['paper']:.1f}")

# %% [markdown]
# `tmrn-xmem-tiny` was trained from scratch with preset **paper**, from the same initial weights elsewhere, on the same clips in the same order. Before and after, on our clip:

# %%
tmrn = te.load("tmrn-xmem-tiny")
networks = {"XMem": network, "TMRN": tmrn}
results = {name: te.segment(one, clip.frames, {0: clip.index_masks[0]}) for name, one in networks.items()}
J = {}
for name, result in results.items():
    J[name] = torch.tensor([te.metrics.region_similarity(a == 1, b == 1) for a, b in zip(result.index_masks, clip.index_masks)])
    print(f"{name}: mean J of frames 1 to 15: {J[name][1:].mean():.2f}")

# %%
shown = [4, 5, 7, 9, 12]
both = torch.cat([result.index_masks[shown] for result in results.values()])
titles = [f"{name}, frame {i}: J {J[name][i]:.2f}" for name in results for i in shown]
te.viz.contact_sheet(clip.frames[shown * 2], both, columns=5, titles=titles, alpha=0.35, dpi=70)

# %% [markdown]
# No gain here: the two lose the ball together and find it together, and TMRN then stays behind for a few frames. Inside they differ. We read frame 12 from frames 0, 5 and 10, with true masks, and look at one pixel: ring, where it is expected; cross, where it was; $u$, how much the frame counts.

# %%
looks = {name: te.look(one, clip.frames, clip.index_masks, 12, [0, 5, 10]) for name, one in networks.items()}
te.viz.comparison_figure(looks, te.viz.choose_pixel(looks, clip), truth=clip)

# %% [markdown]
# `choose_pixel` takes the pixel where the second network gains most over the first, so it shows *how* they differ, not how often. But look at frame 5, in which this point is hidden. XMem pools by evidence, and evidence knows: nothing like me there. Attention alone, the supplement's form as we read it, has to judge by what was found; the scores of the matches it does not see. Is that so for all points of the target?

# %%
from tmrn_edu.viz.trajectories import true_cells

ball = reduce(target[12].float(), "(h y) (w x) -> h w", "mean", y=4, x=4) > 0.9
for name, look in looks.items():
    _, visible = true_cells(look, clip)  # t h w
    u = rearrange(look.insides.temporal_weights[0], "t (h w) -> t h w", h=24)
    shares = [u[1][ball & visible[1]].mean(), u[1][ball & ~visible[1]].mean()]
    print(f"{name}: frame 5 counts {shares[0]:.2f} for points in sight there, {shares[1]:.2f} for points that are hidden there")

# %% [markdown]
# It is: XMem turns to other frames where a point is hidden, the trained attention of TMRN does not.
#
# The scores say how often it pays: 64 held-out clips a level, 8 frames each, all earlier frames in memory, one training run per network. (*PCK*: the share of best matches within 4 pixels of the true place.)

# %%
records = {info.name: info for info in te.list_networks()}
names = [name for name in ("stcn-tiny", "xmem-tiny", "tmrn-xmem-tiny", "tmrn-xmem-chained-tiny") if name in records]
for level in ("medium", "hard"):
    for name in names:
        scores = records[name].scores[level]
        print(f"{level:6s} {name:22s} J {scores['J']:.3f}   J, true memories {scores['J, true memories']:.3f}   PCK {scores['trajectory PCK']:.3f}")

# %% [markdown]
# One run each, so small differences mean little. XMem is ahead of STCN on both levels. TMRN, in the supplement's form, changes J by no more than a hundredth in our small XMem; with true memories it is a little behind, and its matches are no better. Chained alignment and age **[ours]** gain about three hundredths on both levels. We say so because the paper reports gains, at full size, on real videos, with a reader that may differ from our reading of it.
#
# Two guesses why the supplement's form gains nothing here: evidence sees how well a frame matched, attention does not (above); and the sensory memory already tells the decoder where the object just was, so a trajectory has less to add.
#
# ## Where it breaks
#
# **A cut.** The memory read knows nothing of places: it finds the target wherever it is. The sensory memory does know, and that is its use, until the film is cut. Here a spotted triangle is filmed for eight frames; from frame 8 on the picture is shown in a mirror, as by a second camera on the other side.
#
# **Predict, then run.** Frame 8 is read from frames 0 and 5, neither of them mirrored. Which suffers: the mask as read, or the mask as decoded?
#
# <details><summary>Answer</summary>
#
# The decoded one. The read compares keys, and a mirrored triangle has much the same keys. But the state that goes into the decoder still holds where the triangle was before the cut.
# </details>

# %%
def with_a_cut(clip, at=8):
    """Frames and masks of a clip that is mirrored from frame `at` on."""
    return [torch.cat([x[:at], x[at:].flip(2)]) for x in (clip.frames, clip.index_masks)]


def run_of(pictures, masks, tamper=None):
    """Our loop over frames `t H W 3`, given the first mask."""
    return segment(network, rearrange(pictures, "t H W c -> t c H W") / 255, te.masks.index_to_object_masks(masks[:1], [1]), tamper=tamper)


pictures, masks = with_a_cut(te.data.synthetic.make_clip(seed=0, level="easy", frames=11))
cut_features, cut_readout, cut_state, cut_probabilities = run_of(pictures, masks)[7]  # frame 8
afresh = te.masks.soft_aggregation(network.decode(cut_readout, cut_features, 0 * cut_state).logits.sigmoid())
labels = {name: te.masks.probabilities_to_index_mask(p, [1])[0] for name, p in {"decoded": cut_probabilities, "state wiped": afresh}.items()}
side_by_side(
    {
        "frame 7": te.viz.overlay(pictures[7], masks[7]),
        "frame 8, after the cut": te.viz.overlay(pictures[8], masks[8]),
        "mask as read": network.readout_mask(cut_readout)[0, 0],
        "energy of the state": reduce(cut_state[0, 0] ** 2, "cs h w -> h w", "mean").sqrt(),
    }
    | {f"{name}: J {te.metrics.region_similarity(m == 1, masks[8] == 1):.2f}": te.viz.overlay(pictures[8], m) for name, m in labels.items()}
)

# %% [markdown]
# The read found the triangle in its new place; the state still glows in the old one, and half of the mask is lost. Is it this clip only? Eight clips with such a cut, once as it is, and once with the state wiped in frame 8, which is what a program that notices the cut could do:

# %%
after_cut = {"as it is": [], "wiped at the cut": []}
for seed in range(8):
    pictures, masks = with_a_cut(te.data.synthetic.make_clip(seed, level="easy", frames=11))
    for name, tamper in {"as it is": None, "wiped at the cut": lambda t, h: 0 * h if t == 8 else h}.items():
        run = run_of(pictures, masks, tamper)
        after_cut[name].append([score(step[-1], true) for step, true in zip(run[6:10], masks[7:11])])
after_cut = {name: torch.tensor(values).mean(dim=0) for name, values in after_cut.items()}
for name, values in after_cut.items():
    print(f"{name:17}", "   ".join(f"frame {t}: J {J_of_t:.2f}" for t, J_of_t in zip((7, 8, 9, 10), values)))
assert after_cut["wiped at the cut"][1] > after_cut["as it is"][1] + 0.05

# %% [markdown]
# The damage outlasts the cut, since the next state is made from the wrong mask. Nothing in the network notices; an object that jumps, or frames that were dropped, look the same to it.
#
# **A layout that is not there** is refused, with those that are:

# %% tags=["raises-exception"]
te.networks.XMem(layout="paper")

# %% [markdown]
# ## At full size
#
# The same class has the published size: ResNet-50 for keys, ResNet-18 for values, stride 16, `ck = 64`, `cv = 512`, `cs = 64`, at inference the 30 best memory pixels.
#
# - `te.networks.XMem()` is the network as released. [`te.load_official`](../tmrn_edu/official.py#L127)`("xmem", "XMem.pth")` reads the authors' file into it.
# - The supplement describes an XMem whose decoder sees a **query value**, made by one more convolution after the key encoder; in the released network that convolution does not exist, and the decoder sees the coarse feature itself. Both are here: `XMem(layout="released")`, the default, and `XMem(layout="supplement")` **[S; that it takes the coarse feature's place: ours]**.
# - `te.networks.XMem.tmrn("paper")` is TMRN's XMem: the supplement's layout with the trajectory reader; `"warm"` and `"chained"` are the other presets.

# %%
full = te.networks.XMem()
print(f"released layout: {sum(p.numel() for p in full.parameters()) / 1e6:.1f} million parameters; tiny: {sum(p.numel() for p in network.parameters()) / 1e6:.1f}")
print("layouts:", te.networks.base.LAYOUTS, "| rules: a memory frame every", full.rules.memory_every, "| top-k", full.top_k)

# %% [markdown]
# ## What to take along
#
# - **XMem = STCN + anisotropic distance + sensory memory.** Keys are still the image's alone, so one affinity serves all objects.
# - **Shrinkage** belongs to the memory pixel, **selection** to the query pixel. With shrinkage the query's own square must stay.
# - The **sensory memory** is a gated state per object. A memory frame writes it through the deep update alone, every other frame through the decoder's features.
# - The state says where the object *just was*: after a **cut** that is wrong, and the decoder believes it.
# - A map that looks right is not yet a part that is used, and a part that is used need not help much: wipe it, freeze it, and count.
# - TMRN replaces the **reader** and nothing else, and warm it starts as the network that it moves into.
#
# Answers to the exercises: [answers/06_xmem](answers/06_xmem.ipynb). Next: [07 · Training](07_training.ipynb), where networks learn all this.
