"""`plot_partition`: what is in the picture, not its pixels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation

import bayesgmm as bg
from bayesgmm.clustering.allocations import label_draws
from bayesgmm.clustering.coclustering import membership
from bayesgmm.plots.canvas import DARK, colour
from tests.synthetic import random_fit


def axes() -> Axes:
    return Figure(figsize=(7.5, 5.0), layout="constrained").subplots()


def points(ax: Axes) -> list[PathCollection]:
    return [artist for artist in ax.collections if isinstance(artist, PathCollection)]


def test_each_cluster_has_its_rows_and_its_colour(tree: xr.DataTree, frame: pd.DataFrame) -> None:
    best = bg.partition(tree, "binder", random_seed=1)
    ax = bg.plot_partition(tree, best, ax=axes(), random_seed=1)
    for k, drawn in enumerate(points(ax)):
        expected = frame.values[best.values == k]
        np.testing.assert_allclose(np.asarray(drawn.get_offsets()), expected)
        assert tuple(drawn.get_facecolors()[0][:3]) == pytest.approx(to_rgb(colour(k)))
    assert len(points(ax)) == best.attrs["n_clusters"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length (mm)", "width (mm)")


def test_opacity_is_certainty_and_the_uncertain_are_framed(tree: xr.DataTree) -> None:
    best = bg.partition(tree, "binder", random_seed=1).values
    certainty = membership(label_draws(tree, random_seed=1, function="test"), best)
    ax = bg.plot_partition(tree, best, ax=axes(), threshold=0.6, random_seed=1)
    for k, drawn in enumerate(points(ax)):
        mine = certainty[best == k]
        np.testing.assert_allclose(drawn.get_facecolors()[:, 3], 0.85 * mine**2)
        dark = (np.asarray(drawn.get_edgecolors())[:, :3] == to_rgb(DARK)).all(axis=1)
        np.testing.assert_array_equal(dark, mine < 0.6)
    count = int((certainty < 0.6).sum())
    assert 0 < count < 60
    first, second = ax.get_title().splitlines()
    assert first == f"{best.max() + 1} clusters of 60 rows, {count} uncertain"
    assert second == "uncertain: with others of their cluster in less than 60 % of draws"


def test_the_most_uncertain_are_named(tree: xr.DataTree) -> None:
    draws = label_draws(tree, random_seed=1, function="test")
    best = bg.partition(draws, random_seed=1).values
    certainty = membership(draws, best)
    ax = bg.plot_partition(tree, ax=axes(), threshold=0.99, n_named=4, random_seed=1)
    written = {one.get_text() for one in ax.texts if isinstance(one, Annotation)}
    assert written <= {f"bird {i}" for i in np.argsort(certainty, kind="stable")[:4]}
    assert len(written) >= 2


@pytest.mark.parametrize("n_features", [1, 4])
def test_other_numbers_of_features(rng: np.random.Generator, n_features: int) -> None:
    tree = random_fit(rng.normal(size=(40, n_features)), rng)
    ax = bg.plot_partition(tree, random_seed=1)
    assert pyplot.get_fignums() == [1]
    expected = "x0" if n_features == 1 else "principal axis 1 of the standardised features"
    assert ax.get_xlabel().startswith(expected)


def test_a_sample_of_rows_is_drawn_and_said(tree: xr.DataTree) -> None:
    ax = bg.plot_partition(tree, ax=axes(), max_points=20, n_named=0, random_seed=1)
    assert sum(len(drawn.get_offsets()) for drawn in points(ax)) == 20
    assert ax.get_title().splitlines()[-1] == "20 of 60 rows drawn"


def test_many_clusters_have_a_short_legend(tree: xr.DataTree) -> None:
    ax = bg.plot_partition(tree, np.arange(60), ax=axes(), random_seed=1)
    legend = ax.get_legend()
    assert legend.get_title().get_text() == "cluster, 48 more"
    assert len(legend.get_texts()) == 13


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"ax": 3}, TypeError, r"`ax` must be a matplotlib Axes; got an object of type int"),
        ({"threshold": 1.0}, ValueError, r"`threshold` must lie between 0 and 1; got 1.0"),
        ({"n_named": -1}, ValueError, r"`n_named` must be at least 0; got -1"),
        ({"partition": [0, 1]}, ValueError, r"`partition` must hold one label for each of 60 rows"),
    ],
)
def test_bad_arguments_are_refused(
    tree: xr.DataTree, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        bg.plot_partition(tree, **arguments)


def test_labels_alone_have_no_places() -> None:
    with pytest.raises(TypeError, match=r"`tree` must be a fit, the DataTree that bayesgmm.fit"):
        bg.plot_partition([[0, 1]])
