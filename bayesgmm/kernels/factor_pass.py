"""The pass over the data for factor analysers: linear in the features, and in the factors.

With Sigma = W W' + Psi, Psi = diag(psi)^2, and M = 1 + W' Psi^-1 W (Woodbury), the scores of a row
and what is left of it are

    s = G (x - mu), G = M^-1 W' Psi^-1          e = x - mu - W s
    (x - mu)' Sigma^-1 (x - mu) = e' Psi^-1 e + s' s

a sum of squares: nothing cancels, however small the uniquenesses are. As Sigma^-1 (x - mu) =
Psi^-1 e and Sigma^-1 W = G', all derivatives follow from the sums n = sum r, sum r e, sum r e^2 and
sum r e s', and so does an M-step: s = W' Psi^-1 e.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.blocks import add_offsets, copy_block
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import BLOCK, CACHE, LEAST, LOG_2PI
from bayesgmm.kernels.tiles import PADDING, plain_softmax_block, softmax_block

type Array = NDArray[np.float64]


@kernel
def factor_block_size(n_rows: int, n_components: int, n_dim: int, n_factors: int) -> int:
    """Return how many rows to work on at a time: a multiple of `PADDING`."""
    size = BLOCK
    while size > LEAST and size * (n_components + 1) * (n_dim + n_factors + 1) > CACHE:
        size //= 2
    return max(PADDING, min(size, (n_rows + PADDING - 1) // PADDING * PADDING))


@kernel
def fill_gains(factors: Array, gains: Array, precisions: Array, log_determinants: Array) -> None:
    """Write what turns rows into scores.

    Parameters
    ----------
    factors : array, shape (K, D, q + 1)
        [W psi].
    gains : array, shape (K, q, D)
        Overwritten with G.
    precisions : array, shape (K, D)
        Overwritten with 1 / psi^2.
    log_determinants : array, shape (K,)
        Overwritten with half those of the covariances.

    Notes
    -----
    O(K D q^2).
    """
    n_components, n_dim, width = factors.shape
    q = width - 1
    capacity = np.empty((q, q))
    for k in range(n_components):
        factor, gain = factors[k], gains[k]
        total = 0.0
        for i in range(q):
            for j in range(i + 1):
                capacity[i, j] = 1.0 if i == j else 0.0
        for d in range(n_dim):
            noise = factor[d, q]
            total += math.log(noise)
            precisions[k, d] = 1.0 / (noise * noise)
            for i in range(q):
                scaled = factor[d, i] * precisions[k, d]
                gain[i, d] = scaled
                for j in range(i + 1):
                    capacity[i, j] += scaled * factor[d, j]
        for i in range(q):  # its Cholesky factor, in place
            for j in range(i + 1):
                value = capacity[i, j]
                for m in range(j):
                    value -= capacity[i, m] * capacity[j, m]
                capacity[i, j] = math.sqrt(value) if i == j else value / capacity[j, j]
            total += math.log(capacity[i, i])
        log_determinants[k] = total
        for i in range(q):
            for m in range(i):
                gain[i] -= capacity[i, m] * gain[m]
            gain[i] /= capacity[i, i]
        for i in range(q - 1, -1, -1):
            for m in range(i + 1, q):
                gain[i] -= capacity[m, i] * gain[m]
            gain[i] /= capacity[i, i]


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def score_block(
    x: Array, size: int, mean: Array, factor: Array, gain: Array, precision: Array,
    constant: float, e: Array, lp: Array, n: int,
) -> None:  # fmt: skip
    """Write the scores of a block of rows, what they leave, and log densities, of one component.

    Parameters
    ----------
    x : array
        Feature d of row i of the block at ``d * size + i``.
    size : int
    mean, factor, gain, precision : arrays, shapes (D,), (D, q + 1), (q, D), (D,)
    constant : float
        The log density of the component at its mean, plus its log-weight.
    e : array
        Overwritten, as x is laid out, with D lines of x - mu - W s and then q of s.
    lp : array
        Overwritten with the log densities.
    n : int
        Rows, a multiple of `PADDING`.

    Notes
    -----
    2 D q + 2 D multiplications and additions a row.
    """
    q, n_dim = gain.shape
    scores = e[n_dim * size :]
    scores[: q * size] = 0.0
    for d in range(n_dim):
        left, line, center = e[d * size : d * size + n], x[d * size : d * size + n], mean[d]
        for i in range(n):
            left[i] = line[i] - center
    for j in range(0, q - 1, 2):
        one, two = scores[j * size : j * size + n], scores[(j + 1) * size : (j + 1) * size + n]
        for d in range(0, n_dim - 1, 2):
            left, next_left = e[d * size : d * size + n], e[(d + 1) * size : (d + 1) * size + n]
            a, b, f, g = gain[j, d], gain[j + 1, d], gain[j, d + 1], gain[j + 1, d + 1]
            for i in range(n):
                one[i] += a * left[i] + f * next_left[i]
                two[i] += b * left[i] + g * next_left[i]
        if n_dim % 2 == 1:
            left = e[(n_dim - 1) * size : (n_dim - 1) * size + n]
            a, b = gain[j, n_dim - 1], gain[j + 1, n_dim - 1]
            for i in range(n):
                one[i] += a * left[i]
                two[i] += b * left[i]
    if q % 2 == 1:
        one = scores[(q - 1) * size : (q - 1) * size + n]
        for d in range(0, n_dim - 1, 2):
            left, next_left = e[d * size : d * size + n], e[(d + 1) * size : (d + 1) * size + n]
            a, f = gain[q - 1, d], gain[q - 1, d + 1]
            for i in range(n):
                one[i] += a * left[i] + f * next_left[i]
        if n_dim % 2 == 1:
            left, a = e[(n_dim - 1) * size : (n_dim - 1) * size + n], gain[q - 1, n_dim - 1]
            for i in range(n):
                one[i] += a * left[i]
    square = lp[:n]
    square[:] = 0.0
    for j in range(q):
        one = scores[j * size : j * size + n]
        for i in range(n):
            square[i] += one[i] * one[i]
    for d in range(n_dim):
        left, p = e[d * size : d * size + n], precision[d]
        for j in range(0, q - 1, 2):
            one, two = scores[j * size : j * size + n], scores[(j + 1) * size : (j + 1) * size + n]
            a, b = factor[d, j], factor[d, j + 1]
            for i in range(n):
                left[i] -= a * one[i] + b * two[i]
        if q % 2 == 1:
            one, a = scores[(q - 1) * size : (q - 1) * size + n], factor[d, q - 1]
            for i in range(n):
                left[i] -= a * one[i]
        for i in range(n):
            square[i] += p * left[i] * left[i]
    for i in range(n):
        square[i] = constant - 0.5 * square[i]


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def add_factor_moments(
    e: Array, size: int, r: Array, first: Array, second: Array, cross: Array, n: int
) -> float:
    """Add a block's sums of r e, r e^2 and r e s' to those of one component; return that of r.

    Parameters
    ----------
    e : array
        As `score_block` writes it.
    size : int
    r : array, shape (n,)
    first, second, cross : arrays, shapes (D,), (D,), (D, q)
    n : int
        Rows, a multiple of `PADDING`.
    """
    n_dim, q = cross.shape
    total = 0.0
    for i in range(n):
        total += r[i]
    if total == 0.0:
        return total
    scores = e[n_dim * size :]
    for d in range(n_dim):
        left = e[d * size : d * size + n]
        linear, square = 0.0, 0.0
        for i in range(n):
            share = r[i] * left[i]
            linear += share
            square += share * left[i]
            left[i] = share
        first[d] += linear
        second[d] += square
        for j in range(0, q - 1, 2):
            one, two = scores[j * size : j * size + n], scores[(j + 1) * size : (j + 1) * size + n]
            a, b = 0.0, 0.0
            for i in range(n):
                a += left[i] * one[i]
                b += left[i] * two[i]
            cross[d, j] += a
            cross[d, j + 1] += b
        if q % 2 == 1:
            one = scores[(q - 1) * size : (q - 1) * size + n]
            a = 0.0
            for i in range(n):
                a += left[i] * one[i]
            cross[d, q - 1] += a
    return total


@kernel
def factor_e_step(
    rows: Array,
    row_weights: Array,
    log_weights: Array,
    means: Array,
    factors: Array,
    gains: Array,
    precisions: Array,
    log_determinants: Array,
    counts: Array,
    first: Array,
    second: Array,
    cross: Array,
) -> float:
    """Return the log-likelihood and write the expected sufficient statistics, in one pass.

    Parameters
    ----------
    rows, row_weights, log_weights, means : arrays
        As `kernels.estep.e_step` takes them.
    factors : array, shape (K, D, q + 1)
        [W psi].
    gains, precisions, log_determinants : arrays, shapes (K, q, D), (K, D), (K,)
        As `fill_gains` writes them.
    counts, first, second, cross : arrays, shapes (K,), (K, D), (K, D), (K, D, q)
        Overwritten with the sums over rows of r, r e, r e^2 and r e s'.

    Returns
    -------
    float
        Sum over rows of the log density, in nats.

    Notes
    -----
    N K (3 D q + 4 D) multiplications and additions and N K exponentials.
    """
    n_rows = rows.shape[1]
    n_components, n_dim = means.shape
    q = gains.shape[1]
    size = factor_block_size(n_rows, n_components, n_dim, q)
    flat = rows.ravel()
    width = (n_dim + q) * size
    buffer = np.empty((n_dim + n_components + 2) * size + n_components * width)
    x, lp = buffer[: n_dim * size], buffer[n_dim * size :]
    weights = lp[n_components * size :]
    densities = weights[size:]
    e = densities[size:]
    weighted = row_weights.size > 0
    counts[:] = 0.0
    first[:] = 0.0
    second[:] = 0.0
    cross[:] = 0.0
    result = 0.0
    for start in range(0, n_rows, size):
        n = min(size, n_rows - start)
        copy_block(flat, n_rows, start, n, size, n_dim, x)
        padded = (n + PADDING - 1) // PADDING * PADDING
        for k in range(n_components):
            constant = log_weights[k] - log_determinants[k] - 0.5 * n_dim * LOG_2PI
            score_block(
                x, size, means[k], factors[k], gains[k], precisions[k], constant,
                e[k * width :], lp[k * size :], padded,
            )  # fmt: skip
        if rows.shape[0] > n_dim:
            add_offsets(rows, start, n, size, n_dim, lp)
        if weighted:
            for i in range(n):
                weights[i] = row_weights[start + i]
            weights[n:size] = 0.0
            result += softmax_block(lp, size, n_components, weights, densities, padded)
        else:
            result += plain_softmax_block(lp, size, n_components, n, padded)
        for k in range(n_components):
            counts[k] += add_factor_moments(
                e[k * width :], size, lp[k * size :], first[k], second[k], cross[k], padded
            )
    return result
