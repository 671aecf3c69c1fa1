"""Where things are drawn: ellipses, densities along a line, principal axes; arrays only."""

import math

import numpy as np
from numpy.typing import NDArray

type Array = NDArray[np.float64]


def spread(n_items: int, at_most: int) -> NDArray[np.int64]:
    """Return positions of at most so many items, evenly spread over all, first and last included.

    Examples
    --------
    >>> spread(10, 4), spread(3, 40)
    (array([0, 3, 6, 9]), array([0, 1, 2]))
    """
    return np.linspace(0, n_items - 1, min(n_items, at_most)).round().astype(np.int64)


def radii(probability: float, df: Array | None) -> Array:
    """Return how far out the ellipse that holds a share of a bivariate component lies.

    Parameters
    ----------
    probability : float
        The share, in (0, 1).
    df : array, or None
        Degrees of freedom; None of normals.

    Notes
    -----
    The squared Mahalanobis distance of a bivariate normal is exponential with mean 2, so the
    ellipse lies at the distance sqrt(-2 log(1 - probability)). That of a t is beyond
    df (q^(-2 / df) - 1) with probability q.
    """
    if df is None:
        return np.asarray(math.sqrt(-2.0 * math.log1p(-probability)))
    return np.asarray(np.sqrt(df * np.expm1(-2.0 / df * math.log1p(-probability))))


def ellipses(
    means: Array, covariances: Array, probability: float, df: Array | None = None
) -> Array:
    """Return the outlines of the ellipses that hold a share of bivariate components.

    Parameters
    ----------
    means : array, shape (..., 2)
    covariances : array, shape (..., 2, 2)
    probability : float
        The share, in (0, 1).
    df : array, shape (...), optional
        Degrees of freedom, if components are Student's t.

    Returns
    -------
    array, shape (..., 101, 2)
        Closed: the last point is the first.

    Examples
    --------
    >>> outline = ellipses(np.zeros(2), np.diag([1.0, 4.0]), 0.9)
    >>> outline.max(axis=0).round(2)
    array([2.15, 4.29])
    """
    angle = np.linspace(0.0, 2.0 * math.pi, 101)
    reach = radii(probability, df)[..., None]
    along, across = reach * np.cos(angle), reach * np.sin(angle)
    first = np.sqrt(covariances[..., 0, 0])
    slope = covariances[..., 1, 0] / first
    rest = np.sqrt(np.maximum(covariances[..., 1, 1] - slope**2, 0.0))
    x = first[..., None] * along
    y = slope[..., None] * along + rest[..., None] * across
    return np.stack([x, y], axis=-1) + means[..., None, :]


def grid(low: float, high: float, means: Array, deviations: Array) -> Array:
    """Return places between `low` and `high`, ascending, closer together at narrow components.

    Parameters
    ----------
    low, high : float
    means, deviations : array, shape (n_components,)

    Returns
    -------
    array, shape (n_places,)
        Evenly spread ones, and more within four standard deviations of each mean.
    """
    near = means[:, None] + deviations[:, None] * np.linspace(-4.0, 4.0, 49)
    places = np.concatenate([np.linspace(low, high, 301), near.ravel()])
    return np.unique(places[(places >= low) & (places <= high)])


def densities(
    places: Array, weights: Array, means: Array, variances: Array, df: Array | None = None
) -> Array:
    """Return the weighted densities of components along a line.

    Parameters
    ----------
    places : array, shape (n_places,)
    weights, means, variances : array, shape (n_draws, n_components)
    df : array, shape (n_draws, n_components), optional
        Degrees of freedom, if components are Student's t, whose squared scales are the variances.

    Returns
    -------
    array, shape (n_components, n_draws, n_places)
        Their sum over components is the density of the mixture.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> densities(np.array([0.0, 1.0]), one, 0.0 * one, one).round(3)
    array([[[0.399, 0.242]]])
    """
    distance = (places - means.T[..., None]) ** 2 / variances.T[..., None]
    height = weights / np.sqrt(2.0 * math.pi * variances)
    if df is None:
        return np.asarray(height.T[..., None] * np.exp(-0.5 * distance))
    log_gamma = np.vectorize(math.lgamma)
    ratio = log_gamma(0.5 * df + 0.5) - log_gamma(0.5 * df) - 0.5 * np.log(0.5 * df)
    power = (df.T[..., None] + 1.0) / -2.0
    tails = np.exp(power * np.log1p(distance / df.T[..., None]))
    return np.asarray((height * np.exp(ratio)).T[..., None] * tails)


def levels(density: Array, cell: float, shares: list[float]) -> list[float]:
    """Return the heights of a density above which lie given shares of its mass.

    Parameters
    ----------
    density : array
        On a grid with even spacing.
    cell : float
        Area of a cell of the grid.
    shares : list of float
        In (0, 1).

    Examples
    --------
    >>> levels(np.array([0.1, 0.4, 0.3, 0.2]), 1.0, [0.3, 0.6])
    [0.4, 0.3]
    """
    heights = np.sort(density, axis=None)[::-1]
    places = np.searchsorted(np.cumsum(heights) * cell, shares)
    return [float(heights[min(place, heights.size - 1)]) for place in places]


def principal_axes(values: Array) -> tuple[Array, Array]:
    """Return the two directions in which data spread the most, and their shares of the variance.

    Parameters
    ----------
    values : array, shape (n_obs, n_features)
        Standardised; at least two features.

    Returns
    -------
    directions : array, shape (n_features, 2)
        Orthonormal; the largest entry of each is positive.
    shares : array, shape (2,)

    Examples
    --------
    >>> directions, shares = principal_axes(np.array([[2.0, 2.0], [-2.0, -2.0], [1.0, -1.0]]))
    >>> directions[:, 0].round(3).tolist(), shares.round(3).tolist()
    ([0.707, 0.707], [0.923, 0.077])
    """
    variances, directions = np.linalg.eigh(np.cov(values, rowvar=False, ddof=0))
    directions, shares = directions[:, :-3:-1], variances[:-3:-1] / variances.sum()
    largest = np.abs(directions).argmax(axis=0)
    return directions * np.sign(directions[largest, [0, 1]]), shares
