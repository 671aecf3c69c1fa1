"""What pairs of components have in common, against closed forms and integrals by SciPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import chi, norm

from bayesgmm.functionals import rays
from bayesgmm.kernels.pairs import chi_cdf, fill_pairs, positive_share


@pytest.mark.parametrize("n_dim", [1, 2, 3, 4, 7, 10, 25, 64])
def test_the_length_of_a_normal_vector(n_dim: int) -> None:
    lengths = np.array([0.0, 1e-9, 0.1, 1.0, 2.5, 5.0, 8.0, 12.0, 30.0, 45.0, 1e10, np.inf])
    got = [chi_cdf(length, n_dim) for length in lengths]
    np.testing.assert_allclose(got, chi(n_dim).cdf(lengths), rtol=1e-9, atol=1e-13)


@given(
    a=st.floats(-2.0, 2.0), b=st.floats(-3.0, 3.0), c=st.floats(-3.0, 3.0),
    n_dim=st.integers(1, 6),
)  # fmt: skip
def test_a_quadratic_is_positive_where_it_is(a: float, b: float, c: float, n_dim: int) -> None:
    """Against the share of many evenly spaced quantiles of the signed length."""
    quantiles = (np.arange(4000) + 0.5) / 4000
    length = chi(n_dim).ppf(np.abs(2.0 * quantiles - 1.0)) * np.sign(quantiles - 0.5)
    share = ((a * length**2 + b * length + c) > 0.0).mean()
    assert abs(positive_share(a, b, c, n_dim) - share) <= 3.0 / 4000


@pytest.mark.parametrize(
    ("a", "b", "c", "share"),
    [
        (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, -1.0, 0.0), (0.0, 1.0, -1.0, norm.sf(1.0)),
        (0.0, -1.0, -1.0, norm.sf(1.0)), (1.0, 0.0, 0.0, 1.0), (-1.0, 0.0, 0.0, 0.0),
        (1.0, 0.0, -4.0, 2.0 * norm.sf(2.0)), (-1.0, 0.0, 4.0, 1.0 - 2.0 * norm.sf(2.0)),
        (1.0, 1.0, np.inf, 1.0), (1.0, 1.0, -np.inf, 0.0), (1e-300, 1.0, -1.0, norm.sf(1.0)),
    ],
)  # fmt: skip
def test_the_ends_of_a_quadratic(a: float, b: float, c: float, share: float) -> None:
    assert positive_share(a, b, c, 1) == pytest.approx(share, abs=1e-15)


def random_draws(
    rng: np.random.Generator, n_draws: int, n_components: int, n_dim: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weights = rng.dirichlet(np.ones(n_components), n_draws)
    means = rng.normal(size=(n_draws, n_components, n_dim))
    square = rng.normal(size=(n_draws, n_components, n_dim, n_dim))
    covariances = square @ square.swapaxes(-1, -2) + 0.3 * np.eye(n_dim)
    return np.log(weights), means, np.linalg.cholesky(covariances)


def filled(
    log_weights: np.ndarray, means: np.ndarray, cholesky: np.ndarray, directions: np.ndarray
) -> np.ndarray:
    """Misclassification, exceedance, KL and Bhattacharyya, shape (4, S, K, K)."""
    shape = (log_weights.shape[0], log_weights.shape[1], log_weights.shape[1])
    results = np.full((4, *shape), np.nan)
    fill_pairs(log_weights, means, cholesky, directions, *results)
    return results


@pytest.mark.parametrize("n_dim", [1, 2, 3, 8])
def test_divergences_equal_their_closed_forms(n_dim: int, rng: np.random.Generator) -> None:
    draws = random_draws(rng, 3, 4, n_dim)
    _, _, kl, bhattacharyya = filled(*draws, rays(n_dim))
    _, means, cholesky = draws
    covariances = cholesky @ cholesky.swapaxes(-1, -2)
    for s, k, other in np.ndindex(3, 4, 4):
        one, two = covariances[s, k], covariances[s, other]
        shift = means[s, other] - means[s, k]
        log_det = [np.linalg.slogdet(matrix)[1] for matrix in (one, two, 0.5 * (one + two))]
        expected = np.trace(np.linalg.solve(two, one)) + shift @ np.linalg.solve(two, shift)
        expected = 0.5 * (expected - n_dim + log_det[1] - log_det[0])
        assert kl[s, k, other] == pytest.approx(expected, rel=1e-10, abs=1e-12)
        expected = shift @ np.linalg.solve(0.5 * (one + two), shift) / 8.0
        expected += 0.5 * (log_det[2] - 0.5 * (log_det[0] + log_det[1]))
        assert bhattacharyya[s, k, other] == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_one_feature_is_integrated_exactly(rng: np.random.Generator) -> None:
    log_weights, means, cholesky = random_draws(rng, 4, 3, 1)
    misclassification, exceeded, _, _ = filled(log_weights, means, cholesky, rays(1))
    x = np.linspace(-40.0, 40.0, 800_001)
    for s, k, other in np.ndindex(4, 3, 3):
        if k == other:
            assert misclassification[s, k, k] == exceeded[s, k, k] == 0.0
            continue
        log_f, log_f2 = (norm(means[s, i, 0], cholesky[s, i, 0, 0]).logpdf(x) for i in (k, other))
        for got, lead in (
            (exceeded, 0.0),
            (misclassification, log_weights[s, other] - log_weights[s, k]),
        ):
            expected = (np.exp(log_f) * (log_f2 + lead > log_f)).sum() * (x[1] - x[0])
            assert got[s, k, other] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("n_dim", "error"), [(2, 1e-3), (3, 0.01), (6, 0.01)])
def test_equal_covariances_have_a_known_overlap(
    n_dim: int, error: float, rng: np.random.Generator
) -> None:
    """Then the rule is linear, and the Mahalanobis distance says all."""
    log_weights, means, cholesky = random_draws(rng, 6, 2, n_dim)
    cholesky[:, 1] = cholesky[:, 0]
    misclassification, exceeded, _, _ = filled(log_weights, means, cholesky, rays(n_dim))
    shift = np.linalg.solve(cholesky[:, 0], (means[:, 1] - means[:, 0])[..., None])[..., 0]
    distance = np.linalg.norm(shift, axis=1)
    np.testing.assert_allclose(exceeded[:, 0, 1], norm.cdf(-0.5 * distance), atol=error)
    lead = log_weights[:, 1] - log_weights[:, 0]
    expected = norm.cdf(lead / distance - 0.5 * distance)
    np.testing.assert_allclose(misclassification[:, 0, 1], expected, atol=error)


def share_along(angle: float, relative: np.ndarray, shift: np.ndarray, lead: float) -> float:
    v = relative @ [np.cos(angle), np.sin(angle)]
    return positive_share(0.5 * (1.0 - v @ v), v @ shift, lead, 2)


def test_two_features_against_an_integral_over_the_angle(rng: np.random.Generator) -> None:
    log_weights, means, cholesky = random_draws(rng, 2, 2, 2)
    got = filled(log_weights, means, cholesky, rays(2))[0]
    whitener = np.linalg.inv(cholesky)
    for s in range(2):
        relative = whitener[s, 1] @ cholesky[s, 0]
        shift = whitener[s, 1] @ (means[s, 1] - means[s, 0])
        lead = np.log(np.linalg.det(relative)) - 0.5 * shift @ shift
        lead += log_weights[s, 1] - log_weights[s, 0]

        expected = quad(share_along, 0.0, np.pi, (relative, shift, lead), limit=500)[0] / np.pi
        assert got[s, 0, 1] == pytest.approx(expected, abs=1e-3)


def test_weights_of_zero_are_never_or_always_taken(rng: np.random.Generator) -> None:
    log_weights, means, cholesky = random_draws(rng, 1, 3, 2)
    log_weights[0, :2] = -np.inf
    misclassification = filled(log_weights, means, cholesky, rays(2))[0][0]
    assert misclassification[0, 2] == 1.0
    assert misclassification[2, 0] == 0.0
    assert 0.0 <= misclassification[0, 1] <= 1.0


@pytest.mark.parametrize("n_dim", [1, 2, 3, 5, 700])
def test_rays_have_length_one_and_no_preferred_direction(n_dim: int) -> None:
    directions = rays(n_dim)
    assert directions.shape[1] == n_dim
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    spread = directions.T @ directions / len(directions)
    np.testing.assert_allclose(spread, np.eye(n_dim) / n_dim, atol=1e-12)
    np.testing.assert_array_equal(directions, rays(n_dim))
