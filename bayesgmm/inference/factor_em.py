"""EM for mixtures of factor analysers, and the climb to the exact top.

Given the component of every row, its scores and noise would be independent Normals: the M-step is a
regression of every feature on the scores (Ghahramani & Hinton 1997), from the sums that the pass
of `kernels.factor_partial` makes, in which missing cells are integrated out. EM only comes near the
top, in few passes; L-BFGS on the exact density goes on from there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bayesgmm.factor_packing import factor_parameters, factor_vectors, principal
from bayesgmm.inference.mode import Target
from bayesgmm.inference.starts import Sample, are_many
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.kernels.factor_cells import pack_partial
from bayesgmm.kernels.factor_loadings import joined, places_of
from bayesgmm.kernels.factor_partial import factor_slopes
from bayesgmm.kernels.target import log_target
from bayesgmm.problem import SHRINKAGE, Problem
from bayesgmm.tree import FactorParameters, Parameters, each

type Array = NDArray[np.float64]

PASSES = 60
"""Of EM, at the most: L-BFGS is quicker where it would take more."""
GAIN = 0.01
"""In nats, under which EM stops."""
NARROWEST = 1e-3
"""Least noise scale of standardised data. The likelihood may have its maximum at 0 (Heywood 1931),
where a factor is a feature."""
STEPS = 2000
"""Of L-BFGS, at the most."""
FLAT = 1e-4
"""Slope, in nats per rough standard deviation, at which the top is reached."""


class Factored(NamedTuple):
    """A mixture of factor analysers, of standardised data.

    Parameters
    ----------
    log_weights, means, factors : arrays, shapes (K,), (K, D), (K, D, q + 1)
    """

    log_weights: Array
    means: Array
    factors: Array


class Moments(NamedTuple):
    """What the pass sums up.

    Parameters
    ----------
    counts, by_mean, by_noise, by_loading : arrays
        Shapes (K,), (K, D), (K, D), (K, D, q), as `kernels.factor_partial` has them.
    """

    counts: Array
    by_mean: Array
    by_noise: Array
    by_loading: Array


def climb_factors(
    problem: Problem, sample: Sample, start: Factored | None, target: Target
) -> tuple[Array, Array] | None:
    """Climb by EM.

    Parameters
    ----------
    problem : Problem
    sample : Sample
    start : Factored or None
        None leads nowhere.
    target : Target
        Of the posterior, something keeps components from collapsing.

    Returns
    -------
    vector : array, shape (P,)
    trace : array
        The log-likelihood after each pass.

    Or None where a component lost its rows.
    """
    if start is None:
        return None
    mixture, trace = start, [-np.inf]
    n_components, n_dim = start.means.shape
    rows = pack_partial(sample.rows, sample.weights, n_dim, n_components)
    for _ in range(PASSES):
        value, moments = _pass(rows, mixture)
        trace.append(value)
        if not np.isfinite(value) or (moments.counts < 1e-6).any():
            return None
        if value - trace[-2] < GAIN:
            break
        mixture = _m_step(problem, mixture, moments, float(target is Target.MAP))
    return vector_of(problem, mixture), np.array(trace[1:])


def start_from(problem: Problem, sample: Sample, labels: NDArray[np.int64]) -> Factored | None:
    """Return the principal axes of labelled rows as factors; None if a label has no rows."""
    layout, n_dim = problem.layout, problem.layout.n_features
    k_all, q = layout.n_components, layout.n_factors
    rows, counts, middle = sample.rows[:n_dim], sample.weights, problem.middle
    means, factors = np.empty((k_all, n_dim)), np.empty((k_all, n_dim, q + 1))
    sizes = np.bincount(labels, counts if counts.size else None, minlength=k_all).astype(float)
    if (sizes <= 0.0).any():
        return None
    for k in range(k_all):
        group = rows[:, labels == k]
        weights = counts[labels == k] if counts.size else np.ones(group.shape[1])
        there = ~np.isnan(group)
        seen = there @ weights  # where nothing is, the middle of all rows is as good as anything
        group = np.where(there, group, 0.0)
        means[k] = np.where(seen > 0.0, (group @ weights) / np.maximum(seen, 1e-300), middle)
        roots = np.sqrt(weights * group.shape[1] / np.maximum(seen, 1e-300)[:, None])
        centred = np.where(there, group - means[k][:, None], 0.0) * roots
        variances = np.square(centred).mean(axis=1)
        n_axes = min(q, *centred.shape)
        axes = np.zeros((n_dim, q))
        axes[:, :n_axes] = principal(centred, n_axes)
        squares = np.square(axes).sum(axis=0)
        left = max(variances.sum() - squares.sum(), 0.0) / max(n_dim - q, 1)
        axes *= np.sqrt(np.maximum(squares - left, 0.01) / np.maximum(squares, 1e-300))
        noise = np.maximum(variances - np.square(axes).sum(axis=1), 0.1 * variances)
        noise = (sizes[k] * noise + SHRINKAGE) / (sizes[k] + 1.0) + NARROWEST**2
        factors[k] = joined(axes, np.sqrt(noise))
    return Factored(np.log(sizes / sizes.sum()), means, _shared(problem, sizes, factors))


def mixture_of(problem: Problem, vector: Array) -> Factored:
    """Return the mixture that a vector stands for."""
    assert problem.gauge is not None
    parts = factor_parameters(problem.layout, problem.floor, problem.gauge, vector[None])
    log_weights, means, noise, loadings = (part[0] for part in parts)
    return Factored(log_weights, np.ascontiguousarray(means), joined(loadings, noise))


def vector_of(problem: Problem, mixture: Factored) -> Array:
    """Return the vector of a mixture, noise scales above the floor of the prior."""
    assert problem.gauge is not None
    parts = (part[None] for part in mixture)
    return factor_vectors(problem.layout, problem.floor, problem.gauge, *parts)[0]


def _pass(rows: tuple[Array, Array, Array], mixture: Factored) -> tuple[float, Moments]:
    """Return the log-likelihood of packed rows, and what the M-step needs."""
    k, d, width = mixture.factors.shape
    sums = Moments(np.empty(k), np.empty((k, d)), np.empty((k, d)), np.empty((k, d, width - 1)))
    return factor_slopes(*rows, *mixture, *sums), sums


def _m_step(problem: Problem, mixture: Factored, moments: Moments, strength: float) -> Factored:
    """Return the mixture that the expected scores and noise of all rows speak for."""
    q, (log_weights, means, factors) = problem.layout.n_factors, mixture
    assert problem.gauge is not None
    counts, means, factors = moments.counts, means.copy(), factors.copy()
    for k, n in enumerate(counts):
        loadings, variances = factors[k, :, :q], np.square(factors[k, :, q])
        table = n * np.eye(q + 1)  # expected sums of r [1 z'] [1 z']'
        table[0, 1:] = table[1:, 0] = loadings.T @ moments.by_mean[k]
        table[1:, 1:] += loadings.T @ moments.by_loading[k]
        table = 0.5 * (table + table.T)
        against = np.column_stack([moments.by_mean[k], moments.by_loading[k]])
        against *= variances[:, None]  # of the noise u, r u [1 z']
        pull = strength * np.mean(variances / np.square(problem.gauge.spread))
        ridge, wanted = np.diag(np.append(0.0, np.full(q, pull))), against.copy()
        wanted[:, 1:] -= pull * loadings
        step = np.linalg.solve(table + ridge, wanted.T).T
        means[k] += step[:, 0]
        factors[k, :, :q] += step[:, 1:]
        left = variances * (variances * moments.by_noise[k] + n)
        left += ((step @ table - 2.0 * against) * step).sum(axis=1)
        left = (np.maximum(left, 0.0) + strength * SHRINKAGE) / (n + strength)
        factors[k, :, q] = np.sqrt(left)
    concentration = strength * problem.specification.weights.per_component(counts.size)
    log_weights = np.log((counts + concentration) / (counts + concentration).sum())
    return Factored(log_weights, means, _shared(problem, counts, factors))


def _shared(problem: Problem, counts: Array, factors: Array) -> Array:
    """Return factors whose noise scales are what the structure lets them be, and not too small."""
    layout, variances = problem.layout, np.square(factors[..., -1])
    if layout.scale_rows == 1:
        variances[:] = counts @ variances / counts.sum()
    if layout.scale_columns == 1:
        variances[:] = variances.mean(axis=1, keepdims=True)
    least = np.maximum(NARROWEST, 1.01 * problem.floor)
    factors[..., -1] = np.maximum(np.sqrt(variances), least)
    return factors


def rough_sizes(problem: Problem, vector: Array) -> Array:
    """Return about the posterior's standard deviations, shape (P,), if rows were labelled.

    And their scores known.
    """
    layout = problem.layout
    k, d, q = layout.n_components, layout.n_features, layout.n_factors
    means, noise, loadings, length = offsets(layout)
    assert problem.gauge is not None
    log_weights, _, factors = mixture_of(problem, vector)
    rows = 1.0 + problem.n_counted * np.exp(log_weights)
    scales, sizes = factors[..., -1], np.ones(length)
    sizes[:means] = rows[:-1] ** -0.5
    sizes[means:noise] = (scales / np.sqrt(rows)[:, None]).ravel()
    of_each = rows if layout.scale_rows > 1 else np.full(1, rows.sum())
    n_noise = of_each * (d if layout.scale_columns == 1 else 1)
    free = scales[: layout.scale_rows, : layout.scale_columns]
    excess = np.maximum(free - problem.floor, 1e-3 * free)
    sizes[noise:loadings] = np.minimum(free / excess / np.sqrt(2.0 * n_noise)[:, None], 1.0).ravel()
    places = places_of(d, q)
    each = np.sqrt(np.mean(np.square(scales / problem.gauge.spread), axis=1) / rows)
    entries = np.repeat(np.minimum(each, 1.0)[:, None], places[0].size, axis=1)
    on_diagonal = places[0] == places[1]
    heads = np.exp(vector[loadings:].reshape(k, -1)[:, on_diagonal])
    entries[:, on_diagonal] = np.minimum(entries[:, on_diagonal] / heads, 1.0)
    sizes[loadings:] = entries.ravel()
    return sizes


def finish_factors(problem: Problem, vector: Array, target: Target) -> tuple[Array, float, bool]:
    """Climb to the very top, on all rows: return where it is, its height, and if it was reached."""
    if are_many(problem):  # the vector was found on some rows
        found = climb_factors(
            problem, Sample.whole(problem), mixture_of(problem, vector), target
        )  # fmt: skip
        vector = vector if found is None else found[0]
    exchangeable = problem.specification.weights.exchangeable
    if target is Target.MAP and not exchangeable and problem.data.allowed is None:
        vector = reordered(problem, problem.constrain(vector[None]))
    return polish_factors(problem, vector, priors=target is Target.MAP)


def reordered(problem: Problem, parameters: Parameters | FactorParameters) -> Array:
    """Return the vector of one mixture, weights as large as their concentrations say."""
    concentrations = problem.specification.weights.per_component(problem.layout.n_components)
    order = parameters.weights[0].argsort()[concentrations.argsort().argsort()]

    def named(values: Array) -> Array:
        return values if values.ndim == 1 else values[:, order]  # of noise, which keeps its name

    return problem.unconstrain(each(parameters, named))


def has_collapsed(problem: Problem, parameters: FactorParameters, target: Target) -> bool:
    """Tell whether a component sits on fewer rows than it has factors, and one more."""
    few = parameters.weights[0] * problem.n_counted < problem.layout.n_factors + 2
    thin = (parameters.noise_scales[0] / problem.unit).min(axis=1) < 2.0 * NARROWEST
    return bool((few if target is Target.ML else few & thin).any())


def polish_factors(problem: Problem, vector: Array, *, priors: bool) -> tuple[Array, float, bool]:
    """Return the top of the log posterior, or likelihood, near a vector; its height; if reached."""
    flat = problem.flat
    if not priors:
        flat = problem.pack(problem.rows, problem.row_weights, prior=False)
    sizes = rough_sizes(problem, vector)
    _, noise, loadings, _ = offsets(problem.layout)
    lowest = np.full(vector.size, -np.inf)
    free = np.broadcast_to(problem.floor, problem.layout[2:4]).ravel()
    lowest[noise:loadings] = np.log(np.maximum(NARROWEST - free, NARROWEST * 1e-3))
    start = np.maximum(vector, lowest)

    def negative(z: Array) -> tuple[float, Array]:
        gradient = np.empty_like(z)
        value = log_target(start + sizes * z, flat, gradient)
        return -value, -sizes * gradient

    options = {"maxcor": 20, "maxiter": STEPS, "maxfun": 2 * STEPS, "ftol": 1e-14, "gtol": FLAT}
    bounds = np.column_stack([(lowest - start) / sizes, np.full(vector.size, np.inf)])
    found = minimize(
        negative, np.zeros_like(vector), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    top, gradient = start + sizes * found.x, np.empty_like(vector)
    value = log_target(top, flat, gradient)
    slopes = np.where(top > lowest + 1e-9, gradient * sizes, 0.0)
    return top, value, bool(np.abs(slopes).max() < 1e-2 * max(1.0, problem.n_counted**0.25))
