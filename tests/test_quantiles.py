"""Distribution functions and quantiles of features: against SciPy and against each other."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm

import bayesgmm as bg
from tests.synthetic import random_fit


@pytest.fixture(scope="module")
def tree() -> xr.DataTree:
    rng = np.random.default_rng(3)
    X = pd.DataFrame(rng.normal(size=(40, 2)), columns=["a", "b"])
    fit = random_fit(X, rng, n_components=3, draws=12)
    weights = fit["posterior"]["weights"].copy(deep=True)
    weights[:, 4, 1] = 0.0
    fit["posterior"]["weights"] = weights / weights.sum("component")
    return fit


def test_cdf_against_scipy(tree: xr.DataTree) -> None:
    places = np.array([-9.0, -1.0, 0.5, 3.0])
    drawn = bg.cdf(tree, places, feature="b", probability=None)
    assert drawn.dims == ("chain", "draw", "b")
    np.testing.assert_array_equal(drawn["b"], places)
    posterior = tree["posterior"]
    law = norm(posterior["means"].values[..., 1, None], posterior["scales"].values[..., 1, None])
    expected = (posterior["weights"].values[..., None] * law.cdf(places)).sum(axis=2)
    np.testing.assert_allclose(drawn, expected, rtol=1e-12)
    found = bg.cdf(tree, places, feature="b", probability=0.8)
    assert found["statistic"].values.tolist() == ["predictive", "lower", "upper"]
    np.testing.assert_allclose(found[0], drawn.mean(("chain", "draw")), rtol=1e-12)
    band = np.quantile(drawn.values.reshape(24, -1), [0.1, 0.9], axis=0)
    np.testing.assert_allclose(found[1:], band, rtol=1e-12)


def test_they_invert_each_other(tree: xr.DataTree) -> None:
    shares = np.array([1e-12, 0.01, 0.3, 0.5, 0.9, 0.999])
    places = bg.quantile(tree, shares, feature="a")
    assert places.dims == ("statistic", "quantile")
    assert places["statistic"].values.tolist() == ["predictive", "lower", "upper"]
    back = bg.cdf(tree, places.sel(statistic="predictive"), feature="a").sel(statistic="predictive")
    np.testing.assert_allclose(back, shares, rtol=1e-12)
    drawn = bg.quantile(tree, shares, feature="a", probability=None)
    assert drawn.dims == ("chain", "draw", "quantile")
    for chain, draw in ((0, 0), (1, 4)):
        one = tree.isel(chain=[chain], draw=[draw])
        back = bg.cdf(one, drawn[chain, draw], feature="a").sel(statistic="predictive")
        np.testing.assert_allclose(back, shares, rtol=1e-12)
    band = np.quantile(drawn.values.reshape(24, -1), [0.05, 0.95], axis=0)
    np.testing.assert_allclose(places[1:], band, rtol=1e-12)


def test_the_slope_of_the_cdf_is_the_density(tree: xr.DataTree) -> None:
    places = np.array([-1.0, 0.2, 1.5])
    high, low = (bg.cdf(tree, places + h, feature="a")[0].values for h in (1e-5, -1e-5))
    expected = bg.density(tree, {"a": places}).sel(statistic="predictive")
    np.testing.assert_allclose((high - low) / 2e-5, expected, rtol=1e-8)


def test_a_single_feature_needs_no_name(tree: xr.DataTree) -> None:
    alone = bg.marginal(tree, "b")
    xr.testing.assert_identical(bg.cdf(alone, 1.0), bg.cdf(tree, [1.0], feature="b"))
    xr.testing.assert_identical(bg.quantile(alone, 0.2), bg.quantile(tree, [0.2], feature="b"))
    with pytest.raises(TypeError, match=r"`feature` must be given, .* got None\. Choose among 'a'"):
        bg.cdf(tree, 1.0)


def test_places_by_feature_as_density_takes_them_are_refused_with_the_remedy(
    tree: xr.DataTree,
) -> None:
    with pytest.raises(TypeError, match=r"`x` must be .* got {'b': \[1\.0\]}. Pass its values"):
        bg.cdf(tree, {"b": [1.0]}, feature="b")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"x": []}, r"`x` must be a number or a 1-D array of numbers; got shape \(0,\)"),
        ({"x": "1"}, r"`x` must be a number .* dtype <U1"),
        ({"x": [0.0, np.inf]}, r"`x` must hold finite numbers; got inf at place 1\."),
        ({"x": 0.0, "feature": "c"}, r"`feature` must name features of the fit, .* got 'c'"),
        ({"x": 0.0, "probability": 2.0}, r"`probability` must lie between 0 and 1; got 2\.0\."),
        ({"x": np.zeros(12_000_000)}, r"`x` must leave .* under 2 GiB; got 12000000 places"),
        ({"q": 0.0}, r"`q` must hold numbers between 0 and 1; got 0\.0 at place 0\."),
        ({"q": [0.5, 1.0]}, r"`q` must hold numbers between 0 and 1; got 1\.0 at place 1\."),
        ({"q": np.nan}, r"`q` must hold numbers between 0 and 1; got nan at place 0\."),
    ],
)
def test_bad_input_is_refused(tree: xr.DataTree, arguments: dict[str, object], match: str) -> None:
    function = bg.cdf if "x" in arguments else bg.quantile
    with pytest.raises(ValueError, match=match):
        function(tree, **{"feature": "a", **arguments})  # type: ignore[operator]


def test_names_of_dimensions_are_refused() -> None:
    rng = np.random.default_rng(2)
    tree = random_fit(pd.DataFrame({"draw": rng.normal(size=30)}), rng)
    with pytest.raises(ValueError, match=r"`feature` must not be named .* got 'draw'\. Rename"):
        bg.cdf(tree, 0.0)
    assert bg.quantile(tree, 0.5).name == "draw"


@pytest.mark.parametrize("function", ["cdf", "quantile"])
def test_what_is_not_a_fit_is_refused(tree: xr.DataTree, function: str) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, .* type int"):
        getattr(bg, function)(3, 0.5)
    with pytest.raises(ValueError, match=rf"`tree` must have the dimensions .* `{function}`"):
        getattr(bg, function)(tree.isel(draw=0), 0.5)
