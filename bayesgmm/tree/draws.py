"""The draws of all parameters, as they leave and enter the tree."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.kernels.tails import with_df

type Array = NDArray[np.float64]


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

    weights: NDArray[np.float64]
    means: NDArray[np.float64]
    scales: NDArray[np.float64]
    correlations: NDArray[np.float64]
    covariances: NDArray[np.float64]

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

    @property
    def df(self) -> Array:
        """Degrees of freedom."""
        return self[-1]

    def standardised(self, center: Array, unit: Array) -> tuple[Array, Array, Array]:
        """Return what the passes read, degrees of freedom below the Cholesky factors."""
        log_weights, means, cholesky = super().standardised(center, unit)
        return log_weights, means, with_df(cholesky, self.df)


def parameters_of(*parts: Array) -> Parameters:
    """Return the parameters that some arrays are, of heavy-tailed components if they are six."""
    return (TailedParameters if len(parts) > len(Parameters._fields) else Parameters)(*parts)


def stacked(several: Sequence[Parameters]) -> Parameters:
    """Return the draws of several as one."""
    return parameters_of(*map(np.concatenate, zip(*several, strict=True)))
