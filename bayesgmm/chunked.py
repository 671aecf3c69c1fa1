"""Tables in blocks of rows that are not in memory: Dask's, chunked xarray, and folders of files."""

import math
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.cells import to_float
from bayesgmm.cubes import dim_of_features
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
        True for a Dask array or DataFrame, a DataArray of Dask's chunks, a Dataset with such
        variables, and the path of a Zarr store or of a folder of Parquet files.
    """
    if isinstance(X, xr.DataArray):
        return X.chunks is not None
    if isinstance(X, xr.Dataset):
        return any(one.chunks is not None for one in X.data_vars.values())
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
    """A table in blocks of rows, or a cube in blocks of cells.

    Parameters
    ----------
    blocks : list of dask.delayed.Delayed
        Arrays or DataFrames: of a table the rows in their order, of a cube chunk after chunk, the
        last dimension first.
    chunks : tuple of tuple of int
        Sizes of the blocks along every dimension of the rows: of a table there is one.
    template : array, DataFrame or DataArray
        Two rows with the labels of all columns.
    dims : tuple of str
        What the dimensions of the rows are called.
    coords : dict of str to Variable
        Coordinates along these alone, if there are any.
    """

    blocks: list[Any]
    chunks: tuple[tuple[int, ...], ...]
    template: Any
    dims: tuple[str, ...]
    coords: dict[str, xr.Variable]

    @classmethod
    def of(cls, X: Any, argument: str, feature_dim: str | None = None) -> Self:
        """Return what the user passed, refused if it is no table or cube in blocks of rows.

        Parameters
        ----------
        X : Dask array or DataFrame, DataArray, Dataset, or path
            What `is_chunked` says it is.
        argument : str
            What it is called in messages.
        feature_dim : str, optional
            The dimension of a DataArray along which features lie.
        """
        X = opened_blocks(X, argument, feature_dim)
        if feature_dim is not None and not isinstance(X, xr.DataArray):
            raise TypeError(
                f"`feature_dim` must be left out unless `{argument}` is a DataArray; got "
                f"{feature_dim!r} and a {type(X).__name__}. Leave it out: columns, and variables "
                f"of a Dataset, are the features."
            )
        if isinstance(X, xr.Dataset):
            X = _of_variables(X, argument)
        if isinstance(X, xr.DataArray) and (X.ndim > 1 or feature_dim is not None):
            found = cls._of_labelled(X, argument, feature_dim)
        else:
            array = hasattr(X, "chunks")
            found = cls._of_array(X, argument) if array else cls._of_frame(X, argument)
        to_float(read(found.template, argument, found.along))  # the types of the columns
        if not found.n_rows:
            raise ValueError(
                f"`{argument}` must hold at least one row; got {len(found.sizes)} empty blocks. "
                f"Look at how it was read or filtered."
            )
        there = found.sizes > 0
        blocks = [block for block, some in zip(found.blocks, there, strict=True) if some]
        chunks = tuple(tuple(size for size in sizes if size) for sizes in found.chunks)
        return replace(found, blocks=blocks, chunks=chunks)

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
        sizes = tuple(map(int, X.map_partitions(len).compute()))
        template = template.reset_index(drop=True)
        return cls(list(X.to_delayed()), (sizes,), template, (names.OBS,), {})

    @classmethod
    def _of_array(cls, X: Any, argument: str) -> Self:
        if X.ndim not in (1, 2):
            raise ValueError(
                f"`{argument}` must be 2-D, rows by features, or 1-D, one feature; got shape "
                f"{tuple(X.shape)}. Stack what makes a row into one dimension first, or make a "
                f"DataArray of it and name `feature_dim`."
            )
        dims, coords, array = (names.OBS,), {}, X
        template: Any = np.zeros((2, 1 if X.ndim == 1 else X.shape[1]), dtype=X.dtype)
        if isinstance(X, xr.DataArray):
            dims, array = (str(X.dims[0]),), X.data
            coords = _coords_along(X, X.dims)
            template = X.drop_vars(list(coords))[:2].copy(data=np.zeros(X[:2].shape, X.dtype))
        if array.ndim == 1:
            array = array[:, None]
        _refuse_chunks(array, argument)
        return cls(list(array.to_delayed().ravel()), array.chunks[:1], template, dims, coords)

    @classmethod
    def _of_labelled(cls, X: xr.DataArray, argument: str, feature_dim: str | None) -> Self:
        """Return an array of any dimensions, of which one is that of the features."""
        if X.ndim == 1:
            X = X.expand_dims(names.OBS)
        along = dim_of_features(X, argument, feature_dim)
        rows = [dim for dim in X.dims if dim != along]
        X = X.transpose(*rows, along)
        _refuse_chunks(X.data, argument, along)
        one = X.isel(dict.fromkeys(rows, 0), drop=True)
        template = xr.DataArray(
            np.zeros((2, one.size), X.dtype), one.coords, (rows[0], along), X.name, X.attrs
        )
        blocks = list(X.data.to_delayed().ravel())
        dims = tuple(map(str, rows))
        return cls(blocks, X.data.chunks[:-1], template, dims, _coords_along(X, rows))

    @property
    def along(self) -> str | None:
        """What the dimension of the features is called, if it is."""
        labelled = isinstance(self.template, xr.DataArray) and self.template.ndim == 2
        return str(self.template.dims[1]) if labelled else None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each block."""
        sizes = np.ones((), dtype=np.int64)
        for along in self.chunks:
            sizes = np.multiply.outer(sizes, np.asarray(along, dtype=np.int64))
        return np.asarray(sizes.ravel())

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of rows along each of their dimensions."""
        return tuple(map(sum, self.chunks))

    @property
    def is_cube(self) -> bool:
        """Whether rows have several dimensions: then some may be left out."""
        return len(self.chunks) > 1

    @property
    def offsets(self) -> list[tuple[int, ...]]:
        """Where each block begins along every dimension."""
        return list(product(*(np.cumsum((0, *sizes[:-1])).tolist() for sizes in self.chunks)))

    @property
    def n_rows(self) -> int:
        """Number of rows; of a cube of all cells, also those with nothing in them."""
        return math.prod(self.shape)

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
    """Return a block as float64, shape (n, D), missing cells as NaN; of a cube its cells."""
    if isinstance(block, pd.DataFrame):
        block = block.reset_index(drop=True)
    elif block.ndim > 2:
        block = block.reshape(-1, block.shape[-1])
    return to_float(read(block, "X"))


def _coords_along(X: xr.DataArray, dims: Any) -> dict[str, xr.Variable]:
    """Return the coordinates along some dimensions alone."""
    return {
        str(name): one.variable
        for name, one in X.coords.items()
        if one.dims and set(one.dims) <= set(dims)
    }


def _of_variables(X: xr.Dataset, argument: str) -> xr.DataArray:
    """Return a Dataset as an array, its variables broadcast and made one chunk of features."""
    few = {
        name: (one.dims, np.zeros((1,) * one.ndim, one.dtype), one.attrs)
        for name, one in X.data_vars.items()
    }
    given = read(xr.Dataset(few, attrs=X.attrs), argument)
    to_float(given)  # names what is no number by its variable
    rows = list(dict.fromkeys(dim for one in X.data_vars.values() for dim in one.dims))
    others = [name for name, one in X.coords.items() if not set(one.dims) <= set(rows)]
    array = X.drop_vars(others).to_dataarray(names.FEATURE).transpose(*rows, names.FEATURE)
    if "units" in given.coords and "units" not in array.coords:
        array = array.assign_coords(units=given.coords["units"])
    return array.chunk({names.FEATURE: -1})


def _refuse_chunks(array: Any, argument: str, along: Any = None) -> None:
    """Refuse chunks of which the rows are not whole, or not counted."""
    *rows, columns = array.chunks
    if any(math.isnan(size) for sizes in array.chunks for size in sizes):
        raise ValueError(
            f"`{argument}` must have chunks of known sizes; got {math.prod(map(len, rows))} chunks "
            f"of unknown ones. Count them first: `{argument}.compute_chunk_sizes()`."
        )
    if len(columns) > 1:
        join = "rechunk({1: -1})" if along is None else f"chunk({{{along!r}: -1}})"
        raise ValueError(
            f"`{argument}` must be chunked along its rows alone, or no block knows a whole row; "
            f"got chunks of {listed(columns)} features. Join them: `{argument}.{join}`."
        )
    if 0 in array.shape:
        raise ValueError(
            f"`{argument}` must hold at least one row and one feature; got shape {array.shape}. "
            f"Look at how it was read or filtered."
        )


def opened_blocks(X: Any, argument: str, feature_dim: str | None = None) -> Any:
    """Return what is in blocks as an object; of a path without reading its rows."""
    if not isinstance(X, str | os.PathLike):
        return X
    path = Path(X)
    try:
        if _is_zarr(path):
            return _open_zarr(path, argument, feature_dim)
        return _open_parquet(path)
    except ImportError as error:
        raise ImportError(
            f"`{argument}` must be in memory where Dask is not installed ({error}); got the path "
            f"{os.fspath(path)!r}. Run `pip install 'bayesgmm[dask]'`."
        ) from error


def _open_parquet(path: Path) -> Any:
    import dask.dataframe

    return dask.dataframe.read_parquet(path)


def _open_zarr(path: Path, argument: str, feature_dim: str | None) -> Any:
    import dask.array
    import zarr

    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        array = dask.array.from_zarr(os.fspath(path))
        return array.rechunk({1: -1}) if array.ndim == 2 else array
    dataset = xr.open_zarr(path, chunks={}, consolidated=False)
    along = feature_dim or names.FEATURE
    tables = [name for name, one in dataset.data_vars.items() if one.ndim > 1 and along in one.dims]
    if not tables:
        tables = [name for name, one in dataset.data_vars.items() if one.ndim == 2]
    if len(tables) != 1:
        raise ValueError(
            f"`{argument}` must be the path of a Zarr array, or of a group with one table, or with "
            f"one cube along `feature_dim`; got {os.fspath(path)!r}, a group with "
            f"{listed(sorted(map(str, tables))) or 'none'}. Name the array: "
            f"{os.fspath(path / 'name')!r}; or open it, e.g. xarray.open_zarr(path)['name']."
        )
    table = dataset[tables[0]]
    named = feature_dim if feature_dim in table.dims else None
    return table.chunk({dim_of_features(table, argument, named): -1})
