"""The same posterior as several tools write it down.

Every module has `VARIANTS`, what its tables are called; `sample`, draws from the posterior; and
`log_densities`, at given points, as a density of weights, means, scales and the entries of the
correlations' Cholesky factors below the diagonal.
"""

from typing import NamedTuple

from benchmarks.cases import Mixture


class Run(NamedTuple):
    """Draws of one seed, with chain and draw in front, and what they cost."""

    draws: Mixture
    seconds: float
    gradients: float
    divergences: int


class Sampled(NamedTuple):
    """A run per seed, and the seconds of compiling before the first."""

    runs: list[Run]
    compiling: float
