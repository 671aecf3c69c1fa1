"""Sums over blocks are what one pass over all rows gives."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.blockwise import BlockProblem, Mixture, densities, moments, pack_block, rowless
from bayesgmm.data import prepare
from bayesgmm.kernels.mstep import run_em
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Listed:
    """Blocks in a list."""

    blocks: list[Array]

    def densities(self, vectors: Array) -> Array:
        return np.sum([densities(block, vectors) for block in self.blocks], axis=0)

    def moments(self, mixture: Mixture) -> Array:
        return np.sum([moments(block, mixture) for block in self.blocks], axis=0)


def in_blocks(problem: Problem, n_blocks: int) -> BlockProblem:
    values = problem.data.values
    packed = [pack_block(problem, part) for part in np.array_split(values, n_blocks)]
    cells = np.count_nonzero(~np.isnan(values), axis=0).astype(float)
    return BlockProblem.over(problem, Listed(packed), len(values), cells)


def rows(rng: np.random.Generator, missing: bool) -> Array:
    label = rng.choice(3, size=120)
    X = rng.normal(size=(120, 3)) + np.array([[0, 0, 0], [4, 0, 1], [0, 5, -2]])[label]
    if missing:
        X[rng.random(120) < 0.2, rng.integers(3)] = np.nan
        X[50:60, 1] = np.nan  # a block in which no row is complete
    return X


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("structure", ["full", "tied", "spherical", "tied_correlation"])
def test_density_and_gradient_are_those_of_all_rows(
    rng: np.random.Generator, structure: str, missing: bool
) -> None:
    spec = bg.GaussianMixture(3, covariance=bg.LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(rows(rng, missing)))
    vectors = rng.normal(size=(4, problem.n_parameters))
    expected = [problem.log_posterior(vector) for vector in vectors]
    for n_blocks in (1, 7, 100):
        blocked = in_blocks(problem, n_blocks)
        values, gradients = blocked.log_posteriors(vectors)
        for (value, gradient), ours, slopes in zip(expected, values, gradients, strict=True):
            assert ours == pytest.approx(value, rel=1e-10)
            np.testing.assert_allclose(slopes, gradient, rtol=0, atol=1e-10 * abs(gradient).max())
        assert blocked.log_volume == pytest.approx(problem.log_volume, rel=1e-12)


def test_em_takes_the_same_steps(rng: np.random.Generator) -> None:
    problem = Problem.make(bg.GaussianMixture(3), prepare(rows(rng, missing=False)))
    start = 0.5 * rng.normal(size=problem.n_parameters)
    for strength, passes in ((1.0, 400), (0.0, 8)):
        penalty = problem.penalty(strength)
        expected = run_em(
            problem.layout, penalty, problem.rows, np.empty(0), NO_GROUPS, start, passes, 1e-6
        )
        status, vector, trace = in_blocks(problem, 7).run_em(penalty, start, passes, 1e-6)
        assert status == expected[0] == (0 if strength else 1)
        np.testing.assert_allclose(trace, expected[2], rtol=1e-10)
        np.testing.assert_allclose(vector, expected[1], rtol=1e-7, atol=1e-7)


def test_em_tells_of_a_component_without_rows(rng: np.random.Generator) -> None:
    problem = Problem.make(bg.GaussianMixture(2), prepare(rows(rng, missing=False)))
    vector = np.zeros(problem.n_parameters)
    vector[1:4] = 1e4  # the mean of the first
    status, _, trace = in_blocks(problem, 3).run_em(problem.penalty(0.0), vector, 10, 1e-6)
    assert status == 2
    assert len(trace) == 1


def test_nothing_is_kept_but_the_labels_of_the_features(rng: np.random.Generator) -> None:
    data = prepare(bg.datasets.load_faithful())
    kept = rowless(data)
    assert kept.n_obs == 0
    assert kept.features.tolist() == ["eruptions", "waiting"]
    problem = in_blocks(Problem.make(bg.GaussianMixture(2), data), 3)
    assert problem.kept.n_obs == 0
    assert problem.n_counted == data.n_obs
