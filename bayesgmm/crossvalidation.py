"""Leave-one-out and WAIC, row by row and draw by draw, in compiled code and in threads."""

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.kernels.psis import COLUMNS, efficiency_each, keep_in, leave_out
from bayesgmm.kernels.threads import over_draws
from bayesgmm.pointwise import log_likelihood_blocks
from bayesgmm.summaries import FEWEST_DRAWS, require_draws
from bayesgmm.tree import require

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData, ELPDDataLOO

type Array = NDArray[np.float64]

FEWEST_SAMPLES: Final = 30
"""A fifth of them make the tail to which the Pareto law is fitted, and it takes six at least."""
LARGEST_SHAPE: Final = 0.7
"""Of the Pareto law, beyond which no number of draws is enough (Vehtari et al. 2024)."""
LARGEST_VARIANCE: Final = 0.4
"""Of the log-likelihood of a row, beyond which WAIC is not to be relied on (Vehtari et al.)."""
ROWS_FOR_EFFICIENCY: Final = 1000
"""Rows whose likelihoods tell how efficient the draws are, about, where there are more."""


def leave_one_out(tree: xr.DataTree, argument: str, function: str) -> "ELPDDataLOO":
    """Return ArviZ's result of Pareto-smoothed leave-one-out, pointwise.

    Parameters
    ----------
    tree : DataTree
        What the user passed.
    argument, function : str
        What the user called it, and what was called.

    Returns
    -------
    arviz_stats.ELPDDataLOO
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
    efficiency = _efficiency(tree, argument)
    for rows, block in _blocks(tree):
        _in_threads(leave_out, block.shape[1], block, efficiency, elpd[rows], p[rows], shapes[rows])
        _refuse_infinite(tree, argument, rows, block, elpd[rows])
    n_samples = _n_samples(tree)
    good_k = float(min(1.0 - 1.0 / np.log10(n_samples), LARGEST_SHAPE))
    result: ELPDDataLOO = _classes().ELPDDataLOO(
        **_summed(elpd, p),
        n_samples=n_samples,
        warning=bool((shapes > good_k).any()),
        good_k=good_k,
        elpd_i=_labelled(elpd, tree),
        pareto_k=_labelled(shapes, tree),
    )
    return result


def watanabe(tree: xr.DataTree, argument: str, function: str) -> tuple["ELPDData", Array]:
    """Return the WAIC as ArviZ's result, pointwise, and the variances of the log-likelihoods.

    Parameters and what is raised are those of `leave_one_out`, but a stuck chain passes.
    """
    check_draws(tree, argument, function)
    n_obs = tree[names.OBSERVED_DATA].sizes[names.OBS]
    lppd, variances = np.empty(n_obs), np.empty(n_obs)
    for rows, block in _blocks(tree):
        _in_threads(keep_in, block.shape[1], block, lppd[rows], variances[rows])
        _refuse_infinite(tree, argument, rows, block, variances[rows])
    elpd = lppd - variances
    result: ELPDData = _classes().ELPDData(
        **_summed(elpd, variances),
        n_samples=_n_samples(tree),
        warning=bool((variances > LARGEST_VARIANCE).any()),
        good_k=None,
        elpd_i=_labelled(elpd, tree),
    )
    vars(result)["_kind"] = "waic"  # names it where it is printed; ArviZ has no class for it
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


def _summed(elpd: Array, p: Array) -> dict[str, Any]:
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


def _labelled(values: Array, tree: xr.DataTree) -> xr.DataArray:
    """Return values of the rows with their labels."""
    rows = tree[names.OBSERVED_DATA].dataset[names.X].isel({names.FEATURE: 0}, drop=True)
    return xr.DataArray(values, coords=rows.coords, dims=names.OBS)


def _classes() -> Any:
    """Return the module of ArviZ's classes of results.

    Importing arviz_stats takes most of a second, these classes a tenth: the package is put in
    place without being run, and runs when something of it is first asked for.
    """
    name = "arviz_stats"
    if name not in sys.modules:
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            module = module_from_spec(spec)
            module.__class__ = _Unrun
            sys.modules.setdefault(name, module)
    return import_module(f"{name}.utils")


class _Unrun(ModuleType):
    """A package that runs when something is asked of it that is not there yet."""

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment] # no longer: it runs now
        spec = self.__spec__
        if spec is not None and spec.loader is not None:
            spec.loader.exec_module(self)
        return getattr(self, name)
