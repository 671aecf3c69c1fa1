"""The log posterior as C functions, for samplers that call an address.

Importing this module compiles the functions, or reads them from Numba's cache on disk.
"""

import math
from typing import Final

import numpy as np
from numba import carray, types
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import callback, kernel
from bayesgmm.kernels.lanes import borrowed, floats_at, keep
from bayesgmm.kernels.posterior import LENGTH
from bayesgmm.kernels.target import address_of, density_at

type Array = NDArray[np.float64]


DENSITY: Final = types.int64(
    types.uint64,
    types.CPointer(types.double),
    types.CPointer(types.double),
    types.CPointer(types.double),
    types.voidptr,
)
"""What samplers call: length, point, gradient, value, user's data; returns 0 or a code."""

HEAD: Final = 3
"""Numbers before the map: where the problem is, where its density is, and the kind of factor."""
DENSE: Final = -1.0
"""In place of the number of directions, at least 0, that a diagonal is added to."""


def pack_user(problem: Array, shift: Array, factor: Array) -> Array:
    """Return what the C functions read: where the problem is, and the map x = shift + factor z.

    Parameters
    ----------
    problem : array
        As `posterior.pack_problem` returns it. Must be kept alive as long as the result is used:
        only its address is taken (below 2**53, so that a float64 holds it exactly), for all
        chains to share one copy of the data.
    shift : array, shape (P,)
    factor : array, shape (P, P) or (P,) or (1 + 2 r, P)
        A matrix; or the diagonal of one; or the diagonal, r lines B and r lines U of
        diag + U' B, 1 + 2 r < P.

    Returns
    -------
    array, shape (3 + P + factor.size,)
    """
    kind = float(factor.shape[0] // 2) if is_thin(factor) else DENSE
    head = (
        float(problem.ctypes.data), float(address_of(problem)), 0.0 if factor.ndim == 1 else kind,
    )  # fmt: skip
    return np.concatenate((head, shift, factor.ravel()))


def is_thin(factor: Array) -> bool:
    """Tell whether a factor is a diagonal and some directions."""
    return factor.ndim == 2 and factor.shape[0] < factor.shape[1]


def stretched(factor: Array, z: Array) -> Array:
    """Return factor z of many z, shape (..., P)."""
    if factor.ndim == 1:
        return z * factor
    if not is_thin(factor):
        return np.asarray(z @ factor.T)
    r = factor.shape[0] // 2
    return np.asarray(z * factor[0] + (z @ factor[1 : 1 + r].T) @ factor[1 + r :])


def pulled(factor: Array, slopes: Array) -> Array:
    """Return factor' g of a vector of slopes, shape (P,)."""
    if factor.ndim == 1:
        return slopes * factor
    if not is_thin(factor):
        return np.asarray(factor.T @ slopes)
    r = factor.shape[0] // 2
    return np.asarray(slopes * factor[0] + (factor[1 + r :] @ slopes) @ factor[1 : 1 + r])


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _multiply(matrix: Array, vector: Array, out: Array) -> None:
    """Write matrix @ vector."""
    for i in range(matrix.shape[0]):
        total = 0.0
        for j in range(matrix.shape[1]):
            total += matrix[i, j] * vector[j]
        out[i] = total


@kernel
def _multiply_transposed(matrix: Array, vector: Array, out: Array) -> None:
    """Write matrix.T @ vector."""
    out[:] = 0.0
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            out[j] += matrix[i, j] * vector[i]


@kernel
def _add_products(matrix: Array, vector: Array, along: Array, out: Array) -> None:
    """Add along.T @ (matrix @ vector)."""
    coefficients = np.empty(matrix.shape[0])
    _multiply(matrix, vector, coefficients)
    for j in range(matrix.shape[0]):
        for i in range(out.shape[0]):
            out[i] += coefficients[j] * along[j, i]


@kernel
def _whitened(
    z: Array, address: int, problem: Array, shift: Array, factor: Array, directions: int,
    gradient: Array,
) -> float:  # fmt: skip
    """Return the log density as a function of z, and write its gradient."""
    n = z.shape[0]
    dense = directions < 0
    memory = np.empty(2 * n)
    x, slopes = borrowed(memory)[:n], borrowed(memory)[n:]
    if dense:
        _multiply(factor.reshape(n, n), z, x)
    else:
        for i in range(n):
            x[i] = factor[i] * z[i]
        lines = factor[n:].reshape(2 * directions, n)
        _add_products(lines[:directions], z, lines[directions:], x)
    for i in range(n):
        x[i] += shift[i]
    value = density_at(address, x, problem, slopes)
    if dense:
        _multiply_transposed(factor.reshape(n, n), slopes, gradient)
    else:
        for i in range(n):
            gradient[i] = factor[i] * slopes[i]
        _add_products(lines[directions:], slopes, lines[:directions], gradient)
    keep(memory)
    return value


@callback(DENSITY)
def log_posterior_c(dim, z_, gradient_, value_, user_):  # type: ignore[no-untyped-def]
    """Write the value and the gradient at z; return 0, or a code if they are not finite."""
    n = np.int64(dim)
    head = carray(user_, HEAD, np.float64)
    pointer = floats_at(int(head[0]))
    problem = carray(pointer, int(carray(pointer, 1)[LENGTH]))
    address, directions = int(head[1]), int(head[2])
    size = n * n if directions < 0 else (1 + 2 * directions) * n
    user = carray(user_, HEAD + n + size, np.float64)
    z = carray(z_, n)
    gradient = carray(gradient_, n)
    shift, factor = user[HEAD : HEAD + n], user[HEAD + n :]
    value = _whitened(z, address, problem, shift, factor, directions, gradient)
    carray(value_, 1)[0] = value
    if not math.isfinite(value):
        return 4
    for i in range(n):
        if not math.isfinite(gradient[i]):
            return 3
    return 0


@callback(
    types.int64(
        types.uint64,
        types.uint64,
        types.CPointer(types.double),
        types.CPointer(types.double),
        types.voidptr,
    ),
)
def expand_c(dim, n_out, z_, out_, user_):  # type: ignore[no-untyped-def]
    """Expand a draw to the one number that a sampler insists on: parameters are made later."""
    carray(out_, 1)[0] = 0.0
    return 0
