"""Products and factors of small matrices."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]

COLLAPSED: Final = 1e-20
"""Variance of standardised data at or below which a component has collapsed."""
SINGULAR: Final = 1e-14
"""Share of its variance that a feature must keep, given the others, for a covariance to count."""


@kernel
def sandwich(triangle: Array, symmetric: Array, out: Array) -> None:
    """Write A S A' for a lower triangle A and a symmetric S, all of shape (D, D)."""
    n_dim = triangle.shape[1]
    row = np.empty(n_dim)
    for i in range(n_dim):
        for j in range(n_dim):
            row[j] = 0.0
        for m in range(i + 1):
            for j in range(n_dim):
                row[j] += triangle[i, m] * symmetric[m, j]
        for j in range(i + 1):
            total = 0.0
            for m in range(j + 1):
                total += row[m] * triangle[j, m]
            out[i, j] = total
            out[j, i] = total


@kernel
def factorise(matrix: Array, factor: Array) -> bool:
    """Write the lower Cholesky factor of a matrix; return whether it is positive definite."""
    n = matrix.shape[0]
    for i in range(n):
        for j in range(i + 1):
            value = matrix[i, j]
            for m in range(j):
                value -= factor[i, m] * factor[j, m]
            if i == j:
                if not value > SINGULAR * matrix[i, i] or not value > COLLAPSED:
                    return False
                factor[i, i] = math.sqrt(value)
            else:
                factor[i, j] = value / factor[j, j]
        for j in range(i + 1, n):
            factor[i, j] = 0.0
    return True
