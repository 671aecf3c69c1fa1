"""Simulation-based calibration of the sampler over the number of components.

As in `test_simulation_based`: everything is drawn from the prior, the number of components and
the concentration too, then data, then the posterior; ranks of the truth among the draws are
uniform. Numbers tie: ties are broken at random. The false alarm budget of the file is 1e-4.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import binomtest, chisquare, norm

import bayesgmm as bg

pytestmark = pytest.mark.slow

type Array = NDArray[np.float64]

N_OBS: Final = 40
N_SIMULATIONS: Final = 300
N_KEPT: Final = 99
CHAINS, DRAWS = 2, 500
BINS: Final = 10
BUDGET: Final = 1e-4
LOCATION, SPREAD, TAU, ETA, FLOOR = 0.5, 3.0, 1.0, 1.5, 0.1


class Case(NamedTuple):
    """A specification to calibrate."""

    n_dim: int
    prior: bg.PriorOnComponents

    def __str__(self) -> str:
        return f"D = {self.n_dim}, {self.prior}, {self.prior.shown_weights}"


CASES: Final = (
    Case(1, bg.PriorOnComponents("poisson", 2.0)),
    Case(1, bg.PriorOnComponents("uniform", 6, concentration=1.0, dynamic=False)),
    Case(2, bg.PriorOnComponents()),
)


class Mixtures(NamedTuple):
    """Draws of everything, or one truth: arrays with a leading dimension of draws."""

    n_components: Array
    n_clusters: Array
    concentration: Array
    weights: Array
    means: Array
    covariances: Array


def from_prior(case: Case, rng: np.random.Generator) -> tuple[Mixtures, Array]:
    """Draw a mixture and its rows, written out anew."""
    prior, n_dim = case.prior, case.n_dim
    p = prior.probabilities()
    k = int(rng.choice(len(p), p=p / p.sum())) + 1
    concentration = prior.concentration
    if isinstance(concentration, tuple):
        concentration = rng.f(*concentration)
    shares = rng.gamma(concentration / k if prior.dynamic else concentration, size=k)
    while not shares.sum() > 0.0:
        shares = rng.gamma(concentration / k if prior.dynamic else concentration, size=k)
    weights = shares / shares.sum()
    means = rng.normal(LOCATION, SPREAD, (k, n_dim))
    scales = np.zeros((k, n_dim))
    while (scales < FLOOR).any():
        again = np.abs(rng.normal(0.0, TAU, scales.shape))
        scales = np.where(scales < FLOOR, again, scales)
    correlations = np.tile(np.eye(n_dim), (k, 1, 1))
    if n_dim == 2:
        correlations[:, 0, 1] = correlations[:, 1, 0] = 2.0 * rng.beta(ETA, ETA, k) - 1.0
    covariances = correlations * scales[:, :, None] * scales[:, None, :]
    labels = rng.choice(k, size=N_OBS, p=weights)
    factors = np.linalg.cholesky(covariances)
    X = means[labels] + np.einsum("nij,nj->ni", factors[labels], rng.normal(size=(N_OBS, n_dim)))
    truth = (k, len(np.unique(labels)), concentration, weights, means, covariances)
    return Mixtures(*(np.asarray(value)[None] for value in truth)), X


# Functions of mixtures and data, shape (S,)


def n_components(of: Mixtures, X: Array) -> Array:
    return of.n_components


def n_clusters(of: Mixtures, X: Array) -> Array:
    return of.n_clusters


def concentration(of: Mixtures, X: Array) -> Array:
    return of.concentration


def largest_weight(of: Mixtures, X: Array) -> Array:
    return of.weights.max(axis=1)


def log_likelihood(of: Mixtures, X: Array) -> Array:
    factors = np.linalg.cholesky(of.covariances)
    result = np.zeros(len(of.weights))
    for x in X:
        y = np.linalg.solve(factors, (x - of.means)[..., None])[..., 0]
        logs = norm.logpdf(y).sum(axis=-1)
        logs -= np.log(np.einsum("...ii->...i", factors)).sum(axis=-1)
        result += logsumexp(logs, b=of.weights, axis=1)
    return result


def density_in_the_middle(of: Mixtures, X: Array) -> Array:
    return log_likelihood(of, np.full((1, X.shape[1]), LOCATION))


def average_scale(of: Mixtures, X: Array) -> Array:
    first = np.sqrt(of.covariances[..., 0, 0])
    return (of.weights * first).sum(axis=1)


QUANTITIES: Final[tuple[Callable[[Mixtures, Array], Array], ...]] = (
    n_components,
    n_clusters,
    concentration,
    largest_weight,
    log_likelihood,
    density_in_the_middle,
    average_scale,
)


def ranks_of(case: Case, seed: np.random.SeedSequence) -> list[int]:
    """Return the rank of the truth among draws, of every quantity."""
    rng = np.random.default_rng(seed)
    truth, X = from_prior(case, rng)
    spec = bg.GaussianMixture(
        case.prior,
        means=bg.NormalMeans(LOCATION, SPREAD),
        covariance=bg.LKJCovariance(ETA, TAU, floor=FLOOR),
    )
    tree = bg.fit(
        X, spec, draws=DRAWS, chains=CHAINS, progressbar=False,
        random_seed=int(rng.integers(2**32)),
    )  # fmt: skip
    kept = np.linspace(0, CHAINS * DRAWS - 1, N_KEPT).astype(int)
    posterior = tree["posterior"].dataset
    draws = Mixtures(
        *(posterior[name].values.reshape(CHAINS * DRAWS, *posterior[name].shape[2:])[kept]
          for name in Mixtures._fields)
    )  # fmt: skip
    ranks = []
    for quantity in QUANTITIES:
        ours, true = quantity(draws, X), quantity(truth, X)
        ties = int((ours == true).sum())
        ranks.append(int((ours < true).sum()) + int(rng.integers(ties + 1)))
    return ranks


def p_value(ranks: NDArray[np.int64]) -> float:
    """Smallest p-value, times their number, of tests for what biased or wrong widths do."""
    n = len(ranks)
    counts = np.bincount(ranks * BINS // (N_KEPT + 1), minlength=BINS)
    low = binomtest(int((ranks <= N_KEPT // 2).sum()), n).pvalue
    middle = np.abs(ranks - N_KEPT / 2) < (N_KEPT + 1) / 4
    central = binomtest(int(middle.sum()), n).pvalue
    return 3.0 * min(float(chisquare(counts).pvalue), low, central)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_ranks_are_uniform(case: Case) -> None:
    seeds = np.random.SeedSequence(20261122).spawn(N_SIMULATIONS)
    ranks = np.array([ranks_of(case, seed) for seed in seeds])
    p = {
        quantity.__name__: p_value(column)
        for quantity, column in zip(QUANTITIES, ranks.T, strict=True)
    }
    assert min(p.values()) > BUDGET / (len(CASES) * len(QUANTITIES)), p


@pytest.mark.parametrize("off", [-0.15, 0.15])
def test_a_shifted_number_of_components_would_be_caught(off: float) -> None:
    """What ranks a sampler that moves the posterior by `off` of its mass would give."""
    rng = np.random.default_rng(1)
    ranks = np.clip(rng.integers(N_KEPT + 1, size=N_SIMULATIONS) + off * N_KEPT, 0, N_KEPT)
    assert p_value(ranks.astype(int)) < BUDGET / (len(CASES) * len(QUANTITIES))
