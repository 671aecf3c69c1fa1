"""Mixtures of factor analysers fitted to rows with missing cells and measurement errors."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.factor_em import Factored, climb_factors, mixture_of, start_from
from bayesgmm.inference.mode import Target
from bayesgmm.inference.starts import Sample
from bayesgmm.kernels.factor_loadings import covariance_of, joined
from bayesgmm.problem import Problem
from tests.test_factor_fits import made, of

type Array = NDArray[np.float64]

N, D, Q, K = 120, 6, 2, 2
UNITS = np.array([1.0, 10.0, 0.1, 1.0, 5.0, 1.0])


@pytest.fixture(scope="module")
def whole() -> Array:
    return 20.0 + UNITS * made(np.random.default_rng(1), N, D, Q, K)[0]


@pytest.fixture(scope="module")
def table(whole: Array) -> pd.DataFrame:
    """The same, a third of the cells missing, no two rows in the same way."""
    rng = np.random.default_rng(2)
    holes = rng.random(whole.shape) < 0.3
    holes[np.arange(N), rng.integers(D, size=N)] = False
    holes[:10] = False
    return pd.DataFrame(np.where(holes, np.nan, whole), columns=list("abcdef"))


@pytest.fixture(scope="module")
def tree(table: pd.DataFrame) -> xr.DataTree:
    return bg.fit(table, of(Q, K), draws=200, chains=2, random_seed=1, progressbar=False)


def densities(cells: Array, errors: Array, mixture: Factored) -> Array:
    """Return the log density of what is seen of every row, by scipy, from whole matrices."""
    covariances, result = covariance_of(mixture.factors), np.empty(len(cells))
    for i, row in enumerate(cells):
        o = np.flatnonzero(~np.isnan(row))
        added = np.diag(errors[i, o] ** 2)
        terms = [
            multivariate_normal(mean[o], covariance[o[:, None], o] + added).logpdf(row[o])
            for mean, covariance in zip(mixture.means, covariances, strict=True)
        ]
        result[i] = logsumexp(mixture.log_weights + terms)
    return result


def in_units(problem: Problem, vector: Array) -> Factored:
    """Return the mixture of a vector in the units of the data."""
    found = problem.constrain(vector[None])
    factors = joined(found.loadings[0], found.noise_scales[0])
    return Factored(np.log(found.weights[0]), found.means[0], factors)


@pytest.mark.parametrize("structure", ["full", "tied", "spherical"])
@pytest.mark.parametrize("kind", ["missing", "errors", "both"])
def test_the_posterior_is_prior_times_naive_likelihood(
    rng: np.random.Generator, whole: Array, table: pd.DataFrame, structure: str, kind: str
) -> None:
    cells = whole if kind == "errors" else table.to_numpy()
    errors = None if kind == "missing" else UNITS * rng.uniform(0.0, 1.0, cells.shape)
    problem = Problem.make(
        of(Q, K, structure=structure), prepare(cells, measurement_error=errors)
    )  # fmt: skip
    vector, row_weights = 0.3 * rng.normal(size=problem.n_parameters), rng.uniform(0.5, 2.0, N)
    flat = problem.pack(problem.rows, row_weights, prior=True)
    prior = problem.pack(problem.rows, np.zeros(N), prior=True)
    known = densities(cells, np.zeros((N, D)) if errors is None else errors,
                      in_units(problem, vector))  # fmt: skip
    from bayesgmm.kernels.target import log_target

    gradient, nothing = np.empty_like(vector), np.empty_like(vector)
    value = log_target(vector, flat, gradient)
    assert value - log_target(vector, prior, nothing) == pytest.approx(row_weights @ known)
    h = 1e-5
    for p in rng.choice(vector.size, 15, replace=False):
        step = h * np.eye(vector.size)[p]
        above, below = (log_target(vector + s, flat, nothing) for s in (step, -step))
        slope = (above - below) / (2.0 * h)
        assert gradient[p] == pytest.approx(slope, rel=1e-6, abs=1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize("errors", [False, True])
def test_em_climbs_to_where_no_other_mixture_is_more_likely(
    rng: np.random.Generator, table: pd.DataFrame, errors: bool
) -> None:
    given = UNITS * rng.uniform(0.1, 0.5, table.shape) if errors else np.zeros(table.shape)
    data = prepare(table, measurement_error=given if errors else None)
    problem = Problem.make(of(Q, K), data)
    sample, labels = Sample.whole(problem), (table["a"] > 20.0).to_numpy().astype(np.int64)
    climbed = climb_factors(problem, sample, start_from(problem, sample, labels), Target.ML)
    assert climbed is not None
    assert (np.diff(climbed[1]) > 0.0).all()
    assert climbed[1].size > 5

    found = find_modes(problem, Target.ML, rng, n_starts=4, hierarchical=True).best
    top = mixture_of(problem, found.vector)
    again = climb_factors(problem, sample, top, Target.ML)  # there EM stays
    assert again is not None
    assert again[1][-1] - again[1][0] < 1e-3
    cells = (table.to_numpy() - problem.center) / problem.unit
    due = densities(cells, given / problem.unit, top).sum()
    assert found.objective == pytest.approx(due - problem.log_volume, rel=1e-9)
    for _ in range(8):
        means = top.means + 1e-2 * rng.normal(size=top.means.shape)
        factors = top.factors * np.exp(1e-2 * rng.normal(size=top.factors.shape))
        assert densities(cells, given / problem.unit, Factored(top[0], means, factors)).sum() < due


@pytest.mark.parametrize("method", ["map", "ml", "laplace", "advi"])
def test_every_method_fits(table: pd.DataFrame, method: str, tmp_path: Any) -> None:
    tree = bg.fit(
        table, of(Q, K, structure="tied"), method=method, draws=50, chains=1, random_seed=1,
        progressbar=False,
    )  # fmt: skip
    labels = made(np.random.default_rng(1), N, D, Q, K)[1]
    found = bg.predict(tree).values
    assert max((found == labels).mean(), (found != labels).mean()) > 0.9
    bg.save(tree, tmp_path / "fit.nc")
    assert bg.load(tmp_path / "fit.nc").identical(tree)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of few draws, and of outlying rows
def test_what_reads_a_fit_takes_missing_cells(tree: xr.DataTree, table: pd.DataFrame) -> None:
    posterior = tree["posterior"].to_dataset().isel(chain=0, draw=0)
    loadings, noise = posterior["loadings"].values, posterior["noise_scales"].values
    one = Factored(
        np.log(posterior["weights"].values), posterior["means"].values, joined(loadings, noise)
    )
    due = densities(table.to_numpy(), np.zeros(table.shape), one)
    stored = tree["log_likelihood"]["X"].isel(chain=0, draw=0)
    np.testing.assert_allclose(stored.values, due, rtol=1e-8)
    every = np.exp(tree["log_likelihood"]["X"]).mean(("chain", "draw"))
    np.testing.assert_allclose(bg.score_samples(tree), np.log(every), rtol=1e-8)
    assert bg.loo(tree).elpd < float(bg.score_samples(tree).sum())
    assert bg.similarity(tree).shape == (N, N)
    scores = bg.project(tree.isel(chain=[0], draw=[0]))["sd"].values
    holed = table.isna().any(axis=1).to_numpy()  # the less is seen, the less is known of scores
    assert (scores[holed].min(axis=0) >= scores[~holed].max(axis=0) - 1e-12).all()
    assert scores[holed].max() > 1.5 * scores[~holed].min()
    assert int(bg.partition(tree, random_seed=1).max()) == 1
    some = tree.isel(obs=[50, 0, 9])
    np.testing.assert_allclose(
        bg.predict_proba(some), bg.predict_proba(tree).isel(obs=[50, 0, 9]), rtol=1e-10
    )


def test_evidence_is_that_of_laplace_where_rows_are_many() -> None:
    X = made(np.random.default_rng(5), 200, 3, 1, 1)[0]
    X[np.random.default_rng(6).random(X.shape) < 0.2] = np.nan
    X = X[~np.isnan(X).all(axis=1)]
    tree = bg.fit(X, of(1, 1), draws=500, chains=2, random_seed=1, progressbar=False)
    found = bg.log_evidence(tree, random_seed=1)
    assert found.error < 0.2
    assert found.value == pytest.approx(found.laplace, abs=1.5)


def test_intervals_of_missing_cells_hold_what_they_say() -> None:
    rng = np.random.default_rng(3)
    X = made(rng, 200, 30, 2, 2)[0]
    holes = rng.random(X.shape) < 0.3
    tree = bg.fit(
        np.where(holes, np.nan, X), of(2, 2), draws=100, chains=1, random_seed=1, progressbar=False
    )
    found = bg.impute(tree, random_seed=1)
    low, high = np.moveaxis(found["interval"].values, -1, 0)
    inside = (low <= X) & (high >= X)
    due = found.attrs["ci_prob"]
    # rows are independent given the parameters, their cells are not
    excess = np.where(holes, inside - due, 0.0).sum(axis=1)
    error = np.sqrt(np.square(excess).sum()) / holes.sum()
    assert inside[holes].mean() == pytest.approx(due, abs=5.0 * error)
    assert 5.0 * error < 0.05
    spread = X[:, None] - X[None]  # of cells without what the others tell of them
    apart = (high - low)[holes].mean() / np.abs(spread).mean()
    assert apart < 1.0


def test_noise_is_found_without_the_errors() -> None:
    rng = np.random.default_rng(4)
    X = made(rng, 1500, 6, 1, 1)[0]
    errors = rng.uniform(0.2, 1.0, X.shape)
    spec, noisy = of(1, 1), X + errors * rng.normal(size=X.shape)
    noise = [
        bg.fit(data, spec, method="ml", measurement_error=given, random_seed=1, progressbar=False)[
            "posterior"
        ]["noise_scales"].values.ravel()
        for data, given in ((X, None), (noisy, errors), (noisy, None))
    ]
    np.testing.assert_allclose(noise[1], noise[0], atol=0.1)
    assert (noise[2] > noise[0] + 0.2).all()


def test_errors_of_zero_are_none(whole: Array) -> None:
    n_parameters = Problem.make(of(Q, K), prepare(whole)).n_parameters
    vector = 0.3 * np.random.default_rng(1).normal(size=n_parameters)
    plain, zero = (
        Problem.make(of(Q, K), prepare(whole, measurement_error=errors)).log_posterior(vector)
        for errors in (None, np.zeros(whole.shape))
    )
    assert zero[0] == pytest.approx(plain[0], rel=1e-12)
    np.testing.assert_allclose(zero[1], plain[1], rtol=1e-9)


def test_correlated_errors_are_refused(whole: Array) -> None:
    with pytest.raises(
        ValueError, match=r"must be standard deviations.*got covariance matrices, shape \(120, 6, 6"
    ):
        bg.fit(whole, of(Q, K), measurement_error=np.tile(np.eye(D), (N, 1, 1)))
