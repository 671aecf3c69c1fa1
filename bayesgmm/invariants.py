"""Functions of a mixture, and of data, that do not depend on what its components are called."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.background import standardised_box
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.mixture import GaussianMixture
from bayesgmm.records import rows_of
from bayesgmm.tree import (
    FactorParameters,
    NoisyParameters,
    Parameters,
    TailedParameters,
    with_covariances,
)

type Array = NDArray[np.float64]


def invariants(
    spec: GaussianMixture, X: Array, mixtures: Parameters | FactorParameters
) -> dict[str, Array]:
    """Return functions of mixtures and data that are the same under every order of components.

    Parameters
    ----------
    spec : GaussianMixture
        Resolved. Its priors of means and scales are the units that features are measured in.
    X : array, shape (N, D)
        The data.
    mixtures : Parameters
        S of them, at least two.

    Returns
    -------
    dict of str to array, shape (S,)
        ``log_likelihood`` (of the data, up to a constant), ``log_density`` (at the prior location
        of the means), ``mean`` (of the mixture, averaged over features), ``log_volume`` (log
        determinant of its covariance matrix), ``average_scale`` (over features, and components by
        weight; where tails are heavy of scale matrices in place of covariances), and ``average_df``
        (of the logarithm of degrees of freedom). With noise ``noise_weight``; weights of components
        are then those among each other. With several components ``largest_weight`` and
        ``together`` (mean probability that two rows are of the same component); if their number is
        known ``smallest_scale`` and ``smallest_distance`` (between two means). With correlations
        ``average_correlation``.

    Notes
    -----
    O(S N K D^2) operations; memory O(S N K).
    """
    location, spread = np.asarray(spec.means.location), np.asarray(spec.means.scale)
    n_dim = location.size
    weights, means, scales, correlations, covariances = with_covariances(mixtures)[:5]
    means = (means - location) / spread
    relative = scales / np.asarray(spec.covariance.scale)
    densities, shares = _pass(spec, np.vstack([X, location]), mixtures, location, spread)
    if isinstance(mixtures, NoisyParameters):
        weights = weights / weights.sum(axis=1, keepdims=True)
    mean = np.einsum("sk,skd->sd", weights, means)
    about = means - mean[:, None]
    total = np.einsum("sk,skd,ske->sde", weights, about, about)
    total += np.einsum("sk,skde->sde", weights, covariances / np.outer(spread, spread))
    found = {
        "log_likelihood": densities[:, :-1].sum(axis=1),
        "log_density": densities[:, -1],
        "mean": mean.mean(axis=1),
        "log_volume": np.linalg.slogdet(total)[1],
        "average_scale": (weights * relative.mean(axis=-1)).sum(axis=1),
    }
    if isinstance(mixtures, TailedParameters):
        found["average_df"] = (weights * np.log(mixtures.df)).sum(axis=1)
    if isinstance(mixtures, NoisyParameters):
        found["noise_weight"] = mixtures.noise_weight
    if spec.structure.correlations != "none" and n_dim > 1:
        of_each = correlations[..., *np.tril_indices(n_dim, -1)].mean(axis=-1)
        found["average_correlation"] = (weights * of_each).sum(axis=1)
    if spec.n_components == 1:
        return found
    counts = shares[..., :-1].sum(axis=2)
    pairs = (counts**2).sum(axis=1) - (shares[..., :-1] ** 2).sum(axis=(1, 2))
    found["largest_weight"] = weights.max(axis=1)
    found["together"] = pairs / max(len(X) * (len(X) - 1), 1)
    if not isinstance(spec.n_components, PriorOnComponents):
        one, other = np.tril_indices(spec.n_components, -1)
        found["smallest_scale"] = relative.min(axis=(1, 2))
        gaps = np.linalg.norm(means[:, one] - means[:, other], axis=-1)
        found["smallest_distance"] = gaps.min(axis=1)
    return found


def _pass(
    spec: GaussianMixture,
    X: Array,
    mixtures: Parameters | FactorParameters,
    center: Array,
    unit: Array,
) -> tuple[Array, Array]:
    """Return log densities of rows, shape (S, N), and responsibilities, shape (S, K, N)."""
    box = standardised_box(spec.noise, center, unit)
    rows = rows_of(X, None, None, mixtures.weights.shape[1], center, unit, box)
    standard = mixtures.standardised(center, unit)
    densities, shares = np.empty((len(standard[0]), len(X))), np.empty((*standard[0].shape, len(X)))
    fill_draws(rows, *standard, densities, shares, NO_LABELS, NO_CUBE)
    return densities, shares
