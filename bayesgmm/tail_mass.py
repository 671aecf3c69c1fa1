"""How much of the posterior predictive distribution is less dense than rows are."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, gammainccinv, logsumexp

from bayesgmm.kernels.factor_loadings import dense
from bayesgmm.kernels.relabel import NO_CUBE
from bayesgmm.kernels.threads import over_draws
from bayesgmm.prediction import Mixtures

type Array = NDArray[np.float64]

BLOCK_BYTES: Final = 2**23
"""Memory for the densities of some points under every draw, in each thread."""
SMALLEST: Final = 2.0**-60
"""Score below which nothing is known but that it is less."""
BODY: Final = 8
"""Shells of equal mass around a component; each beyond them has an eighth of what is outside."""
REPEATS: Final = 16
"""Independent estimates, whose spread is the Monte Carlo error."""
NEAREST: Final = 1e-250
"""Of df / (df + squared distance) of a t: what is farther out counts as there."""
RAYS: Final = (8, 128)
"""Of each of them, at least and at most."""
WORK: Final = 2**33
"""Multiplications or so that the densities of all points may take, if there are enough rays."""


def log_predictive(draws: Mixtures, rows: Array) -> Array:
    """Return the log of the mean density over the draws of standardised rows (D, N), shape (N,)."""
    n_draws = len(draws.log_weights)
    result = np.empty(rows.shape[1])
    step = max(1, BLOCK_BYTES // (8 * n_draws))

    def fill(part: slice) -> None:
        for start in range(part.start, part.stop, step):
            stop = min(start + step, part.stop)
            densities = np.empty((n_draws, stop - start))
            block = np.ascontiguousarray(rows[:, start:stop])
            draws.fill(block, densities, NO_CUBE)
            peak = densities.max(axis=0)
            np.exp(densities - np.maximum(peak, np.finfo(float).min), out=densities)
            with np.errstate(divide="ignore"):  # where no draw gives any density
                result[start:stop] = np.log(densities.mean(axis=0)) + peak

    over_draws(fill, rows.shape[1])
    return result


def tail_masses(
    draws: Mixtures, levels: Array, outside: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return the mass of the predictive density where it is at most that of some rows, and errors.

    Noise raises the density by the same everywhere in its box, however much or little the
    components have there: in it rows are compared by the density of the components, without ties.

    Parameters
    ----------
    draws : Mixtures
    levels : array, shape (N,)
        Log densities, of the components alone, of standardised rows.
    outside : array of bool, shape (N,)
        Which of these lie outside of the box of the noise.
    rng : Generator

    Returns
    -------
    masses, errors : arrays, shape (N,)
        Unbiased, and the standard errors.
    """
    bounds, components = _shells(), draws.components
    n_draws, n_components, n_dim = draws.means.shape
    of_noise = _weight_of_noise(draws)
    cost = REPEATS * (len(bounds) - 1) * n_draws * n_components * (n_dim + 4) ** 2
    n_rays = int(np.clip(WORK // cost, *RAYS))
    estimates = np.empty((REPEATS, len(levels)))
    for repeat in range(REPEATS):
        points = _points(components, bounds, n_rays, rng)
        masses = np.broadcast_to(-np.diff(bounds)[:, None] / n_rays, points.shape[1:]).ravel()
        points = points.reshape(n_dim, -1)
        if of_noise:
            low, high = draws.box
            thrown = rng.uniform(low, high, (masses.size, n_dim)).T
            points = np.concatenate([points, thrown], axis=1)
            spread = np.full(masses.size, of_noise / masses.size)
            masses = np.concatenate([(1.0 - of_noise) * masses, spread])
        heights = log_predictive(components, points)
        heights, wanted = _comparable(draws, heights, draws.outside(points), levels, outside)
        order = np.argsort(heights)
        below = np.concatenate([[0.0], np.cumsum(masses[order])])
        below /= below[-1]
        estimates[repeat] = below[np.searchsorted(heights[order], wanted, side="right")]
    return estimates.mean(axis=0), estimates.std(axis=0, ddof=1) / np.sqrt(REPEATS)


def _comparable(
    draws: Mixtures,
    heights: Array,
    beyond: NDArray[np.bool_],
    levels: Array,
    outside: NDArray[np.bool_],
) -> tuple[Array, Array]:
    """Return numbers in the order of the densities of points and of rows, noise included.

    They are the log densities of the components g alone, in the box of the noise. Outside of it
    there is no noise, whose density is c: g there is as dense as g - c in it, and what is below c
    is less dense than all that is in it.
    """
    if not len(draws.box):
        return heights, levels
    every, far = np.concatenate([heights, levels]), np.concatenate([beyond, outside])
    above = every[far] - _log_noise(draws)
    inside = every[~far & np.isfinite(every)]
    with np.errstate(divide="ignore", over="ignore"):
        less = np.log1p(-np.exp(-np.maximum(above, 0.0)))
    every[far] = np.where(above > 0.0, every[far] + less, inside.min(initial=0.0) + above)
    return every[: heights.size], every[heights.size :]


def _log_noise(draws: Mixtures) -> float:
    """Return the log of the mean density of noise in its box, of standardised data."""
    return float(logsumexp(draws.log_weights[:, -1]) - np.log(len(draws.log_weights)))


def _weight_of_noise(draws: Mixtures) -> float:
    """Return the mean weight of noise, 0 without."""
    if not len(draws.box):
        return 0.0
    return float(np.exp(_log_noise(draws) + np.log(draws.box[1] - draws.box[0]).sum()))


def with_noise(draws: Mixtures, log_density: Array, outside: NDArray[np.bool_]) -> Array:
    """Return the log densities of rows with that of noise, of which there is none outside."""
    if not len(draws.box):
        return log_density
    return np.where(outside, log_density, np.logaddexp(log_density, _log_noise(draws)))


def _shells() -> Array:
    """Return the mass outside of each shell's inner bound, from 1 down, and 0 at last."""
    body = 1.0 - np.arange(BODY) / BODY
    outside = [1.0 / BODY]
    while outside[-1] / BODY > SMALLEST:
        outside.append(outside[-1] / BODY)
    return np.concatenate([body, outside[1:], [SMALLEST, 0.0]])


def _points(draws: Mixtures, bounds: Array, n_rays: int, rng: np.random.Generator) -> Array:
    """Return a point in each shell on each of some rays, shape (D, J, R).

    Rays start at the means of components of draws, taken by weight, evenly along components and
    draws; two in a row go in opposite directions. Within each shell the masses outside of the
    points are spread evenly over the rays.
    """
    _, n_components, n_dim = draws.means.shape
    shares = np.exp(draws.log_weights).T.ravel()  # component by component
    edges = np.cumsum(shares)
    at = (np.arange(n_rays) + rng.random()) / n_rays * edges[-1]
    chosen = np.minimum(np.searchsorted(edges, at, side="right"), edges.size - 1)
    component, draw = np.divmod(chosen, len(draws.log_weights))
    directions = rng.normal(size=(n_rays, n_dim))
    directions[1::2] = -directions[: n_rays - 1 : 2]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    factors = dense(draws.cholesky[draw, component], n_dim)
    rays = np.einsum("rij,rj->ri", factors[:, :n_dim], directions)
    n_shells = len(bounds) - 1
    places = rng.permuted(np.tile(np.arange(n_rays), (n_shells, 1)), axis=1)
    within = (places + rng.random((n_shells, n_rays))) / n_rays
    outside = bounds[:-1, None] + (bounds[1:] - bounds[:-1])[:, None] * within
    df = factors[:, n_dim, 0] if factors.shape[1] > n_dim else None
    radii = np.sqrt(_squared_radii(outside, n_dim, df))
    starts = draws.means[draw, component]
    return np.asarray(starts.T[:, None, :] + radii * rays.T[:, None, :])


def _squared_radii(outside: Array, n_dim: int, df: Array | None) -> Array:
    """Return the squared distances beyond which given shares of standard components lie.

    Of a Normal they are chi-squared; of a t, df / (df + distance) is Beta(df / 2, n_dim / 2).
    """
    if df is None:
        return np.asarray(2.0 * gammainccinv(0.5 * n_dim, outside))
    near = np.maximum(betaincinv(0.5 * df, 0.5 * n_dim, outside), NEAREST)
    return np.asarray(df * (1.0 / near - 1.0))
