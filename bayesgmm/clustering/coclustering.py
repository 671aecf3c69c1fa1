"""How probable it is that two rows belong together."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.clustering.allocations import BLOCK_BYTES, label_draws, noise_shares, shares_of
from bayesgmm.errors import check_choice
from bayesgmm.kernels.agreement import agreements
from bayesgmm.labels import listed
from bayesgmm.prediction import LARGEST_RESULT, Mixtures, fitted_rows, mixtures
from bayesgmm.tree import require

type Array = NDArray[np.float64]

METHODS: Final = ("responsibilities", "allocations")


def similarity(
    source: Any,
    *,
    rows: Any = None,
    method: str | None = None,
    random_seed: int | None = None,
) -> xr.DataArray:
    """Return the posterior probability that two rows belong to the same cluster.

    Parameters
    ----------
    source : DataTree, DataArray, DataFrame or array of int, shape (n_draws, n_obs)
        A fit; or labels that any sampler gave, as `partition` takes them.
    rows : label or sequence of labels, optional
        Rows to compare with all others, by their labels along ``obs``; by default all. Of many
        rows the whole matrix is too large, and this gives any part of it.
    method : str, optional
        ``"responsibilities"``: the responsibilities of two rows multiplied, summed over
        components and averaged over the draws: what allocations would give if infinitely many
        were sampled for each draw. ``"allocations"``: the share of the draws in which both rows
        are in one cluster. By default the first for a fit and the second for labels, which allow
        no other.
    random_seed : int, optional
        Where the allocations of a fit are sampled, the same seed gives the same.

    Returns
    -------
    DataArray, dims (obs, obs2)
        Probabilities; symmetric, if `rows` is left out. A row belongs with itself: the diagonal
        is 1. ``obs2`` has the labels of all rows. Two rows that are both noise belong together:
        noise is a group as any, of the rows that are of no cluster.

    Raises
    ------
    TypeError, ValueError
        If `source` is no fit and holds no draws of labels, `method` is unknown or needs a fit,
        `rows` are not among those of `source`, or the result would take more than 2 GiB.

    Notes
    -----
    Responsibilities: 2 n_rows N S K operations for S draws of K components, in matrix products,
    and the pass for all draws; allocations: n_rows N S comparisons, 64 at a time. Memory for the
    result and 128 MiB; allocations also take 5 N S bytes.

    References
    ----------
    Binder (1978), Bayesian cluster analysis, Biometrika 65. doi:10.1093/biomet/65.1.31

    Examples
    --------
    >>> import bayesgmm as bg
    >>> bg.similarity([[0, 0, 1], [0, 1, 1]]).values
    array([[1. , 0.5, 0. ],
           [0.5, 1. , 0.5],
           [0. , 0.5, 1. ]])
    """
    fitted = isinstance(source, xr.DataTree)
    method = check_choice(method or METHODS[not fitted], "method", METHODS)
    if method == "allocations":
        draws = label_draws(source, random_seed=random_seed, function="similarity")
        obs = draws[names.OBS].variable
        chosen = _chosen(obs, rows)
        values = agreements(draws.values, chosen) / draws.sizes[names.DRAW]
    else:
        if not fitted:
            raise ValueError(
                f"`method` must be 'allocations' for labels; got {method!r} with an object of "
                f"type {type(source).__name__}. Leave it out, or pass a fit."
            )
        require(
            source, names.POSTERIOR, names.CONSTANT_DATA, names.OBSERVED_DATA,
            function="similarity", argument="source",
        )  # fmt: skip
        obs = source[names.OBSERVED_DATA].dataset[names.OBS].variable
        chosen = _chosen(obs, rows)
        mixture = mixtures(source)
        values = _products(mixture, fitted_rows(source, mixture), chosen, whole=rows is None)
    values[np.arange(len(chosen)), chosen] = 1.0
    return xr.DataArray(
        values, dims=(names.OBS, names.OBS2), name="similarity",
        coords={names.OBS: obs[chosen], names.OBS2: (names.OBS2, obs.values, obs.attrs)},
    )  # fmt: skip


def membership(draws: xr.DataArray, labels: NDArray[np.int64]) -> Array:
    """Return how often each row is with the others of its cluster, shape (N,).

    Parameters
    ----------
    draws : DataArray of int, dims (draw, obs)
        As `label_draws` returns them.
    labels : array of int, shape (N,)
        A partition, clusters numbered 0, 1, ... without gaps, and noise -1.

    Returns
    -------
    array, shape (N,)
        The mean probability that the row shares a cluster with another of its own; if there is
        none, the probability that it is alone. In [0, 1]. Of a row of noise the probability
        that it is noise.

    Notes
    -----
    O(N S) operations, without a matrix of rows by rows.
    """
    is_noise, labels = labels < 0, np.unique(labels, return_inverse=True)[1]
    n, n_clusters = len(labels), int(labels.max()) + 1
    others = np.bincount(labels)[labels] - 1
    total = np.zeros(n)
    for drawn in draws.values:
        pairs = drawn * n_clusters + labels
        together = np.bincount(pairs)[pairs] - 1
        alone = np.bincount(drawn)[drawn] == 1
        total += np.where(others > 0, together / np.maximum(others, 1), alone)
    return np.where(is_noise, noise_shares(draws), total / len(draws))


def ordered(values: Array, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of a similarity matrix, cluster by cluster, in the order of their likeness.

    Parameters
    ----------
    values : array, shape (n, n)
        Similarities.
    labels : array of int, shape (n,)
        A partition.

    Returns
    -------
    array of int, shape (n,)
        Clusters ascend, and noise, -1, is last; within each, rows are in the order of the leaves
        of average linkage.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage

    order = []
    clusters = np.unique(labels)
    for k in np.roll(clusters, -int((clusters < 0).sum())):
        rows = np.flatnonzero(labels == k)
        if len(rows) > 2:
            among = values[np.ix_(rows, rows)]
            rows = rows[leaves_list(linkage(1.0 - among[np.triu_indices(len(rows), 1)], "average"))]
        order.append(rows)
    return np.concatenate(order)


def _chosen(obs: xr.Variable, rows: Any) -> NDArray[np.int64]:
    """Return the places of the rows that are asked for, refusing too many of them."""
    places = np.arange(obs.size)
    if rows is not None:
        wanted = np.atleast_1d(np.asarray(rows))
        index = obs.to_index()
        if not index.is_unique:
            raise ValueError(
                "`rows` must be left out where labels of rows are not unique; got some that are "
                "there more than once. Number the rows anew."
            )
        places = index.get_indexer(wanted)
        if wanted.ndim != 1 or wanted.size == 0 or (places < 0).any():
            unknown = wanted.ravel()[places < 0].tolist() if wanted.ndim == 1 else []
            raise ValueError(
                f"`rows` must be labels of rows, one at least; got {listed(unknown) or rows}. "
                f"They are {listed(obs.values.tolist())}."
            )
    size = 8 * len(places) * obs.size
    if size > LARGEST_RESULT:
        raise ValueError(
            f"`rows` must leave the result under 2 GiB; got {len(places)} of {obs.size} rows, "
            f"{size / 2**30:.1f} GiB. Choose some rows, or take `partition`, which needs no matrix."
        )
    return np.asarray(places, dtype=np.int64)


def _products(draws: Mixtures, rows: Array, chosen: NDArray[np.int64], *, whole: bool) -> Array:
    """Return the products of responsibilities averaged over the draws, shape (n_rows, N)."""
    from scipy.linalg.blas import dsyrk

    n_draws, n_components = draws.log_weights.shape
    n = rows.shape[1]
    total = np.zeros((len(chosen), n), order="F" if whole else "C")
    step = max(1, BLOCK_BYTES // (8 * n_components * n))
    for start in range(0, n_draws, step):
        part = slice(start, start + step)
        shares = shares_of(draws.of(part), rows).reshape(-1, n)
        if whole:
            total = dsyrk(1.0, shares.T, beta=1.0, c=total, overwrite_c=True)
        else:
            total += shares[:, chosen].T @ shares
    total /= n_draws
    if whole:
        total = np.triu(total) + np.triu(total, 1).T
    return np.asarray(np.minimum(total, 1.0))
