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

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# Imported when first used, so that `tmrn-edu --help` answers at once and Ctrl-C is heard from the start: torch alone takes seconds.
_HOME = {
    "InputError": "errors", "VideoSession": "correcting", "cutout": "data.cutouts",
    "Look": "looking", "Segmentation": "segmenter", "Segmenter": "segmenter", "look": "looking", "segment": "segmenter",
    "export": "weights", "load_imagenet": "imagenet", "load_official": "official", "list_networks": "weights", "load": "weights",
}  # fmt: skip
_FILES = (
    "ablation", "attributes", "bootstrap", "check", "compare", "data", "decoder", "encoders", "errors", "evaluate", "evaluate_clips", "folding",
    "imagenet", "inference", "looking", "losses", "masks", "memory", "metrics", "networks", "official", "runs", "segmenter", "splits", "submission",
    "tables", "train", "training", "viz", "weights",
)  # fmt: skip
__all__ = sorted([*_HOME, *_FILES])

if TYPE_CHECKING:  # the same for editors and type checkers, which do not run `__getattr__`
    from tmrn_edu import (  # noqa: F401
        check,
        data,
        evaluate,
        evaluate_clips,
        losses,
        masks,
        memory,
        metrics,
        networks,
        train,
        viz,
        weights,
    )
    from tmrn_edu.correcting import VideoSession  # noqa: F401
    from tmrn_edu.data.cutouts import cutout  # noqa: F401
    from tmrn_edu.errors import InputError  # noqa: F401
    from tmrn_edu.imagenet import load_imagenet  # noqa: F401
    from tmrn_edu.looking import Look, look  # noqa: F401
    from tmrn_edu.official import load_official  # noqa: F401
    from tmrn_edu.segmenter import Segmentation, Segmenter, segment  # noqa: F401
    from tmrn_edu.weights import export, list_networks, load  # noqa: F401


def __getattr__(name: str):
    """`te.load` is `tmrn_edu.weights.load`, `te.memory` the folder of that name, and so on."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _FILES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
