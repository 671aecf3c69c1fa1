"""Standard deviations of many rows, without another array of their size."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]

BLOCK: Final = 2**15
"""Rows that are worked on at once."""


def standard_deviation(values: Array, center: Array, sample_weight: Array | None = None) -> Array:
    """Return the standard deviation of every column, dividing by the number of rows.

    Parameters
    ----------
    values : array, shape (n_obs, n_features)
    center : array, shape (n_features,)
        Near the middle of every column: it is subtracted first, so that a large offset costs no
        digits.
    sample_weight : array, shape (n_obs,), optional
        How many rows each stands for.

    Returns
    -------
    array, shape (n_features,)

    Examples
    --------
    >>> standard_deviation(np.array([[1e9, 0.0], [1e9 + 2, 4.0]]), np.array([1e9, 0.0]))
    array([1., 2.])
    """
    blocks = [values[start : start + BLOCK] for start in range(0, len(values), BLOCK)]
    if sample_weight is not None:
        return _weighted(blocks, center, np.split(sample_weight, range(BLOCK, len(values), BLOCK)))
    mean = np.sum([(block - center).sum(axis=0) for block in blocks], axis=0) / len(values)
    squares = [np.square(block - center - mean).sum(axis=0) for block in blocks]
    return np.asarray(np.sqrt(np.sum(squares, axis=0) / len(values)))


def _weighted(blocks: list[Array], center: Array, sample_weight: list[Array]) -> Array:
    """Return the standard deviation of every column, of blocks of rows and their weights."""
    total = sum(float(weights.sum()) for weights in sample_weight)
    pairs = list(zip(blocks, sample_weight, strict=True))
    mean = np.sum([weights @ (block - center) for block, weights in pairs], axis=0) / total
    squares = [weights @ np.square(block - center - mean) for block, weights in pairs]
    return np.asarray(np.sqrt(np.sum(squares, axis=0) / total))
