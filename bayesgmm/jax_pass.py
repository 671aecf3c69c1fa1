r"""The pass over the data in JAX, for accelerators and for samplers that are written in JAX.

With W_k the inverse of the Cholesky factor of a component's covariance, as in `kernels.estep`,

    y_ik = W_k (x_i - mu_k)     lp_ik = c_k - |y_ik|^2 / 2     r_ik = softmax over k of lp_ik

and n_k = sum r, s_k = sum r y, S_k = sum r y y'. These are two batched products of matrices and a
softmax, and the mean is taken off before the first of them, so that nothing cancels. Products of
natural parameters and features take two thirds of the time, but lose twice the digits by
which components are thin and far apart.

Derivatives are not left to JAX. They follow from (n, s, S) alone, which the pass adds up on its
way: so a gradient is one pass, and keeps nothing of the size of the data. Rows are worked through
in blocks.
"""

import math
from functools import partial
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

LOG_2PI: Final = math.log(2.0 * math.pi)
BLOCK: Final = 2**16
"""Numbers that a block may occupy: on a processor as many as its second-level cache holds."""
LARGE_BLOCK: Final = 2**24
"""The same elsewhere: 128 MiB, to give an accelerator enough to do (not measured)."""
LEAST: Final = 256
"""Rows of a block, at least."""


def block_size(rows: Any, means: Any, together: int) -> int:
    """Return how many rows to work on at a time, if some passes go on together."""
    n_rows: int = rows.shape[1]
    n_components, n_features = means.shape
    room = BLOCK if jax.default_backend() == "cpu" else LARGE_BLOCK
    fitting: int = room // (together * n_components * (n_features + 1))
    return min(n_rows, max(LEAST, 1 << max(fitting.bit_length() - 1, 0)))


def log_likelihood(
    rows: Any, row_weights: Any, log_weights: Any, means: Any, cholesky: Any, together: int
) -> Any:
    """Return the log-likelihood of all rows, differentiable by the parameters.

    Parameters
    ----------
    rows : array, shape (D, N) or (D + K, N)
        As `mixture_log_density` takes them.
    row_weights : array, shape (N,), or None
        How many rows each stands for.
    log_weights, means, cholesky : arrays, shapes (K,), (K, D), (K, D, D)
        The upper triangles of the Cholesky factors are not read.
    together : int
        How many passes `jax.vmap` makes of this one: blocks are as much smaller.

    Returns
    -------
    array of no dimension
        In nats.

    Notes
    -----
    Value and gradient are one pass, O(N K D^2). Reverse mode alone.
    """
    _refuse_unfit(rows, log_weights, means, cholesky)
    size = block_size(rows, means, together)
    return _log_likelihood(rows, row_weights, log_weights, means, cholesky, size)


def log_densities(rows: Any, log_weights: Any, means: Any, cholesky: Any) -> Any:
    """Return the log density of every row, shape (N,), differentiable by the parameters.

    Arguments are those of `log_likelihood`. The gradient is a second pass.
    """
    _refuse_unfit(rows, log_weights, means, cholesky)
    return _log_densities(rows, log_weights, means, cholesky)


def slopes(rows: Any, log_weights: Any, means: Any, cholesky: Any, row_slopes: Any) -> Any:
    """Return the derivatives of ``sum(row_slopes * log_densities(...))`` by the parameters."""
    _refuse_unfit(rows, log_weights, means, cholesky)
    size = block_size(rows, means, 1)
    return _value_and_slopes(rows, row_slopes, log_weights, means, cholesky, size)[1]


def correlation_factors(log_b: Any, log_q: Any, n_features: int) -> Any:
    """Return Cholesky factors of correlation matrices, shape (G, D, D).

    Parameters
    ----------
    log_b, log_q : arrays, shape (G, D (D - 1) / 2)
        The logarithms of b and 1 - b, such that 2 b - 1 are canonical partial correlations, row
        by row below the diagonal.
    n_features : int
        D.
    """
    below = (slice(None), *np.tril_indices(n_features, -1))
    square = jnp.zeros((log_b.shape[0], n_features, n_features))
    partials = (square + jnp.eye(n_features)).at[below].set(jnp.exp(log_b) - jnp.exp(log_q))
    log_roots = square.at[below].set(math.log(2.0) + 0.5 * (log_b + log_q))  # of 1 - partial^2
    before = log_roots @ np.triu(np.ones((n_features, n_features)), 1)
    return partials * jnp.exp(before)


def _refuse_unfit(rows: Any, log_weights: Any, means: Any, cholesky: Any) -> None:
    """Refuse shapes that do not belong together, and numbers of seven digits."""
    k, d = means.shape
    fit = rows.shape[0] in (d, d + k) and rows.shape[1] > 0
    if not fit or log_weights.shape != (k,) or cholesky.shape != (k, d, d):
        raise ValueError(
            f"`rows`, log_weights, means and cholesky must have shapes (D, N) or (D + K, N), (K,), "
            f"(K, D) and (K, D, D) with the same D and K, and N at least 1; got {rows.shape}, "
            f"{log_weights.shape}, {means.shape} and {cholesky.shape}. Transpose rows that lie in "
            f"rows."
        )
    for array in (rows, log_weights, means, cholesky):
        if array.dtype != jnp.float64:  # of the sum over many rows no digit would be left
            raise TypeError(
                f"`rows` and parameters must be float64; got {array.dtype}. Enable it: "
                f"`jax.config.update('jax_enable_x64', True)`, or `with jax.enable_x64(True):`."
            )


def _block(columns: Any, begin: Any, size: int) -> tuple[Any, Any]:
    """Return some columns from one on, or the last ones if they end before, and which are new."""
    n_rows = jax.tree.leaves(columns)[0].shape[-1]
    first = jnp.minimum(begin, n_rows - size)
    take = partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=size, axis=-1)
    return jax.tree.map(take, columns), jnp.arange(size) >= begin - first


def _constants(log_weights: Any, cholesky: Any) -> tuple[Any, Any]:
    """Return the inverses of the factors, shape (K, D, D), and what lp is at the means, (K,)."""
    n_features = cholesky.shape[-1]
    identity = jnp.broadcast_to(jnp.eye(n_features), cholesky.shape)
    whiteners = jax.scipy.linalg.solve_triangular(cholesky, identity, lower=True)
    volumes = jnp.log(jnp.diagonal(cholesky, axis1=1, axis2=2)).sum(axis=1)
    return whiteners, log_weights - volumes - 0.5 * n_features * LOG_2PI


def _whitened(block: Any, constants: Any, means: Any, whiteners: Any) -> tuple[Any, Any, Any]:
    """Return y, shape (K, D, n), lp, shape (K, n), and the log densities, (n,), of some rows."""
    n_features = means.shape[1]
    gaps = block[:n_features] - means[:, :, None]
    y = jnp.einsum("kij,kjn->kin", whiteners, gaps)
    joint = constants[:, None] - 0.5 * (y * y).sum(axis=1)
    if block.shape[0] > n_features:
        joint += block[n_features:]
    return y, joint, jax.nn.logsumexp(joint, axis=0)


def _value_and_slopes(
    rows: Any, row_slopes: Any, log_weights: Any, means: Any, cholesky: Any, size: int
) -> tuple[Any, tuple[Any, Any, Any]]:
    """Return a weighted sum of the log densities, and its derivatives by the parameters."""
    whiteners, constants = _constants(log_weights, cholesky)

    def add(total: Any, begin: Any) -> Any:
        (block, weights), new = _block((rows, row_slopes), begin, size)
        weights = new if weights is None else weights * new
        y, joint, densities = _whitened(block, constants, means, whiteners)
        shares = jnp.exp(joint - densities) * weights
        parts = shares[:, None] * y
        more = (
            (densities * weights).sum(),
            shares.sum(axis=1),
            parts.sum(axis=2),
            jnp.einsum("kin,kjn->kij", parts, y),
        )
        return jax.tree.map(jnp.add, total, more), None

    k, d = means.shape
    nothing = (jnp.zeros(()), jnp.zeros(k), jnp.zeros((k, d)), jnp.zeros((k, d, d)))
    total, _ = jax.lax.scan(add, nothing, jnp.arange(0, rows.shape[1], size))
    value, counts, first, second = total
    by_means = jnp.einsum("kmi,km->ki", whiteners, first)
    by_cholesky = jnp.tril(jnp.einsum("kmi,kmj->kij", whiteners, second))
    by_cholesky -= counts[:, None, None] * whiteners * jnp.eye(d)
    return value, (counts, by_means, by_cholesky)


@partial(jax.custom_vjp, nondiff_argnums=(5,))
def _log_likelihood(
    rows: Any, row_weights: Any, log_weights: Any, means: Any, cholesky: Any, size: int
) -> Any:
    value, _ = _value_and_slopes(rows, row_weights, log_weights, means, cholesky, size)
    return value


def _forward(
    rows: Any, row_weights: Any, log_weights: Any, means: Any, cholesky: Any, size: int
) -> Any:
    return _value_and_slopes(rows, row_weights, log_weights, means, cholesky, size)


def _backward(size: int, found: Any, slope: Any) -> Any:
    return None, None, *(slope * part for part in found)


_log_likelihood.defvjp(_forward, _backward)


@jax.custom_vjp
def _log_densities(rows: Any, log_weights: Any, means: Any, cholesky: Any) -> Any:
    whiteners, constants = _constants(log_weights, cholesky)
    n_rows, size = rows.shape[1], block_size(rows, means, 1)

    def of_block(begin: Any) -> Any:
        return _whitened(_block(rows, begin, size)[0], constants, means, whiteners)[2]

    found = jax.lax.map(of_block, jnp.arange(0, n_rows, size))
    new = n_rows - size * (len(found) - 1)
    return jnp.concatenate([found[:-1].ravel(), found[-1, size - new :]])


def _densities_forward(*given: Any) -> Any:
    if given[0].perturbed:
        raise NotImplementedError(
            "`rows` must be data for JAX; got rows that depend on what a gradient is taken by. "
            "Leave them out of it, or use PyTensor's other modes."
        )
    values = tuple(argument.value for argument in given)
    return _log_densities(*values), values


def _densities_backward(given: Any, row_slopes: Any) -> Any:
    rows, log_weights, means, cholesky = given
    return None, *slopes(rows, log_weights, means, cholesky, row_slopes)


_log_densities.defvjp(_densities_forward, _densities_backward, symbolic_zeros=True)
