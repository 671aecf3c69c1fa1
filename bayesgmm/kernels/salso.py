"""The partition with the least expected loss, searched for row by row.

The search of Dahl, Johnson & Mueller (2022): rows are put, one after another in random order, into
the cluster where they cost least; then each is moved to where it costs less until none is; then
whole clusters are dissolved and their rows put anew, which is kept where it pays.

What a row costs in a cluster follows from the counts that this cluster shares with the row's own
cluster in every draw. These counts n, and the gains f(n + 1) - f(n) of one row more (see
`kernels.partition_loss`), are kept in tables with a line for every cluster of every draw and a
column for every cluster of the partition. The gains of a row in all columns are then the sum of
one line for each draw: vectors that lie together in memory. The lines of a row are `places[i]`.
"""

from typing import Any, Final, NamedTuple

import numpy as np
from numba.core.cgutils import for_range
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.lanes import (
    INTEGER,
    LANES,
    Builder,
    Sum,
    Table,
    Value,
    compiled,
    integer,
    like,
    plus,
    splat,
)
from bayesgmm.kernels.partition_loss import BINDER, ID, NID, NVI, OMARI, VI, Labels, loss_of, terms

type Array = NDArray[np.float64]
type Order = NDArray[np.int64]
type Seeds = NDArray[np.uint64]

BATCH: Final = 8
"""Columns that are summed at once; tables are padded to a multiple of it."""
MOST_SWEEPS: Final = 100
DISSOLVED: Final = 10
"""Clusters that a search dissolves, at most."""
TIE: Final = 1e-10
"""Losses that differ by less are equal."""
STEEPEST: Final = 2.0
"""By how much the gain of a row and that of the next can differ, at most."""
SMALLEST: Final = 0.5
"""Less than the room for a loss, in the units of f, unless there is none."""


class Task(NamedTuple):
    """What is searched for, and in what.

    Parameters
    ----------
    places : array of int32, shape (N, S)
        The line of every row in every draw.
    f : array, shape (N + 2,)
    g : array, shape (N + 1,)
        Gains: g(n) = f(n + 1) - f(n).
    loss : int
    a : float
    linear : bool
        Whether the loss is that of VI or Binder, a sum over the clusters.
    most : int
        Clusters that there may be, no more than columns.
    tie : float
        Costs that differ by less are equal.
    """

    places: Labels
    f: Array
    g: Array
    loss: int
    a: float
    linear: bool
    most: int
    tie: float


class State(NamedTuple):
    """A partition of some of the rows, and what its clusters share with those of the draws.

    Parameters
    ----------
    counts : array of int32, shape (n_lines, n_columns)
        Rows that a cluster of a draw and one of the partition share.
    gains : array, shape (n_lines, n_columns)
        g of them.
    members : array of int32, shape (n_lines,)
        Rows in the clusters of the draws. This and the next but one are not kept for sums.
    joint : array, shape (S,)
        The sums J of the draws; for VI and Binder the first is the sum of all.
    true : array, shape (S,)
        The sums T.
    sizes : array of int64, shape (n_columns,)
        Rows in the clusters of the partition.
    labels : array of int32, shape (N,)
        The column of every row; -1: none yet.
    cost, chosen_after : arrays, shape (n_columns,)
    joint_before, true_after : arrays, shape (S,)
        Room to work in: for one row, what it costs in each column, C with it there, J without
        it and T with it.
    """

    counts: NDArray[np.int32]
    gains: Array
    members: NDArray[np.int32]
    joint: Array
    true: Array
    sizes: Order
    labels: Labels
    cost: Array
    chosen_after: Array
    joint_before: Array
    true_after: Array


def _sum_lines(
    builder: Builder, table: Value, places: Value, n: Value, stride: Value, first: Value,
    total: Value,
) -> None:  # fmt: skip
    """Write the sum of some lines of a table, `BATCH` columns of it."""
    sums = [Sum(builder) for _ in range(BATCH // LANES)]
    lines = Table(builder, table, stride)
    columns = [plus(builder, first, v * LANES) for v in range(len(sums))]
    with for_range(builder, n, intp=INTEGER) as loop:
        place = builder.sext(builder.load(builder.gep(places, [loop.index])), INTEGER)
        for column, one in zip(columns, sums, strict=True):
            one.add(lines.load(place, column))
    for column, one in zip(columns, sums, strict=True):
        Table(builder, total, stride).store(one.get(), integer(0), column)


def _sum_losses(loss: int) -> Any:
    """Return the function that sums a loss over the draws, for `BATCH` columns of the table."""

    def emit(
        builder: Builder, table: Value, places: Value, n: Value, stride: Value, first: Value,
        joint: Value, true: Value, chosen: Value, n_rows: Value, full: Value, total: Value,
    ) -> None:  # fmt: skip
        sums = [Sum(builder) for _ in range(BATCH // LANES)]
        lines = Table(builder, table, stride)
        columns = [plus(builder, first, v * LANES) for v in range(len(sums))]
        c = [Table(builder, chosen, stride).load(integer(0), column) for column in columns]
        n_rows, full = splat(builder, n_rows), splat(builder, full)
        add, sub, mul = builder.fadd, builder.fsub, builder.fmul

        def choose(sign: str, one: Value, other: Value) -> Value:
            return builder.select(builder.fcmp_ordered(sign, one, other), one, other)

        def value(t: Value, c: Value, j: Value) -> Value:
            if loss == OMARI:
                mean = mul(add(t, c), like(t, 0.5))
                both = mul(sub(t, n_rows), sub(c, n_rows))
                over, under = sub(mean, j), sub(sub(mean, n_rows), builder.fdiv(both, full))
            elif loss == NVI:
                over, under = sub(add(t, c), add(j, j)), sub(full, j)
            else:
                over, under = sub(choose(">", t, c), j), sub(full, choose("<", t, c))
            if loss == ID:
                return over
            return builder.fdiv(over, choose(">", under, like(under, SMALLEST)))

        with for_range(builder, n, intp=INTEGER) as loop:
            place = builder.sext(builder.load(builder.gep(places, [loop.index])), INTEGER)
            j, t = (Table(builder, x, n).load_splat(integer(0), loop.index) for x in (joint, true))
            for v, column in enumerate(columns):
                sums[v].add(value(t, c[v], add(j, lines.load(place, column))))
        for column, one in zip(columns, sums, strict=True):
            Table(builder, total, stride).store(one.get(), integer(0), column)

    return compiled(emit)


sum_lines: Final = compiled(_sum_lines)
sum_omari, sum_nvi, sum_id, sum_nid = (_sum_losses(loss) for loss in (OMARI, NVI, ID, NID))


@kernel
def _empty_state(n_lines: int, n_columns: int, n_draws: int, n: int, g: Array) -> State:
    """Return the state before any row is put."""
    return State(
        np.zeros((n_lines, n_columns), dtype=np.int32),
        np.full((n_lines, n_columns), g[0]),
        np.zeros(n_lines, dtype=np.int32),
        np.zeros(n_draws),
        np.zeros(n_draws),
        np.zeros(n_columns, dtype=np.int64),
        np.full(n, -1, dtype=np.int32),
        np.empty(n_columns),
        np.empty(n_columns),
        np.empty(n_draws),
        np.empty(n_draws),
    )


@kernel
def _put(state: State, task: Task, i: int, column: int) -> None:
    """Put row `i`, which is nowhere, into a column."""
    places, g, total = task.places[i], task.g, 0.0
    for s in range(len(places)):
        line = np.uint64(places[s])
        gain = state.gains[line, column]
        n = state.counts[line, column] + 1
        state.counts[line, column] = n
        state.gains[line, column] = g[n]
        total += gain
        if not task.linear:
            state.joint[s] += gain
            size = state.members[line]
            state.members[line] = size + 1
            state.true[s] += g[size]
    if task.linear:
        state.joint[0] += total
    state.sizes[column] += 1
    state.labels[i] = column


@kernel
def _take(state: State, task: Task, i: int) -> None:
    """Take row `i` out of its column."""
    places, g, total, column = task.places[i], task.g, 0.0, state.labels[i]
    for s in range(len(places)):
        line = np.uint64(places[s])
        n = state.counts[line, column] - 1
        state.counts[line, column] = n
        state.gains[line, column] = g[n]
        total += g[n]
        if not task.linear:
            state.joint[s] -= g[n]
            size = state.members[line] - 1
            state.members[line] = size
            state.true[s] -= g[size]
    if task.linear:
        state.joint[0] -= total
    state.sizes[column] -= 1
    state.labels[i] = -1


@kernel
def _fill_sums(state: State, task: Task, i: int, top: int, empty: int) -> None:
    """Write what row `i` costs in the columns up to `top` and in an empty one: VI and Binder.

    Only what differs between columns is written. What the row's own column costs is written as
    too much, by what the gain of one row more and of the last one can differ, if it is the least
    even so; then it need not be known.
    """
    places, g, cost, own = task.places[i], task.g, state.cost, state.labels[i]
    n_draws, b = len(places), 2.0 - task.a
    for first in range(0, top + 1, BATCH):
        sum_lines(state.gains, places, n_draws, state.gains.shape[1], first, cost)
    for column in range(top + 1):
        cost[column] = b * n_draws * g[state.sizes[column]] - 2.0 * cost[column]
    if empty >= 0:
        cost[empty] = -task.a * n_draws * g[0]
    if own < 0:
        return
    cost[own] += n_draws * (b * (g[state.sizes[own] - 1] - g[state.sizes[own]]) + 2.0 * STEEPEST)
    least = np.inf
    for column in range(max(top, empty) + 1):
        if column != own and (state.sizes[column] > 0 or column == empty):
            least = min(least, cost[column])
    if least < cost[own] and task.loss == VI:
        total = 0.0
        for s in range(n_draws):
            total += g[state.counts[np.uint64(places[s]), own] - 1]
        cost[own] = b * n_draws * g[state.sizes[own] - 1] - 2.0 * total


@kernel
def _fill_losses(state: State, task: Task, i: int, top: int, empty: int) -> None:
    """Write the loss of all rows with row `i` in the columns up to `top` or in an empty one."""
    places, g, f, own = task.places[i], task.g, task.f, state.labels[i]
    n_draws, stride, last = len(places), state.gains.shape[1], max(top, empty)
    n, chosen = 0, 0.0
    for column in range(top + 1):
        n += state.sizes[column]
        chosen += f[state.sizes[column]]
    if own >= 0:
        before = chosen
        chosen -= g[state.sizes[own] - 1]
        mine = 0.0
        for s in range(n_draws):
            joint, true = state.joint[s], state.true[s]
            mine += loss_of(task.loss, task.a, n, f[n], joint, true, before)
            state.joint_before[s] = joint - g[state.counts[np.uint64(places[s]), own] - 1]
            state.true_after[s] = true
    else:
        n += 1
        for s in range(n_draws):
            state.joint_before[s] = state.joint[s]
            state.true_after[s] = state.true[s] + g[state.members[np.uint64(places[s])]]
    for column in range(last + 1):
        state.chosen_after[column] = chosen + g[state.sizes[column]]
    for first in range(0, last + 1, BATCH):
        if task.loss == OMARI:
            sum_omari(
                state.gains, places, n_draws, stride, first, state.joint_before,
                state.true_after, state.chosen_after, float(n), max(f[n] - n, 1.0), state.cost,
            )  # fmt: skip
        elif task.loss == NVI:
            sum_nvi(
                state.gains, places, n_draws, stride, first, state.joint_before,
                state.true_after, state.chosen_after, float(n), f[n], state.cost,
            )  # fmt: skip
        elif task.loss == ID:
            sum_id(
                state.gains, places, n_draws, stride, first, state.joint_before,
                state.true_after, state.chosen_after, float(n), f[n], state.cost,
            )  # fmt: skip
        else:
            sum_nid(
                state.gains, places, n_draws, stride, first, state.joint_before,
                state.true_after, state.chosen_after, float(n), f[n], state.cost,
            )  # fmt: skip
    if task.loss == ID:
        state.cost[: last + 1] /= n
    if own >= 0:
        state.cost[own] = mine


@kernel
def _objective(state: State, task: Task) -> float:
    """Return the loss of the rows that are put, up to what is the same for all partitions."""
    n, chosen = 0, 0.0
    for size in state.sizes:
        n += size
        chosen += task.f[size]
    if task.linear:
        return (2.0 - task.a) * len(state.joint) * chosen - 2.0 * state.joint[0]
    total = 0.0
    for s in range(len(state.joint)):
        joint, true = state.joint[s], state.true[s]
        total += loss_of(task.loss, task.a, n, task.f[n], joint, true, chosen)
    return total


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

    The first empty column is open to a row as long as there may be more clusters.
    """
    moved = 0
    for i in order:
        used, empty, top = 0, -1, 0
        for column in range(len(state.sizes)):
            if state.sizes[column] > 0:
                used += 1
                top = column
            elif empty < 0:
                empty = column
        if used >= task.most:
            empty = -1
        if task.linear:
            _fill_sums(state, task, i, top, empty)
        else:
            _fill_losses(state, task, i, top, empty)
        own = state.labels[i]
        best = own
        for column in range(max(top, empty) + 1):
            if state.sizes[column] == 0 and column != empty:
                continue
            if best < 0 or state.cost[column] < state.cost[best] - task.tie:
                best = column
        if best != own:
            if own >= 0:
                _take(state, task, i)
            _put(state, task, i, best)
            moved += 1
    return moved


@kernel
def _settle_all(state: State, task: Task, order: Order, random: Seeds) -> None:
    """Move rows to where they cost less until none is moved."""
    for _ in range(MOST_SWEEPS):
        _shuffle(order, random)
        if _settle(state, task, order) == 0:
            return


@kernel
def _dissolve(state: State, task: Task, column: int, random: Seeds) -> bool:
    """Put the rows of a cluster anew, one after another, and return whether that is better.

    If it is not, all is as it was before.
    """
    before = _objective(state, task)
    rows = np.flatnonzero(state.labels == column)
    _shuffle(rows, random)
    for i in rows:
        _take(state, task, i)
    _settle(state, task, rows)
    if _objective(state, task) < before - task.tie:
        return True
    for i in rows:
        if state.labels[i] != column:
            _take(state, task, i)
            _put(state, task, i, column)
    return False


@kernel
def search(task: Task, n_lines: int, n_columns: int, start: Labels, random: Seeds) -> Labels:
    """Search for the partition with the least expected loss, once.

    Parameters
    ----------
    task : Task
    n_lines : int
        Clusters of all draws together.
    n_columns : int
        Of the tables, a multiple of `BATCH`: clusters that there can be.
    start : array of int32, shape (N,) or (0,)
        A partition to start from; if empty, rows are put in random order.
    random : array of uint64, shape (1,)
        Not zero; overwritten.

    Returns
    -------
    array of int32, shape (N,)
        In 0 .. n_columns - 1, with gaps. If all are in use more columns might be of use.

    Notes
    -----
    A sweep takes O(N S n_columns) operations. Tables take 12 n_lines n_columns bytes.
    """
    n, n_draws = task.places.shape
    state = _empty_state(n_lines, n_columns, n_draws, n, task.g)
    order, columns = np.arange(n), np.arange(n_columns)
    _shuffle(order, random)
    if len(start) > 0:
        for i in range(n):
            _put(state, task, i, start[i])
    else:
        _settle(state, task, order)
    _settle_all(state, task, order, random)
    _shuffle(columns, random)
    attempts, position = 0, 0
    while attempts < DISSOLVED and position < n_columns:
        column = columns[position]
        position += 1
        if state.sizes[column] == 0:
            continue
        attempts += 1
        if _dissolve(state, task, column, random):
            _settle_all(state, task, order, random)
            _shuffle(columns, random)
            position = 0
    return state.labels


def make_task(
    labels: Labels, loss: int, a: float, most: int
) -> tuple[Task, int]:
    """Return what `search` needs, and the number of lines.

    Parameters
    ----------
    labels : array of int32, shape (S, N)
        The draws: clusters numbered 0, 1, ... without gaps.
    loss : int
    a : float
    most : int
        Clusters that there may be.
    """
    n_draws, n = labels.shape
    bounds = np.concatenate([[0], np.cumsum(labels.max(axis=1) + 1)])
    places = np.empty((n, n_draws), dtype=np.int32)
    np.add(labels.T, bounds[:-1].astype(np.int32), out=places)
    f = terms(n + 1, loss)
    linear = loss in (VI, BINDER)
    unit = n if loss == VI else n * n if loss == BINDER else 1.0
    task = Task(places, f, np.diff(f), loss, a, linear, most, TIE * n_draws * unit)
    return task, int(bounds[-1])
