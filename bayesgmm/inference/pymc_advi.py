"""ADVI and Laplace's approximation of a PyMC model, as it is or as the user changed it."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from scipy.optimize import minimize

from bayesgmm import names
from bayesgmm.errors import FitError
from bayesgmm.inference.advi import TOLERANCE, UNREACHABLE, warn_unconverged
from bayesgmm.inference.approximation import (
    FEWEST_PROPOSALS,
    Normal,
    propose,
    settle,
)
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.laplace import WIDEST_DRAWN, factor_of, find_frame, warn_no_mode
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.pymc_engine import Ready, all_parameters, make_ready
from bayesgmm.inference.pymc_starts import start_near
from bayesgmm.posterior_density import STEP, Density, curvature_of
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

RATE: Final = 0.01
"""Step of Adam, in standard deviations of the Laplace approximation."""
FLAT: Final = 1e-2
"""Nats that a mode may be away from its top, by its slope and curvature."""
WINDOW: Final = 1000
"""Steps that are averaged; the ELBO has converged when it does not grow from window to window."""
MOST_WINDOWS: Final = 20


@dataclass(frozen=True, eq=False)
class Top:
    """A mode of a PyMC model.

    Parameters
    ----------
    hessian : array, shape (P, P)
        Minus that of the log density, in `units`.
    units : array, shape (P,)
        What a change of each unconstrained value is measured in.
    normal : Normal
        The Laplace approximation.
    converged : bool
        Whether it was reached to the tolerance.
    """

    hessian: Array
    units: Array
    normal: Normal
    converged: bool


@dataclass(frozen=True, eq=False)
class Fitted:
    """What PyMC's ADVI came to.

    Parameters
    ----------
    normal : Normal
    trace : array
        ELBO after each step, of one draw.
    converged : bool
    interrupted : bool
    """

    normal: Normal
    trace: Array
    converged: bool
    interrupted: bool


def approximate_model(
    method: str,
) -> Callable[[Problem, pm.Model | None, Options, Progress], Draws]:
    """Return what draws from an approximation of the posterior of a PyMC model.

    Parameters
    ----------
    method : str
        ``"laplace"``, ``"advi"`` or ``"fullrank_advi"``; the last two are PyMC's.

    Returns
    -------
    callable
        Of the problem (the data, and the specification whose modes the search starts from), the
        model (None: the one that `build_model` makes), options and progress. It raises
        ValueError if the model was built for other data, FitError if no start has a finite
        density or ADVI diverged; it warns if the mode, or the ELBO, was not reached to the
        tolerance, or the user interrupted.
    """

    def run(
        problem: Problem, model: pm.Model | None, options: Options, progress: Progress
    ) -> Draws:
        began = time.perf_counter()
        rng = np.random.default_rng(options.random_seed)
        ready = make_ready(problem, model, progress)
        density = _density(ready)
        frame, share, modes = find_frame(problem, rng, progress)
        start = start_near(ready.model, ready.compiled, problem, frame.mode, rng)
        top = _climb(density, start, _units(ready, problem), progress)
        if method == "laplace":
            fitted = Fitted(top.normal, np.empty(0), top.converged, False)
        else:
            fitted = _advi(ready, top, method, rng, progress)
        if not fitted.converged and method == "laplace":
            warn_no_mode()
        elif not fitted.converged:
            warn_unconverged(fitted.interrupted)
        prepared = time.perf_counter()
        wanted = max(FEWEST_PROPOSALS, options.chains * options.draws)
        proposals = propose(fitted.normal, density, wanted, rng, progress)
        settled = settle(fitted.normal, density, proposals, options, rng, progress)
        variables = ready.compiled.expand(settled.vectors)
        parameters = all_parameters({name: variables[name] for name in ready.stored})
        return Draws(
            parameters=parameters,
            statistics=settled.statistics,
            modes=modes,
            others=ready.labelled(variables, settled.statistics[names.LP].shape),
            optimization=_optimization(fitted.trace, problem.data.n_obs),
            own_likelihood=ready.own_likelihood(problem, settled.vectors, parameters),
            attrs={
                **settled.attrs,
                names.CONVERGED: int(fitted.converged),
                names.INTERRUPTED: int(
                    fitted.interrupted or bool(settled.attrs[names.INTERRUPTED])
                ),
                names.MODE_SHARE: share,
                "tuning_time": prepared - began,
                "sampling_time": time.perf_counter() - prepared,
            },
        )

    return run


def _optimization(trace: Array, n_obs: int) -> dict[str, NDArray[Any]]:
    """Return the group ``optimization``; nothing if there was none."""
    if not trace.size:
        return {}
    return {
        names.ELBO: trace,
        names.ELBO_DRAWS: np.ones(trace.size, dtype=np.int64),
        names.ELBO_ROWS: np.full(trace.size, n_obs, dtype=np.int64),
    }


def _density(ready: Ready) -> Density:
    """Return the log density of a compiled model, which is evaluated vector by vector."""

    def density(vectors: Array) -> tuple[Array, Array]:
        values, gradients = np.empty(len(vectors)), np.empty(vectors.shape)
        for s, vector in enumerate(vectors):
            values[s], gradients[s] = ready.compiled.log_posterior(vector)
        return values, gradients

    return density


def _units(ready: Ready, problem: Problem) -> Array:
    """Return what a change of each unconstrained value is measured in, shape (P,).

    The units of the data for means; 1 for whatever else is free, which has been transformed or
    is the user's own.
    """
    units = []
    for variable in ready.model.free_RVs:
        value = ready.model.rvs_to_values[variable]
        shape = tuple(ready.compiled.shapes[value.name])
        own = variable.name == names.MEANS and shape[-1:] == problem.unit.shape
        units.append(np.broadcast_to(problem.unit if own else 1.0, shape).ravel())
    return np.concatenate(units)


def _climb(density: Density, start: Array, units: Array, progress: Progress) -> Top:
    """Return the mode of a density near a point, and the Laplace approximation there."""

    def negative(scaled: Array) -> tuple[float, Array]:
        progress.update("Climbing to the mode of the model")
        values, gradients = density(scaled[None] * units)
        if not (np.isfinite(values[0]) and np.isfinite(gradients).all()):
            return UNREACHABLE, np.zeros(scaled.size)
        return -float(values[0]), -gradients[0] * units

    found = minimize(
        negative, start / units, jac=True, method="L-BFGS-B",
        options={"maxcor": 20, "maxiter": 1000, "ftol": 1e-15, "gtol": 1e-7},
    )  # fmt: skip
    mode = found.x * units
    steps = STEP * units
    hessian = curvature_of(density, mode, steps) * units * units[:, None]
    values, _ = np.linalg.eigh(hessian)
    flat = float(found.jac @ np.linalg.pinv(hessian, hermitian=True) @ found.jac)
    normal = Normal(mode, units[:, None] * factor_of(hessian, WIDEST_DRAWN), 0.0)
    return Top(hessian, units, normal, bool(values[0] > 0.0 and flat < FLAT))


def _advi(
    ready: Ready, top: Top, method: str, rng: np.random.Generator, progress: Progress
) -> Fitted:
    """Run PyMC's ADVI from the Laplace approximation, in steps measured by it.

    Its parameters are averaged over the last steps (Polyak & Juditsky 1992).
    """
    progress.announce("Compiling PyMC's ADVI")
    kind, start = (pm.ADVI, _mean_field) if method == "advi" else (pm.FullRankADVI, _full_rank)
    inference = kind(model=ready.model, random_seed=int(rng.integers(2**31)))
    params = inference.approx.params
    values, rates = start(top)
    for param in params:
        param.set_value(values[param.name])
    watch = _Watch(progress)
    try:
        with _silent(logging.getLogger("pymc.variational.inference")):
            inference.fit(
                WINDOW * MOST_WINDOWS,
                progressbar=False,
                callbacks=[watch],
                obj_optimizer=_adam(rates),
            )
    except FloatingPointError as error:
        raise FitError(
            f"PyMC's ADVI diverged: {str(error).splitlines()[0]} Use method='nuts', or give what "
            f"was added to the model narrower priors.",
            status="not_converged",
        ) from error
    last = watch.averages() or {param.name: param.get_value() for param in params}
    return Fitted(
        normal=Normal(last["mu"], _factor(last), 0.0),
        trace=-np.asarray(inference.hist),
        converged=watch.converged,
        interrupted=not watch.converged and watch.steps < WINDOW * MOST_WINDOWS,
    )


def _mean_field(top: Top) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the values that PyMC's ADVI starts from, and its rates, by parameter."""
    scales = top.units / np.sqrt(np.maximum(np.diagonal(top.hessian), WIDEST_DRAWN**-2.0))
    values = {"mu": top.normal.center, "rho": np.log(np.expm1(scales))}
    return values, {"mu": RATE * scales, "rho": RATE * scales / -np.expm1(-scales)}


def _full_rank(top: Top) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the values that PyMC's full-rank ADVI starts from, and its rates, by parameter."""
    lower = np.linalg.cholesky(top.normal.factor @ top.normal.factor.T)
    scales = np.diagonal(lower).copy()
    rates = np.tile(scales[:, None], scales.size)
    np.fill_diagonal(rates, scales / -np.expm1(-scales))
    np.fill_diagonal(lower, np.log(np.expm1(scales)))
    triangle = np.tril_indices(scales.size)
    values = {"mu": top.normal.center, "L_tril": lower[triangle]}
    return values, {"mu": RATE * scales, "L_tril": RATE * rates[triangle]}


def _factor(params: dict[str, Array]) -> Array:
    """Return the factor, shape (P, P) or (P,), that PyMC's parameters stand for."""
    if "rho" in params:
        return np.log1p(np.exp(params["rho"]))
    n = params["mu"].size
    lower = np.zeros((n, n))
    lower[np.tril_indices(n)] = params["L_tril"]
    np.fill_diagonal(lower, np.log1p(np.exp(np.diagonal(lower))))
    return lower


def _adam(rates: dict[str, Array]) -> Callable[..., dict[Any, Any]]:
    """Return Adam (Kingma & Ba 2015) with a rate for every entry of every parameter."""

    def optimizer(gradients: Any, params: Any) -> dict[Any, Any]:
        updates: dict[Any, Any] = {}
        for gradient, param in zip(gradients, params, strict=True):
            updates |= pm.adam([gradient], [param], learning_rate=rates[param.name])
        return updates

    return optimizer


class _Watch:
    """Stops ADVI when the ELBO grows no more, and averages its parameters.

    Parameters
    ----------
    progress : Progress
    """

    def __init__(self, progress: Progress) -> None:
        self.steps = 0
        self.converged = False
        self._progress = progress
        self._sums: dict[str, Array] = {}
        self._averages: dict[str, Array] = {}

    def __call__(self, approx: Any, losses: Array, step: int) -> None:
        """Look at the state after a step; raise StopIteration where it is time."""
        self._progress.update(f"Maximising the ELBO: step {step}")
        self.steps = step
        for param in approx.params:
            self._sums[param.name] = self._sums.get(param.name, 0.0) + param.get_value()
        if step % WINDOW:
            return
        self._averages = {name: total / WINDOW for name, total in self._sums.items()}
        self._sums = {}
        if step < 2 * WINDOW:
            return
        before, now = losses[-2 * WINDOW : -WINDOW], losses[-WINDOW:]
        error = np.hypot(before.std(), now.std()) / WINDOW**0.5
        if before.mean() - now.mean() < max(TOLERANCE, 2.0 * error):
            self.converged = True
            raise StopIteration

    def averages(self) -> dict[str, Array]:
        """Return the averages over the last whole window; empty if there was none."""
        return self._averages


@contextmanager
def _silent(logger: logging.Logger) -> Iterator[None]:
    """Let a logger say nothing: progress is reported in our own way."""
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
