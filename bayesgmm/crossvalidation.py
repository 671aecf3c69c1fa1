"""Leave-one-out and WAIC, row by row and draw by draw, in compiled code and in threads."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesgmm import names
from bayesgmm.kernels.psis import COLUMNS, efficiency_each, keep_in, leave_out, psis
from bayesgmm.kernels.threads import over_draws
from bayesgmm.moment_matching import Movable
from bayesgmm.pointwise import log_likelihood_blocks
from bayesgmm.records import fingerprint
from bayesgmm.summaries import FEWEST_DRAWS, require_draws
from bayesgmm.tree import noisy, require
from bayesgmm.tree.rows import observed

if TYPE_CHECKING:
    from bayesgmm.elpd import LeaveOneOut, Waic

type Array = NDArray[np.float64]

FEWEST_SAMPLES: Final = 30
"""A fifth of them make the tail to which the Pareto law is fitted, and it takes six at least."""
LARGEST_SHAPE: Final = 0.7
"""Of the Pareto law, beyond which no number of draws is enough (Vehtari et al. 2024)."""
LARGEST_VARIANCE: Final = 0.4
"""Of the log-likelihood of a row, beyond which WAIC is not to be relied on (Vehtari et al.)."""
MOST_MATCHED: Final = 20
"""Rows that are few: of more the draws are not moved, and the model is what is wrong."""
MATCHED: Final = "moment matching"
REFITTED: Final = "refit"
LEFT: Final = "none"
"""How the estimate of a row was made good: by these, or not."""
DATA: Final = "data"
"""Attribute of terms that holds a digest of the rows, by which those of other rows are refused."""
ROWS_FOR_EFFICIENCY: Final = 1000
"""Rows whose likelihoods tell how efficient the draws are, about, where there are more."""


def leave_one_out(
    tree: xr.DataTree, argument: str, function: str, *, repair: bool
) -> "LeaveOneOut":
    """Return the result of Pareto-smoothed leave-one-out, pointwise.

    Parameters
    ----------
    tree : DataTree
        What the user passed.
    argument, function : str
        What the user called it, and what was called.
    repair : bool
        Whether to match the moments of draws to those without rows whose shape is too large, if
        they are few.

    Returns
    -------
    LeaveOneOut
        Without ``log_weights``, one for every draw and row.

    Raises
    ------
    TypeError, ValueError
        If `tree` is not a fit, holds too few draws, a chain that is stuck, or a density that is
        no number.
    """
    check_draws(tree, argument, function)
    n_obs = tree[names.OBSERVED_DATA].sizes[names.OBS]
    elpd, p, shapes = (np.empty(n_obs) for _ in range(3))
    log_ratios = _of_approximation(tree, argument, function)
    efficiency = _efficiency(tree, argument) if log_ratios is None else 1.0
    for rows, block in _blocks(tree):
        terms = elpd[rows], p[rows], shapes[rows]
        if log_ratios is None:
            _in_threads(leave_out, block.shape[1], block, efficiency, *terms)
        else:
            _leave_out_of(log_ratios, block, *terms)
        _refuse_infinite(tree, argument, rows, block, elpd[rows])
    good_k = float(min(1.0 - 1.0 / np.log10(_n_samples(tree)), LARGEST_SHAPE))
    before, repairs = shapes.copy(), np.full(n_obs, LEFT, dtype=object)
    bad = np.flatnonzero(shapes > good_k)
    if repair and log_ratios is None and 0 < bad.size <= MOST_MATCHED:
        _match(tree, bad, efficiency, good_k, elpd, p, shapes, repairs)
    return result_of(tree, good_k, elpd, p, shapes, before, repairs, log_ratios is not None)


def result_of(
    tree: xr.DataTree,
    good_k: float,
    elpd: Array,
    p: Array,
    shapes: Array,
    before: Array,
    repairs: NDArray[Any],
    approximate: bool,
) -> "LeaveOneOut":
    """Return the result of leave-one-out whose terms, all of shape (N,), are these.

    Parameters
    ----------
    tree : DataTree
    good_k : float
        Pareto shape up to which a term is to be relied on.
    elpd, p, shapes : arrays, shape (N,)
        Terms, and their Pareto shapes.
    before : array, shape (N,)
        The shapes before anything was made good.
    repairs : array of str, shape (N,)
        How it was.
    approximate : bool
        Whether the draws were weighted to be those of the posterior.
    """
    from bayesgmm.elpd import LeaveOneOut

    worst_first = np.argsort(-before, kind="stable")
    bad = worst_first[before[worst_first] > good_k]
    values = {
        "pareto_k": before[bad],
        "repair": repairs[bad],
        "pareto_k_now": shapes[bad],
        "elpd": elpd[bad],
    }
    labels = tree[names.OBSERVED_DATA].dataset.indexes[names.OBS]
    return LeaveOneOut(
        **summed(elpd, p),
        n_samples=_n_samples(tree),
        warning=bool((shapes > good_k).any()),
        good_k=good_k,
        elpd_i=terms_of(elpd, tree),
        pareto_k=labelled(shapes, tree),
        influence_pareto_k=labelled(before, tree),
        p_loo_i=labelled(p, tree),
        approx_posterior=approximate,
        bad_rows=pd.DataFrame(values, index=pd.Index(labels[bad], name=names.OBS)),
    )


def watanabe(tree: xr.DataTree, argument: str, function: str) -> tuple["Waic", Array]:
    """Return the WAIC as ArviZ's result, pointwise, and the variances of the log-likelihoods.

    Parameters and what is raised are those of `leave_one_out`, but a stuck chain passes, and
    draws of an approximation do not.
    """
    check_draws(tree, argument, function)
    if _of_approximation(tree, argument, function) is not None:
        raise ValueError(
            f"`{argument}` must hold draws of the posterior for `{function}`; got those of the "
            f"approximation {tree.attrs.get(names.METHOD)!r}, which were not resampled (pareto_k "
            f"{tree.attrs.get(names.PARETO_K, np.nan):.2f}). Use bayesgmm.loo, which weights them, "
            f"or fit with method='nuts'."
        )
    n_obs = tree[names.OBSERVED_DATA].sizes[names.OBS]
    lppd, variances = np.empty(n_obs), np.empty(n_obs)
    for rows, block in _blocks(tree):
        _in_threads(keep_in, block.shape[1], block, lppd[rows], variances[rows])
        _refuse_infinite(tree, argument, rows, block, variances[rows])
    elpd = lppd - variances
    from bayesgmm.elpd import Waic

    result = Waic(
        **summed(elpd, variances),
        n_samples=_n_samples(tree),
        warning=bool((variances > LARGEST_VARIANCE).any()),
        good_k=None,
        elpd_i=terms_of(elpd, tree),
    )
    return result, variances


def check_draws(tree: Any, argument: str, function: str) -> None:
    """Refuse anything that is not a fit with enough draws of the posterior."""
    require_draws(tree, names.POSTERIOR, function=function, argument=argument)
    sizes = tree[names.POSTERIOR].sizes
    n_chains, n_draws = sizes[names.CHAIN], sizes[names.DRAW]
    if n_draws < FEWEST_DRAWS or n_chains * n_draws < FEWEST_SAMPLES:
        method = tree.attrs.get(names.METHOD)
        point = method in ("map", "ml")
        raise ValueError(
            f"`{argument}` must hold at least {FEWEST_SAMPLES} draws of the posterior, "
            f"{FEWEST_DRAWS} in every chain, for `{function}`; got {n_chains} x {n_draws} of the "
            f"method {method!r}. "
            + (
                "A point has no posterior uncertainty: fit with method='nuts'."
                if point
                else "Fit again with more draws."
            )
        )
    require(tree, names.OBSERVED_DATA, function=function, argument=argument)


def terms_of(elpd: Array, tree: xr.DataTree) -> xr.DataArray:
    """Return terms of the rows with their labels, and a digest of the data as an attribute."""
    return labelled(elpd, tree).assign_attrs(
        {DATA: fingerprint(*observed(tree), noise=noisy(tree))}
    )


def _of_approximation(tree: xr.DataTree, argument: str, function: str) -> Array | None:
    """Return log p less log q of draws that are those of an approximation q; else None.

    Draws that were resampled by these weights are draws of the posterior p, and weighting them
    again would be wrong.
    """
    if tree.attrs.get(names.RESAMPLED, 1):
        return None
    require(tree, names.SAMPLE_STATS, function=function, argument=argument)
    stats = tree[names.SAMPLE_STATS].dataset
    gap = (stats[names.LP] - stats[names.LOG_Q]).transpose(names.CHAIN, names.DRAW)
    return np.asarray(gap.values).ravel()


def _leave_out_of(
    log_ratios: Array, log_likelihood: Array, elpd: Array, p: Array, shapes: Array
) -> None:
    """Write what `leave_out` does, of draws of an approximation (Magnusson et al. 2019)."""
    whole = np.empty_like(log_ratios)
    psis(log_ratios, 1.0, whole)

    def fill(part: slice) -> None:
        log_weights = np.empty_like(log_ratios)
        for i in range(part.start, part.stop):
            row = log_likelihood[:, i]
            shapes[i] = psis(log_ratios - row, 1.0, log_weights)
            elpd[i] = logsumexp(log_weights + row)
            p[i] = logsumexp(whole + row) - elpd[i]

    over_draws(fill, log_likelihood.shape[1])


def _match(
    tree: xr.DataTree,
    bad: NDArray[np.int64],
    efficiency: float,
    good_k: float,
    elpd: Array,
    p: Array,
    shapes: Array,
    repairs: NDArray[Any],
) -> None:
    """Replace the terms of some rows by those of moved draws, where these are better."""
    movable = Movable.of_tree(tree)
    if movable is None:
        return
    for i in bad:
        found = movable.without(int(i), efficiency, good_k)
        if found is not None:
            p[i] += elpd[i] - found.elpd
            elpd[i], shapes[i], repairs[i] = found.elpd, found.shape, MATCHED


def _blocks(tree: xr.DataTree) -> Iterator[tuple[slice, Array]]:
    """Yield the log-likelihood (draws, rows) of some rows after the other.

    All at once where the tree holds it; else it is computed. A reader must not change it.
    """
    if names.LOG_LIKELIHOOD not in tree.children:
        yield from log_likelihood_blocks(tree)
        return
    stored = tree[names.LOG_LIKELIHOOD].dataset[names.X]
    values = stored.transpose(names.CHAIN, names.DRAW, names.OBS).values
    flat = values.reshape(-1, values.shape[2])
    yield slice(None), np.ascontiguousarray(flat, dtype=float)


def _in_threads(kernel: Any, size: int, log_likelihood: Array, *arguments: Any) -> None:
    """Call a kernel for all rows, or groups of them, a thread per core, each with its own."""
    over_draws(lambda part: kernel(log_likelihood, part.start, part.stop, *arguments), size)


def _efficiency(tree: xr.DataTree, argument: str) -> float:
    """Return the effective draws per draw of the likelihoods, averaged over about 1,000 rows."""
    n_obs = tree[names.OBSERVED_DATA].sizes[names.OBS]
    step = -(-n_obs // ROWS_FOR_EFFICIENCY)
    if names.LOG_LIKELIHOOD not in tree.children:
        tree, step = tree.isel({names.OBS: slice(None, None, step)}), 1
    n_chains = tree[names.POSTERIOR].sizes[names.CHAIN]
    found = []
    for _, block in _blocks(tree):
        # rows of weight 0 have the same log-likelihood, 0, in all draws
        varying = block[:, int(block.any(axis=0).argmax())]
        stuck = np.ptp(varying.reshape(n_chains, -1), axis=1) == 0.0
        if stuck.any():
            raise ValueError(
                f"`{argument}` must hold draws that differ; got the same density of a row in all "
                f"draws of chain {int(stuck.argmax())}. The chain is stuck: look at "
                f"bayesgmm.check(tree), and fit again."
            )
        each = np.full(block.shape[1], np.nan)
        n_groups = -(-block.shape[1] // (COLUMNS * step))
        _in_threads(efficiency_each, n_groups, block, n_chains, step, each)
        found.append(each[~np.isnan(each)])
    known = np.concatenate(found)
    return float(known.mean()) if known.size else 1.0  # no row is finite, and is refused later


def _refuse_infinite(
    tree: xr.DataTree, argument: str, rows: slice, block: Array, terms: Array
) -> None:
    """Refuse log-likelihoods that are not finite, which leave no finite terms behind."""
    if np.isfinite(terms).all():
        return
    finite = np.isfinite(block)
    sample, row = divmod(int(finite.argmin()), block.shape[1])
    chain, draw = divmod(sample, tree[names.POSTERIOR].sizes[names.DRAW])
    raise ValueError(
        f"`{argument}` must have a finite log-likelihood; got {block[sample, row]} at chain "
        f"{chain}, draw {draw}, row {(rows.start or 0) + row}. Check that draw, and fit again."
    )


def summed(elpd: Array, p: Array) -> dict[str, Any]:
    """Return the fields of a result that are sums over rows, and the number of them."""
    n = elpd.size
    return {
        "elpd": float(elpd.sum()),
        "se": float(np.sqrt(n * elpd.var(ddof=1))) if n > 1 else 0.0,
        "p": float(p.sum()),
        "n_data_points": n,
        "scale": "log",
    }


def _n_samples(tree: xr.DataTree) -> int:
    """Return the number of draws of all chains."""
    sizes = tree[names.POSTERIOR].sizes
    return int(sizes[names.CHAIN] * sizes[names.DRAW])


def labelled(values: Array, tree: xr.DataTree) -> xr.DataArray:
    """Return values of the rows with their labels."""
    rows = tree[names.OBSERVED_DATA].dataset[names.X].isel({names.FEATURE: 0}, drop=True)
    return xr.DataArray(values, coords=rows.coords, dims=names.OBS)
