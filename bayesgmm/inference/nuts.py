"""NUTS on the fused log posterior: every chain from a mode of its own, whitened there."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import FitError
from bayesgmm.inference.arcs import ArcChain
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.chains import Chain, Settings
from bayesgmm.inference.coordinates import Coordinates, Start, point_near
from bayesgmm.inference.em import SAME_MODE, distinct, find_modes
from bayesgmm.inference.laplace import LARGEST_DENSE
from bayesgmm.inference.mode import Mode, Target
from bayesgmm.inference.progress import Progress
from bayesgmm.kernels.relabel import order_of
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

STARTS_PER_CHAIN = 8
"""EM runs, of which a chain starts at the best."""
TUNE_ARCS, TUNE_WHITENED, TUNE_THIN, TUNE_PLAIN = 50, 100, 200, 800
"""Tuning draws on arcs, with the Laplace covariance at hand, some directions of it, without it."""
NEAR = 20.0
"""Nats by which a mode may be lower than the best for its mass to be looked at."""
SAME_PLACE = 1e-2
"""Difference of means and scales, in units of the data's, of modes that are taken for one."""


@dataclass(frozen=True, eq=False)
class NutsResult:
    """Draws of NUTS.

    Parameters
    ----------
    vectors : array, shape (chains, draws, P)
        Unconstrained.
    statistics : dict of str to array, shape (chains, draws)
    modes : tuple of Mode
        The distinct modes that the searches for starts found, best first.
    integrators : tuple of str
        Of the chains.
    tune : int
    seconds_tuned : float
        Time to find and whiten the modes.
    seconds_sampled : float
    interrupted : bool
        Whether sampling was stopped before all draws were made.
    """

    vectors: Array
    statistics: dict[str, NDArray[Any]]
    modes: tuple[Mode, ...]
    integrators: tuple[str, ...]
    tune: int
    seconds_tuned: float
    seconds_sampled: float
    interrupted: bool

    @classmethod
    def of(cls, results: Sequence[tuple[Array, dict[str, NDArray[Any]]]], **others: Any) -> Self:
        """Return what chains drew, as many draws of each; see `Chain.result`."""
        length = min(len(vectors) for vectors, _ in results)
        if length < 2:
            raise interrupted_too_early(length)
        return cls(
            vectors=np.stack([vectors[:length] for vectors, _ in results]),
            statistics={
                name: np.stack([statistics[name][:length] for _, statistics in results])
                for name in results[0][1]
            },
            **others,
        )


class Search(NamedTuple):
    """What the search for the start of one chain found.

    Parameters
    ----------
    modes : tuple of Mode
        Best first.
    rng : numpy.random.Generator
        Of the chain, as the search leaves it.
    seconds : float
    """

    modes: tuple[Mode, ...]
    rng: np.random.Generator
    seconds: float


def search(problem: Problem, options: Options, number: int) -> Search:
    """Look for the modes that a chain may start from: what depends on nothing but its seed."""
    began = time.perf_counter()
    rng = np.random.default_rng(np.random.SeedSequence(options.random_seed).spawn(number + 1)[-1])
    found = find_modes(
        problem, Target.MAP, rng, n_starts=STARTS_PER_CHAIN, hierarchical=False, fallback=True
    )
    return Search(found.modes, rng, time.perf_counter() - began)


class Run:
    """The chains of one fit, prepared and started one at a time.

    A chain samples in a thread of its own from the moment it is started. Who runs many fits can
    prepare the chains of one while those of another sample.

    Parameters
    ----------
    problem : Problem
    options : Options
    warm : tuple of Mode
        Modes that were found otherwise, best first. Every second chain, from the first on, starts
        from the best of them if its own search finds none as high; the others search alone, so
        that the agreement of all is evidence.
    """

    def __init__(self, problem: Problem, options: Options, warm: tuple[Mode, ...]) -> None:
        many = problem.n_parameters > LARGEST_DENSE
        plain = many and problem.gauge is None
        tune = options.tune
        if tune is None:
            tune = TUNE_PLAIN if plain else TUNE_THIN if many else TUNE_WHITENED
        kind: Literal["low_rank", "diag"] = "low_rank" if plain else "diag"
        self.problem, self.options = problem, options
        self.settings = Settings(options.draws, tune, options.target_accept, kind)
        self.chains: list[Chain | ArcChain] = []
        self._starts: list[Start] = []
        self.modes: list[Mode] = []
        self._warm = warm
        self._known: list[tuple[Mode, Coordinates]] = []
        self._seeds = np.random.SeedSequence(options.random_seed).spawn(options.chains)
        self._prepared = 0
        self.seconds_prepared, self._launched = 0.0, 0.0

    @property
    def prepared(self) -> int:
        """How many chains have been prepared."""
        return self._prepared

    @property
    def best(self) -> Mode:
        """The highest mode that is known."""
        return max((*self.modes, *self._warm), key=lambda mode: mode.objective)

    @property
    def distinct_modes(self) -> tuple[Mode, ...]:
        """The modes that are known, best first."""
        return tuple(distinct((*self._warm, *self.modes)))

    @property
    def complete(self) -> bool:
        """Whether all chains have been started and have finished."""
        return len(self.chains) == self.options.chains and all(
            chain.finished for chain in self.chains
        )

    def prepare(self) -> Start:
        """Find and whiten a mode for the next chain to start from."""
        return self.start_from(search(self.problem, self.options, self._prepared))

    def start_from(self, found: Search) -> Start:
        """Whiten the best mode that was found for the next chain, and choose a point near it."""
        began = time.perf_counter()
        rng = deepcopy(found.rng)
        self.modes.extend(self._weighed(found.modes))
        best = found.modes[0]
        if self._prepared % 2 == 0:
            best = max((best, *self._warm), key=lambda mode: mode.objective)
        around = self._coordinates(best)
        of_sampler = int(rng.integers(2**62))
        settings = self.settings
        if around.integrator == "geodesic" and self.options.tune is None:
            settings = replace(settings, tune=TUNE_ARCS)
        start = Start(around, point_near(self.problem, around, rng), settings, of_sampler)
        self._prepared += 1
        self.seconds_prepared += found.seconds + time.perf_counter() - began
        return start

    def _weighed(self, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        """Return modes, best first, with the masses of the high ones, where they can be told."""
        if self.problem.n_parameters > LARGEST_DENSE:
            return modes
        return tuple(
            replace(mode, log_mass=mode.objective + self._coordinates(mode).log_volume)
            if mode.converged and mode.objective >= modes[0].objective - NEAR
            else mode
            for mode in modes
        )

    def _coordinates(self, mode: Mode) -> Coordinates:
        """Return the coordinates around a mode, or around the same mode by other names."""
        for known, coordinates in self._known:
            if _same(known, mode, self.problem.unit):
                return coordinates
        coordinates = Coordinates.at(self.problem, mode.vector)
        self._known.append((mode, coordinates))
        return coordinates

    def launch(self, start: Start) -> None:
        """Let the next chain sample."""
        self.chains.append(start.chain_of(self.problem))
        self._starts.append(start)
        self._launched = time.perf_counter()

    def abort(self) -> None:
        """Stop all chains where they are."""
        for chain in self.chains:
            chain.abort()

    def result(self, interrupted: bool) -> NutsResult:
        """Return what the chains drew, as many draws of each."""
        return NutsResult.of(
            [chain.result() for chain in self.chains],
            modes=self.distinct_modes,
            integrators=tuple(start.coordinates.integrator for start in self._starts),
            tune=max(start.settings.tune for start in self._starts),
            seconds_tuned=self.seconds_prepared,
            seconds_sampled=time.perf_counter() - self._launched,
            interrupted=interrupted,
        )


def sample(problem: Problem, options: Options, progress: Progress) -> NutsResult:
    """Sample the posterior.

    Parameters
    ----------
    problem : Problem
    options : Options
        Tuning draws of None are 50 on arcs, 100 elsewhere, or 800 where there are too many
        parameters to whiten.
    progress : Progress

    Returns
    -------
    NutsResult

    Raises
    ------
    FitError
        If the sampler failed (status ``"sampler"``), or was interrupted before every chain had
        two draws after tuning (``"interrupted"``).

    Notes
    -----
    A gradient is one pass, O(N K D^2); a draw takes two or three on arcs, some ten elsewhere.
    """
    return to_the_end(Run(problem, options, warm=()), progress)


def to_the_end(run: Run, progress: Progress) -> NutsResult:
    """Start all chains of a run, one after the other, and wait for them."""
    try:
        with told_apart():
            for number in range(run.options.chains):
                progress.update(f"Finding the mode that chain {number} starts from")
                run.launch(run.prepare())
            return run.result(_wait(run, progress))
    except BaseException:
        run.abort()
        raise


def interrupted_too_early(n_draws: int) -> FitError:
    """Return what is raised where there are too few draws to return."""
    return FitError(
        f"Sampling was interrupted while chains were tuning; got {n_draws} draws after it. "
        f"Let it run longer, or ask for fewer `draws`.",
        status="interrupted",
    )


@contextmanager
def told_apart() -> Iterator[None]:
    """Raise what the sampler raises, which is but a RuntimeError, as a FitError."""
    try:
        yield
    except FitError:
        raise
    except RuntimeError as error:
        reason = str(error).partition("\n\nStack backtrace")[0]
        raise FitError(f"The sampler failed: {reason}", status="sampler") from error


def to_draws(problem: Problem, options: Options, result: NutsResult) -> Draws:
    """Return a result as every method hands it over."""
    return Draws(
        parameters=problem.constrain(result.vectors.reshape(-1, problem.n_parameters)),
        statistics=result.statistics,
        modes=result.modes,
        attrs={
            "integrator": ", ".join(dict.fromkeys(result.integrators)),
            "tuning_steps": result.tune,
            "tuning_time": result.seconds_tuned,
            "sampling_time": result.seconds_sampled,
            "target_accept": options.target_accept,
            names.INTERRUPTED: int(result.interrupted),
        },
    )


def _same(one: Mode, other: Mode, unit: Array) -> bool:
    """Tell whether two modes are the same but for the names of the components."""
    if abs(one.objective - other.objective) > SAME_MODE:
        return False
    first, second = (
        np.concatenate((mode.parameters.means[0], mode.parameters.scales[0]), axis=1)[
            order_of(mode.parameters.means[0])
        ]
        for mode in (one, other)
    )
    return bool(np.abs((first - second) / np.tile(unit, 2)).max() < SAME_PLACE)


def _wait(run: Run, progress: Progress) -> bool:
    """Wait until all chains have finished; return whether they were interrupted before."""
    everything = sum(chain.settings.draws + chain.settings.tune for chain in run.chains)
    try:
        for chain in run.chains:
            while not chain.finished:
                chain.wait(0.1)
                made, divergences = np.sum([one.progress for one in run.chains], axis=0)
                progress.update(
                    f"Sampling {len(run.chains)} chains: {made / everything:.0%}, "
                    f"{divergences} divergences"
                )
    except KeyboardInterrupt:
        run.abort()
        return True
    return False
