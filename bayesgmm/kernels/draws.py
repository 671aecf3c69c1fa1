"""The pass, stopped half-way, for many draws of the parameters at once.

All functions take the data feature by feature, shape (D, N), and S mixtures: log-weights (S, K),
means (S, K, D) and lower Cholesky factors of the covariances (S, K, D, D). Costs are
O(S N K D^2) operations; nothing of the size S x N x K is stored unless it is the result.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import (
    BLOCK,
    LOG_2PI,
    SMALL,
    cancels,
    fill_whiteners,
    log_joint_block,
    softmax_block,
)
from bayesgmm.kernels.natural import fill_natural, n_features_natural

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


@kernel
def _prepare(
    log_weights: Array,
    means: Array,
    cholesky: Array,
    reach: float,
    whiteners: Array,
    constants: Array,
    theta: Array,
) -> bool:
    """Write the whiteners and constants of one mixture, and theta if the natural form is used."""
    n_dim = means.shape[1]
    fill_whiteners(cholesky, whiteners, constants)
    for k in range(means.shape[0]):
        constants[k] = log_weights[k] - constants[k] - 0.5 * n_dim * LOG_2PI
    natural = n_dim > SMALL and not cancels(whiteners, reach)
    if natural:
        fill_natural(constants, means, whiteners, theta)
    return natural


@kernel
def fill_draws(
    rows: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
    reach: float,
    densities: Array,
    responsibilities: Array,
    labels: Labels,
    confusion: Array,
) -> None:
    """Write what is asked for about every row under every draw: empty arrays are not.

    Parameters
    ----------
    rows : array, shape (D, N)
    log_weights, means, cholesky : arrays, shapes (S, K), (S, K, D), (S, K, D, D)
    reach : float
        Largest absolute entry of `rows`.
    densities : array, shape (S, N) or (0, 0)
        Log densities, in nats.
    responsibilities : array, shape (S, K, N) or (1, K, N) or (0, 0, 0)
        Overwritten; with one entry along S, their sum over the draws is added to it.
    labels : array of int, shape (N,) or (0,)
        A partition to compare the draws with.
    confusion : array, shape (S, K, L) or (0, 0, 0)
        For every draw, the sum of component k's responsibilities over the rows labelled l.
    """
    n_draws, n_components, n_dim = means.shape
    n_rows = rows.shape[1]
    n_natural = n_features_natural(n_dim)
    size = min(BLOCK, n_rows)
    features = np.empty(max(n_natural, n_components * n_dim) * size)
    lp_buffer = np.empty(n_components * size)
    peak_buffer, total_buffer = np.empty(size), np.empty(size)
    theta = np.empty((n_components, n_natural))
    whiteners = np.empty((n_components, n_dim, n_dim))
    constants = np.empty(n_components)
    summed = responsibilities.shape[0] == 1
    confusion[:] = 0.0
    for s in range(n_draws):
        natural = _prepare(
            log_weights[s], means[s], cholesky[s], reach, whiteners, constants, theta
        )
        for start in range(0, n_rows, size):
            n = min(size, n_rows - start)
            lp = lp_buffer[: n_components * n].reshape(n_components, n)
            peak, total = peak_buffer[:n], total_buffer[:n]
            log_joint_block(
                rows[:, start : start + n], constants, means[s], whiteners, theta, natural,
                lp, features,
            )  # fmt: skip
            softmax_block(lp, peak, total)
            if densities.size > 0:
                for i in range(n):
                    densities[s, start + i] = peak[i] + math.log(total[i])
            if responsibilities.size > 0:
                for k in range(n_components):
                    for i in range(n):
                        share = lp[k, i] / total[i]
                        if summed:
                            responsibilities[0, k, start + i] += share
                        else:
                            responsibilities[s, k, start + i] = share
            if confusion.size > 0:
                for k in range(n_components):
                    for i in range(n):
                        confusion[s, k, labels[start + i]] += lp[k, i] / total[i]
