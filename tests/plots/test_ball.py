"""`plot_credible_ball`: what is in the picture, not its pixels."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

import bayesgmm as bg
from bayesgmm.plots.canvas import DARK, colour
from tests.synthetic import random_fit


def axes() -> Axes:
    return Figure(figsize=(8.5, 7.5), layout="constrained").subplots()


def drawn(ax: Axes) -> dict[tuple[float, float], tuple[Any, bool]]:
    """The colour of every point of a panel, and whether it is ringed."""
    ring = to_rgba(DARK)
    found = {}
    for one in ax.collections:
        edge = one.get_edgecolors()
        ringed = len(edge) > 0 and tuple(edge[0]) == ring
        for x, y in np.asarray(one.get_offsets()):
            found[x, y] = (tuple(one.get_facecolors()[0][:3]), ringed)
    return found


@pytest.fixture
def ball(tree: xr.DataTree) -> xr.Dataset:
    return bg.credible_ball(tree, random_seed=1)


def test_every_panel_is_a_partition(
    tree: xr.DataTree, frame: pd.DataFrame, ball: xr.Dataset
) -> None:
    panels = bg.plot_credible_ball(tree, ball, ax=axes())
    assert panels.shape == (2, 2)
    estimate = ball.partition.values
    assert (ball.labels.values != estimate).any(axis=1).all()
    for panel, clusters in zip(panels.flat, [estimate, *ball.labels.values], strict=True):
        points = drawn(panel)
        assert len(points) == len(frame)
        for row, place in enumerate(frame.values):
            face, ringed = points[tuple(place)]
            assert face == to_rgba(colour(clusters[row]))[:3]
            assert ringed == (clusters[row] != estimate[row])


def test_titles_say_what_is_drawn(tree: xr.DataTree, ball: xr.Dataset) -> None:
    panels = bg.plot_credible_ball(tree, ball, ax=axes())
    first, *others = (panel.get_title() for panel in panels.flat)
    number = int(ball.partition.max()) + 1
    held = f"{100 * ball.mass:.3g} % of draws within {ball.radius:.2g} bits"
    assert first == f"{held}\npoint estimate: {number} clusters"
    kinds = ("farthest: {} clusters", "fewest clusters: {}", "most clusters: {}")
    for title, kind, bound in zip(others, kinds, ball.bound.values, strict=True):
        one = ball.sel(bound=bound)
        moved = int((one.labels != ball.partition).sum())
        which = kind.format(int(one.n_clusters))
        assert title == f"{which}, {moved} rows differ, {float(one.distance):.2g} bits"


def test_a_new_figure_or_given_axes(tree: xr.DataTree, ball: xr.Dataset) -> None:
    bg.plot_credible_ball(tree, ball)
    assert pyplot.get_fignums() == [1]
    given = Figure().subplots(2, 2)
    assert bg.plot_credible_ball(tree, ball, ax=given) is given
    inside = bg.plot_credible_ball(tree, ball, ax=axes())
    assert inside.shape == (2, 2)
    assert pyplot.get_fignums() == [1]


def test_the_default_is_the_ball_of_the_fit(tree: xr.DataTree, ball: xr.Dataset) -> None:
    one, other = (
        bg.plot_credible_ball(tree, *some, ax=axes(), random_seed=1) for some in ([], [ball])
    )
    for panel, same in zip(one.flat, other.flat, strict=True):
        assert drawn(panel) == drawn(same)


def test_other_distances_have_no_unit(tree: xr.DataTree) -> None:
    ball = bg.credible_ball(tree, loss="binder", random_seed=1)
    panels = bg.plot_credible_ball(tree, ball, ax=axes())
    assert f"within binder {ball.radius:.2g}\n" in panels[0, 0].get_title()


@pytest.mark.parametrize("n_features", [1, 4])
def test_any_number_of_features(rng: np.random.Generator, n_features: int) -> None:
    tree = random_fit(rng.normal(size=(20, n_features)), rng)
    panels = bg.plot_credible_ball(tree, ax=axes(), random_seed=1)
    label = panels[1, 0].get_xlabel()
    assert label.startswith("x0" if n_features == 1 else "principal axis 1")
    assert panels[0, 0].get_xlabel() == panels[1, 1].get_ylabel() == ""
    assert len({panel.get_xlim() for panel in panels.flat}) == 1


@pytest.mark.parametrize("n_components", [1, 2])
def test_no_doubt_is_the_same_four_times(rng: np.random.Generator, n_components: int) -> None:
    X = rng.normal(size=(10, 2))
    tree = random_fit(X, rng, n_components=n_components, chains=1, draws=1, method="map")
    panels = bg.plot_credible_ball(tree, ax=axes(), random_seed=1)
    for panel in panels.flat:
        assert drawn(panel) == drawn(panels[0, 0])
        assert not any(ringed for _, ringed in drawn(panel).values())


def test_no_more_points_than_asked_for(rng: np.random.Generator) -> None:
    tree = random_fit(rng.normal(size=(3000, 2)), rng, draws=5)
    panels = bg.plot_credible_ball(tree, ax=axes(), max_points=100, random_seed=1)
    assert {len(drawn(panel)) for panel in panels.flat} == {100}
    assert panels[0, 0].get_title().splitlines()[1] == "100 of 3,000 rows drawn"


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"ball": 0.95}, TypeError, r"`ball` must be what bayesgmm\.credible_ball .* type float"),
        ({"ball": xr.Dataset()}, TypeError, r"`ball` must be what .* type Dataset"),
        ({"max_points": 0}, ValueError, r"`max_points` must be at least 1; got 0"),
        ({"ax": "a"}, TypeError, r"`ax` must be a matplotlib Axes or an array of 2 x 2"),
    ],
)
def test_bad_arguments_are_refused(
    tree: xr.DataTree, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bg.plot_credible_ball(tree, **given)
    assert pyplot.get_fignums() == []


def test_a_ball_of_other_rows_is_refused(tree: xr.DataTree) -> None:
    ball = bg.credible_ball([[0, 1], [0, 0]], [0, 1])
    with pytest.raises(ValueError, match=r"`ball` must be of the 60 rows of `tree`; got one of 2"):
        bg.plot_credible_ball(tree, ball)
