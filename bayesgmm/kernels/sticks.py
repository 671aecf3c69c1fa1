r"""Weights broken off a stick one after another: their density, and allocations given them.

With v_k ~ Beta(1, a) for all but the last of T components, v_T = 1, the weights of a Dirichlet
process cut off after T components are

    w_k = v_k prod_{l<k} (1 - v_l),      p(w) = a^(T-1) w_T^(a-1) / prod_{k<T} R_k,

with R_k = w_k + ... + w_T what is left of the stick before the k-th piece is broken off. With the
weights integrated out, and m_k rows on the k-th piece, M_k on those after it, allocations have the
probability

    p(z | a) = prod_{k<T} a Gamma(1 + m_k) Gamma(a + M_k) / Gamma(1 + a + m_k + M_k).
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.component import log_gamma_draw

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


@kernel
def log_sum(one: float, other: float) -> float:
    """Return log(exp(one) + exp(other)) of finite numbers."""
    return max(one, other) + math.log1p(math.exp(-abs(one - other)))


@kernel
def add_sticks(shape: float, rate: float, log_weights: Array, slopes: Array) -> float:
    """Return the log density of broken-off weights on the unconstrained scale; add its slopes.

    Parameters
    ----------
    shape, rate : float
        Of the Gamma distribution of the concentration, which is integrated out; a rate of 0 says
        that `shape` is the concentration itself.
    log_weights : array, shape (K,)
    slopes : array, shape (K,)
        Derivatives by the logarithms of the weights are added to them.

    Notes
    -----
    Without constants. Of the density, times all weights for the scale, the concentration is in

        a^(K-1) w_K^a, whose mean under its prior is proportional to (rate - log w_K)^-(shape+K-1).
    """
    last = log_weights.size - 1
    log_rest = np.empty(last + 1)
    log_rest[last] = log_weights[last]
    for k in range(last - 1, -1, -1):
        log_rest[k] = log_sum(log_weights[k], log_rest[k + 1])
    value, log_inverse = 0.0, -log_rest[0]
    for k in range(last):
        value += log_weights[k] - log_rest[k]
        if k > 0:
            log_inverse = log_sum(log_inverse, -log_rest[k])
        slopes[k] += 1.0 - math.exp(log_weights[k] + log_inverse)
    slopes[last] -= math.exp(log_weights[last] + log_inverse)
    if rate > 0.0:
        total = rate - log_weights[last]
        slopes[last] += (shape + last) / total
        return value - (shape + last) * math.log(total)
    slopes[last] += shape
    return value + shape * log_weights[last]


@kernel
def log_allocation(counts: Labels, sticks: Labels, n_sticks: int, concentration: float) -> float:
    """Return the log probability of an allocation, times the ways to name its empty components.

    Parameters
    ----------
    counts : array of int, shape (C,)
        Rows of every cluster.
    sticks : array of int, shape (C or more,)
        Which piece of the stick each of them is.
    n_sticks : int
        How many there are, T.
    concentration : float

    Returns
    -------
    float
        log p(z) + log T! / (T - C)!: of a new cluster, any of the pieces without rows is proposed.
    """
    rows = np.zeros(n_sticks)
    for c in range(counts.size):
        rows[sticks[c]] = counts[c]
    result = math.lgamma(n_sticks + 1.0) - math.lgamma(n_sticks - counts.size + 1.0)
    beyond = rows[n_sticks - 1]
    for k in range(n_sticks - 2, -1, -1):
        result += math.log(concentration) + math.lgamma(1.0 + rows[k])
        result += math.lgamma(concentration + beyond)
        beyond += rows[k]
        result -= math.lgamma(1.0 + concentration + beyond)
    return result


@kernel
def swap_sticks(
    counts: Labels,
    sticks: Labels,
    n_sticks: int,
    concentration: float,
    generator: np.random.Generator,
) -> None:
    """Move clusters along the stick, by Metropolis steps that swap two pieces; O(C T)."""
    if n_sticks == 1:
        return
    now = log_allocation(counts, sticks, n_sticks, concentration)
    for _ in range(2 * counts.size):
        one = int(generator.random() * counts.size)
        other = (one + 1 + int(generator.random() * (n_sticks - 1))) % n_sticks
        sticks[one], sticks[other] = sticks[other], sticks[one]
        then = log_allocation(counts, sticks, n_sticks, concentration)
        if math.log1p(-generator.random()) < then - now:
            now = then
        else:
            sticks[one], sticks[other] = sticks[other], sticks[one]


@kernel
def move_stick_concentration(
    concentration: float,
    counts: Labels,
    sticks: Labels,
    n_sticks: int,
    gamma: Array,
    step: float,
    uniform: float,
) -> float:
    """Return the concentration after a Metropolis step of its logarithm.

    Parameters
    ----------
    concentration : float
    counts, sticks, n_sticks
        As in `log_allocation`.
    gamma : array, shape (2,)
        Shape and rate of its Gamma distribution.
    step : float
        Of the logarithm.
    uniform : float
        In [0, 1): the step is taken if this is less than the ratio of densities.
    """
    proposed = concentration * math.exp(step)
    ratio = gamma[0] * step - gamma[1] * (proposed - concentration)
    ratio += log_allocation(counts, sticks, n_sticks, proposed)
    ratio -= log_allocation(counts, sticks, n_sticks, concentration)
    return proposed if uniform < math.exp(min(ratio, 0.0)) else concentration


@kernel
def update_stick_weights(
    counts: Labels,
    sticks: Labels,
    concentration: float,
    log_weights: Array,
    generator: np.random.Generator,
) -> None:
    """Draw the weights of all components, shape (T,), given the rows of those that have any."""
    n_sticks = log_weights.size
    component = np.empty(n_sticks, dtype=np.int64)
    rows = np.zeros(n_sticks)
    for k in range(n_sticks):
        component[sticks[k]] = k
        if k < counts.size:
            rows[sticks[k]] = counts[k]
    beyond, log_rest = rows.sum(), 0.0
    for k in range(n_sticks - 1):
        beyond -= rows[k]
        broken = log_gamma_draw(1.0 + rows[k], generator)
        left = log_gamma_draw(concentration + beyond, generator)
        both = log_sum(broken, left)
        log_weights[component[k]] = log_rest + broken - both
        log_rest += left - both
    log_weights[component[n_sticks - 1]] = log_rest
