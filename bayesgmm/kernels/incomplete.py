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
of complete rows reads these as well. Of a t what is seen is a t with as many degrees of freedom:
with the rows of S and s weighted by their pulls (`kernels.tails`) all this holds as it stands. It
does not with errors of measurement, whose sum with a t has no density in closed form.
"""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.alone import alone_moments
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import e_step, fill_whiteners
from bayesgmm.kernels.marginal import fill_marginal

type Array = NDArray[np.float64]


@kernel(fastmath=frozenset({"contract"}))
def add_expected(
    basis: Array,
    count: float,
    first: Array,
    second: Array,
    row: Array,
    all_first: Array,
    all_second: Array,
) -> None:
    """Add the expected moments of z, given those of rows of which a part is seen.

    Parameters
    ----------
    basis : array, shape (d, D) at least
        B.
    count : float
        n.
    first, second : arrays, shapes (d,) and (d or d + 1, d)
        s and S. The latter is overwritten.
    row : array, shape (D,)
        For work.
    all_first, all_second : arrays, shapes (D,) and (D or D + 1, D)
        B' s and n 1 + B' (S - n 1) B are added to them, and the further line if there is one.
    """
    n_seen, n_dim = first.size, all_first.size
    if all_second.shape[0] > n_dim:
        all_second[n_dim, 0] += second[n_seen, 0]
    for d in range(n_dim):
        all_second[d, d] += count
    for i in range(n_seen):
        second[i, i] -= count
        for d in range(n_dim):
            row[d] = 0.0
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
    rows : array, shape (D, N) or (D + K, N)
        The complete rows.
    row_weights : array, shape (N + M,) or (0,)
        Of these, and then of the others.
    groups : array
        The M rows of which a part is seen, as `pack_groups` returns them; empty if there are none.
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D or D + 1, D)
        With noise there are K + 1 log-weights, and counts.
    whiteners, log_determinants : arrays, shapes those of `cholesky` and (K,)
        As `fill_whiteners` writes them.
    counts, first, second : arrays, shapes that of `log_weights`, (K, D), and that of `cholesky`
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
    more = cholesky.shape[1] - n_dim
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
    size = int(groups[0])
    at = 1 + size
    if size > 0:
        n = int(groups[1])
        value += alone_moments(
            groups[1:at], row_weights[done : done + n] if weighted else row_weights,
            log_weights, means, cholesky, counts, first, second,
        )  # fmt: skip
        done += n
    square, length = k_all * (n_dim + more) * n_dim, k_all * n_dim
    n_all = log_weights.size
    work = np.empty(5 * square + 2 * length + n_all + k_all + n_dim)
    seen = np.empty(n_dim, dtype=np.int64)
    vectors = work[: n_all + k_all + n_dim]
    their_counts, determinants = vectors[:n_all], vectors[n_all : n_all + k_all]
    row, work = vectors[n_all + k_all :], work[vectors.size :]
    d, width = 0, 0
    their_means, sums = work[:0].reshape(k_all, 0), work[:0].reshape(k_all, 0)
    triangles = work[:0].reshape(k_all, 0, 0)
    inverses, moments, bases = triangles, triangles, triangles
    while at < groups.size:
        n = int(groups[at])
        if groups[at + 1] != d or groups[at + 2] != width:  # views cost more than small products
            d, width = int(groups[at + 1]), int(groups[at + 2])
            size, p = k_all * (d + more) * d, 2 * k_all * d
            their_means = work[: k_all * d].reshape(k_all, d)
            sums = work[k_all * d : p].reshape(k_all, d)
            triangles = work[p : p + size].reshape(k_all, d + more, d)
            inverses = work[p + size : p + 2 * size].reshape(k_all, d + more, d)
            moments = work[p + 2 * size : p + 3 * size].reshape(k_all, d + more, d)
            p += 3 * size
            bases = work[p : p + k_all * d * (n_dim + width)].reshape(k_all, d, n_dim + width)
        n_lines = int(groups[at + 3])
        at += 4
        for i in range(d):
            seen[i] = int(groups[at + i])
        at += d
        errors = groups[at : at + d * width]
        at += d * width
        cells = groups[at : at + n_lines * n].reshape(n_lines, n)
        at += n_lines * n
        for k in range(k_all):
            for i in range(d):
                their_means[k, i] = means[k, seen[i]]
            fill_marginal(cholesky[k], seen[:d], errors, triangles[k], bases[k])
        weights = row_weights[done : done + n] if weighted else row_weights
        fill_whiteners(triangles, inverses, determinants)
        value += e_step(
            cells, weights, log_weights, their_means, inverses, determinants,
            their_counts, sums, moments,
        )  # fmt: skip
        done += n
        for k in range(k_all):
            counts[k] += their_counts[k]
            add_expected(bases[k], their_counts[k], sums[k], moments[k], row, first[k], second[k])
        counts[k_all:] += their_counts[k_all:]
    return value
