"""One call from data to a clustered posterior."""

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from bayesgmm import names
from bayesgmm.data import check_enough_rows, prepare
from bayesgmm.errors import ConvergenceWarning, check_choice, check_integer, check_positive
from bayesgmm.inference.assemble import Draws, Options, assemble
from bayesgmm.inference.em import Target, find_modes
from bayesgmm.inference.problem import Problem
from bayesgmm.inference.progress import Progress
from bayesgmm.kernels.compiled import is_cached
from bayesgmm.kernels.mstep import run_em
from bayesgmm.mixture import GaussianMixture

if TYPE_CHECKING:
    import pymc

ENGINES: Final = ("auto", "fused", "pymc")
N_STARTS: Final = 20
"""EM runs of ``method="map"`` and ``"ml"``."""


def fit(
    X: Any,
    spec: "GaussianMixture | int | pymc.Model",
    *,
    method: str = "nuts",
    engine: str = "auto",
    draws: int = 1000,
    tune: int | None = None,
    chains: int = 4,
    target_accept: float = 0.8,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> xr.DataTree:
    """Fit a Gaussian mixture to data.

    Parameters
    ----------
    X : array, DataFrame, Series or DataArray
        Rows by features, shape (n_obs, n_features); one dimension is one feature. Labels and
        units are kept.
    spec : GaussianMixture, int or pymc.Model
        The model; a number of components with default priors; or a PyMC model made or changed
        from `build_model`.
    method : str, default "nuts"
        ``"nuts"``: draws of the posterior. ``"map"``: its mode, on the unconstrained scale of
        log scales and log-odds. ``"ml"``: maximum likelihood, the priors ignored. The last two
        give one draw.
    engine : str, default "auto"
        ``"fused"``: our own density, compiled once per machine. ``"pymc"``: PyMC's program of
        the model, compiled anew for every fit. ``"auto"``: fused, unless a PyMC model is given.
    draws : int, default 1000
        Per chain, after tuning.
    tune : int, optional
        Tuning draws per chain; by default 200 (800 with more than 1,000 parameters, or with
        PyMC's engine).
    chains : int, default 4
        Each starts from its own search for a mode.
    target_accept : float, default 0.8
        Acceptance that the step size is tuned for, in (0, 1); nearer to 1 for fewer divergences.
    random_seed : int, optional
        The same seed gives the same draws on the same machine; by default drawn, and kept in
        the attributes.
    progressbar : bool, default True
        Report on standard error, for work that takes longer than half a second.

    Returns
    -------
    xarray.DataTree
        In ArviZ's schema: ``posterior`` (aligned, see `align`), ``sample_stats``,
        ``log_likelihood``, ``observed_data``, ``constant_data``, ``alignment``, ``modes``;
        attributes say how it was made.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, before any computing.
    FitError
        If the fit cannot be trusted to be one: every start degenerate, sampler failed,
        interrupted too early.

    Warns
    -----
    ConvergenceWarning
        If sampling was interrupted: the draws made so far are returned.

    Notes
    -----
    One pass over the data, O(N K D^2), is an E-step or a gradient. A fit is some hundreds of
    passes for ``"map"`` and ``"ml"``, some ten thousands for ``"nuts"``.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> tree.posterior["weights"].values.round(2)
    array([[[0.36, 0.64]]])
    """
    check_choice(method, "method", METHODS)
    check_choice(engine, "engine", ENGINES)
    check_integer(draws, "draws", 4, "Draws are what results are made of; 1000 is usual.")
    check_integer(chains, "chains", 1, "Four chains are usual: their agreement is evidence.")
    if tune is not None:
        check_integer(tune, "tune", 20, "Leave it None to choose it.")
    if check_positive(target_accept, "target_accept", "Try 0.95.") >= 1.0:
        raise ValueError(f"`target_accept` must be less than 1; got {target_accept}. Try 0.95.")
    if random_seed is None:
        random_seed = int(np.random.SeedSequence().generate_state(1)[0])
    random_seed = check_integer(
        random_seed, "random_seed", 0, "Give an integer such as 1, or None."
    )
    specification, model = _specification(spec, method, engine)
    data = prepare(X)
    check_enough_rows(data, specification.n_components)
    problem = Problem.make(specification, data)
    options = Options(draws, tune, chains, float(target_accept), random_seed)
    began = time.perf_counter()
    # One thread for BLAS: small products in many threads, or beside the chains, only wait.
    with threadpool_limits(limits=1, user_api="blas"), Progress(progressbar) as progress:
        if not is_cached(run_em):
            progress.announce("Compiling the kernels, once per machine: some 20 seconds")
        if model is not None or engine == "pymc":
            from bayesgmm.inference.pymc_engine import sample_model

            drawn = sample_model(problem, model, options, progress)
        else:
            drawn = _METHODS[method](problem, options, progress)
    attrs = {
        names.METHOD: method,
        names.ENGINE: "fused" if model is None and engine != "pymc" else "pymc",
        names.RANDOM_SEED: random_seed,
        "n_parameters": problem.n_parameters,
        "fit_time": time.perf_counter() - began,
    }
    return assemble(problem, drawn, attrs)


def _specification(spec: Any, method: str, engine: str) -> tuple[GaussianMixture, Any]:
    """Return the specification, and the PyMC model if that is what was given."""
    if type(spec).__module__.partition(".")[0] == "pymc":
        from bayesgmm.inference.pymc_engine import specification_of

        if method != "nuts" or engine == "fused":
            raise ValueError(
                f"`spec` must be a GaussianMixture or an integer for method {method!r} with "
                f"engine {engine!r}; got a PyMC model. Use method='nuts' and engine='auto'."
            )
        return specification_of(spec), spec
    if engine == "pymc" and method != "nuts":
        raise ValueError(
            f"`engine` must be 'auto' or 'fused' for method {method!r}; got 'pymc'. PyMC's engine "
            f"is there to sample models that were changed."
        )
    if isinstance(spec, GaussianMixture):
        return spec, None
    if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
        return GaussianMixture(int(spec)), None
    raise TypeError(
        f"`spec` must be a GaussianMixture, a number of components or a PyMC model; got {spec!r} "
        f"of type {type(spec).__name__}. Write bg.fit(X, 3)."
    )


def _nuts(problem: Problem, options: Options, progress: Progress) -> Draws:
    """Sample by NUTS on the fused density."""
    from bayesgmm.inference.nuts import sample

    result = sample(
        problem,
        draws=options.draws,
        tune=options.tune,
        chains=options.chains,
        target_accept=options.target_accept,
        seeds=np.random.SeedSequence(options.random_seed),
        progress=progress,
    )
    if result.interrupted:
        warnings.warn(
            f"Sampling was interrupted: {result.vectors.shape[1]} of {options.draws} draws per "
            f"chain are returned.",
            ConvergenceWarning,
            stacklevel=3,
        )
    return Draws(
        parameters=problem.constrain(result.vectors.reshape(-1, problem.n_parameters)),
        statistics=result.statistics,
        modes=result.modes,
        attrs={
            "tuning_steps": result.tune,
            "tuning_time": result.seconds_tuned,
            "sampling_time": result.seconds_sampled,
            "target_accept": options.target_accept,
            names.INTERRUPTED: int(result.interrupted),
        },
    )


def _point(target: Target) -> Callable[[Problem, Options, Progress], Draws]:
    """Return the method that climbs to the highest mode of a target."""

    def climb(problem: Problem, options: Options, progress: Progress) -> Draws:
        began = time.perf_counter()
        progress.update("Climbing from many starts")
        rng = np.random.default_rng(options.random_seed)
        found = find_modes(problem, target, rng, n_starts=N_STARTS, hierarchical=True)
        if not found.best.converged:
            warnings.warn(
                f"The best of {N_STARTS} starts did not reach the top to the tolerance: the "
                f"objective is {found.best.objective:.6g}. Rescale `X`, or use fewer components.",
                ConvergenceWarning,
                stacklevel=3,
            )
        return Draws(
            parameters=found.best.parameters,
            statistics={names.LP: np.array([[found.best.objective]])},
            modes=found.modes,
            attrs={
                "starts": N_STARTS,
                "degenerate_starts": found.degenerate,
                "converged": int(found.best.converged),
                "sampling_time": time.perf_counter() - began,
            },
        )

    return climb


_METHODS: Final[dict[str, Callable[[Problem, Options, Progress], Draws]]] = {
    "nuts": _nuts,
    "map": _point(Target.MAP),
    "ml": _point(Target.ML),
}
METHODS: Final = tuple(_METHODS)
