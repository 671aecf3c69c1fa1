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


def cube(dtype: str = "f8") -> xr.DataArray:
    return xr.DataArray(
        np.arange(24.0).reshape(2, 3, 2, 2).astype(dtype),
        dims=("band", "time", "y", "x"),
        coords={
            "band": ["red", "green"],
            "time": [1, 2, 3],
            "lat": (("y", "x"), [[1.0, 2.0], [3.0, 4.0]]),
            "sensor": "A",
        },
    )


def test_cubes_are_cut_where_their_chunks_are() -> None:
    table = Chunked.of(cube().chunk(time=2, y=1, band=2), "X", "band")
    assert table.is_cube
    assert table.dims == ("time", "y", "x")
    assert table.along == "band"
    assert table.chunks == ((2, 1), (1, 1), (2,))
    assert table.shape == (3, 2, 2)
    assert table.n_rows == 12
    assert table.n_features == 2
    assert table.sizes.tolist() == [4, 4, 2, 2]
    assert table.offsets == [(0, 0, 0), (0, 1, 0), (2, 0, 0), (2, 1, 0)]
    assert sorted(table.coords) == ["lat", "time"]
    for block, (time, y, _) in zip(table.blocks, table.offsets, strict=True):
        part = cube().isel(time=slice(time, time + 2 - time // 2), y=[y]).transpose(..., "band")
        np.testing.assert_array_equal(
            block_values(block.compute(scheduler="synchronous")), part.values.reshape(-1, 2)
        )
    labelled = table.labelled(np.zeros((3, 2)))
    assert labelled.dims == ("time", "band")
    assert labelled["band"].values.tolist() == ["red", "green"]
    assert "time" not in labelled.coords


def test_empty_chunks_of_a_cube_are_passed_over() -> None:
    cells = cube().transpose(..., "band")
    data = dask.array.from_array(cells.values, chunks=((2, 0, 1), 2, (0, 2), 2))
    table = Chunked.of(cells.copy(data=data), "X", "band")
    assert table.chunks == ((2, 1), (2,), (2,))
    assert len(table.blocks) == 2


def test_variables_of_a_dataset_are_features() -> None:
    source = cube().to_dataset("band").chunk(time=1)
    source["red"].attrs["units"] = source["green"].attrs["units"] = "K"
    source["green"] = source["green"].chunk(time=2, y=1)
    source = source.assign_coords(bounds=("edge", [0.0, 1.0]))
    assert is_chunked(source)
    assert is_chunked(source.assign(green=source["green"].compute()))
    assert not is_chunked(source.compute())
    table = Chunked.of(source, "X")
    assert table.chunks == ((1, 1, 1), (1, 1), (2,))
    assert table.template["feature"].values.tolist() == ["red", "green"]
    assert table.template["units"].values.tolist() == ["K", "K"]
    line = Chunked.of(source.isel(y=0, x=0, drop=True), "X")
    assert not line.is_cube
    assert line.n_rows == 3


def test_a_store_may_hold_a_cube(tmp_path: Path) -> None:
    source = xr.Dataset({"scene": cube(), "mask": (("y", "x"), np.ones((2, 2)))})
    source.chunk(band=1, time=1).to_zarr(tmp_path / "scene.zarr", consolidated=False)
    table = Chunked.of(tmp_path / "scene.zarr", "X", "band")
    assert table.chunks == ((1, 1, 1), (2,), (2,))
    assert table.n_features == 2


@pytest.mark.parametrize(
    ("make", "feature_dim", "message"),
    [
        (lambda: cube().chunk(), None, r"^`feature_dim` must name .* got None and the dimensions"),
        (lambda: cube().chunk(), "bands", r"^`feature_dim` must be .* Did you mean 'band'\?"),
        (lambda: cube().chunk(band=1), "band", r"got chunks of 1, 1 f.* `X\.chunk\(\{'band': -1\}"),
        (lambda: cube()[:, :0].chunk(), "band", r"^`X` must hold at least one row and one feature"),
        (lambda: cube().chunk().data, None, r"^`X` must be 2-D, .* make a DataArray of it and nam"),
    ],
)  # fmt: skip
def test_what_is_no_cube_in_blocks_is_refused(
    make: Any, feature_dim: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Chunked.of(make(), "X", feature_dim)


def test_features_without_a_dimension_have_no_name_for_it() -> None:
    for other in (cube().to_dataset("band").chunk(), dask.array.from_array(X)):
        with pytest.raises(TypeError, match=r"^`feature_dim` must be left out unless `X` is a Dat"):
            Chunked.of(other, "X", "band")
    with pytest.raises(TypeError, match=r"^`X` must hold real numbers .* got text in 'green'\. Dr"):
        Chunked.of(
            cube().to_dataset("band").chunk().assign(green=(("y", "x"), [["a", "b"]] * 2)), "X"
        )
