"""`plot_select`: what is in the picture, not its pixels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

import bayesgmm as bg
from bayesgmm.inference.sweep import Candidate
from bayesgmm.selection import Selection
from bayesgmm.selection.table import columns_of

CRITERIA = ("loo", "evidence", "bic")


def axes() -> Axes:
    return Figure(figsize=(7.5, 7.0), layout="constrained").subplots()


def selection(
    elpd: tuple[float, ...] = (-190.0, -100.0, -99.0, -104.0),
    structures: tuple[str, ...] = ("full",),
    criteria: tuple[str, ...] = CRITERIA,
) -> Selection:
    """Return fits of 1 to 4 components; of other structures everything is worse by 1."""
    rows = {}
    for number, structure in enumerate(structures):
        for k, value in enumerate(elpd, 1):
            rows[k, structure] = {
                "elpd_loo": value - number, "se": 9.0, "elpd_diff": value - number - max(elpd),
                "dse": 2.0 * (max(elpd) - value + number > 0.0), "log_evidence": value - k - number,
                "log_evidence_error": 0.3, "probability": 0.25, "probability_error": 0.01,
                "weight": 0.25, "bic": 100.0 * k + number, "n_clusters": k - 0.2,
                "n_clusters_low": k - 1, "n_clusters_high": k, "n_parameters": 6 * k - 1 - number,
                "ok": k < 4, "verdict": "v", "remark": "", "n_bad_k": 0,
            }  # fmt: skip
    index = pd.MultiIndex.from_tuples(rows, names=Candidate._fields)
    table = pd.DataFrame(list(rows.values()), index, columns_of(criteria)).sort_index()
    return Selection(table, {}, criteria)


def marks(ax: Axes) -> list[PathCollection]:
    return [artist for artist in ax.collections if isinstance(artist, PathCollection)]


def ring(ax: Axes) -> tuple[float, float]:
    (found,) = (line for line in ax.lines if line.get_markersize() == 14.0)
    return float(found.get_xdata()[0]), float(found.get_ydata()[0])


def test_a_new_figure_is_made_where_none_is_given() -> None:
    panels = bg.plot_select(selection())
    assert pyplot.get_fignums() == [1]
    assert {panel.figure for panel in panels} == {pyplot.figure(1)}


def test_a_panel_for_every_criterion_and_one_for_the_clusters() -> None:
    ax = axes()
    panels = bg.plot_select(selection(), ax=ax)
    assert [panel.get_title() for panel in panels] == [
        "Leave-one-out", "Evidence", "BIC", "Components that hold rows",
    ]  # fmt: skip
    assert list(ax.child_axes) == list(panels)
    assert pyplot.get_fignums() == []
    assert [panel.get_xlabel() for panel in panels] == ["", "", "components", "components"]
    limits = {panel.get_xlim() for panel in panels}
    assert limits == {(0.5, 4.5)}  # aligned


def test_points_are_how_far_behind_the_best() -> None:
    panels = bg.plot_select(selection(), ax=axes())
    (found,) = marks(panels[0])
    np.testing.assert_allclose(found.get_offsets(), [[2.0, -1.0], [3.0, 0.0], [4.0, -5.0]])
    (container,) = panels[0].containers
    bars = container.lines[2][0].get_segments()
    np.testing.assert_allclose([np.ptp(bar[:, 1]) for bar in bars], [4.0, 0.0, 4.0])
    (of_evidence,) = panels[1].containers
    best, *others = (np.ptp(bar[:, 1]) for bar in of_evidence.lines[2][0].get_segments())
    assert best == 0.0
    np.testing.assert_allclose(others, 2.0 * np.hypot(0.3, 0.3))
    (of_bic,) = marks(panels[2])
    np.testing.assert_allclose(of_bic.get_offsets()[:, 1], [0.0, -100.0, -200.0, -300.0])


def test_fits_far_behind_are_named_at_the_edge() -> None:
    panels = bg.plot_select(selection(), ax=axes())
    (text,) = panels[0].texts
    assert text.get_text() == "-91"
    assert text.xy[0] == 1.0
    assert panels[0].get_ylim()[0] > -20.0
    assert len(panels[2].texts) == 0


def test_what_each_criterion_takes_is_ringed() -> None:
    panels = bg.plot_select(selection(), ax=axes())
    assert ring(panels[0]) == (2.0, -1.0)  # cannot be told from 3
    assert ring(panels[1]) == (2.0, -0.0)
    assert ring(panels[2]) == (1.0, -0.0)


def test_fits_that_failed_the_check_are_hollow() -> None:
    panels = bg.plot_select(selection(), ax=axes())
    (found,) = marks(panels[3])
    hollow = (found.get_facecolors()[:, :3] == 1.0).all(axis=1)
    assert hollow.tolist() == [False, False, False, True]


def test_the_clusters_have_their_interval() -> None:
    panels = bg.plot_select(selection(), ax=axes())
    (container,) = panels[3].containers
    bars = container.lines[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 1] for bar in bars], [[k - 1, k] for k in (1, 2, 3, 4)])


def test_structures_stand_side_by_side() -> None:
    ax = axes()
    panels = bg.plot_select(selection(structures=("full", "tied")), ax=ax)
    first, second = marks(panels[2])
    np.testing.assert_allclose(second.get_offsets()[:, 0] - first.get_offsets()[:, 0], 0.2)
    assert not np.array_equal(first.get_edgecolors(), second.get_edgecolors())
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == [
        "full", "tied", "taken by the criterion", "check failed", "recommended: 2, tied",
    ]  # fmt: skip


def test_one_fit_and_what_is_not_known() -> None:
    chosen = selection((-100.0,))
    chosen.table[["log_evidence", "log_evidence_error", "probability"]] = np.nan
    panels = bg.plot_select(chosen, ax=axes())
    assert [text.get_text() for text in panels[1].texts] == ["not known"]
    assert ring(panels[0]) == (1.0, -0.0)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"selection": 3}, TypeError, r"`selection` must be what .*got an object of type int\. "),
        ({"ax": 3}, TypeError, r"`ax` must be a matplotlib Axes; got an object of type int\. "),
    ],
)
def test_bad_arguments_are_refused(
    given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bg.plot_select(**{"selection": selection(), **given})
    assert pyplot.get_fignums() == []
