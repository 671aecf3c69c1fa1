"""Regression by a mixture: some features of many rows, given the others."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.conditionals import Split, given_positions, refuse_far, require_all
from bayesgmm.errors import check_share
from bayesgmm.kernels.quantiles import fill_quantiles
from bayesgmm.kernels.threads import over_draws
from bayesgmm.labels import Given, kinds_of_columns, listed
from bayesgmm.prediction import LARGEST_RESULT
from bayesgmm.quantiles import sides
from bayesgmm.tables import read
from bayesgmm.tree import features

type Array = NDArray[np.float64]

BLOCK_BYTES: Final = 2**24
"""Memory for the conditional means of some rows under every draw, in each thread."""
NEGLIGIBLE: Final = 1e-16
"""Share of a tail that components may have together and yet be left out of it."""


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
    require_all(tree, "regress")
    if probability is not None:
        probability = check_share(probability, "probability", "0.9 is usual.")
    table = _table(given)
    positions = given_positions(features(tree), table.features)
    values = _numbers(table)
    split = Split.make(tree, positions)
    refuse_far(split, values, table.features, table)
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


def _predict(split: Split, values: Array, probability: float) -> tuple[Array, Array, Array, Array]:
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
