"""Rows predicted by fits that have not seen them: exact leave-one-out, and k-fold."""

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.alignment import align
from bayesgmm.crossvalidation import (
    LEFT,
    MATCHED,
    REFITTED,
    check_draws,
    labelled,
    leave_one_out,
    result_of,
    summed,
    terms_of,
)
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.folds import folds_of
from bayesgmm.held_out import LeftOut, leave_out
from bayesgmm.inference.assemble import Options
from bayesgmm.posterior_density import whole
from bayesgmm.problem import Problem
from bayesgmm.symptoms import gap_in_density
from bayesgmm.tree import require

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDDataLOOKFold

    from bayesgmm.elpd import LeaveOneOut


def reloo(
    tree: xr.DataTree, *, random_seed: int | None = None, progressbar: bool = True
) -> "LeaveOneOut":
    r"""Estimate as `loo` does, and fit again without the rows for which that is not enough.

    Every row that is too influential for importance sampling, and for moved draws too, is left
    out by a fit without it.

    Parameters
    ----------
    tree : DataTree
        A fit by a method that gives draws of the posterior.
    random_seed : int, optional
        The same seed gives the same result on the same machine.
    progressbar : bool, default True
        Report on standard error how many fits are done.

    Returns
    -------
    bayesgmm.elpd.LeaveOneOut
        As of `loo`. A row that was left out by a fit has ``pareto_k`` 0, as in ArviZ.

    Raises
    ------
    TypeError, ValueError
        If `tree` is refused by `loo`, holds draws of an approximation, or is not the fit of its
        specification to its rows, because a PyMC model was changed or rows were taken out.
    FitError
        If a fit fails.

    Warns
    -----
    ConvergenceWarning
        If a fit is not to be trusted, as `check` judges.

    See Also
    --------
    loo : Without fitting again.
    kfold : For many such rows.

    Notes
    -----
    The predictive density of a row is the evidence of all rows over that of all others. It is
    estimated from the draws of both fits together by the optimal bridge of Meng & Wong (1996). The
    mean density over draws of the fit without the row, an unbiased estimate, is mostly too small
    of an outlier: few draws, if any, come near it.

    Priors are those of `tree`, as numbers; method, draws and chains too. Chains of several fits
    sample beside one another, as many as there are cores.

    References
    ----------
    Meng & Wong (1996), Simulating ratios of normalizing constants via a simple identity: a
    theoretical exploration, Statistica Sinica 6.

    Vehtari, Gelman & Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27. doi:10.1007/s11222-016-9696-4

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = [[0.1], [0.4], [-0.3], [0.2], [-0.6], [0.5], [-0.1], [0.3], [-0.2], [4.0]]
    >>> tree = bg.fit(X, 1, random_seed=1, progressbar=False)
    >>> bg.reloo(tree, random_seed=1, progressbar=False).warning
    False
    """
    options = _options(tree, "reloo", random_seed)
    if not tree.attrs.get(names.RESAMPLED, 1):
        raise ValueError(
            f"`tree` must hold draws of the posterior for `reloo`; got those of the approximation "
            f"{tree.attrs.get(names.METHOD)!r}, not resampled: no row can be relied on. Fit with "
            f"method='nuts', or use bayesgmm.kfold."
        )
    found = leave_one_out(tree, "tree", "reloo", repair=True)
    elpd, p, shapes, before = (
        terms.values.copy()
        for terms in (found.elpd_i, found.p_loo_i, found.pareto_k, found.influence_pareto_k)
    )
    bad = np.flatnonzero(shapes > found.good_k)
    labels = tree[names.OBSERVED_DATA].dataset.indexes[names.OBS]
    held = {f"row {labels[row]!r}": np.array([row]) for row in bad}
    left_out = leave_out(tree, "reloo", held, options, progressbar)
    elpd[bad], p[bad], shapes[bad] = left_out.elpd[bad], (left_out.kept - left_out.elpd)[bad], 0.0
    repairs = np.where(before > shapes, MATCHED, LEFT).astype(object)
    repairs[bad] = REFITTED
    _warn(left_out, len(held))
    return result_of(tree, found.good_k, elpd, p, shapes, before, repairs, approximate=False)


def kfold(
    tree: xr.DataTree,
    *,
    folds: Any = 10,
    stratify: Any = None,
    random_seed: int | None = None,
    progressbar: bool = True,
) -> "ELPDDataLOOKFold":
    r"""Estimate the log predictive density of rows left out some at a time, by fitting again.

    .. math:: \widehat{elpd} = \sum_i \log p(x_i \mid X_{-f(i)}), \qquad
              X_{-f} \text{ the rows that are not in fold } f.

    Parameters
    ----------
    tree : DataTree
        A fit by a method that gives draws. Priors, as numbers, method, draws and chains of the
        fits without a fold are those of this one.
    folds : int or array, shape (n_obs,), default 10
        How many folds, of rows at random; or a label of every row, and rows of one label are left
        out together: the rows of one patient, say, or folds that were made elsewhere. As many
        folds as rows are exact leave-one-out.
    stratify : array, shape (n_obs,), optional
        Labels, such as known groups or ``bg.predict(tree)``, of which every fold gets its share.
    random_seed : int, optional
        The same seed gives the same result on the same machine, and the same folds for any fit of
        as many rows.
    progressbar : bool, default True
        Report on standard error how many fits are done.

    Returns
    -------
    arviz_stats.utils.ELPDDataLOOKFold
        With ``elpd``, its standard error ``se`` and the effective number of parameters ``p``, in
        nats; their terms ``elpd_i``, with the coordinate ``fold``, and ``p_kfold_i``, of dimension
        ``obs``; ``n_folds``; ``warning`` if a fit is not to be trusted. `compare` takes it.

    Raises
    ------
    TypeError, ValueError
        Before any fit: if `tree` is not a fit, has too few draws, or is not the fit of its
        specification to its rows; if there is no such number of folds; or if the rows without a
        fold cannot be fitted, there being too few of them or a column that does not vary.
    FitError
        If a fit fails.

    Warns
    -----
    ConvergenceWarning
        If a fit is not to be trusted, as `check` judges.

    See Also
    --------
    loo : Without fitting again.
    reloo : For a few rows.
    compare : Fits side by side.

    Notes
    -----
    Draws of the fit of all rows, weighted to be draws of the fit without a fold, join those of
    this fit, as draws of the mixture of both posteriors; the ratio of their evidences, which it
    takes, is estimated by the optimal bridge of Meng & Wong (1996). So an outlier is predicted by
    draws that come near it; the mean density over draws of the fit without it is mostly too small.
    Where the two posteriors are too far apart for that (an error of 0.5 nats), or draws are those
    of an approximation, it is the mean.

    With few folds a fit sees fewer rows, and elpd is a little too small; but of all models.

    Chains of several fits sample beside one another, as many as there are cores.

    References
    ----------
    Vehtari, Gelman & Gabry (2017), Practical Bayesian model evaluation using leave-one-out
    cross-validation and WAIC, Statistics and Computing 27. doi:10.1007/s11222-016-9696-4

    Meng & Wong (1996), Simulating ratios of normalizing constants via a simple identity: a
    theoretical exploration, Statistica Sinica 6.

    Shirts & Chodera (2008), Statistically optimal analysis of samples from multiple equilibrium
    states, J. Chemical Physics 129. doi:10.1063/1.2978177

    Examples
    --------
    >>> import bayesgmm as bg
    >>> X = bg.datasets.load_faithful()
    >>> tree = bg.fit(X, 1, random_seed=1, progressbar=False)
    >>> found = bg.kfold(tree, folds=4, random_seed=1, progressbar=False)
    >>> bool(abs(found.elpd - bg.loo(tree).elpd) < 2.0)
    True
    """
    options = _options(tree, "kfold", random_seed)
    obs = tree[names.OBSERVED_DATA].dataset.indexes[names.OBS]
    labels = folds_of(folds, stratify, obs, np.random.default_rng(options.random_seed))
    held = {f"fold {label}": np.flatnonzero(labels == label) for label in np.unique(labels)}
    left_out = leave_out(tree, "kfold", held, options, progressbar)
    elpd, p = left_out.elpd, left_out.kept - left_out.elpd
    sizes = tree[names.POSTERIOR].sizes
    from bayesgmm.elpd import arviz_classes

    result: ELPDDataLOOKFold = arviz_classes().ELPDDataLOOKFold(
        **summed(elpd, p),
        n_samples=sizes[names.CHAIN] * sizes[names.DRAW],
        warning=bool(left_out.untrusted),
        good_k=None,
        elpd_i=terms_of(elpd, tree).assign_coords({names.FOLD: (names.OBS, labels)}),
        p_kfold_i=labelled(p, tree),
        n_folds=len(held),
    )
    _warn(left_out, len(held))
    return result


def _options(tree: Any, function: str, random_seed: int | None) -> Options:
    """Return how the fits without some rows are to be made, refusing what is no such fit."""
    check_draws(tree, "tree", function)
    require(tree, names.SAMPLE_STATS, names.CONSTANT_DATA, function=function)
    if names.AVERAGED in tree.attrs:
        raise ValueError(
            f"`tree` must be a single fit for `{function}`, which fits again; got an average. Use "
            f"it on each of the fits that are averaged; bayesgmm.compare takes the results."
        )
    if names.N_COMPONENTS not in tree[names.POSTERIOR].dataset:
        problem, drawn = Problem.of_tree(tree), align(tree, "none")  # names may have a prior
        gap = gap_in_density(drawn, whole(problem)(problem.vectors_of(drawn))[0])
        if gap != 0.0:
            raise ValueError(
                f"`tree` must be the fit of its specification to its rows for `{function}`, which "
                f"fits again; got 'lp' that differs from theirs by {gap:.4g} nats, median of all "
                f"draws: a PyMC model was changed, or rows were taken out. Fit to the other rows "
                f"yourself, and predict with bayesgmm.score_samples."
            )
    sizes, attrs = tree[names.POSTERIOR].sizes, tree.attrs
    fused = attrs.get(names.ENGINE) == "fused"
    return Options.checked(
        draws=sizes[names.DRAW],
        tune=attrs.get("tuning_steps") if fused else None,
        chains=sizes[names.CHAIN],
        target_accept=attrs.get("target_accept", 0.8),
        random_seed=random_seed,
    )


def _warn(left_out: LeftOut, count: int) -> None:
    """Warn of fits that are not to be trusted."""
    if left_out.untrusted:
        name, verdict = next(iter(left_out.untrusted.items()))
        warnings.warn(
            f"{len(left_out.untrusted)} of {count} fits are not to be trusted; without {name}: "
            f"{verdict} Fit with more draws, then use this again.",
            ConvergenceWarning,
            stacklevel=3,
        )
