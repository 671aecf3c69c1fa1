"""What a fit says of rows in blocks is what it says of them in memory, when it is asked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray

import bayesgmm as bg

type Array = NDArray[np.float64]

ALIKE = (bg.predict_proba, bg.predict, bg.score_samples)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return bg.datasets.load_faithful().astype(float)


@pytest.fixture(scope="module")
def tree(frame: pd.DataFrame) -> xr.DataTree:
    settings = {"method": "laplace", "random_seed": 1, "progressbar": False}
    return bg.fit(frame, 2, draws=20, chains=2, **settings)


def as_array(frame: pd.DataFrame) -> tuple[Any, Any]:
    return dask.array.from_array(frame.to_numpy(), chunks=(50, 2)), frame.to_numpy()


def as_frame(frame: pd.DataFrame) -> tuple[Any, Any]:
    return dask.dataframe.from_pandas(frame, npartitions=4), frame


def as_xarray(frame: pd.DataFrame) -> tuple[Any, Any]:
    time, labels = np.arange(len(frame)) * 2.0, list(frame.columns)
    array = xr.DataArray(
        frame.to_numpy(),
        dims=("time", "feature"),
        coords={"time": time, "feature": labels, "day": ("time", time // 24)},
    )
    return array.chunk({"time": 100}), array


@pytest.mark.parametrize("function", ALIKE)
@pytest.mark.parametrize("kind", [as_array, as_frame, as_xarray])
def test_chunks_in_and_chunks_out(
    tree: xr.DataTree, frame: pd.DataFrame, kind: Callable[[Any], Any], function: Callable[..., Any]
) -> None:
    chunked, whole = kind(frame)
    found, expected = function(tree, chunked), function(tree, whole)
    assert found.chunks is not None
    assert len(found.chunks[0]) > 2
    assert sum(found.chunks[0]) == 272
    assert found.name == expected.name
    assert found.dtype == expected.dtype
    xr.testing.assert_equal(found.compute(), expected)


def test_nothing_is_computed_before_it_is_asked_for(tree: xr.DataTree) -> None:
    def read(block: Array, block_info: Any = None) -> Array:
        raise OSError("read")

    rows = dask.array.zeros((100, 2), chunks=(10, 2)).map_blocks(read, meta=np.empty((0, 0)))
    found = bg.predict(tree, rows)
    with pytest.raises(OSError, match=r"^read$"):
        found.compute()


def test_scores_of_outliers_are_of_the_same_points(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    chunked, whole = as_array(frame[:60])
    found = bg.outlier_score(tree, chunked.rechunk((20, 2)), random_seed=3).compute()
    expected = bg.outlier_score(tree, whole, random_seed=3)
    assert set(found) == set(expected)
    np.testing.assert_allclose(found["log_density"], expected["log_density"], rtol=1e-12)
    gap = abs(found["score"] - expected["score"])
    assert (gap <= 5.0 * np.hypot(found["score_error"], expected["score_error"])).all()
    np.testing.assert_array_equal(  # the same row in two blocks is judged alike
        *(
            bg.outlier_score(tree, dask.array.from_array(whole[[0, 1, 0, 1]], chunks=(2, 2)))
            .compute()["score"]
            .values.reshape(2, 2)
        )
    )


def test_missing_cells_are_drawn_block_by_block(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    X = frame.to_numpy(copy=True)[:90]
    X[[3, 70], 1] = np.nan
    X[70] = X[3]
    rows = dask.array.from_array(X, chunks=(30, 2))
    found = bg.impute(tree, rows, draws=5, random_seed=1)
    assert found["X"].chunks == ((5,), (30, 30, 30), (2,))
    drawn = found.compute()
    assert drawn["missing"].values.nonzero()[0].tolist() == [3, 70]
    assert not np.isnan(drawn["X"]).any()
    expected = bg.impute(tree, X, draws=5, random_seed=1)
    error = expected["sd"].values[3, 1] / 1000.0**0.5
    for row in (3, 70):
        assert abs(drawn["mean"][row, 1] - expected["mean"][row, 1]) < 5.0 * 2.0**0.5 * error
    assert (drawn["X"][:, 3, 1].values != drawn["X"][:, 70, 1].values).all()  # seeds of their own
    xr.testing.assert_identical(bg.impute(tree, rows, draws=5, random_seed=1).compute(), drawn)


@pytest.mark.parametrize("function", [*ALIKE, bg.outlier_score, bg.impute])
def test_other_columns_are_refused_at_once(
    tree: xr.DataTree, frame: pd.DataFrame, function: Callable[..., Any]
) -> None:
    swapped = dask.dataframe.from_pandas(frame[["waiting", "eruptions"]], npartitions=2)
    with pytest.raises(ValueError, match=r"^`X_new` must have the 2 fitted columns, .* Reorder"):
        function(tree, swapped)
    with pytest.raises(ValueError, match=r"^`X_new` must be chunked along its rows alone"):
        function(tree, dask.array.zeros((6, 2), chunks=(3, 1)))
    with pytest.raises(ValueError, match=r"^`tree` must be a fit, .* got a DataTree without the a"):
        function(xr.DataTree(), swapped)


def test_paths_are_rows_too(tree: xr.DataTree, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame[:100].to_parquet(tmp_path / "0.parquet")
    frame[100:].to_parquet(tmp_path / "1.parquet")
    found = bg.predict(tree, tmp_path)
    assert found.chunks == ((100, 172),)
    np.testing.assert_array_equal(found, bg.predict(tree, frame))
