"""Sums over blocks are what one pass over all rows gives."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.blockwise import (
    BlockProblem,
    Mixture,
    Totals,
    densities,
    moments,
    pack_block,
    rowless,
)
from bayesgmm.chunked_rows import Rows
from bayesgmm.data import prepare
from bayesgmm.kernels.mstep import run_em
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.known_labels import with_labels
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
    data = problem.data
    every = Rows(data.values, np.arange(data.n_obs), data.sample_weight, data.allowed, data.errors)
    packed = [
        pack_block(problem, every.some(part))
        for part in np.array_split(np.arange(data.n_obs), n_blocks)
    ]
    weights = np.ones(data.n_obs) if data.sample_weight is None else data.sample_weight
    cells = weights @ ~np.isnan(data.values)
    totals = Totals(data.n_obs, cells, weights.sum(), problem.n_effective, problem.named(3))
    return BlockProblem.over(problem, Listed(packed), totals)


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
    assert_same(Problem.make(spec, prepare(rows(rng, missing))), rng)


def assert_same(problem: Problem, rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(4, problem.n_parameters))
    expected = [problem.log_posterior(vector) for vector in vectors]
    for n_blocks in (1, 7, 100):
        blocked = in_blocks(problem, n_blocks)
        values, gradients = blocked.log_posteriors(vectors)
        for (value, gradient), ours, slopes in zip(expected, values, gradients, strict=True):
            assert ours == pytest.approx(value, rel=1e-10)
            np.testing.assert_allclose(slopes, gradient, rtol=0, atol=1e-10 * abs(gradient).max())
        assert blocked.log_volume == pytest.approx(problem.log_volume, rel=1e-12)
        assert blocked.n_counted == pytest.approx(problem.n_counted, rel=1e-12)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("said", ["sample_weight", "labels", "deviations", "covariances", "all"])
def test_so_they_are_with_all_that_is_said_of_rows(
    rng: np.random.Generator, said: str, missing: bool
) -> None:
    X = rows(rng, missing)
    deviations = rng.gamma(1.0, size=X.shape) * (rng.random(X.shape) < 0.7)
    deviations[:40] = 0.3
    errors = {
        "deviations": deviations,
        "all": deviations,
        "covariances": np.einsum("ni,nj->nij", deviations, deviations) + np.eye(3),
    }.get(said)
    whole = said == "all"
    weights = rng.integers(3, size=120) * 0.7 if whole or said == "sample_weight" else None
    data = prepare(X, sample_weight=weights, measurement_error=errors)
    if whole or said == "labels":
        soft = rng.random((120, 3))
        soft[::3] = 1.0
        soft[::4] = [True, False, True]
        data = with_labels(data, soft, 3)
    assert_same(Problem.make(bg.GaussianMixture(3), data), rng)


@pytest.mark.parametrize("said", [False, True])
def test_em_takes_the_same_steps(rng: np.random.Generator, said: bool) -> None:
    weights, allowed = rng.integers(3, size=120) + 0.5, rng.random((120, 3)) > 0.3
    allowed[:, 1] = True
    data = prepare(rows(rng, missing=False), sample_weight=weights if said else None)
    problem = Problem.make(bg.GaussianMixture(3), with_labels(data, allowed if said else None, 3))
    start = 0.5 * rng.normal(size=problem.n_parameters)
    for strength, passes in ((1.0, 400), (0.0, 8)):
        penalty = problem.penalty(strength)
        expected = run_em(
            problem.layout, penalty, problem.rows, problem.row_weights, NO_GROUPS, start, passes,
            1e-6,
        )  # fmt: skip
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
