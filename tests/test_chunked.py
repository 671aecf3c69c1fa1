"""Tables in blocks are recognised, and their blocks read as tables in memory are."""

from pathlib import Path
from typing import Any

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr

from bayesgmm.chunked import Chunked, block_values, is_chunked

X = np.arange(12.0).reshape(6, 2)


def test_what_comes_in_blocks(tmp_path: Path) -> None:
    array = xr.DataArray(X, dims=("time", "feature"))
    assert is_chunked(dask.array.from_array(X))
    assert is_chunked(dask.dataframe.from_pandas(pd.DataFrame(X), npartitions=1))
    assert is_chunked(array.chunk({"time": 2}))
    zarr.create_array(tmp_path / "x.zarr", shape=X.shape, dtype="f8")
    (tmp_path / "parts").mkdir()
    pd.DataFrame(X, columns=["a", "b"]).to_parquet(tmp_path / "parts" / "0.parquet")
    assert is_chunked(tmp_path / "x.zarr")
    assert is_chunked(str(tmp_path / "parts"))
    for other in (
        X,
        pd.DataFrame(X),
        array,
        X.tolist(),
        "x.csv",
        tmp_path / "nothing",
        5000 * "x",
        None,
    ):
        assert not is_chunked(other)


def test_empty_blocks_are_passed_over() -> None:
    table = Chunked.of(dask.array.from_array(X, chunks=((2, 0, 4), (2,))), "X")
    assert table.sizes.tolist() == [2, 4]
    assert table.n_rows == 6
    assert table.n_features == 2


def test_lines_are_one_feature() -> None:
    for line in (dask.array.from_array(X[:, 0]), xr.DataArray(X[:, 0], dims="time").chunk()):
        table = Chunked.of(line, "X")
        assert table.n_features == 1
        np.testing.assert_array_equal(block_values(table.blocks[0].compute()), X[:, :1])


@pytest.mark.parametrize(
    "block",
    [
        pd.DataFrame({"a": pd.array([1, pd.NA], dtype="Int64"), "b": [0.5, 1.0]}, index=["p", "q"]),
        np.ma.masked_invalid([[1.0, 0.5], [np.nan, 1.0]]),
        np.array([[1.0, 0.5], [np.nan, 1.0]], dtype=np.float16, order="F"),
    ],
)
def test_blocks_of_any_kind_become_floats(block: Any) -> None:
    found = block_values(block)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, [[1.0, 0.5], [np.nan, 1.0]])


def test_rows_of_the_sample_get_the_labels_of_the_columns() -> None:
    array = xr.DataArray(
        X, dims=("time", "feature"), coords={"feature": ["a", "b"], "time": X[:, 0]}
    )
    table = Chunked.of(array.chunk({"time": 4}), "X")
    assert list(table.coords) == ["time"]
    labelled = table.labelled(X[[5, 0, 1]])
    assert labelled["feature"].values.tolist() == ["a", "b"]
    assert "time" not in labelled.coords
    frame = dask.dataframe.from_pandas(pd.DataFrame(X, columns=["a", "b"]), npartitions=2)
    assert list(Chunked.of(frame, "X").labelled(X).columns) == ["a", "b"]
