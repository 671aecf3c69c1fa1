"""How clear the components of aligned draws are: what they share, and whether they have rows."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.stephens import Mixtures, confusions, leads, responsibilities, summed
from bayesgmm.kernels.threads import over_draws

type Array = NDArray[np.float64]


class Clarity(NamedTuple):
    """What aligned draws say about their components.

    Parameters
    ----------
    mean : array, shape (K, N)
        Mean responsibilities.
    overlap : array, shape (K, K)
        What `add_overlap` adds up, the mean over the draws.
    vacancy : array, shape (S, K)
        Probability that no row is allocated to a component, given the draw.
    lead : array, shape (S, K)
        By how many rows the labels as they are beat the best others, as `lead_each` writes it.
    cost : float
        Stephens' cost: the sum over draws and rows of the Kullback-Leibler divergence of the
        responsibilities from their mean, in nats.
    """

    mean: Array
    overlap: Array
    vacancy: Array
    lead: Array
    cost: float


def clarity(rows: Array, mixtures: Mixtures) -> Clarity:
    """Look at the components of aligned draws, in two passes, O(S N K (D^2 + K) + S K^4).

    Parameters
    ----------
    rows : array, shape (D, N)
        Standardised data.
    mixtures : tuple of arrays
        Shapes (S, K), (S, K, D), (S, K, D, D).
    """
    n_draws, n_components = mixtures[0].shape
    n_rows = rows.shape[1]
    vacancy = np.empty((n_draws, n_components))

    def do(part: slice) -> Array:
        total = np.zeros(n_components * (n_rows + n_components) + 1)
        mean = total[: n_components * n_rows].reshape(n_components, n_rows)
        overlap = total[n_components * n_rows : -1].reshape(n_components, n_components)
        for some, shares in responsibilities(rows, mixtures, part):
            fill_vacancy(shares, vacancy[some])
            add_overlap(shares, overlap)
            mean += shares.sum(axis=0)
            total[-1] += entropy(shares.reshape(-1))
        return total

    total = summed(do, n_draws) / n_draws
    mean = total[: n_components * n_rows].reshape(n_components, n_rows)
    labels = np.asarray(mean.argmax(axis=0), dtype=np.int64)
    as_they_are = np.tile(np.arange(n_components), (n_draws, 1))
    return Clarity(
        mean=mean,
        overlap=total[n_components * n_rows : -1].reshape(n_components, n_components),
        vacancy=vacancy,
        lead=leads(confusions(rows, mixtures, labels), as_they_are),
        cost=n_draws * (entropy(mean.reshape(-1)) - float(total[-1])),
    )


def vacancies(rows: Array, mixtures: Mixtures) -> Array:
    """Return the probability that no row is allocated to a component, shape (S, K)."""
    vacancy = np.empty(mixtures[0].shape)

    def do(part: slice) -> None:
        for some, shares in responsibilities(rows, mixtures, part):
            fill_vacancy(shares, vacancy[some])

    over_draws(do, len(vacancy))
    return vacancy


def shared(rows: Array, mixtures: Mixtures) -> Array:
    """Return the probability that rows 2 i and 2 i + 1 are of one component, shape (S, N / 2)."""
    n_draws = len(mixtures[0])
    result = np.empty((n_draws, rows.shape[1] // 2))

    def do(part: slice) -> None:
        for some, shares in responsibilities(rows, mixtures, part):
            result[some] = (shares[:, :, ::2] * shares[:, :, 1::2]).sum(axis=1)

    over_draws(do, n_draws)
    return result


@kernel
def fill_vacancy(shares: Array, vacancy: Array) -> None:
    """Write the products over rows of one minus the responsibility.

    Parameters
    ----------
    shares : array, shape (S, K, N)
    vacancy : array, shape (S, K)
        Overwritten: the probability that no row is allocated to component k.
    """
    for s in range(shares.shape[0]):
        for k in range(shares.shape[1]):
            product = 1.0
            for i in range(shares.shape[2]):
                product *= max(1.0 - shares[s, k, i], 0.0)
            vacancy[s, k] = product


@kernel
def add_overlap(shares: Array, overlap: Array) -> None:
    """Add what two components have in common under some draws.

    Parameters
    ----------
    shares : array, shape (S, K, N)
        Responsibilities.
    overlap : array, shape (K, K)
        Added to, for k other than j: the sums over draws and rows of r_k r_j / (r_k + r_j), half
        the harmonic mean of two responsibilities.
    """
    for s in range(shares.shape[0]):
        for k in range(shares.shape[1]):
            for j in range(k):
                total = 0.0
                for i in range(shares.shape[2]):
                    one, other = shares[s, k, i], shares[s, j, i]
                    total += one * other / max(one + other, 1e-300)
                overlap[k, j] += total
                overlap[j, k] += total


@kernel
def entropy(shares: Array) -> float:
    """Return minus the sum of p log p of an array, in nats."""
    total = 0.0
    for i in range(shares.size):
        if shares[i] > 0.0:
            total -= shares[i] * math.log(shares[i])
    return total
