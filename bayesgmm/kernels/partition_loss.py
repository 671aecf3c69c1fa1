"""How far partitions are from one another, by the counts of rows that two clusters share.

With n rows, t_z of them in cluster z of the one partition, c_k in cluster k of the other and
n_zk in both, all losses are functions of three sums,

    J = sum_zk f(n_zk)      T = sum_z f(t_z)      C = sum_k f(c_k)

with f(m) = m log2 m where entropies are compared and f(m) = m^2 where pairs of rows are.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.threads import over_draws

type Array = NDArray[np.float64]
type Labels = NDArray[np.int32]

VI, BINDER, OMARI, NVI, ID, NID = range(6)
LOSSES: Final = {"vi": VI, "binder": BINDER, "omari": OMARI, "nvi": NVI, "id": ID, "nid": NID}
"""The number of each loss in kernels, by its public name."""
PAIRS: Final = (BINDER, OMARI)
"""Losses that count pairs of rows; the others compare entropies."""
BLOCK_BYTES: Final = 2**26
"""Memory for the distances between some partitions and all draws."""


def terms(n_obs: int, loss: int) -> Array:
    """Return f(0), ..., f(n_obs), shape (n_obs + 1,)."""
    count = np.arange(n_obs + 1, dtype=np.float64)
    if loss in PAIRS:
        return count**2
    return count * np.log2(np.maximum(count, 1.0))


@kernel
def loss_of(
    loss: int, a: float, n: int, full: float, joint: float, true: float, chosen: float
) -> float:
    """Return the loss of choosing one partition where another is true.

    Parameters
    ----------
    loss : int
        One of the constants above.
    a : float
        Of VI and Binder: what it costs to separate rows that belong together, in [0, 2]; to join
        rows that do not costs 2 - a.
    n : int
        Rows.
    full : float
        f(n).
    joint, true, chosen : float
        The sums J, T and C.
    """
    if loss in (VI, BINDER):
        split, joined = max(true - joint, 0.0), max(chosen - joint, 0.0)
        return (a * split + (2.0 - a) * joined) / (n if loss == VI else full)
    if loss == OMARI:
        if true == chosen and (true == full or true <= n):
            return 0.0  # both are n clusters, or both are one
        together, separate = 0.5 * (true - n), 0.5 * (chosen - n)
        expected = together * separate / (0.5 * (full - n))
        most = 0.5 * (together + separate)
        return (most - 0.5 * (joint - n)) / (most - expected)
    far = max(max(true, chosen) - joint, 0.0)  # n times the information distance, in bits
    if loss == ID:
        return far / n
    if loss == NID:
        most = full - min(true, chosen)
        return far / most if most > 0.0 else 0.0
    if joint >= full:
        return 0.0  # both are one cluster
    return max(true + chosen - 2.0 * joint, 0.0) / (full - joint)


@kernel
def fill_compact(values: NDArray[np.int64], n_values: int, compact: Labels) -> None:
    """Write partitions with clusters numbered 0, 1, ... in the order of their first rows.

    Parameters
    ----------
    values : array of int, shape (S, N)
        In 0 .. n_values - 1.
    n_values : int
    compact : array of int32, shape (S, N)
        Overwritten; it may be `values`.
    """
    number = np.empty(n_values, dtype=np.int32)
    for s in range(len(values)):
        number[:] = -1
        n_clusters = 0
        for i in range(values.shape[1]):
            value = values[s, i]
            if number[value] < 0:
                number[value] = n_clusters
                n_clusters += 1
            compact[s, i] = number[value]


@kernel
def fill_sums(labels: Labels, f: Array, sums: Array, n_clusters: NDArray[np.int64]) -> None:
    """Write the sum of f over the sizes of its clusters for every partition, and their number.

    Parameters
    ----------
    labels : array of int32, shape (S, N)
        In 0 .. n_clusters - 1 for every partition.
    f : array, shape (N + 1,)
    sums : array, shape (S,)
    n_clusters : array of int, shape (S,)
    """
    sizes = np.empty(labels.shape[1], dtype=np.int32)
    for s in range(len(labels)):
        most = 0
        for label in labels[s]:
            most = max(most, label)
        sizes[: most + 1] = 0
        for label in labels[s]:
            sizes[label] += 1
        sums[s] = 0.0
        for k in range(most + 1):
            sums[s] += f[sizes[k]]
        n_clusters[s] = most + 1


@kernel
def fill_joint(
    labels: Labels, n_clusters: NDArray[np.int64], other: Labels, n_others: int, f: Array,
    joint: Array,
) -> None:  # fmt: skip
    """Write the sum of f over the counts that clusters share, for every partition and another.

    Parameters
    ----------
    labels : array of int32, shape (S, N)
        In 0 .. n_clusters - 1 for every partition.
    n_clusters : array of int, shape (S,)
    other : array of int32, shape (N,)
        In 0 .. n_others - 1.
    n_others : int
    f : array, shape (N + 1,)
    joint : array, shape (S,)
    """
    n_draws, n = labels.shape
    table = np.zeros(int(n_clusters.max()) * n_others, dtype=np.int32)
    width = np.uint64(n_others)
    for s in range(n_draws):
        row, total, size = labels[s], 0.0, n_clusters[s] * n_others
        for i in range(n):
            table[np.uint64(row[i]) * width + np.uint64(other[i])] += 1
        if size <= n:
            for place in range(size):
                total += f[table[place]]
            table[:size] = 0
        else:  # most counts are zero
            for i in range(n):
                cell = np.uint64(row[i]) * width + np.uint64(other[i])
                total += f[table[cell]]
                table[cell] = 0
        joint[s] = total


@kernel
def fill_losses(
    loss: int, a: float, n: int, full: float, joint: Array, true: Array, chosen: float,
    losses: Array,
) -> None:  # fmt: skip
    """Write the loss of choosing one partition where each of some is true; see `loss_of`."""
    for s in range(len(losses)):
        losses[s] = loss_of(loss, a, n, full, joint[s], true[s], chosen)


def compacted(labels: NDArray[np.int64], n_values: int) -> Labels:
    """Return partitions with clusters numbered 0, 1, ... in the order of their first rows.

    Parameters
    ----------
    labels : array of int, shape (S, N)
        In 0 .. n_values - 1.
    n_values : int

    Returns
    -------
    array of int32, shape (S, N)
    """
    compact = np.empty(labels.shape, dtype=np.int32)
    over_draws(lambda part: fill_compact(labels[part], n_values, compact[part]), len(labels))
    return compact


def distances(labels: Labels, other: Labels, loss: int, a: float = 1.0) -> Array:
    """Return the loss of every partition in `other` where every one in `labels` is true.

    Parameters
    ----------
    labels : array of int32, shape (S, N)
        The draws: clusters numbered 0, 1, ... without gaps.
    other : array of int32, shape (R, N)
        The choices, numbered likewise.
    loss : int
        One of the values of `LOSSES`.
    a : float
        See `loss_of`.

    Returns
    -------
    array, shape (S, R)

    Notes
    -----
    O(S R N) operations, in as many threads as there are cores; memory O(S R).
    """
    n_draws, n = labels.shape
    f = terms(n, loss)
    true, n_clusters = np.empty(n_draws), np.empty(n_draws, dtype=np.int64)
    chosen, n_others = np.empty(len(other)), np.empty(len(other), dtype=np.int64)
    fill_sums(other, f, chosen, n_others)
    result = np.empty((len(other), n_draws))

    def fill(part: slice) -> None:
        fill_sums(labels[part], f, true[part], n_clusters[part])
        joint = np.empty(part.stop - part.start)
        for r in range(len(other)):
            fill_joint(labels[part], n_clusters[part], other[r], n_others[r], f, joint)
            fill_losses(loss, a, n, f[n], joint, true[part], chosen[r], result[r, part])

    over_draws(fill, n_draws)
    return result.T


def expected_losses(
    labels: Labels, other: Labels, loss: int, a: float = 1.0, weights: Array | None = None
) -> Array:
    """Return the loss of every partition in `other`, averaged over the draws, shape (R,).

    Arguments and cost are those of `distances`; memory is bounded. `weights`, shape (S,), are
    those of the draws, by default equal.
    """
    step = max(1, BLOCK_BYTES // (8 * len(labels)))
    parts = [
        np.average(distances(labels, other[start : start + step], loss, a), 0, weights)
        for start in range(0, len(other), step)
    ]
    return np.concatenate(parts)


@kernel
def all_partitions(n: int, most: int) -> Labels:
    """Return every partition of n rows into at most so many clusters, one a line.

    Clusters are numbered in the order of their first rows; lines ascend. There are 1, 2, 5, 15,
    52, 203, 877, 4140, 21147 for n = 1, ..., 9.
    """
    found = [np.zeros(n, dtype=np.int32)]
    while True:
        last = found[-1]
        place = n - 1
        while place > 0:
            highest = last[:place].max()
            if last[place] <= highest and last[place] + 1 < most:
                break
            place -= 1
        if place <= 0:
            break
        following = last.copy()
        following[place] += 1
        following[place + 1 :] = 0
        found.append(following)
    partitions = np.empty((len(found), n), dtype=np.int32)
    for line in range(len(found)):
        partitions[line] = found[line]
    return partitions
