"""The readable model: specification and data as a probabilistic program of PyMC.

Its unconstrained variables are, in order and meaning, the vector of `kernels.cholesky` with means
and scales in the data's units, so that its log density is that of `kernels.posterior`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from numpy.typing import NDArray
from pymc.distributions.transforms import simplex

from bayesgmm import names
from bayesgmm.data import Data, center_and_unit, check_enough_rows, prepare, refuse_missing
from bayesgmm.degrees_of_freedom import GammaDegrees
from bayesgmm.factor_model import factor_covariances
from bayesgmm.factor_packing import Gauge
from bayesgmm.factor_prior import FactorCovariance
from bayesgmm.known_labels import with_labels
from bayesgmm.likelihood import (
    log_density_of,
    log_weights_of_rows,
    random_rows_of,
)
from bayesgmm.mixture import GaussianMixture, StudentTMixture
from bayesgmm.op import correlation_factors
from bayesgmm.overfitted import Gamma, StickBreaking
from bayesgmm.packing import packed_df
from bayesgmm.priors import LKJCovariance

type Array = NDArray[np.float64]


def build_model(
    spec: GaussianMixture | int,
    X: Any,
    *,
    sample_weight: Any = None,
    labels: Any = None,
    log_weights: Callable[[Any], Any] | None = None,
) -> pm.Model:
    """Write a Gaussian mixture down as a PyMC model, ready to be drawn from, extended and fitted.

    Parameters
    ----------
    spec : GaussianMixture, StudentTMixture or int
        The mixture and its priors; a number of components stands for all defaults.
    X : array, DataFrame, Series or DataArray
        Rows by features; one dimension is one feature. No cell may be missing: `fit` with a
        specification integrates missing cells out.
    sample_weight : array or Series, shape (n_obs,), optional
        How many rows each stands for, as `fit` takes them.
    labels : array or Series, shape (n_obs,) or (n_obs, n_components), optional
        What is known of the components of rows, as `fit` takes it.
    log_weights : callable, optional
        For rows with weights of their own, by a regression say. It is called within the model with
        the variable ``weights``, may add variables, and returns a tensor of shape (n_obs,
        n_components): the logarithms of the weights of every row, up to a constant for each row.

    Returns
    -------
    pymc.Model
        With dimensions ``component``, ``feature``, ``feature2`` and ``obs``, labelled as the data
        are; the variables ``weights`` (component), ``means`` and ``scales`` (component, feature),
        ``correlations`` and ``covariances`` (component, feature, feature2), all in the data's
        units; and the data as the observed variable ``X`` (obs, feature). Of a `FactorCovariance`
        ``loadings`` (component, feature, factor) and ``noise_scales`` in place of ``scales`` and
        ``correlations``. With noise ``noise_weight``, and ``all_weights``, which are ``weights``
        and it: `fit` does not take such a model, ``pm.sample`` does.

    Raises
    ------
    TypeError, ValueError
        If `spec` is neither a specification nor a number of components, does not suit the data,
        or `X` cannot be fitted (see `fit`).

    See Also
    --------
    fit : Fits `spec` to `X` directly, or this model after it was changed.

    Notes
    -----
    Which components a row belongs to is summed over: the log density of a row is

        log sum_k weights[k] Normal(x | means[k], covariances[k])

    (or Student's t of ``df[k]`` degrees of freedom) each term times the degree to which its label
    allows the component, if that is known, and the whole times its weight; one evaluation costs O(N
    K D^2). What is free: ``weights`` (a constant if there is one component), ``means``, ``scales``
    (``shared_scales`` where components or features share them), and ``partial_correlations_beta``,
    numbers b in (0, 1) such that 2 b - 1 are the canonical partial correlations of an LKJ
    correlation matrix, independent Beta variables. PyMC's own LKJ distributions are not used: their
    normalising constants are wrong.

    Priors may be changed as you like. Where the likelihood is another than that of the mixture, by
    `log_weights` or by your own terms, `fit` notes the attribute ``likelihood`` and stores as
    ``log_likelihood`` what the model says of every row, if it says it row by row; functions that
    would take rows for those of the mixture refuse such a fit. It is seen by the densities of rows,
    and by potentials and further observed variables that read anything as long as the data; what
    read the rows in another form, their sums say, cannot be told from priors.

    PyMC starts its samplers with all components alike, give or take 1 in the data's units: `fit`
    knows better starts.

    References
    ----------
    Barnard, McCulloch & Meng (2000), Modeling covariance matrices in terms of standard deviations
    and correlations, Statistica Sinica 10, 1281-1311.

    Lewandowski, Kurowicka & Joe (2009), Generating random correlation matrices based on vines
    and extended onion method, J. Multivariate Analysis 100. doi:10.1016/j.jmva.2009.04.008

    Examples
    --------
    >>> import bayesgmm as bg
    >>> import numpy as np
    >>> import pymc as pm
    >>> X = bg.datasets.load_faithful()
    >>> with bg.build_model(2, X) as model:
    ...     short, long = model["means"][0, 0], model["means"][1, 0]
    ...     _ = pm.Potential("order", pm.math.switch(short < long, 0.0, -1e3))
    >>> [variable.name for variable in model.free_RVs]
    ['weights', 'means', 'scales', 'partial_correlations_beta']

    Weights that depend on when a row was observed:

    >>> time = np.linspace(-1.0, 1.0, len(X))
    >>> def log_weights(weights):
    ...     slope = pm.ZeroSumNormal("slope", sigma=1.0, dims="component")
    ...     return pm.math.log(weights) + time[:, None] * slope
    >>> model = bg.build_model(2, X, log_weights=log_weights)
    """
    specification = _as_specification(spec)
    if log_weights is not None or labels is not None:
        specification.refuse_noise("in a PyMC model with `log_weights` or `labels`")
    data = prepare(X, sample_weight=sample_weight)
    refuse_missing(data, "X", "Fit a specification, bg.fit(X, spec), which integrates them out.")
    check_enough_rows(data, specification.known_number)
    data = with_labels(data, labels, specification.known_number)
    resolved = specification.resolve(*data.counted)
    n_components, n_features = resolved.known_number, data.n_features
    with pm.Model(coords=_coords(resolved, data)) as model:
        weights, of_noise = _weights(resolved)
        means = pm.Normal(
            names.MEANS,
            mu=np.asarray(resolved.means.location),
            sigma=np.asarray(resolved.means.scale),
            shape=(n_components, n_features),
            dims=(names.COMPONENT, names.FEATURE),
        )
        if isinstance(resolved.covariance, FactorCovariance):
            cholesky = _of_factors(resolved, data)
        else:
            cholesky = _of_correlations(resolved, n_features)
        further = [*_df(resolved), *of_noise]
        of_rows = None if log_weights is None else log_weights_of_rows(log_weights, weights, data)
        pm.CustomDist(
            names.X,
            weights if of_rows is None else of_rows,
            means,
            cholesky,
            *further,
            dist=random_rows_of(resolved, own_weights=of_rows is not None),
            logp=log_density_of(data, resolved),
            signature=f"(k),(k,d),(k,d,d){',()' if of_noise else ',(k)' * len(further)}->(d)",
            observed=data.values,
            dims=(names.OBS, names.FEATURE),
        )
    setattr(model, names.SPECIFICATION, resolved)
    setattr(model, names.SAMPLE_WEIGHT, data.sample_weight)
    setattr(model, names.ALLOWED, data.allowed)
    return model


def _of_correlations(specification: GaussianMixture, n_features: int) -> Any:
    """Return Cholesky factors of covariances made of scales and correlations."""
    scales = _scales(specification, n_features)
    factors = _correlation_factors(specification, n_features)
    shape = (specification.known_number, n_features, n_features)
    square = (names.COMPONENT, names.FEATURE, names.FEATURE2)
    correlations = pm.Deterministic(
        names.CORRELATIONS,
        pt.broadcast_to(pt.matmul(factors, factors.mT), shape),
        dims=square,
    )
    pm.Deterministic(
        names.COVARIANCES,
        scales[:, :, None] * scales[:, None, :] * correlations,
        dims=square,
    )
    return scales[:, :, None] * factors


def _of_factors(specification: GaussianMixture, data: Data) -> Any:
    """Return Cholesky factors of covariances made of loadings and noise."""
    prior, (values, counts) = specification.covariance, data.counted
    assert isinstance(prior, FactorCovariance)
    prior.check_features(data.n_features)
    center, unit = center_and_unit(values, specification.structure.common_scale, counts)
    gauge = Gauge.make(prior, specification.known_number, values, counts, center, unit)
    covariances = factor_covariances(specification, gauge, _scales(specification, data.n_features))
    pm.Deterministic(
        names.COVARIANCES, covariances, dims=(names.COMPONENT, names.FEATURE, names.FEATURE2)
    )
    return pt.linalg.cholesky(covariances)


def _as_specification(spec: GaussianMixture | int) -> GaussianMixture:
    """Return a specification, made with all defaults from a number of components."""
    if isinstance(spec, GaussianMixture):
        return spec
    if isinstance(spec, int | np.integer) and not isinstance(spec, bool):
        return GaussianMixture(int(spec))
    raise TypeError(
        f"`spec` must be a GaussianMixture or a number of components; got {spec!r} of type "
        f"{type(spec).__name__}. Write bg.GaussianMixture(3), or 3."
    )


def _coords(specification: GaussianMixture, data: Data) -> dict[str, Any]:
    """Return the labels of all dimensions."""
    features = data.features.tolist()
    rows, columns = _pairs(data.n_features)
    coords = {
        names.COMPONENT: np.arange(specification.known_number),
        names.FEATURE: features,
        names.FEATURE2: features,
        names.OBS: data.obs,
    }
    if isinstance(specification.covariance, FactorCovariance):
        coords[names.FACTOR] = np.arange(specification.covariance.n_factors)
    elif data.n_features > 1:
        pairs = zip(rows, columns, strict=True)
        coords[names.PAIR] = [f"{features[i]}, {features[j]}" for i, j in pairs]
    return coords


def _pairs(n_features: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return rows and columns of all places below the diagonal, row by row."""
    return np.tril_indices(n_features, -1)


def _weights(specification: GaussianMixture) -> tuple[Any, list[Any]]:
    """Return the weights, nothing being free about a single one, and that of noise, if any."""
    if specification.noise is not None:
        every = pm.Dirichlet(names.ALL_WEIGHTS, a=specification.concentration)
        weights = pm.Deterministic(names.WEIGHTS, every[:-1], dims=names.COMPONENT)
        return weights, [pm.Deterministic(names.NOISE_WEIGHT, every[-1])]
    if specification.known_number == 1:
        return pm.Deterministic(names.WEIGHTS, pt.ones(1), dims=names.COMPONENT), []
    if isinstance(specification.weights, StickBreaking):
        return _broken_off(specification.weights), []
    concentration = specification.concentration
    return pm.Dirichlet(names.WEIGHTS, a=concentration, dims=names.COMPONENT), []


def _broken_off(prior: StickBreaking) -> Any:
    """Return weights that are broken off a stick, their concentration integrated out."""
    broken, alpha = prior.known_truncation - 1, prior.concentration
    numbers = (alpha.shape, alpha.rate) if isinstance(alpha, Gamma) else (alpha,)
    parameters = [np.float64(number) for number in numbers]  # PyTensor rounds plain ones
    learnt = len(parameters) == 2

    def random(*given: Any) -> Any:
        concentration = pm.Gamma.dist(*given[:2]) if learnt else given[0]
        pieces = pm.Beta.dist(1.0, concentration, shape=(broken,))
        rest = pt.cumprod(1.0 - pieces)
        return pt.concatenate([pieces[:1], pieces[1:] * rest[:-1], rest[-1:]])

    def log_density(value: Any, a: Any, b: Any = None) -> Any:
        log_weights = pt.log(value)  # all at once: PyTensor knows it of a softmax that underflows
        last = log_weights[-1]
        after = np.triu(np.ones((broken + 1, broken + 1), dtype=bool))
        log_rest = pt.logsumexp(pt.switch(after, log_weights, -np.inf), axis=1)
        result = -log_rest[1:].sum()
        if not learnt:
            return result + broken * pt.log(a) + a * last
        constant = pt.gammaln(a + broken) - pt.gammaln(a) + a * pt.log(b)
        return result + constant - (a + broken) * pt.log(b - last)

    return pm.CustomDist(
        names.WEIGHTS,
        *parameters,
        dist=random,
        logp=log_density,
        signature=f"{','.join('()' for _ in parameters)}->(k)",
        transform=simplex,
        dims=names.COMPONENT,
    )


def _scales(specification: GaussianMixture, n_features: int) -> Any:
    """Return the scales, or noise scales, (component, feature), whatever of them is shared."""
    structure = specification.structure
    name, shared_name = names.SCALES, names.SHARED_SCALES
    if isinstance(specification.covariance, FactorCovariance):
        name, shared_name = names.NOISE_SCALES, names.SHARED_NOISE_SCALES
    sizes: dict[str, int] = {}
    if not structure.shared_scales:
        sizes[names.COMPONENT] = specification.known_number
    if not structure.common_scale:
        sizes[names.FEATURE] = n_features
    if len(sizes) == 2:
        return _half_normal(name, specification, sizes)
    shared = _half_normal(shared_name, specification, sizes)
    along_components = shared[:, None] if names.COMPONENT in sizes else shared
    return pm.Deterministic(
        name,
        pt.broadcast_to(along_components, (specification.known_number, n_features)),
        dims=(names.COMPONENT, names.FEATURE),
    )


def _half_normal(name: str, specification: GaussianMixture, sizes: dict[str, int]) -> Any:
    """Return half-normal variables, truncated where the scales have a floor."""
    dims, shape = tuple(sizes), tuple(sizes.values())
    sigma = np.broadcast_to(np.asarray(specification.covariance.scale), shape)
    floor = np.broadcast_to(np.asarray(specification.covariance.floor), shape)
    if floor.any():
        prior = pm.HalfNormal.dist(sigma=sigma)
        return pm.Truncated(name, prior, lower=floor, shape=shape, dims=dims)
    return pm.HalfNormal(name, sigma=sigma, shape=shape, dims=dims)


def _correlation_factors(specification: GaussianMixture, n_features: int) -> Any:
    """Return lower Cholesky factors of the correlation matrices, shape (K or 1, D, D)."""
    sharing = specification.structure.correlations
    if sharing == "none" or n_features == 1:
        return pt.as_tensor_variable(np.eye(n_features)[None])
    columns = _pairs(n_features)[1]
    assert isinstance(specification.covariance, LKJCovariance)
    a = specification.covariance.eta + 0.5 * (n_features - 2 - columns)
    sizes = {names.COMPONENT: specification.known_number, names.PAIR: columns.size}
    if sharing == "shared":
        del sizes[names.COMPONENT]
    b = pm.Beta(
        names.PARTIAL_CORRELATIONS, alpha=a, beta=a, shape=tuple(sizes.values()), dims=tuple(sizes)
    )
    return lkj_factors(b[None] if sharing == "shared" else b, n_features)


def _df(specification: GaussianMixture) -> list[Any]:
    """Return the degrees of freedom, if there are any, (component,), whatever is known of them."""
    if not isinstance(specification, StudentTMixture):
        return []
    prior, n = specification.df, specification.known_number
    if not isinstance(prior, GammaDegrees):
        known = pt.as_tensor_variable(packed_df(specification))
        return [pm.Deterministic(names.DF, known, dims=names.COMPONENT)]
    law = {"alpha": prior.shape, "beta": prior.rate}
    if not prior.shared:
        return [pm.Gamma(names.DF, **law, shape=n, dims=names.COMPONENT)]
    shared = pm.Gamma(names.SHARED_DF, **law)
    return [pm.Deterministic(names.DF, pt.broadcast_to(shared, (n,)), dims=names.COMPONENT)]


def lkj_factors(b: Any, n_features: int) -> Any:
    """Return Cholesky factors of the correlation matrices with given partial correlations.

    Parameters
    ----------
    b : TensorVariable, shape (G, D (D - 1) / 2)
        In (0, 1); 2 b - 1 are canonical partial correlations, row by row below the diagonal.
    n_features : int
        D.

    Returns
    -------
    TensorVariable, shape (G, D, D)
        C_ij = c_ij prod_{m<j} sqrt(1 - c_im^2), C_ii = prod_{m<i} sqrt(1 - c_im^2).
    """
    # as logarithms: PyTensor knows those of b = sigmoid(x) exactly, where b rounds to 0 or 1
    return correlation_factors(pt.log(b), pt.log1p(-b), n_features)
