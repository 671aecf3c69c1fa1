"""Label switching, before and after."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.alignment import align
from bayesgmm.errors import check_choice, check_integer
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    RASTER,
    check_axes,
    colour,
    feature_labels,
    fit_texts,
    line,
    marker,
    new_axes,
    require_matplotlib,
)
from bayesgmm.plots.geometry import Array, spread
from bayesgmm.summaries import require_draws
from bayesgmm.tree import features, require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS: Final = {
    (0, 0): (0.0, 0.56, 0.64, 0.44), (0, 1): (0.67, 0.56, 0.2, 0.44),
    (1, 0): (0.0, 0.0, 0.64, 0.44), (1, 1): (0.67, 0.0, 0.2, 0.44),
}  # fmt: skip
"""Left, bottom, width and height of each panel, in shares of the whole; a legend on the right."""
BINS: Final = 60
ROWS: Final = 12
"""Of a column of the legend."""


def plot_alignment(
    tree: xr.DataTree,
    *,
    ax: Any = None,
    variable: str = names.MEANS,
    feature: Any = None,
    max_draws: int = 1000,
) -> NDArray[Any]:
    """Plot a variable of every component before and after label switching was undone.

    Above, the draws as they were sampled, chain after chain, and their distribution; below, the
    same as they are aligned. What most draws were renamed to names them above as well. Where components swap names, colours are mixed above and not below.
    Colours that are still mixed below are components that cannot be told apart.

    Parameters
    ----------
    tree : DataTree
        A fit that was aligned, as `fit` does.
    ax : Axes, or array of Axes, shape (2, 2), optional
        Where to draw; by default on a new figure.
    variable : str, default "means"
        A variable of ``posterior`` with the dimension ``component``, and ``feature`` at most.
    feature : str or int, optional
        Label of the feature that is drawn; the first by default.
    max_draws : int, default 1000
        Draws shown as points, at most, spread evenly; the distributions are of all.

    Returns
    -------
    array of Axes, shape (2, 2)
        Draws on the left, distributions on the right; as sampled above, aligned below.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit that was aligned, `ax` no Axes, or there is no such variable or
        feature.
    ImportError
        If matplotlib is not installed.

    See Also
    --------
    alignment_report : How far single components are to be trusted, in numbers.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, draws=100, chains=2, random_seed=1)
    >>> panels = bg.plot_alignment(tree, ax=Figure().subplots())
    >>> panels[1, 0].get_title(loc="left")
    'Aligned by "stephens": 0 of 200 draws renamed'
    """
    require_matplotlib("plot_alignment")
    require_draws(tree, names.POSTERIOR, names.ALIGNMENT, function="plot_alignment")
    require(tree, names.OBSERVED_DATA, names.SAMPLE_STATS, function="plot_alignment")
    check_axes(ax, 2)
    max_draws = check_integer(max_draws, "max_draws", 1, "Some hundreds are usual.")
    check_choice(variable, "variable", _drawable(tree))
    position = _position(features(tree), feature)
    most, n_renamed = _usual_names(tree)
    aligned = _draws(tree, variable, position)
    raw = _draws(align(tree, "none"), variable, position)[..., most]
    label = variable
    if names.FEATURE in tree[names.POSTERIOR].dataset[variable].dims:
        shown = feature_labels(tree[names.OBSERVED_DATA].dataset[names.X])[position]
        label = f"{variable}, {shown}"
    panels = ax if isinstance(ax, np.ndarray) else _panels(new_axes(9.0, 6.0) if ax is None else ax)
    for row, values in enumerate((raw, aligned)):
        _draw_trace(panels[row, 0], values, max_draws)
        _draw_marginals(panels[row, 1], values)
        panels[row, 0].set_ylabel(label, parse_math=False)
    names_of_chains = tree[names.POSTERIOR].dataset[names.CHAIN].values.tolist()
    for panel in panels[:, 0]:
        _mark_chains(panel, names_of_chains, raw.shape[1])
    panels[0, 0].set_title("As sampled", loc="left", fontsize="medium")
    method = tree[names.ALIGNMENT].attrs.get(names.METHOD, "none")
    panels[1, 0].set_title(
        f'Aligned by "{method}": {n_renamed:,} of {raw[..., 0].size:,} draws renamed',
        loc="left", fontsize="medium",
    )  # fmt: skip
    panels[1, 1].set_xlabel("density")
    fit_texts(panels.flat)
    if raw.shape[2] > 1:
        panels[0, 1].legend(
            title="component", fontsize="small", title_fontsize="small", loc="upper left",
            bbox_to_anchor=(1.0, 1.0), ncols=-(-raw.shape[2] // ROWS), frameon=False,
        )  # fmt: skip
    return np.asarray(panels)


def _drawable(tree: xr.DataTree) -> list[str]:
    """Return the variables that have components, and features at most."""
    allowed = {names.CHAIN, names.DRAW, names.COMPONENT, names.FEATURE}
    return [
        str(name)
        for name, variable in tree[names.POSTERIOR].data_vars.items()
        if names.COMPONENT in variable.dims and allowed.issuperset(variable.dims)
    ]


def _position(labels: list[Any], feature: Any) -> int:
    """Return which feature is drawn."""
    if feature is None:
        return 0
    if feature not in labels:
        near = get_close_matches(str(feature), [str(label) for label in labels], n=1)
        listed = ", ".join(repr(label) for label in labels[:20]) + ", ..." * (len(labels) > 20)
        remedy = f"Did you mean {near[0]!r}?" if near else "Choose one of these."
        raise ValueError(f"`feature` must be one of {listed}; got {feature!r}. {remedy}")
    return labels.index(feature)


def _draws(tree: xr.DataTree, variable: str, position: int) -> Array:
    """Return the draws of a variable, shape (chains, draws, K)."""
    drawn = tree[names.POSTERIOR].dataset[variable]
    if names.FEATURE in drawn.dims:
        drawn = drawn.isel({names.FEATURE: position})
    return np.asarray(drawn.transpose(names.CHAIN, names.DRAW, names.COMPONENT).values)


def _panels(ax: "Axes") -> NDArray[Any]:
    """Return four Axes that fill `ax`, which itself is not seen any more."""
    ax.set_axis_off()
    panels = np.empty((2, 2), dtype=object)
    for (row, column), place in PANELS.items():
        beside = {"sharey": panels[row, 0]} if column else {}
        panels[row, column] = ax.inset_axes(place, **beside)
    return panels


def _draw_trace(ax: "Axes", values: Array, max_draws: int) -> None:
    """Draw the draws of every component, chain after chain."""
    n_chains, n_draws, n_components = values.shape
    flat = values.reshape(-1, n_components)
    shown = spread(len(flat), max_draws)
    for k in range(n_components):
        ax.plot(
            shown, flat[shown, k], linestyle="none", marker=marker(k), markersize=2.5,
            color=colour(k), alpha=0.6, markeredgewidth=0.0, label=f"{k}",
            rasterized=len(shown) * n_components > RASTER,
        )  # fmt: skip
    for chain in range(1, n_chains):
        ax.axvline(chain * n_draws - 0.5, color=GREY, linewidth=0.8, zorder=0)
    ax.set_xlim(-0.5, len(flat) - 0.5)


def _draw_marginals(ax: "Axes", values: Array) -> None:
    """Draw the histogram of the draws of every component, lying on its side."""
    edges = np.histogram_bin_edges(values, BINS)
    for k in range(values.shape[2]):
        heights, _ = np.histogram(values[..., k], edges, density=True)
        ax.stairs(
            heights, edges, orientation="horizontal", color=colour(k), linestyle=line(k),
            linewidth=1.4, label=f"{k}",
        )  # fmt: skip
    ax.set_xlim(left=0.0)
    ax.tick_params(labelleft=False)
    ax.locator_params(axis="x", nbins=4)


def _mark_chains(ax: "Axes", labels: list[Any], n_draws: int) -> None:
    """Name the chains below their draws."""
    ax.set_xticks([(i + 0.5) * n_draws - 0.5 for i in range(len(labels))])
    ax.set_xticklabels([f"chain {label}" for label in labels], color=DARK)
    ax.tick_params(axis="x", length=0)


def _usual_names(tree: xr.DataTree) -> tuple[NDArray[np.int64], int]:
    """Return the permutation that most draws underwent, and how many underwent another."""
    permutation = tree[names.ALIGNMENT].dataset[names.PERMUTATION]
    flat = permutation.transpose(..., names.COMPONENT).values.reshape(
        -1, permutation.sizes[names.COMPONENT]
    )
    different, counts = np.unique(flat, axis=0, return_counts=True)
    return different[counts.argmax()], int(len(flat) - counts.max())
