"""Factor analysers of rows of which a part is seen: cells missing, or measured with error.

The cells o that are seen of a row have the covariance W_o W_o' + diag(psi_o^2 + v_o), v the
variances of their errors: that of a factor analyser again, of fewer features and other noise. With
the precision pi_d = 1 / (psi_d^2 + v_d) of each cell, 0 where it is missing, and

    V = (1 + W' pi W)^-1          s = V W' pi (x - mu)          e = x - mu - W s

the density is that of `kernels.factor_pass`, of sums over features in which a missing cell counts
nothing. So rows that are seen in different ways go side by side, each in a lane of its own, and
cost O(D q^2) each, whatever is missing.

As scores and noise given the row are Normal, what a pass adds up over rows is the gradient
(Fisher's identity): for a component with responsibilities r, t = e's expected square, e^2 + W V W',

    by the means        a = sum r pi e
    by the loadings     c = sum r pi (e s' - W V)
    by psi^2, doubled   b = sum r (pi^2 t - pi)

and these say what EM needs to know too: with n = sum r, the scores z of the rows and their own
noise u, missing cells included, have the expected sums

    sum r u = psi^2 a       sum r u z' = psi^2 c       sum r u^2 = psi^4 b + n psi^2
    sum r z = W' a          sum r z z' = n 1 + W' c

Of complete rows measured without error all this is what `kernels.factor_pass` adds up.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.elementary import log_positive
from bayesgmm.kernels.estep import LOG_2PI
from bayesgmm.kernels.factor_cells import table_of
from bayesgmm.kernels.factor_pass import factor_block_size, factor_e_step, fill_gains
from bayesgmm.kernels.tiles import softmax_block

type Array = NDArray[np.float64]


@kernel
def n_lines_of(n_dim: int, n_factors: int) -> int:
    """Return how many lines `score_partial` writes for a component."""
    return 2 * n_dim + n_factors + n_factors * (n_factors + 1) // 2


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def score_partial(
    table: Array, start: int, n: int, measured: bool, mean: Array, factor: Array,
    log_weight: float, lines: Array, lp: Array,
) -> None:  # fmt: skip
    """Write what the rows of a block say of their scores, and log densities, of one component.

    Parameters
    ----------
    table : array
        As `kernels.factor_cells.table_of` returns it.
    start, n : int
        The first row of the block, and how many.
    measured : bool
        Whether there are errors.
    mean, factor : arrays, shapes (D,), (D, q + 1)
    log_weight : float
    lines : array
        Overwritten, n numbers a line, with the precisions pi, what scores leave e (anything where a
        cell is missing), scores s, and the lower triangle of the Cholesky factor of 1 + W' pi W,
        row by row, the inverse of each entry on its diagonal in its place.
    lp : array
        Overwritten with log weight plus log density of what is seen.

    Notes
    -----
    D (q^2 / 2 + 5 q / 2) multiplications and additions a row.
    """
    n_dim, q = mean.size, factor.shape[1] - 1
    precisions, left = lines[: n_dim * n], lines[n_dim * n : 2 * n_dim * n]
    scores, capacity = lines[2 * n_dim * n :], lines[(2 * n_dim + q) * n :]
    scores[: q * n] = 0.0
    entry = 0
    for a in range(q):
        for b in range(a + 1):
            capacity[entry * n : (entry + 1) * n] = 1.0 if a == b else 0.0
            entry += 1
    lp[:n] = 0.0  # the sum of the logarithms of variances seen
    for d in range(n_dim):
        cells, there = table[d, start : start + n], table[n_dim + d, start : start + n]
        precision = precisions[d * n : (d + 1) * n]
        e = left[d * n : (d + 1) * n]
        variance = factor[d, q] * factor[d, q]
        if not measured:
            inverse, log = 1.0 / variance, math.log(variance) + LOG_2PI
            for i in range(n):
                precision[i] = there[i] * inverse
                lp[i] += there[i] * log
        else:
            errors = table[2 * n_dim + d, start : start + n]
            for i in range(n):
                whole = variance + errors[i]
                precision[i] = there[i] / whole
                lp[i] += there[i] * (log_positive(whole) + LOG_2PI)
        for i in range(n):
            e[i] = cells[i] - mean[d]
        entry = 0
        for a in range(q):
            score = scores[a * n : (a + 1) * n]
            for i in range(n):
                score[i] += factor[d, a] * precision[i] * e[i]
            for b in range(a + 1):
                line = capacity[entry * n : (entry + 1) * n]
                product = factor[d, a] * factor[d, b]
                for i in range(n):
                    line[i] += product * precision[i]
                entry += 1
    _factorise(capacity, scores, q, n, lp)
    for a in range(q):
        score = scores[a * n : (a + 1) * n]
        for i in range(n):
            lp[i] += score[i] * score[i]
    for d in range(n_dim):
        e = left[d * n : (d + 1) * n]
        for a in range(q):
            score = scores[a * n : (a + 1) * n]
            for i in range(n):
                e[i] -= factor[d, a] * score[i]
        precision = precisions[d * n : (d + 1) * n]
        for i in range(n):
            lp[i] += precision[i] * e[i] * e[i]
    for i in range(n):
        lp[i] = log_weight - 0.5 * lp[i]


@kernel(fastmath=frozenset({"contract", "nsz"}))
def _factorise(capacity: Array, scores: Array, q: int, n: int, logs: Array) -> None:
    """Turn matrices into Cholesky factors, and W' pi (x - mu) into s; add log determinants."""
    for a in range(q):
        row = a * (a + 1) // 2
        score = scores[a * n : (a + 1) * n]
        for b in range(a + 1):
            line = capacity[(row + b) * n : (row + b + 1) * n]
            other = b * (b + 1) // 2
            for m in range(b):
                one = capacity[(row + m) * n : (row + m + 1) * n]
                two = capacity[(other + m) * n : (other + m + 1) * n]
                for i in range(n):
                    line[i] -= one[i] * two[i]
            head = capacity[(other + b) * n : (other + b + 1) * n]
            for i in range(n):
                if a == b:
                    logs[i] += log_positive(line[i])
                    line[i] = 1.0 / math.sqrt(line[i])
                else:
                    line[i] *= head[i]
        forward(capacity, row, a, n, scores, score)
    _backward(capacity, q, n, scores)


@kernel(fastmath=frozenset({"contract", "nsz"}))
def forward(capacity: Array, row: int, a: int, n: int, solved: Array, line: Array) -> None:
    """Do a step of solving with the triangles from above, in place."""
    for m in range(a):
        entry = capacity[(row + m) * n : (row + m + 1) * n]
        before = solved[m * n : (m + 1) * n]
        for i in range(n):
            line[i] -= entry[i] * before[i]
    head = capacity[(row + a) * n : (row + a + 1) * n]
    for i in range(n):
        line[i] *= head[i]


@kernel(fastmath=frozenset({"contract", "nsz"}))
def _backward(capacity: Array, q: int, n: int, solved: Array) -> None:
    """Solve with the transposed triangles, in place."""
    for a in range(q - 1, -1, -1):
        line = solved[a * n : (a + 1) * n]
        for m in range(a + 1, q):
            row = m * (m + 1) // 2
            entry = capacity[(row + a) * n : (row + a + 1) * n]
            after = solved[m * n : (m + 1) * n]
            for i in range(n):
                line[i] -= entry[i] * after[i]
        row = a * (a + 1) // 2
        head = capacity[(row + a) * n : (row + a + 1) * n]
        for i in range(n):
            line[i] *= head[i]


@kernel(fastmath=frozenset({"contract", "nsz"}))
def fill_spreads(capacity: Array, q: int, n: int, room: Array, spreads: Array) -> None:
    """Write V, line by line its lower triangle, of Cholesky factors as `score_partial` has them."""
    for j in range(q):
        room[: q * n] = 0.0
        room[j * n : (j + 1) * n] = 1.0
        for a in range(j, q):
            forward(capacity, a * (a + 1) // 2, a, n, room, room[a * n : (a + 1) * n])
        _backward(capacity, q, n, room)
        for a in range(j, q):
            entry = a * (a + 1) // 2 + j
            spreads[entry * n : (entry + 1) * n] = room[a * n : (a + 1) * n]


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _fill_products(one: Array, lines: Array, sums: Array) -> None:
    """Write the inner products of a line with several others."""
    n, n_lines = one.size, sums.size
    for j in range(0, n_lines - 1, 2):
        left = lines[j * n : (j + 1) * n]
        right = lines[(j + 1) * n : (j + 2) * n]
        a, b = 0.0, 0.0
        for i in range(n):
            a += one[i] * left[i]
            b += one[i] * right[i]
        sums[j], sums[j + 1] = a, b
    if n_lines % 2 == 1:
        left = lines[(n_lines - 1) * n : n_lines * n]
        a = 0.0
        for i in range(n):
            a += one[i] * left[i]
        sums[n_lines - 1] = a


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _add_slopes(
    lines: Array, factor: Array, measured: bool, r: Array, room: Array, by_mean: Array,
    by_noise: Array, by_loading: Array,
) -> float:  # fmt: skip
    """Add a block's derivatives to those of one component; return the sum of r."""
    (n_dim, q), n = by_loading.shape, r.size
    scores, capacity = lines[2 * n_dim * n :], lines[(2 * n_dim + q) * n :]
    count, n_entries = 0.0, q * (q + 1) // 2
    for i in range(n):
        count += r[i]
    if count == 0.0:
        return count
    spreads, pulled = room[: n_entries * n], room[n_entries * n :]
    fill_spreads(capacity, q, n, pulled, spreads)
    shares, pulled = pulled[n : 2 * n], pulled[:n]
    of_scores, of_spreads = np.empty(q), np.empty(n_entries)
    for d in range(n_dim):
        precision = lines[d * n : (d + 1) * n]
        e = lines[(n_dim + d) * n : (n_dim + d + 1) * n]
        one, two = 0.0, 0.0
        for i in range(n):
            share = r[i] * precision[i]
            shares[i] = share
            pulled[i] = share * e[i]
            one += share * e[i]
            two += share * (precision[i] * e[i] * e[i] - 1.0)
        by_mean[d] += one
        _fill_products(pulled, scores, of_scores)
        _fill_products(shares, spreads, of_spreads)
        entry, square = 0, 0.0
        for a in range(q):
            for b in range(a):
                of_scores[a] -= of_spreads[entry] * factor[d, b]
                of_scores[b] -= of_spreads[entry] * factor[d, a]
                entry += 1
            of_scores[a] -= of_spreads[entry] * factor[d, a]
            entry += 1
        for a in range(q):
            by_loading[d, a] += of_scores[a]
        if measured:
            for i in range(n):
                shares[i] *= precision[i]
            _fill_products(shares, spreads, of_spreads)
        entry = 0
        for a in range(q):
            for b in range(a):
                square += 2.0 * factor[d, a] * factor[d, b] * of_spreads[entry]
                entry += 1
            square += factor[d, a] * factor[d, a] * of_spreads[entry]
            entry += 1
        by_noise[d] += two + (square if measured else square / (factor[d, q] * factor[d, q]))
    return count


@kernel
def score_others(
    table: Array, n_offsets: int, start: int, n: int, log_weights: Array, means: Array,
    factors: Array, lines: Array, lp: Array,
) -> None:  # fmt: skip
    """Do what `score_partial` does for all components, and add what is known of labels.

    Lines of component k begin at k / K of `lines`, its densities at ``k * n`` of `lp`.
    """
    k_all, n_dim = means.shape
    length, measured = lines.size // k_all, len(table) - n_offsets > 2 * n_dim
    for k in range(k_all):
        score_partial(
            table, start, n, measured, means[k], factors[k], log_weights[k],
            lines[k * length :], lp[k * n :],
        )  # fmt: skip
    for k in range(n_offsets):
        offsets, line = table[len(table) - n_offsets + k], lp[k * n : (k + 1) * n]
        for i in range(n):
            line[i] += offsets[start + i]


@kernel
def factor_slopes(
    rows: Array,
    row_weights: Array,
    others: Array,
    log_weights: Array,
    means: Array,
    factors: Array,
    counts: Array,
    by_mean: Array,
    by_noise: Array,
    by_loading: Array,
) -> float:
    """Return the log-likelihood and write its derivatives, which EM reads too.

    Parameters
    ----------
    rows, row_weights, others : arrays
        As `kernels.factor_cells.pack_partial` returns them.
    log_weights, means, factors : arrays, shapes (K,), (K, D), (K, D, q + 1)
    counts : array, shape (K,)
        Overwritten with the sums of responsibilities.
    by_mean, by_noise, by_loading : arrays, shapes (K, D), (K, D), (K, D, q)
        Overwritten with the derivatives a by the means, b by psi^2, doubled, and c by loadings.

    Returns
    -------
    float
        Sum over rows of the log density of what is seen, in nats.

    Notes
    -----
    O(K D q) a whole row, O(K D q^2) any other.
    """
    k_all, n_dim, q = by_loading.shape
    gains, precisions = np.empty((k_all, q, n_dim)), np.empty((k_all, n_dim))
    log_determinants = np.empty(k_all)
    fill_gains(factors, gains, precisions, log_determinants)
    n_whole = rows.shape[1]
    weighted = row_weights.size > 0
    value = factor_e_step(
        rows, row_weights[:n_whole], log_weights, means, factors, gains, precisions,
        log_determinants, counts, by_mean, by_noise, by_loading,
    )  # fmt: skip
    for k in range(k_all):
        for d in range(n_dim):
            p = precisions[k, d]
            held = 1.0  # psi_d^2 (Sigma^-1)_dd
            for j in range(q):
                by_loading[k, d, j] = p * by_loading[k, d, j] - counts[k] * gains[k, j, d]
                held -= factors[k, d, j] * gains[k, j, d]
            by_mean[k, d] *= p
            by_noise[k, d] = p * (p * by_noise[k, d] - counts[k] * held)
    if others.size == 0:
        return value
    table, n_rows, n_offsets = table_of(others), int(others[0]), int(others[2])
    size = factor_block_size(n_rows, 2 * k_all, n_dim, q)
    length, measured = n_lines_of(n_dim, q) * size, len(table) - n_offsets > 2 * n_dim
    lines, room = np.empty(k_all * length), np.empty((q * (q + 1) // 2 + max(q, 2)) * size)
    lp, weights, densities = np.empty(k_all * size), np.zeros(size), np.empty(size)
    for start in range(0, n_rows, size):
        n = min(size, table.shape[1] - start)
        score_others(table, n_offsets, start, n, log_weights, means, factors, lines, lp)
        for i in range(n):
            weights[i] = 1.0 if start + i < n_rows else 0.0
            if weighted and start + i < n_rows:
                weights[i] = row_weights[n_whole + start + i]
        value += softmax_block(lp, n, k_all, weights, densities, n)
        for k in range(k_all):
            counts[k] += _add_slopes(
                lines[k * length :], factors[k], measured, lp[k * n : (k + 1) * n], room,
                by_mean[k], by_noise[k], by_loading[k],
            )  # fmt: skip
    return value
