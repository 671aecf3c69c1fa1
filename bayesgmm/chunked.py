"""Tables in blocks of rows that are not in memory: Dask's, chunked xarray, and folders of files."""

import math
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.cells import to_float
from bayesgmm.labels import listed
from bayesgmm.tables import read

ZARR: Final = ("zarr.json", ".zarray", ".zgroup")
"""Files that make a folder a Zarr store."""


def is_chunked(X: Any) -> bool:
    """Tell whether a table comes in blocks: none of it is looked at.

    Parameters
    ----------
    X : object
        What the user passed as data.

    Returns
    -------
    bool
        True for a Dask array or DataFrame, a DataArray of Dask's chunks, and the path of a Zarr
        store or of a folder of Parquet files.
    """
    if isinstance(X, xr.DataArray):
        return X.chunks is not None
    if isinstance(X, str | os.PathLike):
        with suppress(OSError):  # a path that cannot be
            return _is_zarr(Path(X)) or _is_parquet(Path(X))
        return False
    return _is_dask(X)


def _is_dask(X: Any) -> bool:
    return type(X).__module__.partition(".")[0] in ("dask", "dask_expr")


def _is_zarr(path: Path) -> bool:
    return any((path / name).is_file() for name in ZARR)


def _is_parquet(path: Path) -> bool:
    return path.is_dir() and next(path.glob("**/*.parquet"), None) is not None


@dataclass(frozen=True, eq=False)
class Chunked:
    """A table in blocks of rows.

    Parameters
    ----------
    blocks : list of dask.delayed.Delayed
        Arrays or DataFrames, the rows in their order.
    sizes : array of int
        Rows of each.
    template : array, DataFrame or DataArray
        Two rows with the labels of all columns.
    obs : dict of str to Variable
        Coordinates along the rows, and the name of their dimension, if they have any.
    """

    blocks: list[Any]
    sizes: NDArray[np.int64]
    template: Any
    obs: dict[str, xr.Variable]

    @classmethod
    def of(cls, X: Any, argument: str) -> Self:
        """Return what the user passed, refused if it is no table in blocks of rows.

        Parameters
        ----------
        X : Dask array or DataFrame, DataArray, or path
            What `is_chunked` says it is.
        argument : str
            What it is called in messages.
        """
        if isinstance(X, str | os.PathLike):
            X = _opened(Path(X), argument)
        found = cls._of_array(X, argument) if hasattr(X, "chunks") else cls._of_frame(X, argument)
        to_float(read(found.template, argument))  # the types of the columns
        if not found.n_rows:
            raise ValueError(
                f"`{argument}` must hold at least one row; got {len(found.sizes)} empty blocks. "
                f"Look at how it was read or filtered."
            )
        there = np.flatnonzero(found.sizes)
        return replace(found, blocks=[found.blocks[i] for i in there], sizes=found.sizes[there])

    @classmethod
    def _of_frame(cls, X: Any, argument: str) -> Self:
        template = X._meta_nonempty
        if isinstance(template, pd.Series):
            X, template = X.to_frame(), template.to_frame()
        if not isinstance(template, pd.DataFrame):
            raise TypeError(
                f"`{argument}` must be a Dask array or DataFrame, or a chunked DataArray; got an "
                f"object of type {type(X).__name__}. Make an array of it first."
            )
        sizes = np.asarray(X.map_partitions(len).compute(), dtype=np.int64)
        return cls(list(X.to_delayed()), sizes, template.reset_index(drop=True), {})

    @classmethod
    def _of_array(cls, X: Any, argument: str) -> Self:
        obs: dict[str, xr.Variable] = {}
        if X.ndim not in (1, 2):
            raise ValueError(
                f"`{argument}` must be 2-D, rows by features, or 1-D, one feature; got shape "
                f"{tuple(X.shape)}. Stack what makes a row into one dimension first."
            )
        template: Any = np.zeros((2, 1 if X.ndim == 1 else X.shape[1]), dtype=X.dtype)
        array = X
        if isinstance(X, xr.DataArray):
            X = _rows_first(X)
            row, array = X.dims[0], X.data
            obs = {str(key): coord.variable for key, coord in X.coords.items() if row in coord.dims}
            template = X.drop_vars(list(obs))[:2].copy(data=np.zeros(X[:2].shape, X.dtype))
        if array.ndim == 1:
            array = array[:, None]
        _refuse_chunks(array, argument)
        sizes = np.asarray(array.chunks[0], dtype=np.int64)
        return cls(list(array.to_delayed().ravel()), sizes, template, obs)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.sizes.sum())

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return 1 if self.template.ndim == 1 else int(self.template.shape[1])

    def labelled(self, values: NDArray[np.float64]) -> Any:
        """Return some rows, shape (n, D), under the labels of the columns."""
        template = self.template
        if isinstance(template, pd.DataFrame):
            return pd.DataFrame(values, columns=template.columns)
        if isinstance(template, xr.DataArray):
            shape = values.shape if template.ndim == 2 else len(values)
            return template[np.zeros(len(values), dtype=int)].copy(data=values.reshape(shape))
        return values


def block_values(block: Any) -> NDArray[np.float64]:
    """Return a block as float64, shape (n, D), missing cells as NaN."""
    if isinstance(block, pd.DataFrame):
        block = block.reset_index(drop=True)
    return to_float(read(block, "X"))


def _rows_first(X: xr.DataArray) -> xr.DataArray:
    """Return an array with its features along the last of two dimensions."""
    if X.ndim == 1:
        return X
    feature = X.dims[1]
    if names.FEATURE in X.dims:
        feature = names.FEATURE
    elif feature == names.OBS:
        feature = X.dims[0]
    return X.transpose(..., feature)


def _refuse_chunks(array: Any, argument: str) -> None:
    """Refuse chunks of which the rows are not whole, or not counted."""
    rows, columns = array.chunks
    if any(math.isnan(size) for size in (*rows, *columns)):
        raise ValueError(
            f"`{argument}` must have chunks of known sizes; got {len(rows)} chunks of unknown "
            f"ones. Count them first: `{argument}.compute_chunk_sizes()`."
        )
    if len(columns) > 1:
        raise ValueError(
            f"`{argument}` must be chunked along its rows alone, or no block knows a whole row; "
            f"got chunks of {listed(columns)} features. Join them: `{argument}.rechunk({{1: -1}})`"
            f", of a DataArray `{argument}.chunk({{feature_dimension: -1}})`."
        )
    if 0 in array.shape:
        raise ValueError(
            f"`{argument}` must hold at least one row and one feature; got shape {array.shape}. "
            f"Look at how it was read or filtered."
        )


def _opened(path: Path, argument: str) -> Any:
    """Return the table in a folder, without reading its rows."""
    opener: Callable[[Path, str], Any] = _open_zarr if _is_zarr(path) else _open_parquet
    try:
        return opener(path, argument)
    except ImportError as error:
        raise ImportError(
            f"`{argument}` must be in memory where Dask is not installed ({error}); got the path "
            f"{os.fspath(path)!r}. Run `pip install 'bayesgmm[dask]'`."
        ) from error


def _open_parquet(path: Path, argument: str) -> Any:
    import dask.dataframe

    return dask.dataframe.read_parquet(path)


def _open_zarr(path: Path, argument: str) -> Any:
    import dask.array
    import zarr

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        array = dask.array.from_zarr(os.fspath(path))
        return array.rechunk({1: -1}) if array.ndim == 2 else array
    dataset = xr.open_zarr(path, chunks={}, consolidated=False)
    tables = [name for name, one in dataset.data_vars.items() if one.ndim == 2]
    if len(tables) != 1:
        raise ValueError(
            f"`{argument}` must be the path of a Zarr array, or of a group with one table; got "
            f"{os.fspath(path)!r}, a group with {listed(sorted(map(str, tables))) or 'none'}. Name "
            f"the array: {os.fspath(path / 'name')!r}."
        )
    table = _rows_first(dataset[tables[0]])
    return table.chunk({table.dims[1]: -1})
