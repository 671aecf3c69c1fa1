"""What methods are asked and what they hand over, and the tree that is made of it.

The draws are aligned, and come with the log-likelihood of every row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.inference.em import Mode
from bayesgmm.inference.problem import Problem
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import (
    NO_CUBE,
    NO_LABELS,
    align_draws,
    order_of,
)
from bayesgmm.tree import Parameters, build

type Array = NDArray[np.float64]

LARGEST_LOG_LIKELIHOOD: Final = 2**30
"""Bytes of the pointwise log-likelihood beyond which it is not stored with the fit."""


@dataclass(frozen=True)
class Options:
    """The arguments of `fit` that a method may need.

    Parameters
    ----------
    draws : int
    tune : int or None
    chains : int
    target_accept : float
    random_seed : int
    """

    draws: int
    tune: int | None
    chains: int
    target_accept: float
    random_seed: int


@dataclass(frozen=True, eq=False)
class Draws:
    """What a method hands over.

    Parameters
    ----------
    parameters : Parameters
        Of all draws, the chains one after the other, in the data's units.
    statistics : dict of str to array, shape (chains, draws)
        With ``lp`` at least.
    modes : tuple of Mode
        The modes met on the way.
    attrs : dict
        Attributes of the tree that the method knows.
    others : dict of str to array, shape (chains, draws, ...)
        Further variables of a model that the user changed.
    """

    parameters: Parameters
    statistics: Mapping[str, NDArray[Any]]
    modes: tuple[Mode, ...]
    attrs: Mapping[str, str | int | float]
    others: Mapping[str, NDArray[Any]] = field(default_factory=dict)


def assemble(problem: Problem, drawn: Draws, attrs: Mapping[str, str | int | float]) -> xr.DataTree:
    """Return the tree of a fit.

    Parameters
    ----------
    problem : Problem
    drawn : Draws
    attrs : dict
        Attributes that the method does not know.

    Returns
    -------
    xarray.DataTree

    Notes
    -----
    Two passes per draw, O(S N K D^2), the second stopped half-way. Where the pointwise
    log-likelihood would take more than 1 GiB it is left out and the attribute
    ``log_likelihood_bytes`` says so.
    """
    shape = drawn.statistics[names.LP].shape
    mixtures = standardise(*drawn.parameters[:4], problem.center, problem.unit)
    permutation, alignment = _align(problem, mixtures, drawn.statistics[names.LP])
    which = np.arange(len(permutation))[:, None]
    posterior = {
        name: values[which, permutation].reshape(*shape, *values.shape[1:])
        for name, values in drawn.parameters._asdict().items()
    }
    size = 8 * len(permutation) * problem.data.n_obs
    log_likelihood = None
    extra: dict[str, str | int | float] = {}
    if size <= LARGEST_LOG_LIKELIHOOD:
        densities = np.empty((len(permutation), problem.data.n_obs))
        fill_draws(problem.rows, *mixtures, problem.reach, densities, NO_CUBE, NO_LABELS, NO_CUBE)
        densities -= np.log(problem.unit).sum()
        log_likelihood = densities.reshape(*shape, -1)
    else:
        extra["log_likelihood_bytes"] = size
    return build(
        data=problem.data,
        specification=problem.specification,
        posterior=posterior | dict(drawn.others),
        sample_stats=drawn.statistics,
        log_likelihood=log_likelihood,
        center=problem.center,
        unit=problem.unit,
        alignment=alignment,
        modes=_modes(problem, drawn.modes) if drawn.modes else None,
        attrs={**attrs, **drawn.attrs, **extra},
    )


def _align(
    problem: Problem, mixtures: tuple[Array, Array, Array], log_posterior: Array
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return the permutation of every draw, shape (S, K), and the group ``alignment``."""
    shape = log_posterior.shape
    n_draws, n_components = mixtures[0].shape
    pivot = int(np.argmax(log_posterior))
    method = "ecr" if problem.specification.weights.exchangeable else "none"
    permutation = np.tile(np.arange(n_components), (n_draws, 1))
    margin = np.ones(n_draws)
    if method == "ecr":
        permutation, margin = align_draws(problem.rows, *mixtures, problem.reach, pivot)
    chain, draw = np.unravel_index(pivot, shape)
    return permutation, {
        names.PERMUTATION: permutation.reshape(*shape, n_components),
        names.MARGIN: margin.reshape(shape),
        "attrs": {names.METHOD: method, "pivot_chain": int(chain), "pivot_draw": int(draw)},
    }


def _modes(problem: Problem, modes: tuple[Mode, ...]) -> dict[str, NDArray[Any]]:
    """Return the variables of the group ``modes``."""
    parameters = Parameters(*map(np.concatenate, zip(*(m.parameters for m in modes), strict=True)))
    order = np.tile(np.arange(problem.layout.n_components), (len(modes), 1))
    if problem.specification.weights.exchangeable:
        order = np.stack([order_of(means) for means in parameters.means])
    which = np.arange(len(modes))[:, None]
    return {
        names.OBJECTIVE: np.array([mode.objective for mode in modes]),
        names.STARTS: np.array([mode.starts for mode in modes]),
        names.WEIGHTS: parameters.weights[which, order],
        names.MEANS: parameters.means[which, order],
        names.COVARIANCES: parameters.covariances[which, order],
    }
