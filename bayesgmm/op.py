"""What a graph of PyTensor would compute slowly or compile slowly, as Ops with their gradients.

The pass over the data, by the kernels that everything else is made of, so that PyMC's graph
evaluates the same code as the fused log posterior; and the Cholesky factors of correlation
matrices, in one node instead of twenty. Under Numba they are called natively, without a step
through Python; under JAX they are `jax_pass`; elsewhere `perform` calls them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.mode import optdb
from pytensor.gradient import grad_not_implemented
from pytensor.graph.basic import Apply, Variable
from pytensor.graph.op import Op
from pytensor.graph.replace import _vectorize_node
from pytensor.graph.rewriting.basic import graph_rewriter
from pytensor.link.numba.dispatch.basic import numba_njit, register_funcify_default_op_cache_key

from bayesgmm.kernels import factors, linked
from bayesgmm.kernels.compiled import link


class MixtureLogDensity(Op):
    """The log density of every row under a mixture.

    Inputs are those of `mixture_log_density`. The gradient by the rows is not implemented.
    """

    __props__ = ()
    gufunc_signature = "(l,n),(k),(k,d),(k,m,d)->(n)"

    def make_node(self, rows: Any, log_weights: Any, means: Any, cholesky: Any) -> Apply:
        """Return the application of the Op to matrices and vectors of float64."""
        inputs = as_inputs((rows, log_weights, means, cholesky), (2, 1, 2, 3))
        return Apply(self, inputs, [pt.vector(dtype="float64", shape=inputs[0].type.shape[1:])])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[list[Any]]) -> None:
        """Call the kernel from Python."""
        outputs[0][0] = linked.log_densities(*map(np.ascontiguousarray, inputs))

    def infer_shape(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return (N,)."""
        return [(shapes[0][1],)]

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        """Return the vector-Jacobian products, by one pass of the gradient Op."""
        by_rows = grad_not_implemented(self, 0, inputs[0], "Rows are data.")
        return [by_rows, *_mixture_slopes(*inputs, cotangents[0])]


class MixtureSlopes(Op):
    """The derivatives of a weighted sum of log densities, for all parameters at once.

    Inputs are those of `mixture_log_density` and a weight for every row, of any sign.
    """

    __props__ = ()
    gufunc_signature = "(l,n),(k),(k,d),(k,m,d),(n)->(k),(k,d),(k,m,d)"

    def make_node(
        self, rows: Any, log_weights: Any, means: Any, cholesky: Any, row_slopes: Any
    ) -> Apply:
        """Return the application of the Op to matrices and vectors of float64."""
        given = (rows, log_weights, means, cholesky, row_slopes)
        inputs = as_inputs(given, (2, 1, 2, 3, 1))
        return Apply(self, inputs, [value.type() for value in inputs[1:4]])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[list[Any]]) -> None:
        """Call the kernel from Python."""
        results = linked.density_slopes(*map(np.ascontiguousarray, inputs))
        for output, result in zip(outputs, results, strict=True):
            output[0] = result

    def infer_shape(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the shapes of the parameters."""
        return list(shapes[1:4])


class CorrelationFactors(Op):
    """Cholesky factors of correlation matrices.

    Inputs are log b and log(1 - b), shape (G, D (D - 1) / 2), such that 2 b - 1 are the canonical
    partial correlations, row by row below the diagonal; the output has shape (G, D, D).
    """

    __props__ = ("n_features",)

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features

    def make_node(self, log_b: Any, log_q: Any) -> Apply:
        """Return the application of the Op to matrices of float64."""
        inputs = [pt.as_tensor_variable(value, dtype="float64") for value in (log_b, log_q)]
        shape = (inputs[0].type.shape[0], self.n_features, self.n_features)
        return Apply(self, inputs, [pt.tensor3(dtype="float64", shape=shape)])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[list[Any]]) -> None:
        """Call the kernel from Python."""
        contiguous = map(np.ascontiguousarray, inputs)
        outputs[0][0] = factors.correlation_factors(*contiguous, self.n_features)

    def infer_shape(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return (G, D, D)."""
        return [(shapes[0][0], self.n_features, self.n_features)]

    def pullback(
        self,
        inputs: Sequence[Variable],
        outputs: Sequence[Variable],
        cotangents: Sequence[Variable],
    ) -> list[Variable]:
        """Return the vector-Jacobian products."""
        return list(_correlation_slopes(*inputs, cotangents[0]))


class CorrelationSlopes(Op):
    """The derivatives of a weighted sum of the entries of `CorrelationFactors`.

    Inputs are those of `CorrelationFactors` and a weight for every entry.
    """

    __props__ = ()

    def make_node(self, log_b: Any, log_q: Any, slopes: Any) -> Apply:
        """Return the application of the Op to tensors of float64."""
        inputs = [pt.as_tensor_variable(value, dtype="float64") for value in (log_b, log_q, slopes)]
        return Apply(self, inputs, [value.type() for value in inputs[:2]])

    def perform(self, node: Apply, inputs: Sequence[Any], outputs: Sequence[list[Any]]) -> None:
        """Call the kernel from Python."""
        results = factors.factor_slopes(*map(np.ascontiguousarray, inputs))
        for output, result in zip(outputs, results, strict=True):
            output[0] = result

    def infer_shape(self, node: Apply, shapes: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Return the shapes of the first two inputs."""
        return list(shapes[:2])


_mixture_slopes = MixtureSlopes()
_mixture_log_density = MixtureLogDensity()
_correlation_slopes = CorrelationSlopes()


@_vectorize_node.register(CorrelationFactors)
def _vectorize_factors(op: CorrelationFactors, node: Apply, log_b: Any, log_q: Any) -> Apply:
    """Apply the Op to all batches at once: to it they are but further matrices."""
    log_b, log_q = pt.broadcast_arrays(log_b, log_q)
    flat = [value.reshape((-1, value.shape[-1])) for value in (log_b, log_q)]
    shape = (*(log_b.shape[i] for i in range(log_b.type.ndim - 1)), op.n_features, op.n_features)
    return op(*flat).reshape(shape).owner


def mixture_log_density(rows: Any, log_weights: Any, means: Any, cholesky: Any) -> Any:
    """Return the log density of every row under a mixture.

    Parameters
    ----------
    rows : tensor_like, shape (D, N) or (D + K, N)
        Feature by feature, below them what is added to the log density of every component.
        Digits are kept best where they are centred and of order 1.
    log_weights, means : tensor_like, shapes (K,) and (K, D)
    cholesky : tensor_like, shape (K, D, D) or (K, D + 1, D)
        Lower Cholesky factors of the covariances; the upper triangles are not read. Below them, of
        Student's t, the degrees of freedom (`with_df`).

    Returns
    -------
    TensorVariable, shape (N,)
        In nats; differentiable by everything but the rows.

    Notes
    -----
    O(N K D^2) operations for the value, and twice as many for the gradient.
    """
    return _mixture_log_density(rows, log_weights, means, cholesky)


def with_df(cholesky: Any, df: Any) -> Any:
    """Return Cholesky factors, shape (K, D, D), with degrees of freedom (K,) in a line below."""
    line = df[:, None, None] * pt.eye(1, cholesky.shape[-1])
    return pt.concatenate([cholesky, line], axis=1)


def correlation_factors(log_b: Any, log_q: Any, n_features: int) -> Any:
    """Return Cholesky factors of correlation matrices with given partial correlations.

    Parameters
    ----------
    log_b, log_q : tensor_like, shape (G, D (D - 1) / 2)
        The logarithms of b and 1 - b, such that 2 b - 1 are canonical partial correlations, row
        by row below the diagonal.
    n_features : int
        D.

    Returns
    -------
    TensorVariable, shape (G, D, D)
        C_ij = c_ij prod_{m<j} sqrt(1 - c_im^2), C_ii = prod_{m<i} sqrt(1 - c_im^2), c = 2 b - 1.
    """
    return CorrelationFactors(n_features)(log_b, log_q)


def as_inputs(values: Sequence[Any], dimensions: Sequence[int]) -> list[Variable]:
    """Return tensors of float64, refusing other numbers of dimensions."""
    labels = ("rows", "log_weights", "means", "cholesky", "row_slopes")
    tensors = [pt.as_tensor_variable(value, dtype="float64") for value in values]
    for name, tensor, ndim in zip(labels, tensors, dimensions, strict=False):
        if tensor.type.ndim != ndim:
            raise ValueError(
                f"`{name}` must have {ndim} dimension{'s' * (ndim > 1)}; got "
                f"{tensor.type.ndim}. Use `pytensor.graph.vectorize_graph` for batches."
            )
    return tensors


def version() -> int:
    """Return a number that changes with the linked functions, for the keys of PyTensor's cache."""
    return crc32(b"".join(Path(str(module.__file__)).read_bytes() for module in (linked, factors)))


@register_funcify_default_op_cache_key(MixtureLogDensity)
def _funcify_density(op: Op, **kwargs: Any) -> tuple[Callable[..., Any], int]:
    link()
    return numba_njit(linked.linked_log_densities), version()


@register_funcify_default_op_cache_key(MixtureSlopes)
def _funcify_slopes(op: Op, **kwargs: Any) -> tuple[Callable[..., Any], int]:
    link()
    return numba_njit(linked.linked_density_slopes), version()


@register_funcify_default_op_cache_key(CorrelationFactors)
def _funcify_factors(op: CorrelationFactors, **kwargs: Any) -> tuple[Callable[..., Any], int]:
    link()
    n_features, linked_factors = op.n_features, numba_njit(factors.linked_correlation_factors)

    @numba_njit
    def correlation_factors(log_b, log_q):  # type: ignore[no-untyped-def]
        return linked_factors(log_b, log_q, n_features)

    return correlation_factors, version()


@register_funcify_default_op_cache_key(CorrelationSlopes)
def _funcify_factor_slopes(op: Op, **kwargs: Any) -> tuple[Callable[..., Any], int]:
    link()
    return numba_njit(factors.linked_factor_slopes), version()


@graph_rewriter
def know_jax(fgraph: Any) -> None:
    """Tell PyTensor how JAX computes the Ops; rewrites nothing.

    PyTensor asks for what it would have to know only after it has imported JAX, which takes a
    second that graphs of other modes do without. Rewrites are what of a mode runs before.
    """
    import jax
    from pytensor.link.jax.dispatch import jax_funcify

    from bayesgmm import jax_pass

    jax_funcify.register(MixtureLogDensity, lambda op, **_: jax_pass.log_densities)
    jax_funcify.register(MixtureSlopes, lambda op, **_: jax_pass.slopes)

    @jax_funcify.register(CorrelationFactors)
    def _factors(op: CorrelationFactors, **_: Any) -> Callable[..., Any]:
        return partial(jax_pass.correlation_factors, n_features=op.n_features)

    @jax_funcify.register(CorrelationSlopes)
    def _factor_slopes(op: Op, **_: Any) -> Callable[..., Any]:
        def factor_slopes(log_b: Any, log_q: Any, slopes: Any) -> Any:
            of = partial(jax_pass.correlation_factors, n_features=slopes.shape[-1])
            return jax.vjp(of, log_b, log_q)[1](slopes)

        return factor_slopes


optdb.register("bayesgmm_know_jax", know_jax, "jax", position=0)
