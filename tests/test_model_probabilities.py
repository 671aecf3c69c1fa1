"""Probabilities of numbers of components: Bayes' theorem, its errors, and bad input."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.evidence import Evidence
from tests import exact_evidence
from tests.test_evidence import LOCATION, TAU, WIDTH, fitted, rows, specification


def known(value: float, error: float, k: int, data: str = "same") -> Evidence:
    return Evidence(value=value, error=error, laplace=value, n_components=k, data=data)


@pytest.fixture(scope="module")
def trees() -> dict[int, xr.DataTree]:
    return {k: fitted(rows(9), specification(k)) for k in (1, 2, 3)}


def test_the_exact_posterior(trees: dict[int, xr.DataTree]) -> None:
    """Where labels matter: a factor of K! too much or too little would show."""
    exact = np.array([
        exact_evidence.own_scales(rows(9)[:, 0], np.ones(k), LOCATION, WIDTH, TAU) for k in trees
    ])  # fmt: skip
    wanted = np.exp(exact - np.logaddexp.reduce(exact))
    found = bg.posterior_over_components(trees, random_seed=1)
    assert found["n_components"].values.tolist() == [1, 2, 3]
    assert found["probability"].values.sum() == pytest.approx(1.0)
    gap = np.abs(found["probability"].values - wanted)
    assert (gap < 5.0 * found["probability_error"].values).all()
    assert found["probability_error"].values.max() < 0.02
    assert wanted.min() > 0.1  # so that a factor of 2 would be seen


def test_bayes_theorem() -> None:
    fits = {2: known(-10.0, 0.0, 2), 3: known(-10.0 + np.log(3.0), 0.0, 3)}
    found = bg.posterior_over_components(fits)
    np.testing.assert_allclose(found["probability"], [0.25, 0.75])
    np.testing.assert_allclose(found["prior_probability"], [0.5, 0.5])
    found = bg.posterior_over_components(fits, prior={3: 0.1, 2: 0.9})
    np.testing.assert_allclose(found["probability"], [0.75, 0.25])
    found = bg.posterior_over_components(fits, prior={2: 1.0, 3: 0.0})
    np.testing.assert_allclose(found["probability"], [1.0, 0.0])
    alone = bg.posterior_over_components({2: fits[2]})
    assert alone["probability"].item() == 1.0
    assert alone["probability_error"].item() == 0.0


def test_nothing_underflows() -> None:
    fits = {1: known(-1e6, 0.1, 1), 2: known(-1e5, 0.1, 2)}
    found = bg.posterior_over_components(fits)
    assert found["probability"].values.tolist() == [0.0, 1.0]
    assert found["log_evidence"].values.tolist() == [-1e6, -1e5]


def test_errors_are_propagated(rng: np.random.Generator) -> None:
    values, errors = np.array([0.0, 0.7, -0.4]), np.array([0.02, 0.03, 0.01])
    fits = {k: known(values[k - 1], errors[k - 1], k) for k in (1, 2, 3)}
    drawn = values + errors * rng.normal(size=(20_000, 3))
    probability = np.exp(drawn - np.logaddexp.reduce(drawn, axis=1, keepdims=True))
    found = bg.posterior_over_components(fits)
    np.testing.assert_allclose(found["probability_error"], probability.std(axis=0), rtol=0.03)
    np.testing.assert_allclose(found["log_evidence_error"], errors)


def test_evidences_and_fits_are_the_same(trees: dict[int, xr.DataTree]) -> None:
    first = {k: trees[k] for k in (1, 2)}
    evidences = {k: bg.log_evidence(tree, random_seed=1) for k, tree in first.items()}
    mixed = bg.posterior_over_components({1: evidences[1], 2: first[2]}, random_seed=1)
    found = bg.posterior_over_components(evidences)
    gap = np.abs(mixed["probability"] - found["probability"]).values
    assert (gap < 5.0 * found["probability_error"].values).all()
    again = bg.posterior_over_components({1: evidences[1], 2: first[2]}, random_seed=1)
    xr.testing.assert_identical(mixed, again)


GOOD = {2: known(0.0, 0.1, 2), 3: known(1.0, 0.1, 3)}


@pytest.mark.parametrize(
    ("fits", "prior", "error", "message"),
    [
        ([1], None, TypeError, r"`fits` must be a dict of fits by number .* type list"),
        ({}, None, ValueError, r"`fits` must hold at least one fit; got none"),
        ({"two": GOOD[2]}, None, TypeError, r"`fits` must be an integer; got 'two'"),
        ({0: GOOD[2]}, None, ValueError, r"`fits` must be at least 1; got 0"),
        ({3: GOOD[2]}, None, ValueError, r"`fits\[3\]` must have 3 components; got 2\. Write {2:"),
        ({2: 4.0}, None, TypeError, r"`fits\[2\]` must be a fit, .* type float"),
        (
            {**GOOD, 4: known(0.0, 0.1, 4, "other")},
            None,
            ValueError,
            r"`fits` must be of the same data; got those of 2 and 4 components",
        ),
        (GOOD, [0.5, 0.5], TypeError, r"`prior` must be a dict .* type list"),
        (GOOD, {2: 1.0}, ValueError, r"`prior` must give .* \[2, 3\]; got them of \[2\]"),
        (GOOD, {2: 0.5, 3: 0.6}, ValueError, r"`prior` must sum to 1; got 1\.1\. Divide"),
        (GOOD, {2: 1.5, 3: -0.5}, ValueError, r"`prior` must hold .* got -0\.5 of 3 components"),
        (GOOD, {2: np.nan, 3: 1.0}, ValueError, r"`prior` must hold .* got nan of 2 components"),
    ],
)
def test_bad_input_is_refused(fits: Any, prior: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        bg.posterior_over_components(fits, prior=prior)


def test_fits_without_an_evidence_are_refused() -> None:
    point = fitted(rows(20), specification(2), method="map")
    with pytest.raises(ValueError, match=r"`fits\[2\]` must hold .* `posterior_over_components`"):
        bg.posterior_over_components({1: GOOD[2], 2: point} | {1: known(0.0, 0.1, 1)})
