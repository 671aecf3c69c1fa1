"""NUTS on the fused log posterior: every chain from a mode of its own, whitened there."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesgmm.errors import FitError
from bayesgmm.inference.chains import Chain, Settings
from bayesgmm.inference.em import Mode, Target, distinct, find_modes
from bayesgmm.inference.laplace import LARGEST_DENSE, whitening
from bayesgmm.inference.problem import Problem
from bayesgmm.inference.progress import Progress

type Array = NDArray[np.float64]

STARTS_PER_CHAIN = 8
"""EM runs, of which a chain starts at the best."""
TUNE_WHITENED, TUNE_PLAIN = 200, 800
"""Tuning draws with the Laplace covariance at hand, and without it."""
TRIES = 10
"""Draws around a mode until one has a finite density."""


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
    tune: int
    seconds_tuned: float
    seconds_sampled: float
    interrupted: bool


def sample(
    problem: Problem,
    *,
    draws: int,
    tune: int | None,
    chains: int,
    target_accept: float,
    seeds: np.random.SeedSequence,
    progress: Progress,
) -> NutsResult:
    """Sample the posterior.

    Parameters
    ----------
    problem : Problem
    draws : int
    tune : int or None
        None: 200, or 800 where there are too many parameters to whiten.
    chains : int
    target_accept : float
    seeds : numpy.random.SeedSequence
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
    A gradient is one pass, O(N K D^2); draws take some ten gradients each.
    """
    plain = problem.n_parameters > LARGEST_DENSE
    if tune is None:
        tune = TUNE_PLAIN if plain else TUNE_WHITENED
    began = time.perf_counter()
    settings = Settings(draws, tune, target_accept, "low_rank" if plain else "diag")
    modes: list[Mode] = []
    running: list[Chain] = []
    try:
        for number, seed in enumerate(seeds.spawn(chains)):
            progress.update(f"Finding the mode that chain {number} starts from")
            found, chain = _launch(problem, seed, settings)
            modes.extend(found)
            running.append(chain)
        prepared = time.perf_counter()
        interrupted = _wait(running, draws + tune, progress)
        results = [chain.result() for chain in running]
    except BaseException as error:
        for chain in running:
            chain.abort()
        if isinstance(error, RuntimeError) and not isinstance(error, FitError):
            reason = str(error).partition("\n\nStack backtrace")[0]
            raise FitError(f"The sampler failed: {reason}", status="sampler") from error
        raise
    length = min(len(vectors) for vectors, _ in results)
    if length < 2:
        raise FitError(
            f"Sampling was interrupted while chains were tuning; got {length} draws after it. "
            f"Let it run longer, or ask for fewer `draws`.",
            status="interrupted",
        )
    return NutsResult(
        vectors=np.stack([vectors[:length] for vectors, _ in results]),
        statistics={
            name: np.stack([statistics[name][:length] for _, statistics in results])
            for name in results[0][1]
        },
        modes=tuple(distinct(modes)),
        tune=tune,
        seconds_tuned=prepared - began,
        seconds_sampled=time.perf_counter() - prepared,
        interrupted=interrupted,
    )


def _launch(
    problem: Problem, seed: np.random.SeedSequence, settings: Settings
) -> tuple[tuple[Mode, ...], Chain]:
    """Return the modes that a search of its own finds, and a chain started around the best."""
    rng = np.random.default_rng(seed)
    found = find_modes(
        problem, Target.MAP, rng,
        n_starts=STARTS_PER_CHAIN, hierarchical=False, fallback=True,
    )  # fmt: skip
    center = found.best.vector
    factor = whitening(problem, center)
    of_sampler = int(rng.integers(2**62))
    start = _start(problem, center, factor, rng)
    return found.modes, Chain(problem, center, factor, start, settings, seed=of_sampler)


def _start(problem: Problem, mode: Array, factor: Array, rng: np.random.Generator) -> Array:
    """Return the first z of a chain: a draw of the Laplace approximation around its mode.

    Never the mode itself: the sampler takes its first scales from the gradient, which is zero
    there.
    """
    spread = 1.0 if factor.ndim == 2 else 0.1
    for _ in range(TRIES):
        z = spread * rng.normal(size=mode.size)
        value, slopes = problem.log_posterior(mode + (factor @ z if factor.ndim == 2 else z))
        if np.isfinite(value) and np.isfinite(slopes).all():
            return z
        spread *= 0.5
    raise FitError(
        f"The log posterior is not finite around the mode found by EM; got none in {TRIES} tries. "
        f"Rescale `X`, or give priors that exclude extreme scales.",
        status="sampler",
    )


def _wait(running: list[Chain], total: int, progress: Progress) -> bool:
    """Wait until all chains have finished; return whether they were interrupted before."""
    everything = total * len(running)
    try:
        for chain in running:
            while not chain.finished:
                chain.wait(0.1)
                made, divergences = np.sum([one.progress for one in running], axis=0)
                progress.update(
                    f"Sampling {len(running)} chains: {made / everything:.0%}, "
                    f"{divergences} divergences"
                )
    except KeyboardInterrupt:
        for chain in running:
            chain.abort()
        return True
    return False
