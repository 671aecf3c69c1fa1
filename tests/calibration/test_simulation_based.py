"""Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788) of NUTS.

Parameters are drawn from the prior, data from the parameters, and a posterior is sampled for the
data: among its draws the rank of any function of the parameters is uniform, whatever the model,
if the sampler and the density are right. Functions here ignore labels. The false alarm budget of
the whole file is 1e-4.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import binomtest, chisquare, multivariate_normal

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.problem import Problem
from bayesgmm.tree import Parameters

pytestmark = pytest.mark.slow

type Array = NDArray[np.float64]

N_OBS: Final = 50
N_SIMULATIONS: Final = 300
N_KEPT: Final = 99
"""Draws that a rank is taken among, thinned until they are nearly independent."""
CHAINS, DRAWS = 4, 500
BINS: Final = 10
BUDGET: Final = 1e-4
CONCENTRATION, LOCATION, SPREAD, TAU, ETA = 2.0, 0.5, 3.0, 1.0, 1.5


class Case(NamedTuple):
    """A specification to calibrate."""

    structure: str
    n_dim: int
    floor: float

    def __str__(self) -> str:
        return f"{self.structure}, D = {self.n_dim}, floor {self.floor}"

    @property
    def specification(self) -> bg.GaussianMixture:
        return bg.GaussianMixture(
            2,
            weights=bg.Dirichlet(CONCENTRATION),
            means=bg.NormalMeans(LOCATION, SPREAD),
            covariance=bg.LKJCovariance(ETA, TAU, self.structure, self.floor),
        )


CASES: Final = (Case("full", 1, 0.2), Case("full", 2, 0.0), Case("tied_correlation", 2, 0.1))


def from_prior(case: Case, rng: np.random.Generator) -> Parameters:
    """Draw one mixture from the prior, written out anew."""
    shape = (2, case.n_dim)
    tries = np.abs(rng.normal(0.0, TAU, (*shape, 1000)))
    first = (tries > case.floor).argmax(axis=-1)
    scales = np.take_along_axis(tries, first[..., None], axis=-1)[..., 0]
    correlations = np.tile(np.eye(case.n_dim), (2, 1, 1))
    if case.n_dim == 2:
        r = 2.0 * rng.beta(ETA, ETA, 2) - 1.0
        r[1] = r[0] if case.structure == "tied_correlation" else r[1]
        correlations[:, 0, 1] = correlations[:, 1, 0] = r
    arrays = (
        rng.dirichlet([CONCENTRATION] * 2),
        rng.normal(LOCATION, SPREAD, shape),
        scales,
        correlations,
        correlations * scales[:, :, None] * scales[:, None, :],
    )
    return Parameters(*(array[None] for array in arrays))


def simulate(truth: Parameters, rng: np.random.Generator) -> Array:
    labels = rng.choice(2, size=N_OBS, p=truth.weights[0])
    noise = rng.normal(size=(N_OBS, truth.means.shape[2]))
    factors = np.linalg.cholesky(truth.covariances[0])
    return truth.means[0, labels] + np.einsum("nij,nj->ni", factors[labels], noise)


# Functions of the parameters (S draws) and the data, shape (S,)


def log_densities(of: Parameters, X: Array) -> Array:
    """Log density of every row under every mixture, shape (S, len(X))."""
    result = np.empty((*of.weights.shape, len(X)))
    for s, k in np.ndindex(of.weights.shape):
        law = multivariate_normal(of.means[s, k], of.covariances[s, k])
        result[s, k] = np.log(of.weights[s, k]) + law.logpdf(X)
    return logsumexp(result, axis=1)


def log_likelihood(of: Parameters, X: Array) -> Array:
    return log_densities(of, X).sum(axis=1)


def density_in_the_middle(of: Parameters, X: Array) -> Array:
    return log_densities(of, np.full((1, X.shape[1]), LOCATION))[:, 0]


def smaller_weight(of: Parameters, X: Array) -> Array:
    return of.weights.min(axis=1)


def distance_of_means(of: Parameters, X: Array) -> Array:
    return np.linalg.norm(of.means[:, 0] - of.means[:, 1], axis=1)


def smallest_scale(of: Parameters, X: Array) -> Array:
    return of.scales.min(axis=(1, 2))


def average_scale(of: Parameters, X: Array) -> Array:
    return (of.weights[..., None] * of.scales).sum(axis=1).mean(axis=1)


def average_correlation(of: Parameters, X: Array) -> Array:
    return (of.weights * of.correlations[:, :, 0, -1]).sum(axis=1)


QUANTITIES: Final[tuple[Callable[[Parameters, Array], Array], ...]] = (
    log_likelihood,
    density_in_the_middle,
    smaller_weight,
    distance_of_means,
    smallest_scale,
    average_scale,
    average_correlation,
)


class Simulation(NamedTuple):
    """A truth, its data, draws of the posterior, and the log posterior at all of them."""

    truth: Parameters
    X: Array
    draws: Parameters
    lp_of_truth: float
    lp_of_draws: Array


def run(case: Case, seed: np.random.SeedSequence) -> Simulation:
    rng = np.random.default_rng(seed)
    truth = from_prior(case, rng)
    X = simulate(truth, rng)
    tree = bg.fit(
        X, case.specification, draws=DRAWS, chains=CHAINS, progressbar=False,
        random_seed=int(rng.integers(2**32)),
    )  # fmt: skip
    kept = np.linspace(0, CHAINS * DRAWS - 1, N_KEPT).astype(int)
    posterior = tree["posterior"].dataset
    draws = Parameters(
        *(posterior[name].values.reshape(CHAINS * DRAWS, *posterior[name].shape[2:])[kept]
          for name in Parameters._fields)
    )  # fmt: skip
    problem = Problem.make(case.specification, prepare(X))
    return Simulation(
        truth, X, draws,
        problem.log_posterior(problem.unconstrain(truth))[0],
        tree["sample_stats"]["lp"].values.reshape(-1)[kept],
    )  # fmt: skip


@pytest.fixture(scope="module", params=CASES, ids=str)
def simulations(request: pytest.FixtureRequest) -> list[Simulation]:
    seeds = np.random.SeedSequence(20261121).spawn(N_SIMULATIONS)
    return [run(request.param, seed) for seed in seeds]


def ranks_of(
    simulations: list[Simulation], quantity: Callable[[Parameters, Array], Array]
) -> NDArray[np.int64]:
    return np.array([
        (quantity(one.draws, one.X) < quantity(one.truth, one.X)).sum() for one in simulations
    ])  # fmt: skip


def p_value(ranks: NDArray[np.int64]) -> float:
    """Smallest p-value, times their number, of tests for what biased or wrong widths do."""
    n = len(ranks)
    counts = np.bincount(ranks * BINS // (N_KEPT + 1), minlength=BINS)
    low = binomtest(int((ranks <= N_KEPT // 2).sum()), n).pvalue
    middle = np.abs(ranks - N_KEPT / 2) < (N_KEPT + 1) / 4
    central = binomtest(int(middle.sum()), n).pvalue
    return 3.0 * min(float(chisquare(counts).pvalue), low, central)


def varies(simulations: list[Simulation], quantity: Callable[[Parameters, Array], Array]) -> bool:
    return bool(np.ptp(quantity(simulations[0].draws, simulations[0].X)) > 1e-9)


def test_ranks_are_uniform(simulations: list[Simulation]) -> None:
    p = {
        quantity.__name__: p_value(ranks_of(simulations, quantity))
        for quantity in QUANTITIES
        if varies(simulations, quantity)
    }
    lp = np.array([(one.lp_of_draws < one.lp_of_truth).sum() for one in simulations])
    p["log posterior"] = p_value(lp)
    assert len(p) >= 7
    assert min(p.values()) > BUDGET / (len(CASES) * (len(QUANTITIES) + 1)), p


def scaled(draws: Parameters, factor: float) -> Parameters:
    """Draws whose scales are wrong by a factor."""
    return draws._replace(scales=draws.scales * factor, covariances=draws.covariances * factor**2)


def narrowed(draws: Parameters, factor: float) -> Parameters:
    """Draws that vary too little (or much) around their own centre."""
    centre = draws.scales.mean(axis=0)
    return draws._replace(scales=centre + factor * (draws.scales - centre))


@pytest.mark.parametrize(("breaks", "factor"), [(scaled, 1.1), (narrowed, 0.5), (narrowed, 2.0)])
def test_broken_samplers_are_caught(
    breaks: Callable[[Parameters, float], Parameters],
    factor: float,
    simulations: list[Simulation],
) -> None:
    broken = [one._replace(draws=breaks(one.draws, factor)) for one in simulations]
    p = min(p_value(ranks_of(broken, quantity)) for quantity in (average_scale, smallest_scale))
    assert p < BUDGET / (len(CASES) * (len(QUANTITIES) + 1))
