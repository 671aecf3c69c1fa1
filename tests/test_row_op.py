"""The pass over rows with weights of their own against loops and finite differences."""

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray
from pytensor.gradient import NullTypeGradError, verify_grad
from pytensor.graph.traversal import ancestors
from pytensor.link.numba.dispatch.basic import numba_funcify_and_cache_key

from bayesgmm.row_op import RowWeightedLogDensity, RowWeightedSlopes, row_weighted_log_density
from tests.test_op import SHAPES, Arguments, arguments, naive, symbols

type Array = NDArray[np.float64]


def of_rows(rng: np.random.Generator, n_dim: int, n_components: int) -> Arguments:
    """Return arguments with log-weights (K, N) of every row, of which one is of weight 0."""
    rows, _, means, cholesky = arguments(rng, n_dim, n_components)
    log_weights = np.log(rng.dirichlet(np.ones(n_components), size=rows.shape[1]).T)
    if n_components > 1:
        log_weights[0, 0] = -np.inf
    return rows, log_weights, means, cholesky


def compiled_of_rows(mode: str) -> Any:
    """Return what `compiled` does where rows have weights of their own."""
    inputs = symbols()
    inputs[1] = pt.matrix("log_weights", dtype="float64")
    weights = pt.vector("weights", dtype="float64")
    density = row_weighted_log_density(*inputs)
    slopes = pt.grad((density * weights).sum(), inputs[1:])
    return pytensor.function([*inputs, weights], [density, *slopes], mode=mode)


def one_by_one(rows: Array, log_weights: Array, means: Array, cholesky: Array) -> Array:
    """Return the log density of every row under its own weights, by loops."""
    with np.errstate(divide="ignore"):
        each = [
            naive(rows[:, [i]], log_weights[:, i], means, cholesky) for i in range(rows.shape[1])
        ]
    return np.concatenate(each)


@pytest.mark.parametrize("mode", ["FAST_COMPILE", "NUMBA"])
def test_rows_with_weights_of_their_own(mode: str, rng: np.random.Generator) -> None:
    function = compiled_of_rows(mode)
    for n_dim, n_components in SHAPES:
        values = of_rows(rng, n_dim, n_components)
        weights = rng.normal(size=values[0].shape[1])
        density, *slopes = function(*values, weights)
        np.testing.assert_allclose(density, one_by_one(*values), rtol=1e-12)
        for which, found in enumerate(slopes, start=1):
            due, step = np.zeros_like(found), 1e-5
            for index in np.ndindex(due.shape):
                if which == 3 and index[2] > index[1]:
                    continue
                sums = []
                for sign in (1, -1):
                    moved = [value.copy() for value in values]
                    moved[which][index] += sign * step
                    sums.append(one_by_one(*moved) @ weights)
                due[index] = (sums[0] - sums[1]) / (2 * step)
            np.testing.assert_allclose(found, due, rtol=1e-5, atol=1e-7)


def test_pytensor_agrees_with_the_gradient_by_log_weights(rng: np.random.Generator) -> None:
    rows, _, means, cholesky = arguments(rng, 2, 3)
    log_weights = rng.normal(size=(3, rows.shape[1]))
    verify_grad(
        lambda given: row_weighted_log_density(rows, given, means, cholesky),
        [log_weights], rng=rng, mode="FAST_COMPILE",
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(2, 12), (3, 11)])
def test_weights_of_other_rows_or_components_are_refused(
    rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    rows, _, means, cholesky = arguments(rng, 2, 3)
    given = pt.matrix("given", dtype="float64")
    density = row_weighted_log_density(rows, given, means, cholesky)
    function = pytensor.function([given], density, mode="FAST_COMPILE")
    with pytest.raises(ValueError, match="must have shapes"):
        function(np.zeros(shape))


def test_gradient_by_the_rows_is_refused() -> None:
    inputs = symbols()
    log_weights = pt.matrix("log_weights", dtype="float64")
    density = row_weighted_log_density(inputs[0], log_weights, *inputs[2:])
    with pytest.raises(NullTypeGradError, match=r"Rows are data\."):
        pt.grad(density.sum(), inputs[0])


def test_jax_does_not_know_it() -> None:
    inputs = symbols()
    inputs[1] = pt.matrix("log_weights", dtype="float64")
    with pytest.raises(NotImplementedError, match="No JAX conversion .*RowWeightedLogDensity"):
        pytensor.function(inputs, row_weighted_log_density(*inputs), mode="JAX")


def test_numba_may_keep_the_ops_on_disk() -> None:
    inputs = symbols()
    inputs[1] = pt.matrix("log_weights", dtype="float64")
    density = row_weighted_log_density(*inputs)
    of = [one.owner for one in ancestors([density, pt.grad(density.sum(), inputs[1])]) if one.owner]
    nodes = {type(node.op): node for node in of}
    keys = [
        numba_funcify_and_cache_key(nodes[op].op, node=nodes[op])[1]
        for op in (RowWeightedLogDensity, RowWeightedSlopes)
    ]
    assert None not in keys
    assert keys[0] != keys[1]
