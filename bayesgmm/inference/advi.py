"""Automatic differentiation variational inference: the Normal distribution nearest the posterior.

Kucukelbir, Tran, Ranganath, Gelman & Blei (2017) maximise

    ELBO(q) = E_q log p(x) - E_q log q(x),    x = center + factor z,    z standard Normal,

by stochastic gradients. Here the expectation is over draws of z that are made once (Giordano,
Ingram & Broderick 2024): the ELBO is then a smooth function with an exact gradient, which a
quasi-Newton method brings to its top in some ten evaluations. The draws come in pairs z, -z and
have the identity as their covariance, so that expectations of cubic polynomials are exact, and a
few hundred draws do for what would take many thousands of independent ones. Fresh draws then
tell whether the maximum is one of the distribution or of the draws alone.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, minimize

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.inference.approximation import (
    FEWEST_PROPOSALS,
    Normal,
    Proposals,
    propose,
    settle,
)
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.families import Family
from bayesgmm.inference.laplace import LARGEST_DENSE, Frame, find_frame
from bayesgmm.inference.progress import Progress
from bayesgmm.posterior_density import Density, subset, whole
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]

FEWEST_DRAWS: Final = 256
"""Draws that the ELBO is first averaged over, at the least."""
DRAWS_PER_PARAMETER: Final = 4
"""A full covariance takes as many draws for each parameter: with fewer than two it diverges."""
MOST_NUMBERS: Final = 2**24
"""Numbers that draws and their gradients may each hold: 128 MiB."""
FEWEST_ROWS: Final = 10_000
ROWS_PER_PARAMETER: Final = 20
"""Rows that the ELBO is first summed over, where there are more than twice as many."""
MOST_BENT: Final = 0.5
"""Share of the curvature of all rows, along any direction, that some rows may get wrong."""
GROWTH: Final = 4
"""Factor by which draws and rows grow if they were too few."""
ROUNDS: Final = 3
TOLERANCE: Final = 0.1
"""Nats by which the ELBO may fall on fresh draws and all rows."""
FLAT: Final = 1e-2
"""Slope of the ELBO, in nats per standard deviation, at which it is at its top."""
NARROWEST: Final = -20.0
"""Log of how much narrower than the Laplace approximation a search may start."""
UNREACHABLE: Final = 1e100
"""Stands for minus an ELBO that is not finite."""


@dataclass(frozen=True, eq=False)
class Maximum:
    """Where the ELBO of some draws is largest.

    Parameters
    ----------
    t : array, shape (size,)
    elbo : float
        In nats.
    trace : array
        ELBO after each step.
    converged : bool
    interrupted : bool
        Whether the user stopped the search; `t` is then the best point met.
    """

    t: Array
    elbo: float
    trace: Array
    converged: bool
    interrupted: bool


@dataclass(frozen=True, eq=False)
class Fitted:
    """The nearest distribution that was found.

    Parameters
    ----------
    normal : Normal
    proposals : Proposals
        Draws of it.
    optimization : dict of str to array, shape (iterations,)
    converged : bool
    interrupted : bool
    """

    normal: Normal
    proposals: Proposals
    optimization: dict[str, NDArray[Any]]
    converged: bool
    interrupted: bool


def approximate(kind: type[Family]) -> Callable[[Problem, Options, Progress], Draws]:
    """Return the method that draws from the nearest distribution of a family.

    Parameters
    ----------
    kind : type of Family

    Returns
    -------
    callable
        It raises FitError if every start ended in a collapsed component (status
        ``"degenerate"``), or the user interrupted before there were two draws for a chain
        (``"interrupted"``); it warns if the ELBO did not converge, or the user interrupted.
    """

    def run(problem: Problem, options: Options, progress: Progress) -> Draws:
        if kind.dense:
            refuse_many(problem.n_parameters)
        began = time.perf_counter()
        rng = np.random.default_rng(options.random_seed)
        frame, share, modes = find_frame(problem, rng, progress)
        fitted = _fit(problem, kind(frame), options, rng, progress)
        if not fitted.converged:
            warn_unconverged(fitted.interrupted)
        prepared = time.perf_counter()
        density = whole(problem)
        settled = settle(fitted.normal, density, fitted.proposals, options, rng, progress)
        interrupted = fitted.interrupted or bool(settled.attrs[names.INTERRUPTED])
        return Draws(
            parameters=problem.constrain(settled.vectors),
            statistics=settled.statistics,
            modes=modes,
            optimization=fitted.optimization,
            attrs={
                **settled.attrs,
                names.CONVERGED: int(fitted.converged),
                names.INTERRUPTED: int(interrupted),
                names.MODE_SHARE: share,
                "tuning_time": prepared - began,
                "sampling_time": time.perf_counter() - prepared,
            },
        )

    return run


def refuse_many(n_parameters: int) -> None:
    """Refuse a covariance matrix of too many parameters."""
    if n_parameters > LARGEST_DENSE:
        raise ValueError(
            f"`method` must be 'advi', 'laplace' or 'nuts' for a model of more than "
            f"{LARGEST_DENSE} free parameters; got 'fullrank_advi' with {n_parameters}. Its "
            f"covariance matrix would need some {DRAWS_PER_PARAMETER * n_parameters} draws for "
            f"every step."
        )


def warn_unconverged(interrupted: bool) -> None:
    """Warn that the ELBO is not at its top."""
    reason = "ADVI was interrupted" if interrupted else "ADVI did not converge"
    warnings.warn(
        f"{reason}: the ELBO may be some way below its top. See `pareto_k` in the attributes for "
        f"what the draws are worth, or use method='nuts'.",
        ConvergenceWarning,
        stacklevel=4,
    )


def _fit(
    problem: Problem,
    family: Family,
    options: Options,
    rng: np.random.Generator,
    progress: Progress,
) -> Fitted:
    """Maximise the ELBO of ever more draws and rows, until fresh draws and all rows confirm it."""
    n_parameters = problem.n_parameters
    n_draws = max(FEWEST_DRAWS, DRAWS_PER_PARAMETER * n_parameters)
    n_rows = max(FEWEST_ROWS, ROWS_PER_PARAMETER * n_parameters)
    wanted = max(FEWEST_PROPOSALS, options.chains * options.draws)
    everything = whole(problem)
    starts, traces, sizes = [np.zeros(family.size)], [], []
    confirmed = interrupted = False
    for _ in range(ROUNDS):
        density, n_rows = _summed_over(problem, family.frame, n_rows, rng)
        n_draws = min(n_draws, MOST_NUMBERS // n_parameters)
        z = paired_draws(n_draws, n_parameters, rng)
        top = maximise(family, density, z, starts, progress)
        normal = family.normal(top.t)
        starts.append(top.t)
        traces.append(top.trace)
        sizes += [(n_draws, n_rows)] * top.trace.size
        proposals = propose(normal, everything, wanted, rng, progress)
        interrupted = top.interrupted or proposals.log_p.size < wanted
        confirmed = not interrupted and _confirmed(top.elbo, proposals.log_ratios)
        if confirmed or interrupted:
            break
        n_draws, n_rows = GROWTH * n_draws, GROWTH * n_rows
    n_draws_used, n_rows_used = np.array(sizes, dtype=np.int64).reshape(-1, 2).T
    return Fitted(
        normal,
        proposals,
        {
            names.ELBO: np.concatenate(traces),
            names.ELBO_DRAWS: n_draws_used,
            names.ELBO_ROWS: n_rows_used,
        },
        top.converged and confirmed,
        interrupted,
    )


def _confirmed(elbo: float, ratios: Array) -> bool:
    """Tell whether fresh draws, with log p less log q as given, have as large an ELBO."""
    with np.errstate(invalid="ignore"):  # where there is no density
        error = float(ratios.std()) / ratios.size**0.5
    return elbo - float(ratios.mean()) < max(TOLERANCE, 2.0 * error)


def _summed_over(
    problem: Problem, frame: Frame, n_rows: int, rng: np.random.Generator
) -> tuple[Density, int]:
    """Return the log posterior of so many rows, or of more if these do not stand for all."""
    while problem.data.n_obs > 2 * n_rows:
        density, bend = subset(problem, frame.mode.vector, frame.hessian, n_rows, rng)
        whitened = frame.normal.factor.T @ bend @ frame.normal.factor
        if np.abs(np.linalg.eigvalsh(whitened)).max() < MOST_BENT:
            return density, n_rows
        n_rows *= GROWTH
    return whole(problem), problem.data.n_obs


def paired_draws(n_draws: int, n_parameters: int, rng: np.random.Generator) -> Array:
    """Return standard Normal draws whose mean is 0 and whose variances are 1.

    Parameters
    ----------
    n_draws : int
    n_parameters : int
        P. At least 2 P draws are uncorrelated, too.
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (n_draws, P), or with one row fewer
    """
    half = rng.normal(size=(n_draws // 2, n_parameters))
    if len(half) >= n_parameters:
        half, triangle = np.linalg.qr(half)
        half *= np.sign(np.diagonal(triangle))
    half /= np.sqrt(np.mean(np.square(half), axis=0))
    return np.concatenate([half, -half])


def maximise(
    family: Family, density: Density, z: Array, starts: Sequence[Array], progress: Progress
) -> Maximum:
    """Maximise the ELBO of some draws by L-BFGS-B (Byrd et al. 1995).

    Parameters
    ----------
    family : Family
    density : Density
    z : array, shape (M, P)
        Standard draws.
    starts : sequence of arrays, shape (size,)
        The best is started from, with narrower scales if none has a finite ELBO.
    progress : Progress

    Returns
    -------
    Maximum

    Notes
    -----
    M passes a step, O(N K D^2) each, and O(M P^2) for a full covariance.
    """
    best, best_t = -np.inf, starts[0]
    trace: list[float] = []

    def negative(t: Array) -> tuple[float, Array]:
        nonlocal best, best_t
        with np.errstate(all="ignore"):  # far away scales overflow
            normal = family.normal(t)
            values, gradients = density(normal.vectors(z))
            elbo = float(values.mean()) + normal.entropy
        if not (np.isfinite(elbo) and np.isfinite(gradients).all()):
            return UNREACHABLE, np.zeros(t.size)
        progress.update(f"Maximising the ELBO: {elbo:.6g}")
        if elbo > best:
            best, best_t = elbo, t.copy()
        return -elbo, -family.slopes(t, z, gradients)

    def note(intermediate_result: OptimizeResult) -> None:
        trace.append(-float(intermediate_result.fun))

    converged = interrupted = False
    try:
        for t in starts:
            negative(t)
        t = starts[0].copy()
        while best == -np.inf and t[family.log_scales[0]] > NARROWEST:
            t[family.log_scales] -= 1.0
            negative(t)
        trace.append(best)
        options = {"maxcor": 20, "maxiter": 1000, "ftol": 0.0, "gtol": FLAT}
        found = minimize(
            negative, best_t, jac=True, method="L-BFGS-B", callback=note, options=options
        )
        converged = bool(found.success and np.isfinite(best))
    except KeyboardInterrupt:
        interrupted = True
    return Maximum(best_t, best, np.array(trace), converged, interrupted)
