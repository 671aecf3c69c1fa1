"""How factor analysers are handed to the kernels: coordinates of the loadings, and vectors."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.kernels.cholesky import Layout, offsets
from bayesgmm.kernels.factor_loadings import entries_of, loadings_of, reflectors_of
from bayesgmm.kernels.seeding import kmeans_labels

type Array = NDArray[np.float64]

GAUGED_ROWS = 5000
"""Rows that the coordinates of loadings are chosen by, at the most."""
SWEEPS = 3
"""Iterations of k-means that tell groups of rows apart for it."""


class Gauge(NamedTuple):
    """Coordinates of the loadings, as `kernels.factor_loadings` has them.

    Parameters
    ----------
    spread : array, shape (D,)
        Prior standard deviation of the standardised loadings.
    reflectors : array, shape (q, D)
    """

    spread: Array
    reflectors: Array

    @classmethod
    def make(
        cls, prior: FactorCovariance, n_components: int, values: Array, center: Array, unit: Array
    ) -> Self:
        """Choose coordinates by the data, shape (N, D), of which the kernels see a standard form.

        They matter to how easily a sampler moves, not to what it finds. Loadings are wanted far
        from 0 in the first directions: those are what the principal axes of groups of rows, by
        k-means, turned to agree, add up to.
        """
        spread = np.asarray(prior.loading_scale) / unit
        some = values[:: -(-len(values) // GAUGED_ROWS)]
        rows = np.ascontiguousarray(((some - center) / unit).T)
        n_dim, q = unit.size, prior.n_factors
        uniforms = (np.arange(n_components) + 0.5) / n_components
        labels = kmeans_labels(rows, np.empty((0, rows.shape[1])), np.empty(0), uniforms, SWEEPS)
        common = np.zeros((n_dim, q))
        for k in np.argsort(-np.bincount(labels, minlength=n_components), kind="stable"):
            group = rows[:, labels == k]
            if group.shape[1] <= q:
                continue
            axes = principal(group - group.mean(axis=1, keepdims=True), q) / spread[:, None]
            left, _, right = np.linalg.svd(axes.T @ common)
            common += axes @ (left @ right if common.any() else np.eye(q))
        return cls(spread, reflectors_of(common))


def principal(centred: Array, n_axes: int) -> Array:
    """Return the first principal axes of rows, (D, n), as long as their standard deviations."""
    n_dim, n = centred.shape
    if n_dim <= n:
        values, axes = np.linalg.eigh(centred @ centred.T / n)
    else:
        values, rotated = np.linalg.eigh(centred.T @ centred / n)
        axes = centred @ (rotated / np.sqrt(n * np.maximum(values, np.finfo(float).tiny)))
    first = slice(-1, -1 - n_axes, -1)
    return np.asarray(axes[:, first] * np.sqrt(np.maximum(values[first], 0.0)))


def factor_vectors(
    layout: Layout, floor: Array, gauge: Gauge, log_weights: Array, means: Array, factors: Array
) -> Array:
    """Return the vectors, shape (S, P), of mixtures of standardised data.

    Parameters
    ----------
    layout, floor, gauge
        Noise scales at or below a floor are moved above it by the least that can be told.
    log_weights, means, factors : arrays, shapes (S, K), (S, K, D), (S, K, D, q + 1)
    """
    free = factors[:, : layout.scale_rows, : layout.scale_columns, -1]
    least = np.where(floor > 0.0, np.finfo(np.float64).eps * floor, np.finfo(np.float64).tiny)
    n = len(means)
    return np.concatenate(
        (
            (log_weights - log_weights.mean(axis=1, keepdims=True))[:, :-1],
            means.reshape(n, -1),
            np.log(np.maximum(free - floor, least)).reshape(n, -1),
            entries_of(factors[..., :-1], *gauge),
        ),
        axis=1,
    )


def factor_parameters(
    layout: Layout, floor: Array, gauge: Gauge, vectors: Array
) -> tuple[Array, Array, Array, Array]:
    """Return log weights, means, noise scales and loadings of vectors, standardised.

    Shapes (S, K), (S, K, D), (S, K, D), (S, K, D, q).
    """
    k, d, n = layout.n_components, layout.n_features, len(vectors)
    means, noise, loadings, _ = offsets(layout)
    free = vectors[:, : k - 1]
    log_weights = np.column_stack([free, -free.sum(axis=1)])
    log_weights -= np.logaddexp.reduce(log_weights, axis=1)[:, None]
    shape = (n, layout.scale_rows, layout.scale_columns)
    scales = floor + np.exp(vectors[:, noise:loadings].reshape(shape))
    return (
        log_weights,
        vectors[:, means:noise].reshape(n, k, d),
        np.broadcast_to(scales, (n, k, d)),
        loadings_of(layout, vectors[:, loadings:], *gauge),
    )
