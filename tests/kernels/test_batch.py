"""Many log posteriors at once."""

import numpy as np

from bayesgmm.data import prepare
from bayesgmm.kernels.batch import fill_log_posteriors
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem


def test_every_vector_is_evaluated_as_it_is_alone(rng: np.random.Generator) -> None:
    problem = Problem.make(GaussianMixture(2), prepare(rng.normal(size=(30, 2))))
    vectors = rng.normal(size=(7, problem.n_parameters))
    values, gradients = np.full(7, np.nan), np.full(vectors.shape, np.nan)
    fill_log_posteriors(vectors, problem.flat, values, gradients)
    for vector, value, gradient in zip(vectors, values, gradients, strict=True):
        alone = problem.log_posterior(vector)
        assert value == alone[0]
        np.testing.assert_array_equal(gradient, alone[1])
