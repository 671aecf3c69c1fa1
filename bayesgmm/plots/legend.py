"""Which component has which colour, and its weight; where there is room to say so."""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayesgmm.plots.canvas import DARK, colour, line, marker, noise_handle
from bayesgmm.plots.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ROWS: Final = 24
"""Of a column of the legend."""
NARROWEST: Final = 0.5
"""Share of its width that `ax` keeps beside a legend; else the legend covers what it must."""
COVERED: Final = 0.005
"""Share of the points that the legend may cover."""


def legend_entries(scene: Scene, probability: float) -> dict[str, Any]:
    """Return what a legend says: the arguments of `Axes.legend` but for its place."""
    from matplotlib.lines import Line2D

    labels = _weights(scene, probability)
    handles = [
        Line2D([], [], color=colour(k), marker=marker(k), linestyle=line(k), linewidth=1.8,
               markersize=6.5, markeredgecolor="white", label=labels[k])
        for k in range(scene.n_components)
    ]  # fmt: skip
    if scene.noise_weight is not None:
        handles.append(noise_handle(labels[-1]))
        if len(scene.labels) == 1:
            handles[-1].set(linestyle=(0, (5, 4)), marker="", linewidth=1.8)
    if len(scene.labels) == 1:
        handles.append(Line2D([], [], color=DARK, linewidth=1.8, label="mixture"))
    else:
        hollow = Line2D([], [], color=DARK, marker="o", markersize=5.5, markerfacecolor="none",
                        linestyle="none", label="hollow: uncertain")  # fmt: skip
        handles.append(hollow)
    title = "weight"
    if scene.n_draws > 1:
        title += f" [{100.0 * probability:g} % interval]"
    return {
        "handles": handles, "title": title, "fontsize": "small", "title_fontsize": "small",
        "handlelength": 3.0, "ncols": math.ceil(len(handles) / ROWS), "alignment": "left",
    }  # fmt: skip


def place_legend(ax: "Axes", entries: dict[str, Any], *, wider: float) -> None:
    """Add a legend inside `ax` where nothing is, else to its right.

    Parameters
    ----------
    ax : Axes
        Holding everything else; it shrinks if the figure does not lay itself out.
    entries : dict
        Arguments of `Axes.legend`.
    wider : float
        Inches by which the figure may grow for a legend on the right.
    """
    figure = ax.figure.canvas.figure
    legend = ax.legend(**entries, loc="best")
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    if _is_free(ax, box):
        return
    left = 1.0 - 1.05 * box.width / ax.get_window_extent().width
    if wider > 0.0:
        width, height = figure.get_size_inches()
        figure.set_size_inches(width + wider, height)
    elif left < NARROWEST:
        return
    elif figure.get_layout_engine() is None:
        place = ax.get_position()
        ax.set_position((place.x0, place.y0, left * place.width, place.height))
    ax.legend(**entries, loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)


def _is_free(ax: "Axes", box: Any) -> bool:
    """Return whether a box, in pixels, covers no line, no bar and next to no points."""
    from matplotlib.collections import PathCollection

    vertices = [ax.transData.transform(drawn.get_xydata()) for drawn in ax.lines]
    vertices += [patch.get_transform().transform(patch.get_path().vertices) for patch in ax.patches]
    points = [
        ax.transData.transform(np.asarray(drawn.get_offsets()))
        for drawn in ax.collections
        if isinstance(drawn, PathCollection)
    ]
    covered = sum(box.count_contains(places) for places in points)
    most = COVERED * sum(map(len, points))
    return covered <= most and not any(box.count_contains(places) for places in vertices)


def _weights(scene: Scene, probability: float) -> list[str]:
    """Return labels of components, and of noise: mean weights, and intervals if there are any."""
    weights, called = scene.weights, [f"component {k}" for k in range(scene.n_components)]
    if scene.noise_weight is not None:
        weights, called = np.column_stack([weights, scene.noise_weight]), [*called, "noise"]
    mean = weights.mean(axis=0)
    tail = 0.5 * (1.0 - probability)
    low, high = np.quantile(weights, [tail, 1.0 - tail], axis=0)
    digits = 2 if len(weights) == 1 or (high - low).min() > 0.02 else 3
    labels = [f"{name}: {value:.{digits}f}" for name, value in zip(called, mean, strict=True)]
    if len(weights) == 1:
        return labels
    return [
        f"{label} [{below:.{digits}f}, {above:.{digits}f}]"
        for label, below, above in zip(labels, low, high, strict=True)
    ]
