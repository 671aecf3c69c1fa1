"""Information criteria where the likelihood is highest near the modes of a posterior."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from bayesgmm.criteria import criteria_at
from bayesgmm.inference.em import finish, is_degenerate
from bayesgmm.inference.mode import Mode, Target
from bayesgmm.kernels.cholesky import unconstrain
from bayesgmm.problem import Problem


def criteria(problem: Problem, modes: Iterable[Mode]) -> dict[str, float]:
    """Return BIC, AIC and ICL of the highest likelihood that is reached from some modes.

    Parameters
    ----------
    problem : Problem
    modes : iterable of Mode
        Of the posterior, which are near those of the likelihood.

    Returns
    -------
    dict of str to float
        ``bic``, ``aic`` and ``icl``, as `criteria_at` defines them; NaN where all maxima are
        collapsed components.
    """
    climbed = [finish(problem, Target.ML, _without_priors(problem, mode)) for mode in modes]
    whole = [mode for mode in climbed if not is_degenerate(problem, Target.ML, mode)]
    if not whole:
        return {"bic": np.nan, "aic": np.nan, "icl": np.nan}
    best = max(whole, key=lambda mode: mode.objective)
    return criteria_at(problem, best.parameters)


def _without_priors(problem: Problem, mode: Mode) -> Mode:
    """Return a mode of the posterior as a start of EM, whose vectors have no floor."""
    if problem.gauge is not None:
        return mode  # it has the same vector
    log_weights, means, cholesky = mode.parameters.standardised(problem.center, problem.unit)
    floor = np.zeros(problem.layout.scale_columns)
    vector = unconstrain(problem.layout, floor, log_weights[0], means[0], cholesky[0])
    return replace(mode, vector=vector)
