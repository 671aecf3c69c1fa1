"""The subset of the rows on whose partition most draws agree, grown one row at a time."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Draws = NDArray[np.int32]
type Labels = NDArray[np.int64]


@kernel
def grow_subset(draws: Draws, order: Labels) -> tuple[Labels, Labels, Labels]:
    """Add rows to a subset, each time the row and label that most draws still agree with.

    The greedy search of CHiPS (Barrientos, Page, Dahl & Dunson 2024). How many draws would agree
    with each row under each label is not counted anew at every step: a draw that drops out is
    taken out of the counts once, and a label that is new moves rows between counts once.

    Parameters
    ----------
    draws : array of int32, shape (S, N)
        Partitions of the rows, labels in 0 .. K - 1.
    order : array of int, shape (N,)
        A permutation of the rows: of several that are as good, the earliest is taken.

    Returns
    -------
    rows : array of int, shape (N,)
        In the order in which they were added.
    labels : array of int, shape (N,)
        Their clusters, numbered as they were opened.
    agreeing : array of int, shape (N,)
        Draws in which the rows up to here are partitioned so.

    Notes
    -----
    O((S + N) N K) operations; memory O((S + N) K).
    """
    n_draws, n_rows = draws.shape
    n_labels = int(draws.max()) + 1
    counts = np.zeros((n_rows, n_labels + 1), dtype=np.int64)
    unopened = n_labels  # the column of `counts` for clusters that no row of the subset is in
    counts[:, unopened] = n_draws
    meaning = np.full((n_draws, n_labels), unopened)
    agrees = np.ones(n_draws, dtype=np.bool_)
    left = order.copy()
    rows, labels = np.empty(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.int64)
    agreeing = np.empty(n_rows, dtype=np.int64)
    n_open = 0
    for step in range(n_rows):
        best, place, label = -1, -1, -1
        for p in range(n_rows - step):
            for k in range(n_open):
                if counts[left[p], k] > best:
                    best, place, label = counts[left[p], k], p, k
            if counts[left[p], unopened] > best:
                best, place, label = counts[left[p], unopened], p, unopened
        row = left[place]
        for p in range(place, n_rows - step - 1):
            left[p] = left[p + 1]
        waiting = left[: n_rows - step - 1]
        for s in range(n_draws):
            if not agrees[s]:
                continue
            own = draws[s, row]
            if meaning[s, own] != label:
                agrees[s] = False
                for i in waiting:
                    counts[i, meaning[s, draws[s, i]]] -= 1
            elif label == unopened:
                meaning[s, own] = n_open
                for i in waiting:
                    if draws[s, i] == own:
                        counts[i, unopened] -= 1
                        counts[i, n_open] += 1
        if label == unopened:
            label = n_open
            n_open += 1
        rows[step], labels[step], agreeing[step] = row, label, best
    return rows, labels, agreeing
