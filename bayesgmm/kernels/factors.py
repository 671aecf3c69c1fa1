"""Cholesky factors of correlation matrices as graphs of PyTensor need them, reached by symbols.

The canonical partial correlations of row i of a matrix are c_j = b_j - q_j, j < i, with q = 1 - b,
and C_ij = c_j prod_{m<j} r_m, C_ii = prod_{m<i} r_m, with r = sqrt(1 - c^2) = 2 sqrt(b q). What is
given are the logarithms of b and q, in which all is exact where b rounds to 0 or 1.
"""

import math
from typing import Final

import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import callback, kernel, linked
from bayesgmm.kernels.linked import write

type Array = NDArray[np.float64]


@kernel
def _refuse_mismatch(log_b: Array, log_q: Array, shape: tuple[int, int, int]) -> None:
    """Refuse shapes that do not belong together, before memory is read that is not theirs."""
    n_sets, n_dim, n_columns = shape
    n_pairs = n_dim * (n_dim - 1) // 2
    if log_b.shape != (n_sets, n_pairs) or log_q.shape != log_b.shape or n_columns != n_dim:
        raise ValueError(
            "log_b and log_q must have the shape (G, D (D - 1) / 2) where matrices have the shape "
            "(G, D, D)."
        )


@kernel
def correlation_factors(log_b: Array, log_q: Array, n_dim: int) -> Array:
    """Return lower Cholesky factors of correlation matrices.

    Parameters
    ----------
    log_b, log_q : arrays, shape (G, D (D - 1) / 2)
        Row by row below the diagonal.
    n_dim : int
        D.

    Returns
    -------
    array, shape (G, D, D)
    """
    _refuse_mismatch(log_b, log_q, (log_b.shape[0], n_dim, n_dim))
    result = np.zeros((log_b.shape[0], n_dim, n_dim))
    for g in range(log_b.shape[0]):
        p = 0
        for i in range(n_dim):
            left = 1.0
            for j in range(i):
                result[g, i, j] = left * (math.exp(log_b[g, p]) - math.exp(log_q[g, p]))
                left *= 2.0 * math.exp(0.5 * (log_b[g, p] + log_q[g, p]))
                p += 1
            result[g, i, i] = left
    return result


@kernel
def factor_slopes(log_b: Array, log_q: Array, slopes: Array) -> tuple[Array, Array]:
    """Return the derivatives of ``sum(slopes * correlation_factors(...))``.

    Parameters
    ----------
    log_b, log_q : arrays, shape (G, D (D - 1) / 2)
    slopes : array, shape (G, D, D)
        Above the diagonal it is not read.

    Returns
    -------
    arrays, shape (G, D (D - 1) / 2)
        By `log_b` and `log_q`.
    """
    _refuse_mismatch(log_b, log_q, slopes.shape)
    n_dim = slopes.shape[1]
    by_b, by_q = np.empty(log_b.shape), np.empty(log_b.shape)
    left = np.empty(n_dim)
    for g in range(log_b.shape[0]):
        p = 0
        for i in range(n_dim):
            left[0] = 1.0
            for j in range(i):
                left[j + 1] = left[j] * 2.0 * math.exp(0.5 * (log_b[g, p + j] + log_q[g, p + j]))
            right = slopes[g, i, i] * left[i]  # what holds r_j as a factor
            for j in range(i - 1, -1, -1):
                slope = slopes[g, i, j] * left[j]
                b, q = math.exp(log_b[g, p + j]), math.exp(log_q[g, p + j])
                by_b[g, p + j] = 0.5 * right + slope * b
                by_q[g, p + j] = 0.5 * right - slope * q
                right += slope * (b - q)
            p += i
    return by_b, by_q


_SIZE: Final = types.int64
_DOUBLES: Final = types.CPointer(types.float64)
_FACTORS: Final = types.void(_SIZE, _SIZE, *[_DOUBLES] * 3)
_SLOPES: Final = types.void(_SIZE, _SIZE, *[_DOUBLES] * 5)


@callback(_FACTORS)
def _factors_c(n_sets, n_dim, log_b, log_q, out):  # type: ignore[no-untyped-def]
    """Write what `correlation_factors` returns."""
    shape = (n_sets, n_dim * (n_dim - 1) // 2)
    factors = correlation_factors(carray(log_b, shape), carray(log_q, shape), n_dim)
    write(factors.ravel(), carray(out, factors.size))


@callback(_SLOPES)
def _slopes_c(n_sets, n_dim, log_b, log_q, slopes, out_b, out_q):  # type: ignore[no-untyped-def]
    """Write what `factor_slopes` returns."""
    shape = (n_sets, n_dim * (n_dim - 1) // 2)
    by_b, by_q = factor_slopes(
        carray(log_b, shape), carray(log_q, shape), carray(slopes, (n_sets, n_dim, n_dim))
    )
    write(by_b.ravel(), carray(out_b, by_b.size))
    write(by_q.ravel(), carray(out_q, by_q.size))


_factors_x = linked("correlation_factors", _factors_c, _FACTORS)
_slopes_x = linked("factor_slopes", _slopes_c, _SLOPES)


# Whatever the layouts of the arguments, the kernels see C-contiguous arrays.
def linked_correlation_factors(log_b, log_q, n_dim):  # type: ignore[no-untyped-def]
    """Return what `correlation_factors` does; for functions that are to stay short."""
    _refuse_mismatch(log_b, log_q, (log_b.shape[0], n_dim, n_dim))
    log_b, log_q = np.ascontiguousarray(log_b), np.ascontiguousarray(log_q)
    result = np.empty((log_b.shape[0], n_dim, n_dim))
    _factors_x(log_b.shape[0], n_dim, log_b.ctypes, log_q.ctypes, result.ctypes)
    return result


def linked_factor_slopes(log_b, log_q, slopes):  # type: ignore[no-untyped-def]
    """Return what `factor_slopes` does; for functions that are to stay short."""
    _refuse_mismatch(log_b, log_q, slopes.shape)
    log_b, log_q = np.ascontiguousarray(log_b), np.ascontiguousarray(log_q)
    slopes = np.ascontiguousarray(slopes)
    by_b, by_q = np.empty(log_b.shape), np.empty(log_b.shape)
    _slopes_x(
        log_b.shape[0],
        slopes.shape[1],
        log_b.ctypes,
        log_q.ctypes,
        slopes.ctypes,
        by_b.ctypes,
        by_q.ctypes,
    )
    return by_b, by_q
