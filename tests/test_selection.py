"""Many numbers of components: the table, what it is put into words as, and what is refused."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import selection as module
from bayesgmm.inference import progress, sweep
from bayesgmm.inference.chains import Chain
from bayesgmm.inference.sweep import Candidate, Outcome
from bayesgmm.selection import COLUMNS, NOT_CLUSTERS, Selection
from tests.contract.test_refusals import FORM

SHORT: dict[str, Any] = {"draws": 60, "tune": 60, "chains": 2, "random_seed": 5}
QUIET = {**SHORT, "progressbar": False}


def data() -> np.ndarray:
    return bg.datasets.make_mixture(90, 2, 2, separation=8.0, random_seed=2)["X"].values


@pytest.fixture(scope="module")
def selected() -> Selection:
    return bg.select(data(), range(1, 4), structures=["full", "tied"], **QUIET)


# The table


def test_a_row_for_every_candidate_in_order(selected: Selection) -> None:
    table = selected.table
    expected = [(k, structure) for k in (1, 2, 3) for structure in ("full", "tied")]
    assert table.index.tolist() == expected
    assert list(table.index.names) == ["n_components", "structure"]
    assert list(selected.fits) == expected
    assert tuple(table.columns) == COLUMNS


@pytest.mark.filterwarnings("ignore:The Pareto shape:UserWarning")
def test_a_row_says_what_the_functions_for_one_fit_say(selected: Selection) -> None:
    for candidate, tree in selected.fits.items():
        row, found, report = selected.table.loc[candidate], bg.loo(tree), bg.check(tree)
        assert row["elpd_loo"] == found.elpd
        assert row["se"] == found.se
        assert row["p"] == found.p
        assert row["n_bad_k"] == (found.pareto_k > found.good_k).sum()
        assert row["ok"] == report.ok
        assert row["verdict"] == report.verdict
        assert row["seconds"] == tree.attrs["fit_time"]
        assert row["n_parameters"] == tree.attrs["n_parameters"]
        assert tree.attrs["random_seed"] == 5
    assert selected.table["n_parameters"][2].to_dict() == {"full": 11, "tied": 8}


def test_differences_are_those_of_compare(selected: Selection) -> None:
    by_name = {f"{k} {structure}": tree for (k, structure), tree in selected.fits.items()}
    expected = bg.compare(by_name)
    for (k, structure), row in selected.table.iterrows():
        other = expected.loc[f"{k} {structure}"]
        assert row["elpd_diff"] == pytest.approx(other["elpd_diff"], rel=1e-9, abs=1e-9)
        assert row["dse"] == pytest.approx(other["dse"], rel=1e-9, abs=1e-9)


def test_criteria_are_those_of_maximum_likelihood(selected: Selection) -> None:
    for (k, structure), row in selected.table.iterrows():
        spec = bg.GaussianMixture(k, covariance=bg.LKJCovariance(structure=structure))
        tree = bg.fit(data(), spec, method="ml", random_seed=1, progressbar=False)
        deviance = -2.0 * tree["sample_stats"]["lp"].item()
        assert row["aic"] == pytest.approx(2 * row["n_parameters"] + deviance, abs=0.05) or (
            row["aic"] > 2 * row["n_parameters"] + deviance and k > 2  # another maximum
        )
        assert row["bic"] - row["aic"] == pytest.approx(row["n_parameters"] * (np.log(90) - 2))
        assert row["icl"] >= row["bic"]


def test_clusters_far_apart_are_found(selected: Selection) -> None:
    table = selected.table
    assert table.loc[(1, "full"), "elpd_diff"] < -20.0
    assert selected.simplest == (2, "full")
    of_full = table.xs("full", level="structure")
    assert of_full["bic"].idxmin() == of_full["icl"].idxmin() == 2


def test_the_same_seed_gives_the_same_table() -> None:
    first, second = (bg.select(data(), [1, 2], **QUIET) for _ in range(2))
    pd.testing.assert_frame_equal(
        first.table.drop(columns="seconds"), second.table.drop(columns="seconds")
    )
    drawn = bg.select(data(), [1], **{**QUIET, "random_seed": None})
    assert drawn.fits[1, "full"].attrs["random_seed"] != 5


def test_the_priors_are_those_of_the_specification() -> None:
    spec = bg.GaussianMixture(
        7, weights=bg.Dirichlet(3.0), covariance=bg.LKJCovariance(eta=5.0, structure="tied")
    )
    chosen = bg.select(data(), [2], spec=spec, **QUIET)
    tree = chosen.fits[2, "tied"]
    expected = bg.fit(
        data(), bg.GaussianMixture(2, spec.weights, spec.means, spec.covariance), **QUIET
    )
    xr.testing.assert_identical(tree["posterior"].dataset, expected["posterior"].dataset)


def test_numbers_may_come_in_any_order_and_kind() -> None:
    chosen = bg.select(data(), np.array([2, 1]), **QUIET)
    assert list(chosen.fits) == [(1, "full"), (2, "full")]
    expected = bg.select(data(), [1, 2], **QUIET)
    for candidate, tree in chosen.fits.items():  # the larger starts from the smaller all the same
        xr.testing.assert_identical(
            tree["modes"].dataset, expected.fits[candidate]["modes"].dataset
        )
    assert bg.select(data(), iter([1]), **QUIET).best == (1, "full")


def test_approximations_can_be_compared_too() -> None:
    chosen = bg.select(data(), [1, 2], method="laplace", **QUIET)
    assert {tree.attrs["method"] for tree in chosen.fits.values()} == {"laplace"}
    assert chosen.best == (2, "full")


def test_without_stored_log_likelihoods_the_table_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = bg.select(data(), [1, 2], **QUIET)
    monkeypatch.setattr("bayesgmm.inference.assemble.LARGEST_LOG_LIKELIHOOD", 100)
    blocked = bg.select(data(), [1, 2], **QUIET)
    assert all("log_likelihood" not in tree.children for tree in blocked.fits.values())
    columns = ["elpd_loo", "se", "p", "elpd_diff", "dse", "bic"]
    np.testing.assert_allclose(blocked.table[columns], expected.table[columns], rtol=1e-9)


# In words


def made(rows: dict[Any, dict[str, Any]]) -> Selection:
    """Return a selection with a table made by hand."""
    usual = {
        "se": 10.0, "p": 5.0, "n_bad_k": 0, "bic": 1.0, "aic": 1.0, "icl": 1.0,
        "n_parameters": 5, "ok": True, "verdict": "Trustworthy.", "seconds": 1.0,
    }  # fmt: skip
    index = pd.MultiIndex.from_tuples(rows, names=Candidate._fields)
    table = pd.DataFrame([{**usual, **row} for row in rows.values()], index, COLUMNS)
    return Selection(table, {})


def row(elpd: float, diff: float, dse: float, n_parameters: int, **given: Any) -> dict[str, Any]:
    given |= {"elpd_loo": elpd, "elpd_diff": diff, "dse": dse, "n_parameters": n_parameters}
    return given


def test_the_best_alone() -> None:
    chosen = made({(1, "full"): row(-150.0, -50.0, 9.0, 5), (2, "full"): row(-100.0, 0.0, 0.0, 11)})
    assert chosen.best == chosen.simplest == Candidate(2, "full")
    lines = str(chosen).splitlines()
    assert lines[0] == "Best by leave-one-out: 2 components, elpd -100.0 (standard error 10.0)."
    assert lines[1] == NOT_CLUSTERS
    assert lines[2] == ""
    assert "elpd_loo" in lines[3]
    assert "verdict" not in lines[3]


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
    said = "Not to be told from it: 1 component, " in str(chosen)
    assert said == (chosen.best != chosen.simplest)
    if said:
        assert f"{-diff:.1f} less (standard error of the difference {dse:.1f})" in str(chosen)


def test_the_simplest_has_the_fewest_parameters_not_the_fewest_components() -> None:
    chosen = made({
        (2, "full"): row(-101.0, -1.0, 2.0, 11),
        (3, "tied"): row(-102.0, -2.0, 3.0, 8),
        (4, "full"): row(-100.0, 0.0, 0.0, 23),
    })  # fmt: skip
    assert chosen.simplest == (3, "tied")
    assert "Best by leave-one-out: 4 components, 'full', elpd" in str(chosen)
    assert "Not to be told from it: 3 components, 'tied', 2.0 less" in str(chosen)


def test_what_is_not_to_be_relied_on_is_said() -> None:
    bad = {"ok": False, "verdict": "Not converged: a <b> c."}
    chosen = made({
        (1, "full"): row(-101.0, -1.0, 2.0, 5, n_bad_k=2),
        (2, "full"): row(-100.0, 0.0, 0.0, 11, n_bad_k=1, **bad),
        (3, "full"): row(-102.0, -2.0, 3.0, 17, **bad),
    })  # fmt: skip
    lines = str(chosen).splitlines()
    assert (
        "LOO is unreliable for some rows of 1 component; 2 components: see n_bad_k, and "
        "bayesgmm.loo of the fit." in lines
    )
    assert "2 components; 3 components: Not converged: a <b> c." in lines
    shown = chosen._repr_html_()
    assert "a &lt;b&gt; c." in shown
    assert "<b>" not in shown
    assert "<table" in shown


# What goes wrong


def outcome(k: int, tree: xr.DataTree | None, failure: str = "") -> Outcome:
    return Outcome(Candidate(k, "full"), tree, {"bic": 1.0, "aic": 1.0, "icl": 1.0}, failure)


@pytest.fixture
def fits(selected: Selection) -> list[xr.DataTree]:
    return [selected.fits[k, "full"] for k in (1, 2)]


def replaced(monkeypatch: pytest.MonkeyPatch, *outcomes: Outcome | type[BaseException]) -> None:
    """Let a sweep end in these outcomes, or be interrupted."""

    def sweep(*given: Any) -> Iterator[Outcome]:
        for one in outcomes:
            if not isinstance(one, Outcome):
                raise one
            yield one

    monkeypatch.setattr(module, "sweep", sweep)


def test_an_interruption_returns_what_is_done(
    fits: Sequence[xr.DataTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(monkeypatch, outcome(2, fits[1]), outcome(1, fits[0]), KeyboardInterrupt)
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 2 of 8 fits") as caught:
        chosen = bg.select(data(), progressbar=False)
    assert caught[0].filename == __file__
    assert list(chosen.fits) == chosen.table.index.tolist() == [(1, "full"), (2, "full")]


def test_ctrl_c_while_chains_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes to the loop that waits for the chains of the second fit."""
    wait, aborted, abort = Chain.wait, [], Chain.abort

    def interrupted(self: Chain, seconds: float) -> None:
        if self.progress[0] > 500:
            raise KeyboardInterrupt
        wait(self, 0.01)

    def spy(self: Chain) -> None:
        aborted.append(self)
        abort(self)

    collect = sweep._Sweep._collect

    def first(self: Any, run: Any) -> Any:
        monkeypatch.setattr(Chain, "wait", interrupted)
        return collect(self, run)

    monkeypatch.setattr(sweep._Sweep, "_collect", first)
    monkeypatch.setattr(Chain, "abort", spy)
    finished = Chain.finished
    monkeypatch.setattr(
        Chain, "finished", property(lambda self: self._shift.size == 5 and finished.fget(self))
    )
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 1 of 2 fits"):
        chosen = bg.select(data(), [1, 2], **{**QUIET, "draws": 2000})
    assert list(chosen.fits) == [(1, "full")]
    assert len(aborted) == 2


def test_an_interruption_before_the_first_fit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, KeyboardInterrupt)
    match = r"None of 8 fits .*interrupted before any fit was done\. "
    with pytest.raises(bg.FitError, match=match) as caught:
        bg.select(data(), progressbar=False)
    assert caught.value.status == "interrupted"


def test_a_fit_that_failed_is_named_and_the_others_stand(
    fits: Sequence[xr.DataTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(monkeypatch, outcome(1, fits[0]), outcome(2, None, "No mode."))
    with pytest.warns(bg.ConvergenceWarning, match=r"1 of 2 fits .*Failed: No mode\.") as caught:
        chosen = bg.select(data(), [1, 2], progressbar=False)
    assert caught[0].filename == __file__
    assert list(chosen.fits) == [(1, "full")]
    assert chosen.table["verdict"][2, "full"] == "Failed: No mode."
    assert not chosen.table["ok"][2, "full"]
    assert np.isnan(chosen.table["elpd_loo"][2, "full"])
    assert chosen.best == (1, "full")
    assert "2 components: Failed: No mode." in str(chosen)


def test_a_fit_without_loo_is_kept(
    fits: Sequence[xr.DataTree], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = fits[1].isel(draw=[0] * 60)
    replaced(monkeypatch, outcome(1, fits[0]), outcome(2, stuck))
    with pytest.warns(bg.ConvergenceWarning, match="1 of 2 fits cannot be compared; .*never moved"):
        chosen = bg.select(data(), [1, 2], progressbar=False)
    assert list(chosen.fits) == [(1, "full"), (2, "full")]
    assert np.isnan(chosen.table["elpd_loo"][2, "full"])


def test_when_all_fail_there_is_nothing_to_return(monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, outcome(1, None, "No mode."), outcome(2, None, "None either."))
    with pytest.raises(bg.FitError, match=r"None of 2 fits .*Failed: No mode\.") as caught:
        bg.select(data(), [1, 2], progressbar=False)
    assert caught.value.status == "sampler"


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "more components than rows": (
        {"n_components": [2, 91]}, ValueError, r"at least as many rows.*91; got shape \(90, 2\)",
    ),
    "repeated": ({"n_components": [2, 3, 2]}, ValueError, "every number once; got 2 2 times"),
    "empty": (
        {"n_components": range(9, 1)}, ValueError, r"at least one number; got range\(9, 1\)",
    ),
    "zero": ({"n_components": range(3)}, ValueError, "at least 1; got 0"),
    "a number": ({"n_components": 3}, TypeError, "sequence of integers; got 3 of type int"),
    "halves": ({"n_components": [1.5]}, TypeError, "must be an integer; got 1.5"),
    "text": ({"n_components": "12"}, TypeError, "sequence of integers; got '12' of type str"),
    "spec": ({"spec": 3}, TypeError, "`spec` must be a GaussianMixture; got 3 of type int"),
    "no structure": ({"structures": []}, ValueError, r"`structures` .*at least one.*got \[\]"),
    "structure twice": (
        {"structures": ["tied", "tied"]}, ValueError, r"`structures` .*none twice; got \['tied',",
    ),
    "unknown structure": (
        {"structures": ["ful"]}, ValueError, "`structures` must be one of .*got 'ful'.*'full'",
    ),
    "one structure": (
        {"structures": "tied"}, TypeError, r"`structures` .*sequence.*'tied'.*\['full', 'tied'\]",
    ),
    "a point": ({"method": "map"}, ValueError, "`method` must be one of 'nuts'.*got 'map'"),
    "few draws": ({"draws": 29}, ValueError, "`draws` must be at least 30; got 29"),
    "chains": ({"chains": 0}, ValueError, "`chains` must be at least 1; got 0"),
    "seed": ({"random_seed": -1}, ValueError, "`random_seed` must be at least 0; got -1"),
    "concentrations": (
        {"spec": bg.GaussianMixture(2, weights=bg.Dirichlet([1.0, 2.0])), "n_components": [3]},
        ValueError, "`concentration` .*one number per component, 3; got 2",
    ),
    "scales": (
        {"spec": bg.GaussianMixture(2, means=bg.NormalMeans(scale=(1.0, 2.0, 3.0)))},
        ValueError, "`means.scale` must hold one number, or one per feature, 2; got 3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_before_any_computing(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, error, match = BAD[case]
    replaced(monkeypatch, AssertionError)
    with pytest.raises(error, match=match) as caught:
        bg.select(data(), **given)
    assert FORM.match(str(caught.value)), caught.value


# What is shown meanwhile


def test_progress_names_the_fits_at_work(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    monkeypatch.setattr(progress, "SLOW_RATE", 0.0)
    spoken = bg.select(data(), [1, 2], **SHORT)
    out, err = capfd.readouterr()
    assert out == ""
    assert "K = 1, full" in err
    assert "K = 2, full; 1 of 2 fits done" in err
    quiet = bg.select(data(), [1, 2], **QUIET)
    assert capfd.readouterr() == ("", "")
    assert quiet.table["elpd_loo"].tolist() == spoken.table["elpd_loo"].tolist()
