"""Whether numbers between 0 and 1 are uniform: their ECDF and a band that holds all of it."""

from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, poisson

type Array = NDArray[np.float64]

POINTS: Final = np.arange(1, 100) / 100.0
"""Where the ECDF is looked at."""
HALVINGS: Final = 50
"""Of the interval that the level of a band is searched in."""
NEGLIGIBLE: Final = 1e-25
"""Probability of a count below which it is left out."""


class Band(NamedTuple):
    """The simultaneous distribution of the ECDF of n uniform numbers at `POINTS`.

    Parameters
    ----------
    tails : array, shape (n_points, n + 1)
        How rare each count is at each point: twice the smaller of the two binomial tails.
    increments : array, shape (m,)
        Poisson probabilities of the counts between two points.
    total : float
        That all Poisson counts together are n.

    Notes
    -----
    Counts between points are Poisson variables given their sum. So the probability that the ECDF
    stays within a band is a product of sparse matrices, exact in O(points x n^(3/2)).

    References
    ----------
    Saeilynoja, Buerkner & Vehtari (2022), Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison, Statistics and
    Computing 32. doi:10.1007/s11222-022-10090-6
    """

    tails: Array
    increments: Array
    total: float

    @classmethod
    def of(cls, n: int) -> Self:
        """Return the distribution for n numbers."""
        counts, shares = np.arange(n + 1), POINTS[:, None]
        tails = np.minimum(binom.cdf(counts, n, shares), binom.sf(counts - 1, n, shares))
        pmf = poisson.pmf(counts, n / (POINTS.size + 1))
        last = np.flatnonzero(pmf > NEGLIGIBLE)[-1]
        return cls(2.0 * tails, pmf[: last + 1], float(poisson.pmf(n, n)))

    def coverage(self, rarity: float) -> float:
        """Return the probability that no count is as rare as that, or rarer."""
        n = self.tails.shape[1] - 1
        mass = np.zeros(n + 1)
        mass[0] = 1.0
        for row in self.tails:
            mass = np.where(row > rarity, np.convolve(mass, self.increments)[: n + 1], 0.0)
        return float(np.convolve(mass, self.increments)[n] / self.total)

    def p_value(self, values: Array) -> float:
        """Return how probable it is that uniform numbers look as little uniform as these."""
        counts = (values[:, None] <= POINTS).sum(axis=0)
        rarest = self.tails[np.arange(POINTS.size), counts].min()
        return float(np.clip(1.0 - self.coverage(rarest), 0.0, 1.0))

    def bounds(self, probability: float) -> Array:
        """Return the band that the ECDF stays in with a probability, shape (2, n_points)."""
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.coverage(middle) >= probability else (low, middle)
        inside = self.tails > low
        n = self.tails.shape[1] - 1
        counts = [inside.argmax(axis=1), n - inside[:, ::-1].argmax(axis=1)]
        return np.stack(counts) / float(n)


def ecdf(values: Array) -> Array:
    """Return the share of numbers, shape (n, Q), up to each of `POINTS`, shape (n_points, Q)."""
    return np.asarray((values[None] <= POINTS[:, None, None]).mean(axis=1))
