"""NUTS on a PyMC model: one that `build_model` made, as it is or as the user changed it."""

import dataclasses
import time
import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pymc as pm
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.inference.assemble import Draws, Options, OwnLikelihood
from bayesgmm.inference.chains import Chain, Settings
from bayesgmm.inference.coordinates import Coordinates, Start
from bayesgmm.inference.em import find_modes
from bayesgmm.inference.mode import Target
from bayesgmm.inference.nuts import STARTS_PER_CHAIN, Run, to_the_end
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.pymc_compiled import Compiled, compile_model
from bayesgmm.inference.pymc_likelihood import own_likelihood
from bayesgmm.inference.pymc_starts import OURS, start_near
from bayesgmm.mixture import GaussianMixture, StudentTMixture
from bayesgmm.model import build_model
from bayesgmm.problem import Problem
from bayesgmm.tree import Parameters, parameters_of

type Array = NDArray[np.float64]

NEEDED: Final = (names.WEIGHTS, names.MEANS, names.COVARIANCES)
"""Variables that a model must have: the others follow from them."""
TUNE: Final = 800
"""Tuning draws, by default."""


def specification_of(model: pm.Model) -> GaussianMixture:
    """Return the specification that a model was built from, or one of as many components.

    Parameters
    ----------
    model : pymc.Model
        With the variables ``weights``, ``means`` and ``covariances``. If it does not come from
        `build_model`, or is a copy of one that does, default priors are noted for it.

    Returns
    -------
    GaussianMixture

    Raises
    ------
    ValueError
        If one of the variables is not there, or has another number of dimensions.
    """
    remedy = "Start from bg.build_model(spec, X), and keep the names of what is to be reported."
    for name in NEEDED:
        due = names.PARAMETER_DIMS[name]
        if name not in model.named_vars:
            raise ValueError(
                f"`spec` must be a PyMC model with the variables {', '.join(NEEDED)}; got one "
                f"without {name!r}, with {', '.join(model.named_vars) or 'none'}. {remedy}"
            )
        if model[name].type.ndim != len(due):
            raise ValueError(
                f"`spec` must be a PyMC model whose variable {name!r} has the dimensions "
                f"{', '.join(due)}; got {model[name].type.ndim} dimensions. {remedy}"
            )
    n_components = int(model[names.WEIGHTS].shape.eval(mode="FAST_COMPILE")[0])
    built = getattr(model, names.SPECIFICATION, None)
    if isinstance(built, GaussianMixture) and built.n_components == n_components:
        return built
    return GaussianMixture(n_components)


def sample_model(
    problem: Problem, model: pm.Model | None, options: Options, progress: Progress
) -> Draws:
    """Sample a PyMC model by nutpie, every chain from a mode of its own.

    Parameters
    ----------
    problem : Problem
        The data, and the specification whose modes the chains start from.
    model : pymc.Model or None
        None: the one that `build_model` makes.
    options : Options
    progress : Progress

    Returns
    -------
    Draws
        ``others`` holds what the user added to the model, free variables and deterministics,
        unless it runs along the rows.

    Raises
    ------
    ValueError
        If the model was built for other data.
    FitError
        If no chain can start, or the sampler failed (status ``"sampler"``), or was interrupted
        before every chain had two draws after tuning (``"interrupted"``).

    Warns
    -----
    ConvergenceWarning
        If sampling was interrupted: the draws made so far are returned.

    Notes
    -----
    Compiling takes some ten seconds for the first model of a kind and half a second for others
    (see `pymc_compiled`). A gradient is one and a half passes, O(N K D^2).
    """
    began = time.perf_counter()
    ready = make_ready(problem, model, progress)
    result = to_the_end(_ModelRun(problem, ready, options), progress)
    if result.interrupted:
        warnings.warn(
            f"Sampling was interrupted: {result.vectors.shape[1]} of {options.draws} draws per "
            f"chain are returned.",
            ConvergenceWarning,
            stacklevel=3,
        )
    shape = result.vectors.shape[:2]
    vectors = result.vectors.reshape(-1, ready.compiled.n_parameters)
    variables = ready.compiled.expand(vectors)
    parameters = all_parameters({name: variables[name] for name in ready.stored})
    return Draws(
        parameters=parameters,
        statistics=result.statistics,
        modes=result.modes,
        attrs={
            "tuning_steps": result.tune,
            "tuning_time": time.perf_counter() - began - result.seconds_sampled,
            "sampling_time": result.seconds_sampled,
            "target_accept": options.target_accept,
            names.INTERRUPTED: int(result.interrupted),
        },
        others=ready.labelled(variables, shape),
        own_likelihood=ready.own_likelihood(problem, vectors, parameters),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Ready:
    """A model that can be fitted.

    Parameters
    ----------
    model : pymc.Model
    compiled : Compiled
    stored : list of str
        The variables of the schema that the model has.
    others : list of str
        What the user added to it, and is to be reported.
    observed : TensorVariable or None
        The variable whose observed values are the data; None if the model is ours as it was made.
    """

    model: pm.Model
    compiled: Compiled
    stored: list[str]
    others: list[str]
    observed: Any

    def own_likelihood(
        self, problem: Problem, vectors: Array, parameters: Parameters
    ) -> OwnLikelihood | None:
        """Return the likelihood under draws, where it is not that of the mixture; else None."""
        if self.observed is None:
            return None
        return own_likelihood(self.compiled, self.observed, problem, vectors, parameters)

    def labelled(
        self, variables: Mapping[str, NDArray[Any]], shape: tuple[int, ...]
    ) -> dict[str, xr.Variable]:
        """Return the draws of the others, the first dimensions chain and draw of a given shape."""
        result = {}
        for name in self.others:
            values = variables[name].reshape(*shape, *variables[name].shape[1:])
            known = self.model.named_vars_to_dims.get(name) or (None,) * (values.ndim - 2)
            dims = [dim or f"{name}_dim_{i}" for i, dim in enumerate(known)]
            result[name] = xr.Variable((names.CHAIN, names.DRAW, *dims), values)
        return result


def make_ready(problem: Problem, model: pm.Model | None, progress: Progress) -> Ready:
    """Return a model, by default the one that `build_model` makes, compiled.

    Raises
    ------
    ValueError
        If the model was built for other data, or its variables have other shapes.
    """
    ours = model is None
    if model is None:
        data = problem.data
        model = build_model(
            problem.specification, data.labelled(data.values),
            sample_weight=data.sample_weight, labels=data.allowed,
        )  # fmt: skip
    observed = _observed(model, problem)
    stored, others = _stored(model, problem.data.n_obs)
    added = [variable.name for variable in model.free_RVs if variable.name not in OURS]
    compiled = compile_model(model, [*stored, *others], added)
    _check_shapes(compiled.kept_shapes(), problem)
    compiled.compile(progress.announce)
    return Ready(model, compiled, stored, others, None if ours else observed)


class _ModelChain(Chain):
    """A chain that samples a PyMC model."""

    def _compiled(self, problem: Any) -> tuple[int, NDArray[Any], Any]:
        """Return the address of the density, what it reads, and all that must be kept alive."""
        address, user = problem.pointers()
        return address, user, (user, problem)


@dataclasses.dataclass(frozen=True, eq=False)
class _ModelStart(Start):
    """Where a chain of a PyMC model, as `compile_model` returns it, begins."""

    compiled: Any

    def chain_of(self, problem: Problem) -> Chain:
        """Return a chain that samples the model from here."""
        around = self.coordinates
        return _ModelChain(
            self.compiled, around.center, around.factor, self.z, self.settings, seed=self.seed
        )


class _ModelRun(Run):
    """The chains of a fit of a PyMC model, on its own unconstrained scale."""

    def __init__(self, problem: Problem, ready: Ready, options: Options) -> None:
        super().__init__(problem, options, warm=())
        tune = TUNE if options.tune is None else options.tune
        self.settings = Settings(options.draws, tune, options.target_accept, "low_rank")
        self._ready = ready

    def prepare(self) -> Start:
        """Find a mode of the mixture for the next chain to start from."""
        rng = np.random.default_rng(self._seeds[self._prepared])
        found = find_modes(
            self.problem, Target.MAP, rng,
            n_starts=STARTS_PER_CHAIN, hierarchical=False, fallback=True,
        )  # fmt: skip
        self.modes.extend(found.modes)
        self._prepared += 1
        start = start_near(self._ready.model, self._ready.compiled, self.problem, found.best, rng)
        own = Coordinates(np.zeros(start.size), np.ones(start.size), "leapfrog")
        return _ModelStart(
            own, start, self.settings, int(rng.integers(2**62)), self._ready.compiled
        )


def _observed(model: pm.Model, problem: Problem) -> Any:
    """Return the variable that is observed to be the data, refusing a model of others."""
    values = problem.data.values
    observed = []
    for variable in model.observed_RVs:
        seen = np.asarray(model.rvs_to_values[variable].eval(mode="FAST_COMPILE"))
        if seen.size == values.size and np.array_equal(seen.reshape(values.shape), values):
            return variable
        observed.append(f"{variable.name!r} of shape {seen.shape}")
    raise ValueError(
        f"`X` must be the data that the model was built for; got shape {values.shape} and other "
        f"values than the model observes, {', '.join(observed) or 'nothing'}. Pass the same `X` "
        f"to bg.build_model and bg.fit."
    )


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], problem: Problem) -> None:
    """Refuse a model whose parameters are not those of a mixture of these data."""
    sizes = {
        names.COMPONENT: problem.layout.n_components,
        names.FEATURE: problem.layout.n_features,
        names.FEATURE2: problem.layout.n_features,
    }
    dims_of = names.PARAMETER_DIMS
    if isinstance(problem.specification, StudentTMixture):
        dims_of = dims_of | {names.DF: (names.COMPONENT,)}
    for name, dims in dims_of.items():
        due = tuple(sizes[dim] for dim in dims)
        got = tuple(shapes.get(name, due))
        if got != due:
            raise ValueError(
                f"`spec` must be a PyMC model whose variable {name!r} has the shape {due} "
                f"({', '.join(dims)}); got {got}. Give a variable of another meaning another name."
            )


def _stored(model: pm.Model, n_obs: int) -> tuple[list[str], list[str]]:
    """Return the names of the schema's variables in the model, and of what the user added."""
    others = []
    tailed = isinstance(getattr(model, names.SPECIFICATION, None), StudentTMixture)
    if names.DF in model.named_vars and not tailed:
        raise ValueError(
            f"`spec` must be a PyMC model without a variable {names.DF!r}, the degrees of freedom "
            f"of a StudentTMixture; got one. Give it another name."
        )
    stored = (*names.PARAMETER_DIMS, *([names.DF] if tailed else []))
    for variable in (*model.free_RVs, *model.deterministics):
        dims = model.named_vars_to_dims.get(variable.name) or ()
        along_rows = names.OBS in dims or n_obs in variable.type.shape
        known = variable.name in (*stored, *OURS)
        if not (known or along_rows):
            others.append(variable.name)
    return [name for name in stored if name in model.named_vars], others


def all_parameters(draws: Mapping[str, NDArray[Any]]) -> Parameters:
    """Return all parameters, shapes (S, ...), from those that the model has."""
    flat = dict(draws)
    covariances = flat[names.COVARIANCES]
    if names.SCALES not in flat:
        flat[names.SCALES] = np.sqrt(np.diagonal(covariances, axis1=2, axis2=3))
    if names.CORRELATIONS not in flat:
        scales = flat[names.SCALES]
        flat[names.CORRELATIONS] = covariances / (scales[..., None] * scales[..., None, :])
    diagonal = np.arange(covariances.shape[-1])
    flat[names.CORRELATIONS][..., diagonal, diagonal] = 1.0  # as it is, but for rounding
    fields = [*names.PARAMETER_DIMS, *([names.DF] if names.DF in flat else [])]
    return parameters_of(*(np.ascontiguousarray(flat[name]) for name in fields))
