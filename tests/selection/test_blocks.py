"""Rows in blocks are compared as those in memory, or by what sums over them tell."""

from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm.inference import blocks
from bayesgmm.selection import Selection
from bayesgmm.selection import blocks as module

type Array = NDArray[np.float64]


@pytest.fixture(scope="module")
def X() -> Array:
    return bg.datasets.load_faithful().to_numpy(dtype=float)


@pytest.fixture
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are more than are read into memory."""
    monkeypatch.setattr(blocks, "KEPT", 100)


def chunked(X: Array) -> Any:
    return dask.array.from_array(X, chunks=(50, 2))


def select(X: Any, **keywords: Any) -> Selection:
    settings = {"method": "laplace", "criteria": ["bic", "aic"], "progressbar": False}
    return bg.select(X, (1, 2), random_seed=1, **(settings | keywords))


def assert_same(one: Selection, other: Selection) -> None:
    pd.testing.assert_frame_equal(
        one.table.drop(columns="seconds"), other.table.drop(columns="seconds"), check_exact=True
    )


def test_few_rows_are_read_into_memory(X: Array, tmp_path: Path) -> None:
    settings = {"criteria": ["icl"]}  # which takes rows
    expected = select(X, **settings)
    assert_same(select(chunked(X), **settings), expected)
    store = zarr.create_array(tmp_path / "rows.zarr", shape=X.shape, chunks=(100, 1), dtype="f8")
    store[:] = X
    assert_same(select(tmp_path / "rows.zarr", **settings), expected)


def test_what_is_said_of_few_rows_is_read_with_them(X: Array) -> None:
    weights = np.random.default_rng(1).integers(1, 4, len(X)).astype(float)
    expected = select(X, sample_weight=weights)
    found = select(chunked(X), sample_weight=dask.array.from_array(weights, chunks=70))
    assert_same(found, expected)
    cube = xr.DataArray(chunked(X[:270]).reshape(27, 10, 2), dims=("day", "hour", "feature"))
    assert_same(select(cube, feature_dim="feature"), select(X[:270]))


@pytest.mark.usefixtures("many")
@pytest.mark.filterwarnings("error")
def test_many_rows_are_compared_by_their_likelihood(
    X: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "TOGETHER", 1000)
    expected = select(X)
    found = select(chunked(X))
    np.testing.assert_allclose(found.table[["bic", "aic"]], expected.table[["bic", "aic"]], 1e-9)
    assert found.answers == expected.answers
    assert found.table["n_clusters"].isna().all()
    assert "Recommended: 2 components." in repr(found)
    assert "observed_data" not in found.fits[2, "full"].children


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"criteria": ["bic", "loo"]}, r"^`criteria` must be among 'bic' and 'aic' .* got 'loo'\."),
        ({"sample_weight": np.ones(272)}, r"^`sample_weight` must be left out .* type ndarray\."),
        ({"folder": "somewhere"}, r"^`folder` must be left out .* got an object of type str\."),
    ],
)
def test_what_many_rows_do_not_tell_is_refused(
    X: Array, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        select(chunked(X), **keywords)


@pytest.mark.usefixtures("many")
def test_a_fit_that_fails_or_is_interrupted(X: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    given = module.fit

    def failing(X: Any, specification: Any, **keywords: Any) -> Any:
        if specification.n_components == 1:
            raise bg.FitError("no mode", status="degenerate")
        return given(X, specification, **keywords)

    monkeypatch.setattr(module, "fit", failing)
    with pytest.warns(bg.ConvergenceWarning, match=r"1 of 2 fits cannot .* Failed: no mode"):
        assert list(select(chunked(X)).fits) == [(2, "full")]

    def interrupted(X: Any, specification: Any, **keywords: Any) -> Any:
        tree = given(X, specification, **keywords)
        return tree if specification.n_components == 1 else stopped(tree)

    def stopped(tree: Any) -> Any:
        tree.attrs["interrupted"] = 1
        return tree

    monkeypatch.setattr(module, "fit", interrupted)
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 1 of 2 fits"):
        assert list(select(chunked(X)).fits) == [(1, "full")]
