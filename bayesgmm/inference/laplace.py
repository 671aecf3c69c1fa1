"""The Normal approximation of the posterior around a mode."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.inference.problem import Problem

type Array = NDArray[np.float64]

LARGEST_DENSE = 1000
"""Unconstrained parameters up to which a dense covariance is worth its cost."""
STEP = 1e-4
"""Half the distance between the two gradients of a finite difference, in units of a scale."""
WIDEST = 3.0
"""Largest standard deviation, along any direction, that the curvature is believed for.

The unconstrained scale measures logarithms and standardised units: a wider direction is one that
the data say nothing about, and its curvature at one point says little about its width.
"""


def curvature(problem: Problem, vector: Array) -> Array:
    """Return minus the Hessian of the log posterior, shape (P, P), by differences of gradients.

    Costs 2 P passes over the data; the error is about 1e-8 relative.
    """
    n = vector.size
    hessian = np.empty((n, n))
    for i, size in enumerate(STEP * problem.units_of(vector)):
        step = np.zeros(n)
        step[i] = size
        _, above = problem.log_posterior(vector + step)
        _, below = problem.log_posterior(vector - step)
        hessian[i] = (below - above) / (2.0 * size)
    return 0.5 * (hessian + hessian.T)


def whitening(problem: Problem, vector: Array) -> Array:
    """Return a factor F, shape (P, P) or (P,), such that x = vector + F z has unit scale at z = 0.

    F F' is the covariance of the Laplace approximation at the mode `vector`, with every standard
    deviation held to at most 3. Beyond 1,000 parameters F is 1, and the sampler is left to find
    the scales for itself.
    """
    if vector.size > LARGEST_DENSE:
        return np.ones(vector.size)
    values, axes = np.linalg.eigh(curvature(problem, vector))
    return np.asarray(axes / np.sqrt(np.maximum(values, WIDEST**-2.0)))
