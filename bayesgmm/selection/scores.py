"""What one fit says of its number of components, while it is in hand."""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import xarray as xr

from bayesgmm import names
from bayesgmm.clustering.occupancy import n_clusters
from bayesgmm.comparison import loo, waic
from bayesgmm.convergence import check
from bayesgmm.errors import ConvergenceWarning
from bayesgmm.evidence import check_posterior, evidence_of
from bayesgmm.inference.sweep import Outcome

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

LABEL_BYTES: Final = 2**28
"""Memory for the labels of all rows, of some of the draws if there are too many."""
INTERVAL: Final = 0.9
"""Probability of the interval of the number of clusters."""


@dataclass(frozen=True, eq=False)
class Score:
    """What one fit says.

    Parameters
    ----------
    row : dict
        Its part of the table.
    predicted : dict of str to ELPDData
        What `loo` and `waic` returned, if they were asked for and could be computed.
    """

    row: Mapping[str, Any]
    predicted: Mapping[str, "ELPDData"]


def score(outcome: Outcome, criteria: Collection[str], random_seed: int) -> Score:
    """Compute everything that the table says of a fit by itself.

    Parameters
    ----------
    outcome : Outcome
    criteria : collection of str
    random_seed : int
        Of the evidence and of the allocations.

    Returns
    -------
    Score
        What cannot be computed is left out, and the row says why.
    """
    tree = outcome.tree
    if tree is None:
        return Score({"ok": False, "verdict": f"Failed: {outcome.failure}", "remark": ""}, {})
    report = check(tree)
    row: dict[str, Any] = {
        "n_parameters": tree.attrs["n_parameters"],
        "ok": report.ok,
        "verdict": report.verdict,
        "seconds": tree.attrs["fit_time"],
        **{name: value for name, value in outcome.criteria.items() if name in criteria},
        **_occupied(tree, random_seed),
    }
    predicted = {
        name: result
        for name, of in (("loo", loo), ("waic", waic))
        if name in criteria and (result := _predicted(of, tree)) is not None
    }
    if "loo" in predicted:
        result = predicted["loo"]
        row |= {"elpd_loo": result.elpd, "se": result.se, "p": result.p}
        row["n_bad_k"] = int((result.pareto_k.values > result.good_k).sum())
    remarks = []
    if "waic" in predicted:
        row |= {"elpd_waic": predicted["waic"].elpd, "se_waic": predicted["waic"].se}
        if predicted["waic"].warning:
            remarks.append("WAIC is not to be relied on for some rows: see bayesgmm.waic.")
    if "evidence" in criteria:
        found, told = _evidence(tree, outcome.candidate.label, random_seed)
        row |= found
        remarks += told
    return Score(row | {"remark": " ".join(remarks)}, predicted)


def _predicted(of: Callable[[xr.DataTree], "ELPDData"], tree: xr.DataTree) -> "ELPDData | None":
    """Return how well a fit predicts, None for a stuck chain, of which the verdict speaks."""
    try:
        with warnings.catch_warnings():  # the table says it
            warnings.filterwarnings("ignore", "The (Pareto shape|log-likelihood of)", UserWarning)
            return of(tree)
    except ValueError:
        return None


def _evidence(
    tree: xr.DataTree, label: str, random_seed: int
) -> tuple[dict[str, float], list[str]]:
    """Return the log evidence and its error, and what there is to say against it."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", ConvergenceWarning)
            check_posterior(tree, label, "log_evidence")
            found = evidence_of(tree, label, np.random.default_rng(random_seed))
    except ValueError as error:
        return {}, [f"No evidence: {error}"]
    values = {names.LOG_EVIDENCE: found.value, names.LOG_EVIDENCE_ERROR: found.error}
    return values, [str(warning.message) for warning in caught]


def _occupied(tree: xr.DataTree, random_seed: int) -> dict[str, float]:
    """Return the mean number of components that hold a row, and its interval, if rows are kept."""
    if names.OBSERVED_DATA not in tree.children:
        return {}
    sizes = tree[names.POSTERIOR].sizes
    n_labels = sizes[names.CHAIN] * sizes[names.DRAW] * tree[names.OBSERVED_DATA].sizes[names.OBS]
    step = -(-4 * n_labels // LABEL_BYTES)
    some = tree.isel({names.DRAW: slice(None, None, step)})
    occupied = n_clusters(some, random_seed=random_seed)[names.OCCUPIED].values
    tail = 0.5 * (1.0 - INTERVAL)
    low, high = np.quantile(occupied, [tail, 1.0 - tail], method="inverted_cdf")
    return {
        names.N_CLUSTERS: float(occupied.mean()),
        "n_clusters_low": int(low),
        "n_clusters_high": int(high),
    }
