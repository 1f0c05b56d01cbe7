# %% [markdown]
# # 08 · Evaluation
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/08_evaluation.ipynb)
#
# **The question.** Two networks segment the same videos, and one scores 2.6 points more. Is it better? What was counted, over what was the mean taken, and would you bet on the same outcome with other videos?
#
# We build the two measures of DAVIS by hand and draw what they count; follow them through a clip and a data set; score four shipped networks on clips drawn by seed; give every difference an interval; make the table, the figure and the ablation plot of a paper; and pack masks for a server that keeps the truth to itself. About 35 minutes, and 15 for the exercises. Notebooks 00 and 05 come first.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from IPython.display import Markdown

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.viz import metrics as draw

nb.setup(seed=0)
_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## Three masks, one score
#
# One object, its true mask, and three predictions that are wrong in different ways: moved to the right, a part missing, too large all around. Which is the best? The usual measure, **J**, cannot tell them apart:

# %%
clip = te.data.synthetic.make_clip(seed=3, level="easy")
truth = (clip.index_masks[0] == 1).numpy()  # H W


def shifted(mask, dx):
    """The mask moved by dx pixels to the right; what leaves the picture is lost."""
    moved = np.zeros_like(mask)
    moved[:, dx:] = mask[:, : mask.shape[1] - dx]
    return moved


left_part = np.arange(96)[None] < np.quantile(np.argwhere(truth)[:, 1], 0.17)
grown = np.logical_or.reduce(
    [np.roll(truth, (y, x), axis=(0, 1)) for y in range(-2, 3) for x in range(-2, 3) if y * y + x * x <= 4]
)
masks = {"moved by 3 pixels": shifted(truth, 3), "a part missing": truth & ~left_part, "too large by 2 pixels": grown}
draw.region_figure(masks, truth, clip.frames[0])

# %% [markdown]
# ## J: are the right pixels marked?
#
# $$J = \frac{|\,\text{prediction} \cap \text{truth}\,|}{|\,\text{prediction} \cup \text{truth}\,|} \qquad \text{(DAVIS 2016, section 5.1)}$$
#
# Blue pixels over all coloured ones. DAVIS is the benchmark that nearly all papers of the field report (Perazzi et al., CVPR 2016); J is for Jaccard, elsewhere it is IoU, *intersection over union*. Two empty masks agree: $J = 1$. A loop over pixels, the same in one line, and the package's [`region_similarity`](../tmrn_edu/frame_metrics.py#L27):

# %%
for name, mask in masks.items():
    both = either = 0
    for y in range(96):
        for x in range(96):
            both += bool(mask[y, x] and truth[y, x])
            either += bool(mask[y, x] or truth[y, x])
    line = (mask & truth).sum() / (mask | truth).sum()
    assert both / either == line == te.metrics.region_similarity(mask, truth)
    print(f"{name:22} J = {both} / {either} = {line:.2f}")

# %% [markdown]
# ## F: does the outline lie in the right place?
#
# Every pixel counts the same for J, and most pixels of an object are deep inside it. **F** looks at the outline alone. First, which pixels are *boundary*? The DAVIS evaluation says: those that differ from their right, lower or lower-right neighbour. A loop, and the package's [`boundary_pixels`](../tmrn_edu/viz/metrics.py#L58):

# %%
def boundary(mask):
    """Boundary pixels of a mask, by the DAVIS evaluation's definition: H W -> H W."""
    found = np.zeros_like(mask)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            found[y, x] = (mask[y : y + 2, x : x + 2] != mask[y, x]).any()  # at the border the window is smaller
    return found


for mask in masks.values():
    assert (boundary(mask) == draw.boundary_pixels(mask)).all()
print("loop and package agree; boundary pixels of the truth:", boundary(truth).sum())

# %% [markdown]
# No outline is right to the pixel, not even an annotator's. So a boundary pixel counts as **matched** when the other outline passes within a *tolerance*: 0.008 of the picture's diagonal, rounded up. That is 8 pixels at 480 x 854 and 2 in our small frames. Two shares follow:
#
# $$P = \frac{\text{matched pixels of the predicted outline}}{\text{all of them}} \qquad R = \frac{\text{matched pixels of the true outline}}{\text{all of them}} \qquad F = \frac{2PR}{P + R}$$
#
# (DAVIS 2016, section 5.1; what a boundary pixel is, and the tolerance: the code of the DAVIS evaluation.)
#
# Both are needed: a short piece of outline in the right place has $P = 1$ and a small $R$; scribbling everywhere has $R = 1$ and a small $P$. The mask with a part missing:

# %%
draw.boundary_figure(masks["a part missing"], truth)

# %% [markdown]
# The circle shows the tolerance, the band is everything within it. Crosses on the left are outline that the prediction invented, crosses on the right outline that it does not have. By a loop over pairs of pixels:

# %%
radius = int(np.ceil(0.008 * np.hypot(96, 96)))


def share_near(pixels, others):
    """The share of pixels (n 2) that have one of the others (m 2) within the radius."""
    near = 0
    for pixel in pixels:
        near += any(((pixel - other) ** 2).sum() <= radius**2 for other in others)
    return near / len(pixels)


for name, mask in masks.items():
    predicted, true = np.argwhere(boundary(mask)), np.argwhere(boundary(truth))
    P, R = share_near(predicted, true), share_near(true, predicted)
    F = 2 * P * R / (P + R)
    assert abs(F - te.metrics.boundary_accuracy(mask, truth)) < 1e-12
    print(f"{name:22} P {P:.2f}, R {R:.2f}, F {F:.2f}")

# %% [markdown]
# Now the three are far apart. The mask that is too large by 2 pixels is *perfect* for F: within the tolerance nothing is wrong. So papers report both, and their mean, **J&F**. ([`boundary_accuracy`](../tmrn_edu/frame_metrics.py#L43) asks the other way round, which is quicker: it grows each outline by a disk, into the grey band, and counts the pixels of the other outline in it. The numbers equal the official evaluation's.)
#
# **Exercise 1.** F from distances that are known already. Row $n$ is a pixel of the predicted outline, column $m$ one of the true outline. There is at least one of each.


# %% tags=["exercise"]
def f_measure(distances, tolerance):
    """F of two outlines. distances: n m, from each predicted to each true boundary pixel; matched: at most `tolerance` away."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.f_measure(f_measure)

# %% [markdown]
# **Predict, then run.** A disk 40 pixels wide and an upright bar 6 pixels wide move to the right, away from their true places, by 0 to 10 pixels.
#
# 1. How far can the disk move before its F drops below 1? And J?
# 2. What are J and F of the bar at 2 pixels? At 6, when the two bars no longer share a single pixel?

# %%
y, x = np.indices((96, 96))
shapes = {"a disk, 40 wide": (y - 48) ** 2 + (x - 40) ** 2 <= 400, "a bar, 6 wide": (abs(y - 48) < 30) & (abs(x - 40.5) < 3)}
moves = range(11)
panels = {
    name: {
        "J": [te.metrics.region_similarity(shifted(shape, dx), shape) for dx in moves],
        "F": [te.metrics.boundary_accuracy(shifted(shape, dx), shape) for dx in moves],
    }
    for name, shape in shapes.items()
}
draw.curves_figure(list(moves), panels, "moved by, pixels")

# %% [markdown]
# <details><summary>Answer</summary>
#
# 1. Two pixels, the tolerance. J has none: it drops at once, but slowly, since a pixel of motion costs a thick object little.
# 2. At 2 pixels F is 1 and J is 4 / 8 = 0.50. At 3 pixels F has all but gone, at 6 pixels J is 0, and yet F is about one half again: the left side of one bar lies on the right side of the other, and F does not ask on which side of an outline the object is.
#
# So J is strict with thin things and lenient with thick ones; F the other way round. A score of 0.8 means little without the size of the objects.
# </details>
#
# ## A clip: which frames, and what of them
#
# One object in one frame gives a J and an F. Now a network segments a clip of sixteen frames with two objects, and [`score`](../tmrn_edu/metrics.py#L110) measures all of them:

# %%
two = te.data.synthetic.make_clip(seed=5, level="medium", frames=16, objects=2)
found = te.segment(te.load("stcn-tiny"), two.frames, {0: two.index_masks[0]}).index_masks
score = te.metrics.score(found, two.index_masks)
draw.clip_figure({f"object {label}": one for label, one in score.per_object.items()}, "J")

# %% [markdown]
# **Which frames count.** Frame 0 does not: its mask was given, and a network that copies it would score 1. DAVIS also leaves out the last one. An object that comes late counts from the frame after its first. A frame in which the object is hidden counts too: there an empty mask has $J = 1$ and any other $J = 0$.
#
# **What of them.** The *mean*; the *recall*, the share of frames above 0.5 (dotted); the *decay*, the mean of the first quarter minus that of the last (orange): how much is lost on the way. Decay near 0 may mean that nothing was lost, or that everything was lost at once. (DAVIS 2016 defines these three; which quarters, the code of its evaluation.) By hand, for object 1:

# %%
J = [te.metrics.region_similarity(a == 1, b == 1) for a, b in zip(found, two.index_masks)][1:-1]  # 14 frames
fourteen = {"mean": sum(J) / 14, "recall": sum(value > 0.5 for value in J) / 14}
fourteen["decay"] = sum(J[:4]) / 4 - sum(J[-4:]) / 4  # quarters meet on a frame: round(linspace(1, 14, 5)) = 1, 4, 8, 11, 14
for name, value in fourteen.items():
    assert abs(value - getattr(score.per_object[1].J, name)) < 1e-12
print("by hand and by the package:", ", ".join(f"{name} {value:.2f}" for name, value in fourteen.items()))

# %% [markdown]
# **Exercise 2.** From J of every object in every frame to the one number in the table. Each object has its own frames; each object counts the same. (Every object here appears early enough to have a frame that counts.)


# %% tags=["exercise"]
def mean_over_objects(J, visible):
    """The J that DAVIS reports. J: o t, of every object in every frame; visible: o t, bool, where the object is in the truth."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.mean_over_objects(mean_over_objects)

# %% [markdown]
# ## A data set
#
# Ten clips, every other one with two objects, written to disk as DAVIS lies on disk: frames, masks, a list. Your copy of DAVIS looks the same, and so do the commands.

# %%
from PIL import Image

folder = tempfile.TemporaryDirectory()
here = Path(folder.name)


def write_davis(root, clips, split):
    """Clips in the layout of DAVIS 2017; of a split whose masks a server keeps, the first masks alone."""
    for name, clip in clips.items():
        for t, (frame, mask) in enumerate(zip(clip.frames, clip.index_masks)):
            picture = root / "JPEGImages/480p" / name / f"{t:05}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame.numpy()).save(picture)
            if t == 0 or split == "val":
                te.data.video.write_mask(root / "Annotations/480p" / name / f"{t:05}.png", mask)
    listed = root / "ImageSets/2017" / f"{split}.txt"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("\n".join(clips) + "\n")
    return root


clips = {f"clip-{seed:02}": te.data.synthetic.make_clip(seed, "medium", frames=10, objects=1 + seed % 2) for seed in range(10)}
davis = write_davis(here / "DAVIS", clips, "val")

# %% [markdown]
# One line in a shell scores a network on it. In Python, the function that the command calls, [`evaluate`](../tmrn_edu/evaluate.py#L63):
#
# ```
# tmrn-edu evaluate --dataset davis2017 --data DAVIS --network stcn-tiny --masks-out out/stcn-tiny --json stcn-tiny.json
# ```

# %%
from tmrn_edu.evaluate import RepeatFirst, evaluate, write_json

networks = {"STCN": "stcn-tiny", "STCN + TMRN": "tmrn-stcn-chained-tiny", "STM": "stm-tiny", "XMem": "xmem-tiny"}
done = {name: evaluate("davis2017", davis, network=file, masks_out=here / name, progress=False) for name, file in networks.items()}
for name, one in done.items():
    write_json(here / f"{name}.json", one)

*scores, speed = done["STCN"].table().splitlines()  # the last line is frames per second: another on every machine
print(*scores, sep="\n")

# %% [markdown]
# Two questions to ask of any such number. **What is the floor?** A "network" that repeats the first mask and never looks at a frame ([`RepeatFirst`](../tmrn_edu/evaluate.py#L41)) scores something as well. **What was averaged?** Over objects, as DAVIS does; over clips; or over all frames in one pot.
#
# **Predict the number.** Over objects, STCN has a J of 0.625 here. How much has the one that never looks?
#
# <details><summary>Answer</summary>
#
# 0.314, half as much: objects move slowly enough that an old mask still covers part of them. The other half is what STCN has earned.
# </details>

# %%
def means(scored):
    """Mean J over objects, over clips (each the mean of its objects), and over all frames of all objects."""
    objects = list(scored.score.per_object.values())
    return (
        np.mean([one.J.mean for one in objects]),
        np.mean([one.J for one in scored.per_sequence.values()]),
        np.mean(sum((one.J_frames for one in objects), ())),
    )


print(f"{'mean J over':26}" + "".join(f"{what:>9}" for what in ("objects", "clips", "frames")))
for name, one in {"floor: first mask repeated": evaluate("davis2017", davis, segmenter=RepeatFirst, progress=False), **done}.items():
    print(f"{name:26}" + "".join(f"{value:9.3f}" for value in means(one)))

# %% [markdown]
# Here clips are equally long, so objects and frames agree, and clips of two objects are hardly harder than those of one, so the columns differ by about a point. That is as much as many papers gain, and nothing about the networks changed; "where it breaks" below has a case where it is more. Say over what the mean goes, and compare only what agrees in it.
#
# ## Would you bet on it?
#
# STCN with TMRN's reader has more J&F than STCN. But these are ten clips, and another ten would give other numbers. How other? We cannot film again, but we can **draw clips from those we have**, with replacement, ten each time, and look how the mean moves: the *bootstrap* (Efron, 1979). The middle 95 % of these means are the *interval*. The same clips are drawn for both networks, since a clip that is hard is hard for both. So it is the *differences* that are drawn.
#
# **Predict, then run.** Which interval will be wider: that of STCN + TMRN by itself, or that of its difference to STCN? Does the same hold for STM, which is much weaker?
#
# <details><summary>Answer</summary>
#
# The network's own: about twice as wide. Clips that are hard for STCN are hard for STCN + TMRN too, and in the difference that difficulty is gone. Not so for STM: how much it loses differs so much from clip to clip (the strokes on the right) that pairing gains nothing.
# </details>

# %%
by_clip = {name: np.array([clip.JF for clip in one.per_sequence.values()]) for name, one in done.items()}
draw.paired_figure(by_clip, "J&F")

# %% [markdown]
# Strokes are clips, diamonds means, bars 95 % intervals. Left, each network by itself: the intervals are wide, because clips differ in difficulty, and those of the three better networks overlap. Right, clip by clip: what two networks share is gone, and for networks that are alike the interval is about half as wide. A hollow diamond stands for an interval that holds zero.
#
# **Exercise 3.** `draws` says which clips were drawn, a row a draw. Between which two numbers do 95 % of the mean differences lie?


# %% tags=["exercise"]
def paired_interval(baseline, other, draws):
    """Ends of the 95 % interval of mean(other - baseline): percentiles 2.5 and 97.5 over draws, as a tensor of 2.

    baseline, other: k, a score for each clip. draws: d k, the numbers of the clips that each draw took.
    """
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.paired_interval(paired_interval)

# %% [markdown]
# A table of a paper averages over objects, so a draw of clips is a draw of all their objects. By a loop, and by the package's [`compare_runs`](../tmrn_edu/compare.py#L93), which takes the JSON files:

# %%
from tmrn_edu.bootstrap import draw_counts
from tmrn_edu.compare import compare_runs
from tmrn_edu.runs import read_run

runs = [read_run(f"{name}={here / name}.json") for name in networks]
runs = [replace(run, frames_per_second=None) for run in runs]  # which differ from run to run, and from machine to machine
table = compare_runs(runs, baseline="STCN")

gains = {}  # clip -> differences of J of its objects
for key, one in runs[1].objects.items():
    gains.setdefault(key.split("/")[0], []).append(one["J"] - runs[0].objects[key]["J"])
loop = []
for counts in draw_counts(len(gains)):  # how often each clip was drawn
    drawn = [gain for count, clip in zip(counts, gains.values()) for gain in clip * int(count)]
    loop.append(sum(drawn) / len(drawn))
record = table.find("J", "STCN + TMRN")
assert np.allclose(np.percentile(loop, [2.5, 97.5]), [record.low, record.high], atol=1e-9)
print(f"{len(loop):,} draws: J {100 * record.difference:+.1f} points, interval [{100 * record.low:+.1f}, {100 * record.high:+.1f}]: loop and package agree")

# %% [markdown]
# The table, ready for a paper (`--format latex` writes booktabs):
#
# ```
# tmrn-edu compare STCN=stcn.json "STCN + TMRN=tmrn.json" STM=stm.json XMem=xmem.json --baseline STCN
# ```

# %%
from tmrn_edu.tables import render

Markdown(render(table))

# %% [markdown]
# Read it line by line. STM is behind by so much that ten clips are plenty. Of XMem, ten clips cannot say whether it is ahead. Of TMRN's reader they say that outlines got better (F); of its J, nothing. "n.s." does not mean *equal*: it means that this set is too small to tell. The interval shrinks with the root of the number of clips: half as wide takes four times as many. DAVIS 2017 val has 30 sequences. [docs/results.md](../docs/results.md) scores these two readers on 64 clips a level, trained with three seeds, and there the gain of J on medium clips is clear as well.
#
# Where is the difference? Attributes of clips follow from the true masks by rules with numbers ([`attributes.py`](../tmrn_edu/attributes.py)), so any set has them:

# %%
*_, last_table = render(compare_runs(runs[:2], per="attribute")).split("\n\n**")
Markdown("**" + last_table)

# %% [markdown]
# ## The figure
#
# Numbers say how much, pictures say what. The figure of a paper: frames in columns, methods in rows, the truth at the bottom. Frames and boxes are where the methods' errors are furthest apart, found by a rule and not by hand, and so is the clip: the one in which TMRN's reader changes most. So it shows the largest differences, *not typical ones*, and belongs beside a table, never in its place.

# %%
change = abs(by_clip["STCN + TMRN"] - by_clip["STCN"])
one = list(clips)[int(change.argmax())]
te.viz.qualitative_figure(
    davis / "JPEGImages/480p" / one,
    {name: here / name / one for name in ("STM", "STCN", "STCN + TMRN")},
    davis / "Annotations/480p" / one,
    columns=4,
    show_J=True,
    dpi=130,
)

# %% [markdown]
# In a shell, as PDF for a paper or as a video (`.mp4`) for a talk:
#
# ```
# tmrn-edu figure DAVIS/JPEGImages/480p/bear --masks STCN=out/stcn/bear --masks TMRN=out/tmrn/bear --truth DAVIS/Annotations/480p/bear --out figure.pdf
# ```
#
# ## What is each part worth?
#
# A paper that adds three things at once owes an **ablation**: each thing alone. Here parts of TMRN's reader are put into STCN's trained weights, without any training, on the same eight clips (two seeds of four): spatial alignment with eight agents (`agents=8`); the same with agents that start from chance instead of the SVD (`start=random`); and alignment that is chained from frame to frame (`chain=0.1`, **[ours]**). No words mean STCN's own read. A study is a list of [`Job`](../tmrn_edu/ablation.py#L146)s; results go to a CSV, one row a clip, and a study that broke off goes on where it stopped:

# %%
from tmrn_edu.ablation import OWN, Job, run_jobs, summarise
from tmrn_edu.viz.ablation import differences_figure

variants = ["", "agents=8", "agents=8 start=random", "chain=0.1"]
jobs = [Job("stcn-tiny", words, "medium", seed, clips=4) for words in variants for seed in (0, 1)]
rows = run_jobs(jobs, here / "study.csv")
print(f"{len(jobs)} jobs, {len(rows)} rows; the same call again finds them all done: {run_jobs(jobs, here / 'study.csv') == rows}")

# %%
worths = [one for one in summarise(rows) if one.variant != OWN]
panels = {
    "medium, predicted memories": [(one.variant, one.difference) for one in worths],
    "medium, true memories": [(one.variant, one.difference_true) for one in worths],
}
differences_figure(panels, OWN, dpi=80)

# %% [markdown]
# Filled dots: the interval leaves zero out. That says that a difference is there, not that it is large: read the axis before the dot. Agents change next to nothing, wherever they start from; following the motion is worth points. On the right every memory frame has its true mask, so what is left there is the read alone, without errors that pile up.
#
# And eight clips tell little. The repository keeps a study of nineteen variants with three seeds, on three levels ([docs/results.md](../docs/results.md), section 1d; `python tools/make_results.py synthetic` makes it anew). That one has 57 intervals of 95 %: about how many would leave zero out if nothing at all were different?
#
# <details><summary>Answer</summary>
#
# One in twenty: about three. "Where it breaks" below makes such a study out of noise.
# </details>
#
# ## To a server
#
# Of DAVIS test-dev and of YouTube-VOS valid only first masks are published. You segment, pack the masks, and a server scores them. A wrong name costs a submission, so `evaluate` checks the zip before it gets its name ([`submission.check`](../tmrn_edu/submission.py#L61)):
#
# ```
# tmrn-edu evaluate --dataset davis2017 --data DAVIS --split test-dev --network stcn-mobile --submission dev.zip
# ```

# %%
import zipfile

from tmrn_edu import submission
from tmrn_edu.splits import required

secret = write_davis(here / "secret", {name: clips[name] for name in ("clip-00", "clip-01")}, "test-dev")
done_there = evaluate("davis2017", secret, "test-dev", network="stcn-tiny", submission=here / "dev.zip", progress=False)
print(done_there.table().splitlines()[1])

with zipfile.ZipFile(here / "dev.zip") as archive:
    names = archive.namelist()
    print(len(names), "files:", *names[:3], "...", names[-1])
    picture = Image.open(archive.open(names[-1]))
    print("the last one: mode", picture.mode, "size", picture.size, "ids", np.unique(picture).tolist())

# %% [markdown]
# Sequences lie directly in the zip, one palette PNG for every frame, ids as in the first mask. What if one is missing?

# %% tags=["raises-exception"]
with zipfile.ZipFile(here / "dev.zip") as whole, zipfile.ZipFile(here / "broken.zip", "w") as broken:
    for name in names[:-1]:
        broken.writestr(name, whole.read(name))
submission.check(here / "broken.zip", required("davis2017", secret, "test-dev"), name="broken.zip")

# %% [markdown]
# YouTube-VOS differs in three ways: masks are asked for in some frames only (`meta.json` says which), all in a folder `Annotations`, and objects **enter late**, each with its own first mask. A video with one late object:

# %%
import json

video, youtube = clips["clip-01"], here / "YouTube"
valid = youtube / "valid"
for t in range(10):
    for root in [youtube / "valid_all_frames"] + [valid] * (t % 5 == 0):
        picture = root / "JPEGImages/0a0a" / f"{t:05}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(video.frames[t].numpy()).save(picture)
for t, label in ((0, 1), (5, 2)):  # object 2 is given in frame 5
    given = torch.where(video.index_masks[t] == label, video.index_masks[t], 0)
    te.data.video.write_mask(valid / "Annotations/0a0a" / f"{t:05}.png", given)
objects = {"1": {"category": "sedan", "frames": ["00000", "00005"]}, "2": {"category": "cactus", "frames": ["00005"]}}
(valid / "meta.json").write_text(json.dumps({"videos": {"0a0a": {"objects": objects}}}))

_ = evaluate("youtubevos2019", youtube, network="stcn-tiny", submission=here / "yv.zip", progress=False)
with zipfile.ZipFile(here / "yv.zip") as archive:
    for name in archive.namelist():
        print(name, "ids", np.unique(Image.open(archive.open(name))).tolist())

# %% [markdown]
# All ten frames were segmented, the two that are asked for are in the zip, and object 2 is in none before its own. [docs/evaluation.md](../docs/evaluation.md) has every benchmark with its command, how a broken run goes on (`--resume`), and how frames per second are counted.
#
# ## Where it breaks
#
# **F without an outline.** A mask that fills the picture has no boundary pixel, and neither has an empty one. Two masks without outlines agree, says F, as the official evaluation does:

# %%
full, empty = np.ones((96, 96), bool), np.zeros((96, 96), bool)
assert te.metrics.region_similarity(full, empty) == 0 and te.metrics.boundary_accuracy(full, empty) == 1
print(f"full against empty: J {te.metrics.region_similarity(full, empty):.0f}, F {te.metrics.boundary_accuracy(full, empty):.0f}")

# %% [markdown]
# **A lost child beside a bus.** A large object is found, a small one is lost. Merged into one foreground, as in DAVIS 2016, the loss hardly shows; object by object it is half of the score:

# %%
true = np.zeros((96, 96), np.uint8)
true[20:70, 10:60], true[60:69, 70:76] = 1, 2  # the bus and the child
prediction = np.where(true == 2, 0, true)
merged = te.metrics.region_similarity(prediction > 0, true > 0)
each = [te.metrics.region_similarity(prediction == label, true == label) for label in (1, 2)]
assert merged > 0.95 and np.mean(each) == 0.5
print(f"merged J {merged:.2f}; by objects {each[0]:.2f} and {each[1]:.2f}, mean {np.mean(each):.2f}")

# %% [markdown]
# **A long easy clip.** Averaged over all frames, one clip of 200 easy frames outvotes nine short ones. DAVIS averages over an object's frames first, then over objects:

# %%
lengths, J = np.array([200] + [20] * 9), np.array([0.95] + [0.60] * 9)
assert (lengths * J).sum() / lengths.sum() > J.mean() + 0.1
print(f"mean over frames {(lengths * J).sum() / lengths.sum():.3f}, over objects {J.mean():.3f}")

# %% [markdown]
# **The best of twenty.** An [`interval`](../tmrn_edu/bootstrap.py#L35) of 95 % leaves the truth out once in twenty times, by design. Try twenty variants, and some will be ahead by luck. Here are twenty "networks" that are STCN plus pure noise, on thirty clips; the best of them, chosen on these clips, and then asked again on thirty others:

# %%
from tmrn_edu.bootstrap import interval

rng = np.random.default_rng(0)
noise = rng.normal(0, 0.03, (2, 20, 30))  # first clips and others, variants, clips: differences of J to STCN
names = [str(clip) for clip in range(30)]
first = [interval(one, names) for one in noise[0]]
best = int(np.argmax([one.mean for one in first]))
assert first[best].mean > 0 and first[best].mean > interval(noise[1, best], names).mean
print(f"intervals that leave zero out: {sum(one.excludes_zero() for one in first)} of 20, though every true difference is 0")
print(f"the best: {100 * first[best].mean:+.1f} points on the clips it was chosen on, {100 * interval(noise[1, best], names).mean:+.1f} on others")

# %% [markdown]
# So choose on one set, report on another, and say how many you tried.

# %%
folder.cleanup()

# %% [markdown]
# ## What to take along
#
# - **J** counts pixels: strict with thin things, lenient with thick ones. **F** counts outline within a tolerance of 0.8 % of the diagonal. Report both.
# - The first frame is given and does not count. Frames are averaged within an object, then **objects**, each the same.
# - A score needs a **floor**, and a difference needs an **interval**: paired, over clips. "n.s." means too few clips, not equal.
# - A figure shows where methods differ most; a **table** says how often.
# - Ablate one thing at a time; what was chosen on a set is reported on **another**.
# - A submission is checked **before** it is sent: names, palette, sizes, ids.
#
# Answers to the exercises: [answers/08_evaluation](answers/08_evaluation.ipynb). Next: [09 · Your own video](09_your_own_video.ipynb), where there is no truth to score against.
