"""Features given others: against ratios of densities, and against each other."""

import json

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayesgmm as bg
from bayesgmm.tree import check_schema
from tests.synthetic import random_fit

LABELS = ["a", "b", "c"]


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    """Two draws of which have an empty component, as where their number has a prior."""
    rng = np.random.default_rng(3)
    fit = random_fit(
        pd.DataFrame(rng.normal(size=(40, 3)), columns=LABELS), rng, n_components=3, draws=10
    )
    weights = fit["posterior"]["weights"].copy(deep=True)
    weights[:, 4, 1] = 0.0
    fit["posterior"]["weights"] = weights / weights.sum("component")
    return fit


def test_a_conditional_is_a_fit_of_the_others(tree: xr.DataTree) -> None:
    found = bg.conditional(tree, {"b": 0.7})
    check_schema(found)
    assert found["posterior"]["feature"].values.tolist() == ["a", "c"]
    assert found.attrs["derived"] == "conditional"
    assert json.loads(found.attrs["given"]) == {"b": 0.7}
    np.testing.assert_allclose(found["posterior"]["weights"].sum("component"), 1.0, rtol=1e-12)
    assert (found["posterior"]["weights"][:, 4, 1] == 0.0).all()
    diagonal = np.einsum("...ii->...i", found["posterior"]["correlations"].values)
    np.testing.assert_array_equal(diagonal, 1.0)
    with pytest.raises(ValueError, match=r"`tree` must be a fit for `loo`.* a conditional of one"):
        bg.loo(found)


@pytest.mark.parametrize("b", [0.7, -3.0])
def test_its_density_is_a_ratio_of_densities(tree: xr.DataTree, b: float) -> None:
    """In every draw f(a, b) / f(b)."""
    grid = np.linspace(-3.0, 3.0, 7)
    joint = bg.density(tree, {"a": grid, "b": [b]}, probability=None).isel(b=0, drop=True)
    alone = bg.density(tree, {"b": [b]}, probability=None).isel(b=0, drop=True)
    found = bg.density(bg.conditional(tree, {"b": b}), {"a": grid}, probability=None)
    xr.testing.assert_allclose(found, joint / alone, rtol=1e-9)


def test_covariances_are_schur_complements(tree: xr.DataTree) -> None:
    covariances = tree["posterior"]["covariances"].values
    found = bg.conditional(tree, {"c": 0.2, "a": -1.0})["posterior"]
    given, cross = covariances[..., [2, 0], :][..., [2, 0]], covariances[..., [1], :][..., [2, 0]]
    gains = cross @ np.linalg.inv(given)
    expected = covariances[..., 1, 1] - (gains @ cross.swapaxes(-1, -2))[..., 0, 0]
    np.testing.assert_allclose(found["covariances"].values[..., 0, 0], expected, rtol=1e-9)
    np.testing.assert_allclose(found["scales"].values[..., 0], np.sqrt(expected), rtol=1e-9)
    means = tree["posterior"]["means"].values
    away = np.array([0.2, -1.0]) - means[..., [2, 0]]
    expected = means[..., 1] + np.einsum("...ij,...j->...i", gains, away)[..., 0]
    np.testing.assert_allclose(found["means"].values[..., 0], expected, rtol=1e-9, atol=1e-12)


def test_order_does_not_matter(tree: xr.DataTree) -> None:
    one = bg.marginal(bg.conditional(tree, {"b": 0.7}), "c")["posterior"].dataset
    other = bg.conditional(bg.marginal(tree, ["c", "b"]), {"b": 0.7})["posterior"].dataset
    xr.testing.assert_allclose(one, other, rtol=1e-9)
    twice = bg.conditional(bg.conditional(tree, {"b": 0.7}), {"a": 0.1})
    once = bg.conditional(tree, {"a": 0.1, "b": 0.7})
    xr.testing.assert_allclose(twice["posterior"].dataset, once["posterior"].dataset, rtol=1e-9)
    assert json.loads(twice.attrs["given"]) == json.loads(once.attrs["given"])


@pytest.mark.parametrize("far", [1e3, -1e30])
def test_far_from_all_components_weights_are_right(tree: xr.DataTree, far: float) -> None:
    """There the widest component has all of the weight."""
    found = bg.conditional(tree, {"a": far})["posterior"]
    there = tree["posterior"]["weights"].values > 0.0
    widest = np.where(there, tree["posterior"]["scales"].values[..., 0], 0.0).argmax(axis=-1)
    np.testing.assert_array_equal(found["weights"].argmax("component"), widest)
    assert all(np.isfinite(found[name]).all() for name in found)


@pytest.mark.parametrize("structure", ["tied", "diag", "spherical", "tied_correlation"])
def test_structures_keep(structure: str) -> None:
    """What components share they share given a feature, so that the table is as short."""
    spec = bg.GaussianMixture(2, covariance=bg.LKJCovariance(structure=structure))
    rows = np.random.default_rng(1).normal(size=(60, 3)) * [1.0, 2.0, 3.0]
    rows[:30] += 4.0
    tree = bg.fit(pd.DataFrame(rows, columns=LABELS), spec, method="map", random_seed=1)
    found = bg.conditional(tree, {"a": 1.0})
    posterior = found["posterior"]
    if structure in ("tied",):
        assert float(posterior["scales"].std("component").max()) < 1e-12
    if structure in ("tied", "tied_correlation"):
        assert float(posterior["correlations"].std("component").max()) < 1e-12
    if structure == "spherical":
        assert float(posterior["scales"].std("feature").max()) < 1e-12
    if structure in ("diag", "spherical"):
        kept = tree["posterior"].dataset.isel(feature=[1, 2], feature2=[1, 2])
        names = ["means", "covariances"]
        xr.testing.assert_allclose(posterior.dataset[names], kept[names], rtol=1e-12)
    assert "weights[0]" in bg.summary(found).index


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ([1.0], TypeError, r"`given` must be a dictionary .* type list\. Write {'a': value}"),
        ({}, ValueError, r"`given` must name some .* got 0 of 3\. Give a value of one"),
        ({"a": 1, "b": 1, "c": 1}, ValueError, r"`given` must name some .* got 3 of 3\. Leave one"),
        ({"bb": 1.0}, ValueError, r"`given` must name features .* got 'bb'\. Did you mean 'b'\?"),
        ({"a": [1.0]}, TypeError, r"`given` must hold a number .* type list for 'a'\. .*regress"),
        ({"a": True}, TypeError, r"`given` must hold a number .* type bool for 'a'"),
        ({"a": np.nan}, ValueError, r"`given` must hold finite numbers .*; got nan for 'a'\."),
        ({"a": -np.inf}, ValueError, r"`given` must hold finite numbers .*; got -inf for 'a'\."),
        ({"c": 1e120}, ValueError, r"`given` must hold finite numbers within 1e\+100 .*1e\+120 fo"),
    ],
)
def test_bad_points_are_refused(
    tree: xr.DataTree, given: object, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        bg.conditional(tree, given)


def test_what_is_not_a_fit_is_refused(tree: xr.DataTree) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, .* type int"):
        bg.conditional(3, {"a": 1.0})
    with pytest.raises(ValueError, match=r"`tree` must have the dimensions .* `conditional`"):
        bg.conditional(tree.isel(draw=0), {"a": 1.0})
