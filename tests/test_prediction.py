"""What a fit says about rows, against the formulas written out."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from tests.synthetic import random_fit

REPOSITORY = Path(bg.__file__).parents[1]


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """Draws without any order: random mixtures, so that averages over them matter."""
    rng = np.random.default_rng(3)
    return random_fit(rng.normal(2.0, 3.0, (40, 3)), rng, n_components=3, chains=2, draws=25)


@pytest.fixture(scope="module")
def fitted() -> xr.DataTree:
    """A real fit, of overlapping components."""
    X = bg.datasets.make_mixture(150, 2, 2, separation=3.0, random_seed=2)["X"]
    return bg.fit(X, 2, random_seed=1, progressbar=False)


def log_joint(tree: xr.DataTree, X: np.ndarray) -> np.ndarray:
    """Log of weight times density, shape (chain, draw, component, row), by SciPy."""
    weights, means, covariances = (
        tree["posterior"][name].values for name in ("weights", "means", "covariances")
    )
    result = np.empty((*weights.shape, len(X)))
    for index in np.ndindex(weights.shape):
        law = multivariate_normal(means[index], covariances[index])
        result[index] = np.log(weights[index]) + law.logpdf(X)
    return result


def naive_proba(tree: xr.DataTree, X: np.ndarray) -> np.ndarray:
    joint = log_joint(tree, X)
    return np.exp(joint - logsumexp(joint, axis=2, keepdims=True)).mean(axis=(0, 1)).T


def naive_score(tree: xr.DataTree, X: np.ndarray) -> np.ndarray:
    density = logsumexp(log_joint(tree, X), axis=2)
    return logsumexp(density, axis=(0, 1)) - np.log(density.shape[0] * density.shape[1])


# Averages


@pytest.mark.parametrize("which", ["tree", "fitted"])
def test_probabilities_are_responsibilities_averaged(
    which: str, request: pytest.FixtureRequest
) -> None:
    tree = request.getfixturevalue(which)
    X = tree["observed_data"]["X"].values
    proba = bg.predict_proba(tree, X)
    assert proba.dims == ("obs", "component")
    np.testing.assert_allclose(proba, naive_proba(tree, X), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(proba.sum("component"), 1.0, rtol=1e-13)
    labels = bg.predict(tree, X)
    assert labels.dims == ("obs",)
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(labels, naive_proba(tree, X).argmax(axis=1))


@pytest.mark.parametrize("which", ["tree", "fitted"])
def test_scores_are_logs_of_averaged_densities(which: str, request: pytest.FixtureRequest) -> None:
    tree = request.getfixturevalue(which)
    X = tree["observed_data"]["X"].values + 0.25
    np.testing.assert_allclose(bg.score_samples(tree, X), naive_score(tree, X), rtol=1e-10)


@given(
    X=arrays(float, st.tuples(st.integers(1, 6), st.just(3)), elements=st.floats(-1e6, 1e6)),
)
def test_any_rows(tree: xr.DataTree, X: np.ndarray) -> None:
    proba, score = bg.predict_proba(tree, X).values, bg.score_samples(tree, X).values
    np.testing.assert_allclose(proba, naive_proba(tree, X), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(score, naive_score(tree, X), rtol=1e-9)
    labels = bg.predict(tree, X).values
    assert (proba[np.arange(len(X)), labels] == proba.max(axis=1)).all()


def test_scores_integrate_to_one(fitted: xr.DataTree) -> None:
    x = np.linspace(-12.0, 12.0, 201)
    grid = np.stack(np.meshgrid(x, x, indexing="ij"), axis=-1).reshape(-1, 2)
    total = np.exp(bg.score_samples(fitted.isel(draw=slice(0, 1000, 50)), grid)).sum()
    np.testing.assert_allclose(total * (x[1] - x[0]) ** 2, 1.0, rtol=1e-3)


def test_left_out_rows_are_the_fitted_ones(fitted: xr.DataTree) -> None:
    observed = fitted["observed_data"]["X"]
    for function in (bg.predict_proba, bg.predict, bg.score_samples):
        xr.testing.assert_identical(function(fitted), function(fitted, observed))
    likelihood = fitted["log_likelihood"]["X"].values
    lppd = logsumexp(likelihood, axis=(0, 1)) - np.log(likelihood[..., 0].size)
    np.testing.assert_allclose(bg.score_samples(fitted), lppd, rtol=1e-9)


def test_rows_are_scored_one_by_one(fitted: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the rows beside it nor how they are cut into chunks matter to a row."""
    X = fitted["observed_data"]["X"].values[:37]
    whole = bg.score_samples(fitted, X).values
    proba = bg.predict_proba(fitted, X).values
    for i in (0, 17, 36):
        np.testing.assert_allclose(bg.score_samples(fitted, X[i : i + 1]), whole[i], rtol=1e-12)
        np.testing.assert_allclose(bg.predict_proba(fitted, X[i : i + 1]), proba[i : i + 1])
    monkeypatch.setattr("bayesgmm.prediction.CHUNK_BYTES", 8 * 4000 * 5)
    np.testing.assert_allclose(bg.score_samples(fitted, X), whole, rtol=1e-12)
    monkeypatch.setattr("bayesgmm.prediction.CHUNK_BYTES", 1)
    np.testing.assert_allclose(bg.score_samples(fitted, X[:3]), whole[:3], rtol=1e-12)


def test_labels_do_not_matter_to_densities(fitted: xr.DataTree) -> None:
    raw = bg.align(fitted, "none")
    np.testing.assert_allclose(bg.score_samples(raw), bg.score_samples(fitted), rtol=1e-12)


@pytest.mark.parametrize("far", [1e3, 1e6, 1e12, 1e100])
def test_a_point_far_away_has_an_answer(far: float, fitted: xr.DataTree) -> None:
    X = np.array([[far, -far], [-far, 0.3], [0.0, far]])
    proba = bg.predict_proba(fitted, X).values
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert (bg.predict(fitted, X).values == proba.argmax(axis=1)).all()
    np.testing.assert_allclose(bg.score_samples(fitted, X), naive_score(fitted, X), rtol=1e-8)


@pytest.mark.parametrize("far", [1e160, 1e300])
def test_a_point_whose_square_overflows_is_refused_or_answered(
    far: float, fitted: xr.DataTree
) -> None:
    for function in (bg.predict_proba, bg.predict, bg.score_samples):
        try:
            result = function(fitted, np.array([[0.0, 0.0], [far, -far]]))
        except ValueError as error:
            assert str(error).startswith("`X_new` must ")
            assert "row 1" in str(error)
        else:
            assert not np.isnan(result.values).any()
            assert (result.values <= 1).all()


def test_results_are_labelled(fitted: xr.DataTree) -> None:
    proba = bg.predict_proba(fitted, np.zeros((2, 2)))
    assert proba["component"].values.tolist() == [0, 1]
    assert proba["obs"].values.tolist() == [0, 1]
    assert proba.name == "probability"
    assert bg.predict(fitted).name == "labels"
    assert bg.score_samples(fitted).name == "log_density"


# Posterior predictive


def test_new_rows_have_the_moments_of_the_mixture(fitted: xr.DataTree) -> None:
    """Draw by draw: the average of many rows against the mean and covariance of its mixture."""
    thin = fitted.isel(draw=slice(None, None, 10))
    n_obs = 2000
    new = bg.sample_posterior_predictive(thin, n_obs, random_seed=7)
    posterior = thin["posterior"].dataset
    weights, means, covariances = (
        posterior[name].values for name in ("weights", "means", "covariances")
    )
    expected = np.einsum("cdk,cdkf->cdf", weights, means)
    second = covariances + means[..., :, None] * means[..., None, :]
    spread = np.einsum("cdk,cdkfg->cdfg", weights, second)
    spread -= expected[..., :, None] * expected[..., None, :]
    X = new["X"].values
    z = (X.mean(axis=2) - expected) / np.sqrt(np.einsum("...ff->...f", spread) / n_obs)
    assert abs(z).max() < 5.0
    np.testing.assert_allclose(z.var(), 1.0, atol=5.0 * np.sqrt(2.0 / z.size))
    centred = X - expected[:, :, None]
    products = np.einsum("cdnf,cdng->cdnfg", centred, centred)
    gap = products.mean(axis=2) - spread
    assert (abs(gap) < 6.0 * products.std(axis=2) / np.sqrt(n_obs)).all()


def test_labels_of_new_rows_are_where_they_came_from(fitted: xr.DataTree) -> None:
    thin = fitted.isel(draw=slice(None, None, 10))
    n_obs = 2000
    new = bg.sample_posterior_predictive(thin, n_obs, random_seed=7)
    labels, X = new["labels"].values, new["X"].values
    weights = thin["posterior"]["weights"].values
    share = (labels == 1).mean(axis=2)
    assert (
        abs(share - weights[..., 1]) < 5.0 * np.sqrt(weights[..., 0] * weights[..., 1] / n_obs)
    ).all()
    means, covariances = (thin["posterior"][name].values for name in ("means", "covariances"))
    for c, d in ((0, 0), (3, 50)):
        for k in (0, 1):
            rows = X[c, d][labels[c, d] == k] - means[c, d, k]
            squares = np.einsum("nf,fg,ng->n", rows, np.linalg.inv(covariances[c, d, k]), rows)
            assert abs(squares.mean() - 2.0) < 5.0 * 2.0 / np.sqrt(len(rows))  # chi-square, 2 df
            assert abs(rows.mean(axis=0)).max() < 5.0 * squares.std() / np.sqrt(len(rows))


def test_predictive_rows_follow_the_predictive_density(fitted: xr.DataTree) -> None:
    """The share of new rows in a box is the integral of `score_samples` over it."""
    new = bg.sample_posterior_predictive(fitted, 20, random_seed=3)["X"].values
    low, high = np.array([-1.0, -1.0]), np.array([1.0, 1.5])
    inside = ((new > low) & (new < high)).all(axis=-1).mean(axis=2)
    x, w = np.polynomial.legendre.leggauss(12)
    nodes = 0.5 * (low + high) + 0.5 * (high - low) * x[:, None]
    grid = np.stack(np.meshgrid(*nodes.T, indexing="ij"), axis=-1).reshape(-1, 2)
    weight = np.prod(high - low) / 4.0 * np.outer(w, w).ravel()
    exact = weight @ np.exp(bg.score_samples(fitted, grid).values)
    assert abs(inside.mean() - exact) < 5.0 * arviz_stats.mcse(inside, method="mean")


def test_predictive_shapes_labels_and_seeds(fitted: xr.DataTree) -> None:
    new = bg.sample_posterior_predictive(fitted, 3, random_seed=1)
    assert dict(new.sizes) == {"chain": 4, "draw": 1000, "obs": 3, "feature": 2}
    assert new["X"].dims == ("chain", "draw", "obs", "feature")
    assert new["labels"].dims == ("chain", "draw", "obs")
    assert new["labels"].dtype == np.int64
    assert new["obs"].values.tolist() == [0, 1, 2]
    xr.testing.assert_identical(bg.sample_posterior_predictive(fitted, 3, random_seed=1), new)
    other = bg.sample_posterior_predictive(fitted, 3, random_seed=2)
    assert not np.isin(other["X"].values, new["X"].values).any()
    as_many = bg.sample_posterior_predictive(fitted.isel(draw=[0, 1]), random_seed=1)
    xr.testing.assert_identical(as_many["obs"], fitted["observed_data"]["obs"])
    merged = fitted.copy()
    merged["posterior_predictive"] = xr.DataTree(new)
    xr.testing.assert_identical(merged["posterior_predictive"]["X"], new["X"])


def test_predictive_arguments_are_refused(
    fitted: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(*args: Any) -> None:
        raise AssertionError("something was drawn")

    monkeypatch.setattr(np.random, "default_rng", drawn)
    match = r"`n_obs` must leave the result under 2 GiB; got 100000 rows .*8\.9 GiB.*tree\.isel"
    with pytest.raises(ValueError, match=match):
        bg.sample_posterior_predictive(fitted, 100_000)
    with pytest.raises(ValueError, match="`n_obs` must be at least 1; got 0"):
        bg.sample_posterior_predictive(fitted, 0)
    with pytest.raises(TypeError, match=r"`n_obs` must be an integer; got 10\.0"):
        bg.sample_posterior_predictive(fitted, 10.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`random_seed` must be at least 0; got -3"):
        bg.sample_posterior_predictive(fitted, 1, random_seed=-3)


# A later process


def test_a_saved_fit_predicts_without_the_sampler(fitted: xr.DataTree, tmp_path: Path) -> None:
    path = tmp_path / "fit.nc"
    bg.save(fitted, path)
    code = (
        "import sys, bayesgmm as bg\n"
        "tree = bg.load(sys.argv[1])\n"
        "new = [[0.5, 0.5], [-2.0, 1.0]]\n"
        "bg.sample_posterior_predictive(tree, 2, random_seed=1)\n"
        "bg.align(tree, 'none')\n"
        "for function in (bg.predict_proba, bg.score_samples, bg.predict):\n"
        "    print(*(value.hex() for value in function(tree, new).values.astype(float).ravel()))\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *printed, modules = done.stdout.splitlines()
    new = [[0.5, 0.5], [-2.0, 1.0]]
    for line, function in zip(
        printed, (bg.predict_proba, bg.score_samples, bg.predict), strict=True
    ):
        values = [float.fromhex(value) for value in line.split()]
        assert values == function(fitted, new).values.astype(float).ravel().tolist()
    heavy = {"pymc", "pytensor", "nutpie", "nutpie._lib", "matplotlib", "arviz", "arviz_stats"}
    assert heavy.isdisjoint(modules.split())


@pytest.mark.parametrize("dim", ["chain", "draw"])
@pytest.mark.parametrize(
    "name", ["predict_proba", "predict", "score_samples", "sample_posterior_predictive"]
)
def test_a_tree_that_was_taken_apart_is_refused(name: str, dim: str, tree: xr.DataTree) -> None:
    message = rf"^`tree` must have .* 'chain' and 'draw' for `{name}`; got .*isel\({dim}=\[0\]\)\.$"
    with pytest.raises(ValueError, match=message):
        getattr(bg, name)(tree.isel({dim: 0}))


def test_some_of_the_components_are_no_mixture() -> None:
    rng = np.random.default_rng(3)
    tree = random_fit(rng.normal(size=(20, 2)), rng, n_components=3)
    for function in (bg.predict, bg.score_samples, bg.outlier_score):
        with pytest.raises(ValueError, match=r"`tree` must have all 3 components for .*; got 2\."):
            function(tree.isel(component=[0, 2]), rng.normal(size=(4, 2)))
