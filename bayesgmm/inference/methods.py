"""What each method does on the fused density."""

import time
import warnings
from collections.abc import Callable
from typing import Final

import numpy as np

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.inference import advi, laplace, nuts
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.families import FullRank, MeanField
from bayesgmm.inference.mode import Target
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.sharpening import sharpen
from bayesgmm.problem import Problem

N_STARTS: Final = 20
"""EM runs of ``method="map"`` and ``"ml"``."""


def _nuts(problem: Problem, options: Options, progress: Progress) -> Draws:
    """Sample by NUTS on the fused density."""
    result = nuts.sample(problem, options, progress)
    if result.interrupted:
        warn_interrupted(result.vectors.shape[1], options)
    return nuts.to_draws(problem, options, result)


def warn_interrupted(n_draws: int, options: Options) -> None:
    """Warn that there are fewer draws than were asked for."""
    warnings.warn(
        f"Sampling was interrupted: {n_draws} of {options.draws} draws per chain are returned.",
        ConvergenceWarning,
        stacklevel=4,
    )


def _point(target: Target) -> Callable[[Problem, Options, Progress], Draws]:
    """Return the method that climbs to the highest mode of a target."""

    def climb(problem: Problem, options: Options, progress: Progress) -> Draws:
        began = time.perf_counter()
        progress.update("Climbing from many starts")
        rng = np.random.default_rng(options.random_seed)
        found = find_modes(problem, target, rng, n_starts=N_STARTS, hierarchical=True)
        if not found.best.converged:
            warnings.warn(
                f"The best of {N_STARTS} starts did not reach the top to the tolerance: the "
                f"objective is {found.best.objective:.6g}. bayesgmm.check(tree) says what to do.",
                ConvergenceWarning,
                stacklevel=3,
            )
        best, *others = found.modes
        if target is Target.MAP and best.converged and problem.gauge is None:
            best = sharpen(problem, best)
        return Draws(
            parameters=best.parameters,
            statistics={names.LP: np.array([[best.objective]])},
            modes=(best, *others),
            attrs={
                "starts": N_STARTS,
                "degenerate_starts": found.degenerate,
                "converged": int(best.converged),
                "sampling_time": time.perf_counter() - began,
            },
        )

    return climb


RUNNERS: Final[dict[str, Callable[[Problem, Options, Progress], Draws]]] = {
    "nuts": _nuts,
    "fullrank_advi": advi.approximate(FullRank),
    "advi": advi.approximate(MeanField),
    "laplace": laplace.approximate,
    "map": _point(Target.MAP),
    "ml": _point(Target.ML),
}
METHODS: Final = tuple(RUNNERS)
