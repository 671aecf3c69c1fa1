"""What a fitted mixture says about rows, fitted or new, averaged over the posterior."""

from typing import Any, Final, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.background import NOISE_LABEL, standardised_box
from bayesgmm.chunked import is_chunked
from bayesgmm.data import Data, prepare_new
from bayesgmm.errors import check_integer
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.factor_loadings import is_factored
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS
from bayesgmm.known_labels import of_components
from bayesgmm.lazy import by_blocks
from bayesgmm.records import log_volumes, rows_of
from bayesgmm.summaries import require_draws
from bayesgmm.tree import (
    NoisyParameters,
    feature_dim,
    features,
    noisy,
    parameters,
    require,
    specification,
)
from bayesgmm.tree.rows import coords_of, observed

type Array = NDArray[np.float64]

CHUNK_BYTES: Final = 2**26
"""Memory for the log densities of a chunk of rows under every draw."""
FARTHEST: Final = 1e100
"""Distance of a new row from the fitted data, in standard deviations, that is refused."""
LARGEST_RESULT: Final = 2**31
"""Bytes of a result beyond which it is refused rather than made."""


class Mixtures(NamedTuple):
    """The draws of a fit as the passes read them: of standardised data.

    Parameters
    ----------
    log_weights, means, cholesky : arrays
        Shapes (S, K), (S, K, D), (S, K, D, D); of heavy tails (S, K, D + 1, D), with degrees of
        freedom below. With noise its log joint density follows the log-weights, (S, K + 1).
    center, unit : arrays, shape (D,)
    box : array, shape (2, D) or (0, D)
        Lower and upper corner of the box of the noise, standardised; none without noise.
    """

    log_weights: Array
    means: Array
    cholesky: Array
    center: Array
    unit: Array
    box: Array

    @property
    def components(self) -> Self:
        """The same without noise: weights then sum to less than 1."""
        log_weights = np.ascontiguousarray(self.log_weights[:, : self.means.shape[1]])
        return self._replace(log_weights=log_weights, box=self.box[:0])

    def of(self, part: slice) -> Self:
        """Return some of the draws."""
        return self._replace(
            log_weights=self.log_weights[part],
            means=self.means[part],
            cholesky=self.cholesky[part],
        )

    def outside(self, rows: Array) -> NDArray[np.bool_]:
        """Tell which rows, (D', N), lie outside of the box of the noise: none without noise."""
        if not len(self.box):
            return np.zeros(rows.shape[1], dtype=bool)
        cells, (low, high) = rows[: self.box.shape[1]], self.box[:, :, None]
        return np.asarray(((cells < low) | (cells > high)).any(axis=0))

    def fill(self, rows: Array, densities: Array, responsibilities: Array) -> None:
        """Write what `fill_draws` does, of rows as `rows` returns them."""
        fill_draws(rows, *self[:3], densities, responsibilities, NO_LABELS, NO_CUBE)

    def rows(
        self, values: Array, errors: Array | None = None, allowed: Array | None = None
    ) -> Array:
        """Return rows as the kernels read them, shape (D', N); see `records.rows_of`."""
        n_components = self.means.shape[1]
        if not len(self.box):
            allowed = of_components(allowed, n_components)
        return rows_of(values, errors, allowed, n_components, self.center, self.unit, self.box)


def mixtures(tree: xr.DataTree) -> Mixtures:
    """Return the draws of a fit as the passes read them."""
    constant = tree[names.CONSTANT_DATA].dataset
    center, unit = constant[names.CENTER].values, constant[names.UNIT].values
    box = standardised_box(specification(tree).noise, center, unit)
    return Mixtures(*parameters(tree).standardised(center, unit), center, unit, box)


def predict_proba(tree: xr.DataTree, X_new: Any = None) -> xr.DataArray:
    """Return the probability that each row belongs to each component.

    The responsibilities of every draw, averaged over the posterior: they hold the uncertainty of
    the parameters as well as that of the allocation.

    Parameters
    ----------
    tree : DataTree
        A fit.
    X_new : array, table, cube or path, shape (n_new, n_features), optional
        The fitted features, in the fitted order, NaN where missing; by default the rows that were
        fitted, with their measurement errors and what is known of their labels: pass them as
        `X_new` to be told without.

    Returns
    -------
    DataArray, dims (obs, component)
        Probabilities; every row sums to 1. Of a fit with noise ``component`` has one entry more,
        the last: the noise, labelled -1. Of a cube the dimensions of its cells take the place of
        ``obs``, as the last, and cells that were left out are NaN; rows of several levels have a
        MultiIndex: so does everything that takes `X_new`.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit or `X_new` has other columns than it.

    Notes
    -----
    O(S N K D^2) operations for S draws, memory O(N K).

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.predict_proba(tree, [[2.0, 55.0]]).values.round(3)
    array([[1., 0.]])
    """
    if is_chunked(X_new):
        return by_blocks(predict_proba, tree, X_new, {}, None)
    data, probability = probability_of(tree, X_new, "predict_proba")
    return data.laid_out(probability)


def predict(tree: xr.DataTree, X_new: Any = None) -> xr.DataArray:
    """Return the most probable component of each row.

    Parameters
    ----------
    tree : DataTree
        A fit.
    X_new : array, table, cube or path, shape (n_new, n_features), optional
        The fitted features, in the fitted order, NaN where missing; by default the rows that were
        fitted, with their measurement errors and what is known of their labels.

    Returns
    -------
    DataArray of int, dims (obs,)
        Labels of components, -1 of noise: where `predict_proba` is largest. Floats where a cell of
        a cube was left out, and is NaN, or may be.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit or `X_new` has other columns than it.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.predict(tree, [[2.0, 55.0], [4.5, 80.0]]).values
    array([0, 1])
    """
    if is_chunked(X_new):
        return by_blocks(predict, tree, X_new, {}, None)
    data, probability = probability_of(tree, X_new, "predict")
    found = probability.idxmax(names.COMPONENT).astype(np.int64).rename(names.LABELS)
    return data.laid_out(found)


def score_samples(tree: xr.DataTree, X_new: Any = None) -> xr.DataArray:
    """Return the log posterior predictive density of each row.

    The logarithm of the density averaged over the posterior, not the average of logarithms.

    Parameters
    ----------
    tree : DataTree
        A fit.
    X_new : array, table, cube or path, shape (n_new, n_features), optional
        The fitted features, in the fitted order, NaN where missing; by default the rows that were
        fitted, with their measurement errors. New rows are without.

    Returns
    -------
    DataArray, dims (obs,)
        In nats, of a density in the data's units; neither labels nor weights count.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit or `X_new` has other columns than it.

    Notes
    -----
    O(S N K D^2) operations for S draws; 64 MiB of memory beyond the result.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.score_samples(tree, [[2.0, 55.0], [3.0, 40.0]]).values.round(1)
    array([ -3.3, -16.5])
    """
    if is_chunked(X_new):
        return by_blocks(score_samples, tree, X_new, {}, None)
    data = rows_asked(tree, X_new, "score_samples")
    draws = mixtures(tree)
    result = _log_mean_density(draws, draws.rows(data.values, data.errors))
    found = xr.DataArray(result, dims=names.OBS, coords=data.obs_coords, name="log_density")
    return data.laid_out(found)


def _log_mean_density(draws: Mixtures, every: Array) -> Array:
    """Return the log density of rows averaged over the draws, shape (N,), in the data's units."""
    n_obs, n_draws = every.shape[1], len(draws.log_weights)
    result = np.empty(n_obs)
    chunk = max(1, CHUNK_BYTES // (8 * n_draws))
    for start in range(0, n_obs, chunk):
        rows = np.ascontiguousarray(every[:, start : start + chunk])
        densities = np.empty((n_draws, rows.shape[1]))
        draws.fill(rows, densities, NO_CUBE)
        peak = densities.max(axis=0)
        with np.errstate(invalid="ignore"):  # -inf - -inf, where no draw gives any density
            mean = np.log(np.exp(densities - peak).mean(axis=0)) + peak
        mean -= log_volumes(rows, draws.unit)
        result[start : start + chunk] = np.where(peak == -np.inf, -np.inf, mean)
    return result


def sample_posterior_predictive(
    tree: xr.DataTree, n_obs: int | None = None, *, random_seed: int | None = None
) -> xr.Dataset:
    """Draw new rows from the fitted mixture, with the component that each came from.

    Parameters
    ----------
    tree : DataTree
        A fit.
    n_obs : int, optional
        New rows for each posterior draw; by default as many as were fitted.
    random_seed : int, optional
        The same seed gives the same rows.

    Returns
    -------
    Dataset
        ``X`` (chain, draw, obs, feature), in the data's units, and ``labels`` (chain, draw, obs),
        -1 of noise: ArviZ's group, ``tree["posterior_predictive"] = result``.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `n_obs` is not a positive integer, or the result would take more
        than 2 GiB.

    Notes
    -----
    O(S n_obs D^2) operations and S n_obs (D + 1) numbers for S draws.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> new = bg.sample_posterior_predictive(tree, 5, random_seed=1)
    >>> dict(new.sizes)
    {'chain': 1, 'draw': 1, 'obs': 5, 'feature': 2}
    """
    require_draws(tree, names.POSTERIOR, function="sample_posterior_predictive")
    if n_obs is None:
        require(tree, names.OBSERVED_DATA, function="sample_posterior_predictive")
        obs = tree[names.OBSERVED_DATA].dataset[names.OBS].variable
        n_new = obs.size
    else:
        n_new, obs = check_integer(n_obs, "n_obs", 1, "Give the number of rows, e.g. 100."), None
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    drawn = parameters(tree)
    weights, means = drawn[:2]
    n_draws, n_components, n_dim = means.shape
    size = 8 * n_draws * n_new * (n_dim + 1)
    if size > LARGEST_RESULT:
        raise ValueError(
            f"`n_obs` must leave the result under 2 GiB; got {n_new} rows for each of {n_draws} "
            f"draws, {size / 2**30:.1f} GiB. Give fewer rows, or thin the draws: "
            f"tree.isel(draw=slice(None, None, 10))."
        )
    rng = np.random.default_rng(random_seed)
    factors = drawn.standardised(np.zeros(n_dim), np.ones(n_dim))[2]
    bounds = np.cumsum(weights, axis=1)
    uniform = rng.random((n_draws, n_new)) * bounds[:, -1:]
    labels = np.zeros((n_draws, n_new), dtype=np.int64)
    for k in range(n_components - 1):
        labels += uniform >= bounds[:, k : k + 1]
    rows = rng.normal(size=(n_draws, n_new, n_dim))
    for k in range(n_components):
        draw, row = np.nonzero(labels == k)
        rows[draw, row] = means[draw, k] + _noise(factors[:, k], draw, rows[draw, row], rng)
    noise = specification(tree).noise
    if noise is not None and isinstance(drawn, NoisyParameters):
        is_noise = rng.random(labels.shape) < drawn.noise_weight[:, None]
        labels[is_noise] = NOISE_LABEL
        rows[is_noise] = noise.draw((int(is_noise.sum()),), rng)
    posterior, sample = tree[names.POSTERIOR].dataset, (names.CHAIN, names.DRAW)
    shape = tuple(posterior.sizes[dim] for dim in sample)
    coords = {dim: posterior[dim].variable for dim in (*sample, names.FEATURE)}
    coords[names.OBS] = xr.Variable(names.OBS, np.arange(n_new)) if obs is None else obs
    return xr.Dataset(
        {
            names.X: ((*sample, names.OBS, names.FEATURE), rows.reshape(*shape, n_new, n_dim)),
            names.LABELS: ((*sample, names.OBS), labels.reshape(*shape, n_new)),
        },
        coords=coords,
    )


def _noise(factors: Array, draw: NDArray[np.intp], z: Array, rng: np.random.Generator) -> Array:
    """Return noise, (n, D), of components by their factors (S, D', m); z is standard Normal."""
    n_dim = z.shape[1]
    if factors.shape[1] > n_dim:
        df = factors[draw, n_dim, 0]
        z = z / np.sqrt(rng.chisquare(df) / df)[:, None]
    if not is_factored(factors, n_dim):
        return np.asarray(np.einsum("nij,nj->ni", factors[draw, :n_dim], z))
    result: Array = factors[draw, :, -1] * z
    for j in range(factors.shape[-1] - 1):
        result += factors[draw, :, j] * rng.normal(size=(len(z), 1))
    return result


def fitted_rows(tree: xr.DataTree, draws: Mixtures) -> Array:
    """Return the rows that were fitted as the kernels read them, with all that was said."""
    return draws.rows(*observed(tree)[:3])


def rows_asked(tree: xr.DataTree, X_new: Any, function: str) -> Data:
    """Return the rows that a function is asked about; of the fitted ones labels may be known."""
    require_draws(tree, names.POSTERIOR, function=function)
    require(tree, names.CONSTANT_DATA, function=function)
    posterior, fitted = tree[names.POSTERIOR].dataset, specification(tree).n_components
    there = posterior.sizes[names.COMPONENT]
    if isinstance(fitted, int) and there != fitted and names.N_CLUSTERS not in posterior:
        raise ValueError(
            f"`tree` must have all {fitted} components for `{function}`; got {there}. Of some of "
            f"them choose in the result: bayesgmm.predict_proba(tree).sel(component=[0, 1])."
        )
    if X_new is None:
        require(tree, names.OBSERVED_DATA, function=function)
        said = observed(tree)
        data = Data(said.values, coords_of(tree), {}, errors=said.errors, allowed=said.allowed)
    else:
        data = prepare_new(X_new, features(tree), feature_dim=feature_dim(tree))
    constant = tree[names.CONSTANT_DATA].dataset
    with np.errstate(over="ignore"):
        distance = np.abs(data.values - constant[names.CENTER].values) / constant[names.UNIT].values
    if not np.nanmax(distance) < FARTHEST:
        i, j = divmod(int(np.nanargmax(distance)), data.n_features)
        raise ValueError(
            f"`X_new` must lie within {FARTHEST:g} standard deviations of the fitted data, or "
            f"squares overflow; got {data.values[i, j]} at row {data.obs.tolist()[i]!r}, column "
            f"{data.features.tolist()[j]!r}. Check its units."
        )
    return data


def probability_of(tree: xr.DataTree, X_new: Any, function: str) -> tuple[Data, xr.DataArray]:
    """Return rows, and their responsibilities averaged over the draws, along ``obs``."""
    data = rows_asked(tree, X_new, function)
    draws = mixtures(tree)
    shares = _responsibilities(draws, draws.rows(data.values, data.errors, data.allowed))
    component = tree[names.POSTERIOR].dataset[names.COMPONENT].variable
    if noisy(tree):
        labels = np.append(component.values, NOISE_LABEL)
        component = xr.Variable(names.COMPONENT, labels, component.attrs)
    coords = {**data.obs_coords, names.COMPONENT: component}
    return data, xr.DataArray(
        shares.T, dims=(names.OBS, names.COMPONENT), coords=coords, name="probability"
    )


def _responsibilities(draws: Mixtures, rows: Array) -> Array:
    """Return the responsibilities averaged over the draws, shape (K, N), with noise (K + 1, N)."""
    total = np.zeros((1, draws.log_weights.shape[1], rows.shape[1]))
    draws.fill(rows, NO_ARRAY, total)
    return np.asarray(total[0] / len(draws.log_weights))
