"""How well fits predict rows they have not seen: leave-one-out, WAIC, and fits side by side."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.crossvalidation import LARGEST_VARIANCE, check_draws, leave_one_out, watanabe
from bayesgmm.errors import check_choice
from bayesgmm.known_labels import told
from bayesgmm.sample_weights import one_each
from bayesgmm.tree import fitted_data, require

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

METHODS: Final = {
    "stacking": "stacking",
    "pseudo-BMA+": "BB-pseudo-BMA",
    "BB-pseudo-BMA": "BB-pseudo-BMA",
    "pseudo-BMA": "pseudo-BMA",
}
"""Ways to weight fits, by their names in Yao et al. (2018) and in ArviZ, and the latter."""


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
        in nats, and what else `arviz_stats.loo` gives but for ``log_weights``, which would be one
        for every draw and row. A shape is infinite where no Pareto law can be fitted.

    Raises
    ------
    TypeError
        If `tree` is not a DataTree.
    ValueError
        If it is not a fit, or holds too few draws: a point, of the methods "map" and "ml", has
        none.

    Warns
    -----
    UserWarning
        If the Pareto shape of a row is beyond what the number of draws allows.

    Notes
    -----
    The length of the smoothed tail needs the relative efficiency of the draws. It is taken from
    the likelihoods themselves, averaged over rows (evenly spaced ones, some 1,000, where there
    are more), which label switching leaves alone; the parameters' own, ArviZ's default, it does
    not. A log-likelihood that `fit` left out for its size is computed, some rows at a time.
    Costs O(S N) for S draws and N rows, in a thread per core.

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
    result = leave_one_out(tree, "tree", "loo")
    if result.warning:
        unreliable = result.pareto_k.values > result.good_k
        warnings.warn(
            f"The Pareto shape k of {_rows(result.pareto_k, unreliable)} is above "
            f"{result.good_k:.2f}, up to {float(result.pareto_k.max()):.2f}: these rows change "
            f"the posterior too much when left out for `loo` to be relied on. Look at them, "
            f"draw more, or leave them out by fitting again.",
            UserWarning,
            stacklevel=2,
        )
    return result if pointwise else dataclasses.replace(result, elpd_i=None, pareto_k=None)


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
        If it is not a fit, or holds too few draws: a point, of the methods "map" and "ml", has
        none.

    Warns
    -----
    UserWarning
        If a variance exceeds 0.4 (Vehtari, Gelman & Gabry 2017): then prefer `loo`.

    Notes
    -----
    Variances divide by S - 1. A log-likelihood that `fit` left out for its size is computed, some
    rows at a time. Costs O(S N) for S draws and N rows, in a thread per core.

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
    result, variances = watanabe(tree, "tree", "waic")
    if result.warning:
        unreliable = variances > LARGEST_VARIANCE
        warnings.warn(
            f"The log-likelihood of {_rows(result.elpd_i, unreliable)} has a posterior variance "
            f"above {LARGEST_VARIANCE}, up to {variances.max():.2f}: too large for `waic` to be "
            f"relied on. Use bayesgmm.loo instead.",
            UserWarning,
            stacklevel=2,
        )
    return result if pointwise else dataclasses.replace(result, elpd_i=None)


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
        If there are fewer than two, if one is no fit or has too few draws, or if they are fits
        of different data.

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
    for name, tree in trees.items():
        check_draws(tree, f"trees[{name!r}]", "compare")
    results = {
        name: leave_one_out(tree, f"trees[{name!r}]", "compare")  # diag_elpd tells of large k
        for name, tree in trees.items()
    }
    if method == "stacking":
        highest = np.max([result.elpd_i.values for result in results.values()], axis=0)
        for name, result in results.items():
            results[name] = dataclasses.replace(result, elpd_i=result.elpd_i - highest)
    import arviz_stats  # takes most of a second

    with np.errstate(divide="ignore", invalid="ignore"):  # the optimiser tries weights of zero
        table: pd.DataFrame = arviz_stats.compare(results, method=METHODS[method], round_to="none")
    return table


def _rows(of_rows: xr.DataArray, chosen: NDArray[np.bool_]) -> str:
    """Return how many rows are chosen, and the labels of the first."""
    labels = of_rows.indexes[names.OBS][chosen]
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
    mine, theirs = fitted_data(one), fitted_data(other)
    weights = (one_each(mine.sample_weight, mine.n_obs), one_each(theirs.sample_weight, mine.n_obs))
    if not np.array_equal(weights[0], weights[1]):
        return "the weights of rows"
    if not np.array_equal(told(mine), told(theirs)):
        return "the labels of rows that are known"
    unequal = (a.values != b.values) & ~(np.isnan(a.values) & np.isnan(b.values))
    if not unequal.any():
        return ""
    i, j = divmod(int(unequal.argmax()), a.sizes[names.FEATURE])
    row, column = a.indexes[names.OBS].tolist()[i], a.indexes[names.FEATURE].tolist()[j]
    return f"{a.values[i, j]} and {b.values[i, j]} at row {row!r}, column {column!r}"
