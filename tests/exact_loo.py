"""Leave-one-out of one Normal component in one dimension, by quadrature."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import norm

import bayesgmm as bg

type Array = NDArray[np.float64]

SPEC = bg.GaussianMixture(
    1, means=bg.NormalMeans(0.0, 3.0), covariance=bg.LKJCovariance(scale=1.5, floor=0.0)
)
"""Priors that are numbers, so that they do not change with the rows."""


def log_evidence(x: Array) -> float:
    """Return the log evidence of rows, shape (N,), under `SPEC`: the midpoint rule."""
    means, log_scales = np.linspace(-6.0, 6.0, 1201), np.linspace(-4.0, 3.0, 1401)
    scales = np.exp(log_scales)
    # of N rows nothing but the mean and the spread is needed
    square = ((x - x.mean()) ** 2).sum() + x.size * (means[:, None] - x.mean()) ** 2
    log_likelihood = -x.size * np.log(np.sqrt(2.0 * np.pi) * scales) - 0.5 * square / scales**2
    log_prior = norm.logpdf(means, 0.0, 3.0)[:, None] + np.log(2.0) + norm.logpdf(scales, 0.0, 1.5)
    cell = (means[1] - means[0]) * (log_scales[1] - log_scales[0])
    return float(logsumexp(log_likelihood + log_prior + log_scales) + np.log(cell))


def log_predictive(x: Array) -> Array:
    """Return the log predictive density of every row under the others, shape (N,)."""
    whole = log_evidence(x)
    return np.array([whole - log_evidence(np.delete(x, i)) for i in range(x.size)])
