"""Bridge sampling against integrals that are known."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, t

from bayesgmm.bridge import MOST_NORMALS, Proposal, bridge

type Array = np.ndarray


def autocorrelated(rng: np.random.Generator, shape: tuple[int, int], rho: float) -> Array:
    """Return standard Normal draws of chains, each correlated with the one before."""
    noise = rng.normal(size=shape)
    draws = noise.copy()
    for i in range(1, shape[1]):
        draws[:, i] = rho * draws[:, i - 1] + np.sqrt(1.0 - rho**2) * noise[:, i]
    return draws


@pytest.mark.parametrize("rho", [0.0, 0.8])
def test_the_error_is_what_it_is_said_to_be(rho: float, rng: np.random.Generator) -> None:
    """A Normal density that integrates to e**7, by a narrower one off to the side; 500 times.

    The standard deviation of 500 values is known to 3.2 %; five times that is allowed.
    """
    values, errors = np.empty(500), np.empty(500)
    for i in range(500):
        x = autocorrelated(rng, (4, 250), rho)
        y = 0.7 + 0.7 * rng.normal(size=4000)
        at_draws, at_proposals = (
            7.0 + norm.logpdf(points) - norm.logpdf(points, 0.7, 0.7) for points in (x, y)
        )
        found = bridge(at_draws, at_proposals)
        values[i] = found.value
        errors[i] = np.sqrt(found.of_draws + found.of_proposals)
    assert values.mean() == pytest.approx(7.0, abs=5.0 * values.std() / 500**0.5)
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(values.std(), rel=0.16)


def test_proposals_where_the_density_is_zero_count(rng: np.random.Generator) -> None:
    """Half of a Normal distribution."""
    x = np.abs(rng.normal(size=(2, 4000)))
    y = rng.normal(size=8000)
    found = bridge(np.zeros_like(x), np.where(y > 0.0, 0.0, -np.inf))
    error = np.sqrt(found.of_draws + found.of_proposals)
    assert error < 0.03
    assert abs(found.value - np.log(0.5)) < 5.0 * error


def test_what_is_known_exactly_has_no_error() -> None:
    found = bridge(np.full((2, 50), -3.0), np.full(80, -3.0))
    assert found.value == pytest.approx(-3.0, abs=1e-9)
    assert found.of_draws == found.of_proposals == 0.0


def test_very_small_and_very_large_integrals(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(4, 100)), 1.2 * rng.normal(size=400)
    ratios = [norm.logpdf(points) - norm.logpdf(points, 0.0, 1.2) for points in (x, y)]
    plain = bridge(*ratios)
    for shift in (-1e5, 1e5):
        moved = bridge(*(ratio + shift for ratio in ratios))
        assert moved.value - shift == pytest.approx(plain.value, abs=1e-6)
        assert moved.of_draws == pytest.approx(plain.of_draws, rel=1e-6)


def two_clouds(rng: np.random.Generator, n_draws: int) -> Array:
    z = rng.normal(size=(n_draws, 3)) @ np.array(
        [[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 2.0]]
    )
    return np.where(rng.random((n_draws, 1)) < 0.3, 0.2 * z + [9.0, 0.0, -5.0], z)


def test_a_proposal_is_a_density_and_its_draws_are_of_it(rng: np.random.Generator) -> None:
    proposal = Proposal.fit(two_clouds(rng, 2000), rng)
    assert len(proposal.log_weights) == MOST_NORMALS
    draws = proposal.draw(20_000, rng)
    parts = zip(np.exp(proposal.log_weights), proposal.means, proposal.cholesky, strict=True)
    wanted = sum(
        weight
        * multivariate_normal(
            proposal.center + proposal.factor @ mean,
            proposal.factor @ factor @ factor.T @ proposal.factor.T,
        ).pdf(draws)
        for weight, mean, factor in parts
    )
    np.testing.assert_allclose(proposal.log_density(draws), np.log(wanted), rtol=1e-9)
    # of p known to integrate to 1, by draws of q
    ratios = np.exp(t(5, proposal.center, 3.0).logpdf(draws).sum(axis=1) - np.log(wanted))
    assert ratios.mean() == pytest.approx(1.0, abs=5.0 * ratios.std() / 20_000**0.5)


def test_a_proposal_follows_clouds_that_are_apart(rng: np.random.Generator) -> None:
    """The same draws by a single Normal would leave an error several times as large."""
    draws = two_clouds(rng, 4000)
    fitted = Proposal.fit(draws[:2000], rng)
    single = Proposal.fit(draws[:40], rng)  # too few for more
    assert len(single.log_weights) == 1
    gain = fitted.log_density(draws[2000:]).mean() - single.log_density(draws[2000:]).mean()
    assert gain > 0.3


def test_few_draws_make_one_normal(rng: np.random.Generator) -> None:
    draws = rng.normal(size=(20, 3))
    proposal = Proposal.fit(draws, rng)
    wanted = multivariate_normal(draws.mean(axis=0), np.cov(draws.T)).logpdf(draws)
    np.testing.assert_allclose(proposal.log_density(draws), wanted, rtol=1e-9)
