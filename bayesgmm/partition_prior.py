"""What a prior of the weights says about the number of clusters, before any row is seen."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.errors import check_integer, got
from bayesgmm.kernels.occupancy import add_of_dirichlet, add_of_sticks
from bayesgmm.kernels.partitions import log_prior_concentration
from bayesgmm.mixture import GaussianMixture
from bayesgmm.overfitted import Gamma, StickBreaking
from bayesgmm.priors import Dirichlet

type Array = NDArray[np.float64]

NODES: Final = 128
"""Concentrations at which an integral over it is evaluated."""
RARE: Final = 1e-12
"""Of the highest density: where nodes end, and what is left out of a sum."""
MOST_STATES: Final = 2**14
"""Sets of occupied components, at most, where these are not alike."""


def prior_clusters(spec: GaussianMixture, n_obs: int) -> xr.DataArray:
    r"""Return the prior of the number of clusters: of components that hold a row.

    What the prior of the weights implies before the rows are looked at. Compare it with the
    posterior (`n_clusters`): where both are the same the data have said nothing.

    Parameters
    ----------
    spec : GaussianMixture
        Of which only the prior of the weights, and of the number of components, matters.
    n_obs : int
        Number of rows, n, at least 1.

    Returns
    -------
    DataArray
        ``prior_probability`` (n_clusters,) of 1, 2, ... clusters, as many as there can be. Of
        `StickBreaking` weights the attribute ``truncation_error`` bounds how far, in total
        variation, these are from those of the Dirichlet process that is not cut off.

    Raises
    ------
    TypeError, ValueError
        If `spec` is no specification, `n_obs` no positive integer, or a Dirichlet has too many
        different concentrations (2**14 sets of occupied components).

    See Also
    --------
    n_clusters : The posterior, with this beside it.

    Notes
    -----
    By recursions without subtractions. With K components of concentration g the number of
    clusters is a Markov chain: row i + 1 begins cluster c + 1 with probability
    g (K - c) / (g K + i) (Greve et al. 2022). Pieces broken off a stick take, one after another,
    a beta-binomial part of the rows that are left. A concentration that is learnt is integrated
    out over 128 values, evenly spaced in its logarithm: probabilities are then right to 1e-8.

    O(n K) operations, O(n 2^K) if all concentrations are different; with a prior on K that is
    dynamic or learnt O(n) times the sum of the numbers of clusters considered, some seconds for
    10,000 rows; O(n T C) for C clusters on a stick of T pieces, times 128 if its concentration is
    learnt.

    References
    ----------
    Greve, Gruen, Malsiner-Walli & Fruehwirth-Schnatter (2022), Spying on the prior of the number of
    data clusters and the partition distribution in Bayesian cluster analysis, Australian & New
    Zealand J. Statistics 64. doi:10.1111/anzs.12350

    Antoniak (1974), Mixtures of Dirichlet processes with applications to Bayesian nonparametric
    problems, Annals of Statistics 2. doi:10.1214/aos/1176342871

    Examples
    --------
    >>> import bayesgmm as bg
    >>> sparse = bg.GaussianMixture(10, weights=bg.SparseDirichlet(0.01))
    >>> bg.prior_clusters(sparse, 100).values[:3].round(3)
    array([0.632, 0.301, 0.06 ])
    """
    if not isinstance(spec, GaussianMixture):
        raise TypeError(
            f"`spec` must be a GaussianMixture; got {got(spec)}. Write "
            f"bg.GaussianMixture(10, weights=bg.SparseDirichlet())."
        )
    spec.refuse_noise("for `prior_clusters`")
    n_obs = check_integer(n_obs, "n_obs", 1, "Give the number of rows.")
    number, weights = spec.n_components, spec.weights
    if n_states(spec) > MOST_STATES:
        raise ValueError(
            f"`weights` must have fewer different concentrations; got {number} components, "
            f"{n_states(spec):.3g} different sets of occupied ones. Give one number for all, or "
            f"fewer components."
        )
    attrs: dict[str, Any] = {}
    if isinstance(number, PriorOnComponents):
        probability = _of_prior(number, n_obs)
    elif isinstance(weights, StickBreaking):
        probability = _of_sticks(weights, number, n_obs)
        attrs[names.TRUNCATION_ERROR] = weights.truncation_error(n_obs)
    else:
        probability = _of_dirichlet(weights, number, n_obs)
    return xr.DataArray(
        probability,
        {names.N_CLUSTERS: np.arange(1, probability.size + 1)},
        (names.N_CLUSTERS,),
        names.PRIOR_PROBABILITY,
        attrs,
    )


def _of_prior(prior: PriorOnComponents, n_obs: int) -> Array:
    """Return the probabilities under a prior on the number of components."""
    of_number = prior.probabilities()
    result = np.zeros(min(of_number.size, n_obs))
    for concentration, mass in zip(*_nodes(prior.concentration), strict=True):
        for k, p in enumerate(of_number, start=1):
            if mass * p > RARE:
                share = concentration / k if prior.dynamic else concentration
                add_of_dirichlet(n_obs, k, share, mass * p, result)
    return result / result.sum()


def _of_sticks(prior: StickBreaking, n_components: int, n_obs: int) -> Array:
    """Return the probabilities where weights are broken off a stick."""
    result = np.zeros(min(n_components, n_obs))
    for concentration, mass in zip(*_nodes(prior.concentration), strict=True):
        add_of_sticks(n_obs, n_components, concentration, mass, result)
    return result


def _nodes(concentration: float | tuple[float, float] | Gamma) -> tuple[Array, Array]:
    """Return values of a concentration, shape (Q,), and what each of them stands for."""
    if isinstance(concentration, float):
        return np.array([concentration]), np.ones(1)

    def log_density(logs: Array) -> Array:
        values = np.exp(logs)
        if isinstance(concentration, Gamma):
            return np.asarray(concentration.shape * logs - concentration.rate * values)
        freedom = np.array(concentration)
        return np.array([log_prior_concentration(value, freedom) for value in values])

    wide = np.linspace(-300.0, 300.0, 6001)
    heights = log_density(wide)
    plausible = wide[heights > heights.max() + np.log(RARE)]
    logs = np.linspace(plausible[0], plausible[-1], NODES)
    heights = log_density(logs)
    weights = np.exp(heights - heights.max())
    return np.exp(logs), weights / weights.sum()


def n_states(spec: GaussianMixture) -> float:
    """Return how many sets of occupied components differ in their concentrations."""
    weights, number = spec.weights, spec.n_components
    if isinstance(weights, StickBreaking) or isinstance(number, PriorOnComponents):
        return 1.0
    sizes = np.unique(weights.per_component(number), return_counts=True)[1]
    return float(np.prod(sizes + 1.0))


def _of_dirichlet(prior: Dirichlet, n_components: int, n_obs: int) -> Array:
    """Return the probabilities under any Dirichlet.

    How many components of every concentration are occupied is a Markov chain along the rows.
    """
    values, sizes = np.unique(prior.per_component(n_components), return_counts=True)
    shape = tuple(sizes + 1)
    result = np.zeros(min(n_components, n_obs))
    if values.size == 1:
        add_of_dirichlet(n_obs, n_components, float(values[0]), 1.0, result)
        return result
    counts = np.indices(shape)
    occupied = np.tensordot(values, counts, axes=1)  # concentration of the occupied ones
    fresh = values.reshape(-1, *[1] * values.size) * (
        sizes.reshape(-1, *[1] * values.size) - counts
    )
    p = np.zeros(shape)
    p[(0,) * values.size] = 1.0
    for i in range(n_obs):
        rest = i + float(values @ sizes)
        following = p * (i + occupied) / rest
        for axis in range(values.size):
            begun = np.moveaxis(p * fresh[axis] / rest, axis, 0)
            np.moveaxis(following, axis, 0)[1:] += begun[:-1]
        p = following
    total = np.bincount(counts.sum(axis=0).ravel(), weights=p.ravel())
    return np.asarray(total[1 : result.size + 1])
