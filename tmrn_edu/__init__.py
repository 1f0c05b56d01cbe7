"""tmrn_edu: memory networks for video object segmentation, to be read and run; the first open TMRN (ICCV 2023).

Axes. One order for all tensors, leaving out what is absent: b o t c h w.

    b        clips in the batch                      h w      positions of a feature grid (stride 16; 4 in tiny networks)
    o        objects, no background                  H W      image pixels
    l        labels: background, then objects        m        positions of one memory frame, (h w)
    t        frames (memory frames, for memory)      q        positions of the query frame, (h w)
    c        channels; ck of keys, cv of values      a        agents

STM to TMRN in two lines: the affinity b t m q sums to one over (t m) in a space-time read, and over m alone in spatial alignment; temporal
weights b t q then sum to one over t.

    network = te.load("tmrn-stcn-tiny")
    result = te.segment(network, clip.frames, {0: clip.index_masks[0]})
    te.metrics.score(result.index_masks, clip.index_masks)
"""

from tmrn_edu import (
    check,
    data,
    decoder,
    encoders,
    errors,
    evaluate,
    evaluate_clips,
    inference,
    losses,
    masks,
    memory,
    metrics,
    networks,
    train,
    viz,
    weights,
)
from tmrn_edu.errors import InputError
from tmrn_edu.inference import Look, Segmentation, Segmenter, look, segment
from tmrn_edu.weights import list_networks, load, save_network

__version__ = "0.1.0"
__all__ = [
    "InputError", "Look", "Segmentation", "Segmenter", "check", "data", "decoder", "encoders", "errors", "evaluate", "evaluate_clips", "inference",
    "list_networks", "load", "look", "losses", "masks", "memory", "metrics", "networks", "save_network", "segment", "train", "viz", "weights",
]  # fmt: skip
