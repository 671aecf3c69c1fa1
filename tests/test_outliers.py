"""Outlier scores: against the chi-square law, against integrals, and uniform under the model."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import chi2, kstest, norm

import bayesgmm as bg
from bayesgmm.prediction import mixtures
from bayesgmm.tail_mass import SMALLEST, log_predictive
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.normal(size=(40, 2)) * [1.0, 50.0], columns=["a", "b"])
    return random_fit(X, rng, n_components=3, draws=12)


@pytest.fixture(scope="module")
def faithful() -> xr.DataTree:
    return bg.fit(bg.datasets.load_faithful(), 2, draws=100, random_seed=1, progressbar=False)


def made(tree: xr.DataTree, n: int, seed: int) -> np.ndarray:
    """Rows of the posterior predictive distribution, n for each draw."""
    X = bg.sample_posterior_predictive(tree, n, random_seed=seed)["X"].values
    return X.reshape(-1, X.shape[-1])


# Scores


@pytest.mark.parametrize("n_features", [1, 2, 5])
def test_one_normal_gives_the_tail_of_chi_square(n_features: int) -> None:
    rng = np.random.default_rng(1)
    tree = random_fit(rng.normal(size=(30, n_features)), rng, n_components=1, chains=1, draws=1)
    one = tree["posterior"].isel(chain=0, draw=0, component=0)
    expected = 10.0 ** -np.arange(0.1, 17.0)
    direction = rng.normal(size=n_features)
    direction /= np.linalg.norm(direction)
    ray = np.linalg.cholesky(one["covariances"].values) @ direction
    X = one["means"].values + np.sqrt(chi2(n_features).isf(expected))[:, None] * ray
    found = bg.outlier_score(tree, X, random_seed=2)
    np.testing.assert_allclose(found["score"], expected, rtol=0.02)
    assert (np.abs(found["score"] - expected) < 5.0 * found["score_error"] + 5e-3 * expected).all()


def test_a_mixture_against_its_integral() -> None:
    """Far into the tail, of a component that is narrow and one that is wide."""
    rng = np.random.default_rng(1)
    tree = random_fit(rng.normal(size=30), rng, n_components=2, chains=1, draws=3)
    grid = np.linspace(-60.0, 60.0, 600_001)
    posterior = tree["posterior"]
    law = norm(posterior["means"].values[0, ..., 0], posterior["scales"].values[0, ..., 0])
    height = sum(
        posterior["weights"].values[0, s, k] * norm(law.mean()[s, k], law.std()[s, k]).pdf(grid)
        for s in range(3)
        for k in range(2)
    ) / 3.0  # fmt: skip
    X = np.array([-10.0, -4.0, -2.0, -1.0, 0.0, 0.4, 1.0, 3.0, 6.0, 9.0])
    levels = np.exp(bg.score_samples(tree, X))
    expected = [height[height <= level].sum() * (grid[1] - grid[0]) for level in levels.values]
    found = bg.outlier_score(tree, X, random_seed=2)
    assert found["score"].min() < 1e-6
    assert (np.abs(found["score"] - expected) < 5.0 * found["score_error"] + 1e-4).all()
    np.testing.assert_allclose(found["score"], expected, rtol=0.1)


def test_scores_are_uniform_under_the_model(tree: xr.DataTree) -> None:
    rows = made(tree, 100, 5)
    found = bg.outlier_score(tree, rows, random_seed=1)
    assert kstest(found["score"], "uniform").pvalue > 1e-4
    wrong = tree.copy(deep=True)
    wrong["posterior"]["scales"] *= 1.3
    unfit = bg.outlier_score(wrong, rows, random_seed=1)["score"]
    assert kstest(unfit, "uniform").pvalue < 1e-6
    flags = bg.flag_outliers(found, rate=0.05)
    assert abs(float(flags.mean()) - 0.05) < 5.0 * np.sqrt(0.05 * 0.95 / len(rows))


def test_means_of_the_scores_of_draws_would_not_be(tree: xr.DataTree) -> None:
    """Why the density is averaged first."""
    rows = made(tree, 100, 5)
    each = [
        bg.outlier_score(tree.isel(chain=[chain], draw=[draw]), rows, random_seed=1)["score"]
        for chain in range(2)
        for draw in range(0, 12, 2)
    ]
    assert kstest(np.mean(each, axis=0), "uniform").pvalue < 1e-6


def test_the_density_is_that_of_score_samples(tree: xr.DataTree) -> None:
    rows = pd.DataFrame(made(tree, 3, 1), columns=["a", "b"]).set_index(np.arange(72) + 5)
    found = bg.outlier_score(tree, rows, random_seed=1)
    xr.testing.assert_allclose(found["log_density"], bg.score_samples(tree, rows), rtol=1e-12)
    order = np.argsort(found["log_density"].values)
    assert (np.diff(found["score"].values[order]) >= 0.0).all()
    assert found.attrs == {"resolution": SMALLEST, "left_out": 0}
    xr.testing.assert_identical(bg.outlier_score(tree, rows, random_seed=1), found)
    assert not np.array_equal(bg.outlier_score(tree, rows, random_seed=2)["score"], found["score"])


def test_rows_that_no_draw_can_make(tree: xr.DataTree) -> None:
    found = bg.outlier_score(tree, [[0.0, 0.0], [1e9, 0.0], [1e90, 0.0]], random_seed=1)
    assert found["score"].values[1:].tolist() == [SMALLEST, SMALLEST]
    assert np.isnan(found["score_error"].values).tolist() == [False, True, True]
    far = log_predictive(mixtures(tree), np.full((2, 1), 1e200))
    assert far.tolist() == [-np.inf]


def test_components_of_weight_0_make_no_rows(tree: xr.DataTree) -> None:
    empty = tree.copy(deep=True)
    weights = empty["posterior"]["weights"].copy(deep=True)
    weights[..., 1] = 0.0
    empty["posterior"]["weights"] = weights / weights.sum("component")
    empty["posterior"]["means"][..., 1, :] = 1e6
    rows = made(empty, 20, 3)
    found = bg.outlier_score(empty, [*rows[:50], [1e6, 1e6]], random_seed=1)["score"]
    assert found[-1] == SMALLEST
    assert kstest(found[:-1], "uniform").pvalue > 1e-4


# Rows that were fitted


def test_fitted_rows_are_left_out(faithful: xr.DataTree) -> None:
    found = bg.outlier_score(faithful, random_seed=1)
    loo = bg.loo(faithful)
    np.testing.assert_array_equal(found["log_density"], loo.elpd_i)
    np.testing.assert_array_equal(found["pareto_k"], loo.pareto_k)
    assert found.attrs["left_out"] == 1
    assert kstest(found["score"], "uniform").pvalue > 1e-4
    kept = bg.outlier_score(faithful, bg.datasets.load_faithful(), random_seed=1)
    assert "pareto_k" not in kept
    assert kept.attrs["left_out"] == 0
    worst = int(found["score"].values.argmin())
    assert found["score"][worst] < kept["score"][worst]


@pytest.mark.parametrize("method", ["map", "ml"])
def test_points_cannot_leave_rows_out(method: str) -> None:
    tree = bg.fit(bg.datasets.load_faithful(), 2, method=method, random_seed=1)
    found = bg.outlier_score(tree, random_seed=1)
    assert found.attrs["left_out"] == 0
    assert kstest(found["score"], "uniform").pvalue > 1e-4


def test_rows_of_a_marginal_must_be_given(faithful: xr.DataTree) -> None:
    alone = bg.marginal(faithful, "waiting")
    with pytest.raises(ValueError, match=r"`X_new` must be given where `tree` is a marginal of"):
        bg.outlier_score(alone)
    assert bg.outlier_score(alone, [[70.0]], random_seed=1)["score"].shape == (1,)


# Flags


def test_false_discoveries_against_a_loop() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        values = np.concatenate([rng.random(30), 10.0 ** rng.uniform(-9.0, -1.0, 5)])
        scores = xr.DataArray(values, dims="obs")
        ascending = np.sort(values)
        last = max((i + 1 for i in range(35) if ascending[i] <= 0.1 * (i + 1) / 35), default=0)
        flags = bg.flag_outliers(scores, fdr=0.1)
        assert int(flags.sum()) == last
        assert flags.attrs["threshold"] == (ascending[last - 1] if last else 0.0)


def test_false_discoveries_are_as_few_as_asked() -> None:
    """Of 200 tables with 40 outliers among 200 rows, within five standard errors."""
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(200):
        scores = np.concatenate([rng.random(160), 10.0 ** rng.uniform(-8.0, -2.0, 40)])
        flags = bg.flag_outliers(xr.DataArray(scores, dims="obs"), fdr=0.2).values
        shares.append(flags[:160].sum() / max(flags.sum(), 1))
    error = np.std(shares) / np.sqrt(200)
    assert np.mean(shares) < 0.2 + 5.0 * error
    assert np.mean(shares) > 0.16 - 5.0 * error  # the share of rows that are none, times 0.2


def test_flags_keep_labels(faithful: xr.DataTree) -> None:
    scores = bg.outlier_score(faithful, [[2.0, 55.0], [3.0, 20.0]], random_seed=1)
    flags = bg.flag_outliers(scores, rate=0.01)
    assert flags.name == "outlier"
    assert flags.values.tolist() == [False, True]
    assert flags.attrs == {"threshold": 0.01}
    xr.testing.assert_identical(bg.flag_outliers(scores["score"], rate=0.01), flags)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({}, ValueError, r"`rate` or `fdr` must be given, and not both; got None and None"),
        ({"rate": 0.1, "fdr": 0.1}, ValueError, r"`rate` or `fdr` must .*; got 0\.1 and 0\.1"),
        ({"rate": 1.0}, ValueError, r"`rate` must lie between 0 and 1; got 1\.0\."),
        ({"fdr": "few"}, TypeError, r"`fdr` must be a number; got 'few'"),
    ],
)
def test_bad_thresholds_are_refused(
    given: dict[str, object], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        bg.flag_outliers(xr.DataArray([0.5], dims="obs"), **given)  # type: ignore[arg-type]


def test_bad_scores_are_refused(tree: xr.DataTree) -> None:
    with pytest.raises(TypeError, match=r"`scores` must be what .* type list"):
        bg.flag_outliers([0.5], rate=0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"`scores` must be what .* type Dataset without scores"):
        bg.flag_outliers(xr.Dataset(), rate=0.1)
    density = bg.score_samples(tree, [[0.0, 0.0]])
    with pytest.raises(ValueError, match=r"`scores` must lie between 0 and 1; got float64, \[-"):
        bg.flag_outliers(density, rate=0.1)


# Bad input


def test_bad_input_is_refused(tree: xr.DataTree) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, .* type int"):
        bg.outlier_score(3)
    with pytest.raises(ValueError, match=r"`tree` must have the dimensions .* `outlier_score`"):
        bg.outlier_score(tree.isel(draw=0))
    with pytest.raises(ValueError, match=r"`X_new` must have the 2 fitted columns"):
        bg.outlier_score(tree, [[1.0]])
    with pytest.raises(ValueError, match=r"`X_new` must have a .*number in every cell"):
        bg.outlier_score(tree, [[1.0, np.nan]])
    with pytest.raises(TypeError, match=r"`random_seed` must be an integer; got 'one'"):
        bg.outlier_score(tree, [[1.0, 1.0]], random_seed="one")  # type: ignore[arg-type]
