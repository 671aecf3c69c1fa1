"""The table of all fits: what each says by itself, and what they say beside one another."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bayesgmm import names
from bayesgmm.inference.sweep import Candidate
from bayesgmm.model_probabilities import probabilities
from bayesgmm.selection.criteria import CRITERIA, DIFFERENCES
from bayesgmm.selection.scores import Score

if TYPE_CHECKING:
    from arviz_stats.utils import ELPDData

type Array = NDArray[np.float64]

OF_CRITERION: Final = {
    "loo": ("elpd_loo", "se", "p", "elpd_diff", "dse", "n_bad_k", "weight"),
    "waic": ("elpd_waic", "se_waic", "waic_diff", "waic_dse"),
    "evidence": (
        names.LOG_EVIDENCE, names.LOG_EVIDENCE_ERROR, names.PROBABILITY, names.PROBABILITY_ERROR,
    ),
    "bic": ("bic",),
    "aic": ("aic",),
    "icl": ("icl",),
}  # fmt: skip
"""Columns of each criterion, in their order."""
OF_FIT: Final = (
    names.N_CLUSTERS, "n_clusters_low", "n_clusters_high", "n_parameters", "ok", "verdict",
    "remark", "seconds",
)  # fmt: skip
"""Columns of every table, after those."""
COUNTS: Final = ("n_bad_k", "n_clusters_low", "n_clusters_high", "n_parameters")


def columns_of(criteria: Sequence[str]) -> list[str]:
    """Return the columns of a table with some criteria."""
    return [column for name in CRITERIA if name in criteria for column in OF_CRITERION[name]] + [
        *OF_FIT
    ]


def made(scores: Mapping[Candidate, Score], criteria: Sequence[str]) -> pd.DataFrame:
    """Return the table of some fits.

    Parameters
    ----------
    scores : dict of Candidate to Score
    criteria : sequence of str

    Returns
    -------
    DataFrame
        A row per fit, in ascending order; see `Selection`.
    """
    order = sorted(scores)
    index = pd.MultiIndex.from_tuples(order, names=Candidate._fields)
    table = pd.DataFrame([scores[one].row for one in order], index, columns_of(criteria))
    for name, column in (("loo", "elpd_loo"), ("waic", "elpd_waic")):
        results = {
            one: scores[one].predicted[name] for one in order if name in scores[one].predicted
        }
        if results:
            _compare(table, results, column)
            if name == "loo":
                for one, weight in _stacked(results).items():
                    table.loc[one, "weight"] = weight
    if "evidence" in criteria:
        known = table[names.LOG_EVIDENCE].notna()
        values, errors = (
            table.loc[known, column].to_numpy(dtype=float)
            for column in (names.LOG_EVIDENCE, names.LOG_EVIDENCE_ERROR)
        )
        if values.size:
            found = probabilities(values, errors, np.full(values.size, 1.0 / values.size))
            table.loc[known, names.PROBABILITY], table.loc[known, names.PROBABILITY_ERROR] = found
    whole = {column: "Int64" for column in COUNTS if column in table}
    real = {column: float for column in table if column not in (*COUNTS, "ok", "verdict", "remark")}
    return table.astype({**whole, **real, "ok": bool})


def _compare(table: pd.DataFrame, results: Mapping[Candidate, "ELPDData"], column: str) -> None:
    """Fill in differences from the best of what is a sum over rows, and their errors."""
    difference, error = DIFFERENCES[column]
    terms = {one: result.elpd_i.values for one, result in results.items()}
    best = terms[max(results, key=lambda one: results[one].elpd)]
    for one, term in terms.items():
        behind = term - best
        table.loc[one, difference] = behind.sum()
        table.loc[one, error] = np.sqrt(behind.size * behind.var())


def _stacked(results: Mapping[Candidate, Any]) -> dict[Candidate, float]:
    """Return the weights by stacking, those of `compare`."""
    if len(results) == 1:
        return dict.fromkeys(results, 1.0)
    import arviz_stats  # takes most of a second

    highest = np.max([result.elpd_i.values for result in results.values()], axis=0)
    shifted = {  # or densities would underflow
        one.label: dataclasses.replace(result, elpd_i=result.elpd_i - highest)
        for one, result in results.items()
    }
    with np.errstate(divide="ignore", invalid="ignore"):  # the optimiser tries weights of zero
        weight = arviz_stats.compare(shifted, method="stacking", round_to="none")["weight"]
    return {one: float(weight[one.label]) for one in results}
