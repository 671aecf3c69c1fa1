"""Fits of rows in memory, spread over the workers of a cluster: a task for every chain."""

import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import wraps
from typing import Any, Concatenate, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bayesgmm.data import Data
from bayesgmm.errors import FitError
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.coordinates import Start
from bayesgmm.inference.growth import grow
from bayesgmm.inference.methods import RUNNERS
from bayesgmm.inference.mode import Mode
from bayesgmm.inference.nuts import (
    NutsResult,
    Run,
    Search,
    search,
    to_draws,
    told_apart,
)
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.sweep import PAUSE, Candidate, Outcome, candidate_of, outcome_of
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem
from bayesgmm.tree import FactorParameters, Parameters

ASKED_EVERY: Final = 1.0
"""Seconds after which a chain asks whether it is to stop."""
ONE_AT_A_TIME: Final = threading.Lock()
"""Of the fits that a worker evaluates: they use all its cores, and warnings know no threads."""


class Failed(NamedTuple):
    """A `FitError` as it travels.

    Parameters
    ----------
    message, status : str
    """

    message: str
    status: str


class Prepared(NamedTuple):
    """What the chains of a fit begin with.

    Parameters
    ----------
    starts : tuple of Start
    modes : tuple of Mode
        Distinct, best first.
    best : Parameters or FactorParameters
        The highest.
    seconds : float
        That it took to find and whiten the modes, one after the other.
    """

    starts: tuple[Start, ...]
    modes: tuple[Mode, ...]
    best: Parameters | FactorParameters
    seconds: float


class Drawn(NamedTuple):
    """What a chain drew, as `Chain.result` has it, and how long it took."""

    vectors: NDArray[np.float64]
    statistics: dict[str, NDArray[Any]]
    seconds: float


class Workers:
    """The workers of a cluster, all of which hold the same rows.

    Parameters
    ----------
    client : distributed.Client
    data : Data
        Sent once, and from worker to worker.
    """

    def __init__(self, client: Any, data: Data) -> None:
        from distributed import Event

        self._client = client
        self._data = client.scatter(data, broadcast=True)
        self._stop = Event(client=client)

    @property
    def count(self) -> int:
        """How many workers there are."""
        return len(self._client.nthreads())

    def submit(self, task: Callable[Concatenate[Data, ...], Any], *arguments: Any) -> Any:
        """Return the future of a task, which is given the rows first."""
        return self._client.submit(task, self._data, *arguments, pure=False)

    def chains(
        self, specification: GaussianMixture, options: Options, smaller: Any
    ) -> tuple[Any, list[Any]]:
        """Return futures of what the chains of a fit begin with, and of what they draw."""
        numbers = range(options.chains)
        searches = [self.submit(_searched, specification, options, n) for n in numbers]
        prepared = self.submit(_prepared, specification, options, searches, smaller)
        drawn = [self.submit(_sampled, specification, prepared, n, self._stop) for n in numbers]
        return prepared, drawn

    def stop(self) -> None:
        """Let chains return what they have drawn."""
        self._stop.set()

    def give_up(self, futures: list[Any]) -> None:
        """Stop what is still at work for some futures, and forget it."""
        if futures:
            self.stop()
            self._client.cancel(futures)


def sample(problem: Problem, options: Options, progress: Progress, client: Any) -> NutsResult:
    """Sample the posterior as `nuts.sample` does, the chains on workers.

    Parameters
    ----------
    problem : Problem
    options : Options
    progress : Progress
    client : distributed.Client
    """
    workers = Workers(client, problem.data)
    interrupted = False
    ahead, chains = workers.chains(problem.specification, options, None)
    try:
        try:
            while not all(chain.done() for chain in chains):
                done = sum(chain.done() for chain in chains)
                progress.update(
                    f"Sampling {len(chains)} chains, each on one of {workers.count} workers that "
                    f"hold all rows: {done} done"
                )
                time.sleep(PAUSE)
        except KeyboardInterrupt:
            workers.stop()
            interrupted = True
        (prepared,) = _unfailed([_given(ahead)])
        drawn = _unfailed(_given(chain) for chain in chains)
    finally:
        workers.give_up([one for one in (ahead, *chains) if not one.done()])
    return _together(prepared, drawn, interrupted=interrupted)


def sweep[Score](
    client: Any,
    specifications: Sequence[GaussianMixture],
    data: Data,
    method: str,
    options: Options,
    progress: Progress,
    done: Mapping[Candidate, Parameters | FactorParameters | None],
    judge: Callable[[Outcome], Score],
    *,
    carried: bool,
) -> Generator[tuple[Outcome, Score]]:
    """Fit several specifications to the same data on workers, as `sweep.sweep` does here.

    Parameters
    ----------
    client : distributed.Client
    specifications, data, method, options, progress, done : as those of `sweep.sweep`
    judge : callable
        Computes what is to be known of an outcome, on a worker.
    carried : bool
        Whether the fits are to come back; else only what is known of them.

    Yields
    ------
    Outcome
        Of every specification one, in the order in which they are done.
    object
        What `judge` makes of it.
    """
    workers = Workers(client, data)
    count = len(specifications) + len(done)
    modes: dict[Candidate, Any] = dict(done)
    ends = {}
    for specification in specifications:
        k, structure = specification.known_number, specification.covariance.structure
        candidate = Candidate(k, structure)
        if method == "nuts":
            smaller = modes.get(Candidate(k - 1, structure))
            modes[candidate], drawn = workers.chains(specification, options, smaller)
            ends[candidate] = workers.submit(
                _collected, specification, options, modes[candidate], drawn, count, judge, carried
            )
        else:
            ends[candidate] = workers.submit(
                _approximated, specification, options, method, count, judge, carried
            )
    try:
        while ends:
            ready = next((one for one, end in ends.items() if end.done()), None)
            if ready is None:
                progress.update(
                    f"{count - len(ends)} of {count} fits done, on {workers.count} workers"
                )
                time.sleep(PAUSE)
                continue
            outcome, score, told = _given(ends.pop(ready))
            for warning in told:
                warnings.warn(warning, stacklevel=2)
            yield outcome, score
    finally:
        workers.give_up(list(ends.values()))


def _given(future: Any) -> Any:
    """Return the result of a future."""
    try:
        return future.result()
    except CancelledError as error:
        raise FitError(
            "The cluster must keep one worker at least that holds the rows; got none, all have "
            "died. Start workers with more memory, and fit again.",
            status="sampler",
        ) from error


def _unfailed[Result](results: Iterable[Result | Failed]) -> list[Result]:
    """Return results, or raise the first failure among them."""
    found = []
    for one in results:
        if isinstance(one, Failed):
            raise FitError(one.message, status=one.status)
        found.append(one)
    return found


def _together(prepared: Prepared, drawn: Sequence[Drawn], *, interrupted: bool) -> NutsResult:
    """Return what the chains of a fit drew."""
    return NutsResult.of(
        [(one.vectors, one.statistics) for one in drawn],
        modes=prepared.modes,
        integrators=tuple(start.coordinates.integrator for start in prepared.starts),
        tune=max(start.settings.tune for start in prepared.starts),
        seconds_tuned=prepared.seconds,
        seconds_sampled=max(one.seconds for one in drawn),
        interrupted=interrupted,
    )


def _at_work[**P, Result](task: Callable[P, Result]) -> Callable[P, Result | Failed]:
    """Return a task that has one thread for BLAS, and returns what goes wrong with a fit."""

    @wraps(task)
    def run(*arguments: P.args, **keywords: P.kwargs) -> Result | Failed:
        try:
            with threadpool_limits(limits=1, user_api="blas"), told_apart():
                return task(*arguments, **keywords)
        except FitError as error:
            return Failed(str(error), error.status)

    return run


@_at_work
def _searched(data: Data, specification: GaussianMixture, options: Options, number: int) -> Search:
    """Look for the modes that a chain may start from."""
    return search(Problem.make(specification, data), options, number)


@_at_work
def _prepared(
    data: Data,
    specification: GaussianMixture,
    options: Options,
    searches: Sequence[Search | Failed],
    smaller: Prepared | Failed | Parameters | FactorParameters | None,
) -> Prepared:
    """Choose and whiten the modes that chains start from."""
    began = time.perf_counter()
    found = _unfailed(searches)
    problem = Problem.make(specification, data)
    if isinstance(smaller, Prepared):
        smaller = smaller.best
    warm = () if smaller is None or isinstance(smaller, Failed) else grow(problem, smaller)
    run = Run(problem, options, warm)
    starts = tuple(run.start_from(one) for one in found)
    seconds = sum(one.seconds for one in found) + time.perf_counter() - began
    return Prepared(starts, run.distinct_modes, run.best.parameters, seconds)


@_at_work
def _sampled(
    data: Data, specification: GaussianMixture, prepared: Prepared | Failed, number: int, stop: Any
) -> Drawn:
    """Sample a chain to its end, or until it is stopped."""
    began = time.perf_counter()
    (ahead,) = _unfailed([prepared])
    chain = ahead.starts[number].chain_of(Problem.make(specification, data))
    while not chain.finished:
        chain.wait(ASKED_EVERY)
        if not chain.finished and stop.is_set():
            chain.abort()
            break
    vectors, statistics = chain.result()
    return Drawn(vectors, statistics, time.perf_counter() - began)


def _collected(
    data: Data,
    specification: GaussianMixture,
    options: Options,
    prepared: Prepared | Failed,
    drawn: Sequence[Drawn | Failed],
    count: int,
    judge: Callable[[Outcome], Any],
    carried: bool,
) -> tuple[Outcome, Any, list[Warning]]:
    """Make a fit of what its chains drew, and compute what is to be known of it."""

    def collected(problem: Problem) -> Outcome:
        (ahead,) = _unfailed([prepared])
        chains = _unfailed(drawn)
        began = time.perf_counter() - ahead.seconds - max(one.seconds for one in chains)
        result = to_draws(problem, options, _together(ahead, chains, interrupted=False))
        return outcome_of(problem, result, "nuts", options, began, count, ahead.best)

    best = None if isinstance(prepared, Failed) else prepared.best
    return _judged(Problem.make(specification, data), collected, best, judge, carried)


def _approximated(
    data: Data,
    specification: GaussianMixture,
    options: Options,
    method: str,
    count: int,
    judge: Callable[[Outcome], Any],
    carried: bool,
) -> tuple[Outcome, Any, list[Warning]]:
    """Fit by an approximation, and compute what is to be known of it."""

    def approximated(problem: Problem) -> Outcome:
        began = time.perf_counter()
        drawn = RUNNERS[method](problem, options, Progress(False))
        return outcome_of(problem, drawn, method, options, began, count, None)

    return _judged(Problem.make(specification, data), approximated, None, judge, carried)


def _judged(
    problem: Problem,
    ended: Callable[[Problem], Outcome],
    best: Parameters | FactorParameters | None,
    judge: Callable[[Outcome], Any],
    carried: bool,
) -> tuple[Outcome, Any, list[Warning]]:
    """Return an outcome, what is to be known of it, and what was said meanwhile."""
    with ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        outcome = _at_work(ended)(problem)
        if isinstance(outcome, Failed):
            outcome = Outcome(candidate_of(problem), None, failure=outcome.message, mode=best)
        with threadpool_limits(limits=1, user_api="blas"):
            score = judge(outcome)
    told = [one.message for one in caught if isinstance(one.message, Warning)]
    return outcome if carried else replace(outcome, tree=None), score, told
