"""The pass in JAX against the kernels; and PyTensor's Ops under JAX against themselves."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm import jax_pass
from bayesgmm.kernels import factors, linked
from bayesgmm.op import correlation_factors, mixture_log_density

type Array = NDArray[np.float64]
type Arguments = tuple[Array, Array, Array, Array]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def arguments(
    rng: np.random.Generator, n_dim: int, n_components: int, n_rows: int = 23
) -> Arguments:
    """Return rows with labels known to some degree, some of them for sure, and parameters."""
    log_weights = np.log(rng.dirichlet(np.ones(n_components)))
    means = 2.0 * rng.normal(size=(n_components, n_dim))
    cholesky = np.tril(rng.normal(size=(n_components, n_dim, n_dim)), -1)
    cholesky += np.eye(n_dim) * rng.uniform(0.5, 2.0, (n_components, n_dim, 1))
    cholesky += np.triu(np.full((n_dim, n_dim), np.nan), 1)  # never read
    rows = rng.normal(size=(n_dim, n_rows))
    known = np.log(rng.uniform(size=(n_components, n_rows)))
    known[1:, :3] = -np.inf
    return np.concatenate([rows, known]), log_weights, means, cholesky


def close(got: Any, due: Any, rtol: float = 1e-10) -> None:
    np.testing.assert_allclose(got, due, rtol=rtol, atol=rtol * np.abs(due).max())


@pytest.mark.parametrize(
    ("n_dim", "n_components", "size"),
    [(1, 1, 23), (3, 2, 8)],
    ids=["one block", "blocks that overlap"],
)
def test_densities_and_slopes_are_those_of_the_kernels(
    rng: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    n_dim: int,
    n_components: int,
    size: int,
) -> None:
    monkeypatch.setattr(jax_pass, "block_size", lambda *_: size)
    rows, *parameters = arguments(rng, n_dim, n_components)
    weights = rng.normal(size=23)

    @jax.jit
    def found(weights: Any, *parameters: Any) -> Any:
        density, pull_back = jax.vjp(lambda *p: jax_pass.log_densities(rows, *p), *parameters)
        sums = [
            jax.value_and_grad(
                lambda p, of=of: 2.0 * jax_pass.log_likelihood(rows, of, *p, together=1)
            )(parameters)
            for of in (weights, None)
        ]
        return density, pull_back(weights), jax_pass.slopes(rows, *parameters, weights), sums

    density, by_rule, directly, sums = found(weights, *parameters)
    due = linked.log_densities(rows, *parameters)
    close(density, due)
    for slopes in (by_rule, directly):
        for slope, wanted in zip(
            slopes, linked.density_slopes(rows, *parameters, weights), strict=True
        ):
            close(slope, wanted)
    for (value, slopes), counted in zip(sums, (weights, np.ones(23)), strict=True):
        close(value, 2.0 * counted @ due)
        for slope, wanted in zip(
            slopes, linked.density_slopes(rows, *parameters, counted), strict=True
        ):
            close(slope, 2.0 * wanted)


def test_thin_clusters_far_apart_lose_no_digits(rng: np.random.Generator) -> None:
    means = np.array([[0.0, 0.0], [1e6, -1e6]])
    cholesky = np.array([[[1e-6, 0.0], [3.0, 1e-6]], [[1.0, 0.0], [-0.5, 2.0]]])
    of = np.arange(40) % 2
    rows = (means[of] + np.einsum("nij,nj->ni", cholesky[of], rng.normal(size=(40, 2)))).T.copy()
    given = rows, np.log([0.3, 0.7]), means, cholesky
    due = linked.density_slopes(*given, np.ones(40))
    for slope, wanted in zip(jax.jit(jax_pass.slopes)(*given, np.ones(40)), due, strict=True):
        close(slope, wanted)


def test_a_gradient_of_many_rows_takes_little_memory() -> None:
    k, d = 3, 2
    shapes = ((d, 10_000_000), (k,), (k, d), (k, d, d))
    given = [jax.ShapeDtypeStruct(shape, jnp.float64) for shape in shapes]
    slopes = jax.grad(
        lambda rows, *p: jax_pass.log_likelihood(rows, None, *p, together=1), (1, 2, 3)
    )
    compiled = jax.jit(slopes).lower(*given).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2**20


@pytest.mark.parametrize("n_dim", [1, 4])
def test_correlation_factors_are_those_of_the_kernel(rng: np.random.Generator, n_dim: int) -> None:
    odds = 3.0 * rng.normal(size=(2, n_dim * (n_dim - 1) // 2))
    logs = -np.log1p(np.exp(-odds)), -np.log1p(np.exp(odds))
    weights = np.tril(rng.normal(size=(2, n_dim, n_dim)))

    @jax.jit
    def found(*logs: Any) -> Any:
        of = partial(jax_pass.correlation_factors, n_features=n_dim)
        value, pull_back = jax.vjp(of, *logs)
        return value, pull_back(jnp.asarray(weights))

    value, slopes = found(*logs)
    np.testing.assert_allclose(value, factors.correlation_factors(*logs, n_dim), atol=1e-14)
    for slope, due in zip(slopes, factors.factor_slopes(*logs, weights), strict=True):
        np.testing.assert_allclose(slope, due, atol=1e-13)


def test_single_precision_is_refused(rng: np.random.Generator) -> None:
    given = arguments(rng, 2, 3)
    with (
        jax.enable_x64(False),
        pytest.raises(TypeError, match=r"must be float64; got float32\..*enable_x64"),
    ):
        jax_pass.log_densities(*map(jnp.asarray, given))


SHAPES = [
    ((3, 5), (3,), (3, 2), (3, 2, 2)),
    ((2, 5), (4,), (3, 2), (3, 2, 2)),
    ((2, 5), (3,), (3, 2), (3, 2, 3)),
    ((2, 0), (3,), (3, 2), (3, 2, 2)),
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"must have shapes \(D, N\) or \(D \+ K, N\).*; got \("):
        jax_pass.log_densities(*map(np.ones, shapes))


def test_a_gradient_by_the_rows_is_refused(rng: np.random.Generator) -> None:
    rows, *parameters = arguments(rng, 2, 2)
    with pytest.raises(NotImplementedError, match=r"`rows` must be data for JAX; got rows that"):
        jax.grad(lambda rows: jax_pass.log_densities(rows, *parameters).sum())(rows)


# PyTensor


def densities_and_slopes(mode: str) -> Callable[..., Any]:
    """Return a function of rows, log-weights, means, log-odds and weights."""
    rows, means, odds = (pt.matrix(name, dtype="float64") for name in ("rows", "means", "odds"))
    log_weights, weights = (pt.vector(name, dtype="float64") for name in ("log_w", "weights"))
    cholesky = correlation_factors(-pt.softplus(-odds), -pt.softplus(odds), 2)
    density = mixture_log_density(rows, log_weights, means, cholesky)
    slopes = pt.grad((density * weights).sum(), [log_weights, means, odds])
    inputs = [rows, log_weights, means, odds, weights]
    return pytensor.function(inputs, [density, *slopes], mode=mode)


def test_pytensor_gives_the_same_under_jax(rng: np.random.Generator) -> None:
    rows, log_weights, means, _ = arguments(rng, 2, 2)
    given = rows, log_weights, means, rng.normal(size=(2, 1)), rng.normal(size=23)
    for got, due in zip(
        densities_and_slopes("JAX")(*given),
        densities_and_slopes("FAST_COMPILE")(*given),
        strict=True,
    ):
        close(got, due)


def test_jax_takes_the_gradient_of_a_model(rng: np.random.Generator) -> None:
    """What PyMC's samplers in JAX do with a model."""
    from pymc.sampling.jax import get_jaxified_logp

    X = rng.normal(size=(20, 2))
    model = bg.build_model(2, X)
    point = model.initial_point(1)
    density = get_jaxified_logp(model)
    values = [jnp.asarray(point[variable.name]) for variable in model.value_vars]
    value, slopes = jax.jit(jax.value_and_grad(density))(values)
    assert value == pytest.approx(model.compile_logp(mode="FAST_COMPILE")(point), rel=1e-10)
    due = model.compile_dlogp(mode="FAST_COMPILE")(point)
    close(np.concatenate([np.ravel(slope) for slope in slopes]), due)
