"""EM watched step by step."""

import json
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from bayesgmm import names
from bayesgmm.data import check_enough_rows, prepare, refuse_missing
from bayesgmm.errors import FitError, check_choice, check_integer, got
from bayesgmm.inference.mode import Target
from bayesgmm.inference.starts import LLOYD_SWEEPS
from bayesgmm.inference.suited import without_factors
from bayesgmm.kernels.cholesky import unconstrain
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.mstep import em_map
from bayesgmm.kernels.patterns import NO_GROUPS
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.seeding import BEGIN_NOISE, kmeans_labels, vector_from_labels
from bayesgmm.mixture import GaussianMixture
from bayesgmm.problem import Problem
from bayesgmm.tree import NoisyParameters, Parameters, TailedParameters, with_covariances

type Array = NDArray[np.float64]

STARTS: Final = ("random", "kmeans")
GAIN: Final = 1e-6
"""Nats by which a step must raise the objective for another to be made."""


def em_path(
    X: Any,
    spec: GaussianMixture | int,
    *,
    method: str = "map",
    start: str | ArrayLike = "random",
    n_iterations: int = 200,
    random_seed: int | None = None,
) -> xr.Dataset:
    r"""Run expectation maximisation from one start and keep every step, to look at.

    Each iteration computes the responsibilities of the components for the rows under the current
    parameters (E), and then the parameters that are best for these responsibilities (M); the
    objective never falls. `fit` runs the same steps, from many starts, extrapolates them, and for
    ``method="map"`` goes on to the mode of the exact posterior.

    Parameters
    ----------
    X : array, DataFrame, Series or DataArray
        As for `fit`.
    spec : GaussianMixture or int
        The model, or a number of components with default priors.
    method : str, default "map"
        ``"ml"``: the objective is the log-likelihood. ``"map"``: a conjugate penalty is added that
        stands in for the priors, and keeps components from collapsing.
    start : str or array, shape (n_components, n_features), default "random"
        Where the means begin: at random rows, with equal weights and round components as wide as
        the data; the array, likewise; ``"kmeans"``: the clusters of a k-means++ start, as in `fit`.
    n_iterations : int, default 200
        At the most, at least 1.
    random_seed : int, optional
        The same seed gives the same start.

    Returns
    -------
    xarray.Dataset
        Along ``iteration``, from 0, the start: ``objective`` and ``log_likelihood`` in nats;
        ``weights`` (component), ``means`` (component, feature), ``covariances`` (component,
        feature, feature2), of Student's t ``df`` (component), ``responsibilities`` (obs,
        component), with noise ``noise_weight``, and responsibilities sum to less than 1; and the
        data ``X`` (obs, feature). The attribute ``status`` is ``"converged"`` (a step gained less
        than 1e-6), ``"stopped"`` after `n_iterations`, or ``"collapsed"`` where a component shrank
        onto a few rows.

    Raises
    ------
    TypeError, ValueError
        If an argument is refused, before any computing.
    FitError
        If a k-means cluster is too small to begin with; status ``"degenerate"``.

    See Also
    --------
    plot_em_path : Draws the path, or animates it.

    Notes
    -----
    With responsibilities r, numbers n_k = sum_i r_ik, and no penalty, a step sets

    .. math:: w_k = \frac{n_k}{N}, \quad \mu_k = \frac{1}{n_k} \sum_i r_{ik} x_i, \quad
              \Sigma_k = \frac{1}{n_k} \sum_i r_{ik} (x_i - \mu_k)(x_i - \mu_k)^\top.

    O(N K D^2) a step; memory 8 N K bytes for each.

    References
    ----------
    Dempster, Laird & Rubin (1977), Maximum likelihood from incomplete data via the EM algorithm,
    J. Royal Statistical Society B 39. doi:10.1111/j.2517-6161.1977.tb01600.x

    Examples
    --------
    >>> import bayesgmm as bg
    >>> path = bg.em_path(bg.datasets.load_faithful(), 2, random_seed=1)
    >>> path.attrs["status"]
    'converged'
    >>> bool((path["objective"].diff("iteration") >= 0).all())
    True
    """
    target = Target(check_choice(method, "method", [one.value for one in Target]))
    n_iterations = check_integer(n_iterations, "n_iterations", 1, "Some hundreds are usual.")
    specification = without_factors(_specification(spec), "for `em_path`")
    data = prepare(X)
    refuse_missing(data, "X", "Drop those rows: steps are shown for complete ones.")
    check_enough_rows(data, specification.known_number)
    shape = (specification.known_number, data.n_features)
    first = _checked_start(start, shape)
    problem = Problem.make(specification, data)
    vector = _first_vector(problem, first, np.random.default_rng(random_seed))
    vectors, objective, status = _climb(problem, target, vector, n_iterations)
    objective -= data.n_obs * np.log(problem.unit).sum()
    floor = np.zeros(problem.layout.scale_columns)
    parameters = with_covariances(problem.constrain(vectors, floor=floor))
    log_likelihood, responsibilities = _pass(problem, parameters)
    dims = names.PARAMETER_DIMS
    arrays = {
        names.OBJECTIVE: ((), objective),
        names.LOG_LIKELIHOOD: ((), log_likelihood),
        names.RESPONSIBILITIES: ((names.OBS, names.COMPONENT), responsibilities),
        **{
            name: (dims[name], getattr(parameters, name))
            for name in (names.WEIGHTS, names.MEANS, names.COVARIANCES)
        },
    }
    if isinstance(parameters, TailedParameters):
        arrays[names.DF] = ((names.COMPONENT,), parameters.df)
    if isinstance(parameters, NoisyParameters):
        arrays[names.NOISE_WEIGHT] = ((), parameters.noise_weight)
    feature = data.feature_coord
    path = data.labelled(data.values).to_dataset(name=names.X)
    path = path.assign_coords({
        names.ITERATION: np.arange(len(vectors)),
        names.COMPONENT: np.arange(shape[0]),
        names.FEATURE2: xr.Variable(names.FEATURE2, feature.values, feature.attrs),
    })  # fmt: skip
    path = path.assign({name: ((names.ITERATION, *due), a) for name, (due, a) in arrays.items()})
    return path.assign_attrs({
        names.METHOD: method,
        names.STATUS: status,
        names.SPECIFICATION: json.dumps(problem.specification.to_dict()),
    })  # fmt: skip


def _specification(spec: Any) -> GaussianMixture:
    """Return a specification, made with all defaults from a number of components."""
    if isinstance(spec, GaussianMixture):
        return spec
    if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
        return GaussianMixture(int(spec))
    raise TypeError(
        f"`spec` must be a GaussianMixture or a number of components; got {got(spec)}. "
        "Write bg.GaussianMixture(3), or 3."
    )


def _checked_start(start: Any, shape: tuple[int, int]) -> str | Array:
    """Return the name of a start, or means to begin with."""
    if isinstance(start, str):
        return check_choice(start, "start", STARTS)
    try:
        means = np.asarray(start, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"`start` must be 'random', 'kmeans' or an array of means; got {got(start)}. "
            "Give numbers, a row for each component."
        ) from None
    if means.shape != shape:
        raise ValueError(
            f"`start` must hold a mean for each component, shape {shape}; got shape "
            f"{means.shape}. Give a row for each component."
        )
    if not np.isfinite(means).all():
        k, d = np.argwhere(~np.isfinite(means))[0]
        raise ValueError(
            f"`start` must be finite; got {means[k, d]} at component {k}, feature {d}. Give "
            f"places among the data."
        )
    return means


def _first_vector(problem: Problem, start: str | Array, rng: np.random.Generator) -> Array:
    """Return the vector that EM begins with, unconstrained."""
    k, n_noise = problem.layout.n_components, problem.layout.n_noise
    rows = problem.rows[: problem.layout.n_features]
    if isinstance(start, str) and start == "kmeans":
        once = problem.row_weights
        labels = kmeans_labels(rows, np.empty((0, 0)), once, rng.random(k), LLOYD_SWEEPS)
        ok, vector = vector_from_labels(problem.layout, problem.penalty(1.0), rows, once, labels)
        if not ok:
            raise FitError(
                "A k-means cluster has too few rows to begin with. Choose another "
                "`random_seed`, or start='random'.",
                status="degenerate",
            )
        return np.asarray(vector)
    if isinstance(start, str):
        means = rows[:, rng.choice(rows.shape[1], k, replace=False)].T
    else:
        means = (start - problem.center) / problem.unit
    return np.asarray(
        unconstrain(
            problem.layout,
            np.zeros(problem.layout.scale_columns),
            np.log([*[(1.0 - n_noise * BEGIN_NOISE) / k] * k, *[BEGIN_NOISE] * n_noise]),
            np.ascontiguousarray(means),
            np.tile(np.eye(problem.layout.n_features), (k, 1, 1)),
        )
    )


def _climb(
    problem: Problem, target: Target, vector: Array, n_iterations: int
) -> tuple[Array, Array, str]:
    """Return the vectors of all steps, their objectives, and how it ended."""
    penalty = problem.penalty(1.0 if target is Target.MAP else 0.0)
    vectors, objective, status = [], [], "stopped"
    for _ in range(n_iterations + 1):
        value, ok, following = em_map(
            problem.layout, penalty, problem.rows, problem.row_weights, NO_GROUPS, vector
        )
        vectors.append(vector)
        objective.append(value)
        if not ok:
            status = "collapsed"
            break
        if len(objective) > 1 and value - objective[-2] < GAIN:
            status = "converged"
            break
        vector = following
    return np.array(vectors), np.array(objective), status


def _pass(problem: Problem, parameters: Parameters) -> tuple[Array, Array]:
    """Return log-likelihoods, shape (T,), and responsibilities, shape (T, N, K)."""
    n_components, n_obs = problem.layout.n_components, problem.data.n_obs
    mixtures = parameters.standardised(problem.center, problem.unit)
    densities = np.empty((len(mixtures[0]), n_obs))
    shares = np.zeros((*mixtures[0].shape, n_obs))
    fill_draws(problem.rows, *mixtures, densities, shares, NO_LABELS, NO_CUBE)
    log_likelihood = densities.sum(axis=1) - n_obs * np.log(problem.unit).sum()
    return log_likelihood, shares[:, :n_components].transpose(0, 2, 1)
