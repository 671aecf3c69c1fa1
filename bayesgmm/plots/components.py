"""Components over the data."""

from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_integer, check_share
from bayesgmm.plots.canvas import (
    check_axes,
    drawn_rows,
    feature_labels,
    fit_texts,
    new_axes,
    note_of_rows,
    panels_inside,
    require_matplotlib,
)
from bayesgmm.plots.legend import legend_entries, place_legend
from bayesgmm.plots.panels import draw_density, draw_plane, number_components
from bayesgmm.plots.scene import Scene, choose_features, view, whole_rows
from bayesgmm.prediction import probability_of
from bayesgmm.summaries import drawable
from bayesgmm.tree import features as fitted_features
from bayesgmm.tree import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_FEATURES: Final = 5
"""Drawn where the user does not choose."""


def plot_components(
    tree: xr.DataTree,
    *,
    features: Any = None,
    ax: "Axes | NDArray[Any] | None" = None,
    probability: float = 0.9,
    draws: int = 40,
    max_points: int = 5000,
) -> "Axes | NDArray[Any]":
    """Plot the data with the components over them, and how uncertain these are.

    Points have the colour and the marker of their most probable component and are filled as far
    as that is certain: hollow ones might belong to another. Each component is an ellipse for the
    posterior mean, in bold, and thin ones for some draws; rows of noise are crosses, its box is
    dashed. One feature gives a histogram with the
    densities of mixture and components; more than two give all pairs of features, with the
    densities on the diagonal.

    Parameters
    ----------
    tree : DataTree
        A fit.
    features : str, int or sequence of them, optional
        Labels of the features to draw, the others integrated out; by default all, up to five.
    ax : Axes or array of Axes, optional
        Where to draw; by default on a new figure. More than two features are drawn in panels
        inside an Axes, or in an array of as many rows and columns.
    probability : float, default 0.9
        Share of a component that its ellipse holds, and of the draws that the intervals of
        weights and the bands of densities hold.
    draws : int, default 40
        Ellipses of each component, from draws spread evenly over all chains.
    max_points : int, default 5000
        Rows drawn, a random sample if there are more; the title says so.

    Returns
    -------
    Axes, or array of Axes, shape (n_features, n_features)
        The second for more than two features; those above the diagonal are empty.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `ax` no Axes, or a feature is not in it.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Responsibilities of the rows drawn, O(S n K D^2) for S draws, take most of the time.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> ax = bg.plot_components(tree, ax=Figure().subplots())
    >>> ax.get_xlabel(), ax.get_title()
    ('eruptions (min)', '2 components, 90 % ellipses')
    """
    require_matplotlib("plot_components")
    require(
        tree, names.POSTERIOR, names.OBSERVED_DATA, names.CONSTANT_DATA, function="plot_components"
    )
    tree = drawable(tree)
    labels = fitted_features(tree)
    positions = choose_features(labels, features, MOST_FEATURES)
    check_axes(ax, len(positions) if len(positions) > 2 else 1)
    probability = check_share(probability, "probability", "0.9 is usual.")
    draws = check_integer(draws, "draws", 1, "Some dozens are usual.")
    max_points = check_integer(max_points, "max_points", 1, "Some thousands are usual.")
    X, note = whole_rows(tree)
    rows = drawn_rows(X.sizes[names.OBS], max_points)
    some = tree if len(rows) == X.sizes[names.OBS] else tree.isel({names.OBS: rows})
    probability_of_rows = probability_of(some, None, "plot_components")[1].values
    directions = np.eye(len(labels))[:, positions]
    shown = [feature_labels(X)[position] for position in positions]
    scene = view(tree, X, np.zeros(len(labels)), directions, shown, rows, probability_of_rows)
    notes = [note_of_rows(len(rows), X.sizes[names.OBS]), note]
    if features is None and len(positions) < len(labels):
        notes.append(f"{len(positions)} of {len(labels)} features, choose with `features`")
    if names.LIKELIHOOD in tree.attrs:
        notes.append("colours by weights, means and covariances, not by the model's own likelihood")
    title = "\n".join(filter(None, [_title(scene, probability, draws), *notes]))
    if len(positions) > 2:
        return _pairs(scene, ax, title, probability, draws)
    single = new_axes(7.0, 5.0) if ax is None else cast("Axes", ax)
    if len(positions) == 1:
        draw_density(single, scene, 0, probability)
        single.set_ylabel("density")
    else:
        draw_plane(single, scene, [0, 1], probability, draws)
    single.set_title(title, fontsize="medium")
    fit_texts([single])
    if scene.n_parts > 1:
        place_legend(single, legend_entries(scene, probability), wider=2.5 if ax is None else 0.0)
    if len(positions) == 2 and scene.n_components > 1:
        number_components(single, scene, [0, 1])
    return single


def _pairs(scene: Scene, ax: Any, title: str, probability: float, draws: int) -> NDArray[Any]:
    """Draw every pair of features below the diagonal, and every feature on it."""
    n_panels = len(scene.labels)
    side = min(1.4 + 1.75 * n_panels, 12.0)
    panels = ax
    if not isinstance(ax, np.ndarray):
        panels = panels_inside(new_axes(side, side) if ax is None else ax, n_panels)
    for i, j in np.ndindex(n_panels, n_panels):
        panel = panels[i, j]
        if j > i:
            panel.set_axis_off()
            continue
        if i == j:
            draw_density(panel, scene, j, probability, bold=1.2)
            panel.set_yticks([])
            panel.spines[["top", "left", "right"]].set_visible(False)
        else:
            draw_plane(panel, scene, [j, i], probability, draws, size=0.6)
        panel.locator_params(nbins=4)
        panel.tick_params(
            labelbottom=i == n_panels - 1, labelleft=j == 0 and i > 0, labelsize="small"
        )
        if i < n_panels - 1:
            panel.set_xlabel("")
        if j > 0 or i == 0:
            panel.set_ylabel("")
    panels[0, 0].set_title(title, loc="left", fontsize="medium")
    fit_texts(panels.flat)
    if scene.n_parts > 1:
        panels[0, -1].legend(
            **legend_entries(scene, probability), loc="upper right", bbox_to_anchor=(1.0, 1.0)
        )
    return np.asarray(panels)


def _title(scene: Scene, probability: float, draws: int) -> str:
    """Return what the picture shows."""
    plural = "s" if scene.n_components > 1 else ""
    title = f"{scene.n_components} component{plural}"
    if scene.noise_weight is not None:
        title += " and noise"
    percent = f"{100.0 * probability:g} %"
    if len(scene.labels) > 1:
        title += f", {percent} ellipses"
    if scene.n_draws == 1:
        return title
    if len(scene.labels) == 1:
        return f"{title}, mean density and {percent} band"
    return f"{title}: mean and {min(draws, scene.n_draws)} draws"
