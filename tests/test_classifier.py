"""A mixture for every class: discriminant analysis, with the spread of its probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

import bayesgmm as bg
from bayesgmm import classifier
from bayesgmm.errors import FitError

type Array = np.ndarray

POINT: dict[str, Any] = {"method": "ml", "random_seed": 1}


def two_classes(rng: np.random.Generator, n_obs: int = 120) -> tuple[pd.DataFrame, Array]:
    """Return rows of a class of two clusters about one of a single cluster, and their classes."""
    y = np.where(np.arange(n_obs) % 3 == 0, "inner", "outer")
    X = rng.normal(size=(n_obs, 2))
    X[:, 0] += np.where(y == "inner", 0.0, np.where(np.arange(n_obs) % 3 == 1, -4.0, 4.0))
    return pd.DataFrame(X, columns=["a", "b"], index=[f"r{i}" for i in range(n_obs)]), y


def test_one_component_each_is_quadratic_discriminant_analysis(rng: np.random.Generator) -> None:
    X, y = two_classes(rng)
    fitted = bg.MixtureClassifier(concentration=2.0).fit(X, y, **POINT)
    found = fitted.predict_proba(X)
    shares = np.array([40 + 2, 80 + 2]) / (120 + 4)
    joint = np.stack([
        multivariate_normal(X[y == c].mean(), np.cov(X[y == c].T, bias=True)).pdf(X) * share
        for c, share in zip(("inner", "outer"), shares, strict=True)
    ], axis=1)  # fmt: skip
    wanted = joint / joint.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found["probability"], wanted, rtol=1e-8, atol=1e-12)
    assert found["class"].values.tolist() == ["inner", "outer"]
    assert found["obs"].values.tolist() == X.index.tolist()
    assert not found["sd"].values.any()  # a point has no spread
    prior = fitted.predict_proba(X, shares={"outer": 3.0, "inner": 1.0})["probability"].values
    joint *= np.array([0.25, 0.75]) / shares
    np.testing.assert_allclose(prior, joint / joint.sum(axis=1, keepdims=True), rtol=1e-8)


def test_classes_may_have_any_shape(rng: np.random.Generator) -> None:
    X, y = two_classes(rng)
    spec = {"inner": 1, "outer": bg.GaussianMixture(2)}
    fitted = bg.MixtureClassifier(spec).fit(X, y, **POINT)
    assert (fitted.predict(X).values == y).mean() > 0.9
    assert {c: tree.posterior.sizes["component"] for c, tree in fitted.fits.items()} == {
        "inner": 1, "outer": 2,
    }  # fmt: skip
    assert fitted.predict(X).dims == ("obs",)


def test_probabilities_have_a_spread(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = two_classes(rng, 60)
    few = bg.MixtureClassifier().fit(X, y, draws=60, chains=2, random_seed=1, progressbar=False)
    assert few.shares.shape == (120, 2)
    error = 5.0 * few.shares[:, 0].std() / 120**0.5
    assert abs(few.shares[:, 0].mean() - 21 / 62) < error
    found = few.predict_proba(X)
    np.testing.assert_allclose(found["probability"].sum("class"), 1.0)
    interval = found["probability_interval"]
    assert (interval.sel(ci_bound="lower") <= interval.sel(ci_bound="upper")).all()
    assert found["sd"].values.max() > 0.02
    monkeypatch.setattr(classifier, "BLOCK_BYTES", 8 * few.shares.size * 7)  # seven rows at a time
    assert few.predict_proba(X).equals(found)
    same = bg.MixtureClassifier().fit(X, y, draws=60, chains=2, random_seed=1, progressbar=False)
    assert same.predict_proba(X).identical(found)


def test_weights_are_rows_repeated(rng: np.random.Generator) -> None:
    X, y = two_classes(rng)
    times = rng.integers(1, 3, 120)
    again = X.loc[np.repeat(X.index, times)].to_numpy()
    weighted = bg.MixtureClassifier().fit(X.to_numpy(), y, sample_weight=times, **POINT)
    repeated = bg.MixtureClassifier().fit(again, np.repeat(y, times), **POINT)
    np.testing.assert_allclose(weighted.shares, repeated.shares)
    one, other = (which.predict_proba(X.to_numpy()) for which in (weighted, repeated))
    np.testing.assert_allclose(one["probability"], other["probability"], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["c.nc", "c.zarr"])
@pytest.mark.parametrize("numbered", [False, True])
def test_a_saved_classifier_says_the_same(
    name: str, numbered: bool, tmp_path: Path, rng: np.random.Generator
) -> None:
    X, y = two_classes(rng)
    classes = np.where(y == "inner", 3, 7) if numbered else y
    fitted = bg.MixtureClassifier().fit(X, classes, **POINT)
    fitted.save(tmp_path / name)
    loaded = bg.MixtureClassifier.load(tmp_path / name)
    assert list(loaded.fits) == sorted(set(classes.tolist()))
    for label, tree in loaded.fits.items():
        assert tree.identical(fitted.fits[label])
    assert loaded.predict_proba(X).identical(fitted.predict_proba(X))
    with pytest.raises(ValueError, match=r"without the group|not a fit"):
        bg.load(tmp_path / name)


def test_a_fit_is_no_classifier(tmp_path: Path, rng: np.random.Generator) -> None:
    X, _ = two_classes(rng)
    bg.save(bg.fit(X, 1, **POINT), tmp_path / "fit.nc")
    with pytest.raises(ValueError, match=r"`path` must be a classifier .* got .*fit.nc', which is"):
        bg.MixtureClassifier.load(tmp_path / "fit.nc")


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (["a"] * 6, ValueError, r"`y` must hold two classes at least; got 'a' alone"),
        (["a", "b", None, "a", "b", "b"], ValueError, r"a class for every row; got none at row 2"),
        ([0.5, 1.5, 0.5, 1.5, 0.5, 1.5], TypeError, r"strings or integers, of one kind; got 'floa"),
        (np.array(["a", 1] * 3, dtype=object), TypeError, r"of one kind; got 'int', 'str'"),
        (["a", "b"], ValueError, r"`y` must have an entry for each of the 6 rows"),
        ([["a"]] * 6, ValueError, r"`y` must hold one class for each of the 6 rows; got shape"),
    ],
)
def test_what_is_no_class_is_refused(y: Any, error: type[Exception], message: str) -> None:
    X = np.random.default_rng(0).normal(size=(6, 1))
    with pytest.raises(error, match=message):
        bg.MixtureClassifier().fit(X, y)


def test_what_does_not_suit_the_classes_is_refused(rng: np.random.Generator) -> None:
    X, y = two_classes(rng)
    with pytest.raises(TypeError, match=r"`spec` must be a number of components.* got 'full'"):
        bg.MixtureClassifier("full")
    with pytest.raises(ValueError, match=r"`concentration` must be positive and finite; got -1"):
        bg.MixtureClassifier(concentration=-1.0)
    with pytest.raises(ValueError, match=r"an entry for each of the classes 'inner', 'outer'; got"):
        bg.MixtureClassifier({"inner": 1}).fit(X, y)
    fitted = bg.MixtureClassifier().fit(X, y, **POINT)
    with pytest.raises(ValueError, match=r"`shares` must have a number for each .* got 'inner'"):
        fitted.predict_proba(X, shares={"inner": 1.0})
    with pytest.raises(ValueError, match=r"`X_new` must have the 2 fitted columns"):
        fitted.predict_proba(X[["b", "a"]])


def test_a_class_that_is_not_among_the_new_rows_has_no_probability(
    rng: np.random.Generator,
) -> None:
    X, y = two_classes(rng)
    fitted = bg.MixtureClassifier().fit(X, y, **POINT)
    alone = fitted.predict_proba(X, shares={"inner": 0.0, "outer": 2})["probability"]
    np.testing.assert_array_equal(alone, np.tile([0.0, 1.0], (len(X), 1)))
    with pytest.raises(ValueError, match=r"`shares` must be above 0 for one class .*; got none"):
        fitted.predict_proba(X, shares={"inner": 0.0, "outer": 0})
    with pytest.raises(ValueError, match=r"`shares` must be positive and finite; got -1"):
        fitted.predict_proba(X, shares={"inner": -1.0, "outer": 1})


def test_a_classifier_of_fewer_draws(rng: np.random.Generator) -> None:
    X, y = two_classes(rng)
    fitted = bg.MixtureClassifier().fit(X, y, draws=100, chains=2, random_seed=1, progressbar=False)
    few = fitted.thin(7)
    assert few.shares.shape == (2 * 15, 2)
    assert {tree["posterior"].sizes["draw"] for tree in few.fits.values()} == {15}
    found, whole = few.predict_proba(X[:9]), fitted.predict_proba(X[:9])
    error = 5.0 * whole["sd"] / 30**0.5 + 1e-6
    assert (abs(found["probability"] - whole["probability"]) < error).all()
    with pytest.raises(ValueError, match=r"`every` must be at least 1; got 0"):
        fitted.thin(0)


def test_a_class_that_cannot_be_fitted_is_named(rng: np.random.Generator) -> None:
    X, y = two_classes(rng)
    y[:] = "outer"
    y[:2] = "inner"
    with pytest.raises(FitError, match=r"collapsed") as caught:
        bg.MixtureClassifier().fit(X, y, **POINT)
    assert caught.value.__notes__ == ["The rows are those of class 'inner'."]
