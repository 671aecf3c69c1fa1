"""Sufficient statistics of rows by component: what is known of rows that are no longer there.

A mixture whose allocations are known is an exponential family. How many rows a component has,
their mean and their covariance are all that its likelihood depends on, so they stand for the rows:
in place of data that were seen, times a factor if these are to be half forgotten, as a conjugate
prior for data to come, and blended from batch to batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.inference.suited import without_factors
from bayesgmm.kernels.cholesky import Layout, constrain, offsets, standardise, unconstrain
from bayesgmm.kernels.estep import LOG_2PI, e_step, fill_whiteners
from bayesgmm.kernels.mstep import Penalty, m_step
from bayesgmm.mixture import GaussianMixture
from bayesgmm.packing import layout_of
from bayesgmm.problem import SHRINKAGE
from bayesgmm.tree import Parameters, parameters, specification

type Array = NDArray[np.float64]

MOST_DRAWS = 100
"""Draws of a fit, evenly spaced, over which the statistics of its rows are averaged."""


class Mixture(NamedTuple):
    """The parameters of one mixture of standardised data.

    Parameters
    ----------
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D, D)
    """

    log_weights: Array
    means: Array
    cholesky: Array


class Sufficient(NamedTuple):
    """Sufficient statistics of rows, component by component.

    Parameters
    ----------
    counts : array, shape (K,)
        How many rows.
    means : array, shape (K, D)
        Their mean.
    covariances : array, shape (K, D, D)
        Their covariance about it, dividing by their number.
    """

    counts: Array
    means: Array
    covariances: Array

    def times(self, factor: float) -> Self:
        """Return the same rows, each counted `factor` times."""
        return self._replace(counts=factor * self.counts)

    def shift(self, steps: Array) -> Self:
        """Return the rows moved by the steps of their components, shape (K, D)."""
        return self._replace(means=self.means + steps)

    def of(self, chosen: NDArray[np.bool_]) -> Self:
        """Return the statistics of some components."""
        return self._replace(
            counts=self.counts[chosen],
            means=self.means[chosen],
            covariances=self.covariances[chosen],
        )

    def plus(self, other: Self) -> Self:
        """Return the statistics of these rows and others together (Chan et al. 1983)."""
        counts = self.counts + other.counts
        share = np.divide(other.counts, counts, out=np.zeros_like(counts), where=counts > 0.0)
        gap = other.means - self.means
        kept, come, between = (a[:, None, None] for a in (1.0 - share, share, share * (1 - share)))
        covariances = kept * self.covariances + come * other.covariances
        covariances += between * gap[:, :, None] * gap[:, None, :]
        return self._replace(
            counts=counts, means=self.means + share[:, None] * gap, covariances=covariances
        )

    def and_another(self, count: float, mean: Array, covariance: Array) -> Self:
        """Return the statistics with those of one more component after them."""
        return self._replace(
            counts=np.append(self.counts, count),
            means=np.concatenate((self.means, mean[None])),
            covariances=np.concatenate((self.covariances, covariance[None])),
        )


@dataclass(frozen=True, eq=False)
class Ground:
    """What does not change while statistics are carried on: the model, the origin and the units.

    Parameters
    ----------
    specification : GaussianMixture
        Resolved.
    center, unit : arrays, shape (D,)
        Statistics and mixtures are those of (x - center) / unit.
    features : dict of str to Variable, dims (feature,)
        Labels of the features, and other coordinates along them.
    """

    specification: GaussianMixture
    center: Array
    unit: Array
    features: Mapping[str, xr.Variable]

    @classmethod
    def of_tree(cls, tree: xr.DataTree) -> Self:
        """Return that of a fit."""
        constant = tree[names.CONSTANT_DATA].dataset
        coords = constant.coords.items()
        features = {
            str(name): coord.variable for name, coord in coords if coord.dims == (names.FEATURE,)
        }
        center, unit = constant[names.CENTER].values, constant[names.UNIT].values
        known = without_factors(specification(tree), "where rows come in batches or frames")
        return cls(known, center, unit, features)

    def resized(self, n_components: int) -> Self:
        """Return the same for another number of components."""
        return replace(self, specification=replace(self.specification, n_components=n_components))

    @property
    def layout(self) -> Layout:
        """Of the unconstrained vector."""
        return layout_of(self.specification, self.center.size)

    @property
    def n_parameters(self) -> int:
        """Number of free parameters."""
        return int(offsets(self.layout)[3])

    def rows(self, values: Array) -> Array:
        """Return standardised data, feature by feature, shape (D, N)."""
        with np.errstate(over="ignore"):  # far rows are refused later, by name
            return np.ascontiguousarray(((values - self.center) / self.unit).T)

    def parameters(self, mixture: Mixture) -> Parameters:
        """Return the parameters of a mixture in the data's units."""
        layout = self.layout
        floor = np.zeros(layout.scale_columns)
        vector = unconstrain(layout, floor, *mixture)
        return Parameters(*constrain(layout, floor, vector[None], self.center, self.unit))

    def to_units(self, statistics: Sufficient) -> Sufficient:
        """Return statistics of the data's units."""
        counts, means, covariances = statistics
        square = np.multiply.outer(self.unit, self.unit)
        return Sufficient(counts, self.center + self.unit * means, square * covariances)

    def from_units(self, statistics: Sufficient) -> Sufficient:
        """Return statistics of standardised data."""
        counts, means, covariances = statistics
        square = np.multiply.outer(self.unit, self.unit)
        return Sufficient(counts, (means - self.center) / self.unit, covariances / square)

    def maximise(self, statistics: Sufficient, cholesky: Array) -> Mixture | None:
        """Return the mixture under which rows are most probable: an M-step.

        Under the penalty that EM has for the priors, wherever the rows have moved to.

        Parameters
        ----------
        statistics : Sufficient
            Standardised.
        cholesky : array, shape (K, D, D)
            Factors of the mixture before, where a step that has no closed form begins.

        Returns
        -------
        Mixture or None
            None where no maximum exists: an empty component, a singular covariance.
        """
        counts, means, covariances = statistics
        layout = self.layout
        k, d = means.shape
        whiteners = np.empty_like(cholesky)
        fill_whiteners(cholesky, whiteners, np.empty(k))
        second = counts[:, None, None] * (whiteners @ covariances @ whiteners.transpose(0, 2, 1))
        penalty = Penalty(
            concentration=self.specification.weights.per_component(k),
            location=counts @ means / counts.sum(),
            strength=SHRINKAGE,
            scatter=np.full(d, SHRINKAGE * k ** (-2.0 / d)),
            freedom=1.0,
        )
        mixture = Mixture(np.empty(k), means.copy(), cholesky.copy())
        found = m_step(layout, penalty, counts, np.zeros_like(means), second, *mixture)
        return mixture if found else None


def expect(rows: Array, mixture: Mixture) -> tuple[float, Sufficient]:
    """Return the log-likelihood of rows and their expected statistics: an E-step.

    Parameters
    ----------
    rows : array, shape (D, N)
        Standardised.
    mixture : Mixture
    """
    log_weights, means, cholesky = mixture
    whiteners, log_determinants = np.empty_like(cholesky), np.empty_like(log_weights)
    fill_whiteners(cholesky, whiteners, log_determinants)
    counts, first, second = (np.empty_like(like) for like in (log_weights, means, cholesky))
    value = e_step(
        rows, np.empty(0), log_weights, means, whiteners, log_determinants, counts, first, second
    )
    # the moments are of whitened rows, about the mean
    held = np.where(counts > 0.0, counts, 1.0)
    shift = first / held[:, None]
    about = second / held[:, None, None] - shift[:, :, None] * shift[:, None, :]
    moved = means + (cholesky @ shift[:, :, None])[:, :, 0]
    return value, Sufficient(counts, moved, cholesky @ about @ cholesky.transpose(0, 2, 1))


def log_density(statistics: Sufficient, mixture: Mixture) -> float:
    """Return the log density of rows whose components are known, from their statistics."""
    counts, means, covariances = statistics
    log_weights, centres, cholesky = mixture
    whiteners, log_determinants = np.empty_like(cholesky), np.empty_like(log_weights)
    fill_whiteners(cholesky, whiteners, log_determinants)
    gap = (whiteners @ (means - centres)[:, :, None])[:, :, 0]
    spread = np.einsum("kij,kjl,kil->k", whiteners, covariances, whiteners)
    constant = log_weights - log_determinants - 0.5 * means.shape[1] * LOG_2PI
    return float(counts @ (constant - 0.5 * (spread + (gap * gap).sum(axis=1))))


def mixtures_of(drawn: Parameters, ground: Ground) -> list[Mixture]:
    """Return draws of the parameters as mixtures of standardised data."""
    parts = standardise(*drawn[:4], ground.center, ground.unit)
    return [Mixture(*map(np.ascontiguousarray, one)) for one in zip(*parts, strict=True)]


def held_in(tree: xr.DataTree, group: str, ground: Ground) -> Sufficient:
    """Return the statistics that a group holds, standardised."""
    held = tree[group].dataset
    values = (held[name].values for name in (names.COUNTS, names.MEANS, names.COVARIANCES))
    return ground.from_units(Sufficient(*values))


def statistics_of(tree: xr.DataTree, ground: Ground) -> Sufficient:
    """Return the statistics that a fit carries, or else those of the rows that were fitted.

    These are expected under the fit, and averaged over its draws.
    """
    if names.SUFFICIENT_STATISTICS in tree.children:
        return held_in(tree, names.SUFFICIENT_STATISTICS, ground)
    observed = tree[names.OBSERVED_DATA].dataset[names.X].transpose(names.OBS, names.FEATURE)
    rows = ground.rows(observed.values)
    drawn = parameters(tree)
    every = -(-len(drawn.weights) // MOST_DRAWS)
    draws = mixtures_of(Parameters(*(part[::every] for part in drawn)), ground)
    total = expect(rows, draws[0])[1]
    for mixture in draws[1:]:
        total = total.plus(expect(rows, mixture)[1])
    return total.times(1.0 / len(draws))
