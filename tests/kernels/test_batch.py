"""Many log posteriors at once."""

import numpy as np
import pytest

from bayesgmm.data import prepare
from bayesgmm.kernels.batch import fill_log_posteriors
from bayesgmm.kernels.target import address_of, log_target
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem


def test_every_vector_is_evaluated_as_it_is_alone(rng: np.random.Generator) -> None:
    problem = Problem.make(GaussianMixture(2), prepare(rng.normal(size=(30, 2))))
    vectors = rng.normal(size=(7, problem.n_parameters))
    values, gradients = np.full(7, np.nan), np.full(vectors.shape, np.nan)
    fill_log_posteriors(address_of(problem.flat), vectors, problem.flat, values, gradients)
    for vector, value, gradient in zip(vectors, values, gradients, strict=True):
        alone = problem.log_posterior(vector)
        assert value == alone[0]
        np.testing.assert_array_equal(gradient, alone[1])


def test_vectors_may_lie_anyhow_but_not_gradients(rng: np.random.Generator) -> None:
    problem = Problem.make(GaussianMixture(2), prepare(rng.normal(size=(30, 2))))
    wide = rng.normal(size=(problem.n_parameters, 2))
    gradient, other = np.empty(len(wide)), np.empty(len(wide))
    value = log_target(wide[:, 0], problem.flat, gradient)
    assert value == log_target(wide[:, 0].copy(), problem.flat, other)
    np.testing.assert_array_equal(gradient, other)
    with pytest.raises(ValueError, match="`gradient` must have no strides"):
        log_target(wide[:, 0], problem.flat, np.empty_like(wide)[:, 1])
