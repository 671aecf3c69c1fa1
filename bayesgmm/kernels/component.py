"""One component: its prior, its density given its rows, and draws of it.

A component is a vector as `Layout` has it for one: the mean, logarithms of the scales less their
floor, log-odds of the partial correlations.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, fill_cholesky
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import LOG_2PI

type Array = NDArray[np.float64]

FARTHEST = 50.0
"""Logarithms of scales and log-odds are held within this: e^-50 is no scale of anything."""


class NormalPrior(NamedTuple):
    """The prior of one component, of standardised data.

    Parameters
    ----------
    layout : Layout
        Of one component.
    location, scale : arrays, shape (D,)
        Of the mean.
    tau, floor : arrays, shape (C,)
        Of the half-normal scales, and where it is truncated.
    eta : float
    """

    layout: Layout
    location: Array
    scale: Array
    tau: Array
    floor: Array
    eta: float


@kernel
def beta_shape(prior: NormalPrior, column: int) -> float:
    """Return a of the Beta(a, a) law of the partial correlations in a column."""
    return prior.eta + 0.5 * (prior.layout.n_features - 2 - column)


@kernel
def log_prior(vector: Array, prior: NormalPrior) -> float:
    """Return the log prior density of a component's scales and correlations, on their scale."""
    n_dim, n_scales = prior.layout.n_features, prior.layout.scale_columns
    result = 0.0
    for c in range(n_scales):
        excess = vector[n_dim + c]
        ratio = (prior.floor[c] + math.exp(excess)) / prior.tau[c]
        left = math.erfc(prior.floor[c] / prior.tau[c] * math.sqrt(0.5))
        result += excess - 0.5 * ratio * ratio - math.log(prior.tau[c])
        result += 0.5 * math.log(2.0 / math.pi) - math.log(left)
    p = n_dim + n_scales
    if p < vector.size:
        for i in range(n_dim):
            for j in range(i):
                a, t = beta_shape(prior, j), abs(vector[p])
                result -= a * (t + 2.0 * math.log1p(math.exp(-t)))
                result += math.lgamma(2.0 * a) - 2.0 * math.lgamma(a)
                p += 1
    return result


@kernel
def fill_inverse(factor: Array, inverse: Array) -> None:
    """Write the inverse of a lower triangle."""
    n = factor.shape[0]
    for j in range(n):
        for i in range(j):
            inverse[i, j] = 0.0
        inverse[j, j] = 1.0 / factor[j, j]
        for i in range(j + 1, n):
            total = 0.0
            for m in range(j, i):
                total += factor[i, m] * inverse[m, j]
            inverse[i, j] = -total / factor[i, i]


@kernel
def factorise_in_place(matrix: Array) -> None:
    """Turn a positive definite matrix into its lower Cholesky factor; the upper triangle stays."""
    n = matrix.shape[0]
    for i in range(n):
        for j in range(i + 1):
            value = matrix[i, j]
            for m in range(j):
                value -= matrix[i, m] * matrix[j, m]
            matrix[i, j] = math.sqrt(value) if i == j else value / matrix[j, j]


@kernel
def log_marginal(
    vector: Array, count: int, mean: Array, scatter: Array, prior: NormalPrior
) -> float:
    r"""Return the log density of a component's rows, its mean integrated out, and of its vector.

    Parameters
    ----------
    vector : array, shape (P,)
        The mean in it is not read.
    count : int
        Rows, n.
    mean : array, shape (D,)
        Of the rows.
    scatter : array, shape (D, D)
        Sum over rows of (x - mean) (x - mean)', W.
    prior : NormalPrior

    Notes
    -----
    With S = L L' the covariance, T that of the prior of the mean and d the rows' mean less its
    location, the log density of the rows is

        - (n - 1) / 2 log |S| - tr(S^-1 W) / 2 - log |S + n T| / 2 - n d' (S + n T)^-1 d / 2

    less n D / 2 log 2 pi. O(D^3).
    """
    n_dim = prior.layout.n_features
    scales, factors = np.empty((1, n_dim)), np.empty((1, n_dim, n_dim))
    fill_cholesky(prior.layout, prior.floor, vector, scales, factors)
    factor = factors[0]
    result = log_prior(vector, prior) - 0.5 * count * n_dim * LOG_2PI
    inverse, total = np.empty((n_dim, n_dim)), np.empty((n_dim, n_dim))
    fill_inverse(factor, inverse)
    for i in range(n_dim):
        result -= (count - 1.0) * math.log(factor[i, i])
        for j in range(i + 1):
            product = 0.0
            for m in range(i + 1):
                product += inverse[i, m] * scatter[m, j]
            result -= 0.5 * product * inverse[i, j]
            entry = 0.0
            for m in range(j + 1):
                entry += factor[i, m] * factor[j, m]
            total[i, j] = entry
        total[i, i] += count * prior.scale[i] ** 2
    factorise_in_place(total)
    for i in range(n_dim):
        value = mean[i] - prior.location[i]
        for m in range(i):
            value -= total[i, m] * scales[0, m]
        scales[0, i] = value / total[i, i]  # the scales are needed no more
        result -= math.log(total[i, i]) + 0.5 * count * scales[0, i] ** 2
    return result


@kernel
def update_shape(
    vector: Array,
    count: int,
    mean: Array,
    scatter: Array,
    prior: NormalPrior,
    generator: np.random.Generator,
) -> float:
    """Move a component's scales and correlations, the mean integrated out; return log_marginal.

    One slice step for each (Neal 2003, stepping out and shrinking): exact for any density, and
    without a step size to be tuned.
    """
    now = log_marginal(vector, count, mean, scatter, prior)
    n_dim = prior.layout.n_features
    for j in range(n_dim, vector.size):
        of_scale = j < n_dim + prior.layout.scale_columns
        width = 3.0 / math.sqrt(2.0 * count) if of_scale else 6.0 / math.sqrt(count + 3.0)
        start = vector[j]
        level = now - generator.standard_exponential()
        low = start - width * generator.random()
        high = low + width
        vector[j] = low
        while low > -FARTHEST and log_marginal(vector, count, mean, scatter, prior) > level:
            low -= width
            vector[j] = low
        vector[j] = high
        while high < FARTHEST and log_marginal(vector, count, mean, scatter, prior) > level:
            high += width
            vector[j] = high
        low, high = max(low, -FARTHEST), min(high, FARTHEST)
        while True:
            vector[j] = low + (high - low) * generator.random()
            now = log_marginal(vector, count, mean, scatter, prior)
            if now >= level:
                break
            if vector[j] < start:
                low = vector[j]
            else:
                high = vector[j]
    return now


@kernel
def update_mean(
    vector: Array, count: int, mean: Array, prior: NormalPrior, generator: np.random.Generator
) -> None:
    """Draw a component's mean given its rows, scales and correlations."""
    n_dim = prior.layout.n_features
    scales, factors = np.empty((1, n_dim)), np.empty((1, n_dim, n_dim))
    fill_cholesky(prior.layout, prior.floor, vector, scales, factors)
    inverse, precision = np.empty((n_dim, n_dim)), np.empty((n_dim, n_dim))
    fill_inverse(factors[0], inverse)
    total = np.empty(n_dim)
    for i in range(n_dim):
        for j in range(n_dim):
            entry = 0.0
            for m in range(max(i, j), n_dim):
                entry += inverse[m, i] * inverse[m, j]
            precision[i, j] = count * entry
    for i in range(n_dim):
        weight = prior.scale[i] ** -2
        total[i] = weight * prior.location[i]
        for j in range(n_dim):
            total[i] += precision[i, j] * mean[j]
    for i in range(n_dim):
        precision[i, i] += prior.scale[i] ** -2
    factorise_in_place(precision)
    for i in range(n_dim):
        value = total[i]
        for m in range(i):
            value -= precision[i, m] * total[m]
        total[i] = value / precision[i, i]
    for i in range(n_dim):
        total[i] += generator.standard_normal()
    for i in range(n_dim - 1, -1, -1):
        value = total[i]
        for m in range(i + 1, n_dim):
            value -= precision[m, i] * vector[m]
        vector[i] = value / precision[i, i]


@kernel
def log_gamma_draw(shape: float, generator: np.random.Generator) -> float:
    """Return the logarithm of a Gamma draw, which may be far below the smallest float."""
    boosted = math.log(generator.standard_gamma(shape + 1.0))
    return boosted + math.log1p(-generator.random()) / shape


@kernel
def draw_from_prior(vector: Array, prior: NormalPrior, generator: np.random.Generator) -> None:
    """Draw a component from the prior.

    Scales: a Normal variable given that it exceeds the floor, by Robert's (1995) exponential
    proposals, which serve a floor of 0 as well as one far out.
    """
    n_dim, n_scales = prior.layout.n_features, prior.layout.scale_columns
    for d in range(n_dim):
        vector[d] = prior.location[d] + prior.scale[d] * generator.standard_normal()
    for c in range(n_scales):
        least = prior.floor[c] / prior.tau[c]
        rate = 0.5 * (least + math.sqrt(least * least + 4.0))
        while True:
            excess = generator.standard_exponential() / rate
            if generator.standard_exponential() > 0.5 * (least + excess - rate) ** 2:
                break
        vector[n_dim + c] = max(math.log(prior.tau[c]) + math.log(excess), -FARTHEST)
    p = n_dim + n_scales
    if p < vector.size:
        for i in range(n_dim):
            for j in range(i):
                a = beta_shape(prior, j)
                t = log_gamma_draw(a, generator) - log_gamma_draw(a, generator)
                vector[p] = min(max(t, -FARTHEST), FARTHEST)
                p += 1
