"""The two panels that plots of components are made of: a plane and a density along a line."""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from bayesgmm.plots.annotation import name_points
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    NOISE_COLOUR,
    RASTER,
    colour,
    draw_noise,
    halo,
    line,
    marker,
    point_size,
)
from bayesgmm.plots.geometry import Array, densities, ellipses, grid, radii, spread
from bayesgmm.plots.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND_DRAWS: Final = 400
"""Draws that the mean and the band of a density are made of."""
BEYOND: Final = 0.15
"""Share of the data's range by which a picture may exceed it to show a component."""
MARGIN: Final = 0.05
"""Share of its range that is added at both ends of an axis."""
HIGHEST: Final = 2.0
"""Top of a density: so many times the highest bar or mean, where the band goes beyond."""
BINS: Final = (10, 60)
"""Of a histogram, at least and at most."""


def limits(scene: Scene, axis: int, probability: float) -> tuple[float, float]:
    """Return from where to where an axis goes: the data, and the components near them."""
    low, high = scene.ranges[:, axis]
    reach = radii(probability, scene.typical_df)
    means = scene.means[..., axis].mean(axis=0)
    deviations = np.sqrt(scene.covariances[..., axis, axis].mean(axis=0))
    beyond = BEYOND * (high - low)
    return (
        float(min(low, max((means - reach * deviations).min(), low - beyond))),
        float(max(high, min((means + reach * deviations).max(), high + beyond))),
    )


def draw_plane(
    ax: "Axes", scene: Scene, axes: list[int], probability: float, draws: int, *, size: float = 1.0
) -> None:
    """Draw points and the ellipses of components: some draws, and the posterior mean in bold.

    Parameters
    ----------
    ax : Axes
    scene : Scene
    axes : list of two ints
        The horizontal and the vertical axis.
    probability : float
        Share of a component that its ellipse holds.
    draws : int
        At most.
    size : float, default 1.0
        Of markers and lines, relative to those of a large panel.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.lines import Line2D

    _, means, covariances = scene.along(axes)
    chosen = spread(scene.n_draws, draws)
    _draw_points(ax, scene, axes, size)
    draw_box(ax, scene, axes)
    bold = ellipses(means.mean(axis=0), covariances.mean(axis=0), probability, scene.typical_df)
    for k in range(scene.n_components):
        if scene.n_draws > 1:
            df = None if scene.df is None else scene.df[chosen, k]
            outlines = ellipses(means[chosen, k], covariances[chosen, k], probability, df)
            cloud = LineCollection(
                list(outlines), colors=colour(k), linewidths=0.7, alpha=0.25, zorder=2
            )
            ax.add_collection(cloud, autolim=False)
        outline = Line2D(
            *bold[k].T, color=colour(k), linestyle=line(k), linewidth=2.0 * size, zorder=3,
            path_effects=halo(3.6 * size),
        )  # fmt: skip
        middle = Line2D(
            *means[:, k].mean(axis=0)[:, None], color=colour(k), marker=marker(k),
            markersize=10.0 * size, markeredgecolor=DARK, linestyle="none", zorder=4,
            path_effects=halo(3.6 * size),
        )  # fmt: skip
        ax.add_artist(outline)
        ax.add_artist(middle)
    corners = [limits(scene, axis, probability) for axis in axes]
    ax.update_datalim(np.transpose(corners))
    ax.margins(MARGIN)
    ax.set_xlabel(scene.labels[axes[0]], parse_math=False)
    ax.set_ylabel(scene.labels[axes[1]], parse_math=False)


def number_components(ax: "Axes", scene: Scene, axes: list[int]) -> None:
    """Write the number of each component beside its mean."""
    points, means, _ = scene.along(axes)
    numbers = [str(k) for k in range(scene.n_components)]
    name_points(ax, means.mean(axis=0), numbers, points, fontsize=11.0, cost=1.0)


def draw_box(ax: "Axes", scene: Scene, axes: list[int]) -> None:
    """Draw the box of the noise, if there is one: as much of it as the picture holds."""
    if scene.box is None:
        return
    from matplotlib.lines import Line2D

    (left, bottom), (right, top) = scene.box[:, axes]
    outline = np.array([[left, left, right, right, left], [bottom, top, top, bottom, bottom]])
    ax.add_artist(
        Line2D(*outline, color=NOISE_COLOUR, linestyle=(0, (5, 4)), linewidth=0.8, zorder=0.5)
    )


def _draw_points(ax: "Axes", scene: Scene, axes: list[int], size: float) -> None:
    """Draw the points of each component in its colour, filled as far as they are certain."""
    from matplotlib.colors import to_rgba

    n_points = len(scene.points)
    labels = scene.probability.argmax(axis=1)
    opacity = float(np.clip(40.0 / math.sqrt(n_points), 0.3, 0.75))
    chance = 1.0 / scene.n_parts
    certainty = np.ones(n_points)
    if scene.n_parts > 1:
        certainty = (scene.probability.max(axis=1) - chance) / (1.0 - chance)
    for k in np.argsort(-np.bincount(labels, minlength=scene.n_parts)).tolist():
        mine = labels == k
        if k == scene.n_components:
            draw_noise(ax, scene.points[mine][:, axes], size**2 * point_size(n_points), zorder=1)
            continue
        faces = np.repeat(np.array([to_rgba(colour(k))]), mine.sum(), axis=0)
        faces[:, 3] = opacity * np.clip(certainty[mine], 0.0, 1.0) ** 2
        ax.scatter(
            scene.points[mine, axes[0]], scene.points[mine, axes[1]],
            s=size**2 * point_size(n_points), marker=marker(k), facecolors=faces,
            edgecolors=[to_rgba(colour(k), opacity)],
            linewidths=0.7 if n_points <= RASTER else 0.3, rasterized=n_points > RASTER, zorder=1,
        )  # fmt: skip


def draw_density(
    ax: "Axes", scene: Scene, axis: int, probability: float, *, bold: float = 2.0
) -> None:
    """Draw the histogram of the data and the density of the mixture and of each component.

    Parameters
    ----------
    ax : Axes
    scene : Scene
    axis : int
        Along which.
    probability : float
        Of the bands over draws, pointwise.
    bold : float, default 2.0
        Width of the lines, in typographic points.
    """
    low, high = limits(scene, axis, probability)
    points, means, covariances = scene.along([axis])
    heights, edges = np.histogram(points[:, 0], n_bins(points[:, 0]), density=True)
    ax.stairs(heights, edges, fill=True, color="0.88", zorder=0)
    ax.stairs(heights, edges, color=GREY, linewidth=0.8, zorder=2.5)
    pad = MARGIN * (high - low)
    mean, deviation = means[..., 0].mean(axis=0), np.sqrt(covariances[..., 0, 0].mean(axis=0))
    places = grid(low - pad, high + pad, mean, deviation)
    chosen = spread(scene.n_draws, BAND_DRAWS)
    parts = densities(
        places, scene.weights[chosen], means[chosen, :, 0], covariances[chosen, :, 0, 0],
        None if scene.df is None else scene.df[chosen],
    )  # fmt: skip
    of_noise = scene.noise_along(axis, places, chosen)
    if scene.noise_weight is not None:
        style = {"color": NOISE_COLOUR, "linestyle": (0, (5, 4)), "linewidth": 0.8 * bold}
        _curve(ax, places, of_noise, probability, **style)
    if scene.n_parts > 1:
        for k, part in enumerate(parts):
            _curve(ax, places, part, probability, color=colour(k), linestyle=line(k),
                   linewidth=0.8 * bold)  # fmt: skip
            height = np.interp(mean[k], places, part.mean(axis=0))
            ax.plot(
                mean[k], height, color=colour(k), marker=marker(k), markersize=3.5 * bold,
                markeredgecolor="white", zorder=4, scalex=False, scaley=False, linestyle="none",
            )  # fmt: skip
    whole = parts.sum(axis=0) + of_noise
    style = {"color": colour(0) if scene.n_parts == 1 else DARK, "linewidth": bold}
    _curve(ax, places, whole, probability, **style)
    ax.margins(x=0.0)
    peak = max(heights.max(), whole.mean(axis=0).max())
    ax.set_ylim(0.0, min(ax.get_ylim()[1], HIGHEST * peak))
    ax.set_xlabel(scene.labels[axis], parse_math=False)


def _curve(ax: "Axes", places: Array, drawn: Array, probability: float, **style: Any) -> None:
    """Draw the mean over draws and, if there are several, the band that holds a share of them."""
    if len(drawn) > 1:
        tail = 0.5 * (1.0 - probability)
        band = np.quantile(drawn, [tail, 1.0 - tail], axis=0)
        ax.fill_between(places, *band, color=style["color"], alpha=0.2, linewidth=0.0, zorder=2)
    ax.plot(places, drawn.mean(axis=0), zorder=3, **style)


def n_bins(values: Array) -> int:
    """Return how many bins a histogram has: Freedman and Diaconis' rule, within bounds."""
    quarter, rest = np.quantile(values, [0.25, 0.75])
    width = 2.0 * (rest - quarter) / len(values) ** (1.0 / 3.0)
    span = values.max() - values.min()
    return int(np.clip(span / width if width > 0.0 else BINS[1], *BINS))
