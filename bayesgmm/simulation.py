"""Mixtures drawn from their prior, and rows drawn from the mixtures."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.background import NOISE_LABEL
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.degrees_of_freedom import GammaDegrees
from bayesgmm.errors import check_integer, got
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.kernels.factor_loadings import is_factored, joined
from bayesgmm.mixture import GaussianMixture, StudentTMixture
from bayesgmm.priors import LKJCovariance

type Array = NDArray[np.float64]


def simulate(
    spec: GaussianMixture,
    n_obs: int,
    *,
    n_features: int | None = None,
    draws: int | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Draw a mixture from its prior, and rows from the mixture.

    Parameters
    ----------
    spec : GaussianMixture or StudentTMixture
        Every hyperparameter a number: as `spec.resolve(X)` returns it, or as the user gave them.
    n_obs : int
        Rows of each mixture, at least 1.
    n_features : int, optional
        Needed where all hyperparameters are single numbers, which do not say how many features
        there are.
    draws : int, optional
        How many mixtures, each with rows of its own; by default one, without the dimensions
        ``chain`` and ``draw``.
    random_seed : int or numpy.random.Generator, optional
        The same seed gives the same mixtures and rows.

    Returns
    -------
    xarray.Dataset
        ``X`` (obs, feature); ``labels`` (obs), the component that each row came from; and the
        truth, named and labelled as in the posterior of a fit: ``weights`` (component), ``means``
        and ``scales`` (component, feature), ``correlations`` and ``covariances`` (component,
        feature, feature2); of Student's t ``df`` (component) too; with noise ``noise_weight``, and
        labels of -1; of a `FactorCovariance`
        ``loadings`` (component, feature, factor) and ``noise_scales`` (component, feature) in
        place of the last two. Where the number of components has a prior ``n_components``,
        ``n_clusters`` (components with rows) and ``concentration`` too; ``component`` is as long
        as the largest draw, and others are filled up with components of weight 0. With `draws`
        all begin with the dimensions ``chain``, of length 1, and ``draw``; one data set of them
        is ``data["X"].isel(chain=0, draw=7, drop=True)``.

    Raises
    ------
    TypeError, ValueError
        If `spec` is no specification, a hyperparameter is not a number, or the number of features
        is not known.

    Notes
    -----
    Scales at a floor are half-normal draws given that they exceed it. A floor of None is 0: rows
    that are drawn do not repeat. Correlation matrices are made of partial correlations, which are
    independent under the LKJ distribution. O(S (K D^2 + N D^2)) for S draws.

    References
    ----------
    Lewandowski, Kurowicka & Joe (2009), Generating random correlation matrices based on vines
    and extended onion method, J. Multivariate Analysis 100. doi:10.1016/j.jmva.2009.04.008

    Robert (1995), Simulation of truncated normal variables, Statistics and Computing 5.
    doi:10.1007/BF00143942

    Examples
    --------
    >>> import bayesgmm as bg
    >>> prior = {"means": bg.NormalMeans(0.0, 5.0), "covariance": bg.LKJCovariance(scale=1.0)}
    >>> spec = bg.GaussianMixture(3, **prior)
    >>> data = bg.simulate(spec, 200, n_features=2, random_seed=1)
    >>> dict(data.sizes)
    {'component': 3, 'feature': 2, 'feature2': 2, 'obs': 200}
    >>> tree = bg.fit(data["X"], spec, method="map", random_seed=1)
    """
    known = with_numbers(spec, n_features)
    n_obs = check_integer(n_obs, "n_obs", 1, "Give the number of rows, e.g. 500.")
    n_draws = 1 if draws is None else check_integer(draws, "draws", 1, "Leave it out for one.")
    rng = np.random.default_rng(random_seed)
    drawn, factors = _mixtures(known, n_draws, rng)
    drawn[names.X], drawn[names.LABELS] = _rows(drawn, factors, n_obs, rng)
    if known.noise is not None:
        is_noise = rng.random((n_draws, n_obs)) < drawn[names.NOISE_WEIGHT][:, None]
        drawn[names.LABELS][is_noise] = NOISE_LABEL
        drawn[names.X][is_noise] = known.noise.draw((int(is_noise.sum()),), rng)
    if names.N_COMPONENTS in drawn:
        drawn[names.N_CLUSTERS] = np.array([len(set(row)) for row in drawn[names.LABELS].tolist()])
    sample = () if draws is None else (names.CHAIN, names.DRAW)
    dims = {
        **names.PARAMETER_DIMS, **names.FACTOR_DIMS, names.DF: (names.COMPONENT,),
        names.X: (names.OBS, names.FEATURE), names.LABELS: (names.OBS,),
    }  # fmt: skip
    variables = {
        name: (
            (*sample, *dims.get(name, ())),
            array[0] if draws is None else array[None],
        )
        for name, array in drawn.items()
    }
    features = [f"x{d}" for d in range(factors.shape[-2])]
    labels: dict[str, Any] = {
        names.CHAIN: np.arange(1),
        names.DRAW: np.arange(n_draws),
        names.COMPONENT: np.arange(factors.shape[1]),
        names.FEATURE: features,
        names.FEATURE2: features,
        names.FACTOR: np.arange(factors.shape[-1] - 1),
        names.OBS: np.arange(n_obs),
    }
    used = {dim for due, _ in variables.values() for dim in due}
    return xr.Dataset(variables, {dim: labels[dim] for dim in labels if dim in used})


def with_numbers(spec: GaussianMixture, n_features: int | None) -> GaussianMixture:
    """Return a specification with a number for every feature, without looking at data."""
    if not isinstance(spec, GaussianMixture):
        raise TypeError(
            f"`spec` must be a GaussianMixture; got {got(spec)}. Write "
            f"bg.GaussianMixture(3).resolve(X), where X are data to take the priors from."
        )
    means, covariance = spec.means, spec.covariance
    given = {
        "means.location": means.location,
        "means.scale": means.scale,
        "covariance.scale": covariance.scale,
    }
    if isinstance(covariance, FactorCovariance):
        given["covariance.loading_scale"] = covariance.loading_scale
    if spec.noise is not None:
        given |= {"noise.low": spec.noise.low, "noise.high": spec.noise.high}
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise ValueError(
            f"`spec` must have numbers for all hyperparameters, as there are no data to take them "
            f"from; got None for {', '.join(missing)}. Give numbers, or write spec.resolve(X)."
        )
    numbers = (*given.values(), covariance.floor)
    entries = [len(value) for value in numbers if isinstance(value, tuple)]
    if n_features is None and not entries:
        raise ValueError(
            "`n_features` must be given where every hyperparameter of `spec` is a single number; "
            "got None. Give the number of features, e.g. n_features=2."
        )
    n = max(entries) if n_features is None else n_features
    n = check_integer(n, "n_features", 1, "Give e.g. 2.")
    if isinstance(covariance, FactorCovariance):
        covariance.check_features(n)
    return spec.resolve(np.repeat([[0.0], [1.0]], n, axis=1))  # rows that no number is taken from


def _mixtures(
    spec: GaussianMixture, n_draws: int, rng: np.random.Generator
) -> tuple[dict[str, NDArray[Any]], Array]:
    """Return mixtures from the prior, and Cholesky factors of their correlations, (S, K, D, D).

    Of factor analysers [W psi], (S, K, D, q + 1).
    """
    number, structure = spec.n_components, spec.structure
    location, spread = np.asarray(spec.means.location), np.asarray(spec.means.scale)
    n_dim = location.size
    drawn: dict[str, NDArray[Any]] = {}
    if isinstance(number, PriorOnComponents):
        numbers, concentration, weights = number.draw(n_draws, rng)
        drawn = {names.N_COMPONENTS: numbers, names.CONCENTRATION: concentration}
    else:
        weights = spec.weights.draw(number, n_draws, rng)
    if spec.noise is not None:  # of all together Dirichlet: a Beta, and the rest as it was
        of_others = spec.concentration[:-1].sum()
        drawn[names.NOISE_WEIGHT] = rng.beta(spec.noise.concentration, of_others, n_draws)
        weights = weights * (1.0 - drawn[names.NOISE_WEIGHT][:, None])
    n_components = weights.shape[1]
    shape = (n_draws, n_components, n_dim)
    means = location + spread * rng.standard_normal(shape)
    free = (
        n_draws,
        1 if structure.shared_scales else n_components,
        1 if structure.common_scale else n_dim,
    )
    scales = np.broadcast_to(_half_normal(spec.covariance, free, rng), shape)
    if isinstance(spec.covariance, FactorCovariance):
        spread = np.asarray(spec.covariance.loading_scale)[:, None]
        loadings = spread * rng.standard_normal((*shape, spec.covariance.n_factors))
        return drawn | {
            names.WEIGHTS: weights,
            names.MEANS: means,
            names.NOISE_SCALES: scales.copy(),
            names.LOADINGS: loadings,
            names.SCALES: np.sqrt(scales**2 + (loadings**2).sum(axis=-1)),
        }, joined(loadings, scales)
    sets = {"none": 0, "shared": 1, "component": n_components}[structure.correlations]
    factors = np.broadcast_to(np.eye(n_dim), (*shape, n_dim))
    if sets:
        partial = _factors(spec.covariance.eta, (n_draws, sets), n_dim, rng)
        factors = np.broadcast_to(partial, (*shape, n_dim))
    correlations = factors @ factors.mT
    correlations[..., np.arange(n_dim), np.arange(n_dim)] = 1.0
    if isinstance(spec, StudentTMixture):
        drawn[names.DF] = _df(spec, n_draws, rng)
    return drawn | {
        names.WEIGHTS: weights,
        names.MEANS: means,
        names.SCALES: scales.copy(),
        names.CORRELATIONS: correlations,
        names.COVARIANCES: correlations * scales[..., :, None] * scales[..., None, :],
    }, factors


def _df(spec: StudentTMixture, n_draws: int, rng: np.random.Generator) -> Array:
    """Return degrees of freedom, shape (S, K), known or drawn from their prior."""
    prior, shape = spec.df, (n_draws, spec.known_number)
    if not isinstance(prior, GammaDegrees):
        return np.broadcast_to(np.asarray(prior, dtype=float), shape).copy()
    drawn = rng.gamma(prior.shape, 1.0 / prior.rate, (n_draws, 1 if prior.shared else shape[1]))
    return np.broadcast_to(drawn, shape).copy()


def _half_normal(
    prior: LKJCovariance | FactorCovariance, shape: tuple[int, ...], rng: np.random.Generator
) -> Array:
    """Return half-normal draws given that they exceed the floor, by exponential proposals."""
    scale, floor = np.asarray(prior.scale), np.asarray(prior.floor)
    least = np.broadcast_to(floor / scale, shape)
    rate = 0.5 * (least + np.sqrt(least**2 + 4.0))
    excess, waiting = np.empty(shape), np.ones(shape, dtype=bool)
    while waiting.any():
        proposed = rng.exponential(size=shape) / rate
        fits = rng.exponential(size=shape) > 0.5 * (least + proposed - rate) ** 2
        excess = np.where(waiting & fits, proposed, excess)
        waiting &= ~fits
    return np.asarray(floor + scale * excess)


def _factors(eta: float, lead: tuple[int, int], n_dim: int, rng: np.random.Generator) -> Array:
    """Return Cholesky factors of LKJ correlation matrices, shape (S, G, D, D)."""
    factors = np.zeros((*lead, n_dim, n_dim))
    for i in range(n_dim):
        rest = np.ones(lead)
        for j in range(i):
            a = eta + 0.5 * (n_dim - 2 - j)
            b = rng.beta(a, a, lead)
            factors[..., i, j] = (2.0 * b - 1.0) * rest
            rest = rest * np.sqrt(4.0 * b * (1.0 - b))
        factors[..., i, i] = rest
    return factors


def _rows(
    mixtures: dict[str, NDArray[Any]], factors: Array, n_obs: int, rng: np.random.Generator
) -> tuple[Array, NDArray[np.int64]]:
    """Return rows, shape (S, N, D), and the components they came from, (S, N)."""
    weights, means = mixtures[names.WEIGHTS], mixtures[names.MEANS]
    n_draws, n_components, n_dim = means.shape
    X, labels = np.empty((n_draws, n_obs, n_dim)), np.empty((n_draws, n_obs), dtype=np.int64)
    for s in range(n_draws):
        k = labels[s] = rng.choice(n_components, n_obs, p=weights[s] / weights[s].sum())
        z = rng.standard_normal((n_obs, n_dim))
        if is_factored(factors, n_dim):
            X[s] = means[s, k] + factors[s, k, :, -1] * z
            scores = rng.standard_normal((n_obs, factors.shape[-1] - 1))
            X[s] += np.einsum("nij,nj->ni", factors[s, k, :, :-1], scores)
            continue
        noise = np.einsum("nij,nj->ni", factors[s, k], z)
        if names.DF in mixtures:
            df = mixtures[names.DF][s, k]
            noise /= np.sqrt(rng.chisquare(df) / df)[:, None]
        X[s] = means[s, k] + mixtures[names.SCALES][s, k] * noise
    return X, labels
