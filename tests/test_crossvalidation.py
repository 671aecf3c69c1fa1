"""Leave-one-out and WAIC of fits whose log-likelihood is not there, and what they import."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import arviz_stats
import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import bayesgmm as bg
from bayesgmm import crossvalidation, pointwise
from tests.synthetic import random_fit

pytestmark = pytest.mark.filterwarnings("ignore:The log-likelihood of 1 of 200 rows")

both = pytest.mark.parametrize("function", [bg.loo, bg.waic], ids=lambda f: f.__name__)


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """A sound fit. No test may change it."""
    X = bg.datasets.make_mixture(200, 1, 2, separation=5.0, random_seed=4)["X"]
    return bg.fit(X, 2, draws=250, random_seed=1, progressbar=False)


def without(tree: xr.DataTree) -> xr.DataTree:
    return tree.filter(lambda node: node.name != "log_likelihood")


def assert_equal(one: Any, other: Any, rel: float) -> None:
    assert one.good_k == other.good_k
    for field in ("elpd", "se", "p", "n_samples", "n_data_points", "warning"):
        assert getattr(one, field) == pytest.approx(getattr(other, field), rel=rel), field
    xr.testing.assert_allclose(one.elpd_i, other.elpd_i, rtol=rel)
    if one.pareto_k is not None:
        xr.testing.assert_allclose(one.pareto_k, other.pareto_k, rtol=1e-6)


@both
@pytest.mark.parametrize("block_bytes", [8 * 1000 * 7, 2**26])
def test_what_is_not_stored_is_computed(
    block_bytes: int,
    function: Callable[..., Any],
    tree: xr.DataTree,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pointwise, "BLOCK_BYTES", block_bytes)
    assert_equal(function(without(tree)), function(tree), rel=1e-9)


def test_fits_are_compared_whether_it_is_stored_or_not(tree: xr.DataTree) -> None:
    table = bg.compare({"with": tree, "without": without(tree)})
    assert table["elpd_diff"].abs().max() < 1e-7


@both
def test_a_density_of_zero_is_found_where_nothing_is_stored(
    function: Callable[..., Any], tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pointwise, "BLOCK_BYTES", 8 * 1000 * 7)
    broken = without(tree).copy()
    values = tree["observed_data"]["X"].values.copy()
    values[150] = 1e200
    data = tree["observed_data"].to_dataset()
    broken["observed_data"] = xr.DataTree(data.assign(X=data["X"].copy(data=values)))
    message = r"^`tree` must have a finite .*; got -inf at chain 0, draw 0, row 150\."
    with pytest.raises(ValueError, match=message):
        function(broken)


@both
def test_a_draw_that_is_no_number_is_found_where_nothing_is_stored(
    function: Callable[..., Any], tree: xr.DataTree
) -> None:
    broken = without(tree).copy()
    posterior = tree["posterior"].to_dataset()
    weights = posterior["weights"].values.copy()
    weights[2, 50] = np.nan
    changed = posterior.assign(weights=posterior["weights"].copy(data=weights))
    broken["posterior"] = xr.DataTree(changed)
    message = r"^`tree` must have a finite .*; got nan at chain 2, draw 50, row 0\."
    with pytest.raises(ValueError, match=message):
        function(broken)


def test_many_rows_tell_the_efficiency_by_some(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rows differ in it only along 16s, any of them tell the same."""
    log_likelihood = np.tile(rng.normal(-3.0, 0.1, (2, 50, 16)), (1, 1, 10))
    fit = random_fit(rng.normal(size=160), rng, draws=50, log_likelihood=log_likelihood)
    every = bg.loo(fit)
    monkeypatch.setattr(crossvalidation, "ROWS_FOR_EFFICIENCY", 40)
    assert_equal(bg.loo(fit), every, rel=1e-12)
    likelihood = np.exp(log_likelihood)
    axes = {"chain_axis": 0, "draw_axis": 1, "method": "mean"}
    efficiency = np.mean(arviz_stats.base.array_stats.ess(likelihood, **axes)) / 100
    expected = arviz_stats.loo(fit, pointwise=True, reff=efficiency)
    assert every.elpd == pytest.approx(expected.elpd, rel=1e-12)


def test_a_single_row_has_no_standard_error(tree: xr.DataTree) -> None:
    alone, all_rows = bg.loo(tree.isel(obs=[3])), bg.loo(tree)
    assert (alone.se, alone.n_data_points) == (0.0, 1)
    assert alone.elpd == pytest.approx(all_rows.elpd_i.values[3], abs=1e-3)


@both
def test_the_order_of_dimensions_does_not_matter(
    function: Callable[..., Any], tree: xr.DataTree
) -> None:
    turned = tree.copy()
    group = tree["log_likelihood"].to_dataset().transpose("obs", "draw", "chain")
    turned["log_likelihood"] = xr.DataTree(group)
    assert_equal(function(turned), function(tree), rel=0.0)


def test_the_stored_log_likelihood_is_not_changed(tree: xr.DataTree) -> None:
    before = tree["log_likelihood"]["X"].values.copy()
    bg.loo(tree)
    bg.waic(tree)
    np.testing.assert_array_equal(tree["log_likelihood"]["X"].values, before)


@both
def test_a_single_chain_is_chosen_by_a_list(
    function: Callable[..., Any], tree: xr.DataTree
) -> None:
    name = function.__name__
    for dim in ("chain", "draw"):
        message = (
            rf"^`tree` must have the dimensions 'chain' and 'draw' for `{name}`; got a group "
            rf"'posterior' with \(.*\)\. A single {dim} keeps .* by a list: isel\({dim}=\[0\]\)\."
        )
        with pytest.raises(ValueError, match=message):
            function(tree.isel({dim: 0}))
    with warnings.catch_warnings():  # fewer draws allow for smaller shapes
        warnings.simplefilter("ignore", UserWarning)
        assert function(tree.isel(chain=[1])).n_samples == 250


# Draws of an approximation


def of_approximation(
    tree: xr.DataTree, rng: np.random.Generator, resampled: int
) -> tuple[xr.DataTree, xr.DataArray, xr.DataArray]:
    """Return a fit that says its draws are those of an approximation, and both log densities."""
    changed = tree.copy()
    log_p = tree["sample_stats"]["lp"]
    log_q = log_p + rng.normal(0.0, 0.3, log_p.shape)
    stats = tree["sample_stats"].to_dataset().assign(log_q=log_q)
    changed["sample_stats"] = xr.DataTree(stats)
    changed.attrs = {**tree.attrs, "method": "laplace", "resampled": resampled}
    return changed, log_p, log_q


def test_draws_of_an_approximation_are_weighted_as_arviz_does(
    tree: xr.DataTree, rng: np.random.Generator
) -> None:
    fit, log_p, log_q = of_approximation(tree, rng, 0)
    found = bg.loo(fit)
    expected = arviz_stats.loo_approximate_posterior(fit, log_p, log_q, pointwise=True)
    assert found.elpd == pytest.approx(expected.elpd, rel=1e-12)
    assert found.se == pytest.approx(expected.se, rel=1e-12)
    np.testing.assert_allclose(found.elpd_i, expected.elpd_i, rtol=1e-12)
    np.testing.assert_allclose(found.pareto_k, expected.pareto_k, rtol=1e-9)
    assert found.approx_posterior
    assert "Posterior approximation correction used." in str(found)
    assert found.elpd != bg.loo(tree).elpd
    assert found.p == pytest.approx(bg.loo(tree).p, abs=1.0)


def test_draws_that_were_resampled_are_not_weighted_again(
    tree: xr.DataTree, rng: np.random.Generator
) -> None:
    fit, _, _ = of_approximation(tree, rng, 1)
    assert bg.loo(fit).elpd == bg.loo(tree).elpd
    assert not bg.loo(fit).approx_posterior


def test_leave_one_out_of_a_good_approximation_is_exact(rng: np.random.Generator) -> None:
    """The mean of rows of known noise, from draws of a Normal law that is wider and off."""
    x = rng.normal(0.5, 1.0, 20)
    precision = 0.25 + x.size
    mean, sd = x.sum() / precision, precision**-0.5
    draws = rng.normal(mean + 0.3 * sd, 1.5 * sd, (4, 1000))
    log_p, log_q = norm.logpdf(draws, mean, sd), norm.logpdf(draws, mean + 0.3 * sd, 1.5 * sd)
    fit = random_fit(
        x[:, None],
        rng,
        chains=4,
        draws=1000,
        log_likelihood=norm.logpdf(x, draws[..., None], 1.0),
        sample_stats={"lp": log_p, "log_q": log_q},
    )
    fit.attrs["resampled"] = 0
    rest = np.array([np.delete(x, i).sum() for i in range(x.size)])
    exact = norm.logpdf(x, rest / (precision - 1.0), (1.0 + 1.0 / (precision - 1.0)) ** 0.5)
    found = bg.loo(fit)
    np.testing.assert_allclose(found.elpd_i, exact, atol=0.02)  # five errors of an outer row
    inside = norm.logpdf(x, mean, (1.0 + sd**2) ** 0.5)
    assert found.p == pytest.approx((inside - exact).sum(), abs=0.05)
    assert not found.warning
    fit.attrs["resampled"] = 1  # a lie, to see what leaving the correction out would do
    assert abs(bg.loo(fit).p - found.p) > 0.5


@pytest.mark.parametrize("method", ["laplace", "fullrank_advi"])
def test_resampled_approximations_predict_as_the_posterior_does(method: str) -> None:
    """To five standard errors, 0.1 of either as repeated fits vary."""
    X = bg.datasets.load_faithful()
    fit, exact = (
        bg.fit(X, 2, method=one, draws=500, random_seed=1, progressbar=False)
        for one in (method, "nuts")
    )
    assert fit.attrs["resampled"]
    assert bg.loo(fit).elpd == pytest.approx(bg.loo(exact).elpd, abs=1.0)


def test_approximations_that_were_not_resampled_are_not_relied_on(tree: xr.DataTree) -> None:
    X = tree["observed_data"]["X"]
    fit = bg.fit(X, 2, method="laplace", draws=500, random_seed=1, progressbar=False)
    assert not fit.attrs["resampled"]
    message = r"^The Pareto shape k of \d+ of 200 rows .* too far .*\. Fit with method='nuts'\.$"
    with pytest.warns(UserWarning, match=message):
        found = bg.loo(fit)
    assert set(found.bad_rows["repair"]) == {"none"}


def test_waic_takes_draws_of_the_posterior_alone(
    tree: xr.DataTree, rng: np.random.Generator
) -> None:
    fit, _, _ = of_approximation(tree, rng, 0)
    fit.attrs["pareto_k"] = 0.83
    message = (
        r"^`tree` must hold draws of the posterior for `waic`; got those of the approximation "
        r"'laplace', which were not resampled \(pareto_k 0\.83\)\. Use bayesgmm\.loo"
    )
    with pytest.raises(ValueError, match=message):
        bg.waic(fit)


LIGHT = """
import sys, bayesgmm as bg
tree = bg.load(sys.argv[1])
result = bg.loo(tree)
bg.waic(tree), bg.check(tree), bg.summary(tree), str(result)
assert "scipy.stats" not in sys.modules, "all of ArviZ was imported"
{}
import arviz_stats, arviz_stats.utils
assert isinstance(result, arviz_stats.ELPDData), type(result)
assert arviz_stats.utils.ELPDData is arviz_stats.ELPDData
assert callable(arviz_stats.loo) and arviz_stats.__version__ and "ess" in dir(arviz_stats)
assert not hasattr(arviz_stats, "what_it_does_not_have")
again = arviz_stats.loo(tree, reff=1.0)
assert isinstance(result, type(again)), type(again)
"""


@pytest.mark.parametrize(
    "first", ["", "from arviz_stats import ess", "import arviz_stats.loo.loo", "import arviz_base"]
)
def test_arviz_is_imported_when_it_is_asked_for(
    first: str, tree: xr.DataTree, tmp_path: Path
) -> None:
    bg.save(tree, tmp_path / "fit.nc")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", LIGHT.format(first), str(tmp_path / "fit.nc")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
