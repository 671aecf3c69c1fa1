"""How alike components are as distributions, and draws matched by it."""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]


@kernel
def fill_affinities(
    means: Array, cholesky: Array, target_means: Array, target_cholesky: Array, gains: Array
) -> None:
    """Write the log of the Bhattacharyya coefficient of components and targets, all Normal.

    The coefficient is the integral of the square root of the product of two densities, 1 where
    they are the same. No invertible affine map of the data changes it.

    Parameters
    ----------
    means, cholesky : arrays, shapes (S, K, D) and (S, K, D, D)
        Of the components of S draws; Cholesky factors of the covariances.
    target_means, target_cholesky : arrays, shapes (K, D) and (K, D, D)
    gains : array, shape (S, K, K)
        Overwritten, in nats: component k and target j.

    Notes
    -----
    O(S K^2 D^3) operations.
    """
    n_draws, n_components, n_dim = means.shape
    middle, gap = np.empty((n_dim, n_dim)), np.empty(n_dim)
    for s in range(n_draws):
        for k in range(n_components):
            for j in range(n_components):
                one, other = cholesky[s, k], target_cholesky[j]
                total = 0.0
                for d in range(n_dim):
                    gap[d] = means[s, k, d] - target_means[j, d]
                    total += 0.5 * (math.log(one[d, d]) + math.log(other[d, d]))
                    for e in range(d + 1):
                        # the Cholesky factor of the mean of both covariances, entry by entry
                        entry = 0.0
                        for f in range(e + 1):
                            entry += 0.5 * (one[d, f] * one[e, f] + other[d, f] * other[e, f])
                        for f in range(e):
                            entry -= middle[d, f] * middle[e, f]
                        middle[d, e] = math.sqrt(entry) if d == e else entry / middle[e, e]
                    for e in range(d):
                        gap[d] -= middle[d, e] * gap[e]
                    gap[d] /= middle[d, d]
                    total -= math.log(middle[d, d]) + 0.125 * gap[d] * gap[d]
                gains[s, k, j] = total
