"""Standard deviations of many rows, without another array of their size."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]

BLOCK: Final = 2**15
"""Rows that are worked on at once."""


def standard_deviation(values: Array, center: Array) -> Array:
    """Return the standard deviation of every column, dividing by their length.

    Parameters
    ----------
    values : array, shape (n_obs, n_features)
    center : array, shape (n_features,)
        Near the middle of every column: it is subtracted first, so that a large offset costs no
        digits.

    Returns
    -------
    array, shape (n_features,)

    Examples
    --------
    >>> standard_deviation(np.array([[1e9, 0.0], [1e9 + 2, 4.0]]), np.array([1e9, 0.0]))
    array([1., 2.])
    """
    blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
    mean = np.sum([(block - center).sum(axis=0) for block in blocks], axis=0) / len(values)
    squares = [np.square(block - center - mean).sum(axis=0) for block in blocks]
    return np.asarray(np.sqrt(np.sum(squares, axis=0) / len(values)))
