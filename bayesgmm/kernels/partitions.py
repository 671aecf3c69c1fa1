"""The number of components and the concentration of their weights, given a partition of the rows.

With Dirichlet weights, the same for all K components, a partition into clusters of n_1, ..., n_C
rows has the probability

    p(partition | K, g) = K! / (K - C)! Gamma(K g) / Gamma(K g + N)
                          prod_c Gamma(n_c + g) / Gamma(g),

where g is the concentration, divided by K if it is dynamic.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


class ComponentPrior(NamedTuple):
    """The prior of the number of components and of the concentration.

    Parameters
    ----------
    log_probability : array, shape (largest,)
        Of K = 1, 2, ...
    log_tail : array, shape (largest,)
        Of more than K components.
    freedom : array, shape (2,)
        Degrees of freedom of the concentration's F distribution, or shape and rate of its Gamma
        distribution if weights are broken off a stick; zeros if it is fixed.
    dynamic : bool
    known : bool
        Whether the number of components is the largest, and stays.
    sticks : bool
        Whether the weights are broken off a stick, rather than Dirichlet.
    """

    log_probability: Array
    log_tail: Array
    freedom: Array
    dynamic: bool
    known: bool
    sticks: bool


@kernel
def log_partition(n_components: int, concentration: float, counts: Labels, dynamic: bool) -> float:
    """Return the log probability of a partition given the number of components.

    Parameters
    ----------
    n_components : int
    concentration : float
    counts : array of int, shape (C,)
        Rows of every cluster, at least one.
    dynamic : bool
    """
    share = concentration / n_components if dynamic else concentration
    total = share * n_components
    n_rows = 0
    of_share = math.lgamma(share)
    result = math.lgamma(n_components + 1.0) - math.lgamma(n_components - counts.size + 1.0)
    for count in counts:
        result += math.lgamma(count + share) - of_share
        n_rows += count
    return result + math.lgamma(total) - math.lgamma(total + n_rows)


@kernel
def draw_n_components(
    concentration: float, counts: Labels, prior: ComponentPrior, uniform: float
) -> int:
    """Return the number of components at a quantile of its distribution given the partition.

    Parameters
    ----------
    concentration : float
    counts : array of int, shape (C,)
        Rows of every cluster.
    prior : ComponentPrior
    uniform : float
        In [0, 1).

    Notes
    -----
    The probabilities of K = C, C + 1, ... are added up only until the quantile lies between the
    same two sums whatever the rest may be. Given K' >= K a partition is, if the concentration is
    dynamic, at most K^C (K - C)! / K! times as probable as given K. If it is static the
    probability rises and then falls: once it falls it bounds what follows.
    """
    fewest, largest = counts.size, prior.log_probability.size
    sums = np.empty(largest - fewest + 1)
    total, before, reference = 0.0, 0.0, 0.0
    for k in range(fewest, largest + 1):
        log_f = log_partition(k, concentration, counts, prior.dynamic)
        if k == fewest:
            reference = log_f + prior.log_probability[k - 1]
        total += math.exp(log_f + prior.log_probability[k - 1] - reference)
        sums[k - fewest] = total
        bound = math.inf
        if k == largest:
            bound = -math.inf
        elif prior.dynamic:
            bound = log_f + fewest * math.log(k)
            bound += math.lgamma(k - fewest + 1.0) - math.lgamma(k + 1.0)
        elif k > fewest and log_f <= before:
            bound = log_f
        before = log_f
        rest = math.exp(min(bound + prior.log_tail[k - 1] - reference, 700.0))
        if uniform * (total + rest) < total:
            found = np.searchsorted(sums[: k - fewest + 1], uniform * total, side="right")
            if uniform * (total + rest) < sums[found]:
                return int(fewest + found)
    return largest


@kernel
def log_prior_concentration(concentration: float, freedom: Array) -> float:
    """Return the log density, up to a constant, of the logarithm of the concentration."""
    above, below = freedom
    return 0.5 * above * math.log(concentration) - 0.5 * (above + below) * math.log1p(
        above * concentration / below
    )


@kernel
def draw_concentration(
    concentration: float,
    n_components: int,
    counts: Labels,
    prior: ComponentPrior,
    step: float,
    uniform: float,
) -> float:
    """Return the concentration after a Metropolis step of its logarithm.

    Parameters
    ----------
    concentration : float
    n_components : int
    counts : array of int, shape (C,)
    prior : ComponentPrior
    step : float
        Of the logarithm.
    uniform : float
        In [0, 1): the step is taken if this is less than the ratio of densities.
    """
    proposed = concentration * math.exp(step)
    ratio = (
        log_partition(n_components, proposed, counts, prior.dynamic)
        + log_prior_concentration(proposed, prior.freedom)
        - log_partition(n_components, concentration, counts, prior.dynamic)
        - log_prior_concentration(concentration, prior.freedom)
    )
    return proposed if uniform < math.exp(min(ratio, 0.0)) else concentration
