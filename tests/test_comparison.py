"""Leave-one-out, WAIC and the comparison of fits, against formulas written out."""

import math
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import bayesgmm as bg
from tests.synthetic import random_fit

N = 20
ROWS = [f"r{i}" for i in range(N)]


def fit_with(
    log_likelihood: np.ndarray, rng: np.random.Generator, index: Any = None, method: str = "nuts"
) -> xr.DataTree:
    """Return a fit of one feature whose log-likelihood (chain, draw, obs) is given."""
    chains, draws, n_obs = log_likelihood.shape
    X = pd.DataFrame({"x": np.sin(np.arange(n_obs))}, index=index)
    return random_fit(
        X, rng, chains=chains, draws=draws, log_likelihood=log_likelihood, method=method
    )


@pytest.fixture
def log_likelihood(rng: np.random.Generator) -> np.ndarray:
    """Three chains of 200 draws, correlated along each, rows of different spread."""
    noise = rng.normal(size=(3, 200, N))
    for draw in range(1, 200):
        noise[:, draw] = 0.7 * noise[:, draw - 1] + 0.5 * noise[:, draw]
    return rng.normal(-3.0, 1.0, N) + np.linspace(0.01, 0.4, N) * noise


@pytest.fixture
def fit(log_likelihood: np.ndarray, rng: np.random.Generator) -> xr.DataTree:
    return fit_with(log_likelihood, rng, ROWS)


def mean_relative_ess(log_likelihood: np.ndarray) -> float:
    """Return the effective draws of the likelihoods per draw, averaged over rows, row by row."""
    n_samples = log_likelihood.shape[0] * log_likelihood.shape[1]
    rows = np.moveaxis(np.exp(log_likelihood), 2, 0)
    return float(np.mean([arviz_stats.ess(row, method="mean") for row in rows])) / n_samples


# loo


def test_loo_is_that_of_arviz_with_the_efficiency_of_the_likelihood(
    fit: xr.DataTree, log_likelihood: np.ndarray
) -> None:
    reff = mean_relative_ess(log_likelihood)
    assert reff < 0.5
    expected = arviz_stats.loo(fit, pointwise=True, reff=reff)
    got = bg.loo(fit)
    assert isinstance(got, arviz_stats.ELPDData)
    for field in ("elpd", "se", "p", "n_samples", "n_data_points", "good_k"):
        assert getattr(got, field) == pytest.approx(getattr(expected, field), rel=1e-12)
    xr.testing.assert_allclose(got.elpd_i, expected.elpd_i, rtol=1e-12)
    xr.testing.assert_allclose(got.pareto_k, expected.pareto_k, rtol=1e-12)
    assert got.elpd_i.indexes["obs"].tolist() == ROWS
    other = arviz_stats.loo(fit, pointwise=True, reff=1.0)
    assert not np.allclose(got.pareto_k, other.pareto_k)  # so the efficiency matters here


def test_loo_does_not_look_at_the_parameters(
    fit: xr.DataTree, log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    assert bg.loo(fit_with(log_likelihood, np.random.default_rng(5), ROWS)).elpd == bg.loo(fit).elpd


def test_loo_of_independent_draws_of_a_conjugate_model_is_exact(rng: np.random.Generator) -> None:
    noise, prior = 1.0, 2.0  # standard deviations of a row and of the prior of the mean, 0
    x = rng.normal(0.7, noise, N)

    def posterior(rows: np.ndarray) -> tuple[float, float]:
        precision = 1 / prior**2 + len(rows) / noise**2
        return rows.sum() / noise**2 / precision, precision**-0.5

    exact = 0.0
    for i in range(N):
        mean, sd = posterior(np.delete(x, i))
        exact += norm.logpdf(x[i], mean, math.hypot(sd, noise))
    mean, sd = posterior(x)
    draws = rng.normal(mean, sd, (4, 1000, 1))
    result = bg.loo(fit_with(norm.logpdf(x, draws, noise), rng))
    assert result.elpd == pytest.approx(exact, abs=0.02)
    in_sample = norm.logpdf(x, mean, math.hypot(sd, noise)).sum()
    assert result.p == pytest.approx(in_sample - exact, abs=0.02)
    assert float(result.pareto_k.max()) < result.good_k


def test_tiny_densities_only_shift_loo(
    fit: xr.DataTree, log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    """Densities of 1e-1000 neither underflow nor are taken for constants."""
    plain, tiny = bg.loo(fit), bg.loo(fit_with(log_likelihood - 2300.0, rng, ROWS))
    assert tiny.elpd == pytest.approx(plain.elpd - 2300.0 * N, rel=1e-12)
    assert tiny.p == pytest.approx(plain.p, abs=1e-6)
    np.testing.assert_allclose(tiny.pareto_k, plain.pareto_k, atol=1e-6)


def test_loo_without_the_terms(fit: xr.DataTree) -> None:
    short = bg.loo(fit, pointwise=False)
    assert short.elpd == bg.loo(fit).elpd
    assert short.elpd_i is None
    assert short.pareto_k is None


def test_loo_names_the_rows_it_cannot_be_relied_on_for(
    log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    heavy = log_likelihood.copy()
    heavy[..., 3] -= np.log(rng.uniform(size=heavy.shape[:2]) ** -3)  # weights of shape 3
    message = r"^The Pareto shape k of 1 of 20 rows \(row r3\) is above 0\.64, up to {}: "
    with pytest.warns(UserWarning, match=message.format(r"[1-9]\.\d\d")):
        assert bg.loo(fit_with(heavy, rng, ROWS)).warning
    heavy[0, 5, 3] -= 1000.0  # so large a weight that no tail can be fitted
    with pytest.warns(UserWarning, match=message.format("inf")):
        assert bg.loo(fit_with(heavy, rng, ROWS)).warning
    many = log_likelihood - np.log(rng.uniform(size=heavy.shape) ** -3)
    with pytest.warns(UserWarning, match=r"of 20 rows \(rows (r\d+, ){5}\.\.\.\) is above"):
        bg.loo(fit_with(many, rng, ROWS))


def test_rows_may_have_the_same_label(log_likelihood: np.ndarray, rng: np.random.Generator) -> None:
    fit = fit_with(log_likelihood, rng, ["a", "b"] * (N // 2))
    assert bg.loo(fit).elpd_i.sizes == {"obs": N}
    assert bg.waic(fit).elpd_i.sizes == {"obs": N}
    assert bg.compare({"one": fit, "same": fit})["elpd_diff"].tolist() == [0.0, 0.0]


@pytest.mark.parametrize("n_bad", [1, 12])
def test_rows_are_named_where_a_result_is_printed(
    n_bad: int, log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    heavy = log_likelihood.copy()
    heavy[..., :n_bad] -= np.log(rng.uniform(size=(3, 200, n_bad)) ** -3)
    with pytest.warns(UserWarning, match=rf"of {n_bad} of 20 rows \("):
        found = bg.loo(fit_with(heavy, rng, ROWS))
    shapes = found.bad_rows["pareto_k"]
    assert sorted(shapes.index) == sorted(ROWS[:n_bad])
    assert shapes.is_monotonic_decreasing
    assert found.bad_rows.index.name == "obs"
    printed = str(found).split("Rows with k > 0.64:\n")[1]
    assert re.search(
        rf"{shapes.index[0]} +{shapes.iloc[0]:.2f} +none +{shapes.iloc[0]:.2f}", printed
    )
    assert ("... and 2 more in `bad_rows`" in printed) == (n_bad == 12)
    with pytest.warns(UserWarning, match="Pareto shape"):
        short = bg.loo(fit_with(heavy, rng, ROWS), pointwise=False)
    pd.testing.assert_frame_equal(short.bad_rows, found.bad_rows)
    again = pickle.loads(pickle.dumps(found))
    assert str(again) == str(found)


def test_no_row_is_named_where_all_are_good(fit: xr.DataTree) -> None:
    found = bg.loo(fit)
    assert found.bad_rows.empty
    assert "Rows with k" not in str(found)
    xr.testing.assert_identical(found.pareto_k, found.influence_pareto_k)


def test_other_ways_with_bad_rows_are_refused(fit: xr.DataTree) -> None:
    with pytest.raises(ValueError, match=r"^`bad_rows` must be one of 'match', 'report'; got 'x'"):
        bg.loo(fit, bad_rows="x")


# waic


def test_waic_is_the_formula(fit: xr.DataTree, log_likelihood: np.ndarray) -> None:
    terms, p = [], 0.0
    for i in range(N):
        draws = log_likelihood[..., i].ravel().tolist()
        lppd = math.log(sum(math.exp(value) for value in draws) / len(draws))
        mean = sum(draws) / len(draws)
        variance = sum((value - mean) ** 2 for value in draws) / (len(draws) - 1)
        terms.append(lppd - variance)
        p += variance
    result = bg.waic(fit)
    assert isinstance(result, arviz_stats.ELPDData)
    assert result.elpd == pytest.approx(sum(terms), rel=1e-12)
    assert result.p == pytest.approx(p, rel=1e-12)
    assert result.se == pytest.approx(math.sqrt(N * np.var(terms, ddof=1)), rel=1e-12)
    np.testing.assert_allclose(result.elpd_i, terms, rtol=1e-12)
    assert result.elpd_i.indexes["obs"].tolist() == ROWS
    assert (result.n_samples, result.n_data_points, result.warning) == (600, N, False)


def test_waic_is_near_loo_where_both_hold(fit: xr.DataTree) -> None:
    assert bg.waic(fit).elpd == pytest.approx(bg.loo(fit).elpd, abs=0.2)
    assert bg.waic(fit).se == pytest.approx(bg.loo(fit).se, abs=0.2)


def test_waic_says_what_it_is(fit: xr.DataTree) -> None:
    result = bg.waic(fit)
    assert result.kind == "waic"
    assert re.search(r"elpd_waic +-\d+\.\d\d", str(result))
    assert pickle.loads(pickle.dumps(result)).kind == "waic"
    assert bg.waic(fit, pointwise=False).elpd_i is None
    assert bg.loo(fit).kind == "loo"


def test_waic_names_the_rows_whose_variance_is_too_large(
    log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    wide = log_likelihood.copy()
    wide[..., [2, 7]] *= 30.0
    wide[..., 7] += 500.0
    variances = wide.var(axis=(0, 1), ddof=1)
    assert np.flatnonzero(variances > 0.4).tolist() == [2, 7]
    message = (
        r"^The log-likelihood of 2 of 20 rows \(rows r2, r7\) has a posterior variance above 0\.4, "
        rf"up to {variances.max():.2f}: .* Use bayesgmm\.loo instead\."
    )
    with pytest.warns(UserWarning, match=message):
        assert bg.waic(fit_with(wide, rng, ROWS)).warning


# What both refuse

both = pytest.mark.parametrize("function", [bg.loo, bg.waic], ids=lambda f: f.__name__)


@both
@pytest.mark.parametrize("method", ["map", "ml"])
def test_points_are_refused(
    rng: np.random.Generator, function: Callable[..., Any], method: str
) -> None:
    point = fit_with(rng.normal(size=(1, 1, N)), rng, method=method)
    message = (
        rf"^`tree` must hold at least 30 draws .* for `{function.__name__}`; got 1 x 1 of the "
        rf"method '{method}'\. A point has no posterior uncertainty: fit with method='nuts'\."
    )
    with pytest.raises(ValueError, match=message):
        function(point)


@both
@pytest.mark.parametrize("shape", [(4, 7), (20, 3)])
def test_too_few_draws_are_refused(
    rng: np.random.Generator, function: Callable[..., Any], shape: tuple[int, int]
) -> None:
    message = rf"got {shape[0]} x {shape[1]} of the method 'nuts'\. Fit again with more draws\."
    with pytest.raises(ValueError, match=message):
        function(fit_with(rng.normal(size=(*shape, N)), rng))
    with warnings.catch_warnings():  # so few draws that a shape may be too large
        warnings.simplefilter("ignore")
        assert np.isfinite(function(fit_with(rng.normal(-3.0, 0.01, (5, 6, N)), rng)).elpd)


@both
def test_what_is_no_fit_is_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"^`tree` must be a fit.*; got 'fit\.nc'\. Load it first"):
        function("fit.nc")


@both
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_density_that_is_no_number_is_refused(
    log_likelihood: np.ndarray, rng: np.random.Generator, function: Callable[..., Any], value: float
) -> None:
    log_likelihood[2, 150, 7] = value
    message = rf"^`tree` must have a finite .*; got {value} at chain 2, draw 150, row 7\."
    with pytest.raises(ValueError, match=message):
        function(fit_with(log_likelihood, rng))


def test_a_stuck_chain_is_named(log_likelihood: np.ndarray, rng: np.random.Generator) -> None:
    log_likelihood[1] = log_likelihood[1, 0] - 5.0
    message = (
        r"^`tree` must hold draws that differ; got .* all draws of chain 1\. .* chain is stuck"
    )
    with pytest.raises(ValueError, match=message):
        bg.loo(fit_with(log_likelihood, rng))


# compare


@pytest.mark.parametrize("method", ["stacking", "BB-pseudo-BMA", "pseudo-BMA+", "pseudo-BMA"])
@pytest.mark.parametrize("offset", [0.0, -2000.0])
def test_fits_2000_nats_apart(
    log_likelihood: np.ndarray, rng: np.random.Generator, method: str, offset: float
) -> None:
    trees = {
        "bad": fit_with(log_likelihood - 2000.0 / N + offset, rng),
        "good": fit_with(log_likelihood + offset, rng),
    }
    table = bg.compare(trees, method=method)
    assert table.index.tolist() == ["good", "bad"]
    assert table["rank"].tolist() == [0, 1]
    assert table["elpd_diff"].tolist() == pytest.approx([0.0, -2000.0], rel=1e-9)
    assert table["weight"].tolist() == pytest.approx([1.0, 0.0], abs=1e-9)
    assert table["elpd"]["good"] == pytest.approx(bg.loo(trees["good"]).elpd, rel=1e-12)
    assert table["p"]["bad"] == pytest.approx(bg.loo(trees["bad"]).p, rel=1e-9)


def test_the_table_is_that_of_arviz_where_arviz_can_make_it(
    log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    noise = rng.normal(0.0, 0.5, (2, N))
    trees = {
        "a": fit_with(log_likelihood, rng),
        "b": fit_with(log_likelihood + noise[0], rng),
        "c": fit_with(log_likelihood + noise[1], rng),
    }
    results = {name: bg.loo(tree) for name, tree in trees.items()}
    for ours, theirs in (("stacking", "stacking"), ("pseudo-BMA+", "BB-pseudo-BMA")):
        table = bg.compare(trees, method=ours)
        expected = arviz_stats.compare(results, method=theirs, round_to="none")
        pd.testing.assert_frame_equal(table.drop(columns="weight"), expected.drop(columns="weight"))
        np.testing.assert_allclose(table["weight"], expected["weight"], atol=0.02)
        assert table["weight"].sum() == pytest.approx(1.0, abs=1e-8)
    assert table.columns.tolist() == [
        "rank", "elpd_diff", "dse", "p_worse", "diag_diff", "diag_elpd", "p", "elpd", "se", "weight"
    ]  # fmt: skip


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    n_fits=st.integers(2, 6),
    spread=st.sampled_from([0.01, 1.0, 30.0, 1000.0]),
)
def test_stacking_is_optimal_however_far_apart_the_densities(
    seed: int, n_fits: int, spread: float
) -> None:
    """The score is concave: it can rise by no more than its largest slope minus N."""
    rng = np.random.default_rng(seed)
    common = rng.normal(-1000.0, 1.0, N) + 0.01 * rng.normal(size=(2, 25, N))
    shifts = spread * rng.standard_t(2, (n_fits, N))
    trees = {f"{k}": fit_with(common + shifts[k], rng) for k in range(n_fits)}
    weights = bg.compare(trees)["weight"].reindex(trees).to_numpy(float)
    assert np.isfinite(weights).all()
    assert (weights >= 0.0).all()
    assert weights.sum() == pytest.approx(1.0, abs=1e-6)
    density = np.exp(shifts - shifts.max(axis=0))
    slope = (density / (weights @ density)).sum(axis=1)
    assert slope.max() - N < 0.1


def test_rows_that_are_unreliable_are_counted_in_the_table(
    log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    heavy = log_likelihood.copy()
    heavy[..., 3] -= np.log(rng.uniform(size=heavy.shape[:2]) ** -3)
    heavy[0, 5, 7] -= 1000.0
    table = bg.compare({"plain": fit_with(log_likelihood, rng), "heavy": fit_with(heavy, rng)})
    assert table["diag_elpd"]["plain"] == ""
    assert table["diag_elpd"]["heavy"].startswith("2 k")


def other_cell(frame: pd.DataFrame) -> pd.DataFrame:
    changed = frame.copy()
    changed.loc["r7", "b"] = 5.0
    return changed


DIFFERENCES: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "cell": (other_cell, r"-?\d\.\d+ and 5\.0 at row 'r7', column 'b'"),
    "rows": (lambda frame: frame.iloc[:-1], r"20 and 19 along 'obs'"),
    "columns": (lambda frame: frame[["a"]], r"2 and 1 along 'feature'"),
    "label": (lambda frame: frame.rename(index={"r4": "x"}), r"'r4' and 'x' at place 4 along 'o"),
    "order": (lambda frame: frame.iloc[::-1], r"'r0' and 'r19' at place 0 along 'obs'"),
    "name": (lambda frame: frame.rename(columns={"b": "c"}), r"'b' and 'c' at place 1 along 'feat"),
    "type": (lambda frame: frame.reset_index(drop=True), r"'r0' and 0 at place 0 along 'obs'"),
}


@pytest.mark.parametrize(("change", "message"), DIFFERENCES.values(), ids=DIFFERENCES)
def test_fits_of_different_data_are_refused(
    rng: np.random.Generator, change: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    frame = pd.DataFrame(rng.normal(size=(N, 2)), columns=["a", "b"], index=ROWS)
    one, same = random_fit(frame, rng), random_fit(frame.copy(), rng)
    bg.compare({"one": one, "same": same})
    with pytest.raises(
        ValueError,
        match=rf"^`trees` must be fits of the same data; got 'one' and 'odd', .*: {message}",
    ):
        bg.compare({"one": one, "same": same, "odd": random_fit(change(frame), rng)})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda fit: [fit, fit],
            TypeError,
            r"^`trees` must be a dict .*; got an .* type list",
        ),
        (lambda fit: fit, TypeError, r"^`trees` must be a dict .*; got an object of type DataTree"),
        (lambda fit: {}, ValueError, r"^`trees` must hold at least two fits; got 0\."),
        (lambda fit: {"a": fit}, ValueError, r"at least two fits; got 1\. To judge a single one"),
        (lambda fit: {1: fit, 2: fit}, TypeError, r"names that are strings; got 1 of .*Write '1'"),
        (lambda fit: {"a": fit, "b": 3}, TypeError, r"^`trees\['b'\]` must be a fit, .* type int"),
        (
            lambda fit: {"a": fit, "b": fit.isel(chain=0)},
            ValueError,
            r"^`trees\['b'\]` must have the dimensions 'chain' and 'draw' for `compare`; got",
        ),
        (
            lambda fit: {"a": fit, "b": fit.isel(draw=slice(1))},
            ValueError,
            r"^`trees\['b'\]` must hold at least 30 draws .* for `compare`; got 3 x 1 of",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(
    fit: xr.DataTree, make: Callable[[xr.DataTree], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.compare(make(fit))


# Results in place of fits


def test_results_are_compared_as_the_fits_are(
    log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    noise = rng.normal(0.0, 0.5, N)
    trees = {"a": fit_with(log_likelihood, rng), "b": fit_with(log_likelihood + noise, rng)}
    expected = bg.compare(trees)
    for these in (
        {"a": bg.loo(trees["a"]), "b": bg.loo(trees["b"])},
        {"a": trees["a"], "b": bg.loo(trees["b"])},
        {"a": arviz_stats.loo(trees["a"], pointwise=True, reff=1.0), "b": trees["b"]},
    ):
        found = bg.compare(these)
        assert found.index.tolist() == expected.index.tolist()
        np.testing.assert_allclose(found["weight"], expected["weight"], atol=0.02)
    variances = {name: bg.waic(tree) for name, tree in trees.items()}
    table = bg.compare(variances)
    assert table.loc["b", "elpd"] == variances["b"].elpd
    gap = variances["b"].elpd_i.values - variances["a"].elpd_i.values
    assert abs(table["elpd_diff"]).max() == pytest.approx(abs(gap.sum()), rel=1e-9)
    assert table["dse"].max() == pytest.approx((N * gap.var()) ** 0.5, rel=1e-9)


def test_results_that_do_not_go_together_are_refused(
    fit: xr.DataTree, log_likelihood: np.ndarray, rng: np.random.Generator
) -> None:
    message = r"one kind of prediction; got leave-one-out of 'a' and WAIC of 'b'\."
    with pytest.raises(ValueError, match=message):
        bg.compare({"a": fit, "b": bg.waic(fit)})
    with pytest.raises(ValueError, match=message):
        bg.compare({"a": bg.loo(fit), "b": bg.waic(fit)})
    message = r"^`trees\['b'\]` must be what .* got a result 'loo' without them\. Leave `pointwise"
    with pytest.raises(ValueError, match=message):
        bg.compare({"a": fit, "b": bg.loo(fit, pointwise=False)})
    other = random_fit(np.cos(np.arange(N))[:, None], rng, log_likelihood=log_likelihood[:2, :30])
    same_numbers = fit_with(log_likelihood, rng)
    differ = r"^`trees` must be fits of the same data; got 'a' and 'b', which differ: {}\. Fit"
    with pytest.raises(ValueError, match=differ.format("numbers in the rows")):
        bg.compare({"a": bg.loo(same_numbers), "b": other})
    with pytest.raises(ValueError, match=differ.format("'r0' and 0 at place 0 along 'obs'")):
        bg.compare({"a": bg.loo(fit), "b": bg.loo(same_numbers)})
    few = fit_with(log_likelihood[..., :5], rng)
    with pytest.raises(ValueError, match=differ.format("20 and 5 along 'obs'")):
        bg.compare({"a": bg.loo(same_numbers), "b": few})


def test_other_methods_are_refused(fit: xr.DataTree) -> None:
    with pytest.raises(ValueError, match=r"^`method` must be one of 'stacking', .*; got 'stack'"):
        bg.compare({"a": fit, "b": fit}, method="stack")
