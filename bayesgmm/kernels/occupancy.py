"""How many components hold a row, before any row is seen.

Nothing is subtracted, so that small probabilities are as exact as large ones.
"""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]

NEGLIGIBLE = 1e-20
"""Probability below which a larger number of clusters is left out."""


@kernel
def add_of_dirichlet(
    n_rows: int, n_components: int, share: float, mass: float, total: Array
) -> None:
    """Add a mass times the law of the number of clusters of Dirichlet(share) weights.

    Parameters
    ----------
    n_rows, n_components : int
    share : float
        Concentration of every component.
    mass : float
    total : array, shape (C,)
        Of 1, 2, ... clusters.

    Notes
    -----
    The number of clusters is a Markov chain along the rows: with c clusters of i rows the next
    one begins another with probability share (K - c) / (i + share K). O(N C).
    """
    most = min(n_components, total.size)
    p = np.zeros(most + 1)
    p[1], highest = 1.0, 1
    for i in range(1, n_rows):
        each = 1.0 / (i + share * n_components)
        if highest < most:
            reached = p[highest] * share * (n_components - highest) * each
            if mass * reached > NEGLIGIBLE:
                highest += 1
        for c in range(highest, 0, -1):
            begun = p[c - 1] * share * (n_components - c + 1)
            p[c] = (p[c] * (i + share * c) + begun) * each
    for c in range(1, highest + 1):
        total[c - 1] += mass * p[c]


@kernel
def add_of_sticks(
    n_rows: int, n_sticks: int, concentration: float, mass: float, total: Array
) -> None:
    """Add a mass times the law of the number of clusters of weights broken off a stick.

    Parameters
    ----------
    n_rows, n_sticks : int
    concentration : float
    mass : float
    total : array, shape (C,)
        Of 1, 2, ... clusters.

    Notes
    -----
    Piece after piece takes some of the m rows that are left, and leaves r < m with probability
    a (r + 1) / ((r + a) (r + 1 + a)) prod_{s=r+1}^{m-1} (s + 1) / (s + 1 + a), or all of them with
    a / (m + a). O(N T C).
    """
    a, most = concentration, min(n_sticks, total.size)
    left = np.zeros((n_rows + 1, most + 1))  # rows left, clusters so far
    left[n_rows, 0], highest = 1.0, 0
    for _ in range(n_sticks - 1):
        reached = min(highest + 1, most)
        onward = np.zeros(reached + 1)
        for r in range(n_rows, -1, -1):
            none, some = a / (r + a), a * (r + 1.0) / ((r + a) * (r + 1.0 + a))
            further, before = (r + 1.0) / (r + 1.0 + a), 0.0
            for c in range(reached + 1):
                old, at_least_one = left[r, c], before * some
                before = onward[c]
                left[r, c] = old * none + at_least_one
                onward[c] = old + before * further
        if mass * left[:, reached].sum() > NEGLIGIBLE:
            highest = reached
    for c in range(highest + 1):
        if c > 0:
            total[c - 1] += mass * left[0, c]
        if c < most:
            total[c] += mass * left[1:, c].sum()
