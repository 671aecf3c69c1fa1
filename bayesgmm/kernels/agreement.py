"""In how many draws rows share a cluster, counted many draws at a time."""

from typing import Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.cgutils import alloca_once_value, for_range, get_or_insert_function
from numpy.typing import NDArray

from bayesgmm.kernels.compiled import kernel
from bayesgmm.kernels.lanes import INTEGER, Builder, Value, compiled
from bayesgmm.kernels.threads import over_draws

type Labels = NDArray[np.int32]
type Counts = NDArray[np.int32]

BYTES: Final = 64
"""Of labels that are compared at once."""
MOST_VECTORS: Final = 255
"""Vectors of labels whose agreements a byte can count."""


def _count_equal(builder: Builder, one: Value, other: Value, n_vectors: Value) -> Value:
    """Return how many of so many vectors of labels are equal in pairs."""
    label = one.type.pointee
    vector = ir.VectorType(label, 8 * BYTES // label.width)
    one, other = (builder.bitcast(x, vector.as_pointer()) for x in (one, other))
    total = alloca_once_value(builder, ir.Constant(vector, None))
    with for_range(builder, n_vectors, intp=INTEGER) as loop:
        left, right = (builder.load(builder.gep(x, [loop.index]), align=1) for x in (one, other))
        equal = builder.sext(builder.icmp_unsigned("==", left, right), vector)
        builder.store(builder.sub(builder.load(total), equal), total)
    wide = ir.VectorType(ir.IntType(32), vector.count)
    add = get_or_insert_function(
        builder.module,
        ir.FunctionType(ir.IntType(32), [wide]),
        f"llvm.vector.reduce.add.v{wide.count}i32",
    )
    return builder.zext(builder.call(add, [builder.zext(builder.load(total), wide)]), INTEGER)


count_equal: Final = compiled(_count_equal, types.int64)


@kernel
def _fill_agreements(one: NDArray, other: NDArray, excess: int, counts: Counts) -> None:  # type: ignore[type-arg]
    """Write in how many draws rows of one and rows of another table have the same label."""
    length = BYTES // one.itemsize
    step = MOST_VECTORS * length
    for i in range(len(one)):
        for j in range(len(other)):
            total = -excess
            for start in range(0, one.shape[1], step):
                n_vectors = min(MOST_VECTORS, (one.shape[1] - start) // length)
                total += count_equal(one[i, start:], other[j, start:], n_vectors)
            counts[i, j] = total


def agreements(labels: Labels, rows: NDArray[np.int64]) -> Counts:
    """Return in how many draws each of some rows is in the same cluster as every row.

    Parameters
    ----------
    labels : array of int32, shape (S, N)
        Partitions, clusters numbered from 0.
    rows : array of int, shape (n_rows,)

    Returns
    -------
    array of int32, shape (n_rows, N)

    Notes
    -----
    O(n_rows N S) comparisons, 64 at a time where no draw has more than 256 clusters, in as many
    threads as there are cores; memory for the result and O(N S) bytes.
    """
    n_draws, n = labels.shape
    narrow = np.uint8 if labels.max() < 256 else np.uint16 if labels.max() < 65536 else np.uint32
    excess = -n_draws % BYTES
    table = np.zeros((n, n_draws + excess), dtype=narrow)
    table[:, :n_draws] = labels.T
    counts = np.empty((len(rows), n), dtype=np.int32)
    chosen = table[rows]
    over_draws(lambda part: _fill_agreements(chosen[part], table, excess, counts[part]), len(rows))
    return counts
