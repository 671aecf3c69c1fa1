"""`plot_components`: what is in the picture, not its pixels."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import bayesgmm as bg
from bayesgmm import names
from bayesgmm.plots.canvas import colour, marker
from bayesgmm.plots.geometry import ellipses
from tests.synthetic import random_fit


def of_type(ax: Axes, kind: type) -> list[Any]:
    return [artist for artist in ax.get_children() if isinstance(artist, kind)]


def outlines(ax: Axes) -> list[Line2D]:
    return [drawn for drawn in of_type(ax, Line2D) if len(drawn.get_xdata()) == 101]


def entries(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def axes() -> Axes:
    return Figure(figsize=(7.0, 5.0), layout="constrained").subplots()


def test_a_new_figure_is_made_where_none_is_given(tree: xr.DataTree) -> None:
    ax = bg.plot_components(tree)
    assert isinstance(ax, Axes)
    assert pyplot.get_fignums() == [1]
    assert ax.figure is pyplot.figure(1)


def test_the_given_axes_are_drawn_on_and_returned(tree: xr.DataTree) -> None:
    ax = axes()
    assert bg.plot_components(tree, ax=ax) is ax
    assert pyplot.get_fignums() == []


def test_points_stand_where_they_are(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    ax = bg.plot_components(tree, ax=axes())
    labels = bg.predict_proba(tree).values.argmax(axis=1)
    drawn = {}
    for points in of_type(ax, PathCollection):
        edge = tuple(points.get_edgecolor()[0, :3])
        drawn[edge] = np.asarray(points.get_offsets())
    assert len(drawn) == 3
    for k in range(3):
        edge = tuple(np.array([int(colour(k)[i : i + 2], 16) for i in (1, 3, 5)]) / 255.0)
        np.testing.assert_array_equal(drawn[edge], frame.values[labels == k])


def test_points_are_filled_as_far_as_they_are_certain(tree: xr.DataTree) -> None:
    ax = bg.plot_components(tree, ax=axes())
    probability = bg.predict_proba(tree).values
    labels, certainty = probability.argmax(axis=1), probability.max(axis=1)
    for points in of_type(ax, PathCollection):
        offsets = np.asarray(points.get_offsets())
        rows = [np.flatnonzero((tree.observed_data.X.values == xy).all(1))[0] for xy in offsets]
        assert len(set(labels[rows])) == 1
        order = np.argsort(certainty[rows])
        opacity = points.get_facecolor()[order, 3]
        assert (np.diff(opacity) >= 0.0).all()
        assert opacity[0] < opacity[-1]


def test_ellipses_of_draws_and_mean(tree: xr.DataTree) -> None:
    ax = bg.plot_components(tree, ax=axes(), draws=25, probability=0.5)
    clouds = of_type(ax, LineCollection)
    assert [len(cloud.get_segments()) for cloud in clouds] == [25, 25, 25]
    means = tree.posterior.means.mean(["chain", "draw"]).values
    covariances = tree.posterior.covariances.mean(["chain", "draw"]).values
    bold = outlines(ax)
    assert len(bold) == 3
    for k in range(3):
        expected = ellipses(means[k], covariances[k], 0.5)
        np.testing.assert_allclose(bold[k].get_xydata(), expected)
        assert bold[k].get_color() == colour(k)
    first = tree.posterior.isel(chain=0, draw=0)
    np.testing.assert_allclose(
        clouds[1].get_segments()[0],
        ellipses(first.means.values[1], first.covariances.values[1], 0.5),
    )
    marks = [drawn for drawn in of_type(ax, Line2D) if len(drawn.get_xdata()) == 1]
    np.testing.assert_allclose([np.ravel(mark.get_xydata()) for mark in marks], means)
    assert [mark.get_marker() for mark in marks] == [marker(k) for k in range(3)]


def test_no_more_ellipses_than_draws(tree: xr.DataTree) -> None:
    ax = bg.plot_components(tree, ax=axes(), draws=1000)
    assert {len(cloud.get_segments()) for cloud in of_type(ax, LineCollection)} == {60}
    assert "mean and 60 draws" in ax.get_title()


def test_the_legend_says_weights_and_intervals(tree: xr.DataTree) -> None:
    ax = bg.plot_components(tree, ax=axes(), probability=0.8)
    weights = tree.posterior.weights.values.reshape(-1, 3)
    expected = [
        f"component {k}: {weights[:, k].mean():.2f} "
        f"[{np.quantile(weights[:, k], 0.1):.2f}, {np.quantile(weights[:, k], 0.9):.2f}]"
        for k in range(3)
    ]
    assert entries(ax) == [*expected, "hollow: uncertain"]
    assert ax.get_legend().get_title().get_text() == "weight [80 % interval]"


def test_axes_have_labels_and_a_title(tree: xr.DataTree) -> None:
    ax = bg.plot_components(tree, ax=axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length (mm)", "width (mm)")
    assert ax.get_title() == "3 components, 90 % ellipses: mean and 40 draws"


def test_components_are_numbered_where_they_are(tree: xr.DataTree) -> None:
    ax = bg.plot_components(tree, ax=axes())
    assert {text.get_text() for text in ax.texts} <= {"0", "1", "2"}
    assert len(ax.texts) >= 2


def test_a_component_far_off_does_not_shrink_the_data(
    frame: pd.DataFrame, rng: np.random.Generator
) -> None:
    tree = random_fit(frame, rng)
    tree.posterior["means"][..., 1, :] = 1e4
    tree.posterior["covariances"][..., 1, :, :] *= 1e6
    ax = bg.plot_components(tree, ax=axes())
    span = frame.max() - frame.min()
    for limits, feature in ((ax.get_xlim(), "length"), (ax.get_ylim(), "width")):
        assert limits[0] < frame[feature].min()
        assert limits[1] > frame[feature].max()
        assert np.diff(limits)[0] < 1.5 * span[feature]


@pytest.mark.parametrize("method", ["map", "ml"])
def test_a_point_estimate_has_one_ellipse(
    frame: pd.DataFrame, rng: np.random.Generator, method: str
) -> None:
    tree = random_fit(frame, rng, chains=1, draws=1, method=method)
    ax = bg.plot_components(tree, ax=axes())
    assert of_type(ax, LineCollection) == []
    assert len(outlines(ax)) == 2
    weights = tree.posterior.weights.values[0, 0]
    assert entries(ax)[:2] == [f"component {k}: {weights[k]:.2f}" for k in range(2)]
    assert ax.get_legend().get_title().get_text() == "weight"
    assert ax.get_title() == "2 components, 90 % ellipses"


def test_one_component_needs_no_legend(frame: pd.DataFrame, rng: np.random.Generator) -> None:
    ax = bg.plot_components(random_fit(frame, rng, n_components=1), ax=axes())
    assert ax.get_legend() is None
    assert len(ax.texts) == 0
    assert ax.get_title().startswith("1 component, ")
    assert (of_type(ax, PathCollection)[0].get_facecolor()[:, 3] > 0.5).all()


def test_many_components(frame: pd.DataFrame, rng: np.random.Generator) -> None:
    ax = bg.plot_components(random_fit(frame, rng, n_components=12))
    assert len(outlines(ax)) == 12
    assert len(entries(ax)) == 13
    ax.figure.draw_without_rendering()
    legend, frame_of_axes = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert legend.x0 > frame_of_axes.x1
    assert legend.x1 <= ax.figure.bbox.x1


def test_a_legend_without_room_takes_it_from_the_axes(
    frame: pd.DataFrame, rng: np.random.Generator
) -> None:
    tree = random_fit(frame, rng, n_components=12)
    ax = Figure(figsize=(9.0, 5.0)).subplots()
    before = ax.get_position().width
    bg.plot_components(tree, ax=ax)
    assert 0.4 * before < ax.get_position().width < 0.9 * before
    ax.figure.draw_without_rendering()
    assert ax.get_legend().get_window_extent().x1 <= ax.figure.bbox.x1


def test_axes_that_are_too_narrow_keep_their_width(
    frame: pd.DataFrame, rng: np.random.Generator
) -> None:
    tree = random_fit(frame, rng, n_components=12)
    figure = Figure(figsize=(4.0, 4.0), layout="constrained")
    ax = bg.plot_components(tree, ax=figure.subplots())
    figure.draw_without_rendering()
    assert ax.get_window_extent().width > 0.75 * figure.bbox.width
    assert ax.get_legend().get_window_extent().x0 < ax.get_window_extent().x1


def test_one_feature_is_a_histogram_with_densities(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(-2.0, 1.0, 40), rng.normal(3.0, 0.5, 40)])
    tree = random_fit(X, rng, n_components=2)
    ax = bg.plot_components(tree, ax=axes())
    bars, edges, _ = of_type(ax, type(ax.stairs([1.0])))[0].get_data()
    assert np.sum(bars * np.diff(edges)) == pytest.approx(1.0)
    curves = [drawn for drawn in ax.lines if len(drawn.get_xdata()) > 100]
    assert len(curves) == 3
    places = curves[-1].get_xdata()
    density = np.exp(bg.score_samples(tree, places[:, None]).values)
    np.testing.assert_allclose(curves[-1].get_ydata(), density, rtol=1e-9)
    parts = [curve.get_ydata() for curve in curves[:2]]
    np.testing.assert_allclose(np.sum(parts, axis=0), density, rtol=1e-9)
    assert len(of_type(ax, PolyCollection)) == 3
    assert entries(ax)[-1] == "mixture"
    assert ax.get_ylabel() == "density"
    assert ax.get_ylim()[0] == 0.0
    assert ax.get_xlim()[0] < X.min()
    assert ax.get_xlim()[1] > X.max()


def test_one_feature_and_one_draw_have_no_band(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=50), rng, chains=1, draws=1, method="map")
    ax = bg.plot_components(tree, ax=axes())
    assert of_type(ax, PolyCollection) == []
    assert ax.get_title() == "2 components"


def test_the_band_of_a_wild_draw_does_not_flatten_the_rest(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=100), rng)
    tree.posterior["covariances"][:, ::2] = 1e-10
    tree.posterior["means"][:, ::2] = 0.0
    ax = bg.plot_components(tree, ax=axes())
    assert ax.get_ylim()[1] < 1e5


@pytest.fixture
def wide(rng: np.random.Generator) -> xr.DataTree:
    """Eight features."""
    frame = pd.DataFrame(rng.normal(size=(40, 8)), columns=list("abcdefgh"))
    return random_fit(frame, rng)


def test_more_features_are_a_triangle(wide: xr.DataTree) -> None:
    panels = bg.plot_components(wide, features=["h", "b", "d"])
    assert isinstance(panels, np.ndarray)
    assert panels.shape == (3, 3)
    shown = (
        [panels[2, j].get_xlabel() for j in range(3)],
        [panels[i, 0].get_ylabel() for i in (1, 2)],
    )
    assert shown == (["h", "b", "d"], ["b", "d"])
    for i, j in np.ndindex(3, 3):
        panel = panels[i, j]
        assert panel.axison == (j <= i)
        assert len(outlines(panel)) == (2 if j < i else 0)
        if j < i:
            assert panel.get_xlim() == pytest.approx(panels[j, j].get_xlim())
            points = np.concatenate([p.get_offsets() for p in of_type(panel, PathCollection)])
            values = wide.observed_data.X.sel(feature=["hbd"[j], "hbd"[i]]).values
            np.testing.assert_array_equal(
                points[np.lexsort(points.T)], values[np.lexsort(values.T)]
            )
    assert len(entries(panels[0, 2])) == 3
    assert panels[0, 0].get_title(loc="left").startswith("2 components, 90 % ellipses")


def test_features_are_capped_where_none_are_chosen(wide: xr.DataTree) -> None:
    panels = bg.plot_components(wide, ax=axes())
    assert panels.shape == (5, 5)
    assert "5 of 8 features, choose with `features`" in panels[0, 0].get_title(loc="left")
    chosen = bg.plot_components(wide, features=list("abcdef"), ax=axes())
    assert chosen.shape == (6, 6)
    assert "choose" not in chosen[0, 0].get_title(loc="left")


def test_panels_may_be_given(wide: xr.DataTree) -> None:
    given = Figure().subplots(3, 3)
    panels = bg.plot_components(wide, features=["a", "b", "c"], ax=given)
    assert all(one is other for one, other in zip(panels.flat, given.flat, strict=True))
    with pytest.raises(
        TypeError,
        match=r"`ax` must be a matplotlib Axes or an array of 4 x 4 of them; "
        r"got an array of shape \(3, 3\)",
    ):
        bg.plot_components(wide, features=list("abcd"), ax=given)


@pytest.mark.parametrize("length", [12, 30, 300])
def test_labels_of_small_panels_do_not_overlap(rng: np.random.Generator, length: int) -> None:
    columns = [f"{i}" + "m" * length for i in range(4)]
    tree = random_fit(pd.DataFrame(rng.normal(size=(40, 4)), columns=columns), rng)
    panels = bg.plot_components(tree, ax=axes())
    panels[0, 0].figure.draw_without_rendering()
    below = [panels[3, j].xaxis.label.get_window_extent() for j in range(4)]
    beside = [panels[i, 0].yaxis.label.get_window_extent() for i in (3, 2, 1)]
    assert all(one.x1 <= other.x0 for one, other in pairwise(below))
    assert all(one.y1 <= other.y0 for one, other in pairwise(beside))


@pytest.mark.parametrize("features", ["c", ["c"], np.array(["c"])])
def test_one_feature_of_many(wide: xr.DataTree, features: Any) -> None:
    ax = bg.plot_components(wide, features=features, ax=axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("c", "density")


def test_two_features_of_many_are_marginals(wide: xr.DataTree) -> None:
    ax = bg.plot_components(wide, features=wide.observed_data.feature[[6, 2]], ax=axes())
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("g", "c")
    mean = wide.posterior.mean(["chain", "draw"])
    chosen = {names.FEATURE: ["g", "c"], names.FEATURE2: ["g", "c"]}
    expected = ellipses(
        mean.means.sel(feature=["g", "c"]).values, mean.covariances.sel(chosen).values, 0.9
    )
    np.testing.assert_allclose(outlines(ax)[1].get_xydata(), expected[1])


def test_features_may_be_numbers(rng: np.random.Generator) -> None:
    tree = random_fit(pd.DataFrame(rng.normal(size=(20, 3)), columns=[10, 20, 30]), rng)
    assert bg.plot_components(tree, features=[30, 10], ax=axes()).get_xlabel() == "30"


def test_no_more_points_than_asked_for(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(3000, 2)), rng, draws=5)
    ax = bg.plot_components(tree, ax=axes(), max_points=2500)
    assert sum(len(points.get_offsets()) for points in of_type(ax, PathCollection)) == 2500
    assert ax.get_title().endswith("\n2,500 of 3,000 rows drawn")
    assert all(points.get_rasterized() for points in of_type(ax, PathCollection))


def test_labels_are_not_read_as_formulas(rng: np.random.Generator) -> None:
    frame = pd.DataFrame(rng.normal(size=(20, 2)), columns=["cost $a$", "x_{"])
    ax = bg.plot_components(random_fit(frame, rng), ax=axes())
    assert not ax.xaxis.label.get_parse_math()
    assert not ax.yaxis.label.get_parse_math()
    ax.figure.draw_without_rendering()


def test_a_part_of_a_figure_will_do(tree: xr.DataTree) -> None:
    left, right = Figure(figsize=(12.0, 5.0), layout="constrained").subfigures(1, 2)
    bg.plot_components(tree, ax=left.subplots())
    ax = bg.plot_uncertainty(tree, ax=right.subplots())
    ax.figure.canvas.figure.draw_without_rendering()


def test_the_fit_is_not_changed(tree: xr.DataTree) -> None:
    before = tree.copy(deep=True)
    bg.plot_components(tree, ax=axes())
    bg.plot_uncertainty(tree, ax=axes())
    xr.testing.assert_identical(tree, before)


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        (
            {"features": ["a", "bb"]},
            ValueError,
            r"`features` must be among 'a', 'b', .*; got 'bb'\. Did you mean 'b'\?",
        ),
        ({"features": 3}, ValueError, r"`features` must be among .*; got 3\. Choose some"),
        ({"features": []}, ValueError, r"`features` must name at least one of .*; got \[\]\. Le"),
        (
            {"features": ["a", "b", "a"]},
            ValueError,
            r"`features` must name each feature once; got 'a' more than once\. Drop",
        ),
        ({"probability": 1.0}, ValueError, r"`probability` must lie between 0 and 1; got 1\.0\. "),
        ({"probability": 0}, ValueError, r"`probability` must be positive and finite; got 0\. "),
        ({"probability": "9"}, TypeError, r"`probability` must be a number; got '9' of type str"),
        ({"draws": 0}, ValueError, r"`draws` must be at least 1; got 0\. "),
        ({"draws": 2.5}, TypeError, r"`draws` must be an integer; got 2\.5 of type float\. "),
        ({"max_points": 0}, ValueError, r"`max_points` must be at least 1; got 0\. "),
    ],
)
def test_bad_arguments_are_refused(
    wide: xr.DataTree, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bg.plot_components(wide, **given)
    assert pyplot.get_fignums() == []
