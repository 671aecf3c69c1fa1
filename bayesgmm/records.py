"""Rows as the passes read them: their cells, NaN where missing, and then their errors.

A record holds D cells; then nothing, or the D standard deviations of their measurement errors, or
the lower triangle of a Cholesky factor of the errors' covariance, row by row.
"""

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]


def records_of(values: Array, errors: Array | None) -> Array:
    """Return the records of some rows.

    Parameters
    ----------
    values : array, shape (n_obs, n_features)
        With NaN where cells are missing.
    errors : array, shape (n_obs, n_features) or (n_obs, n_features, n_features), or None
        Standard deviations of measurement errors, or their covariance matrices, as
        `measurement.read_errors` returns them.

    Returns
    -------
    array, shape (n_obs, D), (n_obs, 2 D) or (n_obs, D + D (D + 1) / 2)
        `values` itself where there are no errors.
    """
    if errors is None:
        return values
    if errors.ndim == 2:
        return np.concatenate([values, errors], axis=1)
    n_features = values.shape[1]
    exact = np.diagonal(errors, axis1=1, axis2=2) == 0.0
    factors = np.linalg.cholesky(errors + exact[:, :, None] * np.eye(n_features))
    factors[exact] = 0.0
    lower = np.tril_indices(n_features)
    return np.concatenate([values, factors[:, *lower]], axis=1)


def standardised(records: Array, center: Array, unit: Array) -> Array:
    """Return what the kernels read, a column for each record, shape (D', n_obs).

    Parameters
    ----------
    records : array, shape (n_obs, D')
        In the user's units.
    center, unit : arrays, shape (n_features,)
        Cells become (x - center) / unit.
    """
    n_features, length = unit.size, records.shape[1]
    cells = (records[:, :n_features] - center) / unit
    if length > n_features:
        places = np.arange(n_features)
        if length > 2 * n_features or n_features == 1:
            places = np.tril_indices(n_features)[0]
        cells = np.concatenate([cells, records[:, n_features:] / unit[places]], axis=1)
    return np.ascontiguousarray(cells.T)


def log_volumes(rows: Array, unit: Array) -> Array:
    """Return what standardising adds to the log density of each row, shape (n_obs,).

    Parameters
    ----------
    rows : array, shape (D', n_obs)
        As `standardised` returns them.
    unit : array, shape (n_features,)

    Returns
    -------
    array
        Sums of the log units of the features that are not missing.
    """
    log_unit = np.log(unit)
    missing = np.isnan(rows[: unit.size])
    volumes = np.full(rows.shape[1], log_unit.sum())
    if missing.any():
        volumes -= log_unit @ missing
    return volumes


def filled(rows: Array, n_features: int) -> Array:
    """Return the cells of rows, medians in place of missing ones: to begin a search with.

    Parameters
    ----------
    rows : array, shape (D', n_obs)
        As `standardised` returns them.
    n_features : int

    Returns
    -------
    array, shape (n_features, n_obs)
    """
    cells = rows[:n_features]
    missing = np.isnan(cells)
    if missing.any():
        cells = np.where(missing, np.nanmedian(cells, axis=1, keepdims=True), cells)
    return np.ascontiguousarray(cells)
