"""The pass as graphs of PyTensor need it, compiled once and reached through symbols.

A graph compiler that inlined the pass would optimise it again in every function it makes, seconds
each time. Instead the compiled code is entered under a name into LLVM's table of symbols, and what
is generated calls that name: it is short, and can be cached on disk, as no address is part of it.
"""

from typing import Final

import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import callback, kernel, linked
from bayesgmm.kernels.draws import fill_complete
from bayesgmm.kernels.estep import e_step, fill_whiteners
from bayesgmm.kernels.posterior import fill_cholesky_slopes
from bayesgmm.kernels.tails import df_slope

type Array = NDArray[np.float64]

_SIZE: Final = types.int64
_DOUBLES: Final = types.CPointer(types.float64)


@kernel
def _refuse_mismatch(rows: Array, log_weights: Array, means: Array, cholesky: Array) -> None:
    """Refuse shapes that do not belong together, before memory is read that is not theirs."""
    n_components, n_dim = means.shape
    wrong = rows.shape[0] != n_dim and rows.shape[0] != n_dim + n_components
    wrong |= rows.shape[1] == 0 or log_weights.size != n_components
    n_lines = cholesky.shape[1]
    wrong |= n_lines != n_dim and n_lines != n_dim + 1
    if wrong or cholesky.shape != (n_components, n_lines, n_dim):
        raise ValueError(
            "rows, log_weights, means and cholesky must have shapes (D, N) or (D + K, N), (K,), "
            "(K, D) and (K, D, D) or (K, D + 1, D) with the same D and K, and N at least 1."
        )


@kernel
def log_densities(rows: Array, log_weights: Array, means: Array, cholesky: Array) -> Array:
    """Return the log density of every row of a mixture.

    Parameters
    ----------
    rows : array, shape (D, N) or (D + K, N)
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D or D + 1, D)

    Returns
    -------
    array, shape (N,)
    """
    _refuse_mismatch(rows, log_weights, means, cholesky)
    n_components, n_dim = means.shape
    result = np.empty((1, rows.shape[1]))
    nothing = np.empty((0, 0, 0))
    fill_complete(
        rows,
        log_weights.reshape(1, n_components),
        means.reshape(1, n_components, n_dim),
        cholesky.reshape(1, n_components, cholesky.shape[1], n_dim),
        result,
        nothing,
        np.empty(0, dtype=np.int64),
        nothing,
    )
    return result[0]


@kernel
def density_slopes(
    rows: Array, log_weights: Array, means: Array, cholesky: Array, row_slopes: Array
) -> tuple[Array, Array, Array]:
    """Return the derivatives of ``sum(row_slopes * log_densities(...))``, in one pass.

    Parameters
    ----------
    rows : array, shape (D, N) or (D + K, N)
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D or D + 1, D)
    row_slopes : array, shape (N,)
        Of any sign.

    Returns
    -------
    arrays, shapes (K,), (K, D), (K, D or D + 1, D)
        By log-weights, means, and the lower triangles of the Cholesky factors, or also the degrees
        of freedom below them.
    """
    _refuse_mismatch(rows, log_weights, means, cholesky)
    n_components, n_dim = means.shape
    whiteners = np.empty(cholesky.shape)
    log_determinants = np.empty(n_components)
    counts = np.empty(n_components)
    first = np.empty((n_components, n_dim))
    second = np.empty(cholesky.shape)
    slopes = np.zeros(cholesky.shape)
    fill_whiteners(cholesky, whiteners, log_determinants)
    e_step(
        rows, row_slopes, log_weights, means, whiteners, log_determinants,
        counts, first, second,
    )  # fmt: skip
    by_means = np.zeros((n_components, n_dim))
    for k in range(n_components):
        for i in range(n_dim):
            for m in range(i, n_dim):
                by_means[k, i] += whiteners[k, m, i] * first[k, m]
        fill_cholesky_slopes(whiteners[k], counts[k], second[k], slopes[k])
        if cholesky.shape[1] > n_dim:
            df = cholesky[k, n_dim, 0]
            slopes[k, n_dim, 0] = df_slope(counts[k], second[k], df)
    return counts, by_means, slopes


@kernel
def with_offsets(rows: Array, log_weights: Array, n_dim: int) -> Array:
    """Return rows, shape (D, N), with log-weights of their own, shape (K, N), below them."""
    if rows.shape[0] != n_dim or log_weights.shape[1] != rows.shape[1]:
        raise ValueError(
            "rows and log_weights must have shapes (D, N) and (K, N) where rows have weights of "
            "their own."
        )
    n_rows = rows.shape[1]
    result = np.empty((n_dim + log_weights.shape[0], n_rows))
    for i in range(n_dim):
        for n in range(n_rows):
            result[i, n] = rows[i, n]
    for k in range(log_weights.shape[0]):
        for n in range(n_rows):
            result[n_dim + k, n] = log_weights[k, n]
    return result


@kernel
def offset_slopes(
    rows: Array, log_weights: Array, means: Array, cholesky: Array, row_slopes: Array
) -> Array:
    """Return the derivatives of ``sum(row_slopes * log_densities(...))`` by what is added to rows.

    Arguments are those of `density_slopes`. The derivative of the log density of row i by what is
    added to the log density of component k there is its responsibility.

    Returns
    -------
    array, shape (K, N)
    """
    _refuse_mismatch(rows, log_weights, means, cholesky)
    n_components, n_dim = means.shape
    shares = np.zeros((1, n_components, rows.shape[1]))
    fill_complete(
        rows,
        log_weights.reshape(1, n_components),
        means.reshape(1, n_components, n_dim),
        cholesky.reshape(1, n_components, cholesky.shape[1], n_dim),
        np.empty((0, 0)),
        shares,
        np.empty(0, dtype=np.int64),
        np.empty((0, 0, 0)),
    )
    for k in range(n_components):
        for i in range(rows.shape[1]):
            shares[0, k, i] *= row_slopes[i]
    return shares[0]


@kernel
def write(values: Array, out: Array) -> None:
    """Copy a vector. An assignment would take a second to compile, for its error message."""
    for i in range(values.size):
        out[i] = values[i]


_DENSITIES: Final = types.void(*[_SIZE] * 5, *[_DOUBLES] * 5)
_OFFSET_SLOPES: Final = types.void(*[_SIZE] * 5, *[_DOUBLES] * 6)
_SLOPES: Final = types.void(*[_SIZE] * 5, *[_DOUBLES] * 8)


@callback(_DENSITIES)
def _log_densities_c(  # type: ignore[no-untyped-def]
    n_lines, n_rows, n_dim, n_deep, k, rows, log_weights, means, cholesky, out
):
    """Write what `log_densities` returns."""
    densities = log_densities(
        carray(rows, (n_lines, n_rows)),
        carray(log_weights, (k,)),
        carray(means, (k, n_dim)),
        carray(cholesky, (k, n_deep, n_dim)),
    )
    write(densities, carray(out, densities.size))


@callback(_SLOPES)
def _density_slopes_c(  # type: ignore[no-untyped-def]
    n_lines,
    n_rows,
    n_dim,
    n_deep,
    k,
    rows,
    log_weights,
    means,
    cholesky,
    row_slopes,
    out,
    out_means,
    out_cholesky,
):
    """Write what `density_slopes` returns."""
    by_log_weights, by_means, by_cholesky = density_slopes(
        carray(rows, (n_lines, n_rows)),
        carray(log_weights, (k,)),
        carray(means, (k, n_dim)),
        carray(cholesky, (k, n_deep, n_dim)),
        carray(row_slopes, (n_rows,)),
    )
    write(by_log_weights, carray(out, by_log_weights.size))
    write(by_means.ravel(), carray(out_means, by_means.size))
    write(by_cholesky.ravel(), carray(out_cholesky, by_cholesky.size))


@callback(_OFFSET_SLOPES)
def _offset_slopes_c(  # type: ignore[no-untyped-def]
    n_lines, n_rows, n_dim, n_deep, k, rows, log_weights, means, cholesky, row_slopes, out
):
    """Write what `offset_slopes` returns."""
    slopes = offset_slopes(
        carray(rows, (n_lines, n_rows)),
        carray(log_weights, (k,)),
        carray(means, (k, n_dim)),
        carray(cholesky, (k, n_deep, n_dim)),
        carray(row_slopes, (n_rows,)),
    )
    write(slopes.ravel(), carray(out, slopes.size))


_log_densities_x = linked("log_densities", _log_densities_c, _DENSITIES)
_density_slopes_x = linked("density_slopes", _density_slopes_c, _SLOPES)
_offset_slopes_x = linked("offset_slopes", _offset_slopes_c, _OFFSET_SLOPES)


# Whatever the layouts of the arguments, the pass sees C-contiguous arrays.
def linked_log_densities(rows, log_weights, means, cholesky):  # type: ignore[no-untyped-def]
    """Return what `log_densities` does; to be compiled into a function that is to stay short."""
    _refuse_mismatch(rows, log_weights, means, cholesky)
    rows = np.ascontiguousarray(rows)
    log_weights = np.ascontiguousarray(log_weights)
    means = np.ascontiguousarray(means)
    cholesky = np.ascontiguousarray(cholesky)
    result = np.empty(rows.shape[1])
    _log_densities_x(
        rows.shape[0], rows.shape[1], means.shape[1], cholesky.shape[1], log_weights.size,
        rows.ctypes, log_weights.ctypes, means.ctypes, cholesky.ctypes, result.ctypes,
    )  # fmt: skip
    return result


def linked_density_slopes(rows, log_weights, means, cholesky, row_slopes):  # type: ignore[no-untyped-def]
    """Return what `density_slopes` does; to be compiled into a function that is to stay short."""
    _refuse_mismatch(rows, log_weights, means, cholesky)
    rows = np.ascontiguousarray(rows)
    log_weights = np.ascontiguousarray(log_weights)
    means = np.ascontiguousarray(means)
    cholesky = np.ascontiguousarray(cholesky)
    row_slopes = np.ascontiguousarray(row_slopes)
    result = np.empty(log_weights.shape)
    by_means = np.empty(means.shape)
    by_cholesky = np.empty(cholesky.shape)
    _density_slopes_x(
        rows.shape[0], rows.shape[1], means.shape[1], cholesky.shape[1], log_weights.size,
        rows.ctypes, log_weights.ctypes, means.ctypes, cholesky.ctypes, row_slopes.ctypes,
        result.ctypes, by_means.ctypes, by_cholesky.ctypes,
    )  # fmt: skip
    return result, by_means, by_cholesky


def linked_offset_slopes(rows, log_weights, means, cholesky, row_slopes):  # type: ignore[no-untyped-def]
    """Return what `offset_slopes` does; to be compiled into a function that is to stay short."""
    _refuse_mismatch(rows, log_weights, means, cholesky)
    rows = np.ascontiguousarray(rows)
    log_weights = np.ascontiguousarray(log_weights)
    means = np.ascontiguousarray(means)
    cholesky = np.ascontiguousarray(cholesky)
    row_slopes = np.ascontiguousarray(row_slopes)
    result = np.empty((log_weights.size, rows.shape[1]))
    _offset_slopes_x(
        rows.shape[0], rows.shape[1], means.shape[1], cholesky.shape[1], log_weights.size,
        rows.ctypes, log_weights.ctypes, means.ctypes, cholesky.ctypes, row_slopes.ctypes,
        result.ctypes,
    )  # fmt: skip
    return result
