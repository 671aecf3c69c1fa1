"""What a fit says about rows in blocks: block by block, when it is asked for."""

from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.chunked import Chunked, block_values, opened_blocks
from bayesgmm.cubes import feature_dim_of
from bayesgmm.tree import feature_dim, features, parameters, require


def by_blocks[Result: (xr.DataArray, xr.Dataset)](
    function: Callable[..., Result],
    tree: xr.DataTree,
    X_new: Any,
    keywords: Mapping[str, Any],
    seeds: np.random.SeedSequence | None,
) -> Result:
    """Return what a function says about rows in blocks, without computing it.

    Parameters
    ----------
    function : callable
        Takes a fit and rows, and returns an array or a data set along ``obs``.
    tree : DataTree
        A fit.
    X_new : Dask array or DataFrame, chunked DataArray, or path
        What `chunked.is_chunked` tells to be in blocks.
    keywords : dict
        Further arguments.
    seeds : numpy.random.SeedSequence or None
        Of which every block gets a `random_seed` of its own; None if it takes none, or all the
        same.

    Returns
    -------
    DataArray or Dataset
        Of Dask arrays, with the blocks of `X_new`; of a cube with its dimensions, and floats, as
        cells may be left out, if its numbers are.
    """
    import dask

    require(tree, names.POSTERIOR, names.CONSTANT_DATA, function=function.__name__)
    table = _table(tree, X_new)
    each = [dict(keywords) for _ in table.blocks]
    if seeds is not None:
        for some, seed in zip(each, seeds.generate_state(len(each)).tolist(), strict=True):
            some["random_seed"] = seed
    light = dask.delayed(_light(tree), traverse=False)
    said = dask.delayed(_said, pure=False)
    parts = [
        said(function, light, block, some, table.dims)
        for block, some in zip(table.blocks, each, strict=True)
    ]
    shown = function(_light(tree), _typical(tree, table), **each[0])
    like = shown if isinstance(shown, xr.Dataset) else shown.to_dataset(name=names.X)
    variables = {
        name: (one.dims, _laid_out(parts, one.variable, name, table), one.attrs)
        for name, one in like.data_vars.items()
    }
    others = like.drop_dims(_rows(table)).coords
    result = xr.Dataset(variables, {**others, **_coords(table)}, like.attrs)
    if isinstance(shown, xr.Dataset):
        return result
    return result[names.X].rename(shown.name)


def _table(tree: xr.DataTree, X_new: Any) -> Chunked:
    """Return new rows in blocks, their features along the dimension that the fitted ones tell."""
    given_name = feature_dim(tree)
    X_new = opened_blocks(X_new, "X_new", given_name)
    along = feature_dim_of(X_new, features(tree), given_name)
    return Chunked.of(X_new, "X_new", along)


def _rows(table: Chunked) -> tuple[str, ...]:
    """Return the dimensions that rows have in results."""
    return table.dims if table.is_cube else (names.OBS,)


def _said(
    function: Callable[..., Any],
    tree: xr.DataTree,
    block: Any,
    keywords: Mapping[str, Any],
    dims: tuple[str, ...],
) -> dict[Any, NDArray[Any]]:
    """Return the arrays that a function makes of a block: none of cells with nothing in them."""
    if isinstance(block, pd.DataFrame):
        block = block.reset_index(drop=True)
    if len(dims) > 1:
        if np.isnan(block_values(block)).all():
            return {}
        block = xr.DataArray(block, dims=(*dims, names.FEATURE))
    found = function(tree, block, **keywords)
    if isinstance(found, xr.DataArray):
        return {names.X: found.values}
    return {name: variable.values for name, variable in found.data_vars.items()}


def _laid_out(parts: list[Any], like: xr.Variable, name: Any, table: Chunked) -> Any:
    """Return an array of Dask, of what is said of all blocks under a name."""
    import dask
    import dask.array

    kind, rows = like.dtype, _rows(table)
    if table.is_cube and table.template.dtype.kind not in "iu":  # cells may be left out
        kind = np.result_type(kind, np.float64)
    pieces = np.empty(len(parts), dtype=object)
    piece = dask.delayed(_piece, pure=False)
    for i, sizes in enumerate(product(*table.chunks)):
        shape = tuple((like.sizes | dict(zip(rows, sizes, strict=True))).values())
        made = piece(parts[i], name, shape, kind)
        pieces[i] = dask.array.from_delayed(made, shape, kind)
    grid = pieces.reshape([len(sizes) for sizes in table.chunks])
    for dim in reversed(rows):
        lines = grid.reshape(-1, grid.shape[-1])
        longer = np.empty(len(lines), dtype=object)
        for i, line in enumerate(lines):
            longer[i] = dask.array.concatenate(list(line), like.dims.index(dim))
        grid = longer.reshape(grid.shape[:-1])
    return grid.item()


def _piece(
    said: Mapping[Any, NDArray[Any]], name: Any, shape: tuple[int, ...], kind: np.dtype[Any]
) -> NDArray[Any]:
    """Return what is said of a block under a name, NaN where nothing is."""
    return np.asarray(said[name], dtype=kind) if name in said else np.full(shape, np.nan, kind)


def _light(tree: xr.DataTree) -> xr.DataTree:
    """Return what of a fit new rows are judged by."""
    groups = {
        group: tree[group].dataset.drop_dims(names.OBS, errors="ignore")
        for group in (names.POSTERIOR, names.CONSTANT_DATA)
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), **groups})


def _typical(tree: xr.DataTree, table: Chunked) -> Any:
    """Return two rows as they may come, or a cube with one cell."""
    means = parameters(tree).means[0]
    rows = table.labelled(np.ascontiguousarray(means[[0, -1]]))
    if not table.is_cube:
        return rows
    coords = {name: one[(slice(1),) * one.ndim] for name, one in table.coords.items()}
    return rows[0].expand_dims(list(table.dims)).assign_coords(coords)


def _coords(table: Chunked) -> dict[str, xr.Variable]:
    """Return the coordinates along the rows, as results have them."""
    if table.is_cube:
        return table.coords
    coords = {names.OBS: xr.Variable(names.OBS, pd.RangeIndex(table.n_rows))}
    for name, one in table.coords.items():
        label = names.OBS if (name,) == table.dims else name
        coords[label] = xr.Variable(names.OBS, one.data, one.attrs)
    return coords
