"""Factor analysers of rows with missing cells and measurement errors, row by row by scipy."""

from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from bayesgmm.kernels.factor_cells import pack_lines, pack_partial
from bayesgmm.kernels.factor_draws import fill_completed
from bayesgmm.kernels.factor_loadings import covariance_of, joined
from bayesgmm.kernels.factor_partial import factor_slopes

type Array = NDArray[np.float64]

K, D, Q, N = 3, 6, 2, 60
KINDS = ("whole", "missing", "errors", "both", "none whole")


class Found(NamedTuple):
    """What `factor_slopes` returns and writes."""

    value: float
    counts: Array
    by_mean: Array
    by_noise: Array
    by_loading: Array


class Mixture(NamedTuple):
    """Of factor analysers."""

    log_weights: Array
    means: Array
    factors: Array


@pytest.fixture
def mixture(rng: np.random.Generator) -> Mixture:
    factors = joined(rng.normal(size=(K, D, Q)), rng.uniform(0.2, 1.0, (K, D)))
    return Mixture(np.log(rng.dirichlet(np.ones(K))), rng.normal(size=(K, D)), factors)


def rows_of_kind(rng: np.random.Generator, kind: str) -> Array:
    """Return cells, what is known of labels, and errors, shape (D', N); some see one cell alone."""
    cells, known, errors = rng.normal(size=(D, N)), rng.normal(size=(K, N)), np.zeros((D, N))
    if kind in ("missing", "both", "none whole"):
        holes = rng.random(cells.shape) < 0.5
        holes[rng.integers(D, size=N), np.arange(N)] = False
        holes[:, :8] = kind == "none whole"
        holes[0, :8] = False
        cells[holes] = np.nan
    if kind in ("errors", "both"):
        errors[:, 4:] = rng.uniform(0.0, 2.0, (D, N - 4))
        errors[:, ::5][0] = 0.0
        errors[np.isnan(cells)] = 0.0
        return np.concatenate([cells, known, errors])
    return np.concatenate([cells, known])


def slopes_of(rows: Array, row_weights: Array, mixture: Mixture) -> Found:
    sums = np.empty(K), np.empty((K, D)), np.empty((K, D)), np.empty((K, D, Q))
    value = factor_slopes(*pack_partial(rows, row_weights, D, K), *mixture, *sums)
    return Found(value, *sums)


def naive(rows: Array, row_weights: Array, mixture: Mixture) -> Found:
    """Return the same, one row and component at a time, from whole matrices."""
    log_weights, means, factors = mixture
    covariances = covariance_of(factors)
    cells, known, errors = rows[:D], rows[D : D + K], rows[D + K :]
    errors = errors if len(errors) else np.zeros((D, N))
    found = Found(0.0, np.zeros(K), np.zeros((K, D)), np.zeros((K, D)), np.zeros((K, D, Q)))
    value = 0.0
    for i in range(N):
        o = np.flatnonzero(~np.isnan(cells[:, i]))
        seen = covariances[:, o[:, None], o] + np.diag(errors[o, i] ** 2)
        terms = log_weights + known[:, i]
        terms += [multivariate_normal(means[k, o], seen[k]).logpdf(cells[o, i]) for k in range(K)]
        value += row_weights[i] * logsumexp(terms)
        shares = row_weights[i] * np.exp(terms - logsumexp(terms))
        found.counts[:] += shares
        for k, share in enumerate(shares):
            inverse = np.linalg.inv(seen[k])
            pulled = inverse @ (cells[o, i] - means[k, o])
            by_covariance = np.outer(pulled, pulled) - inverse  # doubled
            found.by_mean[k, o] += share * pulled
            found.by_noise[k, o] += share * np.diagonal(by_covariance)
            found.by_loading[k, o] += share * by_covariance @ factors[k, o, :Q]
    return found._replace(value=value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_density_and_slopes_are_those_of_whole_matrices(
    rng: np.random.Generator, mixture: Mixture, kind: str, weighted: bool
) -> None:
    rows = rows_of_kind(rng, kind)
    row_weights = rng.uniform(0.0, 2.0, N) if weighted else np.empty(0)
    got = slopes_of(rows, row_weights, mixture)
    due = naive(rows, row_weights if weighted else np.ones(N), mixture)
    for one, other in zip(got, due, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-9)


def test_whole_rows_are_the_same_in_lanes(rng: np.random.Generator, mixture: Mixture) -> None:
    rows = rows_of_kind(rng, "whole")
    sums = np.empty(K), np.empty((K, D)), np.empty((K, D)), np.empty((K, D, Q))
    packed = pack_lines(rows, np.arange(N), D, K)
    value = factor_slopes(rows[:, :0].copy(), np.empty(0), packed, *mixture, *sums)
    for one, other in zip(
        slopes_of(rows, np.empty(0), mixture), (value, *sums), strict=True
    ):  # fmt: skip
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-10)


def test_small_noise_cancels_nothing_where_cells_are_missing(
    rng: np.random.Generator, mixture: Mixture
) -> None:
    mixture.factors[..., -1] *= 1e-6
    rows = mixture.means[0][:, None] + mixture.factors[0, :, :Q] @ rng.normal(size=(Q, N))
    rows += mixture.factors[0, :, Q:] * rng.normal(size=rows.shape)
    hidden = rows.copy()
    hidden[-1] = np.nan
    first = Mixture(mixture.log_weights, mixture.means[:, :-1], mixture.factors[:, :-1])
    sums = np.empty(K), np.empty((K, D - 1)), np.empty((K, D - 1)), np.empty((K, D - 1, Q))
    due = factor_slopes(
        np.ascontiguousarray(rows[:-1]), np.empty(0), np.empty(0),
        *(np.ascontiguousarray(part) for part in first), *sums,
    )  # fmt: skip
    got = slopes_of(hidden, np.empty(0), mixture)
    assert got.value == pytest.approx(due, rel=1e-9)
    np.testing.assert_allclose(got.by_mean[:, :-1], sums[1], rtol=1e-4)


@pytest.mark.parametrize("kind", ["missing", "both"])
def test_completed_rows_have_their_moments(
    rng: np.random.Generator, mixture: Mixture, kind: str
) -> None:
    # one row, many times: mean and covariance of its cells, whole and without error, given it
    row = rows_of_kind(rng, kind)[:, [11]]
    n = 40_000
    packed = pack_lines(np.repeat(row, n, axis=1), np.arange(n), D, K)
    drawn = np.empty((1, n, D))
    fill_completed(
        packed, *(part[None] for part in mixture),
        rng.random((1, n)), rng.normal(size=(1, n, D + Q)), drawn,
    )  # fmt: skip
    o = np.flatnonzero(~np.isnan(row[:D, 0]))
    hidden = np.flatnonzero(np.isnan(row[:D, 0]))
    errors = np.diag(row[D + K :][o, 0] ** 2) if kind == "both" else 0.0
    terms, means, covariances = [], [], []
    for k, whole in enumerate(covariance_of(mixture.factors)):
        seen = whole[o[:, None], o] + errors
        gain = whole[hidden[:, None], o] @ np.linalg.inv(seen)
        means.append(mixture.means[k, hidden] + gain @ (row[o, 0] - mixture.means[k, o]))
        covariances.append(
            whole[hidden[:, None], hidden] - gain @ whole[o[:, None], hidden]
        )  # fmt: skip
        density = multivariate_normal(mixture.means[k, o], seen).logpdf(row[o, 0])
        terms.append(mixture.log_weights[k] + row[D + k, 0] + density)
    shares = np.exp(terms - logsumexp(terms))
    mean = shares @ np.array(means)
    apart = np.array(means) - mean
    due = np.einsum("k,kde->de", shares, np.array(covariances) + apart[:, :, None] * apart[:, None])
    got, sd = drawn[0][:, hidden], np.sqrt(np.diagonal(due))
    assert hidden.size > 1
    np.testing.assert_allclose(got.mean(axis=0), mean, atol=5.0 * sd.max() / n**0.5)
    error = 5.0 * np.outer(sd, sd) * (3.0 / n) ** 0.5  # of products of what has tails, 2 if Normal
    assert (np.abs(np.cov(got.T) - due) < error).all()
