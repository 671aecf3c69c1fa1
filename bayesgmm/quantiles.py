"""The distribution function of a feature, and its quantiles."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri

from bayesgmm import names
from bayesgmm.errors import check_share
from bayesgmm.functionals import RESERVED
from bayesgmm.kernels.quantiles import fill_cdf, fill_quantiles
from bayesgmm.kernels.threads import over_draws
from bayesgmm.labels import listed
from bayesgmm.marginals import positions_of
from bayesgmm.prediction import LARGEST_RESULT
from bayesgmm.summaries import require_draws
from bayesgmm.tree import features, parameters, require

type Array = NDArray[np.float64]

SAMPLE: Final = (names.CHAIN, names.DRAW)


def cdf(
    tree: xr.DataTree, x: Any, *, feature: Any = None, probability: float | None = 0.9
) -> xr.DataArray:
    """Return the distribution function of a feature: the probability of a value of at most x.

    Parameters
    ----------
    tree : DataTree
        A fit.
    x : float or array, shape (n,)
        Places, in the feature's units.
    feature : str or int, optional
        Label of the feature; may be left out where a single one was fitted.
    probability : float or None, default 0.9
        Share of the draws that the band holds at every place. None gives every draw instead.

    Returns
    -------
    DataArray, dims (statistic, feature)
        The second dimension is named as the feature is and labelled by `x`. ``statistic`` is
        ``"predictive"``, the posterior predictive distribution function: the mean over the draws,
        ``"lower"`` and ``"upper"``, the ends of the equal-tailed pointwise credible band; with
        ``probability=None`` it is replaced by ``chain`` and ``draw``. In [0, 1].

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `feature` none of its features, `x` not of finite numbers, or the
        result of all draws would take more than 2 GiB.

    See Also
    --------
    quantile : Its inverse.
    density : Its derivative, and of two features.

    Notes
    -----
    The other features are integrated out. Small values are right to some 1e-12 of themselves.
    O(S G K) operations and S G numbers for S draws and G places.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.cdf(tree, [2.0, 3.0], feature="eruptions").sel(statistic="predictive").values.round(2)
    array([0.16, 0.36])
    """
    label, position = _feature(tree, feature, "cdf")
    if label in RESERVED:
        raise ValueError(
            f"`feature` must not be named as a dimension of the result; got {label!r}. Rename the "
            f"column and fit again."
        )
    places = _places(x, "x")
    if not np.isfinite(places).all():
        where = int(np.flatnonzero(~np.isfinite(places))[0])
        raise ValueError(
            f"`x` must hold finite numbers; got {places[where]} at place {where}. Leave it out."
        )
    weights, means, scales = _marginal(tree, position, len(places), probability, "x")
    result = np.empty((len(weights), len(places)))

    def fill(part: slice) -> None:
        fill_cdf(places, weights[part], means[part], scales[part], result[part])

    over_draws(fill, len(weights))
    if probability is not None:
        result = np.concatenate([result.mean(axis=0)[None], _band(result, probability)])
    return _labelled(tree, result, str(label), places, "cdf", probability)


def quantile(
    tree: xr.DataTree, q: Any, *, feature: Any = None, probability: float | None = 0.9
) -> xr.DataArray:
    """Return quantiles of a feature: the place that a share q of the values does not exceed.

    Parameters
    ----------
    tree : DataTree
        A fit.
    q : float or array, shape (n,)
        Shares, between 0 and 1.
    feature : str or int, optional
        Label of the feature; may be left out where a single one was fitted.
    probability : float or None, default 0.9
        Share of the draws that the band holds at every `q`. None gives every draw instead.

    Returns
    -------
    DataArray, dims (statistic, quantile)
        ``statistic`` is ``"predictive"``, the quantile of the posterior predictive distribution
        (not the mean of the draws' quantiles), ``"lower"`` and ``"upper"``, the ends of the
        equal-tailed credible band of the draws' quantiles; with ``probability=None`` it is
        replaced by ``chain`` and ``draw``. In the feature's units.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `feature` none of its features, `q` not of numbers between 0 and
        1, or the result of all draws would take more than 2 GiB.

    See Also
    --------
    cdf : Its inverse.

    Notes
    -----
    Newton's steps within a bracket, to rounding: `cdf` gives q back within 1e-12 of it, and of
    1 - q above the median, where the feature's own digits allow it. The other features are
    integrated out. O(S Q K) operations for S draws and Q quantiles, about eight times.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> bg.quantile(tree, 0.05, feature="eruptions").sel(statistic="predictive").values.round(2)
    array([1.75])
    """
    label, position = _feature(tree, feature, "quantile")
    shares = _places(q, "q")
    if not ((shares > 0.0) & (shares < 1.0)).all():
        where = int(np.flatnonzero(~((shares > 0.0) & (shares < 1.0)))[0])
        raise ValueError(
            f"`q` must hold numbers between 0 and 1; got {shares[where]} at place {where}. The "
            f"support of a mixture has no ends."
        )
    weights, means, scales = _marginal(tree, position, len(shares), probability, "q")
    levels = sides(shares)
    result = np.empty((len(weights), len(shares)))

    def fill(part: slice) -> None:
        fill_quantiles(*levels, weights[part], means[part], scales[part], result[part])

    over_draws(fill, len(weights))
    if probability is not None:
        predictive = np.empty((1, len(shares)))
        each = (weights / len(weights), means, scales)
        fill_quantiles(*levels, *(array.reshape(1, -1) for array in each), predictive)
        result = np.concatenate([predictive, _band(result, probability)])
    return _labelled(tree, result, names.QUANTILE, shares, str(label), probability)


def sides(shares: Array) -> tuple[Array, Array, Array]:
    """Return levels, deviates and signs, as `fill_quantiles` takes them, of shares in (0, 1)."""
    signs = np.where(shares <= 0.5, 1.0, -1.0)
    levels = np.where(shares <= 0.5, shares, 1.0 - shares)
    return levels, signs * ndtri(levels), signs


def _feature(tree: Any, feature: Any, function: str) -> tuple[Any, int]:
    """Return the feature that is meant, and where it is."""
    require(tree, names.CONSTANT_DATA, function=function)
    require_draws(tree, names.POSTERIOR, function=function)
    fitted = features(tree)
    if feature is None:
        if len(fitted) > 1:
            raise TypeError(
                f"`feature` must be given, as the fit has several; got None. Choose among "
                f"{listed(fitted)}."
            )
        feature = fitted[0]
    return feature, positions_of(fitted, [feature], "feature")[0]


def _places(given: Any, argument: str) -> Array:
    """Return one number or several as an array, refusing anything else."""
    if isinstance(given, Mapping):  # as density takes it
        raise TypeError(
            f"`{argument}` must be a number or a 1-D array of numbers; got {dict(given)!r:.60}. "
            f"Pass its values alone, and what it is keyed by as `feature`."
        )
    values = np.asarray(given)
    if values.ndim > 1 or values.size == 0 or values.dtype.kind not in "iuf":
        raise ValueError(
            f"`{argument}` must be a number or a 1-D array of numbers; got shape {values.shape} "
            f"and dtype {values.dtype}. Pass some."
        )
    return np.atleast_1d(values.astype(np.float64))


def _marginal(
    tree: xr.DataTree, position: int, n_places: int, probability: Any, argument: str
) -> tuple[Array, Array, Array]:
    """Return weights, means and scales of a feature, shape (S, K), refusing too many results."""
    if probability is not None:
        check_share(probability, "probability", "0.9 is usual.")
    drawn = parameters(tree)
    weights, means, scales = drawn.weights, drawn.means, drawn.scales
    if 8 * len(weights) * n_places > LARGEST_RESULT:
        raise ValueError(
            f"`{argument}` must leave the result of all draws under 2 GiB; got {n_places} places "
            f"for each of {len(weights)} draws. Give fewer, or thin the draws: "
            f"tree.isel(draw=slice(None, None, 10))."
        )
    weights = weights / weights.sum(axis=1, keepdims=True)
    means, scales = (np.ascontiguousarray(array[..., position]) for array in (means, scales))
    return weights, means, scales


def _band(drawn: Array, probability: float) -> Array:
    """Return the ends of the equal-tailed band over draws, shape (2, n)."""
    tail = 0.5 * (1.0 - probability)
    return np.quantile(drawn, [tail, 1.0 - tail], axis=0)


def _labelled(
    tree: xr.DataTree, values: Array, dim: str, places: Array, name: str, probability: float | None
) -> xr.DataArray:  # fmt: skip
    """Return statistics or draws with labels."""
    if probability is not None:
        return xr.DataArray(
            values, dims=(names.STATISTIC, dim),
            coords={names.STATISTIC: [names.PREDICTIVE, "lower", "upper"], dim: places},
            name=name, attrs={names.PROBABILITY: probability},
        )  # fmt: skip
    posterior = tree[names.POSTERIOR].dataset
    shape = tuple(posterior.sizes[dim] for dim in SAMPLE)
    return xr.DataArray(
        values.reshape(*shape, -1), dims=(*SAMPLE, dim), name=name,
        coords={**{one: posterior[one].variable for one in SAMPLE}, dim: places},
    )  # fmt: skip
