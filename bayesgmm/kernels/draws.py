"""The pass, stopped half-way, for many draws of the parameters at once.

All functions take the data feature by feature, shape (D, N), or (D + K, N) with what is known of
their labels below (`kernels.estep.e_step`), and S mixtures: log-weights (S, K),
means (S, K, D) and lower Cholesky factors of the covariances (S, K, D, D), or (S, K, D + 1, D)
with degrees of freedom below (`kernels.tails`), or of factor analysers [W psi], (S, K, D, q + 1),
q + 1 < D. A log-weight more than there are means is that of background noise, its log density
added (`kernels.estep`), and then responsibilities are K + 1. Costs are O(S N K D^2) or O(S N K D q)
operations; nothing of the size S x N x K is stored unless it is the result.
"""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.alone import fill_alone
from bayesgmm.kernels.blocks import add_offsets, copy_block
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import FEW, LOG_2PI, block_size, fill_whiteners
from bayesgmm.kernels.factor_cells import pack_lines, parted
from bayesgmm.kernels.factor_draws import fill_partial
from bayesgmm.kernels.factor_loadings import is_factored
from bayesgmm.kernels.factor_pass import fill_gains, score_block
from bayesgmm.kernels.lanes import LANES, borrowed, keep
from bayesgmm.kernels.marginal import marginal_factors
from bayesgmm.kernels.patterns import divided, is_complete, pack_alone
from bayesgmm.kernels.tails import tail_block, tail_constant
from bayesgmm.kernels.tiles import PADDING, softmax_block, whiten_block

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


def fill_draws(
    rows: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    densities: Array,
    responsibilities: Array,
    labels: Labels,
    confusion: Array,
) -> None:
    """Write what is asked for about every row under every draw: empty arrays are not.

    Parameters
    ----------
    rows : array, shape (D', N)
        As `kernels.patterns` has it, with NaN where cells are missing: what is written is then
        that of what is seen.
    log_weights, means, cholesky : arrays, shapes (S, K), (S, K, D), (S, K, D or D + 1, D)
    densities : array, shape (S, N) or (0, 0)
        Log densities, in nats.
    responsibilities : array, shape (S, K, N) or (1, K, N) or (0, 0, 0)
        Overwritten; with one entry along S, their sum over the draws is added to it.
    labels : array of int, shape (N,) or (0,)
        A partition to compare the draws with.
    confusion : array, shape (S, K, L) or (0, 0, 0)
        For every draw, the sum of component k's responsibilities over the rows labelled l.
    """
    n_dim, n_all = means.shape[2], log_weights.shape[1]
    if is_complete(rows, n_dim, n_all):
        fill_complete(
            rows, log_weights, means, cholesky, densities, responsibilities, labels, confusion
        )
        return
    confusion[:] = 0.0
    if len(responsibilities) != 1:
        responsibilities[:] = 0.0
    if is_factored(cholesky, n_dim):
        _fill_factored(
            rows, log_weights, means, cholesky, densities, responsibilities, labels, confusion
        )
        return
    groups, few = divided(rows, n_dim, n_all)
    for members, seen, errors, lines in groups:
        n = members.size
        drawn = np.empty((len(densities), n if densities.size else 0))
        shares = np.zeros((*responsibilities.shape[:2], n if responsibilities.size else 0))
        confused = np.empty(confusion.shape)
        fill_complete(
            np.ascontiguousarray(rows[lines[:, None], members]), log_weights,
            np.ascontiguousarray(means[:, :, seen]), marginal_factors(cholesky, seen, errors),
            drawn, shares, labels[members] if labels.size else labels, confused,
        )  # fmt: skip
        confusion += confused
        if densities.size:
            densities[:, members] = drawn
        if responsibilities.size:
            responsibilities[:, :, members] += shares
    if few.size:
        fill_alone(
            pack_alone(rows, few, n_dim, n_all), few,
            log_weights, means, cholesky, densities, responsibilities, labels, confusion,
        )  # fmt: skip


def _fill_factored(
    rows: Array,
    log_weights: Array,
    means: Array,
    factors: Array,
    densities: Array,
    responsibilities: Array,
    labels: Labels,
    confusion: Array,
) -> None:
    """Add what `fill_draws` writes, of factor analysers: of the whole rows, and of the others."""
    n_components, n_dim = means.shape[1:]
    whole, partial = parted(rows, n_dim, n_components)
    if whole.size:
        drawn = np.empty((len(densities), whole.size if densities.size else 0))
        shares = np.zeros((*responsibilities.shape[:2], whole.size if responsibilities.size else 0))
        fill_complete(
            np.ascontiguousarray(rows[: n_dim + n_components, whole]), log_weights, means, factors,
            drawn, shares, labels[whole] if labels.size else labels, confusion,
        )  # fmt: skip
        if densities.size:
            densities[:, whole] = drawn
        if responsibilities.size:
            responsibilities[:, :, whole] += shares
    fill_partial(
        pack_lines(rows, partial, n_dim, n_components), partial, log_weights, means, factors,
        densities, responsibilities, labels, confusion,
    )  # fmt: skip


@kernel
def fill_complete(
    rows: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    densities: Array,
    responsibilities: Array,
    labels: Labels,
    confusion: Array,
) -> None:
    """Write what `fill_draws` says, of rows of which nothing is missing and nothing in error."""
    n_draws, n_components, n_dim = means.shape
    n_rows = rows.shape[1]
    n_all = log_weights.shape[1]
    size = block_size(n_rows, n_components, n_dim)
    flat = np.ascontiguousarray(rows).reshape(-1)
    means, cholesky = borrowed(means), borrowed(cholesky)  # whoever called keeps them
    memory = np.empty((2 * n_dim + cholesky.shape[3] + n_all + 4) * size + LANES)
    lp = borrowed(memory)[-(memory.ctypes.data // 8) % LANES :]
    others = lp[n_all * size :]
    ones, density = others[:size], others[size : 2 * size]
    pulls, logs = others[2 * size : 3 * size], others[3 * size : 4 * size]
    copied = others[4 * size :]
    y = copied[n_dim * size :]
    ones[:] = 1.0
    log_determinants = np.empty(n_components)
    factored, tailed = cholesky.shape[3] < n_dim, cholesky.shape[2] > n_dim
    n_factors = cholesky.shape[3] - 1 if factored else 0
    n_whitened, n_lines = (0, 0) if factored else (n_dim, cholesky.shape[2])
    owned_whiteners = np.empty((n_components, n_lines, n_whitened))
    whiteners = borrowed(owned_whiteners)
    gains = np.empty((n_components, n_factors, n_dim))
    precisions = np.empty((n_components, n_dim if factored else 0))
    summed = responsibilities.shape[0] == 1
    confusion[:] = 0.0
    for s in range(n_draws):
        if factored:
            fill_gains(cholesky[s], gains, precisions, log_determinants)
        else:
            fill_whiteners(cholesky[s], whiteners, log_determinants)
        for start in range(0, n_rows, size):
            n = min(size, n_rows - start)
            direct = n == size and n_dim <= FEW and not factored
            if not direct:
                copy_block(flat, n_rows, start, n, size, n_dim, copied)
            padded = (n + PADDING - 1) // PADDING * PADDING
            for k in range(n_components):
                constant = log_weights[s, k] - log_determinants[k]
                if factored:
                    score_block(
                        copied, size, means[s, k], cholesky[s, k], gains[k], precisions[k],
                        constant - 0.5 * n_dim * LOG_2PI, y, lp[k * size :], padded,
                    )  # fmt: skip
                    continue
                whiten_block(
                    flat if direct else copied, start if direct else 0,
                    n_rows if direct else size, means[s, k], whiteners[k],
                    0.0 if tailed else constant - 0.5 * n_dim * LOG_2PI,
                    y, size, lp[k * size :], padded,
                )  # fmt: skip
                if tailed:
                    df = whiteners[k, n_dim, 0]
                    tail_block(
                        lp[k * size :], pulls, logs, constant + tail_constant(df, n_dim),
                        df, n_dim, padded,
                    )  # fmt: skip
            for k in range(n_components, n_all):
                lp[k * size : k * size + padded] = log_weights[s, k]
            if rows.shape[0] > n_dim:
                add_offsets(rows, start, n, size, n_dim, lp)
            softmax_block(lp, size, n_all, ones, density, padded)
            if densities.size > 0:
                for i in range(n):
                    densities[s, start + i] = density[i]
            for k in range(n_all):
                shares = lp[k * size : k * size + n]
                if responsibilities.size > 0 and summed:
                    for i in range(n):
                        responsibilities[0, k, start + i] += shares[i]
                elif responsibilities.size > 0:
                    for i in range(n):
                        responsibilities[s, k, start + i] = shares[i]
                if confusion.size > 0:
                    for i in range(n):
                        confusion[s, k, labels[start + i]] += shares[i]
    keep(memory)
    keep(owned_whiteners)
