"""The path of merged components, its elbow, and how sure the number of clusters is."""

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.clustering.merging import merge_components
from bayesgmm.errors import check_integer
from bayesgmm.plots.canvas import (
    DARK,
    GREY,
    check_axes,
    colour,
    fit_texts,
    halo,
    new_axes,
    percent,
    require_matplotlib,
)
from bayesgmm.plots.geometry import Array, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOUDEST: Final = 12
"""Clusters up to which the merged ones are named."""


def plot_merge(
    tree: xr.DataTree, *, ax: "Axes | None" = None, criterion: str = "entropy", draws: int = 100
) -> "Axes":
    """Plot what is gained as components are merged, step by step, and where to stop.

    Read from the right, from all components, to the left, one cluster. The entropy falls by a
    steep step where components that share their rows are merged, by a flat one where clusters
    are apart; misclassification is that of the two clusters merged next, against the threshold.
    Below each number of clusters stands the share of draws that propose it, beside each step what
    is merged in it, and a ring marks the number that most draws propose.

    Parameters
    ----------
    tree : DataTree
        A fit.
    ax : Axes, optional
        Where to draw; by default on a new figure.
    criterion : str, default "entropy"
        As `merge_components` takes it.
    draws : int, default 100
        Paths drawn, from draws spread evenly over all chains; all of them are counted.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `ax` no Axes, or `criterion` is unknown.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> from matplotlib.figure import Figure
    >>> tree = bg.fit(bg.datasets.load_faithful(), 3, method="map", random_seed=1)
    >>> ax = bg.plot_merge(tree, ax=Figure().subplots())
    >>> ax.get_title()
    '3 components, 2 clusters'
    """
    require_matplotlib("plot_merge")
    check_axes(ax, 1)
    draws = check_integer(draws, "draws", 1, "A hundred are usual.")
    merged = merge_components(tree, criterion=criterion)
    single = new_axes(7.0, 5.0) if ax is None else ax
    by_entropy = criterion == names.ENTROPY
    n_clusters = merged[names.N_CLUSTERS].values
    paths = merged[names.ENTROPY if by_entropy else names.CRITERION].values
    paths = paths.reshape(-1, len(n_clusters))
    chosen = merged.attrs[names.N_CLUSTERS]
    mean = paths.mean(axis=0)
    if len(paths) > 1:
        thin = paths[spread(len(paths), draws)]
        single.plot(n_clusters, thin.T, color=colour(0), linewidth=0.7, alpha=0.25, zorder=1)
    single.plot(n_clusters, mean, color=DARK, linewidth=2.0, marker="o", zorder=3)
    height = mean[chosen - 1] if by_entropy or chosen > 1 else 0.0  # one cluster has no next pair
    single.plot(
        chosen, height, color="none", marker="o", markersize=15.0, markeredgewidth=2.0,
        markeredgecolor=colour(2), zorder=4,
    )  # fmt: skip
    if not by_entropy:
        single.axhline(merged.attrs[names.THRESHOLD], color=GREY, linestyle="--", zorder=2)
        single.set_xlim(0.6, len(n_clusters) + 0.4)
    _name_steps(single, merged, 0.5 * (mean[1:] + mean[:-1]) if by_entropy else mean[1:])
    shares = merged[names.PROBABILITY].values
    said = [f"\n{percent(share)}" if share > 0.0 and len(paths) > 1 else "" for share in shares]
    ticks = [f"{n}{text}" for n, text in zip(n_clusters, said, strict=True)]
    single.set_xticks(n_clusters, ticks)
    meaning = " (and share of draws that propose so many)" if any(said) else ""
    single.set_xlabel(f"clusters{meaning}")
    single.set_ylabel(
        "entropy of the clusters (nats)" if by_entropy else "misclassified by the next two"
    )
    single.margins(x=0.08, y=0.06)
    single.set_title(_title(merged), fontsize="medium")
    fit_texts([single])
    return single


def _name_steps(ax: "Axes", merged: xr.Dataset, heights: Array) -> None:
    """Write beside each step, at its height, which clusters are merged in it."""
    cluster = merged[names.CLUSTER].values
    components = merged[names.COMPONENT].values
    n_components = len(components)
    back = 0.5 if merged.attrs[names.CRITERION] == names.ENTROPY else 0.0
    if n_components > LOUDEST:
        return

    def members(of: int, among: Any) -> str:
        return ",".join(str(component) for component in components[among == of])

    for before in range(n_components, 1, -1):
        fine, coarse = cluster[before - 1], cluster[before - 2]
        union = next(c for c in range(before - 1) if len(np.unique(fine[coarse == c])) == 2)
        parts = [members(part, fine) for part in np.unique(fine[coarse == union]).tolist()]
        ax.annotate(
            " + ".join(parts), (before - back, heights[before - 2]),
            xytext=(-8.0, 6.0), textcoords="offset points", ha="right", va="bottom",
            fontsize="small", color=GREY if before <= merged.attrs[names.N_CLUSTERS] else DARK,
            path_effects=halo(2.5), zorder=5, parse_math=False,
        )  # fmt: skip


def _title(merged: xr.Dataset) -> str:
    """Return how many components make how many clusters."""
    words = [
        f"{n} {what}{'s' if n > 1 else ''}"
        for n, what in (
            (merged.sizes[names.COMPONENT], "component"),
            (merged.attrs[names.N_CLUSTERS], "cluster"),
        )
    ]
    if merged.attrs[names.CRITERION] == names.MISCLASSIFICATION:
        words.append(f"misclassification below {100.0 * merged.attrs[names.THRESHOLD]:g} %")
    return ", ".join(words)
