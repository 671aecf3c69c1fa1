"""The convergence report on approximations of the posterior, good and bad."""

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from tests.test_convergence import assert_readable, changed, values


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """A sound fit. No test may change it."""
    X = bg.datasets.make_mixture(120, 2, 2, separation=5.0, random_seed=4)["X"]
    return bg.fit(X, 2, random_seed=1, progressbar=False)


def approximation(tree: xr.DataTree, **attrs: float) -> xr.DataTree:
    """Return a fit as if it were an approximation that is as good as can be, but for `attrs`."""
    result = tree.copy()
    good = {"pareto_k": 0.3, "resampled": 1, "converged": 1, "mode_share": 1.0}
    result.attrs = {**tree.attrs, "method": "laplace", **good, **attrs}
    return result


@pytest.mark.parametrize("method", ["advi", "laplace"])
def test_a_sound_approximation_is_trusted(method: str, tree: xr.DataTree) -> None:
    report = bg.check(approximation(tree, method=method))
    assert report.ok
    assert report.verdict.startswith("Trustworthy: the draws were near enough the posterior")
    assert report.evidence["Pareto k-hat"] == 0.3
    drawn = tree["sample_stats"]["lp"].values
    assert report.evidence["different draws"] == np.unique(drawn).size > 3000
    assert not any("R-hat" in name or "ESS" in name for name in report.evidence)
    assert_readable(report)


@pytest.mark.parametrize("pareto_k", [0.71, 3.0, np.inf, np.nan])
def test_an_approximation_too_far_from_the_posterior(pareto_k: float, tree: xr.DataTree) -> None:
    report = bg.check(approximation(tree, pareto_k=pareto_k, resampled=0))
    assert not report.ok
    assert report.verdict == "Not to be trusted: the approximation is too far from the posterior."
    assert f"k-hat is {pareto_k:.2f}, where 0.7 is the most" in report.advice[0]
    assert "method='nuts'" in report.advice[0]
    assert_readable(report)


def test_an_approximation_that_nothing_was_measured_of(tree: xr.DataTree) -> None:
    bare = approximation(tree)
    bare.attrs = {name: value for name, value in bare.attrs.items() if name != "pareto_k"}
    report = bg.check(bare)
    assert not report.ok
    assert report.verdict.startswith("Unconfirmed: how far the approximation is")
    assert np.isnan(report.evidence["Pareto k-hat"])


@pytest.mark.parametrize(
    ("attrs", "verdict", "advice"),
    [
        ({"converged": 0}, "Doubtful: the optimiser", "Use fewer components, or"),
        ({"mode_share": 0.6}, "Doubtful: other modes hold a part", "holds 60% of the mass"),
    ],
)
def test_what_else_stands_against_an_approximation(
    attrs: dict[str, float], verdict: str, advice: str, tree: xr.DataTree
) -> None:
    report = bg.check(approximation(tree, **attrs))
    assert not report.ok
    assert report.verdict.startswith(verdict)
    assert advice in report.advice[0]
    assert_readable(report)
    both = bg.check(approximation(tree, pareto_k=2.0, **attrs))
    assert both.verdict.startswith("Not to be trusted")  # what is worst comes first
    assert advice in both.advice[1]


def test_an_approximation_of_a_few_draws_over_and_over(tree: xr.DataTree) -> None:
    lp = values(tree, "sample_stats", "lp")
    few = changed(tree, "sample_stats", lp=np.resize(np.unique(lp)[:90], lp.shape))
    report = bg.check(approximation(few))
    assert report.verdict.startswith("Too few different draws")
    assert "90 of 4000 draws differ, and 400 are wanted" in report.advice[0]
    assert_readable(report)
    assert bg.check(approximation(tree.isel(draw=slice(50)))).ok  # no more were asked for


def test_an_approximation_with_unclear_labels(tree: xr.DataTree) -> None:
    margin = values(tree, "alignment", "margin")
    margin[:, ::10] = 0.001
    report = bg.check(approximation(changed(tree, "alignment", margin=margin)))
    assert report.verdict.startswith("Labels are unclear")
    assert "10%" in report.advice[0]
    assert_readable(report)
