"""The estimator is what scikit-learn expects, and says what bayesgmm says."""

import pickle
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

import bayesgmm as bg
from bayesgmm import prediction
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.estimator import GaussianMixtureEstimator
from bayesgmm.priors import STRUCTURES

FEW = {"method": "nuts", "draws": 20, "chains": 2}


@pytest.fixture(scope="module")
def faithful() -> pd.DataFrame:
    return bg.datasets.load_faithful()


@pytest.fixture(scope="module")
def by_map(faithful: pd.DataFrame) -> GaussianMixtureEstimator:
    return GaussianMixtureEstimator(2, random_state=1).fit(faithful)


@pytest.fixture(scope="module")
def by_nuts(faithful: pd.DataFrame) -> GaussianMixtureEstimator:
    model = GaussianMixtureEstimator(2, method="nuts", draws=60, chains=2, random_state=1)
    return model.fit(faithful)


def what_checks_pass_is_welcome(test: Callable[..., None]) -> Callable[..., None]:
    """Let through warnings of columns that others determine, and of 9 rows of 30 features."""
    for warning in ("`X` has columns:bayesgmm.Identifiability", "The best of:bayesgmm.Convergence"):
        test = pytest.mark.filterwarnings(f"ignore:{warning}Warning")(test)
    return test


every_method = pytest.mark.parametrize("name", ["by_map", "by_nuts"])


@what_checks_pass_is_welcome
@parametrize_with_checks(
    [
        GaussianMixtureEstimator(),
        GaussianMixtureEstimator(2, covariance="diag"),
        GaussianMixtureEstimator(covariance="diag", method="nuts", draws=4, chains=1),
    ]
)
def test_scikit_learns_checks(
    estimator: Any, check: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # or a check is skipped
    check(estimator)


@what_checks_pass_is_welcome
def test_no_check_is_skipped_or_expected_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    done = check_estimator(GaussianMixtureEstimator(), on_fail="raise")  # a skip warns
    assert {item["status"] for item in done} == {"passed"}
    assert len(done) > 40


@every_method
def test_it_says_what_bayesgmm_says(
    name: str, faithful: pd.DataFrame, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(name)
    options = {"method": "nuts", "draws": 60, "chains": 2} if name == "by_nuts" else {}
    tree = bg.fit(faithful, 2, **({"method": "map"} | options), random_seed=1, progressbar=False)
    xr.testing.assert_identical(model.posterior_["posterior"].ds, tree["posterior"].ds)
    rows = faithful.iloc[::7] + 0.1
    np.testing.assert_array_equal(model.predict(rows), bg.predict(tree, rows))
    np.testing.assert_array_equal(model.predict_proba(rows), bg.predict_proba(tree, rows))
    np.testing.assert_array_equal(model.score_samples(rows), bg.score_samples(tree, rows))
    assert model.score(rows) == bg.score_samples(tree, rows).values.mean()
    for attribute in ("weights", "means", "covariances"):
        mean = tree["posterior"][attribute].mean(("chain", "draw"))
        np.testing.assert_array_equal(getattr(model, f"{attribute}_"), mean)
    assert model.converged_ == (bg.check(tree).ok if name == "by_nuts" else True)


def test_criteria_are_those_of_bayesgmm(
    faithful: pd.DataFrame, by_map: GaussianMixtureEstimator
) -> None:
    tree = bg.fit(faithful, 2, method="map", random_seed=1, progressbar=False)
    assert by_map.bic(faithful) == pytest.approx(bg.bic(tree), rel=1e-12)
    assert by_map.aic(faithful) == pytest.approx(bg.aic(tree), rel=1e-12)
    half = faithful.iloc[:100]
    assert by_map.bic(half) - by_map.aic(half) == pytest.approx(11 * (np.log(100) - 2))


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_maximum_likelihood_is_scikit_learns(covariance: str, faithful: pd.DataFrame) -> None:
    ours = GaussianMixtureEstimator(2, covariance=covariance, method="ml", random_state=1)
    ours.fit(faithful)
    theirs = GaussianMixture(
        2, covariance_type=covariance, tol=1e-12, max_iter=2000, reg_covar=0.0, random_state=1
    ).fit(faithful)
    order = np.argsort(theirs.means_[:, 0])
    assert ours.score(faithful) == pytest.approx(theirs.score(faithful), abs=1e-8)
    np.testing.assert_allclose(ours.weights_, theirs.weights_[order], atol=1e-4)
    np.testing.assert_allclose(ours.means_, theirs.means_[order], rtol=1e-4)
    shares = theirs.predict_proba(faithful)[:, order]
    np.testing.assert_allclose(ours.predict_proba(faithful), shares, atol=1e-3)
    assert ours.bic(faithful) == pytest.approx(theirs.bic(faithful), abs=1e-5)
    assert ours.aic(faithful) == pytest.approx(theirs.aic(faithful), abs=1e-5)


def test_labels_of_rows_and_columns_are_kept(faithful: pd.DataFrame) -> None:
    table = faithful.iloc[::3].set_axis([f"row {i}" for i in range(91)])
    model = GaussianMixtureEstimator(2, random_state=1).fit(table)
    observed = model.posterior_["observed_data"]
    assert observed["obs"].values.tolist() == table.index.tolist()
    assert observed["feature"].values.tolist() == table.columns.tolist()
    bare = GaussianMixtureEstimator(2, random_state=1).fit(table.to_numpy())
    assert bare.posterior_["observed_data"]["feature"].values.tolist() == ["x0", "x1"]
    assert not hasattr(bare, "feature_names_in_")


def test_a_pipeline_with_frames(faithful: pd.DataFrame) -> None:
    pipeline = make_pipeline(StandardScaler(), GaussianMixtureEstimator(2, random_state=1))
    pipeline.set_output(transform="pandas").fit(faithful)
    model = pipeline[-1]
    assert model.feature_names_in_.tolist() == faithful.columns.tolist()
    table = pipeline.transform(faithful)
    assert table.columns.tolist() == ["gaussianmixtureestimator0", "gaussianmixtureestimator1"]
    assert table.index.equals(faithful.index)
    np.testing.assert_array_equal(table, pipeline.predict_proba(faithful))
    np.testing.assert_array_equal(table.to_numpy().argmax(axis=1), pipeline.predict(faithful))
    scaled = pipeline[:-1].transform(faithful)
    assert pipeline.score(faithful) == model.score_samples(scaled).mean()


def test_probabilities_are_features_of_the_next_step(faithful: pd.DataFrame) -> None:
    model = GaussianMixtureEstimator(3, random_state=1)
    pipeline = make_pipeline(model, PCA(2)).fit(faithful)
    assert pipeline.transform(faithful).shape == (272, 2)
    assert pipeline[:-1].get_feature_names_out().tolist() == [
        f"gaussianmixtureestimator{k}" for k in range(3)
    ]


def test_a_grid_search_finds_how_many(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(m, 1.0, (60, 2)) for m in (-6.0, 0.0, 6.0)])
    model = GaussianMixtureEstimator(random_state=1)
    folds = KFold(3, shuffle=True, random_state=1)
    grid = {"n_components": [1, 2, 3], "covariance": ["full", "tied_spherical"]}
    search = GridSearchCV(model, grid, cv=folds).fit(X)
    assert search.best_params_["n_components"] == 3
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(X).shape == (180,)
    scores = [
        bg.score_samples(bg.fit(X[a], 1, method="map", random_seed=1), X[b]).values.mean()
        for a, b in folds.split(X)
    ]
    np.testing.assert_array_equal(cross_val_score(model, X, cv=folds), scores)


@every_method
def test_copies(name: str, faithful: pd.DataFrame, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(faithful), model.predict_proba(faithful))
    np.testing.assert_array_equal(again.sample(5)[0], model.sample(5)[0])
    xr.testing.assert_identical(again.posterior_, model.posterior_)
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    with pytest.raises(NotFittedError, match="not fitted yet"):
        fresh.score(faithful)
    np.testing.assert_array_equal(fresh.fit_predict(faithful), model.predict(faithful))


def test_priors_are_parameters(faithful: pd.DataFrame) -> None:
    parts = {
        "weights": bg.Dirichlet(50.0),
        "means": bg.NormalMeans(scale=1.0),
        "covariance": bg.LKJCovariance(eta=4.0, structure="tied"),
    }
    model = clone(GaussianMixtureEstimator(2, random_state=1, **parts)).fit(faithful)
    tree = bg.fit(
        faithful, bg.GaussianMixture(2, **parts), method="map", random_seed=1, progressbar=False
    )
    np.testing.assert_array_equal(model.means_, tree["posterior"]["means"][0, 0])
    np.testing.assert_array_equal(*model.covariances_)


def test_the_number_of_components_may_have_a_prior(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(m, 1.0, (30, 1)) for m in (-6.0, 6.0)])
    model = GaussianMixtureEstimator(PriorOnComponents(), random_state=1, **FEW).fit(X)
    assert model.predict_proba(X).shape == (60, len(model.weights_))
    assert sorted(np.bincount(model.predict(X)).tolist())[-2:] == [30, 30]
    assert model.sample(7)[0].shape == (7, 1)


@pytest.mark.parametrize("n", [1, 50, 1000])
@every_method
def test_samples(name: str, n: int, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    X, y = model.sample(n)
    assert X.shape == (n, 2)
    assert y.shape == (n,)
    np.testing.assert_array_equal(model.sample(n)[0], X)


@every_method
def test_samples_follow_the_mixture(name: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    X, y = model.sample(20_000)
    posterior = model.posterior_["posterior"].ds
    for k, weight in enumerate(model.weights_):
        chosen = X[y == k]
        assert len(chosen) / 20_000 == pytest.approx(weight, abs=5 * (0.25 / 20_000) ** 0.5)
        means = posterior["means"].sel(component=k)
        total = np.diag(model.covariances_[k]) + means.var(("chain", "draw")).values
        error = (total / len(chosen)) ** 0.5
        np.testing.assert_array_less(np.abs(chosen.mean(axis=0) - model.means_[k]), 5 * error)
        spread = chosen.var(axis=0) / total - 1
        np.testing.assert_array_less(np.abs(spread), 5 * (2 / len(chosen)) ** 0.5)


def test_few_samples_come_from_as_many_draws(
    by_nuts: GaussianMixtureEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    original = prediction.sample_posterior_predictive

    def spy(tree: xr.DataTree, n_obs: int, **options: Any) -> xr.Dataset:
        seen.append((tree["posterior"].sizes["draw"], n_obs))
        return original(tree, n_obs, **options)

    monkeypatch.setattr(prediction, "sample_posterior_predictive", spy)
    for n in (1, 31, 120, 121):
        by_nuts.sample(n)
    assert seen == [(1, 1), (16, 1), (60, 1), (60, 2)]


def test_a_single_sample_may_come_from_any_chain(by_nuts: GaussianMixtureEstimator) -> None:
    model = pickle.loads(pickle.dumps(by_nuts))
    posterior = model.posterior_["posterior"].to_dataset()
    posterior["means"][1] += 1e4
    model.posterior_["posterior"] = xr.DataTree(posterior)
    far = [bool((model.set_params(random_state=i).sample()[0] > 1e3).all()) for i in range(40)]
    assert 5 < sum(far) < 35  # 20, by chance 3 more or less


def test_random_states(faithful: pd.DataFrame) -> None:
    model = GaussianMixtureEstimator(2, **FEW)
    first, again = (
        clone(model).set_params(random_state=np.random.RandomState(1)).fit(faithful).means_
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)
    assert (model.set_params(random_state=2).fit(faithful).means_ != first).all()
    with pytest.raises(ValueError, match="'seed' cannot be used to seed"):
        model.set_params(random_state="seed").fit(faithful)


def test_options_are_passed_on(faithful: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def spy(X: Any, spec: Any, **options: Any) -> xr.DataTree:
        seen.update(options)
        return bg.fit(X, spec, **options)

    monkeypatch.setattr(sys.modules["bayesgmm.estimator"], "fit", spy)
    model = GaussianMixtureEstimator(method="laplace", draws=30, chains=3, random_state=4)
    model.set_params(verbose=True).fit(faithful)
    wanted = {"method": "laplace", "draws": 30, "chains": 3, "random_seed": 4, "progressbar": True}
    assert seen == wanted | {"sample_weight": None}


def test_columns_that_others_determine_are_left_out(rng: np.random.Generator) -> None:
    free = np.concatenate([rng.normal(m, 1.0, (40, 2)) for m in (-3.0, 3.0)])
    a, b = free.T
    table = pd.DataFrame({"one": 1.0, "a": a, "twice": 2 * a + 5, "b": b, "sum": a - 3 * b})
    model = GaussianMixtureEstimator(2, random_state=1)
    with pytest.warns(bg.IdentifiabilityWarning, match=r"determine: 'one', 'twice', 'sum'\."):
        model.fit(table)
    alone = GaussianMixtureEstimator(2, random_state=1).fit(table[["a", "b"]])
    assert model.posterior_["observed_data"]["feature"].values.tolist() == ["a", "b"]
    np.testing.assert_array_equal(
        model.score_samples(table), alone.score_samples(table[["a", "b"]])
    )
    np.testing.assert_array_equal(model.predict(table), alone.predict(table[["a", "b"]]))
    means = alone.means_ @ np.array([[0, 1, 2, 0, 1], [0, 0, 0, 1, -3]]) + [1, 0, 5, 0, 0]
    np.testing.assert_allclose(model.means_, means, rtol=1e-12, atol=1e-12)
    assert model.covariances_.shape == (2, 5, 5)
    np.testing.assert_allclose(
        model.covariances_[:, 4, 4],
        np.einsum("kij,i,j->k", alone.covariances_, [1, -3], [1, -3]),
    )
    X, _ = model.sample(20)
    np.testing.assert_allclose(X[:, [0, 2, 4]].T, [np.ones(20), 2 * X[:, 1] + 5,
                               X[:, 1] - 3 * X[:, 3]], rtol=1e-10, atol=1e-10)  # fmt: skip
    assert model.bic(table) == pytest.approx(alone.bic(table[["a", "b"]]), rel=1e-12)


def test_copies_in_single_precision_are_left_out(rng: np.random.Generator) -> None:
    celsius = rng.normal(12.0, 8.0, 50).astype(np.float32)
    X = np.column_stack([celsius, np.float32(1.8) * celsius + np.float32(32.0)])
    with pytest.warns(bg.IdentifiabilityWarning, match="'x1'"):
        GaussianMixtureEstimator(random_state=1).fit(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"covariance": "diagonal"}, r"`covariance` must be one of .*; got 'diagonal'.*'diag'"),
        ({"covariance": None}, "`covariance` must be one of .*; got None"),
        ({"method": "em"}, "`method` must be one of .*; got 'em'"),
        ({"n_components": 0}, "`n_components` must be at least 1; got 0"),
        ({"n_components": 300}, "as many rows as there are components, 300"),
        ({"random_state": -1}, "Seed must be between 0"),
    ],
)
def test_bad_parameters_are_refused(
    parameters: dict[str, Any], message: str, faithful: pd.DataFrame
) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianMixtureEstimator(**parameters).fit(faithful)


def test_data_without_any_variation_are_refused() -> None:
    with pytest.raises(ValueError, match="must vary in one column at least; got 5 equal rows"):
        GaussianMixtureEstimator().fit(np.ones((5, 2)))


def test_what_needs_a_point_is_refused(
    faithful: pd.DataFrame, by_nuts: GaussianMixtureEstimator
) -> None:
    for criterion in ("bic", "aic"):
        with pytest.raises(ValueError, match="for `aic` and `bic`; got 'nuts'"):
            getattr(by_nuts, criterion)(faithful)
    with pytest.raises(ValueError, match="`n_samples` must be at least 1; got 0"):
        by_nuts.sample(0)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_covariances_have_one_shape(structure: str, faithful: pd.DataFrame) -> None:
    model = GaussianMixtureEstimator(2, covariance=structure, random_state=1).fit(faithful)
    assert model.covariances_.shape == (2, 2, 2)
    assert (np.linalg.eigvalsh(model.covariances_) > 0).all()


def test_scikit_learn_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "bayesgmm.estimator")
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "bayesgmm\[sklearn\]"'):
        import_module("bayesgmm.estimator")


def test_weights_are_those_of_fit(faithful: pd.DataFrame) -> None:
    weights = np.arange(272) % 3
    model = GaussianMixtureEstimator(2, random_state=1).fit(faithful, sample_weight=weights)
    tree = bg.fit(faithful, 2, sample_weight=weights, method="map", random_seed=1)
    xr.testing.assert_identical(model.posterior_["posterior"].ds, tree["posterior"].ds)
    repeated = GaussianMixtureEstimator(2, random_state=1)
    repeated.fit(np.repeat(faithful.to_numpy(), weights, axis=0))
    np.testing.assert_allclose(model.means_, repeated.means_, rtol=1e-4)
    labels = model.fit_predict(
        faithful, sample_weight=pd.Series(weights, index=faithful.index[::-1])
    )
    np.testing.assert_array_equal(labels, bg.predict(tree))  # weights are in the order of rows
    with pytest.raises(ValueError, match=r"`sample_weight` must be finite and at least 0; got -1"):
        model.fit(faithful, sample_weight=weights - 1.0)


def test_columns_that_only_rows_of_weight_zero_vary_in_are_left_out() -> None:
    X = np.column_stack([np.arange(9.0), np.r_[np.ones(8), 5.0]])
    with pytest.warns(bg.IdentifiabilityWarning, match=r"columns that are constant .*: 'x1'"):
        model = GaussianMixtureEstimator().fit(X, sample_weight=np.r_[np.ones(8), 0.0])
    np.testing.assert_allclose(model.means_, [[3.5, 1.0]], atol=1.0)


@pytest.mark.parametrize("kind", ["array", "pandas", "polars"])
def test_missing_cells_are_those_of_fit(kind: str, faithful: pd.DataFrame) -> None:
    holes = faithful.astype(float).mask(np.random.default_rng(1).random((272, 2)) < 0.1)
    holes = holes.dropna(how="all")
    tree = bg.fit(holes, 2, method="map", random_seed=1, progressbar=False)
    X = {"array": holes.to_numpy(), "pandas": holes, "polars": pl.from_pandas(holes)}[kind]
    model = GaussianMixtureEstimator(2, random_state=1).fit(X)
    np.testing.assert_array_equal(model.means_, tree["posterior"]["means"].values[0, 0])
    np.testing.assert_array_equal(model.predict_proba(X), bg.predict_proba(tree))
    np.testing.assert_array_equal(model.score_samples(X), bg.score_samples(tree))
    shares = model.set_output(transform="pandas").transform(X)
    assert isinstance(shares, pd.DataFrame)
    assert shares.shape == (len(holes), 2)
    if kind == "pandas":
        with pytest.raises(ValueError, match="infinity"):
            model.predict(holes.fillna(np.inf))
    nothing = holes.copy()
    nothing["waiting"] = np.nan
    with pytest.raises(ValueError, match=r"nothing but missing cells \(NaN\) in 'waiting'"):
        model.fit(nothing)


def test_set_output_gives_polars(by_map: GaussianMixtureEstimator, faithful: pd.DataFrame) -> None:
    shares = clone(by_map).set_output(transform="polars").fit_transform(faithful)
    assert isinstance(shares, pl.DataFrame)


def test_dependent_columns_are_found_in_complete_rows() -> None:
    X = np.random.default_rng(2).normal(size=(40, 2))
    X = np.column_stack([X, 2.0 * X[:, 0] + 1.0, np.full(40, 3.0)])
    X[0, 0] = X[1, 2] = X[2, 3] = np.nan
    with pytest.warns(bg.IdentifiabilityWarning, match="'x2', 'x3'"):
        model = GaussianMixtureEstimator(random_state=1).fit(X)
    mean = model.means_[0]
    np.testing.assert_allclose(mean[2:], [2.0 * mean[0] + 1.0, 3.0], rtol=1e-9)
