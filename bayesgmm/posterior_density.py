"""The log posterior of many vectors at once: of all rows, or of some that stand for them."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.blockwise import BlockProblem
from bayesgmm.kernels.batch import fill_log_posteriors
from bayesgmm.kernels.relabel import partition_of
from bayesgmm.kernels.target import address_of
from bayesgmm.kernels.threads import over_draws
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]
type Density = Callable[[Array], tuple[Array, Array]]
"""Vectors (S, P) in; their log densities (S,) and gradients (S, P) out."""

STEP: Final = 1e-4
"""Half the distance between the two gradients of a finite difference, in units of a scale."""
TOGETHER: Final = 256
"""Directions that are differenced at a time."""
WORTH: Final = 2**18
"""Numbers to be read, of all vectors together, from which on threads cost less than they save."""
BLOCK: Final = 2**16
"""Rows whose components are looked up at a time."""


def whole(problem: Problem) -> Density:
    """Return the log posterior of all rows, in threads on all cores where that saves time."""
    return problem.log_posteriors if isinstance(problem, BlockProblem) else _of(problem.flat)


def _of(flat: Array) -> Density:
    """Return the log density that a packed problem stands for."""

    def density(vectors: Array) -> tuple[Array, Array]:
        values, gradients = np.empty(len(vectors)), np.empty(vectors.shape)
        address, vectors = address_of(flat), np.ascontiguousarray(vectors)

        def fill(part: slice) -> None:
            fill_log_posteriors(address, vectors[part], flat, values[part], gradients[part])

        if len(vectors) * flat.size < WORTH:
            fill(slice(None))
        else:
            over_draws(fill, len(vectors))
        return values, gradients

    return density


def curvature_of(density: Density, vector: Array, steps: Array) -> Array:
    """Return minus the Hessian of a log density, shape (P, P), by differences of gradients.

    Parameters
    ----------
    density : Density
    vector : array, shape (P,)
        Where.
    steps : array, shape (P,)
        Half the distance between two gradients, per direction.
    """
    n = vector.size
    hessian = np.empty((n, n))
    for start in range(0, n, TOGETHER):
        part = slice(start, start + TOGETHER)
        shifts = np.diag(steps)[part]
        above, below = density(vector + shifts)[1], density(vector - shifts)[1]
        hessian[part] = (below - above) / (2.0 * steps[part, None])
    return 0.5 * (hessian + hessian.T)


def curvature(problem: Problem, vector: Array) -> Array:
    """Return minus the Hessian of the log posterior, shape (P, P), by differences of gradients.

    Costs 2 P passes over the data; the error is about 1e-8 relative.
    """
    return curvature_of(whole(problem), vector, STEP * problem.units_of(vector))


def subset(
    problem: Problem, anchor: Array, hessian: Array, n_rows: int, rng: np.random.Generator
) -> tuple[Density, Array]:
    """Return the log posterior with some rows in place of all, exact to second order at a point.

    Every component is given as many rows, or all that it has, and they stand for the others with
    weights. What they get wrong at the point (value, gradient and Hessian, which are known of all
    rows) is added as a quadratic: what is left is of third order and the rows' sampling error
    (Bardenet, Doucet & Holmes 2017, On Markov chain Monte Carlo methods for tall data, JMLR 18).

    Parameters
    ----------
    problem : Problem
    anchor : array, shape (P,)
        The point: a mode.
    hessian : array, shape (P, P)
        Minus the Hessian of the log posterior of all rows there.
    n_rows : int
        How many, or fewer where components are small.
    rng : numpy.random.Generator

    Returns
    -------
    density : Density
    bend : array, shape (P, P)
        The Hessian of the quadratic: large where the rows do not stand for all.
    """
    chosen, row_weights = _stratified(problem, anchor, n_rows, rng)
    part = _of(problem.pack(np.ascontiguousarray(problem.rows[:, chosen]), row_weights, prior=True))
    (value,), (gradient,) = whole(problem)(anchor[None])
    (value_of_part,), (gradient_of_part,) = part(anchor[None])
    level, slope = value - value_of_part, gradient - gradient_of_part
    bend = curvature_of(part, anchor, STEP * problem.units_of(anchor)) - hessian

    def density(vectors: Array) -> tuple[Array, Array]:
        values, gradients = part(vectors)
        gap = vectors - anchor
        bent = gap @ bend
        values += level + gap @ slope + 0.5 * np.einsum("sp,sp->s", gap, bent)
        return values, gradients + slope + bent

    return density, bend


def _stratified(
    problem: Problem, vector: Array, n_rows: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], Array]:
    """Return some rows, as many of every component as there are, and how many each stands for."""
    mixture = problem.constrain(vector[None]).standardised(problem.center, problem.unit)
    labels = np.empty(problem.data.n_obs, dtype=np.int32)
    for start in range(0, labels.size, BLOCK):
        rows = np.ascontiguousarray(problem.rows[:, start : start + BLOCK])
        labels[start : start + BLOCK] = partition_of(rows, *(array[0] for array in mixture))
    n_components = mixture[0].shape[1]  # and noise
    chosen, row_weights = [], []
    for k in range(n_components):
        members = np.flatnonzero(labels == k)
        taken = min(members.size, -(-n_rows // n_components))
        chosen.append(members[np.sort(rng.choice(members.size, taken, replace=False))])
        row_weights.append(np.full(taken, members.size / max(taken, 1)))
    every, times = np.concatenate(chosen), np.concatenate(row_weights)
    weights = problem.row_weights
    if weights.size:
        return every, times * weights[every] * (problem.n_counted / weights.sum())
    return every, times * (problem.n_counted / labels.size)
