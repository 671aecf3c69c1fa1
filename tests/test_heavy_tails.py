"""Mixtures of Student's t from end to end: outliers, other functions, and what is refused."""

from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import integrate, stats

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.data import prepare
from bayesgmm.problem import Problem
from bayesgmm.tree import _OF_HEAVY_TAILS
from tests.test_model import agree_with_the_fused_density

type Array = NDArray[np.float64]

QUIET: dict[str, Any] = {"progressbar": False, "random_seed": 1}
SHORT = QUIET | {"draws": 200, "chains": 2}

ALL_DEGREES = pytest.mark.parametrize(
    "df", [4.0, (2.0, 7.0), bg.GammaDegrees(), bg.GammaDegrees(shared=True)]
)


def two_clusters(rng: np.random.Generator, n_each: int = 100) -> Array:
    return np.concatenate([
        rng.normal(size=(n_each, 2)), [5.0, 4.0] + 0.7 * rng.normal(size=(n_each, 2))
    ])  # fmt: skip


def with_outliers(rng: np.random.Generator, X: Array) -> Array:
    """Return rows with 5 % gross outliers more."""
    return np.concatenate([X, rng.uniform(-40.0, 40.0, size=(len(X) // 20, 2))])


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    X = with_outliers(np.random.default_rng(1), two_clusters(np.random.default_rng(2)))
    return bg.fit(X, bg.StudentTMixture(2), **SHORT)


@pytest.fixture(scope="module")
def single() -> xr.DataTree:
    """The mode of one component with known degrees of freedom: a law that scipy has."""
    X = np.random.default_rng(3).standard_t(3.0, (80, 2)) @ [[2.0, 0.0], [1.0, 0.5]]
    return bg.fit(X, bg.StudentTMixture(1, df=3.0), method="map", **QUIET)


def law(tree: xr.DataTree) -> Any:
    """Return the fitted component of `single`."""
    of = tree.posterior.isel(chain=0, draw=0, component=0)
    return stats.multivariate_t(of["means"].values, of["covariances"].values, 3.0)


def test_outliers_move_means_by_less_than_their_posterior_sd() -> None:
    X = two_clusters(np.random.default_rng(2))
    more = with_outliers(np.random.default_rng(1), X)
    moved = {}
    for name, spec in {"t": bg.StudentTMixture(2), "normal": bg.GaussianMixture(2)}.items():
        clean, spoilt = bg.fit(X, spec, **SHORT), bg.fit(more, spec, **SHORT)
        sample = ["chain", "draw"]
        gap = (spoilt.posterior["means"] - clean.posterior["means"]).mean(sample)
        moved[name] = np.abs(gap / clean.posterior["means"].std(sample)).max().item()
    assert moved["t"] < 1.0
    assert moved["normal"] > 10.0


@ALL_DEGREES
@pytest.mark.parametrize("structure", ["full", "tied", "tied_correlation", "spherical"])
def test_the_gradient_is_that_of_a_difference(
    df: Any, structure: str, rng: np.random.Generator
) -> None:
    X = two_clusters(rng, 15)
    X[0, 0], X[20:24, 1] = np.nan, np.nan
    spec = bg.StudentTMixture(2, df=df, covariance=bg.LKJCovariance(structure=structure))
    problem = Problem.make(spec, prepare(X, sample_weight=rng.random(30)))
    vector = 0.3 * rng.normal(size=problem.n_parameters)
    _, gradient = problem.log_posterior(vector)
    steps = 1e-5 * np.eye(vector.size)
    due = [
        (problem.log_posterior(vector + step)[0] - problem.log_posterior(vector - step)[0]) / 2e-5
        for step in steps
    ]
    np.testing.assert_allclose(gradient, due, rtol=1e-6, atol=1e-6)
    back = problem.vectors(problem.constrain(vector[None]))[0]
    np.testing.assert_allclose(back, vector, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "df", [(2.0, 7.0), bg.GammaDegrees(), bg.GammaDegrees(shared=True)], ids=str
)
def test_pymc_has_the_same_density_and_gradient(df: Any, rng: np.random.Generator) -> None:
    spec = bg.StudentTMixture(2, df=df)
    agree_with_the_fused_density(rng, two_clusters(rng, 10), spec)


def test_the_program_draws_what_it_says() -> None:
    import pymc as pm

    X = np.random.default_rng(1).standard_t(3.0, (50, 1))
    spec = bg.StudentTMixture(
        1, df=1.5, means=bg.NormalMeans(0.0, 1e-3), covariance=bg.LKJCovariance(scale=1.0)
    )
    with bg.build_model(spec, X):
        prior = pm.sample_prior_predictive(
            200, random_seed=1, compile_kwargs={"mode": "FAST_COMPILE"}
        )
    scale = prior.prior["scales"].values.reshape(200, 1)
    standard = prior.prior_predictive["X"].values.reshape(200, 50) / scale
    assert stats.kstest(standard.ravel(), stats.t(1.5).cdf).pvalue > 1e-4


def test_a_weight_is_as_many_rows(rng: np.random.Generator) -> None:
    X = two_clusters(rng, 20)
    spec = bg.StudentTMixture(2).resolve(X)
    weights = np.ones(len(X))
    weights[:7] = 2.0
    one = Problem.make(spec, prepare(X, sample_weight=weights))
    other = Problem.make(spec, prepare(np.concatenate([X, X[:7]])))
    vector = rng.normal(size=one.n_parameters)
    there = other.vectors(one.constrain(vector[None]))[0]  # the two are standardised differently
    np.testing.assert_allclose(
        one.log_posterior(vector)[0], other.log_posterior(there)[0], rtol=1e-10
    )


@pytest.mark.parametrize("method", ["ml", "map", "laplace", "fullrank_advi", "advi"])
@ALL_DEGREES
def test_every_method_finds_the_clusters(df: Any, method: str) -> None:
    X = with_outliers(np.random.default_rng(1), two_clusters(np.random.default_rng(2)))
    fitted = bg.fit(X, bg.StudentTMixture(2, df=df), method=method, **SHORT)
    means = fitted.posterior["means"].mean(["chain", "draw"]).values
    np.testing.assert_allclose(means, [[0.0, 0.0], [5.0, 4.0]], atol=0.5)
    assert fitted.posterior[names.DF].dims == ("chain", "draw", "component")
    if isinstance(df, float | tuple):
        assert (fitted.posterior[names.DF].values == np.asarray(df)).all()


def test_known_labels_name_components() -> None:
    X = two_clusters(np.random.default_rng(2))
    labels = np.full(len(X), -1)
    labels[[0, -1]] = [1, 0]
    fitted = bg.fit(X, bg.StudentTMixture(2), labels=labels, method="map", **QUIET)
    np.testing.assert_allclose(fitted.posterior["means"][0, 0, 1], [0.0, 0.0], atol=0.5)


def test_a_fit_comes_back_from_its_file(tree: xr.DataTree, tmp_path: Any) -> None:
    for name in ("fit.nc", "fit.zarr"):
        bg.save(tree, tmp_path / name)
        assert bg.load(tmp_path / name).identical(tree)
    changed = tree.copy()
    changed["posterior"] = tree["posterior"].to_dataset().drop_vars(names.DF)
    with pytest.raises(ValueError, match="StudentTMixture without 'df'"):
        bg.save(changed, tmp_path / "other.nc")


def test_densities_and_marginals_are_those_of_scipy(single: xr.DataTree) -> None:
    rows = np.array([[0.0, 0.0], [3.0, -2.0], [50.0, 50.0]])
    np.testing.assert_allclose(bg.score_samples(single, rows), law(single).logpdf(rows), rtol=1e-9)
    of = law(single)
    for axis, feature in enumerate(("x0", "x1")):
        one = stats.t(3.0, of.loc[axis], np.sqrt(of.shape[axis, axis]))
        found = bg.score_samples(bg.marginal(single, feature), rows[:, [axis]])
        np.testing.assert_allclose(found, one.logpdf(rows[:, axis]), rtol=1e-9)
        curve = bg.density(single, {feature: rows[:, axis]}).sel(statistic="predictive")
        np.testing.assert_allclose(curve, one.pdf(rows[:, axis]), rtol=1e-9)


def test_new_rows_have_the_tails(single: xr.DataTree) -> None:
    drawn = bg.sample_posterior_predictive(single, 4000, random_seed=1)["X"].values[0, 0]
    of = law(single)
    gap = np.linalg.solve(np.linalg.cholesky(of.shape), (drawn - of.loc).T)
    assert stats.kstest((gap**2).sum(axis=0) / 2.0, stats.f(2, 3.0).cdf).pvalue > 1e-4


def test_outlier_scores_are_the_tail_probabilities(single: xr.DataTree) -> None:
    of = law(single)
    rows = of.loc + np.array([[0.5, 0.2], [4.0, 1.0], [100.0, 30.0]])
    gap = np.linalg.solve(np.linalg.cholesky(of.shape), (rows - of.loc).T)
    due = stats.f(2, 3.0).sf((gap**2).sum(axis=0) / 2.0)
    found = bg.outlier_score(single, rows, random_seed=1)
    assert (np.abs(found["score"] - due) < 5.0 * found["score_error"] + 1e-3 * due).all()


def test_missing_cells_are_drawn_from_the_conditional_t(single: xr.DataTree) -> None:
    of, n = law(single), 4000
    rows = np.tile([[8.0, np.nan]], (2, 1))
    drawn = bg.impute(single, rows, draws=n, random_seed=1)["X"].values[:, 0, 1]
    gap = 8.0 - of.loc[0]
    middle = of.loc[1] + of.shape[1, 0] / of.shape[0, 0] * gap
    rest = of.shape[1, 1] - of.shape[1, 0] ** 2 / of.shape[0, 0]
    width = np.sqrt(rest * (3.0 + gap**2 / of.shape[0, 0]) / 4.0)
    assert stats.kstest(drawn, stats.t(4.0, middle, width).cdf).pvalue > 1e-4


def test_the_evidence_is_that_of_a_sum() -> None:
    x = np.random.default_rng(1).standard_t(3.0, (25, 1))
    spec = bg.StudentTMixture(1, df=3.0).resolve(x)
    tree = bg.fit(x, spec, **QUIET)
    (middle,), (spread,) = spec.means.location, spec.means.scale
    (tau,) = spec.covariance.scale
    mean, scale = np.linspace(-2.0, 2.0, 301), np.linspace(0.2, 4.0, 301)
    of_rows = stats.t(3.0, mean[:, None, None], scale[:, None]).logpdf(x[:, 0]).sum(axis=-1)
    prior = stats.norm(middle, spread).logpdf(mean)[:, None] + stats.halfnorm(0.0, tau).logpdf(
        scale
    )
    top = (of_rows + prior).max()
    inner = integrate.simpson(np.exp(of_rows + prior - top), x=scale)
    due = top + np.log(integrate.simpson(inner, x=mean))
    found = bg.log_evidence(tree, random_seed=1)
    assert found.error < 0.1
    assert abs(found.value - due) < 5.0 * found.error + 1e-3


def test_rows_are_simulated_with_tails() -> None:
    spec = bg.StudentTMixture(
        2, df=bg.GammaDegrees(3.0, 0.5), means=bg.NormalMeans(0.0, 1.0),
        covariance=bg.LKJCovariance(scale=1.0),
    )  # fmt: skip
    drawn = bg.simulate(spec, 10, n_features=1, draws=2000, random_seed=1)
    assert drawn["df"].dims == ("chain", "draw", "component")
    assert stats.kstest(drawn["df"].values.ravel(), stats.gamma(3.0, scale=2.0).cdf).pvalue > 1e-4
    of_rows = drawn.isel(feature=0).isel(component=drawn["labels"])
    z = (drawn["X"].isel(feature=0) - of_rows["means"]) / of_rows["scales"]
    uniform = stats.t(of_rows["df"]).cdf(z)
    assert stats.kstest(uniform.ravel(), "uniform").pvalue > 1e-4


def test_summary_tells_of_degrees_of_freedom_that_are_learnt(tree: xr.DataTree) -> None:
    assert [name for name in bg.summary(tree).index if name.startswith("df")] == ["df[0]", "df[1]"]


def test_components_are_compared_with_normal_ones(tree: xr.DataTree) -> None:
    X = tree.observed_data["X"]
    normal = bg.fit(X, 2, **SHORT)
    table = bg.compare({"t": tree, "normal": normal})
    assert table.index[0] == "t"


@pytest.mark.parametrize(
    "call",
    [
        lambda tree: bg.conditional(tree, {"x0": 1.0}),
        lambda tree: bg.regress(tree, "x1"),
        lambda tree: bg.cdf(tree, [0.0]),
        lambda tree: bg.quantile(tree, 0.5),
        bg.merge_components,
        bg.overlap,
        bg.density_modes,
        lambda tree: bg.average({2: tree}),
        lambda tree: bg.update(tree, tree.observed_data["X"]),
        lambda tree: bg.fit_online([tree.observed_data["X"]], tree),
        lambda tree: bg.plot_merge(tree),
        lambda tree: bg.plot_modes(tree),
    ],
)
def test_what_is_for_normal_components_refuses_others(call: Any, tree: xr.DataTree) -> None:
    with pytest.raises(ValueError, match=r"must be a fit of Normal components .* StudentTMixture"):
        call(tree)


def test_what_knows_of_tails_is_public() -> None:
    assert set(bg.__all__) >= _OF_HEAVY_TAILS


def test_what_cannot_be_fitted_is_refused() -> None:
    X = two_clusters(np.random.default_rng(1), 10)
    with pytest.raises(ValueError, match=r"`measurement_error` must be left out .* \(20, 2\)"):
        bg.fit(X, bg.StudentTMixture(2), measurement_error=np.full(X.shape, 0.1))
    with pytest.raises(ValueError, match="`spec` must be a GaussianMixture, whose batches"):
        bg.fit_online([X], bg.StudentTMixture(2))
    sparse = bg.StudentTMixture(4, weights=bg.SparseDirichlet())
    with pytest.raises(ValueError, match=r"`weights` must be a Dirichlet for a StudentTMixture"):
        bg.fit(X, sparse)


def test_a_variable_called_df_is_refused() -> None:
    import pymc as pm

    X = two_clusters(np.random.default_rng(1), 10)
    with bg.build_model(2, X) as model:
        pm.Gamma("df", 2.0, 1.0)
    with pytest.raises(ValueError, match="without a variable 'df'"):
        bg.fit(X, model, **SHORT)
