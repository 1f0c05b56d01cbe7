"""What the first cell of every notebook calls, so that a notebook prints the same on every machine and stays small."""

import io
import logging
import os
import random
import sys
import warnings

import numpy as np
import torch


def setup(seed: int = 0) -> None:
    """Makes a run repeatable, its output quiet and its pictures small.

    One thread (sums in one order, and no two processes waiting for each other's cores), every random generator seeded with `seed`,
    deterministic algorithms where there are some, no denormal numbers (they slow sharp softmaxes down), three printed decimals, no progress
    bars, no warnings of fonts or drivers; figures of 256 colours (`small_png`). Results of forward passes then agree across machines to about
    five decimals; of training to two or three. Source: ours.
    """
    os.environ.setdefault("TMRN_PROGRESS", "0")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True, warn_only=True)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_printoptions(precision=3, sci_mode=False, linewidth=120)
    np.set_printoptions(precision=3, suppress=True, linewidth=120)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="matplotlib")
    warnings.filterwarnings("ignore", message=".*(CUDA|NNPACK|deterministic).*")
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        from matplotlib.figure import Figure  # here, since a script may want the seeds alone

        shell.display_formatter.formatters["image/png"].for_type(Figure, small_png)


def small_png(figure) -> bytes:
    """A matplotlib figure as a PNG of 256 colours: frames with texture take a third of the room, and no eye sees it at this size."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight", facecolor="white")
    Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return small.getvalue()
