"""Tables of any kind that users pass as data, read as they came."""

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.cubes import read_dataset, read_xarray
from bayesgmm.labels import (
    ANY_LABEL,
    COLUMN_LABEL,
    Given,
    attributes,
    called,
    default_features,
    free_name,
    listed,
    plain,
)
from bayesgmm.table_files import open_table

OF_PANDAS_OR_XARRAY: Final = (pd.DataFrame, pd.Series, xr.DataArray, xr.Dataset)


def opened(X: Any, argument: str) -> Any:
    """Return whatever the user passed as an array, or as an object of pandas or xarray.

    Parameters
    ----------
    X : array, table, or path of a file
        NumPy, pandas, xarray; anything with Arrow's C interface, as polars and pyarrow have it;
        a path as `table_files.open_table` takes it; or what NumPy makes an array of.
    argument : str
        What `X` is called in messages.

    Returns
    -------
    array, DataFrame, Series, DataArray or Dataset
        Of Arrow's numbers without gaps the same memory; what is masked stays so.

    Raises
    ------
    TypeError, ValueError
        If it is nothing of the kind, or a file that cannot be read.
    """
    if isinstance(X, (*OF_PANDAS_OR_XARRAY, np.ndarray)):
        return X
    if isinstance(X, str | os.PathLike):
        return open_table(X, argument)
    _refuse_strangers(X, argument)
    if hasattr(X, "__arrow_c_stream__") or hasattr(X, "__arrow_c_array__"):
        return _from_arrow(X, argument)
    if hasattr(X, "to_pandas"):
        return X.to_pandas()
    return _array(X, argument)


def read(X: Any, argument: str, feature_dim: str | None = None) -> Given:
    """Return the cells and labels of whatever table the user passed.

    Parameters
    ----------
    X : array, table, or path of a file
        As `opened` takes it: rows by features; one dimension is one feature. Of an array of
        xarray any dimensions; of its Dataset the variables are the features.
    argument : str
        What `X` is called in messages.
    feature_dim : str, optional
        The dimension of a DataArray along which features lie; by default ``feature`` if there is
        one, else, of two dimensions, the last.

    Returns
    -------
    Given
        With a coordinate for both dimensions: the user's, or ``0, 1, ...`` for rows and
        ``"x0", "x1", ...`` for features.

    Raises
    ------
    TypeError
        If `X` is no table of cells, or its labels are of a kind that could not be given back.
    ValueError
        If `X` is empty, has another number of dimensions, or labels that are not unique.
    """
    kept, X = X, opened(X, argument)
    if feature_dim is not None and not isinstance(X, xr.DataArray):
        raise TypeError(
            f"`feature_dim` must be left out unless `{argument}` is a DataArray; got "
            f"{feature_dim!r} and a {type(X).__name__}. Leave it out: columns, and variables of a "
            f"Dataset, are the features."
        )
    shape = tuple(X.sizes.values() if isinstance(X, xr.Dataset) else X.shape)
    if 0 in shape:
        raise ValueError(
            f"`{argument}` must hold at least one row and one feature; got shape {shape}. Look at "
            f"how it was read or filtered."
        )
    if isinstance(X, xr.Dataset):
        given = read_dataset(X, argument)
    elif isinstance(X, xr.DataArray):
        given = read_xarray(X, argument, feature_dim)
    else:
        if X.ndim not in (1, 2):
            raise ValueError(
                f"`{argument}` must be 2-D, rows by features, or 1-D, one feature; got shape "
                f"{X.shape}. Reshape it, e.g. `{argument}.reshape(n_obs, n_features)`."
            )
        pandas = isinstance(X, pd.DataFrame | pd.Series)
        given = _read_pandas(X, kept, argument) if pandas else _read_array(X, argument)
    features = given.features
    if len(set(features)) < len(features):
        twice = next(label for k, label in enumerate(features) if label in features[:k])
        raise ValueError(
            f"`{argument}` must have unique column names; got {twice!r} more than once among "
            f"{listed(features)}. Rename the columns, or drop the repeated ones."
        )
    return given


def _from_arrow(X: Any, argument: str) -> pd.DataFrame | pd.Series:
    """Return a table or column of Arrow; numbers without gaps share its memory."""
    import pyarrow as pa

    try:
        if isinstance(X, pa.Table):  # with what pandas has noted of its index
            return X.to_pandas(split_blocks=True)
        streams = hasattr(X, "__arrow_c_stream__")
        cells = pa.chunked_array(X if streams else [pa.array(X)])
        if pa.types.is_struct(cells.type):
            return pa.Table.from_struct_array(cells).to_pandas(split_blocks=True)
        name = getattr(X, "name", None)
        return cells.to_pandas().rename(name if isinstance(name, str) and name else None)
    except (pa.ArrowException, TypeError) as error:
        raise TypeError(
            f"`{argument}` must be a table that Arrow can hand over; got a {type(X).__name__}, "
            f"and {error}. Turn its columns into plain numbers."
        ) from error


def _refuse_strangers(X: Any, argument: str) -> None:
    """Refuse what is no table of cells, naming the way to make one of it."""
    what, remedy = type(X).__name__, ""
    if X is None:
        what, remedy = "None", "Pass the data, rows by features."
    elif isinstance(X, bytes):
        what, remedy = repr(X), "If it is a path, pass it as a string."
    elif isinstance(X, xr.DataTree):
        held = listed(X.data_vars) or "no variables"
        remedy = f"Pass one of its variables ({held}), e.g. `data[{names.X!r}]`."
    elif isinstance(X, Mapping):
        remedy = "Make a table of it: `pandas.DataFrame(data)`."
    elif hasattr(X, "toarray"):
        what, remedy = f"a sparse {what}", f"Make it dense: `{argument}.toarray()`."
    elif what == "LazyFrame":
        what, remedy = "a LazyFrame, which holds a plan", f"Run it: `{argument}.collect()`."
    if remedy:
        raise TypeError(
            f"`{argument}` must be an array, a DataFrame or a DataArray of numbers; got {what}. "
            f"{remedy}"
        )


def _array(X: Any, argument: str) -> NDArray[Any]:
    """Return what NumPy makes of `X`, if it is more than a single object."""
    try:
        cells: NDArray[Any] = np.asarray(X)
    except ValueError:
        raise ValueError(
            f"`{argument}` must be rectangular, every row as long as the first; got a "
            f"{type(X).__name__} of unequal rows. Make the rows equally long."
        ) from None
    if cells.ndim == 0:
        raise TypeError(
            f"`{argument}` must be an array, a DataFrame or a DataArray of numbers; got a single "
            f"{type(X).__name__}. Pass rows by features, e.g. a list of lists."
        )
    return cells


def _read_pandas(X: pd.DataFrame | pd.Series, kept: Any, argument: str) -> Given:
    """Read a DataFrame, or a Series, whose name is the feature's; the user has `kept` it so."""
    named = not isinstance(X, pd.Series) or X.name is not None
    frame = X.to_frame(X.name if named else "x0") if isinstance(X, pd.Series) else X
    coords = _rows_of(frame.index, f"{argument}.index")
    columns, where = frame.columns, f"{argument}.columns"
    if isinstance(columns, pd.MultiIndex):
        raise TypeError(
            f"`{where}` must hold one label each; got a MultiIndex of {columns.nlevels} levels, "
            f"{listed(columns.names)}. Join its levels: "
            f"`{where} = ['_'.join(map(str, one)) for one in {where}]`."
        )
    labels = _labels(columns, where, COLUMN_LABEL)
    coords[names.FEATURE] = xr.Variable(names.FEATURE, labels, called(columns.name, names.FEATURE))
    attrs = attributes(X.attrs, f"{argument}.attrs")
    return Given(
        frame, coords, attrs, named, argument,
        lambda labels, _: _dropped(kept, labels, argument),
    )  # fmt: skip


def _dropped(kept: Any, labels: list[Any], argument: str) -> str:
    """Return the code that drops columns of a table, in the words of its own library."""
    if isinstance(kept, str | os.PathLike):
        ending = os.fspath(kept).rpartition(".")[2].lower().replace("arrow", "feather")
        return f"pandas.read_{ending}({argument}).drop(columns={labels!r})"
    if hasattr(kept, "drop_columns"):  # Arrow's
        return f"{argument}.drop_columns({labels!r})"
    if isinstance(kept, pd.DataFrame | pd.Series):
        return f"{argument}.drop(columns={labels!r})"
    return f"{argument}.drop({labels!r})"  # that of polars


def _rows_of(index: pd.Index, where: str) -> dict[str, xr.Variable]:
    """Return the labels of rows; of several levels their places, and the levels beside them."""
    if not isinstance(index, pd.MultiIndex):
        labels = _labels(index, where, ANY_LABEL)
        return {names.OBS: xr.Variable(names.OBS, labels, called(index.name, names.OBS))}
    levels = [f"obs_level_{i}" if name is None else name for i, name in enumerate(index.names)]
    for level in levels:
        free_name(level, where, f"Rename it: `{where} = {where}.rename(...)`.")
    places = xr.Variable(names.OBS, pd.RangeIndex(len(index)), {names.LEVELS: levels})
    coords = {names.OBS: places}
    for i, level in enumerate(levels):
        one = index.get_level_values(i)
        coords[level] = xr.Variable(
            names.OBS, _labels(one, f"{where}.get_level_values({i})", ANY_LABEL)
        )
    return coords


def _labels(index: pd.Index, where: str, kinds: str) -> Any:
    """Return labels of rows or columns, refusing what could not be given back."""
    if isinstance(index, pd.RangeIndex):  # takes no memory, however many there are
        return index
    zoned = getattr(index, "tz", None) is not None
    remedy = f"{where} = {where}.{'tz_convert(None)' if zoned else 'map(str)'}"
    return plain(index.to_numpy(), where, remedy, kinds)


def _read_array(X: NDArray[Any], argument: str) -> Given:
    """Read a NumPy array: rows and features have no labels but their places."""
    cells = X[:, None] if X.ndim == 1 else X
    coords = {
        names.OBS: xr.Variable(names.OBS, pd.RangeIndex(cells.shape[0])),
        names.FEATURE: xr.Variable(names.FEATURE, default_features(cells.shape[1])),
    }
    return Given(
        cells, coords, {}, False, argument,
        lambda _, positions: f"numpy.delete({argument}, {positions}, axis=1)",
    )  # fmt: skip
