"""Cholesky factors of correlation matrices: the formula, its gradient, and what is at its edges."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_expit

from bayesgmm.kernels.factors import correlation_factors, factor_slopes

type Array = NDArray[np.float64]

every_size = pytest.mark.parametrize(("n_sets", "n_dim"), [(1, 1), (2, 1), (1, 2), (3, 2), (2, 5)])


def odds(rng: np.random.Generator, n_sets: int, n_dim: int) -> Array:
    return rng.normal(size=(n_sets, n_dim * (n_dim - 1) // 2))


def naive(odds: Array, n_dim: int) -> Array:
    """Return the factors, by the formula, of partial correlations tanh(odds / 2)."""
    result = np.zeros((len(odds), n_dim, n_dim))
    for g, c in enumerate(np.tanh(0.5 * odds)):
        for i in range(n_dim):
            row = c[i * (i - 1) // 2 : i * (i + 1) // 2]
            for j in range(i):
                result[g, i, j] = row[j] * np.prod(np.sqrt(1.0 - row[:j] ** 2))
            result[g, i, i] = np.prod(np.sqrt(1.0 - row**2))
    return result


@every_size
def test_factors_follow_the_formula(rng: np.random.Generator, n_sets: int, n_dim: int) -> None:
    x = odds(rng, n_sets, n_dim)
    got = correlation_factors(log_expit(x), log_expit(-x), n_dim)
    np.testing.assert_allclose(got, naive(x, n_dim), rtol=1e-13, atol=1e-15)
    correlations = got @ got.mT
    np.testing.assert_allclose(np.diagonal(correlations, axis1=1, axis2=2), 1.0, rtol=1e-14)


@every_size
def test_slopes_are_those_of_finite_differences(
    rng: np.random.Generator, n_sets: int, n_dim: int
) -> None:
    x = odds(rng, n_sets, n_dim)
    logs = [log_expit(x), log_expit(-x)]
    weights = rng.normal(size=(n_sets, n_dim, n_dim))
    lower = np.tril(weights)
    slopes = factor_slopes(*logs, weights)
    for which, slope in enumerate(slopes):
        assert slope.shape == x.shape
        for place in np.ndindex(x.shape):
            sums = []
            for step in (1e-6, -1e-6):
                moved = [value.copy() for value in logs]
                moved[which][place] += step
                sums.append((lower * correlation_factors(*moved, n_dim)).sum())
            assert slope[place] == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("x", [-700.0, -40.0, 40.0, 700.0])
def test_correlations_that_round_to_one_are_exact(x: float) -> None:
    """b = 1 - 4e-18 is 1, but its logarithm and that of 1 - b are not lost."""
    logs = (np.array([[log_expit(x)]]), np.array([[log_expit(-x)]]))
    factor = correlation_factors(*logs, 2)[0]
    assert factor[1, 0] == np.sign(x)
    assert factor[1, 1] == pytest.approx(2.0 * np.exp(-0.5 * abs(x)), rel=1e-12)
    by_b, by_q = factor_slopes(*logs, np.ones((1, 2, 2)))
    assert np.isfinite([by_b, by_q]).all()


@pytest.mark.parametrize(
    ("shape", "other", "square"),
    [
        ((1, 3), (1, 3), (1, 2, 2)),
        ((1, 3), (1, 1), (1, 3, 3)),
        ((2, 3), (2, 3), (1, 3, 3)),
        ((1, 3), (1, 3), (1, 3, 2)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], other: tuple[int, ...], square: tuple[int, ...]
) -> None:
    message = r"must have the shape \(G, D \(D - 1\) / 2\)"
    with pytest.raises(ValueError, match=message):
        factor_slopes(np.zeros(shape), np.zeros(other), np.zeros(square))
    if square[0] == shape[0] and square[1] == square[2]:
        with pytest.raises(ValueError, match=message):
            correlation_factors(np.zeros(shape), np.zeros(other), square[1])
