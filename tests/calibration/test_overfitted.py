"""Simulation-based calibration of fits with more components than clusters.

As in `test_number_of_components`, whose quantities and test they share.
"""

from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm import names
from tests.calibration.test_number_of_components import (
    BUDGET,
    ETA,
    FLOOR,
    LOCATION,
    N_KEPT,
    N_OBS,
    N_SIMULATIONS,
    SPREAD,
    TAU,
    Mixtures,
    average_scale,
    concentration,
    density_in_the_middle,
    largest_weight,
    log_likelihood,
    n_clusters,
    p_value,
)

pytestmark = pytest.mark.slow

type Array = NDArray[np.float64]

CHAINS, DRAWS = 2, 500
LEAST: Final = 1e-200
"""Weights, at least, lest logarithms of their sums underflow; of truths and draws alike."""
QUANTITIES: Final = (
    n_clusters,
    concentration,
    largest_weight,
    log_likelihood,
    density_in_the_middle,
    average_scale,
)


class Case(NamedTuple):
    """A specification to calibrate."""

    n_dim: int
    n_components: int
    weights: bg.SparseDirichlet | bg.StickBreaking

    def __str__(self) -> str:
        return f"D = {self.n_dim}, K = {self.n_components}, {self.weights}"


CASES: Final = (
    Case(1, 5, bg.SparseDirichlet(0.3)),
    Case(1, 6, bg.StickBreaking(bg.Gamma(2.0, 1.5))),
    Case(2, 4, bg.StickBreaking(0.8)),
)


def from_prior(case: Case, rng: np.random.Generator) -> tuple[Mixtures, Array]:
    """Draw a mixture and its rows, written out anew."""
    prior, k, n_dim = case.weights, case.n_components, case.n_dim
    alpha = prior.concentration
    if isinstance(alpha, bg.Gamma):
        alpha = rng.gamma(alpha.shape) / alpha.rate
    if isinstance(prior, bg.StickBreaking):
        pieces = np.append(rng.beta(1.0, alpha, k - 1), 1.0)
        weights = pieces * np.append(1.0, np.cumprod(1.0 - pieces)[:-1])
    else:
        weights = rng.dirichlet(np.full(k, alpha))
    means = rng.normal(LOCATION, SPREAD, (k, n_dim))
    scales = np.zeros((k, n_dim))
    while (scales < FLOOR).any():
        scales = np.where(scales < FLOOR, np.abs(rng.normal(0.0, TAU, scales.shape)), scales)
    correlations = np.tile(np.eye(n_dim), (k, 1, 1))
    if n_dim == 2:
        correlations[:, 0, 1] = correlations[:, 1, 0] = 2.0 * rng.beta(ETA, ETA, k) - 1.0
    covariances = correlations * scales[:, :, None] * scales[:, None, :]
    labels = rng.choice(k, size=N_OBS, p=weights)
    factors = np.linalg.cholesky(covariances)
    X = means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(N_OBS, n_dim)))
    weights = np.maximum(weights, LEAST)
    truth = (k, len(np.unique(labels)), alpha, weights, means, covariances)
    return Mixtures(*(np.asarray(value)[None] for value in truth)), X


def ranks_of(case: Case, seed: np.random.SeedSequence) -> list[int]:
    """Return the rank of the truth among draws, of every quantity."""
    rng = np.random.default_rng(seed)
    truth, X = from_prior(case, rng)
    spec = bg.GaussianMixture(
        case.n_components,
        weights=case.weights,
        means=bg.NormalMeans(LOCATION, SPREAD),
        covariance=bg.LKJCovariance(ETA, TAU, floor=FLOOR),
    )
    tree = bg.fit(
        X, spec, draws=DRAWS, chains=CHAINS, progressbar=False,
        random_seed=int(rng.integers(2**32)),
    )  # fmt: skip
    kept = np.linspace(0, CHAINS * DRAWS - 1, N_KEPT).astype(int)
    posterior = tree["posterior"].dataset

    def drawn(name: str) -> Array:
        if name not in posterior:  # it does not vary
            value = getattr(truth, name)[0]
            return np.full(N_KEPT, value)
        values = posterior[name].values
        draws = values.reshape(CHAINS * DRAWS, *values.shape[2:])[kept]
        return np.maximum(draws, LEAST) if name == names.WEIGHTS else draws

    draws = Mixtures(*map(drawn, Mixtures._fields))
    ranks = []
    for quantity in QUANTITIES:
        ours, true = quantity(draws, X), quantity(truth, X)
        ties = int((ours == true).sum())
        ranks.append(int((ours < true).sum()) + int(rng.integers(ties + 1)))
    return ranks


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_are_uniform(case: Case) -> None:
    seeds = np.random.SeedSequence(20261123).spawn(N_SIMULATIONS)
    ranks = np.array([ranks_of(case, seed) for seed in seeds])
    p = {
        quantity.__name__: p_value(column)
        for quantity, column in zip(QUANTITIES, ranks.T, strict=True)
    }
    assert min(p.values()) > BUDGET / (len(CASES) * len(QUANTITIES)), p
