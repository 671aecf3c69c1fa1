"""Rows that are seen like few others, a register of them at once.

Where every row has errors of its own, or its own cells missing, no triangle T of
`kernels.incomplete` serves many rows. Here each lane of a register does for its row what
`kernels.marginal.fill_marginal` does: it orthogonalises the rows of [L_o E_o], and takes y along. A
missing feature keeps its place, as a row of zeros with y = 0 and 1 on the diagonal of T, so that
rows with different cells missing go side by side. L and E are lower triangles, and so are both
halves of Q: it takes D^3 / 3 multiplications and additions (D^3 / 6 without errors), and as many
again for the expected moments. Heavy tails (`kernels.tails`) are for cells without error alone.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.lanes import LANES
from bayesgmm.kernels.registers import (
    ABREAST,
    DEVIATIONS,
    EXACT,
    add_heavy_moments,
    add_moments,
    whiten_deviations,
    whiten_exact,
    whiten_factors,
    whiten_heavy,
)
from bayesgmm.kernels.tails import log_pull_sum, tail_constant
from bayesgmm.kernels.tiles import PADDING, WIDTH, softmax_block

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


@kernel
def _tails(cholesky: Array) -> Array:
    """Return constants and digammas of `kernels.tails`, shape (2, K, D + 1), by cells seen."""
    k_all, n_lines, n_dim = cholesky.shape
    if n_lines == n_dim:
        return np.empty((2, k_all, 0))
    result = np.empty((2, k_all, n_dim + 1))
    for k in range(k_all):
        df = cholesky[k, n_dim, 0]
        for d in range(n_dim + 1):
            result[0, k, d] = tail_constant(df, d)
            result[1, k, d] = log_pull_sum(1.0, 0.0, df, d)
    return result


@kernel
def _fill_block(
    alone: Array, at: int, log_weights: Array, means: Array, cholesky: Array, tails: Array,
    bases: Array, errors: Array, y: Array, lp: Array, pulls: Array, logs: Array,
) -> int:  # fmt: skip
    """Write basis, y and log joint density of a block of rows, and return where the next is."""
    k_all, n_dim = means.shape
    n_lines = cholesky.shape[1]
    kind, n_offsets = int(alone[1]), int(alone[2])
    part = 0
    for k in range(k_all):
        for v in range(0, WIDTH, ABREAST):
            begin, to = at + v * LANES, k * PADDING + v * LANES
            if n_lines > n_dim:
                whiten_heavy(
                    alone, begin, means, cholesky, n_lines, n_dim, k, log_weights[k], bases,
                    errors, y, part, lp, to,
                )  # fmt: skip
            elif kind == EXACT:
                whiten_exact(
                    alone, begin, means, cholesky, n_lines, n_dim, k, log_weights[k], bases,
                    errors, y, part, lp, to,
                )  # fmt: skip
            elif kind == DEVIATIONS:
                whiten_deviations(
                    alone, begin, means, cholesky, n_lines, n_dim, k, log_weights[k], bases,
                    errors, y, part, lp, to,
                )  # fmt: skip
            else:
                whiten_factors(
                    alone, begin, means, cholesky, n_lines, n_dim, k, log_weights[k], bases,
                    errors, y, part, lp, to,
                )  # fmt: skip
            part += ABREAST
    for k in range(k_all, log_weights.size):
        lp[k * PADDING : (k + 1) * PADDING] = log_weights[k]
    if n_lines > n_dim:
        _fill_heavy(alone, at, cholesky, tails, y, lp, pulls, logs)
    at += (2 * n_dim + n_error_lines(kind, n_dim)) * PADDING
    for i in range(n_offsets * PADDING):
        lp[i] += alone[at + i]
    return at + n_offsets * PADDING


@kernel
def _fill_heavy(
    alone: Array, at: int, cholesky: Array, tails: Array, y: Array, lp: Array, pulls: Array,
    logs: Array,
) -> None:  # fmt: skip
    """Add the tails of a block of rows to its densities, and write pulls and their logs."""
    k_all, _, n_dim = cholesky.shape
    for k in range(k_all):
        df = cholesky[k, n_dim, 0]
        for i in range(PADDING):
            part = k * WIDTH + i // LANES
            square = y[(part * (2 * n_dim + 1) + 2 * n_dim) * LANES + i % LANES]
            there = _n_seen(alone, at, n_dim, i)
            log = math.log1p(square / df)
            lp[k * PADDING + i] += tails[0, k, there] - 0.5 * (df + there) * log
            pulls[k * PADDING + i] = (df + there) / (df + square)
            logs[k * PADDING + i] = log


@kernel
def _n_seen(alone: Array, at: int, n_dim: int, i: int) -> int:
    """Return how many cells of row i of a block are seen."""
    total = 0
    for d in range(n_dim, 2 * n_dim):
        total += int(alone[at + d * PADDING + i])
    return total


@kernel
def n_error_lines(kind: int, n_dim: int) -> int:
    """Return how many numbers say what the errors of a row are."""
    if kind == EXACT:
        return 0
    return n_dim if kind == DEVIATIONS else n_dim * (n_dim + 1) // 2


@kernel
def alone_moments(
    alone: Array,
    row_weights: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    counts: Array,
    first: Array,
    second: Array,
) -> float:
    """Add what `kernels.incomplete.expected_moments` says, of rows that are seen like few others.

    Parameters
    ----------
    alone : array
        As `kernels.patterns.pack_alone` returns them.
    row_weights : array, shape (n,) or (0,)
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D or D + 1, D)
        With noise there are K + 1 log-weights, and counts.
    counts, first, second : arrays, shapes that of `log_weights`, (K, D), and that of `cholesky`
        Added to.

    Returns
    -------
    float
        The sum of the log densities.
    """
    k_all, n_dim = means.shape
    n_all = log_weights.size
    n_rows, triangle = int(alone[0]), n_dim * (n_dim + 1) // 2
    length = 1 + n_dim + triangle
    bases, errors = np.empty(k_all * triangle * PADDING), np.empty(ABREAST * triangle * LANES)
    y, lp = np.empty(k_all * (2 * n_dim + 1) * PADDING), np.empty(n_all * PADDING)
    weights, densities = np.empty(PADDING), np.empty(PADDING)
    sums = np.zeros(k_all * length * LANES)
    heavy, tails = cholesky.shape[1] > n_dim, _tails(cholesky)
    pulls, logs = np.empty(lp.size if heavy else 0), np.empty(lp.size if heavy else 0)
    value, at = 0.0, 3
    for start in range(0, n_rows, PADDING):
        block = at
        at = _fill_block(
            alone, at, log_weights, means, cholesky, tails, bases, errors, y, lp, pulls, logs
        )
        for i in range(PADDING):
            weights[i] = 1.0 if row_weights.size == 0 else 0.0
            if start + i >= n_rows:
                weights[i] = 0.0
            elif row_weights.size > 0:
                weights[i] = row_weights[start + i]
        value += softmax_block(lp, PADDING, n_all, weights, densities, PADDING)
        for k in range(k_all, n_all):
            counts[k] += lp[k * PADDING : (k + 1) * PADDING].sum()
        for k in range(k_all):
            place = k * PADDING
            if not heavy:
                add_moments(bases, y, k * WIDTH, lp, pulls, place, n_dim, sums, k)
                continue
            for i in range(PADDING):
                there = _n_seen(alone, block, n_dim, i)
                gain = tails[1, k, there] - logs[place + i]
                second[k, n_dim, 0] += lp[place + i] * gain
            add_heavy_moments(bases, y, k * WIDTH, lp, pulls, place, n_dim, sums, k)
    lane = 0
    for k in range(k_all):
        total = sums[lane : lane + LANES].sum()
        lane += LANES
        counts[k] += total
        for d in range(n_dim):
            first[k, d] += sums[lane : lane + LANES].sum()
            second[k, d, d] += total
            lane += LANES
        for d in range(n_dim):
            for e in range(d + 1):
                term = sums[lane : lane + LANES].sum()
                lane += LANES
                second[k, d, e] += term
                if e < d:
                    second[k, e, d] += term
    return value


@kernel
def fill_alone(
    alone: Array,
    members: Labels,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    densities: Array,
    responsibilities: Array,
    labels: Labels,
    confusion: Array,
) -> None:
    """Do what `kernels.draws.fill_draws` does, of rows that are seen like few others.

    Parameters
    ----------
    alone : array
        As `kernels.patterns.pack_alone` returns them.
    members : array of int, shape (n,)
        Which rows they are.
    log_weights, means, cholesky : arrays, shapes (S, K), (S, K, D), (S, K, D or D + 1, D)
    densities, responsibilities, labels, confusion
        As `fill_draws` takes them, but for responsibilities and confusion, which are added to.
    """
    n_draws, k_all, n_dim = means.shape
    n_all = log_weights.shape[1]
    triangle = n_dim * (n_dim + 1) // 2
    bases, errors = np.empty(k_all * triangle * PADDING), np.empty(ABREAST * triangle * LANES)
    y, lp = np.empty(k_all * (2 * n_dim + 1) * PADDING), np.empty(n_all * PADDING)
    weights, density = np.ones(PADDING), np.empty(PADDING)
    size = lp.size if cholesky.shape[2] > n_dim else 0
    pulls, logs = np.empty(size), np.empty(size)
    summed = responsibilities.shape[0] == 1
    for s in range(n_draws):
        at, tails = 3, _tails(cholesky[s])
        for start in range(0, members.size, PADDING):
            at = _fill_block(
                alone, at, log_weights[s], means[s], cholesky[s], tails, bases, errors, y, lp,
                pulls, logs,
            )  # fmt: skip
            softmax_block(lp, PADDING, n_all, weights, density, PADDING)
            for i in range(min(PADDING, members.size - start)):
                row = members[start + i]
                if densities.size > 0:
                    densities[s, row] = density[i]
                for k in range(n_all):
                    share = lp[k * PADDING + i]
                    if responsibilities.size > 0:
                        responsibilities[0 if summed else s, k, row] += share
                    if confusion.size > 0:
                        confusion[s, k, labels[row]] += share
