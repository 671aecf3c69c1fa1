"""What the user passed as data, as it came: the cells, and the labels of rows and columns."""

import copy
import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names

RESERVED: Final = frozenset(
    {
        names.CHAIN, names.DRAW, names.COMPONENT, names.FEATURE, names.FEATURE2, names.OBS,
        names.MODE, names.X, names.LABELS, names.CENTER, names.UNIT, names.SAMPLE_WEIGHT,
        names.ALLOWED, *names.PARAMETER_DIMS,
    }
)  # fmt: skip
"""Names of a result that a coordinate of the user's data would collide with."""

_KINDS: Final = {
    "b": "booleans", "c": "complex numbers", "M": "dates", "m": "durations", "O": "objects",
    "U": "text", "S": "text", "T": "text", "V": "records",
}  # fmt: skip
"""What cells of a NumPy dtype, by its kind, are called in a message; numbers are absent."""


_NUMERIC: Final = ("integer", "floating", "mixed-integer-float")
_LABELLED: Final = (pd.DataFrame, pd.Series, xr.DataArray)
_ANY_LABEL: Final = "iufbmMU"
_COLUMN_LABEL: Final = "iuU"


@dataclass(frozen=True, eq=False)
class Given:
    """What the user passed, read but not yet judged.

    Parameters
    ----------
    cells : DataFrame or array, shape (n_obs, n_features)
        The user's own memory, of any type.
    coords : dict of str to xarray.Variable
        Coordinates on the dimensions ``obs`` and ``feature``, both of which have one.
    attrs : dict
        Attributes of the whole (units, say).
    named : bool
        Whether the columns have names that the user gave.
    argument : str
        What the data are called in messages.
    drop : callable
        Turns column labels and positions into the code that drops these columns.
    """

    cells: pd.DataFrame | NDArray[Any]
    coords: dict[str, xr.Variable]
    attrs: dict[str, Any]
    named: bool
    argument: str
    drop: Callable[[list[Any], list[int]], str]

    @property
    def features(self) -> list[Any]:
        """Labels of the columns: strings or ints."""
        return list(self.coords[names.FEATURE].values.tolist())

    def row(self, i: int) -> str:
        """Return the label of row `i` as it is written in a message."""
        labels = self.coords[names.OBS].values
        if labels.dtype.kind in "mM":
            return f"row {labels[i]}"
        return f"row {labels[i : i + 1].tolist()[0]!r}"

    def drop_columns(self, positions: Iterable[int]) -> str:
        """Return the code that drops the columns at `positions`, between backticks."""
        columns = [int(j) for j in positions]
        features = self.features
        return f"`{self.drop([features[j] for j in columns], columns)}`"


def listed(labels: Iterable[Any]) -> str:
    """Return labels as they are written in a message: the first eight, and how many more."""
    shown = [repr(label) for label in labels]
    more = f" and {len(shown) - 8} more" if len(shown) > 8 else ""
    return ", ".join(shown[:8]) + more


def read(X: Any, argument: str) -> Given:
    """Return the cells and labels of whatever array-like the user passed.

    Parameters
    ----------
    X : array, DataFrame, Series or DataArray
        Rows by features; one dimension is one feature.
    argument : str
        What `X` is called in messages.

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
    _refuse_strangers(X, argument)
    if not isinstance(X, _LABELLED) and hasattr(X, "to_pandas"):  # polars, pyarrow
        X = X.to_pandas()
    if not isinstance(X, (*_LABELLED, np.ma.MaskedArray)):
        X = _array(X, argument)
    _refuse_shape(X, argument)
    if isinstance(X, pd.DataFrame | pd.Series):
        given = _read_pandas(X, argument)
    elif isinstance(X, xr.DataArray):
        given = _read_xarray(X, argument)
    else:
        given = _read_array(X, argument)
    features = given.features
    if len(set(features)) < len(features):
        twice = next(label for k, label in enumerate(features) if label in features[:k])
        raise ValueError(
            f"`{argument}` must have unique column names; got {twice!r} more than once among "
            f"{listed(features)}. Rename the columns, or drop the repeated ones."
        )
    return given


def kinds_of_columns(given: Given) -> list[str | None]:
    """Return what each column holds if not real numbers (``"text"``, ...), else None."""
    cells = given.cells
    if isinstance(cells, pd.DataFrame):
        return [_kind(cells.iloc[:, j]) for j in range(cells.shape[1])]
    return [_KINDS.get(cells.dtype.kind)] * cells.shape[1]


def spacing_of_columns(given: Given) -> NDArray[np.float64]:
    """Return the relative spacing of the numbers of every column as they were passed."""
    cells = given.cells
    dtypes: Iterable[Any] = (
        cells.dtypes if isinstance(cells, pd.DataFrame) else [cells.dtype] * cells.shape[1]
    )
    single = np.array([str(dtype).lower() in ("float32", "float[pyarrow]") for dtype in dtypes])
    return np.where(single, np.finfo(np.float32).eps, np.finfo(np.float64).eps)


def _kind(column: Any) -> str | None:
    """Return what a pandas column holds if not real numbers."""
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        if dtype.kind == "O":
            inferred = pd.api.types.infer_dtype(column, skipna=True)
            if inferred in _NUMERIC and column.isna().any():  # what pandas makes of 1 and pd.NA
                return None
            return "text" if inferred == "string" else f"objects ({inferred})"
        return _KINDS.get(dtype.kind)
    if isinstance(dtype, pd.SparseDtype):
        return "sparse cells"
    if isinstance(dtype, pd.CategoricalDtype):
        return "categories"
    if pd.api.types.is_bool_dtype(dtype):
        return "booleans"
    if pd.api.types.is_numeric_dtype(dtype):
        return None
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "dates"
    return "text" if pd.api.types.is_string_dtype(dtype) else f"cells of type {dtype}"


def _refuse_strangers(X: Any, argument: str) -> None:
    """Refuse what is no table of cells, naming the way to make one of it."""
    what, remedy = type(X).__name__, ""
    if X is None:
        what, remedy = "None", "Pass the data, rows by features."
    elif isinstance(X, str | bytes | os.PathLike):
        what, remedy = repr(X), "If it is a path, read it first: `pandas.read_csv(path)`."
    elif isinstance(X, xr.Dataset | xr.DataTree):
        held = listed(X.data_vars) or "no variables"
        remedy = f"Pass one of its variables ({held}), e.g. `data[{names.X!r}]`."
    elif isinstance(X, Mapping):
        remedy = "Make a table of it: `pandas.DataFrame(data)`."
    elif hasattr(X, "toarray"):
        what, remedy = f"a sparse {what}", f"Make it dense: `{argument}.toarray()`."
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


def _refuse_shape(X: Any, argument: str) -> None:
    """Refuse what is not a line or a rectangle of cells, or has none."""
    shape = tuple(X.shape)
    if len(shape) not in (1, 2):
        raise ValueError(
            f"`{argument}` must be 2-D, rows by features, or 1-D, one feature; got shape {shape}. "
            f"Reshape it, e.g. `{argument}.reshape(n_obs, n_features)`."
        )
    if 0 in shape:
        raise ValueError(
            f"`{argument}` must hold at least one row and one feature; got shape {shape}. "
            f"Look at how it was read or filtered."
        )


def _read_pandas(X: pd.DataFrame | pd.Series, argument: str) -> Given:
    """Read a DataFrame, or a Series, whose name is the feature's."""
    named = not isinstance(X, pd.Series) or X.name is not None
    frame = X.to_frame(X.name if named else "x0") if isinstance(X, pd.Series) else X
    coords = {}
    for axis, dim, kinds in (
        ("index", names.OBS, _ANY_LABEL), ("columns", names.FEATURE, _COLUMN_LABEL)
    ):  # fmt: skip
        index, where = getattr(frame, axis), f"{argument}.{axis}"
        if isinstance(index, pd.MultiIndex):
            remedy = (
                f"Make columns of its levels with `{argument}.reset_index()`, and drop them."
                if axis == "index"
                else f"Join its levels: `{where} = ['_'.join(map(str, one)) for one in {where}]`."
            )
            raise TypeError(
                f"`{where}` must hold one label each; got a MultiIndex of {index.nlevels} "
                f"levels, {listed(index.names)}. {remedy}"
            )
        zoned = getattr(index, "tz", None) is not None
        remedy = f"{where} = {where}.{'tz_convert(None)' if zoned else 'map(str)'}"
        labels = index
        if not isinstance(index, pd.RangeIndex):  # which takes no memory, however many there are
            labels = _plain(index.to_numpy(), where, remedy, kinds)
        coords[dim] = xr.Variable(dim, labels, _called(index.name, dim))
    attrs = _attrs(X.attrs, f"{argument}.attrs")
    return Given(
        frame, coords, attrs, named, argument,
        lambda labels, _: f"{argument}.drop(columns={labels!r})",
    )  # fmt: skip


def _read_xarray(X: xr.DataArray, argument: str) -> Given:
    """Read a DataArray: features along the dimension of that name, else along the last."""
    attrs = _attrs(X.attrs, f"{argument}.attrs")
    if X.ndim == 2:
        attrs |= _called(X.name, names.X)
    elif X.dims == (names.FEATURE,):
        X = X.expand_dims(names.OBS)
    elif names.FEATURE in X.coords:
        X = X.expand_dims(names.FEATURE, axis=1)
    else:
        label = [] if X.name is None else [X.name]
        X = X.expand_dims({names.FEATURE: label} if label else names.FEATURE, axis=1)
    feature_dim = X.dims[-1]
    if names.FEATURE in X.dims:
        feature_dim = names.FEATURE
    elif feature_dim == names.OBS:
        feature_dim = X.dims[0]
    obs_dim = next(dim for dim in X.dims if dim != feature_dim)
    X = X.transpose(obs_dim, feature_dim)
    coords = _coords(X, {obs_dim: names.OBS, feature_dim: names.FEATURE}, argument)
    return Given(
        X.to_numpy(), coords, attrs, feature_dim in X.coords, argument,
        (lambda labels, _: f"{argument}.drop_sel({{{feature_dim!r}: {labels!r}}})")
        if feature_dim in X.coords
        else (lambda _, places: f"{argument}.drop_isel({{{feature_dim!r}: {places}}})"),
    )  # fmt: skip


def _coords(X: xr.DataArray, ours: Mapping[Hashable, str], argument: str) -> dict[str, xr.Variable]:
    """Return the coordinates of `X` (obs, feature) with its dimensions renamed to `ours`."""
    obs_dim, feature_dim = ours
    coords = {
        names.OBS: xr.Variable(names.OBS, pd.RangeIndex(X.shape[0]), _called(obs_dim, names.OBS)),
        names.FEATURE: xr.Variable(
            names.FEATURE, _default_features(X.shape[1]), _called(feature_dim, names.FEATURE)
        ),
    }
    for theirs, coord in X.coords.items():
        where, name = f"{argument}[{theirs!r}]", ours.get(theirs, str(theirs))
        if isinstance(X.indexes.get(theirs), pd.MultiIndex):
            dim = coord.dims[0]
            raise TypeError(
                f"`{argument}` must have one label for each place; got a MultiIndex along "
                f"{dim!r}. Undo it: `{argument}.reset_index({dim!r})`."
            )
        if theirs not in ours and (name in RESERVED or not isinstance(theirs, str)):
            raise ValueError(
                f"`{argument}` must have coordinates with names that are strings and that results "
                f"do not use; got {theirs!r}. Rename it, or drop it: "
                f"`{argument}.drop_vars({theirs!r})`."
            )
        kinds = _COLUMN_LABEL if name == names.FEATURE else _ANY_LABEL
        remedy = f"{argument} = {argument}.assign_coords({{{theirs!r}: {where}.astype(str)}})"
        labels = _plain(coord.values, where, remedy, kinds)
        attrs = _called(theirs, name) | _attrs(coord.attrs, f"{where}.attrs")
        coords[name] = xr.Variable([ours[dim] for dim in coord.dims], labels, attrs)
    return coords


def _read_array(X: NDArray[Any], argument: str) -> Given:
    """Read a NumPy array: rows and features have no labels but their places."""
    cells = X[:, None] if X.ndim == 1 else X
    coords = {
        names.OBS: xr.Variable(names.OBS, pd.RangeIndex(cells.shape[0])),
        names.FEATURE: xr.Variable(names.FEATURE, _default_features(cells.shape[1])),
    }
    return Given(
        cells, coords, {}, False, argument,
        lambda _, positions: f"numpy.delete({argument}, {positions}, axis=1)",
    )  # fmt: skip


def _default_features(n_features: int) -> NDArray[np.str_]:
    """Return the labels of features that have none."""
    return np.array([f"x{j}" for j in range(n_features)])


def _called(theirs: Hashable, ours: str) -> dict[str, Any]:
    """Return the attribute that keeps what the user called something, if that is not our name."""
    return {} if theirs is None or theirs == ours else {names.GIVEN_NAME: str(theirs)}


def _plain(labels: NDArray[Any], where: str, remedy: str, kinds: str) -> NDArray[Any]:
    """Return a copy of `labels`, all of one of the `kinds` that a file gives back as they were."""
    inferred = str(labels.dtype)
    if labels.dtype.kind in "OT":
        inferred = pd.api.types.infer_dtype(labels.ravel().astype(object), skipna=False)
    plain: NDArray[Any] = np.array(
        labels, dtype={"string": object, "integer": np.int64}.get(inferred, labels.dtype)
    )
    kind = "U" if inferred == "string" else plain.dtype.kind
    missing = pd.isna(plain).ravel()
    if kind in kinds and not missing.any():
        return plain
    flat = labels.ravel().tolist()
    odd = [type(label) is not type(flat[0]) for label in flat]
    place = int(np.argmax(missing if missing.any() else odd))
    rule = "all be strings or all be ints" if kinds == _COLUMN_LABEL else (
        "all be numbers, all strings, or all dates without a time zone"
    )  # fmt: skip
    raise TypeError(
        f"`{where}` must {rule}, none of them missing; got {inferred} labels, {flat[place]!r} at "
        f"place {place}. Change them, e.g. `{remedy}`."
    )


def _attrs(attrs: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Return a copy of attributes, all of which a file can hold."""
    for key, value in attrs.items():
        if isinstance(value, np.ndarray):
            storable = value.ndim <= 1 and value.dtype.kind in "iuf"
        elif isinstance(value, list | tuple):
            storable = all(map(_is_number, value)) or all(isinstance(one, str) for one in value)
        elif isinstance(value, dict):  # units of columns
            storable = all(isinstance(one, str) for entry in value.items() for one in entry)
        else:
            storable = isinstance(value, str) or _is_number(value)
        if not (storable and isinstance(key, str)):
            raise TypeError(
                f"`{where}` must hold strings and numbers, lists of them, or dictionaries of "
                f"strings, under names that are strings; got {value!r:.60} of type "
                f"{type(value).__name__} under {key!r}. Drop it: `{where}.pop({key!r})`."
            )
    return copy.deepcopy(dict(attrs))


def _is_number(value: Any) -> bool:
    """Return whether `value` is a real number (True and False are not)."""
    return isinstance(value, Real) and not isinstance(value, bool)
