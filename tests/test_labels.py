"""Labels, units and names of the user's data come back as they were given, from a file too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from bayesgmm import names
from bayesgmm.data import Data, prepare
from bayesgmm.labels import RESERVED, listed
from bayesgmm.tables import read

ROWS = np.array([[1.0, 4.0], [2.5, 2.0], [0.5, 3.0], [2.0, 1.0]])

INDEXES = {
    "default": pd.RangeIndex(4),
    "ints": pd.Index([10, 7, 7, -3]),
    "nullable ints": pd.Index([10, 7, 8, 3], dtype="Int64"),
    "floats": pd.Index([0.5, 1.5, 2.5, 9.0]),
    "strings": pd.Index(["a", "", "a b", "é"]),
    "object strings": pd.Index(["a", "b", "c", "d"], dtype=object),
    "categories": pd.CategoricalIndex(["p", "q", "p", "q"]),
    "dates": pd.date_range("1985-08-01 12:30", periods=4, freq="73min"),
    "durations": pd.to_timedelta([1, 5, 9, 10], unit="s"),
    "booleans": pd.Index([True, False, True, True]),
    "named": pd.Index(["u", "v", "w", "x"], name="geyser"),
}


def through_a_file(data: Data, folder: Path) -> xr.DataArray:
    """Write the labelled data to a file and read it again."""
    data.labelled(data.values).to_dataset().to_netcdf(folder / "X.nc", engine="h5netcdf")
    return xr.load_dataset(folder / "X.nc", engine="h5netcdf")[names.X]


@pytest.mark.parametrize("kind", INDEXES)
def test_the_index_of_a_frame_comes_back(kind: str, tmp_path: Path) -> None:
    index = INDEXES[kind]
    data = prepare(pd.DataFrame(ROWS, columns=["length", "width"], index=index))
    again = through_a_file(data, tmp_path)
    assert list(data.obs) == list(index.to_numpy())
    assert list(again[names.OBS].values) == list(index.to_numpy())
    assert again[names.FEATURE].values.tolist() == ["length", "width"]
    assert again.attrs.get(names.GIVEN_NAME) is None
    assert data.obs_coord.attrs.get(names.GIVEN_NAME) == index.name
    np.testing.assert_array_equal(again.values, ROWS)


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["length", "width"], ["length", "width"]),
        ([0, 1], [0, 1]),
        (pd.Index([5, 3], dtype="uint8", name="channel"), [5, 3]),
    ],
)
def test_the_columns_of_a_frame_come_back(columns: Any, expected: list[Any]) -> None:
    data = prepare(pd.DataFrame(ROWS, columns=columns))
    assert data.features.tolist() == expected
    assert data.feature_coord.attrs == (
        {names.GIVEN_NAME: "channel"} if isinstance(columns, pd.Index) else {}
    )


def test_frame_attributes_and_series_names_come_back() -> None:
    cells = pd.Series(ROWS[:, 0], index=list("abcd"), name="velocity")
    cells.attrs["units"] = "km/s"
    data = prepare(cells)
    assert (data.features.tolist(), data.obs.tolist()) == (["velocity"], list("abcd"))
    assert dict(data.attrs) == {"units": "km/s"}


def array_with_everything() -> xr.DataArray:
    return xr.DataArray(
        ROWS,
        dims=("time", "variable"),
        name="geyser",
        attrs={"units": "min", "codes": [1, 2], "levels": ["low", "high"], "gain": 2.5},
        coords={
            "time": ("time", pd.date_range("1985-08-01", periods=4), {"long_name": "onset"}),
            "variable": ("variable", ["eruptions", "waiting"], {"axis": "X"}),
            "phase": ("time", ["new", "new", "full", "full"], {"of": "moon"}),
            "unit_of": ("variable", ["s", "min"]),
            "quality": (("time", "variable"), np.arange(8.0).reshape(4, 2)),
            "run": 3,
        },
    )


def test_everything_on_a_dataarray_comes_back(tmp_path: Path) -> None:
    source = array_with_everything()
    data = prepare(source)
    again = through_a_file(data, tmp_path)
    for name, theirs in (("obs", "time"), ("feature", "variable")):
        np.testing.assert_array_equal(again[name].values, source[theirs].values)
        assert again[name].attrs == source[theirs].attrs | {names.GIVEN_NAME: theirs}
    for name in ("phase", "unit_of", "quality", "run"):
        np.testing.assert_array_equal(again[name].values, source[name].values)
        assert again[name].attrs == source[name].attrs
    assert again.attrs.pop(names.GIVEN_NAME) == "geyser"
    assert {key: list(np.atleast_1d(value)) for key, value in again.attrs.items()} == {
        key: list(np.atleast_1d(value)) for key, value in source.attrs.items()
    }


def test_coordinates_are_sorted_by_what_they_lie_along() -> None:
    data = prepare(array_with_everything())
    assert set(data.obs_coords) == {"obs", "phase"}
    assert set(data.feature_coords) == {"feature", "unit_of"}
    assert set(data.coords) == {"obs", "phase", "feature", "unit_of", "quality", "run"}
    labelled = data.labelled(2 * data.values)
    assert (labelled.name, labelled.dims) == ("X", ("obs", "feature"))
    np.testing.assert_array_equal(labelled, 2 * ROWS)


def test_what_was_fitted_can_be_fitted_again(tmp_path: Path) -> None:
    data = prepare(array_with_everything())
    again = prepare(through_a_file(data, tmp_path))
    assert (
        again.labelled(again.values).drop_attrs().identical(data.labelled(data.values).drop_attrs())
    )
    assert again.attrs[names.GIVEN_NAME] == "geyser"
    assert again.obs_coord.attrs == data.obs_coord.attrs


def test_dimensions_without_labels_keep_their_names() -> None:
    data = prepare(xr.DataArray(ROWS, dims=("time", "variable")))
    assert data.obs.tolist() == [0, 1, 2, 3]
    assert data.features.tolist() == ["x0", "x1"]
    assert data.obs_coord.attrs == {names.GIVEN_NAME: "time"}
    assert data.feature_coord.attrs == {names.GIVEN_NAME: "variable"}


@pytest.mark.parametrize(
    ("make", "features"),
    [
        (lambda cells: cells.isel(feature=1), ["b"]),
        (lambda cells: cells.isel(feature=1).drop_vars("feature").rename("c"), ["c"]),
        (lambda cells: cells.isel(feature=1).drop_vars("feature"), ["x0"]),
    ],
)
def test_one_dimensional_dataarray(make: Callable[..., xr.DataArray], features: list[str]) -> None:
    cells = xr.DataArray(ROWS, dims=("t", "feature"), coords={"feature": ["a", "b"]})
    data = prepare(make(cells))
    assert data.features.tolist() == features
    assert data.obs_coord.attrs == {names.GIVEN_NAME: "t"}
    np.testing.assert_array_equal(data.values, ROWS[:, 1:])


def test_what_turns_into_a_frame_is_read_as_one() -> None:
    class Table:
        def to_pandas(self) -> pd.DataFrame:
            return pd.DataFrame(ROWS, columns=["a", "b"])

    assert prepare(Table()).features.tolist() == ["a", "b"]


def frame() -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["a", "b"], index=list("uvwx"))


def attributed(**attrs: Any) -> pd.DataFrame:
    cells = frame()
    cells.attrs = attrs
    return cells


REFUSED = {
    "level of a reserved name": (
        frame().rename_axis("chain").set_index("a", append=True),
        ValueError,
        r"`X.index` must have coordinates with names that are strings and that results do not use; "
        r"got 'chain'. Rename it: `X.index = X.index.rename\(...\)`",
    ),
    "columns of two levels": (
        frame().set_axis(pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), axis=1),
        TypeError,
        r"`X.columns` must hold one label each; got a MultiIndex of 2 levels",
    ),
    "stacked": (
        xr.DataArray(ROWS[None], dims=("f", "o", "p")).stack(z=("o", "p")).transpose("f", "z"),
        TypeError,
        r"got a MultiIndex along 'z'. Undo it: `X.reset_index\('z'\)`",
    ),
    "mixed columns": (
        frame().set_axis(["a", 1], axis=1),
        TypeError,
        r"`X.columns` must all be strings or all be ints, none of them missing; got "
        r"mixed-integer labels, 1 at place 1. Change them, e.g. `X.columns = X.columns.map\(str\)`",
    ),
    "float columns": (
        frame().set_axis([0.5, 1.5], axis=1),
        TypeError,
        "`X.columns` must all be strings or all be ints.*got float64 labels, 0.5 at place 0",
    ),
    "missing label": (
        frame().set_axis(["u", None, "w", "x"]),
        TypeError,
        r"`X.index` must all be .* none of them missing; got .*at place 1. Change them, e.g. "
        r"`X.index = X.index.map\(str\)`",
    ),
    "missing date": (
        frame().set_axis(pd.DatetimeIndex(["2024-01-01", "2024-01-02", None, "2024-01-04"])),
        TypeError,
        "`X.index` must all be .*none of them missing; got datetime64.* at place 2",
    ),
    "mixed index": (
        frame().set_axis(["u", "v", 3, "x"]),
        TypeError,
        "`X.index` must all be .*got mixed-integer labels, 3 at place 2",
    ),
    "time zone": (
        frame().set_axis(pd.date_range("2024-01-01", periods=4, tz="Europe/Madrid")),
        TypeError,
        r"dates without a time zone.* `X.index = X.index.tz_convert\(None\)`",
    ),
    "periods": (
        frame().set_axis(pd.period_range("2024-01", periods=4, freq="M")),
        TypeError,
        r"got period labels, Period\('2024-01', 'M'\) at place 0",
    ),
    "coordinate of objects": (
        xr.DataArray(
            ROWS, dims=("t", "v"), coords={"k": ("t", np.array([1, 2, "a", None], dtype=object))}
        ),
        TypeError,
        r"`X\['k'\]` must all be .*`X = X.assign_coords\({'k': X\['k'\].astype\(str\)}\)`",
    ),
    "reserved coordinate": (
        xr.DataArray(ROWS, dims=("t", "v"), coords={"component": ("t", [0, 0, 1, 1])}),
        ValueError,
        r"names that are strings and that results do not use; got 'component'. Rename it, or "
        r"drop it: `X.drop_vars\('component'\)`",
    ),
    "dictionary in attrs": (
        attributed(source={"year": 1973}),
        TypeError,
        r"`X.attrs` must hold strings and numbers.*got {'year': 1973} of type dict under 'source'. "
        r"Drop it: `X.attrs.pop\('source'\)`",
    ),
    "boolean in attrs": (attributed(ok=True), TypeError, "got True of type bool under 'ok'"),
    "mixed list in attrs": (attributed(l=[1, "a"]), TypeError, "of type list under 'l'"),
    "text array in attrs": (attributed(l=np.array(["a"])), TypeError, "of type ndarray under 'l'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_labels_that_could_not_be_given_back_are_refused(case: str) -> None:
    X, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        prepare(X)


def test_the_remedies_for_labels_work() -> None:
    zoned = frame().set_axis(pd.date_range("2024-01-01", periods=4, tz="Europe/Madrid"))
    zoned.index = zoned.index.tz_convert(None)
    mixed = frame().set_axis(["a", 1], axis=1)
    mixed.columns = mixed.columns.map(str)
    levels = frame().set_axis(pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), axis=1)
    levels.columns = ["_".join(map(str, one)) for one in levels.columns]
    assert prepare(zoned).n_obs == 4
    assert prepare(mixed).features.tolist() == ["a", "1"]
    assert prepare(levels).features.tolist() == ["a_1", "b_2"]


def test_every_dimension_and_parameter_is_reserved() -> None:
    assert set(names.PARAMETER_DIMS) <= RESERVED
    assert {dim for dims in names.PARAMETER_DIMS.values() for dim in dims} <= RESERVED
    assert {"chain", "draw", "obs", "X", "labels"} <= RESERVED


def test_long_lists_of_labels_are_shortened() -> None:
    assert listed(["a", 1]) == "'a', 1"
    assert listed(range(11)) == "0, 1, 2, 3, 4, 5, 6, 7 and 3 more"


@given(
    st.lists(st.text(max_size=4), min_size=1, max_size=6, unique=True)
    | st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=6, unique=True)
)
def test_any_column_names_of_one_type_are_kept(labels: list[Any]) -> None:
    cells = pd.DataFrame(np.ones((2, len(labels))), columns=pd.Index(labels))
    assert read(cells, "X").features == labels
