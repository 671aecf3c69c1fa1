"""A point estimate of the partition, and how different it might be."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.clustering.credibility import credible_ball
from bayesgmm.errors import check_integer
from bayesgmm.plots.canvas import (
    DARK,
    RASTER,
    check_axes,
    colour,
    draw_noise,
    drawn_rows,
    fit_texts,
    marker,
    new_axes,
    note_of_rows,
    panels_inside,
    point_size,
    require_matplotlib,
)
from bayesgmm.plots.geometry import Array
from bayesgmm.plots.scene import whole_rows
from bayesgmm.plots.uncertainty import directions_of
from bayesgmm.tree import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BITS: Final = ("vi", "id")
"""Losses that are measured in bits."""
SAYING: Final = {
    "horizontal": "farthest: {} clusters",
    "upper": "fewest clusters: {}",
    "lower": "most clusters: {}",
}
"""What a panel says of its bound and of the number of its clusters."""


def plot_credible_ball(
    tree: xr.DataTree,
    ball: xr.Dataset | None = None,
    *,
    ax: "Axes | NDArray[Any] | None" = None,
    max_points: int = 5000,
    random_seed: int | None = None,
) -> NDArray[Any]:
    """Plot the point estimate of the partition beside the extremes of its credible ball.

    Colour and marker of a point are its cluster, crosses noise; rows that are in another cluster
    than in the point estimate are ringed, the others pale. Rows ringed in any panel are in doubt;
    which ones are certain, `confident_subset` says. One feature is drawn as a strip, more than two
    along the two principal axes of the standardised data.

    Parameters
    ----------
    tree : DataTree
        A fit.
    ball : Dataset, optional
        What `credible_ball` gave for the same rows; by default that of the fit with 95 %.
    ax : Axes or array of Axes, shape (2, 2), optional
        Where to draw; by default on a new figure. In an Axes the panels are drawn inside it.
    max_points : int, default 5000
        Rows drawn, a random sample if there are more; the title says so. All rows are counted.
    random_seed : int, optional
        Of the default `ball`.

    Returns
    -------
    array of Axes, shape (2, 2)
        Point estimate and horizontal bound above, upper and lower vertical bound below.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `ball` not one of its rows, or `ax` no Axes.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Computing the ball takes most of the time; see `credible_ball` for what the bounds are.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=100, chains=2, random_seed=1)
    >>> panels = bg.plot_credible_ball(tree, ax=Figure().subplots(2, 2), random_seed=1)
    >>> panels[0, 0].get_title().splitlines()[-1]
    'point estimate: 2 clusters'
    """
    require_matplotlib("plot_credible_ball")
    require(
        tree, names.POSTERIOR, names.OBSERVED_DATA, names.CONSTANT_DATA,
        function="plot_credible_ball",
    )  # fmt: skip
    check_axes(ax, 2)
    max_points = check_integer(max_points, "max_points", 1, "Some thousands are usual.")
    X, note = whole_rows(tree)
    if ball is None:
        ball = credible_ball(tree, random_seed=random_seed)
    _check_ball(ball, X)
    center, directions, labels = directions_of(X)
    rows = drawn_rows(X.sizes[names.OBS], max_points)
    places = (X.values[rows] - center) @ directions
    if len(labels) == 1:
        places = _strip(places[:, 0])
    if isinstance(ax, np.ndarray):
        panels = ax
    else:
        panels = panels_inside(new_axes(8.5, 7.5) if ax is None else ax, 2)
    estimate = ball[names.PARTITION].values
    shown = [estimate, *ball[names.LABELS].values]
    titles = [_title_of_estimate(ball, len(rows), note), *_titles_of_bounds(ball)]
    for panel, clusters, title in zip(panels.flat, shown, titles, strict=True):
        _draw(panel, places, clusters[rows], (clusters != estimate)[rows])
        panel.set_title(title, fontsize="small", pad=3.0)
    _label(panels, labels)
    return panels


def _check_ball(ball: Any, X: xr.DataArray) -> None:
    """Refuse what is not a credible ball of these rows."""
    due = {names.PARTITION, names.LABELS, names.DISTANCE, names.N_CLUSTERS}
    if not isinstance(ball, xr.Dataset) or not due <= set(ball.data_vars):
        raise TypeError(
            f"`ball` must be what bayesgmm.credible_ball returned; got an object of type "
            f"{type(ball).__name__}. Leave it out, or pass credible_ball(tree)."
        )
    if ball.sizes[names.OBS] != X.sizes[names.OBS]:
        raise ValueError(
            f"`ball` must be of the {X.sizes[names.OBS]} rows of `tree`; got one of "
            f"{ball.sizes[names.OBS]}. Leave it out, or pass credible_ball(tree)."
        )


def _strip(values: Array) -> Array:
    """Return places beside one another for points along a line, shape (n, 2)."""
    ascending = values.argsort().argsort()
    return np.column_stack([values, (0.5 * (5.0**0.5 - 1.0) * ascending) % 1.0])


def _draw(
    ax: "Axes", places: Array, clusters: NDArray[np.int64], differs: NDArray[np.bool_]
) -> None:
    """Draw the points of each cluster, those that differ ringed and above the others."""
    n_points = len(places)
    size = point_size(n_points)
    kinds = (
        (~differs, {"s": size, "alpha": 0.45, "linewidths": 0.0, "zorder": 1}),
        (differs, {"s": 1.8 * size, "edgecolors": DARK, "linewidths": 1.1, "zorder": 2}),
    )
    for some, style in kinds:
        for k in np.unique(clusters[some]).tolist():
            mine = some & (clusters == k)
            if k < 0:
                draw_noise(ax, places[mine], size, zorder=style["zorder"])
                if "edgecolors" in style:
                    ax.scatter(*places[mine].T, marker="o", facecolors="none", **style)
                continue
            ax.scatter(
                *places[mine].T, color=colour(k), marker=marker(k),
                rasterized=n_points > RASTER, **style,
            )  # fmt: skip


def _label(panels: NDArray[Any], labels: list[str]) -> None:
    """Give all panels the same limits, and names to the axes on the outside."""
    for (i, j), panel in np.ndenumerate(panels):
        if len(labels) == 1:
            panel.set_ylim(-0.3, 1.3)
            panel.set_yticks([])
        panel.tick_params(bottom=i == 1, labelbottom=i == 1, left=j == 0, labelleft=j == 0)
        panel.set_xlabel(labels[0] if i == 1 else "", parse_math=False)
        panel.set_ylabel(labels[1] if j == 0 and len(labels) > 1 else "", parse_math=False)
    fit_texts(panels.flat)


def _title_of_estimate(ball: xr.Dataset, n_drawn: int, note: str) -> str:
    """Return what the first panel says: the ball, and its centre."""
    number = int(ball[names.PARTITION].max()) + 1
    noise = " and noise (crosses)" * bool((ball[names.PARTITION] < 0).any())
    radius = _distance(ball, ball.attrs[names.RADIUS])
    lines = [
        f"{100.0 * ball.attrs[names.MASS]:.3g} % of draws within {radius}",
        note_of_rows(n_drawn, ball.sizes[names.OBS]),
        note,
        f"point estimate: {number} cluster{'' if number == 1 else 's'}{noise}",
    ]
    return "\n".join(filter(None, lines))


def _titles_of_bounds(ball: xr.Dataset) -> list[str]:
    """Return what the other panels say: which extreme, and how far it is from the centre."""
    titles = []
    for bound in ball[names.BOUND].values.tolist():
        one = ball.sel({names.BOUND: bound})
        n_rows = int((one[names.LABELS] != ball[names.PARTITION]).sum())
        which = SAYING[bound].format(int(one[names.N_CLUSTERS]))
        differ = f"{n_rows:,} {'row differs' if n_rows == 1 else 'rows differ'}"
        titles.append(f"{which}, {differ}, {_distance(ball, float(one[names.DISTANCE]))}")
    return titles


def _distance(ball: xr.Dataset, distance: float) -> str:
    """Return a distance in words."""
    loss = ball.attrs[names.LOSS]
    return f"{distance:.2g} bits" if loss in BITS else f"{loss} {distance:.2g}"
