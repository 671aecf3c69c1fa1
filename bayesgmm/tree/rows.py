"""The rows of a fit, with all that was said of them."""

from typing import NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.data import Data, prepare
from bayesgmm.known_labels import with_labels

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
    said = []
    for name, dims in (
        (names.MEASUREMENT_ERROR, (names.OBS, names.FEATURE, ...)),
        (names.ALLOWED, (names.OBS, names.COMPONENT)),
        (names.SAMPLE_WEIGHT, (names.OBS,)),
    ):
        said.append(constant[name].transpose(*dims).values if name in constant else None)
    return Observed(X.values, *said)


def fitted_data(tree: xr.DataTree, rows: NDArray[np.int64] | None = None) -> Data:
    """Return the rows of a fit, or some of them, ready to be fitted again."""
    X, said = tree[names.OBSERVED_DATA].dataset[names.X], observed(tree)
    if rows is not None:
        X, said = X.isel({names.OBS: rows}), said.some(rows)
    data = prepare(X, measurement_error=said.errors, sample_weight=said.weights)
    return with_labels(data, said.allowed, tree[names.POSTERIOR].sizes[names.COMPONENT])
