"""Differences with their intervals, drawn: what each variant of a study is worth. Ours."""

from collections.abc import Sequence

import numpy as np


def differences_figure(
    panels: dict[str, Sequence[tuple[str, tuple[float, float, float]]]],
    baseline: str,
    measure: str = "J",
    dpi: float | int = 100,
):
    """Dots with bars: for every panel (a set of clips) the difference of each variant to the baseline, as a matplotlib `Figure`.

    `panels`: title -> (variant, (mean, low, high)) in the order from top to bottom; all panels have the same variants. Filled dots: the interval
    leaves zero out; hollow ones: it does not. x in points, 100 times the measure. Raises ValueError where panels differ in their variants.
    """
    from matplotlib.figure import Figure

    names = [name for name, _ in next(iter(panels.values()))]
    for title, rows in panels.items():
        if [name for name, _ in rows] != names:
            raise ValueError(f"panel {title} has the variants {[name for name, _ in rows]}, the first one has {names}")
    figure = Figure(figsize=(2.6 + 2.4 * len(panels), 0.8 + 0.24 * len(names)), dpi=dpi, layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    places = np.arange(len(names))
    for axis, (title, rows) in zip(axes, panels.items(), strict=True):
        values = 100 * np.array([numbers for _, numbers in rows])
        sure = (values[:, 1] > 0) | (values[:, 2] < 0)
        axis.axvline(0, color="0.6", linewidth=1)
        axis.hlines(places, values[:, 1], values[:, 2], color="#0072b2", linewidth=1.5)
        axis.scatter(values[:, 0], places, s=28, zorder=3, edgecolors="#0072b2", c=np.where(sure, "#0072b2", "white"))
        axis.set_title(title, fontsize=9)
        axis.grid(axis="x", color="0.92")
        axis.set_xlabel(f"{measure} - {baseline}, points", fontsize=8)
        axis.tick_params(labelsize=8)
    axes[0].set_yticks(places, names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)  # the first variant on top
    return figure
