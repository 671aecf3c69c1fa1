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

from bayesgmm.kernels.alone import n_error_lines
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.elementary import log_positive
from bayesgmm.kernels.estep import LOG_2PI
from bayesgmm.kernels.factor_pass import factor_e_step, fill_gains
from bayesgmm.kernels.patterns import NO_GROUPS, pack_alone
from bayesgmm.kernels.registers import EXACT
from bayesgmm.kernels.tiles import PADDING, softmax_block

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


def parted(rows: Array, n_dim: int, n_components: int) -> tuple[Labels, Labels]:
    """Return which rows are whole and without error, and which are not.

    Parameters
    ----------
    rows : array, shape (D', N)
        As `kernels.patterns` has it.
    n_dim, n_components : int
        D and K.
    """
    whole = ~np.isnan(rows[:n_dim]).any(axis=0)
    whole &= ~rows[n_dim + n_components :].any(axis=0)
    return np.flatnonzero(whole), np.flatnonzero(~whole)


def pack_partial(
    rows: Array, row_weights: Array, n_dim: int, n_components: int
) -> tuple[Array, Array, Array]:
    """Return whole rows, weights of these and then of the others, and the others, packed.

    Parameters
    ----------
    rows : array, shape (D', N)
        As `kernels.patterns` has it.
    row_weights : array, shape (N,) or (0,)
    n_dim, n_components : int
        D and K.
    """
    whole, partial = parted(rows, n_dim, n_components)
    if partial.size == 0:
        return rows[: n_dim + n_components], row_weights, NO_GROUPS
    weights = row_weights[np.append(whole, partial)] if row_weights.size else row_weights
    others = pack_alone(rows, partial, n_dim, n_components)
    return np.ascontiguousarray(rows[: n_dim + n_components, whole]), weights, others


@kernel
def n_lines_of(n_dim: int, n_factors: int) -> int:
    """Return how many lines `score_partial` writes for a component."""
    return 2 * n_dim + n_factors + n_factors * (n_factors + 1) // 2


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def score_partial(
    others: Array, at: int, mean: Array, factor: Array, log_weight: float, lines: Array, lp: Array
) -> None:
    """Write what the rows of a block say of their scores, and log densities, of one component.

    Parameters
    ----------
    others : array
        As `kernels.patterns.pack_alone` returns them, errors none or standard deviations.
    at : int
        Where the block, of `PADDING` rows, begins.
    mean, factor : arrays, shapes (D,), (D, q + 1)
    log_weight : float
    lines : array
        Overwritten, line by line, with the precisions pi, what scores leave e (anything where a
        cell is missing), scores s, and the lower triangle of the Cholesky factor of 1 + W' pi W,
        row by row, the inverse of each entry on its diagonal in its place.
    lp : array
        Overwritten with log weight plus log density of what is seen.

    Notes
    -----
    D (q^2 / 2 + 5 q / 2) multiplications and additions a row.
    """
    n_dim, q = mean.size, factor.shape[1] - 1
    exact = int(others[1]) == EXACT
    precisions, left = lines[: n_dim * PADDING], lines[n_dim * PADDING : 2 * n_dim * PADDING]
    scores, capacity = lines[2 * n_dim * PADDING :], lines[(2 * n_dim + q) * PADDING :]
    scores[: q * PADDING] = 0.0
    entry = 0
    for a in range(q):
        for b in range(a + 1):
            capacity[entry * PADDING : (entry + 1) * PADDING] = 1.0 if a == b else 0.0
            entry += 1
    lp[:PADDING] = 0.0  # the sum of the logarithms of variances seen
    for d in range(n_dim):
        cells = others[at + d * PADDING : at + (d + 1) * PADDING]
        there = others[at + (n_dim + d) * PADDING : at + (n_dim + d + 1) * PADDING]
        precision = precisions[d * PADDING : (d + 1) * PADDING]
        e = left[d * PADDING : (d + 1) * PADDING]
        variance = factor[d, q] * factor[d, q]
        if exact:
            inverse, log = 1.0 / variance, math.log(variance) + LOG_2PI
            for i in range(PADDING):
                precision[i] = there[i] * inverse
                lp[i] += there[i] * log
        else:
            errors = others[at + (2 * n_dim + d) * PADDING : at + (2 * n_dim + d + 1) * PADDING]
            for i in range(PADDING):
                whole = variance + errors[i] * errors[i]
                precision[i] = there[i] / whole
                lp[i] += there[i] * (log_positive(whole) + LOG_2PI)
        for i in range(PADDING):
            e[i] = cells[i] - mean[d]
        entry = 0
        for a in range(q):
            score = scores[a * PADDING : (a + 1) * PADDING]
            for i in range(PADDING):
                score[i] += factor[d, a] * precision[i] * e[i]
            for b in range(a + 1):
                line = capacity[entry * PADDING : (entry + 1) * PADDING]
                product = factor[d, a] * factor[d, b]
                for i in range(PADDING):
                    line[i] += product * precision[i]
                entry += 1
    _factorise(capacity, scores, q, lp)
    for a in range(q):
        score = scores[a * PADDING : (a + 1) * PADDING]
        for i in range(PADDING):
            lp[i] += score[i] * score[i]
    for d in range(n_dim):
        e = left[d * PADDING : (d + 1) * PADDING]
        for a in range(q):
            score = scores[a * PADDING : (a + 1) * PADDING]
            for i in range(PADDING):
                e[i] -= factor[d, a] * score[i]
        precision = precisions[d * PADDING : (d + 1) * PADDING]
        for i in range(PADDING):
            lp[i] += precision[i] * e[i] * e[i]
    for i in range(PADDING):
        lp[i] = log_weight - 0.5 * lp[i]


@kernel(fastmath=frozenset({"contract", "nsz"}))
def _factorise(capacity: Array, scores: Array, q: int, logs: Array) -> None:
    """Turn matrices into Cholesky factors, and W' pi (x - mu) into s; add log determinants."""
    for a in range(q):
        row = a * (a + 1) // 2
        score = scores[a * PADDING : (a + 1) * PADDING]
        for b in range(a + 1):
            line = capacity[(row + b) * PADDING : (row + b + 1) * PADDING]
            other = b * (b + 1) // 2
            for m in range(b):
                one = capacity[(row + m) * PADDING : (row + m + 1) * PADDING]
                two = capacity[(other + m) * PADDING : (other + m + 1) * PADDING]
                for i in range(PADDING):
                    line[i] -= one[i] * two[i]
            head = capacity[(other + b) * PADDING : (other + b + 1) * PADDING]
            for i in range(PADDING):
                if a == b:
                    logs[i] += log_positive(line[i])
                    line[i] = 1.0 / math.sqrt(line[i])
                else:
                    line[i] *= head[i]
        forward(capacity, row, a, scores, score)
    _backward(capacity, q, scores)


@kernel(fastmath=frozenset({"contract", "nsz"}))
def forward(capacity: Array, row: int, a: int, solved: Array, line: Array) -> None:
    """Do a step of solving with the triangles from above, in place."""
    for m in range(a):
        entry = capacity[(row + m) * PADDING : (row + m + 1) * PADDING]
        before = solved[m * PADDING : (m + 1) * PADDING]
        for i in range(PADDING):
            line[i] -= entry[i] * before[i]
    head = capacity[(row + a) * PADDING : (row + a + 1) * PADDING]
    for i in range(PADDING):
        line[i] *= head[i]


@kernel(fastmath=frozenset({"contract", "nsz"}))
def _backward(capacity: Array, q: int, solved: Array) -> None:
    """Solve with the transposed triangles, in place."""
    for a in range(q - 1, -1, -1):
        line = solved[a * PADDING : (a + 1) * PADDING]
        for m in range(a + 1, q):
            row = m * (m + 1) // 2
            entry = capacity[(row + a) * PADDING : (row + a + 1) * PADDING]
            after = solved[m * PADDING : (m + 1) * PADDING]
            for i in range(PADDING):
                line[i] -= entry[i] * after[i]
        row = a * (a + 1) // 2
        head = capacity[(row + a) * PADDING : (row + a + 1) * PADDING]
        for i in range(PADDING):
            line[i] *= head[i]


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _add_slopes(
    lines: Array, factor: Array, r: Array, room: Array, by_mean: Array, by_noise: Array,
    by_loading: Array,
) -> float:  # fmt: skip
    """Add a block's derivatives to those of one component; return the sum of r."""
    n_dim, q = by_loading.shape
    scores, capacity = lines[2 * n_dim * PADDING :], lines[(2 * n_dim + q) * PADDING :]
    count = 0.0
    for i in range(PADDING):
        count += r[i]
    if count == 0.0:
        return count
    square = room[q * PADDING : (q + 1) * PADDING]
    for d in range(n_dim):
        precision = lines[d * PADDING : (d + 1) * PADDING]
        e = lines[(n_dim + d) * PADDING : (n_dim + d + 1) * PADDING]
        for i in range(PADDING):
            square[i] = e[i] * e[i]
        for a in range(q):
            line = room[a * PADDING : (a + 1) * PADDING]
            line[:] = factor[d, a]
            forward(capacity, a * (a + 1) // 2, a, room, line)
            for i in range(PADDING):
                square[i] += line[i] * line[i]
        _backward(capacity, q, room)
        one, two = 0.0, 0.0
        for i in range(PADDING):
            share = r[i] * precision[i]
            one += share * e[i]
            two += share * (precision[i] * square[i] - 1.0)
        by_mean[d] += one
        by_noise[d] += two
        for a in range(q):
            line, score = room[a * PADDING : (a + 1) * PADDING], scores[a * PADDING :]
            one = 0.0
            for i in range(PADDING):
                one += r[i] * precision[i] * (e[i] * score[i] - line[i])
            by_loading[d, a] += one
    return count


@kernel
def score_others(
    others: Array, at: int, log_weights: Array, means: Array, factors: Array, lines: Array,
    lp: Array,
) -> int:  # fmt: skip
    """Do what `score_partial` does for all components; return where the next block begins."""
    k_all, n_dim = means.shape
    length = n_lines_of(n_dim, factors.shape[2] - 1) * PADDING
    for k in range(k_all):
        score_partial(
            others, at, means[k], factors[k], log_weights[k], lines[k * length :],
            lp[k * PADDING :],
        )  # fmt: skip
    at += (2 * n_dim + n_error_lines(int(others[1]), n_dim)) * PADDING
    n_offsets = int(others[2])
    for j in range(n_offsets * PADDING):
        lp[j] += others[at + j]
    return at + n_offsets * PADDING


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
        As `pack_partial` returns them.
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
    length = n_lines_of(n_dim, q) * PADDING
    lines, room = np.empty(k_all * length), np.empty((q + 1) * PADDING)
    lp, weights, densities = np.empty(k_all * PADDING), np.empty(PADDING), np.empty(PADDING)
    n_rows, at = int(others[0]), 3
    for start in range(0, n_rows, PADDING):
        at = score_others(others, at, log_weights, means, factors, lines, lp)
        for i in range(PADDING):
            weights[i] = 1.0 if start + i < n_rows else 0.0
            if weighted and start + i < n_rows:
                weights[i] = row_weights[n_whole + start + i]
        value += softmax_block(lp, PADDING, k_all, weights, densities, PADDING)
        for k in range(k_all):
            counts[k] += _add_slopes(
                lines[k * length :], factors[k], lp[k * PADDING : (k + 1) * PADDING], room,
                by_mean[k], by_noise[k], by_loading[k],
            )  # fmt: skip
    return value
