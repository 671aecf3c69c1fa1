"""The modes of a density, against a fine grid and against the conditions of a maximum."""

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from bayesgmm.kernels.ascent import fill_modes


def modes_of(
    weights: np.ndarray, means: np.ndarray, cholesky: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Locations, log densities and labels of one mixture."""
    n_components, n_dim = means.shape
    locations = np.full((1, n_components, n_dim), np.nan)
    log_density = np.full((1, n_components), np.nan)
    labels = np.full((1, n_components), -1)
    fill_modes(np.log(weights)[None], means[None], cholesky[None], locations, log_density, labels)
    return locations[0], log_density[0], labels[0]


def log_density_at(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, cholesky: np.ndarray
) -> float:
    parts = [
        np.log(weight) + multivariate_normal(mean, factor @ factor.T).logpdf(x)
        for weight, mean, factor in zip(weights, means, cholesky, strict=True)
    ]
    return float(logsumexp(parts))


def test_one_feature_against_a_grid(rng: np.random.Generator) -> None:
    """In one dimension every mode is climbed to from some mean."""
    numbers = set()
    for _ in range(40):
        weights = rng.dirichlet(np.ones(4))
        means = np.sort(rng.normal(0.0, 2.0, 4))
        scales = rng.uniform(0.3, 1.0, 4)
        x = np.linspace(means[0] - 0.1, means[-1] + 0.1, 40_001)
        height = (weights * norm(means, scales).pdf(x[:, None])).sum(axis=1)
        rising = np.diff(height) > 0.0
        peaks = x[1:-1][rising[:-1] & ~rising[1:]]
        locations, _, labels = modes_of(weights, means[:, None], scales[:, None, None])
        found = np.unique(locations[:, 0])
        assert len(found) == labels.max() + 1 == len(peaks)
        np.testing.assert_allclose(found, peaks, atol=2.0 * (x[1] - x[0]))
        numbers.add(len(found))
    assert len(numbers) > 2


@pytest.mark.parametrize("n_dim", [2, 4])
def test_a_mode_is_flat_and_higher_than_its_neighbourhood(
    n_dim: int, rng: np.random.Generator
) -> None:
    for _ in range(10):
        weights = rng.dirichlet(np.ones(5))
        means = rng.normal(0.0, 1.5, (5, n_dim))
        square = rng.normal(size=(5, n_dim, n_dim))
        cholesky = np.linalg.cholesky(square @ square.swapaxes(1, 2) + 0.2 * np.eye(n_dim))
        locations, log_density, labels = modes_of(weights, means, cholesky)
        for k in range(5):
            mixture = (weights, means, cholesky)
            height = log_density_at(locations[k], *mixture)
            assert log_density[k] == pytest.approx(height, abs=1e-10)
            slope = approx_fprime(locations[k], log_density_at, 1e-7, *mixture)
            np.testing.assert_allclose(slope, 0.0, atol=1e-4)
            near = locations[k] + 0.05 * rng.normal(size=(20, n_dim))
            assert max(log_density_at(x, *mixture) for x in near) <= height + 1e-12
            assert height >= log_density_at(means[k], *mixture) - 1e-12
        for k in range(5):
            same = (locations == locations[k]).all(axis=1)
            np.testing.assert_array_equal(same, labels == labels[k])
        firsts = [labels.tolist().index(number) for number in range(labels.max() + 1)]
        assert firsts == sorted(firsts)


def test_two_equal_components_part_at_two_standard_deviations() -> None:
    """The classical bound: two equal normals have one mode up to a distance of 2."""
    for distance, number in ((1.9, 1), (1.999, 1), (2.001, 2), (2.1, 2), (9.0, 2)):
        means = np.array([[0.0], [distance]])
        _, _, labels = modes_of(np.array([0.5, 0.5]), means, np.ones((2, 1, 1)))
        assert labels.max() + 1 == number


def test_a_component_without_weight_climbs_to_another() -> None:
    means = np.array([[0.0, 0.0], [3.0, 1.0]])
    factors = np.stack([np.eye(2), np.eye(2)])
    with np.errstate(divide="ignore"):
        locations, _, labels = modes_of(np.array([0.0, 1.0]), means, factors)
    assert labels.tolist() == [0, 0]
    np.testing.assert_allclose(locations, means[[1, 1]])


def test_scales_far_apart_are_climbed() -> None:
    """A needle on a broad component, a million times narrower."""
    means = np.array([[0.0], [0.7]])
    cholesky = np.array([[[1.0]], [[1e-6]]])
    locations, _, labels = modes_of(np.array([0.9, 0.1]), means, cholesky)
    assert labels.tolist() == [0, 1]
    np.testing.assert_allclose(locations, means, atol=1e-9)


def mean_shift(
    x: np.ndarray, weights: np.ndarray, means: np.ndarray, precisions: np.ndarray
) -> np.ndarray:
    """The fixed point alone, from one start."""
    log_height = np.log(weights) + 0.5 * np.linalg.slogdet(precisions)[1]
    for _ in range(5000):
        away = means - x
        pull = np.einsum("kij,kj->ki", precisions, away)
        share = log_height - 0.5 * (away * pull).sum(axis=1)
        share = np.exp(share - logsumexp(share))
        step = np.linalg.solve(np.einsum("k,kij->ij", share, precisions), share @ pull)
        x = x + step
        if abs(step).max() < 1e-10:
            break
    return x


def test_newtons_steps_lead_where_the_fixed_point_does(rng: np.random.Generator) -> None:
    for _ in range(60):
        weights = rng.dirichlet(np.ones(6))
        means = rng.normal(0.0, 1.2, (6, 2))
        square = rng.normal(size=(6, 2, 2))
        covariances = 0.3 * square @ square.swapaxes(1, 2) + 0.05 * np.eye(2)
        locations, _, _ = modes_of(weights, means, np.linalg.cholesky(covariances))
        precisions = np.linalg.inv(covariances)
        for k in range(6):
            expected = mean_shift(means[k], weights, means, precisions)
            np.testing.assert_allclose(locations[k], expected, atol=1e-5)
