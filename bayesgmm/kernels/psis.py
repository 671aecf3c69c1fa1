"""Pareto-smoothed importance sampling: weights that a few draws do not dominate, and their shape.

The estimator is that of Vehtari, Simpson, Gelman, Yao & Gabry (2024), with the fit of Zhang &
Stephens (2009) to the tail, as ArviZ has it; excesses over the cutoff are computed without
cancellation here, which matters where all weights are nearly equal.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.diagnostics import effective, fill_halves
from bayesgmm.kernels.elementary import exp_nonpositive
from bayesgmm.kernels.sorting import argsort

type Array = NDArray[np.float64]
type Order = NDArray[np.int32]

LARGEST_PARETO_K: Final = 0.7
"""Shape beyond which no weights can repair the draws of an approximation (same authors)."""
FEWEST_IN_TAIL: Final = 5
LARGE_SAMPLE: Final = 225
"""Effective draws from which the tail grows with their square root; below it is a fifth."""
PRIOR_DRAWS: Final = 10.0
"""Weight of the prior of the shape, in draws."""
PRIOR_SHAPE: Final = 0.5
LINEAR: Final = 1e-3
"""Product of rate and excess below which 1 - product has lost too much of it."""
LARGEST_LOG: Final = 700.0
"""What the log of a float64 does not reach, nor minus it."""
NEGLIGIBLE: Final = 10.0 * 2.0**-52
"""Share below which a point of the profile counts as nothing."""
MOST_GUESSES: Final = 64
EQUAL: Final = 1e-10
"""Log ratios that differ by less are all the same: their differences are rounding."""
COLUMNS: Final = 16
"""Rows of the data worked on together: they lie side by side in memory."""


@kernel(fastmath=frozenset({"reassoc"}))
def _total(values: Array) -> float:
    """Return the sum."""
    total = 0.0
    for i in range(values.size):  # not over the values: that would be no vector code
        total += values[i]
    return total


@kernel
def _exp_total(values: Array, highest: float, scratch: Array) -> float:
    """Return the sum of ``exp(values - highest)``, of which `highest` is the largest."""
    for i in range(values.size):
        scratch[i] = exp_nonpositive(values[i] - highest)
    return _total(scratch[: values.size])


@kernel
def _fill_log_sums(excess: Array, rates: Array, result: Array) -> None:
    """Write the sums over the excesses of log(1 - rate * excess), for ascending rates.

    As logs of products, of as many factors as neither overflow nor underflow.
    """
    largest = excess[-1]
    reach = max(math.log(1.0 - rates[0] * largest), -math.log(1.0 - rates[-1] * largest), 1.0)
    n, m, together = excess.size, rates.size, max(int(LARGEST_LOG / reach), 1)
    product = np.empty(m)
    result[:] = 0.0
    for start in range(0, n, together):
        product[:] = 1.0
        for i in range(start, min(start + together, n)):
            for j in range(m):
                product[j] *= 1.0 - rates[j] * excess[i]
        for j in range(m):
            result[j] += math.log(product[j])
    for j in range(m):
        if abs(rates[j]) * largest < LINEAR:
            result[j] = 0.0
            for value in excess:
                result[j] += math.log1p(-rates[j] * value)


@kernel
def _fit_pareto(excess: Array) -> tuple[float, float]:
    """Return shape and scale of a generalised Pareto law (Zhang & Stephens 2009).

    The shape is drawn to 0.5 by a prior worth ten draws.

    Parameters
    ----------
    excess : array, shape (M,)
        Over the cutoff, ascending, the last above 0.

    Returns
    -------
    shape, scale : float
        (inf, NaN) where the first quarter has no spread, so that no such law is near.
    """
    n = excess.size
    quartile = excess[int(n / 4.0 + 0.5) - 1]
    if not quartile > excess[0]:
        return math.inf, math.nan
    m = 30 + int(math.sqrt(n))
    rates, profile = np.empty(m), np.empty(m)
    for j in range(m):
        rates[j] = 1.0 / excess[-1] + (1.0 - math.sqrt(m / (j + 0.5))) / (3.0 * quartile)
    _fill_log_sums(excess, rates, profile)
    peak = -math.inf
    for j in range(m):
        shape = profile[j] / n
        profile[j] = n * (math.log(-rates[j] / shape) - shape - 1.0)
        if profile[j] > peak:
            peak = profile[j]
    total = 0.0
    for j in range(m):
        profile[j] = math.exp(profile[j] - peak)
        if profile[j] > 0.0:  # neither underflowed nor NaN
            total += profile[j]
    kept, rate = 0.0, 0.0
    for j in range(m):
        if profile[j] >= NEGLIGIBLE * total:
            kept += profile[j]
            rate += rates[j] * profile[j]
    rate /= kept
    shape = 0.0
    for i in range(n):
        shape += math.log1p(-rate * excess[i]) / n
    scale = -shape / rate
    shape = (n * shape + PRIOR_DRAWS * PRIOR_SHAPE) / (n + PRIOR_DRAWS)
    if not (scale > 0.0 and math.isfinite(scale) and math.isfinite(shape)):
        return math.inf, math.nan
    return shape, scale


@kernel
def _threshold(log_weights: Array, wanted: int) -> float:
    """Return what at least `wanted` weights reach, and rarely more than twice as many."""
    low, high, guess = -math.inf, 0.0, -1.0
    for _ in range(MOST_GUESSES):
        count = 0
        for i in range(log_weights.size):
            count += log_weights[i] >= guess
        if count < wanted:
            high = guess
        else:
            low = guess
            if count <= 2 * wanted:
                break
        guess = 2.0 * guess if low == -math.inf else 0.5 * (low + high)
    return low


@kernel
def _smooth(
    log_weights: Array, spread: float, efficiency: float, places: Order, shifts: Array
) -> tuple[float, int]:
    """Replace the largest weights by the quantiles of the law fitted to them.

    Parameters
    ----------
    log_weights : array, shape (S,)
        The largest is 0. Overwritten.
    spread : float
        Minus the smallest.
    efficiency : float
        Effective draws per draw.
    places : array of int32, shape (S,)
        Overwritten at its beginning with the draws of the tail.
    shifts : array, shape (S,)
        Overwritten there with what was added to their log weights.

    Returns
    -------
    shape : float
    n_tail : int
        Number of weights that were replaced.
    """
    if spread < EQUAL:
        return -math.inf, 0
    n = log_weights.size
    n_tail = n // 5
    if n * efficiency > LARGE_SAMPLE:
        n_tail = int(3.0 * math.sqrt(n / efficiency))
    lowest = _threshold(log_weights, n_tail + 1)
    kept = 0
    for i in range(n):  # without a branch: which are kept cannot be foretold
        places[kept], shifts[kept] = i, log_weights[i]
        kept += log_weights[i] >= lowest
    order = argsort(shifts[:kept])[kept - n_tail - 1 :]
    tail = shifts[order]
    if n_tail < FEWEST_IN_TAIL or tail[1] == 0.0:
        return math.inf, 0
    cutoff, excess = tail[0], np.zeros(n_tail)
    for i in range(n_tail):
        value = tail[i + 1]
        if value > cutoff:  # both may be minus infinity
            excess[i] = -math.exp(value) * math.expm1(cutoff - value)
    shape, scale = _fit_pareto(excess)
    if math.isinf(shape):
        return shape, 0
    lowest = math.exp(cutoff)
    chosen = places[order]
    for i in range(n_tail):
        quantile = -math.log1p(-(i + 0.5) / n_tail)
        if shape != 0.0:
            quantile = math.expm1(shape * quantile) / shape
        value = min(math.log(lowest + scale * quantile), 0.0)
        places[i], shifts[i] = chosen[i + 1], value - tail[i + 1]
        log_weights[chosen[i + 1]] = value
    return shape, n_tail


@kernel
def psis(log_ratios: Array, efficiency: float, log_weights: Array) -> float:
    """Write smoothed importance weights; return the shape of the tail, k-hat.

    Parameters
    ----------
    log_ratios : array, shape (S,)
        Log of target over proposal, up to a constant; minus infinity where the target is 0.
    efficiency : float
        Effective draws per draw; 1 for independent ones.
    log_weights : array, shape (S,)
        Overwritten with the log of weights that sum to 1; may be `log_ratios` itself.

    Returns
    -------
    float
        The estimates can be relied on up to ``min(1 - 1 / log10(S), 0.7)``. Minus infinity where
        all weights are equal. Infinity where no Pareto law can be fitted, there being fewer than
        30 draws or no spread in the tail: the weights are not smoothed then. NaN, with NaN for
        weights, where a ratio is infinite or NaN, or all are zero.

    Notes
    -----
    The tail holds ``3 * sqrt(S / efficiency)`` draws, or a fifth where fewer than 225 are
    effective. O(S) operations and memory.
    """
    n = log_ratios.size
    lowest, highest = math.inf, -math.inf
    for value in log_ratios:
        if not value < math.inf:
            highest = math.nan
            break
        lowest, highest = min(lowest, value), max(highest, value)
    if not math.isfinite(highest):
        log_weights[:] = math.nan
        return math.nan
    for i in range(n):
        log_weights[i] = log_ratios[i] - highest
    scratch = np.empty(n)
    shape, _ = _smooth(
        log_weights, highest - lowest, efficiency, np.empty(n, dtype=np.int32), scratch
    )
    shift = math.log(_exp_total(log_weights, 0.0, scratch))
    for i in range(n):
        log_weights[i] -= shift
    return shape


@kernel
def _fill_block(
    log_likelihood: Array, left: int, width: int, block: Array, lowest: Array, highest: Array
) -> None:
    """Write some columns as rows, and their smallest and largest entries."""
    lowest[:width], highest[:width] = math.inf, -math.inf
    for s in range(log_likelihood.shape[0]):
        for i in range(width):
            value = log_likelihood[s, left + i]
            block[i, s] = value
            lowest[i] = lowest[i] if lowest[i] < value else value
            highest[i] = highest[i] if highest[i] > value else value


@kernel
def leave_out(
    log_likelihood: Array,
    start: int,
    stop: int,
    efficiency: float,
    elpd: Array,
    p: Array,
    shapes: Array,
) -> None:
    """Write what leaving out each of some rows does, by `psis` of the inverse likelihoods.

    Parameters
    ----------
    log_likelihood : array, shape (S, N)
        Of every row under every draw, in nats.
    start, stop : int
        The rows to do.
    efficiency : float
        Effective draws per draw.
    elpd, p, shapes : arrays, shape (N,)
        Overwritten at these rows: the log predictive density of a row under the fit of all
        others, how much lower it is than under the fit, and what `psis` returns. All are NaN
        where a log-likelihood is not finite.

    Notes
    -----
    O(S) operations for a row.
    """
    n = log_likelihood.shape[0]
    block, lowest, highest = np.empty((COLUMNS, n)), np.empty(COLUMNS), np.empty(COLUMNS)
    weights, scratch, places = np.empty(n), np.empty(n), np.empty(n, dtype=np.int32)
    for left in range(start, stop, COLUMNS):
        width = min(COLUMNS, stop - left)
        _fill_block(log_likelihood, left, width, block, lowest, highest)
        for i in range(width):
            row = block[i]
            if not math.isfinite(_total(row)):
                elpd[left + i] = p[left + i] = shapes[left + i] = math.nan
                continue
            in_sample = highest[i] + math.log(_exp_total(row, highest[i], scratch) / n)
            for s in range(n):
                weights[s] = lowest[i] - row[s]
            shapes[left + i], n_tail = _smooth(
                weights, highest[i] - lowest[i], efficiency, places, scratch
            )
            # a draw's weight times its likelihood is the same for all that were not replaced
            peak = 0.0
            for s in range(n_tail):
                peak = max(peak, scratch[s])
            total = (n - n_tail) * math.exp(-peak)
            for s in range(n_tail):
                total += math.exp(scratch[s] - peak)
            elpd[left + i] = lowest[i] + peak + math.log(total)
            elpd[left + i] -= math.log(_exp_total(weights, 0.0, scratch))
            p[left + i] = in_sample - elpd[left + i]


@kernel
def keep_in(log_likelihood: Array, start: int, stop: int, lppd: Array, variances: Array) -> None:
    """Write how well some rows are predicted by the fit that they are part of.

    Parameters
    ----------
    log_likelihood : array, shape (S, N)
        Of every row under every draw, in nats.
    start, stop : int
        The rows to do.
    lppd, variances : arrays, shape (N,)
        Overwritten at these rows: the log of the mean likelihood, and the variance of its log,
        dividing by S - 1; neither is finite where a log-likelihood is not.
    """
    n = log_likelihood.shape[0]
    block, lowest, highest = np.empty((COLUMNS, n)), np.empty(COLUMNS), np.empty(COLUMNS)
    scratch = np.empty(n)
    for left in range(start, stop, COLUMNS):
        width = min(COLUMNS, stop - left)
        _fill_block(log_likelihood, left, width, block, lowest, highest)
        for i in range(width):
            row = block[i]
            total = _exp_total(row, highest[i], scratch)
            lppd[left + i] = highest[i] + math.log(total / n)
            mean = _total(row) / n
            for s in range(n):
                scratch[s] = (row[s] - mean) ** 2
            variances[left + i] = _total(scratch) / (n - 1)


@kernel
def efficiency_each(
    log_likelihood: Array, start: int, stop: int, n_chains: int, step: int, result: Array
) -> None:
    """Write the effective draws per draw of the likelihoods of some rows.

    Parameters
    ----------
    log_likelihood : array, shape (S, N)
        Of every row under every draw, in nats, chains one after another.
    start, stop : int
        The groups of 16 rows to do.
    n_chains, step : int
        Only every `step`-th group is counted.
    result : array, shape (N,)
        Overwritten at the rows of these groups.
    """
    n_draws, n_rows = log_likelihood.shape
    n = n_draws // n_chains
    block, lowest, highest = np.empty((COLUMNS, n_draws)), np.empty(COLUMNS), np.empty(COLUMNS)
    halves = np.empty((2 * n_chains, n // 2))
    for group in range(start, stop):
        left = group * step * COLUMNS
        width = min(COLUMNS, n_rows - left)
        _fill_block(log_likelihood, left, width, block, lowest, highest)
        for i in range(width):
            row = block[i]
            for s in range(n_draws):  # at most 1: densities of 1e-300 are no constants
                row[s] = exp_nonpositive(row[s] - highest[i])
            fill_halves(row.reshape(n_chains, n), halves)
            result[left + i] = effective(halves) / n_draws
