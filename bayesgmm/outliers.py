"""Rows that the mixture would hardly have made: how unlikely they are, and which to flag."""

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.chunked import is_chunked
from bayesgmm.crossvalidation import FEWEST_SAMPLES, leave_one_out
from bayesgmm.data import refuse_missing
from bayesgmm.errors import check_integer, check_share
from bayesgmm.lazy import by_blocks
from bayesgmm.prediction import mixtures, probability_of, rows_asked
from bayesgmm.summaries import FEWEST_DRAWS
from bayesgmm.tail_mass import SMALLEST, log_predictive, tail_masses, with_noise
from bayesgmm.tree import noisy

type Array = NDArray[np.float64]


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
    MiB of memory for each core. Thin many draws: ``tree.isel(draw=slice(None, None, 10))``.

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
        log_density = with_noise(draws, levels, outside) - unit
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
