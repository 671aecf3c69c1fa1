"""The mixture of some features given others."""

import json
from collections.abc import Mapping
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.cholesky import standardise
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.relabel import NO_ARRAY, NO_CUBE, NO_LABELS
from bayesgmm.labels import Given, listed
from bayesgmm.marginals import positions_of
from bayesgmm.prediction import FARTHEST
from bayesgmm.summaries import require_draws
from bayesgmm.tree import features, parameters, require, with_covariances
from bayesgmm.tree.derived import restrict

type Array = NDArray[np.float64]


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
        weights, means, scales, correlations, _ = with_covariances(parameters(tree))
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
        # zeros: with a single draw they are added to
        shares = np.zeros((*self.log_weights.shape, len(values)))
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

    See Also
    --------
    regress : Prediction of the other features for many rows at once.
    marginal : The mixture of some features, whatever the others are.

    Notes
    -----
    The values are taken as given, not as one more row of the data: all draws keep the same
    weight. Weights are computed as logarithms, so that they are right however far the values are
    from all components. ``observed_data`` keeps all rows, whatever their values of the given
    features; log-likelihood and modes are left out. ``specification`` is that of `marginal`,
    whose structure holds; its priors do not. O(S K D^3) operations for S draws.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> long = bg.conditional(tree, {"waiting": 80.0})
    >>> round(float(bg.summary(long).loc["means[1, eruptions]", "estimate"]), 2)
    4.29
    """
    require_all(tree, "conditional")
    fitted = features(tree)
    if not isinstance(given, Mapping):
        raise TypeError(
            f"`given` must be a dictionary from features to numbers; got an object of type "
            f"{type(given).__name__}. Write {{{fitted[0]!r}: value}}."
        )
    positions = given_positions(fitted, list(given))
    for label, value in given.items():
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(
                f"`given` must hold a number for each feature; got an object of type "
                f"{type(value).__name__} for {label!r}. Of many rows predict with "
                f"bayesgmm.regress(tree, given)."
            )
    point = np.array([[float(value) for value in given.values()]])
    split = Split.make(tree, positions)
    refuse_far(split, point, list(given))
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
    labels = posterior[names.FEATURE].variable
    posterior = posterior.drop_dims(names.FACTOR, errors="ignore")
    posterior = posterior.drop_vars(names.NOISE_SCALES, errors="ignore")
    posterior = posterior.assign_coords({names.FEATURE2: (names.FEATURE2, labels.values)})
    posterior[names.FEATURE2].attrs = labels.attrs
    for name, values in found.items():
        dims = (names.CHAIN, names.DRAW, *names.PARAMETER_DIMS[name])
        posterior[name] = (dims, values.reshape(*shape, *values.shape[1:]))
    result[names.POSTERIOR] = xr.DataTree(posterior)
    before = json.loads(tree.attrs.get(names.GIVEN, "{}"))
    told = {str(label): value for label, value in zip(given, point[0].tolist(), strict=True)}
    result.attrs[names.GIVEN] = json.dumps(before | told)
    return result


def require_all(tree: Any, function: str) -> None:
    """Refuse anything but a fit with draws of all that is needed."""
    require(tree, names.CONSTANT_DATA, function=function)
    require_draws(tree, names.POSTERIOR, function=function)


def given_positions(fitted: list[Any], labels: list[Any]) -> list[int]:
    """Return where the given features are, refusing none, all and unknown ones."""
    positions = positions_of(fitted, labels, "given")
    if not 0 < len(positions) < len(fitted):
        raise ValueError(
            f"`given` must name some features of the fit, {listed(fitted)}, and leave others to be "
            f"predicted; got {len(positions)} of {len(fitted)}. "
            + ("Leave one out." if positions else "Give a value of one.")
        )
    return positions


def refuse_far(split: Split, values: Array, labels: list[Any], table: Given | None = None) -> None:
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
