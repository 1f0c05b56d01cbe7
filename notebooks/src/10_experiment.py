# %% [markdown]
# # 10 · Experiment
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/10_experiment.ipynb)
#
# **The question.** You have an idea for a better memory read. How do you find out within an hour whether it is one?
#
# We go the whole way once with an idea of our own: look at a failure, measure what the idea needs to be true, write a **reader** in 25 lines, let a checker try it, put it into a trained STCN without changing one pixel, choose its number, train it for half a minute beside a control, score it against the other readers, say how sure we are, and break it. Then you do it with yours. About 40 minutes, and 20 for the exercises. Notebooks 01, 03 and 05 come first, 07 and 08 help.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import os
import tempfile
from pathlib import Path

import torch
from einops import rearrange, reduce, repeat

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.evaluate_clips import held_out_clips, score_clips
from tmrn_edu.memory.alignment import chain_prior, grid_positions
from tmrn_edu.viz.keys import side_by_side
from tmrn_edu.viz.metrics import paired_figure

nb.setup(seed=0)

# %% [markdown]
# ## A failure
#
# Clips come in two piles from the start. On the first, **to choose on**, we may look, try and tune as we like. The second, **to score on**, is opened once, at the end. (Training draws its clips elsewhere, from seed ten million on.)

# %%
to_choose = held_out_clips("medium", 8, first_seed=200)
stcn = te.load("stcn-tiny").eval()

clip = to_choose[3]
result = te.segment(stcn, clip.frames, {0: clip.index_masks[0]}, memory_every=1)
times = [0, 1, 2, 4, 6]
te.viz.contact_sheet(
    clip.frames[times * 2],
    torch.cat([clip.index_masks[times], result.index_masks[times]]),
    columns=5,
    titles=[f"{name}: {t}" for name in ("truth", "STCN") for t in times],
    alpha=0.35,
    dpi=65,
)

# %% [markdown]
# As soon as the look-alike covers the target, STCN marks parts of it too, some of them far from where the target has ever been. It cannot know better: its softmax compares keys, and *where* a key lies does not enter (lesson 01, "where it breaks").
#
# **The idea.** A pixel is likely to be found near its own place, the more so the younger the memory frame.
#
# ## Is it true? Measure before you model
#
# Our clips know where every pixel of the last frame was in every frame before. Here is how often a pixel was found so many cells away from its own place (the middle), one, two and four frames earlier:

# %%
reach = 8  # cells


def moved(steps):
    """Where the visible pixels of the last frame were `steps` frames ago, seen from their own place, in cells of 4 pixels: n 2."""
    found = []
    for one in to_choose:
        last = len(one.frames) - 1
        past = one.correspondence(last, last - steps)
        places = torch.stack(torch.meshgrid(*map(torch.arange, past.visible.shape), indexing="ij"), dim=-1)
        found.append((past.positions - places)[past.visible] / stcn.cell)
    return torch.cat(found)


maps = {}
for steps in (1, 2, 4):
    y, x = (moved(steps).round().long().clamp(-reach, reach) + reach).unbind(1)
    counts = torch.zeros(2 * reach + 1, 2 * reach + 1).index_put((y, x), torch.ones(len(y)), accumulate=True)
    maps[f"{steps} ago"] = (counts / counts.max()).sqrt()
side_by_side(maps, columns=3)

# %%
for steps in (1, 2, 4, 7):
    square = reduce(moved(steps) ** 2, "n yx -> n", "sum").mean()
    print(f"{steps} frames ago: mean square {square:5.2f} cells^2, divided by steps {square / steps:.2f}, divided by steps^2 {square / steps**2:.2f}")

# %% [markdown]
# Near its own place it is, and the cloud widens with time. How fast? Were motion a random walk, the mean square would grow like the number of steps. It grows like its **square**: things go on as they went (which is what our clips are like; a hand-held camera may be another matter). So a distance should be judged by $\text{steps}^2$, and the score becomes
#
# $$s'_{tmq} = s_{tmq} - \frac{\gamma}{\text{steps}_t^2}\,\big|\mathrm{pos}(m) - \mathrm{pos}(q)\big|^2 \qquad \textbf{[ours]}$$
#
# with positions in cells and $\gamma \ge 0$ one number to be learned. In the softmax this multiplies each weight by a Gaussian around the query's own place, whose width grows with the age of the frame. It is simpler than the chaining of lesson 03, which looks around the place where the *trajectory* was found last.
#
# **What would convince us**, written down before we look: with $\gamma$ chosen on the first pile, J on the second pile rises, the 95 % interval of the paired difference lies above zero, and it does so after training too, against a control that was trained just as long.
#
# ## Distances
#
# **Exercise 1.** All squared distances between the cells of a grid, memory cell `m` by query cell `q`. Both count rows first: cell 0 is at (0, 0), cell 1 at (0, 1).


# %% tags=["exercise"]
def square_distance(height, width):
    """|pos(m) - pos(q)|^2 between all cells of a grid of height x width cells: `m q`, floats."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.square_distance(square_distance)

# %% [markdown]
# By a loop, by one line, and by the package, whose [`chain_prior`](../tmrn_edu/memory/alignment.py#L35) was written for chaining and serves here too:

# %%
loop = torch.zeros(24, 24)
for m in range(24):
    for q in range(24):
        loop[m, q] = (m // 6 - q // 6) ** 2 + (m % 6 - q % 6) ** 2

place = rearrange(grid_positions(4, 6, like=loop), "yx h w -> yx (h w)")
line = reduce((rearrange(place, "yx m -> yx m 1") - rearrange(place, "yx q -> yx 1 q")) ** 2, "yx m q -> m q", "sum")
torch.testing.assert_close(line, loop)
torch.testing.assert_close(chain_prior(grid_positions(4, 6, like=loop), place[None])[0], loop)
print("loop, line and package agree: squared distances m q =", tuple(loop.shape))

# %% [markdown]
# ## The reader
#
# All readers of the library are the same walk over memory frames, newest first ([`SpaceTimeReader`](../tmrn_edu/memory/space_time.py#L66)): score the pixels of a frame, take the softmax over them, bring the values over, pool over time. Two of its methods say what most ideas change:
#
# - [`SpaceTimeReader.score`](../tmrn_edu/memory/space_time.py#L139) gives $s$ of one memory frame, `b m q`. Where to look **in** a frame.
# - [`SpaceTimeReader.temporal_score`](../tmrn_edu/memory/space_time.py#L143) gives $e$ of one memory frame, `b q`. How much the frame **counts**.
#
# (What is kept of a frame, or needs the whole query frame, such as the neighbours of a pixel, goes into `store` and `prepare`: [CONTRIBUTING](../CONTRIBUTING.md), "Add a reader".) Ours replaces the first:

# %%
from tmrn_edu.memory.space_time import OWN, per_clip, query_positions
from tmrn_edu.memory.working import frames_apart


class NearbyReader(te.memory.SpaceTimeReader):
    """The space-time read that prefers places near the query pixel's own: s - gamma / steps^2 |pos(m) - pos(q)|^2. [ours]"""

    def __init__(self, gamma=0.0, similarity=None, top_k=OWN):
        super().__init__(similarity, top_k)  # None, OWN: those of the network it is put into
        self.gamma = torch.nn.Parameter(torch.tensor(float(gamma)))

    def settings(self):
        """The arguments that build it again; weight files keep them (the learned gamma is a weight)."""
        return super().settings() | {"gamma": 0.0}

    def score(self, frame, query, centre, gap):
        memory_place = grid_positions(*frame.key.shape[-2:], like=frame.key)  # yx h w
        query_place = repeat(query_positions(query), "yx h w -> b yx (h w)", b=len(frame.key))
        distance = chain_prior(memory_place, query_place)  # b m q
        steps = per_clip(frames_apart(query.index, frame.index), "b -> b 1 1", distance)
        return super().score(frame, query, centre, gap) - self.gamma / steps**2 * distance


# %% [markdown]
# Two lines look more careful than they need to be. A query may be a *block* of rows of its frame, so that a large frame fits into memory: [`query_positions`](../tmrn_edu/memory/space_time.py#L215) knows which. And in training every clip of a batch may have frame numbers of its own: [`per_clip`](../tmrn_edu/memory/space_time.py#L230) gives one number, or one per clip.
#
# Would you have thought of it? The library asks such things of any reader, by [`check.readers.reader`](../tmrn_edu/check/readers.py#L23): shapes, insides that add up, frames in any order, batches and blocks, a gradient for every weight, settings that build it again, and a run in STCN, STM and XMem. It asks twice, with the weights as they start and with each moved a little: at $\gamma = 0$ a wrong distance would not show.

# %%
assert te.check.reader(NearbyReader)

# %% [markdown]
# Here is a reader by somebody who took the places of the memory frame for those of the query, and all frames for equally old, as the checker sees it:

# %%
class Hasty(NearbyReader):
    def score(self, frame, query, centre, gap):
        place = grid_positions(*frame.key.shape[-2:], like=frame.key)
        distance = chain_prior(place, repeat(place, "yx h w -> b yx (h w)", b=len(frame.key)))
        return te.memory.SpaceTimeReader.score(self, frame, query, centre, gap) - self.gamma * distance


passed = te.check.reader(Hasty)

# %% [markdown]
# And against a loop, for one query pixel, since a reader may run well and compute something else:

# %%
torch.manual_seed(0)
keys, values, query_key = torch.randn(3, 1, 32, 4, 6), torch.randn(3, 1, 1, 64, 4, 6), torch.randn(1, 32, 4, 6)
numbers, now, gamma, q = (0, 2, 3), 5, 0.1, 8

weights, rows = [], []
for t in range(3):
    for m in range(24):
        k, asks = keys[t, 0, :, m // 6, m % 6], query_key[0, :, q // 6, q % 6]
        far = (m // 6 - q // 6) ** 2 + (m % 6 - q % 6) ** 2
        weights.append((2 * k @ asks - k @ k) / 32**0.5 - gamma / (now - numbers[t]) ** 2 * far)
        rows.append(values[t, 0, 0, :, m // 6, m % 6])
by_loop = torch.stack(weights).softmax(0) @ torch.stack(rows)

reader = NearbyReader(gamma)
stored = [reader.store(keys[t], values[t], numbers[t]) for t in range(3)]
with torch.no_grad():
    readout = reader(stored, te.memory.Query(query_key, now)).value
torch.testing.assert_close(readout[0, 0, :, q // 6, q % 6], by_loop, rtol=1e-4, atol=1e-5)
print("loop and reader agree")

# %% [markdown]
# **Exercise 2.** Write a reader yourself, by the other method: one that *forgets*. To the evidence of a frame (a `b q` tensor) it adds $-\text{rate} \cdot \log(1 + \text{steps})$. `step.affinity.evidence` is there already; `step.steps` says how many frames ago the frame was, as a number or as a tensor `b`.


# %% tags=["exercise"]
class ForgetfulReader(te.memory.SpaceTimeReader):
    """e[t,q] = evidence - rate * log(1 + steps): the older a memory frame, the less it counts."""

    def __init__(self, rate=1.0, similarity=None, top_k=OWN):
        super().__init__(similarity, top_k)
        self.rate = rate

    def settings(self):
        return super().settings() | {"rate": self.rate}

    def temporal_score(self, step, query_key, aligned_value):
        raise NotImplementedError


# %% tags=["check"]
passed = te.check.forgetful_reader(ForgetfulReader)

# %% [markdown]
# ## Into a trained network
#
# `te.load` takes a reader in place of the file's. With $\gamma = 0$ nothing may change: if it does, the reader is wrong, and there is no use in going on. This is the cheapest test that a reader can have, and [`check.readers.identity`](../tmrn_edu/check/readers.py#L40) asks it of three networks:

# %%
guest = te.load("stcn-tiny", reader=NearbyReader(gamma=0.0)).eval()
again = te.segment(guest, clip.frames, {0: clip.index_masks[0]}, memory_every=1)
torch.testing.assert_close(again.probabilities, result.probabilities, rtol=1e-3, atol=1e-4)
assert torch.equal(again.index_masks, result.index_masks)
print("gamma = 0: the same masks, pixel by pixel")
assert te.check.identity(NearbyReader)

# %% [markdown]
# ## Choose on the first pile
#
# **Predict.** Four values of $\gamma$, ten times apart: 0.01, 0.1, 1, 10. Scores differ by a few units between good and bad matches. Which $\gamma$ is best, and what happens at 10?
#
# <details><summary>Answer</summary>
#
# 0.1. At 10, a cell at distance 1 in the frame before loses ten units, more than any match can win: the pixel does not look around any more, and what moves is lost.
# </details>

# %%
chosen_J = {}
for gamma in (0.0, 0.01, 0.1, 1.0, 10.0):
    network = te.load("stcn-tiny", reader=NearbyReader(gamma))
    chosen_J[gamma] = score_clips(network, to_choose).J.mean()
    print(f"gamma {gamma:5.2f}: J {chosen_J[gamma]:.3f}")
best = max(chosen_J, key=chosen_J.get)
assert best == 0.1 and chosen_J[10.0] < chosen_J[0.0]

# %%
near = te.load("stcn-tiny", reader=NearbyReader(best)).eval()
query, memory = 4, (0, 1, 2, 3)
looks = {name: te.look(network, clip.frames, clip.index_masks, query, memory) for name, network in (("STCN", stcn), ("nearby", near))}
te.viz.explore(looks, te.viz.choose_pixel(looks, clip), top_k=8, truth=clip)

# %% [markdown]
# Point at the object, then at the look-alike, and compare the rows. The view works for your reader because it returns its insides, as all do. Nothing was trained so far: one number was set by hand.
#
# ## Train it, beside a control
#
# Training might do more, since keys can learn to leave to $\gamma$ what $\gamma$ does. But *any* further training changes a network. So two runs: the same first weights, the same 30 steps on the same clips in the same order, one with our reader and one with STCN's own. Only this pair says what the reader is worth in training. (A `Recipe` is a network with its settings, [`train`](../tmrn_edu/train.py#L55) the loop of lesson 07.)

# %%
from tmrn_edu.train import Recipe, TrainSettings, train

settings = TrainSettings(steps=30, batch=4, lr=5e-4)
folder = tempfile.TemporaryDirectory()  # goes with the kernel; your own runs belong into runs/
trained = {}
for name, make in {"STCN": te.memory.SpaceTimeReader, "nearby": lambda: NearbyReader(best)}.items():
    recipe = Recipe(name, lambda seed, make=make: te.load("stcn-tiny", reader=make()), settings)
    path = train(recipe, Path(folder.name) / name, progress=False)
    trained[name] = te.load(path, reader=type(make()))  # a reader of yours is given by its class; settings and weights come from the file
    print(name, "trained and loaded again")
print(f"gamma began at {best}, and is {float(trained['nearby'].reader.gamma.detach()):.1f} after 30 steps")

# %% [markdown]
# So few steps hardly move a single number: what moved is the keys. For a reader with much to learn, `reader_lr=20` in the settings lets its own weights learn twenty times as fast as the rest.
#
# **Exercise 3.** When may two scores be set side by side? A run is a dictionary: `start` (the weights that training began with), `steps`, `seed`, `chosen_on` (the set of clips on which settings were chosen) and `scored_on` (the set of clips of the score); and `reader`, which is what is compared.


# %% tags=["exercise"]
def fair(one, other):
    """Whether two runs may be compared: True or False."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.fair(fair)

# %% [markdown]
# ## Score, once
#
# Now the second pile. Beside the two pairs stand TMRN's reader as the paper has it and the chained one, both trained from the beginning (so they are *not* a fair comparison by your own rule; they say where we stand).

# %%
to_score = held_out_clips("medium", 12)
networks = {
    "STCN": stcn,
    "nearby, not trained": near,
    "STCN, 30 steps": trained["STCN"],
    "nearby, 30 steps": trained["nearby"],
    "TMRN, paper": te.load("tmrn-stcn-tiny"),
    "TMRN, chained": te.load("tmrn-stcn-chained-tiny"),
}
scores = {name: score_clips(network, to_score) for name, network in networks.items()}
paired_figure({name: one.J for name, one in scores.items()}, "J")

# %% [markdown]
# Left the networks themselves, right the differences to STCN, clip by clip; a filled diamond's interval leaves zero out (lesson 08). The two pairs that we may compare:

# %%
from tmrn_edu.bootstrap import interval

names = [str(number) for number in range(len(to_score))]
for mine, control in (("nearby, not trained", "STCN"), ("nearby, 30 steps", "STCN, 30 steps")):
    gained = interval(scores[mine].J - scores[control].J, names)
    true_gain = interval(scores[mine].J_true_memory - scores[control].J_true_memory, names)
    assert gained.low > 0 and true_gain.mean > 0
    print(f"{mine} - {control}: {'above zero with its whole interval' if gained.excludes_zero() else 'unsure'}; with true memories better too")

gain = interval(scores["nearby, not trained"].J - scores["STCN"].J, names)
print(f"without training: J {gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}] on {len(to_score)} clips")

# %% [markdown]
# So what we had written down came true, on these clips. Be slow to be glad:
#
# - Twelve clips of **one** kind, painted with motion that goes on as it went, as our measurement said. A real video has a camera.
# - One training run each, of 30 steps. Another seed gives another number; `te.ablation` runs many (lesson 08).
# - `true memories` says that the read itself is better, and not merely that errors pile up less.
#
# ## Where it breaks
#
# **The camera moves.** The same clips, but each frame is shifted by 12 pixels more than the one before, as if the camera panned (what leaves on the right comes back on the left). No object moves differently *within* the picture; only places change.

# %%
def panned(one, shift):
    """The clip as a panning camera sees it: frame t moved by t * shift pixels to the right."""
    roll = lambda pictures: torch.stack([torch.roll(picture, t * shift, dims=1) for t, picture in enumerate(pictures)])
    return roll(one.frames), roll(one.index_masks)


J = {}
for shift in (0, 4, 12):
    for name, network in (("STCN", stcn), ("nearby", near)):
        total = 0.0
        for one in to_choose:
            frames, masks = panned(one, shift)
            total += te.metrics.score(te.segment(network, frames, {0: masks[0]}, memory_every=1).index_masks, masks).J
        J[name, shift] = total / len(to_choose)
    print(f"camera moves {shift:2} pixels a frame: STCN {J['STCN', shift]:.2f}, nearby {J['nearby', shift]:.2f}")
assert J["nearby", 0] > J["STCN", 0] and J["nearby", 12] < J["STCN", 12]

# %%
frames, masks = panned(clip, 12)
rows = {"truth": masks} | {
    name: te.segment(network, frames, {0: masks[0]}, memory_every=1).index_masks for name, network in (("STCN", stcn), ("nearby", near))
}
te.viz.contact_sheet(
    frames[times * 3],
    torch.cat([one[times] for one in rows.values()]),
    columns=5,
    titles=[f"{name}: {t}" for name in rows for t in times],
    alpha=0.35,
    dpi=65,
)

# %% [markdown]
# The assumption is gone, and with it the gain. STCN does not care where things are, and so it does not mind. What would repair it? Looking around where the pixel was found *last*, instead of around its own place, is chaining; letting motion go on is `velocity` ([`TrajectoryReader`](../tmrn_edu/memory/readers.py#L35), preset *tracking*).
#
# **One reader for two kinds of network.** What a reader leaves open (similarity, top-k) it takes from the network that it is put into. Handed to a second kind, it would change under the first, and is refused:

# %% tags=["raises-exception"]
te.networks.STM.tiny(near.reader)

# %% [markdown]
# ## Real video
#
# The tiny networks know painted shapes only. For a real video put your reader into `stcn-mobile` (its keys live on another grid, of 8 pixels a cell, so choose $\gamma$ anew). With a folder of annotated videos on this computer (`JPEGImages/NAME/00000.jpg ...`, `Annotations/NAME/00000.png ...`, as DAVIS has them too), named in the environment variable `TMRN_VIDEOS`, this cell scores it there; otherwise it goes on.

# %%
videos = os.environ.get("TMRN_VIDEOS")
if videos is None:
    print("no TMRN_VIDEOS: nothing to score here")
else:
    for name, network in {"STCN": te.load("stcn-mobile"), "nearby": te.load("stcn-mobile", reader=NearbyReader(0.01))}.items():
        print(name, te.evaluate.evaluate("folder", videos, network=network, progress=False).score)

# %% [markdown]
# To train on such videos, put the class and its imports into a file, `my_reader.py`. The same run twice, with the network's own reader as the control; three videos are kept from both, and scored:
#
# ```
# tmrn-edu train stcn_mobile_long --data MY_VIDEOS --init stcn-mobile --held-out=3 --out runs/nearby --reader my_reader.py:NearbyReader
# tmrn-edu train stcn_mobile_long --data MY_VIDEOS --init stcn-mobile --held-out=3 --out runs/control
# tmrn-edu evaluate --dataset folder --data MY_VIDEOS --held-out 3 --json nearby.json --network runs/nearby/network.safetensors --reader my_reader.py:NearbyReader
# tmrn-edu evaluate --dataset folder --data MY_VIDEOS --held-out 3 --json control.json --network runs/control/network.safetensors
# tmrn-edu compare control=control.json nearby=nearby.json
# ```
#
# The same in Python, other settings, and several GPUs: [docs/training.md](../docs/training.md), "A reader of your own"; scores and intervals: [docs/evaluation.md](../docs/evaluation.md).
#
# ## What to take along
#
# - **Look, measure, then model.** The measurement gave the law ($\text{steps}^2$) that a guess (a random walk) would have missed.
# - A reader is **one or two methods**; `te.check.reader` asks the rest. At zero it must be the read that it came from.
# - **Two piles** of clips, what would convince you written down first, a **control** for training, **paired** differences with their interval. If your idea has two parts, switch off each by itself: the gain may be the other one's.
# - A gain belongs to the kind of clips that it was measured on. **Break it yourself** before others do.
#
# Answers to the exercises: [answers/10_experiment](answers/10_experiment.ipynb). Numbers of this library's own experiments: [docs/results.md](../docs/results.md). Now it is your turn: copy this notebook, and change `score`.
