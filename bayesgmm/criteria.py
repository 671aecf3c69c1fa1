"""Information criteria at a point: a penalised likelihood in place of an integral."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.problem import Problem
from bayesgmm.sample_weights import weigh
from bayesgmm.tree import FactorParameters, Parameters

type Array = NDArray[np.float64]

BLOCK: Final = 2**14
"""Rows whose responsibilities are held at once."""


def criteria_at(problem: Problem, point: Parameters | FactorParameters) -> dict[str, float]:
    """Return BIC, AIC and ICL at a mixture.

    With the log-likelihood l, p free parameters, N rows or the sum of their weights, and r the
    responsibilities,

        BIC = p log N - 2 l,    AIC = 2 p - 2 l,    ICL = BIC - 2 sum over rows of log max r,

    so that less is better.

    Parameters
    ----------
    problem : Problem
    point : Parameters or FactorParameters
        With one mixture.

    Returns
    -------
    dict of str to float
        ``bic``, ``aic`` and ``icl``.

    References
    ----------
    Schwarz (1978), Estimating the dimension of a model, Annals of Statistics 6.
    doi:10.1214/aos/1176344136

    Akaike (1974), A new look at the statistical model identification, IEEE Transactions on
    Automatic Control 19. doi:10.1109/TAC.1974.1100705

    Biernacki, Celeux & Govaert (2000), Assessing a mixture model for clustering with the
    integrated completed likelihood, IEEE Transactions on Pattern Analysis and Machine
    Intelligence 22. doi:10.1109/34.865189
    """
    mixture = point.standardised(problem.center, problem.unit)
    n_obs, p = problem.data.n_obs, problem.n_parameters
    log_likelihood = -problem.log_volume
    log_certainty = 0.0
    for start in range(0, n_obs, BLOCK):
        rows = np.ascontiguousarray(problem.rows[:, start : start + BLOCK])
        densities = np.empty((1, rows.shape[1]))
        shares = np.zeros((1, mixture[0].shape[1], rows.shape[1]))  # and noise
        fill_draws(rows, *mixture, densities, shares, NO_LABELS, NO_CUBE)
        certainty = np.log(shares[0].max(axis=0))
        if problem.row_weights.size:
            weigh(densities, problem.row_weights[start : start + BLOCK])
            certainty *= problem.row_weights[start : start + BLOCK]
        log_likelihood += float(densities.sum())
        log_certainty += float(certainty.sum())
    bic = p * float(np.log(problem.n_counted)) - 2.0 * log_likelihood
    return {
        "bic": bic,
        "aic": 2.0 * p - 2.0 * log_likelihood,
        "icl": bic - 2.0 * log_certainty,
    }
