"""The curvature at a mode, and the map that makes it one."""

import numpy as np
import pytest

from bayesgmm.data import prepare
from bayesgmm.datasets import load_faithful, make_mixture
from bayesgmm.inference.em import Target, find_modes
from bayesgmm.inference.laplace import LARGEST_DENSE, WIDEST, curvature, whitening
from bayesgmm.inference.problem import Problem
from bayesgmm.mixture import GaussianMixture
from bayesgmm.priors import LKJCovariance, NormalMeans
from tests.kernels.oracle import STRUCTURES

type Array = np.ndarray


def mode_of(problem: Problem, rng: np.random.Generator) -> Array:
    found = find_modes(problem, Target.MAP, rng, n_starts=4, hierarchical=True)
    return found.best.vector


def second_differences(problem: Problem, vector: Array, h: float = 1e-3) -> Array:
    """Return minus the Hessian from values alone, extrapolated from two steps."""
    n = vector.size

    def once(h: float) -> Array:
        e = h * np.eye(n)
        hessian = np.empty((n, n))

        def value(x: Array) -> float:
            return problem.log_posterior(x)[0]

        for i in range(n):
            for j in range(i + 1):
                total = value(vector + e[i] + e[j]) - value(vector + e[i] - e[j])
                total += value(vector - e[i] - e[j]) - value(vector - e[i] + e[j])
                hessian[i, j] = hessian[j, i] = -total / (4.0 * h * h)
        return hessian

    return (4.0 * once(h) - once(2.0 * h)) / 3.0


@pytest.mark.parametrize("floor", [0.0, 0.4])
def test_one_normal_has_a_hessian_on_paper(floor: float, rng: np.random.Generator) -> None:
    """log p = sum log N(x | m, s) + log N(m | l, S) + log half-normal(s | t) + u, s = f + e^u."""
    X = rng.normal(3.0, 2.0, (50, 1))
    spec = GaussianMixture(
        1, means=NormalMeans(1.0, 7.0), covariance=LKJCovariance(scale=3.0, floor=floor)
    )
    problem = Problem.make(spec, prepare(X))
    for vector in (mode_of(problem, rng), np.array([0.3, -0.8])):
        x, unit = problem.rows[0], problem.unit[0]
        m, u = vector
        tau, lowest, spread = 3.0 / unit, floor / unit, 7.0 / unit
        excess = np.exp(u)
        s, square = lowest + excess, ((x - m) ** 2).sum()
        by_s = -50 / s + square / s**3 - s / tau**2
        by_ss = 50 / s**2 - 3.0 * square / s**4 - 1.0 / tau**2
        wanted = -np.array([
            [-50 / s**2 - 1.0 / spread**2, -2.0 * (x - m).sum() / s**3 * excess],
            [-2.0 * (x - m).sum() / s**3 * excess, by_ss * excess**2 + by_s * excess],
        ])  # fmt: skip
        np.testing.assert_allclose(curvature(problem, vector), wanted, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_curvature_is_that_of_the_values(structure: str, rng: np.random.Generator) -> None:
    X = make_mixture(120, 2, 2, random_seed=3)["X"].values
    spec = GaussianMixture(2, covariance=LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(X))
    vector = mode_of(problem, rng)
    got, wanted = curvature(problem, vector), second_differences(problem, vector)
    np.testing.assert_array_equal(got, got.T)
    np.testing.assert_allclose(got, wanted, atol=1e-5 * np.abs(wanted).max(), rtol=0)
    assert np.linalg.eigvalsh(got).min() > 0.0  # it is a mode


def narrow_and_overlapping(rng: np.random.Generator) -> Array:
    """Return two overlapping clusters, and a row so far away that they are narrow beside it."""
    near = np.concatenate([rng.normal(0.0, 1.0, 300), rng.normal(3.0, 1.0, 300)])
    return np.append(near, 3e6)[:, None]


def test_curvature_of_narrow_components(rng: np.random.Generator) -> None:
    X = narrow_and_overlapping(rng)
    problem = Problem.make(GaussianMixture(3), prepare(X))
    start = problem.constrain(np.zeros((1, problem.n_parameters)))._replace(
        weights=np.array([[0.499, 0.499, 0.002]]),
        means=np.array([0.0, 3.0, 3e6]).reshape(1, 3, 1),
        scales=np.array([1.0, 1.0, 50.0]).reshape(1, 3, 1),
    )
    vector = problem.unconstrain(start)
    got = curvature(problem, vector)
    narrow = [2, 3]  # the means of the two
    step = 0.02 / problem.unit[0] * np.eye(vector.size)
    for i in narrow:
        above, below = (problem.log_posterior(vector + sign * step[i])[1] for sign in (1, -1))
        wanted = (below - above)[narrow] / (0.04 / problem.unit[0])
        np.testing.assert_allclose(got[i, narrow], wanted, rtol=1e-3)


def test_whitened_the_mode_has_unit_curvature(rng: np.random.Generator) -> None:
    problem = Problem.make(GaussianMixture(2), prepare(load_faithful()))
    vector = mode_of(problem, rng)
    factor = whitening(problem, vector)
    assert factor.shape == (vector.size, vector.size)
    hessian = curvature(problem, vector)
    np.testing.assert_allclose(factor @ factor.T @ hessian, np.eye(vector.size), atol=1e-6)
    top, h = problem.log_posterior(vector)[0], 1e-2
    for direction in np.eye(vector.size):
        around = [
            problem.log_posterior(vector + sign * h * factor @ direction)[0] for sign in (1, -1)
        ]
        assert (2.0 * top - sum(around)) / h**2 == pytest.approx(1.0, abs=1e-2)


def test_directions_that_the_data_do_not_know_are_held(rng: np.random.Generator) -> None:
    """At a saddle, where curvature has the wrong sign, standard deviations stop at 3."""
    problem = Problem.make(GaussianMixture(3), prepare(rng.normal(size=(30, 2))))
    vector = np.zeros(problem.n_parameters)  # all components equal
    assert np.linalg.eigvalsh(curvature(problem, vector)).min() < WIDEST**-2.0
    factor = whitening(problem, vector)
    spread = np.sqrt(np.linalg.eigvalsh(factor @ factor.T))
    assert spread.max() == pytest.approx(WIDEST, rel=1e-9)
    assert spread.min() > 0.0


def test_too_many_parameters_are_not_whitened(rng: np.random.Generator) -> None:
    problem = Problem.make(GaussianMixture(2), prepare(rng.normal(size=(60, 31))))
    assert problem.n_parameters > LARGEST_DENSE
    factor = whitening(problem, np.zeros(problem.n_parameters))
    np.testing.assert_array_equal(factor, np.ones(problem.n_parameters))
