"""`plot_uncertainty`: what is in the picture, not its pixels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.figure import Figure

import bayesgmm as bg
from tests.synthetic import random_fit


def axes() -> Axes:
    return Figure(figsize=(7.5, 5.0), layout="constrained").subplots()


def points(ax: Axes) -> PathCollection:
    (found,) = (artist for artist in ax.collections if isinstance(artist, PathCollection))
    return found


def colour_bars(ax: Axes) -> list[Axes]:
    return [one for one in ax.figure.axes if one.get_label() == "<colorbar>"]


def uncertainty_of(tree: xr.DataTree) -> np.ndarray:
    return 1.0 - bg.predict_proba(tree).max("component").values


def test_a_new_figure_is_made_where_none_is_given(tree: xr.DataTree) -> None:
    ax = bg.plot_uncertainty(tree)
    assert pyplot.get_fignums() == [1]
    assert ax.figure is pyplot.figure(1)


def test_the_given_axes_are_drawn_on_and_returned(tree: xr.DataTree) -> None:
    ax = axes()
    assert bg.plot_uncertainty(tree, ax=ax) is ax
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("threshold", [0.02, 0.1, 0.3])
def test_the_title_counts_the_uncertain(tree: xr.DataTree, threshold: float) -> None:
    ax = bg.plot_uncertainty(tree, ax=axes(), threshold=threshold)
    count = int((uncertainty_of(tree) >= threshold).sum())
    assert 1 < count < 60
    first, second = ax.get_title().splitlines()
    assert first == f"{count} of 60 rows are uncertain"
    assert second == f"uncertain: no component has a probability above {1.0 - threshold:g}"


def test_size_and_colour_are_the_uncertainty(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    ax = bg.plot_uncertainty(tree, ax=axes())
    uncertainty = uncertainty_of(tree)
    order = np.argsort(uncertainty)
    drawn = points(ax)
    np.testing.assert_array_equal(drawn.get_offsets(), frame.values[order])
    np.testing.assert_allclose(drawn.get_array(), uncertainty[order])
    assert (np.diff(drawn.get_sizes()) >= 0.0).all()
    assert drawn.get_clim() == (0.0, pytest.approx(2.0 / 3.0))


def test_darker_is_more_uncertain(tree: xr.DataTree) -> None:
    shades = points(bg.plot_uncertainty(tree, ax=axes())).get_cmap()(np.linspace(0.0, 1.0, 20))
    luminance = shades[:, :3] ** 2.2 @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0.0).all()
    assert luminance[0] < 0.7


def test_the_most_uncertain_are_named(tree: xr.DataTree) -> None:
    ax = bg.plot_uncertainty(tree, ax=axes(), n_named=4)
    most = np.argsort(-uncertainty_of(tree))[:4]
    assert [text.get_text() for text in ax.texts] == [f"bird {i}" for i in most]
    for text, row in zip(ax.texts, most, strict=True):
        np.testing.assert_allclose(text.xy, tree.observed_data.X.values[row])


def test_only_the_uncertain_are_named(tree: xr.DataTree) -> None:
    uncertainty = np.sort(uncertainty_of(tree))
    ax = bg.plot_uncertainty(tree, ax=axes(), threshold=float(uncertainty[-2:].mean()))
    assert ax.get_title().startswith("1 of 60 rows is uncertain")
    assert len(ax.texts) == 1
    ax = bg.plot_uncertainty(tree, ax=axes(), threshold=float(uncertainty[-3:-1].mean()))
    assert ax.get_title().startswith("2 of 60 rows are")
    assert len(ax.texts) == 2
    assert len(bg.plot_uncertainty(tree, ax=axes(), n_named=0).texts) == 0


def test_the_colour_bar_says_what_it_shows(tree: xr.DataTree) -> None:
    ax = bg.plot_uncertainty(tree, ax=axes(), threshold=0.25)
    (bar,) = colour_bars(ax)
    assert bar.get_ylabel() == "uncertainty: 1 - largest probability (at most 0.67)"
    assert bar.get_ylim() == (0.0, pytest.approx(2.0 / 3.0))
    assert [line.get_ydata()[0] for line in bar.lines] == [0.25]


def test_components_are_outlined(tree: xr.DataTree) -> None:
    ax = bg.plot_uncertainty(tree, ax=axes())
    (behind,) = (artist for artist in ax.collections if isinstance(artist, LineCollection))
    assert len(behind.get_segments()) == 3
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length (mm)", "width (mm)")


@pytest.mark.parametrize("n_features", [1, 2, 3])
def test_one_component_leaves_no_doubt(rng: np.random.Generator, n_features: int) -> None:
    tree = random_fit(rng.normal(size=(30, n_features)), rng, n_components=1)
    ax = bg.plot_uncertainty(tree, ax=axes())
    assert ax.get_title().startswith("None of 30 rows is uncertain")
    assert colour_bars(ax) == []
    assert len(ax.texts) == 0


def test_one_feature_is_a_strip_below_its_density(rng: np.random.Generator) -> None:
    X = np.concatenate([rng.normal(-2.0, 1.0, 40), rng.normal(3.0, 0.5, 40)])
    tree = random_fit(X, rng)
    ax = bg.plot_uncertainty(tree, ax=axes())
    places = np.asarray(points(ax).get_offsets())
    np.testing.assert_array_equal(np.sort(places[:, 0]), np.sort(X))
    bottom, top = ax.get_ylim()
    assert (places[:, 1] < 0.0).all()
    assert (places[:, 1] > bottom).all()
    assert all(tick >= 0.0 for tick in ax.get_yticks())
    mixture = max(ax.lines, key=lambda line: np.max(line.get_ydata()))
    density = np.exp(bg.score_samples(tree, mixture.get_xdata()[:, None]).values)
    np.testing.assert_allclose(mixture.get_ydata(), density, rtol=1e-9)
    assert top > density.max()
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x0", "density")


def test_more_features_are_seen_along_principal_axes(rng: np.random.Generator) -> None:
    X = rng.normal(size=(50, 4)) @ rng.normal(size=(4, 4)) * [1.0, 100.0, 0.1, 1.0]
    tree = random_fit(X, rng)
    ax = bg.plot_uncertainty(tree, ax=axes())
    standard = (X - X.mean(axis=0)) / X.std(axis=0)
    left, singular, _ = np.linalg.svd(standard, full_matrices=False)
    expected = (left * singular)[:, :2][np.argsort(uncertainty_of(tree), kind="stable")]
    places = np.asarray(points(ax).get_offsets())
    np.testing.assert_allclose(np.abs(places), np.abs(expected), rtol=1e-7)
    share = 100.0 * singular**2 / (singular**2).sum()
    assert ax.get_xlabel() == (f"principal axis 1 of the standardised features ({share[0]:.0f} %)")
    assert ax.get_ylabel() == (f"principal axis 2 of the standardised features ({share[1]:.0f} %)")


def test_components_move_with_the_data_to_principal_axes(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(5.0, 2.0, (50, 3)), rng)
    tree.posterior["means"][:] = tree.observed_data.X.values.mean(axis=0)
    ax = bg.plot_uncertainty(tree, ax=axes())
    (behind,) = (artist for artist in ax.collections if isinstance(artist, LineCollection))
    for outline in behind.get_segments():
        np.testing.assert_allclose(outline[:-1].mean(axis=0), 0.0, atol=1e-9)


def test_no_more_points_than_asked_for_but_the_named(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(3000, 2)), rng, draws=5)
    ax = bg.plot_uncertainty(tree, ax=axes(), max_points=200, n_named=5)
    n_drawn = len(points(ax).get_offsets())
    assert 200 <= n_drawn <= 205
    uncertainty = uncertainty_of(tree)
    assert points(ax).get_array().max() == pytest.approx(uncertainty.max())
    first, _, last = ax.get_title().splitlines()
    assert first == f"{int((uncertainty >= 0.1).sum()):,} of 3,000 rows are uncertain"
    assert last == f"{n_drawn} of 3,000 rows drawn"


@pytest.mark.parametrize("method", ["map", "ml"])
def test_a_point_estimate_is_drawn(rng: np.random.Generator, method: str) -> None:
    for n_features in (1, 2, 4):
        X = rng.normal(size=(20, n_features))
        tree = random_fit(X, rng, chains=1, draws=1, method=method)
        assert len(points(bg.plot_uncertainty(tree, ax=axes())).get_offsets()) == 20


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"threshold": 1.0}, ValueError, r"`threshold` must lie between 0 and 1; got 1\.0\. "),
        ({"threshold": -0.1}, ValueError, r"`threshold` must be positive and finite; got -0\.1"),
        ({"n_named": -1}, ValueError, r"`n_named` must be at least 0; got -1\. "),
        ({"max_points": "9"}, TypeError, r"`max_points` must be an integer; got '9' of type str"),
    ],
)
def test_bad_arguments_are_refused(
    tree: xr.DataTree, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bg.plot_uncertainty(tree, **given)
    assert pyplot.get_fignums() == []
