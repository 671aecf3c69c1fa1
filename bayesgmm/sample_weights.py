"""How many rows each row stands for."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names

type Array = NDArray[np.float64]


def read_weights(sample_weight: Any, obs: NDArray[Any]) -> Array:
    """Return the weights of rows, refusing what are none.

    Parameters
    ----------
    sample_weight : array, Series or DataArray, shape (n_obs,)
        At least 0, not all of them 0.
    obs : array, shape (n_obs,)
        Labels of the rows.

    Returns
    -------
    array of float64, shape (n_obs,)

    Raises
    ------
    TypeError, ValueError
        If they are not numbers, as many as there are rows, finite and at least 0; or fewer than
        two are positive.
    """
    weights = checked_weights(per_row(sample_weight, names.SAMPLE_WEIGHT, obs), obs)
    refuse_few(int(np.count_nonzero(weights)), len(weights))
    return weights


def checked_weights(found: NDArray[Any], obs: NDArray[Any]) -> Array:
    """Return the weights of some rows, refusing what is no number of rows; see `read_weights`."""
    if found.dtype.kind not in "iuf":
        raise TypeError(
            f"`sample_weight` must hold numbers; got {found.dtype}. Give one for every row: how "
            f"many it stands for."
        )
    if found.ndim != 1:
        raise ValueError(
            f"`sample_weight` must hold one number for each of the {len(obs)} rows; got shape "
            f"{found.shape}. Give one dimension."
        )
    weights = found.astype(np.float64)
    wrong = ~(np.isfinite(weights) & (weights >= 0.0))
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"`sample_weight` must be finite and at least 0; got {weights[i]} at "
            f"{row_named(obs, i)}. Give 0 to a row that is only to be predicted."
        )
    return weights


def refuse_few(n_positive: int, n_obs: int) -> None:
    """Refuse weights of which fewer than two are positive."""
    if n_positive < 2:
        raise ValueError(
            f"`sample_weight` must be positive for two rows at least; got {n_positive} of "
            f"{n_obs}. A spread cannot be seen in fewer."
        )


def effective_rows(weights: Array) -> float:
    """Return how many rows of equal weight tell as much: Kish's (sum w)^2 / sum w^2."""
    return float(weights.sum() ** 2 / np.square(weights).sum())


def per_row(values: Any, name: str, obs: NDArray[Any]) -> NDArray[Any]:
    """Return what is given for every row as an array, refusing what is given for other rows.

    Parameters
    ----------
    values : array, Series, DataFrame or DataArray, shape (n_obs, ...)
        If it has labels of its own, in the order of the data.
    name : str
        What it is called in messages.
    obs : array, shape (n_obs,)
        Labels of the rows of the data.
    """
    theirs = None
    if isinstance(values, pd.Series | pd.DataFrame):
        theirs = values.index
    elif isinstance(values, xr.DataArray):
        theirs = values.indexes.get(names.OBS)
        if values.ndim == 2 and names.OBS in values.dims:
            values = values.transpose(names.OBS, ...)
    found = np.asarray(values)
    if found.ndim == 0 or len(found) != len(obs):
        raise ValueError(
            f"`{name}` must have an entry for each of the {len(obs)} rows of `X`; got shape "
            f"{found.shape}. Give as many."
        )
    if theirs is not None:
        ours = pd.Index(obs)
        unnamed = ours.equals(pd.RangeIndex(len(obs)))
        # rows without names of their own are taken as they come
        if not ours.equals(theirs) and not (unnamed and len(ours.symmetric_difference(theirs))):
            place = int(np.argmax(ours.to_numpy() != theirs.to_numpy()))
            raise ValueError(
                f"`{name}` must have the labels of the rows of `X`, in their order; got "
                f"{theirs[place]!r} at place {place}, where `X` has {ours[place]!r}. Reorder it, "
                f"or pass its values."
            )
    return found


def row_named(obs: NDArray[Any], i: int) -> str:
    """Return the label of row `i` as it is written in a message."""
    if obs.dtype.kind in "mM":
        return f"row {obs[i]}"
    return f"row {obs[i : i + 1].tolist()[0]!r}"


def stand_ins(weights: Array, most: int) -> NDArray[np.int64]:
    """Return rows in their order, each as often as its weight says, that stand for all.

    Parameters
    ----------
    weights : array, shape (n_obs,)
        How many rows each stands for.
    most : int
        How many to return at most. If weights are integers and add up to no more, these are
        the rows repeated; if to more, evenly spaced ones of them. Of other weights as many rows as
        they add up to, or as there are, each within 1 of its share.

    Returns
    -------
    array of int
        Places of rows; none of weight 0.

    Examples
    --------
    >>> stand_ins(np.array([2.0, 0.0, 1.0]), 10)
    array([0, 0, 2])
    """
    total, bounds = float(weights.sum()), np.cumsum(weights)
    if (weights == np.floor(weights)).all():
        places = np.arange(0.0, total, -(-int(total) // most))
    else:
        n_rows = min(most, max(round(total), int(np.count_nonzero(weights))))
        places = (np.arange(n_rows) + 0.5) * (total / n_rows)
    return np.searchsorted(bounds, places, side="right").astype(np.int64)


def weigh(log_densities: Array, weights: Array | None) -> None:
    """Multiply log densities, shape (S, N), in place by the weights of the rows.

    Rows of weight 0 count 0, whatever their density.
    """
    if weights is not None:
        log_densities *= weights
        log_densities[:, weights == 0.0] = 0.0


def one_each(weights: Array | None, n_obs: int) -> Array:
    """Return weights, 1 where there are none."""
    return np.ones(n_obs) if weights is None else weights
