"""One answer, in words: what it is told by, what speaks against it, and how it is printed."""

from typing import Any

import pandas as pd
import pytest

from bayesgmm.inference.sweep import Candidate
from bayesgmm.selection.answer import Selection
from bayesgmm.selection.criteria import CRITERIA
from bayesgmm.selection.table import columns_of

MEANING = CRITERIA["loo"].meaning


def made(rows: dict[Any, dict[str, Any]], criteria: tuple[str, ...] = ("loo",)) -> Selection:
    """Return a selection with a table made by hand."""
    usual = {
        "se": 10.0, "p": 5.0, "n_bad_k": 0, "weight": 0.5, "n_clusters": 9.0, "n_clusters_low": 9,
        "n_clusters_high": 9, "n_parameters": 5, "ok": True, "verdict": "Trustworthy.",
        "remark": "", "seconds": 1.0,
    }  # fmt: skip
    index = pd.MultiIndex.from_tuples(rows, names=Candidate._fields)
    table = pd.DataFrame([{**usual, **row} for row in rows.values()], index, columns_of(criteria))
    return Selection(table, {}, criteria)


def row(elpd: float, diff: float, dse: float, n_parameters: int, **given: Any) -> dict[str, Any]:
    given |= {"elpd_loo": elpd, "elpd_diff": diff, "dse": dse, "n_parameters": n_parameters}
    return given


def test_the_best_alone() -> None:
    chosen = made({(1, "full"): row(-150.0, -50.0, 9.0, 5), (2, "full"): row(-100.0, 0.0, 0.0, 11)})
    assert chosen.best == chosen.simplest == Candidate(2, "full")
    lines = repr(chosen).splitlines()
    assert lines[0] == "Recommended: 2 components."
    assert lines[1] == "Best by leave-one-out: 2 components, elpd -100.0 (standard error 10.0)."
    assert lines[2] == MEANING
    assert lines[3] == ""
    assert lines[4].split() == [
        "n_components", "structure", "elpd_loo", "elpd_diff", "weight", "n_clusters", "check",
    ]  # fmt: skip
    assert lines[5].split() == [
        "1",
        "full",
        "-150.0",
        "(10.0)",
        "-50.0",
        "(9.0)",
        "0.50",
        "9.0",
        "[9,",
        "9]",
        "ok",
    ]


@pytest.mark.parametrize(
    ("diff", "dse", "simplest"),
    [(-8.0, 8.5, 1), (-8.0, 7.5, 3), (-3.9, 0.5, 1), (-4.1, 0.5, 3), (-0.0, 0.0, 1)],
)
def test_a_simpler_one_that_cannot_be_told_from_it(diff: float, dse: float, simplest: int) -> None:
    """Within one standard error, or 4 nats."""
    chosen = made({(1, "full"): row(-100 + diff, diff, dse, 5), (3, "full"): row(-100, 0, 0, 17)})
    if diff:
        assert chosen.best == (3, "full")
    assert chosen.simplest == (simplest, "full")
    said = "Not to be told from it: 1 component, " in repr(chosen)
    assert said == (chosen.best != chosen.simplest)
    if said:
        assert f"{-diff:.1f} less (standard error of the difference {dse:.1f})" in repr(chosen)


def test_the_simplest_has_the_fewest_parameters_not_the_fewest_components() -> None:
    chosen = made({
        (2, "full"): row(-101.0, -1.0, 2.0, 11),
        (3, "tied"): row(-102.0, -2.0, 3.0, 8),
        (4, "full"): row(-100.0, 0.0, 0.0, 23),
    })  # fmt: skip
    assert chosen.simplest == (3, "tied")
    assert "Best by leave-one-out: 4 components, 'full', elpd" in repr(chosen)
    assert "Not to be told from it: 3 components, 'tied', 2.0 less" in repr(chosen)


def test_what_is_not_to_be_relied_on_is_said() -> None:
    bad = {"ok": False, "verdict": "Not converged: a <b> c."}
    chosen = made({
        (1, "full"): row(-101.0, -1.0, 2.0, 5, n_bad_k=2),
        (2, "full"): row(-100.0, 0.0, 0.0, 11, n_bad_k=1, **bad),
        (3, "full"): row(-102.0, -2.0, 3.0, 17, **bad),
    })  # fmt: skip
    lines = repr(chosen).splitlines()
    assert (
        "LOO is unreliable for some rows of 1 component; 2 components: see n_bad_k, and "
        "bayesgmm.loo of the fit." in lines
    )
    assert "2 components; 3 components: Not converged: a <b> c." in lines
    shown = chosen._repr_html_()
    assert "a &lt;b&gt; c." in shown
    assert "<b>" not in shown
    assert "<table" in shown


def test_of_as_many_parameters_those_with_fewer_components_are_simpler() -> None:
    chosen = made({
        (2, "full"): row(-101.0, -1.0, 2.0, 11),
        (3, "tied"): row(-100.0, 0.0, 0.0, 11),
    })  # fmt: skip
    assert (chosen.best, chosen.simplest) == ((3, "tied"), (2, "full"))
    assert " with fewer components. Prefer the simpler" in repr(chosen)


# What the check has to do with it


def checked(*passed: bool) -> Selection:
    """Return fits of 1 to 4 components, all but the first near the best, the third."""
    rows = {1: (-90.0, 9.0), 2: (-3.0, 2.0), 3: (0.0, 0.0), 4: (-1.0, 1.0)}
    return made({
        (k, "full"): row(-100.0 + diff, diff, dse, 6 * k - 1, ok=ok, verdict="Slow.")
        for (k, (diff, dse)), ok in zip(rows.items(), passed, strict=True)
    })  # fmt: skip


def test_a_fit_that_failed_the_check_gives_way_to_the_next_that_did_not() -> None:
    chosen = checked(True, False, True, True)
    assert (chosen.simplest, chosen.recommended) == ((2, "full"), (3, "full"))
    assert "2 components: not recommended, for its fit did not pass the check." in repr(chosen)
    assert "nor did any" not in repr(chosen)


def test_where_no_fit_near_the_best_passed_that_is_said() -> None:
    chosen = checked(True, False, False, False)
    assert chosen.simplest == chosen.recommended == (2, "full")
    assert repr(chosen).startswith("Recommended, but not to be used yet: 2 components.")
    assert "The fit of 2 components did not pass the check, nor did any that cannot" in repr(chosen)
    best_sound = "1 component, 90.0 less (standard error of the difference 9.0)."
    assert f"The best that passed: {best_sound}" in repr(chosen)
    assert "The best that passed" not in repr(checked(False, False, False, False))


def test_where_all_passed_nothing_is_said_of_it() -> None:
    chosen = checked(True, True, True, True)
    assert chosen.recommended == (2, "full")
    assert "pass" not in repr(chosen)


# Criteria beside one another


def several(icl: float = 90.0, evidence: float = -99.0, error: float = 0.1) -> Selection:
    """Return fits of 1 and 2 components; by LOO it is 2."""
    usual = {"log_evidence_error": 0.1, "probability_error": 0.05, "bic": 100.0}
    evidences = {"log_evidence": -100.0, "probability": 0.25}
    return made({
        (1, "full"): row(-150.0, -50.0, 9.0, 5, icl=100.0, **{**usual, **evidences}),
        (2, "full"): row(-100.0, 0.0, 0.0, 11, icl=icl, **{
            **usual, "log_evidence": evidence, "log_evidence_error": error, "probability": 0.75,
        }),
    }, ("loo", "evidence", "icl", "bic"))  # fmt: skip


@pytest.mark.parametrize(
    ("given", "name", "answer"),
    [
        ({"icl": 97.9}, "icl", 2), ({"icl": 98.1}, "icl", 1),
        ({"evidence": -98.9}, "evidence", 2), ({"evidence": -99.1}, "evidence", 1),
        ({"evidence": -98.0, "error": 2.0}, "evidence", 1),
        ({"evidence": -97.9, "error": 2.0}, "evidence", 2),
    ],
)  # fmt: skip
def test_differences_that_count(given: dict[str, float], name: str, answer: int) -> None:
    """More than 2 of an information criterion; 1 nat of evidence, and its error."""
    assert several(**given).answers[name] == (answer, "full")


def test_who_agrees_and_who_does_not() -> None:
    lines = repr(several(evidence=-90.0)).splitlines()
    assert lines[0] == "Recommended: 2 components."
    assert lines[2:][:5] == [
        MEANING,
        "The evidence and ICL agree.",
        "BIC takes 1 component.",
        CRITERIA["bic"].meaning,
        "Most probable: 2 components, 0.75 (standard error 0.05), where all fits were equally "
        "probable before.",
    ]
    other = repr(several(icl=100.0, evidence=-100.0))
    assert "The evidence, ICL and BIC take 1 component." in other
    assert "agree" not in other


def test_the_first_criterion_decides() -> None:
    chosen = several()
    chosen = Selection(chosen.table, {}, ("bic", "loo"))
    assert chosen.recommended == chosen.best == (1, "full")
    lines = repr(chosen).splitlines()
    assert lines[:2] == ["Recommended: 1 component.", "Best by BIC: 1 component, BIC 100.0."]
    assert "Leave-one-out takes 2 components." in lines
    heading = next(line for line in lines if "n_components" in line).split()
    assert heading[2:5] == ["bic", "elpd_loo", "elpd_diff"]


def test_components_without_rows_are_counted() -> None:
    few = made({(3, "full"): row(-100.0, 0.0, 0.0, 17, n_clusters=1.9)})
    assert "Of its 3 components 1.9 hold rows, on average." in repr(few)
    assert "hold rows" not in repr(made({(3, "full"): row(-100.0, 0.0, 0.0, 17, n_clusters=2.8)}))


def test_a_remark_is_pointed_at() -> None:
    chosen = made({(1, "full"): row(-100.0, 0.0, 0.0, 5, remark="No evidence: draws.")})
    assert "Not everything is known, or to be relied on, of 1 component: see the column" in repr(
        chosen
    )


def test_what_is_not_known_is_left_blank() -> None:
    missing = dict.fromkeys(("elpd_loo", "elpd_diff", "dse", "se", "weight", "n_clusters"))
    failed = {**missing, "ok": False, "verdict": "Failed: no mode.", "n_parameters": None}
    chosen = made({(1, "full"): row(-100.0, 0.0, 0.0, 5), (2, "full"): failed})
    assert repr(chosen).splitlines()[-1].split() == ["2", "full", "failed"]
    assert chosen.answers == {"loo": (1, "full")}
