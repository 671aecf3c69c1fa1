"""Where EM starts: labels of the rows, of so many of them as tell starts apart."""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.seeding import kmeans_labels
from bayesgmm.problem import Problem
from bayesgmm.records import filled

type Array = NDArray[np.float64]

SCREENED_ROWS = 5000
"""Starts are compared on at most this many rows, drawn at random; the best go on to them all."""
HIERARCHICAL_ROWS = 1000
"""Up to this many rows one start comes from Ward's hierarchical clustering."""
FAR_OUT = (0.1, 0.9)
"""Quantiles from which on cells may be far out."""
LLOYD_SWEEPS = 3
"""Iterations of k-means before EM takes over."""


class Sample(NamedTuple):
    """Some of the rows of a problem, shape (D', n), and how many each stands for.

    Weights of shape (0,) are all 1.
    """

    rows: Array
    weights: Array

    @classmethod
    def whole(cls, problem: Problem) -> Self:
        """Return all rows."""
        return cls(problem.rows, problem.row_weights)

    def some(self, chosen: Any) -> Self:
        """Return those of some places."""
        weights = self.weights[chosen] if self.weights.size else self.weights
        return self._replace(rows=np.ascontiguousarray(self.rows[:, chosen]), weights=weights)


def screened_rows(problem: Problem, rng: np.random.Generator) -> Sample:
    """Return rows that stand for all, half of them such as are labelled, if there are so many."""
    every = Sample.whole(problem)
    n_obs, weighted = problem.data.n_obs, every.weights.size > 0
    if problem.data.allowed is None and not weighted:  # without an array of the size of a column
        return every.some(np.sort(rng.choice(n_obs, SCREENED_ROWS, replace=False)))
    counted = np.flatnonzero(every.weights) if weighted else np.arange(n_obs)
    if problem.data.allowed is None:
        n_rows = min(SCREENED_ROWS, counted.size)
        return every.some(np.sort(rng.choice(counted, n_rows, replace=False)))
    allowed = problem.data.allowed[counted]
    told = (allowed != allowed[:, :1]).any(axis=1)
    parts = []
    for members in (counted[told], counted[~told]):
        chosen = rng.choice(members, min(SCREENED_ROWS // 2, members.size), replace=False)
        part = every.some(np.sort(chosen))
        times = np.full(chosen.size, members.size / max(chosen.size, 1))
        parts.append(part._replace(weights=times * part.weights if part.weights.size else times))
    rows, weights = (np.concatenate(both, axis=-1) for both in zip(*parts, strict=True))
    return Sample(rows, weights)


def drawn_in(problem: Problem, cells: Array) -> Array:
    """Return cells, shape (D, n), and with heavy tails or noise those that are far out nearer.

    Else outliers are a cluster of their own to begin with. Half the distance between the first and
    the last tenth of a feature is left beside these.
    """
    if not (problem.df.size or problem.layout.n_noise):
        return cells
    low, high = np.quantile(cells, FAR_OUT, axis=1, keepdims=True)
    room = 0.5 * (high - low)
    return np.clip(cells, low - room, high + room)


def starting_labels(
    problem: Problem,
    sample: Sample,
    rng: np.random.Generator,
    start: int,
    hierarchical: bool,
) -> NDArray[np.int64]:
    """Return the labels that a start begins with."""
    n_components, n_rows = problem.layout.n_components, sample.rows.shape[1]
    rows = filled(sample.rows, problem.layout.n_features)
    if start % 2 == 0:
        rows = drawn_in(problem, rows)
    offsets = sample.rows[problem.layout.n_features :][:n_components]
    if problem.layout.n_noise and problem.data.allowed is None:
        offsets = offsets[:0]  # what is there is of the noise
    hierarchical = hierarchical and offsets.size == 0  # whose clusters have no names
    if hierarchical and start == 0 and 1 < n_components < n_rows <= HIERARCHICAL_ROWS:
        from scipy.cluster.hierarchy import fcluster, linkage

        tree = linkage(rows.T, method="ward")
        tree[:, 2] = np.arange(len(tree))  # no ties: exactly so many clusters
        return np.asarray(fcluster(tree, len(tree) - n_components, "distance"), dtype=np.int64) - 1
    if start % 3 == 2 and offsets.size:
        return np.asarray((offsets + rng.gumbel(size=offsets.shape)).argmax(axis=0))
    if start % 3 == 2:
        return rng.integers(n_components, size=(n_rows,), dtype=np.int64)
    uniforms = rng.random(n_components)
    labels: NDArray[np.int64] = kmeans_labels(rows, offsets, sample.weights, uniforms, LLOYD_SWEEPS)
    return labels
