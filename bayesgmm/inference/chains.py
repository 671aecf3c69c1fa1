"""Chains of nutpie without its Python: C function pointers in, NumPy arrays out.

nutpie samples densities that it reaches through an address, but only hands out that route for
PyMC models. This module takes it directly, and is the only one that touches nutpie's private
names; should they change, `start_chain` falls back to its public, slower route, a Python function
per gradient. The extension module is loaded without the package around it, which would import
ArviZ with its plots (seconds) for nothing that is needed here.
"""

import importlib.util
import sys
import warnings
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ExtensionFileLoader, PathFinder
from types import ModuleType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.blockwise import BlockProblem
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

STATISTICS = {
    names.LP: "logp",
    names.DIVERGING: "diverging",
    names.ENERGY: "energy",
    names.TREE_DEPTH: "depth",
    names.N_STEPS: "n_steps",
    names.STEP_SIZE: "step_size",
    names.ACCEPTANCE_RATE: "mean_tree_accept",
}
"""Our names of the statistics of a draw, and nutpie's."""


@dataclass(frozen=True)
class Settings:
    """What a chain is asked to do.

    Parameters
    ----------
    draws, tune : int
    target_accept : float
    adaptation : str
        ``"diag"`` or ``"low_rank"``.
    """

    draws: int
    tune: int
    target_accept: float
    adaptation: Literal["diag", "low_rank"]


def extension() -> ModuleType:
    """Return nutpie's extension module, loaded without importing the package."""
    name = "nutpie._lib"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("nutpie")
    if package is None or not package.submodule_search_locations:
        raise ImportError("nutpie is not installed. Run `pip install nutpie`.")
    spec = PathFinder.find_spec(name, list(package.submodule_search_locations))
    if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
        return importlib.import_module(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return module


class Chain:
    """A chain that samples in a thread of its own.

    Parameters
    ----------
    problem : Problem
    shift : array, shape (P,)
        Where z = 0 is: x = shift + factor z.
    factor : array
        As `kernels.pointer.pack_user` takes it.
    start : array, shape (P,)
        The first z.
    settings : Settings
    seed : int

    Warns
    -----
    RuntimeWarning
        If nutpie has changed and can only be given Python functions: slow, but as good.
    """

    def __init__(
        self,
        problem: Problem,
        shift: Array,
        factor: Array,
        start: Array,
        settings: Settings,
        *,
        seed: int,
    ) -> None:
        self._shift, self._factor, self.settings = shift, factor, settings
        self._seed = seed
        self._progress: Any = None
        self._failure: RuntimeError | None = None
        if isinstance(problem, BlockProblem):  # a sum over blocks, which takes longer than Python
            self._sampler = self._from_python(problem, start)
            return
        try:
            self._sampler = self._from_pointers(problem, start)
        except (AttributeError, TypeError) as error:
            warnings.warn(
                f"This version of nutpie takes no compiled functions ({error}): sampling is slower "
                f"than it could be. Install the version that bayesgmm asks for.",
                RuntimeWarning,
                stacklevel=8,  # where the user called fit
            )
            self._sampler = self._from_python(problem, start)

    def _on_progress(self, chains: list[Any]) -> None:
        self._progress = chains[0]

    def _nuts_settings(self, lib: ModuleType) -> Any:
        wanted = self.settings
        kinds = {"diag": lib.PyNutsSettings.Diag, "low_rank": lib.PyNutsSettings.LowRank}
        settings = kinds[wanted.adaptation](self._seed)
        settings.update(
            {
                "num_tune": wanted.tune,
                "num_draws": wanted.draws,
                "num_chains": 1,
                "target_accept": wanted.target_accept,
                "store_unconstrained": True,
            }
        )
        return settings

    def _from_pointers(self, problem: Problem, start: Array) -> Any:
        """Start a sampler that calls our compiled functions by their addresses."""
        from bayesgmm.kernels.pointer import expand_c

        lib = extension()
        address, user, alive = self._compiled(problem)
        density = lib.LogpFunc(address, user.ctypes.data, alive)
        expand = lib.ExpandFunc(start.size, 1, expand_c.address, user.ctypes.data, alive)
        variables = lib.PyVariable.new_variables(["unused"], ["float64"], [()], {}, {})
        model = lib.PyMcModel(
            density, expand, variables, start.size, {}, {}, lambda seed: start.copy(), None
        )
        return lib.PySampler.from_pymc(
            self._nuts_settings(lib),
            1,
            model,
            lib.ProgressType.none(),
            self._on_progress,
            100,
            lib.PyStorage.arrow(),
        )

    def _compiled(self, problem: Problem) -> tuple[int, NDArray[Any], Any]:
        """Return the address of the density, what it reads, and all that must be kept alive."""
        from bayesgmm.kernels.pointer import log_posterior_c, pack_user

        user = pack_user(problem.flat, self._shift, self._factor)
        return log_posterior_c.address, user, (user, problem.flat)

    def _from_python(self, problem: Problem, start: Array) -> Any:
        """Start a sampler that calls a Python function per gradient: nutpie's public route."""
        from nutpie.compiled_pyfunc import from_pyfunc

        from bayesgmm.kernels.pointer import pulled, stretched

        shift, factor = self._shift, self._factor

        def density(z: Array) -> tuple[float, Array]:
            value, slopes = problem.log_posterior(shift + stretched(factor, z))
            return value, pulled(factor, slopes)

        compiled = from_pyfunc(
            start.size,
            lambda: density,
            lambda *seeds: lambda z: {"unused": np.zeros(())},
            [np.dtype(np.float64)],
            [()],
            ["unused"],
            make_initial_point_fn=lambda seed: start.copy(),
        )
        lib = extension()
        return compiled._make_sampler(
            self._nuts_settings(lib),
            np.zeros(start.size),
            1,
            lib.ProgressType.none(),
            self._on_progress,
            100,
            lib.PyStorage.arrow(),
        )

    @property
    def finished(self) -> bool:
        """Whether all draws are there, or it has failed."""
        try:
            return self._failure is not None or bool(self._sampler.is_finished())
        except TimeoutError:  # asked while the sampler is busy starting
            return False
        except RuntimeError as error:
            self._failure = error
            return True

    @property
    def progress(self) -> tuple[int, int]:
        """Draws made, tuning included, and divergences among them, as last reported."""
        if self._progress is None:
            return 0, 0
        return int(self._progress.finished_draws), int(self._progress.divergences)

    def wait(self, seconds: float) -> None:
        """Return when the chain has finished, or after some seconds."""
        try:
            self._sampler.wait(seconds)
        except TimeoutError:
            return
        except RuntimeError as error:
            self._failure = error

    def abort(self) -> None:
        """Stop where the chain is; what it has drawn is kept."""
        with suppress(RuntimeError):  # it has failed already
            self._sampler.abort()

    def result(self) -> tuple[Array, dict[str, NDArray[Any]]]:
        """Return the draws after tuning, shape (draws, P), unconstrained, and their statistics.

        Raises the RuntimeError with which the sampler failed, if it did.
        """
        import pyarrow

        from bayesgmm.kernels.pointer import stretched

        if self._failure is not None:
            raise self._failure

        _, (table,) = self._sampler.take_results().get_arrow_trace()
        kept = ~np.asarray(table.column("tuning").to_numpy(), dtype=bool)
        column = pyarrow.array(table.column("unconstrained_draw"))
        z = np.asarray(column.flatten(), dtype=float).reshape(len(kept), self._shift.size)[kept]
        vectors = self._shift + stretched(self._factor, z)
        statistics = {
            name: np.asarray(table.column(theirs).to_numpy())[kept]
            for name, theirs in STATISTICS.items()
        }
        return vectors, statistics
