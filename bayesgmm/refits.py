"""Rows predicted by fits that have not seen them: exact leave-one-out, and k-fold."""

import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesgmm import names
from bayesgmm.bridge import bridge
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.convergence import check
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
from bayesgmm.data import Data, check_enough_rows
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.folds import folds_of
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.fit import at_work
from bayesgmm.inference.refitting import refit
from bayesgmm.mixture import GaussianMixture
from bayesgmm.pointwise import log_densities
from bayesgmm.posterior_density import whole
from bayesgmm.prediction import mixtures
from bayesgmm.problem import Problem
from bayesgmm.sample_weights import weigh
from bayesgmm.symptoms import gap_in_density
from bayesgmm.tree import fitted_data, observed, parameters, require, specification

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDDataLOOKFold

    from bayesgmm.elpd import LeaveOneOut

type Array = NDArray[np.float64]
type Rows = NDArray[np.int64]

LARGEST_ERROR: Final = 0.5
"""Error, in nats, of the density of rows that were left out together, up to which draws of the
fit of all rows tell about the fit without them."""


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
    left_out = _left_out(tree, "reloo", held, options, progressbar)
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
    left_out = _left_out(tree, "kfold", held, options, progressbar)
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


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Terms of rows that were left out; NaN of the others.

    Parameters
    ----------
    elpd, kept : arrays, shape (N,)
        Log predictive densities, under fits without them and under the fit with them.
    untrusted : dict of str to str
        What was left out by fits that are not to be trusted, and why they are not.
    """

    elpd: Array
    kept: Array
    untrusted: dict[str, str]


def _options(tree: Any, function: str, random_seed: int | None) -> Options:
    """Return how the fits without some rows are to be made, refusing what is no such fit."""
    check_draws(tree, "tree", function)
    require(tree, names.SAMPLE_STATS, names.CONSTANT_DATA, function=function)
    if names.N_COMPONENTS not in tree[names.POSTERIOR].dataset:
        problem = Problem.of_tree(tree)
        gap = gap_in_density(tree, whole(problem)(problem.vectors(parameters(tree)))[0])
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


def _left_out(
    tree: xr.DataTree,
    function: str,
    held: Mapping[str, Rows],
    options: Options,
    progressbar: bool,
) -> LeftOut:
    """Fit without some rows after the other, and return how these are predicted."""
    resolved = specification(tree)
    parts = [_part(tree, rows, resolved, name, function) for name, rows in held.items()]
    told, rows_of = list(held), list(held.values())
    seeds = [
        int(seed) for seed in np.random.SeedSequence(options.random_seed).generate_state(len(held))
    ]
    elpd, kept = np.full((2, tree[names.OBSERVED_DATA].sizes[names.OBS]), np.nan)
    untrusted = {}
    method = tree.attrs[names.METHOD]
    with (
        at_work(progressbar) as progress,
        closing(refit(resolved, parts, method, options, seeds, progress)) as fits,
    ):
        for number, fit in fits:
            rows = rows_of[number]
            with_them, without = (_densities(one, tree, rows) for one in (tree, fit))
            kept[rows] = logsumexp(with_them, axis=(0, 1)) - np.log(with_them[..., 0].size)
            drawn = all(one.attrs.get(names.RESAMPLED, 1) for one in (tree, fit))
            elpd[rows] = _predicted(with_them if drawn else None, without)
            report = check(fit)
            if not report.ok:
                untrusted[told[number]] = report.verdict
    return LeftOut(elpd, kept, untrusted)


def _part(
    tree: xr.DataTree, rows: Rows, resolved: GaussianMixture, name: str, function: str
) -> Data:
    """Return the data without some rows, refusing what cannot be fitted."""
    rest = np.setdiff1d(np.arange(tree[names.OBSERVED_DATA].sizes[names.OBS]), rows)
    try:
        part = fitted_data(tree, rest)
        if not isinstance(resolved.n_components, PriorOnComponents):
            check_enough_rows(part, resolved.n_components)
    except ValueError as error:
        raise ValueError(
            f"`{function}` must be left with rows that can be fitted; got, without {name}: {error}"
        ) from error
    return part


def _densities(fit: xr.DataTree, tree: xr.DataTree, rows: Rows) -> Array:
    """Return the log density of rows of `tree` under every draw of a fit, (chains, draws, n)."""
    sizes, draws = fit[names.POSTERIOR].sizes, mixtures(fit)
    values, errors, allowed = observed(tree)
    errors, allowed = (None if one is None else one[rows] for one in (errors, allowed))
    found = log_densities(draws, draws.rows(values[rows], errors, allowed))
    weights = tree[names.CONSTANT_DATA].dataset.get(names.SAMPLE_WEIGHT)
    weigh(found, None if weights is None else weights.values[rows])
    return found.reshape(sizes[names.CHAIN], sizes[names.DRAW], -1)


def _predicted(with_them: Array | None, without: Array) -> Array:
    """Return the log predictive densities, shape (n,), of rows under a fit without them.

    Parameters
    ----------
    with_them : array, shape (chains, draws, n), or None
        Log densities under draws of the fit that has seen them, if these are of the posterior.
    without : array, shape (chains, draws, n)
        The same, of the fit without them.
    """
    densities = without.reshape(-1, without.shape[2])
    log_weights = np.zeros(len(densities))
    if with_them is not None:
        joint, of_rest = with_them.sum(axis=2), densities.sum(axis=1)
        with np.errstate(all="ignore"):  # posteriors may be so far apart that nothing is left
            found = bridge(joint, of_rest)
        if found.of_draws + found.of_proposals < LARGEST_ERROR**2:
            own = np.log(joint.size / (joint.size + of_rest.size))
            other = np.log(of_rest.size / (joint.size + of_rest.size))
            ratios = np.concatenate([joint.ravel(), of_rest]) - found.value
            log_weights = -np.logaddexp(own + ratios, other)
            densities = np.concatenate([with_them.reshape(-1, without.shape[2]), densities])
    log_weights -= logsumexp(log_weights)
    return np.asarray(logsumexp(densities + log_weights[:, None], axis=0))


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
