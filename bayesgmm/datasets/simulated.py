"""Simulated Gaussian mixtures of which everything is known."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_integer, check_positive

LARGEST_CONDITION: Final = 10.0
"""Bound of the condition number of every simulated covariance."""


def make_mixture(
    n_obs: int,
    n_components: int = 3,
    n_features: int = 2,
    *,
    separation: float = 4.0,
    weights: Sequence[float] | None = None,
    random_seed: int | np.random.Generator | None = None,
) -> xr.Dataset:
    """Simulate rows from a Gaussian mixture with random means and full covariances.

    Parameters
    ----------
    n_obs : int
        Number of rows, at least 1.
    n_components : int, default 3
        Number of components, at least 1.
    n_features : int, default 2
        Number of features, at least 1.
    separation : float, default 4.0
        Euclidean distance between the two closest means, in units of the average standard
        deviation: the root mean square of the standard deviations of all features in all
        components, which is 1. Both hold exactly, not on average. With the truth known, the
        best rule assigns about 2 % of the rows wrongly at 4, 15 % at 2 and 30 % at 1.
    weights : sequence of float, shape (n_components,), optional
        Positive, with sum 1. Equal weights if left out.
    random_seed : int or numpy.random.Generator, optional
        The same seed gives the same data.

    Returns
    -------
    xarray.Dataset
        ``X`` (obs, feature); ``labels`` (obs), the component that each row came from, drawn
        with the weights (so that a component may be empty); and the truth: ``weights``
        (component), ``means`` (component, feature), which average to zero, and
        ``covariances`` (component, feature, feature2), with condition numbers of at most 10
        and average standard deviations of which the largest is at most twice the smallest.

    Raises
    ------
    TypeError, ValueError
        If a number is not a positive integer where it must be, `separation` is not positive,
        or `weights` are not positive numbers with sum 1, one per component.

    Examples
    --------
    >>> data = make_mixture(200, 2, 3, weights=[0.3, 0.7], random_seed=1)
    >>> dict(data.sizes)
    {'obs': 200, 'feature': 3, 'component': 2, 'feature2': 3}
    >>> float(np.linalg.norm(data["means"][0] - data["means"][1]).round(6))
    4.0
    """
    n_obs = check_integer(n_obs, "n_obs", 1, "Give the number of rows, e.g. 500.")
    n_components = check_integer(n_components, "n_components", 1, "Give e.g. 3.")
    n_features = check_integer(n_features, "n_features", 1, "Give e.g. 2.")
    separation = check_positive(separation, "separation", "4.0 lets few rows be mistaken.")
    shares = _weights(weights, n_components)
    rng = np.random.default_rng(random_seed)
    means = separation * _means(n_components, n_features, rng)
    covariances = _covariances(n_components, n_features, rng)
    labels = rng.choice(n_components, size=n_obs, p=shares)
    factors = np.linalg.cholesky(covariances)
    normal = rng.standard_normal((n_obs, n_features))
    values = means[labels] + np.einsum("ide,ie->id", factors[labels], normal)
    features = [f"x{j}" for j in range(n_features)]
    dims = names.PARAMETER_DIMS
    return xr.Dataset(
        {
            names.X: ((names.OBS, names.FEATURE), values),
            names.LABELS: (names.OBS, labels),
            names.WEIGHTS: (dims[names.WEIGHTS], shares),
            names.MEANS: (dims[names.MEANS], means),
            names.COVARIANCES: (dims[names.COVARIANCES], covariances),
        },
        coords={
            names.OBS: np.arange(n_obs),
            names.FEATURE: features,
            names.COMPONENT: np.arange(n_components),
            names.FEATURE2: features,
        },
        attrs={"separation": separation},
    )


def _weights(weights: Sequence[float] | None, n_components: int) -> NDArray[np.float64]:
    """Return the weights, shape (n_components,), summing to 1 up to rounding."""
    if weights is None:
        return np.full(n_components, 1.0 / n_components)
    try:
        shares = np.array(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"`weights` must be a sequence of numbers; got {weights!r} of type "
            f"{type(weights).__name__}. Leave them out for equal weights."
        ) from None
    if shares.shape != (n_components,):
        raise ValueError(
            f"`weights` must hold one number per component, {n_components}; got shape "
            f"{shares.shape}: {weights}. Leave them out for equal weights."
        )
    wrong = np.flatnonzero(~(shares > 0.0) | ~np.isfinite(shares))
    if wrong.size:
        raise ValueError(
            f"`weights` must be positive and finite; got {shares[wrong[0]]} for component "
            f"{wrong[0]}. Ask for fewer components instead of empty ones."
        )
    if abs(shares.sum() - 1.0) > 1e-8:
        raise ValueError(
            f"`weights` must sum to 1; got {shares.sum():.10g} from {weights}. Divide them by "
            f"their sum."
        )
    return shares / shares.sum()


def _means(n_components: int, n_features: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return scattered points about zero, the two closest at distance 1.

    Each point is put 1 to 1.5 away from one of those before it, chosen at random, and put anew
    until it is at least 1 away from all: the outermost always leave room. Cost O(K^2 D).
    """
    points = np.zeros((n_components, n_features))
    closest = np.inf
    k = 1
    while k < n_components:
        step = rng.standard_normal(n_features)
        step *= rng.uniform(1.0, 1.5) / np.linalg.norm(step)
        points[k] = points[rng.integers(k)] + step
        distance = np.linalg.norm(points[:k] - points[k], axis=1).min()
        if distance >= 1.0:
            closest = min(closest, distance)
            k += 1
    points -= points.mean(axis=0)
    return points / closest if n_components > 1 else points


def _covariances(
    n_components: int, n_features: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return covariance matrices in random directions whose diagonals average to 1."""
    shape = (n_components, n_features, n_features)
    directions = np.linalg.qr(rng.standard_normal(shape))[0]
    variances = np.exp(rng.uniform(0.0, np.log(LARGEST_CONDITION), shape[:2]))
    variances /= variances.mean(axis=1, keepdims=True)
    variances *= rng.uniform(0.7, 1.4, (n_components, 1)) ** 2
    variances /= variances.mean()
    covariances = np.einsum("kde,ke,kfe->kdf", directions, variances, directions)
    symmetric: NDArray[np.float64] = 0.5 * (covariances + covariances.swapaxes(1, 2))
    return symmetric
