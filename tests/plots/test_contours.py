"""`plot_density`: what is in the picture, not its pixels."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import FillBetweenPolyCollection, PathCollection
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure

import bayesgmm as bg
from bayesgmm.plots.canvas import DARK
from tests.synthetic import random_fit


def axes() -> Axes:
    return Figure(figsize=(7.0, 5.0), layout="constrained").subplots()


def contours(ax: Axes) -> list[QuadContourSet]:
    return [artist for artist in ax.get_children() if isinstance(artist, QuadContourSet)]


def test_two_features_have_contours_of_mean_and_draws(
    tree: xr.DataTree, frame: pd.DataFrame
) -> None:
    ax = bg.plot_density(tree, ax=axes(), draws=12)
    drawn = contours(ax)
    assert len(drawn) == 12 + 1
    assert {len(one.levels) for one in drawn} == {2}
    points = next(one for one in ax.get_children() if type(one) is PathCollection)
    np.testing.assert_array_equal(points.get_offsets(), frame.values)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length (mm)", "width (mm)")
    assert ax.get_title() == "density: contours that hold 50 % and 90 % of it, mean and 12 draws"


def test_contours_are_where_the_density_is_their_level(tree: xr.DataTree) -> None:
    ax = bg.plot_density(tree, ax=axes(), draws=1)
    mean = contours(ax)[-1]
    assert mean.get_edgecolor()[0, :3] == pytest.approx(float(DARK))
    for level, path in zip(mean.levels, mean.get_paths(), strict=True):
        height = np.exp(bg.score_samples(tree, path.vertices[::10]).values)
        np.testing.assert_allclose(height, level, rtol=0.02)


@pytest.mark.parametrize("probability", [0.7, 0.9])
def test_contours_hold_their_share_of_new_rows(tree: xr.DataTree, probability: float) -> None:
    ax = bg.plot_density(tree, ax=axes(), probability=probability)
    levels = contours(ax)[-1].levels
    rows = bg.sample_posterior_predictive(tree, 100, random_seed=1)["X"].values.reshape(-1, 2)
    height = np.exp(bg.score_samples(tree, rows).values)
    for level, share in zip(levels, (probability, 0.5), strict=True):
        error = 5.0 * np.sqrt(share * (1.0 - share) / len(rows)) + 0.01  # of the grid
        assert abs((height > level).mean() - share) < error


def test_one_feature_has_a_curve_with_its_band(tree: xr.DataTree) -> None:
    ax = bg.plot_density(tree, features="width", ax=axes(), probability=0.8)
    curve = ax.lines[0]
    x = curve.get_xdata()
    expected = bg.density(tree, {"width": x}, probability=0.8)
    np.testing.assert_allclose(curve.get_ydata(), expected.sel(statistic="predictive"))
    band = next(one for one in ax.get_children() if isinstance(one, FillBetweenPolyCollection))
    lower = band.get_paths()[0].vertices[1 : len(x) + 1]
    np.testing.assert_allclose(lower[:, 1], expected.sel(statistic="lower"))
    assert ax.get_title() == "density, mean and 80 % band"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("width (mm)", "density")


def test_more_than_two_features_are_told(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(30, 4)), rng)
    ax = bg.plot_density(tree, ax=axes())
    assert ax.get_title().endswith("\n2 of 4 features, choose with `features`")
    ax = bg.plot_density(tree, features=["x3", "x1"], ax=axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x3", "x1")
    assert "features" not in ax.get_title()


@pytest.mark.parametrize("n_features", [1, 2])
def test_a_point_estimate_has_no_band(rng: np.random.Generator, n_features: int) -> None:
    tree = random_fit(rng.normal(size=(30, n_features)), rng, chains=1, draws=1, method="map")
    ax = bg.plot_density(tree, ax=axes())
    assert not any(isinstance(one, FillBetweenPolyCollection) for one in ax.get_children())
    assert len(contours(ax)) == n_features - 1
    assert "mean" not in ax.get_title()


@pytest.mark.parametrize("n_features", [1, 2])
def test_one_component_and_equal_rows(rng: np.random.Generator, n_features: int) -> None:
    X = np.full((20, n_features), 3.0)
    X[0] += 1e-3
    X[1, -1] -= 1e-3
    tree = random_fit(X, rng, n_components=1)
    tree["posterior"]["means"].values[:] += 3.0
    bg.plot_density(tree, ax=axes()).figure.draw_without_rendering()


def test_rows_left_out_are_told(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(50, 2)), rng)
    ax = bg.plot_density(tree, ax=axes(), max_points=20)
    assert ax.get_title().endswith("\n20 of 50 rows drawn")
    ax = bg.plot_density(tree, features="x0", ax=axes(), max_points=20)  # a histogram is of all
    assert "\n" not in ax.get_title()


def test_a_new_figure_is_made_where_none_is_given(tree: xr.DataTree) -> None:
    ax = bg.plot_density(tree)
    assert pyplot.get_fignums() == [1]
    assert ax.figure is pyplot.figure(1)


@pytest.mark.parametrize("function", ["plot_density", "plot_modes"])
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"features": "lenght"}, ValueError, r"`features` must be among .*Did you mean 'length'"),
        ({"ax": 3}, TypeError, r"`ax` must be a matplotlib Axes; got an object of type int"),
        ({"probability": 1.0}, ValueError, r"`probability` must lie between 0 and 1; got 1\.0"),
        ({"draws": 0}, ValueError, r"`draws` must be at least 1; got 0\. Some"),
        ({"max_points": 0.5}, TypeError, r"`max_points` must be an integer; got 0\.5"),
    ],
)
def test_bad_arguments_are_refused(
    tree: xr.DataTree, function: str, arguments: dict[str, object], error: type[Exception],
    match: str,
) -> None:  # fmt: skip
    with pytest.raises(error, match=match):
        getattr(bg, function)(tree, **arguments)
    assert pyplot.get_fignums() == []


def test_three_features_are_too_many(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(30, 3)), rng)
    with pytest.raises(ValueError, match=r"`features` must name one or two features; got 3\. Draw"):
        bg.plot_density(tree, features=["x0", "x1", "x2"])


@pytest.mark.parametrize("function", ["plot_density", "plot_modes", "plot_merge"])
def test_what_is_not_a_fit_is_refused(tree: xr.DataTree, function: str) -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, .* got an object of type int"):
        getattr(bg, function)(3)
    with pytest.raises(ValueError, match=r"`tree` must have the dimensions 'chain' and 'draw'"):
        getattr(bg, function)(tree.isel(chain=0))
    without = tree.filter(lambda node: node.name != "observed_data")
    with pytest.raises(ValueError, match=r"`tree` must hold the group 'observed_data'"):
        getattr(bg, function)(without)
