"""What a fit says about rows in blocks: block by block, when it is asked for."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.chunked import Chunked
from bayesgmm.tree import parameters, require


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
        Of Dask arrays, with the blocks of `X_new`.
    """
    import dask
    import dask.array

    require(tree, names.POSTERIOR, names.CONSTANT_DATA, function=function.__name__)
    table = Chunked.of(X_new, "X_new")
    each = [dict(keywords) for _ in table.blocks]
    if seeds is not None:
        for some, seed in zip(each, seeds.generate_state(len(each)).tolist(), strict=True):
            some["random_seed"] = seed
    light = dask.delayed(_light(tree), traverse=False)
    said = dask.delayed(_said, pure=False)
    parts = [
        said(function, light, block, some) for block, some in zip(table.blocks, each, strict=True)
    ]
    shown = function(_light(tree), table.labelled(_typical(tree)), **each[0])
    like = shown if isinstance(shown, xr.Dataset) else shown.to_dataset(name=names.X)
    variables = {}
    for name, variable in like.data_vars.items():
        axis = variable.dims.index(names.OBS)
        pieces = []
        for part, size in zip(parts, table.sizes.tolist(), strict=True):
            shape = tuple(size if i == axis else n for i, n in enumerate(variable.shape))
            pieces.append(dask.array.from_delayed(part[name], shape, variable.dtype))
        variables[name] = (variable.dims, dask.array.concatenate(pieces, axis), variable.attrs)
    coords = {key: one for key, one in like.coords.items() if names.OBS not in one.dims}
    result = xr.Dataset(variables, {**coords, **_rows(table)}, like.attrs)
    if isinstance(shown, xr.Dataset):
        return result
    return result[names.X].rename(shown.name)


def _said(
    function: Callable[..., Any], tree: xr.DataTree, block: Any, keywords: Mapping[str, Any]
) -> dict[Any, NDArray[Any]]:
    """Return the arrays that a function makes of a block."""
    if isinstance(block, pd.DataFrame):
        block = block.reset_index(drop=True)
    found = function(tree, block, **keywords)
    if isinstance(found, xr.DataArray):
        return {names.X: found.values}
    return {name: variable.values for name, variable in found.data_vars.items()}


def _light(tree: xr.DataTree) -> xr.DataTree:
    """Return what of a fit new rows are judged by."""
    groups = {
        group: tree[group].dataset.drop_dims(names.OBS, errors="ignore")
        for group in (names.POSTERIOR, names.CONSTANT_DATA)
    }
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=tree.attrs), **groups})


def _typical(tree: xr.DataTree) -> NDArray[np.float64]:
    """Return two rows, shape (2, D), as they may come."""
    means = parameters(tree).means[0]
    return np.ascontiguousarray(means[[0, -1]])


def _rows(table: Chunked) -> dict[str, xr.Variable]:
    """Return the coordinates along the rows, as results have them."""
    own = {name: one.dims[0] for name, one in table.obs.items() if one.dims == (name,)}
    coords = {names.OBS: xr.Variable(names.OBS, pd.RangeIndex(table.n_rows))}
    for name, one in table.obs.items():
        coords[names.OBS if name in own else name] = xr.Variable(names.OBS, one.data, one.attrs)
    return coords
