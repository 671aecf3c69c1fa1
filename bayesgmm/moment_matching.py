"""Draws moved to where the posterior is without one row, for rows that matter too much."""

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesgmm import names
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.psis import psis
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.threads import over_draws
from bayesgmm.posterior_density import Density, whole
from bayesgmm.problem import Problem
from bayesgmm.sample_weights import weigh
from bayesgmm.symmetry import Domain, groups_of
from bayesgmm.symptoms import gap_in_density
from bayesgmm.tree import parameters as draws_of

type Array = NDArray[np.float64]

ENOUGH: Final = 0.5
"""Pareto shape of weights of finite variance: the map is chosen for its small shape, so that a
larger one, though below 0.7, tells less than it would of weights that were not chosen."""
MOST_MAPS: Final = 30
"""Maps that are tried for a row, at the most."""


class Affine(NamedTuple):
    """The map of x to ``matrix @ x + offset``.

    Parameters
    ----------
    matrix : array, shape (P, P)
    offset : array, shape (P,)
    """

    matrix: Array
    offset: Array

    def of(self, vectors: Array) -> Array:
        """Return what vectors, shape (S, P), are mapped to."""
        return np.ascontiguousarray(vectors @ self.matrix.T + self.offset)

    def back(self, vectors: Array) -> Array:
        """Return the vectors, shape (S, P), that are mapped to these."""
        return np.ascontiguousarray(np.linalg.solve(self.matrix, (vectors - self.offset).T).T)


class Weighted(NamedTuple):
    """Draws weighted as those of the posterior without one row.

    Parameters
    ----------
    vectors : array, shape (S, P)
    log_weights : array, shape (S,)
        Smoothed; the weights sum to 1.
    shape : float
        Pareto shape of their tail.
    elpd : float
        Log predictive density of the row.
    """

    vectors: Array
    log_weights: Array
    shape: float
    elpd: float

    @classmethod
    def by(cls, vectors: Array, log_ratios: Array, log_likelihood: Array, reff: float) -> Self:
        """Weight draws by smoothed ratios; those that are no numbers count as zero."""
        log_ratios[~(log_ratios < np.inf)] = -np.inf
        log_weights = np.empty_like(log_ratios)
        shape = psis(log_ratios, reff, log_weights)
        if np.isnan(shape):
            shape = np.inf
        return cls(vectors, log_weights, shape, float(logsumexp(log_weights + log_likelihood)))


@dataclass(frozen=True, eq=False)
class Movable:
    """The draws of a fit where its posterior can be evaluated, every mixture under one naming.

    Parameters
    ----------
    problem : Problem
    density : Density
        The log posterior.
    domain : Domain
        That holds one of the copies that renaming components makes.
    vectors : array, shape (S, P)
        The draws, renamed so that they are in the domain.
    log_p : array, shape (S,)
        Their log posterior.
    """

    problem: Problem
    density: Density
    domain: Domain
    vectors: Array
    log_p: Array

    @classmethod
    def of_tree(cls, tree: xr.DataTree) -> Self | None:
        """Return the draws of a fit; None where they are not, or not known to be, movable.

        Those of an approximation are not draws of the posterior; where the number of components
        has a prior they have no common scale; of a changed PyMC model the density is not known.
        """
        fixed = names.N_COMPONENTS not in tree[names.POSTERIOR].dataset
        ours = names.LIKELIHOOD not in tree.attrs
        if not (
            ours
            and fixed
            and tree.attrs.get(names.RESAMPLED, 1)
            and names.SAMPLE_STATS in tree.children
        ):
            return None
        problem = Problem.of_tree(tree)
        density = whole(problem)
        vectors = problem.vectors(draws_of(tree))
        if not np.isfinite(vectors).all():
            return None
        log_p = density(vectors)[0]
        if gap_in_density(tree, log_p) != 0.0:
            return None
        groups = groups_of(problem.specification, problem.data.allowed)
        domain = Domain.around(problem.layout, groups, vectors, int(log_p.argmax()))
        return cls(problem, density, domain, domain.moved(vectors), log_p)

    def without(self, row: int, reff: float, good_k: float) -> Weighted | None:
        r"""Return draws weighted as those of the posterior without a row; None if that fails.

        Every other draw is moved by an affine map T that gives draws the moments which the weights
        say they should have (Paananen et al. 2021), and all are weighted as draws of the mixture
        of moved and unmoved ones,

        .. math:: w(\theta) \propto \frac{p(\theta \mid X) / p(x_i \mid \theta)}
                  {p(\theta \mid X) + p(T^{-1} \theta \mid X) / |T|},

        all densities those in the domain, and zero outside: exact however namings overlap. Better
        weights tell better what the moments should be. First means are matched, as long as this
        makes the shape of the weights smaller, then standard deviations too, then covariances.

        Parameters
        ----------
        row : int
        reff : float
            Effective draws per draw.
        good_k : float
            Pareto shape that so many draws allow for.

        Notes
        -----
        A pass over the data for every draw and map, of which there are some three to ten.
        """
        log_likelihood = self._density_of(row, self.vectors)
        found = Weighted.by(self.vectors, -log_likelihood, log_likelihood, reff)
        enough, tried = min(ENOUGH, good_k), 0
        for match in (_means, _deviations, _covariances):
            better = True
            while better and found.shape > enough and tried < MOST_MAPS:
                tried += 1
                step = match(self.vectors, found)
                new = None if step is None else self._moved(row, step, log_likelihood, reff)
                better = new is not None and new.shape < found.shape
                found = new if new is not None and better else found
        return found if found.shape <= enough else None

    def _moved(self, row: int, step: Affine, log_likelihood: Array, reff: float) -> Weighted:
        """Return all draws, every other one moved, weighted."""
        stay, move = slice(0, None, 2), slice(1, None, 2)
        vectors, log_likelihood = self.vectors.copy(), log_likelihood.copy()
        moved = step.of(self.vectors[move])
        vectors[move], log_likelihood[move] = moved, self._density_of(row, moved)
        log_p, log_q = self.log_p.copy(), self.log_p.copy()
        log_p[move] = self._in_domain(moved)
        log_q[stay] = self._in_domain(step.back(self.vectors[stay]))
        log_q -= np.linalg.slogdet(step.matrix)[1]
        log_ratios = log_p - log_likelihood - np.logaddexp(log_p, log_q)
        return Weighted.by(vectors, log_ratios, log_likelihood, reff)

    def _in_domain(self, vectors: Array) -> Array:
        """Return the log posterior of vectors, minus infinity outside of the domain."""
        values = self.density(vectors)[0]
        values[~self.domain.holds(vectors) | np.isnan(values)] = -np.inf  # NaN: it overflows
        return values

    def _density_of(self, row: int, vectors: Array) -> Array:
        """Return the log density of a row under every vector, shape (S,), in the data's units."""
        problem = self.problem
        with np.errstate(over="ignore"):  # where draws are moved to
            parameters = problem.constrain(vectors)
            mixtures = parameters.standardised(problem.center, problem.unit)
        values = np.ascontiguousarray(problem.rows[:, row : row + 1])
        result = np.empty((len(vectors), 1))

        def fill(part: slice) -> None:
            log_weights, means, cholesky = (array[part] for array in mixtures)
            fill_draws(
                values, log_weights, means, cholesky, result[part], NO_CUBE, NO_LABELS, NO_CUBE
            )

        over_draws(fill, len(vectors))
        result -= problem.log_volumes[row]
        weights = problem.data.sample_weight
        weigh(result, None if weights is None else weights[row : row + 1])
        return np.asarray(result[:, 0])


def _means(vectors: Array, wanted: Weighted) -> Affine:
    """Return the map that gives vectors the mean of weighted ones."""
    offset = np.exp(wanted.log_weights) @ wanted.vectors - vectors.mean(axis=0)
    return Affine(np.eye(offset.size), offset)


def _deviations(vectors: Array, wanted: Weighted) -> Affine | None:
    """Return the map that gives vectors the means and standard deviations of weighted ones."""
    mean, covariance = _moments(wanted)
    ratios = np.sqrt(np.diag(covariance)) / vectors.std(axis=0)
    if not (ratios > 0.0).all():  # all weight is on one draw
        return None
    return Affine(np.diag(ratios), mean - ratios * vectors.mean(axis=0))


def _covariances(vectors: Array, wanted: Weighted) -> Affine | None:
    """Return a map that gives vectors the means and covariances of weighted ones."""
    mean, covariance = _moments(wanted)
    try:
        target = np.linalg.cholesky(covariance)
        given = np.linalg.cholesky(np.atleast_2d(np.cov(vectors.T, bias=True)))
    except np.linalg.LinAlgError:  # the weight is on fewer draws than there are parameters
        return None
    matrix = np.linalg.solve(given.T, target.T).T
    return Affine(matrix, mean - matrix @ vectors.mean(axis=0))


def _moments(wanted: Weighted) -> tuple[Array, Array]:
    """Return the mean, shape (P,), and the covariance matrix of weighted vectors."""
    weights = np.exp(wanted.log_weights)
    mean = weights @ wanted.vectors
    gap = wanted.vectors - mean
    return mean, (gap * weights[:, None]).T @ gap
