"""What is seen of a row, as a triangle, and the rest of it, drawn."""

import numpy as np
import pytest

from bayesgmm.kernels.marginal import fill_imputed, fill_marginal, marginal_factors
from tests.kernels.oracle import random_mixture


@pytest.mark.parametrize("width", [0, 4])
def test_the_triangle_is_the_factor_of_what_is_seen(width: int, rng: np.random.Generator) -> None:
    mixture, seen = random_mixture(rng, 2, 4), np.array([0, 2, 3])
    errors = rng.normal(size=(3, width))
    triangle, basis = np.full((3, 3), np.nan), np.full((3, 4 + width), np.nan)
    fill_marginal(mixture.cholesky[1], seen, errors.ravel(), triangle, basis)
    wide = np.concatenate([mixture.cholesky[1][seen], errors], axis=1)
    np.testing.assert_allclose(triangle @ basis, wide, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(basis @ basis.T, np.eye(3), atol=1e-12)
    wanted = np.linalg.cholesky(wide @ wide.T)
    np.testing.assert_allclose(triangle, wanted, rtol=1e-9, atol=1e-12)
    stacked = np.stack([mixture.cholesky, mixture.cholesky])
    np.testing.assert_array_equal(marginal_factors(stacked, seen, errors)[1, 1], triangle)


@pytest.mark.parametrize("width", [0, 3])
def test_draws_have_the_conditional_mean_and_covariance(
    width: int, rng: np.random.Generator
) -> None:
    """As a map of normal numbers the draw is affine: its mean and factor are read off exactly."""
    mixture, seen = random_mixture(rng, 2, 3, decades=0.1), np.array([0, 2])
    cells, errors = rng.normal(size=(2, 1)), 0.7 * rng.normal(size=(2, width))
    size = 3 + width
    normal = np.concatenate([np.zeros((1, 1, size)), np.eye(size)[:, None]])  # S = 1 + size
    n_draws = len(normal)
    out = np.full((n_draws, 1, 3), np.nan)
    for k, uniform in enumerate((0.2, 0.6)):
        fill_imputed(
            cells, seen, errors, np.stack([mixture.means] * n_draws),
            np.stack([mixture.cholesky] * n_draws), np.full((n_draws, 2, 1), 0.5),
            np.full((n_draws, 1), uniform), normal, np.empty((0, 0, 0)), out,
        )  # fmt: skip
        covariance = mixture.cholesky[k] @ mixture.cholesky[k].T
        of_seen = covariance[np.ix_(seen, seen)] + errors @ errors.T
        gain = np.linalg.solve(of_seen, covariance[seen]).T
        mean = mixture.means[k] + gain @ (cells[:, 0] - mixture.means[k][seen])
        np.testing.assert_allclose(out[0, 0], mean, rtol=1e-10, atol=1e-12)
        factor = (out[1:, 0] - out[0, 0]).T
        np.testing.assert_allclose(
            factor @ factor.T, covariance - gain @ covariance[seen], rtol=1e-9, atol=1e-11
        )
        if width == 0:
            np.testing.assert_allclose(out[:, 0, seen], np.tile(cells.T, (n_draws, 1)), atol=1e-11)
