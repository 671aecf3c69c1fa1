"""One component: density and draws against scipy."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, halfnorm, kstest, multivariate_normal, norm

from bayesgmm.kernels.cholesky import Layout, constrain
from bayesgmm.kernels.component import (
    NormalPrior,
    beta_shape,
    draw_from_prior,
    log_gamma_draw,
    log_marginal,
    log_prior,
    update_mean,
    update_shape,
)

type Array = NDArray[np.float64]

LAYOUTS = {
    "one feature": Layout(1, 1, 1, 1, 0),
    "full": Layout(1, 3, 1, 3, 1),
    "diag": Layout(1, 3, 1, 3, 0),
    "spherical": Layout(1, 3, 1, 1, 0),
}
each = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
ALARM = 1e-6


def prior_of(layout: Layout) -> NormalPrior:
    n_dim, n_scales = layout.n_features, layout.scale_columns
    return NormalPrior(
        layout,
        location=np.linspace(-0.5, 0.5, n_dim),
        scale=np.linspace(1.0, 2.0, n_dim),
        tau=np.linspace(0.5, 1.0, n_scales),
        floor=np.linspace(0.05, 0.7, n_scales),
        eta=1.5,
    )


def length(layout: Layout) -> int:
    pairs = layout.n_features * (layout.n_features - 1) // 2 * layout.correlation_sets
    return layout.n_features + layout.scale_columns + pairs


def naive_log_prior(vector: Array, prior: NormalPrior) -> float:
    n_dim, n_scales = prior.layout.n_features, prior.layout.scale_columns
    v, t = np.split(vector[n_dim:], [n_scales])
    scales = prior.floor + np.exp(v)
    left = halfnorm.sf(prior.floor, scale=prior.tau)
    result = (halfnorm.logpdf(scales, scale=prior.tau) - np.log(left) + v).sum()
    b = 1.0 / (1.0 + np.exp(-t))
    columns = [j for i in range(n_dim) for j in range(i)] if t.size else []
    for j, share in zip(columns, b, strict=True):
        a = prior.eta + 0.5 * (n_dim - 2 - j)
        result += beta.logpdf(share, a, a) + np.log(share * (1.0 - share))
    return float(result)


def covariance_of(vector: Array, prior: NormalPrior) -> Array:
    n_dim = prior.layout.n_features
    found = constrain(prior.layout, prior.floor, vector[None], np.zeros(n_dim), np.ones(n_dim))
    return np.asarray(found[4][0, 0])


def moments(rows: Array) -> tuple[int, Array, Array]:
    apart = rows - rows.mean(axis=0)
    return len(rows), rows.mean(axis=0), apart.T @ apart


@each
def test_priors_are_those_of_scipy(layout: Layout, rng: np.random.Generator) -> None:
    prior = prior_of(layout)
    for _ in range(5):
        vector = rng.normal(size=length(layout))
        assert log_prior(vector, prior) == pytest.approx(naive_log_prior(vector, prior), rel=1e-11)


@each
@pytest.mark.parametrize("n_rows", [1, 2, 7])
def test_rows_have_a_joint_normal_density(
    layout: Layout, n_rows: int, rng: np.random.Generator
) -> None:
    prior, n_dim = prior_of(layout), layout.n_features
    vector, rows = rng.normal(size=length(layout)), rng.normal(size=(n_rows, n_dim))
    whole = np.kron(np.eye(n_rows), covariance_of(vector, prior))
    whole += np.kron(np.ones((n_rows, n_rows)), np.diag(prior.scale**2))
    due = multivariate_normal(np.tile(prior.location, n_rows), whole).logpdf(rows.ravel())
    found = log_marginal(vector, *moments(rows), prior) - log_prior(vector, prior)
    assert found == pytest.approx(due, rel=1e-10)


@each
def test_means_are_draws_of_their_conditional(layout: Layout, rng: np.random.Generator) -> None:
    prior, n_dim, n = prior_of(layout), layout.n_features, 4000
    vector, rows = rng.normal(size=length(layout)), rng.normal(size=(4, n_dim))
    count, mean, _ = moments(rows)
    inverse = np.linalg.inv(covariance_of(vector, prior))
    covariance = np.linalg.inv(count * inverse + np.diag(prior.scale**-2))
    center = covariance @ (count * inverse @ mean + prior.location / prior.scale**2)
    drawn = np.empty((n, n_dim))
    for draw in drawn:
        update_mean(vector, count, mean, prior, rng)
        draw[:] = vector[:n_dim]
    z = (drawn - center) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    for column in (*z.T, z.sum(axis=1) / np.sqrt(n_dim)):
        assert kstest(column, norm.cdf).pvalue > ALARM


@each
def test_draws_of_the_prior_are_draws_of_the_prior(
    layout: Layout, rng: np.random.Generator
) -> None:
    prior, n_dim, n_scales = prior_of(layout), layout.n_features, layout.scale_columns
    drawn = np.empty((4000, length(layout)))
    for vector in drawn:
        draw_from_prior(vector, prior, rng)
    for d in range(n_dim):
        law = norm(prior.location[d], prior.scale[d])
        assert kstest(drawn[:, d], law.cdf).pvalue > ALARM
    for c in range(n_scales):
        law, floor = halfnorm(scale=prior.tau[c]), prior.floor[c]
        scales = floor + np.exp(drawn[:, n_dim + c])
        assert kstest(1.0 - law.sf(scales) / law.sf(floor), "uniform").pvalue > ALARM
    for p in range(n_dim + n_scales, length(layout)):
        column = (0, 0, 1)[p - n_dim - n_scales]
        a = beta_shape(prior, column)
        assert a == prior.eta + 0.5 * (1 - column)
        b = 1.0 / (1.0 + np.exp(-drawn[:, p]))
        assert kstest(b, beta(a, a).cdf).pvalue > ALARM


def test_scales_far_above_their_prior_are_drawn_at_once(rng: np.random.Generator) -> None:
    prior = prior_of(LAYOUTS["one feature"])._replace(floor=np.array([20.0]))
    vector = np.empty(2)
    draw_from_prior(vector, prior, rng)
    assert 20.0 < 20.0 + np.exp(vector[1]) < 21.0


def test_slice_steps_leave_prior_and_data_as_they_are(rng: np.random.Generator) -> None:
    """Draw a component and its rows; steps given the rows must not change what it looks like."""
    layout = Layout(1, 2, 1, 2, 1)
    prior = prior_of(LAYOUTS["full"])._replace(
        layout=layout, location=np.zeros(2), scale=np.ones(2), tau=np.ones(2), floor=np.zeros(2)
    )
    after = np.empty((2000, 3))
    for row in after:
        vector = np.empty(5)
        draw_from_prior(vector, prior, rng)
        rows = rng.multivariate_normal(vector[:2], covariance_of(vector, prior), size=6)
        for _ in range(3):
            found = update_shape(vector, *moments(rows), prior, rng)
        assert found == log_marginal(vector, *moments(rows), prior)
        row[:] = vector[2:]
    for c in range(2):
        assert kstest(np.exp(after[:, c]), halfnorm.cdf).pvalue > ALARM
    assert kstest(1.0 / (1.0 + np.exp(-after[:, 2])), beta(1.5, 1.5).cdf).pvalue > ALARM


def test_tiny_gammas_keep_their_logarithm(rng: np.random.Generator) -> None:
    shape = 1e-3
    drawn = np.array([log_gamma_draw(shape, rng) for _ in range(4000)])
    assert np.isfinite(drawn).all()
    assert drawn.min() < -800.0  # exp of it is 0
    # G(shape) = G(shape + 1) U^(1/shape): far down the logarithm is exponential
    assert kstest(-shape * drawn, "expon").pvalue > ALARM
