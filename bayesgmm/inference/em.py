"""Maximum likelihood and maximum a posteriori: EM from many starts, then the exact target.

The posterior mode is that of the density on the unconstrained scale (log scales, log-odds of
weights and partial correlations), Jacobians included: the same density that NUTS samples and that
a Laplace approximation needs.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bayesgmm.blockwise import BlockProblem
from bayesgmm.errors import FitError
from bayesgmm.inference.factor_em import (
    climb_factors,
    finish_factors,
    has_collapsed,
    reordered,
    start_from,
)
from bayesgmm.inference.mode import EMResult, Mode, Target
from bayesgmm.inference.starts import (
    Sample,
    are_many,
    drawn_in,
    screened_rows,
    starting_labels,
)
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.mstep import run_em
from bayesgmm.kernels.patterns import NO_GROUPS, is_complete, pack_groups
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.seeding import vector_from_labels
from bayesgmm.problem import Problem
from bayesgmm.records import filled
from bayesgmm.tree import FactorParameters, Parameters, stacked

type Array = NDArray[np.float64]

ROUGH, LOOSE, TIGHT = 0.1, 1e-3, 1e-9
"""Gains in nats under which EM stops: where starts are left that trail, while those that do not are
compared, and at the end."""
TRAILING = 50.0
"""Nats by which a start is lower than the best, EM's own penalty included, if it is left."""
MAX_PASSES = 3000
SAME_MODE = 1e-3
"""Two starts whose objectives differ by less, in nats, found the same mode."""
NARROW = 1e-3
"""Standard deviation, along any direction of the standardised data, of a component that collapses
if it has few rows."""
FEW = 3
"""Few rows are fewer than so many times those that a component needs at the least."""
TOLD_APART = 5.0
"""Standard errors by which a mode of screened rows is lower than the best if it is left there."""
SCREENED_MODES = 3
"""The best modes of screened rows, which go on to all of them."""
FLAT = 1e-5
"""Slope of the log posterior, in nats per rough standard deviation, at which it is at its top."""
SMALLEST_SCALE = 1e-8
"""Standardised scale below which a component has collapsed onto equal rows."""


def find_modes(
    problem: Problem,
    target: Target,
    rng: np.random.Generator,
    *,
    n_starts: int,
    hierarchical: bool,
    fallback: bool = False,
) -> EMResult:
    """Climb from many starts and return the distinct modes, best first.

    Parameters
    ----------
    problem : Problem
    target : Target
    rng : numpy.random.Generator
    n_starts : int
        At least 1. Two thirds are k-means++, the others random labels.
    hierarchical : bool
        Let one start be Ward's clustering, of some rows if there are many.
    fallback : bool
        Where every start collapses on the exact target, return where EM had come, whose own
        penalty keeps components from collapsing: a point to start a sampler from.

    Returns
    -------
    EMResult

    Raises
    ------
    FitError
        If every start ended in a collapsed component; status ``"degenerate"``.

    Notes
    -----
    O(N K D^2) operations a pass; about 10 to 50 passes a start, on at most 5,000 rows or 10 K D,
    and the same for each of the best three on all rows. Starts that trail the best by 50 nats when
    a pass gains less than 0.1 are left, unless all others collapse. With more than twice as many
    rows modes that those tell to be lower, by five standard errors, are left before the top.
    """
    many = are_many(problem)
    screened = screened_rows(problem, rng) if many else Sample.whole(problem)
    begun = []
    for start in range(n_starts):
        labels = starting_labels(problem, screened, rng, start, hierarchical)
        begun.append(begin(problem, target, screened, labels))
    standing = [mode for mode in begun if mode is not None]
    level = max((mode.objective for mode in standing), default=0.0) - TRAILING
    collapsed = len(begun) - len(standing)
    kept: list[Mode] = []
    for trailing in (False, True):
        reached = [
            advance(problem, target, screened, mode)
            for mode in standing if (mode.objective < level) == trailing
        ]  # fmt: skip
        kept = distinct(mode for mode in reached if mode is not None)
        collapsed += sum(mode is None for mode in reached)
        if problem.gauge is not None:
            kept = kept[:SCREENED_MODES]
        elif many:
            kept = _contenders(problem, screened, kept[:SCREENED_MODES])
        finished = [finish(problem, target, mode) for mode in kept]
        whole = [mode for mode in finished if not is_degenerate(problem, target, mode)]
        if not whole and fallback and kept:
            whole = finished = [_unpolished(problem, mode) for mode in kept]
        collapsed += sum(mode.starts for mode in finished) - sum(mode.starts for mode in whole)
        if whole:
            return EMResult(tuple(distinct(whole)), collapsed)
    raise FitError(_degenerate_message(problem, n_starts), status="degenerate")


def _contenders(problem: Problem, sample: Sample, modes: list[Mode]) -> list[Mode]:
    """Return the modes of some rows, best first, that may be the best of all rows."""
    if len(modes) < 2:
        return modes
    parameters = stacked([mode.parameters for mode in modes])
    mixtures = parameters.standardised(problem.center, problem.unit)
    densities = np.empty((len(modes), sample.rows.shape[1]))
    fill_draws(sample.rows, *mixtures, densities, NO_CUBE, NO_LABELS, NO_CUBE)
    behind = densities[0] - densities
    if sample.weights.size:
        behind *= sample.weights
    error = behind.std(axis=1) * behind.shape[1] ** 0.5
    return [
        mode for mode, gap, width in zip(modes, behind.sum(axis=1), error, strict=True)
        if gap <= TOLD_APART * width
    ]  # fmt: skip


def _em(
    problem: Problem, strength: float, sample: Sample, vector: Array, tolerance: float
) -> tuple[int, Array, Array]:
    """Run EM with the conjugate penalty of the given strength; see `kernels.mstep.run_em`."""
    rows, weights = sample
    n_dim, groups = problem.data.n_features, NO_GROUPS
    n_weights = problem.layout.n_components + problem.layout.n_noise
    if not is_complete(rows, n_dim, n_weights):
        order, n_complete, groups = pack_groups(rows, n_dim, n_weights)
        rows = np.ascontiguousarray(rows[: n_dim + n_weights, order[:n_complete]])
        weights = weights[order] if weights.size else weights
    return run_em(
        problem.layout,
        problem.penalty(strength),
        rows,
        weights,
        groups,
        vector,
        MAX_PASSES,
        tolerance,
    )


def _em_of_all(
    problem: Problem, strength: float, vector: Array, tolerance: float
) -> tuple[int, Array, Array]:
    """Run EM as `_em` does, on all rows."""
    if isinstance(problem, BlockProblem):
        return problem.run_em(problem.penalty(strength), vector, MAX_PASSES, tolerance)
    return _em(problem, strength, Sample.whole(problem), vector, tolerance)


def climb(
    problem: Problem, target: Target, sample: Sample, labels: NDArray[np.int64]
) -> Mode | None:
    """Return where a start leads, or None if it collapsed on the way."""
    begun = begin(problem, target, sample, labels)
    return None if begun is None else advance(problem, target, sample, begun)


def begin(
    problem: Problem, target: Target, sample: Sample, labels: NDArray[np.int64]
) -> Mode | None:
    """Return roughly where a start leads, its penalty included, or None if it collapsed.

    Factor analysers are climbed as far as `advance` does.
    """
    if problem.gauge is not None:
        found = climb_factors(problem, sample, start_from(problem, sample, labels), target)
        if found is None:
            return None
        vector, trace = found
        return Mode(vector, problem.constrain(vector[None]), float(trace[-1]), 1, trace, True)
    cells = drawn_in(problem, filled(sample.rows, problem.data.n_features))
    ok, vector = vector_from_labels(
        problem.layout, problem.penalty(1.0), cells, sample.weights, labels
    )
    if not ok:
        return None
    return _reached(problem, *_em(problem, 1.0, sample, vector, ROUGH))


def advance(problem: Problem, target: Target, sample: Sample, mode: Mode) -> Mode | None:
    """Return where a start leads that has begun, or None if it collapsed on the way."""
    if problem.gauge is not None:
        return mode
    strength = 1.0 if target is Target.MAP else 0.0
    return _reached(problem, *_em(problem, strength, sample, mode.vector, LOOSE))


def _reached(problem: Problem, status: int, vector: Array, trace: Array) -> Mode | None:
    """Return where EM has come, or None if a component collapsed."""
    if status == 2:
        return None
    trace = trace.copy()  # the beginning of an array for all passes that there might have been
    return Mode(vector, _of_em(problem, vector), float(trace[-1]), 1, trace, status == 0)


def finish(problem: Problem, target: Target, mode: Mode) -> Mode:
    """Climb from a mode to the very top, on all rows and on the exact target."""
    if problem.gauge is not None:
        vector, objective, converged = finish_factors(problem, mode.vector, target)
        parameters = problem.constrain(vector[None])
        return Mode(vector, parameters, objective, mode.starts, mode.trace, converged)
    strength = 1.0 if target is Target.MAP else 0.0
    tolerance = LOOSE if target is Target.MAP else TIGHT
    status, vector, trace = _em_of_all(problem, strength, mode.vector, tolerance)
    objective = float(trace[-1]) - problem.log_volume
    if status == 2:
        objective = np.nan  # it collapsed on the way
    parameters, converged = _of_em(problem, vector), status == 0
    if target is Target.MAP:
        vector, objective, converged = polish(problem, _on_prior_scale(problem, vector))
        parameters = problem.constrain(vector[None])
    return Mode(vector, parameters, objective, mode.starts, trace, converged)


def _unpolished(problem: Problem, mode: Mode) -> Mode:
    """Return where EM had come as a vector under the floor of the prior, with its density."""
    vector = mode.vector
    if problem.gauge is None:
        vector = _on_prior_scale(problem, vector)
    objective, _ = problem.log_posterior(vector)
    parameters = problem.constrain(vector[None])
    return replace(mode, vector=vector, parameters=parameters, objective=objective, converged=False)


def _on_prior_scale(problem: Problem, vector: Array) -> Array:
    """Return a vector of EM under the floor of the prior, components where they suit it best."""
    weights = problem.specification.weights
    if weights.exchangeable or problem.data.allowed is not None:  # labels name the components
        return problem.on_prior_scale(vector)
    return reordered(problem, _of_em(problem, vector))


def _of_em(problem: Problem, vector: Array) -> Parameters | FactorParameters:
    """Return the parameters that a vector of EM stands for."""
    return problem.constrain(vector[None], floor=np.zeros(problem.layout.scale_columns))


def polish(problem: Problem, vector: Array) -> tuple[Array, float, bool]:
    """Return the mode of the log posterior near a vector, its height, and whether it was reached.

    L-BFGS-B (Byrd et al. 1995) on the fused density, in coordinates in which its curvature would
    be near 1 if it were known which component every row comes from; never ends lower than it
    began.
    """
    moved, negative = rounded(problem, vector)
    options = {"maxcor": 20, "maxiter": 1000, "ftol": 1e-15, "gtol": FLAT}
    found = minimize(negative, np.zeros_like(vector), jac=True, method="L-BFGS-B", options=options)
    mode = moved(found.x)
    value, gradient = problem.log_posterior(mode)
    slope = float(np.abs(gradient * problem.units_of(mode)).max())
    return mode, value, slope < 1e-3 * max(1.0, problem.n_counted**0.5)


def rounded(
    problem: Problem, vector: Array
) -> tuple[Callable[[Array], Array], Callable[[Array], tuple[float, Array]]]:
    """Return coordinates around a vector in which curvatures are near 1, and minus the density."""
    means, scales, _, _ = offsets(problem.layout)
    sizes, factors = _spread(problem, vector)
    shape = factors.shape[:2]

    def moved(z: Array) -> Array:
        x = vector + sizes * z
        shift = np.einsum("kde,ke->kd", factors, z[means:scales].reshape(shape))
        x[means:scales] = vector[means:scales] + shift.ravel()
        return np.asarray(x)

    def negative(z: Array) -> tuple[float, Array]:
        value, gradient = problem.log_posterior(moved(z))
        slopes = sizes * gradient
        by_means = np.einsum("kde,kd->ke", factors, gradient[means:scales].reshape(shape))
        slopes[means:scales] = by_means.ravel()
        return -value, -slopes

    return moved, negative


def _spread(problem: Problem, vector: Array) -> tuple[Array, Array]:
    """Return standard deviations, shape (P,), and factors of those of the means, (K, D, D).

    They are what the posterior would have if it were known which component every row comes from:
    of n rows the mean has L / sqrt(n), the log of a scale 1 / sqrt(2 n), log-odds of a partial
    correlation 2 / sqrt(n).
    """
    layout = problem.layout
    _, scales, correlations, length = offsets(layout)
    parameters = problem.constrain(vector[None])
    mixtures = parameters.standardised(problem.center, problem.unit)
    log_weights, means, cholesky = (array[0] for array in mixtures)
    cholesky = cholesky[:, : layout.n_features]
    total = problem.n_counted
    rows = 1.0 + total * np.exp(log_weights)
    sizes = np.ones(length)  # those of the means are in the factors
    sizes[: len(rows) - 1] = rows[:-1] ** -0.5
    rows = rows[: len(means)]
    for start, end, sets, size in (
        (scales, correlations, layout.scale_rows, 0.5**0.5),
        (correlations, length - layout.df_sets, layout.correlation_sets, 2.0),
    ):
        of_each = rows if sets > 1 else np.full(max(sets, 1), 1.0 + total)
        sizes[start:end] = np.repeat(size * of_each**-0.5, (end - start) // len(of_each))
    return sizes, cholesky * rows[:, None, None] ** -0.5


def distinct(modes: Iterable[Mode]) -> list[Mode]:
    """Return the first of every set of modes with the same objective, best first, starts added up.

    The first, since which of them is the highest is a matter of rounding.
    """
    sets: list[list[tuple[int, Mode]]] = []
    for place, mode in sorted(enumerate(modes), key=lambda one: -one[1].objective):
        if sets and sets[-1][0][1].objective - mode.objective < SAME_MODE:
            sets[-1].append((place, mode))
        else:
            sets.append([(place, mode)])
    firsts = [
        replace(min(some, key=lambda one: one[0])[1], starts=sum(mode.starts for _, mode in some))
        for some in sets
    ]
    return sorted(firsts, key=lambda mode: -mode.objective)


def is_degenerate(problem: Problem, target: Target, mode: Mode) -> bool:
    """Tell whether a component has collapsed onto a few rows, or onto equal ones.

    With scales of its own a component needs more rows than the features that it correlates: on
    fewer, its likelihood grows without bound as it shrinks, and so can the density of a posterior
    whose prior lets scales go to zero.
    """
    layout, parameters = problem.layout, mode.parameters
    if isinstance(parameters, FactorParameters):
        return not np.isfinite(mode.objective) or has_collapsed(problem, parameters, target)
    scales = (parameters.scales[0] / problem.unit).min(axis=1)
    if not np.isfinite(mode.objective) or not scales.min() > SMALLEST_SCALE:
        return True
    if layout.scale_rows == 1:
        return False
    needed = layout.n_features + 1 if layout.correlation_sets > 1 else 2
    if target is Target.ML:
        rows = parameters.weights[0] * problem.n_counted
        covariances = parameters.covariances[0] / np.multiply.outer(problem.unit, problem.unit)
        thin = np.linalg.eigvalsh(covariances)[:, 0] < NARROW**2
        return bool(((rows < needed) | (thin & (rows < FEW * needed))).any())
    if mode.converged:
        return False  # on one row the density is flat as a scale of its own goes to 0
    concentration = problem.specification.weights.per_component(layout.n_components)
    rows = parameters.weights[0] * (problem.n_counted + concentration.sum()) - concentration
    return bool(((rows < needed) & (scales < NARROW)).any())


def _degenerate_message(problem: Problem, n_starts: int) -> str:
    """Return what is said when every start collapsed."""
    k, n = problem.layout.n_components, problem.data.n_obs
    return (
        f"Every one of {n_starts} starts ended with a component that collapsed onto a few of the "
        f"{n} rows, where the likelihood is unbounded; got {k} components of structure "
        f"{problem.specification.covariance.structure!r}. Use fewer components, or a structure "
        f"that shares scales, such as 'tied'; or method='map' or 'nuts', with a larger `floor` in "
        f"LKJCovariance if that is refused too."
    )
