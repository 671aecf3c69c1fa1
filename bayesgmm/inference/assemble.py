"""What methods are asked and what they hand over, and the tree that is made of it.

The draws are aligned, and come with the log-likelihood of every row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_integer, check_positive
from bayesgmm.inference.mode import Mode
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.matching import DEFAULT, match_draws
from bayesgmm.kernels.occupied import occupied_first
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS, order_within
from bayesgmm.kernels.rotation import turned_to_agree
from bayesgmm.kernels.threads import over_draws
from bayesgmm.known_labels import of_components
from bayesgmm.problem import Problem
from bayesgmm.records import rows_of, standing
from bayesgmm.sample_weights import weigh
from bayesgmm.tree import FactorParameters, Parameters, build, stacked

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

    @classmethod
    def checked(
        cls,
        *,
        draws: int,
        tune: int | None,
        chains: int,
        target_accept: float,
        random_seed: int | None,
    ) -> Self:
        """Return what the user asked for, refusing what makes no sense; draw a seed if need be."""
        check_integer(draws, "draws", 4, "Draws are what results are made of; 1000 is usual.")
        check_integer(chains, "chains", 1, "Four chains are usual: their agreement is evidence.")
        if tune is not None:
            check_integer(tune, "tune", 20, "Leave it None to choose it.")
        if check_positive(target_accept, "target_accept", "Try 0.95.") >= 1.0:
            raise ValueError(f"`target_accept` must be less than 1; got {target_accept}. Try 0.95.")
        if random_seed is None:
            random_seed = int(np.random.SeedSequence().generate_state(1)[0])
        remedy = "Give an integer such as 1, or None."
        random_seed = check_integer(random_seed, "random_seed", 0, remedy)
        return cls(draws, tune, chains, float(target_accept), random_seed)


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
    others : dict of str to Variable, dimensions (chain, draw, ...)
        Further variables of a model that the user changed.
    optimization : dict of str to array, shape (iterations,)
        How the method came to where it drew from.
    own_likelihood : OwnLikelihood or None
        None where it is that of the mixture.
    """

    parameters: Parameters | FactorParameters
    statistics: Mapping[str, NDArray[Any]]
    modes: tuple[Mode, ...]
    attrs: Mapping[str, str | int | float]
    others: Mapping[str, xr.Variable] = field(default_factory=dict)
    optimization: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    own_likelihood: "OwnLikelihood | None" = None


@dataclass(frozen=True, eq=False)
class OwnLikelihood:
    """The likelihood of a PyMC model, where it is not that of the mixture.

    Parameters
    ----------
    pointwise : array, shape (S, N), or None
        Its logarithm for every row under every draw, in nats; None where it is not one of rows.
    """

    pointwise: Array | None


def assemble(
    problem: Problem, drawn: Draws, attrs: Mapping[str, str | int | float], *, sharing: int
) -> xr.DataTree:
    """Return the tree of a fit.

    Parameters
    ----------
    problem : Problem
    drawn : Draws
    attrs : dict
        Attributes that the method does not know.
    sharing : int
        How many fits are to be held at the same time.

    Returns
    -------
    xarray.DataTree

    Notes
    -----
    Two passes per draw, O(S N K D^2), the second stopped half-way, in as many threads as there
    are cores. Where the pointwise log-likelihoods of all that share memory would take more than
    1 GiB they are left out and the attribute ``log_likelihood_bytes`` says so. Where the likelihood
    is a PyMC model's own the attribute ``likelihood`` says so.
    """
    shape = drawn.statistics[names.LP].shape
    mixtures = drawn.parameters.standardised(problem.center, problem.unit)
    overfitted = names.N_CLUSTERS in drawn.others
    permutation, alignment = _align(problem, mixtures, drawn.statistics[names.LP], overfitted)
    posterior: dict[str, Any] = {
        name: values.reshape(*shape, *values.shape[1:])
        for name, values in _in_order(drawn.parameters, permutation).items()
    }
    if names.LOADINGS in posterior:
        flat = (posterior[name] for name in (names.LOADINGS, names.NOISE_SCALES))
        loadings, noise = (values.reshape(-1, *values.shape[2:]) for values in flat)
        posterior[names.LOADINGS] = turned_to_agree(loadings, noise).reshape(
            *shape, *loadings.shape[1:]
        )
    size = 8 * len(permutation) * problem.kept.n_obs
    log_likelihood = None
    extra: dict[str, str | int | float] = {}
    own = drawn.own_likelihood
    if own is not None:
        extra[names.LIKELIHOOD] = "own"
        if own.pointwise is not None:
            log_likelihood = own.pointwise.reshape(*shape, -1)
    elif 0 < size * sharing <= LARGEST_LOG_LIKELIHOOD:
        log_likelihood = log_likelihoods(problem, mixtures).reshape(*shape, -1)
    elif size:
        extra["log_likelihood_bytes"] = size
    return build(
        data=problem.kept,
        specification=problem.specification,
        posterior=posterior
        | {
            name: _permuted(variable, permutation.reshape(*shape, -1))
            for name, variable in drawn.others.items()
        },
        sample_stats=drawn.statistics,
        log_likelihood=log_likelihood,
        center=problem.center,
        unit=problem.unit,
        alignment=alignment,
        modes=_modes(problem, drawn.modes) if drawn.modes else None,
        optimization=drawn.optimization or None,
        attrs={**attrs, **drawn.attrs, **extra},
    )


def _in_order(
    parameters: Parameters | FactorParameters, order: NDArray[np.int64]
) -> dict[str, Array]:
    """Return what a tree holds of parameters by name, components in an order, shape (S, K)."""
    which = np.arange(len(order))[:, None]
    return {
        name: values if values.ndim == 1 else values[which, order]
        for name, values in parameters._asdict().items()
        if name != names.NOISE_LOG_DENSITY  # it is in the specification
    }


def _permuted(variable: xr.Variable, permutation: NDArray[np.int64]) -> xr.Variable:
    """Return a variable with its components, if it runs along them, in the order of every draw."""
    values = variable.values
    for axis, dim in enumerate(variable.dims):
        if dim == names.COMPONENT:
            lead = [1] * values.ndim
            lead[:2], lead[axis] = permutation.shape[:2], permutation.shape[2]
            values = np.take_along_axis(values, permutation.reshape(lead), axis)
    return variable.copy(data=values)


def log_likelihoods(problem: Problem, mixtures: tuple[Array, Array, Array]) -> Array:
    """Return the log-likelihood of every row under every draw, (S, N), in the data's units."""
    log_weights, means, cholesky = mixtures
    result = np.empty((len(log_weights), problem.data.n_obs))

    def fill(part: slice) -> None:
        fill_draws(
            problem.rows, log_weights[part], means[part], cholesky[part],
            result[part], NO_CUBE, NO_LABELS, NO_CUBE,
        )  # fmt: skip
        result[part] -= problem.log_volumes
        weigh(result[part], problem.data.sample_weight)

    over_draws(fill, len(result))
    return result


def _align(
    problem: Problem, mixtures: tuple[Array, Array, Array], log_posterior: Array, overfitted: bool
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return the permutation of every draw, shape (S, K), and the group ``alignment``.

    Of an overfitted mixture components that expect a row come first.
    """
    shape = log_posterior.shape
    n_draws, n_components = mixtures[1].shape[:2]
    mixtures = (np.ascontiguousarray(mixtures[0][:, :n_components]), *mixtures[1:])  # without noise
    pivot = int(np.argmax(log_posterior))
    method = "none" if problem.specification.weights.naming else DEFAULT
    apart = problem.named(n_components)
    if n_components > 1 and np.unique(apart).size == n_components:
        method = "none"  # labels name every component
    permutation = np.tile(np.arange(n_components), (n_draws, 1))
    margin = np.ones(n_draws)
    if method != "none":
        rows, _ = standing(_as_if_none_were_noise(problem), problem.data.sample_weight)
        permutation, margin = match_draws(rows, mixtures, pivot, method, groups=apart)
    if overfitted:
        permutation, margin = occupied_first(problem.rows, mixtures, permutation)
    chain, draw = np.unravel_index(pivot, shape)
    return permutation, {
        names.PERMUTATION: permutation.reshape(*shape, n_components),
        names.MARGIN: margin.reshape(shape),
        "attrs": {names.METHOD: method, "pivot_chain": int(chain), "pivot_draw": int(draw)},
    }


def _as_if_none_were_noise(problem: Problem) -> Array:
    """Return rows as the passes read them where there are components alone."""
    data, k = problem.data, problem.layout.n_components
    if not problem.layout.n_noise or len(problem.rows) == data.n_features:
        return problem.rows
    known = of_components(data.allowed, k)
    box = problem.box[:0]
    return rows_of(data.values, data.errors, known, k, problem.center, problem.unit, box)


def _modes(problem: Problem, modes: tuple[Mode, ...]) -> dict[str, NDArray[Any]]:
    """Return the variables of the group ``modes``."""
    parameters = stacked([mode.parameters for mode in modes])
    order = np.tile(np.arange(problem.layout.n_components), (len(modes), 1))
    if not problem.specification.weights.naming:
        apart = problem.named(problem.layout.n_components)
        order = np.stack([order_within(apart, means) for means in parameters.means])
    found = _in_order(parameters, order)
    if names.LOADINGS in found:
        each = zip(found[names.LOADINGS], found[names.NOISE_SCALES], strict=True)
        turned = [turned_to_agree(one[None], noise[None])[0] for one, noise in each]
        found[names.LOADINGS] = np.stack(turned)
    unstored = (names.SCALES, names.CORRELATIONS)
    mass = np.array([mode.log_mass for mode in modes])
    measured = {} if np.isnan(mass).all() else {names.LOG_MASS: mass - np.nanmax(mass)}
    return {
        names.OBJECTIVE: np.array([mode.objective for mode in modes]),
        names.STARTS: np.array([mode.starts for mode in modes]),
        **measured,
        **{name: values for name, values in found.items() if name not in unstored},
    }
