"""Undoing label switching, by any of the methods, and naming the components."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.factor_loadings import dense
from bayesgmm.kernels.likeness import fill_affinities
from bayesgmm.kernels.relabel import order_within, partition_of
from bayesgmm.kernels.stephens import Mixtures, confusions, leads, match_each, relabel
from bayesgmm.kernels.threads import over_draws

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

MATCHED_ROWS: Final = 5_000
"""Draws are matched to one another by at most this many rows."""
DEFAULT: Final = "stephens"
"""Of the methods: the lowest cost wherever components overlap, and the same elsewhere."""


def every_so_many(n_obs: int) -> int:
    """Return the step by which rows are taken, so that there are not too many of them."""
    return -(-n_obs // MATCHED_ROWS)


def match_draws(
    rows: Array,
    mixtures: Mixtures,
    pivot: int,
    method: str,
    partition: Labels | None = None,
    groups: Labels | None = None,
) -> tuple[Labels, Array]:
    """Match the components of all draws to one another, and order them.

    Parameters
    ----------
    rows : array, shape (D, N) or (D + K, N)
        Standardised data.
    mixtures : tuple of arrays
        Shapes (S, K), (S, K, D), (S, K, D, D).
    pivot : int
        The draw to begin with.
    method : str
        ``"ecr"``, ``"ecr_iterative"``, ``"stephens"``, ``"parameters"`` or ``"labels"``.
    partition : array of int, shape (N,), optional
        To begin with in place of the pivot's: labels 0 .. K - 1; for ``"labels"``, -1 of rows
        whose label is not known.
    groups : array of int, shape (K,), optional
        Components with the same number may swap names; by default all.

    Returns
    -------
    permutation : array of int, shape (S, K)
        ``aligned[s, j] = raw[s, permutation[s, j]]``. Components are in the order of their
        aligned means in the first feature, those of every group in its places; with ``"labels"``,
        component j is label j, and those without a label are in that order.
    margin : array, shape (S,)
        Share of the rows, in [0, 1], by which the matching beats the best other one; 1 if there
        is only one component.

    Notes
    -----
    Of more than 5,000 rows as many, evenly spaced, stand for all.
    """
    log_weights, means, cholesky = mixtures
    n_draws, n_components = log_weights.shape
    if groups is None:
        groups = np.zeros(n_components, dtype=np.int64)
    alike = groups[:, None] == groups
    if np.unique(groups).size == n_components:  # there is but one naming
        return np.tile(np.arange(n_components), (n_draws, 1)), np.ones(n_draws)
    known = np.zeros(n_components, dtype=bool)
    some = slice(None, None, every_so_many(rows.shape[1]))
    if method == "labels" and partition is not None:
        known[np.unique(partition[partition >= 0])] = True
        partition = _completed(rows, mixtures, pivot, partition)
    some_rows = np.ascontiguousarray(rows[:, some])
    if partition is None:
        labels = partition_of(some_rows, log_weights[pivot], means[pivot], cholesky[pivot])
    else:
        labels = partition[some]
    if method == "parameters":
        permutation = _most_alike(mixtures, pivot, alike)
        confusion = confusions(some_rows, mixtures, labels)
        confusion[:, ~alike] = -np.inf
        lead = leads(confusion, permutation)
    else:
        rule = "ecr" if method == "labels" else method
        permutation, lead = relabel(some_rows, mixtures, labels, rule, alike)
    which = np.arange(n_draws)[:, None]
    average = means[which, permutation].mean(axis=0)
    named = np.where(known, groups.max() + 1 + np.arange(n_components), groups)
    order = order_within(named, average)
    margin = np.minimum(lead.min(axis=1) / some_rows.shape[1], 1.0)
    return np.ascontiguousarray(permutation[:, order]), margin


def _most_alike(mixtures: Mixtures, pivot: int, alike: NDArray[np.bool_]) -> Labels:
    """Return the matching of all draws to one that makes components most alike."""
    log_weights, means, factors = mixtures
    cholesky = dense(factors, means.shape[2])
    permutation = np.empty(log_weights.shape, dtype=np.int64)

    def do(part: slice) -> None:
        gains = np.empty((part.stop - part.start, *2 * log_weights.shape[1:]))
        fill_affinities(means[part], cholesky[part], means[pivot], cholesky[pivot], gains)
        gains[:, ~alike] = -np.inf
        match_each(gains, permutation[part], np.empty(len(gains)))

    over_draws(do, len(permutation))
    return permutation


def _completed(rows: Array, mixtures: Mixtures, pivot: int, labels: Labels) -> Labels:
    """Return labels of all rows: those known, else the pivot's, named so as to agree with them."""
    log_weights, means, cholesky = (part[pivot : pivot + 1] for part in mixtures)
    known = labels >= 0
    there = np.ascontiguousarray(rows[:, known])
    confusion = confusions(there, (log_weights, means, cholesky), labels[known])
    permutation = np.empty(log_weights.shape, dtype=np.int64)
    match_each(confusion, permutation, np.empty(1))
    named = (part[0, permutation[0]] for part in (log_weights, means, cholesky))
    return np.where(known, labels, partition_of(rows, *named))
