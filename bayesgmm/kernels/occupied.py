"""Components with rows before those without, where draws have different numbers of them."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.clarity import clarity
from bayesgmm.kernels.matching import every_so_many

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


def occupied_first(
    rows: Array, mixtures: tuple[Array, Array, Array], permutation: Labels
) -> tuple[Labels, Array]:
    """Return matchings with the components that expect a row first, and their margins.

    Parameters
    ----------
    rows : array, shape (D, N)
        Standardised data.
    mixtures : arrays
        Log-weights (S, K), means (S, K, D) and Cholesky factors (S, K, D, D).
    permutation : array of int, shape (S, K)
        As `match_draws` returns it.

    Returns
    -------
    permutation : array of int, shape (S, K)
        The order is kept among those that expect a row, and among the others.
    margin : array, shape (S,)
        As `match_draws` has it, of the components that have rows in most draws: the names of
        others are all ties.

    Notes
    -----
    O(S N K (D^2 + K) + S K^4) operations. Of many rows some stand for all, as in matching.
    """
    which = np.arange(len(permutation))[:, None]
    log_weights, means, cholesky = (part[which, permutation] for part in mixtures)
    some = np.ascontiguousarray(rows[:, :: every_so_many(rows.shape[1])])
    found = clarity(some, (log_weights, means, cholesky))
    expected = np.exp(log_weights).mean(axis=0) * rows.shape[1]
    order = np.argsort(expected < 1.0, kind="stable")
    lead = found.lead[:, found.vacancy.mean(axis=0) < 0.5]
    margin = np.minimum(lead.min(axis=1) / some.shape[1], 1.0)
    return np.ascontiguousarray(permutation[:, order]), np.asarray(margin)
