"""Ranges and standard deviations of what is not missing, without another array of their size."""

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
        NaN are left out.
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
    n_obs = np.sum([np.count_nonzero(block == block, axis=0) for block in blocks], axis=0)
    mean = np.sum([np.nansum(block - center, axis=0) for block in blocks], axis=0) / n_obs
    squares = [np.nansum(np.square(block - center - mean), axis=0) for block in blocks]
    return np.asarray(np.sqrt(np.sum(squares, axis=0) / n_obs))


def _weighted(blocks: list[Array], center: Array, sample_weight: list[Array]) -> Array:
    """Return the standard deviation of every column, of blocks of rows and their weights."""
    pairs = list(zip(blocks, sample_weight, strict=True))
    total = np.sum([weights @ (block == block) for block, weights in pairs], axis=0)
    sums = [weights @ np.nan_to_num(block - center) for block, weights in pairs]
    mean = np.sum(sums, axis=0) / total
    center = center + mean
    squares = [weights @ np.nan_to_num(np.square(block - center)) for block, weights in pairs]
    return np.asarray(np.sqrt(np.sum(squares, axis=0) / total))


def column_ranges(values: Array) -> tuple[Array, Array]:
    """Return the smallest and the largest number of every column that is not NaN.

    Examples
    --------
    >>> column_ranges(np.array([[1.0, np.nan], [3.0, 5.0]]))
    (array([1., 5.]), array([3., 5.]))
    """
    return np.fmin.reduce(values, axis=0), np.fmax.reduce(values, axis=0)
