"""What many draws of factor analysers say of rows of which a part is seen.

Rows come as `kernels.factor_partial.pack_lines` returns them.
"""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.factor_cells import table_of
from bayesgmm.kernels.factor_partial import forward, n_lines_of, score_others
from bayesgmm.kernels.factor_pass import factor_block_size
from bayesgmm.kernels.tiles import softmax_block

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


@kernel
def fill_partial(
    others: Array,
    members: Labels,
    log_weights: Array,
    means: Array,
    factors: Array,
    densities: Array,
    responsibilities: Array,
    labels: Labels,
    confusion: Array,
) -> None:
    """Do what `kernels.alone.fill_alone` does, of factor analysers (S, K, D, q + 1)."""
    n_draws, k_all, n_dim = means.shape
    table, n_offsets, q = table_of(others), int(others[2]), factors.shape[3] - 1
    size = factor_block_size(members.size, 2 * k_all, n_dim, q)
    lines, lp = np.empty(k_all * n_lines_of(n_dim, q) * size), np.empty(k_all * size)
    weights, density = np.ones(size), np.empty(size)
    summed = responsibilities.shape[0] == 1
    for s in range(n_draws):
        for start in range(0, members.size, size):
            n = min(size, table.shape[1] - start)
            score_others(
                table, n_offsets, start, n, log_weights[s], means[s], factors[s], lines, lp
            )
            softmax_block(lp, n, k_all, weights, density, n)
            for i in range(min(n, members.size - start)):
                row = members[start + i]
                if densities.size > 0:
                    densities[s, row] = density[i]
                for k in range(k_all):
                    share = lp[k * n + i]
                    if responsibilities.size > 0:
                        responsibilities[0 if summed else s, k, row] += share
                    if confusion.size > 0:
                        confusion[s, k, labels[row]] += share


@kernel
def add_scores(others: Array, means: Array, factors: Array, sums: Array) -> None:
    """Add the scores of rows under every draw, their squares, and what rows leave unknown.

    Parameters
    ----------
    others : array
        As `pack_lines` returns them.
    means, factors : arrays, shapes (S, K, D), (S, K, D, q + 1)
    sums : array, shape (3, K, q, N)
        The sums over draws of s, of s^2 and of the diagonal of V are added to it.
    """
    n_draws, k_all, n_dim = means.shape
    q, n_rows = factors.shape[3] - 1, sums.shape[3]
    table, n_offsets = table_of(others), int(others[2])
    size = factor_block_size(n_rows, 2 * k_all, n_dim, q)
    length = n_lines_of(n_dim, q) * size
    lines, lp, room = np.empty(k_all * length), np.empty(k_all * size), np.empty(q * size)
    alike = np.zeros(k_all)
    for s in range(n_draws):
        for start in range(0, n_rows, size):
            n = min(size, table.shape[1] - start)
            score_others(table, n_offsets, start, n, alike, means[s], factors[s], lines, lp)
            for k in range(k_all):
                scores = lines[k * length + 2 * n_dim * n :]
                capacity = scores[q * n :]
                for j in range(q):
                    room[:] = 0.0
                    room[j * n : (j + 1) * n] = 1.0
                    for a in range(j, q):
                        line = room[a * n : (a + 1) * n]
                        forward(capacity, a * (a + 1) // 2, a, n, room, line)
                        for i in range(min(n, n_rows - start)):
                            sums[2, k, j, start + i] += line[i] * line[i]
                    for i in range(min(n, n_rows - start)):
                        score = scores[j * n + i]
                        sums[0, k, j, start + i] += score
                        sums[1, k, j, start + i] += score * score


@kernel
def fill_completed(
    others: Array,
    log_weights: Array,
    means: Array,
    factors: Array,
    uniform: Array,
    normal: Array,
    drawn: Array,
) -> None:
    """Write draws of whole rows without error, given what is seen, one under every draw.

    Parameters
    ----------
    others : array
        As `pack_lines` returns them.
    log_weights, means, factors : arrays, shapes (S, K), (S, K, D), (S, K, D, q + 1)
    uniform : array, shape (S, N)
        Which choose the component.
    normal : array, shape (S, N, D + q)
        Noise of the cells, then of the scores.
    drawn : array, shape (S, N, D)
        Overwritten; what is seen, with error or without, anything.
    """
    n_draws, k_all, n_dim = means.shape
    q, n_rows = factors.shape[3] - 1, drawn.shape[1]
    table, n_offsets = table_of(others), int(others[2])
    size = factor_block_size(n_rows, 2 * k_all, n_dim, q)
    length = n_lines_of(n_dim, q) * size
    lines, lp, z = np.empty(k_all * length), np.empty(k_all * size), np.empty(q)
    weights, density = np.ones(size), np.empty(size)
    for s in range(n_draws):
        for start in range(0, n_rows, size):
            n = min(size, table.shape[1] - start)
            score_others(
                table, n_offsets, start, n, log_weights[s], means[s], factors[s], lines, lp
            )
            softmax_block(lp, n, k_all, weights, density, n)
            for i in range(min(n, n_rows - start)):
                row, k = start + i, 0
                passed = lp[i]
                while k < k_all - 1 and passed < uniform[s, row]:
                    k += 1
                    passed += lp[k * n + i]
                scores = lines[k * length + 2 * n_dim * n :]
                capacity = scores[q * n :]
                for a in range(q - 1, -1, -1):  # C' z is standard Normal
                    z[a] = normal[s, row, n_dim + a]
                    for m in range(a + 1, q):
                        z[a] -= capacity[(m * (m + 1) // 2 + a) * n + i] * z[m]
                    z[a] *= capacity[(a * (a + 1) // 2 + a) * n + i]
                for d in range(n_dim):
                    cell = means[s, k, d] + factors[s, k, d, q] * normal[s, row, d]
                    for a in range(q):
                        cell += factors[s, k, d, a] * (scores[a * n + i] + z[a])
                    drawn[s, row, d] = cell
