"""Undoing label switching: the components of every draw matched to one partition of the rows."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.assignment import assign_all
from bayesgmm.kernels.draws import fill_draws

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

NO_ARRAY = np.empty((0, 0))
NO_CUBE = np.empty((0, 0, 0))
NO_LABELS = np.empty(0, dtype=np.int64)


def partition_of(
    rows: Array, log_weights: Array, means: Array, cholesky: Array, reach: float
) -> Labels:
    """Return the most probable component of every row under one mixture, shape (N,).

    Parameters are those of `match_to_partition` without the leading S.
    """
    shares = np.zeros((1, len(log_weights), rows.shape[1]))
    fill_draws(
        rows, log_weights[None], means[None], cholesky[None], reach,
        NO_ARRAY, shares, NO_LABELS, NO_CUBE,
    )  # fmt: skip
    return np.asarray(shares[0].argmax(axis=0), dtype=np.int64)


def match_to_partition(
    rows: Array, log_weights: Array, means: Array, cholesky: Array, reach: float, labels: Labels
) -> tuple[Labels, Array]:
    """Match the components of every draw to the labels of a partition (ECR).

    The equivalence-classes-representatives rule of Papastamoulis & Iliopoulos (2010), with
    responsibilities in place of sampled allocations: the permutation of a draw's components that
    gives the rows the largest total probability of their own label.

    Parameters
    ----------
    rows : array, shape (D, N)
        Standardised data.
    log_weights, means, cholesky : arrays, shapes (S, K), (S, K, D), (S, K, D, D)
    reach : float
        Largest absolute entry of `rows`.
    labels : array of int, shape (N,)
        The pivot, values in 0 .. K - 1.

    Returns
    -------
    permutation : array of int, shape (S, K)
        ``aligned[s, j] = raw[s, permutation[s, j]]``.
    margin : array, shape (S,)
        Share of the rows, in [0, 1], by which the best matching beats the second best; 1 if
        there is only one component.

    Notes
    -----
    O(S N K D^2 + S K^4) operations; memory O(S K^2).
    """
    n_draws, n_components = log_weights.shape
    confusion = np.empty((n_draws, n_components, n_components))
    fill_draws(rows, log_weights, means, cholesky, reach, NO_ARRAY, NO_CUBE, labels, confusion)
    permutation, lead = assign_all(confusion)
    return permutation, np.minimum(lead / rows.shape[1], 1.0)


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


def align_draws(
    rows: Array, log_weights: Array, means: Array, cholesky: Array, reach: float, pivot: int
) -> tuple[Labels, Array]:
    """Match all draws to the partition of one of them, and order the components.

    Parameters are those of `match_to_partition`, with the index of a draw in place of labels.

    Returns
    -------
    permutation, margin : arrays, shapes (S, K) and (S,)
    """
    labels = partition_of(rows, log_weights[pivot], means[pivot], cholesky[pivot], reach)
    permutation, margin = match_to_partition(rows, log_weights, means, cholesky, reach, labels)
    which = np.arange(len(permutation))[:, None]
    return permutation[:, order_of(means[which, permutation].mean(axis=0))], margin
