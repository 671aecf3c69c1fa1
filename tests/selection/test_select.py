"""Many numbers of components: the table, what it is put into words as, and what is refused."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import selection as module
from bayesgmm.inference import coordinates, progress, sweep
from bayesgmm.inference.arcs import ArcChain
from bayesgmm.inference.sweep import Candidate, Outcome
from bayesgmm.selection import USUAL, Selection, scores
from bayesgmm.selection.table import columns_of
from tests.contract.test_refusals import FORM

SHORT: dict[str, Any] = {"draws": 60, "tune": 60, "chains": 2, "random_seed": 5}
QUIET = {**SHORT, "progressbar": False}


@pytest.fixture
def all_chains_on_arcs(monkeypatch: pytest.MonkeyPatch) -> None:
    """However heavy the tails, so that what is replaced of chains is replaced of all."""
    monkeypatch.setattr(coordinates, "LIGHT", np.inf)


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
    assert table.columns.tolist() == columns_of(USUAL)
    assert selected.criteria == USUAL


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


@pytest.mark.filterwarnings("ignore:The log evidence:bayesgmm.errors.ConvergenceWarning")
def test_evidence_and_clusters_are_those_of_the_functions_for_one_fit(selected: Selection) -> None:
    table = selected.table
    for candidate, tree in selected.fits.items():
        row, found = table.loc[candidate], bg.log_evidence(tree, random_seed=5)
        assert (row["log_evidence"], row["log_evidence_error"]) == (found.value, found.error)
        occupied = bg.n_clusters(tree, random_seed=5)["occupied"].values
        assert row["n_clusters"] == occupied.mean()
        low, high = row["n_clusters_low"], row["n_clusters_high"]
        assert (occupied < low).mean() <= 0.05 <= (occupied <= low).mean()
        assert (occupied > high).mean() <= 0.05 <= (occupied >= high).mean()
    evidences = {k: bg.log_evidence(selected.fits[k, "full"], random_seed=5) for k in (1, 2, 3)}
    probability = table["probability"].xs("full", level="structure")
    np.testing.assert_allclose(
        probability / probability.sum(), bg.posterior_over_components(evidences)["probability"]
    )
    assert table["probability"].sum() == pytest.approx(1.0)


def test_differences_are_those_of_compare(selected: Selection) -> None:
    by_name = {f"{k} {structure}": tree for (k, structure), tree in selected.fits.items()}
    expected = bg.compare(by_name)
    for (k, structure), row in selected.table.iterrows():
        other = expected.loc[f"{k} {structure}"]
        assert row["elpd_diff"] == pytest.approx(other["elpd_diff"], rel=1e-9, abs=1e-9)
        assert row["dse"] == pytest.approx(other["dse"], rel=1e-9, abs=1e-9)
        assert row["weight"] == other["weight"]


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


@pytest.mark.parametrize("weights", [bg.SparseDirichlet(), bg.StickBreaking()])
def test_weights_that_leave_components_empty_are_refused(weights: Any) -> None:
    spec = bg.GaussianMixture(4, weights=weights)
    with pytest.raises(ValueError, match=r"`spec` must have Dirichlet weights, .* got S"):
        bg.select(data(), [1, 2], spec=spec, **QUIET)


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


def test_only_what_was_asked_for_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("loo", "evidence_of"):
        monkeypatch.setattr(scores, name, None)
    chosen = bg.select(data(), [1, 2], criteria=["waic", "bic"], keep="none", **QUIET)
    assert chosen.table.columns.tolist() == columns_of(["waic", "bic"])
    assert chosen.fits == {}
    assert chosen.answers == {"waic": (2, "full"), "bic": (2, "full")}


def test_waic_is_that_of_one_fit_and_the_first_criterion_decides() -> None:
    chosen = bg.select(data(), [1, 2], criteria=["bic", "waic"], keep="recommended", **QUIET)
    assert list(chosen.fits) == [chosen.recommended] == [(2, "full")]
    with pytest.warns(UserWarning, match="too large for `waic`"):
        found = bg.waic(chosen.fits[2, "full"])
    assert chosen.table["remark"].str.startswith("WAIC is not").all()
    row = chosen.table.loc[2, "full"]
    assert (row["elpd_waic"], row["se_waic"], row["waic_diff"]) == (found.elpd, found.se, 0.0)
    assert "Best by BIC: 2 components, BIC " in repr(chosen)


def test_the_labels_of_all_draws_never_take_too_much(
    selected: Selection, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = selected.fits[3, "full"]
    monkeypatch.setattr(scores, "LABEL_BYTES", 4 * 2 * 90 * 20)
    some = scores.score(outcome(3, tree), ["bic"], 5).row
    thin = bg.n_clusters(tree.isel(draw=slice(None, None, 3)), random_seed=5)["occupied"]
    assert some["n_clusters"] == thin.mean()


def test_without_stored_log_likelihoods_the_table_is_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = bg.select(data(), [1, 2], **QUIET)
    monkeypatch.setattr("bayesgmm.inference.assemble.LARGEST_LOG_LIKELIHOOD", 100)
    blocked = bg.select(data(), [1, 2], **QUIET)
    assert all("log_likelihood" not in tree.children for tree in blocked.fits.values())
    columns = ["elpd_loo", "se", "p", "elpd_diff", "dse", "bic"]
    np.testing.assert_allclose(blocked.table[columns], expected.table[columns], rtol=1e-9)


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


@pytest.mark.usefixtures("all_chains_on_arcs")
def test_ctrl_c_while_chains_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it comes to the loop that waits for the chains of the second fit."""
    wait, aborted, abort = ArcChain.wait, [], ArcChain.abort

    def interrupted(self: ArcChain, seconds: float) -> None:
        if self.progress[0] > 500:
            raise KeyboardInterrupt
        wait(self, 0.01)

    def spy(self: ArcChain) -> None:
        aborted.append(self)
        abort(self)

    collect = sweep._Sweep._collect

    def first(self: Any, run: Any) -> Any:
        monkeypatch.setattr(ArcChain, "wait", interrupted)
        return collect(self, run)

    monkeypatch.setattr(sweep._Sweep, "_collect", first)
    monkeypatch.setattr(ArcChain, "abort", spy)
    finished = ArcChain.finished
    monkeypatch.setattr(
        ArcChain, "finished", property(lambda self: self._shift.size == 5 and finished.fget(self))
    )
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 1 of 2 fits"):
        chosen = bg.select(data(), [1, 2], **{**QUIET, "draws": 2000})
    assert list(chosen.fits) == [(1, "full")]
    assert len(aborted) == 2


@pytest.mark.usefixtures("all_chains_on_arcs")
def test_ctrl_c_while_criteria_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that sample meanwhile are stopped, and the fit that was looked at is left out."""
    aborted, abort, known = [], ArcChain.abort, []

    def once(outcome: Outcome, **given: Any) -> scores.Score:
        if known:
            raise KeyboardInterrupt
        known.append(outcome.candidate)
        return scores.score(outcome, **given)

    def spy(self: ArcChain) -> None:
        aborted.append(self)
        abort(self)

    monkeypatch.setattr(module, "score", once)
    monkeypatch.setattr(ArcChain, "abort", spy)
    with pytest.warns(bg.ConvergenceWarning, match="interrupted: 1 of 4 fits"):
        chosen = bg.select(data(), range(1, 5), **{**QUIET, "draws": 5000})
    assert list(chosen.fits) == known
    assert aborted


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
    assert chosen.table["remark"][2, "full"].startswith("No evidence: `K = 2, full` must hold")
    assert chosen.table["probability"].tolist() == [1.0, pytest.approx(np.nan, nan_ok=True)]
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
    "one criterion": (
        {"criteria": "loo"}, TypeError, r"`criteria` .*sequence.*got 'loo'.*\['loo', 'evidence'\]",
    ),
    "no criterion": ({"criteria": []}, ValueError, r"`criteria` .*at least one.*got \[\]"),
    "criterion twice": (
        {"criteria": ["loo", "loo"]}, ValueError, r"`criteria` .*none twice; got \['loo', 'loo'\]",
    ),
    "unknown criterion": (
        {"criteria": ["evidnce"]}, ValueError,
        "`criteria` must be one of .*got 'evidnce'.*'evidence'",
    ),
    "keep": ({"keep": "best"}, ValueError, "`keep` must be one of 'all', .*got 'best'"),
    "folder": ({"folder": 3}, TypeError, "`folder` must be a path; got 3 of type int"),
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
    assert "K = 2, full; " in err
    assert "; 1 of 2 fits done" in err
    quiet = bg.select(data(), [1, 2], **QUIET)
    assert capfd.readouterr() == ("", "")
    assert quiet.table["elpd_loo"].tolist() == spoken.table["elpd_loo"].tolist()
