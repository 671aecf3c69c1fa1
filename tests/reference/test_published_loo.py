"""Leave-one-out and WAIC by the formulas as they were published, in plain NumPy."""

import numpy as np
import pytest

import bayesgmm as bg
from tests.synthetic import random_fit

type Array = np.ndarray


def pareto_shape_and_scale(excess: Array) -> tuple[float, float]:
    """Return the estimate of Zhang & Stephens (2009), the shape with the prior of Vehtari et al."""
    x = np.sort(excess)
    n, m = x.size, 30 + int(np.sqrt(x.size))
    quartile = x[int(n / 4 + 0.5) - 1]
    theta = 1.0 / x[-1] + (1.0 - np.sqrt(m / (np.arange(1, m + 1) - 0.5))) / (3.0 * quartile)
    k = np.array([np.mean(np.log1p(-t * x)) for t in theta])
    likelihood = n * (np.log(-theta / k) - k - 1.0)
    weights = np.array([1.0 / np.exp(likelihood - one).sum() for one in likelihood])
    average = (theta * weights / weights.sum()).sum()
    shape = np.mean(np.log1p(-average * x))
    scale = -shape / average
    return (n * shape + 10 * 0.5) / (n + 10), scale


def leave_out(log_likelihood: Array, reff: float) -> tuple[float, float]:
    """Return elpd and Pareto shape of a row, log-likelihood (S,): Vehtari et al. (2024)."""
    ratios = np.exp(log_likelihood.min() - log_likelihood)
    n_draws = ratios.size
    n_tail = int(min(0.2 * n_draws, 3.0 * np.sqrt(n_draws / reff)))
    order = np.argsort(ratios)
    tail, cutoff = order[-n_tail:], ratios[order[-n_tail - 1]]
    shape, scale = pareto_shape_and_scale(ratios[tail] - cutoff)
    p = (np.arange(1, n_tail + 1) - 0.5) / n_tail
    weights = ratios.copy()
    weights[tail] = np.minimum(cutoff + scale * np.expm1(-shape * np.log1p(-p)) / shape, 1.0)
    weights /= weights.sum()
    return float(np.log((weights * np.exp(log_likelihood)).sum())), shape


@pytest.fixture
def log_likelihood(rng: np.random.Generator) -> Array:
    """Independent draws, heavier and heavier: k from about 0 to about 0.6."""
    tails = np.linspace(0.02, 0.5, 12)
    return rng.normal(-3.0, 1.0, 12) - tails * rng.gamma(2.0, 1.0, (4, 500, 12))


def test_loo_is_what_was_published(log_likelihood: Array, rng: np.random.Generator) -> None:
    fit = random_fit(
        np.arange(12.0)[:, None], rng, chains=4, draws=500, log_likelihood=log_likelihood
    )
    found = bg.loo(fit)
    reff = 1.0  # of independent draws, up to the noise of the estimate, which sets but the tail
    flat = log_likelihood.reshape(-1, 12)
    expected = np.array([leave_out(flat[:, i], reff) for i in range(12)])
    assert expected[:, 1].min() < 0.3 < 0.5 < expected[:, 1].max()
    np.testing.assert_allclose(found.elpd_i, expected[:, 0], atol=5e-3)
    np.testing.assert_allclose(found.pareto_k, expected[:, 1], atol=0.05)


def test_loo_with_its_own_efficiency_is_what_was_published(
    log_likelihood: Array, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bayesgmm.crossvalidation._efficiency", lambda tree, argument: 0.7)
    fit = random_fit(
        np.arange(12.0)[:, None], rng, chains=4, draws=500, log_likelihood=log_likelihood
    )
    found = bg.loo(fit)
    expected = np.array([leave_out(row, 0.7) for row in log_likelihood.reshape(-1, 12).T])
    np.testing.assert_allclose(found.elpd_i, expected[:, 0], rtol=1e-10)
    np.testing.assert_allclose(found.pareto_k, expected[:, 1], rtol=1e-8)
    assert found.elpd == pytest.approx(expected[:, 0].sum(), rel=1e-10)
    assert found.se == pytest.approx((12 * expected[:, 0].var(ddof=1)) ** 0.5, rel=1e-10)
    lppd = np.log(np.exp(log_likelihood).mean(axis=(0, 1))).sum()
    assert found.p == pytest.approx(lppd - found.elpd, rel=1e-9)


def test_waic_is_what_was_published(log_likelihood: Array, rng: np.random.Generator) -> None:
    fit = random_fit(
        np.arange(12.0)[:, None], rng, chains=4, draws=500, log_likelihood=log_likelihood
    )
    flat = log_likelihood.reshape(-1, 12)
    terms = np.log(np.exp(flat).mean(axis=0)) - flat.var(axis=0, ddof=1)
    with pytest.warns(UserWarning, match="too large for `waic`"):
        found = bg.waic(fit)
    np.testing.assert_allclose(found.elpd_i, terms, rtol=1e-12)
