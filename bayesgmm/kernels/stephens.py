"""Relabelling that learns what it matches draws to: Stephens' rule, and ECR, once or iterated.

All begin with a partition of the rows, and match the components of every draw to its labels so
that the rows keep the largest total responsibility r of their own label: that is ECR
(Papastamoulis & Iliopoulos 2010, with responsibilities for allocations). The means q of the
responsibilities so relabelled say what to match to next: the partition by the largest q, which is
iterated ECR, or log q itself, by which the sum of r log q over rows, components and draws grows:
but for a constant it is the negative of Stephens' cost (2000). Responsibilities are computed anew
in every pass, some draws at a time: nothing of the size of draws x rows x components is stored.
"""

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.assignment import assign
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS
from bayesgmm.kernels.threads import over_draws

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]
type Mixtures = tuple[Array, Array, Array]
"""Log-weights (S, K), means (S, K, D) and lower Cholesky factors (S, K, D, D)."""

CHUNK: Final = 2**18
"""Responsibilities that every thread holds at a time."""
LEAST: Final = 1e-300
"""Mean responsibility below which its logarithm goes no further."""
GAIN: Final = 1e-10
"""Relative gain of a pass up to which it was the last."""
PASSES: Final = 100
"""At most; two to ten are usual."""


class Relabelled(NamedTuple):
    """How draws are relabelled.

    Parameters
    ----------
    permutation : array of int, shape (S, K)
        ``relabelled[s, j] = raw[s, permutation[s, j]]``.
    lead : array, shape (S, K)
        What `lead_each` writes, of a partition of the rows: by the largest mean responsibility,
        but for ECR the one it began with.
    """

    permutation: Labels
    lead: Array


def relabel(
    rows: Array,
    mixtures: Mixtures,
    labels: Labels,
    rule: str,
    alike: NDArray[np.bool_] | None = None,
) -> Relabelled:
    """Match the components of all draws to one another.

    Parameters
    ----------
    rows : array, shape (D, N)
        Standardised data.
    mixtures : tuple of arrays
        Shapes (S, K), (S, K, D), (S, K, D, D).
    labels : array of int, shape (N,)
        The partition to begin with, values in 0 .. K - 1.
    rule : str
        ``"ecr"``, ``"ecr_iterative"`` or ``"stephens"``.
    alike : array of bool, shape (K, K), optional
        Pairs of components that may swap names; by default all.

    Returns
    -------
    Relabelled

    Notes
    -----
    O(S N K D^2 + S K^3) operations a pass, and S N K^2 for Stephens' rule: one pass for ECR, two
    at the least for the others, five or so where components overlap. S K^4 in the end. In as many
    threads as there are cores; memory O(S K^2 + K N).
    """
    current = _match(rows, mixtures, labels, None, alike)
    confusion = current.confusion
    reached = -np.inf if rule == "stephens" else current.gain
    for _ in range(0 if rule == "ecr" else PASSES):
        partition = np.asarray(current.mean.argmax(axis=0), dtype=np.int64)
        targets = np.log(np.maximum(current.mean, LEAST)) if rule == "stephens" else None
        following = _match(rows, mixtures, partition, targets, alike)
        confusion = following.confusion
        if np.array_equal(
            following.permutation, current.permutation
        ) or following.gain <= reached + GAIN * abs(reached):
            break
        current, reached = following, following.gain
    return Relabelled(current.permutation, leads(confusion, current.permutation))


def leads(confusion: Array, permutation: Labels) -> Array:
    """Return by how much matchings beat all others, shape (S, K), as `lead_each` writes it."""
    lead = np.empty(permutation.shape)
    over_draws(
        lambda part: lead_each(confusion[part], permutation[part], lead[part]), len(permutation)
    )
    return lead


def confusions(rows: Array, mixtures: Mixtures, labels: Labels) -> Array:
    """Return how draws and a partition agree, shape (S, K, K), as `fill_confusion` writes it."""
    n_draws, n_components = mixtures[0].shape
    confusion = np.empty((n_draws, n_components, n_components))

    def do(part: slice) -> None:
        for some, shares in responsibilities(rows, mixtures, part):
            fill_confusion(shares, labels, confusion[some])

    over_draws(do, n_draws)
    return confusion


def responsibilities(rows: Array, mixtures: Mixtures, part: slice) -> Iterator[tuple[slice, Array]]:
    """Yield the responsibilities under some draws, a few draws at a time.

    Parameters
    ----------
    rows : array, shape (D, N)
    mixtures : tuple of arrays
    part : slice
        The draws.

    Yields
    ------
    some : slice
        Which draws.
    shares : array, shape (n, K, N)
        Overwritten when the next are asked for.
    """
    log_weights, means, cholesky = mixtures
    n_components, n_rows = log_weights.shape[1], rows.shape[1]
    at_once = max(1, CHUNK // (n_components * n_rows))
    room = np.empty((min(at_once, part.stop - part.start), n_components, n_rows))
    for start in range(part.start, part.stop, at_once):
        some = slice(start, min(start + at_once, part.stop))
        shares = room[: some.stop - start]
        shares[:] = 0.0  # those of a single draw are added to what is there
        fill_draws(
            rows, log_weights[some], means[some], cholesky[some],
            NO_ARRAY, shares, NO_LABELS, NO_CUBE,
        )  # fmt: skip
        yield some, shares


def summed(task: Callable[[slice], Array], n_draws: int) -> Array:
    """Return the sum of what a task gives for all draws, a thread per core, in their order."""
    found: dict[int, Array] = {}

    def do(part: slice) -> None:
        found[part.start] = task(part)

    over_draws(do, n_draws)
    return np.sum([found[start] for start in sorted(found)], axis=0)


class _Matched(NamedTuple):
    """What a pass finds: matchings, their total gain, agreement with labels, means relabelled."""

    permutation: Labels
    gain: float
    confusion: Array
    mean: Array


def _match(
    rows: Array,
    mixtures: Mixtures,
    labels: Labels,
    targets: Array | None,
    alike: NDArray[np.bool_] | None,
) -> _Matched:
    """Match all draws to targets, shape (K, N), or else to a partition, and average them."""
    n_draws, n_components = mixtures[0].shape
    confusion = np.empty((n_draws, n_components, n_components))
    permutation = np.empty((n_draws, n_components), dtype=np.int64)
    gain = np.empty(n_draws)

    def do(part: slice) -> Array:
        total = np.zeros((n_components, rows.shape[1]))
        for some, shares in responsibilities(rows, mixtures, part):
            fill_confusion(shares, labels, confusion[some])
            gains = confusion[some]
            if targets is not None:
                gains = np.empty_like(gains)
                fill_gains(shares, targets, gains)
            if alike is not None:
                confusion[some][:, ~alike] = -np.inf
                gains[:, ~alike] = -np.inf
            match_each(gains, permutation[some], gain[some])
            add_relabelled(shares, permutation[some], total)
        return total

    mean = summed(do, n_draws) / n_draws
    return _Matched(permutation, float(gain.sum()), confusion, mean)


@kernel(fastmath=frozenset({"reassoc", "contract"}))
def dot(one: Array, other: Array) -> float:
    """Return the sum of products."""
    total = 0.0
    for i in range(one.size):
        total += one[i] * other[i]
    return total


@kernel
def fill_gains(shares: Array, targets: Array, gains: Array) -> None:
    """Write what every component of some draws gains from every target.

    Parameters
    ----------
    shares : array, shape (S, K, N)
        Responsibilities.
    targets : array, shape (K, N)
    gains : array, shape (S, K, K)
        Overwritten with the sums over rows of component k's share times target j.
    """
    for s in range(shares.shape[0]):
        for k in range(shares.shape[1]):
            for j in range(targets.shape[0]):
                gains[s, k, j] = dot(shares[s, k], targets[j])


@kernel
def fill_confusion(shares: Array, labels: Labels, confusion: Array) -> None:
    """Write how much of every label is component k's, under some draws.

    Parameters
    ----------
    shares : array, shape (S, K, N)
        Responsibilities.
    labels : array of int, shape (N,)
    confusion : array, shape (S, K, K)
        Overwritten with the sums of component k's share over the rows with label j.
    """
    confusion[:] = 0.0
    for s in range(shares.shape[0]):
        for k in range(shares.shape[1]):
            for i in range(labels.size):
                confusion[s, k, labels[i]] += shares[s, k, i]


@kernel
def match_each(gains: Array, permutation: Labels, gain: Array) -> None:
    """Write the matching with the largest gain of every draw.

    Parameters
    ----------
    gains : array, shape (S, K, K)
    permutation : array of int, shape (S, K)
        Overwritten with the component matched to each target.
    gain : array, shape (S,)
        Overwritten with the gains.
    """
    for s in range(gains.shape[0]):
        gain[s], permutation[s] = assign(gains[s])


@kernel
def lead_each(gains: Array, permutation: Labels, lead: Array) -> None:
    """Write by how much a matching beats every other, target by target.

    Parameters
    ----------
    gains : array, shape (S, K, K)
    permutation : array of int, shape (S, K)
        The component matched to each target.
    lead : array, shape (S, K)
        Overwritten with the gain of the matching less that of the best one that gives the target
        another component; 0 where that is better, inf for K = 1.

    Notes
    -----
    O(S K^4) operations.
    """
    n = gains.shape[1]
    for s in range(gains.shape[0]):
        total = 0.0
        for j in range(n):
            total += gains[s, permutation[s, j], j]
        for j in range(n):
            lead[s, j] = np.inf
            if n > 1:
                forbidden = gains[s].copy()
                forbidden[permutation[s, j], j] = -np.inf
                lead[s, j] = max(total - assign(forbidden)[0], 0.0)


@kernel
def add_relabelled(shares: Array, permutation: Labels, total: Array) -> None:
    """Add the responsibilities (S, K, N) under some draws, relabelled, to a sum (K, N)."""
    for s in range(shares.shape[0]):
        for j in range(total.shape[0]):
            share = shares[s, permutation[s, j]]
            for i in range(total.shape[1]):
                total[j, i] += share[i]
