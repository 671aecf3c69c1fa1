"""First guesses for EM: labels of the rows, and the parameters that follow from them."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, unconstrain
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.mstep import Penalty, m_step

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

BEGIN_NOISE: Final = 0.05
"""Share of the rows that noise begins with."""


@kernel
def _update_nearest(
    rows: Array, offsets: Array, centre: Array, k: int, nearest: Array, labels: Labels
) -> None:
    """Give the rows that may, and are nearer to `centre` than to any before, the label k."""
    n_dim, n_rows = rows.shape
    known = offsets.shape[0] > 0
    distance = np.zeros(n_rows)
    for d in range(n_dim):
        for i in range(n_rows):
            gap = rows[d, i] - centre[d]
            distance[i] += gap * gap
    for i in range(n_rows):
        if distance[i] < nearest[i] and not (known and offsets[k, i] == -np.inf):
            nearest[i] = distance[i]
            labels[i] = k


@kernel
def _told(offsets: Array, i: int) -> int:
    """Return the component that a row's label speaks for more than for any other, or -1."""
    best = 0
    for k in range(1, offsets.shape[0]):
        if offsets[k, i] > offsets[best, i]:
            best = k
    for k in range(offsets.shape[0]):
        if k != best and offsets[k, i] == offsets[best, i]:
            return -1
    return best


@kernel
def _choose(offsets: Array, row_weights: Array, nearest: Array, k: int, uniform: float) -> int:
    """Return a row, drawn by its squared distance from the nearest centre and its weight."""
    n_rows = nearest.size
    share = np.empty(n_rows)
    total = 0.0
    for i in range(n_rows):
        share[i] = 1.0 if nearest[i] == np.inf else nearest[i]
        if row_weights.size > 0:
            share[i] *= row_weights[i]
        if offsets.shape[0] > 0 and offsets[k, i] == -np.inf:
            share[i] = 0.0
        total += share[i]
    chosen = 0
    passed = share[0]
    while passed <= uniform * total and chosen < n_rows - 1:
        chosen += 1
        passed += share[chosen]
    return chosen


@kernel
def kmeans_labels(
    rows: Array, offsets: Array, row_weights: Array, uniforms: Array, sweeps: int
) -> Labels:
    """Return k-means labels from a k-means++ start (Arthur & Vassilvitskii 2007).

    Where labels are known, components that they name start at the mean of their rows, and rows
    keep to what their labels allow (Basu, Banerjee & Mooney 2002).

    Parameters
    ----------
    rows : array, shape (D, N)
    offsets : array, shape (K, N) or (0, N)
        What is known of the labels, as `kernels.estep.e_step` has it below the rows.
    row_weights : array, shape (N,) or (0,)
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
    weighted = row_weights.size > 0
    centres = np.zeros((n_components, n_dim))
    sizes = np.zeros(n_components)
    nearest = np.full(n_rows, np.inf)
    labels = np.zeros(n_rows, dtype=np.int64)
    if offsets.shape[0] > 0:
        for i in range(n_rows):
            k = _told(offsets, i)
            if k >= 0:
                weight = row_weights[i] if weighted else 1.0
                sizes[k] += weight
                for d in range(n_dim):
                    centres[k, d] += weight * rows[d, i]
    for k in range(n_components):
        if sizes[k] > 0:
            for d in range(n_dim):
                centres[k, d] /= sizes[k]
            _update_nearest(rows, offsets, centres[k], k, nearest, labels)
    for k in range(n_components):
        if sizes[k] > 0:
            continue
        chosen = _choose(offsets, row_weights, nearest, k, uniforms[k])
        for d in range(n_dim):
            centres[k, d] = rows[d, chosen]
        _update_nearest(rows, offsets, centres[k], k, nearest, labels)
    for _ in range(sweeps):
        sizes[:] = 0.0
        sums = np.zeros((n_components, n_dim))
        for i in range(n_rows):
            weight = row_weights[i] if weighted else 1.0
            sizes[labels[i]] += weight
            for d in range(n_dim):
                sums[labels[i], d] += weight * rows[d, i]
        nearest[:] = np.inf
        for k in range(n_components):
            for d in range(n_dim):
                if sizes[k] > 0:
                    centres[k, d] = sums[k, d] / sizes[k]
            _update_nearest(rows, offsets, centres[k], k, nearest, labels)
    return labels


@kernel
def vector_from_labels(
    layout: Layout, penalty: Penalty, rows: Array, row_weights: Array, labels: Labels
) -> tuple[bool, Array]:
    """Return the unconstrained vector that one M-step from hard labels gives.

    Parameters
    ----------
    layout : Layout
    penalty : Penalty
        Must make the M-step exist whatever the labels: `strength`, `scatter` and `freedom`
        positive.
    rows, row_weights : arrays, shapes (D, N) and (N,) or (0,)
        Lines of rows beyond D are not read.
    labels : array of int, shape (N,)

    Returns
    -------
    ok : bool
        Whether the M-step exists.
    vector : array, shape (P,)
    """
    n_components, n_dim = layout.n_components, layout.n_features
    counts = np.zeros(n_components + layout.n_noise)
    first = np.zeros((n_components, n_dim))
    second = np.zeros((n_components, n_dim, n_dim))
    for i in range(rows.shape[1]):
        k = labels[i]
        weight = row_weights[i] if row_weights.size > 0 else 1.0
        counts[k] += weight
        for d in range(n_dim):
            weighted = weight * rows[d, i]
            first[k, d] += weighted
            for e in range(n_dim):
                second[k, d, e] += weighted * rows[e, i]
    counts[n_components:] = BEGIN_NOISE * counts.sum()
    log_weights = np.empty(counts.size)
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
