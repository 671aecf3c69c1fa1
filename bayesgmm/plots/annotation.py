"""Names beside points, placed so that none covers another or leaves the picture."""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.plots.canvas import DARK, halo

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

type Array = NDArray[np.float64]

DISTANCES: Final = (7.0, 11.0, 16.0, 24.0, 36.0, 52.0, 72.0, 96.0)
"""Between a point and the edge of its name, in typographic points."""
ANGLES: Final = np.linspace(0.0, 2.0 * math.pi, 16, endpoint=False) + math.pi / 4.0
MARKER: Final = 4.0
"""Radius of a point that has a name, at most, in typographic points."""
LEADER: Final = 15.0
"""Distance beyond which a line leads from the name to its point."""


def name_points(
    ax: "Axes",
    points: Array,
    texts: "Sequence[str]",
    crowd: Array,
    *,
    fontsize: float = 8.0,
    cost: float = 10.0,
) -> int:
    """Write texts beside points where there is room.

    Parameters
    ----------
    ax : Axes
        Already holding everything else: its limits and its place in the figure are taken as
        they are now.
    points : array, shape (n_texts, 2)
        In the units of the data, the most important first.
    texts : sequence of str
    crowd : array, shape (n_points, 2)
        Other points, which names cover only where there is no better place.
    fontsize : float, default 8.0
    cost : float, default 10.0
        Of covering a point of the crowd: as much as so many typographic points of distance.

    Returns
    -------
    int
        How many were written; the others would have covered a name or left `ax`.

    Notes
    -----
    Greedy: each text goes to the best of 128 places around its point, O(128 n_texts n_points).
    """
    ax.figure.canvas.figure.draw_without_rendering()
    unit = ax.figure.dpi / 72.0
    anchors, crowd = (ax.transData.transform(np.reshape(one, (-1, 2))) for one in (points, crowd))
    frame = np.asarray(ax.get_window_extent().get_points())
    legend = ax.get_legend()
    taken = [] if legend is None else [np.asarray(legend.get_window_extent().get_points())]
    kept = [np.empty((0, 2))]
    margin = MARKER * unit * np.array([[-1.0], [1.0]])
    written = 0
    for anchor, point, text in zip(anchors, points, texts, strict=True):
        if not _inside(anchor, frame).all():
            continue
        artist = _annotation(ax, text, point, fontsize)
        boxes, gaps = _places(anchor, _size(artist), unit)
        free = (boxes[:, 0] >= frame[0] + unit).all(axis=1)
        free &= (boxes[:, 1] <= frame[1] - unit).all(axis=1)
        for box in taken:
            free &= ~_overlap(boxes, box)
        leaders = _leaders(anchor, boxes)
        for box in taken:
            free &= ~_inside(leaders, box).any(axis=1)
        others = anchors[(anchors != anchor).any(axis=1)]
        free &= ~_covers(boxes + margin, others).any(axis=1)
        free &= ~_covers(boxes, np.concatenate(kept)).any(axis=1)
        if not free.any():
            artist.remove()
            continue
        charge = gaps + cost * _covers(boxes, crowd).sum(axis=1)
        best = int(np.argmin(np.where(free, charge, np.inf)))
        artist.set_position((boxes[best].mean(axis=0) - anchor) / unit)
        artist.arrow_patch.set_visible(bool(gaps[best] >= LEADER))
        taken.append(boxes[best])
        kept.append(leaders[best])
        written += 1
    return written


def _annotation(ax: "Axes", text: str, point: Array, fontsize: float) -> Any:
    """Return the artist of one name, centred on its point for now."""
    leader = {"arrowstyle": "-", "linewidth": 0.6, "color": DARK, "shrinkA": 0.0, "shrinkB": 2.0}
    return ax.annotate(
        text, (point[0], point[1]), xytext=(0.0, 0.0), textcoords="offset points", ha="center",
        va="center", fontsize=fontsize, color=DARK, path_effects=halo(2.5), zorder=6,
        parse_math=False, arrowprops=leader,
    )  # fmt: skip


def _size(artist: Any) -> Array:
    """Return width and height of a name in pixels, without the line that leads to it."""
    from matplotlib.text import Text

    box = Text.get_window_extent(artist)
    return np.array([box.width, box.height])


def _places(anchor: Array, size: Array, unit: float) -> tuple[Array, Array]:
    """Return the boxes around a point that a name might fill, (n, 2, 2), and their distances."""
    gap, angle = (one.ravel() for one in np.meshgrid(DISTANCES, ANGLES, indexing="ij"))
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centres = anchor + direction * (0.5 * size + gap[:, None] * unit)
    return np.stack([centres - 0.5 * size, centres + 0.5 * size], axis=1), gap


def _leaders(anchor: Array, boxes: Array) -> Array:
    """Return points on the way from a point to the middle of each box, short of the box."""
    nearest = np.clip(anchor, boxes[:, 0], boxes[:, 1])
    share = np.linspace(0.1, 0.9, 9)[:, None]
    return np.asarray(anchor + share * (nearest - anchor)[:, None, :])


def _overlap(boxes: Array, box: Array) -> NDArray[np.bool_]:
    """Return which boxes overlap one, or nearly."""
    return np.asarray(((boxes[:, 0] < box[1] + 2.0) & (boxes[:, 1] > box[0] - 2.0)).all(axis=1))


def _inside(points: Array, box: Array) -> NDArray[np.bool_]:
    """Return which points lie in a box."""
    return np.asarray(((points >= box[0]) & (points <= box[1])).all(axis=-1))


def _covers(boxes: Array, points: Array) -> NDArray[np.bool_]:
    """Return which box covers which point, shape (n_boxes, n_points)."""
    inside = (points >= boxes[:, None, 0]) & (points <= boxes[:, None, 1])
    return np.asarray(inside.all(axis=-1))
