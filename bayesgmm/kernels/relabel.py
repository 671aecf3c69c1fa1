"""Names of components: the partition of the rows that one mixture means, and their order."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.draws import fill_draws

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

NO_ARRAY = np.empty((0, 0))
NO_CUBE = np.empty((0, 0, 0))
NO_LABELS = np.empty(0, dtype=np.int64)


def partition_of(rows: Array, log_weights: Array, means: Array, cholesky: Array) -> Labels:
    """Return the most probable component of every row under one mixture, shape (N,).

    Parameters
    ----------
    rows : array, shape (D, N)
        Standardised data.
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D, D)
    """
    shares = np.zeros((1, len(log_weights), rows.shape[1]))
    fill_draws(
        rows, log_weights[None], means[None], cholesky[None],
        NO_ARRAY, shares, NO_LABELS, NO_CUBE,
    )  # fmt: skip
    return np.asarray(shares[0].argmax(axis=0), dtype=np.int64)


def order_of(means: Array) -> Labels:
    """Return the order in which components are reported: by their means, feature by feature.

    Parameters
    ----------
    means : array, shape (K, D)

    Returns
    -------
    array of int, shape (K,)
        Increasing in the first feature; ties are broken by the next.
    """
    return np.asarray(np.lexsort(means.T[::-1]), dtype=np.int64)


def order_within(groups: Labels, means: Array) -> Labels:
    """Return the order of components, shape (K,), those of every group in its own places."""
    order = np.arange(len(means))
    for group in np.unique(groups):
        places = np.flatnonzero(groups == group)
        order[places] = places[order_of(means[places])]
    return order
