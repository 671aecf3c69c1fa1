"""What a chain samples in place of the unconstrained vector, and where it begins."""

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm.errors import FitError
from bayesgmm.inference.arcs import ArcChain
from bayesgmm.inference.chains import Chain, Settings
from bayesgmm.inference.laplace import heaviest_tail, whitening
from bayesgmm.kernels.pointer import stretched
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

LIGHT = 1.0
"""Nats by which a tail may exceed the Normal's for the geodesic integrator to be the better one.

It turns around the mode as the Normal distribution would, in a third as many gradients a draw; but
far out, in a tail that is heavier, or a second bump, its steps are wrong and the chain lingers.
"""
TRIES = 10
"""Draws around a mode until one has a finite density."""


@dataclass(frozen=True, eq=False)
class Coordinates:
    """What a chain samples: z, with x = center + factor z; and how it moves.

    Parameters
    ----------
    center : array, shape (P,)
    factor : array
        As `kernels.pointer.pack_user` takes it.
    integrator : str
        ``"leapfrog"``: `Chain` samples z; or ``"geodesic"``: `ArcChain` does, whose steps are
        exact for the standard Normal distribution, and err only by what the density differs.
    """

    center: Array
    factor: Array
    integrator: Literal["leapfrog", "geodesic"]

    @property
    def log_volume(self) -> float:
        """Logarithm of the volume that one of z has; NaN where no matrix says it."""
        square = self.factor.shape == 2 * (self.center.size,)
        return float(np.linalg.slogdet(self.factor)[1]) if square else float("nan")

    @classmethod
    def at(cls, problem: Problem, mode: Array) -> Self:
        """Return coordinates in which the posterior around a mode looks standard Normal.

        Costs four passes per parameter.
        """
        factor = whitening(problem, mode)
        square = factor.shape == 2 * (mode.size,)
        light = square and heaviest_tail(problem, mode, factor) < LIGHT
        return cls(mode, factor, "geodesic" if light else "leapfrog")


@dataclass(frozen=True, eq=False)
class Start:
    """Where a chain begins.

    Parameters
    ----------
    coordinates : Coordinates
    z : array, shape (P,)
    settings : Settings
    seed : int
        Of the sampler.
    """

    coordinates: Coordinates
    z: Array
    settings: Settings
    seed: int

    def chain_of(self, problem: Problem) -> Chain | ArcChain:
        """Return a chain that samples from here, as the tails let it."""
        around = self.coordinates
        kind = ArcChain if around.integrator == "geodesic" else Chain
        return kind(problem, around.center, around.factor, self.z, self.settings, seed=self.seed)


def point_near(problem: Problem, around: Coordinates, rng: np.random.Generator) -> Array:
    """Return the first z of a chain: a draw of the Laplace approximation around its mode.

    Never the mode itself: the sampler takes its first scales from the gradient, which is zero
    there.
    """
    center, factor = around.center, around.factor
    spread = 1.0 if factor.ndim == 2 else 0.1
    for _ in range(TRIES):
        z = spread * rng.normal(size=center.size)
        value, slopes = problem.log_posterior(center + stretched(factor, z))
        if np.isfinite(value) and np.isfinite(slopes).all():
            return z
        spread *= 0.5
    raise FitError(
        f"The log posterior is not finite around the mode found by EM; got none in {TRIES} tries. "
        f"Give priors in the units of `X`, which exclude extreme scales.",
        status="sampler",
    )
