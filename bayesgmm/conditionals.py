"""Features given others: the mixture at one point, and regression over many rows."""

import json
from collections.abc import Mapping
from numbers import Real
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_share
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.quantiles import fill_quantiles
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS
from bayesgmm.kernels.threads import over_draws
from bayesgmm.labels import Given, kinds_of_columns, listed, read
from bayesgmm.marginals import positions_of
from bayesgmm.prediction import FARTHEST, LARGEST_RESULT
from bayesgmm.quantiles import sides
from bayesgmm.summaries import require_draws
from bayesgmm.tree import features, parameters, require
from bayesgmm.tree.derived import restrict

type Array = NDArray[np.float64]

BLOCK_BYTES: Final = 2**24
"""Memory for the conditional means of some rows under every draw, in each thread."""
NEGLIGIBLE: Final = 1e-16
"""Share of a tail that components may have together and yet be left out of it."""


class Split(NamedTuple):
    """The draws of a fit, standardised, with the features divided into given and free ones.

    Parameters
    ----------
    given, free : list of int
        Positions of a and of b features.
    log_weights : array, shape (S, K)
    means, cholesky : arrays, shapes (S, K, a), (S, K, a, a)
        Of the given features.
    free_means : array, shape (S, K, b)
    gains : array, shape (S, K, b, a)
        What the mean of a free feature gains for a unit of a given one.
    free_cholesky : array, shape (S, K, b, b)
        Of the covariance of the free features given the others.
    center, unit : arrays, shape (D,)
        Of all features.
    """

    given: list[int]
    free: list[int]
    log_weights: Array
    means: Array
    cholesky: Array
    free_means: Array
    gains: Array
    free_cholesky: Array
    center: Array
    unit: Array

    @classmethod
    def make(cls, tree: xr.DataTree, given: list[int]) -> Self:
        """Divide the features of a fit; O(S K D^3)."""
        constant = tree[names.CONSTANT_DATA].dataset
        center, unit = constant[names.CENTER].values, constant[names.UNIT].values
        free = [j for j in range(len(unit)) if j not in given]
        order, a = [*given, *free], len(given)
        weights, means, scales, correlations, _ = parameters(tree)
        log_weights, means, cholesky = standardise(
            weights, means[..., order], scales[..., order],
            correlations[..., order, :][..., order], center[order], unit[order],
        )  # fmt: skip
        own = np.ascontiguousarray(cholesky[..., :a, :a])
        crossed = cholesky[..., a:, :a]
        gains = np.linalg.solve(own.swapaxes(-1, -2), crossed.swapaxes(-1, -2)).swapaxes(-1, -2)
        return cls(
            given, free, log_weights, np.ascontiguousarray(means[..., :a]), own,
            means[..., a:], gains, cholesky[..., a:, a:], center, unit,
        )  # fmt: skip

    def weights(self, values: Array) -> Array:
        """Return the weights given some rows (N, a) in the data's units, shape (S, K, N)."""
        rows = ((values - self.center[self.given]) / self.unit[self.given]).T
        rows = np.ascontiguousarray(rows)
        shares = np.empty((*self.log_weights.shape, len(values)))
        fill_draws(
            rows, self.log_weights, self.means, self.cholesky,
            NO_ARRAY, shares, NO_LABELS, NO_CUBE,
        )  # fmt: skip
        return shares

    def centers(self, values: Array) -> Array:
        """Return the means given some rows (N, a), in the data's units, shape (S, K, N, b)."""
        rows = (values - self.center[self.given]) / self.unit[self.given]
        away = rows - self.means[:, :, None]
        found = self.free_means[:, :, None] + away @ self.gains.swapaxes(-1, -2)
        return np.asarray(found * self.unit[self.free] + self.center[self.free])

    def deviations(self) -> Array:
        """Return the scales given the others, in the data's units, shape (S, K, b)."""
        return np.asarray(np.sqrt((self.free_cholesky**2).sum(axis=-1)) * self.unit[self.free])


def conditional(tree: xr.DataTree, given: Any) -> xr.DataTree:
    r"""Return the mixture of the other features where some are known: a tree again.

    In every draw and component, with a the given and b the other features,

    .. math:: w_k' \propto w_k N(x_a \mid \mu_a, \Sigma_{aa}), \quad
              \mu' = \mu_b + \Sigma_{ba} \Sigma_{aa}^{-1} (x_a - \mu_a), \quad
              \Sigma' = \Sigma_{bb} - \Sigma_{ba} \Sigma_{aa}^{-1} \Sigma_{ab}.

    Parameters
    ----------
    tree : DataTree
        A fit.
    given : dict of feature to number
        Values of some features, not of all, in their units: ``{"waiting": 80.0}``.

    Returns
    -------
    DataTree
        Of the schema of a fit, with the same draws, of the features that are not given. What
        takes a fit takes it, but for what is about the posterior given the data, as `loo`. The
        attribute ``derived`` is ``"conditional"``, ``given`` holds the values in JSON.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or `given` is no dictionary of finite numbers, names an unknown
        feature or all of them, or lies more than 1e100 standard deviations away.

    Notes
    -----
    The values are taken as given, not as one more row of the data: all draws keep the same
    weight. Weights are computed as logarithms, so that they are right however far the values are
    from all components. ``observed_data`` keeps all rows, whatever their values of the given
    features; log-likelihood and modes are left out. ``specification`` is that of `marginal`,
    whose structure holds; its priors do not. O(S K D^3) operations for S draws.

    See Also
    --------
    regress : Prediction of the other features for many rows at once.
    marginal : The mixture of some features, whatever the others are.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> long = bg.conditional(tree, {"waiting": 80.0})
    >>> bg.summary(long)["estimate"].round(2).to_dict()["weights[1]"]
    1.0
    """
    _require(tree, "conditional")
    fitted = features(tree)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`given` must be a dictionary from features to numbers; got an object of type "
            f"{type(given).__name__}. Write {{{fitted[0]!r}: value}}."
        )
    positions = _given_positions(fitted, list(given))
    for label, value in given.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(
                f"`given` must hold a number for each feature; got an object of type "
                f"{type(value).__name__} for {label!r}. Of many rows predict with "
                f"bayesgmm.regress(tree, given)."
            )
    point = np.array([[float(value) for value in given.values()]])
    split = Split.make(tree, positions)
    _refuse_far(split, point, list(given))
    weights, centers = split.weights(point)[..., 0], split.centers(point)[:, :, 0]
    scales, factors = split.deviations(), split.free_cholesky
    factors = factors / np.sqrt((factors**2).sum(axis=-1, keepdims=True))
    correlations = factors @ factors.swapaxes(-1, -2)
    diagonal = np.arange(len(split.free))
    correlations[..., diagonal, diagonal] = 1.0
    found = {
        names.WEIGHTS: weights / weights.sum(axis=1, keepdims=True),
        names.MEANS: centers,
        names.SCALES: scales,
        names.CORRELATIONS: correlations,
        names.COVARIANCES: correlations * scales[..., :, None] * scales[..., None, :],
    }
    result = restrict(tree, split.free, "conditional")
    posterior = result[names.POSTERIOR].to_dataset()
    shape = (posterior.sizes[names.CHAIN], posterior.sizes[names.DRAW])
    for name, values in found.items():
        dims = (names.CHAIN, names.DRAW, *names.PARAMETER_DIMS[name])
        values = values.reshape(*shape, *values.shape[1:])
        posterior[name] = posterior[name].transpose(*dims).copy(data=values)
    result[names.POSTERIOR] = xr.DataTree(posterior)
    before = json.loads(tree.attrs.get(names.GIVEN, "{}"))
    told = {str(label): value for label, value in zip(given, point[0].tolist(), strict=True)}
    result.attrs[names.GIVEN] = json.dumps(before | told)
    return result


def regress(tree: xr.DataTree, given: Any, *, probability: float | None = 0.9) -> xr.Dataset:
    """Predict the other features of many rows of which some features are known.

    Mixture regression: given a row, every draw is a mixture of linear regressions, weighted by
    how likely each component is to have made what is known.

    Parameters
    ----------
    tree : DataTree
        A fit.
    given : dict of feature to array, DataFrame or DataArray
        Values of some features, not of all, in their units, a number for each row; single numbers
        in a dictionary stand for all rows.
    probability : float or None, default 0.9
        What intervals hold. None gives every draw instead.

    Returns
    -------
    Dataset, dims (obs, feature)
        ``mean`` and ``sd``: of the posterior predictive distribution of each other feature.
        ``mean_interval`` (obs, feature, ci_bound): equal-tailed over the draws, holds the
        conditional mean with this probability; more data narrow it. ``predictive_interval`` (obs,
        feature, ci_bound): equal-tailed, holds the value of a new row itself; more data do not
        narrow it beyond its spread. All in the features' units. With ``probability=None``:
        ``mean`` and ``sd`` (chain, draw, obs, feature) of every draw.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, or `given` no table of finite numbers, names an unknown feature or
        all of them, lies more than 1e100 standard deviations away, or all draws would take more
        than 2 GiB.

    Notes
    -----
    Rows are taken as given, each for itself, as in `conditional`. Where the conditional
    distribution has several peaks the mean may lie between them, and the interval spans them: look
    at ``density(conditional(tree, given), ...)``. O(S N K D^2) operations for S draws and N rows,
    and O(S N K) a dozen times for the predictive interval of a feature, in as many threads as
    there are cores; some 50 MiB of memory for each of them.

    References
    ----------
    Ghahramani & Jordan (1994), Supervised learning from incomplete data via an EM approach,
    Advances in Neural Information Processing Systems 6.

    Sung (2004), Gaussian mixture regression and classification, PhD thesis, Rice University.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.regress(tree, {"eruptions": [2.0, 4.5]})["mean"].values.round(0).ravel()
    array([54., 81.])
    """
    _require(tree, "regress")
    if probability is not None:
        probability = check_share(probability, "probability", "0.9 is usual.")
    table = _table(given)
    positions = _given_positions(features(tree), table.features)
    values = _numbers(table)
    split = Split.make(tree, positions)
    _refuse_far(split, values, table.features, table)
    posterior = tree[names.POSTERIOR].dataset
    n_draws, n_obs, n_free = len(split.log_weights), len(values), len(split.free)
    coords: dict[Any, Any] = {
        name: coord for name, coord in table.coords.items() if coord.dims == (names.OBS,)
    }
    coords[names.FEATURE] = posterior[names.FEATURE].variable[split.free]
    along = (names.OBS, names.FEATURE)
    if probability is None:
        if 16 * n_draws * n_obs * n_free > LARGEST_RESULT:
            raise ValueError(
                f"`given` must leave all draws under 2 GiB; got {n_obs} rows for each of "
                f"{n_draws} draws. Give fewer rows, or thin the draws: "
                f"tree.isel(draw=slice(None, None, 10))."
            )
        sample = (names.CHAIN, names.DRAW)
        shape = tuple(posterior.sizes[dim] for dim in sample)
        coords |= {dim: posterior[dim].variable for dim in sample}
        means, deviations, _, _ = _moments(split, values)
        return xr.Dataset(
            {
                names.MEAN: ((*sample, *along), means.reshape(*shape, n_obs, n_free)),
                names.SD: ((*sample, *along), deviations.reshape(*shape, n_obs, n_free)),
            },
            coords=coords,
        )
    mean, sd = np.empty((n_obs, n_free)), np.empty((n_obs, n_free))
    of_mean, of_rows = np.empty((n_obs, n_free, 2)), np.empty((n_obs, n_free, 2))
    step = max(1, BLOCK_BYTES // (8 * split.log_weights.size * (n_free + 1)))

    def fill(part: slice) -> None:
        for start in range(part.start, part.stop, step):
            block = slice(start, min(start + step, part.stop))
            mean[block], sd[block], of_mean[block], of_rows[block] = _predict(
                split, values[block], probability
            )

    over_draws(fill, n_obs)
    intervals = (*along, names.CI_BOUND)
    return xr.Dataset(
        {
            names.MEAN: (along, mean),
            names.SD: (along, sd),
            names.MEAN_INTERVAL: (intervals, of_mean),
            names.PREDICTIVE_INTERVAL: (intervals, of_rows),
        },
        coords=coords | {names.CI_BOUND: ["lower", "upper"]},
        attrs={names.PROBABILITY: probability},
    )


def _moments(split: Split, values: Array) -> tuple[Array, Array, Array, Array]:
    """Return conditional means and deviations (S, N, b), and the weights and means of components.

    Shapes (S, K, N) and (S, K, N, b).
    """
    weights, centers = split.weights(values), split.centers(values)
    means = np.einsum("skn,sknb->snb", weights, centers)
    away = centers - means[:, None]
    variances = np.einsum("skn,sknb->snb", weights, away**2 + split.deviations()[:, :, None] ** 2)
    return means, np.sqrt(variances), weights, centers


def _predict(
    split: Split, values: Array, probability: float
) -> tuple[Array, Array, Array, Array]:
    """Return mean, sd (N, b), the interval of the mean and that of a row (N, b, 2)."""
    means, deviations, weights, centers = _moments(split, values)
    n_draws, (n_obs, n_free) = len(means), means.shape[1:]
    mean = means.mean(axis=0)
    sd = np.sqrt((deviations**2 + (means - mean) ** 2).mean(axis=0))
    tails = np.array([0.5 - 0.5 * probability, 0.5 + 0.5 * probability])
    of_mean = np.moveaxis(np.quantile(means, tails, axis=0), 0, -1)
    of_rows, found = np.empty((n_obs, n_free, 2)), np.empty((1, 2))
    scales, levels = split.deviations(), sides(tails)
    least = NEGLIGIBLE * tails[0] / split.log_weights.shape[1]
    for i in range(n_obs):
        some = weights[:, :, i] > least
        shares = weights[:, :, i][some][None] / n_draws
        for j in range(n_free):
            fill_quantiles(
                *levels, shares, centers[:, :, i, j][some][None], scales[:, :, j][some][None], found
            )
            of_rows[i, j] = found[0]
    return mean, sd, of_mean, of_rows


def _require(tree: Any, function: str) -> None:
    """Refuse anything but a fit with draws of all that is needed."""
    require(tree, names.OBSERVED_DATA, names.CONSTANT_DATA, function=function)
    require_draws(tree, names.POSTERIOR, function=function)


def _given_positions(fitted: list[Any], labels: list[Any]) -> list[int]:
    """Return where the given features are, refusing none, all and unknown ones."""
    positions = positions_of(fitted, labels, "given")
    if not 0 < len(positions) < len(fitted):
        raise ValueError(
            f"`given` must name some features of the fit, {listed(fitted)}, and leave others to be "
            f"predicted; got {len(positions)} of {len(fitted)}. "
            + ("Leave one out." if positions else "Give a value of one.")
        )
    return positions


def _table(given: Any) -> Given:
    """Return what was given of many rows as a table whose columns have names."""
    if isinstance(given, Mapping):
        columns = {label: np.asarray(values) for label, values in given.items()}
        lengths = {values.shape for values in columns.values() if values.ndim}
        if len(lengths) > 1 or any(len(shape) > 1 for shape in lengths):
            raise ValueError(
                f"`given` must hold numbers, or 1-D arrays of the same length; got the shapes "
                f"{listed(values.shape for values in columns.values())}. Give a value for each row."
            )
        n_rows = next(iter(lengths))[0] if lengths else 1
        given = pd.DataFrame(columns, index=range(n_rows))
    table = read(given, "given")
    if not table.named:
        raise TypeError(
            f"`given` must name its features; got an object of type {type(given).__name__} without "
            f"names. Pass a dictionary from features to arrays, or a DataFrame."
        )
    return table


def _numbers(table: Given) -> Array:
    """Return the cells of a table as floats, refusing what is no real number."""
    for label, kind in zip(table.features, kinds_of_columns(table), strict=True):
        if kind is not None:
            raise TypeError(
                f"`given` must hold real numbers; got {kind} in {label!r}. Turn them into numbers."
            )
    cells = table.cells
    if isinstance(cells, pd.DataFrame):
        return np.ascontiguousarray(cells.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.ascontiguousarray(cells, dtype=np.float64)


def _refuse_far(
    split: Split, values: Array, labels: list[Any], table: Given | None = None
) -> None:
    """Refuse values that are not finite, or so far that squares overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        distance = np.abs(values - split.center[split.given]) / split.unit[split.given]
    wrong = ~(distance < FARTHEST)
    if wrong.any():
        i, j = divmod(int(wrong.argmax()), values.shape[1])
        row = f" at {table.row(i)}" if table is not None else ""
        raise ValueError(
            f"`given` must hold finite numbers within {FARTHEST:g} standard deviations of the "
            f"fitted data; got {values[i, j]} for {labels[j]!r}{row}. Check it, or leave it out."
        )
