"""Rows by what is seen of them: which cells are missing, and the errors of the others.

Rows are the columns of an array of shape (D', N): D cells, NaN where missing; then nothing, or K
logarithms of what is known of the label (`kernels.estep.e_step`); and then nothing, or the standard
deviations of the cells' errors, or the lower triangle of a Cholesky factor of the errors'
covariance, row by row. Where there are errors there are labels, be it zeros for an unknown one.
Where there is noise K counts it too: the last of its lines also makes its log density, that of a
whole row in the box, the log density of the cells that are seen.
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm.kernels.registers import DEVIATIONS, EXACT, FACTORS
from bayesgmm.kernels.tiles import PADDING

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

FEW: Final = 12
"""Rows of a group up to which a triangle of their own, and a call of the pass, do not pay."""

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
    for members in np.split(*_ordered(rows, n_dim, n_components)):
        yield _group(rows, members, n_dim, n_components)


def divided(rows: Array, n_dim: int, n_components: int) -> tuple[list[Group], Labels]:
    """Return the groups of many rows, or of complete ones, and the members of all others."""
    order, edges = _ordered(rows, n_dim, n_components)
    sizes = np.diff(edges, prepend=0, append=order.size)
    few = sizes <= FEW
    first = _group(rows, order[: sizes[0]], n_dim, n_components)
    few[0] &= not (first.seen.size == n_dim and first.errors.size == 0)
    starts = np.append(0, edges)
    groups = [
        _group(rows, order[start : start + size], n_dim, n_components)
        for start, size in zip(starts[~few], sizes[~few], strict=True)
    ]
    return groups, order[np.repeat(few, sizes)]


def _ordered(rows: Array, n_dim: int, n_components: int) -> tuple[Labels, Labels]:
    """Return an order in which rows of which the same is seen are neighbours, and where it ends."""
    there = ~np.isnan(rows[:n_dim])
    errors = _errors(rows, n_dim, n_components)
    keys = np.ascontiguousarray(np.concatenate([~there, errors]).T)
    order = np.lexsort(keys.T[::-1])  # the first number other than 0 is positive
    keys = keys[order]
    return order, 1 + np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1))


def _errors(rows: Array, n_dim: int, n_components: int) -> Array:
    """Return what is said of the errors of rows: of cells that are missing 0."""
    errors = rows[n_dim + n_components :] + 0.0  # -0 is 0
    missing = np.isnan(rows[:n_dim])
    if len(errors) == n_dim:
        errors[missing] = 0.0
    elif len(errors):
        errors[missing[np.tril_indices(n_dim)[0]]] = 0.0
    return errors


def _group(rows: Array, members: Labels, n_dim: int, n_components: int) -> Group:
    """Return the group of some rows of which the same is seen."""
    row = rows[:, members[:1]]
    seen = np.flatnonzero(~np.isnan(row[:n_dim, 0]))
    lines = np.concatenate((seen, np.arange(n_dim, min(n_dim + n_components, len(rows)))))
    factor = _factor_of(_errors(row, n_dim, n_components)[:, 0], n_dim)
    return Group(members, seen, factor[seen], lines)


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
        The others: how many numbers the first kind takes, and those that are seen like few others
        (`pack_alone`); then one group after another: n, d, W, l, seen (d), errors (d x W),
        lines (l x n). Empty if there are no others.
    """
    order, n_complete, others = [], 0, []
    groups, few = divided(rows, n_dim, n_components)
    if few.size:
        order.append(few)
    for group in groups:
        if group.seen.size == n_dim and group.errors.size == 0:
            order.insert(0, group.members)
            n_complete = group.members.size
        else:
            order.append(group.members)
            others.append(_packed(group, rows))
    alone = pack_alone(rows, few, n_dim, n_components) if few.size else NO_GROUPS
    packed = np.concatenate([[alone.size], alone, *others]) if few.size or others else NO_GROUPS
    return np.concatenate(order), n_complete, packed


def _packed(group: Group, rows: Array) -> Array:
    """Return a group as `pack_groups` has it."""
    sizes = (group.members.size, *group.errors.shape, group.lines.size)
    lines = rows[group.lines[:, None], group.members]
    return np.concatenate([sizes, group.seen, group.errors.ravel(), lines.ravel()])


def pack_alone(rows: Array, members: Labels, n_dim: int, n_components: int) -> Array:
    """Return some rows as `kernels.alone` reads them.

    Parameters
    ----------
    rows : array, shape (D', N)
    members : array of int, shape (n,)
    n_dim, n_components : int
        D and K.

    Returns
    -------
    array
        n, what is said of errors, how many offsets; and then, `PADDING` rows at a time and line by
        line, cells (0 where missing), 1 where there is one and 0 where not, errors, offsets.
    """
    chosen = rows[:, members]
    there = ~np.isnan(chosen[:n_dim])
    errors, offsets = _errors(chosen, n_dim, n_components), chosen[n_dim : n_dim + n_components]
    lines = np.concatenate([np.where(there, chosen[:n_dim], 0.0), there, errors, offsets])
    blocks = np.zeros((-(-members.size // PADDING), len(lines), PADDING))
    for block, start in zip(blocks, range(0, members.size, PADDING), strict=True):
        part = lines[:, start : start + PADDING]
        block[:, : part.shape[1]] = part
    kind = EXACT if not len(errors) else DEVIATIONS if len(errors) == n_dim else FACTORS
    return np.concatenate([[members.size, kind, len(offsets)], blocks.ravel()])
