"""Pareto-smoothed importance sampling: ArviZ's estimates, and what to say where it has none."""

import numpy as np
import pytest
from arviz_stats.base import array_stats
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from bayesgmm.kernels.psis import (
    COLUMNS,
    _fill_log_sums,
    efficiency_each,
    keep_in,
    leave_out,
    psis,
)

type Array = np.ndarray

LAWS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "heavy": lambda rng, size: rng.standard_t(2.0, size),
    "skewed": lambda rng, size: rng.exponential(size=size),
    "bounded": lambda rng, size: -rng.exponential(size=size),
    "ties": lambda rng, size: np.round(rng.normal(size=size), 1),
}


def smoothed(log_ratios: Array, efficiency: float = 1.0) -> tuple[Array, float]:
    """Return the log weights and the shape."""
    log_weights = np.empty(len(log_ratios))
    return log_weights, psis(np.asarray(log_ratios, dtype=float), efficiency, log_weights)


@given(
    seed=st.integers(0, 10**6),
    size=st.sampled_from([30, 31, 100, 1000, 4000]),
    scale=st.sampled_from([1e-4, 0.01, 0.3, 1.0, 5.0, 100.0]),
    law=st.sampled_from(list(LAWS)),
    efficiency=st.sampled_from([0.1, 0.5, 1.0, 1.4]),
)
def test_weights_and_shape_are_those_of_arviz(
    seed: int, size: int, scale: float, law: str, efficiency: float
) -> None:
    log_ratios = scale * LAWS[law](np.random.default_rng(seed), size) - 1000.0
    log_weights, shape = smoothed(log_ratios, efficiency)
    expected, expected_shape = array_stats.psislw(-log_ratios, r_eff=efficiency)
    if np.isfinite(expected_shape):
        assert shape == pytest.approx(float(expected_shape), rel=1e-9, abs=1e-9)
    else:
        assert shape == np.inf
    # which of equal weights are smoothed is up to the sort: as a set they are the same
    if law == "ties":
        log_weights, expected = np.sort(log_weights), np.sort(expected)
    np.testing.assert_allclose(log_weights, expected, rtol=1e-9, atol=1e-9)
    assert logsumexp(log_weights) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("shape", [0.0, 0.3, 0.7, 1.5])
def test_the_shape_of_a_pareto_law_is_found(shape: float, rng: np.random.Generator) -> None:
    """To five standard errors, 5 (1 + k) / sqrt(M) of the M = 948 weights in the tail."""
    exponential = rng.exponential(size=100_000)
    log_ratios = shape * exponential if shape else np.log(exponential)
    assert smoothed(log_ratios)[1] == pytest.approx(shape, abs=5 * (1 + shape) / 948**0.5)


def test_an_expectation_is_found_that_raw_weights_miss(rng: np.random.Generator) -> None:
    """The mean of an exponential law from draws of one with a third of its mean: k is 2/3."""
    raw, better = [], []
    for _ in range(200):
        draws = rng.exponential(1.0 / 3.0, 1000)
        log_ratios = 2.0 * draws
        raw.append(np.average(draws, weights=np.exp(log_ratios)))
        better.append(np.average(draws, weights=np.exp(smoothed(log_ratios)[0])))
    assert np.mean((np.array(better) - 1.0) ** 2) < np.mean((np.array(raw) - 1.0) ** 2)


def test_small_differences_are_not_lost(rng: np.random.Generator) -> None:
    """Twice as large ones have the same shape; differences of rounded weights would not."""
    differences = rng.normal(size=1000)
    one, two = (smoothed(scale * differences)[1] for scale in (1e-9, 2e-9))
    assert one == pytest.approx(two, abs=1e-7)
    wide = smoothed(1e-3 * differences)[1]
    assert one == pytest.approx(wide, abs=1e-2)


def test_the_ratios_may_be_overwritten(rng: np.random.Generator) -> None:
    log_ratios = rng.normal(size=500)
    expected, shape = smoothed(log_ratios)
    assert psis(log_ratios, 1.0, log_ratios) == shape
    np.testing.assert_array_equal(log_ratios, expected)


# What ArviZ refuses, or makes NaN of


@pytest.mark.parametrize("size", [1, 4, 24, 4000])
@pytest.mark.parametrize("noise", [0.0, 1e-13])
def test_equal_weights_are_as_good_as_can_be(
    size: int, noise: float, rng: np.random.Generator
) -> None:
    log_weights, shape = smoothed(-3.0 + noise * rng.normal(size=size))
    assert shape == -np.inf
    np.testing.assert_allclose(np.exp(log_weights), 1.0 / size, rtol=1e-11)


def stuck(rng: np.random.Generator) -> Array:
    """A chain of four gives the same large weight in every draw."""
    return np.concatenate([np.full(1000, 3.0), rng.normal(size=3000)])


def dominated(rng: np.random.Generator) -> Array:
    """One draw has nearly all the weight, and the next ones none to speak of."""
    return np.concatenate([[1000.0], rng.normal(size=3999)])


@pytest.mark.parametrize(
    "make",
    [lambda rng: rng.normal(size=29), lambda rng: rng.normal(size=5), stuck, dominated],
    ids=["29", "5", "stuck", "dominated"],
)
def test_without_a_tail_weights_are_left_as_they_are(make, rng: np.random.Generator) -> None:  # type: ignore[no-untyped-def]
    log_ratios = make(rng)
    log_weights, shape = smoothed(log_ratios)
    assert shape == np.inf
    np.testing.assert_allclose(log_weights, log_ratios - logsumexp(log_ratios), rtol=1e-12)


def test_draws_without_any_density_weigh_nothing(rng: np.random.Generator) -> None:
    log_ratios = rng.normal(size=1000)
    log_ratios[::3] = -np.inf
    log_weights, shape = smoothed(log_ratios)
    assert (log_weights[::3] == -np.inf).all()
    expected, expected_shape = array_stats.psislw(-log_ratios, r_eff=1.0)
    assert shape == pytest.approx(float(expected_shape), rel=1e-10)
    np.testing.assert_allclose(log_weights, expected, rtol=1e-10)
    log_ratios = np.where(np.arange(1000) < 80, rng.normal(size=1000), -np.inf)
    log_weights, shape = smoothed(log_ratios)  # some of the tail, which holds 94
    expected, expected_shape = array_stats.psislw(-log_ratios, r_eff=1.0)
    assert shape == pytest.approx(float(expected_shape), rel=1e-10)
    np.testing.assert_allclose(np.sort(log_weights), np.sort(expected), rtol=1e-10)
    log_ratios[7:] = -np.inf
    log_weights, shape = smoothed(log_ratios)
    assert np.exp(log_weights).sum() == pytest.approx(1.0)
    assert not shape <= 0.7


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_ratio_that_is_no_number_spoils_all(value: float, rng: np.random.Generator) -> None:
    log_ratios = rng.normal(size=100)
    log_ratios[40] = value
    log_weights, shape = smoothed(log_ratios)
    assert np.isnan(shape)
    assert np.isnan(log_weights).all()
    assert np.isnan(smoothed(np.full(100, -np.inf))[1])
    assert np.isnan(smoothed(np.empty(0))[1])


# Many rows


def rows(rng: np.random.Generator, n: int, n_rows: int) -> Array:
    """Log-likelihoods (S, N) whose spread grows along the rows."""
    noise = rng.standard_t(4.0, (n, n_rows))
    return rng.normal(-300.0, 200.0, n_rows) - np.geomspace(1e-3, 30.0, n_rows) * noise


@pytest.mark.parametrize("size", [200, 1000])
@pytest.mark.parametrize("n_rows", [1, COLUMNS, 37])
def test_leaving_rows_out_is_arvizs(size: int, n_rows: int, rng: np.random.Generator) -> None:
    log_likelihood = rows(rng, size, n_rows)
    elpd, p, shapes = (np.full(n_rows, 7.0) for _ in range(3))
    leave_out(log_likelihood, 0, n_rows, 0.6, elpd, p, shapes)
    for i in range(n_rows):
        log_weights, shape = array_stats.psislw(log_likelihood[:, i], r_eff=0.6)
        expected = logsumexp(log_weights + log_likelihood[:, i])
        in_sample = logsumexp(log_likelihood[:, i]) - np.log(size)
        assert elpd[i] == pytest.approx(expected, rel=1e-11)
        assert p[i] == pytest.approx(in_sample - expected, rel=1e-9, abs=1e-9)
        assert shapes[i] == pytest.approx(shape if np.isfinite(shape) else np.inf, rel=1e-8)


def test_weights_that_are_raised_by_thousands_of_nats(rng: np.random.Generator) -> None:
    """The smallest of the tail are nothing beside the others until they are smoothed."""
    large = rng.uniform(-600.0, 0.0, 75)
    log_likelihood = -np.concatenate([large, rng.normal(-5000.0, 1.0, 925)])[:, None]
    elpd, p, shapes = (np.empty(1) for _ in range(3))
    leave_out(log_likelihood, 0, 1, 1.0, elpd, p, shapes)
    with np.errstate(over="ignore"):
        log_weights, shape = array_stats.psislw(log_likelihood[:, 0], r_eff=1.0)
    assert shapes[0] == pytest.approx(float(shape), rel=1e-9)
    assert elpd[0] == pytest.approx(logsumexp(log_weights + log_likelihood[:, 0]), rel=1e-9)
    assert elpd[0] > 1000.0


@pytest.mark.parametrize("widest", [1.0, 1e6, 1e200])
def test_sums_of_logs_are_exact_for_every_rate(widest: float, rng: np.random.Generator) -> None:
    excess = np.sort(np.append(rng.exponential(size=188), widest))
    rates = np.concatenate([-np.geomspace(3.0, 1e-20, 25), [0.0], np.geomspace(1e-12, 0.999, 17)])
    rates[26:] /= excess[-1]
    result = np.empty(rates.size)
    _fill_log_sums(excess, rates, result)
    expected = np.log1p(-rates[:, None] * excess).sum(axis=1)
    np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-300)


def test_rows_without_a_tail_are_weighted_all_the_same(rng: np.random.Generator) -> None:
    """The harmonic mean of the likelihoods, which raw weights amount to."""
    log_likelihood = np.column_stack([-stuck(rng), -dominated(rng), np.full(4000, -2.0)])
    elpd, p, shapes = (np.empty(3) for _ in range(3))
    leave_out(log_likelihood, 0, 3, 1.0, elpd, p, shapes)
    assert shapes.tolist() == [np.inf, np.inf, -np.inf]
    harmonic = np.log(4000) - logsumexp(-log_likelihood, axis=0)
    np.testing.assert_allclose(elpd, harmonic, rtol=1e-12)
    assert p[2] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_are_nan_and_spoil_no_others(
    value: float, rng: np.random.Generator
) -> None:
    log_likelihood = rows(rng, 100, 6)
    clean, spoilt = np.empty((3, 6)), np.empty((3, 6))
    leave_out(log_likelihood, 0, 6, 1.0, *clean)
    log_likelihood[50, 2] = value
    leave_out(log_likelihood, 0, 6, 1.0, *spoilt)
    assert np.isnan(spoilt[:, 2]).all()
    others = [0, 1, 3, 4, 5]
    np.testing.assert_array_equal(spoilt[:, others], clean[:, others])
    lppd, variances = np.empty(6), np.empty(6)
    keep_in(log_likelihood, 0, 6, lppd, variances)
    assert np.isfinite(variances).tolist() == [True, True, False, True, True, True]


def test_only_the_rows_asked_for_are_written(rng: np.random.Generator) -> None:
    log_likelihood = rows(rng, 60, 50)
    whole, part = np.full((5, 50), 7.0), np.full((5, 50), 7.0)
    for result, start, stop in ((whole, 0, 50), (part, 3, 44)):
        leave_out(log_likelihood, start, stop, 1.0, *result[:3])
        keep_in(log_likelihood, start, stop, *result[3:])
    assert (part[:, :3] == 7.0).all()
    assert (part[:, 44:] == 7.0).all()
    np.testing.assert_array_equal(part[:, 3:44], whole[:, 3:44])


def test_keeping_rows_in_is_two_formulas(rng: np.random.Generator) -> None:
    log_likelihood = rows(rng, 300, 37)
    lppd, variances = np.empty(37), np.empty(37)
    keep_in(log_likelihood, 0, 37, lppd, variances)
    np.testing.assert_allclose(lppd, logsumexp(log_likelihood, axis=0) - np.log(300), rtol=1e-13)
    np.testing.assert_allclose(variances, log_likelihood.var(axis=0, ddof=1), rtol=1e-10)


@pytest.mark.parametrize(("n_chains", "n"), [(1, 100), (3, 51)])
def test_efficiencies_are_those_of_the_likelihoods(
    n_chains: int, n: int, rng: np.random.Generator
) -> None:
    log_likelihood = rows(rng, n_chains * n, 100)
    for s in range(1, n_chains * n):
        log_likelihood[s] = 0.6 * log_likelihood[s - 1] + 0.4 * log_likelihood[s]
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=0)).reshape(n_chains, n, 100)
    expected = [
        array_stats.ess(likelihood[..., i], chain_axis=0, draw_axis=1, method="mean")
        for i in range(100)
    ]
    result = np.full(100, np.nan)
    efficiency_each(log_likelihood, 0, 7, n_chains, 1, result)
    np.testing.assert_allclose(result, np.array(expected) / (n_chains * n), rtol=1e-9)
    some = np.full(100, np.nan)
    efficiency_each(log_likelihood, 0, 3, n_chains, 3, some)  # groups 0, 3 and 6, of four rows
    counted = np.isin(np.arange(100) // COLUMNS, [0, 3, 6])
    np.testing.assert_array_equal(some, np.where(counted, result, np.nan))
