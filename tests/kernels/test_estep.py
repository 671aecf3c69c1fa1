"""The pass against a naive loop and against decimal arithmetic."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from bayesgmm.kernels.estep import e_step, fill_whiteners
from tests.kernels.oracle import (
    Mixture,
    Pass,
    assert_pass,
    exact_pass,
    random_mixture,
    run_pass,
    sample,
    whiten,
)

UNWEIGHTED = np.empty(0)
BLOCK_EDGES = (1, 31, 32, 33, 255, 256, 257, 1000)


def naive_pass(rows: np.ndarray, mixture: Mixture, row_weights: np.ndarray) -> Pass:
    """Return the pass as a textbook writes it, with `scipy.stats`."""
    weights = row_weights if row_weights.size else np.ones(rows.shape[1])
    joint = np.empty((len(mixture.means), rows.shape[1]))
    for k, factor in enumerate(mixture.cholesky):
        normal = multivariate_normal(mixture.means[k], factor @ factor.T)
        joint[k] = mixture.log_weights[k] + normal.logpdf(rows.T)
    density = logsumexp(joint, axis=0)
    share = np.exp(joint - density) * weights
    first, second = [], []
    for k, factor in enumerate(mixture.cholesky):
        y = np.linalg.solve(factor, rows - mixture.means[k][:, None])
        first.append(y @ share[k])
        second.append((share[k] * y) @ y.T)
    value = float(weights @ density)
    return Pass(value, share.sum(axis=1), np.array(first), np.array(second))


def assert_close(got: Pass, wanted: Pass, n_rows: int, tolerance: float) -> None:
    """Everything agrees, relative to sums of as many terms of order one."""
    for name, one, other in zip(Pass._fields, got, wanted, strict=True):
        np.testing.assert_allclose(
            one, other, rtol=tolerance, atol=tolerance * n_rows, err_msg=name
        )


@pytest.mark.parametrize("n_components", [1, 2, 7, 16])
@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 5, 10, 32])
def test_equals_the_naive_loop(
    n_features: int, n_components: int, rng: np.random.Generator
) -> None:
    mixture = random_mixture(rng, n_components, n_features, decades=0.3)
    for n_rows in BLOCK_EDGES:
        rows = sample(rng, mixture, n_rows)
        signs = rng.choice([-1.0, 0.0, 1.0], n_rows)
        for weights in (UNWEIGHTED, rng.uniform(0.0, 2.0, n_rows), signs):
            wanted = naive_pass(rows, mixture, weights)
            assert_close(run_pass(rows, mixture, weights), wanted, n_rows, 1e-12)


@pytest.mark.parametrize("n_features", [12, 13, 16, 33])
def test_rows_that_a_component_has_no_part_in_are_left_out_exactly(
    n_features: int, rng: np.random.Generator
) -> None:
    """Far apart, so that most rows are copied out of the way; one component has none at all."""
    mixture = random_mixture(rng, 9, n_features, decades=0.3)
    far = mixture.means + 30.0 * rng.normal(size=mixture.means.shape)
    mixture = mixture._replace(means=far)
    rows = sample(rng, mixture._replace(log_weights=np.log([1e-9, *[0.125] * 8])), 700)
    for weights in (UNWEIGHTED, 1e-40 * rng.uniform(-1.0, 2.0, 700)):
        wanted = naive_pass(rows, mixture, weights)
        assert (np.abs(wanted.counts) < 1e-20).any() or weights.size
        got = run_pass(rows, mixture, weights)
        size = np.abs(weights).sum() if weights.size else 700.0
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12 * size)


@pytest.mark.parametrize("n_features", [1, 2, 4, 6])
def test_nothing_is_lost_but_rounding(n_features: int, rng: np.random.Generator) -> None:
    """Twelve digits and more where the problem has them, counted with sixty."""
    mixture = random_mixture(rng, 3, n_features)
    rows = sample(rng, mixture, 100)
    weights = rng.uniform(-1.0, 2.0, 100)
    exact = exact_pass(rows, mixture, weights)
    got = run_pass(rows, mixture, weights)
    assert_pass(got, exact)
    assert got.value == pytest.approx(exact.moments.value, rel=1e-12)
    for one, other in zip(got[1:], exact.moments[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12 * np.abs(other).max(), rtol=0)


scale = st.floats(-6.0, 6.0).map(lambda decade: 10.0**decade)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4))


@given(shape=shapes, data=st.data(), seed=st.integers(0, 10**6))
def test_extreme_weights_scales_and_positions(
    shape: tuple[int, int, int], data: st.DataObject, seed: int
) -> None:
    n_rows, n_components, n_features = shape
    rng = np.random.default_rng(seed)

    def draw(strategy: st.SearchStrategy[Any], count: int) -> np.ndarray:
        return np.array(data.draw(st.lists(strategy, min_size=count, max_size=count)))

    log_weights = draw(st.floats(-1e4, 0.0), n_components)
    log_weights -= logsumexp(log_weights)
    scales = draw(scale, n_components * n_features).reshape(n_components, n_features)
    mixture = random_mixture(rng, n_components, n_features, decades=0.0)
    mixture = Mixture(
        log_weights,
        mixture.means * data.draw(scale),
        np.ascontiguousarray(mixture.cholesky * scales[..., None]),
    )
    rows = rng.normal(size=(n_features, n_rows)) * draw(scale, n_rows)
    weights = draw(st.sampled_from([-1.0, 0.0, 1e-300, 1.0, 1e10]), n_rows)
    for row_weights in (UNWEIGHTED, weights):
        exact = exact_pass(rows, mixture, row_weights)
        assert_pass(run_pass(rows, mixture, row_weights), exact)


def one_feature(weights: list[float], means: list[float], scales: list[float]) -> Mixture:
    """Return a mixture of one feature with the log-weights as given."""
    k = len(weights)
    return Mixture(
        np.array(weights), np.array(means).reshape(k, 1), np.array(scales).reshape(k, 1, 1)
    )


EXTREMES = {
    "every naive term underflows": (one_feature([-0.7, -0.7], [0.0, 1.0], [1.0, 1.0]), [100.0]),
    "a million scales away": (one_feature([-0.7, -0.7], [0.0, 1.0], [1.0, 1.0]), [1e6, -1e6]),
    "a weight of 1e-300": (one_feature([-690.8, 0.0], [0.0, 50.0], [1.0, 1.0]), [0.0, 25.0, 6.0]),
    "a log-weight of -1e4": (one_feature([-1e4, 0.0], [0.0, 300.0], [1.0, 1.0]), [0.0, 133.0]),
    "a weight of zero": (one_feature([-np.inf, 0.0], [0.0, 1.0], [1.0, 1.0]), [0.0, 2.0]),
    "a needle in a haystack": (one_feature([-0.7, -0.7], [0.0, 0.0], [1e-6, 1.0]), [0.0, 1e-6, 1]),
    "scales 1e12 apart": (one_feature([-0.7, -0.7], [0.0, 1e6], [1e-6, 1e6]), [0.0, 5e-6, 1e6]),
}  # fmt: skip


@pytest.mark.parametrize("name", EXTREMES)
def test_extremes(name: str) -> None:
    mixture, x = EXTREMES[name]
    rows = np.array([x])
    got = run_pass(rows, mixture, UNWEIGHTED)
    if np.isinf(mixture.log_weights).any():
        alone = Mixture(*(part[1:] for part in mixture))
        rest = run_pass(rows, alone, UNWEIGHTED)
        assert got.value == rest.value
        assert [got.counts[0], *got.first[0], *got.second[0, 0]] == [0.0, 0.0, 0.0]
        np.testing.assert_array_equal(got.second[1], rest.second[0])
        return
    exact = exact_pass(rows, mixture, UNWEIGHTED)
    assert_pass(got, exact)
    assert got.value == pytest.approx(exact.moments.value, rel=1e-12)
    for one, other in zip(got[1:], exact.moments[1:], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12 * max(1.0, np.abs(rows).max()), atol=0)


def needles(rng: np.random.Generator, n_features: int, width: float, apart: float) -> Mixture:
    """Return two clusters far apart, each with a broad and a needle-like component."""
    centres = np.full((4, n_features), -0.5 * apart)
    centres[2:] += apart
    cholesky = np.tril(0.2 * rng.normal(size=(4, n_features, n_features)), -1) + np.eye(n_features)
    cholesky[[1, 3]] *= width
    return Mixture(np.log(np.full(4, 0.25)), centres, cholesky)


@pytest.mark.parametrize("n_features", [1, 2, 4, 5, 8])
def test_needles_and_distance_lose_nothing(n_features: int, rng: np.random.Generator) -> None:
    mixture = needles(rng, n_features, width=1e-6, apart=1e6)
    rows = sample(rng, mixture, 60)
    exact = exact_pass(rows, mixture, UNWEIGHTED)
    got = run_pass(rows, mixture, UNWEIGHTED)
    assert_pass(got, exact)
    assert got.value == pytest.approx(exact.moments.value, rel=1e-12)


@pytest.mark.parametrize("n_components", [2, 5])
def test_permuting_components_permutes_the_moments(
    n_components: int, rng: np.random.Generator
) -> None:
    mixture = random_mixture(rng, n_components, 4)
    rows = sample(rng, mixture, 300)
    order = np.roll(np.arange(n_components), 1)
    permuted = Mixture(*(np.ascontiguousarray(part[order]) for part in mixture))
    one = run_pass(rows, mixture, UNWEIGHTED)
    other = run_pass(rows, permuted, UNWEIGHTED)
    if n_components == 2:  # a + b = b + a, to the last bit
        assert other.value == one.value
        np.testing.assert_array_equal(other.second, one.second[order])
    assert other.value == pytest.approx(one.value, rel=1e-14)
    for a, b in zip(other[1:], one[1:], strict=True):
        np.testing.assert_allclose(a, b[order], rtol=1e-11, atol=1e-11)


def test_rows_may_come_in_any_order_and_in_parts(rng: np.random.Generator) -> None:
    mixture = random_mixture(rng, 3, 5)
    rows = sample(rng, mixture, 700)
    whole = run_pass(rows, mixture, UNWEIGHTED)
    shuffled = np.ascontiguousarray(rows[:, rng.permutation(700)])
    parts = [
        run_pass(np.ascontiguousarray(part), mixture, UNWEIGHTED)
        for part in np.split(rows, [100, 389], axis=1)
    ]
    added = Pass(*map(sum, zip(*parts, strict=True)))
    for other in (run_pass(shuffled, mixture, UNWEIGHTED), added):
        assert other.value == pytest.approx(whole.value, rel=1e-13)
        for a, b in zip(other[1:], whole[1:], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_integer_row_weights_are_copies_of_rows(rng: np.random.Generator) -> None:
    mixture = random_mixture(rng, 3, 4)
    rows = sample(rng, mixture, 50)
    copies = rng.integers(0, 4, 50)
    weighted = run_pass(rows, mixture, copies.astype(float))
    repeated = np.ascontiguousarray(np.repeat(rows, copies, axis=1))
    assert_close(weighted, run_pass(repeated, mixture, UNWEIGHTED), 50, 1e-13)


def test_a_density_of_zero_is_minus_infinity_not_nan() -> None:
    mixture = one_feature([-0.7, -0.7], [0.0, 1.0], [1.0, 1.0])
    assert run_pass(np.array([[0.0, 1e200]]), mixture, UNWEIGHTED).value == -np.inf


def test_a_row_of_weight_zero_counts_for_nothing_even_where_the_density_is_zero() -> None:
    mixture = one_feature([-0.7, -0.7], [0.0, 1.0], [1.0, 1.0])
    got = run_pass(np.array([[0.5, 1e200]]), mixture, np.array([1.0, 0.0]))
    alone = run_pass(np.array([[0.5]]), mixture, np.array([1.0]))
    for one, other in zip(got, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_nan_is_never_hidden() -> None:
    mixture = one_feature([-0.7, -0.7], [0.0, np.nan], [1.0, 1.0])
    assert np.isnan(run_pass(np.array([[0.5]]), mixture, UNWEIGHTED).value)


def test_arguments_are_not_changed(rng: np.random.Generator) -> None:
    mixture = random_mixture(rng, 2, 4)
    rows = sample(rng, mixture, 40)
    weights = rng.uniform(size=40)
    whiteners, log_determinants = whiten(mixture)
    given = [rows, weights, *mixture[:2], whiteners, log_determinants]
    before = [part.copy() for part in given]
    out = np.empty(2), np.empty((2, 4)), np.empty((2, 4, 4))
    e_step(*given, *out)
    for one, other in zip(given, before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("n_features", [1, 2, 5, 32])
def test_whiteners_invert_the_factors(n_features: int, rng: np.random.Generator) -> None:
    cholesky = random_mixture(rng, 4, n_features, decades=3.0).cholesky
    whiteners = np.full_like(cholesky, np.nan)
    log_determinants = np.full(4, np.nan)
    fill_whiteners(cholesky, whiteners, log_determinants)
    product = np.abs(whiteners) @ np.abs(cholesky)
    assert np.all(np.abs(whiteners @ cholesky - np.eye(n_features)) <= 1e-14 * (product + 1.0))
    assert not np.triu(whiteners, 1).any()
    wanted = np.log(np.einsum("kii->ki", cholesky)).sum(axis=1)
    np.testing.assert_allclose(log_determinants, wanted, rtol=1e-13, atol=1e-14)


def test_a_scale_of_zero_gives_no_exception() -> None:
    """In a function that C calls an exception would be lost, and the answer with it."""
    mixture = one_feature([-0.7, -0.7], [0.0, 1.0], [0.0, 1.0])
    assert not np.isfinite(run_pass(np.array([[0.5]]), mixture, UNWEIGHTED).value)
