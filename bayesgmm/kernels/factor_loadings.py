"""Loadings of factor analysers, in coordinates without flat directions.

A covariance W W' + diag(psi)^2 does not change when the columns of the loadings W, shape (D, q),
are rotated. Under independent Normal entries, W_dj = spread_d V_dj with V standard Normal, every
V = L Q with Q a rotation and L lower triangular with a positive diagonal; then L is independent of
Q, its entries below the diagonal are standard Normal and the j-th on it, from 0, is chi with q - j
degrees of freedom (Bartlett's decomposition). So L has all that the data can tell, and W W' the
distribution that it has under independent Normal loadings.

Which features are the first does not matter to the density. It does to whoever moves in it: where
the first ones have no loadings two halves of the density meet where the diagonal is 0. So V is
reflected first, L = H' V Q', by H = H_1 ... H_q, H_j = 1 - v_j v_j' (Householder), such that the
first q columns of H span what the components' loadings have in common. V and H' V have the same
distribution.

In the unconstrained vector are, component by component and row by row, the entries of L, those of
the diagonal as logarithms.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, offsets
from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]

LARGEST_DENSE: Final = 2**31
"""Bytes of dense factors beyond which they are refused rather than made."""


def reflectors_of(basis: Array) -> Array:
    """Return the v_j, shape (q, D), of an H whose first q columns span those of a basis, (D, q)."""
    packed, tau = np.linalg.qr(basis, mode="raw")
    vectors = np.triu(packed, 1)
    q = len(tau)
    vectors[np.arange(q), np.arange(q)] = 1.0
    return np.ascontiguousarray(vectors * np.sqrt(tau)[:, None])


def reflected(reflectors: Array, matrices: Array, *, inverse: bool = False) -> Array:
    """Return H V, or H' V, of matrices V, shape (..., D, q)."""
    result = matrices.copy()
    for vector in reflectors if inverse else reflectors[::-1]:
        result -= vector[:, None] * (vector @ result)[..., None, :]
    return result


def places_of(n_features: int, n_factors: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of the entries of L, in the order of the vector."""
    return np.tril_indices(n_features, 0, n_factors)


def loadings_of(layout: Layout, entries: Array, spread: Array, reflectors: Array) -> Array:
    """Return loadings W, shape (S, K, D, q).

    Parameters
    ----------
    layout : Layout
    entries : array, shape (S, K n)
        The part of vectors that they are in.
    spread : array, shape (D,)
    reflectors : array, shape (q, D)
    """
    k, d, q = layout.n_components, layout.n_features, layout.n_factors
    rows, columns = places_of(d, q)
    triangles = np.zeros((len(entries), k, d, q))
    triangles[:, :, rows, columns] = entries.reshape(len(entries), k, rows.size)
    diagonal = np.arange(q)
    triangles[:, :, diagonal, diagonal] = np.exp(triangles[:, :, diagonal, diagonal])
    return reflected(reflectors, triangles) * spread[:, None]


def entries_of(loadings: Array, spread: Array, reflectors: Array) -> Array:
    """Return what `loadings_of` takes, shape (S, K n), of loadings rotated in any way."""
    n, k, d, q = loadings.shape
    turned = reflected(reflectors, loadings / spread[:, None], inverse=True)
    rotation, upper = np.linalg.qr(np.swapaxes(turned[:, :, :q], -1, -2))
    signs = np.where(np.einsum("skjj->skj", upper) < 0.0, -1.0, 1.0)
    triangles = turned @ (rotation * signs[..., None, :])
    diagonal = np.arange(q)
    least = np.finfo(np.float64).tiny  # a factor that is not there
    heads = np.maximum(triangles[:, :, diagonal, diagonal], least)
    triangles[:, :, diagonal, diagonal] = np.log(heads)
    rows, columns = places_of(d, q)
    return triangles[:, :, rows, columns].reshape(n, k * rows.size)


def is_factored(factors: Array, n_features: int) -> bool:
    """Tell whether factors are [W psi], shape (..., D, q + 1), q + 1 < D, or lower triangles."""
    return factors.shape[-1] < n_features


def joined(loadings: Array, uniquenesses: Array) -> Array:
    """Return [W psi], shape (..., D, q + 1), which stands for a factor of W W' + diag(psi)^2."""
    return np.concatenate((loadings, uniquenesses[..., None]), axis=-1)


def covariance_of(factors: Array) -> Array:
    """Return W W' + diag(psi)^2, shape (..., D, D), of [W psi]."""
    loadings, diagonal = factors[..., :-1], np.arange(factors.shape[-2])
    result = np.asarray(loadings @ np.swapaxes(loadings, -1, -2))
    result[..., diagonal, diagonal] += np.square(factors[..., -1])
    return result


def dense(factors: Array, n_features: int) -> Array:
    """Return lower Cholesky factors, shape (..., D, D), of factors that may be [W psi].

    Raises
    ------
    ValueError
        If they would take more than 2 GiB.

    Notes
    -----
    O(D^3) for each.
    """
    if not is_factored(factors, n_features):
        return factors
    size = 8 * n_features * (factors.size // factors.shape[-1])
    if size > LARGEST_DENSE:
        raise ValueError(
            f"`tree` must leave its covariance matrices under 2 GiB here, where they are needed "
            f"whole; got {n_features} features and {size / 2**30:.1f} GiB for all draws. Thin the "
            f"draws, tree.isel(draw=slice(None, None, 10)), or take some features: "
            f"bayesgmm.marginal."
        )
    return np.linalg.cholesky(covariance_of(factors))


@kernel
def _reflect(reflectors: Array, table: Array, inverse: bool) -> None:
    """Do what `reflected` does, in place, of one V', shape (q, D)."""
    n_factors, n_dim = table.shape
    for step in range(n_factors):
        vector = reflectors[step if inverse else n_factors - 1 - step]
        for j in range(n_factors):
            total = 0.0
            for d in range(n_dim):
                total += vector[d] * table[j, d]
            for d in range(n_dim):
                table[j, d] -= total * vector[d]


@kernel
def fill_factors(
    layout: Layout, floor: Array, spread: Array, reflectors: Array, vector: Array, factors: Array
) -> None:
    """Write [W psi], shape (K, D, q + 1), of an unconstrained vector."""
    n_dim, n_factors = layout.n_features, layout.n_factors
    _, noise_start, p, _ = offsets(layout)
    table = np.empty((n_factors, n_dim))
    for k in range(layout.n_components):
        table[:] = 0.0
        for d in range(n_dim):
            for j in range(min(d + 1, n_factors)):
                table[j, d] = math.exp(vector[p]) if d == j else vector[p]
                p += 1
        _reflect(reflectors, table, False)
        row = noise_start + (k * layout.scale_columns if layout.scale_rows > 1 else 0)
        for d in range(n_dim):
            for j in range(n_factors):
                factors[k, d, j] = spread[d] * table[j, d]
            column = d if layout.scale_columns > 1 else 0
            factors[k, d, n_factors] = floor[column] + math.exp(vector[row + column])


@kernel
def pull_factors_back(
    layout: Layout,
    floor: Array,
    spread: Array,
    reflectors: Array,
    factors: Array,
    slopes: Array,
    prior: bool,
    vector: Array,
    gradient: Array,
) -> float:
    """Turn slopes with respect to [W psi] into those of the vector, and add those of L's prior.

    Parameters
    ----------
    layout : Layout
    floor, spread, reflectors : arrays, shapes (C,), (D,), (q, D)
    factors, slopes : arrays, shape (K, D, q + 1)
        As `fill_factors` wrote them; and the derivatives by them.
    prior : bool
        Whether to add the prior of L.
    vector, gradient : arrays, shape (P,)
        The derivatives with respect to uniquenesses and loadings are added.

    Returns
    -------
    float
        Log prior of L on the unconstrained scale, without constants; 0 if it is not asked for.
    """
    n_dim, n_factors = layout.n_features, layout.n_factors
    _, noise_start, p, _ = offsets(layout)
    table = np.empty((n_factors, n_dim))
    value = 0.0
    for k in range(layout.n_components):
        row = noise_start + (k * layout.scale_columns if layout.scale_rows > 1 else 0)
        for d in range(n_dim):
            column = d if layout.scale_columns > 1 else 0
            excess = factors[k, d, n_factors] - floor[column]
            gradient[row + column] += slopes[k, d, n_factors] * excess
            for j in range(n_factors):
                table[j, d] = spread[d] * slopes[k, d, j]
        _reflect(reflectors, table, True)
        for d in range(n_dim):
            for j in range(min(d + 1, n_factors)):
                entry = math.exp(vector[p]) if d == j else vector[p]
                slope = table[j, d] * (entry if d == j else 1.0)
                if prior:
                    value -= 0.5 * entry * entry
                    slope -= entry * (entry if d == j else 1.0)
                    if d == j:
                        value += (n_factors - j) * vector[p]
                        slope += n_factors - j
                gradient[p] += slope
                p += 1
    return value


def loadings_constant(layout: Layout) -> float:
    """Return all of the log prior of L that does not depend on it."""
    d, q = layout.n_features, layout.n_factors
    n_below = d * q - q * (q + 1) // 2
    each = -0.5 * n_below * math.log(2.0 * math.pi)
    for j in range(q):
        half = 0.5 * (q - j)  # of the degrees of freedom
        each -= (half - 1.0) * math.log(2.0) + math.lgamma(half)
    return layout.n_components * each
