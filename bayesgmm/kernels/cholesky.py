"""The unconstrained vector, and the Cholesky factors that it stands for.

The vector holds, one after the other,

    K - 1           weights, PyMC's simplex transform: y = (v, -sum v), log weights are
                    y - logsumexp y (K where there is noise, whose weight is the last)
    K x D           means
    R x C           logarithms of the scales less their floor (R = K or 1 if shared; C = D or 1
                    if common)
    G x D (D-1)/2   log-odds of b, c = 2 b - 1 the canonical partial correlations, row by row
                    below the diagonal (G = K, or 1 if shared, or 0 if there are none);
                    or loadings, as `kernels.factor_loadings` has them
    T               logarithms of degrees of freedom (T = K, or 1 if shared, or 0 if they are known
                    or tails are Normal)

and a covariance is L L' with L = diag(scales) C, where (Lewandowski, Kurowicka & Joe 2009)

    C_ij = c_ij prod_{m<j} sqrt(1 - c_im^2)      C_ii = prod_{m<i} sqrt(1 - c_im^2).
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.elementary import exp_nonpositive
from bayesgmm.kernels.lanes import borrowed, keep

type Array = NDArray[np.float64]

BEGIN_DF: Final = 10.0
"""Degrees of freedom that a search begins with."""


class Layout(NamedTuple):
    """The sizes of the parts of the unconstrained vector.

    Parameters
    ----------
    n_components, n_features : int
        K and D.
    scale_rows, scale_columns : int
        K or 1, and D or 1: whether components share scales, and features.
    correlation_sets : int
        K, 1 or 0: a correlation matrix per component, one shared, none.
    df_sets : int
        K, 1 or 0: degrees of freedom to be learnt per component, shared, none.
    n_factors : int
        Of factor analysers, whose loadings take the place of correlations; 0 of others.
    n_noise : int
        1 or 0: whether a row may be background noise, which has a weight and no parameters.
    """

    n_components: int
    n_features: int
    scale_rows: int
    scale_columns: int
    correlation_sets: int
    df_sets: int = 0
    n_factors: int = 0
    n_noise: int = 0


@kernel
def offsets(layout: Layout) -> tuple[int, int, int, int]:
    """Return where means, scales and correlations begin, and the length of the vector."""
    means = layout.n_components + layout.n_noise - 1
    scales = means + layout.n_components * layout.n_features
    correlations = scales + layout.scale_rows * layout.scale_columns
    pairs = layout.n_features * (layout.n_features - 1) // 2
    length = correlations + layout.correlation_sets * pairs + layout.df_sets
    loadings = layout.n_factors * layout.n_features - layout.n_factors * (layout.n_factors - 1) // 2
    length += layout.n_components * loadings
    return means, scales, correlations, length


@kernel
def fill_log_weights(vector: Array, log_weights: Array) -> None:
    """Write the K log-weights that the first K - 1 entries of the vector stand for."""
    last = log_weights.shape[0] - 1
    total = 0.0
    for k in range(last):
        log_weights[k] = vector[k]
        total += vector[k]
    log_weights[last] = -total
    peak = log_weights[last]
    for k in range(last):
        peak = max(peak, log_weights[k])
    mass = 0.0
    for k in range(last + 1):
        mass += math.exp(log_weights[k] - peak)
    shift = peak + math.log(mass)
    for k in range(last + 1):
        log_weights[k] -= shift


@kernel(fastmath=frozenset({"contract"}))
def fill_partials(log_odds: Array, partials: Array, roots: Array) -> None:
    """Write c = 2 b - 1 and sqrt(1 - c^2) of log-odds of b, all of shape (P,)."""
    for p in range(log_odds.shape[0]):
        root = exp_nonpositive(-0.5 * abs(log_odds[p]))
        t = root * root
        inverse = 1.0 / (1.0 + t)
        partial = (1.0 - t) * inverse
        partials[p] = partial if log_odds[p] > 0 else -partial
        roots[p] = 2.0 * root * inverse


@kernel
def fill_correlation(partials: Array, roots: Array, factor: Array) -> None:
    """Write the Cholesky factor, shape (D, D), of one correlation matrix."""
    n_dim = factor.shape[1]
    p = 0
    for i in range(n_dim):
        remaining = 1.0
        for j in range(i):
            factor[i, j] = remaining * partials[p]
            remaining *= roots[p]
            p += 1
        factor[i, i] = remaining
        for j in range(i + 1, n_dim):
            factor[i, j] = 0.0


@kernel
def fill_cholesky(
    layout: Layout, floor: Array, vector: Array, scales: Array, cholesky: Array
) -> None:
    """Write the scales, shape (K, D), and the Cholesky factors, shape (K, D, D)."""
    n_dim = layout.n_features
    _, scale_start, correlation_start, _ = offsets(layout)
    pairs = n_dim * (n_dim - 1) // 2
    n_partials = layout.correlation_sets * pairs
    memory = np.empty(2 * n_partials)
    partials, roots = borrowed(memory)[:n_partials], borrowed(memory)[n_partials:]
    fill_partials(vector[correlation_start : correlation_start + n_partials], partials, roots)
    for k in range(layout.n_components):
        factor = cholesky[k]
        if k < layout.correlation_sets:
            fill_correlation(partials[k * pairs :], roots[k * pairs :], factor)
        elif layout.correlation_sets == 1:
            for i in range(n_dim):
                for j in range(n_dim):
                    factor[i, j] = cholesky[0, i, j] / scales[0, i]
        else:
            for i in range(n_dim):
                for j in range(n_dim):
                    factor[i, j] = 1.0 if i == j else 0.0
        row = scale_start + (k * layout.scale_columns if layout.scale_rows > 1 else 0)
        for i in range(n_dim):
            column = i if layout.scale_columns > 1 else 0
            scale = floor[column] + math.exp(vector[row + column])
            scales[k, i] = scale
            for j in range(i + 1):
                factor[i, j] *= scale
    keep(memory)


@kernel
def pull_back(
    layout: Layout,
    floor: Array,
    vector: Array,
    scales: Array,
    cholesky: Array,
    slopes: Array,
    gradient: Array,
) -> None:
    """Turn the slopes with respect to the Cholesky factors into those of the vector.

    Parameters
    ----------
    layout : Layout
    floor : array, shape (C,)
    vector : array, shape (P,)
    scales, cholesky : arrays, shapes (K, D) and (K, D, D)
        As `fill_cholesky` wrote them.
    slopes : array, shape (K, D, D)
        Derivatives with respect to the lower triangles of the factors. Overwritten.
    gradient : array, shape (P,)
        The derivatives with respect to scales and correlations are added to it.
    """
    n_dim = layout.n_features
    _, scale_start, correlation_start, _ = offsets(layout)
    pairs = n_dim * (n_dim - 1) // 2
    for k in range(layout.n_components):
        row = scale_start + (k * layout.scale_columns if layout.scale_rows > 1 else 0)
        for i in range(n_dim):
            total = 0.0
            for j in range(i + 1):
                total += slopes[k, i, j] * cholesky[k, i, j]
                slopes[k, i, j] *= scales[k, i]
            column = i if layout.scale_columns > 1 else 0
            gradient[row + column] += total * (1.0 - floor[column] / scales[k, i])
        if layout.correlation_sets == 1 and k > 0:
            for i in range(n_dim):
                for j in range(i + 1):
                    slopes[0, i, j] += slopes[k, i, j]
    n_partials = layout.correlation_sets * pairs
    memory = np.empty(2 * n_partials + n_dim)
    work = borrowed(memory)
    partials, roots = work[:n_partials], work[n_partials : 2 * n_partials]
    remaining = work[2 * n_partials :]
    fill_partials(vector[correlation_start : correlation_start + n_partials], partials, roots)
    p = 0
    for g in range(layout.correlation_sets):
        for i in range(1, n_dim):
            remaining[0] = 1.0
            for j in range(1, i):
                remaining[j] = remaining[j - 1] * roots[p + j - 1]
            inverse = 1.0 / scales[g, i]
            below = slopes[g, i, i] * cholesky[g, i, i] * inverse
            for j in range(i - 1, -1, -1):
                gap = roots[p + j] * roots[p + j]
                slope = slopes[g, i, j]
                change = gap * slope * remaining[j] - partials[p + j] * below
                gradient[correlation_start + p + j] += 0.5 * change
                below += slope * cholesky[g, i, j] * inverse
            p += i
    keep(memory)


@kernel
def constrain(
    layout: Layout, floor: Array, vectors: Array, center: Array, unit: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """Return the parameters, in the data's units, of many unconstrained vectors.

    Parameters
    ----------
    layout : Layout
    floor : array, shape (C,)
    vectors : array, shape (S, P)
        Of the standardised data (x - center) / unit.
    center, unit : arrays, shape (D,)

    Returns
    -------
    weights, means, scales, correlations, covariances : arrays
        Shapes (S, K), (S, K, D), (S, K, D), (S, K, D, D), (S, K, D, D). With noise weights have
        shape (S, K + 1).
    """
    n, k_all, n_dim = vectors.shape[0], layout.n_components, layout.n_features
    mean_start, scale_start, _, _ = offsets(layout)
    result = (
        np.empty((n, k_all + layout.n_noise)),
        np.empty((n, k_all, n_dim)),
        np.empty((n, k_all, n_dim)),
        np.empty((n, k_all, n_dim, n_dim)),
        np.empty((n, k_all, n_dim, n_dim)),
    )
    weights, means, scales = borrowed(result[0]), borrowed(result[1]), borrowed(result[2])
    correlations, covariances = borrowed(result[3]), borrowed(result[4])
    vectors = borrowed(vectors)
    memory = np.empty((k_all, n_dim, n_dim))
    cholesky = borrowed(memory)
    for s in range(n):
        vector = vectors[s]
        fill_log_weights(vector, weights[s])
        fill_cholesky(layout, floor, vector, scales[s], cholesky)
        for k in range(k_all + layout.n_noise):
            weights[s, k] = math.exp(weights[s, k])
        for k in range(k_all):
            for i in range(n_dim):
                means[s, k, i] = center[i] + unit[i] * vector[mean_start + k * n_dim + i]
                for j in range(i + 1):
                    total = 0.0
                    for m in range(j + 1):
                        total += cholesky[k, i, m] * cholesky[k, j, m]
                    total /= scales[s, k, i] * scales[s, k, j]
                    total = 1.0 if i == j else total
                    correlations[s, k, i, j] = total
                    correlations[s, k, j, i] = total
            for i in range(n_dim):
                scales[s, k, i] *= unit[i]
            for i in range(n_dim):
                for j in range(n_dim):
                    covariances[s, k, i, j] = (
                        scales[s, k, i] * scales[s, k, j] * correlations[s, k, i, j]
                    )
    keep(memory)
    return result


@kernel
def unconstrain(
    layout: Layout, floor: Array, log_weights: Array, means: Array, cholesky: Array
) -> Array:
    """Return the vector, shape (P,), of one set of parameters of standardised data.

    Parameters
    ----------
    layout : Layout
    floor : array, shape (C,)
        Scales at or below it, which no vector stands for, are moved 1 % above it.
    log_weights, means : arrays, shapes (K,), with noise (K + 1,), and (K, D)
    cholesky : array, shape (K, D, D) or (K, D + 1, D)
        Lower Cholesky factors of the covariances. Where scales or correlations are shared they
        are read off the first component, and so are degrees of freedom. Without a line for these
        a search for them begins at `BEGIN_DF`.
    """
    n_dim = layout.n_features
    mean_start, scale_start, correlation_start, length = offsets(layout)
    vector = np.empty(length)
    shift = 0.0
    for k in range(mean_start + 1):
        shift += log_weights[k] / (mean_start + 1)
    for k in range(mean_start):
        vector[k] = log_weights[k] - shift
    for k in range(layout.n_components):
        for i in range(n_dim):
            vector[mean_start + k * n_dim + i] = means[k, i]
    p = correlation_start
    for k in range(max(layout.scale_rows, layout.correlation_sets)):
        for i in range(n_dim):
            square = 0.0
            for j in range(i + 1):
                square += cholesky[k, i, j] ** 2
            if k < layout.scale_rows and i < layout.scale_columns:
                excess = math.sqrt(square) - floor[i]
                if floor[i] > 0.0:
                    excess = max(excess, 0.01 * floor[i])
                vector[scale_start + k * layout.scale_columns + i] = math.log(excess)
            if k < layout.correlation_sets:
                remaining = square  # squared length of the row right of column j - 1
                for j in range(i):
                    entry = cholesky[k, i, j]
                    rest = 0.0
                    for m in range(j + 1, i + 1):
                        rest += cholesky[k, i, m] ** 2
                    root = math.sqrt(remaining)
                    # (root + entry) (root - entry) = rest, used on the side that cancels
                    if entry > 0:
                        vector[p] = 2.0 * math.log(root + entry) - math.log(rest)
                    else:
                        vector[p] = math.log(rest) - 2.0 * math.log(root - entry)
                    remaining = rest
                    p += 1
    for g in range(layout.df_sets):
        known = cholesky.shape[1] > n_dim
        vector[length - layout.df_sets + g] = math.log(cholesky[g, n_dim, 0] if known else BEGIN_DF)
    return vector


def standardise(
    weights: Array, means: Array, scales: Array, correlations: Array, center: Array, unit: Array
) -> tuple[Array, Array, Array]:
    """Return what the passes read, of parameters in the data's units.

    Parameters
    ----------
    weights, means, scales, correlations : arrays
        Shapes (S, K), (S, K, D), (S, K, D), (S, K, D, D). Of factor analysers the last two are
        uniquenesses and loadings, (S, K, D, q).
    center, unit : arrays, shape (D,)

    Returns
    -------
    log_weights, means, cholesky : arrays
        Shapes (S, K), (S, K, D), (S, K, D, D), of (x - center) / unit. Of factor analysers the
        last is [W psi], shape (S, K, D, q + 1).

    Notes
    -----
    O(S K D^3). A correlation matrix that rounding has made singular is moved back by 1e-15.
    """
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)
    if correlations.shape[-1] < correlations.shape[-2]:
        joined = np.concatenate((correlations, scales[..., None]), axis=-1)
        return log_weights, (means - center) / unit, joined / unit[:, None]
    try:
        factors = np.linalg.cholesky(correlations)
    except np.linalg.LinAlgError:
        values, axes = np.linalg.eigh(correlations)
        values = np.maximum(values, 1e-15)
        factors = np.linalg.cholesky((axes * values[..., None, :]) @ np.swapaxes(axes, -1, -2))
    return log_weights, (means - center) / unit, factors * (scales / unit)[..., None]
