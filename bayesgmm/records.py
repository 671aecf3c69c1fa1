"""Rows as the passes read them: cells, what is known of their labels, and their errors."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.matching import MATCHED_ROWS
from bayesgmm.known_labels import log_allowed, told
from bayesgmm.sample_weights import one_each, stand_ins

type Array = NDArray[np.float64]


def rows_of(
    values: Array,
    errors: Array | None,
    allowed: Array | None,
    n_components: int,
    center: Array,
    unit: Array,
    box: Array,
) -> Array:
    """Return what the kernels read, a column for each row, shape (D', n_obs).

    Parameters
    ----------
    values : array, shape (n_obs, n_features)
        In the user's units, with NaN where cells are missing.
    errors : array, shape (n_obs, n_features) or (n_obs, n_features, n_features), or None
        Standard deviations of measurement errors, or their covariance matrices, as
        `measurement.read_errors` returns them.
    allowed : array, shape (n_obs, n_components), or None
        What is known of the labels, as `Data` has it; with noise of it too, in the last column.
    n_components : int
    center, unit : arrays, shape (n_features,)
        Cells become (x - center) / unit.
    box : array, shape (2, n_features) or (0, n_features)
        Lower and upper corner of the box of noise, (x - center) / unit; empty where there is none.

    Returns
    -------
    array
        Lines as `kernels.patterns` describes them: D, D + K, or more where there are errors.
    """
    cells = np.ascontiguousarray(((values - center) / unit).T)
    n_weights = n_components + (1 if len(box) else 0)
    known = np.zeros((n_weights, len(values))) if allowed is None else log_allowed(allowed)
    differing = False
    if len(box):
        of_noise = _of_noise(cells, box)
        known[-1] += of_noise
        differing = bool(of_noise.any())
    if errors is None:
        return np.concatenate([cells, known]) if differing or allowed is not None else cells
    return np.concatenate([cells, known, _error_lines(errors, unit)])


def _of_noise(cells: Array, box: Array) -> Array:
    """Return what makes the log density of noise that of the cells that are seen, shape (n_obs,).

    Sides of cells that are missing do not count; outside of the box the density is 0.
    """
    low, high = box[:, :, None]
    result = np.log(high - low)[:, 0] @ np.isnan(cells)
    result[((cells < low) | (cells > high)).any(axis=0)] = -np.inf
    return np.asarray(result)


def standing(
    rows: Array, weights: Array | None, most: int = MATCHED_ROWS
) -> tuple[Array, NDArray[np.int64] | slice]:
    """Return rows of which each counts once, that stand for weighted ones, and which they are.

    Parameters
    ----------
    rows : array, shape (D', n_obs)
        As `rows_of` returns them.
    weights : array, shape (n_obs,), or None
        How many rows each stands for.
    most : int
        How many of weighted rows at most; by default as many as draws are matched by.

    Returns
    -------
    rows : array, shape (D', n)
        Without weights all of them; else as `sample_weights.stand_ins` chooses them.
    which : array of int or slice
    """
    if weights is None:
        return rows, slice(None)
    which = stand_ins(weights, most)
    return np.ascontiguousarray(rows[:, which]), which


def _error_lines(errors: Array, unit: Array) -> Array:
    """Return standardised errors, shape (D, n_obs) or (D (D + 1) / 2, n_obs)."""
    if errors.ndim == 2:
        return np.asarray((errors / unit).T)
    exact = np.diagonal(errors, axis1=1, axis2=2) == 0.0
    factors = np.linalg.cholesky(errors + exact[:, :, None] * np.eye(unit.size))
    factors[exact] = 0.0
    lower = np.tril_indices(unit.size)
    return np.asarray((factors[:, *lower] / unit[lower[0]]).T)


def log_volumes(rows: Array, unit: Array) -> Array:
    """Return what standardising adds to the log density of each row, shape (n_obs,).

    Parameters
    ----------
    rows : array, shape (D', n_obs)
        As `rows_of` returns them.
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
        As `rows_of` returns them.
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


def fingerprint(
    values: Array,
    errors: Array | None,
    allowed: Array | None,
    weights: Array | None,
    *,
    noise: bool = False,
) -> str:
    """Return what tells data apart, with all that was said of their rows: see `Data`.

    Labels may be of noise, in a further column, where there is any.
    """
    found = hashlib.sha256(np.ascontiguousarray(values).tobytes())
    if errors is not None:
        found.update(np.ascontiguousarray(errors).tobytes())
    found.update(one_each(weights, len(values)).tobytes())
    found.update(np.ascontiguousarray(told(allowed, len(values), noise=noise)).tobytes())
    return found.hexdigest()
