"""The evidence of small one-dimensional mixtures, summed over all allocations of the rows."""

from math import lgamma

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

type Array = NDArray[np.float64]

LOG_SCALES = np.linspace(-9.0, 3.0, 61)
"""Where the scale is integrated over, of data whose spread is near 1."""


def all_subsets(n_rows: int) -> Array:
    """Return which rows are in every subset, shape (2**N, N): row i if bit i is set."""
    return ((np.arange(2**n_rows)[:, None] >> np.arange(n_rows)) & 1).astype(float)


def log_marginals(x: Array, member: Array, location: float, width: float, scales: Array) -> Array:
    """Return the log density of some subsets of the rows, the mean integrated out.

    Parameters
    ----------
    x : array, shape (N,)
    member : array, shape (S, N)
    location, width : float
        Of the Normal prior of the mean.
    scales : array, shape (G,)

    Returns
    -------
    array, shape (S, G)
    """
    gap = x - location
    n, total, squares = (member @ v for v in (np.ones(x.size), gap, gap**2))
    variance = scales**2 + n[:, None] * width**2
    shrunk = squares[:, None] - width**2 * total[:, None] ** 2 / variance
    return (
        -0.5 * n[:, None] * np.log(2.0 * np.pi)
        - (n[:, None] - 1.0) * np.log(scales)
        - 0.5 * np.log(variance)
        - 0.5 * shrunk / scales**2
    )


def log_prior_mass(scales: Array, tau: float) -> Array:
    """Return the log of half-normal prior mass at points that are even in the log of the scale."""
    step = LOG_SCALES[1] - LOG_SCALES[0]
    density = 0.5 * np.log(2.0 / np.pi) - np.log(tau) - 0.5 * (scales / tau) ** 2
    return density + np.log(scales) + np.log(step)


def log_sum_over_allocations(
    of_subset: Array, concentration: Array, of_noise: Array | None = None
) -> Array:
    """Return the log evidence from the log densities of all subsets, shape (2**N, ...).

    Components take their rows one after another: what the first k have taken is a subset. Those of
    subsets as background noise, if there is any, go with the last concentration.
    """
    size = len(of_subset)
    n_rows = size.bit_length() - 1
    counts = np.array([int(s).bit_count() for s in range(size)], dtype=float)
    shape = (size, *(1,) * (of_subset.ndim - 1))

    def taken(k: int) -> Array:
        prior = gammaln(concentration[k] + counts) - gammaln(concentration[k])
        is_noise = of_noise is not None and k == len(concentration) - 1
        return (of_noise if is_noise else of_subset) + prior.reshape(shape)

    reached = taken(0)
    for k in range(1, len(concentration)):
        own, last = taken(k), k == len(concentration) - 1
        following = np.full_like(reached, -np.inf)
        for union in [size - 1] if last else range(size):
            subset = np.arange(size) if union == size - 1 else _subsets(union)
            following[union] = logsumexp(reached[subset] + own[union ^ subset], axis=0)
        reached = following
    total = float(np.sum(concentration))
    return np.asarray(reached[-1] + lgamma(total) - lgamma(total + n_rows))


def _subsets(of: int) -> NDArray[np.int64]:
    """Return all subsets of a set of bits."""
    bits = [1 << i for i in range(of.bit_length()) if of >> i & 1]
    subsets = np.zeros(1, dtype=np.int64)
    for bit in bits:
        subsets = np.concatenate([subsets, subsets | bit])
    return subsets


def own_scales(
    x: Array,
    concentration: Array,
    location: float,
    width: float,
    tau: float,
    noise: float | None = None,
) -> float:
    """Return the log evidence of components with scales of their own, and of noise.

    The log density of this, if there is any, goes with the last concentration.
    """
    scales = np.exp(LOG_SCALES)
    member = all_subsets(x.size) if len(concentration) > 1 else np.ones((1, x.size))
    marginals = log_marginals(x, member, location, width, scales) + log_prior_mass(scales, tau)
    of_subset = logsumexp(marginals, axis=1)
    if len(concentration) == 1:
        return float(of_subset[0])
    of_noise = None if noise is None else noise * member.sum(axis=1)
    return float(log_sum_over_allocations(of_subset, concentration, of_noise))


def shared_scale(
    x: Array, concentration: Array, location: float, width: float, tau: float
) -> float:
    """Return the log evidence of components with one scale."""
    scales = np.exp(LOG_SCALES)
    of_subset = log_marginals(x, all_subsets(x.size), location, width, scales)
    given = log_sum_over_allocations(of_subset, concentration)
    return float(logsumexp(given + log_prior_mass(scales, tau)))
