"""NUTS in JAX: all chains of a fit in one program, on the device that JAX prefers.

Chains begin where those of `nuts` do and sample the same coordinates, by BlackJAX's NUTS in place
of nutpie's. BlackJAX's samplers are functions: data are arguments of the compiled program and no
constants in it, tuning and sampling are one program, compiled once for a shape of the data, and
the loop around it is ours, to say how far it has come and to be interrupted.

Double precision is enabled here and nowhere else: JAX as the user has configured it stays so.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.coordinates import Start
from bayesgmm.inference.em import distinct
from bayesgmm.inference.nuts import NutsResult, Run, interrupted_too_early, to_draws
from bayesgmm.inference.progress import Progress
from bayesgmm.problem import Problem

try:
    import blackjax
    import jax
    import jax.numpy as jnp
    from blackjax.adaptation.mass_matrix import mass_matrix_adaptation
    from blackjax.adaptation.step_size import dual_averaging_adaptation
    from blackjax.adaptation.window_adaptation import build_schedule
    from blackjax.mcmc.hmc import HMCState
except ImportError as error:
    raise ImportError(
        f"`engine` 'jax' must have JAX and BlackJAX; got {error}. "
        f'Run `pip install "bayesgmm[jax]"`.'
    ) from error

from bayesgmm.inference.jax_posterior import Kind, Numbers, log_posterior, unpack

type Array = NDArray[np.float64]

AT_A_TIME: Final = 50
"""Draws between two looks at the clock, and at whether the user has had enough."""


def sample(problem: Problem, options: Options, progress: Progress) -> Draws:
    """Sample the posterior, all chains side by side.

    Parameters
    ----------
    problem : Problem
        Of complete rows.
    options : Options
    progress : Progress

    Returns
    -------
    Draws

    Raises
    ------
    FitError
        If no chain can start (status ``"sampler"``), or sampling was interrupted before two draws
        after tuning (``"interrupted"``).

    Warns
    -----
    ConvergenceWarning
        If sampling was interrupted: the draws made so far are returned.

    Notes
    -----
    Modes are found and whitened by the fused engine's kernels. A gradient is one pass for every
    chain, O(N K D^2), and all chains make as many as the one that needs most for a draw.
    """
    began = time.perf_counter()
    run = Run(problem, options, warm=())
    starts = []
    for number in range(options.chains):
        progress.update(f"Finding the mode that chain {number} starts from")
        starts.append(run.prepare())
    prepared = time.perf_counter()
    tune, parts, interrupted = run.settings.tune, [], False
    try:
        with jax.enable_x64(True):
            for part in _in_parts(run, starts, progress):
                parts.append(part)
    except KeyboardInterrupt:
        interrupted = True
    made = min(len(parts) * AT_A_TIME - tune, options.draws)
    if made < 2:
        raise interrupted_too_early(max(made, 0))
    if interrupted:
        warnings.warn(
            f"Sampling was interrupted: {made} of {options.draws} draws per chain are returned.",
            ConvergenceWarning,
            stacklevel=3,
        )
    vectors, statistics = jax.tree.map(
        lambda *arrays: np.concatenate(arrays, axis=1)[:, tune : tune + made], *parts
    )
    result = NutsResult(
        vectors=vectors,
        statistics=statistics,
        modes=tuple(distinct(tuple(run.modes))),
        integrators=("leapfrog",),
        tune=tune,
        seconds_tuned=prepared - began,
        seconds_sampled=time.perf_counter() - prepared,
        interrupted=interrupted,
    )
    drawn = to_draws(problem, options, result)
    return replace(drawn, attrs={**drawn.attrs, names.DEVICE: jax.devices()[0].device_kind})


class Tuning(NamedTuple):
    """How a chain moves, and what that is learnt from: states of BlackJAX."""

    steps: Any
    moments: Any
    step_size: Any


def _in_parts(
    run: Run, starts: list[Start], progress: Progress
) -> Iterator[tuple[Array, dict[str, NDArray[Any]]]]:
    """Yield vectors, shape (chains, n, P), and statistics, those of tuning draws too."""
    options, tune = run.options, run.settings.tune
    progress.update("Compiling for JAX")
    kind, numbers = unpack(run.problem.flat, options.chains)
    around = tuple(
        jnp.stack([getattr(start.coordinates, part) for start in starts])
        for part in ("center", "factor")
    )
    states = jax.tree.map(
        lambda *of_each: np.stack(of_each), *map(partial(_at, run.problem), starts)
    )
    tunings = jax.tree.map(  # a dtype that was said is kept: else all is compiled once more
        lambda value: jnp.asarray(value, value.dtype), jax.vmap(_untuned)(states.position)
    )
    n_parts = -(-(tune + options.draws) // AT_A_TIME)
    stages = _stages(tune, n_parts * AT_A_TIME).reshape(n_parts, -1)
    seeds = jnp.stack([jax.random.key(start.seed) for start in starts])
    divergences = 0
    for number in range(n_parts):
        states, tunings, part = _advance(
            states, tunings, seeds, number, stages[number], around, numbers,
            run.settings.target_accept, kind,
        )  # fmt: skip
        vectors, statistics = jax.tree.map(lambda one: np.swapaxes(one, 0, 1), part)
        yield vectors, statistics
        divergences += statistics[names.DIVERGING].sum()
        progress.update(
            f"Sampling {options.chains} chains: {(number + 1) / n_parts:.0%}, "
            f"{divergences} divergences"
        )


def _at(problem: Problem, start: Start) -> Any:
    """Return the state of a chain at its start."""
    around = start.coordinates
    value, slopes = problem.log_posterior(_place(start.z, around.center, around.factor))
    by_z = around.factor.T @ slopes if around.factor.ndim == 2 else around.factor * slopes
    return HMCState(start.z, value, by_z)


def _place(z: Any, center: Any, factor: Any) -> Any:
    """Return the unconstrained vector that z stands for."""
    return center + (factor @ z if factor.ndim == 2 else factor * z)


def _untuned(position: Any) -> Tuning:
    """Return the tuning of a chain that has not moved."""
    begin, *_ = dual_averaging_adaptation(0.8)
    of_matrix, *_ = mass_matrix_adaptation()
    return Tuning(begin(1.0), of_matrix(position.size), 1.0)


def _stages(tune: int, length: int) -> NDArray[np.int64]:
    """Return what is tuned after every draw, in places of the choices of `_tuned`."""
    stages = np.full(length, 4)
    stages[:tune] = np.asarray(build_schedule(tune)).sum(axis=1)
    stages[tune - 1] = 3
    return stages


def _tuned(tuning: Tuning, stage: Any, position: Any, acceptance: Any, target: Any) -> Tuning:
    """Return a tuning that knows of one draw more, as Stan does it."""
    begin, update, average = dual_averaging_adaptation(target)
    _, more, estimate = mass_matrix_adaptation()

    def step_size(old: Tuning) -> Tuning:
        steps = update(old.steps, acceptance)
        return Tuning(steps, old.moments, jnp.exp(steps.log_step_size))

    def matrix_too(old: Tuning) -> Tuning:
        return step_size(old)._replace(moments=more(old.moments, position))

    def end_of_window(old: Tuning) -> Tuning:
        new = matrix_too(old)
        steps = begin(average(new.steps))
        return Tuning(steps, estimate(new.moments), jnp.exp(steps.log_step_size))

    def end_of_tuning(old: Tuning) -> Tuning:
        new = step_size(old)
        return new._replace(step_size=average(new.steps))

    stages = (step_size, matrix_too, end_of_window, end_of_tuning, lambda old: old)
    return Tuning(*jax.lax.switch(stage, stages, tuning))


@partial(jax.jit, static_argnames=("kind",))
def _advance(
    states: Any, tunings: Any, seeds: Any, number: Any, stages: Any, around: Any,
    numbers: Numbers, target: Any, kind: Kind,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """Return states and tunings of all chains after some draws; and vectors and statistics."""
    kernel = blackjax.nuts.build_kernel()

    def of_chain(before: Any, key: Any, stage: Any, around: Any) -> Any:
        state, tuning = before

        def density(z: Any) -> Any:
            return log_posterior(_place(z, *around), numbers, kind)

        matrix = tuning.moments.inverse_mass_matrix
        state, info = kernel(key, state, density, tuning.step_size, matrix)
        statistics = {
            names.LP: state.logdensity,
            names.DIVERGING: info.is_divergent,
            names.ENERGY: info.energy,
            names.TREE_DEPTH: info.num_trajectory_expansions,
            names.N_STEPS: info.num_integration_steps,
            names.STEP_SIZE: tuning.step_size,
            names.ACCEPTANCE_RATE: info.acceptance_rate,
        }
        tuning = _tuned(tuning, stage, state.position, info.acceptance_rate, target)
        return (state, tuning), (_place(state.position, *around), statistics)

    def once(before: Any, given: Any) -> Any:
        keys, stage = given
        return jax.vmap(of_chain, in_axes=(0, 0, None, 0))(before, keys, stage, around)

    def split(seed: Any) -> Any:
        return jax.random.split(jax.random.fold_in(seed, number), AT_A_TIME)

    given = jax.vmap(split, out_axes=1)(seeds), stages
    (states, tunings), made = jax.lax.scan(once, (states, tunings), given)
    return states, tunings, made
