"""Rows by what is seen of them: which cells are missing, and the errors of the others.

Rows are the columns of an array of shape (D', N): D cells, NaN where missing; then nothing, or K
logarithms of what is known of the label (`kernels.estep.e_step`); and then nothing, or the standard
deviations of the cells' errors, or the lower triangle of a Cholesky factor of the errors'
covariance, row by row. Where there are errors there are labels, be it zeros for an unknown one.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

NO_GROUPS: Final = np.empty(0)
"""What `pack_groups` returns where all rows are complete."""


class Group(NamedTuple):
    """Rows of which the same is seen.

    Parameters
    ----------
    members : array of int, shape (n,)
        Which rows, in ascending order.
    seen : array of int, shape (d,)
        Which features are not missing.
    errors : array, shape (d, W)
        A factor E_o of the covariance of their errors; W = 0 if there are none.
    lines : array of int, shape (d,) or (d + K,)
        Where the cells that are seen stand, and what is known of the labels.
    """

    members: Labels
    seen: Labels
    errors: Array
    lines: Labels


def is_complete(rows: Array, n_dim: int, n_components: int) -> bool:
    """Tell whether no cell of some rows is missing or measured with error."""
    if rows.shape[0] > n_dim + n_components:
        return False
    # the smallest is NaN if any is: there may be many rows, and this takes no memory
    return not np.isnan(rows[:n_dim].min(initial=0.0))


def groups_of(rows: Array, n_dim: int, n_components: int) -> Iterator[Group]:
    """Yield the rows of which the same is seen, complete ones first.

    Parameters
    ----------
    rows : array, shape (D', N)
    n_dim, n_components : int
        D and K.

    Notes
    -----
    O(N D log N) operations; O(N D^2 log N) where errors are correlated.
    """
    there = ~np.isnan(rows[:n_dim])
    n_known = min(n_dim + n_components, rows.shape[0])
    errors = rows[n_known:] + 0.0  # of missing cells they do not matter; -0 is 0
    if len(errors) == n_dim:
        errors[~there] = 0.0
    keys = np.ascontiguousarray(np.concatenate([~there, errors]).T)
    order = np.lexsort(keys.T[::-1])  # the first number other than 0 is positive
    sorted_keys = keys[order]
    edges = 1 + np.flatnonzero((sorted_keys[1:] != sorted_keys[:-1]).any(axis=1))
    for members in np.split(order, edges):
        key = keys[members[0]]
        seen = np.flatnonzero(key[:n_dim] == 0.0)
        lines = np.concatenate((seen, np.arange(n_dim, n_known)))
        yield Group(members, seen, _factor_of(key[n_dim:], n_dim)[seen], lines)


def _factor_of(errors: Array, n_dim: int) -> Array:
    """Return a factor, shape (D, W), of the covariance of errors."""
    if not errors.any():
        return np.empty((n_dim, 0))
    if errors.size == n_dim:
        return np.diag(errors)
    factor = np.zeros((n_dim, n_dim))
    factor[np.tri(n_dim, dtype=bool)] = errors
    return factor


def pack_groups(rows: Array, n_dim: int, n_components: int) -> tuple[Labels, int, Array]:
    """Return rows as `expected_moments` reads them.

    Parameters
    ----------
    rows : array, shape (D', N)
    n_dim, n_components : int
        D and K.

    Returns
    -------
    order : array of int, shape (N,)
        That rows are to be put in, and with them whatever else goes with a row.
    n_complete : int
        How many come first that are complete.
    groups : array
        The others, one group after another: n, d, W, l, seen (d), errors (d x W), lines (l x n).
    """
    order, n_complete, others = [], 0, []
    for group in groups_of(rows, n_dim, n_components):
        order.append(group.members)
        if group.seen.size == n_dim and group.errors.size == 0:
            n_complete += group.members.size
        else:
            others.append(packed(group, rows))
    return np.concatenate(order), n_complete, np.concatenate([NO_GROUPS, *others])


def packed(group: Group, rows: Array) -> Array:
    """Return a group as `pack_groups` has it."""
    sizes = (group.members.size, *group.errors.shape, group.lines.size)
    lines = rows[group.lines[:, None], group.members]
    return np.concatenate([sizes, group.seen, group.errors.ravel(), lines.ravel()])
