"""How much two components of a mixture have in common, for all pairs and many draws."""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import fill_whiteners

type Array = NDArray[np.float64]


@kernel
def chi_cdf(r: float, n_dim: int) -> float:
    """Return the probability that a standard normal vector of D entries is shorter than r >= 0."""
    half = 0.5 * r * r
    if half > 745.0 + n_dim:
        return 1.0
    total = 0.0
    if n_dim % 2 == 0:
        term = 1.0
        for j in range(n_dim // 2):
            total += term
            term *= half / (j + 1)
        return 1.0 - math.exp(-half) * total
    term = r
    for j in range((n_dim - 1) // 2):
        total += term
        term *= r * r / (2 * j + 3)
    return math.erf(r * math.sqrt(0.5)) - math.sqrt(2.0 / math.pi) * math.exp(-half) * total


@kernel
def positive_share(a: float, b: float, c: float, n_dim: int) -> float:
    """Return how likely a r^2 + b r + c > 0 is at both signs of the length r of a normal vector."""
    if c == np.inf or c == -np.inf or (a == 0.0 and b == 0.0):
        return 1.0 if c > 0.0 else 0.0
    discriminant = b * b - 4.0 * a * c
    if discriminant <= 0.0:
        return 1.0 if a > 0.0 or (a == 0.0 and c > 0.0) else 0.0
    middle = -0.5 * (b + math.copysign(math.sqrt(discriminant), b))
    one = c / middle  # not 0: the discriminant is positive
    below_one = 0.5 + 0.5 * math.copysign(chi_cdf(abs(one), n_dim), one)
    if a == 0.0:
        return 1.0 - below_one if b > 0.0 else below_one
    other = middle / a
    below_other = 0.5 + 0.5 * math.copysign(chi_cdf(abs(other), n_dim), other)
    between = abs(below_one - below_other)
    return 1.0 - between if a > 0.0 else between


@kernel
def fill_pairs(
    log_weights: Array,
    means: Array,
    cholesky: Array,
    rays: Array,
    misclassification: Array,
    exceeded: Array,
    kl: Array,
    bhattacharyya: Array,
) -> None:
    """Write what every component of every draw has in common with every other.

    Parameters
    ----------
    log_weights, means, cholesky : arrays, shapes (S, K), (S, K, D), (S, K, D, D)
    rays : array, shape (R, D)
        Directions of length 1; with their opposites they stand for all.
    misclassification, exceeded : arrays, shape (S, K, K)
        Overwritten with the probability that at a point of k the density of l is the larger one,
        with the weights and without; 0 for k = l.
    kl, bhattacharyya : arrays, shape (S, K, K)
        Overwritten with the divergence of l from k and the distance, in nats.

    Notes
    -----
    O(S K^2 (D^3 + R D^2)): along a ray from the mean of k, in whitened coordinates, the logarithm
    of the ratio of densities is a quadratic function of the length, whose law is known (Das &
    Geisler 2021, doi:10.1167/jov.21.10.1).
    """
    n_draws, n_components, n_dim = means.shape
    whiteners = np.empty((n_components, n_dim, n_dim))
    heights = np.empty(n_components)
    half = np.empty((1, n_dim, n_dim))
    inverse, height = np.empty((1, n_dim, n_dim)), np.empty(1)
    relative, shift, v = np.empty((n_dim, n_dim)), np.empty(n_dim), np.empty(n_dim)
    for s in range(n_draws):
        fill_whiteners(cholesky[s], whiteners, heights)
        for k in range(n_components):
            for other in range(n_components):
                if k == other:
                    misclassification[s, k, k] = exceeded[s, k, k] = 0.0
                    kl[s, k, k] = bhattacharyya[s, k, k] = 0.0
                    continue
                squares, distance = 0.0, 0.0
                for i in range(n_dim):
                    shift[i] = 0.0
                    for j in range(i + 1):
                        total = 0.0
                        for m in range(j, i + 1):
                            total += whiteners[other, i, m] * cholesky[s, k, m, j]
                        relative[i, j] = total
                        squares += total * total
                        shift[i] += whiteners[other, i, j] * (means[s, other, j] - means[s, k, j])
                    distance += shift[i] * shift[i]
                lead = heights[k] - heights[other]
                kl[s, k, other] = max(0.0, 0.5 * (squares + distance - n_dim) - lead)
                weighted = log_weights[s, other] - log_weights[s, k]
                if math.isnan(weighted):
                    weighted = 0.0  # both weights are 0
                both, bare = 0.0, 0.0
                for ray in range(len(rays)):
                    length, along = 0.0, 0.0
                    for i in range(n_dim):
                        v[i] = 0.0
                        for j in range(i + 1):
                            v[i] += relative[i, j] * rays[ray, j]
                        length += v[i] * v[i]
                        along += v[i] * shift[i]
                    a, c = 0.5 * (1.0 - length), lead - 0.5 * distance
                    both += positive_share(a, along, c + weighted, n_dim)
                    bare += positive_share(a, along, c, n_dim)
                misclassification[s, k, other] = both / len(rays)
                exceeded[s, k, other] = bare / len(rays)
                if k < other:
                    continue
                # The mean of both covariances in the coordinates whitened by `other`
                for i in range(n_dim):
                    for j in range(i + 1):
                        total = 1.0 if i == j else 0.0
                        for m in range(j + 1):
                            total += relative[i, m] * relative[j, m]
                        for m in range(j):
                            total -= 2.0 * half[0, i, m] * half[0, j, m]
                        if i == j:
                            half[0, i, i] = math.sqrt(0.5 * total)
                        else:
                            half[0, i, j] = 0.5 * total / half[0, j, j]
                fill_whiteners(half, inverse, height)
                distance = 0.0
                for i in range(n_dim):
                    total = 0.0
                    for j in range(i + 1):
                        total += inverse[0, i, j] * shift[j]
                    distance += total * total
                value = max(0.0, distance / 8.0 + height[0] - 0.5 * lead)
                bhattacharyya[s, k, other] = bhattacharyya[s, other, k] = value
