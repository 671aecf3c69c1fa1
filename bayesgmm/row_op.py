"""The pass over rows with weights of their own as an Op of PyTensor, with its gradient by them.

Log-weights of rows are what the pass adds to the log density of every component, and its gradient
by them is the responsibilities. JAX does not know these Ops, and says so.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.gradient import grad_not_implemented
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesgmm.kernels import linked
from bayesgmm.kernels.compiled import link
from bayesgmm.op import as_inputs, version


class RowWeightedLogDensity(Op):
    """The log density of every row under a mixture with weights of its own.

    Inputs are those of `row_weighted_log_density`.
    The gradient by the rows is not implemented.
    """

    __props__ = ()
    gufunc_signature = "(d,n),(k,n),(k,d),(k,m,d)->(n)"

    def make_node(self, rows: Any, log_weights: Any, means: Any, cholesky: Any) -> Apply:
        """Return the application of the Op to matrices of float64."""
        inputs = as_inputs((rows, log_weights, means, cholesky), (2, 2, 2, 3))
        return Apply(self, inputs, [pt.vector(dtype="float64", shape=inputs[0].type.shape[1:])])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[list[Any]]) -> None:
        """Call the kernel from Python."""
        outputs[0][0] = linked.log_densities(*_with_offsets(*inputs))

    def infer_shape(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return (N,)."""
        return [(shapes[0][1],)]

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        """Return the vector-Jacobian products, by two passes."""
        by_rows = grad_not_implemented(self, 0, inputs[0], "Rows are data.")
        return [by_rows, *_slopes(*inputs, cotangents[0])]


class RowWeightedSlopes(Op):
    """The derivatives of a weighted sum of the log densities of `RowWeightedLogDensity`.

    Inputs are those and a weight for every row, of any sign. The derivative by a log-weight is the
    weight of its row times the responsibility of its component.
    """

    __props__ = ()
    gufunc_signature = "(d,n),(k,n),(k,d),(k,m,d),(n)->(k,n),(k,d),(k,m,d)"

    def make_node(
        self, rows: Any, log_weights: Any, means: Any, cholesky: Any, row_slopes: Any
    ) -> Apply:
        """Return the application of the Op to matrices and vectors of float64."""
        given = (rows, log_weights, means, cholesky, row_slopes)
        inputs = as_inputs(given, (2, 2, 2, 3, 1))
        return Apply(self, inputs, [value.type() for value in inputs[1:4]])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[list[Any]]) -> None:
        """Call the kernels from Python."""
        given = (*_with_offsets(*inputs[:4]), np.ascontiguousarray(inputs[4]))
        results = (linked.offset_slopes(*given), *linked.density_slopes(*given)[1:])
        for output, result in zip(outputs, results, strict=True):
            output[0] = result

    def infer_shape(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the shapes of log-weights and parameters."""
        return list(shapes[1:4])


_slopes = RowWeightedSlopes()
_log_density = RowWeightedLogDensity()


def row_weighted_log_density(rows: Any, log_weights: Any, means: Any, cholesky: Any) -> Any:
    """Return the log density of every row under a mixture with weights of its own.

    Parameters
    ----------
    rows : tensor_like, shape (D, N)
        Feature by feature. Digits are kept best where they are centred and of order 1.
    log_weights : tensor_like, shape (K, N)
        Minus infinity is a component that the row is not of. What is added to all of a row is
        added to its log density.
    means, cholesky : tensor_like, shapes (K, D) and (K, D, D) or (K, D + 1, D)
        As `mixture_log_density` takes them.

    Returns
    -------
    TensorVariable, shape (N,)
        In nats; differentiable by everything but the rows.

    Notes
    -----
    O(N K D^2) operations for the value, and three times as many for the gradient.
    """
    return _log_density(rows, log_weights, means, cholesky)


def _with_offsets(
    rows: Any, log_weights: Any, means: Any, cholesky: Any
) -> tuple[Any, Any, Any, Any]:
    """Return what kernels take, from rows and log-weights of their own."""
    below = linked.with_offsets(
        np.ascontiguousarray(rows), np.ascontiguousarray(log_weights), means.shape[1]
    )
    nothing = np.zeros(log_weights.shape[0])
    return below, nothing, np.ascontiguousarray(means), np.ascontiguousarray(cholesky)


@register_funcify_default_op_cache_key(RowWeightedLogDensity)
def _funcify_row_weighted(op: Op, **kwargs: Any) -> tuple[Callable[..., Any], int]:
    link()
    log_densities, with_offsets = numba_njit(linked.linked_log_densities), linked.with_offsets

    @numba_njit
    def row_weighted(rows, log_weights, means, cholesky):  # type: ignore[no-untyped-def]
        below = with_offsets(
            np.ascontiguousarray(rows), np.ascontiguousarray(log_weights), means.shape[1]
        )
        return log_densities(below, np.zeros(log_weights.shape[0]), means, cholesky)

    return row_weighted, version()


@register_funcify_default_op_cache_key(RowWeightedSlopes)
def _funcify_row_weighted_slopes(op: Op, **kwargs: Any) -> tuple[Callable[..., Any], int]:
    link()
    slopes = numba_njit(linked.linked_density_slopes)
    offset_slopes, with_offsets = numba_njit(linked.linked_offset_slopes), linked.with_offsets

    @numba_njit
    def row_weighted_slopes(rows, log_weights, means, cholesky, row_slopes):  # type: ignore[no-untyped-def]
        below = with_offsets(
            np.ascontiguousarray(rows), np.ascontiguousarray(log_weights), means.shape[1]
        )
        nothing = np.zeros(log_weights.shape[0])
        _, by_means, by_cholesky = slopes(below, nothing, means, cholesky, row_slopes)
        by_log_weights = offset_slopes(below, nothing, means, cholesky, row_slopes)
        return by_log_weights, by_means, by_cholesky

    return row_weighted_slopes, version()
