# %% [markdown]
# # 02 · Spatial alignment
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/02_spatial_alignment.ipynb)
#
# **The question.** In notebook 01 all memory frames competed in one softmax, and a frame could stay silent. TMRN instead asks *every* memory frame, one by one: "where in you is this pixel?" How is that asked, and can a few **agents** per frame protect the answer from look-alikes?
#
# TMRN (ICCV 2023) replaces the memory read of STM, STCN and XMem by two steps: *spatial alignment*, which is this notebook, and *temporal aggregation*, which is the next. Its authors released no code, so every equation carries a mark: **[S]** said in the paper's supplement, **[K]** taken from its kin (published methods that do something similar), **[ours]** our completion. About 30 minutes, and 20 for the exercises.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
from dataclasses import replace

import torch
from einops import einsum, rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.viz import agents as draw

nb.setup(seed=0)
_ = torch.set_grad_enabled(False)

# %% [markdown]
# The clip is that of notebook 01: frames 0, 2 and 4 are memory, frame 6 asks, and a look-alike passes behind the target (which is outlined).

# %%
clip = te.data.synthetic.make_clip(seed=23, level="medium")
memory, query = [0, 2, 4], 6
titles = ["memory 0", "memory 2", "memory 4", "query 6"]
te.viz.contact_sheet(clip.frames[[*memory, query]], clip.index_masks[[*memory, query]], titles=titles, alpha=0.3, dpi=60)

# %% [markdown]
# ## One softmax per frame
#
# $s_{tmq}$ is the similarity of memory pixel $m$ of frame $t$ and query pixel $q$. The space-time read normalises it over all $(t\,m)$. Spatial alignment normalises it over the $m$ of each frame:
#
# $$W_{tmq} = \frac{\exp s_{tmq}}{\sum_{m'} \exp s_{tm'q}} \qquad \text{[S]}$$

# %%
network = te.load("stcn-tiny")
frames = rearrange(clip.frames, "t H W c -> t c H W") / 255
memory_features = network.encode(frames[memory])
query_key = network.encode(frames[query : query + 1]).key
memory_key = rearrange(memory_features.key, "t ck h w -> 1 t ck h w")
similarity = te.memory.negative_squared_l2(memory_key, query_key)
print("similarity b t m q =", tuple(similarity.shape))

# %% [markdown]
# First with loops: every query pixel asks every frame.

# %%
loop = torch.zeros_like(similarity)
for t in range(3):
    for q in range(576):
        scores = similarity[0, t, :, q]
        weights = torch.exp(scores - scores.max())  # subtracting the largest changes nothing, and keeps exp finite
        loop[0, t, :, q] = weights / weights.sum()

# %% [markdown]
# Then in one line, and by the package ([`softmax_over_frame`](../tmrn_edu/memory/affinity.py#L21)).

# %%
affinity = similarity.softmax(dim=2)  # b t m q: over m alone
torch.testing.assert_close(loop, affinity)
torch.testing.assert_close(te.memory.affinity.softmax_over_frame(similarity), affinity)
print("loop, line and package agree")

# %% [markdown]
# What changed? Here is how much one query pixel listens to each frame in either read: the sum of its weights over $m$.

# %%
q = 14 * 24 + 10  # row 14, column 10 of the 24 x 24 grid: inside the target
space_time = te.memory.affinity.softmax_over_memory(similarity)
for name, weights in {"space-time read": space_time, "spatial alignment": affinity}.items():
    print(f"{name:18s}", [round(float(share), 2) for share in reduce(weights[0, :, :, q], "t m -> t", "sum")])

# %% [markdown]
# In alignment every frame answers with weight one. How much an answer is *worth* is decided later, in notebook 03.
#
# **Click** on the query frame, or use the arrow keys: each memory frame shows where it believes that pixel to be. (Without a running kernel you see a picture of the same.)

# %%
look = te.look(network, clip.frames, clip.index_masks, query, memory)
te.viz.explore({"stcn-tiny": look}, pixel=(58, 42), truth=clip)

# %% [markdown]
# ## Aligned values
#
# The weights bring anything that lies on a memory frame's grid onto the query's grid. For the values:
#
# $$\tilde v_{tq} = \sum_m W_{tmq}\, v_{tm} \qquad \text{[S]}$$
#
# $\tilde v_{tq}$ is what frame $t$ has to say about query pixel $q$, the *counterpart* of $q$ in frame $t$. A loop over frames and query pixels; then one line, compared with what the package's reader kept ([`Insides.aligned_value`](../tmrn_edu/memory/space_time.py#L44)).

# %%
object_masks = te.masks.index_to_object_masks(clip.index_masks[memory], [1])
memory_value = network.encode_value(frames[memory], memory_features, object_masks)
value = rearrange(memory_value, "t o cv h w -> 1 o t cv (h w)")

loop = torch.zeros_like(value)
for t in range(3):
    for q in range(576):
        loop[0, 0, t, :, q] = (affinity[0, t, :, q] * value[0, 0, t]).sum(dim=-1)

# %%
aligned_value = einsum(affinity, value, "b t m q, b o t cv m -> b o t cv q")
torch.testing.assert_close(loop, aligned_value, rtol=1e-4, atol=1e-4)
on_grid = rearrange(aligned_value, "b o t cv (h w) -> b o t cv h w", h=24)
torch.testing.assert_close(look.insides.aligned_value, on_grid, rtol=1e-4, atol=1e-4)
print("loop, line and package agree: aligned value b o t cv h w =", tuple(on_grid.shape))

# %% [markdown]
# **Predict the shape.** Two objects, five memory frames, `cv = 64`, a 24 x 24 grid. What is the shape of the affinity `b t m q`, and of the aligned values `b o t cv h w`? Which of them grows when a third object enters?
#
# <details><summary>Answer</summary>
#
# The affinity is `(1, 5, 576, 576)`, the aligned values `(1, 2, 5, 64, 24, 24)`. Only the values grow, to `o = 3`: STCN's keys know nothing of objects, so all objects share one alignment.
# </details>
#
# **Exercise 1.** Write the function for any field with `c` channels, grid included. Then run the check.

# %% tags=["exercise"]
def align(affinity, field):
    """Brings a field onto the query grid. affinity: b t m q; field: b t c h w, on the memory grid. Returns b t c h w."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.align(align)

# %% [markdown]
# A field can be the picture itself. Here the colours of each memory frame travel to where the query's pixels are. If alignment were perfect, all pictures of the lower row would be the same, up to what was hidden: each is *repainted* with the pixels of one memory frame.

# %%
colours = reduce(frames[memory], "t c (h i) (w j) -> t c (h w)", "mean", i=4, j=4)
repainted = rearrange(einsum(affinity[0], colours, "t m q, t c m -> t c q"), "t c (h w) -> t c h w", h=24)
draw.aligned_figure(clip.frames[memory], repainted, clip.frames[query], titles[:3])

# %% [markdown]
# ## Agents: who answers for a pixel?
#
# Two pixels may match by accident. TMRN's idea: describe every pixel by its relation to a few *representative agents* of the memory frame, found by singular value decomposition (SVD), and trust a match more if the same agents answer for both of its pixels.
#
# Let $X$ be the keys of one memory frame ($m \times c_k$) and $\mu$ their mean. Then
#
# $$X - \mu = U S V^\top, \qquad A = (+V_1, \dots, +V_n, -V_1, \dots, -V_n) \qquad \text{[S; mean and both signs: ours]}$$
#
# with $V_1, V_2, \dots$ the rows of $V^\top$, the largest singular value first. So the agents $A$ are the $n$ directions in which the keys vary most, each with its opposite. Why the mean is taken out is the last section.

# %%
rows = rearrange(memory_key[0, 2], "ck h w -> (h w) ck")  # the keys of frame 4
mean = reduce(rows, "m ck -> ck", "mean")
U, S, V = torch.linalg.svd(rows - mean, full_matrices=False)  # torch returns V transposed: its rows are the directions
share = S**2 / (S**2).sum()
print("share of the keys' variance along the first 4 directions:", [round(float(x), 2) for x in share[:4]])

# %% [markdown]
# The package ([`principal_directions`](../tmrn_edu/memory/agents.py#L31)) gets the same directions from the $c_k \times c_k$ covariance, so that the cost does not grow with the frame. A direction's sign is arbitrary, so we compare up to sign.

# %%
frame_key = memory_key[:, 2]  # b ck h w
directions = te.memory.agents.principal_directions(frame_key, 4)
cosine = einsum(directions[0], V[:4], "n ck, n ck -> n")
torch.testing.assert_close(cosine.abs(), torch.ones(4), rtol=0, atol=1e-3)
print("the same 4 directions, up to sign")

# %% [markdown]
# Which agent answers for a pixel with key $k$? A softmax over the cosines between $k - \mu$ and each agent, the *likelihood*, as in RankMatch (CVPR 2024, from the same group):
#
# $$r_{am} = \mathrm{softmax}_a\big(\cos(k_m - \mu,\; A_a) / \tau\big), \qquad \tau = 0.1 \text{ at the start, learned} \qquad \text{[K; cosine ours]}$$
#
# and $p_{aq}$ likewise for the query pixels: $r$ describes the memory frame, $p$ the query frame, both by the *memory* frame's agents and mean. By loops, for the memory frame; then in one line; then with the package's [`Agents`](../tmrn_edu/memory/agents.py#L62), whose [`Agents.describe`](../tmrn_edu/memory/agents.py#L133) does both for a memory frame.

# %%
agents = torch.cat([directions[0], -directions[0]])  # a ck: 4 directions, then their opposites
loop = torch.zeros(8, 576)
for m in range(576):
    for a in range(8):
        loop[a, m] = torch.cosine_similarity(rows[m] - mean, agents[a], dim=0) / 0.1
loop = loop.softmax(dim=0)

# %%
unit = torch.nn.functional.normalize(rows - mean, dim=1)
memory_likelihood = (einsum(agents, unit, "a ck, m ck -> a m") / 0.1).softmax(dim=0)

make_agents = te.memory.agents.Agents(key_channels=32, count=8)
description = make_agents.describe(frame_key)  # agents and likelihoods: computed once, when a frame is stored
query_likelihood = make_agents.likelihood(query_key, description)

torch.testing.assert_close(loop, memory_likelihood, rtol=1e-4, atol=1e-5)
torch.testing.assert_close(description.likelihood[0], memory_likelihood, rtol=1e-4, atol=1e-5)
print("loop, line and package agree: likelihood b a q =", tuple(query_likelihood.shape))

# %% [markdown]
# (`Agents` also holds one cross-attention, by which agents may look at the frame's keys and move; its last layer starts at zero, so an untrained one has no effect. **[K, ours]**)
#
# Here is who answers where. One hue per direction, its opposite in dark:

# %%
both = torch.cat([description.likelihood, query_likelihood])
draw.agent_figure(clip.frames[[4, 6]], both, ["memory frame 4", "query frame 6"])

# %% [markdown]
# A coarse segmentation, without a mask in this step. But the keys come from a network that was trained on masks: agents show what is in the keys already. The second picture is drawn with the agents of frame 4 too: they answer for the same parts two frames later. Now find the look-alike below the target in frame 4. Which agent answers for it, and which for the target?
#
# <details><summary>Answer</summary>
#
# The same one for both: they form a single blob. To these agents, target and look-alike are one kind of thing. Keep that in mind for the end.
# </details>
#
# ## The agent-level correlation
#
# Do the same agents answer for a memory pixel and for a query pixel? Let each draw an agent from its likelihoods; $g$ is the probability that both draw the same one ([`agent_correlation`](../tmrn_edu/memory/agents.py#L50)):
#
# $$g_{mq} = \sum_a r_{am}\, p_{aq} \;\in [0, 1] \qquad \text{[S; as likelihoods: K]}$$

# %%
loop = torch.zeros(576, 576)
for a in range(8):
    loop += torch.outer(memory_likelihood[a], query_likelihood[0, a])

correlation = einsum(memory_likelihood, query_likelihood[0], "a m, a q -> m q")
torch.testing.assert_close(loop, correlation)
package = te.memory.agents.agent_correlation(description.likelihood, query_likelihood)
torch.testing.assert_close(package[0], correlation, rtol=1e-4, atol=1e-5)
print("loop, line and package agree")

# %% [markdown]
# Another library may return a singular vector with the other sign. With both signs among the agents that only renames two of them, and $g$ does not notice (part of identity 3 in the [list of identities](../docs/method.md), of which each is a test of the package):

# %%
renamed = replace(description, agents=description.agents[:, [4, 1, 2, 3, 0, 5, 6, 7]])  # the first direction and its opposite change places
flipped = te.memory.agents.agent_correlation(make_agents.likelihood(frame_key, renamed), make_agents.likelihood(query_key, renamed))
torch.testing.assert_close(flipped[0], correlation, rtol=1e-4, atol=1e-5)
print("g does not change with the sign of a singular vector")

# %% [markdown]
# ## The rectified affinity
#
# Agents correct the score before the softmax; $\lambda$ is learned, and the correction is [`rectification`](../tmrn_edu/memory/alignment.py#L26) in the package:
#
# $$W_{tmq} = \mathrm{softmax}_m\big(s_{tmq} + \lambda \log(g_{tmq} + \epsilon)\big) \qquad \text{[S; log form ours]}$$
#
# Why the logarithm? The softmax takes the exponential of a score, so what is added to the score multiplies the weight: $W_{tmq} \propto e^{s_{tmq}}\, g_{tmq}^{\lambda}$ (up to $\epsilon$). $g = 1$ leaves a match as it is, and $g = 0$ forbids it.
#
# In numbers: $\log g \le 0$; a match whose pixels share their agents keeps its score, one whose pixels share none loses up to $13.8\,\lambda$ (with $\epsilon = 10^{-6}$). $\lambda = 0$ is plain alignment.
#
# **Exercise 2.** Write it, for all frames at once.

# %% tags=["exercise"]
def rectified_affinity(similarity, correlation, rectify):
    """Softmax over m of s + rectify log(g + 1e-6). similarity, correlation: b t m q; rectify: a number. Returns b t m q."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.rectified_affinity(rectified_affinity)

# %% [markdown]
# The reader of the package does all of this for every frame: [`TrajectoryReader`](../tmrn_edu/memory/readers.py#L35). Its preset [`TrajectoryReader.paper`](../tmrn_edu/memory/readers.py#L105) follows the supplement: agents, with $\lambda = 1$ at the start. `by_hand` is our line. Here are, for one query pixel and frame 4, the affinity without agents, $g$, and the affinity with them:

# %%
reader = te.memory.TrajectoryReader.paper(key_channels=32, value_channels=64)
query_frame = te.memory.Query(query_key, query)
stored = reader.store(frame_key, rearrange(memory_value[2:], "1 o cv h w -> 1 o cv h w"), index=4)
rectified = reader([stored], query_frame, insides=True).insides.affinity[0, 0]
by_hand = (similarity[0, 2] + torch.log(correlation + 1e-6)).softmax(dim=0)
torch.testing.assert_close(rectified, by_hand, rtol=1e-3, atol=1e-5)

q, pixel = 14 * 24 + 10, (57.5, 41.5)
maps = torch.stack([affinity[0, 2, :, q], correlation[:, q], rectified[:, q]])
maps = rearrange(maps, "n (h w) -> n h w", h=24)
names = ["affinity W, no agents", "correlation g", "affinity W, rectified"]
titles = [f"{name}\nlargest {float(values.max()):.2f}" for name, values in zip(names, maps)]
draw.heat_figure(clip.frames[[4, 4, 4]], maps, titles, marks=[pixel, None, None], root=True, bar="share of the\nlargest value")

# %% [markdown]
# (The circle is where the query pixel lies in the query frame. Every picture has its own scale, from 0 to its largest value; colours go with the square root, which lifts small values.) $g$ is broad: it knows *which kind of place*, not *which place*. And the two affinities? Let us ask how often a frame's best match changes at all:

# %%
changed = (rectified.argmax(dim=0) != affinity[0, 2].argmax(dim=0)).float().mean()
print(f"query pixels whose best match changes: {float(changed):.0%}")

# %% [markdown]
# ## When agents help
#
# $g$ compares *directions* from the frame's mean, and only a few of them. So it is blind to the *length* of a key, and to whatever lies outside those directions. Where these are what spoils a match, agents repair it. Keys of two channels suffice to build such a case: a shadow falls on the target, and pulls its key towards the mean without turning it.

# %%
dog = torch.tensor([[3.0, 0.2], [3.2, -0.2], [2.9, 0.0]])
floor = torch.tensor([[-3.0, 0.1], [-3.1, -0.1], [-3.0, 0.0]])
cat = torch.tensor([[0.2, 1.0], [0.0, 1.1], [-0.2, -2.1]])
shaded = torch.tensor([0.9, 0.1])  # a pixel of the dog, in shadow

toy_key = rearrange(torch.cat([dog, floor, cat]), "(h w) ck -> 1 ck h w", h=3)
toy_query = rearrange(shaded, "ck -> 1 ck 1 1")
toy_agents = te.memory.agents.Agents(key_channels=2, count=4)
toy = toy_agents.describe(toy_key)
draw.plane_figure({"dog": dog, "floor": floor, "cat": cat}, shaded, toy.mean[0], toy.agents[0])

# %% [markdown]
# The nearest key belongs to the cat, but the direction is that of the dog. (The mean of all keys, from which directions are measured, is the origin here.)
#
# **Predict.** Dog, floor, cat: who gets most of the weight by the similarity alone? And with $\log g$ added?
#
# <details><summary>Answer</summary>
#
# The cat, then the dog. The distance to the cat is shorter, so $s$ alone is fooled. The same agent answers for the shaded pixel and the dog, so their $g$ is near 1; other agents answer for the cat, and it loses.
# </details>

# %%
s = te.memory.negative_squared_l2(toy_key, toy_query)[0, :, 0]
g = te.memory.agents.agent_correlation(toy.likelihood, toy_agents.likelihood(toy_query, toy))[0, :, 0]
for name, score in {"similarity alone": s, "with agents": s + torch.log(g + 1e-6)}.items():
    weights = reduce(score.softmax(dim=0), "(thing m) -> thing", "sum", thing=3)
    print(f"{name:17s}", {thing: round(float(w), 2) for thing, w in zip(["dog", "floor", "cat"], weights)})

# %% [markdown]
# The false match loses its weight because its *context*, the agents that answer for it, differs. This is what the supplement means by true pixel-level correlations that "enjoy higher weights".
#
# ## When they do not
#
# The case above was built by hand. What do agents do on clips? For every target pixel of a query frame whose true counterpart in a memory frame is known and visible, we compare the true match with its most dangerous rival, the best-scoring cell on any *other* moving thing. Who prefers the truth: the similarity $s$, the correlation $g$, or both together?

# %%
def pairs_of(clip, memory=4, query=7):
    """Similarity s and correlation g of a clip (m q), and its pairs: target pixels q whose counterpart is seen, true matches m, rivals."""
    key = network.encode(rearrange(clip.frames[[memory, query]], "t H W c -> t c H W") / 255).key
    s = te.memory.negative_squared_l2(key[:1], key[1:])[0]
    described = make_agents.describe(key[:1])
    g = te.memory.agents.agent_correlation(described.likelihood, make_agents.likelihood(key[1:], described))[0]

    # A cell has 4 x 4 pixels; pixel [2, 2] of it speaks for the cell: [2::4, 2::4] is one value per cell.
    true = clip.correspondence(query, memory)  # where each query pixel truly is in the memory frame, and whether it is seen there
    cell = (true.positions[2::4, 2::4] // 4).long().clamp(0, 23)  # pixels to cells
    asking = true.visible[2::4, 2::4] & (clip.index_masks[query, 2::4, 2::4] == 1)
    q = rearrange(asking, "h w -> (h w)").nonzero()[:, 0]
    m = rearrange(cell[..., 0] * 24 + cell[..., 1], "h w -> (h w)")[q]

    layers = rearrange(clip.layers[memory, 2::4, 2::4], "h w -> (h w)")  # who is on top: 0 background, 1 target, from 2 on other things
    things = (layers > 1).nonzero()[:, 0]  # the cells of all other things
    rival = things[s[things].argmax(dim=0)][q]
    return s, g, q, m, rival


# %%
margins = []
for seed in range(12):
    s, g, q, m, rival = pairs_of(te.data.synthetic.make_clip(seed, level="hard"))
    log_g = torch.log(g + 1e-6)
    margins.append(torch.stack([s[m, q] - s[rival, q], log_g[m, q] - log_g[rival, q]]))  # above 0: prefers the true match
s_margin, g_margin = torch.cat(margins, dim=1)

# %%
wrong = s_margin < 0
print(f"pairs: {len(s_margin)}")
print(f"s prefers the true match          {float((s_margin > 0).float().mean()):.2f}")
print(f"g prefers it                      {float((g_margin > 0).float().mean()):.2f}")
print(f"g prefers it, where s is wrong    {float((g_margin[wrong] > 0).float().mean()):.2f}    (a coin: 0.50)")
print(f"s + log g prefers it              {float((s_margin + g_margin > 0).float().mean()):.2f}")
print(f"mean margin where s is wrong:  s {float(s_margin[wrong].mean()):.0f},  log g {float(g_margin[wrong].mean()):.2f}")
assert g_margin[wrong].abs().mean() < 0.2 * s_margin[wrong].abs().mean()

# %% [markdown]
# On 64 clips a level, recorded (`python benchmarks/parts.py`, [results](../docs/results.md), section 1f):
#
# | | medium, 2578 pairs | hard, 2186 pairs |
# |---|---|---|
# | s prefers the true match | 0.59 | 0.39 |
# | g prefers it | 0.48 | 0.45 |
# | g prefers it, where s is wrong | 0.41 | 0.45 |
# | s + log g prefers it | 0.59 | 0.40 |
# | mean margin of s, where s is wrong | -20.45 | -17.70 |
# | mean margin of log g, where s is wrong | -0.46 | -0.36 |
#
# Where the similarity errs, agents do worse than a coin: $g$ prefers the true match in fewer than half of the pairs, and the mean of its log margin is *negative*. So $\log g$ leans to the wrong side, that of the rival. (In the few clips above the share can come out on either side of one half; the mean margin leans the same way.) And where $g$ is right, its voice is far too soft to overrule $s$: compare the two margins. Adding $\log g$ changes no share by more than 0.01.
#
# That is no accident of this network. **$g$ is computed from the very keys that $s$ compares at full rank**, so it can only see what $s$ already saw, more coarsely. In the limit of *all* directions, the agents' coordinates hold exactly what the dot product holds (identity 3 again):

# %%
everything = te.memory.agents.principal_directions(frame_key, 32)[0]  # as many directions as key channels
of_memory = einsum(everything, rearrange(frame_key[0], "ck h w -> (h w) ck"), "n ck, m ck -> n m")
of_query = einsum(everything, rearrange(query_key[0], "ck h w -> (h w) ck"), "n ck, q ck -> n q")
from_agents = einsum(of_memory, of_query, "n m, n q -> m q") / 32**0.5
torch.testing.assert_close(from_agents, te.memory.dot_product(frame_key, query_key)[0], rtol=1e-3, atol=1e-2)
print("coordinates along 32 directions give the dot product of 32 channels back")

# %% [markdown]
# Could training change that? Notebook 03 shows the scores of a network trained with agents beside one trained without. That agents help large networks on real video is the paper's claim. What we measured there, before any training: agents of keys gain nothing, and agents that also see *where* a pixel lies gain 4.4 J on real videos with pasted look-alikes, nothing on plain ones ([results](../docs/results.md), section 2d).
#
# ## Where it breaks
#
# **Look-alikes.** Make the problem pure: give a pixel of the look-alike *exactly* the key of a target pixel. Equal keys have equal likelihoods, hence equal $g$, hence equal weights, whatever $\lambda$ is.

# %%
target_cell, twin_cell = (13, 10), (19, 10)  # on the target, and on the look-alike below it
twins = memory_key[:, 2].clone()
twins[..., twin_cell[0], twin_cell[1]] = twins[..., target_cell[0], target_cell[1]]
a, b = (y * 24 + x for y, x in (target_cell, twin_cell))
for rectify in (0.0, 1.0, 10.0):
    reader = te.memory.TrajectoryReader.paper(32, 64, rectify=rectify)
    weights = reader([reader.store(twins, stored.value, 4)], query_frame, insides=True).insides.affinity[0, 0]
    torch.testing.assert_close(weights[a], weights[b], rtol=1e-3, atol=1e-7)
    print(f"lambda = {rectify:4.1f}: both twins get the same weight from every query pixel")

# %% [markdown]
# Only something that is *not in the key* can tell twins apart: where they are and where they came from. That is the trajectory, and the next notebook.
#
# **Collapse.** Suppose we do what "agents by SVD" says at first reading: no centring, agents scaled by their singular values, a dot product instead of the cosine. STCN's similarity measures *differences* of keys, so one vector added to all keys and queries changes no affinity, and training may leave the keys anywhere. The naive agents do notice:

# %%
def naive_likelihood(key, asked):
    rows = rearrange(key[0], "ck h w -> (h w) ck")
    _, S, V = torch.linalg.svd(rows, full_matrices=False)  # not centred
    scaled = rearrange(S[:4], "n -> n 1") * V[:4]
    naive = torch.cat([scaled, -scaled])
    return einsum(naive, rearrange(asked[0], "ck h w -> (h w) ck"), "a ck, q ck -> a q").softmax(dim=0)


moved_key, moved_query = (k + rearrange(3 * mean, "ck -> 1 ck 1 1") for k in (frame_key, query_key))  # any vector will do
moved = te.memory.negative_squared_l2(moved_key, moved_query)[0].softmax(dim=0)
torch.testing.assert_close(moved, affinity[0, 2], rtol=1e-2, atol=1e-4)  # the same affinity as before

cases = torch.stack([query_likelihood[0], naive_likelihood(frame_key, query_key), naive_likelihood(moved_key, moved_query)])
draw.agent_figure(clip.frames[[6, 6, 6]], cases, ["centred, cosine", "naive", "naive, keys moved"])

# %% [markdown]
# The first singular vector of uncentred keys is, nearly, the *mean* key, and it has by far the largest singular value. With moved keys it answers for every pixel, all likelihoods are alike, and $g = 1$ everywhere: $\log g = 0$, the rectification has switched itself off without an error message.

# %%
g = einsum(naive_likelihood(moved_key, moved_key), naive_likelihood(moved_key, moved_query), "a m, a q -> m q")
assert g.min() > 0.99
print(f"smallest g: naive, keys moved {float(g.min()):.2f}, centred {float(correlation.min()):.2f}")

# %% [markdown]
# **Exercise 3.** The pictures say how many agents are *in use*. Count them: let $u_a$ be the mean of the likelihood over all pixels, then the number is the exponential of its entropy, $\exp(-\sum_a u_a \log u_a)$. It is 8 if all are used alike and 1 after a collapse. (An agent that is never used has $u_a = 0$ and counts for nothing.)

# %% tags=["exercise"]
def effective_agents(likelihood):
    """How many agents are in use. likelihood: b a m, sums to one over a. Returns b."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.effective_agents(effective_agents)

# %% [markdown]
# ## What to take along
#
# - **Alignment** is one softmax per memory frame: each frame says where it believes a query pixel to be, $\tilde v_{tq}$.
# - **Agents** describe pixels by a few directions of a frame; $g$ says whether the same ones answer for two pixels, and corrects the affinity by $\lambda \log g$, that is by a factor $g^\lambda$.
# - They help where a match is spoilt by what they do not see (length, minor directions). They cannot part look-alikes: they read the keys that the similarity reads.
# - Centre the keys, or agents collapse.
#
# Answers to the exercises: [answers/02_spatial_alignment](answers/02_spatial_alignment.ipynb). Next: what to do with one answer per frame, in [03 · Temporal aggregation](03_temporal_aggregation.ipynb).
