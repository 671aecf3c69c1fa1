"""Expectation-maximisation: the M-step, its penalty, and the accelerated loop.

The objective is the log-likelihood plus a conjugate penalty,

    sum_k a_k log w_k  -  sum over distinct covariances [nu log|S| + tr(psi inv(S))] / 2
                       -  sum_k kappa (mu_k - m0)' inv(S_k) (mu_k - m0) / 2,

which has its M-step in closed form for every structure but "tied_correlation", where two
conditional maximisations stand in for it (Meng & Rubin 1993). With all of a, nu, psi and kappa
zero it is maximum likelihood. Unconstrained vectors here have no floor under the scales.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import (
    Layout,
    fill_cholesky,
    fill_log_weights,
    offsets,
    unconstrain,
)
from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.estep import fill_whiteners
from bayesgmm.kernels.incomplete import expected_moments
from bayesgmm.kernels.matrices import COLLAPSED, factorise, sandwich
from bayesgmm.kernels.tails import NO_DF, fill_df, learn_df, pull_sum

type Array = NDArray[np.float64]

SWEEPS: Final = 20
"""Coordinate sweeps over the scales in one M-step of "tied_correlation"."""


class Penalty(NamedTuple):
    """The conjugate penalty of the objective.

    Parameters
    ----------
    concentration : array, shape (K,), with noise (K + 1,)
        The a_k, at least 0.
    location : array, shape (D,)
    strength : float
        kappa, in rows.
    scatter : array, shape (D,)
        The diagonal psi.
    freedom : float
        nu, in rows.
    df : array, shape (K,) or (2,) or (0,)
        Of heavy tails: the degrees of freedom, or where they are learnt the a and b of
        a log df - b df; empty where tails are Normal.
    noise : float
        Log density of a row that is noise, if the layout has any.
    """

    concentration: Array
    location: Array
    strength: float
    scatter: Array
    freedom: float
    df: Array = NO_DF
    noise: float = 0.0


@kernel
def _centre(
    penalty: Penalty, pulls: Array, first: Array, second: Array, means: Array, cholesky: Array
) -> bool:
    """Write the new means, and into `second` the penalised scatter matrices about them.

    `pulls`, shape (K,), are the weights that rows have for the means: of Normal tails the counts.
    """
    n_components, n_dim = means.shape
    shift, pull = np.empty(n_dim), np.empty(n_dim)
    about_old = np.empty((n_dim, n_dim))
    for k in range(n_components):
        weight = pulls[k] + penalty.strength
        if not weight > 0.0:
            return False
        factor, scatter = cholesky[k], second[k]
        sandwich(factor, scatter, about_old)
        for i in range(n_dim):
            # the mean of the rows and the prior location pull with n and kappa
            pull[i] = penalty.location[i] - means[k, i]
            total = penalty.strength * pull[i]
            for j in range(i + 1):
                total += factor[i, j] * first[k, j]
            shift[i] = total / weight
        for i in range(n_dim):
            means[k, i] += shift[i]
            for j in range(n_dim):
                scatter[i, j] = about_old[i, j] + penalty.strength * pull[i] * pull[j]
                scatter[i, j] -= weight * shift[i] * shift[j]
    return True


@kernel
def _factor_alone(
    layout: Layout, penalty: Penalty, counts: Array, scatter: Array, cholesky: Array
) -> bool:
    """Write Cholesky factors where each distinct covariance is maximised by itself."""
    n_components, n_dim = layout.n_components, layout.n_features
    matrix = np.empty((n_dim, n_dim))
    own = layout.scale_rows > 1
    total = penalty.freedom
    for k in range(n_components):
        total += counts[k]
    for k in range(layout.scale_rows):
        n = counts[k] + penalty.freedom if own else total
        first = k if own else 0
        last = k + 1 if own else n_components
        average = 0.0
        for i in range(n_dim):
            for j in range(n_dim):
                value = penalty.scatter[i] if i == j else 0.0
                for which in range(first, last):
                    value += scatter[which, i, j]
                matrix[i, j] = value / n
                cholesky[k, i, j] = 0.0
            average += matrix[i, i] / n_dim
        if layout.correlation_sets == 0:
            for i in range(n_dim):
                value = matrix[i, i] if layout.scale_columns > 1 else average
                if not value > COLLAPSED:
                    return False
                cholesky[k, i, i] = math.sqrt(value)
        elif not factorise(matrix, cholesky[k]):
            return False
    for k in range(layout.scale_rows, n_components):
        for i in range(n_dim):
            for j in range(n_dim):
                cholesky[k, i, j] = cholesky[0, i, j]
    return True


@kernel
def _factor_tied_correlation(
    penalty: Penalty, counts: Array, scatter: Array, cholesky: Array
) -> bool:
    """Write Cholesky factors with own scales and one correlation matrix.

    Given the correlations, each component's reciprocal scales u maximise
    n sum log u - u' (inv(R) * scatter) u / 2, coordinate by coordinate in closed form. Given the
    scales up to a common factor, the rest is one covariance matrix: closed form again.
    """
    n_components, n_dim = scatter.shape[0], scatter.shape[2]
    inverse_scales = np.empty((n_components, n_dim))
    correlation = np.empty((n_dim, n_dim))
    for k in range(n_components):
        for i in range(n_dim):
            square = 0.0
            for j in range(i + 1):
                square += cholesky[k, i, j] ** 2
            inverse_scales[k, i] = 1.0 / math.sqrt(square)
            scatter[k, i, i] += penalty.scatter[i]
    for i in range(n_dim):
        for j in range(n_dim):
            correlation[i, j] = cholesky[0, i, j] * inverse_scales[0, i]
    inverse = np.empty((1, n_dim, n_dim))
    fill_whiteners(correlation.reshape(1, n_dim, n_dim), inverse, np.empty(1))
    precision = np.zeros((n_dim, n_dim))
    for m in range(n_dim):
        for i in range(m + 1):
            for j in range(m + 1):
                precision[i, j] += inverse[0, m, i] * inverse[0, m, j]
    pooled = np.zeros((n_dim, n_dim))
    rows = 0.0
    for k in range(n_components):
        n = counts[k] + penalty.freedom
        rows += n
        u = inverse_scales[k]
        for _ in range(SWEEPS):
            for i in range(n_dim):
                cross = 0.0
                for j in range(n_dim):
                    if j != i:
                        cross += precision[i, j] * scatter[k, i, j] * u[j]
                square = precision[i, i] * scatter[k, i, i]
                if not square > 0.0 or not n > 0.0:
                    return False
                root = math.sqrt(cross * cross + 4.0 * n * square)
                # the positive root of square u^2 + cross u - n, without cancellation
                u[i] = 2.0 * n / (cross + root) if cross > 0 else (root - cross) / (2.0 * square)
        for i in range(n_dim):
            for j in range(n_dim):
                pooled[i, j] += u[i] * scatter[k, i, j] * u[j]
    for i in range(n_dim):
        for j in range(n_dim):
            pooled[i, j] /= rows
    if not factorise(pooled, correlation):
        return False
    for k in range(n_components):
        for i in range(n_dim):
            for j in range(n_dim):
                cholesky[k, i, j] = correlation[i, j] / inverse_scales[k, i]
    return True


@kernel
def m_step(
    layout: Layout,
    penalty: Penalty,
    counts: Array,
    first: Array,
    second: Array,
    log_weights: Array,
    means: Array,
    cholesky: Array,
) -> bool:
    """Replace the parameters by those that maximise the expected objective.

    Parameters
    ----------
    layout : Layout
    penalty : Penalty
    counts, first, second : arrays, shapes that of `log_weights`, (K, D), (K, D or D + 1, D)
        The moments that `e_step` wrote at the current parameters. `second` is overwritten.
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D or D + 1, D)
        Overwritten. With noise there are K + 1 weights.

    Returns
    -------
    bool
        False where no maximum exists: an empty component, a singular covariance.
    """
    total = 0.0
    for k in range(log_weights.size):
        total += counts[k] + penalty.concentration[k]
    for k in range(log_weights.size):
        share = (counts[k] + penalty.concentration[k]) / total
        if not share > 0.0:
            return False
        log_weights[k] = math.log(share)
    pulls = counts
    if cholesky.shape[1] > layout.n_features:
        pulls = np.empty(layout.n_components)
        for k in range(layout.n_components):
            pulls[k] = pull_sum(counts[k], second[k], cholesky[k, layout.n_features, 0])
        learn_df(layout, penalty.df, counts, pulls, second, cholesky)
    if not _centre(penalty, pulls, first, second, means, cholesky):
        return False
    if layout.correlation_sets == 1 and layout.scale_rows > 1:
        return _factor_tied_correlation(penalty, counts, second, cholesky)
    return _factor_alone(layout, penalty, counts, second, cholesky)


@kernel
def _penalty_value(
    layout: Layout,
    penalty: Penalty,
    log_weights: Array,
    means: Array,
    whiteners: Array,
    log_determinants: Array,
) -> float:
    """Return the penalty part of the objective."""
    n_components, n_dim = means.shape
    value = 0.0
    for g in range(layout.df_sets):
        df = whiteners[g, n_dim, 0]
        value += penalty.df[0] * math.log(df) - penalty.df[1] * df
    for k in range(log_weights.size):
        if penalty.concentration[k] > 0.0:
            value += penalty.concentration[k] * log_weights[k]
    for k in range(n_components):
        if k < layout.scale_rows:
            value -= penalty.freedom * log_determinants[k]
        for i in range(n_dim):
            distance = 0.0
            for j in range(i + 1):
                entry = whiteners[k, i, j]
                if k < layout.scale_rows:
                    value -= 0.5 * penalty.scatter[j] * entry * entry
                distance += entry * (means[k, j] - penalty.location[j])
            value -= 0.5 * penalty.strength * distance * distance
    return value


@kernel
def em_map(
    layout: Layout,
    penalty: Penalty,
    rows: Array,
    row_weights: Array,
    groups: Array,
    vector: Array,
) -> tuple[float, bool, Array]:
    """Return the objective at a vector, whether the M-step exists, and the vector it leads to."""
    n_components, n_dim = layout.n_components, layout.n_features
    mean_start, scale_start, _, length = offsets(layout)
    n_lines = n_dim + (1 if penalty.df.size > 0 else 0)
    log_weights = np.empty(n_components + layout.n_noise)
    log_determinants = np.empty(n_components)
    scales = np.empty((n_components, n_dim))
    cholesky = np.empty((n_components, n_lines, n_dim))
    whiteners = np.empty((n_components, n_lines, n_dim))
    counts = np.empty(log_weights.size)
    first = np.empty((n_components, n_dim))
    second = np.empty((n_components, n_lines, n_dim))
    fill_log_weights(vector, log_weights)
    log_weights[n_components:] += penalty.noise
    floor = np.zeros(layout.scale_columns)
    fill_cholesky(layout, floor, vector, scales, cholesky)
    fill_df(vector[length - layout.df_sets :], penalty.df, cholesky)
    fill_whiteners(cholesky, whiteners, log_determinants)
    means = vector[mean_start:scale_start].copy().reshape(n_components, n_dim)
    value = expected_moments(
        rows, row_weights, groups, log_weights, means, cholesky, whiteners, log_determinants,
        counts, first, second,
    )  # fmt: skip
    log_weights[n_components:] -= penalty.noise
    value += _penalty_value(layout, penalty, log_weights, means, whiteners, log_determinants)
    ok = m_step(layout, penalty, counts, first, second, log_weights, means, cholesky)
    if not ok:
        return value, False, vector
    return value, True, unconstrain(layout, floor, log_weights, means, cholesky)


@kernel
def run_em(
    layout: Layout,
    penalty: Penalty,
    rows: Array,
    row_weights: Array,
    groups: Array,
    vector: Array,
    max_passes: int,
    tolerance: float,
) -> tuple[int, Array, Array]:
    """Climb the objective by EM with squared extrapolation (SQUAREM; Varadhan & Roland 2008).

    Parameters
    ----------
    layout : Layout
    penalty : Penalty
    rows, row_weights, groups : arrays
        As `expected_moments` takes them.
    vector : array, shape (P,)
        Where to start.
    max_passes : int
        Passes over the data before giving up.
    tolerance : float
        Gain of the objective, in nats, over three passes under which to stop.

    Returns
    -------
    status : int
        0 converged, 1 out of passes, 2 a component collapsed.
    vector : array, shape (P,)
        The best point reached.
    trace : array
        The objective at the accepted points, never falling.
    """
    trace = np.empty(max_passes + 1)
    reached = 0
    step, bend = np.empty_like(vector), np.empty_like(vector)
    older, old = vector, vector
    cycle_began = -np.inf
    phase = 0  # of a cycle of three passes: at its start, one step on, at the extrapolated point
    for _ in range(max_passes):
        value, ok, following = em_map(layout, penalty, rows, row_weights, groups, vector)
        if phase == 2 and not (ok and value >= trace[reached - 1]):
            vector, phase = old, 0  # too far: go on from where plain EM had come
            continue
        trace[reached] = value
        reached += 1
        if not ok:
            return 2, vector, trace[:reached]
        if phase == 0:
            if value - cycle_began <= tolerance:
                return 0, vector, trace[:reached]
            cycle_began = value
            older, vector, phase = vector, following, 1
        elif phase == 1:
            old = following
            steps, bends = 0.0, 0.0
            for p in range(vector.shape[0]):
                step[p] = vector[p] - older[p]
                bend[p] = following[p] - vector[p] - step[p]
                steps += step[p] * step[p]
                bends += bend[p] * bend[p]
            length = math.sqrt(steps / max(bends, 1e-300))
            vector, phase = following, 0
            if length > 1.0:
                vector = older + 2.0 * length * step + length * length * bend
                phase = 2
        else:
            vector, phase = following, 0
    if phase == 2:  # an extrapolation that nobody has looked at
        vector = old
    return 1, vector, trace[:reached]
