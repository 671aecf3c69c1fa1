"""What the user passed as data, as it came: the cells, and the labels of rows and columns."""

import copy
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names

RESERVED: Final = frozenset(
    {
        names.CHAIN, names.DRAW, names.COMPONENT, names.FEATURE, names.FEATURE2, names.OBS,
        names.MODE, names.X, names.LABELS, names.CENTER, names.UNIT, names.SAMPLE_WEIGHT,
        names.ALLOWED, names.IMPUTATION, names.CI_BOUND, *names.PARAMETER_DIMS,
    }
)  # fmt: skip
"""Names of a result that a coordinate of the user's data would collide with."""

_KINDS: Final = {
    "b": "booleans", "c": "complex numbers", "M": "dates", "m": "durations", "O": "objects",
    "U": "text", "S": "text", "T": "text", "V": "records",
}  # fmt: skip
"""What cells of a NumPy dtype, by its kind, are called in a message; numbers are absent."""


_NUMERIC: Final = ("integer", "floating", "mixed-integer-float", "empty")
"""What objects with missing cells among them may be otherwise."""
_OBJECTS: Final = {
    "string": "text", "boolean": "booleans", "date": "dates", "datetime": "dates", "time": "times",
    "timedelta": "durations", "complex": "complex numbers",
}  # fmt: skip
ANY_LABEL: Final = "iufbmMU"
COLUMN_LABEL: Final = "iuU"


@dataclass(frozen=True, eq=False)
class Given:
    """What the user passed, read but not yet judged.

    Parameters
    ----------
    cells : DataFrame or array, shape (n_obs, n_features)
        Of any type.
    coords : dict of str to xarray.Variable
        Coordinates on the dimensions ``obs`` and ``feature``, both of which have one; of a cube
        also those on its dimensions (see `bayesgmm.cubes`).
    attrs : dict
        Attributes of the whole (units, say).
    named : bool
        Whether the columns have names that the user gave.
    argument : str
        What the data are called in messages.
    drop : callable
        Turns column labels and positions into the code that drops these columns.
    fresh : bool
        Whether the cells are a copy already, and not the user's own memory.
    """

    cells: pd.DataFrame | NDArray[Any]
    coords: dict[str, xr.Variable]
    attrs: dict[str, Any]
    named: bool
    argument: str
    drop: Callable[[list[Any], list[int]], str]
    fresh: bool = False

    @property
    def features(self) -> list[Any]:
        """Labels of the columns: strings or ints."""
        return list(self.coords[names.FEATURE].values.tolist())

    def with_coords(self, coords: Mapping[str, xr.Variable]) -> Self:
        """Return the same with other coordinates: those of the rows that are left."""
        return replace(self, coords=dict(coords))

    def row(self, i: int) -> str:
        """Return the label of row `i` as it is written in a message."""
        obs = self.coords[names.OBS]
        labels = obs.values
        if names.STACKED in obs.attrs:
            places = np.unravel_index(int(labels[i]), obs.attrs[names.SHAPE])
            pairs = zip(obs.attrs[names.STACKED], places, strict=True)
            return f"cell ({', '.join(f'{dim}={place}' for dim, place in pairs)})"
        if names.LEVELS in obs.attrs:
            levels = [self.coords[level].values[i : i + 1] for level in obs.attrs[names.LEVELS]]
            shown = (
                str(one[0]) if one.dtype.kind in "mM" else repr(one.tolist()[0]) for one in levels
            )
            return f"row ({', '.join(shown)})"
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
            if inferred == "decimal":  # of Parquet files and databases
                return None
            return _OBJECTS.get(inferred, f"objects ({inferred})")
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


def called(theirs: Hashable, ours: str) -> dict[str, Any]:
    """Return the attribute that keeps what the user called something, if that is not our name."""
    return {} if theirs is None or theirs == ours else {names.GIVEN_NAME: str(theirs)}


def plain(labels: NDArray[Any], where: str, remedy: str, kinds: str) -> NDArray[Any]:
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
    rule = "all be strings or all be ints" if kinds == COLUMN_LABEL else (
        "all be numbers, all strings, or all dates without a time zone"
    )  # fmt: skip
    raise TypeError(
        f"`{where}` must {rule}, none of them missing; got {inferred} labels, {flat[place]!r} at "
        f"place {place}. Change them, e.g. `{remedy}`."
    )


def attributes(attrs: Mapping[Any, Any], where: str) -> dict[str, Any]:
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


def default_features(n_features: int) -> NDArray[np.str_]:
    """Return the labels of features that have none."""
    return np.array([f"x{j}" for j in range(n_features)])


def free_name(name: Any, where: str, remedy: str) -> None:
    """Refuse a name of a coordinate that is no string, or that results use."""
    if name in RESERVED or not isinstance(name, str):
        raise ValueError(
            f"`{where}` must have coordinates with names that are strings and that results do not "
            f"use; got {name!r}. {remedy}"
        )
