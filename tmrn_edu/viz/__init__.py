"""Pictures: masks on frames, affinities, trajectories. Pure functions of results; nothing here computes a network.

Names are imported when first used: matplotlib and the widget cost more to import than an overlay to draw.
"""

from importlib import import_module
from pkgutil import iter_modules

_HOME = {
    "PALETTE": "overlays",
    "overlay": "overlays",
    "contact_sheet": "overlays",
    "affinity_figure": "affinity",
    "heat_maps": "affinity",
    "choose_pixel": "trajectories",
    "comparison_figure": "trajectories",
    "trajectory_figure": "trajectories",
    "true_path": "trajectories",
    "Explorer": "explorer",
    "explore": "explorer",
    "explorer_html": "explorer",
    "correspondence_figure": "training",
    "curriculum_figure": "training",
    "hardest_figure": "training",
    "loss_figure": "training",
    "kept_figure": "votes",
    "qualitative_figure": "comparison",
    "save_figure": "comparison",
    "share_figure": "votes",
    "votes_figure": "votes",
    "winners_figure": "votes",
    "write_comparison_video": "films",
}
_FILES = [module.name for module in iter_modules(__path__)]
__all__ = sorted(_HOME)


def __getattr__(name: str):
    """`viz.explore` is `viz.explorer.explore`, and so on; `viz.explorer` is the file."""
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in _FILES:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_FILES})
