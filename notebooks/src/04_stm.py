# %% [markdown]
# # 04 · STM, the whole network
#
# [![Open in Colab](images/open_in_colab.svg)](https://colab.research.google.com/github/tmrn_edu/tmrn_edu/blob/main/notebooks/04_stm.ipynb)
#
# **The question.** Notebooks 01 to 03 took the memory read apart. A network is more than its read: who makes the keys and values, what becomes of the readout, which frames are remembered? And what happens when TMRN's reader takes the place of the old one?
#
# STM ("Video Object Segmentation using Space-Time Memory Networks", Oh, Lee, Xu and Kim, ICCV 2019) came first, and everything later is best understood as a change to it. You will build it from the package's parts, stage by stage, until your network and the package's [`STM`](../tmrn_edu/networks/stm.py#L78) give the same masks. About 30 minutes, and 20 for the exercises.

# %%
# On Colab this cell installs the library; anywhere else it does nothing.
import sys

if "google.colab" in sys.modules:
    # %pip install -q "tmrn-edu[video,train] @ git+https://github.com/tmrn_edu/tmrn_edu"
    print("tmrn_edu is installed")

# %%
# %matplotlib inline
import torch
from einops import einsum, pack, rearrange, reduce, repeat

import tmrn_edu as te
from tmrn_edu import nb
from tmrn_edu.viz.keys import key_colours, side_by_side

nb.setup(seed=0)
_ = torch.set_grad_enabled(False)

# %% [markdown]
# ## The clip of this notebook
#
# Object 1 (orange) is the target. Object 2 (blue) is cut from the same cloth, and this time it has a mask too: it passes behind the target, and comes out above it. The pink thing belongs to the background.

# %%
clip = te.data.synthetic.make_clip(seed=22, level="medium", frames=11, objects=2)
shown = [0, 2, 4, 6, 8, 10]
te.viz.contact_sheet(clip.frames[shown], clip.index_masks[shown], columns=6, titles=[f"frame {t}" for t in shown], alpha=0.3, dpi=62)

# %% [markdown]
# `stm-tiny` is STM with small parts, trained on such clips. Its record says how well it does on clips that it has not seen. It is far weaker than `stcn-tiny`, and this notebook will show some reasons.

# %%
network = te.load("stm-tiny")
frames = rearrange(clip.frames, "t H W c -> t c H W") / 255
object_masks = te.masks.index_to_object_masks(clip.index_masks, [1, 2])  # t o H W
for name in ("stm-tiny", "stcn-tiny"):
    record = next(info for info in te.list_networks() if info.name == name)
    print(f"{name:9} on 64 clips:", "   ".join(f"{level} J {record.scores[level]['J']:.2f}" for level in ("easy", "medium", "hard")))

# %% [markdown]
# ## What the memory encoder sees
#
# STM has two encoders of the same build. The **memory encoder** sees a past frame *with the mask of one object*; the **query encoder** sees the new frame alone. Into the memory encoder go five channels:
#
# $$[\,R,\; G,\; B,\; \text{mask}_o,\; \textstyle\sum_{p \ne o} \text{mask}_p\,] \qquad \text{(STM, section 3.1; the last channel is in the authors' code)}$$
#
# The fourth says where the object is, the fifth where the others are.
#
# **Exercise 1.** Stack them for every object. The sum of the others is clamped to $[0, 1]$.


# %% tags=["exercise"]
def memory_input(image, object_masks):
    """[R, G, B, mask, others] for each object. image: b 3 H W; object_masks: b o H W in [0, 1]. Returns b o 5 H W."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.memory_input(memory_input)

# %% [markdown]
# By the package, for frame 0: [`stack_masks`](../tmrn_edu/encoders.py#L58) makes the two mask channels. The picture is normalised first (mean and spread of ImageNet), masks are not.

# %%
picture, masks = frames[:1], object_masks[:1]
two = te.encoders.stack_masks(picture, masks).clamp(0, 1)  # b o 2 H W: mask, others
image = repeat(network.normalise(picture), "b c H W -> b o c H W", o=2)
five = pack([image, two], "b o * H W")[0]
print("input of the memory encoder b o c H W =", tuple(five.shape))

# %% [markdown]
# ## From input to key and value
#
# First a loop: every object goes through the encoder's trunk on its own, then two convolutions side by side make a **key** of its coarse feature, and a **value**.

# %%
encoder = network.memory_encoder.trunk
stem, coarse, key, value = [], [], [], []
for o in range(2):
    stem.append(encoder.stem(five[:, o]))  # the only layer that sees image and masks: stride 2
    coarse.append(encoder.after_stem(stem[o])[-1])  # stride 4 in our small network, 16 in the published one
    key.append(network.memory_key(coarse[o]))
    value.append(network.memory_value(coarse[o]))

# %% [markdown]
# One object a row, from left to right: its mask, the others' mask, and the strength of the features (root mean square over channels) after the first layer, at the trunk's end, and in the value.

# %%
def strength(x):
    return reduce(x[0] ** 2, "c h w -> h w", "mean").sqrt()


stages = {}
for o in range(2):
    stages |= {f"mask {o + 1}": five[0, o, 3], f"others of {o + 1}": five[0, o, 4]}
    stages |= {f"{name} {o + 1}": strength(x[o]) for name, x in {"stem": stem, "feature": coarse, "value": value}.items()}
side_by_side(stages, columns=5)

# %% [markdown]
# Then the line: objects travel in the batch axis, and one call serves all of them. The package's [`STM.encode_memory`](../tmrn_edu/networks/stm.py#L126) goes a step further. A convolution is linear, so the image's share of the first layer is the same for every object; it is computed once, and each object's masks are added to it.

# %%
folded = encoder.after_stem(encoder.stem(rearrange(five, "b o c H W -> (b o) c H W")))[-1]
line = rearrange(network.memory_key(folded), "(b o) ck h w -> b o ck h w", o=2)
package_key, package_value = network.encode_memory(picture, masks)

torch.testing.assert_close(torch.stack(key, dim=1), line, rtol=1e-3, atol=1e-3)
torch.testing.assert_close(package_key, line, rtol=1e-3, atol=1e-3)
torch.testing.assert_close(package_value[:, :, :56], torch.stack(value, dim=1), rtol=1e-3, atol=1e-3)
print("loop, line and package agree: key b o ck h w =", tuple(package_key.shape))

# %% [markdown]
# (The package's value has 8 more channels: the mask itself, shrunk to the grid. That is ours, in the tiny networks alone, so that we can see what is read.)
#
# **Predict the shape.** The published STM makes keys of 128 channels and values of 512 at stride 16. A frame of 480 x 864 pixels, three objects: what are the shapes of one memory frame's key and value?
#
# <details><summary>Answer</summary>
#
# The grid is 30 x 54. Key `b o ck h w = (1, 3, 128, 30, 54)`, value `b o cv h w = (1, 3, 512, 30, 54)`. In STCN the key would be `(1, 64, 30, 54)`, whatever the number of objects: notebook 05.
# </details>
#
# ## Keys belong to objects
#
# Since the mask goes in before the key is made, *the same frame has as many keys as it has objects*. Like colour, like key:

# %%
every = torch.cat([package_key[0], network.encode(picture).key])  # n ck h w: object 1, object 2, the query encoder's key
between = (every[0] - every[1]).norm(dim=0)  # h w
names = ["key for object 1", "key for object 2", "query encoder's key"]
side_by_side({"frame 0": clip.frames[0]} | dict(zip(names, key_colours(every))) | {"distance of 1 and 2": between}, columns=5)

# %%
def apart(a, b):
    """Mean distance of two keys of one cell, in units of the mean spread of keys over the frame."""
    spread = (every - reduce(every, "n ck h w -> n ck 1 1", "mean")).norm(dim=1).mean()
    return float((a - b).norm(dim=0).mean() / spread)


print(f"one frame, keys of object 1 and of object 2:       {apart(every[0], every[1]):.1f}")
print(f"one frame, memory key of object 1 and query's key: {apart(every[0], every[2]):.1f}")

# %% [markdown]
# (0: the same; 1: as far apart as a cell's key is from the frame's mean.) Two things are to be seen.
#
# - The two objects' keys differ where the masks do, so here is STM's freedom: a key may say "I am the rim of *this* object". But our small network, trained on one object at a time, makes little use of it.
# - The query encoder speaks another language. It shares no weight with the memory encoder, and a dot product does not ask keys to be *equal*, only to point the same way. (The published encoders at least start from the same ImageNet weights.)
#
# The price of keys that belong to objects: every object needs an encoding, keys and an affinity of its own.
#
# ## The query encoder
#
# The new frame gives a key, a *query value* that goes to the decoder past the memory, and the finer features that the decoder needs for sharp outlines.

# %%
memory, query = [0, 5], 7
features = network.encode(frames[query : query + 1])
for name, x in {"key": features.key, "query value": features.query_value, "finer feature": features.skips[0]}.items():
    print(f"{name:13}", tuple(x.shape))
side_by_side(
    {"query frame 7": clip.frames[query], "key": key_colours(features.key)[0], "query value": strength(features.query_value), "finer feature": strength(features.skips[0])}
)

# %% [markdown]
# ## One affinity per object
#
# The read is that of notebook 01, with one more letter. For object $o$, over all pixels of all its memory frames:
#
# $$w_{otmq} = \operatorname*{softmax}_{(t\,m)} \frac{\langle k_{otm},\, k_q\rangle}{\sqrt{c_k}}, \qquad \text{readout}_{oq} = \sum_{t,m} w_{otmq}\, v_{otm} \qquad \text{(STM, section 3.2; the scale: authors' code)}$$
#
# The similarity is [`dot_product`](../tmrn_edu/memory/similarity.py#L23). Frames 0 and 5 are memory, with their true masks. A loop, for one query pixel:

# %%
memory_key, memory_value = network.encode_memory(frames[memory], object_masks[memory])  # t o ck h w, t o cv h w
memory_key, memory_value = rearrange(memory_key, "t o ck h w -> 1 o t ck (h w)"), rearrange(memory_value, "t o cv h w -> 1 o t cv (h w)")
query_key = rearrange(features.key, "b ck h w -> b ck (h w)")

y, x = 12, 8  # a cell on the target
q = 24 * y + x
loop = torch.zeros(2, 64)
for o in range(2):
    scores = torch.stack([query_key[0, :, q] @ memory_key[0, o, t] for t in range(2)]) / 32**0.5  # t m
    weights = torch.exp(scores - scores.max())
    weights /= weights.sum()
    for t in range(2):
        loop[o] += memory_value[0, o, t] @ weights[t]

# %% [markdown]
# **Exercise 2.** All query pixels, all objects, no loop.


# %% tags=["exercise"]
def read_objects(memory_key, query_key, memory_value):
    """Each object's own space-time read. b o t ck m, b ck q, b o t cv m -> b o cv q."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.read_objects(read_objects)

# %%
scores = einsum(memory_key, query_key, "b o t ck m, b ck q -> b o t m q") / 32**0.5
affinity = rearrange(rearrange(scores, "b o t m q -> b o (t m) q").softmax(dim=2), "b o (t m) q -> b o t m q", t=2)
line = einsum(affinity, memory_value, "b o t m q, b o t cv m -> b o cv q")

stored = [te.inference.memorize_frame(network, frames[t : t + 1], object_masks[t : t + 1], t) for t in memory]
readout = network.read(features, stored, query)
torch.testing.assert_close(line[0, :, :, q], loop, rtol=1e-3, atol=1e-3)
torch.testing.assert_close(rearrange(readout.value, "b o cv h w -> b o cv (h w)"), line, rtol=1e-3, atol=1e-3)
print("loop, line and package agree: readout b o cv h w =", tuple(readout.value.shape))

# %% [markdown]
# Upper row: where one query pixel looks in the memory of object 1; lower row: in that of object 2. They hardly differ, as the keys hardly did. What differs is what is found there: on the right the masks as read out, before any decoding.

# %%
marked = {"query": (4 * y + 1.5, 4 * x + 1.5)}
maps = {}
for o in range(2):
    maps |= {"query" if o == 0 else "query, again": clip.frames[query]}
    maps |= {f"object {o + 1}, frame {t}": rearrange(affinity[0, o, i, :, q], "(h w) -> h w", h=24) for i, t in enumerate(memory)}
    maps |= {f"mask {o + 1} as read": network.readout_mask(readout)[0, o]}
side_by_side(maps, mark=marked | {"query, again": marked["query"]}, columns=4)

# %% [markdown]
# Inside the package readers ([`SpaceTimeReader`](../tmrn_edu/memory/space_time.py#L66) and its kin) know nothing of objects in keys. [`STM.memorize`](../tmrn_edu/networks/stm.py#L143) folds them into the batch axis, `(b o)`, so each object is read as if it were a clip of its own. That is all it takes for every reader, TMRN's too, to work in STM.
#
# ## The decoder
#
# Readout and query value are joined at the key's grid; then the finer feature comes in at each step up. In our small network, [`TinyDecoder`](../tmrn_edu/decoder.py#L114): stride 4, stride 2, image. (The published one, [`Decoder`](../tmrn_edu/decoder.py#L70), goes 16, 8, 4, image, with residual blocks: STM, section 3.3.)

# %%
decoder = network.decoder
x4 = decoder.compress.pair(readout.value, features.query_value)  # b o c h w: [readout, query value] -> 64 channels
narrow = te.blocks.each_object(lambda x: te.blocks.enlarge(decoder.narrow(x), 2), x4)
x2 = decoder.up_4_2.pair(narrow, features.skips[0])  # twice as fine, joined with the finer feature
scores2 = te.blocks.each_object(decoder.pred, x2)  # one number per pixel of stride 2
logits = te.blocks.enlarge(scores2[:, :, 0], 2)

decoded = network.decode(readout, features)
torch.testing.assert_close(decoded.logits, logits, rtol=1e-3, atol=1e-3)
print("by parts and by the package: logits b o H W =", tuple(logits.shape))

# %%
stages = {}
for o in range(2):
    stages |= {f"mask {o + 1} as read": network.readout_mask(readout)[0, o], f"stride 4, object {o + 1}": strength(x4[:, o])}
    stages |= {f"stride 2, object {o + 1}": strength(x2[:, o]), f"probability {o + 1}": logits[0, o].sigmoid()}
side_by_side(stages, columns=4)

# %% [markdown]
# ## Soft aggregation
#
# Every object was decoded alone, so a pixel may belong to both, or to neither. **Soft aggregation** settles it. The background gets $p_0 = \prod_o (1 - p_o)$, and all labels are compared by their odds:
#
# $$P_l = \frac{p_l / (1 - p_l)}{\sum_k p_k / (1 - p_k)} \qquad \text{(STM, "Multi-object Segmentation")}$$
#
# **Exercise 3.** Write it. A probability can be exactly 0 or 1; the authors clamp all $p$, the background's too, to $[10^{-7}, 1 - 10^{-7}]$. (In the package: [`soft_aggregation`](../tmrn_edu/masks.py#L64).)


# %% tags=["exercise"]
def soft_aggregate(object_probabilities):
    """b o H W in [0, 1] -> b l H W, background first, summing to one over l."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.soft_aggregate(soft_aggregate)

# %%
alone = logits.sigmoid()
claimed = (reduce((alone > 0.5).int(), "b o H W -> b H W", "sum") == 2).float().mean()
probabilities = te.masks.soft_aggregation(alone)
predicted = te.masks.probabilities_to_index_mask(probabilities, [1, 2])[0]
torch.testing.assert_close(reduce(probabilities, "b l H W -> b H W", "sum"), torch.ones(1, 96, 96))
print(f"pixels claimed by both objects before: {claimed:.1%}; after, every pixel's labels sum to one")
side_by_side(
    {
        "background": probabilities[0, 0],
        "object 1": probabilities[0, 1],
        "object 2": probabilities[0, 2],
        "labels": te.viz.overlay(clip.frames[query], predicted),
        "truth": te.viz.overlay(clip.frames[query], clip.index_masks[query]),
    },
    columns=5,
)

# %% [markdown]
# ## Assemble the network
#
# These were all the parts. `STM` takes them as a small dataclass, [`Parts`](../tmrn_edu/networks/stm.py#L33). Build one from scratch, and give it the trained weights: they fit by name and by shape, and the two networks are one.

# %%
from torch import nn
from tmrn_edu.networks.stm import Parts, Sizes

parts = Parts(
    query_encoder=te.encoders.TinyImageEncoder(out_channels=64),
    query_key=nn.Conv2d(64, 32, 3, padding=1),
    query_value=nn.Identity(),
    memory_encoder=te.encoders.MemoryEncoder(te.encoders.TinyImageEncoder(out_channels=64, in_channels=5), mask_channels=8),
    memory_key=nn.Conv2d(64, 32, 3, padding=1),
    memory_value=nn.Conv2d(64, 64 - 8, 3, padding=1),
    decoder=te.decoder.TinyDecoder(object_channels=64, image_channels=64),
    sizes=Sizes("tiny", key_channels=32, value_channels=64, stride=16, cell=4, short_side=128, mask_channels=8),
)
mine = te.networks.STM(parts=parts)
mine.load_state_dict(network.state_dict())
mine.eval()
for part in ("query_encoder", "memory_encoder", "decoder"):
    print(f"{part:14} {sum(p.numel() for p in getattr(mine, part).parameters()):,} parameters")

# %% [markdown]
# ## A video, frame by frame
#
# STM remembers the first frame and every fifth one after it, and one more: **the frame before**, which is read once and then forgotten, unless it is a fifth one (STM, "Inference"). The first has an exact mask, the last looks most like the new frame.
#
# **Exercise 4.** Which frames are read when frame `now` is segmented?


# %% tags=["exercise"]
def frames_read(now, every):
    """Numbers of the memory frames for frame `now`, ascending: 0, every, 2 every, ... and the one before, each once. A tensor n."""
    raise NotImplementedError


# %% tags=["check"]
passed = te.check.frames_read(frames_read)

# %% [markdown]
# The whole inference in a loop, with nothing but the five steps *encode, memorize, read, decode, aggregate*. In the package that is [`segment`](../tmrn_edu/segmenter.py#L259):

# %%
def segment_by_hand(network, every=5, previous=True):
    masks, stored, found = object_masks[:1], {}, [clip.index_masks[0]]
    for now in range(1, len(frames)):
        stored[now - 1] = network.memorize(frames[now - 1 : now], None, masks, now - 1)
        read = [t for t in stored if t % every == 0 or previous and t == now - 1]
        features = network.encode(frames[now : now + 1])
        logits = network.decode(network.read(features, [stored[t] for t in read], now), features).logits
        labels = te.masks.soft_aggregation(logits.sigmoid())
        masks = labels[:, 1:]  # probabilities, not hard masks, go into the memory
        found.append(te.masks.probabilities_to_index_mask(labels, [1, 2])[0])
    return torch.stack(found)


given = {0: clip.index_masks[0]}
result = te.segment(network, clip.frames, given)  # STM's own rules: every fifth frame, and the one before
by_hand = segment_by_hand(mine)
differ = (by_hand != result.index_masks).float().mean()
assert differ < 1e-3
print(f"your STM, by hand, and the package's: {differ:.1%} of all pixels differ")

# %% [markdown]
# **Predict, then run.** Three runs: as published; without the frame before; and with a first mask of the target *alone*, so that the look-alike is background. Which of the two changes costs the target more?
#
# <details><summary>Answer</summary>
#
# Leaving out the look-alike. As an object of its own it claims its pixels, and takes them from the target; as background it is only something that looks very much like the target. The frame before matters in videos in which much happens within five frames; here it makes no difference to two digits.
# </details>

# %%
def target_J(index_masks, clip=clip):
    """J of the target alone, as for all clips here: first and last frame not counted."""
    return te.metrics.score((index_masks == 1).to(torch.uint8), (clip.index_masks == 1).to(torch.uint8)).J


without = te.segment(network, clip.frames, given, previous_frame=False)
alone = te.segment(network, clip.frames, {0: (clip.index_masks[0] == 1).to(torch.uint8)})
for name, one in {"as published": result, "without the frame before": without, "the target alone": alone}.items():
    print(f"{name:25} J of the target {target_J(one.index_masks):.2f}")

# %%
rows = {"truth": clip.index_masks, "as published": result.index_masks, "without frame before": without.index_masks, "target alone": alone.index_masks}
te.viz.contact_sheet(
    clip.frames[shown[1:] * len(rows)],
    torch.cat([masks[shown[1:]] for masks in rows.values()]),
    columns=5,
    titles=[f"{name}: {t}" for name in rows for t in shown[1:]],
    alpha=0.35,
    dpi=62,
)

# %% [markdown]
# One clip, so no more than an example. The outlines are soft: keys lie on a coarse grid, and the decoder is small.
#
# ## Who is heard?
#
# Back to the read. In notebook 01 a single long key was the best match for most query pixels. Is that a danger in real keys, too? Here are seven keys of two channels. Each point of the plane is a possible query key and has the colour of the memory key that it would choose:

# %%
from tmrn_edu.viz import votes as draw

plane = torch.tensor([[2.6, 1.0], [-1.2, 2.4], [-2.0, -1.4], [1.4, -2.2], [0.8, 0.6], [-0.4, -0.6], [0.6, -0.8]])
draw.winners_figure(plane)

# %% [markdown]
# By a dot product the inner keys (hollow) are never chosen, *whatever the query*: a linear function takes its largest value on the hull of a set of points. By a distance every key is chosen by the queries next to it. This is the argument with which STCN gave up STM's similarity ("improved memory coverage").
#
# To test it on real keys let every query pixel give one **vote** to the memory pixel that it matches best, for object 1. Loop, line, and the package's [`count_votes`](../tmrn_edu/viz/votes.py#L36):

# %%
object_key = rearrange(memory_key[:, 0], "b t ck (h w) -> b t ck h w", h=24)
similarity = te.memory.dot_product(object_key, features.key)
loop = torch.zeros(2, 576, dtype=torch.long)
for q in range(576):
    best = int(similarity[0, :, :, q].argmax())
    loop[best // 576, best % 576] += 1

# %%
best = rearrange(similarity, "b t m q -> b q (t m)").argmax(dim=2)
line = rearrange(reduce(torch.nn.functional.one_hot(best, 2 * 576), "b q n -> b n", "sum"), "b (t m) -> b t m", t=2)
assert torch.equal(line[0], loop) and torch.equal(draw.count_votes(similarity), line)
print("loop, line and package agree: votes b t m =", tuple(line.shape))

# %% [markdown]
# **Predict, then run.** There are 576 votes and 1,152 memory pixels. With a best match of its own for each query pixel, half of the memory pixels would get a vote. Which share does, by the dot product? And does it help to compare the very same keys by their distance instead?
#
# <details><summary>Answer</summary>
#
# Few: about one memory pixel in twenty. And with *these* keys the distance does not help, which the argument above does not explain. Read on.
# </details>
#
# The larger a dot, the more query pixels this memory pixel wins.

# %%
two_ways = {"dot product": te.memory.dot_product, "squared L2": te.memory.negative_squared_l2}
votes = {name: draw.count_votes(score(object_key, features.key))[0] for name, score in two_ways.items()}
assert all(draw.coverage(one[None]) < 0.07 for one in votes.values())
print("by dot product and by squared L2: fewer than 7 % of the memory pixels get any vote")
draw.votes_figure(clip.frames[memory], votes, [f"frame {t}" for t in memory])

# %% [markdown]
# Few memory pixels do nearly all the talking; but L2 ([`negative_squared_l2`](../tmrn_edu/memory/similarity.py#L37)) changes next to nothing about it! So is STCN's argument wrong? Ask the keys of `stcn-tiny`, in which *one* encoder makes all keys:

# %%
stcn = te.load("stcn-tiny")
stcn_key = rearrange(stcn.encode(frames[memory]).key, "t ck h w -> 1 t ck h w")
stcn_query = stcn.encode(frames[query : query + 1]).key
votes = {f"STM's keys, {name}": one for name, one in votes.items()}
votes |= {f"STCN's keys, {name}": draw.count_votes(score(stcn_key, stcn_query))[0] for name, score in two_ways.items()}
draw.share_figure(votes)

# %% [markdown]
# With STCN's keys the difference is as large as the argument promised. A distance covers the memory only if query keys and memory keys *lie in the same place*, and STM's two encoders never promised that. **The distance and the shared encoder belong together.** One clip is an anecdote, so once more over eight others (frames 0, 2 and 4 read by frame 6):

# %%
covered = {}
for seed in range(8):
    other = te.data.synthetic.make_clip(seed, level="medium")
    pictures = rearrange(other.frames[[0, 2, 4, 6]], "t H W c -> t c H W") / 255
    masks = te.masks.index_to_object_masks(other.index_masks[[0, 2, 4]], [1])
    of_stm = network.encode_memory(pictures[:3], masks)[0], network.encode(pictures[3:]).key
    of_stcn = stcn.encode(pictures).key.split([3, 1])
    for keys, (k, asks) in {"STM's keys": of_stm, "STCN's keys": of_stcn}.items():
        k = rearrange(k, "t 1 ck h w -> 1 t ck h w" if k.ndim == 5 else "t ck h w -> 1 t ck h w")
        for name, score in two_ways.items():
            covered.setdefault(f"{keys:11} {name:11}", []).append(draw.count_votes(score(k, asks)))

for name, one in covered.items():
    one = torch.cat(one)
    print(f"{name}  coverage {draw.coverage(one).mean():.2f}   share of votes for the 10 most voted {draw.share_of_top(one, 10).mean():.1f}")

# %% [markdown]
# *Coverage* is the share of memory pixels that are the best match of anybody. (Each network was trained with one of the two similarities, STM with the dot product, STCN with L2; the other is shown for comparison, not as a fair competitor.)
#
# ## Put TMRN in
#
# TMRN replaces the reader and nothing else **[S]**. Notebook 03 proved identity 1: a **warm** trajectory reader, [`TrajectoryReader.warm`](../tmrn_edu/memory/readers.py#L110), *is* the space-time read **[ours]**. (**[S]**: said by TMRN's supplement; **[ours]**: our completion.) Then a trained STM with a warm TMRN must give the same probabilities, in every frame, for every object.

# %%
guest = te.networks.STM.tiny(te.memory.TrajectoryReader.warm(key_channels=32, value_channels=64))
fresh = guest.load_state_dict(network.state_dict(), strict=False)
assert all(name.startswith("reader.") for name in fresh.missing_keys) and not fresh.unexpected_keys
guest.eval()
assert guest.reader.similarity is te.memory.dot_product  # a reader that was given none takes the network's own
change = (te.segment(guest, clip.frames, given).probabilities - result.probabilities).abs().max()
assert change < 1e-3
print(f"{len(fresh.missing_keys)} new tensors, all in the reader; largest change of any probability: {change:.3f}")

# %% [markdown]
# From there it could be trained. The networks that come with the package were trained from scratch, each with the same initial weights around its reader: `stm-tiny` with the space-time read, `tmrn-stm-tiny` with TMRN as we read it in the supplement (preset *paper*: agents, attention along the trajectory).

# %%
names = ["stm-tiny", "tmrn-stm-tiny"]
networks = {name: te.load(name) for name in names}
results = {name: te.segment(one, clip.frames, given) for name, one in networks.items()}
for name, one in results.items():
    print(f"{name:22} J of the target {target_J(one.index_masks):.2f}")

# %%
times = [2, 6, 10]
rows = {"truth": clip.index_masks} | {name: one.index_masks for name, one in results.items()}
te.viz.contact_sheet(
    clip.frames[times * len(rows)],
    torch.cat([masks[times] for masks in rows.values()]),
    columns=3,
    titles=[f"{name}: {t}" for name in rows for t in times],
    alpha=0.35,
    dpi=62,
)

# %% [markdown]
# And a single read for the target, with its true masks in memory: where does one of its pixels look, which frame counts ($u$), and which path does that draw? Rings are expected places, crosses true ones.

# %%
target_masks = (clip.index_masks == 1).to(torch.uint8)
looks = {name: te.look(one, clip.frames, target_masks, 8, [1, 3, 5, 7]) for name, one in networks.items()}
pixel = te.viz.choose_pixel(looks, clip)
te.viz.comparison_figure(looks, pixel, truth=clip)

# %%
from tmrn_edu.evaluate_clips import look_pck

for name, look in looks.items():
    print(f"{name:22} {look_pck(look, clip, threshold=4):.2f} of the target's best matches are right to 4 pixels")

# %% [markdown]
# One clip again. What was measured on 64 clips a level when the networks were trained (*J, true memories*: with true masks in memory instead of predicted ones; *PCK*: the share of best matches that are right to 4 pixels):

# %%
records = {info.name: info for info in te.list_networks()}
print(f"{'':29}   J   J, true memories   PCK")
for level in ("easy", "medium", "hard"):
    for name in names:
        scores = records[name].scores[level]
        print(f"{level:6} {name:22} {scores['J']:.3f}        {scores['J, true memories']:.3f}       {scores['trajectory PCK']:.3f}")

# %% [markdown]
# TMRN's paper form neither gains nor loses masks here: differences of a hundredth mean nothing with one training run each. Its best matches are right less often. Look at the heat maps again: STM's small keys hardly tell one *place* on the target from another, so a trajectory has little to go by. A reader cannot be better than the keys that it reads. Notebook 05 repeats the comparison with sharper ones.
#
# ## Where it breaks
#
# **The other network's similarity.** STCN's argument for a distance is so good that one may want to give it to a trained STM. But keys are learned *for* a similarity. Here is the warm reader again, told to use squared L2. It runs without complaint, and the masks are worse:

# %%
network.reader = te.memory.TrajectoryReader.warm(32, 64, similarity=te.memory.negative_squared_l2)
wrong = te.segment(network, clip.frames, given)
network.reader = te.memory.SpaceTimeReader(te.memory.dot_product)  # as it was
assert target_J(wrong.index_masks) < target_J(result.index_masks) - 0.03
print(f"L2 in a network made for the dot product: J of the target {target_J(wrong.index_masks):.2f} instead of {target_J(result.index_masks):.2f}")
te.viz.contact_sheet(
    clip.frames[times * 2],
    torch.cat([result.index_masks[times], wrong.index_masks[times]]),
    columns=3,
    titles=[f"{name}: {t}" for name in ("dot product", "squared L2") for t in times],
    alpha=0.35,
    dpi=62,
)

# %% [markdown]
# **A reader of the wrong size** is refused when the network is built, with both sizes:

# %% tags=["raises-exception"]
te.networks.STM.tiny(te.memory.TrajectoryReader.paper(key_channels=128, value_channels=512))

# %% [markdown]
# ## The published size
#
# `te.networks.STM()` is the same class with ResNet-50 twice. It comes in two layouts. *Released*: five input channels, as in the authors' weights. *Supplement*: four, since TMRN's supplement describes STM's memory input as RGB and mask; `te.networks.STM.tmrn()` uses that one, with TMRN's reader.

# %%
full, tmrn = te.networks.STM(), te.networks.STM.tmrn("paper")
for one in (full, tmrn):
    channels = one.memory_encoder.trunk.stem.in_channels
    print(f"{one.layout:10} layout: {channels} channels into the memory encoder, {sum(p.numel() for p in one.parameters()) / 1e6:.1f} M parameters, {type(one.reader).__name__}")

# %% [markdown]
# With the authors' file (`STM_weights.pth`, from github.com/seoungwugoh/STM), [`te.load_official`](../tmrn_edu/official.py#L127)`("stm", "STM_weights.pth")` gives their network: every tensor finds its place by name, or you are told which do not.
#
# ## What to take along
#
# - STM's **memory keys belong to objects**: mask in, key out. That costs an encoding, keys and an affinity per object.
# - **Soft aggregation** lets objects compete by their odds; a look-alike with a mask of its own is a rival instead of a trap.
# - STM reads the first frame, every fifth, and **the frame before**.
# - By **dot product** few memory pixels speak for all; a distance covers the memory, but only where one encoder makes all keys.
# - TMRN replaces the reader. A **warm** one changes nothing; what a trained one gains has to be measured, and on our clips you have seen the numbers.
#
# Answers to the exercises: [answers/04_stm](answers/04_stm.ipynb). Next: [05 · STCN](05_stcn.ipynb), which draws the consequences.
