"""Rows of which a part is seen, packed side by side for `kernels.factor_partial`, line by line."""

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.patterns import NO_GROUPS, is_complete
from bayesgmm.kernels.tiles import PADDING

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]


def parted(rows: Array, n_dim: int, n_components: int) -> tuple[Labels, Labels]:
    """Return which rows are whole and without error, and which are not.

    Parameters
    ----------
    rows : array, shape (D', N)
        As `kernels.patterns` has it.
    n_dim, n_components : int
        D and K.
    """
    whole = ~np.isnan(rows[:n_dim]).any(axis=0)
    whole &= ~rows[n_dim + n_components :].any(axis=0)
    return np.flatnonzero(whole), np.flatnonzero(~whole)


def pack_partial(
    rows: Array, row_weights: Array, n_dim: int, n_components: int
) -> tuple[Array, Array, Array]:
    """Return whole rows, weights of these and then of the others, and the others, packed if any.

    Parameters
    ----------
    rows : array, shape (D', N)
        As `kernels.patterns` has it.
    row_weights : array, shape (N,) or (0,)
    n_dim, n_components : int
        D and K.
    """
    if is_complete(rows, n_dim, n_components):
        return rows, row_weights, NO_GROUPS
    whole, partial = parted(rows, n_dim, n_components)
    weights = row_weights[np.append(whole, partial)] if row_weights.size else row_weights
    others = pack_lines(rows, partial, n_dim, n_components)
    return np.ascontiguousarray(rows[: n_dim + n_components, whole]), weights, others


def pack_lines(rows: Array, members: Labels, n_dim: int, n_components: int) -> Array:
    """Return some rows as `table_of` reads them.

    Parameters
    ----------
    rows : array, shape (D', N)
        As `kernels.patterns` has it, errors none or standard deviations.
    members : array of int, shape (n,)
    n_dim, n_components : int
        D and K.

    Returns
    -------
    array
        n, how many lines there are, how many of them are offsets; and then, line by line and with
        zeros up to a multiple of `PADDING`, cells (0 where missing), 1 where there is one and 0
        where not, variances of errors if there are any, offsets.
    """
    chosen = rows[:, members]
    there = ~np.isnan(chosen[:n_dim])
    variances = np.square(chosen[n_dim + n_components :])
    variances[~there[: len(variances)]] = 0.0
    offsets = chosen[n_dim : n_dim + n_components]
    lines = np.concatenate([np.where(there, chosen[:n_dim], 0.0), there, variances, offsets])
    padded = np.zeros((len(lines), -(-members.size // PADDING) * PADDING))
    padded[:, : members.size] = lines
    return np.concatenate([[members.size, len(lines), len(offsets)], padded.ravel()])


@kernel
def table_of(others: Array) -> Array:
    """Return the lines of rows that `pack_lines` has packed, shape (lines, n) at least."""
    n_lines = int(others[1])
    return others[3:].reshape(n_lines, (others.size - 3) // n_lines)
