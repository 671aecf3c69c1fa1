"""Some rows at a time: copied out of the data, or out of the block, and told their labels."""

from typing import Final

import numpy as np
from numba.core import cgutils
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.lanes import LANES, Builder, Value, compiled, integer

type Array = NDArray[np.float64]
type Labels = NDArray[np.int64]

BYTES: Final = 8
"""Of a number."""
GATHERED: Final = 4
"""One row in so many, or fewer, are worth a copy of their own."""


def _emit_copy(
    builder: Builder, source: Value, at: Value, target: Value, to: Value, n: Value
) -> None:
    """Copy n numbers. Numba's own loop looks for negative places, number by number."""
    places = builder.gep(target, [to]), builder.gep(source, [at])
    cgutils.raw_memcpy(builder, *places, n, integer(BYTES))


def _emit_zeros(builder: Builder, target: Value, to: Value, n: Value) -> None:
    """Write n zeros."""
    size = builder.mul(n, integer(BYTES))
    cgutils.memset(builder, builder.gep(target, [to]), size, 0)


_copy, _write_zeros = compiled(_emit_copy), compiled(_emit_zeros)


@kernel
def copy_block(
    flat: Array, n_rows: int, start: int, n: int, size: int, n_dim: int, x: Array
) -> None:
    """Copy n rows from `start` on to x, shape (D, size), and zeros beyond them.

    Feature d of row i is entry ``d * n_rows + i`` of `flat`: without strides, which are not read.
    """
    for d in range(n_dim):
        _copy(flat, d * n_rows + start, x, d * size, n)
        _write_zeros(x, d * size + n, size - n)


@kernel
def add_offsets(rows: Array, start: int, n: int, size: int, n_dim: int, lp: Array) -> None:
    """Add the lines of rows below their features to the log densities of a block.

    Parameters
    ----------
    rows : array, shape (D + K, N)
    start, n : int
        The first row of the block, and how many.
    size, n_dim : int
    lp : array
        Component k of row i of the block at ``k * size + i``.
    """
    for k in range(rows.shape[0] - n_dim):
        for i in range(n):
            lp[k * size + i] += rows[n_dim + k, start + i]


@kernel
def gather(
    y: Array, stride: int, r: Array, negligible: float, n: int, n_dim: int, index: Labels,
    gathered: Array,
) -> int:  # fmt: skip
    """Copy the rows of a block whose share in a component matters, if they are few.

    Parameters
    ----------
    y, stride, r
        As `add_moments` takes them.
    negligible : float
        Shares up to this size do not matter.
    n, n_dim : int
    index : array of int, shape (n,)
        For work.
    gathered : array
        Overwritten with r, and then y, of those rows.

    Returns
    -------
    int
        Their number, with zeros added up to a multiple of `LANES`; -1 if they are too many for
        the copy to pay.
    """
    kept = 0
    for i in range(n):
        index[kept] = i
        kept += 1 if abs(r[i]) > negligible else 0
    if kept * GATHERED > n:
        return -1
    padded = (kept + LANES - 1) // LANES * LANES
    for j in range(kept):
        gathered[j] = r[index[j]]
    gathered[kept:padded] = 0.0
    for d in range(n_dim):
        start = d * stride
        out = start + stride
        for j in range(kept):
            gathered[out + j] = y[start + index[j]]
        gathered[out + kept : out + padded] = 0.0
    return padded
