"""The log posterior of factor analysers, as one function of the unconstrained vector.

`problem` is as `kernels.posterior` has it up to the floors; then

    spread (D) | reflectors (q D) | row weights (N or 0)
           | whole rows (D x N', or (D + K) x N') | other rows (as `pack_lines` has them)

and the number of correlation matrices in its header is minus the number of factors.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, fill_log_weights, offsets
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.factor_cells import pack_partial
from bayesgmm.kernels.factor_loadings import fill_factors, loadings_constant, pull_factors_back
from bayesgmm.kernels.factor_partial import factor_slopes
from bayesgmm.kernels.patterns import is_complete
from bayesgmm.kernels.posterior import (
    CONSTANT,
    HEADER,
    LAYOUT,
    LENGTH,
    N_OFFSETS,
    N_ROWS,
    N_WEIGHTS,
    PRIOR,
    STICKS,
    _add_prior,
    prior_constant,
    weights_constant,
)

type Array = NDArray[np.float64]


def pack_factor_problem(
    layout: Layout,
    rows: Array,
    *,
    concentration: Array,
    sticks: bool,
    location: Array,
    scale: Array,
    tau: Array,
    floor: Array,
    spread: Array,
    reflectors: Array,
    unit: Array,
    row_weights: Array,
    prior: bool,
) -> Array:
    """Return the flat array that `factor_log_posterior` reads.

    Parameters
    ----------
    layout, rows, concentration, sticks, location, scale
        As `kernels.posterior.pack_problem` takes them.
    tau, floor : arrays, shape (C,)
        Of the half-normal prior of the standardised uniquenesses.
    spread : array, shape (D,)
        Standard deviation of the Normal prior of the standardised loadings.
    reflectors : array, shape (q, D)
        As `kernels.factor_loadings` has them.
    unit, row_weights, prior
        As `kernels.posterior.pack_problem` takes them.
    """
    n_dim, k = layout.n_features, layout.n_components
    n_eff = float(row_weights.sum()) if row_weights.size else float(rows.shape[1])
    constant = -n_eff * float(np.log(unit).sum())
    if not is_complete(rows, n_dim, k):
        missing = np.isnan(rows[:n_dim])
        times = missing @ row_weights if row_weights.size else missing.sum(axis=1)
        constant += float(np.log(unit) @ times)
    rows, row_weights, others = pack_partial(rows, row_weights, n_dim, k)
    if prior:
        constant += weights_constant(k, concentration, sticks)
        constant += prior_constant(layout, scale * unit, tau, floor, 1.0)
        constant += loadings_constant(layout)
    header = np.zeros(HEADER)
    header[N_ROWS] = rows.shape[1]
    header[LAYOUT : LAYOUT + 4], header[LAYOUT + 4] = layout[:4], -layout.n_factors
    header[CONSTANT], header[PRIOR], header[STICKS] = constant, float(prior), float(sticks)
    header[N_WEIGHTS], header[N_OFFSETS] = row_weights.size, rows.shape[0] - n_dim
    parts = (header, concentration, location, 1.0 / scale, 1.0 / tau, floor, spread)
    head = np.concatenate((*parts, reflectors.ravel(), row_weights))
    whole = head.size + rows.size
    problem = np.empty(whole + others.size)
    problem[: head.size], problem[whole:] = head, others
    lines = problem[head.size : whole].reshape(rows.shape)
    lines[:] = rows  # the only copy of what may be large
    problem[LENGTH] = problem.size
    return problem


@kernel
def factor_log_posterior(vector: Array, problem: Array, gradient: Array) -> float:
    """Return the log density at an unconstrained vector and write its gradient.

    Parameters and result are those of `kernels.posterior.log_posterior`.

    Notes
    -----
    One pass over the data, O(N K D q), O(N K D q^2) where cells are missing or measured with
    error, and O(K D q^2) for the rest.
    """
    layout = Layout(
        int(problem[LAYOUT]), int(problem[LAYOUT + 1]), int(problem[LAYOUT + 2]),
        int(problem[LAYOUT + 3]), 0, 0, -int(problem[LAYOUT + 4]), 0,
    )  # fmt: skip
    k_all, n_dim, q = layout.n_components, layout.n_features, layout.n_factors
    mean_start, noise_start, _, _ = offsets(layout)
    at = HEADER + k_all + 2 * n_dim + layout.scale_columns
    floor = problem[at : at + layout.scale_columns]
    at += layout.scale_columns
    spread = problem[at : at + n_dim]
    reflectors = problem[at + n_dim : at + n_dim + q * n_dim].reshape(q, n_dim)
    at += n_dim + q * n_dim
    n_weights, n_rows = int(problem[N_WEIGHTS]), int(problem[N_ROWS])
    row_weights = problem[at : at + n_weights]
    at += n_weights
    n_lines = n_dim + int(problem[N_OFFSETS])
    rows = problem[at : at + n_lines * n_rows].reshape(n_lines, n_rows)
    others = problem[at + n_lines * n_rows :]

    log_weights, counts = np.empty(k_all), np.empty(k_all)
    by_mean, by_noise = np.empty((k_all, n_dim)), np.empty((k_all, n_dim))
    by_loading = np.empty((k_all, n_dim, q))
    factors, slopes = np.empty((k_all, n_dim, q + 1)), np.empty((k_all, n_dim, q + 1))
    means = vector[mean_start:noise_start].reshape(k_all, n_dim)
    fill_log_weights(vector, log_weights)
    fill_factors(layout, floor, spread, reflectors, vector, factors)
    value = problem[CONSTANT] + factor_slopes(
        rows, row_weights, others, log_weights, means, factors,
        counts, by_mean, by_noise, by_loading,
    )  # fmt: skip

    gradient[:] = 0.0
    for k in range(k_all):
        for d in range(n_dim):
            gradient[mean_start + k * n_dim + d] = by_mean[k, d]
            for j in range(q):
                slopes[k, d, j] = by_loading[k, d, j]
            slopes[k, d, q] = factors[k, d, q] * by_noise[k, d]
    prior = problem[PRIOR] > 0
    value += pull_factors_back(
        layout, floor, spread, reflectors, factors, slopes, prior, vector, gradient
    )
    if prior:
        value += _add_prior(layout, problem, vector, log_weights, counts, gradient)
    total = 0.0
    for k in range(k_all):
        total += counts[k]
    last = counts[k_all - 1] - math.exp(log_weights[k_all - 1]) * total
    for k in range(k_all - 1):
        gradient[k] = counts[k] - math.exp(log_weights[k]) * total - last
    return value
