"""First guesses for EM: labels of the rows, and the parameters that follow from them."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, unconstrain
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.mstep import Penalty, m_step

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


@kernel
def _update_nearest(rows: Array, centre: Array, k: int, nearest: Array, labels: Labels) -> None:
    """Give the rows that are nearer to `centre` than to any before the label k."""
    n_dim, n_rows = rows.shape
    distance = np.zeros(n_rows)
    for d in range(n_dim):
        for i in range(n_rows):
            gap = rows[d, i] - centre[d]
            distance[i] += gap * gap
    for i in range(n_rows):
        if distance[i] < nearest[i]:
            nearest[i] = distance[i]
            labels[i] = k


@kernel
def kmeans_labels(rows: Array, uniforms: Array, sweeps: int) -> Labels:
    """Return k-means labels from a k-means++ start (Arthur & Vassilvitskii 2007).

    Parameters
    ----------
    rows : array, shape (D, N)
    uniforms : array, shape (K,)
        Uniform random numbers in [0, 1), one per centre.
    sweeps : int
        Lloyd iterations.

    Returns
    -------
    array of int, shape (N,)
    """
    n_dim, n_rows = rows.shape
    n_components = uniforms.shape[0]
    centres = np.empty((n_components, n_dim))
    nearest = np.full(n_rows, np.inf)
    labels = np.zeros(n_rows, dtype=np.int64)
    chosen = min(int(uniforms[0] * n_rows), n_rows - 1)
    for k in range(n_components):
        if k > 0:
            total = 0.0
            for i in range(n_rows):
                total += nearest[i]
            target = uniforms[k] * total
            chosen = 0
            passed = nearest[0]
            while passed <= target and chosen < n_rows - 1:
                chosen += 1
                passed += nearest[chosen]
        for d in range(n_dim):
            centres[k, d] = rows[d, chosen]
        _update_nearest(rows, centres[k], k, nearest, labels)
    sizes = np.empty(n_components)
    for _ in range(sweeps):
        sizes[:] = 0.0
        sums = np.zeros((n_components, n_dim))
        for i in range(n_rows):
            sizes[labels[i]] += 1.0
            for d in range(n_dim):
                sums[labels[i], d] += rows[d, i]
        nearest[:] = np.inf
        for k in range(n_components):
            for d in range(n_dim):
                if sizes[k] > 0:
                    centres[k, d] = sums[k, d] / sizes[k]
            _update_nearest(rows, centres[k], k, nearest, labels)
    return labels


@kernel
def vector_from_labels(
    layout: Layout, penalty: Penalty, rows: Array, labels: Labels
) -> tuple[bool, Array]:
    """Return the unconstrained vector that one M-step from hard labels gives.

    Parameters
    ----------
    layout : Layout
    penalty : Penalty
        Must make the M-step exist whatever the labels: `strength`, `scatter` and `freedom`
        positive.
    rows : array, shape (D, N)
    labels : array of int, shape (N,)

    Returns
    -------
    ok : bool
        Whether the M-step exists.
    vector : array, shape (P,)
    """
    n_components, n_dim = layout.n_components, layout.n_features
    counts = np.zeros(n_components)
    first = np.zeros((n_components, n_dim))
    second = np.zeros((n_components, n_dim, n_dim))
    for i in range(rows.shape[1]):
        k = labels[i]
        counts[k] += 1.0
        for d in range(n_dim):
            first[k, d] += rows[d, i]
            for e in range(n_dim):
                second[k, d, e] += rows[d, i] * rows[e, i]
    log_weights = np.empty(n_components)
    means = np.zeros((n_components, n_dim))
    cholesky = np.zeros((n_components, n_dim, n_dim))
    for k in range(n_components):
        for d in range(n_dim):
            cholesky[k, d, d] = 1.0
    ok = m_step(layout, penalty, counts, first, second, log_weights, means, cholesky)
    if not ok:
        return False, np.empty(0)
    floor = np.zeros(layout.scale_columns)
    return True, unconstrain(layout, floor, log_weights, means, cholesky)
