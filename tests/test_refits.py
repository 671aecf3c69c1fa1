"""Fits without some rows: against quadrature, what they leave alone, and what is refused."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import held_out, refits
from bayesgmm.moment_matching import Movable
from tests.exact_loo import SPEC, log_predictive
from tests.synthetic import random_fit

X = np.array([0.3, -0.8, 1.1, 0.1, -0.4, 0.6, 5.0, -1.2, 0.9, -0.1])
OUTLIER = 6
QUIET = {"random_seed": 1, "progressbar": False}


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """A fit of one component, with an outlier. No test may change it."""
    frame = pd.DataFrame({"x": X}, index=[f"r{i}" for i in range(X.size)])
    return bg.fit(frame, SPEC, **QUIET)


@pytest.fixture(scope="module")
def exact(tree: xr.DataTree) -> object:
    """Every row left out by a fit."""
    return bg.kfold(tree, folds=X.size, **QUIET)


def test_as_many_folds_as_rows_are_leave_one_out(exact: object) -> None:
    """To five standard errors, 0.05 of the outlier (that of the bridge), 0.004 of the others."""
    difference = np.abs(exact.elpd_i.values - log_predictive(X))  # type: ignore[attr-defined]
    assert difference[OUTLIER] < 0.25
    assert np.delete(difference, OUTLIER).max() < 0.02


def test_rows_that_matter_too_much_are_left_out_by_fits(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Movable, "of_tree", classmethod(lambda cls, tree: None))
    with pytest.warns(UserWarning, match="The Pareto shape k of 1 of 10 rows"):
        before = bg.loo(tree)
    found = bg.reloo(tree, **QUIET)
    assert found.elpd_i.values[OUTLIER] == pytest.approx(log_predictive(X)[OUTLIER], abs=0.25)
    assert found.bad_rows.index.tolist() == ["r6"]
    assert found.bad_rows.loc["r6", ["repair", "pareto_k_now"]].tolist() == ["refit", 0.0]
    assert found.bad_rows.loc["r6", "pareto_k"] == before.pareto_k.values[OUTLIER]
    assert not found.warning
    others = np.arange(X.size) != OUTLIER
    np.testing.assert_array_equal(found.elpd_i[others], before.elpd_i[others])
    assert found.p == pytest.approx(found.p_loo_i.values.sum(), rel=1e-12)
    assert "r6" in str(found)
    assert "refit" in str(found)


def test_rows_that_were_made_good_are_not_fitted_again(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "refit", lambda *args: (fit for fit in ()))
    found, moved = bg.reloo(tree, **QUIET), bg.loo(tree)
    xr.testing.assert_identical(found.elpd_i, moved.elpd_i)
    pd.testing.assert_frame_equal(found.bad_rows, moved.bad_rows)


def test_what_kfold_returns(tree: xr.DataTree) -> None:
    folds = ["b", "a", "c", "d", "e"] * 2
    found = bg.kfold(tree, folds=folds, **QUIET)
    assert found.kind == "loo_kfold"
    assert (found.n_folds, found.n_samples, found.n_data_points) == (5, 4000, 10)
    assert found.elpd_i.indexes["obs"].tolist() == [f"r{i}" for i in range(10)]
    assert found.elpd_i["fold"].values.tolist() == folds
    elpd = found.elpd_i.values
    assert found.elpd == pytest.approx(elpd.sum(), rel=1e-12)
    assert found.se == pytest.approx((10 * elpd.var(ddof=1)) ** 0.5, rel=1e-12)
    in_sample = bg.score_samples(tree).values
    np.testing.assert_allclose(found.p_kfold_i + elpd, in_sample, rtol=1e-9)
    assert "elpd_kfold" in str(found)
    again = bg.kfold(tree, folds=folds, **QUIET)
    xr.testing.assert_identical(again.elpd_i, found.elpd_i)


def test_rows_are_predicted_in_blocks(tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch) -> None:
    folds = ["b", "a", "c", "d", "e"] * 2
    whole = bg.kfold(tree, folds=folds, **QUIET)
    monkeypatch.setattr(held_out, "BLOCK_BYTES", 8 * 8000)  # a row
    np.testing.assert_allclose(bg.kfold(tree, folds=folds, **QUIET).elpd_i, whole.elpd_i, rtol=1e-9)


@pytest.mark.parametrize("method", ["laplace", "telescoping"])
def test_other_methods_are_fitted_again_by_themselves(method: str, tree: xr.DataTree) -> None:
    spec: bg.GaussianMixture | int = 1
    if method == "telescoping":
        spec = bg.GaussianMixture(bg.PriorOnComponents())
    how = {"method": method} if method == "laplace" else {}
    fit = bg.fit(np.delete(X, OUTLIER)[:, None], spec, draws=50, **how, **QUIET)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of so few draws
        found = bg.kfold(fit, folds=2, **QUIET)
        assert found.elpd == pytest.approx(bg.loo(fit).elpd, abs=1.5)


def test_results_are_compared(tree: xr.DataTree, exact: object) -> None:
    same = bg.compare({"one": exact, "same": exact})  # type: ignore[dict-item]
    assert same["elpd_diff"].tolist() == [0.0, 0.0]
    with pytest.raises(
        ValueError,
        match=r"^`trees` must be judged by one kind of prediction; got k-fold cross-validation of "
        r"'a' and leave-one-out of 'b'\.",
    ):
        bg.compare({"a": exact, "b": tree})  # type: ignore[dict-item]
    fifths = bg.kfold(tree, folds=5, **QUIET)
    with pytest.raises(ValueError, match=r"in the same folds; got others of 'a' than of 'b'"):
        bg.compare({"a": exact, "b": fifths})  # type: ignore[dict-item]


def test_fits_that_are_not_to_be_trusted_are_told(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = bg.check(tree)
    bad = type(report)(False, "Not converged.", {}, ())
    reports = iter([report, bad])
    monkeypatch.setattr(held_out, "check", lambda fit: next(reports))
    with pytest.warns(
        bg.ConvergenceWarning,
        match=r"^1 of 2 fits are not to be trusted; without fold [01]: Not converged\.",
    ):
        assert bg.kfold(tree, folds=2, **QUIET).warning


# What is refused, before any fit


def test_what_cannot_be_fitted_again_is_refused(
    tree: xr.DataTree, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("nothing may be fitted")

    monkeypatch.setattr(held_out, "refit", never)
    for function in (bg.kfold, bg.reloo):
        name = function.__name__
        with pytest.raises(TypeError, match=r"^`tree` must be a fit, .*; got an .* of type int\."):
            function(3)  # type: ignore[operator]
        message = rf"^`tree` must be the fit of its specification to its rows for `{name}`, .*lp"
        with pytest.raises(ValueError, match=message):
            function(tree.isel(obs=slice(1, None)))  # type: ignore[operator]
        with pytest.raises(ValueError, match=r"^`random_seed` must be at least 0; got -1"):
            function(tree, random_seed=-1)  # type: ignore[operator]
        point = bg.fit(X[:, None], 1, method="map", **QUIET)
        with pytest.raises(ValueError, match=rf"at least 30 draws .* for `{name}`; got 1 x 1 of"):
            function(point)  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"^`folds` must be at most 10, the rows; got 11\."):
        bg.kfold(tree, folds=11)
    approximate = random_fit(X[:, None], rng, n_components=1)
    approximate.attrs["resampled"] = 0
    monkeypatch.setattr(refits, "gap_in_density", lambda tree, lp: 0.0)
    with pytest.raises(ValueError, match=r"^`tree` must hold draws of the posterior for `reloo`"):
        bg.reloo(approximate)


@pytest.mark.parametrize(
    ("n_components", "name", "message"),
    [
        (2, "b", "vary in every column; got the same number in all 3 rows of 'x1'"),
        (4, "a", r"have at least as many rows as there are components, 4; got shape \(3, 2\)"),
    ],
)
def test_folds_that_leave_nothing_to_fit_are_refused(
    n_components: int,
    name: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> None:
    x = np.column_stack([np.arange(6.0), [0.0, 0.0, 0.0, 2.0, 5.0, 1.0]])
    fit = random_fit(x, rng, n_components=n_components)
    monkeypatch.setattr(refits, "gap_in_density", lambda tree, lp: 0.0)
    monkeypatch.setattr(held_out, "refit", None)
    told = (
        rf"^`kfold` must be left with rows that can be fitted; got, without fold {name}: `X` must "
    )
    with pytest.raises(ValueError, match=told + message):
        bg.kfold(fit, folds=list("aaabbb"))
