"""What a row costs in each cluster of a partition, by the expected loss of the partition.

It follows from the counts that the cluster shares with the row's own cluster in every draw. These
counts n, and the gains f(n + 1) - f(n) of one row more (see `kernels.partition_loss`), are kept in
tables with a line for every cluster of every draw and a column for every cluster of the partition,
`BATCH` columns in a table. The gains of a row in all columns are then the sum of one line for each
draw, which lies together in memory. The lines of row i are `places[i]`.
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
    splat,
)
from bayesgmm.kernels.partition_loss import BINDER, ID, NID, NVI, OMARI, VI, Labels, loss_of, terms

type Array = NDArray[np.float64]
type Order = NDArray[np.int64]

BATCH: Final = 8
"""Columns that are summed at once; tables are padded to a multiple of it."""
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
    ends : array of int, shape (S,)
        The line after the last one of every draw.
    f : array, shape (N + 2,)
    g : array, shape (N + 1,)
        Gains: g(n) = f(n + 1) - f(n).
    loss : int
    a : float
    linear : bool
        Whether the loss is that of VI or Binder, a sum over the clusters.
    most : int
        Clusters that there may be.
    tie : float
        Costs that differ by less are equal.
    """

    places: Labels
    ends: Order
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
    counts : array of int32, shape (n_columns / BATCH, n_lines, BATCH)
        Rows that a cluster of a draw and one of the partition share.
    gains : array, shape (n_columns / BATCH, n_lines, BATCH)
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
    cost, chosen_after : arrays, shape (n_columns + 1,)
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


def _sum_lines(builder: Builder, table: Value, places: Value, n: Value, total: Value) -> None:
    """Write the sum of some lines of a table."""
    sums = [Sum(builder) for _ in range(BATCH // LANES)]
    lines = Table(builder, table, integer(BATCH))
    columns = [integer(v * LANES) for v in range(len(sums))]
    with for_range(builder, n, intp=INTEGER) as loop:
        place = builder.sext(builder.load(builder.gep(places, [loop.index])), INTEGER)
        for column, one in zip(columns, sums, strict=True):
            one.add(lines.load(place, column))
    for column, one in zip(columns, sums, strict=True):
        Table(builder, total, n).store(one.get(), integer(0), column)


def _sum_losses(loss: int) -> Any:
    """Return the function that sums a loss over the draws, for all columns of a table."""

    def emit(
        builder: Builder, table: Value, places: Value, n: Value, joint: Value, true: Value,
        chosen: Value, n_rows: Value, full: Value, total: Value,
    ) -> None:  # fmt: skip
        sums = [Sum(builder) for _ in range(BATCH // LANES)]
        lines = Table(builder, table, integer(BATCH))
        columns = [integer(v * LANES) for v in range(len(sums))]
        c = [Table(builder, chosen, n).load(integer(0), column) for column in columns]
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
            Table(builder, total, n).store(one.get(), integer(0), column)

    return compiled(emit)


sum_lines: Final = compiled(_sum_lines)
sum_omari, sum_nvi, sum_id, sum_nid = (_sum_losses(loss) for loss in (OMARI, NVI, ID, NID))


@kernel
def empty_state(n_lines: int, n_columns: int, n_draws: int, n: int, g: Array) -> State:
    """Return the state before any row is put."""
    return State(
        np.zeros((n_columns // BATCH, n_lines, BATCH), dtype=np.int32),
        np.full((n_columns // BATCH, n_lines, BATCH), g[0]),
        np.zeros(n_lines, dtype=np.int32),
        np.zeros(n_draws),
        np.zeros(n_draws),
        np.zeros(n_columns, dtype=np.int64),
        np.full(n, -1, dtype=np.int32),
        np.empty(n_columns + 1),
        np.empty(n_columns + 1),
        np.empty(n_draws),
        np.empty(n_draws),
    )


@kernel
def put(state: State, task: Task, i: int, column: int) -> None:
    """Put row `i`, which is nowhere, into a column."""
    places, g, total = task.places[i], task.g, 0.0
    counts, gains = state.counts[column // BATCH], state.gains[column // BATCH]
    within = np.uint64(column % BATCH)
    for s in range(len(places)):
        line = np.uint64(places[s])
        gain, n = gains[line, within], np.uint64(counts[line, within] + 1)
        counts[line, within] = n
        gains[line, within] = g[n]
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
def take(state: State, task: Task, i: int) -> None:
    """Take row `i` out of its column."""
    places, g, total, column = task.places[i], task.g, 0.0, state.labels[i]
    counts, gains = state.counts[column // BATCH], state.gains[column // BATCH]
    within = np.uint64(column % BATCH)
    for s in range(len(places)):
        line = np.uint64(places[s])
        n = np.uint64(counts[line, within] - 1)
        counts[line, within] = n
        gains[line, within] = g[n]
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
def clear(state: State, task: Task, column: int) -> None:
    """Take all rows out of a column."""
    counts, gains = state.counts[column // BATCH], state.gains[column // BATCH]
    within, last = column % BATCH, task.ends[-1]
    s = 0
    for line in range(last):
        if line == task.ends[s]:
            s += 1
        n = counts[line, within]
        counts[line, within] = 0
        gains[line, within] = task.g[0]
        if task.linear:
            state.joint[0] -= task.f[n]
        else:
            size = state.members[line]
            state.members[line] = size - n
            state.joint[s] -= task.f[n]
            state.true[s] += task.f[size - n] - task.f[size]
    state.sizes[column] = 0
    for i in range(len(state.labels)):
        if state.labels[i] == column:
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
    for batch in range(top // BATCH + 1):
        sum_lines(state.gains[batch], places, n_draws, cost[batch * BATCH :])
    for column in range(top + 1):
        cost[column] = b * n_draws * g[state.sizes[column]] - 2.0 * cost[column]
    if empty >= 0:
        cost[empty] = -task.a * n_draws * g[0]
    if own < 0:
        return
    cost[own] += n_draws * (b * (g[state.sizes[own] - 1] - g[state.sizes[own]]) + 2.0 * STEEPEST)
    least = np.inf
    for column in range(max(top, empty) + 1):
        if column != own and (column == empty or state.sizes[column] > 0):
            least = min(least, cost[column])
    if least < cost[own] and task.loss == VI:
        total, counts, within = 0.0, state.counts[own // BATCH], np.uint64(own % BATCH)
        for s in range(n_draws):
            total += g[np.uint64(counts[np.uint64(places[s]), within] - 1)]
        cost[own] = b * n_draws * g[state.sizes[own] - 1] - 2.0 * total


@kernel
def _fill_losses(state: State, task: Task, i: int, top: int, empty: int) -> None:
    """Write the loss of all rows with row `i` in the columns up to `top` or in an empty one."""
    places, g, f, own = task.places[i], task.g, task.f, state.labels[i]
    joint, true, chosen = state.joint_before, state.true_after, state.chosen_after
    n_draws, n, before = len(places), 0, 0.0
    for column in range(top + 1):
        n += state.sizes[column]
        before += f[state.sizes[column]]
    without, mine, other = before, 0.0, 0.0
    if own >= 0:
        counts, within = state.counts[own // BATCH], np.uint64(own % BATCH)
        without -= g[state.sizes[own] - 1]
        for s in range(n_draws):
            true[s] = state.true[s]
            joint[s] = state.joint[s] - g[np.uint64(counts[np.uint64(places[s]), within] - 1)]
            mine += loss_of(task.loss, task.a, n, f[n], state.joint[s], true[s], before)
    else:
        n += 1
        for s in range(n_draws):
            true[s] = state.true[s] + g[state.members[np.uint64(places[s])]]
            joint[s] = state.joint[s]
    last, beyond = max(top, empty), empty == len(state.sizes)
    if beyond:
        last = top
        for s in range(n_draws):
            after = joint[s] + g[0]
            other += loss_of(task.loss, task.a, n, f[n], after, true[s], without + g[0])
    for column in range(last + 1):
        chosen[column] = without + g[state.sizes[column]]
    for batch in range(last // BATCH + 1):
        gains, part = state.gains[batch], slice(batch * BATCH, batch * BATCH + BATCH)
        ways = (places, n_draws, joint, true, chosen[part], float(n))
        if task.loss == OMARI:
            sum_omari(gains, *ways, max(f[n] - n, 1.0), state.cost[part])
        elif task.loss == NVI:
            sum_nvi(gains, *ways, f[n], state.cost[part])
        elif task.loss == ID:
            sum_id(gains, *ways, f[n], state.cost[part])
        else:
            sum_nid(gains, *ways, f[n], state.cost[part])
    if task.loss == ID:
        state.cost[: last + 1] /= n
    if beyond:
        state.cost[empty] = other
    if own >= 0:
        state.cost[own] = mine


@kernel
def objective(state: State, task: Task) -> float:
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
def fill_costs(state: State, task: Task, i: int, top: int, empty: int) -> None:
    """Write what row `i` costs in the columns up to `top`, and in an empty one if that is >= 0."""
    if task.linear:
        _fill_sums(state, task, i, top, empty)
    else:
        _fill_losses(state, task, i, top, empty)


def make_task(labels: Labels, loss: int, a: float, most: int) -> tuple[Task, int]:
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
    task = Task(places, bounds[1:], f, np.diff(f), loss, a, linear, most, TIE * n_draws * unit)
    return task, int(bounds[-1])
