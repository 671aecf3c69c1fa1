"""Mixtures of factor analysers: the specification, PyMC's program, fits and what takes them."""

import json
import re
from collections.abc import Callable
from typing import Any

import dask.array
import numpy as np
import pytensor
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Target
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.kernels.factor_loadings import places_of
from bayesgmm.model import build_model
from bayesgmm.problem import Problem
from bayesgmm.tree import FactorParameters
from tests.pymc_models import PYTHON

type Array = NDArray[np.float64]


def made(
    rng: np.random.Generator, n_obs: int, d: int, q: int, k: int
) -> tuple[Array, NDArray[np.int64], Array]:
    """Return rows of factor analysers well apart, their components, and the loadings."""
    means = 3.0 * rng.normal(size=(k, d))
    loadings, noise = rng.normal(size=(k, d, q)), rng.uniform(0.3, 0.6, (k, d))
    labels = rng.integers(k, size=n_obs)
    scores = rng.normal(size=(n_obs, q))
    X = means[labels] + np.einsum("ndq,nq->nd", loadings[labels], scores)
    return X + noise[labels] * rng.normal(size=X.shape), labels, loadings


def of(q: int, k: int, **others: Any) -> bg.GaussianMixture:
    return bg.GaussianMixture(k, covariance=bg.FactorCovariance(q, **others))


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    X = made(np.random.default_rng(1), 120, 5, 2, 2)[0]
    return bg.fit(X, of(2, 2), draws=200, chains=2, random_seed=1, progressbar=False)


def with_matrices(tree: xr.DataTree) -> xr.DataTree:
    """Return the same draws as those of a fit with covariance matrices."""
    posterior = tree["posterior"].to_dataset()
    loadings, noise = posterior["loadings"].values, posterior["noise_scales"].values
    covariances = loadings @ loadings.mT + np.eye(noise.shape[-1]) * (noise**2)[..., None]
    scales = np.sqrt(np.einsum("...dd->...d", covariances))
    labels = ("feature2", posterior["feature"].values)
    dims = ("chain", "draw", "component", "feature", "feature2")
    plain = posterior.drop_dims("factor").drop_vars("noise_scales").assign_coords(feature2=labels)
    plain["correlations"] = dims, covariances / scales[..., None] / scales[..., None, :]
    plain["covariances"] = dims, covariances
    result = tree.copy()
    result["posterior"] = xr.DataTree(plain)
    del result["modes"]
    spec = bg.GaussianMixture(2).resolve(tree["observed_data"]["X"].values)
    result.attrs["specification"] = json.dumps(spec.to_dict())
    return result


def test_specification_is_printed_and_kept() -> None:
    spec = of(2, 3, structure="tied", scale=1.0, loading_scale=0.5, floor=0.01)
    assert repr(spec) == (
        "GaussianMixture: 3 components, factor analysers, structure 'tied'\n"
        "  weights       ~ Dirichlet(1)\n"
        "  means         ~ Normal(location = midpoint, scale = range)\n"
        "  noise_scales  ~ HalfNormal(scale = 1, floor = 0.01), shared by all components\n"
        "  loadings      ~ Normal(0, scale = 0.5), 2 factors\n"
        "  X             ~ sum over components of weight * Normal(mean, covariance)"
    )
    assert bg.GaussianMixture.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    latex = spec._repr_latex_()
    assert r"\Sigma_k &= W_k W_k^T + \operatorname{diag}(\psi)^2" in latex
    assert r"W_{kdj} &\sim \operatorname{Normal}(0, \lambda_d^2)" in latex
    assert "&psi;" in spec._repr_html_()
    assert "&lambda;" in spec._repr_html_()
    assert "\\" not in spec._repr_html_()


def test_hyperparameters_come_from_the_data(rng: np.random.Generator) -> None:
    X = rng.normal(size=(50, 6)) * np.array([1.0, 10.0, 0.1, 1.0, 1.0, 1.0])
    prior = of(2, 2).resolve(X).covariance
    assert isinstance(prior, bg.FactorCovariance)
    np.testing.assert_allclose(prior.scale, X.std(axis=0))
    np.testing.assert_allclose(prior.loading_scale, X.std(axis=0) / np.sqrt(2.0))
    common = of(1, 2, structure="spherical").resolve(X).covariance
    assert common.scale == pytest.approx(np.sqrt(X.var(axis=0).mean()))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_factors": 0}, ValueError, "`n_factors` must be at least 1; got 0"),
        ({"n_factors": 1.5}, TypeError, "`n_factors` must be an integer; got 1.5"),
        ({"n_factors": 1, "structure": "diag"}, ValueError, "`structure` must be one of 'full'"),
        ({"n_factors": 1, "loading_scale": 0.0}, ValueError, "`loading_scale` must be positive"),
        ({"n_factors": 1, "scale": -1.0}, ValueError, "`scale` must be positive and finite"),
    ],
)
def test_bad_priors_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        bg.FactorCovariance(**arguments)


@pytest.mark.parametrize(("d", "most"), [(2, 0), (3, 1), (4, 1), (5, 2), (10, 6)])
def test_more_factors_than_covariances_can_tell_are_refused(d: int, most: int) -> None:
    if most:
        bg.FactorCovariance(most).check_features(d)
    remedy = f"Give at most {most}, or LKJ" if most else "Use LKJ"
    with pytest.raises(ValueError, match=rf"for D = {d} features.*got {most + 1}\. {remedy}"):
        bg.FactorCovariance(most + 1).check_features(d)


@pytest.mark.parametrize("structure", ["full", "tied", "spherical"])
def test_pymc_has_the_same_density(rng: np.random.Generator, structure: str) -> None:
    X = made(rng, 30, 5, 2, 2)[0]
    spec = of(2, 2, structure=structure, floor=0.01)
    problem = Problem.make(spec, prepare(X))
    layout, vector = problem.layout, 0.5 * rng.normal(size=problem.n_parameters)
    due, due_slopes = problem.log_posterior(vector)
    means, noise, loadings, _ = offsets(layout)
    rows, columns = places_of(5, 2)
    entries = vector[loadings:].reshape(2, -1)
    unit = problem.unit[: layout.scale_columns]
    parts = [
        vector[:means],
        problem.center + problem.unit * vector[means:noise].reshape(2, 5),
        (vector[noise:loadings].reshape(-1, unit.size) + np.log(unit)),
        entries[:, rows != columns],
        entries[:, rows == columns],
    ]
    model = build_model(spec, X)
    assert model.named_vars_to_dims["loadings"] == ("component", "feature", "factor")
    shapes = model.eval_rv_shapes()
    by_name = {
        variable.name: part.reshape(shapes[variable.name])
        for variable, part in zip(model.value_vars, parts, strict=True)
    }
    log_density = model.logp()
    gradients = pytensor.grad(log_density, model.value_vars)
    function = pytensor.function(model.value_vars, [log_density, *gradients], mode=PYTHON)
    got, *slopes = function(*by_name.values())
    assert got == pytest.approx(due, rel=1e-9)
    np.testing.assert_allclose(slopes[0], due_slopes[:means], rtol=1e-7)
    np.testing.assert_allclose(
        slopes[1] * problem.unit, due_slopes[means:noise].reshape(2, 5), rtol=1e-7, atol=1e-8
    )
    np.testing.assert_allclose(slopes[2].ravel(), due_slopes[noise:loadings], rtol=1e-7, atol=1e-8)
    of_entries = due_slopes[loadings:].reshape(2, -1)
    np.testing.assert_allclose(slopes[3], of_entries[:, rows != columns], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(slopes[4], of_entries[:, rows == columns], rtol=1e-6, atol=1e-7)


def test_simulated_mixtures_have_their_covariances() -> None:
    spec = bg.GaussianMixture(
        1, means=bg.NormalMeans(0.0, 1.0), covariance=bg.FactorCovariance(2, 0.5, 1.0)
    )
    data = bg.simulate(spec, 20_000, n_features=5, random_seed=1)
    loadings, noise = data["loadings"].values[0], data["noise_scales"].values[0]
    due = loadings @ loadings.T + np.diag(noise**2)
    scale = np.sqrt(np.diag(due))
    np.testing.assert_allclose(data["scales"].values[0], scale)
    got = np.cov(data["X"].values.T)
    np.testing.assert_allclose(
        got / np.outer(scale, scale), due / np.outer(scale, scale), atol=0.05
    )


@pytest.mark.parametrize("method", ["map", "ml", "laplace", "advi", "nuts"])
def test_every_method_fits_and_is_kept(method: str, tmp_path: Any) -> None:
    X, labels, _ = made(np.random.default_rng(1), 120, 5, 2, 2)
    tree = bg.fit(
        X, of(2, 2, structure="tied"), method=method, draws=50, chains=1, random_seed=1,
        progressbar=False,
    )  # fmt: skip
    assert set(tree["posterior"].data_vars) == set(names.FACTOR_DIMS)
    noise = tree["posterior"]["noise_scales"].transpose(..., "component").values
    np.testing.assert_array_equal(noise[..., 0], noise[..., 1])
    found = bg.predict(tree).values
    assert max((found == labels).mean(), (found != labels).mean()) > 0.95
    bg.save(tree, tmp_path / "fit.nc")
    assert bg.load(tmp_path / "fit.nc").identical(tree)


def test_the_maximum_of_the_likelihood_is_one() -> None:
    X = made(np.random.default_rng(3), 150, 5, 1, 2)[0]
    tree = bg.fit(X, of(1, 2), method="ml", random_seed=1, progressbar=False)
    problem = Problem.of_tree(tree)
    flat = problem.pack(problem.rows, problem.row_weights, prior=False)
    vector = problem.vectors_of(tree)[0]
    from bayesgmm.kernels.target import log_target

    gradient = np.empty_like(vector)
    height = log_target(vector, flat, gradient)
    assert height == pytest.approx(tree["sample_stats"]["lp"].item(), rel=1e-12)
    assert height == pytest.approx(float(bg.score_samples(tree).sum()), rel=1e-10)
    assert np.abs(gradient).max() < 1e-2


def test_factors_of_a_component_are_found(tree: xr.DataTree) -> None:
    X, labels, loadings = made(np.random.default_rng(1), 120, 5, 2, 2)
    means = tree["posterior"]["loadings"].mean(("chain", "draw")).values
    found = bg.predict(tree).values
    for k in range(2):
        true = loadings[np.bincount(labels[found == k]).argmax()]
        bases = (np.linalg.qr(one)[0] for one in (true, means[k]))
        cosines = np.linalg.svd(next(bases).T @ next(bases))[1]
        assert cosines.min() > 0.95, cosines
    assert bg.check(tree).evidence["largest R-hat, label-free"] < 1.05


def test_two_hundred_features_are_fitted() -> None:
    X, labels, loadings = made(np.random.default_rng(2), 150, 200, 3, 2)
    rng = np.random.default_rng(0)
    problem = Problem.make(of(3, 2), prepare(X))
    assert problem.n_parameters == 1 + 400 + 400 + 2 * (600 - 3)
    mode = find_modes(problem, Target.MAP, rng, n_starts=2, hierarchical=False).best
    assert mode.converged
    assert isinstance(mode.parameters, FactorParameters)  # nothing of D x D
    agree_in_subspaces(mode.parameters.weights[0], mode.parameters.loadings[0], labels, loadings)


def agree_in_subspaces(
    weights: Array, found: Array, labels: NDArray[np.int64], loadings: Array
) -> None:
    """Hold that components have their shares of the rows, and span what true loadings do."""
    order = np.array(
        [
            max(
                range(len(loadings)),
                key=lambda j: np.linalg.norm(np.linalg.qr(loadings[j])[0].T @ one),
            )
            for one in found
        ]
    )
    np.testing.assert_allclose(weights, np.bincount(labels)[order] / labels.size, atol=0.02)
    for one, true in zip(found, loadings[order], strict=True):
        cosines = np.linalg.svd(np.linalg.qr(true)[0].T @ np.linalg.qr(one)[0])[1]
        assert cosines.min() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("method", ["map", "nuts"])
def test_two_hundred_features_of_two_thousand_rows_are_fitted(method: str) -> None:
    X, labels, loadings = made(np.random.default_rng(2), 2000, 200, 3, 3)
    tree = bg.fit(
        X, of(3, 3), method=method, draws=200, chains=2, random_seed=1, progressbar=False
    )  # fmt: skip
    posterior = tree["posterior"].to_dataset().mean(("chain", "draw"))
    agree_in_subspaces(
        posterior["weights"].values, posterior["loadings"].values, labels, loadings
    )  # fmt: skip
    if method == "nuts":
        assert bg.check(tree).evidence["largest R-hat, label-free"] < 1.05
        with pytest.warns(UserWarning, match="The Pareto shape k of"):  # so many numbers for a row
            assert np.isfinite(bg.loo(tree).elpd)


def test_weights_of_two_are_rows_repeated() -> None:
    X = made(np.random.default_rng(1), 60, 5, 1, 2)[0]
    once = Problem.make(of(1, 2), prepare(X, sample_weight=np.full(60, 2.0)))
    twice = Problem.make(of(1, 2), prepare(np.concatenate([X, X])))
    vector = 0.3 * np.random.default_rng(2).normal(size=once.n_parameters)
    (one, slopes), (other, due) = once.log_posterior(vector), twice.log_posterior(vector)
    assert one == pytest.approx(other, rel=1e-10)
    np.testing.assert_allclose(slopes, due, rtol=1e-6, atol=1e-7)


def test_known_labels_name_components() -> None:
    X, labels, _ = made(np.random.default_rng(1), 120, 5, 2, 2)
    known = np.where(np.arange(120) % 4 == 0, 1 - labels, -1)
    tree = bg.fit(X, of(2, 2), labels=known, method="map", random_seed=1, progressbar=False)
    np.testing.assert_array_equal(bg.predict(tree, X).values, 1 - labels)


def holed(X: Any) -> Any:
    X = np.array(X, dtype=float)
    X[0, 1], X[3, [0, 2]] = np.nan, np.nan
    return X


TAKEN: dict[str, Callable[[xr.DataTree], Any]] = {
    "predict_proba": bg.predict_proba,
    "missing cells": lambda tree: bg.predict_proba(tree, holed(tree["observed_data"]["X"])),
    "score_samples": bg.score_samples,
    "marginal": lambda tree: bg.predict_proba(bg.marginal(tree, ["x3", "x1"])),
    "wide marginal": lambda tree: bg.predict_proba(bg.marginal(tree, ["x3", "x1", "x0", "x2"])),
    "conditional": lambda tree: bg.predict_proba(bg.conditional(tree, {"x1": 0.5})),
    "regress": lambda tree: bg.regress(tree, tree["observed_data"]["X"][:3, :2]),
    "quantile": lambda tree: bg.quantile(bg.marginal(tree, ["x1"]), [0.1, 0.5]),
    "outlier_score": lambda tree: bg.outlier_score(tree, random_seed=1),
    "overlap": bg.overlap,
    "density": lambda tree: bg.density(tree, {"x0": [0.0, 1.0], "x4": [0.5]}),
    "density_modes": lambda tree: bg.density_modes(tree)[["n_modes"]],
    "similarity": bg.similarity,
    "uncertainty": bg.uncertainty,
    "waic": lambda tree: xr.DataArray(bg.waic(tree).elpd),
    "align": lambda tree: bg.align(tree, "parameters")["alignment"].to_dataset()[["permutation"]],
}  # fmt: skip


@pytest.mark.parametrize("name", list(TAKEN))
@pytest.mark.filterwarnings("ignore::UserWarning")  # of few draws, and of outlying rows
def test_what_takes_a_fit_takes_factors_as_it_takes_matrices(tree: xr.DataTree, name: str) -> None:
    few = tree.isel(draw=slice(0, 20)) if name in ("outlier_score", "density_modes") else tree
    got, due = TAKEN[name](few), TAKEN[name](with_matrices(few))
    xr.testing.assert_allclose(got, due, rtol=1e-8, atol=1e-9)


def test_predictive_rows_have_the_covariances(tree: xr.DataTree) -> None:
    one = tree.isel(chain=[0], draw=[0])
    rows = bg.sample_posterior_predictive(one, 20_000, random_seed=1).isel(chain=0, draw=0)
    posterior = one["posterior"].to_dataset().isel(chain=0, draw=0)
    for k in range(2):
        got = np.cov(rows["X"].values[rows["labels"].values == k].T)
        loadings, scale = posterior["loadings"].values[k], posterior["scales"].values[k]
        due = loadings @ loadings.T + np.diag(posterior["noise_scales"].values[k] ** 2)
        norm = np.outer(scale, scale)
        np.testing.assert_allclose(got / norm, due / norm, atol=0.06)


def test_summary_names_loadings_and_noise(tree: xr.DataTree) -> None:
    rows = bg.summary(tree).index
    assert "noise_scales[0, x4]" in rows
    assert "loadings[1, x2, 1]" in rows
    assert len(rows) == 2 + 10 + 10 + 20
    assert "correlations[0, x0, x2]" in bg.summary(bg.conditional(tree, {"x1": 0.5})).index


def test_raw_draws_come_back_and_agree_again(tree: xr.DataTree) -> None:
    again = bg.align(bg.align(tree, "none"))
    xr.testing.assert_allclose(
        again["posterior"].to_dataset(), tree["posterior"].to_dataset(), rtol=1e-7
    )


def test_evidence_is_that_of_laplace_where_rows_are_many() -> None:
    X = made(np.random.default_rng(5), 200, 3, 1, 1)[0]
    tree = bg.fit(X, of(1, 1), draws=600, chains=2, random_seed=1, progressbar=False)
    found = bg.log_evidence(tree, random_seed=1)
    assert found.error < 0.1
    assert found.value == pytest.approx(found.laplace, abs=1.0)


def test_scores_are_those_of_the_posterior(tree: xr.DataTree) -> None:
    one = tree.isel(chain=[0], draw=[3])
    X = holed(tree["observed_data"]["X"])
    found = bg.project(one, X)
    posterior = one["posterior"].to_dataset().isel(chain=0, draw=0)
    for i, k in ((0, 0), (3, 1), (5, 0)):
        seen = ~np.isnan(X[i])
        loadings = posterior["loadings"].values[k][seen]
        covariance = loadings @ loadings.T + np.diag(posterior["noise_scales"].values[k, seen] ** 2)
        gain = loadings.T @ np.linalg.inv(covariance)
        mean = gain @ (X[i, seen] - posterior["means"].values[k, seen])
        spread = np.eye(2) - gain @ loadings
        np.testing.assert_allclose(found["mean"].values[i, k], mean, rtol=1e-9)
        np.testing.assert_allclose(found["sd"].values[i, k], np.sqrt(np.diag(spread)), rtol=1e-9)
    np.testing.assert_allclose(found["probability"].values, bg.predict_proba(one, X).values)


def test_scores_hold_what_draws_do_not_agree_about(tree: xr.DataTree) -> None:
    some = tree.isel(chain=[0], draw=slice(0, 30))
    drawn = [bg.project(some.isel(draw=[s])) for s in range(30)]
    means = np.stack([one["mean"].values for one in drawn])
    within = np.stack([one["sd"].values ** 2 for one in drawn])
    due = np.sqrt(means.var(axis=0) + within.mean(axis=0))
    np.testing.assert_allclose(bg.project(some)["sd"].values, due, rtol=1e-8)


def test_project_refuses_other_covariances(tree: xr.DataTree) -> None:
    with pytest.raises(
        ValueError, match="must be a fit with a FactorCovariance.*other covariances"
    ):
        bg.project(with_matrices(tree))
    with pytest.raises(ValueError, match=r"a fit with a FactorCovariance.*a part of one"):
        bg.project(bg.marginal(tree, ["x0", "x1"]))


REFUSED: dict[str, tuple[Callable[[Array], Any], str]] = {
    "factors": (lambda X: bg.fit(X, of(3, 2)), "`n_factors` must satisfy.*got 3. Give at most 2"),
    "prior of K": (
        lambda X: bg.fit(
            X, bg.GaussianMixture(bg.PriorOnComponents(), covariance=bg.FactorCovariance(1))
        ),
        "`covariance` must be an LKJCovariance where components may be empty",
    ),
    "sparse": (
        lambda X: bg.fit(
            X,
            bg.GaussianMixture(
                5, weights=bg.SparseDirichlet(0.1), covariance=bg.FactorCovariance(1)
            ),
        ),
        "`covariance` must be an LKJCovariance where components may be empty",
    ),
    "PyMC": (
        lambda X: bg.fit(X, of(1, 2), engine="pymc"),
        "`covariance` must be an LKJCovariance for PyMC's engine",
    ),
    "batches": (
        lambda X: bg.fit_online([X], of(1, 2)),
        "`covariance` must be an LKJCovariance where rows come in batches",
    ),
    "path": (lambda X: bg.em_path(X, of(1, 2)), "`covariance` must be an LKJCovariance for `em_pa"),
    "JAX": (
        lambda X: bg.fit(X, of(1, 2), engine="jax"),
        r"`covariance` must be LKJCovariance for engine 'jax'; got FactorCovariance\(n_factors=1",
    ),
    "blocks": (
        lambda X: bg.fit(dask.array.from_array(X, chunks=(20, 5)), of(1, 2)),
        "and an LKJCovariance where `X` is in blocks of rows.* Dirichlet and FactorCovariance",
    ),
    "tails": (
        lambda X: bg.StudentTMixture(2, covariance=bg.FactorCovariance(1)),
        r"`covariance` must be an LKJCovariance for a StudentTMixture; got FactorCovariance\(",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_factors_do_not_suit_is_refused(rng: np.random.Generator, name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        call(rng.normal(size=(60, 5)))


def test_fits_of_factors_are_not_updated(tree: xr.DataTree) -> None:
    with pytest.raises(ValueError, match="`covariance` must be an LKJCovariance where rows come"):
        bg.update(tree, tree["observed_data"]["X"].values)


@pytest.mark.parametrize("other", ["fewer", "matrices"])
def test_averages_have_the_weighted_density(tree: xr.DataTree, other: str) -> None:
    X = tree["observed_data"]["X"].values
    spec = of(1, 1, structure="tied") if other == "fewer" else 1
    second = bg.fit(X, spec, method="laplace", draws=40, random_seed=1, progressbar=False)
    # of one draw each, many times: which draws an average takes does not matter
    alike = {
        name: one.isel(chain=[0] * 2, draw=[3] * 20)
        for name, one in {"a": tree, "b": second}.items()
    }
    made = bg.average(alike, [0.25, 0.75], random_seed=1)
    each = np.stack([bg.score_samples(one, X).values for one in alike.values()])
    due = logsumexp(each + np.log([[0.25], [0.75]]), axis=0)
    np.testing.assert_allclose(bg.score_samples(made, X), due, rtol=1e-10)
    kept = json.loads(made.attrs["specification"])["covariance"]
    assert kept["structure"] == "full"
    if other == "fewer":
        assert kept["n_factors"] == 2
        assert bg.project(made, X)["mean"].shape == (120, 2, 2)
    else:
        assert "n_factors" not in kept
        assert made["posterior"]["covariances"].shape == (2, 20, 2, 5, 5)


def test_density_is_that_of_scipy(tree: xr.DataTree) -> None:
    one = tree.isel(chain=[0], draw=[0])
    posterior = one["posterior"].to_dataset().isel(chain=0, draw=0)
    X = tree["observed_data"]["X"].values[:4]
    due = np.zeros(4)
    for k in range(2):
        loadings = posterior["loadings"].values[k]
        covariance = loadings @ loadings.T + np.diag(posterior["noise_scales"].values[k] ** 2)
        density = multivariate_normal(posterior["means"].values[k], covariance).pdf(X)
        due += posterior["weights"].values[k] * density
    np.testing.assert_allclose(bg.score_samples(one, X).values, np.log(due), rtol=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*:bayesgmm.errors.ConvergenceWarning")
def test_fits_are_calibrated() -> None:
    spec = bg.GaussianMixture(
        2, means=bg.NormalMeans(0.0, 3.0), covariance=bg.FactorCovariance(1, 1.0, 1.0)
    )
    report = bg.calibrate(
        spec, "nuts", 200, n_obs=40, n_features=4, random_seed=1, progressbar=False
    )
    assert (report["p_value"] > 1e-4).all()
