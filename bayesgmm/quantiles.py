"""The distribution function of a feature, and its quantiles."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from bayesgmm import names
from bayesgmm.errors import check_share
from bayesgmm.functionals import RESERVED
from bayesgmm.kernels.quantiles import fill_cdf, fill_quantiles
from bayesgmm.kernels.threads import over_draws
from bayesgmm.labels import listed
from bayesgmm.marginals import positions_of
from bayesgmm.prediction import LARGEST_RESULT
from bayesgmm.summaries import require_draws
from bayesgmm.tree import NoisyParameters, features, parameters, require, specification

type Array = NDArray[np.float64]

SAMPLE: Final = (names.CHAIN, names.DRAW)
HALVINGS: Final = 100
"""Of what a quantile lies in, with noise: until rounding, and beyond."""


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
    The other features are integrated out, of background noise too. Small values are right to some
    1e-12 of themselves. O(S G K) operations and S G numbers for S draws and G places.

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
    drawn = _marginal(tree, position, len(places), probability, "x")
    result = np.empty((len(drawn.weights), len(places)))

    def fill(part: slice) -> None:
        weights, means, scales = (array[part] for array in drawn[:3])
        fill_cdf(places, weights, means, scales, result[part])
        result[part] += drawn.noise[part, None] * drawn.share_of_box(places)

    over_draws(fill, len(result))
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
    Newton's steps within a bracket, which with noise is halved, to rounding: `cdf` gives q back
    within 1e-12 of it, and of 1 - q above the median, where the feature's own digits allow it. The
    other features are integrated out. O(S Q K) operations for S draws and Q quantiles, about eight
    times.

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
    drawn = _marginal(tree, position, len(shares), probability, "q")
    result = np.empty((len(drawn.weights), len(shares)))
    over_draws(lambda part: drawn.of(part).fill_quantiles(shares, result[part]), len(result))
    if probability is not None:
        predictive = np.empty((1, len(shares)))
        drawn.together.fill_quantiles(shares, predictive)
        result = np.concatenate([predictive, _band(result, probability)])
    return _labelled(tree, result, names.QUANTILE, shares, str(label), probability)


class Marginal(NamedTuple):
    """The draws of one feature: Normal components, and noise between two ends.

    Parameters
    ----------
    weights, means, scales : arrays, shape (S, K)
    noise : array, shape (S,)
        Weights of the noise, 0 without; they sum to 1 with the others.
    low, high : float
        Where the noise begins and ends.
    """

    weights: Array
    means: Array
    scales: Array
    noise: Array
    low: float
    high: float

    def of(self, part: slice) -> Self:
        """Return some of the draws."""
        weights, means, scales, noise = (array[part] for array in self[:4])
        return self._replace(weights=weights, means=means, scales=scales, noise=noise)

    @property
    def together(self) -> Self:
        """All draws as a single mixture, the posterior predictive one."""
        return self._replace(
            weights=(self.weights / len(self.weights)).reshape(1, -1),
            means=self.means.reshape(1, -1),
            scales=self.scales.reshape(1, -1),
            noise=self.noise.mean(keepdims=True),
        )

    def share_of_box(self, places: Array) -> Array:
        """Return the share of the noise that lies below some places."""
        return np.clip((places - self.low) / (self.high - self.low), 0.0, 1.0)

    def fill_quantiles(self, shares: Array, result: Array) -> None:
        """Write the quantiles of every draw, shape (S, Q), at shares in (0, 1)."""
        levels = sides(shares)
        if not self.noise.any():
            fill_quantiles(*levels, *self[:3], result)
            return
        for q, (level, deviate, sign) in enumerate(zip(*levels, strict=True)):
            result[:, q] = self._quantile(level, deviate, sign)

    def _quantile(self, level: float, deviate: float, sign: float) -> Array:
        """Return the places, shape (S,), below which, or above for a sign of -1, a mass lies.

        Those of the components and of the noise lie on both sides.
        """
        edge = self.low if sign > 0.0 else self.high
        of_noise = edge + sign * level * (self.high - self.low)
        places = self.means + deviate * self.scales
        below, above = np.fmin(places.min(axis=1), of_noise), np.fmax(places.max(axis=1), of_noise)
        for _ in range(HALVINGS):
            x = 0.5 * (below + above)
            z = sign * (x[:, None] - self.means) / self.scales
            mass = (self.weights * ndtr(z)).sum(axis=1)
            mass += self.noise * np.clip(sign * (x - edge) / (self.high - self.low), 0.0, 1.0)
            right = (mass < level) == (sign > 0.0)
            below, above = np.where(right, x, below), np.where(right, above, x)
        return np.asarray(0.5 * (below + above))


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
) -> Marginal:
    """Return the draws of a feature, refusing too many results."""
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
    noise, low, high = np.zeros(len(weights)), 0.0, 1.0
    box = specification(tree).noise
    if box is not None and isinstance(drawn, NoisyParameters):
        noise, (low, high) = drawn.noise_weight, (corner[position] for corner in box.corners)
    total = weights.sum(axis=1) + noise
    means, scales = (np.ascontiguousarray(array[..., position]) for array in (means, scales))
    return Marginal(weights / total[:, None], means, scales, noise / total, low, high)


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
