"""The telescoping sampler of Fruehwirth-Schnatter, Malsiner-Walli & Gruen (2021).

A sweep goes from the components that have rows to those that have none and back: parameters of
the former given their rows, the number of all components given the partition, parameters of the
latter from the prior, weights of all, and the allocation of the rows.

Such a chain seldom gives rise to a cluster, or ends one. So each sweep begins with proposals to
split a cluster or merge two, as Jain & Neal (2007, doi:10.1214/07-BA219) do where priors are not
conjugate.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import fill_cholesky
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.component import (
    NormalPrior,
    draw_from_prior,
    log_gamma_draw,
    update_mean,
    update_shape,
)
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.partitions import (
    ComponentPrior,
    draw_concentration,
    draw_n_components,
    log_prior_concentration,
)
from bayesgmm.kernels.splitting import (
    CONCENTRATION,
    LOG_DENSITY,
    N_CLUSTERS,
    N_COMPONENTS,
    State,
    cluster_sizes,
    log_partition_and_number,
    split_or_merge,
)
from bayesgmm.kernels.sticks import (
    move_stick_concentration,
    swap_sticks,
    update_stick_weights,
)

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

PROPOSALS = 2
"""To split or to merge, in a sweep."""
METROPOLIS_STEPS = 5
"""Steps of the concentration in a sweep."""
STEP = 1.5
"""Their standard deviation, on the logarithm."""


@kernel
def put_occupied_first(state: State) -> None:
    """Renumber components so that those with rows come first, and count those."""
    n_all = int(state.numbers[N_COMPONENTS])
    place = np.full(n_all, -1, dtype=np.int64)
    for label in state.labels:
        place[label] = 0
    clusters, sticks = 0, state.sticks[:n_all].copy()
    for k in range(n_all):
        if place[k] == 0:
            place[k] = clusters
            state.vectors[clusters] = state.vectors[k]
            state.sticks[clusters] = sticks[k]
            clusters += 1
    empty = clusters
    for k in range(n_all):
        if place[k] < 0:
            state.sticks[empty] = sticks[k]
            empty += 1
    for i in range(state.labels.size):
        state.labels[i] = place[state.labels[i]]
    state.numbers[N_CLUSTERS] = clusters


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
def update_concentration(
    counts: Labels, state: State, prior: ComponentPrior, generator: np.random.Generator
) -> None:
    """Move the concentration given the partition; add the log density of its prior."""
    numbers = state.numbers
    n_all = int(numbers[N_COMPONENTS])
    for _ in range(METROPOLIS_STEPS):
        now, step = numbers[CONCENTRATION], STEP * generator.standard_normal()
        uniform = generator.random()
        if prior.sticks:
            numbers[CONCENTRATION] = move_stick_concentration(
                now, counts, state.sticks, n_all, prior.freedom, step, uniform
            )
        else:
            numbers[CONCENTRATION] = draw_concentration(now, n_all, counts, prior, step, uniform)
    if not prior.sticks:
        numbers[LOG_DENSITY] += log_prior_concentration(numbers[CONCENTRATION], prior.freedom)


@kernel
def update_labels(
    rows: Array, state: State, prior: NormalPrior, generator: np.random.Generator
) -> None:
    """Draw the component of every row given all parameters."""
    n_all, (n_dim, n_rows) = int(state.numbers[N_COMPONENTS]), rows.shape
    scales, factors = np.empty((1, n_dim)), np.empty((1, n_all, n_dim, n_dim))
    means, log_weights = np.empty((1, n_all, n_dim)), np.empty((1, n_all))
    for k in range(n_all):
        fill_cholesky(prior.layout, prior.floor, state.vectors[k], scales, factors[0, k : k + 1])
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
        put_occupied_first(state)
        if rows.shape[1] > 1:
            for _ in range(PROPOSALS):
                split_or_merge(rows, state, normal, components, generator)
        counts = cluster_sizes(state)
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
        n_all = int(numbers[N_COMPONENTS])
        if not components.known:
            n_all = draw_n_components(
                numbers[CONCENTRATION], counts, components, generator.random()
            )
            numbers[N_COMPONENTS] = n_all
        if components.sticks:
            swap_sticks(counts, state.sticks, n_all, numbers[CONCENTRATION], generator)
        if components.freedom[0] > 0.0:
            update_concentration(counts, state, components, generator)
        numbers[LOG_DENSITY] += log_partition_and_number(
            n_all, numbers[CONCENTRATION], counts, state.sticks, components
        )
        for k in range(counts.size, n_all):
            draw_from_prior(state.vectors[k], normal, generator)
        if components.sticks:
            log_weights = state.log_weights[:n_all]
            concentration = numbers[CONCENTRATION]
            update_stick_weights(counts, state.sticks, concentration, log_weights, generator)
        else:
            update_weights(counts, state, components.dynamic, generator)
        update_labels(rows, state, normal, generator)
