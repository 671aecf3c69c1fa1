"""Who is uncertain."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.clustering.certainty import error_probability
from bayesgmm.errors import check_integer, check_share
from bayesgmm.plots.annotation import name_points
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    NOISE_COLOUR,
    RASTER,
    check_axes,
    draw_noise,
    drawn_rows,
    feature_labels,
    fit_texts,
    new_axes,
    noise_handle,
    note_of_rows,
    point_size,
    require_matplotlib,
    row_labels,
)
from bayesgmm.plots.geometry import Array, densities, ellipses, grid, principal_axes, spread
from bayesgmm.plots.panels import BAND_DRAWS, MARGIN, draw_box, limits
from bayesgmm.plots.scene import Scene, view, whole_rows
from bayesgmm.prediction import probability_of
from bayesgmm.summaries import drawable
from bayesgmm.tree import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS: Final = ("#c8c8c8", "#d08a2e", "#a03428", "#2d0a26")
"""From certain to uncertain: ever darker, so that it reads in grey as well."""
CONTEXT: Final = 0.9
"""Share of a component that the ellipse behind the points holds."""


def plot_uncertainty(
    tree: xr.DataTree,
    *,
    ax: "Axes | None" = None,
    threshold: float = 0.1,
    n_named: int = 10,
    max_points: int = 5000,
) -> "Axes":
    """Plot which rows may belong to another component than their most probable one.

    The uncertainty of a row is one minus the probability of its most probable component, the
    ``error_probability`` of `uncertainty`; the larger and darker a point, the more uncertain.
    The title counts the rows above `threshold`, and the most uncertain of them are named. One
    feature is drawn as a strip below its density, more than two along the two principal axes of
    the standardised data; thin outlines are the components at the posterior mean. Noise counts as
    a component, and rows of it are crosses.

    Parameters
    ----------
    tree : DataTree
        A fit.
    ax : Axes, optional
        Where to draw; by default on a new figure. The colour bar takes its room from it.
    threshold : float, default 0.1
        Uncertainty from which a row counts as uncertain, in (0, 1).
    n_named : int, default 10
        Rows named, at most: the most uncertain, as far as their names find room.
    max_points : int, default 5000
        Rows drawn, a random sample (and those named) if there are more; the title says so. All
        rows are counted.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or `ax` no Axes.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Responsibilities of all rows, O(S N K D^2) for S draws, take most of the time.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> ax = bg.plot_uncertainty(tree, ax=Figure().subplots())
    >>> ax.get_title().splitlines()[0]
    '1 of 272 rows is uncertain'
    """
    require_matplotlib("plot_uncertainty")
    require(
        tree, names.POSTERIOR, names.OBSERVED_DATA, names.CONSTANT_DATA, function="plot_uncertainty"
    )
    check_axes(ax, 1)
    threshold = check_share(threshold, "threshold", "0.1 is usual.")
    n_named = check_integer(n_named, "n_named", 0, "A dozen names find room.")
    max_points = check_integer(max_points, "max_points", 1, "Some thousands are usual.")
    tree = drawable(tree)
    probability = probability_of(tree, None, "plot_uncertainty")[1].values
    uncertainty = error_probability(probability)
    order = np.argsort(-uncertainty, kind="stable")
    n_uncertain = int((uncertainty >= threshold).sum())
    named = order[: min(n_named, n_uncertain)]
    rows = np.union1d(drawn_rows(len(order), max_points), named)
    rows = rows[np.argsort(uncertainty[rows], kind="stable")]
    ax = new_axes(7.5, 5.0) if ax is None else ax
    X, note = whole_rows(tree)
    center, directions, labels = directions_of(X)
    scene = view(tree, X, center, directions, labels, rows, probability[rows])
    places = (draw_strip if len(labels) == 1 else _draw_outlines)(ax, scene)
    is_noise = probability[rows].argmax(axis=1) == scene.n_components
    bars = _draw_points(ax, places, uncertainty[rows], is_noise, scene.n_parts, threshold)
    noise = scene.noise_weight is not None
    title = [_count(n_uncertain, len(order)), _meaning(threshold, noise)]
    title += [note_of_rows(len(rows), len(order)), note]
    ax.set_title("\n".join(filter(None, title)), fontsize="medium")
    fit_texts([ax, *bars])
    if noise:
        ax.legend(handles=[noise_handle("noise")], fontsize="small")
    where = np.flatnonzero(np.isin(rows, named))[::-1]
    name_points(ax, places[where], row_labels(X, rows[where]), places)
    return ax


def directions_of(X: xr.DataArray) -> tuple[Array, Array, list[str]]:
    """Return the origin and the directions that rows are drawn along, and what axes say."""
    labels = feature_labels(X)
    if len(labels) <= 2:
        return np.zeros(len(labels)), np.eye(len(labels)), labels
    center, unit = X.values.mean(axis=0), X.values.std(axis=0)
    directions, shares = principal_axes((X.values - center) / unit)
    return (
        center,
        directions / unit[:, None],
        [
            f"principal axis {i} of the standardised features ({100.0 * share:.0f} %)"
            for i, share in enumerate(shares, 1)
        ],
    )


def _draw_outlines(ax: "Axes", scene: Scene) -> Array:
    """Draw the ellipse of each component; return where the points go."""
    from matplotlib.collections import LineCollection

    middle = scene.means.mean(axis=0), scene.covariances.mean(axis=0)
    outlines = ellipses(*middle, CONTEXT, scene.typical_df)
    ax.add_collection(
        LineCollection(list(outlines), colors=GREY, linewidths=1.0, zorder=0), autolim=False
    )
    draw_box(ax, scene, [0, 1])
    ax.update_datalim(np.transpose([limits(scene, axis, CONTEXT) for axis in (0, 1)]))
    ax.margins(MARGIN)
    ax.set_xlabel(scene.labels[0], parse_math=False)
    ax.set_ylabel(scene.labels[1], parse_math=False)
    return scene.points


def draw_strip(ax: "Axes", scene: Scene) -> Array:
    """Draw mean densities above a strip of the points; return where these go in it."""
    low, high = limits(scene, 0, CONTEXT)
    pad = MARGIN * (high - low)
    mean, variance = scene.means[..., 0], scene.covariances[..., 0, 0]
    places = grid(low - pad, high + pad, mean.mean(axis=0), np.sqrt(variance.mean(axis=0)))
    chosen = spread(scene.n_draws, BAND_DRAWS)
    df = None if scene.df is None else scene.df[chosen]
    drawn = densities(places, scene.weights[chosen], mean[chosen], variance[chosen], df)
    parts, of_noise = drawn.mean(axis=1), scene.noise_along(0, places, chosen).mean(axis=0)
    whole = parts.sum(axis=0) + of_noise
    if scene.n_parts > 1:
        ax.plot(places, parts.T, color=GREY, linewidth=1.0, zorder=0)
    if scene.noise_weight is not None:
        ax.plot(places, of_noise, color=NOISE_COLOUR, linestyle=(0, (5, 4)), zorder=0)
    ax.plot(places, whole, color=DARK, linewidth=1.5, zorder=0)
    peak = float(whole.max())
    ax.axhline(0.0, color=DARK, linewidth=0.8)
    ax.margins(x=0.0)
    ax.set_ylim(-0.4 * peak, 1.08 * peak)
    ticks = ax.get_yticks()
    ax.set_yticks(ticks[(ticks >= 0.0) & (ticks <= 1.08 * peak)])
    ax.set_xlabel(scene.labels[0], parse_math=False)
    ax.set_ylabel("density")
    ascending = scene.points[:, 0].argsort().argsort()
    height = (0.5 * (5.0**0.5 - 1.0) * ascending) % 1.0
    return np.column_stack([scene.points[:, 0], -(0.06 + 0.26 * height) * peak])


def _draw_points(
    ax: "Axes", places: Array, uncertainty: Array, is_noise: NDArray[np.bool_], n_parts: int,
    threshold: float,
) -> "list[Axes]":  # fmt: skip
    """Draw points by uncertainty; return the colour bar, where the threshold is marked, if any."""
    from matplotlib.colors import LinearSegmentedColormap

    n_points, highest = len(places), 1.0 - 1.0 / n_parts
    colours = LinearSegmentedColormap.from_list("uncertainty", COLOURS)
    share = uncertainty / highest if n_parts > 1 else np.zeros(n_points)
    size = point_size(n_points) * (1.0 + 4.0 * share)
    scale: dict[str, Any] = {"vmin": 0.0, "vmax": highest or 1.0, "cmap": colours}
    points = ax.scatter(
        places[~is_noise, 0], places[~is_noise, 1], c=uncertainty[~is_noise], s=size[~is_noise],
        edgecolors="white", linewidths=0.4, rasterized=n_points > RASTER, zorder=2, **scale,
    )  # fmt: skip
    if is_noise.any():
        draw_noise(
            ax,
            places[is_noise],
            size[is_noise],
            color=None,
            c=uncertainty[is_noise],
            linewidths=1.4,
            **scale,
        )
    if n_parts == 1:
        return []
    bar = ax.figure.colorbar(points, ax=ax, pad=0.02)
    bar.set_label(f"uncertainty: 1 - largest probability (at most {highest:.2g})")
    bar.ax.axhline(threshold, color="black", linewidth=1.2)
    return [bar.ax]


def _count(n_uncertain: int, n_obs: int) -> str:
    """Return how many rows are uncertain, in words."""
    verb = "is" if n_uncertain <= 1 else "are"
    return f"{f'{n_uncertain:,}' if n_uncertain else 'None'} of {n_obs:,} rows {verb} uncertain"


def _meaning(threshold: float, noise: bool) -> str:
    """Return what makes a row uncertain."""
    what = "no component, nor noise," if noise else "no component"
    return f"uncertain: {what} has a probability above {1.0 - threshold:g}"
