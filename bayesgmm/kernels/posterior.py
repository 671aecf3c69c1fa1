"""The log posterior density and its gradient, as one function of the unconstrained vector.

Everything the function needs is in one flat array of float64 (`problem`), so that its signature
depends on nothing and it is compiled once per machine:

    header | concentration (K) | location (D) | 1 / scale (D) | 1 / tau (C) | floor (C)
           | Beta shapes of the partial correlations (D (D - 1) / 2) | degrees of freedom (Z)
           | row weights (N or 0) | complete rows (D x N', or (D + K) x N' where labels are known)
           | other rows (as `pack_groups` has them)

Where weights are broken off a stick, the first two of the K concentrations are shape and rate of
the Gamma distribution of theirs. Where there is noise there are K + 1, the last of its weight.
Where tails are heavy there are K known degrees of freedom, or shape and rate of the Gamma
distribution of those that are learnt: Z is K, 2 or 0.

The density is that of PyMC's program (`bayesgmm.model`) on PyMC's unconstrained scale, all
constants and Jacobians included, the data standardised inside.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from bayesgmm.kernels.cholesky import (
    Layout,
    fill_cholesky,
    fill_log_weights,
    offsets,
    pull_back,
)
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.elementary import exp_nonpositive, log_positive
from bayesgmm.kernels.estep import fill_whiteners
from bayesgmm.kernels.incomplete import expected_moments
from bayesgmm.kernels.lanes import borrowed, keep
from bayesgmm.kernels.patterns import NO_GROUPS, is_complete, pack_groups
from bayesgmm.kernels.sticks import add_sticks
from bayesgmm.kernels.tails import NO_DF, df_slope, fill_df

type Array = NDArray[np.float64]

# Places in the header
LENGTH: Final = 0
N_ROWS: Final = 1
LAYOUT: Final = 2  # six entries
CONSTANT: Final = 8
PRIOR: Final = 9
N_WEIGHTS: Final = 10
N_OFFSETS: Final = 11
STICKS: Final = 12
N_DF: Final = 13
N_NOISE: Final = 14
NOISE: Final = 15
HEADER: Final = 16


def pack_problem(
    layout: Layout,
    rows: Array,
    *,
    concentration: Array,
    sticks: bool,
    location: Array,
    scale: Array,
    tau: Array,
    floor: Array,
    eta: float,
    unit: Array,
    row_weights: Array,
    prior: bool,
    df: Array = NO_DF,
    noise: float = 0.0,
) -> Array:
    """Return the flat array that `log_posterior` reads.

    Parameters
    ----------
    layout : Layout
    rows : array, shape (D', N)
        Standardised data, as `kernels.patterns` has it.
    concentration : array, shape (K,), with noise (K + 1,)
        Of the Dirichlet prior of the weights; or, if they are broken off a stick, shape and rate
        of that of the concentration, as `add_sticks` reads them, and K - 2 zeros.
    sticks : bool
        Whether the weights are broken off a stick.
    location, scale : arrays, shape (D,)
        Hyperparameters of the means of the standardised data.
    tau : array, shape (C,)
        Scale parameter of the half-normal prior of the standardised scales.
    floor : array, shape (C,)
        Smallest standardised scale, at which the half-normal is truncated.
    eta : float
        LKJ shape.
    unit : array, shape (D,)
        What the data were divided by, for the constants.
    row_weights : array, shape (N,) or (0,)
    prior : bool
        False leaves out priors and Jacobians: the log-likelihood alone.
    df : array, shape (K,) or (2,) or (0,)
        Degrees of freedom, or shape and rate of the Gamma prior of those that are learnt; empty
        where tails are Normal.
    noise : float
        Log density of a standardised row that is noise, if the layout has any.

    Returns
    -------
    array
        Of 16 + K + 2 D + 2 C + D (D - 1) / 2 + Z + N D (+ N) (+ N K) if all rows are complete.
    """
    n_dim, n_rows = layout.n_features, rows.shape[1]
    n_eff = float(row_weights.sum()) if row_weights.size else float(n_rows)
    constant = -n_eff * float(np.log(unit).sum())
    groups = NO_GROUPS
    n_weights = layout.n_components + layout.n_noise
    if not is_complete(rows, n_dim, n_weights):
        missing = np.isnan(rows[:n_dim])
        times = missing @ row_weights if row_weights.size else missing.sum(axis=1)
        constant += float(np.log(unit) @ times)
        order, n_rows, groups = pack_groups(rows, n_dim, n_weights)
        rows = rows[: n_dim + n_weights, order[:n_rows]]
        row_weights = row_weights[order] if row_weights.size else row_weights
    if prior:
        constant += weights_constant(n_weights, concentration, sticks)
        constant += prior_constant(layout, scale * unit, tau, floor, eta)
        constant += df_constant(layout, df)
    header = np.zeros(HEADER)
    header[N_ROWS] = n_rows
    header[LAYOUT : LAYOUT + 6] = layout[:6]
    header[CONSTANT], header[PRIOR] = constant, float(prior)
    header[N_WEIGHTS] = row_weights.size
    header[N_OFFSETS] = rows.shape[0] - n_dim
    header[STICKS], header[N_DF] = float(sticks), df.size
    header[N_NOISE], header[NOISE] = layout.n_noise, noise
    columns = np.array([column for row in range(n_dim) for column in range(row)], dtype=float)
    shapes = eta + 0.5 * (n_dim - 2 - columns)
    parts = (header, concentration, location, 1.0 / scale, 1.0 / tau, floor, shapes, df)
    head = np.concatenate((*parts, row_weights))
    complete = head.size + rows.size
    problem = np.empty(complete + groups.size)
    problem[: head.size], problem[complete:] = head, groups
    lines = problem[head.size : complete].reshape(rows.shape)
    lines[:] = rows  # the only copy of what may be large
    problem[LENGTH] = problem.size
    return problem


def df_constant(layout: Layout, df: Array) -> float:
    """Return all of the log prior of degrees of freedom that does not depend on them."""
    if layout.df_sets == 0:
        return 0.0
    shape, rate = df
    return layout.df_sets * float(shape * np.log(rate) - math.lgamma(shape))


def weights_constant(n_components: int, concentration: Array, sticks: bool) -> float:
    """Return all of the log prior of the weights that does not depend on them."""
    jacobian = math.log(n_components)
    if not sticks:
        of_each = sum(math.lgamma(value) for value in concentration)
        return math.lgamma(concentration.sum()) - of_each + jacobian
    (shape, rate), broken = concentration[:2], n_components - 1
    if rate == 0.0:
        return broken * math.log(shape) + jacobian
    return math.lgamma(shape + broken) - math.lgamma(shape) + shape * math.log(rate) + jacobian


def prior_constant(layout: Layout, scale: Array, tau: Array, floor: Array, eta: float) -> float:
    """Return all of the log prior of means, scales and correlations that does not depend on them.

    `scale` is in the data's units, `tau` and `floor` standardised: standardising only shifts the
    log of a scale, but stretches a mean.
    """
    k, d = layout.n_components, layout.n_features
    constant = -k * (0.5 * d * math.log(2.0 * math.pi) + np.log(scale).sum())
    for width, lowest in zip(tau, floor, strict=True):
        # of the mass beyond the floor, 2 (1 - Phi), the logarithm: it may underflow itself
        log_mass = math.log(2.0) + float(log_ndtr(-lowest / width))
        constant += layout.scale_rows * (0.5 * math.log(2.0 / math.pi) - math.log(width) - log_mass)
    for column in range(d - 1):
        shape = eta + 0.5 * (d - 2 - column)
        constant -= (
            layout.correlation_sets
            * (d - 1 - column)
            * (2.0 * math.lgamma(shape) - math.lgamma(2.0 * shape))
        )
    return float(constant)


@kernel
def read_layout(problem: Array) -> Layout:
    """Return the layout that `pack_problem` was given."""
    return Layout(
        int(problem[LAYOUT]),
        int(problem[LAYOUT + 1]),
        int(problem[LAYOUT + 2]),
        int(problem[LAYOUT + 3]),
        int(problem[LAYOUT + 4]),
        int(problem[LAYOUT + 5]),
        0,
        int(problem[N_NOISE]),
    )


@kernel(fastmath=frozenset({"contract", "reassoc", "nsz"}))
def _add_beta(shapes: Array, log_odds: Array, gradient: Array) -> float:
    """Return the log density of independent Beta(a, a) as log-odds; add its gradient."""
    value = 0.0
    for j in range(shapes.shape[0]):
        a = shapes[j]
        size = abs(log_odds[j])
        t = exp_nonpositive(-size)
        value -= a * (size + 2.0 * log_positive(1.0 + t))
        slope = a * (1.0 - t) / (1.0 + t)
        gradient[j] -= slope if log_odds[j] > 0 else -slope
    return value


@kernel
def _add_prior(
    layout: Layout,
    problem: Array,
    vector: Array,
    log_weights: Array,
    weight_slopes: Array,
    gradient: Array,
) -> float:
    """Return the log prior with its Jacobians, without constants; add its gradient."""
    k_all, n_dim = layout.n_components, layout.n_features
    mean_start, scale_start, correlation_start, length = offsets(layout)
    at = HEADER
    value = 0.0
    if problem[STICKS] > 0.0:
        value += add_sticks(problem[at], problem[at + 1], log_weights, weight_slopes)
    else:
        for k in range(log_weights.size):
            value += problem[at + k] * log_weights[k]
            weight_slopes[k] += problem[at + k]
    at += log_weights.size
    p = mean_start
    for _ in range(k_all):
        for d in range(n_dim):
            inverse = problem[at + n_dim + d]
            z = (vector[p] - problem[at + d]) * inverse
            value -= 0.5 * z * z
            gradient[p] -= z * inverse
            p += 1
    at += 2 * n_dim
    columns = layout.scale_columns
    for _ in range(layout.scale_rows):
        for c in range(columns):
            excess = math.exp(vector[p])
            inverse = problem[at + c]
            z = (problem[at + columns + c] + excess) * inverse
            value += vector[p] - 0.5 * z * z
            gradient[p] += 1.0 - z * excess * inverse
            p += 1
    at += 2 * columns
    pairs = n_dim * (n_dim - 1) // 2
    for _ in range(layout.correlation_sets):
        value += _add_beta(problem[at : at + pairs], vector[p:], gradient[p:])
        p += pairs
    at += pairs
    for _ in range(layout.df_sets):
        df = math.exp(vector[p])
        value += problem[at] * vector[p] - problem[at + 1] * df
        gradient[p] += problem[at] - problem[at + 1] * df
        p += 1
    return value


@kernel
def log_posterior(vector: Array, problem: Array, gradient: Array) -> float:
    """Return the log density at an unconstrained vector and write its gradient.

    Parameters
    ----------
    vector : array, shape (P,)
    problem : array
        As `pack_problem` returns it.
    gradient : array, shape (P,)
        Overwritten.

    Returns
    -------
    float
        Log posterior density in nats, up to the evidence; -inf or NaN only where the numbers
        themselves overflow.

    Notes
    -----
    One pass over the data, O(N K D^2), and O(K D^3) for the rest.
    """
    layout = read_layout(problem)
    k_all, n_dim, n_rows = layout.n_components, layout.n_features, int(problem[N_ROWS])
    mean_start, scale_start, _, length = offsets(layout)
    n_all = k_all + layout.n_noise
    at = HEADER + n_all + 2 * n_dim + layout.scale_columns
    floor = problem[at : at + layout.scale_columns]
    at += layout.scale_columns + n_dim * (n_dim - 1) // 2
    df = problem[at : at + int(problem[N_DF])]
    at += df.size
    n_weights = int(problem[N_WEIGHTS])
    row_weights = problem[at : at + n_weights]
    at += n_weights
    n_lines = n_dim + int(problem[N_OFFSETS])
    rows = problem[at : at + n_lines * n_rows].reshape(n_lines, n_rows)
    groups = problem[at + n_lines * n_rows :]

    # views of one array: to allocate one costs as much as a small product
    n_lines = n_dim + (1 if df.size > 0 else 0)
    table, square = k_all * n_dim, k_all * n_lines * n_dim
    memory = np.empty(3 * n_all + 2 * table + 4 * square)
    work = borrowed(memory)
    vectors = work[: 3 * n_all].reshape(3, n_all)
    log_weights, log_determinants, counts = vectors[0], vectors[1], vectors[2]
    tables = work[3 * n_all : 3 * n_all + 2 * table].reshape(2, k_all, n_dim)
    scales, first = tables[0], tables[1]
    matrices = work[3 * n_all + 2 * table :].reshape(4, k_all, n_lines, n_dim)
    cholesky, whiteners, second, slopes = matrices[0], matrices[1], matrices[2], matrices[3]
    means = vector[mean_start:scale_start].reshape(k_all, n_dim)
    fill_log_weights(vector, log_weights)
    log_weights[k_all:] += problem[NOISE]
    fill_cholesky(layout, floor, vector, scales, cholesky)
    fill_df(vector[length - layout.df_sets :], df, cholesky)
    fill_whiteners(cholesky, whiteners, log_determinants)
    value = problem[CONSTANT] + expected_moments(
        rows, row_weights, groups, log_weights, means, cholesky, whiteners, log_determinants,
        counts, first, second,
    )  # fmt: skip
    log_weights[k_all:] -= problem[NOISE]

    gradient[:] = 0.0
    for k in range(k_all):
        whitener = whiteners[k]
        for i in range(n_dim):
            total = 0.0
            for m in range(i, n_dim):
                total += whitener[m, i] * first[k, m]
            gradient[mean_start + k * n_dim + i] = total
        fill_cholesky_slopes(whitener, counts[k], second[k], slopes[k])
        if layout.df_sets > 0:
            p = length - layout.df_sets + (k if layout.df_sets > 1 else 0)
            gradient[p] += cholesky[k, n_dim, 0] * df_slope(
                counts[k], second[k], cholesky[k, n_dim, 0]
            )
    pull_back(layout, floor, vector, scales, cholesky, slopes, gradient)
    if problem[PRIOR] > 0:
        value += _add_prior(layout, problem, vector, log_weights, counts, gradient)
    total = 0.0
    for k in range(n_all):
        total += counts[k]
    last = counts[n_all - 1] - math.exp(log_weights[n_all - 1]) * total
    for k in range(n_all - 1):
        gradient[k] = counts[k] - math.exp(log_weights[k]) * total - last
    keep(memory)
    return value


@kernel
def fill_cholesky_slopes(whitener: Array, count: float, second: Array, slopes: Array) -> None:
    """Write the derivatives of the log-likelihood by one Cholesky factor L, shape (D, D).

    They are tril(W' S) - n diag(1 / L_ii), W = inverse of L, with n and S the count and the
    second moments of the whitened rows.
    """
    n_dim = whitener.shape[1]
    for i in range(n_dim):
        for j in range(n_dim):
            slopes[i, j] = 0.0
        for m in range(i, n_dim):
            for j in range(i + 1):
                slopes[i, j] += whitener[m, i] * second[m, j]
        slopes[i, i] -= count * whitener[i, i]
