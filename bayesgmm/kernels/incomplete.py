"""Rows of which only a part is seen: cells that are missing, and cells measured with error.

What is seen of a row is x = mu + L z + E e, with z and e standard Normal: of a missing cell
nothing, of a cell with measurement error the sum. Some features o are seen, so x_o is Normal with
mean mu_o and a covariance whose factor is the wide matrix [L_o E_o], the rows o of both. Rotated
from the right it is a lower triangle, [L_o E_o] = T Q, which takes the place of L for all rows
with the same o and E: the density is that of the same pass, in fewer dimensions. With y = T^-1
(x_o - mu_o) and B the first D columns of Q,

    z given x_o ~ Normal(B' y, 1 - B' B),

so the moments of the whitened rows y, as the pass adds them up, give the expected moments of z: n,
B' s and n 1 + B' (S - n 1) B. These are what the E-step of EM asks for (Ghahramani & Jordan 1994;
Bovy, Hogg & Roweis 2011), and by Fisher's identity they are the gradient: what reads the moments
of complete rows reads these as well.

Rows are given as the columns of an array of shape (D, N), (2 D, N) or (D + D (D + 1) / 2, N): D
cells, NaN where missing; then nothing, or the standard deviations of their errors, or the lower
triangle of the Cholesky factor of the errors' covariance, row by row.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import e_step, fill_whiteners

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

NO_GROUPS = np.empty(0)
"""For `expected_moments`: all rows are complete."""


class Group(NamedTuple):
    """Rows of which the same is seen.

    Parameters
    ----------
    members : array of int, shape (n,)
        Which rows, in ascending order.
    seen : array of int, shape (d,)
        Which features are not missing.
    errors : array, shape (d, W)
        A factor E_o of the covariance of their errors; W = 0 if there are none.
    """

    members: Labels
    seen: Labels
    errors: Array


def is_complete(rows: Array, n_dim: int) -> bool:
    """Tell whether no cell of some rows is missing or measured with error."""
    return rows.shape[0] == n_dim and not np.isnan(rows).any()


def groups_of(rows: Array, n_dim: int) -> Iterator[Group]:
    """Yield the rows of which the same is seen, complete ones first.

    Parameters
    ----------
    rows : array, shape (D, N), (2 D, N) or (D + D (D + 1) / 2, N)
    n_dim : int
        D.

    Notes
    -----
    O(N D log N) operations; O(N D^2 log N) where errors are correlated.
    """
    there = ~np.isnan(rows[:n_dim])
    errors = rows[n_dim:] + 0.0  # of missing cells they do not matter; -0 is 0
    if len(errors) == n_dim:
        errors[~there] = 0.0
    keys = np.ascontiguousarray(np.concatenate([~there, errors]).T)
    order = np.lexsort(keys.T[::-1])  # the first number other than 0 is positive
    sorted_keys = keys[order]
    edges = 1 + np.flatnonzero((sorted_keys[1:] != sorted_keys[:-1]).any(axis=1))
    for members in np.split(order, edges):
        key = keys[members[0]]
        seen = np.flatnonzero(key[:n_dim] == 0.0)
        yield Group(np.sort(members), seen, _factor_of(key[n_dim:], n_dim)[seen])


def _factor_of(errors: Array, n_dim: int) -> Array:
    """Return a factor, shape (D, W), of the covariance of errors."""
    if not errors.any():
        return np.empty((n_dim, 0))
    if errors.size == n_dim:
        return np.diag(errors)
    factor = np.zeros((n_dim, n_dim))
    factor[np.tril_indices(n_dim)] = errors
    return factor


def pack_groups(rows: Array, n_dim: int) -> tuple[Labels, int, Array]:
    """Return rows as `expected_moments` reads them.

    Parameters
    ----------
    rows : array, shape (D, N), (2 D, N) or (D + D (D + 1) / 2, N)
    n_dim : int
        D.

    Returns
    -------
    order : array of int, shape (N,)
        That rows are to be put in, and with them whatever else goes with a row.
    n_complete : int
        How many come first that are complete.
    groups : array
        The others, one group after another: n, d, W, seen (d), errors (d x W), cells (d x n).
    """
    order, n_complete, parts = [], 0, [NO_GROUPS]
    for group in groups_of(rows, n_dim):
        order.append(group.members)
        if group.seen.size == n_dim and group.errors.size == 0:
            n_complete += group.members.size
            continue
        sizes = (group.members.size, *group.errors.shape)
        cells = rows[np.ix_(group.seen, group.members)]
        parts += [np.array(sizes, float), group.seen.astype(float), group.errors.ravel()]
        parts.append(cells.ravel())
    return np.concatenate(order), n_complete, np.concatenate(parts)


@kernel
def fill_marginal(
    factor: Array, seen: Labels, errors: Array, triangle: Array, basis: Array
) -> None:
    """Write T and B of a component, by orthogonalising the rows of [L_o E_o] one after another.

    Parameters
    ----------
    factor : array, shape (D, D)
        L, lower.
    seen : array of int, shape (d,)
        o.
    errors : array, shape (d, W)
        E_o.
    triangle : array, shape (d, d)
        Overwritten with T.
    basis : array, shape (d, D + W)
        Overwritten with Q, of which B is the first D columns.

    Notes
    -----
    O(d^2 (D + W)). Gram-Schmidt as it is modified for stability: the covariance, whose condition
    is the square of its factor's, is never formed.
    """
    n_dim, n_seen, width = factor.shape[0], seen.size, basis.shape[1]
    for i in range(n_seen):
        row = basis[i]
        for m in range(n_dim):
            row[m] = factor[seen[i], m]
        for m in range(n_dim, width):
            row[m] = errors[i, m - n_dim]
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
    n_draws, n_components, n_dim, _ = cholesky.shape
    result = np.empty((n_draws, n_components, seen.size, seen.size))
    basis = np.empty((seen.size, n_dim + errors.shape[1]))
    for s in range(n_draws):
        for k in range(n_components):
            fill_marginal(cholesky[s, k], seen, errors, result[s, k], basis)
    return result


@kernel
def add_expected(
    basis: Array, count: float, first: Array, second: Array, all_first: Array, all_second: Array
) -> None:
    """Add the expected moments of z, given those of rows of which a part is seen.

    Parameters
    ----------
    basis : array, shape (d, D) at least
        B.
    count : float
        n.
    first, second : arrays, shapes (d,) and (d, d)
        s and S. The latter is overwritten.
    all_first, all_second : arrays, shapes (D,) and (D, D)
        B' s and n 1 + B' (S - n 1) B are added to them.
    """
    n_seen, n_dim = first.size, all_first.size
    row = np.empty(n_dim)
    for d in range(n_dim):
        all_second[d, d] += count
    for i in range(n_seen):
        second[i, i] -= count
        row[:] = 0.0
        for j in range(n_seen):
            for d in range(n_dim):
                row[d] += second[i, j] * basis[j, d]
        for d in range(n_dim):
            all_first[d] += basis[i, d] * first[i]
            for e in range(n_dim):
                all_second[d, e] += basis[i, d] * row[e]


@kernel
def expected_moments(
    rows: Array,
    row_weights: Array,
    groups: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    whiteners: Array,
    log_determinants: Array,
    counts: Array,
    first: Array,
    second: Array,
) -> float:
    """Return the log-likelihood and write the expected sufficient statistics.

    Parameters
    ----------
    rows : array, shape (D, N)
        The complete rows.
    row_weights : array, shape (N + M,) or (0,)
        Of these, and then of the others.
    groups : array
        The M rows of which a part is seen, as `pack_groups` returns them; empty if there are none.
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D, D)
    whiteners, log_determinants : arrays, shapes (K, D, D) and (K,)
        As `fill_whiteners` writes them.
    counts, first, second : arrays, shapes (K,), (K, D), (K, D, D)
        Overwritten with the expected sums over rows of r, r z and r z z', where x = mu + L z is
        the complete row without error: of complete rows what `e_step` writes.

    Returns
    -------
    float
        Sum over rows of the log density of what is seen, in nats.

    Notes
    -----
    For every group besides its pass O(K D^3) operations.
    """
    if groups.size == 0:
        return e_step(
            rows, row_weights, log_weights, means, whiteners, log_determinants,
            counts, first, second,
        )  # fmt: skip
    k_all, n_dim = means.shape
    value, done = 0.0, rows.shape[1]
    weighted = row_weights.size > 0
    counts[:] = 0.0
    first[:] = 0.0
    second[:] = 0.0
    if done > 0:
        value = e_step(
            rows, row_weights[:done] if weighted else row_weights, log_weights, means, whiteners,
            log_determinants, counts, first, second,
        )  # fmt: skip
    square, length = k_all * n_dim * n_dim, k_all * n_dim
    work = np.empty(3 * square + 2 * length + 2 * k_all)
    seen, at = np.empty(n_dim, dtype=np.int64), 0
    while at < groups.size:
        n, d, width = int(groups[at]), int(groups[at + 1]), int(groups[at + 2])
        at += 3
        for i in range(d):
            seen[i] = int(groups[at + i])
        at += d
        errors = groups[at : at + d * width].reshape(d, width)
        at += d * width
        cells = groups[at : at + d * n].reshape(d, n)
        at += d * n
        triangles = work[: k_all * d * d].reshape(k_all, d, d)
        inverses = work[square : square + k_all * d * d].reshape(k_all, d, d)
        moments = work[2 * square : 2 * square + k_all * d * d].reshape(k_all, d, d)
        p = 3 * square
        their_means = work[p : p + k_all * d].reshape(k_all, d)
        p += length
        sums = work[p : p + k_all * d].reshape(k_all, d)
        p += length
        their_counts, determinants = work[p : p + k_all], work[p + k_all : p + 2 * k_all]
        bases = np.empty((k_all, d, n_dim + width))
        for k in range(k_all):
            for i in range(d):
                their_means[k, i] = means[k, seen[i]]
            fill_marginal(cholesky[k], seen[:d], errors, triangles[k], bases[k])
        fill_whiteners(triangles, inverses, determinants)
        value += e_step(
            cells, row_weights[done : done + n] if weighted else row_weights, log_weights,
            their_means, inverses, determinants, their_counts, sums, moments,
        )  # fmt: skip
        done += n
        for k in range(k_all):
            counts[k] += their_counts[k]
            add_expected(bases[k], their_counts[k], sums[k], moments[k], first[k], second[k])
    return value
