"""The density of the mixture: a curve with its band, or contours and how far they move."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_integer, check_share
from bayesgmm.functionals import density
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    RASTER,
    check_axes,
    colour,
    drawn_rows,
    feature_labels,
    fit_texts,
    halo,
    new_axes,
    note_of_rows,
    point_size,
    require_matplotlib,
)
from bayesgmm.plots.geometry import Array, grid, levels, spread
from bayesgmm.plots.panels import BAND_DRAWS, HIGHEST, MARGIN, draw_box, limits, n_bins
from bayesgmm.plots.scene import Scene, choose_features, view, whole_rows
from bayesgmm.summaries import require_draws
from bayesgmm.tree import features as fitted_features
from bayesgmm.tree import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INNER: Final = 0.5
"""Share of the mass within the inner contour."""
SIDE: Final = 120
"""Places along each axis of a plane."""
FLAT, FLAT_SHARE = 1e-6, 0.01
"""Relative difference of densities that are the same, and the share of a plane that is much."""
REACH: Final = 0.99
"""Share of each component that the plane holds, where the data do not end sooner."""


class Plane(NamedTuple):
    """One or two features of a fit, ready to be drawn.

    Parameters
    ----------
    tree : DataTree
        As many draws of the fit as are drawn from.
    positions : list of int
        Of the features, in the fit.
    scene : Scene
    labels : list
        Of the features.
    note : str
        What to say of rows and features that are left out.
    """

    tree: xr.DataTree
    positions: list[int]
    scene: Scene
    labels: list[Any]
    note: str


def plot_density(
    tree: xr.DataTree,
    *,
    features: Any = None,
    ax: "Axes | None" = None,
    probability: float = 0.9,
    draws: int = 40,
    max_points: int = 5000,
) -> "Axes":
    """Plot the density of the mixture and how uncertain it is.

    One feature gives the curve of the posterior mean and a credible band, over a histogram. Two
    give contours that hold half of the mass and `probability` of it: of the posterior mean in
    bold, of some draws in thin lines.

    Parameters
    ----------
    tree : DataTree
        A fit.
    features : str, int or sequence of them, optional
        Labels of one or two features, the others integrated out; by default the first two.
    ax : Axes, optional
        Where to draw; by default on a new figure.
    probability : float, default 0.9
        Share of the draws that the band holds at every place, or of the mass within the outer
        contour.
    draws : int, default 40
        Contours, from draws spread evenly over all chains.
    max_points : int, default 5000
        Rows drawn as points, a random sample if there are more; the title says so.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `ax` no Axes, or `features` not one or two of its features.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Mean and band are those of `density`, of at most 400 draws spread evenly.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_galaxies(), 3, method="map", random_seed=1)
    >>> ax = bg.plot_density(tree, ax=Figure().subplots())
    >>> ax.get_title()
    'density'
    """
    plane = prepare(tree, features, ax, max_points, "plot_density")
    probability = check_share(probability, "probability", "0.9 is usual.")
    draws = check_integer(draws, "draws", 1, "Some dozens are usual.")
    single = new_axes(7.0, 5.0) if ax is None else ax
    title = "density"
    n_draws = plane.scene.n_draws
    if len(plane.positions) == 1:
        draw_band(single, plane, probability)
        title += f", mean and {100.0 * probability:g} % band" if n_draws > 1 else ""
    else:
        draw_contours(single, plane, [INNER, probability], draws)
        inner, outer = (f"{100.0 * share:g} %" for share in (INNER, probability))
        title += f": contours that hold {inner} and {outer} of it"
        title += f", mean and {min(draws, n_draws)} draws" if n_draws > 1 else ""
    single.set_title("\n".join(filter(None, [title, plane.note])), fontsize="medium")
    fit_texts([single])
    return single


def prepare(tree: Any, features: Any, ax: Any, max_points: int, function: str) -> Plane:
    """Check what a plot of one or two features was given, and return what it draws."""
    require_matplotlib(function)
    require(tree, names.OBSERVED_DATA, names.CONSTANT_DATA, function=function)
    require_draws(tree, names.POSTERIOR, function=function)
    labels = fitted_features(tree)
    positions = choose_features(labels, features, 2)
    if len(positions) > 2:
        raise ValueError(
            f"`features` must name one or two features; got {len(positions)}. Draw them pair by "
            f"pair."
        )
    check_axes(ax, 1)
    max_points = check_integer(max_points, "max_points", 1, "Some thousands are usual.")
    X, note = whole_rows(tree)
    n_obs = X.sizes[names.OBS]
    rows = drawn_rows(n_obs, max_points if len(positions) == 2 else n_obs)
    shown = [feature_labels(X)[position] for position in positions]
    unknown = np.empty((len(rows), 0))  # points have no component here
    directions = np.eye(len(labels))[:, positions]
    scene = view(tree, X, np.zeros(len(labels)), directions, shown, rows, unknown)
    notes = [note_of_rows(len(rows), n_obs), note]
    if features is None and len(labels) > 2:
        notes.append(f"2 of {len(labels)} features, choose with `features`")
    return Plane(
        thinned(tree, BAND_DRAWS), positions, scene, [labels[i] for i in positions],
        "\n".join(filter(None, notes)),
    )  # fmt: skip


def thinned(tree: xr.DataTree, at_most: int) -> xr.DataTree:
    """Return a fit with some draws of every chain, evenly spread: about `at_most` in all."""
    sizes = tree[names.POSTERIOR].sizes
    each = -(-at_most // sizes[names.CHAIN])
    return tree.isel({names.DRAW: spread(sizes[names.DRAW], each)})


def draw_band(ax: "Axes", plane: Plane, probability: float) -> xr.DataArray:
    """Draw the histogram of a feature, the mean density and its band; return these."""
    scene = plane.scene
    low, high = limits(scene, 0, probability)
    pad = MARGIN * (high - low)
    deviations = np.sqrt(scene.covariances[..., 0, 0].mean(axis=0))
    places = grid(low - pad, high + pad, scene.means[..., 0].mean(axis=0), deviations)
    heights, edges = np.histogram(scene.points[:, 0], n_bins(scene.points[:, 0]), density=True)
    ax.stairs(heights, edges, fill=True, color="0.88", zorder=0)
    ax.stairs(heights, edges, color=GREY, linewidth=0.8, zorder=1)
    curve = density(plane.tree, {plane.labels[0]: places}, probability=probability)
    mean, lower, upper = (curve.sel({names.STATISTIC: one}) for one in ("mean", "lower", "upper"))
    if scene.n_draws > 1:
        ax.fill_between(places, lower, upper, color=colour(0), alpha=0.3, linewidth=0.0, zorder=2)
    ax.plot(places, mean, color=DARK, linewidth=2.0, zorder=3)
    ax.margins(x=0.0)
    peak = max(float(heights.max()), float(mean.max()))
    ax.set_ylim(0.0, min(ax.get_ylim()[1], HIGHEST * peak))
    ax.set_xlabel(scene.labels[0], parse_math=False)
    ax.set_ylabel("density")
    return curve


def draw_contours(
    ax: "Axes", plane: Plane, shares: list[float], draws: int, *, bold: float = 2.0
) -> None:
    """Draw points, and the contours that hold some shares of the density: mean and draws."""
    scene, n_points = plane.scene, len(plane.scene.points)
    ax.scatter(
        scene.points[:, 0], scene.points[:, 1], s=0.6 * point_size(n_points), color=GREY,
        linewidths=0.0, alpha=float(np.clip(30.0 / np.sqrt(n_points), 0.25, 0.7)),
        rasterized=n_points > RASTER, zorder=1,
    )  # fmt: skip
    draw_box(ax, scene, [0, 1])
    x, y = (
        np.linspace(low - MARGIN * (high - low), high + MARGIN * (high - low), SIDE)
        for low, high in (limits(scene, axis, REACH) for axis in (0, 1))
    )
    places = dict(zip(plane.labels, (x, y), strict=True))
    cell = (x[1] - x[0]) * (y[1] - y[0])
    if scene.n_draws > 1 and draws > 0:
        some = density(thinned(plane.tree, draws), places, probability=None)
        every = some.values.reshape(-1, SIDE, SIDE)
        for one in every[spread(len(every), draws)]:
            _contour(ax, x, y, one, levels(one, cell, shares), colors=colour(0), linewidths=0.7,
                     alpha=0.25, zorder=2)  # fmt: skip
    mean = density(plane.tree, places).sel({names.STATISTIC: "mean"}).values
    _contour(ax, x, y, mean, levels(mean, cell, shares), colors=DARK,
             linewidths=[0.7 * bold, bold], path_effects=halo(1.8 * bold), zorder=3)  # fmt: skip
    ax.set_xlabel(scene.labels[0], parse_math=False)
    ax.set_ylabel(scene.labels[1], parse_math=False)


def _contour(
    ax: "Axes", x: Array, y: Array, values: NDArray[np.float64], at: list[float], **style: Any
) -> None:
    """Draw contours, the outermost first: none where the density is flat, by noise alone."""
    at = [level for level in np.unique(at).tolist() if not _is_flat(values, level)]
    if not at:
        return
    effects = style.pop("path_effects", None)
    drawn = ax.contour(x, y, values.T, levels=at, **style)
    if effects is not None:
        drawn.set_path_effects(effects)


def _is_flat(values: NDArray[np.float64], level: float) -> bool:
    """Tell whether much of a plane has a level for its density, but for rounding."""
    return bool((np.abs(values - level) <= FLAT * level).mean() > FLAT_SHARE)
