"""The telescoping sampler of Fruehwirth-Schnatter, Malsiner-Walli & Gruen (2021).

A sweep goes from the components that have rows to those that have none and back: parameters of
the former given their rows, the number of all components given the partition, parameters of the
latter from the prior, weights of all, and the allocation of the rows.

Each component is a vector as `Layout` has it for one: the mean, logarithms of the scales less
their floor, log-odds of the partial correlations.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, fill_cholesky
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.estep import LOG_2PI
from bayesgmm.kernels.partitions import (
    ComponentPrior,
    draw_concentration,
    draw_n_components,
    log_partition,
    log_prior_concentration,
)

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

FARTHEST = 50.0
"""Logarithms of scales and log-odds are held within this: e^-50 is no scale of anything."""
METROPOLIS_STEPS = 5
"""Steps of the concentration in a sweep."""
STEP = 1.5
"""Their standard deviation, on the logarithm."""
N_COMPONENTS, N_CLUSTERS, CONCENTRATION, LOG_DENSITY = 0, 1, 2, 3
"""Where the numbers of a chain's state hold what."""


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


class State(NamedTuple):
    """Where a chain is; overwritten as it moves.

    Parameters
    ----------
    labels : array of int, shape (N,)
        The component of every row.
    vectors : array, shape (largest, P)
    log_weights : array, shape (largest,)
    numbers : array, shape (4,)
        The numbers of components and clusters, the concentration, and the log density of these,
        the partition and the vectors of components with rows, means and weights integrated out.
    """

    labels: Labels
    vectors: Array
    log_weights: Array
    numbers: Array


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


@kernel
def put_occupied_first(state: State) -> Labels:
    """Renumber components so that those with rows come first; return the rows of each."""
    n_all = int(state.numbers[N_COMPONENTS])
    counts = np.zeros(n_all, dtype=np.int64)
    for label in state.labels:
        counts[label] += 1
    place, clusters = np.empty(n_all, dtype=np.int64), 0
    for k in range(n_all):
        if counts[k] > 0:
            place[k] = clusters
            counts[clusters] = counts[k]
            state.vectors[clusters] = state.vectors[k]
            clusters += 1
    for i in range(state.labels.size):
        state.labels[i] = place[state.labels[i]]
    state.numbers[N_CLUSTERS] = clusters
    return counts[:clusters]


@kernel
def fill_statistics(
    rows: Array, labels: Labels, counts: Labels, means: Array, scatters: Array
) -> None:
    """Write the mean of every cluster's rows, and their sums of squares and products about it."""
    n_dim, n_rows = rows.shape
    means[:], scatters[:] = 0.0, 0.0
    for d in range(n_dim):
        for i in range(n_rows):
            means[labels[i], d] += rows[d, i]
    for k in range(counts.size):
        for d in range(n_dim):
            means[k, d] /= counts[k]
    for d in range(n_dim):
        for e in range(d + 1):
            for i in range(n_rows):
                k = labels[i]
                scatters[k, d, e] += (rows[d, i] - means[k, d]) * (rows[e, i] - means[k, e])
            for k in range(counts.size):
                scatters[k, e, d] = scatters[k, d, e]


@kernel
def update_weights(
    counts: Labels, state: State, dynamic: bool, generator: np.random.Generator
) -> None:
    """Draw the weights of all components given the rows of those that have any."""
    n_all = int(state.numbers[N_COMPONENTS])
    share = state.numbers[CONCENTRATION] / n_all if dynamic else state.numbers[CONCENTRATION]
    log_weights = state.log_weights[:n_all]
    for k in range(n_all):
        rows = counts[k] if k < counts.size else 0
        log_weights[k] = log_gamma_draw(share + rows, generator)
    peak = log_weights.max()
    log_weights -= peak + math.log(np.exp(log_weights - peak).sum())


@kernel
def update_labels(
    rows: Array, state: State, prior: NormalPrior, generator: np.random.Generator
) -> None:
    """Draw the component of every row given all parameters."""
    n_all, (n_dim, n_rows) = int(state.numbers[N_COMPONENTS]), rows.shape
    scales, factors = np.empty((1, n_dim)), np.empty((1, n_all, n_dim, n_dim))
    means, log_weights = np.empty((1, n_all, n_dim)), np.empty((1, n_all))
    for k in range(n_all):
        fill_cholesky(
            prior.layout, prior.floor, state.vectors[k], scales, factors[0, k : k + 1]
        )
        log_weights[0, k] = state.log_weights[k]
        means[0, k] = state.vectors[k, :n_dim]
    shares = np.zeros((1, n_all, n_rows))
    fill_draws(
        rows, log_weights, means, factors,
        np.empty((0, 0)), shares, np.empty(0, dtype=np.int64), np.empty((0, 0, 0)),
    )  # fmt: skip
    for i in range(n_rows):
        left, k = generator.random(), 0
        while k < n_all - 1:
            left -= shares[0, k, i]
            if left < 0.0:
                break
            k += 1
        state.labels[i] = k


@kernel
def sweep(
    rows: Array,
    state: State,
    normal: NormalPrior,
    components: ComponentPrior,
    n_sweeps: int,
    generator: np.random.Generator,
) -> None:
    """Move a chain by some sweeps.

    Parameters
    ----------
    rows : array, shape (D, N)
        Standardised data.
    state : State
    normal : NormalPrior
    components : ComponentPrior
    n_sweeps : int
    generator : numpy.random.Generator

    Notes
    -----
    A sweep is a pass over the data stopped half-way, O(N K D^2), and O(N D^2 + C D^5) for C
    clusters. What is left in the state are the parameters that the last labels were drawn from;
    the number of clusters and the log density are of the labels before.
    """
    n_dim, numbers = rows.shape[0], state.numbers
    for _ in range(n_sweeps):
        counts = put_occupied_first(state)
        means = np.empty((counts.size, n_dim))
        scatters = np.empty((counts.size, n_dim, n_dim))
        fill_statistics(rows, state.labels, counts, means, scatters)
        numbers[LOG_DENSITY] = 0.0
        for k in range(counts.size):
            vector = state.vectors[k]
            numbers[LOG_DENSITY] += update_shape(
                vector, counts[k], means[k], scatters[k], normal, generator
            )
            update_mean(vector, counts[k], means[k], normal, generator)
        n_all = draw_n_components(
            numbers[CONCENTRATION], counts, components, generator.random()
        )
        numbers[N_COMPONENTS] = n_all
        if components.freedom[0] > 0.0:
            for _ in range(METROPOLIS_STEPS):
                numbers[CONCENTRATION] = draw_concentration(
                    numbers[CONCENTRATION], n_all, counts, components,
                    STEP * generator.standard_normal(), generator.random(),
                )  # fmt: skip
            numbers[LOG_DENSITY] += log_prior_concentration(
                numbers[CONCENTRATION], components.freedom
            )
        numbers[LOG_DENSITY] += components.log_probability[n_all - 1]
        numbers[LOG_DENSITY] += log_partition(
            n_all, numbers[CONCENTRATION], counts, components.dynamic
        )
        for k in range(counts.size, n_all):
            draw_from_prior(state.vectors[k], normal, generator)
        update_weights(counts, state, components.dynamic, generator)
        update_labels(rows, state, normal, generator)
