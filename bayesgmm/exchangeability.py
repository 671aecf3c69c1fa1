"""Components that may swap names: neither priors nor labels tell them apart."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.mixture import GaussianMixture
from bayesgmm.overfitted import StickBreaking

type Labels = NDArray[np.int64]


def groups_of(spec: GaussianMixture, allowed: NDArray[np.float64] | None = None) -> Labels:
    """Return a number for every component, shape (K,), the same for those that are alike.

    Parameters
    ----------
    spec : GaussianMixture
        With a known number of components.
    allowed : array, shape (n_obs, K), optional
        What is known of the labels of the rows.
    """
    groups = named_apart(allowed, spec.known_number)
    if isinstance(spec.weights, StickBreaking):
        return np.arange(spec.known_number)
    both = np.column_stack([groups, spec.weights.per_component(spec.known_number)])
    return np.unique(both, axis=0, return_inverse=True)[1].astype(np.int64)


def named_apart(allowed: NDArray[np.float64] | None, n_components: int) -> Labels:
    """Return a number for every component, shape (K,), the same where labels do not differ."""
    if allowed is None:
        return np.zeros(n_components, dtype=np.int64)
    columns = [np.ascontiguousarray(column).tobytes() for column in allowed.T]
    return np.array([columns.index(column) for column in columns], dtype=np.int64)
