"""Chains whose trajectories are arcs, in threads of their own: see `kernels.arcs`."""

import ctypes
import threading
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.blockwise import BlockProblem
from bayesgmm.inference.chains import Settings
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

_DENSITY: Final = ctypes.CFUNCTYPE(
    ctypes.c_int64,
    ctypes.c_uint64,
    ctypes.POINTER(ctypes.c_double),
    ctypes.POINTER(ctypes.c_double),
    ctypes.POINTER(ctypes.c_double),
    ctypes.c_void_p,
)
"""`kernels.pointer.DENSITY`, as Python can offer it."""


class ArcChain:
    """A chain that samples in a thread of its own; what it offers is what `Chain` does.

    Parameters
    ----------
    problem : Problem
    shift : array, shape (P,)
    factor : array, shape (P, P)
        x = shift + factor z: the posterior is nearly standard Normal in z.
    start : array, shape (P,)
        The first z.
    settings : Settings
        Whose adaptation is not used: nothing is left to adapt but how many steps an arc takes.
    seed : int
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
        from bayesgmm.kernels.arcs import STATISTICS, TOLD

        self.settings = settings
        self._shift, self._factor = shift, factor
        self._draws = np.empty((settings.draws, start.size))
        self._statistics = np.empty((settings.draws, STATISTICS))
        self._told = np.zeros(TOLD, dtype=np.int64)
        self._failure: Exception | None = None
        self._thread = threading.Thread(
            target=self._run,
            args=(problem, start.copy(), np.random.default_rng(seed)),
            name="bayesgmm-chain",
            daemon=True,
        )
        self._thread.start()

    def _run(self, problem: Problem, z: Array, generator: np.random.Generator) -> None:
        from bayesgmm.kernels.arcs import FAILURE, sample_arcs

        wanted = self.settings
        try:
            address, user, alive = self._density(problem)
            sample_arcs(
                address, user, z, wanted.tune, wanted.target_accept, generator,
                self._draws, self._statistics, self._told,
            )  # fmt: skip
            del alive  # what the addresses are of
            if self._told[FAILURE] and self._failure is None:
                self._failure = FloatingPointError(
                    "the log posterior is not finite where the chain begins"
                )
        except Exception as error:  # told to whoever asks for the result
            self._failure = error

    def _density(self, problem: Problem) -> tuple[int, int, Any]:
        """Return the addresses of the density and of what it reads, and what to keep alive."""
        from bayesgmm.kernels.pointer import log_posterior_c, pack_user

        if isinstance(problem, BlockProblem):  # a sum over blocks, which takes longer than Python
            function = _DENSITY(self._from_python(problem))
            return ctypes.cast(function, ctypes.c_void_p).value or 0, 0, function
        user = pack_user(problem.flat, self._shift, self._factor)
        return log_posterior_c.address, user.ctypes.data, (user, problem.flat)

    def _from_python(self, problem: Problem) -> Any:
        """Return the density as a function of addresses."""
        from bayesgmm.kernels.arcs import FAILED

        def density(length: int, point: Any, gradient: Any, value: Any, _: Any) -> int:
            try:
                z = np.ctypeslib.as_array(point, (length,))
                value[0], slopes = problem.log_posterior(self._shift + self._factor @ z)
                np.ctypeslib.as_array(gradient, (length,))[:] = self._factor.T @ slopes
            except Exception as error:  # no exception gets through what was compiled
                self._failure = error
                return FAILED
            return 0 if np.isfinite(value[0]) and np.isfinite(slopes).all() else 3

        return density

    @property
    def finished(self) -> bool:
        """Whether all draws are there, or it has failed."""
        return not self._thread.is_alive()

    @property
    def progress(self) -> tuple[int, int]:
        """Draws made, tuning included, and divergences among them."""
        from bayesgmm.kernels.arcs import DIVERGENCES, MADE

        return int(self._told[MADE]), int(self._told[DIVERGENCES])

    def wait(self, seconds: float) -> None:
        """Return when the chain has finished, or after some seconds."""
        self._thread.join(seconds)

    def abort(self) -> None:
        """Stop where the chain is; what it has drawn is kept."""
        from bayesgmm.kernels.arcs import STOP

        self._told[STOP] = 1

    def result(self) -> tuple[Array, dict[str, NDArray[Any]]]:
        """Return the draws after tuning, shape (draws, P), unconstrained, and their statistics.

        Raises a RuntimeError if the density failed, or was not finite at the start.
        """
        from bayesgmm.kernels import arcs

        self._thread.join()
        if self._failure is not None:
            raise RuntimeError(str(self._failure)) from self._failure
        kept = max(0, int(self._told[arcs.MADE]) - self.settings.tune)
        of_draws = self._statistics[:kept]
        n_steps = of_draws[:, arcs.N_STEPS].astype(np.uint64)
        statistics: dict[str, NDArray[Any]] = {
            names.LP: of_draws[:, arcs.LP].copy(),
            names.DIVERGING: of_draws[:, arcs.DIVERGING] > 0.0,
            names.ENERGY: of_draws[:, arcs.ENERGY].copy(),
            names.TREE_DEPTH: np.zeros(kept, dtype=np.uint64),
            names.N_STEPS: n_steps,
            names.STEP_SIZE: of_draws[:, arcs.STEP_SIZE].copy(),
            names.ACCEPTANCE_RATE: of_draws[:, arcs.ACCEPTANCE_RATE].copy(),
        }
        return self._shift + self._draws[:kept] @ self._factor.T, statistics
