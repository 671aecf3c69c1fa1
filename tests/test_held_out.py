"""How rows are predicted by draws of two fits, against closed forms."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import norm

from bayesgmm.held_out import _log_weights, _predicted

type Array = np.ndarray


def predicted(with_them: Array, without: Array, *, joined: bool) -> Array:
    """Return the log predictive densities of rows, from log densities (chains, draws, n)."""
    log_weights = _log_weights(with_them.sum(axis=2), without.sum(axis=2), joined)
    flat = (one.reshape(-1, one.shape[2]) for one in (with_them, without))
    return _predicted(log_weights, *flat)[0]


def drawn(rows: Array, n_draws: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return what `predicted` takes, of independent draws, and what it should return.

    Rows of known noise have a common mean, which has the variance 0.5 without them.
    """
    variance = 1.0 / (2.0 + rows.size)
    with_them = rng.normal(variance * rows.sum(), variance**0.5, (4, n_draws))
    without = rng.normal(0.0, 0.5**0.5, (4, n_draws))
    one, other = (norm.logpdf(rows, mean[..., None], 1.0) for mean in (with_them, without))
    return one, other, norm.logpdf(rows, 0.0, 1.5**0.5)


def test_rows_are_predicted_by_draws_of_both_fits(rng: np.random.Generator) -> None:
    """To five standard errors, of 4,000 draws: densities vary by half of themselves."""
    with_them, without, truth = drawn(np.array([1.5, -0.5, 2.0]), 1000, rng)
    np.testing.assert_allclose(predicted(with_them, without, joined=True), truth, atol=0.05)
    np.testing.assert_allclose(predicted(with_them, without, joined=False), truth, atol=0.05)
    alone = logsumexp(without.reshape(-1, 3), axis=0) - np.log(4000)
    np.testing.assert_allclose(predicted(with_them, without, joined=False), alone, rtol=1e-12)


def test_the_mean_over_draws_misses_an_outlier(rng: np.random.Generator) -> None:
    """Which is why draws of the fit with it are used too."""
    errors = []
    for _ in range(50):
        with_it, without, truth = drawn(np.array([6.0]), 250, rng)
        found = [predicted(with_it, without, joined=joined) for joined in (True, False)]
        errors.append([one - truth for one in found])
    joined, alone = np.square(errors).mean(axis=0)[:, 0] ** 0.5
    assert 3.0 * joined < alone


def test_posteriors_that_are_far_apart_are_not_joined(rng: np.random.Generator) -> None:
    without = rng.normal(-3.0, 1.0, (4, 100, 2))
    far = rng.normal(-1.0, 0.1, (4, 100, 2)) + 500.0
    both = [predicted(far, without, joined=joined) for joined in (True, False)]
    np.testing.assert_array_equal(*both)
