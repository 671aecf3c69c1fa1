"""A Normal distribution in place of the posterior: its draws, how good it is, and resampling."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning, FitError
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.progress import Progress
from bayesgmm.kernels.psis import LARGEST_PARETO_K, psis
from bayesgmm.posterior_density import Density

type Array = NDArray[np.float64]

STARTS: Final = 20
"""EM runs, from the best of which an approximation starts."""
FEWEST_PROPOSALS: Final = 1000
"""Draws that an estimate of k-hat takes at the least."""
MOST_PROPOSALS: Final = 4
"""Draws made for one that is reported, at the most."""
TOGETHER: Final = 256
"""Draws between two reports of progress."""
LOG_2PI: Final = float(np.log(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class Normal:
    """The distribution of x = center + factor z, with z standard Normal.

    Parameters
    ----------
    center : array, shape (P,)
    factor : array, shape (P, P) or (P,)
        A matrix, or the diagonal of one.
    log_unit : float
        Logarithm of the volume that one of x has where densities are measured: those of p are in
        the units of the data, whatever x is in.
    """

    center: Array
    factor: Array
    log_unit: float

    def vectors(self, z: Array) -> Array:
        """Return the vectors, shape (S, P), that standard ones are mapped to."""
        return self.center + (z @ self.factor.T if self.factor.ndim == 2 else z * self.factor)

    def log_density(self, z: Array) -> Array:
        """Return the log density, shape (S,), of the vectors that standard ones are mapped to."""
        square = np.einsum("sp,sp->s", z, z)
        return -0.5 * (square + self.center.size * LOG_2PI) - self.log_volume

    @cached_property
    def log_volume(self) -> float:
        """Logarithm of the absolute determinant of the factor, in the units of densities."""
        if self.factor.ndim == 2:
            return float(np.linalg.slogdet(self.factor)[1]) + self.log_unit
        return float(np.log(self.factor).sum()) + self.log_unit

    @property
    def entropy(self) -> float:
        """Minus the expectation of the log density, in nats."""
        return self.log_volume + 0.5 * self.center.size * (1.0 + LOG_2PI)


@dataclass(frozen=True, eq=False)
class Proposals:
    """Draws of an approximation q of a posterior p.

    Parameters
    ----------
    vectors : array, shape (S, P)
    log_p, log_q : arrays, shape (S,)
        Log densities; -inf where p has none.
    """

    vectors: Array
    log_p: Array
    log_q: Array

    @property
    def log_ratios(self) -> Array:
        """Log p less log q, shape (S,)."""
        return self.log_p - self.log_q

    def joined(self, other: Self) -> Self:
        """Return these draws and then others."""
        return type(self)(
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.log_p, other.log_p]),
            np.concatenate([self.log_q, other.log_q]),
        )


def propose(
    normal: Normal, density: Density, n_draws: int, rng: np.random.Generator, progress: Progress
) -> Proposals:
    """Draw from an approximation, and evaluate both densities.

    Parameters
    ----------
    normal : Normal
        The approximation.
    density : Density
        The posterior.
    n_draws : int
    rng : numpy.random.Generator
    progress : Progress

    Returns
    -------
    Proposals
        Fewer draws if the user interrupts.
    """
    z = rng.normal(size=(n_draws, normal.center.size))
    vectors, log_p, made = normal.vectors(z), np.empty(n_draws), 0
    try:
        for start in range(0, n_draws, TOGETHER):
            progress.update(f"Evaluating draws: {start / n_draws:.0%}")
            part = slice(start, start + TOGETHER)
            log_p[part] = density(vectors[part])[0]
            made = min(start + TOGETHER, n_draws)
    except KeyboardInterrupt:
        pass
    log_p[np.isnan(log_p)] = -np.inf
    return Proposals(vectors[:made], log_p[:made], normal.log_density(z[:made]))


@dataclass(frozen=True, eq=False)
class Settled:
    """The draws that are reported.

    Parameters
    ----------
    vectors : array, shape (S, P)
        Chains one after the other.
    statistics : dict of str to array, shape (chains, draws)
    attrs : dict
    """

    vectors: Array
    statistics: dict[str, NDArray[Any]]
    attrs: dict[str, str | int | float]


def settle(
    normal: Normal,
    density: Density,
    proposals: Proposals,
    options: Options,
    rng: np.random.Generator,
    progress: Progress,
) -> Settled:
    """Resample proposals by their importance if that can be trusted, and report them as chains.

    Parameters
    ----------
    normal : Normal
    density : Density
    proposals : Proposals
        As many as are wanted, 1,000 at the least, or fewer if the user interrupted.
    options : Options
    rng : numpy.random.Generator
    progress : Progress

    Returns
    -------
    Settled

    Raises
    ------
    FitError
        If there are less than two draws for a chain; status ``"interrupted"``.

    Warns
    -----
    ConvergenceWarning
        If the user interrupted.

    Notes
    -----
    Weights are Pareto-smoothed. Draws are repeated as often as their weights say, up to rounding
    (systematic resampling), from so many proposals that as many are effective as are asked for,
    at most four times those: so repeats are few, and the draws are worth about their number.
    """
    wanted = options.chains * options.draws
    interrupted = len(proposals.log_p) < wanted
    log_weights = np.empty(len(proposals.log_p))
    pareto_k = psis(proposals.log_ratios, 1.0, log_weights)
    if pareto_k <= LARGEST_PARETO_K and not interrupted:
        enough = int(wanted * len(log_weights) * np.exp(2.0 * log_weights).sum())
        missing = min(enough, MOST_PROPOSALS * wanted) - len(log_weights)
        if missing > 0:
            proposals = proposals.joined(propose(normal, density, missing, rng, progress))
            log_weights = np.empty(len(proposals.log_p))
            pareto_k = psis(proposals.log_ratios, 1.0, log_weights)
    draws = min(options.draws, len(proposals.log_p) // options.chains)
    if draws < 2:
        raise FitError(
            f"Drawing was interrupted too early; got {draws} draws per chain. Let it run longer, "
            f"or ask for fewer `draws`.",
            status=names.INTERRUPTED,
        )
    if interrupted:
        warnings.warn(
            f"Drawing was interrupted: {draws} of {options.draws} draws per chain are returned.",
            ConvergenceWarning,
            stacklevel=4,
        )
    chosen = np.arange(options.chains * draws)
    resampled = pareto_k <= LARGEST_PARETO_K
    if resampled:
        chosen = _systematic(np.exp(log_weights), chosen.size, rng)
    shape = (options.chains, draws)
    return Settled(
        vectors=proposals.vectors[chosen],
        statistics={
            names.LP: proposals.log_p[chosen].reshape(shape),
            names.LOG_Q: proposals.log_q[chosen].reshape(shape),
        },
        attrs={
            names.PARETO_K: float(pareto_k),
            names.RESAMPLED: int(resampled),
            names.INTERRUPTED: int(interrupted),
        },
    )


def _systematic(weights: Array, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return indices in random order, each as often as its weight says, up to rounding."""
    edges = np.cumsum(weights)
    places = (rng.random() + np.arange(size)) / size * edges[-1]
    chosen = np.searchsorted(edges, places, side="right")
    return rng.permutation(np.minimum(chosen, weights.size - 1))
