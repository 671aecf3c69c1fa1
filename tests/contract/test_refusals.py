"""Bad input is refused before any computing, and the message says what is wrong and what to do."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg

FORM = re.compile(r"^`\w+(\.\w+)?` must .+[;:] got .+\. \S.*[.?]$", re.DOTALL)
"""The argument in backticks, the rule, what was got, the remedy."""

GOOD = bg.datasets.make_mixture(30, 2, 2, separation=8.0, random_seed=1)["X"].values


def changed(row: int | slice, column: int | slice, value: float) -> np.ndarray:
    X = GOOD.copy()
    X[row, column] = value
    return X


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"a": GOOD[:, 0], "b": GOOD[:, 1], **columns})


@pytest.fixture
def no_computing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any search for modes fail the test."""

    def computed(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr("bayesgmm.inference.methods.find_modes", computed)
    monkeypatch.setattr("bayesgmm.inference.nuts.find_modes", computed)
    monkeypatch.setattr("bayesgmm.inference.laplace.find_modes", computed)


BAD_DATA: dict[str, tuple[Any, type[Exception], str]] = {
    "nothing in a row": (
        changed(3, slice(None), np.nan), ValueError,
        r"`X` .*number in every row.*got nothing but missing cells \(NaN\) in row 3. Drop them",
    ),
    "nothing in a column": (
        changed(slice(None), 1, np.nan), ValueError,
        r"`X` .*number in every column.*got nothing but missing cells \(NaN\) in 'x1'. Drop",
    ),
    "infinity": (changed(4, 0, -np.inf), ValueError, r"`X` .*finite.*1 infinite.*row 4.*'x0'"),
    "text": (frame(c=["red"] * 30), TypeError, r"`X` must hold real numbers.*got text in 'c'"),
    "constant": (frame(c=4.0), ValueError, r"`X` must vary.*got the same number.*'c', 4\.0.*Drop"),
    "duplicated": (
        frame(c=GOOD[:, 0]), ValueError, r"`X` must .*singular.*got 'c', a copy.*of 'a'.*Drop one",
    ),
    "shifted and scaled copy": (
        frame(c=32.0 + 1.8 * GOOD[:, 1]), ValueError, r"`X` .*singular.*got 'c', a copy.*of 'b'",
    ),
    "sum of columns": (
        frame(c=GOOD[:, 0] + GOOD[:, 1]), ValueError, r"`X` must .*got 'c', a linear combination",
    ),
    "no rows": (np.empty((0, 2)), ValueError, r"`X` must hold .*one row.*got shape \(0, 2\)"),
    "no columns": (np.empty((5, 0)), ValueError, r"`X` must hold .*feature.*got shape \(5, 0\)"),
    "empty frame": (pd.DataFrame(), ValueError, r"`X` must hold .*one row.*got shape \(0, 0\)"),
    "one row": (GOOD[:1], ValueError, r"`X` must hold at least 2 rows; got shape \(1, 2\)"),
    "three dimensions": (GOOD[None], ValueError, r"`X` must .*2-D.*got .*\(1, 30, 2\)"),
    "one number": (3.0, TypeError, r"`X` must be .*got a single float"),
    "complex": (GOOD + 1j, TypeError, r"`X` must hold real numbers.*got complex numbers"),
    "nothing": (None, TypeError, r"`X` must .*got None"),
}  # fmt: skip


@pytest.mark.parametrize("method", ["nuts", "fullrank_advi", "advi", "laplace", "map", "ml"])
@pytest.mark.parametrize("case", BAD_DATA, ids=str)
def test_bad_data_are_refused(case: str, method: str, no_computing: None) -> None:
    X, error, match = BAD_DATA[case]
    with pytest.raises(error, match=re.compile(match, re.DOTALL)) as caught:
        bg.fit(X, 2, method=method, random_seed=1)
    assert FORM.match(str(caught.value))


def test_fewer_rows_than_components(no_computing: None) -> None:
    match = r"`X` must have at least as many rows as there are components, 6; got shape \(5, 2\)"
    with pytest.raises(ValueError, match=match) as caught:
        bg.fit(GOOD[:5], 6)
    assert FORM.match(str(caught.value))


BAD_ARGUMENTS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "K = 0": ({"spec": 0}, ValueError, r"`n_components` must be at least 1; got 0"),
    "K = -2": ({"spec": -2}, ValueError, r"`n_components` must be at least 1; got -2"),
    "K = 2.0": ({"spec": 2.0}, TypeError, r"`spec` must be .*got 2\.0 of type"),
    "K = True": ({"spec": True}, TypeError, r"`spec` must be .*got True of type"),
    "K = None": ({"spec": None}, TypeError, r"`spec` must be .*got None of type"),
    "prior alone": (
        {"spec": bg.LKJCovariance()}, TypeError, r"`spec` must be .*LKJCovariance",
    ),
    "prior of three features": (
        {"spec": bg.GaussianMixture(2, means=bg.NormalMeans([0.0, 1.0, 2.0]))},
        ValueError, r"`means\.location` must hold .*per feature, 2; got 3",
    ),
    "scale of three features": (
        {"spec": bg.GaussianMixture(2, covariance=bg.LKJCovariance(scale=[1, 2, 3]))},
        ValueError, r"`covariance\.scale` must hold .*per feature, 2; got 3",
    ),
    "method": ({"method": "nutz"}, ValueError, r"`method` must be one of 'nuts'.*'nutz'.*'nuts'\?"),
    "engine": ({"engine": "stan"}, ValueError, r"`engine` must be one of 'auto'.*got 'stan'"),
    "PyMC's engine": (
        {"engine": "pymc", "method": "map"}, ValueError, r"`engine` must be .*'map'; got 'pymc'",
    ),
    "JAX's engine": (
        {"engine": "jax", "method": "ml"}, ValueError, r"`engine` must be .*'ml'; got 'jax'",
    ),
    "draws": ({"draws": 3}, ValueError, r"`draws` must be at least 4; got 3"),
    "draws as float": ({"draws": 1e3}, TypeError, r"`draws` must be an integer; got 1000\.0"),
    "tune": ({"tune": 0}, ValueError, r"`tune` must be at least 20; got 0"),
    "chains": ({"chains": 0}, ValueError, r"`chains` must be at least 1; got 0"),
    "target of 1": ({"target_accept": 1.0}, ValueError, r"`target_accept` must .*got 1\.0"),
    "target of NaN": ({"target_accept": np.nan}, ValueError, r"`target_accept` must .*got nan"),
    "target as text": ({"target_accept": "high"}, TypeError, r"`target_accept` must .*got 'high'"),
    "seed": ({"random_seed": -1}, ValueError, r"`random_seed` must be at least 0; got -1"),
    "seed as text": ({"random_seed": "1"}, TypeError, r"`random_seed` must be an integer; got '1'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ARGUMENTS, ids=str)
def test_bad_arguments_are_refused(case: str, no_computing: None) -> None:
    arguments, error, match = BAD_ARGUMENTS[case]
    with pytest.raises(error, match=re.compile(match, re.DOTALL)) as caught:
        bg.fit(GOOD, **{"spec": 2, **arguments})
    assert FORM.match(str(caught.value))


# Prediction


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    return bg.fit(frame(), 2, method="map", random_seed=1, progressbar=False)


BAD_ROWS: dict[str, tuple[Any, type[Exception], str]] = {
    "missing column": (frame()[["a"]], ValueError, r"`X_new` must have .*'a', 'b'.*got 'a'"),
    "further column": (frame(c=1.0), ValueError, r"`X_new` .*got 'a', 'b', 'c'.*Keep only"),
    "other order": (
        frame()[["b", "a"]], ValueError,
        r"`X_new` must .*'a', 'b', in this order; got 'b', 'a'.*Reorder.*`X_new\[\['a', 'b'\]\]`",
    ),
    "other names": (
        frame().rename(columns={"b": "z"}), ValueError,
        r"`X_new` must have .*'a', 'b'.*got 'a', 'z'; missing 'b', unknown 'z'",
    ),
    "too wide": (GOOD[:, [0, 1, 1]], ValueError, r"`X_new` must have .*got shape \(30, 3\)"),
    "too narrow": (GOOD[:, :1], ValueError, r"`X_new` must have .*got shape \(30, 1\)"),
    "one row without its dimension": (GOOD[0], ValueError, r"`X_new` .*2-D.*got shape \(2,\)"),
    "nothing in a row": (
        changed(2, slice(None), np.nan), ValueError,
        r"`X_new` must .*number in every row.*nothing but missing cells \(NaN\) in row 2",
    ),
    "infinity": (changed(2, 0, np.inf), ValueError, r"`X_new` must .*finite.*1 infinite.*row 2"),
    "text": (frame(b="x"), TypeError, r"`X_new` must hold real numbers.*got text in 'b'"),
    "empty": (GOOD[:0], ValueError, r"`X_new` must hold at least one row.*got shape \(0, 2\)"),
    "other dimension": (
        xr.DataArray(GOOD, dims=("obs", "feature"), coords={"feature": ["b", "a"]}), ValueError,
        r"`X_new` must .*in this order; got 'b', 'a'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("function", [bg.predict_proba, bg.predict, bg.score_samples])
@pytest.mark.parametrize("case", BAD_ROWS, ids=str)
def test_bad_rows_are_refused(
    case: str, function: Callable[..., Any], tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    def computed(*args: Any) -> None:
        raise AssertionError("something was computed")

    monkeypatch.setattr("bayesgmm.prediction.fill_draws", computed)
    X_new, error, match = BAD_ROWS[case]
    with pytest.raises(error, match=re.compile(match, re.DOTALL)) as caught:
        function(tree, X_new)
    assert FORM.match(str(caught.value))


USERS = [
    bg.predict_proba, bg.predict, bg.score_samples, bg.sample_posterior_predictive, bg.align,
    bg.summary, bg.check,
]  # fmt: skip


@pytest.mark.parametrize("function", USERS)
def test_what_is_no_fit_is_refused(function: Callable[..., Any], tree: xr.DataTree) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit.*got 'fit\.nc'\. Load it first"):
        function("fit.nc")
    with pytest.raises(TypeError, match="`tree` must be a fit.*got an object of type ndarray"):
        function(GOOD)
    with pytest.raises(ValueError, match="`tree` must be a fit.*got a DataTree without"):
        function(xr.DataTree())
    bare = tree.copy()
    del bare["posterior"]
    with pytest.raises(ValueError, match="`tree` must hold the group 'posterior' for `"):
        function(bare)


# Files


def test_files_that_are_no_fits_are_refused(tmp_path: Path, tree: xr.DataTree) -> None:
    with pytest.raises(FileNotFoundError, match="`path` must be an existing file; got .*none.nc"):
        bg.load(tmp_path / "none.nc")
    text = tmp_path / "text.nc"
    text.write_text("weights,means\n1,2\n")
    with pytest.raises(ValueError, match=r"`path` must be a fit saved by .*got .*text\.nc"):
        bg.load(text)
    foreign = tmp_path / "foreign.nc"
    xr.Dataset({"t": ("x", [1.0, 2.0])}).to_netcdf(foreign, engine="h5netcdf")
    with pytest.raises(ValueError, match=r"`path` must be a fit saved by .*got .*foreign\.nc"):
        bg.load(foreign)
    with pytest.raises(ValueError, match=r"`path` must end in \.nc .*or \.zarr; got .*fit\.csv"):
        bg.load(tmp_path / "fit.csv")
    with pytest.raises(TypeError, match="`path` must be a string or a Path; got 3 of type int"):
        bg.load(3)  # type: ignore[arg-type]


def test_damaged_files_are_refused(tmp_path: Path, tree: xr.DataTree) -> None:
    whole = tmp_path / "whole.nc"
    bg.save(tree, whole)
    content = whole.read_bytes()
    short = tmp_path / "short.nc"
    short.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"`path` must be a fit saved by .*got .*short\.nc"):
        bg.load(short)
    bg.load(whole)
    with h5py.File(whole, "r+") as file:
        file["posterior/means"][0, 0, 0, 0] += 1e-9
    with pytest.raises(ValueError, match="`path` must be a fit.*'means'.* is not what was written"):
        bg.load(whole)
