"""What a number of components may be chosen by: what it scores, and which differences count."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Criterion:
    """A way to choose between fits.

    Parameters
    ----------
    name, quantity : str
        What it is called in a sentence, and what it is a number of.
    column : str
        Of the table, where its values are.
    error : str
        The column of the standard error of a value; empty if it has none.
    sign : int
        1 where more is better, -1 where less is.
    small : float
        A difference that is small whatever its standard error.
    meaning : str
        What it looks for, in a sentence.
    """

    name: str
    quantity: str
    column: str
    error: str
    sign: int
    small: float
    meaning: str


CRITERIA: Final = {
    "loo": Criterion(
        "leave-one-out", "elpd", "elpd_loo", "se", 1, 4.0,
        "LOO scores the density of new rows, not the number of clusters: a cluster that is not "
        "Gaussian takes several components.",
    ),
    "waic": Criterion(
        "WAIC", "elpd", "elpd_waic", "se_waic", 1, 4.0,
        "WAIC scores the density of new rows, as LOO does, and is less to be relied on.",
    ),
    "evidence": Criterion(
        "the evidence", "log evidence", "log_evidence", "log_evidence_error", 1, 1.0,
        "The evidence is of the model with its priors: wider priors of means and scales cost "
        "every component, however many the rows.",
    ),
    "bic": Criterion(
        "BIC", "BIC", "bic", "", -1, 2.0,
        "BIC approximates minus twice the log evidence under a prior worth one row.",
    ),
    "aic": Criterion(
        "AIC", "AIC", "aic", "", -1, 2.0,
        "AIC approximates LOO where models are regular, which mixtures are not, and takes more "
        "components.",
    ),
    "icl": Criterion(
        "ICL", "ICL", "icl", "", -1, 2.0,
        "ICL counts overlap against a fit: it looks for clusters that are apart.",
    ),
}  # fmt: skip
"""By name. Small are 4 nats of elpd (Sivula et al. 2020), 1 nat of log evidence and 2 of BIC, not
worth more than a bare mention (Kass & Raftery 1995)."""

DIFFERENCES: Final = {"elpd_loo": ("elpd_diff", "dse"), "elpd_waic": ("waic_diff", "waic_dse")}
"""Columns of the differences from the best of what is a sum over rows, and of their errors."""


def ranked(table: pd.DataFrame, criterion: Criterion) -> pd.DataFrame:
    """Return how far fits are behind the best by a criterion.

    Parameters
    ----------
    table : DataFrame
        A row per fit.
    criterion : Criterion

    Returns
    -------
    DataFrame
        ``gap``, at least 0, and its standard ``error``; ``tied``, whether the gap is within its
        error or small. The best is first; fits of which the value is not known are left out.
    """
    known = table[table[criterion.column].notna()]
    values = criterion.sign * known[criterion.column].astype(float)
    gap = values.max() - values
    error = pd.Series(0.0, index=known.index)
    if criterion.column in DIFFERENCES:
        error = known[DIFFERENCES[criterion.column][1]].astype(float)
    elif criterion.error and len(known):
        of_each, best = known[criterion.error].astype(float), gap.idxmin()
        error = np.hypot(of_each, of_each[best])
        error[best] = 0.0
    tied = gap <= error.clip(lower=criterion.small)
    found = pd.DataFrame({"gap": gap, "error": error, "tied": tied})
    return found.sort_values("gap", kind="stable")
