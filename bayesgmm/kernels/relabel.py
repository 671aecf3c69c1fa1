"""Undoing label switching: the components of every draw matched to one partition of the rows."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.assignment import assign_all
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.threads import over_draws

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

MATCHED_ROWS = 10_000
"""Draws are matched to one another by at most this many rows."""
NO_ARRAY = np.empty((0, 0))
NO_CUBE = np.empty((0, 0, 0))
NO_LABELS = np.empty(0, dtype=np.int64)


def partition_of(rows: Array, log_weights: Array, means: Array, cholesky: Array) -> Labels:
    """Return the most probable component of every row under one mixture, shape (N,).

    Parameters are those of `match_to_partition` without the leading S.
    """
    shares = np.zeros((1, len(log_weights), rows.shape[1]))
    fill_draws(
        rows, log_weights[None], means[None], cholesky[None],
        NO_ARRAY, shares, NO_LABELS, NO_CUBE,
    )  # fmt: skip
    return np.asarray(shares[0].argmax(axis=0), dtype=np.int64)


def match_to_partition(
    rows: Array, log_weights: Array, means: Array, cholesky: Array, labels: Labels
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
    O(S N K D^2 + S K^4) operations, in as many threads as there are cores; memory O(S K^2).
    """
    n_draws, n_components = log_weights.shape
    confusion = np.empty((n_draws, n_components, n_components))
    permutation = np.empty((n_draws, n_components), dtype=np.int64)
    lead = np.empty(n_draws)

    def match(part: slice) -> None:
        fill_draws(
            rows, log_weights[part], means[part], cholesky[part],
            NO_ARRAY, NO_CUBE, labels, confusion[part],
        )  # fmt: skip
        permutation[part], lead[part] = assign_all(confusion[part])

    over_draws(match, n_draws)
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
    rows: Array, log_weights: Array, means: Array, cholesky: Array, pivot: int
) -> tuple[Labels, Array]:
    """Match all draws to the partition of one of them, and order the components.

    Parameters are those of `match_to_partition`, with the index of a draw in place of labels. Of
    more than 10,000 rows as many, evenly spaced, stand for all: margins are then off by 0.01 or
    so, and draws with smaller ones may be matched otherwise.

    Returns
    -------
    permutation, margin : arrays, shapes (S, K) and (S,)
    """
    rows = np.ascontiguousarray(rows[:, :: -(-rows.shape[1] // MATCHED_ROWS)])
    labels = partition_of(rows, log_weights[pivot], means[pivot], cholesky[pivot])
    permutation, margin = match_to_partition(rows, log_weights, means, cholesky, labels)
    which = np.arange(len(permutation))[:, None]
    return permutation[:, order_of(means[which, permutation].mean(axis=0))], margin
