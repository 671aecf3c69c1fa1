"""Log densities of many vectors, and of some rows in place of all."""

from typing import Any

import numpy as np
import pytest

from bayesgmm.blockwise import BlockProblem, Totals
from bayesgmm.data import prepare
from bayesgmm.datasets import make_mixture
from bayesgmm.inference.blocks import Kept
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.laplace import WIDEST, factor_of
from bayesgmm.inference.mode import Target
from bayesgmm.kernels import threads
from bayesgmm.mixture import GaussianMixture
from bayesgmm.posterior_density import STEP, _stratified, curvature, curvature_of, subset, whole
from bayesgmm.problem import Problem

type Array = np.ndarray


def large(n_obs: int = 20_000, **given: Any) -> Problem:
    arguments = {"separation": 3.0, "random_seed": 4, **given}
    X = make_mixture(n_obs, 3, 2, **arguments)["X"].values
    return Problem.make(GaussianMixture(3), prepare(X))


def mode_of(problem: Problem) -> Array:
    rng = np.random.default_rng(1)
    found = find_modes(problem, Target.MAP, rng, n_starts=4, hierarchical=False)
    return found.best.vector


@pytest.mark.parametrize("n_threads", [1, 3])
def test_vectors_are_evaluated_one_by_one_whatever_the_threads(
    n_threads: int, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "n_cores", lambda: n_threads)
    problem = Problem.make(GaussianMixture(2), prepare(rng.normal(size=(40, 2))))
    vectors = rng.normal(size=(11, problem.n_parameters))
    values, gradients = whole(problem)(vectors)
    for vector, value, gradient in zip(vectors, values, gradients, strict=True):
        alone = problem.log_posterior(vector)
        assert value == alone[0]
        np.testing.assert_array_equal(gradient, alone[1])


def test_curvature_of_a_quadratic_in_many_dimensions(rng: np.random.Generator) -> None:
    n = 300  # more than are differenced at a time
    square = rng.normal(size=(n, n))
    hessian = square @ square.T

    def density(vectors: Array) -> tuple[Array, Array]:
        return -0.5 * np.sum(vectors * (vectors @ hessian), axis=1), -vectors @ hessian

    steps = rng.uniform(0.1, 10.0, n)
    got = curvature_of(density, rng.normal(size=n), steps)
    np.testing.assert_allclose(got, hessian, rtol=0, atol=1e-9 * np.abs(hessian).max())


def test_some_rows_of_every_component_stand_for_all_of_it(rng: np.random.Generator) -> None:
    problem = large(weights=[0.01, 0.3, 0.69], separation=8.0)
    vector = mode_of(problem)
    chosen, row_weights = _stratified(problem, vector, 3000, rng)
    assert np.unique(chosen).size == chosen.size == row_weights.size
    means = problem.constrain(vector[None]).means[0]
    nearest = np.linalg.norm(problem.data.values[:, None] - means, axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=3)
    assert counts.min() < 300
    for k, count in enumerate(counts):
        of_k = row_weights[nearest[chosen] == k]
        assert abs(of_k.size - min(count, 1000)) < 5  # a row or two go astray
        assert np.median(of_k) == pytest.approx(max(count / 1000, 1.0), rel=0.01)
    assert row_weights.sum() == pytest.approx(20_000, rel=1e-12)


def test_some_rows_are_exact_to_second_order_at_the_mode(rng: np.random.Generator) -> None:
    problem = large()
    vector = mode_of(problem)
    hessian = curvature(problem, vector)
    part, bend = subset(problem, vector, hessian, 1500, rng)
    (value,), (gradient,) = part(vector[None])
    due, slopes = problem.log_posterior(vector)
    assert value == pytest.approx(due, rel=1e-12)
    np.testing.assert_allclose(gradient, slopes, atol=1e-6)
    got = curvature_of(part, vector, STEP * problem.units_of(vector))
    np.testing.assert_allclose(got, hessian, rtol=0, atol=1e-5 * np.abs(hessian).max())
    assert np.abs(bend).max() > 1e-3 * np.abs(hessian).max()  # there was something to correct


def test_some_rows_give_the_log_density_where_the_posterior_is(rng: np.random.Generator) -> None:
    """What the quadratic cannot correct is of the order of 1 / sqrt(n N) nats."""
    problem = large()
    vector = mode_of(problem)
    hessian = curvature(problem, vector)
    part, bend = subset(problem, vector, hessian, 1500, rng)
    draws = vector + rng.normal(size=(200, vector.size)) @ factor_of(hessian, WIDEST).T
    error = part(draws)[0] - whole(problem)(draws)[0]
    gap = draws - vector
    uncorrected = error - 0.5 * np.sum(gap * (gap @ bend), axis=1)
    assert error.std() < 0.1
    assert uncorrected.std() > 3.0 * error.std()


def test_slopes_of_some_rows_are_those_of_their_values(rng: np.random.Generator) -> None:
    problem = large(2000)
    vector = mode_of(problem)
    part, _ = subset(problem, vector, curvature(problem, vector), 300, rng)
    point = vector + 0.2 * rng.normal(size=vector.size)
    step = 1e-5 * np.eye(vector.size)
    slopes = (part(point + step)[0] - part(point - step)[0]) / 2e-5
    np.testing.assert_allclose(part(point[None])[1][0], slopes, rtol=1e-5, atol=1e-3)


def test_rows_of_a_weighted_sample_stand_for_the_rows_of_all_blocks() -> None:
    X = make_mixture(400, 3, 2, separation=3.0, random_seed=4)["X"].values
    weights = np.linspace(0.0, 2.0, 400)
    sample = Problem.make(GaussianMixture(3), prepare(X, sample_weight=weights))
    totals = Totals(4000, np.full(2, 5000.0), 5000.0, 4000.0, np.zeros(3, dtype=int))
    blocked = BlockProblem.over(sample, Kept([]), totals)
    chosen, times = _stratified(blocked, mode_of(sample), 4000, np.random.default_rng(1))
    assert sorted(chosen) == list(range(400))
    np.testing.assert_allclose(times, weights[chosen] * (5000.0 / weights.sum()))
