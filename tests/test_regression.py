"""Mixture regression: against the conditional mixtures of single rows."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.normal(size=(40, 3)) * 3.0 + 1.0, columns=["a", "b", "c"])
    return random_fit(X, rng, n_components=3, draws=12)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(6, 2)) * 2.0
    return pd.DataFrame(rows, columns=["c", "a"], index=list("uvwxyz"))


def test_rows_are_predicted_as_one_by_one(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    found = bg.regress(tree, frame, probability=0.8)
    assert list(found) == ["mean", "sd", "mean_interval", "predictive_interval"]
    assert found["mean"].dims == ("obs", "feature")
    assert found["predictive_interval"].dims == ("obs", "feature", "ci_bound")
    assert found["obs"].values.tolist() == list("uvwxyz")
    assert found["feature"].values.tolist() == ["b"]
    assert found.attrs["probability"] == 0.8
    every = bg.regress(tree, frame, probability=None)
    assert every["mean"].dims == ("chain", "draw", "obs", "feature")
    for label, row in frame.iterrows():
        one = bg.conditional(tree, row.to_dict())
        weights, means = one["posterior"]["weights"], one["posterior"]["means"].isel(feature=0)
        mean = (weights * means).sum("component")
        variance = (weights * (one["posterior"]["scales"].isel(feature=0) ** 2 + means**2)).sum(
            "component"
        ) - mean**2
        at = {"obs": label, "feature": "b"}
        xr.testing.assert_allclose(every["mean"].sel(at, drop=True), mean.drop_vars("feature"))
        np.testing.assert_allclose(every["sd"].sel(at), np.sqrt(variance), rtol=1e-9)
        here = found.sel(at)
        assert float(here["mean"]) == pytest.approx(float(mean.mean()), rel=1e-12)
        expected = np.sqrt(float((variance + mean**2).mean() - mean.mean() ** 2))
        assert float(here["sd"]) == pytest.approx(expected, rel=1e-9)
        band = np.quantile(mean, [0.1, 0.9])
        np.testing.assert_allclose(here["mean_interval"], band, rtol=1e-9)
        ends = bg.quantile(one, [0.1, 0.9]).sel(statistic="predictive")
        np.testing.assert_allclose(here["predictive_interval"], ends, rtol=1e-9)


def test_tables_of_any_kind_are_taken(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    expected = bg.regress(tree, frame)
    array = xr.DataArray(frame, dims=("obs", "feature"))
    xr.testing.assert_allclose(bg.regress(tree, array), expected)
    columns = {name: frame[name].tolist() for name in frame}
    mapped = bg.regress(tree, columns)
    assert mapped["obs"].values.tolist() == list(range(6))
    np.testing.assert_array_equal(mapped["mean"], expected["mean"])
    flat = bg.regress(tree, {"c": frame["c"], "a": 0.5})
    assert float(flat["mean"][2, 0]) == pytest.approx(
        float(bg.regress(tree, {"c": frame["c"].iloc[2], "a": 0.5})["mean"][0, 0])
    )


def test_blocks_do_not_show(
    tree: xr.DataTree, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bg.regress(tree, frame[["a"]])
    monkeypatch.setattr("bayesgmm.regression.BLOCK_BYTES", 1)
    xr.testing.assert_allclose(bg.regress(tree, frame[["a"]]), whole, rtol=1e-12)


@pytest.mark.parametrize("method", ["map", "ml"])
def test_a_point_gives_a_band_without_width(method: str) -> None:
    tree = bg.fit(bg.datasets.load_faithful(), 2, method=method, random_seed=1)
    found = bg.regress(tree, {"eruptions": [2.0, 4.0]})
    interval = found["mean_interval"]
    np.testing.assert_allclose(interval.diff("ci_bound"), 0.0, atol=1e-12)
    width = found["predictive_interval"].diff("ci_bound")
    assert (width > 3.0 * found["sd"]).all()  # 3.29 of a Normal
    assert (width < 3.5 * found["sd"]).all()


def test_intervals_hold_what_they_say() -> None:
    """Of 4,000 new rows of the model 90 %, within five standard errors of a binomial."""
    tree = bg.fit(bg.datasets.load_faithful(), 2, draws=250, random_seed=1, progressbar=False)
    new = bg.sample_posterior_predictive(tree, 4, random_seed=2)["X"].values.reshape(-1, 2)
    found = bg.regress(tree.isel(draw=slice(None, None, 5)), {"eruptions": new[:, 0]})
    interval = found["predictive_interval"].values[:, 0]
    inside = ((interval[:, 0] < new[:, 1]) & (new[:, 1] < interval[:, 1])).mean()
    assert abs(inside - 0.9) < 5.0 * np.sqrt(0.09 / len(new))


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (np.zeros((3, 2)), TypeError, r"`given` must name its features; .* ndarray without names"),
        ({}, ValueError, r"`given` must"),
        ({"a": [1.0], "b": [1.0, 2.0]}, ValueError, r"`given` must .* same length; got .*\(1,\), "),
        ({"a": [[1.0]]}, ValueError, r"`given` must .* 1-D arrays .* shapes \(1, 1\)"),
        ({"d": [1.0]}, ValueError, r"`given` must name features of the fit, .* got 'd'"),
        ({"a": 1, "b": 1, "c": 1}, ValueError, r"`given` must name some .* got 3 of 3"),
        ({"a": ["x"]}, TypeError, r"`given` must hold real numbers; got .* in 'a'"),
        ({"a": [1.0, np.nan]}, ValueError, r"`given` must hold finite .* nan for 'a' at row 1\."),
        ({"a": [1e200]}, ValueError, r"`given` must hold finite numbers within .* for 'a' at row"),
    ],
)
def test_bad_tables_are_refused(
    tree: xr.DataTree, given: object, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        bg.regress(tree, given)


def test_too_many_rows_of_every_draw_are_refused(tree: xr.DataTree) -> None:
    rows = {"a": np.zeros(3_000_000)}
    with pytest.raises(ValueError, match=r"`given` must leave all draws under 2 GiB; got 3000000"):
        bg.regress(tree, rows, probability=None)
    with pytest.raises(ValueError, match=r"`probability` must lie between 0 and 1; got 1\.5\."):
        bg.regress(tree, rows, probability=1.5)
