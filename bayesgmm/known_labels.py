"""What is known of the components that rows belong to."""

from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesgmm.background import NOISE_LABEL
from bayesgmm.cubes import along_rows
from bayesgmm.data import Data
from bayesgmm.sample_weights import per_row, row_named

type Array = NDArray[np.float64]

UNKNOWN = -1
"""Label of a row of which nothing is known."""


def with_labels(data: Data, labels: Any, n_components: int, *, noise: bool = False) -> Data:
    """Return data with what is known of the labels of their rows.

    Parameters
    ----------
    data : Data
    labels : array or Series, shape (n_obs,) or (n_obs, n_components), or None
        The component of every row, -1 or missing where it is not known; or for every component
        whether a row may belong to it, True or False, or to what degree, in [0, 1].
    n_components : int
    noise : bool
        Whether a row may be background noise: -1 then says that it is, missing that nothing is
        known, and a further column, the last, whether it may be.

    Returns
    -------
    Data
        As it was, if nothing is known of any row.

    Raises
    ------
    TypeError, ValueError
        If `labels` are of another kind or shape, name a component that there is not, or allow a
        row none.
    """
    if labels is None:
        return data
    found = per_row(along_rows(labels, data.coords, "labels"), "labels", data.obs)
    if found.ndim == 1:
        allowed = _one_hot(found, data.obs, n_components, noise)
    else:
        allowed = _shares(found, data.obs, n_components, noise)
    return data if (allowed == 1.0).all() else replace(data, allowed=allowed)


def _one_hot(found: NDArray[Any], obs: NDArray[Any], n_components: int, noise: bool) -> Array:
    """Return what single labels allow, shape (n_obs, n_components), with noise one more."""
    numbers, missing = _numbers(found, obs)
    wrong = (numbers < UNKNOWN) | (numbers >= n_components)
    if wrong.any():
        i = int(wrong.argmax())
        other = "-1 where a row is noise, or missing" if noise else "-1 or missing"
        raise ValueError(
            f"`labels` must lie in 0 to {n_components - 1}, or be {other} where nothing is "
            f"known; got {numbers[i]} at {row_named(obs, i)}. Number the components from 0, or "
            f"fit more of them."
        )
    named = np.arange(n_components)
    if noise:
        named, unknown = np.append(named, NOISE_LABEL), missing
    else:
        unknown = numbers == UNKNOWN
    return np.where(unknown[:, None], 1.0, numbers[:, None] == named)


def _numbers(found: NDArray[Any], obs: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return labels as integers, -1 where they are missing, and where they are."""
    if found.dtype.kind in "iu":
        return found.astype(np.int64), np.zeros(found.shape, dtype=bool)
    cells = found.astype(object)
    missing = np.asarray(pd.isna(cells))
    for i in np.flatnonzero(~missing):
        value = cells[i]
        number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
        if not number or not (isinstance(value, Integral) or float(value).is_integer()):
            raise TypeError(
                f"`labels` must hold integers, -1 or missing where nothing is known; got {value!r} "
                f"of type {type(value).__name__} at {row_named(obs, int(i))}. Number classes: "
                f"names, labels = np.unique(values, return_inverse=True)."
            )
    return np.where(missing, UNKNOWN, cells).astype(np.int64), missing


def _shares(found: NDArray[Any], obs: NDArray[Any], n_components: int, noise: bool) -> Array:
    """Return what sets of components or soft labels allow, refusing what are neither."""
    n_columns = n_components + noise
    if found.shape != (len(obs), n_columns):
        raise ValueError(
            f"`labels` must have shape ({len(obs)},), or ({len(obs)}, {n_columns}) for a column "
            f"per component{', and one for noise' if noise else ''}; got {found.shape}. Give a "
            f"label for every row."
        )
    if found.dtype.kind not in "biuf":
        raise TypeError(
            f"`labels` must be True or False, or numbers in [0, 1], for every row and component; "
            f"got {found.dtype}. Convert them."
        )
    allowed = found.astype(np.float64)
    wrong = ~((allowed >= 0.0) & (allowed <= 1.0))
    if wrong.any():
        i, k = divmod(int(wrong.argmax()), n_columns)
        raise ValueError(
            f"`labels` must lie in [0, 1] for every row and component; got {allowed[i, k]} at "
            f"{row_named(obs, i)}, component {k}. Give 1 for all where nothing is known."
        )
    none = ~allowed.any(axis=1)
    if none.any():
        raise ValueError(
            f"`labels` must allow every row a component; got none for "
            f"{row_named(obs, int(none.argmax()))}. Give True for all where nothing is known."
        )
    return allowed


def log_allowed(allowed: Array) -> Array:
    """Return the logarithms (K, N) of what labels allow, (N, K): -inf where they forbid."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.ascontiguousarray(allowed.T)))


def of_components(allowed: Array | None, n_components: int) -> Array | None:
    """Return what labels, (N, K) or with noise (N, K + 1), say of components where none is noise.

    Of rows that are known to be noise they say nothing.
    """
    if allowed is None:
        return None
    known = allowed[:, :n_components]
    return np.where(known.any(axis=1)[:, None], known, 1.0)


def told(allowed: Array | None, n_obs: int, *, noise: bool = False) -> NDArray[Any]:
    """Return known labels as single ones, shape (n_obs,), -1 where unknown; else what they allow.

    Single labels mean the same whatever the number of components; that of noise is -2.
    """
    if allowed is None:
        return np.full(n_obs, UNKNOWN)
    ones, zeros = ((allowed == value).sum(axis=1) for value in (1.0, 0.0))
    n_components = allowed.shape[1]
    unknown = ones == n_components
    if not (unknown | ((ones == 1) & (zeros == n_components - 1))).all():
        return allowed
    labels = allowed.argmax(axis=1)
    if noise:
        labels = np.where(labels == n_components - 1, UNKNOWN - 1, labels)
    return np.where(unknown, UNKNOWN, labels)


def named_apart(allowed: Array | None, n_components: int) -> NDArray[np.int64]:
    """Return a number for every component, shape (K,), the same where labels do not differ.

    Parameters
    ----------
    allowed : array, shape (n_obs, K) or with noise (n_obs, K + 1), or None
    n_components : int
    """
    if allowed is None:
        return np.zeros(n_components, dtype=np.int64)
    columns = [np.ascontiguousarray(column).tobytes() for column in allowed.T[:n_components]]
    return np.array([columns.index(column) for column in columns], dtype=np.int64)
