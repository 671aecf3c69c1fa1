"""Ellipses, densities and principal axes against their definitions."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import norm

from bayesgmm.plots.geometry import densities, ellipses, grid, principal_axes, spread
from tests.synthetic import random_parameters


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 0.999])
def test_ellipses_hold_their_share(rng: np.random.Generator, probability: float) -> None:
    drawn = random_parameters(rng, (5,), 3, 2)
    means, covariances = drawn["means"], drawn["covariances"]
    outlines = ellipses(means, covariances, probability)
    assert outlines.shape == (5, 3, 101, 2)
    away = outlines - means[..., None, :]
    distance = np.einsum("skpi,skij,skpj->skp", away, np.linalg.inv(covariances), away)
    np.testing.assert_allclose(1.0 - np.exp(-0.5 * distance), probability, rtol=1e-9)


def test_ellipses_are_closed_and_go_all_around(rng: np.random.Generator) -> None:
    outline = ellipses(np.array([3.0, -2.0]), np.array([[2.0, 1.9], [1.9, 2.0]]), 0.9)
    np.testing.assert_allclose(outline[0], outline[-1], atol=1e-12)
    reach = math.sqrt(-2.0 * math.log(0.1) * 2.0)
    np.testing.assert_allclose(outline[:, 0].max(), 3.0 + reach, rtol=1e-3)
    np.testing.assert_allclose(outline.min(axis=0), [3.0 - reach, -2.0 - reach], rtol=1e-2)


def test_a_needle_has_an_outline() -> None:
    outline = ellipses(np.zeros(2), np.array([[1.0, 1.0], [1.0, 1.0 - 1e-17]]), 0.9)
    assert np.isfinite(outline).all()
    np.testing.assert_allclose(outline[:, 0], outline[:, 1], atol=1e-12)


def test_densities_are_normal_and_weighted(rng: np.random.Generator) -> None:
    weights, means = rng.dirichlet(np.ones(3), 4), rng.normal(size=(4, 3))
    variances, places = rng.uniform(0.5, 2.0, (4, 3)), np.linspace(-2.0, 2.0, 7)
    found = densities(places, weights, means, variances)
    assert found.shape == (3, 4, 7)
    for k in range(3):
        for s in range(4):
            expected = weights[s, k] * norm.pdf(places, means[s, k], variances[s, k] ** 0.5)
            np.testing.assert_allclose(found[k, s], expected, rtol=1e-12)


def test_the_grid_does_not_miss_a_needle() -> None:
    places = grid(0.0, 1.0, np.array([0.5005, 3.0]), np.array([1e-6, 1.0]))
    assert places[0] == 0.0
    assert places[-1] == 1.0
    assert (np.diff(places) > 0.0).all()
    assert (np.abs(places - 0.5005) < 1e-6).sum() >= 11


def test_spread_takes_first_and_last_and_none_twice() -> None:
    assert spread(4000, 40).tolist()[::39] == [0, 3999]
    assert len(set(spread(41, 40).tolist())) == 40
    assert spread(3, 40).tolist() == [0, 1, 2]
    assert spread(1, 40).tolist() == [0]


def test_principal_axes_are_the_singular_vectors(rng: np.random.Generator) -> None:
    values = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4))
    directions, shares = principal_axes(values)
    _, singular, vectors = np.linalg.svd(values - values.mean(axis=0))
    np.testing.assert_allclose(np.abs(directions), np.abs(vectors[:2].T), rtol=1e-9)
    np.testing.assert_allclose(shares, (singular**2 / (singular**2).sum())[:2], rtol=1e-9)
    largest = np.abs(directions).argmax(axis=0)
    assert (directions[largest, [0, 1]] > 0.0).all()


def test_ellipses_of_a_t_hold_their_share() -> None:
    covariance, df = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.5, 40.0])
    outlines = ellipses(np.zeros((2, 2)), np.stack([covariance] * 2), 0.8, df)
    distances = np.einsum("kpi,ij,kpj->kp", outlines, np.linalg.inv(covariance), outlines)
    due = 2.0 * stats.f(2, df).ppf(0.8)
    np.testing.assert_allclose(distances, np.broadcast_to(due[:, None], distances.shape))


def test_densities_of_a_t_are_those_of_scipy() -> None:
    places, df = np.array([-3.0, 0.0, 9.0]), np.array([[1.0, 30.0]])
    weights, means, variances = np.array([[0.3, 0.7], [1.0, 2.0], [4.0, 0.5]])[:, None]
    found = densities(places, weights, means, variances, df)
    for k in range(2):
        law = stats.t(df[0, k], means[0, k], np.sqrt(variances[0, k]))
        np.testing.assert_allclose(found[k, 0], weights[0, k] * law.pdf(places))
