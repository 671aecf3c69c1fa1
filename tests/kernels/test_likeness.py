"""The Bhattacharyya coefficient of Normal distributions."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from bayesgmm.kernels.likeness import fill_affinities
from tests.kernels.oracle import random_mixture

type Array = np.ndarray


def affinities(means: Array, cholesky: Array, to_means: Array, to_cholesky: Array) -> Array:
    gains = np.empty((len(means), means.shape[1], len(to_means)))
    fill_affinities(means, cholesky, to_means, to_cholesky, gains)
    return gains


def test_against_the_integral(rng: np.random.Generator) -> None:
    means, scales = rng.normal(size=(2, 3)), rng.uniform(0.5, 2.0, (2, 3))
    got = affinities(
        means[:, :, None], scales[:, :, None, None], means[0, :, None], scales[0, :, None, None]
    )
    for s, k, j in np.ndindex(2, 3, 3):
        one, other = norm(means[s, k], scales[s, k]), norm(means[0, j], scales[0, j])
        area, _ = quad(
            lambda x, one=one, other=other: np.sqrt(one.pdf(x) * other.pdf(x)), -20, 20
        )
        assert got[s, k, j] == pytest.approx(np.log(area), abs=1e-8)


def test_against_determinants(rng: np.random.Generator) -> None:
    mixture, target = (random_mixture(rng, 3, 4) for _ in range(2))
    got = affinities(mixture.means[None], mixture.cholesky[None], target.means, target.cholesky)
    for k, j in np.ndindex(3, 3):
        one, other = (x.cholesky[i] @ x.cholesky[i].T for x, i in ((mixture, k), (target, j)))
        middle, gap = 0.5 * (one + other), mixture.means[k] - target.means[j]
        expected = -gap @ np.linalg.solve(middle, gap) / 8.0 - 0.5 * (
            np.linalg.slogdet(middle)[1]
            - 0.5 * (np.linalg.slogdet(one)[1] + np.linalg.slogdet(other)[1])
        )
        assert got[0, k, j] == pytest.approx(expected, rel=1e-9)


def test_no_affine_map_of_the_data_changes_it(rng: np.random.Generator) -> None:
    mixture, target = (random_mixture(rng, 3, 2) for _ in range(2))
    turn = np.array([[1e4], [1e-3]]) * np.linalg.qr(rng.normal(size=(2, 2)))[0]

    def mapped(means: Array, cholesky: Array) -> tuple[Array, Array]:
        covariance = turn @ cholesky @ np.swapaxes(cholesky, -1, -2) @ turn.T
        return means @ turn.T + 7.0, np.linalg.cholesky(covariance)

    before = affinities(mixture.means[None], mixture.cholesky[None], *target[1:])
    means, cholesky = mapped(*mixture[1:])
    after = affinities(means[None], cholesky[None], *mapped(*target[1:]))
    np.testing.assert_allclose(after, before, rtol=1e-6)


def test_the_same_component_is_most_alike(rng: np.random.Generator) -> None:
    mixture = random_mixture(rng, 4, 3)
    got = affinities(mixture.means[None], mixture.cholesky[None], *mixture[1:])[0]
    np.testing.assert_allclose(np.diag(got), 0.0, atol=1e-12)
    assert (got[~np.eye(4, dtype=bool)] < 0.0).all()
