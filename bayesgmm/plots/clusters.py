"""The clusters of a partition over the data."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.clustering.coclustering import membership
from bayesgmm.clustering.partitions import given_or_best
from bayesgmm.errors import check_integer, check_share
from bayesgmm.plots.annotation import name_points
from bayesgmm.plots.canvas import (
    DARK,
    NOISE_COLOUR,
    RASTER,
    check_axes,
    colour,
    draw_noise,
    drawn_rows,
    fit_texts,
    marker,
    new_axes,
    noise_handle,
    note_of_rows,
    point_size,
    require_matplotlib,
    row_labels,
)
from bayesgmm.plots.geometry import Array
from bayesgmm.plots.legend import place_legend
from bayesgmm.plots.panels import MARGIN, draw_box
from bayesgmm.plots.scene import view, whole_rows
from bayesgmm.plots.uncertainty import directions_of, draw_strip
from bayesgmm.prediction import probability_of
from bayesgmm.tree import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LISTED: Final = 12
"""Clusters in the legend, at most."""


def plot_partition(
    tree: xr.DataTree,
    partition: Any = None,
    *,
    ax: "Axes | None" = None,
    threshold: float = 0.7,
    n_named: int = 10,
    max_points: int = 5000,
    random_seed: int | None = None,
) -> "Axes":
    """Plot the rows in the colours of their clusters, filled as far as these are certain.

    A row is as certain as it is probable, on average, that it shares a cluster with the others
    of its own: hollow rows might as well be elsewhere. One feature gives the density above a
    strip of points, more than two give the plane of the first two principal axes. Rows of noise
    are crosses.

    Parameters
    ----------
    tree : DataTree
        A fit.
    partition : DataArray or array of int, shape (n_obs,), optional
        As `partition` returns it; by default what it returns for the variation of information.
    ax : Axes, optional
        Where to draw; by default on a new figure.
    threshold : float, default 0.7
        Certainty below which a row counts as uncertain, in (0, 1).
    n_named : int, default 10
        Rows named, at most: the most uncertain, as far as their names find room.
    max_points : int, default 5000
        Rows drawn, a random sample (and those named) if there are more; the title says so.
    random_seed : int, optional
        For the allocations and the search of a partition.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `partition` is none of its rows, or `ax` no Axes.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    `partition` takes most of the time where it is not given.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=50, chains=1, random_seed=1)
    >>> ax = bg.plot_partition(tree, ax=Figure().subplots(), random_seed=1)
    >>> ax.get_title()[:22]
    '2 clusters of 272 rows'
    """
    require_matplotlib("plot_partition")
    require(
        tree, names.POSTERIOR, names.OBSERVED_DATA, names.CONSTANT_DATA, function="plot_partition"
    )
    check_axes(ax, 1)
    threshold = check_share(threshold, "threshold", "0.7 is usual.")
    n_named = check_integer(n_named, "n_named", 0, "A dozen names find room.")
    max_points = check_integer(max_points, "max_points", 1, "Some thousands are usual.")
    draws = label_draws(tree, random_seed=random_seed, function="plot_partition")
    labels = given_or_best(draws, partition, random_seed)
    certainty = membership(draws, labels)
    order = np.argsort(certainty, kind="stable")
    n_uncertain = int((certainty < threshold).sum())
    named = order[: min(n_named, n_uncertain)]
    rows = np.union1d(drawn_rows(len(order), max_points), named)
    X, note = whole_rows(tree)
    center, directions, axis_labels = directions_of(X)
    some = probability_of(tree.isel({names.OBS: rows}), None, "plot_partition")[1]
    scene = view(tree, X, center, directions, axis_labels, rows, some.values)
    ax = new_axes(7.5, 5.0) if ax is None else ax
    places = draw_strip(ax, scene) if len(axis_labels) == 1 else scene.points
    _draw_points(ax, places, labels[rows], certainty[rows], certainty[rows] < threshold)
    if len(axis_labels) > 1:
        draw_box(ax, scene, [0, 1])
        ax.margins(MARGIN)
        ax.set_xlabel(scene.labels[0], parse_math=False)
        ax.set_ylabel(scene.labels[1], parse_math=False)
    meaning = f"with others of their cluster in less than {100.0 * threshold:g} % of draws"
    title = [_count(labels, n_uncertain), f"uncertain: {meaning}"]
    title += [note_of_rows(len(rows), len(order)), note]
    ax.set_title("\n".join(filter(None, title)), fontsize="medium")
    fit_texts([ax])
    _add_legend(ax, labels)
    where = np.flatnonzero(np.isin(rows, named))
    where = where[np.argsort(certainty[rows[where]], kind="stable")]
    name_points(ax, places[where], row_labels(X, rows[where]), places)
    return ax


def _draw_points(
    ax: "Axes", places: Array, labels: NDArray[np.int64], certainty: Array, uncertain: Any
) -> None:
    """Draw the rows of each cluster, small clusters above large ones, uncertain rows framed."""
    from matplotlib.colors import to_rgba

    n_points = len(places)
    for k in np.unique(labels).tolist():
        mine = labels == k
        if k < 0:
            dark = [DARK if doubt else NOISE_COLOUR for doubt in uncertain[mine]]
            draw_noise(ax, places[mine], point_size(n_points), color=dark)
            framed = mine & uncertain
            ax.scatter(
                places[framed, 0], places[framed, 1], s=2.2 * point_size(n_points),
                facecolors="none", edgecolors=DARK, linewidths=0.7, zorder=2,
            )  # fmt: skip
            continue
        faces = np.repeat(np.array([to_rgba(colour(k))]), mine.sum(), axis=0)
        faces[:, 3] = 0.85 * certainty[mine] ** 2
        edges = np.repeat(np.array([to_rgba(colour(k), 0.85)]), mine.sum(), axis=0)
        edges[uncertain[mine]] = to_rgba(DARK)
        size = point_size(n_points) * (1.0 + 1.2 * uncertain[mine])
        ax.scatter(
            places[mine, 0], places[mine, 1], s=size,
            marker=marker(k), facecolors=faces, edgecolors=edges,
            linewidths=0.7 if n_points <= RASTER else 0.3, rasterized=n_points > RASTER, zorder=2,
        )  # fmt: skip


def _add_legend(ax: "Axes", labels: NDArray[np.int64]) -> None:
    """Add what the colours are: the numbers and sizes of the clusters, the largest ones."""
    from matplotlib.lines import Line2D

    sizes = np.bincount(labels[labels >= 0]).tolist()
    handles = [
        Line2D([], [], color=colour(k), marker=marker(k), linestyle="none", markersize=6.5,
               markeredgecolor="white", label=f"{k}: {size:,} row{'s' if size > 1 else ''}")
        for k, size in enumerate(sizes[:LISTED])
    ]  # fmt: skip
    n_noise = int((labels < 0).sum())
    if n_noise:
        handles.append(noise_handle(f"noise: {n_noise:,} row{'s' if n_noise > 1 else ''}"))
    handles.append(
        Line2D([], [], color=DARK, marker="o", linestyle="none", markersize=6.5,
               markerfacecolor="none", label="hollow, framed: uncertain")
    )  # fmt: skip
    more = f", {len(sizes) - LISTED} more" if len(sizes) > LISTED else ""
    entries = {
        "handles": handles, "title": f"cluster{more}", "fontsize": "small",
        "title_fontsize": "small", "alignment": "left",
    }  # fmt: skip
    place_legend(ax, entries, wider=2.0)


def _count(labels: NDArray[np.int64], n_uncertain: int) -> str:
    """Return how many clusters and uncertain rows there are, in words."""
    n_clusters = int(labels.max()) + 1
    clusters = f"{n_clusters} cluster{'' if n_clusters == 1 else 's'}"
    if (labels < 0).any():
        clusters += " and noise"
    return f"{clusters} of {len(labels):,} rows, {n_uncertain or 'none'} uncertain"
