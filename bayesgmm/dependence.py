"""Columns that other columns determine: copies up to shift and scale, linear combinations."""

import warnings
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesgmm.errors import IdentifiabilityWarning
from bayesgmm.labels import listed
from bayesgmm.moments import column_ranges, standard_deviation

ROUNDING: Final = 1e-12
"""What computing alone may leave of a difference that is zero, in standard deviations."""


class Basis(NamedTuple):
    """Columns that determine all: ``offset + values[:, kept] @ factors.T``.

    Parameters
    ----------
    kept : list of int
        Their positions.
    offset : array, shape (n_features,)
    factors : array, shape (n_features, n_kept)
        Rows of the columns that are kept are those of the identity.
    """

    kept: list[int]
    offset: NDArray[np.float64]
    factors: NDArray[np.float64]


def first_copy(
    values: NDArray[np.float64], unit: NDArray[np.float64], eps: NDArray[np.float64]
) -> list[int]:
    """Return the first two columns of which one is the other, shifted and scaled.

    Parameters
    ----------
    values : array of float, shape (n_obs, n_features)
        The data, centred or not.
    unit : array of float, shape (n_features,)
        Standard deviation of every column, positive.
    eps : array of float, shape (n_features,)
        Relative spacing of the numbers of every column as they were stored.

    Returns
    -------
    list of int
        Positions of the two, empty if there is no such pair. They must agree within the
        rounding of their numbers, which may be large beside the columns' spread.

    Notes
    -----
    Costs O(N D^2).

    Examples
    --------
    >>> celsius = np.array([12.5, 17.0, 21.3, 30.1])
    >>> values = np.column_stack([celsius, [1, 0, 0, 1], 1.8 * celsius + 32])
    >>> first_copy(values, values.std(axis=0), np.full(3, 2.2e-16))
    [0, 2]
    """
    standard, grain = _standardised(values, unit, eps)
    correlation = standard.T @ standard / len(standard)
    for i, j in np.argwhere(np.triu(np.abs(correlation) > 1.0 - 1e-4, k=1)):
        gap = standard[:, j] - np.sign(correlation[i, j]) * standard[:, i]
        if np.sqrt(np.mean(gap**2)) <= grain[i] + grain[j]:
            return [int(i), int(j)]
    return []


def first_combination(
    values: NDArray[np.float64], unit: NDArray[np.float64], eps: NDArray[np.float64]
) -> list[int]:
    """Return the first column that is a linear combination of some before it, and these.

    Parameters
    ----------
    values : array of float, shape (n_obs, n_features)
        The data, more rows than columns.
    unit : array of float, shape (n_features,)
        Standard deviation of every column, positive.
    eps : array of float, shape (n_features,)
        Relative spacing of the numbers of every column as they were stored.

    Returns
    -------
    list of int
        Positions of the columns that are combined, and last of the one that they determine
        (a constant may be added); empty if there is none.

    Notes
    -----
    Costs O(N D^2 + D^3). The diagonal of the triangular factor of the standardised columns
    holds each one's distance from the span of those before it; it is computed only if the
    correlation matrix is close to singular.

    Examples
    --------
    >>> parts = np.array([[1.0, 5.0], [2.0, 3.0], [4.0, 4.0], [3.0, 0.0]])
    >>> values = np.column_stack([parts, parts.sum(axis=1)])
    >>> first_combination(values, values.std(axis=0), np.full(3, 2.2e-16))
    [0, 1, 2]
    """
    standard, grain = _standardised(values, unit, eps)
    n_obs, n_features = standard.shape
    if np.linalg.eigvalsh(standard.T @ standard / n_obs)[0] > 1e-4:
        return []
    factor = np.linalg.qr(standard, mode="r") / np.sqrt(n_obs)
    for j in range(1, n_features):
        distance = abs(factor[j, j])
        if distance > 1e-2:
            continue
        share = np.abs(np.linalg.solve(factor[:j, :j], factor[:j, j]))
        if distance <= grain[j] + share @ grain[:j]:
            return [*np.flatnonzero(share > 1e-6).tolist(), j]
    return []


def basis(values: NDArray[np.float64], spacing: float) -> Basis:
    """Return columns that are neither constant nor determined by others, and how they make all.

    Parameters
    ----------
    values : array of float, shape (n_obs, n_features)
        The data, at least two rows; NaN where missing, in no column everywhere.
    spacing : float
        Relative spacing of their numbers as they were stored.

    Returns
    -------
    Basis
        Of several columns of which any would do, those that stand first.

    Notes
    -----
    Costs O(N D^2 + D^3) for every column that is left out, and once more. With as few rows as
    columns or fewer only copies are found: see `bayesgmm.data.prepare`. With missing cells it is
    the complete rows that are looked at, if every column varies in them.

    Examples
    --------
    >>> values = np.array([[1.0, 7.0, 3.0], [2.0, 7.0, 5.0], [4.0, 7.0, 9.0]])
    >>> basis(values, 2.2e-16).kept
    [0]
    """
    scale = np.fmax.reduce(np.abs(values), axis=0)
    scale[scale == 0.0] = 1.0
    scaled = values / scale  # squares neither underflow nor overflow
    low, high = column_ranges(scaled)
    kept = np.flatnonzero(low < high).tolist()
    whole = ~np.isnan(scaled).any(axis=1)
    if not whole.all():
        scaled = scaled[whole]
        if len(scaled) < 2 or (scaled[:, kept] == scaled[0, kept]).all(axis=0).any():
            scaled = low[None]  # too few rows to tell
    n_obs, n_features = scaled.shape
    origin, determined = scaled[0], []
    while len(kept) > 1 and n_obs > 2:
        columns = scaled[:, kept]
        unit = standard_deviation(columns, origin[kept])
        eps = np.full(len(kept), spacing)
        involved = first_copy(columns, unit, eps)
        if not involved and n_obs > len(kept) > 2:
            involved = first_combination(columns, unit, eps)
        if not involved:
            break
        *others, last = (kept[j] for j in involved)
        moved = scaled[:, [*others, last]] - origin[[*others, last]]
        determined.append((last, others, np.linalg.lstsq(moved[:, :-1], moved[:, -1])[0]))
        kept.remove(last)
    factors = np.zeros((n_features, len(kept)))
    factors[kept, range(len(kept))] = 1.0
    for last, others, shares in reversed(determined):
        factors[last] = shares @ factors[others]
    offset = origin - factors @ origin[kept]
    return Basis(kept, scale * offset, scale[:, None] * factors / scale[kept])


def basis_of(table: pd.DataFrame) -> Basis:
    """Return the columns of a table that determine all, warning of those that they leave out.

    Parameters
    ----------
    table : DataFrame
        Floats, at least two rows; NaN where missing.

    Returns
    -------
    Basis

    Raises
    ------
    ValueError
        If every column is constant, or one has nothing but missing cells.

    Warns
    -----
    IdentifiabilityWarning
        Naming the columns that are left out.
    """
    values = table.to_numpy()
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if empty.size:
        raise ValueError(
            f"`X` must have a number in every column; got nothing but missing cells (NaN) in "
            f"{listed(table.columns[empty])}. Drop what is empty."
        )
    found = basis(values.astype(np.float64), float(np.finfo(values.dtype).eps))
    if not found.kept:
        raise ValueError(
            f"`X` must vary in one column at least; got {len(values)} equal rows, {values[0]}. "
            f"Pass more rows."
        )
    if len(found.kept) < len(found.offset):
        left_out = table.columns.delete(found.kept)
        warnings.warn(
            f"`X` has columns that are constant or that others determine: {listed(left_out)}. They "
            f"are left out of the fit, and densities are those of the others. Drop them first.",
            IdentifiabilityWarning,
            stacklevel=3,
        )
    return found


def _standardised(
    values: NDArray[np.float64], unit: NDArray[np.float64], eps: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the columns with mean 0 and variance 1, and the rounding in each in that unit."""
    low, high = values.min(axis=0), values.max(axis=0)
    standard = values - (0.5 * low + 0.5 * high)
    standard -= standard.mean(axis=0)
    standard /= unit
    grain = ROUNDING + eps * np.maximum(np.abs(low), np.abs(high)) / unit
    return standard, grain
