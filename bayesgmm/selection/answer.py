"""What fits of several numbers of components say together: a table, one answer, and why."""

import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import xarray as xr

from bayesgmm import names
from bayesgmm.inference.sweep import Candidate
from bayesgmm.selection.criteria import CRITERIA, Criterion, ranked


@dataclass(frozen=True, eq=False, repr=False)
class Selection:
    """Fits of several numbers of components and structures, side by side.

    Parameters
    ----------
    table : DataFrame
        A row per candidate, indexed by ``n_components`` and ``structure``. Of every criterion
        that was asked for:

        - loo: ``elpd_loo``, its standard error ``se`` and the effective number of parameters
          ``p``, in nats; ``elpd_diff`` from the best and its standard error ``dse``; ``n_bad_k``
          rows whose Pareto shape is too large for LOO to be relied on; ``weight`` by stacking;
        - waic: ``elpd_waic``, ``se_waic``, ``waic_diff`` and ``waic_dse``;
        - evidence: ``log_evidence`` and its standard error ``log_evidence_error``, in nats; the
          posterior ``probability`` where all candidates were equally probable before, and its
          standard error ``probability_error``;
        - ``bic``, ``aic`` and ``icl`` at the maximum of the likelihood, less of which is better.

        Of every fit: ``n_clusters``, the mean number of components that hold a row, from
        ``n_clusters_low`` to ``n_clusters_high`` with a probability of 0.9; ``n_parameters``;
        ``ok``, whether it passed `check`, and its ``verdict``; ``remark``, what stands against
        its evidence or WAIC; ``seconds`` from the beginning of the fit to its end, beside others.
    fits : dict of tuple to DataTree
        By number of components and structure, ``fits[3, "full"]``; those that failed, or were
        not to be kept, are missing.
    criteria : tuple of str
        As they were asked for. The first decides.
    """

    table: pd.DataFrame
    fits: Mapping[Candidate, xr.DataTree]
    criteria: tuple[str, ...]

    @property
    def answers(self) -> dict[str, Candidate]:
        """What each criterion takes: the fewest parameters that cannot be told from its best.

        Ties are differences within their standard error, or too small to matter whatever their
        error: 4 nats of elpd (Sivula, Magnusson, Matamoros & Vehtari 2020, arXiv:2008.10296), 1
        nat of log evidence, and 2 of BIC, AIC and ICL (Kass & Raftery 1995,
        doi:10.1080/01621459.1995.10476572). A criterion that is known of no fit is left out.
        """
        found = {}
        for name in self.criteria:
            order = ranked(self.table, CRITERIA[name])
            if len(order):
                found[name] = self._smallest(order.index[order["tied"]])
        return found

    @property
    def best(self) -> Candidate:
        """The best by the first criterion."""
        return _key(ranked(self.table, self._decides).index[0])

    @property
    def simplest(self) -> Candidate:
        """The fewest parameters that cannot be told from the best, by the first criterion."""
        return self.answers[self.criteria[0]]

    @property
    def recommended(self) -> Candidate:
        """The simplest of which the fit passed `check`; the simplest if none of those did."""
        order = ranked(self.table, self._decides)
        tied = self.table.loc[order.index[order["tied"]]]
        sound = tied[tied["ok"]]
        return self._smallest((sound if len(sound) else tied).index)

    def __repr__(self) -> str:
        shown = self._shown().to_string(index=False)
        return "\n".join([*self._words(), "", shown])

    def _repr_html_(self) -> str:
        words = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in self._words())
        shown: str = self._shown().to_html(index=False)
        return words + shown

    @property
    def _decides(self) -> Criterion:
        return CRITERIA[self.criteria[0]]

    def _smallest(self, candidates: pd.Index) -> Candidate:
        """Return the candidate with the fewest parameters, and of those the fewest components."""
        chosen = self.table.index.isin(candidates)
        return _key(self.table.loc[chosen, "n_parameters"].idxmin())

    def _shown(self) -> pd.DataFrame:
        """Return the table as it is printed, errors in brackets."""
        table = self.table
        shown = {}
        for name in self.criteria:
            criterion = CRITERIA[name]
            shown[criterion.column] = _texts(table, criterion.column, criterion.error)
            if name == "loo":
                shown["elpd_diff"] = _texts(table, "elpd_diff", "dse")
                shown["weight"] = _fixed(table["weight"], 2)
            if name == "evidence":
                shown[names.PROBABILITY] = _fixed(table[names.PROBABILITY], 3)
        counted = (names.N_CLUSTERS, "n_clusters_low", "n_clusters_high")
        shown[names.N_CLUSTERS] = [
            "" if pd.isna(mean) else f"{mean:.1f} [{low}, {high}]"
            for mean, low, high in zip(*(table[column] for column in counted), strict=True)
        ]
        shown["check"] = ["ok" if ok else "failed" for ok in table["ok"]]
        return pd.DataFrame(shown, table.index).reset_index()

    def _words(self) -> Iterator[str]:
        """Yield what the table says, in sentences."""
        recommended = self.recommended
        yet = "" if self.table.loc[recommended, "ok"] else ", but not to be used yet"
        yield f"Recommended{yet}: {self._named(recommended)}."
        yield from self._reason()
        yield from self._doubts()
        yield self._decides.meaning
        yield from self._others()
        row = self.table.loc[recommended]
        if row[names.N_CLUSTERS] < recommended.n_components - 0.5:
            yield (
                f"Of its {recommended.n_components} components {row[names.N_CLUSTERS]:.1f} hold "
                f"rows, on average."
            )
        yield from self._warnings()

    def _reason(self) -> Iterator[str]:
        """Yield why that one is recommended, by the first criterion."""
        decides, best, simplest = self._decides, self.best, self.simplest
        row = self.table.loc[best]
        error = f" (standard error {_rounded(row[decides.error])})" if decides.error else ""
        yield (
            f"Best by {decides.name}: {self._named(best)}, {decides.quantity} "
            f"{row[decides.column]:.1f}{error}."
        )
        if simplest != best:
            fewer = self.table.loc[simplest, "n_parameters"] < row["n_parameters"]
            yield (
                f"Not to be told from it: {self._named(simplest)}, {self._behind(simplest)} with "
                f"fewer {'parameters' if fewer else 'components'}. Prefer the simpler, unless "
                f"something else speaks for the larger."
            )

    def _doubts(self) -> Iterator[str]:
        """Yield what the check has to do with the recommendation."""
        simplest, recommended = self.simplest, self.recommended
        if recommended != simplest:
            yield f"{self._named(simplest)}: not recommended, for its fit did not pass the check."
        if not self.table.loc[recommended, "ok"]:
            yield (
                f"The fit of {self._named(recommended)} did not pass the check, nor did any that "
                f"cannot be told from the best: first do what bayesgmm.check says of it."
            )
            order = ranked(self.table, self._decides).index
            sound = [_key(one) for one in order if self.table.loc[one, "ok"]]
            if sound:
                yield f"The best that passed: {self._named(sound[0])}, {self._behind(sound[0])}."

    def _others(self) -> Iterator[str]:
        """Yield what the other criteria take."""
        taken: dict[Candidate, list[Criterion]] = {}
        for name, answer in list(self.answers.items())[1:]:
            taken.setdefault(answer, []).append(CRITERIA[name])
        if agreeing := taken.pop(self.recommended, []):
            yield f"{_sentence(agreeing, 'agrees', 'agree')}."
        for answer, those in taken.items():
            yield f"{_sentence(those, 'takes', 'take')} {self._named(answer)}."
            yield from (criterion.meaning for criterion in those)
        if "evidence" in self.answers:
            probable = self.table[names.PROBABILITY].astype(float)
            most = _key(probable.idxmax())
            yield (
                f"Most probable: {self._named(most)}, {probable[most]:.2f} (standard error "
                f"{_rounded(self.table.loc[most, names.PROBABILITY_ERROR])}), where all fits were "
                f"equally probable before."
            )

    def _warnings(self) -> Iterator[str]:
        """Yield what is not to be relied on."""
        table = self.table
        if "loo" in self.criteria:
            unreliable = table.index[table["n_bad_k"].fillna(0) > 0]
            if len(unreliable):
                yield (
                    f"LOO is unreliable for some rows of {self._listed(unreliable)}: see n_bad_k, "
                    f"and bayesgmm.loo of the fit."
                )
        remarked = table.index[table["remark"] != ""]
        if len(remarked):
            yield (
                f"Not everything is known, or to be relied on, of {self._listed(remarked)}: see "
                f"the column remark."
            )
        for verdict, those in table[~table["ok"]].groupby("verdict", sort=False):
            yield f"{self._listed(those.index)}: {verdict}"

    def _behind(self, candidate: Candidate) -> str:
        """Return how far a candidate is behind the best."""
        row = ranked(self.table, self._decides).loc[candidate]
        told = f"{row['gap']:.1f} {'less' if self._decides.sign > 0 else 'more'}"
        if self._decides.error:
            told += f" (standard error of the difference {_rounded(row['error'])})"
        return told

    def _named(self, candidate: Candidate) -> str:
        """Return the words for a candidate, the structure if it tells candidates apart."""
        k, structure = candidate
        several = self.table.index.get_level_values("structure").nunique() > 1
        return f"{k} component{'s' * (k != 1)}" + (f", {structure!r}" if several else "")

    def _listed(self, candidates: Iterable[Any]) -> str:
        return "; ".join(self._named(_key(one)) for one in candidates)


def _key(label: tuple[Any, Any]) -> Candidate:
    """Return a label of the table as a candidate."""
    return Candidate(int(label[0]), str(label[1]))


def _sentence(criteria: list[Criterion], verb: str, verbs: str) -> str:
    """Return the beginning of a sentence about some criteria, and its verb."""
    *first, last = (criterion.name for criterion in criteria)
    said = f"{', '.join(first)} and {last} {verbs}" if first else f"{last} {verb}"
    return said[0].upper() + said[1:]


def _rounded(error: float) -> str:
    """Return an error with a decimal, or with one digit if it is small."""
    return f"{error:.1f}" if error >= 0.1 else f"{error:.1g}"


def _fixed(column: pd.Series, decimals: int) -> list[str]:
    """Return values with so many decimals; nothing where they are not known."""
    return ["" if pd.isna(value) else f"{value:.{decimals}f}" for value in column]


def _texts(table: pd.DataFrame, column: str, error: str) -> list[str]:
    """Return values as they are printed, with their errors if they have any."""
    if not error:
        return _fixed(table[column], 1)
    return [
        "" if pd.isna(value) else f"{value:.1f} ({_rounded(of)})" if of > 0.0 else f"{value:.1f}"
        for value, of in zip(table[column], table[error], strict=True)
    ]
