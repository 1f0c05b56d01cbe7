"""Pictures of the working memory: which frames it holds while a video goes by.

Pure functions of numbers; nothing here runs a network.
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from ..errors import InputError
from .overlays import OKABE_ITO

DPI = 80  # dots per inch
PREDICTED, GIVEN = (tuple(c / 255 for c in OKABE_ITO[i]) for i in (4, 5))  # blue, vermillion


def memory_figure(
    kept: Mapping[str, Sequence[Sequence[int]]], given: Sequence[int] = (0,), dpi: float | int = DPI
) -> Figure:
    """What memory holds after every frame of a video: a panel for each run, a dot for each frame that is kept.

    `kept`: name of a run -> for frames 0, 1, ... the numbers of the frames in memory then. Across: the frame that was segmented last; up:
    the frames that memory holds. `given`: frames whose mask came from outside, drawn as squares. Above each panel stands how many frames are held at
    the end. Raises InputError for no run, or a run of no frames. Source: ours.
    """
    if not kept or not all(len(run) for run in kept.values()):
        lengths = {name: len(run) for name, run in kept.items()}
        raise InputError(f"runs and their frames: {lengths}; expected at least one run, of at least one frame")
    figure = Figure(figsize=(3.9 * len(kept), 3.1), dpi=dpi, layout="constrained")
    for axis, (name, run) in zip(figure.subplots(1, len(kept), squeeze=False)[0], kept.items(), strict=True):
        places = [(t, frame) for t, frames in enumerate(run) for frame in frames]
        kinds = (
            ("given", GIVEN, "s", [place for place in places if place[1] in given]),
            ("predicted", PREDICTED, "o", [place for place in places if place[1] not in given]),
        )
        for label, ink, marker, those in kinds:
            axis.scatter([t for t, _ in those], [f for _, f in those], s=5, color=ink, marker=marker, lw=0, label=label)
        axis.set_title(f"{name}: {len(run[-1])} frames at the end", fontsize=9)
        axis.set_xlabel("frame segmented last", fontsize=8)
        axis.set_ylabel("frames in memory", fontsize=8)
        axis.set_xlim(-1, len(run))
        axis.set_ylim(-2, len(run))
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(
        fontsize=8, frameon=False, loc="upper left", markerscale=2, title="mask was", title_fontsize=8
    )
    return figure
