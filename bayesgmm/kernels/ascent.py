"""The modes of a mixture's density, found by climbing from every mean."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import LOG_2PI, fill_whiteners

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

LONGEST: Final = 1000
"""Steps of a climb."""
ARRIVED: Final = 1e-18
"""Squared length of a step, in standard deviations, that ends a climb."""
NEAR: Final = 0.25
"""Squared length of Newton's steps at most: longer ones might leave for another mode."""
SAME: Final = 1e-6
"""Squared distance, in standard deviations, of ends that are one mode."""


@kernel
def _factor(matrix: Array, factor: Array) -> bool:
    """Write the lower Cholesky factor of a matrix; return whether it is positive definite."""
    for i in range(matrix.shape[0]):
        for j in range(i + 1):
            value = matrix[i, j]
            for m in range(j):
                value -= factor[i, m] * factor[j, m]
            if i > j:
                factor[i, j] = value / factor[j, j]
            elif value > 1e-14 * matrix[i, i]:
                factor[i, i] = math.sqrt(value)
            else:
                return False
    return True


@kernel
def _solve(factor: Array, vector: Array, out: Array) -> None:
    """Write the x of A x = b, A given by its lower Cholesky factor."""
    n = len(vector)
    for i in range(n):
        total = vector[i]
        for j in range(i):
            total -= factor[i, j] * out[j]
        out[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        total = out[i]
        for j in range(i + 1, n):
            total -= factor[j, i] * out[j]
        out[i] = total / factor[i, i]


@kernel
def _length(vector: Array, metric: Array) -> float:
    """Return the squared length of a vector."""
    total = 0.0
    for i in range(len(vector)):
        for j in range(len(vector)):
            total += vector[i] * metric[i, j] * vector[j]
    return total


@kernel
def _look(
    x: Array, constants: Array, means: Array, precisions: Array,
    pulls: Array, shares: Array, slope: Array, metric: Array, curvature: Array,
) -> float:  # fmt: skip
    """Return the log density at x; write its slope, the mean precision and minus its Hessian."""
    n_components, n_dim = means.shape
    peak = -np.inf
    for k in range(n_components):
        distance = 0.0
        for i in range(n_dim):
            pulls[k, i] = 0.0
            for j in range(n_dim):
                pulls[k, i] += precisions[k, i, j] * (means[k, j] - x[j])
            distance += (means[k, i] - x[i]) * pulls[k, i]
        shares[k] = constants[k] - 0.5 * distance
        peak = max(peak, shares[k])
    total = 0.0
    for k in range(n_components):
        shares[k] = math.exp(shares[k] - peak)
        total += shares[k]
    slope[:] = 0.0
    metric[:] = 0.0
    curvature[:] = 0.0
    for k in range(n_components):
        share = shares[k] / total
        for i in range(n_dim):
            slope[i] += share * pulls[k, i]
            for j in range(n_dim):
                metric[i, j] += share * precisions[k, i, j]
                curvature[i, j] += share * (precisions[k, i, j] - pulls[k, i] * pulls[k, j])
    for i in range(n_dim):
        for j in range(n_dim):
            curvature[i, j] += slope[i] * slope[j]
    return peak + math.log(total)


@kernel
def fill_modes(
    log_weights: Array,
    means: Array,
    cholesky: Array,
    locations: Array,
    log_density: Array,
    labels: Labels,
) -> None:
    """Write the mode that every component's mean climbs to, for every draw.

    Parameters
    ----------
    log_weights, means, cholesky : arrays, shapes (S, K), (S, K, D), (S, K, D, D)
    locations : array, shape (S, K, D)
        Overwritten.
    log_density : array, shape (S, K)
        Overwritten with the log density there, in nats.
    labels : array of int, shape (S, K)
        Overwritten with the number of the mode; components with the same number share one.

    Notes
    -----
    O(S K^2 D^2) operations a step. The fixed-point step for Gaussian mixtures (Carreira-Perpinan
    2000) always climbs; where the density is concave Newton's, if it is short and climbs too,
    takes its place.
    """
    n_draws, n_components, n_dim = means.shape
    whiteners = np.empty((n_components, n_dim, n_dim))
    precisions = np.empty((n_components, n_dim, n_dim))
    heights, constants = np.empty(n_components), np.empty(n_components)
    pulls, shares = np.empty((n_components, n_dim)), np.empty(n_components)
    slope, step, trial = np.empty(n_dim), np.empty(n_dim), np.empty(n_dim)
    newton, x = np.empty(n_dim), np.empty(n_dim)
    metric, curvature = np.empty((n_dim, n_dim)), np.empty((n_dim, n_dim))
    factor = np.empty((n_dim, n_dim))
    metrics = np.empty((n_components, n_dim, n_dim))
    for s in range(n_draws):
        fill_whiteners(cholesky[s], whiteners, heights)
        for k in range(n_components):
            constants[k] = log_weights[s, k] - heights[k] - 0.5 * n_dim * LOG_2PI
            for i in range(n_dim):
                for j in range(n_dim):
                    total = 0.0
                    for m in range(max(i, j), n_dim):
                        total += whiteners[k, m, i] * whiteners[k, m, j]
                    precisions[k, i, j] = total
        n_modes = 0
        for k in range(n_components):
            x[:] = means[s, k]
            value = _look(
                x, constants, means[s], precisions, pulls, shares, slope, metric, curvature
            )
            for _ in range(LONGEST):
                if not _factor(metric, factor):
                    break
                _solve(factor, slope, step)
                if _length(step, metric) < ARRIVED:
                    break
                climbed = False
                if _factor(curvature, factor):
                    _solve(factor, slope, newton)
                    if _length(newton, metric) < NEAR:
                        trial[:] = x + newton
                        height = _look(
                            trial, constants, means[s], precisions,
                            pulls, shares, slope, metric, curvature,
                        )  # fmt: skip
                        climbed = height >= value
                if climbed:
                    x[:] = trial
                    value = height
                    continue
                x += step
                value = _look(
                    x, constants, means[s], precisions, pulls, shares, slope, metric, curvature
                )
            labels[s, k] = -1
            for j in range(k):
                step[:] = x - locations[s, j]
                if _length(step, metrics[j]) < SAME:
                    labels[s, k] = labels[s, j]
                    locations[s, k] = locations[s, j]
                    log_density[s, k] = log_density[s, j]
                    break
            metrics[k] = metric
            if labels[s, k] < 0:
                labels[s, k] = n_modes
                locations[s, k] = x
                log_density[s, k] = value
                n_modes += 1
