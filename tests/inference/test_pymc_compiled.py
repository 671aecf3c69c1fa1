"""A compiled PyMC model: its density by every route, what follows from draws, what is an argument.

The reference is PyMC's own graph, evaluated as it was written, without compiling.
"""

import ctypes
import io
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numba import njit
from numba.core import event
from numpy.typing import NDArray

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.inference import pymc_compiled
from bayesgmm.inference.pymc_compiled import TOGETHER, Compiled, compile_model
from bayesgmm.kernels.foreign import ARGUMENTS
from bayesgmm.model import build_model
from tests.pymc_models import PYTHON, value_of

type Array = NDArray[np.float64]

DOUBLES = ctypes.POINTER(ctypes.c_double)


def rows(rng: np.random.Generator, n_rows: int = 60, n_features: int = 2) -> Array:
    """Return rows of two clusters, the features in different units."""
    result = rng.normal(size=(n_rows, n_features))
    result[:25] += 6.0
    return result * 10.0 ** np.arange(n_features)


def extended(X: Array) -> pm.Model:
    """Return a model with much that a user may add: data, a hierarchy, a Potential."""
    with build_model(2, X) as model:
        offsets = pm.Data("offsets", np.array([0.5, -1.5, 2.0]))
        spread = pm.HalfNormal("spread")
        pm.Normal("added", offsets, spread, shape=3)
        pm.Potential("near", -0.1 * ((model["means"] - 3.0 * X.mean(axis=0)) ** 2).sum())
        pm.Potential("far", pt.switch(spread > 50.0, np.nan, 0.0))
        pm.Deterministic("gap", model["means"][0] - model["means"][1])
        pm.Deterministic("relative", model["weights"] / spread, dims="component")
        pm.Deterministic("constant", pt.arange(3))
    return model


KEPT = (*names.PARAMETER_DIMS, "spread", "added", "gap", "relative", "constant")


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    X = rows(np.random.default_rng(20261121))
    result = compile_model(extended(X), KEPT, ["spread", "added"])
    result.compile(print)
    return result


def parts_of(compiled: Compiled, vector: Array) -> dict[str, Array]:
    """Return a vector's parts by the names of the values."""
    parts, at = {}, 0
    for name, shape in compiled.shapes.items():
        size = int(np.prod(shape))
        parts[name] = vector[at : at + size].reshape(shape)
        at += size
    return parts


def reference(compiled: Compiled, vector: Array) -> tuple[float, Array]:
    """Return density and gradient by PyMC's graph, node by node."""
    values = compiled.model.value_vars
    log_density = compiled.model.logp()
    graphs = [log_density, *pt.grad(log_density, values)]
    function = pytensor.function(values, graphs, mode=PYTHON)
    parts = parts_of(compiled, vector)
    value, *slopes = function(*(parts[one.name] for one in values))
    return float(value), np.concatenate([slope.ravel() for slope in slopes])


def call(compiled: Compiled, vector: Array) -> tuple[int, float, Array]:
    """Return code, value and gradient of the C function."""
    address, user = compiled.pointers()
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_uint64, DOUBLES, DOUBLES, DOUBLES, ctypes.c_void_p
    )
    value, gradient = np.zeros(1), np.zeros(vector.size)
    arrays = (np.ascontiguousarray(vector), gradient, value)
    pointers = [array.ctypes.data_as(DOUBLES) for array in arrays]
    code = prototype(address)(vector.size, *pointers, user.ctypes.data)
    return code, float(value[0]), gradient


def test_density_and_gradient_are_those_of_the_model(
    compiled: Compiled, rng: np.random.Generator
) -> None:
    assert compiled.n_parameters == 1 + 4 + 4 + 2 + 1 + 3
    for _ in range(4):
        vector = rng.normal(size=compiled.n_parameters)
        due, slopes = reference(compiled, vector)
        value, gradient = compiled.log_posterior(vector)
        assert value == pytest.approx(due, rel=1e-10)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-8, atol=1e-8)
        assert call(compiled, vector)[0] == 0
        np.testing.assert_array_equal(call(compiled, vector)[1], value)
        np.testing.assert_array_equal(call(compiled, vector)[2], gradient)


def test_numba_compiles_once_and_before_the_first_call(compiled: Compiled) -> None:
    said: list[str] = []
    compiled.compile(said.append)
    assert not said
    assert list(compiled.function.vm.jit_fn.overloads) == [ARGUMENTS]


def test_the_user_is_told_of_a_compilation() -> None:
    said: list[str] = []
    with event.install_listener("numba:compile", pymc_compiled._Watch(said.append)):
        assert not said
        for _ in range(2):
            assert njit(lambda x: x + 1.0)(1.0) == 2.0
    njit(lambda x: x + 2.0)(1.0)
    assert said == [pymc_compiled.NOTICE]


def test_any_layout_of_a_vector_will_do_and_compiles_nothing(
    compiled: Compiled, rng: np.random.Generator
) -> None:
    vector = rng.normal(size=compiled.n_parameters)
    due, slopes = compiled.log_posterior(vector)
    frozen, strided = vector.copy(), np.repeat(vector, 2)[::2]
    frozen.flags.writeable = False
    for same in (frozen, strided, np.asfortranarray(vector)):
        value, gradient = compiled.log_posterior(same)
        assert value == due
        np.testing.assert_array_equal(gradient, slopes)
    assert len(compiled.function.vm.jit_fn.overloads) == 1
    gradient[:] = 0.0  # it is the caller's own
    np.testing.assert_array_equal(compiled.log_posterior(vector)[1], slopes)


def test_where_the_density_is_not_finite_the_c_function_says_so(compiled: Compiled) -> None:
    vector = np.zeros(compiled.n_parameters)
    parts_of(compiled, vector)["spread_log__"][...] = 5.0
    assert np.isnan(compiled.log_posterior(vector)[0])
    assert call(compiled, vector)[0] > 0


def test_what_follows_from_draws_is_that_of_each(
    compiled: Compiled, rng: np.random.Generator
) -> None:
    vectors = rng.normal(size=(TOGETHER + 3, compiled.n_parameters))
    expanded = compiled.expand(vectors)
    assert tuple(expanded) == KEPT
    variables = [compiled.model[name] for name in KEPT]
    for s in (0, 1, TOGETHER - 1, TOGETHER, TOGETHER + 2):
        each = value_of(variables, compiled.model, parts_of(compiled, vectors[s]))
        for name, due in zip(KEPT, each, strict=True):
            assert len(expanded[name]) == len(vectors)
            np.testing.assert_allclose(expanded[name][s], due, rtol=1e-12, atol=1e-15)
    assert compiled.kept_shapes() == {name: expanded[name].shape[1:] for name in KEPT}


def test_initial_values_are_those_of_the_model_and_jittered_where_asked(
    compiled: Compiled,
) -> None:
    due = compiled.model.initial_point()
    points = [parts_of(compiled, compiled.initial_point(seed)) for seed in (1, 2, 1)]
    for name in compiled.shapes:
        jittered = name.startswith(("spread", "added"))
        assert (points[0][name] == points[1][name]).all() != jittered
        np.testing.assert_array_equal(points[0][name], points[2][name])
        assert np.abs(points[0][name] - due[name]).max() <= float(jittered)


def graph_of(model: pm.Model) -> str:
    """Return the graph that Numba would compile, with all of its constants."""
    text = io.StringIO()
    function: Any = compile_model(model, [names.WEIGHTS], []).function
    pytensor.dprint(function.maker.fgraph, print_type=True, file=text)
    return text.getvalue()


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("structure", ["full", "tied_diag", "spherical"])
def test_data_are_arguments_of_compiled_code_and_no_part_of_it(
    rng: np.random.Generator, structure: str, rounded: bool
) -> None:
    """So that it is found on disk for other data."""
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure))
    graphs = set()
    for n_rows, unit in ((60, 1.0), (71, 12.3)):
        X = rows(rng, n_rows) * unit
        graphs.add(graph_of(build_model(spec, np.round(X) if rounded else X)))
    assert len(graphs) == 1


def test_other_specifications_are_other_code(rng: np.random.Generator) -> None:
    X = rows(rng)
    assert len({graph_of(build_model(n_components, X)) for n_components in (2, 3)}) == 2


def test_what_pymc_calls_data_is_taken_as_it_is_now(rng: np.random.Generator) -> None:
    X = rows(rng)
    model = extended(X)
    before = compile_model(model, [], [])
    with model:
        pm.set_data({"offsets": np.array([100.0, 0.0, 0.0])})
    after = compile_model(model, [], [])
    vector = np.zeros(before.n_parameters)
    change = before.log_posterior(vector)[0] - after.log_posterior(vector)[0]
    assert change == pytest.approx(0.5 * (100.0**2 - 0.5**2 - 1.5**2 - 2.0**2))


def test_a_likelihood_of_ones_own_is_compiled_too(rng: np.random.Generator) -> None:
    with pm.Model() as model:
        center = pm.Normal("center", 0.0, 10.0)
        pm.Deterministic("covariances", pt.stack([pt.eye(2), pt.exp(center) * pt.eye(2)]))
        pm.Normal("X", center, 1.0, observed=rows(rng))
    compiled = compile_model(model, ["covariances"], [])
    assert compiled.rows.size == 0
    vector = rng.normal(size=compiled.n_parameters)
    due, slopes = reference(compiled, vector)
    value, gradient = compiled.log_posterior(vector)
    assert value == pytest.approx(due, rel=1e-10)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-8, atol=1e-8)
    assert compiled.expand(vector[None])["covariances"].shape == (1, 2, 2, 2)


def test_without_an_address_python_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should Numba or PyTensor change: slower, but the same draws."""
    X = rows(np.random.default_rng(1))
    arguments = {"draws": 30, "tune": 20, "chains": 2, "random_seed": 1, "progressbar": False}
    tree = bg.fit(X, build_model(2, X), **arguments)
    monkeypatch.setattr(pymc_compiled, "ARGUMENTS", ())
    with pytest.warns(RuntimeWarning, match=r"takes no compiled functions \(PyTensor compiled"):
        other = bg.fit(X, build_model(2, X), **arguments)
    for name in names.PARAMETER_DIMS:
        np.testing.assert_allclose(other["posterior"][name], tree["posterior"][name], rtol=1e-6)
