"""Clusters that are not Gaussian: components merged into one."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import entr

from bayesgmm import names
from bayesgmm.errors import check_choice, check_share
from bayesgmm.kernels.matching import MATCHED_ROWS
from bayesgmm.kernels.merging import elbow, fill_paths, merge_path, stop
from bayesgmm.kernels.stephens import responsibilities
from bayesgmm.kernels.threads import over_draws
from bayesgmm.prediction import Mixtures, fitted_rows, mixtures, probability_of
from bayesgmm.records import standing
from bayesgmm.summaries import require_draws
from bayesgmm.tree import require
from bayesgmm.tree.rows import observed

CRITERIA: Final = (names.ENTROPY, names.MISCLASSIFICATION)


def merge_components(
    tree: xr.DataTree, *, criterion: str = "entropy", threshold: float = 0.025
) -> xr.Dataset:
    """Merge components that describe one cluster, step by step, from all of them to one cluster.

    A cluster that is curved, skewed or long-tailed takes several Gaussian components. Those that
    share their rows are merged, pair after pair; how much less uncertain the rows' clusters are
    after each step says how many clusters there are.

    Parameters
    ----------
    tree : DataTree
        A fit.
    criterion : str, default "entropy"
        ``"entropy"``: the two clusters are merged whose merging lowers the entropy of the
        classification, ``-sum of p log p`` over rows and clusters, the most; the number of
        clusters is where it bends, by two straight lines over the rows that are merged (the
        rescaled entropy plot of Baudry et al. 2010).
        ``"misclassification"``: those with the largest share of one that is taken for the other,
        estimated from the responsibilities (DEMP; Hennig 2010), until it falls below `threshold`.
    threshold : float, default 0.025
        Share of a cluster, in (0, 1), that may be misclassified; for ``"misclassification"``.

    Returns
    -------
    Dataset
        ``cluster`` (n_clusters, component): the cluster of each component, numbered by their
        first components, on the path of the probabilities that `predict_proba` gives.
        ``entropy`` (chain, draw, n_clusters), in nats, and ``criterion``: what merging one pair
        more gains, on the path of each draw. ``proposed`` (chain, draw): the number of clusters
        that a draw proposes, and ``probability`` (n_clusters), the share of draws that do.
        ``together`` (n_clusters, component, component2): the share of draws whose own path has
        two components in one cluster. The attribute ``n_clusters`` is the number that most draws
        propose.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or `criterion` is unknown.

    Notes
    -----
    An empty component, of less than half a row, is merged first. No bend can be at one cluster nor
    at all components: with fewer than three that are not empty, or where the entropy is below
    log 2, that of one undecided row, all are proposed. ``"misclassification"`` can propose any
    number.

    Every draw has a path of its own, which no permutation of its components changes: ``entropy``,
    ``criterion``, ``proposed`` and ``probability`` hold whatever the alignment. ``cluster`` and
    ``together`` are as good as the alignment is: where components of different draws are not the
    same their clusters blur.

    Weighted rows count as often as their weights say: of weights that are no integers, or add up
    to more than there are rows and 5,000, rows are repeated as nearly as that allows.

    Noise is merged with nothing: with noise the entropy is that of the clusters of rows given that
    they are of one, and a row counts as far as it is probable to be.

    O(S N K (D^2 + K)) operations for S draws, in as many threads as there are cores; 2 K N numbers
    for each. Thin many draws: ``tree.isel(draw=slice(None, None, 10))``.

    References
    ----------
    Baudry, Raftery, Celeux, Lo & Gottardo (2010), Combining mixture components for clustering,
    J. Computational and Graphical Statistics 19. doi:10.1198/jcgs.2010.08111

    Hennig (2010), Methods for merging Gaussian mixture components, Advances in Data Analysis and
    Classification 4. doi:10.1007/s11634-010-0058-3

    Examples
    --------
    The clusters' own probabilities are sums over their components:

    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 3, method="map", random_seed=1)
    >>> merged = bg.merge_components(tree)
    >>> cluster = merged["cluster"].sel(n_clusters=merged.attrs["n_clusters"])
    >>> cluster.values
    array([0, 0, 1])
    >>> bg.predict_proba(tree).groupby(cluster).sum().sizes["cluster"]
    2
    """
    require(tree, names.CONSTANT_DATA, names.OBSERVED_DATA, function="merge_components")
    require_draws(tree, names.POSTERIOR, function="merge_components")
    check_choice(criterion, "criterion", CRITERIA)
    threshold = check_share(threshold, "threshold", "0.025 is usual.")
    draws, weights = mixtures(tree), observed(tree).weights
    every = fitted_rows(tree, draws)
    rows, which = standing(every, weights, max(MATCHED_ROWS, every.shape[1]))
    overall = probability_of(tree, None, "merge_components")[1].values.T[:, which]
    overall = overall[: draws.means.shape[1]]
    clusters, values, entropies, proposed = _paths(draws, rows, criterion, threshold)
    if weights is not None:
        entropies *= weights.sum() / rows.shape[1]
        values *= weights.sum() / rows.shape[1] if criterion == names.ENTROPY else 1.0
    n_draws, n_components = values.shape
    path = np.empty((n_components, n_components), dtype=np.int64)
    merge_path(
        np.ascontiguousarray(overall), criterion == names.ENTROPY, path,
        *np.empty((3, n_components)),
    )  # fmt: skip
    together = (clusters[..., :, None] == clusters[..., None, :]).mean(axis=0)
    counts = np.bincount(proposed, minlength=n_components + 1)[1:]
    posterior = tree[names.POSTERIOR].dataset
    sample = (names.CHAIN, names.DRAW)
    shape = tuple(posterior.sizes[dim] for dim in sample)
    component = posterior[names.COMPONENT].values
    each = (*sample, names.N_CLUSTERS)
    pair = (names.N_CLUSTERS, names.COMPONENT, names.COMPONENT2)
    attrs: dict[str, Any] = {
        names.N_CLUSTERS: int(counts.argmax()) + 1, names.CRITERION: criterion,
    }  # fmt: skip
    if criterion == names.MISCLASSIFICATION:
        attrs[names.THRESHOLD] = threshold
    return xr.Dataset(
        {
            names.CLUSTER: ((names.N_CLUSTERS, names.COMPONENT), path),
            names.ENTROPY: (each, entropies.reshape(*shape, -1)),
            names.CRITERION: (each, values.reshape(*shape, -1)),
            names.PROPOSED: (sample, proposed.reshape(shape)),
            names.PROBABILITY: (names.N_CLUSTERS, counts / n_draws),
            names.TOGETHER: (pair, together),
        },
        coords={
            **{dim: posterior[dim].variable for dim in sample},
            names.N_CLUSTERS: np.arange(1, n_components + 1),
            names.COMPONENT: component,
            names.COMPONENT2: component,
        },
        attrs=attrs,
    )


def _paths(
    draws: Mixtures, rows: NDArray[np.float64], criterion: str, threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Return clusters, gains, entropies and numbers of clusters of all draws."""
    n_draws, n_components = draws.means.shape[:2]
    fill_some = _fill_beside_noise if len(draws.box) else fill_paths
    clusters = np.empty((n_draws, n_components, n_components), dtype=np.int64)
    values, entropies = (np.empty((n_draws, n_components)) for _ in range(2))
    proposed = np.empty(n_draws, dtype=np.int64)

    def fill(part: slice) -> None:
        for some, shares in responsibilities(rows, draws[:3], part):
            fill_some(
                shares, criterion == names.ENTROPY, threshold,
                clusters[some], values[some], entropies[some], proposed[some],
            )  # fmt: skip

    over_draws(fill, n_draws)
    return clusters, values, entropies, proposed


def _fill_beside_noise(
    shares: NDArray[np.float64],
    entropy: bool,
    threshold: float,
    clusters: NDArray[np.int64],
    values: NDArray[np.float64],
    entropies: NDArray[np.float64],
    proposed: NDArray[np.int64],
) -> None:
    """Write what `fill_paths` does of responsibilities of which the last are those of noise."""
    sizes = np.empty(shares.shape[1] - 1)
    for s, every in enumerate(shares):
        of_components = np.ascontiguousarray(every[:-1])
        of_one_cluster = entr(of_components.sum(axis=0)).sum()
        occupied = merge_path(of_components, entropy, clusters[s], values[s], entropies[s], sizes)
        entropies[s, 1:] = np.maximum(entropies[s, 1:] - of_one_cluster, 0.0)
        if entropy:
            proposed[s] = elbow(entropies[s], sizes, occupied)
        else:
            proposed[s] = stop(values[s], occupied, threshold)
