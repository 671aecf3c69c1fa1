"""The exponential-family form: features times natural parameters is the log of the density."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from bayesgmm.kernels.natural import (
    fill_features,
    fill_natural,
    n_features_natural,
    whiten_statistics,
)
from tests.kernels.oracle import random_mixture, sample, whiten

DIMS = [1, 2, 3, 4, 10]


@pytest.mark.parametrize("n_features", DIMS)
def test_features_are_one_and_the_monomials_of_degree_one_and_two(
    n_features: int, rng: np.random.Generator
) -> None:
    rows = rng.normal(size=(n_features, 7))
    phi = np.full((n_features_natural(n_features), 7), np.nan)
    fill_features(rows, phi)
    for i in range(7):
        x = rows[:, i]
        products = [x[d] * x[e] for d in range(n_features) for e in range(d + 1)]
        np.testing.assert_array_equal(phi[:, i], [1.0, *x, *products])


@pytest.mark.parametrize("n_features", DIMS)
def test_natural_parameters_times_features_is_the_log_density(
    n_features: int, rng: np.random.Generator
) -> None:
    mixture = random_mixture(rng, 3, n_features, decades=0.1)
    rows = sample(rng, mixture, 20)
    whiteners, log_determinants = whiten(mixture)
    constants = mixture.log_weights - log_determinants - 0.5 * n_features * np.log(2.0 * np.pi)
    theta = np.full((3, n_features_natural(n_features)), np.nan)
    fill_natural(constants, mixture.means, whiteners, theta)
    phi = np.empty((theta.shape[1], 20))
    fill_features(rows, phi)
    for k in range(3):
        covariance = mixture.cholesky[k] @ mixture.cholesky[k].T
        wanted = multivariate_normal(mixture.means[k], covariance).logpdf(rows.T)
        np.testing.assert_allclose(theta[k] @ phi, wanted + mixture.log_weights[k], rtol=1e-11)


@pytest.mark.parametrize("n_features", DIMS)
def test_statistics_become_moments_of_whitened_rows(
    n_features: int, rng: np.random.Generator
) -> None:
    mixture = random_mixture(rng, 2, n_features, decades=0.1)
    rows = sample(rng, mixture, 30)
    share = rng.uniform(size=(2, 30))
    phi = np.empty((n_features_natural(n_features), 30))
    fill_features(rows, phi)
    whiteners, _ = whiten(mixture)
    counts = np.full(2, np.nan)
    first, second = np.full((2, n_features), np.nan), np.full((2, n_features, n_features), np.nan)
    whiten_statistics(share @ phi.T, mixture.means, whiteners, counts, first, second)
    for k in range(2):
        y = np.linalg.solve(mixture.cholesky[k], rows - mixture.means[k][:, None])
        np.testing.assert_allclose(counts[k], share[k].sum(), rtol=1e-13)
        np.testing.assert_allclose(first[k], y @ share[k], rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(second[k], (share[k] * y) @ y.T, rtol=1e-11, atol=1e-11)
