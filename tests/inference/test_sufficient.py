"""Sufficient statistics stand for rows: sums, densities and M-steps as of the rows themselves."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference.sufficient import (
    Ground,
    Mixture,
    Sufficient,
    expect,
    log_density,
    mixtures_of,
    statistics_of,
)
from bayesgmm.kernels.cholesky import unconstrain
from bayesgmm.kernels.mstep import em_map
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import LKJCovariance
from bayesgmm.problem import Problem
from tests.kernels.oracle import STRUCTURES

type Array = np.ndarray


def a_mixture(rng: np.random.Generator, k: int, d: int) -> Mixture:
    factors = np.tril(rng.normal(size=(k, d, d)), -1) + np.eye(d) * rng.uniform(0.5, 2.0, (k, 1, d))
    return Mixture(np.log(rng.dirichlet(np.ones(k))), rng.normal(size=(k, d)), factors)


def of_rows(rows: Array, r: Array) -> Sufficient:
    """Return statistics of rows (D, N) with responsibilities (N, K), row by row."""
    counts, means, covariances = [], [], []
    for share in r.T:
        mean = (rows * share).sum(axis=1) / share.sum()
        gap = rows - mean[:, None]
        counts.append(share.sum())
        means.append(mean)
        covariances.append((share * gap) @ gap.T / share.sum())
    return Sufficient(*map(np.array, (counts, means, covariances)))


def assert_close(found: Sufficient, expected: Sufficient) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


def joint_of(rows: Array, mixture: Mixture) -> Array:
    return np.stack(
        [
            weight + multivariate_normal(mean, factor @ factor.T).logpdf(rows.T)
            for weight, mean, factor in zip(*mixture, strict=True)
        ],
        axis=-1,
    )


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_expected_statistics_are_those_of_the_responsibilities(
    offset: float, rng: np.random.Generator
) -> None:
    mixture = a_mixture(rng, 3, 2)
    moved = mixture._replace(means=mixture.means + offset)
    rows = rng.normal(size=(2, 200))
    joint = joint_of(rows, mixture)
    density = np.logaddexp.reduce(joint, axis=1)
    value, found = expect(rows + offset, moved)
    expected = of_rows(rows, np.exp(joint - density[:, None]))
    rtol = 1e-9 if offset == 0.0 else 1e-6  # rounding of the rows themselves
    np.testing.assert_allclose(value, density.sum(), rtol=rtol)
    np.testing.assert_allclose(found.means - offset, expected.means, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(found.covariances, expected.covariances, rtol=rtol, atol=rtol)


def test_statistics_of_blocks_add_up_to_those_of_all_rows(rng: np.random.Generator) -> None:
    mixture, rows = a_mixture(rng, 3, 2), rng.normal(size=(2, 300))
    blocks = map(np.ascontiguousarray, np.split(rows, [50, 120], axis=1))
    parts = [expect(block, mixture)[1] for block in blocks]
    total = parts[0].plus(parts[1]).plus(parts[2])
    assert_close(total, expect(rows, mixture)[1])


def test_a_row_counted_half_is_one_of_two_equal_rows(rng: np.random.Generator) -> None:
    mixture, rows = a_mixture(rng, 2, 3), rng.normal(size=(3, 40))
    twice = expect(np.tile(rows, 2), mixture)[1]
    assert_close(twice.times(0.5), expect(rows, mixture)[1])


def test_nothing_and_something_is_something(rng: np.random.Generator) -> None:
    found = expect(rng.normal(size=(2, 50)), a_mixture(rng, 2, 2))[1]
    nothing = Sufficient(np.zeros(2), np.zeros((2, 2)), np.zeros((2, 2, 2)))
    assert_close(nothing.plus(found), found)
    assert_close(found.plus(nothing), found)


def test_the_density_of_statistics_is_that_of_rows_with_known_components(
    rng: np.random.Generator,
) -> None:
    mixture, rows = a_mixture(rng, 3, 2), rng.normal(size=(2, 60))
    labels = rng.integers(3, size=60)
    statistics = of_rows(rows, np.eye(3)[labels])
    expected = joint_of(rows, mixture)[np.arange(60), labels].sum()
    np.testing.assert_allclose(log_density(statistics, mixture), expected, rtol=1e-12)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_an_m_step_of_statistics_is_that_of_em(structure: str, rng: np.random.Generator) -> None:
    X = rng.normal(size=(80, 3)) @ rng.normal(size=(3, 3)) + rng.integers(2, size=(80, 1)) * 4.0
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(X))
    ground = Ground(problem.specification, problem.center, problem.unit, {})
    start = rng.normal(size=problem.n_parameters)
    parameters = problem.constrain(start[None], floor=np.zeros(problem.layout.scale_columns))
    mixture = mixtures_of(parameters, ground)[0]
    statistics = expect(problem.rows, mixture)[1]
    location = statistics.counts @ statistics.means / statistics.counts.sum()
    penalty = problem.penalty(1.0)._replace(location=location)
    _, ok, expected = em_map(problem.layout, penalty, problem.rows, np.empty(0), NO_GROUPS, start)
    found = ground.maximise(statistics, mixture.cholesky)
    assert ok
    assert found is not None
    vector = unconstrain(problem.layout, np.zeros(problem.layout.scale_columns), *found)
    np.testing.assert_allclose(vector, expected, rtol=1e-8, atol=1e-8)


def test_an_m_step_without_rows_does_not_exist(rng: np.random.Generator) -> None:
    ground = Ground(GaussianMixture(2), np.zeros(2), np.ones(2), {})
    statistics = Sufficient(np.array([10.0, np.nan]), np.zeros((2, 2)), np.zeros((2, 2, 2)))
    assert ground.maximise(statistics, np.tile(np.eye(2), (2, 1, 1))) is None


def test_statistics_of_a_fit_are_averages_over_its_draws(rng: np.random.Generator) -> None:
    X = np.concatenate((rng.normal(0.0, 1.0, (30, 2)), rng.normal(4.0, 1.0, (50, 2))))
    tree = bg.fit(X, 2, draws=20, chains=2, random_seed=1, progressbar=False)
    ground = Ground.of_tree(tree)
    found = ground.to_units(statistics_of(tree, ground))
    cube = tree.posterior.to_dataset().stack(sample=("chain", "draw"))
    r = np.zeros((80, 2))
    for s in range(cube.sizes["sample"]):
        one: xr.Dataset = cube.isel(sample=s)
        joint = np.stack(
            [
                np.log(one["weights"].values[k])
                + multivariate_normal(one["means"].values[k], one["covariances"].values[k]).logpdf(
                    X
                )
                for k in range(2)
            ],
            axis=-1,
        )
        r += np.exp(joint - np.logaddexp.reduce(joint, axis=1)[:, None]) / cube.sizes["sample"]
    expected = of_rows(X.T, r)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-7, atol=1e-9)
    assert_close(ground.from_units(found), statistics_of(tree, ground))
