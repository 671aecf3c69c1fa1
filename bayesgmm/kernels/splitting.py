"""Proposals to split a cluster in two, or to merge two clusters.

Two rows are drawn. If they share a cluster it is to be split, one row on either side; if not,
their clusters are to be merged. A short run of expectation maximisation on the rows of both, from
these two, says how likely each row is to be on which side; it is the same whether they are one
cluster or two, so that the odds of the way back are known. New scales and correlations are drawn
near those of the rows; means are integrated out. The number of components without rows stays, or
that of all components if it is known.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import unconstrain
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.component import (
    FARTHEST,
    NormalPrior,
    beta_shape,
    factorise_in_place,
    log_marginal,
)
from bayesgmm.kernels.partitions import ComponentPrior, log_partition
from bayesgmm.kernels.sticks import log_allocation

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

N_COMPONENTS, N_CLUSTERS, CONCENTRATION, LOG_DENSITY = 0, 1, 2, 3
"""Where the numbers of a chain's state hold what."""


EM_STEPS = 8
MANY = 200
"""Rows that tell what two sides look like, at least, where there are more."""
ASTRAY = 0.5
"""Rows, at least, that are expected on the side where expectation maximisation has them not."""
TINY = 1e-6
RIDGE = 0.05
"""Of the variances on each side, in rows that vary as all do."""
WIDER = 1.1
"""Of a proposal of scales and correlations than the density it is made for."""


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
    sticks : array of int, shape (largest,)
        Which piece of the stick every component is, if weights are broken off one.
    """

    labels: Labels
    vectors: Array
    log_weights: Array
    numbers: Array
    sticks: Labels


@kernel
def cluster_sizes(state: State) -> Labels:
    """Return the rows of every cluster."""
    counts = np.zeros(int(state.numbers[N_CLUSTERS]), dtype=np.int64)
    for label in state.labels:
        counts[label] += 1
    return counts


@kernel
def fill_moments(x: Array, shares: Array, mean: Array, scatter: Array) -> float:
    """Write the mean of weighted rows, shape (n, D), and their scatter; return their weight."""
    n_rows, n_dim = x.shape
    total = shares.sum()
    for d in range(n_dim):
        mean[d] = 0.0
        for i in range(n_rows):
            mean[d] += shares[i] * x[i, d]
        mean[d] /= max(total, TINY)
    for d in range(n_dim):
        for e in range(d + 1):
            value = 0.0
            for i in range(n_rows):
                value += shares[i] * (x[i, d] - mean[d]) * (x[i, e] - mean[e])
            scatter[d, e] = value
            scatter[e, d] = value
    return total


@kernel
def fill_log_density(x: Array, mean: Array, factor: Array, log_weight: float, out: Array) -> None:
    """Write the log density of rows under a Normal distribution, up to a constant."""
    n_rows, n_dim = x.shape
    y = np.empty(n_dim)
    for d in range(n_dim):
        log_weight -= math.log(factor[d, d])
    for i in range(n_rows):
        out[i] = log_weight
        for d in range(n_dim):
            value = x[i, d] - mean[d]
            for e in range(d):
                value -= factor[d, e] * y[e]
            y[d] = value / factor[d, d]
            out[i] -= 0.5 * y[d] * y[d]


@kernel
def sides(x: Array, first: int, second: int) -> Array:
    """Return the probability of rows, shape (n, D), to be on the side of the second of two.

    Of many rows some, evenly spaced, tell what the two sides look like.
    """
    n_rows, n_dim = x.shape
    some = np.ascontiguousarray(x[:: 1 + n_rows // MANY])
    mean, scatter = np.empty(n_dim), np.empty((n_dim, n_dim))
    spread = np.empty(n_dim)
    shares, least = np.ones(len(some)), ASTRAY / n_rows
    fill_moments(some, shares, mean, scatter)
    for d in range(n_dim):
        spread[d] = max(scatter[d, d] / len(some), TINY * TINY)
    for i in range(len(some)):
        ahead = 0.0
        for d in range(n_dim):
            apart = (some[i, d] - x[first, d]) ** 2 - (some[i, d] - x[second, d]) ** 2
            ahead += apart / spread[d]
        shares[i] = 1.0 if ahead > 0.0 else 0.0
    for step in range(EM_STEPS):
        rows = x if step == EM_STEPS - 1 else some
        here, there = np.empty(len(rows)), np.empty(len(rows))
        for side in range(2):
            n_side = fill_moments(some, shares if side else 1.0 - shares, mean, scatter)
            for d in range(n_dim):
                for e in range(d + 1):
                    scatter[d, e] /= n_side + RIDGE
                scatter[d, d] += (RIDGE / (n_side + RIDGE) + 1e-9) * spread[d]
            factorise_in_place(scatter)
            out = there if side else here
            fill_log_density(rows, mean, scatter, math.log(max(n_side, TINY)), out)
        shares = np.empty(len(rows))
        for i in range(len(rows)):
            odds = min(max(here[i] - there[i], -700.0), 700.0)
            shares[i] = min(max(1.0 / (1.0 + math.exp(odds)), least), 1.0 - least)
    shares[first], shares[second] = 0.0, 1.0
    return shares


@kernel
def fill_proposal(
    count: float, scatter: Array, prior: NormalPrior, center: Array, widths: Array
) -> None:
    """Write where scales and correlations of rows with a scatter are to be expected, and how near.

    Log scales are near those of the rows, as far as they are enough to tell, else near the prior;
    correlations are those of the rows, shrunk.
    """
    n_dim, n_scales = prior.layout.n_features, prior.layout.scale_columns
    of_scale = n_dim // n_scales
    freedom = max((count - 1.0) * of_scale - 1.0, 0.0)
    scales = np.empty(n_dim)
    for c in range(n_scales):
        total = 0.0
        for d in range(c, c + of_scale):
            total += scatter[d, d]
        expected = math.log(prior.tau[c]) - 0.6
        if freedom > 0.0:
            of_rows = 0.5 * math.log(max(total / freedom, 1e-20))
            expected = (2.0 * freedom * of_rows + expected) / (2.0 * freedom + 1.0)
        for d in range(c, c + of_scale):
            scales[d] = math.exp(expected)
    factor = np.zeros((1, n_dim, n_dim))
    shrink = (count - 1.0) / (count - 1.0 + 2.0 * prior.eta)
    for i in range(n_dim):
        for j in range(i):
            norm = math.sqrt(scatter[i, i] * scatter[j, j])
            if norm > 0.0 and prior.layout.correlation_sets > 0:
                factor[0, i, j] = shrink * scatter[i, j] / norm
        factor[0, i, i] = 1.0
    factorise_in_place(factor[0])
    for i in range(n_dim):
        for j in range(i + 1):
            factor[0, i, j] *= scales[i]
    vector = unconstrain(prior.layout, prior.floor, np.zeros(1), np.zeros((1, n_dim)), factor)
    center[:] = vector[n_dim:]
    for c in range(n_scales):
        excess = math.exp(center[c])
        slope = (prior.floor[c] + excess) / excess
        widths[c] = WIDER * min(slope, 10.0) / math.sqrt(2.0 * freedom + 1.0)
    p = n_scales
    if p < center.size:
        for i in range(n_dim):
            for j in range(i):
                widths[p] = WIDER * 2.0 / math.sqrt(count - 1.0 + 1.5 * beta_shape(prior, j))
                p += 1


@kernel
def shape_proposal(
    vector: Array,
    draw: bool,
    count: float,
    scatter: Array,
    prior: NormalPrior,
    generator: np.random.Generator,
) -> float:
    """Return the log density of proposing a component's shape, drawing it first if asked to."""
    n_dim = prior.layout.n_features
    n = vector.size - n_dim
    center, widths = np.empty(n), np.empty(n)
    fill_proposal(count, scatter, prior, center, widths)
    result = 0.0
    for p in range(n):
        if draw:
            vector[n_dim + p] = center[p] + widths[p] * generator.standard_normal()
        z = (vector[n_dim + p] - center[p]) / widths[p]
        result -= 0.5 * z * z + math.log(widths[p]) + 0.5 * math.log(2.0 * math.pi)
    return result


@kernel
def log_partition_and_number(
    n_components: int, concentration: float, counts: Labels, sticks: Labels, prior: ComponentPrior
) -> float:
    """Return the log probability of a partition and of the number of components."""
    if max(n_components, counts.size) > prior.log_probability.size:
        return -math.inf
    if prior.sticks:
        return log_allocation(counts, sticks, n_components, concentration)
    return prior.log_probability[n_components - 1] + log_partition(
        n_components, concentration, counts, prior.dynamic
    )


@kernel
def split_or_merge(
    rows: Array,
    state: State,
    normal: NormalPrior,
    components: ComponentPrior,
    generator: np.random.Generator,
) -> bool:
    """Propose to split a cluster or to merge two; return whether that was done.

    Parameters
    ----------
    rows : array, shape (D, N)
    state : State
        With clusters before components without rows. Means and weights are not read, and are no
        draws any more if something was done.
    normal : NormalPrior
    components : ComponentPrior
    generator : numpy.random.Generator

    Notes
    -----
    O(n D^2) for the n rows of the clusters, some ten times, and O(D^3).
    """
    n_dim, n_rows = rows.shape
    labels, numbers = state.labels, state.numbers
    i = int(generator.random() * n_rows)
    j = (i + 1 + int(generator.random() * (n_rows - 1))) % n_rows
    one, other = labels[i], labels[j]
    splitting = one == other
    members = np.flatnonzero((labels == one) | (labels == other))
    x = np.empty((members.size, n_dim))
    for m in range(members.size):
        x[m] = rows[:, members[m]]
    shares = sides(x, np.searchsorted(members, i), np.searchsorted(members, j))
    there = np.empty(members.size)
    log_odds = 0.0  # of the split against the merged state, and of proposals the other way
    for m in range(members.size):
        if splitting:
            there[m] = 1.0 if generator.random() < shares[m] else 0.0
        else:
            there[m] = 1.0 if labels[members[m]] == other else 0.0
        log_odds -= math.log(shares[m] if there[m] > 0.0 else 1.0 - shares[m])
    mean, scatter = np.empty(n_dim), np.empty((n_dim, n_dim))
    n_clusters, n_all = int(numbers[N_CLUSTERS]), int(numbers[N_COMPONENTS])
    if splitting and n_clusters == n_all and components.known:
        return False
    proposed = np.empty((3, state.vectors.shape[1]))
    sizes = np.empty(3, dtype=np.int64)
    for part in range(3):  # this side, that side, both
        weights = there if part == 1 else (1.0 - there if part == 0 else np.ones(members.size))
        vector = proposed[part]
        vector[:] = state.vectors[other if part == 1 else one]
        sizes[part] = int(fill_moments(x, weights, mean, scatter) + 0.5)
        sign = -1.0 if part == 2 else 1.0
        log_odds -= sign * shape_proposal(
            vector, splitting == (part < 2), sizes[part], scatter, normal, generator
        )
        if np.abs(vector[n_dim:]).max() > FARTHEST:
            return False
        log_odds += sign * log_marginal(vector, sizes[part], mean, scatter, normal)
    counts, sticks = cluster_sizes(state), state.sticks
    split, merged = np.empty(counts.size + 1, np.int64), np.empty(counts.size, np.int64)
    split[:-1], merged[:] = counts, counts
    sticks_merged = sticks.copy()
    last = n_clusters - 1
    n_split, n_merged = n_all, n_all
    if splitting:
        split[one], split[-1] = sizes[0], sizes[1]
        if components.known:  # which of the empty components it is to be
            new = n_clusters + int(generator.random() * (n_all - n_clusters))
            sticks[n_clusters], sticks[new] = sticks[new], sticks[n_clusters]
        else:
            n_split = n_all + 1
    else:
        merged[one] = sizes[2]
        merged[other] = merged[-1]  # which takes its place
        sticks_merged[other], sticks_merged[last] = sticks[last], sticks[other]
        if not components.known:
            n_merged = n_all - 1
    log_odds += log_partition_and_number(
        n_split, numbers[CONCENTRATION], split if splitting else split[:-1], sticks, components
    )
    log_odds -= log_partition_and_number(
        n_merged, numbers[CONCENTRATION], merged if splitting else merged[:-1], sticks_merged,
        components,
    )  # fmt: skip
    if not math.log1p(-generator.random()) < (log_odds if splitting else -log_odds):
        return False
    if splitting:
        for m in range(members.size):
            if there[m] > 0.0:
                labels[members[m]] = n_clusters
        state.vectors[one], state.vectors[n_clusters] = proposed[0], proposed[1]
        numbers[N_CLUSTERS], numbers[N_COMPONENTS] = n_clusters + 1, n_split
        return True
    state.vectors[one] = proposed[2]
    state.vectors[other] = state.vectors[last]
    sticks[:] = sticks_merged
    for m in range(labels.size):
        if labels[m] == other:
            labels[m] = one
        if labels[m] == last:
            labels[m] = other
    numbers[N_CLUSTERS], numbers[N_COMPONENTS] = last, n_merged
    return True
