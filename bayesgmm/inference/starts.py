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
ROWS_EACH = 10
"""Or so many of every component for each feature: of fewer covariances fit these rows alone."""
HIERARCHICAL_ROWS = 300
"""One start is Ward's hierarchical clustering of at most this many rows, drawn at random."""
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


def most_screened(problem: Problem) -> int:
    """Return on how many rows starts are compared, at most."""
    sizes = problem.layout
    return max(SCREENED_ROWS, ROWS_EACH * sizes.n_components * sizes.n_features)


def are_many(problem: Problem) -> bool:
    """Tell whether there are more rows than starts are compared on, by far."""
    return problem.data.n_obs > 2 * most_screened(problem)


def screened_rows(problem: Problem, rng: np.random.Generator) -> Sample:
    """Return rows that stand for all, half of them such as are labelled, if there are so many."""
    every, most = Sample.whole(problem), most_screened(problem)
    n_obs, weighted = problem.data.n_obs, every.weights.size > 0
    if problem.data.allowed is None and not weighted:  # without an array of the size of a column
        return every.some(np.sort(rng.choice(n_obs, most, replace=False)))
    counted = np.flatnonzero(every.weights) if weighted else np.arange(n_obs)
    if problem.data.allowed is None:
        n_rows = min(most, counted.size)
        return every.some(np.sort(rng.choice(counted, n_rows, replace=False)))
    allowed = problem.data.allowed[counted]
    told = (allowed != allowed[:, :1]).any(axis=1)
    parts = []
    for members in (counted[told], counted[~told]):
        chosen = rng.choice(members, min(most // 2, members.size), replace=False)
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
    if hierarchical and start == 0 and 1 < n_components < min(n_rows, HIERARCHICAL_ROWS):
        return ward_labels(rows, n_components, rng)
    if start % 3 == 2 and offsets.size:
        return np.asarray((offsets + rng.gumbel(size=offsets.shape)).argmax(axis=0))
    if start % 3 == 2:
        return rng.integers(n_components, size=(n_rows,), dtype=np.int64)
    uniforms = rng.random(n_components)
    labels: NDArray[np.int64] = kmeans_labels(rows, offsets, sample.weights, uniforms, LLOYD_SWEEPS)
    return labels


def ward_labels(rows: Array, n_components: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the labels of rows, shape (D, n), that Ward's hierarchical clustering begins with.

    Of many rows it clusters some, whose nearest mean tells where the others belong: all of them
    would cost more than the climbs of all starts.
    """
    from scipy.cluster.hierarchy import fcluster, linkage

    n_rows = rows.shape[1]
    many = n_rows > HIERARCHICAL_ROWS
    some = rows[:, rng.choice(n_rows, HIERARCHICAL_ROWS, replace=False)] if many else rows
    tree = linkage(some.T, method="ward")
    tree[:, 2] = np.arange(len(tree))  # no ties: exactly so many clusters
    labels = np.asarray(fcluster(tree, len(tree) - n_components, "distance"), dtype=np.int64) - 1
    if not many:
        return labels
    means = np.stack([some[:, labels == k].mean(axis=1) for k in range(n_components)])
    distances = np.square(means).sum(axis=1)[:, None] - 2.0 * means @ rows
    return np.asarray(distances.argmin(axis=0))
