"""How well fits predict rows they have not seen: leave-one-out, WAIC, and fits side by side."""

import dataclasses
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.errors import check_choice
from bayesgmm.tree import require

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

METHODS: Final = {
    "stacking": "stacking",
    "pseudo-BMA+": "BB-pseudo-BMA",
    "BB-pseudo-BMA": "BB-pseudo-BMA",
    "pseudo-BMA": "pseudo-BMA",
}
"""Ways to weight fits, by their names in Yao et al. (2018) and in ArviZ, and the latter."""

LARGEST_VARIANCE: Final = 0.4
"""Of the log-likelihood of a row, beyond which WAIC is not to be relied on (Vehtari et al.)."""

_SAMPLE: Final = (names.CHAIN, names.DRAW)
_FEWEST_SAMPLES: Final = 30
"""A fifth of them make the tail to which ArviZ fits the Pareto law, and it takes six at least."""
_FEWEST_DRAWS: Final = 4
"""In every chain: fewer give no autocorrelation."""


def loo(tree: xr.DataTree, *, pointwise: bool = True) -> "ELPDData":
    r"""Estimate the log predictive density of rows left out one at a time.

    Pareto-smoothed importance sampling (PSIS): the draws of the one fit are reweighted to those
    of a fit without row :math:`i`, and the largest weights smoothed,

    .. math:: \widehat{elpd} = \sum_i \log \sum_s w_{is} \, p(x_i \mid \theta_s), \qquad
              w_{is} \propto 1 / p(x_i \mid \theta_s).

    Parameters
    ----------
    tree : DataTree
        A fit by a method that gives draws.
    pointwise : bool, default True
        Keep the terms of the sum, ``elpd_i``, and the Pareto shapes, ``pareto_k``, both of
        dimension ``obs``.

    Returns
    -------
    arviz_stats.ELPDData
        With ``elpd``, its standard error ``se`` and the effective number of parameters ``p``,
        in nats, and what else `arviz_stats.loo` gives.

    Raises
    ------
    TypeError
        If `tree` is not a DataTree.
    ValueError
        If it is not a fit with a log-likelihood, or holds too few draws: a point, of the
        methods "map" and "ml", has none.

    Warns
    -----
    UserWarning
        If the Pareto shape of a row is beyond what the number of draws allows.

    Notes
    -----
    The length of the smoothed tail needs the relative efficiency of the draws. It is taken from
    the likelihoods themselves, averaged over rows, which label switching leaves alone; the
    parameters' own, ArviZ's default, it does not. Costs O(S N log S) for S draws and N rows.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27. doi:10.1007/s11222-016-9696-4

    Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto smoothed importance sampling, Journal
    of Machine Learning Research 25 (72).

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, random_seed=1, progressbar=False)
    >>> bg.loo(tree).elpd_i.sizes["obs"]
    272
    """
    log_likelihood = _log_likelihood(tree, "tree", "loo")
    result, unreliable = _psis(log_likelihood)
    if unreliable.any():
        warnings.warn(
            f"The Pareto shape k of {_rows(log_likelihood, unreliable)} is above "
            f"{result.good_k:.2f}, up to {float(result.pareto_k.max()):.2f}: these rows change "
            f"the posterior too much when left out for `loo` to be relied on. Look at them, "
            f"draw more, or leave them out by fitting again.",
            UserWarning,
            stacklevel=2,
        )
    kept: ELPDData = (
        result if pointwise else dataclasses.replace(result, elpd_i=None, pareto_k=None)
    )
    return kept


def waic(tree: xr.DataTree, *, pointwise: bool = True) -> "ELPDData":
    r"""Compute the widely applicable information criterion, on the scale of `loo`.

    .. math:: elpd_{waic} = \sum_i \Bigl( \log \tfrac1S \sum_s p(x_i \mid \theta_s)
              - \mathrm{var}_s \log p(x_i \mid \theta_s) \Bigr)

    Parameters
    ----------
    tree : DataTree
        A fit by a method that gives draws.
    pointwise : bool, default True
        Keep the terms of the sum, ``elpd_i``, of dimension ``obs``.

    Returns
    -------
    arviz_stats.ELPDData
        With ``elpd``, its standard error ``se`` and the effective number of parameters ``p``
        (the sum of the variances), in nats. Watanabe's WAIC is ``-2 * elpd`` on the deviance
        scale.

    Raises
    ------
    TypeError
        If `tree` is not a DataTree.
    ValueError
        If it is not a fit with a log-likelihood, or holds too few draws: a point, of the
        methods "map" and "ml", has none.

    Warns
    -----
    UserWarning
        If a variance exceeds 0.4 (Vehtari, Gelman & Gabry 2017): then prefer `loo`.

    Notes
    -----
    Variances divide by S - 1. Costs O(S N) for S draws and N rows.

    References
    ----------
    Watanabe (2010), Asymptotic equivalence of Bayes cross validation and widely applicable
    information criterion in singular learning theory, Journal of Machine Learning Research 11.

    Vehtari, Gelman & Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27. doi:10.1007/s11222-016-9696-4

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 1, random_seed=1, progressbar=False)
    >>> bool(abs(bg.waic(tree).elpd - bg.loo(tree).elpd) < 1.0)
    True
    """
    log_likelihood = _log_likelihood(tree, "tree", "waic")
    highest = log_likelihood.max(_SAMPLE)
    likelihood: xr.DataArray = xr.ufuncs.exp(log_likelihood - highest)
    p_i = log_likelihood.var(_SAMPLE, ddof=1)
    elpd_i = xr.ufuncs.log(likelihood.mean(_SAMPLE)) + highest - p_i
    unreliable = p_i.values > LARGEST_VARIANCE
    if unreliable.any():
        warnings.warn(
            f"The log-likelihood of {_rows(log_likelihood, unreliable)} has a posterior variance "
            f"above {LARGEST_VARIANCE}, up to {float(p_i.max()):.2f}: too large for `waic` to be "
            f"relied on. Use bayesgmm.loo instead.",
            UserWarning,
            stacklevel=2,
        )
    result: ELPDData = _arviz().ELPDData(
        elpd=float(elpd_i.sum()),
        se=float(np.sqrt(elpd_i.size * elpd_i.var())),
        p=float(p_i.sum()),
        n_samples=math.prod(log_likelihood.sizes[dim] for dim in _SAMPLE),
        n_data_points=elpd_i.size,
        scale="log",
        warning=bool(unreliable.any()),
        good_k=None,
        elpd_i=elpd_i if pointwise else None,
    )
    vars(result)["_kind"] = "waic"  # names it where it is printed; ArviZ has no class for it
    return result


def compare(trees: Mapping[str, xr.DataTree], *, method: str = "stacking") -> pd.DataFrame:
    """Compare fits of the same data by leave-one-out cross-validation.

    Parameters
    ----------
    trees : dict of str to DataTree
        At least two fits of the same data, by name.
    method : str, default "stacking"
        How weights are given to fits: ``"stacking"`` (of predictive distributions),
        ``"pseudo-BMA+"`` (in proportion to the exponential of elpd, averaged over a Bayesian
        bootstrap; ArviZ calls it ``"BB-pseudo-BMA"``) or ``"pseudo-BMA"`` (without it).

    Returns
    -------
    DataFrame
        One row per fit, the best first, with the columns of `arviz_stats.compare`: ``rank``,
        ``elpd_diff`` from the best and its standard error ``dse``, ``p_worse``, ``diag_diff``,
        ``diag_elpd`` (number of rows whose Pareto shape is too large), ``p``, ``elpd``, ``se``
        and ``weight``; not rounded.

    Raises
    ------
    TypeError
        If `trees` is not a dict of fits with names that are strings.
    ValueError
        If there are fewer than two, if one is no fit, has no log-likelihood or too few draws,
        or if they are fits of different data.

    Notes
    -----
    Stacking maximises the sum over rows of the log of the weighted densities. The densities of
    a row are divided by the largest among the fits first: this leaves the weights as they are,
    and nothing underflows, however small the densities.

    References
    ----------
    Yao, Vehtari, Simpson & Gelman (2018), Using stacking to average Bayesian predictive
    distributions, Bayesian Analysis 13. doi:10.1214/17-BA1091

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful()
    >>> trees = {f"{k}": bg.fit(X, k, random_seed=1, progressbar=False) for k in (1, 2)}
    >>> bg.compare(trees).index.tolist()
    ['2', '1']
    """
    check_choice(method, "method", METHODS)
    _refuse_different(trees)
    log_likelihoods = {
        name: _log_likelihood(tree, f"trees[{name!r}]", "compare") for name, tree in trees.items()
    }
    results = {}
    for name, log_likelihood in log_likelihoods.items():
        result, _ = _psis(log_likelihood)  # the table's diag_elpd says where k is too large
        results[name] = dataclasses.replace(result, log_weights=None)
    if method == "stacking":
        highest = np.max([result.elpd_i.values for result in results.values()], axis=0)
        for name, result in results.items():
            results[name] = dataclasses.replace(result, elpd_i=result.elpd_i - highest)
    with np.errstate(divide="ignore", invalid="ignore"):  # the optimiser tries weights of zero
        table: pd.DataFrame = _arviz().compare(results, method=METHODS[method], round_to="none")
    return table


def _log_likelihood(tree: Any, argument: str, function: str) -> xr.DataArray:
    """Return the log-likelihood (chain, draw, obs) of a fit after checking that it can serve."""
    require(tree, names.LOG_LIKELIHOOD, function=function, argument=argument)
    stored: xr.DataArray = tree[names.LOG_LIKELIHOOD].dataset[names.X]
    log_likelihood = stored.transpose(*_SAMPLE, names.OBS)
    n_chains, n_draws = log_likelihood.shape[:2]
    if n_draws < _FEWEST_DRAWS or n_chains * n_draws < _FEWEST_SAMPLES:
        method = tree.attrs.get(names.METHOD)
        point = method in ("map", "ml")
        raise ValueError(
            f"`{argument}` must hold at least {_FEWEST_SAMPLES} draws of the posterior, "
            f"{_FEWEST_DRAWS} in every chain, for `{function}`; got {n_chains} x {n_draws} of the "
            f"method {method!r}. "
            + (
                "A point has no posterior uncertainty: fit with method='nuts'."
                if point
                else "Fit again with more draws."
            )
        )
    finite = np.isfinite(log_likelihood.values)
    if not finite.all():
        chain, draw, row = (int(i) for i in np.unravel_index(finite.argmin(), finite.shape))
        raise ValueError(
            f"`{argument}` must have a finite log-likelihood; got "
            f"{log_likelihood.values[chain, draw, row]} at chain {chain}, draw {draw}, row {row}. "
            f"Check that draw, and fit again."
        )
    return log_likelihood


def _psis(log_likelihood: xr.DataArray) -> tuple[Any, NDArray[np.bool_]]:
    """Return ArviZ's result and which rows have too large a Pareto shape."""
    fit = xr.DataTree.from_dict({names.LOG_LIKELIHOOD: log_likelihood.to_dataset(name=names.X)})
    reff = _relative_efficiency(log_likelihood.values)
    with warnings.catch_warnings():  # ours names the rows
        warnings.filterwarnings("ignore", "Estimated shape parameter", UserWarning)
        try:
            result = _arviz().loo(fit, pointwise=True, var_name=names.X, reff=reff)
        except ValueError as error:  # a tail without any spread
            raise ValueError(
                f"`tree` must hold draws that differ; got a row of the data that the posterior "
                f"gives the same small density in many draws ({error}). A chain is stuck: look at "
                f"bayesgmm.check(tree), and fit again."
            ) from error
    # ArviZ gives NaN, and no warning, where a few weights are so large that no tail is left
    shapes = result.pareto_k.fillna(np.inf)
    unreliable = shapes.values > result.good_k
    return dataclasses.replace(result, pareto_k=shapes, warning=bool(unreliable.any())), unreliable


def _relative_efficiency(log_likelihood: NDArray[np.float64]) -> float:
    """Return the effective sample size per draw of the likelihoods, averaged over rows.

    Parameters
    ----------
    log_likelihood : array, shape (n_chains, n_draws, n_obs)
        In nats. Rows are scaled to a largest likelihood of 1, which changes nothing but keeps
        densities of 1e-300 from being taken for constants.
    """
    likelihood = np.exp(log_likelihood - log_likelihood.max(axis=(0, 1)))
    ess = _arviz().base.array_stats.ess(likelihood, chain_axis=0, draw_axis=1, method="mean")
    return float(np.mean(ess)) / math.prod(log_likelihood.shape[:2])


def _arviz() -> Any:
    """Import arviz_stats, which takes a second, when it is needed."""
    import arviz_stats

    return arviz_stats


def _rows(log_likelihood: xr.DataArray, chosen: NDArray[np.bool_]) -> str:
    """Return how many rows are chosen, and the labels of the first."""
    labels = log_likelihood.indexes[names.OBS][chosen]
    shown = ", ".join(str(label) for label in labels[:5])
    more = ", ..." if len(labels) > 5 else ""
    plural = "s" if len(labels) > 1 else ""
    return f"{len(labels)} of {chosen.size} rows (row{plural} {shown}{more})"


def _refuse_different(trees: Any) -> None:
    """Refuse anything but two or more fits of the same data."""
    if not isinstance(trees, Mapping) or isinstance(trees, xr.DataTree):
        raise TypeError(
            f"`trees` must be a dict of fits by name; got an object of type "
            f"{type(trees).__name__}. Write compare({{'two': tree_2, 'three': tree_3}})."
        )
    for name, tree in trees.items():
        if not isinstance(name, str):
            raise TypeError(
                f"`trees` must have names that are strings; got {name!r} of type "
                f"{type(name).__name__}. Write {str(name)!r}."
            )
        argument = f"trees[{name!r}]"
        require(tree, names.OBSERVED_DATA, function="compare", argument=argument)
    if len(trees) < 2:
        raise ValueError(
            f"`trees` must hold at least two fits; got {len(trees)}. "
            f"To judge a single one use bayesgmm.loo."
        )
    first, *others = trees
    for other in others:
        difference = _first_difference(*(trees[name] for name in (first, other)))
        if difference:
            raise ValueError(
                f"`trees` must be fits of the same data; got {first!r} and {other!r}, which "
                f"differ: {difference}. Fit both to the same rows and columns, in the same order."
            )


def _first_difference(one: xr.DataTree, other: xr.DataTree) -> str:
    """Return the first difference between the data of two fits; an empty string if none."""
    a, b = (tree[names.OBSERVED_DATA].dataset[names.X] for tree in (one, other))
    for dim in (names.OBS, names.FEATURE):
        if a.sizes[dim] != b.sizes[dim]:
            return f"{a.sizes[dim]} and {b.sizes[dim]} along {dim!r}"
        if not a.indexes[dim].equals(b.indexes[dim]):
            pairs = list(zip(a.indexes[dim].tolist(), b.indexes[dim].tolist(), strict=True))
            place = next((i for i, pair in enumerate(pairs) if pair[0] != pair[1]), 0)
            return "{!r} and {!r} at place {} along {!r}".format(*pairs[place], place, dim)
    unequal = a.values != b.values
    if not unequal.any():
        return ""
    i, j = divmod(int(unequal.argmax()), a.sizes[names.FEATURE])
    row, column = a.indexes[names.OBS].tolist()[i], a.indexes[names.FEATURE].tolist()[j]
    return f"{a.values[i, j]} and {b.values[i, j]} at row {row!r}, column {column!r}"
