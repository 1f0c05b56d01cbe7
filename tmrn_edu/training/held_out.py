"""Scores on videos that training never sees, by the very function that segments videos for users."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from tmrn_edu import metrics
from tmrn_edu.data.sets import Video, VideoSet
from tmrn_edu.errors import InputError
from tmrn_edu.segmenter import segment

FRAMES = 16  # of every held-out video, from its first: enough to see a mask being lost


def split_sets(
    sets: Sequence[VideoSet], held_out: int, folds: int = 0, fold: int = 0
) -> tuple[list[VideoSet], dict[str, list[Video]]]:
    """Keeps some videos of every set of videos from training; returns the rest, and them by set.

    `held_out`: how many, evenly over a set's list. Or, for cross-validation, `folds` = n and `fold` = k: those at places k, n + k, 2n + k, ...
    of the list, so that over all folds every video is held out once.
    Raises InputError where a set has too few videos, for both at once, and for a fold that there is not.
    """
    if not (held_out or folds):
        return list(sets), {}
    if held_out and folds or folds == 1 or folds and not 0 <= fold < folds:
        raise InputError(
            f"held_out is {held_out}, folds {folds}, fold {fold}; expected either held_out, or 2 folds or more and a fold from 0 on below that"
        )
    rest, kept = [], {}
    for one in sets:
        if one.kind != "video":
            rest.append(one)
            continue
        count = len(one.videos)
        if max(held_out + 1, folds) > count:
            asked = f"folds is {folds}" if folds else f"held_out is {held_out}"
            raise InputError(f"{asked}, but {one.name} has {count} videos; expected fewer")
        if folds:
            places = set(range(fold, count, folds))
        else:
            places = {round((number + 0.5) * count / held_out - 0.5) for number in range(held_out)}
        kept[one.name] = [video for place, video in enumerate(one.videos) if place in places]
        rest.append(replace(one, videos=tuple(v for place, v in enumerate(one.videos) if place not in places)))
    return rest, kept


def score_videos(network: nn.Module, videos: Sequence[Video], frames: int = FRAMES) -> dict[str, float]:
    """J (region similarity) of every video's objects over its first `frames` frames, by name; the network's mode is left as it was.

    Segmented as by `segment` with the network's own rules; DAVIS' rule, first and last frame not counted. Source: ours.
    """
    training = network.training
    scores = {}
    try:
        for video in videos:
            count = min(frames, len(video))
            masks = torch.stack([video.mask(t) for t in range(count)])
            pictures = torch.stack([video.frame(t) for t in range(count)])
            found = segment(network.eval(), pictures, {0: masks[0]}, keep_probabilities=False)
            scores[video.name] = float(metrics.score(found.index_masks, masks).J)
    finally:
        network.train(training)
    return scores
