"""The log posterior of whatever problem was packed."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.factor_posterior import factor_log_posterior
from bayesgmm.kernels.posterior import LAYOUT, log_posterior

type Array = NDArray[np.float64]


@kernel
def log_target(vector: Array, problem: Array, gradient: Array) -> float:
    """Do what `kernels.posterior.log_posterior` says, of covariances of any kind."""
    if problem[LAYOUT + 4] < 0.0:
        return factor_log_posterior(vector, problem, gradient)
    return log_posterior(vector, problem, gradient)
