# %% [markdown]
# # 00 · Tour
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/00_tour.ipynb)
#
# **The question.** You outline one thing in the first frame of a video. Where is it in every frame after that, when something beside it looks almost the same?
#
# This task is called *semi-supervised video object segmentation*. A network gets the video and the mask of frame 0. It returns a mask for every later frame. It has no class names to hold on to, and it is not trained on your video: all it knows about your object is what it remembers from the frames before.
#
# In this tour you segment a clip three times, measure how good the masks are, and look inside: where did a pixel look in memory, and which path does that draw? About 20 minutes, and 10 for the exercises.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import torch
import tmrn_edu as te
from tmrn_edu import nb

nb.setup(seed=0)

# %% [markdown]
# ## A clip with a look-alike
#
# We painted this clip ourselves, with [`make_clip`](../tmrn_edu/data/synthetic.py#L102). (JupyterLab opens such a link at the top of the file; `te.data.synthetic.make_clip??` in a cell shows the source too.) Object 1, in orange outline, is the **target**. One of the others was cut from the same kind of cloth, checked like it, and its path crosses the target's: the **look-alike**.

# %%
clip = te.data.synthetic.make_clip(seed=5, level="medium")
te.viz.contact_sheet(clip.frames, clip.index_masks, alpha=0, thickness=2, dpi=70)

# %% [markdown]
# Because we painted it, we know the truth everywhere: the mask of every frame, and where each pixel came from. Nothing has to be downloaded. The network will see the frames and *one* mask, that of frame 0.
#
# All shapes in this library are written with one set of letters, in one order, `b o t c h w`. Capital `H W` are pixels of the image, small `h w` are cells of a coarser grid. `help(te)` prints the legend.

# %%
print("frames     ", tuple(clip.frames.shape), clip.frames.dtype, "  t H W 3")
print("index masks", tuple(clip.index_masks.shape), clip.index_masks.dtype, "     t H W: 0 background, 1 the target")

# %% [markdown]
# ## How good is a mask?
#
# Two numbers, both in $[0, 1]$ and both from DAVIS, the usual benchmark of this task (Perazzi et al., CVPR 2016).
#
# *Region similarity* asks whether the right pixels are marked: intersection over union of prediction $A$ and truth $B$,
#
# $$J = \frac{|A \cap B|}{|A \cup B|} \qquad \text{(DAVIS, section 5.1)}$$
#
# *Boundary accuracy* asks whether the outline lies in the right place. With precision $P$ (how much of the predicted outline lies on the true one) and recall $R$ (how much of the true outline was found), where a small distance is forgiven (0.8 % of the image's diagonal, which is 2 pixels here),
#
# $$F = \frac{2PR}{P + R} \qquad \text{(DAVIS, section 5.1)}$$
#
# Before any network, try the laziest method there is: copy the mask of frame 0 to all frames. Anything worth the effort should beat it. [`score`](../tmrn_edu/metrics.py#L110) returns the means over the frames that count: not the first, whose mask is given, nor the last, which DAVIS leaves out.

# %%
copied = clip.index_masks[:1].expand_as(clip.index_masks)
copying = te.metrics.score(copied, clip.index_masks)
print(f"copying the first mask: J {copying.J:.2f}, F {copying.F:.2f}")
te.viz.contact_sheet(clip.frames[[1, 3, 5, 7]], copied[[1, 3, 5, 7]], alpha=0, thickness=2, titles=[f"copied to {t}" for t in (1, 3, 5, 7)], columns=4, dpi=60)

# %% [markdown]
# **Exercise 1.** Write $J$ for one frame. Both masks are boolean tensors `H W`. Think of the frame in which the object is hidden and the prediction is rightly empty.


# %% tags=["exercise"]
def intersection_over_union(prediction, truth):
    """J of two boolean masks `H W`: a number in [0, 1], and 1 if both are empty."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.intersection_over_union(intersection_over_union)

# %% [markdown]
# The worked answer is in [answers/00_tour](answers/00_tour.ipynb). Here is frame 3 three times, as the ideas of these lessons come: a slow loop in which nothing is hidden, one line, and the package ([`region_similarity`](../tmrn_edu/frame_metrics.py#L27)), with an `assert` that they agree.

# %%
A, B = copied[3] == 1, clip.index_masks[3] == 1
both = either = 0
for y in range(96):
    for x in range(96):
        both += bool(A[y, x] and B[y, x])
        either += bool(A[y, x] or B[y, x])

line = (A & B).sum() / (A | B).sum()
assert abs(both / either - line) < 1e-6
assert abs(te.metrics.region_similarity(A, B) - line) < 1e-6
print("J of frame 3: loop, line and package agree")

# %% [markdown]
# ## A network with a memory
#
# STM (ICCV 2019) had the idea that this library is about: keep past frames, with their masks, as a **memory**, and let every pixel of the new frame, the *query*, look things up there. A memory pixel holds a *key*, a vector that is matched with the query's, and a *value*, a vector that is read. With $s_{tmq}$ the similarity of memory pixel $m$ of frame $t$ to query pixel $q$, the query pixel gets back its *readout*,
#
# $$\text{readout}_q = \sum_{t,m} w_{tmq}\; \text{value}_{tm}, \qquad w_{tmq} = \operatorname{softmax}_{(t\,m)} s_{tmq} \qquad \text{(STM, section 3.2)}$$
#
# All pixels of all frames compete in one softmax. This is the *space-time read*. **TMRN** ("Alignment Before Aggregation", ICCV 2023) replaces this one step, in two parts:
#
# 1. *spatial alignment*: the query pixel looks into each memory frame by itself and finds its counterpart there (weights $W_{tmq}$, a softmax over $m$ alone);
# 2. *temporal aggregation*: the counterparts form the pixel's **trajectory** through time, and the network learns how much each frame counts (weights $u_{tq}$, a softmax over $t$).
#
# Both $w$ and $W$ are called *affinity*, so mind the letter: $w$ sums to one over all pixels of all frames, $(t\,m)$; $W$ sums to one over $m$ in each frame. The figures show $W$.
#
# The paper's supplement describes these steps; its code is not public. So every equation in the library says where it comes from: **[S]** said by the supplement, **[K]** taken from its kin (published methods that do something similar), **[ours]** our completion. An equation of another network names the paper and its section.
#
# Three small networks that come with the package ([`load`](../tmrn_edu/weights.py#L146)) are built alike but for their *reader*, the module that does this step. Each was trained by itself, from the same first weights on the same clips, so their keys differ too:
#
# - `stcn-tiny`: STCN (NeurIPS 2021) with the space-time read ([`SpaceTimeReader`](../tmrn_edu/memory/space_time.py#L66)), the baseline;
# - `tmrn-stcn-tiny`: the same with TMRN's reader as we read it in the supplement ([`TrajectoryReader`](../tmrn_edu/memory/readers.py#L35));
# - `tmrn-stcn-chained-tiny`: a further step of ours, in which the trajectory is followed from frame to frame. **[ours]**

# %%
names = ["stcn-tiny", "tmrn-stcn-tiny", "tmrn-stcn-chained-tiny"]
networks = {name: te.load(name) for name in names}
for name, network in networks.items():
    parameters = sum(p.numel() for p in network.parameters())
    print(f"{name:23} {type(network.reader).__name__:17} {parameters:,} parameters")

# %% [markdown]
# ## Segment, and score
#
# One call of [`segment`](../tmrn_edu/segmenter.py#L259). Masks are given as a dictionary from frame number to mask, and `memory_every=1` puts every frame into memory once it is segmented (in real videos, where neighbouring frames hardly differ, every fifth is usual).

# %%
given = {0: clip.index_masks[0]}
results = {name: te.segment(network, clip.frames, given, memory_every=1) for name, network in networks.items()}
scores = {name: te.metrics.score(result.index_masks, clip.index_masks) for name, result in results.items()}
for name, score in scores.items():
    print(f"{name:23} J {score.J:.2f}   F {score.F:.2f}")

# %% [markdown]
# **Predict the shape.** `result.probabilities` holds, for every frame and pixel, the probability of each label `l`: background, then objects. What is its shape for this clip? (To predict means: before you scroll on. The cell below a question shows its answer.)
#
# <details><summary>Answer</summary>
#
# `t l H W = (8, 2, 96, 96)`: eight frames, two labels (background and one object). Over `l` it sums to one. `result.index_masks`, `t H W`, holds the most probable label.
# </details>

# %%
result = results["stcn-tiny"]
print("probabilities", tuple(result.probabilities.shape))
torch.testing.assert_close(result.probabilities.sum(dim=1), torch.ones(8, 96, 96))
print("they sum to one over the labels")

# %%
times = [2, 4, 6]
rows = {"truth": clip.index_masks} | {name: result.index_masks for name, result in results.items()}
te.viz.contact_sheet(
    clip.frames[times * len(rows)],
    torch.cat([masks[times] for masks in rows.values()]),
    columns=len(times),
    titles=[f"{name}: {t}" for name in rows for t in times],
    alpha=0,
    thickness=2,
    dpi=65,
)

# %% [markdown]
# Compare the numbers and the pictures for yourself, and do not conclude much: **one clip is an anecdote.** Every network comes with a record of how it was trained and how it scored on 64 clips per level that it had not seen: "easy" clips have no look-alike, "medium" ones have one, "hard" ones two and sometimes something in front.

# %%
for name in names[1:]:
    print(f"on this clip  {name:23} J {scores[name].J - scores['stcn-tiny'].J:+.2f} against the baseline")
records = {info.name: info.scores for info in te.list_networks()}
for name in names:
    print(f"on 64 clips   {name:23}", "   ".join(f"{level} J {records[name][level]['J']:.3f}" for level in ("easy", "medium", "hard")))

# %% [markdown]
# One training run each, so small differences mean little here. How to compare methods fairly is the subject of [08](08_evaluation.ipynb).

# %% [markdown]
# ## Where did a pixel look?
#
# [`look`](../tmrn_edu/looking.py#L57) performs a single read and keeps what happened inside it. The query is frame 5. Frames 1 to 4 are memory; their true masks are given, so that what we see is the read and not the errors of earlier frames.

# %%
query, memory = 5, (1, 2, 3, 4)
looks = {name: te.look(network, clip.frames, clip.index_masks, query, memory) for name, network in networks.items()}
pixel = te.viz.choose_pixel(looks, clip)
te.viz.affinity_figure(looks, pixel)

# %% [markdown]
# One row per reader. The square in the query frame marks the pixel that asks; the numbers above it are (row, column). Bright cells are where it looks in each memory frame: the colour is $W$, as a share of the largest in that frame. Two bright spots mean that the reader cannot tell two places apart. $u$ is how much the frame counts. (For the space-time read too: $w_{tmq} = W_{tmq}\, u_{tq}$, as [01](01_reading_a_memory.ipynb) shows.)
#
# This pixel was not drawn by chance. [`choose_pixel`](../tmrn_edu/viz/trajectories.py#L91) takes the one at which the baseline is further from the truth than the others by most: such an example shows *how* readers differ, not how *often*.
#
# The mean position of the bright cells in each frame, in the order of time, is the pixel's **trajectory**. Here it is, drawn on the query frame from the square back in time, a number for each memory frame, beside the truth (dashed, yellow crosses):

# %%
te.viz.trajectory_figure(looks, pixel, truth=clip)

# %% [markdown]
# A mean may fall between two bright cells, where nothing matches at all. So we also ask for the **best match** in every memory frame, the one brightest cell. The affinity $W$ of one query pixel is a table `t m`: a row for every memory frame, in it a weight for every cell of the grid, counted row by row. A grid of width `w` has cell (y, x) at place `m = y * w + x`. With a loop, for our pixel:

# %%
look = looks["stcn-tiny"]
h, w = look.insides.trajectory.shape[-2:]
cell = look.pixel_to_cell(*pixel)
affinity = look.insides.affinity[0, :, :, cell[0] * w + cell[1]]

best = []
for t in range(len(memory)):
    brightest = 0
    for m in range(h * w):
        if affinity[t, m] > affinity[t, brightest]:
            brightest = m
    best.append(divmod(brightest, w))  # (m // w, m % w)
print("affinity t m =", tuple(affinity.shape), " on a grid h w =", (h, w))

# %% [markdown]
# **Exercise 2.** Write it without loops, for any table `t m`, as a tensor `t 2`.


# %% tags=["exercise"]
def best_cells(affinity, height, width):
    """The brightest cell (y, x) of each memory frame. affinity: t m, on a grid height x width. Returns t 2."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.best_cells(best_cells)

# %% [markdown]
# How *often* a reader is right is a question for all pixels of the target. [`look_pck`](../tmrn_edu/evaluate_clips.py#L113) takes all their best matches: how many of them lie within 4 pixels of the true place?

# %%
from tmrn_edu.evaluate_clips import look_pck

for name, look in looks.items():
    print(f"{name:23} {look_pck(look, clip, threshold=4):.2f} of the best matches are right to 4 pixels")

# %% [markdown]
# About two of three are wrong, with every reader, and yet $J$ was 0.8 or more: to carry a mask over, *any* cell of the right thing will do. A good match and a good mask are two questions.
#
# Now click. In a running notebook the picture below answers to clicks, drags and arrow keys; on a web page that shows no widgets you see it as a still.

# %%
view = te.viz.explore(looks, pixel, top_k=8, truth=clip)
view

# %% [markdown]
# The widget is an object like any other ([`Explorer`](../tmrn_edu/viz/explorer.py#L42)). Set its query, and ask for the best match in each memory frame. It is what the loop found, and what two lines find:

# %%
view.query = cell
m = affinity.argmax(dim=1)
line = torch.stack([m // w, m % w], dim=1)
assert view.matches == best == [tuple(place) for place in line.tolist()]
print("one best cell in each of the memory frames", view.about["memory"], "- loop, lines and package agree")

# %% [markdown]
# ## Where it breaks
#
# **A hidden object, and its look-alike in reach.** This time follow the *other* one: outline the look-alike in frame 0. It will pass behind our target. (`clip.layers` says which thing is on top at each pixel; 2 is the look-alike.)

# %%
look_alike = (clip.layers == 2).to(torch.uint8)
for t in (0, 1, 3, 5):
    print(f"frame {t}: {int(look_alike[t].sum()):4} pixels of the look-alike are to be seen")

# %% [markdown]
# **Predict.** In frame 5 the look-alike is all but gone. What will its mask do: disappear, stay where it was, or go somewhere else?
#
# <details><summary>Answer</summary>
#
# It slides over to the target. Every pixel of the target resembles the look-alike, and the weights of a softmax sum to one: a read has to find its answer somewhere, it cannot say "nowhere".
# </details>

# %%
followed = te.segment(networks["stcn-tiny"], clip.frames, {0: look_alike[0]}, memory_every=1)
te.viz.contact_sheet(clip.frames[[0, 1, 3, 5]], followed.index_masks[[0, 1, 3, 5]], alpha=0, thickness=2, titles=["given", "1", "3", "5"], dpi=70)

# %%
on_target = {}
for t in (1, 3, 5):
    marked = followed.index_masks[t] == 1
    on_target[t] = float((clip.index_masks[t][marked] == 1).float().mean())
    print(f"frame {t}: {on_target[t]:.0%} of what is marked as the look-alike is the target")
assert on_target[5] > 0.5

# %% [markdown]
# The mask slid over to the target. From frame 1 on, memory holds masks that the network made itself, and a wrong one, once stored, is evidence for the next. So a better read does not automatically give better masks; that is why the library always scores both, masks from predicted memories and from true ones.

# %% [markdown]
# ## A real video
#
# The networks above learned from painted shapes of 96 x 96 pixels, to be understood. For a video of your own there are **mobile** ones, whose *trunk* (the first and largest part of an encoder) has learned from photographs; `te.segment` takes one of them where no network is named. Real videos belong to somebody, so here is the next best thing: a clip in the size of a real video, whose textures are cut from pictures. The target is a brown thing with a red patch, on brown ground:

# %%
from tmrn_edu.data.photos import bundled_photos

real = te.data.synthetic.make_clip(seed=115, level="easy", frames=12, size=(240, 426), pictures=bundled_photos())
first_mask = {0: real.index_masks[0]}
found = {"mobile": te.segment(frames=real.frames, masks=first_mask), "tiny": te.segment(networks["stcn-tiny"], real.frames, first_mask)}
for name, result in found.items():
    print(f"{name:6} J {te.metrics.score(result.index_masks, real.index_masks).J:.2f}")

# %%
times, rows, columns = [3, 6, 9], slice(50, 165), slice(185, 320)  # the part around the target
masks = {"truth": real.index_masks} | {name: result.index_masks for name, result in found.items()}
te.viz.contact_sheet(
    real.frames[times * 3, rows, columns],
    2 * torch.cat([m[times, rows, columns] for m in masks.values()]),  # in light blue, the colour of object 2
    columns=3,
    titles=[f"{name}: {t}" for name in masks for t in times],
    alpha=0,
    thickness=2,
    dpi=70,
)

# %% [markdown]
# The tiny network loses the target's lower rim, and takes in a little of the thing beside it.
#
# In a shell: `tmrn-edu segment my.mp4 --mask first.png --out out/mine`. Why such a network holds where a tiny one fails, what it remembers of a long video, and what to do when the masks go wrong: [09](09_your_own_video.ipynb).

# %% [markdown]
# ## The map
#
# One idea a file; the supplement is TMRN's.
#
# | idea | paper | file in `tmrn_edu/` | notebook |
# | --- | --- | --- | --- |
# | keys, similarities | STM 3.2, STCN "Similarity Function", XMem 3.2 | [`memory/similarity.py`](../tmrn_edu/memory/similarity.py) | [01](01_reading_a_memory.ipynb) |
# | affinity, top-k, space-time read | STM 3.2, STCN | [`memory/affinity.py`](../tmrn_edu/memory/affinity.py), [`memory/space_time.py`](../tmrn_edu/memory/space_time.py) | [01](01_reading_a_memory.ipynb) |
# | agents and their correlation | supplement | [`memory/agents.py`](../tmrn_edu/memory/agents.py) | [02](02_spatial_alignment.ipynb) |
# | spatial alignment | supplement | [`memory/alignment.py`](../tmrn_edu/memory/alignment.py) | [02](02_spatial_alignment.ipynb) |
# | temporal aggregation | supplement | [`memory/aggregation.py`](../tmrn_edu/memory/aggregation.py) | [03](03_temporal_aggregation.ipynb) |
# | TMRN's reader, whole | supplement | [`memory/readers.py`](../tmrn_edu/memory/readers.py) | [03](03_temporal_aggregation.ipynb) |
# | which frames are kept | STM "Inference" | [`memory/working.py`](../tmrn_edu/memory/working.py) | [05](05_stcn.ipynb) |
# | STM, whole | STM 3 | [`networks/stm.py`](../tmrn_edu/networks/stm.py), [`encoders.py`](../tmrn_edu/encoders.py), [`decoder.py`](../tmrn_edu/decoder.py) | [04](04_stm.ipynb) |
# | STCN, whole | STCN 3 | [`networks/stcn.py`](../tmrn_edu/networks/stcn.py) | [05](05_stcn.ipynb) |
# | XMem, whole, without long-term memory | XMem 3 | [`networks/xmem.py`](../tmrn_edu/networks/xmem.py), [`memory/sensory.py`](../tmrn_edu/memory/sensory.py) | [06](06_xmem.ipynb) |
# | GSFM, whole: STCN with two spectral filters | GSFM | [`networks/gsfm.py`](../tmrn_edu/networks/gsfm.py) | (no lesson) |
# | several objects | STM "Multi-object Segmentation" | [`masks.py`](../tmrn_edu/masks.py) | [01](01_reading_a_memory.ipynb) |
# | a video, frame by frame | STM "Inference" | [`inference.py`](../tmrn_edu/inference.py), [`segmenter.py`](../tmrn_edu/segmenter.py) | [04](04_stm.ipynb) |
# | learning | STCN "Implementation Details" | [`train.py`](../tmrn_edu/train.py), [`training/`](../tmrn_edu/training), [`losses.py`](../tmrn_edu/losses.py), [`recipes/`](../tmrn_edu/recipes) | [07](07_training.ipynb) |
# | J and F | DAVIS 5.1 | [`metrics.py`](../tmrn_edu/metrics.py), [`evaluate.py`](../tmrn_edu/evaluate.py) | [08](08_evaluation.ipynb) |
# | keys for real video | MobileNetV2, ours | [`mobile.py`](../tmrn_edu/mobile.py), [`imagenet.py`](../tmrn_edu/imagenet.py) | [09](09_your_own_video.ipynb) |
# | a file in, masks out | ours | [`segment_video.py`](../tmrn_edu/segment_video.py), [`data/video.py`](../tmrn_edu/data/video.py) | [09](09_your_own_video.ipynb) |
# | your own reader | ours | [`memory/readers.py`](../tmrn_edu/memory/readers.py) | [10](10_experiment.ipynb) |
# | clips with known truth | ours | [`data/synthetic.py`](../tmrn_edu/data/synthetic.py) | all |
#
# ## What to take along
#
# - The task: one mask in, a mask for every later frame out. All that is known of the object is what **memory** holds: keys to match, values to read.
# - **J** counts pixels, **F** counts outline. One clip is an anecdote; a table over many clips is a result.
# - A pixel's **trajectory** is where it looks in each memory frame. STM, STCN and XMem let all frames compete at once; TMRN asks each frame by itself, then weighs the answers.
# - A read cannot answer "nowhere", and a wrong mask, once stored, is evidence for the next.
#
# Answers to the exercises: [answers/00_tour](answers/00_tour.ipynb). Next: [01 · Reading a memory](01_reading_a_memory.ipynb) opens the formula above and computes it three ways. Last comes [10 · Experiment](10_experiment.ipynb): write a memory reader of your own in 25 lines, plug it into STCN, train it for a minute, score it.
