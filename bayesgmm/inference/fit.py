"""One call from data to a clustered posterior."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from threadpoolctl import ThreadpoolController

from bayesgmm import names
from bayesgmm.chunked import is_chunked
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.data import Data, prepare
from bayesgmm.errors import check_choice, got
from bayesgmm.inference import telescoping
from bayesgmm.inference.assemble import Draws, Options, assemble
from bayesgmm.inference.crew import crew
from bayesgmm.inference.methods import METHODS, RUNNERS, warn_interrupted
from bayesgmm.inference.progress import Progress
from bayesgmm.inference.suited import (
    held_by,
    refuse_noise_outside,
    refuse_unknown_to_jax,
    refuse_unsuited,
)
from bayesgmm.known_labels import with_labels
from bayesgmm.mixture import GaussianMixture
from bayesgmm.overfitted import SparseDirichlet, StickBreaking
from bayesgmm.problem import Problem
from bayesgmm.units import hint_at_units

if TYPE_CHECKING:
    import pymc

ENGINES: Final = ("auto", "fused", "pymc", "jax")
OF_MODELS: Final = ("nuts", "fullrank_advi", "advi", "laplace")
"""Methods that PyMC's engine has."""
OF_JAX: Final = ("nuts",)
"""And JAX's."""
LEARNING: Final = (("nuts", "auto"), ("nuts", "fused"))
"""Methods and engines that allocate rows where components may be empty."""


def fit(
    X: Any,
    spec: "GaussianMixture | int | pymc.Model",
    *,
    measurement_error: Any = None,
    sample_weight: Any = None,
    labels: Any = None,
    feature_dim: str | None = None,
    method: str = "nuts",
    engine: str = "auto",
    draws: int = 1000,
    tune: int | None = None,
    chains: int = 4,
    target_accept: float = 0.8,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> xr.DataTree:
    """Fit a mixture, Gaussian or of Student's t, to data.

    Parameters
    ----------
    X : array, DataFrame, Series, DataArray, Dataset or path
        Rows by features, shape (n_obs, n_features); one dimension is one feature. Of NumPy,
        pandas, polars, pyarrow, xarray with any dimensions, or the path of a file
        ([inputs](inputs.md)). Labels are kept, and ``X.attrs["units"]``: one string for all
        columns, a list, or a dictionary from columns to strings, which plots write on their axes.
        Cells that are NaN, `pandas.NA` or masked
        are missing: they are integrated out, exactly. Or rows in blocks, which stay where they
        are: a Dask array or DataFrame, a DataArray of any dimensions or a Dataset in Dask's
        chunks, or the path of a Zarr store or of a folder of Parquet files
        ([rows in blocks](dask.md)); what is said of them may be in blocks as well.
    spec : GaussianMixture, StudentTMixture, int or pymc.Model
        The model; a number of components with default priors; or a PyMC model made or changed
        from `build_model`.
    measurement_error : array, DataFrame or DataArray, optional
        Of the cells, in the units of `X`: standard deviations, shape (n_obs, n_features), or a
        covariance matrix for every row, shape (n_obs, n_features, n_features). 0 is a cell without
        error. What is fitted is then the mixture that the rows come from before errors are added.
    sample_weight : array or Series, shape (n_obs,), optional
        How many rows each stands for, at least 0: weight 2 is the row twice, 0 a row that is
        only predicted. Their sum is the number of rows, so weights that only say how rows are to
        be balanced should be scaled to sum to the number they are worth, ``sum(w)**2 / sum(w**2)``:
        the attribute ``effective_rows``.
    labels : array or Series, shape (n_obs,) or (n_obs, n_components), optional
        The component of every row, 0 to K - 1, and -1 or missing where it is not known. Or for
        every component whether a row may belong to it, True or False; or to what degree a, in
        [0, 1], for soft labels: the density of the row is
        ``sum_k weights[k] a[k] Normal(x | means[k], covariances[k])``. With noise -1 says that a
        row is noise and missing that nothing is known, and of several columns one more, the last,
        is that of noise.
    feature_dim : str, optional
        Of a DataArray, the dimension along which features lie; all others are rows, and what is
        said of rows comes back in these dimensions. By default ``"feature"`` or, of two, the last.
    method : str, default "nuts"
        ``"nuts"``: draws of the posterior, by NUTS, or by trajectories of a fixed length where
        its tails are light (by allocating rows to components instead where these may be empty:
        the telescoping sampler if the number of components is a `PriorOnComponents`, a Gibbs
        sampler if weights are a `SparseDirichlet` or `StickBreaking`). ``"laplace"``: of the
        Normal distribution around its mode, on the unconstrained scale of log scales and
        log-odds. ``"fullrank_advi"`` and ``"advi"``: of the Normal distribution nearest to it,
        with any covariance or with a diagonal one. These three are quick; ``check`` tells
        whether to believe them. ``"map"``: the mode alone. ``"ml"``: maximum likelihood, the
        priors ignored. The last two give one draw.
    engine : str, default "auto"
        ``"fused"``: our own density, compiled once per machine. ``"pymc"``: PyMC's program of
        the model, compiled once per number of components and features. ``"jax"``: our density in
        JAX, on the device that it prefers, compiled once per process and shape of the data; for
        ``method="nuts"``. ``"auto"``: fused, unless a PyMC model is given.
    draws : int, default 1000
        Per chain, after tuning.
    tune : int, optional
        Tuning draws per chain; by default 100 (50 where tails are light, 800 with more than
        1,000 parameters or with PyMC's engine).
    chains : int, default 4
        Each searches for modes of its own and starts in one of them, by its share of the mass.
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
        ``log_likelihood``, ``observed_data``, ``constant_data``, ``alignment``, ``modes``, for
        ADVI ``optimization``; attributes say how it was made. Of rows in blocks neither these nor
        what is known of each are kept: no ``observed_data``, no ``log_likelihood``. Of a PyMC
        model with a likelihood of its own ``log_likelihood`` is the model's (see `build_model`).

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, before any computing.
    ImportError
        If ``engine="jax"`` lacks a package, or workers of the active cluster have not this
        version of bayesgmm.
    FitError
        If the fit cannot be trusted to be one: every start degenerate, sampler failed,
        interrupted too early; rows in blocks that change meanwhile.

    Warns
    -----
    ConvergenceWarning
        If a fit was interrupted, the draws made so far are returned; or if an optimiser did not
        converge.
    UnitsWarning
        If features share a scale, by their structure or a number in a prior, but their standard
        deviations differ by a factor of 1e6 or more.

    Notes
    -----
    One pass over the data, O(N K D^2), is an E-step or a gradient; rows with errors of their own,
    or whose missing cells few others miss, take O(K D^3) each. A fit is some hundreds of
    passes for ``"map"`` and ``"ml"``, some thousands for ``"laplace"`` and ADVI (which looks at
    some 10,000 rows if there are many more), some ten thousands for ``"nuts"``.

    Rows in which the same cells are missing, and with equal errors, go through a pass together;
    every such group costs O(K D^3) besides. Missing cells must be missing at random: whether one
    is may depend on cells that are seen, but not on the number that it would have held (see
    `impute`).

    Rows in blocks are summed over by the Dask client that is active, or by threads: every pass
    is one map over the blocks and one reduction, in which only the vector of parameters goes out,
    and its density and gradient come back. Memory is that of some blocks. By NUTS on a cluster, up
    to 256 MiB of rows are sent to all workers instead, and each chain samples on one of them: the
    draws are those of the same rows in memory.

    Memory is twice that of other data, and the draws. The log-likelihood takes 8 bytes for every
    row and draw: beyond 1 GiB it is not stored, the attribute ``log_likelihood_bytes`` says what
    it would take, and `loo` computes it in blocks of rows.

    Draws of the three approximations q are resampled by their importance p / q in the posterior
    p, Pareto-smoothed, if the tail of these weights allows it: the attribute ``pareto_k`` (k-hat)
    is at most 0.7, and ``resampled`` is 1. Weights know of p only where q has draws: one of the
    K! equal modes, and one of several different ones (``mode_share``).

    References
    ----------
    Kucukelbir, Tran, Ranganath, Gelman & Blei (2017), Automatic differentiation variational
    inference, JMLR 18.

    Giordano, Ingram & Broderick (2024), Black box variational inference with a deterministic
    objective, JMLR 25.

    Ghahramani & Jordan (1994), Supervised learning from incomplete data via an EM approach,
    NIPS 6.

    Bovy, Hogg & Roweis (2011), Extreme deconvolution: inferring complete distribution functions
    from noisy, heterogeneous and incomplete observations, Annals of Applied Statistics 5.
    doi:10.1214/10-AOAS439

    Yao, Vehtari, Simpson & Gelman (2018), Yes, but did it work?: Evaluating variational
    inference, ICML. arXiv:1802.02538

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> tree.posterior["weights"].values.round(2)
    array([[[0.36, 0.64]]])
    """
    check_choice(method, "method", METHODS)
    check_choice(engine, "engine", ENGINES)
    options = Options.checked(
        draws=draws,
        tune=tune,
        chains=chains,
        target_accept=target_accept,
        random_seed=random_seed,
    )
    specification, model = _specification(spec, method, engine)
    engine = engine if model is None else "pymc"
    if engine == "jax":
        from bayesgmm.inference import jax_nuts

        refuse_unknown_to_jax(specification)
    if is_chunked(X):
        said = {
            "measurement_error": measurement_error, "sample_weight": sample_weight,
            "labels": labels,
        }  # fmt: skip
        return _fit_blocks(
            X, specification, options, method, engine,
            feature_dim=feature_dim, said=said, progressbar=progressbar,
        )  # fmt: skip
    if model is not None:
        sample_weight, labels = held_by(model, sample_weight, labels)
    data = prepare(
        X,
        measurement_error=measurement_error,
        sample_weight=sample_weight,
        feature_dim=feature_dim,
    )
    hint_at_units(specification, data)
    allocated = _allocated_by(specification, method, engine)
    refuse_unsuited(specification, data, labels, engine, allocated=allocated is not None)
    if allocated is not None:
        return _allocated(specification, allocated, data, options, progressbar)
    noise = specification.noise is not None
    labelled = with_labels(data, labels, specification.known_number, noise=noise)
    refuse_noise_outside(specification, labelled)
    problem = Problem.make(specification, labelled)
    began = time.perf_counter()
    n_masters = options.chains if method == "nuts" else 1
    with at_work(progressbar) as progress, crew(problem, n_masters):
        if engine == "pymc":
            drawn = _of_model(method)(problem, model, options, progress)
        elif engine == "jax":
            drawn = jax_nuts.sample(problem, options, progress)
        else:
            engine, drawn = "fused", RUNNERS[method](problem, options, progress)
    return assemble(problem, drawn, provenance(problem, options, method, engine, began), sharing=1)


def _fit_blocks(*arguments: Any, **keywords: Any) -> xr.DataTree:
    """Fit rows in blocks, by what is only loaded for such."""
    from bayesgmm.inference.blockfit import fit_blocks

    return fit_blocks(*arguments, **keywords)


def provenance(
    problem: Problem, options: Options, method: str, engine: str, began: float
) -> dict[str, str | int | float]:
    """Return the attributes of a fit that no method knows."""
    unweighted = problem.data.sample_weight is None
    weighted = {} if unweighted else {names.EFFECTIVE_ROWS: problem.n_effective}
    return {
        **weighted,
        names.METHOD: method,
        names.ENGINE: engine,
        names.RANDOM_SEED: options.random_seed,
        "n_parameters": problem.n_parameters,
        "fit_time": time.perf_counter() - began,
    }


@cache
def _threads() -> ThreadpoolController:
    """Return what limits threads, once in a process: finding the libraries takes 3 ms."""
    return ThreadpoolController()


@contextmanager
def at_work(progressbar: bool) -> Iterator[Progress]:
    """Say how work goes on, beside one thread of BLAS."""
    # One thread for BLAS: small products in many threads, or beside the chains, only wait.
    limited = _threads().limit(limits=1, user_api="blas")
    with limited, Progress(progressbar) as progress:
        yield progress


def _specification(spec: Any, method: str, engine: str) -> tuple[GaussianMixture, Any]:
    """Return the specification, and the PyMC model if that is what was given."""
    if type(spec).__module__.partition(".")[0] == "pymc":
        from bayesgmm.inference.pymc_engine import specification_of

        if method not in OF_MODELS or engine in ("fused", "jax"):
            raise ValueError(
                f"`spec` must be a GaussianMixture or an integer for method {method!r} with "
                f"engine {engine!r}; got a PyMC model. Use method='nuts' and engine='auto'."
            )
        return specification_of(spec), spec
    known = {"pymc": OF_MODELS, "jax": OF_JAX}.get(engine, METHODS)
    if method not in known:
        raise ValueError(
            f"`engine` must be 'auto' or 'fused' for method {method!r}; got {engine!r}. Its own "
            f"methods are {', '.join(map(repr, known))}."
        )
    if isinstance(spec, GaussianMixture):
        if isinstance(spec.n_components, PriorOnComponents) and (method, engine) not in LEARNING:
            raise ValueError(
                f"`spec` must have a number of components for method {method!r} with engine "
                f"{engine!r}; got {spec.n_components!r}. Use method='nuts' and engine='auto', or "
                f"give a number."
            )
        return spec, None
    if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
        return GaussianMixture(int(spec)), None
    raise TypeError(
        f"`spec` must be a GaussianMixture, a number of components or a PyMC model; got "
        f"{got(spec)}. Write bg.fit(X, 3)."
    )


def _allocated_by(specification: GaussianMixture, method: str, engine: str) -> str | None:
    """Return how rows are allocated where components may be empty; None where they may not."""
    if isinstance(specification.n_components, PriorOnComponents):
        return telescoping.METHOD
    overfitted = isinstance(specification.weights, SparseDirichlet | StickBreaking)
    return telescoping.OVERFITTED if overfitted and (method, engine) in LEARNING else None


def _allocated(
    specification: GaussianMixture,
    method: str,
    data: Data,
    options: Options,
    progressbar: bool,
) -> xr.DataTree:
    """Fit a mixture in which components may be empty, by allocating rows to components."""
    began = time.perf_counter()
    with at_work(progressbar) as progress:
        learnt = telescoping.Learnt.make(specification, data)
        drawn, interrupted = telescoping.sample(learnt, options, progress)
    if interrupted:
        warn_interrupted(drawn.statistics[names.LP].shape[1], options)
    attrs = provenance(learnt.problem, options, method, "fused", began)
    del attrs["n_parameters"]  # they are those of one component
    return assemble(learnt.problem, drawn, attrs, sharing=1)


def _of_model(method: str) -> Callable[[Problem, Any, Options, Progress], Draws]:
    """Return what fits PyMC's program of a model."""
    if method == "nuts":
        from bayesgmm.inference.pymc_engine import sample_model

        return sample_model
    from bayesgmm.inference.pymc_advi import approximate_model

    return approximate_model(method)
