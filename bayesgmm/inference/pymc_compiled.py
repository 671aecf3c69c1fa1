"""A PyMC model compiled for sampling, as little of it as possible and nothing twice.

Numba compiles one function, the log density with its gradient, and the sampler calls it by its
address. What comes from the data is handed to it and is no constant in its code, so that PyTensor
finds it on disk again for other data of as many features. What follows from a draw is computed
afterwards, by NumPy, for many draws at once.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock
from typing import Any, Final

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numba.core import event
from numpy.typing import NDArray
from pymc.initial_point import make_initial_point_fn
from pymc.pytensorf import compile as compile_graph
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.replace import clone_replace, vectorize_graph
from pytensor.graph.rewriting.utils import rewrite_graph
from pytensor.graph.traversal import ancestors, io_toposort
from pytensor.tensor.variable import TensorConstant

from bayesgmm.kernels.foreign import ARGUMENTS, RESULT, foreign_density_c, pack_foreign
from bayesgmm.op import MixtureLogDensity

type Array = NDArray[np.float64]
type Shapes = dict[str, tuple[int, ...]]

NOTICE: Final = (
    "Compiling the PyMC model, once per number of components and features: some ten seconds"
)
NUMPY: Final = Mode(linker="py", optimizer=None)
"""Every node of a graph as it was written, evaluated by NumPy."""
TOGETHER: Final = 256
"""Draws whose consequences are computed at a time."""
TOGETHER_ROWS: Final = 2**20
"""Cells of the data, times draws, whose densities are computed at a time."""


class _Watch(event.Listener):  # type: ignore[misc]
    """Says, once, that a model is compiled, if it is."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell: Callable[[str], None] | None = tell

    def on_start(self, event: Any) -> None:
        """Take note that a function is about to be compiled."""
        if self._tell is not None:
            self._tell(NOTICE)
        self._tell = None

    def on_end(self, event: Any) -> None:
        """Take no note."""


@dataclass(frozen=True, eq=False)
class Compiled:
    """The log density of a PyMC model, and what follows from its unconstrained vectors.

    Parameters
    ----------
    model : pymc.Model
    kept : tuple of str
        Variables that are to follow from draws.
    added : frozenset of str
        Free variables whose initial values are jittered.
    shapes : dict of str to tuple of int
        Of the unconstrained variables, by the names of their values.
    function : pytensor.compile.Function
        Of a vector, `numbers` and `rows`; returns the value followed by the gradient.
    numbers : array, shape (M,)
    rows : array, shape (D, N)
        The data of the mixture, standardised; empty if the model has another likelihood.
    """

    model: pm.Model
    kept: tuple[str, ...]
    added: frozenset[str]
    shapes: Shapes
    function: Any
    numbers: Array
    rows: Array
    _lock: Any = field(default_factory=Lock, init=False)  # PyTensor's function has but one memory

    @property
    def n_parameters(self) -> int:
        """Length of the unconstrained vector."""
        return sum(map(size_of, self.shapes.values()))

    def compile(self, tell: Callable[[str], None]) -> None:
        """Have the log density compiled by Numba, unless that is found on disk.

        Parameters
        ----------
        tell : callable
            Given a line for the user, should it take long.

        Notes
        -----
        It takes some ten seconds for the first model of a kind, that is of as many components and
        features and the same structure, and a tenth of a second for others.
        """
        # should PyTensor have changed, the function is compiled when it is first called
        watch = event.install_listener("numba:compile", _Watch(tell))
        with watch, suppress(AttributeError, TypeError):
            self.function.vm.jit_fn.compile(ARGUMENTS)

    def log_posterior(self, vector: Array) -> tuple[float, Array]:
        """Return the log density at an unconstrained vector, and its gradient."""
        with self._lock:
            (result,) = self.function(np.array(vector, dtype=float), self.numbers, self.rows)
        return float(result[0]), result[1:]

    def pointers(self) -> tuple[int, NDArray[np.int64]]:
        """Return the address of a C function of the log density, and what it reads.

        Raises
        ------
        AttributeError, TypeError
            If Numba or PyTensor have changed.
        """
        (overload,) = self.function.vm.jit_fn.overloads.values()
        if (overload.signature.args, overload.signature.return_type) != (ARGUMENTS, RESULT):
            raise TypeError(f"PyTensor compiled {overload.signature}")
        address = overload.library.get_pointer_to_function(overload.fndesc.llvm_func_name)
        return foreign_density_c.address, pack_foreign(address, self.numbers, self.rows)

    def kept_shapes(self) -> Shapes:
        """Return the shapes of the variables that are kept, by their names."""
        variables = self.expand(np.zeros((1, self.n_parameters)))
        return {name: values.shape[1:] for name, values in variables.items()}

    def initial_point(self, seed: int) -> Array:
        """Return where PyMC would start, shape (P,); what was added is jittered."""
        point = self._initial(seed)
        return np.concatenate([np.ravel(point[name]) for name in self.shapes]).astype(float)

    @cached_property
    def _initial(self) -> Callable[[int], dict[str, Any]]:
        jittered = {self.model[name] for name in self.added}
        function: Callable[[int], dict[str, Any]] = make_initial_point_fn(
            model=self.model, jitter_rvs=jittered, return_transformed=True
        )
        return function

    def expand(self, vectors: Array) -> dict[str, NDArray[Any]]:
        """Return the variables that are kept, shapes (S, ...), of unconstrained vectors (S, P)."""
        starts = range(0, len(vectors), TOGETHER)
        with np.errstate(all="ignore"):
            parts = [self._expanded(vectors[start : start + TOGETHER]) for start in starts]
        return {
            name: np.concatenate(arrays)
            for name, arrays in zip(self.kept, zip(*parts, strict=True), strict=True)
        }

    def densities(self, observed: Any, vectors: Array) -> Array:
        """Return the log density of an observed variable, entry by entry, (S, ...), in nats."""
        (graph,) = self.model.logp(vars=[observed], jacobian=False, sum=False)
        graph = rewrite_graph(graph, include=["canonicalize", "stabilize"])
        function = self._of_vectors([graph])
        together = max(1, TOGETHER_ROWS // int(np.prod(observed.shape.eval(mode=NUMPY))))
        starts = range(0, len(vectors), together)
        with np.errstate(all="ignore"):
            return np.concatenate([function(vectors[at : at + together])[0] for at in starts])

    @cached_property
    def _expanded(self) -> Callable[[Array], list[NDArray[Any]]]:
        kept = [self.model[name] for name in self.kept]
        return self._of_vectors(self.model.replace_rvs_by_values(kept))

    def _of_vectors(self, graphs: Sequence[Any]) -> Callable[[Array], list[NDArray[Any]]]:
        """Return a function, evaluated by NumPy, of vectors (S, P) from graphs of their values."""
        vector = pt.tensor("vector", dtype="float64", shape=(self.n_parameters,))
        graphs = _frozen(graphs, _parts(self.model, self.shapes, vector))
        vectors = pt.tensor("vectors", dtype="float64", shape=(None, self.n_parameters))
        batched = vectorize_graph(graphs, {vector: vectors})
        # a constant does not become as many as there are draws by itself
        lead = vectors.shape[:1]
        full = [
            one if one.type.ndim > graph.type.ndim else pt.broadcast_to(one, (*lead, *one.shape))
            for graph, one in zip(graphs, batched, strict=True)
        ]
        function: Callable[[Array], list[NDArray[Any]]] = pytensor.function(
            [vectors], full, mode=NUMPY, on_unused_input="ignore"
        )
        return function


def compile_model(model: pm.Model, kept: Sequence[str], added: Sequence[str]) -> Compiled:
    """Make a model ready for sampling, all but for what Numba does: see `Compiled.compile`.

    Parameters
    ----------
    model : pymc.Model
    kept : sequence of str
        Free and deterministic variables that are to follow from draws.
    added : sequence of str
        Free variables whose initial values are to be jittered.

    Returns
    -------
    Compiled
    """
    shapes = _shapes(model)
    vector = pt.tensor("vector", dtype="float64", shape=(sum(map(size_of, shapes.values())),))
    values = [model.rvs_to_values[variable] for variable in model.free_RVs]
    log_density, given, rows_in, rows = _taken_out(_frozen([model.logp()], {})[0])
    known = _known(log_density, [*values, rows_in], given)
    checks = {
        one: _constant(one, value) for one, value in known.items() if one.type.dtype == "bool"
    }
    log_density = clone_replace(log_density, checks)
    rewrites = ["canonicalize", "stabilize"]
    if not model.check_bounds:
        rewrites.append("local_remove_check_parameter")
    log_density = rewrite_graph(log_density, include=rewrites)
    slopes = [slope.ravel() for slope in pt.grad(log_density, values)]
    result = pt.concatenate([log_density[None], *slopes])
    result = clone_replace(result, _parts(model, shapes, vector))
    known = _known(result, [vector, rows_in], given)
    arrays = {one: value for one, value in known.items() if one.type.dtype == "float64"}
    others = {one: _constant(one, value) for one, value in known.items() if one not in arrays}
    numbers = np.concatenate([np.empty(0), *map(np.ravel, arrays.values())])
    numbers_in = pt.tensor("numbers", dtype="float64", shape=(numbers.size,))
    result = clone_replace(result, {**others, **_places(numbers_in, arrays)})
    with model:
        function = compile_graph(
            [vector, numbers_in, rows_in], [result], mode="NUMBA", on_unused_input="ignore"
        )
    return Compiled(model, tuple(kept), frozenset(added), shapes, function, numbers, rows)


def _shapes(model: pm.Model) -> Shapes:
    """Return the shapes of the unconstrained variables, by the names of their values."""
    values = [model.rvs_to_values[variable] for variable in model.free_RVs]
    known = {value.name: value.type.shape for value in values}
    if any(None in shape for shape in known.values()):
        evaluated = model.eval_rv_shapes()
        known = {value.name: tuple(map(int, evaluated[value.name])) for value in values}
    return known


def size_of(shape: tuple[int, ...]) -> int:
    """Return the number of entries of an array."""
    return int(np.prod(shape, dtype=int))


def _parts(model: pm.Model, shapes: Shapes, vector: Any) -> dict[Any, Any]:
    """Return what stands for the values of the free variables in a vector of all of them."""
    values = [model.rvs_to_values[variable] for variable in model.free_RVs]
    places = _places(vector, {value: np.empty(shapes[value.name]) for value in values})
    return {value: place.astype(value.type.dtype) for value, place in places.items()}


def _places(vector: Any, arrays: Mapping[Any, Array]) -> dict[Any, Any]:
    """Return where each of several arrays is in a vector of all, in its own shape."""
    places, at = {}, 0
    for key, array in arrays.items():
        places[key] = vector[at : at + array.size].reshape(array.shape)
        at += array.size
    return places


def _frozen(graphs: Sequence[Any], replaced: Mapping[Any, Any]) -> list[Any]:
    """Return graphs with something replaced, and shared variables by their present values."""
    shared = {
        variable: _constant(variable, variable.get_value())
        for variable in ancestors(graphs)
        if isinstance(variable, SharedVariable) and hasattr(variable.type, "ndim")
    }
    frozen: list[Any] = clone_replace(list(graphs), {**replaced, **shared}, rebuild_strict=False)
    return frozen


def _taken_out(graph: Any) -> tuple[Any, dict[Any, Array], Any, Array]:
    """Return a graph with inputs for its constant arrays, those with their values, and the rows.

    Single numbers are what formulae are made of; arrays come from data and specifications. The
    rows of the mixture are an input of their own, that there may be any number of.
    """
    inputs: dict[Any, Any] = {
        variable: variable.type()
        for variable in ancestors([graph])
        if isinstance(variable, TensorConstant)
        and variable.type.dtype == "float64"
        and variable.type.ndim > 0
    }
    rows_in, rows = pt.matrix("rows", dtype="float64"), np.empty((0, 0))
    for variable in ancestors([graph]):
        if variable.owner is not None and isinstance(variable.owner.op, MixtureLogDensity):
            data = variable.owner.inputs[0]
            if data in inputs:
                rows = np.ascontiguousarray(data.data)
                inputs[data] = rows_in = pt.matrix(
                    "rows", dtype="float64", shape=(rows.shape[0], None)
                )
                break
    given = {variable: one.data for one, variable in inputs.items() if variable is not rows_in}
    return clone_replace(graph, inputs, rebuild_strict=False), given, rows_in, rows


def _known(graph: Any, free: Sequence[Any], given: Mapping[Any, Array]) -> dict[Any, Any]:
    """Return what a graph needs that follows from given arrays alone: variables and values."""
    loose, held = set(free), set(given)
    needed: dict[Any, None] = {}
    for node in io_toposort([*free, *given], [graph]):
        if loose.intersection(node.inputs):
            loose.update(node.outputs)
            needed.update(dict.fromkeys(one for one in node.inputs if one in held))
        elif held.intersection(node.inputs):
            held.update(node.outputs)
    function = pytensor.function(list(given), list(needed), mode=NUMPY, on_unused_input="ignore")
    with np.errstate(all="ignore"):
        return dict(zip(needed, function(*given.values()), strict=True))


def _constant(variable: Any, value: Any) -> Any:
    """Return a constant that can stand for a variable."""
    return variable.type.make_constant(variable.type.filter(value))
