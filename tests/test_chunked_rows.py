"""Blocks of rows are read with what is said of them, which is cut as they are."""

from typing import Any

import dask
import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray

from bayesgmm.chunked import Chunked
from bayesgmm.chunked_rows import Reader, Rows, Source

type Array = NDArray[np.float64]

X = np.arange(20.0).reshape(10, 2)
DIMS = ("time", "y", "x")


def table() -> Chunked:
    return Chunked.of(dask.array.from_array(X, chunks=((4, 6), 2)), "X")


def cube() -> xr.DataArray:
    cells = np.arange(48.0).reshape(2, 3, 4, 2)
    cells[0, 1, 2] = cells[1, :, :2] = np.nan
    cells[0, 0, 0, 1] = np.nan
    return xr.DataArray(cells, dims=(*DIMS, "band"))


def every_row(table: Chunked, said: dict[str, Any], n_components: int = 2) -> Rows:
    source = Source.of(table, ["a", "b"], said, n_components)
    parts = dask.compute(source.parts, scheduler="synchronous")[0]
    return Rows.joined([source.reader.read(*part) for part in parts])


W = np.arange(10) * 0.5
FRAME = pd.DataFrame({"a": W, "b": W + 1.0})


@pytest.mark.parametrize(
    "weights",
    [
        W,
        W.tolist(),
        pd.Series(W),
        xr.DataArray(W, dims="row"),
        dask.array.from_array(W, chunks=10),
        dask.array.from_array(W, chunks=3),
        xr.DataArray(W, dims="row").chunk(row=7),
        dask.dataframe.from_pandas(FRAME, npartitions=3)["a"],
    ],
)
def test_weights_of_any_kind_are_cut_as_rows_are(weights: Any) -> None:
    source = Source.of(table(), ["a", "b"], {"sample_weight": weights, "labels": None}, 2)
    first, second = source.said["sample_weight"]
    np.testing.assert_array_equal(first.compute(scheduler="synchronous"), W[:4])
    np.testing.assert_array_equal(second.compute(scheduler="synchronous"), W[4:])
    assert source.width == 3


def test_rows_have_all_that_is_said_of_them() -> None:
    labels = np.where(np.arange(10) < 3, 1.0, np.nan)
    errors = dask.dataframe.from_pandas(FRAME, npartitions=4)
    said = {"sample_weight": W, "labels": labels, "measurement_error": errors}
    rows = every_row(table(), said)
    np.testing.assert_array_equal(rows.values, X)
    assert rows.numbers.tolist() == list(range(10))
    np.testing.assert_array_equal(rows.sample_weight, W)
    np.testing.assert_array_equal(rows.allowed, [[0.0, 1.0]] * 3 + [[1.0, 1.0]] * 7)
    np.testing.assert_array_equal(rows.errors, FRAME)
    covariances = FRAME.to_numpy()[:, :, None] * np.eye(2)
    covariances[0] = 0.0
    rows = every_row(table(), {"measurement_error": covariances})
    np.testing.assert_array_equal(rows.errors, covariances)
    assert rows.sample_weight is rows.allowed is None


@pytest.mark.parametrize("chunks", [{}, {"time": 1, "y": 2, "x": 3}, {"y": 1, "x": 1}])
def test_cells_of_a_cube_with_nothing_in_them_are_left_out(chunks: dict[str, int]) -> None:
    scene = cube()
    weights = xr.DataArray(np.arange(24.0).reshape(2, 3, 4), dims=DIMS)
    weights[0, 1, 2] = np.nan  # nothing is asked of it
    shares = xr.DataArray(np.ones((2, 2, 3, 4)), dims=("component", *DIMS))
    shares[0] = 0.25
    errors = scene.transpose("x", "band", ...) * 0.0 + 0.5
    said = {"sample_weight": weights, "labels": shares, "measurement_error": errors}
    cells = scene.values.reshape(24, 2)
    seen = ~np.isnan(cells).all(axis=1)
    for one in (said, {name: values.chunk(x=3) for name, values in said.items()}):
        rows = every_row(Chunked.of(scene.chunk(chunks), "X", "band"), one)
        order = np.argsort(rows.numbers)
        rows = rows.some(order)
        assert rows.numbers.tolist() == np.flatnonzero(seen).tolist()
        np.testing.assert_array_equal(rows.values, cells[seen])
        np.testing.assert_array_equal(rows.sample_weight, np.flatnonzero(seen))
        assert (rows.allowed == [0.25, 1.0]).all()
        np.testing.assert_array_equal(rows.errors, np.where(np.isnan(cells[seen]), 0.0, 0.5))


def test_cells_may_be_said_of_by_arrays_of_the_shape_of_the_cube() -> None:
    weights = np.arange(24.0)
    chunked = Chunked.of(cube().chunk(time=1, y=2, x=3), "X", "band")
    for one in (weights, weights.reshape(2, 3, 4), dask.array.from_array(weights.reshape(2, 3, 4))):
        rows = every_row(chunked, {"sample_weight": one})
        np.testing.assert_array_equal(rows.sample_weight, rows.numbers)


UNKNOWN = (lambda line: line[line > -1.0])(dask.array.from_array(W, chunks=4))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"sample_weight": W[:9]}, r"^`sample_weight` must have an .* 10 rows of `X`; .*\(9,\)"),
        ({"sample_weight": dask.array.ones(11)}, r"^`sample_weight` must have an e.* .*\(11,\)"),
        ({"sample_weight": UNKNOWN}, r"^`sample_weight` must have chunks of known sizes; .*nan"),
        ({"sample_weight": FRAME}, r"^`sample_weight` must have shape \(10,\); got \(10, 2\)"),
        ({"sample_weight": -W}, r"^`sample_weight` must be finite and at l.* got -0.5 at row 1\. "),
        ({"sample_weight": pd.Series(W)[::-1]}, r"^`sample_weight` must have the labels of the r"),
        ({"labels": np.ones((10, 3))}, r"^`labels` must have shape \(10,\) or \(10, 2\); got"),
        ({"labels": np.arange(10)}, r"^`labels` must lie in 0 to 1, .* got 2 at row 2\."),
        ({"measurement_error": X[:, :1]}, r"^`measurement_error` must have shape \(10, 2\) or"),
        ({"measurement_error": -X}, r"^`measurement_error` must .* -1.0 at row 0, column 'b'\."),
    ],
)  # fmt: skip
def test_what_is_not_said_of_these_rows_is_refused(said: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        every_row(table(), said)


def test_other_columns_are_refused() -> None:
    frame = dask.dataframe.from_pandas(FRAME, npartitions=2)
    for errors in (frame[["b", "a"]], FRAME[["b", "a"]]):
        with pytest.raises(ValueError, match=r"^`measurement_error` must have the columns of `X`,"):
            every_row(Chunked.of(frame, "X"), {"measurement_error": errors})


def test_what_is_not_said_of_these_cells_is_refused() -> None:
    chunked = Chunked.of(cube().chunk(y=2), "X", "band")
    for weights in (np.ones(23), dask.array.ones(24), xr.DataArray(np.ones((3, 4)), dims=DIMS[1:])):
        with pytest.raises(ValueError, match=r"an entry for each cell .*'time', 'y', 'x' of sizes"):
            every_row(chunked, {"sample_weight": weights})
    with pytest.raises(ValueError, match=r"got -1\.0 at cell \(time=1, y=2, x=3\), column 'a'\. C"):
        every_row(chunked, {"measurement_error": cube() * 0.0 - (cube() == 46.0)})


def test_rows_are_called_by_their_places() -> None:
    assert Reader(["a"], 2, ("obs",), (9,)).row(5) == "row 5"
    assert Reader(["a"], 2, DIMS, (2, 3, 4)).row(13) == "cell (time=1, y=0, x=1)"
