"""Some features of a fit: against integrals, and through what takes a fit."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm.tree import check_schema, specification
from tests.synthetic import random_fit

LABELS = ["length", "width", "depth"]


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.normal(size=(40, 3)), columns=LABELS, index=[f"r{i}" for i in range(40)])
    return random_fit(X, rng, n_components=3, draws=10)


def test_a_marginal_is_a_fit_of_these_features(tree: xr.DataTree, tmp_path: object) -> None:
    part = bg.marginal(tree, ["depth", "length"])
    check_schema(part)
    assert part["posterior"]["feature"].values.tolist() == ["depth", "length"]
    assert part["posterior"]["feature2"].values.tolist() == ["depth", "length"]
    X = tree["observed_data"]["X"].sel(feature=["depth", "length"])
    xr.testing.assert_identical(part["observed_data"]["X"], X)
    xr.testing.assert_identical(part["posterior"]["weights"], tree["posterior"]["weights"])
    xr.testing.assert_identical(part["sample_stats"].dataset, tree["sample_stats"].dataset)
    assert part.attrs["derived"] == "marginal"
    assert set(part.children) == {
        "posterior", "sample_stats", "observed_data", "constant_data", "alignment"
    }  # fmt: skip
    file = f"{tmp_path}/part.nc"
    bg.save(part, file)
    xr.testing.assert_identical(bg.load(file), part)


def test_densities_are_integrals_over_the_others(tree: xr.DataTree) -> None:
    part = bg.marginal(tree, ["depth", "length"])
    rows = np.random.default_rng(1).normal(size=(5, 2))
    logs = []
    for one in tree["posterior"].dataset.stack(s=("chain", "draw")).transpose("s", ...)["s"].values:
        at = tree["posterior"].dataset.sel(chain=one[0], draw=one[1])
        logs.append(
            logsumexp(
                [
                    np.log(float(at["weights"][k]))
                    + multivariate_normal(
                        at["means"].values[k, [2, 0]],
                        at["covariances"].values[k][np.ix_([2, 0], [2, 0])],
                    ).logpdf(rows)
                    for k in range(3)
                ],
                axis=0,
            )
        )
    expected = logsumexp(logs, axis=0) - np.log(len(logs))
    np.testing.assert_allclose(bg.score_samples(part, rows), expected, rtol=1e-10)
    grid = {"depth": rows[:, 0]}
    xr.testing.assert_allclose(bg.density(part, grid), bg.density(tree, grid), rtol=1e-10)


def test_one_feature_needs_no_list(tree: xr.DataTree) -> None:
    xr.testing.assert_identical(bg.marginal(tree, "width"), bg.marginal(tree, ["width"]))
    again = bg.marginal(bg.marginal(tree, ["depth", "width"]), "width")
    xr.testing.assert_identical(
        again["posterior"].dataset, bg.marginal(tree, "width")["posterior"].dataset
    )
    assert specification(again).covariance.eta == specification(tree).covariance.eta + 1.0


def test_columns_without_names_are_named_by_number() -> None:
    rng = np.random.default_rng(3)
    tree = random_fit(pd.DataFrame(rng.normal(size=(30, 3)), columns=[10, 20, 30]), rng)
    assert bg.marginal(tree, 20)["posterior"]["means"].sizes["feature"] == 1
    with pytest.raises(ValueError, match=r"`features` must .* 10, 20, 30; got 21\. Choose"):
        bg.marginal(tree, [21])


def test_a_block_of_lkj_correlations_is_lkj() -> None:
    """Mean determinant of blocks of draws, within five standard errors of the formula."""
    rng = np.random.default_rng(5)
    n, n_features, chosen = 20_000, 5, [4, 0, 2]
    X = rng.normal(size=(30, n_features))
    prior = specification(random_fit(X, rng)).covariance
    assert prior.eta == 2.0
    factors = np.zeros((n, n_features, n_features))
    for i in range(n_features):
        left = np.ones(n)
        for j in range(i):
            a = prior.eta + 0.5 * (n_features - 2 - j)
            partial = 2.0 * rng.beta(a, a, n) - 1.0
            factors[:, i, j] = partial * left
            left *= np.sqrt(1.0 - partial**2)
        factors[:, i, i] = left
    R = factors @ factors.swapaxes(1, 2)
    blocks = np.linalg.det(R[:, chosen][:, :, chosen])
    tree = bg.marginal(random_fit(X, rng), ["x4", "x0", "x2"])
    eta = specification(tree).covariance.eta
    shapes = [eta + 0.5 * (1 - j) for i in range(3) for j in range(i)]
    expected = np.prod([1.0 - 1.0 / (2.0 * a + 1.0) for a in shapes])  # E(1 - c^2) of each partial
    assert abs(blocks.mean() - expected) < 5.0 * blocks.std() / np.sqrt(n)


def test_the_prior_is_that_of_these_features(tree: xr.DataTree) -> None:
    part, whole = specification(bg.marginal(tree, ["depth", "length"])), specification(tree)
    for name in ("location", "scale"):
        value = getattr(whole.means, name)
        assert getattr(part.means, name) == (value[2], value[0])
    assert part.covariance.scale == (whole.covariance.scale[2], whole.covariance.scale[0])
    assert json.loads(tree.attrs["specification"])["covariance"]["eta"] == 2.0


@pytest.mark.parametrize(
    "function", ["loo", "waic", "log_evidence", "bic", "aic", "icl", "mode_audit"]
)
def test_what_is_about_the_posterior_is_refused(tree: xr.DataTree, function: str) -> None:
    part = bg.marginal(tree, "width")
    with pytest.raises(ValueError, match=rf"`tree` must be a fit for `{function}`.* a marginal of"):
        getattr(bg, function)(part)


def test_fits_side_by_side_are_refused(tree: xr.DataTree) -> None:
    part = bg.marginal(tree, "width")
    with pytest.raises(ValueError, match=r"`trees\['a'\]` must be a fit for `compare`"):
        bg.compare({"a": part, "b": part})
    with pytest.raises(ValueError, match=r"`fits\[1\]` must be a fit for `posterior_over_compon"):
        bg.posterior_over_components({1: part, 2: part})


@pytest.mark.parametrize(
    ("features", "match"),
    [
        ("widht", r"`features` must name features .*'length', .*; got 'widht'\. Did you mean 'wid"),
        (["length", 7], r"`features` must name .*; got 7\. Choose some of these\."),
        (["length", "length"], r"`features` must name each feature once; got 'length' twice\."),
        ([], r"`features` must name a feature at least; got none\. Choose among 'length'"),
    ],
)
def test_bad_features_are_refused(tree: xr.DataTree, features: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        bg.marginal(tree, features)
    with pytest.raises(TypeError, match=r"`tree` must be a fit"):
        bg.marginal(3, features)
