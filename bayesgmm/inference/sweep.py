"""Many fits of the same data, which share what they can: data, modes, kernels and cores."""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import xarray as xr

from bayesgmm.data import Data
from bayesgmm.errors import FitError
from bayesgmm.inference.assemble import Draws, Options, assemble
from bayesgmm.inference.coordinates import Start
from bayesgmm.inference.crew import crew
from bayesgmm.inference.fit import provenance
from bayesgmm.inference.growth import grow
from bayesgmm.inference.information import criteria
from bayesgmm.inference.methods import RUNNERS
from bayesgmm.inference.nuts import Run, to_draws, told_apart
from bayesgmm.inference.progress import Progress
from bayesgmm.kernels.threads import n_cores
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem
from bayesgmm.tree import FactorParameters, Parameters

PAUSE = 0.02
"""Seconds to wait where there is nothing to do but wait for chains."""
CLIMBED = 3
"""Modes of the posterior from which the maximum of the likelihood is searched."""


class Candidate(NamedTuple):
    """What tells one fit of a sweep from the others.

    Parameters
    ----------
    n_components : int
    structure : str
        What the components' covariance matrices share.
    """

    n_components: int
    structure: str

    @property
    def label(self) -> str:
        """The candidate in a few letters."""
        return f"K = {self.n_components}, {self.structure}"


@dataclass(frozen=True, eq=False)
class Outcome:
    """How the fit of a candidate ended.

    Parameters
    ----------
    candidate : Candidate
    tree : DataTree or None
        None if it failed.
    criteria : dict of str to float
        BIC, AIC and ICL.
    failure : str
        Why it failed; empty if it did not.
    mode : Parameters or None
        The highest mode, from which a fit with a component more grows; None if there is none, or
        the method has no use for it.
    """

    candidate: Candidate
    tree: xr.DataTree | None
    criteria: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    mode: Parameters | FactorParameters | None = None


def sweep(
    specifications: Sequence[GaussianMixture],
    data: Data,
    method: str,
    options: Options,
    progress: Progress,
    done: Mapping[Candidate, Parameters | FactorParameters | None],
) -> Generator[Outcome]:
    """Fit several specifications to the same data, and yield them as they are done.

    Parameters
    ----------
    specifications : sequence of GaussianMixture
        No two of the same number of components and structure, in ascending order of numbers.
    data : Data
    method : str
        One that draws.
    options : Options
        The seed is that of every fit.
    progress : Progress
    done : dict of Candidate to Parameters or None
        The modes of fits that an earlier sweep has done: the others are as they would be in one
        sweep of all.

    Yields
    ------
    Outcome
        Of every specification one, in the order in which they are done.

    Notes
    -----
    By NUTS chains of several fits sample beside one another: as many as there are cores, or as one
    fit has, if that is more. Meanwhile the next fits are prepared and the last ones evaluated, by
    the one thread that asks for outcomes. What a fit draws depends on its seed, and on the modes
    of the fit with a component fewer, but on the timing of nothing.
    """
    if method == "nuts":
        yield from _Sweep(specifications, data, options, progress, done).outcomes()
        return
    count = len(specifications) + len(done)
    for specification in specifications:
        began = time.perf_counter()
        problem = Problem.make(specification, data)
        try:
            with crew(problem, 1):
                drawn = RUNNERS[method](problem, options, progress)
        except FitError as error:
            yield Outcome(candidate_of(problem), None, failure=str(error))
            continue
        yield outcome_of(problem, drawn, method, options, began, count, None)


class _Sweep:
    """Fits by NUTS, each prepared, sampled and collected beside the others."""

    def __init__(
        self,
        specifications: Sequence[GaussianMixture],
        data: Data,
        options: Options,
        progress: Progress,
        done: Mapping[Candidate, Parameters | FactorParameters | None],
    ) -> None:
        self._room = max(n_cores(), options.chains)
        self._data, self._options, self._progress = data, options, progress
        self._waiting = deque(specifications)
        self._runs: dict[Run, float] = {}
        """Fits that have begun and are not done, in their order, and when each began."""
        self._ready: deque[tuple[Run, Start]] = deque()
        """Chains that may start as soon as there is room."""
        self._best = dict(done)
        self._count = len(specifications) + len(done)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcomes as fits are done."""
        try:
            while self._waiting or self._runs:
                run, act = self._next()
                try:
                    with told_apart():
                        outcome = act(run)
                except FitError as error:
                    outcome = self._given_up(run, error)
                if outcome is not None:
                    yield outcome
        finally:
            for run in self._runs:
                run.abort()

    def _next(self) -> tuple[Run, Callable[[Run], Outcome | None]]:
        """Return what is best done now: first what lets cores work, then what they have done."""
        sampling = sum(not chain.finished for run in self._runs for chain in run.chains)
        self._say()
        if self._ready and sampling < self._room:
            return self._ready[0][0], self._launch
        complete = next((run for run in self._runs if run.complete), None)
        if complete is not None and sampling >= self._room:
            return complete, self._collect
        unprepared = self._unprepared()
        if unprepared is not None:
            return unprepared, self._prepare
        if complete is not None:
            return complete, self._collect
        return next(iter(self._runs)), self._wait

    def _unprepared(self) -> Run | None:
        """Return the fit whose next chain is to be prepared, None if enough of them are ready."""
        if len(self._ready) >= self._options.chains:
            return None
        last = next(reversed(self._runs), None)
        if last is not None and last.prepared < self._options.chains:
            return last
        if not self._waiting:
            return None
        began = time.perf_counter()
        problem = Problem.make(self._waiting.popleft(), self._data)
        k, structure = candidate_of(problem)
        smaller = self._best.get(Candidate(k - 1, structure))
        run = Run(problem, self._options, () if smaller is None else grow(problem, smaller))
        self._runs[run] = began
        return run

    def _prepare(self, run: Run) -> None:
        self._ready.append((run, run.prepare()))
        if run.prepared == self._options.chains:
            self._best[candidate_of(run.problem)] = run.best.parameters

    def _launch(self, run: Run) -> None:
        _, start = self._ready.popleft()
        run.launch(start)

    def _collect(self, run: Run) -> Outcome:
        drawn = to_draws(run.problem, self._options, run.result(interrupted=False))
        began = self._runs.pop(run)
        mode = self._best[candidate_of(run.problem)]
        return outcome_of(run.problem, drawn, "nuts", self._options, began, self._count, mode)

    def _wait(self, run: Run) -> None:
        for chain in run.chains:
            if not chain.finished:
                chain.wait(PAUSE)
                return

    def _given_up(self, run: Run, error: FitError) -> Outcome:
        run.abort()
        self._runs.pop(run, None)
        self._ready = deque(item for item in self._ready if item[0] is not run)
        candidate = candidate_of(run.problem)
        return Outcome(candidate, None, failure=str(error), mode=self._best.get(candidate))

    def _say(self) -> None:
        """Say which fits are at work, and how many are done."""
        running = ", ".join(candidate_of(run.problem).label for run in self._runs)
        done = self._count - len(self._waiting) - len(self._runs)
        self._progress.update(f"{running or 'Beginning'}; {done} of {self._count} fits done")


def candidate_of(problem: Problem) -> Candidate:
    """Return what the problem is called in a sweep."""
    specification = problem.specification
    return Candidate(specification.known_number, specification.covariance.structure)


def outcome_of(
    problem: Problem,
    drawn: Draws,
    method: str,
    options: Options,
    began: float,
    sharing: int,
    mode: Parameters | FactorParameters | None,
) -> Outcome:
    """Return the outcome of a fit that did not fail."""
    attrs = provenance(problem, options, method, "fused", began)
    return Outcome(
        candidate_of(problem),
        assemble(problem, drawn, attrs, sharing=sharing),
        criteria(problem, drawn.modes[:CLIMBED]),
        mode=mode,
    )
