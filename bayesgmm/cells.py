"""The cells that the user passed as floats, and those that nothing can be done with."""

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.labels import Given, kinds_of_columns, listed


def to_float(given: Given) -> NDArray[np.float64]:
    """Return a copy of the cells as C-contiguous float64, missing ones as NaN."""
    kinds = kinds_of_columns(given)
    bad = [j for j, kind in enumerate(kinds) if kind is not None]
    if bad:
        what = ", ".join(f"{kinds[j]} in {given.features[j]!r}" for j in bad[:8])
        more = f" and {len(bad) - 8} more" if len(bad) > 8 else ""
        remedy = (
            f"Drop them, {given.drop_columns(bad)}, or turn them into numbers."
            if len(bad) < len(kinds)
            else f"Make a table of them: `pandas.DataFrame({given.argument})`."
            if kinds == ["records"]
            else f"Turn them into numbers, e.g. `{given.argument}.astype(float)`."
        )
        raise TypeError(
            f"`{given.argument}` must hold real numbers in every column; got {what}{more}. {remedy}"
        )
    cells = given.cells
    if isinstance(cells, pd.DataFrame):
        values = np.empty(cells.shape)
        for j in range(cells.shape[1]):
            values[:, j] = cells.iloc[:, j].to_numpy(dtype=np.float64, na_value=np.nan)
        return values
    with np.errstate(over="ignore"):  # a long double beyond the range becomes inf, and is refused
        copy = None if given.fresh else True
        values = np.array(cells, dtype=np.float64, order="C", copy=copy)
    if np.ma.isMaskedArray(cells):
        values[np.ma.getmaskarray(cells)] = np.nan
    values[values != values] = np.nan  # of the many NaN one, so that equal data are equal bytes
    return values


def usable(given: Given) -> tuple[NDArray[np.float64], dict[str, xr.Variable]]:
    """Return a copy of the cells and their coordinates, refusing what nothing can be done with.

    Parameters
    ----------
    given : Given

    Returns
    -------
    values : array of float64, shape (n_obs, n_features)
        Of a cube only the rows in which a feature is seen.
    coords : dict of str to Variable
        Of these rows.
    """
    values, coords = to_float(given), given.coords
    if names.STACKED in coords[names.OBS].attrs:
        seen = ~np.isnan(values).all(axis=1)
        if seen.any() and not seen.all():
            values = values[seen]
            coords = {
                name: one[seen] if one.dims[:1] == (names.OBS,) else one
                for name, one in coords.items()
            }
    refuse_unusable(values, given.with_coords(coords))
    return values, coords


def refuse_unusable(values: NDArray[np.float64], given: Given) -> None:
    """Refuse infinite cells, and rows in which every cell is missing."""
    infinite = np.isinf(values)
    if infinite.any():
        i, j = divmod(int(infinite.argmax()), values.shape[1])
        raise ValueError(
            f"`{given.argument}` must have a finite number in every cell that is not missing; got "
            f"{int(infinite.sum())} infinite of {values.size} cells, the first ({values[i, j]}) at "
            f"{given.row(i)}, column {given.features[j]!r}. Correct those cells, or set them to "
            f"NaN if they are missing."
        )
    empty = np.flatnonzero(np.isnan(values).all(axis=1))
    if empty.size:
        rows = ", ".join(given.row(int(i)) for i in empty[:8])
        more = f" and {empty.size - 8} more" if empty.size > 8 else ""
        raise ValueError(
            f"`{given.argument}` must have a number in every row; got nothing but missing cells "
            f"(NaN) in {rows}{more}. Drop them, e.g. "
            f"`{given.argument}.dropna(how='all')`, if it is a DataFrame: they say nothing."
        )


def refuse_empty_columns(values: NDArray[np.float64], given: Given) -> None:
    """Refuse columns in which every cell is missing."""
    empty = np.flatnonzero(np.isnan(values).all(axis=0))
    if empty.size:
        raise ValueError(
            f"`{given.argument}` must have a number in every column; got nothing but missing cells "
            f"(NaN) in {listed(given.features[j] for j in empty)}. Drop what is empty, "
            f"{given.drop_columns(empty)}."
        )
