"""What the user's data were called, and what they were made of, survives every method."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg

N = 40
METHODS = ("nuts", "fullrank_advi", "advi", "laplace", "map", "ml")
VALUES = bg.datasets.make_mixture(N, 2, 2, separation=8.0, random_seed=3)["X"].values


def fit(X: Any, method: str = "map") -> xr.DataTree:
    return bg.fit(
        X, 2, method=method, draws=10, tune=20, chains=2, random_seed=1, progressbar=False
    )


def strings() -> pd.DataFrame:
    index = pd.Index([f"plant {i}" for i in range(N)], name="plant")
    return pd.DataFrame(VALUES, index=index, columns=["height", "width of é"])


def integers() -> pd.DataFrame:
    return pd.DataFrame(VALUES, index=np.arange(N) * 10 + 5, columns=[1990, 2000])


def dates() -> pd.DataFrame:
    index = pd.date_range("2026-01-01", periods=N, freq="h", name="time")
    return pd.DataFrame(VALUES, index=index, columns=["a", "b"])


FRAMES = {"strings": strings, "integers": integers, "dates": dates}
each = pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)


@pytest.mark.parametrize("method", METHODS)
@each
def test_frame_labels_are_kept(frame: Callable[[], pd.DataFrame], method: str) -> None:
    X = frame()
    tree = fit(X, method)
    observed = tree["observed_data"]["X"]
    for labels in (observed["obs"], tree["log_likelihood"]["obs"], bg.predict_proba(tree)["obs"]):
        assert labels.values.tolist() == X.index.to_numpy().tolist()
        assert labels.dtype.kind == X.index.to_numpy().dtype.kind
    for group, dim in (("posterior", "feature"), ("posterior", "feature2"), ("modes", "feature")):
        assert tree[group][dim].values.tolist() == X.columns.tolist()
    assert tree["constant_data"]["unit"]["feature"].values.tolist() == X.columns.tolist()
    chosen = tree["posterior"]["means"].sel(feature=X.columns[1]).isel(component=0)
    assert chosen.dims == ("chain", "draw")
    np.testing.assert_array_equal(observed.values, X.to_numpy())


@each
def test_new_rows_keep_their_own_labels(frame: Callable[[], pd.DataFrame]) -> None:
    tree = fit(frame())
    new = pd.DataFrame(
        VALUES[:3] + 0.5, index=["one", "two", "three"], columns=frame().columns.tolist()
    )
    for function in (bg.predict_proba, bg.predict, bg.score_samples):
        result = function(tree, new)
        assert result["obs"].values.tolist() == ["one", "two", "three"]
        bare = function(tree, new.to_numpy())
        assert bare["obs"].values.tolist() == [0, 1, 2]
        np.testing.assert_array_equal(result.values, bare.values)


@pytest.mark.parametrize("method", METHODS)
def test_units_and_coordinates_of_an_array_are_kept(method: str) -> None:
    X = xr.DataArray(
        VALUES,
        dims=("station", "feature"),
        coords={
            "station": ("station", [f"s{i}" for i in range(N)], {"network": "north"}),
            "feature": ["temperature", "pressure"],
            "unit_of": ("feature", ["K", "hPa"]),
            "height": ("station", np.linspace(0.0, 100.0, N), {"units": "m"}),
        },
        attrs={"units": "mixed", "source": "none"},
    )
    tree = fit(X, method)
    observed = tree["observed_data"]["X"]
    assert observed.attrs["units"] == "mixed"
    assert observed.attrs["source"] == "none"
    assert observed["obs"].attrs["network"] == "north"
    assert observed["height"].attrs == {"units": "m"}
    np.testing.assert_array_equal(observed["height"].values, X["height"].values)
    assert tree["posterior"]["unit_of"].values.tolist() == ["K", "hPa"]
    assert bg.predict(tree)["height"].attrs == {"units": "m"}


@pytest.mark.parametrize("method", METHODS)
def test_what_the_user_passed_is_not_changed(method: str) -> None:
    array = VALUES.copy()
    array.flags.writeable = False  # whoever writes to it raises
    tree = fit(array, method)
    assert not np.shares_memory(tree["observed_data"]["X"].values, array)
    frame, before = strings(), strings()
    bg.predict_proba(fit(frame, method), frame)
    pd.testing.assert_frame_equal(frame, before)
    labelled = xr.DataArray(VALUES.copy(), dims=("row", "feature"), attrs={"units": "cm"})
    copy = labelled.copy(deep=True)
    fit(labelled, method)
    xr.testing.assert_identical(labelled, copy)


@pytest.mark.parametrize("method", METHODS)
def test_storage_of_the_numbers_does_not_matter(method: str) -> None:
    single = VALUES.astype(np.float32)
    expected = fit(single.astype(np.float64), method)
    frame = pd.DataFrame(single, columns=["x0", "x1"])
    for X in (single, np.asfortranarray(single), frame, single[::-1][::-1], single.tolist()):
        tree = fit(X, method)
        assert tree["observed_data"]["X"].dtype == np.float64
        for name, variable in expected["posterior"].data_vars.items():
            np.testing.assert_array_equal(tree["posterior"][name].values, variable.values)


@pytest.mark.parametrize("method", METHODS)
def test_one_dimension_is_one_feature(method: str) -> None:
    column = VALUES[:, :1]
    expected = fit(column, method)["posterior"]
    series = pd.Series(VALUES[:, 0], name="depth")
    for X in (VALUES[:, 0], series):
        posterior = fit(X, method)["posterior"]
        np.testing.assert_array_equal(posterior["means"].values, expected["means"].values)
    assert fit(series, method)["posterior"]["feature"].values.tolist() == ["depth"]


def test_integers_are_numbers() -> None:
    whole = np.round(10.0 * VALUES).astype(int)
    np.testing.assert_array_equal(
        fit(whole)["posterior"]["means"].values,
        fit(whole.astype(float))["posterior"]["means"].values,
    )
