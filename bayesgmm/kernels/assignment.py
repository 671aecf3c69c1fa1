"""Optimal matching of components."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


@kernel
def assign(gain: Array) -> tuple[float, Labels]:
    """Return the matching of rows to columns with the largest total gain.

    Shortest augmenting paths (Jonker & Volgenant 1987), O(K^3).

    Parameters
    ----------
    gain : array, shape (K, K)
        -inf forbids a pair.

    Returns
    -------
    total : float
        -inf if every matching holds a forbidden pair.
    row_of : array of int, shape (K,)
        The row matched to each column.
    """
    n = gain.shape[0]
    row_price = np.zeros(n + 1)
    column_price = np.zeros(n + 1)
    row_of = np.full(n + 1, -1)  # the last entry is the column a path starts from
    for row in range(n):
        row_of[n] = row
        column = n
        shortest = np.full(n, np.inf)
        previous = np.full(n, n)
        reached = np.zeros(n + 1, dtype=np.bool_)
        while row_of[column] != -1:
            reached[column] = True
            here = row_of[column]
            best, nearest = np.inf, -1
            for j in range(n):
                if reached[j]:
                    continue
                cost = -gain[here, j] - row_price[here] - column_price[j]
                if cost < shortest[j]:
                    shortest[j] = cost
                    previous[j] = column
                if shortest[j] < best:
                    best = shortest[j]
                    nearest = j
            if nearest < 0:
                return -np.inf, row_of[:n].copy()
            for j in range(n + 1):
                if reached[j]:
                    row_price[row_of[j]] += best
                    column_price[j] -= best
                elif j < n:
                    shortest[j] -= best
            column = nearest
        while column != n:
            before = previous[column]
            row_of[column] = row_of[before]
            column = before
    total = 0.0
    for j in range(n):
        total += gain[row_of[j], j]
    return total, row_of[:n].copy()
