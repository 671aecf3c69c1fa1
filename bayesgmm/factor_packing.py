"""How factor analysers are handed to the kernels: coordinates of the loadings, and vectors."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.kernels.cholesky import Layout, offsets
from bayesgmm.kernels.factor_loadings import entries_of, loadings_of, reflectors_of
from bayesgmm.records import filled

type Array = NDArray[np.float64]

MOST = 10**7
"""Numbers that the coordinates of loadings are chosen by, at the most."""
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
        cls,
        prior: FactorCovariance,
        n_components: int,
        values: Array,
        sample_weight: Array | None,
        center: Array,
        unit: Array,
    ) -> Self:
        """Choose coordinates by the data, shape (N, D), of which the kernels see a standard form.

        They matter to how easily a sampler moves, not to what it finds. Loadings are wanted far
        from 0 in the first directions: those are what the principal axes of groups of rows, turned
        to agree, add up to. Neither the order of the rows matters, nor whether weights repeat them;
        of more numbers than 10 million some rows, evenly spaced, stand for all, and medians for
        missing cells.
        """
        spread = np.asarray(prior.loading_scale) / unit
        some = slice(None, None, -(-values.size // MOST))
        rows = filled(((values[some] - center) / unit).T, unit.size).T
        counts = np.ones(len(rows)) if sample_weight is None else sample_weight[some]
        labels = _groups(rows, counts, n_components)
        n_dim, q = unit.size, prior.n_factors
        common = np.zeros((n_dim, q))
        sizes = np.bincount(labels, counts, minlength=n_components)
        for k in np.argsort(-sizes, kind="stable"):
            group, roots = rows[labels == k], np.sqrt(counts[labels == k] / max(sizes[k], 1e-300))
            if len(group) <= q:
                continue
            centred = (group - roots**2 @ group) * roots[:, None]
            axes = principal(centred.T * len(group) ** 0.5, q) / spread[:, None]
            left, _, right = np.linalg.svd(axes.T @ common)
            common += axes @ (left @ right if common.any() else np.eye(q))
        return cls(spread, reflectors_of(common))


def _groups(rows: Array, counts: Array, n_groups: int) -> NDArray[np.intp]:
    """Return labels of rows, shape (N, D): k-means from as many slices of the longest axis."""
    share = counts / counts.sum()
    centred = rows - share @ rows
    along = centred @ principal((centred * np.sqrt(share * len(rows))[:, None]).T, 1)[:, 0]
    order = np.argsort(along, kind="stable")
    labels = np.empty(len(rows), dtype=np.intp)
    middles = np.cumsum(share[order]) - 0.5 * share[order]
    labels[order] = np.minimum((middles * n_groups).astype(np.intp), n_groups - 1)
    for _ in range(SWEEPS):
        sizes = np.bincount(labels, counts, minlength=n_groups)
        sums = np.zeros((n_groups, rows.shape[1]))
        np.add.at(sums, labels, rows * counts[:, None])
        means = sums[sizes > 0.0] / sizes[sizes > 0.0, None]
        distances = np.square(means).sum(axis=1) - 2.0 * rows @ means.T
        labels = np.flatnonzero(sizes > 0.0)[distances.argmin(axis=1)]
    return labels


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
