"""The band that the ECDF of uniform numbers stays in: exact probabilities."""

import numpy as np
import pytest

from bayesgmm.uniformity import POINTS, Band, ecdf


def test_one_number_in_closed_form() -> None:
    """The rarest point for u between points a and b: a count of 0 at a, or of 1 at b."""
    band = Band.of(1)
    edges = np.concatenate([[0.0], POINTS, [1.0]])
    low, high = edges[:-1], edges[1:]
    rarest = np.minimum(
        np.where(low > 0.0, 2.0 * (1.0 - low), 2.0), np.where(high < 1.0, 2.0 * high, 2.0)
    )
    for rarity in (0.011, 0.101, 0.333, 0.777):
        assert band.coverage(rarity) == pytest.approx((rarest > rarity).mean(), abs=1e-12)


@pytest.mark.parametrize("n", [7, 60, 400])
def test_coverage_is_what_simulations_find(n: int, rng: np.random.Generator) -> None:
    band = Band.of(n)
    bounds = band.bounds(0.9)
    n_trials = 20_000
    counts = rng.multinomial(n, np.full(100, 0.01), n_trials)[:, :-1].cumsum(axis=1)
    inside = ((counts / n >= bounds[0]) & (counts / n <= bounds[1])).all(axis=1).mean()
    assert inside >= 0.9 - 5.0 * np.sqrt(0.09 / n_trials)
    tails = band.tails[np.arange(99), counts].min(axis=1)
    for rarity in (0.002, 0.01, 0.05):
        expected = band.coverage(rarity)
        error = np.sqrt(expected * (1.0 - expected) / n_trials)
        assert abs((tails > rarity).mean() - expected) < 5.0 * error + 1e-12


def test_the_band_is_the_narrowest() -> None:
    band = Band.of(50)
    low, high = 50.0 * band.bounds(0.9)
    narrower = band.tails.copy()
    rows = np.arange(99)
    least = narrower[rows, low.round().astype(int)].min()
    assert band.coverage(least) < 0.9


def test_a_curve_outside_the_band_has_a_small_p_value(rng: np.random.Generator) -> None:
    band = Band.of(200)
    bounds = band.bounds(0.95)
    for power in np.linspace(0.7, 1.4, 30):
        values = rng.random(200) ** power
        curve = ecdf(values[:, None])[:, 0]
        outside = ((curve < bounds[0] - 1e-12) | (curve > bounds[1] + 1e-12)).any()
        assert outside == (band.p_value(values) < 0.05)


def test_p_values_of_uniform_numbers_are_not_too_small(rng: np.random.Generator) -> None:
    band = Band.of(100)
    p = np.array([band.p_value(rng.random(100)) for _ in range(1000)])
    for level in (0.01, 0.05, 0.3):
        assert (p <= level).mean() <= level + 5.0 * np.sqrt(level * (1.0 - level) / 1000)
    assert band.p_value(np.full(100, 0.5)) < 1e-12
    assert band.p_value((np.arange(100) + 0.5) / 100) > 0.99


def test_ecdf_counts_up_to_and_with() -> None:
    found = ecdf(np.array([[0.1, 0.5], [0.1, 0.9]]))
    assert found.shape == (99, 2)
    np.testing.assert_array_equal(
        found[[8, 9, 49, 89, 98]], [[0, 0], [1, 0], [1, 0.5], [1, 1], [1, 1]]
    )
