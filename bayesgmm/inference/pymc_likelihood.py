"""Whose likelihood a PyMC model has: still that of the mixture, or one of the user's own.

Names and attributes do not tell, as users copy models and write their own. So it is looked at what
is computed: at some draws, the density of every row; and of what is added to it, whether it reads
anything that is as long as the data.
"""

from typing import Any, Final

import numpy as np
import pymc as pm
from numpy.typing import NDArray
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.tensor.variable import TensorConstant

from bayesgmm import names
from bayesgmm.inference.assemble import LARGEST_LOG_LIKELIHOOD, OwnLikelihood, log_likelihoods
from bayesgmm.inference.pymc_compiled import Compiled
from bayesgmm.problem import Problem
from bayesgmm.tree import Parameters

type Array = NDArray[np.float64]

COMPARED: Final = 3
"""Draws at which densities are compared."""
SAME: Final = 1e-4
"""Difference of log densities, in nats and relative, that may be rounding."""


def own_likelihood(
    compiled: Compiled, observed: Any, problem: Problem, vectors: Array, parameters: Parameters
) -> OwnLikelihood | None:
    """Return the likelihood of a PyMC model under draws, if it is not that of the mixture.

    Parameters
    ----------
    compiled : Compiled
    observed : TensorVariable
        The variable of the model whose observed values are the data.
    problem : Problem
    vectors : array, shape (S, P)
        Unconstrained draws.
    parameters : Parameters
        Weights, means and covariances of them.

    Returns
    -------
    OwnLikelihood or None
        None if it is that of the mixture: every row has the density that weights, means and
        covariances give it, and no other observed variable, or potential, reads anything that is
        as long as the data. Priors may be whatever they are.
    """
    model, n_obs = compiled.model, problem.data.n_obs
    others = [*model.potentials, *(one for one in model.observed_RVs if one is not observed)]
    whole = not any(along_rows(model, one, problem.data.values.shape) for one in others)
    some = np.unique(np.linspace(0, len(vectors) - 1, COMPARED).astype(int))
    looked_at = _by_row(compiled.densities(observed, vectors[some]), n_obs)
    chosen = type(parameters)(*(values[some] for values in parameters))
    due = log_likelihoods(problem, chosen.standardised(problem.center, problem.unit))
    same = looked_at is not None and np.allclose(looked_at, due, rtol=SAME, atol=SAME)
    if whole and same:
        return None
    if not whole or looked_at is None or 8 * len(vectors) * n_obs > LARGEST_LOG_LIKELIHOOD:
        return OwnLikelihood(None)
    return OwnLikelihood(_by_row(compiled.densities(observed, vectors), n_obs))


def along_rows(model: pm.Model, term: Any, shape: tuple[int, int]) -> bool:
    """Tell whether a term of a model's density reads anything that is as long as the data.

    Parameters
    ----------
    model : pymc.Model
    term : TensorVariable
        A potential, or an observed variable.
    shape : tuple of int
        Of the data, (N, D).

    Returns
    -------
    bool
        Whether a constant, or another random variable, that it follows from has a dimension of N
        entries, or is as large as the data.
    """
    random, seen, to_see = set(model.basic_RVs), set(), [term]
    if term in random:
        to_see = [model.rvs_to_values[term], *term.owner.inputs]
    while to_see:
        one = to_see.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in random or one.owner is None:
            lengths = _lengths(one)
            known = names.OBS in (model.named_vars_to_dims.get(one.name) or ())
            if known or shape[0] in lengths or (lengths and np.prod(lengths) == np.prod(shape)):
                return True
        if one not in random and one.owner is not None:
            to_see.extend(one.owner.inputs)
    return False


def _lengths(variable: Any) -> tuple[int, ...]:
    """Return the shape of a variable, as far as it is known; of what is no array, nothing."""
    if isinstance(variable, TensorConstant):
        return np.shape(variable.data)
    if isinstance(variable, SharedVariable) and hasattr(variable.type, "ndim"):
        return np.shape(variable.get_value(borrow=True))
    return tuple(one for one in getattr(variable.type, "shape", ()) if one is not None)


def _by_row(densities: Array, n_obs: int) -> Array | None:
    """Return densities of the entries of draws summed for every row, (S, N), if they are of rows.

    None where there is no telling which entries are of which row.
    """
    if densities.ndim < 2 or densities.shape[1] != n_obs:
        return None
    return densities.reshape(len(densities), n_obs, -1).sum(axis=2)
