"""What whitens a posterior of thousands of parameters: a diagonal and the directions that it misses.

Of factor analysers rough scales are known of every parameter. In these units most of the curvature
is near 1 but for few directions, the means along the factors above all: Lanczos' method finds them
in some dozens of products of the Hessian with a vector, two passes each.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.inference.factor_em import mixture_of, rough_sizes
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.kernels.pointer import pulled, stretched
from bayesgmm.posterior_density import STEP, whole
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

PRODUCTS: Final = 100
"""Of the Hessian with a vector."""
FOUND: Final = 0.1
"""Residual, as a share of the curvature, under which a direction is one of the Hessian's."""
FLAT: Final = 0.6
"""Curvature, in units of the rough one, under which a direction is worth its cost: of larger ones
there are many, and the sampler's diagonal is left to find them."""
FLATTEST: Final = 1e-3
"""Least curvature that is believed, in units of the rough one."""


def thin_whitening(problem: Problem, vector: Array) -> Array:
    """Return a diagonal and some directions, as `kernels.pointer.pack_user` takes them."""
    first = _with_factors(problem, vector)
    density, height = whole(problem), STEP * np.sqrt(vector.size)

    def product(direction: Array) -> Array:
        shift = height * stretched(first, direction)
        _, (above, below) = density(np.stack([vector + shift, vector - shift]))
        return pulled(first, (below - above) / (2.0 * height))

    values, axes = _extremes(product, vector.size)
    values, axes = np.maximum(values[values < FLAT], FLATTEST), axes[values < FLAT]
    moved = stretched(first, axes * (values**-0.5 - 1.0)[:, None])
    r = len(first) // 2
    return np.concatenate([first[: 1 + r], axes, first[1 + r :], moved])


def _with_factors(problem: Problem, vector: Array) -> Array:
    """Return rough scales, and the directions of the means along the factors.

    A mean has the covariance of its rows over their number: psi (1 + A A') psi, A = W / psi.
    """
    sizes, factors = rough_sizes(problem, vector), mixture_of(problem, vector).factors
    k_all, n_dim, width = factors.shape
    start = offsets(problem.layout)[0]
    axes = np.zeros((k_all, width - 1, vector.size))
    stretches = np.empty((k_all, width - 1))
    for k in range(k_all):
        left, values, _ = np.linalg.svd(
            factors[k, :, :-1] / factors[k, :, -1:], full_matrices=False
        )
        axes[k, :, start + k * n_dim : start + (k + 1) * n_dim] = left.T
        stretches[k] = np.sqrt(1.0 + values**2) - 1.0
    axes = axes.reshape(-1, vector.size)
    return np.concatenate([sizes[None], axes, sizes * axes * stretches.reshape(-1, 1)])


def _extremes(product, size: int) -> tuple[Array, Array]:  # type: ignore[no-untyped-def]
    """Return eigenvalues of a matrix, by its products, that stand out, and eigenvectors (r, P)."""
    n = min(PRODUCTS, size)
    basis, diagonal, beside = np.zeros((n, size)), np.zeros(n), np.zeros(n)
    vector = np.random.default_rng(0).normal(size=size)
    basis[0] = vector / np.linalg.norm(vector)
    for i in range(n):
        image = product(basis[i])
        diagonal[i] = image @ basis[i]
        for _ in range(2):  # once leaves rounding behind
            image -= basis[: i + 1].T @ (basis[: i + 1] @ image)
        beside[i] = np.linalg.norm(image)
        if i + 1 < n:
            basis[i + 1] = image / beside[i]
    values, rotation = np.linalg.eigh(
        np.diag(diagonal) + np.diag(beside[:-1], 1).T + np.diag(beside[:-1], 1)
    )
    found = np.abs(beside[-1] * rotation[-1]) < FOUND * np.abs(values)
    return values[found], rotation[:, found].T @ basis
