"""A mode to as many digits as its gradient has."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, cg

from bayesgmm.inference.em import rounded
from bayesgmm.inference.mode import Mode
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

NEWTON_STEPS: Final = 4
MOST_PRODUCTS: Final = 50
"""Newton's steps, and gradients that each may take."""
NEWTON_STEP: Final = 1e-4
"""Step of the finite differences that they see the curvature by, in standard deviations."""


def sharpen(problem: Problem, mode: Mode) -> Mode:
    """Return a mode to as many digits as its gradient has.

    `em.polish` stops where the density no longer tells points apart, as far from the top as the
    square root of its rounding. Newton's steps look at the gradient alone; they are solved for by
    conjugate gradients, a gradient each. Some ten or twenty for each of two or three steps.
    """
    moved, negative = rounded(problem, mode.vector)
    z = np.zeros_like(mode.vector)
    slopes = negative(z)[1]
    for _ in range(NEWTON_STEPS):
        following = z + _newton_step(negative, z, slopes)
        further = negative(following)[1]
        if not np.abs(further).max() < np.abs(slopes).max():
            break
        z, slopes = following, further
    vector = moved(z)
    objective, _ = problem.log_posterior(vector)
    parameters = problem.constrain(vector[None])
    return replace(mode, vector=vector, parameters=parameters, objective=objective)


def _newton_step(
    negative: Callable[[Array], tuple[float, Array]], z: Array, slopes: Array
) -> Array:
    """Return the way from a point to where a quadratic is least that has its slopes and curvature.

    Solved for to a hundredth; the curvature along a direction is a difference of slopes.
    """

    def curved(v: Array) -> Array:
        size = NEWTON_STEP / max(float(np.abs(v).max()), 1e-300)
        return np.asarray((negative(z + size * v)[1] - slopes) / size)

    hessian = LinearOperator((z.size, z.size), matvec=curved, dtype=np.float64)
    return np.asarray(cg(hessian, -slopes, rtol=1e-2, maxiter=MOST_PRODUCTS)[0])
