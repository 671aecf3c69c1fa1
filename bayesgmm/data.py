"""What the user passed, checked and made ready: a matrix of floats with its labels."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesgmm import names
from bayesgmm.cells import refuse_empty_columns, usable
from bayesgmm.columns import refuse_other_columns
from bayesgmm.cubes import along_rows, feature_dim_of, laid_out
from bayesgmm.dependence import first_combination, first_copy
from bayesgmm.errors import check_integer
from bayesgmm.labels import Given, listed, spacing_of_columns
from bayesgmm.measurement import read_errors
from bayesgmm.moments import column_ranges, standard_deviation
from bayesgmm.sample_weights import read_weights
from bayesgmm.tables import opened, read

SPREADS: Final = (1e-100, 1e100)
"""Half a column's range, at least and at most: squares must not underflow or overflow."""
RESOLUTION: Final = 1e-13
"""Smallest ratio of a column's standard deviation to its largest absolute value."""


@dataclass(frozen=True, eq=False)
class Data:
    """Rows by features, with the labels and attributes that the user gave them.

    Parameters
    ----------
    values : array of float64, shape (n_obs, n_features)
        The cells in the user's units, NaN where missing; C-contiguous, a copy of what was passed.
    coords : dict of str to xarray.Variable
        The coordinates: ``obs`` and ``feature`` always, and any other that the user's data had;
        of a cube those on its dimensions too (see `bayesgmm.cubes`). Their attributes hold the
        user's own, and ``given_name`` where an index or a dimension had a name of its own.
    attrs : dict
        The attributes of the whole (units, say), and ``given_name`` if it had a name.
    errors : array or None
        Of the cells, as `measurement.read_errors` returns them.
    sample_weight : array of float64, shape (n_obs,), or None
        How many rows each stands for; None is one.
    allowed : array of float64, shape (n_obs, n_components), or None
        What is known of the labels: 1 for a component that a row may belong to, 0 for one that
        it does not, between for a soft label; None if nothing is.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"height": [1.5, 1.8, 1.7]}, index=["Ann", "Bo", "Cy"])
    >>> data = prepare(frame)
    >>> data.obs.tolist(), data.features.tolist()
    (['Ann', 'Bo', 'Cy'], ['height'])
    """

    values: NDArray[np.float64]
    coords: Mapping[str, xr.Variable]
    attrs: Mapping[str, Any]
    errors: NDArray[np.float64] | None = None
    sample_weight: NDArray[np.float64] | None = None
    allowed: NDArray[np.float64] | None = None

    @cached_property
    def complete(self) -> bool:
        """Whether no cell is missing or measured with error."""
        return self.errors is None and not bool(np.isnan(self.values.min()))

    @property
    def n_obs(self) -> int:
        """Number of rows."""
        return len(self.values)

    @property
    def n_features(self) -> int:
        """Number of columns."""
        return len(self.feature_coord)

    @property
    def counted(self) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """The rows of positive weight, which priors are scaled to, and their weights."""
        weights = self.sample_weight
        if weights is None or (weights > 0.0).all():
            return self.values, weights
        return self.values[weights > 0.0], weights[weights > 0.0]

    @property
    def obs(self) -> NDArray[Any]:
        """Labels of the rows, shape (n_obs,)."""
        return np.asarray(self.obs_coord.values)

    @property
    def features(self) -> NDArray[Any]:
        """Labels of the columns, shape (n_features,): all strings or all ints."""
        return np.asarray(self.feature_coord.values)

    @property
    def obs_coord(self) -> xr.Variable:
        """Labels of the rows with their attributes, a variable along ``obs``."""
        return self.coords[names.OBS]

    @property
    def feature_coord(self) -> xr.Variable:
        """Labels of the columns with their attributes, a variable along ``feature``."""
        return self.coords[names.FEATURE]

    @property
    def obs_coords(self) -> dict[str, xr.Variable]:
        """All coordinates along ``obs`` alone, the labels first."""
        return self._along(names.OBS)

    @property
    def feature_coords(self) -> dict[str, xr.Variable]:
        """All coordinates along ``feature`` alone, the labels first."""
        return self._along(names.FEATURE)

    def _along(self, dim: str) -> dict[str, xr.Variable]:
        return {name: coord for name, coord in self.coords.items() if coord.dims == (dim,)}

    def laid_out[Result: (xr.DataArray, xr.Dataset)](self, result: Result) -> Result:
        """Return a result along ``obs`` as the rows were: see `cubes.laid_out`."""
        return laid_out(result, self.coords)

    def labelled(self, values: ArrayLike) -> xr.DataArray:
        """Return `values` under the labels and attributes of the data.

        Parameters
        ----------
        values : array, shape (n_obs, n_features)
            Cells in the user's units; not copied.

        Returns
        -------
        xarray.DataArray
            Named ``X``, with dimensions ``(obs, feature)`` and every coordinate.
        """
        dims = (names.OBS, names.FEATURE)
        return xr.DataArray(
            np.asarray(values),
            dims=dims,
            coords={name: one for name, one in self.coords.items() if {*one.dims} <= {*dims}},
            name=names.X,
            attrs=dict(self.attrs),
        )


def prepare(
    X: Any,
    *,
    measurement_error: Any = None,
    sample_weight: Any = None,
    feature_dim: str | None = None,
) -> Data:
    """Check data that a mixture is to be fitted to, and make them ready.

    Parameters
    ----------
    X : array, DataFrame, Series, DataArray, Dataset, table of Arrow or path
        As `tables.read` takes it. Any real numbers are taken; inside they are float64. NaN and
        masked cells are missing. Cells of a cube with nothing in them are left out.
    measurement_error : array, DataFrame or DataArray, optional
        As `measurement.read_errors` takes it.
    sample_weight : array or Series, shape (n_obs,), optional
        How many rows each stands for.
    feature_dim : str, optional
        The dimension of a DataArray along which features lie.

    Returns
    -------
    Data
        A copy of the cells, and the labels of rows and columns as they were given.

    Raises
    ------
    TypeError
        If `X` is no table, holds anything but real numbers, or has labels (a MultiIndex, mixed
        types) or attributes that a file could not give back.
    ValueError
        If `X` is empty or has fewer than two rows; cells are infinite; all cells of a row or
        of a column are missing; column names are repeated; a column is constant, varies by less
        than its numbers can resolve, or by less than 1e-100 or more than 1e100; columns are
        linearly dependent up to rounding; or if another argument is refused. Of rows of weight 0
        only the cells are looked at.

    Notes
    -----
    Costs O(N D^2) operations, as one pass of a fit does, and one temporary of the size of the
    data. With as few rows as features or fewer, columns are always linearly dependent: then
    only copies of one another, up to shift and scale, are refused. With missing cells it is the
    complete rows that are looked at, if there are as many as that.

    Examples
    --------
    >>> prepare([[1, 2.5], [3, 1.0], [5, 4.5]]).features.tolist()
    ['x0', 'x1']
    """
    given = read(X, "X", feature_dim)
    data = Data(*usable(given), given.attrs)
    if data.n_obs < 2:
        raise ValueError(
            f"`X` must hold at least 2 rows; got shape {data.values.shape}. A spread cannot be "
            f"seen in one row: pass more (`X.T`, if rows and columns were swapped)."
        )
    if sample_weight is not None:
        said = along_rows(sample_weight, data.coords, names.SAMPLE_WEIGHT)
        data = replace(data, sample_weight=read_weights(said, data.obs))
    values, _ = data.counted
    refuse_empty_columns(values, given)
    _refuse_flat(values, given)
    _refuse_dependent(values, given)
    if measurement_error is not None:
        said = along_rows(measurement_error, data.coords, names.MEASUREMENT_ERROR)
        errors = read_errors(said, data.values, given.with_coords(data.coords))
        data = replace(data, errors=errors)
    return data


def prepare_new(
    X_new: Any, features: ArrayLike, argument: str = "X_new", feature_dim: str | None = None
) -> Data:
    """Check rows that a fitted mixture is to say something about, and make them ready.

    Parameters
    ----------
    X_new : as in `prepare`
        The fitted features in the fitted order. One row is enough, and columns may be constant.
        Columns without names are taken as they come.
    features : sequence of str or int, shape (n_features,)
        Labels of the fitted features.
    argument : str
        What the user passed is called in messages.
    feature_dim : str, optional
        What the dimension of the features was called when they were fitted.

    Returns
    -------
    Data
        A copy of the cells, and the labels of the new rows.

    Raises
    ------
    TypeError
        If `X_new` is no table, or holds anything but real numbers.
    ValueError
        If `X_new` is empty, has other columns than the fitted ones or has them in another
        order, cells are infinite, or all cells of a row are missing.

    Examples
    --------
    >>> prepare_new([[1.0, 2.0]], ["a", "b"]).features.tolist()
    ['a', 'b']
    """
    fitted = list(np.asarray(features).tolist())
    X_new = opened(X_new, argument)
    given = read(X_new, argument, feature_dim_of(X_new, fitted, feature_dim))
    refuse_other_columns(X_new, given, fitted)
    data = Data(*usable(given), given.attrs)
    if not given.named:
        coords = dict(data.coords)
        coords[names.FEATURE] = xr.Variable(
            names.FEATURE, np.asarray(fitted), given.coords[names.FEATURE].attrs
        )
        data = replace(data, coords=coords)
    return data


def check_enough_rows(data: Data, n_components: int) -> None:
    """Refuse data with fewer rows than a mixture has components.

    Parameters
    ----------
    data : Data
        What is to be fitted.
    n_components : int
        Number of components.

    Raises
    ------
    TypeError, ValueError
        If `n_components` is no positive integer, or exceeds the number of rows.
    """
    check_integer(n_components, "n_components", 1, "Give the number of components, e.g. 3.")
    if data.n_obs < n_components:
        raise ValueError(
            f"`X` must have at least as many rows as there are components, {n_components}; got "
            f"shape {data.values.shape}. Give a smaller `n_components`."
        )


def refuse_missing(data: Data, argument: str, remedy: str) -> None:
    """Refuse missing cells where they cannot be integrated out, naming the first."""
    missing = np.isnan(data.values)
    if missing.any():
        i, j = divmod(int(missing.argmax()), data.n_features)
        raise ValueError(
            f"`{argument}` must have a number in every cell here; got {int(missing.sum())} missing "
            f"(NaN), the first at row {data.obs.tolist()[i]!r}, column "
            f"{data.features.tolist()[j]!r}. {remedy}"
        )


def center_and_unit(
    values: NDArray[np.float64],
    common_unit: bool,
    sample_weight: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the origin and the unit in which the data are handled inside.

    Parameters
    ----------
    values : array of float, shape (n_obs, n_features)
        The data in the user's units, as `prepare` lets them pass.
    common_unit : bool
        Whether all features share one unit, the root mean square of their own.
    sample_weight : array of float, shape (n_obs,), optional
        How many rows each stands for.

    Returns
    -------
    center : array of float, shape (n_features,)
        Midpoint of every feature's range.
    unit : array of float, shape (n_features,)
        Standard deviation of every feature about its mean, dividing by the number of rows. It is
        computed after `center` is subtracted, so that a large offset costs no digits.

    Examples
    --------
    >>> center_and_unit(np.array([[1e9, 0.0], [1e9 + 2, 4.0]]), False)
    (array([1.e+09, 2.e+00]), array([1., 2.]))
    """
    low, high = column_ranges(values)
    center = 0.5 * low + 0.5 * high
    unit = standard_deviation(values, center, sample_weight)
    if common_unit:
        unit = np.full_like(unit, np.sqrt(np.mean(unit**2)))
    return center, unit


def _refuse_flat(values: NDArray[np.float64], given: Given) -> None:
    """Refuse columns that do not vary, or whose variation floats cannot follow."""
    low, high = column_ranges(values)
    features = given.features
    flat = np.flatnonzero(low == high)
    if flat.size:
        raise ValueError(
            f"`X` must vary in every column; got the same number in all {len(values)} rows of "
            f"{listed(features[j] for j in flat)}, {low[flat[0]]} in the first of them. Drop what "
            f"is constant, {given.drop_columns(flat)}."
        )
    half = 0.5 * high - 0.5 * low
    extreme = np.flatnonzero((half < SPREADS[0]) | (half > SPREADS[1]))
    if extreme.size:
        j = int(extreme[0])
        raise ValueError(
            f"`X` must have columns whose range is between 1e-100 and 1e100; got {low[j]} to "
            f"{high[j]} in {features[j]!r}. Measure it in other units, e.g. divide by "
            f"{max(abs(low[j]), abs(high[j])):.1g}."
        )
    magnitude = np.maximum(np.abs(low), np.abs(high))
    unit = center_and_unit(values, False)[1]
    lost = np.flatnonzero(unit < RESOLUTION * magnitude)
    if lost.size:
        j = int(lost[0])
        raise ValueError(
            f"`X` must vary by more than rounding in every column; got standard deviation "
            f"{unit[j]:.3g} around {magnitude[j]:.17g} in {features[j]!r}, of which floats keep 16 "
            f"digits. Subtract an offset from it where it is measured or computed first."
        )


def _refuse_dependent(values: NDArray[np.float64], given: Given) -> None:
    """Refuse columns that others determine exactly: their covariance is singular."""
    whole = ~np.isnan(values).any(axis=1)
    complete = "" if whole.all() else "complete "
    if complete:
        values = values[whole]
        if len(values) < 2 or (values == values[0]).all(axis=0).any():
            return  # too few rows to tell
    n_obs, n_features = values.shape
    unit, eps = center_and_unit(values, False)[1], spacing_of_columns(given)
    told, involved = "a copy, up to shift and scale, of", []
    if n_features > 1 and n_obs > 2:
        involved = first_copy(values, unit, eps)
    if not involved and n_obs > n_features > 2:
        told, involved = "a linear combination of", first_combination(values, unit, eps)
    if involved:
        *others, last = involved
        features = given.features
        raise ValueError(
            f"`X` must have columns none of which others determine, or covariances are singular; "
            f"got {features[last]!r}, {told} {listed(features[j] for j in others)} in all {n_obs} "
            f"{complete}rows. Drop one of them, e.g. {given.drop_columns([last])}."
        )
