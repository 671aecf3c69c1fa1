"""Blocks of rows with all that is said of these: how many each stands for, labels, errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.chunked import Chunked, block_values
from bayesgmm.known_labels import what_is_allowed
from bayesgmm.labels import listed
from bayesgmm.measurement import REMEDY, read_errors
from bayesgmm.sample_weights import checked_weights, per_row
from bayesgmm.tables import read

type Array = NDArray[np.float64]

SAID: Final = (names.SAMPLE_WEIGHT, names.LABELS, names.MEASUREMENT_ERROR)
"""What may be said of rows, in the order of `Rows`."""


class Rows(NamedTuple):
    """Some rows of which something is seen, with all that was said of them.

    Parameters
    ----------
    values : array, shape (n, D)
        NaN where missing.
    numbers : array of int, shape (n,)
        Their places among all rows; of a cube among its cells, counted with the last dimension
        first.
    sample_weight, allowed, errors : arrays along rows, or None
        As `Data` has them.
    """

    values: Array
    numbers: NDArray[np.int64]
    sample_weight: Array | None
    allowed: Array | None
    errors: Array | None

    def some(self, which: NDArray[Any]) -> Self:
        """Return some of them."""
        others: list[Any] = [None if one is None else one[which] for one in self[2:]]
        return type(self)(self.values[which], self.numbers[which], *others)

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Return several one after another, of which the same was said."""
        if len(parts) == 1:
            return parts[0]
        lines: list[Any] = [
            None if each[0] is None else np.concatenate(each) for each in zip(*parts, strict=True)
        ]
        return cls(*lines)


@dataclass(frozen=True, eq=False)
class Reader:
    """How blocks of one table, or one cube, are read.

    Parameters
    ----------
    features : list
        Labels of the columns.
    n_components : int
        That labels may name.
    dims : tuple of str
    shape : tuple of int
        Of the rows; if there is more than one dimension those with nothing in them are left out.
    """

    features: list[Any]
    n_components: int
    dims: tuple[str, ...]
    shape: tuple[int, ...]

    def read(self, block: Any, said: Mapping[str, Any], offsets: tuple[int, ...]) -> Rows:
        """Return the rows of a block, refused if what is said of one makes no sense.

        Parameters
        ----------
        block : array or DataFrame
        said : dict of str to array
            Of the same rows.
        offsets : tuple of int
            Where the block begins along every dimension.
        """
        values = block_values(block)
        sizes = block.shape[:-1] if len(offsets) > 1 else (len(values),)
        axes = (at + np.arange(size) for at, size in zip(offsets, sizes, strict=True))
        numbers = np.ravel_multi_index(np.meshgrid(*axes, indexing="ij"), self.shape).ravel()
        arrays = {name: np.asarray(one) for name, one in said.items()}
        arrays = {
            name: one.reshape(len(values), *one.shape[len(offsets) :])
            for name, one in arrays.items()
        }
        if len(offsets) > 1:
            seen = ~np.isnan(values).all(axis=1)
            values, numbers = values[seen], numbers[seen]
            arrays = {name: one[seen] for name, one in arrays.items()}
        if not len(values):
            return self._none(arrays)
        found: dict[str, Array | None] = dict.fromkeys(SAID)
        for name, one in arrays.items():
            if name == names.SAMPLE_WEIGHT:
                found[name] = checked_weights(one, numbers)
            elif name == names.LABELS:
                found[name] = what_is_allowed(one, numbers, self.n_components)
            else:
                found[name] = self._errors(one, values, numbers)
        return Rows(values, numbers, *found.values())

    def _none(self, said: Mapping[str, NDArray[Any]]) -> Rows:
        """Return no rows."""
        d = len(self.features)
        errors = said.get(names.MEASUREMENT_ERROR)
        return Rows(
            np.empty((0, d)), np.empty(0, dtype=np.int64),
            np.empty(0) if names.SAMPLE_WEIGHT in said else None,
            np.empty((0, self.n_components)) if names.LABELS in said else None,
            None if errors is None else np.empty((0, d, d) if errors.ndim == 3 else (0, d)),
        )  # fmt: skip

    def _errors(self, errors: NDArray[Any], values: Array, numbers: NDArray[np.int64]) -> Array:
        """Return the errors of cells, checked."""
        given = read(values, "X")
        feature = xr.Variable(names.FEATURE, np.array(self.features, dtype=object))
        coords = {names.OBS: self.rows_called(numbers), names.FEATURE: feature}
        return read_errors(errors, values, given.with_coords(coords))

    def rows_called(self, numbers: NDArray[np.int64]) -> xr.Variable:
        """Return the labels of rows, as messages name them."""
        stacked = {names.STACKED: list(self.dims), names.SHAPE: list(self.shape)}
        return xr.Variable(names.OBS, numbers, stacked if len(self.shape) > 1 else {})

    def row(self, number: int) -> str:
        """Return the label of a row as it is written in a message."""
        given = read(np.zeros((1, 1)), "X")
        return given.with_coords({names.OBS: self.rows_called(np.array([number]))}).row(0)


@dataclass(frozen=True, eq=False)
class Source:
    """Rows in blocks with all that is said of them.

    Parameters
    ----------
    table : Chunked
    reader : Reader
    said : dict of str to list of dask.delayed.Delayed
        Of every block.
    width : int
        Numbers that a row takes.
    """

    table: Chunked
    reader: Reader
    said: dict[str, list[Any]]
    width: int

    @classmethod
    def of(
        cls, table: Chunked, features: list[Any], said: Mapping[str, Any], n_components: int
    ) -> Self:
        """Return rows with what the user said of them, refused if it is not of these rows.

        Parameters
        ----------
        table : Chunked
        features : list
            Labels of its columns.
        said : dict of str to object
            Arrays, tables, of Dask or not; None if nothing is said.
        n_components : int
        """
        d, width, blocks = table.n_features, table.n_features, {}
        columns: dict[str, list[tuple[int, ...]]] = {
            names.SAMPLE_WEIGHT: [()],
            names.LABELS: [(), (n_components,)],
            names.MEASUREMENT_ERROR: [(d,), (d, d), *([()] if d == 1 else [])],
        }
        for name in SAID:
            if said.get(name) is None:
                continue
            array = _same_rows(said[name], name, table, features)
            more = array.shape[len(table.shape) :]
            if more not in columns[name]:
                shapes = " or ".join(str((*table.shape, *one)) for one in columns[name])
                remedy = REMEDY if name == names.MEASUREMENT_ERROR else "Give as many."
                raise ValueError(f"`{name}` must have shape {shapes}; got {array.shape}. {remedy}")
            array = array.rechunk((*table.chunks, *((size,) for size in more)))
            blocks[name] = list(array.to_delayed().ravel())
            width += {names.SAMPLE_WEIGHT: 1, names.LABELS: n_components}.get(name, d * len(more))
        reader = Reader(features, n_components, table.dims, table.shape)
        return cls(table, reader, blocks, width)

    @property
    def parts(self) -> list[tuple[Any, dict[str, Any], tuple[int, ...]]]:
        """What `Reader.read` takes of every block."""
        return [
            (block, {name: each[i] for name, each in self.said.items()}, offsets)
            for i, (block, offsets) in enumerate(
                zip(self.table.blocks, self.table.offsets, strict=True)
            )
        ]


def _same_rows(values: Any, name: str, table: Chunked, features: list[Any]) -> Any:
    """Return what is said of rows as a Dask array, its first dimensions those of the rows."""
    import dask.array

    columns: Any = getattr(values, "columns", features)
    named = name == names.MEASUREMENT_ERROR and not isinstance(table.template, np.ndarray)
    if named and list(columns) != features:
        raise ValueError(
            f"`{name}` must have the columns of `X`, {listed(features)}; got {listed(columns)}. "
            f"Order them as `X`."
        )
    array = _whole(values, name, table)
    if not isinstance(array, dask.array.Array):
        array = dask.array.from_array(array, chunks=-1)
    if any(np.isnan(size) for size in array.shape):
        raise ValueError(
            f"`{name}` must have chunks of known sizes; got shape {array.shape}. Count them first: "
            f"`{name}.compute_chunk_sizes()`."
        )
    n_dims = len(table.shape)
    if array.shape[:n_dims] != table.shape and table.is_cube:
        raise ValueError(
            f"`{name}` must have an entry for each cell of `X`, dimensions {listed(table.dims)} of "
            f"sizes {table.shape}; got shape {array.shape}. Pass a DataArray with these dimensions."
        )
    if array.shape[:n_dims] != table.shape:
        raise ValueError(
            f"`{name}` must have an entry for each of the {table.n_rows} rows of `X`; got shape "
            f"{array.shape}. Give as many."
        )
    return array


def _whole(values: Any, name: str, table: Chunked) -> Any:
    """Return what is said of rows as an array of Dask or NumPy, rows along its first dimensions."""
    if hasattr(values, "to_dask_array"):
        return values.to_dask_array(lengths=True)
    if isinstance(values, xr.DataArray) and set(table.dims) <= set(values.dims):
        return values.transpose(*table.dims, ...).data
    if isinstance(values, xr.DataArray) and values.chunks is not None:
        return values.data
    if type(values).__module__.partition(".")[0] == "dask":
        return values
    if not table.is_cube:
        return per_row(values, name, np.arange(table.n_rows))
    found = np.asarray(values)
    if found.shape[: len(table.shape)] != table.shape and found.shape[:1] == (table.n_rows,):
        found = found.reshape(*table.shape, *found.shape[1:])
    return found
