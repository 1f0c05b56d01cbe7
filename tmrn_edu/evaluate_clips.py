"""Scores on held-out synthetic clips, where every pixel's truth is known: J, F, and how well trajectories are found.

Every clip is segmented twice: from *predicted* memories, as in use, and from *true* memories, which shows what a read is worth before errors
pile up. Differences between networks are paired over clips.
"""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import nn

from tmrn_edu import metrics
from tmrn_edu.data.clips import FIRST_TRAINING_SEED
from tmrn_edu.data.synthetic import Clip, make_clip
from tmrn_edu.errors import InputError
from tmrn_edu.inference import roll_out
from tmrn_edu.looking import look
from tmrn_edu.masks import VOID, index_to_object_masks, probabilities_to_index_mask
from tmrn_edu.segmenter import segment

LOOK_ALIKES = {"easy": 0, "medium": 1, "hard": 2}  # layers after the target that look like it (data/scenes.py)


@dataclass(frozen=True)
class ClipScores:
    """One network on one set of clips; one number per clip, in the order of the seeds."""

    J: np.ndarray  # region similarity, predicted memories
    F: np.ndarray  # boundary accuracy, predicted memories
    J_true_memory: np.ndarray  # region similarity, true memories


def held_out_clips(
    level: str, count: int, frames: int = 8, size: tuple[int, int] = (96, 96), first_seed: int = 0
) -> list[Clip]:
    """Clips that no training draws: seeds `first_seed` .. `first_seed + count - 1`, all below the first training seed."""
    if first_seed + count > FIRST_TRAINING_SEED:
        raise ValueError(f"seeds up to {first_seed + count} asked for, held-out seeds end at {FIRST_TRAINING_SEED}")
    return [make_clip(seed, level, frames, size) for seed in range(first_seed, first_seed + count)]


@torch.inference_mode()
def score_clips(network: nn.Module, clips: list[Clip], batch: int = 16, memory_every: int = 1) -> ClipScores:
    """J and F of the target in every clip (DAVIS rule: first and last frame not counted); every earlier frame is memory, or each `memory_every`-th.

    Clips of one size and length, one labelled object. Source: method section 4 and DAVIS (`metrics.score`).
    """
    network.eval()
    predicted, clean = [], []
    for start in range(0, len(clips), batch):
        some = clips[start : start + batch]
        frames = rearrange([clip.frames for clip in some], "b t H W c -> b t c H W").float() / 255
        masks = index_to_object_masks(torch.stack([clip.index_masks for clip in some]), (1,))
        masks = rearrange(masks, "b t o H W -> b o t H W")
        for memory_masks, scores in ((None, predicted), (masks, clean)):
            results = roll_out(network, frames, masks[:, :, 0], memory_masks=memory_masks, memory_every=memory_every)
            found = torch.stack([probabilities_to_index_mask(r.probabilities, (1,)) for r in results], dim=1)
            for clip, masks_found in zip(some, found, strict=True):
                whole = torch.cat([clip.index_masks[:1], masks_found])
                scores.append(metrics.score(whole, clip.index_masks))
    return ClipScores(
        J=np.array([s.J for s in predicted]),
        F=np.array([s.F for s in predicted]),
        J_true_memory=np.array([s.J for s in clean]),
    )


def score_video(network: nn.Module, video, frames: int) -> tuple[float, float]:
    """J with predicted memories, and with true ones on the frames between memory frames (predicted where the object is not in sight).

    `video`: anything with `name`, `len`, `frame(t)` and `mask(t)`; up to `frames` of its frames are segmented, by the network's own rules. Objects
    are those of the first mask, each counting the same. Raises InputError for a video without objects in its first frame, or too short to have
    frames between memory frames.
    """
    count = min(frames, len(video))
    pictures = torch.stack([video.frame(t) for t in range(count)])
    masks = torch.stack([video.mask(t) for t in range(count)])
    first = masks[0].unique()
    first = first[(first != 0) & (first != VOID)]
    if count < 4 or not len(first):
        raise InputError(f"{video.name} has {count} frames to score, expected 4 or more, and an object in the first")
    masks = torch.where(torch.isin(masks, first), masks, 0).to(torch.uint8)
    every = network.rules.memory_every
    if every < 2:
        raise InputError(
            f"{video.name}: a memory frame every {every} leaves no frame between them, expected at least 2"
        )
    found = segment(network, pictures, {0: masks[0]}, keep_probabilities=False).index_masks
    given = {t: masks[t] for t in range(0, count, every) if masks[t].any()}
    clean = segment(network, pictures, given, keep_probabilities=False).index_masks
    between = []
    for one in metrics.score(clean, masks).per_object.values():
        between.append(np.mean([j for t, j in zip(one.frames, one.J_frames, strict=True) if t % every]))
    return float(metrics.score(found, masks).J), float(np.mean(between))


def trajectory_pck(network: nn.Module, clips: list[Clip], threshold: float = 4.0) -> float:
    """How often a target pixel of the last frame finds its counterpart: share of best matches within `threshold` pixels of the truth.

    The last frame is read from all earlier ones with true masks. In each memory frame the cell with the largest affinity is compared with the
    true position of the pixel, where that is visible; one pixel per grid cell is asked. In [0, 1]. Source: PCK as in point tracking; ours.
    """
    shares = []
    for clip in clips:
        query = len(clip.frames) - 1
        seen = look(network, clip.frames, clip.index_masks, query, range(query))
        shares.append(look_pck(seen, clip, threshold))
    return float(np.nanmean(shares))


def look_pck(seen, clip: Clip, threshold: float = 4.0) -> float:
    """As `trajectory_pck`, for one look at one clip."""
    height, width = seen.insides.trajectory.shape[-2:]
    cells = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    centres = rearrange(seen.cell_to_pixel(cells), "yx h w -> (h w) yx")
    H, W = clip.index_masks.shape[-2:]
    y, x = centres.round().long().unbind(-1)
    inside = (y >= 0) & (y < H) & (x >= 0) & (x < W)
    y, x = y.clamp(0, H - 1), x.clamp(0, W - 1)
    target = inside & (clip.index_masks[seen.query, y, x] == 1)
    found, truth, visible = [], [], []
    for t, affinity in zip(seen.memory, seen.insides.affinity[0], strict=True):
        true = clip.correspondence(seen.query, t)
        best = affinity.argmax(dim=0)  # of m, for each q
        found.append(
            rearrange(seen.cell_to_pixel(torch.stack([best // width, best % width]).float()), "yx q -> q yx")[target]
        )
        offset = centres[target] - torch.stack([y, x], -1)[target]  # cell centres lie between pixels
        truth.append(true.positions[y, x][target] + offset)
        visible.append(true.visible[y, x][target])
    return metrics.pck(torch.cat(found), torch.cat(truth), torch.cat(visible), threshold=threshold)


def affinity_shares(network: nn.Module, clips: list[Clip]) -> dict[str, float]:
    """What the target's pixels look at: shares of their weight on the target, on look-alikes, and elsewhere; the three sum to one.

    The last frame is read from all earlier ones with true masks; weight W[t,m,q] u[t,q], summed over the memory cells (t m) whose centre lies on the
    thing, averaged over the query cells whose centre lies on the target, then over clips. What an agent is there for: less on look-alikes.
    Clips of the levels medium (one look-alike) and hard (two). Source: ours.
    """
    shares = []
    for clip in clips:
        query = len(clip.frames) - 1
        seen = look(network, clip.frames, clip.index_masks, query, range(query))
        weight = seen.insides.affinity[0] * rearrange(seen.insides.temporal_weights[0], "t q -> t 1 q")
        layers = torch.stack([layers_of_cells(seen, clip.layers[t]) for t in range(query + 1)])
        asking = layers[query] == 1
        if asking.any():
            copies = (layers[:-1] > 1) & (layers[:-1] <= LOOK_ALIKES[clip.level] + 1)
            on = [float(weight[..., asking][part].sum() / asking.sum()) for part in (layers[:-1] == 1, copies)]
            shares.append([*on, 1 - sum(on)])
    if not shares:
        raise InputError(f"the target is in sight in the last frame of 0 of {len(clips)} clips, expected at least 1")
    return dict(zip(("target", "look-alikes", "elsewhere"), np.mean(shares, axis=0).tolist(), strict=True))


def layers_of_cells(seen, layers: torch.Tensor) -> torch.Tensor:
    """The layer at the middle of every grid cell, `(h w)`; -1 in the padding."""
    height, width = seen.insides.trajectory.shape[-2:]
    cells = torch.stack(torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")).float()
    y, x = rearrange(seen.cell_to_pixel(cells), "yx h w -> yx (h w)").round().long()
    inside = (y >= 0) & (y < layers.shape[0]) & (x >= 0) & (x < layers.shape[1])
    return torch.where(inside, layers[y.clamp(0, layers.shape[0] - 1), x.clamp(0, layers.shape[1] - 1)].long(), -1)
