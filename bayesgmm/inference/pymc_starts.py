"""Where the chains of a PyMC model start: around a mode of the mixture that it extends."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bayesgmm import names
from bayesgmm.errors import FitError
from bayesgmm.inference.laplace import whitening
from bayesgmm.inference.mode import Mode
from bayesgmm.inference.pymc_compiled import NUMPY, size_of
from bayesgmm.kernels.cholesky import offsets
from bayesgmm.kernels.relabel import order_of
from bayesgmm.problem import Problem

type Array = NDArray[np.float64]
type Order = NDArray[np.int64]

OURS: Final = (
    names.WEIGHTS, names.MEANS, names.SCALES, names.SHARED_SCALES, names.PARTIAL_CORRELATIONS,
    names.DF, names.SHARED_DF,
)  # fmt: skip
"""Free variables of our model: a mode of the mixture has values for them."""
TRIES: Final = 20
"""Draws around a mode until one has a finite density."""


def start_near(
    model: Any, compiled: Any, problem: Problem, mode: Mode, rng: np.random.Generator
) -> Array:
    """Return a point with a finite density for a chain to start at.

    What the model has in common with ours is drawn from the Laplace approximation around a mode
    of the mixture; what the user added starts where PyMC would start it. As the user's model may
    tell components apart, their order is changed until the density is finite: first by the means
    of the first feature, then at random.

    Parameters
    ----------
    model : pymc.Model
    compiled : pymc_compiled.Compiled
    problem : Problem
    mode : Mode
    rng : numpy.random.Generator

    Returns
    -------
    array, shape (P,)
        On the unconstrained scale of the model's own variables.

    Raises
    ------
    FitError
        If no such point is found; status ``"sampler"``.
    """
    factor = whitening(problem, mode.vector)
    n_components = problem.layout.n_components
    spread = 1.0 if factor.ndim == 2 else 0.1
    values = [model.rvs_to_values[variable].name for variable in model.free_RVs]
    nowhere = np.full(sum(size_of(compiled.shapes[name]) for name in values), np.nan)
    point, seed = nowhere, int(rng.integers(2**62))
    for attempt in range(TRIES):
        z = spread * rng.normal(size=mode.vector.size)
        vector = mode.vector + (factor @ z if factor.ndim == 2 else z)
        order = np.arange(n_components)
        if attempt == 1:
            order = order_of(mode.parameters.means[0])
        elif attempt > 1:
            order = rng.permutation(n_components)
        start = place(model, compiled, point, free_values(problem, vector, order))
        if point is nowhere and np.isnan(start).any():  # it is a matter of PyMC's, and compiled
            point = compiled.initial_point(seed)
            start = np.where(np.isnan(start), point, start)
        if _can_start(compiled, start):
            return start
        spread *= 0.8
    point = compiled.initial_point(seed)
    if _can_start(compiled, point):
        return point
    raise FitError(
        f"The log density of the model is not finite around the mode found by EM, nor at the "
        f"model's own initial point; got none in {TRIES} tries. Give the variables that were "
        f"added an `initval`, or make hard constraints soft.",
        status="sampler",
    )


def free_values(problem: Problem, vector: Array, order: Order) -> dict[str, Array]:
    """Return the values of our free variables, constrained, with the components in some order.

    Parameters
    ----------
    problem : Problem
    vector : array, shape (P,)
        Unconstrained, of the problem.
    order : array of int, shape (K,)

    Returns
    -------
    dict of str to array
        More than a model has: scales as they are in the posterior, and as they are shared.
    """
    layout, structure = problem.layout, problem.specification.structure
    parameters = problem.constrain(vector[None])
    weights, means, scales = (array[0][order] for array in parameters[:3])
    shared = scales[0] if structure.shared_scales else scales
    values = {
        names.WEIGHTS: weights,
        names.MEANS: means,
        names.SCALES: scales,
        names.SHARED_SCALES: shared[..., 0] if structure.common_scale else shared,
    }
    if layout.correlation_sets:
        end = vector.size - layout.df_sets
        b = expit(vector[offsets(layout)[2] : end]).reshape(layout.correlation_sets, -1)
        own = structure.correlations == "component"
        values[names.PARTIAL_CORRELATIONS] = b[order] if own else b[0]
    if layout.df_sets:
        df = parameters[-1][0]
        values |= {names.DF: df[order], names.SHARED_DF: df[0]}
    return values


def place(model: Any, compiled: Any, point: Array, values: dict[str, Array]) -> Array:
    """Return an unconstrained point of the model with the values of some free variables put in."""
    result, at = point.copy(), 0
    for variable in model.free_RVs:
        value_variable = model.rvs_to_values[variable]
        size = size_of(compiled.shapes[value_variable.name])
        value = values.get(variable.name)
        if value is not None and value.ndim == variable.type.ndim:
            transform = model.rvs_to_transforms[variable]
            if transform is not None:
                graph = transform.forward(value, *variable.owner.inputs)
                value = np.asarray(graph.eval(mode=NUMPY))
            if value.size == size:
                result[at : at + size] = value.ravel()
        at += size
    return result


def _can_start(compiled: Any, point: Array) -> bool:
    """Tell whether density and gradient are finite, and the gradient not zero."""
    if not np.isfinite(point).all():
        return False
    value, gradient = compiled.log_posterior(point)
    return bool(np.isfinite(value) and np.isfinite(gradient).all() and np.any(gradient != 0.0))
