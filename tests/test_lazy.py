"""What a fit says of rows in blocks is what it says of them in memory, when it is asked."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
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


@pytest.fixture
def one_at_a_time() -> Iterator[None]:
    with dask.config.set(scheduler="synchronous"):
        yield


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


SHAPE = {"time": 3, "y": 6, "x": 15}


def scene(frame: pd.DataFrame, masked: bool) -> xr.DataArray:
    cells = frame.to_numpy(copy=True)[:270].reshape(*SHAPE.values(), 2)
    if masked:
        cells[1] = cells[:, 2:4, 5:] = np.nan  # whole chunks, and parts
        cells[2, 0, :, 1] = np.nan
    return xr.DataArray(
        cells,
        dims=(*SHAPE, "band"),
        coords={
            "time": ("time", pd.date_range("2024-01-01", periods=3), {"axis": "T"}),
            "band": list(frame.columns),
            "lat": (("y", "x"), np.arange(90.0).reshape(6, 15), {"units": "degrees"}),
            "sensor": "A",
        },
        name="scene",
    )


CUTS: dict[int, dict[str, int]] = {1: {}, 7: {"time": 1, "y": 3}, 100: {"time": 1, "y": 1, "x": 3}}


@pytest.mark.usefixtures("one_at_a_time")
@pytest.mark.parametrize(
    ("function", "masked"), [*((function, True) for function in ALIKE), (bg.predict, False)]
)
def test_maps_of_cubes_are_lazy_in_their_dimensions_and_chunks(
    tree: xr.DataTree, frame: pd.DataFrame, function: Callable[..., Any], masked: bool
) -> None:
    whole = scene(frame, masked)
    expected = function(tree, whole)
    for cut in CUTS.values():
        chunked = whole.chunk(cut)
        found = function(tree, chunked)
        assert found.dims == expected.dims
        assert found.chunks[-3:] == chunked.chunks[:-1]
        assert found.name == expected.name
        assert found.dtype == np.float64
        computed = found.compute()
        xr.testing.assert_allclose(computed, expected.astype(float), rtol=1e-10)
        assert found.coords.to_dataset().identical(expected.coords.to_dataset())
        moved = function(tree, chunked.transpose("x", "band", ...)).transpose(*found.dims)
        xr.testing.assert_allclose(moved.compute(), computed, rtol=1e-10)
    assert (computed.isnull().sum() > 0) == masked


def test_maps_of_whole_numbers_keep_their_type(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    whole = scene(frame, masked=False).round().astype(int)
    found = bg.predict(tree, whole.chunk(time=1))
    assert found.dtype == np.int64
    xr.testing.assert_identical(found.compute(), bg.predict(tree, whole))


def test_datasets_of_bands_are_cubes(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    whole = scene(frame, masked=True).to_dataset("band")
    found = bg.predict(tree, whole.chunk(y=2))
    assert found.chunks == ((3,), (2, 2, 2), (15,))
    xr.testing.assert_allclose(found.compute(), bg.predict(tree, whole))
    with pytest.raises(ValueError, match=r"^`X_new` must have the 2 fitted columns"):
        bg.predict(tree, whole[["waiting", "eruptions"]].chunk())


def test_stores_of_cubes_are_read_chunk_by_chunk(frame: pd.DataFrame, tmp_path: Path) -> None:
    whole = scene(frame, masked=True)
    settings = {"method": "map", "random_seed": 1, "progressbar": False}
    fitted = bg.fit(whole.chunk(time=1), 2, feature_dim="band", **settings)
    whole.chunk(time=1).to_dataset().to_zarr(tmp_path / "scene.zarr", consolidated=False)
    found = bg.predict_proba(fitted, tmp_path / "scene.zarr")
    assert found.chunks == ((2,), (1, 1, 1), (6,), (15,))
    xr.testing.assert_allclose(found.compute(), bg.predict_proba(fitted, whole), rtol=1e-10)


def test_outliers_and_missing_cells_of_cubes_are_maps(
    tree: xr.DataTree, frame: pd.DataFrame
) -> None:
    whole = scene(frame, masked=True)
    chunked = whole.chunk(time=1, y=4)
    found = bg.impute(tree, chunked, draws=3, random_seed=1)
    expected = bg.impute(tree, whole, draws=3, random_seed=1)
    assert found["X"].chunks == ((3,), (2,), (1, 1, 1), (4, 2), (15,))
    drawn = found.compute()
    assert {name: one.dims for name, one in drawn.items()} == {
        name: one.dims for name, one in expected.items()
    }
    np.testing.assert_array_equal(drawn["missing"], expected["missing"].astype(float))
    np.testing.assert_array_equal(drawn["X"].isnull(), expected["X"].isnull())
    known = expected["missing"] == 0.0
    xr.testing.assert_equal(drawn["mean"].where(known), expected["mean"].where(known))
    complete = scene(frame, masked=False).where(whole["time"] != whole["time"][1])[:, :2]
    scores = bg.outlier_score(tree, complete.chunk(time=1), random_seed=3)
    assert scores["score"].chunks == ((1, 1, 1), (2,), (15,))
    of_all = bg.outlier_score(tree, complete, random_seed=3)
    xr.testing.assert_allclose(scores["log_density"].compute(), of_all["log_density"], rtol=1e-10)
    gap = abs(scores["score"] - of_all["score"]).compute()
    error = np.hypot(scores["score_error"], of_all["score_error"]).compute()
    assert ((gap <= 5.0 * error) | (gap.isnull() & of_all["score"].isnull())).all()


@pytest.mark.parametrize("function", [*ALIKE, bg.outlier_score, bg.impute])
def test_cubes_that_cannot_be_told_are_refused_at_once(
    tree: xr.DataTree, frame: pd.DataFrame, function: Callable[..., Any]
) -> None:
    whole = scene(frame, masked=False)
    with pytest.raises(
        ValueError, match=r"^`X_new` must be chunked along .* `X_new\.chunk\(\{'band"
    ):
        function(tree, whole.chunk(band=1))
    with pytest.raises(
        ValueError, match=r"^`feature_dim` must name .* where `X_new` has 4; got None"
    ):
        function(tree, whole.assign_coords(band=["a", "b"]).chunk())
    with pytest.raises(
        ValueError, match=r"^`X_new` must have coordinates .* got 'component'\. Rename"
    ):
        function(tree, whole.assign_coords(component=("y", np.arange(6))).chunk())
