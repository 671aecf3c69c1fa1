"""Fits of data with missing cells and measurement errors, by every method."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.data import prepare
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Target
from bayesgmm.kernels.posterior import log_posterior
from bayesgmm.posterior_density import subset, whole
from bayesgmm.problem import Problem
from bayesgmm.tree import parameters
from tests.kernels.oracle import Mixture
from tests.kernels.partly_seen import KINDS, Seen, naive_moments, partly_seen

METHODS = ("ml", "map", "laplace", "advi", "fullrank_advi", "nuts")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Two clusters in three features, a fourth of the cells missing."""
    rng = np.random.default_rng(5)
    labels = rng.integers(2, size=150)
    X = rng.normal(size=(150, 3)) @ np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.4], [0.0, 0.0, 0.7]])
    X += 5.0 * labels[:, None]
    X[rng.random(X.shape) < 0.25] = np.nan
    frame = pd.DataFrame(100.0 + X * [1.0, 10.0, 0.1], columns=["a", "b", "c"])
    return frame[frame.notna().any(axis=1)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("structure", ["full", "tied_correlation", "tied_spherical"])
def test_the_posterior_is_prior_times_naive_likelihood(
    kind: str, structure: str, rng: np.random.Generator
) -> None:
    mixture = Mixture(np.log([0.4, 0.6]), rng.normal(size=(2, 3)), np.stack([np.eye(3)] * 2))
    seen = partly_seen(rng, mixture, 80, kind)
    cells, errors = 7.0 + 3.0 * seen.cells, seen.errors
    if errors is not None:
        errors = errors * (3.0 if errors.ndim == 2 else 9.0)
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(cells, measurement_error=errors))
    vector = 0.3 * rng.normal(size=problem.n_parameters)
    drawn = problem.constrain(vector[None])
    factors = np.linalg.cholesky(drawn.covariances[0])
    one = Mixture(np.log(drawn.weights[0]), drawn.means[0], factors)
    for row_weights in (np.empty(0), rng.uniform(0.5, 2.0, 80)):
        likelihood = naive_moments(Seen(cells, errors), one, row_weights)[0].value
        flat = problem.pack(problem.rows, row_weights, prior=True)
        value, gradient = evaluated(flat, vector)
        prior, _ = evaluated(problem.pack(problem.rows, np.zeros(80), prior=True), vector)
        np.testing.assert_allclose(value - prior, likelihood, rtol=1e-10)
        h = 1e-5
        slopes = [
            (evaluated(flat, vector + step)[0] - evaluated(flat, vector - step)[0]) / (2.0 * h)
            for step in h * np.eye(vector.size)
        ]
        np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-7 * np.abs(gradient).max())


def evaluated(flat: np.ndarray, vector: np.ndarray) -> tuple[float, np.ndarray]:
    gradient = np.full_like(vector, np.nan)
    return log_posterior(vector, flat, gradient), gradient


@pytest.mark.parametrize("method", METHODS)
def test_every_method_fits_and_everything_follows(method: str, table: pd.DataFrame) -> None:
    errors = pd.DataFrame(0.2, table.index, table.columns) * [1.0, 10.0, 0.1]
    tree = bg.fit(
        table, 2, method=method, measurement_error=errors, draws=100, chains=2, random_seed=1,
        progressbar=False,
    )  # fmt: skip
    means = tree.posterior.means.mean(("chain", "draw"))
    np.testing.assert_allclose(means.sel(feature="b"), [100.0, 150.0], atol=6.0)
    stored = tree.constant_data.measurement_error
    assert stored.dims == ("obs", "feature")
    np.testing.assert_array_equal(stored.values, errors.where(table.notna(), 0.0))
    np.testing.assert_array_equal(tree.observed_data.X.values, table.to_numpy())
    density = tree.log_likelihood.X.isel(chain=0, draw=0).values
    drawn = parameters(tree)
    factors = np.linalg.cholesky(drawn.covariances[0])
    one = Mixture(np.log(drawn.weights[0]), drawn.means[0], factors)
    _, wanted = naive_moments(Seen(table.to_numpy(), errors.to_numpy()), one, np.empty(0))
    np.testing.assert_allclose(density, wanted, rtol=1e-8)
    every = np.exp(tree.log_likelihood.X).mean(("chain", "draw"))
    np.testing.assert_allclose(bg.score_samples(tree), np.log(every), rtol=1e-8)
    proba = bg.predict_proba(tree)
    assert proba.obs.values.tolist() == table.index.tolist()
    some = tree.isel(obs=[5, 0, 9])
    np.testing.assert_allclose(bg.predict_proba(some), proba.isel(obs=[5, 0, 9]), rtol=1e-10)
    assert np.abs(bg.predict_proba(tree, table) - proba).max() > 1e-9  # those are without error


@pytest.mark.filterwarnings("ignore:The Pareto shape")
def test_what_reads_a_fit_takes_missing_cells(table: pd.DataFrame, tmp_path: Any) -> None:
    fits = {
        name: bg.fit(table, k, draws=300, random_seed=1, progressbar=False)
        for k, name in ((1, "one"), (2, "two"))
    }
    tree = fits["two"]
    assert bool(bg.check(tree))
    elpd = [bg.loo(fit).elpd for fit in fits.values()]
    assert elpd[1] > elpd[0] + 20.0
    evidence = [bg.log_evidence(fit, random_seed=1) for fit in fits.values()]
    assert evidence[0].data == evidence[1].data
    assert all(abs(one.value - one.laplace) < 2.0 for one in evidence)
    labels = bg.partition(tree, random_seed=1)
    assert int(labels.max()) == 1
    assert bg.align(bg.align(tree, "none")).posterior.identical(tree.posterior)
    assert bg.uncertainty(tree).sizes["obs"] == len(table)
    assert bg.similarity(tree).shape == (len(table), len(table))
    assert bg.alignment_report(tree).trusted.all()
    assert bg.merge_components(tree).sizes["component"] == 2
    bg.save(tree, tmp_path / "fit.nc")
    loaded = bg.load(tmp_path / "fit.nc")
    assert loaded.identical(tree)
    xr.testing.assert_identical(bg.score_samples(loaded), bg.score_samples(tree))
    one_cell = pd.DataFrame({"a": [np.nan], "b": [101.0], "c": [np.nan]})
    assert bg.predict(tree, one_cell).values.tolist() == [0]


def test_information_criteria_are_of_the_cells_that_are_seen(table: pd.DataFrame) -> None:
    tree = bg.fit(table, 2, method="ml", random_seed=1, progressbar=False)
    likelihood = float(tree.log_likelihood.X.sum())
    np.testing.assert_allclose(bg.aic(tree), 2.0 * 19 - 2.0 * likelihood, rtol=1e-10)


def test_some_rows_stand_for_all(table: pd.DataFrame, rng: np.random.Generator) -> None:
    """As in ADVI of many rows: at the mode value, gradient and curvature are those of all."""
    problem = Problem.make(bg.GaussianMixture(2), prepare(pd.concat([table] * 4)))
    mode = find_modes(problem, Target.MAP, rng, n_starts=2, hierarchical=False).best.vector
    everything = whole(problem)
    part, _ = subset(problem, mode, np.eye(mode.size), 100, rng)
    for one, other in zip(part(mode[None]), everything(mode[None]), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-6)


def test_cells_missing_do_not_move_the_fit_of_the_others(rng: np.random.Generator) -> None:
    """A feature that nothing depends on: rows in which it is missing lose nothing else."""
    X = np.concatenate([rng.normal(size=(300, 1)), rng.normal(size=(300, 1))], axis=1)
    holes = X.copy()
    holes[::3, 1] = np.nan
    spec = bg.GaussianMixture(1, covariance=bg.LKJCovariance(structure="diag"))
    one, other = (
        bg.fit(data, spec, method="ml", random_seed=1, progressbar=False).posterior
        for data in (X, holes)
    )
    for name in ("means", "scales"):
        a, b = one[name].values[0, 0, 0], other[name].values[0, 0, 0]
        np.testing.assert_allclose(a[0], b[0], rtol=1e-7, atol=1e-9)
    seen = np.delete(X[:, 1], np.s_[::3])
    np.testing.assert_allclose(other["means"].values[0, 0, 0, 1], seen.mean(), rtol=1e-7)
    np.testing.assert_allclose(other["scales"].values[0, 0, 0, 1], seen.std(), rtol=1e-6)


def test_deconvolution_recovers_the_covariance_without_errors(rng: np.random.Generator) -> None:
    """Two components, errors as large as they are, of another shape in every row."""
    true = np.array([[1.0, 0.8], [0.8, 1.0]])
    n = 400
    labels = rng.integers(2, size=n)
    x = 6.0 * labels[:, None] + rng.normal(size=(n, 2)) @ np.linalg.cholesky(true).T
    factors = np.array([[1.2, 0.0], [-0.6, 0.6]]) * rng.uniform(0.5, 1.5, (n, 1, 1))
    noise = factors @ np.swapaxes(factors, 1, 2)
    X = x + np.einsum("nde,ne->nd", factors, rng.normal(size=(n, 2)))
    fits = {}
    for name, error in (("with", noise), ("without", None)):
        fits[name] = bg.fit(
            X,
            2,
            method="laplace",
            measurement_error=error,
            draws=250,
            random_seed=1,
            progressbar=False,
        ).posterior.covariances
    mean, sd = (getattr(fits["with"], how)(("chain", "draw")) for how in ("mean", "std"))
    assert (np.abs(mean - true) < 4.5 * sd).all()
    assert (sd < 0.4).all()
    ignored = fits["without"].mean(("chain", "draw"))
    assert (np.abs(ignored - true) > 6.0 * fits["without"].std(("chain", "draw"))).any()


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (
            bg.GaussianMixture(bg.PriorOnComponents()),
            {},
            "`X` must have a number in every cell where components",
        ),
        (2, {"engine": "pymc"}, r"`engine` must be 'auto' or 'fused'.* got PyMC's engine"),
        (2, {"measurement_error": [[1.0]]}, r"`measurement_error` must have the shape"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    table: pd.DataFrame, spec: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        bg.fit(table, spec, progressbar=False, **arguments)


def test_a_search_of_some_rows_keeps_their_holes(rng: np.random.Generator) -> None:
    """With more than 10,000 rows modes are looked for among 5,000."""
    labels = rng.integers(2, size=12_000)
    X = rng.normal(size=(12_000, 2)) + 6.0 * labels[:, None]
    X[rng.random(12_000) < 0.3, 1] = np.nan
    problem = Problem.make(bg.GaussianMixture(2), prepare(X))
    mode = find_modes(problem, Target.MAP, rng, n_starts=3, hierarchical=False).best
    order = mode.parameters.means[0, :, 0].argsort()
    np.testing.assert_allclose(mode.parameters.means[0][order], [[0, 0], [6, 6]], atol=0.1)
