"""Student's t against scipy, row by row; gradients against differences; degrees of freedom."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import digamma as exact_digamma
from scipy.special import gammaln, logsumexp
from scipy.stats import multivariate_t

from bayesgmm.kernels.cholesky import Layout, fill_cholesky, offsets
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.estep import LOG_2PI, e_step, fill_whiteners
from bayesgmm.kernels.incomplete import expected_moments
from bayesgmm.kernels.linked import density_slopes
from bayesgmm.kernels.mstep import Penalty, em_map
from bayesgmm.kernels.patterns import NO_GROUPS, pack_groups
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.tails import (
    MOST_DF,
    df_slope,
    digamma,
    fill_df,
    learn_df,
    log_pull_sum,
    most_likely_df,
    pull_sum,
    tail_block,
    tail_constant,
    weigh_block,
    with_df,
)

type Array = NDArray[np.float64]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


class Mixture:
    """A random mixture of t, factors with degrees of freedom below."""

    def __init__(self, rng: np.random.Generator, n_components: int, n_dim: int) -> None:
        self.log_weights = np.log(rng.dirichlet(np.ones(n_components)))
        self.means = rng.normal(size=(n_components, n_dim))
        noise = rng.normal(size=(n_components, n_dim, 2 * n_dim + 2))
        factors = np.linalg.cholesky(noise @ noise.mT / n_dim)
        df = np.geomspace(0.5, 300.0, n_components)
        self.factors = with_df(factors[None], df[None])[0]
        self.parts = [self.log_weights, self.means, self.factors]

    def joint(self, cells: Array, log_weights: Array, means: Array, factors: Array) -> Array:
        """Log joint densities, shape (K, N), of what is seen of rows (D, N), row by row."""
        n_dim = means.shape[1]
        result = np.empty((len(means), cells.shape[1]))
        for k, i in np.ndindex(result.shape):
            seen = ~np.isnan(cells[:, i])
            covariance = factors[k, :n_dim] @ factors[k, :n_dim].T
            law = multivariate_t(means[k][seen], covariance[np.ix_(seen, seen)], factors[k, -1, 0])
            result[k, i] = log_weights[k] + law.logpdf(cells[seen, i])
        return result


@pytest.mark.parametrize("x", [1e-3, 0.3, 1.0, 9.99, 10.0, 1e5])
def test_digamma(x: float) -> None:
    np.testing.assert_allclose(digamma(x), exact_digamma(x), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("n_dim", [1, 2, 30])
@pytest.mark.parametrize("df", [0.2, 5.0, 39.9, 40.1, 1e3])
def test_tail_constant(df: float, n_dim: int) -> None:
    x, more = 0.5 * df, 0.5 * n_dim
    due = gammaln(x + more) - gammaln(x) - more * np.log(df * np.pi)
    np.testing.assert_allclose(tail_constant(df, n_dim), due, rtol=1e-12, atol=1e-11)


def test_many_degrees_of_freedom_are_normal() -> None:
    np.testing.assert_allclose(tail_constant(1e12, 3), -1.5 * LOG_2PI, rtol=1e-11)
    lp, pulls, logs = np.array([-2.0]), np.empty(1), np.empty(1)
    tail_block(lp, pulls, logs, 0.5, 1e12, 3, 1)
    np.testing.assert_allclose([lp[0], pulls[0]], [-1.5, 1.0], rtol=1e-11)


def test_a_row_beyond_all_numbers_has_a_density() -> None:
    lp, pulls, logs = np.array([-np.inf]), np.empty(1), np.empty(1)
    tail_block(lp, pulls, logs, 0.0, 2.0, 1, 1)
    assert np.isfinite([lp[0], pulls[0], logs[0]]).all()


def test_weighing_a_block(rng: np.random.Generator) -> None:
    shares, pulls, logs = rng.random((3, 37))
    before = shares.copy()
    count, total = weigh_block(shares, pulls, logs, 37)
    np.testing.assert_allclose([count, total], [before.sum(), before @ logs], rtol=1e-13)
    np.testing.assert_allclose(shares, before * pulls, rtol=1e-15)


@pytest.mark.parametrize(("n_dim", "n_components", "n_rows"), [(1, 2, 5), (2, 3, 300), (14, 2, 40)])
def test_densities_are_those_of_scipy(
    n_dim: int, n_components: int, n_rows: int, rng: np.random.Generator
) -> None:
    of, cells = Mixture(rng, n_components, n_dim), 3.0 * rng.normal(size=(n_dim, n_rows))
    cells[:, 0] = 1e6  # far out
    densities, shares = np.empty((1, n_rows)), np.zeros((1, n_components, n_rows))
    parts = (part[None] for part in of.parts)
    fill_draws(cells, *parts, densities, shares, NO_LABELS, NO_CUBE)
    joint = of.joint(cells, *of.parts)
    np.testing.assert_allclose(densities[0], logsumexp(joint, axis=0), rtol=1e-12)
    np.testing.assert_allclose(shares[0], np.exp(joint - logsumexp(joint, axis=0)), atol=1e-12)


@pytest.mark.parametrize("few", [True, False])
def test_cells_that_are_missing_are_integrated_out(few: bool, rng: np.random.Generator) -> None:
    """A group of few rows goes row by row, a large one through the pass."""
    of, cells = Mixture(rng, 2, 3), rng.normal(size=(3, 40))
    cells[0, : 5 if few else 25] = np.nan
    densities, shares = np.empty((1, 40)), np.zeros((1, 2, 40))
    parts = (part[None] for part in of.parts)
    fill_draws(cells, *parts, densities, shares, NO_LABELS, NO_CUBE)
    joint = of.joint(cells, *of.parts)
    np.testing.assert_allclose(densities[0], logsumexp(joint, axis=0), rtol=1e-11)
    np.testing.assert_allclose(shares[0], np.exp(joint - logsumexp(joint, axis=0)), atol=1e-11)


def test_slopes_are_those_of_differences(rng: np.random.Generator) -> None:
    of, cells = Mixture(rng, 2, 2), 2.0 * rng.normal(size=(2, 30))
    weights = rng.normal(size=30)
    slopes = density_slopes(cells, *of.parts, weights)
    step = 1e-5
    for which, part in enumerate(of.parts):
        for place in np.ndindex(part.shape):
            if which == 2 and place[2] > min(place[1], 1 if place[1] < 2 else 0):
                continue  # nothing is there
            sides = []
            for sign in (1.0, -1.0):
                moved = [value.copy() for value in of.parts]
                moved[which][place] += sign * step
                sides.append(weights @ logsumexp(of.joint(cells, *moved), axis=0))
            due = (sides[0] - sides[1]) / (2.0 * step)
            np.testing.assert_allclose(slopes[which][place], due, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("holes", [False, True])
def test_moments_are_weighted_by_the_pulls(holes: bool, rng: np.random.Generator) -> None:
    """By definition, of every row what is missing replaced by its expectation given the pull."""
    of, n_rows = Mixture(rng, 2, 3), 30
    cells = 2.0 * rng.normal(size=(3, n_rows))
    if holes:
        cells[1, :4], cells[[0, 2], 10:25] = np.nan, np.nan
    joint = of.joint(cells, *of.parts)
    shares = np.exp(joint - logsumexp(joint, axis=0))
    counts, pulled, logs = shares.sum(axis=1), np.zeros(2), np.zeros(2)
    first, second = np.zeros((2, 3)), np.zeros((2, 3, 3))
    for k, i in np.ndindex(shares.shape):
        seen = ~np.isnan(cells[:, i])
        factor, df = of.factors[k, :3], of.factors[k, 3, 0]
        inverse = np.linalg.inv(factor[seen] @ factor[seen].T)
        gap = cells[seen, i] - of.means[k][seen]
        square = gap @ inverse @ gap
        pull = (df + seen.sum()) / (df + square)
        z = factor[seen].T @ inverse @ gap
        spread = np.eye(3) - factor[seen].T @ inverse @ factor[seen]
        r = shares[k, i]
        pulled[k] += r * pull
        logs[k] += r * (exact_digamma(0.5 * (df + seen.sum())) - np.log1p(square / df))
        first[k] += r * pull * z
        second[k] += r * (pull * np.outer(z, z) + spread)
    rows, groups = cells, NO_GROUPS
    if holes:
        order, n_complete, groups = pack_groups(cells, 3, 2)
        rows = np.ascontiguousarray(cells[:, order[:n_complete]])
    whiteners, determinants = np.empty((2, 4, 3)), np.empty(2)
    fill_whiteners(of.factors, whiteners, determinants)
    got = np.empty(2), np.empty((2, 3)), np.empty((2, 4, 3))
    value = expected_moments(rows, np.empty(0), groups, *of.parts, whiteners, determinants, *got)
    np.testing.assert_allclose(value, logsumexp(joint, axis=0).sum(), rtol=1e-12)
    np.testing.assert_allclose(got[0], counts, rtol=1e-10)
    np.testing.assert_allclose(got[1], first, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got[2][:, :3], second, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got[2][:, 3, 0], logs, rtol=1e-9)
    for k in range(2):
        found = pull_sum(counts[k], got[2][k], of.factors[k, 3, 0])
        np.testing.assert_allclose(found, pulled[k], rtol=1e-9)


def test_the_slope_by_degrees_of_freedom_is_that_of_a_difference(rng: np.random.Generator) -> None:
    """Of one component, whose count, moments and logs do all that there is to it."""
    y = 2.0 * rng.normal(size=(2, 50))
    square = (y**2).sum(axis=0)

    def log_likelihood(df: float) -> float:
        return float(multivariate_t(np.zeros(2), np.eye(2), df).logpdf(y.T).sum())

    df = 3.0
    pull = (df + 2.0) / (df + square)
    second = np.zeros((3, 2))
    second[:2] = (pull * y) @ y.T
    second[2, 0] = log_pull_sum(50.0, np.log1p(square / df).sum(), df, 2)
    due = (log_likelihood(df + 1e-5) - log_likelihood(df - 1e-5)) / 2e-5
    np.testing.assert_allclose(df_slope(50.0, second, df), due, rtol=1e-6)


@pytest.mark.parametrize("df", [1.0, 7.0])
def test_degrees_of_freedom_are_found_where_precisions_have_them(df: float) -> None:
    """Expected logs and means of Gamma(df / 2, df / 2), which maximise at df."""
    excess = 100.0 * (exact_digamma(0.5 * df) - np.log(0.5 * df) - 1.0)
    np.testing.assert_allclose(most_likely_df(100.0, excess, 0.0, 0.0), df, rtol=1e-10)
    assert most_likely_df(100.0, 0.0, 0.0, 0.0) == pytest.approx(MOST_DF)  # all are 1: Normal
    np.testing.assert_allclose(most_likely_df(0.0, 0.0, 2.0, 0.1), 20.0, rtol=1e-10)  # the prior's


def test_degrees_of_freedom_are_written_below_factors() -> None:
    layout = Layout(2, 1, 2, 1, 0, 1)
    cholesky = np.ones((2, 2, 1))
    fill_df(np.log([3.0]), np.empty(0), cholesky)
    assert cholesky[:, 1, 0] == pytest.approx([3.0, 3.0])
    fill_df(np.empty(0), np.array([4.0, 5.0]), cholesky)
    assert cholesky[:, 1, 0].tolist() == [4.0, 5.0]
    normal = np.ones((2, 1, 1))
    fill_df(np.empty(0), np.empty(0), normal)
    assert (normal == 1.0).all()
    second = np.zeros((2, 2, 1))
    second[:, 1, 0] = [-1.0, -2.0]
    counts, pulls = np.array([10.0, 20.0]), np.array([9.0, 21.0])
    excess = sum(
        second[k, 1, 0] - counts[k] * np.log(0.5 * cholesky[k, 1, 0]) - pulls[k] for k in (0, 1)
    )
    learn_df(layout, np.array([2.0, 0.1]), counts, pulls, second, cholesky)
    assert cholesky[:, 1, 0] == pytest.approx([most_likely_df(30.0, excess, 2.0, 0.1)] * 2)


@pytest.mark.parametrize("df_sets", [0, 1, 2])
@pytest.mark.parametrize("structure", [(2, 2, 2), (1, 2, 1), (2, 2, 1), (2, 1, 0)])
def test_no_step_of_em_falls(
    df_sets: int, structure: tuple[int, int, int], rng: np.random.Generator
) -> None:
    rows = np.concatenate([rng.standard_t(3, (2, 60)), 6.0 + rng.standard_t(3, (2, 60))], axis=1)
    layout = Layout(2, 2, *structure, df_sets)
    vector = 0.3 * rng.normal(size=offsets(layout)[3])
    vector[offsets(layout)[0] : offsets(layout)[1]] = [0.0, 0.0, 6.0, 6.0]
    df = np.array([2.0, 0.1]) if df_sets else np.array([2.0, 5.0])
    penalty = Penalty(np.ones(2), np.zeros(2), 0.01, np.full(2, 0.01), 1.0, df)
    values = []
    for _ in range(30):
        value, ok, vector = em_map(layout, penalty, rows, np.empty(0), NO_GROUPS, vector)
        assert ok
        values.append(value)
    assert np.diff(values).min() > -1e-9
    assert values[-1] > values[0] + 1.0


def test_normal_components_do_not_notice(rng: np.random.Generator) -> None:
    """Without a further line the moments are those of Normal components, plain sums."""
    rows, layout = rng.normal(size=(2, 20)), Layout(1, 2, 1, 2, 1)
    scales, cholesky = np.empty((1, 2)), np.empty((1, 2, 2))
    fill_cholesky(layout, np.zeros(2), rng.normal(size=5), scales, cholesky)
    whiteners, determinants = np.empty((1, 2, 2)), np.empty(1)
    fill_whiteners(cholesky, whiteners, determinants)
    got = np.empty(1), np.empty((1, 2)), np.empty((1, 2, 2))
    e_step(rows, np.empty(0), np.zeros(1), np.zeros((1, 2)), whiteners, determinants, *got)
    y = np.linalg.solve(cholesky[0], rows)
    np.testing.assert_allclose(got[2][0], y @ y.T, rtol=1e-12)
