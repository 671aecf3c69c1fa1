"""A mode of more components, grown from one of fewer."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bayesgmm.inference.em import climb, distinct, finish, is_degenerate
from bayesgmm.inference.mode import Mode, Target
from bayesgmm.inference.starts import Sample, most_screened
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.factor_loadings import dense
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS, partition_of
from bayesgmm.problem import Problem
from bayesgmm.records import filled
from bayesgmm.tree import FactorParameters, Parameters

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


def grow(problem: Problem, smaller: Parameters | FactorParameters) -> tuple[Mode, ...]:
    """Return the best mode met by adding a component to one of a component fewer.

    Starts are the partition of that mode with one cluster cut in two across its longest axis, for
    every cluster, and with the rows that it explains least as a cluster of their own. All are
    climbed from, the best to the very top.

    Parameters
    ----------
    problem : Problem
    smaller : Parameters
        One mixture, the mode of the same data and structure with one component fewer.

    Returns
    -------
    tuple of Mode
        One; none if the best collapses.

    Notes
    -----
    O(N K^2 D^2) operations, on at most 5,000 rows or 10 K D, evenly spaced, but for the
    last climb.
    """
    every = slice(None, None, -(-problem.data.n_obs // most_screened(problem)))
    sample = Sample.whole(problem).some(every)
    log_weights, means, cholesky = smaller.standardised(problem.center, problem.unit)
    climbed = [
        climb(problem, Target.MAP, sample, labels)
        for labels in _cuts(sample.rows, log_weights, means, cholesky)
    ]
    best = distinct(one for one in climbed if one is not None)[:1]
    finished = [finish(problem, Target.MAP, one) for one in best]
    return tuple(one for one in finished if not is_degenerate(problem, Target.MAP, one))


def _cuts(rows: Array, log_weights: Array, means: Array, cholesky: Array) -> Iterator[Labels]:
    """Yield labels of the rows with one cluster more than a mixture, shapes (1, K, ...), has."""
    n_components, n_dim = means.shape[1:]
    if len(rows) > n_dim:  # of labels, none of them known: a line for a component fewer
        rows = np.delete(rows, n_dim, axis=0)
    log_weights = log_weights.copy()
    log_weights[:, n_components:] = -np.inf  # noise is no cluster to begin with
    partition = partition_of(rows, log_weights[0], means[0], cholesky[0])
    cells = filled(rows, n_dim)
    for k in range(n_components):
        axis = np.linalg.svd(dense(cholesky[0, k], n_dim)[:n_dim])[0][:, 0]
        beyond = axis @ (cells - means[0, k][:, None]) > 0.0
        yield np.where((partition == k) & beyond, n_components, partition)
    densities = np.empty((1, rows.shape[1]))
    fill_draws(rows, log_weights, means, cholesky, densities, NO_CUBE, NO_LABELS, NO_CUBE)
    few = max(n_dim + 1, rows.shape[1] // (4 * (n_components + 1)))
    yield np.where(densities[0].argsort().argsort() < few, n_components, partition)
