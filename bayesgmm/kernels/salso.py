"""The partition with the least expected loss, searched for row by row.

The search of Dahl, Johnson & Mueller (2022): rows are put, one after another in random order, into
the cluster where they cost least; then each is moved to where it costs less until none is; then
whole clusters are dissolved and their rows put anew, as long as that pays for one of them.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.allocation_costs import (
    Order,
    State,
    Task,
    clear,
    empty_state,
    fill_costs,
    objective,
    put,
    take,
)
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.partition_loss import Labels

type Seeds = NDArray[np.uint64]

MOST_SWEEPS: Final = 100


@kernel
def _shuffle(order: Order, random: Seeds) -> None:
    """Put places in random order, by a generator of which `random` is the state (xorshift*)."""
    for last in range(len(order) - 1, 0, -1):
        x = random[0]
        x ^= x >> np.uint64(12)
        x ^= x << np.uint64(25)
        x ^= x >> np.uint64(27)
        random[0] = x
        drawn = (x * np.uint64(2685821657736338717)) >> np.uint64(32)
        other = np.int64((drawn * np.uint64(last + 1)) >> np.uint64(32))
        order[last], order[other] = order[other], order[last]


@kernel
def _settle(state: State, task: Task, order: Order) -> int:
    """Put each row where it costs least, and return how many were moved.

    The first empty column is open to a row as long as there may be more clusters. If all are in
    use it is one beyond the table: where that is wanted, all stays as it is, and -1 is returned.
    """
    moved = 0
    for i in order:
        used, empty, top = 0, len(state.sizes), 0
        for column in range(len(state.sizes)):
            if state.sizes[column] > 0:
                used += 1
                top = column
            elif empty == len(state.sizes):
                empty = column
        if used >= task.most:
            empty = -1
        fill_costs(state, task, i, top, empty)
        own = state.labels[i]
        best = own
        for column in range(max(top, empty) + 1):
            if column != empty and state.sizes[column] == 0:
                continue
            if best < 0 or state.cost[column] < state.cost[best] - task.tie:
                best = column
        if best == len(state.sizes):
            return -1
        if best != own:
            if own >= 0:
                take(state, task, i)
            put(state, task, i, best)
            moved += 1
    return moved


@kernel
def _settle_all(state: State, task: Task, order: Order, random: Seeds) -> bool:
    """Move rows to where they cost less until none is moved; return whether there was room."""
    for _ in range(MOST_SWEEPS):
        _shuffle(order, random)
        moved = _settle(state, task, order)
        if moved <= 0:
            return moved == 0
    return True


@kernel
def _dissolve(state: State, task: Task, column: int, random: Seeds) -> int:
    """Put the rows of a cluster anew, one after another, and return 1 if that is better.

    If it is not, all is as it was before, and 0 is returned; -1 if there was no room.
    """
    before = objective(state, task)
    rows = np.flatnonzero(state.labels == column)
    _shuffle(rows, random)
    clear(state, task, column)
    if _settle(state, task, rows) < 0:
        return -1
    if objective(state, task) < before - task.tie:
        return 1
    for i in rows:
        if state.labels[i] != column:
            take(state, task, i)
            put(state, task, i, column)
    return 0


@kernel
def search(
    task: Task, n_lines: int, n_columns: int, start: Labels, random: Seeds, labels: Labels
) -> bool:
    """Search for the partition with the least expected loss, once.

    Parameters
    ----------
    task : Task
    n_lines : int
        Clusters of all draws together.
    n_columns : int
        Of the tables, a multiple of `BATCH`: clusters that there is room for.
    start : array of int32, shape (N,) or (0,)
        A partition to start from; if empty, rows are put in random order.
    random : array of uint64, shape (1,)
        Not zero; overwritten.
    labels : array of int32, shape (N,)
        Overwritten by the partition found, in 0 .. n_columns - 1, with gaps.

    Returns
    -------
    bool
        Whether there was room enough; if not, nothing was found. What is found does not depend
        on how much more room there is.

    Notes
    -----
    A sweep takes O(N S n_columns) operations. Tables take 12 n_lines n_columns bytes.
    """
    n, n_draws = task.places.shape
    state = empty_state(n_lines, n_columns, n_draws, n, task.g)
    order = np.arange(n)
    _shuffle(order, random)
    if len(start) > 0:
        for i in range(n):
            put(state, task, i, start[i])
    elif _settle(state, task, order) < 0:
        return False
    if not _settle_all(state, task, order, random):
        return False
    columns = np.flatnonzero(state.sizes)
    _shuffle(columns, random)
    position = 0
    while position < len(columns):
        better = _dissolve(state, task, columns[position], random)
        position += 1
        if better < 0 or (better > 0 and not _settle_all(state, task, order, random)):
            return False
        if better > 0:
            columns = np.flatnonzero(state.sizes)
            _shuffle(columns, random)
            position = 0
    labels[:] = state.labels
    return True
