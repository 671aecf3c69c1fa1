"""What is seen of a row whose other cells are missing, or that was measured with error.

The factor [L_o E_o] of its covariance, as `kernels.incomplete` has it, as a triangle; and the
complete row, drawn given what is seen.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


@kernel(fastmath=frozenset({"contract"}))
def fill_marginal(
    factor: Array, seen: Labels, errors: Array, triangle: Array, basis: Array
) -> None:
    """Write T and B of a component, by orthogonalising the rows of [L_o E_o] one after another.

    Parameters
    ----------
    factor : array, shape (D, D) or (D + 1, D)
        L, lower.
    seen : array of int, shape (d,)
        o.
    errors : array, shape (d W,)
        E_o, row by row.
    triangle : array, shape (d, d) or (d + 1, d)
        Overwritten with T, degrees of freedom below as they are below L.
    basis : array, shape (d, D + W)
        Overwritten with Q, of which B is the first D columns.

    Notes
    -----
    O(d^2 (D + W)). Gram-Schmidt as it is modified for stability: the covariance, whose condition
    is the square of its factor's, is never formed.
    """
    n_dim, n_seen, width = factor.shape[1], seen.size, basis.shape[1]
    if factor.shape[0] > n_dim:
        triangle[n_seen, 0] = factor[n_dim, 0]
    for i in range(n_seen):
        row = basis[i]
        for m in range(n_dim):
            row[m] = factor[seen[i], m]
        for m in range(n_dim, width):
            row[m] = errors[i * (width - n_dim) + m - n_dim]
        for j in range(i):
            total = 0.0
            for m in range(width):
                total += row[m] * basis[j, m]
            for m in range(width):
                row[m] -= total * basis[j, m]
            triangle[i, j] = total
        square = 0.0
        for m in range(width):
            square += row[m] * row[m]
        length = math.sqrt(square)
        inverse = 1.0 / length
        for m in range(width):
            row[m] *= inverse
        triangle[i, i] = length
        for j in range(i + 1, n_seen):
            triangle[i, j] = 0.0


@kernel
def marginal_factors(cholesky: Array, seen: Labels, errors: Array) -> Array:
    """Return the Cholesky factors T, shape (S, K, d, d), of what is seen, of many mixtures."""
    n_draws, n_components, n_lines, n_dim = cholesky.shape
    result = np.zeros((n_draws, n_components, seen.size + n_lines - n_dim, seen.size))
    basis, flat = np.empty((seen.size, n_dim + errors.shape[1])), errors.reshape(-1)
    for s in range(n_draws):
        for k in range(n_components):
            fill_marginal(cholesky[s, k], seen, flat, result[s, k], basis)
    return result


@kernel
def fill_imputed(
    cells: Array,
    seen: Labels,
    errors: Array,
    means: Array,
    cholesky: Array,
    shares: Array,
    uniform: Array,
    normal: Array,
    chi_square: Array,
    complete: Array,
) -> None:
    """Write draws of the complete rows, given what is seen of them.

    Parameters
    ----------
    cells : array, shape (d, N)
        What is seen.
    seen, errors : arrays, shapes (d,) and (d, W)
        As `Group` has them.
    means, cholesky : arrays, shapes (S, K, D) and (S, K, D or D + 1, D)
    shares : array, shape (S, K, N)
        Responsibilities.
    uniform : array, shape (S, N)
        Numbers in [0, 1).
    normal : array, shape (S, N, D + W)
        Standard Normal numbers.
    chi_square : array, shape (S, K, N) or (0, 0, 0)
        Of heavy tails chi-squared numbers, of d more than their degrees of freedom.
    complete : array, shape (S, N, D)
        Overwritten: of a component that is drawn with the probability that it has, x = mu + L z
        without its error, z drawn as (z, e) + Q' (y - Q (z, e)) from unconditional z and e. Of a t
        these are wider, by the root of (df + |y|^2) / chi_square.
    """
    n_draws, k_all, n_dim = means.shape
    n_seen, width = seen.size, n_dim + errors.shape[1]
    n_lines = n_seen + cholesky.shape[2] - n_dim
    triangles, flat = np.empty((k_all, n_lines, n_seen)), errors.reshape(-1)
    bases, y, z = np.empty((k_all, n_seen, width)), np.empty(n_seen), np.empty(n_dim)
    for s in range(n_draws):
        for k in range(k_all):
            fill_marginal(cholesky[s, k], seen, flat, triangles[k], bases[k])
        for i in range(cells.shape[1]):
            k, below = 0, shares[s, 0, i]
            while k < k_all - 1 and uniform[s, i] >= below:
                k += 1
                below += shares[s, k, i]
            square, wider = 0.0, 1.0
            for j in range(n_seen):
                y[j] = cells[j, i] - means[s, k, seen[j]]
                for m in range(j):
                    y[j] -= triangles[k, j, m] * y[m]
                y[j] /= triangles[k, j, j]
                square += y[j] * y[j]
            if chi_square.size > 0:
                wider = math.sqrt((cholesky[s, k, n_dim, 0] + square) / chi_square[s, k, i])
            for d in range(n_dim):
                z[d] = wider * normal[s, i, d]
            for j in range(n_seen):
                gap = y[j]
                for m in range(width):
                    gap -= wider * bases[k, j, m] * normal[s, i, m]
                for d in range(n_dim):
                    z[d] += bases[k, j, d] * gap
            for d in range(n_dim):
                total = means[s, k, d]
                for m in range(d + 1):
                    total += cholesky[s, k, d, m] * z[m]
                complete[s, i, d] = total
