"""Fits of one specification to several parts of the data, beside one another."""

import time
import warnings
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Final

import xarray as xr

from bayesgmm import names
from bayesgmm.data import Data
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.inference import telescoping
from bayesgmm.inference.assemble import Options, assemble
from bayesgmm.inference.fit import fit, provenance
from bayesgmm.inference.nuts import Run, to_draws, told_apart
from bayesgmm.inference.progress import Progress
from bayesgmm.kernels.threads import n_cores
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem

PAUSE: Final = 0.02
"""Seconds to wait where there is nothing to do but wait for chains."""
TOO_MANY: Final = 2**62
"""Fits held at the same time, of which no log-likelihood is stored: none is asked for."""


def refit(
    specification: GaussianMixture,
    parts: Sequence[Data],
    method: str,
    options: Options,
    seeds: Sequence[int],
    progress: Progress,
) -> Generator[tuple[int, xr.DataTree]]:
    """Fit a specification to parts of the data, and yield the fits as they are done.

    Parameters
    ----------
    specification : GaussianMixture
        Resolved, so that priors do not depend on the part.
    parts : sequence of Data
    method : str
        As in the attributes of a fit.
    options : Options
    seeds : sequence of int
        Of every fit one.
    progress : Progress

    Yields
    ------
    number : int
        Of the part.
    tree : DataTree
        Its fit.

    Raises
    ------
    FitError
        If a fit fails.

    Notes
    -----
    By NUTS, chains of several fits sample beside one another: as many as there are cores, or as
    one fit has, if that is more. Meanwhile the next fit is prepared and the last one evaluated.
    Other methods use all cores for one fit. What a fit draws depends on its seed alone.

    Every fit searches for modes of its own, as `fit` does: to start where the fit of all rows
    was would save the search, which hides behind the sampling of other fits, and might miss a
    mode that only a part has.
    """
    if method == "nuts":
        yield from _by_nuts(specification, parts, options, seeds, progress)
        return
    for number, (part, seed) in enumerate(zip(parts, seeds, strict=True)):
        _say(progress, number, len(parts))
        yield number, _fit(specification, part, method, replace(options, random_seed=seed))


def _by_nuts(
    specification: GaussianMixture,
    parts: Sequence[Data],
    options: Options,
    seeds: Sequence[int],
    progress: Progress,
) -> Generator[tuple[int, xr.DataTree]]:
    """Yield fits whose chains sample while the next are prepared."""
    room = max(n_cores(), options.chains)
    runs: dict[Run, int] = {}
    n_done = 0
    try:
        for number, (part, seed) in enumerate(zip(parts, seeds, strict=True)):
            problem = Problem.make(specification, part)
            run = Run(problem, replace(options, random_seed=seed), warm=())
            runs[run] = number
            while run.prepared < options.chains:
                with told_apart():
                    start = run.prepare()
                while _sampling(runs) >= room:
                    _wait(runs)
                with told_apart():
                    run.launch(start)
            for finished in [run for run in runs if run.complete]:
                yield runs.pop(finished), _collected(finished)
                n_done += 1
            _say(progress, n_done, len(parts))
        while runs:
            for finished in [run for run in runs if run.complete]:
                yield runs.pop(finished), _collected(finished)
                n_done += 1
            _say(progress, n_done, len(parts))
            _wait(runs)
    finally:
        for run in runs:
            run.abort()


def _collected(run: Run) -> xr.DataTree:
    """Return the fit whose chains have finished."""
    began = time.perf_counter()
    with told_apart():
        drawn = to_draws(run.problem, run.options, run.result(interrupted=False))
    attrs = provenance(run.problem, run.options, "nuts", "fused", began)
    return assemble(run.problem, drawn, attrs, sharing=TOO_MANY)


def _fit(specification: GaussianMixture, part: Data, method: str, options: Options) -> xr.DataTree:
    """Return a fit by a method that uses all cores by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # who asked checks the fit
        tree = fit(
            part.labelled(part.values),
            specification,
            measurement_error=part.errors,
            sample_weight=part.sample_weight,
            labels=part.allowed,
            method="nuts" if method in telescoping.METHODS else method,
            draws=options.draws,
            chains=options.chains,
            random_seed=options.random_seed,
            progressbar=False,
        )
    if tree.attrs.get(names.INTERRUPTED):
        raise KeyboardInterrupt
    return tree


def _sampling(runs: dict[Run, int]) -> int:
    """Return how many chains are at work."""
    return sum(not chain.finished for run in runs for chain in run.chains)


def _wait(runs: dict[Run, int]) -> None:
    """Wait a moment for the first chain that is at work."""
    chain = next((one for run in runs for one in run.chains if not one.finished), None)
    if chain is not None:
        chain.wait(PAUSE)


def _say(progress: Progress, done: int, count: int) -> None:
    progress.update(f"Fitting without some rows: {done} of {count} done")
