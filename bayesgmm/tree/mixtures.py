"""The draws of all parameters, with their covariance matrices or, of factor analysers, without."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.factor_loadings import LARGEST_DENSE

type Array = NDArray[np.float64]


class FactorParameters(NamedTuple):
    """The draws of factor analysers, chains one after another, in the user's units.

    The first four are what `kernels.cholesky.standardise` takes in place of those of `Parameters`.

    Parameters
    ----------
    weights : array, shape (n_samples, n_components)
    means, noise_scales : arrays, shape (n_samples, n_components, n_features)
    loadings : array, shape (n_samples, n_components, n_features, n_factors)
    scales : array, shape (n_samples, n_components, n_features)
        Standard deviations of the features, of factors and noise.
    """

    weights: Array
    means: Array
    noise_scales: Array
    loadings: Array
    scales: Array


def scales_of(noise_scales: Array, loadings: Array) -> Array:
    """Return standard deviations, shape (..., D), by factors and noise."""
    return np.asarray(np.sqrt(np.square(noise_scales) + np.square(loadings).sum(axis=-1)))


class Parameters(NamedTuple):
    """The draws of all parameters, chains one after another, in the user's units.

    Parameters
    ----------
    weights : array of float64, shape (n_samples, n_components)
    means : array of float64, shape (n_samples, n_components, n_features)
    scales : array of float64, shape (n_samples, n_components, n_features)
    correlations : array of float64, shape (n_samples, n_components, n_features, n_features)
    covariances : array of float64, shape (n_samples, n_components, n_features, n_features)
    """

    weights: Array
    means: Array
    scales: Array
    correlations: Array
    covariances: Array


def picked(parameters: Parameters | FactorParameters, index: Any) -> Parameters | FactorParameters:
    """Return some draws, or components of them."""
    return type(parameters)(*(values[index] for values in parameters))


def with_covariances(
    found: Parameters | FactorParameters, positions: Sequence[int] | None = None
) -> Parameters:
    """Return parameters with correlation and covariance matrices, of all features or of some.

    Raises
    ------
    ValueError
        If the matrices of factor analysers would take more than 2 GiB.
    """
    some = slice(None) if positions is None else list(positions)
    if isinstance(found, Parameters):
        if positions is None:
            return found
        weights, means, scales, correlations, covariances = found
        blocks = (matrix[..., some, :][..., some] for matrix in (correlations, covariances))
        return Parameters(weights, means[..., some], scales[..., some], *blocks)
    loadings, scales = found.loadings[..., some, :], found.scales[..., some]
    n_features = scales.shape[-1]
    size = 8 * scales.size * n_features
    if size > LARGEST_DENSE:
        raise ValueError(
            f"`tree` must leave its covariance matrices under 2 GiB here, where they are needed "
            f"whole; got {n_features} features and {size / 2**30:.1f} GiB for all draws. Thin the "
            f"draws, tree.isel(draw=slice(None, None, 10)), or take some features: "
            f"bayesgmm.marginal."
        )
    scaled, diagonal = loadings / scales[..., None], np.arange(n_features)
    correlations = scaled @ np.swapaxes(scaled, -1, -2)
    correlations[..., diagonal, diagonal] = 1.0
    covariances = correlations * scales[..., :, None] * scales[..., None, :]
    return Parameters(found.weights, found.means[..., some], scales, correlations, covariances)
