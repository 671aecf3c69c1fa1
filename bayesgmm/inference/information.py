"""Information criteria: a penalised maximum of the likelihood in place of an integral."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.inference.em import Mode, Target, finish, is_degenerate
from bayesgmm.inference.problem import Problem
from bayesgmm.kernels.cholesky import standardise, unconstrain
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS

type Array = NDArray[np.float64]

BLOCK: Final = 2**14
"""Rows whose responsibilities are held at once."""


def criteria(problem: Problem, modes: Iterable[Mode]) -> dict[str, float]:
    """Return BIC, AIC and ICL of the highest likelihood that is reached from some modes.

    With the maximum of the log-likelihood l, p free parameters and N rows, and r the
    responsibilities there,

        BIC = p log N - 2 l,    AIC = 2 p - 2 l,    ICL = BIC - 2 sum over rows of log max r,

    so that less is better.

    Parameters
    ----------
    problem : Problem
    modes : iterable of Mode
        Of the posterior, which are near those of the likelihood.

    Returns
    -------
    dict of str to float
        ``bic``, ``aic`` and ``icl``; NaN where all maxima are collapsed components.

    References
    ----------
    Schwarz (1978), Estimating the dimension of a model, Annals of Statistics 6.
    doi:10.1214/aos/1176344136

    Biernacki, Celeux & Govaert (2000), Assessing a mixture model for clustering with the
    integrated completed likelihood, IEEE Transactions on Pattern Analysis and Machine
    Intelligence 22. doi:10.1109/34.865189
    """
    climbed = [finish(problem, Target.ML, _without_priors(problem, mode)) for mode in modes]
    whole = [mode for mode in climbed if not is_degenerate(problem, Target.ML, mode)]
    if not whole:
        return {"bic": np.nan, "aic": np.nan, "icl": np.nan}
    best = max(whole, key=lambda mode: mode.objective)
    p, deviance = problem.n_parameters, -2.0 * best.objective
    bic = p * float(np.log(problem.data.n_obs)) + deviance
    return {
        "bic": bic,
        "aic": 2.0 * p + deviance,
        "icl": bic - 2.0 * _log_certainty(problem, best),
    }


def _without_priors(problem: Problem, mode: Mode) -> Mode:
    """Return a mode of the posterior as a start of EM, whose vectors have no floor."""
    log_weights, means, cholesky = standardise(*mode.parameters[:4], problem.center, problem.unit)
    floor = np.zeros(problem.layout.scale_columns)
    vector = unconstrain(problem.layout, floor, log_weights[0], means[0], cholesky[0])
    return replace(mode, vector=vector)


def _log_certainty(problem: Problem, mode: Mode) -> float:
    """Return the log of the largest responsibility of every row, summed."""
    mixture = standardise(*mode.parameters[:4], problem.center, problem.unit)
    total = 0.0
    for start in range(0, problem.data.n_obs, BLOCK):
        rows = np.ascontiguousarray(problem.rows[:, start : start + BLOCK])
        shares = np.zeros((1, problem.layout.n_components, rows.shape[1]))
        fill_draws(rows, *mixture, NO_ARRAY, shares, NO_LABELS, NO_CUBE)
        total += float(np.log(shares[0].max(axis=0)).sum())
    return total
