"""Arrays of xarray, of any dimensions: their rows are stacked, and laid out again in results.

A cube's rows have as labels their places among all cells, counted with the last dimension first.
Which dimensions these were is said in the attributes of ``obs``, so that they need no more memory
than that, and a file can hold them. Coordinates on these dimensions go with the data.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesgmm import names
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


def read_xarray(X: xr.DataArray, argument: str, feature_dim: str | None = None) -> Given:
    """Read a DataArray: features along the dimension given, else `feature`, else of two the last.

    Parameters
    ----------
    X : DataArray
        Of any number of dimensions.
    argument : str
        What `X` is called in messages.
    feature_dim : str, optional

    Returns
    -------
    Given
        Cells share the memory of `X` where a view can.
    """
    attrs = attributes(X.attrs, f"{argument}.attrs")
    if X.ndim > 1:
        attrs |= called(X.name, names.X)
    elif feature_dim is not None or X.dims == (names.FEATURE,):
        X = X.expand_dims(names.OBS)
    elif names.FEATURE in X.coords:
        X = X.expand_dims(names.FEATURE, axis=1)
    else:
        label = [] if X.name is None else [X.name]
        X = X.expand_dims({names.FEATURE: label} if label else names.FEATURE, axis=1)
    along = _feature_dim(X, argument, feature_dim)
    rows = [dim for dim in X.dims if dim != along]
    X = X.transpose(*rows, along)
    named = along in X.coords
    ours = {**{dim: str(dim) for dim in rows}, along: names.FEATURE}
    if len(rows) == 1:
        ours[rows[0]] = names.OBS
    coords = _coords(X, ours, argument)
    default = xr.Variable(
        names.FEATURE, default_features(X.shape[-1]), called(along, names.FEATURE)
    )
    coords.setdefault(names.FEATURE, default)
    source = X.to_numpy()
    cells = source.reshape(-1, X.shape[-1])
    coords[names.OBS] = coords.get(names.OBS, _places(X, rows, argument))
    return Given(
        cells, coords, attrs, named, argument,
        (lambda labels, _: f"{argument}.drop_sel({{{along!r}: {labels!r}}})")
        if named
        else (lambda _, places: f"{argument}.drop_isel({{{along!r}: {places}}})"),
        fresh=not np.may_share_memory(source, cells),
    )  # fmt: skip


def read_dataset(X: xr.Dataset, argument: str) -> Given:
    """Read a Dataset: its variables are the features, broadcast against one another.

    Parameters
    ----------
    X : Dataset
    argument : str
        What `X` is called in messages.

    Returns
    -------
    Given
        A column for every variable, which shares its memory where a view can.
    """
    attrs = attributes(X.attrs, f"{argument}.attrs")
    rows = list(dict.fromkeys(dim for one in X.data_vars.values() for dim in one.dims))
    if not rows:
        raise ValueError(
            f"`{argument}` must have variables along some dimension; got "
            f"{listed(X.data_vars) or 'none'}. Pass those that are the features."
        )
    if names.FEATURE in rows:
        raise TypeError(
            f"`{argument}` must have variables that are the features; got a Dataset with the "
            f"dimension {names.FEATURE!r}. Pass one of its variables ({listed(X.data_vars)})."
        )
    frame = pd.DataFrame(
        {
            name: one.transpose(*rows).to_numpy().reshape(-1)
            for name, one in xr.broadcast(X[list(X.data_vars)])[0].data_vars.items()
        },
        copy=False,
    )
    ours = {dim: str(dim) if len(rows) > 1 else names.OBS for dim in rows}
    coords = _coords(X, ours, argument)
    where = f"list({argument})"
    labels = plain(
        frame.columns.to_numpy(), where, f"{argument} = {argument}.rename(...)", COLUMN_LABEL
    )
    coords[names.FEATURE] = xr.Variable(names.FEATURE, labels)
    units = [one.attrs.get("units") for one in X.data_vars.values()]
    if "units" not in coords and all(isinstance(unit, str) for unit in units):
        coords["units"] = xr.Variable(names.FEATURE, np.array(units, dtype=object))
    coords[names.OBS] = coords.get(names.OBS, _places(X, rows, argument))
    return Given(
        frame, coords, attrs, True, argument,
        lambda labels, _: f"{argument}.drop_vars({labels!r})",
    )  # fmt: skip


def feature_dim_of(X: Any, features: Sequence[Any], given_name: str | None) -> str | None:
    """Return the dimension along which new rows have their features, if that can be told.

    Parameters
    ----------
    X : object
        What the user passed.
    features : sequence
        Labels of the fitted features.
    given_name : str or None
        What their dimension was called when they were fitted.

    Returns
    -------
    str or None
        That of the same name; else one that has the labels of the features.
    """
    if not isinstance(X, xr.DataArray) or X.ndim < 2:
        return None
    if given_name in X.dims:
        return given_name
    labelled = (dim for dim in X.dims if dim in X.indexes)
    return next((str(dim) for dim in labelled if X.indexes[dim].tolist() == [*features]), None)


def laid_out[Result: (xr.DataArray, xr.Dataset)](
    result: Result, coords: Mapping[str, xr.Variable]
) -> Result:
    """Return a result along ``obs`` in the dimensions, or under the index, that the rows had.

    Parameters
    ----------
    result : DataArray or Dataset
        Its rows are the data's, or some of them.
    coords : dict of str to Variable
        Those of the data.

    Returns
    -------
    DataArray or Dataset
        Of a cube the dimensions of its rows come last, in their order; where a row was left out
        there is NaN. Rows of several levels have a MultiIndex. Others are as they were.
    """
    attrs = coords[names.OBS].attrs
    if names.LEVELS in attrs:
        return result.set_index({names.OBS: tuple(attrs[names.LEVELS])})
    if names.STACKED not in attrs:
        return result
    if isinstance(result, xr.DataArray):
        return _unstacked(result, coords)
    variables = {
        name: _unstacked(one, coords) if names.OBS in one.dims else one
        for name, one in result.data_vars.items()
    }
    return xr.Dataset(variables, attrs=result.attrs)


def cell_coords(coords: Mapping[str, xr.Variable]) -> dict[str, xr.Variable]:
    """Return those coordinates of a cube that no feature has; of what is none, none."""
    dims = {*coords[names.OBS].attrs.get(names.STACKED, ())}
    return {name: one for name, one in coords.items() if dims and {*one.dims} <= dims}


def along_rows(values: Any, coords: Mapping[str, xr.Variable], name: str) -> Any:
    """Return what is said of a cube's cells as rows; what is said of rows as it is.

    Parameters
    ----------
    values : object
        Of a cube, a DataArray with its dimensions, and maybe one more; or an array of its shape,
        or of as many rows as it has cells.
    coords : dict of str to Variable
        Of the rows that are left.
    name : str
        What `values` are called in messages.

    Raises
    ------
    ValueError
        If they have an index of several levels that is not that of the rows.
    """
    obs = coords[names.OBS]
    index = getattr(values, "index", None)
    if names.LEVELS in obs.attrs and isinstance(index, pd.MultiIndex):
        ours = pd.MultiIndex.from_arrays(
            [coords[level].values for level in obs.attrs[names.LEVELS]]
        )
        if not ours.equals(index):
            raise ValueError(
                f"`{name}` must have the labels of the rows of `X`, in their order; got others, "
                f"the first {index[:1].tolist()}. Reorder it: `{name}.loc[X.index]`."
            )
        return values.to_numpy()
    if names.STACKED not in obs.attrs:
        return values
    dims, shape = tuple(obs.attrs[names.STACKED]), tuple(obs.attrs[names.SHAPE])
    if isinstance(values, xr.DataArray) and set(dims) <= set(values.dims):
        values = values.transpose(*dims, ...).to_numpy()
    found = np.asarray(values)
    if found.shape[: len(shape)] == shape:
        found = found.reshape(-1, *found.shape[len(shape) :])
    whole = found.ndim > 0 and len(found) == math.prod(shape)
    return found[obs.values] if whole else values


def _unstacked(result: xr.DataArray, coords: Mapping[str, xr.Variable]) -> xr.DataArray:
    """Return an array with the dimensions of a cube in place of ``obs``, as the last."""
    obs = coords[names.OBS]
    dims, shape = tuple(obs.attrs[names.STACKED]), tuple(obs.attrs[names.SHAPE])
    result = result.transpose(..., names.OBS)
    values, places = result.to_numpy(), result[names.OBS].to_numpy()
    if len(places) < math.prod(shape):
        kind = np.result_type(values, np.float32) if values.dtype.kind in "iu" else values.dtype
        kind = np.dtype(object) if kind.kind not in "fc" else kind
        filled = np.full((*values.shape[:-1], math.prod(shape)), np.nan, dtype=kind)
        filled[..., places] = values
        values = filled
    kept = {name: one for name, one in result.coords.items() if names.OBS not in one.dims}
    return xr.DataArray(
        values.reshape(*values.shape[:-1], *shape),
        dims=(*result.dims[:-1], *dims),
        coords=kept | cell_coords(coords),
        name=result.name,
        attrs=result.attrs,
    )


def _feature_dim(X: xr.DataArray, argument: str, feature_dim: str | None) -> Hashable:
    """Return the dimension of the features, refusing one that there is not, or to guess it."""
    if feature_dim is not None and feature_dim not in X.dims:
        near = get_close_matches(str(feature_dim), [str(dim) for dim in X.dims], n=1)
        remedy = f"Did you mean {near[0]!r}?" if near else "Name one of these."
        raise ValueError(
            f"`feature_dim` must be a dimension of `{argument}`, {listed(X.dims)}; got "
            f"{feature_dim!r}. {remedy}"
        )
    if feature_dim is not None:
        return feature_dim
    if names.FEATURE in X.dims:
        return names.FEATURE
    if X.ndim == 2:
        return X.dims[0] if X.dims[-1] == names.OBS else X.dims[-1]
    raise ValueError(
        f"`feature_dim` must name the dimension of the features where `{argument}` has "
        f"{X.ndim}; got None and the dimensions {listed(X.dims)}. Pass it to `fit`, e.g. "
        f"`feature_dim={X.dims[-1]!r}`, or name it so: "
        f"`{argument}.rename({{{X.dims[-1]!r}: {names.FEATURE!r}}})`."
    )


def _places(X: Any, rows: Sequence[Hashable], argument: str) -> xr.Variable:
    """Return the labels of rows without any: their places; of a cube with what it was."""
    if len(rows) == 1:
        return xr.Variable(names.OBS, pd.RangeIndex(X.sizes[rows[0]]), called(rows[0], names.OBS))
    for dim in rows:
        free_name(dim, argument, f"Rename the dimension: `{argument}.rename({{{dim!r}: ...}})`.")
    shape = [X.sizes[dim] for dim in rows]
    attrs = {names.STACKED: [str(dim) for dim in rows], names.SHAPE: shape}
    return xr.Variable(names.OBS, pd.RangeIndex(math.prod(shape)), attrs)


def _coords(X: Any, ours: Mapping[Hashable, str], argument: str) -> dict[str, xr.Variable]:
    """Return the coordinates of `X` with its dimensions renamed to `ours`."""
    coords = {}
    for theirs, coord in X.coords.items():
        where, name = f"{argument}[{theirs!r}]", ours.get(theirs, str(theirs))
        if not set(coord.dims) <= set(ours):  # of no variable: bounds, say
            continue
        if isinstance(X.indexes.get(theirs), pd.MultiIndex) and theirs in coord.dims:
            coords[name] = _levels(X, theirs, name, argument)
            continue
        if theirs not in ours:
            drop = f"Rename it, or drop it: `{argument}.drop_vars({theirs!r})`."
            free_name(theirs, argument, drop)
        kinds = COLUMN_LABEL if name == names.FEATURE else ANY_LABEL
        remedy = f"{argument} = {argument}.assign_coords({{{theirs!r}: {where}.astype(str)}})"
        labels = plain(coord.values, where, remedy, kinds)
        attrs = called(theirs, name) if theirs in ours else {}
        attrs |= attributes(coord.attrs, f"{where}.attrs")
        coords[name] = xr.Variable([ours[dim] for dim in coord.dims], labels, attrs)
    return coords


def _levels(X: Any, theirs: Hashable, name: str, argument: str) -> xr.Variable:
    """Return the places of rows of which the levels are coordinates beside them."""
    index = X.indexes[theirs]
    if name != names.OBS:
        raise TypeError(
            f"`{argument}` must have one label for each place; got a MultiIndex along {theirs!r}. "
            f"Undo it: `{argument}.reset_index({theirs!r})`."
        )
    attrs = called(theirs, name) | {names.LEVELS: [str(level) for level in index.names]}
    return xr.Variable(names.OBS, pd.RangeIndex(len(index)), attrs)
