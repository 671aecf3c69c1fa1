"""The pass over the data that serves EM, gradients and prediction.

One contract, two forms. Rows x and components k with log-weight, mean mu_k and the inverse W_k of
the lower Cholesky factor of the covariance ("whitener") give

    lp_ik = log weight_k + log Normal(x_i | mu_k, Sigma_k)      r_ik = softmax over k of lp_ik
    log density_i = logsumexp over k of lp_ik

and, with y = W_k (x_i - mu_k), the moments n_k = sum r, s_k = sum r y, S_k = sum r y y'. These are
the E-step of EM, and by Fisher's identity all that the gradient needs.

The *natural* form is two matrix products, ``theta @ phi`` and ``r @ phi'``, of the Q features of a
row (`kernels.natural`): 4 N K Q operations. It cancels where the data range over many scales of a
component: the log density loses about eps * (range / smallest scale)**2. The *whitened* form
computes y itself: about twice the operations, and no loss. `cancels` decides which.

Data are held feature by feature, shape (D, N), so that every loop over rows is vector code, and
are worked through in blocks that stay in cache; nothing of the size of N x K is ever stored.
"""

import math
from typing import Final

import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import callback, kernel, linked
from bayesgmm.kernels.elementary import exp_nonpositive
from bayesgmm.kernels.natural import (
    fill_features,
    fill_natural,
    n_features_natural,
    whiten_statistics,
)

type Array = NDArray[np.float64]

BLOCK: Final = 256
"""Rows worked on at a time: a multiple of every vector width, and few enough to stay in cache."""

SMALL: Final = 3
"""Up to this many features the whitened form in plain loops is the faster one."""

SAFE_RANGE: Final = 64.0
"""Range of the data in units of the smallest scale up to which the natural form is used.

It then loses about 1e-12 of a result, and 3e-11 where whitening adds up many features."""

LANES: Final = 8
"""Running products whose logarithms are taken once per block rather than once per row."""

LOG_2PI: Final = math.log(2.0 * math.pi)


@kernel
def fill_whiteners(cholesky: Array, whiteners: Array, log_determinants: Array) -> None:
    """Invert lower Cholesky factors.

    Parameters
    ----------
    cholesky : array, shape (K, D, D)
    whiteners : array, shape (K, D, D)
        Overwritten with the inverses, zero above the diagonal.
    log_determinants : array, shape (K,)
        Overwritten with the log determinants of the factors (half those of the covariances).
    """
    n_components, n_dim, _ = cholesky.shape
    for k in range(n_components):
        factor, inverse = cholesky[k], whiteners[k]
        total = 0.0
        for d in range(n_dim):
            pivot = 1.0 / factor[d, d]
            total += math.log(factor[d, d])
            for e in range(d):
                value = 0.0
                for f in range(e, d):
                    value -= factor[d, f] * inverse[f, e]
                inverse[d, e] = value * pivot
            inverse[d, d] = pivot
            for e in range(d + 1, n_dim):
                inverse[d, e] = 0.0
        log_determinants[k] = total


@kernel
def cancels(whiteners: Array, reach: float) -> bool:
    """Tell whether the natural form would lose digits.

    Parameters
    ----------
    whiteners : array, shape (K, D, D)
    reach : float
        Largest distance of a row from the origin, along any feature.
    """
    largest = 0.0
    for k in range(whiteners.shape[0]):
        for d in range(whiteners.shape[1]):
            for e in range(d + 1):
                largest = max(largest, abs(whiteners[k, d, e]))
    return not largest * reach < SAFE_RANGE


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _whiten_block(
    rows: Array, means: Array, whiteners: Array, constants: Array, y: Array, lp: Array
) -> None:
    """Write y = W_k (x - mu_k), shape (K, D, n), and lp, shape (K, n), for a block of rows."""
    n_components, n_dim = means.shape
    n = rows.shape[1]
    for k in range(n_components):
        half = lp[k]
        for i in range(n):
            half[i] = 0.0
        for d in range(n_dim):
            out = y[k, d]
            mean, weight = means[k, 0], whiteners[k, d, 0]
            for i in range(n):
                out[i] = weight * (rows[0, i] - mean)
            for e in range(1, d + 1):
                mean, weight = means[k, e], whiteners[k, d, e]
                for i in range(n):
                    out[i] += weight * (rows[e, i] - mean)
            for i in range(n):
                half[i] += out[i] * out[i]
        constant = constants[k]
        for i in range(n):
            half[i] = constant - 0.5 * half[i]


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _accumulate_block(r: Array, y: Array, counts: Array, first: Array, second: Array) -> None:
    """Add a block's sums of r, r y and r y y' (lower triangle) to the moments."""
    n_components, n_dim, n = y.shape
    weighted = np.empty(n)
    for k in range(n_components):
        total = 0.0
        for i in range(n):
            total += r[k, i]
        counts[k] += total
        for d in range(n_dim):
            a = y[k, d]
            total = 0.0
            for i in range(n):
                value = r[k, i] * a[i]
                weighted[i] = value
                total += value
            first[k, d] += total
            for e in range(d + 1):
                b = y[k, e]
                total = 0.0
                for i in range(n):
                    total += weighted[i] * b[i]
                second[k, d, e] += total


@kernel(fastmath=frozenset({"contract", "nsz"}))
def softmax_block(lp: Array, peak: Array, total: Array) -> None:
    """Turn lp, shape (K, n), into exp(lp - peak), peak the maximum over k, and their sum.

    Where every lp of a row is -inf the peak is kept finite, so that all exponentials are 0 and
    their sum is 0: the caller takes its logarithm, and the density is 0 as it should be.
    """
    n_components, n = lp.shape
    for i in range(n):
        peak[i] = lp[0, i]
    for k in range(1, n_components):
        for i in range(n):
            value = lp[k, i]
            peak[i] = value if value > peak[i] else peak[i]
    for i in range(n):
        peak[i] = peak[i] if peak[i] > -1.7e308 else -1.7e308
        total[i] = 0.0
    for k in range(n_components):
        for i in range(n):
            value = exp_nonpositive(lp[k, i] - peak[i])
            lp[k, i] = value
            total[i] += value


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _log_sum(peak: Array, total: Array, product: Array) -> float:
    """Return the sum over a block's rows of peak + log(total), 1 <= total <= K.

    A logarithm per row would cost as much as the rest of the pass: rows are multiplied together
    in lanes first, BLOCK / LANES at a time, which cannot overflow for K below 1e9.
    """
    n = peak.shape[0]
    n_even = n - n % LANES
    for lane in range(LANES):
        product[lane] = 1.0
    for start in range(0, n_even, LANES):
        for lane in range(LANES):
            product[lane] *= total[start + lane]
    result = 0.0
    for lane in range(LANES):
        result += math.log(product[lane])
    for i in range(n_even, n):
        result += math.log(total[i])
    for i in range(n):
        result += peak[i]
    return result


@kernel
def _block_size(n_components: int, n_dim: int, natural: bool) -> int:
    """Return how many rows to work on at a time so that all buffers stay in a 512 KiB cache."""
    per_row = 2 * n_components
    if natural:
        per_row += n_features_natural(n_dim)
    else:
        per_row += n_components * n_dim
    size = BLOCK
    while size > 32 and size * per_row > 65536:
        size //= 2
    return size


@kernel
def log_joint_block(
    rows: Array,
    constants: Array,
    means: Array,
    whiteners: Array,
    theta: Array,
    natural: bool,
    lp: Array,
    features: Array,
) -> None:
    """Write lp, shape (K, n), of a block of rows; leave phi or y behind in `features`."""
    n_components, n_dim = means.shape
    n = rows.shape[1]
    if natural:
        phi = features[: theta.shape[1] * n].reshape(theta.shape[1], n)
        fill_features(rows, phi)
        np.dot(theta, phi, lp)
    else:
        y = features[: n_components * n_dim * n].reshape(n_components, n_dim, n)
        _whiten_block(rows, means, whiteners, constants, y, lp)


@kernel
def _pass(
    rows: Array,
    row_weights: Array,
    log_weights: Array,
    means: Array,
    whiteners: Array,
    log_determinants: Array,
    natural: bool,
    counts: Array,
    first: Array,
    second: Array,
) -> float:
    """Do what `e_step` says."""
    n_dim, n_rows = rows.shape
    n_components = means.shape[0]
    constants = log_weights - log_determinants - 0.5 * n_dim * LOG_2PI
    n_natural = n_features_natural(n_dim)
    size = min(_block_size(n_components, n_dim, natural), n_rows)
    width = n_natural if natural else n_components * n_dim
    features = np.empty(width * size)
    lp_buffer = np.empty(n_components * size)
    peak_buffer, total_buffer = np.empty(size), np.empty(size)
    lanes = np.empty(LANES)
    theta = np.empty((n_components if natural else 0, n_natural))
    statistics = np.zeros((n_components if natural else 0, n_natural))
    if natural:
        fill_natural(constants, means, whiteners, theta)
    counts[:] = 0.0
    first[:] = 0.0
    second[:] = 0.0
    result = 0.0
    for start in range(0, n_rows, size):
        n = min(size, n_rows - start)
        block = rows[:, start : start + n]
        lp = lp_buffer[: n_components * n].reshape(n_components, n)
        peak, total = peak_buffer[:n], total_buffer[:n]
        log_joint_block(block, constants, means, whiteners, theta, natural, lp, features)
        softmax_block(lp, peak, total)
        if row_weights.size == 0:
            result += _log_sum(peak, total, lanes)
            for i in range(n):
                total[i] = 1.0 / total[i]
        else:
            for i in range(n):
                weight = row_weights[start + i]
                if weight == 0.0:  # 0 times a log density of -inf is 0 here
                    total[i] = 0.0
                    continue
                result += weight * (peak[i] + math.log(total[i]))
                total[i] = weight / total[i]
        for k in range(n_components):
            for i in range(n):
                lp[k, i] *= total[i]
        if natural:
            phi = features[: n_natural * n].reshape(n_natural, n)
            statistics += np.dot(lp, phi.T)
        else:
            y = features[: n_components * n_dim * n].reshape(n_components, n_dim, n)
            _accumulate_block(lp, y, counts, first, second)
    if natural:
        whiten_statistics(statistics, means, whiteners, counts, first, second)
    else:
        for k in range(n_components):
            for d in range(n_dim):
                for e in range(d):
                    second[k, e, d] = second[k, d, e]
    return result


_POINTER: Final = types.CPointer(types.float64)
_SIGNATURE: Final = types.float64(*[types.int64] * 5, *[_POINTER] * 9)


@callback(_SIGNATURE)
def _pass_c(  # type: ignore[no-untyped-def]
    n_dim, n_rows, n_weights, k, natural, rows, row_weights, log_weights, means, whiteners,
    log_determinants, counts, first, second,
):  # fmt: skip
    """Do what `e_step` says, of C arrays."""
    return _pass(
        carray(rows, (n_dim, n_rows)),
        carray(row_weights, (n_weights,)),
        carray(log_weights, (k,)),
        carray(means, (k, n_dim)),
        carray(whiteners, (k, n_dim, n_dim)),
        carray(log_determinants, (k,)),
        natural != 0,
        carray(counts, (k,)),
        carray(first, (k, n_dim)),
        carray(second, (k, n_dim, n_dim)),
    )


_pass_x: Final = linked("pass", _pass_c, _SIGNATURE)


@kernel
def e_step(
    rows: Array,
    row_weights: Array,
    log_weights: Array,
    means: Array,
    whiteners: Array,
    log_determinants: Array,
    natural: bool,
    counts: Array,
    first: Array,
    second: Array,
) -> float:
    """Return the log-likelihood and write the expected sufficient statistics, in one pass.

    Parameters
    ----------
    rows : array, shape (D, N)
        The data, feature by feature. This and all other arrays are C-contiguous.
    row_weights : array, shape (N,) or (0,)
        Multiply each row's part of the log-likelihood and of the statistics; empty for 1.
    log_weights, means : arrays, shapes (K,) and (K, D)
    whiteners, log_determinants : arrays, shapes (K, D, D) and (K,)
        As `fill_whiteners` writes them.
    natural : bool
        Use the natural form: only where `cancels` says no.
    counts, first, second : arrays, shapes (K,), (K, D), (K, D, D)
        Overwritten with the sums over rows of r, r y and r y y'.

    Returns
    -------
    float
        Sum over rows of the log density, in nats.

    Notes
    -----
    O(N K D^2) operations; memory O(K D + D^2) numbers for each of at most 256 rows.
    """
    rows = np.ascontiguousarray(rows)
    return _pass_x(
        rows.shape[0], rows.shape[1], row_weights.size, log_weights.size, 1 if natural else 0,
        rows.ctypes, row_weights.ctypes, log_weights.ctypes, means.ctypes, whiteners.ctypes,
        log_determinants.ctypes, counts.ctypes, first.ctypes, second.ctypes,
    )  # fmt: skip
