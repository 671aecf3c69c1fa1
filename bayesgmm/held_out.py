"""Rows that fits have not seen, predicted by these and by the draws of the fit that has."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.special import logsumexp

from bayesgmm import names
from bayesgmm.bridge import bridge
from bayesgmm.component_prior import PriorOnComponents
from bayesgmm.convergence import check
from bayesgmm.data import Data, check_enough_rows
from bayesgmm.inference.assemble import Options
from bayesgmm.inference.fit import at_work
from bayesgmm.inference.refitting import refit
from bayesgmm.mixture import GaussianMixture
from bayesgmm.pointwise import BLOCK_BYTES, log_densities
from bayesgmm.prediction import Mixtures, mixtures
from bayesgmm.sample_weights import weigh
from bayesgmm.tree import specification
from bayesgmm.tree.rows import Observed, fitted_data, observed

type Array = NDArray[np.float64]
type Rows = NDArray[np.int64]

LARGEST_ERROR: Final = 0.5
"""Error, in nats, of the density of rows that were left out together, up to which draws of the
fit of all rows tell about the fit without them."""


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


def leave_out(
    tree: xr.DataTree,
    function: str,
    held: Mapping[str, Rows],
    options: Options,
    progressbar: bool,
) -> LeftOut:
    """Fit without some rows after the other, and return how these are predicted.

    Parameters
    ----------
    tree : DataTree
        The fit of all rows.
    function : str
        What the user called.
    held : dict of str to array of int
        Which rows are left out together, by what they are called.
    options : Options
        Of the fits.
    progressbar : bool

    Returns
    -------
    LeftOut
    """
    every, resolved = observed(tree), specification(tree)
    parts = [_part(tree, rows, resolved, name, function) for name, rows in held.items()]
    told, rows_of = list(held), list(held.values())
    seeds = [
        int(seed) for seed in np.random.SeedSequence(options.random_seed).generate_state(len(held))
    ]
    elpd, kept = np.full((2, len(every.values)), np.nan)
    untrusted = {}
    method = tree.attrs[names.METHOD]
    with (
        at_work(progressbar) as progress,
        closing(refit(resolved, parts, method, options, seeds, progress)) as fits,
    ):
        for number, fit in fits:
            rows = rows_of[number]
            pair = tuple(map(mixtures, (tree, fit)))
            blocks = [every.some(block) for block in _blocks(rows, pair)]
            drawn = all(one.attrs.get(names.RESAMPLED, 1) for one in (tree, fit))
            joint, of_rest = _joint(pair, blocks, options.chains)
            log_weights = _log_weights(joint, of_rest, drawn)
            found = [_predicted(log_weights, *_densities(pair, block)) for block in blocks]
            elpd[rows] = np.concatenate([without_them for without_them, _ in found])
            kept[rows] = np.concatenate([with_them for _, with_them in found])
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


def _blocks(rows: Rows, pair: Sequence[Mixtures]) -> list[Rows]:
    """Return rows in blocks whose log densities under all draws are not too large to be held."""
    n_draws = sum(len(one.log_weights) for one in pair)
    return np.array_split(rows, -(-8 * n_draws * rows.size // BLOCK_BYTES))


def _densities(pair: Sequence[Mixtures], rows: Observed) -> list[Array]:
    """Return the log density of rows under every draw of both fits, each of shape (S, n)."""
    found = [log_densities(one, one.rows(*rows[:3])) for one in pair]
    for densities in found:
        weigh(densities, rows.weights)
    return found


def _joint(pair: Sequence[Mixtures], blocks: Sequence[Observed], n_chains: int) -> list[Array]:
    """Return the joint log density of all rows under the draws of both fits, by chains."""
    sums = [[one.sum(axis=1) for one in _densities(pair, block)] for block in blocks]
    return [np.sum(total, axis=0).reshape(n_chains, -1) for total in zip(*sums, strict=True)]


def _log_weights(joint: Array, of_rest: Array, drawn: bool) -> Array:
    """Return weights that make draws those of the posterior without some rows.

    Parameters
    ----------
    joint, of_rest : arrays, shape (chains, draws)
        Joint log density of these rows under draws of the fit that has seen them, and of the other.
    drawn : bool
        Whether both are draws of their posteriors.

    Returns
    -------
    array, shape (S + S',) or (S',)
        Logarithms; the weights sum to 1. Only draws of the fit that has not seen the rows count
        where the two posteriors are too far apart.
    """
    log_weights = np.zeros(of_rest.size)
    if drawn:
        with np.errstate(all="ignore"):  # there may be nothing in common
            found = bridge(joint, of_rest.ravel())
        if found.of_draws + found.of_proposals < LARGEST_ERROR**2:
            share = joint.size / (joint.size + of_rest.size)
            ratios = np.concatenate([joint.ravel(), of_rest.ravel()]) - found.value
            log_weights = -np.logaddexp(np.log(share) + ratios, np.log1p(-share))
    return np.asarray(log_weights - logsumexp(log_weights))


def _predicted(log_weights: Array, with_them: Array, without: Array) -> tuple[Array, Array]:
    """Return the log predictive densities, shape (n,), of rows under fits without and with them.

    Parameters
    ----------
    log_weights : array
        As `_log_weights` returns them.
    with_them, without : arrays, shapes (S, n) and (S', n)
        Log densities under the draws of both.
    """
    densities = without
    if log_weights.size > len(without):
        densities = np.concatenate([with_them, without])
    elpd = logsumexp(densities + log_weights[:, None], axis=0)
    return np.asarray(elpd), logsumexp(with_them, axis=0) - np.log(len(with_them))
