"""What whitens thousands of parameters: a diagonal, and the directions that it misses.

Of factor analysers rough scales are known of every parameter. In these units most of the curvature
is near 1 but for some directions, in which many parameters move together: the means along the
factors, and the loadings of a component as a whole. They are known roughly too, and some rounds of
LOBPCG (Knyazev 2001) from there find what the curvature has in store along them, by products of
the Hessian with a vector, two passes each.
"""

import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator, lobpcg

from bayesgmm.inference.factor_em import Factored, mixture_of, rough_sizes, vector_of
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.posterior_density import STEP, whole
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

ROUNDS: Final = 4
"""Of LOBPCG."""
FLAT: Final = 0.6
"""Curvature, in units of the rough one, under which a direction is worth its cost: of larger ones
there are many, and the sampler's diagonal is left to find them."""
FLATTEST: Final = 1e-4
"""Least curvature that is believed, in units of the rough one."""


def thin_whitening(problem: Problem, vector: Array) -> Array:
    """Return a diagonal and some directions, as `kernels.pointer.pack_user` takes them."""
    sizes, density = rough_sizes(problem, vector), whole(problem)
    height = STEP * np.sqrt(vector.size)

    def products(directions: Array) -> Array:
        shifts = np.ascontiguousarray(height * sizes * directions.T)
        above, below = density(vector + shifts)[1], density(vector - shifts)[1]
        return np.asarray(sizes * (below - above) / (2.0 * height)).T

    shape = 2 * (vector.size,)
    hessian = LinearOperator(shape, matvec=lambda x: products(x[:, None])[:, 0], matmat=products)
    first = np.linalg.qr((_together(problem, vector) / sizes).T)[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged: it need not
        values, axes = lobpcg(hessian, first, largest=False, maxiter=ROUNDS, tol=1e-3)
    flat = np.isfinite(values) & (values < FLAT)
    values, axes = np.maximum(values[flat], FLATTEST), axes.T[flat]
    return np.concatenate([sizes[None], axes, sizes * axes * (values**-0.5 - 1.0)[:, None]])


def _together(problem: Problem, vector: Array) -> Array:
    """Return directions, shape (r, P), in which a component's parameters move together.

    Its mean along the factors; and what multiplying its loadings by a matrix does to the vector,
    or adding to them in the directions that the coordinates begin with.
    """
    assert problem.gauge is not None
    mixture = mixture_of(problem, vector)
    k_all, n_dim, width = mixture.factors.shape
    start, q = offsets(problem.layout)[0], width - 1
    leading = np.linalg.qr(problem.gauge.reflectors.T)[0] * problem.gauge.spread[:, None]
    found = []
    for k in range(k_all):
        loadings = mixture.factors[k, :, :q]
        for j in range(q):
            moved = np.zeros(vector.size)
            moved[start + k * n_dim : start + (k + 1) * n_dim] = loadings[:, j]
            found.append(moved)
        size = STEP * np.linalg.norm(loadings) / np.linalg.norm(leading)
        for i, j in np.ndindex(q, q):
            for change in (
                STEP * loadings[:, [i]] * np.eye(q)[j] if i <= j else None,
                size * leading[:, [i]] * np.eye(q)[j],
            ):
                if change is None:
                    continue
                factors = mixture.factors.copy()
                factors[k, :, :q] += change
                found.append(vector_of(problem, Factored(*mixture[:2], factors)) - vector)
    return np.array([one / np.linalg.norm(one) for one in found])
