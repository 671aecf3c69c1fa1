"""Classes of rows: what they are called, and how frequent they are."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesgmm.errors import check_positive
from bayesgmm.labels import listed
from bayesgmm.sample_weights import per_row, row_named

type Array = NDArray[np.float64]


def classes_of(y: Any, obs: NDArray[Any]) -> tuple[list[Any], NDArray[np.int64]]:
    """Return the classes in their order, and the place of every row's, refusing what is none."""
    found = per_row(y, "y", obs)
    if found.ndim != 1:
        raise ValueError(
            f"`y` must hold one class for each of the {len(obs)} rows; got shape {found.shape}. "
            f"Give one dimension."
        )
    missing = np.asarray(pd.isna(found))
    if missing.any():
        raise ValueError(
            f"`y` must hold a class for every row; got none at "
            f"{row_named(obs, int(missing.argmax()))}. Drop such rows, or let them help: "
            f"bayesgmm.fit with `labels`."
        )
    cells = found.tolist()
    strange = [cell for cell in cells if isinstance(cell, bool) or not isinstance(cell, str | int)]
    if strange or len({type(cell) for cell in cells}) > 1:
        kinds = listed(sorted({type(cell).__name__ for cell in cells}))
        raise TypeError(
            f"`y` must hold strings or integers, of one kind; got {kinds}. Make strings of them, "
            f"e.g. `numpy.asarray(y).astype(str)`."
        )
    classes = sorted(set(cells))
    if len(classes) < 2:
        raise ValueError(
            f"`y` must hold two classes at least; got {listed(classes)} alone. Fit a mixture to "
            f"one: bayesgmm.fit."
        )
    place = {label: c for c, label in enumerate(classes)}
    return classes, np.array([place[cell] for cell in cells])


def shares_of(shares: Mapping[Any, float], classes: list[Any]) -> Array:
    """Return shares of the classes that a user gave, scaled to sum to 1."""
    if not isinstance(shares, Mapping) or set(shares) != set(classes):
        got = listed(shares) if isinstance(shares, Mapping) else type(shares).__name__
        raise ValueError(
            f"`shares` must have a number for each of the classes {listed(classes)}; got {got}. "
            f"Leave it out to take those of the fitted rows."
        )
    remedy = "Give 0 to a class that is not there, or leave the argument out."
    values = np.array([shares[c] and check_positive(shares[c], "shares", remedy) for c in classes])
    if not values.any():
        raise ValueError(f"`shares` must be above 0 for one class at least; got none. {remedy}")
    return np.asarray(values / values.sum())


def coordinate(classes: list[Any]) -> NDArray[Any]:
    """Return labels of classes as a coordinate."""
    return np.array(classes, dtype=object if isinstance(classes[0], str) else np.int64)
