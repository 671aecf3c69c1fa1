"""The rows of a fit, with all that was said of them."""

from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.cubes import laid_out
from bayesgmm.data import Data, prepare
from bayesgmm.known_labels import with_labels
from bayesgmm.tree import noisy, require

type Array = NDArray[np.float64]


class Observed(NamedTuple):
    """Rows that were fitted, with all that was said of them; None where nothing was.

    Parameters
    ----------
    values : array, shape (n_obs, n_features)
    errors, allowed, weights : arrays along rows, or None
        As `Data` has them.
    """

    values: Array
    errors: Array | None
    allowed: Array | None
    weights: Array | None

    def some(self, rows: NDArray[np.int64]) -> Self:
        """Return some of the rows."""
        some = [None if one is None else one[rows] for one in self[1:]]
        return type(self)(self.values[rows], *some)


def observed(tree: xr.DataTree) -> Observed:
    """Return the rows of a fit."""
    X = tree[names.OBSERVED_DATA].dataset[names.X].transpose(names.OBS, names.FEATURE)
    held = names.CONSTANT_DATA in tree.children
    constant = tree[names.CONSTANT_DATA].dataset if held else xr.Dataset()
    errors, allowed, of_noise, weights = (
        constant[name].transpose(*dims).values if name in constant else None
        for name, dims in (
            (names.MEASUREMENT_ERROR, (names.OBS, names.FEATURE, ...)),
            (names.ALLOWED, (names.OBS, names.COMPONENT)),
            (names.NOISE_ALLOWED, (names.OBS,)),
            (names.SAMPLE_WEIGHT, (names.OBS,)),
        )
    )
    if allowed is not None and of_noise is not None:
        allowed = np.column_stack((allowed, of_noise))
    return Observed(X.values, errors, allowed, weights)


def coords_of(tree: xr.DataTree) -> dict[str, xr.Variable]:
    """Return the coordinates of the rows of a fit, of its features, and of a cube's cells."""
    dataset = tree[names.OBSERVED_DATA].dataset
    return {str(name): coord.variable for name, coord in dataset.coords.items()}


def unstack[Result: (xr.DataArray, xr.Dataset)](tree: xr.DataTree, values: Result) -> Result:
    """Return what is said of fitted rows in the dimensions, or under the index, that these had.

    Prediction does so by itself. This is for results along ``obs``: a partition, or how well each
    row is predicted.

    Parameters
    ----------
    tree : DataTree
        A fit.
    values : DataArray or Dataset
        With the dimension ``obs``: the rows of the fit, or some of them.

    Returns
    -------
    DataArray or Dataset
        If a cube was fitted, its dimensions last in place of ``obs``, with their coordinates, and
        NaN where a cell was left out; if rows had several levels, with a MultiIndex along ``obs``;
        else as it was.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit that keeps its rows, or `values` have no labels of its rows.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> import bayesgmm as bg
    >>> cells = bg.datasets.make_mixture(60, 2, 2, separation=9.0, random_seed=1)["X"].values
    >>> image = xr.DataArray(cells.reshape(6, 10, 2), dims=("y", "x", "band"))
    >>> tree = bg.fit(image, 2, feature_dim="band", method="map", random_seed=1)
    >>> bg.unstack(tree, bg.partition(tree, random_seed=1)).sizes
    Frozen({'y': 6, 'x': 10})
    """
    require(tree, names.OBSERVED_DATA, function="unstack")
    if not isinstance(values, xr.DataArray | xr.Dataset) or names.OBS not in values.dims:
        raise TypeError(
            f"`values` must be a DataArray or a Dataset along {names.OBS!r}; got a "
            f"{type(values).__name__}. Pass what bayesgmm.partition returned, say."
        )
    coords = coords_of(tree)
    labels = values.indexes.get(names.OBS)
    if labels is None or not labels.isin(coords[names.OBS].values).all():
        raise ValueError(
            f"`values` must have the labels of {names.OBS!r} that the fit has; got others. Pass "
            f"what was computed from this fit."
        )
    places = coords[names.OBS].to_index().get_indexer(labels)
    levels = coords[names.OBS].attrs.get(names.LEVELS, ())
    values = values.assign_coords({level: coords[level][places] for level in levels})
    return laid_out(values, coords)


def fitted_data(tree: xr.DataTree, rows: NDArray[np.int64] | None = None) -> Data:
    """Return the rows of a fit, or some of them, ready to be fitted again."""
    X, said = tree[names.OBSERVED_DATA].dataset[names.X], observed(tree)
    if rows is not None:
        X, said = X.isel({names.OBS: rows}), said.some(rows)
    data = prepare(X, measurement_error=said.errors, sample_weight=said.weights)
    data = replace(data, coords={**coords_of(tree), **data.coords})
    n_components = tree[names.POSTERIOR].sizes[names.COMPONENT]
    return with_labels(data, said.allowed, n_components, noise=noisy(tree))
