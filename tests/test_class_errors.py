"""Confusion matrices and the calibration of class probabilities."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm import class_errors
from bayesgmm.classifier import FittedClassifier

type Array = np.ndarray

SHORT: dict[str, Any] = {"draws": 100, "chains": 2, "random_seed": 1, "progressbar": False}


def rows(rng: np.random.Generator, n_obs: int) -> tuple[pd.DataFrame, Array]:
    """Return rows of three classes of which two overlap."""
    y = rng.choice(["a", "b", "c"], n_obs, p=[0.5, 0.3, 0.2])
    centre = pd.Series({"a": 0.0, "b": 1.5, "c": 6.0})[y].to_numpy()
    return pd.DataFrame({"x": rng.normal(centre)}), y


@pytest.fixture(scope="module")
def fitted() -> FittedClassifier:
    return bg.MixtureClassifier().fit(*rows(np.random.default_rng(0), 60), **SHORT)


def test_the_matrices_are_means_over_the_rows_of_a_class(
    fitted: FittedClassifier, rng: np.random.Generator
) -> None:
    X, y = rows(rng, 80)
    found = bg.confusion(fitted, X, y, random_seed=1)
    said = fitted.predict_proba(X)["probability"].values
    decided = fitted.predict(X).values
    for a in "abc":
        of_class = found.sel({"class": a})
        np.testing.assert_allclose(of_class["probability"], said[y == a].mean(axis=0))
        shares = [(decided[y == a] == b).mean() for b in "abc"]
        np.testing.assert_allclose(of_class["decided"], shares)
        assert of_class["n_rows"] == (y == a).sum()
    np.testing.assert_allclose(found[["decided", "probability"]].sum("predicted").to_array(), 1.0)
    assert found["predicted"].values.tolist() == ["a", "b", "c"]


def test_the_spread_is_of_the_draws_and_of_the_rows(
    fitted: FittedClassifier, rng: np.random.Generator
) -> None:
    X, y = rows(rng, 200)
    found = bg.confusion(fitted, X, y, random_seed=1)
    (_, drawn), = fitted.drawn(X.to_numpy(), None)  # fmt: skip
    for a, label in enumerate("abc"):
        mine = drawn[:, y == label]
        n = mine.shape[1]
        of_draws = mine.mean(axis=1).var(axis=0)
        of_rows = (mine.var(axis=1) / (n + 1)).mean(axis=0)  # a flat Dirichlet's weights
        error = 5.0 / (2 * len(drawn)) ** 0.5  # relative, of a standard deviation
        np.testing.assert_allclose(found["sd"][a], np.sqrt(of_draws + of_rows), rtol=1.5 * error)
    interval, mean = found["probability_interval"], found["probability"]
    assert (interval.sel(ci_bound="lower") < mean).all()
    assert (interval.sel(ci_bound="upper") > mean).all()


def test_blocks_do_not_matter_and_a_seed_repeats(
    fitted: FittedClassifier, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = rows(rng, 50)
    found = bg.confusion(fitted, X, y, random_seed=1)
    monkeypatch.setattr("bayesgmm.classifier.BLOCK_BYTES", 8 * fitted.shares.size * 7)
    monkeypatch.setattr(class_errors, "ROWS", 3)
    xr.testing.assert_allclose(bg.confusion(fitted, X, y, random_seed=1), found)
    assert not bg.confusion(fitted, X, y, random_seed=2)["sd"].equals(found["sd"])


def test_a_point_has_the_spread_of_the_rows_and_a_class_without_rows_has_none(
    rng: np.random.Generator,
) -> None:
    X, y = rows(rng, 60)
    point = bg.MixtureClassifier().fit(X, y, method="map", random_seed=1)
    found = bg.confusion(point, X[y != "c"], y[y != "c"], random_seed=1)
    assert found["sd"].sel({"class": "a", "predicted": "b"}) > 0.01
    assert found["n_rows"].values.tolist() == [(y == "a").sum(), (y == "b").sum(), 0]
    for name in ("decided", "probability", "sd", "probability_interval"):
        assert found[name].sel({"class": "c"}).isnull().all()
    rare = bg.confusion(point, X, y, shares={"a": 1e-9, "b": 1.0, "c": 1.0}, random_seed=1)
    assert rare["probability"].sel(predicted="a").max() < 0.01


def said(rng: np.random.Generator, n_obs: int) -> tuple[xr.DataArray, Array]:
    """Return probabilities of three classes, and classes that are drawn from them."""
    p = rng.dirichlet([0.5, 1.0, 1.5], n_obs)
    y = (rng.random((n_obs, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return xr.DataArray(p, {"component": range(3)}, ("obs", "component")), y


def test_shares_are_those_of_pooling_adjacent_violators() -> None:
    p = np.array([0.1, 0.2, 0.3, 0.4])
    both = xr.DataArray(np.stack([p, 1.0 - p], axis=1), {"class": ["y", "n"]}, ("obs", "class"))
    found = bg.reliability(both, ["n", "y", "n", "n"], random_seed=1)
    # True among 0.1, 0.2, 0.3, 0.4: 0, 1, 0, 0, pooled to 0, 1/3, 1/3, 1/3; the rest mirrors it.
    np.testing.assert_allclose(found["level"], [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(found["share"], [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 2 / 3, 1])
    true = np.array([0, 1, 0, 0, 1, 1, 0, 1])
    level, share = found["level"].values, found["share"].values
    gain = np.mean((level - true) ** 2) - np.mean((share - true) ** 2)
    assert found["miscalibration"] == pytest.approx(gain)
    assert found["counts"].values.tolist() == [1] * 8


def test_right_probabilities_are_told_from_sharpened_ones(rng: np.random.Generator) -> None:
    right, y = said(rng, 400)
    found = bg.reliability(right, y, random_seed=1)
    band = found["band"]
    inside = (found["share"] >= band[:, 0]) & (found["share"] <= band[:, 1])
    assert found["p_value"] > 0.01
    assert inside.mean() > 0.7
    sharp = right**3 / (right**3).sum("component")
    wrong = bg.reliability(sharp, y, random_seed=1)
    assert wrong["p_value"] < 0.002
    assert wrong["miscalibration"] > 3 * found["miscalibration"]
    assert bg.reliability(right, y, random_seed=1).identical(found)


def test_p_values_of_right_probabilities_are_uniform(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_errors, "SIMULATIONS", 99)
    found = np.array([
        bg.reliability(*said(rng, 40), random_seed=seed)["p_value"].item() for seed in range(150)
    ])  # fmt: skip
    assert abs(found.mean() - 0.505) < 5.0 * (1 / 12 / 150) ** 0.5
    assert abs((found <= 0.2).mean() - 0.2) < 5.0 * (0.16 / 150) ** 0.5


def test_what_predict_proba_returns_is_taken(
    fitted: FittedClassifier, rng: np.random.Generator
) -> None:
    X, y = rows(rng, 40)
    whole = fitted.predict_proba(X)
    found = bg.reliability(whole, pd.Series(y), random_seed=1)
    assert found.identical(bg.reliability(whole["probability"].T, y, random_seed=1))
    assert found["counts"].sum() == 3 * 40
    assert found.attrs["n_rows"] == 40


def test_what_is_no_class_is_refused(fitted: FittedClassifier, rng: np.random.Generator) -> None:
    X, y = rows(rng, 5)
    with pytest.raises(ValueError, match=r"`y` must hold one .* 'a', 'b', 'c' .* got 'd' \(row 3"):
        bg.confusion(fitted, X, [*y[:3], "d", "a"])
    with pytest.raises(ValueError, match=r"`y` must have an entry for each of the 5 rows"):
        bg.confusion(fitted, X, y[:3])
    with pytest.raises(TypeError, match="`classifier` must be fitted; got .* MixtureClassifier"):
        bg.confusion(bg.MixtureClassifier(), X, y)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"`y` must hold one of the classes 0, 1, 2 .* got 7"):
        bg.reliability(said(rng, 3)[0], [0, 1, 7])


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ([[0.5, 0.5]], TypeError, "`probability` must be a DataArray or hold one .* type list"),
        (xr.Dataset({"X": 1}), TypeError, "`probability` must be a DataArray or hold one"),
        (
            xr.DataArray([[0.5, 0.5]], dims=("obs", "feature")),
            ValueError,
            r"`probability` must have the dimensions .* got \('obs', 'feature'\)",
        ),
        (
            xr.DataArray([[0.5, 0.6]], {"class": [0, 1]}, ("obs", "class")),
            ValueError,
            r"`probability` must have rows that are positive and sum to 1; got .* \(row 0\)",
        ),
        (
            xr.DataArray([[np.nan, 0.6]], {"class": [0, 1]}, ("obs", "class")),
            ValueError,
            r"`probability` must have rows that are positive and sum to 1; got .* \(row 0\)",
        ),
    ],
)
def test_what_are_no_probabilities_is_refused(wrong: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        bg.reliability(wrong, [0])
