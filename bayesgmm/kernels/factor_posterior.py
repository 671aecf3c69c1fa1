"""The log posterior of factor analysers, as one function of the unconstrained vector.

`problem` is as `kernels.posterior` has it up to the floors; then

    spread (D) | reflectors (q D) | row weights (N or 0) | rows (D x N, or (D + K) x N)

and the number of correlation matrices in its header is minus the number of factors.
"""

import math

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout, fill_log_weights, offsets
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.factor_loadings import fill_factors, loadings_constant, pull_factors_back
from bayesgmm.kernels.factor_pass import factor_e_step, fill_gains
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
        As `kernels.posterior.pack_problem` takes them; no cell is missing.
    tau, floor : arrays, shape (C,)
        Of the half-normal prior of the standardised uniquenesses.
    spread : array, shape (D,)
        Standard deviation of the Normal prior of the standardised loadings.
    reflectors : array, shape (q, D)
        As `kernels.factor_loadings` has them.
    unit, row_weights, prior
        As `kernels.posterior.pack_problem` takes them.
    """
    n_dim, n_rows = layout.n_features, rows.shape[1]
    n_eff = float(row_weights.sum()) if row_weights.size else float(n_rows)
    constant = -n_eff * float(np.log(unit).sum())
    if prior:
        constant += weights_constant(layout.n_components, concentration, sticks)
        constant += prior_constant(layout, scale * unit, tau, floor, 1.0)
        constant += loadings_constant(layout)
    header = np.zeros(HEADER)
    header[N_ROWS] = n_rows
    header[LAYOUT : LAYOUT + 4], header[LAYOUT + 4] = layout[:4], -layout.n_factors
    header[CONSTANT], header[PRIOR], header[STICKS] = constant, float(prior), float(sticks)
    header[N_WEIGHTS], header[N_OFFSETS] = row_weights.size, rows.shape[0] - n_dim
    parts = (header, concentration, location, 1.0 / scale, 1.0 / tau, floor, spread)
    head = np.concatenate((*parts, reflectors.ravel(), row_weights))
    problem = np.empty(head.size + rows.size)
    problem[: head.size] = head
    lines = problem[head.size :].reshape(rows.shape)
    lines[:] = rows  # the only copy of what may be large
    problem[LENGTH] = problem.size
    return problem


@kernel
def factor_log_posterior(vector: Array, problem: Array, gradient: Array) -> float:
    """Return the log density at an unconstrained vector and write its gradient.

    Parameters and result are those of `kernels.posterior.log_posterior`.

    Notes
    -----
    One pass over the data, O(N K D q), and O(K D q^2) for the rest.
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
    rows = problem[at + n_weights :].reshape(n_dim + int(problem[N_OFFSETS]), n_rows)

    log_weights, counts, log_determinants = np.empty(k_all), np.empty(k_all), np.empty(k_all)
    first, second = np.empty((k_all, n_dim)), np.empty((k_all, n_dim))
    precisions, cross = np.empty((k_all, n_dim)), np.empty((k_all, n_dim, q))
    factors, slopes = np.empty((k_all, n_dim, q + 1)), np.empty((k_all, n_dim, q + 1))
    gains = np.empty((k_all, q, n_dim))
    means = vector[mean_start:noise_start].reshape(k_all, n_dim)
    fill_log_weights(vector, log_weights)
    fill_factors(layout, floor, spread, reflectors, vector, factors)
    fill_gains(factors, gains, precisions, log_determinants)
    value = problem[CONSTANT] + factor_e_step(
        rows, row_weights, log_weights, means, factors, gains, precisions, log_determinants,
        counts, first, second, cross,
    )  # fmt: skip

    gradient[:] = 0.0
    for k in range(k_all):
        for d in range(n_dim):
            p = precisions[k, d]
            gradient[mean_start + k * n_dim + d] = p * first[k, d]
            held = 1.0  # psi_d^2 (Sigma^-1)_dd
            for j in range(q):
                slopes[k, d, j] = p * cross[k, d, j] - counts[k] * gains[k, j, d]
                held -= factors[k, d, j] * gains[k, j, d]
            slopes[k, d, q] = factors[k, d, q] * p * (p * second[k, d] - counts[k] * held)
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
