"""The integral of a density from draws of it and of another, by bridge sampling."""

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, fill_cholesky, fill_log_weights, offsets
from bayesgmm.kernels.diagnostics import diagnose
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.mstep import Penalty, run_em
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.seeding import kmeans_labels, vector_from_labels
from bayesgmm.kernels.threads import over_draws

type Array = NDArray[np.float64]

MOST_NORMALS: Final = 4
"""Normal distributions that a proposal is mixed of, at the most."""
DRAWS_PER_NORMAL: Final = 8
"""Draws that each of them takes for every parameter, at the least, if there is not just one."""
SWEEPS: Final = 5
"""Iterations of k-means before EM."""
PASSES: Final = 200
"""Of EM, at the most."""
GAIN: Final = 0.1
"""Gain, in nats, under which EM stops."""
TOLERANCE: Final = 1e-10
"""Change of the estimate, in nats, under which it stands."""
ITERATIONS: Final = 1000


@dataclass(frozen=True, eq=False)
class Proposal:
    """A mixture of a few Normal distributions, fitted to draws.

    Parameters
    ----------
    center : array, shape (P,)
    factor : array, shape (P, P)
        Standardised, the mixture is that of z with x = center + factor z.
    log_weights, means, cholesky : arrays, shapes (G,), (G, P), (G, P, P)
        Of the mixture, standardised.
    """

    center: Array
    factor: Array
    log_weights: Array
    means: Array
    cholesky: Array

    @classmethod
    def fit(cls, vectors: Array, rng: np.random.Generator) -> Self:
        """Fit as many Normals as the draws, shape (S, P), can bear, by EM.

        Every covariance is drawn towards that of all draws, as if P more of them had it, so that
        none collapses.
        """
        n_draws, n_dim = vectors.shape
        center = vectors.mean(axis=0)
        factor = np.linalg.cholesky(np.atleast_2d(np.cov(vectors.T)))
        g = max(1, min(MOST_NORMALS, n_draws // (DRAWS_PER_NORMAL * n_dim)))
        log_weights, means = np.zeros(1), np.zeros((1, n_dim))
        cholesky = np.eye(n_dim)[None]
        if g > 1:
            rows = np.ascontiguousarray(np.linalg.solve(factor, (vectors - center).T))
            layout = Layout(g, n_dim, g, n_dim, g)
            strength = float(n_dim + 2)
            toward = np.full(n_dim, strength)
            penalty = Penalty(np.ones(g), np.zeros(n_dim), 1.0 / n_draws, toward, strength)
            labels = kmeans_labels(rows, rng.random(g), SWEEPS)
            _, start = vector_from_labels(layout, penalty, rows, labels)
            _, top, _ = run_em(layout, penalty, rows, np.empty(0), NO_GROUPS, start, PASSES, GAIN)
            log_weights, cholesky = np.empty(g), np.empty((g, n_dim, n_dim))
            fill_log_weights(top, log_weights)
            fill_cholesky(layout, np.zeros(n_dim), top, np.empty((g, n_dim)), cholesky)
            first, last, _, _ = offsets(layout)
            means = top[first:last].reshape(g, n_dim)
        return cls(center, factor, log_weights, means, cholesky)

    def draw(self, n_draws: int, rng: np.random.Generator) -> Array:
        """Return independent draws, shape (S, P)."""
        weights = np.exp(self.log_weights)
        which = rng.choice(weights.size, size=n_draws, p=weights / weights.sum())
        z = rng.normal(size=(n_draws, self.center.size))
        for g in range(weights.size):
            z[which == g] = self.means[g] + z[which == g] @ self.cholesky[g].T
        return self.center + z @ self.factor.T

    def log_density(self, vectors: Array) -> Array:
        """Return the log density, shape (S,)."""
        rows = np.ascontiguousarray(np.linalg.solve(self.factor, (vectors - self.center).T))
        mixture = self.log_weights[None], self.means[None], self.cholesky[None]
        result = np.empty(len(vectors))

        def fill(part: slice) -> None:
            some = np.ascontiguousarray(rows[:, part])
            fill_draws(some, *mixture, result[None, part], NO_CUBE, NO_LABELS, NO_CUBE)

        over_draws(fill, len(vectors))
        return result - float(np.log(np.diag(self.factor)).sum())


class Bridge(NamedTuple):
    """An estimate of the logarithm of an integral.

    Parameters
    ----------
    value : float
        In nats.
    of_draws, of_proposals : float
        Parts of its relative mean squared error: of the draws of the density, and of the others.
    """

    value: float
    of_draws: float
    of_proposals: float


def bridge(at_draws: Array, at_proposals: Array) -> Bridge:
    r"""Return what a density p integrates to, by draws of it and of a normalised density q.

    The optimal bridge of Meng & Wong (1996), whose fixed point is found by iteration,

    .. math:: Z = \frac{\sum_j l_j / (s_1 l_j + s_2 Z) / n_2}
                       {\sum_i 1 / (s_1 l_i + s_2 Z) / n_1}, \qquad l = p / q,

    over draws j of q and i of p, with :math:`s` the shares that draws of p, as many as they are
    worth, and of q have of all. The errors are those of Fruehwirth-Schnatter (2004), with the
    effective sample size of the terms of the denominator in place of their spectral density.

    Parameters
    ----------
    at_draws : array, shape (chains, draws)
        log p - log q.
    at_proposals : array, shape (n,)
        The same; -inf where p is 0.

    References
    ----------
    Meng & Wong (1996), Simulating ratios of normalizing constants via a simple identity: a
    theoretical exploration, Statistica Sinica 6.

    Fruehwirth-Schnatter (2004), Estimating marginal likelihoods for mixture and Markov switching
    models using bridge sampling techniques, Econometrics Journal 7.
    doi:10.1111/j.1368-423X.2004.00125.x
    """
    worth = float(at_draws.size)
    value, upper, lower = _solve(at_draws, at_proposals, worth)
    for _ in range(2):  # what the terms are worth depends on the shares, but little
        worth = _effective(lower)
        value, upper, lower = _solve(at_draws, at_proposals, worth)
    return Bridge(value, _relative(lower) / _effective(lower), _relative(upper) / upper.size)


def _solve(at_draws: Array, at_proposals: Array, worth: float) -> tuple[float, Array, Array]:
    """Return the log of the integral, and the terms of the numerator and of the denominator."""
    share = worth / (worth + at_proposals.size)
    own, other = np.log(share), np.log1p(-share)
    value = float(np.median(at_draws))
    for _ in range(ITERATIONS):
        lower = np.exp(-np.logaddexp(own + at_draws - value, other))
        upper = np.exp(at_proposals - value - np.logaddexp(own + at_proposals - value, other))
        step = float(np.log(upper.mean()) - np.log(lower.mean()))
        value += step
        if abs(step) < TOLERANCE:
            break
    return value, upper, lower


def _relative(terms: Array) -> float:
    """Return the variance over the squared mean."""
    return float(terms.var() / terms.mean() ** 2)


def _effective(terms: Array) -> float:
    """Return how many independent draws the mean of some terms, shape (chains, draws), is worth."""
    effective = float(diagnose(terms[None])[3, 0])
    return min(effective, float(terms.size)) if np.isfinite(effective) else float(terms.size)
