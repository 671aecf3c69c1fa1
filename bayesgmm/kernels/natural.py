"""A mixture as an exponential family: features of a row, natural parameters of a component."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]


@kernel
def n_features_natural(n_features: int) -> int:
    """Return Q = 1 + D + D (D + 1) / 2, the number of features of a row of D numbers."""
    return 1 + n_features + n_features * (n_features + 1) // 2


@kernel
def fill_features(rows: Array, phi: Array) -> None:
    """Write the features (1, x_d, x_d x_e for e <= d) of some rows.

    Parameters
    ----------
    rows : array, shape (D, n)
    phi : array, shape (Q, n)
        Overwritten.
    """
    n_dim, n = rows.shape
    for i in range(n):
        phi[0, i] = 1.0
    q = 1 + n_dim
    for d in range(n_dim):
        for i in range(n):
            phi[1 + d, i] = rows[d, i]
        for e in range(d + 1):
            for i in range(n):
                phi[q, i] = rows[d, i] * rows[e, i]
            q += 1


@kernel
def fill_natural(constants: Array, means: Array, whiteners: Array, theta: Array) -> None:
    """Write the natural parameters (c_k, Lambda_k mu_k, -Lambda_k halved on the diagonal).

    Parameters
    ----------
    constants : array, shape (K,)
        Log-weight plus the log of the Normal's normalising constant.
    means : array, shape (K, D)
    whiteners : array, shape (K, D, D)
        Inverses of the lower Cholesky factors of the covariances.
    theta : array, shape (K, Q)
        Overwritten, so that ``theta @ phi`` is the log of weight times density.
    """
    n_components, n_dim = means.shape
    for k in range(n_components):
        whitener = whiteners[k]
        constant = constants[k]
        theta[k, 1 : 1 + n_dim] = 0.0
        for d in range(n_dim):
            whitened_mean = 0.0
            for e in range(d + 1):
                whitened_mean += whitener[d, e] * means[k, e]
            constant -= 0.5 * whitened_mean * whitened_mean
            for e in range(d + 1):
                theta[k, 1 + e] += whitener[d, e] * whitened_mean
        theta[k, 0] = constant
        q = 1 + n_dim
        for d in range(n_dim):
            for e in range(d + 1):
                precision = 0.0
                for f in range(d, n_dim):
                    precision += whitener[f, d] * whitener[f, e]
                theta[k, q] = -0.5 * precision if e == d else -precision
                q += 1


@kernel
def sandwich(triangle: Array, symmetric: Array, out: Array) -> None:
    """Write A S A' for a lower triangle A and a symmetric S, all of shape (D, D)."""
    n_dim = triangle.shape[0]
    row = np.empty(n_dim)
    for i in range(n_dim):
        for j in range(n_dim):
            row[j] = 0.0
        for m in range(i + 1):
            for j in range(n_dim):
                row[j] += triangle[i, m] * symmetric[m, j]
        for j in range(i + 1):
            total = 0.0
            for m in range(j + 1):
                total += row[m] * triangle[j, m]
            out[i, j] = total
            out[j, i] = total


@kernel
def whiten_statistics(
    statistics: Array,
    means: Array,
    whiteners: Array,
    counts: Array,
    first: Array,
    second: Array,
) -> None:
    """Turn weighted sums of the features into moments of the whitened rows.

    Parameters
    ----------
    statistics : array, shape (K, Q)
        Sums over rows of responsibility times feature.
    means, whiteners : arrays, shapes (K, D) and (K, D, D)
    counts, first, second : arrays, shapes (K,), (K, D), (K, D, D)
        Overwritten with the sums of r, r y and r y y', where y = whitener (x - mean).
    """
    n_components, n_dim = means.shape
    centred = np.empty(n_dim)
    moments = np.empty((n_dim, n_dim))
    for k in range(n_components):
        n = statistics[k, 0]
        mean = means[k]
        counts[k] = n
        for d in range(n_dim):
            centred[d] = statistics[k, 1 + d] - n * mean[d]
        q = 1 + n_dim
        for d in range(n_dim):
            for e in range(d + 1):
                value = statistics[k, q] - statistics[k, 1 + d] * mean[e] - mean[d] * centred[e]
                moments[d, e] = value
                moments[e, d] = value
                q += 1
        whitener = whiteners[k]
        for d in range(n_dim):
            total = 0.0
            for e in range(d + 1):
                total += whitener[d, e] * centred[e]
            first[k, d] = total
        sandwich(whitener, moments, second[k])
