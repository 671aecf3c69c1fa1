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
from bayesgmm.comparable import check_comparable
from bayesgmm.crossvalidation import (
    LARGEST_VARIANCE,
    MOST_MATCHED,
    check_draws,
    leave_one_out,
    watanabe,
)
from bayesgmm.errors import check_choice

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

    from bayesgmm.elpd import LeaveOneOut

METHODS: Final = {
    "stacking": "stacking",
    "pseudo-BMA+": "BB-pseudo-BMA",
    "BB-pseudo-BMA": "BB-pseudo-BMA",
    "pseudo-BMA": "pseudo-BMA",
}
"""Ways to weight fits, by their names in Yao et al. (2018) and in ArviZ, and the latter."""


def loo(tree: xr.DataTree, *, pointwise: bool = True, bad_rows: str = "match") -> "LeaveOneOut":
    r"""Estimate the log predictive density of rows left out one at a time.

    Pareto-smoothed importance sampling (PSIS): the draws of the one fit are reweighted to those
    of a fit without row :math:`i`, and the largest weights smoothed,

    .. math:: \widehat{elpd} = \sum_i \log \sum_s w_{is} \, p(x_i \mid \theta_s), \qquad
              w_{is} \propto 1 / p(x_i \mid \theta_s).

    Where a few rows change the posterior too much for that, draws are first moved to where it is
    without each of them, by matching moments.

    Parameters
    ----------
    tree : DataTree
        A fit by a method that gives draws.
    pointwise : bool, default True
        Keep the terms of the sums, ``elpd_i`` and ``p_loo_i``, and the Pareto shapes,
        ``pareto_k`` and ``influence_pareto_k`` (before draws were moved), of dimension ``obs``.
    bad_rows : str, default "match"
        What to do about rows whose Pareto shape is too large: ``"match"`` moments, if there are
        20 of them at most, or ``"report"`` them alone.

    Returns
    -------
    bayesgmm.elpd.LeaveOneOut
        With ``elpd``, its standard error ``se`` and the effective number of parameters ``p``,
        in nats, and what else `arviz_stats.loo` gives but for ``log_weights``, which would be one
        for every draw and row. A shape is infinite where no Pareto law can be fitted. The table
        ``bad_rows`` names the rows whose shape was too large, and is printed.

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
        If rows are left whose Pareto shape is beyond what the number of draws allows.

    See Also
    --------
    reloo : Leave the rows that are left out by fitting again.
    kfold : Leave many rows out at a time, by fitting again.

    Notes
    -----
    The length of the smoothed tail needs the relative efficiency of the draws. It is taken from
    the likelihoods themselves, averaged over rows (evenly spaced ones, some 1,000, where there
    are more), which label switching leaves alone; the parameters' own, ArviZ's default, it does
    not. A log-likelihood that `fit` left out for its size is computed, some rows at a time.
    Costs O(S N) for S draws and N rows, in a thread per core.

    Draws are moved by affine maps on the unconstrained scale, and half of them are left where they
    were. All have been renamed so that they lie in one of the K! equal copies of the posterior,
    and what leaves it counts as zero: so it does not matter how far the copies overlap. Such an
    estimate is kept if the shape of its weights is 0.5 or less. It costs three to ten passes over
    the data for each draw and bad row, O(S N K D^2) each. Draws are left where they are if the
    number of components has a prior, or if a PyMC model was changed.

    Draws of an approximation (Laplace's or ADVI's) that was too far from the posterior for them to
    be resampled are weighted by the ratio of both densities too (Magnusson et al. 2019). Resampled
    ones are draws of the posterior.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27. doi:10.1007/s11222-016-9696-4

    Vehtari, Simpson, Gelman, Yao & Gabry (2024), Pareto smoothed importance sampling, Journal
    of Machine Learning Research 25 (72).

    Paananen, Piironen, Buerkner & Vehtari (2021), Implicitly adaptive importance sampling,
    Statistics and Computing 31. doi:10.1007/s11222-020-09982-2

    Magnusson, Andersen, Jonasson & Vehtari (2019), Bayesian leave-one-out cross-validation for
    large data, ICML, Proceedings of Machine Learning Research 97.

    Examples
    --------
    >>> import bayesgmm as bg
    >>> tree = bg.fit(bg.datasets.load_faithful(), 2, random_seed=1, progressbar=False)
    >>> bg.loo(tree).elpd_i.sizes["obs"]
    272
    """
    repair = check_choice(bad_rows, "bad_rows", ("match", "report")) == "match"
    result = leave_one_out(tree, "tree", "loo", repair=repair)
    if result.warning:
        message = _unreliable(result, averaged=names.AVERAGED in tree.attrs)
        warnings.warn(message, UserWarning, stacklevel=2)
    if pointwise:
        return result
    nothing = dict.fromkeys(("elpd_i", "p_loo_i", "pareto_k", "influence_pareto_k"))
    return dataclasses.replace(result, **nothing)


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
        none; or if its draws are those of an approximation, and were not resampled.

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


def compare(
    trees: "Mapping[str, xr.DataTree | ELPDData]", *, method: str = "stacking"
) -> pd.DataFrame:
    """Compare fits of the same data by how well they predict rows that were left out.

    Parameters
    ----------
    trees : dict of str to DataTree
        At least two fits of the same data, by name: of any number of components, structure,
        priors or method that draws. Leave-one-out is computed as `loo` does. Or what `loo`,
        `reloo`, `waic` or `kfold` returned for them, all of one kind.
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
        If there are fewer than two, if one is no fit or has too few draws, if they are fits
        of different data, or if rows were left out in different ways.

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
    check_comparable(trees)
    fits = {name: fit for name, fit in trees.items() if isinstance(fit, xr.DataTree)}
    for name, tree in fits.items():
        check_draws(tree, f"trees[{name!r}]", "compare")
    results: dict[str, Any] = dict(trees)
    for name, tree in fits.items():  # diag_elpd tells of large k
        results[name] = leave_one_out(tree, f"trees[{name!r}]", "compare", repair=True)
    if method == "stacking":
        highest = np.max([result.elpd_i.values for result in results.values()], axis=0)
        for name, result in results.items():
            results[name] = dataclasses.replace(result, elpd_i=result.elpd_i - highest)
    import arviz_stats  # takes most of a second

    with np.errstate(divide="ignore", invalid="ignore"):  # the optimiser tries weights of zero
        table: pd.DataFrame = arviz_stats.compare(results, method=METHODS[method], round_to="none")
    return table


def _unreliable(result: "LeaveOneOut", averaged: bool) -> str:
    """Return what is wrong with some rows, and what to do, if need be with the fits averaged."""
    bad = result.pareto_k.values > result.good_k
    which = (
        f"The Pareto shape k of {_rows(result.pareto_k, bad)} is above {result.good_k:.2f}, up to "
        f"{float(result.pareto_k.max()):.2f}: "
    )
    if result.approx_posterior:
        return (
            f"{which}the draws are those of an approximation that is too far from the posterior "
            f"for `loo` to be relied on. Fit with method='nuts'."
        )
    use = "bayesgmm.reloo(tree), which fits without each of them"
    if bad.sum() > MOST_MATCHED:
        use = "bayesgmm.kfold(tree)"
    if averaged:
        use = "bayesgmm.reloo or kfold on each of the fits that are averaged"
    return (
        f"{which}these rows change the posterior too much when left out for `loo` to be relied on. "
        f"Look at them, draw more, or use {use}."
    )


def _rows(of_rows: xr.DataArray, chosen: NDArray[np.bool_]) -> str:
    """Return how many rows are chosen, and the labels of the first."""
    labels = of_rows.indexes[names.OBS][chosen]
    shown = ", ".join(str(label) for label in labels[:5])
    more = ", ..." if len(labels) > 5 else ""
    plural = "s" if len(labels) > 1 else ""
    return f"{len(labels)} of {chosen.size} rows (row{plural} {shown}{more})"
