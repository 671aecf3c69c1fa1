"""The draws of all parameters, with their covariance matrices or, of factor analysers, without."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.background import UniformNoise
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.kernels.factor_loadings import LARGEST_DENSE
from bayesgmm.kernels.tails import with_df

type Array = NDArray[np.float64]


class FactorParameters(NamedTuple):
    """The draws of factor analysers, chains one after another, in the user's units.

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

    def standardised(self, center: Array, unit: Array) -> tuple[Array, Array, Array]:
        """Return what the passes read; see `kernels.cholesky.standardise`."""
        return standardise(*self[:4], center, unit)


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

    def standardised(self, center: Array, unit: Array) -> tuple[Array, Array, Array]:
        """Return what the passes read; see `kernels.cholesky.standardise`."""
        return standardise(*self[:4], center, unit)


class TailedParameters(Parameters):
    """The same of heavy-tailed components, and after them their degrees of freedom.

    Parameters
    ----------
    *parts : arrays
        Those of `Parameters`, whose covariances are scale matrices; and degrees of freedom, shape
        (n_samples, n_components).
    """

    __slots__ = ()
    _fields = (*Parameters._fields, names.DF)  # type: ignore[assignment]

    def __new__(cls, *parts: Array) -> Self:
        """Make the tuple, of one part more than its class has names for."""
        return tuple.__new__(cls, parts)

    @classmethod
    def _make(cls, iterable: Iterable[Array]) -> Self:  # type: ignore[override]
        return tuple.__new__(cls, iterable)

    @property
    def df(self) -> Array:
        """Degrees of freedom."""
        return self[-1]

    def standardised(self, center: Array, unit: Array) -> tuple[Array, Array, Array]:
        """Return what the passes read, degrees of freedom below the Cholesky factors."""
        log_weights, means, cholesky = super().standardised(center, unit)
        return log_weights, means, with_df(cholesky, self.df)


class NoisyParameters(Parameters):
    """The same of components and background noise, and after them those of the noise.

    Parameters
    ----------
    *parts : arrays
        Those of `Parameters`; and the weight and the log density of noise, shape (n_samples,). It
        sums to 1 with the weights of the components.
    """

    __slots__ = ()
    _fields = (  # type: ignore[assignment]
        *Parameters._fields, names.NOISE_WEIGHT, names.NOISE_LOG_DENSITY
    )  # fmt: skip

    def __new__(cls, *parts: Array) -> Self:
        """Make the tuple, of two parts more than its class has names for."""
        return tuple.__new__(cls, parts)

    @classmethod
    def _make(cls, iterable: Iterable[Array]) -> Self:  # type: ignore[override]
        return tuple.__new__(cls, iterable)

    @classmethod
    def of_all(cls, weights: Array, *parts: Array, log_density: float) -> Self:
        """Make the tuple of weights, shape (n_samples, n_components + 1), that of noise last."""
        of_noise = weights[:, -1].copy()
        return cls(weights[:, :-1].copy(), *parts, of_noise, np.full(len(weights), log_density))

    @property
    def noise_weight(self) -> Array:
        """Weight of the noise."""
        return self[-2]

    def standardised(self, center: Array, unit: Array) -> tuple[Array, Array, Array]:
        """Return what the passes read, the log joint density of noise after the log-weights."""
        log_weights, means, cholesky = super().standardised(center, unit)
        with np.errstate(divide="ignore"):
            of_noise = np.log(self.noise_weight) + self[-1] + np.log(unit).sum()
        return np.column_stack((log_weights, of_noise)), means, cholesky


def parameters_of(*parts: Array) -> Parameters:
    """Return the parameters that some arrays are: of six heavy-tailed ones, of seven with noise."""
    kind = (Parameters, TailedParameters, NoisyParameters)[len(parts) - len(Parameters._fields)]
    return kind(*parts)


def stacked[P: Parameters | FactorParameters](several: Sequence[P]) -> P:
    """Return the draws of several as one."""
    kind: Any = type(several[0])
    made: P = kind._make(map(np.concatenate, zip(*several, strict=True)))
    return made


def each[P: Parameters | FactorParameters](found: P, change: Callable[[Array], Array]) -> P:
    """Return parameters with all arrays changed."""
    kind: Any = type(found)
    made: P = kind._make(map(change, found))
    return made


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
        weights, means, scales, correlations, covariances = found[:5]
        df = found[5:]
        blocks = (matrix[..., some, :][..., some] for matrix in (correlations, covariances))
        return parameters_of(weights, means[..., some], scales[..., some], *blocks, *df)
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


def of_modes(tree: xr.DataTree, noise: UniformNoise | None) -> Parameters | FactorParameters:
    """Return the parameters of the modes of a fit, given the noise of its specification."""
    group = tree[names.MODES].dataset

    def values(name: str) -> Array:
        dims = names.PARAMETER_DIMS | names.FACTOR_DIMS
        return np.ascontiguousarray(group[name].transpose(names.MODE, *dims[name]).values)

    weights, means = values(names.WEIGHTS), values(names.MEANS)
    if names.LOADINGS in group:
        own, loadings = values(names.NOISE_SCALES), values(names.LOADINGS)
        return FactorParameters(weights, means, own, loadings, scales_of(own, loadings))
    covariances = values(names.COVARIANCES)
    scales = np.sqrt(np.einsum("mkdd->mkd", covariances))
    correlations = covariances / (scales[..., :, None] * scales[..., None, :])
    matrices = (weights, means, scales, correlations, covariances)
    if noise is not None:
        of_noise = group[names.NOISE_WEIGHT].values
        return parameters_of(*matrices, of_noise, np.full(of_noise.shape, noise.log_density))
    if names.DF not in group:
        return parameters_of(*matrices)
    return parameters_of(*matrices, group[names.DF].transpose(names.MODE, names.COMPONENT).values)
