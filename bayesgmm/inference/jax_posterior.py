"""The log posterior of `kernels.posterior` in JAX, which takes its gradient.

Numbers come from the array that `pack_problem` made, constants included, so that priors are
resolved and normalised in one place; here is only what depends on the unconstrained vector.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bayesgmm.jax_pass import correlation_factors, log_likelihood
from bayesgmm.kernels.cholesky import Layout, offsets
from bayesgmm.kernels.posterior import (
    CONSTANT,
    HEADER,
    N_OFFSETS,
    N_ROWS,
    N_WEIGHTS,
    STICKS,
    read_layout,
)


class Kind(NamedTuple):
    """What a compiled function depends on.

    Parameters
    ----------
    layout : Layout
    sticks : bool
        Whether weights are broken off a stick.
    together : int
        How many densities are computed together.
    """

    layout: Layout
    sticks: bool
    together: int


class Numbers(NamedTuple):
    """What a packed problem of complete rows holds: arrays, named as `pack_problem` has them."""

    constant: Any
    concentration: Any
    location: Any
    inverse_scale: Any
    inverse_tau: Any
    floor: Any
    shapes: Any
    row_weights: Any
    rows: Any


def unpack(flat: NDArray[np.float64], together: int) -> tuple[Kind, Numbers]:
    """Return the parts of a packed problem of complete rows, on the device of JAX."""
    layout = read_layout(flat)
    k, d, n_rows = layout.n_components, layout.n_features, int(flat[N_ROWS])
    lengths = (k, d, d, layout.scale_columns, layout.scale_columns, d * (d - 1) // 2)
    n_weights, n_lines = int(flat[N_WEIGHTS]), d + int(flat[N_OFFSETS])
    ends = HEADER + np.cumsum([0, *lengths, n_weights, n_lines * n_rows])
    *priors, weights, rows = (jnp.asarray(flat[begin:end]) for begin, end in pairwise(ends))
    of_rows = weights if n_weights else None, rows.reshape(n_lines, n_rows)
    numbers = Numbers._make((jnp.asarray(flat[CONSTANT]), *priors, *of_rows))
    return Kind(layout, bool(flat[STICKS]), together), numbers


def log_posterior(vector: Any, numbers: Numbers, kind: Kind) -> Any:
    """Return the log posterior density in nats at an unconstrained vector, shape (P,)."""
    layout = kind.layout
    k, d = layout.n_components, layout.n_features
    mean_start, scale_start, correlation_start, _ = offsets(layout)
    free = vector[:mean_start]
    log_weights = jax.nn.log_softmax(jnp.append(free, -free.sum()))
    means = vector[mean_start:scale_start].reshape(k, d)
    log_excess = vector[scale_start:correlation_start].reshape(layout.scale_rows, -1)
    scales = numbers.floor + jnp.exp(log_excess)
    log_odds = vector[correlation_start:].reshape(layout.correlation_sets, d * (d - 1) // 2)
    log_b, log_q = -jax.nn.softplus(-log_odds), -jax.nn.softplus(log_odds)
    factors = correlation_factors(log_b, log_q, d) if layout.correlation_sets else jnp.eye(d)[None]
    cholesky = jnp.broadcast_to(scales, (k, d))[:, :, None] * factors
    value = log_likelihood(
        numbers.rows, numbers.row_weights, log_weights, means, cholesky, kind.together
    )
    z = (means - numbers.location) * numbers.inverse_scale
    value -= 0.5 * (z * z).sum()
    z = scales * numbers.inverse_tau
    value += log_excess.sum() - 0.5 * (z * z).sum()
    value += ((log_b + log_q) * numbers.shapes).sum()
    return value + _of_weights(log_weights, numbers.concentration, kind.sticks) + numbers.constant


def _of_weights(log_weights: Any, concentration: Any, sticks: bool) -> Any:
    """Return the log prior density of the weights, as `add_sticks` has it for a stick."""
    if not sticks:
        return (concentration * log_weights).sum()
    last, broken = log_weights[-1], log_weights.shape[0] - 1
    log_rest = jax.lax.cumlogsumexp(log_weights, reverse=True)
    pieces = (log_weights - log_rest)[:-1].sum()
    shape, rate = concentration[0], concentration[1]
    total = jnp.where(rate > 0.0, rate - last, 1.0)  # 1 keeps what is not chosen finite
    learnt = -(shape + broken) * jnp.log(total)
    return pieces + jnp.where(rate > 0.0, learnt, shape * last)
