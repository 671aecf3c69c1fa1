"""Modes: what is maximised, and what a search for the maxima found."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bayesgmm.tree import FactorParameters, Parameters

type Array = NDArray[np.float64]


class Target(StrEnum):
    """What is maximised."""

    MAP = "map"
    ML = "ml"


@dataclass(frozen=True, eq=False)
class Mode:
    """A local maximum.

    Parameters
    ----------
    vector : array, shape (P,)
        Unconstrained; of EM, or under the floor of the prior once it has been polished.
    parameters : Parameters
        The same in the data's units, with one mixture.
    objective : float
        Log posterior density on the unconstrained scale, or log-likelihood; in nats.
    starts : int
        How many starts ended here.
    trace : array
        Objective of EM after each accepted pass on the way here, its own penalty included.
    converged : bool
        Whether the top was reached to the tolerance.
    """

    vector: Array
    parameters: Parameters | FactorParameters
    objective: float
    starts: int
    trace: Array
    converged: bool


@dataclass(frozen=True, eq=False)
class EMResult:
    """What EM found.

    Parameters
    ----------
    modes : tuple of Mode
        The distinct local maxima, best first.
    degenerate : int
        Starts that ended in a collapsed component and were refused.
    """

    modes: tuple[Mode, ...]
    degenerate: int

    @property
    def best(self) -> Mode:
        """The highest mode."""
        return self.modes[0]
