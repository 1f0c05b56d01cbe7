# %% [markdown]
# # 07 · Training
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/07_training.ipynb)
#
# **The question.** All networks so far came trained. Where does a network learn to look the same thing up again, when nobody has a million annotated videos? And which of the many pixels of a clip should it learn from?
#
# The published answer, the same in outline for STM, STCN, XMem and TMRN's supplement: first **still images**, each warped into a little clip; then **videos**, a few frames at a time, with gaps that grow; and a loss that looks more and more at the **hardest pixels** only. We make such clips, take one step by hand, train a small network for half a minute, and look at what it was blamed for. At the end stand the commands for real runs, on one core or on many GPUs, and what they would cost. About 35 minutes, and 15 for the exercises. Notebooks 04 and 05 come first.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import csv
import logging
import shlex
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.courses import find_recipe, run_recipe
from tmrn_edu.data.video_clips import synthetic_set

nb.setup(seed=0)

# %% [markdown]
# ## A still becomes a clip
#
# Annotated pictures are cheap, annotated videos are not. So stage one takes one picture with its mask and shows it several times, each time as if object and camera had moved: turned, scaled and sheared (**affine**), **cropped**, bent by a **thin plate** that is pushed at 12 points, and with other **colours**. (STCN's code, `dataset/static_dataset.py`; XMem the same.)
#
# A way of moving is a map from each pixel of the new frame to a point of the picture: a [`Warp`](../tmrn_edu/data/warps.py#L148), made of steps such as [`turn`](../tmrn_edu/data/warps.py#L214), [`crop`](../tmrn_edu/data/warps.py#L197) and [`draw_thin_plate`](../tmrn_edu/data/warps.py#L104). Maps are composed, so any point can be followed through all of them, in both directions. Markers and net are points of the still:

# %%
from tmrn_edu.data.colours import Jitter, recolour
from tmrn_edu.data.transforms import Warp, warp_frame
from tmrn_edu.data.warps import crop, draw_thin_plate, turn

video = synthetic_set(60, length=12).videos[9]
picture, mask = video.frame(0), video.mask(0)  # H W 3 and H W
rng = np.random.default_rng(4)
tilt = turn((120, 160), angle=15, scale=1.05, shear=8)
box = crop((0, 30, 120, 120), (96, 96))  # top, left, height, width -> size of the frame
bent = draw_thin_plate(rng, (96, 96), points=12, sigma=0.02)

# From the frame back to the picture: what happens to a picture last stands first.
warps = {"the still": Warp(), "affine": Warp().then(tilt), "and crop": Warp().then(box).then(tilt)}
warps["and thin plate"] = warps["and colour"] = Warp().then(bent).then(box).then(tilt)
sizes = [(120, 160)] * 2 + [(96, 96)] * 3
views = [warp_frame(picture, warp, size) for warp, size in zip(warps.values(), sizes)]
views[4] = recolour(views[4], Jitter(0.1, 0.05, 0.05).draw(rng))

# %%
inside = (mask == 1).nonzero().double()
points = inside[len(inside) // 10 :: len(inside) // 5][:5]
net = torch.stack(torch.meshgrid(torch.arange(4.0, 120, 16), torch.arange(8.0, 160, 16), indexing="ij"), dim=-1).double()
te.viz.correspondence_figure(
    [(rearrange(view, "c H W -> H W c") * 255).round().to(torch.uint8) for view in views],
    [warp.target(points).float() for warp in warps.values()],
    list(warps),
    mesh=[warp.target(net).float() for warp in warps.values()],
)

# %% [markdown]
# How is a frame read through such a map? The mask shows it best, since labels cannot be mixed: every pixel of the frame asks where it comes from and takes the label of the nearest pixel there, 0 outside the picture. A loop, then the same in one line, then the package, where a [`View`](../tmrn_edu/data/transforms.py#L56) is a map together with its colours:

# %%
from tmrn_edu.data.transforms import static_augmentation

view = static_augmentation(size=32).draw(rng, (120, 160), frames=1)[0]  # chance is decided: a map and colours

loop = torch.zeros(32, 32, dtype=torch.uint8)
for y in range(32):
    for x in range(32):
        row, column = view.warp.source(torch.tensor([y, x], dtype=torch.float64)).add(0.5).floor().int().tolist()
        if 0 <= row < 120 and 0 <= column < 160:
            loop[y, x] = mask[row, column]

# %%
row, column = rearrange(view.warp.grid((32, 32)).add(0.5).floor().long(), "h w yx -> yx h w")
there = (row >= 0) & (row < 120) & (column >= 0) & (column < 160)
line = torch.where(there, mask[row.clamp(0, 119), column.clamp(0, 159)], 0)
assert torch.equal(line, loop) and torch.equal(view.mask(mask), loop)
print("loop, line and package agree:", tuple(loop.shape))

# %% [markdown]
# Now a real clip of stage one, as the network gets it: three views of one picture, drawn by the recipe. Because ours is a painted picture, the clip still knows where every pixel went; a test asks for that after every transformation. Points of frame 0, followed:

# %%
from tmrn_edu.training.sources import make_data

stills, videos = find_recipe("stcn_small").stages
data = make_data(stills, ["synthetic:60"])[0]
clip = data.sample(step=0, position=1, batch=4, frames=3)

inside = (clip.index_masks[0] == 1).nonzero()
y, x = inside[len(inside) // 10 :: len(inside) // 5][:5].unbind(1)
paths = [clip.correspondence(0, t) for t in range(3)]  # positions H W 2, visible H W
te.viz.correspondence_figure(
    clip.frames,
    torch.stack([positions[y, x] for positions, _ in paths]),
    [f"frame {t}" for t in range(3)],
    torch.stack([visible[y, x] for _, visible in paths]),
)

# %%
positions, visible = paths[2]
to_y, to_x = positions[visible].round().long().unbind(1)
same = clip.index_masks[2, to_y, to_x] == clip.index_masks[0][visible]
assert same.float().mean() > 0.98
print("mask and correspondence moved together: at most one pixel in fifty, on outlines, has another label")

# %% [markdown]
# What a network learns from this: to find the *same surface* again, turned and recoloured. What it cannot learn: that things hide each other, and that a ball rolls and a dog walks. That takes videos.
#
# ## Videos, and how far apart
#
# A training clip of stage two is a few frames of a video (3 for STM and STCN, 8 for XMem), in half of the cases backwards. With neighbouring frames the task is too easy, with distant ones it is too hard for a beginner. So the largest gap between two frames follows a **curriculum**: it grows during training, and at the end it shrinks again, since in a real video memory frames are near. All that a step of a recipe asks for is a pure function of its number, [`curriculum`](../tmrn_edu/training/schedule.py#L21):

# %%
from tmrn_edu.training.schedule import curriculum

steps = {name: range(0, find_recipe(name).settings.steps, 500) for name in ("stcn_video", "xmem_video")}
stages = {name: [curriculum(find_recipe(name).settings, step) for step in some] for name, some in steps.items()}
te.viz.curriculum_figure(stages, steps)

# %% [markdown]
# Source: the authors' code of STCN and of XMem (`train.py`), whose numbers these are; TMRN's supplement says the same in words (section 2: "gradually increases from 5 to 25 ... and anneals back to 5") **[S]**. In the grey band XMem leaves out the affine motion that is otherwise added to each frame.
#
# **Exercise 1.** The gaps of a recipe are pairs (share of all steps, largest gap from there on). Which one holds at a step?


# %% tags=["exercise"]
def largest_gap(gaps, steps, step):
    """The largest gap at `step` of `steps`. gaps: such as ((0.0, 5), (0.1, 10), (0.9, 5)); they begin at round(share * steps)."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.largest_gap(largest_gap)

# %% [markdown]
# **Predict the number.** At 35 % of its steps STCN's largest gap is 20 frames. YouTube-VOS, the largest set of annotated videos that all these papers train on, has a mask for every fifth frame only. How many *annotated* frames is that?
#
# <details><summary>Answer</summary>
#
# Four: gaps count frames of the video, so a set that lists every fifth frame divides them by five (and takes 1 where that would be 0).
# </details>

# %%
from tmrn_edu.data.sampling import draw_frames, listed_gap

print("gaps of 5, 10, 15, 20, 25 frames in annotated frames of YouTube-VOS:", [listed_gap(gap, 5) for gap in (5, 10, 15, 20, 25)])
for gap in (5, 25):
    print(f"STCN, gaps up to {gap:2}:", [draw_frames(rng, 70, 3, gap, "walk") for _ in range(4)])
print("XMem, gaps up to 15:", [draw_frames(rng, 70, 8, 15, "spread") for _ in range(2)])

# %% [markdown]
# STCN [`walk`](../tmrn_edu/data/sampling.py#L27)s: each frame follows within the gap. XMem lets a set [`spread`](../tmrn_edu/data/sampling.py#L45): each new frame lies near any chosen one.
#
# ## One step by hand
#
# $$L = \sum_{t=1}^{T-1} \ell\big(\hat y_t,\, y_t\big), \qquad \hat y_t = \mathrm{decode}\big(\mathrm{read}(\text{frame}_t,\; \{(\text{frame}_0, y_0),\, (\text{frame}_s, \hat y_s)_{0<s<t}\})\big) \qquad \text{(STCN, authors' code: model/model.py)}$$
#
# In words: with $T$ frames in the clip, $y_t$ the true mask of frame $t$, $\hat y_t$ the network's and $\ell$ a loss on one frame, add up the losses of all frames but the first.
#
# Only frame 0 comes with its true mask. Later frames join the memory with the network's *own* mask, as they will in use, and the gradient flows back through it. A loop over the frames, with the two functions that also segment videos, [`memorize_frame`](../tmrn_edu/inference.py#L95) and [`segment_frame`](../tmrn_edu/inference.py#L58); the package has the loop as [`clip_objective`](../tmrn_edu/training/objective.py#L49):

# %%
from tmrn_edu.losses import bootstrapped_cross_entropy
from tmrn_edu.training.loading import batches
from tmrn_edu.training.objective import clip_objective
from tmrn_edu.training.schedule import Stage

step = stills.with_settings(batch=4, size=64, readout_mask=0.0, workers=0)  # one loss alone, so that the loop is short
batch = next(batches(make_data(step, ["synthetic:60"])[0], step.settings))
network = step.build(seed=0).train()
print("frames", tuple(batch.frames.shape), " b t c H W    object masks", tuple(batch.object_masks.shape), " b o t H W")

memory = [te.inference.memorize_frame(network, batch.frames[:, 0], batch.object_masks[:, :, 0], 0, exact=True)]
loop = 0
for t in (1, 2):
    found = te.inference.segment_frame(network, batch.frames[:, t], [memory], t)
    truth = batch.object_masks[:, 0, t].long()  # one object: label 1 where it is, else 0
    loop = loop + bootstrapped_cross_entropy(found.logits, truth, share=0.25)
    memory.append(te.inference.memorize_frame(network, batch.frames[:, t], found.memory_masks, t, features=found.features))

# %%
objective, results = clip_objective(network, batch, step.settings, Stage(lr=0.0, frames=3, max_gap=1, hard_pixels=0.25))
torch.testing.assert_close(objective.total, loop, rtol=1e-4, atol=1e-5)
objective.total.backward()
grown = sum(weight.grad is not None for weight in network.parameters())
print("loop and package: the same loss. Weights with a gradient:", f"{grown} of {sum(1 for _ in network.parameters())} tensors")

# %% [markdown]
# Every weight learns, those of the value encoder twice: from the true mask, and from the network's own mask of frame 1, which joined the memory. (In the full networks one thing stands still: the statistics of batch normalisation stay as ImageNet left them, as in the authors' code.)
#
# ## The hardest pixels
#
# Most of a picture is background far from any object, and soon right. Their thousands of tiny losses would drown the few pixels that matter. **Bootstrapped cross-entropy** takes the mean over the hardest share $p$ of each clip's pixels only:
#
# $$\ell = \frac{1}{|S|} \sum_{i \in S} -\log \hat y_i[y_i], \qquad S = \text{the } \lfloor p\,HW \rfloor \text{ pixels with the largest loss} \qquad \text{(STCN, implementation details)}$$
#
# Here $\hat y_i[y_i]$ is the probability that the network gives to the true label of pixel $i$; the numbers are from the authors' code, `model/losses.py`. At first all pixels are hard, and the hardest are often nonsense; so $p$ stays at 1 for a while, then falls linearly to 0.15: the last panel above. XMem adds a **dice** loss ([`dice_loss`](../tmrn_edu/losses.py#L38)), one minus the overlap of whole masks; STM has plain cross-entropy, as TMRN's supplement says **[S]**.
#
# **Exercise 2.** The share at a step.


# %% tags=["exercise"]
def hard_share(step, start, end, final):
    """1 until step `start`, then falling linearly to `final` at step `end`, and `final` from there on. A number."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.hard_share(hard_share)

# %% [markdown]
# **Exercise 3.** And the loss, of losses of pixels that are known already.


# %% tags=["exercise"]
def bootstrapped(losses, share):
    """Mean over each clip's int(share * H * W) largest losses, then over clips. b H W -> a number."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.bootstrapped(bootstrapped)

# %% [markdown]
# By sorting, in one line, and by the package ([`bootstrapped_cross_entropy`](../tmrn_edu/losses.py#L10)):

# %%
logits = results[-1].logits.detach()  # b l H W, of frame 2
losses = torch.nn.functional.cross_entropy(logits, truth, reduction="none")  # b H W
loop = 0.0
for clip_losses in losses:
    hardest_first = sorted(rearrange(clip_losses, "H W -> (H W)").tolist(), reverse=True)[: int(0.15 * 64 * 64)]
    loop += sum(hardest_first) / len(hardest_first) / len(losses)

line = rearrange(losses, "b H W -> b (H W)").topk(int(0.15 * 64 * 64), dim=1).values.mean()
torch.testing.assert_close(line, bootstrapped_cross_entropy(logits, truth, 0.15))
torch.testing.assert_close(line, torch.tensor(loop), rtol=1e-4, atol=1e-5)
print(f"sorting, topk and package agree: {int(0.15 * 64 * 64)} of {64 * 64} pixels of each clip count")

# %% [markdown]
# ## Train a network
#
# `stcn_small` is STCN's training in small: both stages, the same code as at full size. It takes a few minutes; we make it shorter still, with small frames and one object, 40 steps on stills and 100 on videos. The second stage starts from the weights of the first (`init`). A recipe is a file of settings, and [`run_recipe`](../tmrn_edu/courses.py#L88) does what it says; the loop itself is [`train`](../tmrn_edu/train.py#L55).
#
# **Predict the curve.** In each stage the share of pixels that count falls from 1 to a quarter during the first half. Will the loss fall all the way?
#
# <details><summary>Answer</summary>
#
# In the second stage it does not: it falls, and then it **rises**, because the mean is taken over fewer and harder pixels while the gaps grow. The network does not get worse for it, as you will see below.
# </details>

# %%
kept = tempfile.TemporaryDirectory()  # goes with the kernel; the command writes to runs/RECIPE, unless you say --out
folder = Path(kept.name)
short = {"size": 64, "batch": 4, "objects": 1, "workers": 0}  # workers: processes that make clips beside the training
start = "none"
for stage, count in ((stills, 40), (videos, 100)):
    start = run_recipe(stage, folder / stage.name, ["synthetic:60"], init=start, options={"steps": count, **short}, progress=False)
print("in the folder of a run:", ", ".join(sorted(path.name for path in start.parent.iterdir() if "tfevents" not in path.name)))

# %%
runs = {}
for stage in (stills, videos):
    with open(folder / stage.name / "metrics.csv", newline="") as file:
        runs[stage.name] = list(csv.DictReader(file))
te.viz.loss_figure(runs)

# %% [markdown]
# In the second stage the loss rises while the network learns. Do not judge a bootstrapped run by its loss; judge it by its masks. Here is a clip that no training sees (training draws seeds from ten million on), before, at the hand-over, and at the end. The last row are the **shipped** weights of the same small network, 800 steps of larger clips: `te.load("stcn-tiny")`.

# %%
networks = {"first weights": stills.build(seed=0)}
networks |= {f"after {stage.stage}": te.load(folder / stage.name / "network.safetensors") for stage in (stills, videos)}
networks["shipped"] = te.load("stcn-tiny")

clip = te.data.synthetic.make_clip(seed=3, level="easy")
found, J = {}, {}
for name, network in networks.items():
    result = te.segment(network.eval(), clip.frames, {0: clip.index_masks[0]}, memory_every=1)
    found[name], J[name] = result.index_masks, te.metrics.score(result.index_masks, clip.index_masks).J

shown = [0, 1, 3, 5, 7]
titles = [f"{name}, J {J[name]:.2f}" if t == 0 else f"frame {t}" for name in found for t in shown]
te.viz.contact_sheet(clip.frames[shown * 4], torch.cat([masks[shown] for masks in found.values()]), 5, titles, alpha=0.35, dpi=70)

# %% [markdown]
# After the stills the masks are still torn, and wrong in many places: 40 steps are too few. The videos' 100 steps bring whole masks, though they swallow what touches the target and lose its upper edge; those of the shipped network do so less.
#
# One clip may be luck. Eight easy ones, all held out:

# %%
from tmrn_edu.evaluate_clips import held_out_clips, score_clips

eight = held_out_clips("easy", 8)
J = {name: float(score_clips(network, eight).J.mean()) for name, network in networks.items()}
assert J["first weights"] < 0.3 < 0.6 < J["after video"] < J["shipped"]
print("mean J of eight clips: below 0.3 with the first weights, above 0.6 after both stages, and more with the shipped weights")

# %% [markdown]
# (No digits here on purpose: rounding errors grow from step to step, so another processor ends with a slightly different network. On one machine a run repeats to the last bit.)
#
# ## What was it blamed for?
#
# Cross-entropy of every pixel of frame 5 when it is segmented from memory, and the hardest 15 % of the pixels. One logarithmic scale for all losses.
#
# **Predict, then run.** If the hardest pixels were no harder than the others, 15 % of the pixels would carry 15 % of the loss. What share do they carry with the first weights? And with the shipped ones, which are nearly always right?
#
# <details><summary>Answer</summary>
#
# Hardly more than 15 % with the first weights, and nearly all of it with the shipped ones: the share stands above each map.
# </details>

# %%
pictures = rearrange(clip.frames, "t H W c -> 1 t c H W") / 255
masks = rearrange(te.masks.index_to_object_masks(clip.index_masks, [1]), "t o H W -> 1 o t H W")
t, maps = 5, {}
with torch.no_grad():
    for name, network in networks.items():
        logits = te.inference.roll_out(network, pictures, masks[:, :, 0])[t - 1].logits
        maps[name] = torch.nn.functional.cross_entropy(logits, (clip.index_masks[t : t + 1] == 1).long(), reduction="none")[0]
te.viz.hardest_figure(clip.frames[t], clip.index_masks[t], maps, share=0.15)

# %% [markdown]
# With the first weights all pixels are equally hard: the hardest 15 % carry hardly more than 15 % of the loss, and which they are is an accident of the cloth. (This is why the share waits at 1; after these few steps on stills it is hardly different.) After the videos the object and its surroundings stand out, and with the shipped weights a rim and the neighbour are left, and they carry nearly all of the loss. A mean over all pixels would be small by now, and teach little.
#
# ## Nothing is lost
#
# Long runs are stopped: by you, by a scheduler, by a power cut. What a step sees depends on its number alone, so a checkpoint needs weights, optimiser and the number. Two runs of four steps, one of which gets a Ctrl-C at its third:

# %%
class CtrlC:
    """Clips, and somebody who presses Ctrl-C when those of step 2 are asked for."""

    def __init__(self, data):
        self.data, self.check = data, data.check

    def sample(self, step, *place):
        if step == 2:
            raise KeyboardInterrupt
        return self.data.sample(step, *place)


tiny = stills.with_settings(steps=4, batch=2, size=32, workers=0)
data = make_data(tiny, ["synthetic:8"])[0]
unbroken = te.train.train(tiny, folder / "unbroken", data=data, progress=False)
try:
    te.train.train(tiny, folder / "broken", data=CtrlC(data), progress=False)
except te.train.Stopped as stop:
    print(str(stop).split(";")[0])
resumed = te.train.train(tiny, folder / "broken", data=data, resume=True, progress=False)

weights = [te.load(path).state_dict() for path in (unbroken, resumed)]
assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
print("resumed: the same weights as without the break, bit for bit")

# %% [markdown]
# ## From one core to many GPUs
#
# With several processes each takes its share of a batch's clips, and gradients are averaged. That is the same step only if the loss of a batch is the *mean over clips* of something that each clip decides alone. It is, since every clip has hardest pixels of its own:

# %%
network, stage = step.build(seed=0).train(), Stage(lr=0.0, frames=3, max_gap=1, hard_pixels=0.25)


def gradient(parts):
    """The mean gradient of the parts of a batch, as processes have it."""
    network.zero_grad()
    for part in parts:
        (clip_objective(network, part, step.settings, stage)[0].total / len(parts)).backward()
    return torch.cat([rearrange(w.grad, "... -> (...)") for w in network.parameters() if w.grad is not None])


torch.testing.assert_close(gradient(batch.split(2)), gradient([batch]), rtol=1e-3, atol=1e-4)
print("two processes with two clips each: the gradient of one process with four")

# %% [markdown]
# The same holds in time: `--accumulate 2` lets one GPU take its clips in two parts, for half the memory. Now the commands. They are checked here: whether they can be read, and whether the batch can be shared out.

# %%
commands = """
# a laptop, one core: both stages in small, on our own clips (minutes)
tmrn-edu train stcn_small --device cpu
tmrn-edu train tmrn_stcn_small --device cpu

# one GPU: the published training, stage one and two; clips in parts, where memory is short
tmrn-edu train stcn_static --data STILLS --device cuda --accumulate 2
tmrn-edu train stcn_video --data DAVIS YOUTUBE_VOS --device cuda --accumulate 2

# two GPUs, as the authors had, now with TMRN; eight
tmrn-edu train tmrn_stcn_static --data STILLS --device cuda --devices 2
tmrn-edu train tmrn_stcn_video --data DAVIS YOUTUBE_VOS --device cuda --devices 2
tmrn-edu train xmem_video --data DAVIS YOUTUBE_VOS --device cuda --devices 8

# two machines with four GPUs each: this on both, FIRST is the name of one of them
torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-endpoint FIRST:29500 -m tmrn_edu train xmem_video --data DAVIS YOUTUBE_VOS --device cuda --devices 4 --nodes 2

# the same under Slurm, in a job
srun --nodes 2 --ntasks-per-node 4 --gpus-per-node 4 tmrn-edu train xmem_video --data DAVIS YOUTUBE_VOS --device cuda --devices 4 --nodes 2

# a run that was stopped goes on; TMRN moves into the weights that STCN's authors released, and is trained from there
tmrn-edu train tmrn_stcn_video --device cuda --devices 2 --resume
tmrn-edu train stcn_video --data DAVIS YOUTUBE_VOS --init stcn.pth --reader trajectory --device cuda --devices 2
"""
from tmrn_edu.__main__ import parse

for command in commands.splitlines():
    words = shlex.split(command, comments=True)
    if words:
        asked = parse(words[words.index("train") :])
        processes, parts = asked.devices * asked.nodes, vars(asked)["setting accumulate"] or 1
        size = find_recipe(asked.recipe).settings.batch
        assert size % (processes * parts) == 0
        print(f"{asked.recipe:16} {processes} process{'es' if processes > 1 else '  '} x {parts} part{'s' if parts > 1 else ' '} x {size // processes // parts} clips")

# %% [markdown]
# STILLS, DAVIS and YOUTUBE_VOS are folders as released ([docs/training.md](../docs/training.md) says which to get, and where); every file is looked at before the first step. A number of processes that does not divide the batch is refused before anything is written:

# %% tags=["raises-exception"]
run_recipe(find_recipe("xmem_video"), folder / "no", ["synthetic:8"], init="none", devices=4, nodes=3, progress=False)

# %% [markdown]
# ## The full recipe, one step
#
# The same call at published size: ResNet-50 and ResNet-18, all 54 million weights, with what the curriculum asks for at step 0. Where there is a GPU the frames are 384 x 384 and numbers have 16 bits, as published; without one they are 64 x 64. One clip on our own videos; without ImageNet's weights, which `--init imagenet` would fetch. For a moment it takes a gigabyte of disk.

# %%
full = find_recipe("stcn_video")
first = curriculum(full.settings, 0)
device = "cuda" if torch.cuda.is_available() else "cpu"
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
small = {} if device == "cuda" else {"size": 64, "precision": "32"}
one = full.with_settings(steps=1, gaps=((0.0, first.max_gap),), hard_pixels=first.hard_pixels, batch=1, workers=0, sample_every=0, **small)
with tempfile.TemporaryDirectory() as out:
    path = run_recipe(one, Path(out) / "full", ["synthetic:4"], init="none", device=device, progress=False)
    trained = te.load(path)
    with open(path.parent / "metrics.csv", newline="") as file:
        (row,) = csv.DictReader(file)
assert np.isfinite(float(row["loss"])) and float(row["lr"]) == first.lr
millions = sum(weight.numel() for weight in trained.parameters()) / 1e6
print(f"{full.name}: one step of {full.settings.steps:,} done, with {row['frames']} frames, gaps up to {row['max_gap']}, all pixels counting; {millions:.1f} million weights written")

# %% [markdown]
# What would the whole run cost? PyTorch can count the arithmetic and the memory of a step at full size without doing it. Hours then follow from what a GPU's maker states, and from one *assumed* number, the share of it that training makes use of ([`estimate`](../tmrn_edu/training/cost.py#L159) says how it was chosen). So these are estimates, and are marked so:

# %%
from tmrn_edu.training.cost import estimate, measure

for name in ("stcn_static", "stcn_video", "xmem_video"):
    cost = measure(find_recipe(name))
    print(f"{name}: {cost.step_flops / 1e12:.0f} TFLOP a step, {cost.settings.steps:,} steps")
    for gpu, count in (("RTX 3090", 1), ("RTX 3090", 2), ("A100 40 GB", 8)):
        print("   ", estimate(cost, gpu, count).text())

# %% [markdown]
# ## What the papers do not say
#
# A training can only be repeated if it is known. Here, as far as we can see:
#
# | | known | from | not known, and chosen here |
# |---|---|---|---|
# | STCN | all of it | authors' code | the order of the data, which is chance; the authors left some videos of YouTube-VOS out (their list: `--subset FILE`) |
# | XMem | all of it | authors' code | the order of the data |
# | STM | two stages, crops of 384, cross-entropy, Adam at 1e-5, three frames, gaps up to 25 | TMRN's supplement, STM's paper; **the authors released no training code** | steps, batch, weight decay, drops of the learning rate, augmentation, number of objects, *when* gaps grow |
# | TMRN | "exactly the same as the baselines" | supplement | whether its own weights had another learning rate; how the reader was initialised; whether it was trained from the start or put into trained weights |
#
# So `stm_static` and `stm_video` are STM's training **as we complete it**; their files mark each such number. `recipes/*_small` and `*_tiny` are ours altogether, and so is their auxiliary loss on the read-out mask, without which so few steps teach little.
#
# ## Where it breaks
#
# **The batch's hardest pixels** instead of each clip's. It looks like the same idea, and one line of code is shorter. But then easy clips have no say, and two GPUs compute another loss than one:

# %%
together = rearrange(losses, "b H W -> (b H W)")
halves = rearrange(losses, "(g b) H W -> g (b H W)", g=2)
whole = together.topk(int(0.15 * together.numel())).values.mean()
shared = halves.topk(int(0.15 * halves.shape[1]), dim=1).values.mean()
assert whole > shared + 1e-3
print("the hardest of the whole batch: two processes find a smaller loss than one does")

# %% [markdown]
# **A loss that is no number.** A damaged file or a sum that overflows 16 bits is enough: one such step, and every weight is `nan` for good. So a run stops *before* the step is taken. Here the clips of step 1 are broken on purpose:

# %%
class DamagedFile:
    """Clips; those of step 1 hold frames that are no numbers."""

    def __init__(self, data):
        self.data, self.check = data, data.check

    def sample(self, step, *place):
        clip = self.data.sample(step, *place)
        return replace(clip, frames=clip.frames * float("nan")) if step == 1 else clip


damaged = DamagedFile(make_data(tiny, ["synthetic:8"])[0])
try:
    te.train.train(tiny, folder / "damaged", data=damaged, progress=False)
except FloatingPointError as error:
    print(str(error).split(";")[0])
assert (folder / "damaged" / "bad_batch_1.pt").exists()

# %% [markdown]
# The message goes on with the names of the clips, and the batch lies in `bad_batch_1.pt` to look at. `--resume --non-finite=skip` leaves such steps out and counts them:

# %%
path = te.train.train(tiny.with_settings(non_finite="skip"), folder / "damaged", data=damaged, resume=True, progress=False)
with open(path.parent / "metrics.csv", newline="") as file:
    *_, row = csv.DictReader(file)
assert row["skipped"] == "1" and all(torch.isfinite(weight).all() for weight in te.load(path).parameters())
print(f"{tiny.settings.steps} steps, {row['skipped']} of them left out; all weights are numbers")

# %% [markdown]
# ## What to take along
#
# - **Stills first, then videos**, with gaps that grow and come back. All that a step asks for follows from its number.
# - Frames, masks and correspondences go through **one map**, so they stay together.
# - Later frames join the memory with **predicted** masks: training does what inference does.
# - **Bootstrapped** cross-entropy looks at each clip's hardest pixels; its value may rise while masks get better.
# - A loss that each clip decides alone makes one GPU, eight, and `--accumulate` the **same step**.
# - Where a recipe is not known, say so.
#
# Answers to the exercises: [answers/07_training](answers/07_training.ipynb). Numbers, data sets and half-hour runs: [docs/training.md](../docs/training.md). Next: [08 · Evaluation](08_evaluation.ipynb) asks whether one trained network is really better than another.
