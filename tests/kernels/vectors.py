"""What an unconstrained vector stands for, in decimal arithmetic, straight from the formulae."""

from decimal import Decimal, localcontext
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.cholesky import Layout
from tests.kernels.oracle import DIGITS, decimals

type Array = NDArray[np.float64]
type Exact = NDArray[np.object_]

ONE = Decimal(1)


def length(layout: Layout) -> int:
    """Return the number of unconstrained parameters, counted from the parts."""
    k, d = layout.n_components, layout.n_features
    pairs = d * (d - 1) // 2
    return (
        (k - 1) + k * d + layout.scale_rows * layout.scale_columns + layout.correlation_sets * pairs
    )


class Parts(NamedTuple):
    """The parts of a vector: (K - 1,), (K, D), (R, C), (G, pairs)."""

    weights: Array
    means: Array
    log_excess: Array
    log_odds: Array


def split(layout: Layout, vector: Array) -> Parts:
    """Return the parts of a vector, in their shapes."""
    k, d = layout.n_components, layout.n_features
    pairs = d * (d - 1) // 2
    rows, columns = layout.scale_rows, layout.scale_columns
    ends = np.cumsum([k - 1, k * d, rows * columns])
    one, two, three, four = np.split(vector, ends)
    return Parts(
        one,
        two.reshape(k, d),
        three.reshape(rows, columns),
        four.reshape(layout.correlation_sets, pairs),
    )


class Decoded(NamedTuple):
    """Log-weights (K,), means (K, D), scales (K, D) and Cholesky factors (K, D, D)."""

    log_weights: Exact
    means: Exact
    scales: Exact
    cholesky: Exact

    def floats(self) -> tuple[Array, Array, Array, Array]:
        one, two, three, four = (part.astype(float) for part in self)
        return one, two, three, four


def decode(layout: Layout, floor: Array, vector: Array | Exact) -> Decoded:
    """Return the parameters, to 60 digits; to be called in a context of that precision."""
    exact = vector if vector.dtype == object else decimals(vector)
    parts = split(layout, exact)
    k, d = layout.n_components, layout.n_features
    y = [*parts.weights, -sum(parts.weights, Decimal(0))]
    log_mass = sum((value.exp() for value in y), Decimal(0)).ln()
    scales = np.empty((k, d), dtype=object)
    cholesky = np.empty((k, d, d), dtype=object)
    for component in range(k):
        row = component if layout.scale_rows > 1 else 0
        for i in range(d):
            column = i if layout.scale_columns > 1 else 0
            excess = parts.log_excess[row, column].exp()
            scales[component, i] = Decimal(float(floor[column])) + excess
        shared = 0 if layout.correlation_sets == 1 else component
        correlation = _correlation_factor(parts.log_odds[shared] if parts.log_odds.size else [], d)
        cholesky[component] = correlation * scales[component][:, None]
    log_weights = np.array([value - log_mass for value in y], dtype=object)
    return Decoded(log_weights, parts.means, scales, cholesky)


def _correlation_factor(log_odds: list[Decimal] | Exact, n_dim: int) -> Exact:
    """Return C of Lewandowski, Kurowicka & Joe (2009), with no log-odds the identity."""
    factor = np.full((n_dim, n_dim), Decimal(0), dtype=object)
    p = 0
    for i in range(n_dim):
        rest = ONE
        for j in range(i):
            partial = Decimal(0)
            if len(log_odds):
                b = ONE / (ONE + (-log_odds[p]).exp())
                partial = 2 * b - 1
            factor[i, j] = partial * rest
            rest *= (ONE - partial * partial).sqrt()
            p += 1
        factor[i, i] = rest
    return factor


def slope_of(function: object, vector: Array) -> Array:
    """Return the gradient of a function of decimals, by differences of 1e-20."""
    h = Decimal(10) ** -20
    result = np.empty(vector.size)
    with localcontext() as context:
        context.prec = DIGITS
        exact = decimals(vector)
        for p in range(vector.size):
            above, below = exact.copy(), exact.copy()
            above[p] += h
            below[p] -= h
            result[p] = float((function(above) - function(below)) / (2 * h))  # type: ignore[operator]
    return result
