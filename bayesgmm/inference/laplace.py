"""The Normal approximation of the posterior around a mode."""

import time
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.inference.approximation import (
    FEWEST_PROPOSALS,
    STARTS,
    Normal,
    propose,
    settle,
)
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Mode, Target
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.thin import thin_whitening
from bayesgmm.posterior_density import curvature, whole
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

LARGEST_DENSE = 1000
"""Unconstrained parameters up to which a dense covariance is worth its cost."""
WIDEST = 3.0
"""Largest standard deviation, along any direction, that the curvature is believed for.

The unconstrained scale measures logarithms and standardised units: a wider direction is one that
the data say nothing about, and its curvature at one point says little about its width.
"""
WIDEST_DRAWN = 10.0
"""The same for draws that are reported: wider ones would overflow as scales."""
FAR = 3.0
"""Standard deviations from the mode at which tails are looked at."""


def whitening(problem: Problem, vector: Array) -> Array:
    """Return a factor F such that x = vector + F z has unit scale at z = 0.

    As `kernels.pointer.pack_user` takes it.

    F F' is the covariance of the Laplace approximation at the mode `vector`, with every standard
    deviation held to at most 3. Beyond 1,000 parameters F is 1, and the sampler is left to find
    the scales for itself.
    """
    if vector.size > LARGEST_DENSE:
        return np.ones(vector.size) if problem.gauge is None else thin_whitening(problem, vector)
    return factor_of(curvature(problem, vector), WIDEST)


def factor_of(hessian: Array, widest: float) -> Array:
    """Return F, shape (P, P), with F F' the inverse of a Hessian, no direction wider than given."""
    values, axes = np.linalg.eigh(hessian)
    return np.asarray(axes / np.sqrt(np.maximum(values, widest**-2.0)))


def heaviest_tail(problem: Problem, vector: Array, factor: Array) -> float:
    """Return how much heavier than the Normal's the posterior's tails are, at most, in nats.

    The log posterior, 3 standard deviations from the mode `vector` on either side of it along
    every axis of `factor` (as `whitening` returns it, dense), is compared with that of the Laplace
    approximation. Costs 2 P passes over the data.
    """
    steps = FAR * np.ascontiguousarray(factor.T)
    values, _ = whole(problem)(np.concatenate((vector[None], vector + steps, vector - steps)))
    return float(np.max(values[1:] - values[0]) + 0.5 * FAR**2)


def approximate(problem: Problem, options: Options, progress: Progress) -> Draws:
    """Draw from the Normal distribution at the mode that holds the most mass.

    Parameters
    ----------
    problem : Problem
    options : Options
        ``tune`` and ``target_accept`` are not used.
    progress : Progress

    Returns
    -------
    Draws

    Raises
    ------
    FitError
        If every start ended in a collapsed component (status ``"degenerate"``), or the user
        interrupted before there were two draws for a chain (``"interrupted"``).

    Warns
    -----
    ConvergenceWarning
        If the mode was not reached to the tolerance, or the user interrupted.

    Notes
    -----
    2 P passes for the curvature at every mode, and one for every draw, O(N K D^2) each.
    """
    began = time.perf_counter()
    rng = np.random.default_rng(options.random_seed)
    frame, share, modes = find_frame(problem, rng, progress)
    if not frame.mode.converged:
        warn_no_mode()
    prepared = time.perf_counter()
    density = whole(problem)
    wanted = max(options.chains * options.draws, FEWEST_PROPOSALS)
    proposals = propose(frame.normal, density, wanted, rng, progress)
    settled = settle(frame.normal, density, proposals, options, rng, progress)
    return Draws(
        parameters=problem.constrain(settled.vectors),
        statistics=settled.statistics,
        modes=modes,
        attrs={
            names.CONVERGED: int(frame.mode.converged),
            names.MODE_SHARE: share,
            "tuning_time": prepared - began,
            "sampling_time": time.perf_counter() - prepared,
            **settled.attrs,
        },
    )


def warn_no_mode() -> None:
    """Warn that the curvature is not that of a mode."""
    warnings.warn(
        "The mode was not reached to the tolerance, so the curvature there is not that of a mode. "
        "Use fewer components, or a structure with fewer parameters such as 'tied'.",
        ConvergenceWarning,
        stacklevel=4,
    )


@dataclass(frozen=True, eq=False)
class Frame:
    """A mode with its Normal approximation.

    Parameters
    ----------
    mode : Mode
    hessian : array, shape (P, P)
        Minus that of the log posterior.
    normal : Normal
    """

    mode: Mode
    hessian: Array
    normal: Normal

    @property
    def log_mass(self) -> float:
        """Logarithm of what the posterior integrates to around the mode, up to a constant."""
        return self.mode.objective + self.normal.log_volume


def find_frame(
    problem: Problem, rng: np.random.Generator, progress: Progress
) -> tuple[Frame, float, tuple[Mode, ...]]:
    """Find modes and measure their curvature.

    Returns
    -------
    frame : Frame
        Of the mode that holds the most mass; the highest need not be it, as it may be narrow.
    share : float
        Its share, in [0, 1], of the mass of all modes that were found.
    modes : tuple of Mode
        All of them, the highest first.
    """
    progress.update("Climbing from many starts")
    modes = find_modes(problem, Target.MAP, rng, n_starts=STARTS, hierarchical=False).modes
    # a lower mode may hold more mass, but hardly if it must be e times wider in every direction
    within = [mode for mode in modes if modes[0].objective - mode.objective <= mode.vector.size]
    log_unit = problem.layout.n_components * float(np.log(problem.unit).sum())  # of the means
    frames = []
    for i, mode in enumerate(within):
        progress.update(f"Measuring the curvature at mode {i + 1} of {len(within)}")
        hessian = curvature(problem, mode.vector)
        factor = factor_of(hessian, WIDEST_DRAWN)
        frames.append(Frame(mode, hessian, Normal(mode.vector, factor, log_unit)))
    best = max(frames, key=lambda frame: frame.log_mass)
    share = 1.0 / sum(np.exp(frame.log_mass - best.log_mass) for frame in frames)
    return best, float(share), modes
