"""One of the copies of the posterior that renaming components makes."""

from collections import Counter
from dataclasses import dataclass
from math import lgamma
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, offsets
from bayesgmm.kernels.stephens import match_each
from bayesgmm.kernels.threads import over_draws
from bayesgmm.known_labels import named_apart
from bayesgmm.mixture import GaussianMixture
from bayesgmm.overfitted import StickBreaking

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

ROUNDS: Final = 30
"""Times that draws are matched to what they have in common, at the most."""
RIDGE: Final = 1e-9
"""Share of its variance that is added to every parameter's, lest a matrix be singular."""


def groups_of(spec: GaussianMixture, allowed: Array | None = None) -> Labels:
    """Return a number for every component, shape (K,), the same for those that are alike.

    They have equal priors, and what is known of the labels of rows, shape (n_obs, K), does not
    tell them apart.
    """
    if isinstance(spec.weights, StickBreaking):
        return np.arange(spec.known_number)
    groups = named_apart(allowed, spec.known_number)
    both = np.column_stack([groups, spec.weights.per_component(spec.known_number)])
    return np.unique(both, axis=0, return_inverse=True)[1].astype(np.int64)


def log_copies(groups: Labels) -> float:
    """Return the logarithm of the number of renamings that leave the posterior as it is."""
    return sum(lgamma(size + 1.0) for size in Counter(groups.tolist()).values())


@dataclass(frozen=True, eq=False)
class Domain:
    """A part of the parameter space that holds every mixture once, under one of its namings.

    A mixture is in it if no other naming makes its components more alike to K reference
    components, squared Mahalanobis distances of their parameters summed. Renaming is linear in
    the unconstrained vector and keeps volumes, and only ties are left out, which have none: so
    the posterior integrates to as many times its integral over the domain as there are namings,
    wherever the references are and however much the copies overlap.

    Parameters
    ----------
    places : array of int, shape (K, B)
        Where the parameters of every component are in the vector; that of the last weight,
        minus the sum of the others, comes after its end. With noise this is the noise's, and none
        of a component.
    alike : array of bool, shape (K, K)
        Pairs of components that may swap names.
    centers : array, shape (K, B)
    whiteners : array, shape (K, B, B)
        Of the references.
    """

    places: Labels
    alike: NDArray[np.bool_]
    centers: Array
    whiteners: Array

    @classmethod
    def around(cls, layout: Layout, groups: Labels, vectors: Array, first: int) -> Self:
        """Return the domain whose references are what draws, renamed to be alike, have in common.

        Parameters
        ----------
        layout : Layout
        groups : array of int, shape (K,)
            As `groups_of` returns them.
        vectors : array, shape (S, P)
        first : int
            The draw to begin with.
        """
        places = _places(layout)
        alike = groups[:, None] == groups
        blocks = _extended(vectors, len(places))[:, places]
        spread = blocks.reshape(-1, blocks.shape[2]).std(axis=0) + RIDGE
        whiteners = np.tile(np.diag(1.0 / spread), (len(places), 1, 1))
        domain = cls(places, alike, blocks[first], whiteners)
        order = domain._order(blocks)
        for _ in range(ROUNDS):
            named = np.take_along_axis(blocks, order[:, :, None], axis=1)
            domain = cls(places, alike, named.mean(axis=0), _whiteners(named))
            before, order = order, domain._order(blocks)
            if np.array_equal(before, order):
                break
        return domain

    def moved(self, vectors: Array) -> Array:
        """Return vectors, shape (S, P), renamed so that they are in the domain."""
        extended = _extended(vectors, len(self.places))
        blocks = extended[:, self.places]
        order = self._order(blocks)
        extended[:, self.places] = np.take_along_axis(blocks, order[:, :, None], axis=1)
        return np.ascontiguousarray(extended[:, :-1])

    def holds(self, vectors: Array) -> NDArray[np.bool_]:
        """Return which vectors, of shape (S, P), are in the domain."""
        order = self._order(_extended(vectors, len(self.places))[:, self.places])
        held: NDArray[np.bool_] = (order == np.arange(len(self.places))).all(axis=1)
        return held

    def _order(self, blocks: Array) -> Labels:
        """Return the component of every draw that goes to each reference, shape (S, K)."""
        order = np.tile(np.arange(len(self.places)), (len(blocks), 1))
        if len(self.places) == 1:
            return order

        def match(part: slice) -> None:
            gains = np.empty((part.stop - part.start, *self.alike.shape))
            for j, (center, whitener) in enumerate(zip(self.centers, self.whiteners, strict=True)):
                z = (blocks[part] - center) @ whitener.T
                gains[:, :, j] = -np.einsum("skb,skb->sk", z, z)
            gains[:, ~self.alike] = -np.inf
            match_each(gains, order[part], np.empty(len(gains)))

        over_draws(match, len(blocks))
        return order


def _places(layout: Layout) -> Labels:
    """Return where the parameters of every component are, shape (K, B)."""
    k = layout.n_components
    means, scales, correlations, length = offsets(layout)
    weights = np.arange(k) if layout.n_noise else np.append(np.arange(k - 1), length)
    parts = [weights, np.arange(means, scales)]
    if layout.scale_rows == k:
        parts.append(np.arange(scales, correlations))
    if layout.correlation_sets == k or layout.n_factors:
        parts.append(np.arange(correlations, length - layout.df_sets))
    if layout.df_sets == k:
        parts.append(np.arange(length - k, length))
    return np.concatenate([part.reshape(k, -1) for part in parts], axis=1)


def _extended(vectors: Array, n_components: int) -> Array:
    """Return vectors with the last weight, whose logarithm less the mean is minus the others'."""
    return np.column_stack([vectors, -vectors[:, : n_components - 1].sum(axis=1)])


def _whiteners(named: Array) -> Array:
    """Return the inverse Cholesky factors of the covariances, shape (K, B, B), of the blocks."""
    gap = named - named.mean(axis=0)
    covariances = np.einsum("skb,skc->kbc", gap, gap) / len(named)
    variances = np.einsum("kbb->kb", covariances)
    diagonal = np.arange(named.shape[2])
    covariances[:, diagonal, diagonal] += RIDGE * (variances + RIDGE)
    whiteners: Array = np.linalg.inv(np.linalg.cholesky(covariances))
    return whiteners
