"""NUTS on a PyMC model: one that `build_model` made, as it is or as the user changed it."""

import dataclasses
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pymc as pm
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import ConvergenceWarning, FitError
from bayesgmm.inference.assemble import Draws, Options
from bayesgmm.inference.chains import STATISTICS
from bayesgmm.inference.em import Mode, Target, distinct, find_modes
from bayesgmm.inference.nuts import STARTS_PER_CHAIN
from bayesgmm.inference.problem import Problem
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.pymc_starts import OURS, start_near
from bayesgmm.mixture import GaussianMixture
from bayesgmm.model import build_model
from bayesgmm.tree import Parameters

type Array = NDArray[np.float64]

NEEDED: Final = (names.WEIGHTS, names.MEANS, names.COVARIANCES)
"""Variables that a model must have: the others follow from them."""
TUNE: Final = 800
"""Tuning draws, by default."""
PAUSE: Final = 0.1
"""Seconds between two looks at the chains."""


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
        unless it runs along the rows, or along the components (which are yet to be aligned).

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
    Compiling takes some ten seconds, half as long for the same model and data again. A gradient
    is one and a half passes, O(N K D^2).
    """
    if model is None:
        model = build_model(problem.specification, problem.data.labelled(problem.data.values))
    _check_data(model, problem)
    tune = TUNE if options.tune is None else options.tune
    began = time.perf_counter()
    stored, others = _stored(model, problem.data.n_obs)
    progress.announce("Compiling the PyMC model")
    compiled = _compile(model, [*stored, *others])
    _check_shapes(compiled, problem)
    modes: list[Mode] = []
    running: list[_Chain] = []
    try:
        seeds = np.random.SeedSequence(options.random_seed).spawn(options.chains)
        for number, seed in enumerate(seeds):
            progress.update(f"Finding the mode that chain {number} starts from")
            rng = np.random.default_rng(seed)
            found = find_modes(
                problem, Target.MAP, rng,
                n_starts=STARTS_PER_CHAIN, hierarchical=False, fallback=True,
            )  # fmt: skip
            modes.extend(found.modes)
            start = start_near(model, compiled, problem, found.best, rng)
            running.append(_Chain(compiled, start, options, tune, int(rng.integers(2**62))))
        prepared = time.perf_counter()
        interrupted = _wait(running, (options.draws + tune) * options.chains, progress)
        traces = _traces(running, interrupted, options.draws)
    except BaseException:
        for chain in running:
            chain.cancel()
        raise
    draws = {name: _stacked(traces, "posterior", name) for name in (*stored, *others)}
    return Draws(
        parameters=_parameters({name: draws[name] for name in stored}),
        statistics={
            ours: _stacked(traces, "sample_stats", theirs) for ours, theirs in STATISTICS.items()
        },
        modes=tuple(distinct(modes)),
        attrs={
            "tuning_steps": tune,
            "tuning_time": prepared - began,
            "sampling_time": time.perf_counter() - prepared,
            "target_accept": options.target_accept,
            names.INTERRUPTED: int(interrupted),
        },
        others={name: draws[name] for name in others},
    )


class _Chain:
    """A chain that samples in a thread of its own."""

    def __init__(self, compiled: Any, start: Array, options: Options, tune: int, seed: int) -> None:
        import nutpie

        self.made = self.divergences = 0
        self._sampler = nutpie.sample(
            dataclasses.replace(compiled, initial_point_func=lambda seed: start.copy()),
            draws=options.draws,
            tune=tune,
            chains=1,
            cores=1,
            seed=seed,
            target_accept=options.target_accept,
            adaptation="low_rank",
            progress_bar=False,
            progress_callback=self._on_progress,
            blocking=False,
        )

    def _on_progress(self, chains: Sequence[Any]) -> None:
        self.made, self.divergences = chains[0].finished_draws, chains[0].divergences

    @property
    def finished(self) -> bool:
        """Whether all draws are there."""
        try:
            return bool(self._sampler.is_finished)
        except TimeoutError:  # asked while the sampler is busy starting
            return False

    def result(self, interrupted: bool) -> Any:
        """Return the draws and their statistics, a DataTree; those made so far if interrupted."""
        return self._sampler.abort() if interrupted else self._sampler.wait()

    def cancel(self) -> None:
        """Stop, and throw the draws away."""
        self._sampler.cancel()


def _wait(running: Sequence[_Chain], total: int, progress: Progress) -> bool:
    """Wait until all chains have finished; return whether they were interrupted before."""
    try:
        while not all(chain.finished for chain in running):
            time.sleep(PAUSE)
            made = sum(chain.made for chain in running)
            divergences = sum(chain.divergences for chain in running)
            progress.update(
                f"Sampling {len(running)} chains: {made / total:.0%}, {divergences} divergences"
            )
    except KeyboardInterrupt:
        return True
    return False


def _traces(running: Sequence[_Chain], interrupted: bool, draws: int) -> list[Any]:
    """Return what the chains drew, DataTrees with as many draws each."""
    try:
        traces = [chain.result(interrupted) for chain in running]
    except RuntimeError as error:
        reason = str(error).partition("\n\nStack backtrace")[0]
        raise FitError(f"The sampler failed: {reason}", status="sampler") from error
    length = min(trace["posterior"].sizes[names.DRAW] for trace in traces)
    if length < 2:
        raise FitError(
            f"Sampling was interrupted while chains were tuning; got {length} draws after it. "
            f"Let it run longer, or ask for fewer `draws`.",
            status="interrupted",
        )
    if interrupted:
        warnings.warn(
            f"Sampling was interrupted: {length} of {draws} draws per chain are returned.",
            ConvergenceWarning,
            stacklevel=4,
        )
    return [trace.isel({names.DRAW: slice(length)}) for trace in traces]


def _check_data(model: pm.Model, problem: Problem) -> None:
    """Refuse a model of other data than those that are to be fitted."""
    values = problem.data.values
    observed = []
    for variable in model.observed_RVs:
        seen = np.asarray(model.rvs_to_values[variable].eval(mode="FAST_COMPILE"))
        if seen.size == values.size and np.array_equal(seen.reshape(values.shape), values):
            return
        observed.append(f"{variable.name!r} of shape {seen.shape}")
    raise ValueError(
        f"`X` must be the data that the model was built for; got shape {values.shape} and other "
        f"values than the model observes, {', '.join(observed) or 'nothing'}. Pass the same `X` "
        f"to bg.build_model and bg.fit."
    )


def _check_shapes(compiled: Any, problem: Problem) -> None:
    """Refuse a model whose parameters are not those of a mixture of these data."""
    sizes = {
        names.COMPONENT: problem.layout.n_components,
        names.FEATURE: problem.layout.n_features,
        names.FEATURE2: problem.layout.n_features,
    }
    for name, dims in names.PARAMETER_DIMS.items():
        due = tuple(sizes[dim] for dim in dims)
        got = tuple(compiled.shapes.get(name, due))
        if got != due:
            raise ValueError(
                f"`spec` must be a PyMC model whose variable {name!r} has the shape {due} "
                f"({', '.join(dims)}); got {got}. Give a variable of another meaning another name."
            )


def _stored(model: pm.Model, n_obs: int) -> tuple[list[str], list[str]]:
    """Return the names of the schema's variables in the model, and of what the user added."""
    others = []
    for variable in (*model.free_RVs, *model.deterministics):
        dims = model.named_vars_to_dims.get(variable.name) or ()
        along_rows = names.OBS in dims or n_obs in variable.type.shape
        known = variable.name in (*names.PARAMETER_DIMS, *OURS)
        if not (known or along_rows or names.COMPONENT in dims):
            others.append(variable.name)
    return [name for name in names.PARAMETER_DIMS if name in model.named_vars], others


def _compile(model: pm.Model, stored: Sequence[str]) -> Any:
    """Return the model compiled for nutpie, which keeps the draws of some variables."""
    import nutpie

    added = {variable for variable in model.free_RVs if variable.name not in OURS}
    return nutpie.compile_pymc_model(
        model, backend="numba", var_names=list(stored), jitter_rvs=added
    )


def _stacked(traces: Sequence[Any], group: str, name: str) -> NDArray[Any]:
    """Return the draws of a variable, shape (chains, draws, ...)."""
    return np.concatenate([trace[group][name].values for trace in traces])


def _parameters(draws: Mapping[str, NDArray[Any]]) -> Parameters:
    """Return all parameters, chains one after the other, from those that the model has."""
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in draws.items()}
    covariances = flat[names.COVARIANCES]
    if names.SCALES not in flat:
        flat[names.SCALES] = np.sqrt(np.diagonal(covariances, axis1=2, axis2=3))
    if names.CORRELATIONS not in flat:
        scales = flat[names.SCALES]
        flat[names.CORRELATIONS] = covariances / (scales[..., None] * scales[..., None, :])
    diagonal = np.arange(covariances.shape[-1])
    flat[names.CORRELATIONS][..., diagonal, diagonal] = 1.0  # as it is, but for rounding
    return Parameters(**{name: np.ascontiguousarray(flat[name]) for name in names.PARAMETER_DIMS})
