"""The unconstrained vector: there, back, its slopes, and the LKJ law that it carries."""

from decimal import localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bayesgmm.kernels.cholesky import (
    Layout,
    constrain,
    fill_cholesky,
    fill_correlation,
    fill_log_weights,
    fill_partials,
    offsets,
    pull_back,
    standardise,
    unconstrain,
)
from tests.kernels.oracle import DIGITS, STRUCTURES, layout
from tests.kernels.vectors import decode, length, slope_of, split

SIZES = [(1, 1), (3, 1), (1, 2), (2, 3), (4, 5)]
every_structure = pytest.mark.parametrize("structure", STRUCTURES)
every_size = pytest.mark.parametrize(("n_components", "n_features"), SIZES)
every_floor = pytest.mark.parametrize("lowest", [0.0, 0.3])


def filled(which: Layout, floor: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    k, d = which.n_components, which.n_features
    scales, cholesky = np.full((k, d), np.nan), np.full((k, d, d), np.nan)
    fill_cholesky(which, floor, vector, scales, cholesky)
    return scales, cholesky


def log_weights_of(which: Layout, vector: np.ndarray) -> np.ndarray:
    log_weights = np.full(which.n_components, np.nan)
    fill_log_weights(vector, log_weights)
    return log_weights


@every_structure
@every_size
def test_the_parts_fill_the_vector(structure: str, n_components: int, n_features: int) -> None:
    which = layout(structure, n_components, n_features)
    parts = split(which, np.arange(float(length(which))))
    starts = offsets(which)
    assert starts[3] == length(which)
    for start, part in zip(starts, parts[1:], strict=False):
        assert part.size == 0 or part.flat[0] == start


@every_structure
@every_size
@every_floor
def test_the_factors_are_those_of_the_formulae(
    structure: str, n_components: int, n_features: int, lowest: float, rng: np.random.Generator
) -> None:
    which = layout(structure, n_components, n_features)
    floor = lowest * rng.uniform(0.5, 2.0, which.scale_columns)
    vector = 2.0 * rng.normal(size=length(which))
    with localcontext() as context:
        context.prec = DIGITS
        wanted = decode(which, floor, vector).floats()
    scales, cholesky = filled(which, floor, vector)
    np.testing.assert_allclose(log_weights_of(which, vector), wanted[0], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(scales, wanted[2], rtol=1e-15)
    np.testing.assert_allclose(cholesky, wanted[3], rtol=1e-13, atol=1e-15)
    assert not np.triu(cholesky, 1).any()


@every_structure
@every_size
@every_floor
def test_vectors_come_back(
    structure: str, n_components: int, n_features: int, lowest: float, rng: np.random.Generator
) -> None:
    which = layout(structure, n_components, n_features)
    floor = np.full(which.scale_columns, lowest)
    vector = 1.5 * rng.normal(size=length(which))
    vector[offsets(which)[1] : offsets(which)[2]] += 2.0 * lowest  # clear of the floor
    means = split(which, vector).means
    _, cholesky = filled(which, floor, vector)
    back = unconstrain(which, floor, log_weights_of(which, vector), means, cholesky)
    np.testing.assert_allclose(back, vector, rtol=1e-12, atol=1e-12)


@given(log_odds=st.lists(st.floats(-35.0, 35.0), min_size=6, max_size=6))
def test_extreme_correlations_come_back(log_odds: list[float]) -> None:
    """Through the factor, which holds what the matrix itself would round to 1."""
    which = layout("full", 1, 4)
    vector = np.concatenate([np.zeros(8), log_odds])
    _, cholesky = filled(which, np.zeros(4), vector)
    back = unconstrain(which, np.zeros(4), np.zeros(1), np.zeros((1, 4)), cholesky)
    np.testing.assert_allclose(back, vector, rtol=1e-11, atol=1e-11)


@given(v=st.lists(st.floats(-700.0, 700.0), min_size=1, max_size=6))
def test_log_weights_never_underflow(v: list[float]) -> None:
    vector = np.array(v)
    log_weights = np.full(len(v) + 1, np.nan)
    fill_log_weights(vector, log_weights)
    y = np.append(vector, -vector.sum())
    assert np.isfinite(log_weights).all()
    np.testing.assert_allclose(np.diff(log_weights), np.diff(y), rtol=1e-12, atol=1e-11)
    assert np.exp(log_weights).sum() == pytest.approx(1.0, rel=1e-12)


def test_scales_at_the_floor_are_moved_above_it() -> None:
    which = layout("diag", 1, 2)
    floor = np.array([0.5, 2.0])
    cholesky = np.diag([0.1, 2.0])[None].copy()
    vector = unconstrain(which, floor, np.zeros(1), np.zeros((1, 2)), cholesky)
    scales, _ = filled(which, floor, vector)
    np.testing.assert_allclose(scales[0], 1.01 * floor, rtol=1e-14)


@every_structure
@every_floor
def test_parameters_are_in_the_units_of_the_data(
    structure: str, lowest: float, rng: np.random.Generator
) -> None:
    which = layout(structure, 3, 3)
    floor = np.full(which.scale_columns, lowest)
    unit = np.full(3, 2.5) if which.scale_columns == 1 else np.array([0.1, 3.0, 40.0])
    center = np.array([100.0, -3.0, 0.0])
    vectors = rng.normal(size=(4, length(which)))
    weights, means, scales, correlations, covariances = constrain(
        which, floor, vectors, center, unit
    )
    for s, vector in enumerate(vectors):
        with localcontext() as context:
            context.prec = DIGITS
            wanted = decode(which, floor, vector).floats()
        full = unit[:, None] * wanted[3]
        np.testing.assert_allclose(weights[s], np.exp(wanted[0]), rtol=1e-13)
        np.testing.assert_allclose(means[s], center + unit * wanted[1], rtol=1e-13)
        np.testing.assert_allclose(scales[s], unit * wanted[2], rtol=1e-14)
        np.testing.assert_allclose(covariances[s], full @ np.swapaxes(full, -1, -2), rtol=1e-12)
        spread = scales[s][:, :, None] * scales[s][:, None, :]
        np.testing.assert_allclose(correlations[s] * spread, covariances[s], rtol=1e-14)
        assert np.all(np.einsum("kii->ki", correlations[s]) == 1.0)
    if which.scale_rows == 1:
        assert np.all(scales == scales[:, :1])
    if which.scale_columns == 1:
        np.testing.assert_allclose(scales, scales[:, :, :1].repeat(3, axis=2), rtol=1e-15)
    if which.correlation_sets == 1:
        np.testing.assert_allclose(correlations, correlations[:, :1].repeat(3, axis=1), atol=1e-14)
    if which.correlation_sets == 0:
        assert np.all(correlations == np.eye(3))


def test_standardise_undoes_constrain(rng: np.random.Generator) -> None:
    which = layout("full", 2, 4)
    center, unit = np.array([5.0, -1.0, 0.0, 1e3]), np.array([0.01, 1.0, 2.0, 50.0])
    vectors = rng.normal(size=(3, length(which)))
    parameters = constrain(which, np.zeros(4), vectors, center, unit)
    log_weights, means, cholesky = standardise(*parameters[:4], center, unit)
    for s, vector in enumerate(vectors):
        one = (np.ascontiguousarray(part[s]) for part in (log_weights, means, cholesky))
        back = unconstrain(which, np.zeros(4), *one)
        np.testing.assert_allclose(back, vector, atol=1e-10)


def test_standardise_lets_a_weight_be_zero_and_a_matrix_be_singular() -> None:
    ones = np.ones((1, 1, 2, 2))
    log_weights, means, cholesky = standardise(
        np.array([[0.0]]), np.zeros((1, 1, 2)), np.ones((1, 1, 2)), ones, np.zeros(2), np.ones(2)
    )
    assert log_weights[0, 0] == -np.inf
    assert np.isfinite(cholesky).all()
    np.testing.assert_allclose(cholesky[0, 0] @ cholesky[0, 0].T, ones[0, 0], atol=1e-7)


@every_structure
@pytest.mark.parametrize("n_features", [1, 2, 4])
@pytest.mark.parametrize(("lowest", "extreme"), [(0.0, 1.0), (0.4, 1.0), (0.0, 30.0), (0.4, 30.0)])
def test_slopes_are_pulled_back(
    structure: str, n_features: int, lowest: float, extreme: float, rng: np.random.Generator
) -> None:
    """Of a random linear function of the factors, against differences of 60 digits."""
    which = layout(structure, 2, n_features)
    floor = np.full(which.scale_columns, lowest)
    vector = rng.normal(size=length(which))
    start = offsets(which)[2]
    vector[start:] = rng.uniform(-extreme, extreme, length(which) - start)
    weights = rng.normal(size=(2, n_features, n_features))
    scales, cholesky = filled(which, floor, vector)
    gradient = np.full(vector.size, 0.25)  # what is there already is added to
    pull_back(which, floor, vector, scales, cholesky, np.tril(weights), gradient)

    def linear(exact: np.ndarray) -> object:
        factors = decode(which, floor, exact).cholesky
        return sum(
            factors[k, i, j] * type(factors[0, 0, 0])(weights[k, i, j])
            for k in range(2)
            for i in range(n_features)
            for j in range(i + 1)
        )

    wanted = slope_of(linear, vector)
    wanted[: offsets(which)[1]] = 0.0
    # relative where the terms do not cancel; they are of the order of the scales
    np.testing.assert_allclose(gradient - 0.25, wanted, rtol=1e-9, atol=1e-14 * scales.max())


def partial_correlation(correlation: np.ndarray, i: int, j: int) -> float:
    """Return the correlation of i and j given all before j, from the inverse of a submatrix."""
    chosen = [*range(j), j, i]
    inverse = np.linalg.inv(correlation[np.ix_(chosen, chosen)])
    return float(-inverse[-1, -2] / np.sqrt(inverse[-1, -1] * inverse[-2, -2]))


def correlation_factor(log_odds: np.ndarray, n_features: int) -> np.ndarray:
    """Return the Cholesky factor of one correlation matrix."""
    partials, roots = np.empty((2, log_odds.size))
    fill_partials(log_odds, partials, roots)
    factor = np.full((n_features, n_features), np.nan)
    fill_correlation(partials, roots, factor)
    return factor


@given(st.floats(-3000.0, 3000.0))
def test_partial_correlations_at_any_log_odds(log_odds: float) -> None:
    partials, roots = np.empty((2, 1))
    fill_partials(np.array([log_odds]), partials, roots)
    assert partials[0] == pytest.approx(np.tanh(0.5 * log_odds), rel=1e-14, abs=1e-16)
    with np.errstate(over="ignore"):
        assert roots[0] == pytest.approx(1.0 / np.cosh(0.5 * log_odds), rel=1e-14, abs=1e-300)


def test_log_odds_are_those_of_partial_correlations(rng: np.random.Generator) -> None:
    log_odds = rng.normal(size=10)
    factor = correlation_factor(log_odds, 5)
    correlation = factor @ factor.T
    np.testing.assert_allclose(np.diag(correlation), 1.0, rtol=1e-14)
    partial = [partial_correlation(correlation, i, j) for i in range(5) for j in range(i)]
    np.testing.assert_allclose(np.arctanh(partial), 0.5 * log_odds, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.7, 1.0, 3.0])
@pytest.mark.parametrize("n_features", [2, 4])
def test_beta_laws_of_the_partial_correlations_make_the_lkj_law(
    n_features: int, eta: float, rng: np.random.Generator
) -> None:
    """Every correlation is 2 Beta(a, a) - 1 with a = eta - 1 + D / 2 (Lewandowski et al. 2009)."""
    n = 4000
    columns = [j for i in range(n_features) for j in range(i)]
    shapes = eta + 0.5 * (n_features - 2 - np.array(columns))
    log_odds = np.log(rng.gamma(shapes, size=(n, len(columns))))
    log_odds -= np.log(rng.gamma(shapes, size=(n, len(columns))))
    correlations = np.empty((n, n_features, n_features))
    for s in range(n):
        factor = correlation_factor(log_odds[s], n_features)
        correlations[s] = factor @ factor.T
    shape = eta - 1.0 + 0.5 * n_features
    variance = 1.0 / (2.0 * shape + 1.0)
    if n_features == 4 and eta == 1.0:
        assert variance == 0.2
    law = stats.beta(shape, shape, loc=-1.0, scale=2.0)
    for i in range(n_features):
        for j in range(i):
            draws = correlations[:, i, j]
            error = draws.std() * np.sqrt((stats.kurtosis(draws) + 2.0) / n)
            assert abs(draws.var() - variance) < 5.0 * variance / draws.std() * error
            # 18 comparisons in all, at a level of one false alarm in a million each
            assert stats.kstest(draws, law.cdf).pvalue > 1e-6
