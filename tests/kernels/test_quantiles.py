"""Distribution functions and quantiles of mixtures, against SciPy and each other."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm

from bayesgmm.kernels.quantiles import fill_cdf, fill_quantiles

SHARES = np.array([1e-300, 1e-30, 1e-6, 0.1, 0.25, 0.5, 0.75, 0.999, 1.0 - 1e-12])
SIGNS = np.where(SHARES <= 0.5, 1.0, -1.0)
LEVELS = np.where(SHARES <= 0.5, SHARES, 1.0 - SHARES)


def mixtures(rng: np.random.Generator, n: int, k: int) -> tuple[np.ndarray, ...]:
    """Weights, means and scales, some of them far apart and narrow."""
    weights = rng.dirichlet(np.full(k, 0.5), n)
    means = rng.normal(size=(n, k)) * 10.0 ** rng.uniform(-1.0, 2.0, (n, 1))
    return weights, means, 10.0 ** rng.uniform(-2.0, 1.0, (n, k))


def quantiles(weights: np.ndarray, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
    result = np.full((len(weights), SHARES.size), np.nan)
    fill_quantiles(LEVELS, SIGNS * ndtri(LEVELS), SIGNS, weights, means, scales, result)
    return result


def test_cdf_against_a_loop(rng: np.random.Generator) -> None:
    weights, means, scales = mixtures(rng, 20, 3)
    places = np.linspace(-40.0, 40.0, 17)
    result = np.full((20, 17), np.nan)
    fill_cdf(places, weights, means, scales, result)
    for m in range(20):
        for g, x in enumerate(places):
            expected = (weights[m] * norm(means[m], scales[m]).cdf(x)).sum()
            assert result[m, g] == pytest.approx(expected, rel=1e-12, abs=1e-300)


def test_the_mass_beyond_a_quantile_is_its_level(rng: np.random.Generator) -> None:
    weights, means, scales = mixtures(rng, 200, 4)
    found = quantiles(weights, means, scales)
    law = norm(means[..., None], scales[..., None])
    below = (weights[..., None] * law.cdf(found[:, None])).sum(axis=1)
    above = (weights[..., None] * law.sf(found[:, None])).sum(axis=1)
    got = np.where(SHARES <= 0.5, below, above)
    # what rounding of the quantile, and of its distance from a mean, changes
    height = (weights[..., None] * law.pdf(found[:, None])).sum(axis=1)
    rounding = 4.0 * np.finfo(float).eps * (np.abs(found) + np.abs(means).max(axis=1)[:, None])
    assert (np.abs(got - LEVELS) <= 1e-12 * LEVELS + height * rounding).all()


def test_one_component_is_the_normal() -> None:
    found = quantiles(np.ones((1, 1)), np.full((1, 1), 3.0), np.full((1, 1), 2.0))
    expected = np.where(SHARES <= 0.5, norm(3.0, 2.0).ppf(LEVELS), norm(3.0, 2.0).isf(LEVELS))
    np.testing.assert_allclose(found[0], expected, rtol=1e-14)


def test_a_gap_without_mass_is_crossed() -> None:
    """Half of the mass on either side, 1e6 scales apart: any place between them will do."""
    found = quantiles(np.full((1, 2), 0.5), np.array([[0.0, 1e6]]), np.ones((1, 2)))
    assert (np.diff(found[0]) > 0.0).all()
    assert found[0, 4] == pytest.approx(0.0, abs=1e-9)  # the median of the lower one
    assert found[0, 6] == pytest.approx(1e6)
    assert 8.0 < found[0, 5] < 1e6 - 8.0


def test_components_of_weight_0_count_for_nothing() -> None:
    one = quantiles(np.ones((1, 1)), np.full((1, 1), 3.0), np.full((1, 1), 2.0))
    two = quantiles(np.array([[1.0, 0.0]]), np.array([[3.0, -1e9]]), np.array([[2.0, 1e-9]]))
    np.testing.assert_allclose(two, one, rtol=1e-14)
