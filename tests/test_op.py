"""The Ops of PyTensor against loops with scipy.stats, the kernels and finite differences."""

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray
from pytensor.gradient import NullTypeGradError
from pytensor.graph.replace import vectorize_graph
from pytensor.graph.traversal import ancestors
from pytensor.link.numba.dispatch.basic import numba_funcify_and_cache_key
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from bayesgmm.kernels.factors import correlation_factors as factors_of
from bayesgmm.op import (
    CorrelationFactors,
    CorrelationSlopes,
    MixtureLogDensity,
    MixtureSlopes,
    correlation_factors,
    mixture_log_density,
)

type Array = NDArray[np.float64]
type Arguments = tuple[Array, Array, Array, Array]

NAMES = ("rows", "log_weights", "means", "cholesky")
SHAPES = [(1, 1), (1, 3), (2, 1), (2, 3), (5, 1), (5, 3)]
"""(D, K)."""

every_shape = pytest.mark.parametrize(("n_dim", "n_components"), SHAPES)


def arguments(
    rng: np.random.Generator, n_dim: int, n_components: int, scale: float = 1.0
) -> Arguments:
    """Return rows (D, N) of a mixture whose components have scales of about `scale`."""
    log_weights = np.log(rng.dirichlet(np.ones(n_components)))
    means = rng.normal(size=(n_components, n_dim))
    cholesky = np.tril(rng.normal(size=(n_components, n_dim, n_dim)), -1)
    cholesky += np.eye(n_dim) * rng.uniform(0.5, 2.0, (n_components, n_dim, 1))
    of = rng.integers(n_components, size=12)
    z = rng.normal(size=(12, n_dim))
    rows = means[of] + scale * np.einsum("nij,nj->ni", cholesky[of], z)
    return np.ascontiguousarray(rows.T), log_weights, means, scale * cholesky


def naive(rows: Array, log_weights: Array, means: Array, cholesky: Array) -> Array:
    """Return the log density of every row, by loops."""
    return np.array(
        [
            logsumexp(
                [
                    log_weight + multivariate_normal.logpdf(x, mean, factor @ factor.T)
                    for log_weight, mean, factor in zip(log_weights, means, cholesky, strict=True)
                ]
            )
            for x in rows.T
        ]
    )


def symbols() -> list[Any]:
    return [
        pt.tensor(name, shape=(None,) * ndim, dtype="float64")
        for name, ndim in zip(NAMES, (2, 1, 2, 3), strict=True)
    ]


def compiled(mode: str) -> Any:
    """Return a function of rows, parameters and row weights: densities and gradients."""
    inputs = symbols()
    weights = pt.vector("weights", dtype="float64")
    density = mixture_log_density(*inputs)
    slopes = pt.grad((density * weights).sum(), inputs[1:])
    return pytensor.function([*inputs, weights], [density, *slopes], mode=mode)


@pytest.fixture(scope="module")
def python() -> Any:
    return compiled("FAST_COMPILE")


@pytest.fixture(scope="module")
def numba() -> Any:
    return compiled("NUMBA")


def differences(values: Arguments, weights: Array, which: int) -> Array:
    """Return the derivatives of the weighted sum of log densities, by differences of `naive`."""
    step = 1e-5 * (1.0 if which == 1 else np.abs(values[3]).mean())
    result = np.zeros_like(values[which])
    for index in np.ndindex(result.shape):
        if which == 3 and index[2] > index[1]:
            continue
        sums = []
        for sign in (1, -1):
            moved = [value.copy() for value in values]
            moved[which][index] += sign * step
            sums.append(naive(*moved) @ weights)
        result[index] = (sums[0] - sums[1]) / (2 * step)
    return result


@every_shape
def test_value_is_that_of_the_loop(
    python: Any, rng: np.random.Generator, n_dim: int, n_components: int
) -> None:
    values = arguments(rng, n_dim, n_components)
    density, *_ = python(*values, np.ones(12))
    np.testing.assert_allclose(density, naive(*values), rtol=1e-12, atol=1e-12)


@every_shape
@pytest.mark.parametrize("scale", [1.0, 0.01], ids=["wide", "narrow"])
def test_gradient_is_that_of_finite_differences(
    python: Any, rng: np.random.Generator, n_dim: int, n_components: int, scale: float
) -> None:
    values = arguments(rng, n_dim, n_components, scale)
    weights = rng.normal(size=12)
    weights[::4] = 0.0
    assert weights.min() < 0 < weights.max()
    _, *slopes = python(*values, weights)
    for which, slope in enumerate(slopes, start=1):
        due = differences(values, weights, which)
        np.testing.assert_allclose(slope, due, rtol=1e-6, atol=1e-8 * np.abs(due).max())


def test_upper_triangles_are_neither_read_nor_given_slopes(
    python: Any, rng: np.random.Generator
) -> None:
    rows, log_weights, means, cholesky = arguments(rng, 2, 3)
    spoilt = cholesky.copy()
    spoilt[:, 0, 1] = 7.0
    clean = python(rows, log_weights, means, cholesky, np.ones(12))
    other = python(rows, log_weights, means, spoilt, np.ones(12))
    for one, two in zip(clean, other, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (clean[3][:, 0, 1] == 0.0).all()


def test_tiny_weights_and_far_rows_stay_finite(python: Any, rng: np.random.Generator) -> None:
    rows, _, means, cholesky = arguments(rng, 2, 2)
    rows[:, 0] = 1e6
    log_weights = np.array([np.log(1e-300), 0.0])
    density, *slopes = python(rows, log_weights, means, cholesky, np.ones(12))
    np.testing.assert_allclose(
        density, naive(rows, log_weights, means, cholesky), rtol=1e-12, atol=1e-12
    )
    assert all(np.isfinite(slope).all() for slope in slopes)


@every_shape
def test_numba_gives_the_same(
    python: Any, numba: Any, rng: np.random.Generator, n_dim: int, n_components: int
) -> None:
    # a fall back to object mode would warn, and warnings are errors
    values = (*arguments(rng, n_dim, n_components), rng.normal(size=12))
    for one, two in zip(python(*values), numba(*values), strict=True):
        np.testing.assert_array_equal(one, two)


def test_any_layout_of_the_inputs_will_do(
    python: Any, numba: Any, rng: np.random.Generator
) -> None:
    values = (*arguments(rng, 2, 3), np.ones(12))
    strided = [np.repeat(np.asfortranarray(value), 2, axis=0)[::2] for value in values]
    assert not strided[3].flags.c_contiguous
    for function in (python, numba):
        for one, two in zip(function(*values), function(*strided), strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 5), (3,), (3, 2), (3, 2, 2)),
        ((2, 5), (4,), (3, 2), (3, 2, 2)),
        ((2, 5), (3,), (3, 2), (3, 2, 3)),
        ((2, 0), (3,), (3, 2), (3, 2, 2)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    python: Any, numba: Any, shapes: tuple[tuple[int, ...], ...]
) -> None:
    values = [np.ones(shape) for shape in shapes]
    for function in (python, numba):
        with pytest.raises(ValueError, match=r"must have shapes \(D, N\) or \(D \+ K, N\), \(K,\)"):
            function(*values, np.ones(shapes[0][1]))


@pytest.mark.parametrize(("which", "name"), list(enumerate(NAMES)))
def test_other_numbers_of_dimensions_are_refused(which: int, name: str) -> None:
    inputs = symbols()
    inputs[which] = inputs[which][None]
    ndim = inputs[which].type.ndim
    with pytest.raises(ValueError, match=rf"`{name}` must have {ndim - 1} dim.*; got {ndim}\."):
        mixture_log_density(*inputs)


def test_shapes_are_known_without_computing() -> None:
    rows = pt.tensor("rows", shape=(2, 12), dtype="float64")
    assert mixture_log_density(rows, *symbols()[1:]).type.shape == (12,)
    inputs = symbols()
    slopes = pt.grad(mixture_log_density(*inputs).sum(), inputs[1:])
    lengths = [mixture_log_density(*inputs).shape, *(slope.shape for slope in slopes)]
    function = pytensor.function(inputs, lengths, mode="FAST_COMPILE", on_unused_input="ignore")
    ops = {type(node.op) for node in function.maker.fgraph.apply_nodes}
    assert ops.isdisjoint({MixtureLogDensity, MixtureSlopes})
    shapes = function(np.ones((2, 5)), np.ones(3), np.ones((3, 2)), np.ones((3, 2, 2)))
    assert [tuple(shape) for shape in shapes] == [(5,), (3,), (3, 2), (3, 2, 2)]


def test_batches_are_what_the_op_does_to_each(rng: np.random.Generator) -> None:
    inputs = symbols()
    batch = [arguments(rng, 2, 3) for _ in range(4)]
    stacked = [pt.as_tensor(np.stack(values)) for values in zip(*batch, strict=True)]
    density = mixture_log_density(*inputs)
    slopes = pt.grad(density.sum(), inputs[2])
    replace = dict(zip(inputs, stacked, strict=True))
    got, got_slopes = pytensor.function(
        [], vectorize_graph([density, slopes], replace), mode="FAST_COMPILE"
    )()
    np.testing.assert_allclose(got, [naive(*values) for values in batch], rtol=1e-12)
    due = [differences(values, np.ones(12), 2) for values in batch]
    np.testing.assert_allclose(got_slopes, due, rtol=1e-5, atol=1e-7)


def test_gradient_by_the_rows_is_refused() -> None:
    inputs = symbols()
    with pytest.raises(NullTypeGradError, match=r"Rows are data\."):
        pt.grad(mixture_log_density(*inputs).sum(), inputs[0])


def test_numba_may_keep_the_ops_on_disk() -> None:
    inputs = symbols()
    density = mixture_log_density(*inputs)
    slope = pt.grad(density.sum(), inputs[1])
    nodes = {
        type(variable.owner.op): variable.owner
        for variable in ancestors([slope, density])
        if variable.owner is not None
    }
    keys = [
        numba_funcify_and_cache_key(nodes[op].op, node=nodes[op])[1]
        for op in (MixtureLogDensity, MixtureSlopes)
    ]
    assert None not in keys
    assert keys[0] != keys[1]


def factors_and_slopes(mode: str, n_dim: int) -> Any:
    """Return a function of log odds and weights: factors, and the gradient of their sum."""
    odds, weights = pt.matrix("odds", dtype="float64"), pt.tensor3("weights", dtype="float64")
    factors = correlation_factors(-pt.softplus(-odds), -pt.softplus(odds), n_dim)
    slopes = pt.grad((factors * weights).sum(), odds)
    return pytensor.function([odds, weights], [factors, slopes], mode=mode)


@pytest.mark.parametrize("n_dim", [1, 3])
def test_factors_and_their_gradient(rng: np.random.Generator, n_dim: int) -> None:
    odds = rng.normal(size=(2, n_dim * (n_dim - 1) // 2))
    weights = rng.normal(size=(2, n_dim, n_dim))
    python = factors_and_slopes("FAST_COMPILE", n_dim)
    numba = factors_and_slopes("NUMBA", n_dim)
    factors, slopes = python(odds, weights)
    due = factors_of(-np.log1p(np.exp(-odds)), -np.log1p(np.exp(odds)), n_dim)
    np.testing.assert_allclose(factors, due, rtol=1e-13)
    for place in np.ndindex(odds.shape):
        sums = []
        for step in (1e-6, -1e-6):
            moved = odds.copy()
            moved[place] += step
            sums.append((weights * python(moved, weights)[0]).sum())
        assert slopes[place] == pytest.approx((sums[0] - sums[1]) / 2e-6, rel=1e-6, abs=1e-8)
    for given in ((odds, weights), (np.asfortranarray(odds), weights[:, ::-1, ::-1])):
        for one, two in zip(python(*given), numba(*given), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-13, atol=1e-15)


def test_factors_of_batches_are_further_factors(rng: np.random.Generator) -> None:
    odds = rng.normal(size=(4, 2, 3))
    log_b, log_q = pt.matrix("log_b", dtype="float64"), pt.matrix("log_q", dtype="float64")
    stacked = pt.as_tensor(-np.log1p(np.exp(-odds))), pt.as_tensor(-np.log1p(np.exp(odds)))
    graph = vectorize_graph(
        correlation_factors(log_b, log_q, 3), dict(zip((log_b, log_q), stacked, strict=True))
    )
    assert graph.type.ndim == 4
    got = pytensor.function([], graph, mode="FAST_COMPILE")()
    for batch, one in zip(odds, got, strict=True):
        due = factors_of(-np.log1p(np.exp(-batch)), -np.log1p(np.exp(batch)), 3)
        np.testing.assert_allclose(one, due, rtol=1e-14)


def test_shapes_of_factors_are_known_without_computing() -> None:
    logs = [pt.tensor(name, shape=(2, 3), dtype="float64") for name in ("log_b", "log_q")]
    factors = correlation_factors(*logs, 3)
    assert factors.type.shape == (2, 3, 3)
    loose = [pt.matrix(name, dtype="float64") for name in ("log_b", "log_q")]
    factors = correlation_factors(*loose, 3)
    shapes = [factors.shape, *(slope.shape for slope in pt.grad(factors.sum(), loose))]
    function = pytensor.function(loose, shapes, mode="FAST_COMPILE", on_unused_input="ignore")
    ops = {type(node.op) for node in function.maker.fgraph.apply_nodes}
    assert ops.isdisjoint({CorrelationFactors, CorrelationSlopes})
    assert [tuple(shape) for shape in function(*np.zeros((2, 5, 3)))] == [(5, 3, 3), (5, 3), (5, 3)]


def test_numba_tells_factors_of_other_sizes_apart_on_disk() -> None:
    logs = [pt.matrix(name, dtype="float64") for name in ("log_b", "log_q")]
    nodes = [correlation_factors(*logs, n_dim).owner for n_dim in (2, 3)]
    keys = [numba_funcify_and_cache_key(node.op, node=node)[1] for node in nodes]
    assert None not in keys
    assert keys[0] != keys[1]
