"""The data sets, with the priors as numbers, and points at which densities are compared."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]

SIMULATED = {"1,000, 2, 3": 3.0, "5,000, 5, 4": 4.0, "5,000, 10, 8": 4.0, "200, 2, 2": 4.0}
"""Rows, features, components; and how far apart the components are (`make_mixture`)."""
FAITHFUL = "Old Faithful"


class Mixture(NamedTuple):
    """Weights, means, scales and Cholesky factors of the correlations, in the data's units.

    Shapes (..., K), (..., K, D), (..., K, D) and (..., K, D, D).
    """

    weights: Array
    means: Array
    scales: Array
    factors: Array


class Prior(NamedTuple):
    """Dirichlet (K), Normal location and scale (D), half-normal scale (D), LKJ shape."""

    concentration: Array
    location: Array
    scale: Array
    tau: Array
    eta: float


class Case(NamedTuple):
    """Rows (N, D), the priors that bayesgmm takes from them, and the truth."""

    X: Array
    n_components: int
    prior: Prior
    truth: Mixture


def load(name: str) -> Case:
    """Return a data set by its name."""
    X, weights, means, covariances = _faithful() if name == FAITHFUL else _simulated(name)
    scales = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    correlations = covariances / scales[:, :, None] / scales[:, None, :]
    truth = Mixture(weights, means, scales, np.linalg.cholesky(correlations))
    return Case(X, len(weights), prior_of(X, len(weights)), truth)


def prior_of(X: Array, n_components: int) -> Prior:
    """Return the default priors as numbers."""
    from bayesgmm.mixture import GaussianMixture

    resolved = GaussianMixture(n_components).resolve(X)
    return Prior(
        resolved.weights.per_component(n_components),
        np.asarray(resolved.means.location),
        np.asarray(resolved.means.scale),
        np.asarray(resolved.covariance.scale),
        resolved.covariance.eta,
    )


def _simulated(name: str) -> tuple[Array, Array, Array, Array]:
    from bayesgmm.datasets import make_mixture

    n, d, k = (int(number.replace(",", "")) for number in name.split(", "))
    made = make_mixture(n, k, d, separation=SIMULATED[name], random_seed=3)
    return (
        made["X"].values, made["weights"].values, made["means"].values, made["covariances"].values
    )  # fmt: skip


def _faithful() -> tuple[Array, Array, Array, Array]:
    """Return the eruptions, and short and long ones as the truth."""
    from bayesgmm.datasets import load_faithful

    X = load_faithful().to_numpy(dtype=float)
    parts = [X[X[:, 0] < 3.0], X[X[:, 0] >= 3.0]]
    return (
        X,
        np.array([len(part) for part in parts]) / len(X),
        np.stack([part.mean(axis=0) for part in parts]),
        np.stack([np.cov(part.T) for part in parts]),
    )


def many_rows(n: int, d: int, k: int) -> Array:
    """Return simulated rows, made a block at a time: memory that is measured is not spent here."""
    from bayesgmm.datasets import make_mixture

    truth = make_mixture(1, k, d, separation=4.0, random_seed=3)
    factors = np.linalg.cholesky(truth["covariances"].values)
    rng = np.random.default_rng(3)
    X = np.empty((n, d))
    for start in range(0, n, 10_000):
        block = X[start : start + 10_000]
        labels = rng.integers(k, size=len(block))
        for j in range(k):
            chosen = labels == j
            normal = rng.normal(size=(int(chosen.sum()), d))
            block[chosen] = truth["means"].values[j] + normal @ factors[j].T
    return X


def points_around(case: Case, n: int = 5) -> Mixture:
    """Return random mixtures around the truth."""
    rng = np.random.default_rng(20261121)
    weights, means, scales, factors = case.truth
    k, d = means.shape
    mixed = factors + np.tril(0.3 * rng.normal(size=(n, k, d, d)))
    mixed[..., np.arange(d), np.arange(d)] = np.abs(mixed[..., np.arange(d), np.arange(d)]) + 0.1
    return Mixture(
        rng.dirichlet(10.0 * weights + 1.0, n),
        means + 0.3 * scales * rng.normal(size=(n, k, d)),
        scales * np.exp(0.2 * rng.normal(size=(n, k, d))),
        mixed / np.linalg.norm(mixed, axis=-1, keepdims=True),
    )
