# %% [markdown]
# # 09 · Your own video
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/09_your_own_video.ipynb)
#
# **The question.** You have a video, and the outline of one thing in its first frame. What does it take to get the masks of all other frames, on a laptop, without a GPU? And what do you do where they come out wrong?
#
# The answer is one command. This lesson looks at what is behind it: a file goes in and masks come out; how a few clicks make the first mask; why a network that learned from painted shapes alone is not enough; what is remembered of a long video; how a look-alike does harm, and how one corrected frame repairs it; and how an object is cut out of its video. About 45 minutes, and 20 for the exercises. Notebooks 00, 01 and 05 come first.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.data.photos import bundled_photos
from tmrn_edu.viz.keys import side_by_side

nb.setup(seed=0)
_ = torch.set_grad_enabled(False)


def show(frames, masks, titles, alpha=0.55):
    """Frames with object 1 in dark blue and object 2 in yellow: on an orange star the usual orange is hard to see."""
    return te.viz.contact_sheet(frames, torch.tensor([0, 5, 4])[masks.long()], columns=min(3, len(frames)), titles=titles, alpha=alpha, dpi=75)


# %% [markdown]
# ## A video that we may show
#
# Real videos belong to somebody, so none lies in this repository. The next best thing: a painted clip like those of the other lessons, in the shape of a real video (at 160 rows, so that this page is quick on one core), whose **textures are pictures** that come with matplotlib (here shaded relief of real ground). Shapes and paths are drawn, so the truth is known to the pixel; the surfaces are from the world.
#
# The target is the orange star.

# %%
clip = te.data.synthetic.make_clip(seed=37, level="easy", frames=24, size=(160, 284), pictures=bundled_photos())
shown = [0, 5, 10, 15, 19, 23]
show(clip.frames[shown], clip.index_masks[shown], [f"frame {t}" for t in shown], alpha=0.1)

# %% [markdown]
# ## From a file to masks
#
# Put it on disk as you would have it: `my.mp4`, and `first.png`, the mask of frame 0. A mask file is a PNG in which numbers say what a pixel is: a palette image with 0 for background and 1, 2, ... for objects, or simply white (one object) on black, as any paint program writes it. No JPEG and no soft edges: a number between two labels is no label.

# %%
folder = tempfile.TemporaryDirectory()
here = Path(folder.name)
te.data.video.write_video(here / "my.mp4", clip.frames, fps=12)
te.data.video.write_mask(here / "first.png", clip.index_masks[0])

# %% [markdown]
# In a shell it is one line:
#
# ```
# tmrn-edu segment my.mp4 --mask first.png --out out/mine
# ```
#
# In Python, the function that this command calls, [`segment_video`](../tmrn_edu/segment_video.py#L44):

# %%
from tmrn_edu.segment_video import segment_video

network = te.load(te.weights.DEFAULT_NETWORK)
done = segment_video(network, here / "my.mp4", {0: here / "first.png"}, here / "mine")
print(f"{done.frames} frames of {done.size[0]} x {done.size[1]}, objects {done.object_ids}")
print(*sorted(path.name for path in (here / "mine").iterdir()))
print(*[path.name for path in sorted((here / "mine" / "masks").iterdir())][:3], "...")

# %% [markdown]
# One PNG a frame, with the numbers of the first mask, and a video with the masks laid over to look at. Always look: a score tells *how* bad a mask is, a picture tells *why*.

# %%
from_file = torch.stack([te.data.video.read_mask(path, empty_ok=True).index for path in sorted((here / "mine" / "masks").iterdir())])
show(clip.frames[shown], from_file[shown], [f"found in frame {t}" for t in shown])

# %% [markdown]
# We know the truth here, so we may also score. The same call on frames that are in memory already; without a network named, [`segment`](../tmrn_edu/segmenter.py#L259) takes the one for real video:

# %%
result = te.segment(frames=clip.frames, masks={0: clip.index_masks[0]})
score, score_of_file = (te.metrics.score(masks, clip.index_masks) for masks in (result.index_masks, from_file))
print(f"J {score.J:.2f}, F {score.F:.2f}")
assert abs(score.J - score_of_file.J) < 0.05
print("what the compression of the mp4 changes in J: less than 0.05")

# %% [markdown]
# How long did it take? (This cell prints something else on every machine.)

# %% tags=["nbval-ignore-output"]
print(f"{done.frames / done.seconds:.1f} frames per second on one core")

# %% [markdown]
# ## No mask yet? Draw it
#
# A mask file needs a paint program. A few clicks do as well, on a [`Drawing`](../tmrn_edu/viz/drawing.py#L52): click along the rim of the star, and on the first point to close the outline. Points can be dragged, `+` magnifies, Backspace takes back; the picture also answers to touch and to the keyboard (arrows, space, Enter). Each object has a number and a colour. An outline inside another one cuts a hole.

# %%
from tmrn_edu.viz.drawing import Drawing

view = Drawing(clip.frames[0])
view.polygons = {1: [(124, 105), (131, 115), (124, 123), (113, 123), (105, 124), (95, 130), (85, 125), (85, 113),
                     (83, 105), (79, 94), (88, 87), (99, 90), (105, 88), (115, 82), (129, 82), (125, 97)]}
view

# %% [markdown]
# These sixteen points were set from Python, so that this page comes out the same for everyone; draw your own, and the next cell follows. Points are $(x, y)$, as an image viewer shows them: $x$ to the right, $y$ down. (Everywhere else in this library it is $(y, x)$, as arrays have it.)

# %%
drawn = view.mask
print(f"{int((drawn == 1).sum())} pixels of object 1; J with the true mask: {te.metrics.region_similarity(drawn == 1, clip.index_masks[0] == 1):.2f}")

# %% [markdown]
# Sixteen straight lines are no star. How much does that cost later on?

# %%
from_drawing = te.segment(network, clip.frames, {0: drawn})
for name, masks in {"true first mask": result.index_masks, "drawn first mask": from_drawing.index_masks}.items():
    J = te.metrics.region_similarity(masks[1] == 1, clip.index_masks[1] == 1)
    print(f"{name:17} J of frame 1: {J:.2f}   mean J of frames 2 to 22: {te.metrics.score(masks[1:], clip.index_masks[1:]).J:.2f}")

# %% [markdown]
# Little, and most of it is made good at once: the decoder looks for the rim in the picture itself. So an outline need not be exact to the pixel. What no decoder mends is a wrong choice: a shadow that is in, an arm that is left out, two things under one number.
#
# In a shell the same outline is `--polygon "1:186,157 196,173 ..."` in place of `--mask`, and `tmrn-edu segment my.mp4 --draw outline.html` writes a page to draw on that spells these words for you.
#
# **Who is inside?** What makes an area of a list of points? Send a ray from a pixel to the right and count the edges that it crosses: after an odd number it was inside. That is the **even-odd rule**, which the package leaves to Pillow ([`Drawing.mask`](../tmrn_edu/viz/drawing.py#L94)). In a loop over the rows of the picture, with one set of crossings for each:

# %%
outline = view.polygons[1][0]
edges = list(zip(outline, outline[1:] + outline[:1]))  # the last point is joined with the first
filled = torch.zeros(160, 284, dtype=torch.bool)
for y in range(160):
    crossed = [x0 + (y - y0) * (x1 - x0) / (y1 - y0) for (x0, y0), (x1, y1) in edges if (y0 <= y) != (y1 <= y)]
    for x in range(284):
        filled[y, x] = sum(at > x for at in crossed) % 2 == 1
rim = (drawn == 1) & ~filled
assert not (filled & (drawn != 1)).any()
print(f"inside: {int(filled.sum())} pixels; the package adds {int(rim.sum())} that lie on the outline itself, so that a clicked pixel is always in")

# %% [markdown]
# **Exercise 1.** For one point that is not on the outline itself: inside or not? Mind rays that go exactly through a corner.


# %% tags=["exercise"]
def inside(x, y, outline):
    """Whether (x, y) lies inside the outline, points (x, y), n 2: True or False, by the even-odd rule."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.inside(inside)

# %% [markdown]
# ## What segmented it
#
# All networks shipped in the package run on a laptop, but they were made for different ends:

# %%
for info in te.list_networks():
    print(f"{info.name:24} {info.parameters / 1e6:.2f} M parameters   {info.licence}")

# %% [markdown]
# - The **tiny** ones learned from painted clips of 96 x 96 pixels alone. They are there to be understood, and retrained in minutes.
# - The **mobile** ones are for real video. Their key encoder is a MobileNetV2, up to stride 16, that has seen ImageNet; the rest is small and learned from a few dozen real videos of DAVIS.
#
# **Mind the licence.** Weights made from data inherit its terms: DAVIS is CC BY-NC 4.0, so weights trained on it are *not for commercial use*, whatever the licence of the code. [docs/weights.md](../docs/weights.md) says for each file where it comes from. Your own training data, your own terms.
#
# A few settings come with a network. Larger frames are shrunk to so many rows before it sees them, and masks come back at the size of your video:

# %%
cells = 160 // network.cell, 288 // network.cell  # 284 columns are padded to 288, a multiple of 16
print(f"shrinks frames to {network.short_side} rows; compares cells of {network.cell} x {network.cell} pixels: {cells[0]} x {cells[1]} of them here")
print(f"a memory frame every {network.rules.memory_every} frames, at most {network.rules.max_frames} of them")

# %% [markdown]
# ## What makes a network fit for real video: its keys
#
# Notebook 01 read a memory with keys and softmax. Try that read with nothing around it: no value encoder, no decoder. A pixel $q$ of a new frame asks all pixels $m$ of frame 0 and takes the weighted mean of their mask. Let only the *direction* of keys count:
#
# $$\text{mask}[q] \;=\; \sum_m w[m,q]\; \text{mask}[m], \qquad w = \operatorname{softmax}_m \frac{\cos(k_m, k_q)}{\tau} \qquad \text{(as in Jabri et al., NeurIPS 2020)}$$
#
# This is **label propagation**; the temperature $\tau$ says how sharp the choice is. With good keys it needs no training for the task; with bad ones nothing helps.
#
# **Exercise 2.** Write it.


# %% tags=["exercise"]
def propagate(memory_key, query_key, mask, temperature):
    """Each query pixel's mean of the mask, weighted by the softmax over m of cosine / temperature. ck m, ck q, m -> q."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.propagate(propagate)

# %% [markdown]
# To make it hard, ask from frame 23 into frame 0, and let evening come in between: half of the light is gone, what is left is yellow, and the sensor is noisy.

# %%
def at_dusk(frame, share=1.0):
    """A frame H W 3 with less light, yellower and noisy; `share`: how far the evening has come, 0 to 1."""
    light = 1 - share * (1 - torch.tensor([0.5, 0.42, 0.3]))
    noise = 12 * share * torch.randn(frame.shape, generator=torch.Generator().manual_seed(0))
    return (frame * light + noise).clamp(0, 255).round().to(torch.uint8)


pair = torch.stack([clip.frames[0], at_dusk(clip.frames[23])])
show(pair, clip.index_masks[[0, 23]], ["frame 0: mask known", "frame 23 at dusk: mask to be found"], alpha=0.1)

# %% [markdown]
# Three kinds of key for the same cells: the mean **colour** of a cell, whose direction is its hue; what **stcn-tiny** learned from painted shapes; and the **directions** of the mobile network, features of its trunk at strides 8 and 16, each of the same length, side by side ([`MobileEncoder`](../tmrn_edu/mobile.py#L81)).

# %%
tiny = te.load("stcn-tiny")


def cover(masks):
    """Index masks t H W -> how much of each cell the target covers, t h w."""
    return reduce(F.pad((masks == 1).float(), (2, 2)), "t (h i) (w j) -> t h w", "mean", i=8, j=8)


def keys_of(pair):
    """Keys of two frames t H W 3, all on the cells of the mobile network: t ck h w."""
    images = F.pad(rearrange(pair, "t H W c -> t c H W") / 255, (2, 2))
    small = F.interpolate(images, size=(128, 224), mode="bilinear", antialias=True)  # what stcn-tiny was made for
    return {
        "colour": reduce(images, "t c (h i) (w j) -> t c h w", "mean", i=8, j=8),
        "stcn-tiny": F.interpolate(tiny.encode(small).key, size=cells, mode="bilinear"),
        "mobile, directions": network.encode(images).coarse,
    }


masks, keys = cover(clip.index_masks[[0, 23]]), keys_of(pair)
for name, key in keys.items():
    print(f"{name:19} t ck h w = {tuple(key.shape)}")

# %% [markdown]
# A loop over the query's cells, the line with einsum, and the package's own affinity ([`softmax_over_memory`](../tmrn_edu/memory/affinity.py#L30)) agree:

# %%
rows = F.normalize(rearrange(keys["mobile, directions"], "t ck h w -> t ck (h w)"), dim=1)
labels, temperature = rearrange(masks[0], "h w -> (h w)"), 0.02
loop = torch.zeros(720)
for q in range(720):
    loop[q] = (rows[0].T @ rows[1][:, q] / temperature).softmax(dim=0) @ labels

# %%
similarity = einsum(rows[0], rows[1], "ck m, ck q -> m q") / temperature
line = einsum(similarity.softmax(dim=0), labels, "m q, m -> q")
affinity = te.memory.affinity.softmax_over_memory(rearrange(similarity, "m q -> 1 1 m q"))  # b t m q
torch.testing.assert_close(line, loop, rtol=1e-3, atol=1e-4)
torch.testing.assert_close(einsum(affinity[0, 0], labels, "m q, m -> q"), line, rtol=1e-3, atol=1e-4)
print("loop, line and package agree: q =", tuple(line.shape))

# %%
def carried(key, mask):
    """Label propagation from the first of two frames to the second: t ck h w, h w -> h w."""
    rows = F.normalize(rearrange(key, "t ck h w -> t ck (h w)"), dim=1)
    weights = (einsum(rows[0], rows[1], "ck m, ck q -> m q") / temperature).softmax(dim=0)
    votes = einsum(weights, rearrange(mask, "h w -> (h w)"), "m q, m -> q")
    return rearrange(votes, "(h w) -> h w", w=mask.shape[1])


maps = {name: carried(key, masks[0]) for name, key in keys.items()}
side_by_side(maps | {"truth": masks[1]}, limits=(0, 1), columns=4)

# %% [markdown]
# One pair is no proof; six other clips, from frame 0 to frame 11, by day and at dusk.
#
# **Predict, then run.** Which of the three loses least when evening comes? And which most?
#
# <details><summary>Answer</summary>
#
# The trunk's directions lose least. Those of the tiny network lose most: by day they are the best of the three, at dusk they fall behind even the hue.
# </details>

# %%
others = [te.data.synthetic.make_clip(seed, "easy", frames=12, size=(160, 284), pictures=bundled_photos()) for seed in range(100, 106)]


def J_carried(other):
    """J of propagated masks, on cells, by light and by kind of key: light key."""
    masks, later = cover(other.index_masks[[0, 11]]), (other.frames[11], at_dusk(other.frames[11]))
    pairs = [keys_of(torch.stack([other.frames[0], frame])) for frame in later]
    found = [[carried(key, masks[0]) > 0.5 for key in keys.values()] for keys in pairs]
    return torch.tensor([[te.metrics.region_similarity(one, masks[1] > 0.5) for one in row] for row in found])


by_day, at_night = torch.stack([J_carried(other) for other in others]).mean(dim=0)
for name, day, night in zip(keys, by_day, at_night):
    print(f"{name:19} mean J by day {day:.2f}, at dusk {night:.2f}")
assert at_night[2] > max(at_night[0], at_night[1]) and at_night[2] > at_night[1] + 0.1

# %% [markdown]
# Painted shapes by day are what the tiny network has learned, and only that: it was never asked to know a thing in other light. The trunk saw a million photographs, in every light, before it saw our star. (The *length* of a feature does tell bright from dark; that is why only directions count.)
#
# Everything else in the mobile network sharpens this: a learned map from directions to shorter keys, values, and a decoder that draws the outline inside the coarse cells. [`mobile.py`](../tmrn_edu/mobile.py) has it on three pages.
#
# ## Tiny against mobile, whole runs
#
# In a whole run memory is renewed every few frames, so light may change by a little at a time, and the decoder mends a good deal. First the first half of our clip, by daylight:

# %%
given = {0: clip.index_masks[0]}
runs = {"mobile": result.index_masks[:12], "tiny": te.segment(tiny, clip.frames[:12], given).index_masks}
for name, run in runs.items():
    print(f"{name:6} J {te.metrics.score(run, clip.index_masks[:12]).J:.2f}")
show(
    clip.frames[[3, 7, 11] * 2],
    torch.cat([run[[3, 7, 11]] for run in runs.values()]),
    [f"{name}: frame {t}" for name in runs for t in (3, 7, 11)],
)

# %% [markdown]
# And two of the other clips, every second frame, by daylight and with dusk falling from the first frame to the last. They were chosen: one in which the light decides, and one in which it does not.

# %%
for other in (others[0], others[2]):
    day, truth = other.frames[::2], other.index_masks[::2]
    dusk = torch.stack([at_dusk(frame, share) for frame, share in zip(day, torch.linspace(0, 1, 6).tolist())])
    found = [te.segment(one, light, {0: truth[0]}).index_masks for light in (day, dusk) for one in (network, tiny)]
    J = [te.metrics.score(masks, truth).J for masks in found]
    print(f"seed {other.seed}   by day: mobile {J[0]:.2f}, tiny {J[1]:.2f}   at dusk: mobile {J[2]:.2f}, tiny {J[3]:.2f}")

# %% [markdown]
# Read these honestly. Painted shapes are the tiny network's home, and pictures for textures do not drive it out: by day it keeps up, and in some clips at dusk as well. What a real video has besides, no clip of ours shows: things made of several parts and colours, legs that bend, blur, grass that moves. [docs/results.md](../docs/results.md) has tables of real videos. Where a network's record holds scores on real videos that it had not seen, here they are:

# %%
for info in te.list_networks():
    for kind, score in info.scores.items():
        if kind.startswith("held-out real"):
            print(f"{info.name:24} {kind}: J {score['J']:.3f}")

# %% [markdown]
# ## A long video: what is remembered
#
# If every fifth frame joined the memory for good, an hour of video would fill the computer and every read would be slower than the one before. So the memory is **bounded**. When it is full and another frame arrives, the oldest *predicted* frame makes room. The first frame stays, since its mask is the only one that is certainly right, and so do frames whose mask *you* gave ([`WorkingMemory`](../tmrn_edu/memory/working.py#L121)). A given mask also starts the count of five anew.
#
# **Exercise 3.** Which frames are in memory when frame `now` is segmented? If all that could leave were given by you, the oldest of these goes, but never the first.


# %% tags=["exercise"]
def frames_kept(now, every, most, given):
    """Frames in memory when frame `now` is segmented, ascending, as a tensor.

    A frame joins when its mask was given (`given`: a tuple, with 0 in it) or `every` frames after the last that joined.
    Memory holds at most `most` of them, 2 or more.
    """
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.frames_kept(frames_kept)

# %% [markdown]
# To watch it, segment a stream. A [`Segmenter`](../tmrn_edu/segmenter.py#L70) takes one frame at a time and holds on to nothing but its memory: that is what the command above ran. Fifty small frames; at frame 27 we hand in a mask, as a correction.

# %%
long = te.data.synthetic.make_clip(seed=37, level="easy", frames=50, size=(64, 112), pictures=bundled_photos())


def watch(**rules):
    """Which frames memory holds after each frame of the stream."""
    segmenter, kept = te.Segmenter(network, **rules), []
    for t, frame in enumerate(long.frames):
        segmenter.step(frame, long.index_masks[t] if t in (0, 27) else None)
        kept.append([stored.index for stored in segmenter.groups[0].memory.frames])
    return kept


kept = {"all": watch(max_frames=1000), "as the network has it": watch()}
te.viz.working.memory_figure(kept, given=(0, 27))

# %%
print("in memory at the end:", kept["as the network has it"][-1])
assert {0, 27} <= set(kept["as the network has it"][-1]) and len(kept["as the network has it"][-1]) == network.rules.max_frames

# %% [markdown]
# On the left memory grows without end; on the right it stays flat once it is full, however long the video.
#
# **Predict the number.** A minute of video has 1500 frames. By what factor would memory be larger at the end if every fifth frame stayed? And how long would a read take?
#
# <details><summary>Answer</summary>
#
# 300 frames stay instead of five: sixty times as much. Every read compares with all of them, so the last reads take about sixty times as long as well.
# </details>

# %%
segmenter = te.Segmenter(network)
_ = segmenter.step(clip.frames[0], clip.index_masks[0])
stored = segmenter.groups[0].memory.frames[0]
per_frame = 4 * (stored.key.numel() + stored.value.numel()) / 1e6
print(f"key {tuple(stored.key.shape)}, value {tuple(stored.value.shape)}: {per_frame:.2f} MB a frame")
print(f"{network.rules.max_frames} frames {network.rules.max_frames * per_frame:.1f} MB, 300 frames {300 * per_frame:.0f} MB")

# %% [markdown]
# ## A look-alike
#
# Now the case that the TMRN supplement is about. Cut the star out of our video and paste a second copy into it, from another moment, with a path that crosses the first one's. [`pasted_set`](../tmrn_edu/data/pasting.py#L80) does this with any annotated video, to train on; of a video it asks for a name, a size, a length, frames and masks.

# %%
from tmrn_edu.data.pasting import pasted_set


class Shot:
    """Our clip as a video of `tmrn_edu.data.sets`."""

    name, size = "star", (160, 284)

    def __len__(self):
        return len(clip.frames)

    def frame(self, t):
        return clip.frames[t]

    def mask(self, t):
        return clip.index_masks[t]


crossed = pasted_set([Shot()], count=1, seed=29, kind="look-alikes", labelled=True).videos[0]
frames = torch.stack([crossed.frame(t) for t in range(24)])
truth = torch.stack([crossed.mask(t) for t in range(24)])  # 1 the target, 2 its copy
target = (truth == 1).to(torch.uint8)
moments = [0, 4, 8, 12, 16, 23]
show(frames[moments], truth[moments], [f"frame {t}" for t in moments], alpha=0.1)

# %%
def J_of_target(masks):
    """J of the target, frame by frame."""
    return torch.tensor([te.metrics.region_similarity(a == 1, b == 1) for a, b in zip(masks, truth)])


alone = te.segment(network, frames, {0: target[0]})
show(frames[moments], alone.index_masks[moments], [f"found in frame {t}" for t in moments])

# %% [markdown]
# ## Correct it
#
# Two remedies, and both cost you one more mask.
#
# - **Name the look-alike.** Outline the copy in frame 0 as object 2. The two then compete for every pixel (notebook 05).
# - **Correct a later frame.** When the crossing is over, at frame 15 say, outline the target again, and give both masks:
#
# ```
# tmrn-edu segment my.mp4 --mask first.png --mask 15=late.png
# ```
#
# The second one is a key of the dictionary in Python. Nothing before frame 15 changes; after it the memory holds two masks that are surely right.
#
# **Predict, then run.** Which of the two gains more in the frames after 15? And before?
#
# <details><summary>Answer</summary>
#
# After 15 the correction gains more. Before 15 it cannot gain anything; naming the copy helps there too, by a little.
# </details>

# %%
runs = {
    "target alone": alone,
    "corrected at 15": te.segment(network, frames, {0: target[0], 15: target[15]}),
    "copy named": te.segment(network, frames, {0: truth[0]}),
}
lines = {name: J_of_target(run.index_masks) for name, run in runs.items()}
in_sight = torch.tensor([(a == 1).sum() / (b == 1).sum() for a, b in zip(truth, clip.index_masks)])
te.viz.sensory.probe_figure(lines, in_sight, memory_frames=[15])

# %%
for name, line in lines.items():
    print(f"{name:17} mean J of frames 1 to 14: {line[1:15].mean():.2f}   of frames 16 to 23: {line[16:].mean():.2f}")
same = (runs["corrected at 15"].index_masks[:15] == alone.index_masks[:15]).all()
assert same and lines["corrected at 15"][16:].mean() > lines["target alone"][16:].mean() - 0.02

# %%
names = ("target alone", "copy named", "corrected at 15")
show(
    frames[[16, 19, 23] * 3],
    torch.cat([runs[name].index_masks[[16, 19, 23]] for name in names]),
    [f"{name}: frame {t}" for name in names for t in (16, 19, 23)],
)

# %% [markdown]
# (Frame 15 itself is not counted: its mask was given.) Does a correction mend everything? The masks of frames 5 and 10 are still in memory, wrong as they are, and go on voting until newer frames push them out. What if nothing but frame 15 were remembered?

# %%
anew = te.segment(network, frames[15:], {0: target[15]})
J_anew = [te.metrics.region_similarity(a == 1, b == 1) for a, b in zip(anew.index_masks[1:], truth[16:])]
print(f"begun anew at 15: mean J of frames 16 to 23: {torch.tensor(J_anew).mean():.2f}   (corrected: {lines['corrected at 15'][16:].mean():.2f})")

# %% [markdown]
# The two are alike: here the newer masks outvote the wrong ones. Had forgetting done better, the wrong masks would have been to blame; had it done worse, the loss of frame 0. A rule that sees only frame numbers has to choose between forgetting and remembering.
#
# ## How would you know?
#
# Of your own video you have no truth. But the network says how sure it is. With $p$ the probability of the target at a pixel,
#
# $$\text{doubt} \;=\; \frac{\sum p\,(1 - p)}{\sum p} \qquad \text{per frame; 0 if every pixel is decided} \qquad \text{[ours]}$$

# %%
p = alone.probabilities[:, 1]  # t H W
doubt = reduce(p * (1 - p), "t H W -> t", "sum") / reduce(p, "t H W -> t", "sum").clamp_min(1)
pairs = torch.stack([lines["target alone"], doubt])[:, 1:]
te.viz.sensory.probe_figure({"J (needs the truth)": lines["target alone"], "1 - 5 doubt (does not)": (1 - 5 * doubt).clamp(0, 1)}, in_sight)

# %%
print(f"correlation of J and doubt over the frames: {torch.corrcoef(pairs)[0, 1]:.1f}")
print(f"the frame to look at first: {int(doubt.argmax())}")

# %% [markdown]
# Where the two stars meet the network is torn, and it shows. But doubt is not error. Once a wrong mask sits in memory, the network may be *sure* of it: then doubt is small again while J stays low. Look at frames of great doubt first, and at the frames after them in any case.
#
# ## Look, correct, go on
#
# Giving all masks at the start means waiting for the whole video after every correction. A [`VideoSession`](../tmrn_edu/correcting.py#L36) goes back instead: it keeps what the segmenter remembered at a few moments, and segments again from the corrected frame on.

# %%
session = te.VideoSession(frames, {0: target[0]}, network).run()
assert (session.masks == alone.index_masks).all()
view = session.draw(15)
view.polygons = {
    0: [(85, 97), (95, 97), (95, 111), (85, 108)],  # 0 takes away from the mask that was found
    1: [(69, 110), (75, 105), (84, 108), (85, 113), (87, 120), (89, 128), (89, 133), (86, 136), (80, 135), (72, 132)],
}
view

# %% [markdown]
# The widget opens with the mask that was found. One outline takes away what belongs to the copy, one adds what is missing.

# %%
before = session.masks
session.correct(15, view.mask)
J = {"found": J_of_target(before), "corrected by hand": J_of_target(session.masks), "corrected with the truth": lines["corrected at 15"]}
for name, line in J.items():
    print(f"{name:24} J of frame 15: {line[15]:.2f}   mean J of frames 16 to 23: {line[16:].mean():.2f}")
assert (session.masks[:15] == before[:15]).all() and J["corrected by hand"][15] > J["found"][15]

# %% [markdown]
# Is that the same as giving both masks from the start? To the bit, since frames in memory never change, and going back only means reading a shorter list of them:

# %%
both = te.segment(network, frames, {0: target[0], 15: view.mask})
assert torch.equal(session.masks, both.index_masks)
print(session)
print(f"held for going back, the memory itself included: {session.snapshot_bytes / 1e6:.0f} MB")

# %% [markdown]
# Snapshots share the frames in memory. But each keeps alive what the bounded memory has thrown out by now, so of a long video only sixteen are kept, further and further apart: at most $16 \times 5$ frames in memory, and to go back a few frames are segmented twice.
#
# **Predict the number.** A session over a minute of video, 1500 frames, with a snapshot every five frames at first. When there are more than sixteen, every other one goes. How far apart are they at the end?
#
# <details><summary>Answer</summary>
#
# 5, 10, 20, 40, 80 and 160 frames: at 80 there would be 19 of them, at 160 there are 10. A correction then costs up to 159 frames more than need be, except at the frame that was corrected last: there one is kept.
# </details>

# %%
apart, snapshots = 5, []
for t in range(0, 1500, 5):
    if t % apart == 0:
        snapshots.append(t)
    if len(snapshots) > 16:
        apart *= 2
        snapshots = [one for one in snapshots if one % apart == 0]
print(f"{apart} frames apart, {len(snapshots)} of them: {snapshots[:3]} ... {snapshots[-1]}")

# %% [markdown]
# ## Cut it out
#
# A mask says *which* pixels; a cut-out is made to be laid over something else. For that a pixel on the rim may belong to the object by half. The probabilities know: with $p$ that of all objects,
#
# $$\alpha \;=\; \min\!\big(\max\!\big(\tfrac{p - 0.1}{0.8},\, 0\big),\, 1\big) \qquad \text{[ours]}$$
#
# so the faint doubt of a softmax, which is nowhere quite zero, goes, and rims stay soft ([`cutout`](../tmrn_edu/data/cutouts.py#L19)).
#
# **Exercise 4.** Lay a cut-out over a background: a pixel with alpha one half is the mean of both (the operator *over* of Porter and Duff, 1984).


# %% tags=["exercise"]
def over(cut, background):
    """The cut-out, red green blue alpha in 0..255, H W 4, over a background H W 3, as floats H W 3."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.over(over)

# %%
picture = te.cutout(clip.frames[10], result.probabilities[10])  # H W 4
alpha = picture[..., 3:] / 255
y, x = torch.meshgrid(torch.arange(160), torch.arange(284), indexing="ij")
checkers = rearrange(200 + 40 * ((y // 12 + x // 12) % 2), "H W -> H W 1").expand(160, 284, 3)
evening = at_dusk(clip.frames[0]).flip(1)
laid = [alpha * picture[..., :3] + (1 - alpha) * background for background in (checkers, evening)]
te.viz.contact_sheet(torch.stack([clip.frames[10], *laid]).round().to(torch.uint8), columns=3, titles=["frame 10", "cut out", "on the evening, mirrored"], dpi=75)

# %% [markdown]
# Look closely at a rim, with scissors ($\alpha$ rounded to 0 or 1) and without:

# %%
top, left = [int(v) for v in torch.nonzero(picture[..., 3] > 0).min(dim=0).values]
near = slice(top, top + 27), slice(left + 13, left + 60)
scissors = alpha.round() * picture[..., :3] + (1 - alpha.round()) * checkers
parts = torch.stack([one[near] for one in (clip.frames[10], scissors, laid[0])]).round().to(torch.uint8)
te.viz.contact_sheet(parts, columns=3, titles=["frame 10", "scissors", "soft alpha"], dpi=75)

# %% [markdown]
# What soft alpha cannot do: pixels on the rim keep the frame's colours, in which some of the old background is mixed. (Matting networks estimate the pure colour too.)
#
# `session.write("out", cutouts=True)`, or `--cutout` in a shell, writes one such PNG a frame, all objects or only those that you name (`--cutout 1`):

# %%
session.write(here / "session", with_overlay=False, cutouts=[1])
print(*sorted(path.name for path in (here / "session").iterdir()), "with", len(list((here / "session" / "cutout").iterdir())), "pictures each")

# %% [markdown]
# ## Where it breaks
#
# **Things that leave.** The softmax finds the nearest match even where there is none (notebook 00). The hardest case is a **cut** to another scene: the star is gone for good, and the network goes on looking for it.

# %%
cut = torch.cat([clip.frames[:8], others[3].frames[:4]])
after_cut = te.segment(network, cut, {0: clip.index_masks[0]})
p = after_cut.probabilities[:, 1]
doubt = reduce(p * (1 - p), "t H W -> t", "sum") / reduce(p, "t H W -> t", "sum").clamp_min(1)
show(cut[[0, 7, 8, 11]][1:], after_cut.index_masks[[7, 8, 11]], ["frame 7", "frame 8, after the cut", "frame 11"])

# %%
sizes = reduce((after_cut.index_masks == 1).int(), "t H W -> t", "sum")
assert (sizes[8:] > 1000).all() and doubt[8:].min() > 2 * doubt[1:8].max()
print("pixels of a star that is not there: more than 1000 in every frame after the cut; doubt: more than twice as large as before it")

# %% [markdown]
# At least the doubt tells. Segment each shot by itself.
#
# **Thin things.** Cells are eight pixels wide, and a softmax over cells cannot hold what is much thinner. An upright bar, 100 pixels high, moves to the right; only its width differs:

# %%
for width in (16, 8, 4, 2):
    frames_of_bar, bar = others[1].frames.clone(), torch.zeros(12, 160, 284, dtype=torch.uint8)
    for t in range(12):
        columns = slice(60 + 6 * t, 60 + 6 * t + width)
        frames_of_bar[t, 30:130, columns] = torch.tensor([210, 40, 160], dtype=torch.uint8)
        bar[t, 30:130, columns] = 1
    J = te.metrics.score(te.segment(network, frames_of_bar, {0: bar[0]}).index_masks, bar).J
    print(f"{width:2} pixels wide: J {J:.2f}")
assert J < 0.7

# %% [markdown]
# A bicycle's spokes, a leash, a finger far away fare no better. Where your video has more than 240 rows, `short_side=480` (`--short-side 480`) looks twice as closely and costs more than four times as much.
#
# **A mask that does not fit** is refused before any work is done, and the message names both sides:

# %% tags=["raises-exception"]
te.segment(frames=clip.frames, masks={0: clip.index_masks[0, ::2, ::2]})

# %% [markdown]
# ## Yours
#
# Name your video and go through the cells one by one: outline, run, look, correct, write. An mp4, a GIF or a folder of frames will do. A mask file is as good as an outline: `{0: "first.png"}`.

# %%
video, given_masks = None, {}  # for example: "my.mp4", {} or {0: "first.png"}
mine = None if video is None else te.VideoSession(video, given_masks)
outlined = None if mine is None else mine.draw(0)
outlined

# %%
if mine is None:
    print("no video named: nothing was done")
else:
    if outlined.mask.any():
        mine.correct(0, outlined.mask)
    mine.run(progress=True).write("out/mine", overwrite=True, cutouts=True)
    print(f"{mine}: look at out/mine/overlay.mp4")

# %% [markdown]
# A frame went wrong? `fix = mine.draw(30); fix` in a cell, outline it, then `mine.correct(30, fix.mask).write("out/mine", overwrite=True)` in the next one.

# %%
folder.cleanup()

# %% [markdown]
# ## What to take along
#
# - `tmrn-edu segment my.mp4 --mask first.png`: masks and an overlay, on a laptop. **Look at them.**
# - Real video needs keys that know the world: the **directions** of a trunk that has seen photographs carry a mask even before anything is trained for it.
# - Memory is **bounded**: the first frame, what you gave, and a window of recent frames.
# - The first mask is a few **clicks** or `--polygon`: the right thing matters more than the exact rim.
# - Naming a look-alike helps; **correcting** a frame where the crossing is over helps more: a `VideoSession` goes on from there.
# - A cut-out has soft **alpha**: the probabilities know the rim.
# - Weights have **terms**: those trained on DAVIS are not for commercial use.
# - Without a truth, look first where the network **doubts**, and at what comes after.
#
# Answers to the exercises: [answers/09_your_own_video](answers/09_your_own_video.ipynb). Next: [10 · Experiment](10_experiment.ipynb), in which you write a memory reader of your own.
