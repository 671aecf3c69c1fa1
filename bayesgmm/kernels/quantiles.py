"""The distribution function of mixtures in one dimension, and its inverse."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel

type Array = NDArray[np.float64]

ROOT_HALF: Final = math.sqrt(0.5)
ROOT_2PI: Final = math.sqrt(2.0 * math.pi)
MOST_STEPS: Final = 200
CLOSE: Final = 2.0**-51
"""Step, in units of a place and of the narrowest component, that is below rounding."""
LAST: Final = 1e-9
"""Step of Newton's, in units of the narrowest component, after which only rounding is left."""


@kernel
def _tail(
    x: float, weights: Array, means: Array, scales: Array, sign: float
) -> tuple[float, float]:
    """Return the mass below x, or above it for a sign of -1, and the density there."""
    mass, height = 0.0, 0.0
    for k in range(weights.size):
        z = (x - means[k]) / scales[k]
        mass += 0.5 * weights[k] * math.erfc(-sign * z * ROOT_HALF)
        height += weights[k] / scales[k] * math.exp(-0.5 * z * z)
    return mass, height / ROOT_2PI


@kernel
def fill_cdf(places: Array, weights: Array, means: Array, scales: Array, result: Array) -> None:
    """Write the mass that each of many mixtures has below some places.

    Parameters
    ----------
    places : array, shape (G,)
    weights, means, scales : arrays, shape (M, K)
    result : array, shape (M, G)
        Overwritten.
    """
    for m in range(len(weights)):
        for g in range(places.size):
            result[m, g] = _tail(places[g], weights[m], means[m], scales[m], 1.0)[0]


@kernel
def _quantile(
    level: float, deviate: float, sign: float, weights: Array, means: Array, scales: Array
) -> float:
    """Return the place below which, or above it for a sign of -1, the mass is `level`.

    Newton's steps for the logarithm of the mass, within a bracket: the quantiles of the components
    lie on both sides of that of the mixture.
    """
    low, high, x, narrowest = np.inf, -np.inf, 0.0, np.inf
    for k in range(weights.size):
        if weights[k] > 0.0:
            place = means[k] + scales[k] * deviate
            low, high = min(low, place), max(high, place)
            narrowest = min(narrowest, scales[k])
            x += weights[k] * place
    x = min(max(x, low), high)
    last = high - low
    for _ in range(MOST_STEPS):
        mass, height = _tail(x, weights, means, scales, sign)
        if (mass < level) == (sign > 0.0):
            low = x
        else:
            high = x
        step = np.inf
        if mass > 0.0 and height > 0.0:
            step = sign * mass / height * math.log(level / mass)
        least = LAST * narrowest
        if not (low <= x + step <= high and abs(step) <= 0.5 * last):
            step, least = 0.5 * (low + high) - x, 0.0
        last = abs(step)
        if last <= max(least, CLOSE * (abs(x) + narrowest)):
            return x + step
        x += step
    return x


@kernel
def fill_quantiles(
    levels: Array, deviates: Array, signs: Array, weights: Array, means: Array, scales: Array,
    result: Array,
) -> None:  # fmt: skip
    """Write the quantiles of many mixtures.

    Parameters
    ----------
    levels : array, shape (Q,)
        Mass below the quantile, or above it where that is less: positive, at most 1/2.
    deviates, signs : arrays, shape (Q,)
        The quantile of the standard Normal, and 1, or -1 where the mass is above.
    weights, means, scales : arrays, shape (M, K)
        The weights sum to 1; some may be 0.
    result : array, shape (M, Q)
        Overwritten: the mass is right to some units in the last place of the level and of the
        quantile.

    Notes
    -----
    O(M Q K), about eight times.
    """
    for m in range(len(weights)):
        for q in range(levels.size):
            result[m, q] = _quantile(
                levels[q], deviates[q], signs[q], weights[m], means[m], scales[m]
            )
