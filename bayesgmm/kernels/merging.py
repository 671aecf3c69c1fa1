"""Components merged, one pair after another, until one cluster is left."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

LEAST_ROWS: Final = 0.5
"""Expected number of rows below which a component is empty."""
UNDECIDED: Final = math.log(2.0)
"""Entropy of one row that belongs to either of two clusters."""


@kernel
def _log(x: float) -> float:
    """Return log(x), and 0 for 0, by which it will be multiplied."""
    return math.log(x) if x > 0.0 else 0.0


@kernel
def _gains(shares: Array, logs: Array, counts: Array, i: int, j: int) -> tuple[float, float]:
    """Return the entropy that merging two clusters would save, and the misclassification."""
    saved, of_i, of_j = 0.0, 0.0, 0.0
    for n in range(shares.shape[1]):
        a, b = shares[i, n], shares[j, n]
        if a > 0.0 and b > 0.0:
            log_sum = math.log(a + b)
            saved += a * (log_sum - logs[i, n]) + b * (log_sum - logs[j, n])
        if a >= b:
            of_j += b
        else:
            of_i += a
    return saved, max(of_i / counts[i] if counts[i] > 0.0 else 1.0,
                      of_j / counts[j] if counts[j] > 0.0 else 1.0)  # fmt: skip


@kernel
def merge_path(
    shares: Array, entropy: bool, clusters: Labels, values: Array, entropies: Array, sizes: Array
) -> int:
    """Merge clusters, each time the two whose merging gains the most; empty ones first.

    Parameters
    ----------
    shares : array, shape (K, N)
        Responsibilities; afterwards no longer.
    entropy : bool
        Gain is the entropy lost by the merging; if False, the larger of the two shares of rows
        that are taken for the other's. Each breaks the ties of the other.
    clusters : array of int, shape (K, K)
        Overwritten: ``clusters[g - 1, k]`` is the cluster of component k when there are g,
        numbered by their first components.
    values : array, shape (K,)
        Overwritten: ``values[g - 1]`` is the gain that g clusters are merged to g - 1 for; NaN
        for one cluster.
    entropies : array, shape (K,)
        Overwritten with the entropy of g clusters, in nats.
    sizes : array, shape (K,)
        Overwritten: ``sizes[g - 1]`` is the expected number of rows in the cluster that g are
        merged to g - 1 by; NaN for one.

    Returns
    -------
    int
        How many clusters there are once no empty component is left.

    Notes
    -----
    O(N K^2): pairs that a merging does not touch keep their gains.
    """
    n_components, n_rows = shares.shape
    logs, counts = np.empty(shares.shape), np.zeros(n_components)
    own = np.zeros(n_components)
    gains = np.empty((2, n_components, n_components))
    which = 0 if entropy else 1
    label = np.arange(n_components)
    for k in range(n_components):
        for n in range(n_rows):
            logs[k, n] = _log(shares[k, n])
            counts[k] += shares[k, n]
            own[k] -= shares[k, n] * logs[k, n]
        for i in range(k):
            gains[0, i, k], gains[1, i, k] = _gains(shares, logs, counts, i, k)
    occupied = n_components
    for n_clusters in range(n_components, 0, -1):
        number, total = 0, 0.0
        for k in range(n_components):
            if label[k] == k:
                total += own[k]
                clusters[n_clusters - 1, k] = number
                number += 1
            else:
                clusters[n_clusters - 1, k] = clusters[n_clusters - 1, label[k]]
        entropies[n_clusters - 1] = max(0.0, total)  # rounding may leave it below
        if n_clusters == 1:
            break
        best, tie, first, second, empty = -np.inf, -np.inf, 0, 0, False
        for i in range(n_components):
            for j in range(i + 1, n_components):
                if label[i] != i or label[j] != j:
                    continue
                touched = min(counts[i], counts[j]) < LEAST_ROWS
                gain, other = gains[which, i, j], gains[1 - which, i, j]
                better = gain > best or (gain == best and other > tie)
                if (touched and not empty) or (touched == empty and better):
                    best, tie, first, second, empty = gain, other, i, j, touched
        values[n_clusters - 1] = best
        sizes[n_clusters - 1] = counts[first] + counts[second]
        if empty:
            occupied = n_clusters - 1
        for k in range(n_components):
            if label[k] == second:
                label[k] = first
        counts[first] += counts[second]
        own[first] = 0.0
        for n in range(n_rows):
            shares[first, n] += shares[second, n]
            logs[first, n] = _log(shares[first, n])
            own[first] -= shares[first, n] * logs[first, n]
        for k in range(n_components):
            if label[k] == k and k != first:
                low, high = min(k, first), max(k, first)
                gains[0, low, high], gains[1, low, high] = _gains(shares, logs, counts, low, high)
    values[0] = sizes[0] = np.nan
    entropies[0] = 0.0
    return occupied


@kernel
def elbow(entropies: Array, sizes: Array, occupied: int) -> int:
    """Return where the entropy of 1, 2, ... clusters bends: two lines that meet there fit it best.

    Parameters
    ----------
    entropies, sizes : array, shape (K,)
        As `merge_path` writes them: the sizes are the distances between numbers of clusters, so
        that the slope is the entropy for each row that is merged.
    occupied : int
        Only so many clusters are looked at; all of them are right where they are fewer than
        three, which have no bend, or where all their entropy is below that of one undecided row.
    """
    if occupied < 3 or entropies[occupied - 1] < UNDECIDED:
        return occupied
    x = np.zeros(occupied)
    for g in range(1, occupied):
        x[g] = x[g - 1] + sizes[g]
    best, chosen = np.inf, occupied
    for bend in range(2, occupied):
        misfit = 0.0
        for begin, end in ((0, bend), (bend - 1, occupied)):
            middle, mean = x[begin:end].mean(), entropies[begin:end].mean()
            across, up, both = 0.0, 0.0, 0.0
            for g in range(begin, end):
                across += (x[g] - middle) ** 2
                up += (entropies[g] - mean) ** 2
                both += (x[g] - middle) * (entropies[g] - mean)
            misfit += max(0.0, up - both * both / across)
        if misfit < best:
            best, chosen = misfit, bend
    return chosen


@kernel
def stop(values: Array, occupied: int, threshold: float) -> int:
    """Return how many clusters are left when no merging gains so much as a threshold."""
    n_clusters = occupied
    while n_clusters > 1 and values[n_clusters - 1] >= threshold:
        n_clusters -= 1
    return n_clusters


@kernel
def fill_paths(
    shares: Array,
    entropy: bool,
    threshold: float,
    clusters: Labels,
    values: Array,
    entropies: Array,
    proposed: Labels,
) -> None:
    """Write the path of every draw and the number of clusters that it proposes.

    Parameters
    ----------
    shares : array, shape (S, K, N)
        Responsibilities.
    entropy : bool
        As `merge_path` takes it: the number is that of the `elbow`, else where merging is to
        `stop`.
    threshold : float
        Where to stop.
    clusters, values, entropies : arrays, shapes (S, K, K), (S, K), (S, K)
        Overwritten as `merge_path` says.
    proposed : array of int, shape (S,)
        Overwritten.
    """
    sizes = np.empty(shares.shape[1])
    for s in range(len(shares)):
        occupied = merge_path(shares[s], entropy, clusters[s], values[s], entropies[s], sizes)
        if entropy:
            proposed[s] = elbow(entropies[s], sizes, occupied)
        else:
            proposed[s] = stop(values[s], occupied, threshold)
