"""Rows that the mixture would hardly have made: how unlikely they are, and which to flag."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import betaincinv, gammainccinv, logsumexp

from bayesgmm import names
from bayesgmm.chunked import is_chunked
from bayesgmm.crossvalidation import FEWEST_SAMPLES, leave_one_out
from bayesgmm.data import refuse_missing
from bayesgmm.errors import check_integer, check_share
from bayesgmm.kernels.draws import fill_draws
from bayesgmm.kernels.factor_loadings import dense
from bayesgmm.kernels.relabel import NO_CUBE, NO_LABELS
from bayesgmm.kernels.threads import over_draws
from bayesgmm.lazy import by_blocks
from bayesgmm.prediction import Mixtures, mixtures, probability_of, rows_asked
from bayesgmm.summaries import FEWEST_DRAWS
from bayesgmm.tree import noisy

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


def outlier_score(
    tree: xr.DataTree, X_new: Any = None, *, random_seed: int | None = None
) -> xr.Dataset:
    r"""Return how probable a new row is that is less likely than each of these.

    .. math:: p(x) = P(f(Y) \le f(x)), \quad Y \sim f, \quad
              f(y) = \frac1S \sum_s p(y \mid \theta_s)

    with f the posterior predictive density. Small for outliers; of rows that the model makes
    uniform between 0 and 1, so that ``score <= 0.01`` flags one row in a hundred of them.

    Parameters
    ----------
    tree : DataTree
        A fit.
    X_new : array, DataFrame or DataArray, shape (n_new, n_features), optional
        The fitted features, in the fitted order; by default the rows that were fitted, each left
        out of the fit that judges it.
    random_seed : int, optional
        The same seed gives the same scores.

    Returns
    -------
    Dataset, dims (obs,)
        ``score``, in (0, 1]; ``score_error``, its Monte Carlo standard error; ``log_density``, the
        log predictive density, in nats. Of fitted rows ``pareto_k`` too, as in `loo`. The
        attribute ``resolution`` is the smallest score: a row that has it has that or less, and
        its error is NaN.
        The attribute ``left_out`` is 1 where the rows were left out of the fit.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, `X_new` has other columns than it, or is left out of a marginal or
        a conditional.

    See Also
    --------
    flag_outliers : A threshold by the rate of false alarms or the false discovery rate.

    Notes
    -----
    f is averaged over the draws first: averages of each draw's own probability would not be
    uniform, as the parameters of the row to come are not those of any draw. Of a single Normal
    the score is the tail of the chi-square distribution of the Mahalanobis distance. It is the
    same in any units of the features, not after transforming them.

    Points are drawn from f in shells around the means of its components, as many far out as near,
    each with the known mass of its shell, and the score is the mass of those less dense than x: it
    is unbiased, and as precise relative to a score of 1e-15 as to one of 0.1, with a relative
    error of some per cent where draws agree about the tail. ``score_error`` is the standard error
    of 16 independent estimates.

    A fitted row makes itself likely, an outlier most of all: its density is that of `loo`, Pareto
    smoothed. Where ``pareto_k`` is above 0.7 this is too high, and so is the score: the row is
    suspect for that alone. A fit with fewer than 30 draws, a point, cannot leave rows out, nor is a
    weighted or labelled row left out; there the scores of fitted rows are too large.

    Background noise is part of f: its rows score as much as noise is frequent, or less, those
    farthest from all components the least; to flag it as such take `predict`. Its density is the
    same everywhere in its box, so rows there are compared by what the components add to it. Points
    are spread evenly in the box: scores of its rows are known to some 1e-5 of the weight of noise.

    O(P S K D^2) operations for S draws and P points, 3,500 to 55,000, fewer for large models; 8
    MiB of memory for each core.

    References
    ----------
    Bishop (1994), Novelty detection and neural network validation, IEE Proceedings: Vision, Image
    and Signal Processing 141. doi:10.1049/ip-vis:19941330

    Box (1980), Sampling and Bayes' inference in scientific modelling and robustness, J. Royal
    Statistical Society A 143. doi:10.2307/2982063

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, method="map", random_seed=1)
    >>> scores = bg.outlier_score(tree, [[2.0, 55.0], [3.0, 40.0]], random_seed=1)
    >>> bg.flag_outliers(scores, rate=0.01).values
    array([False,  True])
    """
    if random_seed is not None:
        check_integer(random_seed, "random_seed", 0, "Give an integer such as 1, or None.")
    if is_chunked(X_new):  # every block is compared with the same points
        seed = np.random.SeedSequence(random_seed).generate_state(1).item()
        return by_blocks(outlier_score, tree, X_new, {"random_seed": seed}, None)
    data = rows_asked(tree, X_new, "outlier_score")
    if X_new is None and names.DERIVED in tree.attrs:
        raise ValueError(
            f"`X_new` must be given where `tree` is a {tree.attrs[names.DERIVED]} of a fit; got "
            f"None. The rows that were fitted cannot be left out of it."
        )
    refuse_missing(  # their densities are of fewer features than the others'
        data, "X_new",
        "Score rows with the same cells missing by bayesgmm.marginal(tree, features).",
    )  # fmt: skip
    if data.errors is not None:
        raise ValueError(
            "`X_new` must be given where `tree` is a fit with measurement errors; got None. Scores "
            "are of rows without error."
        )
    draws = mixtures(tree)
    sizes = tree[names.POSTERIOR].sizes
    enough = sizes[names.DRAW] >= FEWEST_DRAWS and len(draws.log_weights) >= FEWEST_SAMPLES
    alike = data.allowed is None and names.SAMPLE_WEIGHT not in tree[names.CONSTANT_DATA].dataset
    left_out = X_new is None and enough and alike
    components = draws.components
    rows = components.rows(data.values)
    outside = draws.outside(rows)
    unit = np.log(draws.unit).sum()
    variables: dict[str, Any] = {}
    if left_out:
        without = leave_one_out(tree, "tree", "outlier_score", repair=True)
        log_density = without.elpd_i.values
        variables[names.PARETO_K] = (names.OBS, without.pareto_k.values)
        levels = log_density + unit + _log_share(tree)
    else:
        levels = log_predictive(components, rows)
        log_density = _with_noise(draws, levels, outside) - unit
    scores, errors = tail_masses(draws, levels, outside, np.random.default_rng(random_seed))
    found = xr.Dataset(
        {
            names.SCORE: (names.OBS, np.maximum(scores, SMALLEST)),
            names.SCORE_ERROR: (names.OBS, np.where(scores < SMALLEST, np.nan, errors)),
            names.LOG_DENSITY: (names.OBS, log_density),
            **variables,
        },
        coords=data.obs_coords,
        attrs={names.RESOLUTION: SMALLEST, names.LEFT_OUT: int(left_out)},
    )
    return data.laid_out(found)


def flag_outliers(
    scores: xr.Dataset | xr.DataArray, *, rate: float | None = None, fdr: float | None = None
) -> xr.DataArray:
    """Flag the rows that are outliers, by the rate of false alarms or of false discoveries.

    Parameters
    ----------
    scores : Dataset or DataArray
        What `outlier_score` returned, or its ``score``.
    rate : float, optional
        Share of the rows made by the model that may be flagged: 0.01, say.
    fdr : float, optional
        Expected share, at most, of rows made by the model among those flagged (Benjamini &
        Hochberg 1995): 0.1, say. The threshold then depends on how many small scores there are.

    Returns
    -------
    DataArray of bool, dims as the scores
        True for outliers, False where there is no score (NaN). The attribute ``threshold`` is the
        largest score that is flagged; 0 where none may be.

    Raises
    ------
    TypeError, ValueError
        If `scores` are none, or not exactly one of `rate` and `fdr` is given, between 0 and 1.

    Notes
    -----
    Benjamini and Hochberg's rule holds for independent scores, and where they depend positively
    in a certain way (Benjamini & Yekutieli 2001). Scores of rows that the model makes are
    independent given its parameters, and share what is unknown of these. O(N log N).

    References
    ----------
    Benjamini & Hochberg (1995), Controlling the false discovery rate: a practical and powerful
    approach to multiple testing, J. Royal Statistical Society B 57.
    doi:10.1111/j.2517-6161.1995.tb02031.x

    Benjamini & Yekutieli (2001), The control of the false discovery rate in multiple testing under
    dependency, Annals of Statistics 29. doi:10.1214/aos/1013699998

    Examples
    --------
    >>> import xarray as xr
    >>> import bayesgmm as bg
    >>> scores = xr.DataArray([0.5, 1e-6, 0.02, 0.9], dims="obs")
    >>> bg.flag_outliers(scores, rate=0.05).values
    array([False,  True,  True, False])
    >>> bg.flag_outliers(scores, fdr=0.03).values
    array([False,  True, False, False])
    """
    found = scores.get(names.SCORE) if isinstance(scores, xr.Dataset) else scores
    if not isinstance(found, xr.DataArray):
        raise TypeError(
            f"`scores` must be what bayesgmm.outlier_score returned; got an object of type "
            f"{type(scores).__name__}{' without scores' * (found is None)}. Pass that."
        )
    values = found.values
    scored = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, dtype=bool)
    if values.dtype.kind not in "iuf" or not ((values >= 0.0) & (values <= 1.0))[scored].all():
        raise ValueError(
            f"`scores` must lie between 0 and 1; got {values.dtype}, {values.ravel()[:3].tolist()} "
            f"and so on. Pass the scores of bayesgmm.outlier_score."
        )
    if (rate is None) == (fdr is None):
        raise ValueError(
            f"`rate` or `fdr` must be given, and not both; got {rate} and {fdr}. Write rate=0.01 "
            f"for one false alarm in a hundred rows, or fdr=0.1 for one in ten flagged rows."
        )
    if rate is not None:
        threshold = check_share(rate, "rate", "0.01 is usual.")
    else:
        share = check_share(fdr, "fdr", "0.1 is usual.")
        ascending = np.sort(values[scored])
        steps = share * np.arange(1, ascending.size + 1) / ascending.size
        below = ascending[ascending <= steps]
        threshold = float(below.max(initial=0.0))
    flags = found.copy(data=values <= threshold).rename(names.OUTLIER)
    flags.attrs = {names.THRESHOLD: threshold}
    return flags


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
            fill_draws(block, *draws[:3], densities, NO_CUBE, NO_LABELS, NO_CUBE)
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


def _with_noise(draws: Mixtures, log_density: Array, outside: NDArray[np.bool_]) -> Array:
    """Return the log densities of rows with that of noise, of which there is none outside."""
    if not len(draws.box):
        return log_density
    return np.where(outside, log_density, np.logaddexp(log_density, _log_noise(draws)))


def _log_share(tree: xr.DataTree) -> Array | float:
    """Return the log probability that fitted rows are of a component.

    Of a row that is left out the density of the components is that of the whole times this: given
    a draw the weight of a row's leaving is one over its density f, and the mean of g / f over the
    posterior is the probability to be of a component.
    """
    if not noisy(tree):
        return 0.0
    probability = probability_of(tree, None, "outlier_score")[1].values[:, :-1]
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probability.sum(axis=1)))


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
