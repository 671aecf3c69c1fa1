"""Which rows are left out together."""

from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm.errors import check_integer

type Labels = NDArray[Any]

REMEDY: Final = "10 is usual; one for every row is leave-one-out."


def folds_of(folds: Any, stratify: Any, obs: pd.Index, rng: np.random.Generator) -> Labels:
    """Return the fold of every row.

    Parameters
    ----------
    folds : object
        What the user passed: a number, or a label of every row.
    stratify : object
        What the user passed: labels of which every fold is to have its share, or None.
    obs : pandas.Index
        Labels of the rows.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (n_obs,)
        Numbers from 0, rows at random and folds of equal size but for one row; or the labels that
        were given.
    """
    if np.ndim(folds) > 0:
        if stratify is not None:
            raise ValueError(
                "`stratify` must be None where `folds` says the fold of every row; got both. Give "
                "a number of folds, such as 10."
            )
        labels = _labels(folds, "folds", obs)
        if len(np.unique(labels)) < 2:
            raise ValueError(
                f"`folds` must have at least two different labels; got {labels.tolist()[0]!r} "
                f"alone. Give rows that are left out together the same label."
            )
        return labels
    count = check_integer(folds, "folds", 2, REMEDY)
    if count > obs.size:
        raise ValueError(f"`folds` must be at most {obs.size}, the rows; got {count}. {REMEDY}")
    order = rng.permutation(obs.size)
    if stratify is not None:
        strata = np.unique(_labels(stratify, "stratify", obs), return_inverse=True)[1]
        order = order[np.argsort(strata[order], kind="stable")]
    result = np.empty(obs.size, dtype=np.int64)
    result[order] = np.arange(obs.size) % count
    return result


def _labels(given: Any, name: str, obs: pd.Index) -> Labels:
    """Return a label of every row, refusing anything else."""
    index = None
    if isinstance(given, pd.Series):
        index = given.index
    elif isinstance(given, xr.DataArray) and given.ndim == 1:
        index = given.indexes.get(given.dims[0])
    labels = np.asarray(given)
    if labels.shape != obs.shape:
        raise ValueError(
            f"`{name}` must hold a label of every row, shape {obs.shape}; got shape "
            f"{labels.shape}. Give one for each row of the fit, in its order."
        )
    if index is not None and not index.equals(obs):
        place = int(np.argmax(np.asarray(index) != np.asarray(obs)))
        raise ValueError(
            f"`{name}` must have the labels of the rows of the fit, in their order; got "
            f"{index[place]!r} for {obs[place]!r} at place {place}. Reindex it, or pass its values."
        )
    missing = pd.isna(labels)
    if missing.any():
        place = int(missing.argmax())
        raise ValueError(
            f"`{name}` must hold a label of every row; got {labels.tolist()[place]!r} at row "
            f"{obs[place]!r}. Give those rows a label of their own."
        )
    return labels
