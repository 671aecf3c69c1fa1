"""Data are refused for the right reasons, copied once, and standardised without losing digits."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bayesgmm.data import Data, center_and_unit, check_enough_rows, prepare, prepare_new

ROWS = np.array(
    [[1.5, -2.0, 7.0], [0.25, 3.0, 6.5], [2.0, 1.0, 9.0], [-1.0, 0.5, 4.0], [0.0, -4.0, 5.0]]
)
LABELS = ["Ann", "Bo", "Cy", "Di", "Ed"]


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame(ROWS, columns=["a", "b", "c"], index=LABELS).assign(**columns)


def with_cell(value: float) -> pd.DataFrame:
    cells = frame()
    cells.loc["Cy", "b"] = value
    return cells


@pytest.mark.parametrize(
    "make",
    [
        lambda rows: rows,
        lambda rows: rows.tolist(),
        lambda rows: np.asfortranarray(rows),
        lambda rows: rows.astype(np.float32),
        lambda rows: np.ma.masked_array(rows, mask=np.zeros(rows.shape, bool)),
        lambda rows: pd.DataFrame(rows, columns=list("abc")),
        lambda rows: pd.DataFrame(rows, columns=list("abc")).convert_dtypes(),
        lambda rows: pd.DataFrame(rows, columns=list("abc")).astype("float64[pyarrow]"),
        lambda rows: xr.DataArray(rows, dims=("obs", "feature")),
        lambda rows: xr.DataArray(rows.T, dims=("feature", "time")),
        lambda rows: xr.DataArray(rows.T, dims=("variable", "obs")),
    ],
)
def test_every_kind_of_table_gives_the_same_float64_matrix(make: Callable[..., Any]) -> None:
    data = prepare(make(ROWS))
    np.testing.assert_array_equal(data.values, ROWS)
    assert data.values.dtype == np.float64
    assert data.values.flags.c_contiguous
    assert (data.n_obs, data.n_features) == ROWS.shape


@pytest.mark.parametrize(
    "make",
    [
        lambda line: line,
        lambda line: line.astype(int),
        lambda line: line.tolist(),
        lambda line: pd.Series(line),
        lambda line: xr.DataArray(line, dims="time"),
        lambda line: range(1, 6),
    ],
)
def test_one_dimension_is_one_feature(make: Callable[..., Any]) -> None:
    line = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    data = prepare(make(line))
    np.testing.assert_array_equal(data.values, line[:, None])
    assert data.features.tolist() == ["x0"]


@pytest.mark.parametrize(
    "make", [np.asarray, pd.DataFrame, lambda rows: xr.DataArray(rows, dims=("obs", "feature"))]
)
def test_the_users_memory_is_neither_changed_nor_kept(make: Callable[..., Any]) -> None:
    source = ROWS.copy()
    given_data = make(source)
    data = prepare(given_data)
    np.testing.assert_array_equal(source, ROWS)
    assert not np.shares_memory(data.values, source)
    source[:] = 0.0
    np.testing.assert_array_equal(data.values, ROWS)


def test_labels_and_attributes_do_not_follow_later_changes() -> None:
    labels, units = np.array(LABELS, dtype=object), ["m", "s"]
    cells = xr.DataArray(
        ROWS, dims=("person", "feature"), coords={"person": labels}, attrs={"units": units}
    )
    data = prepare(cells)
    units[0] = "km"
    cells.attrs["more"] = 1
    assert data.attrs == {"units": ["m", "s"]}
    assert not np.shares_memory(data.obs, cells["person"].values)


def without_third_row() -> pd.DataFrame:
    cells = frame().astype(float)
    cells.iloc[2] = np.nan
    return cells


REFUSED = {
    "nothing in a row": (
        without_third_row(),
        ValueError,
        r"`X` must have a number in every row; got nothing but missing cells \(NaN\) in row 'Cy'. "
        r"Drop them, e.g. `X.dropna\(how='all'\)`, if it is a DataFrame",
    ),
    "nothing in a column": (
        frame(d=pd.array([pd.NA] * 5, dtype="Int64")),
        ValueError,
        r"`X` must have a number in every column; got nothing but missing cells \(NaN\) in 'd'. "
        r"Drop what is empty, `X.drop\(columns=\['d'\]\)`.",
    ),
    "the same in a column, or missing": (
        frame(d=[np.nan, 2.0, 2.0, np.nan, 2.0]),
        ValueError,
        r"must vary in every column; got the same number in all 5 rows of 'd', 2.0 in the first",
    ),
    "infinite": (
        with_cell(-np.inf),
        ValueError,
        r"got 1 infinite of 15 cells, the first \(-inf\) at row 'Cy', column 'b'.",
    ),
    "text column": (
        frame(species="setosa"),
        TypeError,
        r"`X` must hold real numbers in every column; got text in 'species'. "
        r"Drop them, `X.drop\(columns=\['species'\]\)`, or turn them into numbers.",
    ),
    "several kinds": (
        frame(
            ok=[True, False, True, True, False],
            when=pd.date_range("2024-01-01", periods=5),
            kind=pd.Categorical(["p", "q", "p", "q", "p"]),
            z=[1j, 2.0, 3.0, 4.0, 5.0],
            any=[{}, [], None, (), {}],
            span=pd.to_timedelta([1, 2, 3, 4, 5], unit="h"),
        ),
        TypeError,
        r"got booleans in 'ok', dates in 'when', categories in 'kind', complex numbers in 'z', "
        r"objects \(mixed\) in 'any', durations in 'span'. Drop them, "
        r"`X.drop\(columns=\['ok', 'when', 'kind', 'z', 'any', 'span'\]\)`",
    ),
    "sparse columns": (frame().astype("Sparse[float]"), TypeError, "got sparse cells in 'a'"),
    "booleans": (ROWS > 0, TypeError, r"got booleans in 'x0'.*`X.astype\(float\)`"),
    "objects": ([[1, None], [2, 3]], TypeError, "got objects in 'x0', objects in 'x1'"),
    "text": ([["a", "1"], ["b", "2"]], TypeError, "got text in 'x0', text in 'x1'"),
    "constant": (
        frame(k=3.0),
        ValueError,
        r"`X` must vary in every column; got the same number in all 5 rows of 'k', 3.0 in the "
        r"first of them. Drop what is constant, `X.drop\(columns=\['k'\]\)`.",
    ),
    "constant, array": (
        np.column_stack([ROWS, np.ones(5)]),
        ValueError,
        r"of 'x3', 1.0 .*`numpy.delete\(X, \[3\], axis=1\)`",
    ),
    "constant, DataArray": (
        xr.DataArray(
            np.column_stack([ROWS, np.ones(5)]), dims=("t", "v"), coords={"v": list("abcd")}
        ),
        ValueError,
        r"`X.drop_sel\({'v': \['d'\]}\)`",
    ),
    "constant, DataArray without labels": (
        xr.DataArray(np.column_stack([np.ones(5), ROWS]), dims=("t", "v")),
        ValueError,
        r"`X.drop_isel\({'v': \[0\]}\)`",
    ),
    "below resolution": (
        frame(g=1e15 + np.array([0.0, 0.125, 0.0, 0.125, 0.25])),
        ValueError,
        r"`X` must vary by more than rounding in every column; got standard deviation 0.0935 "
        r"around 1000000000000000.2 in 'g', .* Subtract an offset",
    ),
    "tiny": (
        ROWS * 1e-150,
        ValueError,
        r"`X` must have columns whose range is between 1e-100 and 1e100; got -1e-150 to 2e-150 "
        r"in 'x0'. Measure it in other units, e.g. divide by 2e-150.",
    ),
    "huge": (ROWS * [1, 1, 1e120], ValueError, r"got 4e\+120 to 9e\+120 in 'x2'"),
    "huge, opposite": ([[1.5e308], [-1.5e308]], ValueError, r"got -1.5e\+308 to 1.5e\+308"),
    "copy": (
        frame(f=1.8 * ROWS[:, 0] + 32),
        ValueError,
        r"`X` must have columns none of which others determine, or covariances are singular; got "
        r"'f', a copy, up to shift and scale, of 'a' in all 5 rows. Drop one of them, e.g. "
        r"`X.drop\(columns=\['f'\]\)`.",
    ),
    "combination": (
        frame(t=ROWS[:, 0] - 3 * ROWS[:, 2]),
        ValueError,
        "got 't', a linear combination of 'a', 'c' in all 5 rows.",
    ),
    "repeated names": (
        pd.concat([frame(), frame()[["b"]]], axis=1),
        ValueError,
        "`X` must have unique column names; got 'b' more than once among 'a', 'b', 'c', 'b'.",
    ),
    "one row": (frame()[:1], ValueError, r"`X` must hold at least 2 rows; got shape \(1, 3\)"),
    "no row": (frame()[:0], ValueError, r"at least one row and one feature; got shape \(0, 3\)"),
    "no column": (frame()[[]], ValueError, r"at least one row and one feature; got shape \(5, 0\)"),
    "empty list": ([], ValueError, r"at least one row and one feature; got shape \(0,\)"),
    "3-D": (ROWS[None], ValueError, r"must be 2-D.* or 1-D, one feature; got shape \(1, 5, 3\)"),
    "scalar": (3.0, TypeError, "got a single float. Pass rows by features"),
    "iterator": (iter([1.0]), TypeError, "got a single list_iterator"),
    "ragged": ([[1.0, 2.0], [3.0]], ValueError, "must be rectangular.* got a list of unequal rows"),
    "None": (None, TypeError, "`X` must be an array, a DataFrame or a DataArray.*got None"),
    "path": ("data.csv", ValueError, r"must be a file; got 'data.csv', and there is none"),
    "bytes": (b"data.csv", TypeError, r"got b'data.csv'. If it is a path, pass it as a string"),
    "mapping": ({"a": [1.0, 2.0]}, TypeError, r"got dict. .*`pandas.DataFrame\(data\)`"),
    "sparse": (scipy.sparse.csr_array(ROWS), TypeError, r"got a sparse csr_array.*`X.toarray\(\)`"),
    "Dataset": (
        xr.Dataset({"X": (("o", "feature"), ROWS)}),
        TypeError,
        r"got a Dataset with the dimension 'feature'. Pass one of its variables \('X'\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_fitted_is_refused_with_place_and_remedy(case: str) -> None:
    X, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        prepare(X)


def test_rows_are_named_by_their_date() -> None:
    cells = without_third_row()
    cells = cells.set_axis(pd.date_range("2024-03-01", periods=5))
    with pytest.raises(ValueError, match=r"in row 2024-03-03T00:00:00"):
        prepare(cells)


MISSING = {
    "NaN": with_cell(np.nan),
    "nullable": frame(b=pd.array([1.5, 2, None, 4, 5], dtype="Float64")),
    "NA among numbers": frame(
        b=pd.Series([1.5, 2, pd.NA, 4, 5], dtype=object, index=frame().index)
    ),
    "masked": np.ma.masked_array(ROWS, np.arange(15).reshape(5, 3) == 7),
    "negative NaN": with_cell(np.copysign(np.nan, -1.0)),
}


@pytest.mark.parametrize("case", MISSING)
def test_missing_cells_are_one_and_the_same_nan(case: str) -> None:
    data = prepare(MISSING[case])
    assert not data.complete
    missing = np.isnan(data.values)
    assert np.argwhere(missing).tolist() == [[2, 1]]
    assert data.values[missing].tobytes() == np.array([np.nan]).tobytes()
    assert prepare_new(MISSING[case], data.features).values[2].tobytes() == data.values[2].tobytes()


def test_center_and_unit_are_of_the_cells_that_are_there(rng: np.random.Generator) -> None:
    values = rng.normal(size=(40, 2))
    with_holes = np.concatenate([values, np.full((7, 2), np.nan)])
    for one, other in zip(
        center_and_unit(values, False), center_and_unit(with_holes, False), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-14)


def test_dependence_is_looked_for_in_complete_rows(rng: np.random.Generator) -> None:
    values = rng.normal(size=(30, 3))
    values[:, 2] = values[:, 0] + values[:, 1]
    values[5:9, 1] = np.nan
    with pytest.raises(ValueError, match=r"a linear combination of 'x0', 'x1' in all 26 complete"):
        prepare(values)
    values[2:, 0] = np.nan
    prepare(values)  # two rows tell nothing


@pytest.mark.parametrize("offset", [1e9, -1e12])
def test_a_large_offset_is_neither_constant_nor_lost(
    offset: float, rng: np.random.Generator
) -> None:
    values = rng.integers(-400, 400, (50, 2)) / 128.0
    data = prepare(values + offset)
    center, unit = center_and_unit(data.values, False)
    np.testing.assert_allclose(unit, values.std(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(data.values - center, values - center_and_unit(values, False)[0])


def test_fewer_rows_than_features_is_no_dependence(rng: np.random.Generator) -> None:
    values = rng.normal(size=(4, 6))
    assert prepare(values).values.shape == (4, 6)
    with pytest.raises(ValueError, match="'x6', a copy, up to shift and scale, of 'x2'"):
        prepare(np.column_stack([values, 5 - 2 * values[:, 2]]))


def refusal(values: np.ndarray) -> str:
    """Return the message with which `prepare` refuses values, or nothing."""
    try:
        prepare(values)
    except ValueError as error:
        return str(error)
    return ""


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(arrays(np.float64, st.tuples(st.integers(2, 6), st.integers(1, 4)), elements=finite))
@example(np.array([[1.7e308], [-1.7e308]]))
@example(np.array([[5e-324], [0.0]]))
@example(np.array([[1e100, 0.0], [-1e100, 1e-99], [0.0, 5e-100]]))
def test_any_floats_are_taken_exactly_or_refused(values: np.ndarray) -> None:
    message = refusal(values)
    if message:
        assert message.startswith("`X` must ")
        return
    data = prepare(values)
    np.testing.assert_array_equal(data.values, values)
    center, unit = center_and_unit(data.values, False)
    assert np.isfinite(center).all()
    assert ((unit > 0) & np.isfinite(unit)).all()
    assert np.isfinite((values - center) / unit).all()


def test_center_and_unit_are_midpoint_and_standard_deviation() -> None:
    values = np.array([[0.0, 10.0], [4.0, 10.5], [1.0, 13.0]])
    center, unit = center_and_unit(values, False)
    np.testing.assert_array_equal(center, [2.0, 11.5])
    np.testing.assert_allclose(unit**2, [26 / 9, (1.3611111111 + 0.4444444444 + 3.3611111111) / 3])
    same_center, common = center_and_unit(values, True)
    np.testing.assert_array_equal(same_center, center)
    np.testing.assert_allclose(common, np.sqrt((unit**2).sum() / 2) * np.ones(2), rtol=1e-15)


def test_center_and_unit_follow_shift_and_scale(rng: np.random.Generator) -> None:
    values = rng.normal(size=(30, 3))
    shift, scale = np.array([5.0, -1e6, 0.0]), np.array([2.0, 1e-3, 1e50])
    center, unit = center_and_unit(values, False)
    moved_center, moved_unit = center_and_unit(scale * values + shift, False)
    np.testing.assert_allclose(moved_center, scale * center + shift, rtol=1e-12)
    np.testing.assert_allclose(moved_unit, scale * unit, rtol=1e-7)


def test_rows_must_be_as_many_as_components() -> None:
    data = prepare(ROWS)
    check_enough_rows(data, 5)
    with pytest.raises(
        ValueError,
        match=r"at least as many rows as there are components, 6; got shape \(5, 3\). Give a "
        r"smaller `n_components`.",
    ):
        check_enough_rows(data, 6)
    with pytest.raises(ValueError, match="`n_components` must be at least 1; got 0"):
        check_enough_rows(data, 0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ROWS[:1],
        lambda: ROWS[[0, 0, 0]],
        lambda: [[1, 1, 1], [2, 2, 2]],
        lambda: frame(b=0.0),
        lambda: xr.DataArray(ROWS[0], dims="feature", coords={"feature": list("abc")}),
        lambda: xr.DataArray(ROWS, dims=("t", "v"), coords={"v": list("abc")}),
    ],
)
def test_new_rows_may_be_few_constant_or_repeated(make: Callable[[], Any]) -> None:
    X_new = make()
    data = prepare_new(X_new, ["a", "b", "c"])
    np.testing.assert_array_equal(data.values, np.atleast_2d(np.asarray(X_new)))
    assert data.features.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("X_new", "features"),
    [
        ([1.0, 2.0], ["waiting"]),
        (pd.Series([1.0, 2.0]), ["waiting"]),
        (pd.Series([1.0, 2.0], name="waiting"), np.array(["waiting"], dtype=object)),
        (pd.DataFrame([[1.0], [2.0]]), np.array([0])),
    ],
)
def test_new_rows_of_one_feature(X_new: Any, features: Any) -> None:
    data = prepare_new(X_new, features)
    np.testing.assert_array_equal(data.values, [[1.0], [2.0]])
    assert data.features.tolist() == list(features)


FITTED = r"`X_new` must have the 3 fitted columns, 'a', 'b', 'c'"
UNLIKE = {
    "order": (
        frame()[["b", "a", "c"]],
        FITTED + r", in this order; got 'b', 'a', 'c'. Reorder them: `X_new\[\['a', 'b', 'c'\]\]`.",
    ),
    "order, DataArray": (
        xr.DataArray(ROWS, dims=("t", "v"), coords={"v": list("cba")}),
        r"got 'c', 'b', 'a'. Reorder them: `X_new.sel\({'v': \['a', 'b', 'c'\]}\)`.",
    ),
    "too few": (frame()[["a", "c"]], "got 'a', 'c'; missing 'b', unknown none. Add what is"),
    "too many": (frame(s="t"), r"got 'a', 'b', 'c', 's'. Keep only the fitted ones: `X_new\[\["),
    "others": (
        frame().rename(columns={"b": "B"}),
        "got 'a', 'B', 'c'; missing 'b', unknown 'B'. Rename them if they are the same",
    ),
    "default names": (pd.DataFrame(ROWS), "got 0, 1, 2; missing 'a', 'b', 'c', unknown 0, 1, 2"),
    "unnamed": (ROWS[:, :2], FITTED + r"; got shape \(5, 2\)"),
    "one dimension": (
        ROWS[0],
        r"`X_new` must be 2-D with the 3 fitted columns, 'a', 'b', 'c'; got shape \(3,\). Pass a "
        r"single row as `X_new\[None, :\]`, one row of a DataFrame as `frame.iloc\[\[0\]\]`.",
    ),
    "a row as Series": (frame().iloc[0], r"got shape \(3,\)"),
    "nothing in a row": (
        without_third_row(),
        r"`X_new` must have a number in every row; got nothing but missing cells .* in row 'Cy'",
    ),
    "infinite cell": (with_cell(np.inf), r"`X_new` must .*got 1 infinite of 15 cells"),
    "empty": (frame()[:0], r"`X_new` must hold at least one row"),
}


@pytest.mark.parametrize("case", UNLIKE)
def test_new_rows_unlike_the_fitted_ones_are_refused(case: str) -> None:
    X_new, message = UNLIKE[case]
    with pytest.raises(ValueError, match=message):
        prepare_new(X_new, ["a", "b", "c"])


def test_new_text_of_a_fitted_column_is_refused() -> None:
    with pytest.raises(TypeError, match=r"`X_new` must hold real numbers.*got text in 'b'"):
        prepare_new(frame(b="t"), ["a", "b", "c"])


def test_a_named_series_must_be_the_fitted_feature() -> None:
    with pytest.raises(ValueError, match="'waiting', in this order; got 'eruptions'"):
        prepare_new(pd.Series([1.0, 2.0], name="eruptions"), ["waiting"])


def test_data_are_frozen() -> None:
    data = prepare(ROWS)
    assert isinstance(data, Data)
    with pytest.raises(AttributeError, match="cannot assign to field 'values'"):
        data.values = ROWS  # type: ignore[misc]
